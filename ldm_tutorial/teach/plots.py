"""One style for all figures, readable on a light and on a dark page."""

import os
from itertools import count
from typing import Any

import torch
from torch import Tensor

GREY = "#757b83"  # text: enough contrast on white and on black
COLOURS = ["#2f87c8", "#e0762b", "#3a9d5d", "#b65fb0", "#c8a02a", "#d0524f"]


def setup() -> torch.device:
    """Set the style of the figures; return the device to train on.

    torch uses all cores, unless the environment says otherwise (OMP_NUM_THREADS).
    """
    import matplotlib.pyplot as plt
    from cycler import cycler

    from ldm_tutorial.machine import best_device

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(os.cpu_count() or 1)
    grey = ["text.color", "axes.labelcolor", "xtick.color", "ytick.color"]
    settings: Any = plt.rcParams
    settings.update({name: GREY for name in [*grey, "axes.edgecolor"]})
    settings.update(
        {
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "axes.prop_cycle": cycler(color=COLOURS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": GREY,
            "grid.alpha": 0.25,
            "legend.frameon": False,
            "figure.dpi": 90,
            "figure.figsize": (7, 3),
            "figure.constrained_layout.use": True,
        }
    )
    return best_device()


def to_pixels(x: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> (B, H, W, 3) in [0, 1] for matplotlib.

    In 64 levels: nobody sees the difference, and notebooks are a third smaller.
    """
    x = ((x.detach().cpu().float() + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1)
    return (63 * x).round() / 63


def check_rows(rows: list) -> None:
    """Raise a ValueError for rows that cannot be drawn."""
    if not any(len(images) for _, images in rows):
        raise ValueError("there are no images to draw; give at least one")
    for _, images in rows:
        if len(images) and images[0].shape[0] not in (1, 3):
            raise ValueError(
                f"got arrays of shape {tuple(images[0].shape)}; give images (3, H, W), "
                "or one channel at a time: (1, h, w)"
            )


def curves(log: list[dict], *names: str, x: str = "step", logy: bool = False) -> None:
    """What a training run reported: one panel for each name."""
    import matplotlib.pyplot as plt

    draw_curves(log, names, x, logy)
    plt.show()


# What the words of a log stand for, with their units.
QUANTITIES = {
    "diffusion": "diffusion loss",
    "kl": "KL, nats per element",
    "latent_std": "spread of the latents",
    "psnr": "PSNR in dB",
    "reconstruction": "reconstruction error",
}


def draw_curves(log: list[dict], names, x: str = "step", logy: bool = False):
    """The figure of ``curves``: at most two panels side by side, so that their type
    is as large as elsewhere."""
    import matplotlib.pyplot as plt

    across = min(2, len(names))
    down = -(-len(names) // across)
    size = (7, 2.5 * down)
    figure, axes = plt.subplots(down, across, figsize=size, squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for i, (axis, name) in enumerate(zip(axes.flat, names, strict=False)):
        axis.plot([line[x] for line in log], [line[name] for line in log], f"C{i}")
        axis.set(xlabel=x, ylabel=QUANTITIES.get(name, name.replace("_", " ")))
        axis.set(yscale="log" if logy else "linear")
    return figure


class LivePlot:
    """Curves that grow while a training runs; give it as ``on_log``.

        train_ldm(recipe, codec, on_log=LivePlot("diffusion", "psnr"))

    Args:
        names: what of the log to draw, one panel each.
        every: lines of the log between two drawings.
    """

    plots = count()

    def __init__(self, *names: str, every: int = 1, logy: bool = False):
        self.names, self.every, self.logy = names, every, logy
        self.log: list[dict] = []
        self.handle, self.id = None, f"live-plot-{next(self.plots)}"

    def __call__(self, line: dict) -> None:
        import matplotlib.pyplot as plt
        from IPython.display import display

        self.log.append(line)
        if len(self.log) % self.every:
            return
        figure = draw_curves(self.log, self.names, logy=self.logy)
        if self.handle is None:
            self.handle = display(figure, display_id=self.id)
        else:
            self.handle.update(figure)
        plt.close(figure)
