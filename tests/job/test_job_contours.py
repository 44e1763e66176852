"""Jobs whose touching objects are parted by contours: one more map, kept and found again like the others."""

import contextlib
import json

import pytest
import rasterio
import torch
from geopandas.testing import assert_geodataframe_equal
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from remotesam_geo import RemoteSAM, open_raster
from remotesam_geo.errors import InputError, JobError
from remotesam_geo.job import Job
from remotesam_geo.job.models import opened_model, reopened
from remotesam_geo.model import ContourModel
from tests.colours import Colours, Counting, Edges
from tests.job.job_folder import make_job, write_raster

pytestmark = pytest.mark.filterwarnings("ignore:.*fill a window")
PROMPTS = {"red": "red things", "green": "green things"}


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    """Blobs with thin blue lines through them."""
    path = write_raster(tmp_path_factory.mktemp("raster") / "blobs.tif")
    with rasterio.open(path, "r+") as file:
        blue = file.read(3)
        blue[:, 50::17] = 255
        file.write(blue, 3)
    return path


def same(found, expected):
    assert_geodataframe_equal(found, expected)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("seam", ["paste", "blend"])
def test_a_job_parts_objects_as_the_verbs_do(tmp_path, raster, keep, seam):
    model, scene = RemoteSAM(Colours()), open_raster(raster)
    options = {"seam": seam, "progress": False}
    job = make_job(tmp_path, raster, refine=Edges(), seam=seam, keep_probabilities=keep)
    job.run()
    for verb in ("segment", "detect"):
        expected = getattr(model, verb)(scene, PROMPTS, refine=Edges(), **options)
        assert len(expected) > len(getattr(model, verb)(scene, PROMPTS, **options))
        same(job.answer(verb), expected)
    if keep:
        low = model.segment(scene, PROMPTS, refine=Edges(), threshold=0.25, **options)
        same(job.answer("segment", threshold=0.25), low)
        assert job.probabilities().coords["prompt"].values.tolist() == ["red", "green"]


def test_contours_are_asked_once_and_found_again(tmp_path, raster):
    model = Counting()
    job = make_job(tmp_path, raster, prompts=("red",), model=model, refine=Edges())
    job.run()
    parted = job.answer()
    assert job.status()["total"].eq(2 * job.estimate(measure=False).windows).all()
    job.add({"green": "green things"}, threshold=0.5)
    model.asked.clear()
    job.run()
    assert {words for _, words in model.asked} == {("green things",)}
    model.asked.clear()
    (tmp_path / "ledger.sqlite").unlink()
    again = Job.open(tmp_path, model=model, refine=Edges())
    assert again.run()["waiting"].eq(0).all()
    assert not model.asked
    found = again.answer()
    same(found[found.label == "red"], parted)


def test_a_contour_map_that_the_disk_changed_is_made_again(tmp_path, raster):
    clean = make_job(tmp_path / "a", raster, prompts=("red",), refine=Edges(), seam="paste")
    clean.run()
    job = make_job(tmp_path / "b", raster, prompts=("red",), refine=Edges(), seam="paste")
    job.run()
    (group,) = job._groups
    with job._records() as records:
        key = records.plan.key("map", group.resolution, group.expressions[group.contours])
    for chunk in (tmp_path / "b" / "probabilities.zarr" / key / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(JobError, match="9 stored files are damaged"):
        job.answer()
    while job.run() is not None:  # one block is noticed at a time
        with contextlib.suppress(JobError):
            same(job.answer(), clean.answer())
            break


def test_contours_belong_to_the_plan(tmp_path, raster):
    with pytest.raises(InputError, match="an attribute identity"):
        make_job(tmp_path / "a", raster, refine=lambda images: images[..., 0])
    with pytest.raises(InputError, match="refine='edges' is not allowed"):
        make_job(tmp_path / "a", raster, refine="edges")
    assert not (tmp_path / "a").exists()
    make_job(tmp_path / "b", raster, refine=Edges())
    with pytest.raises(JobError, match=r'weights.contours is "edges" there, "" here'):
        make_job(tmp_path / "b", raster)
    with pytest.raises(JobError, match=r"weights.contours"):
        Job.open(tmp_path / "b", model=Colours())


def test_another_process_finds_the_network_and_the_contours(tmp_path):
    torch.manual_seed(0)
    config = SegformerConfig(
        num_labels=1, depths=[1] * 4, hidden_sizes=[8] * 4, num_attention_heads=[1] * 4,
        decoder_hidden_size=8,
    )  # fmt: skip
    SegformerForSemanticSegmentation(config).save_pretrained(tmp_path / "contours")
    contours = ContourModel.from_pretrained(tmp_path / "contours", resolution=64, precision="float32")
    here = opened_model("tiny", contours)
    assert here.weights.contours.endswith("at 64 px in float32")
    there = reopened(json.loads(json.dumps(here.recipe)), here.weights)
    assert there.weights == here.weights
    assert there.for_workers() == here.for_workers()
    images = torch.randint(0, 256, (1, 256, 256, 3), dtype=torch.uint8).numpy()
    words = ("ship in the image", "\0contours")
    codes = there.predict(images, words)
    assert codes.shape == (1, 2, 256, 256)
    assert (codes == here.predict(images, words)).all()
    assert (codes[:, 1] == contours(images)).all()
