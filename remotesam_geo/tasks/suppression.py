"""Which of several boxes of one label to drop: those inside others, and those that overlap a better one.

Both rules are the published ones. Only boxes whose bounding boxes meet are compared (an STR tree finds them).
"""

from collections.abc import Iterator
from typing import Literal

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from remotesam_geo.errors import number_in

from .array_checks import FAR, check_array, check_shape
from .table import I64

__all__ = ["inner_boxes", "inner_drawings", "overlapping_boxes"]

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
_CHUNK = 4096  # boxes looked up in the tree at once, which bounds the pairs in memory
_SURE = 2.0
"""A drawn border leaves its ideal line by less than this many pixels, also where the canvas cuts it."""


def inner_boxes(corners: F64, score: F64) -> Bools:
    """Find the upright boxes that lie inside another one.

    Of equal boxes the best by score stays, of equally good ones the first.

    Args:
        corners: Corners of upright boxes, in order around them (n x 4 x 2).
        score: Their scores (n).

    Returns:
        True for those inside another (n).

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import inner_boxes, upright
        >>> inner_boxes(upright(np.array([[0, 0, 9, 9], [1, 1, 3, 3]])), np.array([0.5, 0.9]))
        array([False,  True])
    """
    _check_suppressed_boxes(corners, score)
    inner = np.zeros(len(corners), np.bool_)
    rank = _score_ranks(score)
    low, high = corners.min(axis=1), corners.max(axis=1)
    for near, around in _boxes_that_meet(corners):
        inside = (low[near] >= low[around]).all(axis=1) & (high[near] <= high[around]).all(axis=1)
        one, other = near[inside], around[inside]
        mutual = (low[one] == low[other]).all(axis=1) & (high[one] == high[other]).all(axis=1)
        inner[one[~mutual | (rank[one] > rank[other])]] = True
    return inner


def inner_drawings(corners: I64, score: F64, shape: tuple[int, int]) -> Bools:
    """Find the oriented boxes that lie inside another one, by the published rule.

    The rule draws each box, filled and with its border, on a canvas of the picture's size (`cv2.fillPoly`). A box is
    inside another when every pixel drawn for it is drawn for the other. A box without area, or without a pixel on the
    canvas, is always dropped. Of boxes with the same drawing the best by score stays, of equally good ones the first.

    Only boxes whose borders come near each other are drawn, each on its part of the canvas.

    Args:
        corners: Corners in whole pixels, in order around each box (n x 4 x 2): see `drawn_rectangles`.
        score: Their scores (n).
        shape: Height and width of the picture.

    Returns:
        True for those inside another, and for those without area or pixels (n).

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import inner_drawings
        >>> diamond = np.array([[8, 0], [16, 8], [8, 16], [0, 8]])
        >>> boxes = np.stack([diamond, diamond // 2 + 4, diamond * 0 + 3])
        >>> inner_drawings(boxes, np.array([0.5, 0.9, 0.7]), (20, 20))
        array([False,  True,  True])
    """
    _check_suppressed_boxes(corners, score, "whole numbers")
    check_shape(shape)
    after = np.roll(corners, -1, axis=1)
    area = (corners[..., 0] * after[..., 1] - corners[..., 1] * after[..., 0]).sum(axis=1)
    low, high = corners.min(axis=1), corners.max(axis=1)
    uncut = ((low >= 0) & (high < np.array(shape[::-1]))).all(axis=1)
    for box in np.flatnonzero(~uncut):  # what of it lies on the canvas
        (canvas,), begin = _drawings_of_boxes(corners[[box]], shape)
        *place, width, height = cv2.boundingRect(canvas)
        low[box] = begin + place
        high[box] = low[box] + [width - 1, height - 1]
    inner: Bools = (area == 0) | (high < low).any(axis=1)
    boxes = np.flatnonzero(~inner)
    corners, low, high, uncut = corners[boxes], low[boxes], high[boxes], uncut[boxes]
    rank = _score_ranks(score[boxes])
    for near, around in _boxes_that_meet(corners.astype(np.float64)):
        held = (low[near] >= low[around]).all(axis=1) & (high[near] <= high[around]).all(axis=1)
        one, other = near[held], around[held]
        depth = _depth_of_corners(corners[one], corners[other])
        inside = depth >= _SURE
        unsure = ~inside & ~(uncut[one] & (depth < -_SURE))
        drops = inside.copy()
        for at in np.flatnonzero(unsure).tolist():
            i, j = int(one[at]), int(other[at])
            (mine, its), _ = _drawings_of_boxes(corners[[i, j]], shape)
            equal = bool((mine == its).all())
            drops[at] = rank[i] > rank[j] if equal else not (mine > its).any()
        inner[boxes[one[drops]]] = True
    return inner


def overlapping_boxes(corners: F64, score: F64, *, iou: float = 0.5) -> Bools:
    """Which boxes non-maximum suppression drops: those that overlap a better box that stays.

    Args:
        corners: Corners of upright or turned rectangles, in order round them (n x 4 x 2).
        score: Their scores; of equal ones the first is better (n).
        iou: A box goes when the intersection is more than this share of the union.

    Returns:
        True for the boxes to drop (n).

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import overlapping_boxes, upright
        >>> boxes = upright(np.array([[0, 0, 4, 4], [1, 0, 5, 4], [9, 9, 12, 12]]))
        >>> overlapping_boxes(boxes, np.array([0.6, 0.8, 0.7]))
        array([ True, False, False])
    """
    _check_suppressed_boxes(corners, score)
    number_in("iou", iou, 0, 1)
    rank = _score_ranks(score)
    shape = shapely.polygons(corners)
    area = shapely.area(shape)
    pairs = [np.zeros((0, 2), np.int64)]
    for one, other in _boxes_that_meet(corners):
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


def _check_suppressed_boxes(
    corners: F64 | I64, score: F64, kind: Literal["numbers", "whole numbers"] = "numbers"
) -> None:
    """Refuse corners and scores that are not those of n boxes."""
    check_array("corners", corners, kind, ("n", 4, 2))
    check_array("score", score, "numbers", (len(corners),), (0, FAR))


def _score_ranks(score: F64) -> I64:
    """0 for the best score; equal scores in order."""
    rank = np.empty(score.size, np.int64)
    rank[np.argsort(-score, kind="stable")] = np.arange(score.size)
    return rank


def _boxes_that_meet(corners: F64) -> Iterator[tuple[I64, I64]]:
    """Pairs of different boxes whose bounding boxes meet, in both orders."""
    low, high = corners.min(axis=1), corners.max(axis=1)
    bounds = shapely.box(low[:, 0], low[:, 1], high[:, 0], high[:, 1])
    tree = shapely.STRtree(bounds)
    for begin in range(0, len(corners), _CHUNK):
        one, other = tree.query(bounds[begin : begin + _CHUNK])
        one = one + begin
        different = one != other
        yield one[different], other[different]


def _depth_of_corners(inner: I64, outer: I64) -> F64:
    """How deep the corners of each box lie inside its partner, at least, in pixels; negative outside (m).

    NaN where the partner is no convex polygon, as cut corners may leave thin boxes.
    """
    side = np.roll(outer, -1, axis=1) - outer
    after = np.roll(side, -1, axis=1)
    turn = np.sign(side[..., 0] * after[..., 1] - side[..., 1] * after[..., 0])
    convex = (turn == turn[:, :1]).all(axis=1) & (turn[:, 0] != 0)
    away = inner[:, None] - outer[:, :, None]  # m x sides x corners x 2
    cross = side[:, :, None, 0] * away[..., 1] - side[:, :, None, 1] * away[..., 0]
    inward = (cross * turn[:, :1, None]).min(axis=2, initial=np.iinfo(np.int64).max)
    length = np.maximum(np.hypot(side[..., 0], side[..., 1]), 1.0)  # 1 at least where it is not 0
    return np.where(convex, (inward / length).min(axis=1, initial=np.inf), np.nan)


def _drawings_of_boxes(boxes: I64, shape: tuple[int, int]) -> tuple[list[NDArray[np.uint8]], I64]:
    """Drawings of boxes on the part of the canvas around all of them, and where that part begins (x, y)."""
    low = np.maximum(boxes.min(axis=(0, 1)), 0)
    high = np.minimum(boxes.max(axis=(0, 1)) + 1, np.array(shape[::-1]))
    # Lines are cut at the edges of the canvas, and there alone: the drawing is that on the whole canvas.
    drawings = [np.zeros(np.maximum(high - low, 1)[::-1], np.uint8) for _ in boxes]
    for canvas, box in zip(drawings, boxes, strict=True):
        if (high > low).all():
            cv2.fillPoly(canvas, [(box - low).astype(np.int32)], 1)
    return drawings, low
