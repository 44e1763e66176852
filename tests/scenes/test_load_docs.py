"""The examples of docs/scenes.md and of docstrings run as they stand."""

import doctest
import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import remotesam_geo.scenes.searching

from .places import grid, item, noise, write

PAGE = Path(__file__).parents[2] / "docs" / "scenes.md"


@pytest.mark.filterwarnings("ignore::remotesam_geo.RemoteSAMWarning")
def test_every_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    utm = "EPSG:32616"
    write("a.tif", noise(1, (4, 40, 40)), grid(424_000, 4_645_000, 0.6), utm)

    def found(catalog, collections, *, bbox, datetime):
        return [item("a", tmp_path / "a.tif")]

    monkeypatch.setattr(remotesam_geo.scenes.searching, "search", found)
    write("orthophoto.tif", noise(2, (3, 20, 20)), grid(500_000, 5_000_000, 1), utm)
    write("bgrn.tif", noise(3, (4, 600, 600), dtype="uint16"), grid(500_000, 5_000_000, 1), utm)
    Image.fromarray(noise(4, (20, 20, 3))).save("scan.jpg")
    Path("scan.jgw").write_text("1\n0\n0\n-1\n500000.5\n4999999.5\n")
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    for block in blocks:
        exec(block, names)  # noqa: S102 - our own page
    assert len(blocks) == 4
    part, scene = names["part"], names["scene"]
    np.testing.assert_array_equal(part.red, scene.red.values[:512, :512])
    np.testing.assert_array_equal(names["other"].rgb, names["picture"].rgb.values[:512, :512])


@pytest.mark.parametrize(
    "name", ["areas", "items", "loading", "opening", "recipe", "rendering", "stretches"]
)
def test_every_docstring_example_runs(name):
    module = importlib.import_module(f"remotesam_geo.scenes.{name}")
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
