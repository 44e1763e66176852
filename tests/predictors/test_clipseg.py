"""CLIPSeg as a predictor, by a small network of the real class: its probabilities equal those of a direct call."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, CLIPSegForImageSegmentation

from remotesam_geo import Job, RemoteSAM
from remotesam_geo.errors import InputError, ModelError, RemoteSAMWarning
from remotesam_geo.predictors import check
from remotesam_geo.predictors.clipseg import ClipSeg
from remotesam_geo.predictors.names import adapter_named, open_recipe
from tests.job.job_folder import write_raster
from tests.predictors.networks import write_clipseg

TEXTS = ["ship", "the red roof on the left", "unheard of"]
SIDE = 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_clipseg(tmp_path_factory.mktemp("clipseg"))


@pytest.fixture(scope="module")
def clipseg(folder):
    return ClipSeg.open([folder], device="cpu", precision="float32", image_size=SIDE)


def images(count=2, side=SIDE):
    return np.random.default_rng(1).integers(0, 256, (count, side, side, 3), np.uint8)


def direct(folder, image, text):
    """What transformers gives for one image and one text, with plain normalising."""
    model = CLIPSegForImageSegmentation.from_pretrained(folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    mean, deviation = np.float32((0.485, 0.456, 0.406)), np.float32((0.229, 0.224, 0.225))
    pixels = torch.from_numpy(((image.astype(np.float32) / 255 - mean) / deviation).transpose(2, 0, 1).copy())[None]
    with torch.no_grad():
        found = model(
            pixel_values=pixels, input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"],
            interpolate_pos_encoding=True,
        )  # fmt: skip
    return found.logits.reshape(image.shape[:2]).sigmoid().numpy()


def test_probabilities_equal_those_of_a_direct_call(folder, clipseg):
    given = images()
    found = clipseg.predict(given, TEXTS)
    assert found.shape == (2, 3, SIDE, SIDE)
    assert found.dtype == np.float32
    assert np.ptp(found) > 0.1
    for image, maps in zip(given, found, strict=True):
        for text, one in zip(TEXTS, maps, strict=True):
            assert np.abs(direct(folder, image, text) - one).max() < 1e-5


def test_class_names_are_asked_as_they_are(clipseg):
    given = images(1)
    assert np.array_equal(clipseg.predict(given, ["ship in the image"]), clipseg.predict(given, ["ship"]))


def test_it_passes_the_kit(clipseg):
    check(clipseg)


def test_batches_are_padded_and_halved_when_memory_runs_out(clipseg, folder):
    other = ClipSeg.open([folder], device="cpu", precision="float32", image_size=SIDE)
    other.batch = 4
    given = images()
    assert np.abs(other.predict(given, TEXTS) - clipseg.predict(given, TEXTS)).max() < 1e-5
    whole = other._model.decoder.forward

    def small(activations, texts, **options):
        if len(texts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(activations, texts, **options)

    other._model.decoder.forward = small
    with pytest.warns(RemoteSAMWarning, match="from now on 2 expressions at a time"):
        found = other.predict(given, TEXTS)
    assert other.batch == 2
    assert np.abs(found - clipseg.predict(given, TEXTS)).max() < 1e-5

    def none(activations, texts, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    other._model.decoder.forward = none
    with pytest.warns(RemoteSAMWarning), pytest.raises(ModelError, match="does not fit into the free memory"):
        other.predict(given, TEXTS)


def test_words_that_are_not_read_are_named(clipseg):
    assert clipseg.cut_words("the red ship") == ""
    assert clipseg.cut_words("the red roof on the left in the red tree") == "the red tree"
    with pytest.warns(RemoteSAMWarning, match="the red tree"):
        RemoteSAM(clipseg).segment(images(1)[0], {"roof": "the red roof on the left in the red tree"})


def test_identity_and_recipe_open_the_same_again(clipseg, folder):
    recipe = json.loads(json.dumps(clipseg.recipe))
    again = open_recipe(recipe)
    assert again.identity == clipseg.identity
    assert np.array_equal(again.predict(images(), TEXTS), clipseg.predict(images(), TEXTS))
    assert ClipSeg.open([folder], device="cpu", image_size=64).identity != clipseg.identity
    with pytest.raises(ModelError, match="the weights of"):
        open_recipe({**recipe, "identity": "another"})
    with pytest.raises(ModelError, match="there is no adapter 'os'"):
        open_recipe({**recipe, "adapter": "os"})
    for change in ({"sources": 5}, {"sources": []}, {"options": {"code": 1}}, {"precision": "half"}, {"revisions": 7}):
        with pytest.raises((ModelError, InputError)):
            open_recipe({**recipe, **change})
    made = ClipSeg(clipseg._model, clipseg._tokenizer, image_size=SIDE, device="cpu")
    with pytest.raises(ModelError, match="made in this process"):
        _ = made.recipe


def test_a_job_goes_on_with_it(clipseg, tmp_path):
    raster = write_raster(tmp_path / "blobs.tif", shape=(90, 80))
    job = Job.create(tmp_path / "job", raster, "ship", clipseg, threshold=0.5)
    job.run(progress=False)
    again = Job.open(tmp_path / "job")
    again.add("red")
    again.run(progress=False)
    expected = RemoteSAM(clipseg).segment(raster, ["ship", "red"], progress=False)
    found = Job.open(tmp_path / "job").answer()
    assert sorted(found["label"]) == sorted(expected["label"])
    assert np.isclose(found.area.sum(), expected.area.sum())


def test_other_inputs_are_errors(clipseg, folder):
    for wrong in (images(1, 32), images(1)[0], images(1).astype(np.float32)):
        with pytest.raises(InputError, match="clipseg takes uint8"):
            clipseg.predict(wrong, TEXTS)
    for wrong in ("ship", []):
        with pytest.raises(InputError, match="give a list of one or more"):
            clipseg.predict(images(1), wrong)
    for size in (0, 40, -16, "big", 16.5, None):
        with pytest.raises(InputError, match="image_size"):
            ClipSeg.open([folder], image_size=size)
    with pytest.raises(InputError, match="precision"):
        ClipSeg.open([folder], precision="half")
    with pytest.raises(InputError, match="1 networks"):
        ClipSeg.open([folder, folder])


def test_by_name_without_network_the_message_says_what_would_be_downloaded():
    assert adapter_named("clipseg") is adapter_named("CIDAS/clipseg-rd64-refined") is ClipSeg
    assert adapter_named("tiny") is adapter_named(None) is adapter_named("a/b") is None
    with pytest.raises(ModelError, match=r"about 603 MB from huggingface\.co/CIDAS/clipseg-rd64-refined at 999e0328"):
        RemoteSAM.from_pretrained("clipseg", local_files_only=True)
    with pytest.raises(InputError, match="sha256 has no effect on 'clipseg'"):
        RemoteSAM.from_pretrained("clipseg", sha256="00")
