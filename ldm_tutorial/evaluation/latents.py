"""What a latent space looks like: the diagnostics of an autoencoder's latents.

Latents are (N, C, h, w), raw or of unit scale; `q` is the posterior of a batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ldm_tutorial.arguments import alike, number
from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.metrics import psnr


def active_units(q: DiagonalGaussian, least: float = 0.05) -> float:
    """Share of the latent elements that spend at least this many nats on average.

    A collapsed element's posterior is the prior for every image, at no cost (Burda et
    al. 2015 count the variance of the means instead, to the same end).
    """
    return float((q.kl().mean(0) >= least).float().mean())


def moments(z: Tensor) -> dict[str, float]:
    """Mean, standard deviation and kurtosis (3 for a Gaussian) of all elements."""
    centred = z - z.mean()
    variance = centred.square().mean()
    kurtosis = (centred**4).mean() / variance**2
    return {
        "mean": float(z.mean()),
        "std": float(variance.sqrt()),
        "kurtosis": float(kurtosis),
    }


def correlations(z: Tensor) -> dict[str, float]:
    """How much elements know of each other, as absolute correlations in [0, 1].

    channels: the largest between two channels at one place; neighbours: the mean over
    channels of that between a place and the next one to its right.
    """
    by_channel = z.transpose(0, 1).flatten(1)
    across = torch.corrcoef(by_channel).reshape(z.shape[1], -1).fill_diagonal_(0)
    beside = [
        torch.corrcoef(torch.stack([c[..., :-1].flatten(), c[..., 1:].flatten()]))[0, 1]
        for c in z.unbind(1)
    ]
    return {
        "channels": float(across.abs().max()),
        "neighbours": float(torch.stack(beside).abs().mean()),
    }


def radial_spectrum(z: Tensor) -> Tensor:
    """Mean power at each whole frequency 0, 1, ... in cycles per image, (h/2 + 1,).

    The power of white noise of unit variance is 1 at every frequency; that of images,
    and of latents that are still pictures, falls.
    """
    h, w = z.shape[-2:]
    power = torch.fft.fft2(z, norm="ortho").abs().square().mean((0, 1))  # (h, w)
    fy, fx = torch.fft.fftfreq(h, 1 / h), torch.fft.fftfreq(w, 1 / w)
    radius = (fy[:, None] ** 2 + fx**2).sqrt().round().long()
    count = min(h, w) // 2 + 1
    return torch.stack([power[radius == r].mean() for r in range(count)])


@torch.no_grad()
def decode_under_noise(
    codec: LatentCodec,
    z: Tensor,
    sizes: Sequence[float],
    generator: torch.Generator | None = None,
) -> list[float]:
    """PSNR in dB between the decodings of clean and of noised latents.

    Args:
        z: latents of unit scale.
        sizes: standard deviations of the noise that is added.
    """
    clean = codec.decode(z)
    eps = torch.randn(z.shape, generator=generator, device=z.device)
    return [float(psnr(codec.decode(z + s * eps), clean).mean()) for s in sizes]


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Spherical interpolation from ``a`` (t = 0) to ``b`` (t = 1), of one shape.

    Independent Gaussian vectors lie near a sphere; a straight line between two of them
    cuts through its empty inside, this one stays at its surface. Where the two are
    parallel, or one is 0, the arc is the straight line.

    Raises:
        TypeError, ValueError: for arrays that are not floats of one shape, or a t that
            is not finite.
    """
    alike("a", a, "b", b)
    number("t", float(t))
    lengths = a.norm() * b.norm()
    angle = torch.acos(((a * b).sum() / lengths).clamp(-1, 1))
    if lengths == 0 or angle.sin() < 1e-3:  # (nearly) one line: no arc, or no one arc
        return torch.lerp(a, b, t)
    return (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin()


def effective_dimensions(z: Tensor) -> float:
    """How many patterns share the variance of latents (n, C, h, w): the participation
    ratio (sum of eigenvalues)^2 / (sum of their squares) of the covariance of whole
    latents. 1 if a single pattern holds it all, C h w if all directions hold alike; it
    cannot exceed n - 1."""
    z = z.flatten(1)
    z = (z - z.mean(0)) / (len(z) - 1) ** 0.5
    eigenvalues = torch.linalg.svdvals(z.double()).square()
    return float(eigenvalues.sum() ** 2 / eigenvalues.square().sum())
