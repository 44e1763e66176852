"""SceneDriver under the real odc.stac.load: pixels of odc-stac's own driver, and never a failure as no data."""

import datetime as dt
import itertools
import json
import pickle
import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import odc.stac
import pystac
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.loader import RioDriver
from odc.loader.types import RasterBandMetadata, RasterLoadParams, RasterSource

from remotesam_geo.errors import RemoteSAMWarning
from remotesam_geo.net.auth import HrefSigner
from remotesam_geo.raster.odc_driver import SceneDriver, SourceError
from tests.net.fault_server import (
    FaultServer,
    NoRanges,
    OtherRange,
    Reset,
    Stall,
    Status,
    TooMuch,
    Truncate,
    Unsigned,
    Wrong,
)  # fmt: skip

from . import rasters

EXTENSIONS = [
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("eo/v1.1.0", "projection/v2.0.0", "raster/v1.1.0")
]
TYPES = {"uint8": None, "uint16": 0, "int16": -9999, "float32": float("nan")}
METHODS = (
    "nearest", "bilinear", "cubic", "cubic_spline", "lanczos", "average", "mode",
    "max", "min", "med", "q1", "q3", "sum", "rms",
)  # fmt: skip
OURS = SceneDriver(policy=rasters.POLICY)
SIDE = 300


def item(name, href, grid, *bands, asset="B04", time="2024-05-01T10:00:00Z"):
    footprint = grid.footprint("EPSG:4326")
    found = pystac.Item(
        name, shapely.geometry.mapping(footprint.geom), list(footprint.boundingbox.bbox),
        dt.datetime.fromisoformat(time),
        {"proj:code": str(grid.crs), "proj:shape": list(grid.shape), "proj:transform": list(grid.transform[:6]),
         "eo:cloud_cover": 5},
        stac_extensions=EXTENSIONS, collection="places",
    )  # fmt: skip
    more = {"raster:bands": list(bands)} if bands else {}
    found.add_asset(
        asset, pystac.Asset(href, media_type=pystac.MediaType.COG, roles=["data"], extra_fields=more)
    )  # fmt: skip
    return found


def described(dtype, nodata):
    said = "nan" if nodata is not None and np.isnan(nodata) else nodata
    return {"data_type": dtype} | ({} if nodata is None else {"nodata": said})


def holed(dtype, nodata, seed=0, side=SIDE):
    pixels = rasters.picture(1, side, side - 50, dtype, seed=seed)
    pixels[:, 100:150, 120:230] = 0 if nodata is None else nodata
    return pixels


def cog(pixels, **options):
    return rasters.tiff(
        pixels, overviews=(2, 4), tiled=True, blockxsize=64, blockysize=64, compress="deflate", **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("odc"), {}
    for dtype, nodata in TYPES.items():
        data = cog(holed(dtype, nodata), nodata=nodata)
        path = folder / f"{dtype}.tif"
        path.write_bytes(data)
        found[dtype] = item("a", str(path), rasters.grid_of(data), described(dtype, nodata))
    return found


def grid_of(one):
    return GeoBox(one.properties["proj:shape"], Affine(*one.properties["proj:transform"]), rasters.UTM)


def both(items, **arguments):
    """What odc-stac's own driver and ours give, as datasets."""
    arguments = {"resampling": "nearest"} | arguments
    return odc.stac.load(items, **arguments), odc.stac.load(items, driver=OURS, **arguments)


def same(one, other):
    assert list(one) == list(other)
    for name, band in one.items():
        np.testing.assert_array_equal(band, other[name])
        assert (band.dtype, str(band.attrs)) == (other[name].dtype, str(other[name].attrs))


def degrees(grid, resolution):
    return GeoBox.from_bbox(grid.footprint("EPSG:4326").boundingbox, "EPSG:4326", resolution=resolution)


# --- pixels of odc-stac's own driver ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
def test_pixels_equal_those_of_odc_stacs_own_driver(files, dtype):
    grid = grid_of(files[dtype])
    targets = {
        "same": grid, "part": grid[37:211, 55:200], "beyond": grid.pad(30), "half": grid.zoom_out(2),
        "third": grid.zoom_out(3), "3.9": grid.zoom_out(3.9), "ninth": grid.zoom_out(9), "finer": grid.zoom_out(0.4),
        "moved": GeoBox(grid.shape, grid.transform * Affine.translation(0.3, 0.7), grid.crs),
        "degrees": degrees(grid, 1e-4), "coarse degrees": degrees(grid, 5e-4),
    }  # fmt: skip
    compared = 0
    for (name, target), method, overviews in itertools.product(targets.items(), METHODS, (True, False)):
        if method == "nearest" and "degrees" in name:
            continue
        if name not in ("half", "3.9", "degrees") and not (overviews and method in METHODS[:7]):
            continue
        same(*both([files[dtype]], geobox=target, resampling=method, use_overviews=overviews))
        compared += 1
    assert compared > 100


@pytest.mark.parametrize("resolution", [1e-4, 5e-4])
def test_nearest_in_another_crs_differs_only_where_gdal_approximates(files, resolution):
    """GDAL's place may be an eighth of a source pixel off; ours a fiftieth, and alike in every chunk."""
    one = files["uint16"]
    grid = grid_of(one)
    target = degrees(grid, resolution)
    theirs, ours = (found.B04.values[0] for found in both([one], geobox=target, use_overviews=False))
    xs, ys = np.meshgrid(np.arange(target.shape[1]) + 0.5, np.arange(target.shape[0]) + 0.5)
    lon, lat = target.transform * (xs, ys)
    columns, rows = ~grid.transform * target.crs.transformer_to_crs(grid.crs)(lon, lat)
    differ = theirs != ours
    to_edge = np.minimum(np.abs(columns - np.rint(columns)), np.abs(rows - np.rint(rows)))
    assert 0 < differ.mean() < 0.05
    assert to_edge[differ].max() < 0.125
    inside = (columns > 0) & (columns < grid.shape[1]) & (rows > 0) & (rows < grid.shape[0])
    pixels = holed("uint16", 0)[0]
    exact = np.zeros_like(ours)
    exact[inside] = pixels[rows[inside].astype(int), columns[inside].astype(int)]
    clear = to_edge > 0.02  # places of pixels are interpolated between exact ones
    np.testing.assert_array_equal(ours[clear], exact[clear])
    parts = odc.stac.load([one], driver=OURS, geobox=target, use_overviews=False, chunks={"x": 70, "y": 55})
    np.testing.assert_array_equal(parts.B04.values[0], ours)


def test_what_else_differs_and_why(tmp_path):
    pixels = holed("float32", None)
    pixels[0, :10] = np.inf
    hidden = np.ones(pixels.shape[1:], bool)
    hidden[200:220] = False
    data = cog(pixels, mask=hidden)
    path = tmp_path / "masked.tif"
    path.write_bytes(data)
    grid = rasters.grid_of(data)
    one = item("a", str(path), grid, {"data_type": "float32"})
    theirs, ours = (found.B04.values[0] for found in both([one], geobox=grid))
    assert np.isinf(theirs[:10]).all()  # they keep infinity
    assert np.isnan(ours[:10]).all()
    assert np.isfinite(theirs[200:220]).all()  # and copy what the file's mask hides, though not when they warp:
    assert np.isnan(ours[200:220]).all()
    theirs, ours = (found.B04.values[0] for found in both([one], geobox=grid.zoom_out(2), resampling="average"))
    assert np.isnan(theirs[101:109]).all()
    assert np.isnan(ours[101:109]).all()
    # half a pixel aside is a tie: they take the pixel before, we the one behind
    half = GeoBox(grid.shape, grid.transform * Affine.translation(0.5, 0.5), grid.crs)[20:90]
    theirs, ours = (found.B04.values[0] for found in both([one], geobox=half))
    np.testing.assert_array_equal(theirs, pixels[0, 20:90])
    np.testing.assert_array_equal(ours[:, :-1], pixels[0, 21:91, 1:])


# --- arguments of odc.stac.load ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory):
    """Four overlapping items of two days, the second of which is given first."""
    folder, found = tmp_path_factory.mktemp("mosaic"), []
    for number, (east, when) in enumerate([(0, "02T10"), (800, "02T10"), (0, "01T10"), (1200, "01T11")]):
        pixels = holed("uint16", 0, seed=number, side=250)
        place = Affine(10, 0, 5e5 + east, 0, -10, 5e6)
        data = cog(pixels, nodata=0, transform=place)
        path = folder / f"{number}.tif"
        path.write_bytes(data)
        time = f"2024-05-{when}:00:00Z"
        found.append(item(f"i{number}", str(path), rasters.grid_of(data), described("uint16", 0), time=time))
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        {}, {"groupby": "solar_day"}, {"groupby": "solar_day", "preserve_original_order": True}, {"groupby": "id"},
        {"groupby": "solar_day", "fuse_func": f"{__name__}.larger"}, {"groupby": "collection"},
        {"dtype": "float32"}, {"dtype": "int32", "nodata": -1}, {"nodata": 5}, {"crs": "EPSG:3857", "resolution": 20,
        "resampling": "cubic"}, {"resampling": {"*": "average"}, "resolution": 30}, {"chunks": {"x": 64, "y": 100}},
        {"chunks": {}, "groupby": "solar_day"}, {"chunks": {"time": 2, "x": 100, "y": 64}},
        {"bbox": (3.0, 45.13, 3.02, 45.15)}, {"bands": "B04", "pool": 2}, {"with_properties": ["eo:cloud_cover"]},
    ],
)  # fmt: skip
def test_arguments_mean_what_odc_stac_documents(mosaic, arguments):
    theirs, ours = both(mosaic, **arguments)
    assert theirs.odc.geobox == ours.odc.geobox
    np.testing.assert_array_equal(theirs.time, ours.time)
    theirs, ours = theirs.compute(), ours.compute()
    np.testing.assert_array_equal(theirs.B04, ours.B04)
    assert (theirs.B04.dtype, theirs.B04.attrs) == (ours.B04.dtype, ours.B04.attrs)
    assert set(theirs) == set(ours)


def larger(target, source):
    np.copyto(target, source, where=source > target)


def test_the_bands_of_one_asset(tmp_path):
    pixels = rasters.picture(3, 100, 90, "uint8")
    data = cog(pixels)
    path = tmp_path / "rgb.tif"
    path.write_bytes(data)
    grid = rasters.grid_of(data)
    one = item("a", str(path), grid, *[described("uint8", None)] * 3, asset="image")
    for bands in (None, ["image.1", "image.3"], ["image.2"]):
        theirs, ours = both([one], bands=bands)
        same(theirs, ours)
    np.testing.assert_array_equal(ours["image.2"].values[0], pixels[1])
    dims = {"first": ("band", "y", "x"), "last": ("y", "x", "band")}
    for order in dims.values():  # all bands as one variable, with either order of dimensions
        meta = RasterBandMetadata("uint8", dims=order)
        source = RasterSource(str(path), band=0, meta=meta)
        wanted = RasterLoadParams("uint8", dims=order, meta=meta)
        found = []
        for driver in (RioDriver(), OURS):
            with driver.restore_env(driver.capture_env(), driver.new_load(grid)) as context:
                found.append(driver.open(source, context).read(wanted, grid[10:40, 20:70]))
        assert found[0][0] == found[1][0]
        np.testing.assert_array_equal(found[0][1], found[1][1])


@pytest.mark.parametrize(
    "more",
    [
        {}, {"src_nodata_fallback": 7}, {"src_nodata_override": 7}, {"src_nodata_override": 7, "fill_value": 1},
        {"fill_value": 1}, {"fill_value": 1, "src_nodata_fallback": 7, "resampling": "bilinear"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("nodata", [None, 3])
def test_nodata_of_the_source_falls_back_or_is_overridden(tmp_path, more, nodata):
    data = rasters.tiff(np.random.default_rng(0).integers(1, 9, (1, 40, 40), "uint8"), nodata=nodata)
    (tmp_path / "few.tif").write_bytes(data)
    grid = rasters.grid_of(data)
    target = grid.zoom_out(2) if "resampling" in more else grid[3:20, 5:30]
    source = RasterSource(str(tmp_path / "few.tif"))
    found = []
    for driver in (RioDriver(), OURS):
        with driver.restore_env(driver.capture_env(), driver.new_load(grid)) as context:
            found.append(driver.open(source, context).read(RasterLoadParams("uint8", **more), target))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_numbers_are_rounded_where_a_type_is_asked_for_and_refused_where_the_item_errs(tmp_path):
    pixels = rasters.picture(1, 20, 20, "float32") * 100 + 0.25
    data = rasters.tiff(pixels)
    (tmp_path / "f.tif").write_bytes(data)
    grid = rasters.grid_of(data)
    right = item("a", str(tmp_path / "f.tif"), grid, described("float32", None))
    wrong = item("a", str(tmp_path / "f.tif"), grid, described("uint8", None))
    same(*both([right], geobox=grid, dtype="uint8"))
    with pytest.raises(SourceError, match="do not fit the uint8 wanted"):
        odc.stac.load([wrong], driver=OURS, geobox=grid)


def test_an_unknown_resampling_lists_what_there_is(files):
    with pytest.raises(SourceError, match="'gauss' is not supported: use one of nearest, auto, bilinear"):
        odc.stac.load([files["uint8"]], driver=OURS, resampling="gauss")


@pytest.mark.cluster
def test_on_a_cluster(mosaic):
    from distributed import Client, LocalCluster

    arguments = {"groupby": "solar_day", "chunks": {"x": 100, "y": 100}}
    wanted = odc.stac.load(mosaic, **arguments).compute(scheduler="threads")
    lost = replace_href(mosaic[1], "/nowhere/b.tif")
    assert pickle.loads(pickle.dumps(OURS)) == OURS
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster),
    ):
        same(odc.stac.load(mosaic, driver=OURS, **arguments).compute(), wanted)
        with pytest.raises(SourceError, match=r"nowhere/b\.tif"):
            odc.stac.load([mosaic[0], lost], driver=OURS, **arguments).compute()


# --- over HTTP -----------------------------------------------------------------------------------------


def replace_href(one, href):
    other = pystac.Item.from_dict(one.to_dict())
    other.assets["B04"].href = href
    return other


@pytest.fixture
def server():
    with FaultServer() as found:
        yield found


@pytest.fixture
def remote(server):
    """Two items of one time that overlap, the first over HTTP."""
    items = []
    for number in (0, 1):
        data = cog(holed("uint16", 0, seed=number), nodata=0)
        server.files[f"/{number}.tif"] = data
        one = item(
            f"i{number}",
            f"{server.url}/{number}.tif",
            rasters.grid_of(data),
            described("uint16", 0),
        )
        items.append(one)
    return items


THEIRS = """
import json, sys
import odc.stac, pystac
for doc, arguments in json.load(sys.stdin):
    odc.stac.load([pystac.Item.from_dict(doc)], **arguments).compute(scheduler="synchronous")
"""
HEALTHY = {
    "all": {}, "part": {"bbox": (3.005, 45.135, 3.012, 45.14)}, "dask": {"chunks": {"x": 128, "y": 128}},
    "half": {"resolution": 20},
    "degrees": {"crs": "EPSG:4326", "resolution": 3e-4, "resampling": "bilinear"},
}  # fmt: skip


HEADER = 48 << 10  # we fetch 64 KiB of a file at once to begin with, GDAL 16: no more requests, but more bytes


def test_no_more_requests_and_few_more_bytes(server, remote):
    """GDAL keeps the interpreter's lock while it opens a file, so that their side runs in a process of its own."""
    loads = []
    for name, arguments in HEALTHY.items():
        server.files[f"/{name}.tif"] = server.files["/0.tif"]
        loads.append((replace_href(remote[0], f"{server.url}/{name}.tif").to_dict(), arguments))
    subprocess.run([sys.executable, "-c", THEIRS], input=json.dumps(loads).encode(), check=True)
    asked, theirs = Counter(seen.path for seen in server.seen), server.bytes_sent
    server.forget()
    for doc, arguments in loads:
        scene = odc.stac.load([pystac.Item.from_dict(doc)], driver=OURS, **arguments)
        scene.compute(scheduler="synchronous")
    ours = Counter(seen.path for seen in server.seen)
    assert server.bytes_sent <= theirs + len(HEALTHY) * HEADER, (ours, asked)
    assert all(ours[path] <= count for path, count in asked.items()), (ours, asked)


FAULTS = {
    "503 once": [Status(503)],
    "429, then 500": [Status(429), Status(500)],
    "reset": [Reset(100)],
    "cut short": [None, Truncate(100)],
    "wrong bytes": [None, Wrong(0, 400)],
    "wrong bytes in the header": [Wrong(8, 200)],
    "whole file for a range": [NoRanges(), NoRanges()],
    "another range": [None, OtherRange(64)],
    "more than asked": [None, TooMuch(1 << 16)],
    "silence": [None, Stall(50, 2.0)],
    "404 for good": lambda _: Status(404),
    "an error page with 200": lambda _: Status(200, {}, b"<html>please log in</html>"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_right_pixels_or_an_error_under_faults(server, remote, fault):
    wanted = odc.stac.load(remote, driver=OURS)
    server.forget()
    path = f"/{fault.replace(' ', '-').replace(',', '')}.tif"
    server.files[path] = server.files["/0.tif"]
    script = FAULTS[fault]
    server.script(path, *([script] if callable(script) else script))
    items = [replace_href(remote[0], server.url + path), remote[1]]
    hasty = SceneDriver(policy=rasters.HASTY_POLICY if fault == "silence" else rasters.POLICY)
    if callable(script):
        with pytest.raises(SourceError, match=path):
            odc.stac.load(items, driver=hasty)
    else:
        np.testing.assert_array_equal(odc.stac.load(items, driver=hasty).B04, wanted.B04)


def test_a_source_that_is_left_out_is_named_once(server, remote):
    server.script("/0.tif", lambda _: Status(404))
    for chunks in (None, {"x": 64, "y": 64}):
        with pytest.warns(RemoteSAMWarning) as told:
            found = odc.stac.load(remote, driver=OURS, fail_on_error=False, chunks=chunks).compute()
        told = [one for one in told if one.category is RemoteSAMWarning]
        assert len(told) == 1
        assert f"{server.url}/0.tif" in str(told[0].message)
        assert "404" in str(told[0].message)
        np.testing.assert_array_equal(found.B04.values[0], holed("uint16", 0, seed=1)[0])


def test_signed_at_the_read(server, remote):
    key = "one"
    server.script("/0.tif", lambda _: Unsigned(lambda: {key}))
    policy = replace(
        rasters.POLICY, signers=(HrefSigner(sign=lambda href: f"{href}?sig={key}", hosts=(server.url,)),)
    )  # fmt: skip
    scene = odc.stac.load(remote[:1], driver=SceneDriver(policy=policy), chunks={"x": 128, "y": 128})
    key = "two"  # renewed after the graph was built
    np.testing.assert_array_equal(scene.B04.values[0], holed("uint16", 0)[0])
    assert "sig=" not in str(list(scene.B04.data.dask.values()))
    with warnings.catch_warnings(), pytest.raises(SourceError, match="403"):
        odc.stac.load(remote[:1], driver=OURS)
