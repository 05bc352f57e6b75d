"""The notebooks run with the exercises filled in, and a wrong answer stops them.

As shipped, with every exercise blank, they run in `pytest --nbval`.
"""

import ast

import make_notebooks as maker
import pytest
from nbclient import NotebookClient

from ldm_tutorial.teach.exercises import EXERCISES, NotRightYet

CHAPTERS = [int(name[:2]) for name in maker.chapters()]
FROM = "from ldm_tutorial.teach.exercises import EXERCISES"


def notebook(chapter):
    """A chapter as its source stands, not executed."""
    (name,) = (name for name in maker.chapters() if int(name[:2]) == chapter)
    return maker.generate(maker.sources()[name])


def code_cells(book):
    """Those that a learner runs; the one that installs has nothing to do here."""
    install = maker.install_code()
    return [c for c in book.cells if c.cell_type == "code" and c.source != install]


def exercise_in(cell):
    """(name of the exercise, its function in the cell), or None.

    Such a cell defines a function and hands it to `check`.
    """
    if "check(" not in cell.source:
        return None
    body = ast.parse(cell.source).body
    defined = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    for node in body:
        call = getattr(node, "value", None)
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "check":
            name, function = call.args
            return name.value, defined[function.id]
    return None


def fill(cell, answer):
    """Put `FUNCTION = answer` in the place of the blank function."""
    _, function = exercise_in(cell)
    lines = cell.source.split("\n")
    given = f"{function.name} = {answer}"
    lines[function.lineno - 1 : function.end_lineno] = [FROM, given]
    cell.source = "\n".join(lines)


def exercises(book):
    """(exercise's name, cell) in the order of the chapter."""
    found = [(exercise_in(cell), cell) for cell in code_cells(book)]
    return [(exercise[0], cell) for exercise, cell in found if exercise]


def printed(cell):
    return "".join(o.get("text", "") for o in cell.outputs if o.get("name") == "stdout")


def setup_cells(book):
    """Imports and the set-up, which come before the first picture or number."""
    cells = code_cells(book)
    (last,) = (i for i, cell in enumerate(cells) if "= setup()" in cell.source)
    return cells[: last + 1]


def client(book):
    return NotebookClient(
        book,
        kernel_name="python3",
        timeout=None,
        startup_timeout=600,  # a busy machine may start a kernel slowly
        extra_arguments=["--log-level=40"],
        resources={"metadata": {"path": str(maker.BOOK)}},
    )


@pytest.fixture(autouse=True)
def strict_kernels(monkeypatch):
    monkeypatch.delenv("LDM_TUTORIAL_CHECKS", raising=False)
    monkeypatch.delenv("LDM_TUTORIAL_PROGRESS", raising=False)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_has_its_exercises_each_once_and_blank(chapter):
    """The cells ask for what `check` will judge, and none of them gives it away."""
    found = exercises(notebook(chapter))
    names = [name for name, _ in found]
    assert len(names) == len(set(names)) >= 2
    assert {EXERCISES[name].chapter for name in names} == {chapter}
    for name, cell in found:
        _, function = exercise_in(cell)
        assert function.name == EXERCISES[name].function
        assert [a.arg for a in function.args.args] == EXERCISES[name].arguments
        (blank,) = function.body
        assert ast.unparse(blank) == "..."


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_set_up_puts_the_checker_at_hand(chapter):
    """`hint` and `solution` are for cells of the reader's own."""
    names = {}
    for cell in setup_cells(notebook(chapter)):
        exec(cell.source, names)
    for name in ("check", "hint", "progress", "solution"):
        assert callable(names.get(name)), name


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_no_solution_is_shown_before_its_exercise(chapter):
    """The folded solution comes after the cell, and the text before it."""
    book = notebook(chapter)
    markdown = "\n".join(
        cell.source if cell.cell_type == "markdown" else f"@{exercise_name(cell)}@"
        for cell in book.cells
    )
    for name, _ in exercises(book):
        title = EXERCISES[name].title
        places = [
            markdown.index(text)
            for text in (
                f"**Your turn: {title}**",
                f"@{name}@",
                f"<summary>Solution: {title}</summary>",
            )
        ]
        assert places == sorted(places), name


def exercise_name(cell):
    found = exercise_in(cell)
    return found[0] if found else ""


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_wrong_answer_stops_the_notebook_where_it_stands(chapter):
    """Of each chapter only the imports and the first exercise run, in this process."""
    book = notebook(chapter)
    name, cell = exercises(book)[0]
    mistake, (_, sentence) = next(iter(EXERCISES[name].misconceptions.items()))
    fill(cell, f"EXERCISES[{name!r}].misconceptions[{mistake!r}][0]")
    names = {}
    for before in setup_cells(book):
        exec(before.source, names)
    with pytest.raises(NotRightYet) as caught:
        exec(cell.source, names)
    lines = str(caught.value).split("\n")
    assert lines[0] == f"✗ {name}: {sentence}." and len(lines) == 3


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_runs_to_its_end_with_every_answer(chapter):
    """The learner's functions, not the library's stand-ins, carry the chapter."""
    book = notebook(chapter)
    filled = exercises(book)
    for name, cell in filled:
        fill(cell, f"lambda *args: EXERCISES[{name!r}].reference(*args)")
    client(book).execute()
    for name, cell in filled:
        assert printed(cell).startswith(f"✓ {name}: right."), name
