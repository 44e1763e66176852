"""Boxes against boxes: average precision by the rules of COCO, upright or turned, and grounding."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray

from remotesam_geo.errors import InputError

from .summary import Scores, mean, ratio

__all__ = ["IOUS", "DetectionScore", "GroundingScore", "box_ious", "corner_ious"]

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

IOUS = np.linspace(0.5, 0.95, 10)
"""The ten IoUs from which a found box counts as right."""
RECALLS = np.linspace(0.0, 1.0, 101)
"""Where precision is read."""


def box_ious(found: F64, true: F64, crowd: Bools | None = None) -> F64:
    """IoU of upright boxes x0, y0, x1, y1 (n x 4 and m x 4) with each other (n x m).

    Args:
        found: Boxes.
        true: Boxes.
        crowd: True boxes round many objects (m): with those, the share of the found box inside.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.learning.evaluation.metrics import box_ious
        >>> box_ious(np.array([[0.0, 0, 2, 1]]), np.array([[1.0, 0, 3, 1]])).round(3)
        array([[0.333]])
    """
    low = np.maximum(found[:, None, :2], true[None, :, :2])
    high = np.minimum(found[:, None, 2:], true[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=2)
    one, other = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (found, true))
    return _iou_of_boxes(common, one, other, crowd)


def corner_ious(found: F64, true: F64, crowd: Bools | None = None) -> F64:
    """IoU of boxes at any angle, as corners in order round them (n x 4 x 2 and m x 4 x 2), with each other (n x m).

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.learning.evaluation.metrics import corner_ious
        >>> diamond = np.array([[[1.0, 0], [2, 1], [1, 2], [0, 1]]])
        >>> square = np.array([[[0.0, 0], [2, 0], [2, 2], [0, 2]]])
        >>> corner_ious(diamond, square)
        array([[0.5]])
    """
    one, other = (_box_polygons(corners) for corners in (found, true))
    common = np.zeros((len(one), len(other)))
    if common.size:
        near, around = shapely.STRtree(other).query(one)
        common[near, around] = shapely.area(shapely.intersection(one[near], other[around]))
    return _iou_of_boxes(common, shapely.area(one), shapely.area(other), crowd)


def _box_polygons(corners: F64) -> NDArray[np.object_]:
    if not len(corners):
        return np.zeros(0, object)
    polygons = shapely.polygons(corners)
    # Annotators click corners in any order; four points are then a bow tie, whose area means nothing.
    bad = ~shapely.is_valid(polygons)
    polygons[bad] = shapely.convex_hull(polygons[bad])
    return np.asarray(polygons, object)


def _iou_of_boxes(common: F64, one: F64, other: F64, crowd: Bools | None) -> F64:
    whole = one[:, None] + other[None, :] - common
    if crowd is not None:
        whole = np.where(crowd[None, :], one[:, None], whole)
    return np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)


@dataclass
class _Class:
    """What is known of one class."""

    truths: int = 0
    score: list[float] = field(default_factory=list)
    place: list[tuple[str, int]] = field(default_factory=list)  # picture, rank in it: breaks ties
    right: list[Bools] = field(default_factory=list)  # by IoU
    judged: list[Bools] = field(default_factory=list)  # by IoU; False: neither right nor wrong


class DetectionScore:
    """Average precision of found boxes, by the rules of COCO.

    In each picture the boxes of a class, best first and `most` at most, take the free true box that they overlap most;
    boxes on difficult or crowd truths are neither right nor wrong. Precision is read at 101 recalls and averaged.
    Boxes of equal score are taken by the names of their pictures, so that the order of adding changes nothing.

    Args:
        oriented: Whether boxes are corners (n x 4 x 2) in place of x0, y0, x1, y1 (n x 4).
        most: Boxes a picture and class that count.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.learning.evaluation.metrics import DetectionScore
        >>> score = DetectionScore()
        >>> score.add("p1", "ship", np.array([[0.0, 0, 9, 10]]), np.array([0.8]), np.array([[0.0, 0, 10, 10]]))
        >>> round(score.scores().overall["AP50"], 3), round(score.scores().overall["AP50:95"], 3)
        (1.0, 0.9)
    """

    def __init__(self, *, oriented: bool = False, most: int = 100) -> None:
        self.oriented, self.most = oriented, most
        self._classes: dict[str, _Class] = {}

    def add(
        self,
        picture: str,
        label: str,
        found: F64,
        score: F64,
        true: F64,
        *,
        difficult: Bools | None = None,
        crowd: Bools | None = None,
    ) -> None:
        """One class in one picture; pictures where it is neither true nor found may be left out.

        Args:
            picture: Its name.
            label: The class.
            found: Boxes found (n).
            score: Their scores (n).
            true: Boxes that are true (m).
            difficult: True boxes that need not be found (m).
            crowd: True boxes round many objects, which need not be found either (m).
        """
        box = (4, 2) if self.oriented else (4,)
        found, true = (
            np.asarray(boxes, np.float64).reshape(-1, *box) if len(boxes) == 0 else boxes for boxes in (found, true)
        )
        if found.shape[1:] != box or true.shape[1:] != box or len(score) != len(found):
            raise InputError(
                f"found {found.shape}, scores {np.shape(score)}, true {true.shape}: give "
                f"{'n x 4 x 2 corners' if self.oriented else 'n x 4 boxes'} and a score for each found"
            )
        if not all(np.isfinite(values).all() for values in (found, score, true)):
            raise InputError(f"boxes or scores of {label!r} in {picture!r} are no finite numbers")
        crowd = np.zeros(len(true), np.bool_) if crowd is None else crowd
        ignored = crowd if difficult is None else crowd | difficult
        own = self._classes.setdefault(label, _Class())
        own.truths += int((~ignored).sum())

        best = np.argsort(-score, kind="stable")[: self.most]
        last = np.argsort(ignored, kind="stable")  # those that count are offered first
        overlap = (corner_ious if self.oriented else box_ious)(found[best], true[last], crowd[last])
        right, judged = _match_boxes(overlap, ignored[last], crowd[last])
        own.score += score[best].tolist()
        own.place += [(picture, rank) for rank in range(len(best))]
        own.right += list(right.T)
        own.judged += list(judged.T)

    def merge(self, other: "DetectionScore") -> None:
        """Take over what another one counted."""
        if (self.oriented, self.most) != (other.oriented, other.most):
            raise InputError("only scores of one kind of box, with the same most, can be merged")
        for label, more in other._classes.items():
            own = self._classes.setdefault(label, _Class())
            own.truths += more.truths
            own.score += more.score
            own.place += more.place
            own.right += more.right
            own.judged += more.judged

    def scores(self) -> Scores:
        """AP50, AP75, AP50:95 over the classes that have truth; by class with the recall at IoU 0.5 as well."""
        by_class = {label: _box_precision_figures(own) for label, own in sorted(self._classes.items())}
        names = ("AP50", "AP75", "AP50:95", "recall50")
        return Scores(
            overall={name: mean(row[name] for row in by_class.values()) for name in names},
            by_class=by_class,
        )


def _match_boxes(overlap: F64, ignored: Bools, crowd: Bools) -> tuple[Bools, Bools]:
    """Which boxes are right, and which are judged at all, at each IoU (both T x n)."""
    n, m = overlap.shape
    right, judged = np.zeros((len(IOUS), n), np.bool_), np.ones((len(IOUS), n), np.bool_)
    if not m:
        return right, judged
    for t, least in enumerate(IOUS):
        free = np.ones(m, np.bool_)
        for box in range(n):
            if overlap[box].max() < least - 1e-10:
                continue
            open_to_all = free | crowd
            for group in (open_to_all & ~ignored, open_to_all & ignored):
                # Of equally good ones the last, as COCO has it.
                candidates = np.flatnonzero(group & (overlap[box] >= min(least, 1 - 1e-10)))
                if candidates.size:
                    values = overlap[box, candidates]
                    taken = candidates[values.size - 1 - int(np.argmax(values[::-1]))]
                    free[taken] = False
                    right[t, box], judged[t, box] = not ignored[taken], not ignored[taken]
                    break
    return right, judged


def _box_precision_figures(own: _Class) -> dict[str, float]:
    found = len(own.score)
    if not own.truths:  # nothing to find: no figure, whatever was found
        return {"AP50": math.nan, "AP75": math.nan, "AP50:95": math.nan, "recall50": math.nan} | {
            "objects": 0,
            "found": found,
        }
    precision, recall = np.zeros(len(IOUS)), np.zeros(len(IOUS))
    if found:
        order = sorted(range(found), key=lambda k: (-own.score[k], own.place[k]))
        right, judged = np.stack(own.right)[order], np.stack(own.judged)[order]
        for t in range(len(IOUS)):
            hits = np.cumsum(right[judged[:, t], t])
            if not hits.size:
                continue
            recalls = hits / own.truths
            precisions = hits / np.arange(1, hits.size + 1)
            envelope = np.maximum.accumulate(precisions[::-1])[::-1]
            at = np.searchsorted(recalls, RECALLS, side="left")
            read = np.where(at < hits.size, envelope[np.minimum(at, hits.size - 1)], 0.0)
            precision[t], recall[t] = read.mean(), recalls[-1]
    return {
        "AP50": float(precision[0]),
        "AP75": float(precision[5]),
        "AP50:95": float(precision.mean()),
        "recall50": float(recall[0]),
        "objects": own.truths,
        "found": found,
    }


class GroundingScore:
    """One box an expression: the share that reach IoU 0.5 (called AP50), and the mean IoU.

    Args:
        published: Count an expression without an answer with the IoU of the answer before it when precision is
            asked, as the published evaluation does; its mean IoU counts it as 0 all the same.

    Examples:
        >>> from remotesam_geo.learning.evaluation.metrics import GroundingScore
        >>> score = GroundingScore()
        >>> score.add(0, (0, 0, 2, 2), (0, 0, 2, 2))
        >>> score.add(1, None, (0, 0, 2, 2))
        >>> score.scores().overall["AP50"], score.scores().overall["mIoU"]
        (0.5, 0.5)
    """

    def __init__(self, *, published: bool = False) -> None:
        self.published = published
        self._ious: dict[int, float | None] = {}

    def add(self, place: int, found: Sequence[float] | None, true: Sequence[float]) -> None:
        """One expression, by its place in the data set: the box found, if any, and the true one."""
        iou = None if found is None else float(box_ious(_as_one_metric_box(found), _as_one_metric_box(true))[0, 0])
        if place in self._ious:
            raise InputError(f"the expression {place} was counted already")
        self._ious[place] = iou

    def merge(self, other: "GroundingScore") -> None:
        """Take over what another one counted."""
        if both := self._ious.keys() & other._ious.keys():
            raise InputError(f"the expression {min(both)} was counted by both")
        self._ious |= other._ious

    def scores(self) -> Scores:
        """AP50, mIoU, Pr@0.6 to Pr@0.9, and the share without an answer."""
        judged, answered, before = [], [], 0.0
        for _, iou in sorted(self._ious.items()):
            answered.append(iou or 0.0)
            if iou is not None:
                before = iou
            judged.append(before if self.published else answered[-1])
        n = len(judged)
        overall = {"AP50": ratio(sum(iou >= 0.5 for iou in judged), n), "mIoU": mean(answered)}
        for least in (0.6, 0.7, 0.8, 0.9):
            overall[f"Pr@{least}"] = ratio(sum(iou >= least for iou in judged), n)
        overall["unanswered"] = ratio(sum(iou is None for iou in self._ious.values()), n)
        return Scores(overall=overall | {"count": n})


def _as_one_metric_box(box: Sequence[float]) -> F64:
    return np.asarray(box, np.float64).reshape(1, 4)
