"""What a scene is composed of: its variables and their units, what each item gives, and in which order."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from odc.geo.geobox import GeoBox

from remotesam_geo.errors import InputError
from remotesam_geo.geo import grids
from remotesam_geo.geo.grids import Bounds
from remotesam_geo.stac import sensors
from remotesam_geo.stac.bands import unknown_bands
from remotesam_geo.stac.items import Band

from .recipe import FileBands, Layer, Variable, as_fill
from .select import Pick

Masked = Literal["clouds"] | Mapping[str, Sequence[int]] | None


def needs_units(picks: Sequence[Pick]) -> bool:
    """Whether items differ in what their numbers mean."""
    return any(
        len({(pick.bands[name].scale, pick.bands[name].offset) for pick in picks}) > 1 for name in picks[0].bands
    )


def variables_of(picks: Sequence[Pick], *, rescale: bool) -> tuple[Variable, ...]:
    """Type, fill value and attributes of every band, over all items.

    Raises:
        InputError: The items' numbers cannot share a variable.
    """
    return tuple(
        _composed_variable(name, [pick.bands[name] for pick in picks], picks, rescale=rescale)
        for name in picks[0].bands
    )


def _composed_variable(name: str, bands: Sequence[Band], picks: Sequence[Pick], *, rescale: bool) -> Variable:
    dtypes = {band.dtype for band in bands}
    scaled = {band.scale is not None for band in bands}
    plain = {band.dtype for band in bands if band.scale is None}
    if len(scaled) > 1 or len(plain) > 1:
        kinds = sorted({f"{p.item.collection or p.item.id} ({b.dtype})" for p, b in zip(picks, bands, strict=True)})
        raise InputError(
            f"{name}: the numbers of {', '.join(kinds)} cannot be compared, some lack a scale or are "
            "ready pictures. Load them separately, or name comparable bands with bands=."
        )
    attrs: dict[str, Any] = {}
    common = bands[0].common_name or name
    if all(sensors.is_reflectance(band, common) for band in bands):
        attrs["quantity"] = "reflectance"
    if rescale:
        return Variable(name=name, dtype="float32", attrs=attrs)
    pairs = {(band.scale, band.offset) for band in bands}
    if len(pairs) > 1:
        raise InputError(
            f"{name}: the items differ in scale or offset ({sorted(map(str, pairs))}); their plain "
            "numbers cannot share a scene. Leave rescale= out, or set it to True."
        )
    ((scale, offset),) = pairs
    if scale is not None and (scale, offset or 0.0) != (1.0, 0.0):
        attrs |= {"scale_factor": scale, "add_offset": offset or 0.0}
    dtype = np.result_type(*dtypes)
    nodata = {band.nodata for band in bands}
    fill = as_fill(nodata.pop(), dtype) if len(nodata) == 1 else None
    return Variable(name=name, dtype=str(dtype), fill=fill, attrs=attrs)


def layer_of(
    pick: Pick,
    bounds: Bounds,
    variables: Sequence[Variable],
    *,
    number: int,
    mask: Masked,
    nodata: float | Literal["file"] | None,
    rescale: bool,
) -> Layer:
    """What one item gives: its cloud masks first, then its files, each once with all bands of it.

    Args:
        pick: What is taken of the item.
        bounds: Where it lies, in the scene's CRS.
        variables: The scene's.
        number: Its position in the scene.
        mask: As `load` was given it.
        nodata: As `load` was given it.
        rescale: Whether the scene's values are physical.

    Raises:
        InputError: The item lacks the quality band that the mask needs.
    """
    item = pick.item
    sources = [*_cloud_mask_bands(pick, mask)]
    by_asset: dict[str, list[tuple[int, Band]]] = defaultdict(list)
    for position, variable in enumerate(variables):
        band = pick.bands[variable.name]
        by_asset[band.asset].append((position, band))
    for asset, entries in by_asset.items():
        sources.append(
            FileBands(
                href=item.href(asset),
                asset=asset,
                indexes=tuple(band.index for _, band in entries),
                variables=tuple(position for position, _ in entries),
                scales=tuple(1.0 if band.scale is None else band.scale for _, band in entries) if rescale else (),
                offsets=tuple(band.offset or 0.0 for _, band in entries) if rescale else (),
                nodata=nodata,
                grid=pick.grids.get(asset),
            )
        )
    return Layer(
        number=number,
        item=item.id,
        collection=item.collection,
        time=None if item.time is None else str(item.time),
        origin=pick.origin,
        bounds=bounds,
        sources=tuple(sources),
    )


def _cloud_mask_bands(pick: Pick, mask: Masked) -> list[FileBands]:
    item = pick.item
    if mask is None:
        return []
    if mask == "clouds":
        found = sensors.cloud_mask(item)
        if found is None:
            raise InputError(
                f"mask='clouds': item {item.id} has neither SCL nor QA_PIXEL. Leave mask= out, or say "
                "which values of which band to take out: mask={'asset': [values]}."
            )
        masks = [found]
    else:
        for name in mask:
            if name not in item.assets:
                raise unknown_bands([name], [item])
        masks = [sensors.CloudMask(asset=name, values=tuple(map(int, values))) for name, values in mask.items()]
    return [
        FileBands(
            href=item.href(one.asset),
            asset=one.asset,
            indexes=(1,),
            resampling="mode",
            cloud_values=one.values,
            cloud_bits=one.bits,
        )
        for one in masks
    ]


def groups_of(
    picks: Sequence[Pick], groupby: str, mosaic: str | None, geobox: GeoBox
) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Times, and for each the picks in order of choice."""
    everything = range(len(picks))
    if mosaic == "latest":
        # newest first; of one time, in the order given; without a time last
        order = sorted(everything, key=lambda i: _compose_newest_first(picks[i]))
        return (), (tuple(order),)
    if mosaic is not None:
        return (), (tuple(everything),)
    undated = [pick.item.id for pick in picks if pick.item.time is None]
    if undated:
        raise InputError(
            f"{len(undated)} items have no time ({', '.join(undated[:3])}): set their datetime, or "
            "take the time axis away with mosaic='first'"
        )
    longitude, _ = grids.pixel_center(geobox)
    shift = np.timedelta64(int(longitude / 15), "h")
    by_key: dict[Any, list[int]] = defaultdict(list)
    for index in sorted(everything, key=lambda i: (_composed_time(picks[i]), i)):
        time = _composed_time(picks[index])
        by_day = (time + shift).astype("datetime64[D]")
        by_key[{"item": index, "time": time}.get(groupby, by_day)].append(index)
    groups = tuple(tuple(group) for group in by_key.values())
    return tuple(str(_composed_time(picks[group[0]])) for group in groups), groups


def _composed_time(pick: Pick) -> np.datetime64:
    return np.datetime64("NaT") if pick.item.time is None else pick.item.time


def _compose_newest_first(pick: Pick) -> int:
    time = pick.item.time
    return 1 if time is None else -int(time.astype("datetime64[us]").astype("int64"))
