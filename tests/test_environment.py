"""All tests share one environment, and the package gives the same answers in a hostile one."""

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from geopandas.testing import assert_geodataframe_equal

from tests.environment import HOSTILE
from tests.job.job_folder import write_raster

ROOT = Path(__file__).parents[1]


def test_nothing_that_the_machine_has_set_reaches_a_test():
    fixed = {"TZ", "LC_ALL", "COLUMNS", "HOME", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"}
    odd = {name for name, value in HOSTILE.items() if os.environ.get(name) == value}
    assert not odd - fixed
    assert os.environ["TZ"] == "UTC"
    assert time.timezone == 0
    assert list(Path.home().iterdir()) is not None
    assert os.environ["HOME"] != HOSTILE["HOME"]


def without_encoding(source: str) -> list[int]:
    """Lines that read or write text in whatever encoding the machine prefers."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        values = [getattr(each, "value", None) for each in node.args]
        if name not in {"read_text", "write_text", "open"} or "utf-8" in values:
            continue
        if ast.unparse(node.func) == "rasterio.open":
            continue
        modes = [value for value in values if isinstance(value, str) and {*value} <= {*"rwaxt+"}]
        text = isinstance(node.func, ast.Name) or name != "open" or bool(modes)
        binary = any(isinstance(value, str) and "b" in value and len(value) < 4 for value in values)
        if text and not binary and "encoding" not in {each.arg for each in node.keywords}:
            lines.append(node.lineno)
    return lines


def test_text_is_read_and_written_as_utf_8():
    assert without_encoding("p.read_text()\np.open('w')\nopen(p)\np.write_text(x)") == [1, 2, 3, 4]
    assert not without_encoding("p.read_text('utf-8')\np.open('rb')\nreader.open()\nopen(p, 'wb')")
    found = {
        str(path.relative_to(ROOT)): lines
        for path in sorted((ROOT / "remotesam_geo").rglob("*.py"))
        if (lines := without_encoding(path.read_text("utf-8")))
    }
    assert not found


QUESTION = """
import sys
from pathlib import Path
from remotesam_geo import Job, RemoteSAM, explore, open_raster, plot, save
from tests.colours import Colours
folder, scene = Path(sys.argv[1]), open_raster(sys.argv[2])
model = RemoteSAM(Colours())
found = model.segment(scene, "red things")
for kind in ("gpkg", "parquet", "geojson"):
    save(found, folder / f"found.{kind}")
save(model.probabilities(scene, "red things").compute(), folder / "map.tif")
job = Job.create(folder / "job", scene, "red things", "tests.colours:Colours")
job.run()
save(job.answer(), folder / "answer.parquet")
plot(found, scene)
explore(found, scene).save(folder / "found.html")
"""
OF_THE_USER = {"GDAL_SKIP"}
"""Wishes that the package respects: without its driver a file cannot be read."""


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    return write_raster(tmp_path_factory.mktemp("raster") / "blobs.tif", shape=(120, 120))


def run(command: list[str | Path], environment: dict[str, str], code: int = 0) -> str:
    """What a command prints; its output and messages are decoded as UTF-8."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(command, env=environment, capture_output=True, check=False, encoding="utf-8")
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_answers_and_files_are_the_same_in_a_hostile_environment(tmp_path, raster):
    odd = {name: value for name, value in HOSTILE.items() if name not in OF_THE_USER}
    for name, environment in (("plain", {}), ("hostile", odd | {"OMP_NUM_THREADS": "1"})):
        (tmp_path / name).mkdir()
        run([sys.executable, "-c", QUESTION, tmp_path / name, raster], environment)
    plain, hostile = tmp_path / "plain", tmp_path / "hostile"
    for file in ("found.parquet", "found.gpkg", "found.geojson", "answer.parquet"):
        kept, expected = (tabled(folder / file) for folder in (hostile, plain))
        assert len(expected) > 1
        assert_geodataframe_equal(kept, expected)
    maps = [rasterio.open(folder / "map.tif") for folder in (hostile, plain)]
    assert maps[0].crs == maps[1].crs == "EPSG:32633"
    assert maps[0].transform == maps[1].transform
    np.testing.assert_array_equal(maps[0].read(), maps[1].read())


def tabled(path: Path) -> gpd.GeoDataFrame:
    """A saved table without the identity of its run."""
    table = gpd.read_parquet(path) if path.suffix == ".parquet" else gpd.read_file(path)
    return table.drop(columns="run_id", errors="ignore")


def test_the_command_line_prints_what_the_terminal_can_show(tmp_path, raster):
    odd = {name: value for name, value in HOSTILE.items() if name not in OF_THE_USER}
    odd |= {"PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-c", "from remotesam_geo.cli import run; run()"]
    for arguments, code in (
        (["--help"], 0),
        (["segment", tmp_path / "Größe → none.tif", "tree", "--model", "tiny"], 1),
        (["caption", raster, "tree", "--model", "tiny"], 0),
    ):
        run([*program, *arguments], odd, code)
