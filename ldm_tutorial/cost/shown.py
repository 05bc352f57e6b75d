"""What a benchmark's report looks like: tables for a terminal, and a figure."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ldm_tutorial.cost.benchmark import DRAWN, HEADS, MEASURES
from ldm_tutorial.disk import replacing
from ldm_tutorial.records import Row


def tables(report: dict[str, Any]) -> Iterator[str]:
    """Lines of at most 100 columns for ``spaces``, ``against`` and ``race``, those of
    the three that the report has."""
    if spaces := report.get("spaces"):
        yield " " * 20 + "".join(f"{name:>12}" for name in spaces)
        for what in MEASURES:
            cells = "".join(f"{row[what]:12.4g}" for row in spaces.values())
            yield f"{what:20}{cells}"
    if rows := report.get("against"):
        yield ""
        yield f"{'':45}" + "".join(HEADS.values())
        for row in rows:
            parts = (f"{row[k]:{len(h)}.3g}" for k, h in HEADS.items() if k in row)
            yield f"{row['work']:17}{row['system']:28}{''.join(parts)}"
    for name, found in report.get("race", {}).items():
        yield ""
        yield f"{name}: {found['unit']} after {found['seconds']:g} s"
        for run in found["runs"]:
            result, best = run["result"], found["best"][run["system"]]
            told = "diverged" if result is None else f"{result:.4g}"
            first = " best" * (result is not None and result == best)
            yield (
                f"{run['system']:23}learning rate {run['learning_rate']:<8g}"
                f"{run['images']:8} images{told:>10}{first}"
            )


def figure(report: dict[str, Any], path: Path) -> None:
    """Write bars as a PNG: the spaces over f8 (or over the last one measured), and
    each system over diffusers, both on logarithmic axes."""
    from matplotlib.figure import Figure

    panels = [name for name in ("spaces", "against") if report.get(name)]
    canvas = Figure(figsize=(7.5, 3.2 * len(panels)), layout="constrained")
    for axis, name in zip(
        canvas.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True
    ):
        bars, label = (space_bars if name == "spaces" else peer_bars)(report[name])
        groups = list(next(iter(bars.values())))
        for i, (system, values) in enumerate(bars.items()):
            places = [k + 0.8 * (i + 0.5) / len(bars) - 0.4 for k in range(len(groups))]
            heights = [values.get(group, float("nan")) for group in groups]
            axis.bar(places, heights, 0.8 / len(bars), label=system)
        axis.set_yscale("log")
        axis.axhline(1, color="grey", linewidth=0.8)
        axis.set_xticks(range(len(groups)), groups, fontsize=8)
        axis.set_ylabel(label)
        axis.legend(fontsize=7, ncols=3)
    with replacing(path) as new:
        canvas.savefig(new, dpi=150, format="png")


def space_bars(spaces: dict[str, Row]) -> tuple[dict[str, dict[str, float]], str]:
    """Heights of bars by space and measure, and what they are."""
    base = "f8" if "f8" in spaces else list(spaces)[-1]
    bars = {
        name: {label: row[k] / spaces[base][k] for k, label in DRAWN.items()}
        for name, row in spaces.items()
    }
    return bars, f"cost, {base} = 1"


def peer_bars(rows: list[Row]) -> tuple[dict[str, dict[str, float]], str]:
    """Heights of bars by system and work, and what they are."""
    bars: dict[str, dict[str, float]] = {}
    for row in rows:
        bars.setdefault(row["system"], {})[row["work"]] = row["to_diffusers"]
    return bars, "images/s, diffusers = 1"
