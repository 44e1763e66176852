"""Ask a question in words, of any place on Earth, and get a GeoDataFrame back.

Names are imported when they are first used, so that ``import remotesam_geo`` costs next to nothing.
"""

import importlib
from typing import Any

from . import forks  # noqa: F401 - forked processes must not wait for threads that are gone

__version__ = "0.1.0.dev0"

_HOME = {
    "Job": "job",
    "RemoteSAM": "remotesam",
    "RemoteSAMError": "errors",
    "RemoteSAMWarning": "errors",
    "contact_sheet": "plotting",
    "explore": "plotting",
    "load": "scenes",
    "match_over_time": "tracking.match",
    "model_item": "outputs",
    "open_probabilities": "outputs",
    "open_raster": "scenes",
    "plot": "plotting",
    "read_provenance": "outputs",
    "render": "scenes",
    "result_item": "outputs",
    "save": "outputs",
    "save_items": "scenes",
    "search": "scenes",
}

__all__ = [
    "Job",
    "RemoteSAM",
    "RemoteSAMError",
    "RemoteSAMWarning",
    "__version__",
    "contact_sheet",
    "explore",
    "load",
    "match_over_time",
    "model_item",
    "open_probabilities",
    "open_raster",
    "plot",
    "read_provenance",
    "render",
    "result_item",
    "save",
    "save_items",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in {"RemoteSAM", "load", "open_raster"}:
        importlib.import_module(f"{__name__}.accessor")  # scenes get their .remotesam
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
