"""Boxes, arrows and words as SVG that takes the page's colours, light or dark."""

import html
from math import atan2, cos, pi, sin

from ldm_tutorial.teach.plots import COLOURS

BLUE, ORANGE, GREEN, VIOLET, YELLOW, RED = COLOURS
SIZE = 13  # of type, in pixels of a sketch as wide as the column
WIDTH = 680


class Sketch:
    """A drawing of `WIDTH` by `height` pixels; a notebook shows it.

    Lines and words have the colour of the text around them, and areas are translucent,
    so one drawing serves both themes. A narrow screen scrolls it in a box of its own.

    Args:
        title, description: what somebody hears who does not see it.
    """

    def __init__(self, height: int, title: str, description: str):
        self.height, self.title, self.description = height, title, description
        self.parts: list[str] = []

    def box(self, x, y, w, h, *lines, colour=None, dim=False, strong=False) -> None:
        """A rectangle with lines of words in its middle, the first one bold."""
        stroke = colour or "currentColor"
        fill = f'fill="{colour}" fill-opacity=".16"' if colour else 'fill="none"'
        opacity = ' opacity=".45"' if dim else ""
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="5" {fill}'
            f' stroke="{stroke}" stroke-width="{3 if strong else 1.3}"{opacity}/>'
        )
        top = y + h / 2 - (len(lines) - 1) * 0.6 * SIZE
        for i, line in enumerate(lines):
            place = top + i * 1.2 * SIZE
            self.text(x + w / 2, place, line, bold=i == 0, small=i > 0, dim=dim)

    def text(
        self, x, y, words, *, bold=False, small=False, dim=False, anchor="middle",
        colour="currentColor",
    ) -> None:  # fmt: skip
        """Words whose middle, start or end, by `anchor`, is at (x, y)."""
        size = SIZE - 1.5 if small else SIZE
        weight = ' font-weight="600"' if bold else ""
        opacity = ' opacity=".6"' if dim else ""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{colour}"'
            f' dominant-baseline="central" font-size="{size}"{weight}{opacity}>'
            f"{html.escape(str(words))}</text>"
        )

    def arrow(
        self, *points, colour="currentColor", dashed=False, dim=False, thick=False,
        head=True,
    ) -> None:  # fmt: skip
        """A line through points (x, y) with a head at the last."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        opacity = ' opacity=".45"' if dim else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}"'
            f' stroke-width="{2.4 if thick else 1.4}"{dash}{opacity}/>'
        )
        if head:
            (x0, y0), (x, y) = points[-2:]
            angle, size = atan2(y - y0, x - x0), 8
            wings = (
                (x + size * cos(angle + a), y + size * sin(angle + a))
                for a in (pi - 0.42, pi + 0.42)
            )
            corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in [(x, y), *wings])
            self.parts.append(f'<polygon points="{corners}" fill="{colour}"{opacity}/>')

    def cross(self, x, y, colour=RED, size=7) -> None:
        """A cross where something is stopped."""
        for s in (-size, size):
            line = f'x1="{x - size}" y1="{y - s}" x2="{x + size}" y2="{y + s}"'
            self.parts.append(f'<line {line} stroke="{colour}" stroke-width="3"/>')

    def svg(self) -> str:
        said = html.escape(f"{self.title}. {self.description}", quote=True)
        return (
            f'<svg viewBox="0 0 {WIDTH} {self.height}" role="img" aria-label="{said}"'
            f' style="width:100%;min-width:600px;max-width:{WIDTH}px;height:auto;'
            'font-family:system-ui,sans-serif;color:inherit"'
            f' xmlns="http://www.w3.org/2000/svg">{"".join(self.parts)}</svg>'
        )

    def _repr_html_(self) -> str:
        label = html.escape(self.title, quote=True)
        return (
            f'<div class="ldm-sketch" role="region" aria-label="{label}" tabindex="0"'
            f' style="overflow-x:auto">{self.svg()}</div>'
        )

    def __repr__(self) -> str:
        return f"[{self.title}. {self.description}]"
