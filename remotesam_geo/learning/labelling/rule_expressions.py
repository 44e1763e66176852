"""What is said about a picture, by rules alone: all of a class, classes that are absent, and single things."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from remotesam_geo.errors import each_of, instance_of, number_in, one_of
from remotesam_geo.learning.datasets import Example, Kind, Mask, Thing, Triplet, triplets_of
from remotesam_geo.learning.unambiguous import VisibleThing, telling_apart
from remotesam_geo.words import CLASS_TEMPLATE, plural, vocabulary

from .colours import PALETTE, colours_of
from .steps import Material, related, spoken

__all__ = ["AbsentClasses", "KindClasses", "SingleThings", "foreign_names"]

LONG = 1.5  # times as long as wide: such things have a length to speak of


@dataclass(frozen=True, kw_only=True)
class KindClasses:
    """Each class that is there, with all its things; and what labels themselves say of single things.

    Attributes:
        template: How a class is asked for.
    """

    template: str = CLASS_TEMPLATE

    def __call__(self, material: Material, rng: random.Random) -> Iterator[Triplet]:  # noqa: ARG002 - nothing is drawn
        """One-to-many, and one-to-one where things have descriptions."""
        example = material.example
        labels = {thing.label for thing in example.things}
        names = {label: spoken(label) for label in labels | set(_mapped_labels(example))}
        for triplet in triplets_of(example, template=self.template, spelling=names):
            if triplet.kind == "one-to-one":
                yield replace(triplet, attributes={"rule": "given"})
            elif triplet.label not in material.unsure:
                yield replace(triplet, attributes={"rule": "class"})


@dataclass(frozen=True, kw_only=True)
class AbsentClasses:
    """Classes that are not there, to be answered with nothing.

    Attributes:
        classes: What is labelled wherever it is; what is not labelled in a picture is not there.
        known: How many of these to ask a picture for.
        foreign: How many names of the vocabulary to ask for, from domains that none of the classes belongs to. Nobody
            looked for them: they are taken to be absent, and a model may be asked to confirm it (`Confirmed`).
        template: How a class is asked for.
    """

    classes: tuple[str, ...]
    known: int = 2
    foreign: int = 1
    template: str = CLASS_TEMPLATE

    def __post_init__(self) -> None:
        each_of("classes", self.classes, str, "names of classes")
        number_in("known", self.known, 0, whole=True)
        number_in("foreign", self.foreign, 0, whole=True)
        instance_of("template", self.template, str, "text with {name} in it")

    def __call__(self, material: Material, rng: random.Random) -> Iterator[Triplet]:
        """One-to-zero."""
        example = material.example
        there = {thing.label for thing in example.things} | material.unsure | set(_mapped_labels(example))
        there |= set(example.labels) | {label for label, n in example.counts.items() if n}
        missing = [c for c in self.classes if not any(related(c, other) for other in there)]
        drawn = [(name, "known") for name in rng.sample(missing, min(self.known, len(missing)))]
        if self.foreign:
            names = foreign_names(tuple(sorted({*self.classes, *there})))
            drawn += [(name, "foreign") for name in rng.sample(names, min(self.foreign, len(names)))]
        for name, origin in drawn:
            text = self.template.replace("{name}", spoken(name))
            empty = Mask.empty(example.picture.shape)
            yield _triplet_by_rule(
                example, text, empty, kind="one-to-zero", label=name, number=f"no {name}",
                notes={"rule": "absent", "absent": origin},
            )  # fmt: skip


@cache
def foreign_names(classes: tuple[str, ...]) -> list[str]:
    """Objects of the vocabulary from domains that hold none of some classes.

    Examples:
        >>> from remotesam_geo.learning.labelling import foreign_names
        >>> names = foreign_names(("ship", "airplane", "building"))
        >>> "wind turbine" in names, "helicopter" in names, "house" in names
        (True, False, False)
    """
    known = vocabulary()
    taken = {known.path(name)[0] for name in map(spoken, classes) if name in known}
    return [
        category.name
        for category in known
        if category.kind == "object"
        and known.path(category.name)[0] not in taken
        and not known.children(category.name)
        and not any(related(category.name, name) for name in classes)
    ]


@dataclass(frozen=True, kw_only=True)
class SingleThings:
    """What tells things of a class apart: colour, size, position, and where they lie from others.

    Only what leaves no doubt is said. Classes with a crowd, with a dropped thing, or beside a class that the same thing
    might be called by ("vehicle" and "small vehicle") are passed over, for there the words might fit others too.

    Attributes:
        colours: "given" takes `attributes["colour"]` of the things, "measured" looks at the pixels, "none" says nothing
            of colours.
        most: Descriptions a picture, drawn at random; each rule in turn, so that none takes all places.
    """

    colours: Literal["given", "measured", "none"] = "measured"
    most: int = 12

    def __post_init__(self) -> None:
        one_of("colours", self.colours, ("given", "measured", "none"))
        number_in("most", self.most, 0, whole=True)

    def __call__(self, material: Material, rng: random.Random) -> Iterator[Triplet]:
        """One-to-one; one-to-many, where the words are true of several."""
        example = material.example
        seen = _visible_things(material, self.colours)
        names = sorted({s.name for s in seen})
        palette = PALETTE if self.colours == "measured" else tuple(
            sorted({colour for s in seen for colour in s.colours})
        )  # fmt: skip
        told: dict[str, tuple[str, str, tuple[int, ...]]] = {}
        for name in names:
            some = [s for s in seen if s.name == name]
            for one in telling_apart(some, seen, rng, example.picture.shape, names=names, palette=palette):
                label = example.things[one.ids[0]].label
                told.setdefault(one.text, (one.kind, label, one.ids))
        for text, (kind, label, ids) in _draw_expressions(told, self.most, rng):
            masks = [example.things[k].pixels(example.picture.shape) for k in ids]
            many: Kind = "one-to-one" if len(ids) == 1 else "one-to-many"
            yield _triplet_by_rule(
                example, text, Mask.union(masks), kind=many, label=label, number=f"{kind} {text}",
                notes={"rule": kind, "things": " ".join(str(example.things[k].id or k) for k in ids)},
            )  # fmt: skip


Told = tuple[str, tuple[str, str, tuple[int, ...]]]


def _draw_expressions(told: dict[str, tuple[str, str, tuple[int, ...]]], most: int, rng: random.Random) -> list[Told]:
    """Some of what could be said, the rules taking turns."""
    by_rule: dict[str, list[Told]] = {}
    for text, entry in told.items():
        by_rule.setdefault(entry[0], []).append((text, entry))
    for some in by_rule.values():
        rng.shuffle(some)
    chosen: list[Told] = []
    while by_rule and len(chosen) < most:
        for rule in list(by_rule):
            chosen.append(by_rule[rule].pop())
            if not by_rule[rule]:
                del by_rule[rule]
    return chosen[:most]


def _visible_things(material: Material, colours: str) -> list[VisibleThing]:
    """The things that can be spoken of one by one; their ids are their places in the example."""
    things = material.example.things
    passed = set(material.unsure) | {thing.label for thing in things if thing.crowd}
    labels = {thing.label for thing in things} | passed
    doubtful = {label for label in labels if any(other != label and related(label, other) for other in labels)}
    seen: list[VisibleThing] = []
    long: dict[str, bool] = {}  # a class has a length to speak of where each of its things has one
    for k, thing in enumerate(things):
        if thing.label in passed | doubtful:
            continue
        mask = thing.pixels(material.example.picture.shape).pixels()
        if not mask.any():
            continue
        one = _visible_thing(k, thing, mask, _colours_of_thing(thing, mask, material.rgb, colours))
        long[one.name] = long.get(one.name, True) and one.long
        seen.append(one)
    return [replace(s, long=long[s.name]) for s in seen]


def _colours_of_thing(thing: Thing, mask: NDArray[np.bool_], rgb: NDArray[np.uint8], source: str) -> frozenset[str]:
    if source == "measured":
        return colours_of(rgb, mask)
    said = thing.attributes.get("colour", "") if source == "given" else ""
    return frozenset({said} if said else ())


def _visible_thing(number: int, thing: Thing, mask: NDArray[np.bool_], colours: frozenset[str]) -> VisibleThing:
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    box = int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
    cut = box[0] == 0 or box[1] == 0 or box[2] == width or box[3] == height or "cut" in thing.attributes
    points = np.column_stack([columns, rows]).astype(np.float32)
    sides = sorted(side + 1 for side in cv2.minAreaRect(points)[1])
    name = spoken(thing.label)
    return VisibleThing(
        id=number,
        name=name,
        plural=plural(name),
        colours=colours,
        x=float(columns.mean() + 0.5),
        y=float(rows.mean() + 0.5),
        pixels=len(rows),
        least=len(rows),
        most=np.inf if cut else len(rows),  # how far it goes on beyond the border is not known
        across=np.inf if cut else sides[1],
        long=sides[1] >= LONG * sides[0],
        cut=cut,
        box=box,
        outline=_mask_outline(mask),
    )


def _mask_outline(mask: NDArray[np.bool_]) -> BaseGeometry:
    """The shape of a mask, its pixels' outer edges included."""
    lines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    parts: list[BaseGeometry] = []
    for line in lines:
        corners = line[:, 0, :] + 0.5
        if len(corners) > 2:
            parts.append(shapely.make_valid(shapely.Polygon(corners)))
        else:
            parts.append(shapely.LineString(corners) if len(corners) == 2 else shapely.Point(corners[0]))
    return shapely.union_all(parts).buffer(0.5, cap_style="square", join_style="mitre")


def _mapped_labels(example: Example) -> tuple[str, ...]:
    """The labels of a class map; what of them is there is found when it is read."""
    return () if example.classes is None else example.classes.names


def _triplet_by_rule(
    example: Example,
    text: str,
    mask: Mask,
    *,
    kind: Kind,
    label: str,
    number: str,
    notes: dict[str, str],
) -> Triplet:
    return Triplet(
        picture=example.picture, expression=text, mask=mask, kind=kind, label=label, attributes=notes,
        source=example.source, split=example.split, id=f"{example.picture.name}/{number}",
    )  # fmt: skip
