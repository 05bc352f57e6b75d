"""Exercise on latents that are made for diffusion."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm_tutorial.teach.task import Case, Exercise
from ldm_tutorial.teach.tasks.inputs import column, randn


def scale_loss(decode: Callable[[Tensor], Tensor], x: Tensor, z: Tensor) -> Tensor:
    return F.mse_loss(decode(F.avg_pool2d(z, 2)), F.avg_pool2d(x, 2))


def twice(z: Tensor) -> Tensor:
    """A decoder that is not linear, so that it matters what is halved first."""
    return F.interpolate(torch.tanh(z), scale_factor=2, mode="nearest")


def pair() -> tuple[Callable[[Tensor], Tensor], Tensor, Tensor]:
    return twice, randn(1, 2, 3, 8, 12), 2 * randn(2, 2, 3, 4, 6)


def every_second(x: Tensor) -> Tensor:
    return x[..., ::2, ::2]


EQUIVARIANCE = Exercise(
    name="equivariance_loss",
    chapter=6,
    difficulty=1,
    trains="one error at two sizes",
    title="a latent that may be halved",
    prompt=(
        "If an autoencoder is equivariant to scale, half the latent decodes to half "
        "the image. Halve both `z`, (B, C, h, w), and `x`, (B, 3, H, W), by the mean "
        "over squares of 2×2 (`F.avg_pool2d`), and return the mean squared error "
        "between the decoded small latent and the small image. `decode` maps latents "
        "to images."
    ),
    reference=scale_loss,
    cases=(
        Case(
            lambda: (
                lambda z: z,
                column(1.0, 1.0).expand(2, 1, 2, 2),
                column(3.0, 2.0).expand(2, 1, 2, 2),
            ),
            expected=torch.tensor(2.5),
            note="decode = the identity, x = 1 and 1, z = 3 and 2, each (1, 2, 2)",
        ),
        Case(pair, note="decode = tanh and copying, x and z random"),
    ),
    gradient=("z",),
    hints=(
        "Three pieces: the small latent, the small image, an error.",
        "Halve z before it is decoded, not after.",
        "x is halved and never decoded, z is halved and then decoded: now both are "
        "small images.",
    ),
    misconceptions={
        "decoded first": (
            lambda d, x, z: F.mse_loss(F.avg_pool2d(d(z), 2), F.avg_pool2d(x, 2)),
            "the image was halved after decoding, which any good autoencoder passes; "
            "halve the latent before",
        ),
        "not halved": (
            lambda d, x, z: F.mse_loss(d(z), x),
            "nothing is halved: this is the reconstruction error",
        ),
        "every second": (
            lambda d, x, z: F.mse_loss(d(every_second(z)), every_second(x)),
            "every second value was kept; the mean over squares is asked for",
        ),
        "sum": (
            lambda d, x, z: F.mse_loss(
                d(F.avg_pool2d(z, 2)), F.avg_pool2d(x, 2), reduction="sum"
            ),
            "this is the sum of the squares; take their mean",
        ),
        "absolute": (
            lambda d, x, z: F.l1_loss(d(F.avg_pool2d(z, 2)), F.avg_pool2d(x, 2)),
            "this is the mean absolute error; square it",
        ),
        "detached": (
            lambda d, x, z: scale_loss(d, x, z.detach()),
            "no gradient reaches z",
        ),
        "one not halved": (
            lambda d, x, z: (d(z) - F.avg_pool2d(x, 2)).square().mean(),
            "only one of the two was halved: the latent is, before it is decoded, and "
            "the image is",
        ),
        "enlarged again": (
            lambda d, x, z: F.mse_loss(
                F.interpolate(d(F.avg_pool2d(z, 2)), scale_factor=2), x
            ),
            "the small image was enlarged and compared with x; compare it with the "
            "halved x",
        ),
        "two reconstructions": (
            lambda d, x, z: F.mse_loss(d(F.avg_pool2d(z, 2)), F.avg_pool2d(d(z), 2)),
            "two reconstructions were compared; the small image x is the measure",
        ),
        "largest": (
            lambda d, x, z: F.mse_loss(d(F.max_pool2d(z, 2)), F.max_pool2d(x, 2)),
            "the largest of each square was kept; take the mean, avg_pool2d",
        ),
        "root": (
            lambda d, x, z: scale_loss(d, x, z).sqrt(),
            "a root was taken; the mean square itself is asked for",
        ),
        "half": (
            lambda d, x, z: scale_loss(d, x, z) / 2,
            "the error was halved; the mean square itself is asked for",
        ),
        "square of the mean": (
            lambda d, x, z: (
                (d(F.avg_pool2d(z, 2)) - F.avg_pool2d(x, 2)).mean().square()
            ),
            "the mean was taken before the square, where errors of either sign cancel",
        ),
        "not squared": (
            lambda d, x, z: (d(F.avg_pool2d(z, 2)) - F.avg_pool2d(x, 2)).mean(),
            "the differences were not squared, and cancel",
        ),
        "images summed": (
            lambda d, x, z: (
                (d(F.avg_pool2d(z, 2)) - F.avg_pool2d(x, 2))
                .square()
                .sum((1, 2, 3))
                .mean()
            ),
            "the squares of each image were summed; take their mean",
        ),
        "both errors": (
            lambda d, x, z: scale_loss(d, x, z) + F.mse_loss(d(z), x),
            "the reconstruction error was added; the error at half size is asked for "
            "alone",
        ),
        "summed squares of pixels": (
            lambda d, x, z: F.mse_loss(
                d(4 * F.avg_pool2d(z, 2)), 4 * F.avg_pool2d(x, 2)
            ),
            "the sums over squares were taken; their means are asked for",
        ),
    },
)
