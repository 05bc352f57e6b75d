"""A folder of images as a data set."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ldm_tutorial.data.files import Found, check_folder, find_files
from ldm_tutorial.data.images import Framing, read_image, scaled, to_square
from ldm_tutorial.data.layout import Layout, understand
from ldm_tutorial.data.look import Look, Progress, look, remembered
from ldm_tutorial.data.sets import ImageDataset, Images
from ldm_tutorial.data.splits import check_split

if TYPE_CHECKING:
    from PIL.Image import Image


class ImageFiles:
    """Image files as (PIL image, label) pairs.

    Attributes:
        folder: where they lie.
        paths: relative to the folder, with "/" between their parts.
        labels: their classes.
    """

    def __init__(
        self, folder: Path, items: Sequence[tuple[str, int]], framing: Framing
    ):
        self.folder, self.framing = folder, framing
        self.paths = [path for path, _ in items]
        self.labels = [label for _, label in items]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> "tuple[Image, int]":
        image = read_image(
            self.folder / self.paths[index], self.framing.size, self.framing.background
        )
        return image, self.labels[index]

    @property
    def files(self) -> list[tuple[Path, int]]:
        """(path, label) of every file."""
        pairs = zip(self.paths, self.labels, strict=True)
        return [(self.folder / path, label) for path, label in pairs]


class FolderDataset(ImageDataset):
    """The images of one split of a folder. What a look at the folder has decoded before
    is taken from there, if the file has not changed since."""

    source: ImageFiles

    def __init__(
        self,
        source: ImageFiles,
        framing: Framing,
        layout: Layout,
        found: Found,
        known: Look | None,
    ):
        super().__init__(source, range(len(source)), framing, layout.classes)
        self.layout, self.found, self.known = layout, found, known
        self.held_out = layout.held_out

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        source, i = self.source, self.indices[index]
        if self.known is not None:
            pixels = self.known.pixels(source.paths[i])
            if pixels is not None:
                return scaled(pixels), source.labels[i]
        return scaled(to_square(source[i][0], self.framing)), source.labels[i]


def load_folder(
    folder: str | os.PathLike,
    size: int,
    split: str,
    skip_bad: bool = False,
    **framing: Any,
) -> FolderDataset:
    """One split of a folder of images, in a fixed order that mixes the classes.

    ``files`` says which files count as images, ``layout`` what folders mean. Splits
    that are missing are carved from the training images; where these are too few,
    validation and test are the training images again, and ``held_out`` is false.

    Args:
        skip_bad: look at all files first, and leave out those that cannot be read.
        framing: fit, background and channels, as in ``Framing``.

    Raises:
        ValueError, FileNotFoundError: one line that says what is wrong.
    """
    check_split(split)
    frame = Framing(size, **framing)
    folder = check_folder(folder)
    files = files_of(folder)
    images = files.found.images
    known = look(folder, images, frame) if skip_bad else remembered(folder, frame)
    bad = known.bad if skip_bad and known else ()
    found, layout = files.without(frozenset(bad))
    items = layout.images.get(split) or layout.images["train"]
    return FolderDataset(ImageFiles(folder, items, frame), frame, layout, found, known)


@dataclass
class Files:
    """What was found in a folder, and what it was understood to mean."""

    folder: Path
    place: str
    found: Found
    layouts: dict[frozenset[str], tuple[Found, Layout]] = field(default_factory=dict)

    def without(self, bad: frozenset[str]) -> tuple[Found, Layout]:
        """Files and layout without those that cannot be read."""
        if bad not in self.layouts:
            found = replace(self.found, left_out=dict(self.found.left_out))
            if bad:
                found.images = [path for path in found.images if path not in bad]
                for path in sorted(bad):
                    found.leave("unreadable images", path)
            if not found.images:
                raise ValueError(f"no image in folder {self.folder} can be read")
            name = self.folder.resolve().name
            self.layouts[bad] = found, understand(str(self.folder), name, found)
        return self.layouts[bad]


latest: list[Files] = []  # the folder that was read last: a command asks for it often


def files_of(folder: Path) -> Files:
    """The files of a folder, which is read anew if any has come or gone."""
    place = os.path.realpath(folder)
    for known in latest:
        if known.place == place and known.found.still_holds():
            return known
    latest[:] = [Files(folder, place, find_files(folder))]
    return latest[0]


NAMED_AT_MOST = 50  # files in one message


def look_at(data: FolderDataset, progress: Progress | None = None) -> Look:
    """Look at all files of a data set's folder; what is decoded serves it from now."""
    files = data.source
    data.known = look(files.folder, data.found.images, data.framing, progress)
    return data.known


def digests(data: Images) -> dict[str, str]:
    """What a look has noted of the images of a folder: a digest of each by its name.
    Nothing of so many that they were not decoded, nor of other data sets."""
    if not isinstance(data, FolderDataset) or data.known is None:
        return {}
    paths, facts = data.source.paths, data.known.facts
    names = [paths[i] for i in data.indices]
    return {name: facts[name].digest for name in names if name in facts}


def refuse_bad(data: FolderDataset) -> None:
    """Look at all files, and name all that cannot be read in one ValueError."""
    bad = look_at(data).bad
    if not bad:
        return
    named = [f"{path} ({why})" for path, why in list(bad.items())[:NAMED_AT_MOST]]
    if len(bad) > len(named):
        named.append(f"and {len(bad) - len(named)} more")
    raise ValueError(
        f"{len(bad)} of {len(data.found.images)} images in {data.source.folder} cannot "
        f"be read: {', '.join(named)}; replace or remove them, or go on without them "
        "(--skip_bad)"
    )
