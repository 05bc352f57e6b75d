"""The architecture, held against the imports.

The idea lies flat at the top of the library; what trains, judges, prices, tells or
translates has a wing. Imports run one way, as the table WINGS says.
"""

import ast
import graphlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ldm_tutorial"

# What each wing may import, beside the top and itself.
WINGS = {
    "landscapes": set(),
    "data": {"landscapes"},
    "training": {"data", "landscapes"},
    "evaluation": {"data", "landscapes", "training"},
    "cost": {"data", "landscapes", "training"},
    "interop": set(),
    "studies": {"data", "landscapes", "training", "evaluation", "cost"},
    "cli": {"data", "landscapes", "training", "evaluation", "cost", "interop"}
    | {"studies"},
    "teach": {"data", "landscapes", "training", "evaluation", "cost", "interop"}
    | {"studies"},
}
# The top imports no wing.
TOP = set()

# Seconds to import, and needed by few functions: imported inside those.
HEAVY = {"torchvision", "lpips", "torchmetrics", "matplotlib", "diffusers"}
HEAVY |= {"torch_fidelity", "denoising_diffusion_pytorch", "smalldiffusion"}
HEAVY |= {"onnx", "onnxruntime", "onnxscript"}

LONGEST = 400  # lines; a longer file hides a second idea

FILES = sorted(PACKAGE.rglob("*.py"))
LIBRARY = [path for path in FILES if path.relative_to(PACKAGE).parts[0] != "teach"]


def name_of(path):
    return str(path.relative_to(PACKAGE))


def place(path):
    """The wing of a file, or None for a file at the top."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else None


def imports(path, everywhere=True):
    """Absolute names of what a file imports; a name taken from a package counts as
    package.name. Without `everywhere`, only imports that run when the file does."""
    tree = ast.parse(path.read_text("utf8"))
    folder = path.parent.relative_to(ROOT).parts
    found = set()
    queue = list(tree.body)
    while queue:
        node = queue.pop()
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if everywhere or not function:
            queue += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = folder[: len(folder) - node.level + 1] if node.level else ()
            base = ".".join([*parts, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def inside(path, everywhere=True):
    """What a file imports of the library, as tuples of names below it."""
    split = [name.split(".") for name in imports(path, everywhere)]
    return {tuple(parts[1:]) for parts in split if parts[0] == "ldm_tutorial"}


def test_the_table_names_exactly_the_wings():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == set(WINGS)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_run_one_way(path):
    wing = place(path)
    used = {parts[0] for parts in inside(path, everywhere=wing is not None)}
    allowed = WINGS[wing] | {wing} if wing else TOP
    wrong = (used & set(WINGS)) - allowed
    assert not wrong, f"{name_of(path)} imports from {wrong}"


def module_of(parts):
    """The file that a tuple of names stands for or lies in."""
    for n in range(len(parts), 0, -1):
        for path in (PACKAGE.joinpath(*parts[:n]).with_suffix(".py"),):
            if path.is_file():
                return path
        if PACKAGE.joinpath(*parts[:n], "__init__.py").is_file():
            return PACKAGE.joinpath(*parts[:n], "__init__.py")
    return None


def test_there_are_no_circles():
    graph = {
        path: {module_of(parts) for parts in inside(path, everywhere=False)} - {None}
        for path in FILES
    }
    list(graphlib.TopologicalSorter(graph).static_order())  # raises on a circle


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_heavy_packages_are_imported_late(path):
    at_import = imports(path, everywhere=False)
    assert not {name.split(".")[0] for name in at_import} & HEAVY


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_file_hides_a_second_idea(path):
    assert len(path.read_text("utf8").splitlines()) <= LONGEST


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_nothing_prints_below_the_command_line(path):
    if place(path) == "cli":
        return
    names = [n for n in ast.walk(ast.parse(path.read_text("utf8")))]
    calls = [n.func for n in names if isinstance(n, ast.Call)]
    assert not [f for f in calls if isinstance(f, ast.Name) and f.id == "print"]


def test_contributing_shows_the_same_wings():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf8")
    rows = re.findall(r"^\| `(\w+)/` \| .+? \| (.*?) \|$", text, flags=re.M)
    assert {wing: set(re.findall(r"`(\w+)/`", used)) for wing, used in rows} == WINGS


IMPORT = """
import json, sys
import torch

sockets = []
sys.addaudithook(lambda event, _: event.startswith("socket.") and sockets.append(event))
import ldm_tutorial
print(json.dumps([sorted({name.split(".")[0] for name in sys.modules}), sockets]))
"""


def test_the_import_is_light():
    """No heavy package, and no socket. How long it takes is not asked: that depends on
    what else the machine does."""
    command = [sys.executable, "-c", IMPORT]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    loaded, sockets = json.loads(done.stdout)
    assert not set(loaded) & {*HEAVY, "accelerate"}
    assert not sockets
