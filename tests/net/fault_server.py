"""An HTTP server whose faults are scripted: what a store does on a bad day, at will and counted.

    with FaultServer() as server:
        server.files["/a.tif"] = data
        server.script("/a.tif", Status(503), Truncate(100))   # first answer, second answer, then well
        ...
        server.requests, server.bytes_sent

A script is a list of faults, one an answer; when it is used up the file is served well. A callable
in its place is asked for each request: `server.script("/a.tif", lambda n: Status(503) if n % 2 else None)`.
"""

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Fault:
    """What goes wrong with one answer."""


@dataclass(frozen=True)
class Status(Fault):
    """An error status, with headers."""

    code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"<error>busy</error>"


@dataclass(frozen=True)
class Unsigned(Fault):
    """403 unless the query or the headers carry one of the accepted signatures."""

    accepted: Callable[[], set[str]]


@dataclass(frozen=True)
class Reset(Fault):
    """The connection is reset, before the answer or after so many bytes of its body."""

    after: int = -1


@dataclass(frozen=True)
class Stall(Fault):
    """Silence: before the headers (-1), after them (0), or after so many bytes of the body."""

    after: int = -1
    seconds: float = 30.0


@dataclass(frozen=True)
class Truncate(Fault):
    """The body ends early and the connection is closed in good order."""

    after: int


@dataclass(frozen=True)
class Wrong(Fault):
    """The right number of bytes, but other ones from some place on."""

    start: int = 0
    length: int = 1 << 30


@dataclass(frozen=True)
class Drip(Fault):
    """So many bytes at a time, with a pause after each; in the headers too if wanted."""

    size: int = 16
    pause: float = 0.05
    headers: bool = False


@dataclass(frozen=True)
class Redirect(Fault):
    """Another place."""

    location: str
    code: int = 302


@dataclass(frozen=True)
class NoRanges(Fault):
    """The Range header is ignored: the whole file, with 200."""


@dataclass(frozen=True)
class OtherRange(Fault):
    """206, but of bytes that were not asked for."""

    shift: int = 100


@dataclass(frozen=True)
class TooMuch(Fault):
    """206 of the right place, with more bytes than were asked for."""

    more: int = 1 << 20


@dataclass(frozen=True)
class Told(Fault):
    """A good answer with other headers (None: without one), another body, or of another file."""

    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: Callable[[bytes], bytes] = bytes
    data: bytes | None = None
    code: int | None = None


@dataclass(frozen=True)
class Raw(Fault):
    """Bytes of one's own in place of the answer: made of the file's data and of the range asked for."""

    make: Callable[[bytes, int, int], bytes]


@dataclass(frozen=True)
class Replaced(Fault):
    """The file is another one from now on."""

    data: bytes


def _changed(body: bytes, fault: Fault | None) -> bytes:
    """The body that a fault makes of the right one."""
    if isinstance(fault, Told):
        return fault.body(body)
    if isinstance(fault, TooMuch):
        return body + bytes(fault.more)
    if isinstance(fault, Wrong):
        end = min(len(body), fault.start + fault.length)
        wrong = bytes(b ^ 0x5A for b in body[fault.start : end])
        return body[: fault.start] + wrong + body[end:]
    return body


Script = Callable[[int], Fault | None]


@dataclass
class Seen:
    """One request as it came."""

    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    at: float
    port: int  # the client's: tells connections apart


class FaultServer:
    """Serves `files` on a loopback port, as its script says."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.dates: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.seen: list[Seen] = []
        self.bytes_sent = 0
        self._scripts: dict[str, Script] = {}
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()
        self._scheme = "http"
        self._closing = threading.Event()
        self._open: set[socket.socket] = set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                server._open.add(self.connection)

            def finish(self) -> None:
                server._open.discard(self.connection)
                with contextlib.suppress(OSError, ValueError):
                    super().finish()

            def do_GET(self) -> None:
                server._answer(self)

            do_HEAD = do_GET  # noqa: N815 - GDAL asks so; ours never does

            def log_message(self, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def wrap(self, context: ssl.SSLContext) -> None:
        """Serve over TLS, from before it is started."""
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self._scheme = "https"

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._http.server_address[1]}"

    @property
    def requests(self) -> int:
        return len(self.seen)

    def script(self, path: str, *faults: Fault | Script | None) -> None:
        """What happens to the next requests of a path: faults in turn, or a function of their number."""
        with self._lock:
            self._counts[path] = 0
            if len(faults) == 1 and callable(faults[0]):
                self._scripts[path] = faults[0]
            else:
                given = list(faults)
                self._scripts[path] = lambda n: given[n] if n < len(given) else None  # type: ignore[return-value]

    def forget(self) -> None:
        """Count anew."""
        with self._lock:
            self.seen.clear()
            self.bytes_sent = 0

    def hang_up(self) -> None:
        """Close the connections that clients keep."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> "FaultServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _next(self, path: str) -> Fault | None:
        with self._lock:
            number = self._counts.get(path, 0)
            self._counts[path] = number + 1
            script = self._scripts.get(path)
            return script(number) if script is not None else None

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        with self._lock:
            headers = {name.lower(): value for name, value in handler.headers.items()}
            self.seen.append(
                Seen(
                    parts.path,
                    parse_qs(parts.query),
                    headers,
                    time.monotonic(),
                    handler.client_address[1],
                )
            )
        fault = self._next(parts.path)
        if isinstance(fault, Unsigned):
            given = set(parse_qs(parts.query).get("sig", [])) | {headers.get("authorization", "")}
            fault = None if given & fault.accepted() else Status(403)
        if isinstance(fault, Replaced):
            self.files[parts.path] = fault.data
            self.dates[parts.path] = "Fri, 20 Nov 2026 12:00:00 GMT"
            fault = None
        with contextlib.suppress(ConnectionError, TimeoutError):
            self._send(handler, parts.path, fault)

    def _send(self, handler: BaseHTTPRequestHandler, path: str, fault: Fault | None) -> None:
        if isinstance(fault, Reset) and fault.after < 0:
            return self._reset(handler)
        if isinstance(fault, Stall) and fault.after < 0:
            self._closing.wait(fault.seconds)
            handler.close_connection = True
            return None
        if isinstance(fault, Redirect):
            fault = Status(fault.code, {"Location": fault.location}, b"")
        if isinstance(fault, Status):
            return self._head(handler, fault.code, fault.headers, fault.body)
        if path not in self.files:
            return self._head(handler, 404, {}, b"<error>no such file</error>")
        return self._send_file(handler, path, fault)

    def _send_file(self, handler: BaseHTTPRequestHandler, path: str, fault: Fault | None) -> None:
        data = self.files[path]
        if isinstance(fault, Told) and fault.data is not None:
            data = fault.data
        start, stop, ranged = self._range(handler, len(data))
        if isinstance(fault, Raw):
            handler.close_connection = True
            return self._put(handler, fault.make(data, start, stop))
        if ranged and start >= len(data):
            return self._head(handler, 416, {"Content-Range": f"bytes */{len(data)}"}, b"")
        headers = {"Last-Modified": self.dates.get(path, "Thu, 19 Nov 2026 12:00:00 GMT")}
        if path in self.tags:
            headers["ETag"] = self.tags[path]
        if isinstance(fault, NoRanges):
            start, stop, ranged = 0, len(data), False
        if isinstance(fault, OtherRange):
            start, stop = max(0, start + fault.shift), stop + fault.shift
        body = data[start:stop]
        if ranged:
            headers["Content-Range"] = f"bytes {start}-{start + len(body) - 1}/{len(data)}"
        code = 206 if ranged else 200
        if isinstance(fault, Told):
            code, headers = fault.code or code, {**headers, **fault.headers}
        return self._head(handler, code, headers, _changed(body, fault), fault)

    @staticmethod
    def _range(handler: BaseHTTPRequestHandler, size: int) -> tuple[int, int, bool]:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
        if wanted is None:
            return 0, size, False
        last = int(wanted[2]) if wanted[2] else size - 1
        return int(wanted[1]), min(last + 1, size), True

    def _head(
        self,
        handler: BaseHTTPRequestHandler,
        code: int,
        headers: Mapping[str, str | None],
        body: bytes,
        fault: Fault | None = None,
    ) -> None:
        told = {"Content-Length": str(len(body)), "Accept-Ranges": "bytes", **headers}
        lines = [f"HTTP/1.1 {code} Scripted"]
        lines += [f"{name}: {value}" for name, value in told.items() if value is not None]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        if isinstance(fault, Drip) and fault.headers:
            head, body = b"", head + body
        self._put(handler, head)
        if handler.command == "HEAD":
            return
        for piece, pause in self._pieces(body, fault):
            self._put(handler, piece)
            if pause and self._closing.wait(pause):
                break
        if isinstance(fault, Reset):
            self._reset(handler)
        if isinstance(fault, Stall | Truncate):
            handler.close_connection = True

    @staticmethod
    def _pieces(body: bytes, fault: Fault | None) -> Iterator[tuple[bytes, float]]:
        if isinstance(fault, Drip):
            for at in range(0, len(body), fault.size):
                yield body[at : at + fault.size], fault.pause
        elif isinstance(fault, Stall):
            yield body[: fault.after], fault.seconds
        elif isinstance(fault, Truncate | Reset):
            yield body[: fault.after], 0
        else:
            yield body, 0

    def _put(self, handler: BaseHTTPRequestHandler, data: bytes) -> None:
        handler.wfile.write(data)
        handler.wfile.flush()
        with self._lock:
            self.bytes_sent += len(data)

    @staticmethod
    def _reset(handler: BaseHTTPRequestHandler) -> None:
        # A linger of zero makes close() send RST instead of FIN.
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        handler.close_connection = True
        handler.rfile.close()
        handler.connection.close()
