import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from ldm_tutorial.cost import efficiency
from ldm_tutorial.cost.efficiency import (
    Timing,
    activation_bytes,
    count_flops,
    count_parameters,
    peak_bytes,
    time_side_by_side,
)
from ldm_tutorial.layers import Attention, ResBlock, conv3x3
from ldm_tutorial.unet import UNet, UNetConfig

FLOAT = 4  # bytes

# Counting operations ------------------------------------------------------------------


@pytest.mark.parametrize(
    "B, c_in, c_out, side, stride", [(1, 3, 5, 8, 1), (2, 16, 8, 4, 1), (3, 4, 4, 8, 2)]
)
def test_flops_of_a_convolution(B, c_in, c_out, side, stride):
    conv = conv3x3(c_in, c_out, stride)
    x = torch.randn(B, c_in, side, side)
    positions = B * (side // stride) ** 2
    assert count_flops(lambda: conv(x)) == 2 * 9 * c_in * c_out * positions


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("grad", [True, False])
def test_flops_of_attention(device, grad):
    """qkv and output projections, then the two products with the N x N weights."""
    B, C, N = 2, 64, 4 * 6
    attention = Attention(C).to(device)
    x = torch.randn(B, C, 4, 6).to(device)
    with torch.set_grad_enabled(grad):
        flops = count_flops(lambda: attention(x))
    assert flops == B * (2 * N * C * 3 * C + 2 * N * C * C + 2 * 2 * N * N * C)


def test_a_backward_pass_costs_twice_the_forward_pass():
    """A product of (n, k) and (k, m) has two gradients, of as many operations each."""
    x = torch.randn(5, 7, requires_grad=True)
    w = torch.randn(7, 3, requires_grad=True)
    forward = count_flops(lambda: x @ w)
    assert forward == 2 * 5 * 7 * 3
    assert count_flops(lambda: (x @ w).sum().backward()) == 3 * forward


def test_flops_of_a_unet_do_not_need_its_memory():
    """Counting works on the meta device, where no number is computed."""
    config = UNetConfig(channels=(32, 64), num_res_blocks=1)
    z, t = torch.randn(1, 4, 8, 8), torch.zeros(1, dtype=torch.int64)
    small, ghost = UNet(config), UNet(config).to("meta")
    here = count_flops(lambda: small(z, t))
    assert here == count_flops(lambda: ghost(z.to("meta"), t.to("meta")))
    assert count_flops(lambda: small(z.repeat(3, 1, 1, 1), t.repeat(3))) == 3 * here


def test_parameters():
    assert count_parameters(conv3x3(3, 5)) == 3 * 5 * 9 + 5


# Memory -------------------------------------------------------------------------------


class Chain(nn.Module):
    """exp keeps its result, sigmoid keeps its result, the sum keeps nothing."""

    def forward(self, x):
        return x.exp().sigmoid().sum()


def test_activations_of_a_chain():
    x = torch.randn(100, requires_grad=True)
    assert activation_bytes(Chain(), x) == 2 * 100 * FLOAT


def test_activations_leave_parameters_out_and_count_shared_ones_once():
    linear = nn.Linear(30, 20)
    x = torch.randn(10, 30)  # kept for the gradient of the weight
    assert activation_bytes(linear, x) == 10 * 30 * FLOAT

    def square(x):
        return (x * x.view(30, 10).view(10, 30)).sum()

    module = nn.Module()
    module.forward = square
    x.requires_grad_()
    assert activation_bytes(module, x) == 10 * 30 * FLOAT


def test_activations_grow_with_the_batch_and_are_the_same_again():
    block = ResBlock(16, 32, emb_dim=8)

    def kept(B):
        x, emb = torch.randn(B, 16, 8, 8), torch.randn(B, 8)
        return activation_bytes(block, x, emb)

    assert kept(4) == kept(4) == pytest.approx(2 * kept(2), rel=0.01)


def test_without_gradients_nothing_is_kept():
    with torch.no_grad():
        assert activation_bytes(ResBlock(16, 16), torch.randn(1, 16, 8, 8)) == 0


def test_activations_are_let_go():
    seen = []
    conv = conv3x3(3, 3)
    conv.register_forward_hook(lambda *call: seen.append(weakref.ref(call[2])))
    gc.disable()  # so that a reference cycle would show
    try:
        activation_bytes(conv, torch.randn(1, 3, 4, 4))
    finally:
        gc.enable()
    assert seen[0]() is None


on_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="measures CUDA instead")


@on_cpu
def test_peak_of_known_allocations():
    def work():
        a = torch.zeros(1000)
        b = torch.zeros(500)  # here 1500 live
        del a
        return b, torch.zeros(800)  # here 1300

    assert peak_bytes(work) == 1500 * FLOAT


@on_cpu
def test_peak_counts_no_view_and_nothing_that_was_there_before():
    before = torch.zeros(1000)

    def work():
        before.view(10, 100).t()[0].add_(1)  # all in the same memory
        return before[:10] * 2

    assert peak_bytes(work) == 10 * FLOAT


@on_cpu
def test_peak_of_a_training_step_holds_activations_and_gradients():
    conv = nn.Sequential(conv3x3(8, 8), nn.SiLU(), conv3x3(8, 8))
    x = torch.randn(16, 8, 32, 32)
    kept = activation_bytes(conv, x) - x.nbytes  # x was there before

    def step():
        conv.zero_grad()
        conv(x).square().mean().backward()

    forward = peak_bytes(lambda: torch.no_grad()(conv)(x))
    assert kept < peak_bytes(step) < 5 * kept
    assert forward < peak_bytes(step) == peak_bytes(step)


@on_cpu
def test_peak_returns_to_zero_when_everything_is_freed():
    with efficiency.LivingTensors() as living:
        F.conv2d(torch.randn(1, 3, 8, 8), torch.randn(3, 3, 3, 3)).sum()
    assert living.held == 0 < living.peak


# Time ---------------------------------------------------------------------------------


def test_functions_take_turns_after_a_warm_up():
    calls = []
    work = {name: lambda name=name: calls.append(name) for name in "ABC"}
    timings = time_side_by_side(work, repeats=3)
    assert "".join(calls) == "ABC" + "ABC" * 3
    assert {name: len(t.seconds) for name, t in timings.items()} == dict.fromkeys(
        "ABC", 3
    )


def test_times_are_those_of_the_clock(monkeypatch):
    """A clock that each call moves on: the warm-up does not count."""
    now = 0.0
    durations = iter([9, 9, 1, 10, 3, 20, 2, 60])  # two to warm up, then A B A B A B

    def work():
        nonlocal now
        now += next(durations)

    monkeypatch.setattr(efficiency.time, "perf_counter", lambda: now)
    timings = time_side_by_side({"A": work, "B": work}, repeats=3)
    assert timings["A"].seconds == (1, 3, 2)
    assert timings["B"].seconds == (10, 20, 60)


def test_median_and_spread():
    timing = Timing((3.0, 1.0, 2.0, 50.0, 2.5))
    assert timing.median == 2.5  # one slow call does not move it
    assert timing.spread == (1.0, 50.0)
    assert_close(Timing((1.0, 2.0)).median, 1.5)
