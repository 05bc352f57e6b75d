"""Conclusions of chapter 2."""

from claims.claim import Claim, Row, equal, get, more

PAGE, N = "02_kl", "samples.n"
WEIGHTS = ("0", "2.1e-08", "0.0001", "0.001")
KL_WEIGHT = ("vae.loss.kl_weight",)
FIGURES = ("reconstruction.psnr", "samples.frechet", "samples.precision")


def arms(*weights: str) -> tuple[str, ...]:
    return tuple(f"kl_study/kl-{weight}" for weight in weights)


def alike(*rows: Row) -> bool:
    figures = (*FIGURES, "samples.recall")
    return all(equal(a, b, f) for a in rows for b in rows for f in figures)


def below_codec(samples: Row) -> bool:
    s = samples["samples"]
    return 0 < s["frechet_codec"] - s["frechet"] < s["frechet_ci95"]


def scaled(*kinds: str) -> tuple[str, ...]:
    return tuple(f"scaling_study/{kind}" for kind in kinds)


def fewer(a: Row, b: Row, *figures: str) -> bool:
    return all(more(b, a, figure) for figure in figures)


SMALLER, CLASS = "scalar-times-0.18", "samples.class_agreement"


def far_less(*rows: Row) -> bool:
    """Whether distances lie closer together than half of any interval."""
    distances = [get(r, FIGURES[1]) for r in rows]
    least = min(get(r, f"{FIGURES[1]}_ci95") for r in rows)
    return max(distances) - min(distances) < least / 2


KL = [
    Claim(
        PAGE,
        "the five distances of latents at unit scale or above differ by far less than "
        "their intervals are wide.",
        scaled("scalar", "per-channel", "scalar-times-2", "none", "scalar-times-5.5"),
        far_less,
        differ=("factor", "scaling"),
        n=N,
        because="the statistics in the codec, which is what the study varies",
    ),
    Claim(
        PAGE,
        "At half the scale the class that was asked for is met less often;",
        scaled("scalar", "scalar-times-0.5"),
        lambda a, b: fewer(a, b, CLASS),
        differ=("factor",),
        n=N,
    ),
    Claim(
        PAGE,
        "at 1/5.5 the samples are also farther from real images, and fewer of them "
        "look real, each by more than both intervals.",
        scaled("scalar", SMALLER),
        lambda a, b: more(a, b, FIGURES[1]) and fewer(a, b, CLASS, FIGURES[2]),
        differ=("factor",),
        n=N,
    ),
    Claim(
        PAGE,
        "PSNR, distance, precision and recall stay where they are within their "
        "intervals, over all those decades.",
        arms(*WEIGHTS),
        alike,
        differ=KL_WEIGHT,
        n=N,
    ),
    Claim(
        PAGE,
        "Only the rate falls, and the class is hit more often.",
        arms("0", "0.001"),
        lambda a, b: (
            get(b, "latents.nats") < 0.5 * get(a, "latents.nats")
            and more(a, b, "samples.class_agreement")
        ),
        differ=KL_WEIGHT,
        n=N,
    ),
    Claim(
        PAGE,
        "The samples get *better* one by one: their precision rises, and so does the "
        "share that shows the class asked for.",
        arms("0.001", "0.01"),
        lambda a, b: (
            more(a, b, "samples.precision") and more(a, b, "samples.class_agreement")
        ),
        differ=KL_WEIGHT,
        n=N,
    ),
    Claim(
        PAGE,
        "Recall points the other way, by a little less than both intervals together: "
        "the whole set may show less of what there is.",
        arms("0.001", "0.01"),
        lambda a, b: (
            equal(a, b, "samples.recall")
            and get(b, "samples.recall") < get(a, "samples.recall")
        ),
        differ=KL_WEIGHT,
        n=N,
    ),
    Claim(
        PAGE,
        "In two arms of this study the samples come out below their codec, by less "
        "than the interval.",
        arms("0.1", "10"),
        lambda *rows: all(below_codec(r) for r in rows),
        differ=KL_WEIGHT,
        n=N,
    ),
    Claim(
        PAGE,
        "The samples are about as far from real images as the codec's own output, "
        "several times farther than at any smaller weight.",
        arms("0.1", *WEIGHTS, "0.01"),
        lambda a, *rows: (
            below_codec(a)
            and all(get(a, FIGURES[1]) > 3 * get(b, FIGURES[1]) for b in rows)
        ),
        differ=KL_WEIGHT,
        n=N,
    ),
    Claim(
        PAGE,
        "The weight $10^{-2}$, whose samples show their class most often, has three "
        "times the loss of no weight at all.",
        arms("0.01", "0", "2.1e-08", "0.0001", "0.001", "0.1", "10"),
        lambda a, none, *rows: (
            all(more(b, a, "samples.class_agreement") for b in (none, *rows))
            and 2.7 < get(a, "samples.loss") / get(none, "samples.loss") < 3.3
        ),
        differ=KL_WEIGHT,
        n=N,
    ),
]
