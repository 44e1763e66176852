"""A grid is derived from all coordinates: uneven ones are refused, rounded ones placed by both ends."""

import numpy as np
import pytest
import rioxarray  # noqa: F401 - gives arrays their .rio
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_zeros

from remotesam_geo import Job, RemoteSAM, save
from remotesam_geo.errors import InputError
from remotesam_geo.geo.coordinates import grid_of
from remotesam_geo.tracking.visibility import observed_area

PLACE = GeoBox.from_bbox((500000, 5400000, 500640, 5400480), crs="EPSG:32633", resolution=10)


class Bright:
    """Finds what is bright in red."""

    image_size, identity = 64, "bright"

    def predict(self, images, expressions):
        return np.stack([images[..., 0] // 2] * len(expressions), axis=1)


def scene(place=PLACE):
    """Grey ground with one bright rectangle."""
    band = xr_zeros(place, "uint8").astype("uint8")
    band[20:30, 40:44] = 250
    return xr.Dataset({"red": band, "green": band, "blue": band})


UNEVEN = {
    "rows skipped": lambda s: s.isel(y=[*range(10), *range(13, 48)]),
    "columns skipped near the end": lambda s: s.isel(x=[*range(62), 63]),
    "the first row missing its neighbour": lambda s: s.isel(y=[0, *range(2, 48)]),
    "shuffled": lambda s: s.isel(y=np.random.default_rng(0).permutation(48)),
    "two pieces out of order": lambda s: s.isel(x=[*range(30, 64), *range(30)]),
    "two scenes one after the other": lambda s: xr.concat([s, s], "x"),
    "a row twice": lambda s: s.isel(y=[*range(10), 9, *range(10, 48)]),
    "all alike": lambda s: s.assign_coords(y=np.zeros(48)),
    "not a number": lambda s: s.assign_coords(y=np.where(np.arange(48) == 7, np.nan, s.y)),
    "infinite": lambda s: s.assign_coords(x=np.where(np.arange(64) == 7, np.inf, s.x)),
    "growing steps": lambda s: s.assign_coords(x=500000 + np.cumsum(np.linspace(9, 11, 64))),
    "text": lambda s: s.assign_coords(y=[f"row {n}" for n in range(48)]),
}


@pytest.mark.parametrize("kind", UNEVEN)
def test_uneven_coordinates_are_refused_wherever_a_grid_is_made(kind, tmp_path):
    uneven = UNEVEN[kind](scene())
    axis = "y" if "y" in repr(kind) and uneven.sizes["x"] == 64 else "[xy]"
    with pytest.raises(InputError, match=rf"the coordinate '{axis}' of this scene"):
        RemoteSAM(Bright()).detect(uneven, ["roof"])
    with pytest.raises(InputError, match="coordinate"):
        RemoteSAM(Bright()).count(uneven.red, ["roof"])
    with pytest.raises(InputError, match="coordinate"):
        observed_area(uneven.expand_dims(time=[np.datetime64("2020-01-01", "ns")]))
    if kind != "text":
        uneven.to_zarr(tmp_path / "scene.zarr", zarr_format=2)
        with pytest.raises(InputError, match="coordinate"):
            Job.create(tmp_path / "job", tmp_path / "scene.zarr", ["roof"], Bright())
        assert not (tmp_path / "job").exists()


@pytest.mark.parametrize("kind", ["rows skipped", "shuffled", "two scenes one after the other"])
def test_uneven_probabilities_are_refused(kind, tmp_path):
    found = RemoteSAM(Bright()).probabilities(scene(), ["roof"]).compute()
    uneven = UNEVEN[kind](found)
    with pytest.raises(InputError, match="is not evenly spaced"):
        RemoteSAM(Bright()).detect(uneven)
    with pytest.raises(InputError, match="of this map is not evenly spaced"):
        save(uneven, tmp_path / "found.tif")
    assert not list(tmp_path.iterdir())


def test_two_dimensional_coordinates_are_refused():
    lon, lat = np.meshgrid(np.linspace(10, 11, 64), np.linspace(50, 49, 48))
    curved = xr.DataArray(
        np.zeros((48, 64), "uint8"),
        dims=("y", "x"),
        coords={"lon": (("y", "x"), lon), "lat": (("y", "x"), lat)},
    )
    with pytest.raises(InputError, match="no CRS"):
        RemoteSAM(Bright()).detect(curved, ["roof"])
    with pytest.raises(InputError, match="no regular grid"):
        RemoteSAM(Bright()).detect(curved.rio.write_crs("EPSG:4326"), ["roof"])


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_rounded_coordinates_are_placed_by_both_ends(dtype):
    place = GeoBox.from_bbox((500000, 5400000, 540000, 5400300), crs="EPSG:32633", resolution=10)
    rounded = scene(place)
    whole = (
        rounded.assign_coords(x=(rounded.x - 5).astype(dtype), y=(rounded.y - 5).astype(dtype))
        .drop_vars("spatial_ref")
        .rio.write_crs(32633)
    )
    found = grid_of(whole)
    far = np.array(found.affine * (4000, 30)), np.array(place.affine * (4000, 30)) - 5
    assert np.abs(far[0] - far[1]).max() <= 1


@given(
    count=st.integers(2, 400),
    step=st.floats(0.1, 1000),
    start=st.floats(-1e6, 1e7),
    back=st.booleans(),
)
def test_any_even_grid_in_float32_is_within_a_third_of_a_pixel(count, step, start, back):
    values = start + (-step if back else step) * np.arange(count)
    rounded = values.astype("float32")
    array = xr.DataArray(
        np.zeros((count, count), "uint8"),
        dims=("y", "x"),
        coords={"y": rounded, "x": rounded},
    ).rio.write_crs("EPSG:32633")
    try:
        found = grid_of(array)
    except InputError:  # too coarse for its steps: float32 cannot tell neighbours apart
        assert np.spacing(np.float32(np.abs(rounded).max())) > 0.3 * step
        return
    centres = found.affine.c + found.affine.a * (np.arange(count) + 0.5)
    assert np.abs(centres - values).max() <= 0.3 * step + 1e-6


def test_steps_taken_from_the_first_two_coordinates_are_mended():
    """A step of 0.1 degrees in float32 is off by a pixel after some thousand of them."""
    lon = (np.float32(-180) + np.float32(0.1) * np.arange(3600, dtype="float32")).astype("float32")
    array = xr.DataArray(
        np.zeros((2, 3600), "uint8"), dims=("y", "x"), coords={"y": [0.1, 0.0], "x": lon}
    ).rio.write_crs("EPSG:4326")
    right = grid_of(array).affine * (3600, 0)
    assert abs(right[0] - 179.95) < 0.005


def test_every_second_row_and_a_turned_grid_are_even():
    thinned = scene().isel(y=slice(None, None, 2), x=slice(None, None, 2))
    assert grid_of(thinned).resolution.xy == (20, -20)
    turned = PLACE.rotate(30)
    assert grid_of(xr_zeros(turned, "uint8")).affine.almost_equals(turned.affine, 1e-6)
