"""What only the book uses: pictures are drawn as told, and shown source is real."""

import inspect
import textwrap

import pytest
import torch

from ldm_tutorial import LatentCodec, samplers
from ldm_tutorial.machine import best_device
from ldm_tutorial.metrics import psnr
from ldm_tutorial.teach import (
    LivePlot,
    curves,
    setup,
    show_grid,
    show_rows,
    show_source,
)
from ldm_tutorial.teach.plots import COLOURS, GREY

# Without a display Agg is silent; with one it says that it cannot open a window.
pytestmark = pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")


@pytest.fixture
def plt():
    """pyplot on the Agg backend, closed and with its own settings afterwards."""
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    with plt.rc_context():
        yield plt
    plt.close("all")


def drawn(plt):
    """The only figure, drawn in full."""
    (number,) = plt.get_fignums()
    figure = plt.figure(number)
    figure.canvas.draw()
    return figure


def test_setup_sets_one_style_and_names_the_device(plt, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    assert setup() == best_device()
    assert torch.get_num_threads() == threads  # as the environment says
    assert plt.rcParams["figure.facecolor"] == "none"
    assert plt.rcParams["axes.prop_cycle"].by_key()["color"] == COLOURS
    assert plt.rcParams["text.color"] == GREY


def test_setup_takes_all_cores_if_nobody_says_otherwise(plt, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    before = torch.get_num_threads()
    try:
        setup()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours by WCAG 2."""

    def luminance(code: str) -> float:
        parts = [int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_colours_are_readable_on_a_light_and_on_a_dark_page():
    for page in ("#ffffff", "#121212"):
        assert contrast(GREY, page) > 4, page  # text
        assert all(contrast(colour, page) > 2.3 for colour in COLOURS), page  # lines


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (1, 2, 8, 8)])
def test_other_channels_are_refused(shape):
    with pytest.raises(ValueError, match=r"arrays of shape .*one channel at a time"):
        show_grid(torch.zeros(shape))


def test_nothing_to_draw_is_refused():
    for rows in ({}, {"a": torch.zeros(0, 3, 4, 4)}):
        with pytest.raises(ValueError, match="no images to draw; give at least one"):
            show_rows(rows)


LOG = [{"step": s, "loss": 1 / s, "kl": 2.0 * s} for s in (10, 20, 30)]


WORDS = {"loss": "loss", "kl": "KL, nats per element"}


@pytest.mark.parametrize("names", [("loss",), ("loss", "kl"), ("loss", "kl", "loss")])
def test_curves_draw_a_panel_for_each_name(plt, names):
    """Two beside each other, and no more: type stays as large as elsewhere."""
    setup()
    curves(LOG, *names, logy=True)
    figure = drawn(plt)
    assert figure.get_figwidth() == 7 and figure.get_figheight() / len(names) <= 2.5
    axes = [axis for axis in figure.axes if axis.axison]
    assert [axis.get_ylabel() for axis in axes] == [WORDS[name] for name in names]
    for axis, name in zip(axes, names, strict=True):
        (line,) = axis.lines
        assert line.get_xdata().tolist() == [10, 20, 30]
        assert line.get_ydata().tolist() == [entry[name] for entry in LOG]
        assert axis.get_yscale() == "log" and axis.get_xlabel() == "step"


def test_show_source_shows_what_runs():
    """Functions, decorated ones, classes and methods, in the order given."""
    objects = (psnr, samplers.ddim, LatentCodec, LatentCodec.encode)
    text = show_source(*objects).data
    assert text.startswith("```python\n") and text.endswith("\n```")
    places = [text.index(head) for head in ("def psnr(", "@sampler\ndef ddim(")]
    places += [text.index("class LatentCodec(nn.Module):")]
    assert places == sorted(places)
    for one in objects:
        source = textwrap.dedent(inspect.getsource(one)).rstrip()
        assert source in text and text.count("```") == 2


class Screen:
    """Stands for the notebook: what was displayed under which id, and redrawn."""

    def __init__(self):
        self.ids, self.figures = [], []

    def display(self, figure, display_id):
        self.ids.append(display_id)
        self.figures.append(figure)
        return self

    def update(self, figure):
        self.figures.append(figure)


def test_a_live_plot_redraws_one_figure_while_a_training_runs(plt, monkeypatch):
    screen = Screen()
    monkeypatch.setattr("IPython.display.display", screen.display)
    live, other = LivePlot("loss", "psnr", every=2), LivePlot("loss")
    for step in range(1, 7):
        live({"step": step, "loss": 1 / step, "psnr": step})
    other({"step": 1, "loss": 2.0})
    assert len(set(screen.ids)) == 2 and len(screen.figures) == 4
    points = [len(f.axes[1].lines[0].get_xdata()) for f in screen.figures[:3]]
    assert points == [2, 4, 6]
    assert plt.get_fignums() == []  # nothing is drawn a second time at the cell's end
