"""A whole job over a remote COG: bytes read, and wall time against reading and predicting alone.

    python benchmarks/bench_job.py [--side 8704]

A server on this machine counts the bytes that it sends. The model waits as long as a network would take, so that
reading and asking do not compete for the cores that are measured. Windows are 896 pixels wide and share a quarter of
their side; blocks are 4 x 4 windows. All is measured in processes of its own, two threads read. "Cache" is what reading
may keep of the compressed file; the file is three times that in the smaller one.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench_scenes import write

from tests.net.fault_server import FaultServer

COMMON = """
import json, sys, tempfile, time
import numpy as np
from remotesam_geo import Job, open_raster
from remotesam_geo.mapping.grid import Box
from remotesam_geo.scenes import ReadPolicy, Trust
href, cache, wait = sys.argv[1], int(sys.argv[2]) << 20, float(sys.argv[3])
policy = ReadPolicy(trust=Trust(hosts=("127.0.0.1",)), cache_bytes=cache)

class Waiting:
    image_size, identity = 896, "waiting"
    asked = 0
    def predict(self, images, expressions):
        self.asked += len(images)
        end = time.perf_counter() + wait * len(images)
        codes = np.where(images[:, None, ..., 0] > 200, np.uint8(150), np.uint8(0))
        time.sleep(max(0.0, end - time.perf_counter()))  # the answer itself is part of the wait
        return codes
model = Waiting()
"""
CLEAN = (
    COMMON
    + """
import dask
scene = open_raster(href, bands=["red", "green", "blue"], policy=policy)
dask.config.set(num_workers=2)
begin = time.perf_counter()
scene.compute()
print(json.dumps([time.perf_counter() - begin, 0]))
"""
)
ASK = (
    COMMON
    + """
picture, windows = np.zeros((1, 896, 896, 3), np.uint8), int(sys.argv[4])
begin = time.perf_counter()
for _ in range(windows):
    model.predict(picture, ["bright things"])
print(json.dumps([time.perf_counter() - begin, windows]))
"""
)
JOB = (
    COMMON
    + """
scene = open_raster(href, bands=["red", "green", "blue"], policy=policy)
with tempfile.TemporaryDirectory() as folder:
    job = Job.create(folder, scene, {"bright": "bright things"}, model)
    begin = time.perf_counter()
    job.run(progress=False)
    print(json.dumps([time.perf_counter() - begin, model.asked]))
"""
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=8704, help="pixels along a side of the COG")
    side = parser.parse_args().side
    with tempfile.TemporaryDirectory() as folder, FaultServer() as server:
        path = Path(folder) / "picture.tif"
        write(path, side, 3)
        server.files["/picture.tif"] = path.read_bytes()
        size = path.stat().st_size >> 20
        path.unlink()
        href, small = f"{server.url}/picture.tif", max(16, size // 3)
        print(f"A COG of {side} x {side} pixels, {size} MB\n")
        print("| | MB sent | times one clean read |\n| --- | --- | --- |")
        run(CLEAN, href, 512, 0)
        clean = server.bytes_sent
        print(f"| one clean read, `scene.compute()` | {clean / 1e6:.1f} | 1.00 |")
        for cache in (128, small):
            server.forget()
            reading, windows = run(JOB, href, cache, 0)
            sent = server.bytes_sent
            print(f"| a job, cache of {cache} MB | {sent / 1e6:.1f} | {sent / clean:.2f} |")
        print(f"\nReading alone (a model that takes no time): {reading:.1f} s, {windows:.0f} windows\n")
        print("| predicting alone, times reading | s | the job, s | times the larger |")
        print("| --- | --- | --- | --- |")
        for share in (0.5, 1, 2, 4):
            reading, _ = run(JOB, href, 128, 0)  # side by side, as machines are noisy
            wait = share * reading / windows
            asking, _ = run(ASK, href, 128, wait, windows)
            wall, _ = run(JOB, href, 128, wait)
            print(
                f"| {share} | {asking:.1f} | {wall:.1f} | {wall / max(reading, asking):.2f} |",
                flush=True,
            )


def run(code: str, href: str, cache: int, wait: float, windows: float = 0) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), href, str(cache), str(wait), str(int(windows))],
        check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    spent, asked = json.loads(done.stdout.splitlines()[-1])
    return spent, asked


if __name__ == "__main__":
    main()
