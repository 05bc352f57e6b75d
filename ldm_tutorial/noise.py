"""Where noise comes from: random numbers that are the same on any device, and however
many processes share a batch."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ldm_tutorial.arguments import whole

# Where random numbers come from: one source for a batch, or one for each image.
Generators = torch.Generator | Sequence[torch.Generator]


class SharedGenerator(torch.Generator):
    """What one of several processes draws with that train on a batch together.

    The process has the rows rank, rank + world, ... of the batch. What is drawn through
    ``drawn`` and ``normal_like`` is drawn for the whole batch from ``common``, which
    every process seeds alike, and each keeps its rows: so a batch has the same noise
    however many processes share it. What a module draws with it in any other way
    belongs to this process alone.

    Attributes:
        count: rows of the whole batch where the processes have unequal shares; None
            where each has as many as the others.
    """

    def __new__(cls, device: torch.device | str, rank: int, world: int):
        return super().__new__(cls, device)  # type: ignore[call-arg]

    def __init__(self, device: torch.device | str, rank: int, world: int):
        self.rank, self.world = rank, world
        self.common = torch.Generator(device)
        self.count: int | None = None


def drawn(
    draw: Callable[..., Tensor],
    shape: Sequence[int],
    generator: torch.Generator | None,
    device: torch.device,
) -> Tensor:
    """``draw(shape)`` for one of torch's random functions (``torch.rand``, say) and a
    shape (B, ...), on the generator's device, or on ``device`` without a generator.

    Raises:
        TypeError: for a generator that is none.
    """
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator is of type {type(generator).__name__}; give a torch.Generator, "
            "such as torch.Generator().manual_seed(0)"
        )
    if not isinstance(generator, SharedGenerator):
        where = device if generator is None else generator.device
        return draw(shape, generator=generator, device=where)
    whole = generator.count or shape[0] * generator.world
    of_all = (whole, *shape[1:])
    rows = draw(of_all, generator=generator.common, device=generator.device)
    return rows[generator.rank :: generator.world]


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
    normal = partial(torch.randn, dtype=torch.float32)
    eps = drawn(normal, x.shape, generator, x.device)
    return eps.to(device=x.device, dtype=x.dtype)


def in_float32(x: Tensor) -> Tensor:
    """``x`` in float32, or as it is where it is more precise."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def generators(seed: int, n: int, start: int = 0) -> list[torch.Generator]:
    """Generators of the images ``start`` to ``start + n`` of a seed, on the CPU.

    Image i of a seed is the same in a batch of any size, and on any device, for its
    random numbers depend on nothing but ``seed`` and i.

    Raises:
        TypeError, ValueError: for numbers below 0 or that are not whole.
    """
    whole("seed", seed, 0, 2**63 - 1)
    whole("n", n, 0)
    whole("start", start, 0)
    first = torch.Generator().manual_seed(seed)
    seeds = torch.randint(2**32, (start + n,), generator=first)[start:].tolist()
    return [torch.Generator().manual_seed(s) for s in seeds]
