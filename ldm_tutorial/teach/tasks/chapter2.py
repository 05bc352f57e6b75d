"""Exercises of chapter 2: the KL divergence, its units, and the scale of latents."""

import math

import torch
from torch import Tensor

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.evaluation import latents
from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.teach.task import Case, Exercise
from ldm_tutorial.teach.tasks.inputs import randn
from ldm_tutorial.training import losses


def kl_to_standard_normal(mu: Tensor, logvar: Tensor) -> Tensor:
    return DiagonalGaussian(mu, logvar).kl()


def one(value: float) -> Tensor:
    return torch.tensor([value])


KL = Exercise(
    name="kl",
    chapter=2,
    minutes=5,
    title="the KL divergence from the standard normal",
    prompt=(
        "Write the divergence of $\\mathcal N(\\mu, \\sigma^2)$ from $\\mathcal N(0, "
        "1)$ for each latent element by itself, in nats. `mu` and `logvar` "
        "($\\ln \\sigma^2$) have one shape, and so has the result: no sum, no mean."
    ),
    reference=kl_to_standard_normal,
    cases=(
        Case(lambda: (one(0.0), one(0.0)), expected=one(0.0)),
        Case(lambda: (one(2.0), one(0.0)), expected=one(2.0)),
        Case(
            lambda: (one(0.0), one(math.log(4.0))),
            expected=one(1.5 - math.log(2.0)),
            note="mu = [0], logvar = [ln 4] (so σ = 2)",
        ),
        Case(lambda: (randn(1, 2, 4, 3, 3), randn(2, 2, 4, 3, 3))),
    ),
    gradient=("mu", "logvar"),
    properties=(
        (
            "A KL divergence is never negative.",
            lambda f: bool((f(randn(3, 500), 2 * randn(4, 500)) >= -1e-4).all()),
        ),
    ),
    hints=(
        "Three forces and a constant: ½ (μ² + σ² - 1 - ln σ²).",
        "ln σ² is logvar itself, and σ² is logvar.exp().",
        "0.5 * (mu**2 + logvar.exp() - 1 - logvar)",
    ),
    misconceptions={
        "half missing": (
            lambda mu, logvar: mu**2 + logvar.exp() - 1 - logvar,
            "the factor ½ is missing",
        ),
        "sign": (
            lambda mu, logvar: -0.5 * (mu**2 + logvar.exp() - 1 - logvar),
            "the sign is wrong: this is minus the divergence, which is never negative",
        ),
        "mean over elements": (
            lambda mu, logvar: (0.5 * (mu**2 + logvar.exp() - 1 - logvar)).mean(),
            "the mean over all elements was taken; each element is asked for by itself",
        ),
        "sum over elements": (
            lambda mu, logvar: (0.5 * (mu**2 + logvar.exp() - 1 - logvar)).sum(),
            "the elements were summed; each is asked for by itself",
        ),
        "sum per image": (
            lambda mu, logvar: (0.5 * (mu**2 + logvar.exp() - 1 - logvar)).sum(
                tuple(range(1, mu.ndim))
            ),
            "the elements of each image were summed; each is asked for by itself",
        ),
        "logvar as sigma": (
            lambda mu, logvar: 0.5 * (mu**2 + logvar**2 - 1 - 2 * logvar.abs().log()),
            "logvar was used as if it were σ; it is the logarithm of σ²",
        ),
        "logvar as log sigma": (
            lambda mu, logvar: 0.5 * (mu**2 + (2 * logvar).exp() - 1 - 2 * logvar),
            "logvar was used as ln σ; it is ln σ², so σ² = exp(logvar)",
        ),
        "logvar as variance": (
            lambda mu, logvar: 0.5 * (mu**2 + logvar - 1 - logvar.log()),
            "logvar was used as if it were σ²; it is its logarithm",
        ),
        "sigma for its square": (
            lambda mu, logvar: 0.5 * (mu**2 + (0.5 * logvar).exp() - 1 - logvar),
            "exp(logvar / 2) is σ; the formula has σ² in that place",
        ),
        "one missing": (
            lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - logvar),
            "the -1 is missing: the prior itself must be at divergence 0",
        ),
        "plus one": (
            lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() + 1 - logvar),
            "the 1 is subtracted, not added: the prior itself must be at divergence 0",
        ),
        "plus logvar": (
            lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - 1 + logvar),
            "the logarithm is subtracted: a sharp Gaussian is expensive",
        ),
        "mean not squared": (
            lambda mu, logvar: 0.5 * (mu + logvar.exp() - 1 - logvar),
            "the mean has to be squared",
        ),
        "the other direction": (
            lambda mu, logvar: 0.5 * ((mu**2 + 1) * (-logvar).exp() - 1 + logvar),
            "this is KL(N(0, 1) ‖ q), the other direction; the divergence is of q from "
            "the prior",
        ),
        "in bits": (
            lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - 1 - logvar) / math.log(2),
            "these are bits; nats are asked for",
        ),
    },
    source=(DiagonalGaussian.kl,),
)


def rate_in_bits(kl: Tensor) -> Tensor:
    """Bits an image for the divergences (B, C, h, w) of its elements in nats."""
    return kl.sum((1, 2, 3)) / math.log(2)


BITS = Exercise(
    name="bits",
    chapter=2,
    minutes=3,
    title="from nats per element to bits per image",
    prompt=(
        "`kl` (B, C, h, w) holds the divergence of each latent element in nats. Return "
        "how many *bits* the latent of each image costs in all, shape (B,). One nat is "
        "$1 / \\ln 2 \\approx 1.44$ bits."
    ),
    reference=rate_in_bits,
    cases=(
        Case(
            lambda: (torch.full((2, 4, 8, 8), math.log(2.0)),),
            expected=torch.tensor([256.0, 256.0]),
            note="256 elements of ln 2 nats in each of two images",
        ),
        Case(lambda: (randn(1, 3, 4, 2, 5).square(),)),
    ),
    hints=(
        "Independent elements: the cost of an image is the sum over its elements, "
        "dimensions 1, 2 and 3.",
        "A bit is ln 2 = 0.693 nats, so there are more bits than nats.",
        "kl.sum((1, 2, 3)) / math.log(2)",
    ),
    misconceptions={
        "nats": (
            lambda kl: kl.sum((1, 2, 3)),
            "these are nats; divide by ln 2 for bits",
        ),
        "multiplied": (
            lambda kl: kl.sum((1, 2, 3)) * math.log(2),
            "nats were multiplied by ln 2; a nat is more than a bit, so divide",
        ),
        "mean": (
            lambda kl: kl.mean((1, 2, 3)) / math.log(2),
            "these are bits per element; an image pays for the sum of its elements",
        ),
        "whole batch": (
            lambda kl: kl.sum() / math.log(2),
            "the images of the batch were added up; each has its own rate",
        ),
        "batch mean": (
            lambda kl: kl.sum((1, 2, 3)).mean() / math.log(2),
            "the images of the batch were averaged; each has its own rate",
        ),
        "rounded": (
            lambda kl: kl.sum((1, 2, 3)) * 1.44,
            "1.44 is rounded; 1 / math.log(2) is exact",
        ),
        "halves": (
            lambda kl: kl.sum((1, 2, 3)) / 2,
            "divided by 2; the factor between bits and nats is ln 2 = 0.693",
        ),
    },
)


def kl_weight_from_sums(
    weight: float, pixel_values: int, latent_elements: int
) -> float:
    return losses.kl_weight_from_sums(weight, pixel_values, latent_elements)


KL_WEIGHT = Exercise(
    name="kl_weight",
    chapter=2,
    minutes=5,
    title="a KL weight in other units",
    prompt=(
        "Somebody's loss is sum(error) + `weight` · sum(KL), both sums over one image "
        "with `pixel_values` numbers and its latent with `latent_elements`. Ours is "
        "mean(error) + $w$ · mean(KL), over the same numbers. Return the $w$ that "
        "gives the same minimum."
    ),
    reference=kl_weight_from_sums,
    cases=(
        Case(lambda: (1.0, 100, 25), expected=0.25),
        Case(
            lambda: (1e-6, 3 * 256 * 256, 4 * 32 * 32),
            expected=1e-6 / 48,
            note="Stable Diffusion: weight = 1e-6, pixel_values = 196608, "
            "latent_elements = 4096",
            atol=1e-12,
        ),
        Case(lambda: (0.5, 3000, 256)),
    ),
    hints=(
        "Scaling a whole loss moves no minimum. Which factor turns sum(error) into "
        "mean(error)?",
        "Divide everything by pixel_values. What is left of the second term is "
        "weight / pixel_values · sum(KL).",
        "sum(KL) = latent_elements · mean(KL): weight * latent_elements / pixel_values",
    ),
    misconceptions={
        "upside down": (
            lambda w, n_x, n_z: w * n_x / n_z,
            "the fraction is upside down: the sum over the many pixels is the larger "
            "one, so the weight shrinks",
        ),
        "unchanged": (
            lambda w, n_x, n_z: w,
            "the weight is unchanged, as if image and latent held equally many numbers",
        ),
        "elements alone": (
            lambda w, n_x, n_z: w * n_z,
            "that is the rule for mean(error) + weight · sum(KL); here the error is a "
            "sum too",
        ),
        "pixels alone": (
            lambda w, n_x, n_z: w / n_x,
            "the KL is still a sum; it is latent_elements times its mean",
        ),
        "divided twice": (
            lambda w, n_x, n_z: w / (n_x * n_z),
            "divided by both numbers; a sum of KL is latent_elements *times* its mean",
        ),
    },
    source=(losses.kl_weight_from_sums, losses.nats_factor),
)


def free_bits(kl: Tensor, allowance: float) -> Tensor:
    """Mean KL where each element may spend ``allowance`` nats without being charged
    (Kingma et al. 2016, eq. 15); ``kl`` is (B, ...), in nats per element."""
    return kl.mean(0).clamp(min=allowance).mean()


def spread() -> tuple[Tensor, float]:
    """Element 0 spends 0 or 0.3 nats, on average less than 0.2; element 1 spends 1."""
    return torch.tensor([[0.0, 1.0], [0.3, 1.0]]), 0.2


FREE_BITS = Exercise(
    name="free_bits",
    chapter=2,
    minutes=8,
    title="free bits",
    prompt=(
        "`kl` (B, ...) holds the divergence of each latent element in nats. Average "
        "over the *batch* first; then charge each element at least `allowance` nats, "
        "so that going below it gains nothing; return the mean over elements, one "
        "number."
    ),
    reference=free_bits,
    cases=(
        Case(spread, expected=torch.tensor(0.6)),
        Case(
            lambda: (torch.tensor([[0.0], [1.0]]), 0.1),
            expected=torch.tensor(0.5),
        ),
        Case(lambda: (0.1 * randn(3, 16, 4, 2, 2).square(), 0.12)),
    ),
    gradient=("kl",),
    hints=(
        "What an element spends is an average over images: kl.mean(0).",
        '"At least" is a maximum: .clamp(min=allowance). Below its bound a clamp has '
        "no slope, so nothing pulls.",
        "kl.mean(0).clamp(min=allowance).mean()",
    ),
    misconceptions={
        "clamped per image": (
            lambda kl, allowance: kl.clamp(min=allowance).mean(),
            "each image was clamped by itself; average over the batch first, so that "
            "an element may be silent for most images and speak up for a few",
        ),
        "clamped at the end": (
            lambda kl, allowance: kl.mean().clamp(min=allowance),
            "the mean of everything was clamped; each element has its own allowance",
        ),
        "maximum for minimum": (
            lambda kl, allowance: kl.mean(0).clamp(max=allowance).mean(),
            "the allowance is a lower bound of what is charged; this makes it an upper "
            "one, so an element could spend without limit",
        ),
        "subtracted": (
            lambda kl, allowance: (kl.mean(0) - allowance).clamp(min=0).mean(),
            "the allowance was subtracted. The gradients are the same, but the value "
            "is not: a free element is charged the allowance, not 0",
        ),
        "mean over the wrong dimension": (
            lambda kl, allowance: kl.flatten(1).mean(1).clamp(min=allowance).mean(),
            "the mean was taken over the elements of an image; take it over the batch, "
            "dimension 0",
        ),
        "per channel": (
            lambda kl, allowance: (
                kl.transpose(0, 1).flatten(1).mean(1).clamp(min=allowance).mean()
            ),
            "each channel got an allowance, as some codes do; here each element has "
            "its own",
        ),
        "sum in place of mean": (
            lambda kl, allowance: kl.mean(0).clamp(min=allowance).sum(),
            "the elements were summed; the weight is per element, so take the mean",
        ),
        "no allowance": (
            lambda kl, allowance: kl.mean(),
            "the allowance has no effect",
        ),
    },
)


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
    minutes=4,
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
        "1 / z.std((0, 2, 3))",
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
        "per image and channel": (
            lambda z: 1 / z.std((2, 3)),
            "each image got a factor of its own; take the images together, dimension 0",
        ),
        "wrong dimension": (
            lambda z: 1 / z.std((1, 2, 3)),
            "this is one factor for each image; channels are dimension 1, and the "
            "standard deviation is taken over the others",
        ),
    },
    source=(LatentCodec.fit, LatentCodec.scaling_factor.fget),
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
    minutes=5,
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
                torch.tensor([5.0, 5.0]).view(1, 2, 1, 1),
                torch.tensor([1.0, 3.0]),
                torch.tensor([2.0, 0.5]),
            ),
            expected=torch.tensor([2.0, 4.0]).view(1, 2, 1, 1),
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
        "(raw - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)",
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


def active_units(mu: Tensor, logvar: Tensor, least: float) -> float:
    return latents.active_units(DiagonalGaussian(mu, logvar), least)


def posteriors() -> tuple[Tensor, Tensor, float]:
    """Elements that are collapsed, half awake and awake."""
    mu = randn(1, 64, 4, 4, 4) * torch.tensor([0.0, 0.25, 0.4, 1.5]).view(-1, 1, 1)
    return mu, 0.1 * randn(2, 64, 4, 4, 4), 0.05


def nats(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar)


def few_units() -> tuple[Tensor, Tensor, float]:
    """Of four elements, one speaks for a single image of ten, and one never."""
    mu = torch.zeros(10, 4)
    mu[0, 0], mu[:, 1], mu[:, 2] = 2.0, 1.0, 0.4
    return mu, torch.zeros(10, 4), 0.05


def with_least(least: float) -> tuple[Tensor, Tensor, float]:
    return *few_units()[:2], least


def spreads() -> tuple[Tensor, Tensor, float]:
    """Four elements that spend 0.81, 0.18, 0.035 and 0.025 nats by their variance."""
    logvar = torch.tensor([math.log(4.0), -1.0, -0.4, 0.3]).repeat(10, 1)
    return torch.zeros(10, 4), logvar, 0.04


ACTIVE = Exercise(
    name="active_units",
    chapter=2,
    minutes=6,
    title="active units",
    prompt=(
        "`mu` and `logvar` (N, ...) are the posteriors of N images. A latent element "
        "is active if it spends at least `least` nats *on average over the images*. "
        "Return the share of active elements, one number between 0 and 1."
    ),
    reference=active_units,
    lines="2 lines",
    cases=(
        Case(
            few_units,
            expected=0.75,
            note="4 elements that spend on average 0.2, 0.5, 0.08 and 0 nats, "
            "least = 0.05",
        ),
        Case(
            lambda: with_least(0.1),
            expected=0.5,
            note="the same elements, least = 0.1",
        ),
        Case(
            lambda: with_least(0.3),
            expected=0.25,
            note="the same elements, least = 0.3",
        ),
        Case(
            spreads,
            expected=0.5,
            note="mu = 0, logvar of 4 elements ln 4, -1, -0.4 and 0.3, least = 0.04",
        ),
        Case(posteriors, rtol=2e-3),
    ),
    hints=(
        "First what every element of every image spends: your own "
        "kl_to_standard_normal(mu, logvar).",
        "Its mean over dimension 0 is what each element spends on average.",
        "(kl.mean(0) >= least).float().mean()",
    ),
    misconceptions={
        "counted per image": (
            lambda mu, logvar, least: (nats(mu, logvar) >= least).double().mean(),
            "elements were counted in each image; an element that speaks up for one "
            "image in ten is active, so average over the images first",
        ),
        "a count": (
            lambda mu, logvar, least: (nats(mu, logvar).mean(0) >= least).sum(),
            "this is the number of active elements; their share is asked for",
        ),
        "the silent ones": (
            lambda mu, logvar, least: (
                (nats(mu, logvar).mean(0) < least).double().mean()
            ),
            "this is the share of the silent elements",
        ),
        "averaged over elements": (
            lambda mu, logvar, least: (
                (nats(mu, logvar).flatten(1).mean(1) >= least).double().mean()
            ),
            "the mean was taken over the elements of an image, so this is a share of "
            "images; take it over the images, dimension 0",
        ),
        "half missing": (
            lambda mu, logvar, least: (
                (2 * nats(mu, logvar).mean(0) >= least).double().mean()
            ),
            "the divergence is twice what it should be: the factor ½ is missing",
        ),
        "variance of the means": (
            lambda mu, logvar, least: (mu.var(0) >= least).double().mean(),
            "this counts the variance of the means, as Burda et al. do; here an "
            "element counts by the nats it spends",
        ),
    },
    source=(latents.active_units,),
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
    minutes=8,
    title="spherical interpolation",
    prompt=(
        "Walk from the latent `a` (at `t` = 0) to `b` (at `t` = 1) along the arc "
        "between them: $\\big(\\sin((1-t)\\theta)\\,a + \\sin(t\\theta)\\,b\\big) / "
        "\\sin\\theta$, with $\\theta$ the angle between the two, seen as vectors. "
        "`a`, `b` and the result have one shape, such as (C, h, w)."
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
        "cos θ = (a · b) / (|a| |b|), with the scalar product over all elements: "
        "(a * b).sum() and .norm().",
        "theta = torch.acos(...). The weights are sin((1 - t) θ) / sin θ for a and "
        "sin(t θ) / sin θ for b.",
        "(((1 - t) * theta).sin() * a + (t * theta).sin() * b) / theta.sin()",
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

EXERCISES = (
    KL,
    KL_WEIGHT,
    BITS,
    ACTIVE,
    FREE_BITS,
    SCALING,
    NORMALISE,
    SLERP,
)
