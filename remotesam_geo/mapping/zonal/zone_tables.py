"""Answers zone by zone as GeoDataFrames: the zones as given, with fixed columns and types beside their own.

Rows are sorted by zone, as given, then time, then label, as given. What has several resolutions comes as
several sums over the same zones; a row that speaks of all labels states the coarsest resolution, the least valid
fraction and the largest failed one.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from remotesam_geo.errors import InputError
from remotesam_geo.geo.crs import body_of, crs_of, transformer
from remotesam_geo.geo.ground import pixel_size
from remotesam_geo.mapping.feature_table import Found, without_details
from remotesam_geo.tasks import (
    MULTI_LABEL_BALANCE,
    NOT_ANSWERED,
    SINGLE_LABEL_BALANCE,
    best_label,
    caption,
    positive_labels,
)

from .zone_objects import Predicate, belonging
from .zone_sums import Sums
from .zones import Zones

__all__ = [
    "CAPTION_COLUMNS",
    "COUNT_COLUMNS",
    "LABEL_COLUMNS",
    "caption_frame",
    "classify_frame",
    "count_frame",
    "label_frame",
    "north",
    "wide_columns",
]

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

_WHEN_AND_HOW = {
    "time": "datetime64[ns]",
    "items": "str",
    "resolution": "float64",
    "view": "str",
    "valid_fraction": "float64",
    "failed_fraction": "float64",
    "run_id": "str",
}
LABEL_COLUMNS = {
    "label": "str",
    "score": "float64",
    "score_max": "float64",
    "covered": "float64",
    **_WHEN_AND_HOW,
}
"""What `label` and `classify` add to the zones' columns, with types."""
COUNT_COLUMNS = {"label": "str", "count": "Int64", **_WHEN_AND_HOW}
"""What `count` adds; counts by area are Float64."""
CAPTION_COLUMNS = {"caption": "str", **_WHEN_AND_HOW}
"""What `caption` adds."""

_NONE = -1


def wide_columns(labels: Sequence[str]) -> dict[str, str]:
    """What `count` adds with ``wide=True``: one column a label.

    Raises:
        InputError: A label has the name of another column.
    """
    for label in labels:
        if label in _WHEN_AND_HOW:
            raise InputError(
                f"the label {label!r} cannot be a column beside another of that name: "
                f"give it another name, {{'{label} objects': '{label} in the image'}}, or leave out wide=True"
            )
    return {**dict.fromkeys(labels, "Int64"), **_WHEN_AND_HOW}


def label_frame(
    sums: Sequence[Sums],
    labels: Sequence[str],
    *,
    details: Mapping[str, str] | None = None,
    balance: float = MULTI_LABEL_BALANCE,
) -> gpd.GeoDataFrame:
    """A row for each zone, time and label that holds there; one without a label where none does.

    Args:
        sums: What the maps hold, for each resolution.
        labels: In the order given.
        details: `view` and `run_id` of the call, where columns of details are wanted.
        balance: Weight of the maximum against the mean.
    """
    levels = _Resolutions(sums, labels)
    parts = []
    for date in range(len(levels.dates)):
        scores = levels.stack(partial(Sums.scores, balance=balance), date)
        holds = np.concatenate(
            [
                positive_labels(row[None], threshold=threshold)
                for row, threshold in zip(scores, levels.thresholds, strict=True)
            ]
        )
        none = np.flatnonzero(~holds.any(axis=0))
        which, zone = np.nonzero(holds)
        parts.append(
            levels.rows(
                date,
                np.concatenate([zone, none]),
                np.concatenate([which, np.full(len(none), _NONE)]),
                scores,
            )
        )
    return levels.frame(parts, LABEL_COLUMNS, details)


def classify_frame(
    sums: Sequence[Sums], labels: Sequence[str], *, details: Mapping[str, str] | None = None
) -> gpd.GeoDataFrame:
    """A row for each zone and time with its one label: the best of those that reach their thresholds.

    It has no label where none reaches its threshold, and where one of them has no answer: it might have been the best.

    Args:
        sums: What the maps hold, for each resolution.
        labels: In the order given.
        details: `view` and `run_id` of the call, where columns of details are wanted.
    """
    levels = _Resolutions(sums, labels)
    parts = []
    for date in range(len(levels.dates)):
        scores = levels.stack(partial(Sums.scores, balance=SINGLE_LABEL_BALANCE), date)
        # Below its own threshold a label is no candidate; NaN stays, for it says that there is no answer.
        candidates = np.where(scores < levels.thresholds[:, None], -1.0, scores)
        best = best_label(candidates, threshold=0.0)
        best[best == NOT_ANSWERED] = _NONE
        parts.append(levels.rows(date, np.arange(len(levels.zones)), best, scores))
    return levels.frame(parts, LABEL_COLUMNS, details)


def count_frame(
    sums: Sequence[Sums],
    found: Sequence[Sequence[Found]],
    labels: Sequence[str],
    *,
    details: Mapping[str, str] | None = None,
    predicate: Predicate = "point",
    wide: bool = False,
) -> gpd.GeoDataFrame:
    """A row for each zone, time and label with how many objects there are; or for each zone and time, a column a label.

    Zones without objects count 0, those without a valid pixel have no count.

    Args:
        sums: What the maps hold, for each resolution.
        found: The objects as polygons, for each resolution.
        labels: In the order given.
        details: `view` and `run_id` of the call, where columns of details are wanted.
        predicate: How objects belong to zones.
        wide: Whether labels become columns.
    """
    levels = _Resolutions(sums, labels)
    kind = "Float64" if predicate == "area" else "Int64"
    n = len(levels.zones)
    parts = []
    for date in range(len(levels.dates)):
        counts = np.zeros((len(labels), n))
        for part, zones, objects in _objects_of_date(levels, found, date):
            member = belonging(zones, objects, predicate)
            counts[part] += np.bincount(member.zone, weights=member.share, minlength=n)
        # Objects are answered pixels, even where they lie in zones too small to hold the middle of one.
        known = (levels.stack(Sums.valid_fraction, date) > 0) | (counts > 0)
        if wide:
            rows = levels.rows(date, np.arange(n), np.full(n, _NONE))
            columns = {label: np.where(ok, row, np.nan) for label, row, ok in zip(labels, counts, known, strict=True)}
        else:
            zone, which = (axis.ravel() for axis in np.indices((n, len(labels))))
            rows = levels.rows(date, zone, which)
            columns = {"count": np.where(known, counts, np.nan)[which, zone]}
        parts.append(rows.assign(**columns))
    types = wide_columns(labels) if wide else COUNT_COLUMNS
    types = {name: kind if of == "Int64" else of for name, of in types.items()}
    return levels.frame(parts, types, details)


def caption_frame(
    sums: Sequence[Sums],
    found: Sequence[Sequence[Found]],
    labels: Sequence[str],
    *,
    details: Mapping[str, str] | None = None,
) -> gpd.GeoDataFrame:
    """A row for each zone and time with a sentence on what is there, and where in the zone, by compass directions.

    Zones where a label has no valid pixel at all have no sentence.

    Args:
        sums: What the maps hold, for each resolution.
        found: The objects as polygons, for each resolution.
        labels: In the order given.
        details: `view` and `run_id` of the call, where columns of details are wanted.
    """
    levels = _Resolutions(sums, labels)
    n = len(levels.zones)
    parts = []
    for date in range(len(levels.dates)):
        places: list[dict[str, F64]] = [{} for _ in range(n)]
        for part, zones, objects in _objects_of_date(levels, found, date):
            points = shapely.point_on_surface(objects)
            member = belonging(zones, objects)
            at = shapely.get_coordinates(points[member.object])
            left, top, right, bottom = zones.bounds[member.zone].T
            relative = (at - np.stack([left, top], axis=1)) / np.stack([right - left, bottom - top], axis=1)
            order = np.argsort(member.zone, kind="stable")
            present, first = np.unique(member.zone[order], return_index=True)
            for zone, own in zip(present.tolist(), np.split(relative[order] * _UNIT, first[1:]), strict=False):
                places[zone][labels[part]] = own
        known = levels.stack(Sums.valid_fraction, date).min(axis=0) > 0
        picture = levels.zones.geobox.crs is None
        norths = [None] * n if picture else north(levels.zones).tolist()
        sentences = [
            caption(
                {label: place[label] for label in labels if label in place},
                (_UNIT, _UNIT),
                north=turn,
                subject="picture" if picture else "area",
            )
            if ok or place
            else None
            for place, ok, turn in zip(places, known, norths, strict=True)
        ]
        rows = levels.rows(date, np.arange(n), np.full(n, _NONE))
        parts.append(rows.assign(caption=np.array(sentences, object)))
    return levels.frame(parts, CAPTION_COLUMNS, details)


_UNIT = 1000
"""Side of the square in which places within a zone are told apart."""


def north(zones: Zones) -> F64:
    """Where north is in the middle of each zone, in degrees clockwise from the top of the grid; 0 where unknown (n)."""
    geobox = zones.geobox
    left, top, right, bottom = zones.bounds.T
    a, b, c, d, e, f = geobox.affine[:6]
    column, row = (left + right) / 2, (top + bottom) / 2
    own = crs_of(geobox)
    to_lonlat = transformer(own, body_of(own).degrees)
    lon, lat = to_lonlat.transform(a * column + b * row + c, d * column + e * row + f)
    step = np.where(np.asarray(lat) > 0, -1e-4, 1e-4)  # towards the equator, never over a pole
    x, y = to_lonlat.transform(lon, lat + step, direction="INVERSE")
    a, b, c, d, e, f = (~geobox.affine)[:6]
    right, down = a * x + b * y + c - column, d * x + e * y + f - row
    with np.errstate(invalid="ignore"):
        angle = np.degrees(np.arctan2(right * np.sign(step), -down * np.sign(step)))
    return np.asarray(np.where(np.isfinite(angle), angle, 0.0), np.float64)


class _Resolutions:
    """Several resolutions as one: rows of arrays are labels in the order given."""

    def __init__(self, sums: Sequence[Sums], labels: Sequence[str]) -> None:
        self.sums = sums
        self.labels = labels
        self.zones, self.dates = sums[0].zones, sums[0].dates
        prompts = [prompt for part in sums for prompt in part.prompts]
        names = [prompt.label for prompt in prompts]
        self._order = [names.index(label) for label in labels]
        self.thresholds = np.array([prompts[at].threshold for at in self._order])
        metres = np.repeat(
            [np.nan if part.zones.geobox.crs is None else pixel_size(part.zones.geobox).metres for part in sums],
            [len(part.prompts) for part in sums],
        )
        self.resolution = metres[self._order]

    def stack(self, take: Callable[[Sums, int], F64], date: int) -> F64:
        """What all labels have at one time (P x n)."""
        every = np.concatenate([take(part, date) for part in self.sums])
        return np.asarray(every[self._order], np.float64)

    def rows(self, date: int, zone: I64, label: I64, scores: F64 | None = None) -> pd.DataFrame:
        """Rows of zones and labels at one time; a label of -1 is none, and the row then speaks of all."""
        some, at = label != _NONE, (label, zone)
        valid = self.stack(Sums.valid_fraction, date)
        failed = self.stack(Sums.failed_fraction, date)
        when = self.dates[date]
        columns: dict[str, object] = {
            "zone": zone,
            "order": label,
            "label": np.array([*self.labels, None], object)[label],
            "time": pd.Series(when.time, range(len(zone)), "datetime64[ns]"),
            "items": when.items,
            "resolution": np.where(some, self.resolution[label], self.resolution.max()),
            "valid_fraction": np.where(some, valid[at], valid.min(axis=0)[zone]),
            "failed_fraction": np.where(some, failed[at], failed.max(axis=0)[zone]),
        }
        if scores is not None:
            peaks = self.stack(Sums.score_max, date)
            covered = self.stack(Sums.covered, date)
            for name, values in (("score", scores), ("score_max", peaks), ("covered", covered)):
                columns[name] = np.where(some, values[at], np.nan)
        return pd.DataFrame(columns)

    def frame(
        self, parts: Sequence[pd.DataFrame], types: Mapping[str, str], details: Mapping[str, str] | None
    ) -> gpd.GeoDataFrame:
        """All rows beside the zones they are of."""
        times = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        table = pd.concat(parts, ignore_index=True).assign(**(details or {}))
        types = types if details else without_details(types)
        order = np.lexsort((table["order"], times, table["zone"]))
        table = table.iloc[order].astype(types)
        frame = self.zones.frame.iloc[table["zone"].to_numpy()].copy()
        for name in types:
            frame[name] = table[name].array
        return frame


def _objects_of_date(
    levels: _Resolutions, found: Sequence[Sequence[Found]], date: int
) -> list[tuple[int, Zones, NDArray[np.object_]]]:
    """At one time, the objects of each label (its number), in pixels of the grid of these zones."""
    return [
        (levels.labels.index(each.label), part.zones, each.features.polygons)
        for part, own in zip(levels.sums, found, strict=True)
        for each in own
        if each.date == part.dates[date] and each.features.polygons is not None
    ]
