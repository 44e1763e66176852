"""The published answers to four maps, exactly."""

import json
from pathlib import Path

import numpy as np
import pytest

from remotesam_geo.tasks import (
    MULTI_LABEL_BALANCE,
    SINGLE_LABEL_BALANCE,
    Hulls,
    components,
    count_objects,
    detect,
    ground,
    hulls,
    label_scores,
    merge_hulls,
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


def agree(boxes, score, published):
    """The same boxes exactly, in any order, with the same confidence."""
    published = np.array(published)
    mine = np.lexsort(boxes.T)
    theirs = np.lexsort(published[:, :4].T)
    np.testing.assert_array_equal(boxes[mine], published[theirs, :4])
    np.testing.assert_allclose(score[mine], published[theirs, 4], atol=1e-5, rtol=0)


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


def through_centres(found):
    """The published oriented boxes run through pixel centres: the same rectangles of other points."""
    pixels = np.stack(np.nonzero(found.paint())[::-1], axis=1)
    label = found.paint()[pixels[:, 1], pixels[:, 0]] - 1
    points = Hulls(points=pixels, begin=np.arange(len(pixels) + 1))
    merged = merge_hulls([points], label, found.n)
    # Points have no width as pixels have: where the hull ends in one, it was named from the left and from the right.
    ends = [
        [p for p, q in zip(hull, np.roll(hull, 1, axis=0), strict=True) if (p != q).any()]
        for hull in np.split(merged.points, merged.begin[1:-1])
    ]
    begin = np.cumsum([0, *map(len, ends)])
    return smallest_rectangles(Hulls(points=np.concatenate(ends), begin=begin))


def areas_and_perimeters(corners):
    after = np.roll(corners, -1, axis=1)
    area = (corners[..., 0] * after[..., 1] - corners[..., 1] * after[..., 0]).sum(axis=1) / 2
    return np.abs(area), np.linalg.norm(corners - after, axis=2).sum(axis=1)


def test_oriented_boxes(variant):
    case, contour, suffix = variant
    pieces = found(case, contour)
    published = np.array(case["obb_all" + suffix])[:, :8].reshape(-1, 4, 2)
    assert len(published) == pieces.n
    pieces = pieces.take(
        pieces.table.count > 1
    )  # a single pixel has no rectangle through its centre
    corners = through_centres(pieces)
    area, perimeter = areas_and_perimeters(corners)
    published_area, _ = areas_and_perimeters(published)
    for centre, size, around in zip(corners.mean(axis=1), area, perimeter, strict=True):
        near = np.abs(published.mean(axis=1) - centre).max(axis=1) <= 1
        assert (np.abs(published_area[near] - size) <= 0.4 * around).any()


def test_oriented_boxes_that_enclose_the_pixels(variant):
    case, contour, _ = variant
    pieces = found(case, contour)
    image = pieces.paint()
    for index, corners in enumerate(smallest_rectangles(hulls(pieces)), start=1):
        pixels = zip(*np.nonzero(image == index), strict=True)
        reference.check_rectangle(corners, reference.corner_points(pixels))


def test_oriented_boxes_outside_of_all_others(variant):
    case, contour, suffix = variant
    pieces = found(case, contour)
    prob, given = options(case, contour)
    objects = detect(prob, oriented=True, suppress="published", **given)
    assert objects.dropped.overlapping == 0
    published = np.array(case["obb_outermost" + suffix])
    assert len(objects) == len(published)
    # Each object kept here is kept there: told by its confidence, the same to 1e-5.
    np.testing.assert_allclose(np.sort(objects.score), np.sort(published[:, 8]), atol=1e-5, rtol=0)
    assert len(np.unique(pieces.table.score.round(6))) == pieces.n


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["case"]))
def test_grounding_and_class_scores(case):
    prob, given = options(case, contour=False)
    assert list(ground(prob, **given).box) == case["grounding"]
    whole = [tally(prob)]
    several = label_scores(whole, balance=MULTI_LABEL_BALANCE)
    single = label_scores(whole, balance=SINGLE_LABEL_BALANCE)
    np.testing.assert_allclose(several, [[case["multi_label_score"]]], atol=1e-5, rtol=0)
    np.testing.assert_allclose(single, [[case["multi_class_score"]]], atol=1e-5, rtol=0)
