"""What went wrong: the mistake behind a wrong answer, if it can be told."""

from collections.abc import Callable

import torch
from torch import Tensor

from ldm_tutorial.teach.task import (
    Case,
    Exercise,
    Measured,
    Run,
    attempt,
    measured,
    numbers,
    values,
)
from ldm_tutorial.teach.words import figure


def diagnose(exercise: Exercise, runs: list[Run]) -> tuple[str, str]:
    """(name, sentence) of a misconception that answers as the learner did; a sentence
    without a name for a general pattern; ("", "") if nothing fits."""
    for name, (mistaken, sentence) in exercise.misconceptions.items():
        if alike(runs, mistaken):
            return name, sentence
    if sentence := swapped(exercise, runs) or neglected(exercise, runs):
        return "", sentence
    given = plain(runs)
    if any(run.error for run in runs) or len(given) < len(runs):
        return "", ""
    return "", pattern(exercise, runs, given)


def alike(runs: list[Run], other: Callable) -> bool:
    """Whether another function answers all cases as was done, by an error of the same
    kind too; at least one answer must be none."""
    if all(run.error for run in runs):
        return False
    for run in runs:
        again = attempt(other, run.case)
        if type(run.error) is not type(again.error):
            return False
        given, wanted = (measured(run.case, r.output) for r in (run, again))
        if run.error is None and not same(given, wanted, run.case):
            return False
    return True


def same(a: Measured, b: Measured, case: Case) -> bool:
    """Whether two answers to a case agree, shapes and undefined values included."""
    got, want = numbers(a), numbers(b)
    if got is None or want is None:
        return a is not None and a == b
    if [x.shape for x in got] != [x.shape for x in want]:
        return False
    return all(
        torch.allclose(x.double(), y.double(), case.rtol, case.atol, equal_nan=True)
        for x, y in zip(got, want, strict=True)
    )


def plain(runs: list[Run]) -> list[list[Tensor]]:
    """What is compared of each run whose answer is made of numbers."""
    found = (numbers(measured(run.case, run.output)) for run in runs)
    return [part for part in found if part is not None]


def swapped(exercise: Exercise, runs: list[Run]) -> str:
    """A sentence if the answer is right for two arguments exchanged, where that makes
    a difference."""
    if not all(finite(run) for run in runs):
        return ""
    right = [attempt(exercise.reference, run.case) for run in runs]
    names = exercise.arguments[: len(runs[0].args)]
    for i in range(len(names)):
        for j in range(i + 1, len(names)):

            def other(*args, i=i, j=j):
                turned = list(args)
                turned[i], turned[j] = args[j], args[i]
                return exercise.reference(*turned)

            if alike(runs, other) and not alike(right, other):
                return f"{names[i]} and {names[j]} are exchanged"
    return ""


def neglected(exercise: Exercise, runs: list[Run]) -> str:
    """A sentence if the answer is right for the first row of an argument in place of
    all, or for an optional argument at its default."""
    if not all(finite(run) for run in runs):
        return ""
    right = [attempt(exercise.reference, run.case) for run in runs]
    fewest = min(len(run.args) for run in runs)
    tries = [
        (first_only(exercise, i), f"the first {name} of the batch is taken for all")
        for i, name in enumerate(exercise.arguments[:fewest])
    ]
    if fewest < max(len(run.args) for run in runs):
        short = lambda *args: exercise.reference(*args[:fewest])  # noqa: E731
        left = exercise.arguments[fewest]
        tries.append((short, f"{left} is not used: its default is taken, always"))
    for other, sentence in tries:
        if alike(runs, other) and not alike(right, other):
            return sentence
    return ""


def first_only(exercise: Exercise, i: int) -> Callable:
    """The right answer to the first row of argument ``i`` in place of every row."""

    def other(*args):
        given = list(args)
        if isinstance(given[i], Tensor) and given[i].ndim:
            given[i] = given[i][:1].expand_as(given[i])
        return exercise.reference(*given)

    return other


def finite(run: Run) -> bool:
    """Whether a call gave numbers."""
    found = numbers(values(run.output)) if run.error is None else None
    return found is not None and all(bool(p.isfinite().all()) for p in found)


def pattern(exercise: Exercise, runs: list[Run], given: list[list[Tensor]]) -> str:
    """A sentence on how all values together differ from those wanted; "" if none."""
    wanted = plain([attempt(exercise.reference, run.case) for run in runs])
    shapes = [[p.shape for p in case] for case in given]
    if shapes != [[p.shape for p in case] for case in wanted]:
        return ""
    got = torch.cat([p.double().flatten() for case in given for p in case])
    want = torch.cat([p.double().flatten() for case in wanted for p in case])
    if not bool(got.isfinite().all()):
        return ""
    if len(got) > 1 and not bool(got.any()):
        return "it returns zero, whatever it is given"
    for i, name in enumerate(exercise.arguments):
        pairs = zip(runs, given, strict=True)
        if all(same(g, untouched(r.case, i), r.case) for r, g in pairs):
            return f"it returns {name} as it came"
    if sentence := cut(got, want):
        return sentence
    usable = want.abs() > 1e-9
    if int(usable.sum()) < 3:
        return ""
    return relation(got, want, usable)


def untouched(case: Case, i: int) -> Measured:
    args = case.make()
    return values(args[i]) if i < len(args) else None


def cut(got: Tensor, want: Tensor) -> str:
    """A sentence if values were rounded or cut off; "" if not."""
    close = torch.isclose(got, want, rtol=1e-4, atol=1e-5)
    if not bool(close.any()) or bool(close.all()):
        return ""
    for function, word in (
        (torch.floor, "rounded down (// leaves the rest of a division out)"),
        (torch.ceil, "rounded up"),
        (torch.round, "rounded"),
    ):
        if torch.equal(got, function(want)):
            return f"the values are {word}"
    wrong = got[~close]
    bound = float(wrong[0])
    if len(wrong) > 1 and bool((wrong == bound).all()):
        if bool((want[~close] > bound).all()) and bound >= float(got.max()):
            return f"the values are cut off above {figure(bound)}"
        if bool((want[~close] < bound).all()) and bound <= float(got.min()):
            return f"the values are cut off below {figure(bound)}"
    return ""


def relation(got: Tensor, want: Tensor, usable: Tensor) -> str:
    """A simple formula between the values that came and those wanted."""
    close = lambda a, b: torch.allclose(a, b, rtol=1e-3, atol=1e-5)  # noqa: E731
    factor = float((got[usable] / want[usable]).median())
    if close(got, -want):
        return "every value has the wrong sign"
    if factor != 0 and abs(factor - 1) > 1e-3 and close(got, factor * want):
        return f"every value is {figure(factor)} times what it should be"
    offset = float((got - want).median())
    if abs(offset) > 1e-3 and torch.allclose(
        got - want, torch.full_like(want, offset), rtol=0.02, atol=1e-5
    ):
        return f"every value is off by the same number, {figure(offset)}"
    if close(got, want.square()):
        return "every value is the square of what it should be"
    if bool((want >= 0).all()) and close(got, want.sqrt()):
        return "every value is the square root of what it should be"
    if close(got, 1 / want):
        return "every value is one over what it should be"
    return ""
