"""Which files of a folder are images: each real file once, in one order anywhere."""

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ldm_tutorial.data.images import SUFFIXES, raster_suffixes
from ldm_tutorial.disk import as_path

ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
NO_PICTURES = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "#recycle", "lost+found"}
# Suffixes that are never looked into: text, tables, and half of a download. A camera's
# raw file would show its thumbnail.
NO_IMAGES = (
    ".txt .md .rst .html .htm .xml .json .jsonl .csv .tsv .yaml .yml .ini .log .py .sh "
    ".ipynb .mat .npy .npz .pkl .pt .pth .h5 .hdf5 .db .sqlite .lmdb .parquet .arrow "
    ".pdf .doc .docx .svg .eps .ps .ai .wmf .emf .mp4 .mov .avi .mkv .webm .mp3 .wav "
    ".part .crdownload .download .tmp .bak .old .ini .lnk .url .md5 .sha256 "
    ".dng .cr2 .cr3 .nef .nrw .arw .orf .rw2 .pef .srw .raf .3fr .iiq .kdc .erf "
    ".zip .tar .tgz .gz .bz2 .xz .7z .rar"
)
OTHER = frozenset(NO_IMAGES.split())
MARKS: tuple[bytes, ...] = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
)
MARKS += (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"qoif", b"8BPS", b"DDS ")


@dataclass
class Found:
    """Files of a folder.

    Attributes:
        images: relative paths with "/" between their parts, sorted.
        left_out: for each kind of what was left out, how often and one example.
        folders: those that were read, and when each was changed (ns).
        began: when reading them began (ns).
    """

    images: list[str] = field(default_factory=list)
    left_out: dict[str, tuple[int, str]] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)
    began: int = field(default_factory=time.time_ns)

    def still_holds(self) -> bool:
        """Whether no file has come or gone since. What was read within two seconds of
        its last change may have changed again under the same time."""
        if max(self.folders.values()) > self.began - 2 * 10**9:
            return False
        try:
            now = {path: os.stat(path).st_mtime_ns for path in self.folders}
        except OSError:
            return False
        return now == self.folders

    def leave(self, what: str, path: str, n: int = 1) -> None:
        count, example = self.left_out.get(what, (0, path))
        self.left_out[what] = (count + n, example)


def find_images(folder: str | os.PathLike) -> list[tuple[str, ...]]:
    """Image files in a folder, however deep, as the parts of their relative paths."""
    return [tuple(path.split("/")) for path in find_files(folder).images]


def find_files(folder: str | os.PathLike) -> Found:
    """The images of a folder, however deep, and what was left out.

    An image is a regular file with the suffix of a raster format, or with an unknown
    suffix and the first bytes of one. A file that several paths lead to counts once:
    by its own path if that lies in the folder, else by the first link. Links to folders
    are followed, unless they lead to what is read already or to a parent. Hidden files
    and folders are left out.

    Raises:
        FileNotFoundError, ValueError: if there is no such folder, if it cannot be read,
            or if it holds no image.
    """
    folder = check_folder(folder)
    found, walk = Found(), Walk(folder)
    for path in walk.files(found):
        found.images.append(path)
    found.images.sort()
    if not found.images:
        raise ValueError(
            f"no images in folder {folder}: it needs files such as "
            + ", ".join(f"*{suffix}" for suffix in SUFFIXES)
        )
    return found


def check_folder(folder: str | os.PathLike) -> Path:
    """The folder as a path, or one line that says why it is none."""
    folder = as_path(folder)
    if folder.is_file():
        if folder.suffix.lower() in ARCHIVES:
            raise ValueError(f"{folder} is an archive: unpack it and give the folder")
        raise ValueError(f"{folder} is a file: give the folder that holds the images")
    if not folder.exists():
        from ldm_tutorial.data.sets import NAMES

        raise FileNotFoundError(
            f"no data set or folder {str(folder)!r}: give a folder of images or one of "
            + ", ".join(NAMES)
        )
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is no folder: give the folder that holds the images"
        )
    return folder


class Walk:
    """One walk through a folder: what is real first, then what links lead to."""

    def __init__(self, folder: Path):
        self.root = str(folder)
        self.absolute = os.path.abspath(folder)
        real = os.path.realpath(folder)
        parents = [real, *(str(parent) for parent in Path(real).parents)]
        self.parents = {identity(os.stat(parent)) for parent in parents}
        self.folders: set[tuple[int, int]] = set()
        self.seen: dict[int, set[int]] = {}  # by device

    def files(self, found: Found) -> Iterator[str]:
        """Relative paths of the images."""
        waiting = [""]
        links: list[str] = []
        while waiting or links:
            if waiting:
                yield from self.folder(waiting.pop(), waiting, links, found)
            else:  # all that is real was read: the links, in the order of their names
                links.sort(reverse=True)
                yield from self.link(links.pop(), waiting, found)

    def folder(
        self, place: str, waiting: list[str], links: list[str], found: Found
    ) -> Iterator[str]:
        try:
            here = os.path.join(self.root, place) if place else self.root
            info = os.stat(here)
            if identity(info) in self.folders:
                return
            self.folders.add(identity(info))
            found.folders[os.path.join(self.absolute, place)] = info.st_mtime_ns
            with os.scandir(here) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            raise ValueError(
                f"cannot read folder {error.filename}: {error.strerror}; "
                "check its permissions"
            ) from error
        for entry in entries:
            path = f"{place}/{entry.name}" if place else entry.name
            if entry.name.startswith(".") or entry.name in NO_PICTURES:
                found.leave("hidden files and folders", path)
            elif entry.is_symlink():
                links.append(path)
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            elif not entry.is_file(follow_symlinks=False):
                found.leave("no regular files", path)
            elif self.again(info.st_dev, entry.inode()):
                found.leave("links to images that count already", path)
            elif what := self.kind(path):
                found.leave(what, path)
            else:
                yield path

    def link(self, path: str, waiting: list[str], found: Found) -> Iterator[str]:
        try:
            info = os.stat(os.path.join(self.root, path))
        except OSError:
            found.leave("links to nothing", path)
            return
        if stat.S_ISDIR(info.st_mode):
            if identity(info) in self.folders | self.parents:
                found.leave("links to folders that are read already", path)
            else:
                waiting.append(path)
        elif not stat.S_ISREG(info.st_mode):
            found.leave("no regular files", path)
        elif self.again(*identity(info)):
            found.leave("links to images that count already", path)
        elif what := self.kind(path):
            found.leave(what, path)
        else:
            yield path

    def again(self, device: int, inode: int) -> bool:
        """Whether this file was met before."""
        seen = self.seen.setdefault(device, set())
        if inode and inode in seen:
            return True
        seen.add(inode)
        return False

    def kind(self, path: str) -> str | None:
        """What a file is if it is no image."""
        name = path[path.rfind("/") + 1 :]
        suffix = name[name.rfind(".") :].lower() if "." in name else ""
        if suffix in raster_suffixes():
            return None
        unknown = suffix not in OTHER and not path.endswith("~")
        if unknown and begins_like_an_image(os.path.join(self.root, path)):
            return None
        return f"*{suffix}" if suffix else "files without a suffix"


def identity(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino


def begins_like_an_image(path: str) -> bool:
    """Whether the first bytes are those of a raster format."""
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        return False
    container = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    avif = start[4:8] == b"ftyp" and start[8:12] in (b"avif", b"avis")
    return start.startswith(MARKS) or container or avif
