"""Steps whose loss or gradient is not finite: they are left out and counted, and too
many of them in a row end the training.

One bad image, or one unlucky draw, shall cost a step and not the run. Whether a step is
left out is decided on the device, by tensors alone, so that a GPU is not waited for.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ldm_tutorial.training.processes import mean_over_processes

MOST_IN_A_ROW = 10  # steps that may be left out one after the other


class FiniteSteps:
    """What a step that is left out would have changed stays as it is: the weights, the
    optimizer's averages, and buffers such as the statistics of latents.

    Args:
        module: what is trained.
        scaled: whether a gradient scaler (fp16) decides which steps are left out; it
            looks at the gradients alone.
    """

    def __init__(self, module: nn.Module, scaled: bool = False):
        self.scaled = scaled
        self.places = [
            (part, name)
            for part in module.modules()
            for name, buffer in part.named_buffers(recurse=False)
            if buffer.is_floating_point() and buffer.numel()
        ]
        device = next(module.parameters()).device
        # steps that were left out: in all, just now in a row, and most in a row
        self.counts = torch.zeros(3, dtype=torch.int64, device=device)
        self.kept: list[Tensor] = []

    def remember(self) -> None:
        """Keep the buffers as they are before a step."""
        self.kept = [getattr(*place).clone() for place in self.places]

    @torch.no_grad()
    def judge(
        self, optimizer: torch.optim.Optimizer, losses: list[Tensor], norm: Tensor
    ) -> None:
        """Let the optimizer leave out its next step if the sum of the ``losses`` or the
        ``norm`` of the gradient is not finite. All processes decide alike."""
        good = norm.isfinite()
        if not self.scaled:
            total = torch.stack([loss.float() for loss in losses]).sum()
            good = good & mean_over_processes(total).isfinite()
            # The fused optimizers of torch read this wherever it comes from.
            optimizer.found_inf = (~good).float()  # type: ignore[attr-defined]
        for place, kept in zip(self.places, self.kept, strict=True):
            buffer = getattr(*place)
            buffer.copy_(torch.where(good, buffer, kept))
        in_all, row, most = self.counts.unbind()
        row = torch.where(good, 0, row + 1)
        new = [in_all + ~good, row, torch.maximum(most, row)]
        self.counts.copy_(torch.stack(new))

    def check(self, step: int) -> int:
        """How many steps were left out until ``step``; this waits for the device.

        Raises:
            ValueError: if too many were left out in a row.
        """
        in_all, _, most = self.counts.tolist()
        if most >= MOST_IN_A_ROW:
            raise ValueError(
                f"the loss or its gradient was not finite in {most} steps in a row, up "
                f"to step {step}; lower the learning rate (in another folder), or look "
                "at the data"
            )
        return in_all

    def state_dict(self) -> dict[str, Any]:
        return {"counts": self.counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.counts.copy_(state["counts"])
