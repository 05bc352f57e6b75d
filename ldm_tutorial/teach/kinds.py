"""Kinds of mistakes that can be told in any exercise, without its author's help: an
argument that has no effect, or enters with another sign, or squared; an argument added
once too often; results in another order.

Each function takes an exercise and the runs of a wrong answer and returns a sentence,
or "". A guess counts only if it explains every case.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import permutations
from typing import Any

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
    parts,
)


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


def fail_alike(runs: list[Run], other: Callable) -> bool:
    """Whether another function fails in every case as was done, word for word."""
    return all(
        run.error is not None
        and repr(run.error) == repr(attempt(other, run.case).error)
        for run in runs
    )


def agree(a: Run, b: Run) -> bool:
    """Whether two runs of a case gave the same."""
    return same(measured(a.case, a.output), measured(a.case, b.output), a.case)


def confirmed(function: Callable, other: Callable, runs: list[Run]) -> bool:
    """Whether a guess holds for inputs that no case has, too: each argument varied."""
    for run in runs:
        for i in range(len(run.args)):
            for case in with_others(run.case, i):
                case = replace(case, rtol=0.01, atol=max(case.atol, 1e-3))
                a, b = attempt(function, case), attempt(other, case)
                if type(a.error) is not type(b.error):
                    return False
                if a.error is None and not agree(a, b):
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


def another_order(exercise: Exercise, runs: list[Run]) -> str:
    """Several results, each right and in another place."""
    count = max(len(parts(run.output)) for run in runs)
    for order in permutations(range(count)) if 1 < count < 4 else ():
        if order == tuple(range(count)):
            continue

        def other(*args, order=order):
            found = parts(exercise.reference(*args))
            return tuple(found[i] for i in order)

        if alike(runs, other):
            return "the results come in another order than asked for"
    return ""


# Arguments


def varied(value: Any) -> list[Any]:
    """Other values of the same domain: a little less of a number and much less, other
    images first, half of a time, twice a count."""
    if isinstance(value, Tensor):
        if value.dtype == torch.bool:
            return []
        if not value.dtype.is_floating_point:
            return [value // 2, value.flip(0) if value.ndim else value // 3]
        bare = value.detach()
        found = [0.9 * bare, 0.2 * bare, bare.flip(0) if bare.ndim else 0.5 * bare]
        return [other.requires_grad_(value.requires_grad) for other in found]
    if isinstance(value, bool):
        return []
    if isinstance(value, int):
        return [2 * value]
    factors = (0.9, 0.4, 1.5, 4.0)
    return [k * value for k in factors] if isinstance(value, float) else []


def with_others(case: Case, i: int) -> list[Case]:
    """The case with its argument ``i`` varied, in several ways."""
    args = case.make()
    if i >= len(args) or takes_part(args, i):
        return []

    def make(k: int):
        given = list(case.make())
        given[i] = varied(given[i])[k]
        return tuple(given)

    count = len(varied(args[i]))
    return [replace(case, make=partial(make, k), expected=None) for k in range(count)]


def takes_part(args: tuple, i: int) -> bool:
    """Whether other arguments hang on this one by a graph, as losses do on a layer."""
    others = (a for j, a in enumerate(args) if j != i and isinstance(a, Tensor))
    return any(a.grad_fn is not None for a in others) or (
        isinstance(args[i], Tensor) and args[i].grad_fn is not None
    )


def without_effect(exercise: Exercise, function: Callable, runs: list[Run]) -> str:
    """Arguments that change nothing where they should."""
    idle = []
    for i, name in enumerate(exercise.arguments):
        tried = [
            (run.case, other)
            for run in runs
            if not run.error
            for other in with_others(run.case, i)
            if moved(exercise.reference, run.case, other)
        ]
        if tried and not any(moved(function, *pair) for pair in tried):
            idle.append(name)
    if not idle or len(idle) == len(exercise.arguments):
        return ""
    if len(idle) == 1:
        return f"{idle[0]} has no effect"
    return f"{', '.join(idle[:-1])} and {idle[-1]} have no effect"


def moved(function: Callable, case: Case, other: Case) -> bool:
    """Whether a function answers two cases differently; an answer that is none, or not
    finite, counts as another one."""
    found = [measured(case, attempt(function, one).output) for one in (case, other)]
    plain = [numbers(one) for one in found]
    if any(one is None for one in plain):
        return True
    if not all(bool(part.isfinite().all()) for one in plain for part in one or ()):
        return True
    return not same(found[0], found[1], case)


CHANGES: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("{} has the wrong sign", lambda x: -x),
    ("1 - {0} stands where {0} belongs", lambda x: 1 - x),
    ("{} is squared, and should not be", lambda x: x * x),
    ("the root of {0} is taken, where {0} itself belongs", lambda x: abs(x) ** 0.5),
    ("one over {0} stands where {0} belongs", lambda x: 1 / x),
    ("{} counts twice", lambda x: 2 * x),
    ("{} counts half", lambda x: x / 2),
    (
        "the exponential of {0} stands where {0} belongs",
        lambda x: x.exp() if isinstance(x, Tensor) else math.exp(x),
    ),
)
COUNTS = CHANGES[2:5]  # what may happen to a whole number


def changed_argument(
    exercise: Exercise, function: Callable, runs: list[Run], right: list[Run]
) -> str:
    """The answer is right for an argument that was changed first."""
    for i, name in enumerate(exercise.arguments):
        if not all(takes_numbers(run.case.make(), i) for run in runs):
            continue
        whole = isinstance(runs[0].case.make()[i], int)
        for sentence, change in COUNTS if whole else CHANGES:

            def other(*args, i=i, change=change):
                return exercise.reference(*args[:i], change(args[i]), *args[i + 1 :])

            fits = alike(runs, other) and not alike(right, other)
            if fits and confirmed(function, other, runs):
                return sentence.format(name)
    return ""


def takes_numbers(args: tuple, i: int) -> bool:
    """Whether argument ``i`` is a number, or an array of floats, by itself."""
    if i >= len(args) or takes_part(args, i) or isinstance(args[i], bool):
        return False
    if isinstance(args[i], Tensor):
        return args[i].dtype.is_floating_point
    return isinstance(args[i], float | int)


def once_too_often(exercise: Exercise, function: Callable, runs: list[Run]) -> str:
    """The right answer, and an argument added to it, or taken from it, or times it."""
    steps: tuple[tuple[str, Callable], ...] = (
        ("{} is added at the end, and should not be", lambda a, b: a + b),
        ("{} is missing in the sum, or subtracted once more", lambda a, b: a - b),
        ("the result is multiplied by {}", lambda a, b: a * b),
        ("the result is divided by {}", lambda a, b: a / b),
    )
    for i, name in enumerate(exercise.arguments):
        for sentence, step in steps:

            def other(*args, i=i, step=step):
                found = exercise.reference(*args)
                changed = step(found, args[i])
                if isinstance(found, Tensor) and changed.shape != found.shape:
                    raise ValueError
                return changed

            if alike(runs, other) and confirmed(function, other, runs):
                return sentence.format(name)
    return ""


def localised(exercise: Exercise, function: Callable, runs: list[Run]) -> str:
    """Where the answer is right as soon as an argument is 0 everywhere, and all other
    arguments still count."""
    for i, name in enumerate(exercise.arguments):
        nought = [with_zero(run.case, i) for run in runs]
        cases = [case for case in nought if case]
        if len(cases) < len(runs):
            continue
        given, right = (
            [attempt(f, case) for case in cases] for f in (function, exercise.reference)
        )
        if any(run.error for run in (*given, *right)) or flat(right):
            continue
        pairs = zip(given, right, strict=True)
        if not all(agree(a, b) for a, b in pairs):
            continue
        if all(
            counts(exercise, cases, j) for j in range(len(cases[0].make())) if j - i
        ):
            return (
                f"with {name} = 0 it is right: the slip is in what it does with {name}"
            )
    return ""


def counts(exercise: Exercise, cases: list[Case], i: int) -> bool:
    """Whether an argument still makes a difference, as far as it can be varied."""
    tried = [(case, other) for case in cases for other in with_others(case, i)]
    return not tried or any(moved(exercise.reference, *pair) for pair in tried)


def with_zero(case: Case, i: int) -> Case | None:
    args = case.make()
    if not takes_numbers(args, i) or isinstance(args[i], int):
        return None

    def make():
        given = list(case.make())
        given[i] = 0 * given[i]
        return tuple(given)

    return replace(case, make=make, expected=None)


def flat(runs: list[Run]) -> bool:
    """Whether answers tell nothing: all numbers are the same, or some not finite."""
    found = [numbers(measured(run.case, run.output)) for run in runs]
    values = [p.double().flatten() for case in found for p in case or ()]
    if not values:
        return True
    together = torch.cat(values)
    return not bool(together.isfinite().all()) or len(together.unique()) < 2
