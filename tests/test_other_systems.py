"""Jobs and results on a system without what POSIX has: no fcntl, no fork, no handle of a folder."""

import subprocess
import sys
import textwrap
from pathlib import Path

from tests.job.job_folder import write_raster

ROOT = Path(__file__).parents[1]

WITHOUT_POSIX = """
import os, signal, sys
for name in ("fcntl", "resource", "grp", "pwd", "termios"):
    sys.modules[name] = None  # importing it fails
for name in ("fork", "register_at_fork", "O_DIRECTORY", "sched_getaffinity", "geteuid", "getuid", "fchmod", "mkfifo"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "alarm"):
    if hasattr(signal, name):
        delattr(signal, name)
opened = os.open

def open_files_only(path, flags, *more, **named):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return opened(path, flags, *more, **named)

os.open = open_files_only
import warnings
warnings.filterwarnings("ignore", "only soft file lock")
"""

WORK = """
from pathlib import Path
from remotesam_geo import Job, RemoteSAM, open_probabilities, open_raster, save, search
from remotesam_geo.errors import JobError
from tests.colours import Colours

raster, out = sys.argv[1], Path(sys.argv[2])
job = Job.create(out / "job", raster, {"red": "red things"}, Colours(), block=2)
assert job.run(progress=False)["waiting"].sum() == 0
found = Job.open(out / "job", model=Colours()).answer(progress=False)
direct = RemoteSAM(Colours()).segment(open_raster(raster), {"red": "red things"}, seam="blend", progress=False)
assert len(found) == len(direct) > 0
for name in ("a.parquet", "a.gpkg", "a.geojson"):
    save(found, out / name)
    save(found, out / name)
for name in ("a.zarr", "a.tif"):
    save(job.probabilities(), out / name)
    save(job.probabilities(), out / name)
    assert open_probabilities(out / name).shape == job.probabilities().shape
with job._driving():
    for verb in (job.run, lambda: job.add("green")):
        try:
            verb()
        except JobError as error:
            assert f"process {os.getpid()}" in str(error), error
        else:
            raise AssertionError("two drivers at once")
job.add({"green": "green things"})
job.run(progress=False)
assert "fcntl" not in [name for name, module in sys.modules.items() if module is not None]
"""


def test_jobs_and_results_need_no_posix_system(tmp_path):
    raster = write_raster(tmp_path / "blobs.tif", shape=(70, 70))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(WITHOUT_POSIX) + WORK,
            str(raster),
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
