"""Bytes: each once, in few requests, no more than are wanted, and no more kept than is allowed."""

import contextlib
import gc
import itertools
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoboxTiles

from remotesam_geo.errors import ReadError
from remotesam_geo.net import ranges as fetch
from remotesam_geo.net.client import Patience, Transport
from remotesam_geo.net.policy import ReadPolicy
from remotesam_geo.net.tempfiles import Spool, SpooledFile
from remotesam_geo.net.trust import Limits
from remotesam_geo.raster import readahead as ahead
from remotesam_geo.raster.readahead import Area, ReadAhead
from remotesam_geo.raster.session import session
from tests.net.fault_server import FaultServer, NoRanges, Stall, Status
from tests.raster import rasters

pytestmark = pytest.mark.server

NAIP = rasters.picture(4, 640, 640)
FILE = rasters.tiff(NAIP, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
GRID = rasters.grid_of(FILE)
SIZE = st.integers(0, 99)


@pytest.fixture
def server():
    with FaultServer() as running:
        running.files["/a.tif"] = FILE
        yield running


def policy(number: int, **options: int) -> ReadPolicy:
    """A policy of its own, so that nothing is shared with other tests."""
    options = {"cache_bytes": (8 << 20) + number, **options}
    return ReadPolicy(patience=rasters.BRISK, trust=rasters.HERE, **options)


@pytest.mark.parametrize("chunk", [64, 160, 200, 640])
@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.parametrize("threads", [1, 3])
def test_chunk_by_chunk_takes_the_bytes_of_one_read_in_few_requests(server, chunk, threads, turn):
    tiles = GeoboxTiles(GRID, (chunk, chunk))
    own = policy(chunk + 10 * threads + turn)

    def one(index: tuple[int, int]) -> bool:
        planes, _ = rasters.read(f"{server.url}/a.tif", tiles[index], policy=own, scene=GRID, alpha=False)
        return np.array_equal(planes, NAIP[(slice(3), *tiles.roi[index])])

    with ThreadPoolExecutor(threads) as pool:
        assert all(pool.map(one, list(itertools.product(*map(range, tiles.shape)))[::turn]))
    assert server.bytes_sent < 1.02 * len(FILE)
    # the header; block by block the first rows; then a request a row of chunks; all that for each thread at worst
    assert server.requests <= 3 + threads * (2 * -(-chunk // 64) + tiles.shape[0])


def test_window_by_window_takes_the_bytes_of_one_read(server):
    own = policy(1)
    for top, left in itertools.product(range(0, 640 - 127, 48), repeat=2):
        part = GRID[top : top + 128, left : left + 128]
        planes, _ = rasters.read(f"{server.url}/a.tif", part, policy=own, scene=GRID, alpha=False)
        assert np.array_equal(planes, NAIP[:3, top : top + 128, left : left + 128])
    assert server.bytes_sent < 1.02 * len(FILE)
    assert server.requests <= 25  # for 121 windows


def test_a_window_on_its_own_takes_its_own_blocks(server):
    part = GRID[100:180, 200:300]
    rasters.read(f"{server.url}/a.tif", part, policy=policy(2), scene=GRID, alpha=False)
    wanted = 2 * 2 * len(FILE) / 100  # blocks 1..2 down and 3..4 across, of 10 x 10
    assert server.bytes_sent < fetch.PAGE + 1.4 * wanted


def test_a_scene_that_ends_inside_the_file_ends_the_reading(server):
    own, scene = policy(3), GRID[:, :256]
    for left in range(0, 256, 64):
        part = GRID[:64, left : left + 64]
        rasters.read(f"{server.url}/a.tif", part, policy=own, scene=scene, alpha=False)
    ends = max(int(seen.headers["range"].rpartition("-")[2]) for seen in server.seen[1:])
    assert ends < fetch.PAGE + 0.1 * len(FILE)  # within the first row of blocks


def test_reading_ahead_can_be_turned_off(server):
    own = policy(4, ahead_bytes=0)
    for left in range(0, 640, 64):
        part = GRID[:64, left : left + 64]
        rasters.read(f"{server.url}/a.tif", part, policy=own, scene=GRID, alpha=False)
    assert server.requests >= 10


def test_what_is_read_ahead_and_fails_fails_no_one_but_itself(server):
    own = policy(5)
    rasters.read(f"{server.url}/a.tif", GRID[:64, :64], policy=own, scene=GRID, alpha=False)

    def only_long_ranges_fail(_: int) -> Status | None:
        first, last = map(int, server.seen[-1].headers["range"].removeprefix("bytes=").split("-"))
        return Status(404) if last - first > 20_000 else None

    server.script("/a.tif", only_long_ranges_fail)
    part = GRID[:64, 64:128]
    planes, _ = rasters.read(f"{server.url}/a.tif", part, policy=own, scene=GRID, alpha=False)
    assert np.array_equal(planes, NAIP[:3, :64, 64:128])


def test_only_the_bands_wanted_of_separate_ones_are_fetched(server):
    data = rasters.tiff(NAIP, tiled=True, blockxsize=64, blockysize=64, interleave="band")
    server.files["/b.tif"] = data
    planes, _ = rasters.read(f"{server.url}/b.tif", GRID, (4, 2), policy=policy(6), alpha=False)
    assert np.array_equal(planes, NAIP[[3, 1]])
    assert server.bytes_sent < 0.55 * len(data)


def test_a_mask_comes_with_its_blocks(server):
    mask = np.ones((640, 640), bool)
    mask[100:200] = False
    data = rasters.tiff(NAIP[:3], tiled=True, blockxsize=64, blockysize=64, mask=mask)
    server.files["/b.tif"] = data
    _, valid = rasters.read(f"{server.url}/b.tif", GRID, policy=policy(7))
    assert np.array_equal(valid, mask)
    assert server.requests <= 4


def test_the_header_is_read_once_for_all_that_is_read(server):
    own = policy(8)
    for top in range(0, 640, 64):
        rasters.read(f"{server.url}/a.tif", GRID[top : top + 64], policy=own, alpha=False)
    headers = [seen for seen in server.seen if seen.headers["range"] == f"bytes=0-{fetch.PAGE - 1}"]
    assert len(headers) == 1


# --- the cache ----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 60)), max_size=40))
def test_the_cache_never_holds_more_than_its_limit_and_never_lies(puts):
    cache = fetch.ByteCache(100)
    latest: dict[int, bytes] = {}
    for key, size in puts:
        latest[key] = bytes([key]) * size
        cache.put(("href", (key, 0)), latest[key])
        held = [cache.get(("href", (k, 0))) for k in latest]
        assert sum(len(data) for data in held if data) <= 100
        assert all(data in (None, latest[k]) for k, data in zip(latest, held, strict=True))
        assert cache.get(("href", (key, 0))) == latest[key]


def test_what_is_larger_than_the_cache_is_not_kept():
    cache = fetch.ByteCache(10)
    cache.put(("href", (0, 5)), b"12345")
    cache.put(("href", (0, 11)), b"x" * 11)
    assert cache.get(("href", (0, 11))) is None
    assert cache.get(("href", (0, 5))) == b"12345"


@settings(max_examples=15)
@given(
    spans=st.lists(st.tuples(SIZE, SIZE).map(sorted).filter(lambda s: s[0] < s[1]), min_size=1, max_size=12),
    limit=st.sampled_from([0, 3000, 1 << 20]),
    number=st.integers(0, 1 << 20),
)
def test_any_ranges_are_the_files_own_bytes_whatever_is_kept(spans, limit, number):
    scaled = [(a * 4001, b * 4001) for a, b in spans]
    with FaultServer() as running:
        data = np.random.default_rng(number).bytes(400_000)
        running.files["/x"] = data
        network = session_network(limit)
        file = fetch.RemoteFile(f"{running.url}/x", network, 1e12)
        for some in (scaled, scaled[::-1]):
            assert file.read_many(some, 1e12) == [data[a:b] for a, b in some]


def session_network(limit: int) -> fetch.SharedConnections:
    return fetch.SharedConnections(Transport(rasters.BRISK, rasters.HERE), (), Limits(), limit, 1 << 20)


def test_memory_stays_flat_over_many_windows(server):
    """What a process holds is bounded by the cache, however much is read."""
    own = policy(9, cache_bytes=100_000)
    for top, left in itertools.product(range(0, 640, 64), repeat=2):
        part = GRID[top : top + 64, left : left + 64]
        rasters.read(f"{server.url}/a.tif", part, policy=own, scene=GRID, alpha=False)
    network = session(own)._network
    assert network.cache._held == sum(map(len, network.cache._items.values())) <= 100_000
    assert not network.flights


# --- whole files on disk ------------------------------------------------------------------------


def test_a_file_without_ranges_is_fetched_once_and_leaves_no_trace(server):
    server.script("/a.tif", lambda _: NoRanges())
    own = policy(11, cache_bytes=1000)
    for top in range(0, 640, 160):
        part = GRID[top : top + 160]
        planes, _ = rasters.read(f"{server.url}/a.tif", part, policy=own, alpha=False)
        assert np.array_equal(planes, NAIP[:3, top : top + 160])
    assert server.requests == 1


def test_spooled_files_are_removed_with_their_last_user():
    spool = Spool(limit=10)
    files = [SpooledFile() for _ in range(3)]
    for number, file in enumerate(files):
        file.write(0, b"123456")
        spool.put(str(number), file)
    paths = [file.path for file in files]
    assert [spool.get(str(number)) is None for number in range(3)] == [True, True, False]
    assert files[0].read(1, 3) == b"23"  # still in use here
    del file, files
    gc.collect()
    assert [path.exists() for path in paths] == [False, False, True]
    spool.drop("2")
    gc.collect()
    assert not paths[2].exists()


def test_one_file_larger_than_the_spool_is_kept_while_it_is_used():
    spool, file = Spool(limit=3), SpooledFile()
    file.write(0, b"123456")
    spool.put("a", file)
    assert spool.get("a") is file


# --- reading ahead --------------------------------------------------------------------------------

SCENE = Area((0, 8), (0, 10))


def test_ahead_begins_with_the_second_chunk_of_a_row_and_goes_on_with_the_next_rows():
    reading = ReadAhead(limit=1000)
    seen = [
        reading.extend(Area(rows, cols), SCENE, 1.0).cols
        for rows, cols in [((0, 4), (0, 4)), ((0, 4), (4, 8)), ((0, 4), (8, 10)), ((4, 8), (0, 4))]
    ]
    assert seen == [(0, 4), (4, 10), (8, 10), (0, 10)]


def test_ahead_goes_the_other_way_too():
    reading = ReadAhead(limit=1000)
    seen = [
        reading.extend(Area(rows, cols), SCENE, 1.0).cols
        for rows, cols in [((4, 8), (8, 10)), ((4, 8), (4, 8)), ((4, 8), (0, 4)), ((0, 4), (8, 10))]
    ]
    assert seen == [(8, 10), (0, 8), (0, 4), (0, 10)]


def test_ahead_is_not_begun_by_scattered_windows():
    reading = ReadAhead(limit=1000)
    for rows, cols in [((0, 2), (0, 2)), ((4, 6), (4, 6)), ((0, 2), (7, 9)), ((6, 8), (1, 2))]:
        assert reading.extend(Area(rows, cols), SCENE, 1.0).cols == cols


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 9)), max_size=30), st.integers(0, 40))
def test_ahead_never_leaves_the_scene_nor_exceeds_its_limit(corners, limit):
    reading = ReadAhead(limit=limit)
    for top, left in corners:
        area = Area((top, top + 1), (left, left + 1))
        wide = reading.extend(area, SCENE, 2.0)
        assert wide.rows == area.rows
        assert 0 <= wide.cols[0] <= area.cols[0] < area.cols[1] <= wide.cols[1] <= 10
        assert (wide.cols[1] - wide.cols[0] - 1) * 2.0 <= limit


def test_workers_of_a_cluster_do_not_read_ahead_of_each_other(monkeypatch):
    worker = types.SimpleNamespace(get_worker=lambda: "a worker")
    monkeypatch.setitem(sys.modules, "distributed", worker)
    assert ahead.on_cluster()

    def none() -> None:
        raise ValueError("no worker")

    monkeypatch.setitem(sys.modules, "distributed", types.SimpleNamespace(get_worker=none))
    assert not ahead.on_cluster()
    monkeypatch.delitem(sys.modules, "distributed")
    assert not ahead.on_cluster()


def test_waiting_for_another_read_has_an_end_too(server):
    server.files["/slow.tif"] = FILE
    server.script("/slow.tif", lambda _: Stall(seconds=200))
    patient = Patience(stall=200, total=200, retries=0)
    shared = session(ReadPolicy(patience=patient, trust=rasters.HERE))

    def one() -> None:
        with contextlib.suppress(ReadError):
            shared.raster(f"{server.url}/slow.tif", None, time.monotonic() + patient.total)

    first = threading.Thread(target=one)
    first.start()
    while not server.seen:
        time.sleep(0.005)
    with pytest.raises(ReadError, match="another one did not finish"):
        shared.raster(f"{server.url}/slow.tif", None, time.monotonic() + 0.2)
    server.hang_up()
    first.join()


def test_threads_do_not_wait_for_each_others_files(server):
    """A file that stalls holds up no other."""
    server.files["/slow.tif"] = server.files["/fast.tif"] = FILE
    server.script("/slow.tif", Stall(seconds=200))
    own = policy(10)

    def one(name: str) -> None:
        rasters.read(f"{server.url}/{name}.tif", GRID[:64, :64], policy=own, alpha=False)

    slow = threading.Thread(target=one, args=("slow",))
    slow.start()
    while not server.seen:
        time.sleep(0.005)
    one("fast")
    assert slow.is_alive()
    server.hang_up()  # the next try finds no fault
    slow.join()
