"""What was seen when: the ground with valid pixels at each time, and how much of an object lies on it."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import xarray as xr
from dask.base import compute
from numpy.typing import NDArray
from pyproj import CRS
from rasterio.features import shapes
from shapely.geometry.base import BaseGeometry

from remotesam_geo.errors import InputError
from remotesam_geo.geo.coordinates import grid_of
from remotesam_geo.geo.pixel_shapes import out_of_grid
from remotesam_geo.mapping.grid import Grid
from remotesam_geo.mapping.source import dates_of
from remotesam_geo.scenes import render

__all__ = ["Looks", "ObservedLike", "observed_area"]

F64 = NDArray[np.float64]
Geometries = NDArray[np.object_]
ObservedLike = gpd.GeoDataFrame | Mapping[Any, BaseGeometry] | xr.Dataset | xr.DataArray

BLOCK = 2048
"""Side of the blocks in which validity is read."""
WHOLE = 1 - 1e-9
"""Share from which all of an object was seen: areas are rounded."""


class Looks:
    """What was seen at each time, in one plane; None for everything.

    Args:
        parts: Polygons that do not overlap, one array a time (T of m).
    """

    def __init__(self, parts: list[Geometries] | None) -> None:
        self._trees = None if parts is None else [shapely.STRtree(each) for each in parts]

    def share(self, geometries: Geometries, time: int) -> F64:
        """How much of each was seen (n)."""
        share = np.ones(len(geometries))
        if self._trees is None:
            return share
        tree = self._trees[time]
        open_ones = np.ones(len(geometries), np.bool_)
        open_ones[tree.query(geometries, predicate="covered_by")[0]] = False
        rest = np.flatnonzero(open_ones)
        if len(rest):
            share[rest] = shapely.area(self.clip(geometries[rest], time)) / shapely.area(geometries[rest])
        return np.where(share > WHOLE, 1.0, share)

    def clip(self, geometries: Geometries, time: int) -> Geometries:
        """The part of each that was seen (n)."""
        if self._trees is None:
            return geometries
        tree = self._trees[time]
        one, part = tree.query(geometries, predicate="intersects")
        pieces = shapely.intersection(geometries[one], tree.geometries[part])
        first = np.searchsorted(one, np.arange(len(geometries) + 1))
        return np.array(
            [shapely.union_all(pieces[a:b]) for a, b in pairwise(first)],
            object,
        )


def observed_area(scene: xr.Dataset | xr.DataArray) -> gpd.GeoDataFrame:
    """Where a scene has valid pixels, at each of its times.

    All of its validity is read, block by block.

    Args:
        scene: With a time axis, as `render` takes it.

    Returns:
        Columns `time` and `geometry`, in the scene's CRS: polygons along pixel edges that do not overlap.

    Raises:
        InputError: The scene has no time, or lies nowhere on Earth.
    """
    held = isinstance(scene, xr.Dataset) and "valid" in scene.data_vars
    valid = scene["valid"] if held else render(scene)["valid"]
    geobox = grid_of(scene)
    if "time" not in valid.dims:
        raise InputError(f"this scene has the dimensions {list(valid.dims)} and no time: matching needs one")
    crs = CRS.from_user_input(str(geobox.crs))
    blocks = Grid(shape=geobox.shape.yx, window=BLOCK, overlap=0)
    dates = dates_of(valid, "time")
    times, found = [], []
    for time in range(len(dates)):
        for window in blocks:
            rows, cols = window.core.within(blocks.raster)
            (seen,) = compute(valid.isel(time=time).transpose(*geobox.dimensions)[rows, cols].data)  # type: ignore[no-untyped-call]
            mask = np.asarray(seen, np.uint8)
            parts = [
                shapely.transform(
                    shapely.geometry.shape(outline),
                    lambda xy, at=window.core: xy + np.array([at.left, at.top]),
                )
                for outline, _ in shapes(mask, mask=mask > 0, connectivity=4)
            ]
            found += parts
            times += [dates[time]] * len(parts)
    carried = out_of_grid(np.array(found, object), geobox, crs)
    frame = gpd.GeoDataFrame({"time": pd.Series(times, dtype="datetime64[ns]")}, geometry=carried.placed, crs=crs)[
        carried.some
    ].reset_index(drop=True)
    frame.attrs["times"] = dates
    return frame
