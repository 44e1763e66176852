"""Warnings about prompts that can hardly be answered: unknown words, several classes in one, sizes that do not fit."""

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from itertools import chain
from typing import TYPE_CHECKING
from warnings import warn

from remotesam_geo.errors import RemoteSAMWarning

from .categories import category_within, vocabulary

if TYPE_CHECKING:
    from .prompts import Prompt

__all__ = ["warn_of_commas", "warn_of_sizes", "warn_of_unknown_words"]

SEPARATORS = re.compile(r"[,;\uff0c\uff1b\u3001]")
FEWEST_PIXELS = 2
"""Pixels across the largest things of a class below which hardly any can be found."""
FEWEST_PIXELS_OF_WIDTH = 1
"""The same for the width of linear things: their length helps."""
MOST_WINDOWS = 1
"""Windows that the smallest objects of a class may fill."""
MOST_WINDOWS_OF_AREA = 4
"""The same for areas, which are known by their texture: a part of a forest is forest."""
LISTED = 20
"""Names that a message lists."""


def warn_of_commas(prompts: Sequence["Prompt"], names: Sequence[str]) -> bool:
    """Warn of single prompts that list several classes, and say whether there are any.

    Args:
        prompts: The prompts.
        names: Labels that were given as bare class names. In other expressions a comma is usual; they warn only where
            each part is a known name.
    """
    found = False
    known = vocabulary()
    for prompt in prompts:
        for text in (prompt.label,) if prompt.label in names else prompt.expressions:
            parts = [part.strip() for part in SEPARATORS.split(text) if part.strip()]
            if len(parts) < 2 or not (prompt.label in names or all(part in known for part in parts)):
                continue
            found = True
            warn(
                f"{text!r} is one prompt, and it holds a comma: for several classes give a list, {parts!r}",
                RemoteSAMWarning,
                stacklevel=4,
            )
    return found


def warn_of_unknown_words(
    prompts: Sequence["Prompt"], unknown_words: Callable[[str], Sequence[str]], *, commas: bool
) -> None:
    """Warn of prompts that a model with a word list of its own cannot know, and name the nearest that it knows.

    Args:
        prompts: The prompts.
        unknown_words: Gives the words of an expression that the model does not know.
        commas: Whether punctuation may be unknown: it was warned of already.
    """
    known: list[str] | None = None
    for prompt in prompts:
        missing = {
            expression: [
                word for word in unknown_words(expression) if not commas or any(letter.isalnum() for letter in word)
            ]
            for expression in prompt.expressions
        }
        asked = next((expression for expression, words in missing.items() if words), None)
        if asked is None:
            continue
        if known is None:
            known = [each.name for each in vocabulary() if not unknown_words(each.name)]
        near = _nearest_known_name(prompt.label, asked, known, unknown_words)
        hint = f" Did you mean {near!r}?" if near else ""
        listed = f" Classes it has words for: {', '.join(known)}." if 0 < len(known) <= LISTED else ""
        words = ", ".join(repr(word) for word in dict.fromkeys(chain(*missing.values())))
        warn(
            f"the model does not know {words}, so it will hardly find anything for {prompt.label!r}.{hint}{listed}",
            RemoteSAMWarning,
            stacklevel=4,
        )


def warn_of_sizes(prompts: Sequence["Prompt"], *, metres: float, window: int) -> None:
    """Warn of prompts for things that are too small for the pixels, or too large for the window.

    Typical sizes are those of the vocabulary; prompts that name nothing it knows are passed over.

    Args:
        prompts: The prompts of one resolution.
        metres: Side of a pixel on the ground.
        window: Pixels along the side of a window.
    """
    for prompt in prompts:
        doubts = [_size_doubt(expression, metres, window) for expression in prompt.expressions]
        if all(doubts):
            warn(f"{prompt.label!r}: {doubts[0]}", RemoteSAMWarning, stacklevel=5)


def _size_doubt(expression: str, metres: float, window: int) -> str | None:
    """Why things of an expression can hardly be found at a resolution, if so."""
    category = category_within(expression)
    if category is None:
        return None
    smallest, largest = category.size
    linear = category.kind == "linear"
    spans = f"a {category.name!r} is typically {smallest:g} to {largest:g} m {'wide' if linear else 'long'}"
    fewest = FEWEST_PIXELS_OF_WIDTH if linear else FEWEST_PIXELS
    if largest < fewest * metres:
        return (
            f"{spans}, less than {fewest} pixel{'s' if fewest > 1 else ''} of {metres:.3g} m, so hardly any can be "
            "found: give a scene of finer resolution"
        )
    most = MOST_WINDOWS_OF_AREA if category.kind == "area" else MOST_WINDOWS
    if not linear and smallest > most * window * metres:
        return (
            f"{spans}, and a window of {window} pixels covers {window * metres:.3g} m, so the network never sees one "
            "whole: ask at a coarser resolution, resolution='auto' for example"
        )
    return None


def _nearest_known_name(
    label: str, asked: str, known: Sequence[str], unknown_words: Callable[[str], Sequence[str]]
) -> str | None:
    """The known name of the category or of a broader one, else a known synonym, else what is spelled alike."""
    category = vocabulary().get(label) or category_within(asked)
    if category is not None:
        path = [vocabulary()[name] for name in reversed(vocabulary().path(category.name))]
        names = [each.name for each in path]
        names += [synonym for each in path for synonym in each.synonyms]
        for name in names:
            if not unknown_words(name):
                return name
    close = get_close_matches(label.lower(), known, n=1)
    return close[0] if close else None
