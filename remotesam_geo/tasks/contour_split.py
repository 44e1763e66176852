"""The published refinement: objects that touch are parted along their contours.

The contour's pixels are taken out of the mask. What remains falls into pieces; a piece stays when it is larger than a
fifth of the largest piece of its component. A component eaten whole by the contour is gone.

Block by block: `split` each block, unite the whole components and the pieces of all blocks apart from each other
(`touching`, `unite`), carry `parent` over to the united numbers, then ask `large_pieces` of the united counts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import instance_of, number_in

from .array_checks import FAR, check_array
from .codes import Map
from .regions import Components, components
from .table import I64, most

__all__ = ["Split", "large_pieces", "refine", "split"]

CONTOUR_THRESHOLD = 0.25
"""Above it a pixel is contour, where objects are detected."""
COUNT_CONTOUR_THRESHOLD = 0.15
"""Above it a pixel is contour, where objects are counted."""
SHARE = 0.2
"""A piece is kept when it is larger than this share of the largest piece of its component."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Components and the pieces that their contours leave of them.

    Attributes:
        whole: The components before the contours were taken out (n).
        pieces: The components of what remains (m).
        parent: The component that each piece lies in (m).
    """

    whole: Components
    pieces: Components
    parent: I64


def split(
    prob: Map,
    contour: Map,
    *,
    threshold: float = 0.5,
    contour_threshold: float = CONTOUR_THRESHOLD,
) -> Split:
    """Label components and their pieces apart, and say which piece lies in which component.

    Args:
        prob: One map, bytes or probabilities (H x W).
        contour: A map of object contours (H x W); where it has no answer, nothing is taken out.
        threshold: Of the map, rounded up to steps of 0.005.
        contour_threshold: Above it a pixel is contour.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import split
        >>> parted = split(np.ones((1, 5), np.float32), np.array([[0, 0, 1, 0, 0]], np.float32))
        >>> parted.whole.n, parted.pieces.n, parted.parent
        (1, 2, array([0, 0]))
    """
    instance_of("contour", contour, np.ndarray, "a map of contours, as an array")
    whole = components(prob, threshold=threshold)
    pieces = components(prob, threshold=threshold, contour=contour, contour_threshold=contour_threshold)
    # A piece lies in the component whose run holds its first pixel.
    width = whole.shape[1]
    first = pieces.table.first
    run = np.searchsorted(whole.row * width + whole.start, first[:, 0] * width + first[:, 1], side="right")
    return Split(whole=whole, pieces=pieces, parent=whole.region[run - 1])


def large_pieces(count: I64, parent: I64, *, share: float = SHARE) -> NDArray[np.bool_]:
    """Which pieces are large enough to be objects.

    Args:
        count: Pixels of each piece (m).
        parent: The component each piece lies in (m).
        share: A piece must exceed this share of the largest piece of its component.

    Returns:
        True for the pieces to keep (m).

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import large_pieces
        >>> large_pieces(np.array([10, 2, 3, 1]), np.array([0, 0, 0, 1]))
        array([ True, False,  True,  True])
    """
    number_in("share", share, 0, 1)
    check_array("count", count, "numbers", ("n",))
    check_array("parent", parent, "whole numbers", count.shape, (0, FAR))
    if not count.size:
        return np.zeros(0, np.bool_)
    return count > share * most(count, parent, int(parent.max()) + 1)[parent]


def refine(
    prob: Map,
    contour: Map,
    *,
    threshold: float = 0.5,
    contour_threshold: float = CONTOUR_THRESHOLD,
    share: float = SHARE,
) -> Components:
    """The components of a whole picture, parted along contours.

    Args:
        prob: One map, bytes or probabilities (H x W).
        contour: A map of object contours (H x W); where it has no answer, nothing is taken out.
        threshold: Of the map, rounded up to steps of 0.005.
        contour_threshold: Above it a pixel is contour.
        share: A piece must exceed this share of the largest piece of its component.

    Returns:
        The pieces that are kept.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import refine
        >>> touching = np.ones((1, 5), np.float32)
        >>> refine(touching, np.array([[0, 0, 1, 0, 0]], np.float32)).table.box
        array([[0, 0, 2, 1],
               [3, 0, 5, 1]])
    """
    parted = split(prob, contour, threshold=threshold, contour_threshold=contour_threshold)
    return parted.pieces.take(large_pieces(parted.pieces.table.count, parted.parent, share=share))
