"""The reference names every public thing of every public room, and each has words of its own."""

import importlib
import re
from pathlib import Path

import griffe
import pytest

import remotesam_geo

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
ROOMS = (
    "scenes", "words", "tasks", "model", "outputs", "plotting", "errors", "learning.synthetic",
    "learning.datasets",
    "learning.labelling", "learning.teachers", "learning.training", "learning.evaluation",
    "learning.evaluation.metrics",
)  # fmt: skip
PACKAGE = "remotesam_geo"


@pytest.fixture(scope="module")
def source():
    """The package as its source says, not as it runs."""
    return griffe.load(PACKAGE, search_paths=[ROOT])


def shown(room):
    """What the page of a room shows."""
    page = (REFERENCE / f"{room.rpartition('.')[2] or 'index'}.md").read_text("utf-8")
    return re.findall(r"^::: remotesam_geo\.(\S+)", page, re.MULTILINE)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_shown_whole(room):
    public = set(importlib.import_module(f"{PACKAGE}.{room}").__all__)
    assert shown(room) == [room] or {path.rpartition(".")[2] for path in shown(room)} == public


def test_every_name_of_the_package_is_linked():
    page = (REFERENCE / "index.md").read_text("utf-8")
    linked = set(re.findall(r"^\| \[`(\w+)`\]\[", page, re.MULTILINE))
    assert linked == set(remotesam_geo.__all__) - {"__version__"}


def test_every_page_is_in_the_contents():
    """mkdocs builds what is left out, but nobody finds it."""
    contents = (ROOT / "mkdocs.yml").read_text("utf-8")
    pages = {str(path.relative_to(ROOT / "docs")) for path in ROOT.glob("docs/**/*.md")}
    assert set(re.findall(r"(\S+\.md)$", contents, re.MULTILINE)) == pages


def named(source, room, name):
    """A public thing, through the imports that lead to it."""
    try:
        thing = source[f"{room}.{name}"]
    except KeyError:  # a lazy room imports nothing
        home = getattr(importlib.import_module(f"{PACKAGE}.{room}"), name)
        thing = source[f"{home.__module__}.{home.__qualname__}".removeprefix(f"{PACKAGE}.")]
    return thing.final_target if thing.is_alias else thing


def without_words(thing, path):
    """What of a public thing nothing is said about: itself, its methods, its fields."""
    if not thing.has_docstring:
        yield path
    if not thing.is_class:
        return
    sections = thing.docstring.parse("google", warnings=False) if thing.has_docstring else []
    said = {
        item.name
        for section in sections
        if section.kind.value in ("attributes", "parameters")
        for item in section.value
    }
    for name, member in thing.members.items():
        field = member.is_attribute and "dataclass" in thing.labels
        if name.startswith("_") or member.is_alias or not (member.is_function or field):
            continue
        if not member.has_docstring and name not in said:
            yield f"{path}.{name}"


@pytest.mark.parametrize("room", [*ROOMS, "job", "remotesam"])
def test_every_public_thing_has_words(source, room):
    names = importlib.import_module(f"{PACKAGE}.{room}").__all__
    bare = [path for name in names for path in without_words(named(source, room, name), f"{room}.{name}")]
    assert not bare
