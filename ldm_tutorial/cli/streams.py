"""Standard output and error as they may be: closed, a pipe that nobody reads any more,
or a terminal that knows no more than ASCII. None of it ends a command."""

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from ldm_tutorial.text import printable

PLAIN = {"±": "+-", "…": "...", "–": "-", "×": "x", "→": "->", "█": "#"}


def in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Characters that a terminal does not know, in those that it knows."""
    assert isinstance(error, UnicodeEncodeError)
    given = error.object[error.start : error.end]
    told = (PLAIN.get(c) or ascii(c)[1:-1] for c in given)
    return "".join(told), error.end


codecs.register_error("ldm-tutorial", in_ascii)


class Stream:
    """A stream that is written to as long as somebody reads it.

    Args:
        file: what it stands for.
        out: whether it is for results: nothing in them steers a terminal, and a full
            disk behind them is an error. What goes to stderr may be lost.
    """

    def __init__(self, file: TextIO, out: bool):
        self.file, self.out, self.gone = file, out, False

    def write(self, text: str) -> int:
        if self.gone:
            return len(text)
        if self.out:
            text = "".join(
                line if line in ("\n", "\t") else printable(line)
                for line in split_at_ends(text)
            )
        try:
            return self.file.write(text)
        except UnicodeEncodeError:
            known = self.file.encoding or "ascii"
            self.file.write(text.encode(known, "ldm-tutorial").decode(known))
        except (OSError, ValueError) as error:
            self.give_up(error)
        return len(text)

    def flush(self) -> None:
        if self.gone:
            return
        try:
            self.file.flush()
        except (OSError, ValueError) as error:
            self.give_up(error)

    def give_up(self, error: Exception) -> None:
        """Let what is still to come go nowhere, and not to the interpreter."""
        self.gone = True
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.file.fileno())
            os.close(nowhere)
        full = isinstance(error, OSError) and not isinstance(error, BrokenPipeError)
        if self.out and full:
            raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def split_at_ends(text: str) -> Iterator[str]:
    """The parts of a text, and between them the characters that part it."""
    part = ""
    for c in text:
        if c in "\n\t":
            yield part
            yield c
            part = ""
        else:
            part += c
    yield part


def repaired() -> None:
    """Open what was closed, onto nothing: the next file that is opened would take its
    place, and get what is meant for a terminal."""
    for number, name, mode in (
        (0, "stdin", "r"),
        (1, "stdout", "w"),
        (2, "stderr", "w"),
    ):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
        if getattr(sys, name) is None:
            file = open(number, mode, closefd=False)  # noqa: SIM115
            setattr(sys, name, file)


@contextmanager
def guarded() -> Iterator[None]:
    """Let what is printed go through ``Stream``."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Stream(sys.stdout, True), Stream(sys.stderr, False)  # type: ignore[assignment]
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        sys.stdout, sys.stderr = before
