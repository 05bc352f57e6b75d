"""Exercises on distances between features, of two sets and of two images."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm_tutorial.teach.task import Case, Exercise
from ldm_tutorial.teach.tasks.inputs import randn
from ldm_tutorial.training import losses


def frechet(a: Tensor, b: Tensor) -> Tensor:
    """Squared Fréchet distance of the Gaussians fitted to two sets of numbers."""
    return (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2


def numbers(seed: int, mean: float, std: float, n: int = 4000) -> Tensor:
    """Numbers with exactly this mean and standard deviation."""
    a = randn(seed, n)
    return mean + std * (a - a.mean()) / a.std()


FRECHET = Exercise(
    name="frechet",
    chapter=1,
    difficulty=2,
    trains="reading a formula of matrices in one dimension",
    title="the Fréchet distance of two sets of numbers",
    prompt=(
        "Fit a Gaussian to each of two sets of numbers `a` (n,) and `b` (m,), and "
        "return the *squared* Fréchet distance between the two: $(1.5)$ for features "
        "of one dimension. What becomes of the trace, and of the root of a product "
        "of two matrices, where each is one number, a variance?"
    ),
    reference=frechet,
    lines="1-2 lines",
    cases=(
        Case(
            lambda: (numbers(1, 0.0, 1.0), numbers(2, 3.0, 1.0)),
            expected=9.0,
            note="means 0 and 3, both standard deviations 1",
            rtol=2e-3,
        ),
        Case(
            lambda: (numbers(1, 0.0, 1.0), numbers(2, 0.0, 3.0)),
            expected=4.0,
            note="means 0, standard deviations 1 and 3",
            rtol=2e-3,
        ),
        Case(
            lambda: (numbers(3, -1.0, 0.5), numbers(4, 1.0, 2.0, 3000)),
            expected=6.25,
            note="means -1 and 1, standard deviations 0.5 and 2",
            rtol=2e-3,
        ),
    ),
    hints=(
        "Two numbers describe each Gaussian: .mean() and .std(). In one dimension A "
        "is σa², and the root of AB is σa σb.",
        "Then the last term is σa² + σb² - 2 σa σb. Of what is that the square?",
        "The distance is a sum of two squares: how far the means are apart, and how "
        "far the standard deviations are.",
    ),
    misconceptions={
        "variances compared": (
            lambda a, b: (a.mean() - b.mean()) ** 2 + (a.var() - b.var()) ** 2,
            "the variances are subtracted; the distance takes the difference of the "
            "standard deviations",
        ),
        "means only": (
            lambda a, b: (a.mean() - b.mean()) ** 2,
            "only the means are compared; the spreads count too",
        ),
        "spreads only": (
            lambda a, b: (a.std() - b.std()) ** 2,
            "only the spreads are compared; the means count too",
        ),
        "root taken": (
            lambda a, b: ((a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2).sqrt(),
            "this is the distance, and the square of it is asked for, as in FID",
        ),
        "cross term missing": (
            lambda a, b: (a.mean() - b.mean()) ** 2 + a.var() + b.var(),
            "the term -2 σa σb is missing: two equal sets must be at distance 0",
        ),
        "cross term of variances": (
            lambda a, b: (
                (a.mean() - b.mean()) ** 2 + a.var() + b.var() - 2 * a.var() * b.var()
            ),
            "the last term is twice the product of the standard deviations, not of the "
            "variances",
        ),
        "not squared": (
            lambda a, b: (a.mean() - b.mean()).abs() + (a.std() - b.std()).abs(),
            "the differences have to be squared before they are added",
        ),
        "paired": (
            lambda a, b: (a - b).square().mean(),
            "the numbers were compared in pairs; the order of samples means nothing, "
            "only the two Gaussians do",
        ),
        "minus": (
            lambda a, b: (a.mean() - b.mean()) ** 2 - (a.std() - b.std()) ** 2,
            "the two squares are added, not subtracted",
        ),
        "spread not squared": (
            lambda a, b: (a.mean() - b.mean()) ** 2 + a.std() - b.std(),
            "the difference of the standard deviations has to be squared, too",
        ),
        "deviations for variances": (
            lambda a, b: (
                (a.mean() - b.mean()) ** 2
                + a.std()
                + b.std()
                - 2 * (a.std() * b.std()).sqrt()
            ),
            "the matrices are variances, σ²; standard deviations were put in their "
            "place",
        ),
        "one cross term": (
            lambda a, b: (
                (a.mean() - b.mean()) ** 2 + a.var() + b.var() - a.std() * b.std()
            ),
            "the last term counts twice: -2 σa σb",
        ),
        "square of the sum": (
            lambda a, b: (a.mean() - b.mean() + a.std() - b.std()) ** 2,
            "the differences were added before they were squared; each is squared by "
            "itself",
        ),
        "sums": (
            lambda a, b: (a.sum() - b.sum()) ** 2 + (a.std() - b.std()) ** 2,
            "the sums were compared; a Gaussian has a mean",
        ),
        "spreads added": (
            lambda a, b: (a.mean() - b.mean()) ** 2 + (a.std() + b.std()) ** 2,
            "the standard deviations were added; their difference is squared",
        ),
    },
)


def feature_distance(f_hat: Tensor, f: Tensor) -> Tensor:
    return losses.perceptual_distance([f_hat], [f])


def one_place() -> tuple[Tensor, Tensor]:
    f_hat = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    return f_hat, torch.tensor([10.0, 0.0]).view(1, 2, 1, 1)


def finite_slope(g: Callable) -> bool:
    """Whether the gradient is finite where all features are 0."""
    f_hat = torch.zeros(2, 4, 3, 3, requires_grad=True)
    g(f_hat, randn(2, 2, 4, 3, 3)).sum().backward()
    return f_hat.grad is not None and bool(f_hat.grad.isfinite().all())


def unit(f: Tensor) -> Tensor:
    return F.normalize(f, dim=1)


def standard(f: Tensor) -> Tensor:
    return (f - f.mean(1, keepdim=True)) / (f.std(1, keepdim=True) + 1e-6)


PERCEPTUAL = Exercise(
    name="perceptual",
    chapter=1,
    difficulty=2,
    trains="features as unit vectors, and a division that may be by zero",
    title="a distance between features",
    prompt=(
        "`f_hat` and `f` (B, C, H, W) are the feature maps that one layer of a network "
        "makes of reconstructions and of originals. Bring the C numbers at each "
        "position to unit length, take the squared difference, sum it over channels "
        "and average it over positions. The result has shape (B,). It will be a "
        "loss, so gradients have to reach `f_hat`. At some positions a ReLU has left "
        "nothing but zeros: neither value nor gradient may be nan there."
    ),
    reference=feature_distance,
    lines="2-3 lines",
    cases=(
        Case(
            one_place,
            expected=torch.tensor([0.8]),
            note="features (3, 4) and (10, 0) at a single position",
        ),
        Case(lambda: (randn(1, 2, 4, 3, 5), 2 + randn(2, 2, 4, 3, 5))),
    ),
    gradient=("f_hat",),
    properties=(
        (
            "A position whose features are all 0 should not give nan: 0 / 0 is none.",
            lambda g: bool(
                g(torch.zeros(2, 4, 3, 3), randn(2, 2, 4, 3, 3)).isfinite().all()
            ),
        ),
        (
            "Nor should its gradient be nan, as that of .sqrt() at 0 is: "
            "F.normalize and .norm() have a finite one.",
            finite_slope,
        ),
        (
            "Features that are all 5 times as large should have the same distance.",
            lambda g: torch.allclose(
                g(5 * randn(1, 2, 4, 3, 3), randn(2, 2, 4, 3, 3)),
                g(randn(1, 2, 4, 3, 3), randn(2, 2, 4, 3, 3)),
                rtol=1e-3,
            ),
        ),
    ),
    hints=(
        "Unit length means: divide by the norm over the channels, dimension 1. "
        "keepdim=True lets it broadcast. Which number below the line could be 0?",
        "torch.nn.functional.normalize(f, dim=1) does that in one call, zeros "
        "included.",
        "What is left is a squared difference of shape (B, C, H, W). Over which "
        "dimensions is it summed, and over which is the mean taken?",
    ),
    misconceptions={
        "not normalised": (
            lambda f_hat, f: (f_hat - f).square().sum(1).mean((1, 2)),
            "the features were not brought to unit length, so loud ones drown the rest",
        ),
        "normalised over space": (
            lambda f_hat, f: (
                (
                    F.normalize(f_hat.flatten(2), dim=2)
                    - F.normalize(f.flatten(2), dim=2)
                )
                .square()
                .sum(1)
                .mean(1)
            ),
            "the length was taken over positions; each position is to have unit length "
            "over its channels",
        ),
        "normalised as a whole": (
            lambda f_hat, f: (
                (
                    f_hat / f_hat.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                    - f / f.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                )
                .square()
                .sum(1)
                .mean((1, 2))
            ),
            "the whole map was brought to unit length; each position should be",
        ),
        "mean over channels": (
            lambda f_hat, f: (unit(f_hat) - unit(f)).square().mean((1, 2, 3)),
            "the channels were averaged; they are summed, and positions averaged",
        ),
        "sum over positions": (
            lambda f_hat, f: (unit(f_hat) - unit(f)).square().sum((1, 2, 3)),
            "the positions were summed; a larger image would be farther away for that",
        ),
        "one number for the batch": (
            lambda f_hat, f: (unit(f_hat) - unit(f)).square().sum(1).mean(),
            "the batch was averaged too; each image has its own distance",
        ),
        "absolute difference": (
            lambda f_hat, f: (unit(f_hat) - unit(f)).abs().sum(1).mean((1, 2)),
            "the difference has to be squared",
        ),
        "root taken": (
            lambda f_hat, f: (unit(f_hat) - unit(f)).norm(dim=1).mean((1, 2)),
            "a root was taken: sum the squares over channels, and leave it at that",
        ),
        "divided by the squared norm": (
            lambda f_hat, f: (
                (
                    f_hat / f_hat.square().sum(1, keepdim=True)
                    - f / f.square().sum(1, keepdim=True)
                )
                .square()
                .sum(1)
                .mean((1, 2))
            ),
            "the features were divided by their squared length; divide by the length",
        ),
        "along the columns": (
            lambda f_hat, f: (
                (F.normalize(f_hat, dim=-1) - F.normalize(f, dim=-1))
                .square()
                .sum(1)
                .mean((1, 2))
            ),
            "the length was taken along the last dimension, the columns; the channels "
            "are dimension 1",
        ),
        "over the batch": (
            lambda f_hat, f: (
                (F.normalize(f_hat, dim=0) - F.normalize(f, dim=0))
                .square()
                .sum(1)
                .mean((1, 2))
            ),
            "the length was taken over the batch, dimension 0; the channels are "
            "dimension 1",
        ),
        "cosine": (
            lambda f_hat, f: F.cosine_similarity(f_hat, f, dim=1).mean((1, 2)),
            "this is the cosine, which is 1 where the features agree; a distance is 0 "
            "there",
        ),
        "half of it": (
            lambda f_hat, f: (1 - F.cosine_similarity(f_hat, f, dim=1)).mean((1, 2)),
            "this is one minus the cosine, half of the squared difference of unit "
            "vectors",
        ),
        "one side alone": (
            lambda f_hat, f: (f_hat - unit(f)).square().sum(1).mean((1, 2)),
            "only f was brought to unit length; f_hat has to be, too",
        ),
        "squared after the sum": (
            lambda f_hat, f: (unit(f_hat) - unit(f)).sum(1).square().mean((1, 2)),
            "the differences were summed before they were squared, and cancel",
        ),
        "difference normalised": (
            lambda f_hat, f: unit(f_hat - f).square().sum(1).mean((1, 2)),
            "the difference was brought to unit length; the two features should be, "
            "before it is taken",
        ),
        "length of absolutes": (
            lambda f_hat, f: (
                (F.normalize(f_hat, p=1, dim=1) - F.normalize(f, p=1, dim=1))
                .square()
                .sum(1)
                .mean((1, 2))
            ),
            "the features were divided by the sum of absolute values; unit length is "
            "about the root of squares",
        ),
        "standardised": (
            lambda f_hat, f: (
                (standard(f_hat) - standard(f)).square().sum(1).mean((1, 2))
            ),
            "mean and standard deviation were taken out; unit length is asked for, "
            "and the mean stays",
        ),
    },
    source=(losses.perceptual_distance, losses.unit_length),
)
