"""Exercises on the forward process and on what a network may predict."""

import torch
from torch import Tensor

from ldm_tutorial import diffusion
from ldm_tutorial.schedule import NoiseSchedule
from ldm_tutorial.teach.task import Case, Exercise
from ldm_tutorial.teach.tasks.inputs import batch, column, first, noised, randn


def add_noise(z_0: Tensor, eps: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    return diffusion.add_noise(z_0, eps, schedule.at(t, like=z_0))


def square_latents() -> tuple[Tensor, Tensor, Tensor, NoiseSchedule]:
    """As many images as channels, rows and columns: a wrong axis goes unnoticed."""
    t = torch.tensor([0, 100, 400, 999])
    return randn(1, 4, 4, 4, 4), randn(2, 4, 4, 4, 4), t, NoiseSchedule.linear()


def few_steps() -> NoiseSchedule:
    """Three steps that can be worked out by hand."""
    return NoiseSchedule(torch.tensor([0.64, 0.36, 0.09]))


BY_HAND = "alpha_bar = [0.64, 0.36, 0.09], z_0 = 1, eps = {}, t = [{}]"


def many_latents() -> tuple[Tensor, Tensor, Tensor, NoiseSchedule]:
    """Enough of them for a standard deviation, as square as those above."""
    t = torch.arange(20) * 50
    return randn(3, *[20] * 4), randn(4, *[20] * 4), t, NoiseSchedule.linear()


ADD_NOISE = Exercise(
    name="add_noise",
    chapter=3,
    difficulty=2,
    trains="variances add and amplitudes do not, and a time for each image",
    title="noise in one jump",
    prompt=(
        "Jump to time $t$ at once. Two small steps looked like one, above: the "
        "signal was multiplied by the root of a product, and the variance of all the "
        "noise together was one minus that product. `schedule.alpha_bar` holds the "
        "product up to each time, shape (T,); `z_0` and `eps` have shape (B, C, h, "
        "w), and `t` is int64 of shape (B,), a time for each image. Return $z_t$, "
        "made of `z_0` and `eps`: look the values up, and shape them so that each "
        "multiplies its own image."
    ),
    reference=add_noise,
    lines="2 lines",
    cases=(
        Case(
            lambda: (first(1.0), first(0.0), torch.tensor([1]), few_steps()),
            expected=first(0.6),
            note=BY_HAND.format(0, 1),
        ),
        Case(
            lambda: (first(1.0), first(2.0), torch.tensor([0]), few_steps()),
            expected=first(2.0),
            note=BY_HAND.format(2, 0),
        ),
        Case(
            square_latents,
            note="z_0 and eps random (4, 4, 4, 4), t = [0, 100, 400, 999], the linear "
            "schedule",
        ),
        Case(
            lambda: (
                *batch(5)[:2],
                torch.tensor([10, 300, 700]),
                NoiseSchedule.linear(),
            ),
            note="z_0 and eps random (3, 4, 2, 5), t = [10, 300, 700]",
        ),
    ),
    properties=(
        (
            "With z_0 and eps of unit variance, z_t should have unit variance too.",
            lambda f: abs(f(*many_latents()).std() - 1) < 0.02,
        ),
    ),
    hints=(
        "schedule.alpha_bar[t] picks a value for each image: shape (B,).",
        "Against (B, C, h, w) that would line up with the columns. .view(-1, 1, 1, 1) "
        "makes it (B, 1, 1, 1); schedule.at(t, like=z_0) does both.",
        "Each share of the variance is ᾱ or 1 - ᾱ. Which factor multiplies an array "
        "to give it that variance?",
    ),
    misconceptions={
        "roots missing": (
            lambda z, eps, t, s: s.at(t, z) * z + (1 - s.at(t, z)) * eps,
            "the square roots are missing: variances add up, and these are factors",
        ),
        "roles exchanged": (
            lambda z, eps, t, s: noised(1 - s.at(t, z), z, eps),
            "signal and noise are exchanged: at small t nearly everything should be "
            "signal",
        ),
        "alpha for alpha-bar": (
            lambda z, eps, t, s: noised(1 - s.beta[t].view(-1, 1, 1, 1), z, eps),
            "this is α, one step's factor, in place of ᾱ, the product of all up to t",
        ),
        "beta for alpha-bar": (
            lambda z, eps, t, s: noised(s.beta[t].view(-1, 1, 1, 1), z, eps),
            "this is β, the variance that one step adds, in place of ᾱ",
        ),
        "wrong axis": (
            lambda z, eps, t, s: noised(s.alpha_bar[t], z, eps),
            "each time met a column and not an image: (B,) lines up with the last "
            "dimension",
        ),
        "channels": (
            lambda z, eps, t, s: noised(s.alpha_bar[t].view(-1, 1, 1), z, eps),
            "each time met a channel and not an image: one dimension is missing",
        ),
        "one time for all": (
            lambda z, eps, t, s: noised(s.alpha_bar[t[0]], z, eps),
            "the first image's time was used for all images",
        ),
        "noise not scaled": (
            lambda z, eps, t, s: s.at(t, z).sqrt() * z + eps,
            "the noise is not scaled",
        ),
        "signal not scaled": (
            lambda z, eps, t, s: z + (1 - s.at(t, z)).sqrt() * eps,
            "the signal is not scaled: the variance would grow",
        ),
        "root of a root": (
            lambda z, eps, t, s: s.at(t, z).sqrt() * z + (1 - s.at(t, z).sqrt()) * eps,
            "the noise's factor is the root of 1 - ᾱ, not 1 minus the root of ᾱ",
        ),
        "root of the signal missing": (
            lambda z, eps, t, s: s.at(t, z) * z + (1 - s.at(t, z)).sqrt() * eps,
            "the signal's factor lacks its square root",
        ),
        "root of the noise missing": (
            lambda z, eps, t, s: s.at(t, z).sqrt() * z + (1 - s.at(t, z)) * eps,
            "the noise's factor lacks its square root",
        ),
        "minus": (
            lambda z, eps, t, s: noised(s.at(t, z), z, -eps),
            "the noise was subtracted; the forward equation adds it",
        ),
        "one step too far": (
            lambda z, eps, t, s: noised(s.at((t + 1).clamp(max=len(s) - 1), z), z, eps),
            "the times are off by one",
        ),
    },
    source=(diffusion.add_noise, NoiseSchedule.at),
)


def v_target(z_0: Tensor, eps: Tensor, alpha_bar_t: Tensor) -> Tensor:
    return diffusion.prediction_target(z_0, eps, alpha_bar_t, "v")


def cos_sin(a: Tensor) -> tuple[Tensor, Tensor]:
    return a.sqrt(), (1 - a).sqrt()


V_TARGET = Exercise(
    name="v_target",
    chapter=4,
    difficulty=2,
    trains="a derivative on a circle",
    title="the velocity",
    prompt=(
        "With an angle $\\varphi$ such that $\\cos\\varphi = \\sqrt{\\bar\\alpha_t}$ "
        "and $\\sin\\varphi = \\sqrt{1 - \\bar\\alpha_t}$, the forward equation is a "
        "walk around a circle, $z_t = \\cos\\varphi\\; z_0 + "
        "\\sin\\varphi\\;\\varepsilon$. Return the velocity of that walk, $v = "
        "\\mathrm dz_t / \\mathrm d\\varphi$. `alpha_bar_t` has shape (B, 1, 1, 1) "
        "and broadcasts by itself. It may be 0, where no signal is left."
    ),
    reference=v_target,
    cases=(
        Case(lambda: (first(1.0), first(2.0), column(0.64)), expected=first(1.0)),
        Case(lambda: (first(2.0), first(1.0), column(0.64)), expected=first(-0.4)),
        Case(lambda: batch(1)),
    ),
    properties=(
        (
            "Where no signal is left (alpha_bar_t = 0), v should be -z_0.",
            lambda f: torch.allclose(
                f(randn(1, 1, 2, 2, 2), randn(2, 1, 2, 2, 2), column(0.0)),
                -randn(1, 1, 2, 2, 2),
            ),
        ),
    ),
    hints=(
        "Differentiate both terms with respect to the angle. What does a cosine "
        "become, and what a sine?",
        "So the two factors change places, and one sign turns.",
        "Check the ends: ᾱ = 1 must give eps, and ᾱ = 0 must give -z_0. Which root "
        "is 1 at which end?",
    ),
    misconceptions={
        "sign": (
            lambda z, eps, a: cos_sin(a)[1] * z - cos_sin(a)[0] * eps,
            "the sign is turned: v is noise minus signal",
        ),
        "plus": (
            lambda z, eps, a: cos_sin(a)[0] * eps + cos_sin(a)[1] * z,
            "the two are subtracted, not added",
        ),
        "factors exchanged": (
            lambda z, eps, a: cos_sin(a)[1] * eps - cos_sin(a)[0] * z,
            "the factors are exchanged: the noise takes the root of ᾱ",
        ),
        "z_t": (
            lambda z, eps, a: noised(a, z, eps),
            "this is z_t itself, not the target",
        ),
        "roots missing": (
            lambda z, eps, a: a * eps - (1 - a) * z,
            "the square roots are missing",
        ),
        "flow": (
            lambda z, eps, a: eps - z,
            "eps - z_0 is the velocity of a straight path (flow matching); here the "
            "path is an arc, and both terms have factors",
        ),
        "root of the noise missing": (
            lambda z, eps, a: a * eps - (1 - a).sqrt() * z,
            "the factor of the noise lacks its square root",
        ),
        "root of the signal missing": (
            lambda z, eps, a: a.sqrt() * eps - (1 - a) * z,
            "the factor of z_0 lacks its square root",
        ),
        "noise alone": (
            lambda z, eps, a: eps.clone(),
            "this is the noise, the target eps",
        ),
    },
    source=(diffusion.prediction_target,),
)


def x0_from_eps(z_t: Tensor, eps: Tensor, alpha_bar_t: Tensor) -> Tensor:
    return diffusion.split_prediction(eps, z_t, alpha_bar_t, "eps")[0]


X0 = Exercise(
    name="x0_from_eps",
    chapter=3,
    difficulty=1,
    trains="solving the forward equation",
    title="from the noise to the clean array",
    prompt=(
        "The network has guessed the noise `eps` in `z_t`. Solve the forward equation "
        "for $z_0$ and return the estimate of the clean array that this guess implies. "
        "`alpha_bar_t` has shape (B, 1, 1, 1)."
    ),
    reference=x0_from_eps,
    cases=(
        Case(lambda: (first(2.0), first(2.0), column(0.64)), expected=first(1.0)),
        Case(lambda: (first(1.0), first(0.0), column(0.25)), expected=first(2.0)),
        Case(lambda: (first(1.0), first(0.0), column(1e-4)), expected=first(100.0)),
        Case(lambda: batch(3)),
    ),
    hints=(
        "Forward: z_t = sqrt(alpha_bar_t) z_0 + sqrt(1 - alpha_bar_t) eps. Only z_0 is "
        "unknown.",
        "Subtract the noise's share first, then divide by what multiplies z_0.",
        "The division is by a factor of z_0, and so by a root; it applies to all "
        "that is left after the subtraction.",
    ),
    misconceptions={
        "not divided": (
            lambda z, eps, a: z - (1 - a).sqrt() * eps,
            "the division by the root of ᾱ is missing: this is the signal, still "
            "shrunk",
        ),
        "noise not scaled": (
            lambda z, eps, a: (z - eps) / a.sqrt(),
            "the noise was subtracted whole; its share in z_t is the root of 1 - ᾱ",
        ),
        "plus": (
            lambda z, eps, a: (z + (1 - a).sqrt() * eps) / a.sqrt(),
            "the noise was added, not subtracted",
        ),
        "roots missing": (
            lambda z, eps, a: (z - (1 - a) * eps) / a,
            "the square roots are missing",
        ),
        "root missing below": (
            lambda z, eps, a: (z - (1 - a).sqrt() * eps) / a,
            "the division is by the root of ᾱ, not by ᾱ",
        ),
        "root of the noise missing": (
            lambda z, eps, a: (z - (1 - a) * eps) / a.sqrt(),
            "the noise's share is the root of 1 - ᾱ; the root is missing",
        ),
        "one minus a root": (
            lambda z, eps, a: (z - (1 - a.sqrt()) * eps) / a.sqrt(),
            "the noise's share is the root of 1 - ᾱ, not 1 minus the root of ᾱ",
        ),
        "root of the noise missing after division": (
            lambda z, eps, a: z / a.sqrt() - (1 - a) / a * eps,
            "the noise's share, divided, is the root of (1 - ᾱ) / ᾱ; the root is "
            "missing",
        ),
        "multiplied": (
            lambda z, eps, a: (z - (1 - a).sqrt() * eps) * a.sqrt(),
            "multiplied by the root of ᾱ; divide",
        ),
        "factors exchanged": (
            lambda z, eps, a: (z - a.sqrt() * eps) / (1 - a).sqrt(),
            "the two factors are exchanged",
        ),
        "as if v": (
            lambda z, eps, a: a.sqrt() * z - (1 - a).sqrt() * eps,
            "this is the formula for a network that predicts v",
        ),
        "divided too early": (
            lambda z, eps, a: z / a.sqrt() - (1 - a).sqrt() * eps,
            "only z_t was divided; the noise's share has to be divided as well",
        ),
        "clamped": (
            lambda z, eps, a: x0_from_eps(z, eps, a).clamp(-1, 1),
            "the estimate was cut off at -1 and 1; latents know no such bounds",
        ),
    },
    source=(diffusion.split_prediction,),
)
