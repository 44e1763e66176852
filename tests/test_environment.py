"""The tests share one environment, and the package gives the same answer in a hostile one."""

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .environment import HOSTILE, KEPT, KEPT_PREFIXES
from .job_folder import write_raster

ROOT = Path(__file__).parents[1]


def test_nothing_of_the_machine_is_left_in_the_environment():
    ours = {"HOME", "USERPROFILE", "TZ", "LC_ALL", "COLUMNS", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"}
    set_since = ("KMP_", "GOMP_", "TF2_", "TORCH", "PYDEVD_", "XDG_", "PROJ", "GDAL", "MPL", "JPY_", "QT_", "DASK_")
    strange = {
        name
        for name in os.environ
        if name not in KEPT | ours and not name.startswith((*KEPT_PREFIXES, *set_since))
    }
    assert not strange
    assert time.timezone == 0


QUESTION = """
import json, sys
from pathlib import Path
from remotesam_geo import Job, RemoteSAM, open_raster, save
folder = Path(sys.argv[1])
scene = open_raster(sys.argv[2])
found = RemoteSAM.from_pretrained("tiny").segment(scene, "tree", threshold=0.05)
for kind in ("gpkg", "parquet", "geojson"):
    save(found, folder / f"tables.{kind}")
job = Job.create(folder / "job", scene, "tree", RemoteSAM.from_pretrained("tiny"), threshold=0.05)
job.run()
print(json.dumps([found.to_json(), job.answer().to_json(), found.crs.to_epsg(), str(scene.time.values[0])]))
"""


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    return write_raster(tmp_path_factory.mktemp("raster") / "blobs.tif", shape=(120, 120))


def result(command: list[str], **environment: str) -> bytes:
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout
