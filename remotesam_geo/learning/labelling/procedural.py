"""The procedural world as a data set: what the engine is proved on, for its truth is exact."""

from remotesam_geo.learning.datasets import Example, Mask, Picture, Thing
from remotesam_geo.learning.synthetic import WorldScene

__all__ = ["world_example"]


def world_example(picture: WorldScene) -> Example:
    """A scene of the world with each of its objects; their colours are said, and may be measured instead.

    Examples:
        >>> from remotesam_geo.learning.labelling import world_example
        >>> from remotesam_geo.learning.synthetic import scene
        >>> thing = world_example(scene(5)).things[0]
        >>> thing.label, thing.attributes["colour"], thing.mask.area > 0
        ('building', 'red', True)
    """
    things = tuple(
        Thing(
            label=one.name,
            box=(float(one.box[0]), float(one.box[1]), float(one.box[2]), float(one.box[3])),
            mask=Mask.of(picture.labels == one.id),
            id=str(one.id),
            attributes={"colour": one.colour},
        )
        for one in picture.instances
    )
    return Example(picture=Picture.of(f"world-{picture.seed}", picture.rgb), things=things, source="world")
