"""Seamless noise that is sampled where it lies on the plane, so that pictures of one place agree."""

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["sample"]

SIDE = 512


def _octave(dice: np.random.Generator, cells: int, stretch: int = 1) -> NDArray[np.float32]:
    """SIDE x SIDE smooth noise of zero mean and unit deviation with that many cells a side."""
    rows, cols = cells, max(1, cells // stretch)
    coarse = dice.standard_normal((rows, cols)).astype(np.float32)
    wrapped = np.pad(coarse, 4, mode="wrap")
    fx, fy = SIDE // cols, SIDE // rows
    fine = cv2.resize(wrapped, None, fx=fx, fy=fy, interpolation=cv2.INTER_CUBIC)
    fine = fine[4 * fy : 4 * fy + SIDE, 4 * fx : 4 * fx + SIDE]
    return np.asarray((fine - fine.mean()) / fine.std(), np.float32)


@functools.cache
def _library() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two SIDE x SIDE x 3 textures: (speckle, clumps, streaks) and (coarse, coarse, coarse)."""
    dice = np.random.default_rng(20261120)
    speckle = _octave(dice, 512) * 0.6 + _octave(dice, 256) * 0.8
    clumps = _octave(dice, 128) * 0.7 + _octave(dice, 64) * 0.5 + _octave(dice, 32) * 0.5
    streaks = _octave(dice, 256, 8) * 0.7 + _octave(dice, 128, 8) * 0.7
    near = np.stack([speckle, clumps, streaks], -1)
    far = np.stack(
        [
            _octave(dice, 16) * 0.7 + _octave(dice, 64) * 0.5 + _octave(dice, 128) * 0.3
            for _ in range(3)
        ],
        -1,
    )
    return near, far


def sample(to_plane: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float32]:
    """H x W x 6 noise: speckle, clumps, streaks and three coarse ones, each of about unit deviation.

    Args:
        to_plane: 2 x 3, from pixel centres (column, row counted from 0.5) to metres.
        shape: Height and width.
    """
    near, far = _library()
    layers = []
    for texture, cell, turn in ((near, 0.3, 0.35), (far, 2.1, 1.1)):
        c, s = np.cos(turn) / cell, np.sin(turn) / cell
        to_cells = np.array([(c, -s), (s, c)]) @ to_plane
        # cv2 counts pixels from their centres and reads far coordinates coarsely: wrap the offset first.
        to_cells[:, 2] = (to_cells[:, 2] + to_cells[:, :2] @ (0.5, 0.5)) % SIDE
        layers.append(
            cv2.warpAffine(
                texture, to_cells, shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_WRAP,
            )
        )  # fmt: skip
    return np.concatenate(layers, -1)
