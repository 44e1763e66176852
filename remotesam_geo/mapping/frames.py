"""Finished features as a GeoDataFrame: fixed columns and types, full or empty."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_args

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from remotesam_geo.errors import InputError, number_in, one_of
from remotesam_geo.tasks import smallest_rectangles, upright

from .ground import ground_area, near_meridian, pixel_size
from .source import Moment
from .vectors import Features, Outline, gathered

__all__ = ["COLUMNS", "Found", "Style", "columns_of", "to_frame", "wanted_crs"]

MOST_SMOOTH = 5
"""Each time doubles the number of points."""

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


def wanted_crs(crs: Any, own: Any) -> CRS:
    """The CRS that a result is wanted in: its own where none is named.

    Raises:
        InputError: There is no such CRS, or it has no horizontal coordinates on the ground.
    """
    wanted = own if crs is None else crs
    try:
        if isinstance(wanted, bool | float):  # True would be EPSG:1
            raise CRSError(f"{wanted!r} is no code")
        found = CRS.from_user_input(wanted)
    except (CRSError, TypeError, ValueError):
        raise InputError(
            f"crs={crs!r} is no CRS that PROJ knows; 'EPSG:4326' for example"
        ) from None
    if not (found.is_geographic or found.is_projected):
        raise InputError(
            f"crs={crs!r} is a {found.type_name}, which has no horizontal coordinates on the ground: give a geographic "
            "or projected CRS, 'EPSG:4326' for example"
        )
    return found


def columns_of(geobox: GeoBox) -> dict[str, str]:
    """The columns of results on a grid: on the ground where it has a CRS, else in pixels of a picture."""
    return {
        "area_px" if name == "area_m2" and geobox.crs is None else name: kind
        for name, kind in COLUMNS.items()
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Features of one label at one time.

    Attributes:
        label: What was asked for.
        moment: When.
        features: What was found, in pixels of the plan's grid.
    """

    label: str
    moment: Moment
    features: Features


@dataclass(frozen=True, kw_only=True)
class Style:
    """How outlines are drawn.

    Attributes:
        outline: Which geometry.
        simplify: Metres (pixels of a picture) by which a polygon may leave its outline.
        smooth: How often corners are cut, which rounds the steps of pixels; 0 for never.
    """

    outline: Outline = "polygon"
    simplify: float = 0.0
    smooth: int = 0

    def __post_init__(self) -> None:
        one_of("outline", self.outline, get_args(Outline))
        number_in("simplify", self.simplify, 0)
        number_in("smooth", self.smooth, 0, MOST_SMOOTH, whole=True)
        for name in ("simplify", "smooth"):
            if self.outline != "polygon" and getattr(self, name):
                raise InputError(
                    f"{name}={getattr(self, name)!r} cannot be used here: boxes have four corners. Leave it out, or "
                    "ask for outlines with segment"
                )


def to_frame(
    found: Iterable[Found],
    geobox: GeoBox,
    *,
    crs: CRS | None,
    style: Style,
    view: str,
    run_id: str,
) -> gpd.GeoDataFrame:
    """Join what was found to one table, sorted by label as asked, time and place.

    Args:
        found: Features by label and time, each part in any order.
        geobox: The plan's grid; that of a picture has no CRS.
        crs: CRS of the table; None for a picture's pixels.
        style: How to draw them.
        view: "map", "scene" or "zone".
        run_id: Names the run.
    """
    columns = columns_of(geobox)
    parts = [_part(each, geobox, crs, style) for each in found if len(each.features)]
    nothing = pd.DataFrame(columns=["geometry", *columns])
    table = pd.concat(parts, ignore_index=True) if parts else nothing
    metres = np.nan if geobox.crs is None else pixel_size(geobox).metres
    table = table.assign(resolution=metres, view=view, run_id=run_id)
    return gpd.GeoDataFrame(
        table[["geometry", *columns]].astype(columns), geometry="geometry", crs=crs
    )


def _part(found: Found, geobox: GeoBox, crs: CRS | None, style: Style) -> gpd.GeoDataFrame:
    features = found.features
    # Pieces of one whole have its table entry, and stay in the order in which they came.
    features = features.take(np.lexsort(features.table.first.T[::-1]))
    table = features.table
    on_grid = _on_grid(_drawn(_outlines(features, style.outline), geobox, style), geobox.affine)
    height, width = geobox.shape.yx
    geometry = gpd.GeoSeries(on_grid)
    if crs is None:
        area = shapely.area(on_grid)
    else:
        area = ground_area(on_grid, CRS(str(geobox.crs)))
        geometry = gpd.GeoSeries(on_grid, crs=str(geobox.crs)).to_crs(crs)
        if crs.is_geographic:
            middle = _middle(geobox, crs)
            geometry = geometry.transform(
                lambda points: np.stack([near_meridian(points[:, 0], middle), points[:, 1]], axis=1)
            )
    _, whole = np.unique(table.first, axis=0, return_inverse=True)
    return gpd.GeoDataFrame(
        {
            "geometry": geometry,
            "label": found.label,
            "score": table.score,
            "score_max": table.score_max,
            "area_px" if crs is None else "area_m2": np.bincount(whole, area)[whole],
            "time": pd.Series(found.moment.time, range(len(table)), "datetime64[ns]"),
            "items": found.moment.items,
            "touches_edge": (table.box[:, :2] <= 0).any(axis=1)
            | (table.box[:, 2:] >= [width, height]).any(axis=1),
            "id": _ids(found, geobox, table.first),
        }
    )


def _outlines(features: Features, outline: Outline) -> NDArray[np.object_]:
    if outline == "polygon" and features.polygons is not None:
        return features.polygons
    if outline == "oriented" and features.hulls is not None:
        return np.asarray(shapely.polygons(smallest_rectangles(features.hulls)), object)
    return np.asarray(shapely.polygons(upright(features.table.box)), object)


def _drawn(outlines: NDArray[np.object_], geobox: GeoBox, style: Style) -> NDArray[np.object_]:
    """Outlines in pixels, smoothed and simplified where that is wanted of polygons."""
    if style.outline != "polygon":
        return outlines
    for _ in range(style.smooth):
        outlines = _with_corners_cut(outlines)
    if style.simplify:
        metres = 1.0 if geobox.crs is None else pixel_size(geobox).metres
        outlines = shapely.simplify(outlines, style.simplify / metres)
    changed = bool(style.smooth or style.simplify)
    return np.asarray(shapely.make_valid(outlines) if changed else outlines, object)


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


def _middle(geobox: GeoBox, crs: CRS) -> float:
    """Longitude of the middle of a raster, or as its own CRS counts it."""
    x, y = geobox.affine * (geobox.shape.x / 2, geobox.shape.y / 2)
    own = CRS.from_user_input(str(geobox.crs))
    return float(
        x if own == crs else Transformer.from_crs(own, crs, always_xy=True).transform(x, y)[0]
    )


def _ids(found: Found, geobox: GeoBox, first: NDArray[np.int64]) -> list[str]:
    """Names that the same feature of the same plan keeps in another run."""
    # One CRS has many spellings: files write it out, users name it.
    crs = None if geobox.crs is None else geobox.crs.epsg or str(geobox.crs)
    key = f"{crs}|{geobox.affine[:6]}|{found.moment.time}|{found.label}"
    return [
        hashlib.blake2b(f"{key}|{row}|{col}".encode(), digest_size=8).hexdigest()
        for row, col in first.tolist()
    ]
