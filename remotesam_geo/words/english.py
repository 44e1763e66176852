"""The little English that labels need: one spelling to compare them by, and their plural."""

import re
from unicodedata import category, normalize

__all__ = ["basic_words", "pluralize", "spelling"]

# British spellings of what the vocabulary writes the American way; found in run-together names too.
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
_ASCII_WORDS = re.compile(r"[a-z0-9]+|[^a-z0-9\s]")
_NOT_LETTERS = re.compile(r"[\W_]+")
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
_PLURAL_ALREADY = frozenset(_IRREGULAR.values())
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
_HEAD = re.compile(r"[^\W_]+$")
_JOINT = re.compile(r"\s(?:of|for|in|on|at|with|under|from|to|by|near|without)\s")
_TAKES_OES = ("cargo", "echo", "hero", "mosquito", "potato", "tomato", "torpedo", "volcano")


def basic_words(text: str) -> list[str]:
    """Words as BERT's basic tokenizer sees them: lower case, no accents, punctuation apart.

    Examples:
        >>> from remotesam_geo.words.english import basic_words
        >>> basic_words("Crêpe-stand, NORTH")
        ['crepe', '-', 'stand', ',', 'north']
    """
    text = text.lower()
    if text.isascii() and text.isprintable():
        return _ASCII_WORDS.findall(text)
    words: list[str] = []
    word = ""
    for letter in normalize("NFD", text):
        kind = category(letter)
        space = letter in "\t\n\r" or kind[0] == "Z"
        if kind == "Mn" or (kind[0] == "C" and not space):
            continue  # an accent, or a sign that does not print
        if space or kind[0] == "P" or (letter.isascii() and not letter.isalnum()):
            words += filter(None, (word, "" if space else letter))
            word = ""
        else:
            word += letter
    return [*words, word] if word else words


def spelling(name: str) -> str:
    """What spellings of one name share: letters and digits alone, in American spelling.

    Examples:
        >>> from remotesam_geo.words.english import spelling
        >>> spelling("Storage_Tank") == spelling("storagetank"), spelling("Harbour")
        (True, 'harbor')
    """
    name = name.replace("&", " and ")
    if name.isascii():
        joined = _NOT_LETTERS.sub("", name.lower())
    else:
        joined = "".join(word for word in basic_words(name) if word.isalnum())
    return _VARIANT.sub(lambda found: _VARIANTS[found[0]], joined)


def pluralize(name: str) -> str:
    """The plural of a noun phrase by the rules of English; what is plural already stays.

    Examples:
        >>> from remotesam_geo.words.english import pluralize
        >>> [pluralize(n) for n in ("wharf", "oasis", "field of rice", "aircraft", "ruins")]
        ['wharves', 'oases', 'fields of rice', 'aircraft', 'ruins']
    """
    joint = _JOINT.search(name)
    phrase, rest = (name[: joint.start()], name[joint.start() :]) if joint else (name, "")
    head = _HEAD.search(phrase)
    return phrase[: head.start()] + _plural_of_word(head[0]) + rest if head else name


def _plural_of_word(word: str) -> str:
    low = word.lower()
    if low in _IRREGULAR:
        return word[:1] + _IRREGULAR[low][1:]
    if low in _INVARIABLE or low in _PLURAL_ALREADY or low.endswith(("craft", "works")):
        return word
    if re.search("(^|wo|s|r)m[ae]n$", low):
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
