"""What stands in several districts, and the paints they share."""

import math

from remotesam_geo.learning.synthetic.site import Site

__all__ = [
    "ASPHALT",
    "WHITE",
    "YELLOW",
    "afloat",
    "ship",
    "tree",
    "trees",
    "vehicle",
    "vehicles_along",
]

ASPHALT = ((84, 85, 90), (98, 98, 100), (112, 110, 106))
WHITE = (226, 226, 222)
YELLOW = (206, 172, 60)


def vehicle(site: Site, x: float, y: float, angle: float, room: float = 7.0) -> None:
    """A vehicle no longer than the room."""
    dice = site.dice
    pick = dice.random()
    if pick < 0.68 or room < 7.5:
        length, width, height, variety = dice.uniform(4.3, 5.3), dice.uniform(1.95, 2.25), 1.5, 0
    elif pick < 0.8 or room < 10:
        length, width, height, variety = dice.uniform(5.6, 7.2), dice.uniform(2.2, 2.5), 2.4, 1
    elif pick < 0.92:
        length, width, height, variety = dice.uniform(8, 13), dice.uniform(2.5, 2.8), 3.4, 2
    else:
        length, width, height, variety = dice.uniform(10, 13), dice.uniform(2.5, 2.8), 3.1, 3
    length = min(length, room)
    turned = angle + dice.uniform(-0.04, 0.04) + (math.pi if dice.random() < 0.5 else 0)
    site.put("vehicle", x, y, length, width, height=height, angle=turned, variety=variety)


def vehicles_along(site: Site, lane: float, density: float) -> None:
    """Traffic along x, one line of vehicles each way at +-lane."""
    for side in (-lane, lane):
        x = -site.width / 2 + site.dice.uniform(7.5, 16)
        while x < site.width / 2 - 8:
            if site.dice.random() < density:
                vehicle(site, x, side + site.dice.uniform(-0.15, 0.15), 0, 14)
            x += site.dice.uniform(15, 26)


def tree(site: Site, x: float, y: float, most: float, least: float = 3.0) -> None:
    """One tree with a crown of at most so many metres."""
    dice = site.dice
    d = dice.uniform(min(least, most), min(most, 11.0))
    site.put("tree", x, y, d, d, height=dice.uniform(4, 5 + d), angle=dice.uniform(0, 6.28))


def trees(
    site: Site,
    x0: float,
    y0: float,
    x1: float,
    y1: float,
    *,
    pitch: float,
    share: float,
    dense: bool = False,
) -> None:
    """Trees on a jittered grid; with the jitter their crowns may touch, where they are dense, and never overlap."""
    dice = site.dice
    nx, ny = int((x1 - x0) // pitch), int((y1 - y0) // pitch)
    if nx < 1 or ny < 1:
        return
    dx, dy = (x1 - x0) / nx, (y1 - y0) / ny
    cell = min(dx, dy)
    least, most = (0.7, 0.95) if dense else (0.58, 0.76)  # of a crown, in cells
    apart = 0.0 if dense else 1.0  # metres
    for i in range(nx):
        for j in range(ny):
            if dice.random() < share:
                d = dice.uniform(least, most) * cell
                free_x, free_y = (max(0.0, (side - d - apart) / 2) for side in (dx, dy))
                x = x0 + (i + 0.5) * dx + dice.uniform(-free_x, free_x)
                y = y0 + (j + 0.5) * dy + dice.uniform(-free_y, free_y)
                site.put("tree", x, y, d, d, height=dice.uniform(3, 4 + d), angle=dice.uniform(0, 6.28))


def ship(site: Site, x: float, y: float, size: float, beam: float, *, moored: bool) -> None:
    """A ship along y, afloat at a slant or moored straight."""
    dice = site.dice
    if size < 15:
        variety, height = dice.choice((2, 3)), 1.8
    else:
        variety, height = dice.choice((0, 1, 4, 2 if size < 25 else 0)), 4.0
    length = size * dice.uniform(0.82, 1.0)
    angle = math.pi / 2 + (math.pi if dice.random() < 0.5 else 0)
    angle += 0 if moored else dice.uniform(-0.2, 0.2)
    site.put("ship", x, y, length, beam, height=height, angle=angle, variety=variety)


def afloat(site: Site) -> None:
    """Ships under way along x, some with a wake, where there is water enough."""
    if site.height < 6:
        return
    dice = site.dice
    x = -site.width / 2
    while True:
        size = dice.choice((7.0, 12.0, 20.0))
        size = min(size, site.height)
        if x + size * 2.4 > site.width / 2:
            return
        if dice.random() < 0.6:
            cx = x + size * 1.6
            if dice.random() < 0.6:
                site.lay_polygon(
                    "water",
                    [(cx, 0.1), (cx - size * 1.5, size * 0.28), (cx - size * 1.5, -size * 0.28)],
                    rgb=(150, 170, 176),
                    truth=False,
                )
            site.part(cx - size / 2, -1, cx + size / 2, 1).put(
                "ship",
                0,
                0,
                size,
                size * 0.28,
                height=2.5,
                variety=dice.randrange(5) if size > 15 else 2,
            )
        x += size * 2.4 + dice.uniform(2, 20)
