"""The page "From one GPU to a cluster": its arithmetic, and its commands."""

import re
import shlex
from contextlib import suppress
from pathlib import Path

from ldm_tutorial.cli.main import main

PAGE = Path(__file__).resolve().parents[2] / "book" / "cluster.md"
TEXT = PAGE.read_text("utf8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.M | re.S)


def test_the_arithmetic_prints_what_stands_below_it(capsys):
    (code,), (shown,) = blocks("python"), blocks("text")
    exec(compile(code, str(PAGE), "exec"), {"__name__": "cluster"})
    assert capsys.readouterr().out == shown
    assert max(map(len, code.splitlines())) <= 78


def test_the_commands_are_known_to_the_command_line(capsys):
    """Every option behind ``-m ldm_tutorial.cli`` is one that the help names."""
    found = [block.replace("\\\n", " ") for block in blocks("bash")]
    lines = [
        line for block in found for line in block.splitlines() if "torchrun" in line
    ]
    assert len(lines) == 3
    with suppress(SystemExit):
        main(["train-ldm", "--help"])
    known = capsys.readouterr().out
    for line in lines:
        command = shlex.split(line.split("-m ldm_tutorial.cli")[1])
        assert command[0] == "train-ldm"
        for option in (word for word in command if word.startswith("--")):
            assert option in known, option
