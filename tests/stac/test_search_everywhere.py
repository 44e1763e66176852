"""One table of questions, put to a real STAC API server, files and trees: the same answers everywhere."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import geopandas as gpd
import pytest
import rustac
import shapely

from remotesam_geo import save_items, search
from remotesam_geo.errors import InputError, SearchError
from tests.scenes.places import DATA, recorded

pytestmark = pytest.mark.server


def items() -> list[dict]:
    """20 overlapping items of NAIP, and others: two sides of the antimeridian, ranges of time, radar."""
    docs = recorded("naip_page1") + recorded("naip_page2")
    for doc in docs:
        doc["links"] = []
    others = json.loads((DATA / "search" / "items.json").read_text())["features"]
    return docs + others


def tree(folder: Path, docs: list[dict]) -> Path:
    """A static catalogue: collections, one of them below a catalogue of its own."""
    below: dict[str, list[dict]] = {}
    for doc in docs:
        below.setdefault(doc["collection"], []).append(doc)
    children = []
    for i, (name, members) in enumerate(below.items()):
        place = folder / ("deep/" * (i == 0)) / name
        place.mkdir(parents=True)
        links = []
        for number, doc in enumerate(members):
            (place / f"{number}.json").write_text(json.dumps(doc))
            links.append({"rel": "item", "href": f"./{number}.json"})
        links += [
            {"rel": "root", "href": "../catalog.json"},
            {"rel": "parent", "href": "../x.json"},
        ]
        collection = {"type": "Collection", "stac_version": "1.0.0", "id": name, "links": links}
        (place / "collection.json").write_text(json.dumps(collection | {"extent": {}}))
        children.append({"rel": "child", "href": str(place.relative_to(folder) / "collection.json")})
    node = {"type": "Catalog", "stac_version": "1.0.0", "description": ""}
    deep = {"id": "deep", "links": [{"rel": "child", "href": children[0]["href"][len("deep/") :]}]}
    (folder / "deep/catalog.json").write_text(json.dumps(node | deep))
    # A circle: each catalogue leads to the other.
    deep["links"].append({"rel": "child", "href": "../catalog.json"})
    (folder / "deep/catalog.json").write_text(json.dumps(node | deep))
    links = [{"rel": "child", "href": "deep/catalog.json"}, *children[1:]]
    (folder / "catalog.json").write_text(json.dumps(node | {"id": "all", "links": links}))
    return folder / "catalog.json"


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    (folder / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items()}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("rustac")
    command = [
        program,
        "serve",
        folder / "items.json",
        "-a",
        f"127.0.0.1:{port}",
        "--create-collections",
    ]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for _ in range(2000):  # a busy machine starts it late
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def forms(api, tmp_path_factory):
    folder = tmp_path_factory.mktemp("forms")
    docs = items()
    (folder / "lines.ndjson").write_text("\n".join(json.dumps(doc) for doc in docs))
    rustac.write_sync(str(folder / "theirs.parquet"), docs)
    (folder / "tree").mkdir()
    return {
        "api": api,
        "tree": str(tree(folder / "tree", docs)),
        "folder": str(folder / "tree"),
        "json": str(save_items(docs, folder / "ours.json")),
        "lines": str(folder / "lines.ndjson"),
        "parquet": str(save_items(docs, folder / "ours.parquet")),
        "rustac's parquet": str(folder / "theirs.parquet"),
    }


FORMS = ["api", "tree", "folder", "json", "lines", "parquet", "rustac's parquet"]
VERMONT = (-73.21, 43.99, -73.12, 44.05)
SQUARE = shapely.box(*VERMONT)
FIJI_SIDE = (170.0, -80.0, -170.0, 80.0)
QUESTIONS = {
    "everything": ({}, 28),
    "a collection": ({"collections": "naip"}, 20),
    "two collections": ({"collections": ["naip", "sentinel-1-grd"]}, 21),
    "a bbox": ({"bbox": VERMONT}, 20),
    "a smaller bbox": ({"bbox": (-73.2, 44.02, -73.19, 44.03)}, None),
    "a bbox where nothing is": ({"bbox": (7, 46, 8, 47)}, 0),
    "a bbox across the antimeridian": ({"bbox": FIJI_SIDE}, None),
    "a polygon": ({"intersects": SQUARE}, 20),
    "GeoJSON": ({"intersects": shapely.geometry.mapping(SQUARE.buffer(-0.02))}, None),
    "a point": ({"intersects": shapely.Point(-73.1, 43.95)}, None),
    "a frame in metres": (
        {"intersects": gpd.GeoSeries([SQUARE], crs=4326).to_crs(26918)},
        20,
    ),
    "a frame across the antimeridian": (
        {"intersects": gpd.GeoDataFrame(geometry=[shapely.box(2e6, -1e7, 5e6, 1e7)], crs=3832)},
        None,
    ),
    "a year": ({"datetime": "2021"}, None),
    "a month": ({"collections": "naip", "datetime": "2018-09"}, 3),
    "a day": ({"datetime": "2023-06-22"}, 3),
    "a moment": ({"datetime": "2023-06-22T16:00:00Z"}, 3),
    "another zone": ({"datetime": "2023-06-22T18:00:00+02:00"}, 3),
    "an interval": ({"datetime": "2018-01-01/2021-12-31"}, None),
    "from then on": ({"datetime": "2023-01-01/.."}, None),
    "until then": ({"datetime": "../2018-10"}, None),
    "ids": (
        {"ids": ["vt_m_4407364_sw_18_060_20211029", "S2B_20EPT_20250731_0_L2A", "none such"]},
        2,
    ),
    "all at once": (
        {
            "collections": "naip",
            "bbox": VERMONT,
            "datetime": "2016/2018",
            "sortby": "id",
            "max_items": 4,
        },
        4,
    ),
    "sorted": ({"collections": "naip", "sortby": ["-datetime", "id"]}, 20),
    "sorted and cut": ({"collections": "naip", "sortby": "datetime,-id", "max_items": 3}, 3),
    "sorted by a property that some lack": ({"sortby": "-naip:year,id"}, 28),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", QUESTIONS)
def test_every_form_of_catalogue_gives_the_same_answer(forms, form, name):
    question, count = QUESTIONS[name]
    found = [item.id for item in search(forms[form], **question)]
    # The reference: the same question over the items in memory, in the item collection.
    expected = [item.id for item in search(forms["json"], **question)]
    if "sortby" not in question:
        found, expected = sorted(found), sorted(expected)
    assert found == expected
    if count is not None:
        assert len(found) == count


def test_the_table_tells_answers_apart(forms):
    counts = {name: len(search(forms["json"], **question)) for name, (question, _) in QUESTIONS.items()}
    for name in ("a smaller bbox", "GeoJSON", "a point", "a year", "an interval", "from then on"):
        assert 0 < counts[name] < 28, name
    ids = {item.id for item in search(forms["json"], bbox=FIJI_SIDE)}
    assert any(name.startswith("LT05") for name in ids)
    assert not any(name.startswith("vt_") for name in ids)


@pytest.mark.parametrize("form", FORMS)
def test_an_item_is_the_same_whatever_it_came_from(forms, form):
    for name in ("naip", "sentinel-2-l2a"):
        question = {"collections": name, "sortby": "id", "max_items": 1}
        here, there = (search(forms[at], **question)[0].to_dict() for at in (form, "json"))
        for doc in (here, there):
            doc["links"] = []  # a server and a tree add their own
            for key in ("datetime", "created", "updated"):  # rustac writes times with other digits
                doc["properties"].pop(key, None)
        if form == "rustac's parquet":  # columns know no null
            drop_nulls(there), drop_nulls(here)
            there["properties"] = {k: v for k, v in there["properties"].items() if v is not None}
        assert numbers(here) == numbers(there)


def numbers(doc):
    return json.loads(json.dumps(doc), parse_int=float)


def drop_nulls(value):
    if isinstance(value, dict):
        for key in [key for key, inner in value.items() if inner is None]:
            del value[key]
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        drop_nulls(inner)


@pytest.mark.parametrize("form", FORMS)
def test_an_unknown_collection_names_near_matches(forms, form):
    with pytest.raises(SearchError, match="no collection 'sentinel2'; did you mean 'sentinel-2-"):
        search(forms[form], "sentinel2", bbox=VERMONT)
    with pytest.raises(SearchError, match="no collection 'qqq'; there is '"):
        search(forms[form], ["naip", "qqq"])


@pytest.mark.parametrize("form", FORMS)
def test_nothing_found_is_an_empty_collection(forms, form):
    assert list(search(forms[form], "naip", bbox=(7, 46, 8, 47))) == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("extra", [{"query": {"eo:cloud_cover": {"lt": 5}}}, {"filter": "eo:cloud_cover < 5"}])
def test_what_cannot_be_served_is_said_and_not_ignored(forms, form, extra):
    kind = SearchError if form == "api" else InputError
    with pytest.raises(kind, match=f"{next(iter(extra))}="):
        search(forms[form], "naip", **extra)


def test_items_of_a_tree_know_where_they_are(forms):
    found = search(forms["tree"], "naip", max_items=1)[0]
    assert Path(found.get_self_href()).is_file()
    collection = Path(found.get_self_href()).parent / "collection.json"
    assert len(search(collection)) == 20
    assert [item.id for item in search(found.get_self_href())] == [found.id]
