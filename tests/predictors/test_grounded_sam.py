"""Grounding DINO and OWLv2 with SAM 2.1 as predictors, by small networks of the real classes."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessorPil,
    Sam2Model,
)

from remotesam_geo import RemoteSAM
from remotesam_geo.errors import InputError, ModelError
from remotesam_geo.predictors import check
from remotesam_geo.predictors.box_masks import sam2_masks
from remotesam_geo.predictors.grounded_sam import GroundedSam, OwlSam
from remotesam_geo.predictors.names import open_recipe
from remotesam_geo.predictors.text_boxes import grounding_dino_boxes, owlv2_boxes
from tests.job.job_folder import write_raster
from tests.predictors.networks import SIDE, write_dino, write_owlv2, write_sam2

IMAGES = np.random.default_rng(2).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)


KINDS = {
    "dino": (
        GroundedSam,
        write_dino,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessorPil,
        grounding_dino_boxes,
    ),
    "owlv2": (OwlSam, write_owlv2, Owlv2ForObjectDetection, Owlv2ImageProcessorPil, owlv2_boxes),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture(scope="module")
def sources(tmp_path_factory, kind):
    options = [128] if kind[0] is GroundedSam else []
    return [kind[1](tmp_path_factory.mktemp("boxes"), *options), write_sam2(tmp_path_factory.mktemp("sam2"))]


@pytest.fixture(scope="module")
def scores(sources, kind):
    """The probabilities of all boxes for "ship" in the first image."""
    return sorted(score for _, score, _ in boxes(kind, sources, IMAGES[0], 1e-9))


def boxes(kind, sources, image, least):
    _, _, detector, processor, run = kind
    return run(
        detector.from_pretrained(sources[0]).eval(), processor.from_pretrained(sources[0]),
        AutoTokenizer.from_pretrained(sources[0]), image, ["ship"], least=least,
    )  # fmt: skip


def opened(kind, sources, least):
    return kind[0].open(sources, device="cpu", precision="float32", image_size=SIDE, least=least)


def scaled(scores, least):
    return [max(0.501, 0.5 + 0.5 * (score - least) / (1 - least)) for score in scores]


def test_instances_are_the_detectors_boxes_segmented(kind, sources, scores):
    least = scores[len(scores) // 2]
    predictor = opened(kind, sources, least)
    masks, found = predictor.instances(IMAGES[:1], ["ship in the image"])[0][0]
    expected = sorted(boxes(kind, sources, IMAGES[0], least), key=lambda one: -one[1])
    assert found.tolist() == pytest.approx(scaled([score for _, score, _ in expected], least), abs=1e-5)
    drawn = sam2_masks(Sam2Model.from_pretrained(sources[1]).eval(), IMAGES[0], [box for _, _, box in expected])
    assert masks.shape == (len(expected), SIDE, SIDE)
    assert (masks == np.stack(drawn)).mean() > 0.999


def test_probabilities_are_the_union_of_instances(kind, sources, scores):
    predictor = opened(kind, sources, scores[0] * 0.9)
    masks, found = predictor.instances(IMAGES[:1], ["ship"])[0][0]
    maps = predictor.predict(IMAGES[:1], ["ship"])[0, 0]
    assert len(found) == len(scores)
    assert np.array_equal(maps > 0.5, masks.any(0))
    assert np.array_equal(maps, np.max(masks * found[:, None, None], axis=0))


@pytest.mark.parametrize("shape", [(SIDE, SIDE), (40, 90), (90, 40)])
def test_boxes_of_owlv2_equal_those_of_transformers(tmp_path, shape):
    folder = write_owlv2(tmp_path)
    model = Owlv2ForObjectDetection.from_pretrained(folder).eval()
    processor, tokenizer = Owlv2ImageProcessorPil.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rgb = np.random.default_rng(5).integers(0, 256, (*shape, 3), np.uint8)
    names = ["ship", "the red roof"]
    whole = owlv2_boxes(model, processor, tokenizer, rgb, names, least=1e-9)
    least = sorted(score for _, score, _ in whole)[len(whole) // 2] - 1e-6
    found = owlv2_boxes(model, processor, tokenizer, rgb, names, least=least)
    tokens = tokenizer(names, padding="max_length", max_length=9, return_tensors="pt")
    with torch.no_grad():
        given = processor(images=Image.fromarray(rgb), return_tensors="pt")["pixel_values"]
        result = model(pixel_values=given, input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
    (expected,) = processor.post_process_object_detection(result, threshold=least, target_sizes=[shape])
    rows = []
    for label, score, box in zip(expected["labels"], expected["scores"], expected["boxes"], strict=True):
        x0, y0, x1, y1 = (max(0, v) for v in box.tolist())
        if min(x1, shape[1]) > x0 and min(y1, shape[0]) > y0:
            rows.append((int(label), float(score), (x0, y0, min(x1, shape[1]), min(y1, shape[0]))))
    assert len(found) == len(rows) > 0
    for one, other in zip(found, rows, strict=True):
        assert one[0] == other[0]
        assert one[1] == pytest.approx(other[1], abs=1e-5)
        assert one[2] == pytest.approx(other[2], abs=1e-3)


@pytest.mark.parametrize("count", [0, 100])
def test_none_and_a_hundred(kind, sources, monkeypatch, count):
    rng = np.random.default_rng(0)
    corners = rng.integers(0, SIDE // 2, (count, 2))
    found = [(0, 0.4 + 0.005 * k, (float(x), float(y), float(x + 9), float(y + 7))) for k, (x, y) in enumerate(corners)]
    predictor = opened(kind, sources, 0.35)
    monkeypatch.setattr(type(predictor), "_boxes", lambda *_: list(found))
    masks, scores = predictor.instances(IMAGES[:1], ["ship"])[0][0]
    assert masks.shape == (count, SIDE, SIDE)
    assert masks.dtype == np.bool_
    assert np.all(np.diff(scores) <= 0)
    assert len(scores) == count
    maps = predictor.predict(IMAGES[:1], ["ship"])
    assert np.array_equal(maps[0, 0] > 0.5, masks.any(0) if count else np.zeros((SIDE, SIDE), bool))


def test_it_passes_the_kit_and_is_opened_again(kind, sources, scores):
    predictor = opened(kind, sources, scores[len(scores) // 2])
    check(predictor)
    again = open_recipe(json.loads(json.dumps(predictor.recipe)))
    assert again.identity == predictor.identity
    assert np.array_equal(again.predict(IMAGES, ["ship"]), predictor.predict(IMAGES, ["ship"]))
    assert opened(kind, sources, 0.9).identity != predictor.identity


def test_mistakes_are_said_before_weights_are_loaded(kind, sources):
    adapter = kind[0]
    for least in (0, 1.5, np.nan, "low"):
        with pytest.raises(InputError, match="least"):
            adapter.open(["nowhere", "nowhere"], least=least)
    with pytest.raises(InputError, match="image_size=0"):
        adapter.open(sources, image_size=0)
    with pytest.raises(InputError, match="has 2 networks"):
        adapter.open(sources[:1])
    with pytest.raises(InputError, match="1 revisions for 2 sources"):
        adapter.open(sources, revisions=[None])
    with pytest.raises(ModelError, match=r"about (689|620) MB"):
        adapter.open(local_files_only=True)


def test_objects_of_a_scene_are_joined_across_windows(kind, sources, scores, tmp_path):
    raster = write_raster(tmp_path / "blobs.tif", shape=(100, 90))
    model = RemoteSAM(opened(kind, sources, scores[0] * 0.9))
    found = model.segment(raster, "ship", instances=True, progress=False)
    assert len(found) >= 1
    assert found.geometry.is_valid.all()
    assert found["score"].between(0.5, 1).all()
    assert model.segment(raster, "ship", instances=True, progress=False).equals(found)
