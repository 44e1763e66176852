"""The examples of docstrings run as they stand."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "name", ["areas", "items", "loading", "opening", "recipe", "rendering", "stretches"]
)
def test_every_docstring_example_runs(name):
    module = importlib.import_module(f"remotesam_geo.scenes.{name}")
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
