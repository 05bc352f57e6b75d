"""Files: written so that nobody ever sees half of one, and read with care.

A file on disk may be damaged, of another program, or no file at all. Whoever reads one
of ours reads it through here, and gets what was written or one line that says why not.
"""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LONGEST = 2**22  # bytes of a JSON file: the largest of ours have a tenth of that
MEND = "put a copy in its place"


def as_path(text: str | os.PathLike) -> Path:
    """A path as a user writes it: ``~`` is the home folder.

    Raises:
        ValueError: for an empty text, which would mean the working folder, and for the
            home folder of nobody.
    """
    written = os.fsdecode(text)
    if not written.strip() or "\0" in written:
        raise ValueError(f"{written!r} is no path; give the name of a file or folder")
    try:
        return Path(written).expanduser()
    except RuntimeError:
        raise ValueError(
            f"{written!r} begins with the home folder of a user who is not known here; "
            "write it in full"
        ) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place to write to; what is written there takes the place of ``path`` when it is
    whole and on the disk. If that fails, the old file stays and nothing else does."""
    new = path.with_name(path.name + ".new")
    with made(path.parent), named(path, new):
        try:
            yield new
            with new.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(new, path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise


def append(path: Path, text: str) -> None:
    """Add whole lines to a file, which is made if need be. If that fails, the file is
    what it was before, or not there."""
    before = path.stat().st_size if path.exists() else None
    with named(path):
        try:
            with path.open("a") as file:
                file.write(text)
        except BaseException:
            if before is None:
                path.unlink(missing_ok=True)
            else:
                os.truncate(path, before)
            raise


@contextmanager
def made(folder: Path) -> Iterator[None]:
    """A folder, which is made if need be, with those around it. Of what was made, what
    is empty in the end is removed."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for place in missing:
            try:
                place.rmdir()
            except OSError:  # it is not empty, as it should be
                break


@contextmanager
def named(path: Path, new: Path | None = None) -> Iterator[None]:
    """Let what the system complains about have the name that a user knows: it has none
    when a disk is full, and a file that is not whole yet has another."""
    try:
        yield
    except OSError as error:
        if error.filename in (None, str(new)):
            error.filename = str(path)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader never sees half of it."""
    text = json.dumps(value, indent=2) + "\n"
    with replacing(path) as new:
        new.write_text(text)


def read_json(path: Path, mend: str = MEND, longest: int = LONGEST) -> dict[str, Any]:
    """The object that a JSON file holds.

    Args:
        mend: what to do about a file that is none, for the message.
        longest: bytes that it may have; a longer one is not read.

    Raises:
        OSError: if it is not there, or cannot be opened.
        ValueError: if it is no file, too long, no JSON, or JSON of something else.
    """
    return parsed(read_bytes(path, mend, longest), str(path), mend)


def read_bytes(path: Path, mend: str = MEND, longest: int = LONGEST) -> bytes:
    """What is in a file, unless it is no regular one (a pipe would never end), or a
    longer one than ``longest``; arguments and errors as those of ``read_json``."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} is no regular file; {mend}")
    if found.st_size > longest:
        raise ValueError(
            f"{path} has {found.st_size / 1e6:.0f} MB, and at most {longest / 1e6:.0f} "
            f"MB are expected: it is damaged, or of another program; {mend}"
        )
    return path.read_bytes()


def parsed(text: bytes, name: str, mend: str = MEND) -> dict[str, Any]:
    """The object that JSON of the name ``name`` describes; a ValueError for any
    other text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # the latter for a hundred thousand brackets
        raise ValueError(f"{name} is damaged: it is no JSON; {mend}") from None
    if not isinstance(value, dict):
        raise ValueError(
            f"{name} is damaged: it holds a {type(value).__name__} and no object; "
            f"{mend}"
        )
    return value


def get(values: dict[str, Any], key: str, kind: type, name: str) -> Any:
    """An entry of JSON that was read from the file ``name``.

    Raises:
        ValueError: if it is missing, or of another type than ``kind``.
    """
    value = values.get(key)
    if not isinstance(value, kind) or isinstance(value, bool) > (kind is bool):
        raise ValueError(
            f"{name} is damaged: its {key!r} is {type(value).__name__}, and "
            f"{kind.__name__} is expected; {MEND}"
        )
    return value
