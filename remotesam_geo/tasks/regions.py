"""Connected components as runs of pixels.

A component is held as its runs: the stretches of neighbouring pixels in each row. Finding the runs is one pass over
the picture; SciPy joins them as a graph of runs, not of pixels; every sum is a sum over runs. So the work grows with
the runs alone, however many objects there are and however large, and so does the memory.
`benchmarks/bench_tasks.py` compares this with OpenCV, cc3d and `scipy.ndimage`.
"""

from dataclasses import dataclass
from itertools import repeat
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import sparse

from remotesam_geo.errors import instance_of, one_of
from remotesam_geo.words import threshold_steps

from .codes import Map, above, check_contour, check_map, in_parts, scale_of, strips
from .table import I64, Table, distinct, least, most, number_parts, sums

__all__ = ["Background", "Components", "Regions", "background", "components"]

Side = Literal["top", "bottom", "left", "right"]
Whole = TypeVar("Whole", bound=np.integer)


@dataclass(frozen=True, kw_only=True, eq=False)
class Regions:
    """Connected regions of a picture, numbered from 0 by their first pixels, row by row from the top.

    Attributes:
        shape: Height and width of the picture.
        row: Row of each run; runs follow each other row by row, from left to right (r).
        start: First column of each run (r).
        stop: Column after the last of each run (r).
        region: The region of each run (r).
        n: How many regions there are.
    """

    shape: tuple[int, int]
    row: I64
    start: I64
    stop: I64
    region: I64
    n: int

    def __len__(self) -> int:
        return self.n

    def paint(self, values: NDArray[np.integer] | None = None, *, dtype: DTypeLike = np.int32) -> NDArray[np.integer]:
        """The label image: each region's value, 0 elsewhere.

        Args:
            values: A value for each region (n); by default its number from 1.
            dtype: Integer type of the image.

        Returns:
            The image (H x W).

        Examples:
            >>> import numpy as np
            >>> from remotesam_geo.tasks import components
            >>> prob = np.array([[0.9, 0.1, 0.8], [0.7, 0.2, 0.1]], np.float32)
            >>> components(prob).paint()
            array([[1, 0, 2],
                   [1, 0, 0]], dtype=int32)
        """
        values = np.arange(1, self.n + 1) if values is None else values
        height, width = self.shape
        flat = self.row * width
        value = values[self.region].astype(dtype)
        return _fill_stretches(height * width, flat + self.start, flat + self.stop, value).reshape(self.shape)

    def edge(self, side: Side) -> I64:
        """The regions along one edge of the picture: each pixel's region, -1 for none (H or W).

        Args:
            side: "top" or "bottom" (read from left to right), "left" or "right" (from the top down).
        """
        one_of("side", side, ("top", "bottom", "left", "right"))
        height, width = self.shape
        if side in ("left", "right"):
            edge = np.full(height, -1, np.int64)
            runs = self.start == 0 if side == "left" else self.stop == width
            edge[self.row[runs]] = self.region[runs]
            return edge
        runs = self.row == (0 if side == "top" else height - 1)
        return _fill_stretches(width, self.start[runs], self.stop[runs], self.region[runs] + 1) - 1

    def rim(self) -> I64:
        """The regions that touch an edge of the picture, in order."""
        height, width = self.shape
        outer = (self.row == 0) | (self.row == height - 1) | (self.start == 0) | (self.stop == width)
        return np.unique(self.region[outer])


@dataclass(frozen=True, kw_only=True, eq=False)
class Components(Regions):
    """The 8-connected components of the pixels above a threshold, with what is known of each.

    Attributes:
        table: Counts, sums and boxes (n).
    """

    table: Table

    def take(self, which: NDArray[np.bool_]) -> "Components":
        """Some of the components, numbered anew in the same order.

        Args:
            which: True for those to keep (n).
        """
        runs = which[self.region]
        return Components(
            shape=self.shape,
            row=self.row[runs],
            start=self.start[runs],
            stop=self.stop[runs],
            region=(np.cumsum(which) - 1)[self.region[runs]],
            n=int(which.sum()),
            table=self.table.take(which),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Background(Regions):
    """The 4-connected regions of the pixels that belong to no component.

    Attributes:
        beside: Each pair (component, background region) that meets in a row (m x 2).
    """

    beside: I64


def components(
    prob: Map,
    *,
    threshold: float = 0.5,
    contour: Map | None = None,
    contour_threshold: float = 0.25,
) -> Components:
    """Find the 8-connected components of the pixels whose probability exceeds the threshold.

    Pixels without an answer belong to none.

    Args:
        prob: One map, bytes or probabilities (H x W).
        threshold: Rounded up to steps of 0.005.
        contour: A map of object contours, whose pixels are taken out first (H x W). Where it has no answer,
            nothing is taken out.
        contour_threshold: Above it a pixel is contour.

    Returns:
        The components.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import components
        >>> found = components(np.array([[200, 0, 0], [0, 150, 255]], np.uint8))
        >>> found.n, found.table.count, found.table.box
        (1, array([2]), array([[0, 0, 2, 2]]))
        >>> found.table.score, found.table.score_max
        (array([0.8725]), array([0.9975]))
    """
    steps = threshold_steps(threshold)
    contour_steps = threshold_steps(contour_threshold, "contour_threshold")
    check_map(prob)
    if contour is not None:
        check_contour(contour, prob.shape)

    found = [(np.zeros(0, np.int64),) * 5]
    top = 0
    outlines = repeat(None) if contour is None else strips(contour)
    for values, outline in zip(strips(prob), outlines, strict=False):
        inside = above(values, steps)
        if outline is not None:
            inside &= ~above(outline, contour_steps)
        row, start, stop = _runs_of_mask(inside)
        if row.size:
            parts = in_parts(values[inside])  # the pixels of the runs, one run after the other
            begin = np.cumsum(stop - start) - (stop - start)
            total, peak = np.add.reduceat(parts, begin), np.maximum.reduceat(parts, begin)
            found.append((row + top, start, stop, total, peak))
        top += len(values)
    row, start, stop, total, peak = (np.concatenate(column) for column in zip(*found, strict=True))

    region, n = _connect_runs(row, start, stop, reach=1)
    first = least(np.arange(row.size), region, n)
    low, high = least(start, region, n), most(stop, region, n)
    return Components(
        shape=(prob.shape[0], prob.shape[1]),
        row=row,
        start=start,
        stop=stop,
        region=region,
        n=n,
        table=Table(
            count=sums(stop - start, region, n),
            total=sums(total, region, n),
            peak=most(peak, region, n),
            box=np.stack([low, row[first], high, most(row, region, n) + 1], axis=1),
            first=np.stack([row[first], start[first]], axis=1),
            scale=scale_of(prob.dtype),
        ),
    )


def background(found: Regions) -> Background:
    """Label what lies between the components: 4-connected, as suits 8-connected components.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import background, components
        >>> ring = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.float32)
        >>> background(components(ring)).paint()
        array([[0, 0, 0],
               [0, 1, 0],
               [0, 0, 0]], dtype=int32)
    """
    instance_of("found", found, Regions, "the result of components")
    height, width = found.shape
    # A row with k runs has k + 1 gaps, of which the first and the last may be empty. The gap before run i of row y
    # is number i + y, the one after it number i + y + 1.
    before = np.arange(found.row.size) + found.row
    row = np.repeat(np.arange(height), np.bincount(found.row, minlength=height) + 1)
    start, stop = np.zeros(row.size, np.int64), np.full(row.size, width, np.int64)
    stop[before], start[before + 1] = found.start, found.stop
    real = start < stop
    row, start, stop = row[real], start[real], stop[real]
    region, n = _connect_runs(row, start, stop, reach=0)
    number = np.full(real.size, -1, np.int64)
    number[real] = region
    beside = np.concatenate([np.stack([found.region, number[gap]], axis=1) for gap in (before, before + 1)])
    return Background(
        shape=found.shape,
        row=row,
        start=start,
        stop=stop,
        region=region,
        n=n,
        beside=distinct(beside[beside[:, 1] >= 0]),
    )


def _runs_of_mask(inside: NDArray[np.bool_]) -> tuple[I64, I64, I64]:
    """Row, first column and column after the last of each run of a mask, row by row."""
    height, width = inside.shape
    # A false pixel between the rows (and before the first) ends each run at its row's end.
    line = np.zeros(height * (width + 1) + 1, np.bool_)
    line[1:].reshape(height, width + 1)[:, :width] = inside
    change = np.flatnonzero(line[1:] != line[:-1])
    start, stop = change[::2], change[1::2]
    row = start // (width + 1)
    return row, start - row * (width + 1), stop - row * (width + 1)


def _connect_runs(row: I64, start: I64, stop: I64, *, reach: int) -> tuple[I64, int]:
    """Number the runs that hang together: across corners too (`reach` 1) or along sides only (0)."""
    runs = row.size
    if not runs:
        return np.zeros(0, np.int64), 0
    # Places along the whole picture, with room between rows, so that all rows are searched at once. Run i meets
    # those runs of the row above that end after start - reach and begin before stop + reach.
    span = int(stop.max()) + 3
    here = (row - 1) * span
    low = np.searchsorted(row * span + stop, here + start - reach, side="right")
    high = np.searchsorted(row * span + start, here + stop + reach, side="left")
    meets = np.maximum(high - low, 0)
    end = np.cumsum(meets)
    other = np.arange(end[-1]) + np.repeat(low - (end - meets), meets)
    graph = sparse.csr_matrix((np.ones(other.size, np.int8), other, np.concatenate([[0], end])), shape=(runs, runs))
    return number_parts(graph)


def _fill_stretches(length: int, start: I64, stop: I64, value: NDArray[Whole]) -> NDArray[Whole]:
    """A line of zeros with a value in each of some separate stretches."""
    # Each value is switched on and off again and a running sum holds it between; wrapping in the differences does
    # no harm, for the sums fit.
    line = np.zeros(length + 1, value.dtype)
    line[start] = value
    line[stop] -= value
    np.cumsum(line, out=line)
    return line[:-1]
