import json
from dataclasses import asdict

import pytest
import torch
from diffusers import DDPMScheduler
from torch.testing import assert_close

from ldm_tutorial.diffusion import (
    Objective,
    add_noise,
    diffusion_loss,
    logit_normal_times,
    min_snr_weight,
    prediction_target,
    split_prediction,
)
from ldm_tutorial.schedule import NoiseSchedule, ScheduleConfig

TYPES = ["eps", "v", "x0"]


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def arrays():
    generator = torch.Generator().manual_seed(0)
    z_0, eps = torch.randn(2, 6, 4, 8, 8, generator=generator)
    return z_0, eps, torch.tensor([0, 1, 250, 500, 900, 999])


def test_noise_is_added_as_diffusers_does(arrays):
    z_0, eps, t = arrays
    ours = add_noise(z_0, eps, NoiseSchedule.linear().at(t, z_0))
    assert_close(ours, DDPMScheduler().add_noise(z_0, eps, t), atol=1e-5, rtol=0)


def test_z_t_has_the_moments_of_the_forward_process():
    """q(z_t | z_0) = N(sqrt(alpha_bar) z_0, 1 - alpha_bar)."""
    z_0, alpha_bar = torch.full((400_000,), 2.0), torch.tensor(0.3)
    eps = torch.randn(z_0.shape, generator=torch.Generator().manual_seed(0))
    z_t = add_noise(z_0, eps, alpha_bar)
    assert_close(z_t.mean(), 2 * alpha_bar.sqrt(), atol=0.01, rtol=0)
    assert_close(z_t.var(), 1 - alpha_bar, atol=0.01, rtol=0)


def test_many_small_steps_are_one_big_one():
    """Noise added beta by beta gives the variance 1 - alpha_bar and the signal left."""
    schedule = NoiseSchedule.linear(num_train_timesteps=100, beta_end=0.1)
    signal, variance = torch.tensor(1.0).double(), torch.tensor(0.0).double()
    for beta in schedule.beta.double():
        signal, variance = (1 - beta).sqrt() * signal, (1 - beta) * variance + beta
    assert_close(signal.square().float(), schedule.alpha_bar[-1], atol=1e-6, rtol=1e-5)
    assert_close(variance.float(), 1 - schedule.alpha_bar[-1], atol=1e-6, rtol=1e-5)


def test_the_v_target_is_that_of_diffusers(arrays):
    z_0, eps, t = arrays
    alpha_bar = NoiseSchedule.linear().at(t, z_0)
    wanted = DDPMScheduler().get_velocity(z_0, eps, t)
    assert_close(prediction_target(z_0, eps, alpha_bar, "v"), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", TYPES)
def test_the_true_target_gives_back_signal_and_noise(arrays, kind):
    z_0, eps, t = (a.double() if a.is_floating_point() else a for a in arrays)
    alpha_bar = NoiseSchedule.linear().at(t, z_0)
    target = prediction_target(z_0, eps, alpha_bar, kind)
    got = split_prediction(target, add_noise(z_0, eps, alpha_bar), alpha_bar, kind)
    assert_close(got, (z_0, eps), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", TYPES)
def test_a_zero_predictor_loses_the_variance_of_its_target(kind):
    z_0 = torch.randn(4000, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    schedule = NoiseSchedule.linear()
    zero = lambda z_t, t: torch.zeros_like(z_t)  # noqa: E731
    loss = diffusion_loss(zero, schedule, z_0, kind, generator)
    assert_close(loss, torch.tensor(1.0), atol=0.02, rtol=0)


def test_the_exact_denoiser_of_gaussian_data_beats_others():
    """For z_0 ~ N(0, s^2) the best eps estimate is known; any other loses more."""
    s, schedule = 0.5, NoiseSchedule.linear()
    z_0 = s * torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0))

    def denoiser(stretch):
        def predict(z_t, t):
            a = schedule.at(t, z_t)
            return stretch * (1 - a).sqrt() * z_t / (a * s**2 + 1 - a)

        return predict

    losses = [
        diffusion_loss(
            denoiser(k), schedule, z_0, generator=torch.Generator().manual_seed(3)
        )
        for k in (0.9, 1.0, 1.1)
    ]
    assert losses[1] < losses[0] and losses[1] < losses[2]


def test_an_unknown_prediction_type_is_refused(arrays):
    z_0, eps, _ = arrays
    with pytest.raises(ValueError, match="'score' is unknown"):
        prediction_target(z_0, eps, torch.tensor(0.5), "score")
    with pytest.raises(ValueError, match="'score' is unknown"):
        split_prediction(z_0, eps, torch.tensor(0.5), "score")


def test_min_snr_weighs_an_error_alike_however_it_is_predicted():
    """As an error of z_0 every time weighs min(SNR, gamma) (Hang et al. 2023)."""
    schedule, gamma = NoiseSchedule.scaled_linear(), 5.0
    z_0, eps, wrong = torch.randn(3, 1000, 6, generator=seeded())
    a = schedule.alpha_bar.view(-1, 1)
    z_t, snr = add_noise(z_0, eps, a), a / (1 - a)
    wanted = snr.clamp(max=gamma) * (wrong - z_0).square()
    implied = (z_t - a.sqrt() * wrong) / (1 - a).sqrt()  # the eps of a wrong z_0
    for kind in ("eps", "v", "x0"):
        right = prediction_target(z_0, eps, a, kind)
        error = (prediction_target(wrong, implied, a, kind) - right).square()
        assert_close(
            min_snr_weight(snr, gamma, kind) * error, wanted, atol=1e-4, rtol=1e-3
        )


def test_the_loss_is_weighed_by_time():
    schedule = NoiseSchedule.linear()
    z_0 = torch.randn(4000, 2, generator=seeded())
    predictor = lambda z_t, t: torch.zeros_like(z_t)  # noqa: E731
    weighed = diffusion_loss(predictor, schedule, z_0, "eps", seeded(), 5.0)
    wanted = min_snr_weight(schedule.snr, 5.0, "eps").mean()
    assert_close(weighed, wanted, atol=0.03, rtol=0)
    plain = diffusion_loss(predictor, schedule, z_0, "eps", seeded())
    assert plain > weighed


def test_logit_normal_times_have_the_logit_that_was_asked_for():
    T = 1_000_000
    normal = torch.randn(20_000, dtype=torch.float64, generator=seeded())
    t = logit_normal_times(normal, T, -0.4, 0.8)
    logit = ((t.double() + 0.5) / T).logit()
    assert_close(logit, -0.4 + 0.8 * normal, atol=1e-3, rtol=0)
    ends = logit_normal_times(torch.tensor([-1e4, 1e4]), 1000, 0.0, 1.0)
    assert ends.tolist() == [0, 999]


@pytest.mark.parametrize("logit_normal", [(-3.0, 0.5), (2.0, 0.5)])
def test_the_loss_is_of_the_times_that_are_drawn(logit_normal):
    seen = []

    def zero(z_t, t):
        seen.append(t)
        return torch.zeros_like(z_t)

    z_0, schedule = torch.randn(4000, 2, generator=seeded()), NoiseSchedule.linear()
    diffusion_loss(zero, schedule, z_0, generator=seeded(), logit_normal=logit_normal)
    wanted = 1000 * torch.tensor(logit_normal[0]).sigmoid()  # the median
    assert_close(seen[0].float().median(), wanted, atol=20, rtol=0)


def test_a_weight_is_finite_where_no_signal_is_left():
    snr = torch.tensor([0.0, 1e-9, 1.0, 1e4])
    for kind in ("v", "x0"):
        assert min_snr_weight(snr, 5.0, kind).isfinite().all()
    with pytest.raises(ValueError, match="choose eps, v or x0"):
        min_snr_weight(snr, 5.0, "score")


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"label_dropout": 1.5}, "label_dropout=1.5; give 0 to 1"),
        ({"min_snr_gamma": 0}, "min_snr_gamma=0; give more than 0"),
        ({"logit_normal": (0.0, 0.0)}, "standard deviation above 0"),
        ({"prediction_type": "noise"}, "'noise' is unknown; choose eps, v or x0"),
        ({"schedule": ScheduleConfig(zero_terminal_snr=True)}, "choose prediction_ty"),
    ],
)
def test_an_objective_that_no_training_can_use_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message) as caught:
        Objective(**wrong)
    assert "\n" not in str(caught.value)


def test_an_objective_comes_back_from_its_config():
    schedule = ScheduleConfig("cosine", 100)
    objective = Objective(schedule, "v", 5.0, (-0.4, 1.0), 0.2)
    written = json.loads(json.dumps(objective.config))
    assert Objective.from_config(written) == objective
    assert objective.noise_schedule == NoiseSchedule.cosine(100)


@pytest.mark.parametrize("kind", TYPES)
def test_the_objective_has_the_loss_that_its_fields_describe(kind, arrays):
    z_0 = arrays[0]
    objective = Objective(prediction_type=kind, min_snr_gamma=5.0, logit_normal=(0, 1))

    def denoiser(z_t, t):
        return 0.5 * z_t

    found = objective.loss(denoiser, z_0, generator=seeded())
    schedule = NoiseSchedule.linear()
    wanted = diffusion_loss(denoiser, schedule, z_0, kind, seeded(), 5.0, (0, 1))
    assert_close(found, wanted)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_prediction_in_half_precision_is_split_in_float32(kind, dtype, arrays):
    """Where there is little noise, 1 - alpha_bar would be 0 in half precision."""
    z_0, eps, t = arrays
    alpha_bar_t = NoiseSchedule.linear().at(t, z_0)
    z_t = add_noise(z_0.to(dtype), eps.to(dtype), alpha_bar_t)
    target = prediction_target(z_0.to(dtype), eps.to(dtype), alpha_bar_t, kind)
    assert z_t.dtype == target.dtype == dtype
    x0, noise = split_prediction(target, z_t, alpha_bar_t, kind)
    assert x0.dtype == noise.dtype == dtype
    assert bool(x0.isfinite().all()) and bool(noise.isfinite().all())


def test_an_objective_that_says_nothing_is_ddpms():
    wanted = {"prediction_type": "eps", "min_snr_gamma": None, "logit_normal": None}
    wanted |= {"schedule": asdict(ScheduleConfig()), "label_dropout": 0.1}
    assert Objective().config == wanted and Objective.from_config({}) == Objective()


def test_the_usual_gamma_is_five():
    snr = torch.tensor([0.1, 4.0, 6.0, 100.0])
    assert torch.equal(min_snr_weight(snr), min_snr_weight(snr, 5.0, "eps"))
    assert_close(min_snr_weight(snr), (5 / snr).clamp(max=1))
    with pytest.raises(ValueError, match="gamma=0"):
        min_snr_weight(snr, 0)


def test_an_objective_says_on_disk_what_it_is():
    assert Objective.kind == "Objective"
    assert Objective.from_config(Objective(prediction_type="v").config) == Objective(
        prediction_type="v"
    )
