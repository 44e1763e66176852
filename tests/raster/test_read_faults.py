"""What a store does on a bad day: each row of the table in docs/reading.md, shown."""

import itertools
import pickle
import threading

import numpy as np
import pytest

from remotesam_geo.errors import ReadError, RemoteSAMWarning
from remotesam_geo.net.client import Transport
from remotesam_geo.raster import session as raster
from remotesam_geo.raster.odc_driver import SourceError, inspect
from tests.net.fault_server import (
    Drip,
    Fault,
    FaultServer,
    NoRanges,
    OtherRange,
    Redirect,
    Replaced,
    Reset,
    Stall,
    Status,
    TooMuch,
    Truncate,
    Wrong,
)
from tests.raster import rasters

pytestmark = pytest.mark.server

PIXELS = rasters.picture(3, 300, 300)
DATA = rasters.tiff(PIXELS, tiled=True, blockxsize=128, blockysize=128, compress="deflate", predictor=2)
JPEG = rasters.tiff(PIXELS, tiled=True, blockxsize=128, blockysize=128, compress="jpeg", jpeg_quality=98)
SMALL = rasters.tiff(PIXELS[:, :60, :60], compress="deflate")  # comes whole with its header
GRID = rasters.grid_of(DATA)
FRESH = itertools.count()


@pytest.fixture
def server():
    with FaultServer() as running:
        yield running


def serve(server: FaultServer, data: bytes, *faults: Fault | None) -> str:
    """A URL that no test has read before, so that nothing of it is kept."""
    path = f"/{next(FRESH)}.tif"
    server.files[path] = data
    server.script(path, *faults)
    return f"{server.url}{path}"


PASSING = {
    "503": [Status(503), None, Status(503)],
    "503 with Retry-After in seconds": [Status(503, {"Retry-After": "1"})],
    "500, 502, 504": [Status(500), Status(502), None, Status(504)],
    "429": [Status(429), None, Status(429)],
    "reset before the answer": [Reset(), None, Reset()],
    "reset in the header's bytes": [Reset(100)],
    "reset in a block": [None, Reset(5000)],
    "stall before the headers": [Stall(), None, Stall()],
    "stall after the headers": [Stall(0)],
    "stall in a block": [None, Stall(5000)],
    "truncated header": [Truncate(100)],
    "truncated block": [None, Truncate(5000), Truncate(3000)],
    "slow drip": [Drip(), None, Drip()],
    "slow drip of the HTTP header": [Drip(2, 0.05, headers=True)],
    "wrong bytes at the start": [Wrong()],
    "wrong bytes in a block": [None, Wrong(9000, 1)],
    "bytes of another range": [None, OtherRange()],
    "more bytes than the header's": [TooMuch()],
    "more bytes than a block's": [None, TooMuch()],
    "all of the file for a part of it": [None, NoRanges()],
    "no byte ranges at all": [NoRanges()] * 9,
}


@pytest.mark.parametrize("faults", PASSING.values(), ids=PASSING.keys())
def test_what_passes_leaves_no_trace(server, faults):
    url = serve(server, DATA, *faults)
    planes, valid = rasters.read(url, GRID, policy=patient(*faults))
    assert np.array_equal(planes, PIXELS)
    assert valid.all()


def patient(*faults: object) -> raster.ReadPolicy:
    """A policy that gives up soon where silence or slowness is what is tested."""
    late = any(isinstance(fault, Stall | Drip) for fault in faults)
    return rasters.HASTY_POLICY if late else rasters.POLICY


def test_wrong_bytes_in_a_jpeg_block_are_noticed(server):
    expected = rasters.pixels_of(JPEG)
    url = serve(server, JPEG, None, Wrong(3000, 400))
    planes, _ = rasters.read(url, GRID)
    assert np.array_equal(planes, expected)
    assert server.requests == 4  # header, wrong blocks, header, right blocks


def test_wrong_bytes_in_a_block_that_came_with_the_header_are_noticed(server):
    url = serve(server, SMALL, Wrong(6000, 1))
    planes, _ = rasters.read(url, GRID[:60, :60])
    assert np.array_equal(planes, PIXELS[:, :60, :60])
    assert server.requests == 2


def test_with_every_second_request_failing_pixels_equal_those_of_a_clean_read(server):
    url = serve(server, DATA)
    broken = itertools.cycle([Status(503), Reset(), Truncate(50), Stall(10), Status(429), Wrong(0, 50), OtherRange()])
    server.script("/" + url.rpartition("/")[2], lambda number: next(broken) if number % 2 == 0 else None)
    shown = []
    for rows, cols in itertools.product(range(0, 300, 100), range(0, 300, 75)):
        part = GRID[rows : rows + 100, cols : cols + 75]
        planes, valid = rasters.read(url, part, policy=uncached())
        shown.append(np.array_equal(planes, PIXELS[:, rows : rows + 100, cols : cols + 75]))
        assert valid.all()
    assert len(shown) == 12
    assert all(shown)
    assert server.requests > 20  # faults did happen


def uncached() -> raster.ReadPolicy:
    """A policy that keeps nothing, so that every read goes to the server."""
    return raster.ReadPolicy(patience=rasters.HASTY, trust=rasters.HERE, cache_bytes=0)


LASTING = {
    "503": (Status(503), "503 Service Unavailable; gave up after 5 tries"),
    "429": (Status(429), "429 Too Many Requests; gave up after 5 tries"),
    "404": (Status(404), "404 Not Found"),
    "410": (Status(410), "410 Gone"),
    "403": (Status(403), "403 Forbidden; the store may want a signature"),
    "reset": (Reset(), "the connection failed"),
    "stall": (Stall(), "no answer in time"),
    "stall after the headers": (Stall(0), "no answer in time"),
    "slow drip": (Drip(1, 0.02), "are too few"),
    "wrong bytes": (Wrong(), "is none of the formats opened from afar"),
    "an error page for a file": (
        Status(200, {}, b"<html>Please log in</html>"),
        "begins with b'<html>Please log in</htm",
    ),
    "a file of no bytes": (Status(200, {}, b""), "begins with b''"),
    "redirects in a circle": (Redirect("/circle.tif"), "redirects more than 5 times"),
    "redirect to a private address": (Redirect("http://10.9.8.7/x"), "10.9.8.7 is private"),
    "redirect to the cloud's metadata": (
        Redirect("http://169.254.169.254/latest/meta-data"),
        "169.254.169.254 is private",
    ),
    "redirect to a file": (Redirect("file:///etc/passwd"), "which is no http or https URL"),
    "redirect to a bucket": (Redirect("s3://bucket/x"), "which is no http or https URL"),
    "redirect to a bad port": (Redirect("http://127.0.0.1:99999/x"), "is not a valid URL"),
    "redirect to a bad address": (Redirect("http://[::1/x"), "which is no URL"),
    "redirect under another name": (Redirect("http://a:b@127.0.0.1/x"), "under another user name"),
}


@pytest.mark.parametrize(("fault", "cause"), LASTING.values(), ids=LASTING.keys())
def test_what_lasts_is_an_error_that_names_all_and_soon(server, fault, cause):
    url = serve(server, DATA)
    for path in (url.removeprefix(server.url), "/circle.tif"):
        server.script(path, lambda _: fault)
    with pytest.raises(SourceError) as caught:
        rasters.read(f"{url}?sig=SECRET", GRID, policy=patient(fault))
    error = caught.value
    assert isinstance(error, ReadError)
    assert cause in str(error)
    assert (error.failure.item, error.failure.asset) == ("item-1", "image")
    assert error.failure.href == f"{url}?..."
    assert error.failure.window.startswith("window 300 x 300 px at (500000, 4997000, ")
    assert "SECRET" not in f"{error} {error!r} {error.__cause__}"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("fault", [Status(503), Status(403), Status(404), Stall(), Truncate(9)])
def test_a_failure_is_not_remembered(server, fault):
    url = serve(server, DATA)
    server.script(url.removeprefix(server.url), lambda _: fault)
    with pytest.raises(SourceError):
        rasters.read(url, GRID, policy=patient(fault))
    server.script(url.removeprefix(server.url))
    assert np.array_equal(rasters.read(url, GRID)[0], PIXELS)


def test_retry_after_is_waited_for(server):
    url = serve(server, DATA, Status(429, {"Retry-After": "1"}))
    rasters.read(url, GRID)
    first, second = (seen.at for seen in server.seen[:2])
    assert second - first >= 1.0


def test_retry_after_holds_back_every_thread(server, monkeypatch):
    held, hold_back = threading.Event(), Transport.hold_back

    def hold(*arguments: object) -> None:
        hold_back(*arguments)
        held.set()

    monkeypatch.setattr(Transport, "hold_back", hold)
    server.files["/busy.tif"] = server.files["/other.tif"] = DATA
    server.script("/busy.tif", Status(429, {"Retry-After": "1"}))
    policy = raster.ReadPolicy(patience=rasters.BRISK, trust=rasters.HERE, cache_bytes=1 << 20)
    busy = threading.Thread(target=rasters.read, args=(f"{server.url}/busy.tif", GRID), kwargs={"policy": policy})
    busy.start()
    assert held.wait(100)
    rasters.read(f"{server.url}/other.tif", GRID, policy=policy)
    busy.join()
    assert min(seen.at for seen in server.seen[1:]) - server.seen[0].at >= 1.0


def test_a_wait_longer_than_the_time_left_is_not_begun(server):
    url = serve(server, DATA, Status(429, {"Retry-After": "3600"}))
    with pytest.raises(SourceError, match=r"wait 3600 s, more than the \d+ s left"):
        rasters.read(url, GRID)


def test_the_total_time_bounds_a_read_that_always_makes_some_progress(server):
    url = serve(server, DATA)
    server.script(url.removeprefix(server.url), lambda number: Truncate(700) if number else None)
    patience = rasters.Patience(total=0.5, stall=0.2, retries=3, first_wait=0.03, longest_wait=0.03)
    policy = raster.ReadPolicy(patience=patience, trust=rasters.HERE)
    with pytest.raises(SourceError, match="gave up after"):  # else it would never end
        rasters.read(url, GRID, policy=policy)


def test_a_broken_answer_is_continued_where_it_broke(server):
    url = serve(server, DATA, None, Truncate(20000))
    rasters.read(url, GRID)
    ranges = [seen.headers["range"] for seen in server.seen]
    starts = [int(text.removeprefix("bytes=").partition("-")[0]) for text in ranges]
    assert starts[2] == starts[1] + 20000


def test_a_file_that_changed_meanwhile_is_opened_anew(server):
    other = rasters.tiff(rasters.picture(3, 300, 300, seed=7), tiled=True, blockxsize=128, blockysize=128)
    url = serve(server, DATA, None, Replaced(other))
    with pytest.warns(RemoteSAMWarning, match="was changed or replaced while it was in use"):
        planes, _ = rasters.read(url, GRID)
    assert np.array_equal(planes, rasters.pixels_of(other))


def test_no_window_is_of_two_files(server):
    """Blocks that were kept of the old file are not mixed with those of the new one."""
    other = rasters.tiff(rasters.picture(3, 300, 300, seed=7), tiled=True, blockxsize=128, blockysize=128)
    url = serve(server, DATA)
    rasters.read(url, GRID[:100, :100])
    server.script(url.removeprefix(server.url), Replaced(other))
    with pytest.warns(RemoteSAMWarning, match="was changed or replaced while it was in use"):
        planes, _ = rasters.read(url, GRID)
    assert np.array_equal(planes, rasters.pixels_of(other))


def test_a_file_that_keeps_changing_is_an_error(server):
    url = serve(server, DATA)
    versions = itertools.count()

    def change(number: int) -> None:
        server.dates[url.removeprefix(server.url)] = f"Thu, 19 Nov 2026 12:00:{next(versions):02} GMT"

    server.script(url.removeprefix(server.url), change)
    with (
        pytest.warns(RemoteSAMWarning, match="was changed or replaced"),
        pytest.raises(SourceError, match="changed while it was read"),
    ):
        rasters.read(url, GRID)


def test_a_file_that_is_damaged_where_it_lies_is_an_error_after_one_more_look(server):
    damaged = bytearray(DATA)
    damaged[len(DATA) // 2] ^= 1
    url = serve(server, bytes(damaged))
    with pytest.raises(SourceError, match="the file itself is damaged here"):
        rasters.read(url, GRID)
    assert server.requests == 4


def test_a_file_that_ends_too_soon_is_an_error(server):
    url = serve(server, DATA[: len(DATA) // 2])
    with pytest.raises(SourceError, match="ends at byte"):
        rasters.read(url, GRID)


def test_a_host_that_does_not_listen(server):
    with FaultServer() as gone:
        url = gone.url
    with pytest.raises(SourceError, match="the connection failed"):
        inspect(f"{url}/a.tif", policy=rasters.POLICY)


def test_a_name_that_does_not_resolve(monkeypatch):
    import socket

    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(SourceError, match="Name or service not known"):
        inspect("https://nowhere.example/a.tif", policy=rasters.POLICY)


def test_many_threads_that_want_the_same_bytes_share_their_requests(server):
    url = serve(server, DATA, None, Stall(0, 0.1))
    patience = rasters.Patience(total=200, stall=60, retries=2, first_wait=0.01)
    policy = raster.ReadPolicy(patience=patience, trust=rasters.HERE, cache_bytes=(1 << 20) + 1)
    found: list[bool] = []

    def one() -> None:
        found.append(np.array_equal(rasters.read(url, GRID, policy=policy)[0], PIXELS))

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8
    assert server.requests == 3  # header; blocks, cut short; the rest of the blocks


def test_connections_are_kept_and_a_dead_one_is_no_failure(server):
    url = serve(server, DATA)
    policy = uncached()
    rasters.read(url, GRID, policy=policy)
    rasters.read(url, GRID, policy=policy)
    assert len({seen.port for seen in server.seen}) == 1
    server.hang_up()
    planes, _ = rasters.read(url, GRID, policy=policy)
    assert np.array_equal(planes, PIXELS)
