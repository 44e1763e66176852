"""What becomes black and what white: one rule for a whole scene, known, measured once, or given."""

import json
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import xarray as xr
from affine import Affine
from dask.base import compute
from odc.geo.geobox import GeoBox

from remotesam_geo.errors import InputError, RemoteSAMWarning
from remotesam_geo.net.policy import ReadPolicy
from remotesam_geo.stac.bands import RGB

from .colors import REFLECTANCE_UNIT, Array, Colors, valid_of
from .read_block import read_block
from .recipe import Recipe, policy_of

REFLECTANCE = (0.0, 0.3)  # black and white of surface reflectance in a picture
PERCENTILES = (2.0, 98.0)
VALUES = "values"
NOTHING = "nothing"  # no valid pixel was seen where limits were to be taken from
_SAMPLE_SIDE = 512  # pixels across the overview from which percentiles are taken
_WINDOWS, _WINDOW = 4, 128  # windows a side, and their size, where there is no overview
_TIMES = 8  # times they are taken from

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """What becomes black and what white, for red, green and blue.

    Args:
        limits: Lowest and highest value of each.
        of: What the limits are in: "reflectance", or "values" as they are in the scene. "nothing" where the sample
            that limits are taken from held no valid pixel: a valid pixel that is met later is an error then.

    Examples:
        >>> Stretch(limits=((0, 3000),) * 3).limits[0]
        (0, 3000)
    """

    limits: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    of: str = VALUES

    def __post_init__(self) -> None:
        if not all(math.isfinite(low + high) and low < high for low, high in self.limits):
            raise InputError(
                f"stretch limits {self.limits}: give a lower and a higher value for each of red, green and blue"
            )
        if self.of not in {VALUES, REFLECTANCE_UNIT, NOTHING}:
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
            return cls(limits=(red, green, blue), of=doc.get("of", VALUES))  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError):
            raise InputError(f"not a stretch: {text[:80]!r}") from None


def choose_limits(
    scene: xr.Dataset | xr.DataArray, colors: Colors, stretch: Any, policy: ReadPolicy | None
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
            return Stretch(limits=(REFLECTANCE,) * 3, of=REFLECTANCE_UNIT)
    if stretch is None or (isinstance(stretch, str) and stretch == "percentiles"):
        with warnings.catch_warnings():  # reading threads leave the process's filters as they like
            found = _percentile_stretch(scene, colors, policy)
        if found.of == NOTHING:
            log.info("the sample of the scene holds no valid pixel: it has no limits to be stretched between")
            return found
        told = ", ".join(f"{low:g} to {high:g}" for low, high in found.limits)
        text = (
            f"stretching by percentiles {PERCENTILES} of the whole scene: red, green, blue {told} "
            f"({found.of}). Hand attrs['stretch'] to other scenes to compare them."
        )
        if stretch is None:
            warnings.warn(text, RemoteSAMWarning, stacklevel=3)
        log.info(text)
        return found
    given = stretch_of(stretch)
    if given.of == REFLECTANCE_UNIT and not reflectance:
        raise InputError(
            "the stretch is one of reflectance, but it is not known that the scene's numbers are: "
            "give limits of its values, (0, 3000) for example"
        )
    spans = [high - low for low, high in given.limits]
    if given.of == VALUES and min(spans) < 1 and planes[0].data.dtype.kind in "ui":
        raise InputError(
            f"stretch limits {given.limits} on whole numbers ({planes[0].data.dtype}): for "
            "reflectance say Stretch(limits=..., of='reflectance')"
        )
    return given


def check_stretch(stretch: Any) -> None:
    """Check what `render` takes as a stretch, before a scene is opened.

    Raises:
        InputError: It is none.
    """
    if stretch is not None and not (isinstance(stretch, str) and stretch in {"", "percentiles"}):
        stretch_of(stretch)


def stretch_of(stretch: Any) -> Stretch:
    """Limits as users write them: a pair, three, a mapping, JSON, or a `Stretch`."""
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
    except (TypeError, ValueError, OverflowError):
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


def in_numbers(limits: Stretch, units: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Limits in the numbers that a scene holds, of each colour's scale and offset; none where none are known."""
    if limits.of == NOTHING:
        return []
    if limits.of == VALUES:
        return list(limits.limits)
    return [
        ((low - offset) / scale, (high - offset) / scale)
        for (low, high), (scale, offset) in zip(limits.limits, units, strict=True)
    ]


def _percentile_stretch(scene: xr.Dataset | xr.DataArray, colors: Colors, policy: ReadPolicy | None) -> Stretch:
    sample = _overview_pixels(scene, colors, policy)
    if sample is None:
        sample = _sample_windows(colors)
    if sample.shape[1] == 0:
        return Stretch(limits=((0.0, 1.0),) * 3, of=NOTHING)
    low, high = np.percentile(sample, PERCENTILES, axis=1)
    high = np.maximum(high, low + 1e-6 * np.maximum(1, abs(low)))
    of = REFLECTANCE_UNIT if all(plane.reflectance for plane in colors.planes) else VALUES
    if of == REFLECTANCE_UNIT:
        scales = np.array([plane.scale for plane in colors.planes])
        offsets = np.array([plane.offset for plane in colors.planes])
        low, high = low * scales + offsets, high * scales + offsets
    red, green, blue = ((float(a), float(b)) for a, b in zip(low, high, strict=True))
    return Stretch(limits=(red, green, blue), of=of)


def _overview_pixels(scene: xr.Dataset | xr.DataArray, colors: Colors, policy: ReadPolicy | None) -> Array | None:
    """A small version of every time of a scene with a recipe, its valid pixels: 3 x n."""
    if not isinstance(scene, xr.Dataset):
        return None
    try:
        recipe = Recipe.of(scene)
    except InputError:
        return None
    height, width = recipe.geobox.shape
    step = max(1, math.ceil(max(height, width) / _SAMPLE_SIDE))
    small = GeoBox(
        (max(1, height // step), max(1, width // step)),
        recipe.geobox.transform * Affine.scale(step),
        recipe.geobox.crs,
    )
    names = [str(plane.data.name) for plane in colors.planes]
    how = policy_of(scene) if policy is None else policy

    def read(time: int) -> Array:
        block = read_block(recipe, small, time, policy=how)
        planes = [block.bands[name] for name in names]
        valid = valid_of(planes, [block.valid], colors.missing)
        return np.stack([plane[valid] for plane in planes])

    with ThreadPoolExecutor(8) as pool:
        return np.concatenate(list(pool.map(read, range(max(1, len(recipe.times))))), axis=1)


def _sample_windows(colors: Colors) -> Array:
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
    valid = valid_of((red, green, blue), masks, colors.missing)
    return np.stack([plane[valid] for plane in (red, green, blue)])
