"""Batches that are the same whenever a run goes on: each step's indices are known."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain, count, islice
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from ldm_tutorial.data import batch_of
from ldm_tutorial.training.config import TrainConfig

FETCHED = 256  # images of 64 x 64 pixels, or as many pixels, that are fetched at once
RESERVED = {"step", "loss", "validation_loss", "learning_rate", "seconds", "skipped"}


class StepSampler(Sampler):
    """Indices of each step's batch: shuffled epochs, known for any step at once. A
    batch that is larger than the data set repeats all its images about equally often.

    Raises:
        ValueError: if a batch does not divide among the processes and the parts it is
            computed in.
    """

    def __init__(self, n: int, config: TrainConfig, start: int, rank: int, world: int):
        size = config.batch_size
        if size % (world * config.accumulate):
            parts = f" in {config.accumulate} parts" if config.accumulate > 1 else ""
            raise ValueError(
                f"batch_size={size} does not divide among {world} processes{parts}; "
                f"give a multiple of {world * config.accumulate}"
            )
        self.n, self.config, self.start = n, config, start
        self.rank, self.world = rank, world
        self.size = size // world

    def __iter__(self) -> Iterator[list[int]]:
        return self.batches(self.start)

    def batches(self, start: int) -> Iterator[list[int]]:
        """The same from another step on."""
        size, seed = self.config.batch_size, self.config.seed
        times = -(-size // self.n)  # 1, unless a batch is larger than the data set
        per_epoch = times * self.n // size
        epoch, order = -1, torch.empty(0)
        for step in range(start, self.config.steps):
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                shuffle = torch.Generator().manual_seed(hash((seed, epoch)) % 2**63)
                shuffled = [
                    torch.randperm(self.n, generator=shuffle) for _ in range(times)
                ]
                order = torch.cat(shuffled)
            first = (step % per_epoch) * size
            yield order[first : first + size][self.rank :: self.world].tolist()


class GroupSampler(Sampler):
    """The indices of ``count`` steps at once, from step ``first`` on."""

    def __init__(self, sampler: StepSampler, first: int, count: int):
        self.sampler, self.first, self.count = sampler, first, count

    def __iter__(self) -> Iterator[list[int]]:
        steps = self.sampler.batches(self.first)
        while group := list(islice(steps, self.count)):
            yield list(chain.from_iterable(group))


def batches(dataset: Dataset, sampler: StepSampler) -> Iterator[tuple[int, list[Any]]]:
    """(step, parts of its batch) for every step from ``sampler.start`` to the last.

    An item may be anything that torch's default collation knows: a tensor, numbers,
    strings, and tuples or dictionaries of them.

    Batches are fetched several at a time, because an image costs less to draw beside
    many others. The groups are the same wherever a training goes on, and so are the
    images, to the last bit.
    """
    config, size = sampler.config, sampler.size
    if sampler.start == config.steps:
        return
    count_of_steps = max(1, batch_of(getattr(dataset, "size", 64), FETCHED) // size)
    first = sampler.start // count_of_steps * count_of_steps
    loader = DataLoader(
        dataset,
        batch_sampler=GroupSampler(sampler, first, count_of_steps),
        num_workers=config.num_workers,
        collate_fn=partial(collate_parts, size // config.accumulate),
        generator=torch.Generator().manual_seed(config.seed),
    )
    parts = chain.from_iterable(loader)
    for step in count(first):
        batch = list(islice(parts, config.accumulate))
        if not batch:
            return
        if step >= sampler.start:
            yield step, batch


def collate_parts(size: int, items: list[Any]) -> list[Any]:
    """The items of several batches as parts of ``size`` items each."""
    chunks = (items[i : i + size] for i in range(0, len(items), size))
    return [default_collate(chunk) for chunk in chunks]


def loss_of(
    module: Callable[..., Any], batch: Any, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """``module`` of one batch: what a tuple holds becomes arguments of their own, and
    any other batch is the only one. The generator is handed over by its name. What is
    to be logged may be plain numbers.

    Raises:
        TypeError: if the module returns anything but a scalar loss and a dictionary of
            scalars.
        ValueError: for a name that the loop writes itself.
    """
    arguments = batch if isinstance(batch, tuple | list) else (batch,)
    found = module(*arguments, generator=generator)
    pair = isinstance(found, tuple | list) and len(found) == 2
    loss, values = found if pair else (None, None)
    if not isinstance(loss, Tensor) or not isinstance(values, Mapping):
        raise TypeError(
            f"the module to train returned a {type(found).__name__}; let it return "
            "(loss, {name: number to log}), with {} for none"
        )
    if taken := RESERVED & values.keys():
        raise ValueError(
            f"the module to train logs {', '.join(sorted(taken))}, which the loop "
            "writes itself; log it by another name"
        )
    logged = {k: torch.as_tensor(v, device=loss.device) for k, v in values.items()}
    for name, value in {"the loss": loss, **logged}.items():
        if value.numel() != 1:
            raise TypeError(
                f"{name} has shape {tuple(value.shape)}; return one number, such as "
                "the mean"
            )
    return loss.reshape(()), {k: v.reshape(()) for k, v in logged.items()}


def moved(batch: Any, device: torch.device, channels_last: bool = False) -> Any:
    """The batch with its tensors on a device; what is no tensor stays as it is."""

    def move(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if channels_last and value.ndim == 4:
            value = value.contiguous(memory_format=torch.channels_last)
        return value.to(device, non_blocking=True)

    return tree_map(move, batch)
