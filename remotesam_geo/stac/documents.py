"""STAC documents as they come: JSON read, malformed parts left out by name, pystac items made of the rest."""

import json
import math
import re
import warnings
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from numbers import Real
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pystac

from remotesam_geo.errors import RemoteSAMWarning, SearchError
from remotesam_geo.geo.geojson import geometry_fault
from remotesam_geo.net.redact import redact, redact_text, shown
from remotesam_geo.net.trust import is_remote

Document = dict[str, Any]

MAX_DEPTH = 64
TIMES = ("datetime", "start_datetime", "end_datetime")
_SETTLED = re.compile(r"1\.\d+\.\d+$")
_SHOWN = 5


class MalformedError(SearchError):
    """A document, or a part of one, that is not what STAC says it should be."""


class LeftOut:
    """What was left out because it is malformed, and why; one warning tells all of it.

    Attributes:
        lost: Whether whole items or files were left out, not only parts of items.
    """

    def __init__(self) -> None:
        self.lost = False
        self._names: dict[str, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._names)

    def __str__(self) -> str:
        parts = []
        for why, names in list(self._names.items())[:_SHOWN]:
            more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
            parts.append(f"{', '.join(names[:3])}{more} ({why})")
        if len(self._names) > _SHOWN:
            parts.append(f"{len(self._names) - _SHOWN:,} more kinds")
        return "; ".join(parts)

    def part(self, what: str, why: str) -> None:
        """Note a part of an item or catalogue that was left out."""
        self._names.setdefault(redact_text(why), []).append(redact_text(what))

    def whole(self, what: str, why: str) -> None:
        """Note an item or a file that was left out."""
        self.lost = True
        self.part(what, why)

    def text(self) -> str:
        """The warning."""
        return f"malformed and left out: {self}"

    def warn(self, *, stacklevel: int = 2) -> None:
        """Warn once, if anything was left out."""
        if self:
            warnings.warn(self.text(), RemoteSAMWarning, stacklevel=stacklevel + 1)


def read_json(data: bytes, place: str) -> Document:
    """One JSON object.

    Args:
        data: What was read.
        place: Where, for the error.

    Raises:
        MalformedError: It is something else; the message shows how it begins.
    """
    try:
        doc = json.loads(data)
    except (ValueError, RecursionError):
        doc = None
    if not isinstance(doc, dict):
        start = " ".join(data[:200].decode("utf-8", "replace").split())[:100]
        raise MalformedError(f"{redact(place)} is not a JSON object; it begins {start!r}")
    if is_deep(doc):
        raise MalformedError(f"{redact(place)} is JSON nested more than {MAX_DEPTH} deep")
    return doc


def is_deep(value: Any) -> bool:
    """Whether lists and mappings are nested deeper than any STAC document is."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for one in level:
            inner += one.values() if isinstance(one, dict) else one
        level = [one for one in inner if isinstance(one, dict | list | tuple)]
        if not level:
            return False
    return True


def is_href(value: Any) -> bool:
    """Whether a value can be the href of a link or an asset."""
    if not isinstance(value, str) or not value:
        return False
    try:
        _ = urlsplit(value).port
    except ValueError:  # brackets that hold no address, a port that is no number
        return False
    return True


def links(doc: Mapping[str, Any], *relations: str) -> list[Mapping[str, Any]]:
    """Links of a document that have one of these relations and an href."""
    return [link for link in _document_list(doc.get("links")) if _document_is_link(link) and link["rel"] in relations]


def _document_is_link(link: Any) -> bool:
    return isinstance(link, Mapping) and isinstance(link.get("rel"), str) and is_href(link.get("href"))


def malformed_links(doc: Mapping[str, Any], *relations: str) -> list[str]:
    """What is wrong with links that may have been of one of these relations."""
    found = doc.get("links")
    if found is not None and not isinstance(found, list | tuple):
        return [f"links is {shown(found)}, not a list"]
    faults = []
    for position, link in enumerate(_document_list(found)):
        relation = link.get("rel") if isinstance(link, Mapping) else None
        if not _document_is_link(link) and (not isinstance(relation, str) or relation in relations):
            faults.append(f"links[{position}] is {shown(link)}: it needs rel and href as text")
    return faults


def _document_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def set_self(doc: Document, href: str) -> None:
    """Say where a document is, whatever its own self link claims."""
    others = [
        link for link in _document_list(doc.get("links")) if not (_document_is_link(link) and link["rel"] == "self")
    ]
    doc["links"] = [*others, {"rel": "self", "href": href, "type": "application/geo+json"}]


def keep_remote(doc: Document, place: str) -> None:
    """See to it that an item from the network is known to be from the network.

    What an item may make us open depends on where it comes from. A self link that is missing or
    names a local file would let it pass for one of the user's own.
    """
    own = links(doc, "self")
    if not own or not all(is_remote(str(link["href"])) for link in own):
        set_self(doc, place)


def parse_time(value: Any) -> datetime:
    """A time as STAC writes it, in UTC; one without a zone is taken as UTC.

    Raises:
        ValueError: It is none, or lies outside the years 1 to 9999.

    Examples:
        >>> parse_time("2024-05-01T10:00:00+02:00").isoformat()
        '2024-05-01T08:00:00+00:00'
    """
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    if isinstance(value, str):
        value = datetime.fromisoformat(value.strip().upper())
    if not isinstance(value, datetime) or value != value:  # noqa: PLR0124 - NaT differs from itself
        raise ValueError(f"{shown(value)} is not a time")
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(str(error)) from None


def cleaned(doc: Any, left: LeftOut, position: int = 0) -> Document | None:
    """An item without its malformed parts, each of which is noted.

    Args:
        doc: What a catalogue or user has given as an item; it stays as it is.
        left: Takes what is left out.
        position: Where it stands among others, to name one that has no id.

    Returns:
        The item: id, properties, links and assets have their right types, times can be read, geometry and bbox are
        right or None. None where the item as a whole is of no use.
    """
    nth = f"item {position + 1}"
    if not isinstance(doc, Mapping):
        left.whole(nth, f"it is {shown(doc)}, not an object")
        return None
    key = doc.get("id", "")
    if isinstance(key, bool) or not isinstance(key, str | int):
        left.whole(nth, f"its id is {shown(key)}, not text")
        return None
    name = f"item {key}" if key != "" else nth
    properties = doc.get("properties") or {}
    if fault := _item_fault(doc, properties):
        left.whole(name, fault)
        return None
    clean = {**doc, "id": str(key), "properties": properties}
    for field, fault_of in _FIELDS.items():
        if clean.get(field) is not None and (fault := fault_of(clean[field])):
            left.part(f"{field} of {name}", fault)
            clean[field] = None
    clean["links"] = _clean_links(doc.get("links"), name, left)
    clean["assets"] = _clean_assets(doc.get("assets"), name, left)
    return clean


def _item_fault(doc: Mapping[str, Any], properties: Any) -> str:
    """Why an item is of no use as a whole, "" where it is."""
    if doc.get("type", "Feature") != "Feature":
        return f"its type is {shown(doc['type'])}, not 'Feature'"
    if not isinstance(properties, Mapping):
        return f"its properties are {shown(properties)}, not an object"
    return time_fault(properties)


def time_fault(properties: Mapping[str, Any]) -> str:
    """What is wrong with the times of an item, "" where they are right."""
    for key in TIMES:
        value = properties.get(key)
        try:
            if value is not None:
                parse_time(value)
        except ValueError:
            return f"its {key} {shown(value)} is not a time"
    return ""


def bbox_fault(box: Any) -> str:
    """What is wrong with a bbox, "" where it is right."""
    if not isinstance(box, list | tuple | np.ndarray) or len(box) not in (4, 6):
        return f"{shown(box)} is not a list of 4 or 6 numbers"
    if not all(is_number(value) for value in box):
        return f"{shown(box)} does not hold finite numbers"
    return ""


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; JSON has no others, but Python reads NaN and 1e400."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _text_fault(value: Any) -> str:
    return "" if isinstance(value, str) else f"{shown(value)} is not text"


def _texts_fault(value: Any) -> str:
    right = isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    return "" if right else f"{shown(value)} is not a list of texts"


_FIELDS = {
    "geometry": geometry_fault,
    "bbox": bbox_fault,
    "collection": _text_fault,
    "stac_version": _text_fault,
    "stac_extensions": _texts_fault,
}


def _clean_links(found: Any, name: str, left: LeftOut) -> list[Any]:
    if found is not None and not isinstance(found, list | tuple):
        left.part(f"links of {name}", f"{shown(found)} is not a list")
    kept = []
    for position, link in enumerate(_document_list(found)):
        if _document_is_link(link):
            kept.append(link)
        else:
            left.part(f"link {position + 1} of {name}", f"{shown(link)} lacks rel or href")
    return kept


def _clean_assets(found: Any, name: str, left: LeftOut) -> dict[str, Any]:
    if found is not None and not isinstance(found, Mapping):
        left.part(f"assets of {name}", f"{shown(found)} is not an object")
        return {}
    kept = {}
    for key, asset in (found or {}).items():
        if fault := asset_fault(asset):
            left.part(f"asset {key} of {name}", fault)
        else:
            kept[str(key)] = asset
    return kept


def asset_fault(asset: Any) -> str:
    """Why something cannot be an asset at all, "" where it can."""
    if not isinstance(asset, Mapping):
        return f"it is {shown(asset)}, not an object"
    if "href" not in asset:
        return "it has no href"
    return "" if is_href(asset["href"]) else f"its href is {shown(asset['href'])}"


def as_items(docs: Iterable[Any], left: LeftOut) -> list[pystac.Item]:
    """Make pystac items, changing as little as pystac can hold; what is malformed is left out.

    Args:
        docs: What a catalogue gave as items.
        left: Takes what is left out.
    """
    items = []
    for position, doc in enumerate(docs):
        clean = cleaned(doc, left, position)
        if clean is None:
            continue
        whole = {
            **clean,
            "type": "Feature",
            "stac_version": clean.get("stac_version") or "1.0.0",
            "stac_extensions": clean.get("stac_extensions") or [],
            "geometry": clean.get("geometry"),
        }
        try:
            # Later versions are left as they are; what stac_version 0.x wrote pystac must translate.
            old = not _SETTLED.match(whole["stac_version"])
            items.append(pystac.Item.from_dict(whole, migrate=old, preserve_dict=True))
        except _PYSTAC_RAISES as error:
            left.whole(f"item {clean['id']}", f"{type(error).__name__}: {error}")
    return items


# pystac checks little: what is malformed shows itself wherever it is first used.
_PYSTAC_RAISES = (
    pystac.errors.STACError, LookupError, AttributeError, TypeError, ValueError, ArithmeticError, RecursionError,
)  # fmt: skip


def as_document(item: Any) -> Document:
    """A pystac item as a dictionary, its hrefs untouched; a dictionary as it is.

    Raises:
        ValueError: It is neither, or pystac cannot write it.
    """
    if isinstance(item, Mapping):
        return dict(item)
    if not (hasattr(item, "to_dict") and hasattr(item, "assets")):
        raise ValueError(f"{shown(item)} is neither a pystac item nor a dictionary")
    try:
        doc: Document = item.to_dict(transform_hrefs=False)
    except _PYSTAC_RAISES as error:
        raise ValueError(f"pystac cannot write {shown(item)}: {error}") from error
    if item.bbox and "bbox" not in doc:  # pystac drops it where there is no geometry
        doc["bbox"] = item.bbox
    return doc
