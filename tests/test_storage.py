import json
import os
import random

import pytest
import torch

from ldm_tutorial import LatentCodec, LatentDiffusion
from ldm_tutorial.disk import as_path, read_json, replacing
from ldm_tutorial.records import results
from ldm_tutorial.storage import (
    config_from_dict,
    find_model,
    load_model,
    save_model,
    share_codec,
    shipped,
)
from ldm_tutorial.unet import UNet, UNetConfig
from ldm_tutorial.vae import VAEConfig


@pytest.fixture
def folder(tmp_path):
    save_model(tmp_path / "m", "Toy", {"a": 1}, {"w": torch.ones(3)})
    return tmp_path / "m"


def test_what_is_saved_is_loaded(folder):
    config, tensors = load_model(folder, "Toy")
    assert config == {"a": 1} and bool((tensors["w"] == 1).all())


def test_a_missing_model_names_what_there_is(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model at.*shipped model: "):
        find_model(tmp_path / "nothing")


def test_missing_weights_are_named(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors is missing"):
        load_model(folder, "Toy")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_file_is_refused(folder, name):
    (folder / name).write_bytes(b"{ damaged")
    with pytest.raises(ValueError, match="damaged"):
        load_model(folder, "Toy")


def test_another_kind_is_refused(folder):
    with pytest.raises(ValueError, match="'Toy'; wanted 'LatentCodec'"):
        load_model(folder, "LatentCodec")


def test_configs_survive_json():
    config = VAEConfig(channels=(8, 16))
    values = json.loads(json.dumps({"channels": [8, 16], "downsampling": 8}))
    assert config_from_dict(VAEConfig, values) == config


def test_an_unknown_field_is_refused():
    with pytest.raises(ValueError, match="VAEConfig has no field depth"):
        config_from_dict(VAEConfig, {"depth": 3})


SMALL = UNetConfig(4, (32,), 1, ())


def bytes_of(folder):
    return (folder / "model.safetensors").stat().st_size


def test_shipped_models_and_results_are_found():
    assert {"vae-f8", "ldm-f8"} <= set(shipped())
    assert results("vae-f8")["reconstruction"]["n"] > 0
    with pytest.raises(FileNotFoundError, match="no recorded result 'nothing'"):
        results("nothing")


def test_a_model_can_leave_its_codec_to_a_shipped_autoencoder(tmp_path):
    """To the bit the same model, in a smaller file."""
    model = LatentDiffusion(LatentCodec.load("vae-f8"), UNet(SMALL))
    with torch.no_grad():  # one tensor of its own is kept
        model.codec.vae.decoder.last_layer.add_(1)
    model.save(tmp_path, torch.float16)
    whole, size = LatentDiffusion.load(tmp_path).state_dict(), bytes_of(tmp_path)
    share_codec(tmp_path, "vae-f8")
    again = LatentDiffusion.load(tmp_path).state_dict()
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[k], again[k]) for k in whole)
    assert bytes_of(tmp_path) < size - 3e6
    with pytest.raises(ValueError, match="has nothing of vae-f8; give another"):
        share_codec(tmp_path, "vae-f8")


def test_a_codec_is_borrowed_from_what_ships_alone(tmp_path):
    model = LatentDiffusion(LatentCodec.load("vae-f8"), UNet(SMALL))
    model.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for lender in ("../../elsewhere", ["vae-f8"], 3):
        save_model(
            tmp_path,
            config["kind"],
            {k: v for k, v in config.items() if k != "kind"} | {"codec_of": lender},
            model.state_dict(),
        )
        with pytest.raises(ValueError, match=r"borrows .* which is not shipped") as got:
            LatentDiffusion.load(tmp_path)
        assert "\n" not in str(got.value)


# --- bits that flip -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_no_bit_of_a_model_flips_unnoticed(tmp_path, name):
    tensors = {"w": torch.randn(50), "v": torch.randn(2, 3)}
    save_model(tmp_path, "Toy", {"a": 1, "b": [0.5, "x"]}, tensors)
    path, good = tmp_path / name, (tmp_path / name).read_bytes()
    dice, noticed = random.Random(0), 0
    for _ in range(300):
        bad = bytearray(good)
        bad[dice.randrange(len(bad))] ^= 1 << dice.randrange(8)
        path.write_bytes(bad)
        try:
            config, found = load_model(tmp_path, "Toy")
            assert config == {"a": 1, "b": [0.5, "x"]}  # a space became another one
            assert all(torch.equal(found[k], v) for k, v in tensors.items())
        except ValueError as error:
            assert str(tmp_path) in str(error) and "\n" not in str(error)
            noticed += 1
    assert noticed > 250


def test_what_was_saved_without_a_digest_is_loaded(folder):
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(3)}, folder / "model.safetensors")
    assert not load_model(folder, "Toy")[1]["w"].any()


def test_the_same_model_is_the_same_bytes(tmp_path):
    for name in "ab":
        save_model(
            tmp_path / name, "Toy", {"a": 1}, {"w": torch.ones(3), "v": torch.ones(2)}
        )
    a, b = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert a == b


def test_shipped_models_have_a_digest():
    from safetensors import safe_open

    for name in shipped():
        with safe_open(find_model(name) / "model.safetensors", "pt") as file:
            assert len(file.metadata()["digest"]) == 64, name


# --- absurd sizes ---------------------------------------------------------------------


def changed(config, **values):
    """A config in which the entries of these names, however deep, are others."""
    if isinstance(config, dict):
        return {
            k: values[k] if k in values else changed(v, **values)
            for k, v in config.items()
        }
    return config


@pytest.mark.parametrize(
    "values",
    [
        {"num_res_blocks": 10**6},
        {"channels": [100_000_000]},
        {"channels": [60_000, 60_000]},
        {"channels": [32] * 1000},
        {"channels": []},
        {"channels": "wide"},
        {"channels": [None]},
        {"num_res_blocks": -1},
        {"num_res_blocks": 1.5},
        {"num_train_timesteps": 10**9},
        {"image_size": 10**9},
        {"image_size": 10},
        {"latent_channels": 0},
        {"downsampling": 0},
        {"num_classes": 10**9},
        {"codec": None},
        {"objective": 3},
        {"denoiser": {"kind": ["UNet"]}},
    ],
    ids=str,
)
def test_a_config_of_absurd_sizes_is_refused(tmp_path, values):
    """Before anything of such a size is built; no digest tells of the change."""
    from safetensors.torch import load_file, save_file

    model = LatentDiffusion.load("ldm-f8")
    model.save(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(weights, tmp_path / "model.safetensors")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(changed(config, **values)))
    with pytest.raises(ValueError) as caught:
        LatentDiffusion.load(tmp_path)
    assert "\n" not in str(caught.value)


# --- files ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "5", "[]", "null", "[" * 100_000, "{", '{"a": 1', "\0", "\udcff"]
)
def test_json_of_something_else_is_one_line(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(
        ValueError, match=r"x\.json is damaged: it (is no|holds a)"
    ) as e:
        read_json(path)
    assert "\n" not in str(e.value)


def test_what_is_too_long_or_no_file_is_not_read(tmp_path):
    with (tmp_path / "long.json").open("wb") as file:
        file.truncate(2 * 10**9)  # a hole: it takes no room on the disk
    with pytest.raises(ValueError, match="has 2000 MB, and at most 4 MB are expected"):
        read_json(tmp_path / "long.json")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ValueError, match="is no regular file"):
        read_json(tmp_path / "pipe.json")
    with pytest.raises(OSError):
        read_json(tmp_path / "missing.json")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as new:
        new.write_text("half")
        raise KeyError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with replacing(path) as new:
        new.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_path_is_what_a_user_means(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert as_path("~/runs") == tmp_path / "runs"
    for empty in ("", "  ", "a\0b"):
        with pytest.raises(ValueError, match="is no path"):
            as_path(empty)
    LatentCodec.load("vae-f8").save("~/codec")
    assert (tmp_path / "codec" / "config.json").is_file()
