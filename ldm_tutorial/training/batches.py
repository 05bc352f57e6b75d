"""Batches that are the same whenever a run goes on: each step's indices are known."""

from collections.abc import Iterator
from itertools import chain, count, islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ldm_tutorial.training.config import TrainConfig

FETCHED = 256  # images that are fetched at a time, unless a batch is larger


class StepSampler(Sampler):
    """Indices of each step's batch: shuffled epochs, known for any step at once."""

    def __init__(self, n: int, config: TrainConfig, start: int, rank: int, world: int):
        size = config.batch_size
        if size > n:
            raise ValueError(
                f"batch_size={size} is more than the {n} images of the data set; "
                f"give at most {n}, or more images"
            )
        if size % world:
            raise ValueError(
                f"batch_size={size} does not divide among {world} processes; "
                f"give a multiple of {world}"
            )
        self.n, self.config, self.start = n, config, start
        self.rank, self.world = rank, world
        self.size = size // world

    def __iter__(self) -> Iterator[list[int]]:
        return self.batches(self.start)

    def batches(self, start: int) -> Iterator[list[int]]:
        """The same from another step on."""
        size, seed = self.config.batch_size, self.config.seed
        per_epoch = self.n // size
        epoch, order = -1, torch.empty(0)
        for step in range(start, self.config.steps):
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                shuffle = torch.Generator().manual_seed(hash((seed, epoch)) % 2**63)
                order = torch.randperm(self.n, generator=shuffle)
            first = (step % per_epoch) * size
            yield order[first : first + size][self.rank :: self.world].tolist()


class GroupSampler(Sampler):
    """The indices of ``together`` steps at once, from step ``first`` on."""

    def __init__(self, sampler: StepSampler, first: int, together: int):
        self.sampler, self.first, self.together = sampler, first, together

    def __iter__(self) -> Iterator[list[int]]:
        steps = self.sampler.batches(self.first)
        while group := list(islice(steps, self.together)):
            yield list(chain.from_iterable(group))


def batches(dataset: Dataset, sampler: StepSampler) -> Iterator[tuple[int, Any]]:
    """(step, batch) for every step from ``sampler.start`` to the last.

    Batches are fetched several at a time, because an image costs less to draw beside
    many others. The groups are the same wherever a training goes on, and so are the
    images, to the last bit.
    """
    config, size = sampler.config, sampler.size
    if sampler.start == config.steps:
        return
    together = max(1, FETCHED // size)
    first = sampler.start // together * together
    loader = DataLoader(
        dataset,
        batch_sampler=GroupSampler(sampler, first, together),
        num_workers=config.num_workers,
        generator=torch.Generator().manual_seed(config.seed),
    )
    for step, group in zip(count(first, together), loader, strict=False):
        parts = zip(*(b.split(size) for b in group), strict=True)
        yield from ((s, b) for s, b in enumerate(parts, step) if s >= sampler.start)
