"""What answers: the network with its weights, or any function of pictures and words."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import InputError, number_in, one_of
from remotesam_geo.mapping.contour_layer import Contours
from remotesam_geo.mapping.stitch import Codes
from remotesam_geo.tasks import decode

if TYPE_CHECKING:
    from remotesam_geo.model import Predictor, RemoteSAMProcessor

__all__ = ["Model", "Network", "Refine", "check_model", "check_refine", "contour_model", "described", "exactly"]


LARGEST_SIDE = 1 << 16
"""Pixels along the side of a window."""

Precision = Literal["auto", "float32", "bfloat16"]
"""In which numbers the network multiplies."""

Refine = Literal["contours"] | Contours | None
"""What parts touching objects: the published contour network, one given, or nothing."""


class Model(Protocol):
    """What `RemoteSAM` asks: a network with its weights, or any function of pictures and words."""

    @property
    def image_size(self) -> int:
        """Side of the square pictures it takes, in pixels."""

    @property
    def identity(self) -> str:
        """What its answers depend on: the hash of its weights, or a name."""

    def predict(self, images: NDArray[np.uint8], expressions: Sequence[str]) -> Codes:
        """Pictures (B x S x S x 3) and P expressions to codes (B x P x S x S)."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """The network with its weights, as a model to ask."""

    predictor: "Predictor"
    processor: "RemoteSAMProcessor"
    identity: str

    @classmethod
    def open(
        cls,
        source: str | Path | None,
        *,
        device: str,
        precision: Precision,
        revision: str | None,
        sha256: str | None,
        local_files_only: bool,
    ) -> "Network":
        """See `RemoteSAM.from_pretrained`."""
        one_of("precision", precision, get_args(Precision))
        one_of("local_files_only", local_files_only, (True, False))
        for name, value in (("device", device), ("revision", revision), ("sha256", sha256)):
            if not (isinstance(value, str) and value.strip()) and (value is not None or name == "device"):
                raise InputError(f"{name}={value!r} is not allowed: give a text, or leave it out")
        from remotesam_geo.model import (  # noqa: PLC0415 - torch takes its time
            Predictor,
            RemoteSAMModel,
            RemoteSAMProcessor,
            weights_sha256,
        )

        network = RemoteSAMModel.from_pretrained(
            source, revision=revision, sha256=sha256, local_files_only=local_files_only
        )
        processor = RemoteSAMProcessor.from_pretrained(
            source, config=network.config, revision=revision, local_files_only=local_files_only
        )
        return cls(
            predictor=Predictor(network, processor, device=device, precision=precision),
            processor=processor,
            identity=weights_sha256(network),
        )

    @property
    def image_size(self) -> int:
        """Side of the square pictures it takes, in pixels."""
        return int(self.predictor.config.image_size)

    def predict(self, images: NDArray[np.uint8], expressions: Sequence[str]) -> Codes:
        """See `Model`."""
        codes: Codes = self.predictor.predict(images, expressions)
        return codes

    def probabilities(self, images: NDArray[np.uint8], expressions: Sequence[str]) -> NDArray[np.float32]:
        """The same as probabilities."""
        answers: NDArray[np.float32] = self.predictor.probabilities(images, expressions)
        return answers

    def cut_words(self, expression: str) -> str:
        """The end of an expression that it does not read."""
        cut: str = self.processor.cut_words(expression)
        return cut

    def unknown_words(self, expression: str) -> tuple[str, ...]:
        """The words of an expression that it has no representation of."""
        unknown: tuple[str, ...] = self.processor.unknown_words(expression)
        return unknown


def check_model(model: object) -> None:
    """Check that an object can be asked as a model.

    Raises:
        InputError: It lacks a part of `Model`, or a part cannot be used.
    """
    what = f"model is {model!r:.80} of type {type(model).__name__}"
    if isinstance(model, str | PathLike):
        raise InputError(f"{what}: open it by RemoteSAM.from_pretrained({str(model)!r})")
    missing = [part for part in ("image_size", "identity", "predict") if not hasattr(model, part)]
    if missing:
        raise InputError(
            f"{what}, which has no {' and no '.join(missing)}: give what RemoteSAM.from_pretrained opens, or an object "
            "with image_size, identity and predict(images, expressions)"
        )
    if isinstance(model, type):
        raise InputError(f"{what}, a class: give an object of it, {model.__name__}()")
    number_in("the model's image_size", model.image_size, 2, LARGEST_SIDE, whole=True)  # type: ignore[attr-defined]
    identity = model.identity  # type: ignore[attr-defined]
    if not isinstance(identity, str) or not identity.strip():
        raise InputError(
            f"the model's identity is {identity!r}: it must be a text that changes when the answers would change"
        )
    if not callable(model.predict):  # type: ignore[attr-defined]
        raise InputError(f"the model's predict is no function but a {type(model.predict).__name__}")  # type: ignore[attr-defined]


def exactly(model: Model, images: NDArray[np.uint8], expressions: Sequence[str]) -> NDArray[np.float32]:
    """Probabilities (B x P x S x S) as the model gives them, or as its codes stand for."""
    if hasattr(model, "probabilities"):
        answers: NDArray[np.float32] = model.probabilities(images, expressions)
        return answers
    return decode(model.predict(images, expressions))


def described(model: Model) -> dict[str, str]:
    """What there is to know of a model at a glance, by name."""
    rows = {"weights": model.identity, "pictures": f"{model.image_size} px"}
    if isinstance(model, Network):
        own = model.predictor
        rows["weights"] = model.identity[:12]  # as much as tells them apart
        rows["computes"] = f"{own.precision} on {own.device}"
    return rows


def check_refine(refine: object) -> None:
    """Check the argument `refine`.

    Raises:
        InputError: It is neither "contours", nor a contour model, nor None.
    """
    if isinstance(refine, type):
        raise InputError(f"refine is the class {refine.__name__}: give an object of it, {refine.__name__}()")
    if not callable(refine):
        one_of("refine", refine, ("contours", None))


def contour_model(refine: Refine) -> Contours | None:
    """The contour model: the published network, or the one given, if any."""
    check_refine(refine)
    if refine is None or callable(refine):
        return refine
    from remotesam_geo.model import ContourModel  # noqa: PLC0415 - torch takes its time

    contours: Contours = ContourModel.from_pretrained()
    return contours
