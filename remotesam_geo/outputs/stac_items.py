"""Results and models as STAC Items, so that catalogues find them."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import geopandas as gpd
import pandas as pd
import pyarrow.parquet as pq
import pyogrio
import pystac
import rasterio
import shapely
import zarr
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import mapping

from remotesam_geo.errors import InputError, instance_of, path_of

from .provenance import read_provenance
from .vectors import in_degrees

__all__ = ["model_item", "result_item"]

_AT = "https://stac-extensions.github.io"
CLASSIFICATION = f"{_AT}/classification/v1.1.0/schema.json"
LABEL = f"{_AT}/label/v1.0.1/schema.json"
MLM = f"{_AT}/mlm/v1.4.0/schema.json"
PROJECTION = f"{_AT}/projection/v2.0.0/schema.json"
RASTER = f"{_AT}/raster/v1.1.0/schema.json"

MEDIA = {
    ".parquet": "application/vnd.apache.parquet", ".geoparquet": "application/vnd.apache.parquet",
    ".gpkg": "application/geopackage+sqlite3", ".fgb": "application/vnd.flatgeobuf", ".geojson": "application/geo+json",
    ".json": "application/geo+json", ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".tiff": "image/tiff; application=geotiff; profile=cloud-optimized", ".zarr": "application/vnd.zarr; version=3",
}  # fmt: skip


class Answering(Protocol):
    """Who answers: a `RemoteSAM`."""

    @property
    def model(self) -> Any:
        """The network with its weights."""


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What a file says of itself.

    Attributes:
        asset: Its fields as an asset.
        roles: What it is for.
        extensions: By which the fields are meant.
        counts: How many there are of each label, where it is a table of labels.
        classes: Names, where it is a map of classes.
        times: What it shows, when.
    """

    asset: dict[str, Any] = field(default_factory=dict)
    roles: tuple[str, ...] = ("data",)
    extensions: tuple[str, ...] = ()
    counts: Mapping[str, int] | None = None
    classes: tuple[str, ...] | None = None
    times: tuple[pd.Timestamp, ...] = ()


def result_item(
    paths: str | Path | Sequence[str | Path],
    *,
    sources: Iterable[pystac.Item] = (),
    model: pystac.Item | None = None,
    name: str | None = None,
    when: datetime | None = None,
) -> pystac.Item:
    """Describe saved results of one question as a STAC Item.

    Args:
        paths: What `save` wrote: one file, or several of the same answer, each an asset.
        sources: The items that the scene was made of, to which it is linked as derived from.
        model: The item of the model, to which it is linked as well.
        name: The item's id; by default the first file's name without its ending.
        when: The time it shows; by default as the files say, or the sources.

    Returns:
        The item: label and classification fields where there are labels and classes, the footprint of what was asked,
        and how it was made under `remotesam`. Links point to items by where they are, or else by their id.

    Raises:
        InputError: A file cannot be described, lies nowhere on Earth, or there is no time to state.

    Examples:
        >>> from remotesam_geo import result_item, save                                       # doctest: +SKIP
        >>> item = result_item(save(ships, "ships.geojson"), sources=items)                   # doctest: +SKIP
        >>> item.save_object(dest_href="ships.json")                                          # doctest: +SKIP
    """
    instance_of("paths", paths, (str, Path, Sequence), "one path, or a list of them")
    files = [path_of("paths", path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    if not files:
        raise InputError("paths is empty: give at least one file that save wrote")
    instance_of("sources", sources, Iterable, "the items that the scene was made of")
    origins = list(sources)
    for source in origins:
        instance_of("each of sources", source, pystac.Item, "a pystac.Item")
    for key, value, kind in (
        ("model", model, pystac.Item),
        ("name", name, str),
        ("when", when, datetime),
    ):
        instance_of(key, value, (kind, type(None)), f"a {kind.__name__}, or leave it out")
    facts = [_item_file_facts(file) for file in files]
    made = read_provenance(files[0])
    footprint = _asked_footprint(made, files[0])
    begin, end = _item_times([time for each in facts for time in each.times], origins, when)
    item = pystac.Item(
        id=name or files[0].stem,
        geometry=mapping(footprint),
        bbox=_stac_bbox(footprint),
        datetime=begin if begin == end else None,
        start_datetime=None if begin == end else begin,
        end_datetime=None if begin == end else end,
        properties={"remotesam": made, **_label_fields(facts)},
    )
    item.stac_extensions = sorted(
        {uri for each in facts for uri in each.extensions} | ({LABEL} if "label:type" in item.properties else set())
    )  # fmt: skip
    for file, each in zip(files, facts, strict=True):
        item.add_asset(
            file.suffix[1:] if len({f.suffix for f in files}) == len(files) else file.name,
            pystac.Asset(
                href=os.fspath(file.resolve()), media_type=MEDIA[file.suffix.lower()], roles=list(each.roles),
                extra_fields=each.asset,
            ),
        )  # fmt: skip
    for origin in origins:
        item.add_link(_derived_from(origin, {}))
    if model is not None:
        item.add_link(_derived_from(model, {"mlm:name": model.properties["mlm:name"]}))
    return item


def model_item(
    model: Answering,
    *,
    href: str,
    name: str = "RemoteSAM",
    when: datetime | None = None,
) -> pystac.Item:
    """Describe a model by the MLM extension: what it takes, what it gives, and which weights it has.

    Args:
        model: A `RemoteSAM`.
        href: Where its weights are.
        name: The model's name, and the item's id.
        when: When it was made; now by default.

    Raises:
        InputError: It has no network, whose configuration would say what it takes.

    Examples:
        >>> from remotesam_geo import RemoteSAM, model_item                                   # doctest: +SKIP
        >>> model_item(RemoteSAM.from_pretrained(), href="https://huggingface.co/1e12Leon/RemoteSAM")  # doctest: +SKIP
    """
    for key, value, kind in (
        ("href", href, str),
        ("name", name, str),
        ("when", when, (datetime, type(None))),
    ):
        instance_of(
            key,
            value,
            kind,
            "the address of the weights" if key == "href" else "another, or leave it out",
        )
    config = getattr(getattr(getattr(model, "model", None), "predictor", None), "config", None)
    if config is None:
        raise InputError("this model has no network to describe: give one from RemoteSAM.from_pretrained")
    side, words = int(config.image_size), -1
    bands = ["red", "green", "blue"]
    scaling = [
        {"type": "z-score", "mean": round(255 * mean, 4), "stddev": round(255 * std, 4)}
        for mean, std in zip(config.image_mean, config.image_std, strict=True)
    ]
    item = pystac.Item(
        id=name,
        geometry=None,
        bbox=None,
        datetime=when or datetime.now(UTC),
        properties={
            "description": "Text-prompted segmentation of Earth observation imagery: one map of probabilities for each "
            "expression, from which segments, objects, counts, labels and captions are read.",
            "mlm:name": name,
            "mlm:architecture": "Swin Transformer with BERT, joined by pixel-word attention",
            "mlm:tasks": ["semantic-segmentation", "object-detection", "scene-classification", "image-captioning"],
            "mlm:framework": "PyTorch",
            "mlm:accelerator": None,
            "mlm:hyperparameters": {"image_size": side, "weights_sha256": str(model.model.identity)},
            "mlm:input": [
                {
                    "name": "picture",
                    "bands": bands,
                    "input": {
                        "shape": [-1, 3, side, side], "dim_order": ["batch", "channel", "height", "width"],
                        "data_type": "uint8",
                    },
                    "value_scaling": scaling,
                    "resize_type": "interpolation-linear",
                },
                {
                    "name": "expression",
                    "description": "What is looked for, in words, as tokens of BERT",
                    "bands": [],
                    "input": {"shape": [-1, words], "dim_order": ["batch", "token"], "data_type": "int64"},
                    "value_scaling": None,
                    "resize_type": None,
                },
            ],
            "mlm:output": [
                {
                    "name": "probability",
                    "tasks": ["semantic-segmentation"],
                    "description": "Probability that a pixel belongs to what the expression names",
                    "result": {
                        "shape": [-1, side, side], "dim_order": ["batch", "height", "width"], "data_type": "float32",
                    },
                }
            ],
        },
        stac_extensions=[MLM],
    )  # fmt: skip
    item.add_asset(
        "mlm:model",
        pystac.Asset(
            href=href, title="Weights", roles=["mlm:model", "mlm:weights"],
            extra_fields={"mlm:artifact_type": "torch.save", "bands": [{"name": band} for band in bands]},
        ),
    )  # fmt: skip
    return item


def _derived_from(item: pystac.Item, extra: dict[str, Any]) -> pystac.Link:
    target = item.get_self_href() or item.id
    return pystac.Link(
        rel="derived_from", target=target, media_type="application/geo+json", title=item.id, extra_fields=extra
    )  # fmt: skip


def _label_fields(facts: Sequence[_Facts]) -> dict[str, Any]:
    """The label extension's fields, where there are labels."""
    tables = [each.counts for each in facts if each.counts is not None]
    maps = [each.classes for each in facts if each.classes is not None]
    if not (tables or maps):
        return {}
    counts: Mapping[str, int] = tables[0] if tables else {}
    name = "label" if tables else None
    fields: dict[str, Any] = {
        "label:type": "vector" if tables else "raster",
        "label:properties": ["label"] if tables else None,
        "label:classes": [{"name": name, "classes": list(counts) if tables else list(maps[0])}],
        "label:description": "Found by a text-prompted network, not checked by people",
        "label:tasks": ["detection", "segmentation"] if tables else ["segmentation"],
        "label:methods": ["automated"],
    }
    if counts:
        fields["label:overviews"] = [
            {"property_key": "label", "counts": [{"name": key, "count": n} for key, n in counts.items()]}
        ]  # fmt: skip
    return fields


def _item_file_facts(path: Path) -> _Facts:
    if not path.exists():
        raise InputError(f"there is no {str(path)!r}")
    kind = path.suffix.lower()
    if kind in {".tif", ".tiff"}:
        return _item_of_tiff(path)
    if kind == ".zarr":
        return _item_of_zarr(path)
    if kind not in MEDIA:
        raise InputError(f"{path.name!r} must end in one of {', '.join(MEDIA)}")
    return _item_of_table(path)


def _item_of_table(path: Path) -> _Facts:
    if path.suffix.lower() in {".parquet", ".geoparquet"}:
        there = set(pq.read_schema(next(path.glob("*.parquet")) if path.is_dir() else path).names)
        table = pq.read_table(path, columns=sorted(there & {"label", "time"})).to_pandas()
    else:
        wanted = sorted({"label", "time"} & set(pyogrio.read_info(path)["fields"]))
        # A GeoJSON of nothing has no columns.
        table = (
            pyogrio.read_dataframe(path, columns=wanted, read_geometry=False) if wanted else pd.DataFrame({"label": []})
        )
    times = pd.to_datetime(table["time"], utc=True).dropna().unique() if "time" in table else []
    asked = [
        prompt["label"] for group in read_provenance(path).get("asked", []) for prompt in group["prompts"]
    ]  # fmt: skip
    counts = None
    if "label" in table:
        found = Counter(table["label"].dropna().astype(str))
        counts = {label: found.get(label, 0) for label in dict.fromkeys([*asked, *found])}
    roles = ("data", "labels", "labels-vector") if counts is not None else ("data",)
    return _Facts(roles=roles, counts=counts, times=tuple(map(pd.Timestamp, times)))


def _item_of_tiff(path: Path) -> _Facts:
    with rasterio.open(path) as file:
        tags, bands = file.tags(), [file.tags(index) for index in file.indexes]
        stored = [
            {
                "data_type": kind, "nodata": int(file.nodata), "description": text or "",
                **({} if (scale, offset) == (1, 0) else {"scale": scale, "offset": offset}),
            }
            for kind, text, scale, offset in zip(
                file.dtypes, file.descriptions, file.scales, file.offsets, strict=True
            )
        ]  # fmt: skip
        asset: dict[str, Any] = {
            "raster:bands": stored,
            "proj:shape": list(file.shape),
            "proj:transform": list(file.transform[:6]),
            "proj:code": _item_epsg_code(file.crs),
        }
    times = tuple(dict.fromkeys(pd.Timestamp(each["time"]) for each in bands if "time" in each))
    if "class_names" not in tags:
        return _Facts(asset=asset, extensions=(PROJECTION, RASTER), times=times)
    names = json.loads(tags["class_names"])
    asset["classification:classes"] = _classification_classes(names)
    return _Facts(
        asset=asset, roles=("data", "labels", "labels-raster"), extensions=(CLASSIFICATION, PROJECTION, RASTER),
        classes=tuple(names), times=times,
    )  # fmt: skip


def _item_of_zarr(path: Path) -> _Facts:
    group = zarr.open_group(str(path), mode="r")
    for _, array in group.arrays():
        if "flag_meanings" in array.attrs:
            names = str(array.attrs["flag_meanings"]).split()
            return _Facts(
                asset={"classification:classes": _classification_classes(names)},
                roles=("data", "labels", "labels-raster"),
                extensions=(CLASSIFICATION,), classes=tuple(names),
            )  # fmt: skip
    return _Facts()


def _classification_classes(names: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"value": value, "name": re.sub(r"[^0-9A-Za-z_-]+", "_", name), "description": name}
        for value, name in enumerate(names)
    ]


def _item_epsg_code(crs: Any) -> str | None:
    code = None if crs is None else crs.to_epsg()
    return None if code is None else f"EPSG:{code}"


def _asked_footprint(made: Mapping[str, Any], path: Path) -> shapely.Geometry:
    """What was asked, in degrees: the grids of all its questions."""
    grids = [
        GeoBox(group["grid"]["shape"], Affine(*group["transform"]), group["crs"])
        for group in made.get("asked", [])
        if group.get("crs")
    ]
    if not grids:
        raise InputError(
            f"{path.name!r} lies nowhere on Earth: results of pictures are in pixels, and a STAC item needs a place"
        )
    shapes = [in_degrees(gpd.GeoSeries([grid.extent.geom], crs=str(grid.crs)))[0] for grid in grids]
    return shapely.set_precision(shapely.union_all(shapes), 1e-7)


def _stac_bbox(footprint: shapely.Geometry) -> list[float]:
    """West, south, east, north; west is larger than east across the antimeridian."""
    west, south, east, north = footprint.bounds
    parts = shapely.get_parts([footprint])
    if west == -180 and east == 180 and len(parts) > 1:
        sides = shapely.bounds(parts)
        west, east = sides[sides[:, 0] > -180, 0].min(), sides[sides[:, 2] < 180, 2].max()
    return [float(west), float(south), float(east), float(north)]


def _item_times(
    found: Sequence[pd.Timestamp], sources: Sequence[pystac.Item], when: datetime | None
) -> tuple[datetime, datetime]:
    stated = [when.astimezone(UTC)] if when is not None else [time.to_pydatetime() for time in found]
    if not stated:
        for item in sources:
            common = item.common_metadata
            stated += [
                time for time in (item.datetime, common.start_datetime, common.end_datetime) if time is not None
            ]  # fmt: skip
    if not stated:
        raise InputError("this result has no time, and a STAC item needs one: give when=")
    zoned = [time if time.tzinfo else time.replace(tzinfo=UTC) for time in stated]
    return min(zoned), max(zoned)
