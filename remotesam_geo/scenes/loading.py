"""From STAC items to a lazy scene: everything that can be wrong is found here, before the first pixel is read."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import shapely
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from remotesam_geo.errors import InputError, RemoteSAMWarning, number_in, one_of
from remotesam_geo.geo import grids
from remotesam_geo.geo.areas import LONLAT, area_of_interest
from remotesam_geo.geo.grids import Bounds
from remotesam_geo.net import trust as safety
from remotesam_geo.net.policy import ReadPolicy
from remotesam_geo.stac.documents import LeftOut
from remotesam_geo.stac.items import is_signed, read_items

from .arguments import check_names, check_reading, crs_of_user
from .compose import Masked, groups_of, layer_of, needs_units, variables_of
from .recipe import Layer, Recipe, Variable
from .select import Headers, Pick, fill_types, near, pick_bands, place

if TYPE_CHECKING:
    import xarray as xr

GroupBy = Literal["solar_day", "time", "item"]
Mosaic = Literal["first", "latest", "median"]
CHUNK = 2048
_ROUNDED = 2e-4  # degrees by which bounds in items may be rounded
_MEDIAN_BYTES = 256 << 20


def load(
    items: Any,
    bands: str | Sequence[str] | None = None,
    *,
    bbox: Sequence[float] | None = None,
    geometry: Any = None,
    crs: Any = None,
    resolution: float | None = None,
    geobox: GeoBox | None = None,
    chunks: int | Mapping[str, int] = CHUNK,
    groupby: GroupBy = "solar_day",
    mosaic: Mosaic | None = None,
    mask: Masked = None,
    rescale: bool | None = None,
    nodata: float | Literal["file"] | None = "file",
    max_pixels: int | None = None,
    policy: ReadPolicy | None = None,
) -> "xr.Dataset":
    """Make a lazy scene of STAC items; no pixel is read before it is asked for.

    Args:
        items: From `search`, pystac, or as dictionaries.
        bands: Common names ("red"), band names ("B04"), asset keys ("visual": all its bands) or
            "asset.index". None for the picture's red, green and blue.
        bbox: West, south, east, north in degrees; west > east crosses the antimeridian.
        geometry: Instead, the bounds of shapely (degrees), GeoJSON, GeoDataFrame or GeoSeries.
        crs: CRS of the scene ("utm": the zone of its middle); None for that of most of the items.
        resolution: Metres on the ground, whatever the CRS; None for that of the finest band.
        geobox: Instead of bbox, crs and resolution, the grid itself.
        chunks: Rows and columns of a chunk, or {"y": rows, "x": columns}; -1 for all.
        groupby: What makes one time: items of one solar day, of one time, or each item.
        mosaic: Take the time axis away: "first" (in the order of the items), "latest" (newest
            first), both of whole pixels, with a band `source`; or "median", band by band.
        mask: "clouds", by Sentinel-2's SCL or Landsat's QA_PIXEL; or which values of which bands to
            take out, {"SCL": [3, 8, 9, 10]} for example.
        rescale: True for reflectance and the like as float32; False for the numbers in the files;
            None for the latter, unless items differ in their scale or offset.
        nodata: "file" believes the files; None: no value means no data; or the value that does.
        max_pixels: Pixels a band that are allowed, where the guard against absurd sizes errs.
        policy: How patient and how trusting to read.

    Returns:
        A Dataset of dimensions (time,) y, x with the bands, `valid` (which pixels were answered) and
        coordinates time, items (ids) and spatial_ref. `Recipe.of(scene)` is its recipe.

    Raises:
        InputError: Nothing to load, unknown bands, no CRS, no overlap, an absurd size.
        ReadError: A header that is needed cannot be read.

    Examples:
        >>> grid = {"proj:epsg": 32631, "proj:shape": [100, 200],
        ...         "proj:transform": [10, 0, 500000, 0, -10, 5000000]}
        >>> picture = {"href": "https://example.com/a.tif", "type": "image/tiff",
        ...            "eo:bands": [{"common_name": c} for c in ("red", "green", "blue")],
        ...            "raster:bands": [{"data_type": "uint8"}]}
        >>> item = {"id": "a", "assets": {"visual": picture},
        ...         "properties": {"datetime": "2024-05-01T10:00:00Z"} | grid}
        >>> dict(load([item], resolution=20).sizes)
        {'time': 1, 'y': 50, 'x': 100}
    """
    notes: list[str] = []
    check_names(bands, numbers=False)
    check_reading(nodata=nodata, max_pixels=max_pixels, policy=policy, rescale=rescale, chunks=chunks)
    if not isinstance(mask, Mapping):
        one_of("mask", mask, ("clouds", None))
    if crs is not None and not (isinstance(crs, str) and crs.lower() == "utm"):
        crs = crs_of_user(crs)
    _check_arguments(groupby, mosaic, resolution, geobox, (bbox, geometry, crs, resolution))
    area = area_of_interest(bbox, geometry)
    if geobox is not None:
        area = shapely.box(*grids.footprints([geobox], LONLAT)[0])
    headers = Headers(policy or ReadPolicy())

    left = LeftOut()
    picks = pick_bands(
        read_items(items, left),
        [bands] if isinstance(bands, str) else bands,
        headers,
        notes.append,
        left,
    )
    if left:
        notes.append(left.text())
    picks = near(picks, area)
    picks = fill_types(picks, headers)
    unknown = geobox is None and (crs is None or resolution is None)
    picks = place(picks, headers, notes.append, needed=unknown)
    target = grids.crs_of(geobox) if geobox is not None else _crs_to_load_in(crs, picks, area, notes.append)
    bounds = _bounds_of_picks(picks, target)
    if geobox is None:
        natives = [pick.grid for pick in picks if pick.grid is not None]
        extent = grids.extent_of(area, bounds, target)
        geobox = grids.scene_grid(natives, extent, target, resolution)
    picks, boxes = _picks_on_grid(picks, bounds, geobox, notes.append)

    rescale = needs_units(picks) if rescale is None else rescale
    variables = variables_of(picks, rescale=rescale)
    layers = tuple(
        layer_of(pick, box, variables, number=number, mask=mask, nodata=nodata, rescale=rescale)
        for number, (pick, box) in enumerate(zip(picks, boxes, strict=True))
    )
    _check_hrefs(layers, headers.policy, notes.append)
    times, groups = groups_of(picks, groupby, mosaic, geobox)
    chunk = chunk_of(chunks, geobox)
    if mosaic == "median":
        chunk = _median_chunk(chunk, geobox, boxes, variables)
    grids.check_size(geobox, max(1, len(times)), chunk, most=max_pixels)
    for text in notes:
        warnings.warn(text, RemoteSAMWarning, stacklevel=2)
    return Recipe(
        geobox=geobox,
        layers=layers,
        times=times,
        groups=groups,
        variables=variables,
        mosaic=mosaic,
        physical=rescale,
        chunk=chunk,
        attrs={} if mosaic is None else {"mosaic": mosaic},
    ).open(policy=policy)


def _check_arguments(
    groupby: str,
    mosaic: str | None,
    resolution: float | None,
    geobox: GeoBox | None,
    others: Sequence[Any],
) -> None:
    one_of("groupby", groupby, get_args(GroupBy))
    one_of("mosaic", mosaic, (*get_args(Mosaic), None))
    if resolution is not None:
        number_in("resolution", resolution, 0, open_low=True)
    if not isinstance(geobox, GeoBox | None):
        raise InputError(f"geobox is a {type(geobox).__name__}: give an odc.geo GeoBox")
    if geobox is not None and any(value is not None for value in others):
        raise InputError("geobox= says it all: give no bbox=, geometry=, crs= or resolution=")
    if geobox is not None and geobox.crs is None:
        raise InputError("geobox= has no CRS: items can be loaded onto a georeferenced grid only")


def _crs_to_load_in(crs: Any, picks: Sequence[Pick], area: BaseGeometry | None, note: Callable[[str], None]) -> CRS:
    if crs is None:
        known = [pick.grid for pick in picks if pick.grid is not None]
        if not known:
            raise InputError("the CRS of the items is not known: give crs= and resolution=")
        return grids.majority_crs(known, note)
    if isinstance(crs, str) and crs.lower() == "utm":
        longitude, latitude = _middle_lonlat(picks, area)
        return CRS(f"EPSG:{CRS.utm(longitude, latitude).epsg}")
    return CRS(crs)


def _middle_lonlat(picks: Sequence[Pick], area: BaseGeometry | None) -> tuple[float, float]:
    """Longitude and latitude of the middle of the area, else of the first item."""
    if area is not None:
        west, south, east, north = area.bounds
        return (west + east) / 2, (south + north) / 2
    if picks[0].grid is not None:
        return grids.pixel_center(picks[0].grid)
    west, south, east, north = picks[0].item.bbox or (0.0, 0.0, 0.0, 0.0)
    return (west + east + (360 if west > east else 0)) / 2, (south + north) / 2


def _bounds_of_picks(picks: Sequence[Pick], crs: CRS) -> npt.NDArray[np.float64]:
    """Where every pick lies, N x 4: by its grid, or by its item's bounds with a margin."""
    shapes = []
    for pick in picks:
        if pick.grid is not None:
            shapes.append(pick.grid)
            continue
        west, south, east, north = pick.item.bbox or (math.nan,) * 4
        east += 360 if west > east else 0
        margin = _ROUNDED + (east - west) / 1000
        box = (west - margin, south - margin, east + margin, north + margin)
        shapes.append(grids.boxed(box, LONLAT))
    return grids.footprints(shapes, crs)


def _picks_on_grid(
    picks: Sequence[Pick],
    bounds: npt.NDArray[np.float64],
    geobox: GeoBox,
    note: Callable[[str], None],
) -> tuple[list[Pick], list[Bounds]]:
    """The picks that touch the scene's grid."""
    box = geobox.boundingbox
    kept = grids.overlaps(bounds, (box.left, box.bottom, box.right, box.top), geobox.crs)
    known = np.asarray(np.isfinite(bounds).all(axis=1))
    lost = [pick.item.id for pick, there in zip(picks, known, strict=True) if not there]
    if lost:
        note(f"{len(lost)} items cannot be expressed in {geobox.crs} and are left out: {lost[:3]}")
    if not kept.any():
        raise InputError(
            f"none of the {len(picks)} items overlaps the area asked for, "
            f"{tuple(round(v, 4) for v in (box.left, box.bottom, box.right, box.top))} in {geobox.crs}"
        )
    boxes = [(float(a), float(b), float(c), float(d)) for a, b, c, d in bounds[kept]]
    return [pick for pick, keep in zip(picks, kept, strict=True) if keep], boxes


def _check_hrefs(layers: Sequence[Layer], policy: ReadPolicy, note: Callable[[str], None]) -> None:
    """Refuse early what the reader would refuse, and say where a signature would be kept."""
    signed = []
    for layer in layers:
        for source in layer.sources:
            safety.check_href(source.href, origin=layer.origin, trust=policy.trust)
            if is_signed(source.href):
                signed.append(layer.item)
    if signed:
        note(
            f"the hrefs of {len(set(signed))} items carry a signature ({signed[0]} ...), which ends some "
            "day and is kept in the scene's recipe: load the unsigned items, with a signer in policy="
        )


def chunk_of(chunks: int | Mapping[str, int], geobox: GeoBox) -> tuple[int, int]:
    """Rows and columns of a chunk, as users write them."""
    names = geobox.dimensions
    if isinstance(chunks, Mapping):
        strange = set(chunks) - {*names, "y", "x"}
        if strange:
            raise InputError(f"chunks={dict(chunks)}: give rows and columns as {names}; one time a chunk")
        sides = [chunks.get(name, chunks.get(axis, CHUNK)) for name, axis in zip(names, "yx", strict=True)]
    else:
        sides = [chunks, chunks]
    out = []
    for side, length in zip(sides, geobox.shape, strict=True):
        if side < 1 and side != -1:
            raise InputError(f"chunks={chunks!r}: give a number of pixels, or -1 for all")
        out.append(length if side == -1 else min(side, length))
    return out[0], out[1]


def _median_chunk(
    chunk: tuple[int, int],
    geobox: GeoBox,
    bounds: Sequence[Bounds],
    variables: Sequence[Variable],
) -> tuple[int, int]:
    """Chunks so small that all the items under one of them fit in memory."""
    pixel = sum(np.dtype(variable.dtype).itemsize + 4 for variable in variables)
    deep = _most_items_over_a_place(geobox, bounds)
    side = min(chunk)
    while side > 64 and side * side * pixel * deep > _MEDIAN_BYTES:
        side //= 2
    return min(side, chunk[0]), min(side, chunk[1])


def _most_items_over_a_place(geobox: GeoBox, bounds: Sequence[Bounds]) -> int:
    """The most items over one place, counted on a coarse lattice."""
    box = geobox.boundingbox
    xs = np.linspace(box.left, box.right, 33)
    ys = np.linspace(box.bottom, box.top, 33)
    counts = np.zeros((32, 32), int)
    for west, south, east, north in bounds:
        columns = slice(
            np.searchsorted(xs, west, "right") - 1 if west > box.left else 0,
            np.searchsorted(xs, east),
        )
        rows = slice(
            np.searchsorted(ys, south, "right") - 1 if south > box.bottom else 0,
            np.searchsorted(ys, north),
        )
        counts[rows, columns] += 1
    return max(1, int(counts.max()))
