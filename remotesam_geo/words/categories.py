"""A vocabulary of what can be seen from above: names, their spellings, sizes and places.

About a thousand categories in three levels, kept as CSV, a file per domain, in
`remotesam_geo/data/vocabulary`. Nothing is read before the first question.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from math import floor, isfinite, log, log10, sqrt
from typing import Literal, cast, get_args

from remotesam_geo.errors import InputError, number_in, one_of

from .english import basic_words, pluralize, spelling

__all__ = [
    "Category",
    "Vocabulary",
    "auto_resolution",
    "category_within",
    "plural",
    "suggest",
    "vocabulary",
]

Kind = Literal["object", "area", "linear"]

COLUMNS = ("name", "parent", "kind", "smallest_m", "largest_m", "plural", "synonyms")
LEVELS = 3
MOST_WORDS = 5  # of a name that is looked for within an expression

_NAME = re.compile(r"[a-z0-9]+(?:[ -][a-z0-9]+)*")  # so that names read alike in every file

# Pixels across an object (area: a patch) that the network answers well, in a window of 896.
FEWEST_PIXELS, MOST_PIXELS, WINDOW = 24, 450, 896
# Of a linear thing the width is known, and seen well from fewer pixels: its length helps.
FEWEST_PIXELS_OF_WIDTH = 6
# Resolutions are rounded to few, since prompts of one resolution are asked together.
ROUND = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Category:
    """One line of the vocabulary.

    Attributes:
        name: Singular, lower case, in American spelling.
        parent: The name of the broader category; None for the broadest.
        level: 1 (domain), 2 or 3.
        kind: "object" and "area" are measured by their longer side, "linear" by its width.
        size: The typical range of that measure in metres.
        plural: What captions say of many.
        synonyms: Other names, and narrower ones without a line of their own.
    """

    name: str
    parent: str | None
    level: int
    kind: Kind
    size: tuple[float, float]
    plural: str
    synonyms: tuple[str, ...]

    def __post_init__(self) -> None:
        one_of("kind", self.kind, get_args(Kind))


class Vocabulary:
    """Categories by any of their names; `vocabulary()` gives the one of this package.

    Args:
        categories: Each after its parent.

    Raises:
        InputError: A name that two categories claim, an unknown parent, an unusable size.

    Examples:
        >>> from remotesam_geo.words import vocabulary
        >>> tank = vocabulary()["storagetank"]
        >>> tank.name, tank.kind, vocabulary().path("storage tanks")[-1]
        ('storage tank', 'object', 'storage tank')
    """

    def __init__(self, categories: Iterable[Category]) -> None:
        self._categories: dict[str, Category] = {}
        self._spellings: dict[str, tuple[str, Category]] = {}  # what is known by each spelling
        self._children: dict[str | None, list[str]] = {None: []}
        for category in categories:
            _check_category(category, self._categories)
            for name in (category.name, *category.synonyms):
                _, other = self._spellings.setdefault(spelling(name), (name, category))
                if other is not category:
                    raise InputError(f"{name!r} names both {category.name!r} and {other.name!r}")
            self._categories[category.name] = category
            self._children[category.parent].append(category.name)
            self._children[category.name] = []

    def __len__(self) -> int:
        return len(self._categories)

    def __iter__(self) -> Iterator[Category]:
        return iter(self._categories.values())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __getitem__(self, name: str) -> Category:
        found = self.get(name)
        if found is None:
            near = self.suggest(name)
            raise InputError(
                f"{name!r} is no category of the vocabulary"
                + (f"; did you mean {' or '.join(map(repr, near))}?" if near else ".")
            )
        return found

    def get(self, name: str) -> Category | None:
        """The category of a name, synonym, plural or spelling variant; None where unknown."""
        spelled = spelling(name)
        found = self._spellings.get(spelled) or self._plurals.get(spelled)
        return found[1] if found else None

    def has_spelling(self, name: str) -> bool:
        """Whether a name is known word by word: "storage-tank" is, "storagetank" is not."""
        words = " ".join(word for word in basic_words(name) if word.isalnum())
        return words in self._written

    def children(self, name: str | None = None) -> tuple[str, ...]:
        """The names one level below a category, in file order; without a name, the domains.

        Examples:
            >>> from remotesam_geo.words import vocabulary
            >>> "storage tank" in vocabulary().children(vocabulary()["storage tank"].parent)
            True
        """
        return tuple(self._children[None if name is None else self[name].name])

    def path(self, name: str) -> tuple[str, ...]:
        """The names from the domain down to a category.

        Examples:
            >>> from remotesam_geo.words import vocabulary
            >>> len(vocabulary().path("storage tank"))
            3
        """
        category: Category | None = self[name]
        names: list[str] = []
        while category is not None:
            names.append(category.name)
            category = self._categories[category.parent] if category.parent else None
        return tuple(reversed(names))

    def suggest(self, name: str, limit: int = 3) -> tuple[str, ...]:
        """Known names that a misspelt one may mean, the nearest first.

        One slip (a letter missing, added, wrong, or two exchanged) is forgiven, two in a name of
        eight letters or more; case, spaces and hyphens do not count.

        Examples:
            >>> from remotesam_geo.words import vocabulary
            >>> vocabulary().suggest("storagetank"), vocabulary().suggest("airplnae")
            (('storage tank',), ('airplane',))
        """
        spelled = spelling(name)
        if found := self._spellings.get(spelled) or self._plurals.get(spelled):
            return (found[0],)
        most = 2 if len(spelled) >= 8 else 1
        letters = _letter_bits(spelled)
        ranked = sorted(
            (distance, written != category.name, abs(len(key) - len(spelled)), written)
            for key, mask, written, category in self._candidates
            if abs(len(key) - len(spelled)) <= most
            and (mask ^ letters).bit_count() <= 2 * most  # one slip changes two letters at most
            and (distance := _edit_distance(spelled, key, most)) <= most
        )
        return tuple(dict.fromkeys(row[-1] for row in ranked))[:limit]

    @cached_property
    def _plurals(self) -> dict[str, tuple[str, Category]]:
        """Plural spellings; a name of its own ("flats") goes before another's plural."""
        plurals: dict[str, tuple[str, Category]] = {}
        for written, category in self._spellings.values():
            of_many = category.plural if written == category.name else pluralize(written)
            key = spelling(of_many)
            if key not in self._spellings:
                plurals.setdefault(key, (written, category))
        return plurals

    @cached_property
    def _written(self) -> frozenset[str]:
        known: set[str] = set()
        for category in self:
            for name in (category.name, *category.synonyms):
                known.update((name, pluralize(name)))
            known.add(category.plural)
        return frozenset(" ".join(w for w in basic_words(name) if w.isalnum()) for name in known)

    @cached_property
    def _candidates(self) -> list[tuple[str, int, str, Category]]:
        return [
            (key, _letter_bits(key), *found)
            for spellings in (self._spellings, self._plurals)
            for key, found in spellings.items()
        ]


@cache
def vocabulary() -> Vocabulary:
    """The vocabulary of this package, read at the first call.

    Examples:
        >>> from remotesam_geo.words import vocabulary
        >>> "storage tank" in vocabulary(), vocabulary().children()[:1] != ()
        (True, True)
    """
    folder = files("remotesam_geo").joinpath("data", "vocabulary")
    tables = sorted(
        (table for table in folder.iterdir() if table.name.endswith(".csv")),
        key=lambda table: table.name,
    )
    return Vocabulary(category for table in tables for category in read_table(table.read_text("utf-8")))


def read_table(text: str) -> Iterator[Category]:
    """The categories of one CSV table: a domain first, each category after its parent."""
    rows = csv.reader(text.splitlines())
    header = tuple(next(rows, ()))
    if header != COLUMNS:
        raise InputError(f"the columns are {header}: they must be {COLUMNS}")
    levels: dict[str, int] = {}
    for row in rows:
        if len(row) != len(COLUMNS):
            raise InputError(f"the line {','.join(row)!r} has {len(row)} fields, not {len(header)}")
        name, parent, kind, smallest, largest, of_many, synonyms = row
        try:
            size = float(smallest), float(largest)
        except ValueError as error:
            raise InputError(f"{name!r} has the sizes {smallest!r} and {largest!r}: give metres") from error
        levels[name] = levels.get(parent, 0) + 1
        yield Category(
            name=name,
            parent=parent or None,
            level=levels[name],
            kind=cast("Kind", kind),
            size=size,
            plural=of_many or pluralize(name),
            synonyms=tuple(synonyms.split(";")) if synonyms else (),
        )


def suggest(name: str) -> tuple[str, ...]:
    """Known names that a misspelt one may mean, the nearest first; see `Vocabulary.suggest`.

    Examples:
        >>> from remotesam_geo.words import suggest
        >>> suggest("helicoptor")
        ('helicopter',)
    """
    return vocabulary().suggest(name)


def plural(name: str) -> str:
    """The plural of a name, known to the vocabulary or not.

    Examples:
        >>> from remotesam_geo.words import plural
        >>> plural("airplane"), plural("aircraft"), plural("red canoe")
        ('airplanes', 'aircraft', 'red canoes')
    """
    category = vocabulary().get(name)
    if category is not None and name.lower() in (category.name, category.plural):
        return category.plural
    return pluralize(name)


def auto_resolution(label: str, window: int = WINDOW) -> float | None:
    """A ground resolution at which things of this name are seen well, in metres a pixel.

    It aims at 24 to 450 pixels across the typical sizes (of a window of 896 pixels; from 6 across
    the width of a linear thing). Where sizes differ too much for that, the smallest get too few
    by the factor by which the largest get too many. Callers never go finer than the scene.

    Args:
        label: A name, or an expression with a known name in it.
        window: Pixels along a side of the network's window.

    Returns:
        Metres a pixel, one of few round values; None where no known name is found.

    Examples:
        >>> from remotesam_geo.words import auto_resolution
        >>> auto_resolution("airplane") < auto_resolution("airport")
        True
        >>> auto_resolution("the storage tanks near the river") == auto_resolution("storage tank")
        True
    """
    number_in("window", window, 1, whole=True)
    category = category_within(label)
    if category is None:
        return None
    fewest = FEWEST_PIXELS_OF_WIDTH if category.kind == "linear" else FEWEST_PIXELS
    most = MOST_PIXELS * window / WINDOW
    smallest, largest = category.size
    return _round_size(sqrt(smallest / fewest * largest / most))


def category_within(text: str) -> Category | None:
    """The category of a name, or of the first known name in an expression.

    The first, since English names the thing before what it is "with", "on" or "near".
    """
    known = vocabulary()
    if found := known.get(text):
        return found
    words = [word for word in basic_words(text) if word.isalnum()]
    for start in range(len(words)):
        for end in range(min(len(words), start + MOST_WORDS), start, -1):
            if found := known.get(" ".join(words[start:end])):
                return found
    return None


def _round_size(metres: float) -> float:
    """The nearest of 1, 1.5, 2, 3, 5, 7 times a power of ten, by ratio."""
    power = 10.0 ** floor(log10(metres))
    near = min(ROUND, key=lambda step: abs(log(step * power / metres)))
    return float(f"{near * power:.6g}")


def _check_category(category: Category, known: dict[str, Category]) -> None:
    smallest, largest = category.size
    if not 0 < smallest <= largest or not isfinite(largest):
        raise InputError(f"{category.name!r} has the size {category.size}: 0 < smallest <= largest")
    if category.parent is not None and category.parent not in known:
        raise InputError(f"{category.name!r} comes before its parent {category.parent!r}")
    if not 1 <= category.level <= LEVELS:
        raise InputError(f"{category.name!r} is on level {category.level}: there are {LEVELS}")
    for name in (category.name, category.plural, *category.synonyms):
        if not _NAME.fullmatch(name):
            raise InputError(f"{category.name!r} has the name {name!r}: lower case words, one space or hyphen between")


def _letter_bits(text: str) -> int:
    """The set of letters of a text, as bits."""
    mask = 0
    for letter in text:
        mask |= 1 << (ord(letter) & 63)
    return mask


def _edit_distance(a: str, b: str, most: int) -> int:
    """The least number of slips from one text to the other; more than `most` is not counted on.

    A slip is a letter inserted, lost, replaced, or exchanged with its neighbour (optimal string
    alignment).
    """
    before, last = [0] * (len(b) + 1), list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and y == a[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
        before, last = last, row
    return last[-1]
