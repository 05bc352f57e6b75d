"""Tables that are tables: HTML with headings, a caption, intervals and the best marked.

    table(
        {"ddim": {"frechet": 3.2, "frechet_ci95": 0.1}, "real": {"frechet": 0.7}},
        {"frechet": "Fréchet distance ↓"},
        caption="Samplers with ten calls of the network",
        floors=["real"],
    )

An arrow at the end of a heading says which way is better, and the best value of that
column is set bold; a row named in `floors` takes no part in this.
"""

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

STYLE = """<style>
.ldm-table{overflow-x:auto;max-width:100%;margin:.5em 0}
.ldm-table table{border-collapse:collapse;margin:0;font-size:.9em;color:inherit;
width:auto}
.ldm-table caption{caption-side:top;text-align:left;padding:.2em 0;color:inherit;
width:max-content;max-width:min(43em,85vw)}
.ldm-table th,.ldm-table td{padding:.2em .7em;text-align:right;border:0;
border-bottom:1px solid rgba(128,128,128,.35);background:none;color:inherit;
vertical-align:middle}
.ldm-table th{font-weight:600}
.ldm-table thead th{vertical-align:bottom}
.ldm-table th[scope=row],.ldm-table td.text{text-align:left;font-weight:400}
.ldm-table th.text{text-align:left}
.ldm-table thead th:first-child{text-align:left}
.ldm-table tr.floor>*{font-style:italic;border-top:1px solid rgba(128,128,128,.6)}
.ldm-table small{font-size:.8em;white-space:nowrap}
.ldm-table .hidden{position:absolute;width:1px;height:1px;overflow:hidden;
clip-path:inset(50%);white-space:nowrap}
</style>"""


@dataclass
class Table:
    """What `table` returns: HTML for a notebook and plain text for a terminal."""

    head: list[str]
    rows: list[tuple[str, list[str], list[str], list[bool]]]  # name, value, ±, best
    floors: set[str]
    text_columns: set[int]
    caption: str

    def _repr_html_(self) -> str:
        label = html.escape(self.caption or "Table", quote=True)
        lines = [STYLE, f'<div class="ldm-table" role="region" aria-label="{label}"'
                 ' tabindex="0"><table>']  # fmt: skip
        if self.caption:
            lines.append(f"<caption>{html.escape(self.caption)}</caption>")
        heads = (
            f'<th scope="col"{text_class(i - 1 in self.text_columns)}>{heading(h)}</th>'
            for i, h in enumerate(self.head)
        )
        lines.append(f"<thead><tr>{''.join(heads)}</tr></thead><tbody>")
        for name, values, intervals, best in self.rows:
            mark = ' class="floor"' if name in self.floors else ""
            cells = [f'<th scope="row">{html.escape(name)}</th>']
            for i, one in enumerate(zip(values, intervals, best, strict=True)):
                text = text_class(i in self.text_columns)
                cells.append(f"<td{text}>{cell(*one)}</td>")
            lines.append(f"<tr{mark}>{''.join(cells)}</tr>")
        return "".join([*lines, "</tbody></table></div>"])

    def __repr__(self) -> str:
        rows = [self.head]
        for name, values, intervals, _ in self.rows:
            pairs = zip(values, intervals, strict=True)
            rows.append([name, *(f"{v} ±{ci}" if ci else v for v, ci in pairs)])
        wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = (
            [row[0].ljust(wide[0]), *map(str.rjust, row[1:], wide[1:])] for row in rows
        )
        return "\n".join(
            [*([self.caption] if self.caption else []), *map("  ".join, lines)]
        )


def table(
    rows: Mapping[str, Mapping],
    columns: Mapping[str, str] | Iterable[str] | None = None,
    *,
    caption: str = "",
    digits: int | Mapping[str, int] = 2,
    percent: Iterable[str] = (),
    sort: str | None = None,
    floors: Iterable[str] = (),
    corner: str = "",
) -> Table:
    """A table of figures.

    Args:
        rows: name -> figures, by the keys of `columns`. A figure is a number, a text or
            None; if the row holds ``KEY_ci95`` as well, that stands small behind it.
        columns: key -> heading; a heading that ends in ↓ or ↑ says which way is better.
            Without it, the keys of the first row.
        caption: what the table shows, in a sentence.
        digits: behind the point, for all columns or by key; whole numbers have none.
        percent: keys of shares, which are shown in per cent.
        sort: a column to sort by, the best first (without an arrow: the smallest).
        floors: names of rows to measure others against; they stand last, in italics.
        corner: the heading of the names.

    Raises:
        ValueError: for no rows, or for a name in `sort`, `percent` or `floors` that the
            table does not have.
    """
    rows = {str(name): row for name, row in rows.items()}
    if not rows:
        raise ValueError("there are no rows to show; give at least one")
    if not isinstance(columns, Mapping):
        first = next(iter(rows.values()))
        keys = columns or [k for k in first if not str(k).endswith("_ci95")]
        columns = {key: str(key) for key in keys}
    floors, percent = set(map(str, floors)), set(percent)
    check_names("sort", {sort} - {None}, columns)
    check_names("percent", percent, columns)
    check_names("floors", floors, rows)
    best = {key: best_value(rows, key, head, floors) for key, head in columns.items()}
    order = [name for name in rows if name not in floors]
    if sort is not None:
        high = columns[sort].endswith("↑")
        order.sort(key=lambda name: sort_key(rows[name].get(sort), high))
    order += [name for name in rows if name in floors]
    shown, texts = [], set()
    for name in order:
        values, intervals, marks = [], [], []
        for i, key in enumerate(columns):
            value, ci = rows[name].get(key), rows[name].get(f"{key}_ci95")
            places = digits if isinstance(digits, int) else digits.get(key, 2)
            share = key in percent
            values.append(written(value, places, share))
            intervals.append("" if ci is None else written(ci, places, share))
            marks.append(name not in floors and is_figure(value) and value == best[key])
            if isinstance(value, str):
                texts.add(i)
        shown.append((name, values, intervals, marks))
    return Table([corner, *columns.values()], shown, floors, texts, caption)


def check_names(argument: str, given: set, known: Iterable) -> None:
    if unknown := sorted(str(one) for one in given - set(known)):
        raise ValueError(f"{argument} names {unknown}; the table has {list(known)}")


def is_figure(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def best_value(rows: Mapping, key: str, head: str, floors: set) -> float | None:
    """The best figure of a column, None if it has no best."""
    found = [row.get(key) for name, row in rows.items() if name not in floors]
    numbers = [value for value in found if is_figure(value)]
    if len(numbers) < 2 or not head.endswith(("↓", "↑")):
        return None
    return min(numbers) if head.endswith("↓") else max(numbers)


def sort_key(value, high: bool) -> tuple:
    """Numbers in order, then texts, then what is missing."""
    if is_figure(value):
        return 0, -value if high else value, ""
    return (2, 0, "") if value is None else (1, 0, str(value))


def written(value, digits: int, share: bool = False) -> str:
    """A figure as a reader sees it: 1,234 or 3.14, 12 % or –."""
    if value is None:
        return "–"
    if not is_figure(value):
        return str(value)
    if share:
        return f"{100 * value:z.{max(0, digits - 2)}f} %"
    # z: what rounds to zero has no sign
    return f"{value:,}" if isinstance(value, int) else f"{value:z,.{digits}f}"


def text_class(is_text: bool) -> str:
    return ' class="text"' if is_text else ""


def heading(text: str) -> str:
    """The heading of a column; its arrow stays on the line of its last word."""
    shown = html.escape(text).replace(" ↓", "&nbsp;↓").replace(" ↑", "&nbsp;↑")
    return shown or "&nbsp;"


def cell(value: str, interval: str, best: bool) -> str:
    shown = html.escape(value)
    if best:
        shown = f'<strong>{shown}<span class="hidden"> (best)</span></strong>'
    return f"{shown} <small>± {html.escape(interval)}</small>" if interval else shown
