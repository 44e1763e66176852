"""A procedural world seen from above, with exact truth: pictures, expressions and georeferenced scenes."""

import importlib
from typing import TYPE_CHECKING, Any

from .camera import SENSORS, Sensor
from .descriptions import Expression, expressions
from .kinds import CLASSES, COLOURS, LANDCOVER
from .life import Acquisition
from .picture import Instance, WorldScene, scene

if TYPE_CHECKING:
    from .earth import World

__all__ = [
    "CLASSES",
    "COLOURS",
    "LANDCOVER",
    "SENSORS",
    "Acquisition",
    "Expression",
    "Instance",
    "Sensor",
    "World",
    "WorldScene",
    "expressions",
    "scene",
]


def __getattr__(name: str) -> Any:
    """`World` brings geopandas, dask and rasterio: training and examining do without."""
    if name != "World":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.earth").World
