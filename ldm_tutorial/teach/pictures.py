"""Rows of pictures: one image on the page, with names and titles as text beside it.

The pictures keep their own resolution and the page enlarges them, so they fill the
column, stay crisp, and weigh a tenth of what a figure does.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ldm_tutorial.teach.flipbook import (
    MOST,
    STYLE,
    coloured,
    data_url,
    frames_html,
    page_html,
    tile,
)
from ldm_tutorial.teach.plots import check_rows

COLUMN = 684  # of the book's pages, in CSS pixels
NAMES = 96  # what names on the left take of it
LEAST = 64  # the side of a picture
QUALITIES = (90, 80, 70, 60)  # of JPEG, tried in this order
HEAVIEST = 190_000  # characters: what a phone loads for one picture, 140 kB
ALT = 'data-alt="cell"'  # `make notebooks` puts the text of the cell here


def show_grid(x: Tensor, columns: int = 8, size: float = 0, titles=None) -> None:
    """Images (B, 3, H, W), `columns` in a row; `size` as in `show_rows`."""
    rows = [x[i : i + columns] for i in range(0, len(x), columns)]
    show_rows([(None, row) for row in rows], size=size, titles=titles)


def show_rows(rows, size: float = 0, titles: Sequence[str] | None = None) -> None:
    """Rows of images under each other, each with its name on the left.

    Args:
        rows: dict of name -> images (B, 3, H, W), or (name, images) pairs. Arrays with
            another number of channels, (B, C, h, w), are drawn one channel each, from
            blue (-3) to red (3): pass them as (B * C, 1, h, w).
        size: side of a picture in CSS pixels; 0 fills the column. (Below 10 it is read
            as inches of 90 pixels.)
        titles: one title a column, above the first row.

    Raises:
        ValueError: if there is nothing to draw, or for another number of channels.
    """
    from IPython.display import display

    rows = list(rows.items()) if isinstance(rows, Mapping) else list(rows)
    html = rows_html(rows, size, titles or ())
    plain = ", ".join(str(name) for name, _ in rows if name) or "pictures"
    display({"text/html": html, "text/plain": f"[{plain}]"}, raw=True)


def rows_html(rows: list, size: float, titles: Sequence[str]) -> str:
    """The HTML of `show_rows`."""
    check_rows(rows)
    names = [str(name or "").replace("\n", " ") for name, _ in rows]
    columns = max(len(images) for _, images in rows)
    side = max(one.shape[-1] for _, images in rows for one in images)
    high = max(one.shape[-2] for _, images in rows for one in images)
    array = tile(
        {str(i): even(r, columns, high, side) for i, (_, r) in enumerate(rows)}, side
    )
    room = (COLUMN - NAMES * any(names)) / columns
    size = 90 * size if 0 < size < 10 else size or min(room, MOST)
    titles = [str(title).replace("\n", " ") for title in titles]
    alt = "; ".join(filter(None, names)) or f"{columns} pictures in a row"
    picture = frames_html([light_url(array)], [alt], array.shape, side, 0, high)
    picture = picture.replace("<img ", f"<img {ALT} ", 1)
    width = round(columns * max(size, LEAST))
    return (
        f'<div class="flipbook"><style>{STYLE}</style>'
        f"{page_html(names, titles, width)}{picture}</div></div>"
    )


def light_url(array: Tensor) -> str:
    """A picture as text, in the best quality that keeps it light."""
    for quality in QUALITIES:
        url = data_url(array, quality)
        if len(url) <= HEAVIEST:
            break
    return url


def even(
    images: Tensor | Sequence[Tensor], columns: int, high: int, side: int
) -> Tensor:
    """A row in colour, (columns, 3, high, side); grey where it has no picture."""
    row = [2 * coloured(one[None]).permute(0, 3, 1, 2) - 1 for one in images]
    row = [F.interpolate(x.float(), (high, side), mode="nearest") for x in row]
    return torch.cat([*row, torch.zeros(columns - len(row), 3, high, side)])
