"""Exercises on training: its data, its weights, its average."""

import math

import torch
from torch import Tensor

from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.teach.task import Case, Exercise
from ldm_tutorial.teach.tasks.inputs import first, randn
from ldm_tutorial.training.tasks import CachedLatentTraining


def latents_from_cache(
    moments: Tensor, eps: Tensor, mean: Tensor, std: Tensor
) -> Tensor:
    """Latents of unit scale, sampled with ``eps`` from cached moments (B, 2C, h, w)."""
    q = DiagonalGaussian(*moments.chunk(2, dim=1))
    return (q.mu + q.std * eps - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)


def a_cache() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mean, std = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.5, 2.0, 3.0])
    return randn(1, 2, 6, 4, 5), randn(2, 2, 3, 4, 5), mean, std


def from_cache(scale=None, norm=None, halves=None):
    """Latents from a cache, with a slip in one of the three steps."""

    def f(moments, eps, mean, std):
        mean, std = mean.view(-1, 1, 1), std.view(-1, 1, 1)
        mu, logvar = halves(moments) if halves else moments.chunk(2, dim=1)
        raw = mu + (scale(logvar) if scale else (0.5 * logvar).exp()) * eps
        return norm(raw, mean, std) if norm else (raw - mean) / std

    return f


CACHED = Exercise(
    name="cached_latents",
    chapter=3,
    difficulty=1,
    trains="what is worth keeping of an encoder",
    title="latents from the cache",
    prompt=(
        "The cache holds for each image what the frozen encoder puts out: `moments` "
        "(B, 2C, h, w), the mean in the first C channels and the logvar in the others. "
        "Make of it a training latent: sample with the noise `eps` (B, C, h, w), then "
        "bring it to unit scale with the codec's `mean` and `std`, both (C,)."
    ),
    reference=latents_from_cache,
    lines="3 lines",
    cases=(
        Case(
            lambda: (
                torch.tensor([5.0, 2 * math.log(2.0)]).view(1, 2, 1, 1),
                first(1.0),
                torch.tensor([1.0]),
                torch.tensor([3.0]),
            ),
            expected=first(2.0),
            note="moments = [5, ln 4] (μ = 5, σ = 2), eps = 1, mean = [1], std = [3]",
        ),
        Case(a_cache, note="random moments (2, 6, 4, 5), three channels"),
    ),
    hints=(
        "mu, logvar = moments.chunk(2, dim=1) cuts the channels in two.",
        "Chapter 1's reparameterise(mu, logvar, eps) samples, chapter 2's "
        "normalise(raw, mean, std) scales.",
        "Sample first, then bring the sample to unit scale, with the statistics "
        "shaped so that they meet the channels.",
    ),
    misconceptions={
        "variance as sigma": (
            from_cache(scale=lambda logvar: logvar.exp()),
            "exp(logvar) is the variance; the noise is scaled with its root",
        ),
        "logvar as sigma": (
            from_cache(scale=lambda logvar: logvar),
            "logvar was used as if it were σ",
        ),
        "no sampling": (
            from_cache(scale=torch.zeros_like),
            "the noise has no effect: every epoch would see the very same latents",
        ),
        "unit noise": (
            from_cache(scale=torch.ones_like),
            "the noise is not scaled: logvar has no effect",
        ),
        "not normalised": (
            from_cache(norm=lambda raw, mean, std: raw),
            "these are raw latents; mean and std were not used",
        ),
        "multiplied": (
            from_cache(norm=lambda raw, mean, std: (raw - mean) * std),
            "multiplied by std; divide",
        ),
        "the way back": (
            from_cache(norm=lambda raw, mean, std: raw * std + mean),
            "this is the way back, from unit scale to raw latents",
        ),
        "scaled twice": (
            from_cache(norm=lambda raw, mean, std: (raw - mean) / std**2),
            "the scale was applied twice",
        ),
        "along the columns": (
            lambda moments, eps, mean, std: (
                (
                    moments.chunk(2, dim=1)[0]
                    + (0.5 * moments.chunk(2, dim=1)[1]).exp() * eps
                    - mean
                )
                / std
            ),
            "mean and std, (C,), were lined up with the columns, not with the channels",
        ),
        "halves exchanged": (
            from_cache(halves=lambda m: m.chunk(2, dim=1)[::-1]),
            "mean and logvar are exchanged: the mean is in the first channels",
        ),
        "mean taken last": (
            from_cache(norm=lambda raw, mean, std: raw / std - mean),
            "the mean was subtracted after the division; subtract it first",
        ),
        "halves of the batch": (
            from_cache(halves=lambda m: m.chunk(2)),
            "the batch was cut in two; the channels are dimension 1, .chunk(2, dim=1)",
        ),
        "every other channel": (
            from_cache(halves=lambda m: (m[:, ::2], m[:, 1::2])),
            "every other channel was taken; the first half of them is the mean",
        ),
        "only the mean normalised": (
            lambda moments, eps, mean, std: (
                (moments.chunk(2, dim=1)[0] - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
                + (0.5 * moments.chunk(2, dim=1)[1]).exp() * eps
            ),
            "only the mean was brought to unit scale; the sample, noise included, "
            "should be",
        ),
    },
    source=(latents_from_cache, CachedLatentTraining),
)


def min_snr_weight(snr: Tensor, gamma: float) -> Tensor:
    """Weight of the eps loss at times of this signal-to-noise ratio (Hang et al. 2023,
    arXiv:2303.09556, sec. 3.4)."""
    return (gamma / snr).clamp(max=1)


def ratios() -> Tensor:
    return torch.tensor([0.01, 0.5, 5.0, 50.0, 1000.0])


MIN_SNR = Exercise(
    name="min_snr",
    chapter=4,
    difficulty=2,
    trains="what a weight on one target means for another",
    title="min-SNR weights",
    prompt=(
        "Early times, where hardly any noise is left, teach little and count as much "
        "as all others in the plain loss. Hang et al. (2023) bound them: a squared "
        "error of $z_0$ gets the weight $\\min(\\mathrm{SNR}, \\gamma)$. A network "
        "that predicts the *noise* makes an error of $z_0$ that is $1 / "
        "\\mathrm{SNR}$ times its own, squared. With which weight must its own "
        "squared error stand in the loss, so that its error of $z_0$ is weighed as "
        "they say? Return it for the ratios `snr` (B,). Where no signal is left, SNR "
        "is 0: there it is what it is for the smallest SNR above 0."
    ),
    reference=min_snr_weight,
    cases=(
        Case(
            lambda: (torch.tensor([1.0, 5.0, 10.0]), 5.0),
            expected=torch.tensor([1.0, 1.0, 0.5]),
        ),
        Case(
            lambda: (torch.tensor([0.0, 2.0, 8.0]), 4.0),
            expected=torch.tensor([1.0, 1.0, 0.5]),
        ),
        Case(lambda: (ratios(), 5.0)),
        Case(lambda: (ratios(), 2.5)),
    ),
    hints=(
        "Weight times own error must be min(SNR, γ) times the error of z_0, and the "
        "error of z_0 is the own one over SNR.",
        "Noisy times have a small SNR: there the minimum is the SNR itself. What is "
        "the weight, then?",
        "Written as the smaller of two numbers, one for each side of γ, nothing can "
        "become 0 / 0. (.clamp(max=...) takes the smaller one.)",
    ),
    misconceptions={
        "for x0": (
            lambda snr, gamma: snr.clamp(max=gamma),
            "this is the weight for a network that predicts x0; for the noise divide "
            "by the SNR",
        ),
        "for v": (
            lambda snr, gamma: snr.clamp(max=gamma) / (snr + 1),
            "this is the weight for a network that predicts v; for the noise divide by "
            "the SNR alone",
        ),
        "maximum": (
            lambda snr, gamma: snr.clamp(min=gamma) / snr,
            "the maximum was taken; the minimum bounds the weight",
        ),
        "no bound": (
            lambda snr, gamma: gamma / snr,
            "the minimum is missing: noisy times would weigh without bound",
        ),
        "multiplied": (
            lambda snr, gamma: snr.clamp(max=gamma) * snr,
            "multiplied by the SNR; divide",
        ),
        "upside down": (
            lambda snr, gamma: snr / snr.clamp(max=gamma),
            "the fraction is upside down: times with little noise should count less",
        ),
        "one over": (
            lambda snr, gamma: 1 / snr.clamp(max=gamma),
            "this is one over the minimum",
        ),
        "nothing at 0": (
            lambda snr, gamma: (snr.clamp(max=gamma) / snr).nan_to_num(0.0),
            "at SNR 0 the weight came out as 0; there it is what it is for the "
            "smallest SNR above 0, that is 1",
        ),
        "divided twice": (
            lambda snr, gamma: snr.clamp(max=gamma) / snr.clamp(min=1e-8) ** 2,
            "divided by the SNR twice; once makes of the one error the other",
        ),
        "scaled to mean one": (
            lambda snr, gamma: (
                min_snr_weight(snr, gamma) / min_snr_weight(snr, gamma).mean()
            ),
            "the weights were divided by their mean; each is asked for as it is",
        ),
    },
)


def ema_update(average: Tensor, current: Tensor, decay: float) -> Tensor:
    """The new average: a share ``decay`` of the old one and the rest of ``current``."""
    return torch.lerp(current, average, decay)


EMA = Exercise(
    name="ema",
    chapter=3,
    difficulty=1,
    trains="an average that forgets slowly",
    title="an average of the weights",
    prompt=(
        "Samples come from an exponential moving average of the weights. Return the "
        "new average: a share `decay`, such as 0.999, of the old `average`, and the "
        "rest of the `current` weights."
    ),
    reference=ema_update,
    cases=(
        Case(
            lambda: (torch.tensor([1.0]), torch.tensor([2.0]), 0.9),
            expected=torch.tensor([1.1]),
        ),
        Case(lambda: (randn(1, 5, 3), randn(2, 5, 3), 0.99)),
        Case(lambda: (randn(3, 4), randn(4, 4), 0.0)),
    ),
    hints=(
        "The two shares add up to one.",
        "decay is close to 1 so that the average moves slowly: it belongs to the old "
        "average.",
        "A sum of two products: each array with its share.",
    ),
    misconceptions={
        "shares exchanged": (
            lambda a, c, d: (1 - d) * a + d * c,
            "the shares are exchanged: with decay 0.999 the average would forget "
            "nearly everything at each step",
        ),
        "not normalised": (
            lambda a, c, d: d * a + c,
            "current needs the share 1 - decay; so the average grows without bound",
        ),
        "plain mean": (
            lambda a, c, d: (a + c) / 2,
            "this is the plain mean of the two, whatever the decay",
        ),
        "added": (
            lambda a, c, d: a + (1 - d) * c,
            "the old average needs the share decay; so it grows without bound",
        ),
        "difference turned": (
            lambda a, c, d: a + (1 - d) * (a - c),
            "the average moves away from the current weights: the difference is turned",
        ),
    },
)
