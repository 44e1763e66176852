"""Objects of one map: detected, counted, grounded."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import InputError, instance_of, number_in, one_of

from .array_checks import check_array, check_shape
from .codes import Map
from .contour_split import CONTOUR_THRESHOLD, COUNT_CONTOUR_THRESHOLD, SHARE, refine
from .rectangles import Hulls, drawn_rectangles, hulls, smallest_rectangles, upright
from .regions import Components, background, components
from .suppression import inner_boxes, inner_drawings, overlapping_boxes
from .table import I64, Table, enclosing

__all__ = [
    "Detections",
    "Dropped",
    "Grounding",
    "Suppress",
    "count_objects",
    "detect",
    "enclosing_components",
    "ground",
    "select",
]

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
Suppress = Literal["published", "enclosed", "none"]
"""Which boxes are dropped for others that cover them: as published, those inside others, or none."""

MIN_SCORE = 0.01
"""Objects of a lower mean probability are dropped."""
IOU = 0.5
"""Overlap from which non-maximum suppression drops the weaker box."""


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """How many components were dropped, and why; each is counted once, for the first reason that held.

    Attributes:
        low_score: For their mean probability.
        small: For their number of pixels.
        inner: For a box inside another box ("published").
        overlapping: By non-maximum suppression ("published").
        enclosed: For lying in a hole of another ("enclosed").
    """

    low_score: int = 0
    small: int = 0
    inner: int = 0
    overlapping: int = 0
    enclosed: int = 0

    def __add__(self, other: "Dropped") -> "Dropped":
        return Dropped(**{name: count + vars(other)[name] for name, count in vars(self).items()})


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections:
    """The n objects found in a map, in the order of their first pixels row by row.

    Attributes:
        found: The components themselves, with their labels (n).
        corners: The box or oriented rectangle round each, in pixels: x to the right, y down, pixel (0, 0) covering
            0 to 1; clockwise as seen on the screen (n x 4 x 2).
        dropped: What was found but dropped.
    """

    found: Components
    corners: F64
    dropped: Dropped

    def __len__(self) -> int:
        return self.found.n

    @property
    def boxes(self) -> I64:
        """Half-open pixel boxes x0, y0, x1, y1 (n x 4)."""
        return self.found.table.box

    @property
    def centres(self) -> F64:
        """Middle x, y of each box or rectangle (n x 2)."""
        return (self.corners[:, 0] + self.corners[:, 2]) / 2

    @property
    def score(self) -> F64:
        """Mean probability of each (n)."""
        return self.found.table.score

    @property
    def score_max(self) -> F64:
        """Largest probability of each (n)."""
        return self.found.table.score_max


@dataclass(frozen=True, kw_only=True)
class Grounding:
    """The one box of an expression.

    Attributes:
        box: Half-open pixel box x0, y0, x1, y1 round all that was found.
        score: Mean probability of all its pixels.
        score_max: Largest probability among them.
    """

    box: tuple[int, int, int, int]
    score: float
    score_max: float


def detect(
    prob: Map,
    *,
    threshold: float = 0.5,
    contour: Map | None = None,
    contour_threshold: float = CONTOUR_THRESHOLD,
    share: float = SHARE,
    oriented: bool = False,
    min_score: float = MIN_SCORE,
    min_area: int = 1,
    suppress: Suppress = "published",
) -> Detections:
    """Find the objects of one map.

    Args:
        prob: One map, bytes or probabilities (H x W).
        threshold: Of the map, rounded up to steps of 0.005.
        contour: A map of object contours to part touching objects with (H x W).
        contour_threshold: Above it a pixel is contour.
        share: A piece must exceed this share of the largest piece of its component.
        oriented: Whether to draw minimum-area rectangles in place of upright boxes. Both enclose the pixels to their
            edges.
        min_score: Least mean probability of an object.
        min_area: Least number of pixels of an object.
        suppress: "published" drops boxes inside others, then those that overlap a better one by IoU above 0.5;
            "enclosed" drops what lies in a hole of another object; "none" drops nothing.

    Returns:
        The objects.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import detect
        >>> prob = np.zeros((6, 8), np.float32)
        >>> prob[1:3, 1:4], prob[4:, 6:] = 0.75, 1.0
        >>> objects = detect(prob)
        >>> objects.boxes, objects.score
        (array([[1, 1, 4, 3],
               [6, 4, 8, 6]]), array([0.75, 1.  ]))
    """
    one_of("suppress", suppress, get_args(Suppress))
    one_of("oriented", oriented, (True, False))
    if contour is None:
        found = components(prob, threshold=threshold)
    else:
        found = refine(prob, contour, threshold=threshold, contour_threshold=contour_threshold, share=share)
    around = hulls(found) if oriented else None
    corners = upright(found.table.box) if around is None else smallest_rectangles(around)
    keep, dropped = select(
        found.table,
        corners,
        around=around,
        shape=prob.shape,
        min_score=min_score,
        min_area=min_area,
        suppress=suppress,
        enclosed_by=enclosing_components(found) if suppress == "enclosed" else None,
    )
    return Detections(found=found.take(keep), corners=corners[keep], dropped=dropped)


def select(
    table: Table,
    corners: F64,
    *,
    around: Hulls | None = None,
    shape: tuple[int, ...] | None = None,
    min_score: float = MIN_SCORE,
    min_area: int = 1,
    suppress: Suppress = "published",
    enclosed_by: I64 | None = None,
) -> tuple[Bools, Dropped]:
    """Choose the objects among components.

    Args:
        table: What is known of the components (n).
        corners: Their boxes or oriented rectangles (n x 4 x 2).
        around: Their hulls where the corners are those of oriented rectangles (n); None for boxes.
        shape: Height and width of the picture; needed with these for "published".
        min_score: Least mean probability.
        min_area: Least number of pixels.
        suppress: As in `detect`.
        enclosed_by: The component that encloses each, -1 for none (n); needed for "enclosed".

    Returns:
        True for those to keep (n), and the count of the others.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import components, select, upright
        >>> found = components(np.array([[0.9, 0, 0.6, 0.6]], np.float32))
        >>> select(found.table, upright(found.table.box), min_area=2)
        (array([False,  True]), Dropped(low_score=0, small=1, inner=0, overlapping=0, enclosed=0))
    """
    one_of("suppress", suppress, get_args(Suppress))
    number_in("min_area", min_area, 0)
    instance_of("table", table, Table, "the table of components")
    check_array("corners", corners, "numbers", (len(table), 4, 2))
    score = table.score
    number_in("min_score", min_score, 0, 1)
    confident = score >= min_score
    large = table.count >= min_area
    keep = confident & large
    counts = {"low_score": int((~confident).sum()), "small": int((confident & ~large).sum())}
    if suppress == "published":
        chosen = np.flatnonzero(keep)
        if around is None:
            inner = inner_boxes(corners[chosen], score[chosen])
        elif shape is None:
            raise InputError(
                "suppress='published' draws oriented rectangles: give shape=, the picture's height and width"
            )
        else:
            instance_of("around", around, Hulls, "the hulls of the same components")
            check_shape(shape)
            if len(around) != len(table):
                raise InputError(f"around holds {len(around)} hulls for {len(table)} components: give one for each")
            inner = inner_drawings(drawn_rectangles(around.take(chosen)), score[chosen], (shape[0], shape[1]))
        outer = chosen[~inner]
        overlapping = overlapping_boxes(corners[outer], score[outer], iou=IOU)
        keep = np.zeros_like(keep)
        keep[outer[~overlapping]] = True
        counts |= {"inner": int(inner.sum()), "overlapping": int(overlapping.sum())}
    elif suppress == "enclosed":
        if enclosed_by is None:
            raise InputError("suppress='enclosed' needs enclosed_by: see enclosing_components")
        check_array("enclosed_by", enclosed_by, "whole numbers", (len(table),), (-1, len(table) - 1))
        enclosed = keep & _encloser_among(enclosed_by, keep)
        keep &= ~enclosed
        counts["enclosed"] = int(enclosed.sum())
    return keep, Dropped(**counts)


def enclosing_components(found: Components) -> I64:
    """Which component each component of a whole picture lies inside of, in a hole of it; -1 for none (n).

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import components, enclosing_components
        >>> nested = np.ones((5, 5), np.float32)
        >>> nested[1:4, 1:4] = 0
        >>> nested[2, 2] = 1
        >>> enclosing_components(components(nested))
        array([-1,  0])
    """
    between = background(found)
    return enclosing(found.n, between.n, between.beside, rim=found.rim(), background_rim=between.rim())


def count_objects(
    prob: Map,
    *,
    threshold: float = 0.5,
    contour: Map | None = None,
    contour_threshold: float = COUNT_CONTOUR_THRESHOLD,
    share: float = SHARE,
    min_score: float = MIN_SCORE,
    min_area: int = 1,
    suppress: Suppress = "published",
) -> int:
    """Count the objects of one map: as many as `detect` finds, with the published contour threshold for counting.

    Args:
        prob: One map, bytes or probabilities (H x W).
        threshold: Of the map, rounded up to steps of 0.005.
        contour: A map of object contours to part touching objects with (H x W).
        contour_threshold: Above it a pixel is contour.
        share: A piece must exceed this share of the largest piece of its component.
        min_score: Least mean probability of an object.
        min_area: Least number of pixels of an object.
        suppress: As in `detect`.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import count_objects
        >>> count_objects(np.array([[0.9, 0.1, 0.8]], np.float32))
        2
    """
    return len(
        detect(
            prob,
            threshold=threshold,
            contour=contour,
            contour_threshold=contour_threshold,
            share=share,
            min_score=min_score,
            min_area=min_area,
            suppress=suppress,
        )
    )


def ground(
    prob: Map,
    *,
    threshold: float = 0.5,
    min_score: float = MIN_SCORE,
    min_area: int = 1,
) -> Grounding | None:
    """Find the one box of an expression: round all its boxes, or none.

    Args:
        prob: One map, bytes or probabilities (H x W).
        threshold: Rounded up to steps of 0.005.
        min_score: Least mean probability of a component to be counted in.
        min_area: Least number of pixels of one.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import ground
        >>> ground(np.array([[0.0, 0.75, 0.0], [0.0, 0.0, 1.0]], np.float32))
        Grounding(box=(1, 0, 3, 2), score=0.875, score_max=1.0)
    """
    objects = detect(prob, threshold=threshold, min_score=min_score, min_area=min_area, suppress="none")
    if not len(objects):
        return None
    table = objects.found.table
    x0, y0 = table.box[:, :2].min(axis=0).tolist()
    x1, y1 = table.box[:, 2:].max(axis=0).tolist()
    return Grounding(
        box=(x0, y0, x1, y1),
        score=float(table.total.sum() / (table.count.sum() * float(table.scale))),
        score_max=float(table.score_max.max()),
    )


def _encloser_among(enclosed_by: I64, keep: Bools) -> Bools:
    """Whether any component round each one, however far out, is among those kept."""
    around = enclosed_by
    while True:
        skip = (around >= 0) & ~keep[around]
        if not skip.any():
            return around >= 0
        around = np.where(skip, enclosed_by[around], around)
