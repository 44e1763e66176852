"""Pixels on another grid: untouched where grids agree, averaged where coarser, valid where they were."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.loader.types import RasterLoadParams, RasterSource

from remotesam_geo.raster import nesting as px
from remotesam_geo.raster import read as onto
from remotesam_geo.raster import session as raster
from remotesam_geo.raster.odc_driver import (
    AssetBands,
    ReadPolicy,
    SceneDriver,
    SourceError,
    fuse_first,
    fuse_last,
    inspect,
)
from tests.raster import rasters

RASTERS = Path(__file__).parents[1] / "data" / "rasters"
SIDE = 96
PIXELS = rasters.picture(3, SIDE, SIDE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rasters")


def written(folder: Path, name: str, data: bytes) -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


def local(href, target, bands=(1, 2, 3), **options):
    return rasters.read(str(href), target, bands, origin=None, **options)


@pytest.fixture(scope="module")
def plain(folder):
    return written(folder, "plain.tif", rasters.tiff(PIXELS, tiled=True, blockxsize=32, blockysize=32))


GRID = rasters.grid_of(rasters.tiff(PIXELS))


# --- copying -----------------------------------------------------------------------------------


@given(
    top=st.integers(-40, SIDE + 40),
    left=st.integers(-40, SIDE + 40),
    height=st.integers(1, 80),
    width=st.integers(1, 80),
    shift=st.floats(-0.049, 0.049),
)
def test_pixels_of_the_same_grid_are_copied(  # noqa: PLR0917
    plain, top, left, height, width, shift
):
    target = GeoBox((height, width), GRID.transform * Affine.translation(left + shift, top - shift), GRID.crs)
    planes, valid = local(plain, target)
    padded = np.zeros((3, SIDE + 240, SIDE + 240), "uint8")
    padded[:, 120 : 120 + SIDE, 120 : 120 + SIDE] = PIXELS
    inside = np.zeros(padded.shape[1:], bool)
    inside[120 : 120 + SIDE, 120 : 120 + SIDE] = True
    window = np.s_[120 + top : 120 + top + height, 120 + left : 120 + left + width]
    assert np.array_equal(planes, padded[(slice(None), *window)])
    assert np.array_equal(valid, inside[window])


@pytest.mark.parametrize("flips", [(1, -1), (-1, 1), (-1, -1)])
def test_a_grid_that_runs_the_other_way_is_copied_turned(plain, flips):
    y, x = flips
    shift = Affine.translation(0 if x > 0 else SIDE, 0 if y > 0 else SIDE)
    target = GeoBox((SIDE, SIDE), GRID.transform * shift * Affine.scale(x, y), GRID.crs)
    planes, valid = local(plain, target)
    assert np.array_equal(planes, PIXELS[:, ::y, ::x])
    assert valid.all()


def test_the_order_and_repetition_of_bands_is_as_asked(plain):
    planes, _ = local(plain, GRID, (3, 1, 3))
    assert np.array_equal(planes, PIXELS[[2, 0, 2]])


# --- averaging ---------------------------------------------------------------------------------


def slow_mean(planes, valid, size):
    """The mean of the valid pixels of each block, said plainly."""
    ky, kx = size
    bands, height, width = planes.shape
    out = np.zeros((bands, height // ky, width // kx), planes.dtype)
    known = np.zeros(out.shape[1:], bool)
    for y, x in np.ndindex(*out.shape[1:]):
        block = np.s_[y * ky : (y + 1) * ky, x * kx : (x + 1) * kx]
        if valid[block].any():
            known[y, x] = True
            for band in range(bands):
                mean = planes[band][block][valid[block]].astype("float64").mean()
                integers = planes.dtype.kind in "ui"
                out[band, y, x] = np.floor(mean + 0.5) if integers else mean
    return out, known


@given(
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    dtype=st.sampled_from(["uint8", "int16", "uint16", "float32"]),
    share=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 99),
)
def test_block_mean_is_the_mean_of_the_valid(size, shape, dtype, share, seed):
    rng = np.random.default_rng(seed)
    pixel_shape = (2, size[0] * shape[0], size[1] * shape[1])
    low, high = (-300, 300) if dtype in ("int16", "float32") else (0, 255)
    planes = rng.integers(low, high, pixel_shape).astype(dtype)
    valid = rng.random(pixel_shape[1:]) < share
    found, known = px.block_mean(planes, valid, size)
    expected, expected_known = slow_mean(planes, valid, size)
    assert np.array_equal(known, expected_known)
    assert np.allclose(found[:, known], expected[:, known], rtol=1e-6)
    assert found.dtype == planes.dtype


@given(seed=st.integers(0, 99), size=st.tuples(st.integers(1, 3), st.integers(1, 4)))
def test_block_mode_is_the_most_frequent_of_the_valid(seed, size):
    rng = np.random.default_rng(seed)
    planes = rng.integers(0, 4, (1, size[0] * 3, size[1] * 3)).astype("uint8")
    valid = rng.random(planes.shape[1:]) < 0.7
    found, known = px.block_mode(planes, valid, size)
    for y, x in np.ndindex(3, 3):
        block = np.s_[y * size[0] : (y + 1) * size[0], x * size[1] : (x + 1) * size[1]]
        values, counts = np.unique(planes[0][block][valid[block]], return_counts=True)
        assert known[y, x] == bool(len(values))
        if len(values):
            assert found[0, y, x] == values[counts.argmax()]


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_whole_multiple_is_the_exact_average(plain, factor):
    target = GRID.zoom_out(factor)
    planes, valid = local(plain, target)
    expected, _ = slow_mean(PIXELS, np.ones((SIDE, SIDE), bool), (factor, factor))
    assert np.array_equal(planes, expected)
    assert valid.all()


def test_other_scales_are_averages_too_and_never_picked(plain):
    checker = np.indices((SIDE, SIDE)).sum(axis=0) % 2 * 200
    data = rasters.tiff(np.stack([checker] * 3).astype("uint8"))
    target = GRID.zoom_to((37, 41))
    with rasterio.MemoryFile(data) as memory:
        path = memory.name
        planes, valid = local(path, target)
    assert valid.all()
    assert planes.min() > 60
    assert planes.max() < 140  # nearest would give 0 and 200


def test_an_overview_is_used_where_it_is_fine_enough(folder):
    data = bytearray(rasters.tiff(PIXELS, overviews=(2, 4), tiled=True, blockxsize=16, blockysize=16))
    path = written(folder, "levels.tif", bytes(data))
    with rasterio.open(path, overview_level=0) as half:
        expected = half.read()
    planes, _ = local(path, GRID.zoom_out(2))
    assert np.array_equal(planes, expected)
    fourth, _ = local(path, GRID.zoom_out(4))
    with rasterio.open(path, overview_level=1) as quarter:
        assert np.array_equal(fourth, quarter.read())
    third, _ = local(path, GRID.zoom_out(3))  # from the half by averaging, never from the quarter
    assert abs(third.astype(float).mean() - PIXELS.mean()) < 1


# --- warping -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resolution", "method", "most"),
    # GDAL weighs an average by area, we by distance too: alike, not equal
    [(10.0, "bilinear", 1), (6.0, "bilinear", 1), (16.0, "average", 8), (37.0, "average", 5)],
)
def test_another_crs_is_what_gdals_warper_makes_of_the_whole(plain, resolution, method, most):
    target = GRID.to_crs("EPSG:3857", resolution=resolution * 1.4)
    planes, valid = local(plain, target)
    expected = np.zeros((3, *target.shape), "uint8")
    inside = np.zeros(target.shape, "uint8")
    for source, out in ((PIXELS, expected), (np.full((SIDE, SIDE), 255, "uint8"), inside)):
        rasterio.warp.reproject(
            source, out, src_transform=GRID.transform, src_crs=str(GRID.crs),
            dst_transform=target.transform, dst_crs=str(target.crs),
            resampling=rasterio.enums.Resampling[method], tolerance=0, src_nodata=None,
        )  # fmt: skip
    middle = np.s_[2:-2, 2:-2]
    both = valid[middle] & (inside[middle] > 0)
    assert both.mean() > 0.8
    differences = planes[:, 2:-2, 2:-2][:, both].astype(int) - expected[:, 2:-2, 2:-2][:, both]
    assert np.abs(differences).max() <= most
    assert np.abs(differences).mean() < 1
    assert abs(differences.mean()) < 0.2
    assert (valid[middle] == (inside[middle] > 0)).mean() > 0.97


@settings(max_examples=30)
@given(
    rows=st.lists(st.integers(1, 60), min_size=1, max_size=3),
    cols=st.lists(st.integers(1, 60), min_size=1, max_size=3),
    resolution=st.sampled_from([9.0, 14.0, 30.0, 45.0, 97.0]),
    crs=st.sampled_from(["EPSG:3857", "EPSG:32632", "EPSG:32631"]),
)
def test_any_chunking_gives_the_same_pixels(holed, rows, cols, resolution, crs):
    target = GRID.to_crs(crs, resolution=resolution)
    planes, valid = local(holed, target)
    ys = [0, *sorted({r for r in rows if r < target.shape[0]}), target.shape[0]]
    xs = [0, *sorted({c for c in cols if c < target.shape[1]}), target.shape[1]]
    for top, bottom in itertools.pairwise(ys):
        for left, right in itertools.pairwise(xs):
            found, known = local(holed, target[top:bottom, left:right])
            assert np.array_equal(found, planes[:, top:bottom, left:right])
            assert np.array_equal(known, valid[top:bottom, left:right])


@pytest.fixture(scope="module")
def holed(folder):
    mask = np.ones((SIDE, SIDE), bool)
    mask[30:50, 20:70] = False
    data = rasters.tiff(PIXELS, mask=mask, tiled=True, blockxsize=32, blockysize=32)
    return written(folder, "holed.tif", data)


def test_where_grids_do_not_meet_nothing_is_read(plain):
    far = GeoBox((10, 10), Affine(10, 0, 9e5, 0, -10, 1e6), GRID.crs)
    for target in (
        far,
        far.to_crs("EPSG:4326"),
        GeoBox.from_bbox((100, -40, 101, -39), shape=(5, 5)),
    ):
        _, valid = local(plain, target)
        assert not valid.any()


def test_a_target_on_the_other_side_of_the_world(plain):
    target = GeoBox.from_bbox((-180, -90, 180, 90), "EPSG:4326", shape=(18, 36))
    _, valid = local(plain, target)
    assert valid.sum() <= 4


def test_a_raster_without_overviews_is_averaged_in_parts(plain, monkeypatch):
    targets = [GRID.zoom_out(8), GRID.to_crs("EPSG:3857", resolution=83.0)]
    expected = [local(plain, target) for target in targets]
    monkeypatch.setattr(onto, "MOST_AT_ONCE", 5000)
    for target, (planes, valid) in zip(targets, expected, strict=True):
        found, known = local(plain, target)
        assert np.array_equal(found, planes)
        assert np.array_equal(known, valid)
    with pytest.raises(SourceError, match="no overview that coarse"):
        local(plain, GRID.zoom_out(96))


# --- validity ----------------------------------------------------------------------------------


def test_what_is_masked_takes_no_part_in_an_average(folder):
    planes = np.full((3, 8, 8), 100, "uint8")
    planes[:, :, 4:] = 7
    planes[:, 0, 0] = 250
    mask = np.ones((8, 8), bool)
    mask[:, 4:] = False
    mask[0, 0] = False
    path = written(folder, "masked.tif", rasters.tiff(planes, mask=mask))
    grid = rasters.grid_of(rasters.tiff(planes))
    found, valid = local(path, grid.zoom_out(2))
    assert np.array_equal(valid, np.arange(4)[None].repeat(4, 0) < 2)
    assert (found[:, valid] == 100).all()
    warped, known = local(path, grid.to_crs("EPSG:3857", resolution=22.0))
    assert known.any()
    assert (warped[:, known] == 100).all()


def test_a_pixel_has_no_data_where_all_its_bands_say_so(folder):
    planes = rasters.picture(3, 20, 20)
    planes[:, :5] = 7
    planes[0, 10:] = 7  # in one band
    path = written(folder, "seven.tif", rasters.tiff(planes, nodata=7))
    grid = rasters.grid_of(rasters.tiff(planes))
    _, valid = local(path, grid)
    assert not valid[:5].any()
    assert valid[5:].all()
    _, valid = local(path, grid, nodata=None)
    assert valid.all()
    _, valid = local(path, grid, nodata=3)
    assert valid[:5].all()


def test_white_is_a_colour_unless_the_user_says_otherwise(folder):
    planes = rasters.picture(3, 20, 20)
    planes[:, :5] = 255
    path = written(folder, "white.tif", rasters.tiff(planes, nodata=255))
    grid = rasters.grid_of(rasters.tiff(planes))
    assert local(path, grid)[1].all()
    assert not local(path, grid, nodata=255)[1][:5].any()


def test_nan_is_never_valid(folder):
    planes = rasters.picture(1, 20, 20, "float32")
    planes[0, 3, 4] = np.nan
    path = written(folder, "nan.tif", rasters.tiff(planes))
    found, valid = local(path, rasters.grid_of(rasters.tiff(planes)), (1,))
    assert valid.sum() == 399
    assert not valid[3, 4]
    halved, known = local(path, rasters.grid_of(rasters.tiff(planes)).zoom_out(2), (1,))
    assert known.all()
    assert np.isfinite(halved).all()
    assert np.isnan(found[0, 3, 4])


@pytest.mark.parametrize("name", ["naip_nir_called_alpha.tif", "naip_nir_called_alpha_bright.tif"])
def test_near_infrared_that_is_called_alpha_masks_nothing(name):
    with rasterio.open(RASTERS / name) as file:
        assert file.colorinterp[3].name == "alpha"
        grid = GeoBox(file.shape, file.transform, str(file.crs))
        expected = file.read([1, 2, 3])
    planes, valid = local(RASTERS / name, grid)
    assert valid.all()
    assert np.array_equal(planes, expected)


def test_alpha_is_judged_once_a_file(folder, monkeypatch):
    planes = rasters.picture(4, 60, 60)
    path = written(folder, "nir.tif", rasters.tiff(planes, photometric="rgb", alpha="yes"))
    judged = []
    looks = onto.Reading._looks_like_alpha
    monkeypatch.setattr(onto.Reading, "_looks_like_alpha", lambda self, n: judged.append(n) or looks(self, n))
    for _ in range(3):
        assert local(path, rasters.grid_of(rasters.tiff(planes)))[1].all()
    assert judged == [4]


def test_a_true_alpha_band_is_a_mask():
    with rasterio.open(RASTERS / "rgba.tif") as file:
        alpha = file.read(4)
        grid = GeoBox(file.shape, file.transform, str(file.crs))
    _, valid = local(RASTERS / "rgba.tif", grid)
    assert np.array_equal(valid, alpha > 0)
    _, valid = local(RASTERS / "rgba.tif", grid, alpha=False)
    assert valid.all()
    _, valid = local(RASTERS / "naip_nir_called_alpha.tif", grid, alpha=True)
    assert not valid.all()


def test_the_real_mask_of_an_aerial_photograph():
    path = RASTERS / "aerial_internal_mask.tif"
    with rasterio.open(path) as file:
        mask = file.dataset_mask() > 0
        grid = GeoBox(file.shape, file.transform, str(file.crs))
    _, valid = local(path, grid)
    assert np.array_equal(valid, mask)


# --- odc-loader's interface ----------------------------------------------------------------------


def test_a_plain_band_has_the_fill_value_where_it_is_not_valid(holed):
    opened = SceneDriver().open(RasterSource(uri=holed, band=2), None)
    wanted = RasterLoadParams(dtype="int16", fill_value=-1, resampling="auto")
    roi, found = opened.read(wanted, GRID)
    assert roi == (slice(0, SIDE), slice(0, SIDE))
    assert found.shape == (SIDE, SIDE)
    assert (found[30:50, 20:70] == -1).all()
    assert np.array_equal(found[:30], PIXELS[1, :30])
    out = np.full((SIDE, SIDE), 9, "int16")
    opened.read(wanted, GRID, dst=out)
    assert np.array_equal(out, found)


def test_values_that_do_not_fit_the_type_wanted_are_an_error(folder):
    planes = rasters.picture(1, 10, 10, "uint16")
    path = written(folder, "wide.tif", rasters.tiff(planes))
    opened = SceneDriver().open(RasterSource(uri=path), None)
    with pytest.raises(SourceError, match=r"\(uint16, 2\d+ to 3\d+\) do not fit the uint8"):
        opened.read(RasterLoadParams(dtype="uint8"), rasters.grid_of(rasters.tiff(planes)))


def test_a_band_that_is_not_there_is_an_error_that_says_how_many_are(plain):
    with pytest.raises(SourceError, match=r"has 3 bands, but bands \(4,\) are wanted"):
        local(plain, GRID, (4,))


def test_a_raster_without_place_takes_it_from_its_item_or_is_an_error(folder):
    path = str(folder / "nowhere.tif")
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):  # as it should be
        data = rasters.tiff(PIXELS, crs=None, transform=Affine.identity())
    Path(path).write_bytes(data)
    with pytest.raises(SourceError, match="neither the raster nor its item"):
        local(path, GRID)
    source = RasterSource(uri=path, geobox=GRID.zoom_out(2))  # the item speaks of another size
    _, found = SceneDriver().open(source, None).read(RasterLoadParams(resampling="auto"), GRID)
    assert np.array_equal(found, PIXELS[0])


def test_ground_control_points_are_refused_with_a_remedy():
    with pytest.raises(SourceError, match="orthorectify"):
        local(RASTERS / "au_gcp.tif", GRID, (1,))


def test_fusers_take_whole_pixels():
    first = np.array([[[1, 0, 3]], [[4, 0, 6]], [[1, 0, 1]]], "uint8")
    second = np.array([[[7, 7, 7]], [[0, 0, 0]], [[1, 1, 0]]], "uint8")
    kept, newer = first.copy(), first.copy()
    fuse_first(kept, second)
    fuse_last(newer, second)
    assert kept.tolist() == [[[1, 7, 3]], [[4, 0, 6]], [[1, 1, 1]]]
    assert newer.tolist() == [[[7, 7, 3]], [[0, 0, 6]], [[1, 1, 1]]]


def test_odc_stac_loads_through_the_driver(plain):
    import datetime as dt
    import pickle

    import odc.stac
    import pystac
    import shapely
    from odc.loader.types import RasterBandMetadata, RasterGroupMetadata

    from remotesam_geo.raster.odc_driver import FUSE_FIRST, AssetRef

    footprint = GRID.footprint("EPSG:4326").boundingbox
    item = pystac.Item(
        "a", shapely.geometry.mapping(shapely.box(*footprint)), list(footprint),
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC), {},
    )  # fmt: skip
    item.add_asset("image", pystac.Asset(plain, media_type=pystac.MediaType.COG, roles=["data"]))

    class Parser:
        def extract(self, md: object) -> RasterGroupMetadata:
            del md
            bands = AssetBands(indexes=(1, 2, 3))
            meta = RasterBandMetadata("uint8", dims=("image_band", "y", "x"), driver_data=bands)
            return RasterGroupMetadata({("image", 1): meta}, extra_dims={"image_band": 4})

        def driver_data(self, md: pystac.Item, key: tuple[str, int]) -> AssetRef:
            return AssetRef(item=md.id, asset=key[0])

    driver = SceneDriver(md_parser=Parser())
    scene = odc.stac.load(
        [item], driver=driver, geobox=GRID, chunks={"x": 40, "y": 50}, resampling="auto",
        fuse_func={"*": FUSE_FIRST},
    )  # fmt: skip
    found = scene["image"].compute().values[0]
    assert np.array_equal(found[:3], PIXELS)
    assert (found[3] == 1).all()
    assert pickle.loads(pickle.dumps(SceneDriver())) == SceneDriver()


def test_inspect_says_what_the_raster_says():
    info = inspect(str(RASTERS / "scale_offset.tif"))
    with rasterio.open(RASTERS / "scale_offset.tif") as file:
        assert info.shape == file.shape
        assert info.dtypes == file.dtypes
        assert info.nodata == file.nodatavals
        assert info.scales == file.scales
        assert info.overviews == tuple(file.overviews(1))
        assert info.geobox == GeoBox(file.shape, file.transform, file.crs.to_wkt())
    assert raster.RasterInfo is type(info)
    assert ReadPolicy() == ReadPolicy()
