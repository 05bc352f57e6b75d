"""A look at every file of a folder before it is used.

Up to 200,000 images are decoded, several at a time, which finds all that cannot be
read; the squares of pixels are kept on disk, where a training finds them much faster
than in photographs. Of more images only the first and the last bytes are read. What is
known of a file holds until its size or its time of change is another one.
"""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from ldm_tutorial.data.ends import what_is_wrong
from ldm_tutorial.data.images import Framing, decode, reason, to_square
from ldm_tutorial.data.sets import storage_root
from ldm_tutorial.disk import read_json, write_json

MOST = 200_000  # images that are decoded
ROOM = 4 * 2**30  # bytes of pixels that are kept of a folder at most
LONGEST = 2**27  # bytes of what is remembered of so many
VERSION = 1

Progress = Callable[[int, int], Any]


@dataclass(frozen=True)
class Fact:
    """What is known of a file.

    Attributes:
        bytes, changed: its size, and when it was changed (ns).
        reason: why it cannot be read; "" if it can.
        format, mode, width, height, transparent: what it says of itself.
        digest: a name of its pixels as they are used: equal ones are the same picture.
        row: where its pixels are kept; -1 if they are not.
    """

    bytes: int
    changed: int
    reason: str = ""
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    transparent: bool = False
    digest: str = ""
    row: int = -1


@dataclass
class Look:
    """What is known of the files of a folder.

    Attributes:
        facts: by relative path; where only the ends were read, those of bad files.
        decoded: whether they were decoded.
        store: the file that keeps their pixels, row by row.
    """

    folder: Path
    framing: Framing
    facts: dict[str, Fact] = field(default_factory=dict)
    decoded: bool = True
    store: Path | None = None

    @property
    def bad(self) -> dict[str, str]:
        """Files that cannot be read, and why."""
        return {path: fact.reason for path, fact in self.facts.items() if fact.reason}

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.framing.channels, self.framing.size, self.framing.size)

    def holds(self, path: str) -> bool:
        """Whether what is known of a file still holds."""
        try:
            info = os.stat(self.folder / path)
        except OSError:
            return False
        fact = self.facts.get(path)
        now = info.st_size, info.st_mtime_ns
        return fact is not None and now == (fact.bytes, fact.changed)

    def pixels(self, path: str) -> np.ndarray | None:
        """Pixels (channels, size, size) if they are kept and still hold.

        They are read and not mapped: a mapped file counts as memory of the process.
        """
        fact = self.facts.get(path)
        if fact is None or fact.row < 0 or self.store is None or not self.holds(path):
            return None
        length = int(np.prod(self.shape))
        try:
            with open(self.store, "rb", buffering=0) as file:
                file.seek(fact.row * length)
                data = file.read(length)
        except OSError:
            return None
        if len(data) != length or digest_of(data) != fact.digest:
            return None  # the image is decoded again
        return np.frombuffer(bytearray(data), np.uint8).reshape(self.shape)


def look(
    folder: Path,
    paths: Sequence[str],
    framing: Framing,
    progress: Progress | None = None,
) -> Look:
    """Look at files of a folder, as far as an earlier look does not know them.

    Args:
        paths: relative to the folder.
        progress: called with how many were looked at, and of how many.
    """
    if len(paths) > MOST:
        return look_at_ends(folder, paths, framing, progress)
    old = remembered(folder, framing)
    held = {path for path in paths if old.holds(path)} if old else set()
    if old and len(held) == len(paths):
        return replace(old, facts={path: old.facts[path] for path in paths})
    place = place_of(folder, framing)
    new = Look(folder, framing, store=new_store(place, framing, len(paths)))

    def one(row: int, path: str) -> Fact:
        if old is not None and path in held:
            fact, pixels = old.facts[path], old.pixels(path)
            if fact.reason or pixels is not None:
                return keep_pixels(new, fact, row, pixels)
        fact, pixels = decoded(folder / path, framing)
        return keep_pixels(new, fact, row, pixels)

    def some(start: int) -> list[Fact]:
        return [one(i, paths[i]) for i in range(start, min(start + 16, len(paths)))]

    for facts in in_threads(some, range(0, len(paths), 16)):
        for fact in facts:
            new.facts[paths[len(new.facts)]] = fact
        if progress:
            progress(len(new.facts), len(paths))
    remember(place, new)
    return new


def decoded(path: Path, framing: Framing) -> tuple[Fact, np.ndarray | None]:
    """What decoding a file shows of it, and its pixels (channels, size, size)."""
    try:
        info = os.stat(path)
    except OSError as error:
        return Fact(0, 0, str(error.strerror).lower()), None
    stamp = info.st_size, info.st_mtime_ns
    try:
        image, facts = decode(path, framing.size, framing.background)
        pixels = to_square(image, framing)
    except Exception as error:  # broken files make decoders fail in many ways
        return Fact(*stamp, reason(error, path)), None
    return Fact(*stamp, digest=digest_of(pixels.tobytes()), **facts), pixels


def digest_of(pixels: bytes) -> str:
    return hashlib.blake2b(pixels, digest_size=12).hexdigest()


def look_at_ends(
    folder: Path, paths: Sequence[str], framing: Framing, progress: Progress | None
) -> Look:
    """A look that reads the first and last bytes of files, and remembers the bad.

    Files are taken in groups. What is known of a group holds as long as no file of it
    has another name, size or time.
    """
    place = place_of(folder, framing) / "ends.json"
    old, new, done = remembered_ends(place), {}, 0
    found, root = Look(folder, framing, decoded=False), f"{folder}/"
    groups = list(in_groups(paths))

    def one(group: Sequence[str]) -> tuple[int, str, dict[str, str]]:
        name = stamp(root, group)
        if name in old:
            return len(group), name, old[name]
        wrong = {path: what_is_wrong(root + path) for path in group}
        return len(group), name, {path: why for path, why in wrong.items() if why}

    def some(start: int) -> list[tuple[int, str, dict[str, str]]]:
        return [one(group) for group in groups[start : start + 20]]

    for part in in_threads(some, range(0, len(groups), 20)):
        for n, name, wrong in part:
            done, new[name] = done + n, wrong
            found.facts |= {path: Fact(0, 0, str(why)) for path, why in wrong.items()}
        if progress:
            progress(done, len(paths))
    if new != old:
        with suppress(OSError):  # no place to remember: the next look begins anew
            write_json(place, {"version": VERSION, "groups": new})
    return found


def in_groups(paths: Sequence[str], most: int = 1000) -> Iterator[Sequence[str]]:
    """Paths that follow each other, those of one folder together."""
    for _, inside in groupby(paths, lambda path: path.rpartition("/")[0]):
        group = list(inside)
        yield from (group[i : i + most] for i in range(0, len(group), most))


def stamp(root: str, group: Sequence[str]) -> str:
    """A name of these files as they are now."""
    said = []
    for path in group:
        try:
            info = os.stat(root + path)
            said.append(f"{path}/{info.st_size}/{info.st_mtime_ns}")
        except OSError:
            said.append(f"{path}/")
    return digest_of("\n".join(said).encode("utf-8", "surrogateescape"))


def remembered_ends(path: Path) -> dict[str, dict[str, str]]:
    """What an earlier look at ends has found: for each group of files the bad ones."""
    try:
        saved = read_json(path, longest=LONGEST)
        groups = saved["groups"] if saved["version"] == VERSION else {}
        good = all(isinstance(wrong, dict) for wrong in groups.values())
    except (OSError, ValueError, KeyError, AttributeError):
        return {}
    return groups if good else {}


def in_threads(function: Callable[[int], Any], starts: Sequence[int]) -> Iterator[Any]:
    """Results in order. Decoders run side by side, since they are no Python."""
    threads = min(8, os.cpu_count() or 1)
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        warnings.simplefilter("ignore")  # decoders warn of what they mended
        try:
            yield from pool.map(function, starts)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


# --- what is kept on disk -------------------------------------------------------------


def place_of(folder: Path, framing: Framing) -> Path:
    """Where the pixels of a folder are kept for a framing."""
    described = json.dumps([os.path.realpath(folder), astuple(framing)])
    name = hashlib.sha256(described.encode()).hexdigest()[:20]
    return storage_root() / "folders" / name


def new_store(place: Path, framing: Framing, n: int) -> Path | None:
    """An empty file for the pixels of n images, or None where there is no room."""
    length = n * framing.channels * framing.size**2
    try:
        place.mkdir(parents=True, exist_ok=True)
        if length > min(ROOM, shutil.disk_usage(place).free // 2):
            return None
        store = place / f"{uuid4().hex}.pixels"
        store.touch()
    except OSError:
        return None
    return store


def keep_pixels(new: Look, fact: Fact, row: int, pixels: np.ndarray | None) -> Fact:
    """Write the pixels of an image, and say in its fact where they are."""
    kept = -1
    if pixels is not None and new.store is not None:
        try:
            with open(new.store, "r+b", buffering=0) as file:
                file.seek(row * pixels.size)
                kept = row if file.write(pixels.tobytes()) == pixels.size else -1
        except OSError:  # such as a full disk: the image will be decoded again
            pass
    return replace(fact, row=kept)


def remember(place: Path, new: Look) -> None:
    """Write what is known, and remove pixels that nothing refers to."""
    facts = {path: astuple(fact) for path, fact in new.facts.items()}
    store = new.store.name if new.store else None
    try:
        write_json(
            place / "facts.json",
            {"version": VERSION, "folder": str(new.folder), "store": store}
            | {"facts": facts},
        )
        for path in place.glob("*.pixels"):
            if path.name != store:
                path.unlink(missing_ok=True)
    except OSError:  # no place to remember: the next look begins anew
        pass


def remembered(folder: Path, framing: Framing) -> Look | None:
    """What an earlier look has found, if it is still there and whole."""
    place = place_of(folder, framing)
    try:
        saved = read_json(place / "facts.json", longest=LONGEST)
        if saved["version"] != VERSION:
            return None
        facts = {path: Fact(*fact) for path, fact in saved["facts"].items()}
        store = place / saved["store"] if saved["store"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Look(folder, framing, facts, store=store)
