"""The command `evaluate`: a row of the published tables, or a task on own data."""

import json
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import printing as saying

if TYPE_CHECKING:
    from remotesam_geo.learning.datasets import OnError
    from remotesam_geo.learning.evaluation import Report

__all__ = ["register"]

Format = Literal[
    "coco", "dota", "voc", "isaid", "loveda", "potsdam", "published", "refsegrs", "rsvg", "captions", "scenes",
    "counts", "store",
]  # fmt: skip
READ_BY = {
    "coco": {"labels", "images"}, "dota": {"labels", "images"}, "voc": {"labels", "images"},
    "isaid": {"labels", "images"}, "loveda": set(), "potsdam": {"labels", "images"}, "published": {"images", "split"},
    "refsegrs": {"split"}, "rsvg": {"split"}, "captions": {"labels", "images", "split"}, "scenes": set(),
    "counts": {"labels", "images"}, "store": set(),
}  # fmt: skip
"""Which options each format reads."""
DESCRIBED = {"published", "refsegrs", "rsvg", "store"}
"""Formats whose expressions are asked for as they are; of the others the classes are asked for."""
READ_BY_TASK = {
    "classes": ("classes", "as_is"), "thresholds": ("sweep",), "balances": ("balances",), "contours": ("contours",),
    "cases": ("cases",),
}  # fmt: skip
"""Which options stand for what only some tasks use."""
MEASURING = {
    "format_", "labels", "images", "split", "classes", "as_is", "model", "device", "precision", "contours",
    "threshold", "sweep", "balances", "published", "prior", "part", "cases", "skip",
}  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate", rich_help_panel="Models")(evaluate)


def evaluate(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="A published row, a task, or join: an unknown one lists them.")],
    data: Annotated[Path, typer.Argument(help="Folder of the data; for join, of the evidence.")],
    format_: Annotated[Format, typer.Option("--format", help="Of own data.")] = "coco",
    labels: Annotated[Path | None, typer.Option(help="Labels; by default where the format has them.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of pictures; by default where the format has it.")] = None,
    split: Annotated[str, typer.Option(help="For formats with splits.")] = "test",
    classes: Annotated[
        list[str] | None, typer.Option(help="A class; by default those of the data. May be given again.")
    ] = None,
    as_is: Annotated[bool, typer.Option("--as-is", help="Ask for classes exactly as the data spell them.")] = False,
    model: Annotated[
        str | None, typer.Option(help="By default the released weights; 'tiny', a folder, or 'oracle'.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where to compute.")] = "auto",
    precision: Annotated[Literal["auto", "float32", "bfloat16"], typer.Option(help="Numbers of the network.")] = (
        "float32"
    ),
    contours: Annotated[
        str | None, typer.Option(help="Separate touching objects: 'published' for that network, 'oracle', or a folder.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="A pixel belongs where its probability is larger.")
    ] = 0.5,
    sweep: Annotated[
        list[float] | None, typer.Option(min=0, max=1, help="Another threshold; may be given again.")
    ] = None,
    balances: Annotated[
        list[float] | None, typer.Option(min=0, max=1, help="Another balance of labels; may be given again.")
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Judge as the published evaluation does, faults included.")
    ] = False,
    prior: Annotated[bool, typer.Option("--prior", help="Count only objects of the published least area.")] = False,
    part: Annotated[tuple[int, int], typer.Option(help="This process's share: K and N.")] = (0, 1),
    cases: Annotated[int, typer.Option(min=0, help="Worst and best answers to draw into --out.")] = 0,
    skip: Annotated[bool, typer.Option("--skip", help="Count and pass over what is damaged.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Keep evidence and report here; a run that was stopped goes on.")
    ] = None,
    against: Annotated[Path | None, typer.Option(help="report.json of another run, to compare with.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a model on data."""
    from remotesam_geo.errors import InputError
    from remotesam_geo.learning import evaluation

    _check_request(context, what, data, format_, model, contours, part, cases, out)
    before = None if against is None else evaluation.Report.read(against)
    if before is not None and what != "join":
        row = evaluation.BENCHMARKS.get(what)
        before.check_comparable(what if row is None else row.task)
    with saying.working():
        if what == "join":
            out = out or data
            report = evaluation.judge(data)
        else:
            on_error: OnError = "skip" if skip else "raise"
            settings: dict[str, Any] = {
                "threshold": threshold,
                "thresholds": tuple(sweep or ()),
                "balances": tuple(balances or ()),
            }
            row = evaluation.BENCHMARKS.get(what)
            read: Callable[[], Iterable[Any]]
            if row is not None:
                read = partial(row.data_in, data, on_error)
                base = row.setting(published=published, prior=prior)
                setting = evaluation.Setting(
                    classes=base.classes, published=base.published, min_area=base.min_area, **settings
                )
            else:
                read = _reader(data, format_, labels, images, split, on_error)
                spelling: Literal["as is", "plain"] = "as is" if as_is else "plain"
                by_class = "classes" in evaluation.TASKS[what].reads
                labels_there = _labels(read()) if by_class else []
                asked = evaluation.asked_as(classes or labels_there, spelling=spelling) if by_class else {}
                if absent := [name for name in asked if name not in labels_there]:
                    saying.note(f"note: the data show no {', '.join(absent)}; they show {', '.join(labels_there)}")
                setting = evaluation.Setting(classes=asked, published=published, **settings)
            if next(iter(read()), None) is None:  # said before weights are loaded
                raise InputError(f"there is no picture in {str(data)!r}")
            network, contour_network = _models(model, contours, device, precision, read, setting)
            report = evaluation.evaluate(
                what if row is None else row.task, read(), network, setting=setting,
                name=data.name if row is None else row.data, folder=out, part=part, contours=contour_network,
                cases=cases, on_error=on_error, progress=sys.stderr.isatty(),
            )  # fmt: skip
    _tell_report(report, out, before, as_json=as_json)


def _check_request(
    context: typer.Context,
    what: str,
    data: Path,
    format_: str,
    model: str | None,
    contours: str | None,
    part: tuple[int, int],
    cases: int,
    out: Path | None,
) -> None:
    """Refuse what cannot be, before anything is read.

    Raises:
        MisuseError: An unknown name, options without effect, or options that do not go together.
        InputError: There is no such folder.
    """
    from remotesam_geo.errors import InputError, one_of
    from remotesam_geo.learning import evaluation

    try:
        one_of("WHAT", what, (*evaluation.BENCHMARKS, *evaluation.TASKS, "join"))
    except InputError as error:
        raise saying.MisuseError(str(error)) from None
    saying.refuse(context, *_without_effect(what, format_, model))
    if not 0 <= part[0] < part[1]:
        raise saying.MisuseError(f"--part {part[0]} {part[1]} is not allowed: give K and N, K from 0 to N - 1")
    if cases and out is None:
        raise saying.MisuseError(f"--cases {cases} needs a folder to draw into: give --out")
    if contours is not None and (model == "oracle") != (contours == "oracle"):
        raise saying.MisuseError("--model oracle and --contours oracle only go together")
    if out is not None and out.exists() and not out.is_dir():
        raise saying.MisuseError(f"--out {out} is a file: give a folder")
    if not data.is_dir():
        raise InputError(f"DATA={str(data)!r} is no folder: give the folder of the data")


def _tell_report(report: "Report", out: Path | None, before: "Report | None", *, as_json: bool) -> None:
    from remotesam_geo.learning.evaluation import compare

    if out is not None:
        report.write(out)
    saying.text(json.dumps(report.to_json(), indent=1) if as_json else report.table())
    if before is not None:
        saying.text(compare(before, report))


def _without_effect(what: str, format_: str, model: str | None) -> tuple[set[str], str]:
    """The options that would have no effect on what is asked for, and on what."""
    from remotesam_geo.learning.evaluation import BENCHMARKS, TASKS

    if what == "join":
        return MEASURING, "on join"
    row = BENCHMARKS.get(what)
    reads = TASKS[what if row is None else row.task].reads
    idle = {name for use, names in READ_BY_TASK.items() if use not in reads for name in names}
    if model == "oracle":
        idle |= {"device", "precision"}
    if row is not None:
        idle |= {"format_", "labels", "images", "split", "classes", "as_is"}
        return idle if row.prior else idle | {"prior"}, f"on {what}"
    idle |= {"labels", "images", "split"} - READ_BY[format_] | {"prior"}
    if what == "referring" and format_ in DESCRIBED:
        idle |= {"classes", "as_is"}
    return idle, f"on {what}{' of the oracle' if model == 'oracle' else ''}, on data of the format {format_}"


def _models(
    model: str | None,
    contours: str | None,
    device: str,
    precision: Any,
    read: Callable[[], Iterable[Any]],
    setting: Any,
) -> tuple[Any, Any]:
    """The model and the contour model."""
    from remotesam_geo import RemoteSAM
    from remotesam_geo.learning.evaluation import Oracle
    from remotesam_geo.model import ContourModel

    if model == "oracle":
        oracle = Oracle(read(), setting.classes)
        return oracle, None if contours is None else oracle.contours
    network = RemoteSAM.from_pretrained(model, device=device, precision=precision)
    if contours is None:
        return network, None
    return network, ContourModel.from_pretrained(None if contours == "published" else contours, device=device)


def _reader(
    folder: Path, format_: str, labels: Path | None, images: Path | None, split: str, on_error: "OnError"
) -> Callable[[], Iterable[Any]]:
    """Reads own data in one of the formats."""
    from remotesam_geo.learning import datasets as d

    def at(given: Path | None, name: str) -> Path:
        return folder / name if given is None else given

    readers: dict[str, Callable[[], Iterable[Any]]] = {
        "coco": lambda: d.read_coco(at(labels, "annotations.json"), at(images, "images"), on_error=on_error),
        "dota": lambda: d.read_dota(at(labels, "labelTxt"), at(images, "images"), on_error=on_error),
        "voc": lambda: d.read_voc(at(labels, "Annotations"), at(images, "JPEGImages"), on_error=on_error),
        "isaid": lambda: d.read_isaid(at(images, "images"), at(labels, "maps"), on_error=on_error),
        "loveda": lambda: d.read_loveda(folder, on_error=on_error),
        "potsdam": lambda: d.read_potsdam(at(images, "images"), at(labels, "labels"), on_error=on_error),
        "published": lambda: d.read_published(folder, images, split=split, on_error=on_error),
        "refsegrs": lambda: d.read_refsegrs(folder, split, on_error=on_error),
        "rsvg": lambda: d.read_rsvg(folder, split, on_error=on_error),
        "captions": lambda: d.read_captions(
            at(labels, "dataset.json"), at(images, "images"), split=split, on_error=on_error
        ),
        "scenes": lambda: d.read_scenes(folder, on_error=on_error),
        "counts": lambda: d.read_counts(at(labels, "counts.json"), at(images, "images"), on_error=on_error),
        "store": lambda: d.TripletStore(folder),
    }
    return readers[format_]


def _labels(data: Iterable[Any]) -> list[str]:
    """The classes that data know, in the order of first use."""
    from remotesam_geo.learning.datasets import BACKGROUND, Triplet

    known: dict[str, None] = {}
    for one in data:
        if isinstance(one, Triplet):
            continue
        known |= dict.fromkeys(thing.label for thing in one.things)
        known |= dict.fromkeys((*one.labels, *one.counts))
        if one.classes is not None:
            known |= dict.fromkeys(name for name in one.classes.names if name != BACKGROUND)
    return list(known)
