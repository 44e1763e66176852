"""The data engine: what it says is true of exactly what it masks, and a run that is killed goes on."""

import json
import random
import re
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remotesam_geo.errors import InputError
from remotesam_geo.learning.datasets import (
    DamageError,
    Example,
    Mask,
    Picture,
    Thing,
    Triplet,
    TripletStore,
    cut_examples,
    cut_triplets,
)
from remotesam_geo.learning.labelling import (
    PALETTE,
    AbsentClasses,
    AreaFilter,
    Confirmed,
    Engine,
    GivenMasks,
    KindClasses,
    Relabelling,
    SingleThings,
    TaughtMasks,
    agreement,
    colours_of,
    consistent,
    difference_hash,
    foreign_names,
    relabel,
    related,
    rules,
    run_engine,
    sheet,
    spoken,
    statistics,
    world_example,
)
from remotesam_geo.learning.synthetic import CLASSES, World, scene
from tests.learning.reading import read


def example_of(*things, size=(120, 120), name="hand", rgb=None, **more):
    """Rectangles (label, x0, y0, x1, y1) on grey; further entries go to `Thing`."""
    made = []
    for k, (label, *box) in enumerate(things):
        mask = Mask.of_box(box, size)
        made.append(Thing(label=label, box=tuple(map(float, box)), mask=mask, id=str(k)))
    pixels = np.full((*size, 3), 128, np.uint8) if rgb is None else rgb
    return Example(picture=Picture.of(name, pixels), things=tuple(made), **more)


def texts(engine, example):
    return {t.expression: t for t in engine.made(example).triplets}


# --- the words are true ---------------------------------------------------------------------------


@pytest.mark.parametrize("colours", ["given", "none"])
def test_no_expression_fits_another_thing(colours):
    engine = Engine(expressions=(KindClasses(), SingleThings(colours=colours, most=99)), filters=(AreaFilter(),))
    seen = dict.fromkeys(("class", "colour", "size", "position", "relation"), 0)
    for seed in range(200, 210):
        picture = scene(seed)
        for triplet in engine.made(world_example(picture)).triplets:
            ids, _ = read(triplet.expression, picture)
            assert (triplet.mask.pixels() == picture.mask(tuple(ids))).all(), (
                seed,
                triplet.expression,
            )
            assert (triplet.kind == "one-to-one") <= (len(ids) == 1)
            seen[triplet.attributes["rule"]] += 1
    said = {rule for rule, count in seen.items() if count}
    assert said >= {"class", "size", "position"} | ({"colour", "relation"} if colours == "given" else set())


def test_measured_colours_are_seldom_wrong_and_doubt_is_no_name():
    right = wrong = 0
    for seed in range(20):
        picture = scene(seed)
        for one in picture.instances:
            found = colours_of(picture.rgb, picture.labels == one.id)
            if one.pixels >= 30 and len(found) == 1:
                right, wrong = right + (one.colour in found), wrong + (one.colour not in found)
    assert right > 150
    assert wrong < 0.04 * right


def test_colours_of_known_paints():
    paints = {
        "white": (245, 245, 240), "grey": (128, 128, 128), "black": (15, 15, 15), "red": (190, 30, 30),
        "yellow": (230, 205, 40), "green": (40, 130, 50), "blue": (30, 80, 180), "brown": (105, 70, 40),
        "orange": (240, 135, 35), "purple": (140, 50, 150),
    }  # fmt: skip
    assert set(paints) == set(PALETTE)
    whole = np.ones((9, 9), bool)
    for name, paint in paints.items():
        assert colours_of(np.full((9, 9, 3), paint, np.uint8), whole) == {name}
    pied = np.zeros((9, 9, 3), np.uint8)
    pied[::2] = 255
    assert colours_of(pied, whole) == set(PALETTE)
    assert colours_of(pied, ~whole) == set(PALETTE)


@given(
    boxes=st.lists(
        st.tuples(*[st.integers(0, 110)] * 2, st.integers(4, 40), st.integers(4, 40)), min_size=2, max_size=6
    ),
    shape=st.sampled_from([(120, 120), (90, 150)]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_what_is_called_the_largest_is_so_beyond_doubt(boxes, shape):
    things = [
        ("ship", x, y, min(x + w, shape[1]), min(y + h, shape[0]))
        for x, y, w, h in boxes
        if x < shape[1] and y < shape[0]
    ]
    example = example_of(*things, size=shape)
    areas = [thing.mask.area for thing in example.things]
    for text, triplet in texts(Engine(expressions=(SingleThings(colours="none", most=99),)), example).items():
        if re.search(r"the (largest|biggest) ship", text):
            first, second = sorted(areas, reverse=True)[:2]
            assert triplet.mask.area == first >= 1.4 * second
            cut = [t for t in example.things if 0 in t.box or t.box[2] == shape[1] or t.box[3] == shape[0]]
            assert not cut
        if "left half" in text:
            inside = [m for m in (t.mask for t in example.things) if m.box[0] + m.box[2] < shape[1]]
            assert triplet.mask == Mask.union(inside)


def test_what_might_be_meant_too_is_not_spoken_of():
    two = (("vehicle", 10, 10, 20, 20), ("vehicle", 60, 60, 90, 90))
    engine = Engine(expressions=(SingleThings(colours="none", most=99),))
    assert texts(engine, example_of(*two))
    assert not texts(engine, example_of(*two, ("small vehicle", 100, 10, 112, 20)))  # may be the smallest vehicle
    example = example_of(*two)
    crowd = Thing(
        label="vehicle",
        box=(90, 0, 120, 30),
        mask=Mask.of_box((90, 0, 120, 30), (120, 120)),
        crowd=True,
    )
    assert not texts(engine, Example(picture=example.picture, things=(*example.things, crowd)))


def test_one_whose_colour_is_in_doubt_silences_the_colour():
    rgb = np.full((120, 120, 3), 128, np.uint8)
    rgb[10:30, 10:30], rgb[60:80, 60:80], rgb[90:110, 10:30] = (
        (190, 30, 30),
        (30, 80, 180),
        (190, 30, 30),
    )
    example = example_of(("ship", 10, 10, 30, 30), ("ship", 60, 60, 80, 80), rgb=rgb)
    engine = Engine(expressions=(SingleThings(most=99),))
    assert any(" red" in f" {text}" for text in texts(engine, example))
    rgb[90:100, 10:30] = (30, 80, 180)  # half red, half blue
    third = example_of(("ship", 10, 10, 30, 30), ("ship", 60, 60, 80, 80), ("ship", 10, 90, 30, 110), rgb=rgb)
    assert not any(re.search("red|blue", text) for text in texts(engine, third))


def test_absent_classes_are_absent_and_no_kin_of_what_is_there():
    classes = ("small vehicle", "vehicle", "ship", "airplane", "storage_tank")
    example = example_of(("vehicle", 10, 10, 40, 40), ("ship", 60, 60, 90, 90))
    step = AbsentClasses(classes=classes, known=9, foreign=3)
    made = Engine(expressions=(step,)).made(example).triplets
    known = {t.expression for t in made if t.attributes["absent"] == "known"}
    assert known == {"airplane in the image", "storage tank in the image"}
    foreign = [t.label for t in made if t.attributes["absent"] == "foreign"]
    assert len(foreign) == 3
    assert set(foreign) <= set(foreign_names(classes))
    assert all(t.mask.area == 0 and t.kind == "one-to-zero" for t in made)


def test_names_are_said_plainly_and_kinship_is_known():
    assert spoken("storagetank") == "storage tank"
    assert related("type A roof", "roof")
    assert not related("type A roof", "type B roof")
    assert related("plane", "airplane")


def test_all_of_a_class_is_asked_under_its_plain_name():
    made = texts(
        rules(["storagetank"]),
        example_of(("storagetank", 10, 10, 40, 40), ("storagetank", 60, 60, 80, 80)),
    )
    assert made["storage tank in the image"].mask.area == 30 * 30 + 20 * 20


# --- masks ----------------------------------------------------------------------------------------


def boxes_only(*boxes, labels=None):
    things = tuple(
        Thing(label=labels[k] if labels else "ship", box=tuple(map(float, box)), id=str(k))
        for k, box in enumerate(boxes)
    )
    return Example(picture=Picture.of("hand", np.zeros((120, 120, 3), np.uint8)), things=things)


@dataclass(frozen=True)
class Drawn:
    """A teacher that fills the box, moved."""

    off: int

    def __call__(self, rgb, things):
        shape = rgb.shape[:2]
        return [Mask.of_box([v + self.off for v in t.box], shape).pixels() for t in things]


def test_a_thing_without_mask_makes_its_class_unsure():
    example = boxes_only((10, 10, 30, 30), (50, 50, 90, 90), labels=["ship", "dam"])
    engine = Engine(
        expressions=(
            KindClasses(),
            AbsentClasses(classes=("ship", "dam", "tree"), known=9, foreign=0),
        )
    )
    made = engine.made(example)
    assert made.dropped == {"thing: no mask": 2}
    assert [t.expression for t in made.triplets] == ["tree in the image"]
    taken = Engine(expressions=(KindClasses(),), masks=(GivenMasks(boxes="rectangle"),)).made(example)
    assert sorted(t.mask.area for t in taken.triplets) == [400, 1600]


def test_teachers_that_agree_draw_and_others_do_not():
    example = boxes_only((10, 10, 40, 40), (60, 60, 100, 100))
    close = Engine(expressions=(KindClasses(),), masks=(TaughtMasks(teachers=(Drawn(0), Drawn(1), Drawn(0))),))
    (whole,) = close.made(example).triplets
    assert whole.mask.area == 30 * 30 + 40 * 40
    apart = Engine(expressions=(KindClasses(),), masks=(TaughtMasks(teachers=(Drawn(0), Drawn(25))),))
    made = apart.made(example)
    assert made.dropped == {"thing: teachers disagree": 2}
    assert not made.triplets
    with pytest.raises(InputError, match="teachers is empty"):
        TaughtMasks(teachers=())


def test_agreement_is_the_mean_of_pairs():
    one, two = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    one[:2], two[1:3] = True, True
    assert agreement([one, two]) == pytest.approx(1 / 3)
    assert agreement([one, one, two]) == pytest.approx((1 + 2 / 3) / 3)
    assert agreement([one & two & ~one, np.zeros_like(one)]) == 1.0


# --- filters --------------------------------------------------------------------------------------


def triplet(text, box, kind="one-to-one", size=(60, 60)):
    picture = Picture.of("p", np.zeros((*size, 3), np.uint8))
    mask = Mask.of_box(box, size) if box else Mask.empty(size)
    return Triplet(picture=picture, expression=text, mask=mask, kind=kind)


def test_areas():
    rgb = np.zeros((60, 60, 3), np.uint8)
    test = AreaFilter(least=30, most=0.5)
    assert test(triplet("a", (0, 0, 5, 5)), rgb) == "too small"
    assert test(triplet("a", (0, 0, 6, 6)), rgb) is None
    assert test(triplet("a", (0, 0, 60, 40)), rgb) == "too large"
    assert test(triplet("a", None, "one-to-zero"), rgb) is None


def test_contradictions_go_and_duplicates_stay_once():
    some = [
        triplet("the ship", (0, 0, 9, 9)), triplet("The  ship", (0, 0, 9, 9)),
        triplet("the dam", (0, 0, 9, 9)), triplet("the dam", (5, 0, 9, 9)),
    ]  # fmt: skip
    kept, dropped = consistent(some)
    assert kept == some[:1]
    assert [reason for _, reason in dropped] == ["duplicate", "contradiction", "contradiction"]


class Says:
    """A teacher that answers with one box for whatever it is asked."""

    identity, image_size = "says", None

    def __init__(self, box):
        self.box = box

    def answers(self, picture, expressions):
        for _ in expressions:
            yield Mask.of_box(self.box, picture.shape[:2]).pixels().astype(np.float32)


def test_teachers_confirm_expressions():
    rgb = np.zeros((60, 60, 3), np.uint8)
    test = Confirmed(teachers=(Says((0, 0, 20, 20)),), least=0.5)
    assert test(triplet("the ship", (0, 0, 20, 24)), rgb) is None
    assert test(triplet("the ship", (30, 30, 50, 50)), rgb) == "teachers disagree"
    assert test(triplet("zebra", None, "one-to-zero"), rgb) == "teachers disagree"


# --- runs -----------------------------------------------------------------------------------------


def world_examples(count=6, start=0):
    return [world_example(scene(seed, size=96)) for seed in range(start, start + count)]


def content(store):
    return [(t.id, t.expression, t.mask, t.kind, dict(t.attributes), t.picture.content.name) for t in store]


def test_a_run_that_breaks_off_anywhere_ends_the_same(tmp_path):
    engine, examples = rules(list(CLASSES)), world_examples()
    straight, report = run_engine(examples, tmp_path / "straight", engine=engine)
    assert report.pictures == len(examples)
    assert sum(report.kinds.values()) == len(straight)
    journal = (tmp_path / "straight" / "journal.jsonl").read_bytes()
    for cut in random.Random(0).sample(range(1, len(journal)), 4):  # noqa: S311
        folder = tmp_path / f"cut-{cut}"
        folder.mkdir()
        (folder / "journal.jsonl").write_bytes(journal[:cut])
        (folder / "images").mkdir()
        for path in (tmp_path / "straight" / "images").iterdir():
            (folder / "images" / path.name).write_bytes(path.read_bytes())
        store, again = run_engine(examples, folder, engine=engine)
        assert content(store) == content(straight)
        assert again == report
        assert (folder / "journal.jsonl").read_bytes() == journal


def test_a_finished_run_is_not_made_again_and_other_steps_are_refused(tmp_path):
    examples = world_examples(2)
    store, report = run_engine(examples, tmp_path, engine=rules(list(CLASSES)))

    def unread(names):
        assert names == {"world-0", "world-1"}
        return []

    again, same = run_engine(unread, tmp_path, engine=rules(list(CLASSES)))
    assert content(again) == content(store)
    assert same == report
    assert json.loads((tmp_path / "report.json").read_text())["kept"] == report.kept
    with pytest.raises(InputError, match="begun with"):
        run_engine(examples, tmp_path, engine=rules(list(CLASSES), seed=1))


def test_pictures_that_come_later_come_into_the_store(tmp_path):
    examples, engine = world_examples(3), rules(list(CLASSES))
    whole, told = run_engine(examples, tmp_path / "whole", engine=engine)
    first, _ = run_engine(examples[:2], tmp_path / "grown", engine=engine)
    assert len(first) < len(whole)
    grown, report = run_engine(examples, tmp_path / "grown", engine=engine)
    assert content(grown) == content(whole)
    assert report == told
    assert sum(report.kinds.values()) == len(grown)


def test_a_folder_is_gone_on_with_for_the_same_pictures_only(tmp_path):
    examples, engine = world_examples(1), rules(list(CLASSES))
    _, report = run_engine(examples, tmp_path, engine=engine, about="the world")
    assert "the world" in report.about
    assert run_engine(examples, tmp_path, engine=engine, about="the world")[1] == report
    with pytest.raises(InputError, match=r"begun with .*the world"):
        run_engine(examples, tmp_path, engine=engine, about="the moon")


def test_names_twice_near_duplicates_and_damage(tmp_path):
    examples = world_examples(2, start=5)
    with pytest.raises(InputError, match="world-5"):
        run_engine([examples[0], examples[0]], tmp_path / "twice", engine=rules(["ship"]))
    rgb = examples[0].picture.read()
    brighter = np.clip(rgb.astype(int) + 6, 0, 255).astype(np.uint8)
    copy = Example(picture=Picture.of("copy", brighter), things=examples[0].things)
    broken = Example(picture=Picture(name="gone", content=tmp_path / "gone.png", shape=(96, 96)))
    engine = Engine(expressions=(KindClasses(),), near=3)
    _, report = run_engine([*examples, copy, broken], tmp_path / "near", engine=engine, on_error="skip")
    assert report.dropped["picture: near-duplicate"] == 1
    assert report.dropped["picture: missing picture"] == 1
    assert report.pictures == 4
    assert "near-duplicate" in report.table()
    with pytest.raises(DamageError):
        run_engine([broken], tmp_path / "broken", engine=engine)
    assert (difference_hash(rgb) ^ difference_hash(examples[1].picture.read())).bit_count() > 3


def test_features_over_a_lazy_scene(tmp_path):
    world = World(7, anchor=(11.5, 48.1))
    window = world.geobox("EPSG:32632", resolution=0.4, shape=(300, 300))
    ground, features = world.scene(window), world.truth(window)
    assert isinstance(features, gpd.GeoDataFrame)
    engine = rules(list(CLASSES))

    def source(done):
        return cut_examples(ground, features, size=150, attributes=["colour"], name="w", skip=done)

    store, report = run_engine(source, tmp_path / "w", engine=engine)
    assert report.pictures == 4
    assert set(report.kinds) == {"one-to-one", "one-to-many", "one-to-zero"}
    masks = {(t.picture.name, t.expression): t.mask for t in cut_triplets(ground, features, size=150, name="w")}
    asked = [t for t in store if t.attributes["rule"] == "class"]
    assert asked
    assert all(masks[t.picture.name, t.expression] == t.mask for t in asked)
    assert all(t.picture.place.crs == "EPSG:32632" for t in store)
    done = frozenset({"w/0_0_0", "w/0_0_150", "w/0_150_0"})
    assert [e.picture.name for e in source(done)] == ["w/0_150_150"]


# --- later rounds ---------------------------------------------------------------------------------


def test_relabelling_takes_the_model_where_it_is_near_and_drops_where_it_is_not(tmp_path):
    some = [
        triplet("near", (0, 0, 20, 24)), triplet("far", (40, 40, 60, 60)), triplet("none", None, "one-to-zero"),
    ]  # fmt: skip
    store, report = relabel(some, Says((0, 0, 20, 20)), tmp_path / "a", rule=Relabelling(trust=1.0))
    assert [(t.expression, t.mask.area) for t in store] == [("near", 400), ("none", 0)]
    assert report.dropped == {"one-to-one: model disagrees": 1}
    kept, _ = relabel(some, Says((0, 0, 20, 20)), tmp_path / "b", rule=Relabelling(trust=0.4))
    assert [t.mask.area for t in kept] == [480, 0]
    strict, _ = relabel(some, Says((0, 0, 20, 20)), tmp_path / "c", rule=Relabelling(empty=False))
    assert [t.expression for t in strict] == ["near"]
    assert isinstance(strict, TripletStore)


# --- statistics -----------------------------------------------------------------------------------


def test_statistics_count_what_is_there(tmp_path):
    examples = world_examples(3, start=5)
    rgb = np.clip(examples[0].picture.read().astype(int) + 5, 0, 255).astype(np.uint8)
    copy = Example(picture=Picture.of("copy", rgb), things=(Thing(label="gizmo", box=(0.0, 0.0, 30.0, 30.0)),))
    engine = Engine(
        expressions=(KindClasses(), SingleThings(colours="given")),
        masks=(GivenMasks(boxes="rectangle"),),
    )
    store, report = run_engine([*examples, copy], tmp_path, engine=engine)
    found = statistics(store)
    assert (found.pictures, found.triplets) == (4, len(store))
    assert dict(found.kinds) == report.kinds
    assert found.unknown == ("gizmo",)
    assert found.near == (("world-5", "copy"),)
    assert sum(found.words.values()) == len(store)
    by_rule = {t.expression for t in store if t.attributes["rule"] == "colour"}
    assert found.attributes["colour"] >= len(by_rule)
    assert 0 < found.covered[0] < 0.02 < found.covered[1] < 1
    assert "near-duplicate pictures | 1" in found.table()


def test_a_sheet_shows_what_is_meant():
    rgb = np.full((50, 50, 3), 255, np.uint8)
    one = Triplet(
        picture=Picture.of("a", rgb), expression="ship", mask=Mask.of_box((0, 0, 25, 50), (50, 50)), kind="one-to-many"
    )  # fmt: skip
    page = np.asarray(sheet([one] * 30, count=5, columns=3, side=54))
    assert page.shape == (2 * 70, 3 * 54, 3)
    assert tuple(page[30, 10]) != (255, 255, 255) == tuple(page[30, 45])
    with pytest.raises(InputError, match="columns=0"):
        sheet([one], columns=0)
