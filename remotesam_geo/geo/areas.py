"""Areas of interest: what users write, as one polygon in degrees that stays in one piece at the antimeridian."""

import math
from collections.abc import Mapping, Sequence, Set
from itertools import islice
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from odc.geo.crs import CRS
from odc.geo.geom import Geometry
from pyproj.exceptions import CRSError, ProjError
from shapely.geometry.base import BaseGeometry

from remotesam_geo.errors import InputError
from remotesam_geo.geo.geojson import geometry_fault
from remotesam_geo.net.redact import shown

from .coordinates import check_horizontal

LONLAT = CRS("EPSG:4326")
_EDGE_POINTS = 21


def area_of_interest(bbox: Sequence[float] | None = None, geometry: Any = None) -> BaseGeometry | None:
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

    Examples:
        >>> area_of_interest(bbox=(179, -17, -179, -16)).bounds
        (179.0, -17.0, 181.0, -16.0)
    """
    if bbox is not None and geometry is not None:
        raise InputError("give bbox= or geometry=, not both")
    if bbox is not None:
        west, south, east, north = check_bbox(bbox)
        return shapely.box(west, south, east + 360 if west > east else east, north)
    return None if geometry is None else shape_in_degrees(geometry)


def shape_in_degrees(
    geometry: Any, name: str = "geometry", *, flat: bool = False, degrees: Any = LONLAT
) -> BaseGeometry:
    """Make one shape of whatever a user gave as a geometry.

    Args:
        geometry: Shapely (degrees), GeoJSON, a GeoDataFrame or GeoSeries in any CRS, or an odc-geo
            Geometry.
        name: What to call it in errors.
        flat: Whether points and lines, which have no area, will do.
        degrees: The CRS of the degrees; another than EPSG:4326 on another planet or moon.

    Returns:
        A geometry in degrees. Where it crosses the antimeridian its longitudes count on past 180, so
        that it stays in one piece.

    Raises:
        InputError: Where it is empty, not in degrees, or no geometry.

    Examples:
        >>> shape_in_degrees({"type": "Point", "coordinates": [7, 46]}, flat=True).wkt
        'POINT (7 46)'
    """
    try:
        shape = _area_in_degrees(geometry, name, CRS(degrees))
    except (AttributeError, TypeError, shapely.errors.ShapelyError, CRSError, ProjError) as error:
        raise InputError(f"{name}= cannot be used: {error}") from error
    _check_finite_area(shape, name)
    if shape.is_empty:
        raise InputError(f"{name}= is empty: there is no place to look at")
    check_bbox(shape.bounds, f"the bounds of {name}=", crossing=False, flat=flat)
    return _in_one_piece(shape)


def split_at_antimeridian(shape: BaseGeometry) -> BaseGeometry:
    """The same area with all longitudes in -180 to 180, in parts as GeoJSON wants them.

    Args:
        shape: In degrees; its longitudes may count on past 180 on either side.

    Returns:
        It, or its parts.

    Examples:
        >>> split_at_antimeridian(shapely.box(179, -17, 181, -16)).bounds
        (-180.0, -17.0, 180.0, -16.0)
    """
    if not shape.is_valid:
        shape = shapely.make_valid(shape)
    west, _, east, _ = shape.bounds
    if west >= -180 and east <= 180:
        return shape
    whole = shapely.get_parts(shape)
    parts = []
    for turn in (-360, 0, 360):
        cut = shapely.intersection(whole, shapely.box(turn - 180, -90, turn + 180, 90))
        # A cut that only touches the window leaves a line or a point behind.
        same = shapely.get_dimensions(cut) == shapely.get_dimensions(whole)
        parts += [_area_shifted_by_degrees(part, -turn) for part in cut[same & ~shapely.is_empty(cut)]]
    return shapely.union_all(parts)


def check_bbox(
    bbox: Sequence[float], name: str = "bbox", *, crossing: bool = True, flat: bool = False
) -> tuple[float, float, float, float]:
    """Refuse a bbox that cannot be meant, and say what it looks like.

    Args:
        bbox: West, south, east, north.
        name: What to call it in the error.
        crossing: Whether west > east is a way across the antimeridian.
        flat: Whether it may have no area.

    Returns:
        The same as floats.
    """
    sides = [] if isinstance(bbox, str | bytes | Mapping | Set) else _first_members(bbox)
    if len(sides) != 4 or not all(isinstance(side, Real) and not isinstance(side, bool) for side in sides):
        raise InputError(f"{name} must be four numbers (west, south, east, north) in degrees, not {bbox!r}")
    west, south, east, north = (_finite_area_coordinate(side) for side in sides)
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
    if east - west > 360 + 1e-6:  # rings round a pole are as wide, but for rounding
        raise InputError(f"{name} {box} is wider than the 360 degrees of the Earth")
    if south > north:
        raise InputError(f"{name} {box} has its south above its north: the order is (west, south, east, north)")
    if (south == north or west == east) and not flat:
        raise InputError(f"{name} {box} has no area")
    return box


def _first_members(value: Any) -> list[Any]:
    """The first members of what should be a list, none where it is no list."""
    try:
        return list(islice(value, 7))
    except TypeError:
        return []


def _finite_area_coordinate(value: Real) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _check_finite_area(shape: BaseGeometry, name: str) -> None:
    if not np.isfinite(shapely.get_coordinates(shape)).all():
        raise InputError(f"{name}= has coordinates that are NaN or infinite: mend or drop what has them")


def _area_in_degrees(geometry: Any, name: str, degrees: CRS) -> BaseGeometry:
    if isinstance(geometry, BaseGeometry):
        return geometry
    if isinstance(geometry, Geometry):
        return _to_degrees(geometry.geom, geometry.crs, degrees) if geometry.crs else geometry.geom
    if hasattr(geometry, "crs") and hasattr(geometry, "to_crs"):  # GeoDataFrame, GeoSeries
        if geometry.crs is None:
            raise InputError(f"{name}= has no CRS: set one, gdf.set_crs('EPSG:4326') for example")
        check_horizontal(geometry.crs, f"{name}=")
        for own in geometry.geometry.dropna():  # before they are joined, which GEOS may not survive
            _check_finite_area(own, name)
        return _to_degrees(geometry.geometry.union_all(), CRS(geometry.crs), degrees)
    if hasattr(geometry, "__geo_interface__"):
        geometry = geometry.__geo_interface__
    if isinstance(geometry, Mapping):
        return _shape_of_geojson(geometry)
    raise InputError(f"{name}= must be shapely, GeoJSON, a GeoDataFrame or a GeoSeries, not {type(geometry)}")


def _to_degrees(shape: BaseGeometry, crs: CRS, degrees: CRS) -> BaseGeometry:
    """A shape of any CRS in degrees; a projected one across the antimeridian stays in one piece."""
    if crs == degrees or shape.is_empty:
        return shape
    west, south, east, north = shape.bounds
    if not crs.geographic:  # its straight edges are curves in degrees
        shape = shapely.segmentize(shape, max(east - west, north - south, 1e-9) / _EDGE_POINTS)
    try:
        change = crs.transformer_to_crs(degrees)
    except ProjError:
        raise InputError(
            f"nothing leads from {str(crs)[:60]!r} to {str(degrees)[:60]!r}: give places on the same planet or moon"
        ) from None
    found = shapely.transform(shape, lambda xy: np.column_stack(change(xy[:, 0], xy[:, 1])))
    if not np.isfinite(shapely.get_coordinates(found)).all():
        raise InputError(f"the area with bounds {shape.bounds} lies outside of where {crs} is defined")
    if crs.geographic:
        return found
    return shapely.union_all([_without_jumps(part) for part in shapely.get_parts(found)])


def _without_jumps(part: BaseGeometry) -> BaseGeometry:
    """Undo jumps from 180 to -180 along each line of a part; a ring round a pole is closed over it."""
    if isinstance(part, shapely.Polygon):
        shell, *holes = (_unwrapped_area_line(ring) for ring in (part.exterior, *part.interiors))
        west = shell[:, 0].min()
        holes = [hole - [360 * np.floor((hole[:, 0].min() - west) / 360), 0] for hole in holes]
        part = shapely.Polygon(shell, holes)
        # Its middle in -180 to 180: longitudes then count on past that by no more than a turn.
        middle = (part.bounds[0] + part.bounds[2]) / 2
        return _area_shifted_by_degrees(part, -360 * np.floor((middle + 180) / 360))
    if isinstance(part, shapely.LineString):
        return shapely.LineString(_unwrapped_area_line(part))
    return part


def _unwrapped_area_line(line: BaseGeometry) -> npt.NDArray[np.float64]:
    xy = shapely.get_coordinates(line)
    xy[:, 0] = np.unwrap(xy[:, 0], period=360)
    if isinstance(line, shapely.LinearRing) and abs(xy[-1, 0] - xy[0, 0]) > 180:
        pole = math.copysign(90, xy[:, 1].mean())
        xy = np.vstack([xy, [[xy[-1, 0], pole], [xy[0, 0], pole]]])
    return np.asarray(xy, dtype=np.float64)


def _area_shifted_by_degrees(shape: BaseGeometry, degrees: float) -> BaseGeometry:
    return shapely.transform(shape, lambda xy: xy + np.array([degrees, 0.0]))


def _shape_of_geojson(geometry: Mapping[str, Any]) -> BaseGeometry:
    """A GeoJSON geometry, feature or collection as one shape."""
    features = geometry.get("features", [geometry])
    if not isinstance(features, list | tuple) or not features:
        raise InputError(f"not a GeoJSON geometry: features is {shown(features)}")
    shapes = []
    for feature in features:
        inner = feature.get("geometry", feature) if isinstance(feature, Mapping) else feature
        if fault := geometry_fault(inner):
            raise InputError(f"not a GeoJSON geometry: {fault}")
        shapes.append(shapely.geometry.shape(inner))
    return shapely.union_all(shapes) if len(shapes) > 1 else shapes[0]


def _in_one_piece(shape: BaseGeometry) -> BaseGeometry:
    """Parts on both sides of the antimeridian, as GeoJSON writes them, joined beyond 180 degrees."""
    west, _, east, _ = shape.bounds
    parts = shapely.get_parts(shape)
    if east - west <= 180 or len(parts) < 2:
        return shape
    moved = [_area_shifted_by_degrees(part, 360) if part.bounds[0] < 0 else part for part in parts]
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
