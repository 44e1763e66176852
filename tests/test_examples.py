"""The examples in docstrings run as they stand."""

import doctest
import importlib
import pkgutil

import pytest

import remotesam_geo

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(remotesam_geo.__path__, "remotesam_geo.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0
