"""STAC documents and arguments of every wrong shape: nothing silently wrong, nothing lost, no traceback."""

import json
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remotesam_geo import load, save_items, search
from remotesam_geo.errors import InputError, ReadError, RemoteSAMWarning, SearchError
from remotesam_geo.scenes import Recipe
from remotesam_geo.scenes import select as picks
from remotesam_geo.stac.bands import choose_bands
from remotesam_geo.stac.documents import read_json
from remotesam_geo.stac.items import read_items
from tests.campaign import CASES
from tests.scenes.mutations import DEEP, mutate, paths
from tests.scenes.places import DATA, recorded
from tests.stac.api_server import ApiServer, Reply, page, thing

A, B, C = thing("a"), thing("b"), thing("c")


def quietly(run, *args, **options):
    """The result, and the warnings of this package."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        result = run(*args, **options)
    return result, [str(one.message) for one in told if one.category is RemoteSAMWarning]


def as_file(tmp_path, doc, name="items.json"):
    (tmp_path / name).write_text(json.dumps(doc))
    return tmp_path / name


@pytest.fixture
def no_headers(monkeypatch):
    """No file can be opened: what an item does not say stays unknown."""

    def inspect(href, **_):
        raise ReadError(f"{href} is not reached in this test")

    monkeypatch.setattr(picks, "inspect", inspect)


# Items of every archive, of which each can be planned without opening a file.
NAMES = (
    "naip_page1", "s2_planetary_computer", "s2_collection1", "s2_copernicus", "s2_stac11_proj_code", "s2_raster_v2",
    "landsat_two_zones", "landsat_usgs", "s2_earth_search_applied", "s2_antimeridian", "s2_earth_search_v0",
)  # fmt: skip


class TestCampaigns:
    def test_pages_of_an_api(self, campaign):
        counts = campaign(
            "STAC documents",
            "pages of an API with one node replaced, deleted, duplicated or retyped",
        )
        rng = np.random.default_rng(1)
        real = recorded("s2_collection1")[0] | {"id": "real"}
        whole = page(A, real, C) | {"numberMatched": 3, "context": {"matched": 3}}
        with ApiServer() as server:
            server.api("sort")
            truth = {item.id: item.to_dict() for item in self.asked(server, whole)[0]}
            for _ in range(CASES):
                kind = rng.integers(3)
                within = ((), ("features",), ("features", 1))[kind]
                changed, path = mutate(whole, rng, within)
                counts.case(lambda changed=changed, path=path: self.check_page(server, changed, path, truth))

    @staticmethod
    def asked(server, answer):
        server.say("/search", Reply(json.dumps(answer).encode()))
        return quietly(search, server.url, sortby="id")

    def check_page(self, server, changed, path, truth):
        found, told = self.asked(server, changed)
        got = {item.id: item.to_dict() for item in found}
        if path[:2] != ("features", 1):
            return
        for name in ("a", "c"):
            assert got.get(name) == truth[name], (name, path)
        if path != ("features", 1) and "id" not in path:
            assert "real" in got or told, f"an item was lost without a word: {path}"

    def test_files_and_trees(self, campaign, tmp_path):
        counts = campaign("STAC documents", "files of a static catalogue, mutated in the same way")
        rng = np.random.default_rng(2)
        links = [{"rel": "child", "href": f"{name}/collection.json"} for name in "xy"]
        root = {
            "type": "Catalog",
            "stac_version": "1.0.0",
            "id": "root",
            "description": "",
            "links": links,
        }
        tree = {"catalog.json": root}
        for name in "xy":
            items = [{"rel": "item", "href": f"{k}.json"} for k in range(2)]
            node = root | {"type": "Collection", "id": name, "extent": {}, "links": items}
            tree[f"{name}/collection.json"] = node
            tree |= {f"{name}/{k}.json": thing(f"{name}{k}", name) for k in range(2)}
        places = [*tree]

        def write(name, doc):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(doc if isinstance(doc, bytes) else json.dumps(doc).encode())

        def check(name, path):
            when = "2024" if rng.integers(2) else None
            where = (6, 45, 8, 47) if rng.integers(2) else None
            found, told = quietly(search, tmp_path, datetime=when, bbox=where)
            ids = {item.id for item in found}
            if name == "catalog.json":
                return
            kept = {f"{side}{k}" for side in "xy" for k in range(2) if name[:1] != side}
            assert kept <= ids, f"{name} took others with it"
            if not meaning.intersection(path):
                assert len(ids) == 4 or told, f"{name}: an item was lost without a word: {path}"

        # Other values of these may mean another item, elsewhere or at another time, or none.
        meaning = {"id", "links", "geometry", "bbox", "properties", "type"}
        for name, doc in tree.items():
            write(name, doc)
        for _ in range(CASES):
            name = places[int(rng.integers(len(places)))]
            changed, path = mutate(tree[name], rng)
            if rng.integers(5) == 0:
                raw = json.dumps(tree[name]).encode()
                path = ("whole",)
                changed = (
                    raw[: len(raw) // 2],
                    b"",
                    b"\xff\xfe",
                    b"<html>",
                    raw.replace(b'"', b"'"),
                )[rng.integers(5)]
            write(name, changed)
            counts.case(lambda name=name, path=path: check(name, path))
            write(name, tree[name])

    @pytest.mark.usefixtures("no_headers")
    def test_planning(self, campaign):
        counts = campaign("STAC documents", "real items, mutated in the same way, planned as scenes")
        rng = np.random.default_rng(3)
        real = []
        for name in NAMES:
            doc = recorded(name)[0]
            own = {"rel": "self", "href": "https://example.com/x/item.json"}
            doc = doc | {"links": [*doc["links"], own]}
            (item,) = read_items([doc])
            keys = {band.asset for band in choose_bands(item, None, None).values()}
            other = json.loads(json.dumps(doc)) | {"id": "other"}
            asked = sorted(keys)
            real.append((doc, other, asked, Recipe.of(quietly(load, [doc], asked)[0])))

        def check(doc, other, asked, recipe, path):
            if path[0] in ("assets", "links") and (len(path) < 2 or path[1] not in asked):
                found, told = quietly(load, [doc], asked)
                mine = Recipe.of(found)
                assert (mine.geobox, mine.variables) == (recipe.geobox, recipe.variables), path
                if path[0] == "assets":
                    assert mine == recipe, path
                return
            found, told = quietly(load, [doc, other], asked, mosaic="first")
            assert len(Recipe.of(found).layers) == 2 or told, f"left out without a word: {path}"

        for _ in range(CASES):
            doc, other, asked, recipe = real[int(rng.integers(len(real)))]
            within = ((), ("assets",), ("properties",), ("assets", asked[0]))[int(rng.integers(4))]
            changed, path = mutate(doc, rng, within)
            if path in {("assets",), ("links",)} or (path[:1] == ("links",) and "self" in json.dumps(doc["links"])):
                path = ("", *path)  # the assets themselves, or where hrefs are resolved against
            counts.case(lambda args=(changed, other, asked, recipe, path): check(*args))

    def test_arguments(self, campaign, tmp_path):
        counts = campaign("STAC documents", "wrong arguments of search, save_items and load")
        place = as_file(tmp_path, page(A, B))
        for name, values in ARGUMENTS.items():
            for value in values:
                counts.case(lambda name=name, value=value: self.refused(search, place, **{name: value}))
        for value in ITEMS:
            counts.case(lambda value=value: self.refused(save_items, value, tmp_path / "x.parquet"))
            counts.case(lambda value=value: self.refused(load, value))
            counts.case(lambda value=value: self.refused(search, value))

    @staticmethod
    def refused(run, *args, **options):
        try:
            quietly(run, *args, **options)
        except (InputError, SearchError):
            return
        raise AssertionError(f"{args} {options} was accepted")

    def test_parquet(self, campaign, tmp_path):
        counts = campaign("STAC documents", "stac-geoparquet with flipped, cut and retyped parts")
        rng = np.random.default_rng(4)
        whole = save_items([A, B, recorded("s2_collection1")[0]], tmp_path / "i.parquet").read_bytes()
        table = pq.read_table(tmp_path / "i.parquet")
        place = tmp_path / "j.parquet"
        for _ in range(CASES):
            way = int(rng.integers(3))
            if way == 0:
                data = bytearray(whole)
                for position in rng.integers(len(whole), size=int(rng.integers(1, 4))):
                    data[position] ^= 1 << int(rng.integers(8))
                place.write_bytes(data)
            elif way == 1:
                place.write_bytes(whole[: int(rng.integers(len(whole)))])
            else:
                pq.write_table(self.retyped(table, rng), place)
            counts.case(lambda: quietly(search, place, bbox=(6, 45, 8, 47), datetime="2024"))

    @staticmethod
    def retyped(table, rng):
        column = int(rng.integers(table.num_columns))
        rows = table.num_rows
        values = (
            pa.nulls(rows), pa.array([5] * rows), pa.array(["{"] * rows), pa.array([b"\x01\x05"] * rows),
            pa.array([[1.0, 2.0]] * rows), pa.array([{"x": 1}] * rows), pa.array([2**62] * rows, pa.timestamp("us")),
            pa.array([[("a", 1)]] * rows, pa.map_(pa.string(), pa.int64())), pa.array([True] * rows),
        )  # fmt: skip
        name = table.column_names[column]
        if rng.integers(4) == 0:
            return table.remove_column(column)
        return table.set_column(column, name, values[int(rng.integers(len(values)))])


ARGUMENTS = {
    "bbox": [
        "1234", "6,45,8,47", ("6", "45", "8", "47"), (1, 2, 3), (1, 2, 3, 4, 5), (1, 2, 0, 3, 4, 9), (8, 47, 6, 45),
        (float("nan"), 1, 2, 3), (-200, 1, 200, 2), (0, 0, float("inf"), 1), 5, {6: 1, 45: 1, 8: 1, 47: 1},
        {6, 45, 8, 47}, (True, 2, 3, 4), (6, 91, 8, 92), (10**400, 1, 2, 3), b"1234", (None, 1, 2, 3), [[6], 45, 8, 47],
        (),
    ],
    "intersects": [
        5, "POINT (7 46)", {}, {"type": "Blob"}, {"type": "Point", "coordinates": []}, {"features": None},
        {"features": [5]}, {"features": []}, {"geometry": {"geometry": {}}}, {"type": "Point", "coordinates": "7 46"},
        {"type": "Point", "coordinates": [float("nan"), 4]}, {"type": "Polygon", "coordinates": [[[0, 0]]]}, [7, 46],
        {"type": "Point", "coordinates": [500000, 5100000]}, ApiServer, {"type": "FeatureCollection", "features": {}},
        {"type": "MultiPoint", "coordinates": [[-300, 0], [300, 0]]},
    ],
    "datetime": [
        "", "yesterday", "2021-13", "2021-02-30", "2021/2020", "2021/2022/2023", "0000", "10000-01-01", float("nan"),
        np.datetime64("NaT"), "2021-01-01T00:00:00+99:00", b"2021", {"start": "2021"}, [], ["2021", "x"], object(),
        "2021-06-03T25:00:00Z", (1, 2), "/".join(["2021"] * 4), "9999-12-31T23:59:59-14:00x",
    ],
    "collections": ["", [], [""], [5], 5, {"a": 1}, b"things", [None], ["things", 5], object()],
    "ids": ["", [], [5], 5, {"a": 1}, [b"a"]],
    "query": [5, [], ["eo:cloud_cover"], {"a": 5}, {"a": {}}, {5: {"lt": 1}}, {"a": {"lt": {1}}}, [None], b"a<1"],
    "filter": [5, "", " ", {}, [], {"op": {1}}, {"op": float("nan")}],
    "sortby": [5, [5], "", ["+"], {"field": "a"}, [{"field": 5}], b"datetime", [None]],
    "max_items": [0, -1, 1.5, "5", True, float("nan"), [5]],
}  # fmt: skip

ITEMS = [
    5, None, "items.json", b"items", [5], ["x"], [None], [A, 5], {"id": "x"}, [{}], {"features": None},
    {"features": [5]}, {"features": 5}, (one for one in [5]), [[A]], object(), [A | {"properties": 5}],
]  # fmt: skip


@pytest.mark.usefixtures("no_headers")
class TestOneMalformedPart:
    """Stops nothing else, and is named."""

    def asset(self, **more):
        grid = {
            "proj:code": "EPSG:32631",
            "proj:shape": [10, 10],
            "proj:transform": [10, 0, 5e5, 0, -10, 5e6],
        }
        said = {"type": "image/tiff", "raster:bands": [{"data_type": "uint16", "nodata": 0}]}
        return grid | said | more

    def item(self, **assets):
        usual = {name: self.asset(href=f"https://example.com/{name}.tif") for name in ("red", "green", "blue")}
        return thing("a") | {"assets": usual | assets, "geometry": None, "bbox": None}

    def test_a_real_item_whose_preview_is_malformed(self):
        doc = recorded("s2_collection1")[0]
        preview = {"href": "https://example.com/p.tif", "type": "image/tiff", "roles": ["overview"]}
        bad = preview | {"eo:bands": [{"name": "red"}], "raster:bands": [[{"data_type": "uint8"}]]}
        scene, told = quietly(load, [doc | {"assets": doc["assets"] | {"preview": bad}}])
        assert Recipe.of(scene) == Recipe.of(load([doc]))
        assert not told, "nobody asked for it"
        with pytest.raises(InputError, match=r"asset 'preview' is malformed: raster:bands\[0\] is \[\{"):
            load([doc | {"assets": doc["assets"] | {"preview": bad}}], "preview")

    @pytest.mark.parametrize(
        ("field", "value", "told"),
        [
            ("raster:bands", {"data_type": "uint8"}, "raster:bands is {'data_type': 'uint8'}, not a list"),
            ("raster:bands", [5], "raster:bands[0] is 5, not an object"),
            ("raster:bands", [{"scale": "big"}], "raster:bands[0]: scale is 'big', not a number"),
            ("raster:bands", [{"scale": 0}], "raster:bands[0]: scale is 0"),
            ("raster:bands", [{"offset": float("inf")}], "raster:bands[0]: offset is inf, not a number"),
            ("raster:bands", [{"nodata": "none"}], "raster:bands[0]: nodata is 'none', not a number"),
            ("raster:bands", [{"nodata": 10**400}], "nodata is 1"),
            ("raster:bands", [{"nodata": [0]}], "raster:bands[0]: nodata is [0], not a number"),
            ("eo:bands", "red", "eo:bands is 'red', not a list"),
            ("bands", [None], "bands[0] is None, not an object"),
            ("bands", [{"name": ["red"]}], "bands[0]: name is ['red'], not text"),
            ("href", 5, "its href is 5"),
            ("href", "http://[", "its href is 'http://['"),
            ("href", "", "its href is ''"),
        ],
    )  # fmt: skip
    def test_an_asset(self, field, value, told):
        broken = self.asset(href="https://example.com/x.tif") | {field: value}
        scene, said = quietly(load, [self.item(x=broken)], ["red", "green", "blue"])
        assert Recipe.of(scene) == Recipe.of(load([self.item()], ["red", "green", "blue"]))
        assert len(said) == 1
        assert "asset x of item a" in said[0]
        assert told in said[0]
        with pytest.raises(InputError) as error:
            load([self.item(x=broken)], "x")
        assert "item a" in str(error.value)
        assert "'x'" in str(error.value)
        assert told in str(error.value)

    @pytest.mark.parametrize("asset", [5, None, [], "red.tif", {}, {"href": None}])
    def test_what_is_no_asset_at_all(self, asset):
        scene, said = quietly(load, [self.item(x=asset)], ["red"])
        assert list(Recipe.of(scene).variables) == list(Recipe.of(load([self.item()], ["red"])).variables)
        assert len(said) == 1
        assert "asset x of item a" in said[0]
        with pytest.raises(InputError, match="item a: the asset 'x' is malformed"):
            load([self.item(x=asset)], "x")

    @pytest.mark.parametrize(
        "value",
        [
            ["a", "b"],
            [-1, 5],
            [0, 5],
            [1.5, 5],
            [1e400, 5],
            [2**40, 5],
            [5],
            5,
            "5x5",
            [[5], [5]],
            [10**400, 1],
        ],
    )
    def test_a_grid_is_read_from_the_file_where_its_shape_is_malformed(self, value):
        (item,) = read_items([self.item(x=self.asset(href="x.tif") | {"proj:shape": value})])
        assert not item.projection("x")
        assert "proj:shape is" in item.doubt("x")
        assert not item.fault("x")

    def test_the_finest_asset_is_not_replaced_without_a_word(self):
        both = {
            "fine": self.asset(href="https://example.com/f.tif", **{"eo:bands": [{"common_name": "nir"}]}),
            "coarse": self.asset(href="https://example.com/c.tif", **{"eo:bands": [{"common_name": "nir"}]})
            | {"proj:transform": [60, 0, 5e5, 0, -60, 5e6], "proj:shape": [2, 2]},
        }
        assert quietly(load, [self.item(**both)], "nir")[0].sizes["x"] == 10
        both["coarse"]["proj:transform"] = ["x"]
        assert quietly(load, [self.item(**both)], "nir")[0].sizes["x"] == 10
        both["coarse"]["proj:transform"] = [60, 0, 5e5, 0, -60, 5e6]
        both["fine"]["proj:transform"] = ["x"]
        assert any("asset fine of item a" in one for one in quietly(load, [self.item(**both)], "nir")[1])

    def test_an_item_among_others(self):
        broken = self.item() | {"id": "broken"}
        for change in (
            {"properties": {"datetime": "yesterday"}},
            {"properties": 5 * [1]},
            {"properties": {"datetime": "9999-12-31T23:59:59-14:00"}},
            {"type": "Collection"},
            {"id": ["broken"]},
        ):
            scene, told = quietly(load, [self.item(), broken | change], "red")
            assert [layer.item for layer in Recipe.of(scene).layers] == ["a"]
            assert len(told) == 1
            assert "item broken" in told[0] or "item 2" in told[0]
            with pytest.raises(InputError, match="none of the items can be used"):
                load([broken | change], "red")

    def test_what_nobody_reads_may_be_nested_as_deep_as_it_likes(self):
        scene, told = quietly(load, [self.item() | {"extra": DEEP}], "red")
        assert [layer.item for layer in Recipe.of(scene).layers] == ["a"]
        assert not told
        with pytest.raises(InputError, match="not a STAC item"):
            save_items([self.item() | {"extra": DEEP}], "items.json")

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"links": [5, {"rel": "x"}, {"rel": "self", "href": 5}]}, "link 1 of item b"),
            ({"links": "none"}, "links of item b"),
            ({"assets": [1]}, "assets of item b"),
            ({"assets": {"x": 1}}, "asset x of item b"),
            ({"bbox": ["7", "46", "7", "46"]}, "bbox of item b"),
            ({"bbox": [7, 46, 7]}, "bbox of item b"),
            ({"geometry": {"type": "Point", "coordinates": None}}, "geometry of item b"),
            ({"stac_extensions": 5}, "stac_extensions of item b"),
            ({"collection": ["x"]}, "collection of item b"),
        ],
    )
    def test_a_part_of_an_item_that_was_found(self, tmp_path, change, told):
        found, said = quietly(search, as_file(tmp_path, page(A, B | change, C)), bbox=(6, 45, 8, 47))
        assert [item.id for item in found] == ["a", "b", "c"]
        assert len(said) == 1
        assert told in said[0]

    def test_members_of_a_page_that_are_no_items(self, tmp_path):
        found, said = quietly(search, as_file(tmp_path, page(5, A, None, [B], C)))
        assert [item.id for item in found] == ["a", "c"]
        assert len(said) == 1
        assert "it is 5, not an object" in said[0]

    def test_a_line_among_others(self, tmp_path):
        place = tmp_path / "items.ndjson"
        place.write_bytes(b"\n".join([json.dumps(A).encode(), b'{"id": ', json.dumps(B).encode()]))
        found, said = quietly(search, place)
        assert [item.id for item in found] == ["a", "b"]
        assert len(said) == 1
        assert "line 2 of" in said[0]

    def test_a_next_page_that_cannot_be_followed_is_said(self):
        with ApiServer() as server:
            server.api()
            server.say("/search", page(A) | {"links": [{"rel": "next", "href": None}, 5]})
            found, said = quietly(search, server.url)
        assert [item.id for item in found] == ["a"]
        assert len(said) == 1
        assert "next page of" in said[0]

    def test_a_count_that_is_none(self):
        with ApiServer() as server:
            server.api()
            for count in ("many", -1, 1e400, [], True):
                server.say(
                    "/search",
                    Reply(json.dumps(page(A) | {"numberMatched": count, "context": [5]}).encode()),
                )
                assert len(search(server.url)) == 1

    def test_a_secret_in_a_malformed_href_is_not_shown(self, tmp_path):
        doc = B | {"links": [{"rel": 5, "href": "https://example.com/x?sig=SECRET"}]}
        _, (said,) = quietly(search, as_file(tmp_path, page(A, doc)))
        assert "SECRET" not in said


class TestDocuments:
    @pytest.mark.parametrize(
        "data",
        [
            b"", b"5", b'"x"', b"[1]", b"null", b"{", b"\xff\xfe", b"<html>login</html>", b"[" * 900 + b"]" * 900,
            b'{"a":' * 900 + b"1" + b"}" * 900, b"[" * 100_000, b'{"a": ' + b"9" * 10_000 + b"}",
        ],
    )  # fmt: skip
    def test_what_is_no_document(self, data, tmp_path):
        with pytest.raises(SearchError):
            read_json(data, "x")
        (tmp_path / "x.json").write_bytes(data)
        with pytest.raises(SearchError):
            search(tmp_path / "x.json")

    def test_a_byte_order_mark_is_no_fault(self, tmp_path):
        (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(page(A)).encode())
        assert len(search(tmp_path / "x.json")) == 1

    def test_pipes_and_devices_are_no_catalogues(self, tmp_path):
        links = [{"rel": "item", "href": "/dev/zero"}, {"rel": "item", "href": "a.json"}]
        as_file(
            tmp_path,
            {"type": "Catalog", "stac_version": "1.0.0", "id": "r", "links": links},
            "catalog.json",
        )
        as_file(tmp_path, A, "a.json")
        found, said = quietly(search, tmp_path)
        assert len(found) == 1
        assert "/dev/zero is no file" in said[0]

    def test_a_circle_of_catalogues_ends(self, tmp_path):
        links = [{"rel": "child", "href": href} for href in ("b.json", "./catalog.json", "x/../b.json")]
        for name in ("catalog.json", "b.json"):
            items = [{"rel": "item", "href": "a.json"}]
            doc = {
                "type": "Catalog",
                "stac_version": "1.0.0",
                "id": name,
                "links": [*links, *items],
            }
            as_file(tmp_path, doc, name)
        as_file(tmp_path, A, "a.json")
        assert len(search(tmp_path)) == 1

    def test_an_end_of_all_times(self, tmp_path):
        place = as_file(tmp_path, page(A))
        for when in ("2020/9999-12-31", "2020/9999", "0001/2030", ("0001-01-01", "9999-12-31")):
            assert len(search(place, datetime=when)) == 1

    def test_saving_where_nothing_can_be_written(self, tmp_path):
        with pytest.raises(OSError, match=r"cannot be written"):
            save_items([A], tmp_path / "none" / "items.json")
        (tmp_path / "items.json").mkdir()
        with pytest.raises(OSError, match=r"cannot be written"):
            save_items([A], tmp_path / "items.json")
        assert [path.name for path in tmp_path.iterdir()] == ["items.json"]

    def test_half_of_a_pair_survives(self, tmp_path):
        doc = A | {
            "properties": A["properties"] | {"x\ud800": "y\ud800"},
            "assets": {"k": {"href": "x", "\udc00": 1}},
        }
        for ending in ("json", "parquet"):
            (back,) = search(save_items([doc], tmp_path / f"i.{ending}"))
            assert back.properties["x\ud800"] == "y\ud800"

    def test_every_recorded_document_is_well_formed(self):
        for path in sorted((DATA / "stac").glob("*.json")):
            if path.stem != "fields_only":
                _, told = quietly(read_items, recorded(path.stem))
                assert not told, path.stem


def test_the_mutations_reach_every_node():
    doc = recorded("s2_collection1")[0]
    seen = {mutate(doc, np.random.default_rng(k))[1] for k in range(3000)}
    assert len(seen) > 0.3 * len(paths(doc))
