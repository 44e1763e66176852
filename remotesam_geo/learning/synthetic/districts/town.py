"""Where people live and play: houses, parked vehicles, sports."""

import math

from remotesam_geo.learning.synthetic.site import Site

from .pieces import ASPHALT, WHITE, tree, trees, vehicle

__all__ = ["parking", "residential", "sports"]


def residential(site: Site) -> None:
    """Houses in lots with drives, trees and pools; terraces where they touch."""
    dice = site.dice
    site.lay("grass", *site.bounds)
    deep = dice.uniform(24, 32)
    rows = max(1, int(site.height // deep))
    for row in range(rows):
        y0 = -site.height / 2 + row * site.height / rows
        s = site.part(-site.width / 2, y0, site.width / 2, y0 + site.height / rows)
        if row % 2:  # backs face backs
            s = s.inner(0, 0, s.width, s.height, turn=math.pi)
        if dice.random() < 0.08:
            _place_terrace(s)
        else:
            _place_houses(s)


def _place_terrace(s: Site) -> None:
    dice = s.dice
    w, h = s.width / 2, s.height / 2
    unit, deep = dice.uniform(6, 8), dice.uniform(9, 12)
    n = int((2 * w - 6) // unit)
    colour = dice.choice(("", "red", "grey", "brown"))
    s.lay("built-up", -w + 1, -h + 1, w - 1, -h + 7)
    for i in range(n):
        x = (i - (n - 1) / 2) * unit
        s.put("building", x, -h + 8 + deep / 2, unit, deep, height=6.5, colour=colour, variety=0)
        if dice.random() < 0.5:
            vehicle(s, x, -h + 4, math.pi / 2, 5.2)
        if dice.random() < 0.4 and 2 * h - deep - 10.5 > unit:
            tree(s, x, h - 2 - unit / 2 * 0.9, unit * 0.85)


def _place_houses(s: Site) -> None:
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
        s.put(
            "building",
            hx,
            hy,
            length,
            width,
            height=dice.uniform(4, 7),
            angle=tilt,
            variety=variety,
        )
        drive = x0 + lot - 2.6
        s.lay("built-up", drive - 1.7, -h + 0.5, drive + 1.7, -h + 12)
        if dice.random() < 0.8:
            vehicle(s, drive, -h + dice.uniform(4, 8.5), math.pi / 2, 5.3)
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
            s.put("swimming pool", px, py, a, b, variety=dice.randrange(3))
            left = px + a / 2 + 1.5
        elif pool < 0.54 and room > 5:
            s.pond("water", left + 3, back + room / 2, 2.8, 2.0)
            left += 6.5
        elif pool < 0.62 and room > 5:
            a = dice.uniform(3, 6)  # a trampoline, a tarpaulin: not a pool
            shape = dice.choice(("disc", "slab"))
            s.put(
                shape,
                left + a / 2,
                back + 2.2,
                a,
                3.6 if shape == "slab" else a * 0.6 + 1.4,
                height=0.6,
            )
            left += a + 1
        trees(s, left, back, x0 + lot - 0.5, h - 0.5, pitch=dice.uniform(5, 6.6), share=0.8)


def parking(site: Site) -> None:
    """Rows of vehicles side by side between lines."""
    dice = site.dice
    site.lay("built-up", *site.bounds, rgb=dice.choice(ASPHALT))
    s = site.tilted(dice.choice((0, 0, dice.uniform(-0.6, 0.6))))
    w, h = s.width / 2, s.height / 2
    y = -h + 2
    full = dice.uniform(0.5, 1.0)
    pitch = 2.7 if dice.random() < 0.1 else dice.choice((3.5, 3.8, 4.2))
    bays: list[tuple[float, float, float, float]] = []
    row = 0
    while y + 6 < h - 1:
        for k in range(int((2 * w - 6) // pitch)):
            x = -w + 3 + pitch * (k + 0.5)
            if k % 9 == 8:
                if dice.random() < 0.5:
                    tree(s, x, y + 2.7, pitch, 2.2)
                continue
            bays.append((x - pitch / 2, y, x - pitch / 2, y + 5.4))
            if dice.random() < full:
                vehicle(s, x, y + 2.7 + dice.uniform(-0.1, 0.1), math.pi / 2, 5.0)
        row += 1
        y += 6.8 if row % 2 else 5.5 + dice.uniform(6, 7.5)
    s.lines(bays, 0.16, WHITE)


def sports(site: Site) -> None:
    """Sports fields and tennis courts, some side by side, a clubhouse, a pool, trees."""
    dice = site.dice
    site.lay(dice.choice(("grass", "grass", "bare soil", "built-up")), *site.bounds)
    s = site.tilted(dice.choice((0, 0, dice.uniform(-0.5, 0.5))))
    w, h = s.width / 2, s.height / 2
    y = -h + 2
    while y + 16 < h:
        x = -w + 2
        kind = dice.random()
        deep = min(dice.uniform(28, 44) if kind < 0.5 else 28.0, h - y - 1)
        while x + 13 < w:
            room = w - x
            pick = dice.random()
            if kind < 0.5 and pick < 0.6 and room > 34 and deep > 20:
                _place_sports_field(s, x, y, min(dice.uniform(40, 64), room), deep)
                x += min(64.0, room)
            elif pick < 0.62 and deep > 26:
                x += _place_tennis_courts(s, x, y, min(room, 60), deep)
            elif pick < 0.74 and deep > 12:
                a, b = min(dice.uniform(15, 25), room - 2), min(dice.uniform(8, 12.5), deep - 4)
                s.lay("built-up", x, y, x + a + 4, y + b + 4)
                s.put("swimming pool", x + a / 2 + 2, y + b / 2 + 2, a, b, variety=3)
                x += a + 6
            elif pick < 0.82 and room > 14:
                a, b = min(dice.uniform(12, 20), room - 1), min(dice.uniform(9, 13), deep)
                s.put("building", x + a / 2, y + b / 2, a, b, height=5)
                x += a + 3
            elif pick < 0.9 and room > 24:
                # Painted ground without a game on it.
                s.lay(
                    "built-up",
                    x,
                    y,
                    x + 20,
                    y + min(deep, 12),
                    rgb=dice.choice(((82, 132, 66), (60, 104, 160), (164, 84, 62))),
                    truth=False,
                )
                x += 22
            else:
                step = min(dice.uniform(8, 18), room)
                trees(s, x, y, x + step, y + deep, pitch=dice.uniform(5, 6.6), share=0.8)
                x += step
        y += deep + dice.uniform(2, 6)


def _place_sports_field(s: Site, x: float, y: float, length: float, deep: float) -> None:
    dice = s.dice
    margin = dice.uniform(1, 3)
    if dice.random() < 0.3:
        side = min(length, deep) - 2 * margin
        turn = dice.choice((0, math.pi / 2, math.pi))
        s.put(
            "sports field",
            x + length / 2,
            y + deep / 2,
            side,
            side,
            angle=turn,
            colour="green",
            variety=2,
        )
        return
    a = length - 2 * margin
    b = min(deep - 2 * margin, a * 0.7)
    s.put("sports field", x + length / 2, y + deep / 2, a, b, variety=dice.randrange(2))


def _place_tennis_courts(s: Site, x: float, y: float, room: float, deep: float) -> float:
    """Tennis courts side by side on one painted ground; returns the width used."""
    dice = s.dice
    pitch = 11.2 if dice.random() < 0.1 else dice.choice((13.0, 14.0, 15.0))
    n = min(int((room - 3) // pitch), dice.randrange(1, 5))
    if n < 1:
        return 4.0
    used = n * pitch + 3
    s.lay(
        "built-up",
        x,
        y,
        x + used,
        y + min(deep, 27.5),
        rgb=dice.choice(((70, 112, 78), (64, 96, 140), (150, 92, 70), (120, 120, 118))),
    )
    colour = dice.choice(("", "green", "blue", "red"))
    for k in range(n):
        if dice.random() < 0.93:
            s.put(
                "tennis court",
                x + 1.5 + pitch * (k + 0.5),
                y + min(deep, 27.5) / 2,
                23.8,
                11,
                angle=math.pi / 2,
                colour=colour,
            )
    return used + 1
