"""Logs for other programs, beside the log that a run keeps for itself."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from remotesam_geo.errors import InputError, MissingExtraError, one_of
from remotesam_geo.learning.datasets.picture_files import write_whole

from .checkpoint import Log

__all__ = ["LogKind", "Mirror", "check_logs", "opened"]

LogKind = Literal["csv", "tensorboard"]


class Mirror(Protocol):
    """Another form of the log."""

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Take a line."""

    def flush(self) -> None:
        """Bring it to the disk."""


def check_logs(logs: Sequence[LogKind]) -> None:
    """Check which logs are asked for, before a run is begun.

    Raises:
        InputError: There is no such log.
    """
    if isinstance(logs, str) or not isinstance(logs, Sequence):
        raise InputError(f"logs={logs!r} is not allowed: give a list, such as ['csv', 'tensorboard']")
    for kind in logs:
        one_of("logs", kind, get_args(LogKind))


def opened(kinds: Sequence[LogKind], folder: Path, step: int) -> list[Mirror]:
    """The logs that are asked for.

    Args:
        kinds: Which.
        folder: Of the run.
        step: Steps that are done; what a log holds of later ones goes.

    Raises:
        InputError: There is no such log.
        MissingExtraError: TensorBoard is not installed.
    """
    makers: dict[str, Callable[[], Mirror]] = {
        "csv": lambda: _CSV(folder),
        "tensorboard": lambda: _TensorBoard(folder, step),
    }
    check_logs(kinds)
    return [makers[kind]() for kind in kinds]


def _flat_log_values(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat_log_values(value, f"{before}{name}/")
        elif name != "step":
            yield f"{before}{name}", value


class _CSV:
    """`log.csv`, a row a step, made anew of the run's own log so that both agree after a kill."""

    def __init__(self, folder: Path) -> None:
        self._log, self._path = folder / "log.jsonl", folder / "log.csv"

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Nothing: the run's own log has it."""

    def flush(self) -> None:
        rows: dict[int, dict[str, float]] = {}
        for line in Log.lines(self._log):
            rows.setdefault(line["step"], {"step": line["step"]}).update(_flat_log_values(line))
        columns = list(dict.fromkeys(name for row in rows.values() for name in row))
        text = io.StringIO()
        table = csv.DictWriter(text, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(rows.values())
        write_whole(self._path, text.getvalue().encode())


class _TensorBoard:
    """Scalars for TensorBoard; what is written twice after a kill is shown once."""

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MissingExtraError(
                "logs for TensorBoard need the extra: pip install 'remotesam-geo[tensorboard]'"
            ) from error
        self._writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        for name, value in _flat_log_values(values):
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        self._writer.flush()
