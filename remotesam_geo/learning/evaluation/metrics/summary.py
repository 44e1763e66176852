"""What every metric gives: figures over all, and by class."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["Scores", "mean", "ratio"]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Figures of one metric.

    Attributes:
        overall: By name; NaN where there was nothing to judge.
        by_class: The same for each class.
        confusion: Counts by what is true (row) and what was answered (column), where classes exclude each other.
    """

    overall: Mapping[str, float]
    by_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    confusion: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def ratio(part: float, whole: float) -> float:
    """A quotient, NaN of nothing."""
    return part / whole if whole else math.nan


def mean(values: Iterable[float]) -> float:
    """The mean of those that are numbers, the same in any order; NaN of none."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
