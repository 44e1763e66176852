"""Scores of regions, semantic maps and masks, against sums and maxima of plain numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotesam_geo.tasks import (
    NO_LABEL,
    NOT_ANSWERED,
    best_label,
    decode,
    label_scores,
    positive_labels,
    refer,
    semantic,
    tally,
)
from tests.tasks.strategies import maps, shapes, thresholds


def plain(prob):
    return decode(prob) if prob.dtype == np.uint8 else prob.astype(np.float64)


@given(maps(), st.integers(1, 3), st.sampled_from([0.0, 0.5, 1.0]))
def test_zones_are_tallied_as_plain_numbers(prob, n, balance):
    zones = np.random.default_rng(n).integers(0, n + 1, prob.shape)
    counted = tally(prob, zones, n)
    (scores,) = label_scores([counted], balance=balance)
    for zone in range(n):
        raw = prob[zones == zone + 1]
        known = plain(raw)
        known = known[~np.isnan(known)].astype(np.float64)
        assert counted.count[zone] == known.size
        if prob.dtype == np.uint8:
            assert counted.failed[zone] == (raw == 254).sum()
            assert counted.no_data[zone] == (raw == 255).sum()
        assert counted.count[zone] + counted.failed[zone] + counted.no_data[zone] == raw.size
        if known.size:
            expected = balance * known.max() + (1 - balance) * known.mean()
            assert scores[zone] == pytest.approx(expected, abs=1e-6)
        else:
            assert np.isnan(scores[zone])


def test_a_map_without_zones_is_one():
    prob = np.array([[200, 0, 255], [100, 254, 255]], np.uint8)
    counted = tally(prob)
    assert (counted.count[0], counted.failed[0], counted.no_data[0]) == (3, 1, 2)
    assert label_scores([counted], balance=0)[0, 0] == pytest.approx((0.9975 + 0.4975) / 3)
    assert len(tally(prob, np.zeros((2, 3), int))) == 0


def test_labels_as_published():
    scores = np.array([[0.5, 0.51, np.nan], [0.49, 0.7, 0.9]])
    assert positive_labels(scores).tolist() == [[False, True, False], [False, True, True]]
    assert best_label(scores).tolist() == [0, 1, NOT_ANSWERED]
    assert best_label(scores, threshold=0.6).tolist() == [NO_LABEL, 1, NOT_ANSWERED]


@st.composite
def classes(draw):
    shape = draw(shapes)
    first = draw(maps(st.just(shape)))
    same = maps(st.just(shape)).filter(lambda other: other.dtype == first.dtype)
    others = draw(st.lists(same, max_size=3))
    limits = draw(st.lists(thresholds, min_size=len(others) + 1, max_size=len(others) + 1))
    return [first, *others], limits


@given(classes())
def test_a_pixel_has_the_most_probable_class_above_its_threshold(drawn):
    given_maps, limits = drawn
    result = semantic(given_maps, threshold=limits)
    masks = [refer(prob, threshold=t) for prob, t in zip(given_maps, limits, strict=True)]
    values = np.stack([plain(prob) for prob in given_maps])
    for at in np.ndindex(result.shape):
        probs = values[(slice(None), *at)]
        if np.isnan(probs).any():
            assert result[at] == NOT_ANSWERED
            continue
        candidates = [i for i, mask in enumerate(masks) if mask[at]]
        best = max(candidates, key=lambda i: (probs[i], -i), default=-1)
        assert result[at] == best + 1
