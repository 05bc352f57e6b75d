"""Procedural landscapes: an unlimited data set whose every cause is known.

`sample_factors` draws the factors, `render` turns them into images, and `detail_masks`
says which pixels belong to stars, windows, wave lines, ... so that the error of a
reconstruction can be reported for each kind of detail.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ldm_tutorial.landscapes.factors import (
    CLASS_NAMES,
    GOLDEN,
    Factors,
    _factors,
    _hash,
)
from ldm_tutorial.landscapes.painting import (
    draw_scene,
)

DETAILS = ("stars", "windows", "waves", "ridge edges", "trunks", "texture", "sky")


CHUNK = 64  # images of 64 x 64 pixels drawn at once, fewer of larger ones


def _chunks(factors: Factors, size: int) -> Iterator[Factors]:
    if not isinstance(size, int) or size < 8 or size % 8:
        raise ValueError(f"size must be a multiple of 8, such as 64, not {size!r}")
    chunk = max(1, CHUNK * 64**2 // size**2)
    for start in range(0, len(factors), chunk):
        yield factors[start : start + chunk]


@torch.no_grad()
def render(factors: Factors, size: int = 64) -> Tensor:
    """Factors of N images to the images, (N, 3, size, size) float32 in [-1, 1]."""
    images = [draw_scene(chunk, size).image for chunk in _chunks(factors, size)]
    none = factors.sun_x.new_zeros(0, 3, size, size)
    return torch.cat([none, *images]).clamp_(0, 1).mul_(2).sub_(1)


@torch.no_grad()
def detail_masks(factors: Factors, size: int = 64) -> dict[str, Tensor]:
    """Which pixels show each of DETAILS: bools (N, size, size), none overlapping."""
    return render_with_masks(factors, size)[1]


@torch.no_grad()
def render_with_masks(
    factors: Factors, size: int = 64
) -> tuple[Tensor, dict[str, Tensor]]:
    """What `render` and `detail_masks` give, drawn at once."""
    canvases = [draw_scene(chunk, size, DETAILS) for chunk in _chunks(factors, size)]
    none = factors.sun_x.new_zeros(0, 3, size, size)
    images = torch.cat([none, *(c.image for c in canvases)])
    least = dict.fromkeys(DETAILS, 0.5) | {"stars": 0.15, "waves": 0.25}
    masks: dict[str, Tensor] = {}
    free: Tensor | bool = True
    for name in DETAILS:  # the finest first
        seen = torch.cat([none[:, :1], *(c.seen[name] for c in canvases)])
        shown = seen[:, 0] > least[name]
        masks[name], free = shown & free, ~shown & free
    return images.clamp_(0, 1).mul_(2).sub_(1), masks


LENGTHS = {"train": 50_000, "validation": 2_000, "test": 2_000}


class Landscapes(torch.utils.data.Dataset):
    """Landscapes by number: (x, label), x (3, size, size) in [-1, 1].

    Image i of a seed and split is the same for ever, whichever others are drawn with
    it: its factors are a hash of (seed, split, i). Any length is allowed.
    """

    classes = CLASS_NAMES

    def __init__(
        self,
        split: str = "train",
        length: int | None = None,
        seed: int = 0,
        size: int = 64,
    ) -> None:
        if split not in LENGTHS:
            wanted = ", ".join(LENGTHS)
            raise ValueError(f"split must be one of {wanted}, not {split!r}")
        self.split, self.seed, self.size = split, seed, size
        self.length = LENGTHS[split] if length is None else length
        if self.length < 0:
            raise ValueError(f"length must not be negative, but is {length}")
        key = _hash(torch.tensor(seed, dtype=torch.int64) + 1)
        self._key = _hash(key + 1 + list(LENGTHS).index(split))

    def __len__(self) -> int:
        return self.length

    def factors(self, indices: Sequence[int] | Tensor) -> Factors:
        """The causes of the images with these numbers, in this order."""
        index = torch.as_tensor(indices, dtype=torch.int64).flatten()
        wrong = index[(index < 0) | (index >= self.length)]
        if len(wrong):
            raise IndexError(
                f"image {int(wrong[0])} of {self.length}: "
                f"numbers run from 0 to {self.length - 1}"
            )
        return _factors(_hash(self._key + index * GOLDEN))

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """A batch at once; torch's DataLoader asks for it in this way."""
        factors = self.factors(indices)
        images, labels = render(factors, self.size), factors.label.tolist()
        return list(zip(images, labels, strict=True))

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.__getitems__([index])[0]
