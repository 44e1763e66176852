"""Downloads, against a server of our own that speaks as the hub does."""

import hashlib
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from huggingface_hub import constants

from remotesam_geo.errors import InputError, ModelError
from remotesam_geo.model import RemoteSAMConfig, RemoteSAMModel, convert
from remotesam_geo.model import hub as hub_module
from remotesam_geo.model.hub import RELEASED, Release, fetch
from remotesam_geo.model.weights import locate

OLD, NEW = "a" * 40, "b" * 40


@dataclass
class Hub:
    """What the server holds, and what it was asked for."""

    files: dict[tuple[str, str, str], bytes] = field(default_factory=dict)  # repo, commit, name
    branches: dict[tuple[str, str], str] = field(default_factory=dict)  # repo, branch
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    break_after: int | None = None  # bytes of the next body, then the connection is cut
    corrupt: bool = False


def handler(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, *, body):
            wanted = self.headers.get("Range")
            hub.asked.append((self.command, self.path, wanted))
            owner, name, verb, revision, *rest = self.path.strip("/").split("/")
            repo = f"{owner}/{name}"
            commit = hub.branches.get((repo, revision), revision)
            content = hub.files.get((repo, commit, "/".join(rest)))
            if verb != "resolve" or content is None:
                known = any(key[0] == repo for key in hub.files)
                at = any(key[:2] == (repo, commit) for key in hub.files)
                code = "EntryNotFound" if at else "RevisionNotFound" if known else "RepoNotFound"
                self.send_response(404)
                self.send_header("X-Error-Code", code)
                self.send_header("X-Repo-Commit", commit)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            first = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
            part = content[first:]
            self.send_response(206 if wanted else 200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", commit)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(part)))
            if wanted:
                self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if not body:
                return
            if hub.corrupt:
                part = part[:-1] + bytes([part[-1] ^ 1])
            if hub.break_after is not None:
                self.wfile.write(part[: hub.break_after])
                hub.break_after = None
                self.close_connection = True
                self.wfile.flush()
                self.connection.close()
                return
            self.wfile.write(part)

    return Handler


@pytest.fixture
def hub(monkeypatch, tmp_path):
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    yield hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def release(hub):
    """A released file, and a later one on the same branch."""
    old, new = b"old weights " * 1000, b"new weights " * 1000
    hub.files = {("us/model", OLD, "w.pth"): old, ("us/model", NEW, "w.pth"): new}
    hub.branches = {("us/model", "main"): OLD}
    return Release(repo="us/model", files={"w.pth": hashlib.sha256(old).hexdigest()})


pytestmark = pytest.mark.server


def test_a_file_is_downloaded_once_and_kept(hub, release):
    first = fetch(release)
    assert (first.folder / "w.pth").read_bytes() == hub.files["us/model", OLD, "w.pth"]
    assert first.revision == OLD
    hub.asked.clear()
    hub.branches["us/model", "main"] = NEW
    assert fetch(release) == first
    assert hub.asked == []


def test_another_revision_has_to_be_named(hub, release):
    fetch(release)
    hub.branches["us/model", "main"] = NEW
    other = fetch(release, revision=NEW)
    assert other.revision == NEW
    assert (other.folder / "w.pth").read_bytes() == hub.files["us/model", NEW, "w.pth"]
    hub.asked.clear()
    assert fetch(release, revision=NEW) == other  # a commit is never asked for again
    assert hub.asked == []
    assert fetch(release, revision="main") == other  # a branch is
    assert hub.asked


def test_a_broken_connection_is_taken_up_where_it_broke(hub, release, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what is written at a time
    hub.break_after = 5000
    snapshot = fetch(release)
    assert (snapshot.folder / "w.pth").read_bytes() == hub.files["us/model", OLD, "w.pth"]
    assert any(wanted == "bytes=5000-" for _, _, wanted in hub.asked)


def test_a_newer_file_is_not_taken_for_the_pinned_one(hub, release):
    hub.branches["us/model", "main"] = NEW
    for _ in range(2):  # the second time it is not found in the cache either
        with pytest.raises(ModelError, match=r"is not the w\.pth that .* revision=") as error:
            fetch(release)
        assert release.files["w.pth"] in str(error.value)


def test_a_file_damaged_on_its_way_is_not_kept(hub, release):
    hub.corrupt = True
    with pytest.raises(ModelError, match=r"is not the w\.pth"):
        fetch(release)
    hub.corrupt = False
    assert fetch(release).revision == OLD


def test_what_others_put_into_the_cache_is_held_to_the_pin(hub, release):
    fetch(Release(repo="us/model", files={"w.pth": None}))
    assert fetch(release).revision == OLD
    newer = Release(repo="us/model", files={"w.pth": "0" * 64})
    with pytest.raises(ModelError, match=r"is not the w\.pth"):
        fetch(newer)


def test_offline_what_is_here_works_and_what_is_not_is_explained(hub, release, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="offline mode") as error:
        fetch(release)
    text = str(error.value)
    assert f"{constants.ENDPOINT}/us/model/resolve/main/w.pth" in text
    place = hub_module.by_hand(release) / "w.pth"
    assert str(place) in text
    assert hub.asked == []
    place.parent.mkdir(parents=True)  # as the message says
    place.write_bytes(b"carried here")
    snapshot = fetch(release)
    assert (snapshot.folder / "w.pth").read_bytes() == b"carried here"
    assert snapshot.revision is None
    place.unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    fetch(release)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(release, local_files_only=True).revision == OLD


def test_no_network_at_all_is_explained(tmp_path, monkeypatch):
    """Every connection out of this process is refused, as pytest-socket does here."""
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between the attempts of the library
    with pytest.raises(ModelError, match="could not be downloaded") as error:
        RemoteSAMModel.from_pretrained(cache_dir=tmp_path / "cache")
    text = str(error.value)
    assert "RemoteSAMv1.pth of 1e12Leon/RemoteSAM" in text
    assert "https://huggingface.co/1e12Leon/RemoteSAM/resolve/main/RemoteSAMv1.pth" in text
    assert str(tmp_path / "remotesam_geo" / "RemoteSAM" / "RemoteSAMv1.pth") in text
    assert str(tmp_path / "cache") in text


@pytest.mark.parametrize(
    ("repo", "revision", "message"),
    [
        ("us/model", "c" * 40, "Revision Not Found"),
        ("us/nothing", None, "Repository Not Found"),
        ("us/other", None, r"404|Entry Not Found"),
    ],
)
def test_what_the_hub_does_not_have_is_explained(hub, release, repo, revision, message):
    hub.files["us/other", OLD, "README.md"] = b""
    hub.branches["us/other", "main"] = OLD
    with pytest.raises(ModelError, match=message) as error:
        fetch(Release(repo=repo, files={"w.pth": None}), revision=revision)
    assert "put it here" in str(error.value)


def test_the_files_of_a_release_are_of_one_commit(hub):
    """The branch moves between two files."""
    for commit in (OLD, NEW):
        for name in ("config.json", "w.safetensors"):
            hub.files["us/two", commit, name] = f"{commit} {name}".encode()
    hub.branches["us/two", "main"] = OLD
    release = Release(repo="us/two", files={"config.json": None, "w.safetensors": None}, optional=("t.json",))
    get = hub.branches.get

    def moving(key, default=None):
        commit = get(key, default)
        hub.branches["us/two", "main"] = NEW
        return commit

    hub.branches = type("Moving", (dict,), {"get": staticmethod(moving)})(hub.branches)
    snapshot = fetch(release)
    commits = {path.read_text().split()[0] for path in snapshot.folder.iterdir() if path.is_file()}
    assert commits == {snapshot.revision}
    hub.asked.clear()
    assert fetch(release) == snapshot  # nor is the optional file asked for again
    assert hub.asked == []


def test_a_foreign_repository_needs_a_commit(hub, tmp_path):
    config = RemoteSAMConfig(
        image_size=32,
        widths=(4,) * 4,
        depths=(1,) * 4,
        heads=(1,) * 4,
        window_size=2,
        decoder_width=2,
        text_config={
            "hidden_size": 4,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "intermediate_size": 4,
            "vocab_size": 30522,
        },
    )
    torch.save({"model": RemoteSAMModel(config).state_dict()}, tmp_path / "own.pth")
    origin = convert(tmp_path / "own.pth", tmp_path / "own", config=config)
    for name in ("config.json", "model.safetensors"):
        hub.files["them/theirs", OLD, name] = (tmp_path / "own" / name).read_bytes()
    hub.branches["them/theirs", "main"] = OLD
    for revision in (None, "main", OLD[:7]):
        with pytest.raises(InputError, match=r"40 digits.*them/theirs/commits/main"):
            RemoteSAMModel.from_pretrained("them/theirs", revision=revision)
    assert hub.asked == []
    model = RemoteSAMModel.from_pretrained("them/theirs", revision=OLD)
    assert model.origin.sha256 == origin.sha256
    assert (model.origin.source, model.origin.revision) == ("them/theirs", OLD)
    again = RemoteSAMModel.from_pretrained(
        model.origin.source, revision=model.origin.revision, sha256=model.origin.sha256
    )
    assert again.origin == model.origin


def test_the_released_weights_are_what_nothing_means(hub, monkeypatch):
    content = b"PK the released file"
    hub.files["1e12Leon/RemoteSAM", OLD, "RemoteSAMv1.pth"] = content
    hub.branches["1e12Leon/RemoteSAM", "main"] = OLD
    with pytest.raises(ModelError, match=RELEASED.files["RemoteSAMv1.pth"]):
        locate()
    pinned = Release(repo=RELEASED.repo, files={"RemoteSAMv1.pth": hashlib.sha256(content).hexdigest()})
    monkeypatch.setattr(hub_module, "RELEASED", pinned)
    for source in (None, "1e12Leon/RemoteSAM"):
        found = locate(source)
        assert found.weights.read_bytes() == content
        assert found.folder is None
        assert (found.name, found.revision) == ("1e12Leon/RemoteSAM", OLD)
