"""Exercises on the way back without fresh noise: the DDIM step, a sampler."""

import torch
from torch import Tensor

from ldm_tutorial import diffusion, samplers
from ldm_tutorial.schedule import NoiseSchedule
from ldm_tutorial.teach.task import Case, Exercise
from ldm_tutorial.teach.tasks.inputs import (
    a_step,
    batch,
    column,
    first,
    mean_and_std,
    randn,
)


def ddim_step(
    z_t: Tensor, eps: Tensor, alpha_bar_t: Tensor, alpha_bar_s: Tensor
) -> Tensor:
    x0 = diffusion.split_prediction(eps, z_t, alpha_bar_t, "eps")[0]
    return samplers.ddim_step(x0, eps, alpha_bar_t, alpha_bar_s)


def clean(z: Tensor, eps: Tensor, a: Tensor) -> Tensor:
    return (z - (1 - a).sqrt() * eps) / a.sqrt()


DDIM_STEP = Exercise(
    name="ddim_step",
    chapter=3,
    difficulty=2,
    trains="a step that keeps the marginals and adds no noise",
    title="the DDIM step",
    prompt=(
        "Step from $t$ to $s < t$ without fresh noise: estimate $\\hat z_0$ from "
        "`z_t` and the guessed noise `eps`, then put the two guesses into the "
        "forward equation once more, at the earlier time. `alpha_bar_t` and "
        "`alpha_bar_s` have shape (B, 1, 1, 1), or (1, 1, 1, 1) for all images "
        "together."
    ),
    reference=ddim_step,
    lines="2 lines",
    cases=(
        Case(
            lambda: (first(2.0), first(2.0), column(0.64), column(1.0)),
            expected=first(1.0),
        ),
        Case(
            lambda: (first(1.0), first(0.0), column(0.16), column(0.64)),
            expected=first(2.0),
        ),
        Case(
            lambda: (*batch(7)[:2], column(0.3), column(0.8)),
            note="three random arrays, alpha_bar 0.3 and 0.8 of shape (1, 1, 1, 1)",
        ),
        Case(a_step, note="random arrays, from alpha_bar 0.6 to 0.9 and others"),
    ),
    properties=(
        (
            "A step that goes nowhere (alpha_bar_s = alpha_bar_t) should change "
            "nothing.",
            lambda f: torch.allclose(
                f(*batch(1)[:2], column(*[0.3] * 3), column(*[0.3] * 3)),
                batch(1)[0],
                atol=1e-4,
            ),
        ),
    ),
    hints=(
        "Your x0_from_eps(z_t, eps, alpha_bar_t) is the first line.",
        "The second is the forward equation at s, with the two guesses in place of the "
        "truth.",
        "Both factors belong to the time s now: that of the estimate and that of "
        "the noise.",
    ),
    misconceptions={
        "x0 alone": (
            lambda z, eps, a_t, a_s: clean(z, eps, a_t),
            "this is the estimate of z_0; it has to be mixed with noise again",
        ),
        "noise forgotten": (
            lambda z, eps, a_t, a_s: a_s.sqrt() * clean(z, eps, a_t),
            "the noise's share at s is missing",
        ),
        "fresh noise": (
            lambda z, eps, a_t, a_s: (
                a_s.sqrt() * clean(z, eps, a_t) + (1 - a_s).sqrt() * torch.randn_like(z)
            ),
            "fresh noise was drawn; DDIM keeps the noise that was guessed",
        ),
        "z_t for x0": (
            lambda z, eps, a_t, a_s: a_s.sqrt() * z + (1 - a_s).sqrt() * eps,
            "z_t was mixed with noise; estimate the clean array first",
        ),
        "roots missing": (
            lambda z, eps, a_t, a_s: a_s * clean(z, eps, a_t) + (1 - a_s) * eps,
            "the square roots are missing in the mixture",
        ),
        "times exchanged": (
            lambda z, eps, a_t, a_s: (
                a_t.sqrt() * clean(z, eps, a_s) + (1 - a_t).sqrt() * eps
            ),
            "alpha_bar_t and alpha_bar_s are exchanged: z_t is at t, the result at s",
        ),
        "nowhere": (
            lambda z, eps, a_t, a_s: z.clone(),
            "this is z_t again: it was taken apart and mixed at one and the same time. "
            "z_t is at ᾱ_t, and the step goes to ᾱ_s",
        ),
        "root of the noise missing": (
            lambda z, eps, a_t, a_s: a_s.sqrt() * clean(z, eps, a_t) + (1 - a_s) * eps,
            "the noise's share at s is the root of 1 - ᾱ_s; the root is missing",
        ),
        "root of the signal missing": (
            lambda z, eps, a_t, a_s: a_s * clean(z, eps, a_t) + (1 - a_s).sqrt() * eps,
            "the estimate's share at s is the root of ᾱ_s; the root is missing",
        ),
        "one minus a root": (
            lambda z, eps, a_t, a_s: (
                a_s.sqrt() * clean(z, eps, a_t) + (1 - a_s.sqrt()) * eps
            ),
            "the noise's share at s is the root of 1 - ᾱ_s, not 1 minus the root of "
            "ᾱ_s",
        ),
        "one step undone": (
            lambda z, eps, a_t, a_s: clean(z, eps, a_t / a_s),
            "the forward step from s to t was undone with eps as its noise; but eps is "
            "all the noise in z_t, so go by way of the clean array",
        ),
        "ratio of the two": (
            lambda z, eps, a_t, a_s: (
                (a_t / a_s).sqrt() * clean(z, eps, a_t) + (1 - a_t / a_s).sqrt() * eps
            ),
            "ᾱ_t / ᾱ_s stands where ᾱ_s belongs: the mixture starts from the clean "
            "array",
        ),
        "noise of t": (
            lambda z, eps, a_t, a_s: (
                a_s.sqrt() * clean(z, eps, a_t) + (1 - a_t).sqrt() * eps
            ),
            "the noise's share was left as it is at t; at s it is smaller",
        ),
        "factors exchanged": (
            lambda z, eps, a_t, a_s: (
                (1 - a_s).sqrt() * clean(z, eps, a_t) + a_s.sqrt() * eps
            ),
            "the two factors of the mixture are exchanged",
        ),
        "clamped": (
            lambda z, eps, a_t, a_s: (
                a_s.sqrt() * clean(z, eps, a_t).clamp(-1, 1) + (1 - a_s).sqrt() * eps
            ),
            "the estimate was cut off at -1 and 1; latents know no such bounds",
        ),
        "noise subtracted": (
            lambda z, eps, a_t, a_s: (
                a_s.sqrt() * clean(z, eps, a_t) - (1 - a_s).sqrt() * eps
            ),
            "the noise was subtracted; the forward equation adds it",
        ),
        "signal not scaled": (
            lambda z, eps, a_t, a_s: clean(z, eps, a_t) + (1 - a_s).sqrt() * eps,
            "the estimate was not scaled by the root of ᾱ_s",
        ),
    },
    source=(samplers.ddim_step, diffusion.split_prediction),
)


def sample_ddim(denoiser, schedule: NoiseSchedule, z_T: Tensor, steps: int) -> Tensor:
    return samplers.last(samplers.ddim(denoiser, schedule, z_T, steps=steps))


MEAN, SPREAD = 2.0, 0.5


def exact(schedule: NoiseSchedule, mean: float = MEAN, spread: float = SPREAD):
    """The best guess of the noise there is, for data from N(mean, spread²)."""

    def denoiser(z_t: Tensor, t: Tensor) -> Tensor:
        if not isinstance(t, Tensor):
            raise ValueError(
                f"the denoiser was given t = {t}, a plain {type(t).__name__}; it wants "
                f"a tensor, int64 of shape ({len(z_t)},): that time for each image, "
                "torch.full((len(z),), t)"
            )
        if t.shape != (len(z_t),) or t.dtype != torch.int64:
            raise ValueError(
                f"the denoiser was given t of shape {tuple(t.shape)} and dtype "
                f"{t.dtype}; it wants int64 of shape ({len(z_t)},), a time an image"
            )
        a = schedule.at(t, like=z_t)
        total = a * spread**2 + 1 - a
        return (1 - a).sqrt() * (z_t - a.sqrt() * mean) / total

    return denoiser


def sampling(steps: int, T: int = 1000, seed: int = 1):
    def make():
        schedule = NoiseSchedule.linear(T)
        return exact(schedule), schedule, randn(seed, 64, 2, 4, 4), steps

    return make


def calls(f) -> bool | str:
    """Whether the denoiser is asked once at each of the times, from the noisiest."""
    denoiser, schedule, z_T, steps = sampling(5)()
    seen: list[int] = []

    def watched(z_t: Tensor, t: Tensor) -> Tensor:
        seen.append(int(t[0]))
        return denoiser(z_t, t)

    f(watched, schedule, z_T, steps)
    times = schedule.timesteps(steps)
    if seen == times:
        return True
    if sorted(seen) == list(range(steps)):
        return "the denoiser was given places in the list of times, not the times"
    if seen == times[1:] or seen[: steps - 1] == times[1:]:
        return "the denoiser was asked at the end of each step; z is at its beginning"
    if seen == list(range(len(schedule)))[::-1]:
        return "it went through every time of the schedule, not only timesteps(steps)"
    if len(seen) > steps and list(dict.fromkeys(seen)) == times:
        return f"the denoiser was called {len(seen)} times in {steps} steps"
    if len(seen) == steps:
        return f"the denoiser was asked at {seen}, where the schedule says {times}"
    return False


def ddim_slip(kind: str):
    """A sampler with a slip in its loop."""

    def f(denoiser, schedule, z_T, steps):
        z, times = z_T, schedule.timesteps(steps)
        ends = [*times[1:], None]
        if kind == "forwards":
            times = times[::-1]
            ends = [*times[1:], None]
        for t, s in zip(times, ends, strict=True):
            if kind == "wraps around":
                s = times[times.index(t) - 1]
            if kind == "one less":
                s = t - 1 if t > 0 else None
            if kind == "last step left out" and s is None:
                break
            a_t = schedule.alpha_bar[t]
            a_s = torch.tensor(1.0) if s is None else schedule.alpha_bar[s]
            seen = z_T if kind == "always z_T" else z
            eps = denoiser(seen, torch.full((len(z),), t))
            x0 = clean(z, eps, a_t)
            if kind == "fresh noise":
                eps = torch.randn_like(z)
            if kind == "noise at the end" and s is None:
                a_s = schedule.alpha_bar[0]
            if kind == "ends in noise" and s is None:
                a_s = torch.tensor(0.0)
            z = a_s.sqrt() * x0 + (1 - a_s).sqrt() * eps
            z = x0 if kind == "guess alone" else z
            if kind == "one jump":
                return z
        return z

    return f


SAMPLER = Exercise(
    name="sampler",
    chapter=3,
    difficulty=3,
    trains="a whole sampler: pairs of times, and how it ends",
    title="a whole sampler",
    prompt=(
        "Write the loop of a DDIM sampler. `schedule.timesteps(steps)` is a falling "
        "list of times; step from each to the next one, and from the last to the "
        "clean array, where $\\bar\\alpha_s = 1$. `denoiser(z, t)` guesses the noise; "
        "its `t` is int64 of shape (B,), one time for each image. Start at `z_T` and "
        "return the last array. The checker gives you a denoiser that is exact for "
        "Gaussian data: a right sampler then draws just those data."
    ),
    reference=sample_ddim,
    lines="8-12 lines",
    cases=(
        Case(sampling(1), note="an exact denoiser and 1 step"),
        Case(sampling(4), note="an exact denoiser and 4 steps", rtol=1e-3, atol=1e-3),
        Case(sampling(50), note="an exact denoiser and 50 steps", rtol=1e-3, atol=1e-3),
        Case(
            sampling(5, 200, seed=2),
            note="an exact denoiser, a schedule of 200 times and 5 steps",
            rtol=1e-3,
            atol=1e-3,
        ),
    ),
    properties=(
        (
            "The denoiser should be called once for each of the times, in their order.",
            calls,
        ),
        (
            f"With 250 steps the samples should have mean {MEAN:g} and standard "
            f"deviation {SPREAD:g}, as the data do.",
            lambda f: torch.allclose(
                mean_and_std(f(*sampling(250)())),
                torch.tensor([MEAN, SPREAD]),
                atol=0.05,
            ),
        ),
    ),
    hints=(
        "Pair each time with the next: times = schedule.timesteps(steps), and "
        "zip(times, [*times[1:], None]). None stands for the clean end.",
        "In the loop: t_batch = torch.full((len(z),), t, device=z.device), eps = "
        "denoiser(z, t_batch), and alpha_bar at both ends, 1 at the clean one "
        "(torch.tensor(1.0)).",
        "One line is left in the loop: your step, from one alpha_bar to the other, "
        "whose result is the next z.",
    ),
    misconceptions={
        "last step left out": (
            ddim_slip("last step left out"),
            "the last step, to the clean array, is left out",
        ),
        "noise at the end": (
            ddim_slip("noise at the end"),
            "the last step ends at ᾱ of time 0, where some noise is left; it should "
            "end at 1",
        ),
        "forwards": (
            ddim_slip("forwards"),
            "the times rise; sampling starts at the noisiest and falls",
        ),
        "fresh noise": (
            ddim_slip("fresh noise"),
            "fresh noise was mixed in; DDIM keeps the noise that was guessed",
        ),
        "always z_T": (
            ddim_slip("always z_T"),
            "the denoiser was shown z_T in every step; show it the array as it is now",
        ),
        "guess alone": (
            ddim_slip("guess alone"),
            "each step goes all the way to the guess; it has to be mixed with the "
            "noise again",
        ),
        "ends in noise": (
            ddim_slip("ends in noise"),
            "ᾱ is 0 at the end of the last step; at the clean array it is 1",
        ),
        "wraps around": (
            ddim_slip("wraps around"),
            "each step goes to times[i - 1], the time before it in the list, and the "
            "first to the last one",
        ),
        "one jump": (
            ddim_slip("one jump"),
            "it returns after its first step",
        ),
        "one less": (
            ddim_slip("one less"),
            "each step goes from t to t - 1; it should go to the next time of the "
            "list, which is many lower",
        ),
    },
    source=(samplers.ddim, samplers.intervals, samplers.ddim_step),
)
