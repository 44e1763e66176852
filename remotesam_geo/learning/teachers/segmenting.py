"""Masks from boxes, by promptable segmenters: teachers of the engine."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.learning.datasets import Thing
from remotesam_geo.predictors.box_masks import Masks, sam2_masks, sam_masks
from remotesam_geo.predictors.pinned_weights import Pretrained

__all__ = ["Sam2Teacher", "SamTeacher"]


@dataclass(frozen=True, kw_only=True)
class SamTeacher(Pretrained):
    """Draws things from their boxes by a promptable segmenter (SAM): a teacher for `TaughtMasks`.

    Attributes:
        model: A `SamModel` of transformers.
        images: Its `SamImageProcessorPil`.
        name: What it is called in reports: repository and commit.
        together: Boxes asked at once.
    """

    _SOURCE: ClassVar[str] = "facebook/sam-vit-base"
    _PARTS: ClassVar[dict[str, str]] = {"model": "SamModel", "images": "SamImageProcessorPil"}

    model: Any = field(repr=False)
    images: Any = field(repr=False)
    name: str
    together: int = 32

    def __call__(self, rgb: NDArray[np.uint8], things: Sequence[Thing]) -> Masks:
        """A mask (H x W) for each thing, from its box; the network's own best of three."""
        boxes = [thing.box for thing in things]
        return sam_masks(self.model, self.images, rgb, boxes, together=self.together)


@dataclass(frozen=True, kw_only=True)
class Sam2Teacher(Pretrained):
    """Draws things from their boxes by SAM 2: a teacher for `TaughtMasks`.

    Attributes:
        model: A `Sam2Model` of transformers.
        name: What it is called in reports: repository and commit.
        together: Boxes asked at once.
    """

    _SOURCE: ClassVar[str] = "facebook/sam2.1-hiera-tiny"
    _PARTS: ClassVar[dict[str, str]] = {"model": "Sam2Model"}

    model: Any = field(repr=False)
    name: str
    together: int = 32

    def __call__(self, rgb: NDArray[np.uint8], things: Sequence[Thing]) -> Masks:
        """A mask (H x W) for each thing, from its box; the network's own best of three."""
        return sam2_masks(self.model, rgb, [thing.box for thing in things], together=self.together)
