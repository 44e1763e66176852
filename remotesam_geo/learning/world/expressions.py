"""Expressions over a picture, each true of exactly the objects it names."""

import random
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.learning.world.kinds import CLASSES
from remotesam_geo.learning.world.picture import WorldScene

__all__ = ["Expression", "ExpressionKind", "expressions"]

ExpressionKind = Literal["class", "colour", "size", "position", "relation", "absent"]


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


def expressions(picture: WorldScene, rng: random.Random | int = 0) -> list[Expression]:
    """All that can be asked of a picture without doubt about the answer.

    Args:
        picture: The picture.
        rng: Picks among the wordings; a number is a seed.

    Example:
        >>> from remotesam_geo.learning.world.picture import scene
        >>> {e.kind for e in expressions(scene(5))} >= {"class", "absent"}
        True
    """
    del rng
    asked = []
    for name in CLASSES:
        ids = tuple(i.id for i in picture.of(name))
        asked.append(
            Expression(
                text=f"{name} in the image",
                kind="class" if ids else "absent",
                name=name,
                ids=ids,
                every=ids,
            )
        )
    return asked
