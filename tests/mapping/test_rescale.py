"""Resampled pixels are averages, the same in any box, and untouched where grids agree."""

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from remotesam_geo.geo.box import Box
from remotesam_geo.geo.ground import plan_geobox
from remotesam_geo.mapping.rescale import Resampling
from tests.mapping.test_grid import boxes
from tests.mapping.test_stitch import raster

SOURCE = GeoBox((60, 80), Affine(0.6, 0, 400000, 0, -0.6, 5000000), "EPSG:32633")


def whole(geobox):
    return Box(top=0, left=0, bottom=geobox.shape.y, right=geobox.shape.x)


def resampled(resampling, box, rgb, valid):
    region = resampling.needs(box)
    if region is None:
        return np.zeros((*box.shape, 3), np.uint8), np.zeros(box.shape, bool)
    here = region.within(whole(resampling.source))
    return resampling.apply(rgb[here], valid[here], region, box)


TARGETS = {
    "same": SOURCE,
    "flipped": SOURCE.flipy(),
    "finer": GeoBox((100, 140), SOURCE.affine * Affine.scale(0.6), SOURCE.crs),
    "twice": GeoBox((30, 40), SOURCE.affine * Affine.scale(2), SOURCE.crs),
    "odd": GeoBox((18, 25), SOURCE.affine * Affine.scale(3.3), SOURCE.crs),
    "turned": SOURCE.rotate(25),
    "elsewhere": SOURCE.to_crs("EPSG:4326"),
    "utm": SOURCE.to_crs("EPSG:32632", resolution=1.3),
}


@given(st.data(), st.sampled_from(sorted(TARGETS)), st.integers(0, 99))
def test_any_box_equals_that_part_of_the_whole(data, name, seed):
    resampling = Resampling(source=SOURCE, target=TARGETS[name])
    rgb, valid = raster((60, 80), seed)
    all_rgb, all_valid = resampled(resampling, whole(resampling.target), rgb, valid)
    box = data.draw(boxes(resampling.target.shape.yx))
    part_rgb, part_valid = resampled(resampling, box, rgb, valid)
    here = box.within(whole(resampling.target))
    np.testing.assert_array_equal(part_valid, all_valid[here])
    np.testing.assert_array_equal(part_rgb, all_rgb[here])


@pytest.mark.parametrize(("name", "turn"), [("same", slice(None)), ("flipped", slice(None, None, -1))])
def test_pixels_that_fall_on_pixels_are_untouched(name, turn):
    rgb, valid = raster((60, 80), 1)
    out, known = resampled(Resampling(source=SOURCE, target=TARGETS[name]), whole(SOURCE), rgb, valid)
    np.testing.assert_array_equal(known, valid[turn])
    np.testing.assert_array_equal(out[known], rgb[turn][known])


def test_twice_as_coarse_is_the_mean_of_four():
    rgb, _ = raster((60, 80), 2)
    out, known = resampled(
        Resampling(source=SOURCE, target=TARGETS["twice"]),
        whole(TARGETS["twice"]),
        rgb,
        np.ones((60, 80), bool),
    )
    mean = rgb.reshape(30, 2, 40, 2, 3).mean(axis=(1, 3))
    assert known.all()
    assert np.abs(out - mean).max() <= 0.5


def test_only_valid_pixels_are_averaged():
    rgb = np.full((60, 80, 3), 50, np.uint8)
    valid = np.zeros((60, 80), bool)
    valid[::2] = True
    rgb[1::2] = 255
    target = TARGETS["twice"]
    out, known = resampled(Resampling(source=SOURCE, target=target), whole(target), rgb, valid)
    assert known.all()
    assert (out == 50).all()
    valid[::4] = False
    _, known = resampled(Resampling(source=SOURCE, target=target), whole(target), rgb, valid)
    np.testing.assert_array_equal(known, np.arange(30)[:, None] % 2 * np.ones((1, 40)) == 1)


@pytest.mark.parametrize("name", ["elsewhere", "utm", "turned", "odd", "finer"])
def test_a_smooth_picture_stays_at_its_place(name):
    """A ramp along x and y, read back at each new pixel's own coordinates."""
    target = TARGETS[name]
    row, col = np.mgrid[:60, :80] + 0.5
    rgb = np.stack([3 * col, 4 * row, col + row], axis=-1).astype(np.uint8)
    resampling = Resampling(source=SOURCE, target=target)
    out, known = resampled(resampling, whole(target), rgb, np.ones((60, 80), bool))
    from rasterio.transform import rowcol
    from rasterio.warp import transform

    r, c = np.nonzero(known)
    x, y = target.affine * np.stack([c + 0.5, r + 0.5])
    x, y = transform(target.crs.to_wkt(), SOURCE.crs.to_wkt(), x, y)
    r0, c0 = rowcol(SOURCE.affine, x, y, op=lambda value: value)
    inside = (np.array(r0) > 3) & (np.array(r0) < 56) & (np.array(c0) > 3) & (np.array(c0) < 76)
    assert inside.sum() > 100
    expected = np.stack([3 * np.array(c0) - 0.5, 4 * np.array(r0) - 0.5], axis=-1)[inside]
    assert np.abs(out[known][inside, :2] - expected).max() <= 2.6


def test_degrees_reach_the_predictor_square():
    """A disc on the ground at 60 degrees north, in EPSG:4326, is round within 5 % on the plan's grid."""
    source = GeoBox.from_bbox((9.99, 59.99, 10.01, 60.01), crs="EPSG:4326", resolution=5e-5)
    plan = plan_geobox(source)
    lon, lat = np.meshgrid(*(source.coords[name].values for name in ("longitude", "latitude")))
    disc = np.hypot((lon - 10) * 55800, (lat - 60) * 111412) < 300
    rgb = np.repeat((disc * 255).astype(np.uint8)[..., None], 3, axis=-1)
    resampling = Resampling(source=source, target=plan)
    region = resampling.needs(whole(plan))
    here = region.within(whole(source))
    out, _ = resampling.apply(rgb[here], np.ones(rgb.shape[:2], bool)[here], region, whole(plan))
    rows, cols = np.nonzero(out[..., 0] > 127)
    assert np.ptp(rows) == pytest.approx(np.ptp(cols), rel=0.05)
    assert np.ptp(rows) * plan.resolution.x == pytest.approx(600, rel=0.02)
