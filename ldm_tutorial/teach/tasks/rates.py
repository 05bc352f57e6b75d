"""Exercises on what a latent costs: in bits, in other units, element by element."""

import math

import torch
from torch import Tensor

from ldm_tutorial.evaluation import latents
from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.teach.task import Case, Exercise
from ldm_tutorial.teach.tasks.inputs import randn
from ldm_tutorial.training import losses


def kl_weight_from_sums(
    weight: float, pixel_values: int, latent_elements: int
) -> float:
    return losses.kl_weight_from("sums", weight, pixel_values, latent_elements)


KL_WEIGHT = Exercise(
    name="kl_weight",
    chapter=2,
    difficulty=2,
    trains="converting a weight that every paper states in another unit",
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
        "A sum is its mean times the number of terms. Put that in, and collect what "
        "stands before mean(KL).",
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
        "sum of both": (
            lambda w, n_x, n_z: w * n_z / (n_x + n_z),
            "the two numbers were added below; the error is a mean over the pixels "
            "alone",
        ),
        "root": (
            lambda w, n_x, n_z: w * (n_z / n_x) ** 0.5,
            "a root was taken of the ratio; sums and means differ by the number itself",
        ),
        "difference": (
            lambda w, n_x, n_z: w * (n_x - n_z),
            "the numbers were subtracted; sums and means differ by a factor",
        ),
    },
    source=(losses.kl_weight_from, losses.nats_factor),
)


def rate_in_bits(kl: Tensor) -> Tensor:
    """Bits an image for the divergences (B, C, h, w) of its elements in nats."""
    return kl.sum((1, 2, 3)) / math.log(2)


BITS = Exercise(
    name="bits",
    chapter=2,
    difficulty=1,
    trains="a rate, and its unit",
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
        "One nat is 1 / ln 2 bits. Do you multiply by ln 2, or divide?",
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
        "logarithm of the sum": (
            lambda kl: kl.sum((1, 2, 3)).log2(),
            "the logarithm was taken of the divergence, which is a logarithm already; "
            "its unit is converted by a factor",
        ),
        "logarithm of each": (
            lambda kl: kl.log2().sum((1, 2, 3)),
            "the logarithm was taken of each divergence, which is a logarithm "
            "already; its unit is converted by a factor",
        ),
    },
)


def active_units(mu: Tensor, logvar: Tensor, least: float) -> float:
    return latents.active_units(DiagonalGaussian(mu, logvar), least)


def few_units() -> tuple[Tensor, Tensor, float]:
    """Of four elements, one speaks for a single image of ten, and one never."""
    mu = torch.zeros(10, 4)
    mu[0, 0], mu[:, 1], mu[:, 2] = 2.0, 1.0, 0.4
    return mu, torch.zeros(10, 4), 0.05


def spreads() -> tuple[Tensor, Tensor, float]:
    """Four elements that spend 0.81, 0.18, 0.035 and 0.025 nats by their variance."""
    logvar = torch.tensor([math.log(4.0), -1.0, -0.4, 0.3]).repeat(10, 1)
    return torch.zeros(10, 4), logvar, 0.04


def posteriors() -> tuple[Tensor, Tensor, float]:
    """Elements that are collapsed, half awake and awake."""
    scale = torch.tensor([0.0, 0.25, 0.4, 1.5]).view(-1, 1, 1).repeat(1, 4, 4)
    scale[0, 1, 2], scale[3, 0] = 1.0, 0.0  # channels are not all alike inside
    mu = randn(1, 64, 4, 4, 4) * scale
    return mu, 0.1 * randn(2, 64, 4, 4, 4), 0.05


def with_least(least: float) -> tuple[Tensor, Tensor, float]:
    return *few_units()[:2], least


def nats(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar)


ACTIVE = Exercise(
    name="active_units",
    chapter=2,
    difficulty=2,
    trains="a statistic over images, its steps in the right order",
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
        "Compare the averages with least: that is true or false for each element, "
        "and the share of true ones is a mean of numbers.",
    ),
    misconceptions={
        "counted per image": (
            lambda mu, logvar, least: (nats(mu, logvar) >= least).double().mean(),
            "elements were counted in each image; an element that speaks up for one "
            "image in ten is active, so average over the images first",
        ),
        "for any image": (
            lambda mu, logvar, least: (
                (nats(mu, logvar) >= least).any(0).double().mean()
            ),
            "an element was counted that spends enough for any one image; average "
            "over the images first",
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
        "in bits": (
            lambda mu, logvar, least: (
                (nats(mu, logvar).mean(0) / math.log(2) >= least).double().mean()
            ),
            "the divergence was converted to bits; `least` is in nats",
        ),
        "moments averaged": (
            lambda mu, logvar, least: (
                (nats(mu.mean(0), logvar.mean(0)) >= least).double().mean()
            ),
            "mu and logvar were averaged over the images, where means of either sign "
            "cancel; average the divergence",
        ),
    },
    source=(latents.active_units,),
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
    difficulty=2,
    trains="a bound that stops a gradient, and where the mean belongs",
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
        "Three steps in this order: mean over the batch, bound from below, mean "
        "over what is left.",
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
