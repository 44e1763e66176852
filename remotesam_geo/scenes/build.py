"""From a recipe to a lazy scene: one task reads all bands of a chunk, each variable takes its own from it."""

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import rioxarray  # noqa: F401 - gives scenes their .rio
import xarray as xr
from dask.array.core import normalize_chunks
from dask.base import tokenize
from dask.delayed import delayed
from odc.geo.xr import xr_coords

from remotesam_geo.geo.grids import anchored
from remotesam_geo.net.policy import ReadPolicy

from .read_block import SOURCE, VALID, read_block

if TYPE_CHECKING:
    from .recipe import Recipe, Variable


def build(recipe: "Recipe", policy: ReadPolicy | None = None) -> xr.Dataset:
    """Make the lazy scene of a recipe.

    The graph holds the recipe once, as a value of its own, whatever the number of chunks.

    Args:
        recipe: What it is made of.
        policy: How to read.

    Returns:
        Dataset with the recipe's variables, `valid`, and for mosaics of whole pixels `source`.
    """
    token = tokenize(recipe, policy)
    shape = (len(recipe.times), *recipe.geobox.shape) if recipe.times else recipe.geobox.shape.yx
    cut = (1, *recipe.chunk) if recipe.times else recipe.chunk
    chunks = normalize_chunks(cut, shape)  # type: ignore[no-untyped-call]
    shared = delayed(recipe, name=f"recipe-{token}", traverse=False)
    pixels = da.map_blocks(  # type: ignore[no-untyped-call]
        _read,
        shared,
        policy,
        chunks=chunks,
        dtype=object,
        meta=np.empty((0,) * len(shape), object),
        name=f"scene-{token}",
    )

    def variable(name: str, dtype: npt.DTypeLike) -> Any:
        return da.map_blocks(  # type: ignore[no-untyped-call]
            _take_built_block,
            pixels,
            name,
            dtype=dtype,
            meta=np.empty((0,) * len(shape), dtype),
            name=f"{name}-{token}",
        )

    dims = ("time", *recipe.geobox.dimensions) if recipe.times else recipe.geobox.dimensions
    data = {v.name: (dims, variable(v.name, v.dtype), _built_attrs(v)) for v in recipe.variables}
    if recipe.odc is None:
        data[VALID] = (dims, variable(VALID, bool), {"long_name": "pixel is answered by an item"})
    if recipe.mosaic in {"first", "latest"}:
        about = {
            "long_name": "item that the pixel comes from, -1 for none",
            "flag_values": [layer.number for layer in recipe.layers],
            "flag_meanings": " ".join(layer.item for layer in recipe.layers),
        }
        data[SOURCE] = (dims, variable(SOURCE, np.int32), about)
    coords = dict(xr_coords(recipe.geobox))
    scene = xr.Dataset(data, coords=coords | _built_times(recipe), attrs=dict(recipe.attrs))
    if recipe.geobox.crs is not None:
        for name in scene.data_vars:
            scene[name].encoding["grid_mapping"] = "spatial_ref"
    return recipe.attach(scene, policy)


def _built_attrs(variable: "Variable") -> dict[str, Any]:
    attrs = dict(variable.attrs)
    if variable.fill is not None:
        attrs["nodata"] = variable.fill
    elif np.dtype(variable.dtype).kind == "f":
        attrs["nodata"] = float("nan")
    return attrs


def _built_times(recipe: "Recipe") -> dict[str, Any]:
    ids = np.array([" ".join(recipe.layers[index].item for index in group) for group in recipe.groups], object)
    if not recipe.times:
        return {"items": ((), ids[0])}
    times = np.array(recipe.times, dtype="datetime64[ns]")
    return {"time": ("time", times), "items": ("time", ids)}


def _read(recipe: "Recipe", policy: ReadPolicy | None, block_id: tuple[int, ...]) -> dict[str, npt.NDArray[Any]]:
    """One chunk of every variable, by name."""
    *time, row, column = block_id
    tall, wide = recipe.chunk
    height, width = recipe.geobox.shape
    rows = slice(row * tall, min((row + 1) * tall, height))
    columns = slice(column * wide, min((column + 1) * wide, width))
    part = anchored(recipe.geobox, recipe.geobox[rows, columns])
    block = read_block(recipe, part, time[0] if time else 0, policy=policy)
    shape = (1,) * len(time) + part.shape.yx
    arrays = block.bands | {VALID: block.valid, SOURCE: block.source}
    return {name: array.reshape(shape) for name, array in arrays.items()}


def _take_built_block(block: dict[str, npt.NDArray[Any]], name: str) -> npt.NDArray[Any]:
    return block[name]
