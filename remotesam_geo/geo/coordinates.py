"""The grid of an xarray object, with its coordinates checked: a grid is even, or it is refused."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from affine import Affine, AffineError
from odc.geo.gcp import GCPGeoBox
from odc.geo.geobox import GeoBox
from odc.geo.xr import spatial_dims
from pyproj import CRS

from remotesam_geo.errors import InputError

__all__ = ["check_horizontal", "grid_of"]

Floats = npt.NDArray[np.float64]

TOLERANCE = 0.05
"""Pixels by which a coordinate may lie off an even grid."""
MOST_TIMES, MOST_AWAY = 4096, 1e9
"""Largest ratio between the scene's pixels and those of its stored transform, and largest distance between them."""
MOST_ROUNDING, MOST_ROUNDING_OF_FEW, FEW = 0.45, 0.15, 32
"""Pixels by which rounding to single precision may move a coordinate; less on axes of few coordinates."""


def grid_of(scene: xr.Dataset | xr.DataArray, name: str = "this scene") -> GeoBox:
    """Return the regular grid with a CRS that an xarray object lies on.

    Coordinates are centres of pixels. Where the object also stores an affine transform (`GeoTransform` of its
    `spatial_ref`, or the attribute `transform`), the two must agree: the coordinates are the transform's own pixels,
    or a regular part of them (cropped, flipped, every n-th, averages of n).

    Args:
        scene: A Dataset or DataArray with two dimensions of space.
        name: What to call it in messages.

    Raises:
        InputError: There is no CRS, the coordinates are not evenly spaced, or they contradict the stored transform.

    Examples:
        >>> import numpy as np, xarray as xr
        >>> place = {"y": [15.0, 5.0], "x": [5.0, 15.0, 25.0]}
        >>> scene = xr.DataArray(np.zeros((2, 3)), dims=("y", "x"), coords=place)
        >>> grid_of(scene.odc.assign_crs("EPSG:32631")).boundingbox.bbox
        (0.0, 0.0, 30.0, 20.0)
    """
    geobox = _geobox_through_all(scene, name)
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
    check_horizontal(geobox.crs, name)
    return geobox


def check_horizontal(crs: Any, name: str) -> None:
    """Check that coordinates of a CRS have a place on the ground.

    Args:
        crs: What pyproj takes as a CRS.
        name: What has it, in messages.

    Raises:
        InputError: It is geocentric, vertical, or of a site only.
    """
    known = CRS.from_user_input(crs if isinstance(crs, CRS) else str(crs))
    if not (known.is_geographic or known.is_projected):
        raise InputError(
            f"the CRS of {name}, {known.name!r}, is a {known.type_name}, whose place on Earth is unknown: give a "
            "geographic or projected CRS"
        )


def _geobox_through_all(scene: xr.Dataset | xr.DataArray, name: str) -> GeoBox | GCPGeoBox | None:
    """The grid through all coordinates; odc-geo takes its step from the first two."""
    try:
        found: GeoBox | GCPGeoBox | None = scene.odc.geobox
        dims = scene.odc.spatial_dims
    except AffineError:  # two coordinates alike, or a stored transform without area
        for dim in spatial_dims(scene, relaxed=True) or ():
            _evenly_spaced_axis(scene[dim], 1.0, name)
        raise InputError(
            f"the transform that {name} stores has pixels without area: write a new one with "
            "scene.rio.write_transform(scene.rio.transform(recalc=True))"
        ) from None
    if dims is None or isinstance(found, GCPGeoBox):
        return found
    y, x = scene.odc.y, scene.odc.x
    if y is None or x is None or y.ndim > 1 or x.ndim > 1:
        _check_curved(scene, found, name)
        return found
    stored = _stored_transform(scene)
    if stored is not None and (stored.b or stored.d):
        place = stored * _grid_from_coordinates(_pixel_axis(x, name), _pixel_axis(y, name))
    else:
        steps = (None, None) if stored is None else (stored.a, stored.e)
        place = _grid_from_coordinates(_evenly_spaced_axis(x, steps[0], name), _evenly_spaced_axis(y, steps[1], name))
        if stored is not None:
            place = _coordinates_on_stored_transform(scene, (x, y), place, stored, name)
    return GeoBox((y.size, x.size), place, scene.odc.crs)


def _stored_transform(scene: xr.Dataset | xr.DataArray) -> Affine | None:
    """The transform that a scene stores beside its coordinates; the identity says that it has none."""
    text = "" if scene.odc.crs_coord is None else scene.odc.crs_coord.attrs.get("GeoTransform", "")
    try:
        numbers = [float(number) for number in str(text).split()]
        found = Affine.from_gdal(*numbers) if len(numbers) == 6 else None
        if found is None and isinstance(scene.attrs.get("transform"), tuple | list | Affine):
            found = Affine(*map(float, tuple(scene.attrs["transform"])[:6]))
    except (TypeError, ValueError):
        return None
    if found is None or not all(map(math.isfinite, found[:6])) or found.determinant == 0:
        return None
    return None if found.is_identity else found


def _grid_from_coordinates(x: tuple[float, float], y: tuple[float, float]) -> Affine:
    return Affine(x[1], 0.0, x[0] - x[1] / 2, 0.0, y[1], y[0] - y[1] / 2)


def _coordinate_numbers(axis: xr.DataArray, name: str) -> Floats:
    try:
        values = axis.values.astype(np.float64)
    except (TypeError, ValueError):
        raise InputError(f"the coordinate {str(axis.name)!r} of {name} holds {axis.dtype}, not numbers") from None
    if not values.size or not np.isfinite(values).all():
        raise InputError(
            f"the coordinate {str(axis.name)!r} of {name} holds NaN or infinite values, or nothing: drop "
            f"those rows or columns, for example scene.dropna({str(axis.dims[0])!r})"
        )
    return np.asarray(values)


def _coordinate_rounding(axis: xr.DataArray, values: Floats) -> float:
    """How far rounding to single precision (or less) may have moved a coordinate."""
    largest = np.float64(np.abs(values).max())
    if axis.dtype == np.float16:
        return float(np.spacing(np.float16(largest))) / 2
    single = values.astype(np.float32)
    exact = np.float32(largest) if np.array_equal(single, values) else largest
    return float(np.spacing(exact)) / 2


def _evenly_spaced_axis(axis: xr.DataArray, fallback: float | None, name: str) -> tuple[float, float]:
    """The first coordinate and the step of an axis, whose coordinates must be evenly spaced."""
    values = _coordinate_numbers(axis, name)
    dim, count = str(axis.name), len(values)
    if count == 1:
        if fallback is None:
            raise InputError(
                f"the coordinate {dim!r} of {name} is a single number, {values[0]:.10g}, which does not say how large "
                "a pixel is: store the transform too, scene.rio.write_transform(affine)"
            )
        return float(values[0]), fallback
    step = float(values[-1] - values[0]) / (count - 1)
    rounding = _coordinate_rounding(axis, values)
    first = float(values[0])
    if rounding > 1e-3 * abs(step):  # the ends are rounded too: a line through all of them
        numbers = np.arange(count) - (count - 1) / 2
        step = float(numbers @ (values - values.mean()) / (numbers @ numbers))
        first = float(values.mean() - step * (count - 1) / 2)
    steps = np.diff(values)
    off = np.abs(first + step * np.arange(count) - values)
    if step and (np.sign(steps) == np.sign(step)).all() and off.max() <= (TOLERANCE * abs(step) + rounding):
        most = MOST_ROUNDING if count >= FEW else MOST_ROUNDING_OF_FEW
        if rounding > most * abs(step):
            raise InputError(
                f"the coordinate {dim!r} of {name} is rounded to single precision, which moves pixels of "
                f"{abs(step):.6g} by up to {rounding:.3g}: store it as float64"
            )
        return first, step
    usual = float(np.percentile(steps[steps != 0], 50, method="nearest")) if steps.any() else 0.0
    worst = int(np.argmax(np.abs(steps - usual)))
    raise InputError(
        f"the coordinate {dim!r} of {name} is not evenly spaced: {dim}[{worst}] = {values[worst]:.10g} and "
        f"{dim}[{worst + 1}] = {values[worst + 1]:.10g} are {steps[worst]:.6g} apart, most others {usual:.6g}. "
        f"Pixels would be placed wrongly. Sort them and fill what is missing (scene.sortby({dim!r}), "
        f"scene.reindex({dim}=...)), or warp the scene onto an even grid (scene.interp({dim}=...))"
    )


def _pixel_axis(axis: xr.DataArray, name: str) -> tuple[float, float]:
    """An axis of a rotated scene, which counts pixels."""
    if axis.attrs.get("units") != "pixel":
        raise InputError(
            f"the transform that {name} stores is rotated, but its coordinate {str(axis.name)!r} runs along one axis "
            f"of the CRS: one of them is wrong. Drop the coordinate, or write the transform that is right "
            "(scene.rio.write_transform)"
        )
    return _evenly_spaced_axis(axis, 1.0, name)


def _coordinates_on_stored_transform(
    scene: xr.Dataset | xr.DataArray,
    axes: tuple[xr.DataArray, xr.DataArray],
    place: Affine,
    stored: Affine,
    name: str,
) -> Affine:
    """The coordinates' transform, on the very pixels of the stored one, which must be the same or a part."""
    corners = "GeoTransform" not in ({} if scene.odc.crs_coord is None else scene.odc.crs_coord.attrs)
    found = []
    for axis, edge, step, (own_edge, own_step) in zip(
        axes,
        (place.c, place.f),
        (place.a, place.e),
        ((stored.c, stored.a), (stored.f, stored.e)),
        strict=True,
    ):
        values = _coordinate_numbers(axis, name)
        slack = TOLERANCE + _coordinate_rounding(axis, values) / abs(own_step)
        times = round(step / own_step)
        # positions in pixels of the stored transform, of the first centre and of the last
        first = (edge + step / 2 - own_edge) / own_step
        drift = abs(step / own_step - times) * (len(values) - 1)
        half = round(first * 2) / 2  # averages of an even number of pixels lie on their edges
        on_centres = abs(times) > 1 or half % 1 == 0.5
        # stackstac labels pixels by their upper left corners, and keeps the transform as an attribute
        on_corners = corners and times == 1 and half % 1 == 0
        known = 1 <= abs(times) <= MOST_TIMES and abs(first) < MOST_AWAY and max(drift, abs(first - half)) <= slack
        if not known or not (on_centres or on_corners):
            raise InputError(
                f"the coordinate {str(axis.name)!r} of {name} (first {values[0]:.10g}, {step:.6g} apart) contradicts "
                f"the transform stored with it (pixels of {own_step:.6g}, edges at {own_edge:.10g}): they must be "
                "centres of its pixels. If the coordinates are right, write a new transform with "
                "scene.rio.write_transform(scene.rio.transform(recalc=True)); else assign the right coordinates"
            )
        exact = times * own_step
        middle = half + 0.5 if on_corners else half
        found.append((own_edge + middle * own_step - exact / 2, exact))
    (west, across), (north, down) = found
    return Affine(across, 0.0, west, 0.0, down, north)


def _check_curved(scene: xr.Dataset | xr.DataArray, found: GeoBox | None, name: str) -> None:
    """Refuse coordinates of two dimensions that no affine transform describes."""
    dims = scene.odc.spatial_dims
    curved: dict[str, Any] = {
        str(name): coordinate
        for name, coordinate in scene.coords.items()
        if coordinate.ndim == 2 and set(coordinate.dims) == set(dims) and coordinate.dtype.kind == "f"
    }
    if found is None and curved and scene.odc.crs is not None:
        raise InputError(
            f"the coordinates {', '.join(curved)} of {name} have two dimensions (a curved grid), so it has no regular "
            "grid: warp the scene onto a regular grid first"
        )
    x, y = (curved.get(str(axis.name)) if axis is not None else None for axis in (scene.odc.x, scene.odc.y))
    if found is None or x is None or y is None:
        return
    rows, columns = (np.arange(length) + 0.5 for length in (scene.sizes[dims[0]], scene.sizes[dims[1]]))
    a, b, c, d, e, f = found.transform[:6]
    across, down = np.meshgrid(columns, rows)
    off = np.hypot(
        x.transpose(*dims).values - (a * across + b * down + c),
        y.transpose(*dims).values - (d * across + e * down + f),
    )
    if not (off <= TOLERANCE * math.sqrt(abs(found.transform.determinant)) + 1e-6).all():
        raise InputError(
            f"the coordinates {x.name} and {y.name} of {name} have two dimensions and contradict the transform stored "
            "with them: drop the one that is wrong, or warp the scene onto a regular grid first"
        )
