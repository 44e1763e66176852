"""Results in files: other programs read them, they say how they were made, and they are whole or not there."""

import json
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import geopandas as gpd
import jsonschema
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pyproj
import pytest
import referencing
import shapely
from geopandas.testing import assert_geodataframe_equal
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import shape as shape_of

from remotesam_geo import read_provenance, save
from remotesam_geo.errors import InputError, WriteError
from remotesam_geo.outputs.vectors import in_degrees
from tests.remotesam.test_remotesam import BAR, DISC, GREEN, MODEL, RED, scene_of
from tests.remotesam.test_results import CASES, answer

SCHEMAS = Path(__file__).parents[1] / "data" / "schemas"
TABLES = ["out.parquet", "out.gpkg", "out.fgb", "out.geojson"]


@pytest.fixture(scope="module")
def found():
    return MODEL.segment(scene_of([(BAR, RED), (DISC, GREEN)]), ["red", "green"], progress=False).assign(
        time=pd.Timestamp("2024-05-01T10:00:00.5")
    )


def read(path):
    return gpd.read_parquet(path) if path.suffix == ".parquet" else gpd.read_file(path)


# --- every table in every format ----------------------------------------------------------------


@pytest.mark.parametrize(("verb", "full"), CASES)
@pytest.mark.parametrize("name", TABLES)
def test_every_table_comes_back_with_how_it_was_made(verb, full, name, tmp_path):
    table = answer(verb, full)
    path = save(table, tmp_path / name)
    back = read(path)
    assert len(back) == len(table)
    if name.endswith("geojson"):
        assert back.crs == "EPSG:4326"
    else:
        assert back.crs == table.crs
    if name.endswith("parquet"):
        assert_geodataframe_equal(back[table.columns.tolist()], table)
        assert back.attrs == table.attrs
    elif len(table):
        assert set(back.columns) == set(table.columns)
        key = "id" if "id" in table else "geometry"
        assert set(map(str, back[key])) == set(map(str, table[key])) or name.endswith("geojson")
    assert read_provenance(path) == json.loads(table.attrs["remotesam"])
    assert [each.name for each in tmp_path.iterdir()] == [name]  # nothing is left beside it


@pytest.mark.parametrize("name", TABLES)
def test_values_survive(name, found, tmp_path):
    odd = found.assign(
        label=["red", None], score=[np.nan, 0.5], time=[pd.NaT, pd.Timestamp("2024-05-01T10:00:00.5")],
        n=pd.array([pd.NA, 7], "Int64"), text=['"quote" </script> \n ü 道', ""],
    )  # fmt: skip
    back = read(save(odd, tmp_path / name)).set_index("id").loc[found["id"]]
    assert pd.isna(back["label"].iloc[1])
    assert back["label"].iloc[0] == "red"
    assert np.isnan(back["score"].iloc[0])
    assert back["score"].iloc[1] == 0.5
    assert back["n"].iloc[1] == 7
    assert pd.isna(back["n"].iloc[0])
    assert back["text"].iloc[0] == odd["text"].iloc[0]
    assert pd.isna(back["time"].iloc[0])
    assert pd.Timestamp(back["time"].iloc[1]).tz_localize(None) == odd["time"].iloc[1]


@pytest.mark.parametrize("name", ["out.gpkg", "out.fgb", "out.geojson"])
def test_gdal_reads_it(name, found, tmp_path):
    path = save(found, tmp_path / name)
    info = pyogrio.read_info(path)
    assert info["features"] == 2
    assert info["driver"] == {"gpkg": "GPKG", "fgb": "FlatGeobuf", "geojson": "GeoJSON"}[name[4:]]
    assert info["layer_name"] == "out"
    if name != "out.geojson":
        assert info["crs"] == "EPSG:32633"
        assert json.loads(info["layer_metadata"]["remotesam"])["model"] == "colours"


def test_a_layer_is_named_as_the_file(found, tmp_path):
    path = save(found, tmp_path / "ships of may.gpkg")
    assert pyogrio.list_layers(path)[:, 0].tolist() == ["ships of may"]


# --- GeoParquet ---------------------------------------------------------------------------------


def check_geoparquet(path):
    """The `geo` metadata against the published schema, and against the columns."""
    file = pq.ParquetFile(path)
    geo = json.loads(file.schema_arrow.metadata[b"geo"])
    projjson = json.loads((Path(pyproj.datadir.get_data_dir()) / "projjson.schema.json").read_text("utf-8"))
    registry = referencing.Registry().with_resource(
        "https://proj.org/schemas/v0.7/projjson.schema.json",
        referencing.Resource.from_contents(projjson),
    )
    schema = json.loads((SCHEMAS / "geoparquet.json").read_text("utf-8"))
    jsonschema.Draft7Validator(schema, registry=registry).validate(geo)
    column = geo["columns"][geo["primary_column"]]
    table = file.read()
    shapes = shapely.from_wkb(table.column(geo["primary_column"]).to_numpy())
    if len(shapes):
        assert column["bbox"] == pytest.approx(shapely.total_bounds(shapes).tolist())
    name = column["covering"]["bbox"]["xmin"][0]
    boxes = table.column(name).to_pylist()
    assert [list(box.values()) for box in boxes] == shapely.bounds(shapes).tolist()
    assert table.schema.field(name).type == pa.struct(
        [(corner, pa.float64()) for corner in ("xmin", "ymin", "xmax", "ymax")]
    )
    kinds = {shape.geom_type for shape in shapes}
    assert kinds <= set(column["geometry_types"])
    return geo, table


def test_geoparquet_is_as_its_schema_says(found, tmp_path):
    geo, _ = check_geoparquet(save(found, tmp_path / "out.parquet"))
    assert geo["version"] == "1.1.0"
    assert pyproj.CRS.from_json_dict(geo["columns"]["geometry"]["crs"]) == found.crs
    check_geoparquet(save(found.iloc[:0], tmp_path / "empty.parquet"))
    check_geoparquet(save(found.assign(bbox=1), tmp_path / "taken.parquet"))


def test_readers_skip_what_is_elsewhere(found, tmp_path):
    path = save(found, tmp_path / "out.parquet")
    near = gpd.read_parquet(path, bbox=(500140, 4999840, 500160, 4999860))
    assert near["label"].tolist() == ["green"]


def test_a_large_table_becomes_a_folder_of_neighbourhoods(tmp_path):
    random = np.random.default_rng(4)
    x, y = random.uniform(0, 1000, (2, 1000))
    table = gpd.GeoDataFrame(
        {"label": random.choice(["a", "b"], 1000), "n": range(1000)},
        geometry=shapely.box(x, y, x + 1, y + 1), crs="EPSG:32633",
    )  # fmt: skip
    table.attrs["remotesam"] = '{"model": "x"}'
    path = save(table, tmp_path / "many.parquet", rows_a_part=100)
    parts = sorted(path.iterdir())
    assert len(parts) == 10
    for part in parts:
        check_geoparquet(part)
    areas = [shapely.box(*gpd.read_parquet(part).total_bounds).area for part in parts]
    assert sum(areas) < 2.5 * 1000 * 1000  # in any order it would be ten times the whole
    back = gpd.read_parquet(path).sort_values("n", ignore_index=True)
    assert_geodataframe_equal(back[list(table.columns)], table)
    assert read_provenance(path) == {"model": "x"}
    save(table.iloc[:5], path)  # a file where a folder was
    assert len(gpd.read_parquet(path)) == 5
    save(table, path, rows_a_part=500)
    assert len(gpd.read_parquet(path)) == 1000


# --- GeoJSON ------------------------------------------------------------------------------------


def test_geojson_is_as_the_standard_says(found, tmp_path):
    path = save(found, tmp_path / "out.geojson")
    data = json.loads(path.read_text("utf-8"))
    assert "crs" not in data
    assert data["remotesam"]["model"] == "colours"
    assert data["features"][1]["properties"]["time"] == "2024-05-01T10:00:00.500000Z"
    true = found.to_crs("EPSG:4326")
    for feature, shape in zip(data["features"], true.geometry, strict=True):
        drawn = shape_of(feature["geometry"])
        assert drawn.exterior.is_ccw
        assert drawn.hausdorff_distance(shape) < 2e-7
        for lon, lat in drawn.exterior.coords:
            assert (round(lon, 7), round(lat, 7)) == (lon, lat)


@pytest.mark.parametrize(
    ("crs", "shape"),
    [
        ("EPSG:4326", shapely.box(179.9, 10, 180.2, 11)),  # as results count on
        ("EPSG:4326", shapely.box(-180.1, 10, -179.8, 11)),
        ("EPSG:32601", None),
        ("EPSG:32760", None),
    ],
)
def test_what_crosses_the_antimeridian_is_cut_there(crs, shape, tmp_path):
    if shape is None:
        x, y = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(180, 10)
        shape = shapely.box(x - 5000, y - 3000, x + 8000, y + 3000)
    table = gpd.GeoDataFrame({"label": ["a"]}, geometry=[shape], crs=crs)
    (cut,) = in_degrees(table.geometry)
    assert cut.geom_type == "MultiPolygon"
    west, east = sorted(cut.geoms, key=lambda part: part.bounds[0])
    assert west.bounds[0] == -180
    assert east.bounds[2] == 180
    assert max(part.bounds[2] - part.bounds[0] for part in cut.geoms) < 1
    geod = pyproj.Geod(ellps="WGS84")
    on_ellipsoid = abs(geod.geometry_area_perimeter(shape)[0])
    area = on_ellipsoid if crs == "EPSG:4326" else shape.area
    found = sum(abs(geod.geometry_area_perimeter(part)[0]) for part in cut.geoms)
    assert found == pytest.approx(area, rel=0.01)
    back = gpd.read_file(save(table, tmp_path / "cut.geojson"))
    assert back.total_bounds.tolist() == [
        -180,
        *back.total_bounds[1:2],
        180,
        *back.total_bounds[3:],
    ]


@given(
    st.lists(
        st.tuples(st.floats(-179, 179), st.floats(-80, 80), st.floats(1e-6, 0.5), st.text(max_size=20)),
        max_size=5,
    )
)  # fmt: skip
def test_any_place_and_any_text_come_back_from_geojson(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("any") / "any.geojson"
    shapes = [shapely.box(x, y, x + side, y + side) for x, y, side, _ in rows]
    table = gpd.GeoDataFrame({"text": [row[3] for row in rows]}, geometry=shapes, crs="EPSG:4326")
    save(table, path)
    data = json.loads(path.read_text("utf-8"))["features"]
    assert [feature["properties"]["text"] for feature in data] == table["text"].tolist()
    for feature, shape in zip(data, shapes, strict=True):
        drawn = shape_of(feature["geometry"])
        assert drawn.is_valid
        assert not drawn.is_empty
        assert np.abs(np.array(drawn.bounds) - shape.bounds).max() < 1e-7


# --- pictures -----------------------------------------------------------------------------------


def test_pixels_of_a_picture_are_refused_where_degrees_are_meant(tmp_path):
    table = gpd.GeoDataFrame({"label": ["red"]}, geometry=[shapely.box(10, 10, 30, 20)])
    table.attrs.update(remotesam='{"model": "colours"}', space="pixel")
    with pytest.raises(InputError, match=r"no CRS .*pixels.*\.parquet, \.gpkg or \.fgb"):
        save(table, tmp_path / "out.geojson")
    for name in ("out.parquet", "out.gpkg", "out.fgb"):
        path = save(table, tmp_path / name)
        back = read(path)
        assert back.crs is None or back.crs.name.startswith("Undefined")
        assert back.total_bounds.tolist() == table.total_bounds.tolist()
        assert read_provenance(path)["model"] == "colours"
    assert gpd.read_parquet(tmp_path / "out.parquet").attrs["space"] == "pixel"


# --- whole or not at all ------------------------------------------------------------------------


@contextmanager
def full_disk(most):
    """No file may grow past so many bytes; what fails is the write, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", TABLES)
def test_a_full_disk_leaves_what_was_there(name, found, tmp_path):
    path = save(found, tmp_path / name)
    before = path.read_bytes()
    x = np.random.default_rng(0).uniform(0, 1000, 20000)
    shapes = shapely.box(x, x, x + 1, x + 1)
    large = gpd.GeoDataFrame({"text": (x * 3).astype(str)}, geometry=shapes, crs="EPSG:32633")
    with full_disk(200_000), pytest.raises(WriteError, match="What was there before is kept"):
        save(large, path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [name]


KILLED = """
import os, signal, sys
import geopandas as gpd, pathlib, shapely
from remotesam_geo import save
from remotesam_geo.outputs import atomic
atomic._flush_to_disk = lambda path: os.kill(os.getpid(), signal.SIGKILL)  # all is written, nothing moved
save(gpd.GeoDataFrame({"a": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32633"), sys.argv[1])
"""


@pytest.mark.parametrize("name", ["out.gpkg"])
def test_a_killed_writer_leaves_what_was_there(name, found, tmp_path):
    path = save(found, tmp_path / name)
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    save(found, path)  # what the killed one left is in nobody's way


@pytest.mark.parametrize("name", TABLES)
def test_bad_data_leaves_what_was_there(name, found, tmp_path):
    path = save(found, tmp_path / name)
    before = path.read_bytes()
    odd = [{1, 2}, object()] if name in {"out.parquet", "out.geojson"} else [1j, 2j]
    with pytest.raises(InputError, match="cannot be stored as"):
        save(found.assign(odd=odd), path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_mistakes_are_told(found, tmp_path):
    with pytest.raises(InputError, match=r"'out.shp'.*\.parquet.*\.gpkg"):
        save(found, tmp_path / "out.shp")
    with pytest.raises(InputError, match="make it first"):
        save(found, tmp_path / "nowhere" / "out.gpkg")
    with pytest.raises(InputError, match="a dict is no result"):
        save({}, tmp_path / "out.gpkg")
    with pytest.raises(InputError, match="no geometry"):
        save(gpd.GeoDataFrame({"label": ["a"]}), tmp_path / "out.gpkg")
    with pytest.raises(InputError, match="rows_a_part=0"):
        save(found, tmp_path / "out.parquet", rows_a_part=0)
    with pytest.raises(InputError, match="there is no"):
        read_provenance(tmp_path / "out.gpkg")
    plain = gpd.GeoDataFrame({"a": [1]}, geometry=[DISC], crs="EPSG:32633")
    for name in TABLES:
        with pytest.raises(InputError, match="does not say how it was made"):
            read_provenance(save(plain, tmp_path / name))
    (tmp_path / "x.csv").touch()
    with pytest.raises(InputError, match="must end in"):
        read_provenance(tmp_path / "x.csv")


def test_a_folder_that_may_not_be_written_to(found, tmp_path, monkeypatch):
    # A mode of 0500 would not do: root, as whom CI may run, writes everywhere.
    def forbidden(*given, **named):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", forbidden)
    with pytest.raises(WriteError, match="cannot write"):
        save(found, tmp_path / "out.gpkg")
