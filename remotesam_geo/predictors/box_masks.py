"""Masks from boxes, by promptable segmenters (SAM and SAM 2)."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from .image_tensors import square_pixels

__all__ = ["Box", "Masks", "sam2_embeddings", "sam2_masks", "sam_masks"]

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the image."""
Masks = list[NDArray[np.bool_]]


@torch.no_grad()
def sam_masks(model: Any, processor: Any, rgb: NDArray[np.uint8], boxes: Sequence[Box], *, together: int = 32) -> Masks:
    """Segment what is in each box with SAM.

    Args:
        model: A `SamModel` of transformers.
        processor: Its `SamImageProcessorPil`.
        rgb: The image (H x W x 3).
        boxes: N boxes.
        together: Boxes that are predicted at once.

    Returns:
        A mask (H x W) for each box: the one of three that the network thinks best.
    """
    ready = processor(images=Image.fromarray(rgb), return_tensors="pt")
    pixels = ready["pixel_values"].to(model.device)
    height, width = (int(side) for side in ready["reshaped_input_sizes"][0])
    embeddings = model.get_image_embeddings(pixels)
    seen = _boxes_seen(boxes, rgb.shape, (height, width))
    drawn: Masks = []
    for low in _best_masks(model, embeddings, seen, together):
        whole = _resized_maps(low, pixels.shape[-2:])[..., :height, :width]  # the rest was padding
        drawn += _masks_of_logits(_resized_maps(whole, rgb.shape[:2]))
    return drawn


@torch.no_grad()
def sam2_embeddings(model: Any, rgb: NDArray[np.uint8]) -> Any:
    """Encode an image (H x W x 3) for `sam2_masks`: most of the work, and the same for all boxes."""
    side = _sam2_side(model)
    return model.get_image_embeddings(square_pixels(rgb, side).to(model.device, model.dtype))


@torch.no_grad()
def sam2_masks(
    model: Any, rgb: NDArray[np.uint8], boxes: Sequence[Box], *, together: int = 32, embeddings: Any = None
) -> Masks:
    """Segment what is in each box with SAM 2; see `sam_masks`.

    Args:
        model: A `Sam2Model` of transformers.
        rgb: The image (H x W x 3).
        boxes: N boxes.
        together: Boxes that are predicted at once.
        embeddings: Of the image, where they are known already.
    """
    side = _sam2_side(model)
    if embeddings is None:
        embeddings = sam2_embeddings(model, rgb)
    seen = _boxes_seen(boxes, rgb.shape, (side, side))
    drawn: Masks = []
    for low in _best_masks(model, embeddings, seen, together):
        drawn += _masks_of_logits(_resized_maps(low, rgb.shape[:2]))
    return drawn


def _sam2_side(model: Any) -> int:
    wanted = model.config.prompt_encoder_config.image_size
    return int(wanted if isinstance(wanted, int) else wanted[0])


def _boxes_seen(boxes: Sequence[Box], shape: tuple[int, ...], seen: tuple[int, int]) -> torch.Tensor:
    """Boxes in the pixels that the network sees an image at, N x 4.

    Args:
        boxes: In pixels of the image.
        shape: Of the image.
        seen: Height and width that it has for the network.
    """
    scale = torch.tensor([seen[1] / shape[1], seen[0] / shape[0]] * 2)
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4) * scale


def _best_masks(model: Any, embeddings: Any, boxes: torch.Tensor, together: int) -> Iterator[torch.Tensor]:
    """Of each box the mask that the network thinks best, 1 x N x s x s, some boxes after the other."""
    for first in range(0, len(boxes), together):
        some = boxes[first : first + together]
        found = model(image_embeddings=embeddings, input_boxes=some[None].to(model.device, model.dtype))
        best = found.iou_scores[0].argmax(1)
        yield found.pred_masks[0][torch.arange(len(some)), best][None].float()


def _resized_maps(maps: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    return F.interpolate(maps, tuple(shape), mode="bilinear", align_corners=False)


def _masks_of_logits(maps: torch.Tensor) -> Masks:
    return list((maps[0] > 0).cpu().numpy())
