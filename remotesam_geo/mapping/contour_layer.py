"""Contours, predicted as one more expression: what cuts, joins, keeps and sends maps need not know of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.predictors.contours import Contours, contour_codes
from remotesam_geo.predictors.protocol import Codes, Predict, predicted_codes

__all__ = ["CONTOURS", "WithContours"]

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
