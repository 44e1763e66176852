"""Jobs broken off at random, over and over, until they are done; then compared with one that nothing happened to.

    python benchmarks/chaos.py [--seconds 120] [--seed 0] [--only driver|workers|disk]

driver: the process that runs the job gets SIGKILL at random dates. workers: `distributed.chaos.KillWorker` ends the
workers of a cluster at random, by exit, gracefully, and by a segmentation fault. disk: the folder lies on a file
system of a few megabytes, which is made larger each time it is full (Linux, as root; left out elsewhere).

It fails with an error where anything differs from the clean run, or a window is counted twice or not at all.
"""

import argparse
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from geopandas.testing import assert_geodataframe_equal

sys.path.insert(0, str(Path(__file__).parents[1]))

from remotesam_geo import Job, RemoteSAMWarning
from remotesam_geo.errors import JobError
from remotesam_geo.job.storage.stored_layers import layers
from tests.colours import Colours
from tests.job.job_folder import make_job, write_raster

ROOT = Path(__file__).parents[1]
RUN = """
import sys
from remotesam_geo import Job
Job.open(sys.argv[1], model="benchmarks.chaos:Slow").run(progress=False)
"""
SHAPE = (500, 620)
MODES = ("sys.exit", "graceful", "segfault")


class Slow(Colours):
    """Takes its time, so that there is something to break off."""

    def predict(self, images, expressions):
        time.sleep(0.02 * len(images))
        return super().predict(images, expressions)


def check(job: Job, clean: Job) -> None:
    """The same maps by their digests, the same answer, each window once."""
    table = job.status()
    assert table.equals(clean.status()), f"{table}\n{clean.status()}"
    assert (table.drop(columns="total").sum(axis=1) == table["total"]).all()
    with job._records() as ours, clean._records() as theirs:
        for group in job._groups:
            for layer in layers(job.frozen, group):
                assert ours.ledger.known(layer.key) == theirs.ledger.known(layer.key)
    assert_geodataframe_equal(job.answer(), clean.answer())


def kill_drivers(folder: Path, raster: Path, chance: random.Random, until: float) -> str:
    kills = whole = 0
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", "import remotesam_geo.job.job"], check=True, cwd=ROOT)
    start = time.monotonic() - begin  # before that there is nothing to break off
    while time.monotonic() < until or not whole:
        job = make_job(folder / f"driver{whole}", raster, model=Slow())
        while job.status()["waiting"].any():
            command = [sys.executable, "-W", "ignore", "-c", RUN, str(job.folder)]
            with subprocess.Popen(command, cwd=ROOT) as driver:
                try:
                    code = driver.wait(timeout=start + chance.uniform(0, 10))
                    assert code == 0, f"the driver ended by itself with {code}"
                except subprocess.TimeoutExpired:
                    driver.send_signal(signal.SIGKILL)
                    driver.wait()
                    kills += 1
        whole += 1
        compare(job, folder / "clean", raster)
    return f"{kills} drivers killed, {whole} jobs finished"


def kill_workers(folder: Path, raster: Path, chance: random.Random, until: float) -> str:
    from distributed import Client, LocalCluster
    from distributed.chaos import KillWorker

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    whole = lost = 0
    while time.monotonic() < until or whole < len(MODES):
        mode = MODES[whole % len(MODES)]
        with (
            LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
            Client(cluster) as client,
        ):
            cluster.adapt(minimum=3, maximum=3)  # nobody replaces a worker that left in good order
            client.register_plugin(KillWorker(delay=chance.uniform(5, 15), mode=mode))
            job = make_job(folder / f"workers{whole}", raster, model="benchmarks.chaos:Slow")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RemoteSAMWarning)
                while job.status()["waiting"].any():
                    try:
                        job.run(client, progress=False)
                    except JobError as error:
                        if "died again and again" not in str(error):
                            raise
            events = [event for _, event in client.get_events("all")]
            lost += sum(event.get("action") == "remove-worker" for event in events)
        whole += 1
        compare(job, folder / "clean", raster)
    return f"{lost} workers lost, {whole} jobs finished"


def fill_disks(folder: Path, raster: Path, chance: random.Random, until: float) -> str:
    if sys.platform != "linux" or os.geteuid() != 0:
        return "left out: needs Linux and root"
    full = whole = 0
    while time.monotonic() < until or not whole:
        place = folder / "disk"
        place.mkdir()
        size = chance.randint(60, 120)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", place], check=False)
        if mounted.returncode:
            return "left out: mounting is not allowed here"
        try:
            done = False
            while not done:
                try:
                    job = make_job(place / "job", raster)
                    job.run(progress=False)
                    job.answer(progress=False)
                    done = True
                except JobError as error:
                    if not any(text in str(error) for text in ("No space left", "full")):
                        raise
                    full += 1
                    size += chance.randint(10, 200)
                    subprocess.run(["mount", "-o", f"remount,size={size}k", place], check=True)
            subprocess.run(["mount", "-o", f"remount,size={size + 4096}k", place], check=True)
            compare(job, folder / "clean", raster)
        finally:
            subprocess.run(["umount", place], check=True)
            place.rmdir()
        whole += 1
    return f"a full disk {full} times, {whole} jobs finished"


def compare(job: Job, clean_folder: Path, raster: Path, **options: int) -> None:
    clean = make_job(clean_folder, raster, **options)
    clean.run(progress=False)
    check(make_job(job.folder, raster, **options), clean)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=120, help="for each kind of trouble")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["driver", "workers", "disk"])
    given = parser.parse_args()
    troubles: dict[str, Callable[[Path, Path, random.Random, float], str]] = {
        "driver": kill_drivers, "workers": kill_workers, "disk": fill_disks,
    }  # fmt: skip
    warnings.filterwarnings("ignore", "taking over", RemoteSAMWarning)
    for name, trouble in troubles.items():
        if given.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory() as folder:
            raster = write_raster(Path(folder) / "blobs.tif", shape=SHAPE)
            chance = random.Random(given.seed)  # noqa: S311 - nothing is kept secret here
            begin = time.monotonic()
            told = trouble(Path(folder), raster, chance, begin + given.seconds)
            print(
                f"{name}: {told}, in {time.monotonic() - begin:.0f} s; all equal to clean runs",
                flush=True,
            )


if __name__ == "__main__":
    main()
