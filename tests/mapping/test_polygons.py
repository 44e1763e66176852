"""Joined across any cut, components are those of the raster labelled in one piece."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize
from scipy import ndimage

from remotesam_geo.mapping.grid import Grid
from remotesam_geo.mapping.polygons import Joiner, extract
from remotesam_geo.tasks import components, hulls, refine


def noise(shape, seed, share):
    """Codes with blobs of all sizes and touching corners."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape), rng.uniform(0, 2.5))
    codes = rng.integers(101, 201, shape)
    return np.where(smooth > np.quantile(smooth, 1 - share), codes, 0).astype(np.uint8)


def joined(codes, grid, *, outline="polygon", contour=None, skip=()):
    """All features of a map cut into blocks, by first pixel."""
    joiner, found = Joiner(grid), []
    for index in range(grid.blocks[0] * grid.blocks[1]):
        if index in skip:
            continue
        block = grid.block_at(index)
        here = block.core.within(grid.raster)
        pieces = extract(
            codes[here],
            block.core,
            contour=None if contour is None else contour[here],
            outline=outline,
        )
        found += joiner.add(block, pieces)
    return found + list(joiner.finish())


def by_first_pixel(found):
    """Rows of (first pixel, count, total, peak, box), and the outlines, in order."""
    rows, outlines = [], []
    for features in found:
        table = features.table
        rows += np.column_stack([table.first, table.count, table.total, table.peak, table.box]).tolist()
        outlines += list(features.polygons) if features.polygons is not None else [None] * len(table)
    order = sorted(range(len(rows)), key=rows.__getitem__)
    return [rows[index] for index in order], [outlines[index] for index in order]


grids = st.builds(
    Grid,
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    window=st.integers(4, 20),
    overlap=st.sampled_from([0, 2]),
    block=st.integers(1, 3),
)


@settings(max_examples=60)
@given(grids, st.integers(0, 9999), st.floats(0.05, 0.8))
def test_features_equal_those_of_the_raster_in_one_piece(grid, seed, share):
    codes = noise(grid.shape, seed, share)
    rows, outlines = by_first_pixel(joined(codes, grid))
    whole = components(codes).table
    assert rows == np.column_stack([whole.first, whole.count, whole.total, whole.peak, whole.box]).tolist()
    one = Grid(shape=grid.shape, window=max(grid.shape) + 2, overlap=0)
    _, expected = by_first_pixel(joined(codes, one))
    assert len(outlines) == len(expected)
    assert all(map(shapely.equals_exact, outlines, expected))
    # and they are what GDAL rasterises back to the components
    labels, count = ndimage.label(codes > 100, structure=np.ones((3, 3)))
    assert count == len(outlines)
    assert all(shapely.is_valid(outlines))
    if outlines:
        painted = rasterize([(shape, index + 1) for index, shape in enumerate(outlines)], grid.shape, dtype=np.int32)
        np.testing.assert_array_equal(painted, labels)


@settings(max_examples=40)
@given(grids, st.integers(0, 9999), st.floats(0.3, 0.9))
def test_contours_part_objects_as_in_one_piece(grid, seed, share):
    codes, contour = noise(grid.shape, seed, share), noise(grid.shape, seed + 1, 0.3)
    rows, outlines = by_first_pixel(joined(codes, grid, contour=contour))
    whole = refine(codes, contour)
    assert (
        rows
        == np.column_stack(
            [
                whole.table.first,
                whole.table.count,
                whole.table.total,
                whole.table.peak,
                whole.table.box,
            ]
        ).tolist()
    )
    assert np.array_equal(
        rasterize([(shape, 1) for shape in outlines] or [(shapely.Point(-9, -9), 1)], grid.shape),
        whole.paint() > 0,
    )


@given(grids, st.integers(0, 9999))
def test_hulls_join_too(grid, seed):
    codes = noise(grid.shape, seed, 0.4)
    found = joined(codes, grid, outline="oriented")
    expected = hulls(components(codes))
    areas = sorted(
        shapely.Polygon(features.hulls.points[a:b]).area
        for features in found
        for a, b in zip(features.hulls.begin[:-1], features.hulls.begin[1:], strict=True)
    )
    assert areas == sorted(
        shapely.Polygon(expected.points[a:b]).area for a, b in zip(expected.begin[:-1], expected.begin[1:], strict=True)
    )


@given(grids, st.integers(0, 9999), st.data())
def test_blocks_that_are_left_out_hold_nothing(grid, seed, data):
    codes = noise(grid.shape, seed, 0.5)
    count = grid.blocks[0] * grid.blocks[1]
    skip = data.draw(st.sets(st.integers(0, count - 1)))
    seen = codes.copy()
    for index in skip:
        seen[grid.block_at(index).core.within(grid.raster)] = 0
    rows, _ = by_first_pixel(joined(codes, grid, skip=skip))
    whole = components(seen).table
    assert [row[:3] for row in rows] == np.column_stack([whole.first, whole.count]).tolist()


def test_what_is_finished_is_let_go():
    """A raster of many rows of blocks: open parts stay few however many objects there are."""
    grid = Grid(shape=(640, 64), window=16, overlap=0, block=1)
    codes = np.zeros(grid.shape, np.uint8)
    codes[2::8, ::] = 200  # a line across every block, never further down
    joiner, most, found = Joiner(grid), 0, 0
    for index in range(grid.blocks[0] * grid.blocks[1]):
        block = grid.block_at(index)
        pieces = extract(codes[block.core.within(grid.raster)], block.core)
        found += sum(map(len, joiner.add(block, pieces)))
        most = max(most, len(joiner._open))
    assert found + sum(map(len, joiner.finish())) == 80
    assert most <= 4


@pytest.mark.parametrize("outline", ["polygon", "box", "oriented"])
def test_an_empty_map_has_no_features(outline):
    grid = Grid(shape=(50, 50), window=16, overlap=0)
    assert not sum(map(len, joined(np.zeros(grid.shape, np.uint8), grid, outline=outline)))
