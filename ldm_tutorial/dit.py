"""The other denoiser: a transformer over patches, in the place of the UNet.

After Peebles & Xie 2023 (arXiv:2212.09748), "DiT": the array is cut into patches, each
a token; all blocks are alike and work at one resolution; time and class steer them as
scale, shift and gate of every branch (adaLN-Zero, sec. 3.2).
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm_tutorial.arguments import whole
from ldm_tutorial.layers import TimeEmbedding, precisely, zero_init
from ldm_tutorial.storage import config_from_dict


@dataclass(frozen=True)
class DiTConfig:
    """Shape of a ``DiT``.

    Attributes:
        in_channels: channels of z_t and of the prediction.
        patch_size: side of a patch; each becomes one token.
        width: numbers in a token, D; a multiple of 4 and of ``num_heads``.
        depth: number of blocks; each has ``num_heads`` heads of attention.
        mlp_ratio: width of the hidden layer of each MLP, in units of ``width``.
        num_classes: number of class labels; 0 for none. Index ``num_classes`` stands
            for "no class".
    """

    in_channels: int = 4
    patch_size: int = 1
    width: int = 128
    depth: int = 6
    num_heads: int = 4
    mlp_ratio: int = 4
    num_classes: int = 0

    def __post_init__(self):
        for name in ("in_channels", "width", "mlp_ratio"):
            whole(name, getattr(self, name), 1, 2**16)
        for name in ("patch_size", "depth", "num_heads"):
            whole(name, getattr(self, name), 1, 1000)
        whole("num_classes", self.num_classes, 0, 10**7)
        if self.width % 4 or self.width % self.num_heads:
            wanted = f"4 and by num_heads={self.num_heads}; give a number that does"
            raise ValueError(f"width={self.width} does not divide by {wanted}")


class DiT(nn.Module):
    """eps_theta(z_t, t, y): (B, C, H, W), (B,), (B,) or None -> (B, C, H, W)."""

    kind: ClassVar[str] = "DiT"
    precise_ends: ClassVar[bool] = True  # in half precision z_t may stay float32

    def __init__(self, config: DiTConfig | None = None):
        super().__init__()
        self.config = config = config or DiTConfig()
        patch, D = config.in_channels * config.patch_size**2, config.width
        self.time_embedding = TimeEmbedding(D)
        if config.num_classes:
            self.class_embedding = nn.Embedding(config.num_classes + 1, D)
            nn.init.normal_(self.class_embedding.weight, std=0.02)
        self.stem = nn.Linear(patch, D)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(D, elementwise_affine=False, eps=1e-6)
        self.modulation = zero_init(nn.Linear(D, 2 * D))
        self.out = zero_init(nn.Linear(D, patch))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DiT":
        return cls(config_from_dict(DiTConfig, config))

    def forward(self, z_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Predict from noisy arrays z_t (B, C, H, W), with H and W multiples of
        ``patch_size``, times t (B,) and classes y, int64 (B,) or None for no class."""
        C, H, W = z_t.shape[1:] if z_t.ndim == 4 else (0, 0, 0)
        p, n = self.config.patch_size, self.config.num_classes
        if self.config.in_channels != C or H % p or W % p:
            raise ValueError(
                f"got an array of shape {tuple(z_t.shape)}; this DiT wants "
                f"(B, {self.config.in_channels}, H, W) with H and W multiples of {p}"
            )
        if y is not None and not n:
            raise ValueError("classes given to an unconditional DiT; leave them out")
        c = self.time_embedding(t)  # (B, D)
        if n:
            y = torch.full_like(t, n).long() if y is None else y
            c = c + self.class_embedding(y)
        c = F.silu(c)
        h = precisely(self.stem, patchify(z_t, p), back=True)  # (B, N, D)
        h = h + positions(H // p, W // p, self.config.width, like=h)
        for block in self.blocks:
            h = block(h, c)
        shift, scale = self.modulation(c)[:, None].chunk(2, dim=2)
        last = cast(nn.Linear, self.out)
        found = precisely(last, modulate(self.norm(h), shift, scale))
        return unpatchify(found.to(z_t.dtype), p, H, W)


class Block(nn.Module):
    """Attention, then an MLP, each behind a gate that starts at zero: a new block is
    the identity. Shapes: tokens (B, N, D), condition c (B, D) -> (B, N, D)."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        D, self.num_heads = config.width, config.num_heads
        self.norm = nn.LayerNorm(D, elementwise_affine=False, eps=1e-6)
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
        wide = config.mlp_ratio * D
        layers = nn.Linear(D, wide), nn.GELU("tanh"), nn.Linear(wide, D)
        self.mlp = nn.Sequential(*layers)
        self.modulation = zero_init(nn.Linear(D, 6 * D))

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        six = self.modulation(c)[:, None].chunk(6, dim=2)  # each (B, 1, D)
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = six
        h = h + gate * self.attend(modulate(self.norm(h), shift, scale))
        return h + gate_mlp * self.mlp(modulate(self.norm(h), shift_mlp, scale_mlp))

    def attend(self, h: Tensor) -> Tensor:
        """Self-attention of all tokens, (B, N, D) -> (B, N, D)."""
        B, N, D = h.shape
        qkv = self.qkv(h).view(B, N, 3, self.num_heads, D // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, D / heads)
        h = F.scaled_dot_product_attention(q, k, v)
        return self.out(h.transpose(1, 2).reshape(B, N, D))


def modulate(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Normalised tokens (B, N, D), steered by a condition: adaptive layer norm."""
    return h * (1 + scale) + shift


def patchify(x: Tensor, patch_size: int) -> Tensor:
    """(B, C, H, W) -> tokens (B, N, C * patch_size**2), row by row."""
    return F.pixel_unshuffle(x, patch_size).flatten(2).transpose(1, 2)


def unpatchify(tokens: Tensor, patch_size: int, H: int, W: int) -> Tensor:
    """The inverse of ``patchify``, for arrays of H x W."""
    h = tokens.transpose(1, 2).unflatten(2, (H // patch_size, W // patch_size))
    return F.pixel_shuffle(h, patch_size)


def positions(h: int, w: int, dim: int, like: Tensor) -> Tensor:
    """Sines and cosines of a token's row and of its column, half of ``dim`` each:
    (h * w, dim), with the device and dtype of ``like``."""
    steps = torch.arange(dim // 4, device=like.device) / (dim // 4)
    frequency = torch.exp(-math.log(10_000) * steps)
    row, column = (torch.arange(n, device=like.device)[:, None] for n in (h, w))
    row = (row * frequency).repeat_interleave(w, dim=0)  # (h * w, dim / 4)
    column = (column * frequency).repeat(h, 1)
    angles = row.sin(), row.cos(), column.sin(), column.cos()
    return torch.cat(angles, dim=1).to(like.dtype)
