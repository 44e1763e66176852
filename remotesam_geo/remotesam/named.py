"""Models by name: those that files and the command line may name.

Such a name never imports code by itself: it is built in, a repository, a path, or registered by an installed package.
"""

import re
from pathlib import Path
from typing import Literal

from remotesam_geo.errors import InputError
from remotesam_geo.predictors.names import GROUP, registered, registered_predictor

from .verbs import RemoteSAM

__all__ = ["is_import", "named_model"]

_IMPORT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_AT_COMMIT = re.compile(r"([\w-][\w.-]*/[\w.-]+)@([0-9a-f]{40})")


def is_import(name: object) -> bool:
    """Whether a name has the form "module:attribute" and is no path."""
    return isinstance(name, str) and bool(_IMPORT.fullmatch(name)) and not Path(name).exists()


def named_model(name: object, *, precision: Literal["auto", "float32", "bfloat16"] = "auto") -> RemoteSAM:
    """Open a model that a file or the command line names.

    Args:
        name: "released" or "1e12Leon/RemoteSAM" for the released weights, "tiny", a registered name, a model folder, a
            `.pth`, or a repository with its commit, "owner/name@commit".
        precision: As in `RemoteSAM.from_pretrained`; registered models choose their own.

    Raises:
        InputError: It names Python code.
        ModelError: There is no such model.
    """
    if not isinstance(name, str | Path) or not str(name).strip():
        raise InputError(f"model is {name!r}: give a name or a path as text")
    if name != "tiny" and registered(name) is not None:
        return RemoteSAM(registered_predictor(str(name)))
    if is_import(name):
        raise InputError(
            f"model {name!r} names Python code, which files and the command line must not run. Give 'released', "
            "'tiny', a model folder, a .pth, or a name that an installed package registers in the entry-point group "
            f"{GROUP!r}; in Python, pass it to Job.create or Job.open"
        )
    if name == "released":
        return RemoteSAM.from_pretrained(precision=precision)
    at_commit = _AT_COMMIT.fullmatch(str(name))
    if at_commit and not Path(name).exists():
        return RemoteSAM.from_pretrained(at_commit[1], revision=at_commit[2], precision=precision)
    return RemoteSAM.from_pretrained(name, precision=precision)
