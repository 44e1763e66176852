"""URLs as messages and logs may show them: without query, fragment, user name and password."""

import re
import reprlib
from typing import Any
from urllib.parse import urlsplit, urlunsplit


class _Repr(reprlib.Repr):
    """Short, however large or deep a value is, and without the secrets of URLs."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict, self.maxlist = 3, 4, 6
        self.maxlong = self.maxother = _LONGEST

    def repr_str(self, x: str, level: int) -> str:  # noqa: ARG002 - as reprlib calls it
        text = redact_text(x[:1000])
        return repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")


_LONGEST = 60


_repr = _Repr()


def shown(value: Any) -> str:
    """A value as an error message shows it."""
    return _repr.repr(value)


# A query may hold quotes; where the URL ends is then decided by `redact_text`.
_URL = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>?#]+(?:[?#][^\s<>]*)?")
_END = re.compile(r"['\")\]},.;:]*$")
# User and password, up to the last "@" before the query; a number after the colon is a port.
_USER = re.compile(r"(?:(?<=://)|(?<=^//))(?:[^/?#@\s]*@|[^/?#\s]*:(?!\d+/)[^?#\s]*@)")
# Parameters that carry credentials, where a URL was torn apart or stands without its scheme.
_SECRET = re.compile(
    r"\b(sig|signature|token|access_token|api[_-]?key|password|secret|awsaccesskeyid|"
    r"x-(?:amz|goog)-[a-z-]+)=[^\s&'\"<>]+",
    re.IGNORECASE,
)


def redact(url: str) -> str:
    """A URL without query, fragment, user and password.

    Examples:
        >>> redact("https://me:secret@example.com/a.tif?sig=abc")
        'https://example.com/a.tif?...'
    """
    plain = _USER.sub("", url)
    try:
        parts = urlsplit(plain)
    except ValueError:  # malformed, for example an IPv6 address without its bracket
        place, mark, _ = plain.partition("?")
        return f"{place.partition('#')[0]}{'?...' if mark else ''}"
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "..." if parts.query else "", ""))


def redact_text(text: str) -> str:
    """A text with every URL in it redacted, and the values of parameters that carry credentials.

    Examples:
        >>> redact_text("cannot open https://example.com/a.tif?sig=abc today")
        'cannot open https://example.com/a.tif?... today'
    """

    def shown(found: re.Match[str]) -> str:
        url = found.group()
        end = _END.search(url)
        tail = "" if end is None else end.group()
        return redact(url[: len(url) - len(tail)]) + tail

    return _SECRET.sub(r"\1=...", _URL.sub(shown, text))
