"""Exercises on deciding from numbers: which weight, and which of two."""

from functools import partial

import torch
from torch import Tensor

from ldm_tutorial.teach.task import Case, Exercise


def choose_weight(
    weights: Tensor,
    distances: Tensor,
    intervals: Tensor,
    pixel_values: int,
    latent_elements: int,
) -> float:
    """The largest KL weight that is not told apart from the best one, per element."""
    best = distances.argmin()
    fits = distances <= distances[best] + intervals[best]
    return float(weights[fits].max()) * latent_elements / pixel_values


def table(*rows: tuple[float, float, float]) -> tuple[Tensor, ...]:
    """Weights, distances, intervals."""
    return tuple(
        torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True)
    )


def random_table(seed: int, n: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Distances that fall and rise again with the weight, in no order."""
    g = torch.Generator().manual_seed(seed)
    powers = torch.linspace(-6, 1, n).double() + 0.3 * torch.rand(n, generator=g)
    bend = powers + 2 + 2 * torch.rand((), generator=g)
    distances = 3 + bend.square() + 0.5 * torch.rand(n, generator=g)
    intervals = 0.3 + 4 * torch.rand(n, generator=g).double()
    order = torch.randperm(n, generator=g)
    return 10 ** powers[order], distances[order].double(), intervals[order]


def random_case(seed: int) -> tuple:
    return (*random_table(seed), 3072, 256)


SMALL = table(
    (1.0, 9.0, 0.5), (10.0, 5.0, 1.5), (100.0, 6.0, 0.1), (1000.0, 30.0, 40.0)
)


def weight_slip(kind: str):
    def f(weights, distances, intervals, pixel_values, latent_elements):
        best = int(distances.argmin())
        fits = distances <= distances[best] + intervals[best]
        if kind == "best only":
            fits = distances == distances.min()
        if kind == "own interval":
            fits = distances - intervals <= distances[best]
        if kind == "overlap":
            fits = distances - intervals <= distances[best] + intervals[best]
        if kind == "largest distance":
            fits = distances == distances.max()
        if kind == "largest of all":
            fits = weights == weights.max()
        chosen = float(
            weights[fits].min() if kind == "smallest" else weights[fits].max()
        )
        if kind == "not converted":
            return chosen
        if kind == "turned":
            return chosen * pixel_values / latent_elements
        return chosen * latent_elements / pixel_values

    return f


CHOOSE_WEIGHT = Exercise(
    name="choose_weight",
    chapter=2,
    difficulty=3,
    trains="deciding from a table with intervals, and handing a number on in its unit",
    title="which weight to take",
    prompt=(
        "Somebody has trained autoencoders at several KL `weights` and measured how "
        "far samples of a diffusion model are from real images: `distances`, the "
        "lower the better, each with the half-width of its 95% interval, `intervals`; "
        "all three have shape (n,), in no order. A larger weight gives simpler "
        "latents, so take the largest one whose distance lies within the interval of "
        "the best one's, that is at most the best distance plus its interval. Their "
        "weights are for sums over `pixel_values` and `latent_elements`; return "
        "yours, per element, as `kl_weight` converts it. Look at the table of this "
        "chapter first: which weight would you take, and does your function agree?"
    ),
    reference=choose_weight,
    lines="3-4 lines",
    cases=(
        Case(
            lambda: (*SMALL, 100, 25),
            expected=25.0,
            note="weights 1, 10, 100, 1000, distances 9, 5, 6, 30, intervals 0.5, "
            "1.5, 0.1, 40, pixel_values = 100, latent_elements = 25",
        ),
        Case(
            lambda: (*table((1e-3, 2.0, 0.3), (1e-6, 1.5, 0.2)), 3072, 64),
            expected=1e-6 * 64 / 3072,
            note="weights 0.001 and 0.000001, distances 2 and 1.5, intervals 0.3 and "
            "0.2, pixel_values = 3072, latent_elements = 64",
            atol=1e-12,
        ),
        Case(
            lambda: (*table((1.0, 5.0, 2.0), (4.0, 5.5, 0.1), (9.0, 6.5, 0.2)), 10, 5),
            expected=4.5,
            note="weights 1, 4, 9, distances 5, 5.5, 6.5, intervals 2, 0.1, 0.2, "
            "pixel_values = 10, latent_elements = 5",
        ),
        *(
            Case(
                partial(random_case, seed),
                note="a random table of 7 weights, pixel_values = 3072, "
                "latent_elements = 256",
                atol=0.0,
            )
            for seed in range(1, 7)
        ),
    ),
    hints=(
        "Which row is the best one? distances.argmin() says where it stands, and its "
        "interval stands at the same place of intervals.",
        "distances <= limit is true for every row that is as good, as far as anybody "
        "can tell; weights[...] with that picks their weights.",
        "Of these take the largest, and convert it as kl_weight does: which of the two "
        "numbers stands above?",
    ),
    misconceptions={
        "best only": (
            weight_slip("best only"),
            "the weight of the best distance was taken; one that cannot be told from "
            "it, and is larger, serves better",
        ),
        "own interval": (
            weight_slip("own interval"),
            "each row was given its own interval; a badly measured one passes by that. "
            "The interval of the best row is the yardstick",
        ),
        "overlap": (
            weight_slip("overlap"),
            "rows were taken whose interval overlaps that of the best; the distance "
            "itself has to lie within the best one's interval",
        ),
        "smallest": (
            weight_slip("smallest"),
            "the smallest weight that fits was taken; the largest is asked for",
        ),
        "largest distance": (
            weight_slip("largest distance"),
            "the largest distance was taken for the best; lower is better",
        ),
        "largest of all": (
            weight_slip("largest of all"),
            "the largest weight of the table was taken, however bad its samples",
        ),
        "not converted": (
            weight_slip("not converted"),
            "the weight is still the one for sums; convert it",
        ),
        "turned": (
            weight_slip("turned"),
            "the conversion is turned: latent_elements stands above",
        ),
    },
)


def compare(a: Tensor, b: Tensor) -> str:
    """Whether model b scores higher than a: a paired t-interval of the differences."""
    d = b - a
    error = d.std() / len(d) ** 0.5
    if d.mean().abs() <= 2.2 * error:  # about Student's t for a dozen pairs
        return "cannot tell"
    return "better" if d.mean() > 0 else "worse"


def pairs(seed: int, effect: float, n: int, spread: float = 5.0):
    """Scores of two models on the same n seeds: seeds differ by ``spread``, the two
    models on one seed by 1, and b is better by ``effect`` on average."""
    g = torch.Generator().manual_seed(seed)
    draw = lambda: torch.randn(n, generator=g, dtype=torch.float64)  # noqa: E731
    shared = 30 + spread * draw()
    return shared + 0.7 * draw(), shared + effect + 0.7 * draw()


def share(f, word: str, effect: float, n: int, tables: int = 300) -> float:
    """How often a verdict comes on random tables."""
    found = [f(*pairs(1000 * n + i, effect, n)) for i in range(tables)]
    return found.count(word) / tables


def few_false_alarms(f) -> bool:
    return all(share(f, "cannot tell", 0.0, n) > 0.87 for n in (12, 30))


def enough_power(f) -> bool:
    return share(f, "better", 1.5, 12) > 0.85 and share(f, "worse", -1.0, 30) > 0.85


def scale_free(f) -> bool:
    found = [pairs(i, 1.0, 15) for i in range(40)]
    return all(f(100 * a, 100 * b) == f(a, b) for a, b in found)


def narrow() -> tuple[Tensor, Tensor]:
    """b is ahead on 8 of 12 seeds by next to nothing, and far behind on one."""
    d = torch.tensor([0.1] * 8 + [-0.1, -0.2, -4.0, -0.3], dtype=torch.float64)
    a, _ = pairs(3, 0.0, 12)
    return a, a + d


WHY = {
    "better": "b is ahead on hardly more seeds than chance would have it, or behind",
    "worse": "b is behind on hardly more seeds than chance would have it, or ahead",
    "cannot tell": "on the same seeds the two differ by the same sign again and again, "
    "by far more than the mean of the differences is uncertain",
}


def verdict(word: str, make, note: str) -> Case:
    reasons = {w: reason for w, reason in WHY.items() if w != word}
    return Case(make, expected=word, note=note, reasons=reasons)


def compare_slip(kind: str):
    def f(a, b):
        d = b - a
        error = d.std() / len(d) ** 0.5
        if kind == "exchanged":
            d = -d
        if kind == "not paired":
            error = ((a.var() + b.var()) / len(a)) ** 0.5
        if kind == "spread for its error":
            error = d.std()
        if kind == "means alone":
            error = 0 * error
        if kind == "variance":
            error = d.var() / len(d)
        if d.mean().abs() <= 2.2 * error:
            return "cannot tell"
        return "better" if d.mean() > 0 else "worse"

    return f


def majority(a: Tensor, b: Tensor) -> str:
    ahead = int((b > a).sum())
    if 2 * ahead == len(a):
        return "cannot tell"
    return "better" if 2 * ahead > len(a) else "worse"


COMPARE = Exercise(
    name="compare",
    chapter=4,
    difficulty=3,
    trains="judging a difference against its uncertainty, and admitting ignorance",
    title="better, worse, or cannot tell",
    prompt=(
        "Two models were trained with the same n seeds and scored, the higher the "
        "better: `a` and `b`, shape (n,), in the same order of seeds, n from 10 on. "
        'Return `"better"` if b is better than a, `"worse"` if it is worse, and '
        '`"cannot tell"` where the difference may be chance. Seeds differ far more '
        "than models do, so compare pair by pair: the mean of the differences, "
        "against its own standard error, twice or a little more of it on either side. "
        "Your verdicts are counted on some hundred random tables: of equal models "
        "hardly one in twenty may be told apart, and where one is really better it "
        "has to be found."
    ),
    reference=compare,
    lines="4-6 lines",
    cases=(
        verdict("better", lambda: pairs(1, 2.0, 20), "20 seeds, b better by 2 or so"),
        verdict("worse", lambda: pairs(2, -2.0, 20), "20 seeds, b worse by 2 or so"),
        verdict("cannot tell", lambda: pairs(8, 0.0, 20), "20 seeds, equal models"),
        verdict(
            "better",
            lambda: tuple(s.float() for s in pairs(4, 3.0, 10, spread=20.0)),
            "10 seeds that differ a lot, b better by 3 or so",
        ),
        verdict("cannot tell", lambda: pairs(6, 0.05, 12), "12 seeds, next to equal"),
        verdict(
            "cannot tell",
            narrow,
            "12 seeds, b ahead by a tenth on 8 of them and behind by 4 on one",
        ),
    ),
    properties=(
        (
            'Of equal models, about 19 tables in 20 should end in "cannot tell": '
            "yours sees differences that are chance.",
            few_false_alarms,
        ),
        (
            "Real differences, of one to one and a half times the noise of a pair, "
            "should be found nearly always: yours misses too many. Are the scores "
            "compared pair by pair?",
            enough_power,
        ),
        (
            "The verdict should not depend on the unit of the scores: multiplied by "
            "100, they say the same.",
            scale_free,
        ),
    ),
    hints=(
        "Begin with one number a seed: b - a. What the seed does to both is gone.",
        "The mean of n numbers is uncertain by their standard deviation over the root "
        "of n.",
        "If the mean lies within about two such errors of 0, nobody can tell. "
        "Otherwise its sign decides.",
    ),
    misconceptions={
        "means alone": (
            compare_slip("means alone"),
            "only the means were compared; equal models, too, differ a little",
        ),
        "not paired": (
            compare_slip("not paired"),
            "the scores were not compared in pairs: what seeds do to both models "
            "drowns the difference",
        ),
        "spread for its error": (
            compare_slip("spread for its error"),
            "the mean was compared with the spread of the differences; its own error "
            "is smaller by the root of n",
        ),
        "exchanged": (
            compare_slip("exchanged"),
            "the two models are exchanged: a higher score of b is better",
        ),
        "majority": (
            majority,
            "the seeds were counted on which b is ahead; a narrow majority is chance",
        ),
    },
)
