"""Boxes from words, by an open-vocabulary detector; and what an expression means, by detector and segmenter."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import InputError
from remotesam_geo.learning.datasets import Thing
from remotesam_geo.learning.labelling.mask_sources import Teacher
from remotesam_geo.learning.labelling.steps import Material, describe, spoken
from remotesam_geo.predictors.box_masks import Box
from remotesam_geo.predictors.pinned_weights import Pretrained
from remotesam_geo.predictors.text_boxes import grounding_dino_boxes, one_phrase

__all__ = ["BoxedSegmenter", "DetectedThings"]


@dataclass(frozen=True, kw_only=True)
class DetectedThings(Pretrained):
    """Finds things by an open-vocabulary detector (Grounding DINO): a first step where there are no labels.

    It gives boxes without masks: let `TaughtMasks` follow. What it overlooks is taken not to be there.

    Attributes:
        model: A `GroundingDinoForObjectDetection` of transformers.
        images: Its `GroundingDinoImageProcessorPil`.
        words: Its tokenizer, a fast one.
        name: What it is called in reports.
        classes: What to look for; nothing, where it only serves a `BoxedSegmenter`.
        least: The probability that is needed.
    """

    _SOURCE: ClassVar[str] = "IDEA-Research/grounding-dino-tiny"
    _PARTS: ClassVar[dict[str, str]] = {
        "model": "GroundingDinoForObjectDetection", "images": "GroundingDinoImageProcessorPil", "words": "AutoTokenizer"
    }  # fmt: skip

    model: Any = field(repr=False)
    images: Any = field(repr=False)
    words: Any = field(repr=False)
    name: str
    classes: tuple[str, ...] = ()
    least: float = 0.35

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))

    def __call__(self, material: Material) -> Material:
        """The material with what was found, beside what was known."""
        things = [
            Thing(
                label=self.classes[which],
                box=box,
                id=f"found {number}",
                attributes={"score": f"{score:.3f}"},
            )
            for number, (which, score, box) in enumerate(
                self.boxes(material.rgb, [spoken(name) for name in self.classes])
            )
        ]
        example = replace(material.example, things=(*material.example.things, *things))
        return replace(material, example=example)

    def boxes(self, rgb: NDArray[np.uint8], names: Sequence[str]) -> list[tuple[int, float, Box]]:
        """What is likely enough: which of the names, its probability, and its box in pixels of the picture."""
        return grounding_dino_boxes(self.model, self.images, self.words, rgb, names, least=self.least)


@dataclass(frozen=True, kw_only=True)
class BoxedSegmenter:
    """Draws what an expression means: a detector gives the one box, a segmenter the mask (a referrer of `Captioned`).

    Attributes:
        finder: A `DetectedThings`; its own classes are not looked for.
        teacher: Draws the box: `SamTeacher`, `Sam2Teacher`.
        rival: Share of the best box's probability from which another box elsewhere makes it doubtful; then nothing is
            drawn.
    """

    finder: DetectedThings
    teacher: Teacher
    rival: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.rival <= 1:
            raise InputError(f"rival={self.rival}: give a share of 1")

    def __repr__(self) -> str:
        finder, teacher = describe(self.finder), describe(self.teacher)
        return f"BoxedSegmenter(finder={finder}, teacher={teacher}, rival={self.rival})"

    def __call__(self, rgb: NDArray[np.uint8], expressions: Sequence[str]) -> list[NDArray[np.bool_]]:
        """A mask (H x W) for each expression; an empty one where nothing, or more than one thing, was found."""
        masks = [np.zeros(rgb.shape[:2], np.bool_) for _ in expressions]
        boxes = {k: box for k, text in enumerate(expressions) if (box := self._one(rgb, text))}
        things = [Thing(label=expressions[k], box=box) for k, box in boxes.items()]
        if things:
            for k, mask in zip(boxes, self.teacher(rgb, things), strict=True):
                masks[k] = mask
        return masks

    def _one(self, rgb: NDArray[np.uint8], text: str) -> Box | None:
        """The box of an expression, unless there is none or another one is nearly as likely."""
        found = self.finder.boxes(rgb, [one_phrase(text)])
        if not found:
            return None
        _, top, box = max(found, key=lambda one: one[1])
        doubt = any(score >= self.rival * top and _iou_of_boxes_array(box, other) < 0.5 for _, score, other in found)
        return None if doubt else box


def _iou_of_boxes_array(one: Box, other: Box) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    common = max(0.0, across) * max(0.0, down)
    both = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return common / (both - common)
