"""CLIPSeg: text to probabilities; light enough for CPUs."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .adapter import DTYPES, Adapter, check_image_size, plain_phrase
from .image_tensors import IMAGENET, square_pixels
from .pinned_weights import PinnedWeights

__all__ = ["ClipSeg"]

PATCH = 16
TEXTS_KEPT = 512


class ClipSeg(Adapter):
    """CLIPSeg (Lüddecke and Ecker 2022): a small decoder on CLIP ViT-B/16, for any text.

    150 million parameters; weights of CIDAS/clipseg-rd64-refined, Apache-2.0. It was trained on everyday pictures,
    not on pictures from above: expect coarse masks (a cell of 16 pixels) and many misses of small objects. Class names
    are asked as they are, without "in the image".

    Args:
        model: A `CLIPSegForImageSegmentation` of transformers.
        tokenizer: Its tokenizer, a fast one.
        image_size: Side of the images, a multiple of 16 pixels. It was trained at 352.
        device: "auto", "cpu", "cuda" or "mps".
        precision: "auto", "float32" or "bfloat16".
        origin: Where the weights come from, for `recipe`.
    """

    NAME, SIZE, RETURNS = "clipseg", 352, "probabilities"
    SOURCES = ("CIDAS/clipseg-rd64-refined",)

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        image_size: int = SIZE,
        device: str = "auto",
        precision: str = "auto",
        origin: PinnedWeights | None = None,
    ) -> None:
        check_image_size(image_size, model.config.vision_config.patch_size)
        super().__init__(
            [model], None if origin is None else [origin], image_size=image_size, device=device, precision=precision,
            options={},
        )  # fmt: skip
        self._model, self._tokenizer = self._placed(model), tokenizer
        self._text = functools.lru_cache(maxsize=TEXTS_KEPT)(self._encoded_text)  # called under the adapter's lock

    @classmethod
    def open(
        cls,
        sources: Sequence[str | Path] | None = None,
        *,
        revisions: Sequence[str | None] | None = None,
        device: str = "auto",
        precision: str = "auto",
        local_files_only: bool = False,
        image_size: int = SIZE,
    ) -> Self:
        """See `Adapter.open`; `image_size` is a multiple of 16 pixels."""
        check_image_size(image_size, PATCH)
        (origin,) = cls.origins(sources, revisions, local_files_only)
        from transformers import AutoTokenizer, CLIPSegForImageSegmentation  # noqa: PLC0415 - takes its time

        return cls(
            origin.network(CLIPSegForImageSegmentation, "cpu"), origin.tool(AutoTokenizer), image_size=image_size,
            device=device, precision=precision, origin=origin,
        )  # fmt: skip

    def cut_words(self, expression: str) -> str:
        """The end of an expression that it does not read."""
        offsets = self._tokens(expression, truncation=False)["offset_mapping"]
        longest = self._model.config.text_config.max_position_embeddings
        return plain_phrase(expression)[offsets[longest - 2][1] :].strip() if len(offsets) > longest else ""

    def _tokens(self, expression: str, *, truncation: bool) -> Any:
        longest = self._model.config.text_config.max_position_embeddings
        return self._tokenizer(
            plain_phrase(expression), truncation=truncation, max_length=longest, return_offsets_mapping=True
        )

    def _encoded_text(self, expression: str) -> Tensor:
        tokens = self._tokens(expression, truncation=True)
        ids, mask = (torch.tensor([tokens[name]], device=self.device) for name in ("input_ids", "attention_mask"))
        features: Tensor = self._model.get_conditional_embeddings(batch_size=1, input_ids=ids, attention_mask=mask)
        return features

    def _see(self, image: NDArray[np.uint8]) -> list[Tensor]:
        pixels = square_pixels(image, self.image_size, IMAGENET).to(self.device, DTYPES[self.precision])
        seen = self._model.clip.vision_model(pixels, output_hidden_states=True, interpolate_pos_encoding=True)
        return [seen.hidden_states[layer + 1] for layer in self._model.extract_layers]

    def _maps(self, seen: list[Tensor], expressions: Sequence[str]) -> Tensor:
        texts = torch.cat([self._text(each) for each in expressions])
        layers = [layer.expand(len(texts), -1, -1) for layer in seen]
        logits: Tensor = self._model.decoder(layers, texts).logits
        return logits.reshape(len(texts), self.image_size, self.image_size).float().sigmoid()
