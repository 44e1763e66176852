"""The odc-loader driver: reads that succeed or say why, never pixels that lie.

How `load` uses it::

    driver = SceneDriver(policy=ReadPolicy(), md_parser=...)  # picklable, frozen, no open files
    odc.stac.load(items, driver=driver, resampling="auto", fuse_func={"*": FUSE_FIRST}, chunks=...)

* Bands of one asset are read together when they are loaded as ONE variable: give the asset's
  `RasterBandMetadata` `dims=("<asset>_band", "y", "x")` and
  `driver_data=AssetBands(indexes=(1, 2, 3), valid=True)`. The variable then has a plane for each
  index and one last plane that says per pixel whether it is valid (1) or not (0); slice it into
  red, green, blue, valid (its dimension has `len(indexes) + 1` entries). `FUSE_FIRST` and `FUSE_LAST`
  (names for `fuse_func`) then take whole pixels by that plane, never one band from here and another
  from there.
* A plain two-dimensional band (no `dims`) works as in odc-stac: what is not valid is `fill_value`.
* `RasterSource.driver_data=AssetRef(item=..., asset=..., origin=...)` (from the parser's
  `driver_data` method) names the source in errors, and says where the item came from.
* `resampling="auto"`: untouched where grids agree, average when going coarser, bilinear else.
  "mode" for classes: majority when coarser, nearest else. Other names are taken as they are.
* `inspect(href, ...)` gives a raster's own grid, bands, types, nodata, mask and colours.
* A read that fails raises `SourceError` (a `ReadError`); `failure` says where and why.
* Scale and offset are not applied here.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.overlap import compute_reproject_roi
from odc.geo.roi import roi_is_empty
from odc.loader.types import MDParser, RasterLoadParams, RasterSource
from rasterio.enums import MaskFlags
from rasterio.windows import Window

from remotesam_geo.errors import ReadError

from . import pixels as px
from .pixels import Array, Mask

FUSE_FIRST = f"{__name__}.fuse_first"
FUSE_LAST = f"{__name__}.fuse_last"


@dataclass(frozen=True, kw_only=True)
class ReadPolicy:
    """How patient, how trusting and how large reads may be."""

    cache_bytes: int = 128 << 20


@dataclass(frozen=True, kw_only=True)
class RasterInfo:
    """What a raster says of itself; nothing in it is believed beyond what it is.

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
        overviews: Decimation of each overview.
        block: Rows and columns of a block.
        has_mask: Whether it has a mask of its own.
        gcps: Ground control points as (row, col, x, y, z), with their CRS as WKT in `gcps_crs`.
        gcps_crs: The CRS of the ground control points.
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
    overviews: tuple[int, ...]
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


@dataclass(frozen=True, kw_only=True)
class AssetBands:
    """Bands of one asset that are read together: `RasterBandMetadata.driver_data`.

    Args:
        indexes: Bands in the file, from 1, in the order wanted.
        valid: Append a last plane of 1 (valid) and 0.
        alpha: Whether a band that the file calls alpha is one; None: judged by its values.
    """

    indexes: tuple[int, ...]
    valid: bool = True
    alpha: bool | None = None


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
class Failure:
    """What could not be read, and why; every URL in it is redacted."""

    item: str
    asset: str
    href: str
    window: str
    cause: str

    def __str__(self) -> str:
        named = " ".join(part for part in (self.item, self.asset) if part) or self.href
        return f"could not read {named} ({self.href}), window {self.window}: {self.cause}"


class SourceError(ReadError):
    """A read that failed after all that was tried; `failure` says what and why."""

    def __init__(self, failure: Failure) -> None:
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
    """Read a raster's header.

    Args:
        href: URL or path.
        origin: The URL of the item that names it, None where the user does.
        policy: As for `SceneDriver`.

    Returns:
        Grid, bands, types, nodata, mask and colours.
    """
    with rasterio.open(href) as file:
        points, points_crs = file.gcps
        return RasterInfo(
            href=href,
            driver=file.driver,
            shape=file.shape,
            crs=file.crs.to_wkt() if file.crs else None,
            transform=None if points or file.transform.is_identity else file.transform,
            dtypes=tuple(file.dtypes),
            nodata=tuple(file.nodatavals),
            colors=tuple(color.name for color in file.colorinterp),
            descriptions=tuple(name or "" for name in file.descriptions),
            scales=tuple(file.scales),
            offsets=tuple(file.offsets),
            overviews=tuple(file.overviews(1)),
            block=file.block_shapes[0],
            has_mask=any(MaskFlags.per_dataset in flags for flags in file.mask_flag_enums),
            gcps=tuple((p.row, p.col, p.x, p.y, p.z or 0.0) for p in points),
            gcps_crs=points_crs.to_wkt() if points_crs else None,
            has_rpcs=file.rpcs is not None,
            tags=file.tags(),
        )


@dataclass(frozen=True, kw_only=True)
class SceneReader:
    """One source, read on demand. Implements odc-loader's RasterReader."""

    source: RasterSource
    policy: ReadPolicy

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
        """
        bands = cfg.meta.driver_data if cfg.meta is not None else None
        if not isinstance(bands, AssetBands):
            bands = AssetBands(indexes=(self.source.band or 1,), valid=False)
        roi, planes, valid = self._pixels(cfg, dst_geobox, bands)
        out = _finish(planes, valid, cfg, append_valid=bands.valid)
        if not cfg.extra_dims:
            out = out[0]
        elif selection is not None:
            out = out[selection]
        if dst is not None:
            dst[(..., *roi)] = out
            return roi, dst[(..., *roi)]
        return roi, out

    def _pixels(
        self, cfg: RasterLoadParams, target: GeoBox, bands: AssetBands
    ) -> tuple[tuple[slice, slice], Array, Mask]:
        with rasterio.open(self.source.uri) as file:
            base = GeoBox(file.shape, file.transform, str(file.crs))
            plan = compute_reproject_roi(base, target, ttol=px.SAME_GRID)
            rows, cols = plan.roi_dst
            roi = (slice(rows.start, rows.stop), slice(cols.start, cols.stop))
            dtype = np.dtype(file.dtypes[bands.indexes[0] - 1])
            if roi_is_empty(plan.roi_src) or roi_is_empty(roi):
                none = (slice(0, 0), slice(0, 0))
                return none, np.zeros((len(bands.indexes), 0, 0), dtype), np.zeros((0, 0), bool)
            wanted = target[roi]

            def read(window: Window) -> tuple[Array, Mask]:
                planes = file.read(list(bands.indexes), window=window)
                valid = file.dataset_mask(window=window) != 0
                return planes, valid

            planes, valid = _resample(base, wanted, read, cfg.resampling, plan.scale)
            return roi, planes, valid


def _resample(
    grid: GeoBox, target: GeoBox, read: Any, resampling: str, scale: float
) -> tuple[Array, Mask]:
    """Read the part of `grid` that `target` needs and bring it onto `target`."""
    nest = (
        px.nesting(~grid.transform * target.transform, target.shape)
        if grid.crs == target.crs
        else None
    )
    if nest is not None:
        (ky, kx), (ty, tx) = nest.size, nest.offset
        spans = []
        for k, t, n in ((ky, ty, target.shape[0]), (kx, tx, target.shape[1])):
            spans.append((min(t, t + k * n), max(t, t + k * n)))
        planes, valid = _read_padded(read, grid.shape.yx, spans)
        flips = tuple(-1 if k < 0 else 1 for k in (ky, kx))
        planes, valid = planes[:, :: flips[0], :: flips[1]], valid[:: flips[0], :: flips[1]]
        size = (abs(ky), abs(kx))
        if size == (1, 1):
            return planes, valid
        if resampling in ("auto", "average"):
            return px.block_mean(planes, valid, size)
        if resampling == "mode":
            return px.block_mode(planes, valid, size)
    name = resampling
    if resampling == "auto":
        name = "average" if scale > 1 else "bilinear"
    elif resampling == "mode" and scale <= 1:
        name = "nearest"
    plan = compute_reproject_roi(
        grid, target, ttol=px.SAME_GRID, padding=2 + int(np.ceil(2 * scale))
    )
    rows, cols = plan.roi_src
    planes, valid = read(Window.from_slices(rows, cols))
    return px.warp(planes, valid, grid[plan.roi_src], target, name)


def _read_padded(
    read: Any, shape: tuple[int, int], spans: list[tuple[int, int]]
) -> tuple[Array, Mask]:
    """Rows and columns that may reach beyond the raster; what is outside is not valid."""
    inner = [(max(a, 0), min(b, n)) for (a, b), n in zip(spans, shape, strict=True)]
    planes, valid = read(Window.from_slices(*inner))
    pad = [(i - a, b - j) for (a, b), (i, j) in zip(spans, inner, strict=True)]
    if any(map(any, pad)):
        planes, valid = np.pad(planes, [(0, 0), *pad]), np.pad(valid, pad)
    return planes, valid


def _finish(planes: Array, valid: Mask, cfg: RasterLoadParams, *, append_valid: bool) -> Array:
    """The type and fill value asked for, and validity as a last plane."""
    dtype = planes.dtype if cfg.dtype is None else np.dtype(cfg.dtype)
    fill = cfg.fill_value
    if fill is None:
        fill = np.nan if dtype.kind == "f" else 0
    out = np.where(valid, planes.astype(dtype), dtype.type(fill))
    return np.concatenate([out, valid[None].astype(dtype)]) if append_valid else out


@dataclass(frozen=True, kw_only=True)
class SceneDriver:
    """odc-loader's ReaderDriver over our own reads: frozen, picklable, without open files.

    Args:
        policy: Patience, trust and limits.
        md_parser: What reads an item's metadata; None: odc-stac's own.
        aux_reader: What reads auxiliary bands; None: there are none.
    """

    policy: ReadPolicy = field(default_factory=ReadPolicy)
    md_parser: MDParser | None = None
    aux_reader: Any = None
    dask_reader: None = None

    def new_load(self, geobox: GeoBox, *, chunks: dict[str, int] | None = None) -> None:
        """Nothing is shared between the reads of one load but what each process caches."""

    def finalise_load(self, load_state: None) -> None:
        """Nothing to close."""

    def capture_env(self) -> dict[str, Any]:
        """What goes into the graph's name besides sources and grid."""
        return {"policy": repr(self.policy)}

    @contextmanager
    def restore_env(self, env: dict[str, Any], load_state: None) -> Iterator[None]:  # noqa: ARG002
        """GDAL's settings are made read by read, not for the thread."""
        yield

    def open(self, src: RasterSource, ctx: None) -> SceneReader:  # noqa: ARG002
        """A reader of one source; nothing is opened before it is read."""
        return SceneReader(source=src, policy=self.policy)
