"""Turn each chapter's source `src/NN_name.md` into an executed `NN_name.ipynb`.

    python book/make_notebooks.py                 write and execute every chapter
    python book/make_notebooks.py 01_vae 02_kl    only these
    python book/make_notebooks.py --time          and record how long each took
    python book/make_notebooks.py --check         compare, execute nothing

A source is MyST notebook text with placeholders. `{{colab_badge}}` in Markdown and
`{{install}}` in a code cell are filled in from the one place that holds the
repository's address, `[project.urls] Repository` in pyproject.toml;
`{{exercise: NAME}}` and `{{solution: NAME}}` in Markdown from the exercises in
`ldm_tutorial.teach`; and `{{times}}` in Markdown by `durations`, from the text itself
and from the record that `--time` writes.
"""

import argparse
import base64
import hashlib
import io
import os
import re
import sys
import time
import tomllib
from html import escape
from pathlib import Path

import durations
import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
MAX_BYTES = 1_500_000
MAX_IMAGE_BYTES = 150_000
WIDGET = "application/vnd.jupyter.widget-view+json"
NOTEBOOK_METADATA = {
    "accelerator": "GPU",  # Colab offers a GPU when it opens the notebook
    "colab": {"gpuType": "T4", "provenance": []},
    "kernelspec": {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    },
    "language_info": {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "pygments_lexer": "ipython3",
    },
}


class ChapterError(Exception):
    """A chapter that cannot be made; the message is for the author."""


def sources() -> dict[str, Path]:
    """Name -> source, in the book's order: the chapters, then the appendices."""
    return {path.stem: path for path in sorted((BOOK / "src").glob("*_*.md"))}


def chapters() -> list[str]:
    """The names of the chapters; an appendix has no exercises and no number."""
    return [name for name in sources() if name[0].isdigit()]


def notebook_path(name: str) -> Path:
    return BOOK / f"{name}.ipynb"


def repository() -> str:
    """The repository's address, e.g. https://github.com/OWNER/REPO."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
    return project["urls"]["Repository"].rstrip("/")


def colab_badge(name: str) -> str:
    opened = repository().replace("https://github.com/", "")
    site = "https://colab.research.google.com"
    return (
        f"[![Open in Colab]({site}/assets/colab-badge.svg)]"
        f"({site}/github/{opened}/blob/main/book/{name}.ipynb)"
    )


def install_code() -> str:
    return (
        "import importlib.util\n\n"
        'if importlib.util.find_spec("ldm_tutorial") is None:\n'
        f"    %pip install -q git+{repository()}"
    )


def fill_exercises(text: str) -> str:
    """Markdown with the texts and solutions of the exercises that it names."""
    from ldm_tutorial.teach.exercises import prompt_markdown, solution_markdown

    makers = {"exercise": prompt_markdown, "solution": solution_markdown}
    return re.sub(
        r"\{\{(exercise|solution): (\w+)\}\}", lambda m: makers[m[1]](m[2]), text
    )


def cell_id(cell, seen: set[str]) -> str:
    """An id that depends on what the cell says, so an edit leaves the others alone."""
    text = f"{cell.cell_type}\n{cell.source}"
    for attempt in range(1000):
        digest = hashlib.sha256(f"{attempt}\n{text}".encode()).hexdigest()[:8]
        if digest not in seen:
            seen.add(digest)
            return digest
    raise ChapterError(f"too many equal cells: {cell.source[:60]!r}")


def generate(source: Path, times: bool = True):
    """The notebook that `source` stands for, not executed; with `times=False` the
    placeholder of what it takes is left as it is."""
    notebook = jupytext.reads(source.read_text("utf8"), fmt="md:myst")
    seen: set[str] = set()
    for cell in notebook.cells:
        cell.id = cell_id(cell, seen)
        if cell.cell_type == "code":
            cell.source = cell.source.replace("{{install}}", install_code())
        else:
            badge = colab_badge(source.stem)
            cell.source = cell.source.replace("{{colab_badge}}", badge)
            cell.source = fill_exercises(cell.source)
    if times and any("{{times}}" in cell.source for cell in notebook.cells):
        said = durations.sentences(source.stem, notebook.cells)
        for cell in notebook.cells:
            cell.source = cell.source.replace("{{times}}", said)
    notebook.metadata = nbformat.from_dict(NOTEBOOK_METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    return notebook


def execute(notebook) -> float:
    """Run every cell in the folder of the book; return the seconds it took."""
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=None,
        extra_arguments=["--log-level=40"],  # errors only
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
        resources={"metadata": {"path": str(BOOK)}},
    )
    start = time.perf_counter()
    try:
        client.execute()
    except CellExecutionError as error:
        raise ChapterError(describe(notebook, error)) from None
    seconds = time.perf_counter() - start
    notebook.metadata = nbformat.from_dict(NOTEBOOK_METADATA)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            # A page without a kernel shows the plain text of a widget instead.
            output.get("data", {}).pop(WIDGET, None)
    describe_pictures(notebook)
    return seconds


def describe_pictures(notebook) -> None:
    """Give pictures inside HTML the text that the cell has for its image."""
    for cell in notebook.cells:
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt")
        for output in cell.get("outputs", ()) if alt else ():
            html = output.get("data", {}).get("text/html", "")
            output_with = re.sub(
                r'(data-alt="cell" [^>]*?)alt="[^"]*"',
                lambda m, alt=alt: f'{m[1]}alt="{escape(alt)}"',
                html,
            )
            if output_with != html:
                output["data"]["text/html"] = output_with


def describe(notebook, error: CellExecutionError) -> str:
    """The failing cell and the end of its traceback, without terminal colours."""
    failed = [
        (number, cell, output)
        for number, cell in enumerate(notebook.cells, 1)
        for output in cell.get("outputs", ())
        if output.output_type == "error"
    ]
    if not failed:
        return str(error)
    number, cell, output = failed[-1]
    code = "\n".join(f"    {line}" for line in cell.source.splitlines())
    trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output.traceback))
    tail = "\n".join(trace.splitlines()[-25:])
    return f"cell {number} raised {output.ename}\n{code}\n{tail}"


def own_paths(text: str) -> list[str]:
    """Traces of the machine a notebook ran on, which have no place in it."""
    here = [str(ROOT), *({str(Path.home())} - {"/", "/root"})]
    found = [path for path in here if path in text]
    return found + sorted(set(re.findall(r"/ipykernel_\d+/", text)))


def lighten(notebook) -> None:
    """Reduce pictures that are too large to 256 colours: noise, for the most part,
    which no format makes smaller and which looks the same in few colours."""
    from PIL import Image

    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", ()):
            data = base64.b64decode(output.get("data", {}).get("image/png", ""))
            if len(data) <= MAX_IMAGE_BYTES:
                continue
            reduced = io.BytesIO()
            picture = Image.open(io.BytesIO(data)).convert("RGBA")
            picture.quantize(256).save(reduced, "PNG", optimize=True)
            size = len(reduced.getvalue())
            if size > MAX_IMAGE_BYTES:
                raise ChapterError(
                    f"the picture of cell {number} takes {size / 1e3:.0f} kB in 256"
                    f" colours and {MAX_IMAGE_BYTES / 1e3:.0f} kB are allowed;"
                    " show less, or smaller"
                )
            output.data["image/png"] = base64.b64encode(reduced.getvalue()).decode()


def write(notebook, path: Path) -> int:
    """Store the notebook in one step and return its size in bytes."""
    lighten(notebook)
    text = nbformat.writes(notebook, version=4).rstrip("\n") + "\n"
    size = len(text.encode())
    if size > MAX_BYTES:
        raise ChapterError(
            f"the notebook is {size / 1e6:.2f} MB and {MAX_BYTES / 1e6} MB are allowed;"
            " show fewer or smaller images"
        )
    if found := own_paths(text):
        raise ChapterError(f"an output holds paths of this machine: {found}")
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, "utf8")
    os.replace(partial, path)
    return size


def comparable(notebook) -> list[tuple]:
    """What the source decides about each cell."""
    return [
        (cell.id, cell.cell_type, cell.source, dict(cell.metadata))
        for cell in notebook.cells
    ]


def problems(name: str) -> list[str]:
    """Why the stored notebook does not stand for its source; empty if it does."""
    path, source = notebook_path(name), sources().get(name)
    if source is None:
        return [f"book/{name}.ipynb has no source book/src/{name}.md"]
    if not path.exists():
        return [f"book/{name}.ipynb is missing"]
    stored, wanted = nbformat.read(path, as_version=4), generate(source)
    found = []
    if len(stored.cells) != len(wanted.cells):
        found.append(f"{len(stored.cells)} cells, the source has {len(wanted.cells)}")
    pairs = zip(comparable(stored), comparable(wanted), strict=False)
    for number, (old, new) in enumerate(pairs, 1):
        if old != new:
            found.append(f"cell {number} differs from the source")
            break
    if dict(stored.metadata) != NOTEBOOK_METADATA:
        found.append("the notebook's metadata differ")
    for number, cell in enumerate(stored.cells, 1):
        if cell.cell_type != "code":
            continue
        if cell.source.strip() and cell.execution_count is None:
            found.append(f"cell {number} was never executed")
        if any(output.output_type == "error" for output in cell.outputs):
            found.append(f"cell {number} holds an error")
    return [f"book/{name}.ipynb: {one}" for one in found]


def check(names: list[str]) -> int:
    orphans = {path.stem for path in BOOK.glob("*_*.ipynb")} - set(sources())
    found = [one for name in [*names, *sorted(orphans)] for one in problems(name)]
    for one in found:
        print(one)
    if found:
        print("Run: make notebooks")
    return 1 if found else 0


def keep_outputs(notebook, path: Path) -> float:
    """Take the outputs from the stored notebook: enough where only prose or a text
    for an image changed. Raises ChapterError if a code cell did."""
    stored = nbformat.read(path, as_version=4).cells if path.exists() else []
    old = [cell for cell in stored if cell.cell_type == "code"]
    new = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.source for cell in old] != [cell.source for cell in new]:
        raise ChapterError("a code cell has changed; execute it: leave --prose out")
    for before, cell in zip(old, new, strict=True):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count
    describe_pictures(notebook)
    return 0.0


def make(names: list[str], prose: bool = False, timed: bool = False) -> int:
    status = 0
    for name in names:
        try:
            notebook = generate(sources()[name])
            print(f"{name} ...", flush=True)
            if prose:
                seconds = keep_outputs(notebook, notebook_path(name))
            else:
                seconds = execute(notebook)
            size = write(notebook, notebook_path(name))
            if timed and not prose:
                durations.record(name, seconds)
                notebook = generate(sources()[name])  # which states the new time
                keep_outputs(notebook, notebook_path(name))
                write(notebook, notebook_path(name))
        except ChapterError as error:
            print(f"{name}: {error}\nThe stored notebook is as before.", flush=True)
            status = 1
        else:
            print(f"{name}: {seconds:.0f} s, {size / 1e6:.2f} MB", flush=True)
    return status


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="chapters, e.g. 01_vae (default: all)")
    parser.add_argument("--check", action="store_true", help="compare, execute nothing")
    parser.add_argument(
        "--prose", action="store_true", help="keep the outputs: no code cell changed"
    )
    parser.add_argument(
        "--time", action="store_true", help="record the times in book/times.json"
    )
    options = parser.parse_args(arguments)
    names = [Path(name).stem for name in options.names] or list(sources())
    if unknown := sorted(set(names) - set(sources())):
        parser.error(f"no such chapter {unknown}; there are {list(sources())}")
    if options.check:
        return check(names)
    return make(names, options.prose, options.time)


if __name__ == "__main__":
    sys.exit(main())
