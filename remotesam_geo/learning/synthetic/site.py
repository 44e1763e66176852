"""A site: a rectangle of the plane that one district is laid out on."""

import itertools
import math
import random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .kinds import CLASSES, COLOURS, LANDCOVER
from .shapes import shapes

__all__ = ["Ground", "Site", "SiteThing"]

RGB = tuple[float, float, float]
Placed = tuple[float, float]
Stroke = tuple[float, float, float, float]

# What each land cover may look like; one is drawn per patch.
PALETTES: dict[str, tuple[RGB, ...]] = {
    "field": ((148, 150, 84), (118, 134, 70), (146, 116, 82), (190, 174, 120), (98, 128, 66)),
    "grass": ((96, 120, 66), (112, 130, 76), (86, 106, 60), (128, 132, 84)),
    "bare soil": ((142, 112, 86), (164, 134, 104), (122, 98, 78), (150, 138, 122)),
    "water": ((40, 66, 88), (50, 86, 92), (70, 90, 76), (58, 78, 70), (46, 96, 122)),
    "sand": ((212, 192, 152), (198, 178, 142), (222, 208, 176)),
    "built-up": ((98, 98, 100), (166, 162, 156), (146, 136, 126), (124, 122, 120), (182, 180, 176)),
    "road": ((84, 85, 90), (112, 110, 106), (98, 96, 98)),
}


class Ground(NamedTuple):
    """A patch of land cover; later patches cover earlier ones."""

    cover: int
    rgb: RGB
    points: NDArray[np.float64]  # N x 2, metres: the rings one after another
    sizes: NDArray[np.int64]  # vertices of each ring
    truth: bool  # False for paint and the like, which change the look and not the land cover


class SiteThing(NamedTuple):
    """An object, or clutter that belongs to no class; metres and radians."""

    ident: int
    kind: str
    colour: str  # "" for clutter
    rgb: RGB
    x: float
    y: float
    angle: float
    length: float
    width: float
    height: float
    variety: int


class Site:
    """A rectangle with its own frame, centred, x along its width; collects what stands on it.

    Things are numbered in the order they are put, so a layout draws the same dice whatever is asked of it later.
    """

    def __init__(
        self,
        centre: Placed,
        width: float,
        height: float,
        angle: float,
        *,
        ident: int,
        dice: random.Random,
    ) -> None:
        self.cx, self.cy = centre
        self.width, self.height = width, height
        self.angle = angle
        self.ident = ident
        self.dice = dice
        self.things: list[SiteThing] = []
        self.ground: list[Ground] = []
        self._cos, self._sin = math.cos(angle), math.sin(angle)

    @property
    def bounds(self) -> Stroke:
        """x0, y0, x1, y1 in its own frame."""
        return -self.width / 2, -self.height / 2, self.width / 2, self.height / 2

    def inner(self, x: float, y: float, width: float, height: float, *, turn: float = 0) -> "Site":
        """A site on this one, turned about its middle; what it collects, this one collects."""
        site = Site(self.at(x, y), width, height, self.angle + turn, ident=self.ident, dice=self.dice)
        site.things, site.ground = self.things, self.ground
        return site

    def tilted(self, tilt: float) -> "Site":
        """The largest site of like proportions that fits in this one when turned."""
        c, s = abs(math.cos(tilt)), abs(math.sin(tilt))
        w, h = self.width, self.height
        scale = min(w / (w * c + h * s), h / (w * s + h * c))
        return self.inner(0, 0, w * scale, h * scale, turn=tilt)

    def part(self, x0: float, y0: float, x1: float, y1: float) -> "Site":
        """A rectangle of this site as a site."""
        return self.inner((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0)

    def at(self, x: float, y: float) -> Placed:
        """A point of the site on the plane."""
        return self.cx + x * self._cos - y * self._sin, self.cy + x * self._sin + y * self._cos

    def put(
        self,
        kind: str,
        x: float,
        y: float,
        length: float,
        width: float,
        *,
        height: float = 0.0,
        angle: float = 0.0,
        colour: str = "",
        rgb: RGB | None = None,
        variety: int | None = None,
    ) -> None:
        """Put one thing; its colour and variety are drawn where not given."""
        dice = self.dice
        if kind in CLASSES:
            if not colour:
                names, weights = _WEIGHTS[kind]
                colour = dice.choices(names, cum_weights=weights)[0]
            rgb = _shaded_colour(kind, colour, dice)
        elif rgb is None:
            rgb = _shaded_colour(kind, dice.choice(tuple(COLOURS)), dice)
        many = len(shapes(kind))
        drawn = int(dice.random() * many)
        px, py = self.at(x, y)
        self.things.append(
            SiteThing(
                (self.ident << 16) | len(self.things),
                kind,
                colour,
                rgb,
                px,
                py,
                self.angle + angle,
                length,
                width,
                height,
                drawn if variety is None else variety % many,
            )
        )

    def lay(
        self,
        cover: str,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        *,
        rgb: RGB | None = None,
        truth: bool = True,
    ) -> None:
        """Cover a rectangle."""
        self.lay_polygon(cover, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)], rgb=rgb, truth=truth)

    def lay_polygon(self, cover: str, points: list[Placed], *, rgb: RGB | None = None, truth: bool = True) -> None:
        """Cover a polygon given in the site's frame."""
        dice = self.dice
        if rgb is None:
            rgb = dice.choice(PALETTES[cover])
        shade = dice.uniform(0.9, 1.1)
        tint = (rgb[0] * shade, rgb[1] * shade, rgb[2] * shade)
        placed, sizes = self._turn(np.array(points)), np.array([len(points)])
        self.ground.append(Ground(LANDCOVER[cover], tint, placed, sizes, truth))

    def _turn(self, local: NDArray[np.float64]) -> NDArray[np.float64]:
        turned = np.empty_like(local)
        turned[:, 0] = self.cx + local[:, 0] * self._cos - local[:, 1] * self._sin
        turned[:, 1] = self.cy + local[:, 0] * self._sin + local[:, 1] * self._cos
        return turned

    def pond(self, cover: str, x: float, y: float, rx: float, ry: float, *, rgb: RGB | None = None) -> None:
        """Cover a rounded, irregular patch that stays within the radii."""
        dice = self.dice
        a, b = dice.uniform(0, 6.28), dice.uniform(0, 6.28)
        points = []
        for k in range(28):
            t = 2 * math.pi * k / 28
            r = 0.84 + 0.1 * math.sin(2 * t + a) + 0.06 * math.sin(3 * t + b)
            points.append((x + rx * r * math.cos(t), y + ry * r * math.sin(t)))
        self.lay_polygon(cover, points, rgb=rgb)

    def lines(self, strokes: list[Stroke], width: float, rgb: RGB) -> None:
        """Paint lines along x or y, (x0, y0, x1, y1) each; they change the look, not the land cover."""
        if not strokes:
            return
        ends = np.array(strokes)
        low = np.minimum(ends[:, :2], ends[:, 2:]) - width / 2
        high = np.maximum(ends[:, :2], ends[:, 2:]) + width / 2
        corners = np.stack(
            [low[:, 0], low[:, 1], high[:, 0], low[:, 1], high[:, 0], high[:, 1], low[:, 0], high[:, 1]],
            axis=-1,
        )  # fmt: skip
        placed, sizes = self._turn(corners.reshape(-1, 2)), np.full(len(strokes), 4)
        self.ground.append(Ground(LANDCOVER["road"], rgb, placed, sizes, False))


_WEIGHTS = {
    name: ([c for c, _ in kind.colours], list(itertools.accumulate(w for _, w in kind.colours)))
    for name, kind in CLASSES.items()
}

# Colours that look unlike the others of their name.
_SPECIAL: dict[tuple[str, str], RGB] = {
    ("swimming pool", "blue"): (72, 160, 204),
    ("swimming pool", "green"): (72, 150, 120),
    ("tree", "green"): (58, 88, 46),
    ("tree", "brown"): (120, 92, 58),
    ("tree", "red"): (150, 66, 44),
    ("tree", "yellow"): (190, 160, 62),
    ("sports field", "green"): (82, 132, 66),
    ("building", "red"): (166, 80, 60),
}


def _shaded_colour(kind: str, colour: str, dice: random.Random) -> RGB:
    r, g, b = _SPECIAL.get((kind, colour)) or COLOURS[colour]
    k = dice.uniform(0.88, 1.1)
    return (
        r * k + dice.uniform(-9, 9),
        g * k + dice.uniform(-9, 9),
        b * k + dice.uniform(-9, 9),
    )
