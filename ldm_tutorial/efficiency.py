"""What a model costs: parameters, FLOPs, time and memory."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


def count_parameters(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())


def count_flops(function: Callable[[], Any]) -> int:
    """Floating-point operations of the convolutions and matrix products in a call,
    two for each multiply-add, by torch's own counter."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


@dataclass(frozen=True)
class Timing:
    """Seconds of repeated calls."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """Fastest and slowest call."""
        return min(self.seconds), max(self.seconds)


def time_side_by_side(
    functions: dict[str, Callable[[], Any]], repeats: int = 5
) -> dict[str, Timing]:
    """Time functions in the order A B C A B C ..., after one call of each to warm up.

    Alternating spreads the machine's moods over all of them, so that ratios mean
    something even where single times do not.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(repeats):
        for name, function in functions.items():
            synchronize()
            start = time.perf_counter()
            function()
            synchronize()
            seconds[name].append(time.perf_counter() - start)
    return {name: Timing(tuple(s)) for name, s in seconds.items()}


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def activation_bytes(module: nn.Module, *inputs: Any) -> int:
    """Bytes that a forward pass keeps for its backward pass, parameters not counted.

    The number follows from the graph, not from the clock or the allocator: it is the
    same in every run.
    """
    own = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = module(*inputs)
    del output  # held until here, so that no address was used twice
    return sum(kept.values())


def peak_bytes(function: Callable[[], Any]) -> int:
    """Most memory that a call holds at any moment beyond what was there before it,
    as torch's allocator sees it (CUDA if there is one, else CPU)."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return torch.cuda.max_memory_allocated() - before
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        function()
    held = peak = 0
    for event in prof.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak
