"""Bands on a grid by the rules of odc-loader, for `odc.stac.load(items, driver=SceneDriver())`.

Types, nodata, overviews and resampling follow odc-loader's own driver, but the mask that a file stores counts, and
values that the type cannot hold are an error.
"""

import numpy as np
from odc.geo.geobox import GeoBox
from odc.geo.overlap import compute_reproject_roi
from odc.loader import resolve_dst_dtype, resolve_dst_nodata, resolve_src_nodata
from odc.loader.types import RasterLoadParams
from rasterio.enums import Resampling
from rasterio.warp import reproject

from remotesam_geo.errors import InputError, ReadError

from .handles import ignore_no_place
from .info import Raster
from .nesting import Array, Mask, equal
from .read import AssetBands, Reading
from .warp import covered

__all__ = ["BY_GDAL", "PlainBands"]

OWN = ("nearest", "auto")
BY_GDAL = (
    "bilinear", "cubic", "cubic_spline", "lanczos", "average", "mode",
    "max", "min", "med", "q1", "q3", "sum", "rms",
)  # fmt: skip
"""Methods of GDAL: their pixels near the border of a chunk may depend on the chunk, as with odc-loader's driver."""

Roi = tuple[slice, slice]


class PlainBands:
    """Some bands of a raster while they are read onto one target.

    Args:
        raster: The raster.
        grid: Its grid.
        indexes: Numbers of the bands, from 1.
        cfg: What is wanted.
        scene: The grid of all that is loaded, None where it is not known.
        until: When `time.monotonic()` says that this read is over.
    """

    def __init__(
        self, raster: Raster, grid: GeoBox, indexes: tuple[int, ...], cfg: RasterLoadParams,
        *, scene: GeoBox | None, until: float,
    ) -> None:  # fmt: skip
        self.cfg, self.method = cfg, cfg.resampling.lower()
        if self.method not in OWN + BY_GDAL:
            raise InputError(f"resampling {cfg.resampling!r} is not supported: use one of {', '.join(OWN + BY_GDAL)}")
        count = len(raster.info.nodata)
        said = raster.info.nodata[indexes[0] - 1] if 1 <= indexes[0] <= count else None
        self.nodata = resolve_src_nodata(said, cfg)
        bands = AssetBands(
            indexes=indexes,
            valid=False,
            alpha=False,
            nodata=self.nodata if self.method == "auto" else None,
        )
        self.reading = Reading(raster, grid, bands, scene, until, overviews=cfg.use_overviews)
        self.dtype = resolve_dst_dtype(str(self.reading.dtype), cfg)
        outside = resolve_dst_nodata(self.dtype, cfg, resolve_src_nodata(cfg.fill_value, cfg))
        self.outside = self.dtype.type(0) if outside is None else outside
        missing = resolve_dst_nodata(self.dtype, cfg, self.nodata)
        self.missing = self.outside if missing is None else missing

    def onto(self, target: GeoBox) -> tuple[Roi, Array]:
        """The rows and columns of the target that the raster covers, and their pixels (bands x h x w)."""
        nest = self.reading.nesting(self.reading.grid, target)
        if nest is not None and (nest.size == (1, 1) or self.method in OWN):
            roi, planes, valid = self.reading.onto(target, self._own)
            return roi, self._filled(planes, self._known(planes, valid))
        if self.method in BY_GDAL:
            rows, columns = compute_reproject_roi(self.reading.grid, target).roi_dst
            roi = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
            part = target[roi]
            return roi, self._by_gdal(part) if all(part.shape) else self._nothing()
        inside = covered(self.reading.grid, target)
        if not inside.any():
            return np.s_[0:0, 0:0], self._nothing()
        roi = _box(inside)
        _, planes, valid = self.reading.onto(target[roi], self._own)
        out = self._filled(planes, self._known(planes, valid))
        if self.missing != self.outside and not np.isnan(self.missing):
            out[:, ~inside[roi]] = self.outside
        return roi, out

    def _nothing(self) -> Array:
        return np.zeros((len(self.reading.bands.indexes), 0, 0), self.dtype)

    @property
    def _own(self) -> str:
        return "auto" if self.method == "auto" else "nearest"

    def _known(self, planes: Array, mask: Mask) -> Mask:
        """Which values are valid, band by band."""
        known = np.broadcast_to(mask, planes.shape)
        if self.method != "auto":  # which has judged it before it averaged
            known = known & np.stack([~equal(plane, self.nodata) for plane in planes])
        return known & np.isfinite(planes) if planes.dtype.kind == "f" else known

    def _filled(self, planes: Array, known: Mask) -> Array:
        """Values in the type wanted, and its nodata where they are not valid."""
        self._check(planes, known)
        round_off = self.dtype.kind in "ui" and planes.dtype.kind == "f"
        out = np.full(planes.shape, self.missing, self.dtype)
        with np.errstate(invalid="ignore", over="ignore"):
            np.copyto(out, np.rint(planes) if round_off else planes, where=known, casting="unsafe")
        return out

    def _check(self, planes: Array, known: Mask) -> None:
        """Refuse values that the type cannot hold."""
        if self.dtype.kind not in "ui" or np.can_cast(planes.dtype, self.dtype, "safe"):
            return
        values = planes[known]
        if not values.size:
            return
        limits = np.iinfo(self.dtype)
        low, high = values.min(), values.max()
        fits = limits.min <= np.rint(low) and np.rint(high) <= limits.max
        said = None if self.cfg.meta is None else self.cfg.meta.data_type
        if said == self.cfg.dtype:  # the item says so, and nobody asked for whole numbers
            fits = fits and np.array_equal(values, np.rint(values))
        if not fits:
            raise ReadError(
                f"its values ({planes.dtype}, {low} to {high}) do not fit the {self.dtype} wanted: give "
                "odc.stac.load another dtype=, or correct data_type in the item"
            )

    def _by_gdal(self, target: GeoBox) -> Array:
        """Resampled by GDAL, from pixels that our own reader fetched."""
        found = self.reading.around(target)
        if isinstance(found, list):  # too many at once
            axis = int(target.shape[1] > target.shape[0])
            return np.concatenate([self._by_gdal(half) for half in found], axis=axis + 1)
        planes, mask, grid = found
        known = self._known(planes, mask)
        self._check(planes, known)
        # GDAL takes one value for no data. Where a mask or NaN says it, no other value is sure to be free.
        masked = not mask.all()
        if masked:
            planes = np.where(known, planes, np.nan)
        kind = planes.dtype if masked else self.dtype
        out = np.full((len(planes), *target.shape), np.nan if masked else self.missing, kind)
        ignore_no_place("rasterio.warp")  # it warns of its own arrays where threads work at once
        for plane, made in zip(planes, out, strict=True):
            reproject(
                np.ascontiguousarray(plane),
                made,
                src_transform=grid.transform,
                src_crs=str(grid.crs),
                src_nodata=np.nan if masked else self.nodata,
                dst_transform=target.transform,
                dst_crs=str(target.crs),
                dst_nodata=np.nan if masked else self.missing,
                resampling=Resampling[self.method],
            )
        return self._filled(out, ~np.isnan(out)) if masked else out


def _box(inside: Mask) -> Roi:
    """The rows and columns that hold all that is true."""
    spans = []
    for axis in (1, 0):
        found = np.flatnonzero(inside.any(axis=axis))
        spans.append(slice(int(found[0]), int(found[-1]) + 1))
    return spans[0], spans[1]
