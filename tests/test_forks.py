"""A forked process computes what its parent would, and does not wait for threads that are gone."""

import multiprocessing
import os
import signal
import warnings

import numpy as np
import pytest
import torch

from remotesam_geo import open_raster
from tests.job.job_folder import make_job, write_raster

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
LIMIT = 20


def in_a_fork(work):
    """What `work` returns in a forked process, which is ended if it hangs."""
    mine, its = multiprocessing.Pipe(duplex=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that forks and threads do not mix
        child = os.fork()
    if child == 0:
        signal.alarm(LIMIT)
        try:
            its.send_bytes(np.asarray(work()).tobytes())
        finally:
            os._exit(0)
    its.close()
    try:
        return mine.recv_bytes()
    except EOFError:
        pytest.fail("the forked process hung or failed")
    finally:
        os.waitpid(child, 0)


def test_lazy_arrays_and_torch_work_after_a_fork(tmp_path):
    raster = write_raster(tmp_path / "blobs.tif", shape=(70, 70))
    job = make_job(tmp_path / "job", raster)
    job.run(progress=False)
    scene, maps = open_raster(raster), job.probabilities()
    works = (
        lambda: maps.values,
        lambda: job.probabilities().values,
        lambda: job.answer(threshold=0.3, progress=False).area,
        lambda: scene["red"].values,
    )
    expected = [np.asarray(work()).tobytes() for work in works]  # with threads, in the parent
    for work, wanted in zip(works, expected, strict=True):
        assert in_a_fork(work) == wanted
    # OpenMP waits for ever for the parent's threads, where it has used them and a child asks for them.
    assert in_a_fork(torch.get_num_threads) == np.asarray(1).tobytes()
