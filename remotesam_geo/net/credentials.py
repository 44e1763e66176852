"""Find signatures, tokens and passwords in addresses, so that none is ever stored.

Recipes and job plans hold unsigned addresses only. The reader signs them at each read (`ReadPolicy.signers`).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from remotesam_geo.errors import InputError

from .redact import redact

__all__ = [
    "check_no_secrets",
    "secrets_in",
    "stripped",
]

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>]+")
_SECRET = re.compile(
    r"x-amz-.*|x-goog-.*|sig|.*signature.*|.*token.*|.*credential.*|.*secret.*|.*passw(or)?d.*|pass|pwd|.*api[-_]?key"
    r"|.*access[-_]?key.*|.*subscription[-_]?key|key|awsaccesskeyid|googleaccessid|key-pair-id|auth|.*authorization"
    r"|jwt|sas|hmac",
    re.IGNORECASE,
)
_BESIDE = frozenset({
    "sv", "ss", "srt", "sp", "se", "st", "spr", "sr", "si", "sip", "ses", "skoid", "sktid", "skt", "ske", "sks", "skv",
    "saoid", "suoid", "scid", "sdd", "expires", "policy",
})  # fmt: skip
"""What stands beside a signature in a signed URL and means nothing without it."""


def secrets_in(text: str) -> list[str]:
    """The parameters of every URL in a text that hold a signature, token or password.

    Examples:
        >>> secrets_in("https://me:pw@example.com/a.tif?sig=abc&page=2")
        ['user:password@', 'sig']
        >>> secrets_in("https://example.com/a.tif?page=2")
        []
    """
    found: list[str] = []
    for url in _URL.findall(text):
        parts = urlsplit_safely(url)
        if "@" in parts[1]:
            found.append("user:password@")
        for query in parts[3:5]:
            found += [name for name, _ in _credential_query_pairs(query) if _SECRET.fullmatch(name.strip())]
    return found


def stripped(url: str) -> str:
    """A URL without signatures, tokens and passwords; other parameters stay.

    Examples:
        >>> stripped("https://account.blob.core.windows.net/c/a.tif?sv=2020&se=2030&sig=abc&page=2")
        'https://account.blob.core.windows.net/c/a.tif?page=2'
    """
    scheme, host, path, query, _ = urlsplit_safely(url)
    kept = [
        part
        for part in query.split("&")
        if not any(
            _SECRET.fullmatch(name.strip()) or name.strip().lower() in _BESIDE
            for name, _ in _credential_query_pairs(part)
        )
    ]
    return urlunsplit((scheme, host.rpartition("@")[2], path, "&".join(kept), ""))


def urlsplit_safely(url: str) -> tuple[str, str, str, str, str]:
    """The parts of a URL, also of one with a malformed host."""
    try:
        return tuple(urlsplit(url))  # type: ignore[return-value]
    except ValueError:
        scheme, _, rest = url.partition("://")
        host, _, path = rest.partition("/")
        path, _, query = path.partition("?")
        return scheme, host, path, query, ""


def check_no_secrets(doc: Any) -> None:
    """Refuse to store a document in which a URL holds a secret.

    Raises:
        InputError: One does; the message names it without the secret.
    """
    for text in _texts_with_credentials(doc):
        found = secrets_in(text)
        if found:
            url = next(url for url in _URL.findall(text) if secrets_in(url))
            host = urlsplit_safely(url)[1].rpartition("@")[2].partition(":")[0]
            raise InputError(
                f"{redact(url)} holds a signature or password ({', '.join(dict.fromkeys(found))}), which is not "
                "stored. Give the address without it, and let the reader sign it: "
                f"ReadPolicy(signers=(HrefSigner(sign=..., hosts=({host!r},)),)); S3() signs s3://bucket/key, "
                "PlanetaryComputer() signs Azure's blobs"
            )


def _texts_with_credentials(doc: Any) -> Iterator[str]:
    if isinstance(doc, str):
        if "://" in doc:
            yield doc
    elif isinstance(doc, Mapping):
        for name, value in doc.items():
            yield from _texts_with_credentials(name)
            yield from _texts_with_credentials(value)
    elif isinstance(doc, list | tuple):
        for value in doc:
            yield from _texts_with_credentials(value)


def _credential_query_pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, keep_blank_values=True)
    except ValueError:  # more fields than are parsed
        return [(part.partition("=")[0], "") for part in query.split("&")]
