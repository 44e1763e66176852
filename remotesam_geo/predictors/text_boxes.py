"""Boxes from text, by open-vocabulary detectors (Grounding DINO and OWLv2)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from .box_masks import Box

__all__ = ["grounding_dino_boxes", "one_phrase", "owlv2_boxes"]


@torch.no_grad()
def grounding_dino_boxes(
    model: Any, processor: Any, tokenizer: Any, rgb: NDArray[np.uint8], names: Sequence[str], *, least: float
) -> list[tuple[int, float, Box]]:
    """Detect what is named in an image.

    Args:
        model: A `GroundingDinoForObjectDetection` of transformers.
        processor: Its `GroundingDinoImageProcessorPil`.
        tokenizer: Its tokenizer, a fast one.
        rgb: The image (H x W x 3).
        names: What to look for, all at once.
        least: The probability that is needed.

    Returns:
        For each box the number of its name, its probability, and its corners.
    """
    if not names:
        return []
    ready = processor(images=Image.fromarray(rgb), return_tensors="pt")
    text, spans = _detector_prompt(names)
    tokens = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
    offsets = tokens["offset_mapping"][0].tolist()
    device = model.device
    found = model(
        pixel_values=ready["pixel_values"].to(device, model.dtype),
        input_ids=tokens["input_ids"].to(device),
        attention_mask=tokens["attention_mask"].to(device),
        token_type_ids=torch.zeros_like(tokens["input_ids"]).to(device),
    )
    chances = found.logits[0].float().sigmoid().cpu()  # queries x tokens
    by_name = torch.stack(
        [chances[:, [k for k, (a, b) in enumerate(offsets) if start <= a < b <= end]].amax(1) for start, end in spans],
        1,
    )
    score, which = by_name.max(1)
    corners = _corners_of_boxes(found.pred_boxes[0].cpu(), rgb.shape[0], rgb.shape[1])
    return [
        (int(which[k]), float(score[k]), box)
        for k, box in enumerate(corners)
        if score[k] >= least and box[2] > box[0] and box[3] > box[1]
    ]


@torch.no_grad()
def owlv2_boxes(
    model: Any, processor: Any, tokenizer: Any, rgb: NDArray[np.uint8], names: Sequence[str], *, least: float
) -> list[tuple[int, float, Box]]:
    """Detect what is named in an image; see `grounding_dino_boxes`.

    Args:
        model: An `Owlv2ForObjectDetection` of transformers.
        processor: Its `Owlv2ImageProcessorPil`.
        tokenizer: Its tokenizer.
        rgb: The image (H x W x 3). It is padded to a square at the right and at the bottom.
        names: What to look for, all at once.
        least: The probability that is needed.
    """
    if not names:
        return []
    ready = processor(images=Image.fromarray(rgb), return_tensors="pt")
    longest = model.config.text_config.max_position_embeddings
    tokens = tokenizer(list(names), padding="max_length", truncation=True, max_length=longest, return_tensors="pt")
    found = model(
        pixel_values=ready["pixel_values"].to(model.device, model.dtype),
        input_ids=tokens["input_ids"].to(model.device),
        attention_mask=tokens["attention_mask"].to(model.device),
    )
    score, which = found.logits[0].float().sigmoid().cpu().max(1)
    side = max(rgb.shape[:2])
    return [
        (int(which[k]), float(score[k]), kept)
        for k, box in enumerate(_corners_of_boxes(found.pred_boxes[0].cpu(), side, side))
        if score[k] >= least and (kept := _box_in_image(box, rgb.shape)) is not None
    ]


def _box_in_image(box: Box, shape: tuple[int, ...]) -> Box | None:
    """The part of a box that lies in the image."""
    x0, y0, x1, y1 = box[0], box[1], min(box[2], shape[1]), min(box[3], shape[0])
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def one_phrase(text: str) -> str:
    """A text as one phrase: a point within it would end the phrase for the detector."""
    return " ".join(text.lower().replace(".", " ").split())


def _detector_prompt(names: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Names as the detector is asked them, each ended by a point, and where each stands."""
    text, spans = "", []
    for name in names:
        spans.append((len(text), len(text) + len(name)))
        text += f"{name}. "
    return text.rstrip(), spans


def _corners_of_boxes(boxes: torch.Tensor, height: int, width: int) -> list[Box]:
    """Centres and sizes as shares of the image, N x 4, to x0, y0, x1, y1 in its pixels."""
    x, y, w, h = boxes.float().unbind(1)
    corners = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1).clamp(0, 1)
    return [(row[0], row[1], row[2], row[3]) for row in (corners * torch.tensor([width, height] * 2)).tolist()]
