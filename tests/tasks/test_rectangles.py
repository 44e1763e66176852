"""Oriented rectangles: every pixel inside, and none smaller at any angle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotesam_geo.tasks import Hulls, components, detect, hulls, merge_hulls, smallest_rectangles
from tests.tasks import reference
from tests.tasks.strategies import masks


@given(masks(shape=st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_rectangles_enclose_their_pixels_and_none_is_smaller(prob):
    objects = detect(prob, oriented=True, suppress="none")
    pixels = reference.flood(prob > 0.5)
    for corners, component in zip(objects.corners, pixels, strict=True):
        reference.check_rectangle(corners, reference.corner_points(component))


def turned(length, width, angle, size=200):
    y, x = np.mgrid[:size, :size] + 0.5 - size / 2
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    inside = (abs(x * c + y * s) <= length / 2) & (abs(y * c - x * s) <= width / 2)
    return inside.astype(np.float32)


@pytest.mark.parametrize("angle", [0, 7, 30, 45, 60, 89.5])
def test_a_turned_bar_is_measured(angle):
    (corners,) = detect(turned(150, 24, angle), oriented=True).corners
    reference.check_rectangle(corners, reference.corner_points(zip(*np.nonzero(turned(150, 24, angle)), strict=True)))
    along, down = reference.sides(corners)
    long, short = sorted([np.linalg.norm(along), np.linalg.norm(down)], reverse=True)
    assert abs(long - 150) < 3
    assert abs(short - 24) < 3
    direction = along if np.linalg.norm(along) == long else down
    measured = np.rad2deg(np.arctan2(direction[1], direction[0])) % 180
    assert abs((measured - angle + 90) % 180 - 90) < 1


def test_a_single_pixel_is_its_own_rectangle():
    prob = np.zeros((3, 4), np.float32)
    prob[1, 2] = 1
    assert detect(prob, oriented=True, suppress="none").corners.tolist() == [[[2, 1], [3, 1], [3, 2], [2, 2]]]


def test_of_equally_small_rectangles_the_upright_one_is_taken():
    """Two pixels in a corner: upright and at 45 degrees the area is 4."""
    assert smallest_rectangles(hulls(components(np.eye(2, dtype=np.float32)))).tolist() == [
        [[0, 0], [2, 0], [2, 2], [0, 2]]
    ]
    other = components(np.eye(2, dtype=np.float32)[::-1])
    assert smallest_rectangles(hulls(other)).tolist() == [[[0, 0], [2, 0], [2, 2], [0, 2]]]


@given(masks(shape=st.tuples(st.integers(1, 30), st.integers(1, 30))))
def test_hulls_are_convex_and_hold_all_pixels(prob):
    around = hulls(components(prob))
    for index, pixels in enumerate(reference.flood(prob > 0.5)):
        hull = around.points[around.begin[index] : around.begin[index + 1]]
        corners = reference.corner_points(pixels)
        assert {tuple(p) for p in hull.tolist()} <= {tuple(p) for p in corners.tolist()}
        for a, b, c in zip(hull, np.roll(hull, -1, 0), np.roll(hull, -2, 0), strict=True):
            assert reference.turn(b - a, c - b) > 0  # strictly convex, clockwise on the screen
            assert (reference.turn(b - a, corners - a) >= 0).all()  # and nothing outside of any side


def test_a_long_curve_is_no_trouble():
    """An arc with a spike sheds its corners one after the other, the worst case of the hull."""
    size = 3000
    y = np.arange(size)
    x = ((y - size / 2) ** 2 / (size / 4)).astype(int).clip(0, size - 1)
    prob = (np.arange(size) >= x[:, None]).astype(np.float32)
    prob[0] = 1
    points = hulls(components(prob)).points
    assert (0, 0) in {tuple(p) for p in points.tolist()}
    assert len(points) < 400


def test_hulls_can_be_chosen():
    around = hulls(components(np.array([[1, 0, 1], [1, 0, 0]], np.float32)))
    second = around.take(np.array([False, True]))
    assert second.points.tolist() == [[3, 0], [3, 1], [2, 1], [2, 0]]
    assert second.begin.tolist() == [0, 4]


def test_many_corners_are_worked_in_parts(monkeypatch):
    prob = np.random.default_rng(3).random((60, 60)).astype(np.float32)
    around = hulls(components(prob, threshold=0.7))
    whole = smallest_rectangles(around)
    monkeypatch.setattr("remotesam_geo.tasks.rectangles._PRODUCTS", 50)
    np.testing.assert_array_equal(smallest_rectangles(around), whole)


def test_no_hulls():
    empty = hulls(components(np.zeros((3, 3), np.uint8)))
    assert len(empty) == 0
    assert smallest_rectangles(empty).shape == (0, 4, 2)
    assert len(merge_hulls([empty], np.zeros(0, np.int64), 0)) == 0
    assert isinstance(empty.take(np.zeros(0, bool)), Hulls)
