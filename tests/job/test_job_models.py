"""The models of jobs: objects, names and registered ones; and what a file must never be able to do."""

import contextlib
import json
import sys
from importlib.metadata import EntryPoint

import pytest

from remotesam_geo import Job, open_raster
from remotesam_geo.cli import main
from remotesam_geo.errors import InputError, JobError, ModelError
from remotesam_geo.predictors import names
from tests.colours import Colours, Counting
from tests.job.job_folder import make_job, write_raster

PROMPTS = {"red": "red things"}


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    return write_raster(tmp_path_factory.mktemp("raster") / "blobs.tif", shape=(60, 60))


@pytest.fixture
def registered(monkeypatch):
    """Registers models as installed packages do."""
    known = {}

    def points(*, group, name):
        assert group == "remotesam_geo.predictors"
        return [EntryPoint(name, value, group) for value in known.get(name, [])]

    monkeypatch.setattr(names, "entry_points", points)
    return known


def test_a_registered_model_is_known_in_jobs_files_and_on_the_command_line(tmp_path, raster, registered, capsys):
    registered["colours"] = ["tests.colours:Colours"]
    job = Job.create(tmp_path / "a", raster, PROMPTS, "colours", block=2)
    job.run()
    found = Job.open(tmp_path / "a")
    found.add({"green": "green things"})
    assert found.run()["waiting"].eq(0).all()
    (tmp_path / "job.yaml").write_text(f"source: {raster}\nprompts: {{red: red things}}\nmodel: colours\n")
    assert main(["map", str(tmp_path / "b"), "--config", str(tmp_path / "job.yaml")]) == 0
    assert main(["map", str(tmp_path / "b"), "--add", "green=green things", "--threshold", "0.5"]) == 0
    expected = Job.open(tmp_path / "b").answer()
    assert found.answer().equals(expected)
    assert main(["segment", str(raster), "red=red things", "--model", "colours"]) == 0
    capsys.readouterr()

    registered["colours"] = ["tests.colours:Other", "tests.colours:Colours"]
    with pytest.raises(ModelError, match=r"several installed packages register a model 'colours'"):
        Job.create(tmp_path / "c", raster, PROMPTS, "colours")
    registered["colours"] = ["tests.colours:Nothing"]
    with pytest.raises(ModelError, match="cannot be made: AttributeError"):
        Job.create(tmp_path / "c", raster, PROMPTS, "colours")
    registered["colours"] = ["json:JSONDecoder"]
    with pytest.raises(ModelError, match="of type JSONDecoder, which has no image_size"):
        Job.create(tmp_path / "c", raster, PROMPTS, "colours")
    registered.clear()
    again = Job.open(tmp_path / "a")
    assert len(again.answer())
    again.add({"blue": "blue things"})
    with pytest.raises(ModelError, match="no installed package registers a model 'colours'"):
        again.run()
    registered["colours"] = ["tests.colours:Counting"]
    Counting.identity, before = "another", Counting.identity
    try:
        with pytest.raises(ModelError, match="is now 'another'"):
            Job.open(tmp_path / "a").run()
    finally:
        Counting.identity = before
    assert not (tmp_path / "c").exists()


CODE = ["os:abort", "tests.colours:Colours", "builtins:exit", "subprocess:run", "a.b.c:d"]


@pytest.mark.parametrize("name", CODE)
def test_a_name_of_code_is_refused_from_files_and_the_command_line(tmp_path, raster, name, capsys):
    modules = set(sys.modules)
    config = tmp_path / "job.yaml"
    config.write_text(f"source: {raster}\nprompts: [red things]\nmodel: '{name}'\n")
    for words in (
        ["map", str(tmp_path / "job"), "--config", str(config)],
        ["map", str(tmp_path / "job"), str(raster), "red things", "--model", name],
        ["segment", str(raster), "red things", "--model", name],
        ["count", str(raster), "red things", "--model", name],
    ):
        assert main(words) == 1
        assert f"model {name!r} names Python code" in capsys.readouterr().err
    assert not (tmp_path / "job").exists()
    assert "a" not in set(sys.modules) - modules


def test_a_job_made_from_python_code_is_resumed_from_python_only(tmp_path, raster, capsys):
    job = Job.create(tmp_path / "job", raster, PROMPTS, "tests.colours:Colours")
    assert "tests.colours" not in (tmp_path / "job" / "plan.json").read_text()
    with pytest.raises(JobError, match=r"Job.open\(folder, model=\.\.\."):
        Job.open(tmp_path / "job").run()
    assert main(["map", str(tmp_path / "job")]) == 1
    assert "model=..." in capsys.readouterr().err
    assert Job.open(job.folder, model="tests.colours:Colours").run()["waiting"].eq(0).all()
    assert main(["map", str(tmp_path / "job")]) == 0  # nothing is left to do


def sealed(folder, change):
    """A plan that somebody else wrote: its hashes fit what it says."""
    from remotesam_geo.job.plan import Plan
    from remotesam_geo.job.storage.plan_file import _plan_seal

    path = folder / "plan.json"
    doc = json.loads(path.read_text())
    doc.pop("seal")
    change(doc)
    with contextlib.suppress(ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        doc["hash"] = Plan.from_json(doc["plan"]).digest
    doc["seal"] = _plan_seal(doc)
    path.write_text(json.dumps(doc))


@pytest.mark.parametrize("recipe", [
    {"network": {"source": "os:abort"}},
    {"network": "os:abort"},
    {"named": "os:abort"},
    {"registered": "os:abort"},
    {"registered": ["os:abort"]},
    "os:abort",
    ["os:abort"],
    {"network": {"source": "tiny", "revision": None, "weights": "00", "precision": "float32", "code": "os:abort"}},
    {"network": {"source": "tiny", "revision": 3, "weights": "00", "precision": "float32"}},
    {"network": {"source": "tiny", "revision": None, "weights": "00", "precision": "float64"}},
    {"network": {"source": "/nowhere/at:all", "revision": None, "weights": "00", "precision": "float32"}},
])  # fmt: skip
def test_a_hostile_plan_runs_nothing(tmp_path, raster, recipe, monkeypatch):
    import importlib

    job = Job.create(tmp_path, raster, PROMPTS, Colours())
    job.run()
    expected = job.answer()
    sealed(tmp_path, lambda doc: doc.update(model=recipe))
    monkeypatch.setattr(importlib, "import_module", lambda name: pytest.fail(f"imported {name}"))
    try:
        hostile = Job.open(tmp_path)
    except JobError:
        return
    assert hostile.answer().equals(expected)
    monkeypatch.undo()
    monkeypatch.setattr("os.abort", lambda: pytest.fail("called"))
    hostile.add({"green": "green field"})
    with pytest.raises((JobError, ModelError, InputError)):
        hostile.run()


@pytest.mark.cluster
def test_a_model_that_cannot_travel_costs_no_work(tmp_path, raster):
    class Local(Colours):
        def __init__(self):
            self.lock = open(raster, "rb")  # noqa: PTH123, SIM115 - nobody can pickle it

    from types import SimpleNamespace

    job = make_job(tmp_path, raster, prompts=("red",), model=Local())
    with pytest.raises(ModelError, match=r"cannot be pickled.*run\(\) without a client"):
        job.run(SimpleNamespace(asynchronous=False))
    assert job.status()["waiting"].equals(job.status()["total"])
    assert job.run()["waiting"].eq(0).all()
    job._model.model.lock.close()


def test_an_object_travels_once_and_opens_once(raster, tmp_path):
    from remotesam_geo.job.distributed import _open_model

    job = Job.create(tmp_path, open_raster(raster), PROMPTS, Colours())
    one, other = job._model.for_workers(), job._model.for_workers()
    assert one == other
    assert hash(one) == hash(other)
    assert _open_model(one) is _open_model(other)
