"""Painting: things and ground to pixels, labels and land cover."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from remotesam_geo.learning.world.kinds import CLASSES, LANDCOVER
from remotesam_geo.learning.world.rasterize import fill
from remotesam_geo.learning.world.sensors import Light
from remotesam_geo.learning.world.shapes import shapes
from remotesam_geo.learning.world.site import Ground, Thing
from remotesam_geo.learning.world.texture import sample

__all__ = ["Outlines", "ToPixels", "landcover", "outlines", "paint"]

FINE = 2  # subpixels a side that flat colours are painted at
BITS = 4  # binary places of cv2's coordinates
MARGIN = 6  # pixels round the picture that the blur may draw on

ToPixels = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From metres on the plane (N x 2) to pixels (N x 2, x right, y down, edges at integers)."""

# Relative amplitude of (speckle, clumps, streaks, coarse) per land cover, and for objects.
_GAINS = np.zeros((16, 4), np.float32)
_GAINS[LANDCOVER["field"]] = (0.05, 0.07, 0.05, 0.07)
_GAINS[LANDCOVER["grass"]] = (0.06, 0.10, 0.0, 0.10)
_GAINS[LANDCOVER["bare soil"]] = (0.06, 0.09, 0.03, 0.10)
_GAINS[LANDCOVER["water"]] = (0.03, 0.03, 0.08, 0.08)
_GAINS[LANDCOVER["sand"]] = (0.04, 0.03, 0.04, 0.05)
_GAINS[LANDCOVER["built-up"]] = (0.035, 0.03, 0.0, 0.06)
_GAINS[LANDCOVER["road"]] = (0.04, 0.02, 0.03, 0.05)
_OBJECT, _TREE, _POOL, _LAWN = 8, 9, 10, 11
_GAINS[_OBJECT] = (0.03, 0.02, 0.0, 0.03)
_GAINS[_TREE] = (0.16, 0.10, 0.0, 0.06)
_GAINS[_POOL] = (0.03, 0.03, 0.02, 0.02)
_GAINS[_LAWN] = (0.05, 0.05, 0.0, 0.05)
_MATERIAL = {"tree": _TREE, "swimming pool": _POOL, "sports field": _LAWN}


class Outlines(NamedTuple):
    """The outlines of some things one after another, as `fill` takes them."""

    vertices: NDArray[np.float64]
    sizes: NDArray[np.int64]


def _placed(things: Sequence[Thing], arrays: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The unit coordinates of each thing on the plane, all in one array."""
    counts = [len(a) for a in arrays]
    unit = np.concatenate(arrays)
    rows = np.array(
        [(math.cos(t.angle), math.sin(t.angle), t.length, t.width, t.x, t.y) for t in things]
    )
    cos, sin, length, width, x, y = np.repeat(rows, counts, axis=0).T
    along, across = unit[:, 0] * length, unit[:, 1] * width
    return np.stack([x + along * cos - across * sin, y + along * sin + across * cos], -1)


def outlines(things: Sequence[Thing]) -> Outlines:
    """The outlines on the plane, in metres."""
    arrays = [shapes(t.kind)[t.variety].outline for t in things]
    if not arrays:
        return Outlines(np.zeros((0, 2)), np.zeros(0, np.int64))
    return Outlines(_placed(things, arrays), np.array([len(a) for a in arrays]))


def landcover(
    ground: Sequence[Ground], to_pixels: ToPixels, shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """The code of the last patch that holds each pixel's centre."""
    out = np.full(shape, LANDCOVER["grass"], np.uint8)
    true = [g for g in ground if g.truth]
    if true:
        fill(
            out,
            to_pixels(np.concatenate([g.points for g in true])),
            np.array([len(g.points) for g in true]),
            np.arange(len(true)),
            np.array([g.cover for g in true], np.uint8),
        )
    return out


def _split(points: NDArray[np.float64], sizes: NDArray[np.int64]) -> list[NDArray[np.int32]]:
    """Polygons in cv2's fixed point, on the fine canvas with its margin."""
    fixed = np.rint(((points + MARGIN) * FINE - 0.5) * (1 << BITS)).astype(np.int32)
    return np.split(fixed, np.cumsum(sizes)[:-1])


def _canvas(
    things: Sequence[Thing],
    ground: Sequence[Ground],
    to_pixels: ToPixels,
    shape: tuple[int, int],
    light: Light,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Flat colours (fine), shadow or not (fine), material (pixels), all with their margin."""
    height, width = shape[0] + 2 * MARGIN, shape[1] + 2 * MARGIN
    flat = np.full((height * FINE, width * FINE, 3), (100, 120, 70), np.uint8)
    if ground:
        sizes = np.array([len(g.points) for g in ground])
        pieces = _split(to_pixels(np.concatenate([g.points for g in ground])), sizes)
        for patch, piece in zip(ground, pieces, strict=True):
            cv2.fillPoly(flat, [piece], patch.rgb, cv2.LINE_8, BITS)
    raised = np.zeros(flat.shape[:2], np.uint8)
    shadow = np.zeros(flat.shape[:2], np.uint8)
    material = np.zeros((height, width), np.uint8)
    if not things:
        return flat, raised < shadow, material
    things = sorted(things, key=lambda t: t.height)
    made = [shapes(t.kind)[t.variety] for t in things]
    _shadows(things, to_pixels, raised, shadow, material, light)
    painted = _placed(things, [s.vertices for s in made])
    pieces = _split(to_pixels(painted), np.concatenate([s.sizes for s in made]))
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
    return flat, raised < shadow, material


def _shadows(
    things: Sequence[Thing],
    to_pixels: ToPixels,
    raised: NDArray[np.uint8],
    shadow: NDArray[np.uint8],
    material: NDArray[np.uint8],
    light: Light,
) -> None:
    """Height of the topmost thing and of the tallest shadow over each fine pixel, in quarter metres."""
    vertices, sizes = outlines(things)
    heights = np.array([t.height for t in things])
    reach = np.repeat(heights * light.height, sizes)
    away = np.array([-math.cos(light.sun), -math.sin(light.sun)])
    bodies = _split(to_pixels(vertices), sizes)
    casts = _split(to_pixels(vertices + reach[:, None] * away), sizes)
    coarse = _split_coarse(to_pixels(vertices), sizes)
    for thing, body, cast, rough in zip(things, bodies, casts, coarse, strict=True):
        level = min(255, 1 + int(thing.height * 4))
        cv2.fillPoly(raised, [body], level, cv2.LINE_8, BITS)
        cv2.fillPoly(material, [rough], _MATERIAL.get(thing.kind, _OBJECT), cv2.LINE_8, BITS)
        if thing.height < 0.2:
            continue
        if thing.kind == "airplane":  # it stands on its wheels: light passes below the wings
            cv2.fillPoly(shadow, [cast], level, cv2.LINE_8, BITS)
            continue
        hull = cv2.convexHull(np.concatenate([body, cast]))
        cv2.fillConvexPoly(shadow, hull, level, cv2.LINE_8, BITS)


def _split_coarse(points: NDArray[np.float64], sizes: NDArray[np.int64]) -> list[NDArray[np.int32]]:
    fixed = np.rint((points + MARGIN - 0.5) * (1 << BITS)).astype(np.int32)
    return np.split(fixed, np.cumsum(sizes)[:-1])


def paint(
    things: Sequence[Thing],
    ground: Sequence[Ground],
    to_pixels: ToPixels,
    to_plane: NDArray[np.float64],
    shape: tuple[int, int],
    light: Light,
    dice: np.random.Generator,
) -> NDArray[np.uint8]:
    """The picture, H x W x 3: flat colours, texture, shadow, haze, blur and noise.

    Args:
        things: What may show, shadows included.
        ground: Patches of land cover and paint, in order.
        to_pixels: From metres to pixels, for outlines.
        to_plane: 2 x 3, pixels to metres, for texture.
        shape: H, W.
        light: Sun and sensor.
        dice: Source of the noise.
    """
    flat, shaded, material = _canvas(things, ground, to_pixels, shape, light)
    size = (shape[1] + 2 * MARGIN, shape[0] + 2 * MARGIN)
    picture = cv2.resize(flat, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    dark = cv2.resize(shaded.view(np.uint8), size, interpolation=cv2.INTER_LINEAR_EXACT)
    del dark
    lit = cv2.resize(
        np.where(shaded, np.float32(light.shade), np.float32(1)), size, interpolation=cv2.INTER_AREA
    )
    shifted = to_plane.copy()
    shifted[:, 2] -= to_plane[:, :2] @ (MARGIN, MARGIN)
    cover = landcover(ground, lambda p: to_pixels(p) + MARGIN, size[::-1])
    noise = sample(shifted, size[::-1])
    gains = _GAINS[np.where(material > 0, material, cover)]
    texture = 1 + np.einsum("ijk,ijk->ij", noise[..., :4], gains)
    picture *= (texture * lit)[..., None]
    picture[..., 0] *= 1 + 0.4 * gains[..., 3] * noise[..., 4]
    picture[..., 2] *= 1 + 0.4 * gains[..., 3] * noise[..., 5]
    if light.haze:
        veil = np.clip(light.haze * (1 + 0.25 * noise[..., 5]), 0, 0.6)[..., None]
        picture += veil * (np.array([206, 212, 220], np.float32) - picture)
    picture = cv2.GaussianBlur(picture, (7, 7), light.blur)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    picture = np.clip(picture * np.array(light.gains, np.float32), 0, 255)
    if light.gamma != 1:
        picture = 255 * np.power(picture / 255, np.float32(light.gamma))
    grain = dice.standard_normal(picture.shape, np.float32) * np.float32(light.noise)
    return np.clip(np.rint(picture + grain), 0, 255).astype(np.uint8)


def class_index(kind: str) -> int:
    """Position of the class among `CLASSES`."""
    return list(CLASSES).index(kind)
