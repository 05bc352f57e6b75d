"""How long and how fast to train: the settings of the loop, and what it logs."""

from dataclasses import dataclass
from typing import Literal

Log = dict[str, float]


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to train.

    Attributes:
        steps: optimiser steps.
        batch_size: images per step, over all processes.
        learning_rate: peak of AdamW's learning rate; it rises linearly, then falls to
            zero along a cosine.
        warmup_steps: steps of the rise.
        weight_decay: AdamW's weight decay.
        gradient_clip: bound on the norm of the gradient; 0 turns it off.
        ema_decay: decay of the exponential moving average of the weights; 0 for none.
        seed: decides weights, batches and noise.
        log_every: steps between two lines of the log.
        checkpoint_every: steps between two checkpoints.
        precision: no (float32), bf16 or fp16.
        num_workers: processes that make the batches; 0 makes them in the loop.
    """

    steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    log_every: int = 20
    checkpoint_every: int = 500
    precision: Literal["no", "bf16", "fp16"] = "no"
    num_workers: int = 0

    def __post_init__(self):
        least = {name: 1 for name in ("steps", "batch_size", "log_every")}
        least |= {"checkpoint_every": 1, "warmup_steps": 0, "num_workers": 0}
        least |= {"weight_decay": 0, "gradient_clip": 0, "seed": 0}
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise ValueError(f"{name}={getattr(self, name)}; give {bound} or more")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate={self.learning_rate}; give more than 0")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay={self.ema_decay}; give 0, or up to below 1")
        if self.seed >= 2**63:
            raise ValueError(f"seed={self.seed}; give less than 2**63")
        if self.precision not in ("no", "bf16", "fp16"):
            raise ValueError(f"precision={self.precision!r}; give no, bf16 or fp16")
