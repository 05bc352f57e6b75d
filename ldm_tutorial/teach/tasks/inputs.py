"""What the cases of the exercises are made of."""

import torch
from torch import Tensor


def randn(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers that are the same on every machine."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def column(*values: float) -> Tensor:
    """Values for each image of a batch of latents, shape (B, 1, 1, 1)."""
    return torch.tensor(values).view(-1, 1, 1, 1)


def first(value: float) -> Tensor:
    """A batch of one latent with a single number."""
    return torch.full((1, 1, 1, 1), value)


def noised(a: Tensor, z_0: Tensor, eps: Tensor) -> Tensor:
    return a.sqrt() * z_0 + (1 - a).sqrt() * eps


def batch(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two arrays and a level of noise for each image."""
    return randn(seed, 3, 4, 2, 5), randn(seed + 1, 3, 4, 2, 5), column(0.9, 0.5, 0.1)


def a_step() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        randn(5, 3, 4, 2, 5),
        randn(6, 3, 4, 2, 5),
        column(0.6, 0.3, 0.05),
        column(0.9, 0.5, 0.06),
    )


def mean_and_std(z: Tensor) -> Tensor:
    return torch.stack([z.mean(), z.std()])
