"""Recorded answers of real services, replayed end to end: from a question to pixels, each place once."""

import copy
import json

import numpy as np
import pytest
from affine import Affine

from remotesam_geo import load, save_items, search
from remotesam_geo.errors import SearchError
from remotesam_geo.net.trust import Trust
from remotesam_geo.scenes import ReadPolicy
from tests.scenes.places import DATA, recorded, write
from tests.stac.api_server import ApiServer, Reply

RECORDED = json.loads((DATA / "search" / "recorded.json").read_text())
PLANETARY = "https://planetarycomputer.microsoft.com/api/stac/v1"
EARTH = "https://earth-search.aws.element84.com/v1"
BBOX = (-73.21, 43.99, -73.12, 44.05)
THINNED = 100


def at(server, doc, home):
    """A recorded document as if it had been recorded from the server."""
    return json.loads(json.dumps(doc).replace(home, server.url))


def small_raster(server, doc, number):
    """In place of a NAIP file of 400 MB: the same place, every hundredth pixel, one value."""
    properties = doc["properties"]
    rows, columns = (side // THINNED for side in properties["proj:shape"])
    transform = Affine(*properties["proj:transform"][:6]) * Affine.scale(THINNED)
    pixels = np.full((4, rows, columns), number + 1, "uint8")
    path = server.folder / f"{number}.tif"
    write(path, pixels, transform, f"EPSG:{properties['proj:epsg']}", blockxsize=256, blockysize=256)
    data = path.read_bytes()
    server.routes[f"/{number}.tif"] = lambda asked: ranged(asked, data)
    properties |= {"proj:shape": [rows, columns], "proj:transform": list(transform)[:6]}
    doc["assets"]["image"]["href"] = f"{server.url}/{number}.tif"
    return doc


def ranged(asked, data):
    first, last = asked.headers["range"].removeprefix("bytes=").split("-")
    part = data[int(first) : int(last or len(data)) + 1]
    span = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
    return Reply(part, 206, {"Content-Range": span, "ETag": '"1"'})


@pytest.fixture
def planetary(tmp_path):
    """Two recorded pages of a NAIP search: 20 items over 6 places, of 2016 to 2023."""
    with ApiServer() as server:
        server.folder = tmp_path
        server.say("/", at(server, RECORDED["pc_landing"], PLANETARY))
        docs = copy.deepcopy(recorded("naip_page1") + recorded("naip_page2"))
        docs = {doc["id"]: small_raster(server, doc, i) for i, doc in enumerate(docs)}
        answers = []
        for page in RECORDED["pc_naip"]:
            answer = at(server, page["response"], PLANETARY)
            features = [docs[name] for name in answer["features"]]
            answers.append((page["request"]["json"], answer | {"features": features}))

        def answer(asked):
            for request, page in answers:
                if {**asked.body, "limit": 10} == request:
                    return Reply(page)
            return Reply({"type": "FeatureCollection", "features": [], "links": []})

        server.routes["/search"] = answer
        yield server


def test_the_recorded_naip_search_gives_each_place_once(planetary, tmp_path):
    items = search(planetary.url, "naip", bbox=BBOX)
    assert len(items) == 20
    assert [asked.method for asked in planetary.seen] == ["GET", "POST", "POST", "POST"]
    policy = ReadPolicy(trust=Trust(hosts=("127.0.0.1",)))
    scene = load(items, bbox=BBOX, resolution=60, mosaic="latest", policy=policy)
    assert scene.red.dims == ("y", "x")
    pixels = scene.compute()
    assert bool(pixels.valid.all())

    # The reference: the newest item whose grid holds the middle of a pixel, of all that do.
    x, y = np.meshgrid(pixels.x.values, pixels.y.values)
    newest = np.full(x.shape, -1)
    holding = np.zeros(x.shape, int)
    for number in sorted(range(20), key=lambda i: items[i].datetime):
        rows, columns = items[number].properties["proj:shape"]
        column, row = ~Affine(*items[number].properties["proj:transform"][:6]) * (x, y)
        inside = (row > 1) & (row < rows - 1) & (column > 1) & (column < columns - 1)
        newest[inside] = number
        holding += inside
    assert holding.max() > 3  # the page does overlap
    years = np.array([item.datetime.year for item in items])
    sure = newest >= 0
    assert sure.mean() > 0.98
    assert (years[pixels.source.values[sure]] == years[newest[sure]]).all()
    np.testing.assert_array_equal(pixels.red.values, pixels.source.values + 1)

    # The same from a file, without the service.
    kept = save_items(items, tmp_path / "items.parquet")
    again = load(search(kept), bbox=BBOX, resolution=60, mosaic="latest", policy=policy)
    np.testing.assert_array_equal(again.red.compute(), pixels.red)


def test_the_recorded_answers_hrefs_stay_as_they_are():
    docs = recorded("naip_page1")
    with ApiServer() as server:
        server.api()
        server.say("/search", {"type": "FeatureCollection", "features": docs, "links": []})
        for item, doc in zip(search(server.url), docs, strict=True):
            assert item.assets["image"].href == doc["assets"]["image"]["href"]
            assert item.get_self_href().startswith(PLANETARY)


def test_ids_of_which_one_is_not_found_is_no_error():
    recording = RECORDED["pc_ids"]
    with ApiServer() as server:
        server.say("/", at(server, RECORDED["pc_landing"], PLANETARY))
        server.say("/search", at(server, recording["response"], PLANETARY))
        found = search(server.url, "naip", ids=recording["request"]["json"]["ids"])
        assert [item.id for item in found] == ["fl_m_2608004_nw_17_060_20191215_20200113"]
        assert server.seen[1].body == recording["request"]["json"] | {"limit": 100}


def test_a_filter_that_the_service_ignored_is_refused():
    # Recorded: Earth Search answers a filter for clouds up to 40 % with clouds of 57 % and with radar.
    clouds = [doc["eo:cloud_cover"] for doc in RECORDED["es_filter"]["response"]["features"]]
    assert None in clouds
    assert max(cloud or 0 for cloud in clouds) > 40
    with ApiServer() as server:
        server.say("/", at(server, RECORDED["es_landing"], EARTH))
        with pytest.raises(SearchError, match="does not offer filter= and would ignore it; use query="):
            search(server.url, filter=RECORDED["es_filter"]["request"]["json"]["filter"])
        assert len(server.seen) == 1


def test_an_unknown_collection_is_told_from_an_empty_answer():
    with ApiServer() as server:
        server.say("/", at(server, RECORDED["es_landing"], EARTH))
        server.say("/search", at(server, RECORDED["es_empty"]["response"], EARTH))
        server.say("/collections", at(server, RECORDED["es_collections"], EARTH))
        server.say("/collections/naip", {"type": "Collection", "id": "naip"})
        assert list(search(server.url, "naip")) == []
        with pytest.raises(SearchError, match="no collection 'sentinel-2'; did you mean 'sentinel-"):
            search(server.url, ["naip", "sentinel-2"])
        with pytest.raises(SearchError, match="no collection 'NAIP'; did you mean 'naip'"):
            search(server.url, "NAIP")


def test_some_services_refuse_an_unknown_collection_themselves():
    with ApiServer() as server:
        server.say("/", at(server, RECORDED["es_landing"], EARTH))
        server.say("/search", Reply({"description": "no such collection"}, status=404))
        server.say("/collections", at(server, RECORDED["es_collections"], EARTH))
        with pytest.raises(SearchError, match="no collection 'nap'; did you mean 'naip'"):
            search(server.url, "nap")
