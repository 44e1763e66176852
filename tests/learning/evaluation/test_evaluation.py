"""Evaluation end to end: an oracle is perfect, runs resume and merge, the published faults are options."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from PIL import Image

from remotesam_geo import open_raster
from remotesam_geo.cli import main
from remotesam_geo.errors import InputError, JobError, RemoteSAMWarning
from remotesam_geo.learning.datasets import (
    LOVEDA,
    POTSDAM,
    ClassMap,
    DamageError,
    Example,
    Mask,
    Picture,
    Thing,
    read_coco,
    read_published,
    read_rsvg,
    triplets_of,
    write_coco,
    write_dota,
    write_isaid,
    write_loveda,
    write_potsdam,
    write_published,
    write_refsegrs,
    write_rsvg,
)
from remotesam_geo.learning.evaluation import (
    BENCHMARKS,
    TASKS,
    Oracle,
    Report,
    Setting,
    asked_as,
    calibrate,
    compare,
    evaluate,
    judge,
)
from remotesam_geo.learning.evaluation.answerers import answerer, nearest, resized
from remotesam_geo.learning.evaluation.task_steps import PicturePredictor, Unit
from remotesam_geo.tasks import caption, encode

CLASSES = ("airplane", "ship", "storage_tank", "harbor")  # as NWPU VHR-10 spells them
ASKED = asked_as(CLASSES)
SIDE = (96, 120)


def picture_of_things(seed):
    """A picture with things that do not touch, in the manner of NWPU VHR-10: boxes, polygons as masks, classes."""
    generator = np.random.default_rng(seed)
    rgb = generator.integers(60, 120, (*SIDE, 3), np.uint8)
    cells = generator.permutation(20)[: int(generator.integers(1, 9))]
    things, seen = [], {}
    for cell in cells.tolist():
        label = CLASSES[int(generator.integers(len(CLASSES)))]
        x, y = (cell % 5) * 24 + 3, (cell // 5) * 24 + 3
        w, h = generator.integers(6, 18, 2).tolist()
        mask = Mask.of_polygons([[x, y, x + w, y, x + w, y + h, x, y + h]], SIDE)
        seen[label] = seen.get(label, 0) + 1
        rgb[mask.pixels()] = 40 * CLASSES.index(label) + 90
        box = tuple(float(v) for v in mask.box)
        said = (f"the {label} number {seen[label]}",)
        things.append(Thing(label=label, box=box, mask=mask, expressions=said, id=str(cell)))
    return Example(picture=Picture.of(f"{seed:03}.png", rgb), things=tuple(things), split="test")


@pytest.fixture(scope="module")
def examples():
    return [picture_of_things(seed) for seed in range(12)]


def with_captions(examples):
    """People who say exactly what the rules say of the truth."""
    said = []
    for one in examples:
        centres = {
            label: np.array(
                [((t.box[0] + t.box[2]) / 2, (t.box[1] + t.box[3]) / 2) for t in one.things if t.label == label]
            ).reshape(-1, 2)
            for label in CLASSES
        }
        said.append(replace(one, captions=(caption(centres, SIDE),)))
    return said


def scenes():
    """Pictures with one label each, told apart by their pixels."""
    return [
        Example(
            picture=Picture.of(f"{k}", np.full((8, 8, 3), 10 * k, np.uint8)),
            labels=(CLASSES[k % 4],),
        )
        for k in range(8)
    ]


PERFECT = {
    "referring": {"oIoU": 1, "mIoU": 1, "Pr@0.9": 1},
    "semantic": {"mIoU": 1, "mF1": 1, "accuracy": 1},
    "detection": {"AP50": 1, "AP50:95": 1, "recall50": 1},
    "oriented": {"AP50": 1, "AP50:95": 1, "recall50": 1},
    "grounding": {"AP50": 1, "mIoU": 1, "unanswered": 0},
    "multi-label": {"accuracy": 1, "exact": 1, "mF1": 1},
    "single-label": {"accuracy": 1, "mean accuracy": 1},
    "counting": {"accuracy": 1, "mean error": 0},
    "captioning": {},
}


def data_for(task, examples):
    if task == "single-label":
        return scenes()
    return with_captions(examples) if task == "captioning" else examples


@pytest.mark.parametrize("task", TASKS)
def test_an_oracle_is_perfect_at_every_task(task, examples):
    data = data_for(task, examples)
    report = evaluate(task, data, Oracle(data, ASKED), setting=Setting(classes=ASKED))
    for name, value in PERFECT[task].items():
        assert report.overall[name] == pytest.approx(value), name
    if task == "captioning":  # one reference each: the words themselves are the most there can be
        assert report.overall["CIDEr-D"] == pytest.approx(10)
    assert report.pictures == len(data)
    assert TASKS[task].figure in report.overall


def test_an_oracle_is_perfect_on_triplets_and_through_every_layout(tmp_path, examples):
    triplets = [t for e in examples for t in triplets_of(e, classes=CLASSES, absent=1)]
    write_published(triplets, tmp_path / "p")
    write_rsvg(examples, tmp_path / "r")
    write_coco(examples, tmp_path / "c")
    setting = Setting(classes=ASKED)
    for task, read in (
        ("referring", lambda: read_published(tmp_path / "p")),
        ("grounding", lambda: read_rsvg(tmp_path / "r", "test")),
        (
            "detection",
            lambda: read_coco(tmp_path / "c" / "annotations.json", tmp_path / "c" / "images"),
        ),
    ):
        report = evaluate(task, read(), Oracle(read(), ASKED), setting=setting)
        assert report.overall[report.figure] == pytest.approx(1), task


def test_touching_things_are_one_until_contours_part_them():
    mask = [Mask.of_box((x, 5, x + 10, 25), (30, 40)) for x in (5, 15)]
    things = tuple(Thing(label="ship", box=tuple(map(float, m.box)), mask=m) for m in mask)
    data = [Example(picture=Picture.of("a", np.zeros((30, 40, 3), np.uint8)), things=things)]
    setting = Setting(classes=asked_as(["ship"]))
    oracle = Oracle(data, setting.classes)
    joined = evaluate("counting", data, oracle, setting=setting)
    parted = evaluate("counting", data, oracle, setting=setting, contours=oracle.contours)
    assert joined.by_class["ship"]["bias"] == -1
    assert parted.overall["accuracy"] == 1
    assert evaluate("detection", data, oracle, setting=setting, contours=oracle.contours).overall["AP50"] == 1


# --- a model that errs ---------------------------------------------------------------------------


class Blurred:
    """The truth shifted, faded and sometimes silent: what a network may do."""

    image_size = None

    def __init__(self, data, identity="blurred"):
        self.oracle, self.identity, self.asked = Oracle(data, ASKED), identity, 0

    def answers(self, picture, expressions):
        for number, chance in enumerate(self.oracle.answers(picture, expressions)):
            self.asked += 1
            noise = np.random.default_rng(int(picture.sum()) + number).random(chance.shape)
            faded = 0.5 if (int(picture.sum()) + number) % 3 == 0 else 1
            moved = np.roll(chance, 2, axis=1) * (0.35 + 0.6 * noise) * faded
            yield np.maximum(moved, 0.3 * noise).astype(np.float32)


@pytest.mark.parametrize("task", [task for task in TASKS if task != "single-label"])
def test_broken_off_resumed_and_cut_into_parts_equal_one_pass(task, tmp_path, examples):
    data = data_for(task, examples)
    setting = Setting(classes=ASKED, thresholds=(0.3,) if task in ("detection", "counting", "grounding") else ())
    whole = evaluate(task, data, Blurred(data), setting=setting)

    class Killed(Blurred):
        def answers(self, picture, expressions):
            if self.asked > 9:
                raise KeyboardInterrupt
            return super().answers(picture, expressions)

    folder = tmp_path / "one"
    with pytest.raises(KeyboardInterrupt):
        evaluate(task, data, Killed(data), setting=setting, folder=folder)
    (evidence,) = folder.glob("evidence-*.jsonl")
    kept = evidence.read_bytes()
    assert kept.count(b"\n") < len(data)
    evidence.write_bytes(kept + b'{"position": 11, "ke')  # a line that was being written
    again = Blurred(data)
    resumed = evaluate(task, data, again, setting=setting, folder=folder)
    assert 0 < again.asked < Blurred(data).asked + 10_000
    assert repr(resumed) == repr(whole)
    silent = Blurred(data)
    assert repr(evaluate(task, data, silent, setting=setting, folder=folder)) == repr(whole)
    assert silent.asked == 0

    for k in (2, 0, 1):
        evaluate(task, data, Blurred(data), setting=setting, folder=tmp_path / "parts", part=(k, 3))
    assert repr(judge(tmp_path / "parts")) == repr(whole)
    assert whole.overall[whole.figure] < (10 if task == "captioning" else 1)


def test_evidence_of_another_run_is_not_mixed_in(tmp_path, examples):
    data = examples[:2]
    evaluate("detection", data, Blurred(data), setting=Setting(classes=ASKED), folder=tmp_path)
    for change in (
        {"task": "counting"},
        {"model": Blurred(data, "another")},
        {"setting": Setting(classes=ASKED, threshold=0.4)},
    ):
        options = {"task": "detection", "model": Blurred(data), "setting": Setting(classes=ASKED)}
        options |= change
        with pytest.raises(JobError, match=next(iter(change))):
            evaluate(options["task"], data, options["model"], setting=options["setting"], folder=tmp_path)
    with pytest.raises(JobError, match="data have changed"):
        evaluate("detection", [data[1]], Blurred(data), setting=Setting(classes=ASKED), folder=tmp_path)
    with pytest.raises(JobError, match="no evidence"):
        judge(tmp_path / "none")
    evaluate(
        "detection",
        data,
        Blurred(data),
        setting=Setting(classes=ASKED),
        folder=tmp_path,
        part=(0, 2),
    )
    with pytest.raises(JobError, match="twice"):
        judge(tmp_path)


def test_thresholds_found_afterwards_are_those_of_asking_again(examples):
    setting = Setting(classes=ASKED)
    report = evaluate("referring", examples, Blurred(examples), setting=setting)
    best = report.thresholds["all"]["threshold"]
    again = evaluate("referring", examples, Blurred(examples), setting=replace(setting, threshold=best))
    assert again.overall["oIoU"] == pytest.approx(report.thresholds["all"]["iou"])
    assert again.overall["oIoU"] >= report.overall["oIoU"]
    sweep = evaluate("detection", examples, Blurred(examples), setting=replace(setting, thresholds=(0.3,))).sweeps
    alone = evaluate("detection", examples, Blurred(examples), setting=replace(setting, threshold=0.3)).overall
    assert {name: sweep[0][name] for name in alone} == alone
    labels = evaluate(
        "multi-label",
        examples,
        Blurred(examples),
        setting=replace(setting, balances=(1.0,), thresholds=(0.7,)),
    )
    for line, change in (
        (labels.sweeps[1], {"balance": 1.0}),
        (labels.sweeps[0], {"threshold": 0.7}),
    ):
        alone = evaluate("multi-label", examples, Blurred(examples), setting=replace(setting, **change)).overall
        assert {name: line[name] for name in alone} == alone


def test_thresholds_by_label_hold_for_their_label(examples):
    by_label = Setting(classes=ASKED, threshold={"ship": 0.995})
    figures = evaluate("detection", examples, Blurred(examples), setting=by_label).by_class
    assert figures["ship"]["found"] == 0
    assert figures["airplane"]["found"] > 0


# --- published variants --------------------------------------------------------------------------


class Silent(Oracle):
    """Knows the first question of each picture only."""

    def answers(self, picture, expressions):
        for number, chance in enumerate(super().answers(picture, expressions)):
            yield chance if number == 0 else np.zeros_like(chance)


def test_the_published_grounding_counts_a_miss_as_the_answer_before(examples):
    data = [one for one in examples if len(one.things) > 1]
    rates = {
        published: evaluate(
            "grounding",
            data,
            Silent(data, ASKED),
            setting=Setting(classes=ASKED, published=published),
        ).overall
        for published in (False, True)
    }
    assert rates[True]["AP50"] == 1
    assert rates[False]["AP50"] == len(data) / sum(len(one.things) for one in data)
    assert rates[True]["mIoU"] == rates[False]["mIoU"]


def test_the_published_semantic_map_gives_a_pixel_to_the_last_class_that_claims_it():
    picture = Picture.of("a", np.zeros((4, 4, 3), np.uint8))
    things = (Thing(label="airplane", box=(0, 0, 4, 4)),)

    class Both:
        identity, image_size = "both", None

        def answers(self, _, expressions):
            for expression in expressions:
                yield np.full((4, 4), 0.9 if "airplane" in expression else 0.6, np.float32)

    data = [Example(picture=picture, things=things)]
    classes = asked_as(["airplane", "ship"])
    right = evaluate("semantic", data, Both(), setting=Setting(classes=classes))
    as_published = evaluate("semantic", data, Both(), setting=Setting(classes=classes, published=True))
    assert right.overall["accuracy"] == 1
    assert as_published.overall["accuracy"] == 0


def test_an_empty_answer_to_an_absent_thing_is_right_and_published_as_wrong(examples):
    data = list(triplets_of(examples[0], classes=CLASSES, absent=4))
    absent = [t for t in data if t.kind == "one-to-zero"]
    assert absent
    for published, expected in ((False, 1), (True, 0)):
        setting = Setting(classes=ASKED, published=published)
        report = evaluate("referring", absent, Oracle(data, ASKED), setting=setting)
        assert report.overall["mIoU"] == expected


def test_masks_are_judged_at_the_pictures_size_or_as_published_at_the_networks():
    truth = np.zeros((30, 45), bool)
    truth[10:20, 15:30] = True
    thing = Thing(label="ship", box=(15, 10, 30, 20), mask=Mask.of(truth), expressions=("it",))
    data = [Example(picture=Picture.of("a", np.zeros((30, 45, 3), np.uint8)), things=(thing,))]

    class Square:
        identity, image_size = "square", 60

        def answers(self, *_):
            yield nearest(truth, (60, 60)).astype(np.float32)

    for published in (False, True):
        setting = Setting(published=published)
        report = evaluate("referring", data, Square(), setting=setting)
        # Pixels counted (true ones over all codes) tell at which size it was judged.
        assert report.overall["mIoU"] == pytest.approx(1, abs=0.02)
        counted = sum(row[2] for row in report.calibration["all"])
        assert counted == (3600 if published else 1350)


def test_the_published_prior_leaves_small_objects_uncounted(examples):
    least = Setting(classes=ASKED, min_area={"ship": 10**6})
    report = evaluate("counting", examples, Oracle(examples, ASKED), setting=least)
    assert report.by_class["ship"]["accuracy"] == 0
    assert report.by_class["airplane"]["accuracy"] == 1


# --- reports -------------------------------------------------------------------------------------


def test_reports_are_written_read_and_compared(tmp_path, examples):
    setting = Setting(classes=ASKED)
    one = evaluate("semantic", examples, Blurred(examples), setting=setting, name="mine")
    other = evaluate("semantic", examples, Oracle(examples, ASKED), setting=setting, name="mine")
    one.write(tmp_path)
    json.loads((tmp_path / "report.json").read_text())
    read = Report.read(tmp_path / "report.json")
    assert read.to_json() == one.to_json()
    text = (tmp_path / "report.md").read_text()
    for part in (
        "# semantic on mine",
        "## By class",
        "## Confusion",
        "storage_tank",
        "calibration error",
        "## Worst",
    ):
        assert part in text
    told = compare(read, other)
    change = other.overall["mIoU"] - one.overall["mIoU"]
    assert f"| all | mIoU | {one.overall['mIoU']:.4f} | 1.0000 | {change:.4f} |" in told
    with pytest.raises(InputError, match="cannot be compared"):
        compare(one, evaluate("counting", examples, Oracle(examples, ASKED), setting=setting))
    with pytest.raises(InputError, match="no report"):
        Report.read(tmp_path / "report.md")


def test_the_worst_and_the_best_are_drawn_and_the_others_taken_back(tmp_path, examples):
    setting = Setting(classes=ASKED)
    report = evaluate("detection", examples, Blurred(examples), setting=setting, folder=tmp_path, cases=2)
    for side, ranked in (("worst", report.worst), ("best", report.best)):
        drawn = sorted(path.name[:6] for path in (tmp_path / side).iterdir())
        assert drawn == sorted(key[:6] for key, _ in ranked[:2])
        with Image.open(next((tmp_path / side).iterdir())) as picture:
            assert max(picture.size) == 640


def test_damaged_pictures_raise_or_are_counted(tmp_path, examples):
    write_coco(examples, tmp_path)
    path = tmp_path / "images" / "003.png"
    path.write_bytes(path.read_bytes()[:3000])

    def read():
        return read_coco(tmp_path / "annotations.json", tmp_path / "images")

    good = [one for one in examples if one.picture.name != "003.png"]
    setting = Setting(classes=ASKED)
    with pytest.raises(DamageError, match=r"003\.png"):
        evaluate("detection", read(), Oracle(good, ASKED), setting=setting)
    with pytest.warns(RemoteSAMWarning, match="1 passed over"):
        report = evaluate("detection", read(), Oracle(good, ASKED), setting=setting, on_error="skip")
    assert report.pictures == 11
    assert report.passed_over == {"picture": 1}
    assert report.overall["AP50"] == 1
    assert "Passed over: picture (1)" in report.table()


def test_what_each_part_passed_over_is_counted_when_they_are_merged(tmp_path, examples):
    write_coco(examples, tmp_path)
    paths = [tmp_path / "images" / f"{k:03}.png" for k in (3, 4, 8)]
    whole = [path.read_bytes() for path in paths]

    def damage():
        for path, data in zip(paths, whole, strict=True):
            path.write_bytes(data[:3000])

    def part(k, folder="parts"):
        data = read_coco(tmp_path / "annotations.json", tmp_path / "images")
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            return evaluate(
                "detection", data, Oracle(examples, ASKED), setting=Setting(classes=ASKED),
                folder=tmp_path / folder, part=(k, 2), on_error="skip",
            )  # fmt: skip

    damage()
    counts = [sum(part(k).passed_over.values()) for k in range(2)]
    assert sorted(counts) == [1, 2]
    merged = judge(tmp_path / "parts")
    assert merged.pictures == 9
    assert merged.passed_over == {"picture": 3}
    assert "Passed over: picture (3)" in merged.table()
    part(0)  # tried again, and still damaged: counted once
    part(1)
    assert judge(tmp_path / "parts").passed_over == {"picture": 3}
    for path, data in zip(paths, whole, strict=True):
        path.write_bytes(data)
    part(0)  # mended meanwhile
    part(1)
    mended = judge(tmp_path / "parts")
    assert (mended.pictures, mended.passed_over) == (12, {})


def test_a_part_that_has_not_begun_is_named(tmp_path, examples):
    setting = Setting(classes=ASKED)
    evaluate("detection", examples, Blurred(examples), setting=setting, folder=tmp_path, part=(1, 3))
    with pytest.warns(RemoteSAMWarning, match="no evidence of the parts 0 of 3, 2 of 3"):
        judge(tmp_path)


@pytest.mark.parametrize(
    "line",
    [b"5", b"{", b"[1]", b'{"position": 0}', b'{"position": "0", "key": "0"}', b"\xff", b"null"],
)
def test_a_damaged_line_of_evidence_names_the_file(tmp_path, examples, line):
    setting = Setting(classes=ASKED)
    evaluate("detection", examples[:2], Blurred(examples), setting=setting, folder=tmp_path)
    (path,) = tmp_path.glob("evidence-*.jsonl")
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(first + b"\n" + line + b"\n" + second + b"\n")
    with pytest.raises(JobError, match=r"evidence-0-of-1\.jsonl is damaged in line 2"):
        judge(tmp_path)
    path.write_bytes(b'{"position": 0, "key": "0"}\n')
    with pytest.raises(JobError, match="is damaged"):
        judge(tmp_path)
    (tmp_path / "run.json").write_text("[1]")
    with pytest.raises(JobError, match=r"run\.json is damaged"):
        judge(tmp_path)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda d: evaluate("seeing", d, Oracle(d, {}), setting=Setting()), "task='seeing' is not allowed"),
        (lambda d: evaluate("detection", d, object(), setting=Setting()), "cannot be evaluated"),
        (lambda d: evaluate("detection", d, Oracle(d, {}), setting=Setting(), cases=1), "folder"),
        (lambda d: evaluate("detection", d, Oracle(d, {}), setting=Setting(), part=(2, 2)), "part"),
        (lambda d: evaluate("detection", d, Oracle(d, {}), setting=Setting(), part=3), "part is of the type int"),
        (lambda d: evaluate("detection", d, Oracle(d, {}), setting=Setting(), cases=-1), "cases=-1"),
        (lambda d: evaluate("referring", d, Oracle(d, {}), setting=Setting(thresholds=(0.4,))), "thresholds has no"),
        (lambda d: evaluate("semantic", d, Oracle(d, {}), setting=Setting(balances=(0.4,))), "balances has no"),
        (lambda d: evaluate("grounding", d, o := Oracle(d, {}), setting=Setting(), contours=o.contours), "contours"),
        (lambda d: evaluate("captioning", d, Oracle(d, {}), setting=Setting(), cases=1), "cases has no effect"),
        (lambda _: Setting(balances=(2,)), "balance=2"),
        (lambda _: asked_as(["ship", " "]), r"labels\[1\] is empty"),
        (lambda d: evaluate("detection", d, Oracle(d, {}), setting=Setting()), "none is given"),
        (lambda d: evaluate("grounding", [], Oracle(d, {}), setting=Setting()), "no picture"),
        (lambda _: Setting(threshold=1.23), "from 0 to 1"),
        (lambda _: Setting(classes={"a": "b"}), "list of expressions"),
        (
            lambda d: evaluate("grounding", triplets_of(d[0]), Oracle(d, {}), setting=Setting()),
            "not triplets",
        ),
    ],
)
def test_what_cannot_be_done_is_said(call, words, examples):
    with pytest.raises(InputError, match=words):
        call(examples[:1])


# --- networks ------------------------------------------------------------------------------------


class Network:
    """What `RemoteSAM` holds: pictures of one size and expressions to codes."""

    image_size, identity = 64, "brightness"

    def __init__(self):
        self.shapes = []

    def predict(self, images, expressions):
        self.shapes.append((images.shape, len(expressions)))
        chance = images.mean(axis=3).astype(np.float32) / 255
        return np.repeat(encode(chance)[:, None], len(expressions), axis=1)


def test_a_picture_is_one_view_resized_and_its_map_resized_back(examples):
    network = Network()
    asked = answerer(network)
    rgb = examples[0].picture.read()
    maps = list(asked.answers(rgb, ["a"] * 11))
    assert network.shapes == [((1, 64, 64, 3), 8), ((1, 64, 64, 3), 3)]
    assert maps[0].shape == (64, 64)
    back = resized(maps[0], SIDE)
    assert back.shape == SIDE
    assert back.dtype == np.float32
    report = evaluate("referring", examples[:2], network, setting=Setting(classes=ASKED))
    assert sum(row[2] for row in report.calibration["all"]) == sum(len(e.things) for e in examples[:2]) * 96 * 120


def test_pictures_with_few_questions_are_asked_together(examples):
    class Together(Network):
        def __init__(self):
            super().__init__()
            self.predictor, self.groups = self, []

        def probabilities(self, images, expressions):
            return np.repeat(images.mean(axis=3, dtype=np.float32)[:, None] / 255, len(expressions), 1)

        def probabilities_each(self, images, questions):
            self.groups.append([len(own) for own in questions])
            return [self.probabilities(i[None], own)[0] for i, own in zip(images, questions, strict=True)]

    alone, together = Network(), Together()
    setting = Setting(classes=ASKED)
    for task in ("referring", "multi-label", "counting"):
        together.groups.clear()
        report = evaluate(task, examples, together, setting=setting)
        asked = [
            len(e.things) if task == "referring" else 4 if task == "multi-label" else len({t.label for t in e.things})
            for e in examples
        ]
        assert [count for group in together.groups for count in group] == asked
        assert len(together.groups) <= sum(asked) // 32 + 1
        plain = evaluate(task, examples, alone, setting=setting)
        assert report.overall == pytest.approx(plain.overall, abs=0.02, nan_ok=True)


def test_tiny_is_asked_in_float32():
    from remotesam_geo import RemoteSAM
    from remotesam_geo.learning.synthetic import scene

    model = RemoteSAM.from_pretrained("tiny", device="cpu", precision="float32")
    view = scene(10**6)
    labels = sorted({one.name for one in view.instances})[:2]
    things = tuple(
        Thing(label=one.name, box=tuple(map(float, one.box)), mask=Mask.of(view.mask([one])))
        for one in view.instances
        if one.name in labels
    )
    data = [Example(picture=Picture.of("scene", view.rgb), things=things)]
    report = evaluate("semantic", data, model, setting=Setting(classes=asked_as(labels)))
    # It was trained on such scenes: far better than chance, far from perfect.
    assert 0.2 < report.overall["mIoU"] < 0.99
    (chance,) = answerer(model).answers(view.rgb, ["ship in the image"])
    assert chance.dtype == np.float32
    assert np.unique(chance).size > 1000  # not codes


# --- the command ---------------------------------------------------------------------------------


def layouts(folder, examples):
    """The folders that the published rows ask for, of synthetic pictures."""
    write_coco(examples, folder / "coco")
    dior = folder / "dior"
    (dior / "Annotations").mkdir(parents=True)
    (folder / "coco" / "annotations.json").rename(dior / "Annotations" / "DIOR_test.json")
    (folder / "coco" / "images").rename(dior / "JPEGImages")
    write_dota(examples, folder / "dota")
    write_isaid(examples, folder / "isaid")
    write_rsvg(examples, folder / "rsvg")
    write_published([t for e in examples for t in triplets_of(e)], folder / "rrsis")
    return {
        "dior": dior,
        "dior-labels": dior,
        "dota": folder / "dota",
        "dota-labels": folder / "dota",
        "dota-oriented": folder / "dota",
        "isaid": folder / "isaid",
        "isaid-semantic": folder / "isaid",
        "isaid-oriented": folder / "isaid",
        "rsvg": folder / "rsvg",
        "rrsis-d": folder / "rrsis",
    }


def test_published_rows_run_from_their_layout(tmp_path, examples, capsys):
    spelt = [
        replace(
            one,
            things=tuple(replace(t, label=t.label.replace("_", "")) for t in one.things),
        )
        for one in examples[:4]
    ]
    for row, folder in layouts(tmp_path, spelt).items():
        assert main(["evaluate", row, str(folder), "--model", "oracle", "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["figure"] in said["overall"], row
        if row in ("dior", "dior-labels", "isaid-semantic", "rsvg", "rrsis-d"):
            assert said["overall"][said["figure"]] == pytest.approx(1), row


def test_copies_that_spell_labels_otherwise_are_understood(tmp_path, examples):
    names = {
        "airplane": "Airplane",
        "ship": "SHIP",
        "storage_tank": "storage-tank",
        "harbor": "pier",
    }
    spelt = [replace(e, things=tuple(replace(t, label=names[t.label]) for t in e.things)) for e in examples[:4]]
    row = BENCHMARKS["dior"]
    write_coco(spelt, tmp_path)
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "annotations.json").rename(tmp_path / "Annotations" / "DIOR_test.json")
    (tmp_path / "images").rename(tmp_path / "JPEGImages")
    data = list(row.data_in(tmp_path))
    report = evaluate("detection", data, Oracle(data, row.classes), setting=row.setting())
    assert report.by_class["storagetank"]["objects"] == sum(
        t.label == "storage_tank" for e in examples[:4] for t in e.things
    )
    assert report.unasked == {"pier": sum(t.label == "harbor" for e in examples[:4] for t in e.things)}
    assert "Not asked for: pier" in report.table()


def test_every_published_row_is_in_the_page():
    page = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text()
    for row in BENCHMARKS.values():
        (line,) = [line for line in page.splitlines() if f"evaluate {row.name} " in line]
        for value in row.published.values():
            assert f"{value:g}" in line or f"{value:.2f}" in line or f"{value:.3f}" in line, row.name


def test_own_data_on_the_command_line(tmp_path, examples, capsys):
    write_coco(examples, tmp_path)
    run = ["detection", str(tmp_path), "--model", "oracle"]
    assert main(["evaluate", *run, "--out", str(tmp_path / "a"), "--sweep", "0.4", "--cases", "1"]) == 0
    assert "| AP50 | 1.0000 |" in capsys.readouterr().out
    assert (tmp_path / "a" / "report.md").exists()
    assert main(["evaluate", *run, "--against", str(tmp_path / "a" / "report.json")]) == 0
    assert "| all | AP50 | 1.0000 | 1.0000 | 0.0000 |" in capsys.readouterr().out
    assert main(["evaluate", *run, "--classes", "boat"]) == 0
    assert "the data show no boat; they show" in capsys.readouterr().err
    for k in ("0", "1"):
        assert main(["evaluate", *run, "--out", str(tmp_path / "b"), "--part", k, "2"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "join", str(tmp_path / "b"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == 12
    assert main(["evaluate", "detection", str(tmp_path / "none"), "--model", "oracle"]) == 1
    assert "none' is no folder" in capsys.readouterr().err


# --- calibration ---------------------------------------------------------------------------------


@pytest.fixture
def square_kilometre(tmp_path):
    """A raster whose brightness is the probability, with polygons round what is brighter than 140."""
    generator = np.random.default_rng(3)
    grey = generator.integers(0, 100, (200, 260), np.uint8)
    polygons = []
    transform = Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000)
    for x, y in ((40, 40), (90, 60), (140, 120), (60, 130)):
        grey[y : y + 20, x : x + 25] = generator.integers(150, 220, (20, 25))
        corners = [transform * (x, y), transform * (x + 25, y + 20)]
        polygons.append(shapely.box(*np.sort(corners, axis=0).ravel()))
    path = tmp_path / "grey.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=260,
        height=200,
        count=3,
        dtype="uint8",
        crs="EPSG:32631",
        transform=transform,
    ) as file:
        file.write(np.stack([grey] * 3))
    frame = gpd.GeoDataFrame({"label": ["tank"] * 4}, geometry=polygons, crs="EPSG:32631")
    return open_raster(path), frame, grey


@pytest.mark.parametrize("crs", ["EPSG:32631", "EPSG:4326", "EPSG:3857"])
def test_calibration_finds_the_threshold_that_parts_best(square_kilometre, crs):
    scene, frame, _ = square_kilometre
    found = calibrate(Network(), scene, frame.to_crs(crs))
    assert 99 / 255 - 0.01 <= found["tank"] <= 150 / 255
    assert found.points["tank"].precision > 0.98
    assert found.points["tank"].recall > 0.98
    assert dict(found) == {"tank": found["tank"]}
    assert "| tank |" in found.table()


def test_calibration_agrees_with_counting_pixels_by_hand(square_kilometre):
    scene, frame, grey = square_kilometre
    area = shapely.box(500_010, 3_999_920, 500_080, 3_999_990)
    found = calibrate(Network(), scene, frame, geometry=area, overlap=0)
    codes = encode(grey.astype(np.float32) / 255)
    inside = np.zeros(grey.shape, bool)
    inside[20:160, 20:160] = True
    truth = np.zeros(grey.shape, bool)
    for x, y in ((40, 40), (90, 60), (140, 120), (60, 130)):
        truth[y : y + 20, x : x + 25] = True
    counts = found.chances["tank"]
    assert (counts.true == np.bincount(codes[inside & truth], minlength=201)).all()
    assert (counts.false == np.bincount(codes[inside & ~truth], minlength=201)).all()


def test_calibration_is_a_threshold_for_verbs(square_kilometre):
    from remotesam_geo import RemoteSAM

    scene, frame, _ = square_kilometre
    model = RemoteSAM(Network())
    found = calibrate(model, scene, frame)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RemoteSAMWarning)
        tanks = model.detect(scene, ["tank"], threshold=found, min_score=0.2)
    assert len(tanks) == 4
    joined = tanks.geometry.union_all()
    assert joined.symmetric_difference(frame.geometry.union_all()).area < 0.02 * joined.area


def test_calibration_says_what_it_lacks(square_kilometre):
    scene, frame, _ = square_kilometre
    for change, words in (
        (frame.set_crs(None, allow_override=True), "with a CRS"),
        (frame.rename(columns={"label": "class"}), "column 'label'"),
        (frame.iloc[:0], "0 polygons"),
        (frame.translate(1e5, 0).to_frame("geometry").assign(label="tank"), "beside the scene"),
    ):
        with pytest.raises(InputError, match=words):
            calibrate(Network(), scene, change)
    with pytest.raises(InputError, match="no polygon is labelled 'ship'"):
        calibrate(Network(), scene, frame, prompts=["tank", "ship"])
    with pytest.raises(InputError, match="no valid pixel"):
        calibrate(Network(), scene, frame, geometry=shapely.box(500_000, 3_999_999, 500_001, 4_000_000))


# --- real pictures -------------------------------------------------------------------------------


@pytest.mark.skipif(
    "REMOTESAM_GEO_NWPU" not in os.environ,
    reason="NWPU VHR-10 is for research only: set REMOTESAM_GEO_NWPU to a folder with images/ and annotations.json",
)
def test_an_oracle_on_nwpu_vhr_10():
    folder = Path(os.environ["REMOTESAM_GEO_NWPU"])

    def read():
        return read_coco(folder / "annotations.json", folder / "images")

    labels = list(dict.fromkeys(thing.label for one in read() for thing in one.things))
    setting = Setting(classes=asked_as(labels))
    oracle = Oracle(read(), setting.classes)
    for task, least in (
        ("referring", 1),
        ("semantic", 1),
        ("multi-label", 1),
        ("counting", 0.95),
        ("detection", 0.9),
    ):
        report = evaluate(task, read(), oracle, setting=setting)
        assert report.overall[report.figure] >= least - 1e-9, task


@pytest.mark.parametrize("layout", ["isaid", "loveda", "potsdam", "refsegrs"])
def test_own_class_maps_and_phrases_on_the_command_line(tmp_path, layout, examples, capsys):
    if layout == "isaid":
        things = [tuple(replace(t, label="ship") for t in e.things) for e in examples]
        write_isaid([replace(e, things=t) for e, t in zip(examples, things, strict=True)], tmp_path)
    elif layout == "refsegrs":
        write_refsegrs([t for e in examples for t in triplets_of(e) if t.kind == "one-to-one"], tmp_path)
    else:
        names = LOVEDA if layout == "loveda" else tuple(POTSDAM)
        maps = []
        for e in examples[:3]:
            path = tmp_path / f"drawn_{e.picture.name}"
            values = np.random.default_rng(1).integers(1, 1 + len(names), SIDE, np.uint8)
            Image.fromarray(values).save(path)
            maps.append(replace(e, classes=ClassMap(path=path, names=names, first=1)))
        (write_loveda if layout == "loveda" else write_potsdam)(maps, tmp_path)
    task = "referring" if layout == "refsegrs" else "semantic"
    run = [
        task,
        str(tmp_path),
        "--format",
        layout,
        *(["--split", "test"] if layout == "refsegrs" else []),
        "--model",
        "oracle",
        "--json",
    ]
    assert main(["evaluate", *run]) == 0
    overall = json.loads(capsys.readouterr().out)["overall"]
    assert overall["mIoU"] == pytest.approx(1)


def test_the_command_starts_as_a_module(tmp_path, examples):
    write_coco(examples[:2], tmp_path)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "remotesam_geo",
            "evaluate",
            "counting",
            tmp_path,
            "--model",
            "oracle",
        ],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert "| accuracy | 1.0000 |" in done.stdout


class SpySetting(Setting):
    """Notes which choices are read."""

    def __getattribute__(self, name):
        used = object.__getattribute__(self, "__dict__").get("used")
        if used is not None:
            used.add(name)
        return object.__getattribute__(self, name)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_says_rightly_which_choices_it_reads(task, examples):
    data = data_for(task, examples[:3])
    setting, drawn = SpySetting(classes=ASKED), []
    object.__setattr__(setting, "used", set())
    chosen = TASKS[task]
    rows = []
    for position, one in enumerate(data):
        unit = Unit(position=position, picture=one.picture, example=one)
        known = Oracle([one], ASKED)
        expressions = chosen.ask(unit, setting)
        assert isinstance(list(expressions), list)

        def lines():
            drawn.append(True)

        def maps(texts, picture=one.picture, known=known):
            return known.answers(picture.read(), texts)

        ask = PicturePredictor(shape=one.picture.shape, maps=maps, contours=lines)
        rows.append({"key": str(position)} | chosen.weigh(unit, ask, setting))
    chosen.judge(rows, setting)
    used = setting.used & {"classes", "thresholds", "balances"} | ({"contours"} if drawn else set())
    declared = set(chosen.reads) - {"cases"}
    assert used | ({"classes"} if task == "referring" else set()) == declared  # it asks for descriptions first
