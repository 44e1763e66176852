"""Expressions over a picture, each true of exactly the objects it names.

What cannot be told apart with certainty is not asked: sizes must differ by a clear ratio, positions and distances by
a clear margin, and an object that the border cuts counts with all sizes it may have.
"""

import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .kinds import CLASSES, COLOURS
from .picture import Instance, WorldScene

__all__ = ["Expression", "ExpressionKind", "expressions"]

ExpressionKind = Literal["class", "colour", "size", "position", "relation", "absent"]

RATIO = 1.4  # between the areas of the largest and the next
GROUP_RATIO = 1.8  # between small and large ones
MARGIN = 0.06  # of the picture's side, between positions
LONG = ("airplane", "building", "harbor", "ship", "vehicle")  # what has a length to speak of
SEEN = 30  # pixels of the mask that a named object has at least


@dataclass(frozen=True, kw_only=True)
class Expression:
    """Words, and the objects that they are true of.

    Attributes:
        text: What is asked, as the network is asked it.
        kind: What has to be understood to answer.
        name: The class asked for.
        ids: The objects meant, as in `WorldScene.labels`; empty for absent classes.
        every: All objects of the class: what ignoring the other words would answer.
    """

    text: str
    kind: ExpressionKind
    name: str
    ids: tuple[int, ...]
    every: tuple[int, ...]

    def mask(self, picture: WorldScene) -> NDArray[np.bool_]:
        """H x W: the pixels of the objects meant."""
        return picture.mask(self.ids)


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """An object as it is seen: what the words are about."""

    one: Instance
    x: float  # middle of the mask
    y: float
    least: float  # pixels it has at least, and at most where the border cuts it
    most: float


def expressions(picture: WorldScene, rng: random.Random | int = 0) -> list[Expression]:
    """All that can be asked of a picture without doubt about the answer.

    Args:
        picture: The picture.
        rng: Picks among the wordings; a number is a seed.

    Returns:
        For every class its name, as "class" or "absent"; for classes with two objects or more what tells some of
        them from the others. No two have the same words.

    Example:
        >>> from .picture import scene
        >>> asked = expressions(scene(5), rng=1)
        >>> next(e for e in asked if e.kind == "class").text
        'building in the image'
    """
    dice = random.Random(rng) if isinstance(rng, int) else rng  # noqa: S311 - wordings
    seen = _look(picture)
    size = picture.rgb.shape[0]
    asked: dict[str, Expression] = {}
    for name in CLASSES:
        some = [s for s in seen if s.one.name == name]
        every = _ids(some)
        text = f"{name} in the image"
        asked[text] = Expression(
            text=text, kind="class" if some else "absent", name=name, ids=every, every=every
        )
        for kind, text, chosen in _attributes(some, seen, dice, size) if len(some) > 1 else ():
            if 0 < len(chosen) < len(some) and max(s.one.pixels for s in chosen) >= SEEN:
                ids = _ids(chosen)
                expression = Expression(text=text, kind=kind, name=name, ids=ids, every=every)
                asked.setdefault(text, expression)
    return list(asked.values())


def _attributes(
    some: list[_Seen], seen: list[_Seen], dice: random.Random, size: int
) -> Iterator[tuple[ExpressionKind, str, list[_Seen]]]:
    """What tells some objects of a class from the others."""
    for text, chosen in _colours(some, dice):
        yield "colour", text, chosen
    for text, chosen in _sizes(some, dice):
        yield "size", text, chosen
    for text, chosen in _positions(some, dice, size):
        yield "position", text, chosen
    for text, chosen in _relations(some, seen, dice, size):
        yield "relation", text, chosen


def _ids(some: Iterable[_Seen]) -> tuple[int, ...]:
    return tuple(sorted(s.one.id for s in some))


def _look(picture: WorldScene) -> list[_Seen]:
    labels = picture.labels
    count = len(picture.instances) + 1
    rows, columns = np.nonzero(labels)
    ids = labels[rows, columns]
    pixels = np.maximum(np.bincount(ids, minlength=count), 1)
    x = np.bincount(ids, columns + 0.5, count) / pixels
    y = np.bincount(ids, rows + 0.5, count) / pixels
    return [
        _Seen(
            one=one,
            x=float(x[one.id]),
            y=float(y[one.id]),
            least=one.pixels,
            most=max(one.pixels, one.polygon.area) if one.cut else one.pixels,
        )
        for one in picture.instances
    ]


Asked = Iterator[tuple[str, list[_Seen]]]


def _noun(chosen: list[_Seen]) -> str:
    name = chosen[0].one.name
    return name if len(chosen) == 1 else CLASSES[name].plural


def _colours(some: list[_Seen], dice: random.Random) -> Asked:
    for colour in COLOURS:
        chosen = [s for s in some if s.one.colour == colour]
        if chosen:
            noun = _noun(chosen)
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


def _sizes(some: list[_Seen], dice: random.Random) -> Asked:
    name = some[0].one.name
    for words, target, clear in (
        (("largest", "biggest"), max(some, key=lambda s: s.least), _larger),
        (("smallest",), min(some, key=lambda s: s.most), _smaller),
    ):
        if not target.one.cut and all(clear(target, s) for s in some if s is not target):
            yield f"the {dice.choice(words)} {name}", [target]
    if name in LONG:
        longest = max(some, key=lambda s: s.one.across)
        others = [s.one.across for s in some if s is not longest]
        if not longest.one.cut and longest.one.across >= 1.3 * max(others):
            yield f"the longest {name}", [longest]
    yield from _groups(some, dice)


def _larger(one: _Seen, other: _Seen) -> bool:
    return one.least >= RATIO * other.most


def _smaller(one: _Seen, other: _Seen) -> bool:
    return other.least >= RATIO * one.most


def _groups(some: list[_Seen], dice: random.Random) -> Asked:
    """Large ones and small ones, where they fall into two groups with nothing in between."""
    ordered = sorted(some, key=lambda s: s.least)
    for k in range(1, len(ordered)):
        small, large = ordered[:k], ordered[k:]
        if large[0].least < GROUP_RATIO * max(s.most for s in small):
            continue
        steps = [b.least / a.least for g in (small, large) for a, b in itertools.pairwise(g)]
        if len(some) > 2 and max(steps, default=1) <= RATIO:
            yield f"the {dice.choice(('large', 'big'))} {_noun(large)}", large
            yield f"the {dice.choice(('small', 'little'))} {_noun(small)}", small
            return


def _positions(some: list[_Seen], dice: random.Random, size: int) -> Asked:
    margin, name = MARGIN * size, some[0].one.name
    for axis, ends in enumerate((("leftmost", "rightmost"), ("topmost", "bottommost"))):
        place = np.array([(s.x, s.y)[axis] for s in some])
        order = np.argsort(place)
        for word, first, second in ((ends[0], 0, 1), (ends[1], -1, -2)):
            if abs(place[order[first]] - place[order[second]]) >= margin:
                yield f"the {word} {name}", [some[order[first]]]
    for axis, (low, high) in enumerate((("left", "right"), ("top", "bottom"))):
        off = [(s.x, s.y)[axis] - size / 2 for s in some]
        if min(map(abs, off)) < margin:
            continue
        for word, sign in ((low, -1), (high, 1)):
            chosen = [s for s, o in zip(some, off, strict=True) if sign * o > 0]
            if chosen:
                yield f"the {_noun(chosen)} in the {word} half of the image", chosen
    yield from _corners(some, size)
    near = [s for s in some if _off(s, size) < 0.16 * size]
    if len(near) == 1 and all(_off(s, size) > 0.3 * size for s in some if s is not near[0]):
        yield f"the {name} in the {dice.choice(('center', 'middle'))} of the image", near


def _off(s: _Seen, size: int) -> float:
    return max(abs(s.x - size / 2), abs(s.y - size / 2))


def _corners(some: list[_Seen], size: int) -> Asked:
    margin = MARGIN * size
    for vertical in ("top", "bottom"):
        for side in ("left", "right"):
            chosen, clear = [], True
            for s in some:
                dx = size / 2 - s.x if side == "left" else s.x - size / 2
                dy = size / 2 - s.y if vertical == "top" else s.y - size / 2
                if min(dx, dy) > margin:
                    chosen.append(s)
                elif min(dx, dy) > -margin:
                    clear = False
            if chosen and clear:
                yield f"the {_noun(chosen)} in the {vertical} {side} corner", chosen


def _relations(some: list[_Seen], seen: list[_Seen], dice: random.Random, size: int) -> Asked:
    for anchor, words in _anchors(some[0].one.name, seen):
        distance = [s.one.polygon.distance(anchor.one.polygon) for s in some]
        order = np.argsort(distance)
        name = some[0].one.name
        if distance[order[1]] >= 1.5 * distance[order[0]] + MARGIN * size:
            word = dice.choice(("nearest", "closest"))
            yield f"the {name} {word} to the {words}", [some[order[0]]]
        if distance[order[-1]] >= 1.25 * distance[order[-2]] + MARGIN * size:
            yield f"the {name} farthest from the {words}", [some[order[-1]]]
        yield from _sides(some, anchor, words, MARGIN * size)


def _anchors(name: str, seen: list[_Seen]) -> Iterator[tuple[_Seen, str]]:
    """Objects of other classes that their class, or class and colour, names alone."""
    for other in CLASSES:
        of = [s for s in seen if s.one.name == other]
        if other == name or not of:
            continue
        if len(of) == 1:
            if of[0].one.pixels >= SEEN and not of[0].one.cut:
                yield of[0], other
            continue
        for colour in CLASSES[other].colour_names:
            alone = [s for s in of if s.one.colour == colour]
            if len(alone) == 1 and alone[0].one.pixels >= SEEN and not alone[0].one.cut:
                yield alone[0], f"{colour} {other}"


def _sides(some: list[_Seen], anchor: _Seen, words: str, margin: float) -> Asked:
    """Objects wholly on one side of the anchor, where none lies beside it."""
    x0, y0, x1, y1 = anchor.one.box
    for word, after in (
        ("left of", [x0 - s.one.box[2] for s in some]),
        ("right of", [s.one.box[0] - x1 for s in some]),
        ("above", [y0 - s.one.box[3] for s in some]),
        ("below", [s.one.box[1] - y1 for s in some]),
    ):
        sure = [s for s, gap in zip(some, after, strict=True) if gap >= 0]
        middle = (x0 + x1) / 2 if word in ("left of", "right of") else (y0 + y1) / 2
        sign = -1 if word in ("left of", "above") else 1
        place = [s.x if word in ("left of", "right of") else s.y for s in some]
        rest = [
            sign * (p - middle) < -margin for p, gap in zip(place, after, strict=True) if gap < 0
        ]
        if sure and all(rest):
            yield f"the {_noun(sure)} {word} the {words}", sure
