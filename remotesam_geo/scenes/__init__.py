"""Search a catalogue, load its scenes lazily, and render them to 8-bit RGB with validity."""

import importlib
from typing import Any

_HOME = {
    "HrefSigner": "net.auth",
    "Limits": "net.trust",
    "Patience": "net.client",
    "PlanetaryComputer": "net.auth",
    "ReadPolicy": "net.policy",
    "Recipe": "scenes.recipe",
    "S3": "net.auth",
    "SceneDriver": "raster.odc_driver",
    "SourceError": "raster.odc_driver",
    "Stretch": "scenes.stretch",
    "Trust": "net.trust",
    "load": "scenes.loading",
    "open_raster": "scenes.opening",
    "render": "scenes.rendering",
    "render_block": "scenes.rendering",
    "save_items": "stac.save",
    "search": "stac.search",
}

__all__ = [
    "S3",
    "HrefSigner",
    "Limits",
    "Patience",
    "PlanetaryComputer",
    "ReadPolicy",
    "Recipe",
    "SceneDriver",
    "SourceError",
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
    return getattr(importlib.import_module(f"remotesam_geo.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
