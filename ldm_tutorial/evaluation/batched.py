"""Many images through a model, a batch at a time."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ldm_tutorial.codec import Codec
from ldm_tutorial.noise import Generators
from ldm_tutorial.pipeline import LatentDiffusion


def through(codec: Codec, x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Images that went through a codec and back, (B, 3, H, W)."""
    return codec.decode(codec.encode(x, generator))


def decoded(codec: Codec, x: Tensor, generator: torch.Generator | None) -> Tensor:
    """The same for many images, on the CPU."""
    device = device_of(codec)
    return in_batches(lambda part: through(codec, part.to(device), generator).cpu(), x)


def device_of(codec: Codec) -> torch.device:
    return next(codec.parameters(), torch.empty(0)).device


def in_batches(function: Callable[..., Tensor], *sets: Tensor) -> Tensor:
    """``function`` of sets of images, 128 at a time."""
    parts = zip(*(x.split(128) for x in sets), strict=True)
    return torch.cat([function(*part) for part in parts])


def each_class(model: LatentDiffusion, n: int) -> Tensor:
    """Classes (n,), each in turn; zeros for an unconditional model."""
    return torch.arange(n) % max(1, len(model.classes))


def draw(
    model: LatentDiffusion,
    y: Tensor,
    steps: int,
    guidance_scale: float,
    generator: Generators,
    **options: Any,
) -> Tensor:
    """Samples (n, 3, H, W) of the classes ``y`` (n,), on the CPU; ``options`` as of
    ``LatentDiffusion.sample``, ``generator`` too: one, or one for each sample."""
    samples = []
    for rows in torch.arange(len(y)).split(128):
        one = isinstance(generator, torch.Generator)
        part = model.sample(
            len(rows),
            y=y[rows] if model.classes else None,
            steps=steps,
            guidance_scale=guidance_scale,
            generator=generator if one else generator[rows[0] : rows[-1] + 1],
            **options,
        )
        samples.append(part.cpu())
    return torch.cat(samples)


def share(right: Tensor) -> float:
    """Mean of bools (B,)."""
    return float(right.float().mean())
