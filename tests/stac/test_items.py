"""Items in every shape they come in are read as they were meant."""

import warnings
from urllib.parse import urljoin

import numpy as np
import pystac
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.crs import CRS

from remotesam_geo.errors import InputError
from remotesam_geo.raster.info import RasterInfo
from remotesam_geo.stac import sensors
from remotesam_geo.stac.bands import band_names, choose_bands
from remotesam_geo.stac.items import is_signed, read_items, resolve_href, unsigned
from remotesam_geo.stac.parse import parse_grids
from tests.scenes.places import recorded


def doc(assets=None, properties=None, **more):
    start = {"id": "a", "properties": {"datetime": "2024-05-01T10:00:00Z"} | (properties or {})}
    return start | {"assets": assets or {}} | more


def only(**kwargs):
    (item,) = read_items(doc(**kwargs))
    return item


def grid_of(item, key):
    (grids,) = parse_grids([(item, [key])])
    return grids.get(key)


def never(item, key):
    pytest.fail(f"the header of {key} was asked for")


class TestForms:
    def test_every_usual_form_gives_the_same_items(self):
        docs = recorded("naip_page1")
        collection = pystac.ItemCollection([pystac.Item.from_dict(d) for d in docs])
        ids = [d["id"] for d in docs]
        forms = [
            docs,
            {"type": "FeatureCollection", "features": docs},
            collection,
            list(collection),
        ]
        for form in forms:
            assert [item.id for item in read_items(form)] == ids
        assert read_items(docs[0])[0].id == read_items(collection[0])[0].id == ids[0]

    def test_pystac_and_plain_items_say_the_same_of_their_bands(self):
        for name in ("naip_page1", "s2_collection1", "s2_copernicus", "landsat_two_zones"):
            d = recorded(name)[0]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pystac's migrations talk
                through = pystac.Item.from_dict(d)
            (plain,), (object_,) = read_items([d]), read_items([through])
            for key in plain.rasters:
                assert grid_of(plain, key) == grid_of(object_, key), (name, key)
                assert [b.common_name for b in plain.bands(key)] == [b.common_name for b in object_.bands(key)]

    def test_nothing_found_is_an_error_with_the_remedy(self):
        for nothing in (
            [],
            {"type": "FeatureCollection", "features": []},
            pystac.ItemCollection([]),
        ):
            with pytest.raises(InputError, match=r"found nothing.*bbox or datetime"):
                read_items(nothing)

    @pytest.mark.parametrize("wrong", ["items.json", 5, [5], {"id": "x"}])
    def test_what_is_no_item_is_refused(self, wrong):
        with pytest.raises(InputError, match=r"items must be|not a STAC item"):
            read_items(wrong)


class TestTimes:
    @pytest.mark.parametrize(
        ("properties", "time"),
        [
            ({"datetime": "2023-06-14T11:08:44.039000"}, "2023-06-14T11:08:44.039"),
            ({"datetime": "2023-06-14T11:08:44Z"}, "2023-06-14T11:08:44"),
            ({"datetime": "2023-06-14T13:08:44+02:00"}, "2023-06-14T11:08:44"),
            ({"datetime": "2023-06-14t11:08:44.123456789z"}, "2023-06-14T11:08:44.123456"),
            ({"datetime": "2023-06-14 11:08:44+00:00"}, "2023-06-14T11:08:44"),
            ({"datetime": None, "start_datetime": "2020-01-01T00:00:00Z"}, "2020-01-01"),
            ({"datetime": None, "end_datetime": "2020-01-02T00:00:00Z"}, "2020-01-02"),
        ],
    )
    def test_a_time_is_utc_without_zone(self, properties, time):
        assert only(properties=properties).time == np.datetime64(time, "us")

    def test_no_time_at_all_stays_none(self):
        assert only(properties={"datetime": None}).time is None

    def test_what_is_no_time_is_an_error(self):
        with pytest.raises(InputError, match="'yesterday' is not a time"):
            only(properties={"datetime": "yesterday"})


class TestPlaces:
    @pytest.mark.parametrize(
        ("bbox", "geometry", "expected"),
        [
            ([1, 2, 3, 4], None, (1, 2, 3, 4)),
            ([1, 2, -50, 3, 4, 90], None, (1, 2, 3, 4)),
            ([459110.0, 8214410.0, 745560.0, 8464610.0], None, None),
            (None, {"type": "Point", "coordinates": [5, 6]}, (5, 6, 5, 6)),
            (
                None,
                {"type": "Polygon", "coordinates": [[[0, 0], [2, 0], [2, 1], [0, 0]]]},
                (0, 0, 2, 1),
            ),
            (None, None, None),
            (
                [172.4793, -19.1807, 180.1436, -9.9753],
                None,
                (172.4793, -19.1807, -179.8564, -9.9753),
            ),
            ([179, -17, -179, -16], None, (179, -17, -179, -16)),
        ],
    )
    def test_bounds_are_in_degrees_or_unknown(self, bbox, geometry, expected):
        found = only(bbox=bbox, geometry=geometry).bbox
        assert found == (None if expected is None else pytest.approx(expected))

    def crs_of(self, properties, asset=None):
        shape = {"proj:shape": [4, 3], "proj:transform": [10, 0, 500000, 0, -10, 100]}
        item = only(assets={"b": {"href": "b.tif"} | (asset or {})}, properties=shape | properties)
        grid = grid_of(item, "b")
        return None if grid is None else grid.crs

    def test_every_way_to_name_a_crs(self):
        utm = CRS("EPSG:32631")
        assert self.crs_of({"proj:epsg": 32631}) == utm
        assert self.crs_of({"proj:code": "EPSG:32631"}) == utm
        assert self.crs_of({"proj:wkt2": utm.to_wkt()}) == utm
        assert self.crs_of({"proj:projjson": utm.proj.to_json_dict()}) == utm
        assert self.crs_of({"proj:epsg": None, "proj:wkt2": utm.to_wkt()}) == utm
        assert self.crs_of({"proj:epsg": 4326}, {"proj:code": "EPSG:32631"}) == utm

    def test_codes_that_went_through_tables(self):
        for code in (32631, 32631.0, "32631", "EPSG:32631", "32631.0", np.int64(32631)):
            assert self.crs_of({"proj:epsg": code}) == CRS("EPSG:32631")
        assert self.crs_of({"proj:epsg": "UTM 31"}) is None
        item = only(
            assets={"b": {"href": "b.tif"}},
            properties={
                "proj:epsg": 32631,
                "proj:shape": np.array([4.0, 3.0]),
                "proj:transform": ["10", 0, 5e5, 0, -10, 100],
            },
        )
        assert grid_of(item, "b").shape == (4, 3)
        assert grid_of(only(assets={"b": {"href": "b"}}, properties={"proj:shape": ["a", 1]}), "b") is None

    def test_no_crs_is_none_and_no_error(self):
        assert self.crs_of({}) is None
        assert self.crs_of({"proj:epsg": None}) is None
        assert self.crs_of({"proj:epsg": 999999}) is None
        assert self.crs_of({"proj:code": "EPSG:10857000"}) is None
        assert self.crs_of({"proj:epsg": 32631}, {"proj:code": None}) is None, "the asset has none"

    def test_a_grid_comes_from_transform_or_bounds(self):
        base = {"proj:epsg": 32631, "proj:shape": [2, 4]}
        bounds = {"href": "b.tif", "proj:bbox": [0, 0, 40, 20]}
        item = only(assets={"b": bounds}, properties=base)
        assert tuple(grid_of(item, "b").transform)[:6] == (10, 0, 0, 0, -10, 20)
        nine = base | {"proj:transform": [10, 0, 0, 0, -10, 20, 0, 0, 1]}
        assert grid_of(only(assets={"b": {"href": "b.tif"}}, properties=nine), "b") == grid_of(item, "b")
        for lacking in ({}, {"proj:transform": [0] * 6}, {"proj:transform": [1, 2]}):
            assert grid_of(only(assets={"b": {"href": "b.tif"}}, properties=base | lacking), "b") is None


class TestHrefs:
    @pytest.mark.parametrize(
        ("href", "origin", "expected"),
        [
            ("https://a.org/b.tif", None, "https://a.org/b.tif"),
            ("./b.tif", "https://a.org/x/item.json", "https://a.org/x/b.tif"),
            ("../b.tif", "https://a.org/x/y/item.json", "https://a.org/x/b.tif"),
            ("b.tif", "s3://bucket/x/item.json", "s3://bucket/x/b.tif"),
            ("b.tif", "gs://bucket/item.json", "gs://bucket/b.tif"),
            ("b.tif", "/data/x/item.json", "/data/x/b.tif"),
            ("../b.tif", "/data/x/item.json", "/data/b.tif"),
            ("./b.tif", "file:///data/my%20x/item.json", "/data/my x/b.tif"),
            ("file:///data/b%20c.tif", None, "/data/b c.tif"),
            ("file:///data/b.tif", "https://a.org/item.json", "/data/b.tif"),
            ("/data/b.tif", "s3://sentinel-cogs/tmp/item.json", "/data/b.tif"),
            ("b.tif", "x/item.json", "x/b.tif"),
        ],
    )
    def test_hrefs_become_absolute(self, href, origin, expected):
        assert resolve_href(href, origin) == expected

    def test_a_relative_href_without_a_self_link_says_what_to_do(self):
        with pytest.raises(InputError, match=r"asset red is relative.*set_self_href"):
            resolve_href("./b.tif", None, "x", "red")

    @given(
        st.lists(st.sampled_from(["..", ".", "a", "b c", "d%20e"]), min_size=1, max_size=5),
        st.lists(st.sampled_from(["x", "y", "z"]), max_size=3),
    )
    def test_relative_http_hrefs_resolve_as_the_web_does(self, href, folder):
        origin = "/".join(["https://a.org", *folder, "item.json"])
        path = "/".join([*href, "t.tif"])
        assert resolve_href(path, origin) == urljoin(origin, path)
        s3 = resolve_href(path, origin.replace("https", "s3"))
        assert s3 == urljoin(origin, path).replace("https", "s3")

    def test_a_planetary_computer_token_is_taken_off_and_no_other(self):
        pc = "https://planetarycomputer.microsoft.com/api/stac/v1/collections/naip/items/x"
        signed = "https://naipeuwest.blob.core.windows.net/naip/a.tif?st=1&se=2&sp=r&sig=abc%3D"
        assert unsigned(signed, pc) == "https://naipeuwest.blob.core.windows.net/naip/a.tif"
        assert unsigned(signed, "https://private.example/item") == signed
        assert unsigned("https://x.blob.core.windows.net/a.tif?v=2", pc).endswith("?v=2")
        assert is_signed(signed)
        assert is_signed("https://b.s3.amazonaws.com/a?X-Amz-Signature=1")
        assert not is_signed("https://a.org/a.tif?version=3")


class TestBands:
    def test_names_types_and_scales_from_every_version(self):
        old = {
            "href": "a.tif",
            "eo:bands": [{"name": "B1", "common_name": "red"}],
            "raster:bands": [{"data_type": "uint16", "nodata": 0, "scale": 0.5, "offset": 1}],
        }
        new = {
            "href": "a.tif",
            "data_type": "uint16",
            "nodata": 0,
            "raster:scale": 0.5,
            "raster:offset": 1,
            "bands": [{"name": "B1", "eo:common_name": "red"}],
        }
        inner = {
            "href": "a.tif",
            "bands": [
                {
                    "name": "B1",
                    "eo:common_name": "red",
                    "data_type": "uint16",
                    "nodata": 0,
                    "raster:scale": 0.5,
                    "raster:offset": 1,
                }
            ],
        }
        item = only(assets={"a": old, "b": new, "c": inner})
        a, b, c = (item.bands(key)[0] for key in "abc")
        for band in (a, b, c):
            said = (band.name, band.common_name, band.dtype, band.nodata, band.scale, band.offset)
            assert said == ("B1", "red", "uint16", 0, 0.5, 1)

    def test_one_raster_description_counts_for_all_bands(self):
        asset = {
            "href": "a.tif",
            "eo:bands": [{"name": n} for n in "abc"],
            "raster:bands": [{"data_type": "uint8"}],
        }
        assert [b.dtype for b in only(assets={"a": asset}).bands("a")] == ["uint8"] * 3

    def test_integer_eo_bands_point_into_the_items_own_list(self):
        # as in 1.0.0-beta.2; odc-stac: 'int' object has no attribute 'get'
        listed = [{"name": "B1", "common_name": "coastal"}, {"name": "B4", "common_name": "red"}]
        item = only(
            assets={
                "x": {"href": "x.tif", "eo:bands": [1]},
                "y": {"href": "y.tif", "eo:bands": [9]},
            },
            properties={"eo:bands": listed},
        )
        assert item.bands("x")[0].common_name == "red"
        assert item.bands("y")[0].name == ""

    def test_text_that_means_a_number_and_words_that_mean_a_color(self):
        asset = {
            "href": "a.tif",
            "nodata": "nan",
            "bands": [
                {"name": "band-1", "description": "Red TOA reflectance"},
                {"name": "band-2", "description": "Reduced"},
            ],
        }
        first, second = only(assets={"a": asset}).bands("a")
        assert np.isnan(first.nodata)
        assert (first.common_name, second.common_name) == ("red", "")

    def test_letters_unknown_types_and_previews_without_roles(self):
        asset = {
            "href": "a.tif",
            "bands": [{"name": n, "data_type": t} for n, t in (("R", "cint16"), ("G", "other"), ("B", "uint8"))],
        }
        item = only(assets={"a": asset, "thumbnail": {"href": "t.png", "type": "image/png"}})
        assert [b.common_name for b in item.bands("a")] == ["red", "green", "blue"]
        assert [b.dtype for b in item.bands("a")] == ["", "", "uint8"]
        assert item.is_preview("thumbnail")
        assert not item.is_preview("a")

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("naip_page1", [("image", 1), ("image", 2), ("image", 3)]),
            ("s2_planetary_computer", [("B04", 1), ("B03", 1), ("B02", 1)]),
            ("s2_earth_search_applied", [("red", 1), ("green", 1), ("blue", 1)]),
            ("s2_earth_search_v0", [("B04", 1), ("B03", 1), ("B02", 1)]),
            ("s2_collection1", [("red", 1), ("green", 1), ("blue", 1)]),
            ("s2_copernicus", [("B04_10m", 1), ("B03_10m", 1), ("B02_10m", 1)]),
            ("s2_mosaic_copernicus", [("B04", 1), ("B03", 1), ("B02", 1)]),
            ("s2_stac11_proj_code", [("red", 1), ("green", 1), ("blue", 1)]),
            ("s2_raster_v2", [("B04", 1), ("B03", 1), ("B02", 1)]),
            ("landsat_two_zones", [("red", 1), ("green", 1), ("blue", 1)]),
            ("landsat_usgs", [("red", 1), ("green", 1), ("blue", 1)]),
            ("maxar", [("visual", 1), ("visual", 2), ("visual", 3)]),
            ("extended_item", [("visual", 1), ("visual", 2), ("visual", 3)]),
            ("world_wrapping", [("red", 1), ("green", 1), ("blue", 1)]),
        ],
    )
    def test_the_picture_of_real_items_without_opening_a_file(self, name, expected):
        for item in read_items(recorded(name)):
            chosen = choose_bands(item, None, never)
            assert list(chosen) == ["red", "green", "blue"]
            assert [(band.asset, band.index) for band in chosen.values()] == expected

    def test_bands_by_asset_common_name_band_name_and_position(self):
        (item,) = read_items(recorded("naip_page1")[0])
        for name, index in (("nir", 4), ("NIR", 4), ("image.2", 2), ("Blue", 3)):
            assert choose_bands(item, [name], never)[name].index == index
        assert list(choose_bands(item, ["image"], never)) == ["red", "green", "blue", "nir"]
        (s2,) = read_items(recorded("s2_planetary_computer")[0])
        assert list(choose_bands(s2, ["visual"], never)) == ["red", "green", "blue"]
        assert choose_bands(s2, ["SCL"], never)["SCL"].dtype == "uint8"
        assert choose_bands(s2, ["image.9"], never) is None

    @pytest.mark.parametrize(
        ("colors", "descriptions", "dtype", "expected"),
        [
            ("red green blue", "", "uint8", "red green blue"),
            ("blue green red undefined", "blue green red nir", "uint16", "blue green red nir"),
            ("gray undefined undefined undefined", "", "uint8", "red green blue band_4"),
            ("gray undefined undefined undefined", "", "uint16", "band_1 band_2 band_3 band_4"),
            ("red green blue alpha", "", "uint8", "red green blue alpha"),
            ("gray", "", "float32", "band_1"),
            ("red red blue", "", "uint8", "band_1 band_2 band_3"),
        ],
    )
    def test_bands_named_by_a_file_alone(self, colors, descriptions, dtype, expected):
        class Header:
            plain_colors = RasterInfo.plain_colors

        header = Header()
        header.colors = tuple(colors.split())
        header.descriptions = tuple(descriptions.split()) or ("",) * len(header.colors)
        header.dtypes = (dtype,) * len(header.colors)
        assert " ".join(band_names(header)) == expected


class TestReflectance:
    @pytest.mark.parametrize(
        ("name", "offset"),
        [
            ("s2_planetary_computer", -0.1),  # says nothing, baseline 05.10
            ("s2_earth_search_applied", 0.0),  # says -0.1, but it was applied
            ("s2_earth_search_old", 0.0),  # baseline 02.14
            ("s2_earth_search_v0", 0.0),  # says nothing, applied
            ("s2_collection1", -0.1),
            ("s2_copernicus", -0.1),  # STAC 1.1, 2020 reprocessed as 05.00
            ("s2_stac11_proj_code", 0.0),  # baseline 02.12
            ("s2_antimeridian", -0.1),
        ],
    )
    def test_sentinel_2_in_all_its_variants(self, name, offset):
        for item in read_items(recorded(name)):
            for band in choose_bands(item, None, never).values():
                assert (band.dtype, band.nodata) == ("uint16", 0)
                assert (band.scale, band.offset) == (1e-4, offset)

    def test_pictures_and_classes_have_no_reflectance(self):
        for name in ("s2_planetary_computer", "s2_earth_search_applied", "s2_copernicus"):
            (item, *_) = read_items(recorded(name))
            for key in item.assets:
                if key.lower()[:3] in {"vis", "tci", "scl"}:
                    for band in choose_bands(item, [key], never).values():
                        assert (band.scale, band.offset, band.dtype) == (None, None, "uint8")

    @pytest.mark.parametrize("name", ["landsat_two_zones", "landsat_usgs", "landsat_antimeridian"])
    def test_landsat_collection_2_level_2(self, name):
        for item in read_items(recorded(name)):
            for band in choose_bands(item, None, never).values():
                assert (band.dtype, band.nodata, band.scale, band.offset) == (
                    "uint16",
                    0,
                    2.75e-5,
                    -0.2,
                )
            assert sensors.cloud_mask(item).bits == 0b11110

    def test_the_baseline_is_found_wherever_it_is_kept(self):
        texts = {
            "s2:processing_baseline": "05.10",
            "processing:version": "05.00",
            "s2:product_uri": "S2B_MSIL2A_20240419T095549_N0510_R122_T47XML_20240419T123458.SAFE",
            "s2:granule_id": "S2B_OPER_MSI_L2A_TL_MSFT_20240419T123459_A037185_T47XML_N05.10",
        }
        for key, text in texts.items():
            found = sensors.processing_baseline(only(properties={key: text}))
            assert found == pytest.approx(5.0 if key == "processing:version" else 5.1)
        item = only(id="S2B_MSIL2A_20200322T074609_N0500_R135_T36NYH_20230612T214223")
        assert sensors.processing_baseline(item) == 5.0
        assert sensors.processing_baseline(only()) is None

    @pytest.mark.parametrize(("time", "offset"), [("2021-06-01", 0.0), ("2022-02-01", -0.1)])
    def test_without_a_baseline_the_date_decides(self, time, offset):
        item = only(
            assets={"B04": {"href": "b.tif"}},
            properties={"platform": "Sentinel-2A", "datetime": f"{time}T00:00:00Z"},
        )
        assert choose_bands(item, ["B04"], never)["B04"].offset == offset
