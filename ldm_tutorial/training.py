"""One training loop. It knows no model: it is given a module whose
``forward(*batch, generator)`` returns a loss and a dictionary of numbers to log.

All randomness of step s comes from (seed, s): the batch and the noise. So a run that
was stopped anywhere goes on exactly as if nothing had happened.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset, Sampler

from ldm_tutorial.storage import write_json

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
        for name in ("steps", "batch_size", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; give 1 or more")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate={self.learning_rate}; give more than 0")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay={self.ema_decay}; give 0, or up to below 1")


def train(
    module: nn.Module,
    dataset: Dataset,
    config: TrainConfig,
    out: str | Path | None = None,
    on_log: Callable[[Log], Any] | None = None,
) -> list[Log]:
    """Train ``module`` in place; at the end it holds the averaged (EMA) weights.

    Args:
        module: ``forward(*batch, generator)`` -> (scalar loss, {name: scalar}).
            Parameters that do not require a gradient stay as they are.
        dataset: map-style; a batch is what the default collation makes of its items.
        out: folder for ``metrics.jsonl`` and ``checkpoint.pt``. If it holds a
            checkpoint of the same config, training goes on from there.
        on_log: called with every line of the log.

    Returns:
        The log: dictionaries with step, loss, what the module reports, learning_rate
        and seconds since the first step.

    Raises:
        ValueError: if ``out`` holds a checkpoint of another config, or the loss stops
            being finite.
    """
    from accelerate import Accelerator

    cpu = next(module.parameters()).device.type == "cpu"
    accelerator = Accelerator(mixed_precision=config.precision, cpu=cpu)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(0.9, 0.99),
        fused=True,
    )
    ema = AveragedModel(module, multi_avg_fn=ema_update(config.ema_decay))
    run = Run(out, config, module, ema, optimizer)
    wrapped, optimizer = accelerator.prepare(module, optimizer)
    generator = torch.Generator(accelerator.device)
    rank, world = accelerator.process_index, accelerator.num_processes
    wrapped.train()
    start = time.perf_counter() - run.seconds
    for step, batch in batches(dataset, config, run.step, rank, world):
        set_learning_rate(optimizer, config, step)
        generator.manual_seed(hash((config.seed, step, rank)) % 2**63)
        batch = [b.to(accelerator.device, non_blocking=True) for b in batch]
        with accelerator.autocast():
            loss, parts = wrapped(*batch, generator)
        accelerator.backward(loss)
        if config.gradient_clip:
            accelerator.clip_grad_norm_(parameters, config.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
        ema.update_parameters(module)
        done = step + 1
        if done % config.log_every == 0 or done == config.steps:
            line = {"step": done, "loss": loss.item()}
            line |= {name: value.item() for name, value in parts.items()}
            line |= {"learning_rate": learning_rate(config, step)}
            line |= {"seconds": round(time.perf_counter() - start, 3)}
            if not torch.isfinite(loss):
                raise ValueError(
                    f"the loss became {loss.item()} at step {done}; "
                    "lower the learning rate or look at the data"
                )
            if accelerator.is_main_process:
                run.log(line)
                if on_log:
                    on_log(line)
        last = done == config.steps
        if accelerator.is_main_process and (last or done % config.checkpoint_every == 0):
            run.checkpoint(done, time.perf_counter() - start)
    module.load_state_dict(ema.module.state_dict())
    module.eval()
    return run.lines


class Run:
    """The files of one run: its log and its last checkpoint."""

    def __init__(self, out, config: TrainConfig, module, ema, optimizer):
        self.out = Path(out) if out else None
        self.config, self.step, self.seconds = config, 0, 0.0
        self.state = {"module": module, "ema": ema, "optimizer": optimizer}
        self.lines: list[Log] = []
        if self.out:
            self.out.mkdir(parents=True, exist_ok=True)
            self._resume()
            self._rewrite_log()

    def _resume(self) -> None:
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return
        saved = torch.load(path, map_location="cpu", weights_only=True)
        mine = asdict(self.config)
        if differing := [k for k in mine if mine[k] != saved["config"].get(k)]:
            name = differing[0]
            raise ValueError(
                f"{self.out} holds a run with {name}={saved['config'].get(name)}, and "
                f"{name}={mine[name]} was asked for; choose another folder, or the same "
                "settings to go on with that run"
            )
        for name, part in self.state.items():
            part.load_state_dict(saved[name])
        self.step, self.seconds = saved["step"], saved["seconds"]

    def _rewrite_log(self) -> None:
        """Keep the lines up to the checkpoint: later ones will be made again."""
        path = self.out / "metrics.jsonl"
        for text in path.read_text().splitlines() if path.exists() else []:
            try:
                line = json.loads(text)
            except json.JSONDecodeError:  # the process died while it wrote this line
                break
            if line["step"] <= self.step:
                self.lines.append(line)
        new = path.with_name("metrics.jsonl.new")
        new.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
        os.replace(new, path)

    def log(self, line: Log) -> None:
        self.lines.append(line)
        if self.out:
            with (self.out / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")

    def checkpoint(self, step: int, seconds: float) -> None:
        """Write the state so that a crash leaves the old checkpoint or the new one."""
        if not self.out:
            return
        state = {name: part.state_dict() for name, part in self.state.items()}
        state |= {"step": step, "seconds": seconds, "config": asdict(self.config)}
        new = self.out / "checkpoint.pt.new"
        torch.save(state, new)
        os.replace(new, self.out / "checkpoint.pt")
        write_json(self.out / "train_config.json", asdict(self.config))


def ema_update(decay: float) -> Callable:
    """Update of the averaged weights; the decay rises from 0.1 to ``decay`` so that
    the random start is soon forgotten."""

    @torch.no_grad()
    def update(averaged, current, num_averaged):
        n = float(num_averaged)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear rise over ``warmup_steps``, then a cosine down to zero."""
    rise = min(1.0, (step + 1) / max(1, config.warmup_steps))
    fall = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / config.steps)).item())
    return config.learning_rate * rise * fall


def set_learning_rate(optimizer, config: TrainConfig, step: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, step)


class StepSampler(Sampler):
    """Indices of each step's batch: shuffled epochs, known for any step at once."""

    def __init__(self, n: int, config: TrainConfig, start: int, rank: int, world: int):
        if config.batch_size > n or config.batch_size % world:
            raise ValueError(
                f"batch_size={config.batch_size} with {n} images and {world} processes; "
                f"give a multiple of {world} up to {n}"
            )
        self.n, self.config, self.start = n, config, start
        self.rank, self.world = rank, world

    def __iter__(self) -> Iterator[list[int]]:
        size, seed = self.config.batch_size, self.config.seed
        per_epoch = self.n // size
        epoch, order = -1, torch.empty(0)
        for step in range(self.start, self.config.steps):
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                shuffle = torch.Generator().manual_seed(hash((seed, epoch)) % 2**63)
                order = torch.randperm(self.n, generator=shuffle)
            first = (step % per_epoch) * size
            yield order[first : first + size][self.rank :: self.world].tolist()


def batches(dataset, config: TrainConfig, start: int, rank: int, world: int):
    """(step, batch) for every step from ``start`` to the last."""
    sampler = StepSampler(len(dataset), config, start, rank, world)
    loader = DataLoader(
        dataset, batch_sampler=sampler, num_workers=config.num_workers
    )
    return zip(range(start, config.steps), loader, strict=True)
