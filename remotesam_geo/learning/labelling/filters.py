"""What is not good enough to learn from: each filter says why, and the report counts it."""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import InputError, each_of, number_in
from remotesam_geo.learning.datasets import Triplet
from remotesam_geo.learning.evaluation import answerer
from remotesam_geo.learning.evaluation.answerers import resized

from .mask_sources import agreement

__all__ = ["AreaFilter", "Confirmed", "consistent", "difference_hash"]


@dataclass(frozen=True, kw_only=True)
class AreaFilter:
    """Drops masks that are hardly there, or nearly the whole picture.

    Attributes:
        least: Pixels that a mask has at least.
        most: Share of the picture that it has at most.
    """

    least: int = 30
    most: float = 0.98

    def __post_init__(self) -> None:
        number_in("least", self.least, 0, whole=True)
        number_in("most", self.most, 0, 1)

    def __call__(self, triplet: Triplet, rgb: NDArray[np.uint8]) -> str | None:
        """Why it is dropped."""
        if triplet.kind == "one-to-zero":
            return None
        area = triplet.mask.area
        if area < self.least:
            return "too small"
        return "too large" if area > self.most * rgb.shape[0] * rgb.shape[1] else None


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """Drops what teachers, asked the same expression, see otherwise: RemoteSAM itself among them on later rounds.

    Attributes:
        teachers: `RemoteSAM`s, or whatever `remotesam_geo.learning.evaluation` takes for one.
        least: The mean IoU of the mask and the teachers' answers, each with each, that is needed; two empty ones agree.
        threshold: Above which a probability means yes.
    """

    teachers: tuple[object, ...]
    least: float = 0.5
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not each_of("teachers", self.teachers, object, "models"):
            raise InputError("teachers is empty: give one model at least")
        number_in("least", self.least, 0, 1)
        number_in("threshold", self.threshold, 0, 1)

    def __repr__(self) -> str:
        who = ", ".join(answerer(teacher).identity for teacher in self.teachers)
        return f"Confirmed(teachers=({who}), least={self.least}, threshold={self.threshold})"

    def __call__(self, triplet: Triplet, rgb: NDArray[np.uint8]) -> str | None:
        """Why it is dropped."""
        versions = [triplet.mask.pixels()]
        for teacher in self.teachers:
            (chance,) = answerer(teacher).answers(rgb, [triplet.expression])
            versions.append(resized(chance, triplet.mask.shape) > self.threshold)
        return None if agreement(versions) >= self.least else "teachers disagree"


def consistent(triplets: Iterable[Triplet]) -> tuple[list[Triplet], list[tuple[Triplet, str]]]:
    """Of one picture: what is said twice is kept once, and what is said of different masks not at all.

    Returns:
        What is kept, and what is not with its reason.
    """
    by_words: dict[str, list[Triplet]] = {}
    for triplet in triplets:
        words = " ".join(triplet.expression.lower().split())
        by_words.setdefault(words, []).append(triplet)
    kept: list[Triplet] = []
    dropped: list[tuple[Triplet, str]] = []
    for some in by_words.values():
        if len({triplet.mask for triplet in some}) > 1:
            dropped += [(triplet, "contradiction") for triplet in some]
        else:
            kept.append(some[0])
            dropped += [(triplet, "duplicate") for triplet in some[1:]]
    return kept, dropped


def difference_hash(rgb: NDArray[np.uint8]) -> int:
    """64 bits of where a picture gets lighter to the right: near-duplicates differ in few of them.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.learning.labelling import difference_hash
        >>> picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        >>> darker = (picture * 0.8).astype(np.uint8)
        >>> (difference_hash(picture) ^ difference_hash(darker)).bit_count() < 4
        True
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    return int("".join("1" if bit else "0" for bit in bits), 2)
