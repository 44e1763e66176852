"""The best of all one-to-one choices, and the shift that most objects agree on."""

from itertools import permutations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from remotesam_geo.tracking.assignment import assign, candidates, estimate_shift, moved


def best_total(gains):
    """The most that one-to-one choices can sum to, by trying all of them (n x m)."""
    n, m = gains.shape
    if n > m:
        gains, n, m = gains.T, m, n
    return max(sum(gains[row, col] for row, col in enumerate(cols)) for cols in permutations(range(m), n))


@settings(deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 6),
    st.data(),
)
def test_no_other_choice_of_pairs_sums_to_more(n, m, data):
    gains = np.array(
        data.draw(st.lists(st.sampled_from([0, 0, 0.1, 0.25, 0.5, 0.6, 1]), min_size=n * m, max_size=n * m))
    ).reshape(n, m)
    old, new = np.nonzero(gains)
    chosen = assign(old, new, gains[old, new])
    assert len(set(old[chosen])) == len(chosen) == len(set(new[chosen]))
    assert gains[old[chosen], new[chosen]].sum() == pytest.approx(best_total(gains))


def test_nothing_to_choose():
    assert not len(assign(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)))


def test_many_neighbourhoods_are_chosen_apart():
    """Ten thousand places of three objects each: no table of all with all is made."""
    place = np.arange(10_000)[:, None] * 3
    old = (place + np.array([0, 0, 1, 2])).ravel()
    new = (place + np.array([0, 1, 1, 2])).ravel()
    score = np.tile([0.5, 0.9, 0.6, 0.3], 10_000)
    chosen = assign(old, new, score)
    # 0.5 + 0.6 is more than 0.9
    np.testing.assert_array_equal(chosen, np.flatnonzero(np.tile([1, 0, 1, 1], 10_000)))


def pairs(old, new, tolerance=2.0, labels=None):
    old, new = np.array(old, object), np.array(new, object)
    label = np.zeros(len(old), np.int64) if labels is None else np.array(labels[0])
    other = np.zeros(len(new), np.int64) if labels is None else np.array(labels[1])
    return candidates(old, new, label, other, np.full(len(old), tolerance))


def test_overlap_counts_where_it_is_enough():
    found = pairs([shapely.box(0, 0, 30, 30)], [shapely.box(0, 0, 30, 20), shapely.box(0, 0, 30, 5)])
    assert found.new.tolist() == [0]
    assert found.score.tolist() == [pytest.approx(2 / 3)]


def test_small_and_thin_objects_are_matched_by_distance():
    car, road = shapely.box(0, 0, 2, 2), shapely.box(100, 0, 102, 90)
    found = pairs([car, road], [shapely.box(1.9, 0, 3.9, 2), shapely.box(102, 0, 104, 90)], 2.0)
    assert list(zip(found.old, found.new, strict=True)) == [(0, 0), (1, 1)]
    assert found.score.tolist() == pytest.approx([1 - 1.9 / 4, 0.5])
    far = pairs([car], [shapely.box(2.1, 0, 4.1, 2)], 2.0)
    assert not len(far.old)


def test_labels_never_mix():
    box = shapely.box(0, 0, 10, 10)
    found = pairs([box, box], [box, box], labels=([0, 1], [1, 2]))
    assert list(zip(found.old, found.new, strict=True)) == [(1, 0)]


def test_the_shift_is_what_most_agree_on():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 500, (60, 2))
    old = shapely.box(*corner.T, *(corner + rng.uniform(4, 12, (60, 2))).T)
    new = moved(old, np.array([3.0, -2.0]) + rng.normal(0, 0.1, (60, 2)))
    new[:20] = moved(old[:20], rng.uniform(-6, 6, (20, 2)))  # a third of them drive about
    label = np.zeros(60, np.int64)

    def shift(some, others):
        return estimate_shift(
            some,
            others,
            label[: len(some)],
            label[: len(others)],
            reach=np.full(len(some), 8.0),
            agree=1.0,
        )

    np.testing.assert_allclose(shift(old, new), [3, -2], atol=0.1)
    assert shift(old[:2], new[40:42]).tolist() == [0, 0]  # nothing near
    assert shift(old[:2], moved(old[:2], np.array([1.0, 1.0]))).tolist() == [
        0,
        0,
    ]  # too few to tell
    np.testing.assert_array_equal(shift(old, old), [0, 0])
