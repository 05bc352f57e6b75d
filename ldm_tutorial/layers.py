"""Building blocks shared by the VAE and the UNet. All tensors are NCHW."""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def group_norm(channels: int, groups: int | None = None) -> nn.GroupNorm:
    """GroupNorm (Wu & He 2018), by default of at most 8 groups of at least 8 channels.

    With few channels per group the layer turns into instance norm, which erases the
    brightness and the colour of an image that a VAE has to keep.
    """
    if groups is None:
        groups = max(1, min(8, channels // 8))
        while channels % groups:
            groups -= 1
    return nn.GroupNorm(groups, channels, eps=1e-6)


def zero_init(layer: nn.Module) -> nn.Module:
    """Zero a layer's parameters, so that a residual block starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)


def precisely(layer: nn.Conv2d | nn.Linear, x: Tensor, back: bool = False) -> Tensor:
    """``layer(x)`` in float32, also where the layer's weights are of half precision.

    It is for both ends of a denoiser: where noise is all there is, a rounding of z_t or
    of eps is an error of more than a hundred times its size in the z_0 they imply.

    Args:
        back: give the result in the precision of the weights.
    """
    dtype = layer.weight.dtype
    if dtype not in (torch.bfloat16, torch.float16):
        return layer(x)
    x, weight = x.float(), layer.weight.float()
    bias = None if layer.bias is None else layer.bias.float()
    if isinstance(layer, nn.Conv2d):
        found = F.conv2d(x, weight, bias, layer.stride, layer.padding)
    else:
        found = F.linear(x, weight, bias)
    return found.to(dtype) if back else found


class ResBlock(nn.Module):
    """x + conv(act(norm(conv(act(norm(x)))))), with the time embedding, if any,
    as scale and shift of the second norm (Dhariwal & Nichol 2021, sec. 3).

    Shapes: x (B, C_in, H, W), emb (B, emb_dim) -> (B, C_out, H, W).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        emb_dim: int | None = None,
        dropout: float = 0.0,
        groups: int | None = None,
    ):
        super().__init__()
        self.norm1 = group_norm(in_channels, groups)
        self.conv1 = conv3x3(in_channels, out_channels)
        self.norm2 = group_norm(out_channels, groups)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zero_init(conv3x3(out_channels, out_channels))
        self.emb = nn.Linear(emb_dim, 2 * out_channels) if emb_dim else None
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        if self.emb is not None:
            assert emb is not None, "a block built with emb_dim wants an embedding"
            scale, shift = self.emb(F.silu(emb))[:, :, None, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift
        return self.skip(x) + self.conv2(self.dropout(F.silu(h)))


class Blocks(nn.Sequential):
    """Layers in turn, whose large activations are not all kept for the backward pass.

    While gradients are recorded, a layer that gets more than RECOMPUTE_ABOVE numbers an
    image keeps its input alone, and is computed once more on the way back (Chen et al.
    2016, arXiv:1604.06174). The gradients are the same. It begins at about 300 pixels a
    side and costs up to a third of the time of those layers; below nothing changes.
    """

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = checkpoint(layer, x, use_reentrant=False) if is_large(x) else layer(x)
        return x


RECOMPUTE_ABOVE = 2**20


def is_large(x: Tensor) -> bool:
    """Whether a layer on ``x`` (B, C, H, W) is better computed twice than kept."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return False
    return math.prod(x.shape[1:]) > RECOMPUTE_ABOVE


class Attention(nn.Module):
    """Self-attention over all H*W positions, with a residual connection.

    Its cost grows with (H*W)^2, which is why it sits only at low resolution.
    Shapes: (B, C, H, W) -> (B, C, H, W).
    """

    def __init__(self, channels: int, head_dim: int = 32, groups: int | None = None):
        super().__init__()
        if channels % head_dim:
            raise ValueError(
                f"attention over {channels} channels does not divide into heads of "
                f"{head_dim}; make the channels a multiple of {head_dim}"
            )
        self.head_dim = head_dim
        self.norm = group_norm(channels, groups)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zero_init(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (B, HW, C)
        qkv = self.qkv(tokens).view(B, H * W, 3, -1, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, HW, head_dim)
        h = F.scaled_dot_product_attention(q, k, v)
        h = self.out(h.transpose(1, 2).reshape(B, H * W, C))
        return x + h.transpose(1, 2).view(B, C, H, W)


class Downsample(nn.Module):
    """Halve height and width by a 3x3 convolution with stride 2.

    It is padded with zeros on all four sides, or, ``one_sided``, below and at the right
    alone, as in Stable Diffusion's autoencoder.
    """

    def __init__(self, in_channels: int, out_channels: int, one_sided: bool = False):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, 3, stride=2, padding=0 if one_sided else 1
        )

    def forward(self, x: Tensor) -> Tensor:
        one_sided = self.conv.padding == (0, 0)
        return self.conv(F.pad(x, (0, 1, 0, 1)) if one_sided else x)


class Upsample(nn.Module):
    """Double height and width: a 3x3 convolution, then nearest-neighbour copies.

    Convolving before the copy costs a quarter of convolving after it. ``copy_first``
    does that all the same, as Stable Diffusion's autoencoder: it smooths the blocks.
    """

    def __init__(self, in_channels: int, out_channels: int, copy_first: bool = False):
        super().__init__()
        self.conv = conv3x3(in_channels, out_channels)
        self.copy_first = copy_first

    def forward(self, x: Tensor) -> Tensor:
        if self.copy_first:
            return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
        return F.interpolate(self.conv(x), scale_factor=2, mode="nearest")


class TimeEmbedding(nn.Module):
    """Sines and cosines of t (Vaswani et al. 2017), then two linear layers.

    Shapes: t int64 (B,) -> (B, dim).
    """

    def __init__(self, dim: int, frequencies: int = 128, max_period: float = 10_000.0):
        super().__init__()
        self.frequencies, self.max_period = frequencies, max_period
        self.mlp = nn.Sequential(
            nn.Linear(frequencies, dim), nn.SiLU(), nn.Linear(dim, dim)
        )

    def forward(self, t: Tensor) -> Tensor:
        count = self.frequencies // 2
        steps = torch.arange(count, device=t.device) / count
        # In float32 whatever the network's dtype: bfloat16 knows no 999.
        angle = t[:, None].float() * torch.exp(-math.log(self.max_period) * steps)
        waves = torch.cat([angle.cos(), angle.sin()], dim=1)
        first = cast(nn.Linear, self.mlp[0])
        return self.mlp(waves.to(first.weight.dtype))
