"""Sentences about what was found: how many of what, then where. Rules alone: the same objects give the same words."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import instance_of, number_in, one_of
from remotesam_geo.words import plural

from .array_checks import FAR, check_array, check_shape

__all__ = ["caption"]

F64 = NDArray[np.float64]
Cell = tuple[int, int]  # row and column of a region, from the top left

_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_SEVERAL = 20  # eleven to as many are "several", more are "many"

_PLACES = {
    (0, 0): "in the upper left",
    (0, 1): "at the top",
    (0, 2): "in the upper right",
    (1, 0): "on the left",
    (1, 1): "in the centre",
    (1, 2): "on the right",
    (2, 0): "in the lower left",
    (2, 1): "at the bottom",
    (2, 2): "in the lower right",
}
_LINES = {
    "row": ("along the top", "across the middle", "along the bottom"),
    "column": ("along the left side", "down the middle", "along the right side"),
}
_COMPASS_PLACES = {
    (0, 0): "in the north-west",
    (0, 1): "in the north",
    (0, 2): "in the north-east",
    (1, 0): "in the west",
    (1, 1): "in the centre",
    (1, 2): "in the east",
    (2, 0): "in the south-west",
    (2, 1): "in the south",
    (2, 2): "in the south-east",
}
_COMPASS_LINES = {
    "row": ("along the northern side", "across the middle", "along the southern side"),
    "column": ("along the western side", "down the middle", "along the eastern side"),
}

# Written with a vowel but spoken with a consonant first ("a university"), the other way round ("an hour"), and letters
# that are spelt out ("an RV").
_CONSONANT_SOUND = re.compile(r"eu|ewe|one\b|once|ura|usa|use|uti|uni(?![dmn])", re.IGNORECASE)
_VOWEL_SOUND = re.compile(r"[aeiou]|hour|honou?r|honest|heir|8|1[18]\b", re.IGNORECASE)
_SPELT_OUT = re.compile(r"[A-Z][A-Z0-9]*\b")

# Names that are their own plural and yet are counted; what else has no plural is spoken of in areas.
_COUNTED = re.compile(r"(?:craft|works|bison|deer|fish|rhinoceros|series|sheep|species|swine)$", re.IGNORECASE)


def caption(
    objects: Mapping[str, F64],
    shape: tuple[int, int],
    *,
    grid: Literal[2, 3] = 3,
    north: float | None = None,
    subject: str = "picture",
) -> str:
    """Say in English what a picture shows, how many, and where.

    Args:
        objects: For each label the centres x, y of its objects in pixels (n x 2), such as `Detections.centres`.
            Labels are named in this order, those without objects left out.
        shape: Height and width of the picture in pixels.
        grid: Whether places are told apart on 2 x 2 or on 3 x 3 regions.
        north: Where north is, if known, in degrees clockwise from the top: places are then compass directions.
        subject: What the sentence calls the picture.

    Returns:
        A sentence that says what and how many, and one that says where.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import caption
        >>> ships = np.array([[10, 10], [20, 12], [14, 15]])
        >>> caption({"ship": ships, "harbor": np.array([[50, 52]])}, (100, 100))
        'The picture shows three ships and a harbor. The ships are in the upper left and the harbor is in the centre.'
        >>> caption({"ship": np.array([[90, 50]])}, (100, 100), north=0, subject="area")
        'The area shows a ship. It is in the east.'
    """
    one_of("grid", grid, (2, 3))
    check_shape(shape)
    if north is not None:
        number_in("north", north, -FAR, FAR)
    instance_of("subject", subject, str, "a word")
    instance_of("objects", objects, Mapping, "a mapping of labels to centres")
    for label, centres in objects.items():
        instance_of("a label", label, str, "words")
        check_array(f"objects[{label!r}]", centres, "numbers", ("n", 2))
    cells = {
        label: _cells_of_objects(centres, shape, grid, north or 0.0)
        for label, centres in objects.items()
        if len(centres)
    }
    if not cells:
        return f"The {subject} shows nothing of what was asked for."
    amounts = [_amount_words(label, len(where)) for label, where in cells.items()]
    wheres = []
    for label, where in cells.items():
        one = len(where) == 1
        pronoun = "it" if one else "they"
        name = pronoun if len(cells) == 1 else f"the {_noun_for(label, one=one)}"
        wheres.append(f"{name} {'is' if one else 'are'} {_places_words(where, subject, north is not None)}")
    # A list of places within a list of objects needs the stronger mark.
    places = _listed_words(wheres) if not any(" and " in clause for clause in wheres) else "; ".join(wheres)
    return f"The {subject} shows {_listed_words(amounts)}. {places[0].upper()}{places[1:]}."


def _cells_of_objects(centres: F64, shape: tuple[int, int], grid: int, north: float) -> list[Cell]:
    """The region of each object."""
    height, width = shape
    x, y = (
        centres[:, 0] / width * 2 - 1,
        centres[:, 1] / height * 2 - 1,
    )  # -1..1, down and to the right
    turn = np.deg2rad(north)
    across = x * np.cos(turn) + y * np.sin(turn)
    down = y * np.cos(turn) - x * np.sin(turn)
    # Two regions a side are the outer ones of the three.
    middle = 1 / 3 if grid == 3 else 0.0
    row, column = (np.where(at < -middle, 0, np.where(at < middle, 1, 2)) for at in (down, across))
    return list(zip(row.tolist(), column.tolist(), strict=True))


def _places_words(cells: list[Cell], subject: str, compass: bool) -> str:
    """Where the objects of one label are."""
    names, lines = (_COMPASS_PLACES, _COMPASS_LINES) if compass else (_PLACES, _LINES)
    counted = Counter(cells)
    (most, share), *_ = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    if len(counted) <= 2:
        return _listed_words([names[cell] for cell in sorted(counted)])
    rows, columns = {row for row, _ in counted}, {column for _, column in counted}
    if len(rows) == 1:
        return lines["row"][rows.pop()]
    if len(columns) == 1:
        return lines["column"][columns.pop()]
    if 2 * share > len(cells):
        return f"mostly {names[most]}"
    if len(counted) == 3:
        return _listed_words([names[cell] for cell in sorted(counted)])
    return f"spread over the {subject}"


def _amount_words(label: str, n: int) -> str:
    noun = _noun_for(label, one=n == 1)
    if n == 1:
        return f"{_article_of(noun)} {noun}"
    if n <= len(_NUMBERS) + 1:
        return f"{_NUMBERS[n - 2]} {noun}"
    return f"{'several' if n <= _SEVERAL else 'many'} {noun}"


def _noun_for(label: str, *, one: bool) -> str:
    several = plural(label)
    if several == label and not _COUNTED.search(label):
        return f"area of {label}" if one else f"areas of {label}"
    if several.startswith(f"{label} "):  # "water" is counted in "water areas"
        return several.removesuffix("s") if one else several
    return label if one else several


def _article_of(noun: str) -> str:
    if _SPELT_OUT.match(noun):
        return "an" if noun[0] in "AEFHILMNORSX" else "a"
    return "an" if _VOWEL_SOUND.match(noun) and not _CONSONANT_SOUND.match(noun) else "a"


def _listed_words(items: list[str]) -> str:
    """One, two and three."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
