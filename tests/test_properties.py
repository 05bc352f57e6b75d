"""What holds for any values: shapes, ranges, schedules and round trips.

Hypothesis draws the values, the same ones at every run, and shows the smallest that
break a property. Each property costs a fraction of a second.
"""

import json
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.testing import assert_close

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.data.images import to_tensor
from ldm_tutorial.data.splits import by_hash, carve
from ldm_tutorial.diffusion import (
    Objective,
    add_noise,
    logit_normal_times,
    min_snr_weight,
    prediction_target,
    split_prediction,
)
from ldm_tutorial.disk import read_json, write_json
from ldm_tutorial.dit import patchify, unpatchify
from ldm_tutorial.evaluation.latents import slerp
from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.guidance import guided, spread
from ldm_tutorial.metrics import psnr, ssim
from ldm_tutorial.noise import generators, normal_like
from ldm_tutorial.samplers import ddim_step, ddpm_step, dpm_solver_step
from ldm_tutorial.schedule import NoiseSchedule, ScheduleConfig
from ldm_tutorial.storage import config_from_dict, config_to_dict
from ldm_tutorial.training.batches import StepSampler
from ldm_tutorial.training.config import TrainConfig, learning_rate
from ldm_tutorial.training.losses import kl_weight_from, kl_weight_to
from ldm_tutorial.unet import UNetConfig
from ldm_tutorial.vae import AutoencoderKL, VAEConfig

settings.register_profile(
    "same",
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("same")

seeds = st.integers(0, 2**31)
shares = st.floats(0.001, 0.999)
predictions = st.sampled_from(["eps", "v", "x0"])


def normal(shape, seed):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64)


@st.composite
def schedules(draw):
    """A config that describes a schedule: linear ones of more noise than float32 can
    tell from none are refused."""
    name = draw(st.sampled_from(["linear", "scaled_linear", "cosine"]))
    T = draw(st.integers(2, 1000))
    first = draw(st.floats(1e-5, 0.05))
    last = draw(st.floats(first, 0.05))
    return ScheduleConfig(name, T, first, last, draw(st.booleans()))


# --- the forward process --------------------------------------------------------------


@given(schedules())
def test_a_schedule_falls_and_its_betas_give_it_back(config):
    schedule = NoiseSchedule.from_config(config)
    a = schedule.alpha_bar
    assert len(schedule) == config.num_train_timesteps
    assert bool((a.diff() < 0).all() & (a < 1).all() & (a >= 0).all())
    assert bool((schedule.beta > 0).all() & (schedule.beta <= 1).all())
    assert_close(torch.cumprod(1 - schedule.beta.double(), 0).float(), a)
    assert bool((schedule.snr.diff() < 0).all())
    assert (float(a[-1]) == 0) == config.zero_terminal_snr


@given(st.integers(1, 2000), st.data())
def test_sampling_times_fall_from_the_last_one(T, data):
    steps = data.draw(st.integers(1, T))
    times = NoiseSchedule(torch.linspace(0.9, 0.1, T)).timesteps(steps)
    assert len(times) == steps and times[0] == T - 1 and times[-1] >= 0
    strides = {a - b for a, b in zip(times, [*times[1:], -1], strict=True)}
    assert min(strides) >= 1 and max(strides) - min(strides) <= 1


@given(predictions, shares, seeds)
def test_the_true_prediction_gives_the_true_parts(kind, a, seed):
    z_0, eps = normal((2, 3, 4), seed)
    a = torch.tensor(a, dtype=torch.float64)
    target = prediction_target(z_0, eps, a, kind)
    found = split_prediction(target, add_noise(z_0, eps, a), a, kind)
    assert_close(found, (z_0, eps), atol=1e-9, rtol=1e-9)


@given(shares, seeds)
def test_noise_keeps_unit_variance(a, seed):
    z = normal((2, 20_000), seed)
    z_t = add_noise(*z, torch.tensor(a, dtype=torch.float64))
    assert abs(float(z_t.var()) - 1) < 0.1


@given(st.lists(st.floats(1e-6, 1e6), min_size=1), st.floats(0.1, 100))
def test_min_snr_weighs_one_error_alike_in_any_prediction(snr, gamma):
    snr = torch.tensor(snr, dtype=torch.float64)
    of = {kind: min_snr_weight(snr, gamma, kind) for kind in ("eps", "v", "x0")}
    assert_close(of["x0"], snr.clamp(max=gamma))
    assert_close(of["eps"] * snr, of["x0"])
    assert_close(of["v"] * (snr + 1), of["x0"])


@given(seeds, st.integers(1, 5000), st.floats(-3, 3), st.floats(0.1, 5))
def test_logit_normal_times_are_times(seed, T, mean, std):
    t = logit_normal_times(normal((64,), seed) * 4, T, mean, std)
    assert t.dtype == torch.int64 and int(t.min()) >= 0 and int(t.max()) < T


# --- steps back -----------------------------------------------------------------------


@given(shares, shares, seeds)
def test_a_step_with_the_true_parts_stays_on_the_path(a, b, seed):
    assume(abs(a - b) > 1e-3)
    z_0, eps = normal((2, 3, 4), seed)
    t, s = (torch.tensor(x, dtype=torch.float64) for x in sorted((a, b)))
    wanted = add_noise(z_0, eps, s)
    assert_close(ddim_step(z_0, eps, t, s), wanted, atol=1e-9, rtol=1e-9)
    found = dpm_solver_step(add_noise(z_0, eps, t), z_0, t, s)
    assert_close(found, wanted, atol=1e-9, rtol=1e-9)


@given(shares, seeds, st.floats(0, 1))
def test_the_last_step_ends_in_the_estimate(a, seed, eta):
    z_0, z_t = normal((2, 3, 4), seed)
    t, s = torch.tensor(a, dtype=torch.float64), torch.ones((), dtype=torch.float64)
    assert_close(ddim_step(z_0, z_t, t, s, eta), z_0)
    assert_close(ddpm_step(z_t, z_0, t, s), z_0)


@given(seeds, st.floats(-3, 9), st.integers(2, 5))
def test_guidance_is_a_line_through_both_predictions(seed, scale, n):
    cond, uncond, z_t = normal((3, n, 2, 4), seed)
    y, t = torch.zeros(n, dtype=torch.int64), torch.zeros(n, dtype=torch.int64)

    def denoiser(z_t, t, y=None):
        return uncond if y is None else cond

    found = guided(denoiser, y, scale)(z_t, t)
    assert_close(found, (1 - scale) * uncond + scale * cond)
    if scale != 1:
        narrow = guided(denoiser, y, scale, guidance_rescale=1.0)(z_t, t)
        assert_close(spread(narrow), spread(cond))


@given(seeds, st.integers(0, 20), st.integers(1, 5))
def test_an_images_noise_is_its_own(seed, start, n):
    empty = torch.empty(start + n, 2, 3)
    of_all = normal_like(empty, generators(seed, start + n))
    found = normal_like(empty[start:], generators(seed, n, start))
    assert torch.equal(found, of_all[start:])


# --- autoencoder and latents ----------------------------------------------------------


@given(seeds, st.floats(0.1, 5))
def test_kl_is_least_at_the_prior_and_the_mode_most_likely(seed, scale):
    q = DiagonalGaussian(*normal((2, 3, 4), seed) * scale)
    assert bool((q.kl() >= 0).all())
    assert bool((q.nll(q.mode()) <= q.nll(q.sample())).all())


VAE = AutoencoderKL(VAEConfig(channels=(8,), downsampling=4, latent_channels=2))


@given(seeds, st.floats(-5, 5), st.floats(0.05, 20))
def test_statistics_bring_latents_to_unit_scale_and_back(seed, mean, std):
    raw = normal((3, 2, 4, 4), seed).float()
    z = LatentCodec(VAE, mean, std).normalise(raw * std + mean)
    assert_close(z, raw, atol=1e-4, rtol=1e-4)


@given(st.integers(1, 64))
def test_latents_have_a_shape_or_an_error(size):
    codec = LatentCodec(VAE)
    if size % 4:
        with pytest.raises(ValueError, match="give a multiple of 4"):
            codec.latent_shape(size)
    else:
        x = torch.zeros(1, 3, size, size)
        assert codec.encode(x).shape[1:] == codec.latent_shape(size)


@given(seeds, st.floats(0, 1))
def test_an_arc_has_two_ends_and_no_direction(seed, t):
    a, b = normal((2, 3, 4), seed)
    b = b * a.norm() / b.norm()
    assert_close(slerp(a, b, 0.0), a)
    assert_close(slerp(a, b, 1.0), b)
    assert_close(slerp(a, b, t), slerp(b, a, 1 - t))
    assert_close(slerp(a, b, t).norm(), a.norm())


@given(seeds, st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_patches_come_back(seed, h, w, p):
    x = normal((2, 3, h * p, w * p), seed)
    tokens = patchify(x, p)
    assert tokens.shape == (2, h * w, 3 * p * p)
    assert torch.equal(unpatchify(tokens, p, h * p, w * p), x)


@given(st.sampled_from(["sums", "means", "mean_and_sum"]), st.floats(1e-6, 10))
def test_kl_weights_come_back(convention, weight):
    there = kl_weight_to(convention, weight, 3 * 64 * 64, 4 * 8 * 8)
    assert kl_weight_from(convention, there, 3 * 64 * 64, 4 * 8 * 8) == pytest.approx(
        weight
    )


# --- judging --------------------------------------------------------------------------


@given(seeds, st.integers(6, 14), st.integers(6, 14))
def test_image_metrics_are_symmetric_and_best_for_equals(seed, H, W):
    x, y = normal((2, 2, 3, H, W), seed).clamp(-1, 1)
    assert_close(psnr(x, y), psnr(y, x))
    assert_close(ssim(x, y), ssim(y, x))
    assert bool((psnr(x, x) > psnr(x, y)).all() & (ssim(x, y) < 1).all())
    assert_close(ssim(x, x), torch.ones(2, dtype=torch.float64))


# --- data -----------------------------------------------------------------------------


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 24),
    st.sampled_from(["crop", "pad"]),
    st.sampled_from([1, 3]),
    st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"]),
)
def test_any_picture_becomes_a_square(width, height, size, fit, channels, mode):
    x = to_tensor(Image.new(mode, (width, height)), size, fit, channels=channels)
    assert x.shape == (channels, size, size) and x.dtype == torch.float32
    assert float(x.min()) >= -1 and float(x.max()) <= 1


@given(st.lists(st.integers(0, 3), max_size=60))
def test_splits_share_the_items_out(labels):
    items = list(range(len(labels)))
    parts = carve(items, ("validation", "test"), labels)
    assert sorted(chain(*parts.values())) == items
    assert {labels[i] for i in parts["train"]} == set(labels)
    sizes = [len(parts[split]) for split in ("validation", "test")]
    assert max(sizes) <= max(1, round(len(items) / 10))


@given(st.lists(st.text(max_size=5), unique=True), st.randoms(use_true_random=False))
def test_the_order_of_a_split_is_that_of_the_names(names, dice):
    mixed = dice.sample(names, len(names))
    assert by_hash(names, names) == by_hash(mixed, mixed)


# --- files and settings ---------------------------------------------------------------

keys = st.text(max_size=5)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | keys,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(keys, values, max_size=4))
def test_json_comes_back(tmp_path, value):
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_bytes_that_are_no_object_get_one_line(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    try:
        assert isinstance(read_json(tmp_path / "a.json"), dict)
    except ValueError as error:
        assert "damaged" in str(error) and str(error).isprintable()


counts = st.integers(1, 64)
configs = st.one_of(
    schedules(),
    st.builds(
        TrainConfig,
        steps=counts,
        batch_size=counts,
        learning_rate=st.floats(1e-6, 1),
        seed=st.integers(0, 2**63 - 1),
    ),
    st.builds(
        UNetConfig,
        channels=st.lists(counts, min_size=2, max_size=4).map(tuple),
        num_classes=st.integers(0, 99),
        dropout=st.floats(0, 0.9),
    ),
    st.builds(VAEConfig, latent_channels=counts, in_channels=st.sampled_from([1, 3])),
)


@given(configs)
def test_configs_come_back_from_json(config):
    values = json.loads(json.dumps(config_to_dict(config)))
    assert config_from_dict(type(config), values) == config


@given(schedules(), predictions, st.none() | st.floats(0.1, 50), st.floats(0, 1))
def test_objectives_come_back_from_json(schedule, kind, gamma, dropout):
    assume(kind != "eps" or not schedule.zero_terminal_snr)
    objective = Objective(schedule, kind, gamma, label_dropout=dropout)
    values = json.loads(json.dumps(objective.config))
    assert Objective.from_config(values) == objective


@given(st.integers(1, 300), st.integers(0, 300), st.floats(1e-6, 1))
def test_the_learning_rate_stays_between_zero_and_its_peak(steps, warmup, peak):
    config = TrainConfig(steps=steps, warmup_steps=warmup, learning_rate=peak)
    rates = np.array([learning_rate(config, step) for step in range(steps)])
    assert (rates > 0).all() and rates.max() <= peak * (1 + 1e-12)
    top = int(rates.argmax())
    assert (np.diff(rates[: top + 1]) >= 0).all() and (np.diff(rates[top:]) <= 0).all()


@given(st.integers(1, 50), st.integers(1, 12), st.integers(1, 3), seeds, st.data())
def test_processes_share_every_batch_wherever_a_run_goes_on(n, size, world, seed, data):
    config = TrainConfig(steps=12, batch_size=size * world, seed=seed)
    whole = list(StepSampler(n, config, 0, 0, 1))
    start = data.draw(st.integers(0, 12))
    ranks = [list(StepSampler(n, config, start, r, world)) for r in range(world)]
    shared = [sorted(chain(*rows)) for rows in zip(*ranks, strict=True)]
    assert shared == [sorted(batch) for batch in whole[start:]]
    assert all(0 <= i < n for batch in whole for i in batch)
