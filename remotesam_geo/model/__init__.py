"""The network: its configuration, weights, processor and predictor.

Names are imported when they are first used: torch takes its time.
"""

import importlib
from typing import Any

import remotesam_geo.notebook  # noqa: F401 - before transformers imports progress bars

_HOME = {
    "ContourModel": "contours",
    "Predictor": "predictor",
    "PredictorRecipe": "predictor",
    "RemoteSAMConfig": "configuration",
    "RemoteSAMModel": "network",
    "RemoteSAMOutput": "network",
    "RemoteSAMProcessor": "processor",
    "convert": "conversion",
    "segmentation_loss": "loss",
    "weights_sha256": "checkpoint",
}

__all__ = [
    "ContourModel",
    "Predictor",
    "PredictorRecipe",
    "RemoteSAMConfig",
    "RemoteSAMModel",
    "RemoteSAMOutput",
    "RemoteSAMProcessor",
    "convert",
    "segmentation_loss",
    "weights_sha256",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
