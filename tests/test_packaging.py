"""What surrounds the code agrees: pyproject, lock, conda, wheel, licence, addresses."""

import json
import os
import re
import socket
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import make_notebooks as maker
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))
PROJECT = PYPROJECT["project"]
REPOSITORY = PROJECT["urls"]["Repository"]
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}


def text_of(name):
    return (ROOT / name).read_text("utf8")


def workflows():
    return sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def requirements(*extras):
    """Name -> version specifier of the project's dependencies, and of some extras'."""
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    parsed = map(Requirement, lines)
    return {canonicalize_name(one.name): one.specifier for one in parsed}


# Pinned versions -------------------------------------------------------------------


def test_lock_pins_every_dependency_within_its_range():
    pinned = {}
    for name, version in re.findall(
        r"^([\w.-]+)==([^\s;\\]+)", text_of("requirements.lock"), flags=re.M
    ):
        pinned.setdefault(canonicalize_name(name), []).append(Version(version))
    for name, wanted in requirements("book", "test").items():
        assert name in pinned, f"{name} is missing; run: make lock"
        for version in pinned[name]:
            assert version in wanted, f"{name} {version} is not {wanted}"


def test_lock_holds_hashes_and_no_address():
    text = text_of("requirements.lock")
    assert "://" not in text and " @ " not in text
    assert "index" not in re.sub(r"--no-emit-index-url", "", text)
    entries = re.findall(r"^[\w.-]+==.*(?:\n    .*)+", text, flags=re.M)
    assert len(entries) == len(re.findall(r"^[\w.-]+==", text, flags=re.M))
    assert all("--hash=sha256:" in entry for entry in entries)


def test_makefile_compiles_the_lock_as_its_header_says():
    header = text_of("requirements.lock").splitlines()[1]
    target = text_of("Makefile")
    options = re.findall(r"--[a-z-]+", header)
    assert all(option in target for option in options)


def test_conda_environment_agrees_with_pyproject():
    listed = yaml.safe_load(text_of("environment.yml"))["dependencies"]
    conda = [Requirement(one) for one in listed if isinstance(one, str)]
    (pip,) = [one["pip"] for one in listed if isinstance(one, dict)]
    assert pip[-1] == "-e .[book,test]"
    found = {CONDA_NAMES.get(one.name, one.name): one.specifier for one in conda}
    assert found.pop("python") == SpecifierSet(PROJECT["requires-python"])
    assert found.pop("pip") == SpecifierSet()
    for one in map(Requirement, pip[:-1]):
        found[one.name] = one.specifier
    assert found == requirements()


def test_dependencies_have_floors_and_no_caps():
    """A Colab runtime keeps its own torch, numpy and ipywidgets."""
    for name, specifier in requirements().items():
        assert [one.operator for one in specifier] == [">="], name


# One version, one licence ----------------------------------------------------------


def test_version_is_stated_once_for_all():
    import ldm_tutorial

    citation = yaml.safe_load(text_of("CITATION.cff"))
    assert citation["version"] == PROJECT["version"]
    assert ldm_tutorial.__version__ == PROJECT["version"]


def test_licences():
    assert text_of("LICENSE").startswith("MIT License")
    assert PROJECT["license"] == "MIT"
    assert yaml.safe_load(text_of("CITATION.cff"))["license"] == "MIT"
    assert "Creative Commons Attribution 4.0" in text_of("book/LICENSE")
    assert "Apache License" in text_of("book/_assets/mathjax/LICENSE")


# One address -----------------------------------------------------------------------


def own_links(text):
    """Addresses on GitHub or Colab of a repository that is called as this one."""
    name = re.escape(REPOSITORY.rsplit("/", 1)[1])
    host = r"(?:github\.com|colab\.research\.google\.com/github|githubusercontent\.com)"
    return set(re.findall(rf"{host}/([\w.-]+/{name})\b", text))


def test_repository_address_is_well_formed():
    assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]*[\w-]", REPOSITORY)


def test_config_and_citation_have_the_address():
    config = yaml.safe_load(text_of("_config.yml"))
    assert config["repository"]["url"] == REPOSITORY
    citation = yaml.safe_load(text_of("CITATION.cff"))
    assert citation["repository-code"] == REPOSITORY


def test_readme_has_the_address_and_the_commands():
    readme = text_of("README.md")
    assert own_links(readme), "README.md links to the repository"
    assert "make test" in readme and "make book" in readme


def test_no_file_has_another_address_of_this_repository():
    right = REPOSITORY.removeprefix("https://github.com/")
    files = [
        path
        for pattern in ("*.md", "*.toml", "*.yml", "*.cff", "book/**/*.md", "book/*.*")
        for path in ROOT.glob(pattern)
        if path.is_file()
    ]
    files += [
        *(ROOT / "ldm_tutorial").rglob("*.py"),
        *(ROOT / ".github").rglob("*.yml"),
    ]
    for path in files:
        assert own_links(path.read_text("utf8")) <= {right}, path.relative_to(ROOT)


def test_badges_and_install_cells_have_the_address():
    stored = [maker.notebook_path(name) for name in maker.sources()]
    assert stored
    for path in stored:
        text = path.read_text("utf8")
        assert f"%pip install -q git+{REPOSITORY}" in text, path.name
        assert maker.colab_badge(path.stem) in text, path.name


# Continuous integration ------------------------------------------------------------


def test_ci_runs_the_commands_of_the_readme():
    script = text_of(".ci/run")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    commands = re.findall(r'part "[^"]+" (make \w+)', script)
    assert commands == ["make test", "make book", "make pages", "make colab"]
    assert not re.search(r"part .*\|\|", script)  # each of them is fatal
    workflows = "".join(
        path.read_text("utf8")
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
    )
    assert "make test" in workflows and "make book" in workflows


# The wheel -------------------------------------------------------------------------


def test_wheel_is_told_to_hold_weights_and_results():
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["ldm_tutorial"]
    assert wheel["force-include"] == {
        "data/reference": "ldm_tutorial/_data/reference",
        "data/results": "ldm_tutorial/_data/results",
    }
    for folder in wheel["force-include"]:
        assert (ROOT / folder).is_dir()


LOAD = """
import json
from pathlib import Path

import ldm_tutorial

package = Path(ldm_tutorial.__file__).parent
held = [path.relative_to(package).as_posix() for path in package.rglob("*")]
print(json.dumps({"package": str(package), "held": held}))
"""


@pytest.mark.slow
def test_wheel_works_away_from_the_checkout(tmp_path):
    """Build it, install it into an empty folder, use it from another."""
    built, target, elsewhere = (tmp_path / one for one in ("built", "target", "else"))
    elsewhere.mkdir()
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", built]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = built.glob("*.whl")
    assert wheel.stat().st_size < 40e6
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.startswith(("book/", "tests/"))]

    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", target, wheel], check=True)
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(target)},
        check=True,
        capture_output=True,
        text=True,
    )
    report = json.loads(done.stdout)
    assert Path(report["package"]) == target / "ldm_tutorial"
    for folder in ("reference", "results"):
        for path in (ROOT / "data" / folder).rglob("*"):
            name = path.relative_to(ROOT / "data").as_posix()
            if path.is_file():
                assert f"_data/{name}" in report["held"]


# The test run itself ---------------------------------------------------------------


def test_tests_cannot_reach_the_network():
    with pytest.raises(OSError, match="tests stay off the network"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(OSError, match="tests stay off the network"):
        socket.getaddrinfo("example.org", 80)
    server = socket.create_server(("127.0.0.1", 0))
    with server, socket.create_connection(server.getsockname(), timeout=5):
        pass
