"""A verb's result and its scene are enough to follow objects."""

import numpy as np
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from remotesam_geo import RemoteSAM, match_over_time


class Light:
    """Takes every light pixel for what was asked for."""

    image_size, identity = 64, "light"

    def predict(self, images, expressions):
        light = np.where(images.mean(axis=-1) > 128, 190, 0).astype(np.uint8)
        return np.repeat(light[:, None], len(expressions), axis=1)


def test_a_verbs_result_and_its_scene_are_enough():
    """Three pools; one is hidden, then gone; one stands in a picture that lies off by two pixels."""
    grid = GeoBox.from_bbox((500000, 0, 500150, 100), crs="EPSG:32633", resolution=1)
    light, valid = np.zeros((3, 100, 150), np.uint8), np.ones((3, 100, 150), bool)
    for time, shift in enumerate((0, 2, 0)):
        for row, column in ((20, 20), (20, 90), (70, 20), (70, 90)):
            light[time, row : row + 9, column + shift : column + shift + 12] = 250
    light[1:, 60:, 80:] = 0
    valid[1, 60:, 80:] = False
    light[2, 50:55, 50:60] = 250
    dims = ("time", *grid.dimensions)
    times = np.array(["2021-06-01", "2022-06-01", "2023-06-01"], "datetime64[ns]")
    scene = xr.Dataset(
        {**dict.fromkeys(("red", "green", "blue"), (dims, light)), "valid": (dims, valid)},
        coords={**xr_coords(grid), "time": times},
    )
    found = RemoteSAM(Light()).segment(scene, "swimming pool")
    result = match_over_time(found, observed=scene, max_shift=4, tolerance=1)
    states = {str(time)[:4]: sorted(rows) for time, rows in result.groupby("time")["state"].apply(list).items()}
    assert states == {
        "2021": ["first"] * 4,
        "2022": ["not observed"] + ["persisted"] * 3,
        "2023": ["appeared", "disappeared"] + ["persisted"] * 3,
    }
    assert result.groupby("time")["shift_x_m"].first().tolist() == pytest.approx([0, 2, 0], abs=0.01)
    assert set(result["track"]) <= set(found["id"])


def test_nothing_found_at_any_time_is_an_empty_table():
    grid = GeoBox.from_bbox((500000, 0, 500100, 100), crs="EPSG:32633", resolution=1)
    scene = xr.Dataset(
        {"red": (("time", *grid.dimensions), np.zeros((2, 100, 100), np.uint8))},
        coords={
            **xr_coords(grid),
            "time": np.array(["2021-06-01", "2022-06-01"], "datetime64[ns]"),
        },
    )
    scene = scene.assign(green=scene.red, blue=scene.red)
    found = RemoteSAM(Light()).segment(scene, "swimming pool", progress=False)
    result = match_over_time(found, observed=scene)
    assert len(result) == 0
    assert {*found.columns, "track", "state"} <= set(result.columns)
