"""Pictures with exact truth: what a network is trained and examined on."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from shapely import Polygon

from remotesam_geo.errors import InputError

from .camera import SENSORS, Light, Sensor
from .chance import chance, mix
from .districts import DISTRICTS
from .draw import draw, outlines, shown
from .kinds import CLASSES
from .layout import REACH, Layout
from .texture import GRAIN

__all__ = ["Instance", "WorldScene", "scene"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Instance:
    """One object of a picture.

    Attributes:
        id: Its value in `WorldScene.labels`.
        name: Class name.
        colour: Colour name.
        outline: N x 2, the whole outline in pixels (x right, y down), beyond the border too.
        pixels: Pixels of its mask.
        length: Longer side in metres.
        width: Shorter side in metres.
        across: Longer side in pixels.
        cut: Whether the border of the picture cuts it.
        visible: Share of it within the picture.
        box: The mask's bounds: first column, first row, last column + 1, last row + 1.
    """

    id: int
    name: str
    colour: str
    outline: NDArray[np.float64]
    pixels: int
    length: float
    width: float
    across: float
    cut: bool
    visible: float
    box: tuple[int, int, int, int]

    @functools.cached_property
    def polygon(self) -> Polygon:
        """The outline as a polygon; it rasterises to the mask exactly (pixel centres, as GDAL does)."""
        return Polygon(self.outline)


@dataclass(frozen=True, kw_only=True, eq=False)
class WorldScene:
    """A picture and its truth.

    Attributes:
        rgb: H x W x 3, uint8.
        instances: The objects with at least one pixel, by id 1, 2, ...
        labels: H x W, int32: the id of the object on each pixel, 0 where none.
        landcover: H x W, uint8: codes of `LANDCOVER`.
        resolution: Metres a pixel.
        sensor: Name of the sensor.
        seed: The seed it was made from.
    """

    rgb: NDArray[np.uint8]
    instances: tuple[Instance, ...]
    labels: NDArray[np.int32]
    landcover: NDArray[np.uint8]
    resolution: float
    sensor: str
    seed: int

    def of(self, name: str) -> tuple[Instance, ...]:
        """The objects of one class."""
        return tuple(i for i in self.instances if i.name == name)

    def mask(self, instances: str | tuple[Instance, ...] | tuple[int, ...]) -> NDArray[np.bool_]:
        """H x W: the pixels of a class, of objects, or of ids.

        Examples:
            >>> picture = scene(4)
            >>> bool((picture.mask("building") == picture.mask(picture.of("building"))).all())
            True
        """
        if isinstance(instances, str):
            if instances not in CLASSES:
                raise InputError(f"{instances!r} is no class of the world; there are {', '.join(CLASSES)}")
            instances = self.of(instances)
        chosen = np.zeros(len(self.instances) + 1, bool)
        for one in instances:
            chosen[one.id if isinstance(one, Instance) else one] = True
        return np.asarray(chosen[self.labels])


def scene(
    seed: int,
    size: int = 256,
    resolution: float | None = None,
    *,
    sensor: str | Sensor = "standard",
    theme: str | None = None,
) -> WorldScene:
    """A picture of a place of its own, seen from straight above at any angle.

    The place lies in the landscape that `World` shows for the same seed.

    Args:
        seed: The same seed and options give the same picture.
        size: Pixels a side, at most 1,024.
        resolution: Metres a pixel; drawn from the sensor's range by default.
        sensor: One of `SENSORS` or your own; "heldout" is never trained on.
        theme: A kind of district to look for, for example "airport"; any by default.

    Examples:
        >>> picture = scene(1, size=128)
        >>> picture.rgb.shape, picture.labels.dtype
        ((128, 128, 3), dtype('int32'))
    """
    if not 1 <= size <= GRAIN:
        raise InputError(f"size must be 1 to {GRAIN} pixels, not {size}; World shows more")
    if isinstance(sensor, str):
        if sensor not in SENSORS:
            raise InputError(f"sensor {sensor!r} is not known; there are {', '.join(SENSORS)}")
        sensor = SENSORS[sensor]
    if theme is not None and theme not in DISTRICTS:
        raise InputError(f"theme {theme!r} is not known; there are {', '.join(DISTRICTS)}")
    dice = chance(seed, 1)
    low, high = sensor.resolution
    pixel = math.exp(dice.uniform(math.log(low), math.log(high)))
    resolution = pixel if resolution is None else resolution
    turn = dice.uniform(0, 2 * math.pi)
    plan = Layout(seed=mix(seed, 2))
    x, y = _point_of_theme(plan, dice.random, theme)
    c, s = math.cos(turn), math.sin(turn)
    # Pixels to metres: turned, and with y pointing up on the plane.
    linear = resolution * np.array([(c, s), (s, -c)])
    offset = np.array([x, y]) - linear @ (size / 2, size / 2)
    to_plane = np.column_stack([linear, offset])
    back = np.linalg.inv(linear)

    def to_pixels(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return (points - offset) @ back.T

    shape = (size, size)
    light = Light.draw(sensor, seed, 3)
    corners = np.array([(0, 0), (size, 0), (size, size), (0, size)]) @ linear.T + offset
    things, ground = plan.look(corners)
    things = shown(things, to_pixels, shape, reach=REACH, finest=resolution)
    drawn = draw(
        things,
        ground,
        to_pixels=to_pixels,
        to_plane=to_plane,
        shape=shape,
        light=light,
        noise=mix(seed, 4),
    )
    counts = np.bincount(drawn.owner.reshape(-1), minlength=len(things) + 1)
    counts[0] = 0
    kept = np.flatnonzero(counts)
    numbers = np.zeros(len(counts), np.int32)
    numbers[kept] = np.arange(1, len(kept) + 1)
    labels = numbers.take(drawn.owner)
    boxes = [(c.start, r.start, c.stop, r.stop) for r, c in ndimage.find_objects(labels)]
    there = [things[k - 1] for k in kept.tolist()]
    vertices, sizes = outlines(there)
    ends = np.cumsum(sizes)
    rings = np.split(to_pixels(vertices), ends[:-1]) if there else []
    instances = []
    for number, (thing, ring) in enumerate(zip(there, rings, strict=True)):
        cut = bool(ring.min() < 0 or ring.max() > size)
        pixels = int(counts[kept[number]])
        instances.append(
            Instance(
                id=number + 1,
                name=thing.kind,
                colour=thing.colour,
                outline=ring,
                pixels=pixels,
                length=max(thing.length, thing.width),
                width=min(thing.length, thing.width),
                across=max(thing.length, thing.width) / resolution,
                cut=cut,
                visible=min(1.0, pixels / _ring_area(ring)) if cut else 1.0,
                box=boxes[number],
            )
        )
    return WorldScene(
        rgb=drawn.rgb,
        instances=tuple(instances),
        labels=labels,
        landcover=drawn.landcover,
        resolution=resolution,
        sensor=sensor.name,
        seed=seed,
    )


def _ring_area(ring: NDArray[np.float64]) -> float:
    x, y = (ring - ring[0]).T
    return float(abs(x[:-1] @ y[1:] - x[1:] @ y[:-1]) / 2)


def _point_of_theme(plan: Layout, roll: Callable[[], float], theme: str | None) -> tuple[float, float]:
    """A point in a district of the first block that has one of the theme."""
    i = 0
    while True:
        districts = [leaf for leaf in plan.block(i, 0) if leaf.kind in DISTRICTS]
        wanted = [leaf for leaf in districts if theme in (None, leaf.kind)]
        if wanted:
            break
        i += 1
    leaf = wanted[int(roll() * len(wanted))]
    return (
        leaf.x0 + (leaf.x1 - leaf.x0) * (0.2 + 0.6 * roll()),
        leaf.y0 + (leaf.y1 - leaf.y0) * (0.2 + 0.6 * roll()),
    )
