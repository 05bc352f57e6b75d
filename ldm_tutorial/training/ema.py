"""The exponential moving average of the weights, which is what a diffusion model is
sampled with (Ho et al. 2020, app. B)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class EMA:
    """Averaged copies of the tensors that are trained.

    The first update copies the weights; the n-th after it takes
    average = d average + (1 - d) weights with d = min(decay, (1 + n) / (10 + n)), which
    rises with n, so that the random start is soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay, self.updates = decay, 0
        trained = {k: p for k, p in module.named_parameters() if p.requires_grad}
        self.names = list(trained)
        self.weights: list[Tensor] = list(trained.values())
        self.average = [p.detach().clone() for p in self.weights]

    @torch.no_grad()
    def update(self) -> None:
        n = self.updates
        decay = min(self.decay, (1 + n) / (10 + n)) if n else 0.0
        torch._foreach_lerp_(self.average, self.weights, 1 - decay)
        self.updates += 1

    @torch.no_grad()
    def copy_to_module(self) -> None:
        """Give the module the averaged weights."""
        torch._foreach_copy_(self.weights, self.average)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the module hold the averaged weights for a while."""
        trained = [p.detach().clone() for p in self.weights]
        self.copy_to_module()
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self.weights, trained)

    def state_dict(self) -> dict[str, Any]:
        average = dict(zip(self.names, self.average, strict=True))
        return {"updates": self.updates, "average": average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Raises:
            KeyError, RuntimeError: for the averages of another model.
        """
        for name, average in zip(self.names, self.average, strict=True):
            average.copy_(state["average"][name])
        self.updates = state["updates"]
