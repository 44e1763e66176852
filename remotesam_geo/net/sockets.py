"""Connections to checked addresses, with a clock over every byte that comes.

The address that was checked is the one connected to. The clock also runs over the lookup of the name, the proxy's
answer and the header. Built on `http.client`, which leaves all of that to its user.
"""

import base64
import functools
import http.client
import io
import selectors
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import certifi

from remotesam_geo.errors import InputError

from .redact import redact
from .trust import LOOPBACK, RefusedError, Trust, check_address, host_name, split_url

HEADER_BYTES = 1 << 16  # most bytes of a proxy's answer to CONNECT


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait, for what, and how often to try again.

    Args:
        connect: Seconds for a name to be looked up, and for a connection to be made.
        stall: Seconds without a single byte after which an answer is given up.
        slowest: Bytes a second, over `stall` seconds, below which an answer is given up.
        total: Seconds for one read with everything in it: all requests, waits and repetitions.
        retries: Repetitions of one request. A failure that repeating does not cure is repeated less
            often: a name that does not exist not at all, a name service that does not answer, a
            refused connection to this machine, a broken TLS handshake or an answer that is no HTTP
            once.
        first_wait: Seconds before the first repetition; doubled each time, with jitter.
        longest_wait: Most seconds between two repetitions, unless the server asks for more.

    Examples:
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

    def left(self, most: float) -> float:
        """Seconds that one step may take: `most`, or less where the read is over sooner."""
        left = min(most, self._deadline - time.monotonic())
        if left <= 0:
            raise TimeoutError("the time for this read is over")
        return left


class _TimedRaw(io.RawIOBase):
    """The receiving end of a socket, every piece under the connection's clock."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, owner: "Connection") -> None:
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

    def __init__(self, sock: socket.socket, owner: "Connection") -> None:
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


class Connection(http.client.HTTPConnection):
    """A connection to an address that was checked, under a clock that each request sets."""

    clock: Clock

    def __init__(self, place: "Endpoint", patience: Patience, trust: Trust) -> None:
        super().__init__(place.host, place.port)
        self._place, self._patience, self._trust = place, patience, trust
        self.idle_since = 0.0

    def connect(self) -> None:
        """Connect, as `http.client` asks for it."""
        place, clock = self._place, self.clock
        if place.proxy is None:
            found = _resolve_addresses(place.host, place.port, clock.left(self._patience.connect))
            for *_, address in found:
                check_address(place.host, str(address[0]), self._trust)
            sock = self._first_that_connects(place.host, found)
        else:
            self._check_behind_proxy()
            host, port = place.proxy.host, place.proxy.port
            found = _resolve_addresses(host, port, clock.left(self._patience.connect))
            sock = self._first_that_connects(f"the proxy {host}", found)
        try:
            if place.proxy is not None and place.secure:
                self._tunnel_through(sock, place.proxy)
            if place.secure:
                sock.settimeout(clock.left(self._patience.connect))
                sock = _tls_context().wrap_socket(sock, server_hostname=place.host)
        except BaseException:
            sock.close()
            raise
        self._raw = sock
        self.sock = _TimedSocket(sock, self)

    def has_unread(self) -> bool:
        """Whether something came that no request asked for: a kept connection is used no more then.

        The server closed it, or sent more than it had announced.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self._raw, selectors.EVENT_READ)
            return bool(selector.select(0))

    def _check_behind_proxy(self) -> None:
        """Judge the addresses of a host that the proxy resolves, where they are known here too."""
        place = self._place
        try:
            found = _resolve_addresses(place.host, place.port, self.clock.left(self._patience.connect))
        except socket.gaierror:
            return  # names that only the proxy can resolve
        for *_, address in found:
            check_address(place.host, str(address[0]), self._trust)

    def _first_that_connects(self, name: str, found: Sequence[Any]) -> socket.socket:
        problem = OSError(f"{name} has no address")
        for family, kind, protocol, _, address in found:
            wait = self.clock.left(self._patience.connect)
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as error:  # a family that this machine does not have
                problem = error
                continue
            sock.settimeout(wait)
            try:
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                sock.close()
                problem = error
            else:
                return sock
        raise problem

    def _tunnel_through(self, sock: socket.socket, proxy: "Proxy") -> None:
        host = f"[{self._place.host}]" if ":" in self._place.host else self._place.host
        lines = [f"CONNECT {host}:{self._place.port} HTTP/1.1", f"Host: {host}:{self._place.port}"]
        lines += [f"{name}: {value}" for name, value in proxy.headers.items()]
        sock.settimeout(self.clock.left(self._patience.connect))
        sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
        head = b""
        while not head.endswith(b"\r\n\r\n"):  # byte by byte: what follows belongs to TLS
            sock.settimeout(min(self.clock.allowance(), self.clock.left(self._patience.stall)))
            piece = sock.recv(1)
            self.clock.note(len(piece))
            head += piece
            if not piece or len(head) > HEADER_BYTES:
                raise OSError("the proxy's answer is no HTTP")
        status = head.partition(b"\r\n")[0].split()
        if status[1:2] == [b"407"]:
            raise InputError(
                "the proxy wants other credentials (407): correct the user name and password in the "
                f"environment variable that names {proxy.host}"
            )
        if len(status) < 2 or not status[1].startswith(b"2"):
            raise OSError(f"the proxy refuses a tunnel: {b' '.join(status)[:80]!r}")


def _resolve_addresses(host: str, port: int, wait: float) -> Sequence[Any]:
    """Every address that a name stands for.

    The system's lookup cannot be given a time-out: it runs in a thread, which is left behind once the time is over.

    Raises:
        socket.gaierror: The name is not known, or there was no answer within `wait` seconds.
    """
    found: list[Any] = []

    def look_up() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except BaseException as error:  # noqa: BLE001 - raised again where it was asked for
            found.append(error)

    thread = threading.Thread(target=look_up, name="remotesam-lookup", daemon=True)
    thread.start()
    thread.join(wait)
    if not found:
        raise socket.gaierror(socket.EAI_AGAIN, f"no answer about {host!r} within {wait:.0f} s")
    (answer,) = found
    if isinstance(answer, socket.gaierror):
        raise socket.gaierror(answer.errno, f"{answer.strerror}: {host!r}") from answer
    if isinstance(answer, BaseException):
        raise answer
    addresses: Sequence[Any] = answer
    return addresses


@functools.cache
def _tls_context() -> ssl.SSLContext:
    # Authorities the user added (SSL_CERT_FILE and the system's) count beside the bundled ones.
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


@dataclass(frozen=True)
class Proxy:
    """A proxy that the environment names.

    Args:
        host: Its name.
        port: Its port.
        credentials: `user:password` for it alone; never shown.
    """

    host: str
    port: int
    credentials: str | None = field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """What the proxy itself is sent."""
        return {} if self.credentials is None else {"Proxy-Authorization": basic(self.credentials)}


def basic(credentials: str) -> str:
    """The header value for `user:password`."""
    return "Basic " + base64.b64encode(credentials.encode()).decode("ascii")


@dataclass(frozen=True)
class Endpoint:
    """Where a connection leads: host and port, by TLS or not, through a proxy or not."""

    host: str
    port: int
    secure: bool
    proxy: Proxy | None

    @classmethod
    def of(cls, url: str) -> "Endpoint":
        """Where a URL's connection leads, with the proxy that the environment names for it.

        Raises:
            InputError: The environment names something else than a proxy.
        """
        parts = split_url(url)
        host, scheme = host_name(parts.hostname or ""), parts.scheme.lower()
        secure = scheme == "https"
        here = host in LOOPBACK
        proxy = None
        if not here and not urllib.request.proxy_bypass(host):
            proxy = _environment_proxy(scheme)
        port = parts.port if parts.port is not None else 443 if secure else 80
        return cls(host, port, secure, proxy)


def _environment_proxy(scheme: str) -> Proxy | None:
    """The proxy that the environment names for URLs of a scheme, or for all."""
    named = urllib.request.getproxies()
    kind = scheme if named.get(scheme) else "all"
    text = named.get(kind)
    if not text:
        return None
    text = text if "//" in text else f"//{text}"
    wrong = InputError(
        f"the environment variable {kind}_proxy is {redact(text)!r}, which is no proxy: use "
        "http://host:port, with user:password@ if it wants them, or unset it"
    )
    try:
        at = split_url(text)
    except RefusedError:
        raise wrong from None
    if at.scheme.lower() not in ("", "http") or not at.hostname or at.path.strip("/"):
        raise wrong
    secret = None
    if at.username is not None:
        secret = f"{unquote(at.username)}:{unquote(at.password or '')}"
    return Proxy(host_name(at.hostname), at.port if at.port is not None else 8080, secret)
