"""The ledger: each window accounted for once, one driver at a time."""

import json
import multiprocessing
import os
import signal
import socket
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remotesam_geo.errors import JobError, RemoteSAMWarning
from remotesam_geo.job.storage.ledger import (
    MOST_ATTEMPTS,
    BlockRecord,
    DamagedLedgerError,
    FailedWindow,
    Ledger,
    lock,
)

WINDOWS = 4


def entry(block, failed=(), *, empty=0, date=0, digest="d"):
    misses = tuple(FailedWindow(window=block * WINDOWS + tile, cause=f"cause {tile}") for tile in failed)
    return BlockRecord(
        layer="a", date=date, block=block, windows=WINDOWS, empty=empty, digest=digest,
        misses=misses,
    )  # fmt: skip


@pytest.mark.parametrize("soon", [0.0, 60.0])
def test_any_thread_may_note_what_it_filed(tmp_path, monkeypatch, soon):
    """With each its own commit, and with one at the end, though an error ends it."""
    monkeypatch.setattr("remotesam_geo.job.storage.ledger.SOON", soon)

    def work(ledger):
        with ledger.together() as note:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda block: note([entry(block, {1})]), range(40)))
            raise OSError("broken off")

    with Ledger(tmp_path / "ledger.sqlite", "plan") as ledger:
        with pytest.raises(OSError, match="broken off"):
            work(ledger)
        assert sorted(ledger.known("a")) == [(0, block) for block in range(40)]
        assert ledger.counts("a") == {"done": 120, "empty": 0, "failed": 40, "given_up": 0}


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.integers(0, 1),
            st.sets(st.integers(0, WINDOWS - 1)),
            st.booleans(),
        ),
        max_size=20,
    )
)
def test_windows_are_counted_once_and_attempts_add_up(steps):
    truth, attempts = {}, {}
    with Ledger(":memory:", "plan") as ledger:
        for block, date, failed, forgotten in steps:
            key = date, block
            if forgotten:
                ledger.forget("a", [(date, block)])
                truth.pop(key, None)
                attempts = {k: n for k, n in attempts.items() if (k[0], k[1]) != key}
                continue
            ledger.enter([entry(block, failed, date=date)])
            truth[key] = failed
            before = {k: n for k, n in attempts.items() if (k[0], k[1]) == key}
            attempts = {k: n for k, n in attempts.items() if (k[0], k[1]) != key}
            attempts |= {(*key, tile): before.get((*key, tile), 0) + 1 for tile in failed}
        counts = ledger.counts("a")
        assert sum(counts.values()) == WINDOWS * len(truth)
        assert counts["given_up"] == sum(n >= MOST_ATTEMPTS for n in attempts.values())
        assert counts["failed"] == sum(n < MOST_ATTEMPTS for n in attempts.values())
        assert set(ledger.known("a")) == set(truth)
        found = {
            (date, block, miss.window - block * WINDOWS): miss.attempts for date, block, miss in ledger.misses("a")
        }
        assert found == attempts
        assert ledger.counts("b") == dict.fromkeys(("done", "empty", "failed", "given_up"), 0)


def test_blocks_are_entered_all_or_none(tmp_path):
    with Ledger(tmp_path / "l.sqlite", "plan") as ledger:
        with pytest.raises(JobError, match="cannot write"):
            ledger.enter([entry(0), entry(1, digest=None)])
        assert not ledger.known("a")
        ledger.enter([entry(0), entry(1, failed=[2], empty=1)])
    with Ledger(tmp_path / "l.sqlite", "plan") as ledger:
        assert ledger.known("a") == {(0, 0): "d", (0, 1): "d"}
        assert ledger.counts("a") == {"done": 6, "empty": 1, "failed": 1, "given_up": 0}


def test_a_ledger_of_another_plan_is_refused(tmp_path):
    path = tmp_path / "l.sqlite"
    with Ledger(path, "plan") as ledger:
        assert not ledger.complete
        ledger.complete = True
    with pytest.raises(JobError, match=r"another plan \(plan, not other\)"):
        Ledger(path, "other")
    with Ledger(path, "plan") as ledger:
        assert ledger.complete


def test_a_busy_ledger_is_not_called_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr("remotesam_geo.job.storage.ledger.PATIENCE", 0.05)
    path = tmp_path / "ledger.sqlite"
    note = {"host": "far", "process": 7, "since": "2020-01-01T00:00:00+00:00"}
    (tmp_path / "lock").write_text(json.dumps(note))
    with Ledger(path, "plan") as ledger:
        ledger.enter([entry(0)])
        other = sqlite3.connect(path, isolation_level=None, timeout=0)
        other.execute("begin exclusive")
        works = (
            lambda: ledger.enter([entry(1)]),
            lambda: ledger.forget("a", [(0, 0)]),
            lambda: setattr(ledger, "complete", True),
            lambda: ledger.complete,
            lambda: Ledger(path, "plan"),
            lambda: Ledger(path, "plan", read_only=True),
        )
        for work in works:
            with pytest.raises(JobError, match=r"driver is process 7 on far.*do not delete it"):
                work()
        other.close()
        assert ledger.known("a") == {(0, 0): "d"}
        ledger.enter([entry(1)])


@pytest.mark.parametrize("read_only", [True, False])
def test_every_changed_row_is_noticed(tmp_path, read_only):
    path = tmp_path / "ledger.sqlite"
    with Ledger(path, "plan") as ledger:
        ledger.enter([entry(0, [1]), entry(1)])
    whole = path.read_bytes()
    changes = (
        "layer = 'b'", "moment = 7", "block = 9", "windows = 5", "empty = 1", "digest = 'e'",
        "misses = '[]'", "misses = x'ff'", "checksum = '0'", "windows = 'many'",
    )  # fmt: skip
    for change in changes:
        path.write_bytes(whole)
        with sqlite3.connect(path) as base:
            base.execute(f"update entries set {change} where block = 0")  # noqa: S608
        base.close()
        with pytest.raises(DamagedLedgerError, match="is not as it was written"):
            Ledger(path, "plan", read_only=read_only)
    for data in (b"junk" * 999, whole[:1000], whole[: len(whole) // 2], bytes(len(whole))):
        path.write_bytes(data)
        with pytest.raises(DamagedLedgerError):
            Ledger(path, "plan", read_only=read_only)


def _hold(folder, held, killed):
    with lock(folder):
        held.set()
        killed.wait()


def _hold_twice(folder):
    with lock(folder) as taken_over:
        assert taken_over
        with pytest.raises(JobError, match=f"process {os.getpid()}"), lock(folder):
            pass


def test_a_lock_names_its_holder_and_outlives_no_process(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, killed = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held, killed))
    other.start()
    assert held.wait(60)
    with (
        pytest.raises(JobError, match=f"process {other.pid} on {socket.gethostname()}"),
        lock(tmp_path),
    ):
        pass
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    with pytest.warns(RemoteSAMWarning, match=f"process {other.pid}"):
        _hold_twice(tmp_path)
    with lock(tmp_path) as taken_over:
        assert not taken_over
    begun = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    note = {"host": "far.example", "process": 1, "since": begun}
    (tmp_path / "lock").write_text(json.dumps(note))
    (tmp_path / "ledger.sqlite").touch()
    os.utime(tmp_path / "ledger.sqlite", (0, (datetime.now(UTC) - timedelta(hours=5)).timestamp()))
    told = r"process 1 on far\.example .*\(3 days ago, last entry 5 hours ago\).*take over: delete"
    with pytest.raises(JobError, match=told), lock(tmp_path):
        pass
    (tmp_path / "lock").unlink()
    with lock(tmp_path) as taken_over:
        assert not taken_over


@pytest.mark.parametrize("note", [b'{"host": "fa', b"\xff\xfe", b"[1]", b"7", bytes(40), b"[" * 9999])
def test_a_damaged_note_keeps_nobody_out(tmp_path, note):
    (tmp_path / "lock").write_bytes(note)
    with pytest.warns(RemoteSAMWarning, match="taking over .* process unknown"), lock(tmp_path):
        pass
