"""Models that separate touching objects, by a map of their contours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import InputError, ModelError, one_of

from .protocol import Codes, Predict, predicted_codes

__all__ = [
    "CONTOURS", "Contours", "Refine", "WithContours", "check_refine", "contour_codes", "contour_model",
]  # fmt: skip

Contours = Callable[[NDArray[np.uint8]], Codes]
"""A contour model: images (B x S x S x 3) to codes (B x S x S)."""

Refine = Literal["contours"] | Contours | None
"""What separates touching objects: the published contour network, one given, or nothing."""


def contour_codes(contours: Contours, images: NDArray[np.uint8]) -> Codes:
    """Run a contour model, and check what it returns.

    Raises:
        ModelError: It returned something else than a map of codes for each image.
    """
    codes: object = contours(images)
    if not isinstance(codes, np.ndarray) or codes.shape != images.shape[:3] or codes.dtype != np.uint8:
        found = f"{codes.dtype} of shape {codes.shape}" if isinstance(codes, np.ndarray) else type(codes).__name__
        raise ModelError(
            f"the contour model {contours!r:.60} returned {found} for images of shape {images.shape}: it must return "
            f"uint8 codes of shape {images.shape[:3]}"
        )
    return codes


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


CONTOURS = "\0contours"
"""The expression that asks for them; nobody types it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WithContours:
    """A model that also knows contours.

    Attributes:
        predict: Answers all other expressions.
        contours: Answers `CONTOURS`.
    """

    predict: Predict
    contours: Contours

    def __call__(self, images: NDArray[np.uint8], expressions: Sequence[str]) -> Codes:
        """Codes of each expression (B x P x S x S)."""
        words = [each for each in expressions if each != CONTOURS]
        planes = [predicted_codes(self.predict, images, words)] if words else []
        if CONTOURS in expressions:  # it is the last of those that are predicted together
            planes.append(contour_codes(self.contours, images)[:, None])
        return np.concatenate(planes, axis=1)
