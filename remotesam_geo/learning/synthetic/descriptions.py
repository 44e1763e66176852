"""Expressions over a picture, each true of exactly the objects it names.

What cannot be told apart with certainty is not asked; see `remotesam_geo.learning.unambiguous`.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import one_of
from remotesam_geo.learning.unambiguous import VisibleThing, telling_apart

from .kinds import CLASSES, COLOURS
from .picture import Instance, WorldScene

__all__ = ["Expression", "ExpressionKind", "expressions"]

ExpressionKind = Literal["class", "colour", "size", "position", "relation", "absent"]

LONG = ("airplane", "building", "harbor", "ship", "vehicle")  # what has a length to speak of
SLIVER = 80  # pixels: a class that shows less of itself is neither asked for nor denied
PART = 0.25  # nor is one that shows less than this share of each of its objects
TINTS = {name: kind.colour_names for name, kind in CLASSES.items()}


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

    def __post_init__(self) -> None:
        one_of("kind", self.kind, get_args(ExpressionKind))

    def mask(self, picture: WorldScene) -> NDArray[np.bool_]:
        """H x W: the pixels of the objects meant."""
        return picture.mask(self.ids)


def expressions(picture: WorldScene, rng: random.Random | int = 0) -> list[Expression]:
    """All that can be asked of a picture without doubt about the answer.

    Args:
        picture: The picture.
        rng: Picks among the wordings; a number is a seed.

    Returns:
        For every class its name, as "class" or "absent", but not where only a sliver of it shows; for classes with
        two objects or more what tells some of them from the others. No two have the same words.

    Examples:
        >>> from .picture import scene
        >>> asked = expressions(scene(5), rng=1)
        >>> next(e for e in asked if e.kind == "class").text
        'building in the image'
    """
    dice = random.Random(rng) if isinstance(rng, int) else rng  # noqa: S311 - wordings
    seen = _visible_things_of(picture)
    shape = picture.labels.shape[0], picture.labels.shape[1]
    asked: dict[str, Expression] = {}
    for name in CLASSES:
        some = [s for s in seen if s.name == name]
        every = _thing_ids(some)
        if not some or _is_recognisable(picture.of(name)):
            text = f"{name} in the image"
            asked[text] = Expression(text=text, kind="class" if some else "absent", name=name, ids=every, every=every)
        for told in telling_apart(some, seen, dice, shape, names=tuple(CLASSES), palette=tuple(COLOURS), tints=TINTS):
            expression = Expression(text=told.text, kind=told.kind, name=name, ids=told.ids, every=every)
            asked.setdefault(told.text, expression)
    return list(asked.values())


def _is_recognisable(some: tuple[Instance, ...]) -> bool:
    """Whether enough of a class shows to know it by."""
    return sum(one.pixels for one in some) >= SLIVER and any(one.visible >= PART for one in some)


def _thing_ids(some: Iterable[VisibleThing]) -> tuple[int, ...]:
    return tuple(sorted(s.id for s in some))


def _visible_things_of(picture: WorldScene) -> list[VisibleThing]:
    labels = picture.labels
    count = len(picture.instances) + 1
    rows, columns = np.nonzero(labels)
    ids = labels[rows, columns]
    pixels = np.maximum(np.bincount(ids, minlength=count), 1)
    x = np.bincount(ids, columns + 0.5, count) / pixels
    y = np.bincount(ids, rows + 0.5, count) / pixels
    return [
        VisibleThing(
            id=one.id,
            name=one.name,
            plural=CLASSES[one.name].plural,
            colours=frozenset({one.colour}),
            x=float(x[one.id]),
            y=float(y[one.id]),
            pixels=one.pixels,
            least=one.pixels,
            most=max(one.pixels, one.polygon.area) if one.cut else one.pixels,
            across=one.across,
            long=one.name in LONG,
            cut=one.cut,
            box=one.box,
            outline=one.polygon,
        )
        for one in picture.instances
    ]
