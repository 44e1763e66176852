"""`python -m remotesam_geo.learning.evaluation WHAT FOLDER`: a row of the published tables, or a task on own data."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from remotesam_geo import RemoteSAM
from remotesam_geo.errors import InputError, RemoteSAMError
from remotesam_geo.learning.datasets import (
    BACKGROUND,
    Example,
    OnError,
    Triplet,
    TripletStore,
    read_captions,
    read_coco,
    read_counts,
    read_dota,
    read_isaid,
    read_loveda,
    read_potsdam,
    read_published,
    read_refsegrs,
    read_rsvg,
    read_scenes,
    read_voc,
)

from .answerers import Oracle
from .benchmarks import BENCHMARKS
from .report import Report, compare
from .runner import evaluate, judge
from .setting import Setting, asked_as
from .tasks import TASKS

FORMATS = (
    "coco", "dota", "voc", "isaid", "loveda", "potsdam", "published", "refsegrs", "rsvg", "captions", "scenes",
    "counts", "store",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Evaluate, print the report, and write it where asked."""
    parser = _parser()
    options = parser.parse_args(arguments)
    unset = object()
    given = parser.parse_args(arguments, argparse.Namespace(**dict.fromkeys(vars(options), unset)))
    idle = [name for name in _without_effect(options) if getattr(given, name) is not unset]
    if idle:
        spelled = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
        parser.error(f"{spelled} says nothing about {_asked_for(options)}: leave it out")
    try:
        report = _joined(options) if options.what == "join" else _measured(options)
        if options.out is not None:
            report.write(options.out)
        _say(json.dumps(report.to_json(), indent=1) if options.json else report.table())
        if options.against is not None:
            _say(compare(Report.read(options.against), report))
    except RemoteSAMError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="remotesam-geo evaluate",
        usage="%(prog)s WHAT FOLDER [options], explained by --help",
        description="Measure a model on data.",
        epilog=f"Published rows: {', '.join(BENCHMARKS)}. Tasks: {', '.join(TASKS)}. "
        '"join" judges the evidence of several processes.',
    )
    add = parser.add_argument
    add("what", choices=[*BENCHMARKS, *TASKS, "join"], metavar="WHAT", help="a row, a task, or join")
    add("data", type=Path, metavar="FOLDER", help="of the data; for join, of the evidence")
    add("--format", choices=FORMATS, default="coco", help="of data of one's own")
    add("--labels", type=Path, help="file or folder of labels; by default as the format has it")
    add("--images", type=Path, help="folder of pictures; by default as the format has it")
    add("--split", default="test", help="for formats with splits")
    add("--classes", nargs="+", metavar="CLASS", help="by default those of the data")
    add("--as-is", action="store_true", help="ask for classes exactly as the data spell them")
    add(
        "--model",
        default=None,
        help='nothing for the released weights, "tiny", a folder, or "oracle"',
    )
    add("--device", default="auto", help="where to compute")
    add("--precision", choices=("auto", "float32", "bfloat16"), default="float32")
    add("--contours", nargs="?", const="", default=None, metavar="MODEL",
        help="part touching objects: nothing for the published contour network, or a folder")  # fmt: skip
    add("--threshold", type=float, default=0.5)
    add("--sweep", type=float, nargs="+", default=[], metavar="T", help="more thresholds")
    add("--balances", type=float, nargs="+", default=[], metavar="B", help="more balances of labels")
    add(
        "--published",
        action="store_true",
        help="judge as the published evaluation does, faults included",
    )
    add("--prior", action="store_true", help="count only objects of the published least area")
    add("--part", type=int, nargs=2, default=(0, 1), metavar=("K", "N"), help="this process's share")
    add("--cases", type=int, default=0, help="worst and best answers to draw")
    add("--skip", action="store_true", help="count and pass over what is damaged")
    add("--out", type=Path, help="keep evidence and report here; a run broken off goes on")
    add("--against", type=Path, help="report.json of another run, to compare with")
    add("--json", action="store_true", help="print JSON")
    return parser


READ_BY = {
    "coco": {"labels", "images"}, "dota": {"labels", "images"}, "voc": {"labels", "images"},
    "isaid": {"labels", "images"}, "loveda": set(), "potsdam": {"labels", "images"}, "published": {"images", "split"},
    "refsegrs": {"split"}, "rsvg": {"split"}, "captions": {"labels", "images", "split"}, "scenes": set(),
    "counts": {"labels", "images"}, "store": set(),
}  # fmt: skip
"""Which options each format reads."""
MEASURING = (
    "format", "labels", "images", "split", "classes", "as_is", "model", "device", "precision", "contours", "threshold",
    "sweep", "balances", "published", "prior", "part", "cases", "skip",
)  # fmt: skip


def _without_effect(options: argparse.Namespace) -> list[str]:
    """The options that would have no effect on what is asked for."""
    if options.what == "join":
        return list(MEASURING)
    idle = {"device", "precision"} if options.model == "oracle" else set()
    row = BENCHMARKS.get(options.what)
    if (options.what if row is None else row.task) != "multi-label":
        idle.add("balances")
    if row is not None:
        idle |= {"format", "labels", "images", "split", "classes", "as_is"}
        if not row.prior:
            idle.add("prior")
    else:
        idle |= {"labels", "images", "split"} - READ_BY[options.format] | {"prior"}
    return [name for name in MEASURING if name in idle]


def _asked_for(options: argparse.Namespace) -> str:
    if options.what == "join" or options.what in BENCHMARKS:
        return str(options.what)
    oracle = " of the oracle" if options.model == "oracle" else ""
    return f"{options.what}{oracle} on data of the format {options.format}"


def _joined(options: argparse.Namespace) -> Report:
    options.out = options.out or options.data
    return judge(options.data)


def _measured(options: argparse.Namespace) -> Report:
    on_error: OnError = "skip" if options.skip else "raise"
    more = {
        "threshold": options.threshold,
        "thresholds": tuple(options.sweep),
        "balances": tuple(options.balances),
    }
    if options.what in BENCHMARKS:
        row = BENCHMARKS[options.what]
        task, name = row.task, row.data
        base = row.setting(published=options.published, prior=options.prior)
        setting = Setting(classes=base.classes, published=base.published, min_area=base.min_area, **more)

        def data() -> Iterable[Any]:
            return row.data_in(options.data, on_error)

    else:
        task, name = options.what, options.data.name

        def data() -> Iterable[Any]:
            return _own(options, on_error)

        labels = options.classes or _labels(data())
        classes = asked_as(labels, spelling="as is" if options.as_is else "plain")
        setting = Setting(classes=classes, published=options.published, **more)
    contours: Any = None
    if options.model == "oracle":
        model: Any = Oracle(data(), setting.classes)
        contours = model.contours if options.contours is not None else None
    else:
        model = RemoteSAM.from_pretrained(options.model, device=options.device, precision=options.precision)
        if options.contours is not None:
            from remotesam_geo.model import ContourModel  # noqa: PLC0415 - torch takes its time

            contours = ContourModel.from_pretrained(options.contours or None, device=options.device)
    return evaluate(
        task, data(), model, setting=setting, name=name, folder=options.out,
        part=tuple(options.part), contours=contours, cases=options.cases, on_error=on_error,
        progress=sys.stderr.isatty(),
    )  # fmt: skip


def _own(options: argparse.Namespace, on_error: OnError) -> Iterable[Example] | Iterable[Triplet]:
    """Data of one's own, in one of the formats."""
    folder, split, skip = options.data, options.split, on_error

    def labels(name: str) -> Path:
        return folder / name if options.labels is None else Path(options.labels)

    def images(name: str) -> Path:
        return folder / name if options.images is None else Path(options.images)

    readers: dict[str, Callable[[], Iterable[Example] | Iterable[Triplet]]] = {
        "coco": lambda: read_coco(labels("annotations.json"), images("images"), on_error=skip),
        "dota": lambda: read_dota(labels("labelTxt"), images("images"), on_error=skip),
        "voc": lambda: read_voc(labels("Annotations"), images("JPEGImages"), on_error=skip),
        "isaid": lambda: read_isaid(images("images"), labels("maps"), on_error=skip),
        "loveda": lambda: read_loveda(folder, on_error=skip),
        "potsdam": lambda: read_potsdam(images("images"), labels("labels"), on_error=skip),
        "published": lambda: read_published(folder, options.images, split=split, on_error=skip),
        "refsegrs": lambda: read_refsegrs(folder, split, on_error=skip),
        "rsvg": lambda: read_rsvg(folder, split, on_error=skip),
        "captions": lambda: read_captions(labels("dataset.json"), images("images"), split=split, on_error=skip),
        "scenes": lambda: read_scenes(folder, on_error=skip),
        "counts": lambda: read_counts(labels("counts.json"), images("images"), on_error=skip),
        "store": lambda: TripletStore(folder),
    }
    return readers[options.format]()


def _labels(data: Iterable[Any]) -> list[str]:
    """The classes that data know, in the order of first use."""
    known: dict[str, None] = {}
    for one in data:
        if isinstance(one, Triplet):
            continue
        known |= dict.fromkeys(thing.label for thing in one.things)
        known |= dict.fromkeys((*one.labels, *one.counts))
        if one.classes is not None:
            known |= dict.fromkeys(name for name in one.classes.names if name != BACKGROUND)
    return list(known)


def _say(text: str) -> None:
    print(text)  # noqa: T201


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(str(error))
