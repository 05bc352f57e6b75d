"""Conclusions of chapter 5."""

from itertools import pairwise

from claims.claim import Claim, Row, equal, get, more

PAGE = "05_efficiency"
SEEDS = range(3)
STARS = "reconstruction.details.stars.recall"


SPACE = (
    "ldm.train.log_every",
    "ldm.train.steps",
    "ldm.unet.attention_levels",
    "ldm.unet.patch_size",
    "space",
)
SPACE_IS_ONE = (
    "a space brings a network of the same size and the steps that its seconds buy"
)


def timed(space: str, seeds=SEEDS) -> tuple[str, ...]:
    return tuple(f"time_to_quality/{space}-seed{seed}" for seed in seeds)


def longer(*arms: str) -> tuple[str, ...]:
    return tuple(f"longer_budget/{arm}" for arm in arms)


def distance(row: Row) -> float:
    return row["points"][-1]["samples"]["frechet"]


def mean_r2(*rows: Row) -> float:
    return sum(r["r2"] for r in rows) / len(rows)


def probed(*names: str) -> tuple[str, ...]:
    return tuple(f"star_probe/{name}-seed{seed}" for name in names for seed in SEEDS)


def each_tells_more(*rows: Row) -> bool:
    """Whether every seed of a probe explains more than all of the one before."""
    of = [rows[i : i + 3] for i in range(0, len(rows), 3)]
    pairs = ((a, b) for low, high in pairwise(of) for a in low for b in high)
    return all(more(a, b, "r2") for a, b in pairs)


EFFICIENCY = [
    Claim(
        PAGE,
        "yet when the time is up, `f8` is far ahead of both, though it had to pay for "
        "two networks. The ranges of the three seeds do not touch.",
        (*timed("f8"), *timed("patch-4"), *timed("pixel", (0,))),
        lambda *rows: 2 * max(map(distance, rows[:3])) < min(map(distance, rows[3:])),
        differ=(*SPACE, "ldm.train.seed", "ldm.unet.channels"),
        n="points.samples.n",
        because=f"{SPACE_IS_ONE}; seeds differ within a space",
    ),
    Claim(
        PAGE,
        "The patched model that predicts $v$ is still behind, but no longer far: 6.0 "
        "against 3.3, a gap a little wider than both intervals.",
        longer("f8-v", "patch-4-v"),
        lambda f8, patch: more(f8, patch, "samples.frechet"),
        differ=SPACE,
        n="samples.n",
        numbers={
            "6.0": lambda f8, patch: get(patch, "samples.frechet"),
            "3.3": lambda f8, patch: get(f8, "samples.frechet"),
        },
        because=SPACE_IS_ONE,
    ),
    *(
        Claim(
            PAGE,
            sentence,
            longer("f8-v", "patch-4-x0", "patch-8-x0"),
            lambda f8, *patches: all(equal(f8, p, "samples.frechet") for p in patches),
            differ=(*SPACE, "ldm.objective.prediction_type"),
            n="samples.n",
            because=f"{SPACE_IS_ONE}, and the target is the one that suits patches",
        )
        for sentence in (
            "With the image itself as the target, patches of 4×4 and of 8×8 pixels can "
            "no longer be told from `f8` by their distance.",
            "in 1,600 it was no longer ahead of patches that predict the image",
        )
    ),
    Claim(
        PAGE,
        "Between $v$ and the image as the target, with patches of 4×4, the gap is "
        "within the intervals",
        longer("patch-4-v", "patch-4-x0"),
        lambda v, image: equal(v, image, "samples.frechet"),
        differ=("ldm.objective.prediction_type",),
        n="samples.n",
    ),
    Claim(
        PAGE,
        "Its curve is flat, and at the end it is no nearer than the patches.",
        (*timed("f16", (0,)), *timed("patch-4", (0,))),
        lambda f16, patch: (
            distance(f16) > distance(patch)
            and all(
                equal(a["samples"], b["samples"], "frechet")
                for a in f16["points"]
                for b in f16["points"]
            )
        ),
        differ=SPACE,
        n="points.samples.n",
        because=SPACE_IS_ONE,
    ),
    Claim(
        PAGE,
        "no bound: the samples of the shortest training lie below it, by less than "
        "their interval",
        timed("f16", (0,)),
        lambda r: (
            0
            < r["points"][0]["samples"]["frechet_codec"]
            - r["points"][0]["samples"]["frechet"]
            < r["points"][0]["samples"]["frechet_ci95"]
        ),
    ),
    Claim(
        PAGE,
        "Their recall of stars is 0.09 and 0.04, so a free encoder helped little.",
        ("loss_ablation/contrast", "vae-f8-decoder"),
        lambda a, b: more(b, a, STARS) and get(a, STARS) < 0.1,
        differ=("freeze_encoder",),
        n="reconstruction.n",
        numbers={
            "0.09": lambda a, b: get(a, STARS),
            "0.04": lambda a, b: get(b, STARS),
        },
    ),
    Claim(
        PAGE,
        "Over 600 held-out nights it explains 22 % of the variance of these counts "
        "from the latents of `vae-f8`, 4 % without latents, from the height of the "
        "cell and the sky around it, and 34 % from the latents of `vae-f8-perceptual`",
        probed("visibility", "vae-f8", "vae-f8-perceptual"),
        each_tells_more,
        differ=("latents", "seed"),
        n="n",
        numbers={
            "600": lambda *rows: rows[0]["n"],
            "22 %": lambda *rows: mean_r2(*rows[3:6]),
            "4 %": lambda *rows: mean_r2(*rows[:3]),
            "34 %": lambda *rows: mean_r2(*rows[6:]),
        },
        because="three seeds of each, and what the probe sees",
    ),
    Claim(
        PAGE,
        "The first decoder draws a house as a stain where the second, from the same "
        "numbers, draws lit windows.",
        ("vae-f8", "vae-f8-decoder"),
        lambda a, b: more(a, b, "reconstruction.details.windows.recall"),
        differ=(
            "freeze_encoder",
            "init",
            "length",
            "loss.perceptual",
            "train.checkpoint_every",
            "train.learning_rate",
            "train.steps",
        ),
        n="reconstruction.n",
        because="the second went on from the first with another loss: what it draws "
        "was in latents that did not change",
    ),
]
