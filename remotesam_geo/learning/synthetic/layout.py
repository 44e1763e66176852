"""The plan of the plane: blocks between roads, split into districts, each laid out when it is first looked at.

Everything is addressed in metres on an endless plane and drawn from hashes of the seed and the place, so a window
finds the same things whoever looks at it, in any order.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .chance import chance, mix
from .districts import DISTRICTS, THEMES
from .districts.pieces import vehicles_along
from .site import Ground, Site, SiteThing

__all__ = ["REACH", "Layout", "Leaf", "lay_out", "leaves_of"]

BLOCK = 220.0  # metres between the main roads, on average
JITTER = 40.0
ROAD = 11.0
LANE = 8.0

REACH = 16.0
"""Metres that a thing or its shadow may reach beyond its own place."""


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One district or road: its bounds in the plan's frame, and its kind."""

    ident: int
    kind: str
    x0: float
    y0: float
    x1: float
    y1: float
    turn: int  # quarter turns of its site
    seed: int


@functools.lru_cache(maxsize=4096)
def _road_line(seed: int, axis: int, index: int) -> float:
    """Where the main road of that index runs."""
    return index * BLOCK + chance(seed, 11, axis, index).uniform(-JITTER, JITTER)


@functools.lru_cache(maxsize=1024)
def leaves_of(seed: int, i: int, j: int) -> tuple[Leaf, ...]:
    """The districts and roads of block i, j; it owns the roads on its left and lower side."""
    dice = chance(seed, 12, i, j)
    theme = dice.choices(THEMES, [weight for weight, _ in THEMES])[0][1]
    names, weights = list(theme), list(theme.values())
    x0, x1 = _road_line(seed, 0, i), _road_line(seed, 0, i + 1)
    y0, y1 = _road_line(seed, 1, j), _road_line(seed, 1, j + 1)
    found: list[Leaf] = []
    base = mix(seed, 13, i, j)
    place = (((i & 0xFFFF) << 16) | (j & 0xFFFF)) << 8

    def add(kind: str, a: float, b: float, c: float, d: float, *, turn: int) -> None:
        number = len(found)
        ident = place | number
        found.append(Leaf(ident=ident, kind=kind, x0=a, y0=b, x1=c, y1=d, turn=turn, seed=mix(base, number)))

    half = ROAD / 2
    add("road", x0 - half, y0 + half, x0 + half, y1 - half, turn=1)
    add("road", x0 + half, y0 - half, x1 - half, y0 + half, turn=0)
    add("crossing", x0 - half, y0 - half, x0 + half, y0 + half, turn=0)

    def split(a: float, b: float, c: float, d: float) -> None:
        w, h = c - a, d - b
        longer = max(w, h)
        if longer > 125 or (longer > 90 and dice.random() < 0.7):
            gap = dice.choice((0.0, LANE, LANE)) / 2
            at = dice.uniform(0.4, 0.6)
            if w >= h:
                x = a + w * at
                split(a, b, x - gap, d)
                if gap:
                    add("lane", x - gap, b, x + gap, d, turn=1)
                split(x + gap, b, c, d)
            else:
                y = b + h * at
                split(a, b, c, y - gap)
                if gap:
                    add("lane", a, y - gap, c, y + gap, turn=0)
                split(a, y + gap, c, d)
        else:
            add(dice.choices(names, weights)[0], a, b, c, d, turn=dice.randrange(4))

    split(x0 + half, y0 + half, x1 - half, y1 - half)
    return tuple(found)


def _place_road(site: Site, leaf: Leaf) -> None:
    dice = site.dice
    w, h = site.width / 2, site.height / 2
    site.lay("road", -w, -h, w, h)
    if leaf.kind == "crossing":
        return
    if leaf.kind == "road":
        site.lay("built-up", -w, -h, w, -h + 1.6)
        site.lay("built-up", -w, h - 1.6, w, h)
    paint = (222, 220, 212) if dice.random() < 0.8 else (206, 172, 60)
    dashes = [(-w + 9 * k, 0.0, -w + 9 * k + 4, 0.0) for k in range(int(2 * w // 9))]
    site.lines([(-w, 0.0, w, 0.0)] if dice.random() < 0.35 else dashes, 0.2, paint)
    vehicles_along(site, 2.1, dice.uniform(0.3, 0.9))


@functools.lru_cache(maxsize=512)
def lay_out(leaf: Leaf) -> tuple[tuple[SiteThing, ...], tuple[Ground, ...]]:
    """What stands on a leaf, and the ground below it."""
    dice = chance(leaf.seed)
    w, h = leaf.x1 - leaf.x0, leaf.y1 - leaf.y0
    if leaf.turn % 2:
        w, h = h, w
    centre = ((leaf.x0 + leaf.x1) / 2, (leaf.y0 + leaf.y1) / 2)
    site = Site(centre, w, h, leaf.turn * math.pi / 2, ident=leaf.ident, dice=dice)
    if leaf.kind in ("road", "lane", "crossing"):
        _place_road(site, leaf)
    else:
        DISTRICTS[leaf.kind](site)
    return tuple(site.things), tuple(site.ground)


class Layout:
    """The things and the ground round a place, in the plan's own frame.

    Examples:
        >>> plan = Layout(seed=3)
        >>> window = np.array([(0, 0), (80, 0), (80, 60), (0, 60)])
        >>> things, ground = plan.look(window)
        >>> things == Layout(seed=3).look(window)[0]
        True
    """

    def __init__(self, *, seed: int) -> None:
        self.seed = seed

    def block(self, i: int, j: int) -> tuple[Leaf, ...]:
        """The leaves of one block."""
        return leaves_of(self.seed, i, j)

    def leaves(self, x0: float, y0: float, x1: float, y1: float) -> list[Leaf]:
        """The leaves that meet a rectangle."""
        out = []
        slack = JITTER + ROAD
        for i in range(math.floor((x0 - slack) / BLOCK) - 1, math.floor((x1 + slack) / BLOCK) + 1):
            for j in range(math.floor((y0 - slack) / BLOCK) - 1, math.floor((y1 + slack) / BLOCK) + 1):
                if (
                    _road_line(self.seed, 0, i) - ROAD > x1
                    or _road_line(self.seed, 0, i + 1) + ROAD < x0
                    or _road_line(self.seed, 1, j) - ROAD > y1
                    or _road_line(self.seed, 1, j + 1) + ROAD < y0
                ):
                    continue
                out += [
                    leaf
                    for leaf in leaves_of(self.seed, i, j)
                    if leaf.x0 <= x1 and leaf.x1 >= x0 and leaf.y0 <= y1 and leaf.y1 >= y0
                ]
        return out

    def look(self, window: NDArray[np.float64]) -> tuple[list[SiteThing], list[Ground]]:
        """Things that may touch a window, shadows included, and the ground patches below it.

        Args:
            window: N x 2, the points of a convex outline in order; the first two sides make a corner.
        """
        low, high = window.min(0) - REACH, window.max(0) + REACH
        leaves = self.leaves(*low, *high)
        things: list[SiteThing] = []
        ground: list[Ground] = []
        for leaf in _leaves_in_reach(leaves, window):
            some, patches = lay_out(leaf)
            things += some
            ground += patches
        return things, ground


def _leaves_in_reach(leaves: list[Leaf], window: NDArray[np.float64]) -> list[Leaf]:
    """Those that come within reach of a window that is turned against them."""
    quads = np.array([((f.x0, f.y0), (f.x1, f.y0), (f.x1, f.y1), (f.x0, f.y1)) for f in leaves])
    meets = np.ones(len(leaves), bool)
    for side in (window[1] - window[0], window[2] - window[1]):
        across = side / np.linalg.norm(side)
        there, here = quads @ across, window @ across
        meets &= (there.max(1) > here.min() - REACH) & (there.min(1) < here.max() + REACH)
    return [leaf for leaf, some in zip(leaves, meets.tolist(), strict=True) if some]
