"""What a task says of itself: its minutes, what it trains, and hints that only hint."""

import ast
import inspect
import math
import re
import textwrap

import pytest
import torch
import torch.nn.functional as F
from exercise_answers import RIGHT

from ldm_tutorial.teach import effort, exercises
from ldm_tutorial.teach.exercises import EXERCISES
from ldm_tutorial.teach.kinds import same
from ldm_tutorial.teach.task import values

NAMES = list(EXERCISES)


def test_minutes_are_counted():
    assert effort.words("Return $x^2 + 1$ of `f(x, y)`, twice.") == 5
    assert effort.most_lines("9-11 lines") == 11
    assert effort.minutes("word " * 150, "4-6 lines", 3) == 14  # 1.5 + 3 (1 + 3)
    assert effort.minutes("a few words", "1 line", 1) == 2


@pytest.mark.parametrize("name", NAMES)
def test_an_exercise_says_what_it_trains_and_how_long_it_takes(name):
    """In one line; and an answer of so many lines there is."""
    exercise = EXERCISES[name]
    _, line, _ = exercises.prompt_markdown(name).split("\n\n", 2)
    assert line.startswith(f"*What it trains: {exercise.trains}. ") and exercise.trains
    assert f"Difficulty {exercise.difficulty} of 3, {exercise.minutes} minutes" in line
    assert f"{effort.words(exercise.prompt)} words" in line and "\n" not in line
    assert exercise.lines in exercises.starter(name)
    fewest = min(map(statements, RIGHT[name]))
    assert fewest <= effort.most_lines(exercise.lines) + 1


def statements(function) -> int:
    """How many statements a function is made of; a lambda is one."""
    if isinstance(function, torch.nn.Module):
        function = function.forward
    source = textwrap.dedent(inspect.getsource(function))
    try:
        defined = next(
            node
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef)
        )
    except (SyntaxError, StopIteration):
        return 1
    return sum(isinstance(node, ast.stmt) for node in ast.walk(defined)) - 1


@pytest.mark.parametrize("name", NAMES)
def test_no_hint_is_the_answer(name):
    """No piece of one, run with the arguments, gives what is asked for."""
    exercise = EXERCISES[name]
    case = exercise.cases[-1]
    for text in exercise.hints:
        assert "return " not in text
        for piece in re.split(r"[:;,?] |\. |\.$| is | are | gives ", text):
            try:
                code = compile(piece.strip(), "hint", "eval")
            except SyntaxError:
                continue
            given = dict(zip(exercise.arguments, case.make(), strict=False))
            try:
                found = eval(code, {"torch": torch, "F": F, "math": math} | given)
            except Exception:
                continue
            wanted = exercise.reference(*case.make())
            assert not same(values(found), values(wanted), case), piece
