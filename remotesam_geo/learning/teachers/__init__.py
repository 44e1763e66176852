"""Networks of others as steps, loaded through transformers: detector, segmenters, image-text similarity, captioner.

Weights are read from safetensors only, from a folder or a commit that is named. torchvision is not needed.
"""

from remotesam_geo.predictors.pinned_weights import PINNED, Pin

from .detecting import BoxedSegmenter, DetectedThings
from .segmenting import Sam2Teacher, SamTeacher
from .similarity import Similar
from .writing import QwenWriter

__all__ = [
    "PINNED",
    "BoxedSegmenter",
    "DetectedThings",
    "Pin",
    "QwenWriter",
    "Sam2Teacher",
    "SamTeacher",
    "Similar",
]
