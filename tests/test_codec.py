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


def test_the_autoencoder_is_frozen(codec):
    codec.train()
    assert not codec.vae.training
    assert not any(p.requires_grad for p in codec.parameters())


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
