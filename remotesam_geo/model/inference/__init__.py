"""The network's weights arranged for speed; the same answers as the plain network."""

from remotesam_geo.model.inference.engine import InferenceEngine
from remotesam_geo.model.inference.kernels import Arrangement, keep_freed_memory

from .split_stages import Seen

__all__ = ["Arrangement", "InferenceEngine", "Seen", "keep_freed_memory"]
