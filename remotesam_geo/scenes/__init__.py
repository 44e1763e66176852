"""Search a catalogue, load its scenes lazily, and render them to 8-bit RGB with validity."""

import importlib
from typing import Any

_HOME = {
    "HrefSigner": "signing",
    "Limits": "safety",
    "Patience": "transport",
    "PlanetaryComputer": "signing",
    "ReadPolicy": "raster",
    "Recipe": "recipe",
    "S3": "signing",
    "Stretch": "stretches",
    "Trust": "safety",
    "load": "loading",
    "open_raster": "opening",
    "render": "rendering",
    "render_block": "rendering",
    "save_items": "saving",
    "search": "searching",
}

__all__ = [
    "S3",
    "HrefSigner",
    "Limits",
    "Patience",
    "PlanetaryComputer",
    "ReadPolicy",
    "Recipe",
    "Stretch",
    "Trust",
    "load",
    "open_raster",
    "render",
    "render_block",
    "save_items",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
