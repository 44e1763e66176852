"""GeoJSON geometries from outside: what is wrong with them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import shapely
import shapely.errors
import shapely.geometry

from remotesam_geo.net.redact import shown

__all__ = ["geometry_fault"]


def geometry_fault(geometry: Any) -> str:
    """What is wrong with a geometry, "" where it is right."""
    if not isinstance(geometry, Mapping):
        return f"{shown(geometry)} is not an object"
    try:
        shape = shapely.geometry.shape(geometry)
        if shape.is_empty:
            return f"{shown(dict(geometry))} is empty"
        if not np.isfinite(shapely.get_coordinates(shape)).all():
            return f"{shown(dict(geometry))} has coordinates that are not finite"
    except (LookupError, AttributeError, TypeError, ValueError, ArithmeticError, RecursionError,
            shapely.errors.ShapelyError):  # fmt: skip
        return f"{shown(dict(geometry))} cannot be read"
    return ""
