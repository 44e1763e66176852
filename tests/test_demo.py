"""The demo's parts, and the demo itself."""

import geopandas as gpd
import numpy as np
import pytest
import shapely

from remotesam_geo import load, search
from remotesam_geo.demo import CLASSES, compare, main, match, write_catalogue


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    return write_catalogue(tmp_path_factory.mktemp("demo"))


def test_the_catalogue_gives_back_the_world_to_the_pixel(catalogue):
    path, world, grid = catalogue
    scene = load(search(path, "procedural"), mosaic="first")
    assert scene.odc.geobox == grid
    rgb = np.stack([scene[name].values for name in ("red", "green", "blue")], axis=-1)
    np.testing.assert_array_equal(rgb, world.render(grid))


def test_objects_lie_across_the_seam(catalogue):
    _, world, grid = catalogue
    west, east = grid[:, : grid.shape.x // 2].extent.geom, grid[:, grid.shape.x // 2 :].extent.geom
    truth = world.truth(grid).geometry
    assert (truth.intersects(west) & truth.intersects(east)).any()


def test_matching_is_one_to_one_and_best():
    boxes = gpd.GeoSeries([shapely.box(0, 0, 10, 10), shapely.box(2, 0, 12, 10)])
    other = gpd.GeoSeries([shapely.box(1, 0, 11, 10), shapely.box(50, 0, 60, 10)])
    assert len(match(boxes, other)) == 1
    assert match(boxes, boxes.iloc[::-1]) == [(0, 1), (1, 0)]
    assert match(boxes, other.iloc[1:]) == []
    assert match(boxes.iloc[:0], other) == []


def test_the_truth_compared_with_itself_is_perfect(catalogue):
    _, world, grid = catalogue
    truth = world.truth(grid)
    table = compare(truth, truth)
    there = table[table["there"] > 0]
    assert len(there) >= 4
    assert (there["F1"] == "1.00").all()
    assert list(table.index) == list(CLASSES)


def test_the_demo_runs_and_writes_what_it_found(tmp_path, capsys):
    main(tmp_path)
    found = gpd.read_parquet(tmp_path / "found.parquet")
    assert len(found) > 20
    assert set(found.label) <= set(CLASSES)
    assert len(gpd.read_file(tmp_path / "found.gpkg")) == len(found)
    assert (tmp_path / "found.png").stat().st_size > 50_000
    said = capsys.readouterr().out
    assert all(name in said for name in CLASSES)
