"""What may be shown of a URL: never its query, which is where signatures live, nor a password."""

import re
from urllib.parse import urlsplit, urlunsplit

_URL = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>]+")
# User and password, up to the last "@" before the query; a number after the colon is a port.
_USER = re.compile(r"(?<=://)(?:[^/?#@\s]*@|[^/?#\s]*:(?!\d+/)[^?#\s]*@)")


def redact(url: str) -> str:
    """A URL without query, fragment, user and password.

    Example:
        >>> redact("https://me:secret@example.com/a.tif?sig=abc")
        'https://example.com/a.tif?...'
    """
    try:
        parts = urlsplit(_USER.sub("", url))
    except ValueError:  # brackets that hold no address
        return "a malformed URL"
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "..." if parts.query else "", ""))


def redact_text(text: str) -> str:
    """A text with every URL in it redacted.

    Example:
        >>> redact_text("cannot open https://example.com/a.tif?sig=abc today")
        'cannot open https://example.com/a.tif?... today'
    """
    return _URL.sub(lambda found: redact(found.group()), text)
