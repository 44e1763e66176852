"""What commands print: a few lines for people on stderr, the result as a table or JSON on stdout."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from remotesam_geo.errors import InputError

__all__ = ["check_out", "found", "note", "result", "table_of", "text"]

TABLES = (".parquet", ".geoparquet", ".gpkg", ".fgb", ".geojson", ".json")
"""Endings of what `save` writes tables to."""

NOTHING = 3
"""Exit code where something was asked, and nothing was found."""


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
    console = Console(highlight=False, soft_wrap=True)
    for name, item in value.items():
        console.print(f"{name}: {item}", markup=False)


def text(said: str) -> None:
    """Print what is laid out already."""
    Console(highlight=False, soft_wrap=True).print(said, markup=False)


def table_of(frame: pd.DataFrame, *, title: str, most: int = 20) -> None:
    """Print the first rows of a table."""
    table = Table(title=title, title_justify="left")
    for column in frame.columns:
        table.add_column(str(column))
    for row in frame.head(most).itertuples(index=False):
        table.add_row(*(_cell(value) for value in row))
    console = Console()
    console.print(table)
    if len(frame) > most:
        console.print(f"... and {len(frame) - most:,} rows more")


def found(count: int, what: str) -> int:
    """The exit code of a question, with a line where nothing was found."""
    if count:
        return 0
    note(f"nothing found: {what}")
    return NOTHING


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "" if value is None or value is pd.NaT or value is pd.NA else str(value)
