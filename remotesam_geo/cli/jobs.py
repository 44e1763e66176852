"""Jobs on the command line: maps larger than memory or a night."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from remotesam_geo.errors import InputError, MissingExtraError

from . import places, saying
from .places import Bbox, Catalog, Collection, Datetime, MaxItems
from .verbs import (
    Crs,
    Json,
    Load,
    Model,
    Out,
    Resolution,
    Threshold,
    asked_crs,
    asked_metres,
    parsed,
    told,
)

__all__ = ["register"]

Folder = Annotated[Path, typer.Argument(help="The folder that the job lives in.")]
FILE_KEYS = {
    "source", "catalog", "collections", "bbox", "datetime", "max_items", "load", "prompts", "model", "threshold",
    "resolution", "bands", "overlap", "seam", "keep_probabilities",
}  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("map", rich_help_panel="Large areas")(map_)
    app.command("status", rich_help_panel="Large areas")(status)
    app.command("answer", rich_help_panel="Large areas")(answer)


def map_(
    folder: Folder,
    source: Annotated[
        str | None,
        typer.Argument(help="As for the verbs; left out to go on with a job that is there."),
    ] = None,
    prompts: Annotated[list[str] | None, typer.Argument(help="What to look for.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="All of it from a YAML file: source, prompts, model, load, threshold ..."
        ),
    ] = None,
    model: Model = "released",
    threshold: Threshold = None,
    resolution: Resolution = None,
    catalog: Catalog = None,
    collection: Collection = None,
    bbox: Bbox = None,
    datetime: Datetime = None,
    max_items: MaxItems = None,
    load: Load = None,
    add: Annotated[
        list[str] | None,
        typer.Option(help="Add a prompt to a job that is there; may be given again."),
    ] = None,
    retry_failures: Annotated[
        bool, typer.Option("--retry-failures", help="Ask again what failed.")
    ] = False,
    skip_failures: Annotated[
        bool, typer.Option("--skip-failures", help="Go on where windows fail.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take; ask nothing.")
    ] = False,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a dask.distributed scheduler.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Map a large area; run it again to go on after an interruption."""
    job = _job(
        folder, source, prompts, config, model=model, threshold=threshold, resolution=resolution, load=load,
        search={
            "catalog": catalog, "collection": collection, "bbox": bbox, "datetime": datetime, "max_items": max_items,
        },
    )  # fmt: skip
    if add:
        job.add(parsed(add))
    if dry_run:
        estimate = job.estimate()
        figures = {
            name: getattr(estimate, name)
            for name in ("windows", "asks", "pixels", "kept_bytes", "seconds")
        }
        saying.result(figures if as_json else {"plan": estimate}, as_json=as_json)
        return 0
    client = _client(scheduler)
    on_error = "skip" if skip_failures else "raise"
    table = job.retry_failures(client) if retry_failures else job.run(client, on_error=on_error)
    if as_json:
        saying.result({"folder": folder, "status": table.to_dict("index")}, as_json=True)
    else:
        saying.table_of(table.reset_index(), title=str(folder))
    return 1 if int(table[["failed", "poison", "waiting"]].to_numpy().sum()) else 0


def status(folder: Folder, as_json: Json = False) -> int:
    """Say how far a job is, and what failed."""
    from remotesam_geo import Job

    job = Job.open(folder)
    table, failures = job.status(), job.failures()
    if as_json:
        causes = failures.drop(columns="geometry").to_dict("records")
        saying.result({"status": table.to_dict("index"), "failures": causes}, as_json=True)
        return 0
    saying.table_of(table.reset_index(), title=str(folder))
    if len(failures):
        saying.table_of(failures.drop(columns="geometry"), title="failures")
    return 0


def answer(
    folder: Folder,
    verb: Annotated[str, typer.Argument(help="segment, refer or detect.")] = "segment",
    out: Out = None,
    threshold: Threshold = None,
    oriented: Annotated[bool, typer.Option(help="Boxes at any angle.")] = False,
    partial: Annotated[bool, typer.Option(help="Before all was asked.")] = False,
    crs: Crs = None,
    as_json: Json = False,
) -> int:
    """Answer from what a job has kept; the model is not asked."""
    from remotesam_geo import Job

    if verb not in ("segment", "refer", "detect"):
        raise InputError(f"verb is {verb!r}: a job answers segment, refer or detect")
    saying.check_out(out)
    job, crs = Job.open(folder), asked_crs(crs)
    found = job.answer(verb, threshold=threshold, oriented=oriented, partial=partial, crs=crs)
    return told(found, [prompt.label for prompt in job.prompts], out, as_json=as_json)


def _job(
    folder: Path,
    source: str | None,
    prompts: list[str] | None,
    config: Path | None,
    *,
    model: str,
    threshold: float | None,
    resolution: str | None,
    load: str | None,
    search: dict[str, Any],
) -> Any:
    from remotesam_geo import Job

    if config is not None:
        if source is not None or prompts:
            raise InputError("give a source and prompts, or --config, not both")
        return Job.create(folder, **_from_file(config))
    if source is None:
        return Job.open(folder)
    if not prompts:
        raise InputError("say what to look for after the source")
    scene = places.opened(source, **search, load=load)
    return Job.create(
        folder, scene, parsed(prompts), _named(model), threshold=threshold, resolution=asked_metres(resolution)
    )  # fmt: skip


def _from_file(path: Path) -> dict[str, Any]:
    import yaml

    try:
        given = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if not isinstance(given, dict):
        raise InputError(f"{path} holds no mapping: write lines such as 'source: scene.tif'")
    unknown = sorted(set(given) - FILE_KEYS)
    if unknown:
        raise InputError(f"{path} has the unknown keys {unknown}: known are {sorted(FILE_KEYS)}")
    if "prompts" not in given:
        raise InputError(f"{path} lacks prompts: write 'prompts: [storage tank]'")
    search = {name: given.pop(name, None) for name in ("catalog", "bbox", "datetime", "max_items")}
    collections = given.pop("collections", None)
    load = given.pop("load", None) or {}
    scene = places.opened(
        given.pop("source", places.NO_SOURCE), **search,
        collection=[collections] if isinstance(collections, str) else collections,
        load=json.dumps(load),
    )  # fmt: skip
    return {**given, "source": scene, "model": _named(given.get("model", "released"))}


def _named(model: str) -> str:
    return "1e12Leon/RemoteSAM" if model == "released" else model


def _client(scheduler: str | None) -> Any:
    if scheduler is None:
        return None
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingExtraError(
            "--scheduler needs dask.distributed: pip install 'remotesam-geo[distributed]'"
        ) from error
    try:
        return Client(scheduler, timeout="10s")  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError(f"no scheduler answers at {scheduler!r}: {error}") from error
