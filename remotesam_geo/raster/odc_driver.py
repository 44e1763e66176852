"""A driver for odc-stac: reads that are signed, retried and verified, and never turn a failure into no data.

`odc.stac.load(items, driver=SceneDriver())` reads by it. `load` of this package reads each file by the same driver,
without odc-stac's graph, and asks for several bands of a file at once:

* `RasterBandMetadata.driver_data=AssetBands(indexes=(1, 2, 3), valid=True)`, with `dims=("band", "y", "x")`, gives a
  plane for each index and a last plane that is 1 where the pixel is valid. `FUSE_FIRST` and `FUSE_LAST`, names for
  `fuse_func`, then take whole pixels by that plane.
* Then `resampling` is "auto" (copies where grids agree, averages where the target is coarser, else interpolates),
  "mode" (the majority where coarser, else nearest) or "nearest".
* `RasterSource.driver_data=AssetRef(item=..., asset=..., origin=...)` names the source in errors and says where the
  item came from.

Bands without `AssetBands` follow odc-loader's rules, see `plain_bands`. Scale and offset are never applied here.
"""

import hashlib
import sys
import threading
import uuid
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, TypeVar

import numpy as np
from odc.geo.geobox import GeoBox
from odc.loader._reader import resolve_band_query
from odc.loader.types import MDParser, RasterLoadParams, RasterSource
from rasterio.errors import RasterioError

from remotesam_geo.errors import InputError, ReadError, RemoteSAMWarning
from remotesam_geo.geo.grids import short_crs
from remotesam_geo.net.policy import ReadPolicy
from remotesam_geo.net.ranges import ChangedError
from remotesam_geo.net.redact import redact, redact_text
from remotesam_geo.net.trust import DamagedError, is_remote

from .info import Raster
from .nesting import Array, Mask
from .plain_bands import PlainBands
from .read import AssetBands, Reading, grid_of
from .readahead import on_cluster
from .session import RasterInfo, deadline, session

__all__ = [
    "FUSE_FIRST",
    "FUSE_LAST",
    "AssetBands",
    "AssetRef",
    "RasterInfo",
    "ReadFailure",
    "ReadPolicy",
    "SceneDriver",
    "SceneReader",
    "SourceError",
    "fingerprint",
    "fuse_first",
    "fuse_last",
    "inspect",
]

ROI = tuple[slice, slice]
Out = TypeVar("Out")

FUSE_FIRST = f"{__name__}.fuse_first"
FUSE_LAST = f"{__name__}.fuse_last"
MOST_SKIPPED = 10_000  # sources whose warnings are remembered


@dataclass(frozen=True, kw_only=True)
class AssetRef:
    """Where a source comes from: `RasterSource.driver_data`.

    Args:
        item: Id of the item.
        asset: Name of the asset.
        origin: The item's own URL, or None for items that the user's own files gave.
    """

    item: str = ""
    asset: str = ""
    origin: str | None = None


@dataclass(frozen=True, kw_only=True)
class ReadFailure:
    """What could not be read, and why; every URL in it is redacted.

    Args:
        item: Id of the item, "" where it is not known.
        asset: Name of the asset, "" where it is not known.
        href: Where it lies.
        window: The part of the target grid that was wanted.
        cause: What went wrong.
    """

    item: str
    asset: str
    href: str
    window: str
    cause: str

    def __str__(self) -> str:
        named = " of ".join(part for part in (self.asset, self.item) if part)
        return f"could not read {named or 'the raster'} at {self.href}, {self.window}: {self.cause}"


class SourceError(ReadError):
    """A read that failed after all that was tried; `failure` says what and why."""

    def __init__(self, failure: ReadFailure) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        return str(self.failure)


def fuse_first(target: Array, source: Array) -> None:
    """Keep what is there, fill gaps with whole pixels: B x h x w, the last plane is validity."""
    np.copyto(target, source, where=(target[-1] == 0) & (source[-1] != 0))


def fuse_last(target: Array, source: Array) -> None:
    """Take every valid pixel of the newer source, whole: B x h x w, the last plane validity."""
    np.copyto(target, source, where=source[-1] != 0)


def inspect(href: str, *, origin: str | None = None, policy: ReadPolicy | None = None) -> RasterInfo:
    """Read a raster's header, with the patience and the trust of any read.

    Args:
        href: URL or path.
        origin: The URL of the item that names it, None where the user does.
        policy: As for `SceneDriver`.

    Returns:
        Grid, bands, types, nodata, mask and colours.

    Raises:
        SourceError: It cannot be read, or is not opened on purpose.
    """
    policy = policy or ReadPolicy()
    with _reported_as_source_error(AssetRef(origin=origin), href, "its header"):
        return session(policy).raster(href, origin, deadline(policy), fresh=True).info


def fingerprint(href: str, *, origin: str | None = None, policy: ReadPolicy | None = None) -> dict[str, Any]:
    """What tells a raster from another one at the same address, as plain JSON values.

    Args:
        href: URL or path.
        origin: The URL of the item that names it, None where the user does.
        policy: As for `SceneDriver`.

    Returns:
        Grid, bands, types, nodata, size and a digest of some of the bytes, read anew.

    Raises:
        SourceError: It cannot be read, or is not opened on purpose.
    """
    policy = policy or ReadPolicy()
    with _reported_as_source_error(AssetRef(origin=origin), href, "its header"):
        opened, until = session(policy), deadline(policy)
        opened.forget(href)
        info = opened.raster(href, origin, until).info
        size, sample = opened.sample(href, until)
        return {
            "crs": None if info.crs is None else str(short_crs(info.crs)),
            "transform": None if info.transform is None else list(info.transform[:6]),
            "shape": list(info.shape),
            "dtypes": list(info.dtypes),
            "nodata": [None if value is None else str(value) for value in info.nodata],
            "size": size,
            "sample": None if sample is None else hashlib.sha256(sample).hexdigest()[:32],
        }


@contextmanager
def _reported_as_source_error(ref: AssetRef, href: str, window: str) -> Iterator[None]:
    """Whatever fails inside fails as a SourceError that names the source."""
    try:
        yield
    except (ReadError, InputError, RasterioError, OSError) as error:
        failure = ReadFailure(
            item=ref.item,
            asset=ref.asset,
            href=redact(href),
            window=window,
            cause=redact_text(str(error)) or type(error).__name__,
        )
        _cut_gdal_off(error)
        raise SourceError(failure) from error


def _cut_gdal_off(error: BaseException) -> None:
    """Forget GDAL's own errors behind an error: no other process can unpickle them."""
    for cause in (error.__cause__, error.__context__):
        if type(cause).__module__ == "rasterio._err":
            error.__cause__ = error.__context__ = None
        elif cause is not None:
            _cut_gdal_off(cause)


@dataclass(frozen=True, kw_only=True)
class LoadState:
    """What the reads of one load share.

    Args:
        geobox: The grid of all that is loaded: by it a read knows what will be wanted next.
        key: Tells one load from another.
    """

    geobox: GeoBox | None = None
    key: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, kw_only=True)
class SceneReader:
    """One source, read on demand. Implements odc-loader's RasterReader.

    Args:
        source: What to read.
        policy: How.
        load: The load that it is part of.
    """

    source: RasterSource
    policy: ReadPolicy
    load: LoadState

    def read(
        self,
        cfg: RasterLoadParams,
        dst_geobox: GeoBox,
        *,
        dst: Array | None = None,
        selection: Any = None,
    ) -> tuple[ROI, Array]:
        """Read the part of the target grid that the source covers.

        Args:
            cfg: Type, fill value and resampling wanted.
            dst_geobox: The target grid.
            dst: Array of the whole target to write into.
            selection: Planes of a several-band variable.

        Returns:
            The rows and columns covered, and their pixels: h x w, or planes x h x w.

        Raises:
            SourceError: It could not be read, and `cfg.fail_on_error` is true.
        """
        ref = self.source.driver_data
        ref = ref if isinstance(ref, AssetRef) else AssetRef()
        bands = cfg.meta.driver_data if cfg.meta is not None else None
        try:
            with _reported_as_source_error(ref, self.source.uri, f"window {_window_words(dst_geobox)}"):
                if isinstance(bands, AssetBands):
                    roi, planes, valid = self._whole_pixels(dst_geobox, bands, cfg.resampling, ref)
                    out = _typed_pixels(planes, valid, cfg, append_valid=bands.valid)
                    out = out if selection is None else out[selection]
                else:
                    roi, out = self._plain(cfg, dst_geobox, selection, ref)
        except SourceError as error:
            if cfg.fail_on_error:
                raise
            self._skip(error)
            roi, out = np.s_[0:0, 0:0], np.zeros((1, 0, 0), cfg.dtype)
        if not cfg.extra_dims:
            out = out[0]
        elif cfg.ydim == 0:
            out = np.moveaxis(out, 0, -1)
        if dst is not None:
            place = roi if cfg.extra_dims and cfg.ydim == 0 else (..., *roi)
            dst[place] = out
            return roi, dst[place]
        return roi, out

    def whole_pixels(self, target: GeoBox, bands: AssetBands, resampling: str) -> tuple[ROI, Array, Mask]:
        """Read the part of the target grid that the source covers, in the file's own type.

        Args:
            target: The target grid.
            bands: Which bands, and what is not valid in them.
            resampling: By name.

        Returns:
            The rows and columns covered, their pixels (bands x h x w), and which of them are valid (h x w).

        Raises:
            SourceError: It could not be read.
        """
        ref = self.source.driver_data
        ref = ref if isinstance(ref, AssetRef) else AssetRef()
        with _reported_as_source_error(ref, self.source.uri, f"window {_window_words(target)}"):
            return self._whole_pixels(target, bands, resampling, ref)

    def _plain(self, cfg: RasterLoadParams, target: GeoBox, selection: Any, ref: AssetRef) -> tuple[ROI, Array]:
        def once(raster: Raster, until: float) -> tuple[ROI, Array]:
            grid = grid_of(raster.info, self.source.geobox)
            query = resolve_band_query(self.source, len(raster.info.dtypes), selection)
            indexes = (query,) if isinstance(query, int) else tuple(query)
            scene = self.load.geobox
            return PlainBands(raster, grid, indexes, cfg, scene=scene, until=until).onto(target)

        return self._repeated(once, ref)

    def _whole_pixels(
        self, target: GeoBox, bands: AssetBands, resampling: str, ref: AssetRef
    ) -> tuple[ROI, Array, Mask]:
        def once(raster: Raster, until: float) -> tuple[ROI, Array, Mask]:
            grid = grid_of(raster.info, self.source.geobox)
            return Reading(raster, grid, bands, self.load.geobox, until).onto(target, resampling)

        return self._repeated(once, ref)

    def _repeated(self, read: Callable[[Raster, float], Out], ref: AssetRef) -> Out:
        """Read once, and once more where the file changed, or where bytes that came from afar are damaged."""
        until, shared = deadline(self.policy), session(self.policy)

        def once() -> Out:
            raster, done = shared.raster(self.source.uri, ref.origin, until), False
            try:
                found = read(raster, until)
                done = True
            finally:
                if not done:  # its header may have come wrong: nothing of it is trusted any more
                    shared.discard(raster)
            return found

        try:
            return once()
        except ChangedError:
            warnings.warn(
                f"{redact(self.source.uri)} was changed or replaced while it was in use: what was read of it before is "
                "of the old file, what is read from now on is of the new one. Open the scene again",
                RemoteSAMWarning,
                stacklevel=2,
            )
            return once()
        except DamagedError:
            if not is_remote(self.source.uri):
                raise
        try:
            return once()
        except DamagedError as error:
            raise DamagedError(f"the file itself is damaged here: {error}") from error

    def _skip(self, error: SourceError) -> None:
        """Warn of a source that is left out: once a source, band and load in each process."""
        key = (self.load.key, self.source.uri, self.source.band)
        with _SKIPPED_LOCK:
            known = key in _SKIPPED
            _SKIPPED[key] = None
            while len(_SKIPPED) > MOST_SKIPPED:
                _SKIPPED.popitem(last=False)
        if not known:
            text = f"{error}. It is left out here, as fail_on_error=False asks: pixels that only it has are no data"
            if on_cluster():  # then the client hears of it too
                sys.modules["distributed"].warn(text, RemoteSAMWarning)
            else:
                warnings.warn(text, RemoteSAMWarning, stacklevel=3)


_SKIPPED: OrderedDict[tuple[str, str, int], None] = OrderedDict()
_SKIPPED_LOCK = threading.Lock()


def _window_words(target: GeoBox) -> str:
    left, bottom, right, top = target.boundingbox
    height, width = target.shape
    return f"{width} x {height} px at ({left:.10g}, {bottom:.10g}, {right:.10g}, {top:.10g})"


def _typed_pixels(planes: Array, valid: Mask, cfg: RasterLoadParams, *, append_valid: bool) -> Array:
    """The type and fill value asked for, and validity as a last plane."""
    dtype = planes.dtype if cfg.dtype is None else np.dtype(cfg.dtype)
    if not np.can_cast(planes.dtype, dtype, "safe"):
        kept = planes[:, valid]
        if not np.array_equal(kept, kept.astype(dtype), equal_nan=True):
            raise ReadError(f"its values ({planes.dtype}) do not fit the {dtype} wanted")
    fill = cfg.fill_value
    if fill is None:
        fill = np.nan if dtype.kind == "f" else 0
    out = np.empty((len(planes) + append_valid, *valid.shape), dtype)
    out[: len(planes)] = planes
    if not valid.all():
        out[: len(planes), ~valid] = dtype.type(fill)
    if append_valid:
        out[-1] = valid
    return out


@dataclass(frozen=True, kw_only=True)
class SceneDriver:
    """A driver for `odc.stac.load` that reads as `load` does: signed at the read, retried, verified.

    A failure is an error (`SourceError`) that names the file, never no data. With `fail_on_error=False` the source is
    left out with a `RemoteSAMWarning` that names it. Arguments of `odc.stac.load` mean what odc-stac documents. It is
    frozen and picklable and holds no open file, so it works with threads and on any dask.distributed cluster.

    Pixels equal those of odc-stac's own driver, except:

    * a mask stored in the file counts, and infinite values are no data;
    * values that do not fit the type wanted are an error, not cut off;
    * "nearest" between two CRSs is alike in every chunk; GDAL's places may be off by an eighth of a source pixel, and
      differ from chunk to chunk. A grid that lies half a source pixel aside is a tie, decided the other way;
    * `resampling="auto"` is one more method: copy where grids agree, average where coarser, else bilinear.

    The driver is not told where an item came from, so hrefs are trusted as your own: local files are opened.

    Args:
        policy: Time-outs, trust, limits and signers.
        md_parser: Reads the items' metadata; None for odc-stac's own.

    Examples:
        >>> import odc.stac
        >>> from remotesam_geo.scenes import ReadPolicy, SceneDriver
        >>> driver = SceneDriver(policy=ReadPolicy(cache_bytes=1 << 20))
        >>> def open_scene(items):
        ...     return odc.stac.load(items, driver=driver, chunks={"x": 2048, "y": 2048})
    """

    policy: ReadPolicy = field(default_factory=ReadPolicy)
    md_parser: MDParser | None = None

    @property
    def dask_reader(self) -> None:
        """None: odc-loader's own tasks read."""

    @property
    def aux_reader(self) -> Any:
        """Reads `with_properties`, as odc-stac does."""
        return import_module("odc.stac._mdtools").StacAuxReader()

    def new_load(self, geobox: GeoBox, *, chunks: dict[str, int] | None = None) -> LoadState:
        """What the reads of one load share."""
        del chunks
        return LoadState(geobox=geobox)

    def finalise_load(self, load_state: LoadState | None) -> None:
        """Nothing to close."""

    def capture_env(self) -> dict[str, Any]:
        """What goes into the graph's name besides sources and grid."""
        return {"policy": repr(self.policy)}

    @contextmanager
    def restore_env(self, env: dict[str, Any], load_state: LoadState | None) -> Iterator[LoadState | None]:
        """GDAL's settings are made read by read, not for the thread."""
        del env
        yield load_state

    def open(self, src: RasterSource, ctx: LoadState | None) -> SceneReader:
        """A reader of one source; nothing is opened before it is read."""
        return SceneReader(source=src, policy=self.policy, load=ctx or LoadState())
