"""Tables of results as GeoParquet, GeoPackage, FlatGeobuf and GeoJSON."""

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely
from numpy.typing import NDArray
from pandas.api.types import is_datetime64_any_dtype, is_integer_dtype, is_scalar
from pyarrow.lib import ArrowException
from pyogrio.errors import FieldError
from pyproj import CRS

from remotesam_geo import __version__
from remotesam_geo.errors import InputError, WriteError
from remotesam_geo.geo.crs import body_of, name_of
from remotesam_geo.geo.reproject import carry

from .atomic import replacing
from .provenance import KEY, note_of

__all__ = ["in_degrees", "write_geojson", "write_ogr", "write_parquet"]

REFUSED = (ArrowException, FieldError, NotImplementedError, TypeError, ValueError)
"""What Arrow, pyogrio and JSON raise of values that they cannot hold."""
ROWS_A_PART = 1_000_000
ROWS_A_GROUP = 65_536
"""Few enough that a reader who wants one place skips most of a file."""
PART = re.compile(r"part-\d{5,}\.parquet")
MARK = b"remotesam_geo"
"""In each file's metadata, by which the next `save` knows that it may replace a folder of parts."""
STEP = 1e-7
"""Degrees: RFC 7946 asks for no more decimals; a centimetre."""


def write_parquet(table: gpd.GeoDataFrame, path: Path, *, rows_a_part: int = ROWS_A_PART) -> None:
    """Write GeoParquet 1.1 with a column of bounds, by which readers skip what is elsewhere.

    Args:
        table: What to write.
        path: A file; a folder of files, each a neighbourhood along a Hilbert curve, where there are more rows than go
            into one.
        rows_a_part: Most rows in one file.
    """
    with replacing(path, refused=REFUSED, ours=_is_own_folder) as new:
        if len(table) <= rows_a_part:
            _one_vector_parquet(table, new)
            return
        new.mkdir()
        near = table.iloc[np.argsort(_hilbert_order(table), kind="stable")]
        for part, first in enumerate(range(0, len(near), rows_a_part)):
            _one_vector_parquet(near.iloc[first : first + rows_a_part], new / f"part-{part:05d}.parquet", table)


def _is_own_folder(folder: Path) -> bool:
    """Whether a folder holds the files that `write_parquet` wrote, and nothing else."""
    try:
        return all(
            PART.fullmatch(path.name) and MARK in (pq.read_metadata(path).metadata or {}) for path in folder.iterdir()
        )
    except (OSError, ArrowException):
        return False


def write_ogr(table: gpd.GeoDataFrame, path: Path, *, driver: str) -> None:
    """Write GeoPackage or FlatGeobuf, the layer named as the file.

    Args:
        table: What to write.
        path: The file.
        driver: "GPKG" or "FlatGeobuf".
    """
    kinds = set(shapely.get_type_id(table.geometry.to_numpy()).tolist())
    with replacing(path, refused=REFUSED) as new:
        with warnings.catch_warnings():
            # Empty tables, and geometries that a zone never had: both are meant.
            warnings.filterwarnings("ignore", "Cannot determine CRS|.*crs. was not provided")
            table.to_file(
                new,
                driver=driver,
                engine="pyogrio",
                layer=path.stem,
                geometry_type=None if kinds else "Unknown",
                layer_metadata=note_of(table) or None,
            )
        written = pyogrio.read_info(new, force_feature_count=True)["features"]
        if written != len(table):  # GDAL does not tell of every write that fails
            raise WriteError(f"only {written} of {len(table)} rows could be written to {path}")


def write_geojson(table: gpd.GeoDataFrame, path: Path) -> None:
    """Write GeoJSON as RFC 7946 has it: longitude and latitude, seven decimals, cut at the antimeridian.

    Args:
        table: What to write.
        path: The file.

    Raises:
        InputError: It has no CRS.
    """
    if table.crs is None:
        raise InputError(
            "GeoJSON holds longitudes and latitudes, and this table has no CRS (results of pictures are in pixels): "
            "write .parquet, .gpkg or .fgb, or place it with table.set_crs(...)"
        )
    shapes = shapely.to_geojson(_rounded_coordinates(in_degrees(table.geometry)))
    rows = _json_rows(pd.DataFrame(table.drop(columns=table.geometry.name)))
    head: dict[str, Any] = {"type": "FeatureCollection"}
    for key, text in note_of(table).items():
        head[key] = json.loads(text) if key == KEY else text
    with replacing(path, refused=REFUSED) as new, new.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "features": [')
        for index, (shape, row) in enumerate(zip(shapes.tolist(), rows, strict=True)):
            file.write(",\n" if index else "\n")
            properties = json.dumps(row, ensure_ascii=False, allow_nan=False)
            file.write(f'{{"type": "Feature", "properties": {properties}, "geometry": {shape or "null"}}}')
        file.write("\n]}\n")


def in_degrees(shapes: gpd.GeoSeries) -> NDArray[np.object_]:
    """Geometries in longitude and latitude, each cut where it crosses the antimeridian.

    Args:
        shapes: In any CRS of the Earth; longitudes may count on past 180.

    Raises:
        InputError: They lie on another planet or moon, or somewhere that has no longitude and latitude.
    """
    own = CRS(shapes.crs)
    if not body_of(own).earth:
        raise InputError(
            f"longitude and latitude of WGS 84 are wanted, and {name_of(own)!r} belongs to another planet or moon: "
            "write .parquet, .gpkg or .fgb"
        )
    placed = np.asarray(shapes.to_crs("EPSG:4326").to_numpy(), object)
    bounds = shapely.bounds(placed)
    polygons = np.char.endswith(shapes.geom_type.to_numpy(str), "Polygon") & ~shapes.is_empty.to_numpy()
    # What leaps from one side of the world to the other was torn by the change of CRS.
    torn = (bounds[:, 2] - bounds[:, 0] > 180) & (not own.is_geographic)
    for index in np.flatnonzero(polygons & (torn | ~np.isfinite(bounds).all(axis=1))):
        placed[index] = _rfc7946_polygon(shapes.iloc[index], own)
    bounds = shapely.bounds(placed)
    torn &= ~polygons
    if torn.any():
        placed[torn] = shapely.transform(
            placed[torn], lambda xy: np.stack([np.where(xy[:, 0] < 0, xy[:, 0] + 360, xy[:, 0]), xy[:, 1]], axis=1)
        )  # fmt: skip
        bounds = shapely.bounds(placed)
    for index in np.flatnonzero((bounds[:, 0] < -180) | (bounds[:, 2] > 180)):
        placed[index] = _beyond_antimeridian(placed[index])
    return placed


def _rfc7946_polygon(shape: shapely.Geometry, crs: CRS) -> shapely.Geometry:
    """A polygon over a pole, across the antimeridian, or beyond where its CRS is defined, in degrees."""
    left, bottom, right, top = shape.bounds
    pixel = max(right - left, top - bottom) / 100
    done = carry(np.array([shape], object), crs, CRS("EPSG:4326"), pixel=pixel, middle=0.0)
    if done.placed[0] is None:
        raise InputError(
            f"a polygon with the bounds {shape.bounds} lies where {name_of(crs)!r} is not defined: leave it out"
        )
    return done.placed[0]


def _beyond_antimeridian(shape: shapely.Geometry) -> shapely.Geometry:
    """What lies past the antimeridian, moved to where its longitudes are in -180..180."""
    parts: list[shapely.Geometry] = []
    for turn in (-1, 0, 1):
        world = shapely.box(360 * turn - 180, -90, 360 * turn + 180, 90)
        inside = shapely.intersection(shape, world)
        kept = [part for part in shapely.get_parts([inside]) if part.geom_type == shape_kind(shape)]
        parts += [shapely.transform(part, lambda xy, by=360.0 * turn: xy - [by, 0]) for part in kept]
    if len(parts) == 1:
        return parts[0]
    return {"Polygon": shapely.MultiPolygon, "LineString": shapely.MultiLineString}.get(
        shape_kind(shape), shapely.MultiPoint
    )(parts)


def shape_kind(shape: shapely.Geometry) -> str:
    """The kind of which a geometry is made."""
    return str(shape.geom_type).removeprefix("Multi")


def _rounded_coordinates(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """To seven decimals, valid as before, the outer ring anticlockwise; what would vanish stays as it is."""
    coarse = shapely.set_precision(shapes, STEP)
    whole = np.where(shapely.is_empty(coarse) & ~shapely.is_empty(shapes), shapes, coarse)
    return np.asarray(shapely.orient_polygons(whole), object)


def _json_rows(columns: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Rows as plain JSON: times in UTC, what is missing or not finite as null."""
    index = columns.index
    if index.nlevels > 1 or index.name is not None or not is_integer_dtype(index.dtype):
        columns = columns.reset_index()  # as geopandas does: other numbers of rows say nothing
    plain = [_vector_column(columns.iloc[:, index]) for index in range(columns.shape[1])]
    names = [str(name) for name in columns.columns]
    return (dict(zip(names, row, strict=True)) for row in zip(*plain, strict=True))


def _vector_column(column: "pd.Series[Any]") -> list[Any]:
    if is_datetime64_any_dtype(column):
        utc = pd.to_datetime(column, utc=True)
        texts = [time.isoformat().replace("+00:00", "Z") for time in utc]
        return [None if gone else text for text, gone in zip(texts, utc.isna(), strict=True)]
    values = column.astype(object).tolist()
    return [_vector_json_value(value) for value in values]


def _vector_json_value(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    missing = bool(is_scalar(value) and pd.isna(value))
    return None if missing or value in (np.inf, -np.inf) else value


def _hilbert_order(table: gpd.GeoDataFrame) -> NDArray[np.uint64]:
    there = ~(table.geometry.isna() | table.geometry.is_empty).to_numpy()
    place = np.zeros(len(table), np.uint64)
    if there.any():
        place[there] = table.geometry[there].hilbert_distance().to_numpy()
    return place


def _one_vector_parquet(table: gpd.GeoDataFrame, path: Path, whole: gpd.GeoDataFrame | None = None) -> None:
    name = str(table.geometry.name)
    shapes = np.asarray(table.geometry.to_numpy(), object)
    bounds = shapely.bounds(shapes)
    plain = pd.DataFrame(table).assign(**{name: shapely.to_wkb(shapes, flavor="iso")})
    arrow = pa.Table.from_pandas(plain)
    arrow = arrow.set_column(
        arrow.schema.get_field_index(name),
        pa.field(name, pa.binary()),
        pa.array(plain[name].to_numpy(), pa.binary()),
    )
    covering = _unused_vector_column("bbox", arrow.column_names)
    sides = [pa.array(side, mask=np.isnan(side)) for side in bounds.T]
    corners = ["xmin", "ymin", "xmax", "ymax"]
    box = pa.StructArray.from_arrays(sides, corners, mask=pa.array(np.isnan(bounds).any(axis=1)))
    arrow = arrow.append_column(covering, box)
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": _geometry_kinds(table if whole is None else whole),
        "crs": None if table.crs is None else table.crs.to_json_dict(),
        "edges": "planar",
        "covering": {"bbox": {corner: [covering, corner] for corner in corners}},
    }
    if (there := bounds[~np.isnan(bounds).any(axis=1)]).size:
        column["bbox"] = [*there[:, :2].min(axis=0).tolist(), *there[:, 2:].max(axis=0).tolist()]
    geo = {"version": "1.1.0", "primary_column": name, "columns": {name: column}}
    note = note_of(table if whole is None else whole)
    metadata = {
        **(arrow.schema.metadata or {}),
        b"geo": json.dumps(geo).encode(),
        # By which geopandas brings attrs back.
        b"PANDAS_ATTRS": json.dumps(note).encode(),
        **{key.encode(): text.encode() for key, text in note.items()},
        MARK: __version__.encode(),
    }
    pq.write_table(
        arrow.replace_schema_metadata(metadata),
        path,
        compression="zstd",
        row_group_size=ROWS_A_GROUP,
    )


def _geometry_kinds(table: gpd.GeoDataFrame) -> list[str]:
    shapes = table.geometry.dropna()
    kinds = shapes.geom_type + np.where(shapes.has_z, " Z", "")
    return sorted(set(kinds))


def _unused_vector_column(name: str, taken: list[str]) -> str:
    while name in taken:
        name = f"_{name}"
    return name
