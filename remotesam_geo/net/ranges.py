"""Byte ranges of remote files: each fetched once, in few requests, whole or not at all.

What was fetched is kept, compressed as it came, in one bounded cache a process, so that windows
that share blocks share their bytes, whichever thread asks. Two threads that want the same bytes at
the same time share one request. Every answer must be of the same version of the file: its size and every validator
(ETag, Last-Modified) are compared with those of the first.
"""

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

from remotesam_geo.errors import ReadError

from .auth import Request, Signer, learns, request_for
from .client import (
    Response,
    StatusError,
    TransientError,
    Transport,
    body_of,
    check_status,
    in_turn,
    retry,
)
from .redact import redact
from .tempfiles import Spool, SpooledFile
from .trust import Limits, RefusedError

T = TypeVar("T")

PAGE = 1 << 13  # the header of most COGs fits into one
LONGEST_HEADER = 16  # pages up to which more of a header is fetched than is needed
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

    def drop_file(self, name: str) -> None:
        """Forget all bytes of one file."""
        with self._lock:
            for key in [key for key in self._items if key[0] == name]:
                self._held -= len(self._items.pop(key))


class SharedConnections:
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

    def __init__(self, href: str, network: SharedConnections, deadline: float) -> None:
        self.href, self._network = href, network
        self._version = Version()
        self._name = redact(href)
        self.size = 0
        self._ranged = True
        self._whole_lock = threading.Lock()
        self._key = ""
        self.start = self._first_page(deadline)

    def read(self, start: int, stop: int, deadline: float) -> bytes:
        """Bytes of a header or a table: whole pages are fetched and kept."""
        stop = min(stop, self.size)
        if start >= stop:
            return b""
        pages = range(start // PAGE, (stop - 1) // PAGE + 1)
        spans, ahead = (
            [(page * PAGE, min((page + 1) * PAGE, self.size)) for page in some if page * PAGE < self.size]
            # The longer a header is known to be, the more of it is fetched at once. Tables elsewhere are read as is.
            for some in (pages, range(pages.stop, min(2 * pages.stop - 2, LONGEST_HEADER)))
        )
        data = b"".join(self.read_many(spans, deadline, ahead))
        return data[start - spans[0][0] : stop - spans[0][0]]

    def read_many(self, spans: Sequence[Span], deadline: float, ahead: Sequence[Span] = ()) -> list[bytes]:
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

    def forget(self) -> None:
        """Drop every byte that is kept of the file, so that all of it is fetched anew.

        For bytes that turned out wrong: a wrong byte in a table may lie anywhere before the block that failed.
        """
        self._network.spool.drop(self._key)
        self._network.cache.drop_file(self._key)
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
            return self._ask(self._take_same_whole, lambda: (0, PAGE), deadline)
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
        runs = list(_merged_spans(spans))
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

        def use(answer: Response) -> None:
            if answer.status == 416:
                self._check_shrunk(answer)
            check_status(answer, (200, 206))
            self._check_version(_file_version_of_response(answer))
            if answer.status == 200:
                raise TransientError(f"{self._name}: all of the file came for a part of it")
            first, last, size = _content_range(answer)
            self._check_size(size)
            at = start + len(got)
            if first != at or last >= stop:
                raise TransientError(f"{self._name}: bytes {first} to {last} came for {at} to {stop - 1}")
            end = last + 1 - start  # of `got`, once this answer is in it
            try:
                for piece in answer.pieces():
                    got.extend(piece)
                    if len(got) > end:
                        got.clear()
                        raise _SurplusError(f"{self._name}: more came than {last + 1 - at} bytes")
            except _SurplusError:
                raise
            except TransientError:
                if len(got) < stop - start:  # else it broke after all had come
                    raise
            if len(got) < stop - start:
                raise TransientError(f"{self._name}: {len(got)} bytes came for {stop - start}")

        self._ask(use, lambda: (start + len(got), stop), deadline)
        return bytes(got)

    def _first_page(self, deadline: float) -> bytes:
        """The first bytes, and with them size and version."""

        def use(answer: Response) -> bytes:
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
            self._version = _file_version_of_response(answer)
            first, last, self.size = _content_range(answer)
            if first != 0 or last >= PAGE:
                raise TransientError(f"{self._name}: bytes {first} to {last} came for 0 to {PAGE - 1}")
            page = body_of(answer, last + 1)
            self._key = f"{self.href}\n{self._version}\n{self.size}"
            if len(page) != min(PAGE, self.size):
                raise TransientError(f"{self._name}: the first bytes were cut short")
            return page

        return self._ask(use, lambda: (0, PAGE), deadline)

    def _take_whole(self, answer: Response) -> "tuple[SpooledFile, Version]":
        """All of a file from one answer, and its version."""
        check_status(answer, (200,))
        _check_plain(answer)
        told = answer.headers.get("content-length", "")
        self._check_whole(int(told) if _NUMBER.fullmatch(told) else 0)
        held = SpooledFile()
        for piece in answer.pieces():
            held.write(held.size, piece)
            self._check_whole(held.size)
        return held, _file_version_of_response(answer)

    def _take_same_whole(self, answer: Response) -> SpooledFile:
        """All of the file once more, where the server gives it only whole."""
        if answer.status == 206:
            raise ChangedError(f"{self._name} changed while it was read: now it has byte ranges")
        held, version = self._take_whole(answer)
        self._check_version(version)
        self._check_size(held.size)
        return held

    def _check_whole(self, size: int) -> None:
        most = self._network.limits.whole_file_bytes
        if size > most:
            raise RefusedError(
                f"{self._name} can only be fetched whole, and its {size:,} bytes are more than the "
                f"{most:,} allowed; raise Limits(whole_file_bytes=...)"
            )

    def _check_version(self, version: "Version") -> None:
        """The answer is of the version that was opened, by every validator that either gave."""
        if version != self._version:
            raise ChangedError(
                f"{self._name} changed while it was read: it was {self._version}, now it is {version}; if its "
                "servers name one version differently, read it from one of them"
            )

    def _check_size(self, size: int) -> None:
        if size != self.size:
            raise ChangedError(f"{self._name} changed while it was read: from {self.size:,} to {size:,} bytes")

    def _check_shrunk(self, answer: Response) -> None:
        """A range that cannot be had was there when the file was opened."""
        told = re.fullmatch(r"bytes \*/([0-9]{1,19})", answer.headers.get("content-range", ""))
        if told is not None:
            self._check_size(int(told[1]))

    def _ask(self, use: Callable[[Response], T], span: Callable[[], Span], deadline: float) -> T:
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
                        raise ReadError(f"{error}{_range_signer_advice(error, signed=refused)}") from error
                    refused, renewals = request, renewals + 1

        return retry(once, transport=network.transport, deadline=deadline)


def _range_signer_advice(error: StatusError, signed: Request | None) -> str:
    if error.status not in (401, 403):
        return ""
    if signed is not None:
        return f", though it was signed anew {RENEWALS} times"
    return "; the store may want a signature: pass a signer (HrefSigner, S3) in ReadPolicy"


def _merged_spans(spans: Sequence[Span]) -> Iterator[tuple[Span, list[Span]]]:
    """Runs of spans that lie close enough to be fetched as one, with their members."""
    members: list[Span] = []
    for span in sorted(spans):
        if members and span[0] - max(stop for _, stop in members) > GAP:
            yield (members[0][0], max(stop for _, stop in members)), members
            members = []
        members.append(span)
    if members:
        yield (members[0][0], max(stop for _, stop in members)), members


class _SurplusError(TransientError):
    """More bytes than the answer itself announced."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """What a server says by which versions of a file are told apart, "" where it does not say it.

    Args:
        tag: The ETag, without the mark of a weak one.
        date: Last-Modified.
    """

    tag: str = ""
    date: str = ""

    def __str__(self) -> str:
        named = [f"ETag {self.tag[:80]}"] if self.tag else []
        named += [f"of {self.date[:80]}"] if self.date else []
        return " ".join(named) or "without ETag and date"


_NUMBER = re.compile(r"[0-9]{1,19}")
_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.IGNORECASE)


def _check_plain(answer: Response) -> None:
    """Refuse a body that is not the file's own bytes: compressed on its way, or in parts."""
    coding = answer.headers.get("content-encoding", "").lower()
    if coding not in ("", "identity"):
        raise TransientError(
            f"{redact(answer.url)}: the answer is compressed ({coding[:40]!r}) though the plain bytes were "
            "asked for; have the server send the file as it is",
            repeats=1,
        )
    kind = answer.headers.get("content-type", "").lower()
    if kind.startswith("multipart/"):
        raise TransientError(f"{redact(answer.url)}: an answer in parts ({kind[:40]!r})", repeats=1)


def _content_range(answer: Response) -> tuple[int, int, int]:
    """First and last byte, and whole size, as the answer's Content-Range gives them."""
    _check_plain(answer)
    name, text = redact(answer.url), answer.headers.get("content-range", "")
    told = _RANGE.fullmatch(text)
    if told is None:
        raise TransientError(f"{name}: an answer without a valid Content-Range ({text[:80]!r})")
    if told[3] == "*":
        raise TransientError(f"{name}: the server does not say how long the file is", repeats=1)
    first, last, size = (int(number) for number in told.groups())
    if not first <= last < size:
        raise TransientError(f"{name}: a Content-Range that cannot be, {text[:80]!r}")
    length = answer.headers.get("content-length")
    if length is not None and not (_NUMBER.fullmatch(length) and int(length) == last + 1 - first):
        raise TransientError(f"{name}: a body of {length[:40]!r} bytes for the range {text[:80]!r}")
    return first, last, size


def _file_version_of_response(answer: Response) -> Version:
    return Version(
        tag=answer.headers.get("etag", "").removeprefix("W/"),
        date=answer.headers.get("last-modified", ""),
    )
