"""Results as files that other programs read: vectors, rasters, STAC items, each with how it was made."""

from .provenance import read_provenance
from .rasters import open_probabilities
from .saving import save
from .stac_items import model_item, result_item

__all__ = ["model_item", "open_probabilities", "read_provenance", "result_item", "save"]
