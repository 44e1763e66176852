"""What a predictor returns is checked wherever it is used, and a fault of the predictor is never a failed window."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from remotesam_geo import Job, RemoteSAM
from remotesam_geo.errors import InputError, ModelError
from remotesam_geo.predictors import PredictorError, check
from remotesam_geo.predictors.protocol import predicted_codes, predicted_probabilities
from remotesam_geo.tasks import decode, encode
from tests.job.job_folder import write_raster

SIDE = 32


class Given:
    """Returns what a function makes of the right probabilities."""

    image_size, identity = SIDE, "given"

    def __init__(self, change=lambda found: found):
        self.change = change

    def predict(self, images, expressions):
        light = images.mean(-1, dtype=np.float32) / 255
        return self.change(np.repeat(light[:, None], len(expressions), 1))


FAULTS = {
    "Tensor": (torch.from_numpy, r"returned a Tensor: call .cpu\(\).numpy\(\); it must return"),
    "list": (lambda found: found.tolist(), "returned a list; it must return"),
    "nothing": (lambda _: None, "returned a NoneType"),
    "no prompts": (lambda found: found[:, 0], "returned the shape"),
    "smaller": (lambda found: found[..., ::2, ::2], "returned the shape"),
    "logits": (lambda found: found * 8 - 4, "Apply a sigmoid to logits"),
    "NaN": (lambda found: np.where(found > 0.5, np.nan, found), "NaN is none"),
    "negative": (lambda found: found - 0.5, "probabilities lie from 0 to 1"),
    "infinite": (lambda found: np.where(found > 0.5, np.inf, found), "probabilities lie from 0 to 1"),
    "8 bits": (lambda found: np.full(found.shape, 255, np.uint8), r"codes are ceil\(200 p\), from 0 to 200"),
    "whole numbers": (lambda found: (found > 0.5).astype(np.int64), "returned int64"),
    "flags": (lambda found: found > 0.5, "returned bool"),
    "complex": (lambda found: found + 0j, "returned complex"),
    "objects": (lambda found: found.astype(object), "returned object"),
}


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    return write_raster(tmp_path_factory.mktemp("raster") / "blobs.tif", shape=(80, 70))


@pytest.mark.parametrize(("change", "told"), FAULTS.values(), ids=FAULTS)
def test_a_wrong_answer_is_an_error_that_names_the_predictor_and_the_fault(change, told, raster, tmp_path):
    predictor = Given(change)
    model = RemoteSAM(predictor)
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    for run in (
        lambda: check(predictor),
        lambda: model.detect(raster, "ship", progress=False),
        lambda: model.detect(raster, "ship", on_error="skip", progress=False),
        lambda: model.detect(picture, "ship", progress=False),
        lambda: model.probabilities(raster, "ship").compute(scheduler="synchronous"),
        lambda: Job.create(tmp_path / "job", raster, "ship", predictor).run(progress=False),
    ):
        with pytest.raises(PredictorError, match=told) as caught:
            run()
        assert "the predictor Given" in str(caught.value)
        assert isinstance(caught.value, ModelError)
    status = Job.open(tmp_path / "job", model=predictor).status()
    assert status["failed"].sum() == 0  # no window is to blame


@pytest.mark.filterwarnings("ignore:.*fill a window")
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, "codes", "big-endian", "strided"])
def test_probabilities_of_any_kind_give_what_their_codes_give(kind, raster):
    def change(found):
        if kind == "codes":
            return encode(found)
        if kind == "big-endian":
            return found.astype(">f4")
        if kind == "strided":
            return np.repeat(found, 2, axis=-1)[..., ::2]
        return found.astype(kind)

    def as_codes(found):
        return found if found.dtype == np.uint8 else encode(found)

    expected = RemoteSAM(Given(lambda found: as_codes(change(found)))).detect(raster, "ship", progress=False)
    assert RemoteSAM(Given(change)).detect(raster, "ship", progress=False).equals(expected)


@given(npst.arrays(np.float32, (2, 1, 3, 4), elements=st.floats(0, 1, width=32)))
def test_codes_of_probabilities_are_those_of_encode(found):
    predictor = Given(lambda _: found)
    images = np.zeros((2, 3, 4, 3), np.uint8)
    assert np.array_equal(predicted_codes(predictor.predict, images, ["a"]), encode(found))
    assert np.array_equal(predicted_probabilities(predictor, images, ["a"]), found)
    codes = Given(lambda _: encode(found))
    assert np.array_equal(predicted_probabilities(codes, images, ["a"]), decode(encode(found)))


def test_the_exact_probabilities_are_asked_where_there_are_any():
    class Both(Given):
        def probabilities(self, images, expressions):
            return Given().predict(images, expressions) * 0.5

    images = np.full((1, SIDE, SIDE, 3), 100, np.uint8)
    assert predicted_probabilities(Both(), images, ["a"]).max() == np.float32(50 / 255)
    with pytest.raises(PredictorError, match="predict and probabilities differ by up to"):
        check(Both())


@pytest.mark.parametrize(("change", "told"), [
    ({"image_size": 1}, "image_size=1"),
    ({"image_size": "big"}, "image_size='big'"),
    ({"identity": ""}, "identity is ''"),
    ({"identity": 5}, "identity is 5"),
    ({"predict": 3}, "predict is no function but a int"),
    ({"recipe": {1: 2}}, "recipe is"),
    ({"recipe": {"a": {1, 2}}}, "recipe is"),
    ({"recipe": "a"}, "recipe is"),
    ({"unknown_words": lambda _: "text"}, "unknown_words returned 'text'"),
    ({"cut_words": lambda _: None}, "cut_words returned None"),
])  # fmt: skip
def test_the_kit_finds_wrong_attributes(change, told):
    with pytest.raises(InputError, match=told):
        check(type("Wrong", (Given,), {})() if not change else _with(Given(), change))


def _with(predictor, change):
    made = type("Changed", (Given,), {"image_size": SIDE, "identity": "given"})()
    for name, value in change.items():
        setattr(made, name, value)
    return made


class Unsteady(Given):
    """Gives other probabilities for a reason."""

    def __init__(self, reason):
        super().__init__()
        self.reason, self.calls = reason, 0

    def predict(self, images, expressions):
        self.calls += 1
        found = super().predict(images, expressions)
        add = {
            "again": self.calls > 1,
            "batch": np.arange(len(images))[:, None, None, None] % 2,
            "alone": len(expressions) == 1,
            "twice": np.arange(len(expressions))[:, None, None] == 2,
        }[self.reason]
        return np.clip(found * 0.5 + 0.3 * np.asarray(add, np.float32), 0, 1).astype(np.float32)


@pytest.mark.parametrize(("reason", "told"), [
    ("again", "when it is run again"), ("batch", "for one image alone|in another order"),
    ("alone", "for one expression alone"), ("twice", "given twice|in another order"),
])  # fmt: skip
def test_the_kit_finds_probabilities_that_depend_on_more_than_image_and_expression(reason, told):
    with pytest.raises(PredictorError, match=told):
        check(Unsteady(reason))


def test_the_kit_finds_changed_images():
    class Careless(Given):
        def predict(self, images, expressions):
            found = super().predict(images, expressions)
            images[:] = 0
            return found

    with pytest.raises(PredictorError, match="changed the images"):
        check(Careless())


def test_what_is_right_passes():
    check(Given())
    check(Given(encode))
    check(RemoteSAM.from_pretrained("tiny", device="cpu", precision="float32"))
