"""The kinds of opened rasters: a remote TIFF, and what GDAL opens itself.

Remote TIFFs are read block by block through `fetch`; what can only be read whole (JPEG 2000, PNG,
JPEG, WebP) is fetched whole. GDAL opens files of this machine, and never a URL.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioIOError
from rasterio.io import DatasetReader, MemoryFile
from rasterio.windows import Window

from remotesam_geo.net.ranges import ChangedError, RemoteFile, Span
from remotesam_geo.net.sockets import Patience
from remotesam_geo.net.trust import DamagedError, Limits, RefusedError, check_size, local_path

from . import tiff
from .decode import CACHE_MB, DEFLATE, damage, decode, verify
from .handles import MOST_WATCHED, Handles, files_of, open_quietly, state_of
from .info import info_of, usable_levels
from .localfile import LocalFile
from .nesting import Array, Mask
from .readahead import Area, ReadAhead

MOST_NAMED = 8  # rasters inside a file that an error names
READ_AT_ONCE = 1 << 24  # values of a file of this machine that are read at a time


class TiffRaster:
    """A remote TIFF: only the blocks of a window are fetched, each once."""

    def __init__(self, file: RemoteFile, limits: Limits, ahead_bytes: int, deadline: float) -> None:
        self._file = file
        found = tiff.read_layout(lambda a, b: file.read(a, b, deadline), limits)
        self._levels = _usable_levels_of_tiff(found)
        self._ahead = [ReadAhead(ahead_bytes) for _ in self._levels]
        first = self._levels[0]
        with (
            damage(),
            rasterio.Env(),
            MemoryFile(tiff.header_tiff(first)) as memory,
            open_quietly(memory.name, "GTiff") as header,
        ):
            self.info = info_of(
                header,
                href=file.href,
                shape=first.shape,
                levels=tuple(level.shape for level in self._levels),
                block=first.block,
                has_mask=first.mask is not None,
            )

    @property
    def changed(self) -> bool:
        """Never: each answer is compared with the first one, where it is read."""
        return False

    def read(
        self,
        level: int,
        window: Window,
        bands: Sequence[int],
        deadline: float,
        scene: Window | None = None,
    ) -> tuple[Array, Mask | None]:
        """As `Raster.read`."""
        (top, bottom), (left, right) = rows, cols = window.toranges()
        chosen, planes_wanted = self._levels[level], tuple(band - 1 for band in bands)

        def blocks(cols: Span) -> list[tiff.BlockRange]:
            read = lambda a, b: self._file.read(a, b, deadline)  # noqa: E731
            found = [tiff.part(chosen, rows, cols, planes_wanted, read)]
            if chosen.mask is not None:
                found.append(tiff.part(chosen.mask, rows, cols, (0,), read))
            return found

        parts = blocks(cols)
        spans = [span for part in parts for span in part.spans]
        later = None if scene is None else self._later(level, parts[0], spans, scene)
        ahead = [] if later is None else [s for part in blocks(later) for s in part.spans]
        ahead = [span for span in ahead if 0 < span[1] <= self._file.size]
        found = _decode_blocks(
            parts,
            _block_bytes(spans, self._file.size, lambda s: self._file.read_many(s, deadline, ahead)),
        )
        y, x = parts[0].origin
        inside = np.s_[:, top - y : bottom - y, left - x : right - x]
        planes = found[0][inside]
        # Of separate bands only those wanted were fetched, in their order.
        if not chosen.separate and planes_wanted != tuple(range(len(planes))):
            planes = planes[list(planes_wanted)]
        if chosen.mask is None:
            return planes, None
        y, x = parts[1].origin
        return planes, found[1][0, top - y : bottom - y, left - x : right - x] > 0

    def forget(self) -> None:
        """As `Raster.forget`."""
        self._file.forget()

    def _later(self, level: int, part: tiff.BlockRange, spans: Sequence[Span], scene: Window) -> Span | None:
        """Columns of pixels beside the part that will be wanted next, None where that is not plain."""
        (bh, bw), (rows, cols) = part.level.block, scene.toranges()
        whole = Area(
            (int(rows[0]) // bh, -(-int(rows[1]) // bh)),
            (int(cols[0]) // bw, -(-int(cols[1]) // bw)),
        )
        blocks = (part.rows[1] - part.rows[0]) * (part.cols[1] - part.cols[0])
        weight = sum(stop - start for start, stop in spans) / max(1, blocks)
        wide = self._ahead[level].extend(Area(part.rows, part.cols), whole, weight)
        if wide.cols[1] > part.cols[1]:
            return part.cols[1] * bw, min(wide.cols[1] * bw, part.level.shape[1])
        if wide.cols[0] < part.cols[0]:
            return wide.cols[0] * bw, part.cols[0] * bw
        return None


def _block_bytes(spans: Sequence[Span], size: int, read_many: Callable[[Sequence[Span]], list[bytes]]) -> list[bytes]:
    """The bytes of each block; none for a block that the file leaves out."""
    end = max((stop for _, stop in spans), default=0)
    if end > size:
        raise DamagedError(f"the file ends at byte {size:,}, before its block at {end:,}")
    held = iter(read_many([span for span in spans if span[1]]))
    return [next(held) if span[1] else b"" for span in spans]


def _decode_blocks(parts: Sequence[tiff.BlockRange], bodies: Sequence[bytes]) -> list[Array]:
    """All pixels of the blocks, their checksums verified."""
    found, at = [], 0
    for part in parts:
        mine = bodies[at : at + len(part.spans)]
        at += len(part.spans)
        planes = decode(tiff.small_tiff(part, mine))
        verify(part, planes, [body[-4:] for body in mine], mine.__getitem__)
        found.append(planes)
    return found


def _usable_levels_of_tiff(levels: Sequence[tiff.Level]) -> tuple[tiff.Level, ...]:
    """The full image and the overviews that can stand for it, whose numbers are of the same type."""
    kinds = [
        tuple(level.entries[tag].data for tag in (tiff.BITS, tiff.SAMPLE_FORMAT) if tag in level.entries)
        for level in levels
    ]
    shapes = [level.shape if kind == kinds[0] else (0, 0) for level, kind in zip(levels, kinds, strict=True)]
    return tuple(levels[position] for position in usable_levels(shapes))


@contextmanager
def _explained_open_errors(path: str) -> Iterator[None]:
    """Say what stands at a path that GDAL does not know as a raster."""
    try:
        yield
    except RasterioIOError as error:
        if "not recognized" not in str(error):
            raise
        place = Path(path)
        if place.is_dir():
            found = "it is a folder without a raster that GDAL knows: name a file in it"
        elif place.is_file() and not place.stat().st_size:
            found = "the file is empty: copy or download it again"
        elif place.is_file():
            with place.open("rb") as file:
                start = file.read(16)
            found = f"it begins with {start!r}, which is no raster format that GDAL knows: convert it to GeoTIFF"
        else:
            raise
        raise DamagedError(found) from error


def _check_kind(file: DatasetReader) -> None:
    """Refuse what holds no raster of real numbers, and say what to open instead."""
    if not file.count:
        inner = list(file.subdatasets)
        if not inner:
            raise RefusedError("it holds no raster bands")
        listed = ", ".join(f"open_raster({name!r})" for name in inner[:MOST_NAMED])
        more = f" and {len(inner) - MOST_NAMED} more" if len(inner) > MOST_NAMED else ""
        raise RefusedError(f"it holds {len(inner)} rasters and no bands of its own; open one: {listed}{more}")
    if any(name.startswith("complex") for name in file.dtypes):
        raise RefusedError(
            f"it holds complex numbers, which are no picture; open their amplitude: "
            f"open_raster('DERIVED_SUBDATASET:AMPLITUDE:{file.name}')"
        )


def _read_bands(file: DatasetReader, bands: Sequence[int], window: Window) -> Array:
    """Bands of an open file; of different types, in one that holds all of them."""
    if len({file.dtypes[band - 1] for band in bands}) == 1:
        planes: Array = file.read(list(bands), window=window)
        return planes
    dtype = np.result_type(*(file.dtypes[band - 1] for band in bands))
    return np.stack([file.read(band, window=window).astype(dtype) for band in bands])


class GdalRaster:
    """A file that GDAL opens itself: one of this machine, or one that was fetched whole."""

    def __init__(self, source: "LocalPath | FetchedWhole", href: str, limits: Limits, deadline: float) -> None:
        self._source = source
        with damage(), _explained_open_errors(local_path(href)), source.open(deadline) as file:
            _check_kind(file)
            width = max(np.dtype(name).itemsize for name in file.dtypes)
            check_size(file.shape, file.count, file.block_shapes[0], width, limits)
            flags = file.mask_flag_enums[0]
            shapes: list[tuple[int, int]] = [file.shape]
            for number in range(len(file.overviews(1))):
                with source.open(deadline, overview_level=number) as overview:
                    alike = overview.dtypes == file.dtypes and (overview.mask_flag_enums[0] == flags)
                    shapes.append(overview.shape if alike else (0, 0))
            self._levels = usable_levels(shapes)
            self.info = info_of(
                file,
                href=href,
                shape=file.shape,
                levels=tuple(shapes[level] for level in self._levels),
                block=file.block_shapes[0],
                has_mask=MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags,
            )
            source.watch(file.files)

    @property
    def changed(self) -> bool:
        """Whether a file that it consists of was changed, replaced or removed since it was opened."""
        return self._source.changed

    def read(
        self,
        level: int,
        window: Window,
        bands: Sequence[int],
        deadline: float,
        scene: Window | None = None,
    ) -> tuple[Array, Mask | None]:
        """As `Raster.read`."""
        del scene  # GDAL and the disk look after themselves
        options = {"overview_level": self._levels[level] - 1} if level else {}
        try:
            with damage(), self._source.open(deadline, **options) as file:
                mask = self._mask(file, level, window) if self.info.has_mask else None
                planes = self._planes(file, level, window, bands)
        except DamagedError as error:
            if self.changed:
                raise ChangedError(f"{self.info.href} changed while it was read") from error
            raise
        if self.changed:
            raise ChangedError(f"{self.info.href} changed while it was read")
        return planes, mask

    def _planes(self, file: DatasetReader, level: int, window: Window, bands: Sequence[int]) -> Array:
        """Pixels of a file that was opened at a level."""
        del level
        return _read_bands(file, bands, window)

    def _mask(self, file: DatasetReader, level: int, window: Window) -> Mask:
        del level
        mask: Mask = file.read_masks(1, window=window) > 0
        return mask

    def forget(self) -> None:
        """As `Raster.forget`."""
        self._source.forget()


class LocalTiff(GdalRaster):
    """A TIFF of this machine: GDAL reads it, with the files beside it, and its Deflate blocks are verified."""

    def __init__(self, source: "LocalPath", href: str, limits: Limits, deadline: float) -> None:
        super().__init__(source, href, limits, deadline)
        self._blocks, self._masks = _verifiable_levels(source.path, limits)

    def _planes(self, file: DatasetReader, level: int, window: Window, bands: Sequence[int]) -> Array:
        blocks = self._blocks.get(self.info.levels[level])
        if blocks is None:
            return super()._planes(file, level, window, bands)
        return blocks.read(file, window, bands)

    def _mask(self, file: DatasetReader, level: int, window: Window) -> Mask:
        blocks = self._masks.get(self.info.levels[level])
        if blocks is not None:
            blocks.check(window)
        return super()._mask(file, level, window)


class Blocks:
    """The Deflate blocks of one level of a TIFF of this machine: GDAL reads them, and each is verified once a process.

    Args:
        file: Where they lie.
        level: Which level.
    """

    def __init__(self, file: LocalFile, level: tiff.Level) -> None:
        self._file, self._level = file, level
        planes = level.samples if level.separate else 1
        self._verified = np.zeros((planes, *level.grid), bool)

    def read(self, opened: DatasetReader, window: Window, bands: Sequence[int]) -> Array:
        """The pixels of a window: B x h x w.

        Args:
            opened: The file, opened by GDAL at this level.
            window: Rows and columns of the level.
            bands: Numbers of the bands, from 1.

        Raises:
            DamagedError: A block is not what was written.
        """
        level = self._level
        (top, bottom), (left, right) = window.toranges()
        (height, width), wanted = level.block, list(bands)
        if self._known(window, wanted).all():
            known: Array = opened.read(wanted, window=window)
            return known
        if not level.separate:  # a block holds all bands
            wanted = list(range(1, opened.count + 1))
        cols = left // width * width, min(-(-right // width) * width, level.shape[1])
        end = min(-(-bottom // height) * height, level.shape[0])
        # Few rows of blocks at a time: strips are as wide as the file, however narrow the window is.
        step = height * max(1, READ_AT_ONCE // (height * (cols[1] - cols[0]) * len(wanted)))
        found: list[Array] = []
        for first in range(top // height * height, end, step):
            rows = first, min(first + step, end)
            planes = opened.read(wanted, window=(rows, cols))
            self._verify(Window.from_slices(rows, cols), wanted, planes)
            inside = planes[:, max(0, top - rows[0]) : bottom - rows[0], left - cols[0] : right - cols[0]]
            found.append(inside if wanted == list(bands) else inside[[band - 1 for band in bands]])
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)

    def check(self, window: Window) -> None:
        """Check every block of a window by its own bytes, without its pixels.

        Raises:
            DamagedError: A block is not what was written.
        """
        if not self._known(window, [1]).all():
            self._verify(window, [1], None)

    def _known(self, window: Window, bands: Sequence[int]) -> Mask:
        """Which blocks of a window were verified already: planes x rows x columns of blocks."""
        (top, bottom), (left, right) = window.toranges()
        height, width = self._level.block
        planes = [band - 1 for band in bands] if self._level.separate else [0]
        rows, cols = (
            slice(top // height, -(-bottom // height)),
            slice(left // width, -(-right // width)),
        )
        known: Mask = self._verified[planes, rows, cols]
        return known

    def _verify(self, window: Window, bands: Sequence[int], planes: Array | None) -> None:
        file, known = self._file, self._known(window, bands)
        wanted = tuple(band - 1 for band in bands)
        rows, cols = window.toranges()
        part = tiff.part(self._level, rows, cols, wanted, file.read)
        end = max((stop for _, stop in part.spans), default=0)
        if end > file.size:
            raise DamagedError(f"the file ends at byte {file.size:,}, before its block at {end:,}")
        ends = file.read_many(
            [
                (0, 0) if seen else (max(start, stop - 4), stop)
                for (start, stop), seen in zip(part.spans, known.ravel(), strict=True)
            ]
        )
        verify(part, planes, ends, lambda number: file.read(*part.spans[number]))
        at = np.ix_(wanted if self._level.separate else (0,), range(*part.rows), range(*part.cols))
        self._verified[at] = True


def _verifiable_levels(
    path: str, limits: Limits
) -> tuple[dict[tuple[int, int], Blocks], dict[tuple[int, int], Blocks]]:
    """The levels of a TIFF, and those of its mask, whose blocks carry checksums, by their shape."""
    # GDAL has judged the size of a block by one band; here a block may hold all of them.
    limits = replace(limits, block_bytes=limits.block_bytes * limits.bands)
    levels: dict[tuple[int, int], Blocks] = {}
    masks: dict[tuple[int, int], Blocks] = {}
    # GDAL looks for overviews beside the file only where it has none inside; inner ones come first here too.
    for place in (path, f"{path}.ovr", f"{path}.msk", f"{path}.msk.ovr"):
        if not Path(place).is_file():
            continue
        file = LocalFile(place)
        try:
            found = tiff.read_layout(file.read, limits)
        except tiff.UnreadableError:
            continue  # of a kind that only GDAL reads
        into = masks if place.startswith(f"{path}.msk") else levels
        for level in found:
            if level.compression in DEFLATE:
                into.setdefault(level.shape, Blocks(file, level))
            if level.mask is not None and level.mask.compression in DEFLATE:
                masks.setdefault(level.shape, Blocks(file, level.mask))
    return levels, masks


_NUMBERS = itertools.count()


class LocalPath:
    """A file of this machine.

    Args:
        path: The path, or a name that GDAL understands.
        driver: GDAL's driver for it; None to let GDAL find out.
        patience: Time-outs, where a VRT leads GDAL to the network.
        handles: Where datasets are kept open between reads.
    """

    def __init__(self, path: str, driver: str | None, patience: Patience, handles: Handles) -> None:
        self.path, self._driver, self._patience, self._handles = path, driver, patience, handles
        # Not id(self): Python gives it again, and a replaced file would be read from the old one's dataset.
        self._number = next(_NUMBERS)
        self._files: tuple[str, ...] = (path,)
        self._state = state_of(self._files)

    def watch(self, named: Sequence[str]) -> None:
        """Notice changes of the files that GDAL names, too."""
        state, self._files = self._state[0], files_of(self.path, named)
        self._state = (state, *state_of(self._files)[1:])

    @property
    def changed(self) -> bool:
        """Whether one of the files is another than it was."""
        return state_of(self._files) != self._state

    @contextmanager
    def open(self, deadline: float, **options: int) -> Iterator[DatasetReader]:
        """An open dataset; a VRT that the user names may lead GDAL to the network, but not to wait there."""
        del deadline
        wait = self._patience
        key = self.path, self._number, options.get("overview_level", -1)
        opening = partial(open_quietly, self.path, self._driver, **options)
        with (
            rasterio.Env(
                GDAL_CACHEMAX=CACHE_MB,
                GDAL_HTTP_CONNECTTIMEOUT=wait.connect,
                GDAL_HTTP_TIMEOUT=wait.total,
                GDAL_HTTP_LOW_SPEED_TIME=math.ceil(wait.stall),
                GDAL_HTTP_LOW_SPEED_LIMIT=wait.slowest,
                GDAL_HTTP_MAX_RETRY=wait.retries,
                GDAL_HTTP_RETRY_DELAY=wait.first_wait,
            ),
            self._handles.use(key, opening) if len(self._files) <= MOST_WATCHED else opening() as file,
        ):
            yield file

    def forget(self) -> None:
        """Close what is kept open of it."""
        self._handles.close(self.path)


@dataclass(frozen=True, kw_only=True)
class FetchedWhole:
    """A remote file that can only be read whole."""

    file: RemoteFile
    driver: str
    changed: bool = False  # what was fetched stays as it is

    def watch(self, named: Sequence[str]) -> None:
        """Nothing to watch."""

    @contextmanager
    def open(self, deadline: float, **options: int) -> Iterator[DatasetReader]:
        """Fetch it, or take what is kept, and open it."""
        held = self.file.whole(deadline)
        with (
            rasterio.Env(GDAL_CACHEMAX=CACHE_MB, GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
            open_quietly(str(held.path), self.driver, **options) as file,
        ):
            yield file

    def forget(self) -> None:
        """Drop what was fetched."""
        self.file.forget()
