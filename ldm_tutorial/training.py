"""One training loop. It knows no model: it is given a module whose
``forward(*batch, generator)`` returns a loss and a dictionary of numbers to log.

All randomness of step s comes from (seed, s): the batch, the noise, the dropout. So a
run that was stopped anywhere goes on exactly as if nothing had happened.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset, Sampler

from ldm_tutorial.storage import write_json

Log = dict[str, float]
FETCHED = 256  # images that are fetched at a time, unless a batch is larger


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


class Run:
    """The files of one run: its log and its last checkpoint."""

    def __init__(
        self,
        out: str | Path | None,
        settings: dict[str, Any],
        state: dict[str, Any],
        writes: bool = True,
    ):
        self.out = Path(out) if out else None
        self.settings, self.state = settings, state
        self.writes = writes and self.out is not None
        self.step, self.seconds = 0, 0.0
        self.lines: list[Log] = []
        if self.out:
            self.out.mkdir(parents=True, exist_ok=True)
            self._resume()
            self._read_log()
        if self.writes:
            self._rewrite_log()

    def _resume(self) -> None:
        saved = read_checkpoint(self.out)
        if saved is None:
            return
        refuse_other(self.out, saved["config"], self.settings)
        try:
            for name, part in self.state.items():
                part.load_state_dict(saved[name])
        except (RuntimeError, ValueError, KeyError):
            raise ValueError(
                f"{self.out} holds a run of another model; choose another folder, or "
                "the same model to go on with that run"
            ) from None
        self.step, self.seconds = saved["step"], saved["seconds"]

    def _read_log(self) -> None:
        """Keep the lines up to the checkpoint: later ones will be made again."""
        path = self.out / "metrics.jsonl"
        for text in path.read_text().splitlines() if path.exists() else []:
            try:
                line = json.loads(text)
            except json.JSONDecodeError:  # the process died while it wrote this line
                break
            if line["step"] <= self.step:
                self.lines.append(line)

    def _rewrite_log(self) -> None:
        new = self.out / "metrics.jsonl.new"
        new.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
        os.replace(new, self.out / "metrics.jsonl")

    def log(self, line: Log) -> None:
        self.lines.append(line)
        if self.writes:
            with (self.out / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")

    def checkpoint(self, step: int, seconds: float) -> None:
        """Write the state so that a crash leaves the old checkpoint or the new one."""
        if not self.writes:
            return
        state = {name: part.state_dict() for name, part in self.state.items()}
        state |= {"step": step, "seconds": seconds, "config": self.settings}
        new = self.out / "checkpoint.pt.new"
        with new.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.out / "checkpoint.pt")
        write_json(self.out / "train_config.json", self.settings)


def read_checkpoint(out: Path) -> dict[str, Any] | None:
    """The checkpoint in a folder, or None if there is none.

    Raises:
        ValueError: if it cannot be read.
    """
    path = out / "checkpoint.pt"
    if not path.exists():
        return None
    with path.open("rb") as file:
        try:
            saved = torch.load(file, map_location="cpu", weights_only=True)
        except Exception:  # a broken file makes torch fail in many ways
            saved = {}
    if saved.keys() >= {"module", "ema", "optimizer", "step", "seconds", "config"}:
        return saved
    raise ValueError(
        f"{path} is damaged or no checkpoint; put a copy in its place, or move it away "
        "to train from the start"
    )


def refuse_other(
    out: Path, saved: dict[str, Any], asked: dict[str, Any], prefix: str = ""
) -> None:
    """Raise a ValueError that names the first setting in which two runs differ.

    Settings are nested dictionaries; one that is missing on a side is not compared.
    """
    for name in [name for name in asked if name in saved]:
        old, new, name = saved[name], asked[name], prefix + name
        if isinstance(old, dict) and isinstance(new, dict):
            refuse_other(out, old, new, name + ".")
        elif old != new:
            raise ValueError(
                f"{out} holds a run with {name}={old}, and {name}={new} was asked for; "
                "choose another folder, or the same settings to go on with that run"
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


class StepSampler(Sampler):
    """Indices of each step's batch: shuffled epochs, known for any step at once."""

    def __init__(self, n: int, config: TrainConfig, start: int, rank: int, world: int):
        size = config.batch_size
        if size > n:
            raise ValueError(
                f"batch_size={size} is more than the {n} images of the data set; "
                f"give at most {n}, or more images"
            )
        if size % world:
            raise ValueError(
                f"batch_size={size} does not divide among {world} processes; "
                f"give a multiple of {world}"
            )
        self.n, self.config, self.start = n, config, start
        self.rank, self.world = rank, world
        self.size = size // world

    def __iter__(self) -> Iterator[list[int]]:
        return self.batches(self.start)

    def batches(self, start: int) -> Iterator[list[int]]:
        """The same from another step on."""
        size, seed = self.config.batch_size, self.config.seed
        per_epoch = self.n // size
        epoch, order = -1, torch.empty(0)
        for step in range(start, self.config.steps):
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                shuffle = torch.Generator().manual_seed(hash((seed, epoch)) % 2**63)
                order = torch.randperm(self.n, generator=shuffle)
            first = (step % per_epoch) * size
            yield order[first : first + size][self.rank :: self.world].tolist()


class GroupSampler(Sampler):
    """The indices of ``together`` steps at once, from step ``first`` on."""

    def __init__(self, sampler: StepSampler, first: int, together: int):
        self.sampler, self.first, self.together = sampler, first, together

    def __iter__(self) -> Iterator[list[int]]:
        steps = self.sampler.batches(self.first)
        while group := list(islice(steps, self.together)):
            yield list(chain.from_iterable(group))


def batches(dataset: Dataset, sampler: StepSampler) -> Iterator[tuple[int, Any]]:
    """(step, batch) for every step from ``sampler.start`` to the last.

    Batches are fetched several at a time, because an image costs less to draw beside
    many others. The groups are the same wherever a training goes on, and so are the
    images, to the last bit.
    """
    config, size = sampler.config, sampler.size
    if sampler.start == config.steps:
        return
    together = max(1, FETCHED // size)
    first = sampler.start // together * together
    loader = DataLoader(
        dataset,
        batch_sampler=GroupSampler(sampler, first, together),
        num_workers=config.num_workers,
        generator=torch.Generator().manual_seed(config.seed),
    )
    for step, group in zip(count(first, together), loader, strict=False):
        parts = zip(*(b.split(size) for b in group), strict=True)
        yield from ((s, b) for s, b in enumerate(parts, step) if s >= sampler.start)
