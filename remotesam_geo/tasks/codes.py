"""The byte in which probabilities are kept, and the check that every map passes first.

A map is a plain 2-D array of one of three types: the byte (uint8), float16 or float32. One rule holds for values
that were not answered: inside, a map says so with a byte (`FAILED`, `NO_DATA`); NaN is read by `encode` alone. A
float map with NaN is refused everywhere else, with that remedy, so that an unanswered pixel is never taken for a
low probability.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import InputError

from .array_checks import describe

__all__ = ["FAILED", "FULL", "NO_DATA", "Map", "decode", "encode"]

Map: TypeAlias = NDArray[Any]
"""One map, H x W: codes (uint8), float16 or float32. `check_map` is stricter than types can be."""

FULL = 200
"""The byte of probability 1: a step is 0.005."""
FAILED = 254
"""The byte of a pixel whose answer failed."""
NO_DATA = 255
"""The byte of a pixel that has no data."""

BYTE_SCALE = 2 * FULL
"""Parts of one in which byte maps are summed: q is read as (q - 0.5) / 200 = (2 q - 1) / 400."""
FLOAT_SCALE = 2**31
"""Parts of one in which float maps are summed. Every float16, and every float32 from 1/256 up, is a whole number of
them, so that sums are exact integers for any threshold but 0, and 2**32 pixels fit into an int64."""

STRIP_PIXELS = 1 << 20  # rows are read in strips of about this many pixels: memory stays small
_FLOATS = (np.dtype(np.float16), np.dtype(np.float32))
_READ = np.full(256, np.nan, np.float32)
_READ[0] = 0
_READ[1 : FULL + 1] = (np.arange(1, FULL + 1) - 0.5) / FULL


def encode(prob: NDArray[np.floating], *, failed: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """Turn probabilities into bytes: ``ceil(200 p)``, so that ``p > t`` is exactly ``q > 200 t``.

    Args:
        prob: Probabilities in 0..1 of any shape, NaN where there is no answer; float64 is rounded to float32 first.
        failed: True where the answer failed, of the same shape; elsewhere NaN means no data.

    Returns:
        The bytes, of the same shape.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import encode
        >>> encode(np.array([0.0, 0.001, 0.5, 0.501, 1.0, np.nan], np.float32))
        array([  0,   1, 100, 101, 200, 255], dtype=uint8)
    """
    if not _is_array_of_codes(prob, "f"):
        raise InputError(
            f"encode takes an array of float probabilities, not {describe(prob)}: byte maps are encoded already"
        )
    if failed is not None and (not _is_array_of_codes(failed, "b") or failed.shape != prob.shape):
        raise InputError(
            f"failed is {describe(failed)}: give True and False in the shape of the probabilities, {prob.shape}"
        )
    wrong = ~np.isnan(prob) & ~((prob >= 0) & (prob <= 1))
    if wrong.any():
        raise InputError(f"a probability of {prob[wrong].flat[0]}: they must lie in 0..1 (NaN where not answered)")
    if prob.dtype not in _FLOATS:
        prob = prob.astype(np.float32)
    with np.errstate(invalid="ignore"):  # NaN is overwritten below
        # In float64 the product is exact: the 24 bits of a float32 and the 8 of 200 fit.
        codes = np.ceil(prob.astype(np.float64) * FULL).astype(np.uint8)
    codes[np.isnan(prob)] = NO_DATA
    if failed is not None:
        codes[failed] = FAILED
    return codes


def decode(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn bytes into probabilities: ``(q - 0.5) / 200``, 0 for 0, NaN where there is no answer.

    Thresholds in steps of 0.005 cut the result exactly as they cut the bytes, and `encode` gives the bytes back.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.tasks import decode
        >>> decode(np.array([0, 100, 200, 255], np.uint8))
        array([0.    , 0.4975, 0.9975,    nan], dtype=float32)
    """
    if not _is_array_of_codes(codes, "u") or codes.dtype != np.uint8:
        raise InputError(f"decode takes an array of uint8 codes, not {describe(codes)}")
    _check_codes(codes, "codes")
    return _READ[codes]


def check_map(prob: object, name: str = "prob") -> None:
    """Refuse what is no map of probabilities, naming what is wrong with it and what to do."""
    if not isinstance(prob, np.ndarray) or isinstance(prob, np.ma.MaskedArray):
        raise InputError(
            f"{name} must be a plain NumPy array, not {describe(prob)}: "
            "encode a masked array with encode(prob.filled(np.nan)), take the values of a DataArray"
        )
    if prob.ndim != 2:
        raise InputError(f"{name} has the shape {prob.shape}: one map has two axes, y and x; pass maps one by one")
    if prob.dtype == np.uint8:
        _check_codes(prob, name)
    elif prob.dtype in _FLOATS:
        _check_float_codes(prob, name)
    else:
        raise InputError(
            f"{name} has the type {prob.dtype}: give the byte codes (uint8), float16 or float32; "
            "convert others with prob.astype('float32')"
        )


def check_contour(contour: Map, shape: tuple[int, ...]) -> None:
    """Refuse what is no map of contours for a map of this shape."""
    check_map(contour, "contour")
    if contour.shape != shape:
        raise InputError(
            f"the contour map has the shape {contour.shape}, the probability map {shape}: bring both to one size"
        )


def _check_codes(codes: NDArray[np.uint8], name: str) -> None:
    for part in strips(codes):
        if part.max(initial=0) <= FULL:
            continue
        unknown = part[(part > FULL) & (part < FAILED)]
        if unknown.size:
            raise InputError(
                f"{name} holds the code {unknown[0]}: probabilities are 0..200, {FAILED} means failed, "
                f"{NO_DATA} no data; an 8-bit picture of probabilities goes through encode(picture / 255)"
            )


def _check_float_codes(prob: NDArray[np.floating], name: str) -> None:
    for part in strips(prob):
        if part.size and not (part.min() >= 0 and part.max() <= 1):  # false for NaN as well
            wrong = part[~((part >= 0) & (part <= 1))][0]
            if np.isnan(wrong):
                raise InputError(
                    f"{name} holds NaN: mark pixels without an answer with encode(prob), which makes them no data"
                )
            raise InputError(f"{name} holds {wrong}: probabilities lie in 0..1; turn logits into them first")


def strips(array: Map) -> Iterator[Map]:
    """Views of a few rows each, which follow each other; of an array without rows all at once."""
    if array.ndim < 2:
        yield array
        return
    width = int(np.prod(array.shape[1:]))
    step = max(1, STRIP_PIXELS // max(1, width))
    for top in range(0, array.shape[0], step):
        yield array[top : top + step]


def above(values: Map, steps: int) -> NDArray[np.bool_]:
    """Where a checked map exceeds a threshold; false where it has no answer."""
    if values.dtype == np.uint8:
        return np.logical_and(values > steps, values <= FULL)
    return np.greater(values, _at_most(values.dtype, steps))


def _at_most(dtype: np.dtype[Any], steps: int) -> np.floating:
    """The largest number of a float type that does not exceed the threshold.

    A value of that type exceeds the threshold exactly where it exceeds this number, so that the whole map need not
    be widened to be compared without rounding.
    """
    bound: np.floating = dtype.type(steps / FULL)
    return np.nextafter(bound, dtype.type(0)) if float(bound) * FULL > steps else bound


def scale_of(dtype: np.dtype[Any]) -> int:
    """Parts of one in which maps of this type are summed."""
    return BYTE_SCALE if dtype == np.uint8 else FLOAT_SCALE


def in_parts(values: Map) -> NDArray[np.int64]:
    """Answered values as whole numbers of `scale_of` parts."""
    if values.dtype == np.uint8:
        return np.maximum(2 * values.astype(np.int64) - 1, 0)
    return np.rint(values.astype(np.float64) * FLOAT_SCALE).astype(np.int64)


def _is_array_of_codes(value: object, kind: str) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == kind
