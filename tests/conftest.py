"""What every test shares: the environment, and Hypothesis profiles."""

import os

import hypothesis
import pytest

from tests import environment
from tests.campaign import Campaign

environment.settle()  # before a test imports a library that reads it

# The same examples every time; `HYPOTHESIS_PROFILE=search` draws new ones, and more of them.
hypothesis.settings.register_profile("default", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None, max_examples=500, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_configure(config):
    """Hide graphics cards from tests that are not for them."""
    environment.hide_gpus(config.option.markexpr or "")


@pytest.fixture
def campaign(request):
    """A function that begins a campaign: `campaign("HTTP answers", "ten kinds of faults")`."""
    begun = []

    def begin(boundary: str, tried: str) -> Campaign:
        begun.append(Campaign(boundary=boundary, tried=tried))
        return begun[-1]

    yield begin
    for one in begun:
        one.record()


def pytest_collection_modifyitems(items):
    """Mark every test that runs a campaign, so that `-m campaign` selects them."""
    for item in items:
        if "campaign" in getattr(item, "fixturenames", ()):
            item.add_marker("campaign")
