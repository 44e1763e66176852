"""From a window of one raster to the pixels of another grid: arrays in, arrays out.

Three ways, and no fourth: copy where the grids agree, average whole blocks where the target is an
exact multiple of the source, warp everywhere else. Each pixel keeps its validity.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio.warp
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.warp import resampling_s2rio

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

Span = tuple[int, int]  # first, and the one after the last

# How far, in source pixels, two grids may lie apart and still be called the same.
SAME_GRID = 0.05


@dataclass(frozen=True, kw_only=True)
class Nesting:
    """Target pixels that are whole blocks of source pixels: `x_source = size * x_target + offset`.

    A negative size means that the axis runs the other way.
    """

    size: tuple[int, int]  # y, x
    offset: tuple[int, int]

    def source(self, target: tuple[Span, Span]) -> tuple[Span, Span]:
        """The rows and columns of the source under some rows and columns of the target."""
        (y, x), (ky, kx) = self.offset, self.size
        rows = sorted((y + ky * target[0][0], y + ky * target[0][1]))
        cols = sorted((x + kx * target[1][0], x + kx * target[1][1]))
        return (rows[0], rows[1]), (cols[0], cols[1])

    def covered(self, source: tuple[int, int], target: tuple[int, int]) -> tuple[Span, Span] | None:
        """The rows and columns of the target over a source of some shape, None without any."""
        spans = []
        for k, t, n, m in zip(self.size, self.offset, source, target, strict=True):
            low, high = sorted((-t / k, (n - t) / k))
            span = max(0, math.floor(low)), min(m, math.ceil(high))
            if span[0] >= span[1]:
                return None
            spans.append(span)
        return spans[0], spans[1]


def nesting(target_to_source: Affine, shape: tuple[int, int]) -> Nesting | None:
    """How a target grid of `shape` nests in a source grid; None where only a warp relates them."""
    a, b, tx, d, e, ty = target_to_source[:6]
    if max(abs(b), abs(d)) * max(shape) > SAME_GRID:
        return None
    sizes, offsets = [], []
    for scale, shift, length in ((e, ty, shape[0]), (a, tx, shape[1])):
        size, offset = round(scale), round(shift)
        drift = abs(shift - offset), abs(shift + scale * length - offset - size * length)
        if size == 0 or max(drift) > SAME_GRID:
            return None
        sizes.append(size)
        offsets.append(offset)
    return Nesting(size=(sizes[0], sizes[1]), offset=(offsets[0], offsets[1]))


def block_mean(pixels: Array, valid: Mask, size: tuple[int, int]) -> tuple[Array, Mask]:
    """The mean of the valid pixels of each block; a block without any is not valid.

    Args:
        pixels: B x (h * size[0]) x (w * size[1]).
        valid: (h * size[0]) x (w * size[1]).
        size: Pixels of a block, y and x.

    Returns:
        B x h x w of the same type (integers rounded to nearest, halves up), and h x w.
    """
    ky, kx = size
    bands, height, width = pixels.shape
    h, w = height // ky, width // kx
    wide = np.dtype("float64") if pixels.dtype.kind == "f" else np.dtype("int64")
    counts = valid.reshape(h, ky, w, kx).sum(axis=(1, 3), dtype="int64")
    kept = np.where(valid, pixels, 0).reshape(bands, h, ky, w, kx)
    sums = kept.sum(axis=(2, 4), dtype=wide)
    divisor = np.maximum(counts, 1)
    mean = sums / divisor if wide.kind == "f" else (2 * sums + divisor) // (2 * divisor)
    return mean.astype(pixels.dtype), counts > 0


def block_mode(pixels: Array, valid: Mask, size: tuple[int, int]) -> tuple[Array, Mask]:
    """The most frequent valid value of each block, the smallest where several are.

    Args and shapes as in `block_mean`.
    """
    ky, kx = size
    bands, height, width = pixels.shape
    h, w = height // ky, width // kx

    def blocks(values: Array) -> Array:  # ... h x w x (ky * kx)
        return values.reshape(h, ky, w, kx).swapaxes(1, 2).reshape(h, w, ky * kx)

    counted = blocks(valid)
    out = np.zeros((bands, h, w), dtype=pixels.dtype)
    for band in range(bands):
        values, best = blocks(pixels[band]), np.zeros((h, w), dtype="int64")
        for value in np.unique(pixels[band][valid]):
            votes = ((values == value) & counted).sum(axis=-1)
            out[band] = np.where(votes > best, value, out[band])
            best = np.maximum(best, votes)
    some: Mask = np.any(counted, axis=-1)
    return out, some


def warp(
    pixels: Array, valid: Mask, source: GeoBox, target: GeoBox, resampling: str
) -> tuple[Array, Mask]:
    """Resample onto another grid by GDAL's warper; invalid pixels take no part.

    Args:
        pixels: B x h x w on the grid `source`.
        valid: h x w.
        source: Grid of the pixels.
        target: Grid wanted.
        resampling: A name that rasterio knows, "average" for example.

    Returns:
        B x H x W of the same type on the grid `target`, and H x W.
    """
    dtype = pixels.dtype
    top = np.iinfo(dtype).max if dtype.kind in "ui" else 255
    alpha = np.where(valid, top, 0).astype(dtype)
    stack = np.concatenate([np.where(valid, pixels, 0).astype(dtype), alpha[None]])
    out = np.zeros((len(stack), *target.shape), dtype=dtype)
    rasterio.warp.reproject(
        stack,
        out,
        src_transform=source.transform,
        src_crs=str(source.crs),
        dst_transform=target.transform,
        dst_crs=str(target.crs),
        src_alpha=len(stack),
        dst_alpha=len(stack),
        resampling=resampling_s2rio(resampling),
        tolerance=0.0,  # exact coordinates: the same pixel whatever window it is asked in
        SRC_ALPHA_MAX=str(top),
        DST_ALPHA_MAX=str(top),
    )
    return out[:-1], out[-1] > 0


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Where a target grid lies in a source grid that only a warp relates to it.

    Args:
        rows: First row of the source, and the one after the last.
        cols: First column of the source, and the one after the last.
        scale: Source pixels a target pixel, along the axis that has fewer.
    """

    rows: Span
    cols: Span
    scale: float


def footprint(source: GeoBox, target: GeoBox) -> Footprint | None:
    """The source pixels that a target grid needs; None where the two do not meet."""
    down, across = (min(n, 32) for n in target.shape)
    rows = np.linspace(0, target.shape[0], down + 1)
    cols = np.linspace(0, target.shape[1], across + 1)
    x, y = np.meshgrid(cols, rows)
    a, b, c, d, e, f = target.transform[:6]
    x, y = a * x + b * y + c, d * x + e * y + f
    if source.crs != target.crs and source.crs is not None and target.crs is not None:
        to_source = target.crs.transformer_to_crs(source.crs)
        x, y = (np.asarray(v, dtype=float).reshape(x.shape) for v in to_source(x, y))
    a, b, c, d, e, f = (~source.transform)[:6]
    x, y = a * x + b * y + c, d * x + e * y + f
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        return None
    x, y = np.where(known, x, np.nan), np.where(known, y, np.nan)
    # Source pixels for a step of one target pixel, along the target's rows and along its columns.
    steps = [
        np.hypot(np.diff(x, axis=axis), np.diff(y, axis=axis)) * parts / length
        for axis, parts, length in ((0, down, target.shape[0]), (1, across, target.shape[1]))
    ]
    scale = float(np.nanmedian(np.minimum(steps[0][:, :-1], steps[1][:-1, :])))
    if not scale > 0:
        return None
    # Between two points of the lattice a curve bulges by an eighth of its second difference.
    bulge = max(
        (
            float(np.nanmax(np.abs(np.diff(v, 2, axis=axis)), initial=0))
            for v in (x, y)
            for axis in (0, 1)
        ),
    )
    pad = 3 + math.ceil(2 * scale) + math.ceil(bulge / 4)
    spans = []
    for values, length in ((y, source.shape[0]), (x, source.shape[1])):
        low = max(0, math.floor(np.nanmin(values)) - pad)
        high = min(length, math.ceil(np.nanmax(values)) + pad)
        if low >= high:
            return None
        spans.append((low, high))
    return Footprint(rows=spans[0], cols=spans[1], scale=scale)
