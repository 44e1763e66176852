"""Evaluation: ask picture by picture, keep the evidence on disk, judge all of it."""

import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any, BinaryIO, get_args

import numpy as np
from numpy.typing import NDArray

from remotesam_geo import __version__
from remotesam_geo.errors import (
    InputError,
    JobError,
    RemoteSAMWarning,
    each_of,
    folder_of,
    instance_of,
    number_in,
    one_of,
)
from remotesam_geo.learning.datasets import DamageError, Example, Faults, OnError, Triplet
from remotesam_geo.notebook import tqdm

from .answerers import Answerer, Chances, answerer, resized
from .cases import Cases
from .report import Report
from .setting import Setting
from .task_steps import PicturePredictor, Task, Unit
from .tasks import TASKS

__all__ = ["evaluate", "judge"]

Contours = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Contours of pictures (B x H x W x 3) as codes (B x H x W): a `ContourModel`."""

RUN, EVIDENCE = "run.json", "evidence"
PASSED = "passed_over"
_PART = re.compile(rf"{EVIDENCE}-(\d+)-of-(\d+)")
FULL_BATCH = 32  # expressions whose maps are asked for, and in memory, together


def evaluate(
    task: str,
    data: Iterable[Example] | Iterable[Triplet],
    model: Any,
    *,
    setting: Setting,
    name: str = "",
    folder: Path | str | None = None,
    part: tuple[int, int] = (0, 1),
    contours: Contours | None = None,
    cases: int = 0,
    on_error: OnError = "raise",
    progress: bool = False,
) -> Report:
    """Measure a model on data.

    Args:
        task: One of `TASKS`: "referring", "semantic", "detection", "oriented", "grounding", "multi-label",
            "single-label", "counting", "captioning".
        data: Examples, or triplets for "referring"; those of one picture after the other, in the same order each time.
        model: A `RemoteSAM`, or an `Answerer`.
        setting: What is asked and how it is judged.
        name: Of the data, for the report.
        folder: Where evidence is kept: a run that was broken off goes on where it was. Without it nothing is kept.
        part: This process's share: number and how many there are. `judge` joins the parts.
        contours: What parts touching objects in detection and counting.
        cases: How many of the worst and of the best answers to draw into the folder.
        on_error: Whether a picture that cannot be read raises, or is counted and passed over.
        progress: Whether to show progress.

    Returns:
        The report of this part.

    Raises:
        InputError: No such task, or it does not fit the data.
        JobError: The folder holds evidence of something else.
        DamageError: A picture cannot be read.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.learning.evaluation import Oracle, Setting, asked_as, evaluate
        >>> from remotesam_geo.learning.datasets import Example, Picture, Thing
        >>> picture = Picture.of("a", np.zeros((8, 8, 3), np.uint8))
        >>> data = [Example(picture=picture, things=(Thing(label="ship", box=(1, 1, 4, 4)),))]
        >>> setting = Setting(classes=asked_as(["ship"]))
        >>> evaluate("detection", data, Oracle(data, setting.classes), setting=setting).overall["AP50"]
        1.0
    """
    one_of("on_error", on_error, get_args(OnError))
    one_of("progress", progress, (True, False))
    instance_of("name", name, str, "text")
    place = None if folder is None else folder_of("folder", folder)
    chosen, asked = _task_by_name(task), answerer(model)
    _check_arguments(chosen, setting, place, part, contours=contours, cases=cases)
    about = _about_evaluation(task, name, asked, setting, contours)
    kept = _EvidenceFile(place, about, part)
    done = {row["position"]: row["key"] for row in kept.rows}
    drawn = Cases(place, cases) if place is not None and cases else None
    if drawn is not None:
        for row in kept.rows:
            drawn.offer(chosen, row, setting)
    faults = Faults()

    @contextmanager
    def passing(unit: Unit) -> Iterator[None]:
        with faults.passing(on_error, unit.picture.name):
            try:
                yield
            except DamageError as damage:
                if on_error == "skip":
                    kept.pass_over(unit, damage.kind)
                raise

    shown = tqdm(_units_of_data(data), desc=task, unit="picture", disable=not progress)
    todo = (unit for unit in shown if unit.position % part[1] == part[0] and _is_new_unit(unit, done))
    try:
        for unit, seen in _predict_units(todo, chosen, asked, setting, passing):
            with passing(unit):
                row = _evidence_row(chosen, unit, seen, setting, contours)
                kept.add(row)
                if drawn is not None:
                    drawn.offer(chosen, row, setting, unit=unit, asked=asked)
    finally:
        kept.close()
    if not kept.rows and part[1] == 1:
        raise InputError(f"no picture was evaluated: the data are empty, or all of them damaged {dict(faults.counts)}")
    faults.warn(f"evaluating {name or task}")
    return _report_of_rows(kept.rows, setting, about, _passed_over_counts(kept.passed))


def _check_arguments(
    task: Task,
    setting: Setting,
    folder: Path | None,
    part: tuple[int, int],
    *,
    contours: Contours | None,
    cases: int,
) -> None:
    instance_of("setting", setting, Setting, "a Setting")
    if contours is not None and (isinstance(contours, type) or not callable(contours)):
        raise InputError(f"contours is {contours!r}: give a ContourModel")
    number_in("cases", cases, 0, whole=True)
    if len(both := each_of("part", part, Integral, "two numbers, such as (0, 4)")) != 2 or isinstance(part, Set):
        raise InputError(f"part={part!r} is not allowed: give its number and how many there are, such as (0, 4)")
    number, parts = both
    number_in("part[1]", parts, 1, whole=True)
    number_in("part[0]", number, 0, parts - 1, whole=True)
    given = {
        "thresholds": setting.thresholds, "balances": setting.balances, "contours": contours is not None,
        "cases": cases,
    }  # fmt: skip
    if idle := [name for name, value in given.items() if value and name not in task.reads]:
        raise InputError(f"{', '.join(idle)} has no effect on {task.name}: leave it out")
    if cases and folder is None:
        raise InputError(f"cases={cases} pictures need a folder to be drawn into: give folder")
    if task.by_class and not setting.classes:
        raise InputError(f"{task.name} asks for classes, but none is given: Setting(classes=asked_as([...]))")


def judge(folder: Path | str) -> Report:
    """The report of all evidence in a folder, of however many processes.

    Parts that have not begun are named in a warning.

    Raises:
        JobError: The folder holds no evidence, damaged evidence, or that of different runs.
    """
    folder = folder_of("folder", folder)
    about = _read_run_description(folder)
    rows: list[dict[str, Any]] = []
    passed: dict[int, str] = {}
    numbers: set[tuple[int, int]] = set()
    for path in sorted(folder.glob(f"{EVIDENCE}-*.jsonl")):
        own, own_passed, _ = _read_evidence(path)
        rows += own
        passed |= own_passed
        if named := _PART.fullmatch(path.stem):
            numbers.add((int(named[1]), int(named[2])))
    if len({row["position"] for row in rows}) != len(rows):
        raise JobError(f"{folder} holds a picture twice: it was run with different numbers of parts")
    missing = sorted({(k, n) for _, n in numbers for k in range(n)} - numbers)
    if missing:
        listed = ", ".join(f"{k} of {n}" for k, n in missing)
        warnings.warn(
            f"{folder} holds no evidence of the parts {listed}: the report is of the others only",
            RemoteSAMWarning,
            stacklevel=2,
        )
    try:
        setting = Setting(**_setting_with_tuples(about["setting"]))
        return _report_of_rows(rows, setting, about, _passed_over_counts(passed))
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise JobError(f"the evidence in {folder} is damaged: {error!r}; evaluate again") from error


def _passed_over_counts(passed: Mapping[int, str]) -> dict[str, int]:
    """Pictures that were passed over, by kind."""
    return dict(sorted(Counter(passed.values()).items()))


def _task_by_name(name: str) -> Task:
    one_of("task", name, TASKS)
    return TASKS[name]


def _units_of_data(data: Iterable[Example] | Iterable[Triplet]) -> Iterator[Unit]:
    """A unit for each example, and for triplets of one picture that follow each other."""
    position, waiting = 0, list[Triplet]()
    instance_of("data", data, Iterable, "a list of examples or triplets")
    for one in data:
        instance_of(f"data[{position}]", one, (Example, Triplet), "an Example or a Triplet")
        if isinstance(one, Example):
            yield Unit(position=position, picture=one.picture, example=one)
            position += 1
            continue
        if waiting and waiting[-1].picture.name != one.picture.name:
            yield Unit(position=position, picture=waiting[0].picture, triplets=tuple(waiting))
            position, waiting = position + 1, []
        waiting.append(one)
    if waiting:
        yield Unit(position=position, picture=waiting[0].picture, triplets=tuple(waiting))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen:
    """A picture, and how its questions are answered: a map for each expression, as the model gives it."""

    rgb: NDArray[np.uint8]
    size: int | None
    answers: Callable[[Sequence[str]], Iterable[Chances]]


def _predict_units(
    units: Iterable[Unit],
    task: Task,
    asked: Answerer,
    setting: Setting,
    passing: Callable[[Unit], AbstractContextManager[None]],
) -> Iterator[tuple[Unit, _Seen]]:
    """Ask: several pictures together where the model can and each has few questions, else lazily one by one."""
    each = getattr(asked, "answers_each", None)
    waiting: list[tuple[Unit, NDArray[np.uint8], Sequence[str]]] = []
    for unit in units:
        with passing(unit):
            rgb, wanted = unit.picture.read(), task.ask(unit, setting)
            if each is None or len(wanted) > FULL_BATCH:
                yield (
                    unit,
                    _Seen(rgb=rgb, size=asked.image_size, answers=partial(asked.answers, rgb)),
                )
                continue
            waiting.append((unit, rgb, wanted))
            if sum(len(some) for _, _, some in waiting) >= FULL_BATCH:
                yield from _predict_units_together(asked, each, waiting)
                waiting = []
    if waiting:
        yield from _predict_units_together(asked, each, waiting)


def _predict_units_together(
    asked: Answerer, each: Any, waiting: Sequence[tuple[Unit, NDArray[np.uint8], Sequence[str]]]
) -> Iterator[tuple[Unit, _Seen]]:
    maps = each([rgb for _, rgb, _ in waiting], [wanted for _, _, wanted in waiting])
    for (unit, rgb, wanted), own in zip(waiting, maps, strict=True):
        known = dict(zip(wanted, own, strict=True))
        yield (
            unit,
            _Seen(rgb=rgb, size=asked.image_size, answers=partial(map, known.__getitem__)),
        )


def _is_new_unit(unit: Unit, done: Mapping[int, str]) -> bool:
    """Whether a picture was not asked yet.

    Raises:
        JobError: Another one was asked in its place.
    """
    before = done.get(unit.position)
    if before is not None and before != _evidence_unit_key(unit):
        raise JobError(
            f"the picture {_evidence_unit_key(unit)!r} was {before!r} when this run began: the data have changed, "
            "choose another folder"
        )
    return before is None


def _evidence_unit_key(unit: Unit) -> str:
    return f"{unit.position:06} {unit.picture.name}"


def _evidence_row(task: Task, unit: Unit, seen: _Seen, setting: Setting, contours: Contours | None) -> dict[str, Any]:
    size = seen.size
    square = setting.published and task.square and size is not None
    shape = (size, size) if square and size is not None else unit.picture.shape

    def maps(expressions: Sequence[str]) -> Iterator[Chances]:
        for chance in seen.answers(expressions):
            yield resized(chance, shape)

    def lines() -> NDArray[np.uint8] | None:
        return None if contours is None else contours(seen.rgb[None])[0]

    evidence = task.weigh(unit, PicturePredictor(shape=shape, maps=maps, contours=lines), setting)
    left = Counter(thing.label for thing in unit.example.things) if unit.example else Counter[str]()
    unasked = {label: times for label, times in left.items() if label not in setting.classes}
    return {"position": unit.position, "key": _evidence_unit_key(unit), "unasked": unasked, **evidence}


def _report_of_rows(
    rows: Sequence[dict[str, Any]],
    setting: Setting,
    about: dict[str, Any],
    passed_over: dict[str, int],
) -> Report:
    task = _task_by_name(about["task"])
    ordered = sorted(rows, key=lambda row: row["position"])
    unasked: Counter[str] = Counter()
    for row in ordered:
        unasked.update(row["unasked"])
    return Report.of(
        task,
        task.judge(ordered, setting),
        pictures=len(ordered),
        data=about["data"],
        model=about["model"],
        setting=setting.to_json(),
        passed_over=passed_over,
        unasked=dict(sorted(unasked.items())) if task.by_class else {},
    )


# --- evidence on disk ----------------------------------------------------------------------------


def _about_evaluation(
    task: str, name: str, asked: Answerer, setting: Setting, contours: Contours | None
) -> dict[str, Any]:
    return {
        "remotesam_geo": __version__,
        "task": task,
        "data": name,
        "model": asked.identity,
        "contours": None if contours is None else str(getattr(contours, "identity", "given")),
        "setting": setting.to_json(),
    }


class _EvidenceFile:
    """Evidence, as lines of JSON where there is a folder; a line that a killed process left unfinished is dropped.

    Attributes:
        rows: The evidence of each picture.
        passed: For each picture that was passed over, by its position, what kind of damage it had. It is tried again
            whenever the run goes on.
    """

    def __init__(self, folder: Path | None, about: dict[str, Any], part: tuple[int, int]) -> None:
        self.rows: list[dict[str, Any]] = []
        self.passed: dict[int, str] = {}
        self._file: BinaryIO | None = None
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / RUN).exists():
            before, now = _read_run_description(folder), json.loads(json.dumps(about))
            if differ := [key for key in now if before.get(key) != now[key]]:
                raise JobError(
                    f"{folder} holds evidence of another run (it differs in {', '.join(differ)}): choose another folder"
                )
        else:
            temporary = folder / f".{RUN}.{os.getpid()}"
            temporary.write_text(json.dumps(about, indent=1), "utf-8")
            temporary.replace(folder / RUN)
        path = folder / f"{EVIDENCE}-{part[0]}-of-{part[1]}.jsonl"
        whole = 0
        if path.exists():
            self.rows, self.passed, whole = _read_evidence(path)
        self._file = path.open("ab")
        self._file.truncate(whole)

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self.passed.pop(row["position"], None)
        self._write(row)

    def pass_over(self, unit: Unit, kind: str) -> None:
        """Note that a picture is passed over."""
        self.passed[unit.position] = kind
        self._write({"position": unit.position, "key": _evidence_unit_key(unit), PASSED: kind})

    def _write(self, row: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(row).encode() + b"\n")
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _read_run_description(folder: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((folder / RUN).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise JobError(f"{folder} holds no evidence: {error}") from error
    if not isinstance(about, dict):
        raise JobError(f"{folder / RUN} is damaged: it holds no object")
    return about


def _read_evidence(path: Path) -> tuple[list[dict[str, Any]], dict[int, str], int]:
    """The evidence in a file, what was passed over, and how many bytes the whole lines take.

    Raises:
        JobError: A line is damaged.
    """
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    rows: dict[int, dict[str, Any]] = {}
    passed: dict[int, str] = {}
    for number, line in enumerate(data[:whole].splitlines(), start=1):
        try:
            row = json.loads(line)
            position, kind = row["position"], row.get(PASSED)
            known = isinstance(position, int) and isinstance(row["key"], str)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            known = False
        if not known:
            raise JobError(f"{path} is damaged in line {number}: delete the file, and evaluate this part again")
        if kind is not None:
            passed[position] = str(kind)
            continue
        if position in rows:
            raise JobError(f"{path} holds a picture twice: {row['key']!r}")
        rows[position] = row
        passed.pop(position, None)
    return list(rows.values()), passed, whole


def _setting_with_tuples(said: dict[str, Any]) -> dict[str, Any]:
    """A setting read back from JSON, which knows lists only."""
    classes = {label: tuple(texts) for label, texts in said["classes"].items()}
    return said | {
        "classes": classes,
        "thresholds": tuple(said["thresholds"]),
        "balances": tuple(said["balances"]),
    }
