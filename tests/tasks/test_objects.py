"""Detection, counting, grounding; what is dropped, and that it is counted."""

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from remotesam_geo.errors import InputError
from remotesam_geo.tasks import (
    Dropped,
    components,
    count_objects,
    detect,
    drawn_rectangles,
    encode,
    ground,
    hulls,
    inner_boxes,
    inner_drawings,
    overlapping_boxes,
    select,
    upright,
)
from tests.tasks import reference
from tests.tasks.strategies import masks

scores = st.sampled_from([0.3, 0.5, 0.5, 0.7, 0.9])


@st.composite
def boxes(draw):
    """Boxes among which nesting, equality and much overlap are common."""
    place, size = st.integers(0, 6), st.integers(1, 6)
    drawn = draw(st.lists(st.tuples(place, place, size, size, scores), max_size=12))
    found = [(x, y, x + w, y + h) for x, y, w, h, _ in drawn]
    return np.array(found, np.int64).reshape(-1, 4), np.array([s for *_, s in drawn], float)


@st.composite
def rectangles(draw):
    """Turned rectangles round upright boxes, and their scores."""
    box, score = draw(boxes())
    middle = (box[:, :2] + box[:, 2:]) / 2
    angles = draw(st.lists(st.floats(0, 90), min_size=len(box), max_size=len(box)))
    turned = [
        (corners - centre) @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) + centre
        for corners, centre, a in zip(upright(box), middle, np.deg2rad(angles), strict=True)
    ]
    return np.array(turned).reshape(-1, 4, 2), score


@given(boxes())
def test_inner_boxes_are_those_inside_another(drawn):
    box, score = drawn
    assert inner_boxes(upright(box), score).tolist() == reference.inner(box.tolist(), score)


@given(boxes(), st.sampled_from([0.1, 0.5, 0.75]))
def test_non_maximum_suppression_is_greedy(drawn, iou):
    box, score = drawn
    dropped = overlapping_boxes(upright(box), score, iou=iou)
    assert dropped.tolist() == reference.suppressed(box.tolist(), score.tolist(), iou)


def quadrilaterals(random):
    """Boxes as the published rule draws them: nested, equal, thin, without area, and partly outside the picture."""
    count = random.integers(2, 9)
    middle = random.uniform(-4, 44, (count, 1, 2)) * random.choice([0.4, 1])
    half = random.uniform(0, 1, (count, 2)) ** 2 * random.choice([4, 14, 30])
    angle = np.where(random.random(count) < 0.3, 0, random.uniform(0, np.pi / 2, count))
    if random.random() < 0.5:  # many around one place, at nearly one angle: borders nearly meet
        middle[:] = middle[0] + random.uniform(-1.5, 1.5, middle.shape)
        angle[:] = angle[0] + random.choice([0, 0.02]) * random.random(count)
        half[:] = half[0] + random.uniform(0, 2, half.shape)
    along = np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, None]
    across = along[..., ::-1] * [-1, 1]
    sides = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    place = sides * half[:, None]
    corners = middle + place[..., :1] * along + place[..., 1:] * across
    return corners.astype(np.int64), random.choice([0.3, 0.5, 0.7], count)


def test_drawn_boxes_inside_another():
    """The same as drawing every box on a whole canvas, for thousands of sets of boxes."""
    random = np.random.default_rng(11)
    for _ in range(3000):
        corners, score = quadrilaterals(random)
        expected = reference.inner_drawn(corners, score, (36, 41))
        assert inner_drawings(corners, score, (36, 41)).tolist() == expected, corners.tolist()


@given(masks())
def test_published_oriented_boxes_of_any_components(prob):
    found = components(prob)
    boxes = drawn_rectangles(hulls(found))
    for mine, published in zip(boxes, reference.oriented_boxes(found.paint(), found.n), strict=True):
        if not (mine == published).all():  # of equal size, and the outline passes a pixel twice
            areas = [np.prod(cv2.minAreaRect(box.astype(np.int32))[1]) for box in (mine, published)]
            assert abs(areas[0] - areas[1]) <= 4


@given(masks())
def test_published_suppression_of_oriented_boxes(prob):
    every = components(prob)
    boxes = reference.oriented_boxes(every.paint(), every.n)
    inner = np.array(reference.inner_drawn(boxes, every.table.score, prob.shape), bool)
    objects = detect(prob, oriented=True)
    assert objects.dropped.inner == inner.sum()
    dropped = {tuple(first) for first in every.table.first[inner].tolist()}
    assert dropped.isdisjoint(map(tuple, objects.found.table.first.tolist()))


def test_pixels_in_one_line_have_an_oriented_box_without_area():
    prob = np.zeros((12, 12), np.float32)
    prob[1, 1:4] = prob[3:5, 8] = prob[9, 9] = 0.9
    prob[[5, 6, 7], [1, 2, 3]] = 0.9
    assert len(detect(prob, oriented=True, suppress="none")) == 4
    assert len(detect(prob, oriented=True)) == 0
    with pytest.raises(InputError, match="give shape="):
        select(components(prob).table, np.zeros((4, 4, 2)), around=hulls(components(prob)))


@given(rectangles())
def test_turned_rectangles_that_overlap(drawn):
    corners, score = drawn
    shape = shapely.polygons(corners)
    ious = np.array([[a.intersection(b).area / a.union(b).area for b in shape] for a in shape])
    ious = ious.reshape(len(shape), len(shape))
    if (np.abs(ious - 0.5) < 1e-6).any():
        return  # rounding decides
    left, keep = list(np.argsort(-score, kind="stable")), []
    while left:
        keep.append(left.pop(0))
        left = [other for other in left if ious[keep[-1], other] <= 0.5]
    assert np.flatnonzero(~overlapping_boxes(corners, score)).tolist() == sorted(keep)


@given(masks())
def test_enclosed_objects_are_those_in_filled_holes(prob):
    pixels = reference.flood(prob > 0.5)
    solid = [reference.filled(p, prob.shape) for p in pixels]
    kept = [i for i, p in enumerate(pixels) if not any(p <= s for j, s in enumerate(solid) if j != i)]
    objects = detect(prob, suppress="enclosed")
    assert objects.boxes.tolist() == [list(reference.box(pixels[i])) for i in kept]
    assert objects.dropped == Dropped(enclosed=len(pixels) - len(kept))


def test_only_a_kept_object_encloses():
    """A faint ring that is dropped itself does not take what lies in it with it."""
    prob = np.zeros((9, 9), np.float32)
    prob[0, :] = prob[-1, :] = prob[:, 0] = prob[:, -1] = 0.6
    prob[2:7, 2:7], prob[3:6, 3:6], prob[4, 4] = 0.6, 0, 0.9
    every = detect(prob, suppress="enclosed")
    assert every.boxes.tolist() == [[0, 0, 9, 9]]
    assert every.dropped == Dropped(enclosed=2)
    sure = detect(prob, suppress="enclosed", min_score=0.8)
    assert sure.boxes.tolist() == [[4, 4, 5, 5]]
    assert sure.dropped == Dropped(low_score=2)
    prob[0, :] = prob[-1, :] = prob[:, 0] = prob[:, -1] = 0.9
    outer = detect(prob, suppress="enclosed", min_score=0.8)  # over the dropped one in between
    assert outer.boxes.tolist() == [[0, 0, 9, 9]]
    assert outer.dropped == Dropped(low_score=1, enclosed=1)
    large = detect(prob, suppress="enclosed", min_area=10)
    assert large.boxes.tolist() == [[0, 0, 9, 9]]
    assert large.dropped == Dropped(small=1, enclosed=1)


@given(masks(), st.sampled_from([1, 2, 4]), st.sampled_from([0.01, 0.7, 0.8]))
def test_published_detection_end_to_end(prob, min_area, min_score):
    objects = detect(prob, min_area=min_area, min_score=min_score)
    pixels = reference.flood(prob > 0.5)
    mean = [np.mean([float(prob[at]) for at in p]) for p in pixels]
    sure = [i for i in range(len(pixels)) if mean[i] >= min_score]
    chosen = [i for i in sure if len(pixels[i]) >= min_area]
    box, score = [reference.box(pixels[i]) for i in chosen], [mean[i] for i in chosen]
    inner = reference.inner(box, score)
    outer = [i for i, inside in enumerate(inner) if not inside]
    weaker = reference.suppressed([box[i] for i in outer], [score[i] for i in outer], 0.5)
    kept = [i for i, drop in zip(outer, weaker, strict=True) if not drop]
    assert objects.boxes.tolist() == [list(box[i]) for i in kept]
    assert objects.dropped == Dropped(
        low_score=len(pixels) - len(sure),
        small=len(sure) - len(chosen),
        inner=sum(inner),
        overlapping=sum(weaker),
    )
    assert count_objects(prob, min_area=min_area, min_score=min_score) == len(kept)


def test_suppression_that_drops_both_ways():
    """Two L-shapes that share most of their box, and a small object inside one: one box stays."""
    prob = np.zeros((12, 12), np.float32)
    prob[0, :10] = prob[:10, 0] = 0.9
    prob[11, 2:12] = prob[2:12, 11] = 0.8
    prob[4, 4] = 1.0
    objects = detect(prob)
    assert len(objects) == 2
    assert objects.dropped.inner == 1
    prob[10, 1:11] = prob[1:11, 10] = prob[11, 2:12] = prob[2:12, 11] = 0
    prob[10, 2:11] = prob[2:11, 10] = 0.8
    objects = detect(prob)  # boxes 0..10 and 2..11: 64 / 117 of the union
    assert objects.boxes.tolist() == [[0, 0, 10, 10]]
    assert objects.dropped == Dropped(inner=1, overlapping=1)


def test_the_mean_decides_at_the_floor():
    prob = np.zeros((1, 5), np.float32)
    prob[0, 0], prob[0, 2] = 0.25, 0.125
    options = {"threshold": 0.1, "suppress": "none"}
    assert detect(prob, min_score=0.25, **options).boxes.tolist() == [[0, 0, 1, 1]]
    codes = encode(np.full((1, 1), 0.009))
    assert len(detect(codes, threshold=0.0)) == 0  # read as 0.0075, under 0.01
    assert len(detect(codes, threshold=0.0, min_score=0.0)) == 1


@pytest.mark.parametrize("suppress", ["none", "enclosed"])
@pytest.mark.parametrize("oriented", [False, True])
def test_a_long_component_swallows_nothing(suppress, oriented):
    """2,000 objects beside a road that winds through the whole raster: all are found."""
    side = 900
    prob = np.zeros((side, side), np.uint8)
    prob[::20] = 150
    for turn, row in enumerate(range(0, side - 20, 20)):
        prob[row : row + 20, 0 if turn % 2 else -1] = 150
    assert components(prob).n == 1
    at = np.arange(2000)
    y, x = 5 + 20 * (at // 50), 10 + 17 * (at % 50)
    for dy, dx in np.ndindex(6, 8):
        prob[y + dy, x + dx] = 180
    objects = detect(prob, suppress=suppress, oriented=oriented)
    assert len(objects) == 2001
    assert (objects.found.table.count == 48).sum() == 2000
    assert objects.dropped == Dropped()
    if not oriented:  # and that is why the published rule is no good for scenes
        assert len(detect(prob, suppress="published")) == 1


def test_boxes_of_bytes_and_of_what_they_stand_for_agree():
    rng = np.random.default_rng(5)
    prob = rng.random((50, 60)).astype(np.float32)
    for threshold in (0.3, 0.5, 0.7):
        one = detect(encode(prob), threshold=threshold, suppress="none")
        other = detect(prob, threshold=threshold, suppress="none")
        assert one.boxes.tolist() == other.boxes.tolist()
        np.testing.assert_allclose(one.score, other.score, atol=0.0026)


def test_ground_is_one_box_round_all():
    prob = np.zeros((10, 12), np.float32)
    prob[2:4, 3:5], prob[7, 9] = 0.6, 0.9
    box = ground(prob)
    assert box.box == (3, 2, 10, 8)
    assert box.score == pytest.approx((4 * 0.6 + 0.9) / 5)
    assert box.score_max == pytest.approx(0.9)
    assert ground(prob, min_area=2).box == (3, 2, 5, 4)
    assert ground(prob, threshold=0.95) is None


def test_counting_parts_objects_earlier_than_detection():
    prob = np.ones((1, 7), np.float32)
    contour = np.zeros_like(prob)
    contour[0, 3] = 0.2
    assert count_objects(prob, contour=contour) == 2
    assert len(detect(prob, contour=contour)) == 1


def test_select_on_united_tables_needs_the_enclosers():
    table = components(np.ones((2, 2), np.float32)).table
    keep, _ = select(table, upright(table.box), suppress="enclosed", enclosed_by=np.array([-1]))
    assert keep.tolist() == [True]


def test_an_empty_map_has_no_objects():
    objects = detect(np.zeros((4, 5), np.uint8), oriented=True)
    assert len(objects) == 0
    assert objects.corners.shape == (0, 4, 2)
    assert objects.boxes.shape == (0, 4)
    assert objects.centres.shape == (0, 2)
    assert objects.score_max.shape == (0,)
