"""Data sets by name or folder, all in one convention.

Every data set gives pairs (x, label): x float32 of shape (3, size, size) in [-1, 1],
and label an int that indexes the list `classes`. Named sets are read, and on request
fetched, by torchvision; a folder holds your own images, nested by class or flat.

Splits are the data set's own where it has them. Any that is missing is a tenth of the
training images, chosen by a hash of each image's name or number: the same on every
machine, and never shared between splits.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

if TYPE_CHECKING:
    from PIL.Image import Image

SPLITS = ("train", "validation", "test")
NAMED = ("cifar10", "fashion_mnist", "flowers102", "eurosat", "celeba")
NAMES = ("landscapes", *NAMED)
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
SPLIT_FOLDERS = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}


def load_dataset(
    name: str | os.PathLike,
    size: int = 64,
    split: str = "train",
    root: str | os.PathLike | None = None,
    download: bool = False,
    seed: int = 0,
    length: int | None = None,
) -> Dataset:
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

    Raises:
        ValueError, FileNotFoundError: one line that says what is wrong and how to mend
            it.
    """
    if not isinstance(size, int) or isinstance(size, bool) or size < 8 or size % 8:
        raise ValueError(f"size must be a multiple of 8, such as 64, not {size!r}")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    if length is not None and length < 1:
        raise ValueError(f"length must be at least 1, not {length!r}")
    if name == "landscapes":
        from ldm_tutorial.landscapes.dataset import Landscapes  # a wing

        return Landscapes(split, length, seed, size)
    if name in NAMED:
        data = load_named(str(name), size, split, root, download)
    else:
        data = load_folder(name, size, split)
    if length is not None:
        chosen = _by_hash(range(len(data)), lambda i: f"{seed}/{i}")[:length]
        data.indices = [data.indices[i] for i in chosen]
    return data


class ImageDataset(Dataset):
    """Chosen items of a source of (image, label) pairs, as (x, label).

    Args:
        source: gives (PIL image, label) for an index; a label None counts as 0.
        indices: the items of the source that belong here, in order.
        size: side of x.
        classes: the meaning of the labels.
    """

    def __init__(
        self, source: Sequence, indices: Sequence[int], size: int, classes: list[str]
    ) -> None:
        self.source, self.indices = source, list(indices)
        self.size, self.classes = size, classes

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.source[self.indices[index]]
        return to_tensor(image, self.size), int(label or 0)


class ImageFiles(Sequence):
    """Image files as (PIL image, label) pairs."""

    def __init__(self, files: Sequence[tuple[Path, int]]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> "tuple[Image, int]":
        path, label = self.files[index]
        return read_image(path), label


# --- images ---------------------------------------------------------------------------


def read_image(path: str | os.PathLike) -> "Image":
    """Any image file as upright 8-bit RGB; an animation gives its first frame."""
    from PIL import Image

    if not os.path.exists(path):
        raise FileNotFoundError(f"no image file {path}: was it moved or deleted?")
    try:
        with Image.open(path) as image:
            return to_rgb(image)
    except Exception as error:  # broken files make decoders fail in many ways
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"cannot read image {path}: {reason}; replace or remove the file"
        ) from error


def to_rgb(image: "Image") -> "Image":
    """A PIL image of any mode, turned upright; what is transparent becomes white."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("its pixels are floats of unknown range; save it as 8-bit")
    if image.mode.startswith("I"):  # 16-bit grey, which PIL would clip to 8 bits
        grey = np.array(image).clip(0, 65535) / 257
        image = Image.fromarray(grey.round().astype("uint8"))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def to_tensor(image: "Image", size: int) -> Tensor:
    """The largest central square, scaled to (3, size, size) float32 in [-1, 1]."""
    from PIL import Image, ImageOps

    square = ImageOps.fit(to_rgb(image), (size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 127.5 - 1


# --- splits ---------------------------------------------------------------------------


def _by_hash(items: Sequence, key: Callable[..., str]) -> list:
    """Items in an order that looks random and depends only on their keys."""
    return sorted(items, key=lambda item: hashlib.sha256(key(item).encode()).digest())


def _carve(items: list, missing: Sequence[str]) -> dict[str, list]:
    """Take a tenth of the items for each missing split; the rest is for training."""
    share = max(1, round(len(items) / 10))
    parts = {}
    for split in missing:
        taken = share if len(items) > 1 else 0  # the last one is for training
        parts[split], items = items[:taken], items[taken:]
    return parts | {"train": items}


# --- named sets -----------------------------------------------------------------------


def load_named(
    name: str, size: int, split: str, root: str | os.PathLike | None, download: bool
) -> ImageDataset:
    """A set that torchvision reads."""
    from torchvision import datasets

    default = os.environ.get("LDM_TUTORIAL_DATA", "~/.cache/ldm_tutorial")
    root = Path(root if root is not None else default).expanduser()
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
    except (
        Exception
    ) as error:  # torchvision, the network and the disk each raise theirs
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
    everything = range(len(source))
    if name == "eurosat":  # has no splits
        names = [
            f"{Path(path).parent.name}/{Path(path).name}" for path, _ in source.imgs
        ]
        everything = _by_hash(everything, names.__getitem__)
        everything = _carve(everything, ("validation", "test"))[split]
    elif name in ("cifar10", "fashion_mnist") and split != "test":  # no validation
        everything = _carve(_by_hash(everything, str), ("validation",))[split]
    return ImageDataset(source, everything, size, classes)


# --- folders --------------------------------------------------------------------------


def find_images(folder: str | os.PathLike) -> list[tuple[str, ...]]:
    """Image files in a folder, however deep, as the parts of their relative paths.

    Hidden files and folders, and files of other kinds, are left out.
    """
    folder = Path(folder).expanduser()
    if folder.is_file():
        if folder.suffix.lower() in ARCHIVES:
            raise ValueError(f"{folder} is an archive: unpack it and give the folder")
        raise ValueError(f"{folder} is a file: give the folder that holds the images")
    if not folder.exists():
        raise FileNotFoundError(
            f"no data set or folder {str(folder)!r}: give a folder of images or one of "
            + ", ".join(NAMES)
        )

    def fail(error: OSError) -> None:
        raise ValueError(
            f"cannot read folder {error.filename}: {error.strerror}; "
            "check its permissions"
        ) from error

    found = []
    for place, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files = [Path(place, file) for file in files if not file.startswith(".")]
        images = [file for file in files if file.suffix.lower() in SUFFIXES]
        found += [file.relative_to(folder).parts for file in images]
    if not found:
        raise ValueError(
            f"no images in folder {folder}: it needs files such as "
            + ", ".join(f"*{suffix}" for suffix in SUFFIXES)
        )
    return found


def load_folder(folder: str | os.PathLike, size: int, split: str) -> ImageDataset:
    """A folder of images: flat, or one subfolder for each class.

    Subfolders named train, val (or valid, validation) and test are taken as splits,
    each flat or nested by class. Images come in a fixed order that mixes the classes.
    """
    folder, found = Path(folder).expanduser(), find_images(folder)
    tops = {parts[0].lower() for parts in found if len(parts) > 1}
    splits = tops & SPLIT_FOLDERS.keys()
    parts_of = {}
    if splits and (splits == tops or ("train" in splits and len(splits) > 1)):
        for top, *parts in found:
            if parts and top.lower() in SPLIT_FOLDERS:
                place = SPLITS[SPLIT_FOLDERS[top.lower()]]
                parts_of.setdefault(place, []).append((top, *parts))
        depth = 1
    else:
        parts_of, depth = {"train": found}, 0

    used = [parts for group in parts_of.values() for parts in group]
    classes = sorted({parts[depth] for parts in used if len(parts) > depth + 1})
    loose = [parts for parts in used if len(parts) == depth + 1]
    if classes and loose:
        raise ValueError(
            f"{folder} holds both class folders ({classes[0]}) and images beside them "
            f"({'/'.join(loose[0])}): move those into the folder of their class"
        )
    parts_of = {name: _by_hash(group, "/".join) for name, group in parts_of.items()}
    missing = [name for name in SPLITS[1:] if name not in parts_of]
    if "train" in parts_of:
        parts_of |= _carve(parts_of["train"], missing)
    if not parts_of.get(split):
        raise ValueError(
            f"no images for the {split} split in folder {folder}: add some to "
            f"{folder / split}, or give all images without split folders"
        )
    label = {name: i for i, name in enumerate(classes)}
    files = [
        (folder.joinpath(*parts), label[parts[depth]] if classes else 0)
        for parts in parts_of[split]
    ]
    return ImageDataset(
        ImageFiles(files), range(len(files)), size, classes or [folder.resolve().name]
    )


@dataclass(frozen=True)
class DataConfig:
    """Which images.

    Attributes:
        data: landscapes, cifar10, fashion_mnist, flowers102, eurosat, celeba, or a
            folder of images.
        size: side of the images in pixels, a multiple of 8.
        length: how many training images; null for all there are.
        download: fetch a named set that is not on disk yet.
    """

    data: str = "landscapes"
    size: int = 64
    length: int | None = None
    download: bool = False

    def load(self, split: str, length: int | None = None) -> Dataset:
        return load_dataset(
            self.data,
            size=self.size,
            split=split,
            length=length,
            download=self.download,
        )


def images(dataset: Dataset, n: int, batch_size: int = 128) -> list[Tensor]:
    """The first ``n`` images of a data set (or all of fewer), in batches."""
    return list(whole(dataset, n)[0].split(batch_size))


def whole(dataset: Dataset, n: int) -> tuple[Tensor, Tensor]:
    """The first ``n`` images and classes of a data set as two tensors."""
    chosen = torch.utils.data.Subset(dataset, range(min(n, len(dataset))))
    x, y = zip(*DataLoader(chosen, batch_size=256), strict=True)
    return torch.cat(x), torch.cat(y)
