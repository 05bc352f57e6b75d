"""What is known of a learner: which exercises are right, with how many attempts.

``LDM_TUTORIAL_PROGRESS`` may name a JSON file that keeps it over sessions; several
notebooks may share one.
"""

import html
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ldm_tutorial.teach.ladder import Verdict
from ldm_tutorial.teach.task import Exercise
from ldm_tutorial.teach.tasks import EXERCISES

VERSION = 1  # of the file
SIGNS = {"new": "·", "blank": "○", "wrong": "✗", "right": "✓"}  # from worst to best
WORDS = {
    "right": "right",
    "wrong": "not right yet",
    "blank": "not attempted",
    "new": "not reached",
}


@dataclass
class Record:
    """What is known of a learner and one exercise; the status is the best so far."""

    status: str = "new"
    attempts: int = 0
    hints: int = 0
    misconceptions: tuple[str, ...] = ()


_records: dict[str, Record] = {}
_others: dict[str, dict[str, Any]] = {}  # rows of exercises that other versions know


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
    _others.clear()


def note(exercise: Exercise, verdict: Verdict) -> None:
    """Write a verdict down. What was right once stays so, whatever is tried later."""
    record = records()[exercise.name]
    status = "blank" if verdict.status == "library" else verdict.status
    record.status = better(record.status, status)
    record.attempts += status != "blank"
    if verdict.misconception:
        seen = [*record.misconceptions, verdict.misconception]
        record.misconceptions = tuple(dict.fromkeys(seen))
    save()


def better(a: str, b: str) -> str:
    return max(a, b, key=list(SIGNS).index)


def progress_file() -> Path | None:
    name = os.environ.get("LDM_TUTORIAL_PROGRESS")
    return Path(name).expanduser() if name else None


def read(path: Path | None) -> dict[str, Record]:
    """Records in a file; none if there is no file. One that cannot be read is put
    aside under another name, and rows of exercises that are not known here are kept for
    ``save``, so that nothing is lost."""
    if path is None or not path.is_file():
        return {}
    try:
        saved = json.loads(path.read_text("utf8"))
        if saved.get("version", 1) != VERSION:
            raise ValueError(f"its version {saved['version']} is not {VERSION}")
        rows = {row["name"]: row for row in saved["exercises"]}
        found = {k: record_of(row) for k, row in rows.items() if k in EXERCISES}
        _others.update({k: row for k, row in rows.items() if k not in EXERCISES})
        return found
    except OSError as error:
        print(f"The progress could not be read: {error}.")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        put_aside(path, f"{type(error).__name__}: {error}")
    return {}


def record_of(row: dict[str, Any]) -> Record:
    return Record(
        row["status"] if row["status"] in SIGNS else "new",
        int(row["attempts"]),
        int(row["hints"]),
        tuple(str(name) for name in row["misconceptions"]),
    )


def put_aside(path: Path, reason: str) -> None:
    aside, n = path.with_name(path.name + ".damaged"), 1
    while aside.exists():
        n += 1
        aside = path.with_name(f"{path.name}.damaged-{n}")
    try:
        os.replace(path, aside)
    except OSError as error:
        print(f"{path} holds no progress that can be read ({reason}): {error}.")
    else:
        print(f"{path} could not be read ({reason}). It is kept as {aside.name}.")


def save() -> None:
    """Write the progress to its file, if one is named; a notebook goes on without.
    What another notebook has written there meanwhile is taken in first."""
    path = progress_file()
    if path is None:
        return
    known = records()
    for name, other in read(path).items():
        known[name] = merged(known.get(name, Record()), other)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = board(known).to_dict()
        content["exercises"] += _others.values()
        write(path, content)
    except OSError as error:
        print(f"The progress could not be saved: {error}.")


def merged(a: Record, b: Record) -> Record:
    """The better of two records of one learner and one exercise."""
    return Record(
        better(a.status, b.status),
        max(a.attempts, b.attempts),
        max(a.hints, b.hints),
        tuple(dict.fromkeys([*b.misconceptions, *a.misconceptions])),
    )


def write(path: Path, content: dict[str, Any]) -> None:
    """A JSON file, in one step."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.new")
    text = json.dumps(content, indent=1, ensure_ascii=False)
    partial.write_text(text + "\n", "utf8")
    os.replace(partial, path)


@dataclass(frozen=True)
class Row:
    """One line of the scoreboard."""

    name: str
    chapter: int
    title: str
    minutes: int
    difficulty: int
    trains: str
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
        heads = (
            *("chapter", "exercise", "status", "difficulty", "minutes"),
            *("attempts", "hints"),
        )
        cells = "".join(f'<th scope="col">{head}</th>' for head in heads)
        body = "".join(
            f"<tr><td>{row.chapter}</td>"
            f"<td><code>{html.escape(row.name)}</code> {html.escape(row.title)}</td>"
            f"<td>{SIGNS[row.status]} {WORDS[row.status]}</td>"
            f"<td>{row.difficulty}</td><td>{row.minutes}</td>"
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
        return {
            "version": VERSION,
            "right": right,
            "of": len(self.rows),
            "exercises": rows,
        }

    def to_json(self, path: str | Path) -> None:
        """Write ``to_dict`` to a file, in one step.

        Raises:
            ValueError: if its folder does not exist.
        """
        path = Path(path).expanduser()
        if not path.parent.is_dir():
            raise ValueError(f"{path.parent} is no folder; make it, or name another")
        write(path, self.to_dict())


def remarks(row: Row) -> str:
    counts = {"attempt": row.attempts, "hint": row.hints}
    some = [f"{n} {word}{'s' * (n > 1)}" for word, n in counts.items() if n]
    return ", ".join(some)


def board(known: dict[str, Record], chapter: int | None = None) -> Progress:
    rows = [
        Row(
            e.name,
            e.chapter,
            e.title,
            e.minutes,
            e.difficulty,
            e.trains,
            **asdict(known[e.name]),
        )
        for e in EXERCISES.values()
        if chapter in (None, e.chapter)
    ]
    return Progress(tuple(rows))


def progress(chapter: int | None = None, save: str | Path | None = None) -> Progress:
    """The scoreboard, of one chapter or of all, in the order of the pages.

    Args:
        chapter: its number; None for all.
        save: a JSON file to write it to, e.g. "marks.json", as ``Progress.to_dict``.

    Raises:
        ValueError: for a chapter without exercises, or a folder that does not exist.
    """
    chapters = sorted({exercise.chapter for exercise in EXERCISES.values()})
    if chapter is not None and chapter not in chapters:
        raise ValueError(
            f"chapter {chapter!r} has no exercises; choose from {chapters}"
        )
    found = board(records(), chapter)
    if save is not None:
        found.to_json(save)
    return found
