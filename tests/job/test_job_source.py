"""The source of a job: noticed where it changed, not needed where it is gone, and never stored with its secrets."""

import json
import os
import shutil

import numpy as np
import pytest
import rasterio
from affine import Affine

from remotesam_geo import Job, open_raster
from remotesam_geo.errors import InputError, JobError, ReadError, RemoteSAMWarning
from remotesam_geo.net.credentials import secrets_in, stripped
from remotesam_geo.scenes import HrefSigner, ReadPolicy, Recipe, Trust
from tests.colours import Colours, Counting
from tests.job.job_folder import make_job, write_raster
from tests.net.fault_server import FaultServer

PROMPTS = {"red": "red things", "green": "green things"}


def rewrite(path, **changes):
    """The same pixels again, with another header."""
    with rasterio.open(path) as file:
        pixels, profile = file.read(), dict(file.profile)
    pixels = changes.pop("pixels", pixels)
    pixels = pixels.astype(changes.get("dtype", profile["dtype"]))
    profile |= {"count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2]} | changes
    path.unlink()
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels)


def zeros(path):
    with rasterio.open(path) as file:
        return np.full_like(file.read(), 7)


CHANGES = {
    "CRS": (lambda _: {"crs": "EPSG:32634"}, "crs was EPSG:32633, is EPSG:32634"),
    "place": (lambda _: {"transform": Affine(1, 0, 500010, 0, -1, 5000000)}, "transform was .*500000"),
    "resolution": (lambda _: {"transform": Affine(2, 0, 500000, 0, -2, 5000000)}, "transform was"),
    "shape": (lambda path: {"pixels": zeros(path)[:, :100]}, r"shape was \(110, 150\), is \(100, 150\)"),
    "bands": (lambda path: {"pixels": zeros(path)[:1], "photometric": "minisblack"}, "dtypes was"),
    "type": (lambda _: {"dtype": "uint16"}, "dtypes was .*uint8.*uint16"),
    "nodata": (lambda _: {"nodata": 9}, "nodata was .*0.0.*9.0"),
    "pixels": (lambda path: {"pixels": zeros(path)}, "the content is another"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_raster_that_was_replaced_is_refused_before_anything_is_read(tmp_path, change):
    raster = write_raster(tmp_path / "scene.tif")
    model = Counting()
    job = make_job(tmp_path / "job", raster, model=model)
    changes, told = CHANGES[change]
    rewrite(raster, **changes(raster))
    for run in (
        Job.open(job.folder, model=model).run,
        Job.open(job.folder, model=model).retry_failures,
    ):
        with pytest.raises(JobError, match=rf"scene.tif.*{told}.*(Put back|new job)"):
            run()
    assert not model.asked
    assert job.status()["waiting"].equals(job.status()["total"])


def test_a_raster_that_was_only_touched_or_copied_is_not_refused(tmp_path):
    raster = write_raster(tmp_path / "scene.tif")
    job = make_job(tmp_path / "job", raster)
    os.utime(raster, (1, 1))
    shutil.copy(raster, tmp_path / "copy.tif")
    (tmp_path / "copy.tif").replace(raster)
    assert job.run()["waiting"].eq(0).all()


def test_a_run_that_has_nothing_left_to_do_still_tells_that_the_raster_changed(tmp_path):
    raster = write_raster(tmp_path / "scene.tif")
    job = make_job(tmp_path / "job", raster)
    job.run()
    before = job.answer()
    rewrite(raster, crs="EPSG:32634")
    with pytest.raises(JobError, match="crs was EPSG:32633"):
        Job.open(tmp_path / "job", model=Colours()).run()
    assert Job.open(tmp_path / "job").answer().equals(before)


def test_a_remote_raster_that_was_replaced_is_refused(tmp_path):
    raster = write_raster(tmp_path / "scene.tif")
    policy = ReadPolicy(trust=Trust(hosts=("127.0.0.1",)))
    with FaultServer() as server:
        server.files["/scene.tif"] = raster.read_bytes()
        scene = open_raster(f"{server.url}/scene.tif", policy=policy)
        job = Job.create(tmp_path / "job", scene, PROMPTS, Colours(), block=2)
        rewrite(raster, pixels=zeros(raster))
        server.files["/scene.tif"] = raster.read_bytes()
        with pytest.raises(JobError, match=r"scene\.tif.*the content is another"):
            Job.open(job.folder, model=Colours(), policy=policy).run()


def store_of(raster, path, **changes):
    scene = open_raster(raster)[["red", "green", "blue"]].drop_vars("items").compute()
    scene.assign(**changes).to_zarr(path, mode="w", consolidated=False, zarr_format=2)


def test_a_zarr_store_that_was_written_anew_is_refused(tmp_path):
    raster, path = write_raster(tmp_path / "scene.tif"), tmp_path / "scene.zarr"
    store_of(raster, path)
    job = Job.create(tmp_path / "job", path, PROMPTS, Colours(), block=2)
    assert job.status()["done"].eq(0).all()
    shutil.rmtree(path)
    store_of(write_raster(tmp_path / "other.tif", seed=5), path)
    with pytest.raises(JobError, match=r"scene\.zarr.*the content is another"):
        Job.open(job.folder, model=Colours()).run()
    shutil.rmtree(path)
    store_of(write_raster(tmp_path / "small.tif", shape=(90, 150)), path)
    with pytest.raises(JobError, match="sizes was"):
        Job.open(job.folder, model=Colours()).run()


@pytest.mark.parametrize("kind", ["raster", "store"])
def test_a_job_answers_after_its_source_is_gone(tmp_path, kind):
    raster, source = write_raster(tmp_path / "scene.tif"), tmp_path / "scene.tif"
    if kind == "store":
        source = tmp_path / "scene.zarr"
        store_of(raster, source)
    job = Job.create(tmp_path / "job", source, PROMPTS, Colours(), block=2, resolution={"green": 3})
    job.run()
    told = repr(job), job._repr_html_(), job.status(), job.answer()
    (shutil.rmtree if kind == "store" else os.unlink)(source)
    job = Job.open(tmp_path / "job")
    assert repr(job) == told[0]
    assert job._repr_html_() == told[1]
    assert job.status().equals(told[2])
    assert job.answer().equals(told[3])
    assert job.answer(threshold=0.25).crs == "EPSG:32633"
    assert job.failures().empty
    assert job.estimate(measure=False).windows > 0
    assert Job.open(tmp_path / "job", model=Colours()).run()["waiting"].eq(0).all()
    job = Job.open(tmp_path / "job", model=Colours())
    job.add({"blue": "blue things"})
    with pytest.raises((ReadError, JobError), match="scene"):
        job.run()


def test_the_plan_does_not_depend_on_the_machine(tmp_path, monkeypatch):
    from remotesam_geo.model import RemoteSAMPredictor, predictor

    def machine(precision, pairs):
        monkeypatch.setattr(RemoteSAMPredictor, "_fitting_batch", lambda _: pairs)
        chosen = lambda name, _: precision if name == "auto" else name  # noqa: E731
        monkeypatch.setattr(predictor, "choose_precision", chosen)
        predictor._open_predictor.cache_clear()

    machine("float32", 1)
    raster = write_raster(tmp_path / "small.tif", shape=(60, 60))
    job = Job.create(tmp_path / "job", raster, ["ship"], "tiny", block=1)
    plan = json.loads((tmp_path / "job" / "plan.json").read_text())
    assert not {"batch", "device"} & {*plan["plan"]["weights"], *plan["model"]["network"]}
    machine("bfloat16", 4)
    again = Job.create(tmp_path / "job", raster, ["ship"], "tiny", block=1)
    assert again.frozen.digest == job.frozen.digest
    assert again._model.model.predictor.precision == "float32"
    assert again._model.batch == 4
    found = Job.open(tmp_path / "job")
    assert found._model.batch == 4
    assert found.run()["waiting"].eq(0).all()
    predictor._open_predictor.cache_clear()


SIGNED = [
    "https://account.blob.core.windows.net/c/a.tif?sv=2024&se=2030-01-01&sr=c&sp=r&sig=SECRET%3D",
    "https://bucket.s3.amazonaws.com/a.tif?X-Amz-Algorithm=AWS4&X-Amz-Credential=ID&X-Amz-Signature=SECRET",
    "https://bucket.s3.amazonaws.com/a.tif?AWSAccessKeyId=ID&Expires=1&Signature=SECRET",
    "https://storage.googleapis.com/b/a.tif?X-Goog-Signature=SECRET",
    "https://example.com/a.tif?token=SECRET",
    "https://example.com/a.tif?page=2&access_token=SECRET",
    "https://example.com/a.tif?API-KEY=SECRET",
    "https://me:SECRET@example.com/a.tif",
]


@pytest.mark.parametrize("href", SIGNED)
def test_secrets_are_found_and_taken_off(href):
    assert secrets_in(href)
    bare = stripped(href)
    assert "SECRET" not in bare
    assert not secrets_in(bare)
    assert stripped("https://example.com/a.tif?page=2") == "https://example.com/a.tif?page=2"
    assert not secrets_in("/data/a@b/scene.tif")


@pytest.mark.parametrize("where", ["https://127.0.0.1:{port}", "http://me:SECRET@127.0.0.1:{port}"])
@pytest.mark.parametrize("query", ["?sig=SECRET", "?X-Amz-Signature=SECRET", "?token=SECRET&page=1"])
def test_a_signed_address_is_refused_or_signed_again(tmp_path, where, query):
    raster, policy = (
        write_raster(tmp_path / "scene.tif"),
        ReadPolicy(trust=Trust(hosts=("127.0.0.1",))),
    )
    signer = HrefSigner(sign=lambda href: f"{href}?sig=OTHER", hosts=("127.0.0.1",))
    signing = ReadPolicy(trust=Trust(hosts=("127.0.0.1",)), signers=(signer,))
    with FaultServer() as server:
        server.files["/scene.tif"] = raster.read_bytes()
        port = server.url.rpartition(":")[2]
        recipe = Recipe.of(open_raster(raster))
        text = recipe.to_json().replace(str(raster), where.format(port=port) + "/scene.tif" + query)
        with pytest.raises(InputError, match=r"holds a signature or password.*HrefSigner") as refused:
            Recipe.from_json(text).to_json()
        assert "SECRET" not in str(refused.value)
        scene = Recipe.from_json(text).open(policy=policy)
        with pytest.raises(InputError, match=r"holds a signature or password.*HrefSigner") as refused:
            Job.create(tmp_path / "job", scene, PROMPTS, Colours(), policy=policy)
        assert "SECRET" not in str(refused.value)
        assert not (tmp_path / "job").exists()
        if where.startswith("https"):
            return
        scene = Recipe.from_json(text).open(policy=signing)
        job = Job.create(tmp_path / "job", scene, PROMPTS, Colours(), block=2, policy=signing)
        job.run()
        found = job.answer()
        assert len(found)
    everything = b"".join(path.read_bytes() for path in job.folder.rglob("*") if path.is_file())
    for secret in (b"SECRET", b"OTHER"):
        assert secret not in everything
    assert "SECRET" not in repr(job) + found.attrs["remotesam"] + job._repr_html_()


def test_causes_of_failures_hold_no_secret(tmp_path):
    def fail(count, images):
        raise RuntimeError("no answer from https://me:SECRET@example.com/model?key=SECRET")

    job = make_job(tmp_path / "job", write_raster(tmp_path / "scene.tif"), model=Counting(fail))
    with pytest.warns(RemoteSAMWarning) as told:
        job.run(on_error="skip")
    assert "SECRET" not in " ".join(job.failures()["cause"]) + " ".join(str(each.message) for each in told)
    everything = b"".join(path.read_bytes() for path in job.folder.rglob("*") if path.is_file())
    assert b"SECRET" not in everything
