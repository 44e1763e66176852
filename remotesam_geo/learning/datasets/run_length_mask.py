"""One mask, as the run lengths of COCO: small, comparable, plain text, and read without trust.

The pixels are counted column by column, first those outside, then those inside, and so on in turn; the numbers are
packed into text as COCO packs them. What comes from a file is checked before anything of its size is made.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .faults import LIMITS, DamageError, SizeLimits, short

__all__ = ["Mask"]

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

FINE = 5  # outlines are followed in fifths of a pixel
LONGEST = 7  # characters of a run length: 35 bits


@dataclass(frozen=True, kw_only=True)
class Mask:
    """Which pixels of a picture are meant.

    Attributes:
        shape: Height and width of the picture.
        counts: Run lengths, column by column, packed as COCO packs them.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.learning.datasets import Mask
        >>> mask = Mask.of(np.array([[False, True], [False, True]]))
        >>> mask.area, mask.box, mask.counts
        (2, (1, 0, 2, 2), '22')
    """

    shape: tuple[int, int]
    counts: str

    @classmethod
    def of(cls, pixels: Bools) -> Self:
        """The mask of an array (H x W)."""
        height, width = pixels.shape
        flat = np.asarray(pixels, np.bool_).T.ravel()
        change = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        edges = np.concatenate([[0], change, [flat.size]])
        runs = np.diff(edges)
        if flat.size and flat[0]:
            runs = np.concatenate([[0], runs])
        return cls(shape=(height, width), counts=_pack_runs(runs))

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> Self:
        """No pixel of a picture of this shape."""
        return cls(shape=shape, counts=_pack_runs(np.array([shape[0] * shape[1]])))

    @classmethod
    def of_polygons(
        cls,
        polygons: Sequence[Sequence[float]],
        shape: tuple[int, int],
        *,
        limits: SizeLimits = LIMITS,
    ) -> Self:
        """The union of polygons x1, y1, x2, y2, ... as COCO fills them, to the pixel.

        Args:
            polygons: Flat lists of corners; overlapping parts stay.
            shape: Of the picture.
            limits: What is accepted.

        Raises:
            DamageError: Fewer than three corners, or a corner far outside the picture.
        """
        limits.check_size(shape, "a mask")
        size = shape[0] * shape[1]
        parts = []
        for polygon in polygons:
            edges = np.concatenate([[0], _polygon_switches(_mask_polygon_corners(polygon, shape), shape), [size]])
            runs = np.diff(edges)
            parts.append(cls(shape=shape, counts=_pack_runs(runs[:-1] if runs[-1] == 0 else runs)))
        return cls.union(parts)

    @classmethod
    def of_box(cls, box: Sequence[float], shape: tuple[int, int]) -> Self:
        """The pixels whose centres lie in a box x0, y0, x1, y1."""
        x0, y0, x1, y1 = (math.ceil(value - 0.5) for value in box)
        pixels = np.zeros(shape, np.bool_)
        pixels[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = True
        return cls.of(pixels)

    @classmethod
    def of_coco(cls, segmentation: Any, shape: tuple[int, int], *, limits: SizeLimits = LIMITS) -> Self:
        """What a COCO file holds: polygons, one mask of run lengths, or a list of such masks (their union).

        Raises:
            DamageError: It is none of these, or does not fit the picture.
        """
        if isinstance(segmentation, Mapping):
            segmentation = [segmentation]
        if not isinstance(segmentation, list) or not segmentation:
            raise DamageError("segmentation", f"a segmentation is {short(segmentation)}")
        if all(isinstance(part, Mapping) for part in segmentation):
            return cls.union(cls(shape=shape, counts=_runs_of(part, shape, limits)) for part in segmentation)
        if all(isinstance(part, list) for part in segmentation):
            return cls.of_polygons(segmentation, shape, limits=limits)
        raise DamageError("segmentation", f"a segmentation is {short(segmentation)}")

    @classmethod
    def union(cls, masks: Iterable[Self]) -> Self:
        """All pixels of some masks of one picture, one at least."""
        every = list(dict.fromkeys(masks))
        if len({mask.shape for mask in every}) != 1:
            raise DamageError("segmentation", f"masks of the shapes {[mask.shape for mask in every]}")
        if len(every) == 1:
            return every[0]
        return cls.of(np.logical_or.reduce([mask.pixels() for mask in every]))

    @cached_property
    def runs(self) -> I64:
        """Run lengths, outside and inside in turn.

        Raises:
            DamageError: The text is no packed run lengths of the mask's shape.
        """
        return _unpack_runs(self.counts, self.shape)

    @property
    def area(self) -> int:
        """How many pixels are meant."""
        return int(self.runs[1::2].sum())

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """Half-open pixel box x0, y0, x1, y1; None of an empty mask."""
        pixels = self.pixels()
        if not pixels.any():
            return None
        rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    def pixels(self) -> Bools:
        """The mask as an array (H x W)."""
        height, width = self.shape
        inside = np.arange(self.runs.size) % 2 == 1
        return np.repeat(inside, self.runs).reshape(width, height).T

    def to_coco(self) -> dict[str, Any]:
        """As COCO writes it: size and packed counts."""
        return {"size": list(self.shape), "counts": self.counts}


def _runs_of(part: Mapping[str, Any], shape: tuple[int, int], limits: SizeLimits) -> str:
    """The packed run lengths of a COCO mask, checked."""
    size, counts = part.get("size"), part.get("counts")
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(type(side) is int for side in size):
        raise DamageError("run lengths", f"run lengths of the size {short(size)}")
    limits.check_size((size[0], size[1]), "a mask")
    if tuple(size) != tuple(shape):
        raise DamageError("run lengths", f"run lengths of the size {size} for a picture of {list(shape)}")
    if isinstance(counts, list):
        if len(counts) > shape[0] * shape[1] + 1 or not all(type(run) is int and 0 <= run < 1 << 40 for run in counts):
            raise DamageError("run lengths", f"run lengths are {short(counts)}")
        counts = _pack_runs(np.array(counts, np.int64))
    if isinstance(counts, bytes):
        counts = counts.decode("ascii", "replace")
    if not isinstance(counts, str):
        raise DamageError("run lengths", f"run lengths are {short(counts)}")
    return _pack_runs(_unpack_runs(counts, shape))  # so that equal masks have equal text


def _pack_runs(runs: NDArray[np.integer]) -> str:
    """Numbers as text, five bits a character; from the fourth on the difference to the last but one."""
    values = runs.astype(np.int64)
    values[3:] -= runs[1:-2]
    groups = np.arange(LONGEST + 1)
    bits = (values[:, None] >> (5 * groups)) & 31
    rest = values[:, None] >> (5 * (groups + 1))
    more = np.where(bits & 16, rest != -1, rest != 0)
    used = np.concatenate(
        [np.ones((len(values), 1), np.bool_), np.cumprod(more, axis=1)[:, :-1].astype(np.bool_)],
        axis=1,
    )
    return bytes((bits + 32 * more + 48)[used].astype(np.uint8)).decode("ascii")


def _unpack_runs(text: str, shape: tuple[int, int]) -> I64:
    pixels = shape[0] * shape[1]
    if len(text) > LONGEST * (pixels + 1):
        raise DamageError("run lengths", f"{len(text)} characters of run lengths for {pixels} pixels")
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int64) - 48
    if not codes.size or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise DamageError("run lengths", f"run lengths are {short(text)}")
    last = np.flatnonzero((codes & 32) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    length = last - first + 1
    if length.max() > LONGEST:
        raise DamageError("run lengths", f"run lengths are {short(text)}")
    within = np.arange(codes.size) - np.repeat(first, length)
    values = np.add.reduceat((codes & 31) << (5 * within), first)
    values -= np.where(codes[last] & 16, np.int64(1) << (5 * length), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    if values.min() < 0 or values.max() > pixels or int(values.sum()) != pixels:
        raise DamageError(
            "run lengths",
            f"run lengths from {values.min()} to {values.max()} add up to {values.sum()}, not to {pixels}",
        )
    return values


def _mask_polygon_corners(polygon: Sequence[float], shape: tuple[int, int]) -> NDArray[np.float64]:
    try:
        corners = np.asarray(polygon, np.float64)
    except (TypeError, ValueError):
        raise DamageError("segmentation", f"a polygon is {short(polygon)}") from None
    if corners.ndim != 1 or corners.size < 6 or corners.size % 2:
        raise DamageError("segmentation", f"a polygon is {short(polygon)}: give three corners or more")
    side = max(shape)
    if not ((corners >= -side) & (corners <= 2 * side)).all():  # false for NaN as well
        raise DamageError(
            "outside",
            f"a polygon reaches {_farthest_mask_coordinate(corners)}, far outside its picture of {shape}",
        )
    return corners.reshape(-1, 2)


def _polygon_switches(corners: NDArray[np.float64], shape: tuple[int, int]) -> I64:
    """Where one polygon begins and ends, among the pixels counted column by column, by the rule of COCO.

    The outline is drawn on a grid five times as fine; wherever it passes from one column of pixels' centres to the
    next, the column is switched on or off from there down.
    """
    height, width = shape
    start = np.trunc(FINE * corners + 0.5).astype(np.int64)
    stop = np.roll(start, -1, axis=0)
    moved = (start != stop).any(axis=1)
    start, stop = start[moved], stop[moved]
    if not len(start):
        return np.zeros(0, np.int64)
    reach = np.abs(stop - start)
    flat = reach[:, 0] >= reach[:, 1]
    axis = np.where(flat, 0, 1)
    rows = np.arange(len(start))
    length = reach[rows, axis]
    # Edges are drawn from left to right or from the top down, and walked in their own direction.
    turned = start[rows, axis] > stop[rows, axis]
    low = np.where(turned[:, None], stop, start)
    high = np.where(turned[:, None], start, stop)
    slope = (high - low)[rows, 1 - axis] / length

    edge = np.repeat(rows, length + 1)
    step = np.arange(edge.size) - np.repeat(np.cumsum(length + 1) - (length + 1), length + 1)
    step = np.where(turned[edge], length[edge] - step, step)
    along = low[edge, axis[edge]] + step
    across = np.trunc(low[edge, 1 - axis[edge]] + slope[edge] * step + 0.5).astype(np.int64)
    x, y = np.where(flat[edge], along, across), np.where(flat[edge], across, along)

    passes = np.flatnonzero(x[1:] != x[:-1]) + 1
    column = np.minimum(x[passes], x[passes - 1])
    on_centre = (column - FINE // 2) % FINE == 0
    column = (column - FINE // 2) // FINE
    kept = on_centre & (column >= 0) & (column < width)
    row = np.minimum(y[passes], y[passes - 1])[kept]
    row = np.ceil(np.clip((row + 0.5) / FINE - 0.5, 0, height)).astype(np.int64)
    places, times = np.unique(column[kept] * height + row, return_counts=True)
    return np.asarray(places[times % 2 == 1], np.int64)


def _farthest_mask_coordinate(corners: NDArray[np.float64]) -> float:
    return float(corners[int(np.argmax(np.nan_to_num(np.abs(corners), nan=np.inf)))])
