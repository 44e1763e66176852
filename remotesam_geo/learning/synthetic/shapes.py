"""The outlines of things and how they are painted, in a frame of their own.

A shape lives in the unit square: x along its length, y across its width, both from -0.5 to 0.5. It has one outline
(the truth) and painted parts, each a polygon with a colour (None: the thing's own), a factor of brightness, and the
direction it slopes to, if it is not level: slopes that face the sun are brighter.
"""

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .chance import chance

__all__ = ["Shape", "shapes"]

Points = Sequence[tuple[float, float]]
Colour = tuple[int, int, int]

LEVEL = math.nan
DARK: Colour = (52, 54, 58)
PALE: Colour = (212, 212, 208)


@dataclass(frozen=True, kw_only=True, eq=False)
class Shape:
    """One shape, its parts laid one after another for drawing many at once."""

    outline: NDArray[np.float64]  # N x 2
    vertices: NDArray[np.float64]  # M x 2: those of all parts
    sizes: NDArray[np.int64]  # P: vertices of each part
    colours: NDArray[np.float64]  # P x 3, NaN where the part has the thing's own colour
    factors: NDArray[np.float64]  # P
    slopes: NDArray[np.float64]  # P: radians in the shape's frame, NaN where level


class _Painter:
    """Collects the parts of one shape in the order they are painted."""

    def __init__(self, outline: Points) -> None:
        self.outline = outline
        self.parts: list[tuple[Points, Colour | None, float, float]] = []

    def part(
        self,
        points: Points,
        colour: Colour | None = None,
        factor: float = 1.0,
        slope: float = LEVEL,
    ) -> "_Painter":
        self.parts.append((points, colour, factor, slope))
        return self

    def lines(self, strokes: Iterable[tuple[float, float, float, float]], colour: Colour) -> "_Painter":
        for x0, y0, x1, y1 in strokes:
            self.part(_box_outline(x0, y0, x1, y1), colour)
        return self

    def done(self) -> Shape:
        return Shape(
            outline=np.array(self.outline, np.float64),
            vertices=np.array([p for points, *_ in self.parts for p in points], np.float64),
            sizes=np.array([len(points) for points, *_ in self.parts]),
            colours=np.array([c or (math.nan,) * 3 for _, c, _, _ in self.parts], np.float64),
            factors=np.array([f for _, _, f, _ in self.parts], np.float64),
            slopes=np.array([s for *_, s in self.parts], np.float64),
        )


def _box_outline(x0: float, y0: float, x1: float, y1: float) -> Points:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def _whole_shape(outline: Points, factor: float = 1.0) -> _Painter:
    return _Painter(outline).part(outline, None, factor)


def _mirrored_outline(half: Points) -> Points:
    """A closed outline from its upper half, listed from nose to tail."""
    return [*half, *[(x, -y) for x, y in reversed(half) if y > 0]]


def _ring_outline(n: int, rx: float = 0.5, ry: float | None = None, cx: float = 0, cy: float = 0) -> Points:
    ry = rx if ry is None else ry
    turns = [2 * math.pi * k / n for k in range(n)]
    return [(cx + rx * math.cos(t), cy + ry * math.sin(t)) for t in turns]


def _scaled_outline(points: Points, factor: float, dx: float = 0, dy: float = 0) -> Points:
    return [(x * factor + dx, y * factor + dy) for x, y in points]


def _cone_sectors(painter: _Painter, outline: Points, step: int, factor: float = 1.0) -> _Painter:
    """Facets from the outline to the middle, as on a cone."""
    n = len(outline)
    for k in range(0, n, step):
        edge = [outline[(k + j) % n] for j in range(step + 1)]
        mx, my = sum(x for x, _ in edge), sum(y for _, y in edge)
        painter.part([(0.0, 0.0), *edge], None, factor, math.atan2(my, mx))
    return painter


def _airplane_shape(half: Points, fuselage: float, engines: Points, tail: float) -> Shape:
    painter = _whole_shape(_mirrored_outline(half), 0.93)
    painter.part(
        _mirrored_outline([(0.5, 0), (0.45, fuselage * 0.7), (-0.3, fuselage * 0.8), (-0.5, 0)]),
        None,
        1.1,
    )
    for x, y in engines:
        for side in (y, -y):
            painter.part(_box_outline(x, side - 0.018, x + 0.075, side + 0.018), DARK)
    painter.part([(0.455, 0.02), (0.425, 0.025), (0.425, -0.025), (0.455, -0.02)], DARK)
    return painter.part(_box_outline(-0.49, -0.012, -0.49 + tail, 0.012), DARK).done()


def _airplane_shapes() -> list[Shape]:
    jet: Points = [
        (0.5, 0), (0.47, 0.03), (0.4, 0.05), (0.14, 0.055), (-0.13, 0.5), (-0.21, 0.5), (-0.07, 0.055), (-0.32, 0.045),
        (-0.45, 0.19), (-0.5, 0.19), (-0.46, 0.03), (-0.5, 0),
    ]  # fmt: skip
    heavy: Points = [
        (0.5, 0), (0.48, 0.035), (0.42, 0.055), (0.2, 0.06), (0.0, 0.3), (-0.12, 0.5), (-0.17, 0.5), (-0.12, 0.3),
        (-0.02, 0.06), (-0.33, 0.05), (-0.44, 0.17), (-0.49, 0.17), (-0.46, 0.03), (-0.5, 0),
    ]  # fmt: skip
    light: Points = [
        (0.5, 0), (0.48, 0.04), (0.24, 0.06), (0.24, 0.5), (0.07, 0.5), (0.06, 0.06), (-0.36, 0.025), (-0.37, 0.17),
        (-0.48, 0.17), (-0.5, 0),
    ]  # fmt: skip
    delta: Points = [
        (0.5, 0), (0.36, 0.05), (0.14, 0.08), (-0.3, 0.5), (-0.38, 0.5), (-0.36, 0.12), (-0.5, 0.16), (-0.47, 0),
    ]  # fmt: skip
    return [
        _airplane_shape(jet, 0.05, [(0.0, 0.2)], 0.13),
        _airplane_shape(heavy, 0.055, [(0.06, 0.18), (-0.06, 0.33)], 0.14),
        _airplane_shape(light, 0.05, [], 0.1),
        _airplane_shape(delta, 0.06, [], 0.16),
    ]


def _ship_shapes() -> list[Shape]:
    hull = _mirrored_outline([(0.5, 0), (0.42, 0.22), (0.3, 0.42), (0.18, 0.5), (-0.46, 0.5), (-0.5, 0.4)])
    blunt = _mirrored_outline([(0.5, 0.3), (0.44, 0.5), (-0.44, 0.5), (-0.5, 0.3)])
    slim = _mirrored_outline([(0.5, 0), (0.36, 0.24), (0.14, 0.44), (-0.12, 0.5), (-0.42, 0.4), (-0.5, 0.26)])
    cargo = _whole_shape(hull, 0.82).part(_scaled_outline(hull, 0.93), None, 1.05)
    for k in range(4):
        cargo.part(
            _box_outline(-0.2 + 0.13 * k, -0.34, -0.1 + 0.13 * k, 0.34),
            None,
            0.72 if k % 2 else 0.86,
        )
    cargo.part(_box_outline(-0.44, -0.4, -0.28, 0.4), PALE).part(_box_outline(-0.31, -0.3, -0.28, 0.3), DARK)
    boxes = _whole_shape(hull, 0.85)
    load: tuple[Colour, ...] = ((150, 62, 52), (62, 98, 150), (196, 172, 92), (170, 172, 172))
    for k in range(5):
        for j in range(3):
            x, y = -0.24 + 0.115 * k, -0.36 + 0.25 * j
            boxes.part(_box_outline(x, y, x + 0.1, y + 0.22), load[(k * 2 + j * 3) % 4])
    boxes.part(_box_outline(-0.45, -0.4, -0.3, 0.4), PALE)
    motor = _whole_shape(slim, 0.95).part(_scaled_outline(slim, 0.72, -0.05), None, 1.12)
    motor.part([(0.12, -0.24), (0.2, 0), (0.12, 0.24), (0.02, 0.27), (0.02, -0.27)], DARK)
    motor.part(_box_outline(-0.3, -0.2, 0.0, 0.2), PALE)
    sail = (
        _whole_shape(slim, 0.95)
        .part(_box_outline(-0.34, -0.07, 0.1, 0.07), PALE)
        .part(_box_outline(-0.02, -0.38, 0.02, 0.38), DARK)
    )
    barge = _whole_shape(blunt, 0.8).part(_box_outline(-0.36, -0.36, 0.4, 0.36), (96, 84, 72), 1.0)
    barge.part(_box_outline(-0.47, -0.3, -0.39, 0.3), PALE)
    return [cargo.done(), boxes.done(), motor.done(), sail.done(), barge.done()]


def _tank_shapes() -> list[Shape]:
    circle = _ring_outline(32)
    cone = _cone_sectors(_whole_shape(circle), circle, 4)
    cone.part(_ring_outline(10, 0.05), None, 0.7)
    floating = _whole_shape(circle, 1.12).part(_ring_outline(28, 0.43, cx=0.012, cy=0.012), None, 0.6)
    floating.part(_ring_outline(28, 0.41), None, 0.9).part(_box_outline(-0.02, 0.0, 0.02, 0.42), None, 0.62)
    dome = _whole_shape(circle, 0.9)
    for k, radius in enumerate((0.42, 0.32, 0.2, 0.08)):
        dome.part(_ring_outline(24, radius), None, 0.98 + 0.06 * k)
    dome.part(_box_outline(0.05, -0.02, 0.5, 0.02), None, 0.72)
    return [cone.done(), floating.done(), dome.done()]


def _building_shapes() -> list[Shape]:
    box = _box_outline(-0.5, -0.5, 0.5, 0.5)
    north, south, east, west = math.pi / 2, -math.pi / 2, 0.0, math.pi
    gable = _Painter(box)
    gable.part(_box_outline(-0.5, -0.5, 0.5, 0), None, 1, south).part(_box_outline(-0.5, 0, 0.5, 0.5), None, 1, north)
    gable.part(_box_outline(-0.5, -0.015, 0.5, 0.015), None, 1.12).part(_box_outline(0.2, 0.08, 0.28, 0.2), DARK)
    hip = _Painter(box)
    hip.part([(-0.5, -0.5), (0.5, -0.5), (0.22, 0), (-0.22, 0)], None, 1, south)
    hip.part([(-0.5, 0.5), (0.5, 0.5), (0.22, 0), (-0.22, 0)], None, 1, north)
    hip.part([(0.5, -0.5), (0.5, 0.5), (0.22, 0)], None, 1, east)
    hip.part([(-0.5, -0.5), (-0.5, 0.5), (-0.22, 0)], None, 1, west)
    flat = _whole_shape(box, 1.13).part(_scaled_outline(box, 0.93), None, 0.94)
    for x, y, w, h in (
        (-0.3, -0.25, 0.12, 0.16),
        (0.1, 0.12, 0.1, 0.14),
        (0.26, -0.28, 0.08, 0.12),
    ):
        flat.part(_box_outline(x, y - 0.03, x + w, y), DARK).part(_box_outline(x, y, x + w, y + h), (198, 198, 194))
    angled: Points = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.0), (0.05, 0.0), (0.05, 0.5), (-0.5, 0.5)]
    wing = _whole_shape(angled, 1.12).part(
        [(-0.47, -0.46), (0.47, -0.46), (0.47, -0.04), (0.02, -0.04), (0.02, 0.46), (-0.47, 0.46)],
        None,
        0.92,
    )
    wing.part(_box_outline(-0.36, -0.3, -0.2, -0.16), (190, 190, 188)).part(_box_outline(0.2, -0.3, 0.34, -0.2), DARK)
    shed = _Painter(box)
    for k in range(6):
        x = -0.5 + k / 6
        shed.part(_box_outline(x, -0.5, x + 1 / 12, 0.5), None, 1, west)
        shed.part(_box_outline(x + 1 / 12, -0.5, x + 1 / 6, 0.5), None, 1, east)
    crossed: Points = [
        (-0.5, -0.2), (-0.2, -0.2), (-0.2, -0.5), (0.2, -0.5), (0.2, -0.2), (0.5, -0.2), (0.5, 0.2), (0.2, 0.2),
        (0.2, 0.5), (-0.2, 0.5), (-0.2, 0.2), (-0.5, 0.2),
    ]  # fmt: skip
    cross = _whole_shape(crossed, 1.0)
    cross.part(_box_outline(-0.5, -0.2, 0.5, 0), None, 1, south).part(_box_outline(-0.5, 0, 0.5, 0.2), None, 1, north)
    cross.part([(-0.2, -0.5), (0, -0.5), (0, 0.5), (-0.2, 0.5)], None, 1, west)
    cross.part([(0, -0.5), (0.2, -0.5), (0.2, 0.5), (0, 0.5)], None, 1, east)
    return [gable.done(), hip.done(), flat.done(), wing.done(), shed.done(), cross.done()]


def _court_shapes() -> list[Shape]:
    """Lines in proportion to a court of 23.8 x 11 m."""
    t, u, white = 0.004, 0.009, (238, 238, 236)
    strokes = [
        (-0.5, -0.5, 0.5, -0.5 + 2 * u),
        (-0.5, 0.5 - 2 * u, 0.5, 0.5),
        (-0.5, -0.5, -0.5 + 2 * t, 0.5),
        (0.5 - 2 * t, -0.5, 0.5, 0.5),
        (-0.5, -0.375 - u, 0.5, -0.375 + u),
        (-0.5, 0.375 - u, 0.5, 0.375 + u),
        (-0.27 - t, -0.375, -0.27 + t, 0.375),
        (0.27 - t, -0.375, 0.27 + t, 0.375),
        (-0.27, -u, 0.27, u),
    ]
    court = _whole_shape(_box_outline(-0.5, -0.5, 0.5, 0.5)).lines(strokes, white)
    return [court.part(_box_outline(-t, -0.5, t, 0.5), DARK).done()]


def _pool_shapes() -> list[Shape]:
    box = _box_outline(-0.5, -0.5, 0.5, 0.5)
    rounded = [(x * 0.5, math.copysign(abs(y) ** 0.55, y) * 0.5) for x, y in _ring_outline(20, 1.0)]
    kidney = [
        (
            0.5 * math.cos(t),
            0.5 * math.sin(t) - (0.22 * math.exp(-((math.cos(t) / 0.45) ** 2)) if math.sin(t) > 0 else 0),
        )
        for t in (2 * math.pi * k / 24 for k in range(24))
    ]
    lanes = _whole_shape(box).part(_scaled_outline(box, 0.94), None, 1.06)
    for k in range(1, 5):
        lanes.part(_box_outline(-0.48, -0.5 + k / 5 - 0.012, 0.48, -0.5 + k / 5 + 0.012), None, 0.78)
    plain = _whole_shape(box, 0.88).part(_box_outline(-0.44, -0.42, 0.44, 0.42), None, 1.05)
    plain.part(_box_outline(0.32, -0.42, 0.44, 0.42), None, 1.2)
    return [
        plain.done(),
        _whole_shape(rounded, 0.88).part(_scaled_outline(rounded, 0.86), None, 1.06).done(),
        _whole_shape(kidney, 0.88).part(_scaled_outline(kidney, 0.84, 0, -0.01), None, 1.06).done(),
        lanes.done(),
    ]


def _vehicle_shapes() -> list[Shape]:
    body = _mirrored_outline([(0.5, 0.36), (0.44, 0.5), (-0.46, 0.5), (-0.5, 0.4)])
    car = _whole_shape(body, 0.95)
    car.part([(0.2, -0.42), (0.1, -0.4), (0.1, 0.4), (0.2, 0.42)], DARK)
    car.part(_box_outline(-0.22, -0.4, 0.1, 0.4), None, 1.12).part(_box_outline(-0.36, -0.38, -0.26, 0.38), DARK)
    van = (
        _whole_shape(body, 0.96)
        .part(_box_outline(0.24, -0.42, 0.34, 0.42), DARK)
        .part(_box_outline(-0.46, -0.42, 0.22, 0.42), None, 1.1)
    )
    truck = _whole_shape(_box_outline(-0.5, -0.5, 0.5, 0.5), 0.9)
    truck.part(_box_outline(0.27, -0.5, 0.31, 0.5), DARK).part(_box_outline(0.42, -0.42, 0.46, 0.42), DARK)
    truck.part(_box_outline(-0.48, -0.44, 0.26, 0.44), None, 1.1)
    bus = _whole_shape(body, 0.95).part(_box_outline(0.44, -0.44, 0.48, 0.44), DARK)
    for k in range(3):
        bus.part(_box_outline(-0.36 + 0.26 * k, -0.16, -0.26 + 0.26 * k, 0.16), (205, 206, 206))
    return [car.done(), van.done(), truck.done(), bus.done()]


def _tree_shapes() -> list[Shape]:
    made = []
    for variety in range(8):
        dice = chance(variety, 77)
        outline = [(x * r * 2, y * r * 2) for (x, y), r in ((p, dice.uniform(0.44, 0.5)) for p in _ring_outline(14))]
        tree = _cone_sectors(_whole_shape(outline, 0.86), outline, 2, 0.95)
        for _ in range(5):
            a, r = dice.uniform(0, 2 * math.pi), dice.uniform(0.08, 0.28)
            lobe = _ring_outline(7, dice.uniform(0.08, 0.14), cx=r * math.cos(a), cy=r * math.sin(a))
            tree.part(lobe, None, dice.choice((0.8, 1.12, 1.22)))
        made.append(tree.done())
    return made


def _field_shapes() -> list[Shape]:
    """Football pitches with stripes and lines, and a baseball field."""
    box, white = _box_outline(-0.5, -0.5, 0.5, 0.5), (236, 238, 234)
    t, u = 0.005, 0.008
    made = []
    for stripes in (0, 8):
        pitch = _whole_shape(box)
        for k in range(stripes):
            pitch.part(
                _box_outline(-0.5 + k / stripes, -0.5, -0.5 + (k + 1) / stripes, 0.5),
                None,
                1.07 if k % 2 else 0.95,
            )
        frame = [
            (-0.47, -0.46, 0.47, -0.46 + 2 * u), (-0.47, 0.46 - 2 * u, 0.47, 0.46), (-0.47, -0.46, -0.47 + 2 * t, 0.46),
            (0.47 - 2 * t, -0.46, 0.47, 0.46), (-t, -0.46, t, 0.46),
        ]  # fmt: skip
        for side in (-1, 1):
            inner = side * 0.33
            frame += [(inner - t, -0.25, inner + t, 0.25)]
            for y in (-0.25, 0.25):
                frame.append((min(inner, side * 0.47), y - u, max(inner, side * 0.47), y + u))
        pitch.lines(frame, white)
        outer, inner_ring = _ring_outline(20, 0.095, 0.15), _ring_outline(20, 0.085, 0.134)
        for k in range(20):
            n = (k + 1) % 20
            pitch.part([outer[k], outer[n], inner_ring[n], inner_ring[k]], white)
        made.append(pitch.done())
    fan = [(-0.5, -0.5), (0.5, -0.5)] + [
        (-0.5 + math.cos(t), -0.5 + math.sin(t)) for t in (math.pi / 2 * k / 10 for k in range(1, 10))
    ] + [(-0.5, 0.5)]  # fmt: skip
    clay = (172, 128, 88)
    ball = _whole_shape(fan).part([(-0.5, -0.5), (-0.02, -0.5), (0.0, -0.18), (-0.18, 0.0), (-0.5, -0.02)], clay)
    ball.part(_box_outline(-0.4, -0.4, -0.14, -0.14), None, 1.02).part(
        _ring_outline(10, 0.03, cx=-0.27, cy=-0.27), clay
    )
    made.append(ball.done())
    return made


def _harbor_shapes() -> list[Shape]:
    """Piers: straight, with fingers, and T-shaped."""
    box = _box_outline(-0.5, -0.5, 0.5, 0.5)
    straight = _whole_shape(box, 0.95)
    for k in range(12):
        straight.part(_box_outline(-0.49 + k / 12, -0.42, -0.48 + k / 12, 0.42), None, 0.72)
    comb: list[tuple[float, float]] = [(-0.5, -0.07)]
    for k in range(4):
        x = -0.32 + 0.25 * k
        comb += [(x, -0.07), (x, -0.5), (x + 0.06, -0.5), (x + 0.06, -0.07)]
    comb += [(0.5, -0.07)]
    fingers = _whole_shape([*comb, *[(x, -y) for x, y in reversed(comb)]], 0.97)
    for k in range(12):
        fingers.part(_box_outline(-0.49 + k / 12, -0.06, -0.48 + k / 12, 0.06), None, 0.74)
    stem: Points = [
        (-0.5, -0.12), (0.3, -0.12), (0.3, -0.5), (0.5, -0.5), (0.5, 0.5), (0.3, 0.5), (0.3, 0.12), (-0.5, 0.12),
    ]  # fmt: skip
    tee = _whole_shape(stem, 0.95).part(_box_outline(0.33, -0.44, 0.47, 0.44), None, 1.1)
    return [straight.done(), fingers.done(), tee.done()]


def _clutter_shapes() -> dict[str, list[Shape]]:
    """Look-alikes that belong to no class."""
    box = _box_outline(-0.5, -0.5, 0.5, 0.5)
    container = _whole_shape(box, 0.95)
    for k in range(6):
        container.part(_box_outline(-0.5 + k / 6, -0.5, -0.47 + k / 6, 0.5), None, 0.8)
    panel = _whole_shape(box, 1.0).lines(
        [
            (-0.5, -0.02, 0.5, 0.02),
            *((-0.5 + k / 8, -0.5, -0.49 + k / 8, 0.5) for k in range(1, 8)),
        ],
        PALE,
    )
    disc = _whole_shape(_ring_outline(28)).part(_ring_outline(24, 0.42), None, 1.08)
    marking = _box_outline(-0.5, -0.06, 0.5, 0.06)
    cross = _Painter(box).part(marking).part([(y, x) for x, y in marking])
    blob = [(x * f, y * f) for (x, y), f in zip(_ring_outline(18), (1, 0.9, 0.82, 0.88, 0.97, 1) * 3, strict=True)]
    return {
        "slab": [_whole_shape(box).done()],
        "container": [container.done()],
        "panel": [panel.done()],
        "disc": [disc.done()],
        "mark": [cross.done()],
        "blob": [_whole_shape(blob).done()],
    }


@functools.cache
def shapes(name: str) -> tuple[Shape, ...]:
    """The varieties of one class or kind of clutter.

    Examples:
        >>> len(shapes("airplane"))
        4
    """
    return tuple(_all_shapes()[name])


@functools.cache
def _all_shapes() -> dict[str, list[Shape]]:
    return {
        "airplane": _airplane_shapes(),
        "building": _building_shapes(),
        "harbor": _harbor_shapes(),
        "ship": _ship_shapes(),
        "sports field": _field_shapes(),
        "storage tank": _tank_shapes(),
        "swimming pool": _pool_shapes(),
        "tennis court": _court_shapes(),
        "tree": _tree_shapes(),
        "vehicle": _vehicle_shapes(),
        **_clutter_shapes(),
    }
