"""One HTTP request that cannot hang, cannot be led astray, and says plainly how it failed.

Each redirect is judged before it is followed, and credentials stay with their origin: scheme, host and port. GDAL's
own HTTP does neither, and it remembers failures. Whatever a server sends ends in an answer or in a `ReadError`.
"""

import contextlib
import datetime as dt
import email.utils
import http.client
import logging
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote, unquote

from remotesam_geo.errors import InputError, ReadError

from .redact import redact
from .sockets import Clock, Connection, Endpoint, Patience, basic
from .trust import LOOPBACK, RefusedError, Trust, check_href, join_url, origin, split_url

__all__ = [
    "Patience",
    "Response",
    "StatusError",
    "TransientError",
    "Transport",
    "body_of",
    "check_status",
    "in_turn",
    "retry",
]

T = TypeVar("T")

log = logging.getLogger(__name__)

AGENT = "remotesam-geo"
REDIRECTS = (301, 302, 303, 307, 308)
TRANSIENT = (408, 421, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524)
MAX_REDIRECTS = 5
IDLE_PER_HOST = 8
IDLE_SECONDS = 30.0
LONGEST_RETRY_AFTER = 1e6  # seconds; more is nonsense, and longer than any read lasts
_PLAIN = "/%:@!$&'()*+,;=~?-._[]"  # what may stand in a request's target as it is


class TransientError(ReadError):
    """A failure that may be gone a moment later.

    Args:
        message: What happened.
        wait: Seconds that the server asks to wait.
        host: The server that asks.
        repeats: Most repetitions that can help; None: as many as `Patience` allows.
    """

    def __init__(self, message: str, *, wait: float = 0.0, host: str = "", repeats: int | None = None) -> None:
        super().__init__(message)
        self.wait, self.host, self.repeats = wait, host, repeats
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


@dataclass(frozen=True, kw_only=True)
class Response:
    """An HTTP answer whose body is still to be read.

    Args:
        url: Where it came from, after redirects.
        status: HTTP status.
        headers: Names in lower case; different values of one name are joined by a comma.
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
        self._idle: dict[Endpoint, list[Connection]] = {}
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
    ) -> Iterator[Response]:
        """Send a GET or POST, follow its redirects, and hand out the answer; any status is an answer.

        Args:
            url: An http or https URL. A user name and password in it are sent to its origin.
            headers: Headers for every host.
            secret: Headers for the origin of `url` alone (scheme, host, port); a redirect elsewhere goes without.
            deadline: When `time.monotonic()` says that this read is over.
            body: What to POST; None for a GET. Only a redirect by 307 or 308 takes it along.

        Raises:
            TransientError: The network failed.
            RefusedError: A redirect leads where nothing is fetched from.
        """
        url, own = _without_user(url)
        secret = {**own, **{name.lower(): value for name, value in secret.items()}}
        first, at_home = origin(url), True
        for _ in range(MAX_REDIRECTS + 1):
            check_href(url, origin=url, trust=self.trust)
            at_home = at_home and origin(url) == first
            with self._one(
                url, _client_request_headers(headers or {}, secret if at_home else {}), deadline, body
            ) as answer:
                target = answer.headers.get("location")
                if answer.status not in REDIRECTS or target is None:
                    yield answer
                    return
                body = body if answer.status in (307, 308) else None
            url = _redirect_target(url, target)
        raise ReadError(f"{redact(url)} redirects more than {MAX_REDIRECTS} times")

    @contextlib.contextmanager
    def _one(self, url: str, headers: Mapping[str, str], deadline: float, body: bytes | None) -> Iterator[Response]:
        place = Endpoint.of(url)
        self._wait_for(split_url(url).netloc, deadline)
        connection, response = self._exchange(place, url, headers, deadline, body)
        whole = False

        def pieces() -> Iterator[bytes]:
            nonlocal whole
            while piece := _network_step(lambda: response.read1(1 << 18), url):
                yield piece
            if response.length:
                raise TransientError(f"{redact(url)}: the answer was cut short")
            whole = True

        try:
            yield Response(url=url, status=response.status, headers=_response_headers(response), pieces=pieces)
        finally:
            if not whole and response.length is not None and response.length <= 1 << 14:
                whole = _drain_client_response(response)  # an error page: read it and keep the connection
            response.close()
            if whole and not response.will_close:
                self._keep(place, connection)
            else:
                connection.close()

    def _exchange(
        self,
        place: Endpoint,
        url: str,
        headers: Mapping[str, str],
        deadline: float,
        body: bytes | None,
    ) -> tuple[Connection, http.client.HTTPResponse]:
        parts = split_url(url)
        target = quote(parts.path or "/", safe=_PLAIN)
        if parts.query:
            target += "?" + quote(parts.query, safe=_PLAIN)
        fields = {"accept-encoding": "identity", "user-agent": AGENT, **headers}
        if place.proxy is not None and not place.secure:
            target = f"http://{parts.netloc}{target}"
            fields |= place.proxy.headers
        while True:
            connection = self._kept(place)
            reused = connection is not None
            if connection is None:
                connection = Connection(place, self.patience, self.trust)
            connection.clock = Clock(self.patience, deadline)

            def exchange(via: Connection = connection) -> http.client.HTTPResponse:
                via.request("GET" if body is None else "POST", target, body, fields)
                response = via.getresponse()
                _check_protocol(response)
                return response

            try:
                return connection, _network_step(exchange, url)
            except TransientError as error:
                connection.close()
                # A kept connection that the server closed meanwhile is no failure of the server.
                if not (reused and isinstance(error.__cause__, _CLOSED)):
                    raise
            except BaseException:
                connection.close()
                raise

    def _kept(self, place: Endpoint) -> Connection | None:
        with self._lock:
            kept = self._idle.get(place, [])
            while kept:
                connection = kept.pop()
                fresh = time.monotonic() - connection.idle_since < IDLE_SECONDS
                if fresh and not connection.has_unread():
                    return connection
                connection.close()
        return None

    def _keep(self, place: Endpoint, connection: Connection) -> None:
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


def _without_user(url: str) -> tuple[str, dict[str, str]]:
    """A URL without user name and password, and the header that says them."""
    parts = split_url(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, {}
    name, _, password = user.partition(":")
    own = {"authorization": basic(f"{unquote(name)}:{unquote(password)}")} if name else {}
    return parts._replace(netloc=host).geturl(), own


def _redirect_target(url: str, target: str) -> str:
    """Where a redirect leads.

    Raises:
        RefusedError: It is not followed, and why.
    """
    with contextlib.suppress(UnicodeError):  # http.client takes UTF-8 for Latin-1
        target = target.encode("latin-1").decode("utf-8")
    there = join_url(url, target)
    named = f"{redact(url)} redirects to {redact(there)}"
    parts = split_url(there)
    if parts.scheme.lower() not in ("http", "https"):
        raise RefusedError(f"{named}, which is no http or https URL: it is not followed")
    if "@" in parts.netloc:
        raise RefusedError(f"{named} under another user name: it is not followed")
    if split_url(url).scheme.lower() == "https" and parts.scheme.lower() != "https":
        raise RefusedError(f"{redact(url)} redirects from https to {redact(there)}")
    return there


def _client_request_headers(headers: Mapping[str, str], secret: Mapping[str, str]) -> dict[str, str]:
    """The headers of a request, names in lower case.

    Raises:
        InputError: One cannot be sent.
    """
    fields = {name.lower(): value for name, value in {**headers, **secret}.items()}
    for name, value in fields.items():
        sendable = re.fullmatch(r"[\t\x20-\x7e\x80-\xff]*", str(value))
        if not (re.fullmatch(r"[!#$%&'*+.^_`|~0-9a-z-]+", name) and sendable):
            raise InputError(
                f"the header {name!r} cannot be sent: its name or its value holds a line break, or "
                "characters outside of Latin-1"
            )
    return fields


def _response_headers(response: http.client.HTTPResponse) -> dict[str, str]:
    """The headers of an answer, names in lower case."""
    values: dict[str, list[str]] = {}
    for name, value in response.getheaders():
        known = values.setdefault(name.lower(), [])
        if value.strip() not in known:
            known.append(value.strip())
    return {name: ", ".join(known) for name, known in values.items()}


def _check_protocol(response: http.client.HTTPResponse) -> None:
    """Refuse an answer whose body http.client would cut at the wrong place."""
    if response.status < 200:
        raise http.client.HTTPException(f"the interim status {response.status} came as an answer")
    coding = (response.getheader("transfer-encoding") or "identity").strip().lower()
    if coding not in ("chunked", "identity"):
        raise http.client.HTTPException(f"the transfer encoding {coding[:40]!r} was not asked for")


def _network_step(action: Callable[[], T], url: str) -> T:
    """Run one step on the network; what may pass becomes a TransientError."""
    try:
        return action()
    except RefusedError:
        raise
    except ssl.SSLCertVerificationError as error:
        message = f"{redact(url)}: its certificate is not valid ({error.verify_message})"
        raise ReadError(message) from error
    except socket.gaierror as error:
        message = f"{redact(url)}: its host could not be looked up ({error.strerror})"
        if error.errno == socket.EAI_AGAIN:
            raise TransientError(f"{message}; is the network there?", repeats=1) from error
        raise ReadError(f"{message}; check its name") from error
    except TimeoutError as error:
        raise TransientError(f"{redact(url)}: no answer in time ({error})") from error
    except http.client.IncompleteRead as error:
        raise TransientError(f"{redact(url)}: the answer was cut short") from error
    except (OSError, http.client.HTTPException) as error:
        name = type(error).__name__
        raise TransientError(
            f"{redact(url)}: the connection failed ({name}: {error})",
            repeats=_times_to_repeat(error, url),
        ) from error


def _times_to_repeat(error: BaseException, url: str) -> int | None:
    """How often it helps to repeat what failed: once where the other side is there and answers wrongly."""
    if isinstance(error, ConnectionRefusedError):
        here = origin(url)[1] in LOOPBACK
        return 1 if here else None
    if isinstance(error, ssl.SSLEOFError | ConnectionError):
        return None
    return 1 if isinstance(error, ssl.SSLError | http.client.HTTPException) else None


def _drain_client_response(response: http.client.HTTPResponse) -> bool:
    try:
        while response.read1(1 << 14):
            pass
    except (OSError, http.client.HTTPException):
        return False
    return True


@contextlib.contextmanager
def in_turn(lock: threading.Lock, deadline: float) -> Iterator[None]:
    """Hold a lock, unless waiting for it takes longer than this read may.

    Raises:
        ReadError: The time for this read is over.
    """
    left = min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)
    if not lock.acquire(timeout=left):
        raise ReadError("the time for this read is over: another one did not finish before it")
    try:
        yield
    finally:
        lock.release()


def body_of(answer: Response, most: int) -> bytes:
    """All of a body that should be short.

    Raises:
        TransientError: It is longer than that.
    """
    body = bytearray()
    for piece in answer.pieces():
        body.extend(piece)
        if len(body) > most:
            raise TransientError(f"{redact(answer.url)}: more came than {most} bytes")
    return bytes(body)


def check_status(answer: Response, expected: tuple[int, ...]) -> None:
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
        raise TransientError(message, wait=wait, host=split_url(answer.url).netloc)
    raise StatusError(message, answer.status, answer.headers)


def _retry_after(value: str | None) -> float:
    """Seconds that a Retry-After header asks for, given as a number or as a date."""
    if value is None:
        return 0.0
    text = value.strip()
    if re.fullmatch(r"[0-9]+", text):
        return min(float(text[:400]), LONGEST_RETRY_AFTER)
    try:
        when = email.utils.parsedate_to_datetime(text)
        when = when if when.tzinfo else when.replace(tzinfo=dt.UTC)
        wait = when.timestamp() - time.time()
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    return min(max(0.0, wait), LONGEST_RETRY_AFTER)


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
            most = patience.retries if error.repeats is None else min(error.repeats, patience.retries)
            if failed > most or time.monotonic() >= deadline:
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
