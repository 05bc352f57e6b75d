"""Samplers as black boxes, each with at most one planted bug, to be found by probing.

A box can only be called: ``box(denoiser, z_T, y)``. What it should do is written at
``Box.__call__``; what it does is for the reader to find out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ldm_tutorial.schedule import NoiseSchedule

# What may be wrong, and how it shows.
BUGS = {
    "none": "compare with what a right box does: it differs in nothing",
    "time": "write down the times at which it calls the denoiser",
    "no class": "write down the labels that it hands to the denoiser",
    "scale": "give it a denoiser that sees no noise, and divide what comes out by z_T",
    "alpha": "with a denoiser that sees no noise the array should grow by one over the "
    "root of what is left at the first time; this one hardly grows",
    "prediction": "with a denoiser that sees no noise the array should grow; this one "
    "shrinks, as if the guess were no noise but a velocity",
}


@dataclass(frozen=True)
class Box:
    """A sampler with guidance for a network of ``num_classes`` classes.

    Attributes:
        schedule, steps: which times it visits, ``schedule.timesteps(steps)``.
        std: standard deviation of raw latents; the diffusion model works at scale 1.
        num_classes: the label ``num_classes`` stands for "no class".
        guidance_scale: how far it goes from "no class" to the class.
    """

    schedule: NoiseSchedule
    steps: int
    std: float
    num_classes: int
    guidance_scale: float = 2.0
    _bug: str = field(default="none", repr=False)

    @torch.no_grad()
    def __call__(
        self,
        denoiser: Callable[[Tensor, Tensor, Tensor], Tensor],
        z_T: Tensor,
        y: Tensor,
    ) -> Tensor:
        """Raw latents for classes ``y`` (B,), from noise ``z_T`` (B, C, h, w).

        At each time, twice: ``denoiser(z_t, t, y)`` guesses the noise, t and y int64
        (B,), once for the class and once for "no class"; guidance mixes the two, and
        a DDIM step goes on to the next time, at the end to alpha_bar = 1. The latents
        of unit scale are then multiplied by ``std``.
        """
        z, times = z_T, self.schedule.timesteps(self.steps)
        left = self.schedule.alpha_bar
        if self._bug == "alpha":  # one step's factor in place of the product of all
            left = 1 - self.schedule.beta
        ends = [*(left[s] for s in times[1:]), torch.tensor(1.0)]
        for t, a_s in zip(times, ends, strict=True):
            a_t = left[t]
            asked = max(t - 1, 0) if self._bug == "time" else t
            guess = self.guided(denoiser, z, asked, y)
            c, s = a_t.sqrt(), (1 - a_t).sqrt()
            x0, eps = (z - s * guess) / c, guess
            if self._bug == "prediction":  # the guess is taken for v
                x0, eps = c * z - s * guess, s * z + c * guess
            z = a_s.sqrt() * x0 + (1 - a_s).sqrt() * eps
        return z * (self.std**2 if self._bug == "scale" else self.std)

    def guided(self, denoiser: Callable, z: Tensor, t: int, y: Tensor) -> Tensor:
        """uncond + guidance_scale (cond - uncond)."""
        times = torch.full((len(z),), t)
        none = self.num_classes - (self._bug == "no class")
        cond = denoiser(z, times, y)
        uncond = denoiser(z, times, torch.full_like(y, none))
        return uncond + self.guidance_scale * (cond - uncond)


SCHEDULES = (NoiseSchedule.linear, NoiseSchedule.scaled_linear, NoiseSchedule.cosine)


def box(bug: str, seed: int) -> Box:
    """A box with a bug; schedule, steps, scale and classes are drawn with ``seed``."""
    g = torch.Generator().manual_seed(seed)
    draw = lambda n: int(torch.randint(n, (), generator=g))  # noqa: E731
    # The cosine schedule is cut short of its end, where next to nothing is left.
    schedule = SCHEDULES[draw(3)](100 + 100 * draw(5))
    schedule = NoiseSchedule(schedule.alpha_bar[: int(0.95 * len(schedule))])
    std = (0.25, 0.5, 2.0, 4.0)[draw(4)]
    return Box(schedule, 4 + draw(12), std, 2 + draw(8), 1.5 + draw(4), bug)


def boxes(
    schedule: NoiseSchedule, steps: int, std: float, num_classes: int
) -> dict[str, Box]:
    """Six boxes to practise on, one of each kind, in no telling order."""
    order = ("scale", "none", "time", "prediction", "no class", "alpha")
    return {
        f"box {name}": Box(schedule, steps, std, num_classes, _bug=bug)
        for name, bug in zip("ABCDEF", order, strict=True)
    }
