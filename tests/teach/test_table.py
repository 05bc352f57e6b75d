"""The tables of the book: what is best, what is a floor, and what a reader hears."""

import re

import pytest

from ldm_tutorial.teach.table import table

ROWS = {
    "b": {"frechet": 2.0, "frechet_ci95": 0.1, "recall": 0.5, "n": 1200},
    "a": {"frechet": 1.0, "recall": 0.25, "n": 7},
    "real": {"frechet": 0.5, "recall": 1.0},
}
COLUMNS = {"frechet": "Fréchet ↓", "recall": "recall ↑", "n": "images"}


def made(**options):
    return table(ROWS, COLUMNS, floors=["real"], caption="A < B", **options)


def cells(shown):
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", shown._repr_html_())
    clean = lambda text: re.sub(r"<[^>]+>", "", text)  # noqa: E731
    return [[clean(c) for c in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


def test_values_intervals_and_what_is_missing():
    assert cells(made()) == [
        ["&nbsp;", "Fréchet&nbsp;↓", "recall&nbsp;↑", "images"],
        ["b", "2.00 ± 0.10", "0.50 (best)", "1,200"],
        ["a", "1.00 (best)", "0.25", "7"],
        ["real", "0.50", "1.00", "–"],
    ]


def test_the_best_comes_first_and_floors_last():
    assert [row[0] for row in cells(made(sort="frechet"))[1:]] == ["a", "b", "real"]
    assert [row[0] for row in cells(made(sort="recall"))[1:]] == ["b", "a", "real"]


def test_a_reader_of_the_screen_hears_headings_and_the_caption():
    text = made()._repr_html_()
    assert "<caption>A &lt; B</caption>" in text and 'aria-label="A &lt; B"' in text
    assert text.count('scope="col"') == 4 and text.count('scope="row"') == 3


def test_shares_digits_and_texts():
    row = cells(
        table({"x": {"share": 0.125, "what": "<b>", "d": 1.0}}, percent=["share"])
    )
    assert row[1] == ["x", "12 %", "&lt;b&gt;", "1.00"]
    assert cells(table({"x": {"d": 0.12346}}, digits={"d": 4}))[1] == ["x", "0.1235"]


def test_what_rounds_to_zero_has_no_sign():
    shown = table({"a": {"x": -0.001, "y": -0.001}}, percent=["y"], digits={"x": 2})
    assert "-0" not in repr(shown) and "0.00" in repr(shown) and "0 %" in repr(shown)


def test_equal_bests_are_both_marked_and_a_single_row_is_not():
    both = table({"a": {"v": 1.0}, "b": {"v": 1.0}}, {"v": "v ↓"})
    assert both._repr_html_().count("(best)") == 2
    assert "(best)" not in table({"a": {"v": 1.0}}, {"v": "v ↓"})._repr_html_()


def test_the_text_of_a_terminal():
    lines = repr(made()).splitlines()
    assert lines[0] == "A < B" and lines[2].split() == [
        "b",
        "2.00",
        "±0.10",
        "0.50",
        "1,200",
    ]


@pytest.mark.parametrize("options", [{"sort": "x"}, {"percent": ["x"]}])
def test_a_name_that_is_not_there(options):
    with pytest.raises(ValueError, match=r"names \['x'\]; the table has \['frechet'"):
        made(**options)


def test_no_rows():
    with pytest.raises(ValueError, match="there are no rows to show"):
        table({})


def test_a_column_of_texts_has_its_heading_above_their_beginning():
    html = table({"a": {"shape": "4×8×8", "n": 256}})._repr_html_()
    assert '<th scope="col" class="text">shape</th>' in html
    assert '<th scope="col">n</th>' in html
