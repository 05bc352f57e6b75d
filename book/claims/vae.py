"""Conclusions of chapter 1."""

from itertools import pairwise

from claims.claim import Claim, Row, equal, get, more

PAGE, N = "01_vae", "reconstruction.n"
L1, PERCEPTUAL, CONTRAST, CRITIC = (
    f"loss_ablation/{arm}" for arm in ("l1", "perceptual", "contrast", "adversarial")
)
SEEN = tuple(
    f"reconstructions/{name}"
    for name in ("vae-f8", "vae-f8-perceptual", "vae-f8-sharp")
)
CRITIC_FIELDS = ("loss.adversarial_start", "loss.adversarial_weight")
CRITIC_IS_ONE = "a critic is one term, and its start a part of it"
MANY_THINGS = (
    "their trainings differ in terms, critic, head, steps: no cause is claimed"
)


def recall(kind: str) -> str:
    return f"reconstruction.details.{kind}.recall"


def final(row: Row, name: str) -> float:
    """What the last line of a training's log says."""
    return get(row, f"final.{name}")


def apart(row: Row) -> float:
    """How far a critic's logits of real and decoded images lie apart in the end."""
    return final(row, "d_real") - final(row, "d_fake")


def without(*names: str) -> tuple[str, ...]:
    return tuple(f"decoder_study/{name}" for name in ("all", *names))


def alike_but_for_the_grid(a: Row, b: Row) -> bool:
    measures = ("psnr", "judge", *STARS)
    return all(abs(get(a, m) - get(b, m)) <= both(a, b, m) for m in measures)


STARS = ("measures.gradient.ratio", "measures.stars.ratio")


def both(a: Row, b: Row, path: str) -> float:
    """The interval of two figures of a study together."""
    ci95 = f"{path.removesuffix('.ratio')}.ci95" if "." in path else f"{path}_ci95"
    return (get(a, ci95) ** 2 + get(b, ci95) ** 2) ** 0.5


def finest(row: Row, kind: str) -> float:
    """Power in the finest octave, over the originals'."""
    return row["checkerboard"][kind]["measures"]["16 cycles and up"]["ratio"]


def decibels(a: Row, b: Row) -> float:
    return get(a, "reconstruction.psnr") - get(b, "reconstruction.psnr")


def shorter_by_a_decibel(f4: Row, *others: Row) -> bool:
    f8, f16 = others[:3], others[3:]
    least = min(decibels(a, b) for a in f8 for b in f16)
    luck = max(abs(decibels(a, b)) for seeds in (f8, f16) for a in seeds for b in seeds)
    return min(least, *(decibels(f4, b) for b in f8)) > max(1, 2 * luck)


SEEDED = tuple(
    f"compression_study/{shape}-seed{seed}"
    for shape in ("f8-c4", "f16-c16")
    for seed in range(3)
)

VAE = [
    Claim(
        PAGE,
        "The recall of windows doubles with SceneNet",
        (L1, PERCEPTUAL),
        lambda a, b: (
            more(a, b, recall("windows"))
            and get(b, recall("windows")) > 1.9 * get(a, recall("windows"))
        ),
        differ=("loss.perceptual",),
        n=N,
    ),
    Claim(
        PAGE,
        "nearly doubles again with the contrast weight; waves, trunks and texture jump "
        "with it as well, for a tenth of a decibel",
        (PERCEPTUAL, CONTRAST),
        lambda a, b: (
            all(
                more(a, b, recall(kind))
                for kind in ("windows", "waves", "trunks", "texture")
            )
            and 0.05 < decibels(a, b) < 0.15
        ),
        differ=("loss.contrast_weight",),
        n=N,
    ),
    Claim(
        PAGE,
        "from 500 images this distance cannot rank the arms, and we do not let it",
        (L1, PERCEPTUAL, CONTRAST, CRITIC),
        lambda *rows: all(
            equal(a, b, "reconstruction.frechet") for a in rows for b in rows
        ),
        differ=("loss.contrast_weight", "loss.perceptual", *CRITIC_FIELDS),
        n=N,
        numbers={"500": lambda *rows: get(rows[0], N)},
        because="no order is claimed; each arm has one term more than the last",
    ),
    Claim(
        PAGE,
        "the recall of the set rises with SceneNet to that of real images, by less "
        "than both intervals together",
        (L1, PERCEPTUAL),
        lambda a, b: (
            equal(a, b, "reconstruction.recall")
            and get(b, "reconstruction.recall") > get(a, "reconstruction.recall")
        ),
        differ=("loss.perceptual",),
        n=N,
    ),
    Claim(
        PAGE,
        "And the critic has added nothing to the details: it takes a little from "
        "stars, windows and texture, and from the others nothing beyond the intervals.",
        (CONTRAST, CRITIC),
        lambda a, b: all(
            more(b, a, recall(kind)) == (kind in ("stars", "windows", "texture"))
            and not more(a, b, recall(kind))
            for kind in get(a, "reconstruction.details")
        ),
        differ=CRITIC_FIELDS,
        n=N,
        because=CRITIC_IS_ONE,
    ),
    Claim(
        PAGE,
        "The judge sides with SceneNet: its distance halves, though nothing was "
        "trained to please it.",
        (L1, PERCEPTUAL),
        lambda a, b: more(b, a, "judge") and 0.45 < b["judge"] / a["judge"] < 0.55,
        differ=("loss.perceptual",),
        n="n",
    ),
    Claim(
        PAGE,
        "The other two terms give a part of that back, each by more than both "
        "intervals, and stay well below L1.",
        (L1, PERCEPTUAL, CONTRAST, CRITIC),
        lambda l1, *rows: all(
            more(a, b, "judge") and more(b, l1, "judge") for a, b in pairwise(rows)
        ),
        differ=("loss.contrast_weight", "loss.perceptual", *CRITIC_FIELDS),
        n="n",
        because="each arm has one term more than the last",
    ),
    Claim(
        PAGE,
        "With SceneNet alone it reads 24, with the contrast weight 5.4 again",
        (PERCEPTUAL, CONTRAST),
        lambda a, b: a["grid"] > 4 * b["grid"] > 4 * a["grid_real"],
        differ=("loss.contrast_weight",),
        n="n",
        numbers={"24": lambda a, b: a["grid"], "5.4": lambda a, b: b["grid"]},
    ),
    Claim(
        PAGE,
        "In all arms most stars are still gone.",
        (L1, PERCEPTUAL, CONTRAST, CRITIC),
        lambda *rows: max(get(r, recall("stars")) for r in rows) < 0.1,
        differ=("loss.contrast_weight", "loss.perceptual", *CRITIC_FIELDS),
        n=N,
        because="said of each arm; each has one term more than the last",
    ),
    Claim(
        PAGE,
        "The network that was trained against finds it nearer to the originals than "
        "the first; the one that was not finds it *further away*.",
        SEEN[:2],
        lambda l1, second: more(second, l1, "scenenet") and more(l1, second, "judge"),
        differ=None,
        n="n",
        because=MANY_THINGS,
    ),
    Claim(
        PAGE,
        "About the third they agree.",
        (SEEN[0], SEEN[2]),
        lambda l1, third: more(third, l1, "scenenet") and more(third, l1, "judge"),
        differ=None,
        n="n",
        because=MANY_THINGS,
    ),
    Claim(
        PAGE,
        "The first critic is nearly there after 1,000 steps: real patches get 2.4 on "
        "average and decoded ones −2.3.",
        ("vae-f8-perceptual-start",),
        lambda row: final(row, "d_loss") < 0.2,
        numbers={
            "1,000": lambda row: row["steps"],
            "2.4": lambda row: final(row, "d_real"),
            "2.3": lambda row: -final(row, "d_fake"),
        },
    ),
    Claim(
        PAGE,
        "The second pays 0.00, and its logits lie twelve apart.",
        ("vae-f8-perceptual",),
        lambda row: round(apart(row)) == 12,
        numbers={"0.00": lambda row: final(row, "d_loss")},
    ),
    Claim(
        PAGE,
        "In a balanced game the loss stays a little below one and the logits within "
        "some tenths of each other, as in the last row.",
        ("vae-f8-sharp",),
        lambda row: 0.8 < final(row, "d_loss") < 1 and 0.05 < apart(row) < 0.5,
    ),
    Claim(
        PAGE,
        "Without it PSNR, the judge's distance, gradients and stars are the same to "
        "within their intervals; but a grid stands out of the spectrum 17 times as "
        "high as its surroundings, where with the critic it stands 2.0 times as high, "
        "and 1.7 times in the originals.",
        without("no-critic"),
        alike_but_for_the_grid,
        differ=("loss.adversarial_weight",),
        n="n",
        numbers={
            "17": lambda a, b: b["grid"],
            "2.0": lambda a, b: a["grid"],
            "1.7": lambda a, b: a["grid_real"],
        },
    ),
    Claim(
        PAGE,
        "Three times as loud the critic is no better: all else stays within the "
        "intervals, and the grid reads 2.9.",
        without("loud-critic"),
        lambda a, b: (
            alike_but_for_the_grid(a, b) and min(b["grid_parts"]) > max(a["grid_parts"])
        ),
        differ=("loss.adversarial_weight",),
        n="n",
        numbers={"2.9": lambda a, b: b["grid"]},
    ),
    Claim(
        PAGE,
        "with the old one it stands 3.7 times as high.",
        without("no-head"),
        lambda a, b: min(b["grid_parts"]) > max(a["grid_parts"]),
        differ=("vae.head_channels",),
        n="n",
        numbers={"3.7": lambda a, b: b["grid"]},
    ),
    Claim(
        PAGE,
        "without (1.8) the logits still lie only 0.26 apart over the last half of the "
        "training (with it 0.17), and little changes: the grid reads 2.6.",
        without("no-r1"),
        alike_but_for_the_grid,
        differ=("loss.r1_weight",),
        n="n",
        numbers={
            "0.26": lambda a, b: b["game"]["d_real"] - b["game"]["d_fake"],
            "0.17": lambda a, b: a["game"]["d_real"] - a["game"]["d_fake"],
            "2.6": lambda a, b: b["grid"],
        },
    ),
    Claim(
        PAGE,
        "without them 0.58 of the stars are counted in place of 0.48, and gradients "
        "exceed the originals' a little more.",
        without("no-bands"),
        lambda a, b: all(get(b, m) - get(a, m) > both(a, b, m) for m in STARS),
        differ=("loss.band_weight",),
        n="n",
        numbers={
            "0.58": lambda a, b: get(b, STARS[1]),
            "0.48": lambda a, b: get(a, STARS[1]),
        },
    ),
    Claim(
        PAGE,
        "on four parts of 125 images each it reads 15 to 21 without the critic and 1.7 "
        "to 2.4 with it.",
        without("no-critic"),
        lambda a, b: a["n"] == b["n"] == 4 * 125,
        differ=("loss.adversarial_weight",),
        n="n",
        numbers={
            "15": lambda a, b: min(b["grid_parts"]),
            "21": lambda a, b: max(b["grid_parts"]),
            "1.7": lambda a, b: min(a["grid_parts"]),
            "2.4": lambda a, b: max(a["grid_parts"]),
        },
    ),
    Claim(
        PAGE,
        "After the encoder's run it keeps more of the stars, windows, trunks, ridge "
        "edges and texture than the second autoencoder, for the same decibels, "
        "although it saw fewer than half as many images.",
        ("vae-f8-perceptual-start", "vae-f8-perceptual", "vae-f8-sharp-start"),
        lambda first, second, third: (
            all(
                more(second, third, recall(kind))
                for kind in ("stars", "windows", "trunks", "ridge edges", "texture")
            )
            and equal(second, third, "reconstruction.psnr")
            and 2 * third["images_seen"] < first["images_seen"] + second["images_seen"]
        ),
        differ=None,
        n=N,
        because=MANY_THINGS,
    ),
    Claim(
        PAGE,
        "The decoder's run brings the decibels back, 30.7 of them, 1.1 more than L1 "
        "has. Of windows, waves and ridge edges the same is kept as before; of trunks "
        "and texture a little less; of the stars 0.47 where it was 0.59.",
        ("vae-f8", "vae-f8-sharp-start", "vae-f8-sharp"),
        lambda l1, start, third: (
            all(
                equal(start, third, recall(kind))
                for kind in ("windows", "waves", "ridge edges")
            )
            and all(
                more(third, start, recall(kind))
                for kind in ("trunks", "texture", "stars")
            )
        ),
        differ=None,
        n=N,
        numbers={
            "30.7": lambda l1, start, third: get(third, "reconstruction.psnr"),
            "1.1": lambda l1, start, third: decibels(third, l1),
            "0.47": lambda l1, start, third: get(third, recall("stars")),
            "0.59": lambda l1, start, third: get(start, recall("stars")),
        },
        because=MANY_THINGS,
    ),
    Claim(
        PAGE,
        "They end at 26.44 and 26.42 dB, and no kind of detail tells them apart beyond "
        "the intervals.",
        ("decoder_study/c4", "decoder_study/c8"),
        lambda a, b: all(
            equal(a, b, recall(kind)) for kind in get(a, "reconstruction.details")
        ),
        differ=("plain.vae.latent_channels", "sharp.vae.latent_channels"),
        n=N,
        numbers={
            "26.44": lambda a, b: get(a, "reconstruction.psnr"),
            "26.42": lambda a, b: get(b, "reconstruction.psnr"),
        },
        because="both trainings of an arm have its channels",
    ),
    Claim(
        PAGE,
        "`vae-f8`, with four channels, had six times the first steps and came to 29.6 "
        "dB.",
        ("vae-f8", "decoder_study/c4"),
        lambda a, b: (
            a["steps"] == 6 * get(b, "recipe.plain.train.steps")
            and a["recipe"]["vae"]["latent_channels"] == 4
        ),
        differ=None,
        numbers={"29.6": lambda a, b: get(a, "reconstruction.psnr")},
        because="said of one training, beside another of fewer steps",
    ),
    Claim(
        PAGE,
        "PSNR is then 0.22 dB *higher*, and the finest octave has 0.81 of its true "
        "strength in place of 0.98",
        ("vae-f8-sharp",),
        lambda row: get(row, "checkerboard.kept.n") == 500,
        numbers={
            "0.22": lambda row: (
                get(row, "checkerboard.removed.psnr")
                - get(row, "checkerboard.kept.psnr")
            ),
            "0.81": lambda row: finest(row, "removed"),
            "0.98": lambda row: finest(row, "kept"),
        },
    ),
    Claim(
        PAGE,
        "gradients are 0.7 times as strong as in the originals with L1, 1.3 times in "
        "the second autoencoder and 1.0 times in the third; and of the stars that are "
        "counted in the originals, 79 % are counted in the second and 65 % in the "
        "third.",
        SEEN,
        lambda *rows: max(get(r, "measures.gradient.ci95") for r in rows) < 0.05,
        differ=None,
        n="n",
        numbers={
            "0.7": lambda *rows: get(rows[0], "measures.gradient.ratio"),
            "1.3": lambda *rows: get(rows[1], "measures.gradient.ratio"),
            "1.0": lambda *rows: get(rows[2], "measures.gradient.ratio"),
            "79 %": lambda *rows: get(rows[1], "measures.stars.ratio"),
            "65 %": lambda *rows: get(rows[2], "measures.stars.ratio"),
        },
        because=MANY_THINGS,
    ),
    Claim(
        PAGE,
        "It shows that such a game can be kept in balance, and that an autoencoder can "
        "have its windows with less of a grid.",
        SEEN[1:],
        lambda second, third: (
            third["grid"] - third["grid_real"]
            < (second["grid"] - second["grid_real"]) / 2
        ),
        differ=None,
        n="n",
        because=MANY_THINGS,
    ),
    Claim(
        PAGE,
        "They have the same budget and three values of $f$, and from each $f$ to the "
        "next more than a decibel is lost, far more than the seeds differ.",
        ("compression_study/f4-c1-seed0", *SEEDED),
        shorter_by_a_decibel,
        differ=("train.seed", "vae.downsampling", "vae.latent_channels"),
        n=N,
        because="at 256 numbers, f decides the channels; seeds differ within a shape",
    ),
    Claim(
        PAGE,
        "Four times as many numbers per image buy only half a decibel there",
        ("compression_study/f4-c1-seed0", "compression_study/f4-c4-seed0"),
        lambda a, b: more(a, b, "reconstruction.psnr") and 0.4 < decibels(b, a) < 0.6,
        differ=("vae.latent_channels",),
        n=N,
    ),
    Claim(
        PAGE,
        "It is now ahead, by more than both intervals together, and the table "
        "says at which price: half as many weights again, and two and a half times the "
        "steps.",
        ("vae-f8", "vae-f16"),
        lambda a, b: (
            more(a, b, "reconstruction.psnr")
            and 1.4 < b["parameters"] / a["parameters"] < 1.6
        ),
        differ=(
            "init",
            "train.seed",
            "train.steps",
            "vae.downsampling",
            "vae.latent_channels",
        ),
        n=N,
        because="two shipped models, told with the price of the second",
    ),
]
