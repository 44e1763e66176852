"""Connections whose every promise is about the socket: the address, and the time.

The address that was checked is the one connected to, and a clock runs over every byte that comes,
the header's too. Built on `http.client`, which leaves both to its user.
"""

import contextlib
import functools
import http.client
import io
import socket
import ssl
import time
import urllib.request
from dataclasses import dataclass
from urllib.parse import urlsplit

import certifi

from .safety import Trust, check_address, check_host


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

    def __init__(self, place: "Place", patience: Patience, trust: Trust) -> None:
        super().__init__(place.host, place.port)
        self._place, self._patience, self._trust = place, patience, trust
        self.idle_since = 0.0

    def connect(self) -> None:
        """Connect, as `http.client` asks for it."""
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
class Place:
    """Where a connection leads: host and port, by TLS or not, through a proxy or not."""

    host: str
    port: int
    secure: bool
    proxy: tuple[str, int] | None

    @classmethod
    def of(cls, url: str) -> "Place":
        """Where a URL's connection leads, with the proxy that the environment names for it."""
        parts = urlsplit(url)
        host, secure = parts.hostname or "", parts.scheme.lower() == "https"
        proxy = None
        named = urllib.request.getproxies().get(parts.scheme.lower())
        here = host in ("localhost", "127.0.0.1", "::1")
        if named and not here and not urllib.request.proxy_bypass(host):
            at = urlsplit(named if "//" in named else f"//{named}")
            proxy = (at.hostname or "", at.port or 8080)
        return cls(host, parts.port or (443 if secure else 80), secure, proxy)
