"""Recipes of `odc.stac.load` calls: the same pixels for any part of the grid, in any process.

odc-stac decides once which items give pixels to which chunk. The recipe keeps that, so a part is read from the same
items, in the same order, as the whole.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import odc.stac
from odc.geo.geobox import GeoBox, GeoboxTiles
from odc.loader._builder import _fill_nd_slice
from odc.loader.types import RasterBandMetadata, RasterLoadParams, RasterSource

from remotesam_geo.errors import InputError
from remotesam_geo.net.credentials import stripped
from remotesam_geo.net.policy import ReadPolicy
from remotesam_geo.net.trust import is_remote
from remotesam_geo.raster.odc_driver import AssetRef, SceneDriver
from remotesam_geo.raster.plain_bands import BY_GDAL

from .layers import FileBands, Layer, Variable, grid_from_json, grid_to_json

if TYPE_CHECKING:
    from .read_block import Array
    from .recipe import Recipe

CHUNK = 2048  # odc-stac's own, where a load has none
_KEPT = ("dtype", "resampling", "use_overviews", "fail_on_error")
_FUSER = "fuser_fqn"  # which odc-loader 0.6.0 lacks
_REFUSED = {
    "patch_url": "give recipe.open or Job.create a policy with a signer, which signs at each read",
    "driver": "a recipe is read by SceneDriver; give recipe.open or Job.create a policy",
    "with_properties": "properties are no pixels",
    "progress": "nothing is read now",
    "pool": "nothing is read now",
    "debug": "it is not kept",
}


def plan_load(items: Iterable[Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the recipe of `odc.stac.load(items, **arguments)`.

    Raises:
        InputError: An argument cannot be kept.
    """
    for name, value in arguments.items():
        if name in _REFUSED and value is not None:
            raise InputError(f"{name}= cannot be kept in a recipe: {_REFUSED[name]}")
        if callable(value):
            raise InputError(f"{name}= is a function, which cannot be kept in a recipe: give a name instead")
    items = list(items)
    chunks = arguments.get("chunks") or {"x": CHUNK, "y": CHUNK}
    if arguments.get("chunks") == {}:
        chunks = {}
    options = {**arguments, "chunks": chunks, "driver": SceneDriver(), "debug": True}
    scene = odc.stac.load(items, **options)
    plan = scene.encoding["debug"]
    grid: GeoBox = plan.gbt.base
    tiles: dict[int, set[tuple[int, int]]] = {}
    for (_, row, column), members in plan.tyx_bins.items():
        for index in members:
            tiles.setdefault(index, set()).add((row, column))
    names = list(plan.load_cfg)
    shape = plan.gbt.chunk_shape((0, 0)).yx
    variables = tuple(_odc_recipe_variable(name, cfg) for name, cfg in plan.load_cfg.items())
    layers = tuple(
        _odc_recipe_layer(
            index,
            item,
            {name: plan.srcs[index].get(name) for name in names},
            plan.gbt,
            sorted(tiles.get(index, ())),
        )
        for index, item in enumerate(items)
    )
    return {
        "geobox": grid,
        "layers": layers,
        "times": tuple(str(time) for time in scene.time.values),
        "groups": tuple(tuple(group) for group in plan.grouped_idx),
        "variables": variables,
        "chunk": (min(shape[0], grid.shape[0]), min(shape[1], grid.shape[1])),
        "odc": {
            "grid": grid_to_json(grid),
            "chunk": [int(side) for side in shape],
            "bands": [
                {key: getattr(cfg, key) for key in _KEPT}
                | {_FUSER: getattr(cfg, _FUSER, None)}
                | {"data_type": None if cfg.meta is None else cfg.meta.data_type}
                for cfg in plan.load_cfg.values()
            ],
        },
    }


def _odc_recipe_variable(name: str, cfg: RasterLoadParams) -> Variable:
    fill = cfg.fill_value
    attrs = {} if cfg.meta is None else dict(cfg.meta.attrs)
    known = fill is not None and not np.isnan(fill)
    return Variable(name=name, dtype=str(cfg.dtype), fill=fill if known else None, attrs=attrs)


def _odc_recipe_layer(
    index: int,
    item: Any,
    sources: Mapping[str, RasterSource | None],
    gbt: GeoboxTiles,
    tiles: list[tuple[int, int]],
) -> Layer:
    boxes = np.array([gbt[tile].boundingbox.bbox for tile in tiles] or [(0.0,) * 4])
    (west, south), (east, north) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    bounds = float(west), float(south), float(east), float(north)
    own = item.get_self_href()
    found = [
        FileBands(
            href=source.uri,
            asset=name,
            indexes=(source.band,),
            variables=(position,),
            grid=source.geobox if isinstance(source.geobox, GeoBox) else None,
        )
        for position, (name, source) in enumerate(sources.items())
        if source is not None
    ]
    return Layer(
        number=index,
        item=item.id,
        collection=item.collection_id or "",
        time=None if item.datetime is None else item.datetime.isoformat(),
        origin=stripped(own) if own and is_remote(own) else None,
        bounds=bounds,
        sources=tuple(found),
        tiles=tuple(tiles),
    )


def read_odc_block(recipe: "Recipe", geobox: GeoBox, time: int, policy: ReadPolicy | None) -> dict[str, "Array"]:
    """Every band of one part at one time, as `odc.stac.load` gives it."""
    plan: Any = recipe.odc
    driver = SceneDriver() if policy is None else SceneDriver(policy=policy)
    load = driver.new_load(recipe.geobox)
    configs = [
        RasterLoadParams(
            fill_value=variable.fill,
            meta=RasterBandMetadata(band["data_type"], variable.fill),
            **{key: band[key] for key in _KEPT},
            **({_FUSER: band[_FUSER]} if band[_FUSER] else {}),
        )
        for variable, band in zip(recipe.variables, plan["bands"], strict=True)
    ]
    out = {v.name: np.empty(geobox.shape.yx, v.dtype) for v in recipe.variables}
    for tile, chunk, inner, roi in _cells(plan, geobox):
        layers = [
            recipe.layers[index] for index in recipe.groups[time] if tile is None or tile in recipe.layers[index].tiles
        ]
        for position, (cfg, array) in enumerate(zip(configs, out.values(), strict=True)):
            readers = [
                driver.open(
                    RasterSource(
                        uri=source.href,
                        band=source.indexes[0],
                        geobox=source.grid,
                        driver_data=AssetRef(item=layer.item, asset=source.asset, origin=layer.origin),
                    ),
                    load,
                )
                for layer in layers
                for source in layer.sources
                if position in source.variables
            ]
            # What GDAL resamples may depend on the chunk: then all of it is read.
            whole = cfg.resampling.lower() in BY_GDAL
            target = chunk if whole else chunk[inner]
            pixels = np.empty(target.shape.yx, array.dtype)
            _fill_nd_slice(readers, target, cfg, pixels)
            array[roi] = pixels[inner] if whole else pixels
    return out


def _cells(plan: Mapping[str, Any], part: GeoBox) -> Iterator[tuple[Any, GeoBox, Any, Any]]:
    """The chunks of the load under a part: number, grid, what of it is wanted, and where that lies in the part."""
    grid = grid_from_json(plan["grid"])
    place = ~grid.transform * part.transform
    column, row = round(place.c), round(place.f)
    step = (place.a - 1, place.b, place.d, place.e - 1, place.c - column, place.f - row)
    (height, width), (down, across) = part.shape.yx, plan["chunk"]
    inside = 0 <= row <= grid.shape[0] - height and 0 <= column <= grid.shape[1] - width
    if part.crs != grid.crs or not np.allclose(step, 0, atol=1e-6) or not inside:
        every = np.s_[0:height, 0:width]  # another grid: all items that touch it, in one piece
        yield None, part, every, every
        return
    rows = range(row // down, -(-(row + height) // down))
    columns = range(column // across, -(-(column + width) // across))
    for y, x in itertools.product(rows, columns):
        chunk = grid[y * down : (y + 1) * down, x * across : (x + 1) * across]
        top, left = max(row, y * down), max(column, x * across)
        bottom = min(row + height, (y + 1) * down)
        right = min(column + width, (x + 1) * across)
        inner = np.s_[top - y * down : bottom - y * down, left - x * across : right - x * across]
        roi = np.s_[top - row : bottom - row, left - column : right - column]
        yield (y, x), chunk, inner, roi
