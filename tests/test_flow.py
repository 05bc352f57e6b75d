"""Flow matching against its equations, against v-prediction, and against diffusers."""

from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from ldm_tutorial.codec import PixelCodec
from ldm_tutorial.diffusion import add_noise, prediction_target
from ldm_tutorial.dit import DiT, DiTConfig
from ldm_tutorial.flow import FlowMatching, FlowSchedule, euler, heun, shift_times
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.samplers import ddim, ddim_step, last
from ldm_tutorial.schedule import ScheduleConfig
from ldm_tutorial.unet import UNet, UNetConfig


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def exact(mean, std):
    """The velocity E[eps - z_0 | z_t] where z_0 is Gaussian."""

    def denoiser(z_t, t):
        t = (t / 1000).view(-1, *[1] * (z_t.ndim - 1)).to(z_t)
        variance = (1 - t) ** 2 * std**2 + t**2
        covariance = t - (1 - t) * std**2
        return covariance / variance * (z_t - (1 - t) * mean) - mean

    return denoiser


def network(z_t, t):
    """Any smooth function."""
    return torch.sin(3 * z_t + t.view(-1, 1, 1, 1).to(z_t) / 700)


def test_the_target_of_the_loss_is_the_velocity_of_the_path():
    """A denoiser that gets z_0 by the back door and puts out eps - z_0 has no loss."""
    z_0, seen = torch.randn(64, 4, 3, 3, dtype=torch.float64), []

    def denoiser(z_t, t):
        seen.append(t)
        t = (t / 1000).view(-1, 1, 1, 1)
        return (z_t - z_0) / t

    loss = FlowMatching().loss(denoiser, z_0, generator=seeded())
    assert float(loss) < 1e-6
    assert seen[0].min() > 0 and seen[0].max() < 1000 and seen[0].shape == (64,)


def test_the_loss_of_the_zero_denoiser_is_the_variance_of_the_target():
    z_0 = 2 * torch.randn(4000, 4, 2, 2, generator=seeded())
    loss = FlowMatching().loss(lambda z, t: 0 * z, z_0, generator=seeded(1))
    assert_close(float(loss), 1 + 4.0, atol=0.05, rtol=0)


def test_a_generator_fixes_the_loss():
    z_0 = torch.randn(8, 4, 2, 2)
    one, two = (FlowMatching().loss(network, z_0, generator=seeded()) for _ in "ab")
    assert_close(one, two, atol=0, rtol=0)
    assert FlowMatching().loss(network, z_0, generator=seeded(1)) != one


@pytest.mark.parametrize("mean, std, shift", [(0.0, 1.0, 1.0), (-0.4, 1.5, 3.0)])
def test_times_are_logit_normal_and_shifted(mean, std, shift):
    objective = FlowMatching(logit_normal=(mean, std), shift=shift)
    t = objective.random_times(torch.empty(100_000, 1), seeded()).double()
    logit = torch.logit(t)  # the shift adds log(shift) to it
    assert_close(
        float(logit.mean()),
        mean + torch.log(torch.tensor(shift)).item(),
        atol=0.02,
        rtol=0,
    )
    assert_close(float(logit.std()), std, atol=0.02, rtol=0)


def test_times_can_be_uniform():
    t = FlowMatching(logit_normal=None).random_times(torch.empty(100_000, 1), seeded())
    shares = torch.histc(t, 10, 0, 1) / len(t)
    assert_close(shares, torch.full((10,), 0.1), atol=0.005, rtol=0)


def test_a_shift_keeps_the_ends_and_goes_up():
    t = torch.linspace(0, 1, 11)
    moved = shift_times(t, 3.0)
    assert moved[0] == 0 and moved[-1] == 1 and bool((moved[1:-1] > t[1:-1]).all())
    assert_close(shift_times(moved, 1 / 3), t)


@pytest.mark.parametrize("s", [1.5, 3.0])
def test_a_shift_undoes_what_more_pixels_give_away(s):
    """The mean of s^2 pixels that should be one has the noise of one at another time:
    Esser et al. 2024, sec. 5.3.2: the ratio t / (1 - t) of the noise falls by s."""
    t = torch.tensor([0.2, 0.5, 0.9])
    moved = shift_times(t, s)
    assert_close(moved / (1 - moved) / s, t / (1 - t))


@pytest.mark.parametrize("t", [0.05, 0.3, 0.5, 0.8, 0.99])
def test_it_is_v_prediction_on_another_schedule_up_to_a_scale(t):
    z_0, eps = torch.randn(2, 5, 4, 2, 2, dtype=torch.float64)
    n = ((1 - t) ** 2 + t**2) ** 0.5
    alpha_bar = torch.tensor(((1 - t) / n) ** 2, dtype=torch.float64)
    z_t, u = (1 - t) * z_0 + t * eps, eps - z_0
    assert_close(z_t / n, add_noise(z_0, eps, alpha_bar))
    v = prediction_target(z_0, eps, alpha_bar, "v")
    assert_close(u, (v + (2 * t - 1) * z_t / n) / n)
    # So the loss of u is the loss of v, weighed by 1 / n^2.
    guess = torch.randn_like(v)
    error = (guess + (2 * t - 1) * z_t / n) / n - u
    assert_close(error.square().mean(), (guess - v).square().mean() / n**2)


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_eulers_step_is_ddims(steps, shift):
    """DDIM on the schedule alpha_bar = ((1 - t) / n)^2 walks through z_t / n."""
    z = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    schedule = FlowSchedule(shift=shift)
    walked = list(euler(network, schedule, z, steps=steps))
    times = schedule.timesteps(steps)
    for i, (t, s) in enumerate(pairwise(times)):
        u = network(z, torch.full((2,), 1000 * t))
        x0, eps = z - t * u, z + (1 - t) * u
        n_t, n_s = (((1 - r) ** 2 + r**2) ** 0.5 for r in (t, s))
        levels = [torch.tensor(((1 - r) / n) ** 2) for r, n in ((t, n_t), (s, n_s))]
        z = ddim_step(x0, eps, *levels) * n_s
        assert_close(walked[i], z, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 10, 28])
@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("spacing", ["even", "default"])
def test_euler_equals_diffusers(steps, shift, spacing):
    """Evenly spaced, as the FLUX pipeline does it, and diffusers' own default."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    theirs = FlowMatchEulerDiscreteScheduler(shift=shift)
    if spacing == "even":
        theirs.set_timesteps(sigmas=torch.linspace(1, 1 / steps, steps).tolist())
        schedule = FlowSchedule(shift=shift)
    else:
        theirs.set_timesteps(steps)
        end = float(shift_times(torch.tensor(1 / 1000), shift))
        schedule = FlowSchedule(shift=shift, last=end)
    z = z_T = torch.randn(2, 4, 4, 4)
    ours = euler(network, schedule, z_T, steps=steps)
    for t in theirs.timesteps:
        z = theirs.step(network(z, t.expand(2)), t, z).prev_sample
        assert_close(next(ours), z, atol=1e-5, rtol=1e-5)
    assert next(ours, None) is None


@pytest.mark.parametrize("steps", [1, 5, 20])
def test_heun_is_heuns_method(steps):
    """Written out anew, with the last step of first order."""
    z_T = z = torch.randn(2, 4, 2, 2, dtype=torch.float64)

    def slope(z, t):
        return network(z, torch.full((2,), 1000 * t))

    for i in range(steps):
        t, s = 1 - i / steps, 1 - (i + 1) / steps
        first = slope(z, t)
        second = slope(z - first / steps, s) if i < steps - 1 else first
        z = z - (first + second) / 2 / steps
    assert_close(
        last(heun(network, FlowSchedule(), z_T, steps=steps)), z, atol=1e-5, rtol=1e-5
    )


def test_heun_takes_two_calls_a_step_but_for_the_last():
    calls = []

    def denoiser(z, t):
        calls.append(float(t[0]))
        return network(z, t)

    last(heun(denoiser, FlowSchedule(), torch.randn(1, 1, 2, 2), steps=4))
    assert calls == [1000, 750, 750, 500, 500, 250, 250]


@pytest.mark.parametrize("draw, order", [(euler, 1), (heun, 2)])
def test_the_error_falls_with_the_order_of_the_method(draw, order):
    """For Gaussian data the flow is known: it scales the noise by std, about mean."""
    z_T, mean, std = torch.randn(64, 1, 1, 1, dtype=torch.float64), 0.5, 0.2
    errors = []
    for steps in (16, 32, 64):
        z_0 = last(draw(exact(mean, std), FlowSchedule(), z_T, steps=steps))
        errors.append(float((z_0 - (mean + std * z_T)).abs().max()))
    for coarse, fine in pairwise(errors):
        assert coarse / fine > 0.8 * 2**order
    assert errors[-1] < 0.05


def test_one_point_is_reached_in_one_step():
    """If all data are one point, paths are straight and Euler's first step is exact."""
    point = torch.randn(1, 3, 2, 2)
    z_T = torch.randn(5, 3, 2, 2)

    def denoiser(z_t, t):
        return (z_t - point) / (t / 1000).view(-1, 1, 1, 1)

    assert_close(
        last(euler(denoiser, FlowSchedule(), z_T, steps=1)), point.expand_as(z_T)
    )


@pytest.mark.parametrize("draw", [euler, heun])
def test_clip_bounds_the_estimate_of_the_clean_array(draw):
    def denoiser(z_t, t):
        return (z_t - 5) / (t / 1000).view(-1, 1, 1, 1)  # whose z_0 is 5 everywhere

    z_T = torch.randn(2, 3, 2, 2)
    z_0 = last(draw(denoiser, FlowSchedule(), z_T, steps=4, clip=1.0))
    assert_close(z_0, torch.ones_like(z_0), atol=1e-5, rtol=1e-5)


def test_a_network_learns_a_flow():
    """The same UNet, unchanged, sees times in between."""
    torch.manual_seed(0)
    unet = UNet(UNetConfig(2, channels=(16,), num_res_blocks=1, attention_levels=()))
    z_0 = torch.tensor([1.5, -1.0]).view(1, 2, 1, 1).expand(32, 2, 4, 4)
    optimizer = torch.optim.Adam(unet.parameters(), 5e-3)
    for _ in range(80):
        optimizer.zero_grad()
        FlowMatching().loss(unet, z_0).backward()
        optimizer.step()
    z = last(euler(unet, FlowSchedule(), torch.randn(16, 2, 4, 4), steps=8))
    assert_close(z.mean((0, 2, 3)), torch.tensor([1.5, -1.0]), atol=0.3, rtol=0)


@pytest.mark.parametrize("steps", [0, 1001])
def test_a_number_of_steps_that_cannot_be_is_refused(steps):
    with pytest.raises(ValueError, match="give 1 to 1000"):
        last(euler(network, FlowSchedule(), torch.randn(1, 1, 2, 2), steps=steps))


@pytest.mark.parametrize("wrong", [{"shift": 0.0}, {"shift": -1.0}])
def test_an_impossible_flow_is_refused(wrong):
    with pytest.raises(ValueError, match="give more than 0"):
        FlowMatching(**wrong)


@pytest.mark.parametrize("config", [FlowMatching, ScheduleConfig])
def test_no_times_at_all_are_refused(config):
    with pytest.raises(ValueError, match="num_train_timesteps=0; give 1 or more"):
        config(num_train_timesteps=0)


def test_configs_come_back():
    objective = FlowMatching(shift=3.0, logit_normal=(-0.5, 0.8), label_dropout=0.2)
    assert FlowMatching.from_config(objective.config) == objective
    assert FlowMatching.from_config({"logit_normal": [0.0, 1.0]}) == FlowMatching()


CLASSES = ("day", "night")


def model(objective=None):
    torch.manual_seed(0)
    dit = DiT(DiTConfig(in_channels=3, patch_size=4, width=16, depth=1, num_classes=2))
    torch.nn.init.normal_(dit.out.weight, std=0.02)
    return LatentDiffusion(
        PixelCodec(), dit, objective=objective, image_size=8, classes=CLASSES
    )


def test_a_flow_drops_into_the_same_model():
    flow = model(FlowMatching(shift=2.0))
    x, y = torch.rand(6, 3, 8, 8) * 2 - 1, torch.arange(6) % 2
    loss, log = flow(x, y, generator=seeded())
    assert loss.requires_grad and loss.item() == log["diffusion"].item()
    one, two = (
        flow.sample(4, steps=3, sampler=name, generator=seeded())
        for name in ("ddim", "euler")
    )
    assert_close(one, two, atol=0, rtol=0)
    assert one.shape == (4, 3, 8, 8)
    guided = flow.sample(4, steps=3, sampler="heun", guidance_scale=3.0)
    assert guided.isfinite().all()


def test_a_flow_is_saved_and_comes_back_whole(tmp_path):
    flow = model(FlowMatching(shift=2.0, logit_normal=None))
    flow.save(tmp_path)
    again = LatentDiffusion.load(tmp_path)
    assert again.objective == flow.objective
    assert isinstance(again.denoiser, DiT)
    drawn = [m.sample(2, steps=2, generator=seeded()) for m in (flow.eval(), again)]
    assert_close(*drawn)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"sampler": "ddpm"}, "'ddpm' is unknown; choose ddim, euler, heun"),
        ({"eta": 0.5}, "eta=0.5 is an option of ddim"),
        ({"sampler": ddim}, "a flow has no noise schedule"),
        ({"steps": 0}, "give 1 to 1000"),
    ],
)
def test_what_a_flow_cannot_do_is_told_in_one_line(options, words):
    with pytest.raises(ValueError, match=words):
        model(FlowMatching()).sample(2, **options)


@pytest.mark.parametrize("name", ["euler", "heun"])
def test_a_diffusion_knows_no_sampler_of_flows(name):
    with pytest.raises(ValueError, match="is unknown; choose ddpm"):
        model().sample(2, sampler=name)
