"""What `load` and odc-stac each plan for the same items: grid, bands, types and nodata. No file is opened."""

import copy
import gzip
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import odc.stac
import pystac
from affine import Affine
from odc.geo.geobox import GeoBox

from remotesam_geo import load
from remotesam_geo.errors import RemoteSAMError
from remotesam_geo.raster.info import RasterInfo
from remotesam_geo.stac.bands import choose_bands
from remotesam_geo.stac.items import read_items
from tests.scenes.places import DATA

Docs = list[dict[str, Any]]
HEADER = RasterInfo(
    href="stand-in", driver="GTiff", shape=(60, 60), crs="EPSG:32632", transform=Affine(100, 0, 5e5, 0, -100, 6e6),
    dtypes=("int16",) * 4, nodata=(-1.0,) * 4, colors=("red", "green", "blue", "undefined"), descriptions=("",) * 4,
    scales=(1.0,) * 4, offsets=(0.0,) * 4, levels=((60, 60),), block=(60, 60), has_mask=False,
)  # fmt: skip


@dataclass
class Plan:
    """What one of them makes of items."""

    grid: GeoBox | None = None
    bands: dict[str, tuple[str, int]] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    nodata: dict[str, float | None] = field(default_factory=dict)
    fault: str = ""


def material() -> list[tuple[str, dict[str, Any]]]:
    """Every STAC item collected for this project, with the file it came from."""
    rows = map(json.loads, gzip.decompress((DATA / "stac/material.jsonl.gz").read_bytes()).splitlines())
    found = [(row["source"], row["item"]) for row in rows]
    for source, item in found:
        item["links"] = item["links"] or [{"rel": "self", "href": f"https://example.com/{source}"}]
    return found


def _filled(plan: Plan, scene: Any) -> Plan:
    plan.grid = scene.odc.geobox
    for name in plan.bands:
        if name in scene:
            nodata = scene[name].attrs.get("nodata")
            plan.types[name] = str(scene[name].dtype)
            plan.nodata[name] = None if nodata is None or np.isnan(nodata) else float(nodata)
    return plan


def plan_by_odc(docs: Docs, names: list[str] | None = None, **options: Any) -> Plan:
    """What odc-stac plans for some bands of items, or for all that it finds."""
    plan = Plan(bands=dict.fromkeys(names or (), ("", 0)))
    try:
        items = [pystac.Item.from_dict(copy.deepcopy(doc)) for doc in docs]
        collection = next(iter(odc.stac.parse_items(items))).collection
        asked = names or list(dict.fromkeys([*collection.all_bands, *collection.aliases]))
        plan.bands = {name: collection.band_key(name) for name in asked}
        return _filled(plan, odc.stac.load(items, bands=asked, chunks={}, **options))
    except Exception as error:  # noqa: BLE001 - odc-stac does not say what it raises
        plan.fault = f"{type(error).__name__}: {error}"
        return plan


def plan_by_load(docs: Docs, names: list[str], wanted: list[str] | None, **options: Any) -> Plan:
    """What `load` plans: where it finds the names, and a scene of those that are wanted."""
    plan = Plan()
    try:
        (item, *_) = read_items(docs)
        for name in names:
            chosen = choose_bands(item, [name], lambda *_: HEADER) or {}
            if name in chosen:
                plan.bands[name] = (chosen[name].asset, chosen[name].index)
        return _filled(plan, load(docs, wanted, max_pixels=10**18, **options))
    except RemoteSAMError as error:
        plan.fault = f"{type(error).__name__}: {error}"
        return plan


def compare(docs: Docs, names: list[str] | None = None, odc_options: Any = None, **options: Any) -> dict[str, Any]:
    """In what the two differ, each with the facts."""
    other = plan_by_odc(docs, names, **(options if odc_options is None else odc_options))
    asked = list(other.bands)
    own = plan_by_load(docs, asked, asked[:1] or None, **options)
    same = [name for name in asked if own.bands.get(name) == other.bands[name]] if not other.fault else asked
    found = plan_by_load(docs, asked, same, **options) if same else own
    told: dict[str, Any] = {}
    if other.fault:
        told["odc-stac fails"] = other.fault
    if found.fault:
        told["load fails"] = found.fault
    pairs = {
        "bands": [(name, other.bands[name], own.bands.get(name)) for name in asked if not other.fault],
        "types": [(name, other.types[name], kind) for name, kind in found.types.items() if name in other.types],
        "nodata": [(name, other.nodata[name], value) for name, value in found.nodata.items() if name in other.types],
        "grid": [("", other.grid, found.grid)] if other.grid is not None and found.grid is not None else [],
    }
    for what, entries in pairs.items():
        if apart := [entry for entry in entries if entry[1] != entry[2]]:
            told[what] = apart
    return told
