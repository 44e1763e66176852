"""Finished features as a GeoDataFrame: fixed columns and types, full or empty."""

import hashlib
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS
from pyproj.exceptions import CRSError

from remotesam_geo.errors import InputError, RemoteSAMWarning
from remotesam_geo.geo.coordinates import check_horizontal
from remotesam_geo.geo.crs import crs_of, name_of, same_body
from remotesam_geo.geo.ground import ground_area, middle_of, pixel_size
from remotesam_geo.geo.pixel_shapes import out_of_grid
from remotesam_geo.geo.reproject import areas_of
from remotesam_geo.tasks import smallest_rectangles, upright

from .feature_options import FeatureOptions
from .polygons import Features, Outline, gathered
from .source import SceneDate

__all__ = ["COLUMNS", "DETAILS", "Found", "columns_of", "to_frame", "wanted_crs", "without_details"]

NAMED = 5
"""Features that a warning names."""

COLUMNS = {
    "label": "str",
    "score": "float64",
    "score_max": "float64",
    "area_m2": "float64",
    "time": "datetime64[ns]",
    "items": "str",
    "resolution": "float64",
    "view": "str",
    "touches_edge": "bool",
    "id": "str",
    "run_id": "str",
}
"""Columns beside the geometry, with their types; those of pictures have `area_px` in place of `area_m2`."""
DETAILS = ("score_max", "resolution", "view", "run_id")
"""Columns that results have with `details=True` only."""


def wanted_crs(crs: Any, own: Any, geobox: GeoBox | None = None) -> CRS:
    """The CRS that a result is wanted in: its own where none is named.

    Args:
        crs: What the user named, or None.
        own: The scene's own CRS; None where it is not known yet.
        geobox: The scene's grid, which must lie where the CRS is defined, at least in part.

    Raises:
        InputError: There is no such CRS, it has no horizontal coordinates on the ground, it belongs to another planet
            or moon than the scene, or it is not defined at the scene.
    """
    wanted = own if crs is None else crs
    try:
        if isinstance(wanted, bool | float):  # True would be EPSG:1
            raise CRSError(f"{wanted!r} is no code")
        found = CRS.from_user_input(wanted)
    except (CRSError, TypeError, ValueError):
        raise InputError(f"crs={crs!r} is no CRS that PROJ knows; 'EPSG:4326' for example") from None
    check_horizontal(found, "the output" if crs is None else f"crs={crs!r}")
    if own is not None and not same_body(found, CRS.from_user_input(own)):
        raise InputError(
            f"crs={crs!r} belongs to another planet or moon than the scene's CRS, "
            f"{name_of(CRS.from_user_input(own))!r}: give one of the same"
        )
    if crs is not None and geobox is not None and not np.isfinite(middle_of(geobox, found)):
        raise InputError(
            f"no part of the scene lies where crs={crs!r} is defined: give another, or none for the scene's own"
        )
    return found


def without_details(columns: Mapping[str, str]) -> dict[str, str]:
    """Columns and their types without those of `DETAILS`."""
    return {name: kind for name, kind in columns.items() if name not in DETAILS}


def columns_of(geobox: GeoBox, *, details: bool = False) -> dict[str, str]:
    """The columns of results on a grid: on the ground where it has a CRS, else in pixels of a picture."""
    columns = COLUMNS if details else without_details(COLUMNS)
    return {"area_px" if name == "area_m2" and geobox.crs is None else name: kind for name, kind in columns.items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Features of one label at one time.

    Attributes:
        label: What was asked for.
        date: When.
        features: What was found, in pixels of the plan's grid.
    """

    label: str
    date: SceneDate
    features: Features


def to_frame(
    found: Iterable[Found],
    geobox: GeoBox,
    *,
    crs: CRS | None,
    options: FeatureOptions,
    view: str,
    run_id: str,
    details: bool = False,
) -> gpd.GeoDataFrame:
    """Join what was found to one table, sorted by label as asked, time and place.

    Args:
        found: Features by label and time, each part in any order.
        geobox: The plan's grid; that of a picture has no CRS.
        crs: CRS of the table; None for a picture's pixels.
        options: How to draw them.
        view: "map", "scene" or "zone".
        run_id: Names the run.
        details: Whether to add the columns `DETAILS`.
    """
    columns = columns_of(geobox, details=details)
    losses = _Losses()
    parts = [_rows_of_label(each, geobox, crs, options, losses) for each in found if len(each.features)]
    losses.warn(crs)
    nothing = pd.DataFrame(columns=["geometry", *columns])
    table = pd.concat(parts, ignore_index=True) if parts else nothing
    metres = np.nan if geobox.crs is None else pixel_size(geobox).metres
    table = table.assign(resolution=metres, view=view, run_id=run_id)
    return gpd.GeoDataFrame(table[["geometry", *columns]].astype(columns), geometry="geometry", crs=crs)


@dataclass(kw_only=True, eq=False)
class _Losses:
    """Features that could not be drawn in a CRS, wholly or in part.

    Attributes:
        gone: Ids of those without any part where it is defined.
        cut: Ids of those that lost a part.
    """

    gone: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)

    def warn(self, crs: CRS | None) -> None:
        """Say which they are."""
        if crs is None:
            return
        for ids, what in (
            (self.gone, "lie where {} is not defined, and are left out of the table"),
            (self.cut, "reach beyond where {} is defined, and were cut there"),
        ):
            if ids:
                names = ", ".join(ids[:NAMED]) + (", ..." if len(ids) > NAMED else "")
                warnings.warn(
                    f"{len(ids)} features {what.format(repr(name_of(crs)))} (ids {names}): another crs= may hold them",
                    RemoteSAMWarning,
                    stacklevel=3,
                )


def _rows_of_label(
    found: Found, geobox: GeoBox, crs: CRS | None, options: FeatureOptions, losses: _Losses
) -> gpd.GeoDataFrame:
    features = found.features
    # Pieces of one whole have its table entry, and stay in the order in which they came.
    features = features.take(np.lexsort(features.table.first.T[::-1]))
    table = features.table
    drawn = _smoothed_outlines(_feature_outlines(features, options.outline), geobox, options)
    ids = np.array(_feature_ids(found, geobox, table.first), object)
    height, width = geobox.shape.yx
    if crs is None:
        geometry = _on_grid(drawn, geobox.affine)
        area = shapely.area(geometry)
    else:
        carried = out_of_grid(drawn, geobox, crs)
        some = carried.some
        losses.gone += ids[~some].tolist()
        losses.cut += ids[some & carried.cut].tolist()
        table, ids, geometry = table.take(some), ids[some], carried.placed[some]
        area = ground_area(carried.kept[some], crs_of(geobox))
    _, whole = np.unique(table.first, axis=0, return_inverse=True)
    return gpd.GeoDataFrame(
        {
            "geometry": gpd.GeoSeries(geometry, crs=crs),
            "label": found.label,
            "score": table.score,
            "score_max": table.score_max,
            "area_px" if crs is None else "area_m2": np.bincount(whole, area)[whole],
            "time": pd.Series(found.date.time, range(len(table)), "datetime64[ns]"),
            "items": found.date.items,
            "touches_edge": (table.box[:, :2] <= 0).any(axis=1) | (table.box[:, 2:] >= [width, height]).any(axis=1),
            "id": ids,
        }
    )


def _feature_outlines(features: Features, outline: Outline) -> NDArray[np.object_]:
    if outline == "polygon" and features.polygons is not None:
        return features.polygons
    if outline == "oriented" and features.hulls is not None:
        return np.asarray(shapely.polygons(smallest_rectangles(features.hulls)), object)
    return np.asarray(shapely.polygons(upright(features.table.box)), object)


def _smoothed_outlines(outlines: NDArray[np.object_], geobox: GeoBox, options: FeatureOptions) -> NDArray[np.object_]:
    """Outlines in pixels, smoothed and simplified where that is wanted of polygons."""
    if options.outline != "polygon":
        return outlines
    found = outlines
    for _ in range(options.smooth):
        outlines = _with_corners_cut(outlines)
    if options.simplify:
        metres = 1.0 if geobox.crs is None else pixel_size(geobox).metres
        outlines = shapely.simplify(outlines, options.simplify / metres)
    if not (options.smooth or options.simplify):
        return outlines
    # Outlines that lines and points are left of stay as they were found.
    mended = [areas_of(shape) for shape in shapely.make_valid(outlines)]
    pairs = zip(mended, found, strict=True)
    out = np.empty(len(found), object)
    out[:] = [one if better is None else better for better, one in pairs]
    return out


def _with_corners_cut(outlines: NDArray[np.object_]) -> NDArray[np.object_]:
    """Each corner replaced by two points, at a quarter of the edges that meet there."""
    parts, owner = shapely.get_parts(outlines, return_index=True)
    kind, points, (rings, polygons) = shapely.to_ragged_array(parts)
    last = np.zeros(len(points), np.bool_)
    last[rings[1:] - 1] = True
    step = np.flatnonzero(~last)  # from each point to the next of its ring
    one, other = points[step], points[step + 1]
    cut = np.stack([0.75 * one + 0.25 * other, 0.25 * one + 0.75 * other], axis=1).reshape(-1, 2)
    begin = 2 * (rings - np.arange(len(rings)))
    # Each ring is closed by its own first point.
    closed = np.insert(cut, begin[1:], cut[begin[:-1]], axis=0)
    smooth = shapely.from_ragged_array(kind, closed, (begin + np.arange(len(rings)), polygons))
    return gathered(smooth, owner, len(outlines))


def _on_grid(outlines: NDArray[np.object_], affine: Affine) -> NDArray[np.object_]:
    """From pixels to the grid's coordinates; a grid that mirrors is no matter to areas."""

    def place(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = points.T
        a, b, c, d, e, f = affine[:6]
        return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)

    return np.asarray(shapely.transform(outlines, place), object)


def _feature_ids(found: Found, geobox: GeoBox, first: NDArray[np.int64]) -> list[str]:
    """Names that the same feature of the same plan keeps in another run."""
    # One CRS has many spellings: files write it out, users name it.
    crs = None if geobox.crs is None else geobox.crs.epsg or str(geobox.crs)
    key = f"{crs}|{geobox.affine[:6]}|{found.date.time}|{found.label}"
    return [hashlib.blake2b(f"{key}|{row}|{col}".encode(), digest_size=8).hexdigest() for row, col in first.tolist()]
