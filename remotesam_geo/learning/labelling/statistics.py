"""What a data set holds: counts, lengths, coverage of the vocabulary, near-duplicates; and a sheet of its pictures."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from remotesam_geo.errors import InputError
from remotesam_geo.learning.datasets import Triplet
from remotesam_geo.words import vocabulary

from .colours import PALETTE
from .filters import difference_hash
from .steps import spoken

__all__ = ["Statistics", "sheet", "statistics"]

ATTRIBUTES: Mapping[str, frozenset[str]] = {
    "colour": frozenset({*PALETTE, "gray", "beige", "pink", "dark", "light", "bright"}),
    "size": frozenset(
        "largest smallest biggest longest shortest widest large small big little tiny long short wide narrow".split()  # noqa: SIM905
    ),
    "position": frozenset(
        "left right top bottom upper lower center centre middle corner leftmost rightmost topmost bottommost".split()  # noqa: SIM905
    ),
    "relation": frozenset(
        [
            "nearest",
            "closest",
            "farthest",
            "near",
            "beside",
            "between",
            "above",
            "below",
            "around",
            "next",
            "of",
        ]
    ),
    "shape": frozenset("round circular square rectangular curved straight oval triangular".split()),  # noqa: SIM905
}
"""Words by which an expression counts as using an attribute."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Figures of a data set.

    Attributes:
        pictures: How many.
        triplets: How many.
        kinds: Triplets by kind.
        labels: Triplets by class, the most frequent first; absent classes not counted.
        attributes: Triplets by the attributes that their words use.
        attributes_each: Mean number of attributes of a one-to-one expression.
        words: Expressions by their number of words.
        covered: The share of the vocabulary's categories, and of its domains, that labels belong to.
        unknown: Labels that the vocabulary does not know.
        near: Pairs of pictures that may be the same, by name.
    """

    pictures: int
    triplets: int
    kinds: Mapping[str, int]
    labels: Mapping[str, int]
    attributes: Mapping[str, int]
    attributes_each: float
    words: Mapping[int, int]
    covered: tuple[float, float]
    unknown: tuple[str, ...]
    near: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def table(self) -> str:
        """As Markdown."""
        lengths = [n for n, count in self.words.items() for _ in range(count)]
        rows = [
            ("pictures", f"{self.pictures:,}"),
            ("triplets", f"{self.triplets:,}"),
            *((kind, f"{count:,}") for kind, count in self.kinds.items()),
            ("classes", f"{len(self.labels):,}"),
            *((f"words of {name}", f"{count:,}") for name, count in self.attributes.items()),
            ("attributes a one-to-one expression", f"{self.attributes_each:.2f}"),
            (
                "words, median and most",
                f"{np.median(lengths):g}, {max(lengths)}" if lengths else "",
            ),
            ("categories of the vocabulary", f"{self.covered[0]:.1%}"),
            ("domains of the vocabulary", f"{self.covered[1]:.1%}"),
            ("labels it does not know", ", ".join(self.unknown) or "none"),
            ("near-duplicate pictures", f"{len(self.near):,}"),
        ]
        return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)])


def statistics(triplets: Iterable[Triplet], *, near: int = 3) -> Statistics:
    """Count what a data set holds; every picture is read once.

    Args:
        triplets: A `TripletStore`, or triplets of one picture after the other.
        near: Bits of `difference_hash` by which near-duplicates differ at most.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.learning.labelling import statistics
        >>> from remotesam_geo.learning.datasets import Mask, Picture, Triplet
        >>> picture = Picture.of("a", np.zeros((40, 40, 3), np.uint8))
        >>> mask = Mask.of_box((0, 0, 9, 9), (40, 40))
        >>> one = Triplet(picture=picture, expression="the red ship", mask=mask, kind="one-to-one", label="ship")
        >>> found = statistics([one])
        >>> found.attributes["colour"], found.attributes_each, dict(found.words)
        (1, 1.0, {3: 1})
    """
    kinds: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    attributes: Counter[str] = Counter(dict.fromkeys(ATTRIBUTES, 0))
    words: Counter[int] = Counter()
    each: list[int] = []
    hashes: dict[str, int] = {}
    for triplet in triplets:
        said = triplet.expression.lower().replace("-", " ").split()
        used = [name for name, known in ATTRIBUTES.items() if not known.isdisjoint(said)]
        kinds[triplet.kind] += 1
        words[len(said)] += 1
        attributes.update(used)
        if triplet.kind == "one-to-one":
            each.append(len(used))
        if triplet.kind != "one-to-zero" and triplet.label:
            labels[triplet.label] += 1
        if triplet.picture.name not in hashes:
            hashes[triplet.picture.name] = difference_hash(triplet.picture.read())
    known = vocabulary()
    there = {name for name in map(spoken, labels) if name in known}
    return Statistics(
        pictures=len(hashes),
        triplets=sum(kinds.values()),
        kinds=dict(sorted(kinds.items())),
        labels=dict(labels.most_common()),
        attributes=dict(attributes),
        attributes_each=float(np.mean(each)) if each else 0.0,
        words=dict(sorted(words.items())),
        covered=(
            len({known[name].name for name in there}) / len(known),
            len({known.path(name)[0] for name in there}) / len(known.children()),
        ),
        unknown=tuple(sorted(label for label in labels if spoken(label) not in known)),
        near=tuple(_near_duplicates(hashes, near)),
    )


def _near_duplicates(hashes: Mapping[str, int], bits: int) -> Iterable[tuple[str, str]]:
    """Pairs of pictures whose hashes differ in few bits."""
    names = list(hashes)
    values = np.array([hashes[name] for name in names], np.uint64)
    for k, name in enumerate(names):
        away = np.bitwise_count(values[k + 1 :] ^ values[k])
        yield from ((name, names[k + 1 + int(other)]) for other in np.flatnonzero(away <= bits))


def sheet(
    triplets: Iterable[Triplet],
    *,
    count: int = 24,
    columns: int = 6,
    side: int = 200,
    seed: int = 0,
) -> Image.Image:
    """A page of pictures: triplets drawn at random, what is meant in red, with their words.

    Args:
        triplets: What to choose from; one pass is made over it.
        count: How many to show.
        columns: How many beside each other.
        side: Of each picture in pixels.
        seed: Of the choice.
    """
    if min(count, columns, side) < 1:
        raise InputError(f"count={count}, columns={columns}, side={side}: give numbers above 0.")
    rng = random.Random(seed)  # noqa: S311 - no secrets
    chosen: list[Triplet] = []
    for number, triplet in enumerate(triplets):  # each has the same chance, however many there are
        if len(chosen) < count:
            chosen.append(triplet)
        elif (place := rng.randrange(number + 1)) < count:
            chosen[place] = triplet
    rows = -(-len(chosen) // columns)
    page = Image.new("RGB", (columns * side, max(1, rows) * (side + 16)), "white")
    draw = ImageDraw.Draw(page)
    for number, triplet in enumerate(chosen):
        left, top = number % columns * side, number // columns * (side + 16)
        rgb = triplet.picture.read().astype(np.float32)
        mask = triplet.mask.pixels()
        rgb[mask] = rgb[mask] * 0.55 + np.array((240, 60, 60)) * 0.45
        picture = Image.fromarray(rgb.round().astype(np.uint8)).resize((side - 4, side - 4))
        page.paste(picture, (left + 2, top + 2))
        draw.text((left + 3, top + side), triplet.expression[: side // 6], fill="black")
    return page
