"""Prompts of a job: removed, answered for as they are complete, tried without a trace; and what its options may be."""

import json
import shutil

import numpy as np
import pytest
import rasterio

from remotesam_geo import Job, open_raster
from remotesam_geo.errors import InputError, JobError, RemoteSAMWarning
from remotesam_geo.job import job as module
from remotesam_geo.job import remove_prompts as removing
from remotesam_geo.job.storage import plan_file
from remotesam_geo.job.storage.ledger import Ledger
from remotesam_geo.words import parse_prompts
from tests.colours import Colours, Counting
from tests.job.job_folder import make_job, write_raster


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    return write_raster(tmp_path_factory.mktemp("raster") / "blobs.tif")


def contents(folder):
    """Every file and folder, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def maps(job):
    return sorted(path.name for path in (job.folder / "probabilities.zarr").iterdir())


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ("car", {}, "does not know 'car'.*Did you mean 'vehicle'"),
        ("vehicle", {"resolution": 20}, "'vehicle' is typically 3 to 18 m long, less than 2"),
        (
            "building",
            {"resolution": 0.2},
            "resolution=0.2 of 'building' is finer than the scene, whose pixels measure 1 m",
        ),
    ],
)
def test_prompts_that_can_hardly_be_answered_warn_when_they_are_planned(tmp_path, raster, prompts, options, message):
    with pytest.warns(RemoteSAMWarning, match=message):
        Job.create(tmp_path / "job", open_raster(raster), prompts, "tiny", **options)
    other = Job.create(tmp_path / "other", open_raster(raster), "ship", "tiny")
    with pytest.warns(RemoteSAMWarning, match=message):
        other.add(prompts, **options)
    opened = Job.open(other.folder)
    opened.remove(prompts)
    with pytest.warns(RemoteSAMWarning, match=message):
        opened.add(prompts, **options)


def test_a_scene_without_a_valid_pixel_warns(tmp_path):
    raster = write_raster(tmp_path / "empty.tif")
    with rasterio.open(raster, "r+") as file:
        file.write(np.zeros_like(file.read()))
    job = make_job(tmp_path / "job", raster)
    job.run()
    with pytest.warns(RemoteSAMWarning, match="no pixel that was looked at is valid"):
        assert not len(job.answer())


@pytest.mark.parametrize("keep", [True, False])
def test_a_prompt_is_removed_with_what_is_stored_of_it(tmp_path, raster, keep):
    both = make_job(tmp_path / "both", raster, keep_probabilities=keep)
    both.run()
    both.answer()
    if keep:
        both.answer(threshold=0.25)
    one = make_job(tmp_path / "one", raster, prompts=("red",), keep_probabilities=keep)
    one.run()
    expected = one.answer()
    if keep:
        one.answer(threshold=0.25)
    both.remove("green")
    assert [prompt.label for prompt in both.prompts] == ["red"]
    job = Job.open(both.folder)
    assert job.status().equals(one.status())
    assert job.answer().equals(expected)
    folders = ["parts", "probabilities.zarr"] if keep else ["parts"]
    for name in folders:
        assert set(contents(job.folder / name)) == set(contents(one.folder / name))
    with job._records() as ours, one._records() as theirs:
        assert {key for key, own in ours.ledger._layers.items() if own} == set(theirs.ledger._layers)
    # Added again, it is predicted again, and nothing else.
    model = Counting()
    job = Job.open(both.folder, model=model)
    job.add({"green": "green things"})
    job.run()
    assert {expressions for _, expressions in model.asked} == {("green things",)}


def test_what_another_prompt_needs_is_kept(tmp_path, raster):
    prompts = {"red": "red things", "warm": ["red things", "green things"], "green": "green things"}
    job = Job.create(tmp_path, open_raster(raster), prompts, Counting(), block=2)
    job.run()
    before, found = maps(job), job.answer()
    job.remove(["red"])
    assert maps(job) == before
    model = Counting()
    again = Job.open(tmp_path, model=model)
    assert again.run()["waiting"].eq(0).all()
    assert not model.asked
    kept = found[found.label != "red"].reset_index(drop=True)
    assert again.answer().equals(kept)
    again.remove("warm")
    assert len(maps(again)) == 1


def test_removals_that_cannot_be_are_refused(tmp_path, raster):
    job = make_job(tmp_path, raster)
    job.run()
    before = contents(tmp_path)
    for labels, told in (
        ("gren", "did you mean 'green'"),
        ("Red", "did you mean 'red'"),
        (["red", "blue"], "no prompt 'blue'"),
        (["red", "green"], "without a prompt"),
        ([], "name one of 'red', 'green'"),
        ([3], "no prompt 3"),
    ):
        with pytest.raises(InputError, match=told):
            job.remove(labels)
    assert contents(tmp_path) == before
    assert len(job.prompts) == 2


@pytest.mark.parametrize("keep", [True, False])
def test_a_removal_that_is_killed_at_any_step_leaves_a_job_that_works(tmp_path, raster, keep, monkeypatch):
    class Killed(BaseException):
        pass

    steps = [
        (plan_file, "replace_file"),
        (removing.shutil, "rmtree"),
        (removing.Path, "rename"),
        (Ledger, "forget"),
    ]
    clean = make_job(tmp_path / "clean", raster, prompts=("red",), keep_probabilities=keep)
    clean.run()
    expected = clean.answer()
    whole = make_job(tmp_path / "whole", raster, keep_probabilities=keep)
    whole.run()
    whole.answer()
    number = 0
    ended = False
    while not ended:
        shutil.copytree(whole.folder, tmp_path / str(number))
        job = Job.open(tmp_path / str(number))
        left = [number]

        def killing(real, left=left):
            def step(*given, **named):
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
                return real(*given, **named)

            return step

        with monkeypatch.context() as patch:
            for place, name in steps:
                patch.setattr(place, name, killing(getattr(place, name)))
            try:
                job.remove("green")
                ended = True
            except Killed:
                pass
        opened = Job.open(job.folder, model=Colours())
        opened.run()
        if [prompt.label for prompt in opened.prompts] == ["red"]:
            assert opened.answer().equals(expected)
            opened.add({"green": "green things"}, threshold=0.5)
            opened.run()
        assert set(opened.answer().label) == {"red", "green"}
        assert opened.status()["waiting"].eq(0).all()
        number += 1
    assert number > 4


@pytest.mark.parametrize("keep", [True, False])
def test_answers_are_given_for_the_prompts_that_are_complete(tmp_path, raster, keep):
    def fail(count, images):
        if count >= 20:
            raise KeyboardInterrupt

    job = make_job(tmp_path, raster, prompts=("red",), keep_probabilities=keep)
    job.run()
    expected = job.answer()
    job = Job.open(tmp_path, model=Counting(fail))
    job.add({"green": "green things", "blue": "blue things"}, threshold=0.5)
    with pytest.warns(RemoteSAMWarning, match="stopped"), pytest.raises(KeyboardInterrupt):
        job.run()
    told = r"not complete are left out: 'green' \(\d+ of 30 .*'blue' \(\d+ of 30 .*run\(\).*remove\(\)"
    with pytest.warns(RemoteSAMWarning, match=told):
        found = job.answer()
    assert found.equals(expected)
    assert [each["label"] for each in json.loads(found.attrs["remotesam"])["asked"][0]["prompts"]] == ["red"]
    with pytest.warns(RemoteSAMWarning, match="answered as far as they are done: 'green'"):
        partial = job.answer(partial=True)
    assert set(partial.label) > {"red"}
    job.remove(["red", "blue"])
    with pytest.raises(JobError, match=r"no prompt is complete: 'green' \(.*run\(\).*partial=True"):
        job.answer()


def test_a_dry_run_leaves_no_trace(tmp_path, raster):
    job = make_job(tmp_path / "job", raster, dry_run=True)
    assert job.estimate().windows == 30
    assert not (tmp_path / "job").exists()
    job = make_job(tmp_path / "job", raster)
    job.run()
    before = contents(tmp_path)
    more = make_job(tmp_path / "job", raster, prompts=("red", "green", "blue"), dry_run=True)
    assert more.estimate(measure=False).predictions == 90
    opened = Job.open(tmp_path / "job", model=Colours())
    opened.add({"blue": "blue things"}, resolution=3, dry_run=True)
    assert opened.estimate().predictions == 60 + 4
    opened.remove("red", dry_run=True)
    assert opened.estimate(measure=False).predictions == 30 + 4
    with pytest.raises(InputError, match="no prompt 'red'"):
        opened.remove("red", dry_run=True)
    with pytest.raises(JobError, match="overlap is 8 there"):
        make_job(tmp_path / "job", raster, overlap=0.5, dry_run=True)
    assert contents(tmp_path) == before
    assert len(Job.open(tmp_path / "job").answer()) == len(job.answer())


NOT_NUMBERS = [float("nan"), float("inf"), -1, True, "0.5", None, [0.2]]
CREATE = {
    "seam": ["Blend", "", None, 1, "pasted"],
    "overlap": [*NOT_NUMBERS, 0.6],
    "block": [*NOT_NUMBERS, 0, 1.5, 10**9],
    "keep_probabilities": ["yes", 1, None],
    "refine": ["Contours", "", 1, True],
    "threshold": [float("nan"), -0.1, 1.1, True, "0.5", {"rot": 0.5}, {"red": None}],
    "resolution": [float("nan"), float("inf"), 0, -1, True, "Native", "3", {"rot": 3}],
    "load": ["latest", 3],
    "dry_run": ["yes", 1],
    "policy": ["patient", 3],
    "geometry": [3, "POINT", {"type": "Nothing"}],
}
ANSWER = {
    "verb": ["Segment", "count", "", None, 3],
    "oriented": ["yes", 1, None],
    "suppress": ["None", None, "inner"],
    "parts": ["Whole", None, 1],
    "partial": ["yes", 1, None],
    "progress": ["yes", 1],
    "min_score": [*NOT_NUMBERS, 1.5],
    "min_area": NOT_NUMBERS,
    "simplify": NOT_NUMBERS,
    "smooth": [*NOT_NUMBERS, 1.5, 10**6],
    "threshold": [float("nan"), -0.1, 1.1, True, "0.5", {"rot": 0.5}],
    "crs": ["EPSG:0", 3.5, "nonsense", object()],
}
RUN = {
    "client": ["tcp://here:1", 3],
    "on_error": ["Raise", None, "ignore", True],
    "progress": ["yes", 1],
}
RETRY = RUN | {"given_up": ["yes", 1, None]}


def each(table):
    return [(name, value) for name, values in table.items() for value in values]


@pytest.mark.parametrize(("name", "value"), each(CREATE))
def test_options_of_a_new_job_are_checked_before_anything_is_written(tmp_path, raster, name, value):
    with pytest.raises(InputError) as refused:
        make_job(tmp_path / "job", raster, **{name: value})
    assert name in str(refused.value) or repr(value) in str(refused.value) or "geometry" in str(refused.value)
    assert not (tmp_path / "job").exists()


@pytest.fixture(scope="module")
def done(tmp_path_factory, raster):
    job = make_job(tmp_path_factory.mktemp("done") / "job", raster)
    job.run()
    job.answer()
    return job


@pytest.mark.parametrize(("name", "value"), each(ANSWER))
def test_options_of_an_answer_are_checked(done, name, value):
    before = contents(done.folder)
    with pytest.raises(InputError, match=name):
        done.answer(**({"verb": "detect"} if name == "oriented" else {}) | {name: value})
    assert contents(done.folder) == before


def test_options_of_a_run_are_checked(done):
    for name, value in each(RUN):
        with pytest.raises(InputError, match=name):
            done.run(**{name: value})
    for name, value in each(RETRY):
        with pytest.raises(InputError, match=name):
            done.retry_failures(**{name: value})


def test_a_folder_and_a_measure_are_checked(done):
    for folder in (3, "", None):
        with pytest.raises(InputError, match="folder"):
            Job.open(folder)
    with pytest.raises(InputError, match="policy"):
        Job.open(done.folder, policy="patient")
    with pytest.raises(InputError, match="measure"):
        done.estimate(measure="yes")


def test_a_resumed_bar_starts_where_the_job_stands(tmp_path, raster, monkeypatch):
    bars = []

    class Bar:
        def __init__(self, **named):
            bars.append(named)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def update(self, count):
            bars[-1]["initial"] += count

    def fail(count, images):
        if count >= 10:
            raise RuntimeError("enough")

    monkeypatch.setattr(module, "tqdm", Bar)
    job = make_job(tmp_path, raster, model=Counting(fail), seam="paste", overlap=0)
    with pytest.raises(RuntimeError, match="enough"):
        job.run(progress=True)
    done = int(job.status()["total"].iloc[0] - job.status()["waiting"].iloc[0])
    assert 0 < done <= 10
    bars.clear()
    job = Job.open(tmp_path, model=Counting())
    started = []
    monkeypatch.setattr(module, "tqdm", lambda **named: started.append(dict(named)) or Bar(**named))
    job.run(progress=True)
    assert started[0]["initial"] == done
    assert started[0]["total"] == job.status()["total"].iloc[0]
    assert bars[0]["initial"] == started[0]["total"]


@pytest.mark.parametrize("verb", ["run", "retry_failures"])
def test_a_stopped_job_says_how_to_go_on(tmp_path, raster, monkeypatch, verb):
    def stop(*given, **named):
        raise KeyboardInterrupt

    job = make_job(tmp_path, raster)
    monkeypatch.setattr(module, "predict_here", stop)
    monkeypatch.setattr(module, "again", lambda *given: module.todo(*given[:2]))
    place, option = str(tmp_path), " --retry-failures" if verb == "retry_failures" else ""
    with pytest.warns(RemoteSAMWarning) as told, pytest.raises(KeyboardInterrupt):
        getattr(job, verb)()
    (text,) = [str(each.message) for each in told if each.category is RemoteSAMWarning]
    assert text == f"stopped: 0 of 60 windows x prompts are stored. To go on: Job.open({place!r}, model=...).{verb}()"
    monkeypatch.setattr(job, "_recipe", {"network": "one that plan.json names"})
    with pytest.warns(RemoteSAMWarning) as told, pytest.raises(KeyboardInterrupt):
        getattr(job, verb)()
    (text,) = [str(each.message) for each in told if each.category is RemoteSAMWarning]
    assert text.endswith(f"Job.open({place!r}).{verb}(), or: remotesam-geo map {place}{option}")


def test_prompts_of_a_plan_are_taken_as_they_are(tmp_path, raster):
    prompts = parse_prompts({"red": "red things"}, threshold=0.35)
    job = Job.create(tmp_path, open_raster(raster), prompts, Colours())
    assert Job.open(tmp_path).prompts == prompts == job.prompts
