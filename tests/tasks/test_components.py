"""Components, their labels, edges and background against a flood fill, pixel by pixel."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotesam_geo.tasks import background, components, enclosing_components, refine
from tests.tasks import reference
from tests.tasks.strategies import maps, maps_and_contours, masks, thresholds


def value(pixel):
    """A pixel's probability as the contract defines it, without rounding."""
    if isinstance(pixel, np.uint8):
        return Fraction(2 * int(pixel) - 1, 400) if pixel else Fraction(0)
    return Fraction(float(pixel))


def above(prob, threshold):
    """Which pixels exceed the threshold, in exact arithmetic."""
    limit = Fraction(round(threshold * 200), 200)
    codes = prob.dtype == np.uint8
    return np.array([[not (codes and pixel > 200) and value(pixel) > limit for pixel in row] for row in prob]).reshape(
        prob.shape
    )


def pixels_of(found):
    image = found.paint()
    return [set(zip(*np.nonzero(image == i + 1), strict=True)) for i in range(found.n)]


@given(maps(), thresholds)
def test_components_are_those_of_a_flood_fill(prob, threshold):
    found = components(prob, threshold=threshold)
    expected = reference.flood(above(prob, threshold))
    assert pixels_of(found) == expected
    table = found.table
    assert table.count.tolist() == [len(pixels) for pixels in expected]
    assert [tuple(row) for row in table.box.tolist()] == [reference.box(p) for p in expected]
    assert [tuple(row) for row in table.first.tolist()] == [min(p) for p in expected]
    values = [[value(prob[at]) for at in pixels] for pixels in expected]
    if threshold > 0 or prob.dtype != np.float32:
        assert [Fraction(int(t), table.scale) for t in table.total] == [sum(v) for v in values]
    assert table.score == pytest.approx([float(sum(v) / len(v)) for v in values], abs=1e-9)
    assert table.score_max == pytest.approx([float(max(v)) for v in values], abs=1e-9)


@given(maps())
def test_edges_are_those_of_the_label_image(prob):
    found = components(prob)
    image = found.paint()
    assert found.edge("top").tolist() == (image[0] - 1).tolist()
    assert found.edge("bottom").tolist() == (image[-1] - 1).tolist()
    assert found.edge("left").tolist() == (image[:, 0] - 1).tolist()
    assert found.edge("right").tolist() == (image[:, -1] - 1).tolist()
    rim = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    assert found.rim().tolist() == sorted(set(rim[rim > 0] - 1))


@given(maps(), st.data())
def test_some_components_are_painted_anew(prob, data):
    found = components(prob)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=found.n, max_size=found.n)), bool)
    taken = found.take(keep)
    assert pixels_of(taken) == [p for p, kept in zip(pixels_of(found), keep, strict=True) if kept]
    assert taken.table.count.tolist() == found.table.count[keep].tolist()
    painted = found.paint(np.where(keep, 250, 0), dtype=np.uint8)
    assert painted.dtype == np.uint8
    assert (painted == np.where(taken.paint() > 0, 250, 0)).all()


@given(masks())
def test_the_background_is_labelled_along_sides(prob):
    found = components(prob)
    between = background(found)
    expected = reference.flood(prob <= 0.5, reference.FOUR)
    assert pixels_of(between) == expected
    image, back = found.paint(), between.paint()
    beside = {
        (int(max(a, b)) - 1, int(max(c, d)) - 1)
        for a, b, c, d in zip(
            *(part.ravel() for part in (image[:, 1:], image[:, :-1], back[:, 1:], back[:, :-1])),
            strict=True,
        )
        if (a > 0) != (b > 0)
    }
    assert {tuple(pair) for pair in between.beside.tolist()} == beside


@given(masks())
def test_what_lies_in_a_hole_is_enclosed(prob):
    found = components(prob)
    objects = reference.flood(prob > 0.5)
    solid = [reference.filled(pixels, prob.shape) for pixels in objects]
    for index, around in enumerate(enclosing_components(found)):
        outer = [j for j in range(found.n) if j != index and objects[index] <= solid[j]]
        # The nearest of those around is the one with the least inside of it.
        nearest = min(outer, key=lambda j: len(solid[j]), default=-1)
        assert around == nearest


def test_nests_are_found_at_every_depth():
    prob = np.zeros((25, 25), np.float32)
    for ring in range(0, 12, 2):
        prob[ring : 25 - ring, ring : 25 - ring] = 1
        prob[ring + 1 : 24 - ring, ring + 1 : 24 - ring] = 0
    prob[12, 12] = 1
    assert enclosing_components(components(prob)).tolist() == [-1, 0, 1, 2, 3, 4, 5]


@given(maps_and_contours(), thresholds, st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_contours_part_objects_as_published(both, contour_threshold, share):
    prob, contour = both
    pieces = refine(prob, contour, contour_threshold=contour_threshold, share=share)
    expected = reference.pieces(above(prob, 0.5), above(contour, contour_threshold), share)
    assert pixels_of(pieces) == expected
    assert pieces.table.count.tolist() == [len(piece) for piece in expected]


def test_a_component_eaten_by_its_contour_is_gone():
    prob = np.zeros((3, 9), np.float32)
    prob[1, :3], prob[1, 5:] = 0.9, 0.8
    contour = np.zeros_like(prob)
    contour[1, :3] = 1
    assert refine(prob, contour).table.box.tolist() == [[5, 1, 9, 2]]


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_an_empty_picture_has_no_components(shape):
    found = components(np.zeros(shape, np.uint8))
    assert found.n == 0
    assert found.paint().shape == shape
    assert enclosing_components(found).size == 0


def test_strips_of_rows_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    prob = rng.integers(0, 201, (40, 30), np.uint8)
    contour = rng.integers(0, 201, (40, 30), np.uint8)
    whole = refine(prob, contour, contour_threshold=0.9)
    monkeypatch.setattr("remotesam_geo.tasks.codes.STRIP_PIXELS", 70)
    again = refine(prob, contour, contour_threshold=0.9)
    assert (whole.paint() == again.paint()).all()
    assert (whole.table.total == again.table.total).all()
