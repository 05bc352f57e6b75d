"""Progressive distillation: a student does in one step what its teacher does in two.

Salimans & Ho 2022 (arXiv:2202.00512), algorithm 2. The student begins as a copy of the
teacher and predicts v, which says something about z_0 at every noise level. Done again
and again, with the student as the next teacher, it halves the steps each time.
"""

from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from ldm_tutorial.diffusion import (
    Objective,
    add_noise,
    prediction_target,
    split_prediction,
)
from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.noise import drawn, in_float32, normal_like
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.samplers import ddim_step
from ldm_tutorial.schedule import NoiseSchedule
from ldm_tutorial.training.tasks import Values, autoencoder


def student_of(teacher: LatentDiffusion) -> LatentDiffusion:
    """A copy of a diffusion model that can be trained, and predicts v. What is left of
    the teacher's own prediction it has to learn anew.

    Raises:
        TypeError: for a flow, whose paths are another matter.
    """
    if not isinstance(teacher.objective, Objective):
        raise TypeError(
            f"the teacher's objective is a {type(teacher.objective).__name__}; give a "
            "model that predicts eps, v or x0"
        )
    student = deepcopy(teacher)
    student.objective = replace(teacher.objective, prediction_type="v")
    student.unet.requires_grad_(True)
    return student


class Distillation(nn.Module):
    """What the loop trains: a student that shall draw in ``steps`` steps of DDIM what
    its teacher draws in twice as many.

    Args:
        student: as ``student_of`` makes it.
        teacher: of the same codec and schedule; it is not changed.
        steps: of the student, from 1 on.

    Raises:
        ValueError: for more steps than half of the schedule has.
    """

    def __init__(self, student: LatentDiffusion, teacher: LatentDiffusion, steps: int):
        super().__init__()
        self.student = student
        self.frozen = (teacher.eval().requires_grad_(False),)  # no submodule
        self.times: Tensor
        times = torch.tensor([*teacher.schedule.timesteps(2 * steps), -1])
        self.register_buffer("times", times, persistent=False)

    def forward(
        self,
        moments: Tensor,
        y: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Values:
        """The loss of v for moments (B, 2C, h, w) as ``cache_latents`` gives them, and
        classes (B,), which an unconditional model does not look at."""
        y = y if self.student.classes else None
        z = DiagonalGaussian(*moments.chunk(2, dim=1)).sample(generator)
        z_0 = autoencoder(self.student).normalise(z)
        pick = drawn(torch.rand, (len(z_0),), generator, z_0.device).to(z_0.device)
        times, steps = self.times, len(self.times) // 2
        i = 2 * (steps * pick).long().clamp(max=steps - 1)
        t, middle, s = times[i], times[i + 1], times[i + 2]
        at_t, at_s = (level(self.student.schedule, one, z_0) for one in (t, s))
        z_t = add_noise(z_0, normal_like(z_0, generator), at_t)
        with torch.no_grad():
            z_s = self.teacher_step(self.teacher_step(z_t, t, middle, y), middle, s, y)
        target = v_of_one_step(z_t, z_s, at_t, at_s)
        prediction = self.student.unet(z_t, t, y)
        loss = in_float32(prediction - target).square().mean()
        return loss, {"distillation": loss.detach()}

    def teacher_step(
        self, z_t: Tensor, t: Tensor, s: Tensor, y: Tensor | None
    ) -> Tensor:
        """One step of DDIM, from times t to times s, (B,)."""
        teacher = self.frozen[0].to(z_t.device)
        at_t = level(teacher.schedule, t, z_t)
        prediction, kind = teacher.unet(z_t, t, y), teacher.objective.prediction_type
        estimates = split_prediction(prediction, z_t, at_t, kind)
        return ddim_step(*estimates, at_t, level(teacher.schedule, s, z_t))


def v_of_one_step(
    z_t: Tensor, z_s: Tensor, alpha_bar_t: Tensor, alpha_bar_s: Tensor
) -> Tensor:
    """The v at z_t from which one step of DDIM leads to z_s (Salimans & Ho 2022,
    app. G): DDIM moves on the line of one z_0 and one eps, and these two points
    settle both."""
    noise = ((1 - alpha_bar_s) / (1 - alpha_bar_t)).sqrt()  # sigma_s / sigma_t
    x0 = (z_s - noise * z_t) / (alpha_bar_s.sqrt() - noise * alpha_bar_t.sqrt())
    eps = (z_t - alpha_bar_t.sqrt() * x0) / (1 - alpha_bar_t).sqrt()
    return prediction_target(x0, eps, alpha_bar_t, "v")


def level(schedule: NoiseSchedule, t: Tensor, like: Tensor) -> Tensor:
    """alpha_bar at times (B,), as ``schedule.at``; 1 at time -1, before all noise."""
    found = schedule.at(t.clamp(min=0), like)
    return torch.where(t.view_as(found) < 0, torch.ones_like(found), found)
