"""Signatures are made when a URL is read, kept in no graph, and shown nowhere.

Items, graphs, recipes and results hold the hrefs of the catalogue. A read asks the first signer
that covers an href for the request to send. A signature goes to the origin it was made for (scheme, host and port)
and to no other, redirects included.
"""

import configparser
import datetime as dt
import hashlib
import hmac
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, quote, urlsplit

from remotesam_geo.errors import InputError, ReadError

from .client import StatusError, Transport, body_of, check_status, in_turn, retry
from .redact import redact
from .trust import is_meant_for, matches, origin


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is sent for an href.

    Args:
        url: The URL, with its signature if it has one.
        headers: Headers for this URL's origin alone: its scheme, host and port.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Request(url={redact(self.url)!r}, headers={sorted(self.headers)})"


class Signer(Protocol):
    """Makes the request for the hrefs it covers. Signers travel to workers: they pickle."""

    def covers(self, href: str) -> bool:
        """Whether this signer knows what to send for an href."""
        ...

    def request(self, href: str, *, transport: Transport, deadline: float, refused: Request | None = None) -> Request:
        """The request for an href.

        Args:
            href: As the catalogue has it.
            transport: For a signer that must ask for a token.
            deadline: When `time.monotonic()` says that the read is over.
            refused: The last request, if its signature was refused: make a new one.
        """
        ...

    def learn(self, href: str, error: StatusError) -> bool:
        """Whether a refusal taught something that makes another try worth while."""
        ...


def request_for(
    href: str,
    signers: tuple[Signer, ...],
    *,
    transport: Transport,
    deadline: float,
    refused: Request | None = None,
) -> Request:
    """The request for an href, by the first signer that covers it, or as it stands.

    Raises:
        InputError: It has a scheme that no signer covers.
    """
    for signer in signers:
        if signer.covers(href):
            return signer.request(href, transport=transport, deadline=deadline, refused=refused)
    scheme = urlsplit(href).scheme.lower()
    if scheme == "gs":
        parts = urlsplit(href)
        return Request(url=f"https://storage.googleapis.com/{parts.netloc}{quote(parts.path)}")
    if scheme not in ("http", "https"):
        raise InputError(f"no signer covers {redact(href)}: pass S3() among the signers")
    return Request(url=href)


def learns(href: str, signers: tuple[Signer, ...], error: StatusError) -> bool:
    """Whether the signer of an href can do better after a refusal."""
    return next((s.learn(href, error) for s in signers if s.covers(href)), False)


@dataclass(frozen=True, kw_only=True)
class HrefSigner:
    """The user's own signing.

    Args:
        sign: From an href to the URL to send, or to a `Request` with headers. It is called at each
            read and whenever a signature is refused; it must pickle to be used on a cluster.
        hosts: The hosts it signs for, `*` standing for any text; it is asked for no other. A host means https
            on port 443; say `host:8443` for another port and `http://host:8080` for plain http. A host of
            this machine (localhost, 127.0.0.1) means any port, and http too.

    Examples:
        >>> signer = HrefSigner(sign=lambda href: f"{href}?key=1", hosts=("*.example.com",))
        >>> signer.covers("https://data.example.com/a.tif"), signer.covers("https://other.org/a.tif")
        (True, False)
    """

    sign: Callable[[str], str | Request] = field(repr=False)
    hosts: tuple[str, ...]

    def covers(self, href: str) -> bool:
        """Whether the href's scheme, host and port are among those named."""
        return is_meant_for(href, self.hosts)

    def request(self, href: str, *, transport: Transport, deadline: float, refused: Request | None = None) -> Request:
        """What the user's function makes of the href."""
        del transport, deadline, refused
        signed = self.sign(href)
        if not isinstance(signed, str | Request):
            raise InputError(
                f"HrefSigner: sign returned {type(signed).__name__} for {redact(href)}: return the URL "
                "to send, or a Request"
            )
        return signed if isinstance(signed, Request) else Request(url=signed)

    def learn(self, href: str, error: StatusError) -> bool:
        """A new signature may do."""
        del href
        return error.status in (401, 403)


@dataclass(frozen=True, kw_only=True)
class PlanetaryComputer:
    """Tokens of Microsoft's Planetary Computer: one a container, shared, renewed before they end.

    Args:
        endpoint: Where tokens are given out.
        suffix: The storage hosts that it gives them for.

    Examples:
        >>> PlanetaryComputer().covers("https://naipeuwest.blob.core.windows.net/naip/a.tif")
        True
    """

    endpoint: str = "https://planetarycomputer.microsoft.com/api/sas/v1/token"
    suffix: str = ".blob.core.windows.net"

    def covers(self, href: str) -> bool:
        """Whether the href lies in Azure's blob storage and is not signed already."""
        scheme, host, port = origin(href)
        return (
            (scheme, port) in (("https", 443), ("http", 80))
            and host.endswith(self.suffix)
            and not {"sig", "se"} <= set(_query_of_href(href))
        )

    def request(self, href: str, *, transport: Transport, deadline: float, refused: Request | None = None) -> Request:
        """The href with its container's token, which is sent by https alone."""
        parts = urlsplit(href)
        account = origin(href)[1].removesuffix(self.suffix)
        container = parts.path.lstrip("/").partition("/")[0]
        place = f"{self.endpoint}/{quote(account)}/{quote(container)}"
        stale = urlsplit(refused.url).query if refused is not None else None
        token = _TOKENS.get(place, stale, lambda: _ask_for_token(place, transport, deadline), deadline)
        if not token:
            return Request(url=href)
        query = f"{parts.query}&{token}" if parts.query else token
        if origin(href)[::2] == ("http", 80):
            parts = parts._replace(scheme="https", netloc=parts.netloc.removesuffix(":80"))
        return Request(url=parts._replace(query=query, fragment="").geturl())

    def learn(self, href: str, error: StatusError) -> bool:
        """A new token may do."""
        del href
        return error.status in (401, 403)


def _query_of_href(href: str) -> dict[str, list[str]]:
    try:
        return parse_qs(urlsplit(href).query)
    except ValueError:  # more parameters than Python takes apart: no signature looks like that
        return {}


def _ask_for_token(place: str, transport: Transport, deadline: float) -> tuple[str, float]:
    """A token and the second it ends; none for a container that the service does not know."""
    key = os.environ.get("PC_SDK_SUBSCRIPTION_KEY")
    secret = {"Ocp-Apim-Subscription-Key": key} if key else {}

    def once() -> tuple[str, float]:
        with transport.send(place, secret=secret, deadline=deadline) as answer:
            if answer.status == 404:  # not one of its containers: public, or not ours to sign
                return "", time.time() + 600
            check_status(answer, (200,))
            return _token_of_body(body_of(answer, 1 << 16), place)

    return retry(once, transport=transport, deadline=deadline)


def _token_of_body(body: bytes, place: str) -> tuple[str, float]:
    try:
        told = json.loads(body)
        ends = dt.datetime.fromisoformat(told["msft:expiry"])
        if not isinstance(told["token"], str):
            raise TypeError("the token is no text")
        return told["token"], ends.timestamp()
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ReadError(f"{redact(place)} answered no token: {type(error).__name__}") from error


class _Tokens:
    """The tokens of this process: asked for once however many threads want one."""

    margin = 300.0  # a token must outlive the read that uses it

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking: dict[str, threading.Lock] = {}
        self._kept: dict[str, tuple[str, float]] = {}

    def get(
        self,
        place: str,
        stale: str | None,
        ask: Callable[[], tuple[str, float]],
        deadline: float,
    ) -> str:
        """The token of a place, a new one if it ends soon or is the one that was refused."""
        with self._lock:
            asking = self._asking.setdefault(place, threading.Lock())
        with in_turn(asking, deadline):
            token, ends = self._kept.get(place, ("", 0.0))
            refused = stale is not None and (not token or token in stale)
            if time.time() > ends - self.margin or refused:
                token, ends = self._kept[place] = ask()
            return token


_TOKENS = _Tokens()


@dataclass(frozen=True, kw_only=True)
class S3:
    """Buckets of Amazon S3 and of stores that speak its language: public, private, requester-pays.

    Without credentials in the environment or in AWS's own files requests are unsigned, as public
    buckets want them.

    Args:
        buckets: Names of the buckets covered, `*` standing for any text.
        requester_pays: Agree to pay for the transfer. Only for buckets named in `buckets`.
        unsigned: Never sign.
        region: Region of the buckets; None: learned from the first answer.
        endpoint: URL of another store, "https://eodata.dataspace.copernicus.eu" for example.
        profile: Section of AWS's own files to take credentials from.

    Examples:
        >>> S3(buckets=("usgs-landsat",), requester_pays=True).covers("s3://usgs-landsat/a.TIF")
        True
    """

    buckets: tuple[str, ...] = ("*",)
    requester_pays: bool = False
    unsigned: bool = False
    region: str | None = None
    endpoint: str | None = None
    profile: str | None = None

    def __post_init__(self) -> None:
        if self.requester_pays and "*" in self.buckets:
            raise InputError(
                "requester_pays for every bucket would let a catalogue spend your money: "
                "name them, S3(buckets=('usgs-landsat',), requester_pays=True)"
            )

    def covers(self, href: str) -> bool:
        """Whether the href names one of the buckets."""
        parts = urlsplit(href)
        return parts.scheme.lower() == "s3" and matches(parts.netloc, self.buckets)

    def request(self, href: str, *, transport: Transport, deadline: float, refused: Request | None = None) -> Request:
        """The object's URL, with signature headers where there are credentials."""
        del transport, deadline, refused
        parts = urlsplit(href)
        bucket, key = parts.netloc, quote(parts.path, safe="/-_.~")
        region = self.region or _REGIONS.get(bucket) or os.environ.get("AWS_REGION") or "us-west-2"
        if self.endpoint is not None:
            url = f"{self.endpoint.rstrip('/')}/{bucket}{key}"
        elif "." in bucket:  # a dot in the bucket's name does not fit the host's certificate
            url = f"https://s3.{region}.amazonaws.com/{bucket}{key}"
        else:
            url = f"https://{bucket}.s3.{region}.amazonaws.com{key}"
        keys = None if self.unsigned else aws_keys(self.profile)
        if keys is None:
            return Request(url=url)
        extra = {"x-amz-request-payer": "requester"} if self.requester_pays else {}
        when = dt.datetime.now(dt.UTC)
        return Request(url=url, headers=signature_v4(url, keys, region=region, when=when, headers=extra))

    def learn(self, href: str, error: StatusError) -> bool:
        """The answer of a wrong region names the right one."""
        region, bucket = error.headers.get("x-amz-bucket-region"), urlsplit(href).netloc
        if region is None or self.region is not None or _REGIONS.get(bucket) == region:
            return False
        _REGIONS[bucket] = region
        return True


_REGIONS: dict[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class AwsKeys:
    """Credentials as AWS gives them out; never shown."""

    key_id: str
    secret: str = field(repr=False)
    session: str | None = field(default=None, repr=False)


def aws_keys(profile: str | None = None) -> AwsKeys | None:
    """Credentials from the environment, else from AWS's own file, else none.

    Args:
        profile: Section of the file; None: AWS_PROFILE, else "default".
    """
    env = os.environ
    if profile is None and env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"):
        return AwsKeys(
            key_id=env["AWS_ACCESS_KEY_ID"],
            secret=env["AWS_SECRET_ACCESS_KEY"],
            session=env.get("AWS_SESSION_TOKEN"),
        )
    named = env.get("AWS_SHARED_CREDENTIALS_FILE")
    path = Path(named) if named else Path.home() / ".aws" / "credentials"
    if not path.is_file():
        return None
    file = configparser.ConfigParser(interpolation=None)
    try:
        file.read(path, encoding="utf-8")
    except (
        configparser.Error,
        UnicodeDecodeError,
        OSError,
    ) as error:  # whose text shows lines of the file
        raise InputError(
            f"{path} is no credentials file of AWS ({type(error).__name__}): correct it, or use S3(unsigned=True)"
        ) from None
    section = profile or env.get("AWS_PROFILE") or "default"
    names = ("aws_access_key_id", "aws_secret_access_key")
    if not all(file.has_option(section, name) for name in names):
        if profile is not None:
            raise InputError(f"no profile {profile!r} with keys in {path}: {file.sections()}")
        return None
    return AwsKeys(
        key_id=file[section]["aws_access_key_id"],
        secret=file[section]["aws_secret_access_key"],
        session=file[section].get("aws_session_token"),
    )


def signature_v4(
    url: str, keys: AwsKeys, *, region: str, when: dt.datetime, headers: Mapping[str, str]
) -> dict[str, str]:
    """Headers that sign a GET of an S3 object (AWS Signature Version 4).

    Args:
        url: The object's URL.
        keys: Credentials.
        region: Region of the bucket.
        when: Now, in UTC.
        headers: Further headers to sign and send.
    """
    parts = urlsplit(url)
    stamp, empty = when.strftime("%Y%m%dT%H%M%SZ"), hashlib.sha256(b"").hexdigest()
    sent = {"x-amz-content-sha256": empty, "x-amz-date": stamp, **headers}
    if keys.session:
        sent["x-amz-security-token"] = keys.session
    signed = {"host": parts.netloc, **{name.lower(): value for name, value in sent.items()}}
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name].strip()}\n" for name in sorted(signed))
    canonical = f"GET\n{parts.path or '/'}\n{parts.query}\n{lines}\n{names}\n{empty}"
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    key = f"AWS4{keys.secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    sent["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return sent
