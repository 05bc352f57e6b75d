"""Exercises on flow matching: the path, a step along it, and its times."""

import math

import torch
from torch import Tensor

from ldm_tutorial import flow
from ldm_tutorial.teach.task import Case, Exercise
from ldm_tutorial.teach.tasks.inputs import first, randn


def flow_pair(z_0: Tensor, eps: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    t = t.view(-1, 1, 1, 1)
    return (1 - t) * z_0 + t * eps, eps - z_0


def some_times() -> tuple[Tensor, Tensor, Tensor]:
    """As many images as channels, rows and columns."""
    t = torch.tensor([0.05, 0.3, 0.6, 0.9])
    return randn(1, 4, 4, 4, 4), randn(2, 4, 4, 4, 4), t


def arc(z_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    angle = 0.5 * math.pi * wide(t)
    return angle.cos() * z_0 + angle.sin() * eps


def wide(t: Tensor) -> Tensor:
    return t.view(-1, 1, 1, 1)


FLOW_TARGET = Exercise(
    name="flow_target",
    chapter=6,
    difficulty=1,
    trains="a path and its derivative",
    title="the straight path and its velocity",
    prompt=(
        "Return a pair: the point $z_t$ that walks at constant speed along a "
        "straight line from $z_0$, where it is at $t = 0$, to the noise "
        "$\\varepsilon$, where it is at $t = 1$; and its velocity $u = \\mathrm dz_t "
        "/ \\mathrm dt$, which the network has to predict. `z_0` and `eps` have "
        "shape (B, C, h, w), and `t`, shape (B,), holds a time between 0 and 1 for "
        "each image."
    ),
    reference=flow_pair,
    lines="2 lines",
    cases=(
        Case(
            lambda: (first(1.0), first(3.0), torch.tensor([0.25])),
            expected=(first(1.5), first(2.0)),
            note="z_0 = 1, eps = 3, t = [0.25]",
        ),
        Case(
            some_times, note="z_0, eps random (4, 4, 4, 4), t = [0.05, 0.3, 0.6, 0.9]"
        ),
        Case(
            lambda: (
                randn(3, 3, 4, 2, 5),
                randn(4, 3, 4, 2, 5),
                torch.tensor([0.1, 0.5, 0.7]),
            ),
            note="z_0 and eps random (3, 4, 2, 5), t = [0.1, 0.5, 0.7]",
        ),
    ),
    hints=(
        "On the line each of the two arrays has a share, and the shares add up to "
        "one. Half-way they are equal.",
        "t has shape (B,): t.view(-1, 1, 1, 1) lets each time meet its own image.",
        "Differentiate z_t with respect to t: each of its two terms gives one, and "
        "no t is left in it.",
    ),
    misconceptions={
        "sign of the velocity": (
            lambda z, e, t: (flow_pair(z, e, t)[0], z - e),
            "the velocity points the other way: t grows towards the noise",
        ),
        "the noise as target": (
            lambda z, e, t: (flow_pair(z, e, t)[0], e),
            "this asks for the noise; the velocity is how z_t changes with t",
        ),
        "ends exchanged": (
            lambda z, e, t: (wide(t) * z + (1 - wide(t)) * e, e - z),
            "noise and data are exchanged: t = 0 is the data",
        ),
        "a circle": (
            lambda z, e, t: ((1 - wide(t)).sqrt() * z + wide(t).sqrt() * e, e - z),
            "these are the roots of a diffusion, which keep the variance; the straight "
            "path has none",
        ),
        "wrong axis": (
            lambda z, e, t: ((1 - t) * z + t * e, e - z),
            "each time met a column and not an image: (B,) lines up with the last "
            "dimension",
        ),
        "displacement": (
            lambda z, e, t: (flow_pair(z, e, t)[0], wide(t) * (e - z)),
            "this is how far z_t has come; the velocity is that by t",
        ),
        "from nowhere": (
            lambda z, e, t: (flow_pair(z, e, t)[0], flow_pair(z, e, t)[0] / wide(t)),
            "this is z_t by t, as if the path began at zero; it begins at z_0",
        ),
        "t on both": (
            lambda z, e, t: (wide(t) * (z + e), e - z),
            "both arrays have the share t; the shares have to add up to one",
        ),
        "data not scaled": (
            lambda z, e, t: (z + wide(t) * e, e - z),
            "z_0 keeps its full size on the way; its share has to shrink to nothing "
            "at t = 1",
        ),
        "what is left to go": (
            lambda z, e, t: (flow_pair(z, e, t)[0], e - flow_pair(z, e, t)[0]),
            "this is the way that is left from z_t to the noise; the velocity is the "
            "same at every t",
        ),
        "an arc": (
            lambda z, e, t: (arc(z, e, t), e - z),
            "this is an arc, with a cosine and a sine; the path is a straight line",
        ),
        "v": (
            lambda z, e, t: (
                flow_pair(z, e, t)[0],
                wide(t).sqrt() * e - (1 - wide(t)).sqrt() * z,
            ),
            "this is the target v of a diffusion; the velocity of a straight line has "
            "no roots and no t",
        ),
    },
)


def euler_step(z_t: Tensor, u: Tensor, t: float, s: float) -> Tensor:
    return z_t + (s - t) * u


EULER_STEP = Exercise(
    name="euler_step",
    chapter=6,
    difficulty=1,
    trains="one step along a velocity, and its sign",
    title="one step along the velocity",
    prompt=(
        "Walk from time `t` down to the earlier time `s` with the velocity `u` that "
        "the network sees at `t`: return $z_s$, as if the velocity stayed the same on "
        "the way. `t` and `s` are numbers, $0 \\le s < t \\le 1$."
    ),
    reference=euler_step,
    cases=(
        Case(
            lambda: (first(3.0), first(2.0), 1.0, 0.75),
            expected=first(2.5),
            note="z_t = 3, u = 2, t = 1, s = 0.75",
        ),
        Case(
            lambda: (randn(1, 2, 4, 3, 3), randn(2, 2, 4, 3, 3), 0.6, 0.5),
            note="z_t and u random (2, 4, 3, 3), t = 0.6, s = 0.5",
        ),
        Case(
            lambda: (randn(1, 2, 4, 3, 3), randn(2, 2, 4, 3, 3), 0.2, 0.0),
            note="z_t and u random (2, 4, 3, 3), t = 0.2, s = 0",
        ),
    ),
    hints=(
        "Velocity times time is a way; here time runs down.",
        "The time that passes is s - t, a negative number.",
        "Check: with s = t nothing moves. With s = 0, t = 1 and u = eps - z_0 you "
        "must arrive at z_0.",
    ),
    misconceptions={
        "uphill": (
            lambda z, u, t, s: z + (t - s) * u,
            "this walks towards the noise: from t to s the time falls",
        ),
        "to the end": (
            lambda z, u, t, s: z - t * u,
            "this goes all the way to t = 0, where one step should end at s",
        ),
        "whole velocity": (
            lambda z, u, t, s: z - u,
            "the velocity is not multiplied by the time that passes",
        ),
        "from zero": (
            lambda z, u, t, s: z + s * u,
            "the step is s - t, not s",
        ),
        "from zero, downhill": (
            lambda z, u, t, s: z - s * u,
            "the step is s - t, not -s",
        ),
        "mixed as on the path": (
            lambda z, u, t, s: (1 - s) * z + s * u,
            "z_t and u were mixed like data and noise; u is a velocity, and is added",
        ),
        "mixed": (
            lambda z, u, t, s: (s / t) * z + (1 - s / t) * u,
            "u is a velocity and not the clean array: it is not mixed in, but added",
        ),
        "time below": (
            lambda z, u, t, s: z + u / (s - t),
            "the velocity was divided by the time that passes; multiply",
        ),
        "without the start": (
            lambda z, u, t, s: (s - t) * u,
            "this is the way alone; it is added to where the step begins, z_t",
        ),
        "root of the time": (
            lambda z, u, t, s: z - (t - s) ** 0.5 * u,
            "a root was taken of the time; noise grows with the root of time, a way "
            "with the time itself",
        ),
        "a ratio of times": (
            lambda z, u, t, s: z + (s / t - 1) * u,
            "the difference of the times was divided by t; a way is velocity times "
            "time",
        ),
        "a sum of times": (
            lambda z, u, t, s: z - (t + s) * u,
            "the times were added; what passes is their difference",
        ),
        "array scaled as well": (
            lambda z, u, t, s: (1 + s - t) * z + (s - t) * u,
            "z_t was scaled as well; only u is multiplied by the time",
        ),
    },
)


def shift_times(t: Tensor, shift: float) -> Tensor:
    return flow.shift_times(t, shift)


TIME_SHIFT = Exercise(
    name="time_shift",
    chapter=6,
    difficulty=2,
    trains="solving for a time, ends included",
    title="times for more pixels",
    prompt=(
        "A picture that is `shift` times as wide and as high is seen better through "
        "the same noise: the mean of `shift`² neighbours has `shift` times less of it. "
        "So the ratio of noise to signal, $t / (1 - t)$ on the straight path, must be "
        "`shift` times as large. Return the time $t'$ at which it is, for times `t` of "
        "any shape, from 0 to 1, both included."
    ),
    reference=shift_times,
    source=(flow.shift_times,),
    cases=(
        Case(
            lambda: (torch.tensor([0.0, 0.5, 1.0]), 3.0),
            expected=torch.tensor([0.0, 0.75, 1.0]),
            note="t = [0, 0.5, 1], shift = 3",
        ),
        Case(
            lambda: (torch.linspace(0, 1, 11), 1.5),
            note="t = 0, 0.1 ... 1, shift = 1.5",
        ),
        Case(
            lambda: (torch.tensor([[0.2], [0.9]]), 0.5),
            note="t = [[0.2], [0.9]], shift = 0.5",
        ),
    ),
    hints=(
        "Call the right-hand side r, and solve t' / (1 - t') = r for t': it is r "
        "over something.",
        "Multiply numerator and denominator by 1 - t, so that t = 1 is no trouble.",
        "Check: shift = 1 changes nothing, t = 1 stays 1, and t = 1/2 goes to shift "
        "/ (1 + shift).",
    ),
    misconceptions={
        "scaled": (
            lambda t, s: (s * t).clamp(max=1),
            "this multiplies the time; the ratio t / (1 - t) is what grows by s",
        ),
        "the other way": (
            lambda t, s: t / (s + (1 - s) * t),
            "this moves the times towards the data: more pixels need more noise",
        ),
        "minus one missing": (
            lambda t, s: s * t / (1 + s * t),
            "at t = 1 the noise should stay alone: the denominator is 1 + (s - 1) t",
        ),
        "a power": (
            lambda t, s: t ** (1 / s),
            "a power is another curve through the same two ends",
        ),
        "squared": (
            lambda t, s: s**2 * t / (1 + (s**2 - 1) * t),
            "s² is the ratio of the numbers of pixels; the noise of their mean falls "
            "by s",
        ),
        "ratio": (
            lambda t, s: torch.where(t < 1, s * t / (1 - t).clamp(min=1e-9), s),
            "this is the ratio of noise to signal itself; the time with that ratio is "
            "asked for",
        ),
        "divided by zero": (
            lambda t, s: s * t / (1 - t) / (1 + s * t / (1 - t)),
            "1 - t is 0 at t = 1, and something is divided by it: multiply numerator "
            "and denominator by 1 - t",
        ),
        "ratio at the end": (
            lambda t, s: s * t / (1 - t),
            "this is the ratio of noise to signal itself, which has no end at t = 1; "
            "the time with that ratio is asked for",
        ),
        "plainly scaled": (
            lambda t, s: s * t,
            "this multiplies the time; the ratio t / (1 - t) is what grows by s",
        ),
        "plainly divided": (
            lambda t, s: t / s,
            "this divides the time; the ratio t / (1 - t) is what grows by s",
        ),
        "another power": (
            lambda t, s: t**s,
            "a power is another curve through the same two ends",
        ),
        "plus one": (
            lambda t, s: s * t / (1 + (s + 1) * t),
            "the denominator is 1 + (s - 1) t: at t = 1 the result has to be 1",
        ),
        "factor above missing": (
            lambda t, s: t / (1 + (s - 1) * t),
            "the factor above is missing: the numerator is s t",
        ),
        "minus below": (
            lambda t, s: s * t / (1 - (s - 1) * t),
            "the sign below is turned: the denominator is 1 + (s - 1) t",
        ),
    },
)
