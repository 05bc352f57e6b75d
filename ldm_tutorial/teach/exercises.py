"""Exercises that answer.

    def kl_to_standard_normal(mu, logvar):
        ...  # your turn: 1 line

    kl_to_standard_normal = check("kl", kl_to_standard_normal)

A blank gives the library's own function back, so that a chapter always runs on. A wrong
answer is told what was expected, what came and, where it is a known one, which mistake
it makes; then the notebook stops. A right answer is given back as it is, and the
chapter goes on with it.

``LDM_TUTORIAL_CHECKS=soft`` turns the stop into a message. ``LDM_TUTORIAL_PROGRESS``
may name a JSON file that keeps the progress over sessions.
"""

import difflib
import functools
import inspect
import os
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ldm_tutorial.teach.effort import words
from ldm_tutorial.teach.ladder import Verdict, judge
from ldm_tutorial.teach.marks import note, progress, records, reset, save
from ldm_tutorial.teach.task import Exercise
from ldm_tutorial.teach.tasks import EXERCISES

__all__ = [
    "EXERCISES",
    "NotRightYet",
    "check",
    "hint",
    "progress",
    "prompt_markdown",
    "reference",
    "reset",
    "solution",
    "solution_markdown",
    "starter",
]


class NotRightYet(Exception):
    """An answer that is not right. In a notebook it is shown without a stack."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


def check(name: str, function: Any) -> Callable:
    """Judge an answer and return what the chapter goes on with.

    Args:
        name: of the exercise.
        function: the learner's function, filled in or not.

    Returns:
        ``function`` itself if it is right (handed copies of the arguments it writes
        over, if any), and the library's if it is blank.

    Raises:
        NotRightYet: for a wrong answer; with LDM_TUTORIAL_CHECKS=soft the message is
            printed instead, and the library's function returned.
        ValueError: for an unknown name.
    """
    exercise = find(name)
    verdict = judge(exercise, function)
    note(exercise, verdict)
    if verdict.status == "right":
        print(praise(exercise, verdict))
        return on_copies(exercise, function, verdict.changed)
    if verdict.status == "blank":
        print(invitation(exercise))
        return exercise.reference
    if verdict.status == "library":
        print(stand_in(exercise))
        return exercise.reference
    message = diagnosis(exercise, verdict)
    if not soft():
        raise NotRightYet(message)
    print(message + "\n  Until then the chapter goes on with the library's function.")
    return exercise.reference


def on_copies(
    exercise: Exercise, function: Callable, changed: tuple[str, ...]
) -> Callable:
    """A function that may write over its arguments without harm to the chapter."""
    if not changed:
        return function
    places = [exercise.arguments.index(name) for name in changed]

    @functools.wraps(function)
    def careful(*args: Any) -> Any:
        given = list(args)
        for i in places:
            given[i] = given[i].clone()
        return function(*given)

    return careful


def hint(name: str) -> None:
    """Print the next hint: three steps, one a call."""
    exercise = find(name)
    record = records()[exercise.name]
    step = min(record.hints, len(exercise.hints) - 1)
    record.hints = step + 1
    save()
    head = f"Hint {step + 1} of {len(exercise.hints)}"
    more = f'\nThis was the last one. solution("{name}") shows an answer.'
    last = step + 1 == len(exercise.hints)
    print(f"{head}: {exercise.hints[step]}{more if last else ''}")


def reference(name: str) -> Callable:
    """The right answer that ``check`` gives back for a blank."""
    return find(name).reference


def find(name: str) -> Exercise:
    """The exercise of a name.

    Raises:
        ValueError: for an unknown name.
    """
    if not isinstance(name, str):
        raise ValueError(
            "the name of the exercise comes first, as text: "
            'psnr = check("psnr", psnr), or hint("psnr")'
        )
    if name not in EXERCISES:
        known = {e.function: e.name for e in EXERCISES.values()}
        known |= {one: one for one in EXERCISES}
        close = difflib.get_close_matches(name.strip().lower(), known, n=3)
        near = " or ".join(dict.fromkeys(repr(known[one]) for one in close))
        guess = f"did you mean {near}?" if near else "progress() lists them all"
        raise ValueError(f"there is no exercise {name!r}; {guess}")
    return EXERCISES[name]


def soft() -> bool:
    return os.environ.get("LDM_TUTORIAL_CHECKS", "").lower() == "soft"


# What is said


def praise(exercise: Exercise, verdict: Verdict) -> str:
    text = f"✓ {exercise.name}: right. From here on the chapter uses your function."
    for name in verdict.changed:
        text += (
            f"\n  One thing to know: it writes over its argument {name}, so the "
            "chapter hands it a copy."
        )
    return text


def invitation(exercise: Exercise) -> str:
    name = exercise.name
    return (
        f'○ {name}: not attempted yet ({in_minutes(exercise)}; hint("{name}") gives a '
        "first step). The library's function stands in."
    )


def stand_in(exercise: Exercise) -> str:
    return (
        f"○ {exercise.name}: this is the library's own function, so there is nothing "
        "to judge. It stands in until you write yours."
    )


def diagnosis(exercise: Exercise, verdict: Verdict) -> str:
    """Three lines: what is wrong, where it shows, what to do."""
    name = exercise.name
    return (
        f"✗ {name}: {verdict.headline.rstrip('.')}.\n"
        f"  {verdict.detail}\n"
        f'  Change it and run this cell again; hint("{name}") gives a step.'
    )


# Solutions and empty cells, for notebooks and for those who build them


@dataclass(frozen=True)
class Folded:
    """Markdown that a notebook renders."""

    text: str

    def _repr_markdown_(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text


def solution(name: str) -> Folded:
    """The answer, folded, from the source that runs when a blank is checked."""
    return Folded(solution_markdown(name))


def solution_markdown(name: str) -> str:
    """The same as text, for a page without a kernel."""
    exercise = find(name)
    shown = exercise.source or (exercise.reference,)
    code = "\n\n\n".join(source(o) for o in shown)
    return (
        f"<details><summary>Solution: {exercise.title}</summary>\n\n"
        f"```python\n{code}\n```\n\n</details>"
    )


def source(what: Callable | type) -> str:
    """The code of a function or class, headed by where it stands."""
    code = textwrap.dedent(inspect.getsource(what)).rstrip()
    return f"# {what.__module__}\n{code}"


def starter(name: str) -> str:
    """The code cell of an exercise, to be filled in."""
    exercise = find(name)
    given = inspect.signature(exercise.reference).parameters.values()
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in given]
    head = f"def {exercise.function}{inspect.Signature(bare)}:"
    called = f'{exercise.function} = check("{name}", {exercise.function})'
    return f"{head}\n    # your turn: {exercise.lines}\n    ...\n\n\n{called}"


def prompt_markdown(name: str) -> str:
    """The task, headed by its title, what it trains, how hard it is, and its minutes
    with what they are counted from."""
    exercise = find(name)
    counted = f"{words(exercise.prompt)} words to read, {exercise.lines} to write"
    return (
        f"**Your turn: {exercise.title}**\n\n"
        f"*What it trains: {exercise.trains}. Difficulty {exercise.difficulty} of 3, "
        f"{in_minutes(exercise)} ({counted}).*\n\n{exercise.prompt}"
    )


def in_minutes(exercise: Exercise) -> str:
    return f"{exercise.minutes} minute{'s' if exercise.minutes > 1 else ''}"
