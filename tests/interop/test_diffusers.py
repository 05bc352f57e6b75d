"""Stable Diffusion's autoencoder in our classes, against the library diffusers."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.testing import assert_close

from ldm_tutorial.cli.main import main
from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.cost.efficiency import count_parameters
from ldm_tutorial.interop.diffusers import (
    WEIGHTS,
    difference,
    from_diffusers,
    load_vae,
    save_vae,
    to_diffusers,
)
from ldm_tutorial.vae import AutoencoderKL, VAEConfig
from ldm_tutorial.vae_config import STABLE_DIFFUSION

TINY = dict(block_out_channels=(8, 16), norm_num_groups=4)
SIXTEEN = dict(latent_channels=16, use_quant_conv=False, use_post_quant_conv=False)
CONFIGS = {
    "stable diffusion": dict(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2
    ),
    "16 channels": dict(
        block_out_channels=(16, 32, 48, 48),
        layers_per_block=2,
        norm_num_groups=8,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        **SIXTEEN,
    ),
    "no attention": TINY | dict(mid_block_add_attention=False),
    "three blocks": TINY | dict(layers_per_block=3, latent_channels=1),
    "narrowing": dict(block_out_channels=(32, 16, 24), norm_num_groups=8),
    "one level": dict(block_out_channels=(16,), norm_num_groups=2, in_channels=1)
    | dict(out_channels=1),
    "quant_conv alone": TINY | dict(use_post_quant_conv=False),
    "post_quant_conv alone": TINY | dict(use_quant_conv=False),
    "per channel": TINY
    | dict(latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.0, 2.0, 0.5, 1.5])
    | dict(scaling_factor=0.5),
}


def theirs(**options):
    """A random ``diffusers.AutoencoderKL``, no parameter of which is 0 or 1."""
    import diffusers

    levels = len(options["block_out_channels"])
    torch.manual_seed(0)
    model = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        **options,
    )
    return shaken(model).eval()


def shaken(model):
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def close(ours, wanted):
    assert ours.shape == wanted.shape and wanted.std() > 1e-3
    error = (ours - wanted).abs().max() / wanted.abs().max()
    assert error < 1e-5, f"relative error {error}"


@torch.no_grad()
def same(vae, model):
    f, config = 2 ** (len(model.config.block_out_channels) - 1), model.config
    x = torch.rand(2, config.in_channels, 6 * f, 4 * f) * 2 - 1
    wanted, posterior = model.encode(x).latent_dist, vae.encode(x)
    close(posterior.mu, wanted.mean)
    close(posterior.logvar, wanted.logvar)
    z = torch.randn(2, config.latent_channels, 6, 4)
    close(vae.decode(z), model.decode(z).sample)


@pytest.mark.parametrize("name", CONFIGS)
def test_their_weights_compute_the_same_in_our_class(name):
    model = theirs(**CONFIGS[name])
    codec = from_diffusers(*describe(model))
    same(codec.vae, model)
    assert count_parameters(codec.vae) == count_parameters(model)


@pytest.mark.parametrize("name", CONFIGS)
def test_our_weights_compute_the_same_in_their_class(name):
    import diffusers

    with torch.device("meta"):
        model = theirs(**CONFIGS[name])
    shapes = {k: 0.2 * torch.randn(v.shape) for k, v in model.state_dict().items()}
    vae = shaken(from_diffusers(dict(model.config), shapes).vae)
    config, tensors = to_diffusers(LatentCodec(vae))
    model = diffusers.AutoencoderKL.from_config(config)
    model.load_state_dict(tensors)
    same(vae, model.eval())


@pytest.mark.parametrize("name", [name for name in CONFIGS if " d" not in name])
def test_folders_of_one_library_open_with_the_other(name, tmp_path):
    import diffusers

    model = theirs(**CONFIGS[name])
    model.save_pretrained(tmp_path / "theirs")
    codec = load_vae(tmp_path / "theirs")
    same(codec.vae, model)
    save_vae(codec, tmp_path / "ours")
    same(codec.vae, diffusers.AutoencoderKL.from_pretrained(tmp_path / "ours"))
    again = load_vae(tmp_path / "ours")
    assert again.vae.config == codec.vae.config
    assert_close(again.state_dict(), codec.state_dict(), atol=0, rtol=2e-7)


def describe(model):
    return dict(model.config), model.state_dict()


def test_stable_diffusions_autoencoder_has_its_number_of_parameters():
    with torch.device("meta"):
        assert count_parameters(AutoencoderKL(STABLE_DIFFUSION)) == 83_653_863


@pytest.mark.parametrize(
    "options, scaled",
    [
        (dict(), lambda raw: raw * 0.18215),
        (dict(scaling_factor=2.0), lambda raw: raw * 2),
        (
            dict(scaling_factor=1.5305, shift_factor=0.0609),
            lambda raw: (raw - 0.0609) * 1.5305,
        ),
        (
            dict(latents_mean=[1.0, 2, 3, 4], latents_std=[4.0, 3, 2, 1])
            | dict(scaling_factor=0.5),
            lambda raw: (
                (raw - torch.tensor([1.0, 2, 3, 4]).view(4, 1, 1))
                * (0.5 / torch.tensor([4.0, 3, 2, 1]).view(4, 1, 1))
            ),
        ),
    ],
)
def test_latents_are_brought_to_the_scale_that_their_pipelines_use(options, scaled):
    model = theirs(**TINY, **options)
    codec = from_diffusers(*describe(model))
    raw = torch.randn(2, 4, 3, 3)
    z = codec.normalise(raw)
    assert_close(z, scaled(raw))
    with torch.no_grad():
        assert_close(codec.decode(z), model.decode(raw).sample, atol=1e-5, rtol=1e-4)


NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@pytest.mark.parametrize("ndim", [2, 4])
def test_the_older_names_of_attention_are_known(ndim):
    config, tensors = describe(theirs(**TINY))
    older = {}
    for name, tensor in tensors.items():
        for new, old in NAMES.items():
            if f"attentions.0.{new}." in name:
                name = name.replace(new, old)
                if tensor.ndim == 2:
                    tensor = tensor.view(*tensor.shape, *[1] * (ndim - 2))
        older[name] = tensor
    assert older.keys() != tensors.keys()
    wanted = from_diffusers(config, tensors).state_dict()
    assert_close(from_diffusers(config, older).state_dict(), wanted)


def test_a_file_a_pipeline_and_a_lone_file_are_found(tmp_path):
    model = theirs(**TINY)
    model.save_pretrained(tmp_path / "vae")
    wanted = load_vae(tmp_path).state_dict()
    (tmp_path / "vae" / WEIGHTS).rename(tmp_path / "vae" / "other.safetensors")
    for path in ("vae", "vae/other.safetensors"):
        assert_close(load_vae(tmp_path / path).state_dict(), wanted)


def test_half_precision_weights_are_read_as_float32(tmp_path):
    codec = from_diffusers(*describe(theirs(**TINY)))
    save_vae(codec, tmp_path, torch.float16)
    again = load_vae(tmp_path)
    assert next(again.vae.parameters()).dtype == torch.float32
    assert_close(again.state_dict(), codec.state_dict(), atol=1e-3, rtol=1e-3)


def test_a_codec_of_theirs_is_saved_and_loaded_as_ours(tmp_path):
    codec = from_diffusers(*describe(theirs(**CONFIGS["16 channels"])))
    codec.save(tmp_path)
    again = LatentCodec.load(tmp_path)
    assert again.vae.config == codec.vae.config
    assert_close(again.state_dict(), codec.state_dict(), atol=0, rtol=0)


def rewritten(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def sharded(folder):
    (folder / WEIGHTS).rename(folder / WEIGHTS.replace(".", "-00001-of-00002.", 1))
    (folder / WEIGHTS.replace(".", "-00002-of-00002.", 1)).write_bytes(b"")
    (folder / f"{WEIGHTS}.index.json").write_text("{}")


def pickled(folder):
    (folder / WEIGHTS).rename(folder / "diffusion_pytorch_model.bin")


def doubled(folder):
    for name in "ab":
        (folder / f"{name}.safetensors").write_bytes((folder / WEIGHTS).read_bytes())
    (folder / WEIGHTS).unlink()


def changed(function):
    def change(folder):
        tensors = load_file(folder / WEIGHTS)
        function(tensors)
        save_file(tensors, folder / WEIGHTS)

    return change


SPOILT = {
    "sharded": (sharded, "several files"),
    "pickled": (pickled, "as a pickle"),
    "doubled": (doubled, "2 safetensors files"),
    "no config": (lambda f: (f / "config.json").unlink(), "no model of diffusers"),
    "config damaged": (lambda f: (f / "config.json").write_text("{"), "damaged"),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), "no JSON object"),
    "weights damaged": (lambda f: (f / WEIGHTS).write_bytes(b"no"), "damaged"),
    "other class": (
        lambda f: rewritten(f, _class_name="AutoencoderTiny"),
        "an? AutoencoderTiny; give an AutoencoderKL",
    ),
    "other blocks": (
        lambda f: rewritten(f, up_block_types=["AttnUpDecoderBlock2D"] * 2),
        "AttnUpDecoderBlock2D",
    ),
    "other activation": (lambda f: rewritten(f, act_fn="gelu"), "act_fn 'gelu'"),
    "colour to grey": (lambda f: rewritten(f, out_channels=1), "out_channels 1"),
    "wider": (lambda f: rewritten(f, block_out_channels=[8, 32]), "does not fit"),
    "groups": (lambda f: rewritten(f, norm_num_groups=5), "does not divide"),
    "scale": (lambda f: rewritten(f, scaling_factor=0), "scaling_factor=0"),
    "uneven depths": (
        lambda f: rewritten(f, layers_per_block=[1, 2]),
        r"layers_per_block=\[1, 2\] in config.json is none of an AutoencoderKL",
    ),
    "no depth": (lambda f: rewritten(f, layers_per_block=0), "layers_per_block=0"),
    "no widths": (lambda f: rewritten(f, block_out_channels=[]), "channels=\\[\\]"),
    "one width": (lambda f: rewritten(f, block_out_channels=8), "channels=8 in"),
    "words": (lambda f: rewritten(f, latent_channels="4"), "latent_channels='4'"),
    "no groups": (lambda f: rewritten(f, norm_num_groups=None), "norm_num_groups=None"),
    "no switch": (lambda f: rewritten(f, use_quant_conv=None), "use_quant_conv=None"),
    "mean in words": (
        lambda f: rewritten(f, latents_mean="x", latents_std=[1] * 4),
        "latents_mean='x'",
    ),
    "shift in words": (lambda f: rewritten(f, shift_factor="x"), "shift_factor='x'"),
    "a UNet": (
        lambda f: rewritten(f, _class_name="UNet2DConditionModel"),
        "UNet2DConditionModel; give an AutoencoderKL",
    ),
    "empty": (
        lambda f: [path.unlink() for path in f.iterdir()],
        "no model of diffusers at",
    ),
    "more channels": (lambda f: rewritten(f, latent_channels=16), "does not fit"),
    "statistics": (
        lambda f: rewritten(f, latents_mean=[0, 0], latents_std=[1, 1]),
        "2 and 2 numbers",
    ),
    "missing": (
        changed(lambda t: t.pop("decoder.mid_block.attentions.0.to_k.weight")),
        "decoder.mid_block.attentions.0.to_k.weight is missing",
    ),
    "deeper": (lambda f: rewritten(f, layers_per_block=2), "is missing"),
    "unknown": (
        changed(lambda t: t.update(another=torch.zeros(1))),
        "another belongs to no part",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_cannot_be_read_is_refused_in_one_line(name, tmp_path):
    spoil, words = SPOILT[name]
    theirs(**TINY).save_pretrained(tmp_path)
    spoil(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        load_vae(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["nowhere", "nowhere.safetensors"])
def test_a_path_to_nothing_is_refused(path, tmp_path):
    with pytest.raises(FileNotFoundError, match="no model of diffusers at"):
        load_vae(tmp_path / path)


@pytest.mark.parametrize(
    "config",
    [
        VAEConfig(channels=(16,)),
        VAEConfig(channels=(16,), encoder_patch=1, decoder_patch=1),
        replace(STABLE_DIFFUSION, channels=(8, 16), norm_num_groups=4, decoder_patch=2),
        replace(STABLE_DIFFUSION, channels=(8, 64), norm_num_groups=None),
        replace(STABLE_DIFFUSION, channels=(8, 16), norm_num_groups=4, head_channels=8),
    ],
)
def test_a_network_that_they_cannot_express_is_refused(config, tmp_path):
    config = replace(config, mid_attention=False)
    with pytest.raises(ValueError, match="train one with layout='stable-diffusion'"):
        save_vae(LatentCodec(AutoencoderKL(config)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_trained_autoencoder_of_ours_opens_with_theirs(tmp_path):
    """One that a recipe trains, whose codec has statistics of each channel."""
    import diffusers

    shape = replace(STABLE_DIFFUSION, channels=(8, 16), norm_num_groups=4)
    vae = AutoencoderKL(replace(shape, downsampling=4, quant_conv=False))
    nn.init.normal_(vae.decoder.out[2].weight, std=0.1)
    images = [torch.rand(8, 3, 16, 16) * 2 - 1 for _ in range(2)]
    codec = LatentCodec.fit(vae, images)
    save_vae(codec, tmp_path)
    model = diffusers.AutoencoderKL.from_pretrained(tmp_path)
    same(codec.vae, model)
    z = codec.encode(images[0], torch.Generator().manual_seed(0))
    mean = torch.tensor(model.config.latents_mean).view(4, 1, 1)
    std = torch.tensor(model.config.latents_std).view(4, 1, 1)
    raw = z * std / model.config.scaling_factor + mean  # as their pipelines decode
    with torch.no_grad():
        close(codec.decode(z), model.decode(raw).sample)


def test_the_command_hands_an_autoencoder_on(tmp_path, capsys):
    import diffusers

    shape = replace(STABLE_DIFFUSION, channels=(8, 16), norm_num_groups=4)
    vae = shaken(AutoencoderKL(replace(shape, downsampling=4)))
    codec = LatentCodec(vae, torch.tensor([0.1, 0, -0.2, 1]), torch.full((4,), 2.0))
    codec.save(tmp_path / "ours")
    for name, halved in (("whole", []), ("half", ["--fp16"])):
        out = tmp_path / name
        given = ["--model", str(tmp_path / "ours"), "--out", str(out), *halved]
        main(["export", "--format", "diffusers", *given])
        text, err = capsys.readouterr()
        assert not err and text.count("wrote ") == 2
        assert "diffusers.AutoencoderKL differs from ours by" in text
        model = diffusers.AutoencoderKL.from_pretrained(out, torch_dtype=torch.float32)
        same(load_vae(out).vae, model.eval())
        assert_close(load_vae(out).mean, codec.mean)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("vae-f8", "layout='compact'"),
        ("ldm-f8", "takes autoencoders alone; give one"),
        ("nowhere", "no model at 'nowhere'"),
    ],
)
def test_what_the_command_cannot_hand_on_is_one_line(tmp_path, capsys, model, says):
    out = str(tmp_path / "out")
    with pytest.raises(SystemExit) as stop:
        main(["export", "--format", "diffusers", "--model", model, "--out", out])
    err = capsys.readouterr().err
    assert stop.value.code == 2 and err.count("\n") == 1 and says in err
    assert not (tmp_path / "out").exists()


def test_a_difference_is_seen(tmp_path, monkeypatch):
    save_vae(from_diffusers(*describe(theirs(**TINY))), tmp_path)
    assert difference(tmp_path) < 1e-5
    decode = AutoencoderKL.decode
    monkeypatch.setattr(AutoencoderKL, "decode", lambda self, z: 1.1 * decode(self, z))
    assert difference(tmp_path) == pytest.approx(0.1, rel=1e-3)


def test_without_diffusers_nothing_is_compared(tmp_path, monkeypatch):
    save_vae(from_diffusers(*describe(theirs(**TINY))), tmp_path)
    monkeypatch.setattr("ldm_tutorial.interop.diffusers.find_spec", lambda name: None)
    assert difference(tmp_path) is None


def test_exported_tensors_are_copies():
    codec = from_diffusers(*describe(theirs(**TINY)))
    _, tensors = to_diffusers(codec)
    before = codec.vae.decoder.stem.weight.clone()
    tensors["decoder.conv_in.weight"].zero_()
    assert_close(codec.vae.decoder.stem.weight, before)
