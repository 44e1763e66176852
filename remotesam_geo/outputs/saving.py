"""One way to write any result: the ending of the path says what kind of file it becomes."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import xarray as xr

from remotesam_geo.errors import InputError, number_in, path_of

from .rasters import is_classes, is_probabilities, write_cog, write_zarr
from .vectors import ROWS_A_PART, write_geojson, write_ogr, write_parquet

__all__ = ["save"]

TABLES = (".parquet", ".geoparquet", ".gpkg", ".fgb", ".geojson", ".json")
MAPS = (".tif", ".tiff", ".zarr")


def save(
    result: gpd.GeoDataFrame | xr.DataArray,
    path: str | Path,
    *,
    rows_a_part: int = ROWS_A_PART,
) -> Path:
    """Write a result, whole or not at all, with how it was made in the file's own metadata.

    Args:
        result: A table of any verb, or a map from `probabilities` or `classmap`, which is computed block by block.
        path: Where to. Its ending says what it becomes: for tables .parquet or .geoparquet (GeoParquet 1.1), .gpkg,
            .fgb, .geojson or .json (RFC 7946); for maps .tif or .tiff (cloud-optimised GeoTIFF) or .zarr. A plain file
            there, or a folder that `save` wrote, is replaced once all is written; any other folder is refused. A
            symbolic link is followed.
        rows_a_part: Most rows of one GeoParquet file; larger tables become a folder of them.

    Returns:
        The path.

    Raises:
        InputError: The ending is none of these, the result cannot be stored so (pixels of a picture as GeoJSON, say),
            or a folder with other things is there.
        WriteError: It cannot be written; what was there before is kept.

    Examples:
        >>> import tempfile
        >>> import geopandas as gpd
        >>> from shapely import box
        >>> from remotesam_geo import save
        >>> ships = gpd.GeoDataFrame({"label": ["ship"]}, geometry=[box(0, 0, 9, 9)], crs="EPSG:32633")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     gpd.read_file(save(ships, f"{folder}/ships.fgb")).label.tolist()
        ['ship']
    """
    target = path_of("path", path)
    number_in("rows_a_part", rows_a_part, 1, whole=True)
    kind = target.suffix.lower()
    if isinstance(result, gpd.GeoDataFrame):
        _check_saved_extension(kind, TABLES, target, "a table")
        if result.active_geometry_name is None:
            raise InputError("this table has no geometry: say which column it is, with table.set_geometry(...)")
        if kind in {".parquet", ".geoparquet"}:
            write_parquet(result, target, rows_a_part=rows_a_part)
        elif kind in {".geojson", ".json"}:
            write_geojson(result, target)
        else:
            write_ogr(result, target, driver="GPKG" if kind == ".gpkg" else "FlatGeobuf")
    elif is_probabilities(result) or is_classes(result):
        _check_saved_extension(kind, MAPS, target, "a map")
        (write_zarr if kind == ".zarr" else write_cog)(result, target)
    else:
        raise InputError(_unknown_result_to_save(result))
    return target


def _check_saved_extension(kind: str, known: tuple[str, ...], target: Path, what: str) -> None:
    if kind not in known:
        raise InputError(f"{target.name!r} says not what {what} shall become: end it in one of {', '.join(known)}")


def _unknown_result_to_save(result: Any) -> str:
    return (
        f"a {type(result).__name__} is no result that save knows: give the table of a verb, or the DataArray of "
        "probabilities or classmap"
    )
