"""Answers zone by zone: sums of any cut in any order, objects counted once, fixed tables."""

import pickle
from itertools import pairwise, product

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from remotesam_geo.errors import InputError, RemoteSAMWarning
from remotesam_geo.mapping.executor import BlockMap
from remotesam_geo.mapping.feature_table import Found
from remotesam_geo.mapping.grid import Grid
from remotesam_geo.mapping.polygons import Features, Joiner, extract
from remotesam_geo.mapping.source import SceneDate
from remotesam_geo.mapping.zonal.zone_objects import belonging
from remotesam_geo.mapping.zonal.zone_sums import ZoneSums, tally_zones
from remotesam_geo.mapping.zonal.zone_tables import (
    CAPTION_COLUMNS,
    COUNT_COLUMNS,
    LABEL_COLUMNS,
    caption_frame,
    classify_frame,
    count_frame,
    label_frame,
    north,
    wide_columns,
)
from remotesam_geo.mapping.zonal.zones import Zones, core_zones, place_zones
from remotesam_geo.tasks import FAILED, NO_DATA, best_label, decode, merge
from remotesam_geo.words import Prompt
from tests.mapping.test_polygons import noise
from tests.mapping.zonal.test_zones import geobox, in_pixels, labels, parcels, whole

SHIP = Prompt(label="ship", expressions=("ship", "boat"), threshold=0.4)
TANK = Prompt(label="tank", expressions=("tank",), threshold=0.6)
MEMBERS = ((0, 1), (2,))
ONCE = (SceneDate(time=None, items=""),)
TWICE = (
    SceneDate(time=np.datetime64("2021-06-01", "ns"), items="a"),
    SceneDate(time=np.datetime64("2022-06-01", "ns"), items="b"),
)


def maps(shape, seed, dates=1, expressions=3):
    """Codes of all kinds (T x P x H x W): no data and failures alike in all expressions of a time."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 201, (dates, expressions, *shape)).astype(np.uint8)
    codes *= rng.random(codes.shape) < 0.5
    for at_a_time in codes:
        at_a_time[:, noise(shape, seed + 1, 0.2) > 0] = NO_DATA
        at_a_time[:, noise(shape, seed + 2, 0.1) > 0] = FAILED
    return codes


def added(codes, zones, grid, dates=ONCE, *, order=None, skip=(), prompts=(SHIP, TANK), members=MEMBERS):
    sums = ZoneSums(zones=zones, grid=grid, prompts=prompts, dates=dates)
    blocks = grid.blocks[0] * grid.blocks[1]
    tasks = [pair for pair in product(range(len(dates)), range(blocks)) if pair not in skip]
    for place in order if order is not None else range(len(tasks)):
        date, index = tasks[place]
        block = grid.block_at(index)
        here = codes[date][:, *block.core.within(grid.raster)]
        answer = BlockMap(date=date, block=block, codes=here, failures=())
        sums.add(pickle.loads(pickle.dumps(tally_zones(answer, zones, prompts, members))))
    return sums.finish()


def found(codes, prompts=(SHIP, TANK), members=MEMBERS, dates=ONCE):
    """Objects of maps, as polygons."""
    grid = Grid(shape=codes.shape[-2:], window=max(codes.shape[-2:]) + 2, overlap=0)
    out = []
    for (date, maps_then), (prompt, own) in product(zip(dates, codes, strict=True), zip(prompts, members, strict=True)):
        joiner = Joiner(grid)
        joined = maps_then[list(own)].max(axis=0)
        parts = [*joiner.add(grid.block_at(0), extract(joined, grid.raster, threshold=prompt.threshold))]
        parts += list(joiner.finish())
        if parts:
            tables = [part.table for part in parts]
            n = sum(map(len, tables))
            out.append(
                Found(
                    label=prompt.label,
                    date=date,
                    features=Features(
                        table=merge(tables, np.arange(n), n),
                        polygons=np.concatenate([part.polygons for part in parts]),
                        hulls=None,
                    ),
                )
            )
    return out


@pytest.mark.filterwarnings("ignore:.*hold the middle of no pixel")
@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 999),
    st.integers(4, 30),
    st.integers(1, 3),
    st.data(),
)
def test_sums_equal_those_of_the_whole_map_for_any_cut_and_order(seed, window, block, data):
    box = geobox(37, 41)
    shapes = parcels(seed)
    frame = gpd.GeoDataFrame(index=range(len(shapes)))
    zones = Zones(frame=frame, shapes=shapes, size=shapely.area(shapes), geobox=box)
    grid = Grid(shape=(37, 41), window=window, overlap=0, block=block)
    codes = maps((37, 41), seed, dates=2)
    tasks = list(product(range(2), range(grid.blocks[0] * grid.blocks[1])))
    skip = set(data.draw(st.lists(st.sampled_from(tasks), max_size=3)))
    order = data.draw(st.permutations(range(len(tasks) - len(skip))))
    sums = added(codes, zones, grid, TWICE, order=order, skip=skip)

    for date, index in skip:
        codes[date][:, *grid.block_at(index).core.within(grid.raster)] = NO_DATA
    painted = labels(zones, whole(box))
    for date, (number, (prompt, own)) in product(range(2), enumerate(zip((SHIP, TANK), MEMBERS, strict=True))):
        codes_then, got = codes[date][list(own)].max(axis=0), sums.tallies[date][number]
        for zone in range(len(shapes)):
            pixels = codes_then[painted == zone + 1]
            valid = pixels[pixels <= 200]
            assert got.count[zone] == len(valid)
            assert got.failed[zone] == (pixels == FAILED).sum()
            assert got.no_data[zone] == (pixels == NO_DATA).sum()
            assert got.total[zone] == sum(max(2 * int(q) - 1, 0) for q in valid)
            assert got.peak[zone] == max((max(2 * int(q) - 1, 0) for q in valid), default=-1)
            assert sums.above[date, number, zone] == (valid > 200 * prompt.threshold).sum()


def test_fractions_count_what_lies_outside_the_raster():
    box = geobox(10, 10)
    frame = in_pixels([shapely.box(-10, 0, 10, 10), shapely.box(0, 10, 10, 20)], box)
    zones = place_zones(frame, box)
    codes = np.full((1, 3, 10, 10), 50, np.uint8)
    codes[..., :5] = FAILED
    sums = added(codes, zones, Grid(shape=(10, 10), window=10, overlap=0))
    assert sums.valid_fraction(0).tolist() == [[0.25, 0.0]] * 2
    assert sums.failed_fraction(0).tolist() == [[0.25, 0.0]] * 2


def test_zones_too_small_for_a_pixel_are_announced_and_count_what_lies_in_them():
    """An object whose point lies in one is counted there all the same, so that counts sum to the total."""
    box = geobox(10, 10)
    tiny = in_pixels([shapely.box(0, 0, 10, 4), shapely.box(7, 7, 7.2, 7.2)], box, {"name": ["a", "b"]})
    zones = place_zones(tiny.set_index("name"), box)
    codes = np.zeros((1, 1, 10, 10), np.uint8)
    with pytest.warns(RemoteSAMWarning, match=r"1 zones, the first 'b', .* no pixel"):
        sums = added(
            codes,
            zones,
            Grid(shape=(10, 10), window=10, overlap=0),
            prompts=(TANK,),
            members=((0,),),
        )
    counts = count_frame([sums], [[]], ["tank"])["count"]
    assert counts.isna().tolist() == [False, True]
    assert label_frame([sums], ["tank"], details={"view": "map", "run_id": "r"})["label"].isna().all()
    # the middle of a component of four pixels is a corner of theirs: no pixel's middle, but in this zone
    codes[0, 0, 6:8, 6:8] = 200
    small = in_pixels([shapely.box(0, 0, 10, 4), shapely.box(6.9, 6.9, 7.1, 7.1)], box)
    with pytest.warns(RemoteSAMWarning, match="no pixel"):
        sums = added(
            codes,
            place_zones(small, box),
            Grid(shape=(10, 10), window=10, overlap=0),
            prompts=(TANK,),
            members=((0,),),
        )
    counts = count_frame([sums], [found(codes, (TANK,), ((0,),))], ["tank"], details={"view": "map", "run_id": "r"})[
        "count"
    ]
    assert counts.tolist() == [0, 1]


ZONES = [shapely.box(x, 0, x + 10, 20) for x in (0, 10, 20, 30)]


@pytest.fixture
def asked():
    """Four zones: ships and a tank; one ship; nothing found; nothing valid. The second time: nothing valid at all."""
    box = geobox(20, 40)
    frame = in_pixels(ZONES, box, {"name": list("dcba"), "id": [9, 9, 7, 7]}).set_index(
        pd.Index([5, 5, "x", "y"], name="plot")
    )
    codes = np.zeros((2, 3, 20, 40), np.uint8)
    codes[1] = NO_DATA
    codes[0, 0, 1:3, 1:3], codes[0, 1, 6:9, 5:7], codes[0, 2, 15:19, 1:4] = 200, 150, 190
    codes[0, 0, 2:4, 11:14] = 120
    codes[0, :, :, 30:] = NO_DATA
    codes[0, :, :4, 20:30] = FAILED
    zones = place_zones(frame, box, adds=LABEL_COLUMNS)
    sums = added(codes, zones, Grid(shape=(20, 40), window=12, overlap=2), TWICE)
    return frame, [sums], [found(codes, dates=TWICE)]


def check(table, frame, columns):
    """Zones as given, then the documented columns."""
    assert list(table.columns) == [*frame.columns, *columns]
    assert {name: str(table[name].dtype) for name in columns} == columns
    assert table.crs == frame.crs
    assert table.index.name == frame.index.name
    assert table.active_geometry_name == "geometry"
    places = [(frame["name"] == name).argmax() for name in table["name"]]
    assert places == sorted(places)
    for column in frame.columns:
        assert table[column].dtype == frame[column].dtype
    assert table.geometry.geom_equals(frame.geometry.iloc[places], align=False).all()
    assert table.index.tolist() == frame.index[places].tolist()
    assert set(table["view"]) == {"map"}
    assert set(table["run_id"]) == {"r"}
    assert set(table["resolution"].round(2)) == {1.0}


def test_label_keeps_zones_without_a_label(asked):
    frame, sums, _ = asked
    table = label_frame(sums, ["tank", "ship"], details={"view": "map", "run_id": "r"})
    check(table, frame, LABEL_COLUMNS)
    rows = table[table["time"] == TWICE[0].time]
    assert rows["name"].tolist() == ["d", "c", "b", "a"]
    assert rows["label"].fillna("-").tolist() == ["ship", "-", "-", "-"]
    # half the maximum, half the mean over 200 pixels
    assert rows["score"].iloc[0] == (0.9975 + (4 * 0.9975 + 6 * 0.7475) / 200) / 2
    assert rows["score"].isna().tolist() == [False, True, True, True]
    assert rows["failed_fraction"].tolist()[-2:] == [0.2, 0.0]
    assert rows["valid_fraction"].tolist()[-2:] == [0.8, 0.0]
    later = table[table["time"] == TWICE[1].time]
    assert later["label"].isna().all()
    assert later["score"].isna().all()
    assert (later["valid_fraction"] == 0).all()
    several = label_frame(sums, ["tank", "ship"], details={"view": "map", "run_id": "r"}, balance=1.0)
    rows = several[several["time"] == TWICE[0].time]
    assert rows["name"].tolist() == ["d", "d", "c", "b", "a"]
    assert rows["label"].fillna("-").tolist() == ["tank", "ship", "ship", "-", "-"]


def test_classify_takes_the_best_of_those_above_their_thresholds(asked):
    frame, sums, _ = asked
    table = classify_frame(sums, ["ship", "tank"], details={"view": "map", "run_id": "r"})
    check(table, frame, LABEL_COLUMNS)
    rows = table[table["time"] == TWICE[0].time]
    assert rows["label"].fillna("-").tolist() == ["ship", "ship", "-", "-"]
    assert rows["score"].tolist()[:2] == [0.9975, 0.5975]
    assert rows["covered"].tolist()[:2] == [10 / 200, 6 / 200]
    assert rows["score"].isna().tolist() == [False, False, True, True]


def test_zero_counts_are_rows_and_nothing_valid_is_no_count(asked):
    frame, sums, objects = asked
    table = count_frame(sums, objects, ["ship", "tank"], details={"view": "map", "run_id": "r"})
    check(table, frame, COUNT_COLUMNS)
    assert table["count"].astype("object").where(table["count"].notna(), None).tolist() == [
        2, 1, None, None, 1, 0, None, None, 0, 0, None, None, None, None, None, None,
    ]  # fmt: skip
    wide = count_frame(sums, objects, ["ship", "tank"], details={"view": "map", "run_id": "r"}, wide=True)
    check(wide, frame, wide_columns(["ship", "tank"]))
    first = wide[wide["time"] == TWICE[0].time]
    assert first["ship"].tolist()[:3] == [2, 1, 0]
    assert first["tank"].isna().tolist() == [False, False, False, True]


def test_captions_say_where_by_the_compass(asked):
    frame, sums, objects = asked
    table = caption_frame(sums, objects, ["ship", "tank"], details={"view": "map", "run_id": "r"})
    check(table, frame, CAPTION_COLUMNS)
    assert table["caption"].fillna("-").tolist() == [
        (
            "The area shows two ships and a tank. "
            "The ships are in the north-west and in the centre; the tank is in the south-west."
        ),
        "-",
        "The area shows a ship. It is in the north-west.",
        "-",
        "The area shows nothing of what was asked for.",
        "-",
        "-",
        "-",
    ]


def test_north_is_known_on_any_grid():
    box = GeoBox.from_bbox((500000, 0, 500100, 100), crs="EPSG:32633", resolution=1)
    for turned, expected in ((box, 0), (box.rotate(30), 30), (box.flipy(), 180)):
        zones = core_zones(Grid(shape=turned.shape.yx, window=200, overlap=0), turned)
        assert (north(zones)[0] + 90) % 360 - 90 == pytest.approx(expected, abs=0.1)
    south = GeoBox.from_bbox((-50, -2000000, 50, -1999900), crs="EPSG:3031", resolution=1)
    assert north(core_zones(Grid(shape=(100, 100), window=200, overlap=0), south))[0] == pytest.approx(180, abs=0.1)


@pytest.mark.filterwarnings("ignore:.*hold the middle of no pixel")
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(2, 9), st.booleans())
def test_zones_that_partition_an_area_sum_to_its_total(seed, n, aligned):
    """Also where their borders run through the representative points themselves."""
    box = geobox(40, 40)
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.integers(1, 80, n)) / 2 if aligned else np.sort(rng.uniform(0, 40, n))
    edges = np.unique([-1, *cuts, 41])
    cells = [shapely.box(x0, y0, x1, y1) for x0, x1 in pairwise(edges) for y0, y1 in pairwise(edges)]
    shapes = np.array(cells)
    zones = Zones(frame=gpd.GeoDataFrame(), shapes=shapes, size=shapely.area(shapes), geobox=box)
    codes = noise((40, 40), seed, 0.3)[None, None]
    objects = [part.features.polygons for part in found(codes, (TANK,), ((0,),))]
    total = sum(map(len, objects))
    for polygons in objects:
        by_point = belonging(zones, polygons)
        assert sorted(by_point.object) == list(range(len(polygons)))
        by_area = belonging(zones, polygons, "area")
        assert np.bincount(by_area.object, by_area.share) == pytest.approx(np.ones(len(polygons)))
        reached = belonging(zones, polygons, "intersects")
        assert set(zip(by_area.object, by_area.zone, strict=True)) == set(
            zip(reached.object, reached.zone, strict=True)
        )
    frame = in_pixels(shapes, box)
    placed = place_zones(frame, box)
    sums = added(codes, placed, Grid(shape=(40, 40), window=17, overlap=0), prompts=(TANK,), members=((0,),))
    counted = count_frame([sums], [found(codes, (TANK,), ((0,),))], ["tank"], details={"view": "map", "run_id": "r"})
    assert counted["count"].sum() == total


def test_an_unknown_way_to_belong_is_an_error():
    box = geobox()
    zones = place_zones(in_pixels([shapely.box(0, 0, 9, 9)], box), box)
    with pytest.raises(InputError, match="use 'point', 'intersects' or 'area'"):
        belonging(zones, np.zeros(0, object), "touch")


def test_a_label_with_the_name_of_a_column_cannot_be_one():
    with pytest.raises(InputError, match="'view'"):
        wide_columns(["ship", "view"])


def test_labels_of_two_resolutions_share_a_table():
    fine = geobox(40, 40)
    coarse = geobox(10, 10, size=4.0)
    frame = in_pixels([shapely.box(0, 0, 20, 40), shapely.box(20, 0, 40, 40)], fine)
    parts = []
    for box, prompt, value in ((fine, SHIP, 160), (coarse, TANK, 190)):
        codes = np.full((1, 1, *box.shape.yx), value, np.uint8)
        parts.append(
            added(
                codes,
                place_zones(frame, box),
                Grid(shape=box.shape.yx, window=9, overlap=0),
                prompts=(prompt,),
                members=((0,),),
            )
        )
    table = label_frame(parts, ["tank", "ship"], details={"view": "map", "run_id": "r"})
    assert table["label"].tolist() == ["tank", "ship"] * 2
    assert table["resolution"].round(1).tolist() == [4.0, 1.0] * 2
    best = classify_frame(parts, ["ship", "tank"], details={"view": "map", "run_id": "r"})
    assert best["label"].tolist() == ["tank", "tank"]
    assert best["resolution"].round(1).tolist() == [4.0, 4.0]


@given(st.integers(0, 9999))
def test_classify_equals_the_rule_for_pictures(seed):
    """One threshold for all: the same answer as `best_label` of the scores."""
    rng = np.random.default_rng(seed)
    box = geobox(6, 6)
    codes = rng.integers(0, 160, (1, 2, 6, 6)).astype(np.uint8)
    prompts = tuple(Prompt(label=name, expressions=(name,)) for name in "ab")
    zones = place_zones(in_pixels([shapely.box(0, 0, 6, 3), shapely.box(0, 3, 6, 6)], box), box)
    sums = added(codes, zones, Grid(shape=(6, 6), window=6, overlap=0), prompts=prompts, members=((0,), (1,)))
    table = classify_frame([sums], ["a", "b"], details={"view": "map", "run_id": "r"})
    scores = np.stack([decode(codes[0, :, :3]).max(axis=(1, 2)), decode(codes[0, :, 3:]).max(axis=(1, 2))], axis=1)
    expected = ["ab"[at] if at >= 0 else None for at in best_label(scores.astype(np.float64))]
    assert table["label"].where(table["label"].notna(), None).tolist() == expected
