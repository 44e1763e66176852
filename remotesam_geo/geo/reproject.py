"""Polygons of one CRS in another: edges bent as projections bend them, cut where a CRS tears or ends.

Most polygons go over point by point. The few that meet a place where one of the two CRSs is not defined or not
continuous (a pole, the antimeridian, the rim of a disk, the gaps of an interrupted projection) are cut there: they are
covered with squares, which are halved until each lies on one side, down to a small part of a pixel; the smallest that
do not are left out. No polygon that comes back is empty, and no coordinate is infinite.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from .crs import body_of, defined, near_meridian, transformer, turn_of

__all__ = ["Carried", "areas_of", "carry"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
Geometries = NDArray[np.object_]

STRAIGHT = 0.05
"""Pixels by which an edge may leave its true course before it is split."""
PIECES = 16
"""An edge is split into so many pieces at most, in each of `ROUNDS`."""
ROUNDS = 4
LOST = 0.01
"""A polygon that keeps all but this share of its area counts as whole."""
TORN = 1.0
"""Pixels by which the middle of a split edge may miss its place before the edge counts as torn."""
FINEST = 1 / 32
"""Pixels along the side of the smallest squares that polygons are cut by."""
DATUMS = 300.0
"""Metres by which the ways to and from a CRS of another datum may disagree, at most."""
STEADY = 0.15
"""Steps across a square may differ by this share of the largest one; at a tear they differ by all of it."""
MOST = 512
"""Squares along the side of a polygon that is cut, at most."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Carried:
    """Polygons that went from one CRS to another.

    Attributes:
        kept: What went over of each, in the first CRS; None where nothing did (n).
        placed: The same in the second CRS; None where nothing did (n).
        cut: Which of them lost a part (n).
    """

    kept: Geometries
    placed: Geometries
    cut: Bools

    @property
    def some(self) -> Bools:
        """Which of them went over, at least in part (n)."""
        return np.array([shape is not None for shape in self.placed], np.bool_)


def carry(shapes: Geometries, source: CRS, target: CRS, *, pixel: float, middle: float | None = None) -> Carried:
    """Carry polygons from one CRS to another.

    Args:
        shapes: Polygons and multipolygons, none empty (n).
        source: Their CRS, in which their edges are straight.
        target: The CRS wanted.
        pixel: Side of a pixel in units of the source.
        middle: Longitude from which longitudes are counted, on past 180 where that is nearer; None for as they are.
    """
    if not len(shapes):
        return Carried(kept=shapes, placed=shapes, cut=np.zeros(0, np.bool_))
    way = _Way(source=source, target=target, pixel=pixel, middle=middle)
    placed, good = way.place(shapes)
    kept = shapes.copy()
    cut = np.zeros(len(shapes), np.bool_)
    for index in np.flatnonzero(~good).tolist():
        kept[index], placed[index], cut[index] = _reprojected_part(shapes[index], way)
    return Carried(kept=kept, placed=placed, cut=cut)


def areas_of(shape: BaseGeometry) -> BaseGeometry | None:
    """The polygons of a geometry as one, without its points and lines; None where there are none."""
    parts = shapely.get_parts([shape])
    nested = [shapely.get_parts([part]) if part.geom_type.startswith("Multi") else [part] for part in parts]
    polygons = [part for own in nested for part in own if part.geom_type == "Polygon" and part.area > 0]
    if not polygons:
        return None
    return polygons[0] if len(polygons) == 1 else shapely.multipolygons(polygons)


@dataclass(kw_only=True, eq=False)
class _Way:
    """The way from one CRS to another."""

    source: CRS
    target: CRS
    pixel: float
    middle: float | None

    def forward(self, x: F64, y: F64) -> tuple[F64, F64]:
        """Places in the target; not finite where there are none."""
        if self.source == self.target:
            ok = defined(self.source, x, y, slack=0.25 * self.pixel)
            return np.where(ok, x, np.nan), np.where(ok, y, np.nan)
        x, y = (np.asarray(v) for v in transformer(self.source, self.target).transform(x, y))
        if self.middle is not None and self.target.is_geographic:
            with np.errstate(invalid="ignore"):
                x = near_meridian(x, self.middle)
        return x, y

    def miss(self, x: F64, y: F64, there: tuple[F64, F64]) -> F64:
        """From places in the source to those that places in the target lead back to, in pixels (2 x n)."""
        back = there
        if self.source != self.target:
            back = transformer(self.source, self.target).transform(*there, direction="INVERSE")
        turn = turn_of(self.source)
        with np.errstate(invalid="ignore"):
            off = np.stack([np.asarray(back[0]) - x, np.asarray(back[1]) - y])
            if turn is not None:
                off[0] -= turn * np.rint(off[0] / turn)
        return np.where(np.isfinite(off), off, np.inf) / self.pixel

    def bow(self, points: F64, x: F64, y: F64) -> F64:
        """How far the middle of each step between points leaves its course in the target, in pixels."""
        with np.errstate(invalid="ignore"):
            chord = (x[:-1] + x[1:]) / 2, (y[:-1] + y[1:]) / 2
            x_middle, y_middle = ((points[:-1] + points[1:]) / 2).T
            off = self.miss(x_middle, y_middle, chord)
            if self._datums:
                # Between datums the ways there and back may disagree by some metres, everywhere alike.
                ends = self.miss(points[:, 0], points[:, 1], (x, y))
                ends[:, np.hypot(*ends) > self.slack] = np.inf
                off -= (ends[:, :-1] + ends[:, 1:]) / 2
            far = np.hypot(*off)
        return np.where(np.isfinite(far), far, np.inf)

    @cached_property
    def _datums(self) -> bool:
        return self.source.geodetic_crs != self.target.geodetic_crs

    @cached_property
    def slack(self) -> float:
        """Pixels by which the way there and back may miss a place that it leads through."""
        metres = float(self.source.axis_info[0].unit_conversion_factor)
        metres *= body_of(self.source).geod.a if self.source.is_geographic else 1.0
        return max(0.05, DATUMS / metres / self.pixel if self._datums else 0.0)

    def place(self, shapes: Geometries) -> tuple[Geometries, Bools]:
        """Polygons in the target, and which of them could be placed whole."""
        parts, owner = shapely.get_parts(shapes, return_index=True)
        kind, points, (rings, polygons) = shapely.to_ragged_array(parts)
        points, rings = self._split(points, rings)
        x, y = self.forward(*points.T)
        torn = self._torn(points, rings, x, y)
        bad = np.add.reduceat(torn, rings[:-1]) > 0  # rings
        bad = np.add.reduceat(bad, polygons[:-1]) > 0  # polygons
        # A ring that turned round encloses what it had left out: the other side of the globe.
        known = np.isfinite(x) & np.isfinite(y)
        there = np.where(known[:, None], np.stack([x, y], axis=1), 0.0)
        placed = np.asarray(shapely.from_ragged_array(kind, there, (rings, polygons)), object)
        bad |= shapely.is_ccw(shapely.get_exterior_ring(placed)) != shapely.is_ccw(shapely.get_exterior_ring(parts))
        good = np.ones(len(shapes), np.bool_)
        good[owner[bad]] = False
        out = shapes.copy()
        begin = np.searchsorted(owner, np.arange(len(shapes) + 1))
        for index, (one, end) in enumerate(pairwise(begin.tolist())):
            out[index] = placed[one] if end == one + 1 else shapely.multipolygons(placed[one:end])
        return out, good

    def _split(self, points: F64, rings: I64) -> tuple[F64, I64]:
        """Points along edges, as many as keep them near their course in the target."""
        for _ in range(ROUNDS if self.source != self.target else 0):
            count = len(points)
            points, rings = self._split_once(points, rings)
            if len(points) == count:
                break
        return points, rings

    def _split_once(self, points: F64, rings: I64) -> tuple[F64, I64]:
        one, other, inner = _ring_edges(points, rings)
        off = self.bow(points, *self.forward(*points.T))
        pieces = np.sqrt(np.where(np.isfinite(off), off, 0.0) / STRAIGHT)
        count = np.where(inner, np.clip(np.ceil(pieces), 1, PIECES), 1).astype(np.int64)
        if (count == 1).all():
            return points, rings
        # Neighbours see a shared edge from both ends, and must split it at the very same points.
        swap = (one[:, 0] > other[:, 0]) | ((one[:, 0] == other[:, 0]) & (one[:, 1] > other[:, 1]))
        low, high = np.where(swap[:, None], other, one), np.where(swap[:, None], one, other)
        edge = np.repeat(np.arange(len(count)), count)
        begin = np.cumsum(count) - count
        step = np.arange(len(edge)) - begin[edge]
        share = np.where(swap[edge], count[edge] - step, step) / count[edge]
        along = low[edge] + (high - low)[edge] * share[:, None]
        along[step == 0] = one  # to the bit
        place = np.concatenate([begin, [len(edge)]])
        return np.concatenate([along, points[-1:]]), np.append(place, len(edge) + 1)[rings]

    def tears(self, shapes: Geometries) -> BaseGeometry:
        """Strips around the edges of polygons that tear, in the source."""
        _, points, (rings, _) = shapely.to_ragged_array(shapes)
        points, rings = self._split(points, rings)
        torn = self._torn(points, rings, *self.forward(*points.T)) > 0
        one, other, inner = _ring_edges(points, rings)
        cut = inner & (torn[:-1] | torn[1:])
        edges = shapely.linestrings(np.stack([one[cut], other[cut]], axis=1))
        width = 2 * max(_finest_square(shape, self.pixel) for shape in shapes)
        strips = shapely.buffer(edges, width, quad_segs=1)
        return shapely.union_all(strips)

    def _torn(self, points: F64, rings: I64, x: F64, y: F64) -> I64:
        """Which points have no place, or begin an edge that leaves its course by much (1 or 0)."""
        torn = ~(np.isfinite(x) & np.isfinite(y))
        _, _, inner = _ring_edges(points, rings)
        off = self.bow(points, x, y)
        torn[:-1] |= inner & (off > TORN)
        return torn.astype(np.int64)


def _ring_edges(points: F64, rings: I64) -> tuple[F64, F64, Bools]:
    """Both ends of each step between points, and which steps are edges: not those from one ring to the next."""
    inner = np.ones(max(len(points) - 1, 0), np.bool_)
    inner[rings[1:-1] - 1] = False
    return points[:-1], points[1:], inner


def _reprojected_part(shape: BaseGeometry, way: _Way) -> tuple[BaseGeometry | None, BaseGeometry | None, bool]:
    """What of a polygon goes over: it, its place, and whether a part was lost."""
    if way.middle is not None and way.target.is_geographic and way.source != way.target:
        # Counted from its own middle it may be whole.
        x, y = shapely.get_coordinates(shapely.point_on_surface(shape)).T
        own = float(np.asarray(way.forward(x, y)[0])[0])
        if np.isfinite(own):
            way = _Way(source=way.source, target=way.target, pixel=way.pixel, middle=own)
            placed, good = way.place(np.array([shape], object))
            if good[0]:
                return shape, placed[0], False
    area = areas_of(shapely.make_valid(shape))
    kept = None if area is None else areas_of(shapely.intersection(area, _squares_where_continuous(area, way)))
    if kept is None or area is None:
        return None, None, True
    for _ in range(2 * ROUNDS):
        pieces = shapely.get_parts([kept])
        placed, good = way.place(pieces)
        if good.all():
            break
        # A tear too thin to be met by the squares is cut out along the edges that cross it.
        kept = areas_of(shapely.difference(kept, way.tears(pieces[~good])))
        if kept is None:
            return None, None, True
    if not good.any():
        return None, None, True
    kept = shapely.multipolygons(pieces[good])
    there = areas_of(shapely.union_all(shapely.make_valid(placed[good])))
    if there is None:
        return None, None, True
    lost = float(area.area - kept.area) > LOST * area.area
    return areas_of(kept), there, lost


def _squares_where_continuous(shape: BaseGeometry, way: _Way) -> BaseGeometry:
    """Squares that cover a polygon but for places where the way is not defined or not continuous."""
    left, bottom, right, top = shape.bounds
    side = max(right - left, top - bottom)
    finest = _finest_square(shape, way.pixel)
    largest = side / 64
    corner = np.array([[left, bottom]])
    good: list[Geometries] = []
    shapely.prepare(shape)
    share = np.linspace(0, 1, 5)
    while len(corner):
        squares = shapely.box(*corner.T, *(corner + side).T)
        touches = shapely.intersects(shape, squares)
        corner, squares = corner[touches], squares[touches]
        if not len(corner):
            break
        x = corner[:, 0, None, None] + side * share[None, None, :] + np.zeros((1, 5, 1))
        y = corner[:, 1, None, None] + side * share[None, :, None] + np.zeros((1, 1, 5))
        flat = way.forward(x.ravel(), y.ravel())
        found = np.hypot(*way.miss(x.ravel(), y.ravel(), flat)).reshape(x.shape)
        there = flat[0].reshape(x.shape), flat[1].reshape(x.shape)
        known = np.isfinite(there[0]) & np.isfinite(there[1]) & (found <= way.slack)
        smooth = known.all(axis=(1, 2)) & _steps_are_steady(*there)
        smooth &= side <= largest
        good.append(squares[smooth])
        half = side / 2
        if half < finest:
            break
        # Nowhere known and small: nothing is there to be found.
        rest = ~smooth & ~((~known).all(axis=(1, 2)) & (side <= 8 * finest))
        steps = np.array([[0, 0], [half, 0], [0, half], [half, half]])
        corner = (corner[rest][:, None] + steps).reshape(-1, 2)
        side = half
    return shapely.union_all(np.concatenate(good)) if good else shapely.Polygon()


def _finest_square(shape: BaseGeometry, pixel: float) -> float:
    """Side of the smallest squares that a polygon is covered with."""
    left, bottom, right, top = shape.bounds
    return max(FINEST * pixel, float(max(right - left, top - bottom)) / MOST)


def _steps_are_steady(x: F64, y: F64) -> Bools:
    """Whether places on lattices follow each other in steady steps (k x 5 x 5, twice, to k)."""
    out = np.ones(len(x), np.bool_)
    for axis in (1, 2):
        with np.errstate(invalid="ignore"):
            step = np.stack([np.diff(x, axis=axis), np.diff(y, axis=axis)])
            change = np.hypot(*np.diff(step, axis=axis + 1)).max(axis=(1, 2))
            out &= change <= STEADY * np.hypot(*step).max(axis=(1, 2))
    return out
