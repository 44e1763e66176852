"""Readers and writers of data sets: round trips, samples in the real layouts, and files that are damaged or hostile."""

import contextlib
import io
import json
import pickle
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from pycocotools.coco import COCO

from remotesam_geo.errors import MissingExtraError, RemoteSAMWarning
from remotesam_geo.learning.datasets import (
    ISAID,
    LOVEDA,
    POTSDAM,
    UNKNOWN,
    ClassMap,
    DamageError,
    Example,
    Faults,
    GroundPlace,
    Mask,
    Picture,
    SizeLimits,
    Thing,
    Triplet,
    TripletStore,
    load_plain_pickle,
    read_captions,
    read_coco,
    read_counts,
    read_dota,
    read_isaid,
    read_loveda,
    read_potsdam,
    read_published,
    read_refsegrs,
    read_rsvg,
    read_scenes,
    read_voc,
    triplets_of,
    write_captions,
    write_coco,
    write_counts,
    write_dota,
    write_isaid,
    write_loveda,
    write_potsdam,
    write_published,
    write_refsegrs,
    write_rsvg,
    write_scenes,
    write_store,
    write_voc,
)

DATA = Path(__file__).parents[2] / "data" / "triplets"


def picture(name, seed=0, shape=(30, 40)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
    return Picture.of(name, pixels)


def square(x0, y0, x1, y1, shape=(30, 40)):
    return Mask.of_box((x0, y0, x1, y1), shape)


def things(split="train"):
    """Three pictures: several things, one thing, none."""
    tilted = ((10.0, 2.5), (20.0, 6.0), (18.0, 12.0), (8.0, 8.5))
    return [
        Example(
            picture=picture("a.png", 1),
            things=(
                Thing(label="ship", box=(1, 2, 7, 9), mask=square(1, 2, 6, 9), id="1",
                      expressions=("the ship on the left", "a <red> ship & its wake")),
                Thing(label="ship", box=(8, 2.5, 20, 12), corners=tilted, difficult=True, id="2",
                      mask=square(9, 3, 19, 11), expressions=("the turned one",)),
                Thing(label="harbor", box=(30, 20, 40, 30), mask=square(30, 20, 40, 30), id="3"),
            ),
            split=split,
        ),
        Example(
            picture=picture("b.png", 2),
            things=(Thing(label="harbor", box=(0, 0, 40, 30), mask=square(0, 0, 40, 30), id="4",
                          expressions=("the harbor",)),),
            split=split,
        ),
        Example(picture=picture("c.png", 3), split=split),
    ]  # fmt: skip


def some_triplets():
    every = [t for e in things() for t in triplets_of(e, classes=["ship", "harbor", "dam"], absent=1)]  # fmt: skip
    assert {t.kind for t in every} == {"one-to-one", "one-to-many", "one-to-zero"}
    return every


def told(triplet, *names):
    return tuple(getattr(triplet, name) for name in names)


def same_pixels(one, other):
    assert (one.picture.read() == other.picture.read()).all()


# --- round trips --------------------------------------------------------------------------------


def test_published_layout_round_trip(tmp_path):
    wrote = some_triplets()
    assert write_published(wrote, tmp_path) == len(wrote)
    read = list(read_published(tmp_path, split="train"))
    names = ("expression", "mask", "kind", "label", "split")
    assert [told(t, *names) for t in read] == [told(t, *names) for t in wrote]
    for one, other in zip(wrote, read, strict=True):
        same_pixels(one, other)
    assert not list(read_published(tmp_path, split="test"))


def test_coco_round_trip(tmp_path):
    assert write_coco(things(), tmp_path) == 3
    read = list(read_coco(tmp_path / "annotations.json", tmp_path / "images"))
    for one, other in zip(things(), read, strict=True):
        assert [(t.label, t.box, t.mask) for t in one.things] == [(t.label, t.box, t.mask) for t in other.things]
        same_pixels(one, other)


def test_dota_round_trip(tmp_path):
    assert write_dota(things(), tmp_path) == 3
    read = list(read_dota(tmp_path / "labelTxt", tmp_path / "images"))
    for one, other in zip(things(), read, strict=True):
        assert [(t.label, t.box, t.difficult) for t in one.things] == [
            (t.label, t.box, t.difficult) for t in other.things
        ]
        assert all(t.corners for t in other.things)
        same_pixels(one, other)
    assert read[0].things[1].corners == things()[0].things[1].corners


def test_voc_round_trip(tmp_path):
    assert write_voc(things(), tmp_path) == 3
    read = list(read_voc(tmp_path / "Annotations", tmp_path / "JPEGImages"))
    for one, other in zip(things(), read, strict=True):
        assert [(t.label, t.box, t.difficult) for t in one.things] == [
            (t.label, t.box, t.difficult) for t in other.things
        ]
        same_pixels(one, other)


def test_rsvg_round_trip_counts_objects_through_all_files(tmp_path):
    first, second, third = things()
    parts = [
        Example(picture=first.picture, things=first.things, split="test"),
        Example(picture=second.picture, things=second.things, split="train"),
        third,
    ]
    assert write_rsvg(parts, tmp_path) == 4
    assert (tmp_path / "test.txt").read_text().split() == ["0", "1", "2"]
    (test,) = read_rsvg(tmp_path, "test")
    assert [(t.expressions, t.box, t.id) for t in test.things] == [
        (("the ship on the left",), (1, 2, 7, 9), "0"),
        (("a <red> ship & its wake",), (1, 2, 7, 9), "1"),
        (("the turned one",), (8, 2.5, 20, 12), "2"),
    ]
    (train,) = read_rsvg(tmp_path, "train")
    assert train.things[0].id == "3"
    # A file that is missing shifts the numbers: that must not pass unseen.
    (tmp_path / "Annotations" / "a.xml").unlink()
    with pytest.raises(DamageError, match="one is missing"):
        list(read_rsvg(tmp_path, "train", on_error="skip"))


def test_refsegrs_round_trip(tmp_path):
    wrote = [t for t in some_triplets() if t.kind != "one-to-many"]
    assert write_refsegrs(wrote, tmp_path) == len(wrote)
    read = list(read_refsegrs(tmp_path, "train"))
    assert [told(t, "expression", "mask", "kind") for t in read] == [
        told(t, "expression", "mask", "kind") for t in wrote
    ]
    for one, other in zip(wrote, read, strict=True):
        same_pixels(one, other)


def class_map(path, values, names, colors):
    table = np.array([*colors, (0, 0, 0)], np.uint8)
    Image.fromarray(table[np.where(values == UNKNOWN, len(colors), values)]).save(path)
    return ClassMap(path=path, names=tuple(names), colors=tuple(colors), unknown=((0, 0, 0),))


@pytest.mark.parametrize("layout", ["loveda", "potsdam"])
def test_class_maps_round_trip(tmp_path, layout):
    generator = np.random.default_rng(5)
    names = LOVEDA if layout == "loveda" else tuple(POTSDAM)
    colors = [(10 + k, k, 0) for k in range(7)] if layout == "loveda" else [*POTSDAM.values()]
    wrote = []
    for k in range(2):
        values = generator.integers(0, len(names), (30, 40)).astype(np.uint8)
        values[:3] = UNKNOWN
        drawn = class_map(tmp_path / f"p{k}.png", values, names, colors[: len(names)])
        wrote.append(Example(picture=picture(f"p{k}.png", k), classes=drawn))
    folder = tmp_path / "out"
    if layout == "loveda":
        write_loveda(wrote, folder)
        read = list(read_loveda(folder))
    else:
        write_potsdam(wrote, folder)
        read = list(read_potsdam(folder / "images", folder / "labels"))
    for one, other in zip(wrote, read, strict=True):
        assert (one.classes.read() == other.classes.read()).all()
        assert (other.classes.read()[:3] == UNKNOWN).all()
        same_pixels(one, other)


def test_isaid_round_trip(tmp_path):
    assert write_isaid(things(), tmp_path) == 3
    read = list(read_isaid(tmp_path / "images", tmp_path / "maps"))
    for one, other in zip(things(), read, strict=True):
        assert [(t.label, t.mask) for t in one.things] == [(t.label, t.mask) for t in other.things]
    classes = read[0].classes.read()
    assert set(np.unique(classes)) == {0, [*ISAID].index("ship"), [*ISAID].index("harbor")}


def test_captions_scenes_and_counts_round_trip(tmp_path):
    said = [
        Example(picture=picture(f"{k}.png", k), captions=(f"There are {k} ships .", "Sea ."),
                split="test" if k else "train", labels=("sea", "harbor")[k : k + 1], counts={"ship": k})
        for k in range(2)
    ]  # fmt: skip
    write_captions(said, tmp_path / "c")
    read = list(read_captions(tmp_path / "c" / "dataset.json", tmp_path / "c" / "images"))
    assert [(e.captions, e.split) for e in read] == [(e.captions, e.split) for e in said]
    (test,) = read_captions(tmp_path / "c" / "dataset.json", tmp_path / "c" / "images", split="test")
    assert test.captions == said[1].captions
    write_scenes(said, tmp_path / "s")
    assert sorted(e.labels for e in read_scenes(tmp_path / "s")) == [("harbor",), ("sea",)]
    write_counts(said, tmp_path / "n")
    read = list(read_counts(tmp_path / "n" / "counts.json", tmp_path / "n" / "images"))
    assert [dict(e.counts) for e in read] == [{"ship": 0}, {"ship": 1}]


def test_the_store_keeps_everything_and_each_picture_once(tmp_path):
    wrote = some_triplets()
    there = GroundPlace(crs="EPSG:32631", transform=(0.5, 0, 5e5, 0, -0.5, 5e6))
    placed = Picture(name="chip", content=wrote[0].picture.content, shape=(30, 40), place=there)
    wrote.append(
        Triplet(picture=placed, expression="x", mask=Mask.empty((30, 40)), kind="one-to-zero",
                attributes={"colour": "red", "größe": "klein"}, source="mine", split="val", id="9")
    )  # fmt: skip
    store = write_store(wrote, tmp_path / "store", shard=3)
    assert len(list((tmp_path / "store").glob("*.parquet"))) == -(-len(wrote) // 3)
    assert len(list((tmp_path / "store" / "images").iterdir())) == 3
    names = ("expression", "mask", "kind", "label", "attributes", "source", "split", "id")
    for read in (list(store), [store[k] for k in range(len(store))], store[:]):
        assert [told(t, *names) for t in read] == [told(t, *names) for t in wrote]
        assert [t.picture.place for t in read] == [t.picture.place for t in wrote]
        assert [t.picture.name for t in read] == [t.picture.name for t in wrote]
    same_pixels(store[-1], wrote[-1])
    with pytest.raises(IndexError):
        store[len(wrote)]
    with pytest.raises(Exception, match="already"):
        write_store(wrote, tmp_path / "store")


def test_a_store_that_was_not_finished_is_none(tmp_path):
    def broken():
        yield from some_triplets()[:4]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_store(broken(), tmp_path / "s", shard=2)
    with pytest.raises(DamageError, match=r"triplets\.json"):
        TripletStore(tmp_path / "s")
    assert len(write_store(some_triplets()[:3], tmp_path / "s", shard=2)) == 3
    (tmp_path / "s" / "part-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(DamageError, match="part-00001"):
        TripletStore(tmp_path / "s")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_what_is_written_is_what_other_tools_read(tmp_path):
    write_coco(things(), tmp_path / "c")
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO(tmp_path / "c" / "annotations.json")
    read = [theirs.annToMask(theirs.anns[key]).astype(bool) for key in sorted(theirs.anns)]
    wrote = [thing.mask.pixels() for one in things() for thing in one.things]
    assert all((a == b).all() for a, b in zip(wrote, read, strict=True))

    triplets = some_triplets()
    write_published(triplets, tmp_path / "p")
    refs = pickle.loads((tmp_path / "p" / "refs(unc).p").read_bytes())
    whole = json.loads((tmp_path / "p" / "instances.json").read_text())
    annotations = {row["id"]: row for row in whole["annotations"]}
    for triplet, ref in zip(triplets, refs, strict=True):
        # As the published loader does it: a list of run lengths, summed over the last axis.
        drawn = coco.decode(annotations[ref["ann_id"]]["segmentation"]).sum(axis=2)
        assert (drawn == triplet.mask.pixels()).all()
        assert ref["sentences"][0]["raw"] == triplet.expression

    write_voc(things(), tmp_path / "v")
    root = ET.parse(tmp_path / "v" / "Annotations" / "a.xml").getroot()  # noqa: S314
    assert [o.findtext("bndbox/ymin") for o in root.iter("object")] == ["2", "2.5", "20"]
    write_rsvg(things(), tmp_path / "r")
    first = next(ET.parse(tmp_path / "r" / "Annotations" / "a.xml").iter("object"))  # noqa: S314
    assert [first[2].tag, first[3].tag] == ["bndbox", "description"]  # as readers of it count on


def test_without_defusedxml_no_xml_is_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "defusedxml", None)
    with pytest.raises(MissingExtraError, match=r"remotesam-geo\[evaluate\]"):
        list(read_voc(DATA / "dior", DATA / "dior"))


# --- the layouts of others ----------------------------------------------------------------------


def test_dior_as_others_write_it():
    first, second = read_voc(DATA / "dior", DATA / "dior")
    assert (first.things[0].label, first.things[0].box) == ("stadium", (5, 11, 17, 21))
    assert first.picture.read().shape == (32, 32, 3)
    assert second.picture.name == "000001.jpg"


def test_dota_as_others_write_it_with_header_lines():
    first, second = read_dota(DATA / "dota", DATA / "dota")
    assert first.things == ()
    assert [t.label for t in second.things] == ["plane", "ship"]
    assert second.things[0].corners[0] == (10, 10)


def test_an_empty_dota_file_is_a_picture_without_things(tmp_path):
    shutil.copy(DATA / "dota" / "P0001.png", tmp_path / "P0001.png")
    (tmp_path / "P0001.txt").touch()
    (example,) = read_dota(tmp_path, tmp_path)
    assert example.things == ()


def rrsisd(tmp_path, *, segmentation, protocol=2, **sentence):
    """The layout of RRSIS-D with one reference."""
    (tmp_path / "images").mkdir(exist_ok=True)
    Image.fromarray(picture("x").content).save(tmp_path / "images" / "00001.png")
    said = {"tokens": [], "raw": "the airplane on the right", "sent": "the airplane", "sent_id": 7}
    refs = [
        {"ref_id": 3, "ann_id": 5, "image_id": 9, "category_id": 1, "file_name": "00001.jpg",
         "split": "testA", "sentences": [said | sentence, said], "sent_ids": [7]}
    ]  # fmt: skip
    instances = {
        "images": [{"id": 9, "file_name": "00001.jpg", "width": 40, "height": 30}],
        "annotations": [{"id": 5, "image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1],
                         "segmentation": segmentation}],
        "categories": [{"id": 1, "name": "airplane"}],
    }  # fmt: skip
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=protocol))
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    return tmp_path, tmp_path / "images"


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_published_references_as_others_write_them(tmp_path, protocol):
    parts = [square(0, 0, 10, 10).to_coco(), square(5, 0, 20, 10).to_coco()]
    where = rrsisd(tmp_path, segmentation=parts, protocol=protocol)
    one, other = read_published(*where, split="test")  # "testA" has "test" in it; .jpg means .png
    assert (one.expression, one.mask.area, one.label) == (
        "the airplane on the right",
        200,
        "airplane",
    )
    assert other.id == "3.7"
    (first,) = read_published(*where, text="sent", sentences="first", overlaps="drop")
    assert (first.expression, first.mask.area) == ("the airplane", 150)
    assert not list(read_published(*where, split="train"))


def test_polygons_and_absent_things_in_published_references(tmp_path):
    where = rrsisd(tmp_path, segmentation=[[0, 0, 10, 0, 10, 10, 0, 10]], exist=False)
    absent, there = read_published(*where)
    assert (absent.kind, absent.mask.area) == ("one-to-zero", 0)
    assert (there.kind, there.mask.area) == ("one-to-one", 100)


# --- damage -------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("burst"),))


HOSTILE = {
    "a call": pickle.dumps([Bomb()]),
    "a call in the old way": b"cos\nsystem\n(S'touch burst'\ntR.",
    "a class": pickle.dumps(Path("x")),
    "an array": pickle.dumps(np.zeros(3)),
    "an outside object": b"Pburst\n.",
    "cut off": pickle.dumps([{"ref_id": 0}])[:-4],
    "nothing": b"",
    "a huge frame": b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f.",
    "a huge text": b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f.",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_pickles_are_refused_unrun(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DamageError, match="pickle"):
        load_plain_pickle(HOSTILE[what])
    assert not Path("burst").exists()


BILLION = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x0 "ha">%s]>
<annotation><filename>000000.jpg</filename><object><name>&x20;</name></object></annotation>""" % "".join(  # noqa: UP031
    f'<!ENTITY x{k} "&x{k - 1};&x{k - 1};">' for k in range(1, 21)
)
OUTSIDE = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<annotation><filename>000000.jpg</filename><object><name>&x;</name></object></annotation>"""


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (BILLION, "xml"),
        (OUTSIDE, "xml"),
        ("", "label file"),
        ("<annotation>", "label file"),
        ("<annotation><filename>../../secret.jpg</filename></annotation>", "picture name"),
        ("<annotation><filename>/etc/passwd</filename></annotation>", "picture name"),
        ("<annotation><filename>none.jpg</filename></annotation>", "missing picture"),
    ],
    ids=["entities", "outside entity", "empty", "cut off", "path up", "absolute path", "missing"],
)
def test_hostile_xml_is_refused_or_counted(tmp_path, text, kind):
    for name in ("000000.jpg", "000001.jpg", "000001.xml"):
        shutil.copy(DATA / "dior" / name, tmp_path)
    (tmp_path / "000000.xml").write_text(text)
    with pytest.raises(DamageError, match=r"000000\.xml") as caught:
        list(read_voc(tmp_path, tmp_path))
    assert caught.value.kind == kind
    faults = Faults()
    (left,) = read_voc(tmp_path, tmp_path, on_error="skip", faults=faults)
    assert left.picture.name == "000001.jpg"
    assert dict(faults.counts) == {kind: 1}


LINES = {
    "label file": ["1 2 3 ship 0", "1 1 5 1 5 5 1 5 ship maybe"],
    "number": ["a 2 3 4 5 6 7 8 ship 0", "nan 1 5 1 5 5 1 5 ship 0", "1e300 1 5 1 5 5 1 5 ship 0"],
    "outside": ["100 1 120 1 120 5 100 5 ship 0", "-9 1 -5 1 -5 5 -9 5 ship 0"],
    "empty box": ["1 1 1 1 1 1 1 1 ship 0"],
}


@pytest.mark.parametrize(("kind", "line"), [(k, line) for k, rows in LINES.items() for line in rows])  # fmt: skip
def test_damaged_lines_are_refused_or_counted(tmp_path, kind, line):
    shutil.copy(DATA / "dota" / "P0001.png", tmp_path / "P0001.png")
    (tmp_path / "P0001.txt").write_text(f"gsd:0.2\n{line}\n1 1 9 1 9 9 1 9 plane 0\n")
    with pytest.raises(DamageError, match=r"P0001.txt, line 2"):
        list(read_dota(tmp_path, tmp_path))
    faults = Faults()
    (example,) = read_dota(tmp_path, tmp_path, on_error="skip", faults=faults)
    assert [t.label for t in example.things] == ["plane"]
    assert dict(faults.counts) == {kind: 1}
    with pytest.warns(RemoteSAMWarning, match=rf"1 passed over: {kind} \(1\)"):
        list(read_dota(tmp_path, tmp_path, on_error="skip"))


def broken_coco(tmp_path, change):
    write_coco(things(), tmp_path)
    whole = json.loads((tmp_path / "annotations.json").read_text())
    change(whole)
    (tmp_path / "annotations.json").write_text(json.dumps(whole))
    return tmp_path / "annotations.json", tmp_path / "images"


def put(part, index, **values):
    return lambda whole: whole[part][index].update(values)


DAMAGED = {
    "a box outside": (put("annotations", 0, bbox=[100, 100, 5, 5]), "outside"),
    "a box without area": (put("annotations", 0, bbox=[1, 1, 0, 5]), "empty box"),
    "a box of texts": (put("annotations", 0, bbox=["x", 1, 2, 5]), "number"),
    "three sides": (put("annotations", 0, bbox=[1, 2, 5]), "label file"),
    "absurd runs": (
        put("annotations", 0, segmentation={"size": [10**6, 10**6], "counts": [10**12]}),
        "size",
    ),
    "runs of another picture": (
        put("annotations", 0, segmentation=Mask.empty((9, 9)).to_coco()),
        "run lengths",
    ),
    "an unknown category": (put("annotations", 0, category_id=99), "label file"),
    "an unknown picture": (put("annotations", 0, image_id=99), "label file"),
    "a missing picture": (put("images", 1, file_name="none.png"), "missing picture"),
    "a path up": (put("images", 1, file_name="../b.png"), "picture name"),
    "an absurd picture": (put("images", 1, width=10**9, height=10**9), "size"),
    "a picture without size": (put("images", 1, width=None), "label file"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_coco_is_refused_or_counted(tmp_path, what):
    change, kind = DAMAGED[what]
    where = broken_coco(tmp_path, change)
    with pytest.raises(DamageError) as caught:
        list(read_coco(*where))
    assert caught.value.kind == kind
    faults = Faults()
    read = list(read_coco(*where, on_error="skip", faults=faults))
    assert dict(faults.counts) == {kind: 1}
    lost = 4 - sum(len(example.things) for example in read)
    assert (len(read), lost) in {(3, 1), (2, 1)}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"images": 3}', "[" * 100_000])
def test_files_that_are_no_coco_say_so(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DamageError):
        list(read_coco(tmp_path / "a.json", tmp_path))


def test_a_label_file_beyond_the_cap_is_not_read(tmp_path):
    (tmp_path / "a.json").write_text("[]" * 100)
    with pytest.raises(DamageError, match="200 bytes"):
        list(read_coco(tmp_path / "a.json", tmp_path, limits=SizeLimits(label_bytes=100)))


def test_pictures_are_judged_by_their_header_and_when_they_are_read(tmp_path):
    path = tmp_path / "wide.png"
    Image.new("1", (4000, 4000)).save(path)
    with pytest.raises(DamageError, match="4000 x 4000"):
        Picture.of("wide", path, limits=SizeLimits(pixels=10**6))
    whole = (DATA / "dior" / "000000.jpg").read_bytes()
    with pytest.raises(DamageError, match="cut off"):
        Picture.of("half", whole[: len(whole) * 3 // 4]).read()
    with pytest.raises(DamageError, match="cannot be read"):
        Picture.of("none", b"no picture")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DamageError, match="8-bit"):
        Picture.of("deep", tmp_path / "deep.png").read()
    (tmp_path / "renamed.jpg").write_bytes((DATA / "dota" / "P0000.png").read_bytes())
    assert Picture.of("renamed", tmp_path / "renamed.jpg").read().shape[2] == 3
    told = Picture(name="renamed", content=tmp_path / "renamed.jpg", shape=(7, 7))
    with pytest.raises(DamageError, match="no longer"):
        told.read()


def test_a_class_map_with_a_value_of_no_class_is_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 9, np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(DamageError, match="holds 9"):
        ClassMap(path=tmp_path / "m.png", names=("a", "b"), first=1, unknown=(0,)).read()
    Image.fromarray(np.full((4, 4, 3), 9, np.uint8)).save(tmp_path / "c.png")
    with pytest.raises(DamageError, match=r"\(9, 9, 9\)"):
        ClassMap(path=tmp_path / "c.png", names=("a",), colors=((0, 0, 0),)).read()


def test_damaged_phrases_counts_and_numbers_are_counted(tmp_path):
    write_refsegrs([t for t in some_triplets() if t.kind == "one-to-one"], tmp_path)
    with (tmp_path / "output_phrase_train.txt").open("a") as file:
        file.write("lonely\nnowhere the ship\n\n")
    faults = Faults()
    assert len(list(read_refsegrs(tmp_path, "train", on_error="skip", faults=faults))) == 4
    assert dict(faults.counts) == {"label file": 1, "missing picture": 1}

    said = [{"content": "the number of ship."}, {"content": "many"}]
    rows = [{"images": ["a.png"]}, {"images": ["a.png"], "conversations": said}]
    (tmp_path / "n.json").write_text(json.dumps(rows))
    faults = Faults()
    assert not list(read_counts(tmp_path / "n.json", tmp_path, on_error="skip", faults=faults))
    assert dict(faults.counts) == {"label file": 2}

    write_rsvg(things(), tmp_path / "r")
    (tmp_path / "r" / "train.txt").write_text("0\none\n")
    with pytest.raises(DamageError, match="'one'"):
        list(read_rsvg(tmp_path / "r", "train"))


def test_two_pictures_of_one_name_are_not_written_over(tmp_path):
    one, other = (Example(picture=picture("a.png", seed)) for seed in (1, 2))
    with pytest.raises(DamageError, match="two different pictures"):
        write_coco([one, other], tmp_path)
