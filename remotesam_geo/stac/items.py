"""STAC items as they are, read as they were meant: what real items lack or get wrong is repaired here.

Nothing here opens a file or asks the network. What only the raster itself can tell (a missing CRS, an
unknown type) stays unknown, and `load` reads it from there.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import shapely
from odc.geo.crs import CRS
from pyproj.exceptions import CRSError
from pystac.utils import make_absolute_href

from remotesam_geo.errors import InputError
from remotesam_geo.geo.geojson import geometry_fault
from remotesam_geo.net.redact import shown

from .documents import (
    TIMES,
    LeftOut,
    as_document,
    asset_fault,
    bbox_fault,
    cleaned,
    is_number,
    links,
    parse_time,
)

LARGEST_SIDE = 1 << 22  # rows or columns; `Limits` opens no larger raster
PREVIEWS = {"thumbnail", "overview"}
_RASTER_TYPE = re.compile(r"image/|application/(x-)?(hdf5?|geotiff)")
_RASTER_NAME = re.compile(r"\.(tiff?|jp2|jpe?g|img|vrt|png)$", re.IGNORECASE)
_SIGNATURE = re.compile(r"^sig$|signature|token|credential", re.IGNORECASE)
_WORDS = {"red": "red", "green": "green", "blue": "blue", "nir": "nir", "near-infrared": "nir"}
_LETTERS = {"r": "red", "g": "green", "b": "blue"}
_PREVIEW_KEYS = {"thumbnail", "overview", "preview", "browse", "rendered_preview"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """One band of one asset, as far as the item describes it.

    Args:
        asset: Key of the asset.
        index: Position in the file, from 1.
        name: What the item calls it, "" where it does not.
        common_name: "red", "nir" ..., "" where it does not say.
        dtype: NumPy type, "" where it does not say.
        nodata: Value that means no data, None where it does not say.
        scale: Physical value of one step; None where it does not say.
        offset: Physical value of 0; None where it does not say.
    """

    asset: str
    index: int
    name: str = ""
    common_name: str = ""
    dtype: str = ""
    nodata: float | None = None
    scale: float | None = None
    offset: float | None = None


@dataclass(frozen=True, kw_only=True)
class Item:
    """A STAC item, with what `load` asks of it.

    Args:
        id: Its id; one is made up where it is empty.
        collection: Its collection, "" where it has none.
        time: UTC, without zone; None where the item has no time at all.
        origin: Where the item itself comes from (its self link), None where it does not say.
        properties: As in the item.
        assets: As in the item, but for those in `unusable`.
        bbox: West, south, east, north in degrees (west > east across the antimeridian), or None.
        unusable: Keys of assets that are no assets at all, and why.
    """

    id: str
    collection: str
    time: np.datetime64 | None
    origin: str | None
    properties: Mapping[str, Any]
    assets: Mapping[str, Mapping[str, Any]]
    bbox: tuple[float, float, float, float] | None
    unusable: Mapping[str, str] = field(default_factory=dict)
    _bands: dict[str, tuple[Band, ...]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def rasters(self) -> tuple[str, ...]:
        """Keys of the assets that look like rasters, pictures of the item included."""
        return tuple(key for key, asset in self.assets.items() if _is_raster(asset))

    def bands(self, key: str) -> tuple[Band, ...]:
        """Bands of an asset, none where the item does not describe them; malformed fields count as missing."""
        if key not in self._bands:
            self._bands[key] = tuple(_bands_of_asset(key, self.assets[key], self.properties))
        return self._bands[key]

    def projection(self, key: str) -> dict[str, Any]:
        """Projection fields of an asset, repaired for odc-stac; none unless CRS, shape and transform are there."""
        asset = self.assets[key]
        crs = _asset_crs(asset, self.properties)
        shape = _asset_numbers(asset, self.properties, "proj:shape")
        transform = _asset_numbers(asset, self.properties, "proj:transform")
        bounds = _asset_numbers(asset, {}, "proj:bbox")
        if crs is None or len(shape) != 2:
            return {}
        if len(transform) not in {6, 9} and len(bounds) == 4:
            west, south, east, north = bounds
            transform = [(east - west) / shape[1], 0, west, 0, (south - north) / shape[0], north]
        if len(transform) not in {6, 9} or transform[0] * transform[4] == transform[1] * transform[3]:
            return {}
        return {"proj:code": crs, "proj:shape": list(map(int, shape)), "proj:transform": transform[:6]}

    def href(self, key: str) -> str:
        """Where an asset is: absolute, a plain path for a file of this machine."""
        href = resolve_href(str(self.assets[key].get("href") or ""), self.origin, self.id, key)
        return unsigned(href, self.origin)

    def roles(self, key: str) -> set[str]:
        """Roles of an asset."""
        return _asset_roles(self.assets[key])

    def pixel_size(self, key: str) -> float:
        """Size of an asset's pixels, in whatever unit it is given; infinite where that is malformed."""
        asset = self.assets[key]
        given = asset.get("proj:transform")
        if given is not None:
            numbers = _finite_numbers(given)
            return abs(numbers[0]) if numbers else math.inf
        given = asset.get("gsd", self.properties.get("gsd"))
        if given is None:
            return 0.0
        return abs(float(given)) if is_number(given) else math.inf

    def is_preview(self, key: str) -> bool:
        """Whether an asset is only a small picture of the item."""
        roles = self.roles(key)
        if "visual" in roles or key == "visual":
            return False
        return bool(roles & PREVIEWS) or (not roles and key.lower() in _PREVIEW_KEYS)

    def fault(self, key: str) -> str:
        """The malformed field for which an asset cannot be read, "" where there is none."""
        return self.unusable[key] if key in self.unusable else _asset_pixel_fault(self.assets[key], self.properties)

    def doubt(self, key: str) -> str:
        """A malformed field that an asset can be read without, "" where there is none."""
        return _asset_place_fault(self.assets[key], self.properties)


def read_items(items: Any, left: LeftOut | None = None) -> tuple[Item, ...]:
    """Take items in any usual form.

    Args:
        items: A `pystac.ItemCollection`, items (pystac or dictionaries), a single item, or a
            FeatureCollection as a dictionary.
        left: Takes what is malformed and left out; without it a warning says so.

    Returns:
        The items, in the order given.

    Raises:
        InputError: Where there is none, or where something is no item.

    Examples:
        >>> [item.id for item in read_items({"type": "Feature", "id": "a", "properties": {
        ...     "datetime": "2024-05-01T10:00:00"}, "assets": {}, "geometry": None})]
        ['a']
    """
    noted = LeftOut() if left is None else left
    read = [_read_item(doc, position, noted) for position, doc in enumerate(_item_documents(items))]
    found = tuple(item for item in read if item is not None)
    if read and not found:
        raise InputError(f"none of the items can be used: {noted}")
    if not found:
        raise InputError(
            "no items to load: the search found nothing. "
            "Widen its bbox or datetime, or look at the collection's extent."
        )
    if left is None:
        noted.warn()
    return found


def _item_documents(items: Any) -> Iterator[Mapping[str, Any]]:
    if hasattr(items, "to_dict") and hasattr(items, "assets"):  # one pystac item
        items = [items]
    elif isinstance(items, Mapping):
        items = items.get("features", [items])
    if isinstance(items, str | bytes) or not isinstance(items, Iterable):
        raise InputError(
            f"items must be an item collection, items or dictionaries, not {shown(items)}; "
            "a saved collection opens with search(path), a raster with open_raster(path)"
        )
    for item in items:
        try:
            doc = as_document(item)
        except ValueError as error:
            raise InputError(f"not a STAC item: {error}") from None
        if "properties" not in doc:
            raise InputError(f"not a STAC item, it has no properties: {shown(doc)}")
        yield doc


def _read_item(doc: Mapping[str, Any], position: int, left: LeftOut) -> Item | None:
    clean = cleaned(doc, left, position)
    if clean is None:
        return None
    own = links(clean, "self")
    given = doc.get("assets")
    unusable = {
        str(key): fault
        for key, asset in (given.items() if isinstance(given, Mapping) else ())
        if (fault := asset_fault(asset))
    }
    return Item(
        id=clean["id"] or f"item-{position + 1}",
        collection=clean.get("collection") or "",
        time=_time_of_item(clean["properties"]),
        origin=str(own[0]["href"]) if own else None,
        properties=clean["properties"],
        assets=clean["assets"],
        bbox=bounds_of(clean),
        unusable=unusable,
    )


def _time_of_item(properties: Mapping[str, Any]) -> np.datetime64 | None:
    """The first of datetime, start and end that is there; one without a zone is taken as UTC."""
    for key in TIMES:
        if properties.get(key) is not None:
            return np.datetime64(parse_time(properties[key]).replace(tzinfo=None), "us")
    return None


def bounds_of(doc: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """Bounds of an item in degrees; those of the geometry where the bbox is missing, malformed or not in degrees."""
    box, geometry = doc.get("bbox"), doc.get("geometry")
    if box is not None and not bbox_fault(box):
        box = list(box) if len(box) == 4 else [box[0], box[1], box[3], box[4]]
    if not isinstance(box, list) or len(box) != 4 or not _item_grid_in_degrees(box):
        if not geometry or geometry_fault(geometry):
            return None
        box = list(shapely.geometry.shape(geometry).bounds)
        if not _item_grid_in_degrees(box):
            return None
    west, south, east, north = map(float, box)
    if east > 180 or west < -180:  # MODIS and others count on past the antimeridian
        west, east = (west + 180) % 360 - 180, (east + 180) % 360 - 180
    return west, south, east, north


def _item_grid_in_degrees(box: Sequence[float]) -> bool:
    return all(abs(x) <= 540 for x in box[::2]) and all(abs(y) <= 90.5 for y in box[1::2])


def _asset_roles(asset: Mapping[str, Any]) -> set[str]:
    roles = asset.get("roles") or asset.get("role") or []
    listed = [roles] if isinstance(roles, str) else _listed_members(roles)
    return {role for role in listed if isinstance(role, str)}


def _is_raster(asset: Mapping[str, Any]) -> bool:
    media, href = str(asset.get("type") or ""), str(asset.get("href") or "")
    if not href or "metadata" in _asset_roles(asset):
        return False
    if media:
        return _RASTER_TYPE.match(media.lower()) is not None
    return _RASTER_NAME.search(urlsplit(href).path) is not None


def _listed_members(value: Any) -> list[Any]:
    """The members of a list, however a table or a caller has it; none where it is no list."""
    return list(value) if isinstance(value, list | tuple | np.ndarray) else []


def _bands_of_asset(key: str, asset: Mapping[str, Any], properties: Mapping[str, Any]) -> Iterator[Band]:
    """Bands from `bands` (STAC 1.1), `eo:bands` and `raster:bands` (1.0), whichever are there."""
    named = _mappings_in(asset.get("bands")) or _eo_bands(asset, properties)
    typed = _mappings_in(asset.get("raster:bands"))
    count = max(len(named), len(typed))
    if count == 0 and any(name in asset for name in ("data_type", "eo:common_name", "nodata")):
        count = 1
    if len(typed) == 1:  # one description for all bands
        typed = typed * count
    for position in range(count):
        own = dict(typed[position]) if position < len(typed) else {}
        own |= named[position] if position < len(named) else {}
        name = str(own.get("name") or "")
        yield Band(
            asset=key,
            index=position + 1,
            name=name,
            common_name=_item_common_name(own, asset if count == 1 else {}, name),
            dtype=_numpy_dtype(own.get("data_type") or asset.get("data_type")),
            nodata=_number_of_field(own.get("nodata", asset.get("nodata"))),
            scale=_number_of_field(own.get("raster:scale", own.get("scale", asset.get("raster:scale")))),
            offset=_number_of_field(own.get("raster:offset", own.get("offset", asset.get("raster:offset")))),
        )


def _mappings_in(value: Any) -> list[Mapping[str, Any]]:
    """The members of a list; what is no mapping among them says nothing."""
    return [one if isinstance(one, Mapping) else {} for one in _listed_members(value)]


def _eo_bands(asset: Mapping[str, Any], properties: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """`eo:bands` of an asset; early items give positions in the item's own list instead."""
    listed = dict(enumerate(_mappings_in(properties.get("eo:bands"))))
    given = _listed_members(asset.get("eo:bands"))
    return _mappings_in([listed.get(band) if isinstance(band, int) else band for band in given])


def _item_common_name(own: Mapping[str, Any], asset: Mapping[str, Any], name: str) -> str:
    for source in (own, asset):
        said = source.get("eo:common_name") or source.get("common_name")
        if said:
            return str(said)
    first = str(own.get("description") or "").lower().split()[:1]
    return (_WORDS | _LETTERS).get(name.lower()) or _WORDS.get(first[0] if first else "", "")


def _numpy_dtype(value: Any) -> str:
    """A NumPy type of numbers, "" for what is none ("cint16", "other")."""
    try:
        found = np.dtype(str(value or ""))
    except (TypeError, ValueError, SyntaxError):  # NumPy parses some texts as Python
        return ""
    return str(found) if found.kind in "iufc" else ""


def _number_of_field(value: Any) -> float | None:
    """A number, which JSON may have had to write as text ("nan")."""
    if value is None or isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _asset_pixel_fault(asset: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    """The first malformed field that what the pixels mean depends on."""
    for name in ("bands", "eo:bands", "raster:bands"):
        value = asset.get(name)
        if value is None:
            continue
        if not isinstance(value, list | tuple | np.ndarray):
            return f"{name} is {shown(value)}, not a list"
        for position, band in enumerate(value):
            said = band
            if name == "eo:bands" and type(band) is int:  # a position in the item's own list
                said = dict(enumerate(_listed_members(properties.get(name)))).get(band, {})
            if not isinstance(said, Mapping):
                return f"{name}[{position}] is {shown(said)}, not an object"
            if fault := _item_value_fault(said):
                return f"{name}[{position}]: {fault}"
    return _item_value_fault({key: asset[key] for key in _OF_ASSETS if key in asset})


_TEXTS = ("name", "common_name", "eo:common_name", "data_type")
_FACTORS = ("scale", "raster:scale", "offset", "raster:offset")
_OF_ASSETS = (
    "common_name",
    "eo:common_name",
    "data_type",
    "nodata",
    "raster:scale",
    "raster:offset",
)


def _item_value_fault(source: Mapping[str, Any]) -> str:
    for key in _TEXTS:
        value = source.get(key)
        if value is not None and not isinstance(value, str | int):
            return f"{key} is {shown(value)}, not text"
    for key in ("nodata", *_FACTORS):
        value = source.get(key)
        if value is None:
            continue
        number = _number_of_field(value)
        if number is None or (key != "nodata" and not math.isfinite(number)):
            return f"{key} is {shown(value)}, not a number"
        if number == 0 and key.endswith("scale"):
            return f"{key} is 0"
    return ""


def _asset_place_fault(asset: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    """The first malformed field that says only where an asset lies, which its file knows, or what it is for."""
    lengths = {"proj:shape": (2,), "proj:transform": (6, 9), "proj:bbox": (4, 6)}
    for key, allowed in lengths.items():
        value = asset.get(key)
        if value is None:
            value = properties.get(key)
        if value is not None and len(_asset_numbers(asset, properties, key)) not in allowed:
            return f"{key} is {shown(value)}"
    for key, kind in (("type", str), ("gsd", int | float), ("roles", list | tuple | str)):
        value = asset.get(key)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            return f"{key} is {shown(value)}"
    return ""


def _asset_numbers(asset: Mapping[str, Any], properties: Mapping[str, Any], key: str) -> list[float]:
    """Numbers that the asset gives, else the item; none where neither does, or where they are malformed."""
    found = asset.get(key)
    if found is None:
        found = properties.get(key)
    numbers = _finite_numbers(found)
    if key == "proj:shape" and not all(1 <= side <= LARGEST_SIDE and side.is_integer() for side in numbers):
        return []
    return numbers


def _finite_numbers(value: Any) -> list[float]:
    """A list of finite numbers, none where it is something else."""
    numbers = [_number_of_field(one) for one in _listed_members(value)]
    finite = [one for one in numbers if one is not None and math.isfinite(one)]
    return finite if len(finite) == len(numbers) else []


def _asset_crs(asset: Mapping[str, Any], properties: Mapping[str, Any]) -> str | None:
    """The CRS that asset or item name; None where there is none, or none that PROJ knows."""
    for place in (asset, properties):
        for key in ("proj:code", "proj:epsg", "proj:wkt2", "proj:projjson"):
            value = place.get(key)
            if value is None or value == "":
                continue
            try:
                return str(CRS(_epsg_text(value) if key == "proj:epsg" else value))
            except (CRSError, ValueError, TypeError, OverflowError, LookupError, AttributeError):
                continue
        if place is asset and "proj:code" in asset and asset["proj:code"] is None:
            return None  # the asset says that it has none
    return None


def _epsg_text(value: Any) -> str:
    """A code that may have become a float or text on its way through tables."""
    return f"EPSG:{int(str(value).upper().removeprefix('EPSG:').removesuffix('.0'))}"


def resolve_href(href: str, origin: str | None, item: str = "", asset: str = "") -> str:
    """Make an asset's href absolute.

    A local path stays a local path, whatever the item's self link says: items are often edited to
    point at downloads while the link still names the place they came from.

    Args:
        href: As in the item.
        origin: URL or path of the item itself.
        item: For the error: the item's id.
        asset: For the error: the asset's key.

    Returns:
        A URL, or a path for a file of this machine.

    Examples:
        >>> resolve_href("./B04.tif", "https://example.com/s2/item.json")
        'https://example.com/s2/B04.tif'
        >>> resolve_href("file:///data/B04.tif", None)
        '/data/B04.tif'
    """
    if not href:
        raise InputError(f"item {item}: asset {asset} has no href")
    if href.startswith("file:"):
        return unquote(urlsplit(href).path)
    if is_absolute(href):
        return href
    if not origin:
        raise InputError(
            f"item {item}: the href of asset {asset} is relative ({href}) and the item has no self "
            "link to resolve it against. Set one: item.set_self_href(path_or_url)."
        )
    if origin.startswith("file:"):
        origin = unquote(urlsplit(origin).path)
    return make_absolute_href(href, origin)


def unsigned(href: str, origin: str | None) -> str:
    """Take the Planetary Computer's signature off the href of one of its items.

    Its tokens end after minutes and are made anew at each read, so they have no place in a recipe.

    Args:
        href: A URL.
        origin: URL of the item.

    Returns:
        The URL without the token; any other as it is.
    """
    host = urlsplit(origin or "").hostname or ""
    query = parse_qs(urlsplit(href).query)
    if host.endswith("planetarycomputer.microsoft.com") and {"sig", "se"} <= set(query):
        return href.partition("?")[0]
    return href


def is_signed(href: str) -> bool:
    """Whether a URL carries a signature or token of any of the usual kinds."""
    return any(_SIGNATURE.search(name) for name in parse_qs(urlsplit(href).query))


def is_absolute(href: str) -> bool:
    """Whether an href is a URL, or an absolute path of this machine."""
    return "://" in href or href.startswith("/") or re.match(r"[A-Za-z]:[\\/]", href) is not None
