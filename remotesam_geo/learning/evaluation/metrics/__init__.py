"""Figures of merit, streaming and mergeable: what several processes counted apart adds up to exactly one pass.

Sums are whole numbers, or floats summed without rounding (`math.fsum`), so that neither the order of the pictures nor
the cut between processes changes a digit.
"""

from .boxes import DetectionScore, GroundingScore, box_ious, corner_ious
from .cider import CaptionScore, words_of
from .curves import ChanceCounts, chance_counts
from .labels import CountingScore, MultiLabelScore, SingleLabelScore
from .mask_scores import ReferringScore, SemanticScore
from .summary import Scores

__all__ = [
    "CaptionScore",
    "ChanceCounts",
    "CountingScore",
    "DetectionScore",
    "GroundingScore",
    "MultiLabelScore",
    "ReferringScore",
    "Scores",
    "SemanticScore",
    "SingleLabelScore",
    "box_ious",
    "chance_counts",
    "corner_ious",
    "words_of",
]
