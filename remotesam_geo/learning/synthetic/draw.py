"""Painting: things and ground to pixels, with the truth of each pixel."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .camera import Light
from .kinds import CLASSES, LANDCOVER
from .rasterize import fill
from .shapes import shapes
from .site import Ground, SiteThing
from .texture import UNIT, cloud, grain, sample

__all__ = ["Drawing", "ToPixels", "cover", "draw", "outlines", "owners", "shown"]

FINE = 2  # subpixels a side that flat colours are painted at
BITS = 4  # binary places of cv2's coordinates
MARGIN = 6  # pixels round the picture that the blur may draw on
SIDESTEP = (0.11, 0.13)  # pixels
FLAT = 0.2  # metres below which nothing casts a shadow
SKY = (206.0, 212.0, 220.0)
CLOUD = (238.0, 239.0, 241.0)
CLOUD_HEIGHT = 120.0  # metres between a cloud and its shadow

ToPixels = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From metres on the plane (N x 2) to pixels (N x 2, x right, y down, edges at integers)."""

Plane = NDArray[Any]  # of float32; cv2's types are wider than what it gives

_OBJECT, _TREE, _POOL, _LAWN = 8, 9, 10, 11
_MATERIAL = {"tree": _TREE, "swimming pool": _POOL, "sports field": _LAWN}

# Relative amplitude of (speckle, clumps, streaks, coarse) by land cover and material.
_AMPLITUDES: dict[int, tuple[float, float, float, float]] = {
    LANDCOVER["field"]: (0.04, 0.05, 0.03, 0.05),
    LANDCOVER["grass"]: (0.05, 0.06, 0.0, 0.07),
    LANDCOVER["bare soil"]: (0.05, 0.05, 0.02, 0.07),
    LANDCOVER["water"]: (0.03, 0.03, 0.06, 0.08),
    LANDCOVER["sand"]: (0.04, 0.03, 0.03, 0.05),
    LANDCOVER["built-up"]: (0.03, 0.02, 0.0, 0.04),
    LANDCOVER["road"]: (0.04, 0.02, 0.02, 0.05),
    _OBJECT: (0.03, 0.02, 0.0, 0.03),
    _TREE: (0.1, 0.06, 0.0, 0.05),
    _POOL: (0.03, 0.03, 0.02, 0.02),
    _LAWN: (0.05, 0.05, 0.0, 0.05),
}


class Drawing(NamedTuple):
    """What `draw` gives."""

    rgb: NDArray[np.uint8]  # H x W x 3
    owner: NDArray[np.int32]  # H x W: 1 + the index of the object among the things, 0 where none
    landcover: NDArray[np.uint8]  # H x W


class _Frame(NamedTuple):
    """The canvas: the picture with its margin."""

    to_pixels: ToPixels  # with the margin added
    height: int
    width: int

    def fixed(self, pixels: NDArray[np.float64], sizes: NDArray[np.int64]) -> list[NDArray[np.int32]]:
        """Polygons in cv2's fixed point on the fine canvas."""
        points = np.rint((pixels * FINE - 0.5) * (1 << BITS)).astype(np.int32)
        ends = np.cumsum(sizes).tolist()
        return [points[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]

    def meets(self, pixels: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the polygons may show, by their bounds."""
        starts = np.cumsum(sizes) - sizes
        low = np.minimum.reduceat(pixels, starts)
        high = np.maximum.reduceat(pixels, starts)
        inside = (low < (self.width, self.height)) & (high > 0)
        return np.asarray(inside.all(1))


@functools.cache
def _material_gains() -> NDArray[np.float32]:
    """5 x 256, by material: factors of the four textures' bytes, and what makes their mean 1."""
    table = np.zeros((5, 256), np.float32)
    for code, amplitudes in _AMPLITUDES.items():
        table[:4, code] = np.array(amplitudes) / UNIT
    table[4] = 1 - 128 * table[:4].sum(0)
    return table


def _haze_by_byte(haze: float) -> NDArray[np.float32]:
    """Share of haze by byte of the texture that it follows."""
    drift = (np.arange(256) - 128) / UNIT
    return np.clip(haze * (1 + 0.25 * drift), 0, 0.6).astype(np.float32)


def _placed_corners(
    things: Sequence[SiteThing], arrays: list[NDArray[np.float64]], counts: list[int]
) -> NDArray[np.float64]:
    """The unit coordinates of each thing on the plane, all in one array."""
    unit = np.concatenate(arrays)
    pose = [(math.cos(t.angle), math.sin(t.angle), t.length, t.width, t.x, t.y) for t in things]
    cos, sin, length, width, x, y = np.repeat(np.array(pose), counts, axis=0).T
    along, across = unit[:, 0] * length, unit[:, 1] * width
    return np.stack([x + along * cos - across * sin, y + along * sin + across * cos], -1)


def outlines(things: Sequence[SiteThing]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The outlines on the plane one after another (N x 2, metres), and the vertices of each."""
    if not things:
        return np.zeros((0, 2)), np.zeros(0, np.int64)
    arrays = [shapes(t.kind)[t.variety].outline for t in things]
    counts = [len(a) for a in arrays]
    return _placed_corners(things, arrays, counts), np.array(counts)


def shown(
    things: Sequence[SiteThing],
    to_pixels: ToPixels,
    shape: tuple[int, int],
    *,
    reach: float,
    finest: float,
) -> list[SiteThing]:
    """Those that may show in a picture; objects last, so that they lie over clutter.

    Args:
        things: All there are.
        to_pixels: From metres to pixels.
        shape: H, W.
        reach: Metres that a shadow may fall off its thing.
        finest: Metres that make a pixel in the direction where it takes least.
    """
    if not things:
        return []
    half = np.array([math.hypot(t.length, t.width) / 2 for t in things])
    at = to_pixels(np.array([(t.x, t.y) for t in things]))
    spare = (half[:, None] + reach) / finest
    height, width = shape
    near = ((at > -spare) & (at - spare < (width, height))).all(1)
    return sorted((things[k] for k in np.flatnonzero(near).tolist()), key=lambda t: t.kind in CLASSES)


def owners(things: Sequence[SiteThing], to_pixels: ToPixels, shape: tuple[int, int]) -> NDArray[np.int32]:
    """H x W: 1 + the index of the thing that holds each pixel's centre, 0 where none."""
    vertices, sizes = outlines(things)
    return _owner_of_pixels(to_pixels(vertices), sizes, shape)


def _owner_of_pixels(
    pixels: NDArray[np.float64], sizes: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.int32]:
    owner = np.zeros(shape, np.int32)
    numbers = np.arange(1, len(sizes) + 1, dtype=np.int32)
    fill(owner, pixels, sizes, np.arange(len(sizes)), numbers)
    return owner


def cover(ground: Sequence[Ground], to_pixels: ToPixels, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """H x W: the code of the last patch that holds each pixel's centre."""
    true = [g for g in ground if g.truth]
    return _cover_codes(true, to_pixels(np.concatenate([g.points for g in true])), shape)


def _cover_codes(true: Sequence[Ground], pixels: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.uint8]:
    codes = np.zeros(shape, np.uint8)
    sizes = np.concatenate([g.sizes for g in true])
    patches = np.repeat(np.arange(len(true)), [len(g.sizes) for g in true])
    values = np.array([g.cover for g in true], np.uint8)
    fill(codes, pixels, sizes, patches, values)
    slits = codes == 0
    if slits.any():
        # Neighbours' sides are straight between different points and leave slits of millimetres
        # where the projection bends them: look a little beside the centre.
        beside = np.zeros(shape, np.uint8)
        fill(beside, pixels + SIDESTEP, sizes, patches, values)
        np.copyto(codes, beside, where=slits)
    return codes


def draw(
    things: Sequence[SiteThing],
    ground: Sequence[Ground],
    *,
    to_pixels: ToPixels,
    to_plane: NDArray[np.float64],
    shape: tuple[int, int],
    light: Light,
    noise: int,
) -> Drawing:
    """The picture and the truth of its pixels.

    Args:
        things: What may show, shadows included, as `shown` orders them.
        ground: Patches of land cover and paint, in order.
        to_pixels: From metres to pixels, for outlines.
        to_plane: 2 x 3, from pixels to metres, for texture.
        shape: H, W.
        light: Sun and sensor.
        noise: Key of the noise.
    """
    frame = _Frame(lambda points: to_pixels(points) + MARGIN, shape[0] + 2 * MARGIN, shape[1] + 2 * MARGIN)
    flat = np.zeros((frame.height * FINE, frame.width * FINE, 3), np.uint8)
    codes = _paint_ground(flat, ground, frame)
    owner = np.zeros(codes.shape, np.int32)
    material, shade = codes, None
    if things:
        vertices, sizes = outlines(things)
        owner = _owner_of_pixels(frame.to_pixels(vertices), sizes, codes.shape)
        kinds = np.array([0] + [_MATERIAL.get(t.kind, _OBJECT) for t in things], np.uint8)
        material = kinds.take(owner)
        np.copyto(material, codes, where=material == 0)
        shade = _shadow_canvas(things, frame, vertices, sizes, light)
        _paint_things(flat, sorted(things, key=lambda t: t.height), frame, light)
        clutter = sum(t.kind not in CLASSES for t in things)  # it comes first
        owner[owner <= clutter] = 0
    shifted = to_plane.copy()
    shifted[:, 2] -= to_plane[:, :2] @ (MARGIN, MARGIN)
    rgb = _exposed_picture(flat, shade, material, shifted, light)
    inner = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    grainy = cv2.scaleAdd(grain(noise, shape), light.noise, rgb[inner].astype(np.float32))
    return Drawing(
        np.asarray(cv2.convertScaleAbs(np.maximum(grainy, 0, out=grainy)), np.uint8),
        np.ascontiguousarray(owner[inner]),
        np.ascontiguousarray(codes[inner]),
    )


def _paint_ground(flat: NDArray[np.uint8], ground: Sequence[Ground], frame: _Frame) -> NDArray[np.uint8]:
    """Paint the ground, and return the code of the last patch that holds each pixel's centre."""
    counts = np.array([len(g.points) for g in ground])
    pixels = frame.to_pixels(np.concatenate([g.points for g in ground]))
    shown = frame.meets(pixels, counts)
    pixels = pixels[np.repeat(shown, counts)]
    patches = [g for g, some in zip(ground, shown.tolist(), strict=True) if some]
    rings = frame.fixed(pixels, np.concatenate([g.sizes for g in patches]))
    first = 0
    for patch in patches:
        last = first + len(patch.sizes)
        cv2.fillPoly(flat, rings[first:last], patch.rgb, cv2.LINE_8, BITS)
        first = last
    true = np.array([g.truth for g in patches])
    kept = np.repeat(true, counts[shown])
    return _cover_codes([g for g in patches if g.truth], pixels[kept], (frame.height, frame.width))


def _shadow_canvas(
    things: Sequence[SiteThing],
    frame: _Frame,
    vertices: NDArray[np.float64],
    sizes: NDArray[np.int64],
    light: Light,
) -> NDArray[np.uint8]:
    """Where shadow falls, 255 on the fine canvas: where one is taller than what it falls on."""
    raised = np.zeros((frame.height * FINE, frame.width * FINE), np.uint8)
    shadow = np.zeros_like(raised)
    heights = np.array([t.height for t in things])
    away = np.array([-math.cos(light.sun), -math.sin(light.sun)])
    reach = np.repeat(heights * light.slant, sizes)[:, None] * away
    bodies = frame.fixed(frame.to_pixels(vertices), sizes)
    casts = frame.fixed(frame.to_pixels(vertices + reach), sizes)
    order = np.argsort(heights, kind="stable").tolist()
    for k in order:
        thing = things[k]
        if thing.height < FLAT:
            continue
        level = min(255, 1 + int(thing.height * 4))
        cv2.fillPoly(raised, [bodies[k]], level, cv2.LINE_8, BITS)
        if thing.kind in ("airplane", "harbor"):  # light passes below wings; piers are no hulls
            cv2.fillPoly(shadow, [casts[k]], level, cv2.LINE_8, BITS)
        else:
            hull = cv2.convexHull(np.concatenate([bodies[k], casts[k]]))
            cv2.fillConvexPoly(shadow, hull, level, cv2.LINE_8, BITS)
    return np.asarray(cv2.compare(shadow, raised, cv2.CMP_GT), np.uint8)


def _paint_things(flat: NDArray[np.uint8], things: Sequence[SiteThing], frame: _Frame, light: Light) -> None:
    """Paint the things in the order given."""
    made = [shapes(t.kind)[t.variety] for t in things]
    placed = _placed_corners(things, [s.vertices for s in made], [len(s.vertices) for s in made])
    pieces = frame.fixed(frame.to_pixels(placed), np.concatenate([s.sizes for s in made]))
    counts = [len(s.sizes) for s in made]
    own = np.repeat(np.array([t.rgb for t in things]), counts, axis=0)
    angle = np.repeat([t.angle for t in things], counts)
    colours = np.concatenate([s.colours for s in made])
    slopes = np.concatenate([s.slopes for s in made])
    factors = np.concatenate([s.factors for s in made])
    lit = np.where(np.isnan(slopes), 1.0, 1 + 0.22 * np.cos(slopes + angle - light.sun))
    colours = np.clip(np.where(np.isnan(colours), own, colours) * (factors * lit)[:, None], 0, 255)
    for piece, colour in zip(pieces, colours.tolist(), strict=True):
        cv2.fillPoly(flat, [piece], colour, cv2.LINE_8, BITS)


def _exposed_picture(
    flat: NDArray[np.uint8],
    shade: NDArray[np.uint8] | None,
    material: NDArray[np.uint8],
    to_plane: NDArray[np.float64],
    light: Light,
) -> NDArray[np.uint8]:
    """Flat colours to a picture without noise: texture, shadow, haze, blur, response."""
    height, width = material.shape
    near, far = sample(to_plane, (height, width))
    bands = [*cv2.split(near), *cv2.split(far)]
    tables = _material_gains()
    level: Plane = cv2.LUT(material, tables[4])
    for k in range(4):
        level += cv2.multiply(cv2.LUT(material, tables[k]), bands[k], dtype=cv2.CV_32F)
    if shade is not None:
        dark = cv2.resize(shade, (width, height), interpolation=cv2.INTER_AREA)
        level *= 1 - np.float32((1 - light.shade) / 255) * dark
    veil: Plane = cv2.LUT(bands[5], _haze_by_byte(light.haze))
    level *= 1 - veil
    clouds = functools.partial(cloud, to_plane, material.shape, share=light.clouds, key=light.cloud_key)
    if light.clouds:
        towards = (CLOUD_HEIGHT * math.cos(light.sun), CLOUD_HEIGHT * math.sin(light.sun))
        level *= 1 - np.float32(0.5) * clouds(offset=towards)
    hue = cv2.LUT(material, np.float32(0.4) * tables[3])
    drift = np.arange(256, dtype=np.float32) - 128
    red = level + level * hue * cv2.LUT(bands[4], drift)
    blue = level + level * hue * cv2.LUT(bands[5], drift)
    small = cv2.resize(flat, (width, height), interpolation=cv2.INTER_AREA)
    picture: Plane = cv2.multiply(small, cv2.merge([red, level, blue]), dtype=cv2.CV_32F)
    picture += cv2.merge([veil * np.float32(c) for c in SKY])
    np.maximum(picture, 0, out=picture)
    if light.clouds:
        picture += clouds()[..., None] * (np.array(CLOUD, np.float32) - picture)
    blurred = cv2.GaussianBlur(cv2.convertScaleAbs(picture), (7, 7), light.blur)
    response = np.arange(256, dtype=np.float64)[:, None] * light.gains / 255
    table = np.clip(np.rint(255 * np.clip(response, 0, 1) ** light.gamma), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(blurred, table.reshape(1, 256, 3)), np.uint8)
