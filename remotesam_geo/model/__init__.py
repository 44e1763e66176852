"""The network: its configuration, weights, processor and predictor.

Names are imported when they are first used: torch takes its time.
"""

import importlib
from typing import Any

import remotesam_geo.notebook  # noqa: F401 - before transformers imports progress bars

_HOME = {
    "ContourModel": "model.contour_model",
    "RemoteSAMPredictor": "model.predictor",
    "PredictorRecipe": "model.predictor",
    "RemoteSAMConfig": "model.configuration",
    "RemoteSAMModel": "model.network",
    "RemoteSAMOutput": "model.network",
    "RemoteSAMProcessor": "model.processor",
    "convert": "model.conversion",
    "segmentation_loss": "model.loss",
    "weights_sha256": "model.weights",
}

__all__ = [
    "ContourModel",
    "PredictorRecipe",
    "RemoteSAMConfig",
    "RemoteSAMModel",
    "RemoteSAMOutput",
    "RemoteSAMPredictor",
    "RemoteSAMProcessor",
    "convert",
    "segmentation_loss",
    "weights_sha256",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"remotesam_geo.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
