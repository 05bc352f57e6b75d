"""Data sets by name or folder, all in one convention.

Every data set gives pairs (x, label): x float32 of shape (3, size, size) in [-1, 1],
or (1, size, size) where grey was asked for, and label an int that indexes the list
`classes`. Named sets are read, and on request fetched, by torchvision; a folder holds
your own images.

Splits are the data set's own where it has them. Any that is missing is a tenth of the
training images, chosen by a hash of each image's name or number: the same on every
machine, and never shared between splits.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor
from torch.utils.data import Dataset

from ldm_tutorial.arguments import whole
from ldm_tutorial.data.images import Fit, Framing, scaled, to_square
from ldm_tutorial.data.splits import SPLITS, by_hash, carve, check_split
from ldm_tutorial.disk import as_path

NAMED = ("cifar10", "fashion_mnist", "flowers102", "eurosat", "celeba")
NAMES = ("landscapes", *NAMED)
LONGEST = 1_000_000_000  # images of a data set


class Images(Protocol):
    """What a data set here promises: pairs (x, label), the side of its images in
    pixels, and the meaning of its labels."""

    @property
    def size(self) -> int: ...

    @property
    def classes(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]: ...


class Source(Protocol):
    """What a data set is made from: (PIL image, label) for an index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Any, int | None]: ...


def load_dataset(
    name: str | os.PathLike,
    size: int = 64,
    split: str = "train",
    root: str | os.PathLike | None = None,
    download: bool = False,
    seed: int = 0,
    length: int | None = None,
    *,
    fit: Fit = "crop",
    background: str = "white",
    channels: int = 3,
    skip_bad: bool = False,
) -> Images:
    """A data set of (x, label) with the attribute `classes`.

    Args:
        name: one of NAMES, or the path of a folder of images (see `load_folder`).
        size: side of the square images, a multiple of 8.
        split: "train", "validation" or "test".
        root: where named sets are kept; by default the environment variable
            LDM_TUTORIAL_DATA, else ~/.cache/ldm_tutorial.
        download: fetch a named set that is not there yet.
        seed: which landscapes are drawn, and which images `length` keeps.
        length: how many images at most; by default all there are, and of landscapes,
            which never end, 50,000 to train, 2,000 to validate and 2,000 to test.
        fit, background, channels: how images become squares, as in `Framing`.
        skip_bad: leave out the files of a folder that cannot be read.

    Raises:
        ValueError, FileNotFoundError: one line that says what is wrong and how to mend
            it.
    """
    if not isinstance(size, int) or isinstance(size, bool) or size < 8 or size % 8:
        raise ValueError(f"size must be a multiple of 8, such as 64, not {size!r}")
    check_split(split)
    whole("seed", seed, least=0)
    if length is not None:
        length = whole("length", length, most=LONGEST)
    framing = Framing(size, fit, background, channels)
    if name == "landscapes":
        from ldm_tutorial.landscapes.dataset import Landscapes  # a wing

        if channels != 3:
            raise ValueError("landscapes have 3 channels; leave channels at 3")
        return Landscapes(split, length, seed, size)
    if name in NAMED:
        data: ImageDataset = load_named(str(name), framing, split, root, download)
        paths = None
    else:
        from ldm_tutorial.data.folder import load_folder

        data = found = load_folder(
            name, split=split, skip_bad=skip_bad, **vars(framing)
        )
        paths = found.source.paths
    if length is not None and length < len(data):
        keys = [f"{seed}/{paths[i] if paths else i}" for i in range(len(data))]
        data.indices = by_hash(data.indices, keys)[:length]
    return data


class ImageDataset(Dataset):
    """Chosen items of a source of (image, label) pairs, as (x, label).

    Args:
        source: gives (PIL image, label) for an index; a label None counts as 0.
        indices: the items of the source that belong here, in order.
        framing: how an image becomes x.
        classes: the meaning of the labels.
    """

    held_out = True  # whether validation and test images are others than these

    def __init__(
        self,
        source: Source,
        indices: Sequence[int],
        framing: Framing,
        classes: list[str],
    ) -> None:
        self.source, self.indices = source, indices
        self.framing, self.size, self.classes = framing, framing.size, classes

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.source[self.indices[index]]
        return scaled(to_square(image, self.framing)), int(label or 0)


def storage_root(root: str | os.PathLike | None = None) -> Path:
    """Where named sets and what is known of folders are kept."""
    default = os.environ.get("LDM_TUTORIAL_DATA") or "~/.cache/ldm_tutorial"
    return as_path(root if root is not None else default)


def load_named(
    name: str,
    framing: Framing,
    split: str,
    root: str | os.PathLike | None,
    download: bool,
) -> ImageDataset:
    """A set that torchvision reads."""
    from torchvision import datasets

    root = storage_root(root)
    val = {"validation": "val"}.get(split, split)
    makers = {
        "cifar10": lambda: datasets.CIFAR10(root, split != "test", download=download),
        "fashion_mnist": lambda: datasets.FashionMNIST(
            root, split != "test", download=download
        ),
        "flowers102": lambda: datasets.Flowers102(root, val, download=download),
        "eurosat": lambda: datasets.EuroSAT(root, download=download),
        "celeba": lambda: datasets.CelebA(
            root, val.replace("val", "valid"), [], download=download
        ),
    }
    try:
        source = makers[name]()
    except ImportError as error:
        raise ValueError(
            f"data set {name} needs a package that is missing: pip install {error.name}"
        ) from error
    except Exception as error:  # torchvision, the network, the disk each raise theirs
        if not download:
            raise FileNotFoundError(
                f"data set {name} is not, or not whole, in {root}: fetch it with "
                "download=True (on the command line --download)"
            ) from error
        reason = " ".join(str(error).split())
        raise FileNotFoundError(
            f"cannot download data set {name} to {root}: {reason}; check the network, "
            "or put torchvision's files there by hand"
        ) from error

    classes = ["face"] if name == "celeba" else list(source.classes)
    everything = list(range(len(source)))
    if name == "eurosat":  # has no splits
        names = [
            f"{Path(path).parent.name}/{Path(path).name}" for path, _ in source.imgs
        ]
        everything = by_hash(everything, names)
        labels = [source.imgs[i][1] for i in everything]
        everything = carve(everything, SPLITS[1:], labels)[split]
    elif name in ("cifar10", "fashion_mnist") and split != "test":  # no validation
        everything = by_hash(everything, [str(i) for i in everything])
        labels = [int(source.targets[i]) for i in everything]
        everything = carve(everything, SPLITS[1:2], labels)[split]
    return ImageDataset(source, everything, framing, classes)
