"""The steps of the engine, and what passes from one to the next: any function of the right shape is one."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.learning.datasets import Example, Triplet
from remotesam_geo.learning.evaluation import asked_as
from remotesam_geo.words import vocabulary

__all__ = [
    "ExpressionStep",
    "FilterStep",
    "MaskStep",
    "Material",
    "Refused",
    "describe",
    "related",
    "spoken",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """A picture on its way through the engine.

    Attributes:
        example: The picture with what is known to be in it.
        rgb: Its pixels, H x W x 3.
        unsure: Labels of which a thing was dropped: nothing can be said about all of them any more.
        dropped: Why things were dropped, one reason a thing.
    """

    example: Example
    rgb: NDArray[np.uint8]
    unsure: frozenset[str] = frozenset()
    dropped: tuple[str, ...] = field(default=())


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Something that a step could have said and does not; the report counts it.

    Attributes:
        what: What it is: "caption", or a kind of triplet.
        reason: Why not, in a few words.
    """

    what: str
    reason: str


MaskStep = Callable[[Material], Material]
"""Gives things their masks, or drops them."""
ExpressionStep = Callable[[Material, random.Random], Iterable[Triplet | Refused]]
"""Says things about a picture, with the mask of each, and what it does not say; the generator is the picture's own."""
FilterStep = Callable[[Triplet, NDArray[np.uint8]], str | None]
"""A few words on why a triplet is dropped, or None; it gets the pixels of the picture, H x W x 3."""


def describe(step: Callable[..., Any]) -> str:
    """A step with its choices, as text: a run is only gone on with under the same ones."""
    if is_dataclass(step):
        return repr(step)
    name = getattr(step, "__qualname__", type(step).__qualname__)
    return f"{getattr(step, '__module__', '')}.{name}"


def spoken(label: str) -> str:
    """A label as one says it.

    Examples:
        >>> from remotesam_geo.learning.labelling import spoken
        >>> spoken("storage_tank"), spoken("storagetank"), spoken("my-own thing")
        ('storage tank', 'storage tank', 'my own thing')
    """
    return asked_as([label], template="{name}")[label][0]


def related(one: str, other: str) -> bool:
    """Whether something may be both: the same class, or one a kind of the other.

    Examples:
        >>> from remotesam_geo.learning.labelling import related
        >>> related("plane", "airplane"), related("small vehicle", "vehicle"), related("ship", "airplane")
        (True, True, False)
    """
    one, other = spoken(one), spoken(other)
    known = vocabulary()
    a, b = known.get(one), known.get(other)
    if a is not None and b is not None:
        return a.name in known.path(b.name) or b.name in known.path(a.name)
    return f" {one}".endswith(f" {other}") or f" {other}".endswith(f" {one}")  # a river boat is a boat
