"""One request: over TLS, through a proxy, redirected, with its secrets; and statuses of all kinds."""

import contextlib
import shutil
import ssl
import subprocess
import time

import numpy as np
import pytest

from remotesam_geo.net import sockets
from remotesam_geo.net.client import (
    Patience,
    Response,
    StatusError,
    TransientError,
    Transport,
    check_status,
)
from remotesam_geo.net.policy import ReadPolicy
from remotesam_geo.net.trust import RefusedError, Trust
from remotesam_geo.raster.odc_driver import SourceError, inspect
from tests.net.fault_server import FaultServer, Reset, Stall, Truncate
from tests.raster import rasters

DATA = rasters.tiff(rasters.picture(3, 300, 300))
GRID = rasters.grid_of(DATA)


def answer(status: int, url: str = "https://a.example/x", **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(url=url, status=status, headers=named, pieces=lambda: iter([]))


@pytest.mark.parametrize("status", [408, 421, 425, 429, 500, 502, 503, 504, 520, 524])
def test_statuses_that_pass(status):
    with pytest.raises(TransientError) as caught:
        check_status(answer(status, retry_after="7"), (200,))
    assert (caught.value.wait, caught.value.host) == (7.0, "a.example")


@pytest.mark.parametrize("status", [204, 304, 400, 401, 403, 404, 405, 410, 416, 451, 501, 999])
def test_statuses_that_do_not(status):
    with pytest.raises(StatusError) as caught:
        check_status(answer(status), (200, 206))
    assert caught.value.status == status


def test_retry_after_as_a_date_and_as_nonsense():
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100_000))
    with pytest.raises(TransientError) as caught:
        check_status(answer(503, retry_after=later), ())
    assert 90_000 < caught.value.wait <= 100_000
    for nonsense in ("soon", "-5", "Mon, 99 Zzz 2026", ""):
        with pytest.raises(TransientError) as caught:
            check_status(answer(503, retry_after=nonsense), ())
        assert caught.value.wait == 0


# --- redirects ------------------------------------------------------------------------------------


class Told(Transport):
    """Answers from a table instead of from the network, and notes what was sent where."""

    def __init__(self, answers: dict[str, Response]) -> None:
        super().__init__(Patience(), Trust())
        self.answers, self.sent = answers, {}

    @contextlib.contextmanager
    def _one(self, url, headers, deadline, body):  # noqa: ARG002
        self.sent[url] = headers
        yield self.answers[url]


def followed(first: str, second: str) -> dict[str, dict[str, str]]:
    told = Told({first: answer(302, first, location=second), second: answer(200, second)})
    with told.send(first, {"range": "r"}, secret={"authorization": "s"}, deadline=1e12) as found:
        assert found.url == second
    return told.sent


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ("https://a.example/x", "https://a.example/y", True),
        ("https://a.example/x", "https://A.example.:443/y", True),
        ("https://bücher.example/x", "https://xn--bcher-kva.example/y", True),
        ("http://a.example/x", "https://a.example/x", False),
        ("http://a.example:80/x", "http://a.example:443/x", False),
        ("https://a.example/x", "https://b.example/x", False),
        ("https://a.example/x", "https://a.example.evil/x", False),
        ("https://a.example/x", "https://a.example:8443/x", False),
        ("http://a.example:8080/x", "http://a.example:8081/x", False),
    ],
)
def test_secrets_stay_with_their_host(first, second, kept):
    sent = followed(first, second)
    assert sent[second]["range"] == "r"
    assert ("authorization" in sent[second]) == kept


def test_no_way_back_from_https():
    with pytest.raises(RefusedError, match=r"redirects from https to http://a.example/x"):
        followed("https://a.example/x", "http://a.example/x")


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def secure(tmp_path):
    """A server with a certificate that nobody has signed, and that certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-keyout", key, "-out", certificate, "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = FaultServer()
    server.wrap(context)
    with server:
        server.files["/a.tif"] = DATA
        yield server, certificate


@pytest.mark.server
def test_a_certificate_that_nobody_signed_is_an_error_at_once(secure):
    server, _ = secure
    with pytest.raises(SourceError, match="certificate is not valid"):
        inspect(f"{server.url}/a.tif", policy=rasters.POLICY)
    assert server.requests == 0


@pytest.mark.server
def test_faults_under_tls(secure, monkeypatch):
    server, certificate = secure
    context = ssl.create_default_context(cafile=certificate)
    monkeypatch.setattr(sockets, "_tls_context", lambda: context)
    faults = (Stall(0), None, Truncate(5000), Stall(3000), Reset(100), Reset())
    server.script("/a.tif", *faults)
    planes, _ = rasters.read(f"{server.url}/a.tif", GRID, policy=rasters.HASTY_POLICY)
    assert np.array_equal(planes, rasters.pixels_of(DATA))
    assert server.requests >= 7  # a busy machine may be late once more


# --- a proxy --------------------------------------------------------------------------------------


@pytest.mark.server
def test_through_the_proxy_that_the_environment_names(monkeypatch):
    with FaultServer() as proxy:
        proxy.files["/a.tif"] = DATA
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        policy = ReadPolicy(patience=rasters.BRISK)
        planes, _ = rasters.read("http://93.184.216.34/a.tif", GRID, policy=policy)
        assert np.array_equal(planes, rasters.pixels_of(DATA))
        assert proxy.seen[0].headers["host"] == "93.184.216.34"
        asked = proxy.requests
        with pytest.raises(SourceError, match="private"):
            rasters.read("http://10.0.0.1/a.tif", GRID, policy=policy)
        assert proxy.requests == asked


@pytest.mark.server
def test_a_proxy_that_refuses_a_tunnel_is_an_error(monkeypatch):
    with FaultServer() as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        with pytest.raises(SourceError, match="the proxy refuses a tunnel"):
            inspect("https://93.184.216.34/a.tif", policy=ReadPolicy(patience=rasters.BRISK))


@pytest.mark.server
def test_odd_characters_in_a_path_are_sent_as_they_must_be():
    with FaultServer() as server:
        server.files["/dir/a%20b%C3%A9.tif"] = DATA
        for name in ("a b\u00e9", "a%20b%C3%A9"):
            assert inspect(f"{server.url}/dir/{name}.tif", policy=rasters.POLICY).shape == (
                300,
                300,
            )
