"""What the book concludes follows from its records."""

import copy
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "book"), str(ROOT / "book" / "_ext")]

import claims  # noqa: E402
import register  # noqa: E402
from claims import claim as machinery  # noqa: E402

from ldm_tutorial.records import fingerprint  # noqa: E402

INDEX = (ROOT / "book" / "index.md").read_text("utf8")
README = (ROOT / "README.md").read_text("utf8")


@pytest.mark.parametrize(
    "one", claims.CLAIMS, ids=lambda one: f"{one.page}-{one.sentence[:30]}"
)
def test_a_claim_stands_in_its_chapter_and_on_its_records(one):
    assert claims.problems(one) == []


# What would have to go wrong for each complaint; the claim is a good one.
GOOD = next(one for one in claims.CLAIMS if one.numbers and one.differ)
BROKEN = {
    "does not say so": {"sentence": "Diffusion models dream of electric sheep."},
    "no record": {"arms": ("no_such_study/arm", *GOOD.arms[1:])},
    "recipes differ in": {"differ": ("train.steps",)},
    "say otherwise": {"holds": lambda *rows: False},
    "is said and": {"numbers": {next(iter(GOOD.numbers)): lambda *rows: 77.0}},
    "not in the sentence": {"numbers": {"123.4": lambda *rows: 123.4}},
}


@pytest.mark.parametrize("complaint", BROKEN)
def test_a_claim_that_does_not_stand_is_noticed(complaint):
    assert claims.problems(GOOD) == []
    found = claims.problems(replace(GOOD, **BROKEN[complaint]))
    assert len(found) == 1 and complaint in found[0]


def test_more_than_one_difference_needs_a_reason():
    wide = next(one for one in claims.CLAIMS if one.differ and len(one.differ) > 1)
    found = claims.problems(replace(wide, because=""))
    assert found == ["more than one thing differs, and nothing says why"]


def test_a_figure_that_moves_makes_the_claim_fall(monkeypatch):
    """The claim that the frozen arm is far ahead, with the joint arm's samples as good
    as the frozen one's."""
    one = next(c for c in claims.CLAIMS if "several times as far" in c.sentence)
    rows = [copy.deepcopy(machinery.row(arm)) for arm in one.arms]
    assert one.holds(*rows)
    rows[-1]["samples"] = rows[0]["samples"]
    assert not one.holds(*rows)


@pytest.mark.parametrize(
    ("text", "value", "fits"),
    [
        ("5.8", 5.775, True),
        ("5.8", 5.86, False),
        ("22 %", 0.2217, True),
        ("22 %", 0.231, False),
        ("1,234", 1234, True),
    ],
)
def test_numbers_round(text, value, fits):
    assert machinery.rounds(text, value) is fits


def test_the_page_lists_every_claim_and_every_record():
    page = (ROOT / "book" / "register.md").read_text("utf8")
    shown = re.findall(r"^```\{register\} (\w+)$", page, flags=re.M)
    assert set(shown) == {one.page for one in claims.CLAIMS} | {register.RECORDS}
    for name in shown[:-1]:
        lines = register.claims_of(name)
        wanted = sum(one.page == name for one in claims.CLAIMS)
        assert sum(line.startswith("- ") for line in lines) == wanted
        assert sum("Rests on `" in line for line in lines) == wanted
    listed = "\n".join(register.records())
    for path in register.RESULTS.glob("*.json"):
        assert f"- **{path.stem}**: `ldm-tutorial " in listed


def test_what_chapter_5_tells_of_the_blind_test():
    """Its record is no run of a command: somebody was asked."""
    record = json.loads((ROOT / "data" / "blind_test.json").read_text("utf8"))
    assert fingerprint(record) == record["digest"]
    text = machinery.source("05_efficiency")
    shown, answers, sure = zip(*(one[1:] for one in record["answers"]), strict=True)
    assert shown.count("sample") == shown.count("rendering") == 32
    assert "shown 32 samples and 32 renderings, shuffled" in text
    assert answers == shown and len(shown) == 64  # all of them right
    assert sure.count("rather") == len(sure) - sure.count("sure") == 2
    assert "told all 64 apart, two of them without being sure" in text


MEASURED = re.compile(
    r"(?<!Python )(?<!BY )(?<![\d.,])\d[\d,]*(?:\.\d+|(?:\.\d+)? ?[%×])(?!\d)"
)


@pytest.mark.parametrize(("page", "text"), [("index", INDEX), ("README", README)])
def test_measured_numbers_of_the_front_pages_belong_to_claims(page, text):
    """A decimal point, a per cent sign or a times sign makes a number a measurement."""
    plain = re.sub(
        r"^```.*?^```$|`[^`]*`|\]\([^)]*\)|\d+×\d+", "", text, flags=re.M | re.S
    )
    found = set(MEASURED.findall(plain))
    owned = {n for one in claims.CLAIMS if one.page == page for n in one.numbers or {}}
    assert found == owned
