"""Checks of arguments: arrays, lists of partial results, and the shape of a picture."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from remotesam_geo.errors import InputError, instance_of

__all__ = ["FAR", "check_array", "check_each", "check_shape", "describe"]

FAR = 2**31
"""Coordinates stay below it, so that products of them fit into an int64."""
_KINDS = {"numbers": "iuf", "whole numbers": "iu"}


def describe(value: object) -> str:
    """What a value is, for messages: its type, and the type and shape of an array."""
    if isinstance(value, np.ndarray):
        kind = "an array" if type(value) is np.ndarray else f"a {type(value).__name__}"
        return f"{kind} of {value.dtype} of the shape {value.shape}"
    return f"a {type(value).__name__}"


def check_array(
    name: str,
    value: Any,
    kind: Literal["numbers", "whole numbers"],
    shape: tuple[int | str, ...] | None,
    limits: tuple[float, float] | None = (-FAR, FAR),
) -> None:
    """Check an argument that is an array of numbers.

    Args:
        name: Name of the argument.
        value: What was given.
        kind: Which numbers it holds.
        shape: Length of each axis, or a letter for any length; None for any shape.
        limits: Smallest and largest number that is allowed; None for any, NaN too.

    Raises:
        InputError: `value` is no such array.

    Example:
        >>> import numpy as np
        >>> from remotesam_geo.tasks.array_checks import check_array
        >>> check_array("box", np.zeros((3, 4)), "numbers", ("n", 4))
        >>> check_array("box", np.zeros((3, 2)), "numbers", ("n", 4))
        Traceback (most recent call last):
        remotesam_geo.errors.InputError: box is an array of float64 of the shape (3, 2): give an array of numbers, n x 4
    """
    fits = (
        isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray) and value.dtype.kind in _KINDS[kind]
    )
    if fits and shape is not None:
        fits = len(shape) == value.ndim and all(
            want in (have, "n") for want, have in zip(shape, value.shape, strict=True)
        )
    if not fits:
        axes = "" if shape is None else f", {' x '.join(map(str, shape))}"
        raise InputError(f"{name} is {describe(value)}: give an array of {kind}{axes}")
    if limits and value.size and not (value.min() >= limits[0] and value.max() <= limits[1]):
        raise InputError(
            f"{name} holds {value.min()} to {value.max()}: give finite {kind} from {limits[0]} to {limits[1]}"
        )


def check_each(name: str, values: Any, kind: type) -> None:
    """Check an argument that is a list of one or more partial results.

    Raises:
        InputError: It is empty, no list, or holds something else.
    """
    instance_of(name, values, Sequence, f"a list of {kind.__name__}")
    if not len(values):
        raise InputError(f"{name} is empty: give one {kind.__name__} or more")
    for number, value in enumerate(values):
        instance_of(f"{name}[{number}]", value, kind, f"a {kind.__name__}")


def check_shape(shape: Any) -> None:
    """Check the height and width of a picture in pixels.

    Raises:
        InputError: They are not two whole numbers of 1 or more.
    """
    if (
        not isinstance(shape, tuple | list)
        or len(shape) != 2
        or any(isinstance(side, bool) or not isinstance(side, int | np.integer) for side in shape)
        or not 1 <= min(shape) <= max(shape) < FAR
    ):
        raise InputError(f"shape is {shape!r}: give height and width in pixels, 1 or more")
