"""How an answer to an exercise is judged: the rungs of a ladder, from easy to hard.

signature -> it runs -> kind and shape -> dtype -> finite -> cases with an answer known
on paper -> properties -> seeded comparison with the reference -> gradient, which only
means something where the values are right -> what it leaves behind. The first rung that
gives way says what is wrong. Then every known misconception is run on the same inputs:
one that answers as the learner did names the mistake.

Whatever an answer does, a verdict comes back: nothing that it raises or returns is
allowed to end the checker.
"""

import dis
import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MethodType
from typing import Any, Literal

from torch import Tensor

from ldm_tutorial.teach.diagnosis import diagnose, guess
from ldm_tutorial.teach.guard import OutOfTime
from ldm_tutorial.teach.kinds import same
from ldm_tutorial.teach.rungs import (
    Complaint,
    check_dtype,
    check_finite,
    check_gradient,
    check_kind,
    check_leftovers,
    check_property,
    check_runs,
    check_shared,
    check_values,
    failing_line,
    same_tensor,
    wanted_of,
)
from ldm_tutorial.teach.signatures import check_signature
from ldm_tutorial.teach.task import Exercise, Run, attempt, measured, parts, values
from ldm_tutorial.teach.tasks import EXERCISES
from ldm_tutorial.teach.words import shorten


@dataclass(frozen=True)
class Verdict:
    """The judgement of one answer; "library" is for a function of the library."""

    status: Literal["blank", "library", "right", "wrong"]
    rung: str = ""
    headline: str = ""
    detail: str = ""
    misconception: str = ""
    changed: tuple[str, ...] = ()  # arguments that a right answer writes over


def judge(exercise: Exercise, function: Any) -> Verdict:
    """Climb the ladder with a learner's function."""
    try:
        return climb(exercise, function)
    except Exception as error:
        text = shorten(f"{type(error).__name__}: {error}", 200)
        head = "it does something that the checker cannot make sense of"
        return Verdict("wrong", "checker", head, text)


def climb(exercise: Exercise, function: Any) -> Verdict:
    if function is None or function is Ellipsis or trivial(function):
        return Verdict("blank")
    if from_library(function):
        return Verdict("library")
    complaint = check_signature(exercise, function)
    if complaint:
        return Verdict("wrong", complaint.rung, complaint.headline, complaint.detail)
    runs = try_all(exercise, function)
    if unfinished(function, runs[0]):
        return Verdict("blank")
    complaint = first_complaint(exercise, function, runs)
    if complaint is None:
        return Verdict("right", changed=written_over(exercise, runs))
    if helper := wrong_helper(exercise, function):
        head = f"it calls your {helper.function}, and that is not right yet"
        detail = f'check("{helper.name}", {helper.function}) says what is wrong there.'
        return Verdict("wrong", "helper", head, detail)
    with warnings.catch_warnings():
        # The right answer is tried on wrong inputs; a warning would show its line.
        warnings.simplefilter("ignore")
        name, headline = named(exercise, function, runs, complaint)
    return Verdict("wrong", complaint.rung, headline, complaint.detail, name)


def named(
    exercise: Exercise, function: Callable, runs: list[Run], complaint: Complaint
) -> tuple[str, str]:
    """(name of the misconception if it is a known one, sentence)."""
    name, headline = diagnose(exercise, runs)
    if complaint.rung in ("values", "property"):
        headline = headline or dice(exercise, function, runs)
    if complaint.rung in ("values", "finite"):
        headline = headline or guess(exercise, function, runs)
    if complaint.rung == "values" and not headline:
        headline = broken_property(exercise, function, runs)
    return name, headline or complaint.headline


def broken_property(exercise: Exercise, function: Callable, runs: list[Run]) -> str:
    """What should hold and does not, of an answer whose values say nothing. Words in
    place of numbers have their reasons already."""
    if any(isinstance(v, str) for run in runs for v in values(run.output) or ()):
        return ""
    for sentence, holds in exercise.properties:
        complaint = check_property(exercise, function, sentence, holds)
        if complaint and complaint.detail == sentence:
            plain = complaint.headline.startswith("it lacks a property")
            return f"not so: {sentence}" if plain else complaint.headline
    return ""


def try_all(exercise: Exercise, function: Callable) -> list[Run]:
    """A run for each case; none after one that did not come back in time."""
    runs: list[Run] = []
    for case in exercise.cases:
        runs.append(attempt(function, case, exercise.seconds))
        if isinstance(runs[-1].error, OutOfTime):
            break
    return runs


def first_complaint(
    exercise: Exercise, function: Callable, runs: list[Run]
) -> Complaint | None:
    """None for a right answer."""
    wanted = [wanted_of(exercise, run.case) for run in runs]
    pairs = list(zip(runs, wanted, strict=True))
    on_paper = [pair for pair in pairs if pair[0].case.expected is not None]
    compared = [pair for pair in pairs if pair[0].case.expected is None]
    rungs = (
        *(lambda p=p: check_runs(exercise, function, *p) for p in pairs),
        *(lambda p=p: check_kind(exercise, *p) for p in pairs),
        *(lambda p=p: check_dtype(exercise, *p) for p in pairs),
        *(lambda p=p: check_finite(exercise, *p) for p in pairs),
        *(lambda p=p: check_values(exercise, *p) for p in on_paper),
        *(
            lambda p=p: check_property(exercise, function, *p)
            for p in exercise.properties
        ),
        *(lambda p=p: check_values(exercise, *p) for p in compared),
        lambda: check_gradient(exercise, function),
        *(lambda p=p: check_shared(exercise, *p) for p in pairs),
        lambda: check_leftovers(exercise, function),
    )
    return next((found for rung in rungs if (found := rung())), None)


def trivial(function: Any) -> bool:
    """Whether the body is nothing but ``...``, ``pass``, a docstring or ``None``."""
    code = getattr(bare(function), "__code__", None)
    if code is None:
        return False
    idle = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE", "STORE_FAST"}
    idle |= {"POP_TOP", "CACHE"}
    steps = list(dis.get_instructions(code))
    returned = [
        (step if step.opname == "RETURN_CONST" else before).argval
        for before, step in pairwise([*steps[:1], *steps])
        if step.opname.startswith("RETURN")
    ]
    empty = all(c is None or c is ... or isinstance(c, str) for c in code.co_consts)
    empty = empty and all(value is None or value is ... for value in returned)
    return empty and {step.opname for step in steps} <= idle


def bare(function: Any) -> Any:
    """What is behind decorators, ``functools.partial`` and bound methods."""
    for _ in range(20):  # a chain that leads back to itself has no end
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__func__
        elif callable(function) and hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        else:
            break
    return function


def from_library(function: Any) -> bool:
    """Whether it is a function of the library, a stand-in for a blank included: then
    there is nothing to judge. What merely calls one counts as the learner's."""
    inner = bare(function)
    module = str(getattr(inner, "__module__", ""))
    if module.startswith("ldm_tutorial.teach.tasks"):
        return any(inner is bare(e.reference) for e in EXERCISES.values())
    return module.split(".")[0] == "ldm_tutorial" and not isinstance(inner, type)


def unfinished(function: Callable, run: Run) -> bool:
    """Whether a call ran into a blank: ``...`` where a value should be, or a raised
    NotImplementedError. (Torch raises those, too, for a dtype it cannot handle.)"""
    if isinstance(run.error, NotImplementedError):
        return "raise" in failing_line(function, run.error) or not str(run.error)
    if run.error is not None:
        typed = isinstance(run.error, TypeError | AttributeError)
        return typed and "ellipsis" in str(run.error)
    return any(part is ... or part is NotImplemented for part in parts(run.output))


def dice(exercise: Exercise, function: Callable, runs: list[Run]) -> str:
    """A sentence if an answer draws random numbers where the right one draws none."""
    case = exercise.cases[-1]
    if len(runs) < len(exercise.cases) or runs[-1].error is not None:
        return ""
    again = [attempt(f, case, seed=1) for f in (function, exercise.reference)]
    right = attempt(exercise.reference, case)
    if any(run.error is not None for run in (*again, right)):
        return ""
    exactly = replace(case, rtol=0.0, atol=0.0)
    if not same(values(again[1].output), values(right.output), exactly):
        return ""  # the right one draws, too
    pairs = zip(again, (runs[-1], right), strict=True)
    outputs = [[measured(case, run.output) for run in pair] for pair in pairs]
    if any(one is None for pair in outputs for one in pair):
        return ""
    if [same(a, b, case) for a, b in outputs] == [False, True]:
        return "it draws random numbers of its own, where everything is given"
    return ""


def wrong_helper(exercise: Exercise, function: Callable) -> Exercise | None:
    """Another exercise whose function this one calls, if the learner's is wrong."""
    inner = bare(function)
    names = getattr(getattr(inner, "__code__", None), "co_names", ())
    space = getattr(inner, "__globals__", {})
    for other in EXERCISES.values():
        name = other.function
        if other is exercise or name not in names or name not in space:
            continue
        if judge(other, space[name]).status == "wrong":
            return other
    return None


def written_over(exercise: Exercise, runs: list[Run]) -> tuple[str, ...]:
    """Names of the tensors handed in that calls have changed."""
    found = []
    for run in runs:
        for name, a, b in zip(
            exercise.arguments, run.args, run.case.make(), strict=False
        ):
            if isinstance(a, Tensor) and not same_tensor(a, b):
                found.append(name)
    return tuple(name for name in dict.fromkeys(found) if name not in exercise.changes)
