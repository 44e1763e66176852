"""Models by name: those that files and the command line may name.

Such a name never imports code by itself: it is built in, a repository, a path, or registered by an installed package.
"""

import re
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Literal

from remotesam_geo.errors import InputError, ModelError
from remotesam_geo.predictors.remotesam_network import Model

from .verbs import RemoteSAM

__all__ = ["GROUP", "is_import", "named_model", "registered", "registered_model"]

GROUP = "remotesam_geo.predictors"
"""The entry-point group in which installed packages register their predictors."""

_IMPORT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_AT_COMMIT = re.compile(r"([\w-][\w.-]*/[\w.-]+)@([0-9a-f]{40})")


def is_import(name: object) -> bool:
    """Whether a name has the form "module:attribute" and is no path."""
    return isinstance(name, str) and bool(_IMPORT.fullmatch(name)) and not Path(name).exists()


def registered(name: object) -> EntryPoint | None:
    """The entry point of that name, if an installed package registers one.

    Raises:
        ModelError: Several packages register it.
    """
    if not isinstance(name, str):
        return None
    found = {point.value: point for point in entry_points(group=GROUP, name=name)}
    if len(found) > 1:
        raise ModelError(
            f"several installed packages register a model {name!r} ({', '.join(sorted(found))}): uninstall all but one"
        )
    return next(iter(found.values()), None)


def registered_model(name: str) -> Model:
    """The model that an installed package registers under that name.

    Raises:
        ModelError: No package does, or it cannot make the model.
    """
    point = registered(name)
    if point is None:
        raise ModelError(f"no installed package registers a model {name!r}: install the one that does")
    try:
        model: Model = point.load()()
    except Exception as error:
        raise ModelError(
            f"the registered model {name!r} ({point.value}) cannot be made: {type(error).__name__}: {error}"
        ) from error
    if not all(hasattr(model, part) for part in ("image_size", "identity", "predict")):
        raise ModelError(
            f"the registered model {name!r} ({point.value}) gave a {type(model).__name__}, which has no image_size, "
            "identity and predict"
        )
    return model


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
        return RemoteSAM(registered_model(str(name)))
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
