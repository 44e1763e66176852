"""The little English that labels need: one spelling to compare them by, and their plural."""

import re
from unicodedata import category, normalize

__all__ = ["basic_words", "pluralize", "spelling"]

# Unlike suffixes of one word on the two sides of the Atlantic, compared within run-together names.
_VARIANTS = {
    "aeroplane": "airplane",
    "aluminium": "aluminum",
    "armour": "armor",
    "artefact": "artifact",
    "centre": "center",
    "colour": "color",
    "defence": "defense",
    "fibre": "fiber",
    "grey": "gray",
    "harbour": "harbor",
    "kerb": "curb",
    "metre": "meter",
    "neighbour": "neighbor",
    "plough": "plow",
    "storey": "story",
    "sulphur": "sulfur",
    "theatre": "theater",
    "tyre": "tire",
}
_VARIANT = re.compile("|".join(_VARIANTS))

_IRREGULAR = {
    "calf": "calves",
    "child": "children",
    "foot": "feet",
    "half": "halves",
    "leaf": "leaves",
    "loch": "lochs",
    "ox": "oxen",
    "person": "people",
    "shelf": "shelves",
    "wharf": "wharves",
    "wolf": "wolves",
}
_PLURAL_ALREADY = frozenset(_IRREGULAR.values()) | {"men", "women"}
# Words without a plural of their own: substances, covers, collectives, and the odd invariable.
_INVARIABLE = frozenset(
    re.findall(
        r"\w+",
        """agriculture algae aquaculture asphalt bamboo bison cattle clutter concrete cropland
        debris deer farmland fish fog foliage garbage gravel haze housing ice land livestock machinery
        maize mud people pollution poultry rice rubble sand scaffolding scree scrap scrub series
        sheep silt slush smog smoke snow soil species swine tarmac timber traffic turf vegetation
        waste wasteland wheat wildlife""",
    )
)
_JOINT = re.compile(r"\s(?:of|for|in|on|at|with|under|from|to|by|near|without)\s")
_TAKES_OES = ("cargo", "echo", "hero", "mosquito", "potato", "tomato", "torpedo", "volcano")


def basic_words(text: str) -> list[str]:
    """Words as BERT's basic tokenizer sees them: lower case, no accents, punctuation apart.

    Example:
        >>> from remotesam_geo.words.english import basic_words
        >>> basic_words("Crêpe-stand, NORTH")
        ['crepe', '-', 'stand', ',', 'north']
    """
    text = text.lower()
    if not text.isascii():
        text = "".join(c for c in normalize("NFD", text) if category(c) != "Mn")
    return re.findall(r"[^\W_]+|[^\w\s]|_", text)


def spelling(name: str) -> str:
    """What spellings of one name share: letters and digits alone, in American spelling.

    Example:
        >>> from remotesam_geo.words.english import spelling
        >>> spelling("Storage_Tank") == spelling("storagetank"), spelling("Harbour")
        (True, 'harbor')
    """
    name = name.replace("&", " and ")
    if name.isascii():
        joined = re.sub(r"[\W_]+", "", name.lower())
    else:
        joined = "".join(word for word in basic_words(name) if word.isalnum())
    return _VARIANT.sub(lambda found: _VARIANTS[found[0]], joined)


def pluralize(name: str) -> str:
    """The plural of a noun phrase by the rules of English; what is plural already stays.

    Example:
        >>> from remotesam_geo.words.english import pluralize
        >>> [pluralize(n) for n in ("wharf", "oasis", "field of rice", "aircraft", "ruins")]
        ['wharves', 'oases', 'fields of rice', 'aircraft', 'ruins']
    """
    joint = _JOINT.search(name)
    phrase, rest = (name[: joint.start()], name[joint.start() :]) if joint else (name, "")
    head = re.search(r"[^\W_]+$", phrase)
    return phrase[: head.start()] + _plural_of_word(head[0]) + rest if head else name


def _plural_of_word(word: str) -> str:
    low = word.lower()
    if low in _IRREGULAR:
        return word[:1] + _IRREGULAR[low][1:]
    if low in _INVARIABLE or low in _PLURAL_ALREADY or low.endswith(("craft", "works")):
        return word
    if low in ("man", "woman") or low.endswith(("sman", "rman")):
        return word[:-2] + "en"
    if low.endswith("sis"):
        return word[:-2] + "es"
    if low in ("gas", "bus", "lens") or low.endswith(("ss", "us", "x", "z", "ch", "sh")):
        return word + "es"
    if low.endswith("s"):
        return word  # ruins, rapids, mudflats
    if re.search("[^aeiou]y$", low):
        return word[:-1] + "ies"
    return word + ("es" if low in _TAKES_OES else "s")
