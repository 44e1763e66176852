"""The grid of a scene from its coordinates: what contradicts them, what rounding does, and a campaign."""

import numpy as np
import pytest
import rioxarray  # noqa: F401 - gives arrays their .rio
import xarray as xr
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_zeros

from remotesam_geo import render
from remotesam_geo.errors import InputError
from remotesam_geo.geo.coordinates import grid_of
from remotesam_geo.job.source_recipe import SourceRecipe, open_store
from remotesam_geo.mapping.source import scene_source
from remotesam_geo.outputs import save
from remotesam_geo.tracking.visibility import observed_area
from tests.campaign import CASES

COUNT = 200
PLACE = Affine(10, 0, 5e5, 0, -10, 5e6)
WKT = CRS("EPSG:32631").to_wkt()
X, Y = 5e5 + 5 + 10 * np.arange(COUNT), 5e6 - 5 - 10 * np.arange(COUNT)
MIXED = np.random.default_rng(0).permutation(COUNT)


def scene(y=Y, x=X, stored=None, *, dtype="float64", bands=3):
    about = {"spatial_ref": WKT}
    if stored is not None:
        about["GeoTransform"] = " ".join(map(repr, map(float, stored.to_gdal())))
    return xr.DataArray(
        np.zeros((bands, len(y), len(x)), "uint8"),
        dims=("band", "y", "x"),
        coords={
            "y": np.asarray(y, dtype),
            "x": np.asarray(x, dtype),
            "spatial_ref": ((), 0, about),
        },
    )


def same(found: GeoBox, expected: GeoBox, share=1e-6) -> bool:
    relation = ~expected.transform * found.transform
    off = [np.subtract(relation * corner, corner) for corner in ((0, 0), found.shape.xy)]
    return found.shape == expected.shape and bool(np.abs(off).max() < share)


UNEVEN = {
    "a row skipped": np.delete(Y, 100),
    "the last but one skipped": np.delete(Y, COUNT - 2),
    "the second skipped": np.delete(Y, 1),
    "three rows, one skipped": Y[[0, 1, 3]],
    "shuffled": Y[MIXED],
    "two swapped": Y[[*range(50), 51, 50, *range(52, COUNT)]],
    "one doubled": np.insert(Y, 5, Y[5]),
    "all doubled": np.repeat(Y, 2),
    "all alike": np.full(9, Y[0]),
    "two scenes joined with a gap": np.r_[Y, Y - 3000],
    "two scenes joined with an overlap": np.r_[Y, Y[100:] - 500],
    "half a pixel shifted from the middle on": np.r_[Y[:100], Y[100:] - 5],
    "drifting": Y - 1e-3 * np.arange(COUNT) ** 2,
    "Gaussian latitudes": 85 * np.sin(np.linspace(1, -1, COUNT)),
    "not a number in between": np.where(np.arange(COUNT) == 7, np.nan, Y),
}


@pytest.mark.parametrize("name", UNEVEN)
@pytest.mark.parametrize("stored", [None, PLACE], ids=["", "with a transform"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_uneven_coordinates_are_refused(name, stored, dtype):
    with pytest.raises(InputError, match=r"the coordinate 'y' of this scene (is not evenly spaced: y|holds NaN)"):
        grid_of(scene(UNEVEN[name], stored=stored, dtype=dtype))
    with pytest.raises(InputError, match=r"the coordinate 'x' of this scene (is not evenly spaced: x|holds NaN)"):
        grid_of(scene(x=UNEVEN[name], stored=stored, dtype=dtype))


def test_the_error_says_where_the_spacing_breaks_and_what_to_do():
    told = r"y\[99\] = 4999005 and y\[100\] = 4998985 are -20 apart, most others -10.*scene.reindex\(y="
    with pytest.raises(InputError, match=told):
        grid_of(scene(UNEVEN["a row skipped"]))


def test_every_place_that_derives_a_grid_refuses_them(tmp_path):
    uneven = scene(np.delete(Y, 100), stored=PLACE)
    told = "not evenly spaced"
    with pytest.raises(InputError, match=told):
        grid_of(uneven)
    with pytest.raises(InputError, match=told):
        scene_source(uneven)
    with pytest.raises(InputError, match=told):
        scene_source(uneven.isel(band=0, drop=True).to_dataset(name="grey"))
    with pytest.raises(InputError, match=told):
        observed_area(uneven.expand_dims(time=[np.datetime64("2024-01-01", "ns")]))
    named = xr.Dataset({n: uneven[i] for i, n in enumerate(("red", "green", "blue"))})
    store = tmp_path / "scene.zarr"
    named.drop_vars("band", errors="ignore").to_zarr(store, consolidated=False)
    with pytest.raises(InputError, match=told):
        SourceRecipe.of(open_store(store), store=store)
    probabilities = uneven[:1].astype("float32").rename(band="prompt").assign_coords(prompt=["car"])
    with pytest.raises(InputError, match=told):
        save(probabilities, tmp_path / "map.tif")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: s, GeoBox((COUNT, COUNT), PLACE, "EPSG:32631")),
        (lambda s: s.isel(y=slice(20, 50), x=slice(3, None)), GeoBox((COUNT,) * 2, PLACE, "EPSG:32631")[20:50, 3:]),
        (lambda s: s.isel(y=slice(None, None, -1)), GeoBox((COUNT,) * 2, PLACE, "EPSG:32631").flipy()),
        (lambda s: s.isel(y=[7], x=[9]), GeoBox((COUNT,) * 2, PLACE, "EPSG:32631")[7:8, 9:10]),
        (
            lambda s: s.coarsen(y=4, x=5).mean(),
            GeoBox((50, 40), PLACE * Affine.scale(5, 4), "EPSG:32631"),
        ),
        (
            lambda s: s.isel(y=slice(None, None, 3)),
            GeoBox((67, COUNT), Affine(10, 0, 5e5, 0, -30, 5e6 + 10), "EPSG:32631"),
        ),
        (lambda s: xr.concat([s, s.assign_coords(y=s.y - 2000)], "y"), GeoBox((400, 200), PLACE, "EPSG:32631")),
    ],
    ids=["whole", "cropped", "flipped", "one pixel", "averaged", "every third", "tiles joined"],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_regular_parts_keep_their_place_though_the_stored_transform_is_stale(change, expected, dtype):
    found = grid_of(change(scene(stored=PLACE, dtype=dtype)))
    assert same(found, expected)
    assert found.crs == expected.crs


@pytest.mark.parametrize(
    "stored",
    [
        Affine(20, 0, 5e5, 0, -20, 5e6),
        Affine(10, 0, 5e5 + 5, 0, -10, 5e6 - 5),  # centres taken for corners
        Affine(10, 0, 5e5 + 1, 0, -10, 5e6),
        Affine(9.99, 0, 5e5, 0, -10, 5e6),
        Affine(1e-4, 0, 3, 0, -1e-4, 45),
        Affine.translation(5e5, 5e6) * Affine.rotation(20) * Affine.scale(10, -10),
    ],
)
def test_a_stored_transform_that_contradicts_the_coordinates_is_refused(stored):
    with pytest.raises(InputError, match=r"contradicts|stores is rotated"):
        grid_of(scene(stored=stored))


def test_single_precision_is_allowed_for_and_undone_where_it_can_be():
    fine = GeoBox((900, 700), Affine(2.5, 0, 5e5, 0, -2.5, 4.6e6), "EPSG:32631")
    whole = xr_zeros(fine)
    single = whole.assign_coords(x=whole.x.astype("float32"), y=whole.y.astype("float32"))
    assert same(grid_of(single), fine)  # snapped to the transform it stores
    del single.spatial_ref.attrs["GeoTransform"]
    assert same(grid_of(single), fine, share=0.05)
    coarse = 4.6e6 - 0.25 * np.arange(COUNT)  # two pixels share a number
    with pytest.raises(InputError, match="not evenly spaced"):
        grid_of(scene(coarse, dtype="float32"))
    with pytest.raises(InputError, match=r"rounded to single precision.*float64"):
        grid_of(scene(4.6e6 - 0.5 * np.arange(20), dtype="float32"))
    degrees = GeoBox((3000, 2000), Affine(1e-4, 0, 120, 0, -1e-4, 50), "EPSG:4326")
    place = xr_zeros(degrees).astype("uint8")
    place = place.assign_coords({d: place[d].astype("float32") for d in place.dims})
    assert same(grid_of(place), degrees)


def test_a_single_row_needs_a_stored_transform():
    with pytest.raises(InputError, match=r"'y' of this scene is a single number.*write_transform"):
        grid_of(scene(Y[:1]))
    assert grid_of(scene(Y[:1], stored=PLACE)).transform == PLACE
    with pytest.raises(InputError, match="contradict"):
        grid_of(scene(Y[:1] + 5, stored=PLACE))


def test_curved_grids_are_refused_unless_a_transform_describes_them():
    yy, xx = np.meshgrid(Y, X, indexing="ij")
    bare = scene().drop_vars(["x", "y"])
    swath = bare.assign_coords(lat=(("y", "x"), 45 + yy * 1e-7 * xx), lon=(("y", "x"), xx))
    with pytest.raises(InputError, match="lat, lon of this scene have two dimensions"):
        grid_of(swath)
    stored = scene(stored=PLACE).drop_vars(["x", "y"])
    assert grid_of(stored).transform == PLACE
    agree = stored.assign_coords(yc=(("y", "x"), yy), xc=(("y", "x"), xx))
    assert grid_of(agree).transform == PLACE
    with pytest.raises(InputError, match="xc and yc of this scene have two dimensions and contradict"):
        grid_of(agree.assign_coords(yc=(("y", "x"), yy + 7)))


def test_rotated_grids_of_odc_geo_stay_as_they_are():
    box = GeoBox((50, 60), PLACE * Affine.rotation(30), "EPSG:32631")
    turned = xr_zeros(box)
    assert grid_of(turned) == box
    assert same(grid_of(turned.isel({turned.dims[1]: slice(3, 20)})), box[:, 3:20])


def test_stackstac_labels_corners_and_its_transform_says_so():
    array = xr.DataArray(
        np.zeros((2, 3, COUNT, COUNT), "uint8"),
        dims=("time", "band", "y", "x"),
        coords={"x": X - 5, "y": Y + 5, "time": np.array(["2020", "2021"], "M8[ns]"), "epsg": 32631},
        attrs={"crs": "epsg:32631", "transform": PLACE, "resolution": 10},
    )  # fmt: skip
    whole = GeoBox((COUNT, COUNT), PLACE, "EPSG:32631")
    assert grid_of(array) == whole
    assert grid_of(array.isel(x=slice(5, 9), y=slice(2, None))) == whole[2:, 5:9]
    assert scene_source(array).geobox == whole
    centred = array.assign_coords(x=X, y=Y)
    assert grid_of(centred) == whole
    assert render(array).rgb.shape == (2, COUNT, COUNT, 3)


@pytest.mark.parametrize("units", ["degrees_north", "m"])
def test_coordinates_that_are_no_numbers_are_refused(units):
    words = scene().isel(y=slice(2)).assign_coords(y=("y", ["north", "south"], {"units": units}))
    with pytest.raises(InputError, match=r"'y' of this scene holds .*, not numbers"):
        grid_of(words)


KINDS = ("none", "skip", "double", "swap", "shift")


def _damaged(kind, true, at, size):
    if kind == "skip":
        return np.delete(true, at)
    if kind == "double":
        return np.insert(true, at, true[at])
    if kind == "swap":
        return true[np.r_[: at - 1, at, at - 1, at + 1 : len(true)]]
    return np.r_[true[:at], true[at:] + 0.5 * size] if kind == "shift" else true


def test_campaign_of_coordinates(campaign):
    """A grid is found to a twentieth of a pixel, or refused."""
    counted = campaign("scene coordinates", "rows skipped, doubled, swapped, shifted, rounded; stale transforms")
    rng = np.random.default_rng(17)
    for _ in range(CASES):
        size, count = rng.choice([0.25, 0.6, 10.0, 1e-4, 30.0]), int(rng.integers(3, 400))
        origin = rng.choice([0.0, 5e5, 4.6e6, -179.0])
        true = origin + size * np.arange(count)
        damaged = _damaged(rng.choice(KINDS), true, int(rng.integers(1, max(2, count - 1))), size)
        dtype = rng.choice(["float64", "float32"])
        stored = [None, Affine(size, 0, origin - size / 2, 0, -10, 5e6)][int(rng.integers(2))]

        def run(x=damaged, dtype=dtype, stored=stored, true=true, size=size):
            found = grid_of(scene(x=x, stored=stored, dtype=dtype, bands=1))
            middles = found.transform.c + found.transform.a * (np.arange(len(x)) + 0.5)
            if len(x) == 2:  # two coordinates are always evenly spaced
                expected = np.asarray(x, dtype).astype(float)
            else:
                expected = np.asarray(x)
                assert len(x) == len(true), "uneven coordinates passed"
            off = np.abs(middles - expected).max()
            assert off < 0.1 * size, f"{off / size} pixels off"

        counted.case(run)
