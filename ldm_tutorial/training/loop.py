"""One training loop. It knows no model: it is given a module whose
``forward(*batch, generator)`` returns a loss and a dictionary of numbers to log.

All randomness of step s comes from (seed, s): the batch, the noise, the dropout. So a
run that was stopped anywhere goes on exactly as if nothing had happened.
"""

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset

from ldm_tutorial.training.batches import StepSampler, batches
from ldm_tutorial.training.config import Log, TrainConfig
from ldm_tutorial.training.folder import Run


def train(
    module: nn.Module,
    dataset: Dataset,
    config: TrainConfig,
    out: str | Path | None = None,
    on_log: Callable[[Log], Any] | None = None,
    on_start: Callable[[int], Any] | None = None,
) -> list[Log]:
    """Train ``module`` in place; at the end it holds the averaged (EMA) weights.

    Args:
        module: ``forward(*batch, generator)`` -> (scalar loss, {name: scalar}).
            Parameters that do not require a gradient stay as they are.
        dataset: map-style; a batch is what the default collation makes of its items.
        out: folder for ``metrics.jsonl`` and ``checkpoint.pt``. If it holds a
            checkpoint of the same config, training goes on from there.
        on_log: called with every new line of the log.
        on_start: called when all is ready, with the number of steps done already.

    Returns:
        The log: dictionaries with step, loss, what the module reports (each the mean
        over all processes), learning_rate and seconds since the first step.

    Raises:
        ValueError: if ``out`` holds a checkpoint of another config or model, or a
            damaged one; if the batch is larger than the data set; if the device does
            not know the precision; or if loss or weights stop being finite.
    """
    accelerator = start_accelerator(module, config.precision)
    device, rank = accelerator.device, accelerator.process_index
    sampler = StepSampler(len(dataset), config, 0, rank, accelerator.num_processes)
    module.to(device)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(0.9, 0.99),
        fused=True,
    )
    ema = AveragedModel(module, multi_avg_fn=ema_update(config.ema_decay))
    state = {"module": module, "ema": ema, "optimizer": optimizer}
    if accelerator.scaler is not None:
        state["scaler"] = accelerator.scaler
    settings = asdict(config) | {"images": len(dataset)}
    run = Run(out, settings, state, writes=accelerator.is_main_process)
    sampler.start = run.step
    wrapped, optimizer = accelerator.prepare(module, optimizer)
    wrapped.train()
    average = averaging(ema, module)
    if on_start:
        on_start(run.step)
    generator = torch.Generator(device)
    start = time.perf_counter() - run.seconds
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for step, batch in batches(dataset, sampler):
            set_learning_rate(optimizer, config, step)
            seed_step(generator, config.seed, step, rank)
            batch = [b.to(device, non_blocking=True) for b in batch]
            with accelerator.autocast():
                loss, parts = wrapped(*batch, generator)
            accelerator.backward(loss)
            if config.gradient_clip:
                accelerator.clip_grad_norm_(parameters, config.gradient_clip)
            optimizer.step()
            optimizer.zero_grad()
            average()
            done = step + 1
            last = done == config.steps
            if last or done % config.log_every == 0:
                values = accelerator.reduce({"loss": loss.detach()} | parts, "mean")
                check_finite(done, values["loss"])
                line = {"step": done} | {k: v.item() for k, v in values.items()}
                line["learning_rate"] = learning_rate(config, step)
                line["seconds"] = round(time.perf_counter() - start, 3)
                run.log(line)
                if on_log and accelerator.is_main_process:
                    on_log(line)
            if last or done % config.checkpoint_every == 0:
                check_finite(done, loss, *parameters)
                run.checkpoint(done, time.perf_counter() - start)
    accelerator.end_training()
    for name in ("forward", "_original_forward"):  # undo accelerate's patch for bf16
        vars(module).pop(name, None)
    module.load_state_dict(ema.module.state_dict())
    module.eval()
    return run.lines


def tensorboard(out: str | Path) -> Callable[[Log], None]:
    """An ``on_log`` that writes to a folder what TensorBoard shows
    (``tensorboard --logdir OUT``), by accelerate's tracker.

    Raises:
        ValueError: if the package tensorboard is missing.
    """
    from accelerate import PartialState
    from accelerate.tracking import TensorBoardTracker

    if find_spec("tensorboard") is None:
        raise ValueError(
            "TensorBoard is not installed: pip install tensorboard, or read "
            "metrics.jsonl, which holds the same numbers"
        )
    PartialState()  # the tracker asks it which process it is in
    tracker = TensorBoardTracker("tensorboard", logging_dir=str(out))
    tracker.start()

    def on_log(line: Log) -> None:
        values = {k: v for k, v in line.items() if k != "step"}
        tracker.log(values, step=int(line["step"]))
        tracker.writer.flush()

    return on_log


def start_accelerator(module: nn.Module, precision: str):
    """An ``accelerate.Accelerator`` for the kind of device that the module is on.

    Accelerate keeps one state a process, and refuses another device or precision; it
    is cleared, so that one notebook may train several models.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    cpu = next(module.parameters()).device.type == "cpu"
    if cpu and precision == "fp16":
        raise ValueError("precision='fp16' needs a GPU; on a CPU give no or bf16")
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(mixed_precision=precision, cpu=cpu)


def is_main_process() -> bool:
    """Whether this process writes files and speaks: all but one of those that
    ``accelerate launch`` or ``torchrun`` started stay silent."""
    return os.environ.get("RANK", "0") == "0"


def seed_step(generator: torch.Generator, seed: int, step: int, rank: int) -> None:
    """Fix the randomness of a step: the noise, and what draws from torch's global
    generator, such as dropout. Python's hash of integers is the same everywhere."""
    generator.manual_seed(hash((seed, step, rank)) % 2**63)
    torch.manual_seed(hash((seed, step, rank, 1)) % 2**63)


def check_finite(step: int, *tensors: Tensor) -> None:
    """Stop before nan is logged, or saved over the last good checkpoint."""
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise ValueError(
            f"the loss or a weight is no longer finite at step {step}; "
            "lower the learning rate (in another folder), or look at the data"
        )


def ema_update(decay: float) -> Callable:
    """Update of the averaged weights. The first step copies the weights; the n-th after
    it takes average = d average + (1 - d) weights, d = min(decay, (1 + n) / (10 + n)).
    That d rises with n, so that the random start is soon forgotten."""

    @torch.no_grad()
    def update(averaged, current, num_averaged):
        n = float(num_averaged)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update


def averaging(ema: AveragedModel, module: nn.Module) -> Callable[[], None]:
    """``ema.update_parameters(module)`` as a call that knows its tensors: to look them
    up in the modules at every step takes longer than the arithmetic. Parameters that
    are not trained are the same in both, and are left out."""
    pairs = zip(ema.module.parameters(), module.parameters(), strict=True)
    pairs = [(a.detach(), p.detach()) for a, p in pairs if p.requires_grad]
    averaged, current = map(list, zip(*pairs, strict=True))
    buffers = list(zip(ema.module.buffers(), module.buffers(), strict=True))

    def update() -> None:
        if ema.n_averaged == 0:
            torch._foreach_copy_(averaged, current)
        else:
            ema.multi_avg_fn(averaged, current, ema.n_averaged)
        for copy, buffer in buffers:
            copy.copy_(buffer)
        ema.n_averaged += 1

    return update


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear rise over ``warmup_steps``, then a cosine down to zero."""
    rise = min(1.0, (step + 1) / max(1, config.warmup_steps))
    fall = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / config.steps)).item())
    return config.learning_rate * rise * fall


def set_learning_rate(optimizer, config: TrainConfig, step: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, step)
