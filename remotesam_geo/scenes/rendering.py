"""From a scene to what the network sees: 8-bit red, green and blue, and which pixels are valid.

One rule for the whole scene, so that neither tile nor chunk can change what a colour means: 8-bit pixels
pass untouched; everything else is stretched between two limits a band, which are known for reflectance,
read once from overviews where they are not, or given by the user.
"""

import json
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr
from affine import Affine
from dask.base import compute
from odc.geo.geobox import GeoBox
from odc.geo.xr import spatial_dims

from remotesam_geo.errors import InputError, RemoteSAMWarning

from .bands import RGB
from .blocks import SOURCE, VALID, read_block
from .raster import ReadPolicy
from .recipe import Recipe

Array = npt.NDArray[Any]

REFLECTANCE = (0.0, 0.3)  # black and white of surface reflectance in a picture
PERCENTILES = (2.0, 98.0)
_SAMPLE_SIDE = 512  # pixels across the overview from which percentiles are taken
_WINDOWS, _WINDOW = 4, 128  # windows a side, and their size, where there is no overview
_TIMES = 8  # times they are taken from
_BAND_DIMS = ("band", "bands", "channel", "channels", "wavelength", "rgb", "c")
_VALUES, _REFLECTANCE = "values", "reflectance"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """What becomes black and what white, for red, green and blue.

    Args:
        limits: Lowest and highest value of each.
        of: What the limits are in: "reflectance", or "values" as they are in the scene.

    Example:
        >>> Stretch(limits=((0, 3000),) * 3).limits[0]
        (0, 3000)
    """

    limits: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    of: str = _VALUES

    def __post_init__(self) -> None:
        if not all(math.isfinite(low + high) and low < high for low, high in self.limits):
            raise InputError(
                f"stretch limits {self.limits}: give a lower and a higher value for each of red, "
                "green and blue"
            )
        if self.of not in {_VALUES, _REFLECTANCE}:
            raise InputError(f"stretch of {self.of!r}: give 'reflectance' or 'values'")

    def to_json(self) -> str:
        """As JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        try:
            doc = json.loads(text)
            red, green, blue = (tuple(map(float, pair)) for pair in doc["limits"])
            return cls(limits=(red, green, blue), of=doc.get("of", _VALUES))  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError):
            raise InputError(f"not a stretch: {text[:80]!r}") from None


@dataclass(frozen=True, kw_only=True)
class _Plane:
    """One colour of a scene."""

    data: xr.DataArray  # (time,) y, x
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    reflectance: bool = False


@dataclass(frozen=True, kw_only=True)
class _Colors:
    """A scene taken apart.

    Args:
        planes: Red, green and blue.
        masks: What is 0 where a pixel is not valid.
        missing: Nodata of each colour, None where masks or NaN say it.
    """

    planes: tuple[_Plane, ...]
    masks: tuple[xr.DataArray, ...]
    missing: tuple[float | None, ...] | None


def render(
    scene: xr.Dataset | xr.DataArray,
    bands: str | Sequence[str | int] | None = None,
    stretch: Any = None,
    *,
    policy: ReadPolicy | None = None,
) -> xr.Dataset:
    """Bring a scene to 8-bit red, green and blue, lazily where it is lazy.

    Args:
        scene: A Dataset with red, green and blue, or a DataArray (..., band, y, x) or (..., y, x, band)
            of 1, 3 or 4 bands; eager or Dask, any spatial dimensions that odc-geo knows.
        bands: Three names (or positions, from 1), or one for grey. None for red, green and blue.
        stretch: None for the default: 8-bit untouched, reflectance 0 to 0.3, else percentiles 2 to
            98, read once and logged. Or "percentiles"; (low, high); three such pairs; a mapping of
            band to pair; a `Stretch`, or `attrs["stretch"]` of another rendered scene.
        policy: How to read overviews, for percentiles.

    Returns:
        A Dataset with `rgb` (..., y, x, band; uint8, 0 where not valid) and `valid` (..., y, x); its
        `attrs["stretch"]` records the limits, "" where pixels passed untouched.

    Raises:
        InputError: No such bands, a shape that cannot be understood, limits of other units.

    Example:
        >>> import numpy as np, xarray as xr
        >>> picture = xr.DataArray(np.full((3, 2, 2), 7, "uint8"), dims=("band", "y", "x"))
        >>> render(picture).rgb.dtype, render(picture).attrs["stretch"]
        (dtype('uint8'), '')
    """
    colors = _colors(scene, bands)
    limits = _limits(scene, colors, stretch, policy)
    numbers = None if limits is None else _in_numbers(limits, colors.planes)
    rgb, valid = xr.apply_ufunc(
        _paint,
        *(plane.data.variable for plane in colors.planes),
        *(mask.variable for mask in colors.masks),
        kwargs={"limits": numbers, "missing": colors.missing},
        output_core_dims=[["band"], []],
        dask="parallelized",
        output_dtypes=[np.uint8, np.bool_],
        dask_gufunc_kwargs={"output_sizes": {"band": 3}},
    )
    kept = {
        name: coordinate
        for name, coordinate in colors.planes[0].data.coords.items()
        if name not in _BAND_DIMS
    }
    out = xr.Dataset(
        {"rgb": rgb, VALID: valid},
        coords=kept | {"band": ("band", list(RGB))},
        attrs={"stretch": "" if limits is None else limits.to_json()},
    )
    if "spatial_ref" in out.coords:
        for name in out.data_vars:
            out[name].encoding["grid_mapping"] = "spatial_ref"
    return out


def _paint(
    red: Array,
    green: Array,
    blue: Array,
    *masks: Array,
    limits: Sequence[tuple[float, float]] | None,
    missing: tuple[float | None, ...] | None,
) -> tuple[Array, Array]:
    """Three arrays (... h x w) to uint8 (... h x w x 3) and validity (... h x w)."""
    planes = (red, green, blue)
    valid = np.ones(red.shape, bool)
    for mask in masks:
        valid &= mask != 0
    if missing is not None:
        gaps = [
            np.zeros_like(valid) if value is None else plane == value
            for plane, value in zip(planes, missing, strict=True)
        ]
        # in 8-bit colours one band may well be 0 in a shadow; elsewhere nodata is out of range
        ready = all(plane.dtype == np.uint8 for plane in planes)
        valid &= ~(np.logical_and if ready else np.logical_or).reduce(gaps)
    for plane in planes:
        if plane.dtype.kind == "f":
            valid &= np.isfinite(plane)
    out = np.empty((*red.shape, 3), np.uint8)
    for position, plane in enumerate(planes):
        if limits is None:
            out[..., position] = np.where(valid, plane, 0)
            continue
        low, high = limits[position]
        wide = plane.astype(np.promote_types(plane.dtype, np.float32))
        with np.errstate(invalid="ignore"):
            level = (wide - wide.dtype.type(low)) * wide.dtype.type(255 / (high - low))
            out[..., position] = np.where(valid, np.clip(level + 0.5, 0, 255), 0)
    return out, valid


def _colors(scene: xr.Dataset | xr.DataArray, bands: str | Sequence[str | int] | None) -> _Colors:
    if isinstance(scene, xr.Dataset):
        return _of_dataset(scene, [bands] if isinstance(bands, str) else bands)
    if isinstance(scene, xr.DataArray):
        return _of_array(scene, [bands] if isinstance(bands, str) else bands)
    raise InputError(
        f"render takes an xarray Dataset or DataArray, not {type(scene).__name__}; a file is opened "
        "with open_raster(path)"
    )


def _of_dataset(scene: xr.Dataset, bands: Sequence[str | int] | None) -> _Colors:
    names = [str(name) for name in scene.data_vars if name not in (VALID, SOURCE, "alpha")]
    if bands is None:
        bands = RGB if set(RGB) <= set(names) else names
        if len(bands) == 1 and scene[names[0]].ndim > 2 and _band_dim(scene[names[0]]):
            return _of_array(scene[names[0]], None)
    if len(bands) not in (1, 3) or not all(name in names for name in bands):
        raise InputError(
            f"no bands {list(bands)} to make a picture of; there is: {', '.join(names)}. "
            "Name three, bands=['red', 'green', 'blue'], or one for grey."
        )
    planes = [_plane(scene[name]) for name in (bands if len(bands) == 3 else [*bands] * 3)]
    return _checked(planes, [scene[name] for name in (VALID, "alpha") if name in scene.data_vars])


def _of_array(array: xr.DataArray, bands: Sequence[str | int] | None) -> _Colors:
    dim = _band_dim(array)
    if dim is None:
        if bands is not None:
            raise InputError(f"bands={list(bands)}: the array {array.dims} has no band dimension")
        return _checked([_plane(array)] * 3, [])
    labels = _labels(array, dim)
    count = len(labels)
    places = _places(labels, bands)
    planes = [_plane(array.isel({dim: place}, drop=True)) for place in places]
    alpha = [labels.index(name) for name in ("alpha", "a") if name in labels]
    masks = [array.isel({dim: place}, drop=True) for place in alpha]
    if count == 4 and not alpha and not any(isinstance(label, str) for label in labels):
        log.info("the fourth band is taken as near infrared and left out; name it 'alpha' if it is")
    return _checked(planes, masks)


def _labels(array: xr.DataArray, dim: str) -> list[str | int]:
    """Names of the bands as the array has them, else their numbers from 1."""
    count = array.sizes[dim]
    if dim in array.coords and array.coords[dim].dtype.kind in "UOT":
        return [str(value).lower() for value in array.coords[dim].values]
    named = array.attrs.get("long_name")
    if isinstance(named, tuple | list) and len(named) == count:
        return [str(value).lower() for value in named]
    return list(range(1, count + 1))


def _places(labels: list[str | int], bands: Sequence[str | int] | None) -> list[int]:
    if bands is None:
        if set(RGB) <= set(labels):
            bands = RGB
        elif len(labels) == 1:
            return [0, 0, 0]
        elif len(labels) in (3, 4):
            return [0, 1, 2]
        else:
            bands = ()
    places = []
    for band in bands:
        if isinstance(band, str) and band.lower() in labels:
            places.append(labels.index(band.lower()))
        elif isinstance(band, int) and 1 <= band <= len(labels):
            places.append(band - 1)
    if len(places) != len(bands) or len(places) not in (1, 3):
        raise InputError(
            f"no bands {list(bands)} to make a picture of; there is: {', '.join(map(str, labels))}. "
            "Name three, or one for grey."
        )
    return places * 3 if len(places) == 1 else places


def _band_dim(array: xr.DataArray) -> str | None:
    """The dimension of colours: neither of the spatial two, nor time."""
    space = _space(array)
    rest = [
        str(dim)
        for dim in array.dims
        if dim not in space
        and dim != "time"
        and not (dim in array.coords and array.coords[dim].dtype.kind == "M")
    ]
    named = [dim for dim in rest if dim.lower() in _BAND_DIMS]
    if len(rest) > 1:
        raise InputError(
            f"the array has dimensions {array.dims}: beside time, band and two of space none can be "
            "understood; select or stack them first"
        )
    return next(iter(named or rest), None)


def _space(array: xr.DataArray) -> tuple[str, str]:
    found = spatial_dims(array)
    if found is None:
        others = [str(dim) for dim in array.dims if str(dim).lower() not in (*_BAND_DIMS, "time")]
        found = (others[-2], others[-1]) if len(others) >= 2 else None
    if found is None:
        raise InputError(f"the array has dimensions {array.dims}: no two of them are space")
    return str(found[0]), str(found[1])


def _plane(array: xr.DataArray) -> _Plane:
    if array.dtype.kind not in "uif":
        raise InputError(f"band {array.name} holds {array.dtype}, which is no picture")
    attrs = array.attrs
    nodata = attrs.get("nodata", attrs.get("_FillValue"))
    return _Plane(
        data=array.transpose(..., *_space(array)),
        scale=float(attrs.get("scale_factor", 1.0)),
        offset=float(attrs.get("add_offset", 0.0)),
        nodata=None if nodata is None else float(nodata),
        reflectance=attrs.get("quantity") == _REFLECTANCE,
    )


def _checked(planes: Sequence[_Plane], masks: Sequence[xr.DataArray]) -> _Colors:
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
    return _Colors(planes=tuple(planes), masks=tuple(turned), missing=None if known else nodata)


def _limits(
    scene: xr.Dataset | xr.DataArray, colors: _Colors, stretch: Any, policy: ReadPolicy | None
) -> Stretch | None:
    """The limits to use, None where pixels pass untouched."""
    planes = colors.planes
    reflectance = all(plane.reflectance for plane in planes)
    ready = all(plane.data.dtype == np.uint8 for plane in planes)
    untouched = isinstance(stretch, str) and not stretch
    if stretch is None or untouched:
        if ready:
            return None
        if untouched:
            raise InputError(
                "the other scene's pixels passed untouched (stretch ''), but these are not 8-bit: "
                "leave stretch= out, or give limits"
            )
        if reflectance:
            return Stretch(limits=(REFLECTANCE,) * 3, of=_REFLECTANCE)
    if stretch is None or (isinstance(stretch, str) and stretch == "percentiles"):
        found = _percentiles(scene, colors, policy)
        told = ", ".join(f"{low:g} to {high:g}" for low, high in found.limits)
        text = (
            f"stretching by percentiles {PERCENTILES} of the whole scene: red, green, blue {told} "
            f"({found.of}). Hand attrs['stretch'] to other scenes to compare them."
        )
        if stretch is None:
            warnings.warn(text, RemoteSAMWarning, stacklevel=3)
        log.info(text)
        return found
    given = _given(stretch)
    if given.of == _REFLECTANCE and not reflectance:
        raise InputError(
            "the stretch is one of reflectance, but it is not known that the scene's numbers are: "
            "give limits of its values, (0, 3000) for example"
        )
    spans = [high - low for low, high in given.limits]
    if given.of == _VALUES and min(spans) < 1 and planes[0].data.dtype.kind in "ui":
        raise InputError(
            f"stretch limits {given.limits} on whole numbers ({planes[0].data.dtype}): for "
            "reflectance say Stretch(limits=..., of='reflectance')"
        )
    return given


def _given(stretch: Any) -> Stretch:
    """Limits as users write them."""
    if isinstance(stretch, Stretch):
        return stretch
    if isinstance(stretch, str):
        return Stretch.from_json(stretch)
    if isinstance(stretch, Mapping):
        if set(stretch) != set(RGB):
            raise InputError(f"stretch={dict(stretch)}: give a pair for each of red, green, blue")
        stretch = [stretch[name] for name in RGB]
    try:
        pairs = np.asarray(stretch, dtype=float)
    except (TypeError, ValueError):
        pairs = np.empty(0)
    if pairs.shape == (2,):
        pairs = np.tile(pairs, (3, 1))
    if pairs.shape != (3, 2):
        raise InputError(
            f"stretch={stretch!r}: give (low, high), three such pairs, 'percentiles', a Stretch, or "
            "attrs['stretch'] of a rendered scene"
        )
    red, green, blue = ((float(low), float(high)) for low, high in pairs)
    return Stretch(limits=(red, green, blue))


def _in_numbers(limits: Stretch, planes: Sequence[_Plane]) -> list[tuple[float, float]]:
    """Limits in the numbers that the scene holds."""
    if limits.of == _VALUES:
        return list(limits.limits)
    return [
        ((low - plane.offset) / plane.scale, (high - plane.offset) / plane.scale)
        for (low, high), plane in zip(limits.limits, planes, strict=True)
    ]


def _percentiles(
    scene: xr.Dataset | xr.DataArray, colors: _Colors, policy: ReadPolicy | None
) -> Stretch:
    sample = _overview(scene, colors, policy)
    if sample is None:
        sample = _windows(colors)
    if sample.shape[1] == 0:
        raise InputError(
            "the scene shows no valid pixel from which limits could be taken: give stretch=(low, high)"
        )
    low, high = np.percentile(sample, PERCENTILES, axis=1)
    high = np.maximum(high, low + 1e-6 * np.maximum(1, abs(low)))
    of = _REFLECTANCE if all(plane.reflectance for plane in colors.planes) else _VALUES
    if of == _REFLECTANCE:
        scales = np.array([plane.scale for plane in colors.planes])
        offsets = np.array([plane.offset for plane in colors.planes])
        low, high = low * scales + offsets, high * scales + offsets
    red, green, blue = ((float(a), float(b)) for a, b in zip(low, high, strict=True))
    return Stretch(limits=(red, green, blue), of=of)


def _overview(
    scene: xr.Dataset | xr.DataArray, colors: _Colors, policy: ReadPolicy | None
) -> Array | None:
    """A small version of every time of a scene with a recipe, its valid pixels: 3 x n."""
    try:
        recipe = Recipe.of(scene) if isinstance(scene, xr.Dataset) else None
    except InputError:
        recipe = None
    if recipe is None:
        return None
    height, width = recipe.geobox.shape
    step = max(1, math.ceil(max(height, width) / _SAMPLE_SIDE))
    small = GeoBox(
        (max(1, height // step), max(1, width // step)),
        recipe.geobox.transform * Affine.scale(step),
        recipe.geobox.crs,
    )
    names = [str(plane.data.name) for plane in colors.planes]

    def read(time: int) -> Array:
        block = read_block(recipe, small, time, policy=policy)
        return np.stack([block.bands[name][block.valid] for name in names])

    with ThreadPoolExecutor(8) as pool:
        return np.concatenate(list(pool.map(read, range(max(1, len(recipe.times))))), axis=1)


def _windows(colors: _Colors) -> Array:
    """Small windows spread over the scene, wherever its chunks are; their valid pixels: 3 x n."""
    first = colors.planes[0].data
    picked: dict[Any, Array] = {}
    for dim in first.dims:
        length = first.sizes[dim]
        if dim in first.dims[-2:]:
            starts = np.linspace(0, max(0, length - _WINDOW), _WINDOWS).round().astype(int)
            places = (starts[:, None] + np.arange(_WINDOW)).ravel()
            picked[dim] = np.unique(places[places < length])
        else:
            picked[dim] = np.unique(np.linspace(0, length - 1, _TIMES).round().astype(int))
    arrays = [
        part.isel({dim: picked[dim] for dim in part.dims}).data
        for part in (*(plane.data for plane in colors.planes), *colors.masks)
    ]
    red, green, blue, *masks = map(np.asarray, compute(*arrays))  # type: ignore[no-untyped-call]
    _, valid = _paint(red, green, blue, *masks, limits=None, missing=colors.missing)
    return np.stack([plane[valid] for plane in (red, green, blue)])
