"""Signatures: made at the read, for their own host, renewed in time, and shown nowhere."""

import datetime as dt
import json
import logging
import pickle
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotesam_geo.errors import InputError
from remotesam_geo.net import auth as signing
from remotesam_geo.net.auth import S3, AwsKeys, HrefSigner, PlanetaryComputer, Request
from remotesam_geo.net.client import StatusError, Transport
from remotesam_geo.net.policy import ReadPolicy
from remotesam_geo.net.redact import redact, redact_text
from remotesam_geo.net.trust import Trust
from remotesam_geo.raster.odc_driver import SourceError
from tests.net.fault_server import FaultServer, Redirect, Status, Unsigned
from tests.raster import rasters

pytestmark = pytest.mark.server

DATA = rasters.tiff(rasters.picture(3, 100, 100), tiled=True, blockxsize=64, blockysize=64)
GRID = rasters.grid_of(DATA)


@pytest.fixture
def server():
    with FaultServer() as running:
        yield running


@pytest.fixture(autouse=True)
def no_memory_of_other_tests(monkeypatch):
    monkeypatch.setattr(signing, "_TOKENS", signing._Tokens())
    monkeypatch.setattr(signing, "_REGIONS", {})
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")


def policy(*signers: object) -> ReadPolicy:
    return ReadPolicy(patience=rasters.BRISK, trust=rasters.HERE, signers=signers)


class TokenService:
    """Gives out tokens like the Planetary Computer's; only the newest is good."""

    def __init__(self, server: FaultServer, lifetime: float = 3600) -> None:
        self.server, self.lifetime, self.given = server, lifetime, 0
        self.place = "/token/acc/container"
        server.script(self.place, self.give)

    def give(self, _: int) -> Status | None:
        self.given += 1
        ends = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self.lifetime)
        told = {
            "msft:expiry": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "token": f"se=x&sig=T{self.given}",
        }
        return Status(200, {"Content-Type": "application/json"}, json.dumps(told).encode())

    def good(self) -> set[str]:
        return {f"T{self.given}"}


class Azure(PlanetaryComputer):
    """The Planetary Computer's signer for a store on this machine."""

    def covers(self, href: str) -> bool:
        return "/container/" in href and "sig=" not in href

    def request(self, href, *, transport, deadline, refused=None):
        stood_in = href.replace("http://127.0.0.1", "http://acc.blob.core.windows.net", 1)
        made = super().request(stood_in, transport=transport, deadline=deadline, refused=refused)
        return Request(url=made.url.replace("http://acc.blob.core.windows.net", "http://127.0.0.1", 1))


def azure(server: FaultServer) -> Azure:
    return Azure(endpoint=f"{server.url}/token")


def store(server: FaultServer, service: TokenService, name: str = "a.tif") -> str:
    path = f"/container/{name}"
    server.files[path] = DATA
    server.script(path, lambda _: Unsigned(service.good))
    return f"{server.url}{path}"


def test_a_url_is_signed_when_it_is_read_and_the_token_is_shared(server):
    service = TokenService(server)
    hrefs = [store(server, service, f"{n}.tif") for n in range(4)]
    for href in hrefs:
        rasters.read(href, GRID, policy=policy(azure(server)))
    assert service.given == 1
    signatures = {tuple(seen.query["sig"]) for seen in server.seen if "container" in seen.path[:11]}
    assert signatures == {("T1",)}


def test_many_threads_ask_for_one_token(server):
    service = TokenService(server)
    hrefs = [store(server, service, f"{n}.tif") for n in range(8)]
    threads = [
        threading.Thread(target=rasters.read, args=(href, GRID), kwargs={"policy": policy(azure(server))})
        for href in hrefs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.given == 1


def test_a_token_is_renewed_before_it_ends(server):
    service = TokenService(server, lifetime=60)  # less than the margin
    for name in ("a.tif", "b.tif"):
        rasters.read(store(server, service, name), GRID, policy=policy(azure(server)))
    assert service.given > 1


def test_403_until_signed_anew(server):
    service = TokenService(server)
    signer = azure(server)
    rasters.read(store(server, service, "first.tif"), GRID, policy=policy(signer))
    service.given += 1  # the store does not take the first token any more
    planes, _ = rasters.read(store(server, service, "second.tif"), GRID, policy=policy(signer))
    assert np.array_equal(planes, rasters.pixels_of(DATA))
    assert service.given == 3


def test_403_however_often_it_is_signed(server):
    service = TokenService(server)
    href = store(server, service)
    server.script("/container/a.tif", lambda _: Status(403))
    with pytest.raises(SourceError, match="signed anew 3 times") as caught:
        rasters.read(href, GRID, policy=policy(azure(server)))
    assert "sig=" not in f"{caught.value} {caught.value.__cause__}"


def test_the_token_service_may_fail_in_passing_too(server):
    service = TokenService(server)
    server.script(service.place, lambda n: Status(503) if n < 2 else service.give(n))
    rasters.read(store(server, service), GRID, policy=policy(azure(server)))


def test_a_container_without_token_is_read_as_it_is(server):
    server.files["/container/open.tif"] = DATA
    server.script("/token/acc/container", lambda _: Status(404))
    rasters.read(f"{server.url}/container/open.tif", GRID, policy=policy(azure(server)))
    assert [seen.query for seen in server.seen if seen.path.startswith("/container")] == [{}, {}]


def test_an_answer_without_token_is_an_error(server):
    server.script("/token/acc/container", lambda _: Status(200, {}, b'{"token": 3}'))
    with pytest.raises(SourceError, match="answered no token"):
        rasters.read(f"{server.url}/container/a.tif", GRID, policy=policy(azure(server)))


def test_the_real_services_addresses():
    signer = PlanetaryComputer()
    covered = [
        "https://naipeuwest.blob.core.windows.net/naip/v002/a.tif",
        "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/10/a.tif",
    ]
    others = [
        "https://naipeuwest.blob.core.windows.net/naip/a.tif?st=1&se=2&sig=3",  # signed already
        "https://blob.core.windows.net.evil.example/naip/a.tif",
        "https://evil.example/?x=.blob.core.windows.net/naip",
        "ftp://naipeuwest.blob.core.windows.net/naip/a.tif",
    ]
    assert [signer.covers(href) for href in covered] == [True] * 2
    assert [signer.covers(href) for href in others] == [False] * 4


# --- the user's own -----------------------------------------------------------------------------


def shared_key(href: str) -> str:
    return f"{href}?sig=KEY"


def bearer(href: str) -> Request:
    return Request(url=href, headers={"Authorization": "Bearer KEY"})


@pytest.mark.parametrize("sign", [shared_key, bearer])
def test_the_users_own_signer(server, sign):
    server.files["/a.tif"] = DATA
    server.script("/a.tif", lambda _: Unsigned(lambda: {"KEY", "Bearer KEY"}))
    with pytest.raises(SourceError, match="may want a signature"):
        rasters.read(f"{server.url}/a.tif", GRID, policy=policy())
    signer = HrefSigner(sign=sign, hosts=("127.0.0.1",))
    planes, _ = rasters.read(f"{server.url}/a.tif", GRID, policy=policy(signer))
    assert np.array_equal(planes, rasters.pixels_of(DATA))


def test_the_users_own_signer_is_asked_for_its_own_hosts_alone(server):
    asked: list[str] = []

    def sign(href: str) -> str:
        asked.append(href)
        return href

    server.files["/a.tif"] = DATA
    rasters.read(f"{server.url}/a.tif", GRID, policy=policy(HrefSigner(sign=sign, hosts=("*.org",))))
    assert asked == []
    signer = HrefSigner(sign=sign, hosts=("127.0.0.1",))
    rasters.read(f"{server.url}/a.tif", GRID, policy=policy(signer))
    assert asked


def test_headers_do_not_follow_a_redirect_to_another_host(server):
    with FaultServer() as other:
        server.files["/a.tif"] = other.files["/a.tif"] = other.files["/b.tif"] = DATA
        server.script("/a.tif", lambda _: Redirect(f"{other.url}/b.tif?sig=THEIRS"))
        signer = HrefSigner(sign=bearer, hosts=("127.0.0.1",))
        rasters.read(f"{server.url}/a.tif", GRID, policy=policy(signer))
        assert all("authorization" in seen.headers for seen in server.seen)
        assert other.seen
        assert not any("authorization" in seen.headers for seen in other.seen)


def test_headers_follow_a_redirect_on_the_same_host(server):
    server.files["/b.tif"] = DATA
    server.script("/a.tif", lambda _: Redirect("/b.tif"))
    signer = HrefSigner(sign=bearer, hosts=("127.0.0.1",))
    rasters.read(f"{server.url}/a.tif", GRID, policy=policy(signer))
    assert all("authorization" in seen.headers for seen in server.seen)


# --- S3 -----------------------------------------------------------------------------------------

EXAMPLE = AwsKeys(
    key_id="AKIAIOSFODNN7EXAMPLE",
    secret="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",  # noqa: S106 - published
)


def test_the_signature_of_amazons_own_example():
    """GET Object in "Authenticating Requests: Using the Authorization Header" of the S3 manual."""
    headers = signing.signature_v4(
        "https://examplebucket.s3.amazonaws.com/test.txt",
        EXAMPLE,
        region="us-east-1",
        when=dt.datetime(2013, 5, 24, tzinfo=dt.UTC),
        headers={"range": "bytes=0-9"},
    )
    assert headers["Authorization"].endswith(
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def made(signer: S3, href: str) -> Request:
    transport = Transport(rasters.BRISK, Trust())
    return signer.request(href, transport=transport, deadline=time.monotonic() + 1)


def test_public_buckets_are_asked_unsigned():
    request = made(S3(region="eu-west-1"), "s3://open-data/dir/a b.tif")
    assert request == Request(url="https://open-data.s3.eu-west-1.amazonaws.com/dir/a%20b.tif")
    dotted = made(S3(), "s3://with.dots/a.tif")
    assert dotted.url == "https://s3.us-west-2.amazonaws.com/with.dots/a.tif"
    other = made(S3(endpoint="https://eodata.dataspace.copernicus.eu/"), "s3://eodata/S/a.jp2")
    assert other.url == "https://eodata.dataspace.copernicus.eu/eodata/S/a.jp2"


def test_requester_pays_says_so_signed(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", EXAMPLE.key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", EXAMPLE.secret)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "SESSION")
    signer = S3(buckets=("usgs-landsat",), requester_pays=True)
    assert not signer.covers("s3://another/a.tif")
    request = made(signer, "s3://usgs-landsat/a.TIF")
    assert request.headers["x-amz-request-payer"] == "requester"
    assert request.headers["x-amz-security-token"] == "SESSION"
    assert "x-amz-request-payer" in request.headers["Authorization"]
    assert "SESSION" not in repr(request)
    assert EXAMPLE.secret not in repr(signing.aws_keys())
    assert made(S3(unsigned=True), "s3://usgs-landsat/a.TIF").headers == {}


def test_requester_pays_for_every_bucket_is_refused():
    with pytest.raises(InputError, match="spend your money"):
        S3(requester_pays=True)


def test_credentials_from_awss_own_file(tmp_path, monkeypatch):
    path = tmp_path / "credentials"
    path.write_text("[default]\naws_access_key_id = A\naws_secret_access_key = %B\n[bare]\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    assert signing.aws_keys() == AwsKeys(key_id="A", secret="%B")  # noqa: S106
    with pytest.raises(InputError, match="no profile 'bare' with keys"):
        signing.aws_keys("bare")
    monkeypatch.setenv("AWS_PROFILE", "bare")
    assert signing.aws_keys() is None


def test_a_wrong_region_is_learned_from_the_answer():
    signer, href = S3(), "s3://faraway/a.tif"
    error = StatusError("moved", 301, {"x-amz-bucket-region": "ap-southeast-2"})
    assert signer.learn(href, error)
    assert made(signer, href).url == "https://faraway.s3.ap-southeast-2.amazonaws.com/a.tif"
    assert not signer.learn(href, error)  # nothing new
    assert not signer.learn(href, StatusError("no", 403, {}))


def test_an_s3_store_is_read(server, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", EXAMPLE.key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", EXAMPLE.secret)
    server.files["/bucket/a.tif"] = DATA
    planes, _ = rasters.read("s3://bucket/a.tif", GRID, policy=policy(S3(endpoint=server.url)))
    assert np.array_equal(planes, rasters.pixels_of(DATA))
    assert all(seen.headers["authorization"].startswith("AWS4-HMAC-SHA256") for seen in server.seen)


def test_a_scheme_that_no_signer_covers():
    with pytest.raises(SourceError, match=r"no signer covers s3://b/a.tif"):
        rasters.read("s3://b/a.tif", GRID, policy=policy())


# --- nothing is shown ---------------------------------------------------------------------------


def test_signers_travel_and_do_not_tell():
    signers = (PlanetaryComputer(), S3(), HrefSigner(sign=shared_key, hosts=("a.b",)))
    given = ReadPolicy(signers=signers)
    assert pickle.loads(pickle.dumps(given)) == given
    assert "shared_key" not in repr(given)


def test_no_log_line_holds_a_query(server, caplog):
    server.files["/a.tif"] = DATA
    server.script("/a.tif", Status(503), None, Status(503))
    with caplog.at_level(logging.DEBUG):
        rasters.read(f"{server.url}/a.tif?sig=SECRET", GRID, policy=policy())
    assert "trying again" in caplog.text
    assert "SECRET" not in caplog.text


SECRET = st.text("abcXYZ019%+/=", min_size=6, max_size=20)


@given(secret=SECRET, name=st.sampled_from(["sig", "X-Amz-Signature", "token", "key"]))
def test_redaction_leaves_no_secret(secret, name):
    hidden = f"S{secret}S"
    url = f"https://user:{hidden}@example.com/path/a.tif?{name}={hidden}&b=1#frag{hidden}"
    text = f"cannot open '{url}', nor <{url}>: HTTP 403"
    for shown in (redact(url), redact_text(text)):
        assert hidden not in shown
        assert "example.com/path/a.tif" in shown
    assert redact_text(text).endswith("HTTP 403")


def test_redaction_leaves_what_is_no_url():
    assert redact("/data/a.tif") == "/data/a.tif"
    assert redact_text("nothing here: 12 of 13") == "nothing here: 12 of 13"
