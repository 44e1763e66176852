"""Answers that a server may give but should not: each ends in the right pixels or in an error of ours."""

import gzip
import itertools
import socket
import threading
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from remotesam_geo.errors import ReadError
from remotesam_geo.net import sockets
from remotesam_geo.net.auth import HrefSigner, Request
from remotesam_geo.net.client import Patience
from remotesam_geo.net.json_client import Web
from remotesam_geo.net.policy import ReadPolicy
from remotesam_geo.net.trust import Limits
from remotesam_geo.raster import tiff
from remotesam_geo.raster.odc_driver import SourceError, inspect
from tests.campaign import CASES
from tests.net.fault_server import (
    Drip,
    Fault,
    FaultServer,
    NoRanges,
    OtherRange,
    Raw,
    Redirect,
    Replaced,
    Reset,
    Stall,
    Status,
    Told,
    TooMuch,
    Truncate,
    Wrong,
)
from tests.raster import rasters

pytestmark = [
    pytest.mark.server,
    # a file that changes in use is noticed and read anew, with a warning
    pytest.mark.filterwarnings("ignore:.* was changed or replaced while it was in use"),
]

TILES = {"tiled": True, "blockxsize": 64, "blockysize": 64}
PIXELS = rasters.picture(3, 160, 200)
OTHERS = rasters.picture(3, 160, 200, seed=5)
# Without compression nothing but the server's own words tells two versions apart: one layout, other pixels.
PLAIN, OTHER = rasters.tiff(PIXELS, **TILES), rasters.tiff(OTHERS, **TILES)
PACKED = rasters.tiff(PIXELS, compress="deflate", predictor=2, **TILES)
GRID = rasters.grid_of(PLAIN)
FRESH = itertools.count()
QUICK = Patience(connect=1.0, stall=0.2, slowest=2000, total=2.0, retries=2, first_wait=0.002, longest_wait=0.01)
POLICY = ReadPolicy(patience=QUICK, trust=rasters.HERE)

assert len(PLAIN) == len(OTHER)
READ = lambda start, stop: PACKED[start:stop]  # noqa: E731
(LAYOUT,) = tiff.read_layout(READ, Limits())
BLOCKS = min(start for start, _ in tiff.part(LAYOUT, (0, 160), (0, 200), (0,), READ).spans)


@pytest.fixture
def server():
    with FaultServer() as running:
        yield running


def serve(server: FaultServer, data: bytes, *faults: Fault | None) -> str:
    """A URL that no test has read before, so that nothing of it is kept."""
    path = f"/{next(FRESH)}.tif"
    server.files[path], server.tags[path] = data, '"one"'
    server.script(path, *faults)
    return f"{server.url}{path}"


def answer(head: str, body: bytes = b"") -> bytes:
    return head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body


def ranged(data: bytes, start: int, stop: int, *more: str, status: str = "HTTP/1.1 206 P") -> str:
    """The head of a good answer, with further lines."""
    lines = [status, f"Content-Range: bytes {start}-{stop - 1}/{len(data)}", 'ETag: "one"']
    lines += ["Last-Modified: Thu, 19 Nov 2026 12:00:00 GMT", *more]
    return "\n".join(lines)


def chunks(body: bytes, size: int = 5000) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def zipped(body: bytes) -> bytes:
    return gzip.compress(body, 1)


# --- what must be noticed, one by one -------------------------------------------------------------

CODINGS = [
    ("gzip", zipped),
    ("GZip", zipped),
    ("deflate", zlib.compress),
    ("br", bytes),
    ("identity, gzip", zipped),
    ("x-gzip", bytes),
]


@pytest.mark.parametrize(("coding", "change"), CODINGS, ids=[name for name, _ in CODINGS])
@pytest.mark.parametrize("first", [True, False])
def test_a_compressed_answer_is_no_part_of_the_file(server, coding, change, first):
    fault = Told({"Content-Encoding": coding}, change)
    url = serve(server, PLAIN, *([fault] if first else [None, fault]))
    assert np.array_equal(rasters.read(url, GRID, policy=POLICY)[0], PIXELS)
    server.script(url.removeprefix(server.url), lambda _: fault)
    with pytest.raises(SourceError, match="compressed"):
        rasters.read(f"{url}?again", GRID, policy=POLICY)


@pytest.mark.parametrize("coding", ["identity", "Identity"])
def test_an_answer_that_says_it_is_not_compressed_is_taken(server, coding):
    url = serve(server, PLAIN, *[Told({"Content-Encoding": coding})] * 9)
    assert np.array_equal(rasters.read(url, GRID, policy=POLICY)[0], PIXELS)
    assert server.requests == 2


ANOTHER_VERSION = {
    "another tag": {"ETag": '"two"'},
    "another weak tag": {"ETag": 'W/"two"'},
    "no tag": {"ETag": None},
    "another date": {"Last-Modified": "Fri, 20 Nov 2026 12:00:00 GMT"},
    "no date": {"Last-Modified": None},
    "neither": {"ETag": None, "Last-Modified": None},
}


@pytest.mark.parametrize("headers", ANOTHER_VERSION.values(), ids=ANOTHER_VERSION.keys())
@pytest.mark.parametrize("mirror", [False, True])
def test_no_window_is_of_two_versions(server, headers, mirror):
    """An answer from another version, by any validator, directly or from a mirror that a redirect leads to."""
    other = Told(headers, data=OTHER)
    with FaultServer() as second:
        url = serve(server, PLAIN)
        path = url.removeprefix(server.url)
        second.files[path], second.tags[path] = PLAIN, '"one"'
        second.script(path, other)
        server.script(path, None, Redirect(f"{second.url}{path}") if mirror else other)
        assert np.array_equal(rasters.read(url, GRID, policy=POLICY)[0], PIXELS)
        server.script(path, lambda n: other if n % 2 else None)
        with pytest.raises(SourceError, match="changed while it was read"):
            rasters.read(f"{url}?always", GRID, policy=POLICY)


def test_a_weak_and_a_strong_tag_of_one_version_agree(server):
    url = serve(server, PLAIN, Told({"ETag": 'W/"one"'}))
    assert np.array_equal(rasters.read(url, GRID, policy=POLICY)[0], PIXELS)
    assert server.requests == 2


def test_a_repetition_after_a_broken_answer_must_be_of_the_same_version(server):
    other = Told({"ETag": '"two"'}, data=OTHER)
    url = serve(server, PLAIN, None, Truncate(3000), other)
    assert np.array_equal(rasters.read(url, GRID, policy=POLICY)[0], PIXELS)


def test_a_file_that_became_shorter_is_opened_anew(server):
    short = rasters.tiff(PIXELS, compress="deflate", **TILES)
    url = serve(server, PLAIN, None, Replaced(short))
    server.tags.clear()
    assert np.array_equal(rasters.read(url, GRID, policy=POLICY)[0], PIXELS)


FIRST_RANGES = [
    "bytes 100-32867/{size}",
    "bytes 0-99999/{size}",
    "bytes 0-32766/{size}",
    "bytes 0-32767/*",
    "bytes */{size}",
    "items 0-32767/{size}",
    "bytes 0-32767/32767",
    "bytes 32767-0/{size}",
    "bytes 0-32767",
    "bytes 0-32767/" + "9" * 5000,
    "bytes " + "0" * 5000 + "-32767/{size}",
    "bytes \u00b9-\u00b2/\u00b3",
    "bytes -1-32767/{size}",
    "",
    "bytes 0-32767/{size}, bytes 0-32767/{size}",
]


@pytest.mark.parametrize("text", FIRST_RANGES)
@pytest.mark.parametrize("data", [PLAIN, PACKED], ids=["plain", "packed"])
def test_a_first_answer_of_another_range_is_noticed(server, text, data):
    told = Told({"Content-Range": text.format(size=len(data))}, lambda body: body[100:] + bytes(100))
    url = serve(server, data, told)
    assert np.array_equal(rasters.read(url, GRID, policy=POLICY)[0], PIXELS)
    server.script(url.removeprefix(server.url), lambda _: told)
    with pytest.raises(SourceError):
        rasters.read(f"{url}?always", GRID, policy=POLICY)


def test_an_answer_in_parts_is_refused(server):
    parts = Told({"Content-Type": "multipart/byteranges; boundary=x"}, lambda b: b"--x\r\n" + b[5:])
    url = serve(server, PLAIN, None, parts)
    assert np.array_equal(rasters.read(url, GRID, policy=POLICY)[0], PIXELS)


def test_an_interim_status_does_not_shift_the_answers(server):
    """103 is no answer: what follows it on the same connection belongs to this request, not to the next."""

    def hints(data: bytes, start: int, stop: int) -> bytes:
        early = answer("HTTP/1.1 103 Early Hints\nLink: </x>")
        return early + answer(ranged(OTHER, start, stop, f"Content-Length: {stop - start}"), OTHER[start:stop])

    url = serve(server, PLAIN, None, Raw(hints))
    assert np.array_equal(rasters.read(url, GRID, policy=POLICY)[0], PIXELS)


def test_what_follows_an_answer_is_not_taken_for_the_next(server):
    """An answer that is longer than it says, with another whole answer in what is too much of it."""

    def smuggled(body: bytes) -> bytes:
        length = f"Content-Length: {len(body)}"
        return body + answer(ranged(OTHER, 32768, 32768 + len(body), length), OTHER[: len(body)])

    fault = Told({"Content-Length": str(1 << 15)}, smuggled)
    url = serve(server, PLAIN, fault)
    assert np.array_equal(rasters.read(url, GRID, policy=POLICY)[0], PIXELS)


GARBLED = {
    "the table of places": lambda body: body.replace(PACKED[500:700], bytes(200)),
    "the header's tags": lambda body: body[:20] + bytes(150) + body[170:],
    "the size of blocks": lambda body: body.replace(
        b"\x42\x01\x03\x00\x01\x00\x00\x00\x40", b"\x42\x01\x03\x00\x01\x00\x00\x00\x80"
    ),
    "the number of bands": lambda body: body.replace(
        b"\x15\x01\x03\x00\x01\x00\x00\x00\x03", b"\x15\x01\x03\x00\x01\x00\x00\x00\x01"
    ),
}


@pytest.mark.parametrize("change", GARBLED.values(), ids=GARBLED.keys())
def test_a_garbled_header_condemns_nothing(server, change):
    """Whatever a wrong header makes of the file, the next read at the latest begins anew."""
    assert change(PACKED) != PACKED
    url = serve(server, PACKED, Told(body=change))
    try:
        found = rasters.read(url, GRID, policy=POLICY)[0]
    except ReadError:
        found = rasters.read(url, GRID, policy=POLICY)[0]
    assert np.array_equal(found, PIXELS)


def test_a_table_that_came_wrong_is_fetched_anew(server):
    """Tables beyond the first page are read with the blocks: they are forgotten with them."""
    long = rasters.tiff(
        rasters.picture(1, 1024, 1024),
        bigtiff="yes",
        tiled=True,
        blockxsize=16,
        blockysize=16,
        compress="deflate",
    )
    grid = rasters.grid_of(long)[:64, :64]
    (level,) = tiff.read_layout(lambda start, stop: long[start:stop], Limits())
    table = level.offsets.place
    garbled = long[: table + 100] + bytes(9000) + long[table + 9100 :]
    url = serve(server, long)
    server.script(url.removeprefix(server.url), lambda n: Told(data=garbled) if n < 2 else None)
    expected = rasters.pixels_of(long)[:, :64, :64]
    assert np.array_equal(rasters.read(url, grid, (1,), policy=POLICY)[0], expected)


# --- credentials ----------------------------------------------------------------------------------


def sent_with(server: FaultServer) -> str:
    return " ".join(f"{seen.headers} {seen.query}" for seen in server.seen)


def test_a_signers_headers_do_not_follow_a_redirect_to_another_port(server):
    signer = HrefSigner(
        sign=lambda href: Request(url=href, headers={"Authorization": "Bearer SECRET", "X-Key": "SECRET"}),
        hosts=("127.0.0.1",),
    )
    policy = ReadPolicy(patience=QUICK, trust=rasters.HERE, signers=(signer,))
    with FaultServer() as other:
        url = serve(server, PLAIN)
        path = url.removeprefix(server.url)
        other.files[path] = PLAIN
        server.script(path, lambda _: Redirect(f"{other.url}{path}"))
        rasters.read(url, GRID, policy=policy)
        assert "SECRET" in sent_with(server)
        assert other.seen
        assert "SECRET" not in sent_with(other)


def test_a_password_in_a_url_goes_to_its_origin_alone(server, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("default login me password NETRC\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with FaultServer() as other:
        url = serve(server, PLAIN, None, Redirect("/moved.tif"))
        path = url.removeprefix(server.url)
        other.files[path] = server.files["/moved.tif"] = PLAIN
        named = url.replace("http://", "http://me:SEC%20RET@")
        rasters.read(named, GRID, (1,), policy=POLICY)
        basic = "Basic bWU6U0VDIFJFVA=="
        assert [seen.headers.get("authorization") for seen in server.seen[:3]] == [basic] * 3
        server.script(path, lambda _: Redirect(f"{other.url}{path}"))
        rasters.read(f"{named}?again", GRID, policy=POLICY)
        assert "authorization" not in other.seen[0].headers
        server.script(path, lambda _: Status(404))
        with pytest.raises(SourceError) as caught:
            rasters.read(f"{named}?gone", GRID, policy=POLICY)
        shown = f"{caught.value!r} {caught.value.__cause__} {caught.value.__cause__.__cause__}"
        assert "SEC" not in shown


def test_a_proxys_credentials_go_to_the_proxy_alone(monkeypatch):
    with FaultServer() as proxy:
        proxy.files["/a.tif"] = PLAIN
        monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://me:SECRET@"))
        monkeypatch.delenv("no_proxy", raising=False)
        policy = ReadPolicy(patience=QUICK)
        rasters.read("http://93.184.216.34/a.tif", GRID, policy=policy)
        assert {seen.headers["proxy-authorization"] for seen in proxy.seen} == {"Basic bWU6U0VDUkVU"}
        assert "SECRET" not in repr(sockets.Endpoint.of("http://93.184.216.34/a.tif"))
        proxy.files["/b.tif"] = PLAIN
        rasters.read("http://you:OTHER@93.184.216.34/b.tif", GRID, policy=policy)
        assert proxy.seen[-1].headers["authorization"] == "Basic eW91Ok9USEVS"
        proxy.script("/c.tif", lambda _: Status(407))
        with pytest.raises(SourceError, match="407") as caught:
            rasters.read("http://93.184.216.34/c.tif", GRID, policy=policy)
        assert "SECRET" not in f"{caught.value} {caught.value.__cause__!r}"


PROXIES = [
    "::::",
    "http://",
    "socks5://127.0.0.1:1",
    "http://h:99999",
    "http://[::1",
    "ftp://x",
    "a:b@h:p",
]


@pytest.mark.parametrize("value", PROXIES)
@pytest.mark.parametrize("name", ["http_proxy", "all_proxy"])
def test_a_junk_proxy_is_named(monkeypatch, value, name):
    monkeypatch.setenv(name, value)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(SourceError, match=f"environment variable {name}"):
        inspect("http://93.184.216.34/a.tif", policy=POLICY)
    monkeypatch.setenv("no_proxy", "93.184.216.34")
    monkeypatch.setattr(sockets.socket, "getaddrinfo", unknown)
    with pytest.raises(SourceError, match="could not be looked up"):
        inspect("http://93.184.216.34/a.tif", policy=POLICY)


# --- what repeating does not cure is not repeated --------------------------------------------------


def unknown(*args: object, **kwargs: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_a_name_that_does_not_exist_is_asked_for_once(monkeypatch):
    asked: list[object] = []

    def resolve(host: str, *args: object, **kwargs: object) -> None:
        asked.append(host)
        unknown()

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(SourceError, match=r"could not be looked up .*'nowhere.example'.*check its name"):
        inspect("https://nowhere.example/a.tif", policy=ReadPolicy())
    assert asked == ["nowhere.example"]


def test_a_name_service_that_does_not_answer_is_asked_twice(monkeypatch):
    asked: list[object] = []

    def resolve(host: str, *args: object, **kwargs: object) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(SourceError, match=r"Temporary failure.*gave up after 2 tries"):
        inspect("https://nowhere.example/a.tif", policy=ReadPolicy())
    assert len(asked) == 2


def test_a_lookup_that_hangs_is_given_up(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(30))
    patience = Patience(connect=0.05, total=5, first_wait=0.01)
    with pytest.raises(SourceError, match=r"no answer about 'nowhere.example'"):
        inspect("https://nowhere.example/a.tif", policy=ReadPolicy(patience=patience))
    release.set()


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..b", "xn--\u00df\u0301." + "b" * 70])
def test_a_name_that_cannot_be_one_is_an_error_of_ours(host):
    with pytest.raises(SourceError, match="is not a valid URL"):
        inspect(f"https://{host}/a.tif", policy=POLICY)


def test_a_header_that_cannot_be_sent_is_named_without_its_value(server):
    url = serve(server, PLAIN)
    for value in ("SEC\r\nRET", "SEC\u20acRET", "SEC\0RET"):
        signer = HrefSigner(
            sign=lambda href, value=value: Request(url=href, headers={"X-Key": value}),
            hosts=("127.0.0.1",),
        )
        policy = ReadPolicy(patience=QUICK, trust=rasters.HERE, signers=(signer,))
        with pytest.raises(SourceError, match="header 'x-key' cannot be sent") as caught:
            inspect(url, policy=policy)
        assert "SEC" not in f"{caught.value} {caught.value.__cause__}"


def test_what_a_signer_may_return_is_checked(server):
    signer = HrefSigner(sign=lambda _: None, hosts=("127.0.0.1",))  # type: ignore[arg-type, return-value]
    policy = ReadPolicy(patience=QUICK, trust=rasters.HERE, signers=(signer,))
    with pytest.raises(SourceError, match="sign returned NoneType"):
        inspect(serve(server, PLAIN), policy=policy)


@pytest.mark.parametrize(
    ("hosts", "url", "covered"),
    [
        (("*.example.com",), "https://a.example.com/x", True),
        (("*.example.com",), "HTTPS://A.Example.COM.:443/x", True),
        (("*.example.com",), "http://a.example.com/x", False),
        (("*.example.com",), "https://a.example.com:8443/x", False),
        (("a.example.com:8443",), "https://a.example.com:8443/x", True),
        (("a.example.com:8443",), "https://a.example.com/x", False),
        (("http://a.example.com",), "http://a.example.com/x", True),
        (("http://a.example.com:8080",), "http://a.example.com:8080/x", True),
        (("http://a.example.com",), "https://a.example.com/x", False),
        (("127.0.0.1",), "http://127.0.0.1:8080/x", True),
        (("127.0.0.1:1",), "http://127.0.0.1:8080/x", False),
        (("[2001:db8::1]:8443",), "https://[2001:DB8:0::1]:8443/x", True),
        (("2001:db8::1",), "https://[2001:db8::1]/x", True),
        (("b\u00fccher.example",), "https://xn--bcher-kva.example/x", False),
        (("a.example.com",), "s3://a.example.com/x", False),
    ],
)
def test_which_origins_a_signer_covers(hosts, url, covered):
    assert HrefSigner(sign=str, hosts=hosts).covers(url) == covered


# --- the campaign ---------------------------------------------------------------------------------

Draw = Callable[[np.random.Generator, bytes], Fault | None]
RETRY_AFTER = ["\u00b2", "-1", "9" * 400, "1e3", "nan", "", "soon", "Thu, 01 Jan 1970 00:00:00 GMT", "0",
               "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 99 Zzz 2026", "3600", "0x10", "1_0", "\u0661"]  # fmt: skip
PLACES = ["http://127.0.0.1:99999/", "http://[::1", "http://", "//", "file:///etc/passwd", "ftp://127.0.0.1/x",
          "s3://bucket/x", "http://a:b@127.0.0.1/", "\u00e9\u00ff", "?", "#", "../../x", "http://10.0.0.1/", ":",
          "http://127.0.0.1:x/", "javascript:1", "http://%31/", "http:///x", "https://[fe80::1%25eth0]/", " ",
          "http://" + "a" * 300 + "/", "/" * 3000, "http://a..b/", "\\\\host\\x", "http:x"]  # fmt: skip


def pick(rng: np.random.Generator, values: list[str]) -> str:
    return values[int(rng.integers(len(values)))]


def some_status(rng: np.random.Generator, _: bytes) -> Fault:
    code = int(rng.choice([101, 103, 204, 206, 301, 304, 400, 404, 408, 416, 429, 500, 503, 599, 999]))
    headers = {"Retry-After": pick(rng, RETRY_AFTER).encode().decode("latin-1")}
    if rng.random() < 0.3:
        headers["Content-Range"] = pick(rng, ["bytes */7", "bytes 0-6/7", "bytes */" + "9" * 5000, "*"])
    return Status(code, headers)


def some_redirect(rng: np.random.Generator, _: bytes) -> Fault:
    place = pick(rng, PLACES).encode().decode("latin-1")
    return Redirect(place, int(rng.choice([301, 302, 303, 307, 308])))


def some_break(rng: np.random.Generator, _: bytes) -> Fault:
    at = int(rng.integers(-1, 40_000))
    kinds = [Reset(at), Truncate(max(at, 0)), OtherRange(int(rng.integers(-9, 99))), NoRanges()]
    kinds += [TooMuch(int(rng.integers(1, 9999))), Drip(4, 0.02, headers=bool(at % 2))]
    kinds += [Stall(at, 0.3)] if rng.random() < 0.2 else []
    return kinds[int(rng.integers(len(kinds)))]


def some_headers(rng: np.random.Generator, data: bytes) -> Fault:
    size = len(data)
    choices: list[Fault] = [
        Told(
            {"Content-Encoding": pick(rng, ["gzip", "br", "deflate", "zstd", "GZIP", "\u00ff"])},
            zipped,
        ),
        Told({"Content-Range": pick(rng, FIRST_RANGES).format(size=size)}, lambda b: b[::-1]),
        Told({"Content-Type": "Multipart/ByteRanges; boundary=x"}, lambda b: b[::-1]),
        Told({"Content-Length": pick(rng, ["-1", "\u00b2", "9" * 5000, "1", "1, 2", "0x9", "a"])}),
        Told({"Transfer-Encoding": pick(rng, ["gzip", "gzip, chunked", "chunked"])}),
        Told({"Last-Modified": "\u00ff" * 99}, data=swapped(data)),
        Told({"ETag": 'W/"' + "x" * 999}, data=swapped(data)),
        Told({"ETag": None}, data=swapped(data)),
        Told({"Last-Modified": None, "ETag": None}, data=swapped(data)),
        Told({"Connection": "close"}),
        Told({"X-\u00e9": "\u00ff\x01"}),
        Told(code=int(rng.choice([200, 203, 226, 299]))),
    ]
    return choices[int(rng.integers(len(choices)))]


def swapped(data: bytes) -> bytes:
    """Another version of a file, of the same size."""
    if data is PLAIN:
        return OTHER
    return data[:3000] + data[:2999:-1]


def some_bytes(rng: np.random.Generator, _: bytes) -> Fault:
    junk = rng.bytes(int(rng.integers(0, 300)))
    cut = int(rng.integers(0, 9000))

    def whole(data: bytes, start: int, stop: int, *more: str, status: str = "HTTP/1.1 206 P") -> bytes:
        length = f"Content-Length: {stop - start}"
        return answer(ranged(data, start, stop, length, *more, status=status), data[start:stop])

    def broken_chunks(data: bytes, start: int, stop: int) -> bytes:
        body = bytearray(chunks(data[start:stop]))
        body[cut % len(body)] ^= 1 << int(rng.integers(8)) if cut % len(body) < 4 else 0
        return answer(ranged(data, start, stop, "Transfer-Encoding: chunked"), bytes(body))

    choices: list[Callable[[bytes, int, int], bytes]] = [
        lambda *_: b"",
        lambda *_: junk,
        lambda data, *_: data[:cut],  # HTTP/0.9
        lambda *_: b"HTTP/1.1 " + b"2" * 70_000,
        lambda *_: b"HTTP/9.9 206 P\r\n\r\n",
        lambda *_: b"HTTP/1.1 abc\r\n\r\n",
        lambda *_: b"HTTP/1.1 100 C\r\n\r\n" * 50,
        lambda data, a, b: whole(data, a, b, *["X-A: b"] * 10_000),
        lambda data, a, b: whole(data, a, b, "X-A: " + "b" * 70_000),
        lambda data, a, b: whole(data, a, b, "\x00\xff: \xfe", " folded", "no colon"),
        lambda data, a, b: whole(data, a, b, status="HTTP/1.0 206"),
        lambda data, a, b: whole(data, a, b)[:cut],
        lambda data, a, b: whole(data, a, b) + whole(data, b, b + 9),
        lambda _, a, b: answer("HTTP/1.1 103 Hints") + whole(OTHER, a, b),
        lambda data, a, b: answer(ranged(data, a, b, "Transfer-Encoding: chunked"), chunks(data[a:b])),
        lambda data, a, b: answer(ranged(data, a, b, "Transfer-Encoding: chunked"), b"-5\r\n" + data[a:b]),
        lambda data, a, b: answer(ranged(data, a, b, "Transfer-Encoding: chunked"), b"f" * 5000),
        lambda data, a, b: answer(ranged(data, a, b), data[a:b]),
        lambda data, a, b: answer(ranged(data, a, b, "Content-Length: 9", "Content-Length: 8"), data[a:b]),
        broken_chunks,
    ]
    return Raw(choices[int(rng.integers(len(choices)))])


def some_damage(rng: np.random.Generator, data: bytes) -> Fault | None:
    """Wrong bytes in a block, which only a checksum can tell: they are tried on compressed pixels alone."""
    if data is PLAIN:
        return None
    return Wrong(BLOCKS + int(rng.integers(0, 3000)), int(rng.integers(1, 40)))


DRAWS: list[Draw] = [
    *(some_status, some_redirect, some_break, some_headers, some_headers, some_bytes, some_bytes),
    *(some_damage, lambda *_: None),
]


def test_whatever_a_server_answers_pixels_are_right_or_refused(campaign, server):
    tried = campaign(
        "HTTP answers",
        "one to four faults in a row: statuses, headers, bodies, redirects, bytes",
    )
    for number in range(CASES):
        rng = np.random.default_rng(number)
        data = PLAIN if number % 2 else PACKED
        faults = [DRAWS[int(rng.integers(len(DRAWS)))](rng, data) for _ in range(rng.integers(1, 5))]
        if rng.random() < 0.5:
            faults.insert(0, None)  # the header comes well
        url = serve(server, data, *faults)

        def run(url: str = url, faults: list[Fault | None] = faults) -> None:
            found = rasters.read(url, GRID, policy=POLICY)[0]
            assert of_one_version(found), faults

        tried.case(run, limit=60)
        assert of_one_version(served_well(server, url)), faults  # nothing is condemned by it
    assert tried.right > CASES // 3


def of_one_version(found: np.ndarray) -> bool:
    """All of the other version is right as well, where all answers were of it."""
    return np.array_equal(found, PIXELS) or np.array_equal(found, OTHERS)


def served_well(server: FaultServer, url: str) -> np.ndarray:
    server.script(url.removeprefix(server.url))
    found: np.ndarray = rasters.read(url, GRID, policy=POLICY)[0]
    del server.files[url.removeprefix(server.url)]
    return found


def test_whatever_a_catalogue_answers_is_its_document_or_refused(campaign, server):
    tried = campaign("HTTP answers", "the same faults where a catalogue's document is asked for")
    body = b'{"type": "Catalog", "links": [], "text": "' + b"x" * 9000 + b'"}'
    draws: list[Draw] = [some_status, some_redirect, some_bytes, lambda *_: Truncate(70)]
    draws += [lambda *_: Reset(70), lambda *_: Drip(9, 0.02, headers=True)]
    for number in range(CASES // 4):
        rng = np.random.default_rng(number)
        faults = [draws[int(rng.integers(len(draws)))](rng, PLAIN) for _ in range(rng.integers(1, 4))]
        url = serve(server, body, *faults)

        def run(url: str = url, faults: list[Fault | None] = faults) -> None:
            with Web(url, {"X-Key": "SECRET"}, POLICY) as web:
                found = web.get(url)
            assert found == body, faults

        tried.case(run, limit=60)
