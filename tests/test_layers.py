"""The architecture, held against the imports.

A module may import from layers below its own, and from its own layer without a circle.
Nothing in the library imports `teach/`, which only the book uses.
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

LAYERS = (
    ("gaussian", "schedule", "layers", "landscapes", "storage"),
    (
        "data",
        "vae",
        "unet",
        "losses",
        "scenenet",
        "discriminator",
        "perceptual",
        "diffusion",
        "samplers",
    ),
    (
        "codec",
        "pipeline",
        "training",
        "metrics",
        "distances",
        "rerender",
        "latents",
        "efficiency",
    ),
    (
        "recipes",
        "factor_report",
        "evaluation",
        "spaces",
        "peers",
        "against",
        "race",
        "benchmark",
        "study",
        "attribution",
        "cost_studies",
        "speed",
        "studies",
        "cli",
    ),
)
LAYER = {module: layer for layer, modules in enumerate(LAYERS) for module in modules}

# Seconds to import, and needed by few functions: imported inside those.
HEAVY = {"torchvision", "lpips", "torchmetrics", "matplotlib", "diffusers"}
HEAVY |= {"torch_fidelity", "denoising_diffusion_pytorch", "smalldiffusion"}

MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


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


def neighbours(path):
    """The modules of the library that a file imports, by their short names."""
    inside = [name.split(".") for name in imports(path)]
    return {parts[1] for parts in inside if parts[0] == "ldm_tutorial" and parts[1:]}


def test_the_table_names_exactly_the_modules():
    assert sorted(LAYER) == MODULES, "keep LAYERS and CONTRIBUTING.md up to date"


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards(module):
    used = neighbours(PACKAGE / f"{module}.py")
    assert "teach" not in used, f"{module} imports teach/, which is the book's"
    unknown = used - set(LAYER)
    assert not unknown, f"{module} imports {unknown}: name modules, not the package"
    above = {name for name in used if LAYER[name] > LAYER[module]}
    assert not above, f"{module} (layer {LAYER[module]}) imports from above: {above}"


def test_there_are_no_circles():
    graph = {module: neighbours(PACKAGE / f"{module}.py") for module in MODULES}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises on a circle
    assert set(order) >= set(MODULES)


def test_the_package_itself_does_not_import_teach():
    assert "teach" not in neighbours(PACKAGE / "__init__.py")


@pytest.mark.parametrize("module", ["__init__", *MODULES])
def test_heavy_packages_are_imported_late(module):
    at_import = imports(PACKAGE / f"{module}.py", everywhere=False)
    assert not {name.split(".")[0] for name in at_import} & HEAVY


def test_contributing_shows_the_same_table():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf8")
    rows = re.findall(r"^\| (\d) \| (.+?) \|", text, flags=re.M)
    shown = {int(layer): set(re.findall(r"`(\w+)\.py`", row)) for layer, row in rows}
    assert shown == {layer: set(modules) for layer, modules in enumerate(LAYERS)}


IMPORT = """
import json, sys, time
import torch

sockets = []
sys.addaudithook(lambda event, _: event.startswith("socket.") and sockets.append(event))
start = time.perf_counter()
import ldm_tutorial
seconds = time.perf_counter() - start
loaded = sorted({name.split(".")[0] for name in sys.modules})
print(json.dumps({"seconds": seconds, "loaded": loaded, "sockets": sockets}))
"""


def test_the_import_is_light():
    """Under 0.3 s after torch, no heavy package, no socket; the best of three runs."""
    for _ in range(3):
        command = [sys.executable, "-c", IMPORT]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert not set(report["loaded"]) & {*HEAVY, "accelerate"}
        assert not report["sockets"]
        if report["seconds"] < 0.3:
            return
    raise AssertionError(f"import ldm_tutorial took {report['seconds']:.2f} s")
