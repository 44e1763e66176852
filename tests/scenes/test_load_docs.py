"""The examples of docstrings run as they stand."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "name",
    [
        "geo.areas",
        "stac.items",
        *(f"scenes.{name}" for name in ("loading", "opening", "recipe", "rendering", "stretch")),
    ],
)
def test_every_docstring_example_runs(name):
    module = importlib.import_module(f"remotesam_geo.{name}")
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
