"""What districts look like: each function lays one out on a site.

Objects stand in lots of their own, so that they may touch and never overlap.
"""

import math
import random
from collections.abc import Callable

from remotesam_geo.learning.world.site import Site

__all__ = ["DISTRICTS", "THEMES", "vehicles_along"]

ASPHALT = ((84, 85, 90), (98, 98, 100), (112, 110, 106))
WHITE = (226, 226, 222)
YELLOW = (206, 172, 60)


def _vehicle(site: Site, x: float, y: float, angle: float, room: float = 7.0) -> None:
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
    site.put("vehicle", x, y, length, width, height, angle=turned, variety=variety)


def vehicles_along(site: Site, lane: float, density: float) -> None:
    """Traffic along x, one line of vehicles each way at +-lane."""
    for side in (-lane, lane):
        x = -site.width / 2 + site.dice.uniform(7.5, 16)
        while x < site.width / 2 - 8:
            if site.dice.random() < density:
                _vehicle(site, x, side + site.dice.uniform(-0.15, 0.15), 0, 14)
            x += site.dice.uniform(16, 34)


def _tree(site: Site, x: float, y: float, most: float, least: float = 3.0) -> None:
    dice = site.dice
    d = dice.uniform(min(least, most), min(most, 11.0))
    site.put("tree", x, y, d, d, dice.uniform(4, 5 + d), angle=dice.uniform(0, 6.28))


def _trees(
    site: Site, x0: float, y0: float, x1: float, y1: float, pitch: float, share: float
) -> None:
    """Trees on a jittered grid; with the jitter their crowns may touch and never overlap."""
    dice = site.dice
    nx, ny = int((x1 - x0) // pitch), int((y1 - y0) // pitch)
    if nx < 1 or ny < 1:
        return
    dx, dy = (x1 - x0) / nx, (y1 - y0) / ny
    cell = min(dx, dy)
    for i in range(nx):
        for j in range(ny):
            if dice.random() < share:
                d = dice.uniform(0.6, 0.92) * cell
                free_x, free_y = (dx - d) / 2, (dy - d) / 2
                x = x0 + (i + 0.5) * dx + dice.uniform(-free_x, free_x)
                y = y0 + (j + 0.5) * dy + dice.uniform(-free_y, free_y)
                site.put("tree", x, y, d, d, dice.uniform(3, 4 + d), angle=dice.uniform(0, 6.28))


def airport(site: Site) -> None:
    """An apron with airplanes in stands, a terminal, service vehicles, taxi lines."""
    dice = site.dice
    site.lay("grass", -site.width / 2, -site.height / 2, site.width / 2, site.height / 2)
    s = site.tilted(dice.choice((0, 0, dice.uniform(-0.4, 0.4))))
    w, h = s.width / 2, s.height / 2
    s.lay("built-up", -w + 2, -h + 2, w - 2, h - 2)
    joint = s.ground[-1].rgb
    seam = (joint[0] * 0.86, joint[1] * 0.86, joint[2] * 0.86)
    joints = range(1, int((2 * w - 4) // 12))
    s.lines([(-w + 2 + 12 * k, -h + 3, -w + 2 + 12 * k, h - 3) for k in joints], 0.25, seam)
    top = h - 4
    if dice.random() < 0.6:  # the terminal
        depth = dice.uniform(9, 15)
        width = dice.uniform(0.5, 0.9) * (2 * w - 8)
        s.put("building", 0, top - depth / 2, width, depth, 9, variety=dice.choice((2, 4)))
        top -= depth + 6
    y = top
    while True:
        fitting = [m for m in (11.0, 14.0, 18.0, 24.0, 31.0) if m * 1.15 < (y + h - 4) * 0.9]
        if not fitting:
            break
        span = dice.choice(fitting) * dice.uniform(0.92, 1.08)
        pitch = span * dice.choice((1.04, 1.12, 1.3))
        n = int((2 * w - 8) // pitch)
        middle = y - span * 0.56
        leads = [(-w + 5, y - span * 1.12, w - 5, y - span * 1.12)]
        for i in range(n):
            x = (i - (n - 1) / 2) * pitch
            leads.append((x, y - span * 1.1, x, middle))
            pick = dice.random()
            if pick < 0.8:
                variety = dice.randrange(4)
                size = span * dice.uniform(0.86, 1.0)
                length = size * (
                    dice.uniform(0.8, 0.92) if variety == 2 else dice.uniform(0.95, 1.05)
                )
                heading = math.pi / 2 + dice.choice((0, 0, math.pi)) + dice.uniform(-0.05, 0.05)
                s.put(
                    "airplane",
                    x,
                    middle,
                    length,
                    size,
                    4 + size * 0.1,
                    angle=heading,
                    variety=variety,
                )
            elif pick < 0.9:
                s.put(
                    "mark", x, middle, span * 0.7, span * 0.7, 0.0, rgb=dice.choice((WHITE, YELLOW))
                )
            else:
                _vehicle(s, x, middle, dice.uniform(0, 3.14), 12)
        s.lines(leads, 0.4, YELLOW)
        y -= span * 1.15 + dice.choice((2.0, 5.0, 10.0))
    strip = y + h - 4
    if strip > 7:
        x = -w + 10
        while x < w - 10:
            if dice.random() < 0.5:
                _vehicle(s, x, y - strip / 2, 0, 12)
            x += dice.uniform(14, 20)


def harbour(site: Site) -> None:
    """Water before a quay, piers with ships alongside, some abreast and touching."""
    dice = site.dice
    w, h = site.width / 2, site.height / 2
    site.lay("water", -w, -h, w, h)
    quay = dice.uniform(10, 22)
    site.lay("built-up", -w, h - quay, w, h)
    edge = h - quay
    x = -w + dice.uniform(3, 8)
    while x < w - 24:  # sheds, containers and vehicles on the quay
        pick = dice.random()
        if pick < 0.3:
            length = dice.uniform(14, 22)
            site.put("building", x + length / 2, h - quay / 2, length, quay * 0.6, 6)
            x += length + 5
        elif pick < 0.6:
            for k in range(dice.randrange(1, 4)):
                for j in range(int((quay - 3) // 2.6)):
                    if dice.random() < 0.8:
                        site.put("container", x + 3.2, edge + 2.8 + 2.6 * j, 6.1, 2.44, 2.6)
                x += 6.6
                if k == 2:
                    break
            x += 4
        else:
            _vehicle(site, x + 5, h - quay / 2, dice.choice((0, 0.5, 1.57)), min(quay - 3, 12))
            x += dice.uniform(11, 18)
    depth = 2 * h - quay
    free = depth > 60  # room for ships under way beyond the piers
    x = -w + dice.uniform(6, 14)
    while x < w - 10:
        size = dice.choice((7.0, 10.0, 16.0, 24.0, 34.0))
        reach = min(depth - (22 if free else 6), dice.uniform(2.2, 3.4) * size + 12)
        deck = dice.choice((2.4, 3.0, 4.5)) + size * 0.05
        comb = size <= 12 and dice.random() < 0.4
        span = size * 1.1 * 2 + deck if comb else deck
        if x + span + 8 > w:
            break
        y = edge - reach / 2
        if comb:
            s = site.part(x, edge - reach, x + span, edge)
            s.put("harbor", 0, 0, reach, span, 1.2, angle=-math.pi / 2, variety=1)
            _comb(s, reach, span)
            x += span + dice.uniform(3, 8)
            continue
        if dice.random() < 0.16 and x + max(deck * 3, 9) < w:
            s = site.part(x, edge - reach, x + max(deck * 3, 9), edge)
            s.put("harbor", 0, 0, reach, s.width, 1.2, angle=-math.pi / 2, variety=2)
            x += s.width + dice.uniform(3, 8)
            continue
        site.put("harbor", x + deck / 2, y, reach, deck, 1.2, angle=-math.pi / 2, variety=0)
        x += deck
        rows = dice.choice((1, 2, 2, 3))
        beam = size * dice.uniform(0.22, 0.3)
        for _ in range(rows):
            gap = dice.choice((0.0, 1.0, 1.4, 1.8, 2.2))
            if x + gap + beam + 1 > w:
                break
            bow = dice.uniform(0, 3)
            y = edge - 2 - bow
            while y - size > edge - reach:
                if dice.random() < 0.86:
                    _ship(site, x + gap + beam / 2, y - size / 2, size, beam, True)
                y -= size * 1.06 + dice.uniform(0, 3)
            x += gap + beam
        x += dice.uniform(3, 10)
    if free:
        _afloat(site.part(-w + 6, -h + 4, w - 6, -h + 16), dice)


def _comb(s: Site, reach: float, span: float) -> None:
    """Boats between the fingers of a pier whose shape has four pairs of them."""
    dice = s.dice
    bay, arm = 0.19 * reach, 0.43 * span
    for k in range(3):
        along = (-0.32 + 0.06 + 0.25 * k + 0.095) * reach
        for side in (-1, 1):
            n = 2 if bay > 5.2 else 1
            for j in range(n):
                if dice.random() < 0.75:
                    beam = bay / n * dice.uniform(0.7, 0.96)
                    length = min(arm * dice.uniform(0.75, 0.95), beam * 4)
                    offset = (j - (n - 1) / 2) * bay / n
                    s.put(
                        "ship",
                        side * (0.07 * span + 0.3 + length / 2),
                        -(along + offset),
                        length,
                        beam,
                        1.6,
                        angle=0 if side > 0 else math.pi,
                        variety=dice.choice((2, 3)),
                    )


def _ship(site: Site, x: float, y: float, size: float, beam: float, moored: bool) -> None:
    dice = site.dice
    if size < 15:
        variety, height = dice.choice((2, 3)), 1.8
    else:
        variety, height = dice.choice((0, 1, 4, 2 if size < 25 else 0)), 4.0
    length = size * dice.uniform(0.82, 1.0)
    angle = math.pi / 2 + (math.pi if dice.random() < 0.5 else 0)
    angle += 0 if moored else dice.uniform(-0.2, 0.2)
    site.put("ship", x, y, length, beam, height, angle=angle, variety=variety)


def _afloat(site: Site, dice: random.Random) -> None:
    """Ships under way along x, some with a wake, where there is water enough."""
    if site.height < 6:
        return
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
            site.part(cx - size / 2, -1, cx + size / 2, 1, turn=0).put(
                "ship", 0, 0, size, size * 0.28, 2.5, variety=dice.randrange(5) if size > 15 else 2
            )
        x += size * 2.4 + dice.uniform(2, 20)


def lake(site: Site) -> None:
    """Open water with an island or two and some ships."""
    dice = site.dice
    w, h = site.width / 2, site.height / 2
    site.lay("water", -w, -h, w, h)
    if dice.random() < 0.5:
        rx, ry = w * dice.uniform(0.25, 0.45), h * dice.uniform(0.2, 0.3)
        site.pond("sand", 0, h - ry - 2, rx * 1.3, ry)
        site.pond("grass", 0, h - ry - 2, rx, ry * 0.75)
        _trees(site, -rx * 0.5, h - 2 - ry * 1.4, rx * 0.5, h - 2 - ry * 0.6, 7, 0.5)
    y = -h + 8
    while y < 0:
        _afloat(site.part(-w + 4, y - 5, w - 4, y + 5), dice)
        y += dice.uniform(14, 30)


def beach(site: Site) -> None:
    """Sand between water and grass, boats on the sand, parasols, palms."""
    dice = site.dice
    w, h = site.width / 2, site.height / 2
    site.lay("sand", -w, -h, w, h)
    shore = -h + 2 * h * dice.uniform(0.3, 0.45)
    a, b = dice.uniform(0, 6.28), dice.uniform(0.04, 0.08)
    wavy = [(x * w / 10, shore + 3 * math.sin(x * w / 10 * b + a)) for x in range(-10, 11)]
    foam = [(x, y + 2.0) for x, y in wavy]
    site.lay_polygon("sand", [*foam, (w, -h), (-w, -h)], rgb=(176, 162, 130), truth=False)
    site.lay_polygon("water", [*wavy, (w, -h), (-w, -h)])
    grass = h - dice.uniform(12, 22)
    site.lay("grass", -w, grass, w, h)
    _trees(site, -w + 1, grass + 1, w - 1, h - 1, dice.uniform(6, 9), 0.6)
    x = -w + 5
    while x < w - 10 and grass - shore > 26:
        pick = dice.random()
        y = dice.uniform(shore + 12, grass - 12)
        if pick < 0.25:
            size = dice.uniform(5.5, 8.5)
            _ship(site, x + 3, y, size, size * 0.34, False)
        elif pick < 0.6:
            for _ in range(3):
                yy = y + dice.uniform(-6, 6)
                site.put("disc", x + 2.5, yy, 2.6, 2.6, 2)
        elif pick < 0.68:
            _vehicle(site, x + 3, y, dice.uniform(0, 3.14), 7)
        x += dice.uniform(7, 12)
    _afloat(site.part(-w + 3, -h + 4, w - 3, shore - 10), dice)


def tanks(site: Site) -> None:
    """Storage tanks in bunds, with pipes, pump houses and round pads without a tank."""
    dice = site.dice
    site.lay(dice.choice(("bare soil", "grass", "built-up")), *_all(site))
    s = site.tilted(dice.choice((0, 0, dice.uniform(-0.5, 0.5))))
    w, h = s.width / 2, s.height / 2
    y = -h + 3
    while True:
        fitting = [size for size in (7.0, 10.0, 14.0, 19.0, 25.0) if y + 1.1 * size + 3 < h]
        if not fitting:
            break
        d = dice.choice(fitting) * dice.uniform(0.9, 1.1)
        ratio = 1.01 if dice.random() < 0.08 else dice.choice((1.15, 1.25, 1.35, 1.5))
        bund = min(ratio * d, max(d, h - y - 1))
        n = int((2 * w - 6) // bund)
        s.lines([(-w + 3, y - 1.0, w - 3, y - 1.0)], 0.7, (178, 176, 170))
        same = dice.choice(["", "", "white", "grey"])
        for i in range(n):
            x = (i - (n - 1) / 2) * bund
            pick = dice.random()
            if bund > d * 1.3:
                half = bund * 0.46
                s.lay(
                    "built-up", x - half, y + d / 2 - half, x + half, y + d / 2 + half, truth=False
                )
            if pick < 0.78:
                dd = d * (1.0 if bund < d * 1.1 else dice.uniform(0.8, 1.0))
                s.put(
                    "storage tank", x, y + d / 2, dd, dd, dice.uniform(5, 6 + d / 3),
                    angle=dice.uniform(0, 6.28), colour=same,
                )  # fmt: skip
            elif pick < 0.9:
                s.put("disc", x, y + d / 2, d * 0.9, d * 0.9, 0.0, rgb=dice.choice(ASPHALT))
            elif d > 9:
                s.put("building", x, y + d / 2, d * 0.8, d * 0.55, 4)
            else:
                _vehicle(s, x, y + d / 2, dice.uniform(0, 3), 6.9)
        y += max(d, bund) + dice.choice((3.0, 6.0, 10.0))


def residential(site: Site) -> None:
    """Houses in lots with drives, trees and pools; terraces where they touch."""
    dice = site.dice
    site.lay("grass", *_all(site))
    deep = dice.uniform(24, 32)
    rows = max(1, int(site.height // deep))
    for row in range(rows):
        y0 = -site.height / 2 + row * site.height / rows
        s = site.part(-site.width / 2, y0, site.width / 2, y0 + site.height / rows)
        if row % 2:
            s = s.part(-s.width / 2, -s.height / 2, s.width / 2, s.height / 2)
            s = Site((s.cx, s.cy), s.width, s.height, s.angle + math.pi, ident=s.ident, dice=dice)
            s.things, s.ground = site.things, site.ground
        if dice.random() < 0.08:
            _terrace(s)
        else:
            _houses(s)


def _terrace(s: Site) -> None:
    dice = s.dice
    w, h = s.width / 2, s.height / 2
    unit, deep = dice.uniform(6, 8), dice.uniform(9, 12)
    n = int((2 * w - 6) // unit)
    colour = dice.choice(("", "red", "grey", "brown"))
    s.lay("built-up", -w + 1, -h + 1, w - 1, -h + 7)
    for i in range(n):
        x = (i - (n - 1) / 2) * unit
        s.put("building", x, -h + 8 + deep / 2, unit, deep, 6.5, colour=colour, variety=0)
        if dice.random() < 0.5:
            _vehicle(s, x, -h + 4, math.pi / 2, 5.2)
        if dice.random() < 0.4 and 2 * h - deep - 10.5 > unit:
            _tree(s, x, h - 2 - unit / 2 * 0.9, unit * 0.85)


def _houses(s: Site) -> None:
    dice = s.dice
    w, h = s.width / 2, s.height / 2
    lot = dice.uniform(19, 26)
    n = max(1, int(2 * w // lot))
    lot = 2 * w / n
    for i in range(n):
        x0 = -w + i * lot
        length, width = min(dice.uniform(9, 13), lot - 9), dice.uniform(7.5, 9.5)
        hx, hy = x0 + 4.5 + length / 2, -h + 6.5 + width / 2
        variety = dice.choice((0, 1, 1, 0, 3, 5))
        if variety in (3, 5):
            width = min(length, 11.0)
            hy = -h + 6.5 + width / 2
        tilt = dice.choice((0.0, 0.0, dice.uniform(-0.12, 0.12)))
        s.put("building", hx, hy, length, width, dice.uniform(4, 7), angle=tilt, variety=variety)
        drive = x0 + lot - 2.6
        s.lay("built-up", drive - 1.7, -h + 0.5, drive + 1.7, -h + 12)
        if dice.random() < 0.6:
            _vehicle(s, drive, -h + dice.uniform(4, 8.5), math.pi / 2, 5.3)
        back = -h + 6.5 + width + 2.5  # the garden lies from here to h
        room = h - 1 - back
        if room < 4:
            continue
        pool = dice.random()
        left = x0 + 1
        if pool < 0.42 and room > 5.5:
            a, b = dice.uniform(5.5, 9.5), dice.uniform(3.2, min(4.8, room - 1.6))
            px, py = left + a / 2 + 1, back + b / 2 + 0.8
            s.lay("built-up", px - a / 2 - 1, py - b / 2 - 1, px + a / 2 + 1, py + b / 2 + 1)
            s.put("swimming pool", px, py, a, b, 0, variety=dice.randrange(3))
            left = px + a / 2 + 1.5
        elif pool < 0.54 and room > 5:
            s.pond("water", left + 3, back + room / 2, 2.8, 2.0)
            left += 6.5
        elif pool < 0.62 and room > 5:
            a = dice.uniform(3, 6)  # a trampoline, a tarpaulin: not a pool
            shape = dice.choice(("disc", "slab"))
            s.put(
                shape, left + a / 2, back + 2.2, a, 3.6 if shape == "slab" else a * 0.6 + 1.4, 0.6
            )
            left += a + 1
        _trees(s, left, back, x0 + lot - 0.5, h - 0.5, dice.uniform(5, 8), 0.6)


def industrial(site: Site) -> None:
    """Large halls with lots for lorries, containers and panels."""
    dice = site.dice
    site.lay("built-up", *_all(site))
    s = site.tilted(dice.choice((0, 0, dice.uniform(-0.3, 0.3))))
    w, h = s.width / 2, s.height / 2
    y = -h + 3
    while y + 18 < h:
        deep = min(dice.uniform(16, 30), h - y - 2)
        x = -w + 3
        while x + 14 < w:
            length = min(dice.uniform(14, 48), w - x - 2)
            pick = dice.random()
            if pick < 0.6:
                variety = dice.choice((2, 2, 4, 3, 0))
                s.put(
                    "building", x + length / 2, y + deep / 2, length, deep - 1, dice.uniform(6, 12),
                    variety=variety,
                )  # fmt: skip
            elif pick < 0.76:
                _yard(s, x, y, length, deep)
            elif pick < 0.86:
                for k in range(int(deep // 5)):
                    s.put(
                        "panel", x + length / 2, y + 2.5 + 5 * k, length - 2, 3, 1.2,
                        rgb=(40, 56, 92),
                    )  # fmt: skip
            else:
                s.put(
                    "slab", x + length / 2, y + deep / 2, length - 2, deep - 3, 0,
                    rgb=dice.choice(((176, 174, 168), (150, 100, 84), (118, 118, 120))),
                )  # fmt: skip
            x += length + (0.0 if dice.random() < 0.1 else dice.uniform(2.5, 8))
        y += deep
        aisle = min(dice.uniform(7, 11), h - y)
        if aisle > 6:
            x = -w + 8
            while x < w - 8:
                if dice.random() < 0.5:
                    _vehicle(s, x, y + aisle / 2, 0, 14)
                x += dice.uniform(15, 24)
        y += aisle


def _yard(s: Site, x: float, y: float, length: float, deep: float) -> None:
    dice = s.dice
    lorries = dice.random() < 0.5
    pitch = 3.6 if lorries else 2.7
    for k in range(int((length - 2) // pitch)):
        if dice.random() < 0.75:
            cx = x + 1 + pitch * (k + 0.5)
            if lorries:
                size = dice.uniform(8, 13)
                s.put("vehicle", cx, y + 1 + size / 2, size, 2.7, 3.4, angle=math.pi / 2, variety=2)
            else:
                s.put(
                    "container",
                    cx,
                    y + 7,
                    12.2 if dice.random() < 0.5 else 6.1,
                    2.44,
                    2.6,
                    angle=math.pi / 2,
                )
    del deep


def parking(site: Site) -> None:
    """Rows of vehicles side by side between lines."""
    dice = site.dice
    site.lay("built-up", *_all(site), rgb=dice.choice(ASPHALT))
    s = site.tilted(dice.choice((0, 0, dice.uniform(-0.6, 0.6))))
    w, h = s.width / 2, s.height / 2
    y = -h + 2
    full = dice.uniform(0.2, 0.8)
    pitch = 2.7 if dice.random() < 0.1 else dice.choice((3.3, 3.6, 4.0))
    bays: list[tuple[float, float, float, float]] = []
    row = 0
    while y + 6 < h - 1:
        for k in range(int((2 * w - 6) // pitch)):
            x = -w + 3 + pitch * (k + 0.5)
            if k % 9 == 8:
                if dice.random() < 0.5:
                    _tree(s, x, y + 2.7, pitch, 2.2)
                continue
            bays.append((x - pitch / 2, y, x - pitch / 2, y + 5.4))
            if dice.random() < full:
                _vehicle(s, x, y + 2.7 + dice.uniform(-0.1, 0.1), math.pi / 2, 5.0)
        row += 1
        y += 5.5 if row % 2 else 5.5 + dice.uniform(6, 7.5)
    s.lines(bays, 0.16, WHITE)


def sports(site: Site) -> None:
    """Sports fields and tennis courts, some side by side, a clubhouse, a pool, trees."""
    dice = site.dice
    site.lay(dice.choice(("grass", "grass", "bare soil", "built-up")), *_all(site))
    s = site.tilted(dice.choice((0, 0, dice.uniform(-0.5, 0.5))))
    w, h = s.width / 2, s.height / 2
    y = -h + 2
    while y + 16 < h:
        x = -w + 2
        kind = dice.random()
        if kind < 0.5:
            deep = min(dice.uniform(28, 44), h - y - 1)
        else:
            deep = min(28.0, h - y - 1)
        while x + 13 < w:
            room = w - x
            pick = dice.random()
            if kind < 0.5 and pick < 0.6 and room > 34 and deep > 20:
                _field(s, x, y, min(dice.uniform(40, 64), room), deep)
                x += min(64.0, room)
            elif pick < 0.62 and deep > 26:
                x += _courts(s, x, y, min(room, 60), deep)
            elif pick < 0.74 and deep > 12:
                a, b = min(dice.uniform(15, 25), room - 2), min(dice.uniform(8, 12.5), deep - 4)
                s.lay("built-up", x, y, x + a + 4, y + b + 4)
                s.put("swimming pool", x + a / 2 + 2, y + b / 2 + 2, a, b, 0, variety=3)
                x += a + 6
            elif pick < 0.82 and room > 14:
                a, b = min(dice.uniform(12, 20), room - 1), min(dice.uniform(9, 13), deep)
                s.put("building", x + a / 2, y + b / 2, a, b, 5)
                x += a + 3
            elif pick < 0.9 and room > 24:
                # Painted ground without a game on it.
                s.lay(
                    "built-up", x, y, x + 20, y + min(deep, 12),
                    rgb=dice.choice(((82, 132, 66), (60, 104, 160), (164, 84, 62))), truth=False,
                )  # fmt: skip
                x += 22
            else:
                step = min(dice.uniform(8, 18), room)
                _trees(s, x, y, x + step, y + deep, dice.uniform(5, 8), 0.7)
                x += step
        y += deep + dice.uniform(2, 6)


def _field(s: Site, x: float, y: float, length: float, deep: float) -> None:
    dice = s.dice
    margin = dice.uniform(1, 3)
    if dice.random() < 0.3:
        side = min(length, deep) - 2 * margin
        turn = dice.choice((0, math.pi / 2, math.pi))
        s.put(
            "sports field", x + length / 2, y + deep / 2, side, side, 0, angle=turn, colour="green",
            variety=2,
        )  # fmt: skip
        return
    a = length - 2 * margin
    b = min(deep - 2 * margin, a * 0.7)
    s.put("sports field", x + length / 2, y + deep / 2, a, b, 0, variety=dice.randrange(2))


def _courts(s: Site, x: float, y: float, room: float, deep: float) -> float:
    """Tennis courts side by side on one painted ground; returns the width used."""
    dice = s.dice
    pitch = 11.2 if dice.random() < 0.1 else dice.choice((13.0, 14.0, 15.0))
    n = min(int((room - 3) // pitch), dice.randrange(1, 5))
    if n < 1:
        return 4.0
    used = n * pitch + 3
    s.lay(
        "built-up", x, y, x + used, y + min(deep, 27.5),
        rgb=dice.choice(((70, 112, 78), (64, 96, 140), (150, 92, 70), (120, 120, 118))),
    )  # fmt: skip
    colour = dice.choice(("", "green", "blue", "red"))
    for k in range(n):
        if dice.random() < 0.93:
            s.put(
                "tennis court", x + 1.5 + pitch * (k + 0.5), y + min(deep, 27.5) / 2, 23.8, 11, 0,
                angle=math.pi / 2, colour=colour,
            )  # fmt: skip
    return used + 1


def farmland(site: Site) -> None:
    """Fields with rows, hedges, a barn, bales and ponds."""
    dice = site.dice
    site.lay("field", *_all(site))
    s = site.tilted(dice.choice((0.0, dice.uniform(-0.3, 0.3))))
    w, h = s.width / 2, s.height / 2
    n = dice.randrange(1, 4)
    for k in range(n):
        x0, x1 = -w + 2 * w * k / n, -w + 2 * w * (k + 1) / n
        s.lay(dice.choice(("field", "field", "grass", "bare soil")), x0 + 1, -h, x1 - 1, h)
        rgb = s.ground[-1].rgb
        tint = dice.choice((0.86, 0.92, 1.1))
        row = (rgb[0] * tint, rgb[1] * tint, rgb[2] * tint * 0.95)
        if dice.random() < 0.75:
            pitch = dice.choice((2.0, 3.0, 4.5))
            at = [x0 + 1 + pitch * j for j in range(1, int((x1 - x0 - 2) // pitch))]
            s.lines([(x, -h + 1, x, h - 1) for x in at], pitch * 0.4, row)
        middle = (x0 + x1) / 2
        pick = dice.random()
        if pick < 0.2:
            s.pond("water", middle, 0, min((x1 - x0) * 0.3, 14), min(h * 0.5, 10))
        elif pick < 0.45:
            for j in range(int(2 * h // 12)):
                if dice.random() < 0.5:
                    s.put(
                        "disc", middle + dice.uniform(-3, 3), -h + 8 + 12 * j, 1.8, 1.8, 1.4,
                        rgb=(196, 174, 110),
                    )  # fmt: skip
        elif pick < 0.65:
            _vehicle(s, middle, dice.uniform(-h * 0.5, h * 0.5), math.pi / 2, 7)
        elif pick < 0.85 and x1 - x0 > 24:
            s.lay("bare soil", middle - 11, -h + 2, middle + 11, -h + 24)
            s.put(
                "building", middle, -h + 9, dice.uniform(13, 19), dice.uniform(8, 11), 6, variety=0
            )
            _vehicle(s, middle - 5, -h + 19, dice.uniform(0, 3), 7)
        if dice.random() < 0.4:
            _trees(s, x0 + 0.5, -h + 26, x0 + 6, h - 2, 5.5, 0.8)


def woodland(site: Site) -> None:
    """Trees in a crowd, a glade, a pond, a track."""
    dice = site.dice
    site.lay("grass", *_all(site))
    w, h = site.width / 2, site.height / 2
    track = dice.uniform(-h * 0.4, h * 0.4)
    site.lay("bare soil", -w, track - 1.6, w, track + 1.6)
    pitch, share = dice.uniform(6, 10), dice.uniform(0.35, 0.95)
    _trees(site, -w + 1, track + 2.5, w - 1, h - 1, pitch, share)
    middle = dice.uniform(-w * 0.3, w * 0.5)
    room = track - 2.5 + h - 1
    _trees(site, -w + 1, -h + 1, middle - 10, track - 2.5, pitch, share)
    if room > 12 and dice.random() < 0.6:
        site.pond("water", middle, -h + 1 + room / 2, 9, room * 0.4)
    _trees(site, middle + 10, -h + 1, w - 1, track - 2.5, pitch, dice.uniform(0.2, 0.9))
    if dice.random() < 0.5:
        _vehicle(site, dice.uniform(-w * 0.7, w * 0.7), track, 0, 5.5)


def works(site: Site) -> None:
    """Bare ground under construction: heaps, pipes, machines, a frame without a roof."""
    dice = site.dice
    site.lay("bare soil", *_all(site))
    s = site.tilted(dice.uniform(-0.4, 0.4))
    w, h = s.width / 2, s.height / 2
    for _ in range(4):
        s.pond(
            dice.choice(("bare soil", "sand")),
            dice.uniform(-w * 0.6, w * 0.6), dice.uniform(-h * 0.6, h * 0.6), w * 0.3, h * 0.25,
        )  # fmt: skip
    nx, ny = int(2 * w // 17), int(2 * h // 17)
    for i in range(nx):
        for j in range(ny):
            x, y = -w + (i + 0.5) * 2 * w / nx, -h + (j + 0.5) * 2 * h / ny
            pick = dice.random()
            if pick < 0.25:
                _vehicle(s, x, y, dice.uniform(0, 3.14), 13)
            elif pick < 0.4:
                s.put("slab", x, y, 13, 10, 0, rgb=(176, 174, 168))
            elif pick < 0.55:
                s.put(
                    "blob", x, y, dice.uniform(5, 12), dice.uniform(5, 10), 2.0, rgb=(150, 122, 92)
                )
            elif pick < 0.7:
                for k in range(4):
                    s.put("container", x, y - 5 + 2.7 * k, 6.1, 2.44, 2.6)
            elif pick < 0.8:
                s.put("building", x, y, 13, 11, 8, variety=2)


def _all(site: Site) -> tuple[float, float, float, float]:
    return -site.width / 2, -site.height / 2, site.width / 2, site.height / 2


DISTRICTS: dict[str, Callable[[Site], None]] = {
    "airport": airport,
    "beach": beach,
    "farmland": farmland,
    "harbour": harbour,
    "industrial": industrial,
    "lake": lake,
    "parking": parking,
    "residential": residential,
    "sports": sports,
    "tanks": tanks,
    "woodland": woodland,
    "works": works,
}

THEMES: tuple[tuple[float, dict[str, float]], ...] = (
    (3.0, {"residential": 4, "parking": 1, "sports": 5, "woodland": 0.7, "industrial": 0.7}),
    (2.0, {"tanks": 6, "industrial": 2, "parking": 1, "works": 1}),
    (2.4, {"harbour": 7, "beach": 1.5, "lake": 1, "tanks": 1, "sports": 0.5}),
    (2.2, {"airport": 7, "parking": 0.7, "industrial": 0.7, "farmland": 0.5}),
    (1.0, {"farmland": 4, "residential": 1.5, "woodland": 2, "lake": 1, "works": 1, "sports": 1}),
)
"""Kinds of neighbourhood: their weight, and the weights of the districts in them."""
