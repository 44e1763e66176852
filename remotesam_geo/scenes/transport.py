"""One HTTP request that cannot hang, cannot be led astray, and says plainly how it failed.

Built on `http.client`, because every promise here needs the socket: the address that was checked is
the one connected to, each redirect is judged before it is followed, and a clock runs over every
byte, the header's too. GDAL's own HTTP does none of this, and it remembers failures.
"""

import contextlib
import email.utils
import functools
import http.client
import io
import logging
import random
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote, urljoin, urlsplit

import certifi

from remotesam_geo.errors import ReadError

from .redaction import redact
from .safety import RefusedError, Trust, check_address, check_host, check_href

T = TypeVar("T")

log = logging.getLogger(__name__)

AGENT = "remotesam-geo"
REDIRECTS = (301, 302, 303, 307, 308)
TRANSIENT = (408, 421, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524)
MAX_REDIRECTS = 5
IDLE_PER_HOST = 8
IDLE_SECONDS = 30.0
_PLAIN = "/%:@!$&'()*+,;=~?-._[]"  # what may stand in a request's target as it is


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait, for what, and how often to try again.

    Args:
        connect: Seconds for a connection to be made.
        stall: Seconds without a single byte after which an answer is given up.
        slowest: Bytes a second, over `stall` seconds, below which an answer is given up.
        total: Seconds for one read with everything in it: all requests, waits and repetitions.
        retries: Repetitions of one request.
        first_wait: Seconds before the first repetition; doubled each time, with jitter.
        longest_wait: Most seconds between two repetitions, unless the server asks for more.

    Example:
        >>> Patience(total=60).retries
        8
    """

    connect: float = 10.0
    stall: float = 20.0
    slowest: float = 1024.0
    total: float = 600.0
    retries: int = 8
    first_wait: float = 0.5
    longest_wait: float = 30.0


class TransientError(ReadError):
    """A failure that may be gone a moment later.

    Args:
        message: What happened.
        wait: Seconds that the server asks to wait.
        host: The server that asks.
    """

    def __init__(self, message: str, *, wait: float = 0.0, host: str = "") -> None:
        super().__init__(message)
        self.wait, self.host = wait, host
        self.progress = False  # set where part of the answer came, so that it was not in vain


class StatusError(ReadError):
    """An HTTP status that repetition does not change.

    Args:
        message: What was answered.
        status: The status.
        headers: The answer's headers, names in lower case.
    """

    def __init__(self, message: str, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers)


class Clock:
    """The time left to one answer: the read's deadline, the longest silence, the slowest pace."""

    def __init__(self, patience: Patience, deadline: float) -> None:
        self._patience = patience
        self._deadline = deadline
        self._since = time.monotonic()
        self._bytes = 0

    def allowance(self) -> float:
        """Seconds that the next piece may take."""
        now = time.monotonic()
        spent = now - self._since
        if spent >= self._patience.stall:
            if self._bytes < self._patience.slowest * spent:
                raise TimeoutError(f"{self._bytes} bytes in {spent:.1f} s are too few")
            self._since, self._bytes = now, 0
        left = self._deadline - now
        if left <= 0:
            raise TimeoutError("the time for this read is over")
        return min(self._patience.stall, left)

    def note(self, received: int) -> None:
        """Some bytes came."""
        self._bytes += received


class _TimedRaw(io.RawIOBase):
    """The receiving end of a socket, every piece under the connection's clock."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, owner: "_Connection") -> None:
        self._raw, self._sock, self._owner = raw, sock, owner

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]
        self._sock.settimeout(self._owner.clock.allowance())
        count: int | None = self._raw.readinto(buffer)
        self._owner.clock.note(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedSocket:
    """What `http.client` needs of a socket, receiving under the connection's clock."""

    def __init__(self, sock: socket.socket, owner: "_Connection") -> None:
        self._sock, self._owner = sock, owner

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._owner.clock.allowance())
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        del mode  # http.client only ever asks for "rb"
        raw = self._sock.makefile("rb", buffering=0)
        return io.BufferedReader(_TimedRaw(raw, self._sock, self._owner), 1 << 16)

    def close(self) -> None:
        self._sock.close()


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was checked, under a clock that each request sets."""

    clock: Clock

    def __init__(self, place: "_Place", patience: Patience, trust: Trust) -> None:
        super().__init__(place.host, place.port)
        self._place, self._patience, self._trust = place, patience, trust
        self.idle_since = 0.0

    def connect(self) -> None:
        place = self._place
        if place.proxy is None:
            sock = _checked_socket(place.host, place.port, self._patience, self._trust)
        else:
            with contextlib.suppress(socket.gaierror):  # names that only the proxy can resolve
                check_host(place.host, place.port, self._trust)
            sock = socket.create_connection(place.proxy, self._patience.connect)
            if place.secure:
                sock = self._tunnelled(sock)
        if place.secure:
            sock = _tls().wrap_socket(sock, server_hostname=place.host)
        self.sock = _TimedSocket(sock, self)

    def _tunnelled(self, sock: socket.socket) -> socket.socket:
        target = f"{self._place.host}:{self._place.port}"
        sock.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode("ascii"))
        with sock.makefile("rb") as lines:
            status = lines.readline(1 << 12).split()
            while lines.readline(1 << 12).strip():
                pass
        if status[1:2] != [b"200"]:
            sock.close()
            raise OSError(f"the proxy refuses a tunnel: {b' '.join(status)!r}")
        return sock


def _checked_socket(host: str, port: int, patience: Patience, trust: Trust) -> socket.socket:
    """Connect to the host, having checked every address that its name stands for."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, address in found:
        check_address(host, str(address[0]), trust)
    problem = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(patience.connect)
        try:
            sock.connect(address)
        except OSError as error:
            sock.close()
            problem = error
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
    raise problem


@functools.cache
def _tls() -> ssl.SSLContext:
    # Authorities the user added (SSL_CERT_FILE and the system's) count beside the bundled ones.
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


@dataclass(frozen=True)
class _Place:
    """Where a connection leads: host and port, by TLS or not, through a proxy or not."""

    host: str
    port: int
    secure: bool
    proxy: tuple[str, int] | None

    @classmethod
    def of(cls, url: str) -> "_Place":
        parts = urlsplit(url)
        host, secure = parts.hostname or "", parts.scheme.lower() == "https"
        proxy = None
        named = urllib.request.getproxies().get(parts.scheme.lower())
        here = host in ("localhost", "127.0.0.1", "::1")
        if named and not here and not urllib.request.proxy_bypass(host):
            at = urlsplit(named if "//" in named else f"//{named}")
            proxy = (at.hostname or "", at.port or 8080)
        return cls(host, parts.port or (443 if secure else 80), secure, proxy)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An HTTP answer whose body is still to be read.

    Args:
        url: Where it came from, after redirects.
        status: HTTP status.
        headers: Names in lower case.
        pieces: The body, piece by piece.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    pieces: Callable[[], Iterator[bytes]]


class Transport:
    """Connections of one process, kept alive, with one patience and one trust.

    Args:
        patience: Time-outs.
        trust: Hosts that may be private.
    """

    def __init__(self, patience: Patience, trust: Trust) -> None:
        self.patience, self.trust = patience, trust
        self._lock = threading.Lock()
        self._idle: dict[_Place, list[_Connection]] = {}
        self._not_before: dict[str, float] = {}

    @contextlib.contextmanager
    def send(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        secret: Mapping[str, str],
        deadline: float,
        body: bytes | None = None,
    ) -> Iterator[Answer]:
        """Send a GET or POST, follow its redirects, and hand out the answer; any status is an answer.

        Args:
            url: An http or https URL.
            headers: Headers for every host.
            secret: Headers for the host of `url` alone; a redirect to another goes without.
            deadline: When `time.monotonic()` says that this read is over.
            body: What to POST; None for a GET. Only a redirect by 307 or 308 takes it along.

        Raises:
            TransientError: The network failed.
            RefusedError: A redirect leads where nothing is fetched from.
        """
        first = urlsplit(url)
        for _ in range(MAX_REDIRECTS + 1):
            check_href(url, origin=url, trust=self.trust)
            here = urlsplit(url)
            same = (here.scheme, here.netloc) == (first.scheme, first.netloc)
            sent = {**(headers or {}), **(secret if same else {})}
            with self._one(url, sent, deadline, body) as answer:
                target = answer.headers.get("location")
                if answer.status not in REDIRECTS or target is None:
                    yield answer
                    return
                body = body if answer.status in (307, 308) else None
            url = urljoin(url, target)
            if here.scheme == "https" and not url.startswith("https:"):
                raise RefusedError(f"{redact(here.geturl())} redirects from https to {redact(url)}")
        raise ReadError(f"{redact(first.geturl())} redirects more than {MAX_REDIRECTS} times")

    @contextlib.contextmanager
    def _one(
        self, url: str, headers: Mapping[str, str], deadline: float, body: bytes | None
    ) -> Iterator[Answer]:
        place = _Place.of(url)
        self._wait_for(urlsplit(url).netloc, deadline)
        connection, response = self._exchange(place, url, headers, deadline, body)
        whole = False

        def pieces() -> Iterator[bytes]:
            nonlocal whole
            while piece := _network(lambda: response.read1(1 << 18), url):
                yield piece
            if response.length:
                raise TransientError(f"{redact(url)}: the answer was cut short")
            whole = True

        answered = {name.lower(): value for name, value in response.getheaders()}
        try:
            yield Answer(url=url, status=response.status, headers=answered, pieces=pieces)
        finally:
            if not whole and response.length is not None and response.length <= 1 << 14:
                whole = _drained(response)  # an error page: read it and keep the connection
            response.close()
            if whole and not response.will_close:
                self._keep(place, connection)
            else:
                connection.close()

    def _exchange(
        self,
        place: _Place,
        url: str,
        headers: Mapping[str, str],
        deadline: float,
        body: bytes | None,
    ) -> tuple[_Connection, http.client.HTTPResponse]:
        parts = urlsplit(url)
        target = quote(parts.path or "/", safe=_PLAIN)
        if parts.query:
            target += "?" + quote(parts.query, safe=_PLAIN)
        if place.proxy is not None and not place.secure:
            target = f"http://{parts.netloc}{target}"
        fields = {"Accept-Encoding": "identity", "User-Agent": AGENT, **headers}
        while True:
            connection = self._kept(place)
            reused = connection is not None
            if connection is None:
                connection = _Connection(place, self.patience, self.trust)
            connection.clock = Clock(self.patience, deadline)

            def exchange(via: _Connection = connection) -> http.client.HTTPResponse:
                via.request("GET" if body is None else "POST", target, body, fields)
                return via.getresponse()

            try:
                return connection, _network(exchange, url)
            except TransientError as error:
                connection.close()
                # A kept connection that the server closed meanwhile is no failure of the server.
                if not (reused and isinstance(error.__cause__, _CLOSED)):
                    raise
            except BaseException:
                connection.close()
                raise

    def _kept(self, place: _Place) -> _Connection | None:
        with self._lock:
            kept = self._idle.get(place, [])
            while kept:
                connection = kept.pop()
                if time.monotonic() - connection.idle_since < IDLE_SECONDS:
                    return connection
                connection.close()
        return None

    def _keep(self, place: _Place, connection: _Connection) -> None:
        connection.idle_since = time.monotonic()
        with self._lock:
            kept = self._idle.setdefault(place, [])
            if len(kept) < IDLE_PER_HOST:
                kept.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close the connections kept; the transport can be used on."""
        with self._lock:
            kept = [connection for idle in self._idle.values() for connection in idle]
            self._idle.clear()
        for connection in kept:
            connection.close()

    def __del__(self) -> None:
        self.close()

    def hold_back(self, host: str, seconds: float) -> None:
        """A server asked to be left alone: all threads heed it."""
        with self._lock:
            until = max(self._not_before.get(host, 0.0), time.monotonic() + seconds)
            self._not_before[host] = until

    def _wait_for(self, host: str, deadline: float) -> None:
        with self._lock:
            until = self._not_before.get(host, 0.0)
        pause = until - time.monotonic()
        if pause > 0:
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))


_CLOSED = (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)


def _network(action: Callable[[], T], url: str) -> T:
    """Run one step on the network; what may pass becomes a TransientError."""
    try:
        return action()
    except RefusedError:
        raise
    except ssl.SSLCertVerificationError as error:
        message = f"{redact(url)}: its certificate is not valid ({error.verify_message})"
        raise ReadError(message) from error
    except TimeoutError as error:
        raise TransientError(f"{redact(url)}: no answer in time ({error})") from error
    except http.client.IncompleteRead as error:
        raise TransientError(f"{redact(url)}: the answer was cut short") from error
    except (OSError, http.client.HTTPException) as error:
        name = type(error).__name__
        raise TransientError(f"{redact(url)}: the connection failed ({name}: {error})") from error


def _drained(response: http.client.HTTPResponse) -> bool:
    try:
        while response.read1(1 << 14):
            pass
    except (OSError, http.client.HTTPException):
        return False
    return True


def check_status(answer: Answer, expected: tuple[int, ...]) -> None:
    """Pass an expected status; else raise what may pass, or what will not.

    Raises:
        TransientError: Worth another try; `wait` is what Retry-After says.
        StatusError: Not worth one.
    """
    if answer.status in expected:
        return
    reason = http.client.responses.get(answer.status, "unknown status")
    message = f"{redact(answer.url)}: HTTP {answer.status} {reason}"
    if answer.status in TRANSIENT:
        wait = _retry_after(answer.headers.get("retry-after"))
        raise TransientError(message, wait=wait, host=urlsplit(answer.url).netloc)
    raise StatusError(message, answer.status, answer.headers)


def _retry_after(value: str | None) -> float:
    """Seconds that a Retry-After header asks for, given as a number or as a date."""
    if value is None:
        return 0.0
    if value.strip().isdigit():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, when.timestamp() - time.time())


def retry(action: Callable[[], T], *, transport: Transport, deadline: float) -> T:
    """Repeat an action while it fails in passing, with growing waits, until the time is over.

    Args:
        action: What to do; a `TransientError` from it is tried again.
        transport: Whose patience it is.
        deadline: When `time.monotonic()` says that this read is over.

    Returns:
        What the action returns.

    Raises:
        ReadError: It kept failing; the message says how often, how long, and how at last.
    """
    patience = transport.patience
    start, failed, tries = time.monotonic(), 0, 0
    while True:
        tries += 1
        try:
            return action()
        except TransientError as error:
            failed = 0 if error.progress else failed + 1
            spent = time.monotonic() - start
            gave_up = f"{error}; gave up after {tries} tries in {spent:.1f} s"
            if failed > patience.retries or time.monotonic() >= deadline:
                raise ReadError(gave_up) from error
            backoff = min(patience.longest_wait, patience.first_wait * 2 ** max(failed - 1, 0))
            pause = max(error.wait, backoff * random.uniform(0.5, 1.0))  # noqa: S311
            left = deadline - time.monotonic()
            if pause >= left:
                reason = f"the next try should wait {pause:.0f} s, more than the {left:.0f} s left"
                raise ReadError(f"{gave_up}: {reason}") from error
            if error.wait:
                transport.hold_back(error.host, error.wait)
            log.info("%s; trying again in %.1f s", error, pause)
            time.sleep(pause)
