import json

import pytest
import torch
from torch.testing import assert_close

from ldm_tutorial.codec import LatentCodec, PixelCodec
from ldm_tutorial.vae import AutoencoderKL, VAEConfig

CONFIG = VAEConfig(channels=(8, 8, 16, 16))


@pytest.fixture
def codec():
    torch.manual_seed(0)
    vae = AutoencoderKL(CONFIG)
    return LatentCodec.fit(vae, [torch.randn(64, 3, 32, 32) for _ in range(4)])


def test_pixels_stay_as_they_are():
    codec, x = PixelCodec(), torch.randn(2, 3, 16, 16)
    assert_close(codec.decode(codec.encode(x)), x)
    assert codec.latent_shape(16) == (3, 16, 16)


def test_fitted_latents_have_unit_scale(codec):
    z = codec.encode(torch.randn(256, 3, 32, 32))
    assert z.shape[1:] == codec.latent_shape(32)
    assert_close(z.mean((0, 2, 3)), torch.zeros(4), atol=0.05, rtol=0)
    assert_close(z.std((0, 2, 3)), torch.ones(4), atol=0.05, rtol=0)


def test_one_scale_for_all_channels():
    torch.manual_seed(0)
    batches = [torch.randn(64, 3, 32, 32)]
    codec = LatentCodec.fit(AutoencoderKL(CONFIG), batches, per_channel=False)
    assert bool((codec.std == codec.std[0]).all())
    assert_close(codec.scaling_factor, 1 / codec.std.flatten())


def test_decode_undoes_the_scaling(codec):
    raw = codec.vae.encode(torch.randn(2, 3, 32, 32)).mode()
    wanted = codec.vae.decode(raw)
    assert_close(codec.decode(codec.normalise(raw)), wanted, atol=1e-5, rtol=1e-4)


def test_a_codec_leaves_its_autoencoder_free_and_encodes_without_a_gradient(codec):
    codec.train()
    assert not codec.vae.training  # dropout has no place in a codec
    assert all(p.requires_grad for p in codec.vae.parameters())
    x = torch.randn(1, 3, 32, 32)
    assert not codec.encode(x).requires_grad
    assert not codec.decode(codec.encode(x)).requires_grad
    assert not any(p.requires_grad for p in codec.freeze().parameters())


def test_what_comes_from_the_disk_is_frozen(codec, tmp_path):
    codec.save(tmp_path)
    assert not any(p.requires_grad for p in LatentCodec.load(tmp_path).parameters())


def test_numbers_that_are_not_finite_stay_in_their_image(codec):
    x = torch.randn(3, 3, 32, 32)
    x[1, 0, 5, 5] = torch.nan
    z = codec.encode(x)
    x_hat = codec.decode(z)
    for found in (z, x_hat):
        assert found.isfinite().flatten(1).all(1).tolist() == [True, False, True]


def test_gradients_reach_the_latent_that_asks_for_them(codec):
    z = torch.randn(1, 4, 4, 4, requires_grad=True)
    codec.freeze().decode(z).sum().backward()
    assert bool((z.grad != 0).any())


def test_statistics_stay_in_float32_and_the_dtype_follows_the_input(codec):
    z = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    wanted, std = codec.decode(z), codec.std.clone()
    half = codec.to(torch.bfloat16)
    assert torch.equal(half.std, std) and half.vae.dtype == torch.bfloat16
    found = half.decode(z)
    assert found.dtype == torch.float32
    assert float((found - wanted).std() / wanted.std()) < 0.03
    assert half.encode(torch.randn(1, 3, 32, 32)).dtype == torch.float32


def test_measuring_leaves_the_callers_random_state_alone():
    vae, x = AutoencoderKL(CONFIG), [torch.randn(8, 3, 32, 32)]
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    one, two = LatentCodec.fit(vae, x), LatentCodec.fit(vae, x)
    assert torch.equal(torch.rand(2), wanted)
    assert torch.equal(one.mean, two.mean)


@pytest.mark.parametrize("size", [4, 10, 12])
def test_images_that_cannot_be_halved_so_often_are_refused(codec, size):
    with pytest.raises(ValueError, match=f"images of {size} pixels.*multiple of 8"):
        codec.latent_shape(size)


def test_save_and_load_keep_everything(codec, tmp_path):
    codec.save(tmp_path / "vae")
    again, x = LatentCodec.load(tmp_path / "vae"), torch.randn(1, 3, 32, 32)
    one, two = (
        c.decode(c.encode(x, torch.Generator().manual_seed(0))) for c in (codec, again)
    )
    assert_close(one, two, atol=0, rtol=0)
    assert again.vae.config == CONFIG


def test_half_precision_halves_the_file(codec, tmp_path):
    codec.save(tmp_path / "full")
    codec.save(tmp_path / "half", torch.float16)
    full, half = (
        (tmp_path / name / "model.safetensors").stat().st_size
        for name in ("full", "half")
    )
    assert half < 0.6 * full
    assert LatentCodec.load(tmp_path / "half").mean.dtype == torch.float32


def test_statistics_follow_those_of_a_batch_by_their_share(codec):
    C = codec.mean.numel()
    codec.mean.fill_(1.0)
    codec.std.fill_(2.0)
    codec.follow(torch.full((C,), 3.0), torch.full((C,), 1.0), momentum=0.25)
    assert_close(codec.mean.flatten(), torch.full((C,), 1.5))
    assert_close(codec.std.flatten(), torch.full((C,), 1.75))
    codec.follow(torch.full((C,), 11.5), torch.full((C,), 11.75))
    assert_close(codec.mean.flatten(), torch.full((C,), 2.0))  # by a twentieth
    assert_close(codec.std.flatten(), torch.full((C,), 2.25))


def test_the_autoencoder_of_a_codec_is_in_evaluation_mode(codec):
    vae = codec.vae.train()
    assert not LatentCodec(vae).vae.training
    assert not any(part.training for part in LatentCodec(vae).train().modules())


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_of_any_channels_come_back_from_a_config(channels):
    again = PixelCodec.from_config(PixelCodec(channels).config)
    assert again.latent_shape(8) == (channels, 8, 8)
    with pytest.raises(ValueError, match=r"channels=65537; give .* 65536"):
        PixelCodec(2**16 + 1)


def test_a_codec_says_on_disk_what_it_is(codec, tmp_path):
    codec.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["kind"] == "LatentCodec" and config["vae"]["latent_channels"] == 4


def test_statistics_follow_to_a_device_and_stay_float32(codec):
    double = torch.ones(4, dtype=torch.float64)
    for statistics in (LatentCodec(codec.vae, double, double), codec.half()):
        assert statistics.mean.dtype == statistics.std.dtype == torch.float32
    away = codec.to("meta")
    assert away.mean.is_meta and away.std.is_meta


def test_latents_are_measured_with_the_same_noise_each_time():
    torch.manual_seed(0)
    vae, x = AutoencoderKL(CONFIG), torch.randn(64, 3, 32, 32)
    given = torch.Generator().manual_seed(0)
    one, two = LatentCodec.fit(vae, [x]), LatentCodec.fit(vae, [x], generator=given)
    assert torch.equal(one.mean, two.mean) and torch.equal(one.std, two.std)
    other = torch.Generator().manual_seed(1)
    assert not torch.equal(one.std, LatentCodec.fit(vae, [x], generator=other).std)
