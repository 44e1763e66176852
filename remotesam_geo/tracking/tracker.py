"""The way through time: from what is known to what each next time says about it."""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from .assignment import Pairs, assign, candidates, estimate_shift, join_pairs, moved, overlap
from .visibility import Looks

__all__ = ["Course"]

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
Geometries = NDArray[np.object_]

INSIDE = 0.5
"""Share of a piece that lies in what it split from, and of what split that its pieces cover; likewise of mergers."""
PIECE = 0.1
"""Share of the whole from which something is a piece of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Known:
    """What is known when a time comes: objects that may still be there.

    Attributes:
        row: The row in which each was last seen (n).
        track: Its track (n).
        shapes: Where it was, in the plane, shifts taken off (n).
    """

    row: I64
    track: Geometries
    shapes: Geometries

    def take(self, which: Bools) -> "_Known":
        return _Known(row=self.row[which], track=self.track[which], shapes=self.shapes[which])

    def join(self, other: "_Known") -> "_Known":
        return _Known(
            row=np.concatenate([self.row, other.row]),
            track=np.concatenate([self.track, other.track]),
            shapes=np.concatenate([self.shapes, other.shapes]),
        )


@dataclass(kw_only=True, eq=False)
class Course:
    """The way through time: what is known so far, and all rows that came of it."""

    looks: Looks
    shapes: Geometries
    label: I64
    when: I64
    scale: F64  # units of the plane a metre, at each object
    names: list[str]
    shift: F64  # T x 2
    tolerance: float
    max_shift: float
    same: float
    visible: float
    parts: list[pd.DataFrame] = field(default_factory=list)
    known: _Known = field(
        default_factory=lambda: _Known(row=np.zeros(0, np.int64), track=np.zeros(0, object), shapes=np.zeros(0, object))
    )

    def step(self, time: int) -> None:
        """Go on to a time."""
        known, rows = self.known, np.flatnonzero(self.when == time)
        if self.max_shift > 0 and len(rows) and len(known.row):
            self.shift[time] = self._shift(known, rows)
        shapes = moved(self.shapes[rows], -self.shift[time])
        then, last = np.unique(self.when[known.row], return_inverse=True)
        sight = _Sight(
            now=self._seen(known.shapes, time),
            then=np.array([self._seen(shapes, at) for at in then]).reshape(len(then), len(rows)),
            last=last,
            least=self.visible,
        )
        pairs = self._pairs(known, shapes, rows, sight, time)
        chosen = pairs.take(assign(pairs.old, pairs.new, pairs.score))
        old, new = chosen.old, chosen.new
        relations = self._relations(known, shapes, rows, chosen, sight)

        out = pd.DataFrame(
            {
                "row": rows,
                "track": [self.names[row] for row in rows],
                "state": np.where(self._looked_before(shapes, time), "appeared", "first"),
                "parents": "",
                "iou": np.nan,
                "moved_m": np.nan,
                "last": -1,
                "visible": self._seen(shapes, time),
            }
        ).astype({"track": object, "state": object, "parents": object})
        unlike = (chosen.aligned < self.same) & ~chosen.small & sight.clear(old, new)
        out.loc[new, "state"] = np.where(unlike, "changed", "persisted")
        old, new = np.append(old, relations.cut_from), np.append(new, relations.cut)
        out.loc[relations.cut, "state"] = "persisted"
        out.loc[new, "track"] = known.track[old]
        out.loc[new, "last"] = self.when[known.row[old]]
        out.loc[new, "iou"] = overlap(known.shapes[old], shapes[new])
        out.loc[new, "moved_m"] = _centroid_distance(known.shapes[old], shapes[new]) / self.scale[rows[new]]
        for piece, (state, parents) in relations.states.items():
            names = sorted(set(known.track[list(parents)]))
            out.loc[piece, ["state", "parents"]] = state, " ".join(names)

        left = ~pd.Index(known.track).isin(out["track"])
        left[sorted(relations.used)] = False
        gone, hidden = left & sight.here, left & ~sight.here
        self.parts += [
            out.assign(time=time),
            self._absent(known, gone, "disappeared", sight.now, time),
            self._absent(known, hidden, "not observed", sight.now, time),
        ]
        here = _Known(row=rows, track=out["track"].to_numpy(), shapes=shapes)
        self.known = here.join(known.take(hidden))

    def _shift(self, known: _Known, rows: I64) -> F64:
        scale = self.scale[known.row]
        return estimate_shift(
            known.shapes,
            self.shapes[rows],
            self.label[known.row],
            self.label[rows],
            reach=self.max_shift * scale,
            agree=self.tolerance / 2 * float(np.median(scale)),
        )

    def _seen(self, shapes: Geometries, time: int) -> F64:
        """How much of each place was seen at a time, whose pictures may be shifted."""
        return self.looks.share(moved(shapes, self.shift[time]), time)

    def _part_seen(self, shapes: Geometries, share: F64, time: int) -> Geometries:
        """What of each could be seen at a time."""
        out, some = shapes.copy(), np.flatnonzero(share < 1)
        if len(some):
            there = moved(shapes[some], self.shift[time])
            out[some] = moved(self.looks.clip(there, time), -self.shift[time])
        return out

    def _pairs(self, known: _Known, shapes: Geometries, rows: I64, sight: "_Sight", time: int) -> Pairs:
        """Pairs that may be the same. Only what could be seen both then and now is compared."""
        now = self._part_seen(known.shapes, sight.now, time)
        found: list[Pairs] = []
        for number, share in enumerate(sight.then):
            old = np.flatnonzero((sight.last == number) & (shapely.area(now) > 0))
            later = self._part_seen(shapes, share, int(self.when[known.row[sight.last == number][0]]))
            new = np.flatnonzero(shapely.area(later) > 0)
            if len(old) and len(new):
                pairs = candidates(
                    now[old],
                    later[new],
                    self.label[known.row[old]],
                    self.label[rows[new]],
                    self.tolerance * self.scale[known.row[old]],
                )
                found.append(replace(pairs, old=old[pairs.old], new=new[pairs.new]))
        return join_pairs(found)

    def _looked_before(self, shapes: Geometries, time: int) -> Bools:
        """Whether each place was seen at any earlier time."""
        looked = np.zeros(len(shapes), np.bool_)
        for then in reversed(range(time)):
            rest = np.flatnonzero(~looked)
            if not len(rest):
                break
            looked[rest] = self._seen(shapes[rest], then) >= self.visible
        return looked

    def _relations(self, known: _Known, shapes: Geometries, rows: I64, chosen: Pairs, sight: "_Sight") -> "_Relations":
        """What split, what merged, and what is but cut by the edge of what could be seen."""
        relations = _Relations()
        if not len(shapes) or not len(known.row):
            return relations
        old, new = shapely.STRtree(shapes).query(known.shapes, predicate="intersects")
        same = self.label[known.row[old]] == self.label[rows[new]]
        old, new = old[same], new[same]
        common = shapely.area(shapely.intersection(known.shapes[old], shapes[new]))
        of_old = common / shapely.area(known.shapes)[old]
        of_new = common / shapely.area(shapes)[new]
        partner_new, partner_old = np.full(len(shapes), -1), np.full(len(known.row), -1)
        partner_new[chosen.new], partner_old[chosen.old] = chosen.old, chosen.new
        clear = sight.clear(old, new)

        # In pieces and parts are those that nothing better was found for.
        piece = (of_new >= INSIDE) & ((partner_new[new] == -1) | (partner_new[new] == old))
        part = (of_old >= INSIDE) & ((partner_old[old] == -1) | (partner_old[old] == new))
        for one, others in _whole_and_parts(old, new, of_old, clear & piece):
            relations.add("split", parents=[one], pieces=others)
        for one, others in _whole_and_parts(new, old, of_new, clear & part):
            relations.add("merged", parents=others, pieces=[one])

        cut = np.flatnonzero(~clear & (of_new >= INSIDE) & (partner_new[new] == -1))
        cut = cut[np.lexsort((old[cut], -common[cut]))]
        relations.cut, first = np.unique(new[cut], return_index=True)
        relations.cut_from = old[cut][first]
        hidden_part = ~clear & (of_old >= INSIDE) & (partner_old[old] == -1)
        relations.used.update(old[hidden_part].tolist())
        return relations

    def _absent(self, known: _Known, which: Bools, state: str, seen: F64, time: int) -> pd.DataFrame:
        """Rows of objects that are not there, one a track."""
        rows = pd.DataFrame(
            {
                "row": known.row[which],
                "track": known.track[which],
                "state": state,
                "parents": "",
                "iou": np.nan,
                "moved_m": np.nan,
                "last": self.when[known.row[which]],
                "visible": seen[which],
                "time": time,
            }
        )
        return rows.drop_duplicates("track")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sight:
    """How much could be seen of places.

    Attributes:
        now: Of each known object's, now (n).
        then: Of each new object's, at each time at which known ones were last seen (k x m).
        last: Which of those times each known object was last seen at (n).
        least: Share from which a place counts as seen.
    """

    now: F64
    then: F64
    last: I64
    least: float

    @property
    def here(self) -> Bools:
        """Whether each known object's place can be seen now."""
        return np.asarray(self.now >= self.least)

    def clear(self, old: I64, new: I64) -> Bools:
        """Whether the places of both of some pairs could be seen at both times."""
        return np.asarray(self.here[old] & (self.then[self.last[old], new] >= self.least))


@dataclass(kw_only=True, eq=False)
class _Relations:
    """Objects that became several, several that became one, and pieces of what cannot be seen whole.

    Attributes:
        states: By new object its state and what it comes from.
        used: Known objects that live on in others.
        cut: New objects that are pieces of known ones, which cannot be seen whole (c).
        cut_from: Those known ones (c).
    """

    states: dict[int, tuple[str, set[int]]] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    cut: I64 = field(default_factory=lambda: np.zeros(0, np.int64))
    cut_from: I64 = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, state: str, *, parents: list[int], pieces: list[int]) -> None:
        self.used.update(parents)
        for piece in pieces:
            earlier = self.states.get(piece, (state, set()))[1]
            self.states[piece] = state, earlier | set(parents)


def _whole_and_parts(one: I64, other: I64, share: F64, fits: Bools) -> list[tuple[int, list[int]]]:
    """Each that two or more others make up together, with those."""
    fits = fits & (share >= PIECE)
    one, other, share = one[fits], other[fits], share[fits]
    many = np.bincount(one) >= 2
    covered = np.bincount(one, share) >= INSIDE
    return [(whole, sorted(other[one == whole].tolist())) for whole in np.flatnonzero(many & covered).tolist()]


def _centroid_distance(one: Geometries, other: Geometries) -> F64:
    return np.asarray(shapely.distance(shapely.centroid(one), shapely.centroid(other)), np.float64)
