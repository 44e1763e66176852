"""Bytes to pixels by GDAL, in memory, with its doubts taken seriously.

GDAL passes over what it could know: it does not check Deflate's checksum in every case, and where
libjpeg loses pixels it only warns. Here either is an error.
"""

import functools
import logging
import re
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import cv2
import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from remotesam_geo.net.redact import redact_text
from remotesam_geo.net.trust import DamagedError

from .nesting import Array
from .tiff import BITS, PREDICTOR, BlockRange, Level, number_of, numbers_of

DEFLATE = (8, 32946)
_MOST_CHANNELS = 512  # of OpenCV's arrays
_MERGED = {1: "u1", 2: "u2", 4: "i4", 8: "f8"}  # types that OpenCV knows
CACHE_MB = 128  # of GDAL's own; left to itself it takes a share of the machine


def decode(data: bytes) -> Array:
    """All bands of a TIFF in memory."""
    with (
        damage(),
        rasterio.Env(GDAL_CACHEMAX=CACHE_MB),
        MemoryFile(data) as memory,
        memory.open(driver="GTiff") as file,
    ):
        planes: Array = file.read()
        return planes


def verify(blocks: BlockRange, planes: Array | None, ends: Sequence[bytes], body: Callable[[int], bytes]) -> None:
    """Check the decoded pixels against the checksum that Deflate keeps of them; GDAL does not.

    Args:
        blocks: Which blocks.
        planes: What was decoded of them, from the first pixel of the first block on: B x h x w; None: not decoded.
        ends: The last 4 bytes of each block, in the order of `blocks.spans`; b"" for one that is not checked.
        body: Gives all bytes of a block by its position; called where the pixels alone do not tell.

    Raises:
        DamagedError: They differ.
    """
    level = blocks.level
    if level.compression not in DEFLATE:
        return
    (bh, bw), (top, bottom), (left, right) = level.block, blocks.rows, blocks.cols
    places = [
        (plane, row * bh, col * bw)
        for plane in range(len(blocks.planes))
        for row in range(bottom - top)
        for col in range(right - left)
    ]
    for number, (plane, y, x) in enumerate(places):
        if not ends[number]:
            continue
        own = slice(plane, plane + 1) if level.separate else slice(None)
        sums_up = planes is not None and _sums_up(level, ends[number], planes[own, y : y + bh, x : x + bw])
        if not (sums_up or _is_whole(body(number))):
            raise DamagedError("the checksum of a block does not agree with its pixels")


def _is_whole(body: bytes) -> bool:
    """Whether a Deflate stream decompresses to its end, and to what its checksum says."""
    try:
        stream = zlib.decompressobj()
        stream.decompress(body)
    except zlib.error:
        return False
    return stream.eof


def _sums_up(level: Level, end: bytes, pixels: Array) -> bool:
    """Whether a block ends in the Adler-32 of its pixels, made back into the bytes that were compressed.

    False also where that cannot be told: bytes follow the stream, the pixels are packed, or part of a tile is missing.
    """
    if (level.tiled and pixels.shape[1:] != level.block) or len(pixels) > _MOST_CHANNELS:
        return False
    if set(numbers_of(level.entries, BITS, level.order) or (1,)) != {pixels.itemsize * 8}:
        return False
    predictor = number_of(level.entries, PREDICTOR, level.order, default=1)
    data = _as_stored(pixels, predictor, level.order)
    return data is not None and zlib.adler32(data.data) == int.from_bytes(end, "big")


def _as_stored(pixels: Array, predictor: int, order: str) -> Array | None:
    """The bytes that were compressed, made of the pixels of a block (B x h x w); None for an unknown predictor."""
    # h x w x B, as in the file; OpenCV interleaves many times faster than NumPy copies
    size, bands = pixels.itemsize, len(pixels)
    data: Array = cv2.merge(list(pixels.view(_MERGED[size]))).view(f"u{size}")
    if predictor in (1, 2):
        if predictor == 2:
            data[:, 1:] = data[:, 1:] - data[:, :-1]
        stored: Array = data.astype(f"{order}u{size}", copy=False)
        return stored
    if predictor == 3 and size == 4:
        # Each row is stored by the bytes of its values, the highest byte of all first, as differences.
        flat = data.reshape(len(data), -1)
        by_byte = cv2.split(flat.view("u1").reshape(*flat.shape, 4))
        row: Array = np.concatenate(by_byte[::-1], axis=1)
        row[:, bands:] = row[:, bands:] - row[:, :-bands]
        return row
    return None


class _Ear(logging.Handler):
    """What GDAL warns of in this thread: libjpeg only warns where pixels are lost."""

    lost = re.compile(r"JPEG.*(Corrupt JPEG data(?!: \d+ extraneous)|Premature end)", re.IGNORECASE)

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.here = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        heard = getattr(self.here, "heard", None)
        if heard is not None and self.lost.search(record.getMessage()):
            heard.append(record.getMessage())


@functools.cache
def _decode_warning_listener() -> _Ear:
    ear = _Ear()
    logging.getLogger("rasterio._err").addHandler(ear)
    return ear


@contextmanager
def damage() -> Iterator[None]:
    """What cannot be decoded inside, or only in part, is damaged."""
    here = _decode_warning_listener().here
    heard: list[str] = []
    here.heard = heard
    try:
        yield
    except (
        RasterioError,
        CPLE_BaseError,
        UnicodeDecodeError,
    ) as error:  # some pass through rasterio
        raise DamagedError(redact_text(_gdal_reason(error))) from error
    finally:
        here.heard = None
    if heard:
        raise DamagedError(heard[0])


def _gdal_reason(error: BaseException) -> str:
    """GDAL's own words, which rasterio keeps as the cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)
