"""Plans of job folders that somebody else wrote: whatever they say, they are understood or refused."""

import copy
import json
import shutil
import warnings

import numpy as np
import pytest

from remotesam_geo import Job
from remotesam_geo.errors import RemoteSAMWarning
from tests.campaign import CASES
from tests.colours import Colours
from tests.job.job_folder import make_job, write_raster
from tests.job.test_job_models import sealed

ODD = (
    None, True, False, 0, -1, 3, 1 << 40, 0.5, -2.5, float("nan"), float("inf"), "", "x", "os:abort", "/etc/passwd",
    "../..",     "file:///etc/passwd", "http://127.0.0.1/x", "EPSG:0", [], [1], ["a"], {}, {"a": 1}, "\x00", "é" * 100,
)  # fmt: skip


def places(doc, path=()):
    """The way to every value of a document."""
    yield path
    pairs = doc.items() if isinstance(doc, dict) else enumerate(doc) if isinstance(doc, list) else ()
    for key, value in pairs:
        yield from places(value, (*path, key))


def changed(doc, path, random):
    """Change, remove or double the value at a place."""
    owner = doc
    for key in path[:-1]:
        owner = owner[key]
    how = random.integers(10)
    if how == 0 and isinstance(owner, dict):
        owner.pop(path[-1])
    elif how == 1 and isinstance(owner, list):
        owner.append(copy.deepcopy(owner[path[-1]]))
    else:
        owner[path[-1]] = copy.deepcopy(ODD[random.integers(len(ODD))])


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    raster = write_raster(folder / "scene.tif", shape=(60, 60))
    made = make_job(folder / "job", raster, prompts=("red",))
    made.run()
    made.answer()
    return made


def test_a_plan_of_anybody_is_understood_or_refused(tmp_path, job, campaign):
    counted = campaign("job folders", "values of plan.json changed, removed and doubled, with hashes that fit")
    expected = job.answer()
    doc = json.loads((job.folder / "plan.json").read_text())
    ways = [path for path in places(doc) if path and path[0] != "seal"]
    random = np.random.default_rng(5)
    place = tmp_path / "job"
    shutil.copytree(job.folder, place)
    for _ in range(CASES):
        for name in ("plan.json", "ledger.sqlite"):
            shutil.copy(job.folder / name, place / name)
        path = ways[random.integers(len(ways))]
        sealed(place, lambda doc, path=path: changed(doc, path, random))

        def opened():
            found = Job.open(place)
            repr(found), found.status(), found.failures()
            found.estimate(measure=False)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RemoteSAMWarning)
                answer = found.answer()
            kept = [prompt for prompt in found.prompts if prompt == job.prompts[0]]
            if found.frozen.digest == job.frozen.digest and len(kept) == len(found.prompts) == 1:
                assert answer.equals(expected)

        counted.case(opened)
    shutil.copy(job.folder / "plan.json", place / "plan.json")
    assert Job.open(place, model=Colours()).run()["waiting"].eq(0).all()
