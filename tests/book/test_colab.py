"""Every chapter as Colab opens it: one notebook, alone in an empty folder.

The rehearsal makes an environment that holds what a Colab runtime has and this project
needs: torch and the other declared dependencies, a kernel, and, from `make colab`, the
IPython and ipywidgets of Colab. The package itself is not in it. The notebook's own
first cell has to bring it, from a repository that stands in for the one on GitHub; no
index is asked, and torch must stay as it was. Without `make colab` it is rehearsed with
the IPython and ipywidgets of the environment that runs the tests.

    make colab                            every chapter, from its first cell to its last
    make colab ARGS="-k starts"           only up to the first cell after the set-up
"""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import make_notebooks as maker
import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Colab's own, in the folder that `make colab` fills.
PINS = maker.ROOT / "_build" / "colab"
# What runs a notebook, what pip builds the package with, and what pip needs beside it.
TOOLS = ("ipykernel", "hatchling", "setuptools")
INSTALL_SECONDS = 120  # a few, on a machine that has nothing else to do

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("git") is None, reason="needs git"),
]


@dataclass(frozen=True)
class Colab:
    """An environment without the package, and how to start things in it."""

    python: Path
    site: Path
    variables: dict[str, str]

    def installed(self):
        """The distributions that pip has put into the environment itself."""
        return {path.name.split("-")[0] for path in self.site.glob("*.dist-info")}

    def ask(self, code):
        done = subprocess.run(
            [self.python, "-c", f"import json; {code}"],
            env=self.variables,
            cwd=self.variables["HOME"],
            check=True,
            capture_output=True,
            text=True,
        )
        return json.loads(done.stdout)


def closure(lines):
    """The installed distributions that these requirements need."""
    found, done, waiting = {}, set(), [Requirement(line) for line in lines]
    while waiting:
        wanted = waiting.pop()
        key = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if key in done:
            continue
        done.add(key)
        try:
            found[key[0]] = metadata.distribution(wanted.name)
        except metadata.PackageNotFoundError:  # the marker of some other platform
            continue
        for one in map(Requirement, found[key[0]].requires or ()):
            extras = [{"extra": extra} for extra in ("", *wanted.extras)]
            if one.marker is None or any(one.marker.evaluate(e) for e in extras):
                waiting.append(one)
    return found


def link_packages(folder):
    """Fill a folder with links to the declared dependencies of the package, and to
    nothing else: what a chapter imports beyond them is missing here as it is there."""
    folder.mkdir()
    declared = metadata.requires("ldm-tutorial")
    plain = [line for line in declared if "extra ==" not in line]
    for distribution in closure([*plain, *TOOLS]).values():
        for top in {file.parts[0] for file in distribution.files or ()}:
            origin = Path(distribution.locate_file(top))
            link = folder / top
            if top in ("..", "__pycache__") or link.exists() or not origin.exists():
                continue
            link.symlink_to(origin)


def repository_of_the_working_tree(folder):
    """A repository with one commit of the files that git does not ignore, at the place
    where `url.insteadOf` will look for the address on GitHub."""
    name = maker.repository().rsplit("/", 1)[1]
    tree, target = folder / "tree", folder / "served" / f"{name}.git"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=maker.ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for file in filter(None, listed.stdout.split("\0")):
        if (maker.ROOT / file).is_file():
            (tree / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(maker.ROOT / file, tree / file)
    who = ["-c", "user.name=rehearsal", "-c", "user.email=rehearsal@localhost"]
    for command in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "--all"],
        [*who, "commit", "--quiet", "--no-gpg-sign", "--message", "working tree"],
        ["clone", "--quiet", "--bare", ".", str(target)],
    ):
        subprocess.run(["git", *command], cwd=tree, check=True)
    return target.parent


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What all chapters may share: the linked packages and the repository."""
    folder = tmp_path_factory.mktemp("colab")
    link_packages(folder / "packages")
    return folder / "packages", repository_of_the_working_tree(folder)


@pytest.fixture
def colab(shared, tmp_path, monkeypatch):
    """A fresh environment, a home and a folder for one notebook."""
    packages, served = shared
    home, env = tmp_path / "home", tmp_path / "env"
    home.mkdir()
    subprocess.run([sys.executable, "-m", "venv", env], check=True)
    (site,) = env.glob("lib/python*/site-packages")
    drop = ["-m", "pip", "uninstall", "--quiet", "--yes", "setuptools"]
    subprocess.run([env / "bin" / "python", *drop], check=True)  # torch has a newer one
    first = [str(PINS)] if PINS.is_dir() else []
    (site / "colab.pth").write_text("\n".join([*first, str(packages)]) + "\n")
    owner = maker.repository().rsplit("/", 1)[0]
    kept = ("LANG", "LC_ALL", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY")
    variables = {name: os.environ[name] for name in kept if name in os.environ}
    variables |= {
        "HOME": str(home),
        "PATH": f"{env / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{served.as_uri()}/.insteadOf",
        "GIT_CONFIG_VALUE_0": f"{owner}/",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip's way of saying yes
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "JUPYTER_PATH": str(tmp_path / "jupyter"),
    }
    spec = {
        "argv": [str(env / "bin" / "python"), "-m", "ipykernel_launcher"],
        "display_name": "Colab",
        "language": "python",
        "env": variables,
    }
    spec["argv"] += ["-f", "{connection_file}", "--log-level=40"]
    kernels = tmp_path / "jupyter" / "kernels" / "colab"
    kernels.mkdir(parents=True)
    (kernels / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    for name in list(os.environ):  # the kernel gets the environment of this process
        if name.startswith(("LDM_TUTORIAL_", "PYTHON")):
            monkeypatch.delenv(name)
    return Colab(env / "bin" / "python", site, variables)


def alone(name, folder):
    """The chapter as downloaded: its cells, no outputs, in an empty folder."""
    folder.mkdir()
    notebook = maker.generate(maker.sources()[name])
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return nbformat.read(path, as_version=4)


def run(notebook, folder, seconds_of_a_cell=1200):
    """Execute it; return the seconds of every code cell."""
    started, took = {}, {}

    def start(cell, cell_index):
        started[cell_index] = time.perf_counter()

    def end(cell, cell_index, execute_reply=None):
        took[cell_index] = time.perf_counter() - started[cell_index]

    client = NotebookClient(
        notebook,
        kernel_name="colab",
        timeout=seconds_of_a_cell,
        startup_timeout=600,
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=start,
        on_cell_executed=end,
    )
    try:
        client.execute()
    except CellExecutionError as error:
        said = f"{installer(notebook)}\n{maker.describe(notebook, error)}"
        pytest.fail(said, pytrace=False)
    return took


def installer(notebook):
    """What the first cell of code has said."""
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    return "".join(one.get("text", "") for one in first.outputs)


def judge(colab, notebook, took):
    """The first cell brought the package, in seconds, and nothing else."""
    first = next(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    assert notebook.cells[first].source == maker.install_code()
    said = installer(notebook)
    assert "ERROR" not in said, said
    assert took[first] < INSTALL_SECONDS, f"installing took {took[first]:.0f} s"
    assert colab.installed() == {"pip", "ldm_tutorial"}
    code = "import torch, ldm_tutorial as p; print(json.dumps([torch.__file__, "
    torch_file, package_file = colab.ask(code + "p.__file__]))")
    assert not Path(torch_file).is_relative_to(colab.site)
    assert Path(package_file).is_relative_to(colab.site)


def report(colab, name, took):
    """Print what was rehearsed, on which versions."""
    names = ["IPython", "ipywidgets", "torch"]
    code = f"from importlib.metadata import version as v; n = {names}; "
    found = colab.ask(code + "print(json.dumps([v(one) for one in n]))")
    versions = dict(zip(names, found, strict=True))
    if PINS.is_dir():
        assert versions["IPython"].startswith("7.")
        assert versions["ipywidgets"].startswith("7.7.")
    known = ", ".join(" ".join(pair) for pair in versions.items())
    install, total = took[min(took)], sum(took.values())
    print(f"\n{name}: installed in {install:.1f} s, ran in {total:.0f} s; {known}")


@pytest.mark.parametrize("name", maker.sources())
def test_a_chapter_starts(name, colab, tmp_path):
    """Install, import, set up: where most of what can go wrong with a machine does."""
    folder = tmp_path / "content"
    notebook = alone(name, folder)
    last = next(
        i
        for i, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and "= setup()" in cell.source
    )
    del notebook.cells[last + 1 :]
    took = run(notebook, folder)
    judge(colab, notebook, took)
    report(colab, name, took)


@pytest.mark.parametrize("name", maker.sources())
def test_a_chapter_runs_to_its_end(name, colab, tmp_path):
    """Every cell, with the exercises blank."""
    folder = tmp_path / "content"
    notebook = alone(name, folder)
    took = run(notebook, folder)
    judge(colab, notebook, took)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code if cell.source.strip())
    report(colab, name, took)
