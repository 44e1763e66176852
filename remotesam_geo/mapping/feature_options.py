"""Which features are wanted, and how they are drawn."""

from dataclasses import dataclass
from typing import get_args

from remotesam_geo.errors import InputError, number_in, one_of
from remotesam_geo.tasks import MIN_SCORE, Suppress

from .polygons import Outline, Parts

__all__ = ["FeatureOptions"]

MOST_SMOOTH = 5
"""Each time doubles the number of points."""


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """Which of the components found are wanted, and how they are drawn.

    Attributes:
        outline: Which geometry.
        suppress: Which components give way to others.
        min_score: Least mean probability.
        min_area: Least number of pixels.
        exclusive: Whether each pixel belongs to its most probable prompt only.
        contour_threshold: Above it a pixel of the map of contours parts touching objects; None for no such map.
        parts: Whether features stay cut at block borders.
        simplify: Metres (pixels of a picture) by which a polygon may leave its outline.
        smooth: How often corners are cut, which rounds the steps of pixels; 0 for never.
    """

    outline: Outline = "polygon"
    suppress: Suppress = "none"
    min_score: float = MIN_SCORE
    min_area: int = 1
    exclusive: bool = False
    contour_threshold: float | None = None
    parts: Parts = "whole"
    simplify: float = 0.0
    smooth: int = 0

    def __post_init__(self) -> None:
        one_of("outline", self.outline, get_args(Outline))
        one_of("parts", self.parts, get_args(Parts))
        one_of("suppress", self.suppress, get_args(Suppress))
        one_of("exclusive", self.exclusive, (True, False))
        number_in("min_score", self.min_score, 0, 1)
        number_in("simplify", self.simplify, 0)
        number_in("smooth", self.smooth, 0, MOST_SMOOTH, whole=True)
        if self.parts == "blocks" and self.suppress == "enclosed":
            raise InputError(
                "parts='blocks' leaves features cut, and what lies in a hole of one cannot be told: "
                "leave out suppress='enclosed'"
            )
        for name in ("simplify", "smooth"):
            if self.outline != "polygon" and getattr(self, name):
                raise InputError(
                    f"{name}={getattr(self, name)!r} cannot be used here: boxes have four corners. Leave it out, or "
                    "ask for outlines with segment"
                )

    @property
    def drawn(self) -> Outline:
        """The outline that is extracted: what lies in a hole of another is seen from polygons alone."""
        return "polygon" if self.suppress == "enclosed" and self.outline == "box" else self.outline
