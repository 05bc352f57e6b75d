"""Published weights: fetched once, on request, and never half."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.interop import fetch
from ldm_tutorial.interop.diffusers import WEIGHTS, save_vae
from ldm_tutorial.vae import AutoencoderKL
from ldm_tutorial.vae_config import STABLE_DIFFUSION

TINY = replace(STABLE_DIFFUSION, channels=(8, 8), norm_num_groups=2)


@pytest.fixture
def hub(tmp_path):
    """A hub on the disk, with one model."""
    torch.manual_seed(0)
    codec = LatentCodec(AutoencoderKL(TINY), std=1 / 0.18215)
    save_vae(codec, tmp_path / "hub/me/vae/resolve/main")
    return (tmp_path / "hub").as_uri(), codec


def test_it_is_fetched_once_on_request(hub, tmp_path):
    address, codec = hub
    kept = {"folder": tmp_path / "kept", "hub": address}
    with pytest.raises(FileNotFoundError, match="not on this machine; give download"):
        fetch.fetch_vae("me/vae", **kept)
    got = fetch.fetch_vae("me/vae", download=True, **kept)
    again = fetch.fetch_vae("me/vae", folder=tmp_path / "kept", hub="file:///nowhere")
    for one in (got, again):
        assert_close(one.state_dict(), codec.state_dict())


def test_what_breaks_off_leaves_nothing(hub, tmp_path, monkeypatch):
    address, _ = hub

    def broken(source, target):
        target.write(source.read(100))
        raise ConnectionResetError("gone")

    monkeypatch.setattr(fetch.shutil, "copyfileobj", broken)
    with pytest.raises(FileNotFoundError, match="could not be fetched: gone"):
        fetch.fetch_vae("me/vae", download=True, folder=tmp_path / "kept", hub=address)
    assert not (tmp_path / "kept/config.json").exists()


def test_a_model_that_is_not_there_is_told_in_one_line(hub, tmp_path):
    with pytest.raises(FileNotFoundError, match="could not be fetched") as caught:
        fetch.fetch_vae("me/no", download=True, folder=tmp_path / "kept", hub=hub[0])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "kept" / WEIGHTS).exists()
