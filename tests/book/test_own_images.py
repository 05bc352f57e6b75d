"""The table of the page "Your own images" is that of the record."""

import re
import sys
from pathlib import Path

import pytest

from ldm_tutorial.records import results

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "book"))
from claims.claim import get, rounds  # noqa: E402

PAGE = (ROOT / "book" / "own_images.md").read_text("utf8")
COLUMNS = (
    "reconstruction.psnr",
    "losses.training",
    "losses.validation",
    "samples.frechet",
    "copies.near",
    "copies.copies",
)
ROWS = [line for line in PAGE.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("line", ROWS, ids=[line.split("`")[1] for line in ROWS])
def test_a_row_of_the_table_holds_the_figures_of_its_arm(line):
    arm, _, *cells = [cell.strip() for cell in line.strip("| ").split("|")]
    row = results("own_images")["rows"][arm.strip("`")]
    assert len(cells) == len(COLUMNS)
    for text, path in zip(cells, COLUMNS, strict=True):
        value = get(row, path)
        value = value[-1][1] if isinstance(value, list) else value
        assert rounds(text, value), (path, text, value)
        if "±" in text:
            assert rounds(text.partition("±")[2], get(row, f"{path}_ci95"))


def test_the_table_has_every_arm_and_the_floors():
    rows = results("own_images")["rows"]
    assert [line.split("`")[1] for line in ROWS] == list(rows)
    floor = re.search(r"^\| real images .*?\| ([\d.]+) \| ([\d.]+ %) \| ([\d.]+ %) \|$",
                      PAGE, flags=re.M)  # fmt: skip
    last = next(iter(rows.values()))
    for text, path in zip(floor.groups(), COLUMNS[3:], strict=True):
        assert rounds(text, get(last, f"{path}_real"))


def test_the_words_around_the_table_state_the_recipe():
    arm = results("own_images")["rows"]["100"]
    vae, ldm = (arm["recipe"][name]["train"] for name in ("vae", "ldm"))
    text = " ".join(PAGE.split())
    assert f"tunes `vae-f8` on them for {vae['steps']} steps" in text
    assert f"for {ldm['steps']} steps of {ldm['batch_size']} pictures" in text
    assert f"compares {arm['samples']['n']} samples" in text
