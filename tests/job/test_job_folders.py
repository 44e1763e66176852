"""Whatever the disk does to a job's folder, its answers are those of a clean run, or it says which file is damaged."""

import contextlib
import os
import shutil
import signal
import warnings
from functools import partial

import numpy as np
import pytest
from geopandas.testing import assert_geodataframe_equal

from remotesam_geo.errors import JobError, RemoteSAMWarning
from remotesam_geo.job import Job
from tests.campaign import CASES
from tests.colours import Colours
from tests.job.job_folder import make_job, write_raster

OPTIONS = {
    "kept": {"block": 1, "prompts": ("red",), "seam": "paste"},
    "parts": {"block": 1, "prompts": ("red",), "seam": "blend", "keep_probabilities": False},
}


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Finished jobs that nothing happened to, by their kind, with a folder of another plan's files each."""
    base = tmp_path_factory.mktemp("clean")
    raster = write_raster(base / "blobs.tif", shape=(50, 75))
    found = {}
    for kind, options in OPTIONS.items():
        job = finished(make_job(base / kind, raster, model=Colours(), **options))
        other = make_job(base / f"{kind}-other", raster, model=Colours(), **options, overlap=0.5)
        finished(other)
        found[kind] = job, raster, other.folder
    return found


def finished(job):
    job.run(progress=False)
    job.answer(progress=False)
    return job


def truth(job):
    maps = None
    if job.frozen.keep_probabilities:
        maps = job.probabilities().data.compute(scheduler="synchronous")
    return job.answer(progress=False), maps, job.status()


def check(job, expected):
    table, maps, status = expected
    found, own, now = truth(job)
    assert_geodataframe_equal(found, table)
    if maps is not None:
        np.testing.assert_array_equal(own, maps)
    assert now.equals(status), f"{now}\n{status}"


# --- what a disk does -----------------------------------------------------------------------------


def flip(path, random, folder):
    data = bytearray(path.read_bytes())
    for _ in range(random.integers(1, 4)):
        if data:
            data[random.integers(len(data))] ^= 1 << int(random.integers(8))
    path.write_bytes(data)


def truncate(path, random, folder):
    data = path.read_bytes()
    path.write_bytes(data[: random.integers(len(data) + 1)])


def zero(path, random, folder):
    """As after a power cut: the length is right, the end was never written."""
    data = path.read_bytes()
    start = random.integers(len(data) + 1) if random.integers(2) else 0
    path.write_bytes(data[:start] + bytes(len(data) - start))


def delete(path, random, folder):
    path.unlink()


def garbage(path, random, folder):
    path.write_bytes(random.bytes(int(random.integers(3000))))


def append(path, random, folder):
    path.write_bytes(path.read_bytes() + random.bytes(int(random.integers(1, 50))))


def become_a_folder(path, random, folder):
    path.unlink()
    path.mkdir()


def swap(path, random, folder):
    other = any_file(folder, random)
    mine = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(mine)


def duplicate(path, random, folder):
    other = any_file(folder, random)
    if other != path:
        other.write_bytes(path.read_bytes())


def stray(path, random, folder):
    name = random.choice(["x.partial", "ledger.sqlite-journal", "notes.txt", ".x.7.partial", "c"])
    place = path.parent / str(name)
    if not place.exists():
        place.write_bytes(path.read_bytes())


def an_extra_chunk(path, random, folder):
    """A file where there should be none: a block without data, or a number that no block has."""
    place = path.parents[2] / str(random.integers(4)) / path.parent.name / path.name
    if not place.exists() and place.parent.parent.parent.is_dir() and folder in place.parents:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())


def delete_a_folder(path, random, folder):
    shutil.rmtree(path.parent) if path.parent != folder else path.unlink()


def drop_the_ledger_too(path, random, folder):
    flip(path, random, folder)
    if (folder / "ledger.sqlite").is_file():
        (folder / "ledger.sqlite").unlink()


DAMAGES = [
    flip, truncate, zero, delete, garbage, append, become_a_folder, swap, duplicate, stray, an_extra_chunk,
    delete_a_folder, drop_the_ledger_too,
]  # fmt: skip


def any_file(folder, random):
    """A file of the folder; all kinds are met equally often."""
    kinds = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        kinds.setdefault(path.relative_to(folder).parts[0], []).append(path)
    own = kinds[sorted(kinds)[random.integers(len(kinds))]]
    return own[random.integers(len(own))]


def stale(folder, other, random):
    """Files of another plan in the places of ours."""
    ours = sorted(path for path in folder.rglob("*") if path.is_file())
    theirs = sorted(path for path in other.rglob("*") if path.is_file())
    shutil.copyfile(theirs[random.integers(len(theirs))], ours[random.integers(len(ours))])


def damage(folder, other, random):
    told = []
    for _ in range(int(random.integers(1, 4))):
        if random.integers(12) == 0:
            stale(folder, other, random)
            told.append("stale")
            continue
        way, path = DAMAGES[random.integers(len(DAMAGES))], any_file(folder, random)
        told.append(f"{way.__name__} {path.relative_to(folder)}")
        way(path, random, folder)
    return told


# --- the campaign ---------------------------------------------------------------------------------


def named_in(error, folder):
    """Files and folders of the job that a message names."""
    return [path for path in sorted(folder.rglob("*")) if str(path) in str(error)]


def heal(folder, raster, options, expected):
    """What a user does: run again, and where a file is named as damaged, delete it and create the job again."""
    try:
        job = Job.open(folder, model=Colours())
        job.run(progress=False)
        check(job, expected)
    except JobError as error:
        refused = error
    else:
        return
    for _ in range(8):
        assert f"{folder}/" in str(refused), f"the refusal names no file: {refused}"
        for path in named_in(refused, folder):
            if path.is_dir() and path != folder:
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()
        try:
            job = make_job(folder, raster, model=Colours(), **options)
            job.run(progress=False)
            check(job, expected)
        except JobError as error:
            refused = error
        else:
            raise refused
    raise AssertionError(f"it never heals: {refused}")


def one_case(folder, raster, options, expected, about):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RemoteSAMWarning)
        try:
            with contextlib.suppress(JobError):  # before a run: right, or refused
                assert_geodataframe_equal(Job.open(folder).answer(progress=False), expected[0])
            heal(folder, raster, options, expected)
        except JobError:
            raise
        except AssertionError as error:
            raise AssertionError(f"{about}: {error}") from error
        except Exception as error:
            raise RuntimeError(about) from error


@pytest.mark.parametrize("kind", list(OPTIONS))
def test_damaged_folders_heal_or_name_the_file(tmp_path, clean, campaign, kind):
    job, raster, other = clean[kind]
    expected = truth(job)
    tried = campaign(
        "Job folders",
        f"plan, ledger, lock, {'probabilities' if kind == 'kept' else 'outlines only'}: bits, cuts, zeros, swaps",
    )
    random = np.random.default_rng(7)
    for number in range(CASES // 8):
        folder = tmp_path / f"{number}"
        shutil.copytree(job.folder, folder)
        about = f"case {number}: {damage(folder, other, random)}"
        tried.case(partial(one_case, folder, raster, OPTIONS[kind], expected, about))
        shutil.rmtree(folder)


# --- kills ----------------------------------------------------------------------------------------


def run_until_killed(folder, after):
    """Run a job in a forked process, which kills itself at its n-th prediction or write to the disk."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that forks and threads do not mix
        child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        signal.alarm(60)
        left, fsync = [after], os.fsync

        def count():
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        def counted_fsync(handle):
            count()
            fsync(handle)
            count()

        class Counted(Colours):
            def predict(self, images, expressions):
                count()
                return super().predict(images, expressions)

        os.fsync = counted_fsync
        warnings.simplefilter("ignore")
        job = Job.open(folder, model=Counted())
        job.run(progress=False)
        job.answer(progress=False)
        os._exit(0)
    finally:
        os._exit(1)


def killed_case(folder, raster, options, expected, dates):
    job = make_job(folder, raster, model=Colours(), **options)
    before = 0
    for after in dates:
        ended = run_until_killed(folder, after)
        assert ended in (0, -signal.SIGKILL), f"the driver ended by itself with {ended}"
        table = job.status()
        assert (table.drop(columns="total").sum(axis=1) == table["total"]).all()
        assert table["done"].sum() >= before, "what was done was lost"
        before = table["done"].sum()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RemoteSAMWarning)  # that a killed driver is taken over
        job.run(progress=False)
        check(job, expected)
    assert not list(folder.rglob("*.partial"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("kind", list(OPTIONS))
def test_killed_drivers_lose_nothing(tmp_path, clean, campaign, kind):
    job, raster, _ = clean[kind]
    expected = truth(job)
    tried = campaign(
        "Jobs: kills",
        f"kill -9 at any prediction or write, up to four times, then resumed ({kind})",
    )
    random = np.random.default_rng(11)
    for number in range(max(4, CASES // 40)):
        dates = [int(after) for after in random.integers(0, 90, random.integers(1, 5))]
        tried.case(partial(killed_case, tmp_path / f"{number}", raster, OPTIONS[kind], expected, dates))


def test_a_plan_that_was_exchanged_is_noticed(tmp_path, clean):
    job, _, other = clean["kept"]
    shutil.copytree(job.folder, tmp_path / "job")
    shutil.copyfile(other / "plan.json", tmp_path / "job" / "plan.json")
    exchanged = Job.open(tmp_path / "job", model=Colours())
    for verb in (exchanged.run, exchanged.answer, exchanged.status):
        with pytest.raises(JobError, match=r"ledger\.sqlite belongs to another plan"):
            verb()
    (tmp_path / "job" / "ledger.sqlite").unlink()
    with pytest.raises(JobError, match=r"plan\.json is not the plan of the blocks"):
        exchanged.run()
    shutil.copyfile(job.folder / "plan.json", tmp_path / "job" / "plan.json")
    restored = Job.open(tmp_path / "job", model=Colours())
    restored.run(progress=False)
    check(restored, truth(job))
