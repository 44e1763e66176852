"""Saved results come back exactly, and other tools read them."""

import json

import geopandas as gpd
import pyarrow.parquet as pq
import pystac
import pytest
import rustac
from hypothesis import given, settings
from hypothesis import strategies as st

from remotesam_geo import save_items, search
from remotesam_geo.errors import InputError, RemoteSAMWarning, SearchError
from remotesam_geo.stac import geoparquet
from remotesam_geo.stac.documents import LeftOut
from tests.scenes.places import DATA, recorded
from tests.stac.api_server import thing

NAMES = sorted(path.stem for path in (DATA / "stac").glob("*.json"))


def text(items, ordered=True):
    """Items as one text. The order of fields is no part of JSON; that of assets is kept anyway."""
    docs = [item.to_dict(transform_hrefs=False) for item in items]
    return json.dumps([[doc, list(doc["assets"])] for doc in docs], sort_keys=not ordered)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """Every real item of the test data, as a search gives them."""
    docs = [doc for name in NAMES for doc in recorded(name)]
    path = tmp_path_factory.mktemp("all") / "all.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": docs}))
    return search(path)


@pytest.mark.parametrize("ending", ["json", "geojson", "parquet", "geoparquet"])
class TestExactly:
    def test_every_real_item_comes_back_to_the_letter(self, everything, tmp_path, ending):
        again = search(save_items(everything, tmp_path / f"items.{ending}"))
        assert len(again) == len(everything) > 50
        ordered = "json" in ending
        assert text(again, ordered) == text(everything, ordered)

    def test_and_so_it_does_twice(self, everything, tmp_path, ending):
        first = save_items(everything, tmp_path / f"first.{ending}")
        second = save_items(search(first), tmp_path / f"second.{ending}")
        assert first.read_bytes() == second.read_bytes()

    def test_nothing_found_is_a_result_as_well(self, tmp_path, ending):
        path = save_items(pystac.ItemCollection([]), tmp_path / f"none.{ending}")
        assert list(search(path)) == []
        assert list(search(path, "naip", bbox=(6, 45, 8, 47))) == []

    def test_a_writer_that_fails_leaves_the_old_file(self, tmp_path, ending, monkeypatch):
        path = save_items([thing("a")], tmp_path / f"items.{ending}")
        before = path.read_bytes()
        monkeypatch.setattr("os.fsync", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            save_items([thing("b")], path)
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == [path.name]


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(["a", "b:c", "gsd", "created", "type", "id"]), values),
            st.dictionaries(st.sampled_from(["x", "y"]), values),
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=100)
def test_parquet_keeps_whatever_json_can_say(drawn):
    docs = [
        thing(f"{i}") | {"properties": {"datetime": None} | properties, "assets": {"m": asset}}
        for i, (properties, asset) in enumerate(drawn)
    ]
    assert geoparquet.decode(geoparquet.encode(docs), "memory", LeftOut()) == docs


class TestOthers:
    def test_geopandas_and_rustac_read_it(self, tmp_path):
        docs = recorded("naip_page1") + recorded("landsat_antimeridian")
        path = save_items(docs, tmp_path / "items.parquet")
        frame = gpd.read_parquet(path)
        assert list(frame["id"]) == [doc["id"] for doc in docs]
        assert frame.crs == "OGC:CRS84"
        assert frame.geometry[0].equals(gpd.GeoDataFrame.from_features(docs).geometry[0])
        assert str(frame["datetime"].dtype).endswith("UTC]")
        assert len(gpd.read_parquet(path, bbox=(-73.2, 43.9, -73.1, 44.1))) == 10
        theirs = rustac.read_sync(str(path))["features"]
        for here, there in zip(docs, theirs, strict=True):
            assert there["id"] == here["id"]
            assert there["collection"] == here["collection"]
            assert {k: a["href"] for k, a in there["assets"].items()} == {
                k: a["href"] for k, a in here["assets"].items()
            }

    def test_items_of_one_product_need_no_more_than_columns(self, tmp_path):
        docs = search(save_items(recorded("naip_page1"), tmp_path / "items.json"))
        path = save_items(docs, tmp_path / "items.parquet")
        assert geoparquet.EXACT not in pq.read_schema(path).names

    def test_what_others_wrote_is_read(self, tmp_path):
        docs = recorded("naip_page1") + recorded("s2_planetary_computer")
        rustac.write_sync(str(tmp_path / "theirs.parquet"), docs)
        found = search(tmp_path / "theirs.parquet")
        for item, doc in zip(found, docs, strict=True):
            assert item.id == doc["id"]
            assert item.collection_id == doc["collection"]
            assert item.geometry == doc["geometry"]
            assert item.bbox == pytest.approx(doc["bbox"])
            assert item.datetime == pystac.utils.str_to_datetime(doc["properties"]["datetime"])
            for key, asset in doc["assets"].items():
                found_asset = item.assets[key].to_dict()
                assert found_asset["href"] == asset["href"]
                assert len(found_asset.get("eo:bands", [])) == len(asset.get("eo:bands", []))


class TestWhatIsRefused:
    def test_other_endings(self, tmp_path):
        with pytest.raises(InputError, match=r"'items\.csv' must end in"):
            save_items([], tmp_path / "items.csv")

    @pytest.mark.parametrize("wrong", [[3], ["text"], [{"id": "a"}]])
    def test_what_is_no_item(self, tmp_path, wrong):
        with pytest.raises(InputError, match="not a STAC item"):
            save_items(wrong, tmp_path / "items.json")

    @pytest.mark.parametrize(
        ("name", "data", "told"),
        [
            ("a.parquet", b"PAR1 and no more", "not a readable Parquet file"),
            ("a.json", b"{", "is not a JSON object; it begins '{'"),
            ("a.json", b"", "is not a JSON object"),
            ("a.tif", b"II*\0", "is not a JSON object"),
            ("a.json", b"[" * 100_000, "is not a JSON object"),
            ("a.json", b'{"type": "FeatureCollection", "features": 3}', "without a list of items"),
            ("a.json", b'{"type": "Topology"}', "is no catalogue, .* 'Topology'"),
        ],
    )
    def test_files_that_are_something_else(self, tmp_path, name, data, told):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SearchError, match=told):
            search(tmp_path / name)

    def test_a_parquet_file_of_something_else(self, tmp_path):
        gpd.pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "a.parquet")
        with pytest.raises(SearchError, match="holds no STAC items: its columns are a"):
            search(tmp_path / "a.parquet")

    def test_a_broken_link_of_a_tree(self, tmp_path):
        links = [{"rel": "item", "href": "lost.json"}]
        node = {"type": "Catalog", "stac_version": "1.0.0", "id": "root", "links": links}
        (tmp_path / "catalog.json").write_text(json.dumps(node))
        with pytest.raises(SearchError, match=r"lost\.json: No such file"):
            search(tmp_path)


def test_signatures_of_the_planetary_computer_are_left_out_and_others_told(tmp_path):
    doc = json.loads(json.dumps(recorded("naip_page1")[0]))
    plain = doc["assets"]["image"]["href"]
    doc["assets"]["image"]["href"] = f"{plain}?se=2026-11-20&sig=SECRET"
    path = save_items([doc], tmp_path / "items.json")
    assert "SECRET" not in path.read_text()
    assert search(path)[0].assets["image"].href == plain
    doc["links"] = [{"rel": "self", "href": "https://example.com/item.json"}]
    with pytest.warns(RemoteSAMWarning, match="carry signatures"):
        save_items([doc], path)
