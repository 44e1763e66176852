"""A job as its users meet it: made, run, answered, added to, found again, refused."""

import json
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pytest
import shapely
import xarray as xr
from geopandas.testing import assert_geodataframe_equal

from remotesam_geo import RemoteSAM, load, open_raster
from remotesam_geo.errors import InputError, JobError, RemoteSAMWarning
from remotesam_geo.job import Job
from remotesam_geo.scenes import ReadPolicy, Trust
from tests.colours import Colours, Counting
from tests.job.job_folder import make_job, write_raster
from tests.net.fault_server import FaultServer

PROMPTS = {"red": "red things", "green": "green things"}


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    return write_raster(tmp_path_factory.mktemp("raster") / "blobs.tif")


@pytest.fixture(scope="module")
def direct(raster):
    """What the verbs of RemoteSAM answer without a job."""
    model, scene = RemoteSAM(Colours()), open_raster(raster)
    quiet = {"progress": False}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*fill a window", RemoteSAMWarning)
        return _directly(model, scene, quiet)


def _directly(model, scene, quiet):
    return {
        "segment": model.segment(scene, PROMPTS, **quiet),
        "detect": model.detect(scene, PROMPTS, **quiet),
        "oriented": model.detect(scene, PROMPTS, oriented=True, **quiet),
        "low": model.segment(scene, PROMPTS, threshold=0.25, **quiet),
        "blend": model.segment(scene, PROMPTS, seam="blend", overlap=0.5, **quiet),
        "coarse": model.segment(scene, PROMPTS, resolution={"green": 3}, **quiet),
    }


def same(found, expected):
    assert_geodataframe_equal(found, expected)


def files(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))


@pytest.mark.parametrize("keep", [True, False])
def test_a_job_answers_as_the_verbs_do(tmp_path, raster, direct, keep):
    job = make_job(tmp_path / "job", raster, keep_probabilities=keep)
    assert job.status()["waiting"].eq(job.status()["total"]).all()
    table = job.run()
    assert table["waiting"].eq(0).all()
    assert table["empty"].gt(0).all()
    same(job.answer("segment"), direct["segment"])
    with pytest.warns(RemoteSAMWarning, match="fill a window of 32 m"):
        same(job.answer("detect"), direct["detect"])
    with pytest.warns(RemoteSAMWarning, match="fill a window of 32 m"):
        same(job.answer("detect", oriented=True), direct["oriented"])
    assert (tmp_path / "job" / "probabilities.zarr").exists() is keep
    with pytest.raises(InputError, match="'nonsense' is no CRS that PROJ knows"):
        job.answer(crs="nonsense")
    if not keep:
        with pytest.raises(JobError, match="keeps no probabilities"):
            job.answer("segment", threshold=0.25)


@pytest.mark.parametrize("keep", [True, False])
def test_windows_blend_and_resolutions_differ_as_without_a_job(tmp_path, raster, direct, keep):
    blend = make_job(tmp_path / "a", raster, seam="blend", overlap=0.5, keep_probabilities=keep)
    blend.run()
    same(blend.answer(), direct["blend"])
    coarse = make_job(tmp_path / "b", raster, resolution={"green": 3}, keep_probabilities=keep)
    coarse.run()
    same(coarse.answer(), direct["coarse"])


@pytest.mark.parametrize("seam", ["paste", "blend"])
def test_only_an_area_of_interest_is_asked(tmp_path, raster, seam):
    corner = gpd.GeoSeries([shapely.box(500090, 4999900, 500140, 4999940)], crs=32633)
    model = Counting()
    job = make_job(tmp_path / "job", raster, geometry=corner, seam=seam, model=model)
    expected = RemoteSAM(Colours()).segment(open_raster(raster), PROMPTS, geometry=corner, seam=seam, progress=False)
    told = job.estimate(measure=False)
    assert 0 < told.windows < 30
    assert len(told.footprints) == told.windows
    job.run()
    assert len(model.asked) == told.windows
    assert job.status()["total"].eq(told.windows).all()
    same(job.answer(), expected)
    (tmp_path / "job" / "ledger.sqlite").unlink()
    with pytest.raises(JobError, match=r"area.*there"):
        make_job(tmp_path / "job", raster, seam=seam)
    make_job(tmp_path / "job", raster, geometry=corner, seam=seam, model=model).run()
    same(job.answer(), expected)


def test_features_are_drawn_and_chosen_as_by_the_verbs(tmp_path, raster):
    job, model = make_job(tmp_path, raster), RemoteSAM(Colours())
    job.run()
    for options in (
        {"min_area": 200, "simplify": 2.0, "smooth": 1},
        {"parts": "blocks", "min_score": 0.6, "crs": "EPSG:4326"},
        {"suppress": "enclosed"},
    ):
        expected = model.segment(open_raster(raster), PROMPTS, progress=False, **options)
        found = job.answer(**options)
        if "parts" in options:  # blocks are of other sizes: what is cut differs, not what it adds up to
            found, expected = (table.drop_duplicates("id").drop(columns="geometry") for table in (found, expected))
            pd.testing.assert_frame_equal(
                found.reset_index(drop=True),
                expected.reset_index(drop=True),
            )
        else:
            same(found, expected)


def test_another_threshold_is_answered_without_the_model(tmp_path, raster, direct):
    make_job(tmp_path / "job", raster).run()
    job = Job.open(tmp_path / "job")  # the model is not opened
    same(job.answer("segment", threshold=0.25), direct["low"])
    mixed = job.answer("segment", threshold={"green": 0.25})
    assert (mixed.label == "red").sum() == (direct["segment"].label == "red").sum()
    assert (mixed.label == "green").sum() == (direct["low"].label == "green").sum()
    with pytest.raises(InputError, match="blue"):
        job.answer(threshold={"blue": 0.5})
    with pytest.raises(InputError, match="count"):
        job.answer("count")


def test_the_maps_are_one_lazy_array_that_every_verb_takes(tmp_path, raster, direct):
    job = make_job(tmp_path / "job", raster)
    with pytest.raises(JobError, match="not predicted yet"):
        job.probabilities()
    job.run()
    model = RemoteSAM(Colours())
    expected = model.probabilities(open_raster(raster), PROMPTS)
    found = job.probabilities()
    xr.testing.assert_equal(found.compute(), expected.compute())
    assert found.encoding == expected.encoding
    counted = RemoteSAM(Colours()).count(found, progress=False)
    assert counted["count"].sum() == len(direct["segment"])
    same(
        model.segment(found, progress=False).drop(columns="items"),
        direct["segment"].drop(columns="items"),
    )
    two = make_job(tmp_path / "two", raster, resolution={"green": 3})
    with pytest.raises(InputError, match="native, 3"):
        two.probabilities()


def test_a_prompt_that_is_added_is_asked_alone(tmp_path, raster, direct):
    job = make_job(tmp_path / "job", raster, prompts=("red",), model=Counting())
    job.run()
    model = Counting()
    job = Job.open(tmp_path / "job", model=model)
    job.add({"green": "green things"}, threshold=0.5)
    with pytest.warns(RemoteSAMWarning, match=r"left out: 'green' \(30 of 30 windows"):
        complete = job.answer()
    assert set(complete.label) == {"red"}
    job.run()
    assert {expressions for _, expressions in model.asked} == {("green things",)}
    same(job.answer(), direct["segment"])
    with pytest.raises(JobError, match="the job has another prompt"):
        job.add({"green": "the green ones"})
    assert [prompt.label for prompt in Job.open(tmp_path / "job").prompts] == ["red", "green"]


def test_a_script_that_is_run_again_goes_on(tmp_path, raster):
    make_job(tmp_path / "job", raster, prompts=("red",), model=Counting()).run()
    model = Counting()
    job = make_job(tmp_path / "job", raster, model=model)
    job.run()
    assert {expressions for _, expressions in model.asked} == {("green things",)}
    again = Counting()
    make_job(tmp_path / "job", raster, model=again).run()
    assert not again.asked


def test_another_plan_in_the_same_folder_is_refused_and_told_apart(tmp_path, raster):
    folder = tmp_path / "job"
    make_job(folder, raster)
    before = files(folder), (folder / "plan.json").read_bytes()
    with pytest.raises(JobError, match="overlap is 8 there, 16 here"):
        make_job(folder, raster, overlap=0.5)
    with pytest.raises(JobError, match=r'seam is "blend" there, "paste" here'):
        make_job(folder, raster, seam="paste")
    with pytest.raises(JobError, match=r"source.stretch"):
        make_job(folder, raster, stretch=(0, 100))
    with pytest.raises(JobError, match=r"source.recipe.layers\[0\]"):
        make_job(folder, write_raster(tmp_path / "other.tif", seed=1))
    other = Colours()
    other.identity = "others"
    with pytest.raises(JobError, match=r'weights.identity is "colours" there, "others" here'):
        make_job(folder, raster, model=other)
    with pytest.raises(JobError, match=r"weights.identity"):
        Job.open(folder, model=other)
    assert (files(folder), (folder / "plan.json").read_bytes()) == before


def test_a_plan_that_was_changed_is_refused(tmp_path, raster):
    make_job(tmp_path, raster)
    path = tmp_path / "plan.json"
    path.write_text(path.read_text().replace('"overlap": 8', '"overlap": 4'))
    with pytest.raises(JobError, match="was changed"):
        Job.open(tmp_path)
    path.write_text("{}")
    with pytest.raises(JobError, match="cannot understand"):
        Job.open(tmp_path)
    with pytest.raises(JobError, match="holds no job"):
        Job.open(tmp_path / "nowhere")


def test_what_cannot_be_used_is_refused_before_anything_is_written(tmp_path, raster):
    scene, folder = open_raster(raster), tmp_path / "job"
    with pytest.raises(InputError, match="to_zarr"):
        Job.create(folder, scene * 2, "red", Colours())
    with pytest.raises(InputError, match="to_zarr"):
        Job.create(folder, scene["red"], "red", Colours())
    with pytest.raises(InputError, match="a job is"):
        Job.create(folder, 7, "red", Colours())
    with pytest.raises(InputError, match="model is 7"):
        Job.create(folder, scene, "red", 7)
    with pytest.raises(InputError, match="makes no model"):
        Job.create(folder, scene, "red", "tests.colours:Nothing")
    with pytest.raises(InputError, match="no prompt"):
        Job.create(folder, scene, [], Colours())
    with pytest.raises(InputError, match="overlap"):
        Job.create(folder, scene, "red", Colours(), overlap=0.9)
    with pytest.raises(InputError, match="no Zarr store"):
        Job.create(folder, tmp_path / "no.zarr", "red", Colours())
    assert not folder.exists()
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(JobError, match="other things"):
        Job.create(folder, scene, "red", Colours())
    assert (folder / "thesis.txt").read_text() == "mine"


def test_a_changed_scene_is_kept_in_zarr_and_used_from_there(tmp_path, raster):
    scene = open_raster(raster)
    changed = scene[["red", "green", "blue"]].isel(y=slice(10, 100)).clip(30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr has no stable form of text
        changed.to_zarr(tmp_path / "scene.zarr", consolidated=False)
    quiet = {"progress": False}
    expected = RemoteSAM(Colours()).segment(changed.compute(), PROMPTS, **quiet)
    job = Job.create(tmp_path / "job", tmp_path / "scene.zarr", PROMPTS, Colours(), block=2)
    job.run()
    same(job.answer(), expected)
    other = changed.isel(y=slice(50)).drop_vars("items")
    other.to_zarr(tmp_path / "scene.zarr", mode="w", consolidated=False)
    with pytest.raises(JobError, match=r"source.digest"):
        Job.create(tmp_path / "job", tmp_path / "scene.zarr", PROMPTS, Colours(), block=2)


def test_items_are_loaded_and_each_time_is_answered(tmp_path):
    items = []
    for index, date in enumerate(("2021-05-01", "2022-05-01")):
        path = write_raster(tmp_path / f"{index}.tif", seed=index)
        items.append(
            {
                "id": f"item{index}",
                "properties": {
                    "datetime": f"{date}T10:00:00Z", "proj:epsg": 32633, "proj:shape": [110, 150],
                    "proj:transform": [1, 0, 500000, 0, -1, 5000000],
                },
                "assets": {"visual": {
                    "href": str(path), "data_type": "uint8",
                    "bands": [{"name": name, "nodata": 0, "data_type": "uint8"} for name in ("red", "green", "blue")],
                }},
            }
        )  # fmt: skip
    arguments = {"bands": ["red", "green", "blue"]}
    expected = RemoteSAM(Colours()).segment(load(items, **arguments), PROMPTS, progress=False)
    job = Job.create(tmp_path / "job", items, PROMPTS, Colours(), load=arguments, block=2)
    job.run()
    same(job.answer(), expected)
    assert set(job.answer()["items"]) == {"item0", "item1"}
    with pytest.raises(TypeError, match="resolutoin"):
        Job.create(tmp_path / "b", items, PROMPTS, Colours(), load={"resolutoin": 1})


def test_only_one_driver_works_at_a_time(tmp_path, raster):
    job = make_job(tmp_path, raster)
    before = files(tmp_path)
    holder = (
        "import sys; from pathlib import Path; from remotesam_geo.job.storage.ledger import lock\n"
        f"with lock(Path({str(tmp_path)!r})): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        named = f"process {other.pid} on {socket.gethostname()}"
        for verb in (
            job.run,
            job.answer,
            lambda: job.add("blue"),
            lambda: make_job(tmp_path, raster),
        ):
            with pytest.raises(JobError, match=named):
                verb()
        job.status()  # looking is free
        other.kill()
    assert files(tmp_path) == sorted([*before, Path("lock")])
    with pytest.warns(RemoteSAMWarning, match=f"taking over .* from {named}"):
        job.run()
    (tmp_path / "lock").write_text(json.dumps({"host": "elsewhere", "process": 7}))
    with pytest.raises(JobError, match=r"process 7 on elsewhere.*delete"):
        job.run()


def test_a_dry_run_tells_what_it_takes_and_where(tmp_path, raster):
    job = make_job(tmp_path, raster, resolution={"green": 3})
    before = files(tmp_path)
    told = job.estimate()
    assert told.windows == told.predictions == 30 + 4
    assert told.pixels == 110 * 150 + 37 * 51
    assert told.seconds > 0
    assert job.estimate(measure=False).seconds is None
    assert "34 windows" in repr(told)
    footprints = told.footprints
    assert footprints.crs == "EPSG:32633"
    for _, part in footprints.groupby("resolution"):
        assert part.union_all().area == pytest.approx(part.area.sum())
        assert part.area.sum() == pytest.approx(110 * 150, rel=0.05)
    assert files(tmp_path) == before


def test_a_job_says_how_far_it_is(tmp_path, raster):
    job = make_job(tmp_path, raster)
    assert "red, green; 0 of 60 answered" in repr(job)
    job.run()
    assert "60 of 60 answered" in repr(job)
    assert job.failures().empty
    assert job.failures().crs == "EPSG:32633"
    assert isinstance(job.status(), pd.DataFrame)


def test_parts_open_anywhere_and_nothing_is_unpickled(tmp_path, raster, monkeypatch):
    job = make_job(tmp_path, raster)
    job.run()
    job.answer()
    parts = sorted((tmp_path / "parts").rglob("*.parquet"))
    assert len(parts) == 2 * 9
    tables = [gpd.read_parquet(path) for path in parts]
    assert all(table.crs == "EPSG:32633" for table in tables)
    found = job.answer()
    assert sum(table.area.sum() for table in tables) == pytest.approx(found.area.sum())

    def refuse(*given, **named):
        pytest.fail("unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(f"pickle.{name}", refuse)
    same(Job.open(tmp_path).answer(), found)


def test_a_stretch_is_measured_once(tmp_path, raster):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RemoteSAMWarning)
        job = make_job(tmp_path, raster, stretch="percentiles")
    assert json.loads(job.frozen.origin.stretch)["of"] == "values"
    job.run()
    limits = job.frozen.origin.stretch
    expected = RemoteSAM(Colours()).segment(open_raster(raster), PROMPTS, stretch=limits, progress=False)
    same(job.answer(), expected)


def test_a_job_with_a_network_finds_its_weights_again(tmp_path):
    raster = write_raster(tmp_path / "small.tif", shape=(60, 60))
    with pytest.raises(InputError, match="cut"):
        Job.create(tmp_path / "job", open_raster(raster).isel(x=slice(0, 50)), "ship", "tiny")
    Job.create(tmp_path / "job", raster, ["ship"], "tiny", block=1).run()
    found = Job.open(tmp_path / "job")
    found.add("tree")
    assert found.run()["waiting"].eq(0).all()
    direct = RemoteSAM.from_pretrained("tiny").segment(raster, ["ship", "tree"], progress=False)
    same(found.answer(), direct)


@pytest.mark.server
def test_a_job_over_a_remote_file_reads_little_more_than_once(tmp_path):
    path = write_raster(tmp_path / "remote.tif", shape=(640, 640))
    with FaultServer() as server:
        server.files["/remote.tif"] = path.read_bytes()
        # A cache much smaller than the file: what was read is not simply kept.
        trust, size = Trust(hosts=("127.0.0.1",)), path.stat().st_size
        scenes = [
            open_raster(f"{server.url}/remote.tif", policy=ReadPolicy(trust=trust, cache_bytes=bytes_kept))
            for bytes_kept in (size, size // 3)
        ]
        server.forget()
        scenes[0].compute()
        once = server.bytes_sent
        server.forget()
        job = Job.create(tmp_path / "job", scenes[1], {"red": "red things"}, Colours(), block=4)
        job.run()
        assert once > size / 2
        assert server.bytes_sent <= 1.25 * once
