"""Which images a training or an evaluation is about, and how they are handed on."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from ldm_tutorial.data.folder import FolderDataset, refuse_bad
from ldm_tutorial.data.images import Fit, Framing
from ldm_tutorial.data.sets import Images, load_dataset


@dataclass(frozen=True)
class DataConfig:
    """Which images.

    Attributes:
        data: landscapes, cifar10, fashion_mnist, flowers102, eurosat, celeba, or a
            folder of images.
        size: side of the images in pixels, a multiple of 8.
        length: how many training images; null for all there are.
        download: fetch a named set that is not on disk yet.
        fit: crop takes the largest central square of an image, pad keeps all of it.
        background: colour under what is transparent and around what is padded, by name
            or as #rrggbb.
        channels: 3 for colour, 1 for grey.
        flip: train on the mirror image of every image as well.
        skip_bad: go on without the files of a folder that cannot be read.
    """

    data: str = "landscapes"
    size: int = 64
    length: int | None = None
    download: bool = False
    fit: Fit = "crop"
    background: str = "white"
    channels: int = 3
    flip: bool = False
    skip_bad: bool = False

    @property
    def framing(self) -> Framing:
        return Framing(self.size, self.fit, self.background, self.channels)

    def load(self, split: str, length: int | None = None) -> Images:
        """The images of a split, as they are; see `training_set` for mirror images."""
        return load_dataset(
            self.data,
            size=self.size,
            split=split,
            length=length,
            download=self.download,
            fit=self.fit,
            background=self.background,
            channels=self.channels,
            skip_bad=self.skip_bad,
        )

    def training_set(self) -> Images:
        """What a training sees: ``length`` images, and their mirror images if asked.

        Raises:
            ValueError: if files of the folder cannot be read: it names them all.
        """
        found = self.load("train", self.length)
        if isinstance(found, FolderDataset):
            refuse_bad(found)
        return Mirrored(found) if self.flip else found


def data_config(values: dict[str, Any], **changes: Any) -> DataConfig:
    """The images of a recipe that was read from JSON, with some fields changed."""
    names = {field.name for field in fields(DataConfig)}
    known = {k: v for k, v in values.items() if k in names}
    return DataConfig(**known | {k: v for k, v in changes.items() if v is not None})


class Mirrored(Dataset):
    """A data set, and after it the mirror images of all its images."""

    def __init__(self, dataset: Images):
        self.dataset, self.size = dataset, dataset.size
        self.classes = dataset.classes

    def __len__(self) -> int:
        return 2 * len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        n = len(self.dataset)
        x, label = self.dataset[index % n]
        return (x.flip(-1) if index >= n else x), label


def batch_of(size: int, at_64: int = 128) -> int:
    """How many images of ``size`` x ``size`` pixels take the memory of ``at_64`` of 64
    x 64: so many are held at once."""
    return max(1, min(at_64, at_64 * 64**2 // size**2))


def as_torch(dataset: Images) -> Dataset[tuple[Tensor, int]]:
    """The same data set, for torch, whose loaders take whatever has items and a length
    and say that they want a class of theirs."""
    return cast(Dataset[tuple[Tensor, int]], dataset)


def stream(
    dataset: Images, n: int, batch_size: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """The first ``n`` images and classes of a data set (or all of fewer) in batches,
    one at a time; by default of 128 images of 64 x 64 pixels, or as many pixels."""
    chosen = Subset(as_torch(dataset), range(min(n, len(dataset))))
    yield from DataLoader(chosen, batch_size=batch_size or batch_of(dataset.size))


def images(dataset: Images, n: int, batch_size: int = 128) -> list[Tensor]:
    """The first ``n`` images of a data set (or all of fewer), in batches."""
    return list(whole(dataset, n)[0].split(batch_size))


def whole(dataset: Images, n: int) -> tuple[Tensor, Tensor]:
    """The first ``n`` images and classes of a data set as two tensors."""
    x, y = zip(*stream(dataset, n, 256), strict=True)
    return torch.cat(x), torch.cat(y)
