"""Catalogues that are files: trees of JSON here or on the network, item collections, stac-geoparquet."""

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from remotesam_geo.errors import InputError, SearchError
from remotesam_geo.net.json_client import StatusSearchError, Web
from remotesam_geo.net.redact import redact, shown
from remotesam_geo.net.trust import is_remote
from remotesam_geo.notebook import tqdm

from . import geoparquet
from .api import MAX_ITEMS, QUIET_SECONDS
from .catalogs import did_you_mean
from .documents import (
    Document,
    LeftOut,
    MalformedError,
    keep_remote,
    links,
    malformed_links,
    read_json,
    set_self,
)
from .query import Query

THREADS = 8
_GONE = (404, 410)


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a catalogue's file or URL holds.

    Args:
        place: URL or path.
        items: Items in it, if it is a list of items, or an item; some may be malformed.
        node: The catalogue or collection that it is, if it is one.
    """

    place: str
    items: list[Any] = field(default_factory=list)
    node: Document | None = None


def open_page(place: str, web: Web, left: LeftOut) -> Page:
    """Read a catalogue, a collection, an item, or a list of items.

    Args:
        place: URL or path.
        web: Makes requests.
        left: Takes malformed items of a file of items.

    Raises:
        MalformedError: It is not there, or is something else.
        SearchError: It cannot be read.
    """
    data = web.get(place) if is_remote(place) else _read_static_place(place)
    if data[:4] == b"PAR1":
        page = Page(place=place, items=geoparquet.decode(data, place, left))
    else:
        page = _sorted_static_entries(_parse_static_documents(data, place, left), place)
    if is_remote(place):
        for doc in page.items:
            if isinstance(doc, dict):
                keep_remote(doc, place)
    return page


def _read_static_place(place: str) -> bytes:
    path = Path(place)
    try:
        if path.exists() and not path.is_file():  # reading a device or a pipe may never end
            raise MalformedError(f"{place} is no file")
        return path.read_bytes()
    except FileNotFoundError:
        raise MalformedError(f"cannot read the catalogue {place}: No such file") from None
    except ValueError as error:  # names that no file can have
        raise MalformedError(f"cannot read the catalogue {place!r}: {error}") from None
    except OSError as error:
        raise SearchError(f"cannot read the catalogue {place}: {error.strerror}") from error


def _parse_static_documents(data: bytes, place: str, left: LeftOut) -> Document:
    """JSON, or one item a line."""
    try:
        return read_json(data, place)
    except MalformedError:
        lines = [line for line in data.splitlines() if line.strip()]
        docs = [_parse_static_line(line) for line in lines]
        if len(docs) < 2 or docs[0] is None:
            raise
        for number, doc in enumerate(docs, start=1):
            if doc is None:
                left.whole(f"line {number} of {redact(place)}", "it is not a JSON object")
        return {"type": "FeatureCollection", "features": [doc for doc in docs if doc is not None]}


def _parse_static_line(line: bytes) -> Document | None:
    try:
        return read_json(line, "a line")
    except MalformedError:
        return None


def _sorted_static_entries(doc: Document, place: str) -> Page:
    kind = doc.get("type")
    if kind == "FeatureCollection" or isinstance(doc.get("features"), list):
        if is_remote(place) and links(doc, "next"):
            root = links(doc, "root")
            named = f", {redact(str(root[0]['href']))}" if root else ""
            raise SearchError(f"{redact(place)} is one page of an API's answer: search the API itself{named}")
        features = doc.get("features")
        if not isinstance(features, list):
            raise MalformedError(
                f"{redact(place)} is an item collection without a list of items: features is {shown(features)}"
            )
        return Page(place=place, items=features)
    if kind == "Feature":
        set_self(doc, place)
        return Page(place=place, items=[doc])
    if "links" in doc and (kind in ("Catalog", "Collection") or "stac_version" in doc):
        return Page(place=place, node=doc)
    raise MalformedError(
        f"{redact(place)} is no catalogue, collection, item or item collection (type: {shown(kind)}). "
        "To search an API give its root, the page with conformsTo and links."
    )


def search_files(page: Page, question: Query, web: Web, left: LeftOut) -> list[Document]:
    """Ask a catalogue that is made of files, by looking at every item.

    Args:
        page: Its root.
        question: What to ask.
        web: Makes requests.
        left: Takes what is malformed and left out.

    Raises:
        InputError: The question needs a service.
        SearchError: A file cannot be read just now, or there is no such collection.
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
    with closing(_items_below(page, question, known, web, left)) as docs:
        for doc in docs:
            known.add(str(doc.get("collection") or ""))
            try:
                if question.matches(doc):
                    found.append(doc)
            except MalformedError as error:
                left.whole(f"item {doc.get('id')}", str(error))
            if len(found) == enough:
                return found
            if len(found) > max(MAX_ITEMS, question.max_items or 0):
                raise SearchError(f"{redact(page.place)} holds more than {MAX_ITEMS:,} such items; ask for less")
    known.discard("")
    for name in question.collections or () if known else ():
        if name not in known:
            raise SearchError(f"{redact(page.place)} has no collection {name!r}; {did_you_mean(name, known)}")
    return question.order(found)[: question.max_items]


def _items_below(page: Page, question: Query, known: set[str], web: Web, left: LeftOut) -> Generator[Document]:
    """All items below a page, level by level, in the order of the links.

    A file that is malformed or missing is left out; one that cannot be reached ends the search, for the next attempt
    may succeed.
    """

    def opened(place: str) -> Page | MalformedError:
        try:
            return open_page(place, web, left)
        except MalformedError as error:
            return error
        except StatusSearchError as error:
            if error.status not in _GONE:
                raise
            return MalformedError(str(error))

    visited = {page.place}
    level: Iterable[tuple[str, Page | MalformedError]] = [("", page)]
    pool = ThreadPoolExecutor(THREADS)
    progress = tqdm(desc="Walking the catalogue", unit=" files", delay=QUIET_SECONDS, leave=False)
    try:
        while level:
            targets: dict[str, str] = {}
            for parent, here in level:
                progress.update()
                if isinstance(here, MalformedError):
                    left.whole("a file of the catalogue", str(here))
                    continue
                yield from _of_page(here, parent, left)
                for place, name in _link_targets(here, parent, question, known, left):
                    targets.setdefault(place, name)
            places = [place for place in targets if place not in visited]
            visited.update(places)
            if len(visited) > MAX_ITEMS:
                raise SearchError(f"{redact(page.place)} has more than {MAX_ITEMS:,} files; search a part of it")
            pages = pool.map(opened, places)
            level = zip([targets[place] for place in places], pages, strict=True) if places else ()
    finally:
        # Whoever has enough stops here: what is not yet under way need not be fetched.
        pool.shutdown(cancel_futures=True)
        progress.close()


def _of_page(page: Page, parent: str, left: LeftOut) -> Iterator[Document]:
    """The items of a page, each with the collection that leads to it."""
    for position, doc in enumerate(page.items):
        if not isinstance(doc, dict):
            left.whole(f"item {position + 1} of {redact(page.place)}", f"it is {shown(doc)}, not an object")
            continue
        if parent:
            doc.setdefault("collection", parent)
        yield doc


def _link_targets(
    here: Page, parent: str, question: Query, known: set[str], left: LeftOut
) -> Iterator[tuple[str, str]]:
    """Where a catalogue leads: places, each with the collection it belongs to."""
    node, place = here.node or {}, here.place
    for fault in malformed_links(node, "item", "child", "items"):
        left.whole(f"a link of {redact(place)}", fault)
    is_collection = node.get("type") == "Collection" or "extent" in node
    name = str(node.get("id") or "") if is_collection else parent
    if is_collection:
        known.add(name)
    wanted = question.collections is None or not name or name in question.collections
    for link in links(node, "item", "child") or links(node, "items"):
        if not wanted and link["rel"] != "child":
            continue
        try:
            yield _resolved_link(str(link["href"]), place), name
        except MalformedError as error:
            left.whole(f"a link of {redact(place)}", str(error))


def _resolved_link(href: str, place: str) -> str:
    """Where a link leads. From the network it leads to the network, never to a file.

    Raises:
        MalformedError: It leads nowhere that may be opened.
    """
    if is_remote(place):
        scheme, rest = place.split("://", 1)
        try:
            target = urljoin(f"http://{rest}", href)  # urljoin knows no s3
        except ValueError:
            target = ""
        target = scheme + target[4:] if target.startswith("http://") and not is_remote(href) else target
        if not is_remote(target):
            raise MalformedError(f"it leads to {shown(href)}, which is no http, https, s3 or gs URL: it is not opened")
        return target
    if is_remote(href):
        return href
    plain = unquote(urlsplit(href).path) if href.lower().startswith("file:") else href
    try:
        return str((Path(place).parent / plain).resolve())
    except (OSError, ValueError, RuntimeError) as error:  # names that no file can have, circles
        raise MalformedError(f"it leads to {shown(href)}: {error}") from None
