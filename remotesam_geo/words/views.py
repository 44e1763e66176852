"""Words that only make sense in a view: "left" and "largest" ask about the picture one sees.

A map is asked window by window, and every window has a left of its own; such words then mean
something else in each. The patterns below are the documented list; `docs/words.md` explains it.
"""

import re

__all__ = ["view_words"]

_PICTURE = r"(?:image|picture|photo|photograph|scene|view|frame|tile|screen|window)"
_PART = (
    r"(?:part|side|half|third|quarter|edge|border|corner|area|region|portion|section|row|end"
    r"|center|centre|middle)s?"
)
_THE_PICTURE = rf"\s+(?:the|this|an?)\s+{_PICTURE}\b"
_OF_PICTURE = rf"\s+of{_THE_PICTURE}"
# "at the top", "at the top of the image", but not "at the top of the hill", "in the center lane".
_ALONE = rf"(?:(?=\s*(?:$|[,.;:!?]|(?:and|or)\b))|{_OF_PICTURE})"
_AT = r"\b(?:at|in|on|near|to|towards?|from|along|by|around)\s+the\s+(?:very\s+)?"

# Each says what it does not mean, where that is common in descriptions of land.
VIEW_PATTERNS = (
    # left and right, but not a right of way, a right angle, a turn lane or what is left over
    (
        r"\b(?:(?:upper|lower|top|bottom|far)[- ])?left(?:most|[- ]hand)?\b"
        r"(?![- ](?:turns?|turning|over|behind|fallow)\b)"
    ),
    (
        r"\b(?:(?:upper|lower|top|bottom|far)[- ])?right(?:most|[- ]hand)?\b"
        r"(?![- ](?:of[- ]way|angled?|angles|turns?|turning)\b)"
    ),
    # superlatives: the largest of one window is another in the next
    (
        r"\b(?:largest|biggest|smallest|tiniest|longest|shortest|widest|narrowest|tallest|highest"
        r"|nearest|closest|farthest|furthest|brightest|darkest|outermost|innermost)\b"
    ),
    r"\b(?:top|bottom|upper|lower|north(?:ern)?|south(?:ern)?|east(?:ern)?|west(?:ern)?)most\b",
    # parts of the picture, but not the upper part of a slope
    (
        rf"\b(?:top|bottom|upper|lower|central|middle)[- ]{_PART}\b"
        rf"(?!\s+of\b(?!{_THE_PICTURE}))"
    ),
    # places in the picture, but not a flat top, a city center, the corner of a field
    rf"{_AT}(?:top|bottom|center|centre|middle|corner|edge|border|margin)s?{_ALONE}",
    rf"\b(?:top|bottom|center|centre|middle|corner|edge|border|margin)s?{_OF_PICTURE}",
    # one of several by its place, but not an upper deck or a middle school
    (
        rf"\bthe (?:upper|lower|middle)\b(?!\s+of\b)(?![ -](?:left|right|{_PART})\b)"
        r"(?! (?:deck|floor|stor(?:e)?y|level|slope|terrace|reservoir|reach|course|basin|school"
        r"|class|town|city|village|lake|valley|station|lane)(?:s|es)?\b)(?=\s+\w)"
    ),
)
_FOUND = re.compile("|".join(f"(?:{pattern})" for pattern in VIEW_PATTERNS), re.IGNORECASE)


def view_words(expression: str) -> tuple[str, ...]:
    """The words of an expression that depend on the view it is asked of.

    Examples:
        >>> from remotesam_geo.words import view_words
        >>> view_words("the largest ship on the left"), view_words("a house with a flat top")
        (('largest', 'left'), ())
    """
    return tuple(" ".join(found[0].split()) for found in _FOUND.finditer(expression))
