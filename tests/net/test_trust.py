"""A hostile catalogue: what its items may not make us open, on disk, behind the firewall, in memory."""

import ipaddress
import socket
import struct

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from remotesam_geo.net import trust as safety
from remotesam_geo.net.policy import ReadPolicy
from remotesam_geo.net.trust import Limits, RefusedError, Trust, check_address, check_href
from remotesam_geo.raster.odc_driver import SourceError, inspect
from tests.net.fault_server import FaultServer, NoRanges, Redirect
from tests.raster import rasters

DATA = rasters.tiff(rasters.picture(3, 50, 50))
GRID = rasters.grid_of(DATA)
ITEM = "https://catalogue.example/items/a.json"


@pytest.fixture
def server():
    with FaultServer() as running:
        yield running


# --- hrefs --------------------------------------------------------------------------------------

HOSTILE = [
    "/etc/passwd",
    "../../secret.tif",
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "/vsimem/other/session.tif",
    "/vsicurl/http://169.254.169.254/latest",
    "/VSIZIP//srv/archive.zip/a.tif",
    "vrt:///srv/a.tif",
    "GTIFF_DIR:1:/srv/a.tif",
    'NETCDF:"/srv/a.nc":band',
    "<VRTDataset rasterXSize='1'/>",
    "zip+https://example.com/a.zip!a.tif",
    r"\\server\share\a.tif",
    "C:/Users/me/a.tif",
    "ftp://example.com/a.tif",
    "https:///a.tif",
    "https://example.com/a/../../b.tif",
    "https://example.com/a/%2e%2e/b.tif",
    "https://example.com/a/%252e%252e/b.tif",
    "https://example.com/a\\..\\b.tif",
    "https://example.com//vsis3/bucket/a.tif",
    "https://example.com/a.tif\r\nHost: other",
    "http://127.0.0.1/a.tif",
    "http://10.1.2.3/a.tif",
    "http://169.254.169.254/latest/meta-data/",
    "http://[::1]/a.tif",
    "http://[fd00::1]/a.tif",
    "http://[::ffff:192.168.0.1]/a.tif",
]


@pytest.mark.parametrize("href", HOSTILE)
def test_an_item_from_afar_may_not_name(href):
    with pytest.raises(RefusedError):
        check_href(href, origin=ITEM, trust=Trust())
    with pytest.raises(SourceError):
        inspect(href, origin=ITEM)


@pytest.mark.parametrize(
    "href",
    [
        "https://example.com/a.tif",
        "https://example.com/a..b/c.tif?x=../y",
        "http://93.184.216.34:8080/a.tif",
        "s3://bucket/key.tif",
        "gs://bucket/key.tif",
    ],
)
def test_an_item_from_afar_may_name(href):
    check_href(href, origin=ITEM, trust=Trust())


def test_the_user_may_allow_what_an_item_may_not_name():
    check_href("/data/a.tif", origin=ITEM, trust=Trust(local_files=True))
    check_href("http://10.1.2.3/a.tif", origin=ITEM, trust=Trust(hosts=("10.1.*",)))
    check_href("/data/a.tif", origin=None, trust=Trust())  # their own file
    check_href("/vsizip//data/a.zip/a.tif", origin=None, trust=Trust())
    with pytest.raises(RefusedError, match="give the URL itself"):
        check_href("/vsicurl/https://example.com/a.tif", origin=None, trust=Trust())
    with pytest.raises(RefusedError):
        check_href("/vsizip//data/a.zip/a.tif", origin=ITEM, trust=Trust(local_files=True))


# --- addresses ----------------------------------------------------------------------------------

PRIVATE = [
    "0.0.0.0", "127.0.0.1",  # noqa: S104 - an address to refuse
    "10.0.0.1", "172.16.5.5", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1%eth0", "fc00::1", "ff02::1",
    "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public(address):
    with pytest.raises(RefusedError, match="private, loopback or reserved"):
        check_address("name.example", address, Trust())
    check_address("name.example", address, Trust(hosts=("name.example",)))


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "64:ff9b::808:808"])
def test_addresses_that_are_public(address):
    check_address("name.example", address, Trust())


@given(st.ip_addresses())
def test_no_address_is_public_that_python_calls_private(address):
    if address.is_private or address.is_loopback or address.is_link_local:
        public = address.is_global  # a few well-known blocks inside reserved ones are
        try:
            check_address("name.example", str(address), Trust())
        except RefusedError:
            return
        assert public
        assert isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address)


def resolves(monkeypatch, *answers: str) -> list[str]:
    """Every name resolves to the given addresses; those that were asked for are noted."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host, port, *args, **kwargs):
        asked.append(host)
        if host == "127.0.0.1":
            return real(host, port, *args, **kwargs)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in answers]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


def test_a_name_that_leads_to_a_private_address_is_refused_before_a_connection(monkeypatch, server):
    resolves(monkeypatch, "127.0.0.1")
    port = server.url.rpartition(":")[2]
    with pytest.raises(SourceError, match=r"tiles.example leads to 127.0.0.1, which is private"):
        inspect(f"http://tiles.example:{port}/a.tif", origin=ITEM)
    assert server.requests == 0


def test_one_private_address_among_public_ones_is_enough(monkeypatch):
    resolves(monkeypatch, "93.184.216.34", "10.0.0.1")
    with pytest.raises(SourceError, match=r"leads to 10.0.0.1"):
        inspect("https://tiles.example/a.tif", origin=ITEM)


def test_the_address_that_was_checked_is_the_one_connected_to(monkeypatch, server):
    """A name that resolves to another address the second time leads nowhere: it is not asked twice."""
    server.files["/a.tif"] = DATA
    port = server.url.rpartition(":")[2]
    asked = resolves(monkeypatch, "127.0.0.1")
    policy = ReadPolicy(patience=rasters.BRISK, trust=Trust(hosts=("tiles.example",)))
    inspect(f"http://tiles.example:{port}/a.tif", origin=ITEM, policy=policy)
    assert asked == ["tiles.example"]
    assert server.seen[0].headers["host"] == f"tiles.example:{port}"


@pytest.mark.parametrize("where", ["http://127.0.0.2:{port}/b.tif", "http://inner.example:{port}/b.tif"])
def test_each_redirect_is_judged_and_not_followed_to_a_private_address(monkeypatch, server, where):
    resolves(monkeypatch, "127.0.0.3")
    port = server.url.rpartition(":")[2]
    server.files["/b.tif"] = DATA
    server.script("/a.tif", lambda _: Redirect(where.format(port=port)))
    with pytest.raises(SourceError, match="private"):
        inspect(f"{server.url}/a.tif", origin=ITEM, policy=rasters.POLICY)
    assert [seen.path for seen in server.seen] == ["/a.tif"]


def test_a_redirect_after_the_header_is_judged_too(server):
    big = rasters.tiff(rasters.picture(3, 400, 400))
    server.files["/a.tif"] = big
    server.script("/a.tif", None, Redirect("http://10.0.0.1/a.tif"))
    with pytest.raises(SourceError, match=r"10.0.0.1 is private"):
        rasters.read(f"{server.url}/a.tif", rasters.grid_of(big))


# --- formats ------------------------------------------------------------------------------------


def vrt_of(path: object) -> bytes:
    return (
        '<VRTDataset rasterXSize="50" rasterYSize="50"><SRS>EPSG:32631</SRS>'
        '<GeoTransform>500000, 10, 0, 5000000, 0, -10</GeoTransform><VRTRasterBand dataType="Byte" band="1">'
        f'<SimpleSource><SourceFilename relativeToVRT="0">{path}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    ).encode()


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret.tif"
    path.write_bytes(DATA)
    return path


def test_a_vrt_that_calls_itself_a_tiff_reads_no_other_file(server, secret, tmp_path):
    disguised = tmp_path / "disguised.tif"
    disguised.write_bytes(vrt_of(secret))
    with rasterio.open(disguised) as file:  # what GDAL does of itself
        assert file.read().any()
    server.files["/a.tif"] = vrt_of(secret)
    with pytest.raises(SourceError, match=r"begins with b'<VRTDataset"):
        rasters.read(f"{server.url}/a.tif", GRID)
    policy = ReadPolicy(trust=Trust(local_files=True))
    with pytest.raises(SourceError, match=r"begins with b'<VRTDataset"):
        rasters.read(str(disguised), GRID, policy=policy, origin=ITEM)


def test_a_vrt_that_the_user_names_is_read(secret, tmp_path):
    named = tmp_path / "named.vrt"
    named.write_bytes(vrt_of(secret))
    assert inspect(str(named)).driver == "VRT"


@pytest.mark.parametrize(
    "data",
    [
        b'<GDAL_WMS><Service name="TMS"/></GDAL_WMS>',
        b"CDF\x01netcdf",
        b"\x89HDF\r\n\x1a\nhdf5",
        b"PK\x03\x04a zip",
        b'{"type": "FeatureCollection"}',
        b"%PDF-1.4",
        b"ncols 4\nnrows 4\n",
        b"GDALG",
    ],
    ids=lambda data: data[:8],
)
def test_other_formats_are_not_opened_from_afar(server, data):
    server.files["/a.tif"] = data * 40
    with pytest.raises(SourceError, match="none of the formats opened from afar"):
        inspect(f"{server.url}/a.tif", origin=ITEM, policy=rasters.POLICY)


@pytest.mark.parametrize("driver", ["PNG", "JPEG", "JP2OpenJPEG", "WEBP"])
@pytest.mark.parametrize("ranged", [True, False])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_formats_that_are_read_whole_are_fetched_once(server, driver, ranged):
    planes = rasters.picture(3, 90, 80)
    options = {"JP2OpenJPEG": {"reversible": True, "quality": 100}, "WEBP": {"lossless": True}}
    with rasterio.MemoryFile() as memory:
        with rasterio.MemoryFile(rasters.tiff(planes)) as source, source.open() as file:
            rasterio.shutil.copy(file, memory.name, driver=driver, **options.get(driver, {}))
        data = bytes(memory.getbuffer())
    server.files["/a"] = data
    if not ranged:
        server.script("/a", lambda _: NoRanges())
    info = inspect(f"{server.url}/a", policy=rasters.POLICY)
    assert info.driver == driver
    grid = rasters.grid_of(rasters.tiff(planes))
    expected = planes if driver != "JPEG" else rasters.pixels_of(data)
    for part in (
        np.s_[:, :],
        np.s_[10:20, 10:20],
    ):  # PNG, JPEG, WebP: their item says where they are
        found, _ = rasters.read(f"{server.url}/a", grid[part], told=grid)
        assert np.array_equal(found, expected[(slice(None), *part)])
    assert server.requests <= 2


def test_no_sidecar_is_asked_for(server):
    server.files["/a.tif"] = DATA
    rasters.read(f"{server.url}/a.tif", GRID)
    assert {seen.path for seen in server.seen} == {"/a.tif"}


# --- sizes --------------------------------------------------------------------------------------


def bomb(side: int) -> bytes:
    """94 bytes that declare a huge block."""
    entries = [
        (256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 8), (273, 4, 1, 8),
        (278, 4, 1, side), (279, 4, 1, 9),
    ]  # fmt: skip
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + body


def test_few_bytes_that_declare_a_huge_block_allocate_nothing(server):
    server.files["/a.tif"] = bomb(60_000) + bytes(8)
    assert len(server.files["/a.tif"]) < 110
    with pytest.raises(SourceError, match=r"3,600,000,000 bytes a block, more than the 67,108,864"):
        inspect(f"{server.url}/a.tif", policy=rasters.POLICY)


def test_local_files_are_measured_too(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(DATA)
    with pytest.raises(SourceError, match="3 bands, more than the 2 allowed"):
        inspect(str(path), policy=ReadPolicy(limits=Limits(bands=2)))


def test_a_file_that_can_only_be_fetched_whole_is_not_if_it_is_large(server):
    server.files["/a.tif"] = DATA
    server.script("/a.tif", lambda _: NoRanges())
    policy = ReadPolicy(patience=rasters.BRISK, trust=rasters.HERE, limits=Limits(whole_file_bytes=1000))
    with pytest.raises(SourceError, match="can only be fetched whole"):
        inspect(f"{server.url}/a.tif", policy=policy)
    assert server.bytes_sent < len(DATA) + 1000


@given(st.binary(max_size=40))
def test_only_what_begins_like_an_allowed_format_has_a_driver(start):
    starts = (
        b"II*\0",
        b"II+\0",
        b"MM\0*",
        b"MM\0+",
        b"\xff\xd8\xff",
        b"\x89PNG",
        b"\xff\x4f\xff\x51",
    )
    if start.startswith((*starts, b"RIFF", b"\0\0\0\x0cjP")):
        return
    with pytest.raises(RefusedError):
        safety.remote_driver(start)
