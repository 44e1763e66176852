"""Checks of the arguments that `load`, `open_raster` and `render` share, before anything is read."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from odc.geo.crs import CRS
from pyproj.exceptions import CRSError

from remotesam_geo.errors import InputError, number_in, one_of
from remotesam_geo.geo.coordinates import check_horizontal
from remotesam_geo.net.policy import ReadPolicy

__all__ = ["check_chunks", "check_names", "check_path", "check_reading", "crs_of_user"]


def check_reading(*, nodata: object, max_pixels: object, policy: object, rescale: object, chunks: object) -> None:
    """Check how a scene is to be read.

    Raises:
        InputError: One of them cannot be used.
    """
    if isinstance(nodata, str):
        one_of("nodata", nodata, ("file", None))
    elif nodata is not None and (isinstance(nodata, bool) or not isinstance(nodata, int | float)):
        raise InputError(
            f"nodata={nodata!r} is not allowed: give 'file', None for no such value, or the value as a number"
        )
    if max_pixels is not None:
        number_in("max_pixels", max_pixels, 1, whole=True)
    if not isinstance(policy, ReadPolicy | None):
        raise InputError(f"policy is a {type(policy).__name__}: give ReadPolicy(...), or leave it out")
    one_of("rescale", rescale, (True, False, None))
    check_chunks(chunks)


def check_chunks(chunks: object) -> None:
    """Check the size of chunks.

    Raises:
        InputError: It is neither a number of pixels nor a mapping of dimensions to such numbers.
    """
    sides: Sequence[object] = list(chunks.values()) if isinstance(chunks, Mapping) else [chunks]
    for side in sides:
        if type(side) is int and (side == -1 or side >= 1):
            continue
        raise InputError(
            f"chunks={chunks!r} is not allowed: give pixels along a side, {{'y': rows, 'x': columns}}, or -1 for all"
        )


def check_path(path: object) -> None:
    """Check the path or URL of a raster.

    Raises:
        InputError: It is something else.
    """
    if not isinstance(path, str | PurePath) or not str(path).strip():
        raise InputError(f"path is {path!r}: give the path or URL of a raster")


def check_names(bands: object, *, numbers: bool) -> None:
    """Check the names of bands to read.

    Args:
        bands: None, a name, or several.
        numbers: Whether positions from 1, and mappings from names to positions, will do.

    Raises:
        InputError: They are something else.
    """
    if bands is None or (isinstance(bands, str) and bands.strip()):
        return
    entries: list[object] = []
    if isinstance(bands, Mapping) and numbers:
        entries = list(bands.values())
    elif isinstance(bands, Sequence) and not isinstance(bands, str | bytes):
        entries = list(bands)
    for entry in entries:
        if not (isinstance(entry, str) and entry.strip()) and not (numbers and _is_position(entry)):
            entries = []
            break
    if not entries:
        kinds = "names or numbers from 1" if numbers else "names"
        raise InputError(f"bands={bands!r} is not allowed: give {kinds}, such as ['red', 'green', 'blue']")


def _is_position(entry: object) -> bool:
    return isinstance(entry, int) and not isinstance(entry, bool) and entry >= 1


def crs_of_user(crs: Any) -> CRS:
    """The CRS that a user names.

    Raises:
        InputError: PROJ knows no such CRS, or it has no horizontal coordinates on the ground.
    """
    try:
        if isinstance(crs, bool | float):  # True would be EPSG:1
            raise CRSError(f"{crs!r} is no code")
        found = CRS(crs)
    except (CRSError, ValueError, TypeError, AttributeError):
        raise InputError(f"crs={crs!r} is no CRS that PROJ knows; 'EPSG:32631' for example") from None
    check_horizontal(found, "crs=")
    return found
