"""A test kit for predictors of your own."""

import json
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import InputError

from .protocol import Predictor, PredictorError, check_predictor, predicted_codes, predicted_probabilities

__all__ = ["check"]

EXPRESSIONS = ("ship in the image", "the red roof on the left", "ship in the image", "é 船")


def check(predictor: Predictor) -> None:
    """Test that a predictor does what `Predictor` says. Run it in the tests of your own predictor.

    It predicts about 15 images. Tested are: the attributes; shape, type and range of what is returned; that the same
    image and expression give the same probabilities, alone, in a batch, in any order, and again; that the images are
    left unchanged; that the recipe is plain JSON.

    Args:
        predictor: The predictor, or a `RemoteSAM` with it.

    Raises:
        InputError: It lacks a part, or a part cannot be used.
        PredictorError: What it returns cannot be used. The message names the fault.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.predictors import check
        >>> class Bright:
        ...     image_size, identity = 64, "bright pixels"
        ...     def predict(self, images, expressions):
        ...         light = images.mean(-1, dtype=np.float32) / 255
        ...         return np.repeat(light[:, None], len(expressions), 1)
        >>> check(Bright())
        >>> Bright.predict = lambda self, images, expressions: images.mean(-1)
        >>> check(Bright())
        Traceback (most recent call last):
        remotesam_geo.predictors.protocol.PredictorError: the predictor Bright returned the shape (3, 64, 64); it must \
return an array of shape (3, 4, 64, 64) (images, expressions, rows, columns): float32 from 0 to 1, or uint8 codes
    """
    predictor = getattr(predictor, "model", predictor)  # of a RemoteSAM
    check_predictor(predictor)
    who = f"the predictor {type(predictor).__name__}"
    images = _check_images(predictor.image_size)
    given = images.copy()
    whole = predicted_codes(predictor.predict, images, EXPRESSIONS)
    if not np.array_equal(images, given):
        raise PredictorError(f"{who} changed the images: work on a copy")
    for what, found, expected in _repeated_predictions(predictor, images, whole):
        away = int(np.abs(found.astype(int) - expected.astype(int)).max())
        if away > 1:  # rounding may differ with the size of a batch
            raise PredictorError(
                f"{who} gives other probabilities {what}: they differ by up to {away / 200:g}. Maps of large areas "
                "need the same answer for the same image and expression"
            )
    if hasattr(predictor, "probabilities"):
        exact = predicted_probabilities(predictor, images, EXPRESSIONS)
        away = int(np.abs(np.ceil(exact * 200) - whole).max())
        if away > 1:
            raise PredictorError(f"{who}: predict and probabilities differ by up to {away / 200:g}")
    for name in ("unknown_words", "cut_words"):
        if hasattr(predictor, name):
            _check_words(who, name, getattr(predictor, name)(EXPRESSIONS[1]))
    _check_recipe(who, getattr(predictor, "recipe", None))


def _check_images(size: int) -> NDArray[np.uint8]:
    """Three images: noise, black, and a bright square."""
    images = np.zeros((3, size, size, 3), np.uint8)
    images[0] = np.random.default_rng(0).integers(0, 256, (size, size, 3))
    images[2, size // 4 : size // 2, size // 4 : size // 2] = 255
    return images


def _repeated_predictions(
    predictor: Predictor, images: NDArray[np.uint8], whole: NDArray[np.uint8]
) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
    def predict(some: NDArray[np.uint8], expressions: tuple[str, ...]) -> NDArray[np.uint8]:
        return predicted_codes(predictor.predict, some, expressions)

    yield "when it is run again", predict(images, EXPRESSIONS), whole
    for number in range(len(images)):
        alone = slice(number, number + 1)
        yield "for one image alone", predict(images[alone], EXPRESSIONS), whole[alone]
    yield "for images in another order", predict(images[::-1], EXPRESSIONS), whole[::-1]
    yield "for one expression alone", predict(images, EXPRESSIONS[1:2]), whole[:, 1:2]
    yield "for expressions in another order", predict(images, EXPRESSIONS[::-1]), whole[:, ::-1]
    yield "for an expression that is given twice", whole[:, 2], whole[:, 0]


def _check_words(who: str, name: str, found: object) -> None:
    fits = isinstance(found, str) if name == "cut_words" else isinstance(found, tuple | list | set)
    if not fits:
        wanted = "a text" if name == "cut_words" else "a tuple of texts"
        raise InputError(f"{who}: {name} returned {found!r}; it must return {wanted}")


def _check_recipe(who: str, recipe: object) -> None:
    if recipe is None:
        return
    try:
        same = isinstance(recipe, dict) and json.loads(json.dumps(recipe)) == recipe
    except (TypeError, ValueError):
        same = False
    if not same:
        raise InputError(f"{who}: its recipe is {recipe!r:.80}; it must be a dict of texts, numbers, lists and flags")
