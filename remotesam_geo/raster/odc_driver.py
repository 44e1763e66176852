"""The odc-loader driver: reads that succeed or say why, never pixels that lie.

How `load` uses it::

    driver = SceneDriver(policy=ReadPolicy(), md_parser=...)  # picklable, frozen, no open files
    odc.stac.load(items, driver=driver, resampling="auto", fuse_func={"*": FUSE_FIRST}, chunks=...)

* Bands of one asset are read together when they are loaded as ONE variable: give the asset's
  `RasterBandMetadata` `dims=("<asset>_band", "y", "x")` and
  `driver_data=AssetBands(indexes=(1, 2, 3), valid=True)`. The variable then has a plane for each
  index and one last plane that says per pixel whether it is valid (1) or not (0); slice it into
  red, green, blue, valid (its dimension has `len(indexes) + 1` entries). `FUSE_FIRST` and
  `FUSE_LAST` (names for `fuse_func`) then take whole pixels by that plane, never one band from here and another
  from there.
* A plain two-dimensional band (no `dims`) works as in odc-stac: what is not valid is `fill_value`.
* `RasterSource.driver_data=AssetRef(item=..., asset=..., origin=...)` (from the parser's
  `driver_data` method) names the source in errors, and says where the item came from.
* `resampling="auto"`: untouched where grids agree, average when going coarser, bilinear else.
  "mode" for classes: majority when coarser, nearest else. "nearest" picks, knowingly.
* `inspect(href, ...)` gives a raster's own grid, bands, types, nodata, mask and colours.
* A read that fails raises `SourceError` (a `ReadError`); `failure` says where and why.
* Scale and offset are not applied here.
"""

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox
from odc.loader.types import MDParser, RasterLoadParams, RasterSource
from rasterio.errors import RasterioError

from remotesam_geo.errors import InputError, ReadError, RemoteSAMWarning
from remotesam_geo.geo.grids import short_crs
from remotesam_geo.net.policy import ReadPolicy
from remotesam_geo.net.ranges import ChangedError
from remotesam_geo.net.redact import redact, redact_text
from remotesam_geo.net.trust import DamagedError, is_remote

from .nesting import Array, Mask
from .read import AssetBands, Reading, grid_of
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

FUSE_FIRST = f"{__name__}.fuse_first"
FUSE_LAST = f"{__name__}.fuse_last"


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


def inspect(
    href: str, *, origin: str | None = None, policy: ReadPolicy | None = None
) -> RasterInfo:
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
    with _reported(AssetRef(origin=origin), href, "its header"):
        return session(policy).raster(href, origin, deadline(policy), fresh=True).info


def fingerprint(
    href: str, *, origin: str | None = None, policy: ReadPolicy | None = None
) -> dict[str, Any]:
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
    with _reported(AssetRef(origin=origin), href, "its header"):
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
def _reported(ref: AssetRef, href: str, window: str) -> Iterator[None]:
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
        raise SourceError(failure) from error


@dataclass(frozen=True, kw_only=True)
class SceneReader:
    """One source, read on demand. Implements odc-loader's RasterReader.

    Args:
        source: What to read.
        policy: How.
        scene: The grid of all that is loaded, None where it is not known.
    """

    source: RasterSource
    policy: ReadPolicy
    scene: GeoBox | None = None

    def read(
        self,
        cfg: RasterLoadParams,
        dst_geobox: GeoBox,
        *,
        dst: Array | None = None,
        selection: Any = None,
    ) -> tuple[tuple[slice, slice], Array]:
        """Read what of the target grid the source covers.

        Args:
            cfg: Type, fill value and resampling wanted.
            dst_geobox: The target grid.
            dst: Array of the whole target to write into.
            selection: Planes of a several-band variable.

        Returns:
            The rows and columns covered, and their pixels: h x w, or planes x h x w.

        Raises:
            SourceError: It could not be read.
        """
        bands = cfg.meta.driver_data if cfg.meta is not None else None
        if not isinstance(bands, AssetBands):
            bands = AssetBands(indexes=(self.source.band or 1,), valid=False)
        ref = self.source.driver_data
        ref = ref if isinstance(ref, AssetRef) else AssetRef()
        with _reported(ref, self.source.uri, f"window {_named(dst_geobox)}"):
            roi, planes, valid = self._pixels(cfg.resampling, dst_geobox, bands, ref)
            out = _finished(planes, valid, cfg, append_valid=bands.valid)
        if not cfg.extra_dims:
            out = out[0]
        elif selection is not None:
            out = out[selection]
        if dst is not None:
            dst[(..., *roi)] = out
            return roi, dst[(..., *roi)]
        return roi, out

    def _pixels(
        self, resampling: str, target: GeoBox, bands: AssetBands, ref: AssetRef
    ) -> tuple[tuple[slice, slice], Array, Mask]:
        """Read once, and once more where the file changed, or where bytes that came from afar are damaged."""
        until, shared = deadline(self.policy), session(self.policy)

        def once() -> tuple[tuple[slice, slice], Array, Mask]:
            raster, done = shared.raster(self.source.uri, ref.origin, until), False
            try:
                grid = grid_of(raster.info, self.source.geobox)
                found = Reading(raster, grid, bands, self.scene, until).onto(target, resampling)
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


def _named(target: GeoBox) -> str:
    left, bottom, right, top = target.boundingbox
    height, width = target.shape
    return f"{width} x {height} px at ({left:.10g}, {bottom:.10g}, {right:.10g}, {top:.10g})"


def _finished(planes: Array, valid: Mask, cfg: RasterLoadParams, *, append_valid: bool) -> Array:
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
    """odc-loader's ReaderDriver over our own reads: frozen, picklable, without open files.

    Args:
        policy: Patience, trust, limits and signers.
        md_parser: What reads an item's metadata; None: odc-stac's own.
        aux_reader: What reads auxiliary bands; None: there are none.

    Examples:
        >>> SceneDriver(policy=ReadPolicy(cache_bytes=1 << 20)).policy.cache_bytes
        1048576
    """

    policy: ReadPolicy = field(default_factory=ReadPolicy)
    md_parser: MDParser | None = None
    aux_reader: Any = None
    dask_reader: None = None

    def new_load(self, geobox: GeoBox, *, chunks: dict[str, int] | None = None) -> GeoBox:
        """The grid of all that is loaded: by it a read knows what will be wanted next."""
        del chunks
        return geobox

    def finalise_load(self, load_state: GeoBox | None) -> None:
        """Nothing to close."""

    def capture_env(self) -> dict[str, Any]:
        """What goes into the graph's name besides sources and grid."""
        return {"policy": repr(self.policy)}

    @contextmanager
    def restore_env(
        self, env: dict[str, Any], load_state: GeoBox | None
    ) -> Iterator[GeoBox | None]:
        """GDAL's settings are made read by read, not for the thread."""
        del env
        yield load_state

    def open(self, src: RasterSource, ctx: GeoBox | None) -> SceneReader:
        """A reader of one source in a load of one grid; nothing is opened before it is read."""
        return SceneReader(source=src, policy=self.policy, scene=ctx)
