"""The grid of an xarray object, with its coordinates checked: a grid is even, or it is refused."""

from typing import Any

import numpy as np
import numpy.typing as npt
import odc.geo.xr  # noqa: F401 - gives arrays their .odc
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import spatial_dims
from pyproj import CRS

from remotesam_geo.errors import InputError

__all__ = ["grid_of"]

EVEN = 0.1
"""Largest distance, in pixels, between a coordinate and its place on an even grid; room for rounded coordinates."""


def grid_of(scene: xr.Dataset | xr.DataArray, name: str = "this scene") -> GeoBox:
    """The regular grid with a CRS that an xarray object lies on.

    Args:
        scene: A Dataset or DataArray with two dimensions of space.
        name: What to call it in messages.

    Returns:
        The grid through all coordinates. odc-geo takes its step from the first two, which is far off at the other
        end where coordinates are rounded or uneven.

    Raises:
        InputError: There is no CRS, or the coordinates are no even grid.
    """
    dims = spatial_dims(scene, relaxed=True)
    for dim in dims or ():
        if dim in scene.coords and scene.coords[dim].ndim == 1:
            _check_even(scene.coords[dim], str(dim), name)
    geobox: Any = scene.odc.geobox
    if geobox is None and scene.odc.crs is not None:
        raise InputError(
            f"{name} has a CRS but no regular grid: its coordinates are missing, two-dimensional, or a single value "
            "without a GeoTransform. Give each dimension of space one evenly spaced coordinate, or warp the data to a "
            "grid first"
        )
    if geobox is None or geobox.crs is None:
        raise InputError(
            f"{name} has no CRS, so its place on Earth is unknown: assign one with scene.rio.write_crs('EPSG:...'), "
            "or pass a picture, a NumPy array of H x W x 3"
        )
    if not isinstance(geobox, GeoBox):
        raise InputError(
            f"{name} lies on a {type(geobox).__name__}, not on a regular grid: warp it first, for example with "
            "scene.odc.reproject('EPSG:...')"
        )
    known = CRS.from_user_input(str(geobox.crs))
    if not (known.is_geographic or known.is_projected):
        raise InputError(
            f"{name} has a {known.type_name}, {known.name!r}, whose place on Earth is unknown: assign a geographic or "
            "projected CRS with scene.rio.write_crs('EPSG:...'), or pass a picture, a NumPy array of H x W x 3"
        )
    return _through_all(scene, geobox)


def _check_even(coordinate: xr.DataArray, dim: str, name: str) -> None:
    try:
        values = np.asarray(coordinate.values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the coordinate {dim!r} of {name} holds {coordinate.dtype}, not numbers"
        ) from error
    if not np.isfinite(values).all():
        raise InputError(f"the coordinate {dim!r} of {name} holds NaN or infinite values")
    if len(values) < 2:
        return
    step = (values[-1] - values[0]) / (len(values) - 1)
    off = np.abs(values - (values[0] + step * np.arange(len(values))))
    if step and off.max() <= EVEN * abs(step):
        return
    steps = np.diff(values)
    usual = float(np.median(steps))
    worst = int(np.argmax(np.abs(steps - usual)))
    mostly = (
        f"most steps are {usual:g}" if np.sum(steps * usual > 0) == len(steps) else "not sorted"
    )
    raise InputError(
        f"the coordinate {dim!r} of {name} is not evenly spaced ({mostly}): {values[worst]:.10g} is "
        f"followed by {values[worst + 1]:.10g} (position {worst + 1}). Rows or columns are missing, repeated or out of "
        f"order: sort them with scene.sortby({dim!r}), fill the gaps with reindex, or process the even parts one by one"
    )


def _through_all(scene: xr.Dataset | xr.DataArray, geobox: GeoBox) -> GeoBox:
    """The grid with its steps taken from the whole of each coordinate."""
    y, x = spatial_dims(scene, relaxed=True) or ("", "")
    a, b, c, d, e, f = geobox.affine[:6]
    if b or d or not {x, y} <= set(scene.coords):
        return geobox
    a, c = _line(scene.coords[x].values, a, c)
    e, f = _line(scene.coords[y].values, e, f)
    return GeoBox(geobox.shape, Affine(a, 0, c, 0, e, f), geobox.crs)


def _line(values: npt.NDArray[Any], step: float, start: float) -> tuple[float, float]:
    """Step and edge of the first pixel: as given where they hold to the far end, else through both ends."""
    count = len(values)
    first, last = float(values[0]), float(values[-1])
    if count < 2 or abs(start + step * (count - 0.5) - last) <= 0.01 * abs(step):
        return step, start
    step = (last - first) / (count - 1)
    return step, first - step / 2
