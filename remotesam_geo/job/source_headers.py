"""What the files of a job looked like when it was created, and what has changed since.

Compared are the grid, the types and nodata values of the bands, and a cheap check of the content: the size, and a
digest of a few samples of the bytes. Times of modification and ETags are not compared: a copy has others.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import xarray as xr
from pyproj import CRS
from pyproj.exceptions import CRSError

from remotesam_geo.errors import InputError, ReadError
from remotesam_geo.geo.coordinates import grid_of
from remotesam_geo.net.trust import is_remote
from remotesam_geo.raster.odc_driver import fingerprint
from remotesam_geo.scenes import ReadPolicy
from remotesam_geo.scenes.recipe import grid_to_json

from .source_recipe import SourceRecipe, open_store

__all__ = ["File", "changes", "describe"]

File = Mapping[str, Any]
"""What is noted of one file or store: "href", and "header", None where it could not be read."""

REMOTE = 200
"""Remote files whose headers are noted: the first of a job."""
CHUNKS = 4096
"""Chunk files of a Zarr store whose sizes are noted."""
AT_ONCE = 8


def describe(origin: SourceRecipe, policy: ReadPolicy | None) -> list[File]:
    """Note what each file of a job's source looks like now.

    A file that cannot be read now is noted without a header, and is never said to have changed.
    """
    if origin.store is not None:
        return [{"href": origin.store, "header": _store_header(Path(origin.store))}]
    hrefs = _recipe_hrefs(origin)
    remote = set(islice((href for href in hrefs if is_remote(href)), REMOTE))
    wanted = [href for href in hrefs if not is_remote(href) or href in remote]
    return _read_headers({href: hrefs[href] for href in wanted}, policy)


def changes(files: Sequence[File], origin: SourceRecipe, policy: ReadPolicy | None, *, remote: bool) -> list[str]:
    """What differs between the files of a job as they were noted and as they are now.

    Args:
        files: As from `describe`.
        origin: The job's source.
        policy: How to read.
        remote: Whether to look at remote files, too, and to miss a Zarr store that is gone.

    Returns:
        A line per file that changed.
    """
    before = {file["href"]: file["header"] for file in files if file["header"] is not None}
    if origin.store is not None:
        now: list[File] = [{"href": href, "header": _store_header(Path(href))} for href in before]
    else:
        known = _recipe_hrefs(origin)
        wanted = [href for href in before if href in known and (remote or not is_remote(href))]
        now = _read_headers({href: known[href] for href in wanted}, policy)
    lines = []
    for file in now:
        if file["header"] is None:
            if origin.store is not None and remote:  # chunks that are gone would be read as no data
                lines.append(f"{file['href']} is gone, or cannot be read")
            continue
        different = list(_header_differences(before[file["href"]], file["header"]))
        if different:
            lines.append(f"{file['href']}: {'; '.join(different)}")
    return lines


def _recipe_hrefs(origin: SourceRecipe) -> dict[str, str | None]:
    """Each address of a recipe, with the URL of the item that names it."""
    layers = () if origin.recipe is None else origin.recipe.layers
    return {source.href: layer.origin for layer in layers for source in layer.sources}


def _read_headers(hrefs: Mapping[str, str | None], policy: ReadPolicy | None) -> list[File]:
    def one(href: str) -> File:
        try:
            return {"href": href, "header": fingerprint(href, origin=hrefs[href], policy=policy)}
        except (ReadError, InputError):
            return {"href": href, "header": None}

    with _header_threads(len(hrefs)) as pool:
        return list(pool.map(one, hrefs))


@contextmanager
def _header_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(max(1, min(AT_ONCE, count)))
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # an interrupt does not wait for a silent server


def _store_header(path: Path) -> dict[str, Any] | None:
    try:
        scene = open_store(path)
        grid = grid_to_json(grid_of(scene))
    except (InputError, ReadError):
        return None
    return {
        "crs": grid["crs"],
        "transform": grid["transform"],
        "sizes": {str(name): int(size) for name, size in scene.sizes.items()},
        "types": {str(name): _zarr_header_type(array) for name, array in scene.data_vars.items()},
        "bytes": _chunk_sizes_digest(path),
    }


def _zarr_header_type(array: xr.DataArray) -> str:
    fill = array.attrs.get("_FillValue", array.encoding.get("_FillValue"))
    return f"{array.dtype}, fill value {fill!r}"


def _chunk_sizes_digest(path: Path) -> str:
    """A digest of the names and sizes of a store's chunks, the first in order of their names."""
    mark, left = hashlib.sha256(), CHUNKS
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names)[:left]:
            if name.startswith((".z", "zarr.json")):
                continue
            place = Path(folder, name)
            with suppress(OSError):
                mark.update(f"{place.relative_to(path)} {place.stat().st_size}\n".encode())
            left -= 1
        if left <= 0:
            break
    return mark.hexdigest()[:32]


def _header_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in now:
        if name not in before or before[name] == now[name]:
            continue
        if name == "crs" and _same_crs_in_headers(before[name], now[name]):
            continue
        if name in ("bytes", "sample"):
            yield f"the content is another ({name} differ)"
        else:
            yield f"{name} was {_short_header_value(before[name])}, is {_short_header_value(now[name])}"


def _same_crs_in_headers(one: str | None, other: str | None) -> bool:
    try:
        return None not in (one, other) and CRS(one).equals(CRS(other), ignore_axis_order=True)
    except CRSError:
        return False


def _short_header_value(value: Any) -> str:
    if isinstance(value, list):
        return f"({', '.join(map(str, value))})"
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
