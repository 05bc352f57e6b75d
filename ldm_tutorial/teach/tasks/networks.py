"""Exercises on what the denoiser is made of."""

import math

import torch
from torch import Tensor

from ldm_tutorial.layers import TimeEmbedding
from ldm_tutorial.teach.task import Case, Exercise


def time_embedding(t: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    """Cosines, then sines of ``t`` (B,) at dim/2 falling frequencies: (B, dim)."""
    frequency = torch.exp(-math.log(max_period) * torch.arange(dim // 2) / (dim // 2))
    angle = t[:, None] * frequency[None]
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def waves(angle: Tensor) -> Tensor:
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def angles(t: Tensor, dim: int, exponent: Tensor, max_period: float) -> Tensor:
    return t[:, None].float() * (max_period**exponent)[None]


def falling(dim: int) -> Tensor:
    return -torch.arange(dim // 2) / (dim // 2)


TIME_EMBEDDING = Exercise(
    name="time_embedding",
    chapter=3,
    difficulty=2,
    trains="a number as waves, with frequencies in geometric order",
    title="the time as waves",
    prompt=(
        "Turn times `t`, int64 (B,), into vectors (B, `dim`): first the cosines, "
        "then the sines of $t\\,\\omega_i$, for `dim` / 2 frequencies; `dim` is even. "
        "The frequencies fall from 1 on, each being the one before times the same "
        "factor. The factor is such that one more frequency, which is left out, would "
        "be 1 / `max_period`, where `max_period` is 10,000 unless another is given."
    ),
    reference=time_embedding,
    lines="3 lines",
    cases=(
        Case(
            lambda: (torch.tensor([0]), 4),
            expected=torch.tensor([[1.0, 1.0, 0.0, 0.0]]),
        ),
        Case(
            lambda: (torch.tensor([1]), 2),
            expected=torch.tensor([[math.cos(1.0), math.sin(1.0)]]),
        ),
        Case(
            lambda: (torch.tensor([2, 5]), 6, 100.0),
            rtol=1e-3,
            atol=1e-3,
            note="t = [2, 5], dim = 6, max_period = 100",
        ),
        Case(
            lambda: (torch.tensor([7]), 4, 1000.0),
            rtol=1e-3,
            atol=1e-3,
            note="t = [7], dim = 4, max_period = 1000",
        ),
        Case(
            lambda: (torch.tensor([0, 3, 500, 999]), 16),
            rtol=1e-3,
            atol=2e-3,
            note="t = [0, 3, 500, 999], dim = 16",
        ),
    ),
    hints=(
        "If each frequency is r times the one before, the i-th is r to the i, "
        "beginning with i = 0; and r to the d/2 is 1/P. Solve that for r.",
        "torch.arange(dim // 2) holds all i. Every time meets every frequency: t[:, "
        "None] * frequency has shape (B, dim / 2).",
        "Cosines and sines are two arrays of the same shape, (B, dim / 2): join them "
        "along the second dimension, cosines first.",
    ),
    misconceptions={
        "sines first": (
            lambda t, dim, P=10_000.0: torch.cat(
                [
                    angles(t, dim, falling(dim), P).sin(),
                    angles(t, dim, falling(dim), P).cos(),
                ],
                dim=1,
            ),
            "the sines come first; the cosines should (some code does it so, and "
            "weights do not fit between the two)",
        ),
        "interleaved": (
            lambda t, dim, P=10_000.0: torch.stack(
                [
                    angles(t, dim, falling(dim), P).cos(),
                    angles(t, dim, falling(dim), P).sin(),
                ],
                dim=2,
            ).flatten(1),
            "cosines and sines take turns; first come all cosines, then all sines",
        ),
        "rising frequencies": (
            lambda t, dim, P=10_000.0: waves(angles(t, dim, -falling(dim), P)),
            "the frequencies rise to P; the minus in the exponent is missing",
        ),
        "end included": (
            lambda t, dim, P=10_000.0: waves(
                angles(t, dim, -torch.arange(dim // 2) / (dim // 2 - 1), P)
            ),
            "the last frequency is exactly 1/P: divided by d/2 - 1 in place of d/2",
        ),
        "divided by dim": (
            lambda t, dim, P=10_000.0: waves(angles(t, dim, falling(dim) / 2, P)),
            "the exponent was divided by d; divide by d/2",
        ),
        "angles": (
            lambda t, dim, P=10_000.0: angles(t, dim, falling(dim), P).repeat(1, 2),
            "these are the angles, without cosine and sine",
        ),
        "with 2 pi": (
            lambda t, dim, P=10_000.0: waves(
                2 * math.pi * angles(t, dim, falling(dim), P)
            ),
            "the angles were multiplied by 2π",
        ),
        "from one": (
            lambda t, dim, P=10_000.0: waves(
                angles(t, dim, -torch.arange(1, dim // 2 + 1) / (dim // 2), P)
            ),
            "the frequencies begin one too late: the first is 1, at i = 0",
        ),
        "twos": (
            lambda t, dim, P=10_000.0: waves(angles(t, dim, 2 * falling(dim), P)),
            "the exponent runs twice as fast: with i counted in twos, divide by d, "
            "not by d/2",
        ),
        "minus sine": (
            lambda t, dim, P=10_000.0: waves(-angles(t, dim, falling(dim), P)),
            "the sines have the wrong sign",
        ),
        "sines alone": (
            lambda t, dim, P=10_000.0: (
                angles(t, dim, falling(dim), P).sin().repeat(1, 2)
            ),
            "the sines came twice; the first half are cosines",
        ),
        "equal steps": (
            lambda t, dim, P=10_000.0: waves(
                t[:, None] * torch.linspace(1, 1 / P, dim // 2)
            ),
            "the frequencies fall by equal steps; they fall by equal factors",
        ),
        "equal steps, end left out": (
            lambda t, dim, P=10_000.0: waves(
                t[:, None] * torch.linspace(1, 1 / P, dim // 2 + 1)[:-1]
            ),
            "the frequencies fall by equal steps, and should by equal factors",
        ),
        "harmonics": (
            lambda t, dim, P=10_000.0: waves(
                t[:, None] / torch.arange(1, dim // 2 + 1)
            ),
            "the frequencies are 1, 1/2, 1/3, ...; each is the one before times the "
            "same factor",
        ),
        "evenly spaced": (
            lambda t, dim, P=10_000.0: waves(t[:, None] / (1 - falling(dim) * (P - 1))),
            "the periods rise by equal steps; they rise by equal factors",
        ),
    },
    source=(time_embedding, TimeEmbedding),
)
