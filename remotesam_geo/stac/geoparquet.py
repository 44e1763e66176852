"""Items as stac-geoparquet: columns that other tools read, and nothing lost on the way back.

Columns cannot hold every item exactly: JSON tells a missing field from a null one, knows numbers
without a type, and lets a field be text here and a list there. Where an item would come back in any
way different, its JSON rides along in the column `EXACT`; items of one product mostly need none.
"""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from remotesam_geo.geo.geojson import geometry_fault
from remotesam_geo.net.redact import redact

from .documents import TIMES, Document, LeftOut, MalformedError, bbox_fault, parse_time, read_json

EXACT = "remotesam_geo:exact"
VERSION = "1.0.0"
_TOP = (
    "type",
    "stac_version",
    "stac_extensions",
    "id",
    "geometry",
    "bbox",
    "links",
    "assets",
    "collection",
)
_TIMES = (*TIMES, "created", "updated", "published", "expires")
_SIDES = {4: ("xmin", "ymin", "xmax", "ymax"), 6: ("xmin", "ymin", "zmin", "xmax", "ymax", "zmax")}


def encode(docs: Sequence[Document]) -> bytes:
    """Items as a Parquet file.

    Args:
        docs: STAC items.

    Returns:
        The file.
    """
    rows = [_row_of_document(doc) for doc in docs]
    names = dict.fromkeys([*_TOP, *(name for row in rows for name in row if _is_name(name))])
    columns = {name: _arrow_column(name, [row.get(name) for row in rows]) for name in names}
    table = pa.table({name: column for name, column in columns.items() if column is not None})
    returned = [_document_of_row(row) for row in table.to_pylist()]
    exact = [
        None if _document_text(back) == _document_text(doc) else _document_text(doc, ordered=True)
        for back, doc in zip(returned, docs, strict=True)
    ]
    if any(exact):
        table = table.append_column(EXACT, pa.array(exact, pa.large_string()))
    file = io.BytesIO()
    table = table.replace_schema_metadata(_geoparquet_metadata(docs, table.column_names))
    pq.write_table(table, file, compression="zstd", write_page_checksum=True)
    return file.getvalue()


def decode(data: bytes, place: str, left: LeftOut) -> list[Document]:
    """Items of a stac-geoparquet file, whoever wrote it.

    Args:
        data: The file.
        place: Where it came from, for errors.
        left: Takes rows that are malformed and left out.

    Raises:
        MalformedError: It is damaged, or holds no items.
    """
    try:
        table = pq.read_table(io.BytesIO(data), page_checksum_verification=True)
        names = table.column_names
    except _ARROW_RAISES as error:
        raise MalformedError(f"{redact(place)} is not a readable Parquet file: {error}") from error
    if not {"id", "assets"} <= set(names) and "geometry" not in names:
        raise MalformedError(f"{redact(place)} holds no STAC items: its columns are {', '.join(names[:12])}")
    if len(set(names)) < len(names):
        raise MalformedError(f"{redact(place)} has several columns of one name: {', '.join(names[:12])}")
    docs = []
    for number, row in enumerate(_table_rows(table, left, place), start=1):
        try:
            docs.append(_geoparquet_json(row.pop(EXACT, None)) or _document_of_row(row))
        except _ROW_RAISES as error:
            left.whole(f"row {number} of {redact(place)}", f"{type(error).__name__}: {error}")
    return docs


# Arrow checks a file where it is first used; dates beyond the year 9999 are values that Python does not have.
_ROW_RAISES = (
    MalformedError, LookupError, AttributeError, TypeError, ValueError, shapely.errors.ShapelyError,
)  # fmt: skip
_ARROW_RAISES = (pa.ArrowException, OSError, ValueError, OverflowError, TypeError, LookupError)


def _table_rows(table: pa.Table, left: LeftOut, place: str) -> list[dict[str, Any]]:
    """The rows of a table; columns that cannot be read are left out."""
    columns: dict[str, list[Any]] = {}
    for name in table.column_names:
        try:
            columns[name] = table[name].to_pylist(maps_as_pydicts="lossy")
        except _ARROW_RAISES as error:
            left.part(f"column {name} of {redact(place)}", str(error))
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _geoparquet_json(text: Any) -> Document | None:
    return None if text is None else read_json(str(text).encode(), EXACT)


def _document_text(doc: Mapping[str, Any], *, ordered: bool = False) -> str:
    """One text for equal items; the order of fields is no part of JSON, save that of the assets."""
    assets = [] if ordered else [list(doc.get("assets") or {})]
    return json.dumps([doc, *assets] if assets else doc, sort_keys=not ordered)


def _row_of_document(doc: Document) -> dict[str, Any]:
    row = {name: doc.get(name) for name in _TOP if name not in ("geometry", "bbox")}
    geometry, box = doc.get("geometry"), doc.get("bbox")
    if geometry and not geometry_fault(geometry):
        row["geometry"] = shapely.to_wkb(shapely.geometry.shape(geometry), flavor="iso")
    if box is not None and not bbox_fault(box):
        row["bbox"] = dict(zip(_SIDES[len(box)], map(float, box), strict=True))
    others = {key: value for key, value in doc.items() if key not in (*_TOP, "properties")}
    for name, value in {**others, **(doc.get("properties") or {})}.items():
        if name not in row and name not in (*_TOP, EXACT):
            row[name] = _geoparquet_time(value) if name in _TIMES else value
    return row


def _geoparquet_time(value: Any) -> datetime | None:
    try:
        return parse_time(value)
    except ValueError:
        return None


def _arrow_column(name: str, values: list[Any]) -> pa.Array | None:
    if name == "geometry":
        return pa.array(values, pa.binary())
    if name == "datetime" or (name in _TIMES and any(values)):
        return pa.array(values, pa.timestamp("us", tz="UTC"))
    return _arrow_array(values)


def _arrow_array(values: list[Any]) -> pa.Array | None:
    """Values as Arrow; None where there is nothing to hold, text where they are of many kinds."""
    there = [value for value in values if value is not None]
    if there and all(isinstance(value, dict) for value in there):
        keys = dict.fromkeys(key for value in there for key in value if _is_name(key))
        fields = {key: _arrow_array([(value or {}).get(key) for value in values]) for key in keys}
        held = {key: array for key, array in fields.items() if array is not None}
        if not held:
            return None
        missing = pa.array([value is None for value in values])
        return pa.StructArray.from_arrays(list(held.values()), list(held), mask=missing)
    if not there:
        return None
    try:
        array = pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return pa.array([None if value is None else json.dumps(value) for value in values])
    return array if _parquet_can_store(array.type) else None


def _parquet_can_store(kind: pa.DataType) -> bool:
    """Whether Parquet can hold a type: not one of structs without fields."""
    if pa.types.is_struct(kind):
        fields = [kind.field(i).type for i in range(kind.num_fields)]
        return bool(fields) and all(map(_parquet_can_store, fields))
    return not pa.types.is_list(kind) or _parquet_can_store(kind.value_type)


def _is_name(key: str) -> bool:
    """Whether Arrow can name a column so: not with half of a surrogate pair."""
    return key.isascii() or key.encode("utf-8", "replace").decode() == key


def _document_of_row(row: dict[str, Any]) -> Document:
    doc: Document = {"type": "Feature", "stac_version": "1.0.0", "stac_extensions": []}
    filled = {name: _json_of_arrow(value) for name, value in row.items() if value is not None}
    doc |= {name: filled[name] for name in ("stac_version", "stac_extensions", "id") if name in filled}
    doc["geometry"] = _geoparquet_geometry(row.get("geometry"))
    box = filled.get("bbox")
    if isinstance(box, dict):
        sides = _SIDES[6 if "zmin" in box else 4]
        doc["bbox"] = [box[side] for side in sides if side in box]
    elif box:
        doc["bbox"] = box
    kept = {name: value for name, value in filled.items() if name not in _TOP}
    doc["properties"] = {**({} if "datetime" in kept else {"datetime": None}), **kept}
    doc |= {"links": filled.get("links", []), "assets": filled.get("assets", {})}
    for name in ("links", "assets"):
        if isinstance(doc[name], str):  # a column of text, where the values are of many kinds
            doc[name] = json.loads(doc[name])
    if "collection" in filled:
        doc["collection"] = filled["collection"]
    return doc


def _geoparquet_geometry(value: Any) -> Document | None:
    if value is None:
        return None
    shape = shapely.from_wkb(value)
    found: Document = json.loads(json.dumps(shapely.geometry.mapping(shape)))
    return found


def _json_of_arrow(value: Any) -> Any:
    """A value of Arrow as JSON has it; absent fields are left out."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, dict):
        return {key: _json_of_arrow(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_json_of_arrow(inner) for inner in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value


def _geoparquet_metadata(docs: Iterable[Document], names: list[str]) -> dict[str, str]:
    """What GeoParquet and stac-geoparquet want said of a file."""
    geometry: dict[str, Any] = {"encoding": "WKB", "geometry_types": []}
    if "bbox" in names:
        sides = {side: ["bbox", side] for side in _SIDES[4]}
        geometry["covering"] = {"bbox": sides}
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
    collections = sorted({str(doc["collection"]) for doc in docs if doc.get("collection")})
    return {
        "geo": json.dumps(geo),
        "stac-geoparquet": json.dumps({"version": VERSION, "collections_in_file": collections}),
    }
