"""The words that ask: prompts, view-relative words, and a vocabulary of Earth observation."""

from .categories import Category, Vocabulary, auto_resolution, plural, suggest, vocabulary
from .doubts import warn_of_sizes
from .prompts import (
    CLASS_TEMPLATE,
    Prompt,
    PromptLike,
    Resolution,
    ResolutionLike,
    check_resolutions,
    distinct_expressions,
    parse_prompts,
    threshold_steps,
)
from .views import view_words

__all__ = [
    "CLASS_TEMPLATE",
    "Category",
    "Prompt",
    "PromptLike",
    "Resolution",
    "ResolutionLike",
    "Vocabulary",
    "auto_resolution",
    "check_resolutions",
    "distinct_expressions",
    "parse_prompts",
    "plural",
    "suggest",
    "threshold_steps",
    "view_words",
    "vocabulary",
    "warn_of_sizes",
]
