"""What a space costs: the price list, what a budget buys, growth with the size."""

import json
from dataclasses import replace

import pytest
import torch
from tiny_scales import TINY

from ldm_tutorial.cost.efficiency import Timing, count_flops
from ldm_tutorial.cost.spaces import SPACES, Space
from ldm_tutorial.layers import Attention
from ldm_tutorial.studies import cost_growth, time_to_quality
from ldm_tutorial.studies.time_to_quality import train_within_budget
from ldm_tutorial.unet import UNet, UNetConfig
from ldm_tutorial.vae import VAEConfig

SMALL = UNetConfig(channels=(32, 32), num_res_blocks=1, attention_levels=(1,))


@pytest.fixture
def two_spaces(monkeypatch):
    """Pixels in patches and a latent space, both with tiny networks."""
    vae = VAEConfig(channels=(16, 16, 32, 32))
    spaces = {"patch 4": Space(replace(SMALL, patch_size=4)), "f8": Space(SMALL, vae)}
    monkeypatch.setattr(time_to_quality, "SPACES", spaces)


def test_the_spaces_have_networks_of_one_size():
    from ldm_tutorial.cost.efficiency import count_parameters

    sizes = [count_parameters(space.model().unet) for space in SPACES.values()]
    assert max(sizes) < 1.06 * min(sizes)
    flops = {}
    for name, space in SPACES.items():
        z = torch.zeros(1, *space.codec().latent_shape(64))
        model, t = space.model(), torch.zeros(1, dtype=torch.int64)
        flops[name] = count_flops(lambda m=model, z=z, t=t: m.unet(z, t))
    assert sorted(flops, key=flops.get, reverse=True) == list(SPACES)


def test_attention_flops_are_those_of_the_formula():
    unet = UNet(replace(SMALL, in_channels=4))
    z, t = torch.zeros(2, 4, 8, 8), torch.zeros(2, dtype=torch.int64)
    layers = sum(isinstance(layer, Attention) for layer in unet.modules())
    N, C = 4 * 4, 32  # level 1
    wanted = 2 * layers * (8 * N * C**2 + 4 * N**2 * C)
    assert cost_growth.attention_flops(unet, z, t) == wanted


def test_the_price_list_takes_the_fastest_call(two_spaces, monkeypatch):
    def clock(calls, repeats):
        assert repeats == 7
        for call in calls.values():
            call()
        return {
            name: Timing((3.0 + i, 1.0 + i, 2.0 + i)) for i, name in enumerate(calls)
        }

    monkeypatch.setattr(time_to_quality, "time_side_by_side", clock)
    prices = time_to_quality.price_list(2, 7)
    assert prices["patch 4"]["step_seconds"] == 1
    assert [prices["f8"][f"{k}_seconds"] for k in ("step", "encode", "vae_step")] == [
        2,
        3,
        4,
    ]
    assert prices["f8"]["vae_step_gflops"] > 3 * prices["f8"]["encode_gflops"]
    assert "vae_step_seconds" not in prices["patch 4"]


def test_a_budget_buys_steps_at_the_price(two_spaces, tmp_path):
    """Every point is a training of its own, as long as its seconds allow."""
    shared = tmp_path / "shared"
    shared.mkdir()
    price = {"step_seconds": 0.05, "step_gflops": 2.0}
    vae = {"vae_step_seconds": 0.1, "vae_step_gflops": 5.0, "encode_seconds": 0.01}
    prices = {"patch 4": price, "f8": price | vae}
    (shared / "prices.json").write_text(json.dumps(prices))
    scale = replace(TINY, seconds=1.54)
    row, pictures = train_within_budget(scale, "f8", 0, tmp_path / "f8-seed0")
    assert row["vae_images"] == 5 * 8
    assert row["vae_seconds"] == pytest.approx(40 / 4 * 0.1)
    assert row["encode_seconds"] == pytest.approx(16 / 4 * 0.01)
    assert [point["steps"] for point in row["points"]] == [2, 2, 10]  # of half a second
    assert [point["gflops"] for point in row["points"]] == [4, 4, 20]
    assert list(pictures) == ["sample-0.5"]  # of the longest
    paid, _ = train_within_budget(scale, "patch 4", 0, tmp_path / "patch-4-seed0")
    assert "vae_seconds" not in paid
    assert [point["steps"] for point in paid["points"]] == [2, 8, 30]  # of all of it


def test_without_attention_the_cost_grows_with_the_pixels(monkeypatch, tmp_path):
    plain = replace(SMALL, attention_levels=())
    spaces = {"plain": Space(plain), "attentive": Space(SMALL)}
    monkeypatch.setattr(cost_growth, "SPACES", spaces)
    few = replace(cost_growth.DATA, size=16)  # a batch of two is enough to count
    monkeypatch.setattr(cost_growth, "DATA", few)
    small, large = (
        cost_growth.time_at_size(TINY, size, tmp_path)[0]["spaces"] for size in (32, 64)
    )
    for row in (small, large):
        assert row["plain"]["attention_gflops"] == 0 < row["plain"]["seconds"]

    def growth(name, what):
        return large[name][what] / small[name][what]

    assert growth("plain", "gflops") == pytest.approx(4, rel=1e-3)
    assert growth("plain", "megabytes") == pytest.approx(4, rel=0.01)
    assert growth("attentive", "gflops") > 4.5
