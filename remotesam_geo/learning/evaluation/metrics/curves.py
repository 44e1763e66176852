"""How far a probability can be trusted: its pixels counted by probability and truth.

A probability falls into one of 201 codes (`remotesam_geo.tasks.encode`), and `p > t` is exactly `code > 200 t`. So two
rows of counts answer for every threshold in steps of 0.005, and add up over pictures and processes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import InputError
from remotesam_geo.tasks import FULL, encode
from remotesam_geo.tasks.codes import Map

from .summary import ratio

__all__ = ["ChanceCounts", "Point", "chance_counts"]

I64 = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Point:
    """What one threshold gives.

    Attributes:
        threshold: A pixel belongs where its probability is larger.
        precision: Share of the answer that is true; NaN of an empty one.
        recall: Share of the truth that is answered; NaN where nothing is true.
        f1: Their harmonic mean.
        iou: Intersection over union.
    """

    threshold: float
    precision: float
    recall: float
    f1: float
    iou: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ChanceCounts:
    """Pixels by code of their probability (0 to 200), apart by truth.

    Attributes:
        true: Where the truth says yes (201).
        false: Where it says no (201).
    """

    true: I64
    false: I64

    @classmethod
    def none(cls) -> "ChanceCounts":
        """Counts of nothing."""
        return cls(true=np.zeros(FULL + 1, np.int64), false=np.zeros(FULL + 1, np.int64))

    def __add__(self, other: "ChanceCounts") -> "ChanceCounts":
        return ChanceCounts(true=self.true + other.true, false=self.false + other.false)

    def counts(self, step: int) -> tuple[int, int]:
        """Intersection and union of the answer `code > step` with the truth."""
        found_true = int(self.true[step + 1 :].sum())
        return found_true, int(self.true.sum()) + int(self.false[step + 1 :].sum())

    def point(self, step: int) -> Point:
        """What the threshold of so many steps of 0.005 gives."""
        right, every = self.counts(step)
        found, true = right + int(self.false[step + 1 :].sum()), int(self.true.sum())
        return Point(
            threshold=step / FULL,
            precision=ratio(right, found),
            recall=ratio(right, true),
            f1=ratio(2 * right, found + true),
            iou=ratio(right, every),
        )

    def curve(self) -> list[Point]:
        """A point for each threshold from 0 to 0.995."""
        return [self.point(step) for step in range(FULL)]

    def best(self) -> Point:
        """The point of the largest IoU; of equal ones that in the middle, farthest from both slopes.

        Raises:
            InputError: Nothing is true, so that no threshold is better than another.
        """
        if not self.true.any():
            raise InputError("no pixel is true: there is nothing to choose a threshold by")
        ious = np.array([self.point(step).iou for step in range(FULL)])
        top = np.flatnonzero(ious == ious.max())
        run = np.split(top, np.flatnonzero(np.diff(top) > 1) + 1)[0]
        return self.point(int(run[len(run) // 2]))

    def calibration(self, bins: int = 10) -> list[tuple[float, float, int]]:
        """Mean probability, share of truth and number of pixels in each of so many equal bins, without empty ones."""
        if not 1 <= bins <= FULL:
            raise InputError(f"bins is {bins}: give 1 to {FULL}")
        codes = np.arange(FULL + 1)
        where = np.minimum(np.maximum(codes - 1, 0) * bins // FULL, bins - 1)
        chance = np.where(codes == 0, 0.0, (codes - 0.5) / FULL)
        rows = []
        for number in range(bins):
            own = where == number
            pixels = int((self.true + self.false)[own].sum())
            if pixels:
                total = float(((self.true + self.false)[own] * chance[own]).sum())
                rows.append((total / pixels, int(self.true[own].sum()) / pixels, pixels))
        return rows

    def calibration_error(self, bins: int = 10) -> float:
        """Expected calibration error: mean distance of probability and share of truth, weighed by pixels."""
        rows = self.calibration(bins)
        whole = sum(pixels for _, _, pixels in rows)
        return ratio(float(sum(pixels * abs(chance - share) for chance, share, pixels in rows)), whole)


def chance_counts(prob: Map, truth: NDArray[np.bool_], known: NDArray[np.bool_] | None = None) -> ChanceCounts:
    """Count one map's pixels.

    Args:
        prob: Codes or probabilities (H x W); those without an answer are left out.
        truth: Where it should say yes (H x W).
        known: Where there is truth (H x W); by default everywhere.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.learning.evaluation.metrics import chance_counts
        >>> counted = chance_counts(np.array([[200, 120, 90]], np.uint8), np.array([[True, True, False]]))
        >>> counted.best().threshold, counted.point(120).recall
        (0.525, 0.5)
    """
    if prob.shape != truth.shape:
        raise InputError(f"the map has the shape {prob.shape}, the truth {truth.shape}: bring both to one size")
    codes = prob if prob.dtype == np.uint8 else encode(prob)
    answered = codes <= FULL
    if known is not None:
        answered &= known
    rows = (np.bincount(codes[answered & which], minlength=FULL + 1).astype(np.int64) for which in (truth, ~truth))
    return ChanceCounts(true=next(rows), false=next(rows))
