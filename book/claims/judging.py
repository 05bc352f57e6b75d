"""Conclusions of chapter 4."""

from claims.claim import Claim, Row, equal, get, more

PAGE, N, FRECHET = "04_judging", "samples.n", "samples.frechet"
TV = "samples.factors.tv_"


def joint(*names: str) -> tuple[str, ...]:
    return tuple(f"frozen_vs_joint/{name}" for name in names)


PAIR, SEEDS = ("frozen", "joint"), ("", "-seed1", "-seed2")


def ddpm(*names: str) -> tuple[str, ...]:
    return tuple(f"ddpm_ablation/{name}" for name in names)


def final_loss(row: Row) -> float:
    return row["log"][-1]["diffusion"]


def moved_little(a: Row, b: Row) -> bool:
    """Whether no marginal moved by as much as real sets differ from each other."""
    names = [k for k in get(a, "samples.factors") if k.startswith("tv_")]
    names = [k for k in names if k.count("_real") + k.count("_codec") == 0]
    names = [k for k in names if not k.endswith("ci95")]
    factors = [r["samples"]["factors"] for r in (a, b)]
    return all(
        abs(factors[1][k] - factors[0][k]) < factors[0][f"{k}_real"] for k in names
    )


def no_better(a: Row, b: Row) -> bool:
    figures = (FRECHET, "samples.precision", "samples.recall")
    return all(equal(a, b, figure) for figure in figures)


def sampler(name: str) -> str:
    return f"samplers/{name}"


SAMPLER = {"differ": ("sampler",), "n": "recipe.n"}


def at(row: Row, nfe: int) -> Row:
    return row["nfe"][str(nfe)]


def level(*rows: Row) -> bool:
    """Whether no two points of fifty calls or more differ beyond their intervals."""
    points = [q for row in rows for k, q in row["nfe"].items() if int(k) >= 50]
    return all(equal(a, b, "frechet") for a in points for b in points)


JUDGING = [
    Claim(
        PAGE,
        "with five and with ten calls it is behind the other two by more than both "
        "intervals",
        tuple(map(sampler, ("ddpm", "ddim", "dpm-solver++"))),
        lambda ddpm, *others: all(
            more(at(other, k), at(ddpm, k), "frechet")
            for other in others
            for k in (5, 10)
        ),
        **SAMPLER,
    ),
    Claim(
        PAGE,
        "with twenty it is still behind DPM-Solver++",
        tuple(map(sampler, ("ddpm", "dpm-solver++"))),
        lambda ddpm, other: more(at(other, 20), at(ddpm, 20), "frechet"),
        **SAMPLER,
    ),
    Claim(
        PAGE,
        "from fifty calls on no difference between samplers, or between more calls and "
        "fewer, exceeds the intervals. More cannot be learned from 256 images a point.",
        tuple(map(sampler, ("ddpm", "ddim", "dpm-solver++"))),
        level,
        numbers={"256": lambda *rows: rows[0]["recipe"]["n"]},
        **SAMPLER,
    ),
    Claim(
        PAGE,
        "The dots of DPM-Solver++ lie below those of DDIM, but nowhere by more than "
        "both intervals together",
        tuple(map(sampler, ("ddim", "dpm-solver++"))),
        lambda ddim, dpm: all(
            equal(q, dpm["nfe"][k], "frechet") for k, q in ddim["nfe"].items()
        ),
        **SAMPLER,
    ),
    Claim(
        PAGE,
        "moved the distance by less than its interval and no marginal by as much as "
        "real images differ from each other",
        ("ldm-f8-late", "ldm-f8"),
        lambda a, b: equal(a, b, FRECHET) and moved_little(a, b),
        differ=("init", "train.seed", "train.steps"),
        n=N,
        because="the second went on from the first",
    ),
    Claim(
        PAGE,
        "Its distance and, in the first of the two, the marginal of its trees came "
        "nearer to those of real images, by less than the intervals",
        ("ldm-f8-long", "ldm-f8-late"),
        lambda a, b: (
            equal(a, b, FRECHET)
            and get(b, FRECHET) < get(a, FRECHET)
            and get(a, f"{TV}tree_count") - get(b, f"{TV}tree_count") > 0
            and moved_little(a, b)
        ),
        differ=("init", "train.seed"),
        n=N,
        because="the second went on from the first, with logit-normal times, a field "
        "that is younger than the first record; no order is claimed",
    ),
    Claim(
        PAGE,
        "the trees stand where they stood, the distance is the same within its "
        "interval, and no marginal has moved by as much as real images differ from "
        "each other",
        ("ldm-f8", "ldm-f8-deep"),
        lambda a, b: equal(a, b, FRECHET) and moved_little(a, b),
        differ=(
            "init",
            "train.precision",
            "train.seed",
            "train.steps",
            "unet.num_res_blocks",
        ),
        n=N,
        because="one continuation of a finished model, and told as that",
    ),
    Claim(
        PAGE,
        "*One arm has failed*, and nobody planned it: the noise on the cosine "
        "schedule.",
        ddpm("eps", "eps-cosine"),
        lambda a, b: more(a, b, FRECHET) and get(b, "samples.precision") < 0.1,
        differ=("schedule.name",),
        n=N,
    ),
    *(
        Claim(
            PAGE,
            "arms that predict $v$ or $z_0$ draw more samples that look real, by more "
            "than the intervals (of one seed each)",
            ddpm("eps", arm),
            lambda a, b: more(a, b, "samples.precision"),
            differ=("prediction_type",),
            n=N,
        )
        for arm in ("v", "x0")
    ),
    Claim(
        PAGE,
        "With a logit of mean $-0.4$ they did better than uniform times in none of the "
        "columns by more than chance.",
        ddpm("eps", "eps-logit-normal"),
        no_better,
        differ=("logit_normal",),
        n=N,
    ),
    Claim(
        PAGE,
        "the samples are farther from real images, and fewer of them look real, by "
        "more than both intervals.",
        ddpm("eps", "eps-logit-normal-matched"),
        lambda a, b: more(a, b, FRECHET) and more(b, a, "samples.precision"),
        differ=("logit_normal",),
        n=N,
    ),
    Claim(
        PAGE,
        "It did not: the gap is far inside its interval.",
        ddpm("eps", "eps-no-ema"),
        lambda a, b: equal(a, b, FRECHET),
        differ=("train.ema_decay",),
        n=N,
    ),
    Claim(
        PAGE,
        "Its latents keep their scale, and its samples are as good as the frozen "
        "arm's, well within the intervals.",
        joint("frozen", "detached"),
        lambda a, b: equal(a, b, FRECHET) and 0.9 < b["latent_std"] < 1.1,
        differ=("autoencoder",),
        n=N,
    ),
    Claim(
        PAGE,
        "and are still several times as far from real images as the frozen arm's, "
        "with each of three seeds",
        joint(*(f"{kind}{seed}" for kind in PAIR for seed in SEEDS)),
        lambda *rows: all(
            more(a, b, FRECHET) and get(b, FRECHET) > 3 * get(a, FRECHET)
            for a in rows[:3]
            for b in rows[3:]
        ),
        differ=("autoencoder", "train.seed"),
        n=N,
        because="three seeds of each",
    ),
    Claim(
        PAGE,
        "The samples are as broken as the joint arm's, and hardly one in five shows "
        "the class that was asked for.",
        joint("joint", "joint-normalised"),
        lambda a, b: equal(a, b, FRECHET) and get(b, "samples.class_agreement") < 0.2,
        differ=("autoencoder",),
        n=N,
    ),
    Claim(
        PAGE,
        "Its recall is that of the frozen arm within the intervals, and the class that "
        "was asked for is met less often.",
        joint("frozen", "joint-aligned"),
        lambda a, b: (
            equal(a, b, "samples.recall") and more(b, a, "samples.class_agreement")
        ),
        differ=("autoencoder",),
        n=N,
    ),
    Claim(
        PAGE,
        "They share their variance among a quarter of the patterns",
        joint("frozen", "joint-aligned"),
        lambda a, b: 0.2 < b["dimensions"] / a["dimensions"] < 0.3,
        differ=("autoencoder",),
    ),
    Claim(
        PAGE,
        "from look to look it lags behind, and at the end the two lie within each "
        "other's intervals",
        joint("frozen", "joint-aligned"),
        lambda a, b: (
            equal(a, b, FRECHET)
            and all(
                b["samples_along"][step]["frechet"] > look["frechet"]
                for step, look in a["samples_along"].items()
            )
        ),
        differ=("autoencoder",),
        n=N,
    ),
    Claim(
        PAGE,
        "their losses fall to a small fraction of the others'",
        joint("frozen", "joint", "joint-normalised"),
        lambda a, *rows: max(map(final_loss, rows)) < 0.1 * final_loss(a),
        differ=("autoencoder",),
        n=N,
    ),
]
