"""What commands print: a few lines for people on stderr, the result as a table or JSON on stdout."""

import json
import signal
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from remotesam_geo.errors import InputError, WriteError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "MisuseError", "check_out", "found", "given", "note", "refuse", "result", "table_of", "text", "working",
]  # fmt: skip

TABLES = (".parquet", ".geoparquet", ".gpkg", ".fgb", ".geojson", ".json")
"""Endings of what `save` writes tables to."""

NOTHING = 3
"""Exit code where something was asked, and nothing was found."""


class MisuseError(InputError):
    """Options that do not go together: the command was not understood."""


def given(context: typer.Context) -> dict[str, str]:
    """The parameters that the user wrote, by name, each as it is spelled on the command line."""
    spelled = {
        str(each.name): str((each.opts if each.param_type_name == "option" else [each.name.upper()])[-1])
        for each in context.command.params
        if each.name
    }
    return {
        name: text
        for name, text in spelled.items()
        if getattr(context.get_parameter_source(name), "name", "DEFAULT") != "DEFAULT"
    }


def refuse(context: typer.Context, names: Collection[str], why: str) -> None:
    """Refuse options that would have no effect.

    Args:
        context: Of the command.
        names: The parameters without effect.
        why: When that is so: "with --config", for example.

    Raises:
        MisuseError: The user wrote one of them.
    """
    idle = [text for name, text in given(context).items() if name in names]
    if idle:
        raise MisuseError(f"{', '.join(idle)} has no effect {why}: leave it out")


@contextmanager
def working() -> Iterator[None]:
    """While something is under way, Ctrl-C ends it in order; before that, at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Output(Console):
    """The standard output."""

    def on_broken_pipe(self) -> None:
        raise WriteError("the output was closed before all was written")


def note(text: str) -> None:
    """Say a line to whoever watches."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False)


def check_out(out: Path | None) -> None:
    """Make sure, before anything is asked, that a table can be written there.

    Raises:
        InputError: Its ending or its folder is wrong.
    """
    if out is None:
        return
    if out.suffix.lower() not in TABLES:
        raise InputError(f"--out is {str(out)!r}: end it in one of {', '.join(TABLES)}")
    if not out.parent.is_dir():
        raise InputError(f"--out is {str(out)!r}, and there is no folder {str(out.parent)!r}")


def result(value: dict[str, Any], *, as_json: bool) -> None:
    """Print a result: JSON for programs, a line a key for people."""
    if as_json:
        print(json.dumps(value, default=str))  # noqa: T201
        return
    console = _Output(highlight=False, soft_wrap=True)
    for name, item in value.items():
        console.print(f"{name}: {item}", markup=False)


def text(said: str) -> None:
    """Print what is laid out already."""
    _Output(highlight=False, soft_wrap=True).print(said, markup=False)


def table_of(frame: "pd.DataFrame", *, title: str, most: int = 20) -> None:
    """Print the first rows of a table."""
    table = Table(title=title, title_justify="left")
    for column in frame.columns:
        table.add_column(str(column))
    for row in frame.head(most).itertuples(index=False):
        table.add_row(*(_table_cell(value) for value in row))
    console = _Output()
    console.print(table)
    if len(frame) > most:
        console.print(f"... and {len(frame) - most:,} rows more")


def found(count: int, what: str) -> int:
    """The exit code of a question, with a line where nothing was found."""
    if count:
        return 0
    note(f"nothing found: {what}")
    return NOTHING


def _table_cell(value: object) -> str:
    import pandas as pd

    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "" if value is None or value is pd.NaT or value is pd.NA else str(value)
