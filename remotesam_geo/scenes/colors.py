"""What of a scene is red, green and blue, and which pixels are valid: any shape users have."""

import logging
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.xr import spatial_dims

from remotesam_geo.errors import InputError
from remotesam_geo.raster.nesting import equal
from remotesam_geo.stac.bands import RGB

from .read_block import SOURCE, VALID

Array = npt.NDArray[Any]

BAND_DIMS = ("band", "bands", "channel", "channels", "wavelength", "rgb", "c")
REFLECTANCE_UNIT = "reflectance"

SENSORS = (
    ("b04", "b03", "b02"),  # Sentinel-2
    ("sr_b4", "sr_b3", "sr_b2"),  # Landsat 8 and 9
    ("b4", "b3", "b2"),
)
LANDSAT_7 = (
    {"b7", "sr_b7"},
    {"b6", "sr_b6"},
)  # what Landsat 4 to 7 have and lack of surface reflectance

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ColorBand:
    """One colour of a scene."""

    data: xr.DataArray  # (time,) y, x
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    reflectance: bool = False


@dataclass(frozen=True, kw_only=True)
class Colors:
    """A scene taken apart.

    Args:
        planes: Red, green and blue.
        masks: What is 0 where a pixel is not valid.
        missing: Nodata of each colour, None where masks or NaN say it.
    """

    planes: tuple[ColorBand, ...]
    masks: tuple[xr.DataArray, ...]
    missing: tuple[float | None, ...] | None


def rgb_of(names: Sequence[Any]) -> tuple[str, str, str] | None:
    """The names of red, green and blue among names of bands, as the common sensors have them; None where unknown.

    Examples:
        >>> rgb_of(["B02", "B03", "B04", "B08"])
        ('B04', 'B03', 'B02')
        >>> rgb_of(["band_1", "band_2", "band_3"])
    """
    known = {str(name).lower(): str(name) for name in names}
    for colors in (RGB, *SENSORS):
        has, lacks = LANDSAT_7
        numbers: tuple[str, ...] = colors
        if colors in SENSORS[1:] and has & set(known) and not lacks & set(known):
            numbers = tuple(f"{name[:-1]}{int(name[-1]) - 1}" for name in colors)
        if set(numbers) <= set(known):
            red, green, blue = (known[name] for name in numbers)
            return red, green, blue
    return None


def check_bands(bands: Any) -> None:
    """Check what names red, green and blue.

    Raises:
        InputError: It is neither None, a name, nor one or three names or positions.
    """
    if bands is None or (isinstance(bands, str) and bands.strip()):
        return
    listed = hasattr(bands, "__iter__") and not isinstance(bands, str | bytes | Mapping | Set)
    names = list(bands) if listed else []
    if len(names) not in (1, 3) or not all(map(_names_a_band, names)):
        raise InputError(
            f"bands={bands!r} is not allowed: give three names or positions from 1, such as ['red', 'green', 'blue'], "
            "or one for grey"
        )


def _names_a_band(name: Any) -> bool:
    if isinstance(name, str):
        return bool(name.strip())
    return isinstance(name, int | np.integer) and not isinstance(name, bool) and bool(name >= 1)


def colors_of(scene: xr.Dataset | xr.DataArray, bands: str | Sequence[str | int] | None) -> Colors:
    """Take a scene apart.

    Args:
        scene: A Dataset, or an array with bands first, last, or none.
        bands: Three names or positions, one for grey, None for red, green and blue.

    Raises:
        InputError: It cannot be understood: what there is, and what to do.
    """
    check_bands(bands)
    names = [bands] if isinstance(bands, str) else None if bands is None else list(bands)
    if isinstance(scene, xr.Dataset):
        return _colors_of_dataset(scene, names)
    if isinstance(scene, xr.DataArray):
        return _colors_of_array(scene, names)
    raise InputError(
        f"render takes an xarray Dataset or DataArray, not {type(scene).__name__}; a file is opened "
        "with open_raster(path)"
    )


def _colors_of_dataset(scene: xr.Dataset, bands: Sequence[str | int] | None) -> Colors:
    names = [str(name) for name in scene.data_vars if name not in (VALID, SOURCE, "alpha")]
    if bands is None:
        bands = rgb_of(names) or names
        if len(bands) == 1 and scene[names[0]].ndim > 2 and _band_dim(scene[names[0]]):
            return _colors_of_array(scene[names[0]], None)
        if len(bands) not in (1, 3):
            raise _ambiguous_bands_error(names)
    if len(bands) not in (1, 3) or not all(name in names for name in bands):
        raise InputError(
            f"no bands {list(bands)} to make a picture of; there is: {', '.join(names)}. "
            "Name three, bands=['red', 'green', 'blue'], or one for grey."
        )
    planes = [_color_band(scene[name]) for name in (bands if len(bands) == 3 else [*bands] * 3)]
    return _checked_colors(planes, [scene[name] for name in (VALID, "alpha") if name in scene.data_vars])


def _colors_of_array(array: xr.DataArray, bands: Sequence[str | int] | None) -> Colors:
    dim = _band_dim(array)
    if dim is None:
        if bands is not None:
            raise InputError(f"bands={list(bands)}: the array {array.dims} has no band dimension")
        return _checked_colors([_color_band(array)] * 3, [])
    labels = _band_labels(array, dim)
    count = len(labels)
    places = _color_band_positions(labels, bands)
    planes = [_color_band(array.isel({dim: place}, drop=True)) for place in places]
    alpha = [labels.index(name) for name in ("alpha", "a") if name in labels]
    masks = [array.isel({dim: place}, drop=True) for place in alpha]
    if count == 4 and not alpha and not any(isinstance(label, str) for label in labels):
        log.info("the fourth band is taken as near infrared and left out; name it 'alpha' if it is")
    return _checked_colors(planes, masks)


def _band_labels(array: xr.DataArray, dim: str) -> list[str | int]:
    """Names of the bands as the array has them, else their numbers from 1."""
    count = array.sizes[dim]
    if dim in array.coords and array.coords[dim].dtype.kind in "UOT":
        return [str(value).lower() for value in array.coords[dim].values]
    named = array.attrs.get("long_name")
    if isinstance(named, tuple | list) and len(named) == count:
        return [str(value).lower() for value in named]
    return list(range(1, count + 1))


def _color_band_positions(labels: list[str | int], bands: Sequence[str | int] | None) -> list[int]:
    if bands is None:
        if (colors := rgb_of([name for name in labels if isinstance(name, str)])) is not None:
            bands = colors
        elif len(labels) == 1:
            return [0, 0, 0]
        elif len(labels) in (3, 4):
            return [0, 1, 2]
        else:
            raise _ambiguous_bands_error(labels)
    places = []
    for band in bands:
        if isinstance(band, str) and band.lower() in labels:
            places.append(labels.index(band.lower()))
        elif isinstance(band, int | np.integer) and 1 <= band <= len(labels):
            places.append(int(band) - 1)
    if len(places) != len(bands) or len(places) not in (1, 3):
        raise InputError(
            f"no bands {list(bands)} to make a picture of; there is: {', '.join(map(str, labels))}. "
            "Name three, or one for grey."
        )
    return places * 3 if len(places) == 1 else places


def _ambiguous_bands_error(names: Sequence[str | int]) -> InputError:
    return InputError(
        f"the scene has {len(names)} bands, and it is not known which are red, green and blue; there is: "
        f"{', '.join(map(str, names))}. Name three of them in this order, bands=[...], or one for grey"
    )


def _band_dim(array: xr.DataArray) -> str | None:
    """The dimension of colours: neither of the spatial two, nor time."""
    space = _spatial_dims_of_colors(array)
    rest = [
        str(dim)
        for dim in array.dims
        if dim not in space and dim != "time" and not (dim in array.coords and array.coords[dim].dtype.kind == "M")
    ]
    named = [dim for dim in rest if dim.lower() in BAND_DIMS]
    if len(rest) > 1:
        raise InputError(
            f"the array has dimensions {array.dims}: beside time, band and two of space none can be "
            "understood; select or stack them first"
        )
    return next(iter(named or rest), None)


def _spatial_dims_of_colors(array: xr.DataArray) -> tuple[str, str]:
    found = spatial_dims(array)
    if found is None:
        others = [str(dim) for dim in array.dims if str(dim).lower() not in (*BAND_DIMS, "time")]
        found = (others[-2], others[-1]) if len(others) >= 2 else None
    if found is None:
        raise InputError(f"the array has dimensions {array.dims}: no two of them are space")
    return str(found[0]), str(found[1])


def _color_band(array: xr.DataArray) -> ColorBand:
    if array.dtype.kind not in "uif":
        raise InputError(f"band {array.name} holds {array.dtype}, which is no picture")
    attrs = array.attrs
    nodata = attrs.get("nodata", attrs.get("_FillValue"))
    return ColorBand(
        data=array.transpose(..., *_spatial_dims_of_colors(array)),
        scale=float(attrs.get("scale_factor", 1.0)),
        offset=float(attrs.get("add_offset", 0.0)),
        nodata=None if nodata is None else float(nodata),
        reflectance=attrs.get("quantity") == REFLECTANCE_UNIT,
    )


def _checked_colors(planes: Sequence[ColorBand], masks: Sequence[xr.DataArray]) -> Colors:
    first = planes[0].data
    if any(plane.data.dims != first.dims or plane.data.shape != first.shape for plane in planes):
        shapes = [dict(plane.data.sizes) for plane in planes]
        raise InputError(f"the bands differ in shape: {shapes}; bring them onto one grid first")
    strange = [mask.name for mask in masks if not set(mask.dims) <= set(first.dims)]
    if strange:
        raise InputError(f"{strange[0]!r} has other dimensions than the bands, {first.dims}")
    turned = [mask.broadcast_like(first).transpose(*first.dims) for mask in masks]
    nodata = tuple(plane.nodata for plane in planes)
    known = bool(turned) or all(value is None or math.isnan(value) for value in nodata)
    return Colors(planes=tuple(planes), masks=tuple(turned), missing=None if known else nodata)


def paint(
    red: Array,
    green: Array,
    blue: Array,
    *masks: Array,
    limits: Sequence[tuple[float, float]] | None,
    missing: tuple[float | None, ...] | None,
) -> tuple[Array, Array]:
    """Three arrays (... h x w) to uint8 (... h x w x 3) and validity (... h x w)."""
    planes = (red, green, blue)
    valid = valid_of(planes, masks, missing)
    if limits is not None and not len(limits) and valid.any():
        raise InputError(
            "the sample that limits were to be taken from held no valid pixel, but there are some: give "
            "stretch=(low, high)"
        )
    ready = limits is None and all(plane.dtype == np.uint8 for plane in planes)
    if ready and valid.ndim == 2 and valid.size and valid.all():
        return cv2.merge(planes), valid  # many times faster than NumPy's interleaving
    out = np.empty((*red.shape, 3), np.uint8)
    for position, plane in enumerate(planes):
        if not limits:
            out[..., position] = np.where(valid, plane if limits is None else 0, 0)
            continue
        low, high = limits[position]
        wide = plane.astype(np.promote_types(plane.dtype, np.float32))
        with np.errstate(invalid="ignore"):
            level = (wide - wide.dtype.type(low)) * wide.dtype.type(255 / (high - low))
            out[..., position] = np.where(valid, np.clip(level + 0.5, 0, 255), 0)
    return out, valid


def valid_of(planes: Sequence[Array], masks: Sequence[Array], missing: tuple[float | None, ...] | None) -> Array:
    """Which pixels are valid: by masks, by nodata where there are none, and never where NaN is."""
    valid = np.ones(planes[0].shape, bool)
    for mask in masks:
        valid &= mask > 0
    if missing is not None:
        gaps = [equal(plane, value) for plane, value in zip(planes, missing, strict=True)]
        # in 8-bit colours one band may well be 0 in a shadow; elsewhere nodata is out of range
        ready = all(plane.dtype == np.uint8 for plane in planes)
        valid &= ~(np.logical_and if ready else np.logical_or).reduce(gaps)
    for plane in planes:
        if plane.dtype.kind == "f":
            valid &= np.isfinite(plane)
    return valid
