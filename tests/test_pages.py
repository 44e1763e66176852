"""The code of every page runs as it stands, in a folder with the files that it names and without a network.

A block is Python, a Python session, the shell's, or YAML under the name of a file. One that cannot run here stands
below a comment that says why, `<!-- skip: next "why" -->`, and is counted.
"""

import contextlib
import doctest
import importlib
import re
import shlex
import shutil
import tomllib
from pathlib import Path
from unittest import SkipTest

import matplotlib.pyplot as plt
import pytest
from sybil import Document
from sybil.evaluators.doctest import DocTestEvaluator
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.abstract.doctest import DocTestStringParser
from sybil.parsers.markdown import SkipParser
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

from remotesam_geo.cli import main
from tests.pages import stand_in, write_files

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md")))
}
NOT_RUN = {"docs/engine.md": 1, "docs/fine-tuning.md": 1, "docs/search.md": 1, "docs/tiny.md": 1}
NOTHING_FOUND = 3


def shell(example):
    """Run each line of the shell: our programs in this process; of others, that what they name is there."""
    for line in example.parsed.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["remotesam-geo"]:
            assert main(words[1:]) in (0, NOTHING_FOUND), line
        elif words[:2] == ["python", "-m"]:
            run_module(words[2], words[3:])
        elif words[:1] == ["make"]:
            targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
            assert set(words[1:]) <= set(targets), line
        elif words[:2] == ["pip", "install"]:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
            wanted = re.findall(r"\[(.*?)\]", words[-1])
            assert {name for names in wanted for name in names.split(",")} <= set(extras), line
        else:
            assert not words, f"no way to run {line!r}"


def run_module(name, arguments):
    """`python -m name`, in this process."""
    module = importlib.import_module(name)
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{name}.__main__")
    assert not module.main(arguments)


def keep(example):
    """Write a block under the name of a file into that file."""
    Path(example.region.lexemes["name"]).write_text(example.parsed)


def parse_toml(example):
    tomllib.loads(example.parsed)


class Fences:
    """Every fenced block, by its language; one that is of none is a mistake of the page."""

    lexer = FencedCodeBlockLexer(".*")
    session = DocTestStringParser(DocTestEvaluator(doctest.NORMALIZE_WHITESPACE))

    def __call__(self, document):
        for region in self.lexer(document):
            language, source = region.lexemes["language"], region.lexemes["source"]
            region.parsed = source
            if language == "pycon":
                for part in self.session(source, document.path):
                    part.adjust(region, source)
                    yield part
                continue
            if named := re.fullmatch(r'yaml title="(.+)"', language):
                region.lexemes["name"], region.evaluator = named[1], keep
            elif language == "toml":
                region.evaluator = parse_toml
            elif language in ("python", "bash"):
                region.evaluator = {"python": PythonEvaluator(), "bash": shell}[language]
            else:
                raise ValueError(f"{document.path}: {language!r} is a language that nothing runs")
            yield region


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_files(folder)
    return folder


@pytest.mark.filterwarnings("ignore::remotesam_geo.RemoteSAMWarning")  # of tiny's own limits
@pytest.mark.parametrize("page", [name for name, path in PAGES.items() if "```" in path.read_text("utf-8")])
def test_page(page, files, tmp_path, monkeypatch):
    place = shutil.copytree(files, tmp_path / "place")
    monkeypatch.chdir(place)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    stand_in(monkeypatch, files / "catalogue")
    try:
        for example in Document.parse(str(PAGES[page]), Fences(), SkipParser()):
            with contextlib.suppress(SkipTest):
                example.evaluate()
    finally:
        plt.close("all")


def test_what_does_not_run_is_known():
    found = {
        name: len(re.findall(r"^<!-+ *skip", path.read_text("utf-8"), re.MULTILINE)) for name, path in PAGES.items()
    }
    assert {name: count for name, count in found.items() if count} == NOT_RUN


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_to_files(page):
    """Those of docs/ are followed when they are built."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", PAGES[page].read_text("utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []
