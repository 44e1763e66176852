"""What districts look like: each function lays one out on a site.

Objects stand in lots of their own, so that they may touch and never overlap, and never leave their site.
"""

from collections.abc import Callable

from remotesam_geo.learning.synthetic.site import Site

from .country import farmland, woodland
from .industry import airport, industrial, tanks, works
from .town import parking, residential, sports
from .water import beach, harbour, lake

__all__ = ["DISTRICTS", "THEMES"]

DISTRICTS: dict[str, Callable[[Site], None]] = {
    "airport": airport,
    "beach": beach,
    "farmland": farmland,
    "harbour": harbour,
    "industrial": industrial,
    "lake": lake,
    "parking": parking,
    "residential": residential,
    "sports": sports,
    "tanks": tanks,
    "woodland": woodland,
    "works": works,
}

THEMES: tuple[tuple[float, dict[str, float]], ...] = (
    (3.0, {"residential": 5, "parking": 2, "sports": 5, "woodland": 0.7, "industrial": 0.7}),
    (2.0, {"tanks": 6, "industrial": 2, "parking": 2, "works": 0.5}),
    (2.4, {"harbour": 7, "beach": 1.5, "lake": 1, "tanks": 1, "sports": 0.5}),
    (2.2, {"airport": 7, "parking": 1.5, "industrial": 0.7, "farmland": 0.5}),
    (1.0, {"farmland": 4, "residential": 1.5, "woodland": 2, "lake": 1, "works": 1, "sports": 1}),
)
"""Kinds of neighbourhood: their weight, and the weights of the districts in them."""
