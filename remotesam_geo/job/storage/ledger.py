"""The ledger of a job: one row per stored block in SQLite, and the lock that keeps a second driver out.

The ledger says how many windows of a block were predicted, hold no data or failed, and the digest of the file that the
block is stored in. A window belongs to the block whose core holds the window's core, so it is counted once. The ledger
can be rebuilt from the stored files, which are written before their rows.
"""

import hashlib
import json
import os
import socket
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Self

import filelock

from remotesam_geo.errors import JobError, RemoteSAMWarning
from remotesam_geo.files import write_file

__all__ = [
    "HELD",
    "LOCK",
    "MOST_ATTEMPTS",
    "BlockRecord",
    "DamagedLedgerError",
    "FailedWindow",
    "Ledger",
    "ReadOnlyError",
    "lock",
    "set_aside",
]  # fmt: skip

MOST_ATTEMPTS = 3
"""Attempts after which a window that fails is left alone."""

SOON = 0.2
"""Seconds within which blocks are entered together. After a crash so much work, and a block, may be done again."""

PATIENCE = 15.0
"""Seconds to wait for a ledger that another program holds."""

LOCK, HELD = "lock", "driver.lock"
"""Files in a job's folder: who drives it, for people to read; and the file that the operating system locks."""

SHOWN = 200
"""Most characters of a note that a message repeats."""

_TABLES = """
create table if not exists about (name text primary key, value text not null);
create table if not exists entries (
    layer text, moment integer, block integer, windows integer not null, empty integer not null,
    digest text not null, misses text not null, checksum text not null,
    primary key (layer, moment, block)) without rowid;
"""
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}

Place = tuple[int, int]
"""Date and number of a block."""


class DamagedLedgerError(JobError):
    """A ledger that is not as it was written."""


class ReadOnlyError(JobError):
    """A job's folder that cannot be written to, so that it can only be looked at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedWindow:
    """A window that failed.

    Attributes:
        window: Its number.
        cause: The error message.
        attempts: How often it was tried.
    """

    window: int
    cause: str
    attempts: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockRecord:
    """The outcome of one block of one layer.

    Attributes:
        layer: Key of an expression's map, or of a prompt's outlines.
        date: Index of the date.
        block: Number of the block.
        windows: How many windows belong to the block.
        empty: Those of them whose cores hold no data.
        digest: Of the file that was written; "" where a map has no data, and so no file.
        misses: Those of the windows that failed.
    """

    layer: str
    date: int
    block: int
    windows: int
    empty: int
    digest: str
    misses: tuple[FailedWindow, ...] = ()


class Ledger:
    """The record of a job, in SQLite. What it holds is read and checked once, and kept in memory.

    Args:
        path: Its file, made where there is none; or ":memory:".
        plan: The hash of the plan that its rows belong to.
        read_only: Whether to read only. A missing file is then an empty ledger.

    Raises:
        DamagedLedgerError: It is damaged, or no ledger.
        JobError: It belongs to another plan, or another program holds it.
    """

    def __init__(self, path: Path | str, plan: str, *, read_only: bool = False) -> None:
        self.path, self._plan = path, plan
        self._layers: dict[str, dict[Place, BlockRecord]] = {}
        with self._errors("use"):
            if read_only:
                self._base = _connect_read_only(path)
            else:
                # Jupyter may continue in another thread; the lock on the folder keeps other drivers out.
                self._base = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=PATIENCE)
        try:
            with self._errors("use"):
                self._begin(read_only=read_only)
        except BaseException:
            self._base.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def complete(self) -> bool:
        """Whether all that was written is entered. It is not in a ledger that is new or was lost."""
        with self._errors("read"):
            row = self._base.execute("select value from about where name = 'complete'").fetchone()
        return row is not None

    @complete.setter
    def complete(self, value: bool) -> None:
        with self._writing() as base:
            base.execute("delete from about where name = 'complete'")
            if value:
                base.execute("insert into about values ('complete', 'yes')")

    def enter(self, entries: Iterable[BlockRecord]) -> None:
        """Enter blocks, all or none. They replace earlier entries; attempts add up.

        Raises:
            JobError: The ledger cannot be written.
        """
        new = [self._adding_up(entry) for entry in entries]
        with self._writing() as base:
            base.executemany(
                "insert or replace into entries values (?, ?, ?, ?, ?, ?, ?, ?)",
                [(*row, _ledger_row_checksum(self._plan, row)) for row in map(_row_of_record, new)],
            )
        for entry in new:
            self._layers.setdefault(entry.layer, {})[entry.date, entry.block] = entry

    @contextmanager
    def together(self) -> Iterator[Callable[[Iterable[BlockRecord]], None]]:
        """Enter blocks a little late, so that quick ones share a commit. All are entered, whatever ends the work.

        Any thread may note some.
        """
        waiting: list[BlockRecord] = []
        entered, one_by_one = time.monotonic(), Lock()

        def note(entries: Iterable[BlockRecord]) -> None:
            nonlocal entered
            with one_by_one:
                waiting.extend(entries)
                if time.monotonic() - entered >= SOON:
                    self.enter(waiting)
                    waiting.clear()
                    entered = time.monotonic()

        try:
            yield note
        finally:
            with one_by_one:
                if waiting:
                    self.enter(waiting)

    def forget(self, layer: str, places: Iterable[Place]) -> None:
        """Count blocks as not done."""
        gone = list(places)
        with self._writing() as base:
            base.executemany(
                "delete from entries where layer = ? and moment = ? and block = ?",
                [(layer, *place) for place in gone],
            )
        for place in gone:
            self._layers.get(layer, {}).pop(place, None)

    def known(self, layer: str) -> dict[Place, str]:
        """The blocks entered of a layer, by date and number, with their digests."""
        return {place: entry.digest for place, entry in self._of(layer).items()}

    def known_as(self, layer: str, place: Place) -> str | None:
        """The digest of one block; None where it is not entered."""
        entry = self._of(layer).get(place)
        return None if entry is None else entry.digest

    def counts(self, layer: str) -> dict[str, int]:
        """Windows of a layer by their outcome: done, empty, failed, given_up."""
        entries = self._of(layer).values()
        misses = [miss for entry in entries for miss in entry.misses]
        empty = sum(entry.empty for entry in entries)
        given_up = sum(miss.attempts >= MOST_ATTEMPTS for miss in misses)
        return {
            "done": sum(entry.windows for entry in entries) - empty - len(misses),
            "empty": empty,
            "failed": len(misses) - given_up,
            "given_up": given_up,
        }

    def misses(self, layer: str) -> list[tuple[int, int, FailedWindow]]:
        """Windows of a layer that failed, each with its date and block, in plan order."""
        found = [(date, block, miss) for (date, block), entry in self._of(layer).items() for miss in entry.misses]
        return sorted(found, key=lambda each: (each[0], each[2].window))

    # --- inside ---------------------------------------------------------------------------------

    def _begin(self, *, read_only: bool) -> None:
        """Check that this is a whole ledger of the plan; make it one where it is new."""
        base = self._base
        base.text_factory = lambda text: text.decode(errors="replace")
        if not read_only:
            # What is entered is on the disk. Not write-ahead logging: it fails on shared folders.
            base.execute("pragma synchronous = full")
            base.execute("pragma journal_mode = truncate")
            told = base.execute("pragma quick_check(1)").fetchone()[0]
            if told != "ok":
                raise DamagedLedgerError(f"the ledger {self.path} is damaged: {told}")
            base.executescript(_TABLES)
        elif not base.execute("select count(*) from sqlite_master").fetchone()[0]:
            return  # nothing was entered yet
        known = base.execute("select value from about where name = 'plan'").fetchone()
        if known is not None and known[0] != self._plan:
            raise JobError(
                f"the ledger {self.path} belongs to another plan ({known[0][:SHOWN]}, not {self._plan}): delete it, "
                "and it is rebuilt from the stored blocks, or give the job a folder of its own"
            )
        if known is None and not read_only:
            base.execute("insert into about values ('plan', ?)", [self._plan])
        self._load()

    def _load(self) -> None:
        rows = self._base.execute("select layer, moment, block, windows, empty, digest, misses, checksum from entries")
        for *row, checksum in rows:
            if checksum != _ledger_row_checksum(self._plan, row):
                raise DamagedLedgerError(
                    f"the ledger {self.path} is damaged: the row of layer {row[0]!r}, time {row[1]}, block {row[2]} is "
                    "not as it was written"
                )
            entry = _record_of_row(row)
            self._layers.setdefault(entry.layer, {})[entry.date, entry.block] = entry

    def _of(self, layer: str) -> dict[Place, BlockRecord]:
        return self._layers.get(layer, {})

    def _adding_up(self, entry: BlockRecord) -> BlockRecord:
        before = self._of(entry.layer).get((entry.date, entry.block))
        if before is None or not before.misses or not entry.misses:
            return entry
        tried = {miss.window: miss.attempts for miss in before.misses}
        misses = tuple(replace(miss, attempts=miss.attempts + tried.get(miss.window, 0)) for miss in entry.misses)
        return replace(entry, misses=misses)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._errors("write"):
            try:
                self._base.execute("begin immediate")
                yield self._base
                self._base.execute("commit")
            except BaseException:
                if self._base.in_transaction:
                    self._base.execute("rollback")
                raise

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Say what an error of SQLite means, and what to do about it."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            what = f"cannot {doing} the ledger {self.path}: {error}."
            if code in _BUSY:
                raise JobError(
                    f"{what} Another program has held it for {PATIENCE:.0f} s{_driver_hint(self.path)}. Wait for that "
                    "program, or close it, and try again. The ledger is not damaged: do not delete it."
                ) from error
            if code in _DAMAGED:
                raise DamagedLedgerError(
                    f"{what} It is damaged: run() sets it aside and rebuilds it from the stored blocks."
                ) from error
            raise JobError(
                f"{what}{_in_the_way(self.path)} What was entered before is kept: try again once that is put right."
            ) from error


def _in_the_way(path: Path | str) -> str:
    """Which folder stands where SQLite needs a file, if any."""
    folders = [place for place in (str(path), f"{path}-journal") if Path(place).is_dir()]
    return "".join(f" There is a folder in the place of the file {each}: remove it." for each in folders)


def set_aside(path: Path) -> Path:
    """Move a damaged ledger out of the way, so that a new one can be built. Returns where it is now."""
    aside = path.with_name(f"{path.name}.damaged")
    path.replace(aside)
    # What SQLite wanted to undo belongs to the damaged file.
    path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
    return aside


def _connect_read_only(path: Path | str) -> sqlite3.Connection:
    """A connection that changes nothing. Only an interrupted commit is undone, where that is allowed."""
    try:
        there = path != ":memory:" and Path(path).exists()
    except OSError as error:
        raise JobError(f"cannot read the ledger {path}: {error}") from error
    if not there:
        return sqlite3.connect(":memory:")
    place = Path(path).absolute().as_uri()
    # Without isolation_level=None reading would begin transactions.
    options: dict[str, Any] = {"uri": True, "isolation_level": None, "timeout": PATIENCE}
    base: sqlite3.Connection = sqlite3.connect(f"{place}?mode=rw", check_same_thread=False, **options)
    try:
        base.execute("select count(*) from sqlite_master")
    except sqlite3.OperationalError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        base.close()
        if code not in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR}:
            raise
        # A commit was interrupted, and the folder is read-only. Rows that are half written fail their checksums.
        base = sqlite3.connect(f"{place}?immutable=1", check_same_thread=False, **options)
    return base


def _row_of_record(entry: BlockRecord) -> tuple[str, int, int, int, int, str, str]:
    misses = json.dumps([[miss.window, miss.cause, miss.attempts] for miss in entry.misses])
    return (
        entry.layer, entry.date, entry.block, entry.windows, entry.empty, entry.digest, misses,
    )  # fmt: skip


def _record_of_row(row: list[Any]) -> BlockRecord:
    layer, date, block, windows, empty, digest, misses = row
    return BlockRecord(
        layer=layer,
        date=date,
        block=block,
        windows=windows,
        empty=empty,
        digest=digest,
        misses=tuple(
            FailedWindow(window=window, cause=cause, attempts=attempts)
            for window, cause, attempts in (json.loads(misses) if misses != "[]" else ())
        ),
    )


def _ledger_row_checksum(plan: str, row: Iterable[Any]) -> str:
    text = "\0".join([plan, *map(str, row)])
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=8).hexdigest()


# --- one driver at a time ---------------------------------------------------------------------------


@contextmanager
def lock(folder: Path) -> Iterator[bool]:
    """Be the only driver of a job's folder.

    The operating system frees the lock of a process that was killed. Taking over from one is announced.

    Yields:
        Whether it was taken over so.

    Raises:
        JobError: Another driver has it. The message names its host and process.
        ReadOnlyError: The folder cannot be written to.
    """
    note = folder / LOCK
    with _hold_lock(folder):
        here = socket.gethostname()
        left = _read_driver_note(note)
        if left is not None and left.get("host") != here:
            # Locks of files do not always reach other machines.
            raise JobError(
                f"another driver works on {folder}: {_driver_words(folder)}. If that process is gone (its machine or "
                f"container was shut down, say), take over: delete {note}."
            )
        if left is not None:
            warnings.warn(
                f"taking over {folder} from {_driver_words(folder)}: that process ended without releasing the lock",
                RemoteSAMWarning,
                stacklevel=4,
            )
        mine = {"host": here, "process": os.getpid(), "since": datetime.now(UTC).isoformat()}
        try:
            write_file(note, json.dumps(mine).encode())
        except OSError as error:
            raise JobError(f"cannot write {note}: {error}. Nothing was done.") from error
        try:
            yield left is not None
        finally:
            note.unlink(missing_ok=True)


@contextmanager
def _hold_lock(folder: Path) -> Iterator[None]:
    """Hold the lock that the operating system frees when this process ends."""
    # The note is a file of its own: where locks are mandatory nobody could read a file that is locked.
    held = filelock.FileLock(folder / HELD)
    try:
        held.acquire(timeout=0)
    except filelock.Timeout:
        raise JobError(
            f"another driver works on {folder}: {_driver_words(folder)}. Wait for it, or end it: one at a time."
        ) from None
    except OSError as error:
        raise ReadOnlyError(
            f"cannot write to {folder}: {error}. A job is driven only where its folder can be written to."
        ) from error
    try:
        yield
    finally:
        held.release()


def _read_driver_note(note: Path) -> dict[str, Any] | None:
    """Who is noted as the driver; None where nobody is."""
    try:
        text = note.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JobError(f"cannot read {note}: {error}. Delete it if no driver works.") from error
    if not text:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    # A note that cannot be read was damaged on this machine's disk, or cut short by a full one.
    return found if isinstance(found, dict) else {"host": socket.gethostname()}


def _driver_words(folder: Path) -> str:
    note = _read_driver_note(folder / LOCK) or {}
    named = [str(note.get(name, "unknown"))[:SHOWN] for name in ("process", "host")]
    begun = f"since {str(note['since'])[:SHOWN]}" if "since" in note else "since an unknown time"
    try:
        age = _ledger_age_words(datetime.now(UTC) - datetime.fromisoformat(str(note.get("since"))))
    except (TypeError, ValueError):
        age = ""
    told = ", ".join(filter(None, (age and f"{age} ago", _ledger_last_written(folder))))
    return f"process {named[0]} on {named[1]} {begun}" + (f" ({told})" if told else "")


def _ledger_last_written(folder: Path) -> str:
    try:
        when = datetime.fromtimestamp((folder / "ledger.sqlite").stat().st_mtime, UTC)
    except OSError:
        return ""
    return f"last entry {_ledger_age_words(datetime.now(UTC) - when)} ago"


def _ledger_age_words(span: Any) -> str:
    seconds = max(0.0, span.total_seconds())
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _driver_hint(path: Path | str) -> str:
    if path == ":memory:":
        return ""
    folder = Path(path).parent
    return f"; the job's driver is {_driver_words(folder)}" if (folder / LOCK).exists() else ""
