"""The world on the Earth: any CRS, window, chunking and time give the same pixels and the same truth."""

import dataclasses
import doctest
import importlib
import itertools
import pickle

import dask
import numpy as np
import pyproj
import pytest
import rasterio
import rasterio.features
import shapely
from affine import Affine
from dask.base import tokenize
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from remotesam_geo.errors import InputError
from remotesam_geo.learning.synthetic import CLASSES, LANDCOVER, Acquisition, Sensor, World
from remotesam_geo.learning.synthetic import view as views
from remotesam_geo.learning.synthetic.life import MOBILE
from remotesam_geo.learning.synthetic.texture import cloud

CRS = ("EPSG:32632", "EPSG:4326", "EPSG:3857", "EPSG:25832")
TWICE = (
    Acquisition(time="2024-06-01"),
    Acquisition(time="2025-06-01", shift=(2.0, 0.0), clouds=0.25),
)
WORLD = World(7, acquisitions=TWICE)
GEOD = pyproj.Geod(ellps="WGS84")


def geobox(crs="EPSG:32632", shape=(330, 420), world=WORLD, resolution=0.4, centre=(140.0, 60.0)):
    return world.geobox(crs, resolution=resolution, shape=shape, centre=centre)


# --- the same for any window and chunking ---------------------------------------------------------

WHOLE = {crs: geobox(crs) for crs in CRS}
spans = st.integers(0, 300).flatmap(lambda a: st.tuples(st.just(a), st.integers(a + 1, 330)))


@given(crs=st.sampled_from(CRS), rows=spans, columns=spans, time=st.integers(0, 1))
@settings(max_examples=25)
def test_any_window_shows_the_same_pixels_and_truth(crs, rows, columns, time):
    whole = WHOLE[crs]
    cut = np.s_[slice(*rows), slice(*columns)]
    part = whole[cut]
    for what in (WORLD.render, WORLD.labels, WORLD.clouds):
        assert (what(part, time=time) == what(whole, time=time)[cut]).all()
    assert (WORLD.landcover(part) == WORLD.landcover(whole)[cut]).all()
    all_truth, truth = WORLD.truth(whole, time=time), WORLD.truth(part, time=time)
    window = shapely.box(columns[0], rows[0], columns[1], rows[1])
    to_pixels = ~whole.affine
    seen = all_truth.geometry.affine_transform(to_pixels.to_shapely()).intersects(window)
    assert list(truth.index) == list(all_truth.index[seen])
    assert (truth.geometry.to_wkb() == all_truth.geometry[seen].to_wkb()).all()
    same = ["label", "colour", "area_m2", "length_m", "width_m", "time"]
    assert truth[same].equals(all_truth.loc[seen, same])


@given(chunks=st.tuples(st.integers(40, 400), st.integers(40, 500)), crs=st.sampled_from(CRS))
@settings(max_examples=10)
def test_a_lazy_scene_is_the_same_for_any_chunks(chunks, crs):
    whole = WHOLE[crs]
    views.tile.cache_clear()
    lazy = WORLD.scene(whole, chunks=chunks, mask_clouds=True)
    with dask.config.set(scheduler="threads", num_workers=2):
        scene = lazy.compute()
    for time in (0, 1):
        rgb = np.stack([scene[name].values[time] for name in ("red", "green", "blue")], -1)
        assert (rgb == WORLD.render(whole, time=time)).all()
        assert (scene.valid.values[time] == ~WORLD.clouds(whole, time=time)).all()


def test_a_lazy_scene_looks_like_a_loaded_one():
    views.tile.cache_clear()
    scene = WORLD.scene(WHOLE["EPSG:32632"], chunks=(100, 200))
    assert views.tile.cache_info().currsize == 0  # nothing was painted yet
    assert dict(scene.sizes) == {"time": 2, "y": 330, "x": 420}
    assert scene.red.chunks == ((1, 1), (100, 100, 100, 30), (200, 200, 20))
    assert {str(v.dtype) for v in (scene.red, scene.green, scene.blue)} == {"uint8"}
    assert scene.valid.dtype == bool
    assert scene.odc.geobox == WHOLE["EPSG:32632"]
    assert scene.time.values[1] == np.datetime64("2025-06-01", "ns")
    assert scene.red.encoding["grid_mapping"] == "spatial_ref"
    same = World(7, acquisitions=TWICE).scene(WHOLE["EPSG:32632"], chunks=(100, 200))
    assert scene.red.data.name == same.red.data.name
    assert scene.red.data.name != World(8).scene(WHOLE["EPSG:32632"]).red.data.name
    assert len(pickle.dumps(scene)) < 200_000


def test_worlds_are_values():
    assert World(7, acquisitions=TWICE) == WORLD
    assert hash(World(7, acquisitions=TWICE)) == hash(WORLD)
    assert tokenize(World(7, acquisitions=TWICE)) == tokenize(WORLD)
    assert pickle.loads(pickle.dumps(WORLD)) == WORLD
    assert (World(8).render(WHOLE["EPSG:32632"]) != WORLD.render(WHOLE["EPSG:32632"])).mean() > 0.5


# --- truth ----------------------------------------------------------------------------------------


def turned():
    """A window that is not north up and has oblong pixels."""
    base = geobox(shape=(10, 10)).affine
    return GeoBox((250, 310), base * Affine.rotation(33) * Affine.scale(1.3, 0.8), "EPSG:32632")


def oblong():
    """Pixels of degrees, far taller on the ground than wide."""
    base = geobox("EPSG:4326", shape=(10, 10)).affine
    return GeoBox((150, 500), base * Affine.scale(1, 5), "EPSG:4326")


@pytest.mark.parametrize("window", [*WHOLE.values(), turned(), oblong()], ids=[*CRS, "turned", "oblong"])
@pytest.mark.parametrize("time", [0, 1])
def test_truth_polygons_rasterise_to_the_labels_exactly(window, time):
    truth, labels = WORLD.truth(window, time=time), WORLD.labels(window, time=time)
    assert truth.crs == window.crs
    assert truth.is_valid.all()
    pairs = zip(truth.geometry, truth.index, strict=True)
    burnt = rasterio.features.rasterize(pairs, window.shape, transform=window.affine, fill=0, dtype="int64")
    assert len(truth) > 10
    assert (burnt == labels).all()


@pytest.mark.parametrize("anchor", [(9.0, 50.0), (11.8, 61.0), (-70.0, -33.0)])
def test_areas_and_positions_are_true_in_every_crs(anchor):
    zone = f"EPSG:{32600 if anchor[1] > 0 else 32700}".removesuffix("00")
    utm = f"{zone}{int((anchor[0] + 180) // 6) + 1:02d}"
    world = World(7, anchor=anchor)
    centre, found = (30_000.0, -20_000.0), {}
    for crs in (utm, "EPSG:4326", "EPSG:3857"):
        window = geobox(crs, world=world, centre=centre)
        truth = world.truth(window)
        degrees = truth.to_crs("EPSG:4326")
        area = [abs(GEOD.geometry_area_perimeter(g)[0]) for g in degrees.geometry]
        assert truth.area_m2.to_numpy() == pytest.approx(area, rel=1e-4, abs=0.01)
        _long_sides_are_true(degrees)
        _pixels_are_true(window, 0.4)
        found[crs] = degrees[~truth.cut]
    first = found[utm]
    for other in found.values():
        both = first.index.intersection(other.index)
        assert len(both) > 20
        a, b = (_centres(frame.loc[both]) for frame in (first, other))
        off = GEOD.inv(a[:, 0], a[:, 1], b[:, 0], b[:, 1])[2]
        assert np.max(off) < 1e-3  # metres


def _centres(frame):
    return np.array([g.centroid.coords[0] for g in frame.geometry])


def _long_sides_are_true(degrees):
    """The outline's points lie as far apart on the ellipsoid as the table says."""
    for row in degrees[degrees.label.isin(["tennis court"])].itertuples():
        x, y = np.array(row.geometry.exterior.coords).T
        sides = GEOD.inv(x[:-1], y[:-1], x[1:], y[1:])[2]
        assert max(sides) == pytest.approx(row.length_m, rel=2e-4)
        assert min(sides) == pytest.approx(row.width_m, rel=2e-4)


def _pixels_are_true(window, resolution):
    height, width = window.shape
    pixels = np.array([(width / 2 + dx, height / 2 + dy) for dx, dy in ((0, 0), (1, 0), (0, 1))])
    x, y = window.affine * pixels.T
    x, y = pyproj.Transformer.from_crs(str(window.crs), 4326, always_xy=True).transform(x, y)
    steps = GEOD.inv([x[0], x[0]], [y[0], y[0]], x[1:], y[1:])[2]
    assert steps == pytest.approx([resolution] * 2, rel=1e-3)


@pytest.mark.parametrize("crs", CRS)
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_the_picture_lies_where_its_truth_lies(crs, offset):
    """Brightness changes most on the borders of the labels, not a pixel beside them."""
    sharp = Sensor(name="sharp", noise=(0, 0), haze=(0, 0), blur=(0.3, 0.3))
    world = World(7, acquisitions=(Acquisition(sensor=sharp),))
    whole = geobox(crs, (500, 500), world)
    window = GeoBox(whole.shape, whole.affine * Affine.translation(offset, offset), whole.crs)
    grey, labels = world.render(window).mean(-1), world.labels(window)
    for axis in (0, 1):
        steps = np.abs(np.diff(grey, axis=axis))
        border = np.diff(labels, axis=axis) != 0
        at = [steps[np.roll(border, k, axis)].mean() for k in (-1, 0, 1)]
        assert at[1] == max(at)
        assert at[0] == pytest.approx(at[2], rel=0.25)  # and neither side is favoured


def test_masks_cover_the_area_that_truth_states():
    window = geobox("EPSG:4326", shape=(600, 700))
    truth, labels = WORLD.truth(window), WORLD.labels(window)
    whole = truth[~truth.cut & (truth.area_m2 > 20)]
    pixels = np.array([(labels == i).sum() for i in whole.index])
    assert pixels * 0.4**2 == pytest.approx(whole.area_m2.to_numpy(), rel=0.12)
    assert pixels.sum() * 0.4**2 == pytest.approx(whole.area_m2.sum(), rel=0.01)


def test_truth_says_what_reaches_out_of_the_window():
    window = WHOLE["EPSG:3857"]
    truth = WORLD.truth(window)
    outside = ~truth.geometry.within(window.extent.geom)
    assert (truth.cut == outside).all()
    assert 0 < truth.cut.sum() < len(truth)
    assert set(truth.label) <= set(CLASSES)
    assert set(np.unique(WORLD.landcover(window))) <= set(LANDCOVER.values())


def test_the_ground_has_no_gaps_where_the_projection_bends_its_edges():
    world = World(7, anchor=(25.0, 69.0))
    for crs in ("EPSG:3857", "EPSG:4326"):
        window = geobox(crs, (1200, 1200), world, resolution=0.3, centre=(20_000.0, 9_000.0))
        assert world.landcover(window).min() > 0
        assert (world.render(window)[..., 1] < 12).mean() < 1e-3  # nothing was left unpainted


def test_an_empty_window_has_an_empty_table_with_the_same_columns():
    some = WORLD.truth(WHOLE["EPSG:32632"])
    hole = np.argwhere(WORLD.labels(WHOLE["EPSG:32632"]) == 0)[0]
    none = WORLD.truth(WHOLE["EPSG:32632"][hole[0] : hole[0] + 1, hole[1] : hole[1] + 1])
    none = none[:0] if len(none) else none
    assert list(none.columns) == list(some.columns)
    assert none.dtypes.equals(some.dtypes)
    assert none.crs == some.crs


# --- time -----------------------------------------------------------------------------------------

YEARS = World(
    7,
    change=0.3,
    acquisitions=tuple(Acquisition(time=f"{year}-06-01") for year in range(2020, 2025)),
)
BIG = YEARS.geobox("EPSG:32632", resolution=0.5, shape=(1600, 1600))


def test_changes_are_what_the_truth_of_both_times_says():
    before, after = YEARS.truth(BIG, time=0), YEARS.truth(BIG, time=3)
    changes = YEARS.changes(BIG, before=0, after=3)
    assert set(changes.index) == set(before.index) | set(after.index)
    for row in changes.itertuples():
        old = before.loc[row.Index] if row.Index in before.index else None
        new = after.loc[row.Index] if row.Index in after.index else None
        if old is None:
            assert (row.state, row.label, row.what) == ("appeared", new.label, "")
            assert row.geometry.equals(new.geometry)
        elif new is None:
            assert (row.state, row.label, row.what) == ("disappeared", old.label, "")
            assert row.geometry.equals(old.geometry)
        elif old.colour != new.colour:
            assert (row.state, row.what) == ("changed", "colour")
            assert (row.colour_before, row.colour_after) == (old.colour, new.colour)
        elif not old.geometry.equals(new.geometry):
            assert (row.state, row.what) == ("changed", "size")
            assert row.area_m2_after > row.area_m2_before
        else:
            assert (row.state, row.what) == ("persisted", "")
    assert {"colour", "size"} <= set(changes.what)
    assert set(changes.state) == {"appeared", "disappeared", "changed", "persisted"}
    assert changes.crs == BIG.crs


def test_things_built_stay_and_things_that_move_come_back():
    at = [set(YEARS.truth(BIG, time=k).index) for k in range(5)]
    labels = {}
    for k in range(5):
        labels |= YEARS.truth(BIG, time=k).label.to_dict()
    returns = {"fixed": 0, "mobile": 0}
    for ident, label in labels.items():
        there = [ident in some for some in at]
        flips = sum(a != b for a, b in itertools.pairwise(there))
        returns["mobile" if label in MOBILE else "fixed"] += flips > 1
    assert returns["fixed"] == 0
    assert returns["mobile"] > 30


def test_the_rate_of_change_is_the_one_asked_for():
    mobile = [YEARS.truth(BIG, time=k).label.isin(MOBILE).sum() for k in range(5)]
    still = World(7).truth(BIG)
    assert np.mean(mobile) / still.label.isin(MOBILE).sum() == pytest.approx(0.7, abs=0.05)
    fixed = YEARS.changes(BIG, before=0, after=-1)
    fixed = fixed[~fixed.label.isin(MOBILE)]
    assert (fixed.state != "persisted").mean() == pytest.approx(0.3, abs=0.06)
    calm = dataclasses.replace(YEARS, change=0.0)
    assert (calm.changes(BIG).state == "persisted").all()


def test_what_is_gone_is_gone_from_the_picture_too():
    plain = Sensor(name="plain", noise=(0, 0), haze=(0, 0), gain=(1, 1), cast=0, gamma=(1, 1))
    world = World(
        7,
        change=0.3,
        acquisitions=tuple(Acquisition(time=f"{year}-06-01", sensor=plain) for year in (2020, 2021)),
    )
    window = world.geobox("EPSG:32632", resolution=0.4, shape=(512, 512))
    one, two = (world.render(window, time=k).astype(int) for k in (0, 1))
    labels = [world.labels(window, time=k) for k in (0, 1)]
    difference = np.abs(one - two).mean(-1)
    gone = (labels[0] > 0) & (labels[1] == 0)
    stayed = (labels[0] == labels[1]) & (labels[0] > 0)
    assert gone.sum() > 300
    assert np.median(difference[gone]) > 3 * np.median(difference[stayed])


def test_a_shift_moves_the_picture_and_not_the_truth():
    plain = Sensor(name="plain", noise=(0, 0))
    still = World(7, acquisitions=(Acquisition(sensor=plain),))
    moved = World(7, acquisitions=(Acquisition(sensor=plain, shift=(2.0, -1.2)),))
    window = still.geobox("EPSG:32632", resolution=0.4, shape=(300, 300))
    a, b = still.render(window).astype(int), moved.render(window).astype(int)
    # 2 m east are 5 pixels to the right, 1.2 m south 3 pixels down.
    at = {
        (dx, dy): np.abs(a[20:-20, 20:-20] - b[20 + dy : 280 + dy, 20 + dx : 280 + dx]).mean()
        for dx in range(3, 8)
        for dy in range(1, 6)
    }
    assert min(at, key=at.__getitem__) == (5, 3)
    assert at[5, 3] < 0.5 * min(v for k, v in at.items() if k != (5, 3))
    assert (still.labels(window) == moved.labels(window)).all()
    assert still.truth(window).equals(moved.truth(window))


def test_clouds_hide_their_share_and_leave_the_rest_alone():
    plain = Sensor(name="plain", noise=(0, 0))
    to_plane = np.array([(8.0, 0, 0), (0, 8.0, 0)])
    hidden = [cloud(to_plane, (512, 512), share=share, key=9) > 0 for share in (0.1, 0.4, 0.9)]
    assert [h.mean() for h in hidden] == pytest.approx([0.1, 0.4, 0.9], abs=0.03)
    cloudy = World(7, acquisitions=(Acquisition(clouds=0.3, sensor=plain),))
    clear = World(7, acquisitions=(Acquisition(sensor=plain),))
    window = clear.geobox("EPSG:32632", resolution=0.5, shape=(512, 512))
    hidden = cloudy.clouds(window)
    a, b = clear.render(window).astype(int), cloudy.render(window).astype(int)
    assert not clear.clouds(window).any()
    assert (b - a)[hidden].mean() > 40
    assert (b - a)[~hidden].max() < 25  # outside clouds there is only their shadow
    assert (cloudy.labels(window) == clear.labels(window)).all()


def test_acquisitions_differ_in_light():
    window = YEARS.geobox("EPSG:32632", resolution=0.5, shape=(256, 256))
    one, two = YEARS.render(window, time=0), YEARS.render(window, time=1)
    assert (one != two).mean() > 0.5
    assert (one == YEARS.render(window, time=-5)).all()


# --- files, pages and mistakes ---------------------------------------------------------------------------


def test_a_file_is_a_cloud_optimised_geotiff_of_the_window(tmp_path):
    window = geobox("EPSG:32632", shape=(700, 900))
    path = WORLD.write(tmp_path / "new" / "a.tif", window, time=1)
    with rasterio.open(path) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.overviews(1) == [2]
        assert file.crs.to_epsg() == 32632
        assert file.transform.almost_equals(window.affine)
        assert file.descriptions == ("red", "green", "blue")
        assert (file.read().transpose(1, 2, 0) == WORLD.render(window, time=1)).all()


def test_mistakes_are_named_with_the_remedy():
    with pytest.raises(InputError, match=r"no CRS.*geobox"):
        WORLD.render(GeoBox((5, 5), Affine.identity(), None))
    with pytest.raises(InputError, match=r"pixel is 8 m wide.*5.0 m or finer"):
        WORLD.render(geobox(resolution=8.0, shape=(5, 5)))
    with pytest.raises(InputError, match=r"no acquisition 2; the world has 2"):
        WORLD.truth(WHOLE["EPSG:4326"], time=2)
    with pytest.raises(InputError, match=r"above 0 metres, not 0"):
        geobox(resolution=0)
    with pytest.raises(InputError, match=r"share from 0 to 1, not 1.5"):
        Acquisition(clouds=1.5)
    with pytest.raises(InputError, match=r"'radar' is not known"):
        Acquisition(sensor="radar")
    with pytest.raises(InputError, match=r"one acquisition at least"):
        World(1, acquisitions=())
    with pytest.raises(InputError, match=r"follow each other in time"):
        World(1, acquisitions=TWICE[::-1])
    with pytest.raises(InputError, match=r"ISO date, not 'yesterday'"):
        Acquisition(time="yesterday")
    with pytest.raises(InputError, match=r"not \(50.0, 95.0\)"):
        World(1, anchor=(50.0, 95.0))
    with pytest.raises(InputError, match=r"share from 0 to 1, not 2"):
        World(1, change=2)


@pytest.mark.parametrize("module", ["chance", "earth", "descriptions", "picture", "layout", "rasterize", "shapes"])
def test_examples_of_docstrings_run(module):
    ran = doctest.testmod(importlib.import_module(f"remotesam_geo.learning.synthetic.{module}"))
    assert ran.attempted
    assert not ran.failed
