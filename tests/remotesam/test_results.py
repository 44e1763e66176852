"""Every verb's table has its columns and types, empty or full, survives every writer, and lies where it should."""

from functools import cache

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr
from rasterio.features import rasterize

from remotesam_geo.mapping.feature_table import columns_of, without_details
from remotesam_geo.mapping.zonal.zone_tables import (
    CAPTION_COLUMNS,
    COUNT_COLUMNS,
    LABEL_COLUMNS,
    wide_columns,
)
from remotesam_geo.remotesam import RemoteSAM
from tests.remotesam.test_remotesam import GREEN, RED, Colours, scene_of
from tests.remotesam.test_verbs import HALVES

MODEL = RemoteSAM(Colours())
FULL, EMPTY = scene_of([(shapely.box(20, 20, 60, 90), RED)]), scene_of([])
PICTURE = np.full((40, 60, 3), 10, np.uint8)
VERBS = {
    "segment": ({}, ["geometry"], columns_of(FULL.odc.geobox)),
    "refer": ({}, ["geometry"], columns_of(FULL.odc.geobox)),
    "detect": ({}, ["geometry"], columns_of(FULL.odc.geobox)),
    "ground": ({}, ["geometry"], columns_of(FULL.odc.geobox)),
    "label": ({"zones": HALVES}, ["name", "geometry"], without_details(LABEL_COLUMNS)),
    "classify": ({"zones": HALVES}, ["name", "geometry"], without_details(LABEL_COLUMNS)),
    "count": ({"zones": HALVES}, ["name", "geometry"], without_details(COUNT_COLUMNS)),
    "caption": ({"zones": HALVES}, ["name", "geometry"], without_details(CAPTION_COLUMNS)),
}
CASES = [(verb, full) for verb in VERBS for full in (True, False)]


@cache
def answer(verb, full):
    return getattr(MODEL, verb)(FULL if full else EMPTY, ["red", "green"], **VERBS[verb][0])


@pytest.mark.parametrize(("verb", "full"), CASES)
def test_columns_and_types_are_fixed(verb, full):
    _, before, columns = VERBS[verb]
    table = answer(verb, full)
    assert table.columns.tolist() == [*before, *columns]
    assert {name: str(table[name].dtype) for name in columns} == columns
    assert table.crs == FULL.odc.geobox.crs
    assert table.empty == (not full and verb in {"segment", "refer", "detect", "ground"})


def test_a_column_a_label_and_a_picture_have_their_own():
    wide = MODEL.count(FULL, ["red", "green"], zones=HALVES, wide=True)
    expected = without_details(wide_columns(["red", "green"]))
    assert {name: str(wide[name].dtype) for name in expected} == expected
    for prompt in ("red", "green"):
        table = MODEL.detect(PICTURE, prompt)
        assert list(table.columns) == ["geometry", *(name.replace("_m2", "_px") for name in VERBS["segment"][2])]


@pytest.mark.parametrize(("verb", "full"), CASES)
@pytest.mark.parametrize("name", ["out.parquet", "out.gpkg", "out.fgb", "out.geojson"])
@pytest.mark.filterwarnings("ignore:.*(layer_geometry_type|no geometry|without geometry).*")
def test_every_writer_takes_every_table(verb, full, name, tmp_path):
    table = answer(verb, full)
    path = tmp_path / name
    if name.endswith("parquet"):
        table.to_parquet(path)
        back = gpd.read_parquet(path)
    else:
        if name.endswith("geojson"):
            table = table.to_crs("EPSG:4326")
        table.to_file(path, engine="pyogrio")
        back = gpd.read_file(path, engine="pyogrio")
    assert len(back) == len(table)
    assert back.crs == table.crs
    if name.endswith("parquet"):
        assert back.columns.tolist() == table.columns.tolist()
        assert back.dtypes.astype(str).tolist() == table.dtypes.astype(str).tolist()
    assert corners(back) == corners(table)


def corners(table):
    """Where the geometries lie, in whatever order a format keeps them."""
    return sorted(tuple(np.round(bounds, 4)) for bounds in table.geometry.bounds.to_numpy())


ROTATED = Affine.translation(500000, 5000000) * Affine.rotation(-25) * Affine.scale(1, -1)
SOUTH_UP = Affine.translation(500000, 4999700) * Affine.scale(1, 1)
MIRRORED = Affine.translation(500300, 5000000) * Affine.scale(-1, -1)


@pytest.mark.parametrize("affine", [ROTATED, SOUTH_UP, MIRRORED], ids=["rotated", "south up", "mirrored"])
def test_grids_of_any_direction_put_objects_where_they_are(affine):
    box = GeoBox((300, 300), affine, "EPSG:32633")
    lon, lat = np.array(box.extent.to_crs("EPSG:4326").geom.centroid.coords[0])
    middle = shapely.Point(*(affine * (150, 150)))
    disc = shapely.affinity.translate(middle.buffer(40), 30, 25)
    rgb = np.full((300, 300, 3), 10, np.uint8)
    rgb[rasterize([disc], (300, 300), transform=affine) == 1] = GREEN
    bands = {n: wrap_xr(rgb[..., i], box) for i, n in enumerate(("red", "green", "blue"))}
    (found,) = MODEL.segment(xr.Dataset(bands), "green", crs="EPSG:4326").itertuples()
    true = gpd.GeoSeries([disc], crs="EPSG:32633").to_crs("EPSG:4326")[0].centroid
    _, _, metres = pyproj.Geod(ellps="WGS84").inv(found.geometry.centroid.x, found.geometry.centroid.y, true.x, true.y)
    assert abs(lon - true.x) < 0.01
    assert abs(lat - true.y) < 0.01
    assert metres < 0.5
    assert found.area_m2 == pytest.approx(disc.area, rel=0.01)
