"""What the adapters on networks of transformers share: batches, devices, precision, cached text, recipes."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from remotesam_geo.errors import InputError, ModelError, number_in
from remotesam_geo.model.hardware import choose_device, choose_precision, exact_float32, halved_batch, is_out_of_memory
from remotesam_geo.model.weights import weights_sha256
from remotesam_geo.words import CLASS_TEMPLATE

from .pinned_weights import PinnedWeights

__all__ = ["Adapter", "plain_phrase"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
GPU_BATCH = 8


class Adapter(ABC):
    """A network of transformers as a `Predictor`.

    The same image and expression get the same probabilities whatever they are predicted with: images are encoded one
    at a time, each expression is encoded alone, and batches have one size, the last one padded. Any number of threads
    may use it.

    Attributes:
        image_size: Side of the square images it takes, in pixels.
        device: Where it computes.
        precision: "float32" or "bfloat16".
        batch: Expressions that are predicted at once. It is halved, with a warning, when memory runs out.
        options: Choices that its probabilities depend on, by name.
    """

    NAME: ClassVar[str]
    """What `RemoteSAM.from_pretrained` calls it."""
    SOURCES: ClassVar[tuple[str, ...]]
    """Its repositories, that of the network itself first."""
    SIZE: ClassVar[int]
    """The image size where none is chosen."""
    RETURNS: ClassVar[str]
    """What it returns, for people."""

    def __init__(
        self,
        networks: Sequence[nn.Module],
        origins: Sequence[PinnedWeights] | None,
        *,
        image_size: int,
        device: str,
        precision: str,
        options: dict[str, Any],
    ) -> None:
        self.image_size, self.options = image_size, options
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.batch = 1 if self.device.type == "cpu" else GPU_BATCH
        self._weights = " + ".join(weights_sha256(network)[:16] for network in networks)
        self._origins = origins
        self._lock = Lock()

    def _placed(self, network: nn.Module) -> Any:
        """A network on the device, in the precision; one that a caller gave stays as it is."""
        own = copy.deepcopy(network) if self._origins is None else network
        return own.requires_grad_(False).eval().to(self.device, DTYPES[self.precision])

    @classmethod
    @abstractmethod
    def open(
        cls,
        sources: Sequence[str | Path] | None = None,
        *,
        revisions: Sequence[str | None] | None = None,
        device: str = "auto",
        precision: str = "auto",
        local_files_only: bool = False,
        image_size: int = 0,
    ) -> Self:
        """Open it with its weights.

        Args:
            sources: A folder or repository for each of its networks; by default the pinned repositories.
            revisions: The commit of each repository; pinned repositories need none.
            device: "auto", "cpu", "cuda" or "mps".
            precision: "auto" for bfloat16 where the hardware is fast at it, "float32" or "bfloat16".
            local_files_only: Never use the network.
            image_size: Side of the images in pixels; an adapter may have further choices.

        Raises:
            InputError: A source without a commit, or an option that there is not.
            ModelError: The weights are missing; the message says what would be downloaded.
        """

    @classmethod
    def origins(
        cls,
        sources: Sequence[str | Path] | None,
        revisions: Sequence[str | None] | None,
        local_files_only: bool,
    ) -> list[PinnedWeights]:
        """Where the weights of each of its networks come from."""
        places = list(cls.SOURCES if sources is None else sources)
        if len(places) != len(cls.SOURCES):
            raise InputError(f"{cls.NAME} has {len(cls.SOURCES)} networks: give as many sources, not {len(places)}")
        commits = [None] * len(places) if revisions is None else list(revisions)
        if len(commits) != len(places):
            raise InputError(f"{len(commits)} revisions for {len(places)} sources: give one for each")
        return [
            PinnedWeights.of(place, commit, local_files_only) for place, commit in zip(places, commits, strict=True)
        ]

    @property
    def identity(self) -> str:
        """Its name, the hash of its weights, its image size and its options."""
        chosen = "".join(f", {name} {value}" for name, value in sorted(self.options.items()))
        return f"{self.NAME} {self._weights}, {self.image_size} px{chosen}"

    @property
    def recipe(self) -> dict[str, Any]:
        """How another process opens the same predictor; see `open_recipe`.

        Raises:
            ModelError: Its weights are those of this process alone.
        """
        if self._origins is None:
            raise ModelError(f"another process cannot open this {self.NAME}: its weights were made in this process")
        return {
            "adapter": self.NAME,
            "sources": [each.place for each in self._origins],
            "revisions": [each.revision for each in self._origins],
            "precision": self.precision,
            "options": {"image_size": self.image_size, **self.options},
            "identity": self.identity,
        }

    def predict(self, images: NDArray[np.uint8], expressions: Sequence[str]) -> NDArray[np.float32]:
        """Probabilities; see `Predictor.predict`."""
        self._check_inputs(images, expressions)
        size = self.image_size
        distinct = list(dict.fromkeys(expressions))
        found = np.empty((len(images), len(distinct), size, size), np.float32)
        with self._computing():
            for image, maps in zip(images, found, strict=True):
                seen = self._see(image)
                start = 0
                while start < len(distinct):
                    part = distinct[start : start + self.batch]
                    try:
                        answers = self._maps(seen, part + part[-1:] * (self.batch - len(part)))
                    except RuntimeError as error:
                        if not is_out_of_memory(error):
                            raise
                        self.batch = halved_batch(
                            self.batch,
                            "expressions",
                            size,
                            device=self.device,
                            precision=self.precision,
                            problem=str(error),
                        )
                        continue
                    maps[start : start + len(part)] = answers[: len(part)].float().cpu().numpy()
                    start += len(part)
        return found[:, [distinct.index(each) for each in expressions]]

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """One thread at a time, without gradients, in the numbers that were chosen."""
        with self._lock, torch.no_grad(), exact_float32(self.device, deterministic=False):
            yield

    def _check_inputs(self, images: NDArray[np.uint8], expressions: Sequence[str]) -> None:
        size = self.image_size
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
            raise InputError(
                f"images of shape {images.shape} and type {images.dtype}: {self.NAME} takes uint8 B x {size} x {size} "
                "x 3"
            )
        if isinstance(expressions, str) or not expressions:
            raise InputError(f"expressions={expressions!r}: give a list of one or more")

    @abstractmethod
    def _see(self, image: NDArray[np.uint8]) -> Any:
        """What no expression can change of an image (S x S x 3)."""

    @abstractmethod
    def _maps(self, seen: Any, expressions: Sequence[str]) -> Tensor:
        """Probabilities (N x S x S) of N expressions."""


def plain_phrase(expression: str) -> str:
    """An expression without the words that class names are asked with in RemoteSAM ("... in the image").

    Examples:
        >>> from remotesam_geo.predictors.adapter import plain_phrase
        >>> plain_phrase("ship in the image"), plain_phrase("the ship in the harbor")
        ('ship', 'the ship in the harbor')
    """
    before, after = CLASS_TEMPLATE.split("{name}")
    return expression.removeprefix(before).removesuffix(after) or expression


def check_image_size(size: object, step: int) -> None:
    """Check the option `image_size` of an adapter: a multiple of its patches.

    Raises:
        InputError: It is none.
    """
    number_in("image_size", size, step, 8192, whole=True)
    if isinstance(size, int) and size % step:
        raise InputError(f"image_size={size} is not allowed: give a multiple of {step}")
