"""What training reads: batches of pictures, expressions and masks, addressed by step."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import InputError

__all__ = ["Batch", "BatchSource"]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Pictures, each with the same number of expressions and a mask for each of them.

    Attributes:
        pictures: P x S x S x 3, uint8.
        expressions: P tuples of N expressions.
        masks: P x N x S x S, uint8: 0 background, 1 target, 255 without truth.
        kinds: What each expression asks for ("class", "colour" ...), as P tuples of N names;
            scores are reported by kind.
        planes: Truth for every pixel whatever the expression, by name: P x S x S, uint8, 0 for
            "none of them". Training may let the inner stages predict it (`TrainConfig.planes`).
    """

    pictures: NDArray[np.uint8]
    expressions: tuple[tuple[str, ...], ...]
    masks: NDArray[np.uint8]
    kinds: tuple[tuple[str, ...], ...]
    planes: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse parts that do not fit together."""
        P, S = len(self.pictures), self.pictures.shape[1]
        counts = {len(row) for row in (*self.expressions, *self.kinds)}
        if (
            self.pictures.shape != (P, S, S, 3)
            or len(self.expressions) != P
            or len(self.kinds) != P
            or len(counts) != 1
            or self.masks.shape != (P, *counts, S, S)
            or any(plane.shape != (P, S, S) for plane in self.planes.values())
        ):
            raise InputError(
                f"pictures {self.pictures.shape}, masks {self.masks.shape}, {sorted(counts)} "
                f"expressions and kinds a picture, planes "
                f"{ {name: plane.shape for name, plane in self.planes.items()} }: give P x S x S x "
                f"3, P x N x S x S, N of each for every picture, and P x S x S."
            )


class BatchSource(Protocol):
    """Batches by number. The same number gives the same batch, in any process, at any time.

    That is what makes training resume exactly: no position in a stream has to be restored.
    """

    def batch(self, step: int) -> Batch:
        """The batch of one step, counted from 0."""
        ...
