"""The commands ``benchmark`` and ``reproduce``."""

import json
from typing import Any

from jsonargparse import Namespace

from ldm_tutorial import machine
from ldm_tutorial.cli.checks import check_grid, check_number, check_writable
from ldm_tutorial.cost.against import time_libraries
from ldm_tutorial.cost.benchmark import benchmark as run_benchmark
from ldm_tutorial.cost.peers import check_installed, versions
from ldm_tutorial.cost.race import race
from ldm_tutorial.cost.shown import figure, tables
from ldm_tutorial.data import DataConfig
from ldm_tutorial.records import write_record
from ldm_tutorial.studies.reproduce import reproduce as reproduce_study


def benchmark(options: Namespace) -> None:
    check_number(options.n, 1, "images")
    if options.repeats < 1:
        raise ValueError(f"--repeats {options.repeats}: give 1 or more")
    DataConfig(size=options.size).load("test")  # complains about a wrong size
    check_grid(options.n, options.size)
    spaces = options.spaces.split(",") if options.spaces != "none" else []
    peers = options.against.split(",") if options.against else []
    check_installed(peers)
    if not 0 <= options.race < float("inf"):
        raise ValueError(f"--race {options.race}: give a number of seconds")
    if options.race and "diffusers" not in peers:
        raise ValueError("--race needs --against diffusers")
    if not spaces and not peers:
        raise ValueError("--spaces none leaves nothing to measure; give --against")
    if options.out:
        check_writable(options.out)
    report: dict[str, Any] = {"command": options.command_line}
    report |= machine.environment()
    report |= {"size": options.size, "batch_size": options.n}
    report |= {"repeats": options.repeats}
    if spaces:
        sizes = (options.size, options.n, options.repeats)
        report["spaces"] = run_benchmark(spaces, *sizes)
    if peers:
        report |= {"versions": versions(peers)}
        report["against"] = time_libraries(peers, options.repeats)
    if options.race:
        report["race"] = race(options.race)
    if options.out:
        write_record(options.out / "benchmark.json", report)
        figure(report, options.out / "benchmark.png")
    shown = [json.dumps(report, indent=2)] if options.json else tables(report)
    print("\n".join(shown))


def reproduce(options: Namespace) -> None:
    for folder in (options.out, options.results):
        if folder:
            check_writable(folder)

    def on_arm(arm: str, row: dict[str, Any]) -> None:
        print(f"{options.name}: {arm} is done", flush=True)

    path = reproduce_study(
        options.name,
        options.scale,
        options.out,
        options.results,
        options.arms,
        on_arm,
        options.data,
    )
    print(f"wrote {path}" if path else "other arms are not done yet: no record written")
