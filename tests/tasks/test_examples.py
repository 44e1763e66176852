"""The examples of the docstrings, as a reader would paste them."""

import doctest
import importlib
import pkgutil

import pytest

from remotesam_geo import tasks

MODULES = [module.name for module in pkgutil.iter_modules(tasks.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    module = importlib.import_module(f"remotesam_geo.tasks.{name}")
    tests = [test for test in doctest.DocTestFinder().find(module, globs={}) if test.examples]
    assert tests
    runner = doctest.DocTestRunner()
    for test in tests:
        runner.run(test)
    assert runner.failures == 0


def test_every_public_function_has_an_example():
    functions = [getattr(tasks, name) for name in tasks.__all__]
    bare = [
        function.__name__
        for function in functions
        if getattr(function, "__module__", "").startswith("remotesam_geo")
        and not isinstance(function, type)
        and ">>>" not in function.__doc__
    ]
    assert not bare
