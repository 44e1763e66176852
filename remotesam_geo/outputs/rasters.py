"""Maps of probabilities and of classes as cloud-optimised GeoTIFF and Zarr: a byte a pixel, as the map was made."""

import colorsys
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import odc.geo.xr  # noqa: F401 - gives arrays their .odc
import pandas as pd
import rasterio
import rasterio.shutil
import rioxarray
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from remotesam_geo import __version__
from remotesam_geo.errors import InputError, path_of
from remotesam_geo.geo.coordinates import grid_of
from remotesam_geo.mapping.lazy import ENCODING, STEP
from remotesam_geo.tasks import NO_DATA, decode, encode

from .atomic import replacing
from .provenance import KEY, note_of

__all__ = [
    "class_names",
    "is_classes",
    "is_probabilities",
    "open_probabilities",
    "write_cog",
    "write_zarr",
]

MARK, ROOT = "remotesam_geo", "zarr.json"
BLOCK = 512
CHUNK = 1024


def is_probabilities(result: object) -> bool:
    """Whether this is what `probabilities` returns."""
    return isinstance(result, xr.DataArray) and "prompt" in result.dims and result.dtype.kind == "f"


def is_classes(result: object) -> bool:
    """Whether this is what `classmap` returns."""
    return isinstance(result, xr.DataArray) and "flag_meanings" in result.attrs


def class_names(classes: xr.DataArray) -> list[str]:
    """Names of the classes of a map, by their number; as asked, where the map says how it was."""
    names = str(classes.attrs["flag_meanings"]).split()
    note = json.loads(classes.attrs.get("remotesam", "{}"))
    asked = [prompt["label"] for group in note.get("asked", []) for prompt in group["prompts"]]
    return ["background", *asked] if len(asked) == len(names) - 1 else names


def write_cog(result: xr.DataArray, path: Path) -> None:
    """Write a map as a cloud-optimised GeoTIFF.

    Probabilities are bytes with scale and offset, a band for each time and prompt; classes are numbers with a colour
    table, a band for each time. Lazy maps are computed block by block, each window asked once.

    Args:
        result: From `probabilities` or `classmap`.
        path: The file.
    """
    bands = _raster_bands(result)
    high, wide = bands.geobox.shape.yx
    profile = {
        "driver": "GTiff", "count": len(bands.names), "height": high, "width": wide, "dtype": bands.codes.dtype.name,
        "transform": bands.geobox.affine, "nodata": bands.nodata, "tiled": True, "blockxsize": BLOCK,
        "blockysize": BLOCK, "BIGTIFF": "IF_SAFER", "SPARSE_OK": True, "interleave": "band",
        "photometric": "MINISBLACK", "alpha": "NO",  # four maps are no colours with transparency
    }  # fmt: skip
    if bands.geobox.crs is not None:
        profile["crs"] = str(bands.geobox.crs)
    with replacing(path) as new:
        flat = new.with_name("flat.tif")
        with rasterio.Env(GDAL_CACHEMAX=256), rasterio.open(flat, "w", **profile) as file:
            target: Any = _Rows(file)
            da.store(bands.codes, target, lock=True)
            file.update_tags(**note_of(result), **bands.tags)
            for index, (name, tags) in enumerate(bands.names, 1):
                file.set_band_description(index, name)
                file.update_tags(index, **tags)
            if bands.colours:
                file.write_colormap(1, bands.colours)
            else:
                file.scales = [STEP] * len(bands.names)
                file.offsets = [ENCODING["add_offset"]] * len(bands.names)
        rasterio.shutil.copy(
            flat, new, driver="COG", COMPRESS="DEFLATE", BLOCKSIZE=BLOCK, BIGTIFF="IF_SAFER",
            OVERVIEW_RESAMPLING="MODE" if bands.colours else "AVERAGE", NUM_THREADS="1", SPARSE_OK="YES",
        )  # fmt: skip
        with rasterio.open(new) as file:  # GDAL does not tell of every write that fails
            for index in file.indexes:
                file.checksum(index)
        flat.unlink()


def write_zarr(result: xr.DataArray, path: Path) -> None:
    """Write a map as Zarr, as xarray and GDAL read it.

    Args:
        result: From `probabilities` or `classmap`.
        path: The folder.
    """
    own = result.copy(deep=False)
    if is_probabilities(result):
        own.encoding = dict(ENCODING)
        own = own.assign_coords(prompt=np.array([str(p) for p in own["prompt"].values], object))
    space = {str(dim): CHUNK for dim in result.odc.spatial_dims}
    own = own.chunk({**{str(dim): 1 for dim in own.dims}, **space})
    for key in ("chunks", "preferred_chunks", "shards"):
        own.encoding.pop(key, None)
    dataset = own.to_dataset(name="map" if own.name is None else own.name)
    dataset.attrs[MARK] = __version__  # by which the next `save` knows that it may replace the store
    with replacing(path, ours=_is_own_store) as new:
        dataset.to_zarr(new, mode="w", consolidated=False)


def _is_own_store(folder: Path) -> bool:
    """Whether a folder is a Zarr store that `write_zarr` wrote, and holds nothing else."""
    try:
        about = json.loads((folder / ROOT).read_bytes())
        marked = MARK in about["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    files = [path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir()]
    return marked and all(path.name == ROOT or "c" in path.parts for path in files)


def open_probabilities(path: str | Path) -> xr.DataArray:
    """Open probabilities that were saved as COG or Zarr, lazily; every map verb takes them in place of a scene.

    Args:
        path: What `save` wrote, ending in .tif, .tiff or .zarr.

    Returns:
        As from `RemoteSAM.probabilities`: (time if there are several, prompt, y, x), NaN where there is no answer.

    Raises:
        InputError: There is no such file, or it holds something else.

    Examples:
        >>> from remotesam_geo import open_probabilities                     # doctest: +SKIP
        >>> model.count(open_probabilities("ships.tif"), threshold=0.4)      # doctest: +SKIP
    """
    place = path_of("path", path)
    if not place.exists():
        raise InputError(f"there is no {str(path)!r}")
    kind = place.suffix.lower()
    if kind == ".zarr":
        dataset = xr.open_zarr(place, consolidated=False, decode_coords="all")
        held = [array for array in dataset.data_vars.values() if is_probabilities(array)]
    elif kind in {".tif", ".tiff"}:
        held = _probabilities_from_cog(place)
    else:
        raise InputError(f"{place.name!r} must end in .tif, .tiff or .zarr")
    if len(held) != 1:
        raise InputError(f"{place.name!r} holds no probabilities: was it written by save?")
    (one,) = held
    # Through the byte: decoding by scale and offset rounds differently.
    exact = one.copy(data=one.data.map_blocks(lambda part: decode(_codes_of_raster_block(part)), dtype=np.float32))
    whole = exact.assign_coords(prompt=np.array([str(label) for label in one["prompt"].values], object))
    whole.name, whole.encoding = "probability", dict(ENCODING)
    whole.attrs = {key: one.attrs[key] for key in (KEY,) if key in one.attrs}
    return xr.DataArray(whole)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Bands:
    """A map as the bands of a file.

    Attributes:
        codes: Their values (band, y, x).
        names: Of each band, its description and tags.
        tags: Of the file.
        nodata: Stands for no answer.
        colours: By number; none for probabilities.
        geobox: Their grid.
    """

    codes: "da.Array"
    names: list[tuple[str, dict[str, str]]]
    tags: dict[str, str]
    nodata: int
    colours: dict[int, tuple[int, int, int]] | None
    geobox: GeoBox


def _raster_bands(result: xr.DataArray) -> _Bands:
    geobox = grid_of(result, "this map")
    y, x = (str(dim) for dim in result.odc.spatial_dims)
    order = [dim for dim in ("time", "prompt", y, x) if dim in result.dims]
    if left := set(result.dims) - set(order):
        raise InputError(f"this map has the dimensions {sorted(map(str, left))} too: select one of each")
    data = da.asarray(result.transpose(*order).data)  # type: ignore[no-untyped-call]
    codes = data.reshape(-1, *data.shape[-2:])
    times = (
        [_raster_time_text(time) for time in np.atleast_1d(result["time"].values)] if "time" in result.coords else [""]
    )
    if is_probabilities(result):
        labels = [str(label) for label in result["prompt"].values]
        return _Bands(
            codes=codes.map_blocks(_codes_of_raster_block, dtype=np.uint8),
            names=[
                (f"{label} {time}".strip(), {"prompt": label, **({"time": time} if time else {})})
                for time in times
                for label in labels
            ],
            tags={},
            nodata=NO_DATA,
            colours=None,
            geobox=geobox,
        )
    names = class_names(result)
    wide = len(names) > 255
    nodata = 65535 if wide else 255
    kind = np.uint16 if wide else np.uint8
    return _Bands(
        codes=codes.map_blocks(lambda block: np.where(block < 0, nodata, block).astype(kind), dtype=kind),
        names=[(f"class {time}".strip(), {"time": time} if time else {}) for time in times],
        tags={"class_names": json.dumps(names), "flag_meanings": str(result.attrs["flag_meanings"])},
        nodata=nodata,
        colours=class_colours(len(names)),
        geobox=geobox,
    )  # fmt: skip


def _codes_of_raster_block(block: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    # Storage by whole steps brings the byte 0 back as half a step below zero.
    return encode(np.where((block < 0) & (block > -STEP), np.float32(0), block).astype(np.float32))


def _raster_time_text(value: np.datetime64) -> str:
    return "" if np.isnat(value) else f"{pd.Timestamp(value).isoformat()}Z"


def class_colours(count: int) -> dict[int, tuple[int, int, int]]:
    """Colours of classes by number, background black; neighbours in number are far apart in hue."""
    golden = 0.618033988749895
    colours = {0: (0, 0, 0)}
    for index in range(1, count):
        rgb = colorsys.hsv_to_rgb((index * golden) % 1, 0.55 + 0.4 * (index % 2), 0.95)
        colours[index] = (round(255 * rgb[0]), round(255 * rgb[1]), round(255 * rgb[2]))
    return colours


@dataclass(frozen=True, eq=False)
class _Rows:
    """An open file as dask stores to it."""

    file: Any

    def __setitem__(self, place: tuple[slice, ...], block: NDArray[Any]) -> None:
        bands, rows, cols = place
        self.file.write(
            block,
            indexes=list(range(bands.start + 1, bands.stop + 1)),
            window=Window.from_slices(rows, cols),
        )


def _probabilities_from_cog(path: Path) -> list[xr.DataArray]:
    with rasterio.open(path) as file:
        tags = [file.tags(index) for index in file.indexes]
        note = file.tags()
    if not all("prompt" in each for each in tags):
        return []
    array = rioxarray.open_rasterio(path, chunks={"x": CHUNK, "y": CHUNK}, masked=True, mask_and_scale=True)
    if not isinstance(array, xr.DataArray):
        return []
    labels = list(dict.fromkeys(each["prompt"] for each in tags))
    times = list(dict.fromkeys(each.get("time", "") for each in tags))
    parts = [
        array.isel(band=slice(index * len(labels), (index + 1) * len(labels)))
        .rename(band="prompt")
        .assign_coords(prompt=np.array(labels, object))
        for index in range(len(times))
    ]
    dates = [np.datetime64(time.removesuffix("Z"), "ns") for time in times if time]
    whole = parts[0] if len(parts) == 1 else xr.concat(parts, "time")
    if dates:
        whole = whole.assign_coords(time=dates if len(parts) > 1 else dates[0])
    whole.attrs = {key: note[key] for key in (KEY,) if key in note}
    return [whole]
