"""Cores partition any raster; what touches a box is found as by looking at every tile."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from remotesam_geo.errors import InputError
from remotesam_geo.geo.box import Box
from remotesam_geo.mapping.grid import Grid


@st.composite
def grids(draw):
    window = draw(st.integers(2, 40))
    return Grid(
        shape=(draw(st.integers(1, 150)), draw(st.integers(1, 150))),
        window=window,
        overlap=2 * draw(st.integers(0, window // 4)),
        block=draw(st.integers(1, 4)),
    )


@st.composite
def boxes(draw, shape):
    top, left = draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))
    bottom, right = draw(st.integers(top + 1, shape[0])), draw(st.integers(left + 1, shape[1]))
    return Box(top=top, left=left, bottom=bottom, right=right)


@given(grids())
def test_cores_partition_the_raster_inside_their_windows(grid):
    hits = np.zeros(grid.shape, int)
    everything = Box(top=0, left=0, bottom=grid.shape[0], right=grid.shape[1])
    for tile in grid:
        hits[tile.core.within(everything)] += 1
        assert tile.box.shape == (grid.window, grid.window)
        assert tile.box.common(tile.core) == tile.core
        for start, stop, length in (
            (tile.box.top, tile.box.bottom, grid.shape[0]),
            (tile.box.left, tile.box.right, grid.shape[1]),
        ):
            assert start >= 0
            assert stop <= max(length, grid.window)  # beyond only where the raster is smaller
    assert (hits == 1).all()


@given(grids())
def test_a_core_keeps_half_the_overlap_from_its_windows_edge_unless_the_raster_ends(grid):
    for tile in grid:
        margin = grid.overlap // 2
        assert tile.core.top == 0 or tile.core.top - tile.box.top >= margin
        assert tile.core.right == grid.shape[1] or tile.box.right - tile.core.right >= margin


@given(grids())
def test_blocks_partition_the_tiles(grid):
    hits = np.zeros(grid.shape, int)
    for index in range(grid.blocks[0] * grid.blocks[1]):
        block = grid.block_at(index)
        hits[block.core.top : block.core.bottom, block.core.left : block.core.right] += 1
        owners = grid.owners(block.core)
        assert len(owners) <= grid.block**2
        assert set(grid.blocks_of([tile.index for tile in owners])) == {index}
    assert (hits == 1).all()


@given(st.data())
def test_owners_and_viewers_equal_a_search_through_all_tiles(data):
    grid = data.draw(grids())
    box = data.draw(boxes(grid.shape))
    assert grid.owners(box) == tuple(tile for tile in grid if tile.core.common(box))
    assert grid.viewers(box) == tuple(tile for tile in grid if tile.box.common(box))


@given(st.data())
def test_an_area_selects_the_tiles_that_it_touches(data):
    grid = data.draw(grids())
    x = data.draw(st.lists(st.floats(-50, 200), min_size=3, max_size=3))
    y = data.draw(st.lists(st.floats(-50, 200), min_size=3, max_size=3))
    area = shapely.Polygon(zip(x, y, strict=True)).buffer(0)
    expected = [
        tile.index
        for tile in grid
        if area.intersects(shapely.box(tile.core.left, tile.core.top, tile.core.right, tile.core.bottom))
    ]
    assert list(grid.touching(area)) == expected


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"overlap": 3}, "overlap is 3"),
        ({"overlap": 18}, "half a window, 16"),
        ({"block": 0}, "block is 0"),
        ({"shape": (0, 5)}, "0 x 5"),
        ({"window": 1}, "window is 1"),
    ],
)
def test_what_cannot_be_planned_is_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        Grid(**{"shape": (50, 50), "window": 32, "overlap": 8, "block": 2} | wrong)
