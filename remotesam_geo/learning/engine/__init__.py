"""The data engine: from pictures and labels to image-text-mask triplets, by small steps that can be replaced.

The path of rules needs no model and no network.
"""

from .captions import CAPTION_PROMPT, PARSE_PROMPT, AskedModel, Captioned, Referrer, Writer
from .colours import PALETTE, colours_of
from .expressions import AbsentClasses, KindClasses, SingleThings, foreign_names
from .filters import AreaFilter, Confirmed, consistent, difference_hash
from .journal import Entry
from .likeness import ChosenLeast, choose_least, right_and_wrong
from .masks import GivenMasks, TaughtMasks, Teacher, agreement
from .procedural import world_example
from .relabel import Relabelling, relabel
from .replies import Reply, read_reply
from .report import EngineReport
from .running import Engine, Made, Source, rules, run_engine
from .statistics import Statistics, sheet, statistics
from .steps import (
    ExpressionStep,
    FilterStep,
    MaskStep,
    Material,
    Refused,
    describe,
    related,
    spoken,
)

__all__ = [
    "CAPTION_PROMPT",
    "PALETTE",
    "PARSE_PROMPT",
    "AbsentClasses",
    "AreaFilter",
    "AskedModel",
    "Captioned",
    "ChosenLeast",
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
    "Referrer",
    "Refused",
    "Relabelling",
    "Reply",
    "SingleThings",
    "Source",
    "Statistics",
    "TaughtMasks",
    "Teacher",
    "Writer",
    "agreement",
    "choose_least",
    "colours_of",
    "consistent",
    "describe",
    "difference_hash",
    "foreign_names",
    "read_reply",
    "relabel",
    "related",
    "right_and_wrong",
    "rules",
    "run_engine",
    "sheet",
    "spoken",
    "statistics",
    "world_example",
]
