"""The forward process and the training objective.

One equation carries it all (Ho et al. 2020, eq. 4):

    z_t = sqrt(alpha_bar_t) z_0 + sqrt(1 - alpha_bar_t) eps,    eps ~ N(0, I)

The network may predict any of three targets, because each, with z_t, gives the others:
eps (Ho et al. 2020), v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) z_0 (Salimans & Ho
2022, app. D) or x0, the clean array.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from ldm_tutorial.arguments import number, positive
from ldm_tutorial.noise import drawn, in_float32, normal_like
from ldm_tutorial.schedule import NoiseSchedule, ScheduleConfig
from ldm_tutorial.storage import config_from_dict

PredictionType = Literal["eps", "v", "x0"]
Denoiser = Callable[[Tensor, Tensor], Tensor]  # (z_t, t) -> prediction


@dataclass(frozen=True)
class Objective:
    """What a denoiser is trained on: how z_t is made, what is predicted, and how times
    and labels are drawn. It travels whole from the recipe to the model to the disk.

    Attributes:
        schedule: the noise schedule.
        prediction_type: what the denoiser predicts: eps, v or x0.
        min_snr_gamma: bound on the weight of easy times in the loss (5 is usual), see
            ``min_snr_weight``; null weighs all alike.
        logit_normal: mean and standard deviation of the logit of t / T, for times that
            keep away from both ends, see ``logit_normal_times``; null draws them
            uniformly.
        label_dropout: share of the labels hidden in training, for guidance.

    Raises:
        ValueError: for a value that no training can use.
    """

    kind: ClassVar[str] = "Objective"

    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    prediction_type: PredictionType = "eps"
    min_snr_gamma: float | None = None
    logit_normal: tuple[float, float] | None = None
    label_dropout: float = 0.1

    def __post_init__(self):
        if not isinstance(self.schedule, ScheduleConfig):
            raise TypeError(f"schedule={self.schedule!r}; give a ScheduleConfig")
        if self.prediction_type not in get_args(PredictionType):
            raise unknown(self.prediction_type)
        if self.prediction_type == "eps" and self.schedule.zero_terminal_snr:
            raise ValueError(
                "eps says nothing about z_0 where no signal is left; with "
                "zero_terminal_snr choose prediction_type v or x0"
            )
        if self.min_snr_gamma is not None:
            positive("min_snr_gamma", self.min_snr_gamma)
        check_draws(self.logit_normal, self.label_dropout)

    @cached_property
    def noise_schedule(self) -> NoiseSchedule:
        """The table of noise levels that ``schedule`` describes."""
        return NoiseSchedule.from_config(self.schedule)

    def loss(
        self,
        denoiser: Denoiser,
        z_0: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``diffusion_loss`` of a denoiser on clean arrays z_0 (B, ...), a scalar."""
        return diffusion_loss(
            denoiser,
            self.noise_schedule,
            z_0,
            self.prediction_type,
            generator,
            self.min_snr_gamma,
            self.logit_normal,
        )

    @property
    def config(self) -> dict[str, Any]:
        """What is written beside the weights, as JSON values."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Objective":
        """The objective that a ``config`` describes."""
        schedule = config_from_dict(ScheduleConfig, config.get("schedule", {}))
        return config_from_dict(cls, config | {"schedule": schedule})


def check_draws(logit_normal: tuple[float, float] | None, label_dropout: float) -> None:
    """How an objective draws times and hides labels.

    Raises:
        TypeError, ValueError: for other numbers than a mean and a standard deviation
            above 0, or a share.
    """
    number("label_dropout", label_dropout, 0, 1)
    if logit_normal is None:
        return
    wanted = "give a mean and a standard deviation above 0"
    if not isinstance(logit_normal, tuple | list) or len(logit_normal) != 2:
        raise TypeError(f"logit_normal={logit_normal!r}; {wanted}")
    _, std = (number(f"logit_normal={logit_normal}", n) for n in logit_normal)
    if not std > 0:
        raise ValueError(f"logit_normal={logit_normal}; {wanted}")


def add_noise(z_0: Tensor, eps: Tensor, alpha_bar_t: Tensor) -> Tensor:
    """z_t for clean ``z_0`` and noise ``eps``, both (B, ...); ``alpha_bar_t``
    broadcasts against them, shape (B, 1, ..., 1) or ()."""
    z_t = alpha_bar_t.sqrt() * z_0 + (1 - alpha_bar_t).sqrt() * eps
    return z_t.to(z_0.dtype)


def prediction_target(
    z_0: Tensor, eps: Tensor, alpha_bar_t: Tensor, prediction_type: PredictionType
) -> Tensor:
    """What the network should put out; same shape as ``z_0``."""
    if prediction_type == "eps":
        return eps
    if prediction_type == "v":
        v = alpha_bar_t.sqrt() * eps - (1 - alpha_bar_t).sqrt() * z_0
        return v.to(z_0.dtype)
    if prediction_type == "x0":
        return z_0
    raise unknown(prediction_type)


def split_prediction(
    prediction: Tensor,
    z_t: Tensor,
    alpha_bar_t: Tensor,
    prediction_type: PredictionType,
) -> tuple[Tensor, Tensor]:
    """Estimates of (z_0, eps) that the network's output implies.

    The inverse of ``prediction_target``: put the true target in and the true z_0 and
    eps come out.
    """
    signal, noise = alpha_bar_t.sqrt(), (1 - alpha_bar_t).sqrt()
    if prediction_type == "eps":
        x0, eps = (z_t - noise * prediction) / signal, prediction
    elif prediction_type == "v":
        x0, eps = signal * z_t - noise * prediction, noise * z_t + signal * prediction
    elif prediction_type == "x0":
        x0, eps = prediction, (z_t - signal * prediction) / noise
    else:
        raise unknown(prediction_type)
    return x0.to(z_t.dtype), eps.to(z_t.dtype)


def diffusion_loss(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    z_0: Tensor,
    prediction_type: PredictionType = "eps",
    generator: torch.Generator | None = None,
    min_snr_gamma: float | None = None,
    logit_normal: tuple[float, float] | None = None,
) -> Tensor:
    """L_simple: mean squared error at randomly drawn times (Ho et al. 2020, eq. 14).

    Args:
        denoiser: maps z_t (B, ...) and t int64 (B,) to a prediction (B, ...).
        z_0: clean arrays (B, ...), at unit scale.
        min_snr_gamma: weigh the times as ``min_snr_weight`` does; None weighs all
            alike.
        logit_normal: draw the times as ``logit_normal_times`` does, with this mean and
            this standard deviation; None draws them uniformly.

    Returns:
        A scalar, in units of the target's variance per element.
    """
    t = random_times(z_0, len(schedule), generator, logit_normal)
    eps = normal_like(z_0, generator)
    alpha_bar_t = schedule.at(t, like=z_0)
    target = prediction_target(z_0, eps, alpha_bar_t, prediction_type)
    prediction = denoiser(add_noise(z_0, eps, alpha_bar_t), t)
    error = in_float32(prediction - target).square()
    if min_snr_gamma is not None:
        snr = schedule.snr_at(t, like=z_0)
        error = min_snr_weight(snr, min_snr_gamma, prediction_type) * error
    return error.mean()


def random_times(
    z_0: Tensor,
    T: int,
    generator: torch.Generator | None = None,
    logit_normal: tuple[float, float] | None = None,
) -> Tensor:
    """A time, 0 to T - 1, for each of ``z_0``: int64 (B,). Arguments as in
    ``diffusion_loss``."""
    size = (len(z_0),)
    if logit_normal is None:
        t = drawn(partial(torch.randint, T), size, generator, z_0.device)
    else:
        at_random = drawn(torch.randn, size, generator, z_0.device)
        t = logit_normal_times(at_random, T, *logit_normal)
    return t.to(z_0.device)


def logit_normal_times(normal: Tensor, T: int, mean: float, std: float) -> Tensor:
    """Times 0 to T - 1 in the shape of ``normal``, standard normal numbers: the logit
    of t / T has this mean and this standard deviation (Esser et al. 2024,
    arXiv:2403.03206, sec. 3.1, for which there T = 1).

    Few times fall on the ends, where little is left to learn: with hardly any noise the
    answer is plain to see, with hardly any signal it is the mean.
    """
    return (T * torch.sigmoid(mean + std * normal)).long().clamp(max=T - 1)


def min_snr_weight(
    snr: Tensor, gamma: float = 5.0, prediction_type: PredictionType = "eps"
) -> Tensor:
    """Weights of times with signal-to-noise ratio ``snr``, any shape, for a loss on the
    network's own target (Hang et al. 2023, arXiv:2303.09556, sec. 3.4).

    As an error of z_0 each time weighs min(SNR, gamma); an error of eps is SNR times
    that of z_0, and one of v is SNR + 1 times.
    """
    positive("gamma", gamma)
    weight = snr.clamp(max=gamma)
    if prediction_type == "eps":
        return (gamma / snr).clamp(max=1)
    if prediction_type == "v":
        return weight / (snr + 1)
    if prediction_type == "x0":
        return weight
    raise unknown(prediction_type)


def unknown(prediction_type: str) -> ValueError:
    return ValueError(
        f"prediction type {prediction_type!r} is unknown; choose eps, v or x0"
    )
