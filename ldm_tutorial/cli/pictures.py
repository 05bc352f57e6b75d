"""Grids of images as picture files, with the names of their classes."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm_tutorial.disk import replacing
from ldm_tutorial.records import to_bytes
from ldm_tutorial.text import printable

STRIP = 26  # pixels below an image for two lines of its name
LEAST = 64  # side of an image that a name fits under


def write_grid(
    x: Tensor,
    out: Path,
    names: Sequence[str] | None = None,
    columns: int | None = None,
) -> None:
    """Write images (B, C, H, W) as one picture, lined in black.

    Args:
        names: of their classes, one for each image, written below it; small images are
            enlarged so that a name has room.
        columns: images in a row; by default the picture is nearly square.
    """
    from PIL import Image

    x = x.detach().float().cpu()
    if names is not None:
        x = x.repeat_interleave(-(-LEAST // x.shape[-1]), -1)
        x = x.repeat_interleave(-(-LEAST // x.shape[-2]), -2)
    x = F.pad(x, (1, 1, 1, 1 + STRIP * (names is not None)), value=-1.0)
    columns = columns or max(1, round(len(x) ** 0.5))
    rows = -(-len(x) // columns)
    B, C, H, W = x.shape
    cells = torch.cat([x, x.new_full((rows * columns - B, C, H, W), -1.0)])
    cells = cells.view(rows, columns, C, H, W).permute(0, 3, 1, 4, 2)
    pixels = to_bytes(cells.reshape(rows * H, columns * W, C)).expand(-1, -1, 3)
    picture = Image.fromarray(pixels.numpy())
    for i, name in enumerate(names or ()):
        write_name(picture, name, (i % columns) * W, (i // columns + 1) * H - STRIP, W)
    kind = Image.registered_extensions()[out.suffix.lower()]
    with replacing(out) as new:
        picture.save(new, kind)


def write_name(picture, name: str, left: int, top: int, width: int) -> None:
    """Write a name in white on at most two lines, centred, within a width."""
    from PIL import ImageDraw, ImageFont

    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(10)
    lines = [""]
    for word in printable(name).replace("_", " ").split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    for row, line in enumerate(lines[:2]):
        cut = line
        while cut and draw.textlength(cut + "…" * (cut != line), font) > width:
            cut = cut[:-1]
        cut += "…" * (cut != line)
        place = (left + width // 2, top + 1 + 12 * row)
        draw.text(place, cut, "white", font, anchor="ma")
