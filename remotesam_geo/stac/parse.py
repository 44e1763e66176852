"""Read where the wanted assets of items lie with odc-stac."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import pystac
from odc.geo.geobox import GeoBox
from odc.stac import parse_items

from .items import Item

_EXTENSIONS = ["https://stac-extensions.github.io/projection/v2.0.0/schema.json"]
_TIME = datetime(2000, 1, 1, tzinfo=UTC)  # pystac wants one; `Item.time` is the item's


def parse_grids(wanted: Iterable[tuple[Item, Iterable[str]]]) -> Iterator[dict[str, GeoBox]]:
    """Yield the grids of some assets of each item, by `odc.stac.parse_items`.

    odc-stac is given only these assets, which takes 0.1 ms an item instead of 1.5 ms, with projection fields that it
    can read.

    Args:
        wanted: Items, and the keys of their assets.

    Yields:
        The grid of each asset; an asset whose projection is missing or malformed is left out.
    """
    for parsed in parse_items(_cut(item, keys) for item, keys in wanted):
        grids = {asset: source.geobox for asset, (source, *_) in parsed.assets().items()}
        yield {asset: grid for asset, grid in grids.items() if isinstance(grid, GeoBox)}


def _cut(item: Item, keys: Iterable[str]) -> pystac.Item:
    found = {key: fields for key in keys if (fields := item.projection(key))}
    # odc-stac expects the same assets to share a grid in all items of a collection
    distinct = list(found.values())
    kind = ",".join(f"{key}={distinct.index(fields)}" for key, fields in found.items())
    cut = pystac.Item(item.id, None, None, _TIME, {}, stac_extensions=_EXTENSIONS, collection=kind)
    for key, fields in found.items():
        cut.add_asset(key, pystac.Asset("/", media_type="image/tiff", extra_fields=fields))
    return cut
