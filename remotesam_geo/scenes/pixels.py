"""From a window of one raster to the pixels of another grid: arrays in, arrays out.

Three ways, and no fourth: copy where the grids agree, average whole blocks where the target is an
exact multiple of the source, warp everywhere else. Each pixel keeps its validity.
"""

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

# How far, in source pixels, two grids may lie apart and still be called the same.
SAME_GRID = 0.05


@dataclass(frozen=True, kw_only=True)
class Nesting:
    """Target pixels that are whole blocks of source pixels: `x_source = size * x_target + offset`.

    A negative size means that the axis runs the other way.
    """

    size: tuple[int, int]  # y, x
    offset: tuple[int, int]


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
