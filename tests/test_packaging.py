"""pyproject.toml is the one list of dependencies; environment.yml, Makefile and CI follow it."""

import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

import filtersub

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}  # pip name -> conda-forge name


def requirements():
    extras = PROJECT["optional-dependencies"].values()
    listed = [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]
    return {CONDA_NAMES.get(name, name) + bound for name, bound in (split(line) for line in listed)}


def split(line):
    name, bound = re.fullmatch(r"([A-Za-z0-9_.-]+?)((?:>=|==).*)", line).groups()
    return name, bound


def test_environment_mirrors_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge"]
    plain = [line for line in environment["dependencies"] if isinstance(line, str)]
    (through_pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert f"python{PROJECT['requires-python']}" in plain
    assert "pip" in plain
    listed = {*plain, *through_pip} - {"pip", f"python{PROJECT['requires-python']}", "--editable ."}
    assert listed == requirements()


def test_versions_agree():
    assert filtersub.__version__ == PROJECT["version"] == version("filtersub")


def test_ci_runs_exactly_the_test_command():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert lines[-1] == "exec make test"


def test_public_names_exist():
    assert filtersub.__all__ == sorted(filtersub.__all__)
    for name in filtersub.__all__:
        assert getattr(filtersub, name).__doc__, name


LAZY = (
    *("ablation", "decomposition", "experiment", "generation", "methods", "metrics", "parameters", "report"),
    *("studies", "training"),
)


@pytest.mark.parametrize("room", LAZY)
def test_public_names_of_a_room_are_loaded_when_first_used(room):
    module = importlib.import_module(f"filtersub.{room}")
    assert module.__all__ == sorted(module.__all__)
    modules = {each.name for each in pkgutil.iter_modules(module.__path__)}
    assert set(module.__all__) < set(dir(module))
    assert not modules & set(module.__all__)  # a module of the name would take its place once it is imported
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match=f"module 'filtersub.{room}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018


def test_the_version_of_the_command_line_is_the_packages():
    said = subprocess.run([sys.executable, "-m", "filtersub", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout == f"filtersub {version('filtersub')}\n"


def test_the_wheel_holds_every_description_of_a_data_set():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    described = {f"data/{path.name}" for path in (ROOT / "data").glob("*.yaml")}
    held = {name for name in wheel["force-include"] if name.startswith("data/")}
    assert held == described
