"""The factors of a landscape: every cause of an image, and how they are drawn.

A landscape is a function of a few dozen numbers: the time of day, the biome, where the
sun stands, how the ridges run, where each tree grows.

Rules of the world: the moon and the stars come out at night only, windows are lit at
dusk and at night, no house stands in the sea, conifers grow in forest and snow, cacti
in the desert, palms on the shore of the sea.

Positions are fractions of the image: x from 0 (left) to 1 (right), y from 0 (top) to 1
(bottom).
"""

import dataclasses
from dataclasses import dataclass, fields

import torch
from torch import Tensor

TIMES = ("dawn", "day", "dusk", "night")
BIOMES = ("forest", "desert", "snow", "sea")
DAWN, DAY, DUSK, NIGHT = range(4)
FOREST, DESERT, SNOW, SEA = range(4)
CLASS_NAMES = [f"{time} {biome}" for time in TIMES for biome in BIOMES]


OCTAVES, LAYERS, TREES = 5, 3, 4  # waves per ridge, ridges, most trees in an image


@dataclass(frozen=True, eq=False)
class Factors:
    """Everything that decides N images; one tensor for each cause, N first.

    Heights and widths are fractions of the image's side.
    """

    time: Tensor  # (N,) int64, index into TIMES
    biome: Tensor  # (N,) int64, index into BIOMES
    sun_x: Tensor  # (N,) centre of the sun or moon
    sun_y: Tensor  # (N,)
    sun_radius: Tensor  # (N,)
    warmth: Tensor  # (N,) in [-1, 1]: bluish to reddish light
    haze: Tensor  # (N,) in [0, 1]: clear to misty air
    cloud_cover: Tensor  # (N,) in [0, 1]
    ridge_lift: Tensor  # (N, 3) how far each ridge (far, middle, near) is raised
    ridge_swing: Tensor  # (N, 3) size of its waves; 1 is usual for the biome
    ridge_phase: Tensor  # (N, 3, 5) phase of each wave, in turns
    shore_side: Tensor  # (N,) -1 or 1: the land by the sea lies left or right
    tree_count: Tensor  # (N,) int64, 0 to 4
    tree_x: Tensor  # (N, 4) where each tree is rooted
    tree_height: Tensor  # (N, 4)
    tree_depth: Tensor  # (N, 4) distance of the root below the near ridge line
    house: Tensor  # (N,) bool
    house_x: Tensor  # (N,) centre
    house_size: Tensor  # (N,) width of the wall
    house_hue: Tensor  # (N,) in [0, 1], a full turn of the colour circle
    star_seed: Tensor  # (N,) int64
    cloud_seed: Tensor  # (N,) int64
    texture_seed: Tensor  # (N,) int64

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, index: int | slice | Tensor) -> "Factors":
        """Some of the images; an int keeps the leading dimension, with N = 1."""
        if isinstance(index, int):
            index = torch.arange(len(self), device=self.time.device)[index].view(1)
        return Factors(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Factors):
            return NotImplemented
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return all(torch.equal(mine, its) for mine, its in pairs)

    __hash__ = None  # type: ignore[assignment]  # tensors may be written to

    def to(self, device: torch.device | str) -> "Factors":
        """The same factors on another device, where `render` then draws."""
        return Factors(
            **{f.name: getattr(self, f.name).to(device) for f in fields(self)}
        )

    @property
    def label(self) -> Tensor:
        """(N,) int64 class: 4 * time + biome, an index into CLASS_NAMES."""
        return len(BIOMES) * self.time + self.biome

    def replace(self, **changes: float | Tensor) -> "Factors":
        """The same images with some causes changed; numbers apply to all N."""
        new = {}
        for name, value in changes.items():
            old = getattr(self, name, None)
            if not isinstance(old, Tensor) or name == "label":
                names = ", ".join(f.name for f in fields(self))
                raise ValueError(f"no factor {name!r}; the factors are {names}")
            value = torch.as_tensor(value, dtype=old.dtype, device=old.device)
            if value.dim():  # N comes first
                value = value.reshape(value.shape + (1,) * (old.dim() - value.dim()))
            new[name] = value.expand(old.shape)
        return dataclasses.replace(self, **new)


GOLDEN = -0x61C8864680B583EB  # 2**64 / golden ratio, as a signed integer


def _hash(key: Tensor) -> Tensor:
    """SplitMix64's finalizer: int64 to well-mixed int64 (Steele, Lea & Flood, 2014)."""

    def shift(value: Tensor, bits: int) -> Tensor:  # logical, not arithmetic
        return (value >> bits) & ((1 << (64 - bits)) - 1)

    key = (key ^ shift(key, 30)) * -0x40A7B892E31B1A47
    key = (key ^ shift(key, 27)) * -0x6B2FB644ECCEEE15
    return key ^ shift(key, 31)


def _keys(key: Tensor, count: int) -> Tensor:
    """int64 of shape (...) to `count` independent ones, (..., count)."""
    step = torch.arange(1, count + 1, device=key.device)
    return _hash(key[..., None] + step * GOLDEN)


def _uniform(key: Tensor, count: int) -> Tensor:
    """int64 of shape (...) to numbers in [0, 1), (..., count) float32."""
    return ((_keys(key, count) >> 40) & 0xFFFFFF).float() / 2**24


def _factors(key: Tensor, label: Tensor | None = None) -> Factors:
    """One int64 per image, (N,), to factors that respect the rules of the world."""
    numbers = iter(_uniform(key, 64).unbind(1))

    def between(low, high, count: int = 0) -> Tensor:  # (N,) or (N, count)
        if count:
            return torch.stack([between(low, high) for _ in range(count)], 1)
        return low + (high - low) * next(numbers)

    drawn = between(0, len(CLASS_NAMES)).long()
    label = drawn if label is None else label
    time, biome = label // len(BIOMES), label % len(BIOMES)
    low_sun = (time == DAWN) | (time == DUSK)
    low = torch.where(low_sun, 0.28, 0.12)
    high = torch.where(low_sun, 0.44, 0.30)
    sea = biome == SEA

    house_x = between(0.16, 0.84)
    shore_side = torch.where(between(0, 1) < 0.5, -1.0, 1.0)
    # Steps of the golden ratio spread the trees, away from the house and each other.
    slots = 0.618034 * torch.arange(1, TREES + 1, device=key.device)
    tree_x = (house_x[:, None] + slots + between(-0.03, 0.03, TREES)) % 1
    ashore = (0.5 + shore_side * 0.5)[:, None]
    tree_x = torch.where(sea[:, None], (ashore - 0.36 * tree_x).abs(), tree_x)
    seeds = _keys(key + 1, 3)
    return Factors(
        time=time,
        biome=biome,
        sun_x=between(0.12, 0.88),
        sun_y=between(low, high),
        sun_radius=between(0.040, 0.075),
        warmth=between(-1, 1),
        haze=between(0, 1),
        cloud_cover=between(0, 1),
        ridge_lift=between(-0.03, 0.03, LAYERS),
        ridge_swing=between(0.75, 1.3, LAYERS),
        ridge_phase=between(0, 1, LAYERS * OCTAVES).view(-1, LAYERS, OCTAVES),
        shore_side=shore_side,
        tree_count=between(0, TREES + 1).long(),
        tree_x=tree_x,
        tree_height=between(0.17, 0.32, TREES),
        tree_depth=between(0.01, 0.10, TREES).sort(1).values,  # nearer ones come last
        house=(between(0, 1) < 0.45) & ~sea,
        house_x=house_x,
        house_size=between(0.15, 0.23),
        house_hue=between(0, 1),
        star_seed=seeds[:, 0],
        cloud_seed=seeds[:, 1],
        texture_seed=seeds[:, 2],
    )


def sample_factors(
    n: int, generator: torch.Generator | None = None, label: int | Tensor | None = None
) -> Factors:
    """Draw the causes of n images; `label`, an int or (n,) tensor, fixes the class."""
    device = generator.device if generator is not None else None
    key = torch.randint(-(2**63), 2**63 - 1, (n,), generator=generator, device=device)
    if label is not None:
        label = torch.as_tensor(label, device=device)
        if label.shape not in ((), (n,)) or label.is_floating_point():
            raise ValueError(
                f"label must be a whole number or {n} of them, not a tensor of "
                f"{label.dtype} and shape {tuple(label.shape)}"
            )
        wrong = label[(label < 0) | (label >= len(CLASS_NAMES))]
        if len(wrong):
            last = len(CLASS_NAMES) - 1
            raise ValueError(f"label must lie in 0 ... {last}, not {int(wrong[0])}")
        label = label.long().expand(n)
    return _factors(key, label)
