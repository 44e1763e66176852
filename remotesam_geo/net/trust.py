"""What a catalogue may make us open: hrefs, hosts, formats, sizes, checked before the first byte.

An item is written by whoever runs the catalogue. Its hrefs may name local files, machines behind
the firewall, or formats that name further files; its rasters may declare any size. Nothing of that
is opened unless the user allowed it by `Trust` or `Limits`.
"""

import fnmatch
import ipaddress
import math
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from remotesam_geo.errors import ReadError

from .redact import redact

REMOTE_SCHEMES = ("http", "https", "s3", "gs")

# How each format that is opened from afar begins, and the one driver it is opened with. None of
# them can name another file. VRT, WMS, netCDF and the like are not here, by design.
REMOTE_FORMATS = (
    (re.compile(rb"II[*+]\x00|MM\x00[*+]"), "GTiff"),
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"\x00\x00\x00\x0cjP {2}\r\n\x87\n|\xff\x4f\xff\x51"), "JP2OpenJPEG"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WEBP"),
)


class DamagedError(ReadError):
    """Bytes that are not what their format says they are."""


class RefusedError(ReadError):
    """Something that is not opened on purpose, however often it is asked for."""


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What the user allows beyond public hosts.

    Args:
        hosts: Names or addresses, with `*` as wildcard, that may be private or loopback.
        local_files: Whether remote items may name files of this machine.

    Examples:
        >>> Trust(hosts=("tiles.intranet.example", "10.0.*")).allows("10.0.3.7")
        True
    """

    hosts: tuple[str, ...] = ()
    local_files: bool = False

    def allows(self, host: str) -> bool:
        """Whether a host may have a private address."""
        return matches(host, self.hosts)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The largest raster that is opened.

    Args:
        bands: Bands of a file.
        side: Rows or columns.
        block_bytes: Bytes of one block, decoded.
        whole_file_bytes: Bytes of a file that can only be fetched whole (JPEG 2000, PNG, a server
            without byte ranges).
    """

    bands: int = 1024
    side: int = 1 << 22
    block_bytes: int = 64 << 20
    whole_file_bytes: int = 512 << 20


def matches(host: str, patterns: tuple[str, ...]) -> bool:
    """Whether a host name is one of those given, `*` standing for any text."""
    name = host.lower().strip("[]").rstrip(".")
    return any(fnmatch.fnmatchcase(name, pattern.lower()) for pattern in patterns)


def is_remote(href: str) -> bool:
    """Whether an href has one of the schemes that are read over the network."""
    return href.lstrip().partition(":")[0].lower() in REMOTE_SCHEMES


def split_url(url: str) -> SplitResult:
    """Take a URL apart; its host and port are valid then.

    Raises:
        RefusedError: It is malformed.
    """
    try:
        parts = urlsplit(url)
        host_name(parts.hostname or "")
        _ = parts.port
    except ValueError as error:
        raise RefusedError(f"{redact(url)!r} is not a valid URL ({redact(str(error))}): correct it") from None
    return parts


def join_url(base: str, href: str) -> str:
    """The URL that an href means where it stands in the document at `base`.

    Raises:
        RefusedError: It is malformed.
    """
    try:
        return urljoin(base, href)
    except ValueError:
        raise RefusedError(f"{redact(base)} leads to {redact(href)!r}, which is no URL") from None


def host_name(host: str) -> str:
    """A host's name in the one spelling that is compared and connected to.

    Raises:
        ValueError: It cannot be a host's name.

    Examples:
        >>> host_name("Bücher.Example."), host_name("0:0:0:0:0:0:0:1")
        ('xn--bcher-kva.example', '::1')
    """
    name = host.lower().removesuffix(".")
    try:
        return ipaddress.ip_address(name).compressed
    except ValueError:
        return name.encode("idna").decode("ascii").lower()


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of a URL: credentials for one origin go to no other.

    Raises:
        RefusedError: The URL is malformed.

    Examples:
        >>> origin("HTTPS://Example.com./a") == origin("https://example.com:443/b")
        True
    """
    parts = split_url(url)
    scheme = parts.scheme.lower()
    port = parts.port if parts.port is not None else {"http": 80, "https": 443}.get(scheme)
    return scheme, host_name(parts.hostname or ""), port


_SIGNED_FOR = re.compile(r"(?:(https?)://)?(\[[^\]]*\]|[^:/]*)(?::(\d+))?")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def is_meant_for(url: str, patterns: tuple[str, ...]) -> bool:
    """Whether credentials for these origins may be sent to a URL.

    Args:
        url: Where they would be sent.
        patterns: `host`, `host:port` or `scheme://host:port`, `*` in a host standing for any text. Without
            a scheme https is meant, without a port the scheme's own; a host of this machine is meant
            with any of both.

    Examples:
        >>> is_meant_for("https://a.example.com/b", ("*.example.com",))
        True
        >>> is_meant_for("http://a.example.com/b", ("*.example.com",))
        False
    """
    scheme, host, port = origin(url)
    usual = {"https": 443, "http": 80}.get(scheme)
    for pattern in patterns:
        parts = _SIGNED_FOR.fullmatch(pattern)
        wanted, name, number = parts.groups() if parts else (None, pattern, None)
        right_scheme = scheme == (wanted or "https") or (wanted is None and host in LOOPBACK)
        right_port = port == (int(number) if number else usual) or (number is None and host in LOOPBACK)
        if right_scheme and right_port and matches(host, (name.strip("[]"),)):
            return True
    return False


def check_href(href: str, *, origin: str | None, trust: Trust) -> None:
    """Refuse what an item must not name.

    Args:
        href: What is to be opened.
        origin: The URL of the item that names it; None where the user, or a file of theirs, does.
        trust: What the user allows.

    Raises:
        RefusedError: The href is not opened, and why.

    Examples:
        >>> check_href("https://example.com/a.tif", origin=None, trust=Trust())
    """
    if re.search(r"[\x00-\x1f\x7f]", href):
        raise RefusedError(f"{redact(href)!r} holds control characters: correct the item's href")
    if is_remote(href):
        _check_trusted_url(href, trust)
    elif href.lower().startswith("/vsi") and (origin or _VSI_REMOTE.search(href)):
        raise RefusedError(f"{redact(href)!r} is a GDAL virtual path: give the URL itself")
    elif origin is not None and not trust.local_files:
        raise RefusedError(
            f"the remote item {redact(origin)} names {redact(href)!r}, which is no http, https, s3 or gs "
            "URL; "
            "local files are opened for it only with Trust(local_files=True)"
        )


_VSI_REMOTE = re.compile(r"/vsi(curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs)", re.IGNORECASE)


def _check_trusted_url(href: str, trust: Trust) -> None:
    parts = split_url(href)
    path = unquote(unquote(parts.path))
    if ".." in re.split(r"[/\\]", path) or "\\" in path or "/vsi" in path.lower():
        raise RefusedError(
            f"the path {parts.path!r} of {parts.scheme}://{parts.hostname} holds '..', a backslash "
            "or a GDAL virtual path: correct the item's href"
        )
    if not parts.hostname:
        raise RefusedError(f"{parts.scheme}:{parts.path!r} names no host: correct the item's href")
    if parts.scheme.lower() in ("http", "https"):
        try:
            address = ipaddress.ip_address(parts.hostname)
        except ValueError:
            return  # a name: checked where it is resolved
        check_address(parts.hostname, str(address), trust)


def check_host(host: str, port: int, trust: Trust) -> None:
    """Resolve a host and refuse it if any of its addresses is private.

    Args:
        host: Name or address.
        port: Port that will be used.
        trust: What the user allows.

    Raises:
        RefusedError: It leads to a private address.
        OSError: It cannot be resolved.
    """
    for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        check_address(host, str(address[0]), trust)


def check_address(host: str, address: str, trust: Trust) -> None:
    """Refuse an address that is not public, unless its host is trusted.

    Examples:
        >>> check_address("example.com", "93.184.216.34", Trust())
    """
    if not (trust.allows(host) or trust.allows(address) or _is_public_address(address)):
        named = host if host == address else f"{host} leads to {address}, which"
        raise RefusedError(
            f"{named} is private, loopback or reserved; if you know it, allow it with Trust(hosts=({host!r},))"
        )


def _is_public_address(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        # Addresses that carry an IPv4 address lead where that one leads.
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public_address(str(inner))
    return ip.is_global and not ip.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def remote_driver(start: bytes) -> str:
    """The driver for a remote file that begins with these bytes.

    Raises:
        RefusedError: It is none of the formats that are opened from afar.

    Examples:
        >>> remote_driver(b"II*" + bytes(5))
        'GTiff'
    """
    for pattern, driver in REMOTE_FORMATS:
        if pattern.match(start):
            return driver
    names = ", ".join(driver for _, driver in REMOTE_FORMATS)
    raise RefusedError(f"the file begins with {start[:24]!r} and is none of the formats opened from afar ({names})")


def file_driver(path: str) -> str:
    """The driver for a local file that a remote item names: by its first bytes, like a remote one.

    Raises:
        RefusedError: It is none of the formats that are opened for an item.
        OSError: It cannot be read.
    """
    with Path(path).open("rb") as file:
        return remote_driver(file.read(16))


def check_size(shape: tuple[int, int], bands: int, block: tuple[int, int], itemsize: float, limits: Limits) -> None:
    """Refuse a raster by what it declares, before anything is allocated for it.

    Args:
        shape: Rows and columns.
        bands: Bands of the file.
        block: Rows and columns of a block.
        itemsize: Bytes of a pixel of a block, over all bands that it holds.
        limits: The largest that is opened.

    Raises:
        RefusedError: It is larger, or empty.
    """
    bytes_a_block = math.prod(block) * itemsize
    for value, most, what in (
        (max(shape), limits.side, "rows or columns"),
        (bands, limits.bands, "bands"),
        (bytes_a_block, limits.block_bytes, "bytes a block"),
    ):
        if value > most:
            raise RefusedError(
                f"the raster declares {value:,.0f} {what}, more than the {most:,} allowed; raise Limits if you trust it"
            )
    if min(*shape, bands, *block) < 1:
        raise RefusedError(f"the raster declares {shape} pixels, {bands} bands, blocks of {block}")


def local_path(href: str) -> str:
    """The path that a local href means, `file:` or plain."""
    if href[:5].lower() != "file:":
        return href
    parts = split_url(href)
    if parts.netloc not in ("", "localhost"):
        raise RefusedError(f"{redact(href)!r} names another machine: copy the file or give its URL")
    return str(Path(unquote(parts.path)))
