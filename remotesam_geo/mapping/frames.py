"""Finished features as a GeoDataFrame: fixed columns and types, full or empty."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer

from remotesam_geo.tasks import smallest_rectangles, upright

from .ground import ground_area, near_meridian, pixel_size
from .source import Moment
from .vectors import Features, Outline

__all__ = ["COLUMNS", "Found", "to_frame"]

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
"""Columns beside the geometry, with their types."""


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


def to_frame(
    found: Iterable[Found],
    geobox: GeoBox,
    *,
    crs: CRS,
    outline: Outline,
    view: str,
    run_id: str,
) -> gpd.GeoDataFrame:
    """Join what was found to one table, sorted by label as asked, time and place.

    Args:
        found: Features by label and time, each part in any order.
        geobox: The plan's grid.
        crs: CRS of the table.
        outline: Which geometry to draw.
        view: "map", "scene" or "zone".
        run_id: Names the run.
    """
    parts = [_part(each, geobox, crs, outline) for each in found if len(each.features)]
    nothing = pd.DataFrame(columns=["geometry", *COLUMNS])
    table = pd.concat(parts, ignore_index=True) if parts else nothing
    table = table.assign(resolution=pixel_size(geobox).metres, view=view, run_id=run_id)
    return gpd.GeoDataFrame(
        table[["geometry", *COLUMNS]].astype(COLUMNS), geometry="geometry", crs=crs
    )


def _part(found: Found, geobox: GeoBox, crs: CRS, outline: Outline) -> gpd.GeoDataFrame:
    features = found.features
    order = np.lexsort(features.table.first.T[::-1])
    features = features.take(order)
    table = features.table
    on_grid = _on_grid(_outlines(features, outline), geobox.affine)
    height, width = geobox.shape.yx
    geometry = gpd.GeoSeries(on_grid, crs=str(geobox.crs)).to_crs(crs)
    if crs.is_geographic:
        middle = _middle(geobox, crs)
        geometry = geometry.transform(
            lambda points: np.stack([near_meridian(points[:, 0], middle), points[:, 1]], axis=1)
        )
    return gpd.GeoDataFrame(
        {
            "geometry": geometry,
            "label": found.label,
            "score": table.score,
            "score_max": table.score_max,
            "area_m2": ground_area(on_grid, CRS(str(geobox.crs))),
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
    key = f"{geobox.crs}|{geobox.affine[:6]}|{found.moment.time}|{found.label}"
    return [
        hashlib.blake2b(f"{key}|{row}|{col}".encode(), digest_size=8).hexdigest()
        for row, col in first.tolist()
    ]
