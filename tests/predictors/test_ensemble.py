"""An ensemble equals the plain formula over its predictors, and works wherever one predictor does."""

import json
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remotesam_geo import Job, RemoteSAM
from remotesam_geo.errors import InputError, ModelError
from remotesam_geo.predictors import Ensemble, PredictorError, check, names
from remotesam_geo.predictors.names import open_recipe
from tests.job.job_folder import write_raster

IMAGES = np.random.default_rng(3).integers(0, 256, (2, 16, 16, 3), np.uint8)
WORDS = ["red", "green", "a longer one"]


class Channel:
    """The probability of an expression is a share of one channel."""

    def __init__(self, channel=0, size=16):
        self.channel, self.image_size, self.identity = channel, size, f"channel {channel} at {size}"
        self.recipe = {"registered": "channel", "options": {"channel": channel, "size": size}}

    def predict(self, images, expressions):
        share = images[..., self.channel].astype(np.float32) / 255
        return np.stack([share / (1 + len(each) % 3) for each in expressions], 1)


@pytest.fixture
def registered(monkeypatch):
    point = EntryPoint("channel", "tests.predictors.test_ensemble:Channel", names.GROUP)
    monkeypatch.setattr(names, "entry_points", lambda *, group, name: [point] if name == "channel" and group else [])


@given(
    st.lists(st.tuples(st.integers(0, 2), st.floats(0.01, 100)), min_size=2, max_size=4),
    st.sampled_from(["mean", "max", "vote"]),
)
@settings(deadline=None)
def test_an_ensemble_equals_the_plain_formula(parts, combine):
    predictors = [Channel(channel) for channel, _ in parts]
    weights = [weight for _, weight in parts]
    made = Ensemble(predictors, combine, None if combine == "max" else weights)
    found = made.predict(IMAGES, WORDS)
    each = np.stack([one.predict(IMAGES, WORDS) for one in predictors]).astype(np.float64)
    expected = {
        "mean": np.average(each, axis=0, weights=weights),
        "max": each.max(0),
        "vote": np.average(each > 0.5, axis=0, weights=weights),
    }[combine]
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-6


def test_three_votes_are_the_majority():
    made = Ensemble([Channel(0), Channel(1), Channel(2)], combine="vote")
    votes = sum(one.predict(IMAGES, WORDS) > 0.5 for one in made.predictors)
    assert np.array_equal(made.predict(IMAGES, WORDS) > 0.5, votes >= 2)


def test_predictors_of_other_sizes_see_the_same_ground():
    images = np.zeros((1, 64, 64, 3), np.uint8)
    images[:, 16:48, 8:40] = 255
    made = Ensemble([Channel(0, 64), Channel(0, 16)])
    assert made.image_size == 64
    found = made.predict(images, ["one"])[0, 0]
    truth = images[0, ..., 0] > 0
    inner = np.zeros_like(truth)
    inner[24:40, 16:32] = True
    assert np.allclose(found[inner], found.max())
    outer = np.ones_like(truth)
    outer[8:56, :48] = False
    assert not found[outer].any()
    check(Ensemble([Channel(0, 64), Channel(1, 32)]))


def test_identity_says_all_that_probabilities_depend_on():
    made = [
        Ensemble([Channel(0), Channel(1)]),
        Ensemble([Channel(0), Channel(2)]),
        Ensemble([Channel(0), Channel(1)], "max"),
        Ensemble([Channel(0), Channel(1)], "vote"),
        Ensemble([Channel(0), Channel(1)], weights=[1, 2]),
        Ensemble([Channel(0), Channel(1, 32)]),
        Ensemble([Ensemble([Channel(0), Channel(1)]), Channel(1)]),
    ]
    assert len({each.identity for each in made}) == len(made)


def test_an_ensemble_in_jobs_is_opened_again_by_its_recipe(tmp_path, registered):
    raster = write_raster(tmp_path / "blobs.tif", shape=(60, 60))
    made = Ensemble([Channel(0), Channel(1)], "mean", [1, 3])
    assert json.loads(json.dumps(made.recipe)) == made.recipe
    again = open_recipe(made.recipe)
    assert again.identity == made.identity
    assert np.array_equal(again.predict(IMAGES, WORDS), made.predict(IMAGES, WORDS))
    job = Job.create(tmp_path / "job", raster, "red", made)
    job.run(progress=False)
    other = Job.open(tmp_path / "job")
    other.add("green")
    assert other.run(progress=False)["waiting"].eq(0).all()
    expected = RemoteSAM(made).segment(raster, ["red", "green"], progress=False)
    found = Job.open(tmp_path / "job").answer()
    assert sorted(found["label"]) == sorted(expected["label"])
    assert np.isclose(found.area.sum(), expected.area.sum())


def test_an_ensemble_with_tiny_is_opened_again(tmp_path, registered):
    tiny = RemoteSAM.from_pretrained("tiny", device="cpu", precision="float32")
    made = Ensemble([tiny, Channel(0, 64)])
    assert made.unknown_words("piano") == ()  # one of them knows every word
    again = open_recipe(json.loads(json.dumps(made.recipe)))
    assert again.identity == made.identity
    images = np.random.default_rng(0).integers(0, 256, (1, made.image_size, made.image_size, 3), np.uint8)
    assert np.array_equal(again.predict(images, ["tree in the image"]), made.predict(images, ["tree in the image"]))


@pytest.mark.parametrize(("make", "told"), [
    (lambda: Ensemble([Channel()]), "needs two or more"),
    (lambda: Ensemble([]), "needs two or more"),
    (lambda: Ensemble("tiny"), "predictors is of the type str"),
    (lambda: Ensemble([Channel(), "tiny"]), "RemoteSAM.from_pretrained"),
    (lambda: Ensemble([Channel(), Channel]), "a class: give an object"),
    (lambda: Ensemble([Channel(), object()]), "has no image_size"),
    (lambda: Ensemble([Channel(), Channel()], "Mean"), "Did you mean 'mean'"),
    (lambda: Ensemble([Channel(), Channel()], weights=[1]), "1 numbers for 2"),
    (lambda: Ensemble([Channel(), Channel()], weights=[1, 0]), "weights=0"),
    (lambda: Ensemble([Channel(), Channel()], weights=[1, np.nan]), "weights=nan"),
    (lambda: Ensemble([Channel(), Channel()], "max", [1, 2]), "no effect with combine='max'"),
])  # fmt: skip
def test_what_is_no_ensemble_is_said(make, told):
    with pytest.raises(InputError, match=told):
        make()


@pytest.mark.parametrize("recipe", [
    {}, {"a": 1}, {"registered": "nobody"}, {"ensemble": 3, "combine": "mean", "weights": None}, {"ensemble": []},
    {"ensemble": [{"registered": "channel"}], "combine": "mean", "weights": None}, {"network": {}}, {"network": 5},
    {"registered": "channel", "options": {"colour": 1}}, {"registered": "channel", "options": 3}, {"x": {1, 2}}, [], 5,
])  # fmt: skip
def test_a_recipe_that_cannot_be_opened_is_an_error_of_the_model(recipe, registered):
    with pytest.raises(ModelError):
        open_recipe(recipe)


def test_a_faulty_part_is_named():
    class Faulty(Channel):
        def predict(self, images, expressions):
            return super().predict(images, expressions)[:, 0]

    with pytest.raises(PredictorError, match="the predictor Faulty returned the shape"):
        Ensemble([Channel(), Faulty()]).predict(IMAGES, WORDS)
