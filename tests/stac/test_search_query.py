"""What a search asks: areas, times, order, and the errors of questions that cannot be meant."""

import datetime as dt

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geom import Geometry

from remotesam_geo import search
from remotesam_geo.errors import InputError, SearchError
from remotesam_geo.geo.areas import shape_in_degrees, split_at_antimeridian
from remotesam_geo.stac.catalogs import CATALOGS, near_matches
from remotesam_geo.stac.query import Query, interval_text, read_interval
from remotesam_geo.stac.search import _catalog_place
from tests.stac.api_server import thing


def utc(*parts):
    return dt.datetime(*parts, tzinfo=dt.UTC)


class TestCatalogs:
    def test_names_lead_to_urls(self):
        assert _catalog_place("planetary-computer") == "https://planetarycomputer.microsoft.com/api/stac/v1"
        assert all(_catalog_place(name).startswith("https://") for name in CATALOGS)

    @pytest.mark.parametrize(
        ("name", "told"),
        [
            ("planetary computer", "did you mean 'planetary-computer'"),
            ("earthsearch", "did you mean 'earth-search'"),
            ("maxar", "did you mean 'maxar-open-data'"),
            ("xyz", "there is 'brazil-data-cube', "),
            ("no/such/file.json", "there is no file 'no/such/file.json'"),
        ],
    )
    def test_an_unknown_one_names_near_matches(self, name, told):
        with pytest.raises(SearchError, match=told):
            search(name)

    def test_what_is_no_catalogue_at_all(self):
        with pytest.raises(InputError, match="must be a name, a URL or a path"):
            search(3)

    @given(st.sampled_from(sorted(CATALOGS)), st.integers(0, 30))
    def test_one_letter_wrong_is_near(self, name, at):
        wrong = name[: at % len(name)] + name[at % len(name) + 1 :]
        assert name in near_matches(wrong, CATALOGS)


class TestIntervals:
    @pytest.mark.parametrize(
        ("value", "first", "last"),
        [
            ("2021", utc(2021, 1, 1), utc(2021, 12, 31, 23, 59, 59, 999999)),
            ("2020-02", utc(2020, 2, 1), utc(2020, 2, 29, 23, 59, 59, 999999)),
            ("2021-12", utc(2021, 12, 1), utc(2021, 12, 31, 23, 59, 59, 999999)),
            ("2021-06-03", utc(2021, 6, 3), utc(2021, 6, 3, 23, 59, 59, 999999)),
            ("2021-06-03T10:00:00Z", utc(2021, 6, 3, 10), utc(2021, 6, 3, 10)),
            ("2021-06-03T10:00:00", utc(2021, 6, 3, 10), utc(2021, 6, 3, 10)),
            ("2021-06-03T10:00:00+02:00", utc(2021, 6, 3, 8), utc(2021, 6, 3, 8)),
            ("2020/2021-03", utc(2020, 1, 1), utc(2021, 3, 31, 23, 59, 59, 999999)),
            ("2021/..", utc(2021, 1, 1), None),
            ("2021/", utc(2021, 1, 1), None),
            ("../2021", None, utc(2021, 12, 31, 23, 59, 59, 999999)),
            (("2021", None), utc(2021, 1, 1), None),
            ((None, dt.date(2021, 1, 5)), None, utc(2021, 1, 5, 23, 59, 59, 999999)),
            (dt.datetime(2021, 1, 5, 7), utc(2021, 1, 5, 7), utc(2021, 1, 5, 7)),  # noqa: DTZ001
            (pd.Timestamp("2021-01-05T07", tz="CET"), utc(2021, 1, 5, 6), utc(2021, 1, 5, 6)),
            (np.datetime64("2021-01-05T07"), utc(2021, 1, 5, 7), utc(2021, 1, 5, 7)),
            (None, None, None),
            ("../..", None, None),
        ],
    )
    def test_every_way_to_write_a_time(self, value, first, last):
        assert read_interval(value) == (first, last)

    @pytest.mark.parametrize(
        ("value", "told"),
        [
            ("2021-13", "'2021-13' is no time"),
            ("last week", "is no time"),
            ("2021/2020", "ends before it begins"),
            ("2019/2020/2021", "a start and an end"),
            ((), "a start and an end"),
            (20210101, "is no time"),
            ("0000", "is no time"),
        ],
    )
    def test_what_is_no_time_says_what_to_write(self, value, told):
        with pytest.raises(InputError, match=told):
            read_interval(value)

    @given(st.datetimes(min_value=dt.datetime(1900, 1, 1)), st.datetimes())  # noqa: DTZ001
    def test_an_item_is_found_by_its_own_time_alone(self, moment, other):
        text = moment.isoformat() + "Z"
        asked = Query(interval=read_interval(text))
        assert asked.matches(thing("a", datetime=text))
        assert asked.matches(thing("a", datetime=other.isoformat() + "Z")) == (moment == other)
        assert interval_text(asked.interval) == text

    @pytest.mark.parametrize(
        ("properties", "found"),
        [
            (
                {"start_datetime": "2020-01-01T00:00:00Z", "end_datetime": "2021-01-01T00:00:00Z"},
                True,
            ),
            (
                {"start_datetime": "2020-06-02T00:00:00Z", "end_datetime": "2020-07-01T00:00:00Z"},
                False,
            ),
            ({"start_datetime": "2019-01-01T00:00:00Z"}, True),
            ({"end_datetime": "2020-05-31T00:00:00Z"}, False),
            ({}, False),
        ],
    )
    def test_items_of_a_range_are_found_where_ranges_meet(self, properties, found):
        asked = Query(interval=read_interval("2020-06-01"))
        assert asked.matches(thing("a", **{"datetime": None, **properties})) == found


class TestAreas:
    @pytest.mark.parametrize(
        ("bbox", "told"),
        [
            ((41.96, -97.9, 41.99, -87.88), "swapped"),
            ((6, 47, 8, 45), "south above its north"),
            ((500000, 5e6, 600000, 5.1e6), "metres"),
            ((6, 45, 8), "must be"),
            ("6,45,8,47", "must be"),
            ((6, 45, float("nan"), 47), "no numbers"),
            ((179, 45, 181, 47), "west > east"),
        ],
    )
    def test_a_bbox_that_cannot_be_meant_says_why(self, bbox, told):
        with pytest.raises(InputError, match=told):
            search("earth-search", bbox=bbox)

    @pytest.mark.parametrize(
        ("geometry", "told"),
        [
            (shapely.Polygon(), "intersects= is empty"),
            (gpd.GeoSeries([shapely.Point(0, 0)]), "intersects= has no CRS"),
            (shapely.box(500000, 5e6, 600000, 5.1e6), "bounds of intersects=.*metres"),
            ("POINT (1 2)", "intersects= must be"),
            ({"type": "Nothing"}, "not a GeoJSON geometry"),
        ],
    )
    def test_neither_does_a_geometry(self, geometry, told):
        with pytest.raises(InputError, match=told):
            search("earth-search", intersects=geometry)

    def test_one_area_at_a_time(self):
        with pytest.raises(InputError, match="not both"):
            search("earth-search", bbox=(6, 45, 8, 47), intersects=shapely.Point(7, 46))

    @given(st.floats(-720, 720), st.floats(-85, 80), st.floats(0.01, 300), st.floats(0.01, 5))
    def test_cutting_at_the_antimeridian_keeps_the_area(self, west, south, width, height):
        west = max(-360.0, min(west, 360.0 - width))
        shape = shapely.box(west, south, west + width, south + height)
        parts = split_at_antimeridian(shape)
        assert -180 <= parts.bounds[0] < parts.bounds[2] <= 180
        assert parts.area == pytest.approx(shape.area, rel=1e-9)
        x = west + 0.37 * width
        inside = shapely.Point((x + 180) % 360 - 180, south + height / 2)
        assert parts.buffer(1e-9).contains(inside)

    @pytest.mark.parametrize("crs", [3832, 32660, 32701, 3460])
    def test_projected_areas_across_the_antimeridian_stay_in_place(self, crs):
        degrees = gpd.GeoSeries([shapely.Point(x, -17.5) for x in (179.2, -179.3)], crs=4326)
        xs = degrees.to_crs(crs)
        area = gpd.GeoSeries([shapely.box(xs.x.min(), xs.y.min() - 1e4, xs.x.max(), xs.y.max() + 1e4)], crs=crs)
        for given_area in (area, Geometry(area[0], f"EPSG:{crs}"), gpd.GeoDataFrame(geometry=area)):
            parts = split_at_antimeridian(shape_in_degrees(given_area))
            assert parts.area < 1.0
            assert parts.contains(shapely.Point(179.9, -17.5))
            assert parts.contains(shapely.Point(-179.9, -17.5))
            assert not parts.intersects(shapely.box(-178, -90, 178, 90))

    @pytest.mark.parametrize(("crs", "sign"), [(3031, -1), (3413, 1), (3995, 1)])
    def test_an_area_round_a_pole_holds_the_pole(self, crs, sign):
        area = gpd.GeoSeries([shapely.box(-1e6, -1e6, 1e6, 1e6)], crs=crs)
        parts = split_at_antimeridian(shape_in_degrees(area))
        for x in (-179, -90, 0, 45, 179):
            assert parts.contains(shapely.Point(x, sign * 89))
            assert not parts.contains(shapely.Point(x, sign * 70))

    def test_a_hole_stays_a_hole_across_the_antimeridian(self):
        ring = shapely.Point(0, 0).buffer(2e5).difference(shapely.Point(0, 0).buffer(5e4))
        area = gpd.GeoSeries([shapely.transform(ring, lambda xy: xy + np.array([3339584.7, 0]))], crs=3832)
        parts = split_at_antimeridian(shape_in_degrees(area))
        assert not parts.intersects(shapely.Point(180, 0))
        assert parts.contains(shapely.Point(-179, 0))
        assert parts.contains(shapely.Point(179, 0))

    def test_an_item_beyond_180_degrees_is_found_on_either_side(self):
        doc = thing("a") | {"geometry": shapely.geometry.mapping(shapely.box(179, -17, 182, -16))}
        for x in (179.5, -179.5, -178.5):
            asked = Query(area=shapely.Point(x, -16.5))
            assert asked.matches(doc)
        assert not Query(area=shapely.Point(-177, -16.5)).matches(doc)

    def test_an_item_without_geometry_is_where_its_bbox_is(self):
        asked = Query(area=shapely.Point(7, 46))
        assert asked.matches(thing("a") | {"geometry": None})
        assert not asked.matches(thing("a") | {"geometry": None, "bbox": None})

    @pytest.mark.parametrize(
        "geometry",
        [
            {"type": "Blob"},
            {"type": "Point", "coordinates": ["a", "b"]},
            {"type": "Point", "coordinates": [float("nan"), 46]},
            {"type": "Polygon", "coordinates": 5},
            {"type": "Point", "coordinates": [500000.0, 5100000.0]},
            [7, 46],
        ],
    )
    def test_an_item_of_malformed_geometry_is_where_its_bbox_is(self, geometry):
        asked, elsewhere = Query(area=shapely.Point(7, 46)), Query(area=shapely.Point(8, 46))
        doc = thing("a") | {"geometry": geometry}
        assert asked.matches(doc)
        assert not elsewhere.matches(doc)
        with pytest.raises(SearchError, match="its geometry cannot be used"):
            asked.matches(doc | {"bbox": None})


class TestOrder:
    @given(st.lists(st.tuples(st.sampled_from([None, 1, 2, 2.5]), st.sampled_from("xyz"))))
    def test_it_is_stable_and_leaves_what_lacks_the_field_for_last(self, values):
        docs = [thing(f"{i}", cloud=cloud, platform=p) for i, (cloud, p) in enumerate(values)]
        found = Query(sortby=(("cloud", True), ("properties.platform", False))).order(docs)
        keys = [
            (
                d["properties"]["cloud"] is None,
                -(d["properties"]["cloud"] or 0),
                d["properties"]["platform"],
                int(d["id"]),
            )
            for d in found
        ]
        assert keys == sorted(keys)
        assert len(found) == len(docs)

    def test_times_are_compared_as_times(self):
        docs = [
            thing("late", datetime="2024-05-01T10:00:00Z"),
            thing("early", datetime="2024-05-01T11:00:00+03:00"),
        ]
        found = Query(sortby=(("datetime", False),)).order(docs)
        assert [doc["id"] for doc in found] == ["early", "late"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"ids": []}, "ids is empty"),
        ({"collections": []}, "collections is empty"),
        ({"collections": [None]}, "a name or a list of names"),
        ({"max_items": 0}, "max_items must be a whole number from 1"),
        ({"max_items": True}, "max_items must be"),
        ({"max_items": 2.5}, "max_items must be"),
        ({"query": "cloudy"}, "is no comparison; write"),
        ({"filter": 3}, "must be CQL2"),
        ({"sortby": ""}, "is no field"),
        ({"sortby": [3]}, "is no field"),
    ],
)
def test_wrong_arguments_are_refused_with_their_value(arguments, told):
    with pytest.raises(InputError, match=told):
        search("earth-search", **arguments)


def test_comparisons_become_a_query_with_numbers():
    asked = {"query": ["eo:cloud_cover < 20", "eo:cloud_cover>=1.5", "platform=sentinel-2a"]}
    none = dict.fromkeys(["collections", "bbox", "intersects", "when", "cql", "ids", "sortby", "max_items"])
    assert Query.of(**none, **asked).query == {
        "eo:cloud_cover": {"lt": 20, "gte": 1.5},
        "platform": {"eq": "sentinel-2a"},
    }
