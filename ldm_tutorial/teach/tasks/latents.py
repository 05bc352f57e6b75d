"""Exercises on the scale of latents, and on the way from one to another."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.evaluation import latents
from ldm_tutorial.teach.task import Case, Exercise
from ldm_tutorial.teach.tasks.inputs import randn


def scaling_factor(z: Tensor) -> Tensor:
    """1 / standard deviation of each channel of raw latents (N, C, h, w)."""
    return 1 / z.std((0, 2, 3))


def raw_latents() -> tuple[Tensor]:
    """Four channels of very different mean and spread."""
    std = torch.tensor([0.5, 1.0, 2.0, 5.0]).view(-1, 1, 1)
    mean = torch.tensor([3.0, 0.0, -1.0, 0.5]).view(-1, 1, 1)
    return (mean + std * randn(1, 200, 4, 4, 4),)


SCALING = Exercise(
    name="scaling_factor",
    chapter=2,
    difficulty=1,
    trains="statistics over the right dimensions",
    title="the scaling factor",
    prompt=(
        "`z` (N, C, h, w) are raw latents of many images. Return for each channel the "
        "factor that brings it to unit standard deviation, shape (C,): what Stable "
        "Diffusion, with one number for all channels, calls `scaling_factor`."
    ),
    reference=scaling_factor,
    cases=(
        Case(
            lambda: (torch.tensor([-2.0, 2.0]).view(2, 1, 1, 1).repeat(99, 2, 2, 2),),
            expected=torch.tensor([0.5, 0.5]),
            note="two channels, half of the values -2 and half 2",
            rtol=2e-3,
        ),
        Case(
            raw_latents,
            note="four channels of standard deviation 0.5, 1, 2 and 5",
            rtol=1e-3,
        ),
    ),
    hints=(
        "A standard deviation for each channel is taken over all the other dimensions: "
        "images, rows and columns.",
        "z.std((0, 2, 3)) has shape (C,). Multiplying by which number makes that 1?",
        "A factor that turns a standard deviation s into 1 is one over s.",
    ),
    misconceptions={
        "the standard deviation itself": (
            lambda z: z.std((0, 2, 3)),
            "this is the standard deviation; the factor that removes it is one over it",
        ),
        "the variance": (
            lambda z: 1 / z.var((0, 2, 3)),
            "this is one over the variance; the scale of latents is their standard "
            "deviation",
        ),
        "one for all": (
            lambda z: 1 / z.std(),
            "this is one number for all channels; each channel has its own",
        ),
        "root mean square": (
            lambda z: 1 / z.square().mean((0, 2, 3)).sqrt(),
            "the mean was not taken out: this is the root of the mean square",
        ),
        "per image": (
            lambda z: 1 / z.std((2, 3)).mean(0),
            "the standard deviation of each image was averaged; what distinguishes "
            "images belongs to the spread too",
        ),
        "factors averaged": (
            lambda z: (1 / z.std((2, 3))).mean(0),
            "each image got factors of its own, and these were averaged; take the "
            "images together, dimension 0",
        ),
        "per image and channel": (
            lambda z: 1 / z.std((2, 3)),
            "each image got a factor of its own; take the images together, dimension 0",
        ),
        "wrong dimension": (
            lambda z: 1 / z.std((1, 2, 3)),
            "this is one factor for each image; channels are dimension 1, and the "
            "standard deviation is taken over the others",
        ),
        "largest": (
            lambda z: 1 / z.abs().amax((0, 2, 3)),
            "this is one over the largest value; the standard deviation is asked for",
        ),
        "mean of absolutes": (
            lambda z: 1 / z.abs().mean((0, 2, 3)),
            "this is one over the mean of absolute values; the standard deviation is "
            "asked for",
        ),
        "one repeated": (
            lambda z: (1 / z.std()).expand(z.shape[1]),
            "this is one number, repeated for every channel; each has a standard "
            "deviation of its own",
        ),
        "somebody's": (
            lambda z: torch.full((z.shape[1],), 0.18215),
            "0.18215 is the factor of Stable Diffusion's latents; these have others, "
            "to be measured",
        ),
    },
    source=(LatentCodec.fit, vars(LatentCodec)["scaling_factor"].fget),
)


def normalise(raw: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Raw latents (B, C, h, w) at unit scale, with statistics (C,)."""
    return (raw - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)


MEAN, STD = (3.0, 0.0, -1.0, 0.5), (0.5, 1.0, 2.0, 5.0)


def to_normalise() -> tuple[Tensor, Tensor, Tensor]:
    """As many rows and columns as channels, where a wrong axis goes unnoticed."""
    return randn(1, 2, 4, 4, 4), torch.tensor(MEAN), torch.tensor(STD)


NORMALISE = Exercise(
    name="normalise",
    chapter=2,
    difficulty=1,
    trains="broadcasting from the right",
    title="latents of unit scale",
    prompt=(
        "Bring raw latents `raw` (B, C, h, w) to zero mean and unit standard "
        "deviation, with the statistics `mean` and `std` of each channel, both of "
        "shape (C,). Mind the shapes: `raw - mean` alone would subtract along the "
        "columns."
    ),
    reference=normalise,
    lines="1-2 lines",
    cases=(
        Case(
            lambda: (
                torch.tensor([[5.0, 5.0], [1.0, 2.0]]).view(2, 2, 1, 1),
                torch.tensor([1.0, 3.0]),
                torch.tensor([2.0, 0.5]),
            ),
            expected=torch.tensor([[2.0, 4.0], [0.0, -2.0]]).view(2, 2, 1, 1),
        ),
        Case(
            lambda: (randn(1, 2, 3, 5, 6), *(torch.tensor(v[:3]) for v in (MEAN, STD)))
        ),
        Case(to_normalise),
    ),
    hints=(
        "Torch lines shapes up from the right: (C,) meets the columns w. The channel "
        "is the third from the right.",
        "mean.view(-1, 1, 1) has shape (C, 1, 1) and meets the channels; so does "
        "mean[:, None, None].",
        "Subtract first, then divide, both with statistics that were given two more "
        "dimensions.",
    ),
    misconceptions={
        "along the columns": (
            lambda raw, mean, std: (raw - mean) / std,
            "the statistics were lined up with the columns, not with the channels",
        ),
        "along the rows": (
            lambda raw, mean, std: (raw - mean[:, None]) / std[:, None],
            "the statistics were lined up with the rows, not with the channels",
        ),
        "multiplied": (
            lambda raw, mean, std: (raw - mean.view(-1, 1, 1)) * std.view(-1, 1, 1),
            "multiplied by std; the scaling factor is one over it",
        ),
        "own statistics": (
            lambda raw, mean, std: normalise(
                raw, raw.mean((0, 2, 3)), raw.std((0, 2, 3))
            ),
            "mean and standard deviation of this batch were taken; the statistics are "
            "given, and the same for every batch",
        ),
        "the way back": (
            lambda raw, mean, std: raw * std.view(-1, 1, 1) + mean.view(-1, 1, 1),
            "this is the way back, from unit scale to raw latents",
        ),
        "scaled first": (
            lambda raw, mean, std: raw / std.view(-1, 1, 1) - mean.view(-1, 1, 1),
            "the mean of the raw latents was subtracted after scaling; subtract first",
        ),
        "scaled twice": (
            lambda raw, mean, std: (
                (raw - mean.view(-1, 1, 1)) / std.view(-1, 1, 1).square()
            ),
            "the scale was applied twice",
        ),
        "normalised twice": (
            lambda raw, mean, std: normalise(normalise(raw, mean, std), mean, std),
            "mean and scale were applied twice",
        ),
        "mean kept": (
            lambda raw, mean, std: raw / std.view(-1, 1, 1),
            "the mean was not subtracted",
        ),
        "brackets missing": (
            lambda raw, mean, std: raw - mean.view(-1, 1, 1) / std.view(-1, 1, 1),
            "only the mean was divided by std: brackets are missing",
        ),
        "scale kept": (
            lambda raw, mean, std: raw - mean.view(-1, 1, 1),
            "the scale was left as it is",
        ),
    },
    source=(normalise, LatentCodec.normalise),
)


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    return latents.slerp(a, b, t)


def angle(a: Tensor, b: Tensor) -> Tensor:
    return torch.acos((a * b).sum() / (a.norm() * b.norm()))


def across(a: Tensor, b: Tensor, t: float, theta: Tensor | None = None) -> Tensor:
    theta = angle(a, b) if theta is None else theta
    return (((1 - t) * theta).sin() * a + (t * theta).sin() * b) / theta.sin()


def pair() -> tuple[Tensor, Tensor]:
    return torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])


SLERP = Exercise(
    name="slerp",
    chapter=2,
    difficulty=2,
    trains="geometry of long vectors",
    title="spherical interpolation",
    prompt=(
        "Walk from the latent `a` (at `t` = 0) to `b` (at `t` = 1) along the arc "
        "between them. With $\\theta$ the angle between the two, seen as vectors, "
        "the point at `t` has the angle $t\\theta$ from `a` and $(1 - t)\\,\\theta$ "
        "from `b`. It is a sum $w_a\\,a + w_b\\,b$. For `a` and `b` of length one "
        "the two parts and the sum form a triangle with sides $w_a$, $w_b$ and 1, "
        "and sides are as the sines of the angles opposite to them: that gives both "
        "weights. Take the same weights for other lengths. `a`, `b` and the result "
        "have one shape, such as (C, h, w)."
    ),
    reference=slerp,
    lines="2-3 lines",
    cases=(
        Case(lambda: (*pair(), 0.5), expected=torch.tensor([0.5**0.5, 0.5**0.5])),
        Case(
            lambda: (*(2 * v for v in pair()), 1 / 3),
            expected=torch.tensor([3**0.5, 1.0]),
        ),
        Case(
            lambda: (torch.tensor([1.0, 0.0]), torch.tensor([-0.5, 0.75**0.5]), 0.5),
            expected=torch.tensor([0.5, 0.75**0.5]),
            note="two vectors of length 1 at an angle of 120°, t = 0.5",
        ),
        Case(
            lambda: (torch.tensor([2.0, 0.0]), torch.tensor([1.0, 3**0.5]), 0.5),
            expected=torch.tensor([3**0.5, 1.0]),
            note="two vectors of length 2 at an angle of 60°, t = 0.5",
        ),
        Case(lambda: (randn(1, 4, 3, 3), 2 * randn(2, 4, 3, 3), 0.25)),
    ),
    properties=(
        (
            "At t = 0 it should give a, and at t = 1 it should give b.",
            lambda f: (
                torch.allclose(f(*pair(), 0.0), pair()[0], atol=1e-5)
                and torch.allclose(f(*pair(), 1.0), pair()[1], atol=1e-5)
            ),
        ),
    ),
    hints=(
        "cos θ = (a · b) / (|a| |b|), with the scalar product over all elements: (a "
        "* b).sum() and .norm(). torch.acos turns it into the angle.",
        "In the triangle the side w_b lies opposite the angle t θ, which the sum has "
        "from a; w_a lies opposite (1 - t) θ; and the sum itself opposite π - θ, "
        "whose sine is that of θ.",
        "Each weight is the sine of the angle opposite to it over the third sine. "
        "Check the ends: t = 0 must give a, and t = 1 must give b.",
    ),
    misconceptions={
        "linear": (
            lambda a, b, t: (1 - t) * a + t * b,
            "this is the straight line, whose middle is too short",
        ),
        "the wrong end": (
            lambda a, b, t: across(b, a, t),
            "it walks from b to a; t = 0 should give a",
        ),
        "not divided": (
            lambda a, b, t: across(a, b, t) * angle(a, b).sin(),
            "the division by sin θ is missing",
        ),
        "unit vectors": (
            lambda a, b, t: across(a / a.norm(), b / b.norm(), t, angle(a, b)),
            "the ends were brought to unit length; only the angle needs that",
        ),
        "norms forgotten": (
            lambda a, b, t: across(
                a, b, t, torch.acos((a * b).sum().clamp(-0.999, 0.999))
            ),
            "the cosine is the scalar product over both norms; the norms are missing",
        ),
        "norms forgotten, no bound": (
            lambda a, b, t: across(a, b, t, torch.acos((a * b).sum())),
            "the cosine is the scalar product over both norms; without them it "
            "exceeds 1, where there is no angle",
        ),
        "place by place": (
            lambda a, b, t: across(
                a, b, t, torch.acos(F.cosine_similarity(a, b, dim=0))
            ),
            "an angle was taken at each place, over dimension 0; there is one angle, "
            "between the two latents as long vectors",
        ),
        "a right angle": (
            lambda a, b, t: across(a, b, t, torch.tensor(torch.pi / 2)),
            "these are the weights of a right angle; take θ from a and b",
        ),
        "cosine itself": (
            lambda a, b, t: across(a, b, t, (a * b).sum() / (a.norm() * b.norm())),
            "the cosine was used as the angle; torch.acos is missing",
        ),
        "cosine for the angle": (
            lambda a, b, t: across(a, b, t, angle(a, b).cos()),
            "the cosine was used as the angle; torch.acos is missing",
        ),
        "cosine weights": (
            lambda a, b, t: (
                (((1 - t) * angle(a, b)).cos() * a + (t * angle(a, b)).cos() * b)
                / angle(a, b).sin()
            ),
            "the weights are sines; these are cosines",
        ),
    },
    source=(latents.slerp,),
)
