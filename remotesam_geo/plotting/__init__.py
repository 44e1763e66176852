"""Pictures and maps of what was found."""

from .drawing import plot
from .exploring import Map, explore
from .sheet import contact_sheet

__all__ = ["Map", "contact_sheet", "explore", "plot"]
