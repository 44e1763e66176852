"""How a result was made, as it travels with it: in a table's attrs, and in a file's own metadata."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pyogrio
import rasterio
import zarr

from remotesam_geo.errors import InputError, path_of

__all__ = ["KEY", "SPACE", "note_of", "read_provenance"]

KEY, SPACE = "remotesam", "space"


def note_of(result: Any) -> dict[str, str]:
    """What of a result's attrs is written into files: texts by name."""
    return {key: str(result.attrs[key]) for key in (KEY, SPACE) if result.attrs.get(key) is not None}


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Read how a result was made back from its file.

    Args:
        path: What `save` wrote.

    Returns:
        Versions, the model, what was asked and how, and what failed; as in `attrs["remotesam"]`.

    Raises:
        InputError: There is no such file, it is of another kind, or it says nothing.

    Examples:
        >>> import tempfile
        >>> import geopandas as gpd
        >>> from remotesam_geo import read_provenance, save
        >>> table = gpd.GeoDataFrame({"label": []}, geometry=[], crs="EPSG:32633")
        >>> table.attrs["remotesam"] = '{"model": "tiny"}'
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     read_provenance(save(table, f"{folder}/ships.gpkg"))
        {'model': 'tiny'}
    """
    place = path_of("path", path)
    if not place.exists():
        raise InputError(f"there is no {str(path)!r}")
    readers = {
        ".parquet": _parquet_metadata, ".geoparquet": _parquet_metadata, ".gpkg": _ogr_metadata, ".fgb": _ogr_metadata,
        ".geojson": _geojson_metadata, ".json": _geojson_metadata, ".tif": _tiff_tags, ".tiff": _tiff_tags,
        ".zarr": _zarr_attributes,
    }  # fmt: skip
    reader = readers.get(place.suffix.lower())
    if reader is None:
        raise InputError(f"{place.name!r} must end in one of {', '.join(readers)}")
    note = reader(place).get(KEY)
    if note is None:
        raise InputError(f"{place.name!r} does not say how it was made: was it written by save?")
    found: dict[str, Any] = note if isinstance(note, dict) else json.loads(note)
    return found


def _parquet_metadata(path: Path) -> Mapping[str, Any]:
    first = min(path.glob("*.parquet"), default=path) if path.is_dir() else path
    stored = pq.read_schema(first).metadata or {}
    return {key.decode(): text.decode() for key, text in stored.items()}


def _ogr_metadata(path: Path) -> Mapping[str, Any]:
    return pyogrio.read_info(path)["layer_metadata"] or {}


def _geojson_metadata(path: Path) -> Mapping[str, Any]:
    with path.open(encoding="utf-8") as file:
        first = file.readline().rstrip()
        try:  # the first line of our own files says it all
            found: dict[str, Any] = json.loads(first + "]}")
        except ValueError:
            found = json.loads(first + file.read())
    return found


def _tiff_tags(path: Path) -> Mapping[str, Any]:
    with rasterio.open(path) as file:
        tags: dict[str, str] = file.tags()
    return tags


def _zarr_attributes(path: Path) -> Mapping[str, Any]:
    node = zarr.open(str(path), mode="r")
    if isinstance(node, zarr.Group):
        for _, array in node.arrays():
            if KEY in array.attrs:
                return dict(array.attrs)
    return dict(node.attrs)
