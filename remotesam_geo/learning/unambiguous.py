"""What tells things of a class from the others, in words that leave no doubt about which are meant.

What cannot be told apart with certainty is not said: sizes must differ by a clear ratio, positions and distances by a
clear margin, a thing that the border cuts counts with all sizes it may have, and one of doubtful colour with all it
may be called.
"""

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from shapely.geometry.base import BaseGeometry

from remotesam_geo.errors import one_of

__all__ = ["SEEN", "Described", "RuleKind", "VisibleThing", "telling_apart"]

RuleKind = Literal["colour", "size", "position", "relation"]

RATIO = 1.4  # between the areas of the largest and the next
GROUP_RATIO = 1.8  # between small and large ones
MARGIN = 0.06  # of the picture's side, between positions
SEEN = 30  # pixels of the mask that a named thing has at least


@dataclass(frozen=True, kw_only=True, eq=False)
class VisibleThing:
    """A thing as it is seen: what the words are about.

    Attributes:
        id: Which it is.
        name: Its class.
        plural: What several of the class are called.
        colours: The colours it may be called; one, where that is sure, and none, where nothing is known.
        x: Middle of its mask, in pixels to the right.
        y: Middle of its mask, in pixels down.
        pixels: Of its mask.
        least: The area that it has at least, in pixels.
        most: The area that it has at most; more than is seen where the border cuts it.
        across: Its longer side in pixels, beyond the border too.
        long: Whether things of its class have a length to speak of.
        cut: Whether the border of the picture cuts it.
        box: Bounds of its mask: x0, y0, x1, y1, half-open.
        outline: Its shape in pixels.
    """

    id: int
    name: str
    plural: str
    colours: frozenset[str]
    x: float
    y: float
    pixels: int
    least: float
    most: float
    across: float
    long: bool
    cut: bool
    box: tuple[int, int, int, int]
    outline: BaseGeometry


@dataclass(frozen=True, kw_only=True)
class Described:
    """Words, and the things of a class that they are true of.

    Attributes:
        text: The words.
        kind: What has to be understood to know which are meant.
        ids: Those meant; some of the class, never all.
    """

    text: str
    kind: RuleKind
    ids: tuple[int, ...]

    def __post_init__(self) -> None:
        one_of("kind", self.kind, get_args(RuleKind))


def telling_apart(
    some: Sequence[VisibleThing],
    seen: Sequence[VisibleThing],
    dice: random.Random,
    shape: tuple[int, int],
    *,
    names: Sequence[str],
    palette: Sequence[str],
    tints: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[Described]:
    """What tells some things of a class from the others of it.

    Args:
        some: All things of one class.
        seen: All things of the picture.
        dice: Picks among wordings.
        shape: Height and width of the picture.
        names: The classes that may serve as landmarks, in the order in which they are tried.
        palette: The colours that may be named.
        tints: Of classes, the colours by which one of them may be singled out as a landmark; by default the palette.

    Yields:
        Descriptions of at least one, and not of all. The same words may come twice.
    """
    if len(some) < 2:
        return
    every, all_seen, side = list(some), list(seen), min(shape)
    kinds: tuple[tuple[RuleKind, Asked], ...] = (
        ("colour", _colour_expressions(every, dice, palette)),
        ("size", _size_expressions(every, dice)),
        ("position", _position_expressions(every, dice, shape)),
        (
            "relation",
            _relation_expressions(every, all_seen, dice, side, _Landmarks(names, palette, tints or {})),
        ),
    )
    for kind, described in kinds:
        for text, chosen in described:
            if 0 < len(chosen) < len(every) and max(s.pixels for s in chosen) >= SEEN:
                yield Described(text=text, kind=kind, ids=tuple(sorted(s.id for s in chosen)))


@dataclass(frozen=True)
class _Landmarks:
    """Which things may be named to say where another is."""

    names: Sequence[str]
    palette: Sequence[str]
    tints: Mapping[str, Sequence[str]]


Asked = Iterator[tuple[str, list[VisibleThing]]]


def _noun_of(chosen: list[VisibleThing]) -> str:
    return chosen[0].name if len(chosen) == 1 else chosen[0].plural


def _colour_expressions(some: list[VisibleThing], dice: random.Random, palette: Sequence[str]) -> Asked:
    for colour in palette:
        chosen = [s for s in some if colour in s.colours]
        # One that may be called so, or otherwise, or whose colour is not known, leaves a doubt.
        if chosen and all(len(s.colours) == 1 for s in chosen) and all(s.colours for s in some):
            noun = _noun_of(chosen)
            yield (
                dice.choice(
                    (f"the {colour} {noun}", f"{colour} {noun}", f"the {noun} that is {colour}")
                    if len(chosen) == 1
                    else (
                        f"the {colour} {noun}",
                        f"all {colour} {noun}",
                        f"{noun} that are {colour}",
                    )
                ),
                chosen,
            )


def _size_expressions(some: list[VisibleThing], dice: random.Random) -> Asked:
    name = some[0].name
    for words, target, clear in (
        (("largest", "biggest"), max(some, key=lambda s: s.least), _is_larger),
        (("smallest",), min(some, key=lambda s: s.most), _is_smaller),
    ):
        if not target.cut and all(clear(target, s) for s in some if s is not target):
            yield f"the {dice.choice(words)} {name}", [target]
    if all(s.long for s in some):
        longest = max(some, key=lambda s: s.across)
        others = [s.across for s in some if s is not longest]
        if not longest.cut and longest.across >= 1.3 * max(others):
            yield f"the longest {name}", [longest]
    yield from _size_groups(some, dice)


def _is_larger(one: VisibleThing, other: VisibleThing) -> bool:
    return one.least >= RATIO * other.most


def _is_smaller(one: VisibleThing, other: VisibleThing) -> bool:
    return other.least >= RATIO * one.most


def _size_groups(some: list[VisibleThing], dice: random.Random) -> Asked:
    """Large ones and small ones, where they fall into two groups with nothing in between."""
    ordered = sorted(some, key=lambda s: s.least)
    for k in range(1, len(ordered)):
        small, large = ordered[:k], ordered[k:]
        if large[0].least < GROUP_RATIO * max(s.most for s in small):
            continue
        steps = [b.least / a.least for g in (small, large) for a, b in itertools.pairwise(g)]
        if len(some) > 2 and max(steps, default=1) <= RATIO:
            yield f"the {dice.choice(('large', 'big'))} {_noun_of(large)}", large
            yield f"the {dice.choice(('small', 'little'))} {_noun_of(small)}", small
            return


def _position_expressions(some: list[VisibleThing], dice: random.Random, shape: tuple[int, int]) -> Asked:
    size, sides = min(shape), (shape[1], shape[0])
    margin, name = MARGIN * size, some[0].name
    for axis, ends in enumerate((("leftmost", "rightmost"), ("topmost", "bottommost"))):
        place = np.array([(s.x, s.y)[axis] for s in some])
        order = np.argsort(place)
        for word, first, second in ((ends[0], 0, 1), (ends[1], -1, -2)):
            if abs(place[order[first]] - place[order[second]]) >= margin:
                yield f"the {word} {name}", [some[order[first]]]
    for axis, (low, high) in enumerate((("left", "right"), ("top", "bottom"))):
        off = [(s.x, s.y)[axis] - sides[axis] / 2 for s in some]
        if min(map(abs, off)) < margin:
            continue
        for word, sign in ((low, -1), (high, 1)):
            chosen = [s for s, o in zip(some, off, strict=True) if sign * o > 0]
            if chosen:
                yield f"the {_noun_of(chosen)} in the {word} half of the image", chosen
    yield from _corner_expressions(some, shape)
    near = [s for s in some if _distance_off_middle(s, shape) < 0.16 * size]
    if len(near) == 1 and all(_distance_off_middle(s, shape) > 0.3 * size for s in some if s is not near[0]):
        yield f"the {name} in the {dice.choice(('center', 'middle'))} of the image", near


def _distance_off_middle(s: VisibleThing, shape: tuple[int, int]) -> float:
    return max(abs(s.x - shape[1] / 2), abs(s.y - shape[0] / 2))


def _corner_expressions(some: list[VisibleThing], shape: tuple[int, int]) -> Asked:
    (height, width), margin = shape, MARGIN * min(shape)
    for vertical in ("top", "bottom"):
        for side in ("left", "right"):
            chosen, clear = [], True
            for s in some:
                dx = width / 2 - s.x if side == "left" else s.x - width / 2
                dy = height / 2 - s.y if vertical == "top" else s.y - height / 2
                if min(dx, dy) > margin:
                    chosen.append(s)
                elif min(dx, dy) > -margin:
                    clear = False
            if chosen and clear:
                yield f"the {_noun_of(chosen)} in the {vertical} {side} corner", chosen


def _relation_expressions(
    some: list[VisibleThing],
    seen: list[VisibleThing],
    dice: random.Random,
    size: int,
    landmarks: _Landmarks,
) -> Asked:
    for anchor, words in _anchor_things(some[0].name, seen, landmarks):
        distance = [s.outline.distance(anchor.outline) for s in some]
        order = np.argsort(distance)
        name = some[0].name
        if distance[order[1]] >= 1.5 * distance[order[0]] + MARGIN * size:
            word = dice.choice(("nearest", "closest"))
            yield f"the {name} {word} to the {words}", [some[order[0]]]
        if distance[order[-1]] >= 1.25 * distance[order[-2]] + MARGIN * size:
            yield f"the {name} farthest from the {words}", [some[order[-1]]]
        yield from _side_expressions(some, anchor, words, MARGIN * size)


def _anchor_things(name: str, seen: list[VisibleThing], landmarks: _Landmarks) -> Iterator[tuple[VisibleThing, str]]:
    """Things of other classes that their class, or class and colour, names alone."""
    for other in landmarks.names:
        of = [s for s in seen if s.name == other]
        if other == name or not of:
            continue
        if len(of) == 1:
            if of[0].pixels >= SEEN and not of[0].cut:
                yield of[0], other
            continue
        if not all(s.colours for s in of):
            continue
        for colour in landmarks.tints.get(other, landmarks.palette):
            alone = [s for s in of if colour in s.colours]
            sure = len(alone) == 1 and len(alone[0].colours) == 1
            if sure and alone[0].pixels >= SEEN and not alone[0].cut:
                yield alone[0], f"{colour} {other}"


def _side_expressions(some: list[VisibleThing], anchor: VisibleThing, words: str, margin: float) -> Asked:
    """Objects wholly on one side of the anchor, where none lies beside it."""
    x0, y0, x1, y1 = anchor.box
    for word, after in (
        ("left of", [x0 - s.box[2] for s in some]),
        ("right of", [s.box[0] - x1 for s in some]),
        ("above", [y0 - s.box[3] for s in some]),
        ("below", [s.box[1] - y1 for s in some]),
    ):
        sure = [s for s, gap in zip(some, after, strict=True) if gap >= 0]
        middle = (x0 + x1) / 2 if word in ("left of", "right of") else (y0 + y1) / 2
        sign = -1 if word in ("left of", "above") else 1
        place = [s.x if word in ("left of", "right of") else s.y for s in some]
        rest = [sign * (p - middle) < -margin for p, gap in zip(place, after, strict=True) if gap < 0]
        if sure and all(rest):
            yield f"the {_noun_of(sure)} {word} the {words}", sure
