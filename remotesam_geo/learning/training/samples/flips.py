"""Mirrored and turned pictures, with expressions that stay true; where that is not sure, the picture stays."""

import re
from collections import Counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.words import view_words

__all__ = ["WAYS", "Way", "flipped", "moved"]

Way = Literal["as it is", "left-right", "top-bottom", "half turn", "quarter turn", "mirrored quarter turn"]
WAYS: tuple[Way, ...] = (
    "as it is", "left-right", "top-bottom", "half turn", "quarter turn", "mirrored quarter turn",
)  # fmt: skip

# Stems and what they become; endings ("leftmost", "upper-left", "northern") stay.
SIDEWAYS = {"left": "right", "right": "left", "east": "west", "west": "east"}
UPRIGHT = {
    "top": "bottom", "bottom": "top", "upper": "lower", "lower": "upper", "uppermost": "lowermost",
    "lowermost": "uppermost", "north": "south", "south": "north",
}  # fmt: skip
RELATIVE = {
    "above": "below",
    "below": "above",
}  # of the picture where a rule said it; else perhaps of the ground
_STEM = re.compile(
    r"\b(?P<first>north|south|left|right|uppermost|lowermost|upper|lower|top|bottom|east|west|above|below)"
    r"(?P<second>east|west)?(?P<end>ern(?:most)?|most|wards?)?\b",
    re.IGNORECASE,
)
# What changes its sense in a mirror, or cannot be told: nothing with these words is moved.
_FIXED = re.compile(
    r"\b(?:(?:counter-?|anti-?)?clockwise|up(?:wards?|side)?|down(?:wards?)?|facing|pointing|heading|letters?|numbers?"
    r"|digits?|words?|text|sign|shadows?|sun(?:lit|ny)?|mirror(?:ed)?|rotated|turned|diagonal(?:ly)?|over|under"
    r"|horizontal(?:ly)?|vertical(?:ly)?)\b",
    re.IGNORECASE,
)
_COMPASS = ("north", "south", "east", "west")


def flipped(expression: str, way: Way, *, relation: bool = False) -> str | None:
    """The expression that is true of the moved picture, if it was true before; None where that is not sure.

    Args:
        expression: What is true of the picture.
        way: How the picture is moved.
        relation: Whether "above" and "below" are surely meant of the picture.

    Examples:
        >>> from remotesam_geo.learning.training.samples.flips import flipped
        >>> flipped("the ship in the top left corner", "left-right")
        'the ship in the top right corner'
        >>> flipped("the northeastern field", "top-bottom"), flipped("the left turn lane", "left-right")
        ('the southeastern field', None)
        >>> flipped("the largest red ship", "quarter turn"), flipped("the leftmost ship", "quarter turn")
        ('the largest red ship', None)
    """
    if way == "as it is":
        return expression
    found = list(_STEM.finditer(expression))
    if _FIXED.search(expression):
        return None
    if not found:
        return expression
    if "quarter" in way or not _of_the_view(expression, found, relation):
        return None
    table: dict[str, str] = {}
    if way in ("left-right", "half turn"):
        table |= SIDEWAYS
    if way in ("top-bottom", "half turn"):
        table |= UPRIGHT | RELATIVE
    return _STEM.sub(lambda match: _swapped_word(match, table), expression)


def moved(array: NDArray[np.uint8], way: Way) -> NDArray[np.uint8]:
    """A picture (H x W x 3) or a mask (H x W), moved."""
    if way == "left-right":
        array = array[:, ::-1]
    elif way == "top-bottom":
        array = array[::-1]
    elif way == "half turn":
        array = array[::-1, ::-1]
    elif way == "quarter turn":
        array = np.rot90(array)
    elif way == "mirrored quarter turn":
        array = array.swapaxes(0, 1)
    return np.ascontiguousarray(array)


def _of_the_view(expression: str, found: list[re.Match[str]], relation: bool) -> bool:
    """Whether each direction is one of the picture: not a flat top, a right of way, a plane above the clouds."""
    sure: Counter[str] = Counter()
    for words in view_words(expression):
        sure.update(match[0].lower() for match in _STEM.finditer(words))
    for match in found:
        word = match[0].lower()
        if word.startswith(_COMPASS) or (relation and word in RELATIVE):
            continue
        if not sure[word]:
            return False
        sure[word] -= 1
    return True


def _swapped_word(match: re.Match[str], table: dict[str, str]) -> str:
    first, second, end = match["first"], match["second"] or "", match["end"] or ""
    new = table.get(first.lower(), first.lower())
    second = table.get(second.lower(), second.lower())
    word = f"{new}{second}{end.lower()}"
    return word.capitalize() if first[0].isupper() else word
