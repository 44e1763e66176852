"""Where a CRS is defined, and longitudes, latitudes and metres on the body that it belongs to.

Everything is measured on the ellipsoid of the CRS: WGS 84 for the Earth, its own for another planet or moon.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import ProjError

from remotesam_geo.errors import InputError
from remotesam_geo.geo.box import Box

__all__ = [
    "Body",
    "body_of",
    "crs_of",
    "defined",
    "name_of",
    "near_meridian",
    "only_defined",
    "same_body",
    "transformer",
    "turn_of",
    "undefined_pixels",
]

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

EARTH = 6378137.0
"""Semi-major axis of WGS 84, in metres."""
ALIKE = 0.01
"""Ellipsoids whose semi-major axes differ by less than this share belong to one body."""
CELL = 16
"""Pixels along the side of the cells that are looked at one by one only where their corners differ."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Body:
    """The planet or moon that a CRS belongs to.

    Attributes:
        degrees: Longitude and latitude in degrees on it: EPSG:4326 for the Earth.
        geod: Distances and areas on it.
        ellipsoid: Its parameters in a PROJ string.
        earth: Whether it is the Earth.
    """

    degrees: CRS
    geod: Geod
    ellipsoid: str
    earth: bool


def crs_of(geobox: GeoBox) -> CRS:
    """The CRS of a grid that has one."""
    return _cached_crs(str(geobox.crs))


def body_of(crs: CRS) -> Body:
    """The body that a CRS belongs to.

    Raises:
        InputError: It belongs to none, or does not give places by x and y.

    Examples:
        >>> from pyproj import CRS
        >>> body_of(CRS("EPSG:3857")).degrees.to_string(), body_of(CRS("IAU_2015:30100")).earth
        ('EPSG:4326', False)
    """
    return _body_of_wkt(crs.to_wkt())


def name_of(crs: CRS) -> str:
    """What to call a CRS in messages."""
    return str(crs.to_string()[:80] if crs.name == "unknown" else crs.name)


def same_body(one: CRS, other: CRS) -> bool:
    """Whether two CRSs belong to one planet or moon."""
    a, b = body_of(one).geod.a, body_of(other).geod.a
    return abs(a - b) < ALIKE * max(a, b)


def transformer(source: CRS, target: CRS) -> Transformer:
    """Transform x, y (longitude, latitude) from one CRS to another.

    Raises:
        InputError: PROJ knows no way between them.
    """
    return _cached_transformer(source.to_wkt(), target.to_wkt())


def near_meridian(longitude: F64, middle: float) -> F64:
    """Add whole turns to longitudes, so that each lies within 180 degrees of a middle one."""
    turns: F64 = np.rint((middle - longitude) / 360)
    return longitude + 360 * turns


def turn_of(crs: CRS) -> float | None:
    """What once around the body adds to x; None where x does not repeat itself."""
    return _full_turn_of_crs(crs.to_wkt())


def defined(crs: CRS, x: F64, y: F64, *, slack: float) -> Bools:
    """Whether places in a CRS are places on its body.

    A place is one where its longitude and latitude exist and lead back to it: outside the disk of a geostationary
    view, beyond a pole, or between the lobes of an interrupted projection they do not.

    Args:
        crs: The CRS.
        x: Easting or longitude.
        y: Northing or latitude.
        slack: How far the way back may miss, in units of the CRS.
    """
    geodetic = crs.geodetic_crs
    if geodetic is None:
        raise _local_crs_error(crs)
    pole = 90 * np.pi / 180 / geodetic.axis_info[0].unit_conversion_factor * (1 + 1e-9)
    if crs == geodetic:
        return np.isfinite(x) & (np.abs(y) <= pole)
    there = transformer(crs, geodetic)
    longitude, latitude = there.transform(x, y)
    back_x, back_y = there.transform(longitude, latitude, direction="INVERSE")
    turn = turn_of(crs)
    with np.errstate(invalid="ignore"):
        off = np.asarray(back_x) - x
        if turn is not None:
            off -= turn * np.rint(off / turn)
        return np.asarray((np.abs(latitude) <= pole) & (np.hypot(off, np.asarray(back_y) - y) <= slack), np.bool_)


def undefined_pixels(geobox: GeoBox, box: Box) -> Bools | None:
    """Which pixels of a box lie where the grid's CRS is not defined; None where all are defined.

    Args:
        geobox: The grid.
        box: Some of its pixels.
    """
    if geobox.crs is None:
        return None
    crs, slack = crs_of(geobox), 0.25 * _pixel_side(geobox)
    rows, cols = (
        np.unique([*range(begin, end, CELL), end - 1]) + 0.5
        for begin, end in ((box.top, box.bottom), (box.left, box.right))
    )
    corners = _crs_defined_at(geobox, crs, rows, cols, slack)
    if corners.all():
        return None
    out = np.zeros(box.shape, np.bool_)
    # Each cell reaches from one corner pixel to the next; those whose corners agree are all one or the other.
    for i, (top, bottom) in enumerate(_neighbouring_pairs_of_points(rows)):
        for j, (left, right) in enumerate(_neighbouring_pairs_of_points(cols)):
            some = corners[i : i + 2, j : j + 2]
            here = (
                slice(int(top) - box.top, int(bottom) - box.top + 1),
                slice(int(left) - box.left, int(right) - box.left + 1),
            )
            if some.all():
                continue
            if not some.any():
                out[here] = True
                continue
            own = _crs_defined_at(geobox, crs, np.arange(top, bottom + 1), np.arange(left, right + 1), slack)
            out[here] |= ~own
    return out


def only_defined(rgb: NDArray[np.uint8], valid: Bools, geobox: GeoBox, box: Box) -> tuple[NDArray[np.uint8], Bools]:
    """Pixels of a box, with no data where the grid's CRS is not defined.

    Args:
        rgb: Their colours (h x w x 3).
        valid: Which of them are data (h x w).
        geobox: The grid.
        box: Which pixels they are.
    """
    nowhere = undefined_pixels(geobox, box) if valid.any() else None
    if nowhere is None:
        return rgb, valid
    return np.where(nowhere[..., None], np.uint8(0), rgb), valid & ~nowhere


def _neighbouring_pairs_of_points(values: F64) -> list[tuple[float, float]]:
    return list(pairwise(values.tolist())) or [(values[0], values[0])]


def _crs_defined_at(geobox: GeoBox, crs: CRS, rows: F64, cols: F64, slack: float) -> Bools:
    col, row = np.meshgrid(cols, rows)
    a, b, c, d, e, f = geobox.affine[:6]
    return defined(crs, a * col + b * row + c, d * col + e * row + f, slack=slack)


def _pixel_side(geobox: GeoBox) -> float:
    """Side of a pixel in units of the CRS."""
    return float(np.sqrt(abs(geobox.affine.determinant)))


@lru_cache(maxsize=256)
def _cached_crs(text: str) -> CRS:
    return CRS.from_user_input(text)


@lru_cache(maxsize=256)
def _cached_transformer(source: str, target: str) -> Transformer:
    one, other = CRS.from_wkt(source), CRS.from_wkt(target)
    try:
        return Transformer.from_crs(one, other, always_xy=True)
    except ProjError as error:
        raise InputError(
            f"nothing leads from {name_of(one)!r} to {name_of(other)!r}: give places on the same planet or moon"
        ) from error


@lru_cache(maxsize=256)
def _body_of_wkt(wkt: str) -> Body:
    crs = CRS.from_wkt(wkt)
    ellipsoid, geodetic = crs.ellipsoid, crs.geodetic_crs
    if ellipsoid is None or geodetic is None:
        raise _local_crs_error(crs)
    if crs.is_geocentric:
        raise InputError(
            f"{name_of(crs)!r} is geocentric, and rasters and tables need x and y on the ground: "
            f"use a geographic or projected CRS, EPSG:4326 for example"
        )
    if any(axis.direction == "west" for axis in geodetic.axis_info):
        raise InputError(
            f"{name_of(crs)!r} counts longitudes westwards, which PROJ does not order as x and y: "
            "use a CRS whose longitudes count eastwards"
        )
    a, b = ellipsoid.semi_major_metre, ellipsoid.semi_minor_metre
    if abs(a / EARTH - 1) < ALIKE:
        return Body(degrees=CRS("EPSG:4326"), geod=Geod(ellps="WGS84"), ellipsoid="+datum=WGS84", earth=True)
    parameters = f"+a={a!r} +b={b!r}"
    return Body(
        degrees=CRS.from_proj4(f"+proj=longlat {parameters} +no_defs"),
        geod=Geod(a=a, b=b),
        ellipsoid=parameters,
        earth=False,
    )


@lru_cache(maxsize=256)
def _full_turn_of_crs(wkt: str) -> float | None:
    crs = CRS.from_wkt(wkt)
    geodetic = crs.geodetic_crs
    if geodetic is None:
        return None
    factor = float(geodetic.axis_info[0].unit_conversion_factor)  # radians a unit
    if crs.is_geographic:
        return 2 * np.pi / factor
    operation: Any = crs.coordinate_operation
    name = "" if operation is None else operation.method_name
    cylindrical = ("Mercator" in name and "Transverse" not in name and "Oblique" not in name) or (
        "Cylindrical" in name or "Plate Carree" in name
    )
    if not cylindrical:
        return None
    step = np.radians(10) / factor
    to_crs = Transformer.from_crs(geodetic, crs, always_xy=True)
    x = np.array([to_crs.transform(k * step, 0.0)[0] for k in range(-2, 3)])
    steps = np.abs(np.diff(x))
    return float(36 * np.median(steps))  # one of the steps may cross the seam


def _local_crs_error(crs: CRS) -> InputError:
    return InputError(
        f"{name_of(crs)!r} is a local CRS, which says nothing of places on Earth: assign the CRS that the coordinates "
        "are in (scene.rio.write_crs, or crs= in open_raster)"
    )
