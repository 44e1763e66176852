"""A grid of pixels laid over the plan: where things fall on it, and what is painted there."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyproj
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from remotesam_geo.errors import InputError

from .camera import SENSORS, Light
from .chance import mix
from .draw import draw, shown
from .layout import REACH, Layout
from .life import Acquisition, at_time
from .site import Ground, SiteThing
from .texture import cloud

__all__ = ["Landscape", "Lattice", "View", "plane", "tile", "tiles", "transformers"]

TILE = 256  # pixels a side of the squares that pictures are painted in, whatever window is asked for
PHASE = 1 << 20  # steps a pixel that the place of the squares is rounded to
EDGE = 33  # points on each side of a window that is carried to the plan
COARSEST = 5.0  # metres a pixel; coarser ones would be painted object by object, invisibly small

Pair = tuple[float, float]


class Landscape(NamedTuple):
    """What makes a world: all that a picture depends on besides its grid."""

    seed: int
    anchor: Pair
    acquisitions: tuple[Acquisition, ...]
    change: float


@functools.lru_cache(maxsize=64)
def plane(longitude: float, latitude: float) -> pyproj.CRS:
    """The equal-area plane round a place, in metres."""
    return pyproj.CRS.from_proj4(f"+proj=laea +lon_0={longitude!r} +lat_0={latitude!r} +datum=WGS84 +units=m")


@functools.lru_cache(maxsize=64)
def transformers(anchor: Pair, crs: str) -> tuple[pyproj.Transformer, pyproj.Transformer]:
    """From the plane to the CRS, and back."""
    flat = plane(*anchor)
    return (
        pyproj.Transformer.from_crs(flat, crs, always_xy=True),
        pyproj.Transformer.from_crs(crs, flat, always_xy=True),
    )


@dataclass(frozen=True, kw_only=True)
class Lattice:
    """Pixels without end in a CRS: pixel (x, y) lies at `linear @ (x, y) + origin`."""

    crs: str
    linear: tuple[Pair, Pair]
    origin: Pair

    @classmethod
    def of(cls, geobox: GeoBox) -> "Lattice":
        """The lattice of a window, counted from its corner."""
        if geobox.crs is None:
            raise InputError("the window has no CRS; make one with World.geobox")
        a = geobox.affine
        return cls(crs=str(geobox.crs), linear=((a.a, a.b), (a.d, a.e)), origin=(a.c, a.f))

    @functools.cached_property
    def inverse(self) -> NDArray[np.float64]:
        """2 x 2, from the CRS to pixels."""
        return np.linalg.inv(np.array(self.linear))

    def moved(self, x: float, y: float) -> "Lattice":
        """The same pixels counted from another one."""
        (a, b), (d, e) = self.linear
        origin = (self.origin[0] + a * x + b * y, self.origin[1] + d * x + e * y)
        return dataclasses.replace(self, origin=origin)

    def anchored(self) -> tuple["Lattice", int, int]:
        """The same pixels counted from near the CRS's origin, alike for all windows; and where this one begins."""
        x, y = self.inverse @ self.origin
        i, j = round(x), round(y)
        px, py = round((x - i) * PHASE) / PHASE, round((y - j) * PHASE) / PHASE
        base = dataclasses.replace(self, origin=(0.0, 0.0)).moved(px, py)
        return base, i, j


class View:
    """A window of a lattice over a landscape."""

    def __init__(self, land: Landscape, lattice: Lattice, shape: tuple[int, int], shift: Pair = (0.0, 0.0)) -> None:
        self.land, self.lattice, self.shape = land, lattice, shape
        self._forward, self._back = transformers(land.anchor, lattice.crs)
        turn = mix(land.seed, 5) / (1 << 64) * 2 * math.pi
        c, s = math.cos(turn), math.sin(turn)
        self._turn = np.array([(c, -s), (s, c)])  # from the plan to the plane
        self._shift = np.array(shift)
        self._plan = Layout(seed=mix(land.seed, 2))

    def to_crs(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """From metres on the plan to the CRS, N x 2."""
        east, north = (points @ self._turn.T + self._shift).T
        return np.column_stack(self._forward.transform(east, north))

    def to_pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """From metres on the plan to pixels of the window, N x 2."""
        return self.from_crs(self.to_crs(points))

    def from_crs(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """From the CRS to pixels of the window, N x 2."""
        return np.asarray((points - self.lattice.origin) @ self.lattice.inverse.T)

    def to_plan(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """From pixels of the window to metres on the plan, N x 2."""
        x, y = (pixels @ np.array(self.lattice.linear).T + self.lattice.origin).T
        flat = np.column_stack(self._back.transform(x, y)) - self._shift
        if not np.isfinite(flat).all():
            raise InputError(f"the window lies beyond what the plane round {self.land.anchor} can show")
        return np.asarray(flat @ self._turn)

    def affine(self) -> NDArray[np.float64]:
        """2 x 3: pixels to metres on the plan, right in the middle of the window."""
        height, width = self.shape
        middle = np.array([(width / 2, height / 2)])
        step = np.array([(8.0, 0), (-8.0, 0), (0, 8.0), (0, -8.0)])
        right, left, down, up = self.to_plan(middle + step)
        linear = np.column_stack([right - left, down - up]) / 16
        coarse = float(np.linalg.norm(linear, axis=0).max())
        if coarse > COARSEST:
            raise InputError(f"a pixel is {coarse:.3g} m wide; the world is shown at {COARSEST} m or finer")
        return np.column_stack([linear, self.to_plan(middle)[0] - linear @ middle[0]])

    def look(self, time: int) -> tuple[list[SiteThing], list[Ground]]:
        """Things that may show at a time, and the ground."""
        height, width = self.shape
        t = np.linspace(0, 1, EDGE)
        corners = np.array([(0, 0), (width, 0), (width, height), (0, height), (0, 0)])
        sides = [a + t[:, None] * (b - a) for a, b in itertools.pairwise(corners)]
        outline = self.to_plan(np.concatenate(sides))
        things, ground = self._plan.look(outline[np.r_[0, EDGE - 1, 2 * EDGE - 1, : 4 * EDGE]])
        land = self.land
        alive = (at_time(t, seed=land.seed, index=time, count=len(land.acquisitions), rate=land.change) for t in things)
        finest = float(np.linalg.svd(self.affine()[:, :2], compute_uv=False).min())
        present = [t for t in alive if t is not None]
        some = shown(present, self.to_pixels, self.shape, reach=REACH, finest=finest)
        return some, ground


def tiles(rows: slice, columns: slice, i: int, j: int) -> Iterator[tuple[int, int, slice, slice, slice, slice]]:
    """The tiles under a window that begins at pixel (i, j) of the anchored lattice.

    Yields:
        Column and row of the tile, the rows and columns of it that show, and those of the window they fall on.
    """
    x0, x1, y0, y1 = columns.start + i, columns.stop + i, rows.start + j, rows.stop + j
    for ty in range(y0 // TILE, -(-y1 // TILE)):
        for tx in range(x0 // TILE, -(-x1 // TILE)):
            top, left = max(y0, ty * TILE), max(x0, tx * TILE)
            bottom, right = min(y1, (ty + 1) * TILE), min(x1, (tx + 1) * TILE)
            yield (
                tx,
                ty,
                slice(top - ty * TILE, bottom - ty * TILE),
                slice(left - tx * TILE, right - tx * TILE),
                slice(top - y0, bottom - y0),
                slice(left - x0, right - x0),
            )


@functools.lru_cache(maxsize=256)
def tile(land: Landscape, base: Lattice, tx: int, ty: int, time: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """One square of the picture and its clouds; read-only, for neighbours share it."""
    acquisition = land.acquisitions[time]
    sensor = acquisition.sensor
    sensor = SENSORS[sensor] if isinstance(sensor, str) else sensor
    light = dataclasses.replace(
        Light.draw(sensor, land.seed, 3, time),
        clouds=acquisition.clouds,
        cloud_key=mix(land.seed, 6, time),
    )
    lattice = base.moved(tx * TILE, ty * TILE)
    view = View(land, lattice, (TILE, TILE), acquisition.shift)
    things, ground = view.look(time)
    to_plan = view.affine()
    drawn = draw(
        things,
        ground,
        to_pixels=view.to_pixels,
        to_plane=to_plan,
        shape=view.shape,
        light=light,
        noise=mix(land.seed, 4, time, tx, ty),
    )
    hidden = np.zeros(view.shape, bool)
    if light.clouds:
        hidden = cloud(to_plan, view.shape, share=light.clouds, key=light.cloud_key) > 0
    for array in (drawn.rgb, hidden):
        array.flags.writeable = False
    return drawn.rgb, hidden
