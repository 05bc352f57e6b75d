"""The denoiser: a UNet that looks at z_t and t and predicts the noise.

After Ho et al. 2020 (app. B) and Dhariwal & Nichol 2021 (sec. 3): residual blocks with
the time embedding as scale and shift, attention at low resolution, skips between the
way down and the way up (Ronneberger et al. 2015). Nothing in it knows whether its
input is an image or a latent.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm_tutorial.arguments import number, whole, widths
from ldm_tutorial.layers import (
    Attention,
    Downsample,
    ResBlock,
    TimeEmbedding,
    Upsample,
    conv3x3,
    group_norm,
    precisely,
    zero_init,
)
from ldm_tutorial.storage import config_from_dict


@dataclass(frozen=True)
class UNetConfig:
    """Shape of a ``UNet``.

    Attributes:
        in_channels: channels of z_t and of the prediction.
        channels: width of each level; each level halves the resolution.
        num_res_blocks: residual blocks per level on the way down (one more on the
            way up).
        attention_levels: levels, counted from 0, that end in self-attention; the
            default stands for those of the first two that there are.
        patch_size: side of the patches folded into channels first; 1 for latents.
        num_classes: number of class labels; 0 makes an unconditional model. One more
            embedding, with index ``num_classes``, stands for "no class".
        dropout: dropout inside the residual blocks, 0 to below 1.

    Raises:
        TypeError, ValueError: for values that make no network.
    """

    in_channels: int = 4
    channels: tuple[int, ...] = (128, 192)
    num_res_blocks: int = 2
    attention_levels: tuple[int, ...] = (0, 1)
    patch_size: int = 1
    num_classes: int = 0
    dropout: float = 0.0

    def __post_init__(self):
        whole("in_channels", self.in_channels, 1, 2**16)
        widths("channels", self.channels)
        whole("num_res_blocks", self.num_res_blocks, 1, 1000)
        whole("patch_size", self.patch_size, 1, 2**10)
        whole("num_classes", self.num_classes, 0, 10**7)
        if number("dropout", self.dropout, 0) >= 1:
            raise ValueError(f"dropout={self.dropout}; give 0, or up to below 1")
        levels = range(len(self.channels))
        given = self.attention_levels
        if given != (0, 1) and not all(level in levels for level in given):
            raise ValueError(
                f"attention_levels={given} of a UNet of {len(levels)} levels; give "
                f"some of {', '.join(map(str, levels))}, or () for none"
            )


class UNet(nn.Module):
    """eps_theta(z_t, t, y): (B, C, H, W), (B,), (B,) or None -> (B, C, H, W)."""

    kind: ClassVar[str] = "UNet"
    precise_ends: ClassVar[bool] = True  # in half precision z_t may stay float32

    def __init__(self, config: UNetConfig | None = None):
        super().__init__()
        self.config = config = config or UNetConfig()
        p, widths = config.patch_size, config.channels
        emb_dim = 4 * widths[0]
        self.time_embedding = TimeEmbedding(emb_dim)
        if config.num_classes:
            self.class_embedding = nn.Embedding(config.num_classes + 1, emb_dim)
        self.stem = conv3x3(config.in_channels * p**2, widths[0])

        def block(c_in: int, c_out: int, level: int) -> nn.ModuleList:
            layers = nn.ModuleList([ResBlock(c_in, c_out, emb_dim, config.dropout)])
            if level in config.attention_levels:
                layers.append(Attention(c_out))
            return layers

        # Lists of lists of layers, for which torch has no type.
        self.down: Any = nn.ModuleList()
        self.up: Any = nn.ModuleList()
        skips = [width := widths[0]]
        for level, w in enumerate(widths):
            if level > 0:
                self.down.append(nn.ModuleList([Downsample(width, width)]))
                skips.append(width)
            for _ in range(config.num_res_blocks):
                self.down.append(block(width, w, level))
                skips.append(width := w)
        self.middle = block(width, width, len(widths) - 1)
        for level, w in reversed(list(enumerate(widths))):
            for _ in range(config.num_res_blocks + 1):
                self.up.append(block(width + skips.pop(), width := w, level))
            if level > 0:
                self.up.append(nn.ModuleList([Upsample(width, width)]))
        self.out = nn.Sequential(
            group_norm(width),
            nn.SiLU(),
            zero_init(conv3x3(width, config.in_channels * p**2)),
        )

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "UNet":
        """The UNet that the ``config`` of a saved one describes, with fresh weights."""
        return cls(config_from_dict(UNetConfig, config))

    def forward(self, z_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Predict from noisy arrays.

        Args:
            z_t: (B, C, H, W), with H and W multiples of patch_size * 2**(levels - 1).
            t: int64 (B,).
            y: int64 (B,) classes; None means "no class" for every element.

        Raises:
            ValueError: for a shape that does not fit. Whether the classes are known is
                asked where they come in (``LatentDiffusion.sample``, ``train_ldm``):
                looking at values here would make a GPU wait at every step.
        """
        h, skips, emb = self.descend(z_t, t, y)
        for layers in self.up:
            if isinstance(layers[0], ResBlock):
                h = torch.cat([h, skips.pop()], dim=1)
            h = apply(layers, h, emb)
        norm, act, conv = self.out
        found = precisely(cast(nn.Conv2d, conv), act(norm(h))).to(z_t.dtype)
        return F.pixel_shuffle(found, self.config.patch_size)

    def descend(
        self, z_t: Tensor, t: Tensor, y: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor], Tensor]:
        """The way down and the middle; arguments as in ``forward``.

        Returns:
            The features of the middle, (B, channels[-1], H', W'), H' and W' the
            smallest sides; what was kept on the way down; the embedding of t and y.
        """
        self._check(z_t, y)
        emb = self.time_embedding(t)
        if self.config.num_classes:
            if y is None:
                y = torch.full_like(t, self.config.num_classes, dtype=torch.int64)
            emb = emb + self.class_embedding(y)
        folded = F.pixel_unshuffle(z_t, self.config.patch_size)
        # Channels last in memory, which all layers keep: a tenth less time on a CPU.
        folded = folded.contiguous(memory_format=torch.channels_last)
        h = precisely(self.stem, folded, back=True)
        skips = [h]
        for layers in self.down:
            h = apply(layers, h, emb)
            skips.append(h)
        return apply(self.middle, h, emb), skips, emb

    def _check(self, z_t: Tensor, y: Tensor | None) -> None:
        config = self.config
        multiple = config.patch_size * 2 ** (len(config.channels) - 1)
        C, H, W = z_t.shape[1:] if z_t.ndim == 4 else (0, 0, 0)
        if config.in_channels != C or H % multiple or W % multiple:
            raise ValueError(
                f"got an array of shape {tuple(z_t.shape)}; this UNet wants "
                f"(B, {config.in_channels}, H, W) with H and W multiples of {multiple}"
            )
        if y is not None and not config.num_classes:
            raise ValueError(
                "classes were given to an unconditional UNet; leave them out, or build "
                "it with num_classes > 0"
            )


def apply(layers: nn.ModuleList, h: Tensor, emb: Tensor) -> Tensor:
    """Apply layers in turn; residual blocks also see the embedding."""
    for layer in layers:
        h = layer(h, emb) if isinstance(layer, ResBlock) else layer(h)
    return h


def inherit(deeper: UNet, unet: UNet) -> None:
    """Give the new ``deeper`` the weights of a trained ``unet`` that is alike but may
    have fewer residual blocks per level. Both then compute the same, as blocks that are
    added start as the identity (Chen et al. 2016, Net2Net, sec. 2.2).

    Raises:
        ValueError: if ``deeper`` differs in anything else, or has fewer blocks.
    """
    old, new = unet.config, deeper.config
    added = new.num_res_blocks - old.num_res_blocks
    if added < 0 or replace(old, num_res_blocks=new.num_res_blocks) != new:
        raise ValueError(
            f"{old} cannot pass its weights on to {new}; give the same shape, with as "
            "many num_res_blocks or more"
        )
    for name, part in unet.named_children():
        if name not in ("down", "up"):
            deeper.get_submodule(name).load_state_dict(part.state_dict())
    down: list[bool] = []  # which layers of deeper are added ones
    up: list[bool] = []
    for level in range(len(new.channels)):
        kept, resampling = [False] * old.num_res_blocks, [False] * (level > 0)
        down += resampling + kept + [True] * added
        up = [False] + [True] * added + kept + resampling + up
    pass_on(unet.down, deeper.down, down)
    pass_on(unet.up, deeper.up, up)


def pass_on(old: nn.ModuleList, new: nn.ModuleList, is_added: list[bool]) -> None:
    """Copy the weights of ``old`` to the layers of ``new`` that were not added."""
    trained = iter(old)
    for layers, added in zip(new, is_added, strict=True):
        if not added:
            layers.load_state_dict(next(trained).state_dict())
            continue
        skip = layers.get_submodule("0.skip")
        if isinstance(skip, nn.Conv2d):  # pass h on, and leave out what was skipped
            weight, bias = skip.parameters()
            nn.init.dirac_(weight)
            nn.init.zeros_(bias)
