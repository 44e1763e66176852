"""Jobs on a cluster: the same maps as here, whatever happens to the workers."""

import logging
import subprocess
import sys
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import dask
import pytest
from distributed import Client, LocalCluster
from geopandas.testing import assert_geodataframe_equal

from remotesam_geo import open_raster
from remotesam_geo.errors import InputError, JobError, ModelError, ReadError, RemoteSAMWarning
from remotesam_geo.job import Job
from remotesam_geo.job import distributed as asking
from remotesam_geo.job.predict_stage import todo
from remotesam_geo.job.storage.stored_layers import layers
from tests.colours import Colours, Deadly, Edges, Fatal
from tests.job.job_folder import make_job, write_raster

pytestmark = pytest.mark.cluster
PROMPTS = {"red": "red things", "green": "green things"}


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    return write_raster(tmp_path_factory.mktemp("raster") / "blobs.tif", shape=(100, 130))


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def lonely_worker(cluster):
    """A worker that nobody replaces."""
    return subprocess.Popen(
        [
            sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, "--no-nanny",
            "--nthreads", "1", "--no-dashboard", "--death-timeout", "60",
        ],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


@contextmanager
def own_cluster(workers):
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def is_whole(job, clean):
    """The same maps, byte for byte, and the same answer; every window accounted for once."""
    assert job.status().equals(clean.status())
    with job._records() as ours, clean._records() as theirs:
        for group in job._groups:
            for layer in layers(job.frozen, group):
                if job.frozen.keep_probabilities:
                    assert ours.ledger.known(layer.key) == theirs.ledger.known(layer.key)
    assert_geodataframe_equal(job.answer(), clean.answer())


@pytest.mark.parametrize("options", [
    {"seam": "paste"},
    {"seam": "blend", "overlap": 0.5},
    {"keep_probabilities": False, "resolution": {"green": 3}},
    {"refine": Edges()},
    {"refine": Edges(), "keep_probabilities": False, "seam": "paste"},
])  # fmt: skip
def test_a_cluster_answers_as_threads_do(tmp_path, raster, client, options):
    here = make_job(tmp_path / "here", raster, **options)
    here.run()
    there = make_job(tmp_path / "there", raster, **options)
    there.run(client)
    is_whole(there, here)


def test_a_zarr_store_is_read_by_the_workers(tmp_path, raster, client):
    scene = open_raster(raster)[["red", "green", "blue"]].clip(30).drop_vars("items")
    scene.to_zarr(tmp_path / "scene.zarr", consolidated=False)
    jobs = [
        Job.create(tmp_path / name, tmp_path / "scene.zarr", PROMPTS, "tests.colours:Colours", block=2)
        for name in ("here", "there")
    ]
    jobs[0].run()
    jobs[1].run(client)
    is_whole(jobs[1], jobs[0])


def test_workers_that_die_are_replaced(tmp_path, raster, client):
    (tmp_path / "deaths").mkdir()
    (tmp_path / "deaths" / "one").touch()
    job = make_job(tmp_path / "there", raster, model=Deadly(tmp_path / "deaths"))
    job.run(client)
    assert not list((tmp_path / "deaths").iterdir())
    here = make_job(tmp_path / "here", raster)
    here.run()
    is_whole(job, here)


def test_a_window_that_kills_its_workers_is_left_out_and_told(tmp_path, raster, client, monkeypatch):
    monkeypatch.setattr(asking, "TRIES", 1)
    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 0)
    (tmp_path / "none").mkdir()
    path = write_raster(tmp_path / "bright.tif", shape=(50, 30), bright=(45, 20))
    model = Deadly(tmp_path / "none", bright=True)
    job = make_job(tmp_path / "job", path, model=model, block=1, prompts=("red",), seam="paste")
    with pytest.warns(RemoteSAMWarning, match=r"failures\(\)"):
        table = job.run(client, on_error="skip")
    assert table["given_up"].item() == len(job.failures()) == 1
    assert table["waiting"].item() == 0
    with pytest.warns(RemoteSAMWarning):
        assert job.retry_failures(client)["given_up"].item() == 1  # not given out again
    healthy = make_job(tmp_path / "job", path, model=Colours(), block=1, prompts=("red",), seam="paste")
    healthy.retry_failures(client, given_up=True)
    clean = make_job(tmp_path / "clean", path, model=Colours(), block=1, prompts=("red",), seam="paste")
    clean.run()
    is_whole(healthy, clean)


def is_healed(tmp_path, raster):
    healthy = make_job(tmp_path / "job", raster, model=Colours(), block=4)
    healthy.run()
    here = make_job(tmp_path / "here", raster, block=4)
    here.run()
    is_whole(healthy, here)


def test_a_model_that_kills_every_worker_ends_the_run(tmp_path, raster, monkeypatch):
    """With a nanny workers come back, until the scheduler gives a block up."""
    monkeypatch.setattr(asking, "TRIES", 0)
    job = make_job(tmp_path / "job", raster, model=Fatal(), block=4)
    with own_cluster(1) as client:
        monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 0)
        with pytest.raises(JobError, match=r"died again and again.*a model that ends its process"):
            job.run(client)
    is_healed(tmp_path, raster)


def test_a_run_waits_for_workers_but_not_for_ever(tmp_path, raster, monkeypatch):
    monkeypatch.setattr(asking, "POLL", 0.05)
    healthy = make_job(tmp_path / "healthy", raster, block=4)
    fatal = make_job(tmp_path / "job", raster, model=Fatal(), block=4)
    with own_cluster(0) as client:
        begun = []
        timer = threading.Timer(0.3, lambda: begun.append(lonely_worker(client.cluster)))
        timer.start()  # there is no worker yet
        healthy.run(client)
        timer.join()
        monkeypatch.setattr(asking, "PATIENCE", 0.5)
        with pytest.raises(JobError, match=r"has had no worker for 0 s.*run\(\) again"):
            fatal.run(client, on_error="skip")
        begun[0].wait(60)
        monkeypatch.setattr(asking, "PATIENCE", 60.0)
        timer = threading.Timer(0.3, client.close)
        timer.start()
        with pytest.raises(JobError, match="the client of the cluster was closed"):
            fatal.run(client)
        timer.join()
    is_healed(tmp_path, raster)
    here = make_job(tmp_path / "here", raster, block=4)
    here.run()
    is_whole(healthy, here)


def test_the_patience_is_that_of_dask_where_it_is_set():
    with dask.config.set({"distributed.scheduler.no-workers-timeout": "2 minutes"}):
        assert asking._wait_for_workers_seconds() == 120
    assert asking._wait_for_workers_seconds() == asking.PATIENCE


def test_a_block_that_is_given_up_ends_a_run_that_skips_nothing(tmp_path, raster, monkeypatch):
    def give_up(work, wanted, places, opener, client):
        yield places[0], None

    monkeypatch.setattr(asking, "_block_results", give_up)
    job = make_job(tmp_path, raster)
    with pytest.raises(JobError, match="workers that were given block 0"):
        job.run(SimpleNamespace(asynchronous=False))
    assert (job.status()["waiting"] == job.status()["total"]).all()


def test_what_cannot_be_read_there_is_raised_or_noted_here(tmp_path, client):
    path = write_raster(tmp_path / "gone.tif", shape=(60, 60))
    job = make_job(tmp_path / "job", path, prompts=("red",))
    moved = path.rename(tmp_path / "elsewhere.tif")
    with pytest.raises(ReadError, match=r"gone\.tif"):
        job.run(client)
    with pytest.warns(RemoteSAMWarning):
        job.run(client, on_error="skip")
    assert job.failures()["cause"].str.contains("gone").all()
    moved.rename(path)
    job.retry_failures(client)
    clean = make_job(tmp_path / "clean", path, prompts=("red",))
    clean.run()
    is_whole(job, clean)


def test_broken_off_it_leaves_nothing_on_the_cluster(tmp_path, raster, client):
    class StopError(Exception):
        pass

    def stop(tiles):
        raise StopError

    job = make_job(tmp_path / "job", raster, block=1)
    group, opener = job._groups[0], job._model.for_workers()
    with job._driving() as records:
        job._make_room(records, group)
        lacking = todo(records, group)
        with pytest.raises(StopError):
            asking.predict_on_cluster(records, group, lacking, opener, client, on_error="raise", progress=stop)
    assert all(state.status != "pending" for state in client.futures.values())
    job.run(client)
    here = make_job(tmp_path / "here", raster, block=1)
    here.run()
    is_whole(job, here)


class Unsaved(Colours):
    """A network whose weights are this process's alone."""

    class predictor:  # noqa: N801 - an attribute of models
        precision, batch, device = "float32", 1, SimpleNamespace(type="cpu")

    predictor = predictor()

    @property
    def recipe(self):
        raise ModelError("these weights were changed: save it first")


def test_what_cannot_go_there_is_refused(tmp_path, raster, client):
    job = make_job(tmp_path / "a", raster)
    with pytest.raises(InputError, match="asynchronous"):
        job.run(SimpleNamespace(asynchronous=True))
    job = make_job(tmp_path / "b", raster, model=Unsaved())
    with pytest.raises(ModelError, match="save it first"):
        job.run(client)
    job.run()  # here it can be asked
