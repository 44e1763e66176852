"""What was done of a job, on disk: one row a block and map, entered once its pixels are safe.

The ledger says which windows were answered, which hold no data and which failed, each exactly once: a window belongs
to the block whose core holds its own. It can be made again from the maps and parts, which are written before it.
"""

import fcntl
import json
import os
import socket
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Self, cast

from remotesam_geo.errors import JobError, RemoteSAMWarning

__all__ = ["POISON", "Entry", "Ledger", "Miss", "lock"]

POISON = 3
"""Attempts after which a window that fails is left alone."""

SOON = 0.2
"""Seconds within which blocks are entered together: so much work, and a block, may be done again after a crash."""

_TABLES = """
create table if not exists about (name text primary key, value text not null);
create table if not exists entries (
    layer text, moment integer, block integer, windows integer not null, empty integer not null,
    digest text not null, primary key (layer, moment, block)) without rowid;
create table if not exists misses (
    layer text, moment integer, tile integer, block integer not null, cause text not null, attempts integer not null,
    primary key (layer, moment, tile)) without rowid;
"""


@dataclass(frozen=True, kw_only=True)
class Miss:
    """A window that failed.

    Attributes:
        tile: Its number.
        cause: What was raised, in words.
        attempts: How often it was tried.
    """

    tile: int
    cause: str
    attempts: int = 1


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What became of one block of one map.

    Attributes:
        layer: Which map: a key of an expression, or of a question.
        moment: Which time.
        block: Which block.
        windows: How many windows it answers for.
        empty: Those of them in whose cores there is no data.
        digest: Of what was written, so that damage is seen; "" where nothing was.
        misses: Those of the windows that failed.
    """

    layer: str
    moment: int
    block: int
    windows: int
    empty: int
    digest: str
    misses: tuple[Miss, ...] = ()


class Ledger:
    """The record of a job, in SQLite.

    Args:
        path: Of its file, made where there is none; or ":memory:".
        plan: The hash of the plan that its rows belong to.

    Raises:
        JobError: It belongs to another plan, or is no ledger.
    """

    def __init__(self, path: Path | str, plan: str) -> None:
        self.path = path
        # Jupyter may go on in another thread; the lock on the folder keeps drivers apart.
        self._base = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            # What is entered is on the disk. Not write-ahead logging: it fails on shared folders.
            self._base.execute("pragma synchronous = full")
            self._base.execute("pragma journal_mode = truncate")
            self._base.executescript(_TABLES)
            known = self._base.execute("select value from about where name = 'plan'").fetchone()
            if known is None:
                self._base.execute("insert into about values ('plan', ?)", [plan])
        except sqlite3.DatabaseError as error:
            self._base.close()
            raise JobError(
                f"cannot use the ledger {path}: {error}. Delete the file if it is damaged: it is made again from what "
                "was written."
            ) from error
        if known is not None and known[0] != plan:
            self._base.close()
            raise JobError(
                f"the ledger {path} belongs to another plan ({known[0]}, not {plan}): delete it, and it is made again "
                "from what was written, or give the job a folder of its own"
            )

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def complete(self) -> bool:
        """Whether all that was written is entered; not in one that is new, or was lost."""
        row = self._base.execute("select value from about where name = 'complete'").fetchone()
        return row is not None

    @complete.setter
    def complete(self, value: bool) -> None:
        with self._writing() as base:
            base.execute("delete from about where name = 'complete'")
            if value:
                base.execute("insert into about values ('complete', 'yes')")

    def enter(self, entries: Iterable[Entry]) -> None:
        """Enter blocks, all or none, in place of what was known of them; attempts add up.

        Raises:
            JobError: The ledger cannot be written.
        """
        with self._writing() as base:
            for entry in entries:
                key = entry.layer, entry.moment, entry.block
                before = dict(
                    base.execute(
                        "select tile, attempts from misses where (layer, moment, block) = (?, ?, ?)",
                        key,
                    )
                )
                base.execute("delete from misses where (layer, moment, block) = (?, ?, ?)", key)
                base.execute(
                    "insert or replace into entries values (?, ?, ?, ?, ?, ?)",
                    [*key, entry.windows, entry.empty, entry.digest],
                )
                base.executemany(
                    "insert into misses values (?, ?, ?, ?, ?, ?)",
                    [
                        (entry.layer, entry.moment, miss.tile, entry.block, miss.cause,
                         before.get(miss.tile, 0) + miss.attempts)
                        for miss in entry.misses
                    ],
                )  # fmt: skip

    @contextmanager
    def together(self) -> Iterator[Callable[[Iterable[Entry]], None]]:
        """Enter blocks a moment late, so that quick ones share a commit; all of them, whatever ends it.

        Any thread may note some.
        """
        waiting: list[Entry] = []
        entered, one_by_one = time.monotonic(), Lock()

        def note(entries: Iterable[Entry]) -> None:
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

    def forget(self, layer: str, moment: int, block: int) -> None:
        """Have a block answered anew."""
        key = layer, moment, block
        with self._writing() as base:
            base.execute("delete from entries where (layer, moment, block) = (?, ?, ?)", key)
            base.execute("delete from misses where (layer, moment, block) = (?, ?, ?)", key)

    def known(self, layer: str) -> dict[tuple[int, int], str]:
        """The blocks entered of a map, by moment and number, with their digests."""
        rows = self._base.execute(
            "select moment, block, digest from entries where layer = ?", [layer]
        )
        return {(moment, block): digest for moment, block, digest in rows}

    def counts(self, layer: str) -> dict[str, int]:
        """Windows of a map by what became of them: done, empty, failed, poison."""
        windows, empty = self._base.execute(
            "select coalesce(sum(windows), 0), coalesce(sum(empty), 0) from entries where layer = ?",
            [layer],
        ).fetchone()
        failed, poison = self._base.execute(
            "select count(*), coalesce(sum(attempts >= ?), 0) from misses where layer = ?",
            [POISON, layer],
        ).fetchone()
        return {
            "done": windows - empty - failed,
            "empty": empty,
            "failed": failed - poison,
            "poison": poison,
        }

    def misses(self, layer: str) -> list[tuple[int, int, Miss]]:
        """Windows of a map that failed, each with its moment and block, in plan order."""
        rows = self._base.execute(
            "select moment, block, tile, cause, attempts from misses where layer = ? order by moment, tile",
            [layer],
        )
        return [
            (moment, block, Miss(tile=tile, cause=cause, attempts=attempts))
            for moment, block, tile, cause, attempts in rows
        ]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            self._base.execute("begin immediate")
            yield self._base
            self._base.execute("commit")
        except sqlite3.Error as error:
            if self._base.in_transaction:
                self._base.execute("rollback")
            raise JobError(
                f"cannot write the ledger {self.path}: {error}. What was entered before is kept: run again once it can "
                "be written."
            ) from error
        except BaseException:
            if self._base.in_transaction:
                self._base.execute("rollback")
            raise


@contextmanager
def lock(folder: Path) -> Iterator[bool]:
    """Be the only driver of a job's folder.

    A driver that was killed lets go of it; taking over from one is announced.

    Yields:
        Whether it was taken over so.

    Raises:
        JobError: Another driver has it; the message names its host and process.
    """
    path = folder / "lock"
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JobError(
                f"another driver works on {folder}: {_holder(path)}. Wait for it, or end it: one at a time."
            ) from None
        here = socket.gethostname()
        left = _read(path)
        if left is not None and left.get("host") != here:
            # Locks of files do not always reach other machines.
            raise JobError(
                f"another driver works on {folder}: {_holder(path)}. If it is gone, delete {path}."
            )
        if left is not None:
            warnings.warn(
                f"taking over {folder} from {_holder(path)}, which ended without a word",
                RemoteSAMWarning,
                stacklevel=4,
            )
        note = {"host": here, "process": os.getpid(), "since": datetime.now(UTC).isoformat()}
        file.truncate(0)
        file.write(json.dumps(note).encode())
        file.flush()
        try:
            yield left is not None
        finally:
            file.truncate(0)


def _read(path: Path) -> dict[str, object] | None:
    text = path.read_text()
    try:
        return cast("dict[str, object]", json.loads(text)) if text else None
    except ValueError:  # cut short by a full disk
        return {"host": socket.gethostname()}


def _holder(path: Path) -> str:
    note = _read(path) or {}
    return f"process {note.get('process', '?')} on {note.get('host', '?')} since {note.get('since', '?')}"
