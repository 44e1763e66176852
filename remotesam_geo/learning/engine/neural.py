"""Steps by networks of others, loaded through transformers: a detector, a promptable segmenter, image-text similarity.

Weights are read from safetensors only, of a commit that is named. torchvision is not needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from remotesam_geo.errors import InputError, ModelError
from remotesam_geo.learning.triplets import Thing, Triplet

from .steps import Material, spoken

__all__ = ["DetectedThings", "SamTeacher", "Similar"]


def _loaded(kind: Any, source: str | Path, revision: str | None, local_files_only: bool) -> Any:
    """A model or processor from a folder, or from a commit of a repository."""
    local = Path(source).is_dir()
    if not local and (revision is None or len(revision) != 40):
        raise InputError(
            f"{str(source)!r} is no folder here; of a repository say which commit: revision={revision!r} must be the "
            "40 digits of one."
        )
    safe = (
        {"use_safetensors": True}
        if hasattr(kind, "from_config") or hasattr(kind, "forward")
        else {}
    )
    try:
        return kind.from_pretrained(
            str(source),
            revision=revision if not local else "main",
            local_files_only=local_files_only or local,
            **safe,
        )
    except (OSError, ValueError) as error:
        where = (
            "in this folder" if local else f"to download from huggingface.co/{source} at {revision}"
        )
        raise ModelError(
            f"{kind.__name__} is missing or not whole: its config.json and model.safetensors were {where}. {error}"
        ) from error


@dataclass(frozen=True, kw_only=True)
class SamTeacher:
    """Draws things from their boxes by a promptable segmenter (SAM): a teacher for `TaughtMasks`.

    Attributes:
        model: A `SamModel` of transformers.
        images: Its `SamImageProcessorPil`.
        name: What it is called in reports: repository and commit.
        together: Boxes asked at once.
    """

    model: Any = field(repr=False)
    images: Any = field(repr=False)
    name: str
    together: int = 32

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, revision: str | None = None, local_files_only: bool = False
    ) -> Self:
        """Load it from a folder, or a repository such as "facebook/sam-vit-base" with a commit.

        Raises:
            InputError: A repository without a commit.
            ModelError: It is missing; the message says what would be downloaded.
        """
        from transformers import SamImageProcessorPil, SamModel  # noqa: PLC0415 - takes its time

        model = _loaded(SamModel, source, revision, local_files_only).eval()
        images = _loaded(SamImageProcessorPil, source, revision, local_files_only)
        return cls(model=model, images=images, name=f"{Path(source).name} {revision or ''}".strip())

    @torch.no_grad()
    def __call__(self, rgb: NDArray[np.uint8], things: Sequence[Thing]) -> list[NDArray[np.bool_]]:
        """A mask (H x W) for each thing, from its box; the network's own best of three."""
        ready = self.images(images=Image.fromarray(rgb), return_tensors="pt")
        device = self.model.device
        pixels = ready["pixel_values"].to(device)
        height, width = (int(side) for side in ready["reshaped_input_sizes"][0])
        scale = torch.tensor([width / rgb.shape[1], height / rgb.shape[0]] * 2)
        embeddings = self.model.get_image_embeddings(pixels)
        masks: list[NDArray[np.bool_]] = []
        for first in range(0, len(things), self.together):
            some = things[first : first + self.together]
            boxes = torch.tensor([thing.box for thing in some], dtype=torch.float32) * scale
            found = self.model(image_embeddings=embeddings, input_boxes=boxes[None].to(device))
            best = found.iou_scores[0].argmax(1)
            low = found.pred_masks[0][torch.arange(len(some)), best]  # N x s x s
            side = pixels.shape[-2:]
            whole = F.interpolate(low[None].float(), side, mode="bilinear", align_corners=False)
            own = whole[..., :height, :width]
            drawn = F.interpolate(own, rgb.shape[:2], mode="bilinear", align_corners=False)[0] > 0
            masks += list(drawn.cpu().numpy())
        return masks


@dataclass(frozen=True, kw_only=True)
class DetectedThings:
    """Finds things by an open-vocabulary detector (Grounding DINO): a first step where there are no labels.

    It gives boxes without masks: let `TaughtMasks` follow. What it overlooks is taken not to be there.

    Attributes:
        model: A `GroundingDinoForObjectDetection` of transformers.
        images: Its `GroundingDinoImageProcessorPil`.
        words: Its tokenizer, a fast one.
        name: What it is called in reports.
        classes: What to look for.
        least: The probability that is needed.
    """

    model: Any = field(repr=False)
    images: Any = field(repr=False)
    words: Any = field(repr=False)
    name: str
    classes: tuple[str, ...]
    least: float = 0.35

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        classes: Sequence[str],
        revision: str | None = None,
        least: float = 0.35,
        local_files_only: bool = False,
    ) -> Self:
        """Load it from a folder, or a repository such as "IDEA-Research/grounding-dino-tiny" with a commit.

        Raises:
            InputError: A repository without a commit.
            ModelError: It is missing; the message says what would be downloaded.
        """
        from transformers import (  # noqa: PLC0415 - takes its time
            AutoTokenizer,
            GroundingDinoForObjectDetection,
            GroundingDinoImageProcessorPil,
        )

        model = _loaded(GroundingDinoForObjectDetection, source, revision, local_files_only)
        return cls(
            model=model.eval(),
            images=_loaded(GroundingDinoImageProcessorPil, source, revision, local_files_only),
            words=_loaded(AutoTokenizer, source, revision, local_files_only),
            name=f"{Path(source).name} {revision or ''}".strip(),
            classes=tuple(classes),
            least=least,
        )

    @torch.no_grad()
    def __call__(self, material: Material) -> Material:
        """The material with what was found, beside what was known."""
        rgb = material.rgb
        ready = self.images(images=Image.fromarray(rgb), return_tensors="pt")
        text, spans = _listed([spoken(name) for name in self.classes])
        tokens = self.words(text, return_tensors="pt", return_offsets_mapping=True)
        offsets = tokens["offset_mapping"][0].tolist()
        device = self.model.device
        found = self.model(
            pixel_values=ready["pixel_values"].to(device),
            input_ids=tokens["input_ids"].to(device),
            attention_mask=tokens["attention_mask"].to(device),
            token_type_ids=torch.zeros_like(tokens["input_ids"]).to(device),
        )
        chances = found.logits[0].sigmoid().cpu()  # queries x tokens
        by_class = torch.stack(
            [
                chances[:, [k for k, (a, b) in enumerate(offsets) if start <= a < b <= end]].amax(1)
                for start, end in spans
            ],
            1,
        )
        score, which = by_class.max(1)
        boxes = _corners(found.pred_boxes[0].cpu(), rgb.shape[0], rgb.shape[1])
        things = [
            Thing(
                label=self.classes[int(which[k])],
                box=(boxes[k][0], boxes[k][1], boxes[k][2], boxes[k][3]),
                id=f"found {k}",
                attributes={"score": f"{float(score[k]):.3f}"},
            )
            for k in range(len(boxes))
            if score[k] >= self.least and boxes[k][2] > boxes[k][0] and boxes[k][3] > boxes[k][1]
        ]
        example = replace(material.example, things=(*material.example.things, *things))
        return replace(material, example=example)


def _listed(names: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Names as the detector is asked them, each ended by a point, and where each stands."""
    text, spans = "", []
    for name in names:
        spans.append((len(text), len(text) + len(name)))
        text += f"{name}. "
    return text.rstrip(), spans


def _corners(boxes: torch.Tensor, height: int, width: int) -> list[list[float]]:
    """Centres and sizes as shares of the picture, N x 4, to x0, y0, x1, y1 in its pixels."""
    x, y, w, h = boxes.float().unbind(1)
    corners = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1).clamp(0, 1)
    found: list[list[float]] = (corners * torch.tensor([width, height] * 2)).tolist()
    return found


@dataclass(frozen=True, kw_only=True)
class Similar:
    """Drops expressions that an image-text model (SigLIP, SigLIP2) does not find like what is masked.

    What is looked at is the box round the mask with a margin, all outside the mask darkened by half.

    Attributes:
        model: A `SiglipModel` or `Siglip2Model` of transformers.
        images: Its image processor; the `...Pil` ones need no torchvision.
        words: Its tokenizer.
        name: What it is called in reports.
        least: The cosine of picture and text that is needed.
        margin: Share of the box's longer side that is shown round it.
    """

    model: Any = field(repr=False)
    images: Any = field(repr=False)
    words: Any = field(repr=False)
    name: str
    least: float = 0.05
    margin: float = 0.25

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        least: float = 0.05,
        local_files_only: bool = False,
    ) -> Self:
        """Load it from a folder, or a repository such as "google/siglip2-base-patch16-256" with a commit.

        Raises:
            InputError: A repository without a commit.
            ModelError: It is missing; the message says what would be downloaded.
        """
        from transformers import AutoTokenizer, SiglipImageProcessorPil, SiglipModel  # noqa: PLC0415 - takes its time

        return cls(
            model=_loaded(SiglipModel, source, revision, local_files_only).eval(),
            images=_loaded(SiglipImageProcessorPil, source, revision, local_files_only),
            words=_loaded(AutoTokenizer, source, revision, local_files_only),
            name=f"{Path(source).name} {revision or ''}".strip(),
            least=least,
        )

    def __call__(self, triplet: Triplet, rgb: NDArray[np.uint8]) -> str | None:
        """Why it is dropped."""
        if triplet.mask.box is None:
            return None
        return None if self.cosine(triplet, rgb) >= self.least else "unlike its words"

    @torch.no_grad()
    def cosine(self, triplet: Triplet, rgb: NDArray[np.uint8]) -> float:
        """How like the masked region and the words are, -1 to 1."""
        shown = Image.fromarray(self.region(triplet, rgb))
        pixels = self.images(images=shown, return_tensors="pt")["pixel_values"]
        length = self.model.config.text_config.max_position_embeddings
        # SigLIP was trained on texts padded to their full length, without a mask.
        ids = self.words(
            triplet.expression.lower(), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )["input_ids"]  # fmt: skip
        device = self.model.device
        found = self.model(input_ids=ids.to(device), pixel_values=pixels.to(device))
        return float(F.cosine_similarity(found.image_embeds, found.text_embeds)[0])

    def region(self, triplet: Triplet, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What is looked at, h x w x 3."""
        box = triplet.mask.box
        if box is None:
            raise InputError(
                f"the mask of {triplet.expression!r} is empty: there is nothing to look at."
            )
        x0, y0, x1, y1 = box
        off = round(self.margin * max(x1 - x0, y1 - y0))
        shown = np.where(triplet.mask.pixels()[..., None], rgb, rgb // 2)
        return np.ascontiguousarray(shown[max(0, y0 - off) : y1 + off, max(0, x0 - off) : x1 + off])
