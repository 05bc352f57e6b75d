"""A run on disk: damage is noticed, one process has a folder, a full disk leaves the
old checkpoint, and a signal leaves a last one."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import warnings
import zipfile
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from ldm_tutorial.disk import write_json
from ldm_tutorial.stopping import Stopped, listening
from ldm_tutorial.training import TrainConfig, train
from ldm_tutorial.training.checkpoint import read_checkpoint, write_checkpoint
from ldm_tutorial.training.lock import held, locked

CONFIG = TrainConfig(steps=12, batch_size=4, checkpoint_every=5, log_every=1)


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.line = nn.Linear(8, 8)

    def forward(self, x, generator=None):
        loss = (self.line(x) - x).square().mean()
        return loss, {"error": loss.detach()}


def run(out, config=CONFIG, on_log=None):
    """Train for a while; the weights and the log."""
    toy = Toy()
    data = TensorDataset(torch.randn(20, 8, generator=torch.Generator().manual_seed(1)))
    log = train(toy, data, config, out, on_log)
    return toy.line.weight.detach(), log


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return *run(out), out


def at(step, action):
    def on_log(line):
        if line["step"] == step:
            action()

    return on_log


class Killed(Exception):
    pass


def kill():
    raise Killed


def interrupted(out, step=8):
    with pytest.raises(Killed):
        run(out, on_log=at(step, kill))


def steps_of(out):
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


# --- damage ---------------------------------------------------------------------------


def same(a, b):
    """Whether two checkpoints hold the same, to the last bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_no_bit_of_a_checkpoint_flips_unnoticed(whole, tmp_path):
    good = (whole[2] / "checkpoint.pt").read_bytes()
    truth, path = read_checkpoint(whole[2]), tmp_path / "checkpoint.pt"
    dice, noticed = random.Random(0), 0
    for _ in range(200):
        bad = bytearray(good)
        bad[dice.randrange(len(bad))] ^= 1 << dice.randrange(8)
        path.write_bytes(bad)
        try:
            assert same(read_checkpoint(tmp_path), truth)  # no part of it was hit
        except ValueError as error:
            assert "damaged" in str(error) and "\n" not in str(error)
            noticed += 1
    assert noticed > 100


@pytest.mark.parametrize(
    "value",
    [torch.zeros(3), None, [1], 5, {}, {"step": 1}, "text"],
    ids=["tensor", "none", "list", "number", "empty", "little", "text"],
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "checkpoint.pt")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(ValueError, match="damaged or no checkpoint"):
            run(tmp_path)
    assert not warned  # they would be lines beside the one


@pytest.mark.parametrize("part", ["module", "ema", "optimizer", "step", "config"])
@pytest.mark.parametrize("value", [None, "x", -1, [1], {"a": 1}])
def test_a_checkpoint_with_a_foreign_part_is_refused(whole, tmp_path, part, value):
    saved = read_checkpoint(whole[2])
    if part == "config" and isinstance(value, dict):
        return  # settings that it does not name are not compared
    torch.save(saved | {part: value}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"damaged or no checkpoint|another model"):
        run(tmp_path)


def test_a_compressed_checkpoint_is_not_unpacked(whole, tmp_path):
    path = tmp_path / "checkpoint.pt"
    with (
        zipfile.ZipFile(whole[2] / "checkpoint.pt") as old,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "5\n", "[]\n", "null\n", "[" * 100_000 + "\n", '{"step": 5, "lo']
)
def test_a_damaged_log_is_made_again_from_the_checkpoint(whole, tmp_path, text):
    interrupted(tmp_path)
    (tmp_path / "metrics.jsonl").write_text(text)
    weights, _ = run(tmp_path)
    assert torch.equal(weights, whole[0]) and steps_of(tmp_path) == list(range(1, 13))


@pytest.mark.parametrize("text", ["5\n", '{"a": 1}\n', "[" * 100_000 + "\n", "\0\n"])
def test_a_log_of_another_program_is_not_written_over(tmp_path, text):
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 1, is damaged"):
        run(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == text


def test_a_checkpoint_without_its_log_takes_the_file(whole, tmp_path):
    """Those that were written before the log lay in them."""
    interrupted(tmp_path)
    saved = read_checkpoint(tmp_path)
    del saved["log"]
    write_checkpoint(tmp_path / "checkpoint.pt", saved)
    weights, log = run(tmp_path)
    assert torch.equal(weights, whole[0])
    assert [line["step"] for line in log] == list(range(1, 13))


# --- more steps -----------------------------------------------------------------------


def test_a_run_may_get_more_steps_and_not_fewer_than_it_has_done(tmp_path):
    run(tmp_path)
    started = []
    toy = Toy()
    data = TensorDataset(torch.randn(20, 8, generator=torch.Generator().manual_seed(1)))
    more = replace(CONFIG, steps=20)
    log = train(toy, data, more, tmp_path, on_start=started.append)
    assert started == [12] and [line["step"] for line in log] == list(range(1, 21))
    assert log[12]["learning_rate"] > log[11]["learning_rate"]  # the longer cosine
    with pytest.raises(ValueError, match="steps=20, and steps=12 was asked for"):
        run(tmp_path)


# --- one process to a folder ----------------------------------------------------------


def test_a_second_thread_or_process_is_refused_and_the_holder_is_not(tmp_path):
    found = []

    def other():
        try:
            with locked(tmp_path):
                found.append("locked")
        except ValueError as error:
            found.append(str(error))

    with locked(tmp_path), locked(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert "in use by another process" in found[0] and "\n" not in found[0]
    assert not held
    other()
    assert found[1] == "locked" and list(tmp_path.iterdir()) == []


def test_a_folder_that_stays_empty_is_removed(tmp_path):
    with pytest.raises(Killed), locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
        kill()
    assert not (tmp_path / "a").exists()
    with locked(tmp_path / "a"):
        (tmp_path / "a" / "file").touch()
    assert (tmp_path / "a" / "file").exists()


HOLD = """
import os, sys, time
from ldm_tutorial.training.lock import locked
with locked(sys.argv[1]):
    child = os.fork()
    if child == 0:  # as processes that make batches, it lives on for a moment
        print(os.getpid(), flush=True)
        time.sleep(600)
    sys.stdin.read()
"""


def test_the_lock_of_a_killed_process_is_gone(tmp_path):
    """Even while a child of it lives."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        child = int(other.stdout.readline())
        with pytest.raises(ValueError, match="in use by another process"):
            run(tmp_path)
        other.kill()
        other.wait()
        run(tmp_path)
        os.kill(child, signal.SIGKILL)


# --- a full disk ----------------------------------------------------------------------


@contextmanager
def room_for(size):
    """The disk is full for files of more than so many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_leaves_the_old_checkpoint_and_nothing_else(whole, tmp_path):
    interrupted(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.glob("checkpoint*")}
    size = len(before["checkpoint.pt"])
    with room_for(size // 2), pytest.raises(OSError) as caught:
        run(tmp_path)
    assert caught.value.filename == str(tmp_path / "checkpoint.pt")
    assert before == {p.name: p.read_bytes() for p in tmp_path.glob("checkpoint*")}
    weights, _ = run(tmp_path)
    assert torch.equal(weights, whole[0])
    assert not list(tmp_path.glob("*.new"))


def test_on_a_disk_without_a_byte_left_nothing_of_a_run_stays(tmp_path):
    with room_for(0), pytest.raises(OSError) as caught:
        run(tmp_path / "a" / "run")
    assert caught.value.filename == str(tmp_path / "a" / "run" / "metrics.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_no_half_line_of_a_log_stays_on_a_full_disk(tmp_path):
    def bytes_then():
        return (tmp_path / "metrics.jsonl").read_bytes()

    before = []

    def fill():
        before.append(bytes_then())
        full.enter_context(room_for(len(before[0]) + 20))

    with ExitStack() as full, pytest.raises(OSError, match=r"metrics\.jsonl"):
        run(tmp_path, on_log=at(3, fill))
    assert bytes_then() == before[0] and steps_of(tmp_path) == [1, 2, 3]


def test_what_cannot_be_written_leaves_no_folder(tmp_path):
    with room_for(0), pytest.raises(OSError):
        write_json(tmp_path / "a" / "b" / "c.json", [])
    assert list(tmp_path.iterdir()) == []


# --- signals --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_waits_for_the_step_and_leaves_a_checkpoint(
    whole, tmp_path, name, request
):
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)  # nohup lets one be ignored
    request.addfinalizer(lambda: signal.signal(number, before))
    with listening(), pytest.raises(Stopped) as caught:
        run(tmp_path, on_log=at(7, lambda: signal.raise_signal(number)))
    assert caught.value.signal == number and str(caught.value) == f"stopped by {name}"
    assert read_checkpoint(tmp_path)["step"] == 7  # between those of steps 5 and 10
    weights, log = run(tmp_path)
    assert torch.equal(weights, whole[0])
    assert [line["step"] for line in log] == list(range(1, 13))


def test_a_second_signal_does_not_wait(tmp_path):
    def twice():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    with listening(), pytest.raises(Stopped):
        run(tmp_path, on_log=at(7, twice))
    assert read_checkpoint(tmp_path)["step"] == 5


def test_a_signal_elsewhere_stops_at_once_and_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with listening(), pytest.raises(Stopped):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
