"""Minimum-area rectangles round components, by their convex hulls.

The hull is that of the pixels' corners, in whole numbers: a rectangle round it encloses the pixels to their edges.
Hulls of parts join to exactly the hull of the whole, so that rectangles survive any cut of the picture. All
components are worked on at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import instance_of

from .array_checks import check_array, check_each
from .regions import Regions
from .table import I64, check_groups

__all__ = ["Hulls", "drawn_rectangles", "hulls", "merge_hulls", "smallest_rectangles", "upright"]

F64 = NDArray[np.float64]
_PRODUCTS = 1 << 20  # products of edges and corners held at once


@dataclass(frozen=True, kw_only=True, eq=False)
class Hulls:
    """The convex hulls of n components.

    Attributes:
        points: Corners x, y of all hulls, one hull after the other, clockwise as seen on the screen (m x 2).
        begin: Where each hull's corners begin, and at last m (n + 1).
    """

    points: I64
    begin: I64

    def __len__(self) -> int:
        return len(self.begin) - 1

    def moved(self, *, x: int, y: int) -> "Hulls":
        """The same hulls in a larger picture, where theirs begins at column x and row y."""
        return Hulls(points=self.points + np.array([x, y]), begin=self.begin)

    def take(self, which: NDArray[np.bool_] | I64) -> "Hulls":
        """Some of the hulls, by a mask or by their numbers."""
        chosen = np.arange(len(self))[which]
        size = np.diff(self.begin)[chosen]
        begin = np.concatenate([[0], np.cumsum(size)])
        point = np.arange(begin[-1]) + np.repeat(self.begin[chosen] - begin[:-1], size)
        return Hulls(points=self.points[point], begin=begin)


def hulls(found: Regions) -> Hulls:
    """The convex hulls of the pixels' corners.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import components, hulls
        >>> hulls(components(np.array([[0.9, 0.1], [0.9, 0.9]], np.float32))).points
        array([[1, 0],
               [2, 1],
               [2, 2],
               [0, 2],
               [0, 0]])
    """
    instance_of("found", found, Regions, "the result of components")
    # Each run has corners above and below.
    y = np.concatenate([found.row, found.row + 1])
    region, left, right = (np.tile(value, 2) for value in (found.region, found.start, found.stop))
    return _hulls_of_stretches(region, y, left, right, found.n)


def merge_hulls(parts: Sequence[Hulls], group: I64, n: int) -> Hulls:
    """The hulls of wholes from those of their parts, as `merge` adds up tables.

    Args:
        parts: Hulls of the parts, in coordinates of one picture (`Hulls.moved`).
        group: Which whole each part belongs to, through all of `parts` one after the other.
        n: How many wholes there are; each must have a part.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import components, hulls, merge_hulls
        >>> half = hulls(components(np.ones((2, 3), np.float32)))
        >>> merge_hulls([half, half.moved(x=3, y=0)], np.array([0, 0]), 1).points
        array([[6, 0],
               [6, 2],
               [0, 2],
               [0, 0]])
    """
    check_each("parts", parts, Hulls)
    size = np.concatenate([np.diff(part.begin) for part in parts])
    check_groups(group, size.size, n)
    points = np.concatenate([part.points for part in parts])
    x, y = points[:, 0], points[:, 1]
    return _hulls_of_stretches(np.repeat(group, size), y, x, x, n)


def smallest_rectangles(around: Hulls) -> F64:
    """The rectangle of least area round each hull, at any angle.

    Of equally small ones that is taken which is turned least from the picture's axes, clockwise.

    Returns:
        The corners x, y, clockwise as seen on the screen; the side from the first to the second points to the
        right and, by less than 90 degrees, down (n x 4 x 2).

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import components, hulls, smallest_rectangles
        >>> diagonal = hulls(components(np.eye(3, dtype=np.float32)))
        >>> smallest_rectangles(diagonal).round(2)
        array([[[ 0.5, -0.5],
                [ 3.5,  2.5],
                [ 2.5,  3.5],
                [-0.5,  0.5]]])
    """
    instance_of("around", around, Hulls, "the result of hulls")
    corners = np.empty((len(around), 4, 2))
    size = np.diff(around.begin)
    for corner_count in np.unique(size):  # hulls with equally many corners form one array
        same = np.flatnonzero(size == corner_count)
        step = max(1, _PRODUCTS // int(corner_count) ** 2)
        for chunk in np.split(same, range(step, same.size, step)):
            index = around.begin[chunk][:, None] + np.arange(corner_count)
            corners[chunk] = _smallest_rectangles_of(around.points[index])
    return corners


def drawn_rectangles(around: Hulls) -> I64:
    """Return the published oriented boxes, which only the published suppression uses.

    They are the smallest rectangles through the centres of the pixels (`cv2.minAreaRect`), with corners cut to whole
    pixels: that of a single pixel, or of pixels in one line, has no area. Of two rectangles of exactly the same area
    OpenCV takes one by the order of the outline; where an outline passes a pixel twice, this may be the other one.

    Args:
        around: The hulls, in pixels of the whole picture.

    Returns:
        The corners x, y, in order around each box (n x 4 x 2).

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import components, drawn_rectangles, hulls
        >>> (box,) = drawn_rectangles(hulls(components(np.ones((3, 4), np.float32))))
        >>> sorted(box.tolist())
        [[0, 0], [0, 2], [3, 0], [3, 2]]
    """
    instance_of("around", around, Hulls, "the result of hulls")
    # The hull of the pixels is that of their centres, widened by half a pixel to each side: each of its corners is a
    # corner of the pixel that lies inwards of both edges that meet there.
    points, begin = around.points, around.begin
    ahead = np.arange(1, len(points) + 1)
    ahead[begin[1:] - 1] = begin[:-1]
    edge = points[ahead] - points  # clockwise on the screen: outwards of an edge (x, y) is (y, -x)
    behind = np.empty_like(edge)
    behind[ahead] = edge
    outwards = np.sign(edge) + np.sign(behind)
    centre = points - (np.stack([outwards[:, 1], -outwards[:, 0]], axis=1) > 0)
    corners = np.zeros((len(around), 4, 2), np.int64)
    for index, (start, stop) in enumerate(pairwise(begin.tolist())):
        own = centre[start:stop][::-1]  # in the order of `cv2.findContours`, which decides between equal ones
        first = int(np.lexsort(own.T)[0])
        rectangle = cv2.minAreaRect(np.roll(own, -first, axis=0).astype(np.int32))
        corners[index] = cv2.boxPoints(rectangle)
    return corners


def upright(box: I64) -> F64:
    """Boxes x0, y0, x1, y1 (n x 4) as corners in the order of `smallest_rectangles` (n x 4 x 2).

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import upright
        >>> upright(np.array([[0, 0, 3, 2]])).tolist()
        [[[0.0, 0.0], [3.0, 0.0], [3.0, 2.0], [0.0, 2.0]]]
    """
    check_array("box", box, "numbers", ("n", 4))
    return box[:, [[0, 1], [2, 1], [2, 3], [0, 3]]].astype(np.float64)


def _smallest_rectangles_of(points: I64) -> F64:
    """The smallest rectangles round k hulls of h corners each (k x h x 2 to k x 4 x 2)."""
    origin = points[:, :1]
    points = points - origin  # small numbers: products stay exact
    # One side of the smallest rectangle lies along an edge of the hull. Turned by quarters, all edges point right
    # and down by less than 90 degrees.
    edge = np.roll(points, -1, axis=1) - points
    x, y = edge[..., 0], edge[..., 1]
    for _ in range(3):
        x, y = np.where((x > 0) & (y >= 0), x, -y), np.where((x > 0) & (y >= 0), y, x)
    divisor = np.gcd(x, y)
    x, y = x // divisor, y // divisor  # k x h
    px, py = points[:, None, :, 0], points[:, None, :, 1]  # k x 1 x h
    along = x[:, :, None] * px + y[:, :, None] * py  # k x h x h: of each edge and each corner
    across = x[:, :, None] * py - y[:, :, None] * px
    left, right = along.min(axis=2), along.max(axis=2)
    top, bottom = across.min(axis=2), across.max(axis=2)
    square = (x * x + y * y).astype(np.float64)
    area = (right - left).astype(np.float64) * (bottom - top) / square
    smallest = area == area.min(axis=1, keepdims=True)
    best = np.arange(len(points)), np.argmin(np.where(smallest, y / x, np.inf), axis=1)
    x, y = x[best][:, None], y[best][:, None]
    u = np.stack([left[best], right[best], right[best], left[best]], axis=1) / square[best][:, None]
    v = np.stack([top[best], top[best], bottom[best], bottom[best]], axis=1) / square[best][:, None]
    return np.stack([u * x - v * y, u * y + v * x], axis=2) + origin


def _hulls_of_stretches(region: I64, y: I64, left: I64, right: I64, n: int) -> Hulls:
    """The convex hulls of n regions, given stretches of them on lines of pixel corners (m)."""
    if not region.size:
        return Hulls(points=np.zeros((0, 2), np.int64), begin=np.zeros(n + 1, np.int64))
    # On each line only the leftmost and the rightmost point of a region matter. They form two chains a region;
    # the right one is mirrored, so that one rule serves both.
    low = int(y.min())
    span = int(y.max()) - low + 1
    line = region * span + (y - low)
    order = np.argsort(line, kind="stable")
    line = line[order]
    begin = np.flatnonzero(np.concatenate([[True], line[1:] != line[:-1]]))
    line = line[begin]
    x = np.concatenate([np.minimum.reduceat(left[order], begin), -np.maximum.reduceat(right[order], begin)])
    region, y = line // span, line % span + low
    chain = np.concatenate([region, region + n])
    chain, x, y = _convex_chain(chain, x, np.concatenate([y, y]))
    # Clockwise from the top: down the right chain, then up the left one. A left and a right end differ, since a
    # region has width.
    mirrored = chain >= n
    region = chain % n
    order = np.lexsort((np.where(mirrored, y, -y), ~mirrored, region))
    points = np.stack([np.where(mirrored, -x, x), y], axis=1)[order]
    return Hulls(
        points=points,
        begin=np.concatenate([[0], np.cumsum(np.bincount(region, minlength=n))]),
    )


def _convex_chain(chain: I64, x: I64, y: I64) -> tuple[I64, I64, I64]:
    """Keep of each chain (sorted by y) the points that bulge to the left; they come back unsorted.

    A point that does not bulge between two others of its chain is no corner of the hull, so all such points may go
    at once; what is left in the end is convex. A few rounds do for real outlines.
    """
    done: list[tuple[I64, I64, I64]] = []
    while chain.size:
        inner = np.zeros(chain.size, np.bool_)
        inner[1:-1] = (chain[1:-1] == chain[:-2]) & (chain[1:-1] == chain[2:])
        mid = np.flatnonzero(inner)
        ax, ay, cx, cy = x[mid - 1], y[mid - 1], x[mid + 1], y[mid + 1]
        bulges = (cx - ax) * (y[mid] - ay) > (cy - ay) * (x[mid] - ax)
        drop = np.zeros(chain.size, np.bool_)
        drop[mid[~bulges]] = True
        # Chains that lose nothing are convex and leave the work.
        unfinished = np.zeros(int(chain[-1]) + 1, np.bool_)
        unfinished[chain[drop]] = True
        goes_on = unfinished[chain]
        done.append((chain[~goes_on], x[~goes_on], y[~goes_on]))
        left = goes_on & ~drop
        chain, x, y = chain[left], x[left], y[left]
    chain, x, y = (np.concatenate(column) for column in zip(*done, strict=True))
    return chain, x, y
