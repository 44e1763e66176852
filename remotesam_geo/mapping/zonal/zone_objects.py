"""Objects given to zones: each to the one zone that holds its representative point, or to all that it reaches into."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import shapely
from numpy.typing import NDArray

from remotesam_geo.errors import one_of

from .zones import Zones

__all__ = ["Belonging", "Predicate", "belonging"]

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

Predicate = Literal["point", "intersects", "area"]

NEAR = 0.02
"""Pixels by which a point may miss all zones and yet belong to the nearest: neighbours whose corners do not meet come
apart by less than this when their edges are bent."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Belonging:
    """Which objects belong to which zones.

    Attributes:
        object: The object (m).
        zone: A zone it belongs to (m), sorted by object, then zone.
        share: How much of the object counts there (m).
    """

    object: I64
    zone: I64
    share: F64


def belonging(zones: Zones, objects: NDArray[np.object_], predicate: Predicate = "point") -> Belonging:
    """Give objects to zones.

    Args:
        zones: The zones.
        objects: Polygons in pixels of the zones' grid (n).
        predicate: "point" gives each to the one zone that holds its representative point, on a shared border to the
            first, so that zones which partition an area sum to its total; "intersects" to every zone that holds some of
            its area; "area" likewise, but each zone gets only the share of the object that lies there.
    """
    one_of("predicate", predicate, get_args(Predicate))
    if predicate == "point":
        return _zone_objects_by_point(zones, shapely.point_on_surface(objects))
    objects, zone = np.asarray(objects, object), zones.tree
    one, other = zone.query(objects, predicate="intersects")
    area = shapely.area(shapely.intersection(objects[one], zones.shapes[other]))
    some = area > 0  # those that only touch do not count
    share = area / shapely.area(objects)[one] if predicate == "area" else np.ones(len(one))
    return _sorted_zone_objects(one[some], other[some], share[some])


def _zone_objects_by_point(zones: Zones, points: NDArray[np.object_]) -> Belonging:
    one, zone = zones.tree.query(points, predicate="intersects")
    owner = np.full(len(points), len(zones))
    np.minimum.at(owner, one, zone)
    lost = np.flatnonzero(owner == len(zones))
    near, zone = zones.tree.query_nearest(points[lost], max_distance=NEAR)
    np.minimum.at(owner, lost[near], zone)
    found = np.flatnonzero(owner < len(zones))
    return _sorted_zone_objects(found, owner[found], np.ones(len(found)))


def _sorted_zone_objects(one: I64, zone: I64, share: F64) -> Belonging:
    order = np.lexsort((zone, one))
    return Belonging(object=one[order], zone=zone[order], share=share[order])
