"""The training loop: exact resume whatever happens, and one clear line for mistakes."""

import json
import math
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from torch.utils.data import Dataset, TensorDataset

from ldm_tutorial.training import loop
from ldm_tutorial.training.batches import StepSampler, batches
from ldm_tutorial.training.config import TrainConfig
from ldm_tutorial.training.ema import EMA
from ldm_tutorial.training.loop import learning_rate, tensorboard, train

CONFIG = TrainConfig(
    steps=24, batch_size=8, warmup_steps=3, log_every=2, checkpoint_every=5
)


class Toy(nn.Module):
    """Uses all sources of randomness: the batch, the generator and dropout."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, width), nn.Dropout(0.2), nn.Tanh())
        self.out = nn.Linear(width, 4)
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, x, y, *, generator=None):
        noise = torch.randn(x.shape, generator=generator)
        error = (self.out(self.net(x + 0.1 * noise)) - x).square().mean()
        return error, {"error": error.detach(), "label": y.float().mean()}


class Plain(nn.Module):
    """A linear model without any noise; its log says which items it saw."""

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.weight, self.scale = nn.Parameter(torch.zeros(4)), scale

    def forward(self, x, y, *, generator=None):
        loss = (x @ self.weight * self.scale - y).square().mean()
        return loss, {"y": y.float().mean()}


def toy(width: int = 8):
    torch.manual_seed(0)
    return Toy(width)


def data(n: int = 40):
    g = torch.Generator().manual_seed(1)
    return TensorDataset(torch.randn(n, 4, generator=g), torch.arange(n))


def equal(one: nn.Module, two: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def without_seconds(lines):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def lines_of(folder: Path):
    return [json.loads(t) for t in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: its model, its log and its folder."""
    out, model = tmp_path_factory.mktemp("whole"), toy()
    return model, train(model, data(), CONFIG, out), out


# --- the same again -------------------------------------------------------------------


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(whole):
    model, log, _ = whole
    torch.rand(7)  # the caller's random state must not matter
    again = toy()
    assert without_seconds(train(again, data(), CONFIG)) == without_seconds(log)
    assert equal(again, model)
    other = toy()
    train(other, data(), replace(CONFIG, seed=1))
    assert not equal(other, model)


def test_training_leaves_the_callers_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model = Plain()
    train(model, data(), replace(CONFIG, steps=3))
    assert torch.equal(torch.rand(3), expected)


# Python 3.12 and later warn of what the DataLoader does.
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
def test_workers_make_the_same_batches():
    config = replace(CONFIG, steps=6)
    one, two = toy(), toy()
    train(one, data(), config)
    train(two, data(), replace(config, num_workers=1))
    assert equal(one, two)


class Stop(Exception):
    pass


def interrupted(out: Path, step: int):
    """A run that ends by an exception after its log line of a step."""

    def on_log(line):
        if line["step"] >= step:
            raise Stop

    with pytest.raises(Stop):
        train(toy(), data(), CONFIG, out, on_log)


@pytest.mark.parametrize("step", range(2, 24, 4))
def test_an_interrupted_run_ends_as_if_nothing_had_happened(whole, tmp_path, step):
    interrupted(tmp_path, step)
    started, model = [], toy()
    log = train(model, data(), CONFIG, tmp_path, on_start=started.append)
    assert started == [step // 5 * 5 if step % 10 else step - 5]
    assert equal(model, whole[0])
    assert without_seconds(log) == without_seconds(whole[1])
    assert lines_of(tmp_path) == log


def test_torn_files_do_no_harm(whole, tmp_path):
    """The worst a crash can leave; test_cli.py has a process that is really killed."""
    interrupted(tmp_path, 8)
    checkpoint = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt.new").write_bytes(checkpoint[: len(checkpoint) // 2])
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.write('{"step": 10, "lo')
    model = toy()
    train(model, data(), CONFIG, tmp_path)
    assert equal(model, whole[0])
    assert without_seconds(lines_of(tmp_path)) == without_seconds(whole[1])
    assert not (tmp_path / "checkpoint.pt.new").exists()


def test_a_run_killed_before_its_first_checkpoint_starts_over(whole, tmp_path):
    interrupted(tmp_path, 4)
    assert not (tmp_path / "checkpoint.pt").exists()
    model = toy()
    train(model, data(), CONFIG, tmp_path)
    assert equal(model, whole[0])


def test_a_finished_run_returns_at_once(whole):
    model, log, out = whole

    class Unread(Dataset):
        def __len__(self):
            return 40

        def __getitem__(self, index):
            raise AssertionError("a finished run needs no data")

    files = {p.name: p.stat().st_mtime_ns for p in out.glob("checkpoint*")}
    again, started, seen = toy(), [], []
    assert train(again, Unread(), CONFIG, out, seen.append, started.append) == log
    assert equal(again, model) and not again.training
    assert started == [24] and not seen
    assert files == {p.name: p.stat().st_mtime_ns for p in out.glob("checkpoint*")}


# --- what a folder refuses ------------------------------------------------------------


def snapshot(folder: Path):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize(
    "field, value",
    [("steps", 23), ("learning_rate", 0.5), ("seed", 1), ("precision", "bf16")],
)
def test_another_config_is_refused(whole, field, value):
    out, before = whole[2], snapshot(whole[2])
    old = getattr(CONFIG, field)
    message = f"{field}={old}, and {field}={value} was asked.*choose another folder"
    with pytest.raises(ValueError, match=message) as caught:
        train(toy(), data(), replace(CONFIG, **{field: value}), out)
    assert "\n" not in str(caught.value)
    assert snapshot(out) == before


def test_a_run_goes_on_with_fewer_images(tmp_path):
    """A bad picture that was taken away does not end a run."""
    interrupted(tmp_path, 11)
    started = []
    train(toy(), data(39), CONFIG, tmp_path, on_start=started.append)
    assert started == [10]


@pytest.mark.parametrize(
    "module, dataset, message",
    [
        (lambda: toy(16), data(40), "holds a run of another model; choose another"),
        (Plain, data(40), "holds a run of another model; choose another"),
    ],
)
def test_another_model_is_refused(whole, module, dataset, message):
    before = snapshot(whole[2])
    with pytest.raises(ValueError, match=message) as caught:
        train(module(), dataset, CONFIG, whole[2])
    assert "\n" not in str(caught.value)
    assert snapshot(whole[2]) == before


@pytest.mark.parametrize("damage", ["empty", "half", "noise", "other"])
def test_a_damaged_checkpoint_is_refused_and_nothing_is_lost(whole, tmp_path, damage):
    good = snapshot(whole[2])
    for name, content in good.items():
        (tmp_path / name).write_bytes(content)
    path = tmp_path / "checkpoint.pt"
    if damage == "other":
        torch.save({"weights": torch.ones(2)}, path)
    else:
        half = good["checkpoint.pt"][: len(good["checkpoint.pt"]) // 2]
        path.write_bytes({"empty": b"", "half": half, "noise": b"noise" * 99}[damage])
    before = snapshot(tmp_path)
    with pytest.raises(
        ValueError, match=r"checkpoint.pt is damaged or.*put a"
    ) as caught:
        train(toy(), data(), CONFIG, tmp_path)
    assert "\n" not in str(caught.value)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(("n", "size"), [(1, 8), (2, 7), (5, 8), (5, 5), (7, 3)])
def test_a_batch_may_be_larger_than_the_data_set(n, size):
    """It repeats all images about equally often; a smaller one repeats none."""
    config = replace(CONFIG, batch_size=size, steps=9)
    steps = list(StepSampler(n, config, 0, 0, 1))
    assert [len(step) for step in steps] == [size] * 9
    for step in steps:
        times = [step.count(i) for i in range(n)]
        assert max(times) - min(times) <= 1 and max(times) <= -(-size // n)
    assert list(StepSampler(n, config, 4, 0, 1)) == steps[4:]


def test_two_images_can_be_learnt_by_heart(tmp_path):
    log = train(toy(), data(2), replace(CONFIG, steps=40), tmp_path)
    assert len(log) and log[-1]["loss"] < log[0]["loss"]


def test_fp16_on_a_cpu_is_refused():
    with pytest.raises(ValueError, match="'fp16' needs a GPU; on a CPU give no"):
        train(toy(), data(), replace(CONFIG, precision="fp16"))


@pytest.mark.parametrize(
    "field, value",
    [
        ("steps", 0),
        ("batch_size", 0),
        ("log_every", 0),
        ("checkpoint_every", -1),
        ("warmup_steps", -1),
        ("num_workers", -1),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("weight_decay", -0.1),
        ("gradient_clip", -1.0),
        ("ema_decay", 1.0),
        ("seed", -1),
        ("seed", 2**63),
        ("precision", "fp8"),
    ],
)
def test_impossible_settings_are_refused(field, value):
    with pytest.raises(ValueError, match=rf"^{field}=.*; give "):
        TrainConfig(**{field: value})


# --- what the loop does ---------------------------------------------------------------


def test_the_log_and_its_file(whole):
    _, log, out = whole
    assert lines_of(out) == log
    assert [line["step"] for line in log] == list(range(2, 25, 2))
    names = ["step", "loss", "error", "label", "learning_rate", "seconds"]
    assert all(list(line) == names for line in log)
    assert all(line["loss"] == line["error"] for line in log)
    assert [line["learning_rate"] for line in log] == [
        learning_rate(CONFIG, line["step"] - 1) for line in log
    ]
    seconds = [line["seconds"] for line in log]
    assert seconds == sorted(seconds) and seconds[0] > 0


def test_the_last_step_is_logged_and_saved_whatever_the_intervals(tmp_path):
    config = replace(CONFIG, steps=7, log_every=4, checkpoint_every=4)
    seen = []
    log = train(toy(), data(), config, tmp_path, seen.append)
    assert [line["step"] for line in log] == [4, 7] and seen == log
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["step"] == 7


def test_seconds_go_on_after_an_interruption(tmp_path):
    interrupted(tmp_path, 16)
    path = tmp_path / "checkpoint.pt"
    saved = torch.load(path, weights_only=True)
    torch.save(saved | {"seconds": 1000.0}, path)
    log = train(toy(), data(), CONFIG, tmp_path)
    assert [1000 <= line["seconds"] < 1100 for line in log] == [False] * 7 + [True] * 5


def test_training_learns_and_ends_in_evaluation_mode():
    model = Plain()
    train(model, data(), replace(CONFIG, steps=2, log_every=1))
    assert not model.training
    model, x = Plain(), torch.randn(64, 4)
    target = torch.tensor([1.0, -2.0, 0.5, 3.0])
    config = replace(CONFIG, steps=300, learning_rate=0.1, ema_decay=0.9, log_every=99)
    train(model, TensorDataset(x, x @ target), config)
    assert_close(model.weight.detach(), target, atol=0.05, rtol=0)


def test_frozen_parameters_stay(whole):
    assert torch.equal(whole[0].frozen, torch.ones(3))
    assert not whole[0].frozen.requires_grad


def test_the_average_is_its_formula():
    """What the loop leaves behind, against the recursion written out."""
    steps = []

    class Spy(Plain):
        def forward(self, x, y, *, generator=None):
            steps.append(self.weight.detach().clone())
            return super().forward(x, y, generator=generator)

    for decay in (0.0, 0.5, 0.95):
        steps.clear()
        config = replace(CONFIG, steps=12, ema_decay=decay)
        train(model := Spy(), data(), config)
        raw = model.weight.detach().clone()
        # The weights after step s are those that the forward pass of s + 1 saw; the
        # last ones are found by one more step of the same course.
        train(Spy(), data(), replace(config, ema_decay=0.0))
        train(last := Plain(), data(), replace(config, ema_decay=0.0))
        after = [*steps[1:12], last.weight.detach()]
        average = after[0]
        for n, weight in enumerate(after[1:], start=1):
            d = min(decay, (1 + n) / (10 + n))
            average = d * average + (1 - d) * weight
        assert_close(raw, average)


def test_the_average_by_hand():
    module = nn.Linear(1, 1, bias=False)
    ema = EMA(module, 0.999)
    average, weights = 0.0, [3.0, 5.0, -1.0, 2.0]
    for n, weight in enumerate(weights):
        nn.init.constant_(module.weight, weight)
        ema.update()
        d = min(0.999, (1 + n) / (10 + n)) if n else 0.0
        average = d * average + (1 - d) * weight
        assert_close(ema.average[0], torch.tensor([[average]]))
    with ema.in_place():
        assert_close(module.weight.detach(), torch.tensor([[average]]))
    assert_close(module.weight.detach(), torch.tensor([[weights[-1]]]))


def test_the_average_leaves_out_what_is_not_trained():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 5))
    module[2].requires_grad_(False)
    ema = EMA(module, 0.9)
    names = ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert list(ema.state_dict()["average"]) == names
    other = EMA(module, 0.9)
    other.load_state_dict({"updates": 3, "average": {n: torch.ones(()) for n in names}})
    assert other.updates == 3 and all(bool((a == 1).all()) for a in other.average)


@pytest.mark.parametrize("steps, warmup", [(100, 10), (100, 0), (20, 50), (1, 50)])
def test_learning_rate_rises_to_its_peak_then_falls_along_a_cosine(steps, warmup):
    config = TrainConfig(steps=steps, learning_rate=2.0, warmup_steps=warmup)
    rates = [learning_rate(config, step) for step in range(steps)]
    rise = min(warmup, steps // 2)
    assert max(rates) == 2.0 == rates[rise]
    assert_close(rates[:rise], [2.0 * (step + 1) / rise for step in range(rise)])
    fall = steps - rise
    wanted = [1 + math.cos(math.pi * step / fall) for step in range(fall)]
    assert_close(rates[rise:], wanted)


def test_a_batch_in_parts_has_the_gradient_of_the_whole():
    one, two = Plain(), Plain()
    logs = [
        train(one, data(), replace(CONFIG, steps=6)),
        train(two, data(), replace(CONFIG, steps=6, accumulate=4)),
    ]
    assert_close(one.weight.detach(), two.weight.detach())
    for name in ("loss", "y"):
        assert_close([line[name] for line in logs[0]], [line[name] for line in logs[1]])
    with pytest.raises(ValueError, match=r"in 3 parts; give a multiple"):
        train(Plain(), data(), replace(CONFIG, accumulate=3))


def test_the_randomness_of_a_step_is_the_same_in_every_version():
    """A run that an older version began goes on with the same numbers."""
    generator = torch.Generator()
    hashes = {hash((7, step, 0)) < 0 for step in range(20)}
    assert hashes == {True, False}  # both kinds are tried
    for seed, step, rank in [(7, step, 0) for step in range(20)] + [(2**63 - 1, 5, 1)]:
        loop.seed_step(generator, seed, step, rank)
        assert generator.initial_seed() == hash((seed, step, rank)) % 2**63
    assert torch.initial_seed() == hash((seed, step, rank, 1)) % 2**63


class Idle(nn.Module):
    """Nothing is learned: what changes its weight is the decay alone."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x, y, *, generator=None):
        return 0 * self.weight, {}


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_weights_decay_as_they_are_told(decay):
    module, config = Idle(), replace(CONFIG, weight_decay=decay, ema_decay=0.0)
    train(module, data(), config)
    rates = [learning_rate(config, step) for step in range(config.steps)]
    wanted = math.prod(1 - rate * decay for rate in rates)
    assert float(module.weight.detach()) == pytest.approx(wanted, rel=1e-5)


def test_a_model_is_shown_at_every_so_many_steps_and_at_the_end():
    module, seen = toy(), []

    def show(step):
        seen.append((step, module.training, torch.is_grad_enabled()))

    train(module, data(), CONFIG, show=show, show_every=10)
    assert seen == [(10, False, False), (20, False, False), (24, False, False)]
    unseen = toy()
    train(unseen, data(), CONFIG)
    assert equal(module, unseen)  # which has dropout: the training goes on as it was


def test_a_run_that_is_asked_to_stop_ends_after_its_step(tmp_path, monkeypatch):
    """One process asks no other whether it should."""
    asked = []

    def ask(device, several):
        asked.append(several)
        return len(asked) == 7

    def stop():
        raise InterruptedError

    monkeypatch.setattr(loop, "asked", ask)
    monkeypatch.setattr(loop, "stop_if_asked", stop)
    config = replace(CONFIG, checkpoint_every=100)
    with pytest.raises(InterruptedError):
        train(toy(), data(), config, tmp_path)
    assert asked == [False] * 7 and (tmp_path / "checkpoint.pt").exists()
    monkeypatch.undo()
    started, again = [], toy()
    train(again, data(), config, tmp_path, on_start=started.append)
    whole = toy()
    train(whole, data(), config)
    assert started == [7] and equal(again, whole)


def test_what_is_logged_in_half_precision_is_averaged_in_float32():
    parts = [{"a": torch.tensor(v, dtype=torch.bfloat16)} for v in (1.0, 1.0078125)]
    assert loop.means(parts) == {"a": 1.00390625}
    assert loop.means([*parts, {"b": torch.tensor(3.0)}])["b"] == 3


def test_the_validation_loss_is_that_of_the_averaged_weights():
    model, held_out = Plain(), data(13)
    config = replace(CONFIG, steps=12, validate_every=5)
    log = train(model, data(), config, validate=held_out)
    found = {line["step"]: line for line in log if "validation_loss" in line}
    assert list(found) == [5, 10, 12]
    assert "loss" not in found[5] and "loss" in found[10]
    with torch.no_grad():
        wanted, _ = model(*held_out[:])  # the module ends with the average
    assert found[12]["validation_loss"] == pytest.approx(float(wanted), rel=1e-5)
    assert without_validation(log) == without_validation(train(Plain(), data(), config))


def without_validation(log):
    """The lines of the training itself."""
    lines = [{k: v for k, v in x.items() if k != "validation_loss"} for x in log]
    return [line for line in without_seconds(lines) if "loss" in line]


@pytest.mark.parametrize("option", ["channels_last", "compile"])
def test_layout_and_compiler_change_nothing_but_the_speed(option, monkeypatch):
    monkeypatch.setattr(nn.Module, "compile", lambda self: calls.append(self))
    calls, models = [], []
    for value in (False, True):
        torch.manual_seed(0)
        models.append(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3)))
        task = Reconstruct(models[-1])
        images = TensorDataset(torch.randn(16, 3, 8, 8, generator=seeded()))
        train(task, images, replace(CONFIG, steps=3, **{option: value}))
    assert_close(models[0].state_dict(), models[1].state_dict(), atol=1e-5, rtol=1e-4)
    assert len(calls) == (option == "compile")


class Reconstruct(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, *, generator):
        return (self.net(x) - x[..., 2:-2, 2:-2]).square().mean(), {}


def seeded():
    return torch.Generator().manual_seed(0)


def test_a_compiled_module_and_the_plain_one_share_their_run(tmp_path):
    config = replace(CONFIG, steps=6, checkpoint_every=3)
    compiled = torch.compile(toy(), backend="eager")
    train(compiled, data(), config, tmp_path)
    model, started = toy(), []
    train(model, data(), config, tmp_path, on_start=started.append)
    assert started == [6]
    assert all(not key.startswith("_orig") for key in model.state_dict())


def test_nothing_to_train_is_said_in_one_line():
    model = Plain().requires_grad_(False)
    with pytest.raises(ValueError, match=r"Plain requires a gradient; call requires"):
        train(model, data(), CONFIG)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_an_interrupted_training_leaves_no_trace_on_the_module(precision, tmp_path):
    model = Toy()
    before = set(vars(model))

    def stop(line):
        raise Stop

    with pytest.raises(Stop):
        train(model, data(), replace(CONFIG, precision=precision), on_log=stop)
    assert set(vars(model)) == before and "forward" not in vars(model)


@pytest.mark.parametrize("clip, most", [(0.0, math.inf), (1e-3, 1e-3)])
def test_the_gradient_is_clipped(clip, most):
    norms = []

    class Watched(Plain):
        def forward(self, x, y, *, generator=None):
            if self.weight.grad is not None:
                norms.append(float(self.weight.grad.norm()))
            return super().forward(x, y, generator=generator)

    model = Watched()
    model.weight.register_post_accumulate_grad_hook(
        lambda p: norms.append(float(p.grad.norm()))
    )
    seen = []
    step = torch.optim.AdamW.step

    def watch(self, *args, **kwargs):
        seen.append(float(model.weight.grad.norm()))
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", watch)
        train(model, data(), replace(CONFIG, steps=3, gradient_clip=clip))
    assert len(seen) == 3 and min(norms) > 1  # before clipping
    assert all(value <= most * 1.001 for value in seen)
    if not clip:
        assert_close(torch.tensor(seen), torch.tensor(norms[:3]))


@pytest.mark.parametrize("has_bf16", [True, False])
def test_bf16_computes_in_bf16_and_keeps_float32_weights(has_bf16, monkeypatch):
    """On a CPU without instructions for bf16 it would be many times slower: float32."""
    monkeypatch.setattr(loop, "computes_bf16", lambda device: has_bf16)
    seen = []

    class Watched(Toy):
        def forward(self, x, y, *, generator=None):
            seen.append(self.out(self.net(x)).dtype)
            return super().forward(x, y, generator=generator)

    model = Watched()
    train(model, data(), replace(CONFIG, steps=2, precision="bf16"))
    assert set(seen) == {torch.bfloat16 if has_bf16 else torch.float32}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    x, y = data()[:8]
    model(x, y)  # after training the model is as it was: no hidden autocast
    assert seen[-1] == torch.float32


def test_models_of_different_precision_may_follow_each_other():
    for precision in ("no", "bf16", "no"):
        train(toy(), data(), replace(CONFIG, steps=2, precision=precision))


# --- batches --------------------------------------------------------------------------


def indices(n, config, start=0, rank=0, world=1):
    return list(StepSampler(n, config, start, rank, world))


def flat(lists):
    return [index for one in lists for index in one]


def test_each_index_comes_once_an_epoch_in_a_new_order():
    config = replace(CONFIG, steps=15, batch_size=8)
    steps = indices(40, config)
    epochs = [flat(steps[i : i + 5]) for i in (0, 5, 10)]
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_an_epoch_leaves_out_what_fills_no_batch():
    epoch = flat(indices(43, replace(CONFIG, steps=5, batch_size=8)))
    assert len(set(epoch)) == 40


def test_a_sampler_that_starts_late_goes_on_with_the_same_batches():
    everything = indices(40, CONFIG)
    for start in (0, 1, 4, 5, 13, 24):
        assert indices(40, CONFIG, start) == everything[start:]


def test_the_slices_of_the_processes_make_up_the_batch():
    everything = indices(40, CONFIG)
    parts = [indices(40, CONFIG, rank=rank, world=4) for rank in range(4)]
    for batch, *slices in zip(everything, *parts, strict=True):
        assert [len(part) for part in slices] == [2, 2, 2, 2]
        assert sorted(flat(slices)) == sorted(batch)


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="8 does not divide among 3 processes; give a"):
        StepSampler(40, CONFIG, 0, 0, 3)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_come_with_their_step_and_without_warnings(workers):
    config = replace(CONFIG, steps=5, num_workers=workers)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = list(batches(data(), StepSampler(40, config, 3, 0, 1)))
    assert [step for step, _ in found] == [3, 4]
    ((_, labels),) = found[0][1]
    assert labels.tolist() == indices(40, config)[3]


def test_images_are_the_same_to_the_bit_wherever_a_training_goes_on():
    """An image depends on those it is drawn beside, by what rounding does."""

    class Neighbours(Dataset):
        def __len__(self):
            return 40

        def __getitems__(self, indices):
            return [(torch.tensor([i, sum(indices)]),) for i in indices]

    config = replace(CONFIG, steps=70)  # of 8 images: two full groups and a part
    everything = list(batches(Neighbours(), StepSampler(40, config, 0, 0, 1)))
    assert [step for step, _ in everything] == list(range(70))
    for start in (1, 31, 32, 33, 69):
        rest = list(batches(Neighbours(), StepSampler(40, config, start, 0, 1)))
        assert_close(rest, everything[start:])
    for (_, [(batch,)]), wanted in zip(everything, indices(40, config), strict=True):
        assert batch[:, 0].tolist() == wanted


class Items(Dataset):
    """Forty items of some kind."""

    def __init__(self, make):
        self.make = make

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return self.make(index)


@pytest.mark.parametrize(
    "make, read",
    [
        (lambda i: torch.full((3, 2, 2), float(i)), lambda b: b[:, 0, 0, 0]),
        (lambda i: (torch.full((3,), i),), lambda b: b[0][:, 0]),
        (lambda i: {"x": torch.full((2,), i), "text": "a"}, lambda b: b["x"][:, 0]),
        (lambda i: (torch.tensor(i), f"caption {i}"), lambda b: b[0]),
        (lambda i: (torch.tensor(i), (i, {"deep": i})), lambda b: b[1][1]["deep"]),
    ],
)
@pytest.mark.parametrize("accumulate", [1, 4])
def test_an_item_may_be_anything_that_collates(make, read, accumulate):
    config = replace(CONFIG, steps=4, accumulate=accumulate)
    sampler = StepSampler(40, config, 0, 0, 1)
    for (_, parts), wanted in zip(
        batches(Items(make), sampler), indices(40, config), strict=True
    ):
        assert len(parts) == accumulate
        assert torch.cat([read(part) for part in parts]).tolist() == wanted


def test_a_batch_of_captions_reaches_the_module():
    seen = []

    class Captions(Plain):
        def forward(self, batch, *, generator):
            seen.extend(batch["text"])
            assert isinstance(generator, torch.Generator)
            return super().forward(batch["x"], batch["x"][:, 0])

    def make(i):
        return {"x": torch.randn(4), "text": f"number {i}"}

    train(Captions(), Items(make), replace(CONFIG, steps=2))
    assert len(seen) == 16 and all(text.startswith("number ") for text in seen)


# --- other devices ------------------------------------------------------------------


def train_on(device: str, precision: str = "no"):
    class Image(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 4))

        def forward(self, x, y, *, generator=None):
            noise = torch.randn(x.shape, generator=generator, device=x.device)
            loss = F.mse_loss(self.net(x + 0.01 * noise), x)
            return loss, {}

    torch.manual_seed(0)
    model = Image().to(device)
    config = replace(CONFIG, steps=200, learning_rate=0.01, precision=precision)
    return model, train(model, data(), config)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_training_on_cuda(precision):
    model, log = train_on("cuda", precision)
    assert next(model.parameters()).device.type == "cuda"
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]
    train_on("cpu")  # and back, in the same process


@pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs a Mac's GPU")
def test_training_on_mps():
    model, log = train_on("mps")
    assert next(model.parameters()).device.type == "mps"
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]


# --- TensorBoard ----------------------------------------------------------------------


def test_tensorboard_shows_what_the_log_holds(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is an extra")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = train(toy(), data(), CONFIG, on_log=tensorboard(tmp_path))
    (folder,) = {path.parent for path in tmp_path.rglob("events*")}
    events = EventAccumulator(str(folder))
    events.Reload()
    losses = events.Scalars("loss")
    assert [e.step for e in losses] == [line["step"] for line in log]
    assert [e.value for e in losses] == pytest.approx([line["loss"] for line in log])


def test_tensorboard_shows_the_pictures_of_a_run(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is an extra")
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = tmp_path / "samples" / "step-000005.png"
    path.parent.mkdir()
    Image.new("RGB", (6, 4), "red").save(path)
    tensorboard(tmp_path).picture(path, 5)
    (folder,) = {path.parent for path in tmp_path.rglob("events*")}
    events = EventAccumulator(str(folder))
    events.Reload()
    (found,) = events.Images("samples")
    assert (found.step, found.width, found.height) == (5, 6, 4)


def test_a_missing_tensorboard_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("ldm_tutorial.training.board.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install tensorboard, or read metrics"):
        tensorboard(tmp_path)
    assert not list(tmp_path.iterdir())
