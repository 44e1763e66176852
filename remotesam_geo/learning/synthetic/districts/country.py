"""Where little stands: fields and woods."""

import math

from remotesam_geo.learning.synthetic.site import Site

from .pieces import trees, vehicle

__all__ = ["farmland", "woodland"]


def farmland(site: Site) -> None:
    """Fields with rows, orchards, hedges, a barn, bales and ponds."""
    dice = site.dice
    site.lay("field", *site.bounds)
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
        if dice.random() < 0.3 and x1 - x0 > 12:
            trees(s, x0 + 2, -h + 1, x1 - 2, h - 1, pitch=dice.uniform(5.4, 6.6), share=0.94)
            continue  # an orchard
        middle = (x0 + x1) / 2
        pick = dice.random()
        if pick < 0.2:
            s.pond("water", middle, 0, min((x1 - x0) * 0.3, 14), min(h * 0.5, 10))
        elif pick < 0.45:
            for j in range(int(2 * h // 12)):
                if dice.random() < 0.5:
                    s.put(
                        "disc",
                        middle + dice.uniform(-3, 3),
                        -h + 8 + 12 * j,
                        1.8,
                        1.8,
                        height=1.4,
                        rgb=(196, 174, 110),
                    )
        elif pick < 0.65:
            vehicle(s, middle, dice.uniform(-h * 0.5, h * 0.5), math.pi / 2, 7)
        elif pick < 0.85 and x1 - x0 > 24:
            s.lay("bare soil", middle - 11, -h + 2, middle + 11, -h + 24)
            s.put(
                "building",
                middle,
                -h + 9,
                dice.uniform(13, 19),
                dice.uniform(8, 11),
                height=6,
                variety=0,
            )
            vehicle(s, middle - 5, -h + 19, dice.uniform(0, 3), 7)
        if dice.random() < 0.4:
            trees(s, x0 + 0.5, -h + 26, x0 + 6, h - 2, pitch=5.5, share=0.8)


def woodland(site: Site) -> None:
    """Trees in a crowd, a glade, a pond, a track."""
    dice = site.dice
    site.lay("grass", *site.bounds)
    w, h = site.width / 2, site.height / 2
    track = dice.uniform(-h * 0.4, h * 0.4)
    site.lay("bare soil", -w, track - 1.6, w, track + 1.6)
    pitch, share, dense = dice.uniform(5, 9), dice.uniform(0.35, 0.95), dice.random() < 0.3
    trees(site, -w + 1, track + 2.5, w - 1, h - 1, pitch=pitch, share=share, dense=dense)
    middle = dice.uniform(-w * 0.3, w * 0.5)
    room = track - 2.5 + h - 1
    trees(site, -w + 1, -h + 1, middle - 10, track - 2.5, pitch=pitch, share=share, dense=dense)
    if room > 12 and dice.random() < 0.6:
        site.pond("water", middle, -h + 1 + room / 2, 9, room * 0.4)
    trees(
        site,
        middle + 10,
        -h + 1,
        w - 1,
        track - 2.5,
        pitch=pitch,
        share=dice.uniform(0.2, 0.9),
        dense=dense,
    )
    if dice.random() < 0.5:
        vehicle(site, dice.uniform(-w * 0.7, w * 0.7), track, 0, 5.5)
