"""Runs that stop, move and change: they go on, and give their models meanwhile."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_recipes import LDM, VAE
from torch.testing import assert_close

from ldm_tutorial import LatentCodec, LatentDiffusion
from ldm_tutorial.cli.main import main
from ldm_tutorial.data import DataConfig, load_dataset
from ldm_tutorial.training import fit, unfinished
from ldm_tutorial.training.folder import other_images, settings, what_changed


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i in range(40):
        path = folder / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 255, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((16, 16)).save(path)
    return folder


class Stopped(Exception):
    pass


def stop_at(step):
    def on_log(line):
        if line["step"] == step:
            raise Stopped

    return on_log


@pytest.fixture(scope="module")
def runs(photos, tmp_path_factory):
    """An autoencoder and a diffusion model that stopped after four of six steps."""
    out = tmp_path_factory.mktemp("runs")
    recipe = replace(VAE, data=str(photos), length=None)
    with pytest.raises(Stopped):
        fit.train_vae(recipe, out / "vae", stop_at(5))
    codec = unfinished.load(LatentCodec, out / "vae")
    for name, space in (("ldm", codec), ("pixels", None)):
        ldm = replace(LDM, data=str(photos), length=None)
        with pytest.raises(Stopped):
            fit.train_ldm(ldm, space, out / name, stop_at(5))
    return out


def average_in(folder, name):
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    return saved["ema"]["average"][name]


def test_an_unfinished_autoencoder_has_its_averaged_weights_and_measures(runs, photos):
    assert unfinished.is_unfinished(runs / "vae")
    assert unfinished.unfinished_step(runs / "vae") == 4
    codec = unfinished.load(LatentCodec, runs / "vae")
    for name, weight in codec.vae.named_parameters():
        assert_close(weight, average_in(runs / "vae", f"vae.{name}"))
    x = torch.stack([x for x, _ in load_dataset(photos, 16)])
    z = codec.encode(x, torch.Generator().manual_seed(1))
    assert_close(z.std((0, 2, 3)), torch.ones(z.shape[1]), atol=0.1, rtol=0)


@pytest.mark.parametrize(("run", "inside"), [("ldm", "model."), ("pixels", "")])
def test_an_unfinished_model_has_its_averaged_weights(runs, run, inside):
    model = unfinished.load(LatentDiffusion, runs / run)
    assert model.classes == ("a", "b") and model.image_size == 16
    for name, weight in model.denoiser.named_parameters():
        assert_close(weight, average_in(runs / run, f"{inside}denoiser.{name}"))
    assert model.sample(2, steps=2).shape == (2, 3, 16, 16)


def test_another_training_starts_from_an_unfinished_one(runs, photos):
    recipe = replace(VAE, data=str(photos), length=None, init=str(runs / "vae"))
    codec = fit.train_vae(recipe)[0]
    assert codec.vae.config == VAE.vae
    recipe = replace(LDM, data=str(photos), length=None, init=str(runs / "pixels"))
    assert fit.train_ldm(recipe)[0].classes == ("a", "b")


def test_what_is_no_run_or_says_too_little_is_named(runs, tmp_path):
    with pytest.raises(ValueError, match="of kind 'LatentCodec'; wanted 'LatentDiff"):
        unfinished.load(LatentDiffusion, runs / "vae")
    with pytest.raises(FileNotFoundError, match="no model at"):
        unfinished.load(LatentCodec, tmp_path)
    shutil.copytree(runs / "vae", tmp_path / "old")
    for text in ("{", "[]", '{"kind": "VAERecipe"}', '{"model": 5}'):
        (tmp_path / "old" / "recipe.json").write_text(text)
        said = r"does not say what it trains|recipe\.json is damaged"
        with pytest.raises(ValueError, match=said):
            unfinished.load(LatentCodec, tmp_path / "old")


def test_a_run_goes_on_when_its_folder_moved_and_changed(runs, photos, tmp_path):
    moved, out = tmp_path / "moved", tmp_path / "run"
    shutil.copytree(photos, moved)
    shutil.copytree(runs / "vae", out)
    gone = load_dataset(moved, 16).source.files[0][0]
    gone.unlink()
    recipe = replace(VAE, data=str(moved), length=None, skip_bad=True)
    recipe = replace(recipe, train=replace(VAE.train, num_workers=0, log_every=3))
    said = what_changed(out, settings(recipe), 31)
    assert said == [
        f"the images were in {photos}",
        "there were 32 images to train on, and now 31",
    ]
    _, log = fit.train_vae(recipe, out)
    assert [line["step"] for line in log][-1] == 6
    assert not unfinished.is_unfinished(out)
    assert what_changed(out, settings(recipe), 31) == []


def test_a_run_says_which_pictures_are_others_now(photos, tmp_path, capsys):
    """One went, one came, and one was painted over: their number is what it was."""
    place = tmp_path / "pictures"
    shutil.copytree(photos, place)
    given = ["train-vae", "--preset", "smoke", "--data", str(place), "--size", "16"]
    given += ["--out", str(tmp_path / "run"), "--train.batch_size", "8"]
    main([*given, "--train.steps", "2"])
    assert "since this run" not in capsys.readouterr().err
    names = sorted(json.loads((tmp_path / "run" / "images.json").read_text()))
    assert len(names) == 32
    gone, other = names[0], names[1]
    new = next(f"a/{i}.png" for i in range(100, 200) if trained_on(place, f"a/{i}.png"))
    (place / gone).rename(place / new)
    Image.new("RGB", (16, 16), "red").save(place / other)
    main([*given, "--train.steps", "3"])
    said = capsys.readouterr().err.splitlines()
    changes = [line for line in said if line.startswith("since this run was begun")]
    said = [line.partition(": ")[2] for line in changes]
    assert said[0].startswith("2 steps were asked for, and now 3")
    assert said[1:] == [
        f"gone: {gone}",
        f"new: {new}",
        f"not the pictures that they were: {other}",
    ]
    main([*given, "--train.steps", "4"])
    said = capsys.readouterr().err
    assert "and now 4" in said and "gone:" not in said and "pictures that" not in said


def trained_on(folder, name):
    """Whether an image of this name would be trained on."""
    path = folder / name
    Image.new("RGB", (16, 16)).save(path)
    found = load_dataset(folder, 16).source.paths
    path.unlink()
    return name in found


@pytest.mark.parametrize(
    "old, new, said",
    [
        ({}, {"a": "1"}, []),
        ({"a": "1"}, {}, []),
        ({"a": "1"}, {"a": "1"}, []),
        (
            {f"{i}": "1" for i in range(9)},
            {"8": "2"},
            ["gone: 0, 1, 2 and 5 more", "not the pictures that they were: 8"],
        ),
    ],
)
def test_what_is_said_of_other_images(old, new, said):
    assert other_images(old, new) == said


def test_other_data_and_other_classes_are_refused(runs, photos, tmp_path):
    shutil.copytree(runs / "vae", tmp_path / "vae")
    with pytest.raises(ValueError, match=r"data=.*photos.*, and data=landscapes"):
        fit.train_vae(replace(VAE, length=None), tmp_path / "vae")
    shutil.copytree(runs / "pixels", tmp_path / "ldm")
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "a").rename(tmp_path / "photos" / "c")
    recipe = replace(LDM, data=str(tmp_path / "photos"), length=None)
    with pytest.raises(
        ValueError, match=r"classes=\['a', 'b'\], and classes=\['b', 'c"
    ):
        fit.train_ldm(recipe, None, tmp_path / "ldm")


def test_pictures_change_nothing_and_show_the_averaged_weights(photos, tmp_path):
    recipe = replace(VAE, data=str(photos), length=None)
    shown = []

    def show(vae, step):
        torch.rand(5)  # draws from the global generator
        assert not vae.training and not torch.is_grad_enabled()
        weight = next(vae.parameters()).detach().clone()
        shown.append((step, weight))

    watched, log = fit.train_vae(recipe, tmp_path / "a", show=show, show_every=4)
    plain, plain_log = fit.train_vae(recipe, tmp_path / "b")
    for mine, other in zip(watched.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, other)
    assert [step for step, _ in shown] == [4, 6]
    saved = torch.load(tmp_path / "a" / "checkpoint.pt", weights_only=True)
    first = next(iter(saved["ema"]["average"].values()))
    assert torch.equal(shown[-1][1], first) and not torch.equal(shown[0][1], first)
    assert [line["loss"] for line in log] == [line["loss"] for line in plain_log]


def test_grey_images_are_trained_on(photos):
    recipe = replace(VAE, data=str(photos), length=None, channels=1)
    assert recipe.vae.in_channels == 1
    assert replace(VAE, vae=replace(VAE.vae, in_channels=1)).channels == 1
    codec = fit.train_vae(recipe)[0]
    ldm = replace(LDM, data=str(photos), length=None, channels=1)
    for space in (codec, None):
        model, _ = fit.train_ldm(ldm, space)
        assert model.sample(1, steps=2).shape == (1, 1, 16, 16)
    with pytest.raises(ValueError, match="images of 1 channels, and channels=3"):
        fit.train_ldm(replace(ldm, channels=3), codec)


def test_the_recipe_says_what_is_trained(runs):
    recipe = json.loads((runs / "ldm" / "recipe.json").read_text())
    assert recipe["model"]["denoiser"]["kind"] == "UNet"
    assert recipe["classes"] == recipe["model"]["classes"] == ["a", "b"]
    assert DataConfig(recipe["data"]).load("train").classes == ["a", "b"]
