import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch.testing import assert_close

from ldm_tutorial.diffusion import add_noise
from ldm_tutorial.samplers import (
    ddim,
    ddim_step,
    ddpm,
    ddpm_step,
    estimate,
    guided,
    intervals,
    last,
)
from ldm_tutorial.schedule import NoiseSchedule, ScheduleConfig
from ldm_tutorial.unet import UNet, UNetConfig

SCHEDULES = {
    "linear": ("linear", 1e-4, 0.02),
    "scaled_linear": ("scaled_linear", 0.00085, 0.012),
    "squaredcos_cap_v2": ("cosine", 0.0, 0.0),
}
THEIR_TYPES = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}


def pair(scheduler, name, kind, **kwargs):
    """Our schedule and the scheduler of diffusers that should agree with it."""
    ours, first, last_ = SCHEDULES[name]
    theirs = scheduler(
        beta_schedule=name,
        beta_start=first,
        beta_end=last_,
        prediction_type=THEIR_TYPES[kind],
        timestep_spacing="trailing",
        clip_sample=False,
        **kwargs,
    )
    config = ScheduleConfig(ours, 1000, first, last_)
    return NoiseSchedule.from_config(config), theirs


def fixed(prediction):
    return lambda z_t, t: prediction


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("kind", THEIR_TYPES)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_steps_are_those_of_diffusers(name, kind, eta):
    schedule, theirs = pair(DDIMScheduler, name, kind)
    theirs.set_timesteps(20)
    generator = torch.Generator().manual_seed(0)
    z, prediction = torch.randn(2, 2, 4, 8, 8, generator=generator)
    assert schedule.timesteps(20) == theirs.timesteps.tolist()
    # The first step of a cosine schedule divides by 1e-4: compare from the next on.
    for t, alpha_bar_t, alpha_bar_s in intervals(schedule, 20, z)[1:]:
        x0, eps = estimate(fixed(prediction), schedule, z, t, kind)
        ours = ddim_step(
            x0, eps, alpha_bar_t, alpha_bar_s, eta, torch.Generator().manual_seed(5)
        )
        wanted = theirs.step(
            prediction, t, z, eta=eta, generator=torch.Generator().manual_seed(5)
        ).prev_sample
        assert_close(ours, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("kind", THEIR_TYPES)
@pytest.mark.parametrize("steps", [20, 1000])
def test_ddpm_steps_are_those_of_diffusers(name, kind, steps):
    schedule, theirs = pair(DDPMScheduler, name, kind, variance_type="fixed_small")
    theirs.set_timesteps(steps)
    generator = torch.Generator().manual_seed(0)
    z, prediction = torch.randn(2, 2, 4, 8, 8, generator=generator)
    chosen = intervals(schedule, steps, z)
    for t, alpha_bar_t, alpha_bar_s in chosen[1 :: len(chosen) // 20]:
        x0, _ = estimate(fixed(prediction), schedule, z, t, kind)
        ours = ddpm_step(
            z, x0, alpha_bar_t, alpha_bar_s, torch.Generator().manual_seed(5)
        )
        wanted = theirs.step(
            prediction, t, z, generator=torch.Generator().manual_seed(5)
        ).prev_sample
        assert_close(ours, wanted, atol=1e-5, rtol=1e-5)


def test_the_ddpm_step_is_bayes_rule():
    """q(z_s | z_t, z_0) from the joint Gaussian of z_s and z_t given z_0."""
    z_0, z_t = torch.tensor(0.7).double(), torch.tensor(-0.4).double()
    a_t, a_s = torch.tensor(0.3).double(), torch.tensor(0.8).double()
    alpha = a_t / a_s
    precision = 1 / (1 - a_s) + alpha / (1 - alpha)
    mean = (a_s.sqrt() * z_0 / (1 - a_s) + alpha.sqrt() * z_t / (1 - alpha)) / precision
    n = 200_000
    draws = ddpm_step(z_t.expand(n), z_0, a_t, a_s, torch.Generator().manual_seed(0))
    assert_close(draws.mean(), mean, atol=3e-3, rtol=0)
    assert_close(draws.var(), 1 / precision, atol=3e-3, rtol=0)


MEAN = torch.tensor([0.5, -0.3])
COV = torch.tensor([[0.6, 0.25], [0.25, 0.2]])


def exact_denoiser(schedule):
    """E[eps | z_t] for z_0 ~ N(MEAN, COV)."""

    def predict(z_t, t):
        a = schedule.alpha_bar[t[0]]
        total = a * COV + (1 - a) * torch.eye(2)
        centred = z_t - a.sqrt() * MEAN
        return (1 - a).sqrt() * torch.linalg.solve(total, centred.T).T

    return predict


@pytest.mark.parametrize(
    "sampler, options",
    [
        (ddpm, {"steps": 1000}),
        (ddim, {"steps": 200}),
        (ddim, {"steps": 500, "eta": 1.0}),
    ],
)
def test_the_exact_denoiser_of_a_gaussian_samples_that_gaussian(sampler, options):
    schedule, n = NoiseSchedule.linear(), 10_000
    generator = torch.Generator().manual_seed(0)
    z_T = torch.randn(n, 2, generator=generator)
    z = last(
        sampler(exact_denoiser(schedule), schedule, z_T, generator=generator, **options)
    )
    assert_close(z.mean(0), MEAN, atol=0.03, rtol=0)
    assert_close(torch.cov(z.T), COV, atol=0.03, rtol=0)


def test_more_ddim_steps_come_closer_to_the_gaussian():
    schedule = NoiseSchedule.linear()
    z_T = torch.randn(5_000, 2, generator=torch.Generator().manual_seed(0))

    def error(steps):
        z = last(ddim(exact_denoiser(schedule), schedule, z_T, steps=steps))
        return (torch.cov(z.T) - COV).norm()

    assert error(80) < 0.5 * error(20) < 0.25 * error(5)


def test_samplers_yield_every_step_and_end_in_the_estimate():
    schedule, z_T = NoiseSchedule.linear(), torch.randn(3, 2)
    *steps, z_0 = ddim(exact_denoiser(schedule), schedule, z_T, steps=10)
    assert len(steps) == 9
    t = schedule.timesteps(10)[-1]
    x0, _ = estimate(exact_denoiser(schedule), schedule, steps[-1], t)
    assert_close(z_0, x0)


def test_clip_bounds_the_estimate_and_keeps_z_t():
    schedule, z = NoiseSchedule.linear(), torch.randn(4, 2)
    x0, eps = estimate(fixed(-2 * z), schedule, z, 800, clip=1.0)
    a = schedule.alpha_bar[800]
    assert x0.abs().max() <= 1
    assert_close(add_noise(x0, eps, a), z)


@pytest.fixture
def unet():
    torch.manual_seed(0)
    unet = UNet(UNetConfig(channels=(32,), num_res_blocks=1, num_classes=2))
    torch.nn.init.normal_(unet.out[-1].weight, std=0.1)
    return unet


def test_guidance_is_linear_in_its_scale(unet):
    z, t, y = torch.randn(2, 4, 8, 8), torch.tensor([400, 400]), torch.tensor([0, 1])
    with torch.no_grad():
        cond, uncond = unet(z, t, y), unet(z, t)
        for scale in (0.0, 1.0, 2.5):
            wanted = uncond + scale * (cond - uncond)
            got = guided(unet, y, scale)(z, t)
            assert_close(got, wanted, atol=1e-5, rtol=1e-4)


def test_without_classes_there_is_nothing_to_guide(unet):
    z, t = torch.randn(2, 4, 8, 8), torch.tensor([400, 400])
    with torch.no_grad():
        assert_close(guided(unet, None, 5.0)(z, t), unet(z, t))
