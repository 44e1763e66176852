"""Catalogues that are files: trees of JSON here or on the network, item collections, stac-geoparquet."""

import json
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from remotesam_geo.errors import InputError, SearchError
from remotesam_geo.notebook import tqdm

from . import geoparquet
from .api import MAX_ITEMS, QUIET_SECONDS
from .catalogs import did_you_mean
from .documents import Document, keep_remote, links, read_json, set_self
from .question import Question
from .redaction import redact
from .safety import is_remote
from .web import Web

THREADS = 8


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a catalogue's file or URL holds.

    Args:
        place: URL or path.
        items: Items in it, if it is a list of items, or an item.
        node: The catalogue or collection that it is, if it is one.
    """

    place: str
    items: list[Document] = field(default_factory=list)
    node: Document | None = None


def open_page(place: str, web: Web) -> Page:
    """Read a catalogue, a collection, an item, or a list of items.

    Args:
        place: URL or path.
        web: Makes requests.

    Raises:
        SearchError: It cannot be read, or is something else.
    """
    data = web.get(place) if is_remote(place) else _read(place)
    if data[:4] == b"PAR1":
        page = Page(place=place, items=geoparquet.decode(data, place))
    else:
        page = _sorted_out(_parse(data, place), place)
    if is_remote(place):
        for doc in page.items:
            keep_remote(doc, place)
    return page


def _read(place: str) -> bytes:
    try:
        return Path(place).read_bytes()
    except OSError as error:
        raise SearchError(f"cannot read the catalogue {place}: {error.strerror}") from error


def _parse(data: bytes, place: str) -> Document:
    """JSON, or one item a line."""
    try:
        return read_json(data, place)
    except SearchError:
        lines = [line for line in data.splitlines() if line.strip()]
        try:
            docs = [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            docs = []
        if len(docs) < 2 or not all(isinstance(doc, dict) for doc in docs):
            raise
        return {"type": "FeatureCollection", "features": docs}


def _sorted_out(doc: Document, place: str) -> Page:
    kind = doc.get("type")
    if kind == "FeatureCollection" or isinstance(doc.get("features"), list):
        if is_remote(place) and links(doc, "next"):
            root = links(doc, "root")
            named = f", {redact(str(root[0]['href']))}" if root else ""
            raise SearchError(
                f"{redact(place)} is one page of an API's answer: search the API itself{named}"
            )
        features = doc.get("features")
        if not isinstance(features, list) or not all(isinstance(item, dict) for item in features):
            raise SearchError(f"{redact(place)} is an item collection without a list of items")
        return Page(place=place, items=features)
    if kind == "Feature":
        set_self(doc, place)
        return Page(place=place, items=[doc])
    if "links" in doc and (kind in ("Catalog", "Collection") or "stac_version" in doc):
        return Page(place=place, node=doc)
    raise SearchError(
        f"{redact(place)} is no catalogue, collection, item or item collection (type: {kind!r}). "
        "To search an API give its root, the page with conformsTo and links."
    )


def search_files(page: Page, question: Question, web: Web) -> list[Document]:
    """Ask a catalogue that is made of files, by looking at every item.

    Args:
        page: Its root.
        question: What to ask.
        web: Makes requests.

    Raises:
        InputError: The question needs a service.
        SearchError: A part cannot be read, or there is no such collection.
    """
    for name, asked in (("query", question.query), ("filter", question.filter)):
        if asked is not None:
            raise InputError(
                f"{redact(page.place)} is made of files and cannot serve {name}=; leave it out and pick "
                "among the items found: [item for item in items if item.properties[...] < ...]"
            )
    known: set[str] = set()
    found: list[Document] = []
    enough = None if question.sortby else question.max_items
    with closing(_items(page, question, known, web)) as docs:
        for doc in docs:
            known.add(str(doc.get("collection") or ""))
            if question.matches(doc):
                found.append(doc)
            if len(found) == enough:
                return found
            if len(found) > max(MAX_ITEMS, question.max_items or 0):
                raise SearchError(
                    f"{redact(page.place)} holds more than {MAX_ITEMS:,} such items; ask for less"
                )
    known.discard("")
    for name in question.collections or () if known else ():
        if name not in known:
            raise SearchError(
                f"{redact(page.place)} has no collection {name!r}; {did_you_mean(name, known)}"
            )
    return question.order(found)[: question.max_items]


def _items(page: Page, question: Question, known: set[str], web: Web) -> Generator[Document]:
    """All items below a page, level by level, in the order of the links."""
    visited = {page.place}
    level: Iterable[tuple[str, Page]] = [("", page)]
    pool = ThreadPoolExecutor(THREADS)
    progress = tqdm(desc="Walking the catalogue", unit=" files", delay=QUIET_SECONDS, leave=False)
    try:
        while level:
            targets: dict[str, str] = {}
            for parent, here in level:
                progress.update()
                for doc in here.items:
                    if parent:
                        doc.setdefault("collection", parent)
                    yield doc
                if here.node is not None:
                    for place, name in _targets(here.node, here.place, parent, question, known):
                        targets.setdefault(place, name)
            places = [place for place in targets if place not in visited]
            visited.update(places)
            if len(visited) > MAX_ITEMS:
                raise SearchError(
                    f"{redact(page.place)} has more than {MAX_ITEMS:,} files; search a part of it"
                )
            pages = pool.map(lambda place: open_page(place, web), places)
            level = zip([targets[place] for place in places], pages, strict=True) if places else ()
    finally:
        # Whoever has enough stops here: what is not yet under way need not be fetched.
        pool.shutdown(cancel_futures=True)
        progress.close()


def _targets(
    node: Document, place: str, parent: str, question: Question, known: set[str]
) -> Iterator[tuple[str, str]]:
    """Where a catalogue leads: places, each with the collection it belongs to."""
    is_collection = node.get("type") == "Collection" or "extent" in node
    name = str(node.get("id") or "") if is_collection else parent
    if is_collection:
        known.add(name)
    wanted = question.collections is None or not name or name in question.collections
    for link in links(node, "item", "child") or links(node, "items"):
        if wanted or link["rel"] == "child":
            yield _resolved(str(link["href"]), place), name


def _resolved(href: str, place: str) -> str:
    """Where a link leads. From the network it leads to the network, never to a file."""
    if is_remote(place):
        scheme, rest = place.split("://", 1)
        target = urljoin(f"http://{rest}", href)  # urljoin knows no s3
        target = (
            scheme + target[4:] if target.startswith("http://") and not is_remote(href) else target
        )
        if not is_remote(target):
            raise SearchError(
                f"the remote catalogue {redact(place)} links to {href!r}, which is no http, https, s3 "
                "or gs URL: it is not opened"
            )
        return target
    if is_remote(href):
        return href
    plain = unquote(urlsplit(href).path) if href.lower().startswith("file:") else href
    return str((Path(place).parent / plain).resolve())
