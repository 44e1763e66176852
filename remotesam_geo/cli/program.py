"""The program: all commands, and how they end. Mistakes end with one clear line and a code, not with a traceback.

Codes: 0 done, 1 something went wrong, 2 the command was not understood, 3 asked, and nothing was found, 130 stopped.
"""

import os
import warnings
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from remotesam_geo import __version__
from remotesam_geo.errors import RemoteSAMError, RemoteSAMWarning, WriteError

from . import STOPPED
from . import (
    evaluation_commands as evaluation,
)
from . import (
    job_commands as jobs,
)
from . import (
    labelling_commands as engine,
)
from . import (
    tool_commands as tools,
)
from . import (
    training_commands as training,
)
from . import (
    verb_commands as verbs,
)
from .printing import MisuseError

__all__ = ["app", "main"]


def _exit_with(code: object, **_: object) -> None:
    """What a command returns is its exit code; the options before it are told as well."""
    raise typer.Exit(code if isinstance(code, int) else 0)


class _Stopped(Exception):  # noqa: N818 - not an error: the user wants it
    """Ctrl-C, under a name that typer leaves alone."""


class _Group(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise _Stopped from stop
        except BrokenPipeError as error:  # typer would leave without a word
            raise WriteError("the output was closed before all was written") from error


app = typer.Typer(
    name="remotesam-geo",
    cls=_Group,
    result_callback=_exit_with,
    help="Ask a question in words, of any place on Earth, and get a table of features back.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for family in (tools, verbs, jobs, engine, training, evaluation):
    family.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)  # noqa: T201
        raise typer.Exit


@app.callback()
def _program_options(
    version: bool = typer.Option(
        False,
        "--version",
        callback=_print_version,
        is_eager=True,
        help="Say the version and leave.",
    ),
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """See `remotesam_geo.cli.main`."""
    said = Console(stderr=True, highlight=False, soft_wrap=True)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, category, *_: (
            said.print(f"[yellow]note:[/] {_plain_message(message)}")
            if issubclass(category, RemoteSAMWarning)
            else None
        )
        warnings.simplefilter("always", RemoteSAMWarning)
        try:
            app(None if arguments is None else list(arguments), prog_name="remotesam-geo")
        except SystemExit as left:
            return left.code if isinstance(left.code, int) else 0
        except (_Stopped, KeyboardInterrupt):
            said.print("stopped")
            return STOPPED
        except (RemoteSAMError, OSError) as error:
            if _wants_traceback():
                raise
            said.print(f"[red]error:[/] {_plain_message(error)}")
            return 2 if isinstance(error, MisuseError) else 1
        except Exception as error:
            if _wants_traceback():
                raise
            said.print(
                f"[red]error:[/] {type(error).__name__}: {_plain_message(error)} (unexpected: please report it, with "
                "what REMOTESAM_GEO_DEBUG=1 and remotesam-geo doctor say)"
            )
    return 1


def _wants_traceback() -> bool:
    """Whether tracebacks are wanted."""
    return bool(os.environ.get("REMOTESAM_GEO_DEBUG"))


def _plain_message(message: object) -> str:
    """One line that rich takes as it is."""
    return " ".join(str(message).split()).replace("[", r"\[")
