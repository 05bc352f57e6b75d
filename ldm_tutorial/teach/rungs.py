"""The rungs of the ladder on which an answer is judged, each a function that finds
something to complain of, or nothing. ``ladder`` says in which order they come."""

import linecache
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ldm_tutorial.teach.guard import RAISED, OutOfTime, leftovers, limited, seeded
from ldm_tutorial.teach.task import (
    Case,
    Exercise,
    Run,
    attempt,
    is_number,
    measured,
    parts,
    strange,
    values,
)
from ldm_tutorial.teach.tasks import EXERCISES
from ldm_tutorial.teach.words import (
    difference,
    given_as,
    in_other_words,
    kind,
    name_of,
    plural,
    raised,
    shape,
    shapes_given,
    shorten,
)

FUNCTIONS = {exercise.function for exercise in EXERCISES.values()}


@dataclass(frozen=True)
class Complaint:
    """What a rung found: a headline and where it shows."""

    rung: str
    headline: str
    detail: str


def wanted_of(exercise: Exercise, case: Case) -> Any:
    """What is wanted of a case, in the kinds that the reference returns."""
    if case.expected is not None:
        return case.expected
    run = attempt(exercise.reference, case)
    if run.error is not None:
        raise run.error
    return run.output


def check_runs(
    exercise: Exercise, function: Callable, run: Run, wanted: Any
) -> Complaint | None:
    if run.error is None:
        return None
    if isinstance(run.error, OutOfTime):
        return too_slow(exercise)
    detail = raised(run.error)
    if line := failing_line(function, run.error):
        detail += f"   in the line: {shorten(line, 70)}"
    if given := shapes_given(exercise, run):
        detail += f"   with {given}"
    headline = in_other_words(run.error) or "it raises an exception"
    if isinstance(run.error, NameError) and run.error.name in FUNCTIONS:
        headline = f"{run.error.name} is missing: run the cell of that exercise first"
    return Complaint("runs", headline, detail)


def too_slow(exercise: Exercise) -> Complaint:
    head = f"it did not come back within {exercise.seconds:g} seconds"
    return Complaint("runs", head, "Is there a loop that never ends?")


def failing_line(function: Callable, error: BaseException) -> str:
    """The line of the learner's own function in which an exception arose."""
    own = getattr(function, "__code__", None)
    found, trace = "", error.__traceback__
    while trace and own:
        if trace.tb_frame.f_code.co_filename == own.co_filename:
            found = linecache.getline(own.co_filename, trace.tb_lineno).strip()
        trace = trace.tb_next
    return found


def check_kind(exercise: Exercise, run: Run, wanted: Any) -> Complaint | None:
    """As many results as wanted, tensors where tensors are wanted, of their shapes."""
    given, wanted = parts(run.output), parts(wanted)
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
        if complaint := check_one_kind(exercise, run, got, want):
            return complaint
    return None


def check_one_kind(
    exercise: Exercise, run: Run, got: Any, want: Any
) -> Complaint | None:
    if isinstance(got, tuple | list) and len(got) == 1:
        headline = f"the result is wrapped in a {type(got).__name__}"
        comma = "Is there a comma at the end of `return`?"
        brackets = "Leave the brackets around it out."
        detail = comma if isinstance(got, tuple) else brackets
        return Complaint("shape", headline, detail)
    if isinstance(got, Tensor) and strange(got):
        headline = "the result is a tensor of another kind"
        return Complaint("shape", headline, f"It is {strange(got)}.")
    if isinstance(want, str) and isinstance(got, str):
        return None
    free = not isinstance(want, Tensor | str) or (
        isinstance(want, Tensor) and want.ndim == 0 and not exercise.gradient
    )
    if free and is_number(got):
        return None
    if isinstance(want, Tensor) and isinstance(got, Tensor):
        if got.shape == want.shape:
            return None
        headline = shape_in_words(tuple(got.shape), tuple(want.shape))
        if across := other_dimension(run.case, got, want):
            headline = across
        gets = f"shape {shape(want)} is wanted and {shape(got)} came"
    else:
        headline = "the result is of another kind"
        if isinstance(want, Tensor) and want.ndim == 0 and is_number(got):
            headline = "it returns a plain number, through which no gradient flows"
        gets = f"{kind(want)} is wanted and {kind(got)} came"
    return Complaint("shape", headline, f"With {given_as(exercise, run)}: {gets}.")


def shape_in_words(got: tuple[int, ...], want: tuple[int, ...]) -> str:
    """What is likely to have made another shape of a result."""
    if not got:
        return "the result is one number, where there should be many"
    if not want:
        return "the result is many numbers, where there should be one"
    if sorted(got) == sorted(want):
        return "the dimensions of the result are in another order"
    if [n for n in got if n > 1] == [n for n in want if n > 1]:
        return "the result has dimensions of size 1 too many or too few (keepdim, view)"
    if len(got) == len(want) and all(
        w in (1, g) for g, w in zip(got, want, strict=True)
    ):
        return "the result was broadcast to a larger shape than asked for"
    if math.prod(got) == math.prod(want):
        return "the result has as many numbers as it should, in another shape"
    if len(got) < len(want):
        return "too many dimensions are summed, averaged or flattened away"
    if len(got) > len(want):
        return "too few dimensions are summed, averaged or flattened"
    return "the result has another shape"


def other_dimension(case: Case, got: Tensor, want: Tensor) -> str:
    """A sentence if there is one number for each place of another dimension of an
    input than asked for, as after a mean over the wrong ones."""
    if got.ndim != 1 or want.ndim != 1:
        return ""
    shapes = [a.shape for a in case.make() if isinstance(a, Tensor)]
    sizes = max(shapes, key=len, default=())
    came, wanted = (
        [i for i, n in enumerate(sizes) if n == len(x)] for x in (got, want)
    )
    if len(sizes) < 3 or len(came) != 1 or not wanted:
        return ""
    return (
        f"there is a number for each place of dimension {came[0]}, where one for each "
        f"of dimension {wanted[0]} is asked for"
    )


def check_dtype(exercise: Exercise, run: Run, wanted: Any) -> Complaint | None:
    for got, want in zip(parts(run.output), parts(wanted), strict=True):
        both = isinstance(got, Tensor) and isinstance(want, Tensor)
        if both and got.dtype != want.dtype:
            detail = f"{name_of(want.dtype)} is wanted and {name_of(got.dtype)} came."
            return Complaint("dtype", "the result has another dtype", detail)
    return None


def check_finite(exercise: Exercise, run: Run, wanted: Any) -> Complaint | None:
    found, target = values(run.output) or (), values(wanted) or ()
    for got, want in zip(found, target, strict=True):
        if isinstance(got, str) or isinstance(want, str):
            continue
        if bool(want.isfinite().all()) and not bool(got.isfinite().all()):
            bad = got[~got.isfinite()].flatten()[0]
            head = "some values are nan: 0 / 0, or the root or logarithm of a negative "
            head += "number"
            if bool(bad.isinf()):
                head = "some values are infinite: something is divided by 0, a "
                head += "logarithm is taken of 0, or a number grows too large"
            detail = f"With {given_as(exercise, run)} the result holds {float(bad)}."
            return Complaint("finite", head, detail)
    return None


def check_values(exercise: Exercise, run: Run, wanted: Any) -> Complaint | None:
    case = run.case
    target = values(wanted)
    if case.measure is not None and case.expected is None:
        target = measured(case, wanted)
    got = measured(case, run.output)
    if got is None or target is None:
        detail = f"With {given_as(exercise, run)}: it cannot be compared."
        return Complaint("values", "the result is of another kind", detail)
    for i, (g, w) in enumerate(zip(got, target, strict=True)):
        which = f"result {i + 1} of {len(target)}, " if len(target) > 1 else ""
        if isinstance(g, str) or isinstance(w, str):
            if g == w:
                continue
            return other_choice(exercise, run, str(g), str(w))
        g, w = g.double().reshape(w.shape), w.double()
        if not torch.allclose(g, w, case.rtol, case.atol, equal_nan=True):
            detail = f"With {given_as(exercise, run)}: {which}{difference(g, w)}."
            return Complaint("values", "the values differ", detail)
    return None


def other_choice(exercise: Exercise, run: Run, got: str, want: str) -> Complaint:
    """A word in place of another one; a known wrong one gets its reason."""
    given = given_as(exercise, run)
    if reason := run.case.reasons.get(got):
        return Complaint("values", f'not "{got}"', f"With {given}: {reason}.")
    choices = sorted({*run.case.reasons, want})
    detail = f'With {given}: "{shorten(got, 40)}" came; the choices are '
    return Complaint("values", "no such choice", detail + ", ".join(choices) + ".")


def check_property(
    exercise: Exercise,
    function: Callable,
    sentence: str,
    holds: Callable[[Callable], bool | str],
) -> Complaint | None:
    try:
        with seeded(), limited(3 * exercise.seconds):
            found = holds(function)
        if isinstance(found, str):
            return Complaint("property", found, sentence)
        if found:
            return None
    except OutOfTime:
        return too_slow(exercise)
    except RAISED as error:
        headline = in_other_words(error) or "it fails on other inputs"
        detail = f"Tried, and got {raised(error)}   ({shorten(sentence, 90)})"
        return Complaint("property", headline, detail)
    return Complaint("property", "it lacks a property that it should have", sentence)


def check_gradient(exercise: Exercise, function: Callable) -> Complaint | None:
    """The right, finite gradient reaches the arguments named."""
    if not exercise.gradient:
        return None
    try:
        with limited(exercise.seconds):
            got = gradients(exercise, function)
    except OutOfTime:
        return too_slow(exercise)
    except RAISED as error:
        head = in_other_words(error) or "no gradient can flow"
        return Complaint("gradient", head, raised(error))
    want = gradients(exercise, exercise.reference)
    for name, g, w in zip(exercise.gradient, got, want, strict=True):
        if g is None:
            detail = f"None reaches {name}. .detach(), .item(), torch.no_grad() and "
            detail += "torch.tensor(...) cut the graph."
            return Complaint("gradient", "no gradient flows", detail)
        if not bool(g.isfinite().all()):
            detail = f"The gradient of {name} is not finite."
            return Complaint("gradient", "the gradient is not finite", detail)
        if w is not None and not torch.allclose(g, w, rtol=1e-3, atol=1e-5):
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
        total: Any = sum((p * w).sum() for p, w in zip(found, weights, strict=True))
        if not total.requires_grad:
            return [None] * len(leaves)
        return list(torch.autograd.grad(total, leaves, allow_unused=True))


# What a right answer leaves behind


def check_shared(exercise: Exercise, run: Run, wanted: Any) -> Complaint | None:
    """Nothing that the notebook uses elsewhere was written into: a schedule, a module,
    a list, the gradients of an argument. (A tensor may be: ``check`` hands copies.)"""
    fresh = run.case.make()
    for name, now, before in zip(exercise.arguments, run.args, fresh, strict=False):
        if name in exercise.changes:
            continue
        if isinstance(now, Tensor):
            if now.is_leaf and now.grad is not None:
                detail = f"{name}.grad is filled; torch.autograd.grad leaves it alone."
                return Complaint("shared", "it fills gradients of its inputs", detail)
            continue
        a, b = dict(contents(now, name)), dict(contents(before, name))
        changed = [k for k in b if k not in a or not same(a[k], b[k])]
        changed += [k for k in a if k not in b]
        if changed:
            detail = f"{changed[0]} has another value afterwards, and the rest of the "
            detail += "notebook uses it. Work on a copy (.clone())."
            return Complaint("shared", f"it writes into its argument {name}", detail)
    return None


def contents(value: Any, name: str, depth: int = 3) -> list[tuple[str, Any]]:
    """(name, tensor or plain value) of all that an object holds."""
    if isinstance(value, Tensor | bool | int | float | str | None.__class__):
        return [(name, value)]
    inside: list[tuple[str, Any]] = []
    if depth == 0:
        return inside
    if isinstance(value, nn.Module):
        inside = [(f"{name}.{k}", v) for k, v in value.state_dict().items()]
        inside += [(f"{name}.{k}.grad", p.grad) for k, p in value.named_parameters()]
        return [*inside, (f"{name}.training", value.training)]
    if isinstance(value, dict):
        inside = [(f"{name}[{k!r}]", v) for k, v in value.items()]
    elif isinstance(value, list | tuple):
        inside = [(f"{name}[{i}]", v) for i, v in enumerate(value)]
    elif is_dataclass(value):
        public = [f.name for f in fields(value) if not f.name.startswith("_")]
        inside = [(f"{name}.{field}", getattr(value, field)) for field in public]
    return [pair for key, v in inside for pair in contents(v, key, depth - 1)]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return same_tensor(a, b)
    return type(a) is type(b) and (a == b or a != a)


def same_tensor(a: Tensor, b: Tensor) -> bool:
    """Equal in shape, dtype and every value, undefined ones included."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    a, b = a.detach(), b.detach()
    return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())


def check_leftovers(exercise: Exercise, function: Callable) -> Complaint | None:
    """The random numbers and the settings of the notebook are left alone."""
    case = exercise.cases[0]
    try:
        with limited(3 * exercise.seconds):
            head = leftovers(lambda: function(*case.make()))
    except RAISED as error:  # it worked a moment ago
        return Complaint("leftovers", "it fails when called again", raised(error))
    detail = "Every later cell would notice: leave that to the notebook."
    return Complaint("leftovers", head, detail) if head else None
