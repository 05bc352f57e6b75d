"""SceneNet: a small network that looks at a landscape and names its factors.

It learns from nothing but the renderer: what time it is, where the sun stands, how many
trees grow, and, at the resolution of each of its feature maps, which detail (a star, a
lit window, a wave) is where. To answer, its features must see what a person would look
at, so they serve as

* a perceptual loss (`maps`), as VGG's features do for photographs, and
* the space in which sets of images are compared (`features`), as Inception's do.

Two are shipped, of other architectures and seeds: ``scenenet`` for the loss and
``scenenet-judge`` for evaluation alone. What was trained to please the one has to be
judged by the other.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from ldm_tutorial.landscapes.dataset import (
    DETAILS,
    Landscapes,
    render,
    render_with_masks,
)
from ldm_tutorial.landscapes.factors import BIOMES, TIMES, TREES, Factors
from ldm_tutorial.layers import Downsample, ResBlock, conv3x3, group_norm
from ldm_tutorial.storage import built, config_from_dict, load_model, save_model

# What the network names, and how many choices there are.
CHOICES = {
    "time": len(TIMES),
    "biome": len(BIOMES),
    "house": 2,
    "tree_count": 1 + TREES,
}

# What it measures, and the range of each in the data, which becomes [-1, 1].
NUMBERS = {
    "sun_x": (0.12, 0.88),
    "sun_y": (0.12, 0.44),
    "sun_radius": (0.040, 0.075),
    "warmth": (-1.0, 1.0),
    "haze": (0.0, 1.0),
    "cloud_cover": (0.0, 1.0),
    "house_x": (0.16, 0.84),
    "house_size": (0.15, 0.23),
}
SPREAD = 4  # the last map is averaged to 4 x 4, so that places are not lost


@dataclass(frozen=True)
class SceneNetConfig:
    """Size and kind of the network.

    Attributes:
        patch: side of the pixel patches folded into channels at the entrance.
        channels: width of each stage; every stage after the first halves the sides.
        block: plain (two convolutions with norms, as in VGG) or residual.
        features: length of the feature vector.
    """

    patch: int = 2
    channels: tuple[int, ...] = (32, 48, 64, 96)
    block: Literal["plain", "residual"] = "plain"
    features: int = 64

    def __post_init__(self):
        if self.block not in ("plain", "residual"):
            raise ValueError(f"block={self.block!r}; give plain or residual")


class SceneNet(nn.Module):
    """Images (B, 3, H, W) in [-1, 1] -> what is on them."""

    def __init__(self, config: SceneNetConfig | None = None):
        super().__init__()
        self.config = config = config or SceneNetConfig()
        width = config.channels[0]
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(config.patch), conv3x3(3 * config.patch**2, width)
        )
        self.stages = nn.ModuleList()
        for i, channels in enumerate(config.channels):
            down = [Downsample(width, channels)] if i else []
            width = channels
            self.stages.append(nn.Sequential(*down, *body(width, config.block)))
        self.where = nn.ModuleList(
            nn.Conv2d(channels, len(DETAILS), 1) for channels in config.channels
        )
        self.project = nn.Linear(width * SPREAD**2, config.features)
        self.names = nn.ModuleDict(
            {k: nn.Linear(config.features, n) for k, n in CHOICES.items()}
        )
        self.numbers = nn.Linear(config.features, len(NUMBERS))
        self.spread: Tensor
        self.register_buffer("spread", torch.ones(config.features))

    @property
    def smallest(self) -> int:
        """The smallest side of an image that leaves the last map a pixel."""
        return self.config.patch * 2 ** (len(self.config.channels) - 1)

    def maps(self, x: Tensor) -> list[Tensor]:
        """The feature map after every stage, from fine to coarse.

        Raises:
            ValueError: for images that the network cannot halve so often.
        """
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < self.smallest:
            raise ValueError(
                f"got images of shape {tuple(x.shape)}; this SceneNet wants (B, 3, H, "
                f"W) with sides of at least {self.smallest}"
            )
        h, found = self.stem(x), []
        for stage in self.stages:
            h = stage(h)
            found.append(h)
        return found

    def features(self, x: Tensor) -> Tensor:
        """One vector for each image, (B, features), each of its numbers of unit
        standard deviation over real landscapes."""
        return self.vector(self.maps(x)[-1]) / self.spread

    def vector(self, last: Tensor) -> Tensor:
        return self.project(F.adaptive_avg_pool2d(last, SPREAD).flatten(1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits (B, n) for each of CHOICES, and each of NUMBERS (B,) as it is in
        `Factors`; numbers about a house that is not there mean nothing."""
        return self.name(self.vector(self.maps(x)[-1]))

    def name(self, vector: Tensor) -> dict[str, Tensor]:
        """The same from the vectors (B, features) of images."""
        h = F.silu(vector)
        said = {name: head(h) for name, head in self.names.items()}
        units = self.numbers(h).unbind(1)
        for (name, (low, high)), unit in zip(NUMBERS.items(), units, strict=True):
            said[name] = low + (unit + 1) / 2 * (high - low)
        return said

    @torch.no_grad()
    def fit_spread(self, batches: Iterable[Tensor]) -> None:
        """Measure the spread of the features over images (B, 3, H, W); without it, the
        few that vary most would decide every distance."""
        found = [self.vector(self.maps(x.to(self.spread.device))[-1]) for x in batches]
        self.spread.copy_(torch.cat(found).std(0))

    def save(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write the network to a folder."""
        config = {"scenenet": asdict(self.config)}
        save_model(folder, "SceneNet", config, self.state_dict(), dtype)

    @classmethod
    def load(cls, folder: str | Path = "scenenet") -> "SceneNet":
        """Read a network from a folder, or a shipped one by its name; it is frozen."""
        config, tensors = load_model(folder, "SceneNet")

        def build() -> "SceneNet":
            return cls(config_from_dict(SceneNetConfig, config["scenenet"]))

        return built(build, tensors, folder).eval().requires_grad_(False)


def body(width: int, kind: str) -> list[nn.Module]:
    """What a stage does at its resolution."""
    if kind == "residual":
        return [ResBlock(width, width)]
    norm = [group_norm(width), nn.SiLU()]
    return [*norm, conv3x3(width, width), group_norm(width), nn.SiLU()]


class Scenes(Dataset):
    """Landscapes with their answers: (x, choices (4,), numbers (8,), masks).

    masks: which detail each pixel shows, bool (details, size, size).
    """

    def __init__(self, landscapes: Landscapes):
        self.landscapes = landscapes

    def __len__(self) -> int:
        return len(self.landscapes)

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, ...]]:
        factors = self.landscapes.factors(indices)
        x, masks = render_with_masks(factors, self.landscapes.size)
        parts = (x, *answers(factors), torch.stack(list(masks.values()), 1))
        return list(zip(*parts, strict=True))

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return self.__getitems__([index])[0]


def answers(factors: Factors) -> tuple[Tensor, Tensor]:
    """CHOICES (N, 4) int64 and NUMBERS (N, 8) in [-1, 1]; nan where there is no
    house."""
    choices = torch.stack([getattr(factors, name).long() for name in CHOICES], 1)
    columns = []
    for name, (low, high) in NUMBERS.items():
        unit = 2 * (getattr(factors, name) - low) / (high - low) - 1
        there = factors.house | torch.tensor(not name.startswith("house"))
        columns.append(torch.where(there, unit, torch.nan))
    return choices, torch.stack(columns, 1)


class SceneTraining(nn.Module):
    """What the loop trains: a SceneNet with its loss."""

    def __init__(self, net: SceneNet):
        super().__init__()
        self.net = net

    def forward(
        self,
        x: Tensor,
        choices: Tensor,
        numbers: Tensor,
        masks: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        maps = self.net.maps(x)
        h = F.silu(self.net.vector(maps[-1]))
        parts = {
            name: F.cross_entropy(head(h).float(), choices[:, i])
            for i, (name, head) in enumerate(self.net.names.items())
        }
        known = numbers.isfinite()  # a mask picks nothing out: that asks the device
        error = known * (self.net.numbers(h).float() - numbers.nan_to_num())
        parts["numbers"] = 4 * error.square().sum() / known.sum().clamp(min=1)
        parts["details"] = 4 * self.details(maps, masks)
        total = torch.stack(list(parts.values())).sum()
        return total, {name: value.detach() for name, value in parts.items()}

    def details(self, maps: list[Tensor], masks: Tensor) -> Tensor:
        """Cross-entropy of each map's idea of how much of a detail is in each of its
        cells, over that of knowing only how common the detail is."""
        losses = []
        for head, h in zip(self.net.where, maps, strict=True):
            share = F.adaptive_avg_pool2d(masks.float(), (h.shape[-2], h.shape[-1]))
            common = share.mean((0, 2, 3), keepdim=True).clamp(1e-4, 1 - 1e-4)
            blind = F.binary_cross_entropy(common.expand_as(share), share)
            loss = F.binary_cross_entropy_with_logits(head(h).float(), share)
            losses.append(loss / blind)
        return torch.stack(losses).mean()


@torch.no_grad()
def name_all(net: SceneNet, x: Tensor) -> dict[str, Tensor]:
    """What a network says of many images, 128 at a time, on the CPU."""
    device = next(net.parameters()).device
    parts = [net(part.to(device)) for part in x.split(128)]
    return {name: torch.cat([p[name] for p in parts]).cpu() for name in parts[0]}


@torch.no_grad()
def accuracy(net: SceneNet, landscapes: Landscapes) -> dict[str, float]:
    """How well a network reads landscapes: the share of right choices, and for numbers
    the root mean square error in the units of `Factors`."""
    factors = landscapes.factors(range(len(landscapes)))
    said = name_all(net, render(factors, landscapes.size))
    report = {
        name: float((said[name].argmax(1) == getattr(factors, name)).float().mean())
        for name in CHOICES
    }
    for name in NUMBERS:
        error = (said[name] - getattr(factors, name)).square()
        error = error[factors.house] if name.startswith("house") else error
        report[name] = float(error.mean().sqrt())
    return report
