"""Scenes with odd dates or coordinate systems end in an error of this package, never in a traceback."""

import datetime as dt

import geopandas as gpd
import numpy as np
import pytest
import rioxarray  # noqa: F401 - gives arrays their .rio
import shapely
import xarray as xr

from remotesam_geo import match_over_time
from remotesam_geo.errors import InputError
from remotesam_geo.remotesam import RemoteSAM
from tests.remotesam.test_remotesam import BAR, RED, Colours, scene_of

MODEL = RemoteSAM(Colours())
SCENE = scene_of([(BAR, RED)], size=100)
TWO = SCENE.expand_dims(time=np.array(["2021-01-01", "2022-01-01"], "M8[ns]"))


@pytest.mark.parametrize(
    "times",
    [
        [2021, 2022],
        [1.5, 2.5],
        ["spring", "autumn"],
        np.array(["2021-01-01", "NaT"], "M8[ns]"),
        np.array(["2021-01-01", "2021-01-01"], "M8[ns]"),
    ],
)
def test_dates_that_are_none_are_refused(times):
    for verb in ("detect", "count", "ground"):
        with pytest.raises(InputError, match="date"):
            getattr(MODEL, verb)(TWO.assign_coords(time=times), "red", progress=False)


def test_dates_of_any_kind_and_name_are_kept():
    days = np.array([dt.date(2021, 1, 1), dt.date(2022, 1, 1)], object)
    for scene in (TWO, TWO.rename(time="date"), TWO.assign_coords(time=days)):
        found = MODEL.detect(scene, "red", progress=False)
        assert found.time.astype(str).tolist() == ["2021-01-01", "2022-01-01"]


def test_several_positions_without_dates_are_refused():
    for scene in (TWO.drop_vars("time"), TWO.isel(time=slice(0, 0))):
        with pytest.raises(InputError, match="date"):
            MODEL.detect(scene, "red", progress=False)


@pytest.mark.parametrize("crs", ['LOCAL_CS["site",UNIT["metre",1]]', "EPSG:4978"])
def test_systems_without_a_place_on_earth_are_refused(crs):
    scene = SCENE.drop_vars("spatial_ref").rio.write_crs(crs)
    with pytest.raises(InputError, match="place on Earth"):
        MODEL.detect(scene, "red", progress=False)


@pytest.mark.parametrize("crs", ['LOCAL_CS["site",UNIT["metre",1]]', "EPSG:5703", "EPSG:4978"])
def test_zones_and_areas_need_a_place_as_well(crs):
    zones = gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs=crs)
    for options in ({"zones": zones}, {"geometry": zones}):
        with pytest.raises(InputError, match="place on Earth"):
            MODEL.count(SCENE, "red", progress=False, **options)
    with pytest.raises(InputError, match="place on Earth"):
        MODEL.detect(SCENE, "red", crs=crs)
    timed = zones.assign(label="a", time="2021-01-01")
    with pytest.raises(InputError, match="place on Earth"):
        match_over_time(timed, tolerance=1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_areas_of_no_finite_place_are_refused(value):
    with np.errstate(invalid="ignore"):
        ring = shapely.Polygon([(0, 0), (value, 0), (0, 1)])
    for area in (ring, gpd.GeoSeries([ring], crs="EPSG:32633")):
        with pytest.raises(InputError, match="NaN or infinite"):
            MODEL.detect(SCENE, "red", geometry=area)


@pytest.mark.parametrize(
    "note",
    ["{", "[1]", 5, '{"asked": 5}', '{"asked": [5]}', '{"asked": [{"prompts": [{"label": 1}]}]}',
     '{"asked": [{"prompts": [], "failures": [{}], "transform": [1]}]}'],
)  # fmt: skip
def test_a_damaged_note_of_probabilities_is_named(note):
    held = MODEL.probabilities(SCENE, "red").compute().assign_attrs(remotesam=note)
    with pytest.raises(InputError, match=r"attrs\['remotesam'\]"):
        MODEL.detect(held)


def test_probabilities_with_a_label_twice_are_refused():
    held = MODEL.probabilities(SCENE, "red").compute()
    with pytest.raises(InputError, match="'red' twice"):
        MODEL.detect(xr.concat([held, held], "prompt"))
