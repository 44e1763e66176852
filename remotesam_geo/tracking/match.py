"""Objects over time: which persist, change, appear, disappear, split or merge, and which nobody could see.

Times are gone through in order. Objects of one time are matched with those known before, per label and one to one, such
that overlap and nearness sum to the most there can be. What is hidden is never taken for gone: an object whose place
has no valid pixels waits for the next look, and what comes to light where nobody looked before has not appeared.
"""

import hashlib
from collections.abc import Mapping
from itertools import count as counting
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import xarray as xr
from numpy.typing import NDArray

from remotesam_geo.errors import InputError, instance_of, number_in
from remotesam_geo.mapping.source import utc

from .projection import Plane
from .tracker import Course
from .visibility import Looks, ObservedLike, observed_area

__all__ = ["COLUMNS", "STATES", "match_over_time"]

Geometries = NDArray[np.object_]

STATES = (
    "first",
    "appeared",
    "persisted",
    "changed",
    "split",
    "merged",
    "disappeared",
    "not observed",
)
"""What can be said of an object at a time; "first" is what was there when its place was first looked at."""
COLUMNS = {
    "track": "str",
    "state": "str",
    "parents": "str",
    "iou": "float64",
    "moved_m": "float64",
    "last_seen": "datetime64[ns]",
    "visible": "float64",
    "shift_x_m": "float64",
    "shift_y_m": "float64",
}
"""Columns that matching adds, with types."""

PIXELS = 3.0
"""The tolerance where none is given, in pixels of the coarsest resolution."""


SHIFT = 4.0
"""The largest shift looked for where none is given, in tolerances."""


def match_over_time(
    gdf: gpd.GeoDataFrame,
    *,
    tolerance: float | None = None,
    observed: ObservedLike | None = None,
    max_shift: float | None = None,
    same: float = 0.7,
    visible: float = 0.9,
) -> gpd.GeoDataFrame:
    """Follow objects through time.

    Args:
        gdf: Objects with `label`, `time` and polygons, such as `segment` and `detect` give for a scene with times.
        tolerance: Metres by which an object that stays in place may seem to move (pixels, where there is no CRS); by
            default three pixels of the coarsest `resolution` in the table.
        observed: Where there was something to see at each time: the scene itself, a table with `time` and `geometry`,
            or a mapping from time to geometry in the CRS of the objects. It also names times at which nothing was
            found. Without it everything is taken as seen, at the times in the table.
        max_shift: Metres by which one time's pictures may lie off those before; the shift is estimated from objects
            that agree on it, a fifth of them at least, and taken off. By default four tolerances; 0 for none.
        same: Least intersection over union of an object that has not changed, once laid upon what it was.
        visible: Share of an object's place that must have been seen for it to have changed, appeared or disappeared.

    Returns:
        The rows of `gdf`, and one for each object and time at which it has just disappeared or cannot be seen, which
        carries what was last known of it. Sorted by time, label and track, with these columns beside its own:
        `track` (the same over all times: the `id` of its first row, where there are ids), `state` (one of `STATES`),
        `parents` (tracks it split or merged from), `iou` and `moved_m` (against where it was last seen),
        `last_seen`, `visible` (share of its place seen now), `shift_x_m` and `shift_y_m` (taken off this time).

    Raises:
        InputError: No labels or times, rows that are no polygons, a time that `observed` does not know.

    Examples:
        >>> import geopandas as gpd, shapely
        >>> from remotesam_geo import match_over_time
        >>> frame = gpd.GeoDataFrame(
        ...     {"label": "ship", "time": ["2021-06-01", "2022-06-01", "2022-06-01"]},
        ...     geometry=[shapely.box(0, 0, 9, 30), shapely.box(1, 0, 10, 30), shapely.box(60, 0, 70, 30)],
        ...     crs="EPSG:32633",
        ... )
        >>> match_over_time(frame, tolerance=2).state.tolist()
        ['first', 'persisted', 'appeared']
    """
    _check_match_arguments(gdf, tolerance, max_shift, same, visible)
    plane = Plane.of(gdf)
    table, shapes = _sorted_rows(gdf, plane)
    at = table["time"].to_numpy().astype("datetime64[ns]")
    times, parts = _observation_times(at, observed, gdf, plane)
    metres = _default_match_tolerance(gdf) if tolerance is None else float(tolerance)
    course = Course(
        looks=Looks(parts),
        shapes=shapes,
        label=np.unique(table["label"], return_inverse=True)[1].astype(np.int64),
        when=np.searchsorted(times, at),
        scale=plane.scale(shapes),
        names=_track_names(table),
        shift=np.zeros((len(times), 2)),
        tolerance=metres,
        max_shift=SHIFT * metres if max_shift is None else float(max_shift),
        same=float(same),
        visible=float(visible),
    )
    for time in range(len(times)):
        course.step(time)
    return _tracked_frame(gdf, table, times, course)


def _check_match_arguments(
    gdf: gpd.GeoDataFrame,
    tolerance: float | None,
    max_shift: float | None,
    same: float,
    visible: float,
) -> None:
    if not isinstance(gdf, gpd.GeoDataFrame):
        raise InputError(f"objects come as a GeoDataFrame, not as a {type(gdf).__name__}")
    missing = [name for name in ("label", "time") if name not in gdf.columns]
    if missing:
        raise InputError(
            f"the table has no column {' and no '.join(map(repr, missing))}: matching takes what segment and detect "
            "give for a scene with times"
        )
    twice = [name for name in gdf.columns if name in COLUMNS]
    if twice:
        raise InputError(f"the table has the columns {twice}, which matching would add: drop or rename them")
    for label in gdf["label"].unique() if gdf["label"].map(pd.api.types.is_hashable).all() else [[]]:
        instance_of("a label", label, (str, int, float), "text in the column label")
    shapes = np.asarray(gdf.geometry.array, object)
    areas = [shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON]
    wrong = ~np.isin(shapely.get_type_id(shapes), areas) | ~shapely.is_valid(shapes)
    wrong |= shapely.is_empty(shapes)
    if wrong.any():
        raise InputError(
            f"{int(wrong.sum())} rows are no valid polygons, the first at {gdf.index[wrong][0]!r}: objects are areas; "
            "mend them with gdf.set_geometry(gdf.make_valid()), buffer points, or drop them"
        )
    if gdf.duplicated([name for name in ("time", "label", "id") if name in gdf.columns]).any() and "id" in gdf:
        raise InputError(
            "several rows of one time share an id, so they are pieces of one object: join them first, "
            "gdf.dissolve(['time', 'label', 'id'], as_index=False)"
        )
    number_in("same", same, 0, 1)
    number_in("visible", visible, 0, 1)
    number_in("max_shift", 0 if max_shift is None else max_shift, 0)
    number_in("tolerance", 1 if tolerance is None else tolerance, 0, open_low=True)


def _default_match_tolerance(gdf: gpd.GeoDataFrame) -> float:
    if gdf.empty:
        return PIXELS  # of no consequence: nothing was found, and nothing moves
    if "resolution" not in gdf.columns or not (gdf["resolution"] > 0).any():
        raise InputError(
            "the table does not say at which resolution objects were found: "
            "give the metres by which they may seem to move, tolerance=2"
        )
    return PIXELS * float(gdf["resolution"].max())


def _sorted_rows(gdf: gpd.GeoDataFrame, plane: Plane) -> tuple[pd.DataFrame, Geometries]:
    """Rows in an order of their own, so that the order they come in changes nothing; and their shapes in the plane."""
    which, times = pd.factorize(gdf["time"], use_na_sentinel=False)
    at = np.array([utc(time) for time in times], "datetime64[ns]")[which]
    table = pd.DataFrame(gdf.drop(columns=gdf.geometry.name)).assign(time=at)
    keys = table[["time", "label"]].astype({"label": str})
    keys["shape"] = shapely.to_wkb(np.asarray(shapely.normalize(gdf.geometry.array), object), hex=True)
    keys["id"] = gdf["id"].astype(str) if "id" in gdf.columns else ""
    order = np.asarray(keys.reset_index(drop=True).sort_values(keys.columns.tolist(), kind="stable").index)
    shapes = plane.lay(shapely.force_2d(np.asarray(gdf.geometry.array, object)[order]))
    return table.iloc[order].assign(**{_SHAPE: keys["shape"].to_numpy()[order], _PLACE: order}), shapes


_SHAPE, _PLACE = "__shape__", "__place__"


def _track_names(table: pd.DataFrame) -> list[str]:
    """What each row's track is called if it begins with it."""
    if "id" in table.columns:
        names = table["id"].astype(str).tolist()
    else:
        keys = zip(table["time"], table["label"], table[_SHAPE], strict=True)
        names = [hashlib.blake2b("|".join(map(str, key)).encode(), digest_size=8).hexdigest() for key in keys]
    taken: dict[str, Any] = {}
    return [name if (number := next(taken.setdefault(name, counting()))) == 0 else f"{name}-{number}" for name in names]


def _observation_times(
    at: NDArray[np.datetime64], observed: ObservedLike | None, gdf: gpd.GeoDataFrame, plane: Plane
) -> tuple[NDArray[np.datetime64], list[Geometries] | None]:
    """All times there are, and what was seen at each."""
    if observed is None:
        return np.unique(at), None
    seen = _observed_polygons(observed, gdf)
    times = np.array(sorted(seen), "datetime64[ns]")
    unknown = np.setdiff1d(at, times)
    if len(unknown):
        raise InputError(
            f"there are objects at {unknown[0]}, but observed knows only {', '.join(map(str, times[:5]))}: "
            "give what was seen at every time"
        )
    return times, [plane.lay(seen[time]) for time in times]


def _observed_polygons(observed: ObservedLike, gdf: gpd.GeoDataFrame) -> dict[np.datetime64, Geometries]:
    """Polygons that do not overlap, by time, in the objects' CRS."""
    if isinstance(observed, xr.Dataset | xr.DataArray):
        area = observed_area(observed)
        times = area.attrs["times"]
        placed = area if gdf.crs is None else area.to_crs(gdf.crs)
        return {time: np.asarray(placed.geometry.array[(area["time"] == time).to_numpy()], object) for time in times}
    if isinstance(observed, gpd.GeoDataFrame):
        no_place = observed.active_geometry_name is None
        if no_place or "time" not in observed.columns or (observed.crs is None) != (gdf.crs is None):
            raise InputError(
                f"observed has the columns {list(observed.columns)} and the CRS {None if no_place else observed.crs}: "
                "give time and geometry, with a CRS if the objects have one"
            )
        placed = observed if gdf.crs is None else observed.to_crs(gdf.crs)
        at = np.array([utc(time) for time in placed["time"]], "datetime64[ns]")
        return {time: _matched_without_overlaps(placed.geometry.array[at == time]) for time in np.unique(at)}
    if isinstance(observed, Mapping):
        for geometry in observed.values():
            instance_of(
                "a value of observed",
                geometry,
                shapely.Geometry,
                "the geometry that was seen at that time",
            )
        return {utc(time): _matched_without_overlaps([geometry]) for time, geometry in observed.items()}
    raise InputError(
        f"observed is a {type(observed).__name__}: give the scene, a GeoDataFrame with time and geometry, or a mapping "
        "from time to geometry"
    )


def _matched_without_overlaps(geometries: Any) -> Geometries:
    return np.asarray(shapely.get_parts(shapely.union_all(np.asarray(geometries, object))), object)


def _tracked_frame(
    gdf: gpd.GeoDataFrame, table: pd.DataFrame, times: NDArray[np.datetime64], course: Course
) -> gpd.GeoDataFrame:
    """All rows with the columns of the objects, in the order of time, label and track."""
    nothing = pd.DataFrame(columns=["row", "track", "state", "parents", "iou", "moved_m", "last", "visible", "time"])
    rows = pd.concat([part for part in course.parts if len(part)] or [nothing], ignore_index=True)
    row, when = rows["row"].to_numpy(np.int64), rows["time"].to_numpy(np.int64)
    last = rows["last"].to_numpy(np.int64)
    out = gdf.iloc[table[_PLACE].to_numpy()[row]].reset_index(drop=True)
    known = np.append(times, np.datetime64("NaT", "ns"))
    scale = course.scale[row]
    added = rows.assign(
        last_seen=known[last],
        shift_x_m=course.shift[when, 0] / scale if len(row) else 0.0,
        shift_y_m=course.shift[when, 1] / scale if len(row) else 0.0,
    )
    out["time"] = times[when] if len(row) else np.zeros(0, "datetime64[ns]")
    added = added.astype(COLUMNS)
    for name in COLUMNS:
        out[name] = added[name].array
    order = (
        out.assign(__label__=out["label"].astype(str)).sort_values(["time", "__label__", "track"], kind="stable").index
    )
    return out.loc[order].reset_index(drop=True)
