"""Where noise comes from: standard normal numbers that are the same on any device."""

from collections.abc import Sequence

import torch
from torch import Tensor

# Where random numbers come from: one source for a batch, or one for each image.
Generators = torch.Generator | Sequence[torch.Generator]


def normal_like(x: Tensor, generator: Generators | None = None) -> Tensor:
    """Standard normal numbers with the shape, device and dtype of ``x``.

    A generator that lives on another device (a CPU generator gives the same numbers
    on every machine) draws there, and the numbers are moved. A list of generators, one
    for each of the B rows of ``x``, gives each row the numbers that it would get alone.

    Raises:
        ValueError: if there are more or fewer generators than rows.
    """
    if isinstance(generator, Sequence):
        if len(generator) != len(x):
            raise ValueError(
                f"{len(generator)} generators were given for {len(x)} rows; give one "
                "for each"
            )
        return torch.stack([normal_like(x[i], g) for i, g in enumerate(generator)])
    device = x.device if generator is None else generator.device
    eps = torch.randn(x.shape, generator=generator, device=device, dtype=torch.float32)
    return eps.to(device=x.device, dtype=x.dtype)


def in_float32(x: Tensor) -> Tensor:
    """``x`` in float32, or as it is where it is more precise."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def generators(seed: int, n: int, start: int = 0) -> list[torch.Generator]:
    """Generators of the images ``start`` to ``start + n`` of a seed, on the CPU.

    Image i of a seed is the same in a batch of any size, and on any device, for its
    random numbers depend on nothing but ``seed`` and i.
    """
    first = torch.Generator().manual_seed(seed)
    seeds = torch.randint(2**32, (start + n,), generator=first)[start:].tolist()
    return [torch.Generator().manual_seed(s) for s in seeds]
