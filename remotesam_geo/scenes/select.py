"""What is taken of each item: its bands, where they lie, and what only their own headers can tell."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from remotesam_geo.errors import InputError
from remotesam_geo.geo import grids
from remotesam_geo.geo.areas import LONLAT
from remotesam_geo.geo.grids import Bounds
from remotesam_geo.net import trust as safety
from remotesam_geo.net.policy import ReadPolicy
from remotesam_geo.raster.odc_driver import inspect
from remotesam_geo.raster.session import RasterInfo
from remotesam_geo.stac.bands import choose_bands, unknown_bands
from remotesam_geo.stac.documents import LeftOut
from remotesam_geo.stac.items import Band, Item
from remotesam_geo.stac.parse import parse_grids

from .read_block import SOURCE, VALID

_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class Pick:
    """What is taken of one item.

    Args:
        item: The item.
        bands: Variable name to band.
        grid: Grid of the finest of them; None where neither item nor file was asked or could say.
        grids: Grids of its assets as the item says, where that can be believed.
    """

    item: Item
    bands: dict[str, Band]
    grid: GeoBox | None = None
    grids: Mapping[str, GeoBox] = field(default_factory=dict)

    @property
    def assets(self) -> tuple[str, ...]:
        """Keys of the assets that are read."""
        return tuple(dict.fromkeys(band.asset for band in self.bands.values()))

    @property
    def origin(self) -> str | None:
        """URL of the item, where it is a remote one."""
        origin = self.item.origin
        return origin if origin and safety.is_remote(origin) else None


class Headers:
    """Headers of rasters, read at most once each, several at a time."""

    def __init__(self, policy: ReadPolicy) -> None:
        self.policy = policy
        self._seen: dict[str, RasterInfo] = {}
        self._first: dict[tuple[str, str], RasterInfo] = {}

    def of(self, pick: Pick, key: str) -> RasterInfo:
        """The header of one asset of one item."""
        href = pick.item.href(key)
        if href not in self._seen:
            self._seen[href] = inspect(href, origin=pick.origin, policy=self.policy)
        return self._seen[href]

    def look(self, item: Item, key: str) -> RasterInfo:
        """The header that stands for an asset of all items of a collection: the first's."""
        group = (item.collection, key)
        if group not in self._first:
            self._first[group] = self.of(Pick(item=item, bands={}), key)
        return self._first[group]

    def read(self, wanted: Iterable[tuple[Pick, str]]) -> None:
        """Read many headers ahead."""
        missing = {pick.item.href(key): (pick, key) for pick, key in wanted}
        todo = [entry for href, entry in missing.items() if href not in self._seen]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda entry: self.of(*entry), todo))


def pick_bands(
    items: Sequence[Item],
    names: Sequence[str] | None,
    headers: Headers,
    note: Callable[[str], None],
    left: LeftOut,
) -> list[Pick]:
    """Choose the bands of every item; items that lack one are left out, and that is said.

    Args:
        items: The items.
        names: As `load` was given them.
        headers: Headers of their files.
        note: Takes what the user should know.
        left: Takes malformed fields that do not matter here.

    Raises:
        InputError: No item has the bands, or what is wanted of one is malformed.
    """
    picks, without = [], []
    for item in items:
        for key in item.rasters:
            if not item.is_preview(key) and (fault := item.fault(key) or item.doubt(key)):
                left.part(f"asset {key} of item {item.id}", fault)
        bands = choose_bands(item, names, headers.look)
        if bands is None:
            without.append(item)
        else:
            picks.append(Pick(item=item, bands=dict(bands)))
    if not picks:
        raise unknown_bands(names, items)
    if without:
        asked = "red, green and blue" if names is None else ", ".join(names)
        note(
            f"{len(without)} of {len(items)} items lack {asked} and are left out: "
            f"{_listed_names([item.id for item in without])}"
        )
    taken = {VALID, SOURCE} & set(picks[0].bands)
    if taken:
        raise InputError(f"a band cannot be called {taken.pop()!r}, which a scene has of its own")
    variables = {tuple(pick.bands) for pick in picks}
    if len(variables) > 1:
        told = " and ".join(", ".join(names) for names in sorted(variables))
        raise InputError(f"the items give different bands ({told}): name them with bands=[...]")
    return picks


def near(picks: Sequence[Pick], area: BaseGeometry | None) -> list[Pick]:
    """The picks that may lie in an area of interest, as far as their items say."""
    if area is None:
        return list(picks)
    boxes = np.array([_bbox_past_180(pick.item.bbox) for pick in picks])
    kept = grids.overlaps(boxes, area.bounds, LONLAT) | np.isnan(boxes).any(axis=1)
    if not kept.any():
        within = (*np.nanmin(boxes[:, :2], axis=0), *np.nanmax(boxes[:, 2:], axis=0))
        raise InputError(
            f"none of the {len(picks)} items overlaps the area {_rounded_bounds(area.bounds)}; they lie "
            f"within {_rounded_bounds(within)} (west, south, east, north in degrees)"
        )
    return [pick for pick, keep in zip(picks, kept, strict=True) if keep]


def _bbox_past_180(bbox: Bounds | None) -> Bounds:
    if bbox is None:
        return (math.nan,) * 4
    west, south, east, north = bbox
    return west, south, east + 360 if west > east else east, north


def fill_types(picks: Sequence[Pick], headers: Headers) -> list[Pick]:
    """Take from the first file of each kind what the items do not say of their types."""
    unsaid = [pick for pick in picks if not all(band.dtype for band in pick.bands.values())]
    if not unsaid:
        return list(picks)
    filled = []
    for pick in picks:
        bands = {
            name: band if band.dtype else _selected_typed_band(band, headers.look(pick.item, band.asset), pick)
            for name, band in pick.bands.items()
        }
        filled.append(replace(pick, bands=bands))
    return filled


def _selected_typed_band(band: Band, header: RasterInfo, pick: Pick) -> Band:
    if band.index > len(header.dtypes):
        raise InputError(f"asset {band.asset} of {pick.item.id} has {len(header.dtypes)} bands, no band {band.index}")
    place = band.index - 1
    typed = replace(band, dtype=header.dtypes[place])
    if band.nodata is None:
        typed = replace(typed, nodata=header.nodata[place])
    if band.scale is None and (header.scales[place], header.offsets[place]) != (1.0, 0.0):
        typed = replace(typed, scale=header.scales[place], offset=header.offsets[place])
    return typed


def place(picks: Sequence[Pick], headers: Headers, note: Callable[[str], None], *, needed: bool) -> list[Pick]:
    """Find out where every pick lies: from its item where that can be believed, else from its file.

    Args:
        picks: The picks.
        headers: Headers of their files.
        note: Takes what the user should know.
        needed: Whether grids are needed to choose the scene's; where they are not, an item that has
            bounds is not opened.

    Returns:
        The picks, with their grids.
    """
    parsed = list(parse_grids((pick.item, pick.assets) for pick in picks))
    told = [_finest_selected_grid(one.values()) for one in parsed]
    wrong = grids.misplaced(told, [pick.item.bbox for pick in picks])
    told = [None if lost else grid for grid, lost in zip(told, wrong, strict=True)]
    if any(wrong):
        names = [pick.item.id for pick, lost in zip(picks, wrong, strict=True) if lost]
        note(
            f"the projection of {len(names)} items lies elsewhere than their bbox; their files are "
            f"asked instead: {_listed_names(names)}"
        )
    told = _believe_local_files(picks, told, headers, note)
    unknown = [
        position
        for position, grid in enumerate(told)
        if grid is None and (needed or wrong[position] or picks[position].item.bbox is None)
    ]
    headers.read((picks[position], key) for position in unknown for key in picks[position].assets)
    for position in unknown:
        told[position] = _own_grid(picks[position], headers)
    return [
        replace(pick, grid=grid, grids={} if lost else one)
        for pick, grid, one, lost in zip(picks, told, parsed, wrong, strict=True)
    ]


def _believe_local_files(
    picks: Sequence[Pick],
    told: Sequence[GeoBox | None],
    headers: Headers,
    note: Callable[[str], None],
) -> list[GeoBox | None]:
    """Where the first local file of a kind is not what its item says, ask all of that kind."""
    doubted: dict[tuple[str, tuple[str, ...]], bool] = {}
    grids_found = list(told)
    for position, (pick, grid) in enumerate(zip(picks, told, strict=True)):
        if grid is None or any(safety.is_remote(pick.item.href(key)) for key in pick.assets):
            continue
        kind = (pick.item.collection, pick.assets)
        if doubted.get(kind) is False:
            continue
        own = _selected_file_grid(pick, headers)
        if own is None:
            continue
        if kind not in doubted:
            doubted[kind] = own.shape != grid.shape
            if doubted[kind]:
                note(
                    f"the files of {', '.join(pick.assets)} are not what their items say "
                    f"({pick.item.id}: {own.shape.y} x {own.shape.x} pixels, not "
                    f"{grid.shape.y} x {grid.shape.x}); the files are believed"
                )
        grids_found[position] = own if doubted[kind] else grid
    return grids_found


def _selected_file_grid(pick: Pick, headers: Headers) -> GeoBox | None:
    grid = _finest_selected_grid(headers.of(pick, key).geobox for key in pick.assets)
    return None if grid is None else grids.tidied(grid)


def _own_grid(pick: Pick, headers: Headers) -> GeoBox:
    """The finest grid that the files themselves give."""
    grid = _selected_file_grid(pick, headers)
    if grid is not None:
        return grid
    found = [headers.of(pick, key) for key in pick.assets]
    if found[0].gcps or found[0].has_rpcs:
        raise InputError(
            f"{found[0].href} of item {pick.item.id} is placed only by ground control points or rational "
            "polynomials: take a terrain-corrected product of it, or open_raster, which follows points"
        )
    lacking = " and ".join(
        what
        for what, missing in (
            ("CRS", found[0].crs is None and found[0].gcps_crs is None),
            ("georeference", found[0].transform is None),
        )
        if missing
    )
    raise InputError(
        f"{found[0].href} of item {pick.item.id} has no {lacking or 'usable georeference'}, and "
        "neither has the item: give the item proj:code, proj:transform and proj:shape, or open "
        "the file with open_raster(path, crs=...)"
    )


def _finest_selected_grid(found: Iterable[GeoBox | None]) -> GeoBox | None:
    known = [grid for grid in found if grid is not None]
    return min(known, key=lambda grid: abs(grid.transform.determinant), default=None)


def _listed_names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _rounded_bounds(bounds: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in bounds)
