"""Asked to stop: by Ctrl-C, by a cluster that wants its node back (SIGTERM), by a
terminal that was closed (SIGHUP).

While a training runs, the first such signal waits for the end of the step, a checkpoint
is written, and ``Stopped`` is raised; a second one does not wait. Elsewhere it is
raised at once. Only the command line listens: in a notebook Ctrl-C stays what it is.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)  # Windows knows no SIGHUP
]


class Stopped(KeyboardInterrupt):
    """Raised where a signal ends the work; ``signal`` is its number."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.signal = number


class Asked:
    """What this process was asked."""

    process: int | None = None  # which one listens: a forked child does not
    patient: int = 0  # trainings that look for themselves
    signal: int | None = None


@contextmanager
def listening() -> Iterator[None]:
    """Turn the signals into ``Stopped`` for a while."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    Asked.process, Asked.signal, Asked.patient = os.getpid(), None, 0
    for number, handler in before.items():
        if handler is not signal.SIG_IGN or number == signal.SIGINT:  # under nohup
            signal.signal(number, answer)
    try:
        yield
    finally:
        Asked.process, Asked.signal = None, None
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def answer(number: int, frame: FrameType | None = None) -> None:
    """What is done at a signal."""
    if os.getpid() != Asked.process:
        return
    waits = Asked.patient and Asked.signal is None
    Asked.signal = number
    if not waits:
        raise Stopped(number)


@contextmanager
def at_the_end_of_a_step() -> Iterator[None]:
    """Let signals wait: the training inside looks for them with ``asked``."""
    Asked.patient += 1
    try:
        yield
    except Exception:
        stop_if_asked()  # the signal has hit a process that makes batches, too
        raise
    finally:
        Asked.patient -= 1
    stop_if_asked()


def asked(device: "torch.device", together: bool) -> bool:
    """Whether this process was asked to stop; with several that train ``together``,
    whether any was. All must look at the same time."""
    if not together:
        return Asked.signal is not None
    import torch
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return Asked.signal is not None
    number = torch.tensor(Asked.signal or 0, device=device)
    dist.all_reduce(number, dist.ReduceOp.MAX)
    Asked.signal = int(number) or None
    return Asked.signal is not None


def stop_if_asked() -> None:
    """
    Raises:
        Stopped: if a signal came.
    """
    if Asked.signal is not None:
        raise Stopped(Asked.signal)
