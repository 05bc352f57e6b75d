"""What a model costs: parameters, FLOPs, time and memory."""

import statistics
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


def count_parameters(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())


def count_flops(function: Callable[[], Any]) -> int:
    """Floating-point operations of the convolutions and matrix products in a call,
    two for each multiply-add, by torch's own counter.

    Attention is run as plain matrix products meanwhile, so that the number does not
    depend on the fused kernel that a device would choose.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def training_step(
    module: nn.Module, loss: Callable[[], torch.Tensor]
) -> Callable[[], None]:
    """A call that takes the gradients of a loss and lets fused AdamW step."""
    optimizer = torch.optim.AdamW(module.train().parameters(), fused=True)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


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
    own = storages(module.parameters())
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.update(storages([tensor]))
        return tensor.detach()  # the tensor itself would be a reference cycle

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(*inputs)
    return sum(kept[i].nbytes() for i in kept.keys() - own.keys())


def peak_bytes(function: Callable[[], Any]) -> int:
    """Most memory that a call holds at any moment beyond what was there before it.

    With CUDA, what its allocator gave out. Without, the tensors that operations made
    and that were alive together; scratch space inside an operation is not seen, and
    the number is the same in every run.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return torch.cuda.max_memory_allocated() - before
    with LivingTensors() as living:
        function()
    return living.peak


class LivingTensors(TorchDispatchMode):
    """Follows every operation and adds up the memory of its results until they die."""

    def __init__(self):
        super().__init__()
        self.held = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for i, storage in storages(tree_iter((args, kwargs))).items():
            self._meet(i, storage, 0)  # there before the call, or met already
        result = operation(*args, **kwargs)
        for i, storage in storages(tree_iter(result)).items():
            self._meet(i, storage, storage.nbytes())
        self.peak = max(self.peak, self.held)
        return result

    def _meet(self, i: int, storage: torch.UntypedStorage, size: int) -> None:
        if i not in self.known:
            self.known.add(i)
            self.held += size
            weakref.finalize(storage, self._forget, i, size).atexit = False

    def _forget(self, i: int, size: int) -> None:
        self.known.discard(i)
        self.held -= size


def storages(values: Any) -> dict[int, torch.UntypedStorage]:
    """The memory behind the tensors among some values, each piece once, by identity."""
    found = [v.untyped_storage() for v in values if isinstance(v, torch.Tensor)]
    return {id(storage): storage for storage in found}
