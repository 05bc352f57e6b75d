"""One training loop. It knows no model: it is given a module whose
``forward(*batch, generator=...)`` returns a loss and a dictionary of numbers to log.

All randomness of step s comes from (seed, s): the batch, the noise, the dropout. So a
run that was stopped anywhere goes on exactly as if nothing had happened, and several
processes that share its batches take the course of one.
"""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ldm_tutorial.machine import computes_bf16
from ldm_tutorial.noise import SharedGenerator
from ldm_tutorial.stopping import asked, at_the_end_of_a_step, stop_if_asked
from ldm_tutorial.training.batches import StepSampler, batches, loss_of, moved
from ldm_tutorial.training.board import tensorboard
from ldm_tutorial.training.config import Log, TrainConfig, learning_rate
from ldm_tutorial.training.ema import EMA
from ldm_tutorial.training.finite import FiniteSteps
from ldm_tutorial.training.folder import RunFolder
from ldm_tutorial.training.lock import locked
from ldm_tutorial.training.processes import (
    Processes,
    each_alone,
    is_main_process,
    joined_processes,
    mean_over_processes,
)

__all__ = ["Log", "is_main_process", "learning_rate", "tensorboard", "train"]

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def train(
    module: nn.Module,
    dataset: Dataset,
    config: TrainConfig,
    out: str | Path | None = None,
    on_log: Callable[[Log], Any] | None = None,
    on_start: Callable[[int], Any] | None = None,
    *,
    validate: Dataset | None = None,
    show: Callable[[int], Any] | None = None,
    show_every: int = 500,
) -> list[Log]:
    """Train ``module`` in place; at the end it holds the averaged (EMA) weights.

    Args:
        module: ``forward(*batch, generator=...)`` -> (scalar loss, {name: scalar}).
            Parameters that do not require a gradient stay as they are.
        dataset: map-style; a batch is what the default collation makes of its items,
            and the entries of a tuple become arguments of their own.
        out: folder for ``metrics.jsonl`` and ``checkpoint.pt``. If it holds a
            checkpoint of the same config, training goes on from there.
        on_log: called with every new line of the log.
        on_start: called when all is ready, with the number of steps done already.
        validate: a data set like ``dataset`` that is not trained on. Every
            ``validate_every`` steps, and at the end, the log has a
            ``validation_loss``: that of the averaged weights in evaluation mode, with
            the same noise each time.
        show: called every ``show_every`` steps, and at the end, with the number of
            steps done, while the module has its averaged weights and is in evaluation
            mode. What it draws at random changes nothing in the training.

    Returns:
        The log: dictionaries with step, loss, what the module reports (each the mean
        over all processes), learning_rate and seconds since the first step. A step
        whose loss or gradient is not finite is left out; from then on there is
        ``skipped``, how many were, and a line lacks what was not finite in its step.

    Raises:
        ValueError: if ``out`` holds a checkpoint of another config or model, or a
            damaged one; if another process trains in it; if nothing in the module can
            be trained; if the device does not know the precision; if ten steps in a row
            are not finite; or if weights stop being finite.
    """
    parameters = trainable(module)
    device = parameters[0].device
    original = getattr(module, "_orig_mod", module)  # of a compiled module
    half = autocast(device, config)
    if config.channels_last:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(0.9, 0.99),
        fused=True,
    )
    ema = EMA(original, config.ema_decay)
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
    finite = FiniteSteps(original, scaler.is_enabled())
    state = {"module": original, "ema": ema, "optimizer": optimizer, "scaler": scaler}
    state["finite"] = finite
    settings = asdict(config) | {"images": len(dataset)}  # type: ignore[arg-type]
    with (
        joined_processes(device) as processes,
        forked_random_state(device),
        processes.shared_dropout(module) as masks,
        locked(out, processes.is_main),
        at_the_end_of_a_step(),
    ):
        rank, world = processes.rank, processes.world
        sampler = StepSampler(settings["images"], config, 0, rank, world)
        run = RunFolder(out, settings, state, writes=processes.is_main)
        sampler.start = run.step
        wrapped = processes.wrap(module.train())
        if config.compile:
            wrapped.compile()
        if on_start:
            on_start(run.step)
        generator = processes.generator(device)
        start = time.perf_counter() - run.seconds
        for step, parts in batches(dataset, sampler):
            seed_step(generator, config.seed, step, rank, masks)
            finite.remember()
            logged = []
            for i, part in enumerate(parts):
                part = moved(part, device, config.channels_last)
                with waits(wrapped, i < len(parts) - 1):
                    with half:
                        loss, values = loss_of(wrapped, part, generator)
                    scaler.scale(loss.float() / len(parts)).backward()
                logged.append({"loss": loss.detach()} | values)
            set_learning_rate(optimizer, config, step)
            scaler.unscale_(optimizer)
            norm = clipped_norm(parameters, config.gradient_clip)
            finite.judge(optimizer, [part["loss"] for part in logged], norm)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            ema.update()
            done = step + 1
            last = done == config.steps
            line: Log = {}
            if last or done % config.log_every == 0:
                line = {"step": done} | means(logged)
                line["learning_rate"] = learning_rate(config, step)
            if validate and (last or done % config.validate_every == 0):
                found = validation_loss(module, ema, validate, config, processes, half)
                line = {"step": done} | line | {"validation_loss": found}
            if line or device.type == "cpu":  # a GPU is asked where it is waited for
                skipped = finite.check(done)
            if line:
                line = {k: v for k, v in line.items() if math.isfinite(v)}
                line |= {"skipped": skipped} if skipped else {}
                line["seconds"] = round(time.perf_counter() - start, 3)
                run.log(line)
                if on_log and processes.is_main:
                    on_log(line)
            if show and processes.is_main and (last or done % show_every == 0):
                with forked_random_state(device), ema.in_place():
                    show_in_evaluation(module, show, done)
            # Several processes must agree, which costs time: not at every step.
            stop = (world == 1 or bool(line)) and asked(device, world > 1)
            if last or stop or done % config.checkpoint_every == 0:
                finite.check(done)
                check_finite(done, parameters)
                run.checkpoint(done, time.perf_counter() - start)
            if stop:
                stop_if_asked()
    ema.copy_to_module()
    module.eval()
    return run.lines


def show_in_evaluation(
    module: nn.Module, show: Callable[[int], Any], done: int
) -> None:
    module.eval()
    with torch.no_grad():
        show(done)
    module.train()


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of a module that a training may change.

    Raises:
        ValueError: if there is none.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(
            f"no parameter of this {type(module).__name__} requires a gradient; call "
            "requires_grad_(True) on what shall be trained"
        )
    return parameters


def autocast(device: torch.device, config: TrainConfig) -> torch.autocast:
    """The context in which a step computes in the precision of ``config``: float32 for
    bf16 on a CPU that has no instructions for it.

    Raises:
        ValueError: for fp16 on a CPU.
    """
    if device.type == "cpu" and config.precision == "fp16":
        raise ValueError("precision='fp16' needs a GPU; on a CPU give no or bf16")
    dtype = HALF.get(config.precision)
    if dtype == torch.bfloat16 and not computes_bf16(device):
        dtype = None
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=bool(dtype))


def forked_random_state(device: torch.device) -> Any:
    """Leave the caller's random numbers as they were."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def waits(wrapped: nn.Module, more: bool) -> Any:
    """With several processes: keep the gradients to oneself while parts of the batch
    are still to come."""
    no_sync = getattr(wrapped, "no_sync", nullcontext)
    return no_sync() if more else nullcontext()


def means(logged: list[dict[str, Tensor]]) -> Log:
    """The mean of each logged value over the parts of a batch and all processes; a part
    that lacks one does not count for it."""
    names = list(dict.fromkeys(name for part in logged for name in part))
    columns = [[part[name] for part in logged if name in part] for name in names]
    values = [torch.stack([v.detach().float() for v in c]).mean() for c in columns]
    found = mean_over_processes(torch.stack(values)).tolist()
    return dict(zip(names, found, strict=True))


@torch.no_grad()
def validation_loss(
    module: nn.Module,
    ema: EMA,
    dataset: Dataset,
    config: TrainConfig,
    processes: Processes,
    half: torch.autocast,
) -> float:
    """The mean loss of the averaged weights over a data set, in evaluation mode."""
    device, n = ema.average[0].device, len(dataset)  # type: ignore[arg-type]
    generator = processes.generator(device)
    seed_step(generator, config.seed, -1, processes.rank)
    size = max(1, config.batch_size // config.accumulate)
    whole = [range(i, min(i + size, n)) for i in range(0, n, size)]
    batches = DataLoader(dataset, batch_sampler=[[*processes.share(w)] for w in whole])
    total = torch.zeros((), device=device)
    module.eval()
    with ema.in_place(), half:
        for rows, batch in zip(whole, batches, strict=True):
            batch, share = moved(batch, device), len(processes.share(rows))
            if not isinstance(generator, SharedGenerator):
                loss, _ = loss_of(module, batch, generator)
            elif len(rows) < processes.world:
                with each_alone():
                    loss, _ = loss_of(module, batch, generator.common)
                loss = loss / processes.world
            else:
                generator.count = len(rows)
                loss, _ = loss_of(module, batch, generator)
            total += loss.float() * share
    module.train()
    return float(mean_over_processes(total)) * processes.world / n


def seed_step(
    generator: torch.Generator,
    seed: int,
    step: int,
    rank: int,
    masks: torch.Generator | None = None,
) -> None:
    """Fix the randomness of a step: the noise, and what draws from torch's global
    generator, such as dropout. Python's hash of integers is the same everywhere.

    Of several processes each has numbers of its own, and all have those in common that
    one process alone would draw: the noise, and the ``masks`` of dropout."""
    generator.manual_seed(hash((seed, step, rank)) % 2**63)
    torch.manual_seed(hash((seed, step, rank, 1)) % 2**63)
    if isinstance(generator, SharedGenerator):
        generator.common.manual_seed(hash((seed, step, 0)) % 2**63)
    if masks is not None:
        masks.manual_seed(hash((seed, step, 0, 1)) % 2**63)


def clipped_norm(parameters: list[nn.Parameter], most: float) -> Tensor:
    """The norm of the gradient, which is then at most ``most``; 0 leaves it alone."""
    if most:
        return nn.utils.clip_grad_norm_(parameters, most)
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def check_finite(step: int, parameters: list[nn.Parameter]) -> None:
    """Stop before nan is saved over the last good checkpoint."""
    if not all(bool(p.isfinite().all()) for p in parameters):
        raise ValueError(
            f"a weight is no longer finite at step {step}; lower the learning rate (in "
            "another folder), or look at the data"
        )


def set_learning_rate(
    optimizer: torch.optim.Optimizer, config: TrainConfig, step: int
) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, step)
