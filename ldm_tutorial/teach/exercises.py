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

import functools
import html
import inspect
import json
import os
import textwrap
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ldm_tutorial.teach.ladder import Verdict, judge
from ldm_tutorial.teach.task import Exercise
from ldm_tutorial.teach.tasks import EXERCISES

SIGNS = {"right": "✓", "wrong": "✗", "blank": "○", "new": "·"}
WORDS = {
    "right": "right",
    "wrong": "not right yet",
    "blank": "not attempted",
    "new": "not reached",
}


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
    if name not in EXERCISES:
        raise ValueError(
            f"there is no exercise {name!r}; choose from {', '.join(EXERCISES)}"
        )
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
    name, minutes = exercise.name, exercise.minutes
    unit = "minute" if minutes == 1 else "minutes"
    return (
        f'○ {name}: not attempted yet ({minutes} {unit}; hint("{name}") gives a first '
        "step). The library's function stands in."
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
    """The task, headed by its title and its minutes."""
    exercise = find(name)
    minutes = f"{exercise.minutes} minute{'s' if exercise.minutes > 1 else ''}"
    return f"**Your turn: {exercise.title}** ({minutes}). {exercise.prompt}"


# Progress


@dataclass
class Record:
    """What is known of a learner and one exercise."""

    status: str = "new"
    attempts: int = 0
    hints: int = 0
    misconceptions: tuple[str, ...] = ()


_records: dict[str, Record] = {}


def records() -> dict[str, Record]:
    """One record an exercise, read from LDM_TUTORIAL_PROGRESS the first time."""
    if not _records:
        saved = read(progress_file())
        for name in EXERCISES:
            _records[name] = saved.get(name, Record())
    return _records


def reset() -> None:
    """Forget the progress of this process; a file of it stays."""
    _records.clear()


def note(exercise: Exercise, verdict: Verdict) -> None:
    """Write a verdict down. What was right once stays so, unless it is wrong now."""
    record = records()[exercise.name]
    if verdict.status == "blank":
        if record.status == "new":
            record.status = "blank"
    else:
        record.status = verdict.status
        record.attempts += 1
    if verdict.misconception:
        seen = [*record.misconceptions, verdict.misconception]
        record.misconceptions = tuple(dict.fromkeys(seen))
    save()


def progress_file() -> Path | None:
    name = os.environ.get("LDM_TUTORIAL_PROGRESS")
    return Path(name).expanduser() if name else None


def read(path: Path | None) -> dict[str, Record]:
    """Records in a file; none if there is no file or it cannot be read."""
    try:
        rows = json.loads(path.read_text("utf8"))["exercises"] if path else []
        return {
            row["name"]: Record(
                str(row["status"]) if row["status"] in SIGNS else "new",
                int(row["attempts"]),
                int(row["hints"]),
                tuple(row["misconceptions"]),
            )
            for row in rows
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def save() -> None:
    """Write the progress to its file, if one is named; a notebook goes on without."""
    if path := progress_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            progress().to_json(path)
        except OSError as error:
            print(f"The progress could not be saved: {error}.")


@dataclass(frozen=True)
class Row:
    """One line of the scoreboard."""

    name: str
    chapter: int
    title: str
    minutes: int
    status: str
    attempts: int
    hints: int
    misconceptions: tuple[str, ...]


@dataclass(frozen=True)
class Progress:
    """The scoreboard: printed as text, shown as a table in a notebook."""

    rows: tuple[Row, ...]

    @property
    def summary(self) -> str:
        right = [row for row in self.rows if row.status == "right"]
        minutes = sum(row.minutes for row in self.rows if row.status != "right")
        return f"{len(right)} of {len(self.rows)} right, about {minutes} minutes left"

    def __repr__(self) -> str:
        width = max((len(row.name) for row in self.rows), default=0)
        lines, chapter = [], None
        for row in self.rows:
            if row.chapter != chapter:
                chapter = row.chapter
                lines.append(f"Chapter {chapter}")
            line = f"  {SIGNS[row.status]} {row.name:{width}}  {WORDS[row.status]:13}"
            lines.append(f"{line} {row.minutes:3} min  {remarks(row)}".rstrip())
        return "\n".join([*lines, self.summary])

    def _repr_html_(self) -> str:
        heads = ("chapter", "exercise", "status", "minutes", "attempts", "hints")
        cells = "".join(f'<th scope="col">{head}</th>' for head in heads)
        body = "".join(
            f"<tr><td>{row.chapter}</td>"
            f"<td><code>{html.escape(row.name)}</code> {html.escape(row.title)}</td>"
            f"<td>{SIGNS[row.status]} {WORDS[row.status]}</td><td>{row.minutes}</td>"
            f"<td>{row.attempts}</td><td>{row.hints}</td></tr>"
            for row in self.rows
        )
        return (
            f"<table><caption>{html.escape(self.summary)}</caption>"
            f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
        )

    def to_dict(self) -> dict[str, Any]:
        """For teachers: what was done, with what help, and which mistakes were met."""
        right = sum(row.status == "right" for row in self.rows)
        rows = [asdict(row) for row in self.rows]
        return {"right": right, "of": len(self.rows), "exercises": rows}

    def to_json(self, path: str | Path) -> None:
        """Write ``to_dict`` to a file, in one step.

        Raises:
            ValueError: if its folder does not exist.
        """
        path = Path(path).expanduser()
        if not path.parent.is_dir():
            raise ValueError(f"{path.parent} is no folder; make it, or name another")
        partial = path.with_name(path.name + ".new")
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False)
        partial.write_text(text + "\n", "utf8")
        os.replace(partial, path)


def remarks(row: Row) -> str:
    counts = {"attempt": row.attempts, "hint": row.hints}
    some = [f"{n} {word}{'s' * (n > 1)}" for word, n in counts.items() if n]
    return ", ".join(some)


def progress(chapter: int | None = None, save: str | Path | None = None) -> Progress:
    """The scoreboard, of one chapter or of all.

    Args:
        chapter: 1 to 5; None for all.
        save: a JSON file to write it to, e.g. "marks.json", as ``Progress.to_dict``.

    Raises:
        ValueError: for a chapter without exercises, or a folder that does not exist.
    """
    chapters = sorted({exercise.chapter for exercise in EXERCISES.values()})
    if chapter is not None and chapter not in chapters:
        raise ValueError(
            f"chapter {chapter!r} has no exercises; choose from {chapters}"
        )
    rows = [
        Row(e.name, e.chapter, e.title, e.minutes, **asdict(records()[e.name]))
        for e in EXERCISES.values()
        if chapter in (None, e.chapter)
    ]
    board = Progress(tuple(rows))
    if save is not None:
        board.to_json(save)
    return board
