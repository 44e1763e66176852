"""Which of several boxes of one label to drop: those inside others, and those that overlap a better one.

Both rules are the published ones. Only boxes whose outlines come near each other are compared (an STR tree finds
them).
"""

from collections.abc import Iterator

import numpy as np
import shapely
from numpy.typing import NDArray

from .table import I64

__all__ = ["inner_boxes", "overlapping_boxes"]

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
_ROUNDING = 1e-9
_CHUNK = 4096  # boxes asked of the tree at once: the pairs in memory stay few where boxes are not all nested


def inner_boxes(corners: F64, score: F64, *, slack: float = 0.0) -> Bools:
    """Which boxes lie inside another one.

    Of boxes that lie inside each other (equal ones, or with slack nearly equal ones) the best by score stays, of
    equally good ones the first.

    Args:
        corners: Corners of upright or turned rectangles, in order round them (n x 4 x 2).
        score: Their scores (n).
        slack: How far a box may stick out of another and still count as inside, in pixels.

    Returns:
        True for those inside another (n).

    Example:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import inner_boxes, upright
        >>> inner_boxes(upright(np.array([[0, 0, 9, 9], [1, 1, 3, 3]])), np.array([0.5, 0.9]))
        array([False,  True])
    """
    inner = np.zeros(len(corners), np.bool_)
    rank = _ranks(score)
    for near, around in _near(corners, slack):
        inside = _inside(corners[near], corners[around], slack)
        one, other = near[inside], around[inside]
        mutual = _inside(corners[other], corners[one], slack)
        inner[one[~mutual | (rank[one] > rank[other])]] = True
    return inner


def overlapping_boxes(corners: F64, score: F64, *, iou: float = 0.5) -> Bools:
    """Which boxes non-maximum suppression drops: those that overlap a better box that stays.

    Args:
        corners: Corners of upright or turned rectangles, in order round them (n x 4 x 2).
        score: Their scores; of equal ones the first is better (n).
        iou: A box goes when the intersection is more than this share of the union.

    Returns:
        True for the boxes to drop (n).

    Example:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import overlapping_boxes, upright
        >>> boxes = upright(np.array([[0, 0, 4, 4], [1, 0, 5, 4], [9, 9, 12, 12]]))
        >>> overlapping_boxes(boxes, np.array([0.6, 0.8, 0.7]))
        array([ True, False, False])
    """
    rank = _ranks(score)
    shape = shapely.polygons(corners)
    area = shapely.area(shape)
    pairs = [np.zeros((0, 2), np.int64)]
    for one, other in _near(corners, 0.0):
        once = rank[one] < rank[other]
        better, worse = one[once], other[once]
        # The overlap is at most the smaller box: few pairs need geometry.
        low, high = np.sort(np.stack([area[better], area[worse]]), axis=0)
        likely = low > iou * high
        better, worse = better[likely], worse[likely]
        common = shapely.area(shapely.intersection(shape[better], shape[worse]))
        much = common > iou * (area[better] + area[worse] - common)
        pairs.append(np.stack([better[much], worse[much]], axis=1))
    every = np.concatenate(pairs)
    dropped = np.zeros(len(corners), np.bool_)
    for better, worse in every[np.argsort(rank[every[:, 0]], kind="stable")]:
        # By the time a box is asked whether it stays, all better ones have been decided.
        if not dropped[better]:
            dropped[worse] = True
    return dropped


def _ranks(score: F64) -> I64:
    """0 for the best score; equal scores in order."""
    rank = np.empty(score.size, np.int64)
    rank[np.argsort(-score, kind="stable")] = np.arange(score.size)
    return rank


def _near(corners: F64, slack: float) -> Iterator[tuple[I64, I64]]:
    """Pairs of different boxes whose upright outlines come within the slack of each other, in both orders."""
    low, high = corners.min(axis=1), corners.max(axis=1)
    tree = shapely.STRtree(shapely.box(low[:, 0], low[:, 1], high[:, 0], high[:, 1]))
    asked = shapely.box(
        low[:, 0] - slack, low[:, 1] - slack, high[:, 0] + slack, high[:, 1] + slack
    )
    for begin in range(0, len(corners), _CHUNK):
        one, other = tree.query(asked[begin : begin + _CHUNK])
        one = one + begin
        different = one != other
        yield one[different], other[different]


def _inside(inner: F64, outer: F64, slack: float) -> Bools:
    """Whether each rectangle lies inside its partner, which may be grown by the slack (m x 4 x 2, twice)."""
    result = np.ones(len(inner), np.bool_)
    for neighbour in (1, 3):
        along = outer[:, neighbour] - outer[:, 0]  # a side of the outer one
        length = np.hypot(along[:, 0], along[:, 1])
        place = ((inner - outer[:, :1]) * along[:, None]).sum(axis=2) / length[:, None]  # m x 4
        result &= place.min(axis=1) >= -slack - _ROUNDING
        result &= place.max(axis=1) <= length + slack + _ROUNDING
    return result
