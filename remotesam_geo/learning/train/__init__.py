"""The training core: any source of pictures, expressions and masks to weights.

>>> from remotesam_geo.learning.train import TrainConfig
>>> TrainConfig(steps=1000).learning_rate
3e-05
"""

from .loop import held_out_scores, train
from .samples import Batch, Source
from .settings import TrainConfig

__all__ = ["Batch", "Source", "TrainConfig", "held_out_scores", "train"]
