"""Curves with their names beside them."""

import matplotlib.pyplot as plt
import pytest
from torch.testing import assert_close

from ldm_tutorial.teach import charts


@pytest.fixture
def axis():
    figure, axis = plt.subplots()
    yield axis
    plt.close(figure)


@pytest.mark.parametrize(
    ("heights", "placed"),
    [
        ([0.0, 1.0], [0.0, 1.0]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.0, 0.5, 0.5, 0.5, 1.0], [0.0, 0.4, 0.5, 0.6, 1.0]),
        ([0.5, 0.5, 0.62], [0.44, 0.54, 0.64]),
    ],
)
def test_names_are_moved_apart_and_no_further(heights, placed):
    assert_close(charts.apart(heights, 0.1), placed)


def test_every_curve_and_floor_is_named_once_at_its_height(axis):
    series = {"low": ([1, 2], [1, 1]), "high": ([1, 2], [3, 3], [0.1, 0.1])}
    charts.lines(series, xlabel="x", ylabel="y", floors={"floor": 2}, axis=axis)
    names = sorted(axis.texts, key=lambda text: text.get_position()[1])
    assert [text.get_text() for text in names] == ["low", "floor", "high"]
    assert axis.get_legend() is None and axis.get_xlabel() == "x"
    assert names[0].get_color() == "C0" and names[2].get_color() == "C1"


def test_an_interval_never_leaves_a_logarithmic_axis():
    assert charts.visible([1.0], [2.0], True) == ([0.9], [2.0])
    assert charts.visible([1.0], [2.0], False) == ([2.0], [2.0])
    assert charts.interval((1.0, 2.0), True) == (1.0, 0.9, 2.0)
    assert charts.interval((3.0, 1.0, 7.0), False) == (3.0, 2.0, 4.0)


def test_dots_are_sorted_from_the_top(axis):
    values = {"worse": (2.0, 0.1), "better": 1.0}
    charts.dots(values, xlabel="distance", sort=True, floors={"real": 0.5}, axis=axis)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["better", "worse"]
    bottom, top = axis.get_ylim()
    assert bottom > top


def test_a_short_logarithmic_axis_is_labelled_in_plain_numbers():
    """A long one keeps its powers of ten, and none labels the places between."""
    figure, (short, long) = plt.subplots(1, 2)
    charts.lines(
        {"a": ([20, 320], [1, 2])}, xlabel="s", ylabel="d", log="x", axis=short
    )
    charts.lines({"a": ([1, 1e6], [1, 2])}, xlabel="s", ylabel="d", log="x", axis=long)
    figure.canvas.draw()
    low, high = short.get_xlim()
    marks = short.xaxis.get_major_ticks()
    texts = {one.label1.get_text() for one in marks if low <= one.get_loc() <= high}
    assert texts == {"20", "50", "100", "200"}
    assert "10^" in "".join(one.get_text() for one in long.get_xticklabels())
    plt.close(figure)
    for axis in (short, long):
        assert not any(one.get_text() for one in axis.get_xticklabels(minor=True))
