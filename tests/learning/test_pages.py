"""The examples of the pages about data and evaluation, as a reader would paste them."""

import doctest
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["triplets.md", "evaluation.md", "engine.md", "fine-tuning.md"])
def test_the_page(page):
    path = PAGES / page
    test = doctest.DocTestParser().get_doctest(path.read_text(), {}, page, str(path), 0)
    assert len(test.examples) > 10
    assert doctest.DocTestRunner().run(test).failed == 0
