"""What the command line looks at: a raster, saved items, or what a catalogue finds."""

import inspect
import json
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer

from remotesam_geo.errors import InputError

from .printing import MisuseError

__all__ = ["Bbox", "Bounds", "Catalog", "Collection", "Datetime", "MaxItems", "opened", "table"]

Bounds = tuple[float, float, float, float]
Catalog = Annotated[
    str | None,
    typer.Option(help="A catalogue to search: a name, a URL, or a path; then SOURCE is '-'."),
]
Collection = Annotated[list[str] | None, typer.Option("--collection", help="A collection of it; may be given again.")]
Bbox = Annotated[Bounds | None, typer.Option(help="West, south, east, north in degrees.", metavar="W S E N")]
Datetime = Annotated[str | None, typer.Option(help="2021, 2021-06-03, or start/end.")]
MaxItems = Annotated[int | None, typer.Option(help="Most items wanted.")]

ITEMS = (".json", ".geojson", ".ndjson", ".geoparquet", ".parquet")
NO_SOURCE = "-"


def opened(
    source: str,
    *,
    catalog: str | None,
    collection: list[str] | None,
    bbox: Bounds | None,
    datetime: str | None,
    max_items: int | None,
    load: str | None,
) -> Any:
    """The scene that a command is about.

    Args:
        source: A raster, saved items, or "-" with a catalogue.
        catalog: Where to search.
        collection: What to search in.
        bbox: Where.
        datetime: When.
        max_items: How many.
        load: Arguments of `load` as JSON.
    """
    from remotesam_geo import load as load_items
    from remotesam_geo import open_raster, search

    if (source == NO_SOURCE) != (catalog is not None):
        raise InputError(f"source is {source!r}: give a raster or saved items, or '-' with --catalog")
    if catalog is None and not source.lower().endswith(ITEMS):
        asked = {
            "collection": collection, "bbox": bbox, "datetime": datetime, "max-items": max_items, "load": load,
        }  # fmt: skip
        idle = [f"--{name}" for name, value in asked.items() if value not in (None, [], "{}")]
        if idle:
            raise MisuseError(
                f"{', '.join(idle)} has no effect on the raster {source!r}: leave it out, or give saved items or a "
                "--catalog"
            )
        return open_raster(source)
    where = source if catalog is None else catalog
    items = search(where, collection or None, bbox=bbox, datetime=datetime, max_items=max_items)
    if not len(items):
        raise InputError(f"{where} has no items for this question: widen --bbox or --datetime")
    return load_items(items, **_load_options(load, bbox))


def _load_options(text: str | None, bbox: Bounds | None) -> dict[str, Any]:
    """The arguments of `load` that were given, by names that there are."""
    from remotesam_geo import load

    options = _json_option(text, "--load")
    known = set(inspect.signature(load).parameters) - {"items", "policy", "geobox"}
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise InputError(
                f"load has no option {name!r}{f': did you mean {near[0]!r}?' if near else ''} There are "
                f"{', '.join(sorted(known))}."
            )
    if bbox is None:
        return options
    if "bbox" in options or "geometry" in options:
        raise MisuseError("the area is given twice, by --bbox and in --load: leave one out")
    return {"bbox": bbox, **options}


def table(path: Path) -> Any:
    """A file of polygons."""
    import geopandas as gpd

    if not path.exists():
        raise InputError(f"there is no file {str(path)!r}")
    try:
        found = gpd.read_parquet(path) if path.suffix.lower() in (".parquet", ".geoparquet") else gpd.read_file(path)
    except Exception as error:  # pyogrio and pyarrow have no common error
        raise InputError(f"cannot read {path}: {error}") from error
    if not isinstance(found, gpd.GeoDataFrame):  # a table without any geometry
        raise InputError(f"{path} holds no geometries: give polygons")
    return found


def _json_option(text: str | None, name: str) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is {text!r}, which is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{name} is {text!r}: give an object, such as '{{\"resolution\": 0.6}}'")
    return value
