"""Diagnostics of latents, on latents whose answers are known."""

import math

import pytest
import torch
from torch.testing import assert_close

from ldm_tutorial import LatentCodec
from ldm_tutorial.evaluation.latents import (
    active_units,
    correlations,
    decode_under_noise,
    effective_dimensions,
    moments,
    radial_spectrum,
    slerp,
)
from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.vae import AutoencoderKL, VAEConfig


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_active_units_counts_elements_that_say_something():
    mu = torch.zeros(100, 2, 2, 2)
    mu[:, 0, 0] = noise(100, 2)  # two of eight elements
    q = DiagonalGaussian(mu, torch.zeros_like(mu))
    assert active_units(q) == 0.25
    assert active_units(DiagonalGaussian(0 * mu, 0 * mu)) == 0


def test_moments_of_a_gaussian_and_of_a_coin():
    z = 3 + 2 * noise(400, 4, 8, 8)
    found = moments(z)
    assert found["mean"] == pytest.approx(3, abs=0.03)
    assert found["std"] == pytest.approx(2, abs=0.02)
    assert found["kurtosis"] == pytest.approx(3, abs=0.1)
    assert moments(z.sign())["kurtosis"] != pytest.approx(3, abs=0.1)
    coin = torch.tensor([1.0, -1.0]).repeat(50).view(-1, 1, 1, 1)
    assert moments(coin)["kurtosis"] == pytest.approx(1)


def test_correlations_between_channels_and_neighbours():
    z = noise(200, 2, 8, 8)
    found = correlations(z)
    assert found["channels"] < 0.03 and found["neighbours"] < 0.03
    z[:, 1] = 0.6 * z[:, 0] + 0.8 * z[:, 1]
    assert correlations(z)["channels"] == pytest.approx(0.6, abs=0.03)
    rows = noise(200, 2, 8, 1).expand(200, 2, 8, 8)
    assert correlations(rows)["neighbours"] == pytest.approx(1)
    assert correlations(z[:, :1])["channels"] == 0


def test_spectrum_of_white_noise_is_flat_and_of_a_wave_a_line():
    flat = radial_spectrum(noise(2000, 4, 8, 8))
    assert_close(flat, torch.ones(5), atol=0.05, rtol=0)
    place = torch.arange(8) / 8
    wave = math.sqrt(2) * torch.cos(2 * math.pi * 3 * place).expand(1, 1, 8, 8)
    power = radial_spectrum(wave)
    assert power.argmax() == 3 and power[[0, 1, 2, 4]].abs().max() < 1e-5
    total = wave.square().mean() * 64  # Parseval
    count = torch.tensor([1, 8, 12, 16, 0])  # cells of the grid at each radius
    assert_close(power[3] * count[3], total)


def test_decoding_suffers_from_noise_as_a_linear_decoder_must():
    class Linear(AutoencoderKL):
        def decode(self, z):
            return z[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3) / 100

    codec = LatentCodec(Linear(VAEConfig(channels=(16, 16))))
    z = noise(16, 4, 8, 8)
    found = decode_under_noise(codec, z, [0.1, 0.2, 1.0])
    assert found[0] - found[1] == pytest.approx(20 * math.log10(2), abs=1e-3)
    exact = 20 * math.log10(2 * 100)  # the peak over the deviation of the error
    assert found[2] == pytest.approx(exact, abs=0.3)


def test_slerp_keeps_the_length_and_turns_evenly():
    a, b = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    assert_close(slerp(a, b, 0.0), a)
    assert_close(slerp(a, b, 1.0), b)
    assert_close(slerp(a, b, 0.5), torch.full((2,), math.sqrt(2)))
    assert_close(slerp(a, b, 1 / 3).norm(), a.norm())


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_slerp_between_parallel_vectors_is_their_line(t, seed):
    a = noise(4, 8, 8, seed=seed)
    assert_close(slerp(a, a.clone(), t), a)
    assert_close(slerp(a, a * 1.0000001, t), a)
    assert_close(slerp(a, 3 * a, t), (1 + 2 * t) * a)
    assert bool(slerp(a, -a, t).isfinite().all())
    assert_close(slerp(a, 0 * a, t), (1 - t) * a)


def test_effective_dimensions_count_the_patterns_that_share_the_variance():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(20_000, 4, 2, 2, generator=generator)
    assert effective_dimensions(noise) == pytest.approx(16, rel=0.02)
    one = torch.randn(500, 1, 1, 1, generator=generator) * torch.randn(1, 4, 2, 2)
    assert effective_dimensions(3 + one) == pytest.approx(1)
    two = noise.clone()
    two.flatten(1)[:, 2:] = 0
    assert effective_dimensions(two) == pytest.approx(2, rel=0.01)
