"""What the world is made of: classes of objects, colour names and land cover."""

from dataclasses import dataclass

__all__ = ["CLASSES", "COLOURS", "LANDCOVER", "Kind"]

COLOURS: dict[str, tuple[int, int, int]] = {
    "white": (222, 220, 215),
    "grey": (148, 149, 148),
    "black": (44, 45, 50),
    "red": (172, 56, 48),
    "yellow": (216, 180, 58),
    "green": (62, 118, 66),
    "blue": (52, 98, 172),
    "brown": (128, 92, 62),
}
"""Colour names and the red, green, blue that objects of that name vary around."""

LANDCOVER: dict[str, int] = {
    "field": 1,
    "grass": 2,
    "bare soil": 3,
    "water": 4,
    "sand": 5,
    "built-up": 6,
    "road": 7,
}
"""Land cover and its code in `WorldScene.landcover`; it is what lies under the objects."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A class of objects: how it is named, and the colours it comes in with their weights."""

    name: str
    plural: str
    colours: tuple[tuple[str, float], ...]

    @property
    def colour_names(self) -> tuple[str, ...]:
        """The colours that objects of the class come in."""
        return tuple(name for name, _ in self.colours)


def _class_kind(name: str, plural: str, colours: str) -> Kind:
    """A class; its colours written as "white 4, grey 3"."""
    pairs = (colour.split() for colour in colours.split(", "))
    return Kind(name=name, plural=plural, colours=tuple((c, float(w)) for c, w in pairs))


CLASSES: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        _class_kind("airplane", "airplanes", "white 6, grey 2, blue 1, red 1, yellow 1, green 0.5"),
        _class_kind(
            "building",
            "buildings",
            "red 4, brown 3, grey 2, blue 1, white 1, green 0.5, black 0.5",
        ),
        _class_kind("harbor", "harbors", "brown 4, grey 3, white 0.5"),
        _class_kind(
            "ship",
            "ships",
            "white 4, red 2, blue 2, yellow 1.5, grey 1, brown 0.7, green 0.7, black 0.5",
        ),
        _class_kind("sports field", "sports fields", "green 6, red 1, brown 0.5, blue 0.5"),
        _class_kind(
            "storage tank",
            "storage tanks",
            "white 6, grey 2, red 0.7, green 0.7, blue 0.7, brown 0.5",
        ),
        _class_kind("swimming pool", "swimming pools", "blue 7, green 1.5, white 0.5"),
        _class_kind("tennis court", "tennis courts", "green 3, blue 3, red 3, brown 0.5"),
        _class_kind("tree", "trees", "green 8, yellow 1, red 1, brown 0.6"),
        _class_kind(
            "vehicle",
            "vehicles",
            "white 4, red 3, blue 3, yellow 1.5, grey 1, black 0.6, green 0.7, brown 0.4",
        ),
    )
}
"""The classes in alphabetical order. Each shares every colour it has with some other class."""
