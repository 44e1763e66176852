"""Pixels of one part of a scene, read now: whole pixels from one item each, first choice first.

A pixel that several items cover comes from one of them in all its bands, never red from here and green from
there. Items are read in the order of choice, and reading stops once every pixel is valid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from odc.loader.types import RasterSource

from remotesam_geo.errors import ReadError
from remotesam_geo.geo.grids import Bounds, anchored, crs_of
from remotesam_geo.net.policy import ReadPolicy
from remotesam_geo.raster.gcps import source_window, warp_by_points
from remotesam_geo.raster.odc_driver import AssetBands, AssetRef, SceneDriver

from .odc_recipe import read_odc_block

if TYPE_CHECKING:
    from .recipe import FileBands, Layer, Recipe


Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

# The ground of pictures, which have none: pixels are copied in their own grid.
PIXELS = CRS(
    'ENGCRS["Pixels of a picture",EDATUM["Picture"],CS[Cartesian,2],AXIS["x",east],AXIS["y",south],'
    'LENGTHUNIT["metre",1]]'
)
SOURCE = "source"  # variables that every scene has besides its bands
VALID = "valid"
NOTHING = -1  # in the source band: no item has a valid pixel here


@dataclass(frozen=True, kw_only=True)
class ScenePart:
    """Pixels of one time of one part of a scene.

    Args:
        bands: Name to h x w array, in the recipe's types.
        valid: h x w: which pixels were answered by an item.
        source: h x w int32: number of that item's layer, -1 for none.
    """

    bands: dict[str, Array]
    valid: Mask
    source: npt.NDArray[np.int32]


def read_block(recipe: "Recipe", geobox: GeoBox, time: int = 0, *, policy: ReadPolicy | None = None) -> ScenePart:
    """Read one part of a scene at one time, without any graph.

    Args:
        recipe: What the scene is made of.
        geobox: The part; any grid that lies on the recipe's pixels gives the scene's own pixels.
        time: Position among the recipe's times.
        policy: How to read.

    Returns:
        The pixels.

    Raises:
        ReadError: Something could not be read; it never becomes no data.
    """
    geobox = anchored(recipe.geobox, geobox)
    if recipe.odc is not None:
        bands = read_odc_block(recipe, geobox, time, policy)
        shape = geobox.shape.yx  # which pixels are valid is told by their values
        return ScenePart(bands=bands, valid=np.ones(shape, bool), source=np.full(shape, NOTHING, np.int32))
    touching = set(recipe.touching(geobox))
    order = [index for index in recipe.groups[time] if index in touching]
    driver = SceneDriver() if policy is None else SceneDriver(policy=policy)
    reader = _Reader(recipe, driver)
    return _median_of_items(reader, geobox, order) if recipe.mosaic == "median" else _first_valid(reader, geobox, order)


def _first_valid(reader: "_Reader", geobox: GeoBox, order: Sequence[int]) -> ScenePart:
    """Every pixel from the first item that has it."""
    recipe, block = reader.recipe, reader.empty(geobox)
    arrays = list(block.bands.values())
    for index in order:
        missing = ~block.valid
        if not missing.any():
            break
        rows, columns = (np.flatnonzero(np.any(missing, axis=axis)) for axis in (1, 0))
        # only the part that is still missing is read
        roi = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        planes, valid = reader.layer(index, anchored(recipe.geobox, geobox[roi]))
        # Copied, not indexed: other threads work meanwhile, and the common case, all at once, is quick.
        take = True if valid.all() and missing.all() else valid & missing[roi]
        for array, plane in zip(arrays, planes, strict=True):
            np.copyto(array[roi], plane, where=take)
        np.copyto(block.source[roi], recipe.layers[index].number, where=take)
        block.valid[roi] |= valid
    return block


def _median_of_items(reader: "_Reader", geobox: GeoBox, order: Sequence[int]) -> ScenePart:
    """Every band's median over the items that are valid there."""
    block = reader.empty(geobox)
    found = [reader.layer(index, geobox) for index in order]
    if not found:
        return block
    valid = np.stack([mask for _, mask in found])  # n x h x w
    block.valid[...] = valid.any(axis=0)
    for position, array in enumerate(block.bands.values()):
        stack = np.stack([planes[position] for planes, _ in found]).astype("float32")
        middle = np.nanmedian(np.where(valid, stack, np.nan)[:, block.valid], axis=0)
        array[block.valid] = np.rint(middle) if array.dtype.kind in "ui" else middle
    return block


class _Reader:
    """The recipe's files through the driver."""

    def __init__(self, recipe: "Recipe", driver: SceneDriver) -> None:
        self.recipe = recipe
        self.driver = driver

    def empty(self, geobox: GeoBox) -> ScenePart:
        """A block without any valid pixel."""
        shape = geobox.shape.yx
        bands = {
            variable.name: np.full(shape, fill_value(variable.dtype, variable.fill), variable.dtype)
            for variable in self.recipe.variables
        }
        return ScenePart(
            bands=bands,
            valid=np.zeros(shape, bool),
            source=np.full(shape, NOTHING, np.int32),
        )

    def layer(self, index: int, geobox: GeoBox) -> tuple[list[Array], Mask]:
        """All bands of one item, valid where every one of them is and no cloud is."""
        layer = self.recipe.layers[index]
        valid = np.ones(geobox.shape.yx, bool)
        planes: list[Array] = [np.empty(0)] * len(self.recipe.variables)
        for source in layer.sources:
            if not valid.any():
                break
            values, known = self._source(layer, source, geobox)
            if not source.variables:
                valid &= ~_cloudy_pixels(values[0], source, known)
                continue
            valid &= known
            for position, plane in enumerate(source.variables):
                planes[plane] = self._typed(layer, source, position, values[position])
                if self.recipe.physical:  # a float64 may be beyond float32
                    valid &= np.isfinite(planes[plane])
        if not valid.any():
            planes = [np.zeros(geobox.shape.yx, v.dtype) for v in self.recipe.variables]
        return planes, valid

    def _source(self, layer: "Layer", source: "FileBands", geobox: GeoBox) -> tuple[Array, Mask]:
        """Bands of one file on a grid: B x h x w, and h x w for where they are known."""
        if source.points is not None and source.grid is not None:
            window = source_window(source.points, source.grid.shape.yx, geobox)
            if window is None:
                return self._nothing(source, geobox)
            rows, columns = window
            part = source.grid[slice(*rows), slice(*columns)]
            planes, valid = self._read(layer, source, part)
            origin = rows[0], columns[0]
            return warp_by_points(planes, valid, source.points, origin, geobox)
        if geobox.crs is None:  # a picture: pixels of its own grid, copied
            return self._read(layer, source, GeoBox(geobox.shape, geobox.transform, PIXELS))
        return self._read(layer, source, _same_turn(geobox, layer.bounds))

    def _nothing(self, source: "FileBands", geobox: GeoBox) -> tuple[Array, Mask]:
        shape = geobox.shape.yx
        dtypes = [self.recipe.variables[v].dtype for v in source.variables] or ["uint8"]
        return np.zeros((len(source.indexes), *shape), np.result_type(*dtypes)), np.zeros(shape, bool)

    def _read(self, layer: "Layer", source: "FileBands", geobox: GeoBox) -> tuple[Array, Mask]:
        raster = RasterSource(
            uri=source.href,
            band=0,
            geobox=source.grid,
            driver_data=AssetRef(item=layer.item, asset=source.asset, origin=layer.origin),
        )
        wanted = AssetBands(indexes=source.indexes, nodata=source.nodata, palette=source.palette)
        # The whole grid is told, so that it may read ahead.
        reader = self.driver.open(raster, self.driver.new_load(self.recipe.geobox))
        roi, found, valid = reader.whole_pixels(geobox, wanted, source.resampling)
        if not valid.all():
            found = np.where(valid, found, found.dtype.type(fill_value(found.dtype.str, None)))
        shape = geobox.shape.yx
        if valid.shape == shape:
            return found, valid
        values = np.zeros((len(found), *shape), found.dtype)
        known = np.zeros(shape, bool)
        values[(..., *roi)], known[roi] = found, valid
        return values, known

    def _typed(self, layer: "Layer", source: "FileBands", position: int, plane: Array) -> Array:
        """One band in the scene's type and units."""
        variable = self.recipe.variables[source.variables[position]]
        if self.recipe.physical:
            scale, offset = (
                np.float32(source.scales[position]),
                np.float32(source.offsets[position]),
            )
            with np.errstate(over="ignore", invalid="ignore"):
                return plane.astype("float32") * scale + offset
        if not np.can_cast(plane.dtype, variable.dtype, "safe"):
            raise ReadError(
                f"{source.asset or source.href} of {layer.item} holds {plane.dtype}, but the scene was "
                f"planned as {variable.dtype} from its metadata: load it with rescale=True, or "
                "correct the item's data_type"
            )
        return plane.astype(variable.dtype, copy=False)


def _same_turn(geobox: GeoBox, bounds: Bounds) -> GeoBox:
    """In degrees, a grid beyond the antimeridian on the side where a layer lies."""
    if not crs_of(geobox).geographic:
        return geobox
    box = geobox.boundingbox
    turn = 360 * round((box.left + box.right - bounds[0] - bounds[2]) / 720)
    if turn == 0:
        return geobox
    return GeoBox(geobox.shape, Affine.translation(-turn, 0) * geobox.transform, geobox.crs)


def _cloudy_pixels(values: Array, source: "FileBands", known: Mask) -> Mask:
    if source.cloud_bits:
        cloudy = np.bitwise_and(values.astype("int64"), source.cloud_bits) != 0
    else:
        cloudy = np.isin(values, source.cloud_values)
    found: Mask = np.logical_and(known, cloudy)
    return found


def fill_value(dtype: str, fill: float | None) -> float:
    """What a pixel that is not valid holds."""
    if fill is not None:
        return fill
    return float("nan") if np.dtype(dtype).kind == "f" else 0
