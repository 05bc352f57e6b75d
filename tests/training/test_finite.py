"""A step that is not finite costs itself and nothing else."""

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.data import TensorDataset

from ldm_tutorial.training.config import TrainConfig
from ldm_tutorial.training.finite import MOST_IN_A_ROW, FiniteSteps
from ldm_tutorial.training.loop import train

CONFIG = TrainConfig(
    steps=24, batch_size=1, warmup_steps=2, log_every=1, checkpoint_every=4
)


class Line(nn.Module):
    """A linear model with a running mean of what it saw, as a buffer."""

    def __init__(self, bad: str = "input"):
        super().__init__()
        torch.manual_seed(0)
        self.line, self.bad = nn.Linear(3, 3), bad
        self.register_buffer("seen", torch.zeros(3))

    def forward(self, x, *, generator=None):
        self.seen.lerp_(x.mean(0), 0.1)
        loss = self.line(x).square().mean()
        if self.bad == "gradient":  # a finite loss with a gradient that is none
            loss = self.line(x.nan_to_num(posinf=0)).square().mean()
            if x.isinf().any():
                loss = loss + (0 * self.line.weight.sum()).abs().sqrt()
        if self.bad == "loss":  # and the other way round
            loss = self.line(x.nan_to_num(posinf=0)).square().mean()
            loss = loss + x.sum().detach()
        return loss, {"mean": loss.detach()}


def items(*bad: int, n: int = 24):
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(1))
    x[list(bad)] = math.inf
    return TensorDataset(x)


def weights(model: nn.Module):
    return {k: v.clone() for k, v in model.state_dict().items()}


@pytest.mark.parametrize("bad", ["input", "gradient", "loss"])
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_one_bad_image_costs_its_step_and_is_counted(bad, clip, tmp_path):
    model = Line(bad)
    config = replace(CONFIG, gradient_clip=clip)
    log = train(model, items(17), config, tmp_path)
    assert all(v.isfinite().all() for v in model.state_dict().values())
    (first,) = [i for i, line in enumerate(log) if line.get("skipped")][:1]
    assert [line.get("skipped", 0) for line in log] == [0] * first + [1] * (24 - first)
    finite = [line for i, line in enumerate(log) if i != first]
    assert all(math.isfinite(v) for line in log for v in line.values())
    assert all("loss" in line for line in finite)
    assert ("loss" in log[first]) == (bad == "gradient")
    texts = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(text) for text in texts] == log and "NaN" not in "".join(texts)


def test_nothing_of_a_bad_step_stays():
    """Weights, both averages of AdamW, its count of steps and buffers."""
    seen = []

    class Watched(Line):
        def forward(self, x, *, generator=None):
            seen.append((bool(x.isfinite().all()), weights(self)))
            return super().forward(x, generator=generator)

    train(Watched(), items(17), CONFIG)
    (at,) = [i for i, (good, _) in enumerate(seen) if not good]
    assert_close(seen[at + 1][1], seen[at][1], atol=0, rtol=0)
    assert not torch.equal(seen[at + 2][1]["line.weight"], seen[at][1]["line.weight"])

    model = Line()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    finite = FiniteSteps(model)
    for x in (torch.ones(1, 3), torch.full((1, 3), math.inf)):
        finite.remember()
        loss, _ = model(x)
        loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters()])
        before = [v.clone() for s in optimizer.state.values() for v in s.values()]
        finite.judge(optimizer, [loss], norm)
        optimizer.step()
        optimizer.zero_grad()
    after = [v for s in optimizer.state.values() for v in s.values()]
    assert before and all(map(torch.equal, before, after))
    assert finite.check(2) == 1


def test_a_run_goes_on_with_its_count(tmp_path):
    class Stop(Exception):
        pass

    def stop(line):
        if line["step"] == 22:
            raise Stop

    whole, bad = Line(), items(3, 17)
    log = train(whole, bad, CONFIG)
    assert log[-1]["skipped"] == 2
    with pytest.raises(Stop):
        train(Line(), bad, CONFIG, tmp_path, stop)
    model = Line()
    again = train(model, bad, CONFIG, tmp_path)
    for line in (*log, *again):
        line.pop("seconds")
    assert again == log
    assert_close(weights(model), weights(whole), atol=0, rtol=0)


def test_a_checkpoint_from_before_steps_were_counted_is_gone_on_with(tmp_path):
    train(Line(), items(), CONFIG, tmp_path)
    path = tmp_path / "checkpoint.pt"
    saved = torch.load(path, weights_only=True)
    assert saved.pop("finite")["counts"].tolist() == [0, 0, 0]
    torch.save(saved, path)
    started = []
    train(Line(), items(), CONFIG, tmp_path, on_start=started.append)
    assert started == [24]


@pytest.mark.parametrize("log_every, checkpoint_every", [(50, 2), (2, 50)])
def test_ten_bad_steps_in_a_row_end_the_run(tmp_path, log_every, checkpoint_every):
    config = replace(CONFIG, log_every=log_every, checkpoint_every=checkpoint_every)
    wanted = f"not finite in {MOST_IN_A_ROW} steps in a row, up to step 10; lower"
    with pytest.raises(ValueError, match=wanted) as caught:
        train(Line(), items(*range(24)), config, tmp_path)
    assert "\n" not in str(caught.value)
    if checkpoint_every == 2:
        saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
        assert torch.equal(saved["module"]["line.weight"], Line().line.weight)
    log = tmp_path / "metrics.jsonl"  # it comes with its first line
    assert log.exists() == (log_every == 2)
    texts = log.read_text().splitlines() if log.exists() else []
    assert all("loss" not in json.loads(text) for text in texts)


def test_nine_in_a_row_do_not():
    log = train(Line(), items(*range(9), n=10), replace(CONFIG, steps=10))
    assert log[-1]["skipped"] == 9


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    """An update may overflow though its gradient is finite."""
    config = replace(CONFIG, learning_rate=3e38, weight_decay=3e38)
    with pytest.raises(ValueError, match=r"a weight is no longer finite|not finite in"):
        train(Line(), items(), config, tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()
