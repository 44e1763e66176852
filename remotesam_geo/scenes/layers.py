"""What a recipe is made of: layers, their files, variables, and grids as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError

from remotesam_geo.errors import InputError
from remotesam_geo.geo.grids import Bounds
from remotesam_geo.raster.gcps import Points


@dataclass(frozen=True, kw_only=True, slots=True)
class FileBands:
    """Bands of one file that are read together.

    Args:
        href: Unsigned URL, or path.
        asset: Key of the asset, for messages.
        indexes: Bands in the file, from 1.
        variables: For each of them its position among the recipe's variables; none for a cloud mask.
        scales: Physical value of one step, where the recipe is physical.
        offsets: Physical value of 0.
        nodata: "file" (what the file says), None (no value), or the value.
        resampling: As the reader understands it.
        cloud_values: Values that are clouds, in a cloud mask.
        cloud_bits: Bits that are.
        grid: The file's grid, for where it does not say it itself.
        points: Its ground control points, where it is to be warped by them.
        palette: Whether its first band holds positions in a palette, and indexes are those of red, green and blue.
    """

    href: str
    asset: str = ""
    indexes: tuple[int, ...]
    variables: tuple[int, ...] = ()
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    nodata: float | Literal["file"] | None = "file"
    resampling: str = "auto"
    cloud_values: tuple[int, ...] = ()
    cloud_bits: int = 0
    grid: GeoBox | None = None
    points: Points | None = None
    palette: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """What one item, or one file, gives to a scene.

    Args:
        number: What stands for it in the band `source`: its position in the whole scene.
        item: Its id.
        collection: Its collection.
        time: UTC as ISO text, or None.
        origin: URL of the item where it is a remote one.
        bounds: Where it lies, in the recipe's CRS.
        sources: What is read; cloud masks first.
        tiles: Row and column of the chunks it gives pixels to, in the recipe of an `odc.stac.load` call.
    """

    number: int
    item: str
    collection: str = ""
    time: str | None = None
    origin: str | None = None
    bounds: Bounds
    sources: tuple[FileBands, ...]
    tiles: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Variable:
    """One variable of a scene.

    Args:
        name: Its name.
        dtype: Its NumPy type.
        fill: What pixels that are not valid hold.
        attrs: Its attributes.
    """

    name: str
    dtype: str
    fill: float | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)


def grid_to_json(grid: GeoBox) -> dict[str, Any]:
    """A grid as plain JSON values."""
    return {
        "crs": None if grid.crs is None else str(grid.crs),
        "transform": list(grid.transform[:6]),
        "shape": list(grid.shape.yx),
    }


def grid_from_json(doc: Mapping[str, Any]) -> GeoBox:
    """Read what `grid_to_json` gave."""
    try:
        return GeoBox(tuple(doc["shape"]), Affine(*doc["transform"]), doc["crs"])
    except CRSError as error:
        raise InputError(f"a grid's CRS is {doc['crs']!r}, which PROJ does not know") from error
