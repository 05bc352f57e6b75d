"""The first rung: is it a function, and can it be called as the exercise calls it?"""

import inspect
from typing import Any

from ldm_tutorial.teach.rungs import Complaint
from ldm_tutorial.teach.task import Exercise
from ldm_tutorial.teach.words import kind


def check_signature(exercise: Exercise, function: Any) -> Complaint | None:
    name, arguments = exercise.function, exercise.arguments
    example = f"{name} = check({exercise.name!r}, {name})"
    if not callable(function) or isinstance(function, type):
        got = "a class" if callable(function) else kind(function)
        headline = f"check wants the function itself and was given {got}"
        return Complaint("signature", headline, f"Write it without calling: {example}")
    if inspect.iscoroutinefunction(function):
        detail = "Write `def` in place of `async def`."
        return Complaint("signature", "an async function gives no result", detail)
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # some functions written in C do not tell
        return None
    given = [p.name for p in signature.parameters.values()]
    wanted = f"{name}({', '.join(arguments)})"
    detail = f"It is called as {wanted}; yours takes ({', '.join(given)})."
    counts = sorted({len(case.make()) for case in exercise.cases})
    for count in reversed(counts):  # all arguments first, then without optional ones
        if fits(signature, count):
            continue
        if count < counts[-1] and fits(signature, counts[-1]):
            detail = f"It is called without {left_out(exercise, count)} as well: give "
            detail += "what is left out its default."
        elif set(given) == set(arguments):
            detail = f"It is called as {wanted}, by position; yours takes "
            detail += f"{signature}."
        return Complaint("signature", "its arguments are not those asked for", detail)
    count = counts[0]
    same_names = set(given[:count]) == set(arguments[:count])
    if same_names and given[:count] != arguments[:count]:
        return Complaint("signature", "its arguments come in another order", detail)
    return None


def fits(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def left_out(exercise: Exercise, count: int) -> str:
    """The optional arguments after the first ones, with their defaults."""
    parameters = inspect.signature(exercise.reference).parameters.values()
    return ", ".join(f"{p.name}={p.default}" for p in list(parameters)[count:])
