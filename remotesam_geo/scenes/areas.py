"""Areas of interest: what users write, as one polygon in degrees that stays in one piece at the antimeridian."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from odc.geo.crs import CRS
from odc.geo.geom import Geometry
from shapely.geometry.base import BaseGeometry

from remotesam_geo.errors import InputError

LONLAT = CRS("EPSG:4326")
_EDGE_POINTS = 21


def area_of_interest(
    bbox: Sequence[float] | None = None, geometry: Any = None
) -> BaseGeometry | None:
    """Make one polygon of what a user gave as an area.

    Args:
        bbox: West, south, east, north in degrees; west > east crosses the antimeridian.
        geometry: Shapely (degrees), GeoJSON, a GeoDataFrame or GeoSeries in any CRS, or an odc-geo
            Geometry.

    Returns:
        A geometry in degrees, or None where nothing was given. Where it crosses the antimeridian its
        longitudes count on past 180, so that it stays in one piece.

    Raises:
        InputError: Where the bbox is swapped, inverted or not in degrees, or the geometry empty.

    Example:
        >>> area_of_interest(bbox=(179, -17, -179, -16)).bounds
        (179.0, -17.0, 181.0, -16.0)
    """
    if bbox is not None and geometry is not None:
        raise InputError("give bbox= or geometry=, not both")
    if bbox is not None:
        west, south, east, north = check_bbox(bbox)
        return shapely.box(west, south, east + 360 if west > east else east, north)
    if geometry is None:
        return None
    shape = _in_degrees(geometry)
    if shape.is_empty:
        raise InputError("geometry= is empty: there is nothing to load")
    check_bbox(shape.bounds, "the bounds of geometry=", crossing=False)
    return _in_one_piece(shape)


def check_bbox(
    bbox: Sequence[float], name: str = "bbox", *, crossing: bool = True
) -> tuple[float, float, float, float]:
    """Refuse a bbox that cannot be meant, and say what it looks like.

    Args:
        bbox: West, south, east, north.
        name: What to call it in the error.
        crossing: Whether west > east is a way across the antimeridian.

    Returns:
        The same as floats.
    """
    try:
        west, south, east, north = (float(value) for value in bbox)
    except (TypeError, ValueError):
        raise InputError(
            f"{name} must be (west, south, east, north) in degrees, not {bbox!r}"
        ) from None
    box = (west, south, east, north)
    if not all(map(math.isfinite, box)):
        raise InputError(f"{name} {box} has values that are no numbers")
    if max(abs(west), abs(east)) > 360 or max(abs(south), abs(north)) > 360:
        raise InputError(
            f"{name} {box} is not in degrees: it looks like metres of a projected CRS. "
            "Give (west, south, east, north) in degrees, or geometry= with its CRS (a GeoDataFrame)."
        )
    if max(abs(south), abs(north)) > 90:
        raise InputError(
            f"{name} {box} has a latitude beyond 90 degrees: are longitude and latitude swapped? "
            "The order is (west, south, east, north)."
        )
    if max(abs(west), abs(east)) > (180 if crossing else 360):
        raise InputError(
            f"{name} {box} has a longitude beyond 180 degrees; across the antimeridian write "
            "west > east, (179, -17, -179, -16) for example"
        )
    if south > north:
        raise InputError(
            f"{name} {box} has its south above its north: the order is (west, south, east, north)"
        )
    if south == north or west == east:
        raise InputError(f"{name} {box} has no area")
    return box


def _in_degrees(geometry: Any) -> BaseGeometry:
    if isinstance(geometry, BaseGeometry):
        return geometry
    if isinstance(geometry, Geometry):
        return geometry.to_crs(LONLAT).geom if geometry.crs is not None else geometry.geom
    if hasattr(geometry, "crs") and hasattr(geometry, "to_crs"):  # GeoDataFrame, GeoSeries
        if geometry.crs is None:
            raise InputError("geometry= has no CRS: set one, gdf.set_crs('EPSG:4326') for example")
        series = geometry.geometry.to_crs(LONLAT.to_wkt())
        united = series.union_all()
        return shapely.from_wkb(shapely.to_wkb(united))
    if hasattr(geometry, "__geo_interface__"):
        geometry = geometry.__geo_interface__
    if isinstance(geometry, Mapping):
        return _geojson(geometry)
    raise InputError(
        f"geometry= must be shapely, GeoJSON, a GeoDataFrame or a GeoSeries, not {type(geometry)}"
    )


def _geojson(geometry: Mapping[str, Any]) -> BaseGeometry:
    if "features" in geometry:
        return shapely.union_all([_geojson(feature) for feature in geometry["features"]])
    if "geometry" in geometry:
        return _geojson(geometry["geometry"] or {})
    try:
        return shapely.geometry.shape(geometry)
    except (AttributeError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError):
        raise InputError(f"not a GeoJSON geometry: {str(geometry)[:120]}") from None


def _in_one_piece(shape: BaseGeometry) -> BaseGeometry:
    """Parts on both sides of the antimeridian, as GeoJSON writes them, joined beyond 180 degrees."""
    west, _, east, _ = shape.bounds
    parts = shapely.get_parts(shape)
    if east - west <= 180 or len(parts) < 2:
        return shape
    moved = [
        shapely.transform(part, lambda xy: xy + np.array([360, 0])) if part.bounds[0] < 0 else part
        for part in parts
    ]
    joined = shapely.union_all(moved)
    return joined if joined.bounds[2] - joined.bounds[0] < east - west else shape


def bounds_in(shape: BaseGeometry, crs: CRS) -> tuple[float, float, float, float]:
    """Bounds of a geometry in degrees, in another CRS: edges are followed, not just corners.

    Args:
        shape: In degrees.
        crs: The CRS wanted.

    Returns:
        West, south, east, north in that CRS.
    """
    if crs == LONLAT:
        west, south, east, north = shape.bounds
        return west, south, east, north
    size = max(shape.bounds[2] - shape.bounds[0], shape.bounds[3] - shape.bounds[1])
    points = shapely.get_coordinates(shapely.segmentize(shape, size / _EDGE_POINTS))
    xs, ys = LONLAT.transformer_to_crs(crs)(points[:, 0], points[:, 1])
    known = np.isfinite(xs) & np.isfinite(ys)
    if not known.any():
        raise InputError(f"the area lies where {crs} is not defined; give another crs=")
    xs, ys = xs[known], ys[known]
    return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())
