"""The colour that a thing would be called by, from its pixels; with all it might be called where that is not sure."""

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["PALETTE", "colours_of"]

PALETTE = ("white", "grey", "black", "red", "orange", "yellow", "green", "blue", "purple", "brown")
"""The colours that may be named."""

# Centre of each name's hues in degrees of CIE Lab; brown is orange or yellow, only darker.
HUES = {"red": 32.0, "orange": 62.0, "yellow": 92.0, "green": 142.0, "blue": 280.0, "purple": 325.0}
CLEAR = 14.0  # degrees by which a hue is nearer to its name than to any other
GREY_CHROMA, COLOUR_CHROMA = 9.0, 18.0  # below the one without colour, above the other coloured
BLACK, GREY_LOW, GREY_HIGH, WHITE = 18.0, 42.0, 60.0, 86.0  # lightness: haze and shade shift it
BROWN, BRIGHT = 48.0, 58.0
SAME = 0.6  # share of the pixels that must be of the colour


def colours_of(rgb: NDArray[np.uint8], mask: NDArray[np.bool_]) -> frozenset[str]:
    """The names that the masked part of a picture might be called by; one where that is sure.

    Args:
        rgb: H x W x 3, uint8.
        mask: H x W.

    Returns:
        Names of `PALETTE`; all of them where the thing has many colours or no pixel.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.learning.labelling import colours_of
        >>> roof = np.full((8, 8, 3), (180, 40, 35), np.uint8)
        >>> sorted(colours_of(roof, np.ones((8, 8), bool)))
        ['red']
    """
    inner = _mask_without_rim(mask)
    if not inner.any():
        return frozenset(PALETTE)
    lab = cv2.cvtColor((rgb[inner][None] / 255).astype(np.float32), cv2.COLOR_RGB2LAB)[0]
    middle = np.median(lab, axis=0)
    spread = np.linalg.norm(lab - middle, axis=1)
    if np.mean(spread < 22) < SAME:
        return frozenset(PALETTE)
    return _names_of_lightness(*(float(value) for value in middle))


def _mask_without_rim(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without the rim, whose pixels are half of the ground; all of it where nothing else is left."""
    core = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.bool_)
    return core if core.sum() >= max(9, mask.sum() // 8) else mask


def _names_of_lightness(lightness: float, a: float, b: float) -> frozenset[str]:
    chroma = float(np.hypot(a, b))
    found: set[str] = set()
    if chroma < COLOUR_CHROMA:
        found |= _grey_names(lightness)
    if chroma > GREY_CHROMA:
        found |= _hue_names(lightness, float(np.degrees(np.arctan2(b, a))) % 360)
        if lightness < BLACK:
            found.add("black")
    return frozenset(found)


def _grey_names(lightness: float) -> set[str]:
    bounds = (("black", -1.0, GREY_LOW), ("grey", BLACK, WHITE), ("white", GREY_HIGH, 101.0))
    return {name for name, low, high in bounds if low < lightness < high}


def _hue_names(lightness: float, hue: float) -> set[str]:
    away = {name: min(abs(hue - at), 360 - abs(hue - at)) for name, at in HUES.items()}
    nearest = min(away.values())
    found = {name for name, distance in away.items() if distance < nearest + CLEAR}
    if found & {"orange", "yellow", "red"} and lightness < BRIGHT and hue > HUES["red"] + 8:
        found.add("brown")
        if lightness < BROWN:
            found -= {"orange", "yellow"}
    return found
