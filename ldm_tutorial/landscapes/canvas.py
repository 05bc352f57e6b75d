"""The canvas: N images being painted at once, and which details stay visible."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from ldm_tutorial.landscapes.factors import Factors, _uniform


@cache
def _spline(size: int, count: int, device: torch.device) -> Tensor:
    """Weights (size, count + 3) of the cubic B-splines on a line of `count` cells."""
    place = (torch.arange(size, device=device) + 0.5) / size * count
    distance = (place[:, None] - torch.arange(-1, count + 2, device=device)).abs()
    cube = (2 - distance).clamp(min=0) ** 3 - 4 * (1 - distance).clamp(min=0) ** 3
    return cube / 6


class Canvas:
    """N images being painted from back to front, and which details remain visible.

    Fields over the image are (N, 3 or 1, size, size). A factor (N,) or (N, k) is
    an attribute of shape (N, 1, 1, 1 or k), ready to broadcast.
    """

    def __init__(self, factors: Factors, image: Tensor, seen: dict) -> None:
        self.factors, self.image, self.seen = factors, image, seen
        self.height, self.size = image.shape[-2:]  # lower when cut by `below`
        self.pixel = 1 / self.size
        grid = (torch.arange(self.size, device=image.device) + 0.5) / self.size
        self.x, self.y = grid.view(1, 1, 1, -1), grid[-self.height :].view(1, 1, -1, 1)

    def __getattr__(self, name: str) -> Tensor:
        if "factors" not in vars(self):  # while a copy of the canvas is being made
            raise AttributeError(name)
        factor = getattr(self.factors, name)
        return factor.view(len(factor), 1, 1, -1)

    def by(self, index: Tensor, table: Tensor) -> Tensor:
        """Rows of a table, by time or biome: (N, 3, 1, 1) colours or (N, 1, 1, 1)."""
        return table.to(index.device)[index.flatten()].view(len(index), -1, 1, 1)

    def noise(self, seed: Tensor, rows: int, columns: int) -> Tensor:
        """(N,) seeds to smooth noise (N, 1, size, size), of deviation about 0.5."""
        down = _spline(self.size, rows, seed.device)[-self.height :]
        across = _spline(self.size, columns, seed.device)
        lattice = 4 * _uniform(seed, (rows + 3) * (columns + 3)) - 2
        return (down @ lattice.view(-1, rows + 3, columns + 3) @ across.T)[:, None]

    def inside(self, distance: Tensor) -> Tensor:
        """Coverage in [0, 1] from the distance inside an edge, one pixel soft."""
        return (distance / self.pixel + 0.5).clamp(0, 1)

    def tint(self, colour: Tensor, amount: Tensor) -> None:
        """Mix a colour into the image without hiding what is there."""
        self.image.lerp_(colour, amount)

    def paint(self, colour: Tensor, cover: Tensor, detail: str | None = None) -> None:
        """Lay a colour over the image; it hides what was there."""
        self.tint(colour, cover)
        for seen in self.seen.values():
            seen.mul_(1 - cover)
        self.mark(detail, cover)

    def mark(self, detail: str | None, cover: Tensor) -> None:
        """Note where a detail is visible now."""
        if detail in self.seen:
            self.seen[detail].copy_(torch.maximum(self.seen[detail], cover))

    def below(self, top: float | Tensor) -> "Canvas":
        """The part below y = top, to save work; painting it paints this canvas."""
        height = min(max(self.size - int(top * self.size), 1), self.height)
        seen = {name: field[:, :, -height:] for name, field in self.seen.items()}
        return Canvas(self.factors, self.image[:, :, -height:], seen)

    def only(self, chosen: Tensor, draw: Callable, *arguments) -> None:
        """Let `draw` work on those images for which `chosen`, N bools, is true."""
        rows = chosen.flatten().nonzero().flatten()
        if len(rows):
            seen = {name: field[rows] for name, field in self.seen.items()}
            part = Canvas(self.factors[rows], self.image[rows], seen)
            draw(part, *arguments)
            self.image[rows] = part.image
            for name, field in part.seen.items():
                self.seen[name][rows] = field
