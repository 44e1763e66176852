"""Where there is water: harbours, lakes, beaches."""

import math

from remotesam_geo.learning.synthetic.site import Site

from .pieces import afloat, ship, trees, vehicle

__all__ = ["beach", "harbour", "lake"]


def harbour(site: Site) -> None:
    """Water before a quay, piers with ships alongside, some abreast and touching."""
    dice = site.dice
    w, h = site.width / 2, site.height / 2
    site.lay("water", -w, -h, w, h)
    quay = dice.uniform(10, 22)
    site.lay("built-up", -w, h - quay, w, h)
    _place_quayside(site, quay)
    _place_piers(site, quay)


def _place_quayside(site: Site, quay: float) -> None:
    """Sheds, containers and vehicles on the quay."""
    dice = site.dice
    w, h = site.width / 2, site.height / 2
    edge = h - quay
    x = -w + dice.uniform(3, 8)
    while x < w - 24:
        pick = dice.random()
        if pick < 0.3:
            length = dice.uniform(14, 22)
            site.put("building", x + length / 2, h - quay / 2, length, quay * 0.6, height=6)
            x += length + 5
        elif pick < 0.6:
            for k in range(dice.randrange(1, 4)):
                for j in range(int((quay - 3) // 2.6)):
                    if dice.random() < 0.8:
                        site.put("container", x + 3.2, edge + 2.8 + 2.6 * j, 6.1, 2.44, height=2.6)
                x += 6.6
                if k == 2:
                    break
            x += 4
        else:
            vehicle(site, x + 5, h - quay / 2, dice.choice((0, 0.5, 1.57)), min(quay - 3, 12))
            x += dice.uniform(11, 18)


def _place_piers(site: Site, quay: float) -> None:
    """Piers of three shapes with what is moored at them, and ships under way where there is room."""
    dice = site.dice
    w, h = site.width / 2, site.height / 2
    edge = h - quay
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
            s.put("harbor", 0, 0, reach, span, height=1.2, angle=-math.pi / 2, variety=1)
            _place_finger_boats(s, reach, span)
            x += span + dice.uniform(3, 8)
            continue
        if dice.random() < 0.16 and x + max(deck * 3, 9) < w:
            s = site.part(x, edge - reach, x + max(deck * 3, 9), edge)
            s.put("harbor", 0, 0, reach, s.width, height=1.2, angle=-math.pi / 2, variety=2)
            x += s.width + dice.uniform(3, 8)
            continue
        site.put("harbor", x + deck / 2, y, reach, deck, height=1.2, angle=-math.pi / 2, variety=0)
        x += deck
        rows = dice.choice((1, 2, 2, 3))
        beam = size * dice.uniform(0.22, 0.3)
        for _ in range(rows):
            gap = dice.choice((0.0, 1.4, 1.7, 2.0, 2.4, 2.8))
            if x + gap + beam + 1 > w:
                break
            bow = dice.uniform(0, 3)
            y = edge - 2 - bow
            while y - size > edge - reach:
                if dice.random() < 0.86:
                    ship(site, x + gap + beam / 2, y - size / 2, size, beam, moored=True)
                y -= size * 1.1 + dice.uniform(0.5, 3)
            x += gap + beam
        x += dice.uniform(3, 10)
    if free:
        afloat(site.part(-w + 6, -h + 4, w - 6, -h + 16))


def _place_finger_boats(s: Site, reach: float, span: float) -> None:
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
                        height=1.6,
                        angle=0 if side > 0 else math.pi,
                        variety=dice.choice((2, 3)),
                    )


def lake(site: Site) -> None:
    """Open water with an island or two and some ships."""
    dice = site.dice
    w, h = site.width / 2, site.height / 2
    site.lay("water", -w, -h, w, h)
    if dice.random() < 0.5:
        rx, ry = w * dice.uniform(0.25, 0.45), h * dice.uniform(0.2, 0.3)
        site.pond("sand", 0, h - ry - 2, rx * 1.3, ry)
        site.pond("grass", 0, h - ry - 2, rx, ry * 0.75)
        trees(site, -rx * 0.5, h - 2 - ry * 1.4, rx * 0.5, h - 2 - ry * 0.6, pitch=7, share=0.5)
    y = -h + 8
    while y < 0:
        afloat(site.part(-w + 4, y - 5, w - 4, y + 5))
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
    trees(site, -w + 1, grass + 1, w - 1, h - 1, pitch=dice.uniform(6, 9), share=0.6)
    x = -w + 5
    while x < w - 10 and grass - shore > 26:
        pick = dice.random()
        y = dice.uniform(shore + 12, grass - 12)
        if pick < 0.25:
            size = dice.uniform(5.5, 8.5)
            ship(site, x + 3, y, size, size * 0.34, moored=False)
        elif pick < 0.6:
            for _ in range(3):
                yy = y + dice.uniform(-6, 6)
                site.put("disc", x + 2.5, yy, 2.6, 2.6, height=2)
        elif pick < 0.68:
            vehicle(site, x + 3, y, dice.uniform(0, 3.14), 7)
        x += dice.uniform(7, 12)
    afloat(site.part(-w + 3, -h + 4, w - 3, shore - 10))
