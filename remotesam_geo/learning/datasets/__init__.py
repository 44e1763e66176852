"""Pictures, expressions and masks: read from every published layout, cut from lazy scenes, written and stored.

Files of others are not trusted: what is missing, damaged or hostile is a clear error, or counted and passed over.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .classmaps import (
    ISAID,
    LOVEDA,
    POTSDAM,
    read_class_maps,
    read_isaid,
    read_loveda,
    read_potsdam,
    write_isaid,
    write_loveda,
    write_potsdam,
)
from .coco import read_coco, write_coco
from .dota import read_dota, write_dota
from .faults import LIMITS, DamageError, Faults, OnError, ReadOptions, SizeLimits
from .folders import (
    read_captions,
    read_counts,
    read_refsegrs,
    read_scenes,
    write_captions,
    write_counts,
    write_refsegrs,
    write_scenes,
)
from .published import load_plain_pickle, read_published, write_published
from .records import (
    BACKGROUND,
    UNKNOWN,
    ClassMap,
    Example,
    GroundPlace,
    Kind,
    Picture,
    Thing,
    Triplet,
    triplets_of,
)
from .run_length_mask import Mask
from .spatial_split import SHARES, footprint, place_split, split_by_place
from .store import TripletStore, write_store
from .voc import read_rsvg, read_voc, write_rsvg, write_voc

if TYPE_CHECKING:
    from .from_features import cut_examples, cut_triplets

__all__ = [
    "BACKGROUND",
    "ISAID",
    "LIMITS",
    "LOVEDA",
    "POTSDAM",
    "SHARES",
    "UNKNOWN",
    "ClassMap",
    "DamageError",
    "Example",
    "Faults",
    "GroundPlace",
    "Kind",
    "Mask",
    "OnError",
    "Picture",
    "ReadOptions",
    "SizeLimits",
    "Thing",
    "Triplet",
    "TripletStore",
    "cut_examples",
    "cut_triplets",
    "footprint",
    "load_plain_pickle",
    "place_split",
    "read_captions",
    "read_class_maps",
    "read_coco",
    "read_counts",
    "read_dota",
    "read_isaid",
    "read_loveda",
    "read_potsdam",
    "read_published",
    "read_refsegrs",
    "read_rsvg",
    "read_scenes",
    "read_voc",
    "split_by_place",
    "triplets_of",
    "write_captions",
    "write_coco",
    "write_counts",
    "write_dota",
    "write_isaid",
    "write_loveda",
    "write_potsdam",
    "write_published",
    "write_refsegrs",
    "write_rsvg",
    "write_scenes",
    "write_store",
    "write_voc",
]


def __getattr__(name: str) -> Any:
    """Cutting brings rasterio, xarray and geopandas: reading data sets does without."""
    if name not in ("cut_examples", "cut_triplets"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.from_features"), name)
