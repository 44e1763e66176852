"""What a task is: a picture with its questions, how it is asked, and what its evidence amounts to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import InputError
from remotesam_geo.learning.datasets import Example, Picture, Triplet

from .answerers import Chances, nearest
from .metrics import ChanceCounts, Scores
from .setting import Setting

__all__ = ["Evidence", "PicturePredictor", "Row", "Task", "Unit", "ask_classes"]

Row = dict[str, Any]
"""The evidence of one picture."""
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Unit:
    """A picture with the questions that are asked of it.

    Attributes:
        position: Its number in the data, from 0.
        picture: The picture.
        example: Its truth, where the data are examples.
        triplets: Expressions and masks, where the data are triplets.
    """

    position: int
    picture: Picture
    example: Example | None = None
    triplets: tuple[Triplet, ...] = ()

    @property
    def truth(self) -> Example:
        """Its truth as an example.

        Raises:
            InputError: The data are triplets, which do not tell it.
        """
        if self.example is None:
            raise InputError("this task needs pictures with all their truth, not triplets: read the data as examples")
        return self.example


@dataclass(frozen=True, kw_only=True, eq=False)
class PicturePredictor:
    """Asks of one picture; every answer is as large as the picture, or as the network's square.

    Attributes:
        shape: How large the answers are.
        maps: A map for each expression.
        contours: The map of contours, if there is one.
    """

    shape: tuple[int, int]
    maps: Callable[[Sequence[str]], Iterator[Chances]]
    contours: Callable[[], NDArray[np.uint8] | None]

    def of_class(self, label: str, setting: Setting) -> Chances:
        """The map of a class: the maximum over its expressions."""
        maps = self.maps(setting.classes[label])
        whole = next(maps)
        for chance in maps:
            whole = np.maximum(whole, chance)
        return whole

    def mask(self, pixels: Bools) -> Bools:
        """A true mask at the answers' size."""
        return pixels if pixels.shape == self.shape else nearest(pixels, self.shape)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What evidence amounts to.

    Attributes:
        scores: The figures.
        chances: By name, pixels by probability and truth.
        sweeps: One line for each other threshold or balance.
        quality: By key, how good each answer is, to find the worst and the best.
    """

    scores: Scores
    chances: Mapping[str, ChanceCounts] = field(default_factory=dict)
    sweeps: Sequence[Mapping[str, float]] = ()
    quality: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One of the eight.

    Attributes:
        name: What it is called.
        figure: The figure of its published table.
        ask: The expressions that it asks of a picture.
        weigh: Asks of a picture and keeps what matters.
        judge: What rows of evidence amount to.
        square: Whether the published evaluation judges at the network's size.
        reads: Which of `classes`, `thresholds` and `balances` of a setting, of `contours` and of `cases` it uses. The
            others would have no effect: `evaluate` refuses them.
        by_class: Whether it asks for classes of every picture, so that a label that is not asked for is worth saying.
    """

    name: str
    figure: str
    ask: Callable[[Unit, Setting], Sequence[str]]
    weigh: Callable[[Unit, PicturePredictor, Setting], Row]
    judge: Callable[[Sequence[Row], Setting], Evidence]
    reads: frozenset[str]
    square: bool = False
    by_class: bool = True


def ask_classes(unit: Unit, setting: Setting) -> list[str]:  # noqa: ARG001 - as all do
    """The expressions of all classes."""
    return [expression for own in setting.classes.values() for expression in own]
