"""What an exercise is, and how an answer to it is called."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Property = tuple[str, Callable[[Callable], bool]]


@dataclass(frozen=True)
class Case:
    """One call of the learner's function.

    Attributes:
        make: builds the arguments afresh, so that nothing a function does to them
            reaches another call.
        expected: the answer, if it is known on paper; None asks the reference.
        measure: what to compare of an output, a moment of a random one for instance;
            None compares every value.
        note: what the inputs are, where their values would not fit on a line.
        rtol, atol: how far values may be apart.
    """

    make: Callable[[], tuple]
    expected: Any = None
    measure: Callable[[Tensor], Tensor] | None = None
    note: str = ""
    rtol: float = 1e-4
    atol: float = 1e-5


@dataclass(frozen=True)
class Exercise:
    """A task, its answer and what usually goes wrong, as data.

    Attributes:
        name: what ``check`` and ``hint`` call it.
        chapter: 1 to 5.
        minutes: how long it takes.
        title: a few words for the scoreboard.
        prompt: the task, in Markdown.
        reference: a right answer, from the library or a thin adapter of it; its name
            and arguments are those the learner writes.
        cases: calls to judge by.
        hints: three steps towards the answer.
        misconceptions: name -> (a function that makes the mistake, a sentence).
        properties: (sentence, predicate of the function) pairs.
        gradient: arguments that a gradient must reach, tried on the last case.
        lines: how long an answer is, for the cell to fill in.
        source: what ``solution`` shows in place of an adapter.
    """

    name: str
    chapter: int
    minutes: int
    title: str
    prompt: str
    reference: Callable
    cases: tuple[Case, ...]
    hints: tuple[str, str, str]
    misconceptions: Mapping[str, tuple[Callable, str]] = field(default_factory=dict)
    properties: tuple[Property, ...] = ()
    gradient: tuple[str, ...] = ()
    lines: str = "1 line"
    source: tuple[Callable | type, ...] = ()

    @property
    def function(self) -> str:
        """The name of the function that the learner writes."""
        return self.reference.__name__

    @property
    def arguments(self) -> list[str]:
        return list(inspect.signature(self.reference).parameters)


@dataclass(frozen=True)
class Run:
    """A case, its arguments after the call, and what came of it."""

    case: Case
    args: tuple
    output: Any = None
    error: Exception | None = None


@contextmanager
def seeded() -> Iterator[None]:
    """The same random numbers in every call, and the notebook's own left alone."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.default_generator.manual_seed(0)  # torch.manual_seed is far slower
        yield


def attempt(function: Callable, case: Case) -> Run:
    """Call a function on a case, with the random numbers of every other attempt."""
    args = case.make()
    try:
        with seeded():
            return Run(case, args, function(*args))
    except Exception as error:
        return Run(case, args, error=error)


def parts(value: Any) -> tuple:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def is_number(value: Any) -> bool:
    """A Python or NumPy number, or a tensor of one value."""
    if isinstance(value, Tensor):
        return value.numel() == 1
    return hasattr(value, "__float__") and getattr(value, "ndim", 0) == 0


def values(output: Any) -> list[Tensor] | None:
    """The parts of an output as tensors on the CPU; None if one is no number."""
    found = []
    for part in parts(output):
        if isinstance(part, Tensor):
            found.append(part.detach().cpu())
        elif is_number(part):
            found.append(torch.tensor(float(part), dtype=torch.float64))
        else:
            return None
    return found


def measured(case: Case, output: Any) -> list[Tensor] | None:
    found = values(output)
    if found is None or case.measure is None:
        return found
    return [case.measure(part.double()) for part in found]
