"""How long the course takes: the one source of every time that a page states.

Reading is counted from the text, exercises from what they ask (`teach.effort`), and
running is measured: `make_notebooks --time` records it in `book/times.json`. What a
page says in words ("a minute of training") is listed in the tests' `MEASURED`, with the
output or the record that it speaks of.
"""

import json
import os
import platform
import re
from pathlib import Path
from typing import Any

RECORD = Path(__file__).resolve().parent / "times.json"
WORDS_A_MINUTE, CELLS_A_MINUTE = 250, 2


def record(name: str, seconds: float) -> None:
    """Note what a chapter took, and on what."""
    known: dict[str, Any] = recorded()
    known[name] = {
        "seconds": round(seconds),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
    }
    text = json.dumps(dict(sorted(known.items())), indent=1, ensure_ascii=False)
    RECORD.write_text(text + "\n", "utf8")


def folded(cell) -> bool:
    return "hide-input" in cell.metadata.get("tags", ())


def reading(cells) -> float:
    """Minutes of reading: words in sight at 250 a minute, and half a minute for each
    cell whose code is.

    What is folded is not counted: answers, solutions, code that draws. Nor are the
    exercises and the references. A formula counts as one word.
    """
    words = shown = 0
    for cell in cells:
        if cell.cell_type == "code":
            shown += not folded(cell) and "= check(" not in cell.source
            continue
        text = re.split(r"^## References", cell.source, flags=re.M)[0]
        text = re.sub(r"<details>.*?</details>", " ", text, flags=re.S)
        text = re.sub(r"\*\*Your turn: .*", " ", text, flags=re.S)
        text = re.sub(
            r"\$\$.*?\$\$|\$[^$\n]+\$|\[!\[.*?\]\(.*?\)", " m ", text, flags=re.S
        )
        words += len(text.split())
    return words / WORDS_A_MINUTE + shown / CELLS_A_MINUTE


def functions(chapter: int) -> list:
    """The exercises of a chapter."""
    from ldm_tutorial.teach.exercises import EXERCISES

    return [one for one in EXERCISES.values() if one.chapter == chapter]


def questions(cells) -> list[int]:
    """Minutes of the questions at the end of a chapter, as they state them."""
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    end = prose.split("\n## Exercises\n")[-1]
    return [
        int(one) for one in re.findall(r"^\*\*\d+\. .+?\*\*,? \((\d+) min", end, re.M)
    ]


def recorded() -> dict[str, dict]:
    return json.loads(RECORD.read_text("utf8")) if RECORD.exists() else {}


def running(name: str) -> int:
    """Minutes of running a chapter, as recorded; 0 if it was never measured."""
    seconds = recorded().get(name, {}).get("seconds", 0)
    return max(1, round(seconds / 60)) if seconds else 0


def minutes(name: str, cells) -> dict[str, int]:
    """What a chapter takes, in minutes: to read, to write its functions, to answer the
    questions at its end, and to run."""
    written = sum(one.minutes for one in functions(int(name[:2])))
    return {
        "read": round(reading(cells)),
        "write": written,
        "answer": sum(questions(cells)),
        "run": running(name),
    }


def sentences(name: str, cells) -> str:
    """What a chapter says of its times."""
    all_ = minutes(name, cells)
    count = len(functions(int(name[:2])))
    return (
        f"Reading takes about {all_['read']} minutes, without the exercises and without"
        f" what is folded; the {count} functions to write take about {all_['write']}"
        f" minutes more, the questions at the end {all_['answer']}. Running takes about"
        f" {all_['run'] or '…'} minutes on 2 CPU cores."
    )
