"""Commands around the questions: search, change, convert, demo and doctor."""

import importlib.metadata
import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from . import printing as saying
from .scene_inputs import Bbox, Collection, Datetime, MaxItems, table
from .verb_commands import Json, told

__all__ = ["register"]

LIBRARIES = (
    "torch", "transformers", "xarray", "dask", "distributed", "geopandas", "shapely", "pyproj", "rasterio",
    "odc-stac", "odc-geo", "pystac-client", "zarr", "pyarrow", "numpy", "pandas", "matplotlib",
)  # fmt: skip
RASTERS = {"COG", "GTiff", "JP2OpenJPEG", "PNG", "VRT"}
VECTORS = {"FlatGeobuf", "GPKG", "GeoJSON"}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("search", rich_help_panel="Places")(search)
    app.command("change", rich_help_panel="Questions")(change)
    app.command("models", rich_help_panel="Models")(models)
    app.command("convert", rich_help_panel="Models")(convert)
    app.command("demo", rich_help_panel="First steps")(demo)
    app.command("doctor", rich_help_panel="First steps")(doctor)


def search(
    catalog: Annotated[str, typer.Argument(help="A name (planetary-computer, earth-search ...), a URL, or a path.")],
    collection: Collection = None,
    bbox: Bbox = None,
    datetime: Datetime = None,
    max_items: MaxItems = None,
    query: Annotated[list[str] | None, typer.Option(help="Such as 'eo:cloud_cover<20'; may be given again.")] = None,
    out: Annotated[Path | None, typer.Option(help="Save the items: .json, .geojson or .parquet.")] = None,
    as_json: Json = False,
) -> int:
    """Find scenes in a catalogue."""
    import pandas as pd

    from remotesam_geo import save_items
    from remotesam_geo import search as find

    items = find(
        catalog,
        collection or None,
        bbox=bbox,
        datetime=datetime,
        query=query or None,
        max_items=max_items,
    )
    if out is not None:
        save_items(items, out)
        saying.note(f"{len(items):,} items in {out}")
    if as_json:
        saying.result({"items": [item.id for item in items], "out": out}, as_json=True)
    elif len(items) and out is None:
        rows = [
            {
                "id": item.id,
                "collection": item.collection_id,
                "datetime": item.datetime,
                "bbox": item.bbox,
            }
            for item in items
        ]
        saying.table_of(pd.DataFrame(rows), title=f"{len(items):,} items")
    return saying.found(len(items), f"no items in {catalog} for this question")


def change(
    features: Annotated[Path, typer.Argument(help="Features of several times, as a verb or job wrote them.")],
    out: Annotated[Path | None, typer.Option(help="Where to.")] = None,
    tolerance: Annotated[float | None, typer.Option(help="Metres that an object may seem to move.")] = None,
    as_json: Json = False,
) -> int:
    """Follow objects over time: appeared, persisted, changed, split, merged, disappeared."""
    from remotesam_geo import match_over_time

    saying.check_out(out)
    options = {} if tolerance is None else {"tolerance": tolerance}
    return told(match_over_time(table(features), **options), [str(features)], out, as_json=as_json)


def convert(
    source: Annotated[str, typer.Argument(help="A published .pth, or 'released' to download it.")],
    folder: Annotated[Path, typer.Argument(help="The model folder to write.")],
    sha256: Annotated[str | None, typer.Option(help="The identity the weights must have.")] = None,
    as_json: Json = False,
) -> None:
    """Write published weights as a model folder: safetensors, configuration, tokenizer."""
    from remotesam_geo.model import convert as written

    with saying.working():
        origin = written(None if source == "released" else source, folder, sha256=sha256)
    saying.result({"folder": folder, "sha256": origin.sha256}, as_json=as_json)


def models(as_json: Json = False) -> None:
    """List the models that have a name: licence, image size, download, what is here, what each returns."""
    import pandas as pd

    rows = list(_model_rows())
    if as_json:
        saying.text(json.dumps(rows))
        return
    short = pd.DataFrame(rows).drop(columns="network").rename(columns={"image_size": "pixels", "download_mb": "MB"})
    saying.table_of(short.assign(here=["yes" if here else "no" for here in short["here"]]), title="Models")


def _model_rows() -> Iterator[dict[str, Any]]:
    from remotesam_geo.model import RemoteSAMConfig
    from remotesam_geo.model.weights import locate
    from remotesam_geo.predictors.names import ADAPTERS, GROUP, adapter_named
    from remotesam_geo.predictors.pinned_weights import PINNED, is_cached

    tiny = RemoteSAMConfig.from_pretrained(locate("tiny").folder).image_size
    released = not _weights_fact("released").startswith("not here")
    yield _model_row(
        "released", "RemoteSAM", "none stated", RemoteSAMConfig().image_size, 966, released, "probabilities"
    )
    yield _model_row("tiny", "built in", "Apache-2.0", tiny, 0, True, "probabilities")
    for name in ADAPTERS:
        adapter = adapter_named(name)
        if adapter is not None:
            pins = [PINNED[source] for source in adapter.SOURCES]
            yield _model_row(
                name,
                " + ".join(adapter.SOURCES),
                ", ".join(dict.fromkeys(pin.licence for pin in pins)),
                adapter.SIZE,
                sum(pin.megabytes for pin in pins),
                all(is_cached(source) for source in adapter.SOURCES),
                adapter.RETURNS,
            )
    for point in importlib.metadata.entry_points(group=GROUP):
        yield _model_row(point.name, f"registered by {point.value}", "", None, None, True, "")


def _model_row(
    name: str,
    network: str,
    licence: str,
    image_size: int | None,
    megabytes: int | None,
    here: bool,
    returns: str,
) -> dict[str, Any]:
    return {
        "name": name, "licence": licence, "image_size": image_size, "download_mb": megabytes, "here": here,
        "returns": returns, "network": network,
    }  # fmt: skip


def demo(
    out: Annotated[Path, typer.Option(help="Folder for what is written.")] = Path("demo-output"),
) -> None:
    """Run the demo: from a STAC catalogue to a table of features, offline, with the built-in model."""
    from remotesam_geo.demo import main

    with saying.working():
        main(out)


def doctor(
    model: Annotated[str, typer.Option(help="Weights to look for: 'released', 'tiny', or a path.")] = "released",
    online: Annotated[bool, typer.Option(help="Try to reach the known catalogues too.")] = False,
    as_json: Json = False,
) -> int:
    """Say what a bug report needs: versions, devices, drivers, the model, the network."""
    from remotesam_geo import __version__

    report: dict[str, Any] = {
        "remotesam_geo": __version__,
        "python": f"{sys.version.split()[0]} on {platform.platform()}",
        **{name: _installed_version(name) for name in LIBRARIES},
        **_device_facts(),
        **_gdal_facts(),
        "model": _weights_fact(model),
    }
    if online:
        report["network"] = _network_facts()
    saying.result(report, as_json=as_json)
    return 0


def _installed_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _device_facts() -> dict[str, str]:
    import torch

    from remotesam_geo.model.hardware import choose_device, choose_precision

    device = choose_device("auto")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "device": f"{device}, {choose_precision('auto', device)}, {torch.get_num_threads()} CPU threads",
        "GPUs": ", ".join(names) or "none",
    }


def _gdal_facts() -> dict[str, str]:
    import pyogrio
    import pyproj
    import rasterio

    with rasterio.Env() as env:
        rasters = set(env.drivers())
    vectors = {name for name, can in pyogrio.list_drivers().items() if "w" in can}
    missing = sorted((RASTERS - rasters) | (VECTORS - vectors))
    return {
        "GDAL": f"{rasterio.__gdal_version__} (rasterio), {pyogrio.__gdal_version_string__} (pyogrio)",
        "GDAL drivers": f"without {', '.join(missing)}" if missing else "all that are used here",
        "PROJ": pyproj.proj_version_str,
    }


def _weights_fact(name: str) -> str:
    from remotesam_geo.errors import ModelError
    from remotesam_geo.model.weights import locate

    try:
        found = locate(None if name == "released" else name, local_files_only=True)
    except ModelError as error:
        return f"not here: {error}"
    return f"found: {found.folder or found}"


def _network_facts() -> dict[str, str]:
    import urllib.error
    import urllib.request

    from remotesam_geo.stac.catalogs import CATALOGS

    said = {}
    for name, catalog in CATALOGS.items():
        try:
            with urllib.request.urlopen(catalog.url, timeout=10) as answer:  # noqa: S310 - our own table of https
                said[name] = f"reached ({answer.status})"
        except (urllib.error.URLError, TimeoutError) as error:
            said[name] = f"not reached: {error}"
    return said
