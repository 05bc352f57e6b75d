"""Where a command begins and ends: whatever goes wrong becomes one line.

Nothing heavy is imported before Ctrl-C would be answered.
"""

import re
import sys
from typing import NoReturn

from ldm_tutorial.cli.streams import guarded, repaired
from ldm_tutorial.stopping import Stopped, listening
from ldm_tutorial.text import printable

RESUME = ("train-vae", "train-ldm", "train-scenenet", "reproduce")
SMALLER = "take a smaller batch, smaller images or fewer of them"


def main(arguments: list[str] | None = None) -> None:
    """Run one command; see ``ldm-tutorial --help``."""
    if arguments is None:
        repaired()
        arguments = sys.argv[1:]
    with guarded():
        try:
            with listening():
                from ldm_tutorial.cli.main import run

                run(arguments)
                sys.stdout.flush()
        except (ValueError, OSError, OverflowError) as error:
            fail(in_words(error))
        except (RuntimeError, MemoryError) as error:
            fail(in_words_of_torch(error))
        except KeyboardInterrupt as stop:
            number = stop.signal if isinstance(stop, Stopped) else 2
            fail(farewell(stop, arguments), status=128 + number)


def fail(message: object, status: int = 2) -> NoReturn:
    """End in one line on stderr."""
    text = printable(" ".join(str(message).split()))
    print(f"ldm-tutorial: error: {text}", file=sys.stderr)
    raise SystemExit(status)


def farewell(stop: KeyboardInterrupt, arguments: list[str]) -> str:
    """What is said when a signal has ended a command, and how to go on."""
    said = "stopped"
    if isinstance(stop, Stopped) and "SIGINT" not in str(stop):
        said = str(stop)
    resumes = bool(arguments) and arguments[0] in RESUME
    again = "; the same command again goes on from the last checkpoint"
    return said + again * resumes


def in_words(error: Exception) -> str:
    """What the system complains about, without numbers and brackets; of an error in a
    process that makes batches, what it was about and not where."""
    if isinstance(error, OSError) and error.strerror:
        where = f"open or write {error.filename}" if error.filename else "write"
        return f"cannot {where}: {error.strerror.lower()}"
    if isinstance(error, OverflowError):
        return f"a number is too large: {error}"
    text = str(error)
    if re.match(r"Caught \w+ in DataLoader worker", text):
        told = re.split(r"^[\w.]+(?:Error|Exception): ", text, flags=re.M)
        return told[-1]
    return text


def in_words_of_torch(error: Exception) -> str:
    """What torch says where an input was too large.

    Raises:
        Exception: the error itself, if it is none of these: a mistake of ours.
    """
    text = str(error).lower()
    if "dataloader worker" in text and "killed" in text:
        return f"a process that makes batches was killed, as for its memory; {SMALLER}"
    large = ("memory", "overflow", "storage size", "numel: integer multiplication")
    if isinstance(error, MemoryError) or any(word in text for word in large):
        return f"out of memory; {SMALLER}"
    raise error
