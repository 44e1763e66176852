"""Masks of things: as labels give them, or as several teachers draw them where they agree."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import InputError, each_of, number_in, one_of
from remotesam_geo.learning.datasets import Mask, Thing

from .steps import Material, describe

__all__ = ["GivenMasks", "TaughtMasks", "Teacher", "agreement"]

Teacher = Callable[[NDArray[np.uint8], Sequence[Thing]], Sequence[NDArray[np.bool_]]]
"""Draws things: from a picture (H x W x 3) and things with boxes to a mask (H x W) for each."""


@dataclass(frozen=True, kw_only=True)
class GivenMasks:
    """Masks are those of the labels.

    Attributes:
        boxes: What to do with a thing of which only a box or corners are known: "drop" it, or take the "rectangle" for
            its mask.
    """

    boxes: Literal["drop", "rectangle"] = "drop"

    def __post_init__(self) -> None:
        one_of("boxes", self.boxes, ("drop", "rectangle"))

    def __call__(self, material: Material) -> Material:
        """The material with things that all have masks."""
        shape = material.example.picture.shape
        masks = [
            thing.pixels(shape) if thing.mask is not None or self.boxes == "rectangle" else None
            for thing in material.example.things
        ]
        return _things_with_masks(material, masks, "no mask")


@dataclass(frozen=True, kw_only=True)
class TaughtMasks:
    """Masks drawn by teachers from the boxes: the pixels that most of them mean, where they agree.

    Attributes:
        teachers: Who draws; with one there is no agreement to be had.
        least: The mean IoU of each two teachers' masks that is needed.
        keep: Whether masks of the labels are kept as they are.
    """

    teachers: tuple[Teacher, ...]
    least: float = 0.6
    keep: bool = True

    def __post_init__(self) -> None:
        if not each_of("teachers", self.teachers, object, "teachers"):
            raise InputError("teachers is empty: give one teacher at least")
        number_in("least", self.least, 0, 1)
        one_of("keep", self.keep, (True, False))

    def __repr__(self) -> str:
        who = ", ".join(map(describe, self.teachers))
        return f"TaughtMasks(teachers=({who}), least={self.least}, keep={self.keep})"

    def __call__(self, material: Material) -> Material:
        """The material with things that all have masks."""
        things = material.example.things
        asked = [k for k, thing in enumerate(things) if thing.mask is None or not self.keep]
        masks = [thing.mask for thing in things]
        if asked:
            drawn = [t(material.rgb, [things[k] for k in asked]) for t in self.teachers]
            for k, versions in zip(asked, zip(*drawn, strict=True), strict=True):
                masks[k] = self._agreed(versions)
        return _things_with_masks(material, masks, "teachers disagree")

    def _agreed(self, versions: Sequence[NDArray[np.bool_]]) -> Mask | None:
        whole = np.sum(versions, axis=0) * 2 > len(versions)
        sure = agreement(versions) >= self.least
        return Mask.of(np.asarray(whole, np.bool_)) if sure and whole.any() else None


def agreement(masks: Sequence[NDArray[np.bool_]]) -> float:
    """The mean IoU of each two masks; 1 of a single one, and of two that are empty.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.learning.labelling import agreement
        >>> one = np.array([[True, True, False]])
        >>> agreement([one, one]), agreement([one, ~one]), agreement([one])
        (1.0, 0.0, 1.0)
    """
    shares = []
    for k, one in enumerate(masks):
        for other in masks[k + 1 :]:
            union = int((one | other).sum())
            shares.append(int((one & other).sum()) / union if union else 1.0)
    return float(np.mean(shares)) if shares else 1.0


def _things_with_masks(material: Material, masks: Sequence[Mask | None], reason: str) -> Material:
    """The things that have a mask; a label that lost one is unsure."""
    example = material.example
    pairs = list(zip(example.things, masks, strict=True))
    lost = [thing.label for thing, mask in pairs if mask is None]
    kept = tuple(replace(thing, mask=mask) for thing, mask in pairs if mask is not None)
    return replace(
        material,
        example=replace(example, things=kept),
        unsure=material.unsure | set(lost),
        dropped=(*material.dropped, *[reason] * len(lost)),
    )
