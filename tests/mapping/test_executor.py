"""The same map whatever the blocks, batches, threads and failures."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remotesam_geo.errors import ReadError
from remotesam_geo.mapping.executor import Work, run
from remotesam_geo.mapping.grid import Grid
from remotesam_geo.mapping.source import SceneDate
from remotesam_geo.mapping.stitch import stitch
from remotesam_geo.tasks import FAILED, NO_DATA
from tests.mapping.test_stitch import answers_of, place, raster


class Picture:
    """A raster in memory that counts what is read, and fails where it is told to."""

    def __init__(self, shape, seed=0, bad=None, dates=1):
        self.rgb, self.valid = raster(shape, seed)
        self.bad = bad  # a pixel that cannot be read
        self.reads = []
        self.dates = [SceneDate(time=None, items=str(index)) for index in range(dates)]

    def read(self, box, date):
        self.reads.append((box, date))
        if self.bad and box.top <= self.bad[0] < box.bottom and box.left <= self.bad[1] < box.right:
            raise ReadError(f"cannot read pixel {self.bad}")
        here = slice(box.top, box.bottom), slice(box.left, box.right)
        return (self.rgb[here] + date).astype(np.uint8), self.valid[here]


def predict(pictures, expressions):
    return np.stack([np.concatenate([place(picture)] * len(expressions)) for picture in pictures])


def whole(work, **options):
    """Every date's map, joined from its blocks."""
    out = np.full((len(work.source.dates), len(work.expressions), *work.grid.shape), 77, np.uint8)
    failures = []
    for answer in run(work, options.pop("predict", predict), lambda answer: answer, **options):
        out[answer.date][:, *answer.block.core.within(work.grid.raster)] = answer.codes
        failures += answer.failures
    return out, failures


@settings(max_examples=25)
@given(st.data(), st.sampled_from(["paste", "blend"]))
def test_the_map_depends_on_the_plan_alone(data, seam):
    shape = data.draw(st.integers(1, 120)), data.draw(st.integers(1, 120))
    window = data.draw(st.integers(8, 40))
    overlap = 2 * data.draw(st.integers(0, window // 4))
    reference = Grid(shape=shape, window=window, overlap=overlap)
    expected = stitch(reference, reference.raster, answers_of(reference, place), prompts=1, seam=seam)
    grid = Grid(shape=shape, window=window, overlap=overlap, block=data.draw(st.integers(1, 5)))
    work = Work(
        source=Picture(shape, dates=2),
        grid=grid,
        expressions=("one", "two"),
        seam=seam,
        batch=data.draw(st.integers(1, 4)),
    )
    done = []
    found, failures = whole(work, readers=data.draw(st.integers(1, 3)), progress=done.append)
    np.testing.assert_array_equal(found[0, 0], expected[0])
    np.testing.assert_array_equal(found[0, 1], expected[0])
    assert not failures
    assert sum(done) == work.size == 2 * len(grid)


def test_progress_moves_with_each_window_not_with_each_block():
    grid = Grid(shape=(90, 130), window=24, overlap=8, block=8)
    work = Work(source=Picture(grid.shape), grid=grid, expressions=("x",))
    done, seen = [], []

    def look(images, expressions):
        seen.append(sum(done))
        return predict(images, expressions)

    list(run(work, look, lambda answer: answer, progress=done.append))
    assert seen == list(range(len(grid)))
    assert sum(done) == len(grid)


@pytest.mark.parametrize("seam", ["paste", "blend"])
def test_each_window_is_asked_once(seam):
    asked = []

    def counting(pictures, expressions):
        asked.append(len(pictures))
        return predict(pictures, expressions)

    grid = Grid(shape=(300, 500), window=32, overlap=16, block=3)
    whole(Work(source=Picture(grid.shape), grid=grid, expressions=("x",), seam=seam), predict=counting)
    assert sum(asked) == len(grid)


@pytest.mark.parametrize("seam", ["paste", "blend"])
def test_a_place_that_cannot_be_read_fails_its_windows_and_is_named(seam):
    grid = Grid(shape=(120, 200), window=32, overlap=8, block=3)
    source = Picture(grid.shape, bad=(60, 77))
    work = Work(source=source, grid=grid, expressions=("x",), seam=seam, on_error="skip")
    found, failures = whole(work)
    hit = {tile.index for tile in grid if tile.box.top <= 60 < tile.box.bottom and tile.box.left <= 77 < tile.box.right}
    assert {failure.window for failure in failures} == hit
    assert len(failures) == len(hit)
    assert all("(60, 77)" in failure.cause for failure in failures)
    expected = stitch(grid, grid.raster, answers_of(grid, place, failed=hit), prompts=1, seam=seam)
    np.testing.assert_array_equal(found[0], expected)
    assert (found == FAILED).sum() == sum(np.prod(grid.window_at(index).core.shape) for index in hit)


def test_a_failure_stops_the_work_unless_skipped():
    grid = Grid(shape=(120, 200), window=32, overlap=8)
    before = threading.active_count()
    with pytest.raises(ReadError, match="pixel"):
        whole(Work(source=Picture(grid.shape, bad=(60, 77)), grid=grid, expressions=("x",)))
    assert threading.active_count() <= before


def test_a_predictor_that_fails_on_one_window_costs_that_window():
    grid = Grid(shape=(64, 128), window=32, overlap=0, block=2)
    source = Picture(grid.shape)
    bad = source.rgb[32:64, 64:96].copy()
    source.valid[:] = True

    def fragile(pictures, expressions):
        if any((picture == bad).all() for picture in pictures):
            raise RuntimeError("out of memory")
        return predict(pictures, expressions)

    work = Work(source=source, grid=grid, expressions=("x",), batch=4, on_error="skip")
    found, failures = whole(work, predict=fragile)
    assert [(failure.window, failure.cause) for failure in failures] == [(6, "RuntimeError: out of memory")]
    assert (found == FAILED).sum() == 32 * 32


def test_only_chosen_tiles_are_read_and_windows_without_data_are_not_asked():
    grid = Grid(shape=(64, 128), window=32, overlap=0, block=2)
    source = Picture(grid.shape)
    source.valid[:32, :32] = False
    asked = []

    def counting(pictures, expressions):
        asked.append(len(pictures))
        return predict(pictures, expressions)

    work = Work(source=source, grid=grid, expressions=("x",), window_numbers=np.array([0, 1, 7]))
    found, _ = whole(work, predict=counting)
    assert sum(asked) == 2
    assert (found[0, 0, :32, :32] == NO_DATA).all()
    assert (found[0, 0, 32:, 64:96] == NO_DATA).all()
    assert sum(np.prod(box.shape) for box, _ in source.reads) == 3 * 32 * 32


def test_an_abandoned_run_ends_its_threads():
    grid = Grid(shape=(300, 300), window=32, overlap=0, block=1)
    before = threading.active_count()
    results = run(Work(source=Picture(grid.shape), grid=grid, expressions=("x",)), predict, id)
    next(results)
    results.close()
    assert threading.active_count() <= before


@settings(max_examples=25)
@given(st.data(), st.sampled_from(["paste", "blend"]))
def test_blocks_answered_alone_are_those_of_the_whole(data, seam):
    grid = Grid(shape=(90, 130), window=24, overlap=8, block=data.draw(st.integers(1, 4)))
    source = Picture(grid.shape, dates=2)
    expected, _ = whole(Work(source=source, grid=grid, expressions=("x",), seam=seam))
    every = [(date, index) for date in (0, 1) for index in range(np.prod(grid.blocks))]
    todo = frozenset(data.draw(st.lists(st.sampled_from(every), min_size=1, unique=True)))
    work = Work(source=source, grid=grid, expressions=("x",), seam=seam, todo=todo)
    done = []
    answers = list(run(work, predict, lambda answer: answer, progress=done.append))
    assert {(answer.date, answer.block.index) for answer in answers} == todo
    assert sum(done) == work.size
    for answer in answers:
        here = answer.block.core.within(grid.raster)
        np.testing.assert_array_equal(answer.codes, expected[answer.date][:, *here])
