"""The exercise on a sampler of second order, judged by how fast its error falls."""

import torch
from torch import Tensor

from ldm_tutorial import samplers
from ldm_tutorial.schedule import NoiseSchedule
from ldm_tutorial.teach.task import Case, Exercise
from ldm_tutorial.teach.tasks.deterministic import MEAN, SPREAD, calls, exact, sampling
from ldm_tutorial.teach.tasks.inputs import randn


def sample_2m(denoiser, schedule: NoiseSchedule, z_T: Tensor, steps: int) -> Tensor:
    return samplers.last(samplers.dpm_solver_pp(denoiser, schedule, z_T, steps=steps))


def destination(schedule: NoiseSchedule, z_T: Tensor) -> Tensor:
    """Where the exact path from ``z_T`` ends, for data from N(mean, spread²): it keeps
    how many standard deviations an array is from the mean."""
    a = schedule.alpha_bar[-1]
    total = (a * SPREAD**2 + 1 - a).sqrt()
    return MEAN + SPREAD * (z_T - a.sqrt() * MEAN) / total


def error(f, steps: int) -> float:
    schedule = NoiseSchedule(NoiseSchedule.cosine(1000).alpha_bar.double())
    z_T = randn(5, 16, 1, 4, 4).double()
    found = f(exact(schedule), schedule, z_T, steps)
    return float((found - destination(schedule, z_T)).abs().mean())


def second_order(f) -> bool:
    """16 times the steps divide the error by about 16², and not by 16. (Between two
    near numbers of steps the ratio wanders, as times are whole numbers.)"""
    return error(f, 10) / error(f, 160) > 100


def half_log_snr(a: Tensor) -> Tensor:
    return 0.5 * (a / (1 - a)).log()


def solver_slip(kind: str):
    def f(denoiser, schedule, z_T, steps):
        z, times, before = z_T, schedule.timesteps(steps), None
        for t, s in zip(times, [*times[1:], None], strict=True):
            a_t = schedule.alpha_bar[t].to(z)
            a_s = torch.ones_like(a_t) if s is None else schedule.alpha_bar[s].to(z)
            eps = denoiser(z, torch.full((len(z),), t))
            x0 = (z - (1 - a_t).sqrt() * eps) / a_t.sqrt()
            h = half_log_snr(a_s) - half_log_snr(a_t)
            h = a_s - a_t if kind == "in alpha-bar" else h
            if kind == "in t":
                h = torch.tensor(float(t - (s or 0)))
            ahead = x0
            there = s is not None or kind == "last step too"
            if before is not None and there and kind != "first order":
                x0_before, h_before = before
                ratio = h / (2 * h_before)
                ratio = h_before / (2 * h) if kind == "ratio turned" else ratio
                ratio = h / h_before if kind == "half missing" else ratio
                ratio = -ratio if kind == "backwards" else ratio
                ratio = torch.full_like(ratio, 0.5) if kind == "even steps" else ratio
                ahead = x0 + ratio * (x0 - x0_before)
                if kind == "from the old one":
                    ahead = x0_before + ratio * (x0 - x0_before)
            first_x0, first_h = before or (x0, h)
            before = x0, h
            if kind in ("first one kept", "first estimate kept"):
                before = first_x0, h if kind == "first estimate kept" else first_h
            if kind == "first length kept":
                before = x0, first_h
            if kind == "keeps the line":
                before = ahead, h
            shrink = ((1 - a_s) / (1 - a_t)).sqrt()
            shrink = shrink**2 if kind == "variances" else shrink
            z = shrink * z + (a_s.sqrt() - shrink * a_t.sqrt()) * ahead
        return z

    return f


def case(steps: int, T: int, seed: int) -> Case:
    return Case(
        sampling(steps, T, seed),
        note=f"an exact denoiser, a schedule of {T} times and {steps} "
        f"step{'s' if steps > 1 else ''}",
        rtol=1e-3,
        atol=1e-3,
    )


DPM_SOLVER = Exercise(
    name="dpm_solver_2m",
    chapter=3,
    difficulty=3,
    trains="what the order of a method is, and what one more look back is worth",
    title="a sampler of second order",
    prompt=(
        "DDIM takes $\\hat z_0$ as constant during a step. DPM-Solver++(2M) draws a "
        "line through the last two estimates. Measure time as $\\lambda = \\tfrac12 "
        "\\ln \\big(\\bar\\alpha / (1 - \\bar\\alpha)\\big)$, and let $\\Delta = "
        "\\lambda_s - \\lambda_t$ be the length of this step, $\\Delta'$ that of the "
        "one before. In the middle of this step the line has the value $\\tilde z_0 = "
        "\\hat z_0 + \\frac{\\Delta}{2 \\Delta'} (\\hat z_0 - \\hat z_0')$, with the "
        "estimate $\\hat z_0'$ of the step before. Put it into DDIM's step, written "
        "without the noise: $z_s = \\frac{\\sigma_s}{\\sigma_t} z_t + \\big(\\sqrt{"
        "\\bar\\alpha_s} - \\frac{\\sigma_s}{\\sigma_t} \\sqrt{\\bar\\alpha_t}\\big)\\,"
        "\\tilde z_0$ with $\\sigma_t = \\sqrt{1 - \\bar\\alpha_t}$. The first step, "
        "which has no step before it, and the last one, to $\\bar\\alpha_s = 1$, where "
        "$\\Delta$ is infinite, take $\\tilde z_0 = \\hat z_0$. Times, denoiser and "
        "arguments are as in `sampler`. The checker takes 16 times the steps and "
        "watches how far the error falls."
    ),
    reference=sample_2m,
    lines="15-20 lines",
    cases=(case(1, 1000, 1), case(5, 1000, 2), case(20, 1000, 3), case(7, 200, 4)),
    properties=(
        (
            "The denoiser should be called once a step, at the schedule's times: what "
            "is needed of the step before is kept, not asked again.",
            calls,
        ),
        (
            "With 16 times the steps the error should fall by a factor of about 16², "
            "which is second order. Yours falls more slowly.",
            second_order,
        ),
    ),
    hints=(
        "Begin with your sampler, and write its step without the noise. Nothing should "
        "change: that is first order, which takes x0 for the value of the line.",
        "Keep two things from step to step: the estimate x0 and the length Δ. Before "
        "the first step they are None.",
        "alpha_bar_s = 1 makes λ infinite. So ask first whether there is a step before "
        "and a next time; only then compute Δ / (2 Δ') and the line.",
    ),
    misconceptions={
        "first order": (
            solver_slip("first order"),
            "this is DDIM: the estimate of the step before is not used",
        ),
        "ratio turned": (
            solver_slip("ratio turned"),
            "the ratio of the two lengths is turned: Δ of this step stands above",
        ),
        "half missing": (
            solver_slip("half missing"),
            "the ½ is missing: the line is read in the middle of the step, not at its "
            "end",
        ),
        "backwards": (
            solver_slip("backwards"),
            "the line is followed backwards: the difference is x0 minus the one before",
        ),
        "even steps": (
            solver_slip("even steps"),
            "½ was taken for Δ / (2 Δ'), as if all steps were equally long in λ",
        ),
        "first one kept": (
            solver_slip("first one kept"),
            "the estimate of the first step is used throughout; it has to be the one "
            "just before",
        ),
        "first estimate kept": (
            solver_slip("first estimate kept"),
            "the estimate of the first step is never replaced; keep that of each step "
            "for the next",
        ),
        "first length kept": (
            solver_slip("first length kept"),
            "the length Δ' of the first step is never replaced; keep that of each step "
            "for the next",
        ),
        "in alpha-bar": (
            solver_slip("in alpha-bar"),
            "the lengths of the steps were measured in ᾱ; measure them in λ",
        ),
        "in t": (
            solver_slip("in t"),
            "the lengths of the steps were measured in t; measure them in λ",
        ),
        "from the old one": (
            solver_slip("from the old one"),
            "the line begins at the estimate of the step before; it goes on from x0",
        ),
        "variances": (
            solver_slip("variances"),
            "σ is the root of 1 - ᾱ; the ratio of the two σ lacks its root",
        ),
        "last step too": (
            solver_slip("last step too"),
            "the last step, too, follows the line, with Δ infinite; it takes x0 itself",
        ),
        "keeps the line": (
            solver_slip("keeps the line"),
            "what was kept for the next step is the point on the line; keep the "
            "estimate x0 itself",
        ),
    },
    source=(
        samplers.dpm_solver_pp,
        samplers.dpm_solver_step,
        samplers.half_log_snr,
        samplers.intervals,
    ),
)
