"""`search`: one question to any catalogue."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pystac

from remotesam_geo.errors import InputError, SearchError, instance_of
from remotesam_geo.net.json_client import Web
from remotesam_geo.net.policy import ReadPolicy
from remotesam_geo.net.redact import redact
from remotesam_geo.net.trust import is_remote

from .api import Api, search_api
from .catalogs import CATALOGS, did_you_mean
from .documents import LeftOut, as_items, is_href, links
from .query import Query
from .static import open_page, search_files


def search(
    catalog: str | Path,
    collections: str | Sequence[str] | None = None,
    *,
    bbox: Sequence[float] | None = None,
    intersects: Any = None,
    datetime: Any = None,
    query: Mapping[str, Any] | Sequence[str] | None = None,
    filter: Mapping[str, Any] | str | None = None,  # noqa: A002 (the name that STAC gives it)
    ids: str | Sequence[str] | None = None,
    sortby: str | Sequence[Any] | None = None,
    max_items: int | None = None,
    headers: Mapping[str, str] | None = None,
    policy: ReadPolicy | None = None,
) -> pystac.ItemCollection:
    """Find items in a catalogue of any kind.

    Args:
        catalog: A name ("planetary-computer", "earth-search" ...), the URL of an API or of a static
            catalogue, or a path: a static catalogue or collection, an item collection, items one a
            line, or stac-geoparquet. Alone, it opens what `save_items` wrote.
        collections: One or several ids; None for all.
        bbox: West, south, east, north in degrees; west > east crosses the antimeridian.
        intersects: Instead, shapely (degrees), GeoJSON, a GeoDataFrame or GeoSeries in any CRS.
        datetime: "2021", "2021-06-03", a full time, "start/end" with ".." for an open end, dates,
            datetimes, or two of these.
        query: {"eo:cloud_cover": {"lt": 20}} or ["eo:cloud_cover<20"], for APIs that offer it.
        filter: CQL2 as a dictionary or text, for APIs that offer it.
        ids: Ids of items.
        sortby: "datetime", "-eo:cloud_cover" (falling), or several.
        max_items: Most items wanted; None for all.
        headers: Credentials for the catalogue. They go to its own host alone.
        policy: How patient and how trusting to ask.

    Returns:
        The items, as the catalogue has them, unsigned; empty where nothing is found. What is malformed (an item, an
        asset, a link, a file of a static catalogue) is left out, and one warning names it.

    Raises:
        InputError: A question that cannot be meant, or one that files cannot serve.
        SearchError: A catalogue or collection that does not exist, or one that cannot be read.

    Examples:
        >>> items = search(                                                          # doctest: +SKIP
        ...     "planetary-computer", "naip", bbox=(-87.92, 41.96, -87.88, 41.99), datetime="2021"
        ... )
    """
    if headers is not None:
        instance_of("headers", headers, Mapping, "a mapping of names to values")
    if policy is not None:
        instance_of("policy", policy, ReadPolicy, "ReadPolicy(...), or leave it out")
    question = Query.of(
        collections=collections,
        bbox=bbox,
        intersects=intersects,
        when=datetime,
        query=query,
        cql=filter,
        ids=ids,
        sortby=sortby,
        max_items=max_items,
    )
    place = _catalog_place(catalog)
    left = LeftOut()
    with Web(place if is_remote(place) else None, headers, policy) as web:
        page = open_page(place, web, left)
        if page.node is not None and is_remote(place) and links(page.node, "search"):
            docs = search_api(Api(root=page.node, url=place, web=web), question, left)
        else:
            docs = search_files(page, question, web, left)
    items = as_items(docs, left)
    if left.lost and not items:
        raise SearchError(f"{redact(place)}: nothing was found that can be read: {left}")
    left.warn()
    return pystac.ItemCollection(items, clone_items=False)


def _catalog_place(catalog: str | Path) -> str:
    """The URL or path that a catalogue is known by."""
    if isinstance(catalog, str) and catalog in CATALOGS:
        return CATALOGS[catalog].url
    if not isinstance(catalog, Path) and not is_href(catalog):
        raise InputError(f"catalog must be a name, a URL or a path, not {catalog!r}")
    if isinstance(catalog, str) and is_remote(catalog):
        return catalog
    path = Path(catalog)
    try:
        if path.is_dir():
            names = ("catalog.json", "collection.json")
            path = next((path / name for name in names if (path / name).is_file()), path)
        if path.exists():
            return str(path.resolve())
    except (OSError, ValueError) as error:  # names that no file can have
        raise InputError(f"catalog={str(catalog)[:80]!r} is no path: {error}") from None
    raise SearchError(
        f"there is no file {str(catalog)!r}, and no catalogue of that name; {did_you_mean(str(catalog), CATALOGS)}"
    )
