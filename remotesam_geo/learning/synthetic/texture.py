"""Seamless noise that is sampled where it lies on the plane, so that pictures of one place agree."""

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["GRAIN", "UNIT", "cloud", "grain", "sample"]

GRAIN = 1024
"""Pixels a side of the table of white noise, so the largest picture that is painted in one piece."""

# Cells a side and metres a cell of the two textures, and how they lie. Cells are small, so that reading the nearest
# one is smooth enough: it costs a quarter of interpolating.
NEAR, NEAR_CELL, NEAR_TURN = 1024, 0.15, 0.35
FAR, FAR_CELL, FAR_TURN = 2048, 0.53, 1.1
CLOUD_CELL = 2.0

UNIT = 36.0
"""Steps of the byte textures that make one standard deviation; 128 is zero."""


def _noise_octave(dice: np.random.Generator, side: int, cells: int, stretch: int = 1) -> NDArray[np.float32]:
    """Seamless smooth noise, side x side, of zero mean and unit deviation, with that many cells a side."""
    rows, cols = cells, max(1, cells // stretch)
    coarse = dice.standard_normal((rows, cols)).astype(np.float32)
    wrapped = np.pad(coarse, 4, mode="wrap")
    fx, fy = side // cols, side // rows
    fine = cv2.resize(wrapped, None, fx=fx, fy=fy, interpolation=cv2.INTER_CUBIC)
    fine = fine[4 * fy : 4 * fy + side, 4 * fx : 4 * fx + side]
    return np.asarray((fine - fine.mean()) / fine.std(), np.float32)


@functools.cache
def _texture_library() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Two byte textures of three channels: (speckle, clumps, streaks) and three coarse ones."""
    dice = np.random.default_rng(20261120)

    def near(*octaves: tuple[float, int], stretch: int = 1) -> NDArray[np.uint8]:
        return _texture_bytes(sum(a * _noise_octave(dice, NEAR, n, stretch) for a, n in octaves))

    def far() -> NDArray[np.uint8]:
        octaves = ((0.7, 16), (0.5, 64), (0.3, 128))
        return _texture_bytes(sum(a * _noise_octave(dice, FAR, n) for a, n in octaves))

    speckle = near((0.6, 512), (0.8, 256))
    clumps = near((0.6, 128), (0.5, 64), (0.6, 32))
    streaks = near((0.7, 256), (0.7, 128), stretch=8)
    return np.stack([speckle, clumps, streaks], -1), np.stack([far(), far(), far()], -1)


def _texture_bytes(texture: NDArray[np.float32] | float) -> NDArray[np.uint8]:
    return np.clip(np.rint(128 + UNIT * texture), 0, 255).astype(np.uint8)


@functools.cache
def _sensor_grain() -> NDArray[np.float32]:
    dice = np.random.default_rng(20261121)
    return dice.standard_normal((GRAIN, GRAIN, 3), np.float32)


def sample(to_plane: NDArray[np.float64], shape: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Noise at the pixels, H x W x 3 each: (speckle, clumps, streaks) and three coarse ones.

    Args:
        to_plane: 2 x 3, from pixels (x right, y down, edges at integers) to metres.
        shape: Height and width.
    """
    near, far = _texture_library()
    return (
        _read_texture(near, to_plane, shape, NEAR_CELL, NEAR_TURN),
        _read_texture(far, to_plane, shape, FAR_CELL, FAR_TURN),
    )


def _read_texture(
    texture: NDArray[np.uint8],
    to_plane: NDArray[np.float64],
    shape: tuple[int, int],
    cell: float,
    turn: float,
    *,
    flags: int = cv2.INTER_NEAREST,
) -> NDArray[np.uint8]:
    c, s = np.cos(turn) / cell, np.sin(turn) / cell
    to_cells = np.array([(c, -s), (s, c)]) @ to_plane
    # cv2 counts from pixel centres and reads far coordinates coarsely: wrap the offset first.
    to_cells[:, 2] = (to_cells[:, 2] + to_cells[:, :2] @ (0.5, 0.5)) % len(texture)
    return np.asarray(
        cv2.warpAffine(
            texture,
            to_cells,
            shape[::-1],
            flags=flags | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_WRAP,
        ),
        np.uint8,
    )


@functools.cache
def _cloud_level(share: float) -> float:
    """What the texture exceeds on that share of the plane."""
    return float(np.quantile(_texture_library()[1][..., 0], 1 - share))


def cloud(
    to_plane: NDArray[np.float64],
    shape: tuple[int, int],
    *,
    share: float,
    key: int,
    offset: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.float32]:
    """H x W, 0 to 1: how much of the ground clouds hide; above 0 on that share of the plane.

    Args:
        to_plane: 2 x 3, from pixels to metres.
        shape: Height and width.
        share: Of the plane that has clouds.
        key: Which clouds.
        offset: Metres to look aside, for their shadows.
    """
    moved = to_plane.copy()
    moved[:, 2] += offset
    side = FAR * CLOUD_CELL
    moved[:, 2] += ((key % 65536) / 65536 * side, (key // 65536 % 65536) / 65536 * side)
    read = _read_texture(_texture_library()[1], moved, shape, CLOUD_CELL, 0.0, flags=cv2.INTER_LINEAR)
    values = read[..., 0].astype(np.float32)
    thick = (values - np.float32(_cloud_level(share))) / np.float32(0.8 * UNIT)
    return np.asarray(np.clip(thick, 0, 1), np.float32)


def grain(key: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """H x W x 3 white noise of unit deviation, at most GRAIN a side; a place in a table, so that it costs nothing."""
    height, width = shape
    row = key % (GRAIN - height + 1)
    column = (key >> 20) % (GRAIN - width + 1)
    return _sensor_grain()[row : row + height, column : column + width]
