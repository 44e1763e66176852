"""Polygons to pixels by the rule of GDAL: a pixel belongs to the polygon that holds its centre.

Only where a level edge runs through centres exactly do GDAL and this differ, here without regard to direction.

All polygons of a picture are converted together, without a loop over rows or polygons: each edge toggles
every row whose centre line it crosses, and sorted pairs of crossings are runs of pixels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["fill"]


def fill(
    out: NDArray[Any],
    vertices: NDArray[np.float64],
    sizes: NDArray[np.int64],
    owners: NDArray[np.int64],
    values: NDArray[Any],
) -> None:
    """Write the value of each polygon on the pixels whose centre it holds; later polygons win.

    Args:
        out: H x W, changed in place.
        vertices: N x 2, the rings' vertices one after another, open (x right, y down, pixel edges at integers).
        sizes: Number of vertices of each ring; they sum to N.
        owners: The polygon that each ring belongs to, not decreasing; rings of one polygon fill by parity.
        values: One value a polygon.

    Examples:
        >>> out = np.zeros((3, 4), np.uint8)
        >>> square = np.array([(0.6, 0.2), (3.4, 0.2), (3.4, 2.4), (0.6, 2.4)])
        >>> fill(out, square, np.array([4]), np.array([0]), np.array([7], np.uint8))
        >>> out.tolist()
        [[0, 7, 7, 0], [0, 7, 7, 0], [0, 0, 0, 0]]
    """
    height, width = out.shape
    if not len(sizes):
        return
    ends = np.cumsum(sizes)
    following = np.arange(1, len(vertices) + 1)
    following[ends - 1] = ends - sizes
    # Edges run downwards, so that two polygons find the same crossings on an edge they share.
    x, y = vertices[:, 0], vertices[:, 1]
    up = y > y[following]
    x0, y0 = np.where(up, x[following], x), np.where(up, y[following], y)
    x1, y1 = np.where(up, x, x[following]), np.where(up, y, y[following])
    # Rows whose centre y = row + 0.5 lies in [y0, y1) of the edge.
    first = np.clip(np.ceil(y0 - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(y1 - 0.5), 0, height).astype(np.int64)
    counts = last - first
    edges = np.flatnonzero(counts)
    if not len(edges):
        return
    counts = counts[edges]
    edge = np.repeat(edges, counts)
    starts = np.cumsum(counts) - counts
    row = np.arange(len(edge)) - np.repeat(starts, counts) + np.repeat(first[edges], counts)
    x0, y0, x1, y1 = x0[edge], y0[edge], x1[edge], y1[edge]
    crossing = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
    column = np.clip(np.floor(crossing + 0.5), 0, width).astype(np.int64)
    polygon = np.repeat(owners, sizes)[edge]
    key = np.sort((polygon * height + row) * (width + 1) + column)
    begin, end = key[0::2] % (width + 1), key[1::2] % (width + 1)
    runs = np.flatnonzero(end > begin)
    begin, lengths = begin[runs], (end - begin)[runs]
    polygon, row = np.divmod(key[0::2][runs] // (width + 1), height)
    offsets = np.cumsum(lengths) - lengths
    pixel = np.arange(int(lengths.sum())) + np.repeat(row * width + begin - offsets, lengths)
    out.reshape(-1)[pixel] = np.repeat(values[polygon], lengths)
