"""An opened raster, wherever it lies: what it says of itself, and windows of its levels.

Remote TIFFs are read block by block through `fetch`; what can only be read whole (JPEG 2000, PNG,
JPEG, WebP) is fetched whole; files of this machine are GDAL's own affair. GDAL never opens a URL.
"""

import functools
import logging
import math
import os
import re
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader, MemoryFile
from rasterio.windows import Window

from . import tiff
from .ahead import Area, ReadAhead, on_cluster
from .fetch import ChangedError, Network, RemoteFile, Span
from .pixels import Array, Mask
from .redaction import redact, redact_text
from .safety import (
    DamagedError,
    Limits,
    RefusedError,
    Trust,
    check_href,
    check_size,
    file_driver,
    is_remote,
    local_path,
    remote_driver,
)
from .signing import S3, PlanetaryComputer, Signer
from .transport import Patience, Transport

KEPT_RASTERS = 512


@dataclass(frozen=True, kw_only=True)
class ReadPolicy:
    """How patient, how trusting and how large reads may be.

    Args:
        patience: Time-outs and repetitions.
        trust: What is allowed beyond public hosts.
        limits: The largest raster that is opened.
        signers: Who makes requests; the first that covers an href does.
        cache_bytes: Most bytes, compressed as they came, that a process keeps.
        ahead_bytes: Most bytes fetched beyond what is asked for, once a scene is read row by row.

    Example:
        >>> ReadPolicy(patience=Patience(total=60), trust=Trust(hosts=("127.0.0.1",))).cache_bytes
        134217728
    """

    patience: Patience = field(default_factory=Patience)
    trust: Trust = field(default_factory=Trust)
    limits: Limits = field(default_factory=Limits)
    signers: tuple[Signer, ...] = (PlanetaryComputer(), S3())
    cache_bytes: int = 128 << 20
    ahead_bytes: int = 32 << 20


@dataclass(frozen=True, kw_only=True)
class RasterInfo:
    """What a raster says of itself.

    Args:
        href: Where it is, redacted.
        driver: GDAL's name of the format.
        shape: Rows and columns.
        crs: Its coordinate reference system as WKT, or None.
        transform: Pixel to CRS, or None where there is none.
        dtypes: NumPy type names, one a band.
        nodata: Nodata values, one a band.
        colors: Colour interpretation, one a band ("red", "alpha", "undefined" ...).
        descriptions: Names of the bands, "" where there is none.
        scales: Scale, one a band.
        offsets: Offset, one a band.
        levels: Rows and columns of each resolution, the full one first.
        block: Rows and columns of a block.
        has_mask: Whether it has a mask of its own.
        gcps: Ground control points as (row, col, x, y, z).
        gcps_crs: The CRS of the ground control points as WKT.
        has_rpcs: Whether it has rational polynomial coefficients.
        tags: Its own metadata.
    """

    href: str
    driver: str
    shape: tuple[int, int]
    crs: str | None
    transform: Affine | None
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    colors: tuple[str, ...]
    descriptions: tuple[str, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    levels: tuple[tuple[int, int], ...]
    block: tuple[int, int]
    has_mask: bool
    gcps: tuple[tuple[float, float, float, float, float], ...] = ()
    gcps_crs: str | None = None
    has_rpcs: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def geobox(self) -> GeoBox | None:
        """Its grid, where it has a CRS and a transform."""
        if self.crs is None or self.transform is None:
            return None
        return GeoBox(self.shape, self.transform, self.crs)

    @property
    def white_is_nodata(self) -> bool:
        """Whether it calls 255 no data though it holds 8-bit colours, in which 255 is white.

        Many such files do by mistake, and it would pierce every white roof.
        """
        return (
            len(self.dtypes) >= 3 and set(self.dtypes) == {"uint8"} and set(self.nodata) == {255.0}
        )

    @property
    def overviews(self) -> tuple[int, ...]:
        """How many times coarser each overview is."""
        return tuple(round(self.shape[1] / width) for _, width in self.levels[1:])


class Raster(Protocol):
    """A raster whose header was read and found in order."""

    info: RasterInfo

    def read(
        self,
        level: int,
        window: Window,
        bands: Sequence[int],
        deadline: float,
        scene: Window | None = None,
    ) -> tuple[Array, Mask | None]:
        """Pixels of a window.

        Args:
            level: Position in `info.levels`.
            window: Pixels of that level, inside it.
            bands: Numbers of the bands, from 1.
            deadline: When `time.monotonic()` says that this read is over.
            scene: The part of that level that the whole scene takes, None where it is not known.

        Returns:
            B x h x w in the file's own type, and its mask (h x w, true where valid) if it has one.
        """
        ...


class TiffRaster:
    """A remote TIFF: only the blocks of a window are fetched, each once."""

    def __init__(self, file: RemoteFile, policy: "ReadPolicy", deadline: float) -> None:
        self._file = file
        self._levels = tiff.read_layout(lambda a, b: file.read(a, b, deadline), policy.limits)
        limit = 0 if on_cluster() else min(policy.ahead_bytes, policy.cache_bytes // 4)
        self._ahead = [ReadAhead(limit) for _ in self._levels]
        first = self._levels[0]
        with _damage(), _memory(tiff.header_tiff(first), "GTiff") as header:
            self.info = _info(
                header,
                href=file.href,
                shape=first.shape,
                levels=tuple(level.shape for level in self._levels),
                block=first.block,
                has_mask=first.mask is not None,
            )

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

        def blocks(cols: Span) -> list[tiff.Part]:
            read = lambda a, b: self._file.read(a, b, deadline)  # noqa: E731
            found = [tiff.part(chosen, rows, cols, planes_wanted, read)]
            if chosen.mask is not None:
                found.append(tiff.part(chosen.mask, rows, cols, (0,), read))
            return found

        parts = blocks(cols)
        spans = [span for part in parts for span in part.spans]
        later = None if scene is None else self._later(level, parts[0], spans, scene)
        ahead = [] if later is None else [s for part in blocks(later) for s in part.spans]
        bodies = self._bodies(spans, deadline, ahead)
        try:
            found = self._decoded(parts, bodies)
        except DamagedError as error:  # was it fetched wrong, or is it stored wrong?
            self._file.forget(spans)
            again = self._bodies(spans, deadline)
            if again == bodies:
                raise DamagedError(f"the file itself is damaged here: {error}") from error
            found = self._decoded(parts, again)
        y, x = parts[0].origin
        inside = np.s_[:, top - y : bottom - y, left - x : right - x]
        planes = found[0][inside]
        if not chosen.separate:  # of separate bands only those wanted were fetched, in their order
            planes = planes[[band - 1 for band in bands]]
        if chosen.mask is None:
            return planes, None
        y, x = parts[1].origin
        return planes, found[1][0, top - y : bottom - y, left - x : right - x] > 0

    def _later(
        self, level: int, part: tiff.Part, spans: Sequence[Span], scene: Window
    ) -> Span | None:
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

    def _bodies(
        self, spans: Sequence[Span], deadline: float, ahead: Sequence[Span] = ()
    ) -> list[bytes]:
        end = max((stop for _, stop in spans), default=0)
        if end > self._file.size:
            raise DamagedError(
                f"the file ends at byte {self._file.size:,}, before its block at {end:,}"
            )
        ahead = [span for span in ahead if 0 < span[1] <= self._file.size]
        held = iter(self._file.read_many([s for s in spans if s[1]], deadline, ahead))
        return [next(held) if span[1] else b"" for span in spans]

    @staticmethod
    def _decoded(parts: Sequence[tiff.Part], bodies: Sequence[bytes]) -> list[Array]:
        """All pixels of the blocks, their checksums verified."""
        found, at = [], 0
        for part in parts:
            mine = bodies[at : at + len(part.spans)]
            at += len(part.spans)
            planes = decode(tiff.small_tiff(part, mine))
            tiff.verify(part, mine, planes)
            found.append(planes)
        return found


class GdalRaster:
    """A file that GDAL opens itself: one of this machine, or one that was fetched whole."""

    def __init__(
        self, source: "_Path | _Bytes", href: str, limits: Limits, deadline: float
    ) -> None:
        self._source = source
        with _damage(), source.open(deadline) as file:
            width = max(np.dtype(name).itemsize for name in file.dtypes)
            check_size(file.shape, file.count, file.block_shapes[0], width, limits)
            flags = file.mask_flag_enums[0]
            shapes = [file.shape]
            for number in range(len(file.overviews(1))):
                with source.open(deadline, overview_level=number) as overview:
                    shapes.append(overview.shape)
            self.info = _info(
                file,
                href=href,
                shape=file.shape,
                levels=tuple(shapes),
                block=file.block_shapes[0],
                has_mask=MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags,
            )

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
        options = {"overview_level": level - 1} if level else {}
        with _damage(), self._source.open(deadline, **options) as file:
            mask = file.read_masks(1, window=window) > 0 if self.info.has_mask else None
            return file.read(list(bands), window=window), mask


@dataclass(frozen=True, kw_only=True)
class _Path:
    """A file of this machine."""

    path: str
    driver: str | None
    patience: Patience

    @contextmanager
    def open(self, deadline: float, **options: int) -> Iterator[DatasetReader]:
        """Open it; a VRT that the user names may lead GDAL to the network, but not to wait there."""
        del deadline
        wait = self.patience
        with (
            rasterio.Env(
                GDAL_CACHEMAX=128,
                GDAL_HTTP_CONNECTTIMEOUT=wait.connect,
                GDAL_HTTP_TIMEOUT=wait.total,
                GDAL_HTTP_LOW_SPEED_TIME=math.ceil(wait.stall),
                GDAL_HTTP_LOW_SPEED_LIMIT=wait.slowest,
                GDAL_HTTP_MAX_RETRY=wait.retries,
                GDAL_HTTP_RETRY_DELAY=wait.first_wait,
            ),
            _silently(lambda: rasterio.open(self.path, driver=self.driver, **options)) as file,
        ):
            yield file


@dataclass(frozen=True, kw_only=True)
class _Bytes:
    """A remote file that is read whole."""

    file: RemoteFile
    driver: str

    @contextmanager
    def open(self, deadline: float, **options: int) -> Iterator[DatasetReader]:
        """Fetch it, or take what is kept, and open it."""
        with _memory(self.file.whole(deadline), self.driver, **options) as file:
            yield file


@contextmanager
def _memory(data: bytes, driver: str, **options: int) -> Iterator[DatasetReader]:
    with (
        MemoryFile(data) as memory,
        _silently(lambda: memory.open(driver=driver, **options)) as file,
    ):
        yield file


def decode(data: bytes) -> Array:
    """All bands of a TIFF in memory."""
    with _damage(), _memory(data, "GTiff") as file:
        planes: Array = file.read()
        return planes


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
def _ear() -> _Ear:
    ear = _Ear()
    logging.getLogger("rasterio._err").addHandler(ear)
    return ear


@contextmanager
def _damage() -> Iterator[None]:
    """What cannot be decoded inside, or only in part, is damaged."""
    here = _ear().here
    heard: list[str] = []
    here.heard = heard
    try:
        yield
    except RasterioError as error:
        raise DamagedError(redact_text(_reason(error))) from error
    finally:
        here.heard = None
    if heard:
        raise DamagedError(heard[0])


_WARNINGS = threading.Lock()


def _silently(opening: Any) -> DatasetReader:
    """Open without a warning about missing georeference: whether it matters is judged elsewhere."""
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        file: DatasetReader = opening()
        return file


def _info(file: DatasetReader, href: str, **known: Any) -> RasterInfo:
    points, points_crs = file.gcps
    placed = not points and not file.transform.is_identity
    return RasterInfo(
        href=redact(href),
        driver=file.driver,
        crs=file.crs.to_wkt() if file.crs else None,
        transform=file.transform if placed else None,
        dtypes=tuple(file.dtypes),
        nodata=tuple(file.nodatavals),
        colors=tuple(color.name for color in file.colorinterp),
        descriptions=tuple(name or "" for name in file.descriptions),
        scales=tuple(file.scales),
        offsets=tuple(file.offsets),
        gcps=tuple((p.row, p.col, p.x, p.y, p.z or 0.0) for p in points),
        gcps_crs=points_crs.to_wkt() if points_crs else None,
        has_rpcs=file.rpcs is not None,
        tags=file.tags(),
        **known,
    )


def _reason(error: BaseException) -> str:
    """GDAL's own words, which rasterio keeps as the cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


class Session:
    """What the reads of one process under one policy share.

    Args:
        policy: Patience, trust, limits, signers.
    """

    def __init__(self, policy: ReadPolicy) -> None:
        self.policy = policy
        transport = Transport(policy.patience, policy.trust)
        self._network = Network(transport, policy.signers, policy.limits, policy.cache_bytes)
        self._rasters: OrderedDict[str, Raster] = OrderedDict()
        self._opening: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self._lock = threading.Lock()

    def raster(self, href: str, origin: str | None, deadline: float) -> Raster:
        """An opened raster; a remote one stays open, so that its header is read once.

        Args:
            href: URL or path.
            origin: The URL of the item that names it; None where the user does.
            deadline: When `time.monotonic()` says that this read is over.
        """
        check_href(href, origin=origin, trust=self.policy.trust)
        remote = is_remote(href)
        key = href if remote else f"{_state(local_path(href))}|{origin is None}"
        with self._lock:
            opening = self._opening.setdefault(key, threading.Lock())
        with opening:
            with self._lock:
                raster = self._rasters.pop(key, None)
            if raster is None:
                raster = (
                    self._remote(href, deadline) if remote else self._local(href, origin, deadline)
                )
            with self._lock:
                self._rasters[key] = raster
                while len(self._rasters) > KEPT_RASTERS:
                    self._rasters.popitem(last=False)
        return raster

    def forget(self, href: str) -> None:
        """Open it anew next time."""
        with self._lock:
            self._rasters.pop(href, None)

    def _remote(self, href: str, deadline: float) -> Raster:
        file = RemoteFile(href, self._network, deadline)
        try:
            return self._understood(file, deadline)
        except (DamagedError, RefusedError) as error:  # fetched wrong, or stored so?
            file.forget_header()
            again = RemoteFile(href, self._network, deadline)
            try:
                return self._understood(again, deadline)
            except (DamagedError, RefusedError) as still:
                raise still from error

    def _understood(self, file: RemoteFile, deadline: float) -> Raster:
        limits, driver = self.policy.limits, remote_driver(file.start)
        if driver == "GTiff":
            return TiffRaster(file, self.policy, deadline)
        return GdalRaster(_Bytes(file=file, driver=driver), file.href, limits, deadline)

    def _local(self, href: str, origin: str | None, deadline: float) -> Raster:
        path = local_path(href)
        driver = None if origin is None else file_driver(path)
        here = _Path(path=path, driver=driver, patience=self.policy.patience)
        return GdalRaster(here, href, self.policy.limits, deadline)


def _state(path: str) -> str:
    """A name for a file as it is now: another one once it is written again."""
    try:
        now = Path(path).stat()
    except OSError:  # GDAL may know what it is, a subdataset for example
        return path
    return f"{path}|{now.st_mtime_ns}|{now.st_size}"


_SESSIONS: dict[tuple[int, ReadPolicy], Session] = {}
_SESSIONS_LOCK = threading.Lock()


def session(policy: ReadPolicy) -> Session:
    """This process's session for a policy; a forked process makes its own."""
    key = (os.getpid(), policy)
    with _SESSIONS_LOCK:
        if key not in _SESSIONS:
            _SESSIONS[key] = Session(policy)
        return _SESSIONS[key]


def deadline(policy: ReadPolicy) -> float:
    """When a read that begins now is over, as `time.monotonic()` counts."""
    return time.monotonic() + policy.patience.total


__all__ = ["ChangedError", "RasterInfo", "ReadPolicy", "Session", "deadline", "session"]
