"""Which bands of an item are meant by a name, and which three make its picture."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from remotesam_geo.errors import InputError

from . import sensors
from .items import Band, Item

RGB = ("red", "green", "blue")
_COLORS = {*RGB, "alpha", "nir", "gray", "grey", "cyan", "magenta", "yellow", "black"}


class Header(Protocol):
    """What of a raster's header names its bands."""

    @property
    def plain_colors(self) -> bool:
        """Whether its bands are red, green and blue though it does not say so."""

    @property
    def dtypes(self) -> tuple[str, ...]:
        """NumPy types."""

    @property
    def colors(self) -> tuple[str, ...]:
        """Colour interpretations."""

    @property
    def descriptions(self) -> tuple[str, ...]:
        """Names that the file gives."""


Look = Callable[[Item, str], Header]
Chosen = Mapping[str, Band]


def choose_bands(item: Item, names: Sequence[str] | None, look: Look) -> Chosen | None:
    """Find the bands that are wanted of an item.

    Args:
        item: The item.
        names: Common names, band names, asset keys or `asset.index`; None for its picture.
        look: Reads the header of an asset, where the item says too little.

    Returns:
        Variable name to band, or None where the item lacks one of them.

    Raises:
        InputError: An asset that is wanted is malformed; the message names item, asset and field.
    """
    chosen = _picture_bands(item, look) if names is None else _bands_by_names(item, names, look)
    if chosen is None:
        return None
    for band in chosen.values():
        _check_asset(item, band.asset)
    return {name: sensors.complete(band, item) for name, band in chosen.items()}


def _bands_by_names(item: Item, names: Sequence[str], look: Look) -> dict[str, Band] | None:
    """The bands of some names, None where one of them is missing."""
    chosen: dict[str, Band] = {}
    for name in names:
        _check_asset(item, name)
        if name in item.assets:
            chosen |= _asset_bands(item, name, look)
            continue
        band = _find_band(item, name)
        if band is None:
            return None
        chosen[name] = band
    return chosen


def _check_asset(item: Item, key: str) -> None:
    """Refuse an asset that is malformed where it is wanted."""
    fault = item.fault(key) if key in item.assets or key in item.unusable else ""
    if fault:
        raise InputError(f"item {item.id}: the asset {key!r} is malformed: {fault}. Correct the item, or leave it out.")


def faults_of(items: Iterable[Item]) -> dict[str, list[str]]:
    """Malformed fields of assets that are no previews, each with the items that have it."""
    found: dict[str, list[str]] = {}
    for item in items:
        for key in item.rasters:
            fault = "" if item.is_preview(key) else item.fault(key) or item.doubt(key)
            if fault:
                found.setdefault(f"asset {key!r}: {fault}", []).append(item.id)
    return found


def known_names(item: Item) -> list[str]:
    """Every name by which a band of an item can be asked for, for error messages."""
    names: dict[str, None] = {}
    for key in item.rasters:
        if item.is_preview(key):
            continue
        names[key] = None
        for band in described(item, key):
            names |= {name: None for name in (band.common_name, band.name) if name}
    return list(names)


def unknown_bands(names: Sequence[str] | None, items: Sequence[Item]) -> InputError:
    """The error that says which band no item has, and what there is."""
    there = {name: None for item in items for name in known_names(item)}
    kinds = ", ".join(sorted({item.collection or "no collection" for item in items}))
    shown = ", ".join(there) or "no raster asset at all"
    if not any(item.assets or item.unusable for item in items):
        return InputError("the items have no assets: search again without `fields` that leave them out")
    malformed = [
        *faults_of(items),
        *(f"asset {key!r}: {item.fault(key)}" for item in items for key in item.unusable),
    ]
    if malformed:
        shown = f"{shown}. Malformed: {'; '.join(malformed[:5])}"
    if names is None:
        return InputError(
            f"found no red, green and blue in the items ({kinds}). There is: {shown}. Name the bands with bands=[...]."
        )
    missing = [name for name in names if all(_find_band(item, name) is None for item in items)] or names
    hints = []
    for name in missing:
        near = difflib.get_close_matches(name, there, n=1)
        hints.append(f"{name!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
    return InputError(f"no item ({kinds}) has the bands {', '.join(hints)}. There is: {shown}.")


def described(item: Item, key: str) -> tuple[Band, ...]:
    """Bands of an asset as described, or the one that its key alone tells of."""
    bands = item.bands(key)
    if len(bands) > 1 or (bands and bands[0].common_name):
        return bands
    # assets are often simply called red, green and blue
    known = Band(asset=key, index=1, common_name=key) if key in RGB else sensors.known_band(key, item)
    if bands and known is not None:
        return (replace(bands[0], common_name=known.common_name),)
    return bands if known is None else (known,)


def band_names(header: Header) -> tuple[str, ...]:
    """Names for the bands of a raster that nothing but its own header describes.

    Colours first (files in blue, green, red order say so there), then its descriptions; three or four 8-bit
    bands without either are red, green, blue in this order, as in every aerial picture.
    """
    names = []
    for position, color in enumerate(header.colors):
        said = header.descriptions[position].strip().lower()
        if color in RGB or color == "alpha":
            names.append(color)
        elif color not in {"gray", "undefined", "palette"} and not said:
            names.append(color.lower())  # cyan or hue is no red
        elif said in _COLORS:
            names.append(said)
        else:
            names.append(f"band_{position + 1}")
    if header.plain_colors and not set(RGB) & set(names):
        names[:3] = RGB
    if len(set(names)) < len(names):
        return tuple(f"band_{position + 1}" for position in range(len(names)))
    return tuple(names)


def _picture_bands(item: Item, look: Look) -> dict[str, Band] | None:
    """Red, green and blue by common name, else those of a `visual` or of the only raster."""
    found = _by_common_name(item, RGB)
    if found is None:
        key = _bands_of_picture_asset(item)
        if key is None:
            return None
        bands = _asset_bands(item, key, look)
        if not set(RGB) <= set(bands):
            return None
        found = {name: bands[name] for name in RGB}
    return found


def _bands_of_picture_asset(item: Item) -> str | None:
    rasters = [key for key in item.rasters if not item.is_preview(key)]
    for key in rasters:
        if key.lower() == "visual" or "visual" in item.roles(key):
            return key
    return rasters[0] if len(rasters) == 1 else None


def _asset_bands(item: Item, key: str, look: Look) -> dict[str, Band]:
    """All bands of an asset, by common name where each has one."""
    bands = described(item, key)
    if len(bands) == 1:
        return {key: bands[0]}
    if bands:
        names = [band.common_name or band.name for band in bands]
        if not all(names) or len(set(names)) < len(names):
            names = [f"{key}_{band.index}" for band in bands]
        return dict(zip(names, bands, strict=True))
    header = look(item, key)
    names = list(band_names(header))
    if len(names) == 1:
        names = [key]
    return {
        name: Band(asset=key, index=index, dtype=dtype)
        for index, (name, dtype) in enumerate(zip(names, header.dtypes, strict=True), start=1)
        if name != "alpha"
    }


def _find_band(item: Item, name: str) -> Band | None:
    found = _by_common_name(item, (name,))
    if found is not None:
        return found[name]
    for key in sorted(item.rasters, key=lambda key: _rank_of_asset(item, key)):
        for band in item.bands(key):
            if band.name == name:
                return band
    key, _, index = name.rpartition(".")
    if key in item.assets and index.isdecimal() and int(index) >= 1:
        bands = item.bands(key)
        if not bands:
            return Band(asset=key, index=int(index))
        return bands[int(index) - 1] if int(index) <= len(bands) else None
    return None


def _by_common_name(item: Item, names: Sequence[str]) -> dict[str, Band] | None:
    """The best assets that have all of these common names; the three of a picture go together."""
    ranked: dict[tuple[float, ...], dict[str, Band]] = {}
    for key in item.rasters:
        for band in described(item, key):
            if band.common_name in names:
                ranked.setdefault(_rank_of_asset(item, key), {}).setdefault(band.common_name, band)
    for rank in sorted(ranked):
        if len(ranked[rank]) == len(set(names)):
            return {name: ranked[rank][name] for name in names}
    together = {name: band for rank in sorted(ranked, reverse=True) for name, band in ranked[rank].items()}
    return {name: together[name] for name in names} if len(together) == len(set(names)) else None


def _rank_of_asset(item: Item, key: str) -> tuple[float, ...]:
    """Lower is better: no previews, assets of few bands, GeoTIFF before JPEG 2000, fine before coarse."""
    asset = item.assets[key]
    return (
        float(item.is_preview(key)),
        float(len(described(item, key))),
        float("jp2" in str(asset.get("type") or asset.get("href"))),
        item.pixel_size(key),
    )
