"""Measure a model on any data: eight tasks, resumable, in the published way and in the right one.

`remotesam-geo evaluate --help` does the same on the command line.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .answerers import Answerer, Oracle, answerer
from .benchmarks import BENCHMARKS, Benchmark
from .report import Report, compare
from .runner import evaluate, judge
from .setting import Setting, asked_as
from .task_steps import Task
from .tasks import TASKS

if TYPE_CHECKING:
    from .calibration import Calibration, calibrate

__all__ = [
    "BENCHMARKS",
    "TASKS",
    "Answerer",
    "Benchmark",
    "Calibration",
    "Oracle",
    "Report",
    "Setting",
    "Task",
    "answerer",
    "asked_as",
    "calibrate",
    "compare",
    "evaluate",
    "judge",
]


def __getattr__(name: str) -> Any:
    """Calibration brings rasterio, xarray and geopandas: evaluating on files does without."""
    if name not in ("Calibration", "calibrate"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.calibration"), name)
