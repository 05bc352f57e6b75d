"""Several processes that train one model, each on its share of a batch.

``torchrun`` and ``accelerate launch`` start them and tell each by environment variables
which one it is. Started in any other way there is one process, and nothing here does
anything.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is.

    Attributes:
        rank: 0 to world - 1; rank 0 writes files and speaks.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, with gradients that are the mean over all processes. Buffers are
        left alone: what a training keeps in them it brings together itself."""
        if self.world == 1:
            return module
        return DistributedDataParallel(module, broadcast_buffers=False)


def launched() -> Processes:
    """What the environment says of this process.

    Raises:
        ValueError: if RANK is set and WORLD_SIZE is not, or one of them is no number.
    """
    if "WORLD_SIZE" not in os.environ:
        return Processes()
    try:
        world = int(os.environ["WORLD_SIZE"])
        rank = int(os.environ.get("RANK", "0"))
    except ValueError:
        raise ValueError(
            f"RANK={os.environ.get('RANK')!r} and WORLD_SIZE="
            f"{os.environ['WORLD_SIZE']!r} are no numbers; unset both, or start with "
            "torchrun"
        ) from None
    if not 0 <= rank < world:
        raise ValueError(
            f"RANK={rank} of WORLD_SIZE={world}; unset both, or start with torchrun"
        )
    return Processes(rank, world)


def is_main_process() -> bool:
    """Whether this process writes files and speaks: of those that were started
    together, all but one stay silent."""
    return launched().is_main


@contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """Join the other processes for the time of a training, if there are any."""
    processes = launched()
    ours = processes.world > 1 and not dist.is_initialized()
    if ours:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield processes
    finally:
        if ours:
            dist.destroy_process_group()


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of a tensor over all processes that train together."""
    if dist.is_available() and dist.is_initialized():
        values = values.detach().clone()
        dist.all_reduce(values)
        return values / dist.get_world_size()
    return values


def moments_over_processes(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) of each channel of arrays z (B, C, h, w) over
    all processes that train together, with gradients."""
    if not (dist.is_available() and dist.is_initialized()):
        return z.mean((0, 2, 3)), z.std((0, 2, 3))
    world = dist.get_world_size()
    sums = torch.stack([z.sum((0, 2, 3)), z.square().sum((0, 2, 3))])
    total, squares = all_reduce(sums)  # which passes gradients back to every process
    n = world * z.numel() // z.shape[1]
    mean = total / n
    variance = (squares / n - mean.square()) * n / (n - 1)
    return mean, variance.clamp(min=0).sqrt()
