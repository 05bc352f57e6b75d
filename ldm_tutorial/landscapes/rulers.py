"""Rulers: how much of something a landscape shows, measured without an original.

Fine detail in octaves of spatial frequency, strong edges, stars, lit windows, wave
lines, trunks, grain. Sets of images of the same classes are compared by the means of
what a ruler reads.

A ruler says how much there is, not whether it is right: a picture may show as many
stars as its original, all in the wrong places. For that there are error and recall.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm_tutorial.landscapes.factor_report import count_stars
from ldm_tutorial.landscapes.factors import BIOMES, DUSK, NIGHT, SEA
from ldm_tutorial.landscapes.painting import BARK, LIGHT
from ldm_tutorial.landscapes.scenenet import SceneNet, name_all
from ldm_tutorial.metrics import high_pass, window

Values = dict[str, Tensor]  # of each image (n,), nan where a measure does not apply

# Octaves in cycles per image. Below two the window mixes in the mean brightness.
BANDS = {
    "2 to 4 cycles": (2, 4),
    "4 to 8 cycles": (4, 8),
    "8 to 16 cycles": (8, 16),
    "16 cycles and up": (16, None),
}


def spectrum(x: Tensor) -> Tensor:
    """Power of images (n, 3, H, H) at 0, 1, 2, ... cycles per image, (n, rings).

    The mean of the colours under a Hann window, without which the borders, where left
    and right do not fit, would look like detail. Directions are added up, and so are
    all rings what the sum over the squared pixels is (Parseval).
    """
    H = x.shape[-1]
    hann = torch.hann_window(H, device=x.device)
    power = torch.fft.fft2(x.mean(1) * hann[:, None] * hann, norm="ortho").abs() ** 2
    cycles = torch.fft.fftfreq(H, 1 / H, device=x.device)
    ring = torch.hypot(cycles[:, None], cycles).round().long().flatten()
    rings = power.new_zeros(len(x), int(ring.max()) + 1)
    return rings.index_add(1, ring, power.flatten(1))


def band_powers(x: Tensor) -> Values:
    """Power of images (n, 3, H, H) in each of BANDS, (n,)."""
    power = spectrum(x)
    return {name: power[:, low:high].sum(1) for name, (low, high) in BANDS.items()}


def grid_peak(x: Tensor, period: int = 8) -> float:
    """How far a grid of this period in pixels, or of a part of it, stands out of images
    (n, 3, H, H): power at its frequencies over that of their neighbours two and three
    cycles away, the largest of all; 1 for images without a grid.

    A decoder that copies or unfolds patches works in periods of 2, 4, 8 ... pixels, and
    what it gets wrong repeats with them. Powers are compared by their geometric means
    over images, so that a grid on a smooth sky counts as much as one on a meadow.
    """
    H = x.shape[-1]
    hann = torch.hann_window(H, device=x.device)
    waves = torch.fft.fft2(x.mean(1) * hann[:, None] * hann, norm="ortho")
    power = (waves.abs() ** 2 + 1e-8).log().mean(0)  # (H, H)
    near = torch.tensor([-3, -2, 2, 3], device=x.device)
    grid = torch.arange(0, H, H // period, device=x.device)
    around = (power.roll((int(a), int(b)), (0, 1)) for a in near for b in near)
    excess = power - torch.stack(list(around)).mean(0)
    peaks = excess[grid[:, None], grid].flatten()[1:]  # all but the brightness
    return float(peaks.max().exp())


def grey(x: Tensor) -> Tensor:
    """Images (n, 3, H, W) in [-1, 1] to brightness (n, H, W) in [0, 1]."""
    return (x.mean(1) + 1) / 2


def gradients(x: Tensor) -> Tensor:
    """Length of the brightness gradient, (n, H - 1, W - 1), per pixel."""
    h = grey(x)
    return torch.hypot(h[:, 1:, :-1] - h[:, :-1, :-1], h[:, :-1, 1:] - h[:, :-1, :-1])


def strong_edge(x: Tensor) -> float:
    """The gradient that 5 % of the pixels of images (n, 3, H, W) exceed."""
    return float(torch.quantile(gradients(x).flatten(), 0.95))


def lit_pixels(x: Tensor, house_x: Tensor, house_size: Tensor) -> Tensor:
    """How many pixels have the colour of lamp light near the houses, (n,).

    Bright and yellow. An evening sky is that too, so only the lower part of the image
    counts, and only the columns where a house was read (fractions of the image, (n,)).
    """
    red, green, blue = ((x + 1) / 2).unbind(1)
    H, W = x.shape[-2:]
    column = (torch.arange(W, device=x.device) + 0.5) / W
    near = (column - house_x[:, None]).abs() < 0.55 * house_size[:, None]
    lit = (green > 0.65) & (red - blue > 0.25) & near[:, None]
    return lit[:, int(0.62 * H) :].flatten(1).sum(1).float()


def wave_lines(x: Tensor) -> Tensor:
    """Contrast of horizontal lines on the water, (n,), in brightness.

    What is left of a column without its blur, smoothed along the rows. Palms grow at
    one side, so each image counts with the half that shows fewer lines.
    """
    h, H = grey(x), x.shape[-2]
    down, across = (window(h, n, 1.5, 5) for n in x.shape[-2:])
    lines = ((h - down @ h) @ across.T).abs()[:, int(0.61 * H) : int(0.84 * H)]
    halves = [half.flatten(1).mean(1) for half in lines.chunk(2, -1)]
    return torch.minimum(*halves)


def trunk_pixels(x: Tensor, y: Tensor) -> Tensor:
    """How many pixels of the lower half belong to trunks, (n,).

    They have the colour of the bark of class ``y`` (n,), and are darker than what is
    two or three pixels away on either side.
    """
    colour = (BARK[y % len(BIOMES)] * LIGHT[y // len(BIOMES)])[..., None, None]
    bark = ((x + 1) / 2 - colour.to(x.device)).abs().amax(1) < 0.09
    h, W = grey(x), x.shape[-1]
    wide = F.pad(h, (3, 3, 0, 0), mode="replicate")
    left = torch.maximum(wide[..., :W], wide[..., 1 : W + 1])
    right = torch.maximum(wide[..., 5 : W + 5], wide[..., 6:])
    stroke = bark & (torch.minimum(left, right) - h > 0.06)
    return stroke[:, x.shape[-2] // 2 :].flatten(1).sum(1).float()


def ground_texture(x: Tensor) -> Tensor:
    """Contrast of fine texture at the lower edge, in the median, (n,): trees and the
    edges of things do not move it."""
    h = high_pass(x).mean(1).abs()
    return h[:, -(x.shape[-2] // 6) :].flatten(1).median(1).values


@torch.no_grad()
def measure(x: Tensor, y: Tensor, strong: float, judge: SceneNet) -> Values:
    """All rulers laid on images (n, 3, 64, 64) of the classes ``y`` (n,).

    Values are nan for images of which they say nothing: stars belong to the night, wave
    lines to the sea, lamp light to land after dusk where ``judge`` reads a house. By
    night bark and leaves are of one colour, so trunks count by day and dawn.

    Args:
        strong: the gradient above which an edge is strong, as of ``strong_edge``.
        judge: a network that names what a landscape shows.
    """
    time, biome = y // len(BIOMES), y % len(BIOMES)
    said = name_all(judge, x)
    house = (said["house"].argmax(1) == 1).float()
    dark, land, edges = time >= DUSK, biome != SEA, gradients(x).flatten(1)
    found = {
        "stars": (count_stars(x).float(), time == NIGHT),
        "houses": (house, land),
        "lit windows": (
            lit_pixels(x, said["house_x"], said["house_size"]),
            dark & land & (house == 1),
        ),
        "wave lines": (wave_lines(x), biome == SEA),
        "trunks": (trunk_pixels(x, y), ~dark),
        "texture": (ground_texture(x), land),
    }
    values = band_powers(x) | {"gradient": edges.mean(1)}
    values["strong edges"] = (edges > strong).float().mean(1)
    return values | {k: v.where(there, torch.nan) for k, (v, there) in found.items()}
