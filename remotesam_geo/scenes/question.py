"""What a search asks, checked once, and answered the same way over any list of items."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from remotesam_geo.errors import InputError, SearchError

from .areas import area_of_interest, check_bbox, shape_in_degrees, split_at_antimeridian
from .documents import Document
from .items import read_items

Interval = tuple[datetime | None, datetime | None]

_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?$")
_OPERATORS = {">=": "gte", "<=": "lte", "<>": "neq", "=": "eq", ">": "gt", "<": "lt"}
_COMPARISON = re.compile(r"\s*([^<>=]+?)\s*(>=|<=|<>|=|>|<)\s*([^<>=]+?)\s*")
_CLOCK = re.compile(r"[T ]\d")
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Question:
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
    ) -> "Question":
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
            raise InputError(
                f"max_items must be a whole number from 1, or None for all, not {max_items!r}"
            )
        return cls(
            collections=_names(collections, "collections"),
            bbox=plain,
            area=split,
            interval=read_interval(when),
            query=_query(query),
            filter=_filter(cql),
            ids=_names(ids, "ids"),
            sortby=_sortby(sortby),
            max_items=max_items,
        )

    def matches(self, doc: Document) -> bool:
        """Whether an item is an answer; `query` and `filter` are not looked at."""
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
        start, end = _times(doc)
        if start is None and end is None:
            return False
        return (last is None or start is None or start <= last) and (
            first is None or end is None or end >= first
        )

    def _is_there(self, doc: Document) -> bool:
        if self.area is None:
            return True
        footprint = _footprint(doc)
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


def _names(value: str | Sequence[str] | None, what: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = (value,) if isinstance(value, str) else tuple(value)
    if not names:
        raise InputError(f"{what} is empty, which asks for nothing; leave it out to ask for all")
    for name in names:
        if not (name and isinstance(name, str)):
            raise InputError(f"{what} must be a name or a list of names, not {value!r}")
    return names


def _query(value: Mapping[str, Any] | Sequence[str] | None) -> Mapping[str, Any] | None:
    """STAC's query; comparisons written as text become one, their numbers numbers."""
    if value is None or isinstance(value, Mapping):
        return value
    asked: dict[str, dict[str, Any]] = {}
    for part in [value] if isinstance(value, str) else value:
        found = _COMPARISON.fullmatch(str(part))
        if found is None:
            raise InputError(
                f"query {part!r} is no comparison; write 'eo:cloud_cover<20' or "
                "{'eo:cloud_cover': {'lt': 20}}"
            )
        name, operator, text = found.groups()
        try:
            operand = json.loads(text)
        except ValueError:
            operand = text
        asked.setdefault(name, {})[_OPERATORS[operator]] = operand
    return asked


def _filter(value: Mapping[str, Any] | str | None) -> Mapping[str, Any] | str | None:
    if value is None or isinstance(value, Mapping | str):
        return value
    raise InputError(f"filter must be CQL2, as a dictionary or as text, not {type(value)}")


def _sortby(value: str | Sequence[Any] | None) -> tuple[tuple[str, bool], ...]:
    """Fields and whether each falls, of "-datetime", a list of such, or STAC's own dictionaries."""
    if value is None:
        return ()
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

    Example:
        >>> first, last = read_interval("2021-06/..")
        >>> first.isoformat(), last
        ('2021-06-01T00:00:00+00:00', None)
    """
    if isinstance(value, str):
        parts: Sequence[Any] = value.strip().split("/")
    else:
        parts = list(value) if isinstance(value, Sequence) else [value]
    if len(parts) > 2 or not parts:
        raise InputError(f"datetime {value!r} must be one time, or a start and an end")
    spans = [_span(part, value) for part in parts]
    first, last = spans[0][0], spans[-1][1]
    if first is not None and last is not None and first > last:
        raise InputError(f"datetime {value!r} ends before it begins")
    return first, last


def _span(part: Any, whole: Any) -> Interval:
    """All the time that one end of an interval covers: a year from its first tick to its last."""
    if part is None or (isinstance(part, str) and part.strip() in ("", "..")):
        return None, None
    if isinstance(part, np.datetime64):
        part = str(part.astype("datetime64[us]"))
    if isinstance(part, datetime):  # pandas' timestamps as well
        moment = _utc(part)
        return moment, moment
    if isinstance(part, date):
        part = part.isoformat()
    text = str(part).strip()
    try:
        named = _DATE.match(text)
        if named is None:
            if not _CLOCK.search(text):
                raise ValueError(text)
            moment = _utc(datetime.fromisoformat(text))
            return moment, moment
        year, month, day = (None if group is None else int(group) for group in named.groups())
        start = datetime(int(year or 0), month or 1, day or 1, tzinfo=UTC)
        if day is not None:
            return start, start + timedelta(days=1) - _TICK
        following = (start.year + 1, 1) if month in (None, 12) else (start.year, start.month + 1)
        return start, datetime(*following, 1, tzinfo=UTC) - _TICK
    except (ValueError, OverflowError):
        raise InputError(
            f"datetime {whole!r}: {text!r} is no time; write '2021', '2021-06-03', "
            "'2021-06-03T10:00:00Z', or two of these with a slash, '..' for an open end"
        ) from None


def _utc(moment: datetime) -> datetime:
    """In UTC; a time without zone is taken as UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _moment(doc: Document, key: str) -> datetime | None:
    value = (doc.get("properties") or {}).get(key)
    if value is None:
        return None
    try:
        return _utc(value if isinstance(value, datetime) else datetime.fromisoformat(str(value)))
    except ValueError:
        raise SearchError(f"item {doc.get('id')}: its {key} {value!r} is not a time") from None


def _times(doc: Document) -> Interval:
    """First and last moment of an item: its own range, else its one time."""
    start, end = _moment(doc, "start_datetime"), _moment(doc, "end_datetime")
    if start is None and end is None:
        start = end = _moment(doc, "datetime")
    return start, end


def _footprint(doc: Document) -> BaseGeometry | None:
    """Where an item is: its geometry, else its bbox."""
    geometry = doc.get("geometry")
    if geometry:
        try:
            shape = shapely.geometry.shape(geometry)
        except (AttributeError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError):
            raise SearchError(
                f"item {doc.get('id')}: its geometry cannot be read: {str(geometry)[:80]}"
            ) from None
        return split_at_antimeridian(shape)
    bounds = read_items([doc])[0].bbox
    if bounds is None:
        return None
    west, south, east, north = bounds
    return split_at_antimeridian(shapely.box(west, south, east + 360 * (west > east), north))


def _sort_key(doc: Document, field: str) -> Any:
    """What an item is sorted by: values of one kind compare, kinds follow one another."""
    name = field.removeprefix("properties.")
    if name in ("id", "collection"):
        value: Any = doc.get(name)
    elif name in ("datetime", "start_datetime", "end_datetime"):
        moment = _moment(doc, name)
        value = None if moment is None else moment.timestamp()
    else:
        value = (doc.get("properties") or {}).get(name)
    if value is None:
        return None
    if isinstance(value, int | float):
        return None if math.isnan(value) else (0, float(value), "")
    return 1, 0.0, str(value)


def interval_text(interval: Interval) -> str | None:
    """An interval as STAC APIs want it.

    Example:
        >>> interval_text(read_interval("2021/.."))
        '2021-01-01T00:00:00Z/..'
    """
    if interval == (None, None):
        return None
    first, last = (
        ".." if end is None else end.isoformat().replace("+00:00", "Z") for end in interval
    )
    return first if first == last else f"{first}/{last}"
