"""What a region holds (one score a label), and what a pixel is (masks and semantic maps)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import InputError, instance_of, number_in
from remotesam_geo.words import threshold_steps

from .array_checks import FAR, check_array, check_each
from .codes import (
    FAILED,
    FULL,
    NO_DATA,
    Map,
    above,
    check_map,
    in_parts,
    scale_of,
    strips,
)
from .table import I64

__all__ = [
    "BACKGROUND",
    "NOT_ANSWERED",
    "NO_LABEL",
    "Tally",
    "add_tallies",
    "best_label",
    "label_scores",
    "positive_labels",
    "refer",
    "semantic",
    "tally",
]

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

MULTI_LABEL_BALANCE = 0.5
"""Weight of the maximum against the mean where several labels may hold."""
SINGLE_LABEL_BALANCE = 1.0
"""The same where one label is chosen: the maximum alone."""

BACKGROUND = 0
"""In a semantic map: no class exceeds its threshold."""
NO_LABEL = -1
"""From `best_label`: no label reaches the threshold."""
NOT_ANSWERED = -2
"""In a semantic map and from `best_label`: a map had no answer here, so that neither has this."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tally:
    """What one map holds in each of n zones, in whole numbers; partial tallies add up exactly.

    Attributes:
        count: Pixels with an answer (n).
        failed: Pixels whose answer failed (n).
        no_data: Pixels without data (n).
        total: Sum of the probabilities, in parts of one (n).
        peak: Largest probability, in parts of one; -1 where there is none (n).
        scale: How many parts make one.
    """

    count: I64
    failed: I64
    no_data: I64
    total: I64
    peak: I64
    scale: int

    def __len__(self) -> int:
        return len(self.count)


def tally(prob: Map, zones: NDArray[np.integer] | None = None, n: int | None = None) -> Tally:
    """Add up one map, over the whole picture or zone by zone.

    Args:
        prob: One map, bytes or probabilities (H x W).
        zones: The zone of each pixel from 1, 0 for none (H x W); without it the whole picture is one zone.
        n: How many zones there are; by default the largest number in `zones`.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import label_scores, tally
        >>> counted = tally(np.array([[200, 100], [254, 0]], np.uint8), np.array([[1, 1], [2, 2]]))
        >>> counted.count, counted.failed, label_scores([counted])
        (array([2, 1]), array([0, 1]), array([[0.8725, 0.    ]]))
    """
    check_map(prob)
    if zones is None:
        zones, n = np.broadcast_to(np.uint8(1), prob.shape), 1
    else:
        check_array("zones", zones, "whole numbers", prob.shape)
    if n is not None:
        number_in("n", n, 0, FAR, whole=True)
    low, high = (int(zones.min()), int(zones.max())) if zones.size else (0, 0)
    n = high if n is None else n
    if low < 0 or high > n:
        raise InputError(f"zones are numbered {low} to {high}: give 1 to {n}, 0 for none")
    size = n + 1
    count, failed, no_data, total = (np.zeros(size, np.int64) for _ in range(4))
    peak = np.full(size, -1, np.int64)
    for values, zone in zip(strips(prob), strips(zones), strict=True):
        answered = np.ones(values.shape, np.bool_)
        if values.dtype == np.uint8:
            answered = values <= FULL
            np.add.at(failed, zone[values == FAILED], 1)
            np.add.at(no_data, zone[values == NO_DATA], 1)
        where, parts = zone[answered], in_parts(values[answered])
        np.add.at(count, where, 1)
        np.add.at(total, where, parts)
        np.maximum.at(peak, where, parts)
    return Tally(
        count=count[1:],
        failed=failed[1:],
        no_data=no_data[1:],
        total=total[1:],
        peak=peak[1:],
        scale=scale_of(prob.dtype),
    )


def add_tallies(tallies: Sequence[Tally]) -> Tally:
    """Add the tallies of parts of a picture, over the same zones.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import add_tallies, tally
        >>> both = add_tallies([tally(np.full((1, 1), 200, np.uint8)), tally(np.full((1, 2), 255, np.uint8))])
        >>> both.count, both.no_data
        (array([1]), array([2]))
    """
    check_each("tallies", tallies, Tally)
    if len({(part.scale, len(part)) for part in tallies}) != 1:
        raise InputError(
            f"{len(tallies)} tallies of the sizes {sorted({len(part) for part in tallies})} and the scales "
            f"{sorted({part.scale for part in tallies})}: give one or more over the same zones and of one type of map"
        )
    return Tally(
        count=np.sum([part.count for part in tallies], axis=0),
        failed=np.sum([part.failed for part in tallies], axis=0),
        no_data=np.sum([part.no_data for part in tallies], axis=0),
        total=np.sum([part.total for part in tallies], axis=0),
        peak=np.max([part.peak for part in tallies], axis=0),
        scale=tallies[0].scale,
    )


def label_scores(tallies: Sequence[Tally], *, balance: float = MULTI_LABEL_BALANCE) -> F64:
    """The score of each label in each zone: ``balance * maximum + (1 - balance) * mean``.

    Args:
        tallies: One a label (P), each over the same zones (Z).
        balance: 0.5 where several labels may hold (`MULTI_LABEL_BALANCE`), 1 where the best one is chosen
            (`SINGLE_LABEL_BALANCE`).

    Returns:
        The scores, NaN where a zone has no answered pixel (P x Z).

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import label_scores, tally
        >>> label_scores([tally(np.array([[1.0, 0.5]], np.float32))])
        array([[0.875]])
    """
    number_in("balance", balance, 0, 1)
    check_each("tallies", tallies, Tally)
    sizes = {len(part) for part in tallies}
    if len(sizes) != 1:
        raise InputError(f"{len(tallies)} tallies of {sorted(sizes)} zones: give one or more, all over the same zones")
    scores = np.full((len(tallies), *sizes), np.nan)
    for row, part in zip(scores, tallies, strict=True):
        some = part.count > 0
        mean = part.total[some] / (part.count[some] * float(part.scale))
        row[some] = balance * (part.peak[some] / float(part.scale)) + (1 - balance) * mean
    return scores


def positive_labels(scores: F64, *, threshold: float = 0.5) -> Bools:
    """Which labels hold, where several may: those above the threshold (P x Z, as the scores).

    A label without an answer does not hold; tell it apart by its score, which is NaN.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import positive_labels
        >>> positive_labels(np.array([[0.8, 0.5], [0.6, np.nan]]))
        array([[ True, False],
               [ True, False]])
    """
    check_array("scores", scores, "numbers", None, None)
    number_in("threshold", threshold, 0, 1)
    return np.greater(scores, threshold)


def best_label(scores: F64, *, threshold: float = 0.5) -> I64:
    """The one label of each zone: the best, of equal ones the first (P x Z to Z).

    `NO_LABEL` where the best stays under the threshold, `NOT_ANSWERED` where a label has no score: it might have been
    the best.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import best_label
        >>> best_label(np.array([[0.8, 0.3, 0.9], [0.6, 0.4, np.nan]]))
        array([ 0, -1, -2])
    """
    number_in("threshold", threshold, 0, 1)
    check_array("scores", scores, "numbers", ("n", "n"), None)
    if not len(scores):
        raise InputError(f"scores has the shape {scores.shape}: give labels x zones, one label at least")
    missing = np.isnan(scores).any(axis=0)
    best: I64 = np.argmax(scores, axis=0)
    best[~missing & (scores.max(axis=0) < threshold)] = NO_LABEL
    best[missing] = NOT_ANSWERED
    return best


def refer(prob: Map, *, threshold: float = 0.5) -> Bools:
    """The mask of an expression: where the probability exceeds the threshold; false where there is no answer.

    Args:
        prob: One map, bytes or probabilities (H x W).
        threshold: Rounded up to steps of 0.005.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import refer
        >>> refer(np.array([[100, 101, 255]], np.uint8))
        array([[False,  True, False]])
    """
    steps = threshold_steps(threshold)
    check_map(prob)
    return above(prob, steps)


def semantic(maps: Sequence[Map], *, threshold: float | Sequence[float] = 0.5) -> NDArray[np.int16]:
    """One class a pixel: the most probable of those above their thresholds, of equal ones the first; else background.

    Args:
        maps: One map a class, all of one type (P of H x W).
        threshold: Rounded up to steps of 0.005, one for all or one a class.

    Returns:
        Classes from 1, `BACKGROUND` (0), and `NOT_ANSWERED` (-2) where any of the maps has no answer (H x W).

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import semantic
        >>> semantic([np.array([[150, 90, 120, 255]], np.uint8), np.array([[180, 90, 110, 200]], np.uint8)])
        array([[ 2,  0,  1, -2]], dtype=int16)
    """
    instance_of("maps", maps, (Sequence, np.ndarray), "a list of maps, one for each class")
    if getattr(maps, "shape", None) == () or not len(maps):
        raise InputError("no maps: give one for each class")
    thresholds = list(threshold) if isinstance(threshold, Sequence) else [threshold] * len(maps)
    if len(thresholds) != len(maps):
        raise InputError(f"{len(thresholds)} thresholds for {len(maps)} maps: give one for each")
    if len(maps) > np.iinfo(np.int16).max:
        raise InputError(f"{len(maps)} classes: at most {np.iinfo(np.int16).max} fit into one map")
    for number, prob in enumerate(maps):
        check_map(prob, f"maps[{number}]")
        if prob.shape != maps[0].shape or prob.dtype != maps[0].dtype:
            raise InputError(
                f"maps[{number}] is {prob.dtype} of the shape {prob.shape}, maps[0] is {maps[0].dtype} "
                f"of {maps[0].shape}: bring all to one size and type"
            )
    classes = np.full(maps[0].shape, BACKGROUND, np.int16)
    best = np.zeros(maps[0].shape, maps[0].dtype)
    for number, (prob, limit) in enumerate(zip(maps, thresholds, strict=True), start=1):
        wins = above(prob, threshold_steps(limit)) & (prob > best)
        classes[wins] = number
        best[wins] = prob[wins]
    if best.dtype == np.uint8:
        for prob in maps:
            classes[prob > FULL] = NOT_ANSWERED
    return classes
