"""The directive of the page "How every number was made".

``{register} PAGE`` lists the conclusions of a page of the book with the records that
they rest on, from ``book/claims``; ``{register} records`` lists what is recorded in
``data/results``, with command, time and place.
"""

import json
import sys
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

BOOK = Path(__file__).resolve().parent.parent
RESULTS = BOOK.parent / "data" / "results"
RECORDS = "records"


def claims_of(page):
    """Markdown: a list of the conclusions of a page, and what each rests on."""
    sys.path.insert(0, str(BOOK))
    try:
        from claims import CLAIMS
    finally:
        sys.path.remove(str(BOOK))
    lines = []
    for claim in CLAIMS:
        if claim.page == page:
            said = " ".join(claim.sentence.split())
            lines += [f"- “{said}”", "", f"  {'; '.join(grounds(claim))}.", ""]
    return lines


def grounds(claim):
    """What a claim rests on, in parts of a sentence."""
    from claims.claim import row, seeds

    names = {}
    for arm in claim.arms:
        name, _, part = arm.partition("/")
        names.setdefault(name, []).append(part)
    rests = ", ".join(
        f"`{name}`" + (f" ({', '.join(parts)})" if parts[0] else "")
        for name, parts in names.items()
    )
    told = [f"Rests on {rests}"]
    if claim.differ:
        told.append("the arms differ in " + ", ".join(f"`{f}`" for f in claim.differ))
    if claim.because:
        told.append(claim.because)
    rows = [row(arm) for arm in claim.arms]
    if claim.n:
        n = sorted({judged_by(r, claim.n) for r in rows})
        told.append("n = " + " and ".join(f"{k:,}" for k in n))
    found = sorted({s for r in rows for s in seeds(r.get("recipe", {}))})
    if found and claim.differ is not None:
        word = "seed" if len(found) == 1 else "seeds"
        told.append(f"{word} {', '.join(map(str, found))}")
    return told


def judged_by(value, path):
    """How many images a row was judged by; of several points, the last."""
    for key in path.split("."):
        value = value[-1] if isinstance(value, list) else value
        value = value[key]
    return value


def records(folder=RESULTS):
    """Markdown: a list with an entry for each record."""
    lines = []
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text("utf8"))
        runs = found.get("runs", [found])
        seconds = sum(run.get("seconds", 0) for run in runs)
        told = [
            f"{max(1, round(seconds / 60))} min" if seconds else "time not recorded",
            *dict.fromkeys(map(place, runs)),
            *dict.fromkeys(map(versions, runs)),
            ", ".join(dict.fromkeys(run["date"] for run in runs)),
        ]
        if "question" in found:
            told.insert(0, f"*{found['question']}*")
        lines += [f"- **{path.stem}**: `{found['command']}`", ""]
        lines += [f"  {'; '.join(told)}.", ""]
    return lines


def place(run):
    threads = f"{run['threads']} thread" + ("" if run["threads"] == 1 else "s")
    return f"{run['device']}, {threads}"


def versions(run):
    at = f", commit {run['commit']}" if run.get("commit") else ""
    return f"torch {run['torch']}, Python {run['python']}{at}"


class Register(SphinxDirective):
    """Its argument is a page of the book, or ``records``."""

    required_arguments = 1

    def run(self):
        what = self.arguments[0]
        for path in (*RESULTS.glob("*.json"), *(BOOK / "claims").glob("*.py")):
            self.env.note_dependency(str(path))
        lines = records() if what == RECORDS else claims_of(what)
        container = nodes.container()
        self.state.nested_parse(StringList(lines, what), self.content_offset, container)
        return container.children


def setup(app):
    app.add_directive("register", Register)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
