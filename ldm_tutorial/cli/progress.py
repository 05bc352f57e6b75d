"""Progress bars on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ldm_tutorial.training.loop import is_main_process


@contextmanager
def counting(what: str, unit: str = "image") -> Iterator[Callable[[int, int], Any]]:
    """A callback (done, total) that draws a bar, and wipes it when all is done."""
    from tqdm.auto import tqdm

    bar = tqdm(
        desc=what, unit=unit, leave=False, delay=0.5, disable=not is_main_process()
    )

    def progress(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    try:
        yield progress
    finally:
        bar.close()


@contextmanager
def judging_bar() -> Iterator[Callable[[str, int, int], Any]]:
    """A callback (what, done, total) that draws a bar for each thing that is judged."""
    from tqdm.auto import tqdm

    bars: dict[str, tqdm] = {}

    def progress(what: str, done: int, total: int) -> None:
        if what not in bars:
            close()
            silent = not is_main_process()
            bars[what] = tqdm(
                desc=what,
                total=total,
                unit="image",
                leave=False,
                disable=silent,
                delay=1,
            )
        bars[what].update(done - bars[what].n)

    def close() -> None:
        for bar in bars.values():
            bar.close()

    try:
        yield progress
    finally:
        close()
