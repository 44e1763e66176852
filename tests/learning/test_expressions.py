"""Expressions over the world: an independent reader of the words finds the same objects, and no doubt."""

import collections
import functools
import itertools
import random
import re

import numpy as np
import pytest
import shapely
from scipy import ndimage
from shapely import Polygon

from remotesam_geo.learning.world import CLASSES, COLOURS, Instance, WorldScene, expressions, scene

PICTURES = [scene(seed) for seed in range(70)]
ASKED = [(picture, e) for k, picture in enumerate(PICTURES) for e in expressions(picture, k)]
NOUNS = {kind.name: name for name, kind in CLASSES.items()} | {
    kind.plural: name for name, kind in CLASSES.items()
}
NOUN = "|".join(sorted(NOUNS, key=len, reverse=True))
COLOUR = "|".join(COLOURS)
ANCHOR = rf"the (?:(?P<tint>{COLOUR}) )?(?P<anchor>{NOUN})"


class Seen:
    """What a picture shows of one object, from its mask alone."""

    def __init__(self, picture, one):
        mask = picture.labels == one.id
        self.id, self.name, self.colour, self.cut = one.id, one.name, one.colour, one.cut
        rows, columns = np.nonzero(mask)
        self.pixels = len(rows)
        self.x, self.y = columns.mean() + 0.5, rows.mean() + 0.5
        self.left, self.right = columns.min(), columns.max() + 1
        self.top, self.bottom = rows.min(), rows.max() + 1
        self.mask = mask
        corners = np.array(shapely.oriented_envelope(one.polygon).exterior.coords)
        self.long = np.linalg.norm(np.diff(corners[:3], axis=0), axis=1).max()


@functools.cache
def look(seed):
    return [Seen(PICTURES[seed], one) for one in PICTURES[seed].instances]


def read(text, picture):
    """The ids that the words are true of, and by how much the nearest other answer misses them."""
    seen = look(picture.seed)
    size = picture.rgb.shape[0]
    found = [(pattern, re.fullmatch(pattern, text)) for pattern in GRAMMAR]
    (pattern, match), *others = [(p, m) for p, m in found if m]
    assert not others, text
    words = match.groupdict()
    some = [s for s in seen if s.name == NOUNS[words["noun"]]]
    return GRAMMAR[pattern](some, seen, words, size)


def every(some, seen, words, size):
    return {s.id for s in some}, np.inf


def colour(some, seen, words, size):
    return {s.id for s in some if s.colour == words["colour"]}, np.inf


def extreme(some, seen, words, size):
    pick = words["pick"]
    if pick in ("largest", "biggest"):
        return top(some, lambda s: s.pixels, ratio=True)
    if pick == "smallest":
        return top(some, lambda s: 1 / s.pixels, ratio=True)
    value = {
        "leftmost": lambda s: -s.x,
        "rightmost": lambda s: s.x,
        "topmost": lambda s: -s.y,
        "bottommost": lambda s: s.y,
    }[pick]
    return top(some, value)


def top(some, value, *, ratio=False):
    values = sorted(((value(s), s.id) for s in some), reverse=True)
    (a, best), (b, _) = values[:2]
    return {best}, a / b if ratio else a - b


def longest(some, seen, words, size):
    return top(some, lambda s: s.long, ratio=True)


def group(some, seen, words, size):
    big = words["size"] in ("large", "big")
    ordered = sorted(some, key=lambda s: s.pixels)
    ratios = [b.pixels / a.pixels for a, b in itertools.pairwise(ordered)]
    k = int(np.argmax(ratios)) + 1
    chosen = ordered[k:] if big else ordered[:k]
    rest = sorted(ratios)[-2] if len(ratios) > 1 else 1
    return {s.id for s in chosen}, ratios[k - 1] / rest


def half(some, seen, words, size):
    value = {
        "left": lambda s: size / 2 - s.x,
        "right": lambda s: s.x - size / 2,
        "top": lambda s: size / 2 - s.y,
        "bottom": lambda s: s.y - size / 2,
    }[words["half"]]
    return {s.id for s in some if value(s) > 0}, min(abs(value(s)) for s in some)


def corner(some, seen, words, size):
    def depth(s):
        x = size / 2 - s.x if words["side"] == "left" else s.x - size / 2
        y = size / 2 - s.y if words["end"] == "top" else s.y - size / 2
        return min(x, y)

    return {s.id for s in some if depth(s) > 0}, min(abs(depth(s)) for s in some)


def middle(some, seen, words, size):
    return top(some, lambda s: -max(abs(s.x - size / 2), abs(s.y - size / 2)))


def anchor_of(seen, words):
    name, tint = NOUNS[words["anchor"]], words["tint"]
    (anchor,) = [s for s in seen if s.name == name and tint in (None, s.colour)]
    return anchor


def near(some, seen, words, size):
    anchor = anchor_of(seen, words)
    away = ndimage.distance_transform_edt(~anchor.mask)
    sign = 1 if words["far"] == "farthest" else -1
    return top(some, lambda s: sign * away[s.mask].min())


def side(some, seen, words, size):
    anchor = anchor_of(seen, words)
    beyond = {
        "left of": lambda s: anchor.left - s.right,
        "right of": lambda s: s.left - anchor.right,
        "above": lambda s: anchor.top - s.bottom,
        "below": lambda s: s.top - anchor.bottom,
    }[words["where"]]
    sign = -1 if words["where"] in ("left of", "above") else 1
    chosen = {s.id for s in some if beyond(s) >= 0}
    # Whoever is not beyond lies on the other side of the anchor's middle.
    margin = np.inf
    for s in some:
        if s.id not in chosen:
            sideways = words["where"] in ("left of", "right of")
            place = s.x if sideways else s.y
            centre = (anchor.left + anchor.right if sideways else anchor.top + anchor.bottom) / 2
            margin = min(margin, sign * (centre - place))
    return chosen, margin


GRAMMAR = {
    rf"(?P<noun>{NOUN}) in the image": every,
    rf"(?:the |all )?(?P<colour>{COLOUR}) (?P<noun>{NOUN})": colour,
    rf"(?:the )?(?P<noun>{NOUN}) that (?:is|are) (?P<colour>{COLOUR})": colour,
    rf"the (?P<pick>largest|biggest|smallest|\w+most) (?P<noun>{NOUN})": extreme,
    rf"the longest (?P<noun>{NOUN})": longest,
    rf"the (?P<size>large|big|small|little) (?P<noun>{NOUN})": group,
    rf"the (?P<noun>{NOUN}) in the (?P<half>\w+) half of the image": half,
    rf"the (?P<noun>{NOUN}) in the (?P<end>top|bottom) (?P<side>left|right) corner": corner,
    rf"the (?P<noun>{NOUN}) in the (?:center|middle) of the image": middle,
    rf"the (?P<noun>{NOUN}) (?P<far>nearest|closest|farthest) (?:to|from) {ANCHOR}": near,
    rf"the (?P<noun>{NOUN}) (?P<where>left of|right of|above|below) {ANCHOR}": side,
}  # fmt: skip

LEAST = {
    extreme: 1.3,
    longest: 1.25,
    group: 1.2,
    half: 10,
    corner: 10,
    middle: 25,
    near: 6,
    side: 10,
}


@pytest.mark.parametrize("kind", ["class", "absent", "colour", "size", "position", "relation"])
def test_a_reader_of_the_words_finds_the_same_objects_without_doubt(kind):
    checked = collections.Counter()
    for picture, e in ASKED:
        if e.kind != kind:
            continue
        handler = next(h for p, h in GRAMMAR.items() if re.fullmatch(p, e.text))
        checked[handler.__name__] += 1
        if checked[handler.__name__] > 150:
            continue
        ids, margin = read(e.text, picture)
        assert ids == set(e.ids), (picture.seed, e)
        assert margin >= LEAST.get(handler, 0), (picture.seed, e, margin)
    expected = {
        "class": {"every"},
        "absent": {"every"},
        "colour": {"colour"},
        "size": {"extreme", "longest", "group"},
        "position": {"extreme", "half", "corner", "middle"},
        "relation": {"near", "side"},
    }[kind]
    assert set(checked) == expected
    assert min(checked.values()) >= 3


def test_every_expression_is_well_formed():
    for picture, e in ASKED:
        names = {one.id: one.name for one in picture.instances}
        assert set(e.ids) <= set(e.every) == {i for i, n in names.items() if n == e.name}
        assert len(e.text.split()) <= 16
        assert (e.mask(picture) == np.isin(picture.labels, e.ids)).all()
        if e.kind == "class":
            assert e.ids == e.every != ()
        elif e.kind == "absent":
            assert e.ids == e.every == ()
        else:
            assert len(e.every) >= 2
            assert 0 < len(e.ids) < len(e.every)
            assert max(picture.instances[i - 1].pixels for i in e.ids) >= 30


def test_words_are_asked_once_and_classes_all():
    for k, picture in enumerate(PICTURES[:30]):
        asked = expressions(picture, k)
        assert len({e.text for e in asked}) == len(asked)
        plain = {e.name for e in asked if e.kind in ("class", "absent")}
        assert plain == set(CLASSES)


def test_number_words_agree():
    for picture, e in ASKED:
        if e.kind in ("size", "position", "relation", "colour"):
            plural = CLASSES[e.name].plural in e.text
            assert plural == (len(e.ids) > 1), (picture.seed, e)


def test_the_same_seed_asks_the_same_and_another_words_it_differently():
    picture = next(p for p in PICTURES if len(expressions(p)) > 30)
    assert expressions(picture, 3) == expressions(picture, random.Random(3))  # noqa: S311
    assert {e.text for e in expressions(picture, 3)} != {e.text for e in expressions(picture, 4)}


# --- pictures made by hand ------------------------------------------------------------------------


def picture_of(*objects, size=128):
    """Rectangles (name, colour, x0, y0, x1, y1), beyond the border where they are cut."""
    labels, made = np.zeros((size, size), np.int32), []
    for k, (name, tint, x0, y0, x1, y1) in enumerate(objects, 1):
        box = (max(x0, 0), max(y0, 0), min(x1, size), min(y1, size))
        labels[box[1] : box[3], box[0] : box[2]] = k
        outline = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float)
        pixels = (box[2] - box[0]) * (box[3] - box[1])
        made.append(
            Instance(
                id=k, name=name, colour=tint, outline=outline, pixels=pixels,
                length=max(x1 - x0, y1 - y0), width=min(x1 - x0, y1 - y0), across=max(x1 - x0, y1 - y0),
                cut=box != (x0, y0, x1, y1), visible=pixels / Polygon(outline).area, box=box,
            )
        )  # fmt: skip
    empty = np.zeros((size, size), np.uint8)
    return WorldScene(
        rgb=np.dstack([empty] * 3), instances=tuple(made), labels=labels, landcover=empty,
        resolution=1.0, sensor="hand", seed=0,
    )  # fmt: skip


def texts(*objects):
    return {e.text: set(e.ids) for e in expressions(picture_of(*objects), 0)}


def biggest(found):
    return [ids for text, ids in found.items() if re.search("largest|biggest", text)]


def test_the_largest_is_asked_only_where_it_clearly_is():
    small = ("building", "red", 10, 10, 30, 30)
    assert biggest(texts(small, ("building", "red", 50, 50, 80, 80))) == [{2}]
    assert biggest(texts(small, ("building", "red", 50, 50, 72, 72))) == []  # 21 % more


def test_what_the_border_cuts_may_be_larger_than_it_looks():
    large = ("building", "red", 50, 50, 80, 80)
    assert biggest(texts(large, ("building", "red", -30, 10, 10, 30))) == []
    assert biggest(texts(large, ("building", "red", -10, 10, 10, 30))) == [{1}]


def test_the_only_one_of_its_class_has_no_attributes():
    found = expressions(picture_of(("ship", "white", 10, 10, 40, 30)), 0)
    assert {e.kind for e in found} == {"class", "absent"}


def test_a_colour_that_all_share_is_not_asked():
    one, two = ("ship", "white", 10, 10, 40, 30), ("ship", "white", 60, 60, 90, 80)
    assert not any("white" in text for text in texts(one, two))
    found = texts(one, ("ship", "red", 60, 60, 90, 80))
    assert {frozenset(ids) for text, ids in found.items() if "white" in text} == {frozenset({1})}


def test_objects_near_the_middle_line_make_halves_doubtful():
    left, right = ("tree", "green", 10, 10, 30, 30), ("tree", "green", 90, 10, 110, 30)
    assert texts(left, right)["the tree in the left half of the image"] == {1}
    astride = ("tree", "green", 58, 60, 78, 80)
    assert not any("left half" in text for text in texts(left, right, astride))


def test_a_relation_needs_an_anchor_that_stands_alone():
    cars = ("vehicle", "red", 10, 60, 20, 66), ("vehicle", "blue", 100, 60, 110, 66)
    house = ("building", "grey", 30, 55, 50, 70)
    found = texts(*cars, house)
    assert found["the vehicle left of the building"] == {1}
    assert [ids for t, ids in found.items() if re.search(r"(near|clos)est to the building", t)] == [
        {1}
    ]
    twin = ("building", "grey", 70, 55, 90, 70)
    doubtful = [t for t in texts(*cars, house, twin) if re.match("the vehicle.*building", t)]
    assert doubtful == []


def test_slivers_are_not_asked_for():
    sliver = ("ship", "red", -28, 60, 1, 70)
    found = texts(sliver, ("ship", "white", 50, 50, 80, 60), ("ship", "white", 50, 90, 80, 100))
    assert not any("red" in text for text in found)
    assert {1} not in found.values()
