"""Conclusions of the page "Your own images"."""

from claims.claim import Claim, Row, equal, get, more

PAGE, N = "own_images", "copies.n"
FRECHET, NEAR = "samples.frechet", "copies.near"
FEWER = {
    "differ": ("ldm.length", "vae.length"),
    "because": "both networks are trained on the same pictures",
    "n": N,
}


def arms(*names: str) -> tuple[str, ...]:
    return tuple(f"own_images/{name}" for name in names)


def held_out(row: Row) -> list[float]:
    """The losses of held-out pictures, look by look."""
    return [loss for _, loss in row["losses"]["validation"]]


def training(row: Row) -> float:
    return row["losses"]["training"][-1][1]


OWN_IMAGES = [
    Claim(
        PAGE,
        "With 100 pictures the loss of held-out pictures rises from 0.26 to 0.38 while "
        "that of the training pictures falls to 0.14",
        arms("100"),
        lambda row: held_out(row) == sorted(held_out(row)),
        numbers={
            "0.26": lambda row: held_out(row)[0],
            "0.38": lambda row: held_out(row)[-1],
            "0.14": training,
        },
        n=N,
    ),
    Claim(
        PAGE,
        "After four times the steps they are 0.80 and 0.04, and 97 % of the samples "
        "are copies of training pictures.",
        arms("100", "100-longer"),
        lambda short, long: (
            long["steps"] == 4 * short["steps"]
            and more(short, long, "copies.copies")
            and long["copies"]["copies_real"] == 0
        ),
        differ=("ldm.train.steps",),
        numbers={
            "0.80": lambda short, long: held_out(long)[-1],
            "0.04": lambda short, long: training(long),
            "97 %": lambda short, long: get(long, "copies.copies"),
        },
        n=N,
    ),
    Claim(
        PAGE,
        "With 500 pictures nothing of the kind is seen in as many steps: the loss of "
        "held-out pictures falls to the end, and no more samples are near than chance "
        "would have it.",
        arms("100", "500"),
        lambda few, more_: (
            held_out(more_) == sorted(held_out(more_), reverse=True)
            and abs(get(more_, NEAR) - 0.05) <= get(more_, f"{NEAR}_ci95")
            and more(more_, few, NEAR)
        ),
        **FEWER,
    ),
    Claim(
        PAGE,
        "More than 500 pictures change no column by more than its interval",
        arms("500", "5000", "20000"),
        lambda *rows: all(
            equal(a, b, path)
            for a in rows
            for b in rows
            for path in (FRECHET, NEAR, "copies.copies", "reconstruction.psnr")
        ),
        **FEWER,
    ),
    Claim(
        PAGE,
        "Mirror images bring *near* back to chance and keep the loss of held-out "
        "pictures where it was; dropout does a part of that.",
        arms("100", "100-flip", "100-dropout"),
        lambda plain, flip, dropout: (
            abs(get(flip, NEAR) - 0.05) <= get(flip, f"{NEAR}_ci95")
            and max(held_out(flip)) - min(held_out(flip)) < 0.02
            and more(flip, dropout, NEAR)
            and more(dropout, plain, NEAR)
            and held_out(flip)[-1] < held_out(dropout)[-1] < held_out(plain)[-1]
        ),
        differ=("ldm.flip", "ldm.unet.dropout"),
        n=N,
        because="one of the two in each arm",
    ),
    Claim(
        PAGE,
        "the model with 100 pictures is nearer to real pictures than the one with 500",
        arms("100", "500"),
        lambda few, some: more(few, some, FRECHET),
        **FEWER,
    ),
    Claim(
        PAGE,
        "From random weights the autoencoder ends 3.5 dB lower.",
        arms("500", "500-from-nothing"),
        lambda tuned, fresh: more(fresh, tuned, "reconstruction.psnr"),
        differ=("vae.init",),
        numbers={
            "3.5": lambda tuned, fresh: (
                get(tuned, "reconstruction.psnr") - get(fresh, "reconstruction.psnr")
            )
        },
        n=N,
    ),
]
