"""Exercises on the transformer: its tokens, and how a condition steers them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm_tutorial import dit
from ldm_tutorial.teach.task import Case, Exercise
from ldm_tutorial.teach.tasks.inputs import randn


def patchify(x: Tensor, patch_size: int) -> Tensor:
    return dit.patchify(x, patch_size)


def cut(x: Tensor, p: int) -> Tensor:
    """(B, C, H, W) -> (B, C, rows, p, columns, p)."""
    B, C, H, W = x.shape
    return x.reshape(B, C, H // p, p, W // p, p)


def interleaved(x: Tensor, p: int) -> Tensor:
    """Tokens of pixels that lie far apart: the sides split the other way round."""
    B, C, H, W = x.shape
    split = x.reshape(B, C, p, H // p, p, W // p)
    return split.permute(0, 3, 5, 1, 2, 4).flatten(3).flatten(1, 2)


PATCHIFY = Exercise(
    name="patchify",
    chapter=6,
    difficulty=2,
    trains="a reshape that keeps neighbours together",
    title="from an array to tokens",
    prompt=(
        "Cut arrays `x`, shape (B, C, H, W), into squares of `patch_size` and return "
        "one token for each: (B, N, C · patch_size²), the patches row by row, and in "
        "a token first all values of the first channel, row by row."
    ),
    reference=patchify,
    source=(dit.patchify,),
    lines="1-3 lines",
    cases=(
        Case(
            lambda: (torch.arange(16.0).view(1, 1, 4, 4), 2),
            expected=torch.tensor(
                [[[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15.0]]]
            ),
            note="x = 0 ... 15 as (1, 1, 4, 4), patch_size = 2",
        ),
        Case(
            lambda: (randn(1, 2, 3, 4, 8), 2),
            note="x random (2, 3, 4, 8), patch_size = 2",
        ),
        Case(
            lambda: (randn(2, 1, 2, 6, 3), 3),
            note="x random (1, 2, 6, 3), patch_size = 3",
        ),
    ),
    hints=(
        "Reshape to (B, C, H/p, p, W/p, p): rows and columns, of patches and within.",
        "Which two of these six count the tokens, and which three lie within one? "
        "Permute them into that order, the channel first of the three.",
        ".permute moves dimensions and .reshape joins neighbours; .view would refuse "
        "here. (F.pixel_unshuffle cuts in one call.)",
    ),
    misconceptions={
        "reshaped": (
            lambda x, p: x.reshape(len(x), -1, x.shape[1] * p * p),
            "reshape alone keeps the order of the values: these are pieces of rows, "
            "not squares",
        ),
        "not transposed": (
            lambda x, p: F.pixel_unshuffle(x, p).flatten(2),
            "tokens and their values are exchanged: (B, N, D) is wanted",
        ),
        "column by column": (
            lambda x, p: cut(x, p).permute(0, 4, 2, 1, 3, 5).flatten(3).flatten(1, 2),
            "the patches come column by column",
        ),
        "channels last": (
            lambda x, p: cut(x, p).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2),
            "within a token the channels come last; they should come first",
        ),
        "patches on their side": (
            lambda x, p: cut(x, p).permute(0, 2, 4, 1, 5, 3).flatten(3).flatten(1, 2),
            "rows and columns are exchanged within each patch",
        ),
        "always 2": (
            lambda x, p: patchify(x, 2),
            "the patches are 2×2 whatever patch_size says",
        ),
        "halves exchanged": (
            lambda x, p: interleaved(x, p),
            "the sides were split as (p, H/p): that takes pixels from all over the "
            "image; (H/p, p) keeps neighbours together",
        ),
        "halves exchanged, and not put in order": (
            lambda x, p: (
                x.reshape(*x.shape[:2], p, x.shape[2] // p, p, x.shape[3] // p)
                .permute(0, 2, 4, 1, 3, 5)
                .reshape(len(x), -1, x.shape[1] * p * p)
            ),
            "the sides were split as (p, H/p): that takes pixels from all over the "
            "image; (H/p, p) keeps neighbours together",
        ),
        "overlapping": (
            lambda x, p: F.unfold(x, p).mT,
            "the patches overlap: move on by patch_size, stride=patch_size",
        ),
        "averaged": (
            lambda x, p: F.avg_pool2d(x, p).flatten(2).mT,
            "each patch was averaged; all of its values belong in the token",
        ),
        "batch lost": (
            lambda x, p: patchify(x, p).flatten(0, 1),
            "the images of the batch run together: the first dimension is B",
        ),
        "not joined": (
            lambda x, p: cut(x, p).permute(0, 2, 4, 1, 3, 5),
            "the six dimensions were put in order and not joined: N is two of them, "
            "and a token three",
        ),
    },
)


def modulated_norm(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    h = F.layer_norm(h, h.shape[-1:], eps=1e-6)
    return dit.modulate(h, shift[:, None], scale[:, None])


def square_tokens() -> tuple[Tensor, Tensor, Tensor]:
    return 3 * randn(1, 4, 4, 4) + 1, randn(2, 4, 4), randn(3, 4, 4)


def norm(h: Tensor) -> Tensor:
    return F.layer_norm(h, h.shape[-1:], eps=1e-6)


def by_hand(h: Tensor, below: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    h = (h - h.mean(-1, keepdim=True)) / (below + 1e-6)
    return h * (1 + scale[:, None]) + shift[:, None]


MODULATION = Exercise(
    name="modulation",
    chapter=6,
    difficulty=1,
    trains="a norm that a condition steers",
    title="adaptive layer norm",
    prompt=(
        "Normalise each token of `h`, shape (B, N, D), to mean 0 and variance 1 over "
        "its D numbers (`F.layer_norm(h, h.shape[-1:])`), then let the condition "
        "steer it: `scale` says by how much each number grows, so that 0 leaves it "
        "alone and 1 doubles it, and `shift` is added at the end. Both have shape "
        "(B, D), a vector for each image, the same for all its tokens."
    ),
    reference=modulated_norm,
    source=(modulated_norm, dit.modulate),
    lines="2 lines",
    cases=(
        Case(
            lambda: (
                torch.tensor([[[-1.0, 1.0], [4.0, 2.0]]]),
                torch.tensor([[10.0, 20.0]]),
                torch.tensor([[0.0, 1.0]]),
            ),
            expected=torch.tensor([[[9.0, 22.0], [11.0, 18.0]]]),
            note="h = [[[-1, 1], [4, 2]]], shift = [[10, 20]], scale = [[0, 1]]",
        ),
        Case(square_tokens, note="h (4, 4, 4), shift and scale (4, 4), random"),
        Case(
            lambda: (5 * randn(4, 2, 7, 6), randn(5, 2, 6), randn(6, 2, 6)),
            note="h (2, 7, 6), shift and scale (2, 6), random",
        ),
    ),
    hints=(
        "shift[:, None] has shape (B, 1, D): one vector for all tokens of an image.",
        "scale = 0 must leave the normalised tokens alone, and scale = -1 wipe them "
        "out. By which number are they multiplied?",
        "First the norm, then the product, then the sum: the shift is not scaled.",
    ),
    misconceptions={
        "one missing": (
            lambda h, a, b: norm(h) * b[:, None] + a[:, None],
            "the 1 is missing: a scale of zero, where training starts, would erase the "
            "tokens",
        ),
        "exchanged": (
            lambda h, a, b: norm(h) * (1 + a[:, None]) + b[:, None],
            "shift and scale are exchanged",
        ),
        "not normalised": (
            lambda h, a, b: h * (1 + b[:, None]) + a[:, None],
            "the tokens are not normalised",
        ),
        "shifted first": (
            lambda h, a, b: (norm(h) + a[:, None]) * (1 + b[:, None]),
            "the shift is scaled as well: scale first, then shift",
        ),
        "tokens and images": (
            lambda h, a, b: norm(h) * (1 + b) + a,
            "each vector met the token of its number in every image: (B, D) lines up "
            "with (N, D), and [:, None] makes it (B, 1, D)",
        ),
        "normalised over all": (
            lambda h, a, b: (
                F.layer_norm(h, h.shape[1:], eps=1e-6) * (1 + b[:, None]) + a[:, None]
            ),
            "the mean was taken over all tokens; each is normalised by itself",
        ),
        "brackets missing": (
            lambda h, a, b: 1 + b[:, None] * norm(h) + a[:, None],
            "brackets are missing: the 1 belongs to the scale, (1 + scale) times the "
            "norm",
        ),
        "centred alone": (
            lambda h, a, b: (
                (h - h.mean(-1, keepdim=True)) * (1 + b[:, None]) + a[:, None]
            ),
            "only the mean was taken out; divide by the standard deviation, too",
        ),
        "unbiased": (
            lambda h, a, b: by_hand(h, h.std(-1, keepdim=True), a, b),
            "the standard deviation was divided by D - 1, as .std() does; a norm "
            "divides by D (unbiased=False)",
        ),
        "variance": (
            lambda h, a, b: by_hand(h, h.var(-1, keepdim=True, unbiased=False), a, b),
            "the tokens were divided by their variance; divide by its root",
        ),
        "over the tokens": (
            lambda h, a, b: norm(h.mT).mT * (1 + b[:, None]) + a[:, None],
            "the mean was taken over the tokens, dimension 1; it is over the D "
            "numbers of each",
        ),
        "norm last": (
            lambda h, a, b: norm(h * (1 + b[:, None]) + a[:, None]),
            "the norm came last and undid what the condition did: normalise first",
        ),
        "exponential": (
            lambda h, a, b: norm(h) * b[:, None].exp() + a[:, None],
            "the scale was exponentiated; 1 + scale is asked for, which doubles at 1",
        ),
        "divided": (
            lambda h, a, b: norm(h) / (1 + b[:, None]) + a[:, None],
            "divided by 1 + scale; multiply",
        ),
        "residual": (
            lambda h, a, b: h + norm(h) * (1 + b[:, None]) + a[:, None],
            "h itself was added again; that is the block's business, not the norm's",
        ),
        "root mean square": (
            lambda h, a, b: (
                h / (h.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 + b[:, None])
                + a[:, None]
            ),
            "the mean was not taken out: this is an RMS norm",
        ),
    },
)
