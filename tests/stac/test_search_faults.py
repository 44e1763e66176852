"""What catalogues do on a bad day, scripted: each case with what the user gets, and what is sent where."""

import json
import socket
import time

import pytest

from remotesam_geo import search
from remotesam_geo.errors import RemoteSAMWarning, SearchError
from remotesam_geo.net.auth import HrefSigner, Request
from remotesam_geo.net.client import Patience
from remotesam_geo.net.json_client import Web
from remotesam_geo.net.trust import Trust
from remotesam_geo.scenes import ReadPolicy
from remotesam_geo.stac import api
from tests.stac.api_server import ApiServer, Reply, page, thing

# A busy machine answers late: only tests of silence give up soon.
QUICK = ReadPolicy(patience=Patience(stall=60, total=200, retries=3, first_wait=0.01))
HASTY = ReadPolicy(patience=Patience(stall=0.5, total=200, retries=3, first_wait=0.01))
A, B, C = thing("a"), thing("b"), thing("c")


def ids(found):
    return [item.id for item in found]


@pytest.fixture
def server():
    with ApiServer() as running:
        running.api()
        running.say("/search", page(A, B))
        yield running


@pytest.fixture
def other():
    with ApiServer() as running:
        yield running


class TestPassingFaults:
    @pytest.mark.parametrize(
        "fault",
        [
            Reply(status=503),
            Reply(status=500, body={"description": "database is tired"}),
            Reply(status=502),
            Reply(status=504, body=b"<html>gateway</html>"),
            Reply(status=429),
            Reply(page(A, B), cut=40),
            Reply(page(A, B), cut=40, zipped=True),
            Reply(b"\x1f\x8b and no more", headers={"Content-Encoding": "gzip"}),
            Reply(page(A, B), wait=2.0),
        ],
        ids=["503", "500", "502", "504", "429", "cut", "cut gzip", "damaged gzip", "stall"],
    )
    def test_one_is_not_noticed(self, server, fault):
        server.say("/search", fault, page(A, B))
        policy = HASTY if fault.wait else QUICK
        assert ids(search(server.url, policy=policy)) == ["a", "b"]
        assert [asked.path for asked in server.seen].count("/search") == 2

    def test_on_the_landing_page_neither(self, server):
        landing = server.routes["/"](None)
        server.say("/", Reply(status=503), landing)
        assert ids(search(server.url, policy=QUICK)) == ["a", "b"]

    def test_retry_after_is_honoured(self, server):
        server.say("/search", Reply(status=429, headers={"Retry-After": "1"}), page(A))
        start = time.monotonic()
        assert ids(search(server.url, policy=QUICK)) == ["a"]
        assert time.monotonic() - start >= 1.0

    def test_a_wait_longer_than_the_time_left_is_not_begun(self, server):
        server.say("/search", Reply(status=429, headers={"Retry-After": "3600"}))
        with pytest.raises(SearchError, match=r"HTTP 429.*3600 s, more than"):
            search(server.url, policy=QUICK)

    def test_one_that_stays_ends_the_search_in_bounded_time(self, server):
        server.say("/search", Reply(status=503, body={"description": "closed today"}))
        with pytest.raises(SearchError, match=r"HTTP 503.*closed today; gave up after 4 tries"):
            search(server.url, policy=QUICK)

    def test_silence_does_not_hang(self, server):
        server.say("/search", Reply(page(A), wait=30))
        with pytest.raises(SearchError, match="no answer in time"):
            search(server.url, policy=HASTY)

    def test_answers_may_come_compressed(self, server):
        server.say("/search", Reply(page(A, B), zipped=True))
        assert ids(search(server.url)) == ["a", "b"]
        assert "gzip" in server.seen[0].headers["accept-encoding"]


class TestLastingFaults:
    def test_what_the_service_says_is_shown(self, server):
        server.say("/search", Reply({"code": "x", "description": "bbox is too large"}, status=400))
        with pytest.raises(SearchError, match="HTTP 400 Bad Request: bbox is too large"):
            search(server.url)
        assert [asked.path for asked in server.seen].count("/search") == 1

    @pytest.mark.parametrize("body", [b"<html>Log in</html>", b"", b"[1, 2]", b'{"features": [{"id'])
    def test_what_is_no_json_object_is_shown_as_it_begins(self, server, body):
        server.say("/search", Reply(body))
        with pytest.raises(SearchError, match=r"/search is not a JSON object; it begins '"):
            search(server.url)

    def test_a_landing_page_that_is_none(self, server):
        server.say("/", {"hello": "world"})
        with pytest.raises(SearchError, match="is no catalogue, collection, item"):
            search(server.url)

    def test_a_page_without_items_list(self, server):
        server.say("/search", {"type": "FeatureCollection"})
        with pytest.raises(SearchError, match="without a list of features"):
            search(server.url)

    def test_an_item_that_cannot_be_read_is_named_and_left_out(self, server):
        server.say("/search", page(A, thing("broken", datetime="yesterday"), B))
        told = r"item broken \(its datetime 'yesterday' is not a time\)"
        with pytest.warns(RemoteSAMWarning, match=told):
            assert ids(search(server.url)) == ["a", "b"]

    def test_where_nothing_else_is_found_it_is_an_error(self, server):
        server.say("/search", page(thing("broken", datetime="yesterday")))
        with pytest.raises(SearchError, match=r"nothing was found that can be read: item broken"):
            search(server.url)

    def test_a_host_that_does_not_exist(self):
        with pytest.raises(SearchError, match="connection failed"):
            search("http://127.0.0.1:1/stac", policy=QUICK)

    def test_secrets_in_the_url_are_not_shown(self, server):
        server.say("/", Reply(status=404))
        with pytest.raises(SearchError) as told:
            search(f"{server.url}/?token=SECRET")
        assert "SECRET" not in str(told.value)
        assert "SECRET" not in str(told.value.__cause__)


class TestPages:
    def test_all_pages_are_read_and_repetitions_left_out(self, server):
        post = {"rel": "next", "href": "/search", "method": "POST", "body": {"token": "2"}}
        server.say("/search", page(A, B, following=post), page(B, C))
        assert ids(search(server.url, ids=["a", "b", "c"])) == ["a", "b", "c"]
        assert server.seen[2].body == {"token": "2"}

    def test_a_link_may_ask_to_merge_its_body(self, server):
        post = {"rel": "next", "href": "search", "method": "POST", "merge": True, "body": {"n": 2}}
        server.say("/search", page(A, following=post), page(B))
        assert ids(search(server.url, "things")) == ["a", "b"]
        assert server.seen[2].body == {"limit": 100, "collections": ["things"], "n": 2}

    def test_an_empty_page_is_no_end(self, server):
        server.say("/search", page(A, following="/search?n=2"))
        pages = {"2": page(following="/search?n=3"), "3": page(B)}
        first = server.routes["/search"]
        server.routes["/search"] = lambda asked: Reply(pages[asked.query["n"][0]]) if asked.query else first(asked)
        assert ids(search(server.url)) == ["a", "b"]

    def test_a_page_that_leads_to_itself_ends_the_search(self, server):
        server.say("/search", page(A, following=f"{server.url}/search?n=1"))
        with pytest.raises(SearchError, match="go round in circles"):
            search(server.url)

    def test_pages_without_end_that_bring_nothing_new(self, server):
        server.routes["/search"] = lambda _: Reply(page(A, following=f"/search?n={len(server.seen)}"))
        with pytest.raises(SearchError, match="pages in a row hold nothing new"):
            search(server.url)
        assert len(server.seen) < 30

    def test_items_without_end_need_max_items(self, server, monkeypatch):
        monkeypatch.setattr(api, "MAX_ITEMS", 50)
        server.routes["/search"] = lambda _: Reply(
            page(thing(f"item-{len(server.seen)}"), following=f"/search?n={len(server.seen)}")
        )
        with pytest.raises(SearchError, match="more than 50 items; narrow the bbox"):
            search(server.url)
        server.seen.clear()
        assert len(search(server.url, max_items=60)) == 60
        assert len(server.seen) == 61

    @pytest.mark.parametrize("place", ["file:///etc/passwd", "/vsicurl/x", "ftp://h/x", "C:\\x.json"])
    def test_no_page_is_a_file(self, server, place):
        server.say("/search", page(A, following=place))
        with pytest.raises(SearchError, match=r"is not opened|virtual path|backslash"):
            search(server.url)

    def test_a_private_host_is_not_asked_because_a_page_says_so(self, server):
        server.say("/search", page(A, following="http://10.1.2.3/search"))
        with pytest.raises(SearchError, match=r"10\.1\.2\.3.*private"):
            search(server.url)

    def test_nor_a_name_that_stands_for_one(self, server, monkeypatch):
        port = server.url.rpartition(":")[2]
        resolve = socket.getaddrinfo
        monkeypatch.setattr(
            "socket.getaddrinfo",
            lambda host, *args, **options: resolve(
                "127.0.0.1" if host == "inner.example.com" else host, *args, **options
            ),
        )
        server.api(links=[{"rel": "search", "href": "/search"}])
        server.say("/search", page(A, following=f"http://inner.example.com:{port}/search"))
        with pytest.raises(SearchError, match=r"inner\.example\.com leads to 127\.0\.0\.1"):
            search(f"http://localhost:{port}/")
        assert len(server.seen) == 2

    def test_a_redirect_to_a_private_host_is_not_followed(self, server):
        server.say("/search", Reply(status=307, headers={"Location": "http://192.168.0.1/x"}))
        with pytest.raises(SearchError, match=r"192\.168\.0\.1.*private"):
            search(server.url)

    def test_a_post_keeps_its_body_over_307_and_becomes_a_get_by_303(self, server):
        for code, method in ((307, "POST"), (303, "GET")):
            server.seen.clear()
            server.say("/search", Reply(status=code, headers={"Location": "/there"}))
            server.say("/there", page(A))
            assert ids(search(server.url, "things")) == ["a"]
            assert server.seen[-1].method == method


class TestCredentials:
    SECRET = {"Authorization": "Bearer SECRET", "X-Api-Key": "SECRET"}  # noqa: RUF012

    def test_they_go_to_every_page_of_their_own_host(self, server):
        server.say("/search", page(A, following="/search?n=2"), page(B))
        assert ids(search(server.url, headers=self.SECRET)) == ["a", "b"]
        assert all(asked.headers["x-api-key"] == "SECRET" for asked in server.seen)
        assert len(server.seen) == 3

    def test_they_go_to_no_other_by_a_link(self, server, other):
        server.say("/search", page(A, following=f"{other.url}/search"))
        other.say("/search", page(B, following=f"{server.url}/more"))
        server.say("/more", page(C))
        assert ids(search(server.url, headers=self.SECRET)) == ["a", "b", "c"]
        assert "SECRET" not in json.dumps(other.seen[0].headers)
        assert server.seen[-1].headers["authorization"] == "Bearer SECRET"

    def test_nor_by_a_redirect(self, server, other):
        server.say("/search", Reply(status=307, headers={"Location": f"{other.url}/search"}))
        other.say("/search", page(B))
        assert ids(search(server.url, headers=self.SECRET)) == ["b"]
        assert "SECRET" not in json.dumps(other.seen[0].headers)

    def test_nor_where_the_landing_page_puts_its_search_elsewhere(self, server, other):
        server.api(links=[{"rel": "search", "href": f"{other.url}/search"}])
        other.say("/search", page(B))
        assert ids(search(server.url, headers=self.SECRET)) == ["b"]
        assert "SECRET" not in json.dumps(other.seen[0].headers)

    def test_a_signer_of_ones_own_signs_for_its_hosts(self, server):
        signer = HrefSigner(sign=lambda href: Request(url=href, headers={"X-Mine": "yes"}), hosts=("127.0.0.1",))
        found = search(server.url, policy=ReadPolicy(signers=(signer,)))
        assert ids(found) == ["a", "b"]
        assert server.seen[0].headers["x-mine"] == "yes"


class TestTrees:
    """Static catalogues on the network."""

    @staticmethod
    def catalog(server, *hrefs, rel="item"):
        links = [{"rel": rel, "href": href} for href in hrefs]
        node = {"type": "Catalog", "stac_version": "1.0.0", "id": "root", "links": links}
        server.say("/catalog.json", node)

    def test_they_are_walked_and_items_know_where_they_are(self, server):
        self.catalog(server, "items/a.json", f"{server.url}/items/b.json")
        doc = thing("a") | {"links": [{"rel": "self", "href": "/etc/hosts"}]}
        server.say("/items/a.json", Reply(doc))
        server.say("/items/b.json", Reply(status=503), B)
        found = search(f"{server.url}/catalog.json", policy=QUICK)
        assert ids(found) == ["a", "b"]
        assert found[0].get_self_href() == f"{server.url}/items/a.json"

    @pytest.mark.parametrize("href", ["file:///etc/passwd", "ftp://host/x.json"])
    def test_no_link_leads_to_a_file(self, server, href):
        self.catalog(server, href)
        with pytest.raises(SearchError, match="is not opened"):
            search(f"{server.url}/catalog.json")

    def test_an_absolute_path_stays_on_the_host(self, server):
        self.catalog(server, "/etc/hosts")
        with pytest.raises(SearchError, match=r"127\.0\.0\.1:\d+/etc/hosts: HTTP 404"):
            search(f"{server.url}/catalog.json")

    def test_a_part_that_is_gone_or_malformed_is_named_and_left_out(self, server):
        self.catalog(server, "lost.json", "page.html", "a.json", "ftp://host/b.json")
        server.say("/a.json", A)
        server.say("/page.html", b"<html>Log in</html>")
        with pytest.warns(RemoteSAMWarning) as told:
            assert ids(search(f"{server.url}/catalog.json")) == ["a"]
        (warning,) = told
        for part in ("lost.json: HTTP 404", "begins '<html>Log in", "ftp://host/b.json"):
            assert part in str(warning.message)

    @pytest.mark.parametrize("status", [401, 403, 500, 503])
    def test_a_part_that_may_be_read_another_time_is_an_error(self, server, status):
        self.catalog(server, "a.json", "shut.json")
        server.say("/a.json", A)
        server.say("/shut.json", Reply(status=status))
        with pytest.raises(SearchError, match=rf"shut\.json: HTTP {status}"):
            search(f"{server.url}/catalog.json", policy=QUICK)

    def test_whoever_has_enough_stops_fetching(self, server):
        names = [f"{i}.json" for i in range(300)]
        self.catalog(server, *names)
        for i, name in enumerate(names):
            server.say(f"/{name}", Reply(thing(str(i)), wait=0.02))
        assert ids(search(f"{server.url}/catalog.json", max_items=2)) == ["0", "1"]
        assert len(server.seen) < 100

    def test_a_local_catalogue_may_lead_to_the_network_but_not_to_private_hosts(self, server, tmp_path):
        links = [{"rel": "item", "href": f"{server.url}/a.json"}]
        node = {"type": "Catalog", "stac_version": "1.0.0", "id": "root", "links": links}
        (tmp_path / "catalog.json").write_text(json.dumps(node))
        server.say("/a.json", A)
        with pytest.raises(SearchError, match="private"):
            search(tmp_path)
        policy = ReadPolicy(trust=Trust(hosts=("127.0.0.1",)))
        assert ids(search(tmp_path, policy=policy)) == ["a"]

    def test_item_collections_and_parquet_by_url(self, server, tmp_path):
        from remotesam_geo import save_items

        server.say("/items.json", page(A, B))
        data = save_items([A, B], tmp_path / "i.parquet").read_bytes()
        server.say("/items.parquet", Reply(data))
        for name in ("items.json", "items.parquet"):
            assert ids(search(f"{server.url}/{name}", ids="b")) == ["b"]

    def test_one_page_of_an_api_is_not_taken_for_the_whole(self, server):
        server.say("/items", page(A, following="/items?n=2"))
        with pytest.raises(SearchError, match="one page of an API's answer"):
            search(f"{server.url}/items")


class TestWhatItemsClaim:
    """An item of the network stays one: its self link decides what it may make us open."""

    @pytest.mark.parametrize("own", [[], [{"rel": "self", "href": "/etc/item.json"}]])
    def test_an_item_cannot_pass_for_a_local_one(self, server, own):
        server.say("/search", page(thing("a") | {"links": own}))
        assert search(server.url)[0].get_self_href().startswith(server.url)

    def test_assets_without_href_are_left_out_aloud(self, server):
        server.say("/search", page(thing("a") | {"assets": {"x": {}, "y": {"href": "y.tif"}}}))
        with pytest.warns(RemoteSAMWarning, match=r"asset x of item a \(it has no href\)"):
            assert list(search(server.url)[0].assets) == ["y"]


@pytest.mark.parametrize(
    ("link", "asked"),
    [
        ("http://stac.example.com/p?n=2", "https://stac.example.com/p?n=2"),
        ("http://stac.example.com:80/p", "https://stac.example.com/p"),
        ("http://stac.example.com:8080/p", "http://stac.example.com:8080/p"),
        ("http://other.example.com/p", "http://other.example.com/p"),
        ("https://stac.example.com/p", "https://stac.example.com/p"),
    ],
)
def test_a_service_asked_by_https_is_not_left_by_http(link, asked):
    with Web("https://stac.example.com/", {}, None) as web:
        assert web.safe(link) == asked


class TestTheRequest:
    def test_a_question_is_sent_whole(self, server):
        server.api("query", "sort")
        search(
            server.url,
            "things",
            bbox=(6, 45, 8, 47),
            datetime="2021/..",
            query=["eo:cloud_cover<20"],
            sortby="-datetime",
            ids="a",
            max_items=7,
        )
        assert server.seen[1].body == {
            "limit": 7,
            "bbox": [6.0, 45.0, 8.0, 47.0],
            "datetime": "2021-01-01T00:00:00Z/..",
            "ids": ["a"],
            "collections": ["things"],
            "query": {"eo:cloud_cover": {"lt": 20}},
            "sortby": [{"field": "datetime", "direction": "desc"}],
        }

    def test_an_area_across_the_antimeridian_is_sent_in_parts(self, server):
        search(server.url, bbox=(179, -17, -179, -16))
        sent = server.seen[1].body
        assert "bbox" not in sent
        assert sent["intersects"]["type"] == "MultiPolygon"
        xs = [x for part in sent["intersects"]["coordinates"] for x, _ in part[0]]
        assert sorted({*xs}) == [-180, -179, 179, 180]

    def test_cql2_text_goes_by_get_and_json_by_post(self, server):
        server.api("filter")
        search(server.url, filter="eo:cloud_cover < 20")
        assert (server.seen[1].method, server.seen[1].query["filter-lang"]) == (
            "GET",
            ["cql2-text"],
        )
        json_filter = {"op": "<", "args": [{"property": "eo:cloud_cover"}, 20]}
        search(server.url, filter=json_filter)
        assert (server.seen[3].method, server.seen[3].body["filter"]) == ("POST", json_filter)

    def test_a_service_that_only_knows_get_is_asked_so(self, server):
        server.api(links=[{"rel": "search", "href": "search", "method": "GET"}])
        search(server.url, ["things", "b"], bbox=(6, 45, 8, 47))
        asked = server.seen[1]
        assert (asked.method, asked.query["collections"]) == ("GET", ["things,b"])
        assert asked.query["bbox"] == ["6.0,45.0,8.0,47.0"]


def test_progress_is_quiet_when_short_and_shown_when_long(server, capsys, monkeypatch):
    slow = [  # each slower than the least time between two drawings of the bar
        Reply(page(A, following="/search?n=2") | {"numberMatched": 2}, wait=0.2),
        Reply(page(B), wait=0.2),
    ]
    monkeypatch.setattr(api, "QUIET_SECONDS", 1000)
    server.say("/search", *slow)
    search(server.url)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(api, "QUIET_SECONDS", 0.1)
    server.say("/search", *slow)
    search(server.url)
    shown = capsys.readouterr().err
    assert "Searching" in shown
    assert "1/2" in shown
