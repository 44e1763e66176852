"""Results of a search in a file, from which `search` makes them again exactly."""

import json
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from remotesam_geo.errors import InputError, RemoteSAMWarning, WriteError, path_of
from remotesam_geo.files import place_of, write_file
from remotesam_geo.net.redact import shown

from . import geoparquet
from .documents import Document, as_document, asset_fault, is_deep, links
from .items import is_signed, unsigned

_JSON, _PARQUET = (".json", ".geojson"), (".parquet", ".geoparquet")


def save_items(items: Iterable[Any], path: str | os.PathLike[str]) -> Path:
    """Save items, so that `search(path)` gives them again without their catalogue.

    Args:
        items: From `search`; or pystac items, or dictionaries.
        path: Ends in .json or .geojson for an item collection, in .parquet or .geoparquet for
            stac-geoparquet, which is smaller and opens in geopandas, DuckDB and others.

    Returns:
        The path.

    Raises:
        InputError: The path ends in something else, a folder is there, or an item is none.
        WriteError: It cannot be written; what was there before is kept.

    Examples:
        >>> import tempfile
        >>> from remotesam_geo import save_items, search
        >>> item = {"type": "Feature", "id": "a", "geometry": None, "links": [], "assets": {},
        ...         "properties": {"datetime": "2024-05-01T10:00:00Z"}}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [found.id for found in search(save_items([item], f"{folder}/items.json"))]
        ['a']
    """
    target = path_of("path", path)
    ending = target.suffix.lower()
    if ending not in (*_JSON, *_PARQUET):
        raise InputError(f"{target.name!r} must end in .json, .geojson, .parquet or .geoparquet")
    if isinstance(items, Mapping):
        items = items.get("features", [items])
    elif hasattr(items, "to_dict") and hasattr(items, "assets"):  # one pystac item
        items = [items]
    if isinstance(items, str | bytes) or not isinstance(items, Iterable):
        raise InputError(f"items must be items or an item collection, not {shown(items)}")
    docs = [_unsigned_item(_checked_item(item)) for item in items]
    if any(is_signed(href) for doc in docs for href in _asset_hrefs(doc)):
        warnings.warn(
            f"hrefs saved in {target.name} carry signatures, which are secret and end: search again for unsigned ones",
            RemoteSAMWarning,
            stacklevel=2,
        )
    if ending in _JSON:
        data = json.dumps({"type": "FeatureCollection", "features": docs}).encode()
    else:
        data = geoparquet.encode(docs)
    place = place_of(target)
    try:
        write_file(place, data)
    except OSError as error:
        raise WriteError(f"{target} cannot be written: {error}. What was there before is kept.") from error
    return target


def _checked_item(item: Any) -> Document:
    """An item as a document that JSON can hold.

    Raises:
        InputError: It is none.
    """
    try:
        doc = as_document(item)
        json.dumps(doc)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"not a STAC item: {error}") from None
    if not isinstance(doc.get("properties"), dict) or "id" not in doc or is_deep(doc):
        raise InputError(f"not a STAC item: {shown(doc)}")
    return {**doc, "assets": doc.get("assets") or {}}


def _asset_hrefs(doc: Document) -> list[str]:
    assets = doc["assets"].values() if isinstance(doc["assets"], dict) else ()
    return [asset["href"] for asset in assets if not asset_fault(asset)]


def _unsigned_item(doc: Document) -> Document:
    """The item without the Planetary Computer's signatures, which are made anew at each read."""
    if not isinstance(doc["assets"], dict):
        return doc
    own = links(doc, "self")
    origin = str(own[0]["href"]) if own else None
    assets = {
        key: asset if asset_fault(asset) else {**asset, "href": unsigned(asset["href"], origin)}
        for key, asset in doc["assets"].items()
    }
    return {**doc, "assets": assets}
