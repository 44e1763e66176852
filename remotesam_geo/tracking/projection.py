"""Where distances between objects are measured, in true metres."""

from dataclasses import dataclass
from functools import cached_property

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Proj, Transformer

from remotesam_geo.geo.coordinates import check_horizontal
from remotesam_geo.geo.crs import body_of, transformer

__all__ = ["Plane"]

F64 = NDArray[np.float64]
Geometries = NDArray[np.object_]

POLAR = 80.0
"""Degrees of latitude from which distances are measured on a polar plane."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plane:
    """Where distances are measured: the objects' own CRS where it is in metres, else a conformal one around them."""

    crs: CRS | None
    own: CRS | None

    @classmethod
    def of(cls, gdf: gpd.GeoDataFrame) -> "Plane":
        """The plane for some objects."""
        own = None if gdf.crs is None else CRS.from_user_input(gdf.crs)
        if own is not None:
            check_horizontal(own, "the objects")
        if own is None or not own.is_geographic or gdf.empty:
            return cls(crs=own, own=own)
        left, bottom, right, top = gdf.total_bounds
        ellipsoid = body_of(own).ellipsoid
        if max(abs(bottom), abs(top)) > POLAR:
            pole = 90 if top > -bottom else -90
            return cls(crs=CRS.from_user_input(f"+proj=stere +lat_0={pole} {ellipsoid}"), own=own)
        middle = (left + right) / 2
        return cls(crs=CRS.from_user_input(f"+proj=merc +lon_0={middle} {ellipsoid}"), own=own)

    def lay(self, shapes: Geometries) -> Geometries:
        """Geometries of the objects' CRS in the plane."""
        if self._to_plane is None:
            return shapes
        to_plane = self._to_plane
        return np.asarray(
            shapely.transform(shapes, lambda xy: np.stack(to_plane.transform(*xy.T), axis=1)),
            object,
        )

    def scale(self, shapes: Geometries) -> F64:
        """Units of the plane a metre on the ground, at each geometry; where there is no CRS, all is in pixels."""
        if self.crs is None or not len(shapes):
            return np.ones(len(shapes))
        x, y = shapely.get_coordinates(shapely.centroid(shapes)).T
        lon, lat = transformer(self.crs, body_of(self.crs).degrees).transform(x, y)
        areal = np.asarray(Proj(self.crs).get_factors(lon, lat).areal_scale, np.float64)
        return np.sqrt(areal) / float(self.crs.axis_info[0].unit_conversion_factor)

    @cached_property
    def _to_plane(self) -> Transformer | None:
        if self.own is None or self.crs is None or self.own == self.crs:
            return None
        return transformer(self.own, self.crs)
