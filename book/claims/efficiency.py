"""Conclusions of chapter 5."""

from itertools import pairwise

from claims.claim import Claim, Row, equal, get, more

PAGE = "05_efficiency"
SEEDS = range(3)
STARS = "reconstruction.details.stars.recall"
STAGES = ("-start", "-middle", "-long", "-late", "")  # of ldm-f8


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


def ratio(row: Row, ruler: str) -> float:
    """What an arm of the study ``attribution`` shows, real images being one."""
    return row["measures"][ruler]["ratio"]


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
    Claim(
        PAGE,
        "from nothing and in one run of 8,000 steps, where `ldm-f8` had 36,800 in five",
        tuple(f"ldm-f8{n}" for n in (*STAGES, "-sharp")),
        lambda *runs: (
            [run["recipe"].get("init") for run in runs]
            == [None, *(f"runs/ldm-f8{n}" for n in STAGES[:-1]), None]
        ),
        differ=None,
        numbers={
            "8,000": lambda *runs: runs[-1]["steps"],
            "36,800": lambda *runs: sum(run["steps"] for run in runs[:-1]),
        },
    ),
    Claim(
        PAGE,
        "in its samples 0.65 of the stars are counted that real nights have, where "
        "`ldm-f8` draws none. The decoder leaves 0.66 of real nights' stars, so the "
        "diffusion model loses none that these images could show.",
        tuple(f"attribution/{arm}" for arm in ("sharp", "samples-sharp", "samples")),
        lambda sharp, drawn, first: (
            abs(drawn["against"]["sharp"]["stars"]["difference"])
            < drawn["against"]["sharp"]["stars"]["ci95"]
            and ratio(first, "stars") < 0.005
        ),
        differ=None,
        n="n",
        numbers={
            "0.65": lambda sharp, drawn, first: ratio(drawn, "stars"),
            "0.66": lambda sharp, drawn, first: ratio(sharp, "stars"),
        },
        because="a codec and the model that was trained on it, against another",
    ),
    Claim(
        PAGE,
        "Of lit windows samples show 0.88 instead of 0.58, of trunks 0.95 instead of "
        "0.53, and gradients are 0.97 times as strong as in real images instead of "
        "0.90.",
        ("attribution/samples", "attribution/samples-sharp"),
        lambda a, b: all(
            b["against"]["samples"][k]["difference"]
            > b["against"]["samples"][k]["ci95"]
            for k in ("lit windows", "trunks", "gradient")
        ),
        differ=None,
        n="n",
        numbers={
            "0.58": lambda a, b: ratio(a, "lit windows"),
            "0.88": lambda a, b: ratio(b, "lit windows"),
            "0.53": lambda a, b: ratio(a, "trunks"),
            "0.95": lambda a, b: ratio(b, "trunks"),
            "0.90": lambda a, b: ratio(a, "gradient"),
            "0.97": lambda a, b: ratio(b, "gradient"),
        },
        because="codec, objective and training differ, and the text says so",
    ),
    Claim(
        PAGE,
        "its decoder shows more of both than there is, 1.28 and 1.13 in "
        "reconstructions.",
        ("attribution/sharp",),
        lambda row: all(
            ratio(row, k) - row["measures"][k]["ci95"] > 1
            for k in ("lit windows", "trunks")
        ),
        n="n",
        numbers={
            "1.28": lambda row: ratio(row, "lit windows"),
            "1.13": lambda row: ratio(row, "trunks"),
        },
    ),
    Claim(
        PAGE,
        "Houses are as rare as before, 0.87 ± 0.11 and 0.86 ± 0.11",
        ("attribution/samples-sharp", "attribution/samples"),
        lambda a, b: (
            abs(a["against"]["samples"]["houses"]["difference"])
            <= a["against"]["samples"]["houses"]["ci95"]
        ),
        differ=None,
        n="n",
        numbers={
            "0.87": lambda a, b: ratio(a, "houses"),
            "0.86": lambda a, b: ratio(b, "houses"),
            "0.11": lambda a, b: a["measures"]["houses"]["ci95"],
        },
    ),
    Claim(
        PAGE,
        "the Fréchet distance of 2,000 samples, 0.34, is equal to the 0.37 of `ldm-f8` "
        "(`data/results/ldm-f8-sharp.json` and `ldm-f8.json`), although 99.8 % of the "
        "nights have stars now and none had before",
        ("ldm-f8", "ldm-f8-sharp"),
        lambda a, b: (
            equal(a, b, "samples.frechet")
            and get(a, "samples.factors.starry_nights") == 0
        ),
        differ=None,
        n="samples.n",
        numbers={
            "2,000": lambda a, b: get(a, "samples.n"),
            "0.34": lambda a, b: get(b, "samples.frechet"),
            "0.37": lambda a, b: get(a, "samples.frechet"),
            "99.8 %": lambda a, b: get(b, "samples.factors.starry_nights"),
        },
    ),
]
