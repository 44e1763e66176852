"""Masks from boxes, by promptable segmenters: teachers of the engine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from remotesam_geo.learning.datasets import Thing

from .pinned_weights import Pretrained
from .pixels import sam2_pixels

__all__ = ["Sam2Teacher", "SamTeacher"]

Masks = list[NDArray[np.bool_]]


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

    @torch.no_grad()
    def __call__(self, rgb: NDArray[np.uint8], things: Sequence[Thing]) -> Masks:
        """A mask (H x W) for each thing, from its box; the network's own best of three."""
        ready = self.images(images=Image.fromarray(rgb), return_tensors="pt")
        pixels = ready["pixel_values"].to(self.model.device)
        height, width = (int(side) for side in ready["reshaped_input_sizes"][0])
        embeddings = self.model.get_image_embeddings(pixels)
        boxes = _boxes_seen(things, rgb.shape, (height, width))
        drawn: Masks = []
        for low in _best_masks(self.model, embeddings, boxes, self.together):
            whole = _resized_maps(low, pixels.shape[-2:])[..., :height, :width]  # the rest was padding
            drawn += _masks_of_logits(_resized_maps(whole, rgb.shape[:2]))
        return drawn


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

    @torch.no_grad()
    def __call__(self, rgb: NDArray[np.uint8], things: Sequence[Thing]) -> Masks:
        """A mask (H x W) for each thing, from its box; the network's own best of three."""
        asked = self.model.config.prompt_encoder_config.image_size
        side = asked if isinstance(asked, int) else asked[0]
        pixels = sam2_pixels(rgb, side).to(self.model.device)
        embeddings = self.model.get_image_embeddings(pixels)
        boxes = _boxes_seen(things, rgb.shape, (side, side))
        drawn: Masks = []
        for low in _best_masks(self.model, embeddings, boxes, self.together):
            drawn += _masks_of_logits(_resized_maps(low, rgb.shape[:2]))
        return drawn


def _boxes_seen(things: Sequence[Thing], shape: tuple[int, ...], seen: tuple[int, int]) -> torch.Tensor:
    """Boxes in the pixels that the network sees a picture at, N x 4.

    Args:
        things: What is asked.
        shape: Of the picture.
        seen: Height and width that it has for the network.
    """
    scale = torch.tensor([seen[1] / shape[1], seen[0] / shape[0]] * 2)
    boxes = torch.tensor([thing.box for thing in things], dtype=torch.float32)
    return boxes.reshape(-1, 4) * scale


def _best_masks(model: Any, embeddings: Any, boxes: torch.Tensor, together: int) -> Iterator[torch.Tensor]:
    """Of each box the mask that the network thinks best, 1 x N x s x s, some boxes after the other."""
    for first in range(0, len(boxes), together):
        some = boxes[first : first + together]
        found = model(image_embeddings=embeddings, input_boxes=some[None].to(model.device))
        best = found.iou_scores[0].argmax(1)
        yield found.pred_masks[0][torch.arange(len(some)), best][None].float()


def _resized_maps(maps: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    return F.interpolate(maps, tuple(shape), mode="bilinear", align_corners=False)


def _masks_of_logits(maps: torch.Tensor) -> Masks:
    return list((maps[0] > 0).cpu().numpy())
