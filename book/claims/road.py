"""Conclusions of chapter 6."""

from collections.abc import Callable, Sequence

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


def at(row: Row, nfe: int = 50) -> float:
    return row["nfe"][str(nfe)]["frechet"]


def mean(rows: Sequence[Row]) -> float:
    return sum(map(at, rows)) / len(rows)


def after_fifty(i: int):
    return lambda *rows: at(rows[i])


def extreme(which: Callable[..., float], part: slice):
    """The least or the most of some seeds after five evaluations."""
    return lambda *rows: which(at(row, 5) for row in rows[part])


V, COSINE, FLOW, DIT = (
    seeds("flow_study", k) for k in ("unet-v", "unet-v-cosine", "unet-flow", "dit-flow")
)
EPS = "flow_study/unet-eps-seed0"


def worse(teacher: Row, student: Row, nfe: int) -> bool:
    """Whether a student lies behind fifty steps of its first teacher by more than both
    intervals."""
    return more(teacher["nfe"]["50"], student["nfe"][str(nfe)], "frechet")


def half(row: Row) -> float:
    return get(row, "latents.half_psnr")


def power(row: Row) -> float:
    """At half a cycle per position, relative to the lowest frequency."""
    return row["latents"]["spectrum"][4]


ROAD = [
    Claim(
        PAGE,
        "After fifty evaluations the three seeds of the flow lie at 3.1, 3.4 and 3.8, "
        "those of v at 5.5, 5.5 and 5.8; after five, at 6.0 to 6.9 and at 14.0 to "
        "16.4.",
        (*V, *FLOW),
        lambda *rows: max(map(at, rows[3:])) < min(map(at, rows[:3])),
        differ=("objective.logit_normal", "train.seed"),
        n="nfe.50.n",
        numbers={
            "3.1": after_fifty(3),
            "3.4": after_fifty(4),
            "3.8": after_fifty(5),
            "5.8": after_fifty(0),
            "5.5": after_fifty(1),
            "6.0": extreme(min, slice(3, 6)),
            "6.9": extreme(max, slice(3, 6)),
            "14.0": extreme(min, slice(3)),
            "16.4": extreme(max, slice(3)),
        },
        because="three seeds of each; a flow is another objective, of other fields",
    ),
    Claim(
        PAGE,
        "After fifty evaluations its seeds lie at 3.3, 3.6 and 3.8, among those of the "
        "flow; after five, at 6.5 to 7.5.",
        (*V, *COSINE, *FLOW),
        lambda *rows: (
            max(map(at, rows[3:6])) < min(map(at, rows[:3]))
            and max(map(at, rows[3:6])) <= max(map(at, rows[6:]))
            and min(map(at, rows[3:6])) >= min(map(at, rows[6:]))
        ),
        differ=(
            "objective.logit_normal",
            "objective.schedule.name",
            "train.seed",
        ),
        n="nfe.50.n",
        numbers={
            "3.6": after_fifty(3),
            "3.3": after_fifty(4),
            "3.8": after_fifty(5),
            "6.5": extreme(min, slice(3, 6)),
            "7.5": extreme(max, slice(3, 6)),
        },
        because="three seeds of each; a path is its schedule and its times, and a flow "
        "is another objective, of other fields",
    ),
    Claim(
        PAGE,
        "there is no difference after fifty evaluations that exceeds the intervals (ε "
        "has 5.6 ± 1.9, from one seed)",
        (EPS, V[0]),
        lambda a, b: equal(a["nfe"]["50"], b["nfe"]["50"], "frechet"),
        differ=("objective.prediction_type",),
        n="nfe.50.n",
        numbers={
            "5.6": lambda a, b: at(a),
            "1.9": lambda a, b: a["nfe"]["50"]["frechet_ci95"],
        },
    ),
    Claim(
        PAGE,
        "gets to 6.7, 6.9 and 7.0 for as many operations: about twice as far as the "
        "UNet with the same flow",
        (*FLOW, *DIT),
        lambda *rows: (
            1.8 < mean(rows[3:]) / mean(rows[:3]) < 2.2
            and abs(rows[3]["gflops"] / rows[0]["gflops"] - 1) < 0.001
        ),
        differ=("denoiser", "train.seed", "train.steps"),
        n="nfe.50.n",
        numbers={"6.9": after_fifty(3), "6.7": after_fifty(4), "7.0": after_fifty(5)},
        because="as many operations are fewer steps; three seeds of each",
    ),
    Claim(
        PAGE,
        "about a fifth farther than the UNet that predicts noise, which is less than "
        "the interval of that one seed",
        (EPS, *DIT),
        lambda eps, *dit: (
            1.15 < mean(dit) / at(eps) < 1.28
            and mean(dit) - at(eps) < eps["nfe"]["50"]["frechet_ci95"]
        ),
        differ=("denoiser", "objective.logit_normal", "train.seed", "train.steps"),
        n="nfe.50.n",
        because="what a transformer and a flow reach, beside the DDPM of chapter 3",
    ),
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
    Claim(
        PAGE,
        "In one step the last student draws at a distance of 1.8 ± 0.8 from real "
        "images. Its first teacher gets to 24.6 in one step, to 7.5 in four, and to "
        "0.7 ± 0.5 in fifty.",
        ("few_steps/teacher", "few_steps/distilled"),
        lambda teacher, student: at(student, 1) < at(teacher, 4) < at(teacher, 1),
        differ=None,
        n="nfe.1.n",
        numbers={
            "1.8": lambda teacher, student: at(student, 1),
            "0.8": lambda teacher, student: student["nfe"]["1"]["frechet_ci95"],
            "24.6": lambda teacher, student: at(teacher, 1),
            "7.5": lambda teacher, student: at(teacher, 4),
            "0.7": lambda teacher, student: at(teacher),
            "0.5": lambda teacher, student: teacher["nfe"]["50"]["frechet_ci95"],
        },
    ),
    Claim(
        PAGE,
        "With four and with eight steps no more than the intervals allow (1.4 and "
        "1.3); with one and with two (1.8 and 1.7) a little more than these.",
        ("few_steps/teacher", "few_steps/distilled"),
        lambda teacher, student: (
            all(worse(teacher, student, n) for n in (1, 2))
            and not any(worse(teacher, student, n) for n in (4, 8))
        ),
        differ=None,
        n="nfe.1.n",
        numbers={
            "1.4": lambda teacher, student: at(student, 4),
            "1.3": lambda teacher, student: at(student, 8),
            "1.8": lambda teacher, student: at(student, 1),
            "1.7": lambda teacher, student: at(student, 2),
        },
    ),
    Claim(
        PAGE,
        "All students together took 25 minutes of one core",
        ("few_steps",),
        lambda record: {run["threads"] for run in record["runs"]} == {1},
        differ=None,
        numbers={"25": lambda record: record["runs"][1]["seconds"] / 60},
    ),
]
