"""Zones: the user's polygons, or the windows' cores, in pixels of the plan's grid.

What is wrong with zones is said before the first pixel is read. A pixel belongs to the zone that holds its centre, by a
rule that gives each centre to exactly one of the zones that partition an area, wherever borders run; it is worked out
in coordinates of the whole raster, so that no cut into blocks can change it.

From here `zone_sums` adds up maps zone by zone, `zone_objects` gives objects to zones, and `zone_frames` makes the
tables of `label`, `classify`, `count` and `caption`.
"""

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS

from remotesam_geo.errors import InputError, RemoteSAMWarning
from remotesam_geo.geo.box import Box
from remotesam_geo.geo.coordinates import check_horizontal
from remotesam_geo.geo.crs import name_of
from remotesam_geo.geo.pixel_shapes import onto_grid, out_of_grid
from remotesam_geo.mapping.grid import Grid

__all__ = ["Runs", "Zones", "check_zones", "core_zones", "place_zones"]

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
Geometries = NDArray[np.object_]

SLIVER = 0.1
"""Zones may overlap by so many pixels' width: what digitising leaves, too thin to matter to pixels."""
SHARE = 0.01
"""... and by this share of the smaller one, so that two tiny zones are not one and the same."""
NAMED = 5
"""Rows that a message names."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Runs:
    """Pixels of zones as stretches of rows, which never share a pixel.

    Attributes:
        zone: The zone (m).
        row: The row (m).
        start: The first column (m).
        stop: The column after the last (m).
    """

    zone: I64
    row: I64
    start: I64
    stop: I64


@dataclass(frozen=True, kw_only=True, eq=False)
class Zones:
    """Zones on the plan's grid.

    Attributes:
        frame: As given: index, columns, geometry, CRS and order are those of every result (n rows).
        shapes: Polygons and multipolygons in pixels of the grid, x to the right and y down (n); empty ones lie
            elsewhere.
        size: Area of each in pixels, what lies outside the raster included (n).
        geobox: The grid.
    """

    frame: gpd.GeoDataFrame
    shapes: Geometries
    size: F64
    geobox: GeoBox

    def __len__(self) -> int:
        return len(self.shapes)

    @cached_property
    def bounds(self) -> F64:
        """Left, top, right and bottom of each in pixels (n x 4); NaN for those that lie elsewhere."""
        return np.asarray(shapely.bounds(self.shapes), np.float64)

    @cached_property
    def tree(self) -> shapely.STRtree:
        """An index of them."""
        return shapely.STRtree(self.shapes)

    @cached_property
    def outside(self) -> F64:
        """How much of each lies outside the raster, in pixels of area (n)."""
        height, width = self.geobox.shape.yx
        left, top, right, bottom = self.bounds.T
        inside: F64 = np.array(self.size)
        inside[np.isnan(left)] = 0.0
        beyond = np.flatnonzero((left < 0) | (top < 0) | (right > width) | (bottom > height))
        raster = shapely.box(0, 0, width, height)
        shapely.prepare(raster)
        inside[beyond] = shapely.area(shapely.intersection(self.shapes[beyond], raster))
        return np.maximum(self.size - inside, 0.0)

    def touching(self, box: Box) -> I64:
        """The zones whose own boxes touch a box."""
        left, top, right, bottom = self.bounds.T
        near = (left < box.right) & (right > box.left) & (top < box.bottom) & (bottom > box.top)
        return np.flatnonzero(near)

    def runs(self, box: Box) -> Runs:
        """The pixels of zones in a box: those whose centres the zones hold.

        A centre on a border belongs to the zone on the right of it or below it. Where zones overlap by a sliver, the
        one that begins further left has the pixel.
        """
        which = self.touching(box)
        width = self.geobox.shape.x
        zone, row, column = self._edges.crossings(which, box.top, box.bottom, width)
        # Each ring crosses a row an even number of times: between the first and the second a zone is inside, and so on.
        key = np.sort((zone * box.shape[0] + row - box.top) * (width + 1) + column)
        inside, start = np.divmod(key[0::2], width + 1)
        stop = key[1::2] - inside * (width + 1)
        zone, row = np.divmod(inside, box.shape[0])
        order = np.argsort(row * (width + 1) + start, kind="stable")
        zone, row, start, stop = (part[order] for part in (zone, row, start, stop))
        # Over whole rows of the raster, not of the box, so that who comes first is the same for any cut.
        ends = np.maximum.accumulate(row * (width + 1) + stop) if len(row) else row
        taken = np.concatenate([[0], ends[:-1]])[: len(row)] - row * (width + 1)
        start = np.clip(np.maximum(start, taken), box.left, box.right)
        stop = np.clip(stop, box.left, box.right)
        some = start < stop
        return Runs(
            zone=which[zone[some]],
            row=row[some] + box.top,
            start=start[some],
            stop=stop[some],
        )

    def paint(self, box: Box) -> tuple[I64, NDArray[np.int32]]:
        """Which zone each pixel of a box belongs to.

        Returns:
            The zones that have pixels there (k), and for each pixel the place of its zone among them from 1, 0 where
            it belongs to none (h x w).
        """
        runs = self.runs(box)
        zones, place = np.unique(runs.zone, return_inverse=True)
        height, width = box.shape
        begin = (runs.row - box.top) * width + runs.start - box.left
        end = begin + runs.stop - runs.start
        # Runs lie apart and in order, so the picture is one repetition: gap, run, gap, run, ... gap.
        cuts = np.stack([begin, end], axis=1).ravel()
        lengths = np.diff(cuts, prepend=0, append=height * width)
        values = np.zeros(len(lengths), np.int32)
        values[1::2] = place + 1
        return zones, np.repeat(values, lengths).reshape(height, width)

    @cached_property
    def _edges(self) -> "_Edges":
        return _Edges.of(self.shapes)


def place_zones(frame: gpd.GeoDataFrame, geobox: GeoBox, *, adds: Collection[str] = ()) -> Zones:
    """Put zones on the plan's grid, or say what is wrong with them.

    Args:
        frame: Polygons in any CRS.
        geobox: The plan's grid.
        adds: Columns that the result will have beside the frame's own.

    Raises:
        InputError: No CRS, no rows, rows that are no valid polygon, that overlap, or that all lie outside the scene; or
            a column that the result would have twice.

    Examples:
        >>> import geopandas as gpd, shapely
        >>> from odc.geo.geobox import GeoBox
        >>> box = GeoBox.from_bbox((500000, 0, 500100, 100), crs="EPSG:32633", resolution=1)
        >>> frame = gpd.GeoDataFrame(geometry=[shapely.box(500010, 20, 500020, 90)], crs="EPSG:32633")
        >>> place_zones(frame, box).bounds.tolist()
        [[10.0, 10.0, 20.0, 80.0]]
    """
    shapes = check_zones(frame, adds)
    placed, cut = onto_grid(shapes, CRS.from_user_input(frame.crs), geobox)
    zones = Zones(frame=frame, shapes=placed, size=shapely.area(placed) * cut, geobox=geobox)
    height, width = geobox.shape.yx
    here = zones.touching(Box(top=0, left=0, bottom=height, right=width))
    if not len(here):
        whole = out_of_grid(
            np.array([shapely.box(0, 0, width, height)], object),
            geobox,
            CRS.from_user_input(frame.crs),
        )
        scene = _zone_bounds_words(whole.placed[0].bounds) if whole.some.all() else "elsewhere"
        raise InputError(
            f"none of the {len(frame)} zones touches the scene: in {_zone_crs_name(frame.crs)} they span "
            f"{_zone_bounds_words(frame.total_bounds)}, the scene {scene}: check the zones' CRS and place"
        )
    _check_overlaps(zones, shapes, here)
    return zones


def check_zones(frame: gpd.GeoDataFrame, adds: Collection[str] = ()) -> Geometries:
    """Check zones by themselves, before a scene is opened, and give their shapes.

    Args:
        frame: Polygons in any CRS.
        adds: Columns that the result will have beside the frame's own.

    Raises:
        InputError: No CRS, no rows, rows that are no valid polygon, or a column that the result would have twice.
    """
    _check_zone_frame(frame, adds)
    shapes: Geometries = shapely.force_2d(np.asarray(frame.geometry.array, object))
    _check_zone_shapes(frame, shapes)
    return shapes


def core_zones(
    grid: Grid, geobox: GeoBox, *, crs: CRS | None = None, windows: Sequence[int] | I64 | None = None
) -> Zones:
    """The windows' cores as zones, for calls without any.

    Args:
        grid: The plan.
        geobox: Its grid on the ground.
        crs: CRS of the result; by default the grid's.
        windows: Which windows, by number; by default all.

    Examples:
        >>> from odc.geo.geobox import GeoBox
        >>> from remotesam_geo.mapping.grid import Grid
        >>> box = GeoBox.from_bbox((500000, 0, 500100, 100), crs="EPSG:32633", resolution=1)
        >>> core_zones(Grid(shape=(100, 100), window=64, overlap=16), box).frame.total_bounds.tolist()
        [500000.0, 0.0, 500100.0, 100.0]
    """
    numbers = range(len(grid)) if windows is None else [int(window) for window in windows]
    cores = [grid.window_at(window).core for window in numbers]
    left, top, right, bottom = (
        np.array([(core.left, core.top, core.right, core.bottom) for core in cores], np.float64).reshape(-1, 4).T
    )
    shapes: Geometries = np.asarray(shapely.box(left, top, right, bottom, ccw=False), object)
    own = CRS.from_user_input(str(geobox.crs)) if crs is None else crs
    carried = out_of_grid(shapes, geobox, own)
    some = carried.some
    if not some.any():
        raise InputError(f"no part of the scene lies where {name_of(own)!r} is defined: give another crs=")
    if not some.all():
        warnings.warn(
            f"{(~some).sum()} of {len(some)} windows lie where {name_of(own)!r} is not defined, and are left out",
            RemoteSAMWarning,
            stacklevel=2,
        )
    shapes = shapes[some]
    frame = gpd.GeoDataFrame(
        geometry=carried.placed[some],
        index=pd.Index(np.array(numbers, np.int64)[some], name="window"),
        crs=own,
    )
    return Zones(frame=frame, shapes=shapes, size=shapely.area(shapes), geobox=geobox)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Edges:
    """The edges of all zones that are not level, upper end first, zone by zone."""

    upper: F64  # m x 2
    lower: F64  # m x 2
    begin: I64  # of each zone's edges; n + 1

    @classmethod
    def of(cls, shapes: Geometries) -> "_Edges":
        parts, owner = shapely.get_parts(shapes, return_index=True)
        rings, part = shapely.get_rings(parts, return_index=True)
        points, ring = shapely.get_coordinates(rings, return_index=True)
        same = ring[:-1] == ring[1:]
        one, other = points[:-1][same], points[1:][same]
        zone = owner[part[ring[:-1][same]]]
        steep = one[:, 1] != other[:, 1]
        one, other, zone = one[steep], other[steep], zone[steep]
        # Two zones that share an edge see it from both ends, and must cross rows at the very same places.
        down = (one[:, 1] < other[:, 1])[:, None]
        return cls(
            upper=np.where(down, one, other),
            lower=np.where(down, other, one),
            begin=np.searchsorted(zone, np.arange(len(shapes) + 1)),
        )

    def crossings(self, zones: I64, top: int, bottom: int, width: int) -> tuple[I64, I64, I64]:
        """Where edges cross the middles of rows: place among the zones, row, first column right of the crossing."""
        edge, zone = _joined_ranges(self.begin[zones], self.begin[zones + 1])
        (x0, y0), (x1, y1) = self.upper[edge].T, self.lower[edge].T
        first = np.clip(np.ceil(y0 - 0.5), top, bottom).astype(np.int64)
        last = np.clip(np.ceil(y1 - 0.5), top, bottom).astype(np.int64)
        row, which = _joined_ranges(first, last)
        x = x0[which] + (row + 0.5 - y0[which]) * (x1 - x0)[which] / (y1 - y0)[which]
        column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
        return zone[which], row, column


def _joined_ranges(first: I64, last: I64) -> tuple[I64, I64]:
    """All whole numbers of many ranges, one after the other, and the range that each is of."""
    counts = np.maximum(last - first, 0)
    which = np.repeat(np.arange(len(counts)), counts)
    offset = np.cumsum(counts) - counts
    return np.arange(len(which)) - offset[which] + first[which], which


def _check_zone_frame(frame: gpd.GeoDataFrame, adds: Collection[str]) -> None:
    if not isinstance(frame, gpd.GeoDataFrame):
        raise InputError(
            f"zones are a GeoDataFrame of polygons, not a {type(frame).__name__}: "
            "make one with geopandas.GeoDataFrame(geometry=..., crs=...)"
        )
    if frame.active_geometry_name is None:
        raise InputError("the zones have no geometry column: name it with zones.set_geometry(...)")
    if frame.crs is None:
        raise InputError(
            "the zones have no CRS, so they lie nowhere on Earth: say which with zones.set_crs('EPSG:...')"
        )
    check_horizontal(frame.crs, "the zones")
    if frame.empty:
        raise InputError("the zones have no rows: give one polygon at least, or no zones at all")
    twice = [str(name) for name in frame.columns if name in set(adds)]
    if twice:
        raise InputError(
            f"the zones have the columns {twice}, which the answer would add: "
            f"rename them, zones.rename(columns={{{twice[0]!r}: 'zone_{twice[0]}'}})"
        )


def _check_zone_shapes(frame: gpd.GeoDataFrame, shapes: Geometries) -> None:
    kind = shapely.get_type_id(shapes)
    checks = [
        (shapely.is_missing(shapes), "no geometry", "drop them with zones.dropna(subset=[...])"),
        (
            shapely.is_empty(shapes),
            "an empty geometry",
            "drop them with zones[~zones.geometry.is_empty]",
        ),
        (
            ~np.isin(kind, [shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON]),
            "no polygon",
            "a zone is an area: buffer points and lines, or drop them",
        ),
        (
            ~shapely.is_valid(shapes),
            "an invalid polygon",
            "mend them with zones.set_geometry(zones.make_valid())",
        ),
    ]
    for wrong, what, remedy in checks:
        if wrong.any():
            reason = shapely.is_valid_reason(shapes[wrong][0]) if what.endswith("invalid polygon") else None
            raise InputError(
                f"{_zone_row_words(frame, np.flatnonzero(wrong))} of the zones {'has' if wrong.sum() == 1 else 'have'} "
                f"{what}{f' ({reason})' if reason else ''}: {remedy}"
            )


def _check_overlaps(zones: Zones, shapes: Geometries, here: I64) -> None:
    """Refuse zones that share ground, in their own coordinates, where neighbours share borders exactly."""
    shapes = shapes[here]
    if shapely.coverage_is_valid(shapes):
        return
    # What is flagged need not overlap: neighbours whose corners do not meet are flagged as well.
    flagged = np.flatnonzero(~shapely.is_empty(shapely.coverage_invalid_edges(shapes)))
    one, other = shapely.STRtree(shapes).query(shapes[flagged], predicate="intersects")
    pairs = np.stack([flagged[one], other], axis=1)
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    common = shapely.intersection(shapes[pairs[:, 0]], shapes[pairs[:, 1]])
    areas = shapely.area(shapes)
    shared = shapely.area(common)
    some = shared > 0
    pairs, common, shared = pairs[some], common[some], shared[some]
    smaller = areas[pairs].min(axis=1)
    pixel = np.sqrt(areas / zones.size[here])[pairs].max(axis=1)
    width = 2 * shared / shapely.length(common) / pixel
    wrong = pairs[(width > SLIVER) | (shared > SHARE * smaller)]
    if len(wrong):
        one, other = zones.frame.index[here[wrong[0]]].tolist()
        more = f", and {len(wrong) - 1} more pairs" if len(wrong) > 1 else ""
        raise InputError(
            f"the zones {one!r} and {other!r} overlap{more}. "
            "Ground that belongs to two zones would count twice: cut one by the other (geopandas.overlay, "
            "GeoDataFrame.difference), merge them (dissolve), or ask them in calls of their own"
        )


def _zone_row_words(frame: gpd.GeoDataFrame, places: I64) -> str:
    names = ", ".join(repr(label) for label in frame.index[places[:NAMED]].tolist())
    more = f" and {len(places) - NAMED} more" if len(places) > NAMED else ""
    return f"row{'s' if len(places) > 1 else ''} {names}{more}"


def _zone_bounds_words(bounds: Any) -> str:
    return "({:.6g}, {:.6g}, {:.6g}, {:.6g})".format(*bounds)


def _zone_crs_name(crs: CRS) -> str:
    return str(crs.to_string()) if len(crs.to_string()) < 40 else str(crs.name)
