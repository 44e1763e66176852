"""The data engine: from pictures and labels to image-text-mask triplets, by small steps that can be replaced.

The path of rules needs no model and no network.
"""

from .colours import PALETTE, colours_of
from .expressions import AbsentClasses, KindClasses, SingleThings, foreign_names
from .filters import AreaFilter, Confirmed, consistent, difference_hash
from .journal import Entry
from .masks import GivenMasks, TaughtMasks, Teacher, agreement
from .procedural import world_example
from .relabel import Relabelling, relabel
from .report import EngineReport
from .running import Engine, Made, Source, rules, run_engine
from .statistics import Statistics, sheet, statistics
from .steps import ExpressionStep, FilterStep, MaskStep, Material, describe, related, spoken

__all__ = [
    "PALETTE",
    "AbsentClasses",
    "AreaFilter",
    "Confirmed",
    "Engine",
    "EngineReport",
    "Entry",
    "ExpressionStep",
    "FilterStep",
    "GivenMasks",
    "KindClasses",
    "Made",
    "MaskStep",
    "Material",
    "Relabelling",
    "SingleThings",
    "Source",
    "Statistics",
    "TaughtMasks",
    "Teacher",
    "agreement",
    "colours_of",
    "consistent",
    "describe",
    "difference_hash",
    "foreign_names",
    "relabel",
    "related",
    "rules",
    "run_engine",
    "sheet",
    "spoken",
    "statistics",
    "world_example",
]
