"""Pixels and true metres on the ground: how large a pixel is, and the grid on which the network is asked."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS, Geod, Transformer
from pyproj.aoi import AreaOfInterest
from pyproj.database import query_utm_crs_info
from shapely.geometry.base import BaseGeometry

from remotesam_geo.errors import InputError, number_in, one_of

__all__ = ["PixelSize", "ground_area", "near_meridian", "pixel_size", "plan_geobox"]

Resolution = float | Literal["native"]

GEOD = Geod(ellps="WGS84")
SQUARE = 1.1
"""Ground pixels up to this ratio of their sides are taken as square."""
SAME = 0.01
"""Resolutions that differ by less than this share are one: their pixels need no resampling."""


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

    Example:
        >>> from odc.geo.geobox import GeoBox
        >>> box = GeoBox.from_bbox((9.99, 59.99, 10.01, 60.01), crs="EPSG:4326", resolution=0.0001)
        >>> size = pixel_size(box)
        >>> round(size.x, 1), round(size.y, 1), size.square
        (5.6, 11.1, False)
    """
    if geobox.crs is None:
        raise InputError(
            "this raster has no CRS, so metres mean nothing on it: assign one (rio.write_crs), "
            "or ask it as a picture"
        )
    height, width = geobox.shape.yx
    # Over some pixels, so that rounding in large coordinates does not show.
    reach = 8
    row, col = height / 2, width / 2
    ends = [(col - reach, row), (col + reach, row), (col, row - reach), (col, row + reach)]
    lon, lat = _lonlat(geobox, ends)
    if not (np.abs(lat) <= 90).all():  # false for NaN and infinity as well
        raise InputError(
            f"the middle of this raster, {geobox.affine * (col, row)} in {geobox.crs}, lies nowhere on Earth: "
            "check its CRS and transform"
        )
    _, _, length = GEOD.inv(lon[::2], lat[::2], lon[1::2], lat[1::2])
    return PixelSize(x=float(length[0]) / (2 * reach), y=float(length[1]) / (2 * reach))


def plan_geobox(geobox: GeoBox, resolution: Resolution = "native") -> GeoBox:
    """The grid on which the network is asked: square on the ground, north up, of the wanted resolution.

    It is the raster's own grid where that is square on the ground and near the wanted resolution; the same corner and
    CRS with larger or smaller pixels where only the resolution differs; and local UTM where ground pixels are more than
    10 % from square.

    Args:
        geobox: The raster's grid.
        resolution: Metres on the ground a pixel, or "native".

    Example:
        >>> from odc.geo.geobox import GeoBox
        >>> box = GeoBox.from_bbox((500000, 0, 500600, 600), crs="EPSG:32633", resolution=0.5)
        >>> plan_geobox(box) == box, plan_geobox(box, 5).shape
        (True, Shape2d(x=121, y=121))
    """
    if resolution != "native" and not (math.isfinite(resolution) and resolution > 0):
        raise InputError(f"resolution is {resolution!r}: give metres on the ground, or 'native'")
    size = pixel_size(geobox)
    wanted = size.metres if resolution == "native" else float(resolution)
    if not size.square:
        return _in_utm(geobox, wanted)
    upright = _north_up(geobox)
    factor = wanted / size.metres
    if abs(factor - 1) < SAME:
        return upright
    height, width = upright.shape.yx
    shape = (max(1, math.ceil(height / factor)), max(1, math.ceil(width / factor)))
    return GeoBox(shape, upright.affine * Affine.scale(factor), upright.crs)


def ground_area(geometries: NDArray[np.object_], crs: CRS) -> NDArray[np.float64]:
    """True ground area of polygons in square metres, on the ellipsoid.

    Args:
        geometries: Polygons and multipolygons (n).
        crs: Their CRS.
    """
    to_lonlat = _to_lonlat(crs)
    return np.array([_geodesic_area(geometry, to_lonlat) for geometry in geometries], np.float64)


def near_meridian(longitude: NDArray[np.float64], middle: float) -> NDArray[np.float64]:
    """Longitudes counted on past 180 where that brings them nearer to a middle: nothing tears at the antimeridian."""
    turns: NDArray[np.float64] = np.rint((middle - longitude) / 360)
    return longitude + 360 * turns


def _geodesic_area(geometry: BaseGeometry, to_lonlat: Transformer) -> float:
    area = 0.0
    for polygon in getattr(geometry, "geoms", [geometry]):
        for ring, sign in [(polygon.exterior, 1), *((hole, -1) for hole in polygon.interiors)]:
            x, y = np.asarray(ring.coords).T[:2]
            area += sign * abs(GEOD.polygon_area_perimeter(*to_lonlat.transform(x, y))[0])
    return area


def _to_lonlat(crs: CRS) -> Transformer:
    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)


def _north_up(geobox: GeoBox) -> GeoBox:
    """The same pixels with the first row in the north and the first column in the west, where axes are aligned."""
    if geobox.axis_aligned and geobox.affine.e > 0:
        geobox = geobox.flipy()
    if geobox.axis_aligned and geobox.affine.a < 0:
        geobox = geobox.flipx()
    return geobox


def _in_utm(geobox: GeoBox, resolution: float) -> GeoBox:
    lon, lat = _lonlat(geobox, [(geobox.shape.x / 2, geobox.shape.y / 2)])
    utm: GeoBox = geobox.to_crs(_utm_at((lon[0] + 180) % 360 - 180, lat[0]), resolution=resolution)  # type: ignore[arg-type]
    return utm


def _lonlat(geobox: GeoBox, pixels: list[tuple[float, float]]) -> NDArray[np.float64]:
    """Longitudes and latitudes of places in a raster, given as (column, row)."""
    x, y = zip(*(geobox.affine * pixel for pixel in pixels), strict=True)
    return np.array(_to_lonlat(CRS.from_user_input(geobox.crs)).transform(x, y))


def _utm_at(lon: float, lat: float) -> str:
    zones = query_utm_crs_info(
        datum_name="WGS 84",
        area_of_interest=AreaOfInterest(
            west_lon_degree=lon, south_lat_degree=lat, east_lon_degree=lon, north_lat_degree=lat
        ),
    )
    if not zones:
        raise InputError(
            f"no UTM zone at {lat:.2f} degrees north, where pixels of this raster are not square on the ground: "
            "load the scene in a polar CRS (crs='EPSG:3413' or 'EPSG:3031')"
        )
    return f"EPSG:{zones[0].code}"
