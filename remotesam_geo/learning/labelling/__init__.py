"""The data engine: from pictures and labels to image-text-mask triplets, by small steps that can be replaced.

The path of rules needs no model and no network.
"""

from .captioned import CAPTION_PROMPT, PARSE_PROMPT, AskedModel, Captioned, Referrer, Writer
from .colours import PALETTE, colours_of
from .filters import AreaFilter, Confirmed, consistent, difference_hash
from .journal import JournalLine
from .likeness import ChosenLeast, choose_least, right_and_wrong
from .mask_sources import GivenMasks, TaughtMasks, Teacher, agreement
from .pipeline import Engine, Made, Source, rules, run_engine
from .procedural import world_example
from .relabel import Relabelling, relabel
from .replies import Reply, read_reply
from .rule_expressions import AbsentClasses, KindClasses, SingleThings, foreign_names
from .run_report import EngineReport
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
    "ExpressionStep",
    "FilterStep",
    "GivenMasks",
    "JournalLine",
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
