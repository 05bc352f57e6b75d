"""Do the tests notice? The library with one fault at a time, and the tests of it.

    python -m tests.mutants [MODULE ...] [--sample N] [--seconds S] [--anew]

A mutant that its tests pass has survived: either a test is missing, or the fault
changes nothing that anybody could see. Survivors of the second kind stand in
``mutants.json`` with the reason. The exit status is 1 if another survives, if one that
is listed does not, or if fewer than nine in ten are killed.

What was found is kept in ``_build/mutants``, so that a run that was stopped goes
on; a killed mutant is tried again when its module changed, a survivor also when the
tests did. ``--sample`` takes so many of each module, always the same ones.

A process that has loaded torch forks for each mutant. Tools of the registry were
tried: mutmut leaves decorated functions out, which the samplers and properties are, and
cosmic-ray starts a new Python for each of a thousand mutants.
"""

import argparse
import ast
import gc
import hashlib
import importlib
import importlib.util
import json
import os
import random
import signal
import sys
import time
import traceback
from importlib.machinery import SourceFileLoader
from pathlib import Path

from tests.mutations import Mutant, mutants, mutated

ROOT = Path(__file__).resolve().parent.parent
FOUND = ROOT / "_build" / "mutants"
LISTED = ROOT / "tests" / "mutants.json"
SLOW = ("torch.utils.data", "torch._dynamo", "PIL.Image", "safetensors.torch")
SLOW += ("diffusers.schedulers.scheduling_ddpm", "diffusers.schedulers.scheduling_ddim")
SHARE = 0.9  # of the mutants at least are killed

TESTS = {
    "gaussian": ("test_gaussian", "training/test_losses"),
    "schedule": ("test_schedule", "test_properties", "test_bad_arguments"),
    "diffusion": ("test_diffusion", "test_properties"),
    "guidance": ("test_guidance", "test_properties", "test_bad_arguments"),
    "samplers": ("test_samplers", "test_bad_arguments"),
    "codec": ("test_codec", "test_bad_arguments"),
    "pipeline": ("test_pipeline", "test_plugs", "test_bad_arguments"),
    "training/losses": ("training/test_losses", "test_bad_arguments"),
    "training/loop": (
        "training/test_finite",
        "training/test_training",
        "training/test_processes",
    ),
}


class Changed(SourceFileLoader):
    """Loads a module with a fault; ``tree`` is what it is compiled from."""

    tree = None

    def get_code(self, fullname):
        return compile(self.tree, self.path, "exec")


class Finder:
    """Comes before Python's own finders, for one module."""

    def __init__(self, module: str, tree):
        self.name = "ldm_tutorial." + module.replace("/", ".")
        self.path, self.tree = str(path_of(module)), tree

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        loader = Changed(name, self.path)
        loader.tree = self.tree
        return importlib.util.spec_from_file_location(name, self.path, loader=loader)


def path_of(module: str) -> Path:
    return ROOT / "ldm_tutorial" / f"{module}.py"


def files_of(module: str) -> list[str]:
    return [str(ROOT / "tests" / f"{name}.py") for name in TESTS[module]]


def digest(*files: Path | str) -> str:
    found = hashlib.sha256()
    for file in files:
        found.update(Path(file).read_bytes())
    return found.hexdigest()[:16]


def passes(module: str, tree: ast.Module, limit: float) -> bool:
    """Whether the tests of a module pass in time when ``tree`` takes its place."""
    child = os.fork()
    if not child:
        os.setsid()
        try:
            os._exit(run_tests(module, tree))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(99)
    until = time.monotonic() + limit
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def run_tests(module: str, tree: ast.Module) -> int:
    import pytest

    nowhere = os.open(os.devnull, os.O_WRONLY)
    if not os.environ.get("SHOW"):
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
    sys.meta_path.insert(0, Finder(module, tree))
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # plugins are loaded
    # One file after the other: most faults are met in the first.
    return int(any(pytest.main([*options, file]) for file in files_of(module)))


def warm(module: str, source: str) -> float:
    """Load what is slow to load, and say how many seconds the tests of the unchanged
    module take then; they must pass."""
    for name in SLOW:
        importlib.import_module(name)
    gc.freeze()  # the children share it
    start = time.monotonic()
    if not passes(module, ast.parse(source), 900):
        raise SystemExit(f"{module}: its tests fail before anything is changed")
    return time.monotonic() - start


def chosen(found: list[Mutant], sample: int | None) -> list[Mutant]:
    """So many of the mutants, always the same ones, first among more."""
    order = random.Random(0).sample(found, len(found))
    return order[:sample]


def try_module(module: str, sample: int | None, until: float, known: dict) -> None:
    """Try the mutants of a module that ``known`` does not know yet."""
    source = path_of(module).read_text("utf8")
    marks = {"source": digest(path_of(module)), "tests": digest(*files_of(module))}
    if known.get("source") != marks["source"]:
        known.clear()
    results = known.setdefault("killed", {})
    if known.get("tests") != marks["tests"]:
        known["killed"] = results = {k: v for k, v in results.items() if v}
    known |= marks
    todo = [m for m in chosen(mutants(source), sample) if m.label not in results]
    if not todo or time.monotonic() > until:
        return
    limit = 20 + 5 * warm(module, source)
    for mutant in todo:
        if time.monotonic() > until:
            break
        killed = not passes(module, mutated(source, mutant), limit)
        results[mutant.label] = killed
        write(module, known)
        print("." if killed else f"\nsurvived: {module}: {mutant.label}", flush=True,
              end="" if killed else "\n")  # fmt: skip


def place_of(module: str) -> Path:
    return FOUND / f"{module.replace('/', '-')}.json"


def read(module: str) -> dict:
    """What is known of a module's mutants."""
    path = place_of(module)
    return json.loads(path.read_text("utf8")) if path.is_file() else {}


def write(module: str, known: dict) -> None:
    new = FOUND / f"{os.getpid()}.new"
    new.write_text(json.dumps(known, indent=1), "utf8")
    new.replace(place_of(module))


def report(modules: list[str], listed: dict) -> int:
    """Print what was found; the number of faults of the tests, or of the list."""
    wrong = tried_in_all = killed_in_all = 0
    for module in modules:
        there = {m.label for m in mutants(path_of(module).read_text("utf8"))}
        results = read(module).get("killed", {})
        survived = [label for label, killed in results.items() if not killed]
        reasons = listed.get(module, {})
        killed = len(results) - len(survived)
        print(f"{module}: {killed} of {len(results)} killed, of {len(there)} in all")
        tried_in_all += len(results)
        killed_in_all += killed
        for label in survived:
            if label not in reasons:
                wrong += 1
                print(f"  survived, and no reason is listed: {label}")
        for label in reasons:
            if label not in there or results.get(label):
                wrong += 1
                print(f"  listed as a survivor, and is none: {label}")
    share = killed_in_all / max(1, tried_in_all)
    print(f"{killed_in_all} of {tried_in_all} killed, {share:.1%}")
    return wrong + (share < SHARE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(TESTS))
    parser.add_argument("--sample", type=int, help="so many of each module")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--anew", action="store_true", help="forget what was found")
    given = parser.parse_args()
    if unknown := set(given.modules) - set(TESTS):
        parser.error(f"{', '.join(unknown)}: choose from {', '.join(TESTS)}")
    FOUND.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + given.seconds
    for module in given.modules or TESTS:
        known = {} if given.anew else read(module)
        try_module(module, given.sample, until, known)
    print()
    listed = json.loads(LISTED.read_text("utf8"))
    status = report(given.modules or list(TESTS), listed) > 0
    sys.stdout.flush()
    os._exit(status)  # some of what was loaded for the children complains at an exit
