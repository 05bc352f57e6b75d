"""The exercise on choosing a weight from a table with intervals."""

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


SMALL = ((1.0, 9.0, 0.5), (10.0, 5.0, 1.5), (100.0, 6.0, 0.1), (1000.0, 30.0, 40.0))


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
        yardsticks = {
            "halved": intervals[best] / 2,
            "doubled": 2 * intervals[best],
            "widest": intervals.max(),
            "mean": intervals.mean(),
            "tenth": 0.1 * distances[best],
        }
        if kind in yardsticks:
            fits = distances <= distances[best] + yardsticks[kind]
        if kind == "largest of all":
            fits = weights == weights.max()
        good = weights[fits]
        others = {"smallest": good.min(), "first": good[0], "last": good[-1]}
        others["farthest"] = good[distances[fits].argmax()]
        chosen = float(others.get(kind, good.max()))
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
            lambda: (*table(*SMALL), 100, 25),
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
        "interval halved": (
            weight_slip("halved"),
            "the interval was halved; it is the half-width already",
        ),
        "interval doubled": (
            weight_slip("doubled"),
            "the interval was doubled; it is the half-width on either side, and "
            "counts once",
        ),
        "widest interval": (
            weight_slip("widest"),
            "the widest interval of the table was taken; that of the best row is the "
            "yardstick",
        ),
        "mean interval": (
            weight_slip("mean"),
            "the mean of the intervals was taken; that of the best row is the "
            "yardstick",
        ),
        "last row": (
            weight_slip("last"),
            "the last row that fits was taken; the rows come in no order, so take the "
            "largest weight",
        ),
        "first row": (
            weight_slip("first"),
            "the first row that fits was taken; the rows come in no order, so take "
            "the largest weight",
        ),
        "farthest": (
            weight_slip("farthest"),
            "of the rows that fit, the one of the largest distance was taken; take "
            "the largest weight",
        ),
        "tenth": (
            weight_slip("tenth"),
            "the rows within a tenth of the best distance were taken; the best one's "
            "interval says how much it is uncertain",
        ),
    },
)
