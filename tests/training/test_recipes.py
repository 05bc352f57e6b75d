"""Recipes: every preset builds, runs resume exactly, folders are never mixed up."""

import json
import math
import shutil
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from tiny_recipes import LDM, TRAIN, VAE
from torch import nn
from torch.testing import assert_close
from torch.utils.data import Dataset, TensorDataset

from ldm_tutorial import (
    AutoencoderKL,
    LatentCodec,
    LatentDiffusion,
    PixelCodec,
    UNetConfig,
    VAEConfig,
)
from ldm_tutorial.cli.training import record
from ldm_tutorial.data import NAMES, images, whole
from ldm_tutorial.diffusion import Objective
from ldm_tutorial.dit import DiTConfig
from ldm_tutorial.flow import FlowMatching
from ldm_tutorial.landscapes.factors import CLASS_NAMES
from ldm_tutorial.training import fit, folder, presets, recipes, tasks
from ldm_tutorial.training.losses import VAELossConfig
from ldm_tutorial.training.recipes import VAERecipe

DIT = replace(LDM, denoiser="dit", dit=DiTConfig(patch_size=2, width=16, depth=1))


def equal(one, two):
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def snapshot(folder: Path):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def seeded():
    return torch.Generator().manual_seed(0)


class Stop(Exception):
    pass


def stop_at(step: int):
    def on_log(line):
        if line["step"] == step:
            raise Stop

    return on_log


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    """A tiny trained autoencoder and its folder."""
    out = tmp_path_factory.mktemp("vae")
    return *fit.train_vae(VAE, out), out


@pytest.fixture(scope="module")
def ldm(tmp_path_factory, vae):
    """A tiny trained latent diffusion model and its folder."""
    out = tmp_path_factory.mktemp("ldm")
    return *fit.train_ldm(LDM, vae[0], out), out


# --- presets --------------------------------------------------------------------------


@pytest.mark.parametrize("name", presets.VAE_PRESETS)
def test_every_autoencoder_preset_builds_and_runs(name):
    recipe = presets.VAE_PRESETS[name]
    vae = recipes.build_vae(recipe).eval()
    side = recipe.size // recipe.vae.downsampling
    with torch.no_grad():
        x_hat, posterior = vae(torch.zeros(1, 3, recipe.size, recipe.size))
    assert x_hat.shape == (1, 3, recipe.size, recipe.size)
    assert posterior.mu.shape == (1, recipe.vae.latent_channels, side, side)


@pytest.mark.parametrize("space", ["latent", "pixel"])
@pytest.mark.parametrize("name", presets.LDM_PRESETS)
def test_every_diffusion_preset_builds_and_runs(name, space):
    torch.manual_seed(0)
    if space == "pixel":
        recipe, codec = presets.PIXEL_PRESETS[name], PixelCodec()
    else:
        recipe, codec = presets.LDM_PRESETS[name], LatentCodec(AutoencoderKL())
    model = recipes.build_ldm(recipe, codec, tuple(CLASS_NAMES)).eval()
    assert model.unet.config.in_channels == codec.latent_shape(64)[0]
    assert model.classes == tuple(CLASS_NAMES)
    with torch.no_grad():
        loss, _ = model(torch.zeros(2, 3, 64, 64), torch.tensor([0, 15]))
    flow = model.prediction_type == "flow"
    weighed = getattr(recipe.objective, "min_snr_gamma", None)  # some times by nearly 0
    low, high = (0, 2) if weighed else (0.5, 4) if flow else (0.5, 2)
    assert low < float(loss) < high  # it predicts nothing: about 1, up to 2 of a flow


def test_presets_have_the_same_names_everywhere():
    names = {"smoke", "cpu", "gpu", "reference"}
    for table in (
        presets.VAE_PRESETS,
        presets.LDM_PRESETS,
        presets.PIXEL_PRESETS,
        presets.SCENE_PRESETS,
    ):
        assert table.keys() >= names
        assert all(recipe.data in NAMES for recipe in table.values())


@pytest.mark.parametrize(
    "recipe, message",
    [
        (replace(VAE, size=24, vae=VAEConfig(downsampling=16)), "size=24.*of 16$"),
        (replace(LDM, size=24, unet=UNetConfig(channels=(32,) * 5)), "multiple of 16$"),
        (replace(LDM, unet=UNetConfig(channels=(40,))), "make the channels a multiple"),
        (replace(LDM, autoencoder="thawed"), "'thawed' is unknown; choose frozen, det"),
        (replace(LDM, autoencoder="joint"), "'joint' was asked of a pixel model"),
        (replace(LDM, denoiser="mlp"), "denoiser='mlp' is unknown; choose unet, dit$"),
        (replace(DIT, dit=DiTConfig(patch_size=5)), "give a multiple of 5$"),
        (replace(DIT, autoencoder="joint-aligned"), "reads features of a UNet"),
        (
            replace(LDM, autoencoder="joint-aligned", objective=FlowMatching()),
            "reads features of a UNet",
        ),
    ],
)
def test_networks_that_cannot_be_built_are_refused(recipe, message):
    with pytest.raises(ValueError, match=message) as caught:
        if isinstance(recipe, VAERecipe):
            recipes.build_vae(recipe)
        else:
            recipes.build_ldm(recipe, PixelCodec())
    assert "\n" not in str(caught.value)


# --- training -------------------------------------------------------------------------


def test_a_trained_codec_has_latents_of_unit_scale_and_is_saved(vae):
    codec, log, out = vae
    assert [line["step"] for line in log] == [1, 2, 3, 4, 5, 6]
    assert {"loss", "reconstruction", "kl"} <= log[0].keys()
    x = torch.cat(images(VAE.load("train", 24), 24))
    q = codec.vae.encode(x)
    mean = q.mu.mean((0, 2, 3))
    std = (q.mu.var((0, 2, 3)) + q.logvar.exp().mean((0, 2, 3))).sqrt()
    assert_close(codec.std.flatten(), std.detach(), atol=0, rtol=0.15)
    assert_close(codec.mean.flatten(), mean.detach(), atol=0.2, rtol=0)
    assert equal(LatentCodec.load(out), codec)


def test_a_trained_model_is_saved_with_its_classes_and_its_codec(vae, ldm):
    model, _, out = ldm
    again = LatentDiffusion.load(out)
    assert equal(again, model) and not model.training
    assert again.classes == tuple(CLASS_NAMES) and again.image_size == 16
    assert equal(again.codec, vae[0])  # frozen all the way


def test_an_interrupted_training_ends_in_the_same_weights(vae, ldm, tmp_path):
    with pytest.raises(Stop):
        fit.train_vae(VAE, tmp_path / "vae", stop_at(5))
    started = []
    codec, _ = fit.train_vae(VAE, tmp_path / "vae", on_start=started.append)
    assert started == [4] and equal(codec, vae[0])

    with pytest.raises(Stop):
        fit.train_ldm(LDM, codec, tmp_path / "ldm", stop_at(3))
    model, _ = fit.train_ldm(LDM, codec, tmp_path / "ldm", on_start=started.append)
    assert started == [4, 2] and equal(model, ldm[0])


def test_a_pixel_model_needs_no_codec(tmp_path):
    recipe = replace(LDM, unet=replace(LDM.unet, patch_size=4))
    model, log = fit.train_ldm(recipe, out=tmp_path)
    assert isinstance(LatentDiffusion.load(tmp_path).codec, PixelCodec)
    assert model.unet.config.in_channels == 3 and len(log) == 6
    assert json.loads((tmp_path / "recipe.json").read_text())["codec"] == "pixels"


def test_a_flow_is_an_objective_like_another(vae, tmp_path):
    recipe = replace(LDM, objective=FlowMatching(shift=2.0))
    _, log = fit.train_ldm(recipe, vae[0], tmp_path)
    assert len(log) == 6 and all(math.isfinite(line["loss"]) for line in log)
    assert LatentDiffusion.load(tmp_path).objective == recipe.objective
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    assert recipe["objective"]["shift"] == 2.0


def test_the_recipe_is_there_from_the_start(tmp_path):
    with pytest.raises(Stop):
        fit.train_vae(VAE, tmp_path, stop_at(1))
    found = json.loads((tmp_path / "recipe.json").read_text())
    assert found.pop("model")["vae"] == json.loads(json.dumps(asdict(VAE.vae)))
    assert found == {"kind": "VAERecipe"} | json.loads(json.dumps(asdict(VAE)))
    other = replace(VAE, length=32)  # nothing is lost yet: another recipe may start
    with pytest.raises(Stop):
        fit.train_vae(other, tmp_path, stop_at(1))
    assert json.loads((tmp_path / "recipe.json").read_text())["length"] == 32


def test_cached_latents_are_the_moments_of_the_codec(vae):
    data = LDM.load("train", 24)
    cache = fit.cache_latents(vae[0], data)
    moments, label = cache[7]
    posterior = vae[0].vae.encode(data[7][0][None])
    expected = torch.cat([posterior.mu, posterior.logvar], 1)[0]
    assert_close(moments, expected.detach(), atol=1e-5, rtol=1e-4)
    assert int(label) == data[7][1] and len(cache) == 24


def test_latents_of_any_data_set_can_be_cached(vae):
    """A plain TensorDataset of images knows nothing of sizes or classes' names."""
    x = torch.rand(5, 3, 64, 64) * 2 - 1
    cache = fit.cache_latents(
        vae[0], torch.utils.data.TensorDataset(x, torch.arange(5))
    )
    moments, classes = cache.tensors
    assert classes.tolist() == [0, 1, 2, 3, 4]
    mean, _ = moments.chunk(2, dim=1)
    torch.testing.assert_close(mean, vae[0].posterior(x).mu, atol=1e-5, rtol=1e-5)


# --- what a folder refuses ----------------------------------------------------------


@pytest.mark.parametrize(
    "other, message",
    [
        ({"size": 32}, "size=16, and size=32 was asked for; choose another folder"),
        ({"length": 25}, "length=24, and length=25 was asked for"),
        ({"data": "cifar10"}, "data=landscapes, and data=cifar10 was asked for"),
        ({"vae": replace(VAE.vae, latent_channels=8)}, "vae.latent_channels=4, and"),
        ({"vae": replace(VAE.vae, channels=(8,))}, r"vae.channels=\[8, 8, 16, 16\], a"),
        ({"loss": replace(VAE.loss, kl_weight=0.1)}, "loss.kl_weight=0.001, and"),
        ({"train": replace(TRAIN, steps=5)}, "train.steps=6, and train.steps=5 was"),
    ],
)
def test_another_recipe_is_refused_in_the_same_folder(vae, other, message):
    out, before = vae[2], snapshot(vae[2])
    described = folder.settings(replace(VAE, **other))
    with pytest.raises(ValueError, match=message) as caught:
        folder.check_folder(out, described)
    assert "\n" not in str(caught.value) and snapshot(out) == before


def test_training_asks_before_it_touches_a_folder(vae, ldm):
    for out, train in (
        (vae[2], lambda out: fit.train_vae(replace(VAE, length=20), out)),
        (vae[2], lambda out: fit.train_ldm(LDM, vae[0], out)),
        (ldm[2], lambda out: fit.train_ldm(LDM, PixelCodec(), out)),
        (ldm[2], lambda out: fit.train_ldm(replace(LDM, size=32), vae[0], out)),
    ):
        before = snapshot(out)
        with pytest.raises(ValueError, match=r"holds a run with .* choose another"):
            train(out)
        assert snapshot(out) == before


def test_another_autoencoder_under_the_same_model_is_refused(ldm, vae):
    other = LatentCodec(vae[0].vae, vae[0].mean.flatten() + 1, vae[0].std.flatten())
    with pytest.raises(ValueError, match=r"codec=[0-9a-f]{12}, and codec=[0-9a-f]{12}"):
        fit.train_ldm(LDM, other, ldm[2])


def test_download_may_be_left_out_when_resuming(vae):
    described = folder.settings(replace(VAE, download=True))
    folder.check_folder(vae[2], described)  # does not raise


def test_a_model_without_its_run_is_not_overwritten(vae, tmp_path):
    vae[0].save(tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(ValueError, match=r"a finished model .* without its checkpoint"):
        fit.train_vae(VAE, tmp_path)
    assert snapshot(tmp_path) == before


def test_a_damaged_recipe_is_named(vae, tmp_path):
    shutil.copytree(vae[2], tmp_path / "copy")
    (tmp_path / "copy" / "recipe.json").write_text('{"size": ')
    with pytest.raises(ValueError, match=r"recipe\.json is damaged: .*; put a copy"):
        fit.train_vae(VAE, tmp_path / "copy")
    with pytest.raises(ValueError, match=r"recipe\.json is damaged: .*remove it"):
        folder.trained_on(tmp_path / "copy")


def test_runs_from_before_recipes_were_stored_go_on(vae, tmp_path):
    """Old folders hold a checkpoint and no recipe.json, or one without its kind."""
    for name in ("checkpoint.pt", "metrics.jsonl"):
        shutil.copy(vae[2] / name, tmp_path / name)
    codec, _ = fit.train_vae(VAE, tmp_path)
    assert equal(codec, vae[0])
    assert folder.trained_on(tmp_path)["size"] == 16


# --- records --------------------------------------------------------------------------


def test_what_is_recorded(vae):
    codec, log, _ = vae
    report = record(VAE, codec.vae, log)
    assert report["recipe"] == asdict(VAE) and report["images_seen"] == 24
    assert report["seconds"] == log[-1]["seconds"]
    assert report["final"]["loss"] == log[-1]["loss"]
    assert report["parameters"] == sum(p.numel() for p in codec.vae.parameters())
    json.dumps(report)
    assert record(VAE, codec.vae, [])["final"] == {}  # the log was deleted


def test_a_shipped_model_has_no_recipe_and_that_is_fine(vae, tmp_path):
    vae[0].save(tmp_path)
    assert folder.trained_on(tmp_path) == {}
    assert folder.trained_on(vae[2])["vae"]["downsampling"] == 4


# --- an autoencoder that is trained along ---------------------------------------------

KINDS = ("detached", "joint", "joint-normalised", "joint-aligned")


@pytest.fixture(scope="module", params=KINDS)
def together(request, vae):
    """The codec from before, the model, and its log."""
    recipe = replace(LDM, autoencoder=request.param)
    return request.param, vae[0], *fit.train_ldm(recipe, vae[0])


def test_both_are_trained_and_monitored(together):
    _, before, model, log = together
    assert not equal(before.vae, model.codec.vae)
    wanted = {"diffusion", "reconstruction", "psnr", "kl", "latent_std", "loss"}
    assert wanted <= set(log[-1])
    assert ("alignment" in log[-1]) == (together[0] == "joint-aligned")
    assert all(map(math.isfinite, log[-1].values()))


def test_the_callers_codec_is_left_as_it_was(together, vae):
    _, before, model, _ = together
    assert equal(before, LatentCodec.load(vae[2]))
    assert model.codec is not before


def test_the_scale_of_the_latents_is_followed_but_in_a_naive_joint_training(together):
    kind, before, model, _ = together
    same = torch.equal(before.std, model.codec.std)
    assert same == (kind == "joint")
    if kind != "joint":
        z = model.codec.encode(whole(LDM.load("train", 24), 24)[0])
        assert_close(z.std((0, 2, 3)), torch.ones(z.shape[1]), atol=0.2, rtol=0)


def encoder_gradient(kind, vae):
    """What the terms of the diffusion model do to the encoder."""
    module = joint_training(kind, vae)
    x, y = whole(LDM.load("train", 8), 8)
    z = module.unit_scale(module.model.codec.vae.encode(x).mode())
    loss, _ = module.denoising(z, x, y, torch.Generator())
    loss.backward()
    grads = [p.grad for p in module.model.codec.vae.encoder.parameters()]
    return sum(float(g.abs().sum()) for g in grads if g is not None)


def joint_training(kind, vae):
    codec = deepcopy(vae[0])
    model = recipes.build_ldm(replace(LDM, autoencoder=kind), codec, tuple(CLASS_NAMES))
    torch.nn.init.normal_(model.unet.out[-1].weight, std=0.1)
    return tasks.JointTraining(model, kind, LDM.loss).train()


def test_the_diffusion_loss_reaches_the_encoder_unless_detached(vae):
    assert encoder_gradient("detached", vae) == 0
    assert encoder_gradient("joint", vae) > 0
    assert encoder_gradient("joint-normalised", vae) > 0


def test_the_alignment_loss_alone_reaches_the_encoder(vae, monkeypatch):
    gradients = []
    for weight in (0.0, 1.0, 3.0):
        monkeypatch.setattr(tasks, "ENCODER_ALIGNMENT_WEIGHT", weight)
        torch.manual_seed(0)
        gradients.append(encoder_gradient("joint-aligned", vae))
    assert gradients[0] == 0 and gradients[1] > 0
    assert gradients[2] == pytest.approx(3 * gradients[1], rel=1e-4)


def test_normalised_latents_cannot_be_shrunk(vae):
    """Smaller latents are easier to tell from noise; normalising takes that way out."""
    raw = torch.randn(32, 4, 4, 4)

    def shrinks(kind):
        module = joint_training(kind, vae).eval()
        large, small = (module.unit_scale(scale * raw).std() for scale in (1.0, 0.1))
        return float(small / large)

    assert shrinks("joint") < 0.5
    for kind in ("joint-normalised", "joint-aligned"):
        assert shrinks(kind) == pytest.approx(1, abs=1e-3)


def test_a_joint_training_resumes_to_the_same_weights(vae, tmp_path):
    recipe = replace(LDM, autoencoder="detached")
    with pytest.raises(Stop):
        fit.train_ldm(recipe, vae[0], tmp_path, on_log=stop_at(3))
    resumed, _ = fit.train_ldm(recipe, vae[0], tmp_path)
    straight, _ = fit.train_ldm(recipe, vae[0])
    assert equal(resumed, straight)
    assert equal(LatentDiffusion.load(tmp_path), straight)


def test_watch_sees_the_model_as_it_is(vae):
    seen = []

    def watch(model, line):
        assert not model.unet.training
        seen.append((line["step"], model.sample(1, steps=1, generator=seeded())))

    watched, log = fit.train_ldm(LDM, vae[0], watch=watch)
    assert [step for step, _ in seen] == [line["step"] for line in log]
    assert not torch.equal(seen[0][1], seen[-1][1])
    assert equal(watched, fit.train_ldm(LDM, vae[0])[0])


@pytest.mark.parametrize("name", ["adversarial", "equivariance", "alignment"])
def test_some_losses_need_a_training_of_the_autoencoder_alone(vae, name):
    loss = VAELossConfig(**{f"{name}_weight": 0.5})
    message = f"loss.{name}_weight=0.5; an autoencoder that is trained along"
    with pytest.raises(ValueError, match=message):
        fit.train_ldm(replace(LDM, autoencoder="detached", loss=loss), vae[0])


# --- going on from a model ------------------------------------------------------------


def test_a_model_goes_on_from_another(vae, ldm):
    frozen = replace(LDM, init=str(ldm[2]), train=replace(TRAIN, learning_rate=1e-12))
    model, _ = fit.train_ldm(frozen, vae[0])
    for one, two in zip(model.unet.parameters(), ldm[0].unet.parameters(), strict=True):
        assert_close(one, two, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"objective": Objective(prediction_type="v")}, "eps, and v was asked for"),
        ({"unet": UNetConfig(channels=(64,))}, "cannot pass its weights on to"),
    ],
)
def test_it_must_have_learned_the_same(vae, ldm, change, message):
    with pytest.raises(ValueError, match=message):
        fit.train_ldm(replace(LDM, init=str(ldm[2]), **change), vae[0])


def test_the_finished_model_may_have_a_decoder_of_its_own(vae, tmp_path):
    tuned = replace(VAE, init=str(vae[2]), freeze_encoder=True)
    fit.train_vae(tuned, tmp_path / "tuned")
    recipe = replace(LDM, decoder=str(tmp_path / "tuned"))
    model, _ = fit.train_ldm(recipe, vae[0], tmp_path / "ldm")
    plain, _ = fit.train_ldm(LDM, vae[0])
    assert equal(model.unet, plain.unet)
    assert equal(model.codec.vae.encoder, plain.codec.vae.encoder)
    assert not equal(model.codec.vae.decoder, plain.codec.vae.decoder)
    assert equal(LatentDiffusion.load(tmp_path / "ldm"), model)


def test_a_decoder_of_other_latents_is_refused(vae, tmp_path):
    fit.train_vae(replace(VAE, train=replace(TRAIN, seed=1)), tmp_path / "other")
    with pytest.raises(ValueError, match="another encoder than the autoencoder that"):
        fit.train_ldm(replace(LDM, decoder=str(tmp_path / "other")), vae[0])
    with pytest.raises(ValueError, match="another encoder"):
        fit.train_ldm(replace(LDM, decoder=str(tmp_path / "other")))


# --- data and networks of one's own ---------------------------------------------------


class Coloured(Dataset):
    """Images of one colour each, with or without a label."""

    def __init__(self, make, n=16):
        self.make, self.n = make, n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return self.make(torch.full((3, 16, 16), index / self.n * 2 - 1), index)


def test_an_autoencoder_and_a_model_of_ones_own_images(tmp_path):
    plain, labelled = Coloured(lambda x, i: x), Coloured(lambda x, i: (x, i % 3))
    codec, log = fit.train_vae(VAE, tmp_path / "vae", dataset=plain, validate=plain)
    assert "validation_loss" in log[-1] and codec.latent_shape(16)
    described = folder.trained_on(tmp_path / "vae")
    assert described["data"] == "Coloured of 16"

    model, log = fit.train_ldm(LDM, codec, dataset=labelled, validate=labelled)
    assert model.classes == ("0", "1", "2") and "validation_loss" in log[-1]
    unconditional, _ = fit.train_ldm(LDM, codec, dataset=plain)
    assert unconditional.classes == ()
    pixels, _ = fit.train_ldm(LDM, dataset=TensorDataset(torch.zeros(16, 3, 16, 16)))
    assert pixels.sample(1, steps=1).shape == (1, 3, 16, 16)


def test_classes_of_ones_own_have_their_names():
    labelled = Coloured(lambda x, i: (x, i % 2))
    labelled.classes = ["dark", "bright"]
    model, _ = fit.train_ldm(LDM, PixelCodec(), dataset=labelled)
    assert model.classes == ("dark", "bright")
    labelled.classes = ["dark"]
    with pytest.raises(ValueError, match=r"label 1, and there are 1 classes; give 0"):
        fit.train_ldm(LDM, PixelCodec(), dataset=labelled)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda x, i: x[:, :8], r"images are 8 x 16 pixels and size=16 was asked for"),
        (lambda x, i: x * 255, "has values from -255 to -255; bring them to"),
        (lambda x, i: x.byte(), r"first item is torch.uint8 \(3, 16, 16\); give float"),
        (lambda x, i: {"x": x}, "first item is <class 'dict'>; give float images"),
        (lambda x, i: "picture", "first item is <class 'str'>; give float images"),
    ],
)
def test_items_that_are_no_images_are_refused(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        fit.train_vae(VAE, dataset=Coloured(make))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="the data set is empty"):
        fit.train_vae(VAE, dataset=Coloured(make, n=0))


def test_a_network_of_ones_own_is_trained(vae):
    class Line(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.zeros(()))

        def forward(self, z_t, t, y=None):
            return self.scale * z_t

    network = Line()
    model, log = fit.train_ldm(LDM, vae[0], denoiser=network)
    assert model.denoiser is network and float(network.scale.detach()) != 0
    assert log[-1]["loss"] < log[0]["loss"] + 0.5


def test_training_leaves_the_callers_codec_as_it_was(vae):
    codec = vae[0].requires_grad_(True)
    fit.train_ldm(LDM, codec)
    assert all(p.requires_grad for p in codec.vae.parameters())
    codec.freeze()
