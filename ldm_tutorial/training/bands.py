"""A loss in bands: is there as much fine detail as there should be, and of its kind?

Pixel by pixel a lost star costs less than a star one pixel off, and a weave over the
sky costs next to nothing. So images are split into octaves and orientations by the Haar
wavelet (Mallat 1989), and in small windows of every band its *strength* is compared,
not its values: how busy the window is, and how pointed. Texture may lie anywhere in its
window, stars are counted as a field of points, and a weave has nowhere to hide.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 2  # wavelengths of 2 to 4 and of 4 to 8 pixels
WINDOW = 4  # coefficients on each side: 8 pixels in the finest band, then 16
FLOOR = 0.02  # strength below which nobody sees a difference: 2.5 steps of 8 bits
POWERS = (1, 4)  # the mean says how busy a window is, the fourth power how pointed


def haar(x: Tensor) -> tuple[Tensor, Tensor]:
    """One level of the orthonormal Haar wavelet: images (B, C, H, W) to their half
    (B, C, H/2, W/2), and to bands (B, C, 3, H/2, W/2) of what varies from left to
    right, from top to bottom, and both ways."""
    a, b, c, d = F.pixel_unshuffle(x, 2).unflatten(1, (-1, 4)).unbind(2)
    bands = torch.stack([a - b + c - d, a + b - c - d, a - b - c + d], 2)
    return (a + b + c + d) / 2, bands / 2


def wavelet(x: Tensor, levels: int = LEVELS) -> tuple[list[Tensor], Tensor]:
    """The bands of images (B, C, H, W) from fine to coarse, and what is left.

    Their squares add up to those of the image (Parseval). H and W are multiples of
    2^levels.
    """
    found = []
    for _ in range(levels):
        x, bands = haar(x)
        found.append(bands)
    return found, x


def strength(bands: Tensor, power: float, window: int = WINDOW) -> Tensor:
    """(mean of |w|^power)^(1/power) over windows of bands (B, C, 3, h, w), which
    overlap by half: (B, 3, h', w'), with FLOOR for a band that is empty.

    |w| of a place is the root mean square over the colours.
    """
    size = (bands.square().mean(1) + FLOOR**2).sqrt()
    return F.avg_pool2d(size**power, window, window // 2) ** (1 / power)


def band_distance(x_hat: Tensor, x: Tensor, levels: int = LEVELS) -> Tensor:
    """How far the strengths of the bands are apart, (B,): the mean of |log ratio| over
    windows, orientations, octaves and POWERS. Half as strong costs as much as twice.

    Each image counts from two corners, one pixel apart in both directions: otherwise
    what falls between two pairs of pixels would look other than what falls into one.

    Raises:
        ValueError: for images that differ in shape or are too small.
    """
    smallest = WINDOW * 2**levels + 1
    if x_hat.shape != x.shape or x.ndim != 4 or min(x.shape[2:]) < smallest:
        raise ValueError(
            f"got images of shapes {tuple(x_hat.shape)} and {tuple(x.shape)}; a loss "
            f"in bands wants two batches of the same shape (B, C, H, W) with sides of "
            f"{smallest} or more: give larger images, or band_weight=0"
        )
    both, unit = torch.stack([x_hat, x]).float(), 2**levels
    total = both.new_zeros(len(x))
    for corner in (0, 1):
        H, W = ((n - corner) // unit * unit + corner for n in x.shape[2:])
        split, _ = wavelet(both[..., corner:H, corner:W].flatten(0, 1), levels)
        for bands in split:
            for power in POWERS:
                log = strength(bands, power).log().unflatten(0, (2, -1))
                total = total + (log[0] - log[1]).abs().flatten(1).mean(1)
    return total / (2 * levels * len(POWERS))
