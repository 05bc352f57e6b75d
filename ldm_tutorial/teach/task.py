"""What an exercise is, and how an answer to it is called."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ldm_tutorial.teach import effort
from ldm_tutorial.teach.guard import RAISED, limited, seeded

# A sentence, and whether it holds of a function; or, of one that it does not hold of,
# the slip in words, where it can be told.
Property = tuple[str, Callable[[Callable], bool | str]]


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
        reasons: for an answer in words, what is wrong with each of the other ones.
        rtol, atol: how far values may be apart.
    """

    make: Callable[[], tuple]
    expected: Any = None
    measure: Callable[[Tensor], Tensor] | None = None
    note: str = ""
    reasons: Mapping[str, str] = field(default_factory=dict)
    rtol: float = 1e-4
    atol: float = 1e-5


@dataclass(frozen=True)
class Exercise:
    """A task, its answer and what usually goes wrong, as data.

    Attributes:
        name: what ``check`` and ``hint`` call it.
        chapter: of the book.
        title: a few words for the scoreboard.
        prompt: the task, in Markdown.
        reference: a right answer, from the library or a thin adapter of it; its name
            and arguments are those the learner writes.
        cases: calls to judge by.
        hints: three steps towards the answer.
        misconceptions: name -> (a function that makes the mistake, a sentence).
        properties: (sentence, predicate of the function) pairs; a predicate may
            return the name of the slip in place of False.
        gradient: arguments that a gradient must reach, tried on the last case.
        lines: how long an answer is, for the cell to fill in and for ``minutes``.
        source: what ``solution`` shows in place of an adapter.
        trains: what is learned by it, in a few words.
        difficulty: 1 a warm-up, 2 takes thought, 3 builds or judges something.
        changes: arguments that an answer is meant to write into.
        seconds: that one call may take.
    """

    name: str
    chapter: int
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
    trains: str = ""
    difficulty: Literal[1, 2, 3] = 1
    changes: tuple[str, ...] = ()
    seconds: float = 20.0

    @property
    def function(self) -> str:
        """The name of the function that the learner writes."""
        return self.reference.__name__

    @property
    def minutes(self) -> int:
        """How long it takes, see ``effort``."""
        return effort.minutes(self.prompt, self.lines, self.difficulty)

    @property
    def arguments(self) -> list[str]:
        return list(inspect.signature(self.reference).parameters)


@dataclass(frozen=True)
class Run:
    """A case, its arguments after the call, and what came of it."""

    case: Case
    args: tuple
    output: Any = None
    error: BaseException | None = None


def attempt(
    function: Callable, case: Case, seconds: float = 60.0, seed: int = 0
) -> Run:
    """Call a function on a case, with the random numbers of every other attempt of the
    same seed."""
    args = case.make()
    try:
        with seeded(seed), limited(seconds):
            output = function(*args)
        if inspect.iscoroutine(output):
            output.close()  # or Python complains that nobody awaited it
        return Run(case, args, output)
    except RAISED as error:
        return Run(case, args, error=error)


MANY = 8  # more results than any exercise asks for


def parts(value: Any) -> tuple:
    """The results of a call: those of a tuple or of a list of several, or one. A tuple
    of one, as a comma at the end makes it, is no result by itself."""
    several = isinstance(value, tuple | list) and len(value) > 1
    return tuple(value) if several else (value,)


def strange(value: Tensor) -> str:
    """What keeps a tensor from being compared, in words; "" if nothing does."""
    if value.device.type != "cpu":
        return f"on the device {value.device}, away from its inputs"
    if value.is_quantized or value.is_nested or value.layout != torch.strided:
        return "sparse, nested or quantized, where a plain one is wanted"
    return "of complex numbers" if value.is_complex() else ""


def is_number(value: Any) -> bool:
    """A Python or NumPy number, or a tensor or array without dimensions."""
    if isinstance(value, str | bytes) or bool(getattr(value, "ndim", 0)):
        return False
    if isinstance(value, Tensor):
        return not strange(value)
    try:
        float(value)
    except Exception:
        return False
    return True


Measured = Sequence[Tensor | str] | None  # what is compared of a case, if that is known


def values(output: Any) -> Measured:
    """The results of a call as tensors on the CPU, or as words; None if one of them is
    neither."""
    found: list[Tensor | str] = []
    several = parts(output)
    if len(several) > MANY:
        return None
    for part in several:
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, Tensor):
            if strange(part):
                return None
            found.append(part.detach())
        elif is_number(part):
            found.append(torch.tensor(float(part), dtype=torch.float64))
        else:
            return None
    return found


def numbers(found: Measured) -> list[Tensor] | None:
    """The same where no part is a word; None where one is."""
    parts = [part for part in found or () if isinstance(part, Tensor)]
    return None if found is None or len(parts) < len(found) else parts


def measured(case: Case, output: Any) -> Measured:
    """What is compared of an output; None if that cannot be told."""
    found = values(output)
    if found is None or case.measure is None:
        return found
    plain = numbers(found)
    if plain is None:
        return None
    try:
        return [case.measure(part.double()) for part in plain]
    except Exception:  # of another shape or kind than the measure expects
        return None
