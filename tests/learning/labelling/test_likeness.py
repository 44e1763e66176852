"""The threshold of a similarity filter: as precise as asked, as low as can be, and honest about few pairs."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remotesam_geo.errors import InputError
from remotesam_geo.learning.datasets import Mask, Picture, Triplet
from remotesam_geo.learning.labelling import choose_least, right_and_wrong

scores = st.lists(st.integers(-20, 20).map(lambda n: n / 20), min_size=1, max_size=30)


@given(scores, scores, st.sampled_from([0.5, 0.8, 0.95, 1.0]))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_it_is_the_lowest_threshold_that_is_precise_enough(right, wrong, wanted):
    good, bad = np.array(right), np.array(wrong)

    def precision(least):
        return (good >= least).sum() / ((good >= least).sum() + (bad >= least).sum())

    enough = [least for least in sorted(set(right)) if precision(least) >= wanted - 1e-12]
    if not enough:
        with pytest.raises(InputError, match=r"no threshold is .* precise: the best"):
            choose_least(right, wrong, precision=wanted)
        return
    chosen = choose_least(right, wrong, precision=wanted)
    assert chosen.least == pytest.approx(enough[0])
    assert chosen.precision == pytest.approx(precision(chosen.least))
    assert chosen.recall == pytest.approx((good >= chosen.least).mean())
    assert chosen.leak == pytest.approx((bad >= chosen.least).mean())
    assert chosen.doubted <= chosen.precision + 1e-12
    assert (chosen.right, chosen.wrong) == (len(right), len(wrong))


def test_what_is_kept_later_is_as_precise_as_promised():
    """Scores of two overlapping kinds, and twenty times as many to come, nine of ten of them right."""
    rng = np.random.default_rng(0)

    def drawn(count):
        return rng.normal(0.12, 0.03, count), rng.normal(0.06, 0.03, count)

    chosen = choose_least(*drawn(500), precision=0.98, share=0.9)
    right, wrong = drawn(10_000)
    kept, leak = (right >= chosen.least).mean(), (wrong >= chosen.least).mean()
    precision = 0.9 * kept / (0.9 * kept + 0.1 * leak)
    assert chosen.doubted <= precision
    assert precision == pytest.approx(0.98, abs=0.01)
    assert kept == pytest.approx(chosen.recall, abs=0.05)


def test_few_pairs_promise_little():
    few = choose_least([0.5, 0.6], [0.1, 0.2])
    many = choose_least([0.5, 0.6] * 200, [0.1, 0.2] * 200)
    assert few.precision == many.precision == 1
    assert few.doubted < 0.1
    # 400 of each leave 6.8 % open on both sides: sqrt(ln(40) / 800).
    assert many.doubted == pytest.approx((1 - 0.0679) / 1, abs=1e-4)
    assert "at least (95 %)" in few.table()


def test_mistakes_are_said():
    with pytest.raises(InputError, match="0 scores of right"):
        choose_least([], [0.1])
    with pytest.raises(InputError, match="finite"):
        choose_least([float("nan")], [0.1])
    with pytest.raises(InputError, match="share=1"):
        choose_least([0.2], [0.1], share=1)
    with pytest.raises(InputError, match=r"no threshold is 95.0% precise.*keeps"):
        choose_least([0.2, 0.1], [0.2, 0.3])


def triplets():
    picture = Picture.of("a", np.zeros((30, 30, 3), np.uint8))
    for label in ("ship", "airplane", "plane", "dam"):
        for k in range(4):
            mask = Mask.of_box((k, k, k + 9, k + 9), (30, 30))
            yield Triplet(
                picture=picture,
                expression=f"the {label} {k}",
                mask=mask,
                kind="one-to-one",
                label=label,
            )
    nothing = Mask.empty((30, 30))
    yield Triplet(picture=picture, expression="tank", mask=nothing, kind="one-to-zero", label="tank")


def test_wrong_pairs_have_the_words_of_an_unrelated_class():
    right, wrong = right_and_wrong(triplets(), most=12)
    assert len(right) == len(wrong) == 12
    by_mask = {(one.label, one.mask.counts) for one in right}
    for one in wrong:
        assert (one.label, one.mask.counts) in by_mask
        word = one.expression.split()[1]
        assert word != one.label
        assert {word, one.label} != {"airplane", "plane"}
        assert word != "tank"
    again = right_and_wrong(triplets(), most=12)[1]
    assert [one.expression for one in again] == [one.expression for one in wrong]
    with pytest.raises(InputError, match="two unrelated classes"):
        right_and_wrong([one for one in triplets() if one.label == "ship"])
