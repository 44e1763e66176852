"""The eight verbs on the command line."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from remotesam_geo.errors import InputError

from . import printing as saying
from . import scene_inputs as places
from .scene_inputs import Bbox, Catalog, Collection, Datetime, MaxItems

__all__ = ["register"]

Source = Annotated[
    str,
    typer.Argument(help="A raster or picture (path or URL), saved items, or '-' with --catalog."),
]
Prompts = Annotated[
    list[str],
    typer.Argument(help="What to look for; 'label=expression' gives a label to a free one."),
]
Model = Annotated[
    str,
    typer.Option(
        help="'released', 'tiny' (built in), a model folder, a published .pth, owner/name@commit, or a name that an "
        "installed package registers."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Where to: .parquet, .gpkg, .fgb, .geojson. Without it, a table is printed."),
]
Threshold = Annotated[float | None, typer.Option(help="A pixel belongs where its probability is larger.")]
Resolution = Annotated[str | None, typer.Option(help="Metres on the ground a pixel, 'native' or 'auto'.")]
Crs = Annotated[str | None, typer.Option(help="CRS of the result; by default the scene's.")]
Load = Annotated[str | None, typer.Option(help="Arguments of load as JSON, for items.")]
Zones = Annotated[Path | None, typer.Option(help="Polygons; by default the windows' cores.")]
Tiles = Annotated[bool, typer.Option(help="Ask a picture window by window.")]
Skip = Annotated[bool, typer.Option("--skip-failures", help="Go on where windows fail, and say so.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Instances = Annotated[bool, typer.Option("--instances", help="Tell touching objects apart; only some models can.")]
MinArea = Annotated[float, typer.Option(help="Least area in square metres (pixels of a picture).")]

FEATURES = {
    "segment": "Outline everything of each class.",
    "refer": "Outline what free expressions refer to.",
    "detect": "Find the objects of each class, a box each.",
}
ZONES = {
    "label": "Say which of several classes each zone shows.",
    "classify": "Give each zone its one label.",
    "count": "Count the objects of each class in each zone.",
    "caption": "Describe each zone in a sentence.",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for verb, text in FEATURES.items():
        app.command(verb, help=text, rich_help_panel="Questions")(_feature_command(verb))
    app.command("ground", rich_help_panel="Questions")(ground)
    for verb, text in ZONES.items():
        app.command(verb, help=text, rich_help_panel="Questions")(_zone_command(verb))


def _feature_command(verb: str) -> Any:
    def command(
        source: Source,
        prompts: Prompts,
        model: Model = "released",
        out: Out = None,
        threshold: Threshold = None,
        resolution: Resolution = None,
        min_area: MinArea = 0,
        crs: Crs = None,
        tiles: Tiles = False,
        instances: Instances = False,
        skip_failures: Skip = False,
        catalog: Catalog = None,
        collection: Collection = None,
        bbox: Bbox = None,
        datetime: Datetime = None,
        max_items: MaxItems = None,
        load: Load = None,
        as_json: Json = False,
    ) -> int:
        saying.check_out(out)
        if instances and verb == "refer":
            raise saying.MisuseError("--instances has no effect on refer: leave it out")
        options: dict[str, Any] = {"instances": True} if instances else {}
        options |= {
            "on_error": "skip" if skip_failures else "raise", "crs": asked_crs(crs), "threshold": threshold,
            "resolution": asked_metres(resolution), "min_area": min_area, "tiles": tiles,
        }  # fmt: skip
        scene = places.opened(
            source, catalog=catalog, collection=collection, bbox=bbox, datetime=datetime,
            max_items=max_items, load=load,
        )  # fmt: skip
        asked = getattr(opened_model(model), verb)
        with saying.working():
            return told(asked(scene, parsed(prompts), **options), prompts, out, as_json=as_json)

    return command


def ground(
    source: Source,
    prompts: Prompts,
    model: Model = "released",
    out: Out = None,
    threshold: Threshold = None,
    crs: Crs = None,
    skip_failures: Skip = False,
    catalog: Catalog = None,
    collection: Collection = None,
    bbox: Bbox = None,
    datetime: Datetime = None,
    max_items: MaxItems = None,
    load: Load = None,
    as_json: Json = False,
) -> int:
    """Find the one box of each expression, in one view of the whole scene."""
    saying.check_out(out)
    target = asked_crs(crs)
    scene = places.opened(
        source, catalog=catalog, collection=collection, bbox=bbox, datetime=datetime, max_items=max_items, load=load,
    )  # fmt: skip
    network = opened_model(model)
    with saying.working():
        found = network.ground(
            scene, parsed(prompts), threshold=threshold, crs=target, on_error="skip" if skip_failures else "raise"
        )  # fmt: skip
        return told(found, prompts, out, as_json=as_json)


def _zone_command(verb: str) -> Any:
    def command(
        source: Source,
        prompts: Prompts,
        model: Model = "released",
        zones: Zones = None,
        out: Out = None,
        threshold: Threshold = None,
        resolution: Resolution = None,
        tiles: Tiles = False,
        skip_failures: Skip = False,
        catalog: Catalog = None,
        collection: Collection = None,
        bbox: Bbox = None,
        datetime: Datetime = None,
        max_items: MaxItems = None,
        load: Load = None,
        as_json: Json = False,
    ) -> int:
        saying.check_out(out)
        polygons = None if zones is None else places.table(zones)
        scene = places.opened(
            source, catalog=catalog, collection=collection, bbox=bbox, datetime=datetime,
            max_items=max_items, load=load,
        )  # fmt: skip
        asked = getattr(opened_model(model), verb)
        with saying.working():
            answer = asked(
                scene, parsed(prompts), zones=polygons, threshold=threshold, resolution=asked_metres(resolution),
                tiles=tiles, on_error="skip" if skip_failures else "raise",
            )  # fmt: skip
            return told(answer, prompts, out, as_json=as_json)

    return command


def parsed(prompts: list[str]) -> Any:
    """Names as they are; 'label=expression' as a mapping."""
    if not any("=" in prompt for prompt in prompts):
        return prompts
    named: dict[str, list[str]] = {}
    for prompt in prompts:
        label, _, expression = prompt.partition("=")
        named.setdefault(label.strip(), []).append(expression.strip() or f"{label.strip()} in the image")
    return named


def opened_model(name: str) -> Any:
    """The model of that name."""
    from remotesam_geo.remotesam.named import named_model

    return named_model(name)


def asked_metres(resolution: str | None) -> float | Literal["native", "auto"] | None:
    """Metres on the ground, 'native' or 'auto'."""
    if resolution is None:
        return None
    if resolution in ("native", "auto"):
        return "native" if resolution == "native" else "auto"
    try:
        metres = float(resolution)
    except ValueError:
        metres = math.nan
    if not (math.isfinite(metres) and metres > 0):
        raise InputError(f"--resolution is {resolution!r}: give metres, 'native' or 'auto'")
    return metres


def asked_crs(crs: str | None) -> Any:
    """A CRS by its name, before anything is asked."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        return None if crs is None else CRS.from_user_input(crs)
    except CRSError as error:
        raise InputError(f"--crs is {crs!r}: give one such as EPSG:4326") from error


def told(answer: Any, asked: list[str], out: Path | None, *, as_json: bool) -> int:
    """Write or print an answer, and say by the code whether there is any."""
    if out is not None:
        from remotesam_geo import save

        save(answer, out)
        saying.note(f"{len(answer):,} rows in {out}")
    count = len(answer)  # zones stay rows, whatever they hold
    if "count" in answer:
        count = int(answer["count"].sum())
    elif "label" in answer:
        count = int(answer["label"].notna().sum())
    if as_json:
        label = "label" if "label" in answer else None
        by_label = {} if label is None else answer[label].value_counts().to_dict()
        saying.result({"rows": len(answer), "by_label": by_label, "out": out}, as_json=True)
    elif out is None and len(answer):
        plain = answer.drop(columns=[answer.geometry.name, "id"], errors="ignore")
        saying.table_of(plain, title=f"{len(answer):,} rows")
    return saying.found(count, ", ".join(asked))
