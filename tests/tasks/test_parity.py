"""The published answers to four maps, exactly."""

import json
from pathlib import Path

import numpy as np
import pytest

from remotesam_geo.tasks import (
    MULTI_LABEL_BALANCE,
    SINGLE_LABEL_BALANCE,
    components,
    count_objects,
    detect,
    drawn_rectangles,
    ground,
    hulls,
    label_scores,
    refine,
    select,
    smallest_rectangles,
    tally,
    upright,
)
from tests.tasks import reference

DATA = Path(__file__).parents[1] / "data" / "parity"
CASES = json.loads((DATA / "tasks.json").read_text())
VARIANTS = [(case, contour) for case in CASES for contour in (False, True)]


def maps(case):
    with np.load(DATA / "tasks.npz") as arrays:
        prob, contour = (arrays[f"{case['case']}/{name}"] for name in ("prob", "contour"))
    return tuple(array.astype(np.float32) / np.float32(255) for array in (prob, contour))


def options(case, contour):
    prob, outline = maps(case)
    given = {"contour": outline, "contour_threshold": case["contour_threshold"]} if contour else {}
    return prob, {"threshold": case["threshold"], **given}


def found(case, contour):
    prob, given = options(case, contour)
    return refine(prob, **given) if contour else components(prob, **given)


def agree(boxes, score, published, sides=4):
    """The same boxes exactly, in any order, with the same confidence."""
    published = np.array(published)
    mine = np.lexsort(boxes.T)
    theirs = np.lexsort(published[:, :sides].T)
    np.testing.assert_array_equal(boxes[mine], published[theirs, :sides])
    np.testing.assert_allclose(score[mine], published[theirs, sides], atol=1e-5, rtol=0)


@pytest.fixture(params=VARIANTS, ids=lambda v: f"{v[0]['case']}{'-contour' if v[1] else ''}")
def variant(request):
    case, contour = request.param
    return case, contour, "_contour" if contour else ""


def test_boxes(variant):
    case, contour, suffix = variant
    table = found(case, contour).table
    agree(table.box, table.score, case["hbb_all" + suffix])


def test_boxes_outside_of_all_others(variant):
    case, contour, suffix = variant
    table = found(case, contour).table
    keep, dropped = select(table, upright(table.box), suppress="published")
    agree(table.box[keep], table.score[keep], case["hbb_outermost" + suffix])
    assert dropped.inner == len(case["hbb_all" + suffix]) - len(case["hbb_outermost" + suffix])


def test_detection(variant):
    case, contour, suffix = variant
    prob, given = options(case, contour)
    objects = detect(prob, **given)
    agree(objects.boxes, objects.score, case["hbb_detection" + suffix])
    assert count_objects(prob, **given) == case["count" + suffix]


def in_order(boxes):
    """Boxes as rows of their corners in rising order: releases of OpenCV begin at different corners."""
    corners = np.asarray(boxes).reshape(-1, 4, 2)
    order = np.lexsort((corners[..., 1], corners[..., 0]), axis=1)
    return np.take_along_axis(corners, order[..., None], axis=1).reshape(-1, 8)


def test_oriented_boxes(variant):
    case, contour, suffix = variant
    boxes = drawn_rectangles(hulls(found(case, contour)))
    published = np.array(case["obb_all" + suffix])[:, :8]
    assert sorted(in_order(boxes).tolist()) == sorted(in_order(published).tolist())


def test_oriented_boxes_that_enclose_the_pixels(variant):
    case, contour, _ = variant
    pieces = found(case, contour)
    image = pieces.paint()
    for index, corners in enumerate(smallest_rectangles(hulls(pieces)), start=1):
        pixels = zip(*np.nonzero(image == index), strict=True)
        reference.check_rectangle(corners, reference.corner_points(pixels))


def test_oriented_boxes_outside_of_all_others(variant):
    case, contour, suffix = variant
    prob, given = options(case, contour)
    objects = detect(prob, oriented=True, suppress="published", **given)
    assert objects.dropped.overlapping == 0
    agree(
        in_order(drawn_rectangles(hulls(objects.found))),
        objects.score,
        [[*in_order(row[:8])[0], *row[8:]] for row in case["obb_outermost" + suffix]],
        sides=8,
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["case"]))
def test_grounding_and_class_scores(case):
    prob, given = options(case, contour=False)
    assert list(ground(prob, **given).box) == case["grounding"]
    whole = [tally(prob)]
    several = label_scores(whole, balance=MULTI_LABEL_BALANCE)
    single = label_scores(whole, balance=SINGLE_LABEL_BALANCE)
    np.testing.assert_allclose(several, [[case["multi_label_score"]]], atol=1e-5, rtol=0)
    np.testing.assert_allclose(single, [[case["multi_class_score"]]], atol=1e-5, rtol=0)
