"""How like its words a masked region is, by an image-text model: a filter of the engine."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from remotesam_geo.errors import InputError
from remotesam_geo.learning.datasets import Triplet
from remotesam_geo.learning.labelling.likeness import ChosenLeast, choose_least, right_and_wrong
from remotesam_geo.predictors.pinned_weights import Pretrained

__all__ = ["Similar"]


@dataclass(frozen=True, kw_only=True)
class Similar(Pretrained):
    """Drops expressions that an image-text model (SigLIP, SigLIP2) does not find like what is masked.

    What is looked at is the box round the mask with a margin, all outside the mask darkened by half.

    Attributes:
        model: A `SiglipModel` of transformers.
        images: Its image processor; the `...Pil` ones need no torchvision.
        words: Its tokenizer.
        name: What it is called in reports.
        least: The cosine of picture and text that is needed; `calibrated` chooses one.
        margin: Share of the box's longer side that is shown round it.
    """

    _SOURCE: ClassVar[str] = "google/siglip2-base-patch16-256"
    _PARTS: ClassVar[dict[str, str]] = {
        "model": "SiglipModel",
        "images": "SiglipImageProcessorPil",
        "words": "AutoTokenizer",
    }

    model: Any = field(repr=False)
    images: Any = field(repr=False)
    words: Any = field(repr=False)
    name: str
    least: float = 0.05
    margin: float = 0.25

    def __call__(self, triplet: Triplet, rgb: NDArray[np.uint8]) -> str | None:
        """Why it is dropped."""
        if triplet.mask.box is None:
            return None
        return None if self.cosine(triplet, rgb) >= self.least else "unlike its words"

    def calibrated(
        self,
        triplets: Iterable[Triplet],
        *,
        precision: float = 0.95,
        share: float | None = None,
        most: int = 500,
        seed: int = 0,
    ) -> tuple[Self, ChosenLeast]:
        """This filter with a threshold chosen on triplets that are trusted, and how it was chosen.

        Args:
            triplets: As `right_and_wrong` takes them.
            precision: As in `choose_least`.
            share: As in `choose_least`.
            most: Pairs of each kind.
            seed: Of the drawing.

        Raises:
            InputError: Nothing to choose by, or no threshold is that precise.
        """
        right, wrong = (
            [self.cosine(one, one.picture.read()) for one in some]
            for some in right_and_wrong(triplets, most=most, seed=seed)
        )
        chosen = choose_least(right, wrong, precision=precision, share=share)
        return replace(self, least=chosen.least), chosen

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
            raise InputError(f"the mask of {triplet.expression!r} is empty: there is nothing to look at.")
        x0, y0, x1, y1 = box
        off = round(self.margin * max(x1 - x0, y1 - y0))
        shown = np.where(triplet.mask.pixels()[..., None], rgb, rgb // 2)
        return np.ascontiguousarray(shown[max(0, y0 - off) : y1 + off, max(0, x0 - off) : x1 + off])
