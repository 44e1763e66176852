"""The network's weights arranged for speed; the same answers as the plain network."""

from remotesam_geo.model.inference.engine import InferenceEngine
from remotesam_geo.model.inference.kernels import Arrangement, keep_freed_memory

from .split_stages import StageFeatures

__all__ = ["Arrangement", "InferenceEngine", "StageFeatures", "keep_freed_memory"]
