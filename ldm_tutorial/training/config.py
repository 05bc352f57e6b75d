"""How long and how fast to train: the settings of the loop, and what it logs."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from ldm_tutorial.arguments import number, positive, whole

Log = dict[str, float]
Precision = Literal["no", "bf16", "fp16"]


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to train.

    Attributes:
        steps: optimiser steps.
        batch_size: images per step, over all processes.
        learning_rate: peak of AdamW's learning rate; it rises linearly, then falls to
            zero along a cosine.
        warmup_steps: steps of the rise, at most half of all.
        weight_decay: AdamW's weight decay.
        gradient_clip: bound on the norm of the gradient; 0 turns it off.
        accumulate: parts that a batch is computed in, one after the other; more need
            less memory for the same gradient.
        ema_decay: decay of the exponential moving average of the weights; 0 for none.
        seed: decides weights, batches and noise.
        log_every: steps between two lines of the log.
        checkpoint_every: steps between two checkpoints.
        validate_every: steps between two looks at the validation set, if there is one.
        precision: no (float32), bf16 or fp16. A CPU that has no instructions for bf16,
            where it would be many times slower, computes in float32 instead.
        compile: let torch.compile translate the model; it pays in long trainings.
        channels_last: keep images and weights with their channels last in memory.
        num_workers: processes that make the batches; 0 makes them in the loop.
    """

    steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    accumulate: int = 1
    ema_decay: float = 0.999
    seed: int = 0
    log_every: int = 20
    checkpoint_every: int = 500
    validate_every: int = 500
    precision: Precision = "no"
    compile: bool = False
    channels_last: bool = False
    num_workers: int = 0

    def __post_init__(self):
        least = dict.fromkeys(("steps", "batch_size", "log_every", "accumulate"), 1)
        least |= {"checkpoint_every": 1, "validate_every": 1}
        least |= {"warmup_steps": 0, "num_workers": 0}
        for name, bound in least.items():
            whole(name, getattr(self, name), bound)
        number("weight_decay", self.weight_decay, 0)
        number("gradient_clip", self.gradient_clip, 0)
        positive("learning_rate", self.learning_rate)
        whole("seed", self.seed, 0)
        if not 0 <= number("ema_decay", self.ema_decay, 0) < 1:
            raise ValueError(f"ema_decay={self.ema_decay}; give 0, or up to below 1")
        if self.seed >= 2**63:
            raise ValueError(f"seed={self.seed}; give less than 2**63")
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision={self.precision!r}; give no, bf16 or fp16")


def learning_rate(config: TrainConfig, step: int) -> float:
    """The learning rate of a step, from 0: a linear rise to the peak, then a cosine
    down to zero."""
    warmup = min(config.warmup_steps, config.steps // 2)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    done = (step - warmup) / (config.steps - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
