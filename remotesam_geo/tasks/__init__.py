"""Eight answers from one map of probabilities: components, boxes, scores, counts and captions.

Everything here is in pixels and in NumPy. A map is a 2-D array of bytes (see `encode`), float16 or float32; every
function is pure. Partial results of any cut of a picture add up exactly, so that the same functions serve block by
block.
"""

from .captions import caption
from .codes import FAILED, FULL, NO_DATA, decode, encode
from .contour_split import (
    CONTOUR_THRESHOLD,
    COUNT_CONTOUR_THRESHOLD,
    SHARE,
    Split,
    large_pieces,
    refine,
    split,
)
from .objects import (
    IOU,
    MIN_SCORE,
    Detections,
    Dropped,
    Grounding,
    Suppress,
    count_objects,
    detect,
    enclosing_components,
    ground,
    select,
)
from .rectangles import Hulls, drawn_rectangles, hulls, merge_hulls, smallest_rectangles, upright
from .regions import Background, Components, Regions, background, components
from .scores import (
    BACKGROUND,
    MULTI_LABEL_BALANCE,
    NO_LABEL,
    NOT_ANSWERED,
    SINGLE_LABEL_BALANCE,
    Tally,
    add_tallies,
    best_label,
    label_scores,
    positive_labels,
    refer,
    semantic,
    tally,
)
from .suppression import inner_boxes, inner_drawings, overlapping_boxes
from .table import Table, enclosing, merge, touching, unite

__all__ = [
    "BACKGROUND",
    "CONTOUR_THRESHOLD",
    "COUNT_CONTOUR_THRESHOLD",
    "FAILED",
    "FULL",
    "IOU",
    "MIN_SCORE",
    "MULTI_LABEL_BALANCE",
    "NOT_ANSWERED",
    "NO_DATA",
    "NO_LABEL",
    "SHARE",
    "SINGLE_LABEL_BALANCE",
    "Background",
    "Components",
    "Detections",
    "Dropped",
    "Grounding",
    "Hulls",
    "Regions",
    "Split",
    "Suppress",
    "Table",
    "Tally",
    "add_tallies",
    "background",
    "best_label",
    "caption",
    "components",
    "count_objects",
    "decode",
    "detect",
    "drawn_rectangles",
    "enclosing",
    "enclosing_components",
    "encode",
    "ground",
    "hulls",
    "inner_boxes",
    "inner_drawings",
    "label_scores",
    "large_pieces",
    "merge",
    "merge_hulls",
    "overlapping_boxes",
    "positive_labels",
    "refer",
    "refine",
    "select",
    "semantic",
    "smallest_rectangles",
    "split",
    "tally",
    "touching",
    "unite",
    "upright",
]
