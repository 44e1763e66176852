"""Rasters placed by ground control points, warped by them."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio.warp
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.control import GroundControlPoint
from rasterio.enums import Resampling
from rasterio.transform import GCPTransformer

from remotesam_geo.geo.grids import crs_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Points:
    """Ground control points: rows, columns, and where they lie."""

    rows: tuple[float, ...]
    columns: tuple[float, ...]
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    crs: str


Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Span = tuple[int, int]

_LATTICE = 21  # points across a target at which its source window is found
_MARGIN = 3  # source pixels round it


def source_window(points: Points, shape: tuple[int, int], target: GeoBox) -> tuple[Span, Span] | None:
    """Rows and columns of a raster that a target needs, None where it needs none.

    Args:
        points: The raster's control points.
        shape: Its rows and columns.
        target: A grid.
    """
    height, width = target.shape
    a, b, c, d, e, f = target.transform[:6]
    across, down = np.meshgrid(np.linspace(0, width, _LATTICE), np.linspace(0, height, _LATTICE))
    xs, ys = (a * across + b * down + c).ravel(), (d * across + e * down + f).ravel()
    if target.crs != points.crs:
        xs, ys = crs_of(target).transformer_to_crs(CRS(points.crs))(xs, ys)
    with GCPTransformer(_rasterio_gcps(points, 0, 0)) as transformer:
        rows, columns = transformer.rowcol(xs, ys, op=float)
    spans = []
    for found, length in ((np.asarray(rows), shape[0]), (np.asarray(columns), shape[1])):
        low = max(0, math.floor(found.min()) - _MARGIN)
        high = min(length, math.ceil(found.max()) + _MARGIN)
        if low >= high:
            return None
        spans.append((low, high))
    return spans[0], spans[1]


def warp_by_points(
    pixels: Array, valid: Mask, points: Points, origin: tuple[int, int], target: GeoBox
) -> tuple[Array, Mask]:
    """Bring a window of a raster onto a grid by the raster's control points.

    Args:
        pixels: B x h x w.
        valid: h x w.
        points: Control points of the whole raster.
        origin: Row and column of the window.
        target: Grid wanted.

    Returns:
        B x H x W of the same type, and H x W.
    """
    dtype = pixels.dtype
    top = np.iinfo(dtype).max if dtype.kind in "ui" else 255
    alpha = np.where(valid, top, 0).astype(dtype)
    stack = np.concatenate([np.where(valid, pixels, 0).astype(dtype), alpha[None]])
    out = np.zeros((len(stack), *target.shape.yx), dtype=dtype)
    rasterio.warp.reproject(
        stack,
        out,
        gcps=_rasterio_gcps(points, *origin),
        src_crs=points.crs,
        dst_transform=target.transform,
        dst_crs=str(target.crs),
        src_alpha=len(stack),
        dst_alpha=len(stack),
        resampling=Resampling.bilinear,
        tolerance=0.0,  # the same pixel whatever window it is asked in
        SRC_ALPHA_MAX=str(top),
        DST_ALPHA_MAX=str(top),
    )
    return out[:-1], out[-1] > 0


def _rasterio_gcps(points: Points, top: int, left: int) -> list[GroundControlPoint]:
    places = zip(points.rows, points.columns, points.xs, points.ys, strict=True)
    return [GroundControlPoint(row - top, column - left, x, y, 0.0) for row, column, x, y in places]
