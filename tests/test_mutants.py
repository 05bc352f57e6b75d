"""The faults that ``make mutants`` makes, and its list of those nobody could see."""

import ast
import json
from pathlib import Path

import pytest

from tests.mutants import LISTED, TESTS, files_of, path_of
from tests.mutations import mutants, mutated

SOURCE = '''
import torch

@torch.no_grad()
def f(x, most=2.0):
    """Text."""
    check(x)
    if x is None or most < 1:
        raise ValueError("most is " + str(most))
    return torch.exp(x).clamp(max=most) - 1
'''
WANTED = {
    "f: without @torch.no_grad()",
    "f: 2.0 -> 4.0",
    "f: check(x) is not called",
    "f: x is None or most < 1 -> x is None and most < 1",
    "f: x is None -> x is not None",
    "f: most < 1 -> most <= 1",
    "f: most < 1 -> most >= 1",
    "f: 1 -> 2",
    "f: torch.exp(x).clamp(max=most) - 1 -> torch.exp(x).clamp(max=most) + 1",
    "f: torch.exp(x).clamp(...) without max=",
    "f: torch.exp(x).clamp(...) -> torch.exp(x)",
    "f: torch.exp(...) -> x",
    "f: 1 -> 2 #2",
}


def test_a_function_has_these_mutants_and_each_differs():
    found = mutants(SOURCE)
    assert {mutant.label for mutant in found} == WANTED and len(found) == len(WANTED)
    texts = {ast.unparse(mutated(SOURCE, mutant)) for mutant in found}
    assert len(texts) == len(WANTED) and ast.unparse(ast.parse(SOURCE)) not in texts
    for text in texts:
        compile(text, "mutant", "exec")


@pytest.mark.parametrize("module", TESTS)
def test_every_module_has_its_tests_and_listed_survivors_are_mutants(module):
    found = [mutant.label for mutant in mutants(path_of(module).read_text("utf8"))]
    assert len(found) == len(set(found)) > 10
    for file in files_of(module):
        assert "def test_" in Path(file).read_text("utf8")
    listed = json.loads(LISTED.read_text("utf8")).get(module, {})
    assert set(listed) <= set(found) and all(listed.values())
