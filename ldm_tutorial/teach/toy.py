"""Diffusion in the plane, where all of it can be drawn: two moons of points.

A point is an array of two channels at one position, (B, 2, 1, 1), so that everything
that works on latents works on points as it is.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ldm_tutorial.layers import TimeEmbedding
from ldm_tutorial.noise import normal_like
from ldm_tutorial.schedule import NoiseSchedule
from ldm_tutorial.teach.plots import COLOURS, GREY

REACH = 2.6  # half the width of what is drawn


def two_moons(n: int, generator: torch.Generator | None = None) -> Tensor:
    """n points (n, 2, 1, 1) on two interlocking half circles, of about unit scale."""
    angle = math.pi * torch.rand(n, generator=generator)
    upper = torch.rand(n, generator=generator) < 0.5
    x = torch.where(upper, angle.cos(), 1 - angle.cos()) - 0.5
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin()) - 0.25
    points = torch.stack([x, 2 * y], dim=1) * 1.15
    points = points + 0.07 * normal_like(points, generator)
    return points[:, :, None, None]


class PointDenoiser(nn.Module):
    """A small network that guesses the noise in points (B, 2, 1, 1) at times (B,).

    It sees the point and the time, like the UNet, and has no grid to walk over.
    """

    def __init__(self, width: int = 128):
        super().__init__()
        self.time_embedding = TimeEmbedding(width)
        self.point = nn.Linear(2, width)
        hidden = [nn.SiLU(), nn.Linear(width, width)]
        again = [nn.SiLU(), nn.Linear(width, width)]
        self.layers = nn.Sequential(*hidden, *again, nn.SiLU(), nn.Linear(width, 2))

    def forward(self, z_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.point(z_t.flatten(1)) + self.time_embedding(t)
        return self.layers(h).view_as(z_t)


def axes_of(count: int):
    """Square panels beside each other, without ticks, which share their limits."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, count, figsize=(7.5, 7.5 / count), squeeze=False)
    for axis in axes[0]:
        axis.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal")
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
    return figure, axes[0]


def scatter(axis, points: Tensor, colour=GREY, size: float = 3.0, alpha=0.5) -> None:
    x, y = points.detach().flatten(1).T.tolist()
    axis.scatter(x, y, s=size, color=colour, alpha=alpha, linewidths=0)


def show_noising(
    points: Tensor,
    noised: Callable[[Tensor, Tensor], Tensor],
    times: Sequence[int],
) -> None:
    """The same points at several times; the left half of them keeps its colour.

    Args:
        points: clean ones, (B, 2, 1, 1).
        noised: (z_0, t) -> z_t, with t int64 (B,).
        times: one panel each.
    """
    import matplotlib.pyplot as plt

    left = points[:, 0, 0, 0] < points[:, 0, 0, 0].median()
    _, axes = axes_of(len(times))
    for axis, t in zip(axes, times, strict=True):
        z_t = noised(points, torch.full((len(points),), t))
        for side, colour in ((left, COLOURS[0]), (~left, COLOURS[1])):
            scatter(axis, z_t[side], colour)
        axis.set_title(f"t = {t}", fontsize=10)
    plt.show()


@torch.no_grad()
def show_arrows(
    denoiser: Callable, schedule: NoiseSchedule, points: Tensor, times: Sequence[int]
) -> None:
    """Where the guess of z_0 lies, seen from a grid of places: an arrow points there.

    It is the direction of the score, the gradient of the log density of z_t, which is
    minus the noise that the denoiser guesses over its standard deviation (Song & Ermon
    2019); arrows are drawn at equal length where they are long.
    """
    import matplotlib.pyplot as plt

    line = torch.linspace(-2.3, 2.3, 13)
    grid = torch.cartesian_prod(line, line)[:, :, None, None]
    _, axes = axes_of(len(times))
    for axis, t in zip(axes, times, strict=True):
        scatter(axis, points, GREY, alpha=0.35)
        score = -denoiser(grid, torch.full((len(grid),), t)).flatten(1)
        long = score.norm(dim=1, keepdim=True).clamp(min=0.35)
        x, y, u, v = torch.cat([grid.flatten(1), 0.32 * score / long], 1).T.tolist()
        axis.quiver(x, y, u, v, angles="xy", scale_units="xy", scale=1, width=0.007,
                    color=COLOURS[1])  # fmt: skip
        axis.set_title(f"t = {t}", fontsize=10)
    plt.show()


@torch.no_grad()
def show_paths(walks: Mapping[str, Sequence[Tensor]], points: Tensor) -> None:
    """The way of each point from noise to the moons, one panel for each sampler.

    Args:
        walks: name -> the points after every step, beginning with the noise.
        points: clean ones, drawn below.
    """
    import matplotlib.pyplot as plt

    _, axes = axes_of(len(walks))
    for axis, (name, steps) in zip(axes, walks.items(), strict=True):
        scatter(axis, points, GREY, alpha=0.35)
        path = torch.stack([z.flatten(1) for z in steps]).transpose(
            0, 1
        )  # (B, steps, 2)
        for k, way in enumerate(path):
            axis.plot(*way.T.tolist(), lw=0.9, alpha=0.9, color=COLOURS[k % 6])
        scatter(axis, steps[-1], COLOURS[5], 16, 1.0)
        axis.set_title(name, fontsize=10)
    plt.show()
