"""Trainings and studies that are killed at random moments, and go on.

    python -m tests.kills [TRIES] [--terms N] [--seconds S] [--seed N] [--kinds ...]

Each kind runs once undisturbed. Then it is started in another folder, killed after a
random time (SIGKILL, or SIGTERM, which may leave a last checkpoint and one line),
often twice, and let run to its end. The weights and pictures must be the same to the
byte, the log must have every line once, every record the same figures, and nothing else
may lie in the folder. The exit status is 1 if anything differs.

A process that has loaded torch forks for every run: a start costs no seconds.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

SMALL = "--train.checkpoint_every 7 --train.log_every 3"
KINDS = {
    "vae": f"train-vae --preset smoke --size 32 {SMALL} --samples_every 20",
    "adversarial": f"train-vae --preset smoke --size 32 {SMALL}"
    " --loss.adversarial_weight 0.5 --loss.adversarial_start 5",
    "pixels": f"train-ldm --preset smoke --vae none --size 16 {SMALL}",
    "latents": f"train-ldm --preset smoke --vae vae-f8 {SMALL}",
    "flow": f"train-ldm --preset smoke --vae none --size 16 {SMALL}"
    " --objective.prediction_type flow",
    "scenenet": f"train-scenenet --preset smoke --size 32 {SMALL}",
    "study": "reproduce ddpm_ablation --scale smoke",
    "joint": "reproduce frozen_vs_joint --scale smoke",
}
TIMES = re.compile(
    r"seconds|digest|per_second|_ms$|speed|time"
)  # no two runs have these


def started(arguments: list[str], told: Path) -> int:
    """The process of a command; what it says goes to a file."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    file = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    from ldm_tutorial.cli.start import main

    status = 0
    try:
        main(arguments)
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    os._exit(status)


def ended(child: int, after: float | None = None, number: int = 0) -> int:
    """The exit status of a process, which is sent a signal after some seconds."""
    if after is not None:
        until = time.monotonic() + after
        while time.monotonic() < until:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        os.kill(child, number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def without_times(value):
    """JSON without what no two runs have in common."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if not TIMES.search(k)}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def contents(folder: Path) -> dict[str, object]:
    """What a run has left, by the names of its files."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".jsonl":
            lines = path.read_text().splitlines()
            found[name] = [without_times(json.loads(line)) for line in lines]
        elif path.suffix == ".json":
            found[name] = without_times(json.loads(path.read_text()))
        elif path.is_file():
            found[name] = path.name if path.suffix == ".pt" else path.read_bytes()
    return found


def difference(wanted: dict, found: dict) -> str:
    """How two folders differ, in words; empty if they do not."""
    names = [n for n in {**wanted, **found} if wanted.get(n) != found.get(n)]
    return ", ".join(names)


def interrupted(
    arguments: list[str], told: Path, dice: random.Random, seconds: float, number: int
) -> bool:
    """Run a command and stop it at a random moment; whether it was stopped.

    Raises:
        AssertionError: if it ended otherwise than by the signal, or says more than a
            line of it.
    """
    after = dice.uniform(0, seconds)
    status = ended(started(arguments, told), after, number)
    if status == 0:
        return False
    said = told.read_text(errors="replace").replace("\r", "\n").splitlines()
    errors = [line for line in said if line.startswith("ldm-tutorial: error")]
    if number == signal.SIGTERM:
        assert status in (128 + number, -number), f"status {status}: {said[-1:]}"
        assert len(errors) == 1 or status == -number, said
    else:
        assert status == -number, f"status {status}: {said[-1:]}"
    assert not any(line.startswith("Traceback") for line in said), said
    return True


def run(given: argparse.Namespace) -> int:
    """How many of the tries went wrong."""
    import ldm_tutorial.cli.main
    import ldm_tutorial.studies.reproduce  # noqa: F401

    dice, counts, wrong = random.Random(given.seed), Counter[str](), 0
    until = time.monotonic() + given.seconds
    kills = ["SIGKILL"] * given.tries + ["SIGTERM"] * given.terms
    dice.shuffle(kills)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        wholes = {}
        for i, which in enumerate(kills):
            if time.monotonic() > until:
                break
            kind = given.kinds[i % len(given.kinds)]
            told, out = place / "told", place / f"{kind}-{i}"
            command = [*KINDS[kind].split(), "--out"]
            if kind not in wholes:
                start = time.monotonic()
                status = ended(started([*command, str(place / kind)], told))
                assert status == 0, told.read_text()
                wholes[kind] = contents(place / kind), time.monotonic() - start
                shutil.rmtree(place / kind)
            whole, seconds = wholes[kind]
            arguments = [*command, str(out)]
            try:
                number = getattr(signal, which)
                while not interrupted(arguments, told, dice, seconds, number):
                    shutil.rmtree(out)
                counts[which] += 1
                if dice.random() < 0.5:
                    again = interrupted(arguments, told, dice, seconds, number)
                    counts[which] += again
                status = ended(started(arguments, told))
                assert status == 0, told.read_text()
                assert not (found := difference(whole, contents(out))), found
            except AssertionError as error:
                wrong += 1
                print(f"{kind}, try {i} of seed {given.seed}, {which}: {error}")
            shutil.rmtree(out, ignore_errors=True)
    counted = ", ".join(f"{n} {which}" for which, n in counts.items())
    print(f"{counted} over {', '.join(wholes)}: {wrong} wrong")
    return wrong


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tries", nargs="?", type=int, default=100, help="SIGKILLs")
    parser.add_argument("--terms", type=int, default=20, help="SIGTERMs")
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    sys.exit(run(parser.parse_args()) > 0)
