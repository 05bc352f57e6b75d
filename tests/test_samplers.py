import math
from itertools import pairwise

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
)
from torch.testing import assert_close

from ldm_tutorial.diffusion import add_noise
from ldm_tutorial.guidance import guided
from ldm_tutorial.noise import generators, normal_like
from ldm_tutorial.samplers import (
    ddim,
    ddim_step,
    ddpm,
    ddpm_step,
    dpm_solver_pp,
    estimate,
    find_sampler,
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


UNCLIPPED = {"clip_sample": False}


def pair(scheduler, name, kind, **kwargs):
    """Our schedule and the scheduler of diffusers that should agree with it."""
    ours, first, last_ = SCHEDULES[name]
    theirs = scheduler(
        beta_schedule=name,
        beta_start=first,
        beta_end=last_,
        prediction_type=THEIR_TYPES[kind],
        timestep_spacing="trailing",
        **kwargs,
    )
    config = ScheduleConfig(ours, 1000, first, last_)
    return NoiseSchedule.from_config(config), theirs


def seeded():
    return torch.Generator().manual_seed(0)


def fixed(prediction):
    return lambda z_t, t: prediction


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("kind", THEIR_TYPES)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_steps_are_those_of_diffusers(name, kind, eta):
    schedule, theirs = pair(DDIMScheduler, name, kind, **UNCLIPPED)
    theirs.set_timesteps(20)
    generator = torch.Generator().manual_seed(0)
    z, prediction = torch.randn(2, 2, 4, 8, 8, generator=generator)
    assert schedule.timesteps(20) == theirs.timesteps.tolist()
    # The first step of a cosine schedule divides by 1e-4: compare from the next on.
    for t, alpha_bar_t, alpha_bar_s in intervals(schedule, 20)[1:]:
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
    more = UNCLIPPED | {"variance_type": "fixed_small"}
    schedule, theirs = pair(DDPMScheduler, name, kind, **more)
    theirs.set_timesteps(steps)
    generator = torch.Generator().manual_seed(0)
    z, prediction = torch.randn(2, 2, 4, 8, 8, generator=generator)
    chosen = intervals(schedule, steps)
    for t, alpha_bar_t, alpha_bar_s in chosen[1 :: len(chosen) // 20]:
        x0, _ = estimate(fixed(prediction), schedule, z, t, kind)
        ours = ddpm_step(
            z, x0, alpha_bar_t, alpha_bar_s, torch.Generator().manual_seed(5)
        )
        wanted = theirs.step(
            prediction, t, z, generator=torch.Generator().manual_seed(5)
        ).prev_sample
        assert_close(ours, wanted, atol=1e-5, rtol=1e-5)


def a_denoiser(z_t, t):
    """Some smooth function of both, of bounded slope."""
    return 0.3 * torch.sin(2 * z_t + t.view(-1, 1, 1, 1) / 300)


# diffusers hands tensors to numpy in a way that numpy 2 is going to change.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("kind", THEIR_TYPES)
@pytest.mark.parametrize("steps", [5, 15, 20])
@pytest.mark.parametrize("zero", [False, True])
def test_dpm_solver_walks_as_that_of_diffusers(name, kind, steps, zero):
    if kind == "eps" and (zero or name == "squaredcos_cap_v2"):
        pytest.skip("eps says nothing where hardly any signal is left")
    if zero and name == "linear":
        pytest.skip("2**-24 in place of zero is more than one step earlier")
    _, theirs = pair(
        DPMSolverMultistepScheduler,
        name,
        kind,
        algorithm_type="dpmsolver++",
        solver_order=2,
        final_sigmas_type="zero",
        rescale_betas_zero_snr=zero,
    )
    # Their schedule, which is ours to rounding (test_schedule.py), but for 2**-24 in
    # place of a zero.
    schedule = NoiseSchedule(theirs.alphas_cumprod.clone())
    theirs.set_timesteps(steps)
    z = wanted = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    walk = list(
        dpm_solver_pp(a_denoiser, schedule, z, steps=steps, prediction_type=kind)
    )
    for t, ours in zip(theirs.timesteps, walk, strict=True):
        wanted = theirs.step(a_denoiser(wanted, t.expand(2)), t, wanted).prev_sample
        assert_close(ours, wanted, atol=1e-5, rtol=1e-5)


def test_dpm_solver_starts_where_no_signal_is_left():
    """An exact zero, and the tiny signal that diffusers puts in its place."""
    schedule = NoiseSchedule.scaled_linear().with_zero_terminal_snr()
    nearly = schedule.alpha_bar.clone()
    nearly[-1] = 2**-24
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    one, two = (
        last(dpm_solver_pp(a_denoiser, s, z, steps=15, prediction_type="v"))
        for s in (schedule, NoiseSchedule(nearly))
    )
    assert one.isfinite().all()
    assert_close(one, two, atol=1e-3, rtol=0)


@pytest.mark.parametrize("sampler", [ddim, ddpm])
def test_zero_terminal_snr_is_sampled_as_diffusers_does(sampler):
    theirs_of = {ddim: DDIMScheduler, ddpm: DDPMScheduler}
    more = UNCLIPPED | ({} if sampler is ddim else {"variance_type": "fixed_small"})
    schedule, theirs = pair(
        theirs_of[sampler], "scaled_linear", "v", rescale_betas_zero_snr=True, **more
    )
    schedule = schedule.with_zero_terminal_snr()
    theirs.set_timesteps(20)
    z = wanted = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    ours, dice = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    walk = sampler(
        a_denoiser, schedule, z, steps=20, prediction_type="v", generator=ours
    )
    for t, got in zip(theirs.timesteps, walk, strict=True):
        prediction = a_denoiser(wanted, t.expand(2))
        wanted = theirs.step(prediction, t, wanted, generator=dice).prev_sample
        assert_close(got, wanted, atol=1e-5, rtol=1e-5)


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
        a = schedule.alpha_bar[t[0]].to(z_t)
        total = a * COV.to(z_t) + (1 - a) * torch.eye(2).to(z_t)
        centred = z_t - a.sqrt() * MEAN.to(z_t)
        return (1 - a).sqrt() * torch.linalg.solve(total, centred.T).T

    return predict


@pytest.mark.parametrize(
    "sampler, options",
    [
        (ddpm, {"steps": 1000}),
        (ddim, {"steps": 200}),
        (ddim, {"steps": 500, "eta": 1.0}),
        (dpm_solver_pp, {"steps": 40}),
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


def error(sampler, steps):
    """Distance from the exact solution of the probability-flow equation, which maps
    N(MEAN_t, COV_t) to N(MEAN, COV), over steps that are even in log SNR."""
    half_log_snr = torch.linspace(5, -2, steps).double()
    schedule = NoiseSchedule(torch.sigmoid(2 * half_log_snr))
    a = schedule.alpha_bar[-1]
    values, axes = torch.linalg.eigh(COV.double())
    stretch = (values / (a * values + 1 - a)).sqrt()
    z_T = torch.randn(500, 2, generator=torch.Generator().manual_seed(0)).double()
    mean = MEAN.double()
    exact = mean + (z_T - a.sqrt() * mean) @ axes @ torch.diag(stretch) @ axes.T
    z_0 = last(sampler(exact_denoiser(schedule), schedule, z_T, steps=steps))
    return float((z_0 - exact).square().mean().sqrt())


@pytest.mark.parametrize("sampler, order", [(ddim, 1), (dpm_solver_pp, 2)])
def test_the_error_falls_at_the_order_of_the_sampler(sampler, order):
    for coarse, fine in pairwise(error(sampler, steps) for steps in (20, 40, 80)):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.25)


def test_dpm_solver_needs_fewer_steps_than_ddim():
    assert error(dpm_solver_pp, 10) < error(ddim, 40)


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
    for parameter in unet.parameters():  # zeros would make it blind to its class
        if not bool(parameter.any()):
            torch.nn.init.normal_(parameter, std=0.1)
    z, t = torch.randn(1, 4, 8, 8), torch.tensor([400])
    with torch.no_grad():
        difference = unet(z, t, torch.tensor([0])) - unet(z, t)
    assert difference.abs().max() > 0.01
    return unet


def test_guidance_is_linear_in_its_scale(unet):
    z, t, y = torch.randn(2, 4, 8, 8), torch.tensor([400, 400]), torch.tensor([0, 1])
    with torch.no_grad():
        cond, uncond = unet(z, t, y), unet(z, t)
        for scale in (0.0, 1.0, 2.5):
            wanted = uncond + scale * (cond - uncond)
            got = guided(unet, y, scale)(z, t)
            assert_close(got, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", [(2, 5), (2, 3, 4), (2, 4, 8, 8)])
@pytest.mark.parametrize("no_class", [None, 7])
def test_any_denoiser_of_any_array_is_guided(shape, no_class):
    """The same for a plain function, which is asked twice or once."""
    calls = []

    def denoiser(z_t, t, y=None):
        calls.append(len(z_t))
        labels = torch.full((len(z_t),), 7) if y is None else y
        return z_t * labels.view(-1, *[1] * (z_t.ndim - 1))

    z, t, y = torch.randn(shape), torch.tensor([1, 2]), torch.tensor([0, 3])
    found = guided(denoiser, y, 2.0, 0.0, no_class)(z, t)
    weights = (7 + 2.0 * (y - 7)).view(-1, *[1] * (z.ndim - 1))
    assert found.shape == z.shape
    assert_close(found, z * weights)
    assert calls == ([2, 2] if no_class is None else [4])


def test_without_classes_there_is_nothing_to_guide(unet):
    z, t = torch.randn(2, 4, 8, 8), torch.tensor([400, 400])
    with torch.no_grad():
        assert_close(guided(unet, None, 5.0)(z, t), unet(z, t))


@pytest.mark.parametrize("rescale", [0.0, 0.7, 1.0])
def test_the_rescale_brings_the_spread_back(unet, rescale):
    """Lin et al. 2024, eqs. 15 and 16, with spreads per image."""
    z, t, y = torch.randn(2, 4, 8, 8), torch.tensor([400, 400]), torch.tensor([0, 1])
    with torch.no_grad():
        cond, uncond = unet(z, t, y), unet(z, t)
        ours = guided(unet, y, 6.0, rescale)(z, t)
    for image in range(2):
        mixed = uncond[image] + 6.0 * (cond[image] - uncond[image])
        factor = cond[image].std() / mixed.std()
        wanted = (rescale * factor + 1 - rescale) * mixed
        assert_close(ours[image], wanted, atol=1e-5, rtol=1e-4)
    if rescale == 1:
        assert_close(ours.std((1, 2, 3)), cond.std((1, 2, 3)))


@pytest.mark.parametrize("sampler", [ddpm, ddim, dpm_solver_pp])
def test_an_image_with_its_own_generator_is_the_same_in_any_batch(sampler):
    schedule, options = NoiseSchedule.linear(), {"eta": 0.5} if sampler is ddim else {}

    def draw(n, start):
        dice = generators(0, n, start)
        z_T = normal_like(torch.empty(n, 4, 8, 8), dice)
        return last(
            sampler(a_denoiser, schedule, z_T, steps=10, generator=dice, **options)
        )

    assert_close(draw(1, 7), draw(16, 0)[7:8], atol=1e-5, rtol=1e-5)


# --- precision ------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", [ddpm, ddim, dpm_solver_pp])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("steps", [10, 100, 1000])
def test_half_precision_follows_float32(sampler, dtype, steps):
    """The denoiser answers in half precision; the samples stay within 2 % of the spread
    of those in float32, for the same noise."""
    schedule, exact = NoiseSchedule.linear(), exact_denoiser(NoiseSchedule.linear())
    z_T = torch.randn(400, 2, generator=torch.Generator().manual_seed(0)).to(dtype)
    seen = set()

    def half(z_t, t):
        seen.add(z_t.dtype)
        return exact(z_t.float(), t).to(dtype)

    def run(denoiser, z_T):
        generator = torch.Generator().manual_seed(1)
        return last(sampler(denoiser, schedule, z_T, steps=steps, generator=generator))

    found, wanted = run(half, z_T), run(exact, z_T.float())
    assert found.dtype == dtype and seen == {dtype}
    assert bool(found.isfinite().all())
    difference = (found.float() - wanted).square().mean().sqrt() / wanted.std()
    assert float(difference) < 0.02


@pytest.mark.parametrize("sampler", [ddpm, ddim, dpm_solver_pp])
def test_what_is_no_noise_and_no_bound_is_refused(sampler):
    schedule = NoiseSchedule.linear(10)
    with pytest.raises(TypeError, match="int64; give standard normal noise"):
        last(sampler(fixed(0), schedule, torch.zeros(2, 2).long(), steps=2))
    for clip in (0.0, float("nan")):
        with pytest.raises(ValueError, match=r"clip=.*give more than 0"):
            last(sampler(fixed(0), schedule, torch.zeros(2, 2), steps=2, clip=clip))


@pytest.mark.parametrize("eta", [-0.1, 2.0, float("nan")])
def test_eta_is_a_share(eta):
    with pytest.raises(ValueError, match=r"eta=.*give 0"):
        last(
            ddim(fixed(0), NoiseSchedule.linear(9), torch.zeros(1, 2), steps=2, eta=eta)
        )


def test_plain_ddpm_takes_all_the_steps_that_the_schedule_has():
    schedule, z_T = NoiseSchedule.linear(), torch.randn(1, 1, generator=seeded())
    arrays = list(ddpm(lambda z_t, t: 0 * z_t, schedule, z_T, generator=seeded()))
    assert len(arrays) == len(schedule) == 1000


def test_eta_is_looked_at_before_anything_is_drawn():
    """Also for a sampler of one's own, which may not look at it itself."""

    def own(denoiser, schedule, z_T, *, eta=0.0):
        yield z_T

    for sampler in ("ddim", own):
        with pytest.raises(ValueError, match=r"eta=2\.0; give 0"):
            find_sampler(sampler, None, 2.0)
    assert find_sampler(own, None, 0.5) is own
    for plain in (ddpm, "ddpm"):
        with pytest.raises(ValueError, match=r"option of ddim; .* with ddpm$"):
            find_sampler(plain, None, 0.5)
