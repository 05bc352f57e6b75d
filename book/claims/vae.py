"""Conclusions of chapter 1."""

from claims.claim import Claim, Row, equal, get, more

PAGE, N = "01_vae", "reconstruction.n"
L1, PERCEPTUAL, CONTRAST, CRITIC = (
    f"loss_ablation/{arm}" for arm in ("l1", "perceptual", "contrast", "adversarial")
)
CRITIC_FIELDS = ("loss.adversarial_start", "loss.adversarial_weight")
CRITIC_IS_ONE = "a critic is one term, and its start a part of it"


def recall(kind: str) -> str:
    return f"reconstruction.details.{kind}.recall"


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
        "doubles nearly again with the contrast weight; waves, trunks and texture jump "
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
        "In all arms most stars are still gone.",
        (L1, PERCEPTUAL, CONTRAST, CRITIC),
        lambda *rows: max(get(r, recall("stars")) for r in rows) < 0.1,
        differ=("loss.contrast_weight", "loss.perceptual", *CRITIC_FIELDS),
        n=N,
        because="said of each arm; each has one term more than the last",
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
        "Four times as many numbers per image buy half a decibel there, and the "
        "Fréchet distance gets worse",
        ("compression_study/f4-c1-seed0", "compression_study/f4-c4-seed0"),
        lambda a, b: (
            more(a, b, "reconstruction.frechet")
            and more(a, b, "reconstruction.psnr")
            and 0.4 < decibels(b, a) < 0.6
        ),
        differ=("vae.latent_channels",),
        n=N,
    ),
    Claim(
        PAGE,
        "Now it is ahead, by more than both intervals together, and the line above "
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
