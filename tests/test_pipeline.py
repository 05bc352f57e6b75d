import pytest
import torch
from torch.testing import assert_close

from ldm_tutorial import (
    AutoencoderKL,
    LatentCodec,
    LatentDiffusion,
    PixelCodec,
    ScheduleConfig,
    UNet,
    UNetConfig,
    VAEConfig,
)
from ldm_tutorial.diffusion import Objective
from ldm_tutorial.noise import generators

CLASSES = ("circle", "square", "star")


def build(codec, classes=CLASSES, **kwargs):
    torch.manual_seed(0)
    config = UNetConfig(
        in_channels=codec.latent_shape(32)[0],
        channels=(32, 32),
        num_res_blocks=1,
        num_classes=len(classes),
    )
    unet = UNet(config)
    torch.nn.init.normal_(unet.out[-1].weight, std=0.02)
    return LatentDiffusion(codec, unet, image_size=32, classes=classes, **kwargs)


@pytest.fixture
def latent():
    torch.manual_seed(0)
    return build(LatentCodec(AutoencoderKL(VAEConfig(channels=(8, 8, 16, 16)))))


@pytest.fixture(params=["pixel", "latent"])
def model(request, latent):
    return latent if request.param == "latent" else build(PixelCodec())


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_one_argument_turns_pixels_into_latents(model):
    x, y = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    loss, parts = model(x, y, generator=seeded())
    loss.backward()
    assert_close(parts["diffusion"], loss.detach())
    images = model.sample(2, steps=3, generator=seeded())
    assert images.shape == (2, 3, 32, 32) and images.abs().max() <= 1


def test_a_new_model_loses_the_variance_of_the_noise():
    model = build(PixelCodec())
    torch.nn.init.zeros_(model.unet.out[-1].weight)
    x, y = torch.randn(32, 3, 32, 32), torch.zeros(32).long()
    loss, _ = model(x, y, generator=seeded())
    assert_close(loss, torch.tensor(1.0), atol=0.02, rtol=0)


def test_the_codec_gets_no_gradient(latent):
    latent(torch.randn(2, 3, 32, 32), torch.tensor([0, 1]))[0].backward()
    assert all(p.grad is None for p in latent.codec.parameters())


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm-solver++"])
def test_a_seed_fixes_the_samples(model, sampler):
    one, two, other = (
        model.sample(2, steps=4, sampler=sampler, generator=seeded(s))
        for s in (1, 1, 2)
    )
    assert_close(one, two, atol=0, rtol=0)
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm-solver++"])
def test_image_7_of_16_is_image_7_alone(model, sampler):
    y = torch.arange(16) % 3
    options = {"steps": 3, "sampler": sampler}
    many = model.sample(y=y, generator=generators(0, 16), **options)
    one = model.sample(y=y[7:8], generator=generators(0, 1, start=7), **options)
    assert_close(one, many[7:8], atol=1e-4, rtol=0)


def test_classes_may_be_given_by_name_number_or_tensor(latent):
    same = [
        latent.sample(2, y=y, steps=2, generator=seeded())
        for y in ("star", 2, torch.tensor([2, 2]))
    ]
    assert_close(same[0], same[1])
    assert_close(same[0], same[2])


def test_label_dropout_hides_its_share(latent):
    hidden = latent._hide(torch.zeros(20_000).long(), seeded()) == len(CLASSES)
    assert_close(hidden.float().mean(), torch.tensor(0.1), atol=0.01, rtol=0)


def test_save_and_load_keep_everything(model, tmp_path):
    model.save(tmp_path)
    again = LatentDiffusion.load(tmp_path)
    one, two = (
        m.sample(3, steps=3, guidance_scale=2.0, generator=seeded())
        for m in (model.eval(), again)
    )
    assert_close(one, two, atol=0, rtol=0)
    assert again.classes == CLASSES and again.image_size == 32


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"n": 0}, "n=0 samples"),
        ({"n": 2, "y": 3}, "knows 0 to 2"),
        ({"n": 2, "y": -1}, "knows 0 to 2"),
        ({"n": 2, "y": "hexagon"}, "'hexagon' is unknown; choose from circle"),
        ({"n": 3, "y": torch.tensor([0, 1])}, "2 classes were given for n=3"),
        ({"n": 2, "steps": 0}, "0 sampling steps"),
        ({"n": 2, "steps": 1001}, "1001 sampling steps"),
        ({"n": 2, "sampler": "euler"}, "'euler' is unknown; choose ddpm, ddim"),
        ({"n": 2, "eta": 1.5}, "eta=1.5; give 0"),
        ({"n": 2, "eta": 0.5, "sampler": "ddpm"}, "eta=0.5 is an option of ddim"),
        (
            {"n": 2, "guidance_scale": 2, "guidance_rescale": 2},
            "rescale=2; give 0 to 1",
        ),
    ],
)
def test_bad_requests_are_refused_in_one_line(latent, wrong, message):
    with pytest.raises(ValueError, match=message) as caught:
        latent.sample(**wrong)
    assert "\n" not in str(caught.value)


def test_an_unconditional_model_takes_no_class():
    model = build(PixelCodec(), classes=())
    assert model.sample(1, steps=2).shape == (1, 3, 32, 32)
    with pytest.raises(ValueError, match="unconditional"):
        model.sample(1, y=0, steps=2)
    with pytest.raises(ValueError, match="guidance_scale=2"):
        model.sample(1, guidance_scale=2, steps=2)


def test_parts_that_do_not_fit_are_refused():
    unet = UNet(UNetConfig(in_channels=4, channels=(32,)))
    with pytest.raises(ValueError, match=r"build it with in_channels=3"):
        LatentDiffusion(PixelCodec(), unet)
    with pytest.raises(ValueError, match="2 class names for a denoiser of 0"):
        LatentDiffusion(PixelCodec(4), unet, classes=("a", "b"))
    with pytest.raises(ValueError, match="zero_terminal_snr"):
        Objective(ScheduleConfig(zero_terminal_snr=True))
