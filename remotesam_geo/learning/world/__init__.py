"""A procedural world seen from above, with exact truth: pictures, expressions and georeferenced scenes."""

from remotesam_geo.learning.world.expressions import Expression, expressions
from remotesam_geo.learning.world.kinds import CLASSES, COLOURS, LANDCOVER
from remotesam_geo.learning.world.picture import Instance, WorldScene, scene
from remotesam_geo.learning.world.sensors import SENSORS, Sensor

__all__ = [
    "CLASSES",
    "COLOURS",
    "LANDCOVER",
    "SENSORS",
    "Expression",
    "Instance",
    "Sensor",
    "WorldScene",
    "expressions",
    "scene",
]
