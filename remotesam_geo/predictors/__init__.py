"""Predictors: networks that turn images and expressions into probabilities, and what they have in common."""

from .check import check
from .ensemble import Ensemble
from .protocol import Predictor, PredictorError

__all__ = ["Ensemble", "Predictor", "PredictorError", "check"]
