"""Labels of whole pictures, and numbers of objects."""

import math
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import InputError

from .summary import Scores, mean, ratio

__all__ = ["NONE", "CountingScore", "MultiLabelScore", "SingleLabelScore"]

NONE = "(none)"
"""The answer of a picture without an answer."""


class MultiLabelScore:
    """Which of several labels hold.

    "accuracy" is the share of right answers over all pictures and labels (the published figure); "exact" the share of
    pictures with every label right; "overlap" the mean over pictures of common labels among those true or answered.

    Args:
        labels: All labels that are asked.

    Examples:
        >>> from remotesam_geo.learning.evaluation.metrics import MultiLabelScore
        >>> score = MultiLabelScore(["ship", "bridge"])
        >>> score.add({"ship"}, {"ship", "bridge"})
        >>> score.scores().overall["accuracy"], score.scores().overall["overlap"]
        (0.5, 0.5)
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self._cells = {label: np.zeros((2, 2), np.int64) for label in labels}  # true x answered
        self._overlaps: Counter[tuple[int, int]] = Counter()  # common, in all
        self._exact = 0

    def add(self, found: Collection[str], true: Collection[str]) -> None:
        """One picture: labels answered and labels that hold."""
        one, other = set(found), set(true)
        if unknown := (one | other) - set(self.labels):
            raise InputError(f"{sorted(unknown)} are none of the labels {list(self.labels)}")
        for label in self.labels:
            self._cells[label][int(label in other), int(label in one)] += 1
        self._overlaps[len(one & other), len(one | other)] += 1
        self._exact += one == other

    def merge(self, other: "MultiLabelScore") -> None:
        """Take over what another one counted."""
        if other.labels != self.labels:
            raise InputError(f"labels differ: {self.labels} and {other.labels}")
        for label, cells in other._cells.items():
            self._cells[label] += cells
        self._overlaps += other._overlaps
        self._exact += other._exact

    def scores(self) -> Scores:
        """Accuracies, precision, recall and F1, over all answers and as means over labels."""
        by_class = {label: _confusion_scores(cells) for label, cells in self._cells.items()}
        whole = _confusion_scores(sum(self._cells.values(), np.zeros((2, 2), np.int64)))
        pictures = self._overlaps.total()
        overlap = math.fsum(
            times * (common / every if every else 1.0) for (common, every), times in sorted(self._overlaps.items())
        )
        return Scores(
            overall={
                "accuracy": whole["accuracy"],
                "exact": ratio(self._exact, pictures),
                "overlap": ratio(overlap, pictures),
                "precision": whole["precision"],
                "recall": whole["recall"],
                "F1": whole["F1"],
                "mF1": mean(row["F1"] for row in by_class.values()),
                "count": pictures,
            },
            by_class=by_class,
        )


def _confusion_scores(cells: NDArray[np.int64]) -> dict[str, float]:
    (right_no, false_yes), (false_no, right_yes) = cells.tolist()
    return {
        "accuracy": ratio(right_no + right_yes, int(cells.sum())),
        "precision": ratio(right_yes, right_yes + false_yes),
        "recall": ratio(right_yes, right_yes + false_no),
        "F1": ratio(2 * right_yes, 2 * right_yes + false_yes + false_no),
        "pictures": right_yes + false_no,
    }


class SingleLabelScore:
    """Which one label a picture has.

    Args:
        labels: All labels that are asked.

    Examples:
        >>> from remotesam_geo.learning.evaluation.metrics import SingleLabelScore
        >>> score = SingleLabelScore(["beach", "forest"])
        >>> score.add("beach", "beach")
        >>> score.add(None, "forest")
        >>> score.scores().overall["accuracy"], score.scores().confusion["forest"]["(none)"]
        (0.5, 1)
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self._pairs: Counter[tuple[str, str]] = Counter()

    def add(self, found: str | None, true: str) -> None:
        """One picture: the label answered, if any, and the one that holds."""
        answer = NONE if found is None else found
        if true not in self.labels or answer not in (*self.labels, NONE):
            raise InputError(f"{found!r} for {true!r}: the labels are {list(self.labels)}")
        self._pairs[true, answer] += 1

    def merge(self, other: "SingleLabelScore") -> None:
        """Take over what another one counted."""
        if other.labels != self.labels:
            raise InputError(f"labels differ: {self.labels} and {other.labels}")
        self._pairs += other._pairs

    def scores(self) -> Scores:
        """Accuracy, its mean over labels, and the confusion with a column for no answer."""
        confusion = {true: {found: self._pairs[true, found] for found in (*self.labels, NONE)} for true in self.labels}
        by_class = {}
        for label, row in confusion.items():
            true, found = sum(row.values()), sum(other[label] for other in confusion.values())
            by_class[label] = {
                "recall": ratio(row[label], true),
                "precision": ratio(row[label], found),
                "F1": ratio(2 * row[label], true + found),
                "pictures": true,
            }
        pictures = self._pairs.total()
        return Scores(
            overall={
                "accuracy": ratio(sum(self._pairs[k, k] for k in self.labels), pictures),
                "mean accuracy": mean(row["recall"] for row in by_class.values()),
                "unanswered": ratio(sum(row[NONE] for row in confusion.values()), pictures),
                "count": pictures,
            },
            by_class=by_class,
            confusion=confusion,
        )


class CountingScore:
    """How many objects there are: the share of exact numbers, and how far the others are off.

    Examples:
        >>> from remotesam_geo.learning.evaluation.metrics import CountingScore
        >>> score = CountingScore()
        >>> score.add("ship", 4, 4)
        >>> score.add("ship", 7, 9)
        >>> score.scores().overall["accuracy"], score.scores().overall["mean error"]
        (0.5, 1.0)
    """

    def __init__(self) -> None:
        self._pairs: Counter[tuple[str, int, int]] = Counter()

    def add(self, label: str, found: int, true: int) -> None:
        """One question: the number counted and the true one."""
        if min(found, true) < 0:
            raise InputError(f"counts of {label!r} are {found} and {true}: give 0 or more")
        self._pairs[label, found, true] += 1

    def merge(self, other: "CountingScore") -> None:
        """Take over what another one counted."""
        self._pairs += other._pairs

    def scores(self) -> Scores:
        """Accuracy (exact numbers), mean absolute error, root mean square error, bias."""
        labels = sorted({label for label, _, _ in self._pairs})
        return Scores(
            overall=self._figures(labels),
            by_class={label: self._figures([label]) for label in labels},
        )

    def _figures(self, labels: Collection[str]) -> dict[str, float]:
        rows = [(f, t, n) for (label, f, t), n in self._pairs.items() if label in labels]
        count = sum(n for _, _, n in rows)
        return {
            "accuracy": ratio(sum(n for f, t, n in rows if f == t), count),
            "mean error": ratio(sum(n * abs(f - t) for f, t, n in rows), count),
            "root mean square error": math.sqrt(ratio(sum(n * (f - t) ** 2 for f, t, n in rows), count)),
            "bias": ratio(sum(n * (f - t) for f, t, n in rows), count),
            "count": count,
        }
