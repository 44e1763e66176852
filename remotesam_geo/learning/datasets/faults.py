"""What may be wrong with files of others: said clearly, or counted and passed over, as the user chose."""

import contextlib
import inspect
import json
import reprlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import wraps
from os import PathLike
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypedDict, TypeVar, get_args, get_origin

from remotesam_geo.errors import InputError, RemoteSAMWarning, number_in, one_of

__all__ = ["LIMITS", "DamageError", "Faults", "OnError", "ReadOptions", "ReaderLog", "SizeLimits", "reader"]

Arguments = ParamSpec("Arguments")
Row = TypeVar("Row")
PATHS = ("labels", "images", "folder", "maps")
"""Arguments of readers that are paths."""

V = TypeVar("V")
OnError = Literal["raise", "skip"]
"""Whether what is damaged ends the reading, or is counted and passed over."""


class DamageError(InputError):
    """Something in a data set that cannot be used.

    Attributes:
        kind: A few words, by which it is counted.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, kw_only=True)
class SizeLimits:
    """How large a thing may be before it is taken for an attack or an accident.

    Attributes:
        pixels: Of one picture or mask.
        label_bytes: Of one file of labels.
    """

    pixels: int = 150_000_000
    label_bytes: int = 2_000_000_000

    def __post_init__(self) -> None:
        number_in("pixels", self.pixels, 1, whole=True)
        number_in("label_bytes", self.label_bytes, 1, whole=True)

    def check_size(self, shape: tuple[int, int], what: str) -> None:
        """Refuse an empty or absurd size."""
        height, width = shape
        if height < 1 or width < 1 or height * width > self.pixels:
            raise DamageError(
                "size",
                f"{what} of {height} x {width} pixels: 1 to {self.pixels:,} are accepted; "
                "give limits=SizeLimits(pixels=...) for more",
            )


LIMITS = SizeLimits()
"""The limits that readers keep unless told otherwise."""


@dataclass
class Faults:
    """What was passed over, counted by kind.

    Attributes:
        counts: How often.
        first: The first message of each kind.

    Examples:
        >>> from remotesam_geo.learning.datasets import DamageError, Faults
        >>> faults = Faults()
        >>> with faults.passing("skip", "a.txt"):
        ...     raise DamageError("outside", "the box 9, 9, 9, 9 holds no pixel")
        >>> dict(faults.counts), faults.first["outside"]
        ({'outside': 1}, 'a.txt: the box 9, 9, 9, 9 holds no pixel')
    """

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def passing(self, on_error: OnError, name: str) -> contextlib.AbstractContextManager[None]:
        """Name the file in what goes wrong inside; with "skip", count it and go on after the block."""
        one_of("on_error", on_error, get_args(OnError))
        return self._passing(on_error, name)

    @contextlib.contextmanager
    def _passing(self, on_error: OnError, name: str) -> Iterator[None]:
        try:
            yield
        except DamageError as damage:
            message = f"{name}: {damage}" if not str(damage).startswith(name) else str(damage)
            if on_error == "raise":
                raise DamageError(damage.kind, message) from damage
            self.counts[damage.kind] += 1
            self.first.setdefault(damage.kind, message)

    def warn(self, what: str) -> None:
        """Say what was passed over, if anything."""
        if self.counts:
            said = ", ".join(f"{kind} ({times})" for kind, times in sorted(self.counts.items()))
            example = next(iter(self.first.values()))
            warnings.warn(
                f"{what}: {self.counts.total()} passed over: {said}. The first: {example}",
                RemoteSAMWarning,
                stacklevel=3,
            )


class ReadOptions(TypedDict, total=False):
    """Options of every reader.

    Attributes:
        source: Name of the data set, which its pictures carry.
        on_error: "raise" ends at the first damage; "skip" counts and passes over what is damaged: an object, a line, or
            a whole picture.
        faults: Counts what is passed over. Without it a warning says so at the end.
        limits: The largest pictures and files that are accepted.
    """

    source: str
    on_error: OnError
    faults: Faults | None
    limits: SizeLimits


@dataclass(kw_only=True)
class ReaderLog:
    """The options of a reader, as it uses them; see `ReadOptions`."""

    source: str = ""
    on_error: OnError = "raise"
    faults: Faults | None = None
    limits: SizeLimits = LIMITS

    def __post_init__(self) -> None:
        self._warns = self.faults is None
        self._faults = self.faults = Faults() if self.faults is None else self.faults

    def passing(self, name: str) -> contextlib.AbstractContextManager[None]:
        """See `Faults.passing`."""
        return self._faults.passing(self.on_error, name)

    def warn(self, what: str) -> None:
        """Say what was passed over, unless the caller counts it."""
        if self._warns:
            self._faults.warn(what)


def reader(
    read: Callable[Arguments, Iterator[Row]],
) -> Callable[Arguments, Iterator[Row]]:
    """Check the arguments of a reader when it is called, not when its first row is taken."""
    form = inspect.signature(read)
    kinds: dict[str, Any] = read.__annotations__
    literal: Any = Literal
    choices = {name: get_args(kind) for name, kind in kinds.items() if get_origin(kind) is literal}
    choices["on_error"] = get_args(OnError)

    @wraps(read)
    def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Iterator[Row]:
        given = form.bind(*args, **kwargs).arguments
        options = given.pop("options", {})
        for name in options:
            one_of("option", name, tuple(ReadOptions.__annotations__))
        given |= options
        for name in choices.keys() & given.keys():
            one_of(name, given[name], choices[name])
        for name, value in given.items():
            if value is None and name in form.parameters and form.parameters[name].default is None:
                continue
            if name in PATHS and not isinstance(value, str | PathLike):
                raise InputError(f"{name} is {value!r}: give a path")
            if name in {"split", "source"} and not isinstance(value, str | None):
                raise InputError(f"{name} is {value!r}: give a text")
        for name, kind in (("faults", Faults), ("limits", SizeLimits)):
            if not isinstance(given.get(name), kind | None):
                raise InputError(f"{name} is {given[name]!r}: give {kind.__name__}(...)")
        return read(*args, **kwargs)

    return checked


def label_bytes(path: Path, limits: SizeLimits) -> bytes:
    """A file of labels, all of it, unless it is missing or absurdly large."""
    try:
        size = path.stat().st_size
        if size > limits.label_bytes:
            raise DamageError("size", f"{path} has {size:,} bytes of labels")
        return path.read_bytes()
    except OSError as error:
        raise DamageError("missing labels", f"{path}: {error.strerror or error}") from error


def label_text(path: Path, limits: SizeLimits) -> str:
    """The same as text."""
    content = label_bytes(path, limits)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DamageError("label file", f"{path} is no text: {error}") from error


def label_json(path: Path, limits: SizeLimits) -> Any:
    """The same as JSON."""
    text = label_text(path, limits)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamageError("label file", f"{path} is no JSON: {error}") from error


_repr = reprlib.Repr()
_repr.maxlevel, _repr.maxother, _repr.maxstring, _repr.maxlong = 2, 60, 60, 60


def short(value: object) -> str:
    """A value as a message shows it: short, however large, deep or full of itself it is."""
    return _repr.repr(value)


def number(value: Any, what: str) -> float:
    """A finite number out of a file."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = float("nan")
    if not abs(found) < 1e12:  # false for NaN as well
        raise DamageError("number", f"{what} is {short(value)}, no number")
    return found


def entry(row: Any, key: str, kind: type | tuple[type, ...], what: str) -> Any:
    """A value of a mapping out of a file, of a type."""
    if not isinstance(row, dict) or not isinstance(row.get(key), kind):
        found = row.get(key) if isinstance(row, dict) else row
        raise DamageError("label file", f"{what} has {key}={short(found)}")
    return row[key]


def listed(table: Mapping[Any, V], key: Any) -> V | None:
    """What a table out of a file has under a key out of a file, which may be anything."""
    return table.get(key) if isinstance(key, str | int) else None
