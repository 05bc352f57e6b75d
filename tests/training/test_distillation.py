"""Progressive distillation: one step of the student is two of the teacher."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.data import TensorDataset

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.diffusion import Objective
from ldm_tutorial.flow import FlowMatching
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.samplers import ddim, last
from ldm_tutorial.schedule import ScheduleConfig
from ldm_tutorial.training import distillation
from ldm_tutorial.training.config import TrainConfig
from ldm_tutorial.training.distillation import Distillation, student_of, v_of_one_step
from ldm_tutorial.training.loop import train
from ldm_tutorial.unet import UNet, UNetConfig
from ldm_tutorial.vae import AutoencoderKL, VAEConfig

CODEC = VAEConfig(channels=(8, 8), downsampling=4, decoder_patch=4, encoder_patch=4)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Bent(nn.Module):
    """A denoiser that depends on everything, and not linearly."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7))

    def forward(self, z_t, t, y=None):
        wide = (t / 1000).view(-1, 1, 1, 1)
        bent = torch.sin(z_t + wide) * self.weight
        return bent if y is None else bent + 0.1 * y.view_as(wide)


def teacher(kind="eps", denoiser=None, name="linear"):
    torch.manual_seed(0)
    return LatentDiffusion(
        LatentCodec(AutoencoderKL(CODEC), 0.3, 1.7),
        denoiser or Bent(),
        objective=Objective(ScheduleConfig(name, 1000), kind),
        image_size=16,
        classes=("a", "b", "c"),
    )


class Perfect(nn.Module):
    """The student that has learned all there is."""

    def __init__(self, task, y):
        super().__init__()
        self.task, self.y = task, y

    def forward(self, z_t, t, y=None):
        task, y = self.task, self.y if y is None else y
        i = (task.times == t[:, None]).long().argmax(1)
        middle, s = task.times[i + 1], task.times[i + 2]
        z_s = task.teacher_step(task.teacher_step(z_t, t, middle, y), middle, s, y)
        schedule = task.student.schedule
        levels = [distillation.level(schedule, at, z_t) for at in (t, s)]
        return v_of_one_step(z_t, z_s, *levels)


@pytest.mark.parametrize("kind", ["eps", "v", "x0"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_perfect_student_draws_in_half_the_steps_what_its_teacher_draws(kind, steps):
    model, y = teacher(kind), torch.tensor([0, 1, 2])
    task = Distillation(student_of(model), model, steps)
    z_T = torch.randn(3, 4, 4, 4, generator=seeded())
    wanted = last(
        ddim(
            lambda z_t, t: model.denoiser(z_t, t, y),
            model.schedule,
            z_T,
            steps=2 * steps,
            prediction_type=kind,
        )
    )
    perfect = Perfect(task, y)
    found = last(ddim(perfect, model.schedule, z_T, steps=steps, prediction_type="v"))
    assert_close(found, wanted, atol=1e-3, rtol=1e-3)


def test_a_perfect_student_has_no_loss_and_another_has():
    model = teacher("v")
    student = student_of(model)
    task, y = Distillation(student, model, 4), torch.tensor([0, 1, 2, 0])
    moments = torch.randn(4, 8, 4, 4, generator=seeded())
    loss, parts = task(moments, y, generator=seeded(1))
    assert loss > 1e-3 and parts["distillation"] == loss and loss.requires_grad
    student.denoiser = Perfect(task, None)
    loss, _ = task(moments, y, generator=seeded(1))
    assert loss < 1e-8


def test_the_student_is_asked_at_the_times_of_its_own_steps_only():
    model = teacher("v")
    task = Distillation(student_of(model), model, 4)
    own = set(model.schedule.timesteps(4))
    assert task.times.tolist() == [*model.schedule.timesteps(8), -1]
    assert set(task.times[:-1:2].tolist()) == own
    seen = set()
    task.student.denoiser.register_forward_pre_hook(
        lambda _, given: seen.update(given[1].tolist())
    )
    task(torch.zeros(64, 8, 4, 4), torch.zeros(64).long(), generator=seeded())
    assert seen == own


def test_an_unconditional_model_is_not_shown_the_labels():
    model = teacher("v")
    model.classes = ()
    seen = []

    def denoiser(z_t, t, y=None):
        seen.append(y)
        return z_t

    model.denoiser = nn.Identity()
    model.denoiser.forward = denoiser
    task = Distillation(student_of(model), model, 2)
    task.student.denoiser = model.denoiser
    task(torch.zeros(2, 8, 4, 4), torch.zeros(2).long(), generator=seeded())
    assert seen == [None] * 3


def test_v_of_one_step_is_that_of_the_line_through_both_points():
    x0, eps = torch.randn(2, 5, 4, 2, 2, generator=seeded()).double()
    a_t, a_s = torch.tensor(0.3).double(), torch.tensor(0.8).double()
    z_t = a_t.sqrt() * x0 + (1 - a_t).sqrt() * eps
    z_s = a_s.sqrt() * x0 + (1 - a_s).sqrt() * eps
    v = a_t.sqrt() * eps - (1 - a_t).sqrt() * x0
    assert_close(v_of_one_step(z_t, z_s, a_t, a_s), v)
    clean = v_of_one_step(z_t, x0, a_t, torch.ones(()).double())  # s at the data
    assert_close(clean, v)


def test_student_and_teacher_are_two_models():
    model = teacher("eps")
    model.requires_grad_(False)
    student = student_of(model)
    assert student.prediction_type == "v" and model.prediction_type == "eps"
    assert student.denoiser.weight.requires_grad
    task = Distillation(student, model, 1)
    names = [name for name, p in task.named_parameters() if p.requires_grad]
    assert names == ["student.denoiser.weight"]
    assert not any(name.startswith("frozen") for name in task.state_dict())


def test_what_cannot_be_distilled_is_refused():
    flow = teacher("v")
    flow.objective = FlowMatching()
    with pytest.raises(TypeError, match="objective is a FlowMatching; give a model"):
        student_of(flow)
    model = teacher("v")
    with pytest.raises(ValueError, match="1200 sampling steps were asked"):
        Distillation(student_of(model), model, 600)


def test_training_brings_a_student_nearer_to_its_teacher(tmp_path):
    """The weights of the average draw in one step what the teacher draws in two."""
    torch.manual_seed(0)
    net = UNet(UNetConfig(4, (32,), 1, (), num_classes=3))
    nn.init.normal_(list(net.parameters())[-2], std=0.1)  # it would be zero
    model = teacher("v", net)
    data = TensorDataset(
        torch.randn(16, 8, 4, 4, generator=seeded()), torch.zeros(16).long()
    )
    student = student_of(model)
    task = Distillation(student, model, 1)
    config = TrainConfig(steps=60, batch_size=16, log_every=1, ema_decay=0.9)
    log = train(task, data, replace(config, learning_rate=3e-3), tmp_path)
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]
    y, z_T = torch.zeros(8).long(), torch.randn(8, 4, 4, 4, generator=seeded(3))
    wanted = last(model.sample_latents(y=y, steps=2, z_T=z_T))
    apart = [
        float((last(m.sample_latents(y=y, steps=1, z_T=z_T)) - wanted).square().mean())
        for m in (model, student)
    ]
    assert apart[1] < apart[0]
