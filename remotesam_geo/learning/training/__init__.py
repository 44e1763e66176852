"""The training core: any source of pictures, expressions and masks to weights.

>>> from remotesam_geo.learning.training import TrainConfig
>>> TrainConfig(steps=1000).learning_rate
3e-05
"""

from .finetune import FineTuned, fine_tune
from .loop import held_out_scores, train
from .new_words import new_words, with_words
from .parts import trained_bytes
from .samples.batches import Batch, BatchSource
from .samples.chipping import chips
from .samples.triplet_source import Augment, TripletSource, split_parts
from .settings import TrainConfig

__all__ = [
    "Augment",
    "Batch",
    "BatchSource",
    "FineTuned",
    "TrainConfig",
    "TripletSource",
    "chips",
    "fine_tune",
    "held_out_scores",
    "new_words",
    "split_parts",
    "train",
    "trained_bytes",
    "with_words",
]
