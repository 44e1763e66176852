"""Grids that agree: target pixels that are source pixels, or whole blocks of them.

Where grids agree pixels are copied; where the target is an exact multiple of the source whole blocks
are averaged; everywhere else `warp` takes over. Each pixel keeps its validity.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine

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


def nesting(target_to_source: Affine, source: tuple[int, int]) -> Nesting | None:
    """How a target grid nests in a source grid of some shape; None where only a warp relates them.

    Judged over all of the source, and thus alike for every part of the target.
    """
    a, b, tx, d, e, ty = target_to_source[:6]
    if max(abs(b), abs(d)) * max(source) > SAME_GRID * max(abs(a), abs(e)):
        return None
    sizes, offsets = [], []
    for scale, shift, length in ((e, ty, source[0]), (a, tx, source[1])):
        size = round(scale)
        if size == 0 or abs(scale - size) * length > SAME_GRID * abs(size):
            return None
        at_centre = shift + (scale - size) * (length / 2 - shift) / scale
        if abs(at_centre - round(at_centre)) > SAME_GRID:
            return None
        sizes.append(size)
        offsets.append(round(at_centre))
    return Nesting(size=(sizes[0], sizes[1]), offset=(offsets[0], offsets[1]))


def equal(plane: Array, value: float | None) -> Mask:
    """Where a band has a value, compared in the band's own type; nowhere if the type cannot hold it.

    Args:
        plane: h x w.
        value: Nodata of the band, for example; None for no value.
    """
    if value is None or math.isnan(value):  # NaN is never valid anyway
        return np.zeros(plane.shape, bool)
    if plane.dtype.kind == "f":
        limits = np.finfo(plane.dtype)
        if math.isfinite(value):  # a limit of the type, written with too few digits, rounds beyond it
            value = min(max(value, float(limits.min)), float(limits.max))
        same: Mask = plane == plane.dtype.type(value)
        return same
    whole = np.iinfo(plane.dtype)
    if not math.isfinite(value) or value != int(value) or not whole.min <= int(value) <= whole.max:
        return np.zeros(plane.shape, bool)
    same = plane == plane.dtype.type(int(value))
    return np.asarray(same)


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
