"""The training core: any source of pictures, expressions and masks to weights.

>>> from remotesam_geo.learning.train import TrainConfig
>>> TrainConfig(steps=1000).learning_rate
3e-05
"""

from .cutting import chips
from .finetune import FineTuned, fine_tune
from .loop import held_out_scores, train
from .parts import trained_bytes
from .samples import Batch, Source
from .settings import TrainConfig
from .triplets import Augment, TripletSource, split_parts
from .words import new_words, with_words

__all__ = [
    "Augment",
    "Batch",
    "FineTuned",
    "Source",
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
