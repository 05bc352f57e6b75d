"""Curves and dots whose names stand beside them, with the floors they are held against.

lines({"DDIM": (calls, values, intervals)}, xlabel="network calls", ylabel="distance")
dots({"eps": (3.1, 0.2), "v": (2.9, 0.2)}, xlabel="distance", floors={"real": 0.7})
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ldm_tutorial.teach.plots import GREY

NAME_SIZE = 9


def lines(
    series: Mapping[str, Sequence],
    *,
    xlabel: str,
    ylabel: str,
    floors: Mapping[str, float] | None = None,
    log: str = "",
    marks: str = "",
    styles: Mapping[str, str] | None = None,
    axis=None,
    ticks: Sequence | None = None,
    names: bool = True,
    **limits,
) -> None:
    """One curve for each entry, with its name at its right end.

    Args:
        series: name -> (x, y) or (x, y, half widths of intervals).
        floors: name -> height of a dotted line across the figure.
        log: the axes that are logarithmic: "", "x", "y" or "xy".
        marks: what to draw at each point, as matplotlib names it, e.g. "o".
        styles: name -> line style; the others are solid.
        axis: draw here and do not show; None for a figure of its own.
        ticks: where to label the x axis, in plain numbers.
        names: False if another panel of the figure names the same curves.
        limits: given to the axis: `ylim=(0, 1)`, `title="..."`.
    """
    import matplotlib.pyplot as plt

    alone = axis is None
    axis = plt.figure().add_subplot() if alone else axis
    axis.set(xscale="log" if "x" in log else "linear")
    axis.set(yscale="log" if "y" in log else "linear")
    ends = []
    for k, (name, (x, y, *rest)) in enumerate(series.items()):
        style: dict[str, Any] = {"color": f"C{k}", "ls": (styles or {}).get(name, "-")}
        x, y = [float(one) for one in x], [float(one) for one in y]
        if not x:  # nothing was measured; the colour stays reserved
            continue
        if rest:
            style |= {"yerr": visible(y, rest[0], "y" in log), "capsize": 3}
            axis.errorbar(x, y, marker=marks or None, **style)
        else:
            axis.plot(x, y, marker=marks or None, **style)
        ends.append((name, x[-1], y[-1], f"C{k}"))
    for name, height in (floors or {}).items():
        axis.axhline(height, color=GREY, ls=":")
        ends.append((name, None, float(height), GREY))
    axis.set(xlabel=xlabel, ylabel=ylabel, **limits)
    plain_ticks(axis)
    if ticks is not None:
        axis.set_xticks(ticks, [f"{one:,}" for one in ticks])
        axis.tick_params(axis="x", which="minor", labelbottom=False)
    if names:
        name_ends(axis, ends)
    if alone:
        plt.show()


def plain_ticks(axis) -> None:
    """Logarithmic axes of a few decades are labelled 2, 5, 10, 20 and so on, in plain
    numbers; longer ones keep their powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for line in (axis.xaxis, axis.yaxis):
        low, high = sorted(line.get_view_interval())
        if line.get_scale() != "log" or low <= 0:
            continue
        line.set_minor_formatter(NullFormatter())
        if high / low < 1e3:
            line.set_major_locator(LogLocator(subs=(1, 2, 5)))
            line.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def visible(y: Sequence[float], half: Sequence[float], logarithmic: bool):
    """Intervals as (below, above); on a logarithmic axis none reaches down to zero."""
    below = [
        min(h, 0.9 * v) if logarithmic else h for v, h in zip(y, half, strict=True)
    ]
    return below, list(half)


def name_ends(axis, ends: list) -> None:
    """Write each name to the right of the axis, at the height of its curve's end, and
    push apart those that would touch."""
    from matplotlib.transforms import blended_transform_factory

    axis.figure.canvas.draw()  # the limits are known only now
    box = axis.get_window_extent()
    line = 1.25 * NAME_SIZE * axis.figure.dpi / 72 / box.height  # a line of text
    place = blended_transform_factory(axis.transAxes, axis.transAxes)
    to_axis = axis.transData + axis.transAxes.inverted()
    left = axis.get_xlim()[0]
    heights = [float(to_axis.transform((left, y))[1]) for _, _, y, _ in ends]
    order = sorted(range(len(ends)), key=heights.__getitem__)
    for i, height in zip(order, apart([heights[i] for i in order], line), strict=True):
        name, _, _, colour = ends[i]
        text = {"color": colour, "fontsize": NAME_SIZE, "va": "center"}
        axis.text(1.02, height, name, transform=place, clip_on=False, **text)


def apart(heights: list[float], gap: float) -> list[float]:
    """Rising heights, moved as little as needed to be `gap` apart, as a group each."""
    groups: list[list[float]] = []  # the wishes of the names that touch each other
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and bottom(groups[-1], gap) < top(groups[-2], gap) + gap:
            groups[-2:] = [groups[-2] + groups[-1]]
    return [bottom(group, gap) + i * gap for group in groups for i in range(len(group))]


def bottom(group: list[float], gap: float) -> float:
    return sum(group) / len(group) - gap * (len(group) - 1) / 2


def top(group: list[float], gap: float) -> float:
    return bottom(group, gap) + gap * (len(group) - 1)


def dots(
    values: Mapping[str, float | Sequence[float]],
    *,
    xlabel: str,
    floors: Mapping[str, float] | None = None,
    log: bool = False,
    sort: bool = False,
    axis=None,
    **limits,
) -> None:
    """One dot for each entry, from top to bottom, with its interval.

    Args:
        values: name -> figure, or (figure, half width of its interval), or (figure,
            lowest, highest).
        floors: name -> where to draw a dotted line from top to bottom.
        log: whether the axis is logarithmic.
        sort: the smallest on top.
        axis: draw here and do not show; None for a figure of its own.
        limits: given to the axis, as in `lines`.
    """
    import matplotlib.pyplot as plt

    shown = {name: interval(value, log) for name, value in values.items()}
    order = sorted(shown, key=lambda name: shown[name][0]) if sort else list(shown)
    alone = axis is None
    if alone:
        axis = plt.figure(figsize=(7, 0.5 + 0.27 * len(order))).add_subplot()
    middle, below, above = zip(*(shown[name] for name in order), strict=True)
    places = range(len(order))
    axis.errorbar(middle, places, xerr=(below, above), fmt="o", capsize=3)
    axis.set_yticks(places, order)
    axis.set(xlabel=xlabel, xscale="log" if log else "linear")
    axis.set(ylim=(len(order) - 0.4, -0.6), **limits)
    for name, x in (floors or {}).items():
        axis.axvline(x, color=GREY, ls=":")
        axis.annotate(
            name,
            (x, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            fontsize=NAME_SIZE,
            color=GREY,
            ha="center",
            va="bottom",
        )
    plain_ticks(axis)
    if alone:
        plt.show()


def interval(value, logarithmic: bool) -> tuple[float, float, float]:
    """A figure, and how far its interval reaches below and above it."""
    if isinstance(value, int | float):
        return float(value), 0.0, 0.0
    middle, *rest = (float(one) for one in value)
    below, above = (middle - rest[0], rest[1] - middle) if len(rest) == 2 else rest * 2
    return middle, min(below, 0.9 * middle) if logarithmic else below, above
