"""Which windows of a plan an area of interest takes."""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from remotesam_geo.errors import InputError
from remotesam_geo.geo.areas import shape_in_degrees
from remotesam_geo.geo.crs import body_of, crs_of
from remotesam_geo.geo.ground import lonlat_span
from remotesam_geo.geo.pixel_shapes import onto_grid

from .grid import Grid

__all__ = ["windows_in"]


def windows_in(geometry: Any, grid: Grid, geobox: GeoBox) -> NDArray[np.int64]:
    """The windows whose cores touch an area of interest.

    Args:
        geometry: Area of interest, in degrees where it does not say otherwise.
        grid: The plan.
        geobox: The plan's grid.

    Raises:
        InputError: It does not touch the scene.
    """
    degrees = body_of(crs_of(geobox)).degrees
    shape = shapely.make_valid(shape_in_degrees(geometry, "geometry", degrees=degrees))
    polygons = shapely.multipolygons([part for part in shapely.get_parts([shape]) if part.geom_type == "Polygon"])
    (placed,), _ = onto_grid(np.array([polygons], object), degrees, geobox)
    windows = grid.touching(placed)
    if not len(windows):
        raise InputError(
            f"geometry= does not touch the scene: in degrees it spans {_area_bounds_in_degrees(shape)}, the scene "
            f"{lonlat_span(geobox)}"
        )
    return windows


def _area_bounds_in_degrees(shape: BaseGeometry) -> str:
    return ", ".join(f"{value:.4f}" for value in shape.bounds)
