"""Byte ranges of remote files: each fetched once, in few requests, whole or not at all.

What was fetched is kept, compressed as it came, in one bounded cache a process, so that windows
that share blocks share their bytes, whichever thread asks. Two threads that want the same bytes at
the same time share one request.
"""

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from remotesam_geo.errors import ReadError

from .redaction import redact
from .safety import Limits, RefusedError
from .signing import Request, Signer, learns, request_for
from .spool import Spool, SpooledFile
from .transport import (
    Answer,
    StatusError,
    TransientError,
    Transport,
    body_of,
    check_status,
    in_turn,
    retry,
)

T = TypeVar("T")

PAGE = 1 << 15  # the header of most COGs fits into one
GAP = 1 << 12  # bytes between two ranges that are cheaper fetched than skipped
PART = 1 << 24  # a file that is needed whole is fetched in parts of this size, side by side
AT_ONCE = 8  # requests under way for one process
RENEWALS = 3  # times a refused signature is made anew for one range

Span = tuple[int, int]  # first byte, and the one after the last


class ChangedError(ReadError):
    """The file at a URL is not the one that was being read."""


class ByteCache:
    """Bytes by key, the least recently used forgotten first.

    Args:
        limit: Most bytes kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._items: OrderedDict[tuple[str, Span], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, Span]) -> bytes | None:
        """The bytes, or None."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: tuple[str, Span], data: bytes) -> None:
        """Keep the bytes, unless they alone are more than is kept."""
        self.drop(key)
        if len(data) > self._limit:
            return
        with self._lock:
            self._items[key] = data
            self._held += len(data)
            while self._held > self._limit:
                _, old = self._items.popitem(last=False)
                self._held -= len(old)

    def drop(self, key: tuple[str, Span]) -> None:
        """Forget the bytes."""
        with self._lock:
            self._held -= len(self._items.pop(key, b""))


class Network:
    """What one process shares of the network: connections, threads, and bytes kept.

    Args:
        transport: Connections, patience and trust.
        signers: Who makes requests for hrefs.
        limits: The largest file fetched whole.
        cache_bytes: Most bytes kept in memory.
        disk_bytes: Most bytes of whole files kept on disk.
    """

    def __init__(
        self,
        transport: Transport,
        signers: tuple[Signer, ...],
        limits: Limits,
        cache_bytes: int,
        disk_bytes: int,
    ) -> None:
        self.transport, self.signers, self.limits = transport, signers, limits
        self.cache = ByteCache(cache_bytes)
        self.spool = Spool(disk_bytes)
        self.pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="remotesam-read")
        self.lock = threading.Lock()
        self.flights: dict[tuple[str, Span], Future[bytes]] = {}


class RemoteFile:
    """One remote file: its size, its version, and any of its bytes.

    Args:
        href: As the catalogue has it; signed request by request.
        network: What this process shares.
        deadline: When `time.monotonic()` says that opening it must be done.
    """

    def __init__(self, href: str, network: Network, deadline: float) -> None:
        self.href, self._network = href, network
        self._version: str | None = None
        self._name = redact(href)
        self.size = 0
        self._ranged = True
        self._pages: set[Span] = set()
        self._whole_lock = threading.Lock()
        self._key = ""
        self.start = self._first_page(deadline)

    def read(self, start: int, stop: int, deadline: float) -> bytes:
        """Bytes of a header or a table: whole pages are fetched and kept."""
        stop = min(stop, self.size)
        if start >= stop:
            return b""
        pages = range(start // PAGE, (stop - 1) // PAGE + 1)
        spans = [(page * PAGE, min((page + 1) * PAGE, self.size)) for page in pages]
        with self._network.lock:
            self._pages.update(spans)
        data = b"".join(self.read_many(spans, deadline))
        return data[start - spans[0][0] : stop - spans[0][0]]

    def read_many(
        self, spans: Sequence[Span], deadline: float, ahead: Sequence[Span] = ()
    ) -> list[bytes]:
        """The bytes of each span, from what is kept or else in as few requests as are sensible.

        Args:
            spans: What is wanted.
            deadline: When `time.monotonic()` says that this read is over.
            ahead: What will be wanted next: fetched along with the rest, and kept.
        """
        if not self._ranged:
            whole = self.whole(deadline)
            return [whole.read(start, stop) for start, stop in spans]
        found: dict[Span, bytes] = {}
        wanted = sorted(set(spans))
        while missing := [span for span in wanted if span not in found]:
            mine, others = self._claim(missing, found)
            more = self._claim(ahead, {})[0] if mine else []
            fetched: dict[Span, bytes] = {}
            try:
                fetched = self._fetch_all(mine + more, deadline)
            except ReadError:
                if not more:
                    raise
            finally:
                self._land(mine + more, fetched)
            found |= {span: fetched[span] for span in mine if span in fetched}
            ahead = ()
            if others:
                left = max(0.0, deadline - time.monotonic())
                if wait(others.values(), timeout=left).not_done:
                    raise ReadError(f"{self._name}: the time for this read is over")
                for span, flight in others.items():
                    if flight.exception() is None:  # else it is tried again, by ourselves
                        found[span] = flight.result()
        return [found[span] for span in spans]

    def forget_header(self) -> None:
        """Bytes of headers and tables are fetched anew next time."""
        with self._network.lock:
            pages = list(self._pages)
        self.forget(pages)

    def forget(self, spans: Sequence[Span]) -> None:
        """Bytes that proved wrong are fetched anew next time."""
        self._network.spool.drop(self._key)
        for span in spans:
            self._network.cache.drop((self._key, span))
            if span[0] < len(self.start):
                self.start = b""

    def whole(self, deadline: float) -> SpooledFile:
        """All of the file, on disk, if it is not larger than is fetched whole."""
        with in_turn(self._whole_lock, deadline):
            held = self._network.spool.get(self._key)
            if held is None:
                self._check_whole(self.size)
                held = self._fetch_whole(deadline)
                self._network.spool.put(self._key, held)
            return held

    def _fetch_whole(self, deadline: float) -> SpooledFile:
        if not self._ranged:
            held, told = self._ask(self._take_whole, lambda: (0, PAGE), deadline)
            if (held.size, told) != (self.size, self._version):
                raise ChangedError(f"{self._name} changed while it was read")
            return held
        held = SpooledFile()
        parts = [(at, min(at + PART, self.size)) for at in range(0, self.size, PART)]
        for at in range(0, len(parts), AT_ONCE):
            some = parts[at : at + AT_ONCE]
            for part, data in zip(some, self._fetch_each(some, deadline), strict=True):
                held.write(part[0], data)
        return held

    def _claim(
        self, missing: Sequence[Span], found: dict[Span, bytes]
    ) -> tuple[list[Span], dict[Span, "Future[bytes]"]]:
        """Take what is kept into `found`; the rest is ours to fetch or under way already."""
        mine: list[Span] = []
        others: dict[Span, Future[bytes]] = {}
        network = self._network
        with network.lock:
            for span in missing:
                data = self._kept(span)
                flight = network.flights.get((self._key, span))
                if data is not None:
                    found[span] = data
                elif flight is not None:
                    others[span] = flight
                else:
                    network.flights[self._key, span] = Future()
                    mine.append(span)
        return mine, others

    def _kept(self, span: Span) -> bytes | None:
        data = self._network.cache.get((self._key, span))
        if data is None and span[1] <= len(self.start):
            return self.start[slice(*span)]
        return data

    def _land(self, mine: Sequence[Span], found: Mapping[Span, bytes]) -> None:
        for span in mine:
            if span in found:
                self._network.cache.put((self._key, span), found[span])
            with self._network.lock:
                flight = self._network.flights.pop((self._key, span))
            if span in found:
                flight.set_result(found[span])
            else:
                flight.set_exception(ReadError("the read that fetched these bytes failed"))

    def _fetch_all(self, spans: Sequence[Span], deadline: float) -> dict[Span, bytes]:
        runs = list(_merged(spans))
        bodies = self._fetch_each([run for run, _ in runs], deadline)
        return {
            span: body[span[0] - run[0] : span[1] - run[0]]
            for (run, members), body in zip(runs, bodies, strict=True)
            for span in members
        }

    def _fetch_each(self, spans: Sequence[Span], deadline: float) -> list[bytes]:
        """The bytes of each span, a request a span, side by side."""
        if len(spans) <= 1:
            return [self._fetch(span, deadline) for span in spans]
        work = [self._network.pool.submit(self._fetch, span, deadline) for span in spans]
        try:
            return [future.result() for future in work]
        finally:
            for future in work:
                future.cancel()

    def _fetch(self, span: Span, deadline: float) -> bytes:
        """The bytes of one span; a broken answer is continued where it broke."""
        start, stop = span
        got = bytearray()

        def use(answer: Answer) -> None:
            check_status(answer, (200, 206))
            if answer.status == 200:
                raise TransientError(f"{self._name}: all of the file came for a part of it")
            self._check_range(answer, start + len(got))
            for piece in answer.pieces():
                got.extend(piece)
                if len(got) > stop - start:
                    got.clear()
                    raise TransientError(f"{self._name}: more came than {stop - start} bytes")
            if len(got) < stop - start:
                raise TransientError(f"{self._name}: {len(got)} bytes came for {stop - start}")

        self._ask(use, lambda: (start + len(got), stop), deadline)
        return bytes(got)

    def _first_page(self, deadline: float) -> bytes:
        """The first bytes, and with them size and version."""

        def use(answer: Answer) -> bytes:
            if answer.status == 416:
                raise ReadError(f"{self._name}: the file is empty")
            check_status(answer, (200, 206))
            self._ranged = answer.status == 206
            if not self._ranged:  # no byte ranges: what comes is all of it
                held, self._version = self._take_whole(answer)
                self.size = held.size
                self._key = f"{self.href}\n{self._version}\n{self.size}"
                self._network.spool.put(self._key, held)
                return held.read(0, PAGE)
            self._version, self.size = _version(answer), _content_range(answer)[1]
            page = body_of(answer, PAGE)
            self._key = f"{self.href}\n{self._version}\n{self.size}"
            if len(page) != min(PAGE, self.size):
                raise TransientError(f"{self._name}: the first bytes were cut short")
            return page

        return self._ask(use, lambda: (0, PAGE), deadline)

    def _take_whole(self, answer: Answer) -> tuple[SpooledFile, str | None]:
        """All of a file from one answer, and its version."""
        check_status(answer, (200,))
        told = answer.headers.get("content-length", "")
        self._check_whole(int(told) if told.isdigit() else 0)
        held = SpooledFile()
        for piece in answer.pieces():
            held.write(held.size, piece)
            self._check_whole(held.size)
        return held, _version(answer)

    def _check_whole(self, size: int) -> None:
        most = self._network.limits.whole_file_bytes
        if size > most:
            raise RefusedError(
                f"{self._name} can only be fetched whole, and its {size:,} bytes are more than the "
                f"{most:,} allowed; raise Limits(whole_file_bytes=...)"
            )

    def _check_range(self, answer: Answer, start: int) -> None:
        """The answer is the range asked for, of the file that was opened."""
        at, size = _content_range(answer)
        if (size, _version(answer)) != (self.size, self._version):
            raise ChangedError(f"{self._name} changed while it was read")
        if at != start:
            raise TransientError(f"{self._name}: bytes from {at} came for those from {start}")

    def _ask(self, use: Callable[[Answer], T], span: Callable[[], Span], deadline: float) -> T:
        """Ask for a span, signed, until an answer can be used or the time is over."""
        network = self._network
        refused: Request | None = None
        renewals = 0

        def once() -> T:
            nonlocal refused, renewals
            while True:
                request = request_for(
                    self.href,
                    network.signers,
                    transport=network.transport,
                    deadline=deadline,
                    refused=refused,
                )
                start, stop = span()
                try:
                    with network.transport.send(
                        request.url,
                        {"Range": f"bytes={start}-{stop - 1}"},
                        secret=request.headers,
                        deadline=deadline,
                    ) as answer:
                        return use(answer)
                except TransientError as error:
                    error.progress = span()[0] > start
                    raise
                except StatusError as error:
                    if renewals == RENEWALS or not learns(self.href, network.signers, error):
                        raise ReadError(f"{error}{_advice(error, signed=refused)}") from error
                    refused, renewals = request, renewals + 1

        return retry(once, transport=network.transport, deadline=deadline)


def _advice(error: StatusError, signed: Request | None) -> str:
    if error.status not in (401, 403):
        return ""
    if signed is not None:
        return f", though it was signed anew {RENEWALS} times"
    return "; the store may want a signature: pass a signer (HrefSigner, S3) in ReadPolicy"


def _merged(spans: Sequence[Span]) -> Iterator[tuple[Span, list[Span]]]:
    """Runs of spans that lie close enough to be fetched as one, with their members."""
    members: list[Span] = []
    for span in sorted(spans):
        if members and span[0] - max(stop for _, stop in members) > GAP:
            yield (members[0][0], max(stop for _, stop in members)), members
            members = []
        members.append(span)
    if members:
        yield (members[0][0], max(stop for _, stop in members)), members


def _content_range(answer: Answer) -> Span:
    """First byte and whole size, as the answer's Content-Range gives them."""
    told = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("content-range", "").strip())
    if told is None:
        raise TransientError(f"{redact(answer.url)}: an answer without a valid Content-Range")
    return int(told[1]), int(told[2])


def _version(answer: Answer) -> str | None:
    # Replicas of one file agree about its date, while some servers' tags differ between them.
    return answer.headers.get("last-modified") or answer.headers.get("etag")
