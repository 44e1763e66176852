"""Objects over time: known changes found, nothing false where nothing could be seen."""

from collections import Counter
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from geopandas.testing import assert_geodataframe_equal
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import shapes
from scipy import ndimage

from remotesam_geo import match_over_time
from remotesam_geo.errors import InputError
from remotesam_geo.learning.synthetic import Acquisition
from remotesam_geo.tracking.match import COLUMNS
from remotesam_geo.tracking.visibility import observed_area
from tests.tracking.seen import events, look

UTM = "EPSG:32633"
RASTERS = Path(__file__).parents[1] / "data" / "rasters"
TIMES = [np.datetime64(f"20{year}-06-01", "ns") for year in range(20, 28)]
ALL = shapely.box(-1000, -1000, 1000, 1000)


def objects(*times, label="ship", crs=UTM):
    """A list of polygons for each time."""
    rows = [(label, TIMES[time], shape) for time, found in enumerate(times) for shape in found]
    names, when, geometry = zip(*rows, strict=True)
    return gpd.GeoDataFrame({"label": list(names), "time": list(when)}, geometry=list(geometry), crs=crs)


def box(x, y=0, width=20, height=10):
    return shapely.box(x, y, x + width, y + height)


def states(result, time):
    return sorted(result.loc[result["time"] == TIMES[time], "state"])


def test_what_becomes_of_objects():
    result = match_over_time(
        objects(
            [box(0), box(100), box(200, 0, 40), box(300, 0, 18), box(322, 0, 18)],
            [box(1), box(100, 0, 8), box(200, 0, 18), box(222, 0, 18), box(300, 0, 40), box(400)],
        ),
        tolerance=2,
    )
    later = result[result["time"] == TIMES[1]].set_index(result[result["time"] == TIMES[1]].geometry.bounds["minx"])
    assert later["state"].to_dict() == {
        1: "persisted", 100: "changed", 200: "split", 222: "split", 300: "merged", 400: "appeared",
    }  # fmt: skip
    tracks = result[result["time"] == TIMES[0]].sort_values("time", kind="stable")
    by_x = tracks.set_index(tracks.geometry.bounds["minx"])["track"]
    assert set(later.loc[[200, 222], "parents"]) == {by_x[200]}
    assert later.loc[300, "parents"] == " ".join(sorted([by_x[300], by_x[322]]))
    assert later.loc[1, "track"] == by_x[0]
    assert later.loc[1, "moved_m"] == pytest.approx(1, abs=0.01)
    assert later.loc[1, "iou"] == pytest.approx(19 / 21)
    assert by_x[200] in set(later.loc[[200, 222], "track"])
    assert (result["state"] == "disappeared").sum() == 0
    assert later["track"].is_unique


def test_a_track_goes_on_behind_a_cloud():
    """Hidden once, it is neither gone nor new; gone later, it is gone once."""
    cloud = ALL.difference(shapely.box(-10, -10, 50, 50))
    looks = dict(zip(TIMES[:5], [ALL, cloud, ALL, ALL, ALL], strict=True))
    result = match_over_time(
        objects([box(0), box(500)], [box(500)], [box(1), box(20, 20), box(500)], [box(500)], [box(500)]),
        tolerance=2,
        observed=looks,
    )
    track = result[result["track"] == result.loc[result.geometry.bounds["minx"] == 0, "track"].iloc[0]]
    assert track["state"].tolist() == ["first", "not observed", "persisted", "disappeared"]
    assert track["last_seen"].tolist()[1:] == [TIMES[0], TIMES[0], TIMES[2]]
    assert track["visible"].tolist() == [1, 0, 1, 1]
    new = result[result.geometry.bounds["minx"] == 20]
    # its place was seen empty at the first time already
    assert new["state"].tolist() == ["appeared", "disappeared"]
    assert states(result, 4) == ["persisted"]


def test_what_comes_to_light_has_not_appeared():
    hidden = ALL.difference(shapely.box(-10, -10, 50, 50))
    result = match_over_time(
        objects([box(500)], [box(0), box(500)]),
        tolerance=2,
        observed={TIMES[0]: hidden, TIMES[1]: ALL},
    )
    assert states(result, 1) == ["first", "persisted"]


def test_an_object_that_the_cloud_cuts_has_not_changed():
    """Halves of it, and pieces on both sides of a narrow cloud, are still it."""
    half, band = shapely.box(10, -5, 60, 30), shapely.box(8, -5, 12, 30)
    looks = dict(zip(TIMES[:5], [ALL, ALL.difference(half), ALL, ALL.difference(band), ALL], strict=True))
    whole, pieces = box(0), [box(0, 0, 8), box(12, 0, 8)]
    result = match_over_time(objects([whole], [box(0, 0, 10)], [whole], pieces, [whole]), tolerance=2, observed=looks)
    assert result["track"].nunique() == 1
    assert result["state"].tolist() == ["first"] + ["persisted"] * 5


def test_times_at_which_nothing_was_found_are_known_from_what_was_observed():
    frame = objects([box(0)], [], [box(0)])
    assert match_over_time(frame, tolerance=2)["state"].tolist() == ["first", "persisted"]
    looks = dict.fromkeys(TIMES[:4], ALL)
    result = match_over_time(frame, tolerance=2, observed=looks)
    assert result["state"].tolist() == ["first", "disappeared", "appeared", "disappeared"]
    assert result["track"].nunique() == 2
    table = gpd.GeoDataFrame({"time": list(looks)}, geometry=list(looks.values()), crs=UTM)
    assert_geodataframe_equal(match_over_time(frame, tolerance=2, observed=table), result)


ACQUISITIONS = (
    Acquisition(time="2024-06-01"),
    Acquisition(time="2025-06-01", shift=(2.0, 0.0), clouds=0.15),
    Acquisition(time="2026-06-01", shift=(-1.0, 1.0)),
)


def test_known_changes_are_found_through_a_shift_and_clouds():
    """A faultless model in the procedural world, seen 2 m off and through clouds."""
    tally = Counter()
    for seed in (4, 8):
        seen = look(seed, ACQUISITIONS)
        result = match_over_time(seen.found, observed=seen.scene)
        said = events(result)
        tally += Counter(
            said=len(said),
            true=len(said & seen.possible),
            required=len(seen.required),
            met=len(said & seen.required),
            hidden=sum(share < 0.9 for share in seen.share.values()),
        )
        # no false change where the place could not be seen, then or now
        false = said - seen.possible
        assert all(min(seen.share[number, time] for time in range(step + 1)) >= 0.9 for number, step, _ in false)
        shifts = result.groupby("time")[["shift_x_m", "shift_y_m"]].first().to_numpy()
        np.testing.assert_allclose(shifts, [[0, 0], [2, 0], [-1, 1]], atol=0.05)
        assert "not observed" in set(result["state"])
    precision, recall = tally["true"] / tally["said"], tally["met"] / tally["required"]
    assert 2 * precision * recall / (precision + recall) >= 0.95
    assert tally["required"] > 100
    assert tally["hidden"] > 10


def test_the_scene_says_what_was_observed():
    seen = look(4, ACQUISITIONS, shape=(120, 150))
    area = observed_area(seen.scene)
    valid = seen.scene["valid"].to_numpy().sum(axis=(1, 2)) * seen.scene.odc.geobox.resolution.x**2
    found = area.assign(area=area.geometry.area).groupby("time")["area"].sum()
    np.testing.assert_allclose(found.to_numpy(), valid, rtol=1e-9)
    by_scene = match_over_time(seen.found, observed=seen.scene)
    assert_geodataframe_equal(match_over_time(seen.found, observed=area), by_scene)


places = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(2, 9), st.integers(2, 9)).map(
    lambda at: shapely.box(at[0] * 5, at[1] * 5, at[0] * 5 + at[2] * 2, at[1] * 5 + at[3] * 2)
)
histories = st.lists(st.lists(places, max_size=7, unique_by=lambda p: p.bounds), min_size=1, max_size=4).filter(any)


@settings(max_examples=15, deadline=None)
@given(histories, st.randoms(use_true_random=False), st.booleans(), st.booleans())
def test_the_order_of_rows_changes_nothing(times, random, clouded, align):
    frame = objects(*times)
    looks = {TIMES[time]: ALL for time in range(len(times))}
    if clouded:
        looks[TIMES[len(times) // 2]] = ALL.difference(shapely.box(0, 0, 40, 40))
    order = list(range(len(frame)))
    random.shuffle(order)
    options = {"tolerance": 2, "observed": looks, "max_shift": 5.0 * align}
    result = match_over_time(frame, **options)
    assert_geodataframe_equal(match_over_time(frame.iloc[order], **options), result)
    # every row once, and what is gone but once in a row of its track
    seen = ~result["state"].isin(["disappeared", "not observed"])
    assert seen.sum() == len(frame)
    assert not result[~seen].duplicated(["track", "time"]).any()
    # what comes later changes nothing of what was said before
    last = frame["time"].max()
    earlier = frame[frame["time"] < last]
    if len(earlier):
        kept = {time: look for time, look in looks.items() if time < last}
        before = match_over_time(earlier, **{**options, "observed": kept})
        assert_geodataframe_equal(before, result[result["time"] < last].reset_index(drop=True))


@settings(max_examples=12, deadline=None)
@given(st.lists(places, min_size=1, max_size=9), st.integers(2, 4))
def test_where_nothing_changes_everything_persists(found, times):
    apart = []
    for shape in found:
        if all(shapely.intersection(shape, other).area == 0 for other in apart):
            apart.append(shape)
    result = match_over_time(objects(*[apart] * times), tolerance=2, max_shift=4)
    assert Counter(result["state"]) == Counter(first=len(apart), persisted=len(apart) * (times - 1))
    assert result["track"].nunique() == len(apart)
    assert (result["iou"].dropna() == 1).all()
    assert (result["shift_x_m"] == 0).all()


@settings(max_examples=20, deadline=None)
@given(st.lists(places, min_size=1, max_size=6, unique_by=lambda p: p.bounds), st.data())
def test_matching_equals_trying_everything(old, data):
    """An independent matcher over all subsets of pairs: what persisted sums to the most there can be."""
    new = data.draw(st.lists(places, min_size=1, max_size=5, unique_by=lambda p: p.bounds))
    tolerance = 3.0
    result = match_over_time(objects(old, new), tolerance=tolerance)

    def score(a, b):
        iou = a.intersection(b).area / a.union(b).area
        dx, dy = a.centroid.x - b.centroid.x, a.centroid.y - b.centroid.y
        distance = (dx**2 + dy**2) ** 0.5
        pull = min(1, tolerance / distance) if distance else 0
        laid = shapely.transform(b, lambda xy: xy + np.array([dx, dy]) * pull)
        aligned = max(iou, a.intersection(laid).area / a.union(laid).area)
        across = 2 * (max(a.area, b.area) / np.pi) ** 0.5
        near = distance <= tolerance and (aligned >= 0.5 or across <= 2 * tolerance)
        return max(iou if iou >= 0.2 else 0, 1 - distance / (2 * tolerance) if near else 0)

    def best(left, right):
        if not left:
            return 0.0
        rest = [best(left[1:], right)]
        rest += [
            score(left[0], b) + best(left[1:], right[:at] + right[at + 1 :])
            for at, b in enumerate(right)
            if score(left[0], b) > 0
        ]
        return max(rest)

    first = result[result["time"] == TIMES[0]].set_index("track").geometry
    followed = result[(result["time"] == TIMES[1]) & result["iou"].notna()]
    got = sum(score(first[row.track], row.geometry) for row in followed.itertuples())
    assert got == pytest.approx(best(old, new))
    assert followed["track"].is_unique


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32633", "EPSG:3995"])
def test_metres_are_true_in_any_crs(crs):
    """At 60 degrees north, where a degree of longitude is half one of latitude."""
    frame = objects([box(0), box(100)], [box(2.5), box(100, 2.5)], [box(5.6), box(100, 5.6)])
    moved = frame.set_geometry(frame.translate(500000, 6651000)).to_crs(crs)
    result = match_over_time(moved, tolerance=2.9, same=0)
    assert result["state"].tolist() == ["first"] * 2 + ["persisted"] * 4
    assert result["moved_m"].dropna().to_numpy() == pytest.approx([2.5, 2.5, 3.1, 3.1], rel=0.01)
    # by more than the tolerance: small objects are others
    tiny = objects([box(0, 0, 3, 3)], [box(2.5, 0, 3, 3)])
    tiny = tiny.set_geometry(tiny.translate(500000, 6651000)).to_crs(crs)
    assert states(match_over_time(tiny, tolerance=2.4), 1) == ["appeared", "disappeared"]
    assert states(match_over_time(tiny, tolerance=2.6), 1) == ["persisted"]


def test_pictures_are_matched_in_pixels():
    frame = objects([box(0)], [box(3)], crs=None)
    assert match_over_time(frame, tolerance=4)["state"].tolist() == ["first", "persisted"]


@pytest.mark.parametrize("rows", [0, 2])
def test_columns_are_fixed(rows):
    frame = objects([box(0)], [box(1)]).assign(score=0.5, resolution=1.0, id=["a", "b"]).iloc[:rows]
    frame.index = pd.Index([7, 7][:rows], name="row")
    result = match_over_time(frame, tolerance=2)
    assert list(result.columns) == [*frame.columns, *COLUMNS]
    assert {name: str(result[name].dtype) for name in COLUMNS} == COLUMNS
    assert str(result["time"].dtype) == "datetime64[ns]"
    assert result.crs == frame.crs
    for column in ("score", "resolution", "id", "label"):
        assert result[column].dtype == frame[column].dtype
    if rows:
        assert result["track"].tolist() == ["a", "a"]
        assert match_over_time(frame)["state"].tolist() == ["first", "persisted"]  # three pixels


def test_times_with_a_zone_are_brought_to_utc():
    frame = objects([box(0)], [box(1)])
    frame["time"] = [pd.Timestamp("2021-01-01T00:00+02:00"), pd.Timestamp("2021-01-01T00:00+01:00")]
    result = match_over_time(frame, tolerance=2)
    assert result["time"].astype(str).tolist() == ["2020-12-31 22:00:00", "2020-12-31 23:00:00"]


GOOD = objects([box(0)], [box(1)])


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (GOOD.geometry, {}, "not as a GeoSeries"),
        (GOOD.drop(columns="label"), {}, "no column 'label'"),
        (GOOD.assign(track="x"), {}, r"\['track'\].*drop or rename"),
        (GOOD.assign(time=pd.NaT), {}, "NaT"),
        (GOOD.set_geometry(GOOD.centroid), {}, "2 rows are no valid polygons.*buffer"),
        (GOOD.assign(id="a", time=TIMES[0]), {}, "share an id.*dissolve"),
        (GOOD, {}, "tolerance=2"),
        (GOOD, {"tolerance": 0}, "tolerance=0"),
        (GOOD, {"tolerance": 2, "same": 2}, "same=2"),
        (GOOD, {"tolerance": 2, "max_shift": -1}, "max_shift=-1"),
        (GOOD, {"tolerance": 2, "observed": {TIMES[0]: ALL}}, "objects at 2021.*every time"),
        (GOOD, {"tolerance": 2, "observed": [ALL]}, "observed is a list"),
        (
            GOOD,
            {"tolerance": 2, "observed": gpd.GeoDataFrame(geometry=[ALL], crs=UTM)},
            "time and geometry",
        ),
    ],
)
def test_what_cannot_be_matched_is_named_with_the_remedy(frame, options, message):
    with pytest.raises(InputError, match=f"(?s){message}"):
        match_over_time(frame, **options)


def ponds(year):
    """Water in a real picture, as what reflects little near infrared: a rule, no network."""
    with rasterio.open(RASTERS / f"ponds_{year}.tif") as source:
        dark = ndimage.median_filter(source.read(1), 5) < 50
        outlines = [
            shapely.geometry.shape(outline)
            for outline, _ in shapes(dark.astype(np.uint8), mask=dark, transform=source.transform)
        ]
        large = [outline for outline in outlines if outline.area >= 500]
        taken = np.datetime64(f"{year}-07-20", "ns")
        frame = gpd.GeoDataFrame(
            {"label": ["pond"] * len(large), "time": taken, "resolution": source.res[0]},
            geometry=large,
            crs=source.crs,
        )
        return frame, taken, shapely.box(*source.bounds)


def test_real_ponds_are_followed_over_two_years():
    """NAIP 2014 and 2016, 5 m a pixel, on grids that differ: every pond is found again, one of them smaller."""
    found = [ponds(2014), ponds(2016)]
    result = match_over_time(
        pd.concat([frame for frame, _, _ in found], ignore_index=True),
        observed={taken: area for _, taken, area in found},
    )
    after = result[result["time"].dt.year == 2016]
    assert Counter(result["state"]) == {"first": 8, "persisted": 7, "changed": 1}
    assert result["track"].nunique() == 8
    before = result[result["time"].dt.year == 2014].set_index("track").geometry.area
    (shrunk,) = after.loc[after["state"] == "changed", "track"]
    assert after.set_index("track").geometry.area[shrunk] < 0.7 * before[shrunk]
    # less than a pixel
    assert after[["shift_x_m", "shift_y_m"]].abs().max(axis=None) < 5
    # the pictures' borders cut two more that look smaller, so nothing is said of them
    unsure = match_over_time(pd.concat([frame for frame, _, _ in found], ignore_index=True), max_shift=0)
    assert Counter(unsure["state"]) == {"first": 8, "persisted": 5, "changed": 3}
