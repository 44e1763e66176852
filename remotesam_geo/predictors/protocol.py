"""What a predictor is: a network, or any function, that turns images and expressions into probabilities."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import InputError, ModelError, number_in
from remotesam_geo.tasks import FULL, decode, encode

__all__ = [
    "Codes",
    "Instances",
    "Predict",
    "PredictInstances",
    "Predictor",
    "PredictorError",
    "check_predictor",
    "predicted_codes",
    "predicted_instances",
    "predicted_probabilities",
]

LARGEST_SIDE = 1 << 16
"""Pixels along the side of a window."""

Codes: TypeAlias = NDArray[np.uint8]
"""Probabilities in bytes: q = ceil(200 p), from 0 to 200."""

Probabilities: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]


class Predictor(Protocol):
    """A network with its weights, or any function of images and expressions.

    It may have more, all optional:

    - `instances(images, expressions)`: for each image and expression the masks of its objects (N x S x S, bool) and
      their probabilities (N, float32), for `detect` and `segment` with `instances=True`.
    - `probabilities(images, expressions)`: the same as float32, where `predict` returns codes.
    - `unknown_words(expression)` and `cut_words(expression)`: what it does not know or read of an expression, for
      warnings.
    - `recipe`: plain JSON from which another process opens the same predictor; see `open_recipe`. Without it the
      workers of a cluster get the object itself, pickled, and a job can be continued only with `Job.open(model=...)`.

    `check` tests all of it.
    """

    @property
    def image_size(self) -> int:
        """Side of the square images it takes, in pixels."""

    @property
    def identity(self) -> str:
        """A text that changes whenever its probabilities would change: the hash of its weights, or a name."""

    def predict(self, images: NDArray[np.uint8], expressions: Sequence[str]) -> Probabilities:
        """Predict where each expression holds.

        Args:
            images: Red, green and blue (B x S x S x 3), S the `image_size`.
            expressions: P texts.

        Returns:
            B x P x S x S: probabilities from 0 to 1 as float32, or codes as uint8.
        """


Predict = Callable[[NDArray[np.uint8], Sequence[str]], Probabilities]
"""The method `predict` of a predictor."""


Instances = tuple[NDArray[np.bool_], NDArray[np.float32]]
"""The masks of some objects in an image (N x S x S), and their probabilities (N)."""

PredictInstances = Callable[[NDArray[np.uint8], Sequence[str]], Sequence[Sequence[Instances]]]
"""The method `instances` of a predictor: objects of each image (B) and each expression (P)."""


def check_predictor(predictor: object) -> None:
    """Check that an object has what a `Predictor` needs. Nothing is predicted.

    Raises:
        InputError: It lacks a part, or a part cannot be used.
    """
    what = f"model is {predictor!r:.80} of type {type(predictor).__name__}"
    if isinstance(predictor, str | PathLike):
        raise InputError(f"{what}: open it by RemoteSAM.from_pretrained({str(predictor)!r})")
    if isinstance(predictor, type):
        raise InputError(f"{what}, a class: give an object of it, {predictor.__name__}()")
    missing = [part for part in ("image_size", "identity", "predict") if not hasattr(predictor, part)]
    if missing:
        raise InputError(
            f"{what}, which has no {' and no '.join(missing)}: give what RemoteSAM.from_pretrained opens, or an object "
            "with image_size, identity and predict(images, expressions)"
        )
    given: Any = predictor
    number_in("the model's image_size", given.image_size, 2, LARGEST_SIDE, whole=True)
    if not isinstance(given.identity, str) or not given.identity.strip():
        raise InputError(
            f"the model's identity is {given.identity!r}: it must be a text that changes when the answers would change"
        )
    if not callable(given.predict):
        raise InputError(f"the model's predict is no function but a {type(given.predict).__name__}")


def predicted_codes(predict: Predict, images: NDArray[np.uint8], expressions: Sequence[str]) -> Codes:
    """Predict, check what comes back, and give it as codes.

    Args:
        predict: Of a predictor.
        images: B x S x S x 3.
        expressions: P expressions.

    Returns:
        B x P x S x S.

    Raises:
        PredictorError: It is no array of that shape, or its values are no probabilities and no codes.
    """
    found = _checked_answer(predict, predict(images, expressions), (len(images), len(expressions), *images.shape[1:3]))
    if found.dtype == np.uint8:
        return found
    codes: Codes = encode(found)
    return codes


def predicted_probabilities(
    predictor: Predictor, images: NDArray[np.uint8], expressions: Sequence[str]
) -> NDArray[np.float32]:
    """Predict as `predicted_codes` does; probabilities as the predictor gives them, or as its codes stand for."""
    predict: Predict = getattr(predictor, "probabilities", predictor.predict)
    found = _checked_answer(predict, predict(images, expressions), (len(images), len(expressions), *images.shape[1:3]))
    exact: NDArray[np.float32] = decode(found) if found.dtype == np.uint8 else found.astype(np.float32, copy=False)
    return exact


def predicted_instances(
    predict: PredictInstances, images: NDArray[np.uint8], expressions: Sequence[str]
) -> list[list[Instances]]:
    """Predict objects, and check what comes back.

    Args:
        predict: The method `instances` of a predictor.
        images: B x S x S x 3.
        expressions: P expressions.

    Returns:
        For each image and each expression the masks of its objects (N x S x S) and their probabilities (N).

    Raises:
        PredictorError: It is something else.
    """
    found = predict(images, expressions)
    who = f"the predictor {_predictor_name(predict)}"
    if not (isinstance(found, list | tuple) and len(found) == len(images)):
        raise PredictorError(f"{who}: instances must return a list with an entry for each of the {len(images)} images")
    for of_image in found:
        if not (isinstance(of_image, list | tuple) and len(of_image) == len(expressions)):
            raise PredictorError(
                f"{who}: instances must return, for each image, a list with an entry for each of the "
                f"{len(expressions)} expressions"
            )
        for entry in of_image:
            _check_instances(who, entry, images.shape[1:3])
    return [[(np.asarray(masks), np.asarray(scores, np.float32)) for masks, scores in each] for each in found]


def _check_instances(who: str, entry: object, shape: tuple[int, ...]) -> None:
    wanted = f"a pair of arrays: masks (N x {shape[0]} x {shape[1]}, bool) and their probabilities (N, float32)"
    if not (isinstance(entry, list | tuple) and len(entry) == 2 and all(isinstance(a, np.ndarray) for a in entry)):
        raise PredictorError(f"{who}: an entry of instances is {type(entry).__name__}; it must be {wanted}")
    masks, scores = entry
    if masks.dtype != np.bool_ or masks.ndim != 3 or masks.shape[1:] != shape:
        raise PredictorError(f"{who}: masks of instances are {masks.dtype} {masks.shape}; give {wanted}")
    if scores.shape != masks.shape[:1] or scores.dtype.kind != "f" or not ((scores >= 0) & (scores <= 1)).all():
        raise PredictorError(
            f"{who}: probabilities of instances are {scores.dtype} {scores.shape}; give {len(masks)} from 0 to 1"
        )


class PredictorError(ModelError):
    """What a predictor returned cannot be used. It is never counted as a failed window: the predictor has a fault."""


def _checked_answer(predict: object, found: object, shape: tuple[int, ...]) -> NDArray[Any]:
    who = f"the predictor {_predictor_name(predict)}"
    wanted = f"an array of shape {shape} (images, expressions, rows, columns): float32 from 0 to 1, or uint8 codes"
    if not isinstance(found, np.ndarray):
        hint = ": call .cpu().numpy()" if hasattr(found, "numpy") else ""
        raise PredictorError(f"{who} returned a {type(found).__name__}{hint}; it must return {wanted}")
    if found.shape != shape:
        raise PredictorError(f"{who} returned the shape {found.shape}; it must return {wanted}")
    if found.dtype == np.uint8:
        if found.size and found.max() > FULL:
            raise PredictorError(
                f"{who} returned the byte {found.max()}: codes are ceil({FULL} p), from 0 to {FULL}. Return float32 "
                "probabilities, or encode them with remotesam_geo.tasks.encode"
            )
        return found
    if found.dtype.kind != "f":
        raise PredictorError(f"{who} returned {found.dtype}; it must return {wanted}")
    low, high = (found.min(), found.max()) if found.size else (0, 0)
    if not (low >= 0 and high <= 1):  # NaN compares false
        raise PredictorError(
            f"{who} returned values from {low:g} to {high:g}: probabilities lie from 0 to 1, and NaN is none. "
            "Apply a sigmoid to logits, and give 0 where nothing is known"
        )
    return found


def _predictor_name(predict: object) -> str:
    owner = getattr(predict, "__self__", predict)
    return str(getattr(owner, "__qualname__", type(owner).__name__))
