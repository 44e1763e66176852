"""Documents of catalogues over HTTP: within time-outs, repeated where it helps, credentials kept at home."""

import contextlib
import json
import time
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from remotesam_geo.errors import InputError, ReadError, SearchError

from .auth import S3, PlanetaryComputer, request_for
from .client import Patience, Response, TransientError, Transport, check_status, retry
from .redact import redact, redact_text
from .trust import RefusedError, Trust, is_remote, origin

if TYPE_CHECKING:
    from remotesam_geo.net.policy import ReadPolicy

# Catalogues may think for long before their first byte, longer than stores of pixels.
PATIENCE = Patience(stall=60.0, total=300.0, retries=5)
MAX_BYTES = 512 << 20
_SAID = 300


class StatusSearchError(SearchError):
    """An HTTP status from a catalogue.

    Args:
        message: What was answered.
        status: The status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Web:
    """Gets documents for one search.

    Args:
        home: The URL that the user gave: headers go to its scheme, host and port alone, and its
            host may have a private address.
        headers: Credentials and the like.
        policy: Patience, trust and signers; None for a catalogue's own patience.
    """

    def __init__(self, home: str | None, headers: Mapping[str, str] | None, policy: "ReadPolicy | None") -> None:
        try:
            self._home = None if home is None else origin(home)
        except RefusedError as error:
            raise InputError(f"the catalogue's {error}") from None
        self._headers = dict(headers or {})
        trust = Trust() if policy is None else policy.trust
        named = () if self._home is None else (self._home[1],)
        self._signers = (PlanetaryComputer(), S3()) if policy is None else policy.signers
        self._transport = Transport(
            PATIENCE if policy is None else policy.patience,
            Trust(hosts=(*trust.hosts, *named), local_files=trust.local_files),
        )

    def __enter__(self) -> "Web":
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.close()

    def safe(self, url: str) -> str:
        """A link of a catalogue, as it may be followed.

        A service behind a proxy often names itself http where it was asked by https; it is asked by
        https still.

        Raises:
            SearchError: It is no URL of the network, local files above all.
        """
        try:
            scheme, host, port = origin(url)
        except RefusedError as error:
            raise SearchError(f"a remote catalogue leads to a broken link: {error}") from None
        if not is_remote(url):
            raise SearchError(
                f"a remote catalogue leads to {redact_text(url)!r}, which is no http, https, s3 or gs "
                "URL: it is not opened"
            )
        if self._home == ("https", host, 443) and (scheme, port) == ("http", 80):
            parts = urlsplit(url)
            return parts._replace(scheme="https", netloc=parts.netloc.removesuffix(":80")).geturl()
        return url

    def get(self, url: str, body: Mapping[str, Any] | None = None) -> bytes:
        """Get a document, or what a POST of JSON brings.

        Args:
            url: Where.
            body: What to send; None for a GET.

        Raises:
            SearchError: It cannot be had.
        """
        deadline = time.monotonic() + self._transport.patience.total
        sent = None if body is None else json.dumps(body).encode()
        ask = partial(self._ask, self.safe(url), sent, deadline)
        try:
            return retry(ask, transport=self._transport, deadline=deadline)
        except (ReadError, InputError) as error:
            message = redact_text(str(error))
            status = getattr(error, "status", None)
            if isinstance(status, int):
                raise StatusSearchError(message, status) from error
            raise SearchError(message) from error

    def _ask(self, url: str, body: bytes | None, deadline: float) -> bytes:
        request = request_for(url, self._signers, transport=self._transport, deadline=deadline)
        own = self._headers if self._home == origin(request.url) else {}
        plain = {"Accept-Encoding": "gzip", "Accept": "application/geo+json, application/json, */*"}
        if body is not None:
            plain["Content-Type"] = "application/json"
        secret = {**request.headers, **own}
        with self._transport.send(request.url, plain, secret=secret, deadline=deadline, body=body) as answer:
            if answer.status != 200:
                _raise_for_status(answer)
            return b"".join(_decompressed_body(answer))


def _decompressed_body(answer: Response) -> Iterator[bytes]:
    """The body, decompressed, up to a size that a page of a catalogue never has."""
    coding = answer.headers.get("content-encoding", "").lower()
    if coding not in ("", "identity", "gzip", "x-gzip"):
        raise ReadError(f"{redact(answer.url)} answers in the coding {coding[:40]!r}, not in gzip")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16) if "gzip" in coding else None
    left = MAX_BYTES
    for piece in answer.pieces():
        try:
            data = piece if unpack is None else unpack.decompress(piece, left + 1)
        except zlib.error as error:
            raise TransientError(f"{redact(answer.url)}: the answer is damaged ({error})") from error
        left -= len(data)
        if left < 0:
            raise ReadError(f"{redact(answer.url)} answers with more than {MAX_BYTES:,} bytes")
        yield data
    if unpack is not None and (not unpack.eof or unpack.unused_data):
        raise TransientError(f"{redact(answer.url)}: the answer was cut short")


def _raise_for_status(answer: Response) -> None:
    """Raise an error status, with what the service says about it."""
    try:
        check_status(answer, (200,))
    except ReadError as error:
        said = b""
        with contextlib.suppress(ReadError):  # what it says about its failure may fail as well
            for piece in _decompressed_body(answer):
                said += piece
                if len(said) > 1 << 16:
                    break
        text = _message_of_body(said)
        if text:
            error.args = (f"{error.args[0]}: {text}", *error.args[1:])
        raise


def _message_of_body(body: bytes) -> str:
    """The part of an error's body that is meant for people."""
    text = body.decode("utf-8", "replace")
    try:
        doc = json.loads(text)
    except (ValueError, RecursionError):
        doc = None
    if isinstance(doc, dict):
        parts = [doc.get(key) for key in ("description", "detail", "message", "errorMessage")]
        text = next((str(part) for part in parts if part), text)
    elif text.lstrip().startswith("<"):
        return ""
    text = " ".join(text.split())
    return text if len(text) <= _SAID else f"{text[:_SAID]} ..."
