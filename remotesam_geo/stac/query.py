"""What a search asks, checked once, and answered the same way over any list of items."""

import json
import math
import re
from calendar import monthrange
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from remotesam_geo.errors import InputError
from remotesam_geo.geo.areas import (
    area_of_interest,
    check_bbox,
    shape_in_degrees,
    split_at_antimeridian,
)
from remotesam_geo.geo.geojson import geometry_fault
from remotesam_geo.net.redact import shown

from .documents import TIMES, Document, MalformedError, parse_time
from .items import bounds_of

Interval = tuple[datetime | None, datetime | None]

_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?$")
_OPERATORS = {">=": "gte", "<=": "lte", "<>": "neq", "=": "eq", ">": "gt", "<": "lt"}
_COMPARISON = re.compile(r"\s*([^<>=]+?)\s*(>=|<=|<>|=|>|<)\s*([^<>=]+?)\s*")
_CLOCK = re.compile(r"[T ]\d")


@dataclass(frozen=True, kw_only=True)
class Query:
    """A search, as checked values.

    Args:
        collections: Ids of collections; None for all.
        bbox: West, south, east, north in degrees, where the area is one that does not cross the
            antimeridian; else None.
        area: The area as a geometry whose longitudes lie in -180 to 180; None for anywhere.
        interval: First and last moment, both in UTC, None where open.
        query: Of STAC's query extension.
        filter: CQL2, as JSON or text.
        ids: Ids of items; None for all.
        sortby: Fields and whether each falls.
        max_items: Most items wanted.
    """

    collections: tuple[str, ...] | None = None
    bbox: tuple[float, float, float, float] | None = None
    area: BaseGeometry | None = None
    interval: Interval = (None, None)
    query: Mapping[str, Any] | None = None
    filter: Mapping[str, Any] | str | None = None
    ids: tuple[str, ...] | None = None
    sortby: tuple[tuple[str, bool], ...] = ()
    max_items: int | None = None

    @classmethod
    def of(
        cls,
        *,
        collections: str | Sequence[str] | None,
        bbox: Sequence[float] | None,
        intersects: Any,
        when: Any,
        query: Mapping[str, Any] | Sequence[str] | None,
        cql: Mapping[str, Any] | str | None,
        ids: str | Sequence[str] | None,
        sortby: str | Sequence[Any] | None,
        max_items: int | None,
    ) -> "Query":
        """Check what was asked, as the arguments of `search` are.

        Raises:
            InputError: Something cannot be meant; the message says what to write.
        """
        if bbox is not None and intersects is not None:
            raise InputError("give bbox= or intersects=, not both")
        area = area_of_interest(bbox)
        if intersects is not None:
            area = shape_in_degrees(intersects, "intersects", flat=True)
        split = None if area is None else split_at_antimeridian(area)
        plain = None if bbox is None or split is not area else check_bbox(bbox)
        if max_items is not None and (type(max_items) is not int or max_items < 1):
            raise InputError(f"max_items must be a whole number from 1, or None for all, not {max_items!r}")
        return cls(
            collections=_query_id_names(collections, "collections"),
            bbox=plain,
            area=split,
            interval=read_interval(when),
            query=_parsed_query(query),
            filter=_parsed_query_filter(cql),
            ids=_query_id_names(ids, "ids"),
            sortby=_parsed_sortby(sortby),
            max_items=max_items,
        )

    def matches(self, doc: Document) -> bool:
        """Whether an item is an answer; `query` and `filter` are not looked at.

        Raises:
            MalformedError: What decides it is malformed.
        """
        return (
            (self.collections is None or doc.get("collection") in self.collections)
            and (self.ids is None or doc.get("id") in self.ids)
            and self._is_then(doc)
            and self._is_there(doc)
        )

    def _is_then(self, doc: Document) -> bool:
        first, last = self.interval
        if first is None and last is None:
            return True
        start, end = _item_interval(doc)
        if start is None and end is None:
            return False
        return (last is None or start is None or start <= last) and (first is None or end is None or end >= first)

    def _is_there(self, doc: Document) -> bool:
        if self.area is None:
            return True
        footprint = _item_footprint(doc)
        return footprint is not None and bool(shapely.intersects(self.area, footprint))

    def order(self, docs: Iterable[Document]) -> list[Document]:
        """Sort as asked; where an item lacks the field it comes last, equal ones keep their order."""
        ordered = list(docs)
        for field, falling in reversed(self.sortby):
            keys = {id(doc): _sort_key(doc, field) for doc in ordered}
            known = [doc for doc in ordered if keys[id(doc)] is not None]
            lacking = [doc for doc in ordered if keys[id(doc)] is None]
            ordered = sorted(known, key=lambda doc: keys[id(doc)], reverse=falling) + lacking
        return ordered


def _query_id_names(value: str | Sequence[str] | None, what: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, str) and (isinstance(value, bytes | Mapping) or not isinstance(value, Iterable)):
        raise InputError(f"{what} must be a name or a list of names, not {value!r}")
    names: tuple[Any, ...] = (value,) if isinstance(value, str) else tuple(value)
    if not names:
        raise InputError(f"{what} is empty, which asks for nothing; leave it out to ask for all")
    for name in names:
        if not (isinstance(name, str) and name):
            raise InputError(f"{what} must be a name or a list of names, not {value!r}")
    return names


def _parsed_query(value: Any) -> Mapping[str, Any] | None:
    """STAC's query; comparisons written as text become one, their numbers numbers."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        for field, operators in value.items():
            if not (isinstance(field, str) and isinstance(operators, Mapping) and operators):
                raise InputError(
                    f"query {{{field!r}: {operators!r}}} is no comparison; write {{'eo:cloud_cover': {{'lt': 20}}}}"
                )
        return _as_json(value, "query")
    if isinstance(value, bytes) or not isinstance(value, Iterable):
        raise InputError(f"query must be comparisons or a dictionary, not {value!r}")
    asked: dict[str, dict[str, Any]] = {}
    for part in [value] if isinstance(value, str) else value:
        found = _COMPARISON.fullmatch(str(part))
        if found is None:
            raise InputError(
                f"query {part!r} is no comparison; write 'eo:cloud_cover<20' or {{'eo:cloud_cover': {{'lt': 20}}}}"
            )
        name, operator, text = found.groups()
        asked.setdefault(name, {})[_OPERATORS[operator]] = _query_operand(text)
    if not asked:
        raise InputError("query is empty, which asks for nothing; leave it out to ask for all")
    return asked


def _query_operand(text: str) -> Any:
    try:
        operand = json.loads(text)
    except (ValueError, RecursionError):
        return text
    finite = not isinstance(operand, float) or math.isfinite(operand)
    return operand if finite else text


def _parsed_query_filter(value: Mapping[str, Any] | str | None) -> Mapping[str, Any] | str | None:
    if value is None:
        return None
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, Mapping) and value:
        return _as_json(value, "filter")
    raise InputError(f"filter must be CQL2, as a dictionary or as text, not {value!r}")


def _as_json(value: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    """The same, once it is sure that it can be sent."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{what} cannot be written as JSON: {error}") from None
    return value


def _parsed_sortby(value: str | Sequence[Any] | None) -> tuple[tuple[str, bool], ...]:
    """Fields and whether each falls, of "-datetime", a list of such, or STAC's own dictionaries."""
    if value is None:
        return ()
    if isinstance(value, bytes | Mapping) or not isinstance(value, Iterable):
        raise InputError(f"sortby {value!r} is no field; write 'datetime' or '-eo:cloud_cover'")
    order = []
    for part in value.split(",") if isinstance(value, str) else value:
        if isinstance(part, Mapping) and isinstance(part.get("field"), str):
            order.append((part["field"], str(part.get("direction", "asc")).lower() == "desc"))
        elif isinstance(part, str) and part.strip().lstrip("+-"):
            order.append((part.strip().lstrip("+-"), part.strip().startswith("-")))
        else:
            raise InputError(f"sortby {part!r} is no field; write 'datetime' or '-eo:cloud_cover'")
    return tuple(order)


def read_interval(value: Any) -> Interval:
    """The first and last moment that a datetime argument means.

    Args:
        value: "2021", "2021-06", "2021-06-03", a full time, "start/end" of these with ".." for an
            open end; a date or datetime; two of any of these; or None.

    Returns:
        Both ends, included, in UTC; None where open.

    Raises:
        InputError: It is no time, or it ends before it begins.

    Examples:
        >>> first, last = read_interval("2021-06/..")
        >>> first.isoformat(), last
        ('2021-06-01T00:00:00+00:00', None)
    """
    if value is None:
        return None, None
    if isinstance(value, str):
        parts: Sequence[Any] = value.strip().split("/")
    else:
        parts = list(value) if isinstance(value, list | tuple) else [value]
    if len(parts) > 2 or not parts or (isinstance(value, str) and not value):
        raise InputError(f"datetime {value!r} must be one time, or a start and an end")
    spans = [_span_of_time(part, value) for part in parts]
    first, last = spans[0][0], spans[-1][1]
    if first is not None and last is not None and first > last:
        raise InputError(f"datetime {value!r} ends before it begins")
    return first, last


def _span_of_time(part: Any, whole: Any) -> Interval:
    """All the time that one end of an interval covers: a year from its first tick to its last."""
    if part is None or (isinstance(part, str) and part.strip() in ("", "..")):
        return None, None
    try:
        if isinstance(part, np.datetime64 | datetime):  # pandas' timestamps as well
            moment = parse_time(part)
            return moment, moment
        text = part.isoformat() if isinstance(part, date) else str(part).strip()
        named = _DATE.match(text)
        if named is None:
            if not _CLOCK.search(text):
                raise ValueError(text)
            moment = parse_time(text)
            return moment, moment
        year, month, day = (None if group is None else int(group) for group in named.groups())
        start = datetime(int(year or 0), month or 1, day or 1, tzinfo=UTC)
        last = month or 12
        end = date(start.year, last, day or monthrange(start.year, last)[1])
        return start, datetime.combine(end, time.max, tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InputError(
            f"datetime {whole!r}: {str(part)[:80]!r} is no time; write '2021', '2021-06-03', "
            "'2021-06-03T10:00:00Z', or two of these with a slash, '..' for an open end"
        ) from None


def _moment_of_item(doc: Document, key: str) -> datetime | None:
    value = _item_properties(doc).get(key)
    if value is None:
        return None
    try:
        return parse_time(value)
    except ValueError:
        raise MalformedError(f"its {key} {shown(value)} is not a time") from None


def _item_properties(doc: Document) -> Mapping[str, Any]:
    """What an item says of itself, nothing where that is malformed."""
    properties = doc.get("properties")
    return properties if isinstance(properties, Mapping) else {}


def _item_interval(doc: Document) -> Interval:
    """First and last moment of an item: its own range, else its one time."""
    start, end = _moment_of_item(doc, "start_datetime"), _moment_of_item(doc, "end_datetime")
    if start is None and end is None:
        start = end = _moment_of_item(doc, "datetime")
    return start, end


def _item_footprint(doc: Document) -> BaseGeometry | None:
    """Where an item is: its geometry, else its bbox; None where it has neither.

    Raises:
        MalformedError: One is malformed, and the other does not help.
    """
    geometry = doc.get("geometry")
    fault = geometry_fault(geometry) if geometry else ""
    if geometry and not fault:
        shape = shapely.geometry.shape(geometry)
        west, south, east, north = shape.bounds
        if max(-west, east) <= 540 and max(-south, north) <= 90.5:
            return split_at_antimeridian(shape)
        fault = f"{shown(geometry)} is not in degrees"
    bounds = bounds_of(doc)
    if bounds is None:
        if not fault and doc.get("bbox") is None:
            return None
        raise MalformedError(f"its geometry cannot be used: {fault}" if fault else f"its bbox is {shown(doc['bbox'])}")
    west, south, east, north = bounds
    return split_at_antimeridian(shapely.box(west, south, east + 360 * (west > east), north))


def _sort_key(doc: Document, field: str) -> Any:
    """What an item is sorted by: values of one kind compare, kinds follow one another."""
    name = field.removeprefix("properties.")
    if name in ("id", "collection"):
        value: Any = doc.get(name)
    elif name in TIMES:
        try:
            moment = _moment_of_item(doc, name)
        except MalformedError:
            moment = None
        value = None if moment is None else moment.timestamp()
    else:
        value = _item_properties(doc).get(name)
    if value is None or value != value:  # noqa: PLR0124 - NaN differs from itself
        return None
    if isinstance(value, int | float):
        return 0, value, ""
    return 1, 0, str(value)


def interval_text(interval: Interval) -> str | None:
    """An interval as STAC APIs want it.

    Examples:
        >>> interval_text(read_interval("2021/.."))
        '2021-01-01T00:00:00Z/..'
    """
    if interval == (None, None):
        return None
    first, last = (".." if end is None else end.isoformat().replace("+00:00", "Z") for end in interval)
    return first if first == last else f"{first}/{last}"
