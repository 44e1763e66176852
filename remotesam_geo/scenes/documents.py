"""STAC documents as they come: JSON read, links found, and items made of them without loss."""

import json
import re
import warnings
from collections.abc import Mapping
from typing import Any

import pystac

from remotesam_geo.errors import RemoteSAMWarning, SearchError

from .redaction import redact
from .safety import is_remote

Document = dict[str, Any]

_SETTLED = re.compile(r"1\.\d+\.\d+$")


def read_json(data: bytes, place: str) -> Document:
    """One JSON object.

    Args:
        data: What was read.
        place: Where, for the error.

    Raises:
        SearchError: It is something else; the message shows how it begins.
    """
    try:
        doc = json.loads(data)
    except (ValueError, RecursionError):
        doc = None
    if not isinstance(doc, dict):
        start = " ".join(data[:200].decode("utf-8", "replace").split())[:100]
        raise SearchError(f"{redact(place)} is not a JSON object; it begins {start!r}")
    return doc


def links(doc: Mapping[str, Any], *relations: str) -> list[Mapping[str, Any]]:
    """Links of a document that have one of these relations and an href."""
    found = doc.get("links")
    return [
        link
        for link in (found if isinstance(found, list) else [])
        if isinstance(link, Mapping)
        and link.get("rel") in relations
        and isinstance(link.get("href"), str)
    ]


def set_self(doc: Document, href: str) -> None:
    """Say where a document is, whatever its own self link claims."""
    others = [link for link in doc.get("links") or [] if link.get("rel") != "self"]
    doc["links"] = [*others, {"rel": "self", "href": href, "type": "application/geo+json"}]


def keep_remote(doc: Document, place: str) -> None:
    """See to it that an item from the network is known to be from the network.

    What an item may make us open depends on where it comes from. A self link that is missing or
    names a local file would let it pass for one of the user's own.
    """
    own = links(doc, "self")
    if not own or not all(is_remote(str(link["href"])) for link in own):
        set_self(doc, place)


def as_item(doc: Document) -> pystac.Item:
    """Make a pystac item, changing as little as pystac can hold.

    Raises:
        SearchError: It is no item; the message names it.
    """
    name = str(doc.get("id"))
    assets = doc.get("assets") or {}
    lost = [
        key for key, asset in assets.items() if not isinstance(asset, dict) or "href" not in asset
    ]
    if lost:
        warnings.warn(
            f"item {name}: assets without href are left out: {', '.join(lost)}",
            RemoteSAMWarning,
            stacklevel=3,
        )
        assets = {key: asset for key, asset in assets.items() if key not in lost}
    whole = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "geometry": None,
        **doc,
        "properties": doc.get("properties") or {},
        "links": [link for link in doc.get("links") or [] if "href" in link and "rel" in link],
        "assets": assets,
    }
    try:
        # Later versions are left as they are; what stac_version 0.x wrote pystac must translate.
        old = not _SETTLED.match(str(whole["stac_version"]))
        return pystac.Item.from_dict(whole, migrate=old, preserve_dict=True)
    except (pystac.errors.STACError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise SearchError(f"item {name} cannot be read: {error}") from error


def as_document(item: Any) -> Document:
    """A pystac item as a dictionary, its hrefs untouched; a dictionary as it is."""
    if isinstance(item, pystac.Item):
        doc: Document = item.to_dict(transform_hrefs=False)
        if item.bbox and "bbox" not in doc:  # pystac drops it where there is no geometry
            doc["bbox"] = item.bbox
        return doc
    return dict(item)
