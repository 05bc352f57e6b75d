"""How foreign code is called: with a limit on its time, its exits caught, and with the
random numbers and the settings of the notebook left as they were."""

import ctypes
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class OutOfTime(BaseException):
    """A call that did not come back in time. No `except Exception` catches it."""


# What a learner's function may raise; KeyboardInterrupt is the learner's own.
RAISED = (Exception, SystemExit, GeneratorExit, OutOfTime)


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """The same random numbers in every call, and the notebook's own left alone, with
    torch's default dtype; gradients are on."""
    dtype = torch.get_default_dtype()
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.default_generator.manual_seed(seed)  # torch.manual_seed is far slower
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def leftovers(call: Callable[[], Any]) -> str:
    """What a call leaves changed for all of the notebook, in words; "" if nothing.

    A seed is found out by two calls that start differently and end alike.
    """
    ends = []
    for seed in (1, 2):
        with seeded(seed):
            before = settings()
            call()
            if settings() != before:
                return "it changes a setting of torch for the whole notebook"
            numpy: Any = np.random.get_state()  # noqa: NPY002
            states = torch.get_rng_state().tolist(), random.getstate()
            ends.append((*states, (numpy[1].tolist(), numpy[2])))
    if any(a == b for a, b in zip(*ends, strict=True)):
        return "it seeds the random numbers of the whole notebook"
    return ""


def settings() -> tuple:
    return torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in this thread after so many seconds.

    In the main thread of Linux and macOS a signal does it, which ends a sleep, too;
    elsewhere another thread asks Python to, which waits for the call in progress.
    """
    main = threading.current_thread() is threading.main_thread()
    with (
        by_signal(seconds)
        if main and hasattr(signal, "SIGALRM")
        else by_thread(seconds)
    ):
        yield


@contextmanager
def by_signal(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: Any) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again, if it was caught
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)


@contextmanager
def by_thread(seconds: float) -> Iterator[None]:
    thread = ctypes.c_ulong(threading.get_ident())
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    timer = threading.Timer(
        seconds, lambda: raise_in(thread, ctypes.py_object(OutOfTime))
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
