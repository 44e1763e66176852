"""Jobs on the command line: maps larger than memory or a night."""

from pathlib import Path
from typing import Annotated, Any

import typer

from remotesam_geo.errors import InputError, MissingExtraError, one_of

from . import printing as saying
from . import scene_inputs as places
from .config import job_options
from .scene_inputs import Bbox, Catalog, Collection, Datetime, MaxItems
from .verb_commands import (
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

SEARCHED = {"catalog", "collection", "bbox", "datetime", "max_items", "load"}
"""Options about where the scene comes from."""
MADE = {"prompts", "model", *SEARCHED}
"""What a job is made with, and keeps."""
CHANGED = {"add", "remove"}
DONE = {"retry_failures", "skip_failures", "scheduler"}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("map", rich_help_panel="Large areas")(map_)
    app.command("status", rich_help_panel="Large areas")(status)
    app.command("answer", rich_help_panel="Large areas")(answer)


def map_(
    context: typer.Context,
    folder: Folder,
    source: Annotated[
        str | None,
        typer.Argument(help="As for the verbs; left out to go on with a job that is there."),
    ] = None,
    prompts: Annotated[list[str] | None, typer.Argument(help="What to look for.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="All of it from a YAML file: source, prompts, model, load, threshold ..."),
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
        typer.Option(
            help="Add a prompt to a job that is there, with --threshold and --resolution; may be given again."
        ),
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(help="Remove a prompt, by its label, and what is stored of it; may be given again."),
    ] = None,
    retry_failures: Annotated[bool, typer.Option("--retry-failures", help="Ask again what failed.")] = False,
    skip_failures: Annotated[bool, typer.Option("--skip-failures", help="Go on where windows fail.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take; nothing on disk changes.")
    ] = False,
    scheduler: Annotated[str | None, typer.Option(help="Address of a dask.distributed scheduler.")] = None,
    as_json: Json = False,
) -> int:
    """Map a large area; run it again to go on after an interruption."""
    _check_options(context, source, config, add, retry_failures=retry_failures, dry_run=dry_run)
    metres, client = (
        asked_metres(resolution),
        _connect_client(scheduler),
    )  # before anything is written
    if config is not None or source is not None:
        if config is not None:
            options = job_options(config)
        else:
            if not prompts:
                raise InputError("say what to look for after the source")
            scene = places.opened(
                str(source), catalog=catalog, collection=collection, bbox=bbox, datetime=datetime,
                max_items=max_items, load=load,
            )  # fmt: skip
            options = {
                "source": scene, "prompts": parsed(prompts), "model": model, "threshold": threshold,
                "resolution": metres,
            }  # fmt: skip
        job = _create_job(folder, options, dry_run=dry_run)
    else:
        job = _job_with_changed_prompts(folder, add, remove, threshold, metres, dry_run=dry_run)
    if dry_run:
        estimate = job.estimate()
        figures = {
            name: getattr(estimate, name) for name in ("windows", "predictions", "pixels", "kept_bytes", "seconds")
        }
        saying.result(figures if as_json else {"estimate": estimate}, as_json=as_json)
        return 0
    with saying.working():
        if retry_failures:
            table = job.retry_failures(client)
        else:
            table = job.run(client, on_error="skip" if skip_failures else "raise")
    if as_json:
        saying.result({"folder": folder, "status": table.to_dict("index")}, as_json=True)
    else:
        saying.table_of(table.reset_index(), title=str(folder))
    return 1 if int(table[["failed", "given_up", "waiting"]].to_numpy().sum()) else 0


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
    partial: Annotated[
        bool, typer.Option(help="Also of prompts that are not complete, as far as they are done.")
    ] = False,
    crs: Crs = None,
    as_json: Json = False,
) -> int:
    """Answer from what a job has stored; the model is not run."""
    from remotesam_geo import Job

    one_of("VERB", verb, ("segment", "refer", "detect"))
    saying.check_out(out)
    job, target = Job.open(folder), asked_crs(crs)
    with saying.working():
        found = job.answer(verb, threshold=threshold, oriented=oriented, partial=partial, crs=target)
        return told(found, [prompt.label for prompt in job.prompts], out, as_json=as_json)


def _check_options(
    context: typer.Context,
    source: str | None,
    config: Path | None,
    add: list[str] | None,
    *,
    retry_failures: bool,
    dry_run: bool,
) -> None:
    """Refuse options that would have no effect.

    Raises:
        MisuseError: There is one.
    """
    if config is not None:
        idle = {"source", *MADE, *CHANGED, "threshold", "resolution"}
        saying.refuse(context, idle, "with --config, which says all of it")
    elif source is not None:
        saying.refuse(context, CHANGED, "with a SOURCE: it is for a job that is there")
    else:
        saying.refuse(context, MADE, "on a job that is there: it keeps what it was made with")
        if not add:
            saying.refuse(context, {"threshold", "resolution"}, "without --add or a SOURCE")
    if dry_run:
        saying.refuse(context, DONE, "with --dry-run")
    if retry_failures:
        saying.refuse(context, {"skip_failures"}, "with --retry-failures, which goes on anyway")
        idle = {"source", "config", *CHANGED}
        saying.refuse(context, idle, "with --retry-failures, which predicts only what failed")


def _create_job(folder: Path, options: dict[str, Any], *, dry_run: bool) -> Any:
    from remotesam_geo import Job
    from remotesam_geo.remotesam.named import is_import, named_model

    if is_import(options["model"]):
        named_model(options["model"])  # says why not
    return Job.create(folder, **options, dry_run=dry_run)


def _job_with_changed_prompts(
    folder: Path,
    add: list[str] | None,
    remove: list[str] | None,
    threshold: float | None,
    metres: Any,
    *,
    dry_run: bool,
) -> Any:
    """The job that is there, with the prompts that are wanted."""
    from remotesam_geo import Job

    job = Job.open(folder)
    if remove:
        job.remove(remove, dry_run=dry_run)
    if add:
        job.add(parsed(add), threshold=threshold, resolution=metres, dry_run=dry_run)
    return job


def _connect_client(scheduler: str | None) -> Any:
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
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        raise InputError(f"no scheduler answers at {scheduler!r}: {error}") from error
