"""Polygons of any CRS in pixels of a grid, and back: edges bent as projections bend them, whole at the antimeridian."""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from shapely.geometry.base import BaseGeometry

from .crs import crs_of, transformer, turn_of
from .ground import middle_of
from .reproject import Carried, carry

__all__ = ["onto_grid", "out_of_grid"]

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Geometries = NDArray[np.object_]

STRAIGHT = 0.01
"""Pixels by which a straight edge may leave its true course."""
PIECES = 1000
"""Into so many an edge is parted at most."""


def onto_grid(shapes: Geometries, crs: CRS, geobox: GeoBox) -> tuple[Geometries, F64]:
    """Polygons in pixels of a grid.

    Args:
        shapes: Valid polygons and multipolygons (n).
        crs: Their CRS.
        geobox: The grid.

    Returns:
        They in pixels (n), empty where they lie elsewhere; and how much larger each is than what is returned of it (n),
        since polygons that the grid's CRS cannot hold are cut off some way around the grid.
    """
    placed, finite = _polygons_to_pixels(shapes, crs, geobox)
    larger = np.ones(len(shapes))
    wrong = np.flatnonzero(~finite)
    if len(wrong):
        cut = _only_polygons(shapely.intersection(shapes[wrong], _surroundings_of_grid(geobox, crs)))
        placed[wrong], finite = _polygons_to_pixels(cut, crs, geobox)
        placed[wrong[~finite]] = shapely.MultiPolygon()
        some = shapely.area(cut) > 0
        larger[wrong[some]] = shapely.area(shapes[wrong[some]]) / shapely.area(cut[some])
    return placed, larger


def out_of_grid(shapes: Geometries, geobox: GeoBox, crs: CRS) -> Carried:
    """Polygons in pixels of a grid, in a CRS; longitudes are counted on past 180 where the grid crosses it.

    Args:
        shapes: Polygons and multipolygons (n).
        geobox: The grid.
        crs: The CRS wanted.
    """
    a, b, c, d, e, f = geobox.affine[:6]

    def place(points: F64) -> F64:
        x, y = points.T
        return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)

    return carry(
        np.asarray(shapely.transform(shapes, place), object),
        crs_of(geobox),
        crs,
        pixel=float(np.sqrt(abs(geobox.affine.determinant))),
        middle=np.nan_to_num(middle_of(geobox, crs)) if crs.is_geographic else None,
    )


def _polygons_to_pixels(shapes: Geometries, crs: CRS, geobox: GeoBox) -> tuple[Geometries, NDArray[np.bool_]]:
    """Polygons in pixels, and which of them could be placed; the others are empty."""
    grid_crs = crs_of(geobox)
    kind, points, offsets = shapely.to_ragged_array(shapes)
    rings = offsets[0]
    turn = turn_of(grid_crs)
    if crs != grid_crs:
        way = transformer(crs, grid_crs)
        points, rings = _bent_edges(points, rings, way, geobox, turn_of(crs))
        points = np.stack(way.transform(*points.T), axis=1)
        if turn is not None:
            points[:, 0] = _rings_past_antimeridian(points[:, 0], rings, turn)
    if turn is not None:
        points[:, 0] += _turns_to(geobox, points[:, 0], rings[offsets[1]], turn)
    a, b, c, d, e, f = (~geobox.affine)[:6]
    x, y = points.T
    pixels = np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)
    wrong = np.concatenate([[0], np.cumsum(~np.isfinite(pixels).all(axis=1))])
    ends = rings[offsets[1]] if len(offsets) == 2 else rings[offsets[1][offsets[2]]]
    finite = np.diff(wrong[ends]) == 0
    pixels[~np.isfinite(pixels)] = 0.0
    placed = np.asarray(shapely.from_ragged_array(kind, pixels, (rings, *offsets[1:])), object)
    placed[~finite] = shapely.MultiPolygon()
    return placed, finite


def _bent_edges(
    points: F64, rings: I64, transformer: Transformer, geobox: GeoBox, turn: float | None
) -> tuple[F64, I64]:
    """Points along edges, as many as keep them within `STRAIGHT` of their course once projected."""
    inner = np.ones(max(len(points) - 1, 0), np.bool_)
    inner[rings[1:-1] - 1] = False  # from the end of one ring to the start of the next
    one, other = points[:-1], points[1:]
    # Neighbours see a shared edge from both ends, and must part it at the very same points.
    swap = (one[:, 0] > other[:, 0]) | ((one[:, 0] == other[:, 0]) & (one[:, 1] > other[:, 1]))
    low, high = np.where(swap[:, None], other, one), np.where(swap[:, None], one, other)
    ends = [np.stack(transformer.transform(*at.T), axis=1) for at in (low, high, (low + high) / 2)]
    scale = np.sqrt(abs(geobox.affine.determinant))
    with np.errstate(invalid="ignore"):  # of places that the grid's CRS cannot hold
        off = np.hypot(*((ends[0] + ends[1]) / 2 - ends[2]).T) / scale
        # A bow is as high as its chord is long, squared.
        pieces = np.ceil(np.sqrt(np.where(np.isfinite(off), off, 0.0) / STRAIGHT))
    if turn is not None:  # so that no piece reaches half around the Earth
        pieces = np.maximum(pieces, np.ceil(np.abs(other[:, 0] - one[:, 0]) / (turn / 4)))
    count = np.where(inner, np.clip(pieces, 1, PIECES), 1).astype(np.int64)
    edge = np.repeat(np.arange(len(count)), count)
    step = np.arange(len(edge)) - (np.cumsum(count) - count)[edge]
    share = np.where(swap[edge], count[edge] - step, step) / count[edge]
    along = low[edge] + (high - low)[edge] * share[:, None]
    corner = step == 0
    along[corner] = one[edge[corner]]  # to the bit
    place = np.concatenate([np.cumsum(count) - count, [len(edge)]])
    return np.concatenate([along, points[-1:]]), np.append(place, len(edge) + 1)[rings]


def _rings_past_antimeridian(x: F64, rings: I64, turn: float) -> F64:
    """Rings that projecting has torn at the antimeridian, counted on past it."""
    out = x.copy()
    with np.errstate(invalid="ignore"):  # between places that could not be projected
        torn = np.flatnonzero(np.abs(np.diff(x)) > turn / 2)
    for start in np.unique(rings[np.searchsorted(rings, torn, side="right") - 1]).tolist():
        stop = int(rings[np.searchsorted(rings, start, side="right")])
        if np.isfinite(x[start:stop]).all():
            out[start:stop] = np.unwrap(x[start:stop], period=turn)
    return out


def _turns_to(geobox: GeoBox, x: F64, parts: I64, turn: float) -> F64:
    """What brings each polygon to the side of the Earth on which the grid counts (as many as points)."""
    middle, _ = geobox.affine * (geobox.shape.x / 2, geobox.shape.y / 2)
    shift = np.zeros(len(x))
    finite = np.where(np.isfinite(x), x, 0.0)
    if not len(parts) - 1:
        return shift
    centre = (np.minimum.reduceat(finite, parts[:-1]) + np.maximum.reduceat(finite, parts[:-1])) / 2
    return np.asarray(np.repeat(turn * np.rint((middle - centre) / turn), np.diff(parts)), np.float64)


def _surroundings_of_grid(geobox: GeoBox, crs: CRS) -> BaseGeometry:
    """The grid's surroundings in a CRS, as far again as it is large."""
    height, width = geobox.shape.yx
    corners = [geobox.affine * (x, y) for x in (-width, 2 * width) for y in (-height, 2 * height)]
    (left, right), (bottom, top) = ((min(axis), max(axis)) for axis in zip(*corners, strict=True))
    back: Any = transformer(crs_of(geobox), crs)
    left, bottom, right, top = back.transform_bounds(left, bottom, right, top, densify_pts=21)
    if not np.isfinite([left, bottom, right, top]).all():
        return shapely.Polygon()
    if left <= right:
        return shapely.box(left, bottom, right, top)
    return shapely.union_all([shapely.box(left, bottom, left + 360, top), shapely.box(right - 360, bottom, right, top)])


def _only_polygons(shapes: Geometries) -> Geometries:
    """What is left of cut polygons beside the lines and points along the cut."""
    parts, owner = shapely.get_parts(shapes, return_index=True)
    areas = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    out = np.full(len(shapes), shapely.MultiPolygon(), object)
    for index in np.unique(owner[areas]).tolist():
        out[index] = shapely.multipolygons(parts[areas & (owner == index)])
    return out
