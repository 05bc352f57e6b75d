"""Kinds of mistakes that show in the values of a result: a sum for a mean, one of
several results wrong, a term with another factor.

As in ``kinds``, each function returns a sentence, or "".
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ldm_tutorial.teach.kinds import (
    alike,
    changed_argument,
    once_too_often,
    same,
)
from ldm_tutorial.teach.task import Exercise, Run, numbers, parts, values
from ldm_tutorial.teach.words import figure


def pairs(runs: list[Run], right: list[Run]) -> list[tuple[Run, Tensor, Tensor]]:
    """(run, what came, what is wanted) where both are one array of the same shape."""
    found = []
    for run, wanted in zip(runs, right, strict=True):
        a, b = (numbers(values(r.output)) for r in (run, wanted))
        if run.error or not a or not b or len(a) != 1 or a[0].shape != b[0].shape:
            return []
        found.append((run, a[0].double(), b[0].double()))
    return found


def reduced(exercise: Exercise, runs: list[Run], right: list[Run]) -> str:
    """A sum for a mean, or the other way round: in each case the result is as many
    times too large or too small as the arguments have values of some kind."""
    found = pairs(runs, right)
    sizes: dict[str, list[int]] = {}
    factors = []
    for run, got, want in found:
        usable = want.abs() > 1e-9
        if run.case.measure or not bool(usable.any()):
            return ""
        factor = float((got[usable] / want[usable]).median())
        if factor == 0 or not torch.allclose(got, factor * want, 1e-3, 1e-6):
            return ""
        factors.append(factor)
        counts = dict(countable(run.case.make()))
        sizes = {k: [*sizes.get(k, []), n] for k, n in counts.items()}
    for what, counted in sizes.items():
        if len(counted) < len(factors) or set(counted) == {1}:
            continue
        both = list(zip(factors, counted, strict=True))
        if all(math.isclose(f, n, rel_tol=1e-3) for f, n in both):
            return f"{what} were summed, where their mean is asked for"
        if all(math.isclose(f * n, 1, rel_tol=1e-3) for f, n in both):
            return f"the mean of {what} was taken, where their sum is asked for"
    return ""


def countable(args: tuple) -> Iterator[tuple[str, int]]:
    """How many values of each kind the largest tensor has."""
    tensors = [a for a in args if isinstance(a, Tensor) and a.ndim]
    if not tensors:
        return
    size = max(tensors, key=Tensor.numel).shape
    yield "all values", math.prod(size)
    if len(size) > 1:
        yield "the values of an image", math.prod(size[1:])
        yield "the images of the batch", size[0]
    if len(size) == 4:
        yield "the channels", size[1]
        yield "the positions", size[2] * size[3]


def one_result(
    exercise: Exercise, function: Callable, runs: list[Run], right: list[Run]
) -> str:
    """Of several results one is wrong, in a way that can be told."""
    count = len(parts(right[0].output))
    if count < 2 or any(run.error or len(parts(run.output)) != count for run in runs):
        return ""
    place = ("first", "second", "third", "fourth")

    def only(run: Run, i: int) -> Run:
        case = replace(run.case, expected=None)
        return Run(case, run.args, parts(run.output)[i])

    def wrong(i: int) -> bool:
        both = [[only(r, i) for r in side] for side in (runs, right)]
        return not all(
            same(values(a.output), values(b.output), a.case)
            for a, b in zip(*both, strict=True)
        )

    i = next((i for i in range(min(count, 4)) if wrong(i)), None)
    if i is None:
        return ""
    alone = replace(exercise, reference=one_of(exercise.reference, i))
    mine, true = ([only(r, i) for r in side] for side in (runs, right))
    sentence = (
        returned_as_it_came(alone, mine, "is")
        or changed_argument(alone, one_of(function, i), mine, true)
        or once_too_often(alone, one_of(function, i), mine)
        or other_factor(alone, mine, true)
    )
    return f"the {place[i]} result: {sentence}" if sentence else ""


def one_of(function: Callable, i: int) -> Callable:
    """One result of a function, under the same names of arguments."""

    def other(*args):
        return parts(function(*args))[i]

    other.__wrapped__ = function  # type: ignore[attr-defined]
    return other


def returned_as_it_came(exercise: Exercise, runs: list[Run], verb: str) -> str:
    for i, name in enumerate(exercise.arguments):
        if alike(runs, lambda *args, i=i: args[i]):
            return f"it {verb} {name} as it came"
    return ""


def other_factor(exercise: Exercise, runs: list[Run], right: list[Run]) -> str:
    """For answers that are sums of arguments with factors: which factor differs."""
    found = pairs(runs, right)
    found = [f for f in found if f[1].ndim > 1 and f[1][0].numel() >= 6]
    if not found or found[-1][0].case.measure:
        return ""
    run, got, want = found[-1]
    args = zip(exercise.arguments, run.case.make(), strict=False)
    terms = {
        name: a.detach().double()
        for name, a in args
        if isinstance(a, Tensor) and a.shape == got.shape
    }
    asked = any(callable(a) for a in run.case.make())  # of a network, say
    if asked or not terms or not bool(got.isfinite().all()):
        return ""
    for row in reversed(range(len(got))):
        columns = [t[row].flatten() for t in terms.values()]
        table = torch.stack([*columns, torch.ones_like(columns[0])], dim=1)
        mine, true = (factors_of(table, x[row].flatten()) for x in (got, want))
        if mine is None or true is None:
            return ""
        for name, a, b in zip([*terms, "1"], mine, true, strict=True):
            if abs(a - b) > 1e-3 * (1 + abs(b)):
                return told(name, a, b, exercise.arguments)
    return ""


def told(name: str, a: float, b: float, arguments: list[str]) -> str:
    a, b = (0.0 if abs(v) < 1e-6 else v for v in (a, b))
    if name == "1":
        return f"the number {figure(a)} is added to every value"
    return (
        f"the factor of {name} is not right: {figure(a)} in a case where it should be "
        f"{figure(b)}"
    )


def factors_of(table: Tensor, values: Tensor) -> list[float] | None:
    """The factors with which the columns add up to the values; None if they do not."""
    if int(torch.linalg.matrix_rank(table)) < table.shape[1]:
        return None
    found = torch.linalg.lstsq(table, values[:, None]).solution
    if not torch.allclose(table @ found, values[:, None], rtol=1e-3, atol=1e-4):
        return None
    return found.flatten().tolist()
