"""Classifier-free guidance: how a class is followed more closely than it was learned.

Ho & Salimans, "Classifier-Free Diffusion Guidance", 2022 (arXiv:2207.12598).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ldm_tutorial.arguments import number
from ldm_tutorial.diffusion import Denoiser


def guided(
    denoiser: Callable[..., Tensor],
    y: Tensor | None,
    guidance_scale: float = 1.0,
    guidance_rescale: float = 0.0,
    no_class: int | None = None,
) -> Denoiser:
    """A denoiser for classes ``y`` with classifier-free guidance (Ho & Salimans 2022).

    The prediction is uncond + guidance_scale * (cond - uncond): 1 is the plain
    conditional model, 0 ignores the class, more than 1 exaggerates it. Guidance costs
    two evaluations a step.

    Args:
        denoiser: maps (z_t, t, y) to a prediction; ``y=None`` means no class.
        y: int64 (B,), or None for unconditional sampling.
        guidance_rescale: how far the prediction's spread, which guidance inflates, is
            brought back to that of the conditional one: 0 not, 1 all the way (Lin et
            al. 2024, eqs. 15 and 16).
        no_class: the label that stands for "no class"; with it both evaluations are
            one batch, without it the second one is a call with ``y=None``.

    Raises:
        TypeError, ValueError: for a scale that is not finite, or a share outside 0 to
            1.
    """
    check_guidance(guidance_scale, guidance_rescale)
    if y is None:
        return lambda z_t, t: denoiser(z_t, t)
    if guidance_scale == 1.0:
        return lambda z_t, t: denoiser(z_t, t, y)

    def both(z_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        if no_class is None:
            return denoiser(z_t, t, y), denoiser(z_t, t, None)
        labels = torch.cat([y, torch.full_like(y, no_class)])
        cond, uncond = denoiser(torch.cat([z_t, z_t]), t.repeat(2), labels).chunk(2)
        return cond, uncond

    def mixed(z_t: Tensor, t: Tensor) -> Tensor:
        cond, uncond = both(z_t, t)
        mix = uncond + guidance_scale * (cond - uncond)
        narrow = mix * spread(cond) / spread(mix).clamp(min=1e-6)  # 0 where all is flat
        return torch.lerp(mix, narrow, guidance_rescale)

    return mixed


def spread(x: Tensor) -> Tensor:
    """Standard deviation of each array of a batch (B, ...), shaped (B, 1, ..., 1)."""
    return x.flatten(1).std(dim=1).view(-1, *[1] * (x.ndim - 1))


def check_guidance(guidance_scale: float, guidance_rescale: float) -> None:
    number("guidance_scale", guidance_scale)
    number("guidance_rescale", guidance_rescale, 0, 1)
