"""What can go wrong, as types: one base error with few leaves, and one warning.

Every message names the value that was received and what to do about it.
"""

import math
import os
from collections.abc import Iterable, Sequence, Set
from difflib import get_close_matches
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import Any

__all__ = [
    "InputError",
    "JobError",
    "MissingExtraError",
    "ModelError",
    "ReadError",
    "RemoteSAMError",
    "RemoteSAMWarning",
    "SearchError",
    "WriteError",
    "each_of",
    "folder_of",
    "instance_of",
    "number_in",
    "one_of",
    "path_of",
]


class RemoteSAMError(Exception):
    """Base of every error raised on purpose by this package."""


class InputError(RemoteSAMError, ValueError):
    """An argument, a prompt, a scene or an area that cannot be used as given."""


class ModelError(RemoteSAMError):
    """Weights or a configuration that are missing, damaged, unsafe or do not fit the network."""


class SearchError(RemoteSAMError):
    """A catalogue that cannot be found, reached or understood."""


class ReadError(RemoteSAMError, OSError):
    """Pixels that could not be read. They never become no data."""


class WriteError(RemoteSAMError, OSError):
    """A file that could not be written. What was there before is kept."""


class JobError(RemoteSAMError):
    """A job folder that is locked, damaged or made from another plan."""


class MissingExtraError(RemoteSAMError, ImportError):
    """An optional dependency that is not installed; the message names the extra."""


class RemoteSAMWarning(UserWarning):
    """Something was done knowingly that the user may want otherwise."""


def one_of(name: str, value: Any, allowed: Iterable[Any]) -> None:
    """Check an argument that has a fixed set of values.

    Every public function calls it for each of its `Literal` arguments, before it does anything else.

    Args:
        name: Name of the argument, as the user writes it.
        value: What was given.
        allowed: The values that are allowed, for example `typing.get_args` of a `Literal`. None and booleans may be
            among them; True is not taken for 1.

    Raises:
        InputError: `value` is not one of them. The message lists them, and names the nearest one for a typo.

    Examples:
        >>> from remotesam_geo.errors import one_of
        >>> one_of("seam", "blend", ("blend", "paste"))
        >>> one_of("seam", "Blend", ("blend", "paste"))
        Traceback (most recent call last):
        remotesam_geo.errors.InputError: seam='Blend' is not allowed: use 'blend' or 'paste'. Did you mean 'blend'?
    """
    values = list(allowed)
    if any(type(value) is type(choice) and value == choice for choice in values):
        return
    *first, last = [repr(choice) for choice in values]
    listed = f"{', '.join(first)} or {last}" if first else last
    text = value.strip().lower() if isinstance(value, str) else ""
    near = get_close_matches(text, [choice for choice in values if isinstance(choice, str)], n=1)
    hint = f". Did you mean {near[0]!r}?" if near else ""
    raise InputError(f"{name}={value!r} is not allowed: use {listed}{hint}")


def instance_of(name: str, value: Any, kind: type | tuple[type, ...], remedy: str) -> None:
    """Check an argument that has to be of a type.

    Args:
        name: Name of the argument, as the user writes it.
        value: What was given.
        kind: The type, or several.
        remedy: What to give, for the message.

    Raises:
        InputError: `value` is of another type.

    Example:
        >>> from remotesam_geo.errors import instance_of
        >>> instance_of("title", 5, str, "text")
        Traceback (most recent call last):
        remotesam_geo.errors.InputError: title is an int: give text
    """
    if not isinstance(value, kind):
        given = "None" if value is None else type(value).__name__
        article = "" if value is None else "an " if given[0] in "aeiouAEIOU" else "a "
        raise InputError(f"{name} is {article}{given}: give {remedy}")


def each_of(name: str, values: Any, kind: type | tuple[type, ...], remedy: str) -> list[Any]:
    """Return an argument that holds several values of a type, as a list.

    Args:
        name: Name of the argument, as the user writes it.
        values: What was given. A text is not taken for its letters.
        kind: The type, or several types, of each value.
        remedy: What to give, for the message.

    Raises:
        InputError: `values` are not several, or one of them is of another type.
    """
    if isinstance(values, str) or not isinstance(values, Sequence | Set):
        given = "None" if values is None else f"of the type {type(values).__name__}"
        raise InputError(f"{name} is {given}: give a list of {remedy}")
    listed = list(values)
    for number, value in enumerate(listed):
        instance_of(f"{name}[{number}]", value, kind, remedy)
    return listed


def path_of(name: str, value: Any) -> Path:
    """Return an argument that names a file or folder, as a path.

    Args:
        name: Name of the argument, as the user writes it.
        value: What was given.

    Raises:
        InputError: `value` is neither text nor a path, or no file can have such a name.
    """
    instance_of(name, value, (str, PurePath), "the path of a file")
    try:
        os.lstat(value)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # no such file yet, or none that may be seen
    except (OSError, ValueError) as error:
        raise InputError(f"{name}={str(value)[:80]!r} is no path: {error}") from None
    return Path(value)


def folder_of(name: str, value: Any) -> Path:
    """Return an argument that names a folder, which need not be there yet, as a path.

    Args:
        name: Name of the argument, as the user writes it.
        value: What was given.

    Raises:
        InputError: `value` is no path, or something other than a folder is there.
    """
    path = path_of(name, value)
    if path.exists() and not path.is_dir():
        raise InputError(f"{name}={str(path)!r} is a file: give a folder")
    return path


def number_in(
    name: str,
    value: Any,
    low: float,
    high: float = math.inf,
    *,
    whole: bool = False,
    open_low: bool = False,
) -> None:
    """Check an argument that is a finite number within limits.

    Args:
        name: Name of the argument, as the user writes it.
        value: What was given; True and False are not numbers here.
        low: Smallest value that is allowed.
        high: Largest value that is allowed; infinity for no limit (infinity itself is never allowed).
        whole: Whether only whole numbers are allowed.
        open_low: Whether `low` itself is not allowed.

    Raises:
        InputError: `value` is no such number. The message says what is.

    Examples:
        >>> from remotesam_geo.errors import number_in
        >>> number_in("overlap", 0.25, 0, 0.5)
        >>> number_in("overlap", float("nan"), 0, 0.5)
        Traceback (most recent call last):
        remotesam_geo.errors.InputError: overlap=nan is not allowed: give a number from 0 to 0.5
    """
    kind = Integral if whole else Real
    if isinstance(value, kind) and type(value).__name__ not in ("bool", "bool_"):
        try:
            number = float(value)
        except OverflowError:  # a whole number beyond all floats
            number = math.inf
        above = number > low if open_low else number >= low
        if math.isfinite(number) and above and number <= high:
            return
    what = "a whole number" if whole else "a number"
    if open_low:
        limits = f"above {low:.10g}" + (f", up to {high:.10g}" if math.isfinite(high) else "")
    elif math.isfinite(high):
        limits = f"from {low:.10g} to {high:.10g}"
    else:
        limits = f"of {low:.10g} or more"
    raise InputError(f"{name}={value!r} is not allowed: give {what} {limits}")
