"""Conclusions of chapter 6."""

from claims.claim import Claim, Row, equal, get, more

PAGE, GFID, RFID = "06_road", "samples.frechet", "reconstruction.frechet"
SEEDS = (0, 1, 2)
N = "samples.n"


def latent(*names: str) -> tuple[str, ...]:
    return tuple(f"latent_study/{name}" for name in names)


def seeds(study: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{study}/{name}-seed{seed}" for name in names for seed in SEEDS)


def apart(*rows: Row) -> bool:
    """Whether every seed of the first kind is better than all of the second."""
    plain, other = ([get(r, GFID) for r in part] for part in (rows[:3], rows[3:]))
    return max(plain) < min(other)


def gfid(i: int):
    return lambda *rows: get(rows[i], GFID)


def half(row: Row) -> float:
    return get(row, "latents.half_psnr")


def power(row: Row) -> float:
    """At half a cycle per position, relative to the lowest frequency."""
    return row["latents"]["spectrum"][4]


ROAD = [
    Claim(
        PAGE,
        "In three seeds their distances are 4.6, 4.7 and 4.9, with the plain "
        "fine-tuning 3.5, 3.6 and 4.0, and the two ranges do not touch.",
        seeds("latent_study", "plain", "equivariant"),
        apart,
        differ=("ldm.train.seed", "vae.loss.equivariance_weight", "vae.train.seed"),
        n=N,
        numbers={
            "3.5": gfid(0),
            "3.6": gfid(1),
            "4.0": gfid(2),
            "4.6": gfid(3),
            "4.7": gfid(4),
            "4.9": gfid(5),
        },
        because="three seeds of each",
    ),
    Claim(
        PAGE,
        "half a latent decodes to half an image at 26.8 dB instead of 21.6, and the "
        "highest frequency loses half of its power",
        latent("plain-seed0", "equivariant-seed0"),
        lambda a, b: half(b) > half(a) and 0.4 < power(b) / power(a) < 0.6,
        differ=("vae.loss.equivariance_weight",),
        numbers={"26.8": lambda a, b: half(b), "21.6": lambda a, b: half(a)},
    ),
    Claim(
        PAGE,
        "Samples lie at 4.1 ± 0.9, which one seed cannot tell from the plain latents.",
        latent("plain-seed0", "aligned-seed0"),
        lambda a, b: equal(a, b, GFID) and power(b) < power(a),
        differ=("vae.loss.alignment_weight",),
        n=N,
        numbers={
            "4.1": lambda a, b: get(b, GFID),
            "0.9": lambda a, b: get(b, f"{GFID}_ci95"),
        },
    ),
    Claim(
        PAGE,
        "with eight both are as good as with four, within their intervals, and with "
        "sixteen both are worse",
        latent("c4", "c8", "c16"),
        lambda four, eight, sixteen: (
            all(equal(four, eight, path) for path in (GFID, RFID))
            and all(more(four, sixteen, path) for path in (GFID, RFID))
        ),
        differ=("vae.vae.latent_channels",),
        n=N,
    ),
    Claim(
        PAGE,
        "The same small UNet draws them badly, at a distance of 15.4; when its times "
        "are moved towards the noise, 10.2.",
        latent("features", "features-shift"),
        lambda a, b: more(b, a, GFID),
        differ=("ldm.objective.shift",),
        n=N,
        numbers={"15.4": gfid(0), "10.2": gfid(1)},
    ),
]
