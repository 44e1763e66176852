"""One map whatever the cut: stitched boxes agree with the map stitched whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotesam_geo.geo.box import Box
from remotesam_geo.mapping.grid import Grid
from remotesam_geo.mapping.stitch import cut_window, mark, needed, stitch
from remotesam_geo.tasks import FAILED, NO_DATA
from tests.mapping.test_grid import boxes, grids


def raster(shape, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*shape, 3), np.uint8), rng.random(shape) < 0.9


def everything(grid):
    return Box(top=0, left=0, bottom=grid.shape[0], right=grid.shape[1])


def answers_of(grid, predict, seed=0, failed=()):
    """Every window's marked answers, from the whole raster."""
    rgb, valid = raster(grid.shape, seed)
    answers = {}
    for tile in grid:
        picture, known = cut_window(rgb, valid, everything(grid), tile.box)
        answers[tile.index] = None if tile.index in failed else mark(predict(picture), known)
    return answers


def colour(picture):
    """An answer that depends on the pixel alone."""
    return np.stack([picture[..., 0] % 201, picture[..., 1] % 201])


def place(picture):
    """An answer that depends on the place in the window."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    return ((7 * y + 3 * x + picture[..., 2]) % 201).astype(np.uint8)[None]


@given(st.data(), st.sampled_from(["paste", "blend"]))
def test_any_box_equals_that_part_of_the_whole(data, seam):
    grid = data.draw(grids())
    failed = data.draw(st.sets(st.integers(0, len(grid) - 1), max_size=2))
    answers = answers_of(grid, place, failed=failed)
    whole = stitch(grid, everything(grid), answers, prompts=1, seam=seam)
    box = data.draw(boxes(grid.shape))
    some = {tile.index: answers[tile.index] for tile in needed(grid, box, seam)}
    part = stitch(grid, box, some, prompts=1, seam=seam)
    np.testing.assert_array_equal(part, whole[:, *box.within(everything(grid))])


@given(grids(), st.sampled_from(["paste", "blend"]), st.integers(0, 99))
def test_an_answer_of_the_pixel_alone_shows_no_seam(grid, seam, seed):
    rgb, valid = raster(grid.shape, seed)
    whole = stitch(grid, everything(grid), answers_of(grid, colour, seed), prompts=2, seam=seam)
    np.testing.assert_array_equal(whole, np.where(valid, colour(rgb), NO_DATA))


def test_blending_is_the_weighted_mean_of_all_windows():
    grid = Grid(shape=(1, 12), window=8, overlap=4)
    codes = {0: np.full((1, 8, 8), 100, np.uint8), 1: np.full((1, 8, 8), 200, np.uint8)}
    row = stitch(grid, everything(grid), codes, prompts=1, seam="blend")[0, 0]
    # Over the four shared pixels the first window weighs 4, 3, 2, 1 and the second 1, 2, 3, 4.
    np.testing.assert_array_equal(row, [100] * 4 + [120, 140, 160, 180] + [200] * 4)


@pytest.mark.parametrize("seam", ["paste", "blend"])
def test_a_failed_window_fails_its_core_and_nothing_else(seam):
    grid = Grid(shape=(40, 100), window=32, overlap=8)
    whole = everything(grid)
    rgb, valid = raster(grid.shape, 0)
    answers = answers_of(grid, colour, failed={1})
    out = stitch(grid, whole, answers, prompts=2, seam=seam)
    core = grid.window_at(1).core.within(whole)
    assert (out[:, *core] == FAILED).all()
    out[:, *core] = np.where(valid, colour(rgb), NO_DATA)[:, *core]
    np.testing.assert_array_equal(out, np.where(valid, colour(rgb), NO_DATA))


def test_a_tile_that_was_not_asked_has_no_data():
    grid = Grid(shape=(32, 64), window=32, overlap=0)
    answers = answers_of(grid, colour)
    del answers[1]
    out = stitch(grid, everything(grid), answers, prompts=2)
    assert (out[:, :, 32:] == NO_DATA).all()
    assert (out[:, :, :32] != NO_DATA).any()


def test_holes_are_filled_with_the_mean_and_small_rasters_reflected():
    rgb = np.array([[[10, 0, 0], [20, 0, 0], [250, 9, 9]]], np.uint8)
    valid = np.array([[True, True, False]])
    box = Box(top=0, left=0, bottom=1, right=3)
    seen, known = cut_window(rgb, valid, box, Box(top=0, left=0, bottom=4, right=4))
    assert seen.shape == (4, 4, 3)
    np.testing.assert_array_equal(seen[:, :, 0], [[10, 20, 15, 15]] * 4)
    np.testing.assert_array_equal(known, [[1, 1, 0, 0]] + [[0] * 4] * 3)
    seen, known = cut_window(rgb, valid & False, box, Box(top=0, left=0, bottom=4, right=4))
    assert not seen.any()
    assert not known.any()
