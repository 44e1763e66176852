"""What may be shown of a URL: never its query, which is where signatures live, nor a password."""

import re
from urllib.parse import urlsplit, urlunsplit

_URL = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>)\]},;]+")


def redact(url: str) -> str:
    """A URL without query, fragment, user and password.

    Example:
        >>> redact("https://me:secret@example.com/a.tif?sig=abc")
        'https://example.com/a.tif?...'
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return (
        urlunsplit((parts.scheme, host, parts.path, "...", ""))
        if parts.query
        else (urlunsplit((parts.scheme, host, parts.path, "", "")))
    )


def redact_text(text: str) -> str:
    """A text with every URL in it redacted.

    Example:
        >>> redact_text("cannot open https://example.com/a.tif?sig=abc today")
        'cannot open https://example.com/a.tif?... today'
    """
    return _URL.sub(lambda found: redact(found.group()), text)
