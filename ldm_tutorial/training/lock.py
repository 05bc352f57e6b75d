"""One process to a folder: who trains in one holds a lock on it.

The system keeps the lock and takes it back when the process ends, however it ends; what
a killed run leaves behind never blocks the next one.
"""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ldm_tutorial.disk import as_path, made

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

# Folders that this process holds: which thread does, and the open file.
held: dict[tuple[int, int], tuple[int, int | None]] = {}


@contextmanager
def locked(out: str | Path | None, wanted: bool = True) -> Iterator[None]:
    """Hold a folder, which is made if need be; an empty one that was made is removed in
    the end. A thread that holds it may do so again, inside.

    Args:
        wanted: without it, or without a folder, nothing is locked.

    Raises:
        ValueError: if another process, or thread, holds it.
    """
    if out is None or not wanted:
        yield
        return
    folder = as_path(out)
    with made(folder):
        key = identity(os.stat(folder))
        if held.get(key, (None, None))[0] == threading.get_ident():
            yield
            return
        file = take(folder)
        held[key] = threading.get_ident(), file
        try:
            yield
        finally:
            del held[key]
            if file is not None:
                fcntl.flock(file, fcntl.LOCK_UN)  # a child may not have let go yet
                os.close(file)


def take(folder: Path) -> int | None:
    """An open file that holds the lock; None where the system knows no locks."""
    if fcntl is None:
        return None
    for path, how in (
        (folder, os.O_RDONLY),
        (folder / ".lock", os.O_RDWR | os.O_CREAT),  # a network may lock files alone
    ):
        try:
            file = os.open(path, how)
        except OSError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError as error:
            os.close(file)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise ValueError(
                    f"{folder} is in use by another process that trains there; wait "
                    "until it ends, stop it, or choose another folder"
                ) from None
    return None


def identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def let_go() -> None:
    """A child that was forked, such as one that makes batches, holds nothing: it may
    live on for a moment when its parent was killed."""
    for _, file in held.values():
        if file is not None:
            os.close(file)
    held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=let_go)
