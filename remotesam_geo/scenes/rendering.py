"""From a scene to what the network sees: 8-bit red, green and blue, and which pixels are valid.

One rule for the whole scene, so that neither tile nor chunk can change what a colour means: 8-bit pixels
pass untouched; everything else is stretched between two limits a band, which are known for reflectance,
read once from overviews where they are not, or given by the user.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from remotesam_geo.errors import InputError
from remotesam_geo.net.policy import ReadPolicy
from remotesam_geo.stac.bands import RGB

from .colors import BAND_DIMS, Array, colors_of, paint, rgb_of
from .read_block import VALID, Mask, read_block
from .recipe import Recipe
from .stretch import Stretch, choose_limits, in_numbers, stretch_of


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
        bands: Three names (or positions, from 1), or one for grey. None for red, green and blue, by their names
            (also B04, B03, B02 of Sentinel-2 and SR_B4, SR_B3, SR_B2 of Landsat), else three bands in their order.
        stretch: None for the default: 8-bit untouched, reflectance 0 to 0.3, else percentiles 2 to
            98, read once and logged. Or "percentiles"; (low, high); three such pairs; a mapping of
            band to pair; a `Stretch`, or `attrs["stretch"]` of another rendered scene.
        policy: How to read overviews, for percentiles; None for as the scene is read.

    Returns:
        A Dataset with `rgb` (..., y, x, band; uint8, 0 where not valid) and `valid` (..., y, x); its
        `attrs["stretch"]` records the limits, "" where pixels passed untouched.

    Raises:
        InputError: No such bands, a shape that cannot be understood, limits of other units.

    Examples:
        >>> import numpy as np, xarray as xr
        >>> picture = xr.DataArray(np.full((3, 2, 2), 7, "uint8"), dims=("band", "y", "x"))
        >>> render(picture).rgb.dtype, render(picture).attrs["stretch"]
        (dtype('uint8'), '')
    """
    colors = colors_of(scene, bands)
    limits = choose_limits(scene, colors, stretch, policy)
    units = [(plane.scale, plane.offset) for plane in colors.planes]
    numbers = None if limits is None else in_numbers(limits, units)
    rgb, valid = xr.apply_ufunc(
        paint,
        *(plane.data.variable for plane in colors.planes),
        *(mask.variable for mask in colors.masks),
        kwargs={"limits": numbers, "missing": colors.missing},
        output_core_dims=[["band"], []],
        dask="parallelized",
        output_dtypes=[np.uint8, np.bool_],
        dask_gufunc_kwargs={"output_sizes": {"band": 3}},
    )
    kept = {name: coordinate for name, coordinate in colors.planes[0].data.coords.items() if name not in BAND_DIMS}
    out = xr.Dataset(
        {"rgb": rgb, VALID: valid},
        coords=kept | {"band": ("band", list(RGB))},
        attrs={"stretch": "" if limits is None else limits.to_json()},
    )
    if "spatial_ref" in out.coords:
        for name in out.data_vars:
            out[name].encoding["grid_mapping"] = "spatial_ref"
    return out


def render_block(
    recipe: Recipe,
    geobox: GeoBox,
    time: int = 0,
    *,
    bands: str | Sequence[str] | None = None,
    stretch: str | Stretch = "",
    policy: ReadPolicy | None = None,
) -> tuple[Array, Mask]:
    """One part of a scene at one time, read and rendered now, without any graph.

    Args:
        recipe: What the scene is made of.
        geobox: The part; on the recipe's own pixels it equals the scene rendered.
        time: Position among the recipe's times.
        bands: As `render` was given them.
        stretch: `attrs["stretch"]` of the scene rendered.
        policy: How to read.

    Returns:
        rgb, uint8 h x w x 3, and valid, bool h x w.

    Raises:
        ReadError: Something could not be read.
        InputError: No such bands.
    """
    known = {variable.name: variable for variable in recipe.variables}
    names = [bands] if isinstance(bands, str) else bands
    if names is None:
        names = rgb_of(list(known)) or list(known)
    if len(names) not in (1, 3) or not set(names) <= set(known):
        raise InputError(f"no bands {list(names)} to make a picture of; there is: {', '.join(known)}")
    names = list(names) * (3 if len(names) == 1 else 1)
    limits = stretch_of(stretch) if stretch else None
    numbers = None
    if limits is not None:
        attrs = [known[name].attrs for name in names]
        units = [(a.get("scale_factor", 1.0), a.get("add_offset", 0.0)) for a in attrs]
        numbers = in_numbers(limits, units)
    elif any(known[name].dtype != "uint8" for name in names):
        raise InputError("stretch is empty, but the scene is not 8-bit: render(scene) tells its limits")
    block = read_block(recipe, geobox, time, policy=policy)
    red, green, blue = (block.bands[name] for name in names)
    missing = None if recipe.odc is None else tuple(known[name].fill for name in names)
    return paint(red, green, blue, block.valid, limits=numbers, missing=missing)
