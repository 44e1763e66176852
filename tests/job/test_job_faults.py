"""Whatever goes wrong, a job that is run again ends as one that nothing happened to."""

import asyncio
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from geopandas.testing import assert_geodataframe_equal

from remotesam_geo import Job, RemoteSAM, open_probabilities, save
from remotesam_geo.errors import JobError, ReadError, RemoteSAMWarning
from remotesam_geo.job.source_recipe import RecipeSource
from remotesam_geo.job.storage import map_store as store
from tests.colours import Colours, Counting
from tests.job.job_folder import make_job, write_raster

RUN = """
from remotesam_geo import Job
from remotesam_geo.job.storage import ledger

ledger.SOON = 0  # each block is entered at once
Job.open({folder!r}, model="tests.colours:Killing").run(progress=False)
"""


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    return write_raster(tmp_path_factory.mktemp("raster") / "blobs.tif", shape=(120, 120))


@pytest.fixture(scope="module")
def clean(tmp_path_factory, raster):
    """A job that nothing happened to."""
    job = make_job(tmp_path_factory.mktemp("clean"), raster)
    job.run()
    return job


def is_whole(job, clean):
    """The same answer as of a clean run, every window accounted for once."""
    table = job.status()
    assert table.equals(clean.status())
    assert_geodataframe_equal(job.answer(), clean.answer())


def test_a_driver_that_is_killed_is_taken_over(tmp_path, raster, clean):
    """In a process of its own; `test_job_folders` kills forked ones at many more moments."""
    job = make_job(tmp_path, raster)
    with pytest.raises(subprocess.CalledProcessError) as killed:
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", RUN.format(folder=str(tmp_path))],
            env=os.environ | {"REMOTESAM_KILL": str(tmp_path)}, check=True, capture_output=True,
        )  # fmt: skip
    assert killed.value.returncode == -signal.SIGKILL
    table = job.status()
    assert (table[["done", "empty", "waiting"]].sum(axis=1) == table["total"]).all()
    assert 0 < table["done"].sum() < table["total"].sum()
    with pytest.warns(RemoteSAMWarning, match="taking over"):
        job.run()
    is_whole(job, clean)


@pytest.mark.parametrize("kind", [RuntimeError, MemoryError, KeyboardInterrupt, SystemError])
def test_a_predictor_that_raises_costs_no_more_than_its_block(tmp_path, raster, clean, kind):
    def fail(count, images):
        if count == 9:
            raise kind("out of memory")

    first = Counting(fail)
    job = make_job(tmp_path / "job", raster, model=first)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(kind):
            job.run()
    resume = r"of \d+ windows x prompts are stored\. To go on: Job\.open\('.*', model=\.\.\.\)\.run\(\)"
    stopped = [each for each in told if re.search(resume, str(each.message))]
    assert len(stopped) == (kind is KeyboardInterrupt)
    assert not [thread for thread in threading.enumerate() if thread.name == "remotesam"]
    second, whole = Counting(), Counting()
    job = make_job(tmp_path / "job", raster, model=second)
    job.run()
    is_whole(job, clean)
    make_job(tmp_path / "whole", raster, model=whole).run()
    assert len(first.asked) == 9
    assert {*first.asked, *second.asked} == {*whole.asked}
    assert len(second.asked) <= len(whole.asked)
    assert len(first.asked) + len(second.asked) - len(whole.asked) <= 9


def break_a_sector(monkeypatch):
    """One pixel cannot be read any more; gives the read that could."""
    read = RecipeSource.read

    def broken(self, box, date):
        if box.top <= 60 < box.bottom and box.left <= 70 < box.right:
            raise ReadError("a bad sector")
        return read(self, box, date)

    monkeypatch.setattr(RecipeSource, "read", broken)
    return read


def test_a_place_that_cannot_be_read_is_noted_retried_and_heals(tmp_path, raster, clean, monkeypatch):
    read = break_a_sector(monkeypatch)
    job = make_job(tmp_path, raster)
    with pytest.raises(ReadError, match="a bad sector"):
        job.run()
    with pytest.warns(RemoteSAMWarning, match=r"failures\(\) lists them"):
        table = job.run(on_error="skip")
    assert (table.drop(columns="total").sum(axis=1) == table["total"]).all()
    failures = job.failures()
    assert table["failed"].tolist() == [len(failures)] * 2
    assert set(failures["cause"]) == {"a bad sector"}
    assert set(failures["label"]) == {"red, green"}
    with pytest.warns(RemoteSAMWarning, match="m2 of ground without an answer"):
        partial = job.answer()
    assert partial.area.sum() < clean.answer().area.sum()

    for _ in range(4):
        with pytest.warns(RemoteSAMWarning):
            table = job.retry_failures()
    assert (table["given_up"] == len(failures)).all()
    assert (job.failures()["attempts"] == 3).all()
    monkeypatch.setattr(RecipeSource, "read", read)
    with pytest.warns(RemoteSAMWarning):
        assert (job.retry_failures()["given_up"] > 0).all()  # those are left alone
    job.retry_failures(given_up=True)
    assert job.failures().empty
    is_whole(job, clean)


def test_zones_over_kept_maps_tell_what_failed_from_no_data(tmp_path, raster, monkeypatch):
    break_a_sector(monkeypatch)
    job = make_job(tmp_path / "job", raster, seam="paste")
    with pytest.warns(RemoteSAMWarning):
        job.run(on_error="skip")
    lost = job.failures().union_all()
    with pytest.warns(RemoteSAMWarning, match="m2 of ground without an answer"):
        maps = job.probabilities()
    model = RemoteSAM(Colours())
    left, bottom, right, top = lost.bounds
    zones = gpd.GeoDataFrame(
        geometry=[
            lost & shapely.box(left, bottom, (left + right) // 2, top),
            lost & shapely.box((left + right) // 2, bottom, right, top),
            shapely.box(500000, 4999960, 500040, 5000000),  # the corner without data
        ],
        crs=job.failures().crs,
    )
    save(maps, tmp_path / "maps.zarr")
    parts = {
        "held": (maps, 1.0),
        "computed": (maps.compute(), 1.0),
        "saved": (open_probabilities(tmp_path / "maps.zarr"), 1.0),
        "cut": (maps[:, 40:, 30:], 1.0),
        "on another grid": (maps.coarsen(x=2, y=2, boundary="trim").mean(), 0.0),  # forgotten
    }
    for name, (part, share) in parts.items():
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            table = model.count(part, zones=zones.iloc[:2], progress=False)
            nothing = model.count(maps, zones=zones.iloc[2:], progress=False)
        assert table["failed_fraction"].tolist() == [share] * 4, name
        assert (nothing["failed_fraction"] == 0).all()
        assert any("bad sector" in str(each.message) for each in told), name
    asked = json.loads(table.attrs["remotesam"])["asked"]
    assert asked[0]["failures"] == []


@pytest.mark.parametrize("seam", ["paste", "blend"])
def test_one_window_that_fails_is_told_from_the_others(tmp_path, raster, seam):
    whole = make_job(tmp_path / "whole", raster, seam=seam, overlap=0.5)
    whole.run()

    def fail(count, images):
        if count < 60 and (images[0, 0, 0] == images[0, 5, 5]).all() and count % 7 == 3:
            raise RuntimeError("a bad day")

    job = make_job(tmp_path / "job", raster, seam=seam, overlap=0.5, model=Counting(fail))
    with pytest.warns(RemoteSAMWarning):
        job.run(on_error="skip")
    assert len(job.failures()) > 0
    job = make_job(tmp_path / "job", raster, seam=seam, overlap=0.5, model=Counting())
    job.retry_failures()
    assert job.failures().empty
    is_whole(job, whole)


@pytest.mark.parametrize("case", [(True, 0), (True, 5), (False, 0), (False, 5)])
def test_a_full_disk_ends_a_run_and_loses_nothing(tmp_path, raster, clean, monkeypatch, case):
    keep, after = case
    written, write = [], store.write_file

    def full(path, data):
        written.append(path)
        if len(written) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, data)

    job = make_job(tmp_path, raster, keep_probabilities=keep)
    monkeypatch.setattr(store, "write_file", full)
    with pytest.raises(JobError, match=r"No space left.*run again"):
        job.run()
    monkeypatch.setattr(store, "write_file", write)
    job.run()
    if keep:
        is_whole(job, clean)
    assert job.answer().area.sum() == clean.answer().area.sum()


def test_a_ledger_that_was_lost_is_made_again(tmp_path, raster, clean):
    job = make_job(tmp_path, raster)
    job.run()
    (tmp_path / "ledger.sqlite").unlink()
    model = Counting()
    job = make_job(tmp_path, raster, model=model)
    job.run()
    assert not model.asked
    is_whole(job, clean)
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database, but long enough to be one" * 99)
    with pytest.raises(JobError, match=r"run\(\) sets it aside"):
        job.status()
    with pytest.warns(RemoteSAMWarning, match=r"set aside as .*ledger\.sqlite\.damaged"):
        job.run()
    assert not model.asked
    is_whole(job, clean)


def test_a_ledger_of_parts_that_was_lost_is_made_again(tmp_path, raster, clean):
    make_job(tmp_path, raster, keep_probabilities=False).run()
    (tmp_path / "ledger.sqlite").unlink()
    model = Counting()
    job = make_job(tmp_path, raster, keep_probabilities=False, model=model)
    job.run()
    assert not model.asked
    assert job.status().equals(clean.status())
    assert job.answer().area.sum() == clean.answer().area.sum()


def test_what_the_disk_changed_is_noticed_and_made_again(tmp_path, raster, clean):
    job = make_job(tmp_path, raster)
    job.run()
    chunks = sorted(path for path in (tmp_path / "probabilities.zarr").rglob("c/*/*/*/0/0"))
    chunks[3].write_bytes(chunks[4].read_bytes())
    with pytest.raises(JobError, match=f"1 stored files are damaged.*{chunks[3]}"):
        job.answer()
    assert job.status()["waiting"].sum() == 4  # the windows of one block
    model = Counting()
    job = make_job(tmp_path, raster, model=model)
    job.run()
    assert 0 < len(model.asked) <= 12  # a block of four windows, and those around it to blend with
    is_whole(job, clean)
    chunks[3].write_bytes(b"junk")
    chunks[5].unlink()
    with pytest.raises(JobError, match="damaged: the file is missing"):
        job.probabilities().compute()
    with pytest.warns(RemoteSAMWarning, match="2 stored files are damaged or missing"):
        job.run()
    is_whole(job, clean)
    for part in (tmp_path / "parts").rglob("*.parquet"):
        part.write_bytes(part.read_bytes()[:100])
    is_whole(job, clean)


@pytest.fixture
def interruptible():
    """What was started in the background ignores interrupts, unless told otherwise."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_a_run_though_a_server_is_silent(tmp_path, raster, clean, monkeypatch):
    reading, silence = threading.Event(), threading.Event()
    read = RecipeSource.read

    def silent(self, box, date):
        reading.set()
        assert silence.wait(60)
        return read(self, box, date)

    def interrupt():
        assert reading.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(RecipeSource, "read", silent)
    job = make_job(tmp_path, raster)
    helper = threading.Thread(target=interrupt)
    helper.start()
    with (
        pytest.warns(RemoteSAMWarning, match="0 of 50 windows x prompts are stored"),
        pytest.raises(KeyboardInterrupt),
    ):
        job.run()
    helper.join()
    assert not silence.is_set()  # the read goes on waiting, the run did not wait for it
    silence.set()
    monkeypatch.setattr(RecipeSource, "read", read)
    job.run()
    is_whole(job, clean)


def test_a_job_runs_inside_an_event_loop(tmp_path, raster, clean):
    async def cell():
        job = make_job(tmp_path, raster)
        job.run()
        return job

    is_whole(asyncio.run(cell()), clean)


@pytest.fixture
def read_only(raster):
    """A function that makes a folder read-only for this process, root or not."""
    changed = []

    def close(folder):
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
            changed.append(path)
        if os.geteuid() == 0:  # whom modes do not keep out
            for path in [raster, folder, *folder.parents, *raster.parents][:-1]:
                if path not in (Path("/"), Path("/tmp")):  # noqa: S108
                    path.chmod(path.stat().st_mode | 0o055)
            os.seteuid(65534)

    before = os.geteuid()
    yield close
    if before == 0:
        os.seteuid(0)
    for path in changed:
        if path.exists():
            path.chmod(0o755)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="modes of folders are those of POSIX systems")
@pytest.mark.parametrize("keep", [True, False])
def test_a_read_only_folder_answers(tmp_path, raster, clean, read_only, keep):
    job = make_job(tmp_path / "job", raster, keep_probabilities=keep)
    job.run()
    expected = job.answer(), job.status(), repr(job)
    maps = clean.probabilities().values
    if keep:
        shutil.rmtree(tmp_path / "job" / "parts")  # outlined in memory then
    before = sorted(path for path in tmp_path.rglob("*"))
    read_only(tmp_path / "job")
    found = Job.open(tmp_path / "job")
    assert_geodataframe_equal(found.answer(), expected[0])
    assert found.status().equals(expected[1])
    assert repr(found) == expected[2]
    if keep:
        low = found.answer(threshold=0.25)
        assert low.area.sum() > expected[0].area.sum()
        np.testing.assert_array_equal(found.probabilities().values, maps)
    for verb in (found.run, lambda: found.add("blue"), found.retry_failures):
        with pytest.raises(JobError, match="cannot write to"):
            verb()
    assert sorted(path for path in tmp_path.rglob("*")) == before
