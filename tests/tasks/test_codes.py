"""The byte, and every map that is none."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotesam_geo.errors import InputError
from remotesam_geo.tasks import (
    Tally,
    add_tallies,
    best_label,
    components,
    count_objects,
    decode,
    detect,
    encode,
    ground,
    hulls,
    label_scores,
    large_pieces,
    merge,
    merge_hulls,
    positive_labels,
    refer,
    refine,
    select,
    semantic,
    tally,
    touching,
    upright,
)
from remotesam_geo.words import threshold_steps

GOOD = np.array([[0, 150, 254], [255, 90, 200]], np.uint8)
FLOATS = np.array([[0.0, 0.7, 0.2], [1.0, 0.4, 0.6]], np.float32)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@given(st.floats(0, 1, width=16), st.integers(0, 200))
def test_a_threshold_cuts_the_byte_as_it_cuts_the_probability(dtype, p, steps):
    near = np.array([steps / 200], dtype)  # and where it is hardest: next to the threshold
    values = np.array([p, near[0], np.nextafter(near, dtype(0))[0], np.nextafter(near, dtype(1))[0]])
    values = values.astype(dtype)
    codes = encode(values)
    expected = [Fraction(float(value)) > Fraction(steps, 200) for value in values]
    assert (codes > steps).tolist() == expected
    assert refer(codes[None], threshold=steps / 200)[0].tolist() == expected
    assert refer(values[None], threshold=steps / 200)[0].tolist() == expected
    again = decode(codes)
    assert (encode(again) == codes).all()
    assert (again > steps / 200).tolist() == expected
    assert np.abs(again - values).max() <= 0.005


def test_what_was_not_answered_is_told_apart():
    codes = encode(np.array([np.nan, np.nan, 0.5]), failed=np.array([False, True, True]))
    assert codes.tolist() == [255, 254, 254]
    assert np.isnan(decode(codes)).all()


def test_a_threshold_is_a_whole_number_of_steps():
    assert [threshold_steps(k / 200) for k in range(201)] == list(range(201))
    assert threshold_steps(np.float32(0.35)) == 70
    assert threshold_steps(0.1 + 0.2) == 60


def test_float64_is_rounded_first():
    assert encode(np.array([0.5 + 1e-12, 0.7])).tolist() == [100, 140]


def spoilt(value, dtype=np.float32):
    bad = FLOATS.astype(dtype)
    bad[1, 1] = value
    return bad


def code(value):
    bad = GOOD.copy()
    bad[1, 1] = value
    return bad


BAD_MAPS = [
    (spoilt(np.nan), "NaN.*encode"),
    (spoilt(np.nan, np.float16), "NaN.*encode"),
    (spoilt(-0.25), "-0.25: probabilities lie in 0..1"),
    (spoilt(1.5), "1.5: probabilities lie in 0..1"),
    (spoilt(np.inf), "inf: probabilities lie in 0..1"),
    (code(201), "code 201.*254 means failed"),
    (code(253), "code 253.*encode"),
    (FLOATS[0], r"shape \(3,\).*two axes"),
    (FLOATS[None], r"shape \(1, 2, 3\).*one by one"),
    (FLOATS.astype(np.float64), "float64.*float32"),
    (FLOATS > 0.5, "bool.*astype"),
    (FLOATS.tolist(), "list"),
    (np.ma.masked_array(FLOATS, FLOATS > 0.5), "MaskedArray.*encode"),
]

ENTRANCES = [components, detect, count_objects, ground, refer, tally, lambda prob: semantic([prob])]


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize(("prob", "message"), BAD_MAPS)
def test_a_bad_map_is_refused_everywhere(entrance, prob, message):
    with pytest.raises(InputError, match=message):
        entrance(prob)


@pytest.mark.parametrize(("contour", "message"), BAD_MAPS)
def test_a_bad_contour_is_refused(contour, message):
    for use in (refine, lambda prob, contour: detect(prob, contour=contour)):
        with pytest.raises(InputError, match=message):
            use(FLOATS, contour)


@pytest.mark.parametrize("threshold", [-0.005, 1.005, np.nan, "0.5", None, True, [0.5]])
@pytest.mark.parametrize(
    "use",
    [
        lambda t: detect(FLOATS, threshold=t),
        lambda t: detect(FLOATS, contour=FLOATS, contour_threshold=t),
        lambda t: refer(FLOATS, threshold=t),
        lambda t: ground(GOOD, threshold=t),
        lambda t: semantic([FLOATS, FLOATS], threshold=[0.5, t]),
        threshold_steps,
    ],
)
def test_a_bad_threshold_is_refused(use, threshold):
    with pytest.raises(InputError, match=r"threshold is .*: give a number from 0 to 1"):
        use(threshold)


one = tally(GOOD)
table = components(FLOATS).table

MISTAKES = [
    (lambda: refine(FLOATS, FLOATS[:1]), r"contour.*\(1, 3\).*\(2, 3\)"),
    (
        lambda: detect(FLOATS, suppress="all"),
        "suppress='all' is not allowed.*'published', 'enclosed' or 'none'",
    ),
    (lambda: detect(FLOATS, min_score=2), "min_score=2"),
    (lambda: detect(FLOATS, min_area=-1), "min_area=-1"),
    (lambda: refine(FLOATS, FLOATS, share=-0.1), "share=-0.1"),
    (lambda: large_pieces(np.ones(1, int), np.zeros(1, int), share=True), "share=True"),
    (lambda: select(table, upright(table.box), suppress="enclosed"), "enclosing_components"),
    (lambda: encode(GOOD), "uint8.*encoded already"),
    (lambda: encode(np.array([1.2])), "1.2.*0..1"),
    (lambda: encode(np.array([0.2]), failed=np.array([[True]])), r"\(1, 1\).*\(1,\)"),
    (lambda: decode(FLOATS), "float32"),
    (lambda: decode(code(230)), "230"),
    (lambda: tally(FLOATS, np.ones((3, 3), int)), r"\(3, 3\).*2 x 3"),
    (lambda: tally(FLOATS, FLOATS), "float32.*whole numbers"),
    (lambda: tally(FLOATS, np.full((2, 3), 4), 3), "numbered 4 to 4: give 1 to 3"),
    (lambda: tally(FLOATS, np.full((2, 3), -1)), "-1"),
    (lambda: add_tallies([one, tally(FLOATS)]), "400, 2147483648"),
    (lambda: add_tallies([]), "tallies is empty"),
    (lambda: label_scores([one], balance=1.5), "balance=1.5"),
    (lambda: label_scores([one, tally(GOOD, np.ones((2, 3), int), 2)]), "zones"),
    (lambda: best_label(np.zeros((0, 3))), r"\(0, 3\)"),
    (lambda: best_label(np.zeros(3)), r"\(3,\)"),
    (lambda: positive_labels(np.zeros((1, 1)), threshold=-1), "threshold=-1"),
    (lambda: semantic([]), "no maps"),
    (lambda: semantic([FLOATS], threshold=[0.5, 0.6]), "2 thresholds for 1 maps"),
    (lambda: semantic([FLOATS, FLOATS[:1]]), r"maps\[1\].*\(1, 3\)"),
    (lambda: semantic([FLOATS, GOOD]), "float32"),
    (lambda: touching(np.zeros(3, int), np.zeros(4, int)), r"\(4,\).*numbers, 3"),
    (lambda: merge([table, components(GOOD).table], np.zeros(4, int), 1), "scales"),
    (lambda: merge([table], np.zeros(9, int), 1), r"group is .*\(9,\)"),
    (lambda: merge_hulls([hulls(components(FLOATS))], np.zeros(9, int), 1), r"group is .*\(9,\)"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_a_mistake_is_named_with_its_remedy(mistake, message):
    with pytest.raises(InputError, match=message):
        mistake()


def test_good_maps_are_left_as_they_are():
    before = GOOD.copy(), FLOATS.copy()
    GOOD.setflags(write=False)
    detect(GOOD, contour=GOOD)
    detect(FLOATS[::-1, ::-1].T, contour=FLOATS[::-1, ::-1].T)
    assert (before[0] == GOOD).all()
    assert (before[1] == FLOATS).all()
    assert isinstance(one, Tally)
