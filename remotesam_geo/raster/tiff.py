"""Where the pixels of a TIFF lie, and small TIFFs made of only those that are wanted.

GDAL decodes pixels well, but fetches them in its own way, which cannot be supervised. So the tables
of a TIFF are read here, the blocks of a window are fetched by `fetch`, and GDAL is handed a TIFF in
memory that holds just them. Classic and BigTIFF, tiles and strips, interleaved or separate bands,
overviews and internal masks; what a file declares is checked before anything is allocated for it.
"""

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from remotesam_geo.net.ranges import Span
from remotesam_geo.net.trust import DamagedError, Limits, RefusedError, check_size

Read = Callable[[int, int], bytes]  # first byte, and the one after the last

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
SIZES |= {16: 8, 17: 8, 18: 8}
INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, STRIP_ROWS, STRIP_COUNTS, PLANAR = 273, 277, 278, 279, 284
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = 322, 323, 324, 325
PREDICTOR, EXTRA_SAMPLES, SAMPLE_FORMAT, NODATA = 317, 338, 339, 42113

# What a decoder must know besides size and place: fill order, fax options, predictor, colour map,
# JPEG tables, chroma subsampling and reference levels, LERC parameters.
DECODING = (
    *(BITS, COMPRESSION, PHOTOMETRIC, 266, SAMPLES, PLANAR, 292, 293, PREDICTOR, 320),
    *(EXTRA_SAMPLES, SAMPLE_FORMAT, 347, 530, 532, NODATA, 50674),
)
# What says where the pixels are and what they mean: GeoTIFF, GDAL's metadata, nodata, RPC.
MEANING = (33550, 33922, 34264, 34735, 34736, 34737, 42112, NODATA, 50844)
TABLES = (STRIP_OFFSETS, STRIP_COUNTS, TILE_OFFSETS, TILE_COUNTS)
SHAPE = (SUBFILE, WIDTH, HEIGHT, STRIP_ROWS, TILE_WIDTH, TILE_HEIGHT)
KNOWN = frozenset((*DECODING, *MEANING, *TABLES, *SHAPE))

OLD_JPEG, YCBCR, RGB = 6, 6, 2
MAX_DIRECTORIES = 256
MAX_ENTRIES = 4096
MAX_VALUE_BYTES = 16 << 20
SPARE = 1 << 20  # bytes that a compressed block may take beyond twice its pixels
MAX_HEADER_BYTES = 64 << 20  # of all directories together


class UnreadableError(RefusedError):
    """A TIFF of a kind that is not read here, though GDAL may read it."""


@dataclass(frozen=True, kw_only=True)
class Tag:
    """One tag: its type, how many values, and their bytes, here or at `place` in the file."""

    kind: int
    count: int
    data: bytes | None
    place: int = 0


@dataclass(frozen=True, kw_only=True)
class Level:
    """One resolution of the raster.

    Args:
        shape: Rows and columns.
        block: Rows and columns of a block.
        tiled: Tiles, or strips of whole rows.
        samples: Bands.
        separate: Bands lie one after the other, not pixel by pixel.
        compression: TIFF's number for it.
        order: "<" or ">", the file's byte order.
        entries: The tags a decoder needs, and what else was asked for.
        offsets: Table of the blocks' places.
        counts: Table of the blocks' lengths.
        mask: The level's own mask.
    """

    shape: tuple[int, int]
    block: tuple[int, int]
    tiled: bool
    samples: int
    separate: bool
    compression: int
    order: str
    entries: Mapping[int, Tag]
    offsets: Tag
    counts: Tag
    mask: "Level | None" = None

    @property
    def grid(self) -> tuple[int, int]:
        """Blocks down and across."""
        (h, w), (bh, bw) = self.shape, self.block
        return -(-h // bh), -(-w // bw)


@dataclass(frozen=True, kw_only=True)
class BlockRange:
    """Blocks that cover a window: rows and columns of blocks, planes, and where each block lies.

    Args:
        level: Whose blocks.
        rows: First row of blocks, and the one after the last.
        cols: First column of blocks, and the one after the last.
        planes: The planes wanted; (0,) where bands are interleaved.
        spans: Bytes of each block, plane by plane and row by row; an empty span is a block that the
            file leaves out.
    """

    level: Level
    rows: tuple[int, int]
    cols: tuple[int, int]
    planes: tuple[int, ...]
    spans: tuple[Span, ...]

    @property
    def origin(self) -> tuple[int, int]:
        """Row and column of its first pixel."""
        return self.rows[0] * self.level.block[0], self.cols[0] * self.level.block[1]


def read_layout(read: Read, limits: Limits) -> tuple[Level, ...]:
    """Read the tables of a TIFF.

    Args:
        read: Gives bytes of the file; fewer at its end.
        limits: The largest raster that is opened.

    Returns:
        The levels, full resolution first, then overviews from fine to coarse.

    Raises:
        DamagedError: It is not what a TIFF should be.
        RefusedError: It is larger than allowed, or of a kind that is not read.
    """
    left = MAX_HEADER_BYTES

    def counted(start: int, stop: int) -> bytes:
        nonlocal left
        left -= stop - start
        if left < 0:
            raise RefusedError(f"the TIFF declares a header of more than {MAX_HEADER_BYTES:,} bytes")
        return read(start, stop)

    start = counted(0, 16)
    order = {b"II": "<", b"MM": ">"}.get(start[:2], "")
    if not order or len(start) < 8:
        raise DamagedError(f"the file begins with {start[:8]!r} and is no TIFF")
    (magic,) = struct.unpack(order + "H", start[2:4])
    big = magic == 43
    pointer = order + ("Q" if big else "I")
    (place,) = struct.unpack(pointer, start[8:16] if big else start[4:8])
    images: list[tuple[int, Level]] = []
    seen: set[int] = set()
    while place and place not in seen and len(seen) < MAX_DIRECTORIES:
        seen.add(place)
        entries, place = _read_directory(counted, place, order, big=big)
        kind = number_of(entries, SUBFILE, order, default=0)
        if not images or kind & 5:  # the picture itself, then its overviews and masks
            images.append((kind, _level_of_tags(entries, order, limits)))
    if not images:
        raise DamagedError("the TIFF holds no image")
    return _levels_of_images(images)


def _levels_of_images(images: Sequence[tuple[int, Level]]) -> tuple[Level, ...]:
    masks = {level.shape: level for kind, level in images if kind & 4}
    first = images[0][1]
    found = [first] + [
        level
        for kind, level in images[1:]
        if kind & 1 and not kind & 4
        if level.samples == first.samples and level.shape < first.shape
    ]
    if first.shape in masks:  # an overview without its mask would show what is masked
        found = [level for level in found if level.shape in masks]
    found = sorted(found, key=lambda level: level.shape, reverse=True)
    return tuple(_level_with_mask(level, masks.get(level.shape)) for level in found)


def _level_with_mask(level: Level, mask: Level | None) -> Level:
    return Level(**{**level.__dict__, "mask": mask})


def _read_directory(read: Read, place: int, order: str, *, big: bool) -> tuple[dict[int, Tag], int]:
    """The tags of the directory at a place, and the place of the next."""
    head, size, pointer = (8, 20, "Q") if big else (2, 12, "I")
    (count,) = struct.unpack(order + ("Q" if big else "H"), _read_tiff_exactly(read, place, head))
    if count > MAX_ENTRIES:
        raise RefusedError(f"the TIFF declares a directory of {count:,} tags")
    width = struct.calcsize(pointer)
    body = _read_tiff_exactly(read, place + head, count * size + width)
    entries = {}
    for at in range(0, count * size, size):
        tag, kind = struct.unpack_from(order + "HH", body, at)
        (number,) = struct.unpack_from(order + pointer, body, at + 4)
        value = body[at + size - width : at + size]
        length = SIZES.get(kind, 1) * number
        if tag not in KNOWN:
            continue
        if length <= width:
            entries[tag] = Tag(kind=kind, count=number, data=value[:length])
            continue
        (there,) = struct.unpack(order + pointer, value)
        data = None
        if tag not in TABLES:  # which may be long: they are read where they are needed
            if length > MAX_VALUE_BYTES:
                raise RefusedError(f"the TIFF declares {length:,} bytes for its tag {tag}")
            data = _read_tiff_exactly(read, there, length)
        entries[tag] = Tag(kind=kind, count=number, data=data, place=there)
    (following,) = struct.unpack_from(order + pointer, body, count * size)
    return entries, following


def _read_tiff_exactly(read: Read, start: int, length: int) -> bytes:
    data = read(start, start + length)
    if len(data) != length:
        raise DamagedError(f"the TIFF ends before byte {start + length:,}, which it refers to")
    return data


def numbers_of(entries: Mapping[int, Tag], tag: int, order: str) -> tuple[int, ...]:
    """The whole numbers of a tag; none where it is not there or holds others."""
    entry = entries.get(tag)
    if entry is None or entry.data is None or entry.kind not in INTEGERS:
        return ()
    return struct.unpack(f"{order}{entry.count}{INTEGERS[entry.kind]}", entry.data)


def number_of(entries: Mapping[int, Tag], tag: int, order: str, default: int | None = None) -> int:
    """The first whole number of a tag."""
    numbers = numbers_of(entries, tag, order)
    if numbers:
        return numbers[0]
    if default is None:
        raise DamagedError(f"the TIFF lacks its tag {tag}")
    return default


def _level_of_tags(entries: Mapping[int, Tag], order: str, limits: Limits) -> Level:
    shape = number_of(entries, HEIGHT, order), number_of(entries, WIDTH, order)
    tiled = TILE_WIDTH in entries
    block = (
        (number_of(entries, TILE_HEIGHT, order), number_of(entries, TILE_WIDTH, order))
        if tiled
        else (min(number_of(entries, STRIP_ROWS, order, default=shape[0]), shape[0]), shape[1])
    )
    samples = number_of(entries, SAMPLES, order, default=1)
    separate = number_of(entries, PLANAR, order, default=1) == 2
    bits = numbers_of(entries, BITS, order) or (1,)
    pixel = max(bits) / 8 * (1 if separate else samples)
    check_size(shape, samples, block, pixel, limits)
    compression = number_of(entries, COMPRESSION, order, default=1)
    if compression == OLD_JPEG:
        raise UnreadableError("the TIFF is compressed by the JPEG of before 1995; rewrite it")
    if set(numbers_of(entries, SAMPLE_FORMAT, order)) & {5, 6}:
        raise UnreadableError("the raster holds complex numbers; only real ones make a picture")
    offsets, counts = (
        entries.get(tag) for tag in ((TILE_OFFSETS, TILE_COUNTS) if tiled else (STRIP_OFFSETS, STRIP_COUNTS))
    )
    if offsets is None or counts is None:
        raise UnreadableError("the TIFF lacks the table of its blocks; rewrite it")
    level = Level(
        shape=shape,
        block=block,
        tiled=tiled,
        samples=samples,
        separate=separate,
        compression=compression,
        order=order,
        entries={tag: entry for tag, entry in entries.items() if tag not in TABLES},
        offsets=offsets,
        counts=counts,
    )
    blocks = math.prod(level.grid) * (samples if separate else 1)
    if min(offsets.count, counts.count) < blocks:
        raise DamagedError(f"the TIFF's table holds {offsets.count} of its {blocks} blocks")
    return level


def part(level: Level, rows: tuple[int, int], cols: tuple[int, int], planes: tuple[int, ...], read: Read) -> BlockRange:
    """The blocks that cover a window.

    Args:
        level: Of which level.
        rows: First row of pixels, and the one after the last.
        cols: First column of pixels, and the one after the last.
        planes: The bands wanted, from 0, where bands are separate.
        read: Gives bytes of the file.
    """
    (bh, bw), (down, across) = level.block, level.grid
    top, bottom = rows[0] // bh, -(-rows[1] // bh)
    left, right = cols[0] // bw, -(-cols[1] // bw)
    wanted = planes if level.separate else (0,)
    spans: list[Span] = []
    for plane in wanted:
        first = (plane * down + top) * across + left
        last = (plane * down + bottom - 1) * across + right
        offsets = _slice_of_table(level.offsets, first, last, level.order, read)
        counts = _slice_of_table(level.counts, first, last, level.order, read)
        for row in range(bottom - top):
            spans += [
                (offsets[at], offsets[at] + counts[at]) if counts[at] else (0, 0)
                for at in range(row * across, row * across + right - left)
            ]
    _check_lengths(level, spans)
    return BlockRange(level=level, rows=(top, bottom), cols=(left, right), planes=wanted, spans=tuple(spans))


def _check_lengths(level: Level, spans: Sequence[Span]) -> None:
    """Refuse a block that is far longer than its pixels, before it is fetched."""
    bits = max(numbers_of(level.entries, BITS, level.order) or (1,))
    decoded = math.prod(level.block) * -(-bits // 8) * (1 if level.separate else level.samples)
    longest = max((stop - start for start, stop in spans), default=0)
    if longest > 2 * decoded + SPARE:
        raise DamagedError(f"the TIFF declares {longest:,} bytes for a block of {decoded:,}")


def _slice_of_table(entry: Tag, first: int, last: int, order: str, read: Read) -> tuple[int, ...]:
    """Values of a table from one index up to another."""
    if entry.kind not in INTEGERS:
        raise DamagedError(f"the TIFF's table of blocks has the type {entry.kind}")
    size = SIZES[entry.kind]
    if entry.data is not None:
        data = entry.data[first * size : last * size]
    else:
        data = _read_tiff_exactly(read, entry.place + first * size, (last - first) * size)
    return struct.unpack(f"{order}{last - first}{INTEGERS[entry.kind]}", data)


def small_tiff(blocks: BlockRange, bodies: Sequence[bytes]) -> bytes:
    """A TIFF of just these blocks, the first of them at its upper left.

    Args:
        blocks: Which blocks.
        bodies: Their bytes, in the order of `blocks.spans`.
    """
    level = blocks.level
    (top, bottom), (left, right), (bh, bw) = blocks.rows, blocks.cols, level.block
    # Tiles are whole at the edge too; the last strip is as short as it is.
    height = (bottom if level.tiled else min(bottom, -(-level.shape[0] // bh))) * bh - top * bh
    height = height if level.tiled else min(height, level.shape[0] - top * bh)
    width = (right - left) * bw if level.tiled else level.shape[1]
    entries = {tag: level.entries[tag] for tag in DECODING if tag in level.entries}
    if level.separate:  # only the planes wanted
        entries |= _tiff_with_fewer_samples(level, blocks.planes)
    entries |= _placeholder_georeference(level.order)
    if numbers_of(entries, PHOTOMETRIC, level.order) == (4,):  # a mask is read as a picture
        entries[PHOTOMETRIC] = _tiff_short_tag(level.order, 1)
    return _write_bigtiff(level.order, entries, (height, width), level.block, bodies, tiled=level.tiled)


def header_tiff(level: Level) -> bytes:
    """A TIFF without pixels that says where the raster lies and what its bands mean."""
    order = level.order
    kept = (BITS, PHOTOMETRIC, SAMPLES, 320, EXTRA_SAMPLES, SAMPLE_FORMAT, *MEANING)
    entries = {tag: level.entries[tag] for tag in kept if tag in level.entries}
    entries[COMPRESSION], entries[PLANAR] = _tiff_short_tag(order, 1), _tiff_short_tag(order, 1)
    if numbers_of(entries, PHOTOMETRIC, order) == (YCBCR,):  # JPEG's own affair: it decodes to RGB
        entries[PHOTOMETRIC] = _tiff_short_tag(order, RGB)
    return _write_bigtiff(order, entries, (16, 16), (16, 16), [b""], tiled=True)


def _placeholder_georeference(order: str) -> dict[int, Tag]:
    """Some georeference: without one rasterio warns, and nobody asks these pixels where they are."""
    scale, tie = struct.pack(order + "3d", 2, 2, 0), bytes(48)
    return {
        33550: Tag(kind=12, count=3, data=scale),
        33922: Tag(kind=12, count=6, data=tie),
    }


def _tiff_with_fewer_samples(level: Level, planes: Sequence[int]) -> dict[int, Tag]:
    order, count = level.order, len(planes)
    changed = {SAMPLES: _tiff_short_tag(order, count), PHOTOMETRIC: _tiff_short_tag(order, 1)}
    for tag in (BITS, SAMPLE_FORMAT):
        values = numbers_of(level.entries, tag, order)
        if values:
            changed[tag] = _tiff_short_tag(order, *[values[min(p, len(values) - 1)] for p in planes])
    changed[EXTRA_SAMPLES] = _tiff_short_tag(order, *[0] * (count - 1))
    return changed


def _tiff_short_tag(order: str, *values: int) -> Tag:
    data = struct.pack(f"{order}{len(values)}H", *values)
    return Tag(kind=3, count=len(values), data=data)


def _tiff_long8_tag(order: str, *values: int) -> Tag:
    data = struct.pack(f"{order}{len(values)}Q", *values)
    return Tag(kind=16, count=len(values), data=data)


def _write_bigtiff(
    order: str,
    entries: Mapping[int, Tag],
    shape: tuple[int, int],
    block: tuple[int, int],
    bodies: Sequence[bytes],
    *,
    tiled: bool,
) -> bytes:
    """A BigTIFF of one image: header, directory, values, blocks."""
    tags = {tag: entry for tag, entry in entries.items() if entry.count}
    tags[HEIGHT], tags[WIDTH] = _tiff_long8_tag(order, shape[0]), _tiff_long8_tag(order, shape[1])
    if tiled:
        tags[TILE_HEIGHT], tags[TILE_WIDTH] = (
            _tiff_long8_tag(order, block[0]),
            _tiff_long8_tag(order, block[1]),
        )
    else:
        tags[STRIP_ROWS] = _tiff_long8_tag(order, block[0])
    places, lengths = (TILE_OFFSETS, TILE_COUNTS) if tiled else (STRIP_OFFSETS, STRIP_COUNTS)
    tags[lengths] = _tiff_long8_tag(order, *map(len, bodies))
    tags[places] = _tiff_long8_tag(order, *[0] * len(bodies))  # its length counts; its values come below

    at = 16 + 8 + 20 * len(tags) + 8
    value_places = {}
    for tag in sorted(tags):
        value = tags[tag].data or b""
        if len(value) > 8:
            value_places[tag] = at
            at += len(value) + (-len(value)) % 8
    block_places = []
    for body in bodies:
        block_places.append(at if body else 0)
        at += len(body)
    tags[places] = _tiff_long8_tag(order, *block_places)

    magic = b"II" if order == "<" else b"MM"
    out = [magic, struct.pack(order + "HHHQ", 43, 8, 0, 16), struct.pack(order + "Q", len(tags))]
    values = []
    for tag in sorted(tags):
        entry, value = tags[tag], tags[tag].data or b""
        out.append(struct.pack(order + "HHQ", tag, entry.kind, entry.count))
        if tag in value_places:
            out.append(struct.pack(order + "Q", value_places[tag]))
            values.append(value + bytes(-len(value) % 8))
        else:
            out.append(value.ljust(8, b"\0"))
    return b"".join([*out, bytes(8), *values, *bodies])
