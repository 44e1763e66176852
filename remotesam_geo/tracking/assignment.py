"""Which objects of two times are the same: pairs that may be, the best of all one-to-one choices, and the shift."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csgraph

__all__ = ["Pairs", "assign", "candidates", "estimate_shift", "join_pairs", "moved", "overlap"]

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Geometries = NDArray[np.object_]

OVERLAP = 0.2
"""Least intersection over union of a pair that is matched where it lies."""
ALIKE = 0.5
"""Least intersection over union, laid upon each other, of a pair that is matched by its distance."""
SMALL = 2.0
"""Objects up to so many tolerances across are matched by distance whatever their outlines."""
SAME_AREA = 0.7
"""Least ratio of the areas of pairs that tell of a shift."""
FEW = 3
"""Pairs that must agree on a shift ..."""
AGREE = 0.2
"""... and for what share of the objects there must be one, of the earlier or the later, whichever are fewer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Pairs that may be the same object, sorted.

    Attributes:
        old: The earlier object (m).
        new: The later one (m).
        score: How much speaks for it, above 0 and up to 1 (m).
        aligned: Intersection over union once the later one is moved towards the earlier, by the tolerance at most (m).
        small: Whether both are too small for outlines to tell anything (m).
    """

    old: I64
    new: I64
    score: F64
    aligned: F64
    small: NDArray[np.bool_]

    def take(self, which: I64) -> "Pairs":
        """Some of them, by their numbers."""
        return Pairs(
            old=self.old[which],
            new=self.new[which],
            score=self.score[which],
            aligned=self.aligned[which],
            small=self.small[which],
        )


def join_pairs(parts: Sequence[Pairs]) -> Pairs:
    """Pairs of several kinds, together."""
    empty = np.zeros(0)
    return Pairs(
        old=np.concatenate([empty.astype(np.int64), *(part.old for part in parts)]),
        new=np.concatenate([empty.astype(np.int64), *(part.new for part in parts)]),
        score=np.concatenate([empty, *(part.score for part in parts)]),
        aligned=np.concatenate([empty, *(part.aligned for part in parts)]),
        small=np.concatenate([empty.astype(np.bool_), *(part.small for part in parts)]),
    )


def candidates(old: Geometries, new: Geometries, old_label: I64, new_label: I64, tolerance: F64) -> Pairs:
    """Pairs of one label that overlap, or that lie within the tolerance of each other and are alike or small.

    Args:
        old: The earlier objects (n).
        new: The later ones (m).
        old_label: Their labels, as numbers (n).
        new_label: Likewise (m).
        tolerance: How far an object may seem to have moved, in units of the plane, for each of the earlier ones (n).
    """
    one, other = shapely.STRtree(new).query(old, predicate="dwithin", distance=tolerance)
    same = old_label[one] == new_label[other]
    one, other = one[same], other[same]
    reach = tolerance[one]
    step = _centres_to_assign(old)[one] - _centres_to_assign(new)[other]
    distance = np.hypot(*step.T)
    raw = overlap(old[one], new[other])
    pull = step * np.minimum(1.0, reach / np.maximum(distance, 1e-300))[:, None]
    aligned = np.maximum(raw, overlap(old[one], moved(new[other], pull)))
    small = np.maximum(_diameter_of(old)[one], _diameter_of(new)[other]) <= SMALL * reach
    near = (distance <= reach) & (small | (aligned >= ALIKE))
    score = np.maximum(np.where(raw >= OVERLAP, raw, 0.0), np.where(near, 1 - distance / (2 * reach), 0.0))
    some = np.flatnonzero(score > 0)
    some = some[np.lexsort((other[some], one[some]))]
    return Pairs(old=one[some], new=other[some], score=score[some], aligned=aligned[some], small=small[some])


def assign(old: I64, new: I64, score: F64) -> I64:
    """Choose pairs such that none shares a member and their scores sum to the most there can be.

    Args:
        old: One member of each pair (m).
        new: The other (m).
        score: Above 0 (m).

    Returns:
        The numbers of the pairs chosen, sorted.

    Examples:
        >>> import numpy as np
        >>> assign(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([0.9, 0.8, 0.7]))
        array([1, 2])
    """
    if not len(score):
        return np.zeros(0, np.int64)
    n, m = int(old.max()) + 1, int(new.max()) + 1
    links = sparse.coo_array((np.ones(len(old)), (old, new + n)), shape=(n + m, n + m))
    _, part = csgraph.connected_components(links, directed=False)
    # Each neighbourhood apart: the pairs of one are those of its earlier members.
    order = np.argsort(part[old], kind="stable")
    cuts = np.flatnonzero(np.diff(part[old][order])) + 1
    chosen = [_best_assignment(old, new, score, pairs) for pairs in np.split(order, cuts)]
    return np.sort(np.concatenate(chosen))


def estimate_shift(
    old: Geometries,
    new: Geometries,
    old_label: I64,
    new_label: I64,
    *,
    reach: F64,
    agree: float,
) -> F64:
    """By how much the later objects lie off the earlier ones, where most of them agree on it; else by nothing.

    Args:
        old: The earlier objects (n).
        new: The later ones (m).
        old_label: Their labels, as numbers (n).
        new_label: Likewise (m).
        reach: The largest shift there may be, in units of the plane, for each of the earlier ones (n).
        agree: Within this distance two objects tell of one shift.

    Returns:
        x and y.
    """
    start, end = _centres_to_assign(old), _centres_to_assign(new)
    one, other = shapely.STRtree(shapely.points(end)).query(shapely.points(start), predicate="dwithin", distance=reach)
    area = shapely.area(old)[one], shapely.area(new)[other]
    alike = np.minimum(*area) >= SAME_AREA * np.maximum(*area)
    alike &= old_label[one] == new_label[other]
    steps = (end[other] - start[one])[alike]
    steps = steps[np.lexsort(steps.T)]
    enough = max(FEW, AGREE * min(len(old), len(new)))
    if len(steps) < enough:
        return np.zeros(2)
    shift = _densest_step(steps, agree)
    for _ in range(3):  # to the middle of those that agree
        close = np.hypot(*(steps - shift).T) <= agree
        if close.sum() < enough:
            return np.zeros(2)
        shift = np.median(steps[close], axis=0)
    return np.asarray(shift, np.float64)


def _densest_step(steps: F64, agree: float) -> F64:
    """Where steps lie closest together, the nearest to none if several such places tie."""
    cells = np.rint(steps / agree).astype(np.int64)
    places, votes = np.unique(cells, axis=0, return_counts=True)
    low = places.min(axis=0) - 1
    table = np.zeros(places.max(axis=0) - low + 2, np.int64)
    table[tuple((places - low).T)] = votes
    # With the cells beside it, lest a crowd be parted; of equal ones the cell that itself holds most.
    around = ndimage.convolve(table, np.ones((3, 3), np.int64), mode="constant")
    around = around[tuple((places - low).T)] + votes
    nearest: F64 = places[np.lexsort((np.hypot(*places.T), -around))[0]] * agree
    return nearest


def moved(geometries: Geometries, steps: F64) -> Geometries:
    """Geometries moved by one step (2), or each by its own (n x 2)."""
    points, of = shapely.get_coordinates(geometries, return_index=True)
    every = np.broadcast_to(steps, (len(geometries), 2))
    return np.asarray(shapely.set_coordinates(geometries.copy(), points + every[of]), object)


def _best_assignment(old: I64, new: I64, score: F64, pairs: I64) -> I64:
    if len(pairs) == 1:
        return pairs
    rows, row = np.unique(old[pairs], return_inverse=True)
    cols, col = np.unique(new[pairs], return_inverse=True)
    gain = np.zeros((len(rows), len(cols)))
    number = np.full(gain.shape, -1, np.int64)
    gain[row, col], number[row, col] = score[pairs], pairs
    # Pairs that may not be gain nothing, so to choose one is to leave both alone.
    chosen = number[linear_sum_assignment(gain, maximize=True)]
    return np.asarray(chosen[chosen >= 0], np.int64)


def _centres_to_assign(geometries: Geometries) -> F64:
    return np.asarray(shapely.get_coordinates(shapely.centroid(geometries)), np.float64)


def _diameter_of(geometries: Geometries) -> F64:
    """Diameter of the disc of the same area."""
    return np.asarray(np.sqrt(4 / np.pi * shapely.area(geometries)), np.float64)


def overlap(one: Geometries, other: Geometries) -> F64:
    """Intersection over union, pair by pair."""
    common = shapely.area(shapely.intersection(one, other))
    every = shapely.area(one) + shapely.area(other) - common
    return np.asarray(common / np.maximum(every, 1e-300), np.float64)
