import json

import pytest
import torch

from ldm_tutorial.records import results
from ldm_tutorial.storage import (
    config_from_dict,
    find_model,
    load_model,
    save_model,
    shipped,
)
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


def test_shipped_models_and_results_are_found():
    assert {"vae-f8", "ldm-f8"} <= set(shipped())
    assert results("vae-f8")["reconstruction"]["n"] > 0
    with pytest.raises(FileNotFoundError, match="no recorded result 'nothing'"):
        results("nothing")
