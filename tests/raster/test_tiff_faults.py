"""Flipped bits, cut files and nonsense in headers, here and afar: right pixels or an error of ours."""

import functools
import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.windows import Window

from remotesam_geo.errors import ReadError
from remotesam_geo.net.policy import ReadPolicy
from remotesam_geo.net.trust import Limits
from remotesam_geo.raster import tiff
from remotesam_geo.raster.odc_driver import inspect
from remotesam_geo.raster.session import session
from tests.campaign import CASES
from tests.net.fault_server import FaultServer
from tests.raster import rasters
from tests.raster.test_tiff import creations

pytestmark = [
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]

FRESH = itertools.count()
TILES = {"tiled": True, "blockxsize": 64, "blockysize": 48}
MASK = rasters.picture(1, 100, 150)[0] > 90
EVER = 1e12  # a deadline that never comes


def made(dtype: str = "uint8", bands: int = 3, **options: object) -> bytes:
    return rasters.tiff(rasters.picture(bands, 100, 150, dtype), **options)


# Formats that carry a checksum of each block.
CHECKED = {
    "tiles": made(compress="deflate", **TILES),
    "strips": made(compress="deflate", blockysize=7),
    "differences": made("uint16", compress="deflate", predictor=2, **TILES),
    "big-endian differences": made("int16", compress="deflate", predictor=2, endianness="big"),
    "floats": made("float32", compress="deflate", predictor=3, **TILES),
    "doubles": made("float64", 2, compress="deflate", predictor=3, blockysize=16),
    "separate bands": made("int32", compress="deflate", interleave="band", **TILES),
    "a mask": made(compress="deflate", mask=MASK, **TILES),
    "overviews": made(compress="deflate", overviews=(2,), **TILES),
    "bits": made(bands=3, compress="deflate", nbits=4, **TILES),
    "BigTIFF": made(compress="deflate", bigtiff="yes", predictor=2),
    "lerc": made("float32", 1, compress="lerc", max_z_error=0, **TILES),
}
# Formats that do not: what is cut off is noticed, a flip need not be.
UNCHECKED = {name: made(compress=name, **TILES) for name in ("none", "lzw", "zstd", "packbits", "lzma", "jpeg", "webp")}


def fresh(folder: Path, data: bytes) -> Path:
    path = folder / f"{next(FRESH)}.tif"
    path.write_bytes(data)
    return path


def spans_of(data: bytes) -> list[tuple[int, int]]:
    """Where the blocks lie, and the tables that say so."""
    read = lambda start, stop: data[start:stop]  # noqa: E731
    found = []
    for level in tiff.read_layout(read, Limits()):
        for image in filter(None, (level, level.mask)):
            rows, cols = image.shape
            planes = tuple(range(image.samples if image.separate else 1))
            found += tiff.part(image, (0, rows), (0, cols), planes, read).spans
            for table in (image.offsets, image.counts):
                found += [(table.place, table.place + 4 * table.count)] if table.place else []
    return [span for span in found if span[1]]


@functools.cache
def grid_and_bands(data: bytes) -> tuple[GeoBox, tuple[int, ...]]:
    return rasters.grid_of(data), tuple(range(1, len(rasters.pixels_of(data)) + 1))


def read_all(href: str, data: bytes) -> tuple[np.ndarray, ...]:
    """Pixels and validity at full resolution, and at half of it where there is an overview."""
    grid, bands = grid_and_bands(data)
    full = rasters.read(href, grid, bands, origin=None)
    if data is not CHECKED["overviews"]:
        return full
    return *full, *rasters.read(href, grid.zoom_out(2), bands, origin=None)


# --- files of this machine ------------------------------------------------------------------------


@settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    max_examples=40,
)
@given(creation=creations(), data=st.data())
def test_any_window_of_any_local_tiff_is_what_gdal_reads(tmp_path, creation, data):
    pixels, options = creation
    path = fresh(tmp_path, rasters.tiff(pixels, **options))
    raster = session(ReadPolicy()).raster(str(path), None, EVER)
    with rasterio.open(path) as whole:
        assert raster.info.shape == whole.shape
        for _ in range(2):  # not yet verified, and verified already
            number = data.draw(st.integers(0, len(raster.info.levels) - 1))
            extra = {"overview_level": number - 1} if number else {}
            with rasterio.open(path, **extra) as shown:
                rows, cols = (
                    data.draw(st.tuples(*[st.integers(0, n)] * 2).map(sorted).filter(lambda p: p[0] < p[1]))
                    for n in shown.shape
                )
                bands = data.draw(st.permutations(range(1, whole.count + 1)))
                bands = bands[: data.draw(st.integers(1, whole.count))]
                window = Window.from_slices(tuple(rows), tuple(cols))
                found, mask = raster.read(number, window, bands, EVER)
                expected = shown.read(bands, window=window)
                assert found.dtype == expected.dtype
                assert found.tobytes() == expected.tobytes()
                if mask is not None:
                    assert np.array_equal(mask, shown.read_masks(1, window=window) > 0)


@pytest.fixture
def beside(tmp_path) -> Path:
    """A TIFF with overviews and a mask in files beside it."""
    path = tmp_path / "a.tif"
    path.write_bytes(CHECKED["tiles"])
    options = {"TIFF_USE_OVR": True, "COMPRESS_OVERVIEW": "DEFLATE"}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        file.write_mask(MASK)
    with rasterio.Env(**options), rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], Resampling.average)
    return path


def test_overviews_and_masks_beside_a_local_tiff_are_read_and_verified(beside):
    assert {p.name for p in beside.parent.iterdir()} >= {"a.tif", "a.tif.ovr", "a.tif.msk"}
    window = Window(3, 5, 40, 30)
    with rasterio.open(beside, overview_level=0) as shown:
        expected, valid = shown.read(window=window), shown.read_masks(1, window=window) > 0
    raster = session(ReadPolicy()).raster(str(beside), None, EVER)
    found, mask = raster.read(1, window, (1, 2, 3), EVER)
    assert np.array_equal(found, expected)
    assert np.array_equal(mask, valid)
    for name, level in (("a.tif.ovr", 1), ("a.tif.msk", 0)):
        path = beside.parent / name
        good = path.read_bytes()
        (start, stop), *_ = spans_of(good)
        path.write_bytes(flipped(good, (start + stop) // 2))
        raster = session(ReadPolicy(cache_bytes=next(FRESH))).raster(str(beside), None, EVER)
        with pytest.raises(ReadError):
            raster.read(level, Window(0, 0, 20, 20), (1, 2, 3), EVER)
        path.write_bytes(good)


def flipped(data: bytes, place: int, bit: int = 0) -> bytes:
    return data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]


def test_a_file_that_is_written_anew_meanwhile_is_opened_anew(tmp_path):
    path = fresh(tmp_path, CHECKED["tiles"])
    raster = session(ReadPolicy()).raster(str(path), None, EVER)
    other = made(compress="deflate", predictor=2, **TILES)
    path.write_bytes(other)
    with pytest.raises(ReadError, match="changed while it was read"):
        raster.read(0, Window(0, 0, 20, 20), (1, 2, 3), EVER)
    assert np.array_equal(read_all(str(path), other)[0], rasters.pixels_of(other))


# --- flipped bits and cut files ---------------------------------------------------------------------


def test_no_flipped_bit_makes_a_wrong_pixel(campaign, tmp_path):
    tried = campaign(
        "TIFF files",
        "one to three bits flipped in the blocks or their tables, in formats with a checksum, on this machine and afar",
    )
    right = {name: read_all(str(fresh(tmp_path, data)), data) for name, data in CHECKED.items()}
    places = {name: spans_of(data) for name, data in CHECKED.items()}
    with FaultServer() as server:
        for number in range(CASES):
            rng = np.random.default_rng(number)
            name = list(CHECKED)[number % len(CHECKED)]
            data = CHECKED[name]
            for _ in range(int(rng.integers(1, 4))):
                start, stop = places[name][int(rng.integers(len(places[name])))]
                data = flipped(data, int(rng.integers(start, stop)), int(rng.integers(8)))
            if number // len(CHECKED) % 2:
                href = f"{server.url}/{next(FRESH)}.tif"
                server.files[href.removeprefix(server.url)] = data
            else:
                href = str(fresh(tmp_path, data))

            def run(href: str = href, name: str = name) -> None:
                found = read_all(href, CHECKED[name])
                same = [np.array_equal(a, b) for a, b in zip(found, right[name], strict=True)]
                assert all(same), f"{name}: {href}"

            tried.case(run)
            server.files.clear()
            Path(href).unlink(missing_ok=True)


def test_no_file_that_was_cut_makes_a_wrong_pixel(campaign, tmp_path):
    tried = campaign("TIFF files", "cut anywhere, in any format, on this machine and afar")
    every = CHECKED | UNCHECKED
    right = {name: read_all(str(fresh(tmp_path, data)), data) for name, data in every.items()}
    with FaultServer() as server:
        for number in range(CASES // 4):
            rng = np.random.default_rng(number)
            name = list(every)[number % len(every)]
            cut = every[name][: int(rng.integers(len(every[name])))]
            if number // len(every) % 2:
                href = f"{server.url}/{next(FRESH)}.tif"
                server.files[href.removeprefix(server.url)] = cut
            else:
                href = str(fresh(tmp_path, cut))

            def run(href: str = href, name: str = name) -> None:
                found = read_all(href, every[name])
                same = [np.array_equal(a, b) for a, b in zip(found, right[name], strict=True)]
                assert all(same), f"{name}: {href}"

            tried.case(run)
            server.files.clear()


# --- nonsense in headers ----------------------------------------------------------------------------

NUMBERS = [0, 1, 2, 3, 7, 8, 255, 256, 65_535, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]
BOMB = (
    b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9))
    + b"]><GDALMetadata><Item name='a'>&j;</Item></GDALMetadata>\0"
)


def entries_of(data: bytes) -> list[int]:
    """Where the tags of the first directory begin, in a classic TIFF of this byte order."""
    (place,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, place)
    return [place + 2 + 12 * n for n in range(count)]


def with_tag(data: bytes, rng: np.random.Generator) -> bytes:
    """One tag's number, type, count or value is another one."""
    changed, places = bytearray(data), entries_of(data)
    for _ in range(int(rng.integers(1, 4))):
        at = places[int(rng.integers(len(places)))]
        number = int(rng.choice(NUMBERS)) if rng.random() < 0.7 else int(rng.integers(1 << 32))
        what = int(rng.integers(4))
        if what == 0:
            known = sorted(tiff.KNOWN) if rng.random() < 0.7 else list(range(65_536))
            struct.pack_into("<H", changed, at, int(rng.choice(known)))
        elif what == 1:
            struct.pack_into(
                "<H",
                changed,
                at + 2,
                int(rng.integers(20)) if rng.random() < 0.8 else number % 65_536,
            )
        else:
            struct.pack_into("<I", changed, at + 4 * (what - 1), number)
    return bytes(changed)


def with_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes of the header are others: keys of the georeference, metadata, tables."""
    changed = bytearray(data)
    first = min(start for start, _ in spans_of(data))
    for _ in range(int(rng.integers(1, 30))):
        changed[int(rng.integers(4, max(first, 400)))] = int(rng.integers(256))
    return bytes(changed)


def with_metadata(data: bytes, rng: np.random.Generator) -> bytes:
    """A tag of text holds something else: XML bombs, bytes that are no text, numbers that are none."""
    texts = [BOMB, b"\xff\xfe\0", b"<" * 5000 + b"\0", b"nan\0", b"1e999\0", b"<GDALMetadata>" * 800 + b"\0", b"\0" * 9,
             b"<GDALMetadata><Item name='SCALE' sample='0' role='scale'>x</Item></GDALMetadata>\0",
             b"<GDALMetadata><Item name='O' sample='99999' role='offset'>1</Item></GDALMetadata>\0"]  # fmt: skip
    text = texts[int(rng.integers(len(texts)))]
    changed, places = bytearray(data), entries_of(data)
    at = places[int(rng.integers(8, len(places)))]
    tag = int(rng.choice([42112, 42113, 34737, 34735, 33922, 33550, 50844, 270, 305]))
    kind = {34735: 3, 33922: 12, 33550: 12, 50844: 12}.get(tag, 2)
    struct.pack_into("<HHII", changed, at, tag, kind, len(text) // tiff.SIZES[kind], len(data))
    return bytes(changed) + text


def with_directories(data: bytes, rng: np.random.Generator) -> bytes:
    """The next directory is this one, lies beyond the end, or in the middle of something."""
    at = entries_of(data)[-1] + 12
    place = int(rng.choice([4, 8, at, len(data) - 1, len(data), 1 << 31, int(rng.integers(len(data)))]))
    return data[:at] + struct.pack("<I", place) + data[at + 4 :]


def handmade(rng: np.random.Generator) -> bytes:
    """A directory of a few tags with values drawn from what breaks things."""
    big = bool(rng.random() < 0.3)
    tags = {tag: int(rng.choice(NUMBERS)) for tag in tiff.KNOWN if rng.random() < 0.3}
    if rng.random() < 0.8:
        tags |= {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 16, 279: 256}
        for tag in rng.choice(list(tags), int(rng.integers(0, 4))):
            tags[int(tag)] = int(rng.choice(NUMBERS))
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) if big else struct.pack("<2sHI", b"II", 42, 8)
    body = struct.pack("<Q" if big else "<H", len(tags))
    for tag, value in sorted(tags.items()):
        kind, count = (
            int(rng.choice([3, 4, 4, 4, 1, 2, 12, 16])),
            1 if rng.random() < 0.8 else int(rng.choice(NUMBERS)),
        )
        body += struct.pack("<HHQQ" if big else "<HHII", tag, kind, count, value)
    return head + body + bytes(8) + rng.bytes(600)


PLAIN = {
    "none": made(**TILES),
    "deflate": made(compress="deflate", nodata=3, **TILES),
    "separate": made("int16", compress="deflate", interleave="band", blockysize=9),
    "jpeg": made(compress="jpeg", **TILES),
    "mask": made(compress="lzw", mask=MASK, overviews=(2,)),
}


def test_whatever_a_header_says_is_read_or_refused(campaign, tmp_path):
    tried = campaign(
        "TIFF headers",
        "tags, types, counts, values, directories and metadata of all kinds of nonsense",
    )
    kinds = [with_tag, with_tag, with_bytes, with_metadata, with_directories]
    policy = ReadPolicy(patience=rasters.BRISK, trust=rasters.HERE, limits=Limits(side=4096, block_bytes=1 << 20))
    with FaultServer() as server:
        for number in range(CASES):
            rng = np.random.default_rng(number)
            data = list(PLAIN.values())[int(rng.integers(len(PLAIN)))]
            kind = int(rng.integers(len(kinds) + 1))
            data = kinds[kind](data, rng) if kind < len(kinds) else handmade(rng)
            if number % 2:
                href = f"{server.url}/{next(FRESH)}.tif"
                server.files[href.removeprefix(server.url)] = data
            else:
                href = str(fresh(tmp_path, data))

            def run(href: str = href) -> None:
                info = inspect(href, policy=policy)
                if info.geobox is not None:
                    bands = tuple(range(1, len(info.dtypes) + 1))[:3]
                    rasters.read(href, info.geobox[:40, :40], bands, policy=policy, origin=None)

            tried.case(run)
            server.files.clear()
            Path(href).unlink(missing_ok=True)


@pytest.mark.parametrize(
    "place",
    [(10, 0, 5e5, 20, 0, 5e6), (float("nan"), 0, 0, 0, -1, 0), (1, 0, float("inf"), 0, -1, 0)],
)
def test_a_georeference_that_places_nothing_is_refused(tmp_path, place):
    path = fresh(tmp_path, rasters.tiff(rasters.picture(1, 20, 20), transform=rasterio.Affine(*place)))
    with pytest.raises(ReadError, match="its georeference"):
        inspect(str(path))
