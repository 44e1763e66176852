"""Where rasters lie, and the grid of a scene: footprints, the choice of CRS and resolution, the size guard."""

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
from affine import Affine
from odc.geo import xy_
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from odc.stac import output_geobox
from pyproj.exceptions import ProjError
from shapely.geometry.base import BaseGeometry

from remotesam_geo.errors import InputError

from .areas import LONLAT, bounds_in

Bounds = tuple[float, float, float, float]  # west, south, east, north
Floats = npt.NDArray[np.float64]

MOST_BLOCKS = 250_000
MOST_PIXELS = 400_000_000_000
_EDGE = 16  # points along an edge when a footprint goes to another CRS
_METRES_A_DEGREE = 111_319.49


@functools.cache
def short_crs(crs: str) -> CRS:
    """A CRS by its EPSG code where it is exactly that one, so that equal ones are written alike."""
    given = CRS(crs)
    if given.epsg is None:
        return given
    known = CRS(f"EPSG:{given.epsg}")
    return known if known.proj.equals(given.proj, ignore_axis_order=True) else given


def tidied(grid: GeoBox) -> GeoBox:
    """The same grid, its CRS written shortly."""
    return GeoBox(grid.shape, grid.transform, short_crs(str(crs_of(grid))))


def boxed(bounds: Bounds, crs: CRS | None) -> GeoBox:
    """A grid of one pixel with just these bounds."""
    west, south, east, north = bounds
    return GeoBox((1, 1), Affine(east - west, 0, west, 0, south - north, north), crs)


def crs_of(grid: GeoBox) -> CRS:
    """The CRS of a grid that must have one."""
    if grid.crs is None:
        raise InputError("the grid has no CRS: only pictures are without, and they lie nowhere")
    return grid.crs


def footprints(grids: Sequence[GeoBox], crs: CRS | None) -> Floats:
    """Bounds of many grids in one CRS, edges followed.

    Args:
        grids: In any CRSs.
        crs: The CRS wanted.

    Returns:
        N x 4: west, south, east, north; NaN where a grid cannot be expressed in it.
    """
    out = np.full((len(grids), 4), np.nan)
    steps = np.linspace(0, 1, _EDGE, endpoint=False)
    zero, one = np.zeros(_EDGE), np.ones(_EDGE)
    # once round a unit square
    xs = np.concatenate([steps, one, 1 - steps, zero])
    ys = np.concatenate([zero, steps, one, 1 - steps])
    by_crs: dict[CRS | None, list[int]] = {}
    for position, grid in enumerate(grids):
        by_crs.setdefault(grid.crs, []).append(position)
    for own, positions in by_crs.items():
        edges = np.empty((len(positions), 2, len(xs)))
        for row, position in enumerate(positions):
            grid = grids[position]
            height, width = grid.shape
            a, b, c, d, e, f = grid.transform[:6]
            across, down = xs * width, ys * height
            edges[row] = a * across + b * down + c, d * across + e * down + f
        x, y = edges[:, 0], edges[:, 1]
        if own is not None and crs is not None and own != crs:
            try:
                x, y = own.transformer_to_crs(crs)(x.ravel(), y.ravel())
            except ProjError:  # one of them is of another planet
                continue
            x, y = x.reshape(edges[:, 0].shape), y.reshape(edges[:, 1].shape)
            x = _longitudes_past_180(x) if crs.geographic else x
        known = np.isfinite(x + y).all(axis=1, keepdims=True)
        found = np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=1)
        out[positions] = np.where(known, found, np.nan)
    return out


def _longitudes_past_180(longitudes: Floats) -> Floats:
    """Longitudes of rings that cross the antimeridian (N x points), counted on past 180."""
    with np.errstate(invalid="ignore"):
        crossing = np.max(longitudes, axis=1) - np.min(longitudes, axis=1) > 180
        shifted = longitudes + 360 * (longitudes < 0)
    return np.where(np.reshape(crossing, (-1, 1)), shifted, longitudes)


def misplaced(grids: Sequence[GeoBox | None], boxes: Sequence[Bounds | None]) -> list[bool]:
    """Which grids do not lie where their item says: a wrong zone, or a CRS of elsewhere.

    Args:
        grids: As the items describe them.
        boxes: Bounds of the items in degrees.

    Returns:
        For each item whether its grid lies elsewhere.
    """
    both = [
        position
        for position, (grid, box) in enumerate(zip(grids, boxes, strict=True))
        if grid is not None and box is not None
    ]
    wrong = [False] * len(grids)
    found = footprints([grid for position in both if (grid := grids[position]) is not None], LONLAT)
    for row, position in enumerate(both):
        box = boxes[position]
        if box is not None:
            wrong[position] = not _grid_overlap_in_degrees(found[row], box)
    return wrong


def _grid_overlap_in_degrees(found: Floats, box: Bounds) -> bool:
    if not np.isfinite(found).all():
        return False
    west, south, east, north = box
    east += 360 if west > east else 0
    if found[3] < south or found[1] > north:
        return False
    return any(found[0] + turn <= east and found[2] + turn >= west for turn in (-360, 0, 360))


def overlaps(bounds: Floats, box: Bounds, crs: CRS | None) -> npt.NDArray[np.bool_]:
    """Which of N x 4 bounds overlap a box; in degrees, whole turns apart are the same place."""
    west, south, east, north = box
    turns = (-360, 0, 360) if crs is not None and crs.geographic else (0,)
    beside = np.zeros(len(bounds), dtype=bool)
    with np.errstate(invalid="ignore"):
        for turn in turns:
            beside |= (bounds[:, 0] + turn < east) & (bounds[:, 2] + turn > west)
        return beside & (bounds[:, 1] < north) & (bounds[:, 3] > south)


def majority_crs(grids: Iterable[GeoBox], note: Callable[[str], None]) -> CRS:
    """The most frequent CRS; where that is a draw, the first by name. A mixture is reported."""
    counts = Counter(str(grid.crs) for grid in grids)
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    if len(ordered) > 1:
        told = ", ".join(f"{_short_crs_name(name)} ({count})" for name, count in ordered)
        note(
            f"the items lie in several CRSs: {told}. All are brought to {_short_crs_name(ordered[0][0])}; "
            "choose another with crs=."
        )
    return CRS(ordered[0][0])


def _short_crs_name(crs: str) -> str:
    return crs if len(crs) < 40 else f"{crs[:36]}..."


def ground_resolution(crs: CRS, metres: float, at: tuple[float, float]) -> tuple[float, float]:
    """Sizes in units of a CRS of a pixel that is `metres` on the ground.

    In a UTM zone or a national grid metres are metres and stay exactly what was asked for; in
    degrees and in Web Mercator the size depends on the latitude.

    Args:
        crs: The CRS of the grid.
        metres: Pixel size on the ground.
        at: A place in the CRS, the middle of the scene.

    Returns:
        x, y.
    """
    if crs.geographic:
        shrink = math.cos(math.radians(min(abs(at[1]), 89.0)))
        return metres / (_METRES_A_DEGREE * shrink), metres / _METRES_A_DEGREE
    unit = crs.proj.axis_info[0].unit_conversion_factor or 1.0
    size = metres / unit
    name = crs.proj.coordinate_operation.method_name if crs.proj.coordinate_operation else ""
    if "Mercator" in name and "Transverse" not in name:
        _, latitude = crs.transformer_to_crs(LONLAT)(*at)
        size /= math.cos(math.radians(min(abs(latitude), 89.0)))
    return size, size


def north_up(grid: GeoBox) -> GeoBox:
    """The same pixels with north up and west left; a rotated grid gets the box round it.

    A grid that is only flipped keeps every pixel; a rotated one is given square pixels of the same
    area, onto which it will be warped.
    """
    a, b, c, d, e, f = grid.transform[:6]
    height, width = grid.shape
    if b == 0 == d:
        west, north = min(c, c + a * width), max(f, f + e * height)
        return GeoBox((height, width), Affine(abs(a), 0, west, 0, -abs(e), north), grid.crs)
    size = math.sqrt(abs(a * e - b * d))
    west, south, east, north = grid.boundingbox
    shape = (math.ceil((north - south) / size - 1e-9), math.ceil((east - west) / size - 1e-9))
    return GeoBox(shape, Affine(size, 0, west, 0, -size, north), grid.crs)


def scene_grid(
    natives: Sequence[GeoBox],
    extent: Bounds,
    crs: CRS,
    resolution: float | None,
) -> GeoBox:
    """The grid of a scene: on the pixels of most of its rasters wherever that is possible.

    Args:
        natives: Grids of the rasters, in any CRS, finest band of each.
        extent: Bounds to cover, in `crs`.
        crs: The CRS wanted.
        resolution: Metres on the ground, None for that of the rasters.

    Returns:
        A north-up grid that covers the extent.
    """
    own = [north_up(grid) for grid in natives if grid.crs == crs]
    middle = ((extent[0] + extent[2]) / 2, (extent[1] + extent[3]) / 2)
    size: tuple[float, float] | None = None
    if resolution is not None:
        size = ground_resolution(crs, resolution, middle)
    elif not own and natives:
        # None lies in this CRS: the ground resolution of most of them.
        metres = Counter(round(_pixel_metres(grid), 6) for grid in natives)
        size = ground_resolution(crs, metres.most_common(1)[0][0], middle)
    grids = Counter(_lattice(grid) for grid in own if _divides_grid(grid, size))
    if not grids:
        if size is None:
            raise InputError("the resolution of the items is not known: give resolution= in metres, and crs=")
        return _grid_over(extent, size, (0.0, 0.0), crs)
    most, _ = min(grids.items(), key=lambda entry: (-entry[1], entry[0]))
    # of those on the same pixels, one stands for all: the first, so that its own edges stay exact
    anchor = next(grid.transform for grid in own if _lattice(grid) == most)
    exact = (anchor.a, -anchor.e)
    same = size is None or all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(exact, size, strict=True))
    return _grid_over(extent, exact if same or size is None else size, (anchor.c, anchor.f), crs)


def _lattice(grid: GeoBox) -> tuple[float, float, float, float]:
    """Size of the pixels, and where their edges lie: the fraction of a pixel from the CRS's origin, to a hundredth."""
    a, _, c, _, e, f = grid.transform[:6]
    return round(a, 9), round(-e, 9), round(c / a % 1, 2) % 1, round(f / -e % 1, 2) % 1


def _divides_grid(grid: GeoBox, size: tuple[float, float] | None) -> bool:
    """Whether pixels of this size are whole blocks of the grid's own."""
    if size is None:
        return True
    ratios = (size[0] / grid.transform.a, size[1] / -grid.transform.e)
    return all(ratio > 0.5 and abs(ratio - round(ratio)) < 1e-6 * ratio for ratio in ratios)


def _pixel_metres(grid: GeoBox) -> float:
    """The ground size of a grid's pixels."""
    middle = grid.transform * (grid.shape[1] / 2, grid.shape[0] / 2)
    one = ground_resolution(crs_of(grid), 1.0, middle)[1]
    a, b, _, d, e, _ = grid.transform[:6]
    return math.sqrt(abs(a * e - b * d)) / one


def _grid_over(extent: Bounds, size: tuple[float, float], origin: tuple[float, float], crs: CRS) -> GeoBox:
    """The grid that odc-stac makes over an extent, with pixel edges through a place."""
    west, south, east, north = extent
    pixel = GeoBox((1, 1), Affine(size[0], 0, origin[0], 0, -size[1], origin[1]), crs)
    # Said explicitly, as odc-stac mirrors it in x; rounded, as it must not be all but 1.
    phase = [round(start / side % 1, 9) % 1 for start, side in zip(origin, size, strict=True)]
    found = output_geobox(
        [], crs=crs, resolution=pixel.resolution, anchor=xy_(*phase), x=(west, east), y=(south, north)
    )
    assert found is not None  # noqa: S101 - there is a CRS and a resolution
    return anchored(pixel, found)


def extent_of(area: BaseGeometry | None, bounds: Floats, crs: CRS) -> Bounds:
    """Bounds of the area of interest, or of everything there is, in a CRS."""
    if area is not None:
        return bounds_in(area, crs)
    known = bounds[np.isfinite(bounds).all(axis=1)]
    if len(known) == 0:
        raise InputError(f"none of the items can be expressed in {crs}: give another crs=")
    west, south = known[:, 0].min(), known[:, 1].min()
    east, north = known[:, 2].max(), known[:, 3].max()
    return float(west), float(south), float(east), float(north)


def check_size(geobox: GeoBox, times: int, chunk: tuple[int, int], *, most: int | None) -> None:
    """Refuse a scene of absurd size before anything is made of it.

    Args:
        geobox: Its grid.
        times: Its times.
        chunk: Rows and columns of a chunk.
        most: Pixels allowed, None for the default.

    Raises:
        InputError: With the numbers and the remedy.
    """
    height, width = geobox.shape
    pixels = height * width * times
    blocks = times * math.ceil(height / chunk[0]) * math.ceil(width / chunk[1])
    if pixels <= (MOST_PIXELS if most is None else most) and (blocks <= MOST_BLOCKS or most is not None):
        return
    raise InputError(
        f"the scene would have {times:,} x {height:,} x {width:,} = {pixels:,} pixels a band in "
        f"{blocks:,} chunks. Give a bbox= or geometry=, a coarser resolution=, fewer times, or "
        f"larger chunks=; if it is meant, allow it with max_pixels={pixels}."
    )


def anchored(base: GeoBox, wanted: GeoBox) -> GeoBox:
    """The same grid expressed from `base`, where it lies on the pixels of `base`; else as it is.

    So that a pixel has the same coordinates, to the last bit, in whatever part of a scene it is asked
    for.
    """
    if wanted.crs != base.crs:
        return wanted
    relation = ~base.transform * wanted.transform
    column, row = round(relation.c), round(relation.f)
    shift = Affine.translation(column, row)
    drift = np.abs(np.subtract(relation[:6], shift[:6]))
    if (drift * (*wanted.shape.xy, 1, *wanted.shape.xy, 1)).max() > 1e-3:
        return wanted
    return GeoBox(wanted.shape, base.transform * shift, base.crs)


def pixel_center(geobox: GeoBox) -> tuple[float, float]:
    """Longitude and latitude of the middle of a grid; 0, 0 where it is not of this Earth."""
    x, y = geobox.transform * (geobox.shape[1] / 2, geobox.shape[0] / 2)
    try:
        longitude, latitude = crs_of(geobox).transformer_to_crs(LONLAT)(x, y)
    except ProjError:
        return 0.0, 0.0
    return float(longitude), float(latitude)
