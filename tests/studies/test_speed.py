"""The speed study: ratios are those of the clock, and both ways do the same work."""

import importlib
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.testing import assert_close
from torch.utils.data import TensorDataset

from ldm_tutorial.cost import efficiency
from ldm_tutorial.cost.efficiency import Timing
from ldm_tutorial.cost.spaces import Space
from ldm_tutorial.data import DataConfig
from ldm_tutorial.studies import speed, speed_loops, speed_tasks
from ldm_tutorial.studies.speed import MEASURES
from ldm_tutorial.studies.speed_loops import Turns
from ldm_tutorial.studies.speed_tasks import bare_step, timing_rows
from ldm_tutorial.studies.study import SCALES
from ldm_tutorial.training.config import TrainConfig
from ldm_tutorial.training.ema import EMA
from ldm_tutorial.unet import UNet, UNetConfig
from ldm_tutorial.vae import VAEConfig

TINY = replace(
    SCALES["smoke"],
    vae=TrainConfig(batch_size=4),
    ldm=TrainConfig(batch_size=8),
    channels=(8, 16, 16, 32),
    repeats=1,
)
VAE = VAEConfig(channels=(8, 8, 16, 16))
UNET = UNetConfig(channels=(32, 32), num_res_blocks=1, attention_levels=(1,))
CHUNK = 2
SPACES = {
    "pixel": Space(UNET),
    "patch 4": Space(replace(UNET, patch_size=4)),
    "f4": Space(UNET, replace(VAE, downsampling=4)),
    "f8": Space(UNET, VAE),
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    for module in (speed, speed_loops, speed_tasks):
        monkeypatch.setattr(module, "SPACES", SPACES)
        monkeypatch.setattr(module, "CHUNK", CHUNK)
        monkeypatch.setattr(module, "DATA", DataConfig(size=16))


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved on."""
    clock = SimpleNamespace(now=0.0)
    still = SimpleNamespace(perf_counter=lambda: clock.now)
    monkeypatch.setattr(efficiency, "time", still)
    monkeypatch.setattr(speed_loops, "time", still)
    return clock


# --- ratios ---------------------------------------------------------------------------


def test_ratios_of_the_ways_to_the_first():
    timings = {"plain": Timing((6.0, 8.0, 10.0)), "fast": Timing((2.0, 4.0, 10.0))}
    assert timing_rows(timings, calls=2) == {
        "plain": {
            "seconds": 4.0,
            "fastest": 3.0,
            "slowest": 5.0,
            "ratio": 1.0,
            "ratio_least": 1.0,
            "ratio_most": 1.0,
        },
        "fast": {
            "seconds": 2.0,
            "fastest": 1.0,
            "slowest": 5.0,
            "ratio": 2.0,
            "ratio_least": 1.0,
            "ratio_most": 3.0,
        },
    }


def test_a_row_says_what_the_clock_said(clock):
    def wait(seconds):
        clock.now += seconds

    ways = {"slow": lambda: wait(6), "fast": lambda: wait(1.5)}
    row = speed_tasks.compare_ways(
        "waiting", ways, replace(TINY, repeats=4), calls=3, batch=5
    )
    assert (row["what"], row["batch"], row["repeats"]) == ("waiting", 5, 4)
    assert row["ways"]["slow"]["seconds"] == 2.0
    assert row["ways"]["fast"]["ratio"] == row["ways"]["fast"]["ratio_least"] == 4.0


@pytest.mark.parametrize("name", MEASURES)
def test_every_arm_runs(name, tmp_path):
    row, pictures = speed.speed_arms(TINY)[name](tmp_path)
    assert pictures == {} and json.loads(json.dumps(row)) == row
    assert row["what"]
    if name == "compile":
        assert row["failed"].startswith("not tried")
        return
    first, *others = row["ways"].values()
    assert first["ratio"] == 1.0 and others
    for way in row["ways"].values():
        assert 0 < way["fastest"] <= way["seconds"] <= way["slowest"]
        assert way["ratio_least"] <= way["ratio"] <= way["ratio_most"]


# --- the same work --------------------------------------------------------------------


def losses(task, n=2):
    step = task.step()
    return torch.stack([step() for _ in range(n)])


def test_cached_latents_give_the_losses_of_encoding():
    encoding, cached = speed.caching_tasks(TINY).values()
    found = losses(encoding)
    assert found[0] != found[1]  # fresh noise, and new weights
    assert_close(losses(cached), found)


@pytest.mark.parametrize("make", [speed_tasks.vae_task, speed_tasks.latent_task])
def test_memory_format_and_precision_leave_the_losses_alone(make):
    task = make(TINY)
    last, half = task.channels_last(), task.bf16()
    weights = [p for p in last.module.parameters() if p.ndim == 4]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
    seen = []
    for layer in half.module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda m, x, out: seen.append(out.dtype))
    found = losses(task)
    assert_close(losses(last), found)
    assert_close(losses(half), found, rtol=0.02, atol=0)
    assert set(seen) == {torch.bfloat16}


def test_all_ways_of_adamw_take_the_same_step():
    ends = []
    for options in speed.OPTIMIZERS.values():
        optimizer = speed.adamw_step(options)
        before = [p.detach().clone() for p in optimizer.param_groups[0]["params"]]
        speed.repeat(optimizer.step, 3)
        ends.append([p.detach() for p in optimizer.param_groups[0]["params"]])
        assert not any(map(torch.equal, before, ends[-1]))
    for end in ends[1:]:
        assert_close(end, ends[0])


def test_groups_are_the_one_difference_of_their_arm(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        speed, "compare_steps", lambda what, tasks, scale: seen.update(tasks)
    )
    speed.wide_groups(replace(TINY, channels=(32, 64, 96, 128)))
    counts = {
        name: [m.num_groups for m in task.module.modules() if hasattr(m, "num_groups")]
        for name, task in seen.items()
    }
    assert set(counts["32 groups"]) == set(counts["32 groups, channels last"]) == {32}
    assert set(counts["8 groups at most"]) == {8}
    tables = [task.module.state_dict() for task in seen.values()]
    for table in tables[1:]:
        assert_close(table, tables[0])


def test_the_patch_stem_is_the_one_difference_of_its_arm(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        speed, "compare_steps", lambda what, tasks, scale: seen.update(tasks)
    )
    speed.patch_stem_vae(TINY)
    full, stem = (task.module.vae.config for task in seen.values())
    assert (stem.encoder_patch, stem.decoder_patch) == (4, 2)
    assert replace(stem, encoder_patch=1, decoder_patch=1) == full


# --- the compiler ---------------------------------------------------------------------


def test_a_missing_compiler_is_a_result(monkeypatch):
    def fail(*args):
        raise OSError("no C++ compiler found\nin twenty lines")

    monkeypatch.setattr(nn.Module, "compile", lambda m: setattr(m, "forward", fail))
    row = MEASURES["compile"](replace(TINY, repeats=3))
    assert row["failed"] == "OSError: no C++ compiler found"
    assert "ways" not in row


def test_the_first_step_is_told_apart_from_the_gain(monkeypatch, clock):
    """A compiler that takes 100 s at the first call, and halves the time after it."""

    def compile(unet):
        called = []

        def forward(*args):
            clock.now += 1 if called else 101
            called.append(1)
            return type(unet).forward(unet, *args)

        unet.forward = forward

    def eager(unet, *args):
        clock.now += 2

    monkeypatch.setattr(nn.Module, "compile", compile)
    task = speed_tasks.latent_task
    made = []

    def watched(scale):
        made.append(task(scale))
        if len(made) == 1:
            made[0].module.model.unet.register_forward_pre_hook(eager)
        return made[-1]

    monkeypatch.setattr(speed, "latent_task", watched)
    row = MEASURES["compile"](replace(TINY, repeats=3))
    assert row["compile_seconds"] == 100.0
    assert row["ways"]["compiled"]["ratio"] == 2.0


# --- loops ----------------------------------------------------------------------------


class Toy(nn.Module):
    """A step of it takes one second of ``clock``."""

    clock = None

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)

    def forward(self, x, y, *, generator=None):
        Toy.clock.now += 1
        return (x @ self.weight - y + 1).square().mean(), {}


class SlowData(TensorDataset):
    """A batch of it takes a twentieth of a second."""

    def __getitems__(self, indices):
        Toy.clock.now += 0.05
        return [self[i] for i in indices]


def test_the_overhead_of_the_loop_is_what_it_does_beside_the_steps(clock, monkeypatch):
    """Fetching a batch: 5 %. A checkpoint of 5 s, once in 500 steps: 1 %."""
    monkeypatch.setattr(Toy, "clock", clock)
    save = torch.save

    def slow_save(*args):
        clock.now += 5
        save(*args)

    monkeypatch.setattr(torch, "save", slow_save)
    batches = importlib.import_module("ldm_tutorial.training.batches")
    monkeypatch.setattr(batches, "FETCHED", 4)  # one batch at a time
    data = SlowData(torch.randn(CHUNK * 4, 2), torch.zeros(CHUNK * 4))
    row = speed_loops.measure_loop("toy", Toy(), data, 4, replace(TINY, repeats=3))
    assert_close(row["ways"]["bare loop"]["seconds"], 1.0)
    assert_close(row["ways"]["train"]["seconds"], 1.05)
    assert_close(row["checkpoint_seconds"], 5.0)
    assert row["parameters"] == 2  # what is frozen does not count
    assert row["checkpoint_every"] == TrainConfig().checkpoint_every == 500
    assert_close(row["overhead_percent"], 6.0)
    assert set(row["has"]) == set(row["ways"])


def test_the_loop_averages_as_torch_does():
    """Weights that are trained, and weights that are frozen."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    module[1].requires_grad_(False)
    ours = EMA(module, 0.9)

    def update(average, weights, count):
        d = min(0.9, (1 + count) / (10 + count))
        for a, w in zip(average, weights, strict=True):
            a.lerp_(w, 1 - d)

    torchs = AveragedModel(module, multi_avg_fn=update)
    for _ in range(20):
        for p in module[0].parameters():
            p.data += torch.randn(p.shape)
        ours.update()
        torchs.update_parameters(module)
        expected = list(torchs.module[0].parameters())
        assert_close(ours.average, [p.detach() for p in expected])


def test_turns_alternate_and_the_first_warms_up(clock):
    steps = []

    def step():
        steps.append(clock.now)
        clock.now += 1

    turns = Turns(step)
    turns.on_start(0)
    for wait in (1000, 11, 12):
        clock.now += wait
        turns.on_log({})
    assert len(steps) == 3 * CHUNK
    timings = turns.timings()
    assert timings["train"].seconds == (11, 12)
    assert timings["bare loop"].seconds == (CHUNK, CHUNK)


def test_a_bare_step_takes_the_batches_in_turn_and_learns(clock, monkeypatch):
    monkeypatch.setattr(Toy, "clock", clock)
    module, y = Toy(), torch.zeros(2)
    batches = [(torch.zeros(2, 2), y), (torch.ones(2, 2), y)]
    step = bare_step(module, batches)
    found = [float(step()) for _ in range(6)]
    assert found[0::2] == [1.0, 1.0, 1.0]  # nothing to learn from zeros
    assert found[1] > found[3] > found[5]
    assert module.frozen.tolist() == [1, 1] and module.weight.grad is None


def test_the_bare_calls_are_as_many_as_those_of_the_sampler(monkeypatch):
    shapes, forward = [], UNet.forward

    def watched(unet, z_t, t, y=None):
        shapes.append(tuple(z_t.shape))
        return forward(unet, z_t, t, y)

    monkeypatch.setattr(UNet, "forward", watched)
    monkeypatch.setattr(
        speed_tasks, "time_side_by_side", lambda ways, repeats: seen(ways)
    )
    calls = []

    def seen(ways):
        for way in ways.values():
            shapes.clear()
            way()
            calls.append(list(shapes))
        return dict.fromkeys(ways, Timing((1.0,)))

    assert speed_loops.sampler(TINY, 7)["overhead_percent"] == 0
    assert calls[0] == calls[1] == 7 * [(2, 4, 2, 2)]
