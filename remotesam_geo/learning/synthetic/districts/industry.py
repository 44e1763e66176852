"""Where goods are made, stored and flown: halls, tanks, aprons, building sites."""

import math

from remotesam_geo.learning.synthetic.site import Site

from .pieces import ASPHALT, WHITE, YELLOW, vehicle

__all__ = ["airport", "industrial", "tanks", "works"]


def airport(site: Site) -> None:
    """An apron with airplanes in stands, a terminal, service vehicles, taxi lines."""
    dice = site.dice
    site.lay("grass", *site.bounds)
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
        s.put("building", 0, top - depth / 2, width, depth, height=9, variety=dice.choice((2, 4)))
        top -= depth + 6
    y = top
    while True:
        fitting = [m for m in (13.0, 16.0, 20.0, 25.0, 31.0) if m * 1.15 < (y + h - 4) * 0.9]
        if not fitting:
            break
        span = dice.choice(fitting) * dice.uniform(0.92, 1.08)
        pitch = span * dice.choice((1.08, 1.16, 1.3))
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
                length = size * (dice.uniform(0.8, 0.92) if variety == 2 else dice.uniform(0.95, 1.05))
                heading = math.pi / 2 + dice.choice((0, 0, math.pi)) + dice.uniform(-0.05, 0.05)
                s.put(
                    "airplane",
                    x,
                    middle,
                    length,
                    size,
                    height=4 + size * 0.1,
                    angle=heading,
                    variety=variety,
                )
            elif pick < 0.9:
                s.put(
                    "mark",
                    x,
                    middle,
                    span * 0.7,
                    span * 0.7,
                    rgb=dice.choice((WHITE, YELLOW)),
                )
            else:
                vehicle(s, x, middle, dice.uniform(0, 3.14), 12)
        s.lines(leads, 0.4, YELLOW)
        y -= span * 1.15 + dice.choice((2.0, 5.0, 10.0))
    strip = y + h - 4
    if strip > 7:
        x = -w + 10
        while x < w - 10:
            if dice.random() < 0.5:
                vehicle(s, x, y - strip / 2, 0, 12)
            x += dice.uniform(14, 20)


def tanks(site: Site) -> None:
    """Storage tanks in bunds, with pipes, pump houses and round pads without a tank."""
    dice = site.dice
    site.lay(dice.choice(("bare soil", "grass", "built-up")), *site.bounds)
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
                s.lay("built-up", x - half, y + d / 2 - half, x + half, y + d / 2 + half, truth=False)
            if pick < 0.84:
                dd = d * (1.0 if bund < d * 1.1 else dice.uniform(0.8, 1.0))
                s.put(
                    "storage tank",
                    x,
                    y + d / 2,
                    dd,
                    dd,
                    height=dice.uniform(5, 6 + d / 3),
                    angle=dice.uniform(0, 6.28),
                    colour=same,
                )
            elif pick < 0.92:
                s.put("disc", x, y + d / 2, d * 0.9, d * 0.9, rgb=dice.choice(ASPHALT))
            elif d > 9 and pick < 0.96:
                s.put("building", x, y + d / 2, d * 0.8, d * 0.55, height=4)
            else:
                vehicle(s, x, y + d / 2, dice.uniform(0, 3), 6.9)
        y += max(d, bund) + dice.choice((3.0, 6.0, 10.0))


def industrial(site: Site) -> None:
    """Large halls with lots for lorries, containers and panels."""
    dice = site.dice
    site.lay("built-up", *site.bounds)
    s = site.tilted(dice.choice((0, 0, dice.uniform(-0.3, 0.3))))
    w, h = s.width / 2, s.height / 2
    y = -h + 3
    while y + 18 < h:
        deep = min(dice.uniform(16, 30), h - y - 2)
        x = -w + 3
        while x + 14 < w:
            length = min(dice.uniform(14, 48), w - x - 2)
            pick = dice.random()
            if pick < 0.68:
                variety = dice.choice((2, 2, 4, 3, 0))
                s.put(
                    "building",
                    x + length / 2,
                    y + deep / 2,
                    length,
                    deep - 1,
                    height=dice.uniform(6, 12),
                    variety=variety,
                )
            elif pick < 0.84:
                _place_yard(s, x, y, length)
            elif pick < 0.9:
                for k in range(int(deep // 5)):
                    s.put(
                        "panel",
                        x + length / 2,
                        y + 2.5 + 5 * k,
                        length - 2,
                        3,
                        height=1.2,
                        rgb=(40, 56, 92),
                    )
            else:
                s.put(
                    "slab",
                    x + length / 2,
                    y + deep / 2,
                    length - 2,
                    deep - 3,
                    rgb=dice.choice(((176, 174, 168), (150, 100, 84), (118, 118, 120))),
                )
            x += length + (0.0 if dice.random() < 0.1 else dice.uniform(2.5, 8))
        y += deep
        aisle = min(dice.uniform(7, 11), h - y)
        if aisle > 6:
            x = -w + 8
            while x < w - 8:
                if dice.random() < 0.5:
                    vehicle(s, x, y + aisle / 2, 0, 14)
                x += dice.uniform(15, 24)
        y += aisle


def _place_yard(s: Site, x: float, y: float, length: float) -> None:
    dice = s.dice
    lorries = dice.random() < 0.7
    pitch = 3.6 if lorries else 2.7
    for k in range(int((length - 2) // pitch)):
        if dice.random() < 0.75:
            cx = x + 1 + pitch * (k + 0.5)
            if lorries:
                size = dice.uniform(8, 13)
                s.put(
                    "vehicle",
                    cx,
                    y + 1 + size / 2,
                    size,
                    2.7,
                    height=3.4,
                    angle=math.pi / 2,
                    variety=2,
                )
            else:
                s.put(
                    "container",
                    cx,
                    y + 7,
                    12.2 if dice.random() < 0.5 else 6.1,
                    2.44,
                    height=2.6,
                    angle=math.pi / 2,
                )


def works(site: Site) -> None:
    """Bare ground under construction: heaps, pipes, machines, a frame without a roof."""
    dice = site.dice
    site.lay("bare soil", *site.bounds)
    s = site.tilted(dice.uniform(-0.4, 0.4))
    w, h = s.width / 2, s.height / 2
    for _ in range(4):
        s.pond(
            dice.choice(("bare soil", "sand")),
            dice.uniform(-w * 0.6, w * 0.6),
            dice.uniform(-h * 0.6, h * 0.6),
            w * 0.3,
            h * 0.25,
        )
    nx, ny = int(2 * w // 17), int(2 * h // 17)
    for i in range(nx):
        for j in range(ny):
            x, y = -w + (i + 0.5) * 2 * w / nx, -h + (j + 0.5) * 2 * h / ny
            pick = dice.random()
            if pick < 0.25:
                vehicle(s, x, y, dice.uniform(0, 3.14), 13)
            elif pick < 0.4:
                s.put("slab", x, y, 13, 10, rgb=(176, 174, 168))
            elif pick < 0.55:
                s.put(
                    "blob",
                    x,
                    y,
                    dice.uniform(5, 12),
                    dice.uniform(5, 10),
                    height=2.0,
                    rgb=(150, 122, 92),
                )
            elif pick < 0.7:
                for k in range(4):
                    s.put("container", x, y - 5 + 2.7 * k, 6.1, 2.44, height=2.6)
            elif pick < 0.8:
                s.put("building", x, y, 13, 11, height=8, variety=2)
