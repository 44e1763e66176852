"""Splits that share no ground: whole squares of the Earth go to one side each.

The Earth is cut into squares on an equal-area map. A square's split follows from its number and a seed alone, so that
the same ground always falls on the same side: across scenes, years and CRSs, and when more data come later. A chip
that lies on squares of two sides belongs to neither.
"""

import functools
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
from pyproj import Transformer

from remotesam_geo.errors import InputError

from .records import GroundPlace, Picture, Triplet

__all__ = ["SHARES", "footprint", "place_split", "split_by_place"]

SHARES: Mapping[str, float] = {"train": 0.8, "val": 0.1, "test": 0.1}
"""The splits and their shares of the ground, unless told otherwise."""
MAP = "EPSG:6933"  # cylindrical, equal area, in metres
POINTS = 17  # along each side of a chip, whose edges are curves on the map


def footprint(place: GroundPlace, shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """The box west, south, east, north round a chip on the equal-area map, in metres.

    Examples:
        >>> from remotesam_geo.learning.datasets import GroundPlace, footprint
        >>> chip = GroundPlace(crs="EPSG:32631", transform=(1, 0, 500000, 0, -1, 5000000))
        >>> west, south, east, north = footprint(chip, (100, 100))
        >>> bool(90 < east - west < 150), bool(60 < north - south < 110)
        (True, True)
    """
    height, width = shape
    along = np.linspace(0, 1, POINTS)
    columns = np.concatenate([along, along, 0 * along, 0 * along + 1]) * width
    rows = np.concatenate([0 * along, 0 * along + 1, along, along]) * height
    a, b, c, d, e, f = place.transform
    x, y = a * columns + b * rows + c, d * columns + e * rows + f
    east, north = _to_map_for_split(place.crs).transform(x, y)
    if not (np.isfinite(east).all() and np.isfinite(north).all()):
        raise InputError(f"a chip at {place.transform} in {place.crs} lies nowhere on Earth")
    return float(east.min()), float(north.min()), float(east.max()), float(north.max())


def place_split(
    place: GroundPlace,
    shape: tuple[int, int],
    *,
    shares: Mapping[str, float] = SHARES,
    square: float = 2000.0,
    seed: int = 0,
) -> str | None:
    """The split of a chip; None where it lies on squares of two.

    Args:
        place: Where the chip lies.
        shape: Its height and width in pixels.
        shares: How much of the ground each split gets.
        square: Side of the squares in metres; chips of a tenth of it are seldom lost.
        seed: Of the choice of squares.

    Raises:
        InputError: Shares that do not add up to 1, or a chip nowhere on Earth.
    """
    if not shares or min(shares.values()) < 0 or not math.isclose(sum(shares.values()), 1):
        raise InputError(f"the shares are {dict(shares)}: give parts that add up to 1")
    if not (math.isfinite(square) and square > 0):
        raise InputError(f"square is {square}: give metres above 0")
    west, south, east, north = footprint(place, shape)
    columns, rows = (
        range(math.floor(low / square), math.floor(high / square) + 1) for low, high in ((west, east), (south, north))
    )
    if len(columns) * len(rows) > 10_000:
        raise InputError(f"a chip of {east - west:.0f} m on squares of {square:g} m: choose larger squares")
    sides = {_split_of_square(column, row, square, shares, seed) for column in columns for row in rows}
    return sides.pop() if len(sides) == 1 else None


def split_by_place(
    triplets: Iterable[Triplet],
    *,
    shares: Mapping[str, float] = SHARES,
    square: float = 2000.0,
    seed: int = 0,
) -> Iterator[Triplet]:
    """Give triplets their split; those of chips on the border of two are left out.

    A picture without a place is judged by its name: all its triplets go to one split.

    Args:
        triplets: Triplets of pictures with a place.
        shares: As in `place_split`.
        square: As in `place_split`.
        seed: As in `place_split`.
    """
    known: tuple[Picture, str | None] | None = None
    for triplet in triplets:
        picture = triplet.picture
        if known is None or known[0] is not picture:
            if picture.place is None:
                known = picture, _drawn_spatial_split(picture.name, shares, seed)
            else:
                split = place_split(picture.place, picture.shape, shares=shares, square=square, seed=seed)
                known = picture, split
        if known[1] is not None:
            yield replace(triplet, split=known[1])


@functools.lru_cache(maxsize=64)
def _to_map_for_split(crs: str) -> Transformer:
    return Transformer.from_crs(crs, MAP, always_xy=True)


def _split_of_square(column: int, row: int, square: float, shares: Mapping[str, float], seed: int) -> str:
    return _drawn_spatial_split(f"{column} {row} {square!r}", shares, seed)


def _drawn_spatial_split(name: str, shares: Mapping[str, float], seed: int) -> str:
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    place, upto = int.from_bytes(digest[:8], "big") / (1 << 64), 0.0
    for split, share in shares.items():
        upto += share
        if place < upto:
            return split
    return list(shares)[-1]
