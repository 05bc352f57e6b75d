"""Hold the code inside the chapters' sources to the style of the library, at the 78
columns that a page shows.

python book/lint_sources.py          report what ruff finds
python book/lint_sources.py --fix    let ruff lay the cells out anew
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
from make_notebooks import NOTEBOOK_METADATA, ROOT, generate, sources

RUFF = [sys.executable, "-m", "ruff"]
# A page shows 80 characters of code in a line, and Colab hardly more.
COLUMNS = ["--config", "line-length = 78"]
CONFIG = ["--config", str(ROOT / "pyproject.toml"), *COLUMNS, "--quiet"]
INSTALL = "_INSTALL_HERE_ = None"  # stands in for {{install}} while ruff looks


def lint() -> int:
    """Exit status of ruff over every chapter; a chapter's cells are one module."""
    if not sources():
        return 0
    with tempfile.TemporaryDirectory() as folder:
        for name, source in sources().items():
            nbformat.write(generate(source), Path(folder, f"{name}.ipynb"))
        # Named one by one, because the project leaves notebooks out of a search.
        every = [*CONFIG, "--no-cache", *(f"{name}.ipynb" for name in sources())]
        rules = ["check", "--ignore", "E402"]  # imports may follow the install line
        style = subprocess.run([*RUFF, *rules, *every], cwd=folder)
        layout = subprocess.run([*RUFF, "format", "--diff", *every], cwd=folder)
    return 1 if style.returncode or layout.returncode else 0


def fix(source: Path) -> bool:
    """Lay out each code cell of a source; True if the source changed."""
    old = text = source.read_text("utf8")
    start = 0
    for cell in jupytext.reads(text, fmt="md:myst").cells:
        if cell.cell_type == "code" and cell.source.strip():
            start = text.index(cell.source, start)
            new = laid_out(cell.source)
            text = text[:start] + new + text[start + len(cell.source) :]
            start += len(new)
    if text != old:
        source.write_text(text, "utf8")
    return text != old


def laid_out(code: str) -> str:
    """One cell as ruff formats it; a cell that does not parse stays as it is."""
    cell = nbformat.v4.new_code_cell(code.replace("{{install}}", INSTALL))
    notebook = nbformat.v4.new_notebook(metadata=NOTEBOOK_METADATA, cells=[cell])
    text = nbformat.writes(notebook)
    for step in (["check", "--fix-only", "--select=I"], ["format"]):
        command = [*RUFF, *step, *CONFIG, "--stdin-filename", "cell.ipynb", "-"]
        done = subprocess.run(command, input=text, capture_output=True, text=True)
        if done.returncode:
            print(done.stderr.strip(), file=sys.stderr)
            return code
        text = done.stdout
    new = nbformat.reads(text, as_version=4).cells[0].source
    return new.replace(INSTALL, "{{install}}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--fix"]:
        for name, source in sources().items():
            if fix(source):
                print(f"book/src/{name}.md rewritten")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        sys.exit(lint())
