"""Noise schedules: how much of the signal is left at each step t.

Everything a discrete-time diffusion model needs follows from one sequence,
alpha_bar[t] = product of (1 - beta[s]) for s <= t, written ᾱ_t in
Ho et al., "Denoising Diffusion Probabilistic Models", 2020 (arXiv:2006.11239).
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ldm_tutorial.arguments import floating, number, positive, whole
from ldm_tutorial.limits import MOST, check_limits

ScheduleName = Literal["linear", "scaled_linear", "cosine"]

MOST_STEPS = MOST["num_train_timesteps"]


@dataclass(frozen=True)
class ScheduleConfig:
    """Which noise schedule.

    Attributes:
        name: linear (Ho et al. 2020), scaled_linear (Rombach et al. 2022) or
            cosine (Nichol & Dhariwal 2021).
        num_train_timesteps: T, the number of noise levels.
        beta_start: first beta; ignored by cosine.
        beta_end: last beta; ignored by cosine.
        zero_terminal_snr: rescale so that nothing of the signal is left at the last
            step (Lin et al. 2024, algorithm 1).

    Raises:
        TypeError, ValueError: for values that describe no schedule.
    """

    name: ScheduleName = "linear"
    num_train_timesteps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02
    zero_terminal_snr: bool = False

    def __post_init__(self):
        check_name(self.name)
        whole("num_train_timesteps", self.num_train_timesteps, 1, MOST_STEPS)
        if self.name != "cosine":
            check_ends(self.beta_start, self.beta_end)
        check_limits(vars(self))


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """One tensor, ``alpha_bar`` of shape (T,), falling from about 1 to about 0.

    Index t = 0 is already noisy: the clean array stands before it, where alpha_bar = 1.
    """

    alpha_bar: Tensor
    # alpha_bar on every device that asked for it: no copy at each step
    _tables: dict[torch.device, Tensor] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self):
        a = self.alpha_bar
        floating("alpha_bar", a, "the share of signal at each step")
        if (
            not a.numel()
            or a.ndim != 1
            or not bool(((a >= 0) & (a < 1)).all() & (a.diff() < 0).all())
        ):
            raise ValueError(
                f"alpha_bar of shape {tuple(a.shape)} is not a noise schedule; give a "
                "1-d tensor in [0, 1) that falls at every step"
            )

    def __len__(self) -> int:
        return len(self.alpha_bar)

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, NoiseSchedule):
            return NotImplemented
        return torch.equal(self.alpha_bar.cpu(), other.alpha_bar.cpu())

    def __hash__(self) -> int:
        return hash(tuple(self.alpha_bar.tolist()))

    @property
    def beta(self) -> Tensor:
        """Variance added by each step, shape (T,): 1 - alpha_bar[t]/alpha_bar[t-1]."""
        before = torch.cat([self.alpha_bar.new_ones(1), self.alpha_bar[:-1]])
        return 1.0 - self.alpha_bar / before

    @property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio alpha_bar / (1 - alpha_bar), shape (T,)."""
        return self.alpha_bar / (1.0 - self.alpha_bar)

    def at(self, t: Tensor, like: Tensor) -> Tensor:
        """alpha_bar at the times ``t`` of shape (B,), shaped (B, 1, ..., 1) and on the
        device of ``like``, so that it multiplies a batch. It stays in float32: in half
        precision 1 - alpha_bar is 0 where there is little noise."""
        table = self._tables.get(like.device)
        if table is None:
            table = self._tables[like.device] = self.alpha_bar.to(like.device)
        return table[t].view(-1, *[1] * (like.ndim - 1))

    def snr_at(self, t: Tensor, like: Tensor) -> Tensor:
        """The signal-to-noise ratio at times (B,), shaped as in ``at``."""
        alpha_bar_t = self.at(t, like)
        return alpha_bar_t / (1 - alpha_bar_t)

    def timesteps(self, steps: int) -> list[int]:
        """``steps`` times, evenly spaced and falling, the first of them T - 1.

        This is the "trailing" spacing (Lin et al. 2024, table 2): sampling starts
        where the training saw the most noise.

        Raises:
            TypeError: if ``steps`` is no whole number.
            ValueError: if ``steps`` is not between 1 and T.
        """
        if isinstance(steps, int) and not 1 <= steps <= len(self):
            raise ValueError(
                f"{steps} sampling steps were asked of a schedule of {len(self)}; "
                f"give a number from 1 to {len(self)}"
            )
        steps = whole("steps", steps, 1, len(self))
        return [round(len(self) * (steps - i) / steps) - 1 for i in range(steps)]

    @classmethod
    def linear(cls, num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02):
        """beta rises linearly (Ho et al. 2020, sec. 4)."""
        whole("num_train_timesteps", num_train_timesteps, 1, MOST_STEPS)
        check_ends(beta_start, beta_end)
        return cls.from_betas(straight(beta_start, beta_end, num_train_timesteps))

    @classmethod
    def scaled_linear(
        cls, num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012
    ):
        """sqrt(beta) rises linearly: latent diffusion's schedule (Rombach et al.)."""
        whole("num_train_timesteps", num_train_timesteps, 1, MOST_STEPS)
        check_ends(beta_start, beta_end)
        first, last = math.sqrt(beta_start), math.sqrt(beta_end)
        return cls.from_betas(straight(first, last, num_train_timesteps).square())

    @classmethod
    def cosine(cls, num_train_timesteps=1000, s=0.008, max_beta=0.999):
        """alpha_bar falls like a squared cosine (Nichol & Dhariwal 2021, eq. 17)."""
        whole("num_train_timesteps", num_train_timesteps, 1, MOST_STEPS)
        number("s", s, 0)
        check_beta("max_beta", max_beta)
        time = torch.arange(num_train_timesteps + 1, dtype=torch.float64, device="cpu")
        angle = (time / num_train_timesteps + s) / (1 + s) * math.pi / 2
        f = torch.cos(angle).square()
        return cls.from_betas((1 - f[1:] / f[:-1]).clamp(max=max_beta))

    @classmethod
    def from_betas(cls, betas: Tensor) -> "NoiseSchedule":
        """Schedule with the given step variances, shape (T,), each in (0, 1).

        Raises:
            TypeError, ValueError: for other betas.
        """
        floating("betas", betas, "the variance that each step adds")
        inside = (betas > 0) & (betas < 1)
        if betas.ndim != 1 or not betas.numel() or not bool(inside.all()):
            wrong = betas[~inside].flatten()[:1].tolist()
            which = f", {wrong[0]:g} among them" if wrong else ""
            raise ValueError(
                f"betas have shape {tuple(betas.shape)}{which}; give (T,), each above "
                "0 and below 1"
            )
        return cls(torch.cumprod(1.0 - betas.float(), dim=0))

    def with_zero_terminal_snr(self) -> "NoiseSchedule":
        """Shift and scale sqrt(alpha_bar) so that the last value is 0 and the first
        stays (Lin et al. 2024, algorithm 1)."""
        root = self.alpha_bar.double().sqrt()
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        return NoiseSchedule(root.square().float())

    @classmethod
    def from_config(cls, config: ScheduleConfig) -> "NoiseSchedule":
        """Build the schedule a config describes."""
        T, first, last = config.num_train_timesteps, config.beta_start, config.beta_end
        if config.name == "linear":
            schedule = cls.linear(T, first, last)
        elif config.name == "scaled_linear":
            schedule = cls.scaled_linear(T, first, last)
        else:
            schedule = cls.cosine(T)
        return (
            schedule.with_zero_terminal_snr() if config.zero_terminal_snr else schedule
        )


def check_name(name: str) -> None:
    if name not in get_args(ScheduleName):
        raise ValueError(
            f"schedule {name!r} is unknown; choose linear, scaled_linear or cosine"
        )


def check_ends(beta_start: float, beta_end: float) -> None:
    """The first and the last beta of a schedule: variances that do not fall."""
    check_beta("beta_start", beta_start)
    check_beta("beta_end", beta_end)
    if beta_start > beta_end:
        raise ValueError(
            f"beta_start={beta_start} lies above beta_end={beta_end}; give betas that "
            "rise"
        )


def check_beta(name: str, beta: float) -> None:
    """A variance that leaves some of the signal."""
    if positive(name, beta) >= 1:
        raise ValueError(f"{name}={beta}; give more than 0 and less than 1")


def straight(first: float, last: float, count: int) -> Tensor:
    """``count`` numbers from ``first`` to ``last``. They lie on the CPU whatever the
    default device: a schedule is a table that loops read numbers from."""
    return torch.linspace(first, last, count, device="cpu")
