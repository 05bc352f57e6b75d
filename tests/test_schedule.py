from dataclasses import asdict
from itertools import pairwise

import pytest
import torch
from diffusers import DDPMScheduler
from torch.testing import assert_close

from ldm_tutorial.schedule import NoiseSchedule, ScheduleConfig

THEIR_NAMES = {
    "linear": "linear",
    "scaled_linear": "scaled_linear",
    "cosine": "squaredcos_cap_v2",
}
BETAS = {"linear": (1e-4, 0.02), "scaled_linear": (0.00085, 0.012), "cosine": (0, 0)}


def ours(name, zero_snr=False, T=1000):
    first, last = BETAS[name]
    return NoiseSchedule.from_config(ScheduleConfig(name, T, first, last, zero_snr))


def theirs(name, zero_snr=False, **kwargs):
    first, last = BETAS[name]
    return DDPMScheduler(
        beta_schedule=THEIR_NAMES[name],
        beta_start=first,
        beta_end=last,
        rescale_betas_zero_snr=zero_snr,
        **kwargs,
    )


@pytest.mark.parametrize("name", THEIR_NAMES)
def test_alpha_bar_is_that_of_diffusers(name):
    assert_close(ours(name).alpha_bar, theirs(name).alphas_cumprod, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["linear", "scaled_linear"])
def test_zero_terminal_snr_is_that_of_diffusers(name):
    schedule = ours(name, zero_snr=True)
    wanted = theirs(name, zero_snr=True).alphas_cumprod
    assert schedule.alpha_bar[-1] == 0
    assert_close(schedule.alpha_bar[:-1], wanted[:-1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", THEIR_NAMES)
def test_beta_multiplies_back_to_alpha_bar(name):
    schedule = ours(name)
    product = (1 - schedule.beta.double()).cumprod(0).float()
    assert_close(product, schedule.alpha_bar, atol=1e-5, rtol=1e-3)


def test_snr_is_signal_over_noise():
    schedule = NoiseSchedule(torch.tensor([0.9, 0.5, 0.1]))
    assert_close(schedule.snr, torch.tensor([9.0, 1.0, 1 / 9]))


@pytest.mark.parametrize("steps", [1, 7, 10, 50, 1000])
def test_timesteps_fall_from_the_noisiest(steps):
    times = NoiseSchedule.linear().timesteps(steps)
    assert len(times) == steps and times[0] == 999 and times[-1] >= 0
    assert all(a > b for a, b in pairwise(times))


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_an_impossible_number_of_steps_is_refused(steps):
    with pytest.raises(ValueError, match=f"{steps} sampling steps.*from 1 to 1000"):
        NoiseSchedule.linear().timesteps(steps)


def test_at_shapes_alpha_bar_like_the_batch():
    schedule = NoiseSchedule.linear()
    like = torch.zeros(2, 4, 8, 8, dtype=torch.float64)
    values = schedule.at(torch.tensor([0, 999]), like)
    assert values.shape == (2, 1, 1, 1)
    assert_close(values.flatten(), schedule.alpha_bar[[0, 999]])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_coefficients_stay_in_float32(dtype):
    """In half precision 1 - alpha_bar would be 0 where there is little noise."""
    schedule = NoiseSchedule.linear()
    values = schedule.at(torch.tensor([0]), torch.zeros(1, 4, dtype=dtype))
    assert_close(1 - values.flatten(), torch.tensor([1e-4]), atol=1e-6, rtol=0)


def test_schedules_are_equal_if_their_tables_are():
    one, two = NoiseSchedule.linear(), NoiseSchedule.linear()
    two.at(torch.tensor([3]), torch.zeros(1, 2))  # leaves a copy of its table behind
    assert one == two and hash(one) == hash(two)
    assert one != NoiseSchedule.cosine() and one != "linear"


@pytest.mark.parametrize("wrong", [[0.5, 0.6], [1.0, 0.5], [0.5, 0.5], [0.5, -0.1]])
def test_what_does_not_fall_is_no_schedule(wrong):
    with pytest.raises(ValueError, match="not a noise schedule"):
        NoiseSchedule(torch.tensor(wrong))


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="'sigmoid' is unknown"):
        NoiseSchedule.from_config(ScheduleConfig(name="sigmoid"))


@pytest.mark.parametrize("most", [0.5, 0.999])
def test_no_beta_of_a_cosine_is_above_its_bound(most):
    beta = NoiseSchedule.cosine(100, max_beta=most).beta
    assert_close(beta.max(), torch.tensor(most), atol=1e-4, rtol=0)
    assert_close(beta[-1], beta.max())
    assert NoiseSchedule.cosine(100).alpha_bar[-1] > 0


@pytest.mark.parametrize("name", THEIR_NAMES)
def test_a_schedule_by_its_name_alone_is_that_of_its_paper(name):
    schedule = getattr(NoiseSchedule, name)()
    assert_close(schedule.alpha_bar, theirs(name).alphas_cumprod, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", THEIR_NAMES)
def test_a_schedule_is_a_table_on_the_cpu(name):
    with torch.device("meta"):
        schedule = getattr(NoiseSchedule, name)(4)
    assert schedule.alpha_bar.device.type == "cpu" and len(schedule) == 4
    assert len(getattr(NoiseSchedule, name)(1)) == 1


def test_a_config_that_says_nothing_is_ddpm():
    wanted = {"name": "linear", "num_train_timesteps": 1000, "beta_start": 1e-4}
    wanted |= {"beta_end": 0.02, "zero_terminal_snr": False}
    assert asdict(ScheduleConfig()) == wanted


def test_the_snr_of_a_batch_has_its_shape():
    schedule, t = NoiseSchedule.linear(9), torch.tensor([0, 8, 3])
    found = schedule.snr_at(t, like=torch.zeros(3, 2, 4))
    assert_close(found, schedule.snr[t][:, None, None])


def test_a_schedule_is_one_tensor_and_nothing_else():
    """The tables that it keeps for devices are its own affair."""
    schedule = NoiseSchedule(torch.tensor([0.9, 0.5]))
    schedule.at(torch.tensor([0]), like=torch.zeros(1))
    assert "tables" not in repr(schedule)
    with pytest.raises(TypeError):
        NoiseSchedule(torch.tensor([0.9]), {})
