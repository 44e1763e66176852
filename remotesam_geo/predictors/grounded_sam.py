"""Text to boxes to masks: an open-vocabulary detector (Grounding DINO, OWLv2) and SAM 2.1."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from remotesam_geo.errors import number_in

from .adapter import Adapter, check_image_size, plain_phrase
from .box_masks import Box, Masks, sam2_embeddings, sam2_masks
from .pinned_weights import PinnedWeights
from .text_boxes import grounding_dino_boxes, one_phrase, owlv2_boxes

__all__ = ["GroundedSam", "OwlSam"]

_Seen = tuple[NDArray[np.uint8], list[Any]]
"""An image, and its embeddings once they are needed."""

SAM = "facebook/sam2.1-hiera-tiny"


class _BoxesAndMasks(Adapter):
    """A detector finds boxes for a text, SAM 2.1 (Ravi et al. 2024) segments what is in them.

    Every expression is one pass of the detector. Class names are given as they are, without "in the image".

    The probability of a pixel is that of the most probable box whose mask covers it, scaled so that `least`, the
    detector's own threshold, becomes 0.5: the default threshold finds what the detector finds, a higher one the more
    certain part of it.

    Args:
        detector: A detector of transformers, of the class `DETECTOR`.
        processor: Its image processor, of the class `PROCESSOR`.
        tokenizer: Its tokenizer, a fast one.
        segmenter: A `Sam2Model` of transformers.
        image_size: Side of the images in pixels.
        least: Probability that a box needs; by default that of the detector's authors.
        device: "auto", "cpu", "cuda" or "mps".
        precision: "auto", "float32" or "bfloat16".
        origins: Where the weights of the two come from, for `recipe`.
    """

    DETECTOR: ClassVar[str]
    PROCESSOR: ClassVar[str]
    LEAST: ClassVar[float]
    RETURNS = "instances"

    def __init__(
        self,
        detector: Any,
        processor: Any,
        tokenizer: Any,
        segmenter: Any,
        *,
        image_size: int | None = None,
        least: float | None = None,
        device: str = "auto",
        precision: str = "auto",
        origins: Sequence[PinnedWeights] | None = None,
    ) -> None:
        image_size, least = self._choices(image_size, least)
        super().__init__(
            [detector, segmenter], origins, image_size=image_size, device=device, precision=precision,
            options={"least": least},
        )  # fmt: skip
        self._detector, self._segmenter = self._placed(detector), self._placed(segmenter)
        self._processor, self._tokenizer = processor, tokenizer

    @classmethod
    def open(
        cls,
        sources: Sequence[str | Path] | None = None,
        *,
        revisions: Sequence[str | None] | None = None,
        device: str = "auto",
        precision: str = "auto",
        local_files_only: bool = False,
        image_size: int | None = None,
        least: float | None = None,
    ) -> Self:
        """See `Adapter.open`; `image_size` and `least` are those of the class."""
        image_size, least = cls._choices(image_size, least)
        words, masks = origins = cls.origins(sources, revisions, local_files_only)
        import transformers  # noqa: PLC0415 - takes its time

        return cls(
            words.network(getattr(transformers, cls.DETECTOR), "cpu"),
            words.tool(getattr(transformers, cls.PROCESSOR)),
            words.tool(transformers.AutoTokenizer),
            masks.network(transformers.Sam2Model, "cpu"),
            image_size=image_size, least=least, device=device, precision=precision, origins=origins,
        )  # fmt: skip

    @classmethod
    def _choices(cls, image_size: int | None, least: float | None) -> tuple[int, float]:
        size = cls.SIZE if image_size is None else image_size
        share = cls.LEAST if least is None else least
        check_image_size(size, 1)
        number_in("least", share, 0, 1, open_low=True)
        return size, share

    @abstractmethod
    def _boxes(self, image: NDArray[np.uint8], name: str) -> list[tuple[int, float, Box]]:
        """Boxes for a text, each with 0 and its probability."""

    def instances(
        self, images: NDArray[np.uint8], expressions: Sequence[str]
    ) -> list[list[tuple[NDArray[np.bool_], NDArray[np.float32]]]]:
        """Segment each object alone.

        Args:
            images: B x S x S x 3.
            expressions: P texts.

        Returns:
            For each image and each expression the masks of its objects (N x S x S), and their probabilities (N), scaled
            as those of `predict`; the most probable one first.
        """
        self._check_inputs(images, expressions)
        with self._computing():
            return [[self._instances(seen, each) for each in expressions] for seen in map(self._see, images)]

    def _instances(self, seen: _Seen, expression: str) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        image, embeddings = seen
        found = self._boxes(image, plain_phrase(expression))
        found.sort(key=lambda one: -one[1])
        masks: Masks = []
        if found:
            if not embeddings:
                embeddings.append(sam2_embeddings(self._segmenter, image))
            boxes = [box for _, _, box in found]
            masks = sam2_masks(self._segmenter, image, boxes, embeddings=embeddings[0])
        empty = np.zeros((0, *image.shape[:2]), np.bool_)
        least = self.options["least"]
        scaled = [0.5 + 0.5 * (score - least) / (1 - least) if least < 1 else 1.0 for _, score, _ in found]
        return np.stack(masks) if masks else empty, np.clip(np.array(scaled, np.float32), 0.501, 1)

    def _see(self, image: NDArray[np.uint8]) -> _Seen:
        return image, []

    def _maps(self, seen: _Seen, expressions: Sequence[str]) -> Tensor:
        done = dict[str, Tensor]()
        for each in expressions:
            if each in done:
                continue
            chance = np.zeros(seen[0].shape[:2], np.float32)
            for mask, score in zip(*self._instances(seen, each), strict=True):
                np.maximum(chance, score, out=chance, where=mask)
            done[each] = torch.from_numpy(chance)
        return torch.stack([done[each] for each in expressions])


class GroundedSam(_BoxesAndMasks):
    """Grounding DINO (Liu et al. 2023) and SAM 2.1: text to boxes to masks.

    Weights of IDEA-Research/grounding-dino-tiny and facebook/sam2.1-hiera-tiny, both Apache-2.0. Neither was trained
    on pictures from above.
    """

    NAME, SIZE, LEAST = "grounding-dino", 1024, 0.35
    SOURCES = ("IDEA-Research/grounding-dino-tiny", SAM)
    DETECTOR, PROCESSOR = "GroundingDinoForObjectDetection", "GroundingDinoImageProcessorPil"

    def _boxes(self, image: NDArray[np.uint8], name: str) -> list[tuple[int, float, Box]]:
        phrase, least = one_phrase(name), self.options["least"]
        names = [phrase] if phrase else []
        return grounding_dino_boxes(self._detector, self._processor, self._tokenizer, image, names, least=least)


class OwlSam(_BoxesAndMasks):
    """OWLv2 (Minderer et al. 2023) and SAM 2.1: text to boxes to masks.

    Weights of google/owlv2-base-patch16-ensemble and facebook/sam2.1-hiera-tiny, both Apache-2.0. Neither was trained
    on pictures from above.
    """

    NAME, SIZE, LEAST = "owlv2", 960, 0.2
    SOURCES = ("google/owlv2-base-patch16-ensemble", SAM)
    DETECTOR, PROCESSOR = "Owlv2ForObjectDetection", "Owlv2ImageProcessorPil"

    def _boxes(self, image: NDArray[np.uint8], name: str) -> list[tuple[int, float, Box]]:
        least = self.options["least"]
        return owlv2_boxes(self._detector, self._processor, self._tokenizer, image, [name], least=least)
