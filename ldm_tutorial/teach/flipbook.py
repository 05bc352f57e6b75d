"""Figures that move without a kernel: pictures behind a slider.

A flipbook is plain HTML: an <input type="range">, which the browser moves by mouse,
touch and arrow keys, and one <img> for each of its places. It needs no library, no
network and no ids, so it works in a notebook, in Colab, on a page opened from a disk,
and twice on one page.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ldm_tutorial.teach.plots import check_rows, to_pixels

Frame = Tensor | Mapping[str, Tensor]

MAX_BYTES = 150_000  # of HTML
QUALITIES = (95, 90, 85, 75)  # of JPEG, tried in this order until the book fits
MOST = 144  # the side of a picture on a page, in CSS pixels
EDGE = 1  # pixels around each tile that the mask cuts away: the gaps

STYLE = """
.flipbook {display: grid; grid-template-columns: fit-content(100%); margin: .6rem 0;
  line-height: 1.3; text-align: left}
.flipbook-page {display: grid; gap: .25rem .6rem; justify-content: start}
.flipbook-titles {display: grid; grid-auto-flow: column; grid-auto-columns: 1fr;
  grid-column: -2; text-align: center; font-size: .85em}
.flipbook-names {display: grid; grid-auto-rows: 1fr; align-items: center;
  text-align: right; font-size: .85em}
.flipbook-frames img {display: block; width: 100%; height: auto; margin: 0; padding: 0;
  border: 0; border-radius: 0; image-rendering: pixelated}
.flipbook-frames img[hidden] {display: none}
.flipbook-knob {display: flex; flex-wrap: wrap; align-items: center; gap: 0 .6rem;
  margin: .5rem 0 0}
.flipbook-knob input {flex: 1 1 14rem; min-width: 8rem; height: 1.75rem; margin: 0;
  accent-color: #2f87c8; cursor: pointer}
.flipbook-labels {display: grid; font-weight: 600; font-variant-numeric: tabular-nums}
.flipbook-labels span {grid-area: 1 / 1}
"""

# The slider's only line of script. It looks for its pictures upwards from itself.
SCRIPT = (
    "const book=this.closest('.flipbook'),i=Number(this.value);"
    "book.querySelectorAll('img').forEach((one,k)=>{one.hidden=k!==i});"
    "book.querySelectorAll('.flipbook-labels span').forEach((one,k)=>{"
    "one.style.visibility=k===i?'visible':'hidden'});"
    "this.setAttribute('aria-valuetext',"
    "book.querySelectorAll('.flipbook-labels span')[i].textContent)"
)


def flipbook(
    frames: Sequence[Frame],
    labels: Sequence[str],
    alts: Sequence[str],
    *,
    knob: str,
    **layout: Any,
) -> None:
    """Show pictures that a slider turns through; arguments as of ``flipbook_html``."""
    from IPython.display import display

    html = flipbook_html(frames, labels, alts, knob=knob, **layout)
    plain = f"A flipbook of {len(labels)} frames, {knob}: {', '.join(labels)}"
    display({"text/html": html, "text/plain": plain}, raw=True)


def flipbook_html(
    frames: Sequence[Frame],
    labels: Sequence[str],
    alts: Sequence[str],
    *,
    knob: str,
    titles: Sequence[str] = (),
    start: int = 0,
    size: int = MOST,
    max_bytes: int = MAX_BYTES,
) -> str:
    """The HTML of a flipbook.

    Args:
        frames: one for each place of the slider, all laid out alike. A frame is a row
            of images (B, 3, H, W) in [-1, 1], or a dict of several, name -> images, as
            ``show_rows`` takes them. Arrays of one channel, (B, 1, h, w), are drawn
            from blue (-3) to red (3); smaller ones are enlarged to the largest.
        labels: the slider's value at each frame, shown beside it and read aloud.
        alts: what each frame shows, in words, for those who cannot see it.
        knob: what the slider changes, e.g. "KL weight".
        titles: one title a column.
        start: the frame that is shown first, and the only one without JavaScript.
        size: side of an image on the page, in CSS pixels, where there is room.
        max_bytes: the largest length. Pictures are as good as fit into it.

    Raises:
        ValueError: if lengths or layouts do not agree, or if it would be too large.
    """
    pages = [frame if isinstance(frame, Mapping) else {"": frame} for frame in frames]
    check_texts(len(pages), labels, alts, knob, start)
    columns = check_layout(pages, titles)
    side = max(images.shape[-1] for images in pages[0].values())
    arrays = [tile(page, side) for page in pages]
    for quality in QUALITIES:
        urls = [data_url(array, quality) for array in arrays]
        html = (
            f'<div class="flipbook" role="group" aria-label="Flipbook: {escape(knob)}">'
            f"<style>{STYLE}</style>"
            f"{page_html(list(pages[0]), titles, columns * size)}"
            f"{frames_html(urls, alts, arrays[0].shape, side, start)}</div>"
            f"{knob_html(knob, labels, start)}</div>"
        )
        if len(html) <= max_bytes:
            return html
    raise ValueError(
        f"the flipbook would take {len(html) / 1e3:.0f} kB and {max_bytes / 1e3:.0f} kB"
        " are allowed; give fewer frames or fewer images in each"
    )


def picture_html(
    frame: Frame, alt: str, titles: Sequence[str] = (), size: int = MOST
) -> str:
    """One frame by itself, without a slider, in the same layout."""
    page = frame if isinstance(frame, Mapping) else {"": frame}
    columns = check_layout([page], titles)
    side = max(images.shape[-1] for images in page.values())
    array = tile(page, side)
    return (
        f'<div class="flipbook"><style>{STYLE}</style>'
        f"{page_html(list(page), titles, columns * size)}"
        f"{frames_html([data_url(array, 90)], [alt], array.shape, side, 0)}"
        "</div></div>"
    )


# --- what is asked of the arguments ---------------------------------------------------


def check_texts(
    count: int, labels: Sequence[str], alts: Sequence[str], knob: str, start: int
) -> None:
    if count < 2:
        raise ValueError(
            f"a flipbook of {count} frames has nothing to turn; give two or more"
        )
    for name, texts in {"labels": labels, "alts": alts}.items():
        if isinstance(texts, str) or len(texts) != count:
            given = repr(texts) if isinstance(texts, str) else f"{len(texts)} {name}"
            raise ValueError(f"got {given} for {count} frames; give one for each")
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise ValueError(f"one of the {name} is empty or no text; write one")
    if not knob.strip():
        raise ValueError("knob is empty; say what the slider changes: 'KL weight'")
    if start not in range(count):
        raise ValueError(f"start={start} is no frame; give 0 to {count - 1}")


def check_layout(pages: list[Mapping[str, Tensor]], titles: Sequence[str]) -> int:
    """The number of columns, if all frames are laid out alike."""
    check_rows(list(pages[0].items()))
    layouts = [{name: tuple(x.shape) for name, x in page.items()} for page in pages]
    for number, layout in enumerate(layouts):
        if layout != layouts[0] or list(layout) != list(layouts[0]):
            raise ValueError(
                f"frame {number} holds {layout} and frame 0 {layouts[0]}; "
                "lay all frames out alike"
            )
    shapes = layouts[0].values()
    if len({shape[0] for shape in shapes}) > 1 or any(s[2] != s[3] for s in shapes):
        raise ValueError(
            f"the rows hold {layouts[0]}; give each as many images, and square ones"
        )
    columns = next(iter(shapes))[0]
    if titles and len(titles) != columns:
        raise ValueError(
            f"got {len(titles)} titles for {columns} columns; one for each"
        )
    return columns


# --- pictures -------------------------------------------------------------------------


def tile(page: Mapping[str, Tensor], side: int) -> Tensor:
    """The images of a frame as one, bytes (H, W, 3); each repeats its outermost pixels
    around it, where the mask will cut."""
    rows = []
    for images in page.values():
        x = coloured(images).permute(0, 3, 1, 2)  # (B, 3, h, w) in [0, 1]
        if x.shape[-2] == x.shape[-1]:
            x = F.interpolate(x, side, mode="nearest")
        x = F.pad(x, [EDGE] * 4, mode="replicate")
        rows.append(torch.cat(list(x), dim=-1))
    image = torch.cat(rows, dim=-2).permute(1, 2, 0)
    return (255 * image).round().byte().contiguous()


def coloured(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) or arrays (B, 1, h, w) as colours (B, H, W, 3) in [0, 1]."""
    if images.shape[1] == 3:
        return to_pixels(images)
    from matplotlib import colormaps

    values = ((images[:, 0].detach().cpu().float() + 3) / 6).clamp(0, 1)
    return torch.from_numpy(colormaps["RdBu_r"](values.numpy())[..., :3]).float()


def data_url(array: Tensor, quality: int) -> str:
    """A picture as PNG or as JPEG with full colour, whichever is smaller."""
    from PIL import Image

    image = Image.fromarray(array.numpy())
    ways: dict[str, dict[str, Any]] = {
        "png": {"optimize": True},
        # Not optimised: Pillow's buffer is too small for that in a large picture.
        "jpeg": {"quality": quality, "subsampling": 0},
    }
    made = {}
    for kind, options in ways.items():
        file = io.BytesIO()
        image.save(file, format=kind, **options)
        made[kind] = file.getvalue()
    kind = min(made, key=lambda kind: len(made[kind]))
    return f"data:image/{kind};base64,{base64.b64encode(made[kind]).decode()}"


# --- HTML -----------------------------------------------------------------------------


def page_html(names: Sequence[str], titles: Sequence[str], width: int) -> str:
    """The opening of the grid of names on the left, titles above, and frames."""
    named = any(names)
    columns = f"{'fit-content(5.5rem) ' if named else ''}minmax(0, {width}px)"
    head = "".join(f"<span>{escape(title)}</span>" for title in titles)
    side = "".join(f"<span>{escape(name)}</span>" for name in names)
    return (
        f'<div class="flipbook-page" style="grid-template-columns: {columns}">'
        + (f'<div class="flipbook-titles">{head}</div>' if titles else "")
        + (f'<div class="flipbook-names">{side}</div>' if named else "")
    )


def frames_html(
    urls: Sequence[str],
    alts: Sequence[str],
    shape: torch.Size,
    side: int,
    start: int,
    high: int | None = None,
) -> str:
    """The frames, of which one is visible; a tile is `side` wide and `high` high."""
    height, width, _ = shape
    images = "".join(
        f'<img width="{width}" height="{height}" decoding="sync" alt="{escape(alt)}"'
        f'{"" if i == start else " hidden"} src="{url}">'
        for i, (url, alt) in enumerate(zip(urls, alts, strict=True))
    )
    turns = (90, width, side), (180, height, high or side)
    cuts = ", ".join(gaps(*turn) for turn in turns)
    style = f"mask-image: {cuts}; mask-composite: intersect"
    return f'<div class="flipbook-frames" style="{style}">{images}</div>'


def gaps(degrees: int, length: int, side: int) -> str:
    """A CSS gradient, opaque over the tiles and clear over the edges between them."""
    a, b, c = (100 * p / length for p in (EDGE, EDGE + side, 2 * EDGE + side))
    return (
        f"repeating-linear-gradient({degrees}deg, #0000 0 {a:.4f}%, "
        f"#000 {a:.4f}% {b:.4f}%, #0000 {b:.4f}% {c:.4f}%)"
    )


def knob_html(knob: str, labels: Sequence[str], start: int) -> str:
    """The slider with its name and, below, its value. All values lie upon each other,
    so that the place they take does not change."""
    values = "".join(
        f'<span style="visibility: {"visible" if i == start else "hidden"}">'
        f"{escape(label)}</span>"
        for i, label in enumerate(labels)
    )
    return (
        '<label class="flipbook-knob">'
        f'<span>{escape(knob)}</span><input type="range" min="0" '
        f'max="{len(labels) - 1}" step="1" value="{start}" autocomplete="off" '
        f'aria-valuetext="{escape(labels[start])}" oninput="{escape(SCRIPT)}"></label>'
        f'<div class="flipbook-labels">{values}</div>'
    )
