"""The command line, `remotesam-geo`.

Nothing heavy is imported here, so that Ctrl-C is understood from the first moment on.
"""

import io
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

__all__ = ["app", "main", "run"]

STOPPED = 130
"""Exit code after Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Those of the command line.

    Returns:
        The exit code.
    """
    from .program import main as program

    return program(arguments)


def run() -> None:
    """The console script."""
    signal.signal(signal.SIGINT, _stop_at_once)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows "?"
    # Before torch is there: its threads else spin for long while they wait, which is several times as slow beside other
    # work; not to spin at all is half as slow again on a quiet machine.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    code = _flushed(main())
    if code == STOPPED:
        os._exit(code)  # not waiting for threads that read from a silent server
    sys.exit(code)


def _stop_at_once(signum: int, frame: FrameType | None) -> None:
    """Ctrl-C while the command gets ready: nothing is under way yet that needs to be ended in order."""
    del signum, frame
    os.write(2, b"stopped\n")
    os._exit(STOPPED)


def _flushed(code: int) -> int:
    """The exit code after all output is written; a full disk or a closed pipe is told in one line."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        told = "it was closed" if isinstance(error, BrokenPipeError) else error
        with suppress(OSError, ValueError):
            if code == 0:
                sys.stderr.write(f"error: cannot write to the standard output: {told}\n")
            sys.stderr.flush()
        # What is left in the buffer cannot be written: the interpreter must not try again at its end.
        with suppress(OSError), open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 - a device
            os.dup2(nowhere.fileno(), 1)
        return code or 1
    return code


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .program import app

    return app
