"""Samplers: from noise back to data, one denoiser call a step.

Every sampler is a generator with one signature. It yields the array after each step:

    *steps, z_0 = ddim(denoiser, schedule, z_T, steps=50)    # all of them
    z_0 = last(ddim(denoiser, schedule, z_T, steps=50))      # only the end

The array is kept in float32 from step to step, and the denoiser sees it in the dtype of
z_T: a thousand roundings to bfloat16 would add up.
"""

import inspect
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ldm_tutorial.arguments import floating, has_numbers, positive
from ldm_tutorial.diffusion import Denoiser, PredictionType, split_prediction
from ldm_tutorial.noise import Generators, in_float32, normal_like
from ldm_tutorial.schedule import NoiseSchedule

Sampler = Callable[..., Iterator[Tensor]]


def sampler(steps_of: Sampler) -> Sampler:
    """Check the arguments of a sampler, and let it compute in float32.

    Raises:
        ValueError: for a clip that is no bound, and in the end if what came out is not
            finite.
        TypeError: for z_T that are no floating-point numbers.
    """

    @wraps(steps_of)
    @torch.no_grad()
    def run(
        denoiser: Denoiser, schedule: NoiseSchedule, z_T: Tensor, **options: Any
    ) -> Iterator[Tensor]:
        floating("z_T", z_T, "standard normal noise")
        if options.get("clip") is not None:
            positive("clip", options["clip"])

        def in_its_dtype(z_t: Tensor, t: Tensor) -> Tensor:
            return in_float32(denoiser(z_t.to(z_T.dtype), t))

        z = z_T
        for z in steps_of(in_its_dtype, schedule, in_float32(z_T), **options):
            yield (z := z.to(z_T.dtype))
        check_finite(z)

    return run


def check_finite(z_0: Tensor) -> None:
    """What a sampler ends in, looked at once, when all steps are done.

    Raises:
        ValueError: for numbers that are not finite.
    """
    if has_numbers(z_0) and not bool(z_0.isfinite().all()):
        raise ValueError(
            "sampling ended in nan or infinity; look for such numbers in the weights "
            "of the model and in z_T, or compute in float32"
        )


def ddpm_step(
    z_t: Tensor,
    x0: Tensor,
    alpha_bar_t: Tensor,
    alpha_bar_s: Tensor,
    generator: Generators | None = None,
) -> Tensor:
    """Draw z_s from q(z_s | z_t, z_0 = x0), s < t (Ho et al. 2020, eqs. 6 and 7).

    With s = t - 1 this is the paper's step; with larger strides it is the same
    posterior of the shortened chain. alpha_bar_s = 1 gives x0 itself.
    """
    alpha_ts = alpha_bar_t / alpha_bar_s
    beta_ts = 1 - alpha_ts
    from_x0 = alpha_bar_s.sqrt() * beta_ts * x0
    from_z_t = alpha_ts.sqrt() * (1 - alpha_bar_s) * z_t
    variance = beta_ts * (1 - alpha_bar_s) / (1 - alpha_bar_t)
    mean = (from_x0 + from_z_t) / (1 - alpha_bar_t)
    return mean + variance.sqrt() * normal_like(z_t, generator)


def ddim_step(
    x0: Tensor,
    eps: Tensor,
    alpha_bar_t: Tensor,
    alpha_bar_s: Tensor,
    eta: float = 0.0,
    generator: Generators | None = None,
) -> Tensor:
    """Step from t to s < t (Song et al. 2021, eqs. 12 and 16).

    eta = 0 is deterministic: the noise estimate stays and its share is turned down.
    eta = 1 adds as much fresh noise as ``ddpm_step`` does.
    """
    variance = (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)
    z_s = alpha_bar_s.sqrt() * x0 + (1 - alpha_bar_s - eta**2 * variance).sqrt() * eps
    if eta > 0:
        z_s = z_s + eta * variance.sqrt() * normal_like(x0, generator)
    return z_s


def estimate(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    z_t: Tensor,
    t: int,
    prediction_type: PredictionType = "eps",
    clip: float | None = None,
) -> tuple[Tensor, Tensor]:
    """One denoiser call: the estimates of (z_0, eps) at time ``t``.

    ``clip`` bounds the estimate of z_0 to [-clip, clip]; eps follows it.
    """
    times = torch.full((len(z_t),), t, device=z_t.device)
    alpha_bar_t = schedule.alpha_bar[t]
    prediction = denoiser(z_t, times)
    x0, eps = split_prediction(prediction, z_t, alpha_bar_t, prediction_type)
    if clip is not None:
        x0 = x0.clamp(-clip, clip)
        eps = (z_t - alpha_bar_t.sqrt() * x0) / (1 - alpha_bar_t).sqrt()
    return x0, eps


@sampler
def ddpm(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    z_T: Tensor,
    *,
    steps: int = 1000,
    prediction_type: PredictionType = "eps",
    clip: float | None = None,
    generator: Generators | None = None,
) -> Iterator[Tensor]:
    """Ancestral sampling (Ho et al. 2020, algorithm 2).

    Args:
        denoiser: maps z_t (B, ...) and t int64 (B,) to a prediction (B, ...).
        z_T: where to start, (B, ...): standard normal noise.
        steps: denoiser calls, 1 to T.
        clip: bound on the estimate of z_0: 1 for images, None for latents, whose
            range nobody knows.
        generator: source of the noise that each step adds; a list of one for each of
            the B arrays makes them independent of the batch they are drawn in.
    """
    z = z_T
    for t, alpha_bar_t, alpha_bar_s in intervals(schedule, steps):
        x0, _ = estimate(denoiser, schedule, z, t, prediction_type, clip)
        z = ddpm_step(z, x0, alpha_bar_t, alpha_bar_s, generator)
        yield z


@sampler
def ddim(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    z_T: Tensor,
    *,
    steps: int = 50,
    prediction_type: PredictionType = "eps",
    clip: float | None = None,
    generator: Generators | None = None,
    eta: float = 0.0,
) -> Iterator[Tensor]:
    """DDIM (Song et al. 2021, eq. 12). Arguments as in ``ddpm``, and ``eta``: from 0,
    deterministic, to 1, as noisy as DDPM."""
    check_eta(eta)
    z = z_T
    for t, alpha_bar_t, alpha_bar_s in intervals(schedule, steps):
        x0, eps = estimate(denoiser, schedule, z, t, prediction_type, clip)
        z = ddim_step(x0, eps, alpha_bar_t, alpha_bar_s, eta, generator)
        yield z


@sampler
def dpm_solver_pp(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    z_T: Tensor,
    *,
    steps: int = 15,
    prediction_type: PredictionType = "eps",
    clip: float | None = None,
    generator: Generators | None = None,
) -> Iterator[Tensor]:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, algorithm 2): second order by
    looking back at the step before; the first and the last step are of first order.

    Arguments as in ``ddpm``; it is deterministic and leaves ``generator`` alone.
    """
    z = z_T
    before = None  # the estimate of z_0 one step ago, and how far that step went
    for i, (t, alpha_bar_t, alpha_bar_s) in enumerate(intervals(schedule, steps)):
        x0, _ = estimate(denoiser, schedule, z, t, prediction_type, clip)
        h = half_log_snr(alpha_bar_s) - half_log_snr(alpha_bar_t)
        ahead = x0
        if before is not None and i < steps - 1:
            x0_before, h_before = before
            ahead = x0 + h / (2 * h_before) * (x0 - x0_before)
        before = x0, h
        z = dpm_solver_step(z, ahead, alpha_bar_t, alpha_bar_s)
        yield z


def dpm_solver_step(
    z_t: Tensor, x0: Tensor, alpha_bar_t: Tensor, alpha_bar_s: Tensor
) -> Tensor:
    """The exact solution from t to s < t if z_0 were ``x0`` all the way (Lu et al.
    2022, eq. 9 with k = 1). It is DDIM's step, written without eps."""
    shrink = ((1 - alpha_bar_s) / (1 - alpha_bar_t)).sqrt()
    return shrink * z_t + (alpha_bar_s.sqrt() - shrink * alpha_bar_t.sqrt()) * x0


def half_log_snr(alpha_bar: Tensor) -> Tensor:
    """lambda = log(sqrt(alpha_bar) / sqrt(1 - alpha_bar)), the time of DPM-Solver; it
    stays finite where no signal is left, as in diffusers."""
    alpha_bar = alpha_bar.double()
    alpha_bar = torch.where(alpha_bar == 0, 2.0**-24, alpha_bar)
    return 0.5 * (alpha_bar / (1 - alpha_bar)).log()


SAMPLERS: dict[str, Sampler] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "dpm-solver++": dpm_solver_pp,
}


def find_sampler(sampler: str | Sampler, objective: Any, eta: float) -> Sampler:
    """The sampler of this name for models of this objective, or the function given; a
    ValueError for a name, or a share of noise, that it does not know."""
    check_eta(eta)
    known: Mapping[str, Sampler] = getattr(objective, "samplers", SAMPLERS)
    if not callable(sampler) and sampler not in known:
        raise ValueError(
            f"sampler {sampler!r} is unknown; choose {', '.join(known)}, or give a "
            "function"
        )
    found = sampler if callable(sampler) else known[sampler]
    if eta and not named(found, {"eta": eta}):
        name = getattr(sampler, "__name__", sampler)
        raise ValueError(f"eta={eta} is an option of ddim; leave it out with {name}")
    return found


def check_eta(eta: float) -> None:
    """The share of DDPM's noise that DDIM adds at each step."""
    if not isinstance(eta, Real) or not 0 <= eta <= 1:
        raise ValueError(f"eta={eta}; give 0 (deterministic) to 1 (as noisy as DDPM)")


def named(function: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """The options that a function takes by name."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return options
    return {name: value for name, value in options.items() if name in parameters}


def intervals(schedule: NoiseSchedule, steps: int) -> list[tuple[int, Tensor, Tensor]]:
    """(t, alpha_bar_t, alpha_bar_s) for each step from t down to the next time s; the
    last step ends at alpha_bar_s = 1, without noise. The scalars stay where the
    schedule is, on the CPU: they multiply arrays on any device, and nothing waits."""
    times = schedule.timesteps(steps)
    alpha_bar = schedule.alpha_bar
    ends = [*alpha_bar[times[1:]], alpha_bar.new_ones(())]
    return list(zip(times, alpha_bar[times], ends, strict=True))


def last(arrays: Iterable[Tensor]) -> Tensor:
    """The last array of a sampler, without keeping the others.

    Raises:
        TypeError: if what a sampler returned holds no arrays.
    """
    found: deque[Tensor] = deque(maxlen=1)
    if isinstance(arrays, Iterable) and not isinstance(arrays, Tensor):
        found.extend(arrays)
    if not found:
        what = type(arrays).__name__
        raise TypeError(f"a sampler gave a {what}; let it yield the array of each step")
    return found[0]
