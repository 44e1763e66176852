"""Several predictors as one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from remotesam_geo.errors import InputError, ModelError, each_of, number_in, one_of

from .protocol import Predictor, check_predictor, predicted_probabilities

__all__ = ["Combine", "Ensemble"]

Combine = Literal["mean", "max", "vote"]


@dataclass(frozen=True)
class Ensemble:
    """A predictor that combines the probabilities of several predictors.

    Predictors of different image sizes see the same ground: images and probabilities are resized (bilinear,
    anti-aliased) to and from the largest size.

    Attributes:
        predictors: Two or more.
        combine: "mean" takes the weighted mean of the probabilities, "max" the largest one, "vote" the weighted share
            of predictors whose probability is larger than 0.5. With equal weights and the threshold 0.5 the majority
            decides.
        weights: How much each predictor counts, in "mean" and "vote"; equal by default.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.predictors import Ensemble
        >>> class Constant:
        ...     image_size = 4
        ...     def __init__(self, value):
        ...         self.value, self.identity = value, f"always {value}"
        ...     def predict(self, images, expressions):
        ...         return np.full((len(images), len(expressions), 4, 4), self.value, np.float32)
        >>> both = Ensemble([Constant(0.2), Constant(0.8)], weights=[1, 3])
        >>> round(float(both.predict(np.zeros((1, 4, 4, 3), np.uint8), ["ship"])[0, 0, 0, 0]), 3)
        0.65
        >>> both.identity
        'mean of always 0.2 (1), always 0.8 (3)'
    """

    predictors: Sequence[Predictor]
    combine: Combine = "mean"
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        one_of("combine", self.combine, get_args(Combine))
        predictors = tuple(_predictor_of(each) for each in each_of("predictors", self.predictors, object, "predictors"))
        if len(predictors) < 2:
            raise InputError(f"predictors has {len(predictors)} of them: an ensemble needs two or more")
        weights = (1.0,) * len(predictors)
        if self.weights is not None:
            if self.combine == "max":
                raise InputError("weights have no effect with combine='max': leave them out")
            given = each_of("weights", self.weights, object, "numbers")
            for weight in given:
                number_in("weights", weight, 0, open_low=True)
            if len(given) != len(predictors):
                raise InputError(
                    f"weights has {len(given)} numbers for {len(predictors)} predictors: give one for each"
                )
            weights = tuple(map(float, given))
        object.__setattr__(self, "predictors", predictors)
        object.__setattr__(self, "weights", weights)

    @property
    def image_size(self) -> int:
        """The largest of its predictors' image sizes."""
        return max(each.image_size for each in self.predictors)

    @property
    def identity(self) -> str:
        """How it combines, and the identities of its predictors with their weights."""
        weights = self.weights or ()
        parts = ", ".join(
            each.identity if self.combine == "max" else f"{each.identity} ({weight:.10g})"
            for each, weight in zip(self.predictors, weights, strict=True)
        )
        return f"{self.combine} of {parts}"

    @property
    def recipe(self) -> dict[str, Any]:
        """How another process opens the same ensemble.

        Raises:
            ModelError: One of its predictors has no recipe.
        """
        parts = []
        for each in self.predictors:
            recipe = getattr(each, "recipe", None)
            if recipe is None:
                raise ModelError(f"the predictor {each.identity!r} has no recipe, so the ensemble has none")
            parts.append(recipe)
        weights = None if self.combine == "max" else list(self.weights or ())
        return {"ensemble": parts, "combine": self.combine, "weights": weights}

    def predict(self, images: NDArray[np.uint8], expressions: Sequence[str]) -> NDArray[np.float32]:
        """Combined probabilities; see `Predictor.predict`."""
        whole: Any = None
        total = sum(self.weights or ())
        for predictor, weight in zip(self.predictors, self.weights or (), strict=True):
            own = self._of_predictor(predictor, images, expressions)
            if self.combine == "max":
                whole = own.astype(np.float64) if whole is None else np.maximum(whole, own)
                continue
            part = weight / total * (own > 0.5 if self.combine == "vote" else own)
            whole = part if whole is None else whole + part
        combined: NDArray[np.float32] = np.clip(whole, 0, 1).astype(np.float32)
        return combined

    def _of_predictor(
        self, predictor: Predictor, images: NDArray[np.uint8], expressions: Sequence[str]
    ) -> NDArray[np.float32]:
        size, own = self.image_size, predictor.image_size
        if own == size:
            return predicted_probabilities(predictor, images, expressions)
        small = np.stack([np.asarray(Image.fromarray(image).resize((own, own), BILINEAR)) for image in images])
        found = predicted_probabilities(predictor, small, expressions)
        maps = [np.asarray(Image.fromarray(one).resize((size, size), BILINEAR)) for one in found.reshape(-1, own, own)]
        resized: NDArray[np.float32] = np.stack(maps).reshape(len(images), len(expressions), size, size)
        return np.clip(resized, 0, 1)  # rounding may go beyond

    def unknown_words(self, expression: str) -> tuple[str, ...]:
        """The words of an expression that none of its predictors knows."""
        known = [getattr(each, "unknown_words", None) for each in self.predictors]
        unknown = [() if call is None else tuple(call(expression)) for call in known]
        return tuple(word for word in unknown[0] if all(word in own for own in unknown))

    def cut_words(self, expression: str) -> str:
        """The end of an expression that one of its predictors does not read; the longest one."""
        cuts = [each.cut_words(expression) for each in self.predictors if hasattr(each, "cut_words")]
        return max(cuts, key=len, default="")


BILINEAR = Image.Resampling.BILINEAR


def _predictor_of(given: Any) -> Predictor:
    """A predictor, or that of a RemoteSAM."""
    predictor: Predictor = getattr(given, "model", given)
    check_predictor(predictor)
    return predictor
