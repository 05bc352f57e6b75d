"""SceneNet: shapes, what it is taught, and what the shipped ones know."""

import json
from dataclasses import asdict

import pytest
import torch
from records import filled
from torch.testing import assert_close

from ldm_tutorial.cli.main import main
from ldm_tutorial.landscapes.dataset import DETAILS, Landscapes, detail_masks, render
from ldm_tutorial.landscapes.scenenet import (
    CHOICES,
    NUMBERS,
    SceneNet,
    SceneNetConfig,
    Scenes,
    SceneTraining,
    accuracy,
    answers,
)
from ldm_tutorial.records import results
from ldm_tutorial.training import fit, presets, recipes
from ldm_tutorial.training.config import TrainConfig

SHIPPED = {"scenenet": "reference", "scenenet-judge": "judge"}
SMALL = SceneNetConfig(channels=(16, 16), features=8)


def small():
    torch.manual_seed(0)
    return SceneNet(SMALL).eval()


def scenes(n=32, split="test"):
    return Scenes(Landscapes(split, n))


# --- the network ----------------------------------------------------------------------


@pytest.mark.parametrize("block", ["plain", "residual"])
def test_shapes(block):
    net = SceneNet(SceneNetConfig(patch=4, channels=(16, 24), block=block, features=8))
    x = torch.randn(2, 3, 64, 64)
    assert [m.shape for m in net.maps(x)] == [(2, 16, 16, 16), (2, 24, 8, 8)]
    assert net.features(x).shape == (2, 8)
    said = net(x)
    assert {k: v.shape[1] for k, v in said.items() if k in CHOICES} == CHOICES
    assert all(said[name].shape == (2,) for name in NUMBERS)


def test_it_takes_larger_images_and_refuses_too_small_ones():
    net = small()
    assert net.features(torch.zeros(1, 3, 96, 128)).shape == (1, 8)
    assert net.smallest == 4 and net.features(torch.zeros(1, 3, 4, 4)).shape == (1, 8)
    for shape in [(1, 3, 2, 64), (1, 1, 64, 64), (3, 64, 64)]:
        with pytest.raises(ValueError, match=r"wants .* sides of at least 4"):
            net.maps(torch.zeros(shape))


def test_unknown_block():
    with pytest.raises(ValueError, match="give plain or residual"):
        SceneNetConfig(block="dense")


def test_save_and_load(tmp_path):
    net = small()
    net.save(tmp_path)
    again = SceneNet.load(tmp_path)
    x = torch.randn(2, 3, 32, 32)
    assert_close(again.features(x), net.features(x))
    assert not any(p.requires_grad for p in again.parameters()) and not again.training


# --- what it is taught ----------------------------------------------------------------


def test_scenes_are_the_landscapes_with_their_answers():
    data, landscapes = scenes(4), Landscapes("test", 4)
    factors = landscapes.factors(range(4))
    masks = torch.stack(list(detail_masks(factors).values()), 1)
    for i, (x, choices, _, mask) in enumerate(data.__getitems__([0, 1, 2, 3])):
        assert_close(x, landscapes[i][0])
        assert_close(mask, masks[i])
        assert choices.tolist() == [int(getattr(factors, k)[i]) for k in CHOICES]
    assert data[2][0].equal(data.__getitems__([2])[0][0])


def test_numbers_span_their_range_and_know_of_missing_houses():
    factors = Landscapes("train", 2000).factors(range(2000))
    _, numbers = answers(factors)
    for name, column in zip(NUMBERS, numbers.T, strict=True):
        known = column[column.isfinite()]
        assert known.min() >= -1.001 and known.max() <= 1.001, name
        assert known.min() < -0.9 and known.max() > 0.9, name
        there = factors.house if name.startswith("house") else torch.ones(2000).bool()
        assert column.isfinite().equal(there), name


def test_a_network_that_knows_everything_has_a_small_loss():
    """The loss falls to the entropy of the masks when heads are set to the truth."""
    x, choices, numbers, masks = next(iter(torch.utils.data.DataLoader(scenes(), 32)))
    training = SceneTraining(small())
    _, before = training(x, choices, numbers, masks, None)
    said = {"names": {k: choices[:, i] for i, k in enumerate(CHOICES)}}

    class Oracle(torch.nn.Module):
        def __init__(self, logits):
            super().__init__()
            self.logits = logits

        def forward(self, _):
            return self.logits

    net = training.net
    for name, n in CHOICES.items():
        truth = torch.nn.functional.one_hot(said["names"][name], n) * 50.0
        net.names[name] = Oracle(truth)
    net.numbers = Oracle(numbers.nan_to_num())
    shares = [
        torch.nn.functional.adaptive_avg_pool2d(masks.float(), h.shape[-1])
        for h in net.maps(x)
    ]
    net.where = torch.nn.ModuleList(Oracle(torch.logit(s, 1e-6)) for s in shares)
    _, after = training(x, choices, numbers, masks, None)
    assert all(float(after[name]) < 1e-3 for name in CHOICES)
    assert float(after["numbers"]) == 0
    assert 0 < float(after["details"]) < 0.6 * float(before["details"])
    assert masks.shape[1] == len(DETAILS)


def test_training_lowers_the_loss(tmp_path):
    train = TrainConfig(
        steps=40, batch_size=16, learning_rate=1e-2, warmup_steps=5, log_every=2
    )
    recipe = recipes.SceneRecipe(length=64, net=SMALL, train=train)
    net, log = fit.train_scenenet(recipe, tmp_path)
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]
    x = render(Landscapes("test", 2).factors([0, 1]))
    assert_close(SceneNet.load(tmp_path).features(x), net.features(x))


def test_only_of_landscapes_are_the_factors_known(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        out = str(tmp_path / "new")
        main(["train-scenenet", "--preset", "smoke", "--data", "cifar10", "--out", out])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "landscapes" in error


# --- what ships -----------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_networks_read_landscapes_as_recorded(name):
    recipe, report = presets.SCENE_PRESETS[SHIPPED[name]], results(name)
    wanted = json.loads(json.dumps(asdict(recipe)))
    assert filled(report["recipe"], wanted) == wanted
    net = SceneNet.load(name)
    assert net.config == recipe.net
    found = accuracy(net, Landscapes("test", 200))
    for what in ("time", "biome", "house"):
        assert found[what] > 0.97, what
    assert found["tree_count"] == pytest.approx(
        report["accuracy"]["tree_count"], abs=0.1
    )
    assert found["sun_x"] < 0.08


def test_the_judge_is_another_network_than_the_loss():
    loss, judge = (presets.SCENE_PRESETS[name] for name in SHIPPED.values())
    assert loss.train.seed != judge.train.seed
    assert loss.net.block != judge.net.block and loss.net.patch != judge.net.patch
