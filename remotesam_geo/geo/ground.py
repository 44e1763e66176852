"""Pixels and true metres on the ground: how large a pixel is, and the grid that the network sees."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS
from pyproj.database import CRSInfo, query_utm_crs_info

from remotesam_geo.errors import InputError, RemoteSAMWarning, number_in, one_of

from .crs import Body, body_of, crs_of, defined, near_meridian, transformer, turn_of

__all__ = ["PixelSize", "ground_area", "lonlat_span", "middle_of", "pixel_size", "plan_geobox"]

Resolution = float | Literal["native"]
F64 = NDArray[np.float64]

SQUARE = 1.1
"""Ground pixels up to this ratio of their sides are taken as square."""
SAME = 0.01
"""Resolutions that differ by less than this share are one: their pixels need no resampling."""
TRUE = 0.0099
"""Share by which a pixel of a plan may differ from the resolution, anywhere."""
SEAMLESS = 3
"""The planes up to this one have no seam that a raster around the globe could meet."""
LATTICE = 33
"""Places along each side of a raster at which its pixels are measured."""
SPAN = 1000.0
"""Metres over which a pixel is measured, at most: over some pixels, so that rounding does not show."""
DATUMS = 1000.0
"""Metres by which the ways to and from a CRS of another datum may disagree, at most."""
LONG = 20_000.0
"""Metres to which edges are split before their area is taken: edges are straight in the CRS, not on the ellipsoid."""


@dataclass(frozen=True, kw_only=True)
class PixelSize:
    """Sides of a pixel on the ground, in metres, in the middle of a raster.

    Attributes:
        x: Along a row.
        y: Along a column.
    """

    x: float
    y: float

    @property
    def metres(self) -> float:
        """Side of the square pixel of the same area."""
        return math.sqrt(self.x * self.y)

    @property
    def square(self) -> bool:
        """Whether the sides differ by less than a tenth."""
        return 1 / SQUARE <= self.x / self.y <= SQUARE


def check_resolution(resolution: object) -> None:
    """Check a resolution: metres a pixel above 0, or "native".

    Raises:
        InputError: It is neither.
    """
    if isinstance(resolution, str):
        one_of("resolution", resolution, ("native",))
    elif not isinstance(resolution, int | float) or isinstance(resolution, bool):
        raise InputError(
            f"resolution={resolution!r} is not allowed: give metres on the ground a pixel, above 0, or 'native'"
        )
    else:
        number_in("resolution", resolution, 0, open_low=True)


def pixel_size(geobox: GeoBox) -> PixelSize:
    """Measure the middle pixel of a raster on the ellipsoid, whatever its CRS.

    Where the CRS is not defined in the middle, the nearest place where it is.

    Raises:
        InputError: The raster has no CRS, a local one, or lies nowhere on its body.

    Examples:
        >>> from odc.geo.geobox import GeoBox
        >>> box = GeoBox.from_bbox((9.99, 59.99, 10.01, 60.01), crs="EPSG:4326", resolution=0.0001)
        >>> size = pixel_size(box)
        >>> round(size.x, 1), round(size.y, 1), size.square
        (5.6, 11.1, False)
    """
    height, width = geobox.shape.yx
    x, y = _pixel_sizes_at(geobox, np.array([width / 2]), np.array([height / 2]))
    if not (np.isfinite(x[0]) and np.isfinite(y[0])):
        col, row = _lattice_of_pixels(geobox)
        x, y = _pixel_sizes_at(geobox, col, row)
        known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        if not len(known):
            raise InputError(
                f"this raster, {geobox.boundingbox.bbox} in {geobox.crs}, lies nowhere on Earth (or on the body of its "
                "CRS): check its CRS and transform"
            )
        nearest = np.argmin(np.hypot(col[known] - width / 2, row[known] - height / 2))
        x, y = x[known[nearest:]], y[known[nearest:]]
    return PixelSize(x=float(x[0]), y=float(y[0]))


def middle_of(geobox: GeoBox, crs: CRS) -> float:
    """The x of the middle of a raster in another CRS, or of the nearest place defined there; NaN where none is."""
    own = crs_of(geobox)
    col, row = _lattice_of_pixels(geobox)
    height, width = geobox.shape.yx
    order = np.argsort(np.hypot(col - width / 2, row - height / 2), kind="stable")
    a, b, c, d, e, f = geobox.affine[:6]
    x, y = a * col[order] + b * row[order] + c, d * col[order] + e * row[order] + f
    placed = x if own == crs else np.asarray(transformer(own, crs).transform(x, y)[0])
    known = placed[np.isfinite(placed)]
    return float(known[0]) if len(known) else math.nan


def plan_geobox(geobox: GeoBox, resolution: Resolution = "native") -> GeoBox:
    """Plan the grid that the network sees: square on the ground, north up, of the wanted resolution.

    It is the raster's own grid where that is square on the ground everywhere and near the wanted resolution; the same
    corner and CRS with larger or smaller pixels where only the resolution differs. Where ground pixels are more than
    10 % from square, or differ by more than 1 % from a resolution in metres, it is local UTM, or for a raster too wide
    for a zone the projection in which metres are truest: transverse Mercator, stereographic, Lambert conformal conic or
    Mercator around it. Pixels then differ from the resolution by less than 1 % anywhere.

    Args:
        geobox: The raster's grid.
        resolution: Metres on the ground a pixel, or "native".

    Raises:
        InputError: There is no projection in which metres are true within 1 % over the whole raster.

    Examples:
        >>> from odc.geo.geobox import GeoBox
        >>> box = GeoBox.from_bbox((500000, 0, 500600, 600), crs="EPSG:32633", resolution=0.5)
        >>> plan_geobox(box) == box, plan_geobox(box, 5).shape
        (True, Shape2d(x=121, y=121))
    """
    if resolution != "native" and not (math.isfinite(resolution) and resolution > 0):
        raise InputError(f"resolution is {resolution!r}: give metres on the ground, or 'native'")
    size = pixel_size(geobox)
    wanted = size.metres if resolution == "native" else float(resolution)
    if wanted > max(geobox.shape) * size.metres:
        height, width = geobox.shape.yx
        raise InputError(
            f"resolution={resolution!r} is coarser than the whole raster, about {width * size.x:,.4g} x "
            f"{height * size.y:,.4g} m: give metres a pixel, so that many pixels fit in it"
        )
    x, y = _pixel_sizes_at(geobox, *_lattice_of_pixels(geobox))
    known = np.isfinite(x) & np.isfinite(y)
    ratio, metres = x[known] / y[known], np.sqrt(x[known] * y[known])
    exact = wanted / size.metres
    factors = [1.0, exact] if abs(exact - 1) < SAME else [exact]
    if resolution != "native":
        factors = [factor for factor in factors if bool((abs(factor * metres / wanted - 1) < TRUE).all())]
    square = size.square and bool(((ratio >= 1 / SQUARE) & (ratio <= SQUARE)).all())
    own = square and bool(factors)
    if not own:
        plane = _grid_in_true_metres(geobox, wanted)
        if plane is not None:
            return plane
        if not size.square or resolution != "native" or crs_of(geobox).is_geographic:
            raise InputError(
                f"this raster spans so much of the globe ({lonlat_span(geobox)}) that no projection holds "
                f"metres true within 1 % over all of it, and its own pixels measure {metres.min():,.4g} to "
                f"{metres.max():,.4g} m: ask smaller parts, load(..., bbox=...) or scene.sel(...), each by "
                "itself"
            )
        warnings.warn(
            f"pixels of this raster measure {metres.min():,.4g} to {metres.max():,.4g} m on the ground, and no "
            "projection holds metres true within 1 % over all of it: its own grid is taken, whose resolution is that "
            "of the middle. Ask smaller parts for true metres",
            RemoteSAMWarning,
            stacklevel=2,
        )
    upright = _north_up(geobox)
    factor = factors[0]
    if factor == 1.0:
        return upright
    height, width = upright.shape.yx
    shape = (max(1, math.ceil(height / factor)), max(1, math.ceil(width / factor)))
    return GeoBox(shape, upright.affine * Affine.scale(factor), upright.crs)


def ground_area(geometries: NDArray[np.object_], crs: CRS) -> F64:
    """True ground area of polygons in square metres, on the ellipsoid.

    Args:
        geometries: Polygons and multipolygons (n).
        crs: Their CRS, in which their edges are straight.
    """
    body = body_of(crs)
    to_degrees = transformer(crs, body.degrees)
    step = LONG / _metres_a_crs_unit(crs)
    bounds = shapely.bounds(geometries)
    extent = np.maximum(bounds[:, 2] - bounds[:, 0], bounds[:, 3] - bounds[:, 1])
    wide = extent > step
    if wide.any():
        geometries = geometries.copy()
        geometries[wide] = shapely.segmentize(geometries[wide], np.maximum(step, extent[wide] / 1000))
    parts, owner = shapely.get_parts(geometries, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    sign = np.where(np.diff(part, prepend=-1) > 0, 1.0, -1.0)  # the first ring of a part is its outside
    points, ring = shapely.get_coordinates(rings, return_index=True)
    longitude, latitude = to_degrees.transform(points[:, 0], points[:, 1])
    begin = np.searchsorted(ring, np.arange(len(rings) + 1))
    of_rings = [
        abs(body.geod.polygon_area_perimeter(longitude[one:end], latitude[one:end])[0])
        for one, end in pairwise(begin.tolist())
    ]
    areas = np.array(of_rings, np.float64) * sign
    return np.bincount(owner[part], areas, len(geometries)).astype(np.float64)


def _lattice_of_pixels(geobox: GeoBox) -> tuple[F64, F64]:
    """Columns and rows of places all over a raster, edges included."""
    height, width = geobox.shape.yx
    col, row = np.meshgrid(np.linspace(0, width, LATTICE), np.linspace(0, height, LATTICE))
    return col.ravel(), row.ravel()


def _pixel_sizes_at(geobox: GeoBox, col: F64, row: F64) -> tuple[F64, F64]:
    """Lengths of pixels on the ground along rows and columns, at places of a raster; NaN where it is not defined."""
    if geobox.crs is None:
        raise InputError(
            "this raster has no CRS, so metres mean nothing on it: assign one (rio.write_crs), or ask it as a picture"
        )
    crs = crs_of(geobox)
    body = body_of(crs)
    side = float(np.sqrt(abs(geobox.affine.determinant)))
    reach = float(np.clip(SPAN / (side * _metres_a_crs_unit(crs)), 0.5, 8.0))
    ends = [(col - reach, row), (col + reach, row), (col, row - reach), (col, row + reach)]
    a, b, c, d, e, f = geobox.affine[:6]
    x, y = (np.stack(axis) for axis in zip(*((a * u + b * v + c, d * u + e * v + f) for u, v in ends), strict=True))
    if crs.is_geographic:
        # Beside a pole a pixel is measured up to it.
        pole = 90 * np.pi / 180 / crs.axis_info[0].unit_conversion_factor
        beyond = (np.abs(y) > pole) & (np.abs(d * col + e * row + f) <= pole)
        y = np.where(beyond, np.sign(y) * pole, y)
    known = defined(crs, x, y, slack=0.25 * side).all(axis=0)
    longitude, latitude = (np.asarray(value) for value in transformer(crs, body.degrees).transform(x, y))
    lengths = np.full((2, len(col)), np.nan)
    for at, (one, other) in enumerate(((0, 1), (2, 3))):
        lengths[at, known] = body.geod.inv(
            longitude[one, known],
            latitude[one, known],
            longitude[other, known],
            latitude[other, known],
        )[2]
    spans = np.full((2, len(col)), 2 * reach)
    if crs.is_geographic:
        spans[0] = np.hypot(x[1] - x[0], (y[1] - y[0])) / np.hypot(a, d)
        spans[1] = np.hypot(x[3] - x[2], (y[3] - y[2])) / np.hypot(b, e)
    return lengths[0] / spans[0], lengths[1] / spans[1]


def _metres_a_crs_unit(crs: CRS) -> float:
    """About how many metres a unit of a CRS spans."""
    factor = float(crs.axis_info[0].unit_conversion_factor)
    return factor * body_of(crs).geod.a if crs.is_geographic else factor


def _north_up(geobox: GeoBox) -> GeoBox:
    """The same pixels with the first row in the north and the first column in the west, where axes are aligned."""
    if geobox.axis_aligned and geobox.affine.e > 0:
        geobox = geobox.flipy()
    if geobox.axis_aligned and geobox.affine.a < 0:
        geobox = geobox.flipx()
    return geobox


def _grid_in_true_metres(geobox: GeoBox, resolution: float) -> GeoBox | None:
    """A grid around a raster in the CRS that holds metres best, if one holds them within `TRUE`."""
    longitude, latitude = _lonlat_lattice(geobox)
    body = body_of(crs_of(geobox))
    best: tuple[float, str, float] | None = None
    for number, plane in enumerate(_conformal_projections(longitude, latitude, body)):
        metres = _metres_a_unit(CRS.from_user_input(plane), body, longitude, latitude)
        if not (np.isfinite(metres) & (metres > 0)).all():
            continue
        low, high = float(metres.min()), float(metres.max())
        if number == 0 and body.earth and max(abs(low - 1), abs(high - 1)) < TRUE:
            return _grid_in(plane, geobox, resolution)  # local UTM, as it is
        # The pixel of the middle of both ends: it errs the same way up and down.
        unit, error = math.sqrt(low * high), math.sqrt(high / low) - 1
        if error < TRUE and (best is None or error < best[0]):
            best = error, plane, unit
        if best is not None and number == SEAMLESS and np.ptp(longitude) > 180:
            break
    return None if best is None else _grid_in(best[1], geobox, resolution / best[2])


def _conformal_projections(longitude: F64, latitude: F64, body: Body) -> Iterator[str]:
    """Conformal projections around places, local UTM first where there is one."""
    west, east = float(longitude.min()), float(longitude.max())
    south, north = float(latitude.min()), float(latitude.max())
    lon, lat, height = (west + east) / 2, (south + north) / 2, north - south
    about = f"+lon_0={(lon + 180) % 360 - 180!r} {body.ellipsoid} +units=m +no_defs +type=crs"
    zone = _utm_at((lon + 180) % 360 - 180, lat) if body.earth else None
    yield f"+proj=tmerc +lat_0=0 {about}" if zone is None else zone
    yield f"+proj=tmerc +lat_0=0 {about}"
    yield f"+proj=stere +lat_0={lat!r} {about}"
    pole = 90 if lat > 0 else -90
    yield f"+proj=stere +lat_0={pole} {about}"
    yield f"+proj=merc +lat_ts=0 {about}"
    if south * north > 0 and abs(south + north) > 2:
        yield f"+proj=lcc +lat_0={lat!r} +lat_1={lat - 0.3 * height!r} +lat_2={lat + 0.3 * height!r} {about}"


def _metres_a_unit(plane: CRS, body: Body, longitude: F64, latitude: F64) -> F64:
    """Ground metres that a unit of a projection spans at places, along both of its axes; NaN where it folds."""
    there = transformer(plane, body.degrees)
    x, y = (np.asarray(v) for v in there.transform(longitude, latitude, direction="INVERSE"))
    step = 500.0
    out = []
    for dx, dy in ((step, 0.0), (0.0, step)):
        one, other = there.transform(x - dx, y - dy), there.transform(x + dx, y + dy)
        known = np.isfinite(np.stack([*one, *other])).all(axis=0)
        length = np.full(len(x), np.nan)
        length[known] = body.geod.inv(*(np.asarray(v)[known] for v in (*one, *other)))[2]
        out.append(length / (2 * step))
    return np.concatenate(out)


def _grid_in(plane: str, geobox: GeoBox, pixel: float) -> GeoBox:
    """The grid of a CRS that covers a raster, on whole multiples of its pixel."""
    height, width = geobox.shape.yx
    # Just within its edges, where a raster right around the globe does not yet meet itself.
    shares = np.linspace(1e-9, 1 - 1e-9, 32 * LATTICE + 1)
    across, down = width * shares, height * shares
    edges = [
        (across, 0 * across),
        (across, height + 0 * across),
        (0 * down, down),
        (width + 0 * down, down),
    ]
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    margin = np.zeros(2)
    inner = _lattice_of_pixels(geobox)
    for col, row in (*edges, inner):
        x, y = _pixels_in_crs(geobox, col, row, CRS.from_user_input(plane))
        place = np.stack([x, y])
        place[:, ~np.isfinite(place).all(axis=0)] = np.nan
        if np.isnan(place).all():
            continue
        own = np.nanmin(place, axis=1), np.nanmax(place, axis=1)
        if col is not inner[0] and not np.isnan(place[:, ::2]).all():
            # Between two places an edge may bulge; by how much is seen from every other one.
            rough = np.nanmin(place[:, ::2], axis=1), np.nanmax(place[:, ::2], axis=1)
            margin = np.maximum(margin, np.maximum(rough[0] - own[0], own[1] - rough[1]))
        low, high = np.minimum(low, own[0]), np.maximum(high, own[1])
    low, high = low - margin, high + margin
    left, bottom = np.floor(low / pixel + 1e-6)
    right, top = np.ceil(high / pixel - 1e-6)
    shape = (max(1, int(top - bottom)), max(1, int(right - left)))
    return GeoBox(shape, Affine(pixel, 0, left * pixel, 0, -pixel, top * pixel), plane)


def _pixels_in_crs(geobox: GeoBox, col: F64, row: F64, plane: CRS) -> tuple[F64, F64]:
    """Places of a raster in another CRS; not finite where its own is not defined."""
    crs = crs_of(geobox)
    a, b, c, d, e, f = geobox.affine[:6]
    x, y = a * col + b * row + c, d * col + e * row + f
    side = float(np.sqrt(abs(geobox.affine.determinant)))
    known = defined(crs, x, y, slack=0.25 * side)
    there, back = transformer(crs, plane), transformer(plane, crs)
    px, py = there.transform(x, y)
    # Pixels are looked up the other way, which between datums may lead elsewhere by some metres.
    step = np.stack([x, y]) - np.stack(back.transform(px, py))
    small = (np.abs(step) <= DATUMS / _metres_a_crs_unit(crs)).all(axis=0)
    px, py = there.transform(*(np.stack([x, y]) + np.where(small, step, 0.0)))
    return np.where(known, px, np.nan), np.where(known, py, np.nan)


def _lonlat_lattice(geobox: GeoBox) -> tuple[F64, F64]:
    """Longitudes and latitudes all over a raster where it is defined, counted on across the antimeridian."""
    crs = crs_of(geobox)
    degrees = body_of(crs).degrees
    col, row = _lattice_of_pixels(geobox)
    a, b, c, d, e, f = geobox.affine[:6]
    x, y = a * col + b * row + c, d * col + e * row + f
    known = defined(crs, x, y, slack=0.25 * float(np.sqrt(abs(geobox.affine.determinant))))
    longitude, latitude = (np.asarray(v)[known] for v in transformer(crs, degrees).transform(x, y))
    if crs.is_geographic and turn_of(crs) is not None:
        turn = turn_of(crs) or 360.0
        return np.asarray(x[known] * 360 / turn, np.float64), latitude
    return near_meridian(longitude, middle_of(geobox, degrees)), latitude


def lonlat_span(geobox: GeoBox) -> str:
    """The longitudes and latitudes that a raster spans, in words."""
    longitude, latitude = _lonlat_lattice(geobox)
    return (
        f"longitudes {longitude.min():.4g} to {longitude.max():.4g}, latitudes {latitude.min():.4g} to "
        f"{latitude.max():.4g}"
    )


def _utm_at(lon: float, lat: float) -> str | None:
    """The UTM zone of a place on the Earth."""
    for zone in _utm_zones_on_ground():
        area = zone.area_of_use
        if area and area.west <= lon <= area.east and area.south <= lat <= area.north:
            return f"EPSG:{zone.code}"
    return None


@lru_cache(maxsize=1)
def _utm_zones_on_ground() -> tuple[CRSInfo, ...]:
    return tuple(query_utm_crs_info(datum_name="WGS 84"))
