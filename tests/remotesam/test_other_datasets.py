"""What odc.stac.load, stackstac and rioxarray return works in every method as it is."""

import numpy as np
import odc.stac
import pytest
import rasterio
import rioxarray
import xarray as xr

from remotesam_geo import RemoteSAM
from remotesam_geo.learning.synthetic import World
from remotesam_geo.scenes import render
from remotesam_geo.scenes.colors import rgb_of
from tests.raster.test_odc_stac import described, item

GRID = World(29).geobox("EPSG:32631", resolution=0.3, shape=(128, 160))
NAMES = {
    "plain": ("red", "green", "blue"), "sentinel-2": ("B04", "B03", "B02"), "landsat 8": ("SR_B4", "SR_B3", "SR_B2"),
    "capitals": ("Red", "Green", "Blue"),
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return RemoteSAM.from_pretrained("tiny")


@pytest.fixture(scope="module")
def pixels():
    """Red, green and blue, 1 to 255, with 0 (no data) in a corner."""
    scene = World(29).scene(GRID).isel(time=0, drop=True).compute()
    found = np.stack([np.maximum(scene[name].values, 1) for name in ("red", "green", "blue")])
    found[:, :40, :30] = 0
    return found


def of_odc(folder, pixels, names, kind):
    """Bands in alphabetic order, as odc-stac gives them where none are named."""
    whole = None
    for name, plane in sorted(zip(names, pixels, strict=True)):
        path = folder / f"{name}.tif"
        with rasterio.open(
            path, "w", driver="GTiff", dtype=kind, count=1, width=160, height=128, crs="EPSG:32631",
            transform=GRID.transform, nodata=0,
        ) as file:  # fmt: skip
            file.write(plane.astype(kind), 1)
        one = item("a", str(path), GRID, described(kind, 0), asset=name)
        if whole is None:
            whole = one
        else:
            whole.assets[name] = one.assets[name]
    return odc.stac.load([whole], chunks={"x": 64, "y": 64})


def of_stackstac(pixels, names):
    """By stackstac's conventions: float64 with NaN, labels at upper left corners, a transform as an attribute."""
    data = np.where(pixels == 0, np.nan, pixels)[None]
    box, size = GRID.boundingbox, GRID.transform.a
    return xr.DataArray(
        data,
        dims=("time", "band", "y", "x"),
        coords={
            "time": np.array(["2024-05-01T10:00:00"], "datetime64[ns]"), "id": ("time", ["a"]),
            "band": list(names), "x": box.left + size * np.arange(160), "y": box.top - size * np.arange(128),
            "epsg": 32631, "title": ("band", list(names)),
        },
        attrs={"spec": "RasterSpec", "crs": "epsg:32631", "transform": GRID.transform, "resolution": size},
    )  # fmt: skip


def scenes(folder, pixels):
    path = folder / "rgb.tif"
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=3, width=160, height=128, crs="EPSG:32631",
        transform=GRID.transform, nodata=0,
    ) as file:  # fmt: skip
        file.write(pixels)
    return {
        "odc uint8": of_odc(folder, pixels, NAMES["plain"], "uint8"),
        "odc uint16": of_odc(folder, pixels, NAMES["sentinel-2"], "uint16"),
        "odc float32": of_odc(folder, pixels, NAMES["landsat 8"], "float32"),
        "stackstac": of_stackstac(pixels, NAMES["sentinel-2"]),
        "rioxarray": rioxarray.open_rasterio(path),
        "rioxarray masked": rioxarray.open_rasterio(path, masked=True, chunks={"x": 64, "y": 64}),
    }


@pytest.mark.parametrize("names", NAMES.values(), ids=list(NAMES))
def test_red_green_and_blue_are_found_by_name_in_any_order(names):
    assert rgb_of(sorted(names)) == names
    data = xr.Dataset(
        {name: (("y", "x"), np.full((2, 2), number, "uint8")) for name, number in zip(names, (30, 20, 10), strict=True)}
    )
    assert render(data[sorted(names)]).rgb.values[0, 0].tolist() == [30, 20, 10]


def test_landsat_7_counts_otherwise():
    assert rgb_of([f"SR_B{n}" for n in (1, 2, 3, 4, 5, 7)]) == ("SR_B3", "SR_B2", "SR_B1")
    assert rgb_of([f"SR_B{n}" for n in range(1, 8)]) == ("SR_B4", "SR_B3", "SR_B2")


@pytest.mark.filterwarnings("ignore::remotesam_geo.RemoteSAMWarning")
@pytest.mark.parametrize(
    "name", ["odc uint8", "odc uint16", "odc float32", "stackstac", "rioxarray", "rioxarray masked"]
)
def test_every_method_takes_it_as_it_is(model, pixels, tmp_path, name):
    scene = scenes(tmp_path, pixels)[name]
    stretch = None if name in ("odc uint8", "rioxarray") else (0, 255)
    shown = render(scene, stretch=stretch)
    shown = shown.squeeze("time", drop=True) if "time" in shown.dims else shown
    rgb, valid = shown.rgb.transpose("y", "x", "band"), shown.valid
    np.testing.assert_array_equal(valid, pixels[0] > 0)
    np.testing.assert_allclose(rgb.values, np.moveaxis(pixels, 0, -1), atol=1)
    words = ["ship", "building"]
    found = {
        "detect": model.detect(scene, words, stretch=stretch),
        "segment": model.segment(scene, words, stretch=stretch),
        "refer": model.refer(scene, ["the largest building"], stretch=stretch),
        "ground": model.ground(scene, ["the largest building"], stretch=stretch),
        "label": model.label(scene, words, stretch=stretch),
        "classify": model.classify(scene, words, stretch=stretch),
        "count": model.count(scene, words, stretch=stretch),
        "caption": model.caption(scene, words, stretch=stretch),
    }
    assert {verb: table.crs.to_epsg() for verb, table in found.items()} == dict.fromkeys(found, 32631)
    maps = model.probabilities(scene, words, stretch=stretch)
    classes = model.classmap(scene, words, stretch=stretch)
    assert maps.odc.geobox == GRID
    assert classes.odc.geobox == GRID
    missing = np.isnan(maps.isel(prompt=0).squeeze().values)
    np.testing.assert_array_equal(missing, pixels[0] == 0)
