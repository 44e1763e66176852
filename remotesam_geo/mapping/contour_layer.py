"""Contours, predicted as one more expression: what cuts, joins, keeps and sends maps need not know of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import ModelError

from .executor import Predict
from .stitch import Codes

__all__ = ["CONTOURS", "Contours", "WithContours", "contour_codes"]

Contours = Callable[[NDArray[np.uint8]], Codes]
"""A contour model: pictures (B x S x S x 3) to codes (B x S x S)."""


def contour_codes(contours: Contours, images: NDArray[np.uint8]) -> Codes:
    """Ask a contour model, and check what it returns.

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
        planes = [self.predict(images, words)] if words else []
        if CONTOURS in expressions:  # it is the last of those that are predicted together
            planes.append(contour_codes(self.contours, images)[:, None])
        return np.concatenate(planes, axis=1)
