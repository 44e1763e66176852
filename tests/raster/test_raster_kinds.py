"""Masks, overviews, bands and files that mislead: what is not valid never passes as data, and no data is lost."""

import threading
from pathlib import Path

import cv2
import dask
import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.windows import Window

from remotesam_geo import open_raster, render
from remotesam_geo.errors import InputError, RemoteSAMWarning
from remotesam_geo.net.trust import DamagedError
from remotesam_geo.raster import handles
from remotesam_geo.raster.info import usable_levels
from remotesam_geo.raster.odc_driver import inspect
from remotesam_geo.raster.session import Session, deadline
from remotesam_geo.raster.warp import warp
from tests.raster.rasters import POLICY, read
from tests.scenes.places import grid, noise, write

UTM = "EPSG:32631"
WEST, NORTH = 500_000, 5_000_000
PLACE = grid(WEST, NORTH, 10)


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def local(path, target, bands=(1,), **options):
    return read(str(path), target, bands, origin=None, **options)


def box(path):
    with rasterio.open(path) as file:
        return GeoBox(file.shape, file.transform, str(file.crs))


class TestNotFinite:
    """Numbers that are not finite are not valid, and spoil no neighbour."""

    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("shift", [0.0, 0.25, 0.5, 1 / 64])
    def test_a_warp_takes_nothing_of_them(self, dtype, bad, shift):
        pixels = np.arange(2 * 12 * 12, dtype=dtype).reshape(2, 12, 12) / 4
        valid = np.ones((12, 12), bool)
        valid[3, 4] = valid[7:, 9:] = False
        pixels[:, ~valid] = bad
        source = GeoBox((12, 12), Affine(10, 0, 0, 0, -10, 0), UTM)
        target = GeoBox((11, 11), source.transform * Affine.translation(shift, shift), UTM)
        found, known = warp(pixels, valid, source, target)
        assert np.isfinite(found[:, known]).all()
        assert known.sum() == valid[:11, :11].sum() if shift < 0.5 else known.any()
        if shift == 0:
            np.testing.assert_array_equal(found[:, known], pixels[:, :11, :11][:, known])
        nearest, same = warp(pixels, valid, source, target, nearest=True)
        assert np.isfinite(nearest[:, same]).all()

    @pytest.mark.parametrize("dtype", ["int8", "uint32", "int64", "uint64", "float16"])
    def test_types_that_are_sampled_as_float64_keep_their_values(self, dtype):
        pixels = np.array([[[0.5, 3, 127, 2], [9, 0.25, 7, 6]]]).astype(dtype)
        source = GeoBox((2, 4), Affine(10, 0, 0, 0, -10, 0), UTM)
        found, known = warp(pixels, np.ones((2, 4), bool), source, source)
        assert known.all()
        np.testing.assert_array_equal(found, pixels)
        top = np.full((1, 2, 4), np.iinfo(dtype).max if np.dtype(dtype).kind in "ui" else 65504, dtype)
        np.testing.assert_array_equal(warp(top, known, source, source)[0], top)

    @pytest.mark.parametrize("resampling", ["auto", "nearest", "mode"])
    @pytest.mark.parametrize("change", ["same", "shifted", "coarser", "twice", "other"])
    def test_no_kind_of_resampling_marks_them_valid(self, tmp_path, resampling, change):
        pixels = noise(3, (2, 40, 40)).astype("float32")
        rng = np.random.default_rng(5)
        holes = rng.random((40, 40)) < 0.2
        pixels[0, holes] = rng.choice([np.nan, np.inf, -np.inf], holes.sum())
        pixels[1, 30:35] = np.inf
        path = write(tmp_path / "a.tif", pixels, PLACE, UTM)
        own = box(path)
        target = {
            "same": own,
            "shifted": GeoBox((39, 39), PLACE * Affine.translation(0.5, 0.5), UTM),
            "coarser": own.zoom_out(2.7),
            "twice": own.zoom_out(2),
            "other": own.to_crs("EPSG:3857", resolution=11.0),
        }[change]
        found, known = local(path, target, (1, 2), resampling=resampling)
        assert np.isfinite(found[:, known]).all()
        assert 0 < known.sum() < known.size

    def test_physical_values_that_overflow_are_not_valid(self, tmp_path):
        pixels = np.array([[[1.0, 1e300], [2.0, 3.0]]])
        path = write(tmp_path / "a.tif", pixels, PLACE, UTM)
        scene = open_raster(path, rescale=True).compute()
        np.testing.assert_array_equal(scene.valid, [[True, False], [True, True]])

    @pytest.mark.parametrize(
        ("dtype", "nodata", "held"),
        [
            ("float32", -3.4028235e38, np.finfo("float32").min),
            ("float32", float("inf"), np.inf),
            ("float32", 0.1, np.float32(0.1)),
            ("int16", -32768, -32768),
            ("uint16", 65535, 65535),
        ],
    )
    def test_nodata_is_compared_in_the_type_of_the_band(self, tmp_path, dtype, nodata, held):
        pixels = np.full((1, 4, 4), 5, dtype)
        pixels[0, 1] = held
        path = write(tmp_path / "a.tif", pixels, PLACE, UTM, nodata=nodata)
        np.testing.assert_array_equal(open_raster(path).valid[:, 0], [True, False, True, True])

    @pytest.mark.parametrize("nodata", [-1, 256, 0.5, float("nan"), float("inf"), 1e300])
    def test_a_nodata_that_the_type_cannot_hold_means_nothing(self, tmp_path, nodata):
        path = write(tmp_path / "a.tif", noise(1, (1, 8, 8), low=0), PLACE, UTM)
        assert open_raster(path, nodata=nodata).valid.all()


class TestAlpha:
    """A band called alpha is transparency, whatever number means opaque; near infrared is not."""

    @pytest.mark.parametrize(
        ("dtype", "full"),
        [
            ("uint8", 255), ("uint8", 1), ("uint8", 100), ("uint16", 255), ("uint16", 65535), ("uint16", 1),
            ("uint16", 4095), ("int16", 32767), ("int16", 255), ("uint32", 255), ("float32", 1.0), ("float32", 255.0),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("size", [(64, 64), (1500, 1100)])
    def test_any_largest_value_is_opaque(self, tmp_path, dtype, full, size):
        pixels = noise(1, (4, *size)).astype(dtype)
        alpha = np.full(size, full, dtype)
        alpha[:, : size[1] // 3] = 0
        alpha[5:8, size[1] // 3 :] = full / 2  # a soft edge
        pixels[3] = alpha
        colours = ("red", "green", "blue", "alpha")
        path = write(tmp_path / "a.tif", pixels, PLACE, UTM, colors=colours)
        scene = open_raster(path)
        np.testing.assert_array_equal(scene.valid, alpha > 0)
        assert list(scene.data_vars) == ["red", "green", "blue", "valid"]

    def test_a_gradient_is_transparency_where_the_colours_below_are_blank(self, tmp_path):
        pixels = noise(1, (4, 60, 60))
        pixels[3] = np.clip(np.arange(-20, 40) * 6, 0, None)
        pixels[:3, :, :21] = 0
        path = write(tmp_path / "a.tif", pixels, PLACE, UTM, colors=("red", "green", "blue", "alpha"))
        np.testing.assert_array_equal(open_raster(path).valid, pixels[3] > 0)

    def test_a_mask_that_is_not_taken_is_said(self, tmp_path):
        pixels = noise(1, (4, 60, 60))
        pixels[3, :, :20] = 0
        path = write(tmp_path / "a.tif", pixels, PLACE, UTM, colors=("red", "green", "blue", "alpha"))
        with pytest.warns(RemoteSAMWarning, match="called alpha, but varies as near infrared"):
            assert open_raster(path).valid.all()

    def test_all_transparent_and_grey_with_alpha(self, tmp_path):
        pixels = noise(1, (4, 20, 20))
        pixels[3] = 0
        path = write(tmp_path / "a.tif", pixels, PLACE, UTM, colors=("red", "green", "blue", "alpha"))
        assert not open_raster(path).valid.any()
        grey = noise(1, (2, 20, 20))
        grey[1] = np.arange(20) > 4
        path = write(tmp_path / "b.tif", grey, PLACE, UTM, alpha="yes")
        np.testing.assert_array_equal(open_raster(path).valid, grey[1] > 0)


class TestOverviews:
    """Overviews stand for the full image only where they are smaller and show the same."""

    @pytest.mark.parametrize(
        ("shapes", "kept"),
        [
            ([(100, 200)], [0]),
            ([(100, 200), (100, 200)], [0]),
            ([(100, 200), (200, 400), (50, 100)], [0, 2]),
            ([(100, 200), (25, 50), (50, 100)], [0, 2, 1]),
            ([(100, 200), (99, 199), (90, 180)], [0]),
            ([(101, 203), (51, 102), (26, 51), (13, 26), (1, 2)], [0, 1, 2, 3, 4]),
            ([(101, 203), (50, 101), (25, 50)], [0, 1, 2]),
            ([(1000, 1000), (333, 334), (700, 700)], [0, 2, 1]),
            ([(1000, 3000), (256, 256), (128, 384)], [0, 2]),
            ([(3, 200), (2, 100), (1, 50), (1, 25)], [0, 1, 2, 3]),
            ([(100, 200), (50, 100), (50, 100)], [0, 1]),
            ([(100, 200), (0, 0), (50, 100)], [0, 2]),
        ],
    )
    def test_which_levels_are_used(self, shapes, kept):
        assert usable_levels(shapes) == kept

    @pytest.mark.parametrize("how", ["same size", "thumbnail", "out of order"])
    @pytest.mark.parametrize("remote", [False, True])
    def test_files_with_misleading_images(self, tmp_path, how, remote, request):
        pixels = noise(1, (3, 96, 128))
        others = {
            "same size": [np.full((3, 96, 128), 7, "uint8")],
            "thumbnail": [np.full((3, 64, 64), 7, "uint8")],
            "out of order": [
                pixels.reshape(3, 24, 4, 32, 4).mean(axis=(2, 4)).astype("uint8"),
                pixels.reshape(3, 48, 2, 64, 2).mean(axis=(2, 4)).astype("uint8"),
            ],
        }[how]
        path = tmp_path / "a.tif"
        path.write_bytes(pyramid(pixels, others))
        own = GeoBox((96, 128), PLACE, UTM)
        if remote:
            server = request.getfixturevalue("server")
            server.files[f"/{how}.tif"] = path.read_bytes()
            found = lambda target: read(f"{server.url}/{how}.tif".replace(" ", "%20"), target)[0]  # noqa: E731
            server.files[f"/{how}.tif".replace(" ", "%20")] = path.read_bytes()
        else:
            found = lambda target: local(path, target, (1, 2, 3))[0]  # noqa: E731
        np.testing.assert_array_equal(found(own), pixels)
        coarse = found(own.zoom_out(4)).astype(int)
        expected = pixels.reshape(3, 24, 4, 32, 4).mean(axis=(2, 4))
        assert np.abs(coarse - expected).max() <= 1.5


@pytest.fixture
def server():
    from tests.net.fault_server import FaultServer

    with FaultServer() as running:
        yield running


def pyramid(pixels, others):
    """A TIFF with further images that call themselves overviews, whatever they are."""
    import struct

    def directory(image, kind, place, following):
        bands, height, width = image.shape
        body = image.transpose(1, 2, 0).tobytes()
        tags = [
            (254, 4, [kind]), (256, 4, [width]), (257, 4, [height]), (258, 3, [8] * bands), (259, 3, [1]),
            (262, 3, [2]), (273, 4, [place]), (277, 3, [bands]), (278, 4, [height]), (279, 4, [len(body)]),
            (284, 3, [1]),
        ]  # fmt: skip
        if not kind:
            keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32631)
            tags += [(33550, 12, [10.0, 10.0, 0.0]), (33922, 12, [0, 0, 0, WEST, NORTH, 0])]
            tags += [(34735, 3, keys)]
        at = place + len(body)
        start = at
        extra, rows = b"", []
        formats = {3: "H", 4: "I", 12: "d"}
        values_at = at + 2 + 12 * len(tags) + 4
        for tag, type_, values in tags:
            data = struct.pack(f"<{len(values)}{formats[type_]}", *values)
            if len(data) > 4:
                field = struct.pack("<I", values_at + len(extra))
                extra += data
            else:
                field = data.ljust(4, b"\0")
            rows.append(struct.pack("<HHI", tag, type_, len(values)) + field)
        end = values_at + len(extra)
        after = end if following is None else following
        block = struct.pack("<H", len(tags)) + b"".join(rows)
        return body + block, extra, start, after, end

    images = [(pixels, 0), *((other, 1) for other in others)]
    out, first = b"", None
    place = 8
    for number, (image, kind) in enumerate(images):
        head, extra, start, _, end = directory(image, kind, place, None)
        last = number == len(images) - 1
        size = image.size
        following = 0 if last else end + images[number + 1][0].size
        out += head + struct.pack("<I", following) + extra
        first = first or start
        assert start == place + size
        place = end
    return struct.pack("<2sHI", b"II", 42, first) + out


class TestBands:
    """Only three or four bands without names are taken as a picture."""

    @pytest.mark.parametrize(("count", "nodata"), [(31, 0), (31, 255), (5, None), (8, 0)])
    def test_a_stack_of_single_bands_is_not_a_picture(self, tmp_path, count, nodata):
        pixels = noise(1, (count, 12, 12), low=0, high=3)
        if nodata is not None:
            pixels[:, 2] = nodata
        path = write(tmp_path / "a.tif", pixels, PLACE, UTM, nodata=nodata, photometric="minisblack")
        scene = open_raster(path)
        assert list(scene.data_vars)[:2] == ["band_1", "band_2"]
        if nodata is not None:
            np.testing.assert_array_equal(scene.valid, (pixels != nodata).any(axis=0))
            assert not scene.valid[2].any()
        with pytest.raises(InputError, match=rf"{count} bands.*bands="):
            render(scene)
        shown = render(scene, bands=["band_3", "band_2", "band_1"])
        np.testing.assert_array_equal(shown.rgb.sum("band"), pixels[:3].sum(0) * scene.valid.values)

    @pytest.mark.parametrize("count", [3, 4])
    def test_three_or_four_8_bit_bands_are(self, tmp_path, count):
        pixels = noise(1, (count, 12, 12))
        path = write(tmp_path / "a.tif", pixels, PLACE, UTM, photometric="minisblack")
        np.testing.assert_array_equal(render(open_raster(path)).rgb, pixels[:3].transpose(1, 2, 0))

    def test_other_colours_are_not_red_green_and_blue(self, tmp_path):
        """Unlike inks, which GDAL converts to red, green and blue."""
        inks = write(tmp_path / "a.tif", noise(1, (4, 12, 12)), PLACE, UTM, photometric="cmyk")
        with rasterio.open(inks) as file:
            assert [color.name for color in file.colorinterp] == ["red", "green", "blue", "alpha"]
            np.testing.assert_array_equal(render(open_raster(inks)).rgb, file.read([1, 2, 3]).transpose(1, 2, 0))
        colours = ("hue", "saturation", "lightness")
        path = write(tmp_path / "b.tif", noise(1, (3, 12, 12)), PLACE, UTM, colors=colours)
        scene = open_raster(path)
        assert list(scene.data_vars)[:3] == ["hue", "saturation", "lightness"]


class TestHandles:
    """Local files stay open between reads, a bounded number of them, and never for two threads at once."""

    def test_a_slow_file_blocks_no_other(self, tmp_path, monkeypatch):
        fast = write(tmp_path / "fast.tif", noise(1, (1, 20, 20)), PLACE, UTM)
        slow = write(tmp_path / "slow.tif", noise(2, (1, 20, 20)), PLACE, UTM)
        opened, go = threading.Event(), threading.Event()
        plain = handles.DatasetReader

        def reader(path, **options):
            if path == slow:
                opened.set()
                assert go.wait(60)
            return plain(path, **options)

        monkeypatch.setattr(handles, "DatasetReader", reader)
        blocked = threading.Thread(target=inspect, args=(slow,))
        blocked.start()
        try:
            assert opened.wait(60)
            assert bool(open_raster(fast).valid.all())
        finally:
            go.set()
            blocked.join(60)
        assert not blocked.is_alive()

    def test_a_replaced_file_is_never_read_from_a_dataset_of_the_old_one(self, tmp_path):
        """Datasets were kept under the `id` of their opener, which Python gives to a later opener again."""
        path, until = tmp_path / "a.tif", deadline(POLICY)
        session = Session(POLICY)
        for value in range(1, 60):
            new = write(tmp_path / "new.tif", np.full((1, 32, 32), value, np.uint8), PLACE, UTM)
            Path(new).replace(path)
            raster = session.raster(str(path), None, until)
            planes, _ = raster.read(0, Window(0, 0, 32, 32), [1], until)
            assert (planes == value).all()
            del raster
            session.forget(str(path))
        path.unlink()
        with pytest.raises((OSError, RasterioError, DamagedError)):
            session.raster(str(path), None, until)

    def test_a_file_is_opened_once_for_many_windows(self, tmp_path, monkeypatch):
        path = write(tmp_path / "a.tif", noise(1, (3, 64, 64)), PLACE, UTM)
        count = []
        plain = handles.DatasetReader
        monkeypatch.setattr(
            handles, "DatasetReader", lambda *args, **options: count.append(1) or plain(*args, **options)
        )  # fmt: skip
        open_raster(path, chunks=8).compute()
        assert len(count) == 1

    def test_a_bounded_number_is_kept(self, tmp_path, monkeypatch):
        monkeypatch.setattr(handles, "MOST_KEPT", 3)
        session = Session(POLICY)
        session._handles = handles.Handles(3)
        for number in range(9):
            path = write(tmp_path / f"{number}.tif", noise(number, (1, 8, 8)), PLACE, UTM)
            session.raster(path, None, 1e12)
        assert len(session._handles) == 3

    @pytest.mark.parametrize("how", ["replaced", "overwritten", "mask added"])
    def test_a_change_between_reads_is_noticed_and_said(self, tmp_path, how):
        old, new = noise(1, (1, 40, 40)), noise(2, (1, 40, 40))
        path = write(tmp_path / "a.tif", old, PLACE, UTM)
        scene = open_raster(path, chunks=20)
        np.testing.assert_array_equal(scene.band_1[:20].compute(), old[0, :20])
        if how == "replaced":
            (tmp_path / "a.tif").rename(tmp_path / "old.tif")
            write(path, new, PLACE, UTM)
        elif how == "overwritten":
            with rasterio.open(path, "r+") as file:
                file.write(new)
        else:
            with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
                file.write_mask(np.zeros((40, 40), "uint8"))
            assert (tmp_path / "a.tif.msk").exists()
        with pytest.warns(RemoteSAMWarning, match="was changed or replaced while it was in use"):
            later = scene[["band_1", "valid"]].isel(y=slice(20, None)).compute()
        if how == "mask added":
            assert not later.valid.any()
        else:
            np.testing.assert_array_equal(later.band_1, new[0, 20:])
        again = open_raster(path).compute()  # opened anew, nothing is said
        np.testing.assert_array_equal(again.band_1, 0 if how == "mask added" else new[0])

    def test_sources_of_a_vrt_are_watched_too(self, tmp_path):
        from rasterio.shutil import copy

        path = write(tmp_path / "a.tif", noise(1, (1, 40, 40)), PLACE, UTM)
        copy(path, tmp_path / "a.vrt", driver="VRT")
        np.testing.assert_array_equal(open_raster(tmp_path / "a.vrt").band_1, noise(1, (40, 40)))
        (tmp_path / "a.tif").unlink()
        write(path, noise(2, (1, 40, 40)), PLACE, UTM)
        np.testing.assert_array_equal(open_raster(tmp_path / "a.vrt").band_1, noise(2, (40, 40)))

    def test_the_users_own_warnings_stay(self, tmp_path):
        cv2.imwrite(str(tmp_path / "a.png"), noise(1, (8, 9, 3)))
        open_raster(tmp_path / "a.png").compute()  # filterwarnings = error: nothing is said here
        with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
            rasterio.open(tmp_path / "a.png").close()


def test_bands_of_different_types_are_read(tmp_path):
    first, second = noise(1, (1, 9, 9)), noise(2, (1, 9, 9), dtype="int16", low=-300, high=300)
    write(tmp_path / "a.tif", first, PLACE, UTM)
    write(tmp_path / "b.tif", second, PLACE, UTM)
    vrt = """<VRTDataset rasterXSize="9" rasterYSize="9"><SRS>EPSG:32631</SRS>
      <GeoTransform>500000, 10, 0, 5000000, 0, -10</GeoTransform>{}</VRTDataset>"""
    band = """<VRTRasterBand dataType="{}" band="{}"><SimpleSource><SourceFilename relativeToVRT="1">{}</SourceFilename>
      <SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"""
    (tmp_path / "c.vrt").write_text(vrt.format(band.format("Byte", 1, "a.tif") + band.format("Int16", 2, "b.tif")))
    scene = open_raster(tmp_path / "c.vrt").compute()
    np.testing.assert_array_equal(scene.band_1, first[0])
    np.testing.assert_array_equal(scene.band_2, second[0])
