"""The command line, `remotesam-geo`: mistakes end with one clear line and a code, not with a traceback.

Codes: 0 done, 1 something went wrong, 2 the command was not understood, 3 asked, and nothing was found.
"""

import os
import sys
import warnings
from collections.abc import Sequence

import typer
from rich.console import Console

from remotesam_geo import __version__
from remotesam_geo.errors import RemoteSAMError, RemoteSAMWarning

from . import engine, jobs, tools, verbs

__all__ = ["app", "main"]


def _leave(code: object, **_: object) -> None:
    """What a command returns is its exit code; the options before it are told as well."""
    raise typer.Exit(code if isinstance(code, int) else 0)


app = typer.Typer(
    name="remotesam-geo",
    result_callback=_leave,
    help="Ask a question in words, of any place on Earth, and get a table of features back.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for family in (tools, verbs, jobs, engine):
    family.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)  # noqa: T201
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Say the version and leave."
    ),
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Those of the command line.

    Returns:
        The exit code.
    """
    said = Console(stderr=True, highlight=False, soft_wrap=True)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, category, *_: (
            said.print(f"[yellow]note:[/] {_plain(message)}")
            if issubclass(category, RemoteSAMWarning)
            else None
        )
        warnings.simplefilter("always", RemoteSAMWarning)
        try:
            app(None if arguments is None else list(arguments), prog_name="remotesam-geo")
        except SystemExit as left:
            return left.code if isinstance(left.code, int) else 0
        except (RemoteSAMError, OSError) as error:
            if _debugging():
                raise
            said.print(f"[red]error:[/] {_plain(error)}")
        except Exception as error:
            if _debugging():
                raise
            said.print(
                f"[red]error:[/] {type(error).__name__}: {_plain(error)} (unexpected: please report it, with what "
                "REMOTESAM_GEO_DEBUG=1 and remotesam-geo doctor say)"
            )
    return 1


def _debugging() -> bool:
    """Whether tracebacks are wanted."""
    return bool(os.environ.get("REMOTESAM_GEO_DEBUG"))


def _plain(message: object) -> str:
    """One line that rich takes as it is."""
    return " ".join(str(message).split()).replace("[", r"\[")


def run() -> None:
    """The console script."""
    # Before torch is there: its threads else spin for long while they wait, which is several times as slow beside other
    # work; not to spin at all is half as slow again on a quiet machine.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    sys.exit(main())
