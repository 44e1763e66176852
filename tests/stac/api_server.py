"""A STAC API whose answers are scripted, request by request, and counted."""

import gzip
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any


@dataclass
class Reply:
    """One answer: a JSON document, or bytes as they are."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0
    cut: int | None = None
    zipped: bool = False

    def data(self) -> bytes:
        data = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        return gzip.compress(data) if self.zipped else data


Route = Callable[[Asked], Reply]


class ApiServer:
    """Serves `routes` on a loopback port: a path to a function of the request, or replies in turn."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.seen: list[Asked] = []
        self._closing = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                server._answer(self)

            def do_POST(self) -> None:
                server._answer(self)

            def log_message(self, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def say(self, path: str, *replies: Any) -> None:
        """Replies to the next requests of a path in turn; the last one stays."""
        given = [reply if isinstance(reply, Reply) else Reply(reply) for reply in replies]
        left = iter(given)
        self.routes[path] = lambda _: next(left, given[-1])

    def api(self, *extensions: str, **more: Any) -> None:
        """A landing page that offers item search, with extensions of it."""
        search = "https://api.stacspec.org/v1.0.0/item-search"
        self.say(
            "/",
            {
                "type": "Catalog",
                "stac_version": "1.0.0",
                "id": "scripted",
                "description": "",
                "conformsTo": [search, *(f"{search}#{name}" for name in extensions)],
                "links": [
                    {"rel": "search", "href": f"{self.url}/search", "method": "GET"},
                    {"rel": "search", "href": f"{self.url}/search", "method": "POST"},
                    {"rel": "data", "href": f"{self.url}/collections"},
                ],
            }
            | more,
        )

    def __enter__(self) -> "ApiServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        sent = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        asked = Asked(
            handler.command,
            parts.path,
            parse_qs(parts.query),
            headers,
            json.loads(sent) if sent else None,
        )
        self.seen.append(asked)
        route = self.routes.get(parts.path, lambda _: Reply({"description": "not here"}, 404))
        reply = route(asked)
        data = reply.data()
        self._closing.wait(reply.wait)
        lines = [f"HTTP/1.1 {reply.status} Scripted", f"Content-Length: {len(data)}"]
        lines += ["Content-Encoding: gzip"] * reply.zipped
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        handler.wfile.write(("\r\n".join(lines) + "\r\n\r\n").encode() + data[: reply.cut])
        handler.close_connection = reply.cut is not None


def page(*docs: Any, following: Any = None) -> dict[str, Any]:
    """One page of items; `following` is the href of the next page, or a whole link."""
    link = {"rel": "next", "href": following} if isinstance(following, str) else following
    return {"type": "FeatureCollection", "features": list(docs), "links": [link] if link else []}


def thing(name: str, collection: str = "things", **properties: Any) -> dict[str, Any]:
    """The smallest item."""
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": name,
        "collection": collection,
        "geometry": {"type": "Point", "coordinates": [7.0, 46.0]},
        "bbox": [7.0, 46.0, 7.0, 46.0],
        "links": [],
        "assets": {},
        "properties": {"datetime": "2024-05-01T10:00:00Z"} | properties,
    }
