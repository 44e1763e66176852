"""Our reading of TIFFs against GDAL's own: the same pixels, and nothing worse than an error."""

import struct

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from rasterio.io import MemoryFile

from remotesam_geo.errors import ReadError
from remotesam_geo.net.trust import DamagedError, Limits, RefusedError
from remotesam_geo.raster import decode as decoding
from remotesam_geo.raster import tiff
from tests.raster import rasters

# Small TIFFs are without georeference by design; how GDAL takes them is part of these tests.
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

LIMITS = Limits()


def layout(data: bytes, limits: Limits = LIMITS) -> tuple[tiff.Level, ...]:
    return tiff.read_layout(lambda start, stop: data[start:stop], limits)


def window_of(data, level, rows, cols, planes):
    """Pixels of a window by way of a small TIFF: all planes of the part, and the window's place."""
    part = tiff.part(level, rows, cols, planes, lambda start, stop: data[start:stop])
    bodies = [data[start:stop] for start, stop in part.spans]
    found = decoding.decode(tiff.small_tiff(part, bodies))
    decoding.verify(part, found, [body[-4:] for body in bodies], bodies.__getitem__)
    top, left = part.origin
    return found[:, rows[0] - top : rows[1] - top, cols[0] - left : cols[1] - left]


@st.composite
def creations(draw):
    """A picture and how to write it: every layout that GDAL writes and we claim to read."""
    dtype = draw(st.sampled_from(["uint8", "int8", "uint16", "int16", "int32", "float32", "float64"]))
    bands = draw(st.integers(1, 4))
    height, width = draw(st.integers(1, 150)), draw(st.integers(1, 150))
    options = {"interleave": draw(st.sampled_from(["pixel", "band"]))}
    if draw(st.booleans()):
        options |= {"tiled": True, "blockxsize": draw(st.sampled_from([16, 32, 64, 112]))}
        options["blockysize"] = draw(st.sampled_from([16, 48, 128]))
    else:
        options["blockysize"] = draw(st.integers(1, 40))
    compress = ["none", "deflate", "lzw", "zstd", "packbits", "lzma"]
    if dtype == "uint8":
        compress += ["webp"] if bands in (3, 4) and options["interleave"] == "pixel" else []
        compress += ["jpeg"] if bands == 3 and options["interleave"] == "pixel" else []
    if dtype in ("uint8", "uint16", "float32"):
        compress.append("lerc")
    options["compress"] = draw(st.sampled_from(compress))
    if options["compress"] in ("deflate", "lzw", "zstd"):
        predictors = [1, 3] if dtype.startswith("float") else [1, 2]
        options["predictor"] = draw(st.sampled_from(predictors))
    if options["compress"] == "jpeg":
        options["photometric"] = draw(st.sampled_from(["rgb", "ycbcr"]))
        assume("tiled" in options or options["photometric"] == "rgb")
        if "tiled" not in options:  # JPEG codes 8 rows at a time
            options["blockysize"] += -options["blockysize"] % 8
    if options["compress"] == "webp":
        options["webp_lossless"] = True
    options["bigtiff"] = draw(st.sampled_from(["yes", "no"]))
    options["endianness"] = draw(st.sampled_from(["little", "big"]))
    if min(height, width) >= 8:
        options["overviews"] = draw(st.sampled_from([(), (2,), (2, 4)]))
    pixels = rasters.picture(bands, height, width, dtype, seed=draw(st.integers(0, 99)))
    if draw(st.booleans()):
        options["mask"] = rasters.picture(1, height, width)[0] > 120
    if draw(st.booleans()):
        pixels[:, : height // 2] = 0
        options["sparse_ok"] = True
    return pixels, options


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(creation=creations(), data=st.data())
def test_any_window_of_any_layout_is_what_gdal_reads(creation, data):
    pixels, options = creation
    file = rasters.tiff(pixels, **options)
    levels = layout(file)
    with MemoryFile(file) as memory, memory.open() as whole:
        assert len(levels) == 1 + len(whole.overviews(1))
        # deeper levels than the first are opened by GDAL under another option
        number = data.draw(st.integers(0, len(levels) - 1))
        shown = memory.open(overview_level=number - 1) if number else whole
        level = levels[number]
        assert shown.shape == level.shape
        rows, cols = (
            tuple(sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2).filter(lambda p: p[0] != p[1]))))
            for n in level.shape
        )
        bands = data.draw(st.permutations(range(whole.count)))[: data.draw(st.integers(1, whole.count))]
        found = window_of(file, level, rows, cols, tuple(bands))
        if not level.separate:
            found = found[list(bands)]
        expected = shown.read([band + 1 for band in bands], window=(rows, cols))
        assert found.dtype == expected.dtype
        assert found.tobytes() == expected.tobytes()  # also where some version of GDAL wrote NaN
        assert (level.mask is not None) == ("mask" in options)
        if level.mask is not None:
            mask = window_of(file, level.mask, rows, cols, (0,))[0] > 0
            assert np.array_equal(mask, shown.dataset_mask(window=(rows, cols)) > 0)


def test_what_a_raster_says_of_itself_survives():
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", width=50, height=40, count=4, dtype="uint16", nodata=7, crs=rasters.UTM,
            transform=rasterio.Affine(10, 1, 5e5, 2, -10, 5e6), compress="deflate",
        ) as file:  # fmt: skip
            file.write(rasters.picture(4, 40, 50, "uint16"))
            file.descriptions = ("B4", "B3", "B2", None)
            file.scales, file.offsets = (1e-4,) * 4, (-0.1,) * 4
            file.update_tags(owner="us")
        data = bytes(memory.getbuffer())
    with (
        MemoryFile(data) as memory,
        memory.open() as expected,
        MemoryFile(tiff.header_tiff(layout(data)[0])) as header,
        header.open() as found,
    ):
        for name in [
            "crs",
            "transform",
            "nodatavals",
            "dtypes",
            "count",
            "descriptions",
            "scales",
            "offsets",
        ]:
            assert getattr(found, name) == getattr(expected, name)
        assert found.colorinterp == expected.colorinterp
        assert found.tags() == expected.tags()


@given(place=st.floats(0, 1), flip=st.integers(1, 255), predictor=st.sampled_from([1, 2]))
def test_a_wrong_byte_in_a_deflated_block_never_makes_a_wrong_pixel(place, flip, predictor):
    pixels = rasters.picture(3, 64, 64)
    options = {"compress": "deflate", "predictor": predictor, "tiled": True}
    data = rasters.tiff(pixels, blockxsize=64, blockysize=64, **options)
    level = layout(data)[0]
    part = tiff.part(level, (0, 64), (0, 64), (0, 1, 2), lambda start, stop: data[start:stop])
    (start, stop), wrong = part.spans[0], bytearray(data)
    wrong[start + int(place * (stop - start - 1))] ^= flip
    try:
        found = window_of(bytes(wrong), level, (0, 64), (0, 64), (0, 1, 2))
    except DamagedError:
        return
    assert np.array_equal(found, pixels)  # a bit that nobody reads


def test_gdal_alone_lets_wrong_bytes_pass():
    """Why the checksum is verified here: without it a block cut short is read as if it were whole."""
    data = rasters.tiff(rasters.picture(3, 64, 64), tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    start, stop = tiff.part(layout(data)[0], (0, 64), (0, 64), (0,), lambda start, stop: data[start:stop]).spans[0]
    half = (start + stop) // 2
    wrong = data[:half] + bytes(stop - half) + data[stop:]
    assert not np.array_equal(rasters.pixels_of(wrong), rasters.pixels_of(data))
    with pytest.raises(DamagedError, match="checksum"):
        window_of(wrong, layout(wrong)[0], (0, 64), (0, 64), (0, 1, 2))


WHOLE = rasters.tiff(
    rasters.picture(3, 40, 70),
    tiled=True,
    blockxsize=16,
    blockysize=32,
    compress="deflate",
    mask=np.ones((40, 70), bool),
    overviews=(2,),
)


@given(length=st.integers(0, len(WHOLE)))
def test_a_file_cut_anywhere_is_an_error_or_is_read_right(length):
    check_sane(WHOLE[:length])


@settings(max_examples=150)
@given(
    changes=st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4),
    big=st.booleans(),
)
def test_a_file_changed_anywhere_is_an_error_and_never_a_crash(changes, big):
    data = bytearray(BIG if big else WHOLE)
    for place, text in changes:
        data[place : place + len(text)] = text
    check_sane(bytes(data))


BIG = rasters.tiff(rasters.picture(2, 40, 40), bigtiff="yes", compress="lzw", blockysize=7)


def check_sane(data: bytes) -> None:
    limits = Limits(side=4096, block_bytes=1 << 20)
    try:
        for level in layout(data, limits):
            rows, cols = (min(n, 64) for n in level.shape)
            window_of(data, level, (0, rows), (0, cols), tuple(range(level.samples)))
            with MemoryFile(tiff.header_tiff(level)) as memory, memory.open(driver="GTiff"):
                pass
    except (ReadError, rasterio.errors.RasterioError):
        pass


def handmade(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    """A classic TIFF of one directory, its values as given."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(entries)) + body + struct.pack("<I", following)


def image(width: int, height: int, samples: int = 1, rows: int | None = None) -> list[tuple[int, ...]]:
    return [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, 8), (277, 3, 1, samples), (278, 4, 1, rows or height), (279, 4, 1, 64),
    ]  # fmt: skip


def test_a_file_of_few_bytes_that_declares_a_huge_block_is_refused():
    data = handmade(*image(1 << 16, 1 << 16))
    assert len(data) < 130
    with pytest.raises(RefusedError, match="4,294,967,296 bytes a block"):
        layout(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (handmade(*image(1 << 23, 1)), "8,388,608 rows or columns"),
        (handmade(*image(8, 8, samples=5000)), "5,000 bands"),
        (handmade(*image(0, 8)), r"\(8, 0\) pixels"),
        (handmade(*image(8, 8), (42112, 2, 1 << 30, 0)), "1,073,741,824 bytes for its tag 42112"),
        (handmade(*[e for e in image(8, 8) if e[0] != 273]), "lacks the table"),
        (handmade(*[e for e in image(8, 8) if e[0] != 256]), "lacks its tag 256"),
        (handmade(*image(8, 8, rows=1)), "holds 1 of its 8 blocks"),
        (handmade(*[e for e in image(8, 8) if e[0] != 259], (259, 3, 1, 6)), "before 1995"),
        (handmade(*image(8, 8), (339, 3, 1, 6)), "complex"),
        (b"II*\0" + struct.pack("<I", 8) + b"\xff\xff", "65,535 tags"),
        (b"II*\0\xff\xff\xff\x7f", "ends before byte"),
        (b"II*\0\0\0\0\0", "no image"),
        (b"PK\3\4 not a TIFF", "no TIFF"),
        (b"", "no TIFF"),
    ],
)
def test_what_is_refused_and_why(data, message):
    with pytest.raises(ReadError, match=message):
        layout(data)


def test_directories_in_a_circle_end():
    assert len(layout(handmade(*image(8, 8), following=8))) == 1


def test_limits_can_be_raised():
    data = rasters.tiff(rasters.picture(1, 300, 300), blockysize=300)
    with pytest.raises(RefusedError, match="bytes a block"):
        layout(data, Limits(block_bytes=80_000))
    assert layout(data, Limits(block_bytes=90_000))


def test_a_block_that_is_far_longer_than_its_pixels_is_refused():
    entries = [entry for entry in image(8, 8) if entry[0] != 279]
    (level,) = layout(handmade(*entries, (279, 4, 1, 3 << 20)))
    with pytest.raises(DamagedError, match="3,145,728 bytes for a block of 64"):
        tiff.part(level, (0, 8), (0, 8), (0,), lambda _start, _stop: b"")


def test_directories_of_more_bytes_than_any_header_has_are_refused():
    """Each value is below the limit of one; all together are not."""
    size = 190 + 8 * 12
    tags = [(42112, 2, 15 << 20, 0), (34737, 2, 15 << 20, 0), (33550, 2, 15 << 20, 0)]
    tags += [(33922, 2, 15 << 20, 0), (34735, 2, 15 << 20, 0)]
    data = handmade(*image(8, 8), *tags)
    assert len(data) < size
    with pytest.raises(RefusedError, match="a header of more than 67,108,864 bytes"):
        tiff.read_layout(lambda start, stop: data[start:stop].ljust(stop - start, b"x"), LIMITS)


def test_more_bands_than_opencv_merges_are_verified():
    data = rasters.tiff(rasters.picture(600, 16, 16), compress="deflate", interleave="pixel")
    (level,) = layout(data)
    found = window_of(data, level, (0, 16), (0, 16), (0,))
    assert np.array_equal(found, rasters.pixels_of(data))
