"""Several processes that train one model, each on its share of a batch.

``torchrun`` starts them and tells each by environment variables which one it is.
Started in any other way there is one process, and nothing here does anything.

Process r of w has the rows r, r + w, ... of a batch. Noise is drawn for the whole batch
by all (``noise.SharedGenerator``), and what depends on the whole batch is reduced here:
so w processes take the course that one takes on the same batch, but for the order of
sums.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ldm_tutorial.noise import SharedGenerator


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
        with warnings.catch_warnings():  # the argument's new name is not in torch 2.9
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(module, broadcast_buffers=False)

    def share(self, rows: Sequence[int]) -> Sequence[int]:
        """Those of a batch's rows that are this process's: all, if they are too few
        to share."""
        return rows if len(rows) < self.world else rows[self.rank :: self.world]

    def generator(self, device: torch.device) -> torch.Generator:
        """What the noise of a training is drawn with."""
        if self.world == 1:
            return torch.Generator(device)
        return SharedGenerator(device, self.rank, self.world)

    @contextmanager
    def shared_dropout(self, module: nn.Module) -> Iterator[torch.Generator | None]:
        """Let the dropout of a module hide, on the rows of every process, what it would
        hide of the whole batch. Gives the generator of the masks, if there are several
        processes."""
        if self.world == 1:
            yield None
            return
        masks = torch.Generator(next(module.parameters()).device)
        layers = [part for part in module.modules() if type(part) is nn.Dropout]
        for layer in layers:
            layer.forward = partial(self._drop, layer, masks)  # type: ignore[method-assign]
        try:
            yield masks
        finally:
            for layer in layers:
                del layer.forward

    def _drop(self, layer: nn.Dropout, masks: torch.Generator, x: Tensor) -> Tensor:
        if not layer.training or not layer.p:
            return x
        whole = x.new_empty(len(x) * self.world, *x.shape[1:])
        stays = whole.bernoulli_(1 - layer.p, generator=masks)[self.rank :: self.world]
        return x * stays / (1 - layer.p or 1)


def launched() -> Processes:
    """What the environment says of this process.

    Raises:
        ValueError: if RANK and WORLD_SIZE are no numbers of processes, or nothing says
            where these meet.
    """
    if "WORLD_SIZE" not in os.environ:
        return Processes()  # a lone RANK is what some schedulers set for all they start
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
    missing = {"RANK", "MASTER_ADDR", "MASTER_PORT"} - os.environ.keys()
    if world > 1 and missing:
        raise ValueError(
            f"WORLD_SIZE={world} without {', '.join(sorted(missing))}; unset it, or "
            "start with torchrun, which sets them all"
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
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield processes
    finally:
        if ours:
            dist.destroy_process_group()


_alone = False


@contextmanager
def each_alone() -> Iterator[None]:
    """Let every process do the same by itself for a while: nothing is reduced."""
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def together() -> bool:
    """Whether there are other processes that do their share of this batch."""
    return dist.is_available() and dist.is_initialized() and not _alone


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of a tensor over all processes that train together."""
    if together():
        values = values.detach().clone()
        dist.all_reduce(values)
        return values / dist.get_world_size()
    return values


class SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs, since
    what one of them makes of the sum depends on the tensors of all."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


def moments_over_processes(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) of each channel of arrays z (B, C, h, w) over
    all processes that train together, with gradients."""
    if not together():
        return z.mean((0, 2, 3)), z.std((0, 2, 3))
    n = SumOverProcesses.apply(z.new_tensor(float(z.numel() // z.shape[1])))
    mean = SumOverProcesses.apply(z.sum((0, 2, 3))) / n
    squares = (z - mean.view(-1, 1, 1)).square().sum((0, 2, 3))
    return mean, (SumOverProcesses.apply(squares) / (n - 1)).sqrt()


@torch.no_grad()
def std_over_processes(z: Tensor) -> Tensor:
    """The standard deviation of all numbers in the arrays (B, C, h, w) of all processes
    that train together, a scalar."""
    if not together():
        return z.std()
    return moments_over_processes(z.reshape(-1, 1, 1, 1))[1].squeeze()
