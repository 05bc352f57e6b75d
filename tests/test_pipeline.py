import json

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file
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
from ldm_tutorial.samplers import ddim, last
from ldm_tutorial.schedule import NoiseSchedule

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


# --- plugs of one's own ---------------------------------------------------------------


class Halves(torch.nn.Module):
    """A codec of one's own: images of half the side, in 12 channels."""

    clip = None

    def latent_shape(self, size):
        return (12, size // 2, size // 2)

    def encode(self, x, generator=None):
        return torch.nn.functional.pixel_unshuffle(x, 2)

    def decode(self, z):
        return torch.nn.functional.pixel_shuffle(z, 2)


class SavedHalves(Halves):
    kind, config = "Halves", {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def shrink(z_t, t, y=None):
    """A denoiser of one's own, which has no weights and no class."""
    return 0.1 * z_t


def test_a_codec_of_ones_own_is_saved_or_refused(tmp_path):
    plain = build(Halves())
    assert plain.sample(2, steps=2).shape == (2, 3, 32, 32)
    with pytest.raises(TypeError, match=r"codec, a Halves, cannot be saved: give it"):
        plain.save(tmp_path / "plain")
    assert not (tmp_path / "plain").exists()

    mine = build(SavedHalves())
    mine.save(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"a part of kind 'Halves', which is unknown"):
        LatentDiffusion.load(tmp_path / "mine")
    again = LatentDiffusion.load(tmp_path / "mine", kinds={"Halves": SavedHalves})
    assert type(again.codec) is SavedHalves
    one, two = (m.sample(2, steps=2, generator=seeded()) for m in (mine.eval(), again))
    assert_close(one, two, atol=0, rtol=0)


def test_a_denoiser_of_ones_own_may_be_any_function(tmp_path):
    model = LatentDiffusion(PixelCodec(), shrink, image_size=8, classes=CLASSES)
    loss, _ = model(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]))
    assert bool(loss.isfinite())
    assert model.sample(3, steps=2, guidance_scale=2.0).shape == (3, 3, 8, 8)
    with pytest.raises(TypeError, match=r"denoiser, a function, cannot be saved"):
        model.save(tmp_path / "model")


def test_a_sampler_of_ones_own_gets_what_it_names():
    def one_jump(denoiser, schedule, z_T, *, steps):
        assert len(schedule) == 7 and steps == 3
        yield z_T - denoiser(z_T, torch.full((len(z_T),), 6))

    model = LatentDiffusion(PixelCodec(), shrink, image_size=8)
    z_T = torch.full((2, 3, 8, 8), 0.5)
    levels = NoiseSchedule.linear(7, 0.1, 0.5)
    found = model.sample(sampler=one_jump, z_T=z_T, schedule=levels, steps=3)
    assert_close(found, 0.9 * z_T)


def test_the_noise_to_start_from_decides_the_samples(model):
    shape = model.codec.latent_shape(32)
    z_T = torch.randn(2, *shape, generator=seeded())
    one, two = (model.sample(y=[0, 1], z_T=z_T, steps=3) for _ in range(2))
    assert_close(one, two, atol=0, rtol=0)
    drawn = model.sample(2, y=[0, 1], steps=3, generator=seeded())
    assert_close(drawn, one)
    with pytest.raises(ValueError, match=r"z_T has shape \(2, 5\); .* starts from"):
        model.sample(z_T=torch.zeros(2, 5))


@pytest.mark.parametrize(
    "y",
    [
        [2, 0],
        ("star", "circle"),
        ["star", 0],
        numpy.array([2, 0]),
        torch.tensor([2, 0], dtype=torch.int32),
    ],
)
def test_classes_may_come_in_any_list(latent, y):
    wanted = latent.sample(y=torch.tensor([2, 0]), steps=2, generator=seeded())
    assert_close(latent.sample(y=y, steps=2, generator=seeded()), wanted)
    assert_close(latent.sample(2, y=y, steps=2, generator=seeded()), wanted)


@pytest.mark.parametrize("y", [numpy.int64(2), torch.tensor(2), numpy.array(2)])
def test_one_class_may_be_any_number(latent, y):
    wanted = latent.sample(2, y=2, steps=2, generator=seeded())
    assert_close(latent.sample(2, y=y, steps=2, generator=seeded()), wanted)


def test_classes_are_whole_numbers(latent):
    with pytest.raises(TypeError, match=r"float32 were given; give whole numbers"):
        latent.sample(2, y=torch.tensor([0.0, 1.0]), steps=1)
    with pytest.raises(ValueError, match="no classes were given"):
        latent.sample(y=[], steps=1)


# --- precision ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_model_of_any_precision_gives_float32_images(model, dtype, tmp_path):
    wanted = model.eval().sample(2, steps=10, generator=seeded())
    model.save(tmp_path)
    half = LatentDiffusion.load(tmp_path).to(dtype)
    found = half.sample(2, steps=10, generator=seeded())
    assert found.dtype == torch.float32
    assert float((found - wanted).square().mean().sqrt() / wanted.std()) < 0.02
    loss, _ = half(torch.randn(2, 3, 32, 32), torch.tensor([0, 1]))
    assert loss.dtype.itemsize >= 4 and bool(loss.isfinite())


def test_under_autocast_images_are_float32(model):
    with torch.autocast("cpu", torch.bfloat16):
        assert model.sample(1, steps=2).dtype == torch.float32


# --- files of before ------------------------------------------------------------------


def test_models_from_before_parts_had_kinds_are_read(model, tmp_path):
    """Their config holds the autoencoder and the UNet by name, and the fields of the
    objective beside them."""
    model.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    codec, denoiser = config.pop("codec"), config.pop("denoiser")
    objective = config.pop("objective")
    kinds = [part.pop("kind") for part in (codec, denoiser, objective)]
    assert kinds[1:] == ["UNet", "Objective"]
    old = config | objective | {"vae": codec.get("vae"), "unet": denoiser}
    (tmp_path / "config.json").write_text(json.dumps(old))
    tensors = load_file(tmp_path / "model.safetensors")
    tensors = {k.replace("denoiser.", "unet."): v for k, v in tensors.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    again = LatentDiffusion.load(tmp_path)
    assert again.objective == model.objective
    one, two = (m.sample(2, steps=2, generator=seeded()) for m in (model.eval(), again))
    assert_close(one, two, atol=0, rtol=0)


def test_a_compiled_denoiser_is_saved_as_what_it_is(latent, tmp_path):
    wanted = latent.eval().sample(1, steps=2, generator=seeded())
    latent.unet = torch.compile(latent.unet, backend="eager")
    latent.save(tmp_path)
    again = LatentDiffusion.load(tmp_path)
    assert_close(again.sample(1, steps=2, generator=seeded()), wanted)


def test_guidance_that_is_no_number_is_refused(latent):
    with pytest.raises(ValueError, match=r"guidance_scale=nan; give a finite number"):
        latent.sample(1, guidance_scale=float("nan"))


def test_guidance_pulls_towards_the_class_and_away_from_none(latent):
    """With scale 0 the class does not matter, with more it matters more."""
    torch.manual_seed(1)
    for parameter in latent.denoiser.parameters():
        if not bool(parameter.any()):
            torch.nn.init.normal_(parameter, std=0.1)

    def drawn(y, scale):
        return latent.sample(1, y=y, steps=3, guidance_scale=scale, generator=seeded())

    assert_close(drawn(0, 0.0), drawn(2, 0.0), atol=1e-5, rtol=0)
    apart = [float((drawn(0, s) - drawn(2, s)).abs().mean()) for s in (1.0, 3.0)]
    assert 0 < apart[0] < apart[1]


def test_only_what_has_classes_looks_at_them():
    """An unconditional model may be trained on data that have labels, and a model with
    classes on data that have none."""
    shown = []

    def denoiser(z_t, t, *y):
        shown.append(y)
        return z_t

    z, y = torch.randn(2, 3, 8, 8), torch.tensor([0, 1])
    for classes in ((), CLASSES):
        objective = Objective(label_dropout=0.0)
        model = LatentDiffusion(
            PixelCodec(), denoiser, objective=objective, classes=classes
        )
        for labels in (None, y):
            model.loss(z, labels)
    assert [len(given) for given in shown] == [0, 0, 0, 1]
    assert torch.equal(shown[-1][0], y)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_a_denoiser_sees_classes_of_64_bits(latent, dtype):
    seen = []
    latent.denoiser.register_forward_pre_hook(lambda _, given: seen.append(given[2]))
    latent.sample(y=torch.tensor([2, 0], dtype=dtype), steps=1)
    assert seen[0].dtype == torch.int64 and seen[0].tolist() == [2, 0]


def test_a_model_that_is_damaged_or_foreign_is_told_from_one_of_ones_own(
    latent, tmp_path
):
    """Parts of one's own are built as they are; the others first without memory."""
    latent.save(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("denoiser.out.2.weight")
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="is damaged"):
        LatentDiffusion.load(tmp_path)
    with pytest.raises(RuntimeError, match="Missing key"):
        LatentDiffusion.load(tmp_path, {"Mine": UNet})


def test_eta_reaches_the_sampler(latent):
    z_T, y = torch.randn(2, 4, 4, 4, generator=seeded()), torch.tensor([0, 2])
    options = {"y": y, "steps": 4, "z_T": z_T}
    plain, noisy, again = (
        last(latent.sample_latents(**options, eta=eta, generator=seeded(1)))
        for eta in (0.0, 0.7, 0.7)
    )
    assert not torch.allclose(plain, noisy, atol=0.01) and torch.equal(noisy, again)
    wanted = ddim(
        lambda z_t, t: latent.denoiser(z_t, t, y),
        latent.schedule,
        z_T,
        steps=4,
        eta=0.7,
        generator=seeded(1),
    )
    assert_close(noisy, last(wanted))
