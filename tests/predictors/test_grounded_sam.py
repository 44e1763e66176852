"""Grounding DINO with SAM 2.1 as a predictor, by small networks of the real classes."""

import json

import numpy as np
import pytest
from transformers import AutoTokenizer, GroundingDinoForObjectDetection, GroundingDinoImageProcessorPil, Sam2Model

from remotesam_geo.errors import InputError, ModelError
from remotesam_geo.predictors import check
from remotesam_geo.predictors import grounded_sam as module
from remotesam_geo.predictors.box_masks import sam2_masks
from remotesam_geo.predictors.grounded_sam import GroundedSam
from remotesam_geo.predictors.names import open_recipe
from remotesam_geo.predictors.text_boxes import grounding_dino_boxes
from tests.predictors.networks import SIDE, write_dino, write_sam2

IMAGES = np.random.default_rng(2).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return [write_dino(tmp_path_factory.mktemp("dino"), 128), write_sam2(tmp_path_factory.mktemp("sam2"))]


@pytest.fixture(scope="module")
def scores(sources):
    """The probabilities of all boxes for "ship" in the first image."""
    return sorted(score for _, score, _ in boxes(sources, IMAGES[0], 1e-9))


def boxes(sources, image, least):
    return grounding_dino_boxes(
        GroundingDinoForObjectDetection.from_pretrained(sources[0]).eval(),
        GroundingDinoImageProcessorPil.from_pretrained(sources[0]),
        AutoTokenizer.from_pretrained(sources[0]),
        image, ["ship"], least=least,
    )  # fmt: skip


def opened(sources, least):
    return GroundedSam.open(sources, device="cpu", precision="float32", image_size=SIDE, least=least)


def test_instances_are_the_detectors_boxes_segmented(sources, scores):
    least = scores[len(scores) // 2]
    predictor = opened(sources, least)
    masks, found = predictor.instances(IMAGES[:1], ["ship in the image"])[0][0]
    expected = sorted(boxes(sources, IMAGES[0], least), key=lambda one: -one[1])
    assert found.tolist() == pytest.approx([score for _, score, _ in expected], abs=1e-5)
    drawn = sam2_masks(Sam2Model.from_pretrained(sources[1]).eval(), IMAGES[0], [box for _, _, box in expected])
    assert masks.shape == (len(expected), SIDE, SIDE)
    assert (masks == np.stack(drawn)).mean() > 0.999


def test_probabilities_are_the_union_of_instances_scaled_to_the_threshold(sources, scores):
    least = scores[0] * 0.9
    predictor = opened(sources, least)
    masks, found = predictor.instances(IMAGES[:1], ["ship"])[0][0]
    maps = predictor.predict(IMAGES[:1], ["ship"])[0, 0]
    assert len(found) == len(scores)
    assert np.array_equal(maps > 0.5, masks.any(0))
    expected = np.zeros((SIDE, SIDE))
    for mask, score in zip(masks, found, strict=True):
        expected[mask] = np.maximum(expected[mask], 0.5 + 0.5 * (score - least) / (1 - least))
    assert np.abs(maps - expected).max() < 2e-3


@pytest.mark.parametrize("count", [0, 100])
def test_none_and_a_hundred(sources, monkeypatch, count):
    rng = np.random.default_rng(0)
    corners = rng.integers(0, SIDE // 2, (count, 2))
    found = [(0, 0.4 + 0.005 * k, (float(x), float(y), float(x + 9), float(y + 7))) for k, (x, y) in enumerate(corners)]
    monkeypatch.setattr(module, "grounding_dino_boxes", lambda *_, **__: list(found))
    predictor = opened(sources, 0.35)
    masks, scores = predictor.instances(IMAGES[:1], ["ship"])[0][0]
    assert masks.shape == (count, SIDE, SIDE)
    assert masks.dtype == np.bool_
    assert np.all(np.diff(scores) <= 0)
    assert len(scores) == count
    maps = predictor.predict(IMAGES[:1], ["ship"])
    assert np.array_equal(maps[0, 0] > 0.5, masks.any(0) if count else np.zeros((SIDE, SIDE), bool))


def test_it_passes_the_kit_and_is_opened_again(sources, scores):
    predictor = opened(sources, scores[len(scores) // 2])
    check(predictor)
    again = open_recipe(json.loads(json.dumps(predictor.recipe)))
    assert again.identity == predictor.identity
    assert np.array_equal(again.predict(IMAGES, ["ship"]), predictor.predict(IMAGES, ["ship"]))
    assert opened(sources, 0.9).identity != predictor.identity


def test_mistakes_are_said_before_weights_are_loaded(sources):
    for least in (0, 1.5, np.nan, "low", None):
        with pytest.raises(InputError, match="least"):
            GroundedSam.open(["nowhere", "nowhere"], least=least)
    with pytest.raises(InputError, match="image_size=0"):
        GroundedSam.open(sources, image_size=0)
    with pytest.raises(InputError, match="has 2 networks"):
        GroundedSam.open(sources[:1])
    with pytest.raises(InputError, match="1 revisions for 2 sources"):
        GroundedSam.open(sources, revisions=[None])
    with pytest.raises(ModelError, match="about 689 MB"):
        GroundedSam.open(local_files_only=True)
