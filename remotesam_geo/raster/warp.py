"""From one grid onto another that does not agree with it: each pixel by its own coordinates.

The value of a target pixel is a fixed function of the two grids and the source's pixels, whatever the
part it is asked in: its coordinates are interpolated in a lattice that is anchored to the target's
own numbering, weights are whole numbers, and no window, thread or library decides anything.
"""

import functools
import itertools
import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from .nesting import Array, Mask, Span

Floats = npt.NDArray[np.float64]

STEPS = cv2.INTER_TAB_SIZE  # a pixel is weighted by its distance in so many steps: 32
SAMPLED = ("uint8", "uint16", "int16", "float32", "float64")  # what OpenCV samples as it is
TILE = 1024  # rows and columns of places in work at a time
CELL_METRES = 20_000.0  # coordinates are straight over so much ground, to a small part of a pixel
CELL_PIXELS = 32
TIE = 1e-6  # a place so little before the edge of a source pixel lies on it, and belongs to the pixel behind
BENT = 0.1  # source pixels by which the middle of a cell may leave its place before all of the cell is placed exactly


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """The source pixels that a target needs: first row and column, and those after the last."""

    rows: Span
    cols: Span


@dataclass(frozen=True, kw_only=True)
class _Numbering:
    """A target's pixels by numbers that do not depend on the part: x = transform * (col, row).

    Args:
        transform: Numbers to coordinates, without a part's own origin.
        first: Number of the part's first row and column.
        shape: The part's rows and columns.
        crs: The target's CRS.
        cell: Pixels between two points of the lattice.
    """

    transform: Affine
    first: tuple[int, int]
    shape: tuple[int, int]
    crs: CRS | None
    cell: int

    @classmethod
    def of(cls, target: GeoBox) -> "_Numbering":
        a, b, x, d, e, y = target.transform[:6]
        plain = Affine(a, b, 0.0, d, e, 0.0)
        col, row = ~plain * (x, y)
        # A part's origin carries the rounding of its own sums; a millionth of a pixel does not.
        left, top = math.floor(col + 5e-7), math.floor(row + 5e-7)
        shift = Affine.translation(round(col - left, 6), round(row - top, 6))
        metres = math.hypot(a, d) * (111_000.0 if target.crs and target.crs.geographic else 1.0)
        cell = int(min(max(CELL_METRES / metres, 1.0), CELL_PIXELS))
        return cls(
            transform=plain * shift,
            first=(top, left),
            shape=target.shape.yx,
            crs=target.crs,
            cell=cell,
        )

    def lattice(self, source: GeoBox) -> "_Lattice":
        """Source columns and rows, in pixels, at the corners of the cells that hold the part."""
        spans = [
            (first // self.cell, -(-(first + length) // self.cell))
            for first, length in zip(self.first, self.shape, strict=True)
        ]
        rows, cols = (np.arange(low, high + 1, dtype=np.float64) * self.cell for low, high in spans)
        if source.crs == self.crs or self.cell == 1:
            corners = self.places(source, cols, rows)
            bent = np.full((len(rows) - 1, len(cols) - 1), source.crs != self.crs)
            return _Lattice(source=source, cols=corners[0], rows=corners[1], bent=bent)
        # Places on edges and in the middle tell where straight lines will not do: beside a pole, across the
        # antimeridian, at the edge of where a CRS is defined.
        fine = self.places(source, *(np.arange(2 * len(v) - 1) * self.cell / 2 + v[0] for v in (cols, rows)))
        corners = fine[0][::2, ::2], fine[1][::2, ::2]
        bent = np.zeros((len(rows) - 1, len(cols) - 1), bool)
        for at in fine:
            one, other = at[:-1:2, :-1:2], at[:-1:2, 2::2]
            below, last = at[2::2, :-1:2], at[2::2, 2::2]
            pairs = [
                ((one + other) / 2, at[:-1:2, 1::2]),
                ((one + below) / 2, at[1::2, :-1:2]),
                ((other + last) / 2, at[1::2, 2::2]),
                ((below + last) / 2, at[2::2, 1::2]),
                ((one + other + below + last) / 4, at[1::2, 1::2]),
            ]
            nowhere = np.isnan([one, other, below, last, *(true for _, true in pairs)]).all(axis=0)
            straight = np.all([np.abs(mean - true) <= BENT for mean, true in pairs], axis=0)
            bent |= ~straight & ~nowhere
        return _Lattice(source=source, cols=corners[0], rows=corners[1], bent=bent)

    def places(self, source: GeoBox, cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Source columns and rows at columns and rows of the target."""
        return _source_pixels(source, self.crs, *_warp_by_affine(self.transform, *np.meshgrid(cols, rows)))


@dataclass(frozen=True, kw_only=True)
class _Lattice:
    """Where the corners of cells lie in a source.

    Attributes:
        source: Grid of the source.
        cols: Its columns at the corners (m x n).
        rows: Its rows at the corners (m x n).
        bent: Cells in which places cannot be interpolated between the corners (m - 1 x n - 1).
    """

    source: GeoBox
    cols: Floats
    rows: Floats
    bent: Mask


def _warp_by_affine(transform: Affine, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    a, b, c, d, e, f = transform[:6]
    return a * x + b * y + c, d * x + e * y + f


def _source_pixels(source: GeoBox, crs: CRS | None, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Pixel coordinates of a source for coordinates of a CRS; NaN where there are none."""
    if source.crs is not None and crs is not None and source.crs != crs:
        there = crs.transformer_to_crs(source.crs)(x, y)
        x, y = (np.asarray(values, dtype=float).reshape(x.shape) for values in there)
        if source.crs.geographic:  # the turn of the globe that is nearest to the source
            middle = source.boundingbox.left / 2 + source.boundingbox.right / 2
            x = middle + (x - middle + 180.0) % 360.0 - 180.0
    known = np.isfinite(x) & np.isfinite(y)
    x, y = np.where(known, x, np.nan), np.where(known, y, np.nan)
    return _warp_by_affine(~source.transform, x, y)


@functools.lru_cache(maxsize=256)
def scale(source: GeoBox, target: Affine, crs: CRS | None) -> float:
    """Source pixels a target pixel at the middle of the source, along the axis that has fewer.

    Args:
        source: The source's grid.
        target: The target's transform; only its pixel size counts.
        crs: The target's CRS.
    """
    height, width = source.shape
    x, y = (np.array([value]) for value in source.transform * (width / 2, height / 2))
    if source.crs is not None and crs is not None and source.crs != crs:
        there = source.crs.transformer_to_crs(crs)(x, y)
        x, y = (np.asarray(values, dtype=float) for values in there)
    a, b, _, d, e, _ = target[:6]
    xs, ys = x + np.array([0, a, b]), y + np.array([0, d, e])
    cols, rows = _source_pixels(source, crs, xs, ys)
    steps = np.hypot(cols[1:] - cols[0], rows[1:] - rows[0])
    return float(steps.min()) if np.isfinite(steps).all() and steps.min() > 0 else 1.0


def footprint(source: GeoBox, target: GeoBox) -> Footprint | None:
    """The source pixels that a target needs; None where the two do not meet."""
    numbering = _Numbering.of(target)
    # Between the corners of cells coordinates are straight: the outermost are among those and the edges.
    corners = [
        np.unique(np.r_[first, np.arange(-(-first // n) * n, first + length, n), first + length])
        for first, length, n in zip(numbering.first, numbering.shape, (numbering.cell,) * 2, strict=True)
    ]
    lattice = numbering.lattice(source)
    if lattice.bent.any():
        corners = [
            np.arange(first, first + length + 1) for first, length in zip(numbering.first, numbering.shape, strict=True)
        ]
    cols, rows = _source_places(numbering, lattice, corners[0], corners[1])
    if not np.isfinite(cols).any():
        return None
    spans = []
    for values, length in ((rows, source.shape[0]), (cols, source.shape[1])):
        low = max(0, math.floor(np.nanmin(values)) - 2)
        high = min(length, math.ceil(np.nanmax(values)) + 2)
        if low >= high:
            return None
        spans.append((low, high))
    return Footprint(rows=spans[0], cols=spans[1])


def warp(
    pixels: Array,
    valid: Mask,
    source: GeoBox,
    target: GeoBox,
    *,
    nearest: bool = False,
    fine: int = 1,
) -> tuple[Array, Mask]:
    """Pixels of a source at the places of a target, by bilinear interpolation of the valid ones.

    Args:
        pixels: B x h x w on the grid `source`.
        valid: h x w.
        source: Grid of the pixels.
        target: Grid wanted.
        nearest: Take the pixel that holds the place instead of interpolating.
        fine: Take so many places a target pixel along each axis.

    Returns:
        B x (H * fine) x (W * fine) of the same type, and their validity: that of the source pixel that
        holds the place.
    """
    numbering = _Numbering.of(target)
    lattice = numbering.lattice(source)
    height, width = numbering.shape[0] * fine, numbering.shape[1] * fine
    out = np.zeros((len(pixels), height, width), pixels.dtype)
    known = np.zeros((height, width), bool)
    take = _sample_nearest if nearest else _sample_bilinear
    for top, left in itertools.product(range(0, height, TILE), range(0, width, TILE)):
        tile = slice(top, min(height, top + TILE)), slice(left, min(width, left + TILE))
        numbers = (
            first + (np.arange(part.start, part.stop) + 0.5) / fine
            for first, part in zip(numbering.first, tile, strict=True)
        )
        places = _source_places(numbering, lattice, *numbers)
        out[(slice(None), *tile)], known[tile] = take(pixels, valid, *places)
    return out, known


def covered(source: GeoBox, target: GeoBox) -> Mask:
    """Which pixels of a target have their middle within a source (H x W)."""
    numbering = _Numbering.of(target)
    lattice = numbering.lattice(source)
    found = np.zeros(numbering.shape, bool)
    for top, left in itertools.product(*(range(0, length, TILE) for length in numbering.shape)):
        tile = np.s_[top : top + TILE, left : left + TILE]
        rows, cols = (
            np.arange(first, first + length, dtype=np.float64)[part] + 0.5
            for first, length, part in zip(numbering.first, numbering.shape, tile, strict=True)
        )
        cols, rows = _source_places(numbering, lattice, rows, cols)
        found[tile] = _inside_warp_source(cols + TIE, rows + TIE, source.shape.yx)
    return found


def _source_places(numbering: _Numbering, lattice: _Lattice, rows: Floats, cols: Floats) -> tuple[Floats, Floats]:
    """Source columns and rows of a target's rows and columns, interpolated in the lattice."""
    axes = []
    for first, length, number in zip(numbering.first, numbering.shape, (rows, cols), strict=True):
        base, last = first // numbering.cell, -(-(first + length) // numbering.cell) - 1
        cells = np.clip(np.floor(number / numbering.cell), base, last)
        axes.append(((cells - base).astype(np.intp), number / numbering.cell - cells))
    (row, down), (col, across) = axes
    bent = lattice.bent[row][:, col]
    down, across = down[:, None], across[None, :]
    found = []
    for corner in (lattice.cols, lattice.rows):
        lines = corner[row] * (1 - down) + corner[row + 1] * down
        found.append(lines[:, col] * (1 - across) + lines[:, col + 1] * across)
    if bent.any():
        some = np.ix_(bent.any(axis=1), bent.any(axis=0))
        exact = numbering.places(lattice.source, cols[bent.any(axis=0)], rows[bent.any(axis=1)])
        for place, true in zip(found, exact, strict=True):
            place[some] = np.where(bent[some], true, place[some])
    return found[0], found[1]


def _inside_warp_source(cols: Floats, rows: Floats, shape: tuple[int, int]) -> Mask:
    return (cols >= 0) & (cols < shape[1]) & (rows >= 0) & (rows < shape[0])


def _sample_nearest(pixels: Array, valid: Mask, cols: Floats, rows: Floats) -> tuple[Array, Mask]:
    cols, rows = cols + TIE, rows + TIE
    inside = _inside_warp_source(cols, rows, valid.shape)
    y, x = (np.where(inside, values, 0).astype(np.intp) for values in (rows, cols))
    return pixels[:, y, x], inside & valid[y, x]


def _sample_bilinear(pixels: Array, valid: Mask, cols: Floats, rows: Floats) -> tuple[Array, Mask]:
    inside = _inside_warp_source(cols, rows, valid.shape)
    if not inside.any():
        return np.zeros((len(pixels), *inside.shape), pixels.dtype), inside
    # Whole numbers of steps from the centre of the first pixel; OpenCV's tables know as many steps.
    y, x = (np.rint(np.where(inside, v - 0.5, 0) * STEPS).astype(np.int32) for v in (rows, cols))
    row, col = y // STEPS, x // STEPS
    top, left = (
        max(0, int(row.min(where=inside, initial=row.max()))),
        max(0, int(col.min(where=inside, initial=col.max()))),
    )
    near = np.s_[top : int(row.max()) + 2, left : int(col.max()) + 2]
    place = np.empty((*inside.shape, 2), np.int16)
    place[..., 0], place[..., 1] = col - left, row - top
    part = ((y - row * STEPS) * STEPS + (x - col * STEPS)).astype(np.uint16)

    def sampled(plane: Array) -> Array:
        return cv2.remap(plane, place, part, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    known = valid[near]
    whole = bool(known.all())
    native = pixels.dtype if pixels.dtype.name in SAMPLED else np.dtype("float64")
    out = np.empty((len(pixels), *inside.shape), pixels.dtype)
    planes = pixels[(slice(None), *near)]
    if not whole:  # what is not valid may be NaN, and NaN has its say even with a weight of zero
        planes = np.where(known, planes, np.zeros((), pixels.dtype))
    for band, plane in enumerate(planes):
        out[band] = _as_dtype(pixels.dtype, sampled(plane.astype(native, copy=False)))
    if not whole:  # near what is not valid only the rest counts
        weights = sampled(known.astype("float64"))
        lacking = inside & (weights < 1)
        share = np.maximum(weights[lacking], 1e-9)
        for band, plane in enumerate(planes):
            mean = sampled(plane.astype("float64"))[lacking] / share
            out[band][lacking] = _as_dtype(pixels.dtype, mean)
    y, x = (np.where(inside, v, 0).astype(np.intp) for v in (rows, cols))
    return out, inside & valid[y, x]


def _as_dtype(dtype: np.dtype[Any], values: Array) -> Array:
    """Interpolated values in a type: whole numbers rounded, and none beyond the type's limits."""
    if values.dtype == dtype:
        return values
    if dtype.kind == "f":
        return np.clip(values, np.finfo(dtype).min, np.finfo(dtype).max).astype(dtype)
    limits = np.iinfo(dtype)
    rounded = np.rint(values)
    out = np.clip(rounded, limits.min, np.nextafter(float(limits.max), 0)).astype(dtype)
    out[rounded >= float(limits.max)] = limits.max  # which a float64 may be unable to hold
    return out
