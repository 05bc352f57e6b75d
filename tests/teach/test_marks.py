"""What is remembered of a learner: the best of every exercise, over sessions."""

import json
import re

import pytest
from exercise_answers import RIGHT

from ldm_tutorial.teach import check, hint, marks, progress
from ldm_tutorial.teach.exercises import EXERCISES, NotRightYet

NAMES = list(EXERCISES)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nobody has done anything yet."""
    monkeypatch.delenv("LDM_TUTORIAL_CHECKS", raising=False)
    monkeypatch.delenv("LDM_TUTORIAL_PROGRESS", raising=False)
    marks.reset()
    yield
    marks.reset()


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "progress.json"
    monkeypatch.setenv("LDM_TUTORIAL_PROGRESS", str(path))
    return path


def row(name):
    return next(row for row in progress().rows if row.name == name)


def test_progress_counts_what_was_done(tmp_path, capsys):
    hint("kl")
    with pytest.raises(NotRightYet):
        check("kl", EXERCISES["kl"].misconceptions["sign"][0])
    check("kl", RIGHT["kl"][1])
    check("psnr", None)
    board = progress()
    rows = {row.name: row for row in board.rows}
    assert (rows["kl"].status, rows["kl"].attempts, rows["kl"].hints) == ("right", 2, 1)
    assert rows["kl"].misconceptions == ("sign",)
    assert (rows["psnr"].status, rows["bits"].status) == ("blank", "new")
    assert f"1 of {len(EXERCISES)} right" in repr(board)
    assert "✓ kl" in repr(board) and "2 attempts, 1 hint" in repr(board)
    page = board._repr_html_()
    assert page.count("<tr>") == len(EXERCISES) + 1 and "<caption>" in page
    board.to_json(tmp_path / "marks.json")
    marks = json.loads((tmp_path / "marks.json").read_text("utf8"))
    assert (marks["right"], marks["of"]) == (1, len(EXERCISES))
    assert marks["exercises"][NAMES.index("kl")]["misconceptions"] == ["sign"]


def test_progress_of_one_chapter():
    assert {row.chapter for row in progress(2).rows} == {2}
    with pytest.raises(ValueError, match=r"chapter 9 has no exercises; choose from"):
        progress(9)


def test_progress_writes_the_marks_of_a_chapter_for_a_teacher(tmp_path):
    hint("kl")
    check("kl", RIGHT["kl"][1])
    path = tmp_path / "marks.json"
    board = progress(2, save=path)
    marks = json.loads(path.read_text("utf8"))
    assert marks == json.loads(json.dumps(board.to_dict()))
    (row,) = (row for row in marks["exercises"] if row["name"] == "kl")
    assert row == {
        "name": "kl",
        "chapter": 2,
        "title": EXERCISES["kl"].title,
        "minutes": EXERCISES["kl"].minutes,
        "difficulty": EXERCISES["kl"].difficulty,
        "trains": EXERCISES["kl"].trains,
        "status": "right",
        "attempts": 1,
        "hints": 1,
        "misconceptions": [],
    }
    with pytest.raises(ValueError, match=r"is no folder; make it, or name another"):
        progress(save=tmp_path / "missing" / "marks.json")


def test_progress_is_kept_in_a_file_if_one_is_named(tmp_path, monkeypatch):
    path = tmp_path / "new folder" / "progress.json"
    monkeypatch.setenv("LDM_TUTORIAL_PROGRESS", str(path))
    check("kl", RIGHT["kl"][1])
    marks.reset()
    rows = {row.name: row for row in progress().rows}
    assert (rows["kl"].status, rows["kl"].attempts) == ("right", 1)


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"exercises": [{"name": "kl"}]}', '{"version": 2, "exercises": []}'],
)
def test_a_file_that_cannot_be_read_is_kept_aside(file, text, capsys):
    """A second one does not replace the first."""
    for n in ("", "-2"):
        file.write_text(text)
        marks.reset()
        check("kl", RIGHT["kl"][1])
        assert json.loads(file.read_text("utf8"))["right"] == 1
        assert (file.parent / f"progress.json.damaged{n}").read_text() == text
        assert f"It is kept as progress.json.damaged{n}." in capsys.readouterr().out


def test_the_file_says_its_version(file):
    check("kl", None)
    assert json.loads(file.read_text("utf8"))["version"] == marks.VERSION


def test_two_notebooks_share_a_file(file):
    """What the other one has written in the meantime stays."""
    check("kl", RIGHT["kl"][1])
    saved = json.loads(file.read_text("utf8"))
    (psnr,) = (row for row in saved["exercises"] if row["name"] == "psnr")
    psnr.update(status="right", attempts=3, misconceptions=["peak of one"])
    file.write_text(json.dumps(saved))
    check("bits", RIGHT["bits"][1])
    marks.reset()
    found = {name: (row(name).status, row(name).attempts) for name in ("kl", "psnr")}
    assert found == {"kl": ("right", 1), "psnr": ("right", 3)}
    assert row("bits").status == "right"
    assert row("psnr").misconceptions == ("peak of one",)


def test_exercises_of_another_version_stay_in_the_file(file):
    """A newer notebook and an older one may share it."""
    check("kl", RIGHT["kl"][1])
    saved = json.loads(file.read_text("utf8"))
    newer = {"name": "of tomorrow", "status": "perfect", "colour": "green"}
    saved["exercises"].append(newer)
    file.write_text(json.dumps(saved))
    for _ in range(2):
        marks.reset()
        check("bits", RIGHT["bits"][1])
    rows = {one["name"]: one for one in json.loads(file.read_text())["exercises"]}
    assert rows["of tomorrow"] == newer
    assert rows["kl"]["status"] == rows["bits"]["status"] == "right"
    assert len(progress().rows) == len(EXERCISES)


@pytest.mark.parametrize("order", [("kl", "bits", "psnr"), ("psnr", "kl", "bits")])
def test_the_order_in_which_cells_run_is_no_matter(file, order):
    for name in order:
        check(name, RIGHT[name][1])
        marks.reset()  # a new kernel for every cell
    check(order[0], None)
    done = {row.name: row.status for row in progress().rows if row.status != "new"}
    assert done == dict.fromkeys(order, "right")
    assert [row.name for row in progress().rows] == NAMES


def test_what_was_right_once_stays_right():
    """A variant tried later, or the cell emptied again, takes nothing away."""
    check("kl", RIGHT["kl"][1])
    with pytest.raises(NotRightYet):
        check("kl", lambda mu, logvar: mu)
    check("kl", None)
    check("kl", check("kl", None))
    assert (row("kl").status, row("kl").attempts) == ("right", 2)


def test_what_is_wrong_may_become_right_but_not_blank():
    with pytest.raises(NotRightYet):
        check("kl", lambda mu, logvar: mu)
    check("kl", None)
    assert row("kl").status == "wrong"
    check("kl", RIGHT["kl"][1])
    assert row("kl").status == "right"


def test_cells_run_twice_or_after_a_restart_change_nothing(file):
    kl = check("kl", RIGHT["kl"][1])
    assert check("kl", kl) is kl
    marks.reset()  # a new kernel
    assert check("kl", None) is EXERCISES["kl"].reference
    assert row("kl").status == "right"


def test_the_board_follows_the_pages():
    """The order in which the chapters ask."""
    import make_notebooks as maker

    asked = [
        name
        for source in maker.sources().values()
        for name in re.findall(r"{{exercise: (\w+)}}", source.read_text("utf8"))
    ]
    there = {int(name[:2]) for name in maker.chapters()}
    rows = [row for row in progress().rows if row.chapter in there]
    assert [row.name for row in rows] == asked
