"""A vision-language model that writes: about a picture, or about a text."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from remotesam_geo.errors import InputError, ModelError
from remotesam_geo.predictors.pinned_weights import Pretrained

from .pixels import qwen_pixels

__all__ = ["QwenWriter"]

START, END, STOP = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
LOOK, SEEN = "<|vision_start|>", "<|vision_end|>"
SYSTEM = "You are a helpful assistant."  # what the published model was tuned with


@dataclass(frozen=True, kw_only=True)
class QwenWriter(Pretrained):
    """Answers a request in words, with a picture or without one (Qwen2-VL): the writer of `Captioned`.

    Of all that may follow it always writes what is likeliest, so that the same request has the same answer.

    Attributes:
        model: A `Qwen2VLForConditionalGeneration` of transformers.
        words: Its tokenizer.
        name: What it is called in reports: repository and commit.
        longest: Tokens that an answer has at most.
        most: Pixels at which it looks at a picture at most; each 28 x 28 of them are a token.
    """

    _SOURCE: ClassVar[str] = "Qwen/Qwen2-VL-2B-Instruct"
    _PARTS: ClassVar[dict[str, str]] = {"model": "Qwen2VLForConditionalGeneration", "words": "AutoTokenizer"}

    model: Any = field(repr=False)
    words: Any = field(repr=False)
    name: str
    longest: int = 512
    most: int = 28 * 28 * 1280

    def __post_init__(self) -> None:
        if self.longest < 1:
            raise InputError(f"longest={self.longest}: give a number of tokens above 0")
        unknown = [name for name in (START, END, STOP, LOOK, SEEN) if self._id(name) is None]
        if unknown:
            raise ModelError(f"the tokenizer of {self.name} does not know {unknown}: take that of a Qwen2-VL.")

    @torch.no_grad()
    def __call__(self, rgb: NDArray[np.uint8] | None, request: str) -> str:
        """What it writes.

        Args:
            rgb: H x W x 3, or None.
            request: In words.
        """
        from transformers import GenerationConfig  # noqa: PLC0415 - takes its time

        asked = {name: value.to(self.model.device) for name, value in self.inputs(rgb, request).items()}
        # The configuration that comes with the model draws at random.
        how = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False,
            max_new_tokens=self.longest,
            eos_token_id=[self._id(END), self._id(STOP)],
            pad_token_id=self._id(STOP),
        )
        written = self.model.generate(**asked, generation_config=how)
        new = written[0, asked["input_ids"].shape[1] :]
        text: str = self.words.decode(new, skip_special_tokens=True)
        return text.strip()

    def inputs(self, rgb: NDArray[np.uint8] | None, request: str) -> dict[str, torch.Tensor]:
        """What the model is given: tokens, and the patches of the picture with their grid."""
        ready: dict[str, torch.Tensor] = {}
        tokens = 0
        if rgb is not None:
            sight = self.model.config.vision_config
            patches, grid = qwen_pixels(
                rgb,
                patch=sight.patch_size,
                merge=sight.spatial_merge_size,
                frames=sight.temporal_patch_size,
                least=4 * (sight.patch_size * sight.spatial_merge_size) ** 2,
                most=self.most,
            )
            ready = {"pixel_values": patches, "image_grid_thw": grid}
            tokens = len(patches) // sight.spatial_merge_size**2
        image = self.model.config.image_token_id
        ids = torch.tensor([self._talk(request, [image] * tokens)])
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": (ids == image).int(),
            **ready,
        }

    def _talk(self, request: str, image: list[int]) -> list[int]:
        """A talk of one request, as the model knows talks: who speaks, and what."""
        # Signs that would end the request are taken apart: captions of a model are among what is asked.
        said = self._ids(request.replace("<|", "< |"))
        if image:
            said = [self._sign(LOOK), *image, self._sign(SEEN), *said]
        turn, line, end = self._sign(START), self._ids("\n"), self._sign(END)
        return [
            *(turn, *self._ids(f"system\n{SYSTEM}"), end, *line),
            *(turn, *self._ids("user\n"), *said, end, *line),
            *(turn, *self._ids("assistant\n")),
        ]

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.words(text, add_special_tokens=False)["input_ids"]
        return ids

    def _sign(self, name: str) -> int:
        number = self._id(name)
        if number is None:
            raise ModelError(f"the tokenizer of {self.name} does not know {name}")
        return number

    def _id(self, name: str) -> int | None:
        number = self.words.get_vocab().get(name)
        return None if number is None else int(number)
