"""How an answer to an exercise is judged: the rungs of a ladder, from easy to hard.

signature -> it runs -> kind and shape -> dtype -> finite -> cases with an answer known
on paper -> properties -> seeded comparison with the reference -> gradient, which only
means something where the values are right. The first rung that gives way says what is
wrong. Then every known misconception is run on the same inputs: one that answers as the
learner did names the mistake.
"""

import dis
import inspect
import linecache
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ldm_tutorial.teach.diagnosis import diagnose
from ldm_tutorial.teach.task import (
    Case,
    Exercise,
    Run,
    attempt,
    is_number,
    measured,
    parts,
    seeded,
    values,
)
from ldm_tutorial.teach.words import (
    difference,
    given_as,
    in_other_words,
    kind,
    name_of,
    plural,
    shape,
    shorten,
)


@dataclass(frozen=True)
class Complaint:
    """What a rung found: a headline and where it shows."""

    rung: str
    headline: str
    detail: str


@dataclass(frozen=True)
class Verdict:
    """The judgement of one answer."""

    status: Literal["blank", "right", "wrong"]
    rung: str = ""
    headline: str = ""
    detail: str = ""
    misconception: str = ""
    changed: tuple[str, ...] = ()  # arguments that a right answer writes over


def judge(exercise: Exercise, function: Any) -> Verdict:
    """Climb the ladder with a learner's function."""
    if function is None or function is Ellipsis or trivial(function):
        return Verdict("blank")
    complaint = check_signature(exercise, function)
    if complaint:
        return Verdict("wrong", complaint.rung, complaint.headline, complaint.detail)
    runs = [attempt(function, case) for case in exercise.cases]
    if unfinished(function, runs[0]):
        return Verdict("blank")
    complaint = climb(exercise, function, runs)
    if complaint is None:
        return Verdict("right", changed=written_over(exercise, runs))
    name, headline = diagnose(exercise, runs)
    headline = headline or complaint.headline
    return Verdict("wrong", complaint.rung, headline, complaint.detail, name)


def climb(exercise: Exercise, function: Callable, runs: list[Run]) -> Complaint | None:
    """The first complaint, or None for a right answer."""
    wanted = [reference_values(exercise, run.case) for run in runs]
    pairs = list(zip(runs, wanted, strict=True))
    on_paper = [pair for pair in pairs if pair[0].case.expected is not None]
    compared = [pair for pair in pairs if pair[0].case.expected is None]
    rungs = (
        *(lambda p=p: check_runs(function, *p) for p in pairs),
        *(lambda p=p: check_kind(exercise, *p) for p in pairs),
        *(lambda p=p: check_dtype(exercise, *p) for p in pairs),
        *(lambda p=p: check_finite(exercise, *p) for p in pairs),
        *(lambda p=p: check_values(exercise, *p) for p in on_paper),
        *(lambda p=p: check_property(function, *p) for p in exercise.properties),
        *(lambda p=p: check_values(exercise, *p) for p in compared),
        lambda: check_gradient(exercise, function),
    )
    return next((found for rung in rungs if (found := rung())), None)


def trivial(function: Any) -> bool:
    """Whether the body is nothing but ``...``, ``pass``, a docstring or ``None``."""
    bare = inspect.unwrap(function) if callable(function) else function
    code = getattr(bare, "__code__", None)
    if code is None:
        return False
    idle = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE", "STORE_FAST"}
    idle |= {"POP_TOP", "CACHE"}
    empty = all(c is None or c is ... or isinstance(c, str) for c in code.co_consts)
    return empty and {step.opname for step in dis.get_instructions(code)} <= idle


def unfinished(function: Callable, run: Run) -> bool:
    """Whether a call ran into a blank: ``...`` where a value should be, or a raised
    NotImplementedError. (Torch raises those, too, for a dtype it cannot handle.)"""
    if isinstance(run.error, NotImplementedError):
        return "raise" in failing_line(function, run.error) or not str(run.error)
    if run.error is not None:
        typed = isinstance(run.error, TypeError | AttributeError)
        return typed and "ellipsis" in str(run.error)
    return any(part is ... or part is NotImplemented for part in parts(run.output))


def reference_values(exercise: Exercise, case: Case) -> tuple:
    """What is wanted of a case, in the kinds that the reference returns."""
    if case.expected is not None:
        return parts(case.expected)
    run = attempt(exercise.reference, case)
    if run.error is not None:
        raise run.error
    return parts(run.output)


def check_signature(exercise: Exercise, function: Any) -> Complaint | None:
    name, arguments = exercise.function, exercise.arguments
    example = f"{name} = check({exercise.name!r}, {name})"
    if not callable(function) or isinstance(function, type):
        got = "a class" if callable(function) else kind(function)
        headline = f"check wants the function itself and was given {got}"
        return Complaint("signature", headline, f"Write it without calling: {example}")
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # some functions written in C do not tell
        return None
    given = [p.name for p in signature.parameters.values()]
    count = len(exercise.cases[0].make())
    wanted = f"{name}({', '.join(arguments)})"
    detail = f"It is called as {wanted}; yours takes ({', '.join(given)})."
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return Complaint("signature", "its arguments are not those asked for", detail)
    same_names = set(given[:count]) == set(arguments[:count])
    if same_names and given[:count] != arguments[:count]:
        return Complaint("signature", "its arguments come in another order", detail)
    return None


def check_runs(function: Callable, run: Run, wanted: tuple) -> Complaint | None:
    if run.error is None:
        return None
    text = (str(run.error).splitlines() or [""])[0]
    detail = f"{type(run.error).__name__}: {shorten(text, 100)}"
    if line := failing_line(function, run.error):
        detail += f"   in the line: {shorten(line, 70)}"
    headline = in_other_words(run.error) or "it raises an exception"
    return Complaint("runs", headline, detail)


def failing_line(function: Callable, error: Exception) -> str:
    """The line of the learner's own function in which an exception arose."""
    own = getattr(function, "__code__", None)
    found, trace = "", error.__traceback__
    while trace and own:
        if trace.tb_frame.f_code.co_filename == own.co_filename:
            found = linecache.getline(own.co_filename, trace.tb_lineno).strip()
        trace = trace.tb_next
    return found


def check_kind(exercise: Exercise, run: Run, wanted: tuple) -> Complaint | None:
    """As many results as wanted, tensors where tensors are wanted, of their shapes."""
    given = parts(run.output)
    if run.output is None:
        headline = "it returns nothing"
        return Complaint("shape", headline, "Does its last line begin with `return`?")
    if len(given) != len(wanted) == 1 and isinstance(run.output, list):
        headline = "the result is of another kind"
        detail = f"{kind(wanted[0])} is wanted and {kind(run.output)} came."
        return Complaint("shape", headline, detail[0].upper() + detail[1:])
    if len(given) != len(wanted):
        detail = (
            f"It should return {plural(len(wanted))} and returns {kind(run.output)}."
        )
        return Complaint("shape", "it returns another number of results", detail)
    for got, want in zip(given, wanted, strict=True):
        free = not isinstance(want, Tensor) or (
            want.ndim == 0 and not exercise.gradient
        )
        if free and is_number(got) and getattr(got, "ndim", 0) <= 1:
            continue
        if isinstance(want, Tensor) and isinstance(got, Tensor):
            if got.shape == want.shape:
                continue
            headline = "the result has another shape"
            gets = f"shape {shape(want)} is wanted and {shape(got)} came"
        else:
            headline = "the result is of another kind"
            gets = f"{kind(want)} is wanted and {kind(got)} came"
        return Complaint("shape", headline, f"With {given_as(exercise, run)}: {gets}.")
    return None


def check_dtype(exercise: Exercise, run: Run, wanted: tuple) -> Complaint | None:
    for got, want in zip(parts(run.output), wanted, strict=True):
        both = isinstance(got, Tensor) and isinstance(want, Tensor)
        if both and got.dtype != want.dtype:
            detail = f"{name_of(want.dtype)} is wanted and {name_of(got.dtype)} came."
            return Complaint("dtype", "the result has another dtype", detail)
    return None


def check_finite(exercise: Exercise, run: Run, wanted: tuple) -> Complaint | None:
    found, target = values(run.output), values(wanted)
    for got, want in zip(found, target, strict=True):
        if bool(want.isfinite().all()) and not bool(got.isfinite().all()):
            bad = got[~got.isfinite()].flatten()[0]
            detail = f"With {given_as(exercise, run)} the result holds {float(bad)}."
            return Complaint("finite", "some values are not finite", detail)
    return None


def check_values(exercise: Exercise, run: Run, wanted: tuple) -> Complaint | None:
    case = run.case
    target = values(wanted)
    if case.measure is not None and case.expected is None:
        target = measured(case, wanted)
    got = measured(case, run.output)
    for i, (g, w) in enumerate(zip(got, target, strict=True)):
        g, w = g.double().reshape(w.shape), w.double()
        far = (g - w).abs() > case.atol + case.rtol * w.abs()
        if bool(far.any()):
            which = f"result {i + 1} of {len(target)}, " if len(target) > 1 else ""
            detail = f"{which}{difference(g, w)}"
            head = "the values differ"
            detail = f"With {given_as(exercise, run)}: {detail}."
            return Complaint("values", head, detail)
    return None


def check_property(
    function: Callable, sentence: str, holds: Callable[[Callable], bool]
) -> Complaint | None:
    try:
        with seeded():
            if holds(function):
                return None
    except Exception as error:
        detail = f"Tried, and got {type(error).__name__}: {shorten(str(error), 100)}"
        return Complaint("property", "it fails on other inputs", detail)
    return Complaint("property", "it lacks a property that it should have", sentence)


def check_gradient(exercise: Exercise, function: Callable) -> Complaint | None:
    """The right, finite gradient reaches the arguments named."""
    if not exercise.gradient:
        return None
    try:
        got = gradients(exercise, function)
    except RuntimeError as error:
        text = (str(error).splitlines() or [""])[0]
        head = in_other_words(error) or "no gradient can flow"
        return Complaint("gradient", head, shorten(text, 150))
    want = gradients(exercise, exercise.reference)
    for name, g, w in zip(exercise.gradient, got, want, strict=True):
        if g is None:
            detail = f"None reaches {name}. .detach(), .item(), torch.no_grad() and "
            detail += "torch.tensor(...) cut the graph."
            return Complaint("gradient", "no gradient flows", detail)
        if not bool(g.isfinite().all()):
            detail = f"The gradient of {name} is not finite."
            return Complaint("gradient", "the gradient is not finite", detail)
        if not torch.allclose(g, w, rtol=1e-3, atol=1e-5):
            detail = f"For {name}, {difference(g.double(), w.double())}. Is a part of "
            detail += "it cut off by .detach() or torch.no_grad()?"
            head = "the values are right, the gradient is not"
            return Complaint("gradient", head, detail)
    return None


def gradients(exercise: Exercise, function: Callable) -> list[Tensor | None]:
    """Of a fixed mixture of all outputs, for each argument in ``gradient``."""
    args = list(exercise.cases[-1].make())
    places = [exercise.arguments.index(name) for name in exercise.gradient]
    leaves = [args[i].requires_grad_() for i in places]
    for i in places:
        args[i] = args[i].clone()  # a leaf could not be written over
    with seeded():
        found = [p for p in parts(function(*args)) if isinstance(p, Tensor)]
        weights = [torch.linspace(0.5, 1.5, p.numel()).view(p.shape) for p in found]
        total = sum((p * w).sum() for p, w in zip(found, weights, strict=True))
        if not total.requires_grad:
            return [None] * len(leaves)
        return list(torch.autograd.grad(total, leaves, allow_unused=True))


def written_over(exercise: Exercise, runs: list[Run]) -> tuple[str, ...]:
    """Names of the arguments that calls have changed."""
    found = []
    for run in runs:
        for name, a, b in zip(
            exercise.arguments, run.args, run.case.make(), strict=False
        ):
            if isinstance(a, Tensor) and not torch.equal(a, b):
                found.append(name)
    return tuple(dict.fromkeys(found))
