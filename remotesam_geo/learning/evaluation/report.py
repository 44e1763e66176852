"""What was measured: tables for people, JSON for programs, and the difference of two."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from remotesam_geo.errors import InputError, instance_of

from .task_steps import Evidence, Task

__all__ = ["Report", "compare"]

WORST = 10


@dataclass(frozen=True, kw_only=True)
class Report:
    """The figures of one evaluation.

    Attributes:
        task: Which task.
        figure: The figure that its published table has.
        data: What was measured on.
        model: What was measured.
        pictures: How many.
        overall: Figures over all.
        by_class: Figures by class.
        confusion: Counts by truth and answer, where classes exclude each other.
        calibration: By class, rows of mean probability, share that is true, pixels.
        calibration_error: By class, how far probabilities are off.
        thresholds: By class, the threshold of the largest IoU of pixels, with precision, recall and IoU.
        sweeps: One line for each other threshold or balance.
        worst: Keys and quality of the worst answers.
        best: The same of the best.
        setting: How it was evaluated.
        passed_over: What could not be read, by kind.
        unasked: Things of labels that were not asked for, by label: no figure knows of them.
    """

    task: str
    figure: str
    data: str
    model: str
    pictures: int
    overall: Mapping[str, float]
    by_class: Mapping[str, Mapping[str, float]]
    confusion: Mapping[str, Mapping[str, int]]
    calibration: Mapping[str, Sequence[Sequence[float]]]
    calibration_error: Mapping[str, float]
    thresholds: Mapping[str, Mapping[str, float]]
    sweeps: Sequence[Mapping[str, float]]
    worst: Sequence[tuple[str, float]]
    best: Sequence[tuple[str, float]]
    setting: Mapping[str, Any]
    passed_over: Mapping[str, int] = field(default_factory=dict)
    unasked: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        task: Task,
        outcome: Evidence,
        *,
        pictures: int,
        data: str,
        model: str,
        setting: Mapping[str, Any],
        passed_over: Mapping[str, int],
        unasked: Mapping[str, int],
    ) -> Self:
        """The report of what evidence amounts to."""
        ranked = sorted(outcome.quality.items(), key=lambda one: (one[1], one[0]))
        chances = outcome.chances
        return cls(
            task=task.name,
            figure=task.figure,
            data=data,
            model=model,
            pictures=pictures,
            overall=outcome.scores.overall,
            by_class=outcome.scores.by_class,
            confusion=outcome.scores.confusion,
            calibration={name: counts.calibration() for name, counts in chances.items()},
            calibration_error={name: counts.calibration_error() for name, counts in chances.items()},
            thresholds={name: asdict(counts.best()) for name, counts in chances.items() if counts.true.any()},
            sweeps=outcome.sweeps,
            worst=ranked[:WORST],
            best=sorted(ranked, key=lambda one: (-one[1], one[0]))[:WORST],
            setting=setting,
            passed_over=passed_over,
            unasked=unasked,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is no number is null."""
        plain: dict[str, Any] = _report_json_number(asdict(self))
        return plain

    def table(self) -> str:
        """The report in Markdown."""
        judged = "as published" if self.setting.get("published") else "as it should be"
        lines = [
            f"# {self.task} on {self.data or 'data'}",
            "",
            f"{self.pictures} picture{'' if self.pictures == 1 else 's'}, model `{self.model}`, judged {judged}.",
            "",
            *_report_table_lines(["figure", "value"], [[name, value] for name, value in self.overall.items()]),
        ]
        for title, counts in (("Passed over", self.passed_over), ("Not asked for", self.unasked)):
            if counts:
                said = ", ".join(f"{what} ({times})" for what, times in counts.items())
                lines += ["", f"{title}: {said}."]
        if self.by_class:
            names = list(dict.fromkeys(name for row in self.by_class.values() for name in row))
            lines += ["", "## By class", ""]
            lines += _report_table_lines(
                ["class", *names],
                [[label, *(row.get(n, math.nan) for n in names)] for label, row in self.by_class.items()],
            )  # fmt: skip
        if self.confusion:
            answers = list(next(iter(self.confusion.values())))
            lines += ["", "## Confusion: truth by row, answer by column", ""]
            lines += _report_table_lines(
                ["", *answers],
                [[true, *(row[a] for a in answers)] for true, row in self.confusion.items()],
            )
        if self.thresholds:
            lines += ["", "## Thresholds of the largest IoU of pixels", ""]
            names = ["threshold", "precision", "recall", "iou"]
            lines += _report_table_lines(
                ["class", *names, "calibration error"],
                [
                    [label, *(row[n] for n in names), self.calibration_error[label]]
                    for label, row in self.thresholds.items()
                ],
            )
        if self.sweeps:
            names = list(dict.fromkeys(name for row in self.sweeps for name in row))
            lines += ["", "## Other thresholds and balances", ""]
            lines += _report_table_lines(names, [[row.get(n, math.nan) for n in names] for row in self.sweeps])
        for title, cases in (("Worst", self.worst), ("Best", self.best)):
            if cases:
                lines += ["", f"## {title}", "", *_report_table_lines(["picture", "quality"], cases)]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path | str) -> None:
        """Write `report.json` and `report.md` into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(json.dumps(self.to_json(), indent=1), "utf-8")
        (folder / "report.md").write_text(self.table(), "utf-8")

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """A report from its JSON.

        Raises:
            InputError: The file holds none.
        """
        try:
            said = json.loads(Path(path).read_text("utf-8"))
            report = cls(**said)
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise InputError(f"{path} holds no report: {error}") from error
        tables = (report.overall, report.by_class, report.setting, *report.by_class.values())
        if not all(isinstance(table, Mapping) for table in tables):
            raise InputError(f"{path} holds no report: its figures are not tables")
        return report

    def check_comparable(self, task: str) -> None:
        """Check that a report of a task can be compared with this one.

        Raises:
            InputError: This one is of another task.
        """
        if self.task != task:
            raise InputError(f"a report of {self.task!r} cannot be compared with one of {task!r}")


def compare(before: Report, after: Report) -> str:
    """Two reports of one task side by side, in Markdown.

    Raises:
        InputError: They are of different tasks.
    """
    for name, report in (("before", before), ("after", after)):
        instance_of(name, report, Report, "a Report")
    before.check_comparable(after.task)
    rows: list[Sequence[Any]] = []
    for scope, one, other in (
        ("all", before.overall, after.overall),
        *(
            (label, before.by_class[label], after.by_class[label])
            for label in before.by_class
            if label in after.by_class
        ),
    ):
        for name, value in one.items():
            if scope == "all" or name in (before.figure, "IoU", "mIoU", "F1", "accuracy"):
                then, now = _report_number(value), _report_number(other.get(name))
                rows.append([scope, name, then, now, now - then])
    notes = [
        f"{what}: {one!r} and {other!r}"
        for what, one, other in (
            ("data", before.data, after.data),
            ("pictures", before.pictures, after.pictures),
            ("judged", _setting_of_report(before), _setting_of_report(after)),
        )
        if one != other
    ]
    warning = [f"Not alike: {'; '.join(notes)}.", ""] if notes else []
    head = ["class", "figure", before.model[:12] or "before", after.model[:12] or "after", "change"]
    return "\n".join([*warning, *_report_table_lines(head, rows)]) + "\n"


def _setting_of_report(report: Report) -> dict[str, Any]:
    return {key: value for key, value in report.setting.items() if key != "classes"}


def _report_table_lines(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return lines + [f"| {' | '.join(_report_table_value(value) for value in row)} |" for row in rows]


def _report_table_value(value: Any) -> str:
    if isinstance(value, float):
        if math.isnan(value):
            return "–"
        return f"{value:.4f}" if value != int(value) or abs(value) < 2 else f"{value:.0f}"
    return "–" if value is None else str(value).replace("|", "\\|")


def _report_number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _report_json_number(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _report_json_number(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_report_json_number(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
