"""Searching a STAC API by pystac-client, over our own requests and with guards on its pages."""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin

import shapely
from pystac_client import ItemSearch
from pystac_client.stac_api_io import StacApiIO
from requests import Request
from requests.exceptions import RequestException

from remotesam_geo.errors import SearchError
from remotesam_geo.net.json_client import StatusSearchError, Web
from remotesam_geo.net.redact import redact, redact_text, shown
from remotesam_geo.notebook import tqdm

from .catalogs import did_you_mean
from .documents import Document, LeftOut, keep_remote, links, malformed_links, read_json
from .query import Query, interval_text

log = logging.getLogger(__name__)

PAGE_ITEMS = 100
MAX_PAGES = 10_000
MAX_ITEMS = 100_000
MAX_IDLE = 20
QUIET_SECONDS = 2.0
_UNKNOWN = (400, 404, 422)  # how services speak of unknown collections


class ApiIO(StacApiIO):
    """pystac-client's requests, made by `Web`: no file is opened, and no page is asked for twice.

    Args:
        web: Makes the requests.
        left: Takes what is malformed and left out.
    """

    def __init__(self, web: Web, left: LeftOut) -> None:
        super().__init__(max_retries=None)
        self._web, self._left = web, left

    def get_pages(
        self, url: str, method: str | None = None, parameters: dict[str, Any] | None = None
    ) -> Iterator[Document]:
        """All pages with something new on them.

        An empty page with a successor is passed over; what a page repeats is left out.

        Raises:
            SearchError: The pages go round in circles, or have no end.
        """
        asked: set[str] = set()
        seen: set[tuple[str, str]] = set()
        idle = 0
        for _ in range(MAX_PAGES):
            request = json.dumps([url, method, parameters], sort_keys=True)
            if request in asked:
                raise SearchError(f"the pages of {redact(url)} go round in circles")
            asked.add(request)
            page = self._page(url, method, parameters)
            what = "collections" if "collections" in page else "features"
            if not isinstance(page.get(what), list):
                raise SearchError(f"{redact(url)} answers without a list of {what}")
            page[what] = [doc for doc in page[what] if self._is_new(doc, seen)]
            if page[what]:
                idle = 0
                yield page
            for fault in malformed_links(page, "next"):
                self._left.part(f"next page of {redact(url)}", fault)
            following = links(page, "next")
            if not following:
                return
            idle += 1
            if idle > MAX_IDLE:
                raise SearchError(f"{redact(url)}: {idle} pages in a row hold nothing new")
            url, method, parameters = self._next(url, following[0], parameters)
        raise SearchError(f"{redact(url)}: more than {MAX_PAGES:,} pages; ask for less")

    def _page(self, url: str, method: str | None, parameters: dict[str, Any] | None) -> Document:
        if method == "POST":
            page = read_json(self._web.get(url, parameters or {}), url)
        else:
            page = read_json(self._web.get(_with_parameters(url, parameters)), url)
        features = page.get("features")
        for doc in features if isinstance(features, list) else ():
            if isinstance(doc, dict):
                keep_remote(doc, url)
        return page

    def _next(
        self, url: str, link: Mapping[str, Any], parameters: dict[str, Any] | None
    ) -> tuple[str, str, dict[str, Any] | None]:
        href = self._web.safe(joined(url, link["href"]))
        if str(link.get("method", "GET")).upper() != "POST":
            return href, "GET", None
        given = link.get("body")
        body = dict(given) if isinstance(given, Mapping) else {}
        return href, "POST", {**(parameters or {}), **body} if link.get("merge") else body

    def _is_new(self, doc: Any, seen: set[tuple[str, str]]) -> bool:
        if not isinstance(doc, dict):
            self._left.whole("one member of a page", f"it is {shown(doc)}, not an object")
            return False
        key = str(doc.get("collection") or ""), str(doc.get("id"))
        fresh = key not in seen
        seen.add(key)
        return fresh


def _with_parameters(url: str, parameters: dict[str, Any] | None) -> str:
    try:
        return str(Request("GET", url, params=parameters).prepare().url)
    except (RequestException, ValueError) as error:
        raise SearchError(f"{redact(url)} cannot be asked: {redact_text(str(error))}") from error


def joined(url: str, href: str) -> str:
    """Where a link of a page leads.

    Raises:
        SearchError: It is no URL.
    """
    try:
        return urljoin(url, href)
    except ValueError as error:
        raise SearchError(f"{redact(url)} links to {href[:80]!r}, which is no URL: {error}") from None


@dataclass(frozen=True, kw_only=True)
class Api:
    """A STAC API.

    Args:
        root: Its landing page.
        url: Where that came from.
        web: Makes the requests.
    """

    root: Document
    url: str
    web: Web

    def place(self, *relations: str) -> str | None:
        """Where its landing page leads, None where it does not."""
        found = links(self.root, *relations)
        return self.web.safe(joined(self.url, found[0]["href"])) if found else None

    def offers(self, extension: str) -> bool:
        """Whether it declares an extension of item search; True where it declares nothing at all."""
        declared = self.root.get("conformsTo")
        if not isinstance(declared, list) or not declared:
            return True
        pattern = re.compile(rf"item-search\b.*#(.*:)?{extension}\b")
        return any(pattern.search(str(uri)) for uri in declared)


def search_api(api: Api, question: Query, left: LeftOut) -> list[Document]:
    """Ask a STAC API.

    Args:
        api: Which.
        question: What to ask.
        left: Takes what is malformed and left out.

    Returns:
        The items, sorted and cut as asked.

    Raises:
        SearchError: It cannot answer, or knows no such collection.
    """
    _check_offers(api, question)
    methods = {str(link.get("method", "")).upper() for link in links(api.root, "search")}
    sorts = not question.sortby or api.offers("sort")
    search = ItemSearch(
        str(api.place("search")),
        # CQL2 as text belongs into a GET; JSON and large areas into a POST, where there is one.
        method="GET" if methods == {"GET"} or isinstance(question.filter, str) else "POST",
        stac_io=ApiIO(api.web, left),
        max_items=question.max_items if sorts else None,
        limit=min(PAGE_ITEMS, question.max_items or PAGE_ITEMS),
        collections=None if question.collections is None else list(question.collections),
        bbox=question.bbox,
        intersects=_geojson_of_query(question),
        datetime=interval_text(question.interval),
        ids=None if question.ids is None else list(question.ids),
        query=None if question.query is None else dict(question.query),
        filter=dict(question.filter) if isinstance(question.filter, Mapping) else question.filter,
        sortby=_sortby_of_query(question) if sorts else None,
    )
    try:
        docs = _collect_documents(search, question, api)
    except StatusSearchError as error:
        if error.status in _UNKNOWN:
            _check_collections(api, question, set(), left)
        raise
    _check_collections(api, question, {str(doc.get("collection")) for doc in docs}, left)
    return docs if sorts else question.order(docs)[: question.max_items]


def _collect_documents(search: ItemSearch, question: Query, api: Api) -> list[Document]:
    docs: list[Document] = []
    # Short searches stay quiet; it is the long ones that leave one wondering.
    with tqdm(desc="Searching", unit=" items", delay=QUIET_SECONDS, leave=False) as progress:
        for page in search.pages_as_dicts():
            docs += page["features"]
            matched = _number_matched(page)
            progress.total = min(matched, question.max_items or MAX_ITEMS) if matched else None
            progress.update(len(page["features"]))
            if len(docs) > max(MAX_ITEMS, question.max_items or 0):
                raise SearchError(
                    f"{redact(api.url)} finds more than {MAX_ITEMS:,} items; narrow the bbox or "
                    "datetime, or say max_items= to take that many"
                )
    return docs


def _number_matched(page: Document) -> int:
    """How many items a page says there are, for progress only; 0 where it does not say."""
    context = page.get("context")
    for said in (
        page.get("numberMatched"),
        context.get("matched") if isinstance(context, dict) else None,
    ):
        if type(said) is int and said > 0:
            return said
    return 0


def _geojson_of_query(question: Query) -> Document | None:
    if question.area is None or question.bbox is not None:
        return None
    shape: Document = shapely.geometry.mapping(question.area)
    return shape


def _sortby_of_query(question: Query) -> list[dict[str, str]] | None:
    return [{"field": field, "direction": "desc" if falling else "asc"} for field, falling in question.sortby] or None


def _check_offers(api: Api, question: Query) -> None:
    """Refuse what an API would ignore: it would answer with everything, and say nothing."""
    for extension, asked in (("query", question.query), ("filter", question.filter)):
        if asked is not None and not api.offers(extension):
            other = "filter" if extension == "query" else "query"
            instead = f"use {other}=" if api.offers(other) else "leave it out"
            raise SearchError(
                f"{redact(api.url)} does not offer {extension}= and would ignore it; {instead}, or "
                "pick among the items found: [item for item in items if item.properties[...] < ...]"
            )


def _check_collections(api: Api, question: Query, found: set[str], left: LeftOut) -> None:
    """Refuse collections that do not exist; only those without any item are asked about."""
    place = api.place("data", "collections")
    for name in question.collections or ():
        if name in found or place is None:
            continue
        try:
            api.web.get(f"{place.rstrip('/')}/{quote(name, safe='')}")
        except StatusSearchError as error:
            if error.status not in _UNKNOWN:
                log.info("%s does not say whether it has %s: %s", redact(api.url), name, error)
                continue
            pages = ApiIO(api.web, left).get_pages(place)
            there = [str(doc.get("id")) for page in pages for doc in page["collections"]]
            if name not in there:
                raise SearchError(
                    f"{redact(api.url)} has no collection {name!r}; {did_you_mean(name, there)}"
                ) from None
