"""Scenes with odd dates or coordinate systems end in an error of this package, never in a traceback."""

import datetime as dt

import numpy as np
import pytest
import rioxarray  # noqa: F401 - gives arrays their .rio

from remotesam_geo.errors import InputError
from remotesam_geo.remotesam import RemoteSAM

from .test_remotesam import BAR, RED, Colours, scene_of

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
    with pytest.raises(InputError, match="projected CRS"):
        MODEL.detect(scene, "red", progress=False)
