"""Flow matching: a straight path from data to noise, and the speed along it.

Lipman et al. 2023 (arXiv:2210.02747), Liu et al. 2023 (arXiv:2209.03003), Albergo &
Vanden-Eijnden 2023 (arXiv:2209.15571). Time is 0 at the data and 1 at the noise:

    z_t = (1 - t) z_0 + t eps,    u = dz_t/dt = eps - z_0

This is v-prediction on another schedule. With n = sqrt((1 - t)^2 + t^2), z_t / n is a
diffusion's z_t for alpha_bar = ((1 - t) / n)^2, and u = (v + (2 t - 1) z_t / n) / n.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ldm_tutorial.arguments import positive, whole
from ldm_tutorial.diffusion import Denoiser, check_draws
from ldm_tutorial.noise import Generators, in_float32, normal_like
from ldm_tutorial.samplers import sampler
from ldm_tutorial.schedule import MOST_STEPS
from ldm_tutorial.storage import config_from_dict

Times = TypeVar("Times", float, Tensor)


def shift_times(t: Times, shift: float) -> Times:
    """Times moved towards the noise (Esser et al. 2024, arXiv:2403.03206, eq. 23):
    an image of shift^2 times as many pixels takes that to be hidden as well."""
    return shift * t / (1 + (shift - 1) * t)


@dataclass(frozen=True)
class FlowSchedule:
    """The times at which a flow is sampled.

    Attributes:
        num_train_timesteps: the denoiser sees t times this number.
        shift: see ``shift_times``; 1 leaves the times alone.
        last: where the last step begins before the shift; None spaces all steps alike.
    """

    num_train_timesteps: int = 1000
    shift: float = 1.0
    last: float | None = None

    def __post_init__(self):
        whole("num_train_timesteps", self.num_train_timesteps, 1, MOST_STEPS)
        positive("shift", self.shift)
        if self.last is not None and positive("last", self.last) > 1:
            raise ValueError(f"last={self.last}; give more than 0, up to 1")

    def timesteps(self, steps: int) -> list[float]:
        """Where each step begins, from 1 down, and 0, where the last one ends."""
        T = self.num_train_timesteps
        if isinstance(steps, int) and not 1 <= steps <= T:
            raise ValueError(f"{steps} steps were asked of a flow; give 1 to {T}")
        steps = whole("steps", steps, 1, T)
        last = 1 / steps if self.last is None else self.last
        apart = (1 - last) / max(1, steps - 1)
        # Plain numbers, whatever torch's default device: nothing waits for them.
        times = [shift_times(1 - i * apart, self.shift) for i in range(steps)]
        return [*times, 0.0]

    def velocity(
        self, denoiser: Denoiser, z_t: Tensor, t: float, clip: float | None = None
    ) -> Tensor:
        """u at time ``t``, one denoiser call; ``clip`` bounds the z_0 it implies."""
        T = self.num_train_timesteps
        u = denoiser(z_t, torch.full((len(z_t),), T * t, device=z_t.device))
        return u if clip is None else (z_t - (z_t - t * u).clamp(-clip, clip)) / t

    @property
    def alpha_bar(self) -> Tensor:
        raise ValueError("a flow has no noise schedule; choose sampler euler or heun")


@sampler
def euler(
    denoiser: Denoiser,
    schedule: FlowSchedule,
    z_T: Tensor,
    *,
    steps: int = 50,
    clip: float | None = None,
    generator: Generators | None = None,
) -> Iterator[Tensor]:
    """Euler's method, one denoiser call a step: DDIM for a flow. Arguments as in
    ``samplers.ddpm``; it is deterministic and leaves ``generator`` alone."""
    z = z_T
    for t, s in pairwise(schedule.timesteps(steps)):
        z = z + (s - t) * schedule.velocity(denoiser, z, t, clip)
        yield z


@sampler
def heun(
    denoiser: Denoiser,
    schedule: FlowSchedule,
    z_T: Tensor,
    *,
    steps: int = 25,
    clip: float | None = None,
    generator: Generators | None = None,
) -> Iterator[Tensor]:
    """Heun's method: the mean of the velocities at both ends of a step, two denoiser
    calls each but for the last step, which is Euler's. Arguments as in ``euler``."""
    z = z_T
    for t, s in pairwise(schedule.timesteps(steps)):
        u = schedule.velocity(denoiser, z, t, clip)
        if s > 0:
            u = (u + schedule.velocity(denoiser, z + (s - t) * u, s, clip)) / 2
        z = z + (s - t) * u
        yield z


@dataclass(frozen=True)
class FlowMatching(FlowSchedule):
    """The objective of a denoiser that predicts the velocity u, and its times.

    Attributes:
        logit_normal: mean and standard deviation of the logit of t in training (Esser
            et al. 2024, sec. 3.1), before the shift; null draws t uniformly.
        label_dropout: share of the labels hidden in training, for guidance.
    """

    kind: ClassVar[str] = "FlowMatching"
    prediction_type: ClassVar[str] = "flow"
    samplers: ClassVar = {"ddim": euler, "euler": euler, "heun": heun}

    logit_normal: tuple[float, float] | None = (0.0, 1.0)
    label_dropout: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        check_draws(self.logit_normal, self.label_dropout)

    @property
    def noise_schedule(self) -> FlowSchedule:
        return self

    def loss(
        self, denoiser: Denoiser, z_0: Tensor, *, generator: Generators | None = None
    ) -> Tensor:
        """Mean squared error of the velocity on clean arrays z_0 (B, ...)."""
        t = self.random_times(z_0, generator)
        eps = normal_like(z_0, generator)
        wide = t.view(-1, *[1] * (z_0.ndim - 1))
        z_t = ((1 - wide) * z_0 + wide * eps).to(z_0.dtype)
        prediction = denoiser(z_t, self.num_train_timesteps * t)
        return in_float32(prediction - (eps - z_0)).square().mean()

    def random_times(self, z_0: Tensor, generator: Generators | None = None) -> Tensor:
        """A time between 0 and 1 for each of ``z_0``, float32 (B,)."""
        t = normal_like(z_0.new_empty(len(z_0), dtype=torch.float32), generator)
        if self.logit_normal is None:
            return shift_times(torch.special.ndtr(t), self.shift)  # uniform
        mean, std = self.logit_normal
        return shift_times(torch.sigmoid(mean + std * t), self.shift)

    config = property(asdict)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FlowMatching":
        return config_from_dict(cls, config)
