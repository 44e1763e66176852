"""The world laid out on the Earth: pictures and truth of any place, in any CRS.

The plane is an equal-area projection round the anchor, so metres on it are metres on the ground and areas are exact
anywhere. Outlines are carried vertex by vertex to the CRS asked for, and that polygon is the truth: it is drawn,
rasterised and returned.
"""

import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import rasterio
import shapely
import xarray as xr
from dask.array.core import normalize_chunks
from dask.base import tokenize
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from remotesam_geo.errors import InputError

from .draw import cover, outlines, owners
from .kinds import CLASSES
from .life import Acquisition
from .site import SiteThing
from .view import (
    Landscape,
    Lattice,
    View,
    plane,
    tile,
    tiles,
    transformers,
)

__all__ = ["World"]

BLOCK = 1024  # pixels a side of the pieces that truth is drawn in

Window = tuple[slice, slice]


@dataclass(frozen=True)
class World:
    """An endless landscape with known truth.

    The same seed gives the same landscape. Any window of it, in chunks of any shape, gives the same pixels and the
    same truth.

    Attributes:
        seed: Which landscape.
        anchor: Longitude and latitude of its origin. Shapes are true to one part in ten thousand within 100 km.
        acquisitions: When and how it is seen; more than one give the scene a time axis with more than one step.
        change: Share of things with an event between the first and the last acquisition; moving things are away
            from any one with that probability.

    Examples:
        >>> world = World(7, anchor=(9.0, 50.0))
        >>> window = world.geobox("EPSG:32632", resolution=0.4, shape=(300, 400))
        >>> picture, truth = world.render(window), world.truth(window)
        >>> picture.shape, str(truth.crs), truth.label.isin(["vehicle", "tree"]).any()
        ((300, 400, 3), 'EPSG:32632', np.True_)
    """

    seed: int
    _: dataclasses.KW_ONLY
    anchor: tuple[float, float] = (9.0, 50.0)
    acquisitions: tuple[Acquisition, ...] = (Acquisition(),)
    change: float = 0.2

    def __post_init__(self) -> None:
        if not self.acquisitions:
            raise InputError("a world needs one acquisition at least, for example Acquisition()")
        object.__setattr__(self, "acquisitions", tuple(self.acquisitions))
        times = [a.time for a in self.acquisitions]
        if (np.diff(np.array(times, "datetime64[ns]")) <= np.timedelta64(0)).any():
            raise InputError(f"acquisitions must follow each other in time, not {times}")
        if not 0 <= self.change <= 1:
            raise InputError(f"change must be a share from 0 to 1, not {self.change}")
        if not (-180 <= self.anchor[0] <= 180 and -85 <= self.anchor[1] <= 85):
            raise InputError(f"anchor must be (longitude, latitude), not {self.anchor}")

    @property
    def landscape(self) -> Landscape:
        """All that pixels depend on besides their grid."""
        return Landscape(self.seed, self.anchor, self.acquisitions, self.change)

    def _index(self, time: int) -> int:
        count = len(self.acquisitions)
        if not -count <= time < count:
            raise InputError(f"there is no acquisition {time}; the world has {count}")
        return time % count

    @property
    def crs(self) -> pyproj.CRS:
        """The equal-area plane, in metres from the anchor."""
        return plane(*self.anchor)

    def geobox(
        self,
        crs: str,
        *,
        resolution: float,
        shape: tuple[int, int],
        centre: tuple[float, float] = (0.0, 0.0),
    ) -> GeoBox:
        """A window whose pixels are square on the ground.

        Args:
            crs: Of the window.
            resolution: True metres a pixel.
            shape: Rows and columns.
            centre: Of the window, metres east and north of the anchor.
        """
        if resolution <= 0:
            raise InputError(f"resolution must be above 0 metres, not {resolution}")
        forward = transformers(self.anchor, str(crs))[0]
        x, y = forward.transform(*centre)
        dx, dy = resolution / np.linalg.norm(_plane_scale(self.anchor, str(crs), x, y), axis=0)
        height, width = shape
        affine = rasterio.Affine(dx, 0, x - dx * width / 2, 0, -dy, y + dy * height / 2)
        return GeoBox(shape, affine, crs)

    def render(self, geobox: GeoBox, *, time: int = 0) -> NDArray[np.uint8]:
        """The picture of a window, H x W x 3."""
        return np.asarray(_render_geobox(self, geobox, _whole_window(geobox), self._index(time), 0), np.uint8)

    def clouds(self, geobox: GeoBox, *, time: int = 0) -> NDArray[np.bool_]:
        """H x W: where clouds hide the ground in the picture, if only a little."""
        return np.asarray(_render_geobox(self, geobox, _whole_window(geobox), self._index(time), 1), bool)

    def labels(self, geobox: GeoBox, *, time: int = 0) -> NDArray[np.int64]:
        """H x W: the `id` in `truth` of the object on each pixel, 0 where none."""
        out = np.empty(geobox.shape, np.int64)
        for view, rows, columns in _views_by_block(self, geobox):
            things = _objects_in_view(view, self._index(time))
            ids = np.array([0, *(t.ident for t in things)], np.int64)
            out[rows, columns] = ids[owners(things, view.to_pixels, view.shape)]
        return out

    def landcover(self, geobox: GeoBox) -> NDArray[np.uint8]:
        """H x W: codes of `LANDCOVER`."""
        out = np.empty(geobox.shape, np.uint8)
        for view, rows, columns in _views_by_block(self, geobox):
            out[rows, columns] = cover(view.look(0)[1], view.to_pixels, view.shape)
        return out

    def truth(self, geobox: GeoBox, *, time: int = 0) -> gpd.GeoDataFrame:
        """The objects that reach into a window, whole, in the window's CRS.

        Returns:
            Columns geometry, label, colour, area_m2, length_m, width_m, cut (whether it reaches out of the window)
            and time; the index `id` is the same for an object in any window and at any time.
        """
        time = self._index(time)
        view = View(self.landscape, Lattice.of(geobox), geobox.shape.yx)
        table = _truth_table(view, _objects_in_view(view, time))
        taken = np.datetime64(self.acquisitions[time].time, "ns")
        return table.assign(time=np.full(len(table), taken))

    def changes(self, geobox: GeoBox, *, before: int = 0, after: int = -1) -> gpd.GeoDataFrame:
        """What differs between two acquisitions.

        Returns:
            A row per object that reaches into the window at either: geometry (after, or before where it is gone),
            label, state ("appeared", "disappeared", "changed" or "persisted"), what ("", "colour" or "size"),
            colour_before, colour_after, area_m2_before and area_m2_after.
        """
        old, new = self.truth(geobox, time=before), self.truth(geobox, time=after)
        both = pd.merge(
            pd.DataFrame(old),
            pd.DataFrame(new),
            left_index=True,
            right_index=True,
            how="outer",
            suffixes=("_before", "_after"),
        )
        geometry = both.geometry_after.where(both.geometry_after.notna(), both.geometry_before)
        appeared, gone = both.label_before.isna(), both.label_after.isna()
        recoloured = both.colour_before != both.colour_after
        resized = ~np.isclose(both.area_m2_before, both.area_m2_after, rtol=1e-6)
        what = np.select([appeared | gone, recoloured, resized], ["", "colour", "size"], "")
        states = np.select([appeared, gone, what != ""], ["appeared", "disappeared", "changed"], "persisted")
        return gpd.GeoDataFrame(
            {
                "label": both.label_after.where(~gone, both.label_before),
                "state": states,
                "what": what,
                "colour_before": both.colour_before,
                "colour_after": both.colour_after,
                "area_m2_before": both.area_m2_before,
                "area_m2_after": both.area_m2_after,
            },
            geometry=np.asarray(geometry, object),
            crs=old.crs,
            index=both.index,
        )

    def scene(
        self,
        geobox: GeoBox,
        *,
        chunks: tuple[int, int] | int = 1024,
        mask_clouds: bool = False,
    ) -> xr.Dataset:
        """A lazy scene like one that `load` gives: red, green, blue and valid over time, y, x.

        Args:
            geobox: Its grid.
            chunks: Rows and columns of a chunk; they change no pixel.
            mask_clouds: Whether pixels under clouds are not valid.
        """
        tall, wide = (chunks, chunks) if isinstance(chunks, int) else chunks
        count = len(self.acquisitions)
        cut = normalize_chunks((1, tall, wide), (count, *geobox.shape))  # type: ignore[no-untyped-call]
        token = tokenize(self, geobox, tall, wide)
        layer: Any = functools.partial(_picture_chunk, self, geobox)
        rgb = da.map_blocks(  # type: ignore[no-untyped-call]
            layer,
            chunks=(*cut, (3,)),
            dtype=np.uint8,
            meta=np.empty((0, 0, 0, 0), np.uint8),
            name=f"world-{token}",
        )
        dims = ("time", *geobox.dimensions)
        data = {name: (dims, rgb[..., k]) for k, name in enumerate(("red", "green", "blue"))}
        hidden: Any = functools.partial(_validity_chunk, self, geobox, mask_clouds)
        valid = da.map_blocks(  # type: ignore[no-untyped-call]
            hidden,
            chunks=cut,
            dtype=bool,
            meta=np.empty((0, 0, 0), bool),
            name=f"valid-{mask_clouds}-{token}",
        )
        times = np.array([a.time for a in self.acquisitions], "datetime64[ns]")
        items = np.array([f"world-{self.seed}-{k}" for k in range(count)], object)
        coords = dict(xr_coords(geobox)) | {"time": ("time", times), "items": ("time", items)}
        scene = xr.Dataset(data | {"valid": (dims, valid)}, coords=coords)
        for name in scene.data_vars:
            scene[name].encoding["grid_mapping"] = "spatial_ref"
        return scene

    def write(self, path: str | Path, geobox: GeoBox, *, time: int = 0) -> Path:
        """Write a window as a cloud-optimised GeoTIFF of three bands; returns its path."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        height, width = geobox.shape
        with rasterio.open(
            target,
            "w",
            driver="COG",
            width=width,
            height=height,
            count=3,
            dtype="uint8",
            crs=str(geobox.crs),
            transform=geobox.affine,
            compress="deflate",
            predictor="2",
            blocksize=512,
        ) as out:
            out.write(self.render(geobox, time=time).transpose(2, 0, 1))
            out.colorinterp = [getattr(rasterio.enums.ColorInterp, c) for c in ("red", "green", "blue")]
            for band, name in enumerate(("red", "green", "blue"), 1):
                out.set_band_description(band, name)
            taken = pd.Timestamp(self.acquisitions[time].time)
            out.update_tags(TIFFTAG_DATETIME=f"{taken:%Y:%m:%d %H:%M:%S}")
        return target


def _plane_scale(anchor: tuple[float, float], crs: str, x: float, y: float) -> NDArray[np.float64]:
    """2 x 2: metres on the plane per unit of x and of y of the CRS, near a place."""
    back = transformers(anchor, crs)[1]
    step = 1e-4 if pyproj.CRS(crs).is_geographic else 10.0
    xs, ys = np.array([x + step, x - step, x, x]), np.array([y, y, y + step, y - step])
    right, left, up, down = np.column_stack(back.transform(xs, ys))
    return np.column_stack([right - left, up - down]) / (2 * step)


def _render_geobox(
    world: World, geobox: GeoBox, window: Window, time: int, which: int
) -> NDArray[np.uint8] | NDArray[np.bool_]:
    """The picture (0) or the clouds (1) of a window of a geobox, put together from tiles."""
    land = world.landscape
    base, i, j = Lattice.of(geobox).anchored()
    rows, columns = window
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    out = np.empty((*shape, 3), np.uint8) if which == 0 else np.empty(shape, bool)
    for tx, ty, tile_rows, tile_columns, to_rows, to_columns in tiles(rows, columns, i, j):
        out[to_rows, to_columns] = tile(land, base, tx, ty, time)[which][tile_rows, tile_columns]
    return out


def _window_of_chunk(array_location: list[tuple[int, int]]) -> tuple[int, Window]:
    (time, _), (top, bottom), (left, right) = array_location[:3]
    return time, (slice(top, bottom), slice(left, right))


def _picture_chunk(world: World, geobox: GeoBox, block_info: Any = None) -> NDArray[np.uint8]:
    """One chunk of pictures, 1 x H x W x 3."""
    time, window = _window_of_chunk(block_info[None]["array-location"])
    return np.asarray(_render_geobox(world, geobox, window, time, 0)[None], np.uint8)


def _validity_chunk(world: World, geobox: GeoBox, mask_clouds: bool, block_info: Any = None) -> NDArray[np.bool_]:
    """One chunk of validity, 1 x H x W."""
    time, window = _window_of_chunk(block_info[None]["array-location"])
    rows, columns = window
    if not mask_clouds:
        return np.ones((1, rows.stop - rows.start, columns.stop - columns.start), bool)
    return ~np.asarray(_render_geobox(world, geobox, window, time, 1)[None], bool)


def _views_by_block(world: World, geobox: GeoBox) -> Iterator[tuple[View, slice, slice]]:
    """Views of the window piece by piece, so that truth of any size is drawn in bounded memory."""
    lattice = Lattice.of(geobox)
    height, width = geobox.shape
    for top in range(0, height, BLOCK):
        for left in range(0, width, BLOCK):
            shape = (min(BLOCK, height - top), min(BLOCK, width - left))
            view = View(world.landscape, lattice.moved(left, top), shape)
            yield view, slice(top, top + shape[0]), slice(left, left + shape[1])


def _objects_in_view(view: View, time: int) -> list[SiteThing]:
    return [t for t in view.look(time)[0] if t.kind in CLASSES]


def _thing_polygons(vertices: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.object_]:
    rings = shapely.linearrings(vertices, indices=np.repeat(np.arange(len(sizes)), sizes))
    return np.asarray(shapely.polygons(rings))


def _truth_table(view: View, things: list[SiteThing]) -> gpd.GeoDataFrame:
    """The things that reach into the view."""
    vertices, sizes = outlines(things)
    carried = view.to_crs(vertices)
    seen = _thing_polygons(view.from_crs(carried), sizes)
    height, width = view.shape
    frame = shapely.box(0, 0, width, height)
    kept = np.flatnonzero(shapely.intersects(seen, frame))
    some = [things[k] for k in kept.tolist()]
    table = {
        "label": pd.array([t.kind for t in some], dtype="str"),
        "colour": pd.array([t.colour for t in some], dtype="str"),
        "area_m2": shapely.area(_thing_polygons(vertices, sizes)[kept]),
        "length_m": np.array([max(t.length, t.width) for t in some], float),
        "width_m": np.array([min(t.length, t.width) for t in some], float),
        "cut": ~shapely.covers(frame, seen[kept]),
    }
    index = pd.Index(np.array([t.ident for t in some], np.int64), name="id")
    found = gpd.GeoDataFrame(table, geometry=_thing_polygons(carried, sizes)[kept], crs=view.lattice.crs, index=index)
    return found.sort_index()


def _whole_window(geobox: GeoBox) -> Window:
    height, width = geobox.shape
    return slice(0, height), slice(0, width)
