"""What went wrong: the mistake behind a wrong answer, if it can be told."""

import time
from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor

from ldm_tutorial.teach.kinds import (
    alike,
    another_order,
    changed_argument,
    fail_alike,
    localised,
    once_too_often,
    without_effect,
)
from ldm_tutorial.teach.task import (
    Exercise,
    Run,
    attempt,
    measured,
    numbers,
    values,
)
from ldm_tutorial.teach.terms import (
    one_result,
    other_factor,
    reduced,
    returned_as_it_came,
)
from ldm_tutorial.teach.words import figure

FACTORS = (
    (2.302585, ", which is ln 10"),
    (0.434294, ", which is one over ln 10"),
    (0.693147, ", which is ln 2"),
    (1.442695, ", which is one over ln 2"),
    (3.321928, ", which is log2 of 10"),
    (6.283185, ", which is 2π"),
    (1.414214, ", which is the root of 2"),
    (0.707107, ", which is the root of ½"),
)
SECONDS = 6.0  # that all guesses together may take


def diagnose(exercise: Exercise, runs: list[Run]) -> tuple[str, str]:
    """(name, sentence) of a misconception that answers as the learner did; a sentence
    without a name for a general pattern; ("", "") if nothing fits."""
    for name, (mistaken, sentence) in exercise.misconceptions.items():
        if alike(runs, mistaken) or fail_alike(runs, mistaken):
            return name, sentence
    if sentence := swapped(exercise, runs) or neglected(exercise, runs):
        return "", sentence
    given = plain(runs)
    if any(run.error for run in runs) or len(given) < len(runs):
        return "", ""
    return "", pattern(exercise, runs, given)


def guess(exercise: Exercise, function: Callable, runs: list[Run]) -> str:
    """The first sentence that fits, within a few seconds."""
    right = [attempt(exercise.reference, run.case) for run in runs]
    tries = (
        lambda: another_order(exercise, runs),
        lambda: without_effect(exercise, function, runs),
        lambda: changed_argument(exercise, function, runs, right),
        lambda: reduced(exercise, runs, right),
        lambda: once_too_often(exercise, function, runs),
        lambda: one_result(exercise, function, runs, right),
        lambda: other_factor(exercise, runs, right),
        lambda: localised(exercise, function, runs),
    )
    end = time.monotonic() + SECONDS
    for attempted in tries:
        if time.monotonic() > end:
            break
        if sentence := attempted():
            return sentence
    return ""


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
    batches = [
        i
        for i, value in enumerate(runs[0].args[:fewest])
        if isinstance(value, Tensor) and value.ndim
    ]
    names = exercise.arguments
    tries = [
        (first_only(exercise, i), f"the first {names[i]} of the batch is taken for all")
        for i in batches
    ]
    for i, j in combinations(batches, 2) if len(batches) > 2 else ():
        text = (
            f"the first row of {names[i]} and {names[j]} is taken for the whole batch"
        )
        tries.append((first_only(exercise, i, j), text))
    if fewest < max(len(run.args) for run in runs):
        short = lambda *args: exercise.reference(*args[:fewest])  # noqa: E731
        left = exercise.arguments[fewest]
        tries.append((short, f"{left} is not used: its default is taken, always"))
    for other, sentence in tries:
        if alike(runs, other) and not alike(right, other):
            return sentence
    return ""


def first_only(exercise: Exercise, *places: int) -> Callable:
    """The right answer to the first row of some arguments in place of every row."""

    def other(*args):
        given = list(args)
        for i in places:
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
    if sentence := (
        returned_as_it_came(exercise, runs, "returns")
        or cut(got, want)
        or moved_about(given, wanted)
    ):
        return sentence
    usable = want.abs() > 1e-9
    if int(usable.sum()) < 2:
        return ""
    return relation(got, want, usable)


def moved_about(given: list[list[Tensor]], wanted: list[list[Tensor]]) -> str:
    """A sentence if all values of every result are there, in other places."""
    parts = [
        (p.double().flatten(), q.double().flatten())
        for case, right in zip(given, wanted, strict=True)
        for p, q in zip(case, right, strict=True)
    ]
    close = lambda a, b: torch.allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    there = all(close(p.sort().values, q.sort().values) for p, q in parts)
    many = max(len(q.unique()) for _, q in parts) > 8
    if many and there and not all(close(p, q) for p, q in parts):
        return "all values are right, and stand in other places than they should"
    return ""


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
    low, high = got.min(), got.max()
    both = low > want.min() and high < want.max() and int((~close).sum()) > 1
    if both and torch.allclose(got, want.clamp(low, high)):
        return f"the values are cut off below {figure(low)} and above {figure(high)}"
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
        known = next((w for f, w in FACTORS if abs(factor / f - 1) < 1e-3), "")
        return f"every value is {figure(factor)} times what it should be{known}"
    offset = float((got - want).median())
    if abs(offset) > 1e-3 and torch.allclose(
        got - want, torch.full_like(want, offset), rtol=0.02, atol=1e-5
    ):
        return f"every value is off by the same number, {figure(offset)}"
    if close(got, want.square()):
        return "every value is the square of what it should be"
    if bool((want >= 0).all()) and close(got, want.sqrt()):
        return "every value is the square root of what it should be"
    if bool((want < 0).any()) and close(got, want.abs()):
        return "the sign is lost: every value is positive"
    if close(got, 1 - want):
        return "every value is one minus what it should be"
    if close(got, 1 / want):
        return "every value is one over what it should be"
    return ""
