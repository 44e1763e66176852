"""Masks against masks: referring segmentation, and one class a pixel."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import InputError

from .summary import Scores, mean, ratio

__all__ = ["PRECISIONS", "ReferringScore", "SemanticScore"]

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

PRECISIONS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Least IoU of an answer that counts as right."""


class ReferringScore:
    """Overall and mean IoU of masks, and the share of them that reach an IoU.

    Args:
        empty: The IoU of an empty answer where nothing is true. 1 is right: there was nothing to find. The
            published evaluation takes 0.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.learning.evaluation.metrics import ReferringScore
        >>> score = ReferringScore()
        >>> score.add(np.array([[True, True]]), np.array([[True, False]]))
        >>> score.add(np.array([[False, True]]), np.array([[False, True]]))
        >>> score.scores().overall["oIoU"].__round__(3), score.scores().overall["mIoU"]
        (0.667, 0.75)
    """

    def __init__(self, *, empty: float = 1.0) -> None:
        self.empty = empty
        self._intersections: list[int] = []
        self._unions: list[int] = []

    def add(self, found: Bools, truth: Bools) -> None:
        """One expression's answer and truth, both H x W."""
        if found.shape != truth.shape:
            raise InputError(f"the answer has the shape {found.shape}, the truth {truth.shape}: bring both to one size")
        self.add_counts(int((found & truth).sum()), int((found | truth).sum()))

    def add_counts(self, intersection: int, union: int) -> None:
        """One expression, of which the pixels were counted already."""
        if not 0 <= intersection <= union:
            raise InputError(f"{intersection} pixels in common of {union} in all: give 0 <= intersection <= union")
        self._intersections.append(intersection)
        self._unions.append(union)

    def merge(self, other: "ReferringScore") -> None:
        """Take over what another one counted."""
        self._intersections += other._intersections
        self._unions += other._unions

    def scores(self) -> Scores:
        """Overall IoU (sum of intersections over sum of unions), mIoU, Pr@0.5 to 0.9, all in 0..1."""
        ious = [i / u if u else self.empty for i, u in zip(self._intersections, self._unions, strict=True)]
        overall = {
            "oIoU": ratio(sum(self._intersections), sum(self._unions)),
            "mIoU": mean(ious),
            "count": len(ious),
        }
        # IoUs are compared as fractions, so that 9 of 18 pixels is not a little less than a half.
        for least in PRECISIONS:
            tenths = round(least * 10)
            reached = [
                10 * i >= tenths * u if u else self.empty >= least
                for i, u in zip(self._intersections, self._unions, strict=True)
            ]
            overall[f"Pr@{least}"] = ratio(sum(reached), len(reached))
        return Scores(overall=overall)


class SemanticScore:
    """One class a pixel: IoU and F1 by class, their means, and the confusion of classes.

    Args:
        classes: Names of the classes 0, 1, ... ; where 0 is a background, name it.
        ignore: The value of pixels without truth.
        left_out: Classes that the means leave out, such as a background; they still count as wrong answers.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.learning.evaluation.metrics import SemanticScore
        >>> score = SemanticScore(["background", "road"], ignore=255)
        >>> score.add(np.array([[0, 1, 1, 1]]), np.array([[0, 1, 0, 255]]))
        >>> score.scores().by_class["road"]["IoU"], score.scores().overall["mIoU"]
        (0.5, 0.5)
    """

    def __init__(
        self,
        classes: Sequence[str],
        *,
        ignore: int | None = None,
        left_out: Sequence[str] = (),
    ) -> None:
        if len(set(classes)) != len(classes) or not classes:
            raise InputError(f"the classes are {list(classes)}: give one or more, each once")
        if unknown := set(left_out) - set(classes):
            raise InputError(f"{sorted(unknown)} to leave out are none of {list(classes)}")
        self.classes = tuple(classes)
        self.ignore = ignore
        self.left_out = frozenset(left_out)
        self.confusion: I64 = np.zeros((len(classes), len(classes)), np.int64)

    def add(self, found: NDArray[np.integer], truth: NDArray[np.integer]) -> None:
        """One picture's answer and truth, both H x W; pixels whose truth is `ignore` are left out."""
        if found.shape != truth.shape:
            raise InputError(f"the answer has the shape {found.shape}, the truth {truth.shape}: bring both to one size")
        n = len(self.classes)
        known = np.ones(truth.shape, np.bool_) if self.ignore is None else truth != self.ignore
        rows, columns = truth[known].astype(np.int64), found[known].astype(np.int64)
        for what, values in (("truth", rows), ("answer", columns)):
            if values.size and (values.min() < 0 or values.max() >= n):
                wrong = values[(values < 0) | (values >= n)][0]
                raise InputError(
                    f"the {what} holds the class {wrong}: there are {n}, 0 to {n - 1}"
                    + ("" if self.ignore is None else f", and {self.ignore} for none")
                )
        self.confusion += np.bincount(rows * n + columns, minlength=n * n).reshape(n, n)

    def add_counts(self, confusion: I64) -> None:
        """One picture, of which the pixels were counted already: true class x answered class."""
        if confusion.shape != self.confusion.shape:
            raise InputError(f"a confusion of the shape {confusion.shape} for {len(self.classes)} classes")
        self.confusion += confusion

    def merge(self, other: "SemanticScore") -> None:
        """Take over what another one counted."""
        if other.classes != self.classes:
            raise InputError(f"classes differ: {self.classes} and {other.classes}")
        self.confusion += other.confusion

    def scores(self) -> Scores:
        """MIoU, mF1, accuracy of pixels; a class that is neither true nor answered has no figure."""
        right = np.diag(self.confusion)
        true, found = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        by_class = {
            name: {
                "IoU": ratio(int(right[k]), int(true[k] + found[k] - right[k])),
                "F1": ratio(2 * int(right[k]), int(true[k] + found[k])),
                "precision": ratio(int(right[k]), int(found[k])),
                "recall": ratio(int(right[k]), int(true[k])),
                "pixels": int(true[k]),
            }
            for k, name in enumerate(self.classes)
        }
        counted = [row for name, row in by_class.items() if name not in self.left_out]
        return Scores(
            overall={
                "mIoU": mean(row["IoU"] for row in counted),
                "mF1": mean(row["F1"] for row in counted),
                "accuracy": ratio(int(right.sum()), int(self.confusion.sum())),
            },
            by_class=by_class,
            confusion={
                name: dict(zip(self.classes, map(int, row), strict=True))
                for name, row in zip(self.classes, self.confusion, strict=True)
            },
        )
