"""A checkpoint on disk: whole or not there, and read with care.

``torch.save`` writes a zip archive, which holds a checksum of each of its parts. torch
does not look at them; here they are verified, so that a bit that has flipped stops a
run instead of changing it.
"""

import os
import stat
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ldm_tutorial.disk import replacing

# What each has, and of which type.
PARTS: dict[str, type | tuple[type, ...]] = {
    "module": dict,
    "ema": dict,
    "optimizer": dict,
    "step": int,
    "seconds": (int, float),
    "config": dict,
}


class Sink:
    """A file to write to that remembers what went wrong: torch turns it into an error
    of its own."""

    def __init__(self, file: BinaryIO):
        self.file, self.flush = file, file.flush
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that a crash leaves the old one or the new one.

    Raises:
        OSError: if there is no room for it; the old one is still there.
    """
    with replacing(path) as new, checksums(), new.open("wb") as file:
        sink = Sink(file)
        try:
            torch.save(state, sink)  # type: ignore[arg-type]
        except Exception:
            if sink.error is None:
                raise
            raise sink.error from None


@contextmanager
def checksums() -> Iterator[None]:
    """Let torch write them, whatever the caller has set."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(True)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


def read_checkpoint(out: Path) -> dict[str, Any] | None:
    """The checkpoint in a folder, or None if there is none. Its tensors are read from
    the file when they are used.

    Raises:
        OSError: if it cannot be opened.
        ValueError: if it is damaged, or something else.
    """
    path = out / "checkpoint.pt"
    if not os.path.lexists(path):
        return None
    if path.is_file():
        path.open("rb").close()  # complains if that is not permitted
    try:
        verify(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        good = isinstance(saved, dict) and all(
            isinstance(saved[name], kind) for name, kind in PARTS.items()
        )
        if good and saved["step"] >= 0:
            return saved
    except Exception:  # a broken file makes torch fail in many ways
        pass
    raise ValueError(
        f"{path} is damaged or no checkpoint; put a copy in its place, or move it away "
        "to train from the start"
    )


def verify(path: Path) -> None:
    """Hold every part of a zip archive against its checksum.

    Raises:
        ValueError, zipfile.BadZipFile: if one does not fit, or was not written by us:
            what is compressed could be larger than memory.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("no regular file")
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        plain = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
        if not plain or sum(part.file_size for part in parts) > found.st_size:
            raise ValueError("compressed")
        if bad := archive.testzip():
            raise ValueError(f"the checksum of {bad} is another one")
