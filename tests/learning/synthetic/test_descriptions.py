"""Expressions over the world: an independent reader of the words finds the same objects, and no doubt."""

import collections
import random
import re

import numpy as np
import pytest
from shapely import Polygon

from remotesam_geo.learning.synthetic import CLASSES, Instance, WorldScene, expressions, scene
from remotesam_geo.learning.synthetic.descriptions import PART, SLIVER
from tests.learning.reading import GRAMMAR, LEAST, read

PICTURES = [scene(seed) for seed in range(70)]
ASKED = [(picture, e) for k, picture in enumerate(PICTURES) for e in expressions(picture, k)]


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
        plain = {e.name: e.kind for e in asked if e.kind in ("class", "absent")}
        for name in CLASSES:
            shown = int(picture.mask(name).sum())
            part = max((one.visible for one in picture.of(name)), default=0)
            seen = shown >= SLIVER and part >= PART
            kind = "absent" if shown == 0 else "class" if seen else None
            assert plain.get(name) == kind


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
    assert [ids for t, ids in found.items() if re.search(r"(near|clos)est to the building", t)] == [{1}]
    twin = ("building", "grey", 70, 55, 90, 70)
    doubtful = [t for t in texts(*cars, house, twin) if re.match("the vehicle.*building", t)]
    assert doubtful == []


def test_slivers_are_not_asked_for():
    sliver = ("ship", "red", -28, 60, 1, 70)
    found = texts(sliver, ("ship", "white", 50, 50, 80, 60), ("ship", "white", 50, 90, 80, 100))
    assert not any("red" in text for text in found)
    assert {1} not in found.values()


def test_a_corner_of_a_large_object_is_neither_asked_for_nor_denied():
    def kinds(*objects):
        return {e.kind for e in expressions(picture_of(*objects), 0) if e.name == "sports field"}

    corner = ("sports field", "green", -60, -60, 20, 20)  # 400 pixels, a sixteenth of it
    assert kinds(corner) == set()
    assert "class" in kinds(corner, ("sports field", "green", 40, 40, 100, 80))
