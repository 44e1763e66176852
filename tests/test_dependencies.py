"""pyproject.toml declares what the package imports, and each lower bound is the version that `make lowest` installs."""

import ast
import functools
import importlib.metadata
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
FOR_USERS = [name for name in EXTRAS if name not in {"docs", "dev"}]

USED_INDIRECTLY = {
    "odc-stac": "its loader is the one that scenes are meant to use",
    "tensorboard": "torch.utils.tensorboard imports it",
}
PART_OF = {"griffe": "mkdocstrings-python", "referencing": "jsonschema"}
"""Imported in tests; distributions that bring them along."""
ONE_TORCH = "torch"
"""Tested in one version only: other releases bring gigabytes of CUDA libraries."""


def requirements(*groups: list[str]) -> dict[str, Requirement]:
    """Requirements by canonical name, without extras of this package itself."""
    found = [Requirement(line) for group in groups for line in group]
    return {
        name: requirement for requirement in found if (name := canonicalize_name(requirement.name)) != "remotesam-geo"
    }


def constraints(name: str) -> dict[str, Version]:
    lines = (ROOT / name).read_text("utf-8").split()
    return {canonicalize_name(package): Version(version) for package, version in (line.split("==") for line in lines)}


OURS = {"remotesam_geo", "tests", "benchmarks", "test_train"}


def imported(folder: str) -> Iterator[tuple[str, str]]:
    """Each dotted name that files in a folder import from elsewhere, and the file that does."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in OURS:
                    yield name, str(path.relative_to(ROOT))


def distributions(name: str) -> set[str]:
    """What may provide an imported name: a distribution called like it, or any that installs it."""
    first, second, *_ = [*name.split("."), ""]
    if first == "odc":  # a namespace that several distributions share
        return {f"odc-{second}"}
    owners = [first, PART_OF.get(first, first), *installed().get(first, [])]
    return {canonicalize_name(owner) for owner in owners}


installed = functools.cache(importlib.metadata.packages_distributions)


def undeclared(folder: str, declared: set[str]) -> list[str]:
    return [f"{file} imports {name}" for name, file in imported(folder) if not distributions(name) & declared]


def test_every_import_is_declared_and_every_dependency_is_imported():
    declared = {*requirements(PROJECT["dependencies"], *(EXTRAS[name] for name in FOR_USERS))}
    assert not undeclared("remotesam_geo", declared)
    used = {owner for name, _ in imported("remotesam_geo") for owner in distributions(name)}
    assert not declared - used - {*USED_INDIRECTLY}, "declared, but nothing imports them"


@pytest.mark.parametrize("folder", ["tests", "examples"])
def test_what_tests_and_examples_import_is_declared_too(folder):
    assert not undeclared(folder, {*requirements(PROJECT["dependencies"], *EXTRAS.values())})


def test_the_lowest_versions_are_those_that_are_tested():
    lowest = constraints("constraints-lowest.txt")
    for name, requirement in requirements(PROJECT["dependencies"], *EXTRAS.values()).items():
        bounds = [each for each in requirement.specifier if each.operator == ">="]
        assert len(bounds) == len(requirement.specifier) == 1, f"{requirement}: give one bound, >="
        if name == ONE_TORCH:
            assert lowest[name] == constraints("constraints.txt")[name]
        else:
            assert lowest[name] == Version(bounds[0].version), requirement


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-lowest.txt"])
def test_what_is_pinned_is_allowed(file):
    pinned = constraints(file)
    for name, requirement in requirements(PROJECT["dependencies"], *EXTRAS.values()).items():
        assert pinned[name] in requirement.specifier, requirement
