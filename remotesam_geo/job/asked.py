"""Who answers a job, and how another process opens the same."""

import importlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from remotesam_geo.errors import InputError, ModelError
from remotesam_geo.mapping.cluster import Opener
from remotesam_geo.mapping.contours import Contours, WithContours
from remotesam_geo.mapping.executor import Predict
from remotesam_geo.mapping.plan import Weights
from remotesam_geo.remotesam import Model, RemoteSAM
from remotesam_geo.remotesam.network import Refine, contour_model

if TYPE_CHECKING:
    from remotesam_geo.model.contours import ContourRecipe

__all__ = ["Asked", "ModelLike", "asked", "reopened"]

ModelLike = str | Path | RemoteSAM | Model
"""What can answer: weights by name or path, an opened model, or "module:name" of something that makes one."""

_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """A model that a job asks.

    Attributes:
        model: The model, opened here.
        opener: How a worker opens it; None where its weights are those of this process alone.
        weights: What answers depend on.
        recipe: How a later process opens it, as plain JSON; None where only the user can.
        contours: What parts touching objects, opened here.
    """

    model: Model
    opener: Opener | None
    weights: Weights
    recipe: dict[str, Any] | None
    contours: Contours | None = None

    @property
    def predict(self) -> Predict:
        """What answers every expression, contours among them."""
        if self.contours is None:
            return self.model.predict
        return WithContours(predict=self.model.predict, contours=self.contours)

    def for_workers(self) -> Opener:
        """How a worker opens it.

        Raises:
            ModelError: It cannot; what to do.
        """
        if self.opener is not None:
            return self.opener
        recipe = self.model.predictor.recipe  # type: ignore[attr-defined]
        raise ModelError(f"another process cannot open this model: {recipe!r}")


def asked(model: ModelLike, refine: Refine = None) -> Asked:
    """Open a model, and what parts touching objects.

    Raises:
        InputError: It is none.
        ModelError: Its weights are missing or damaged.
    """
    contours = contour_model(refine)
    alone = _opened(model)
    if contours is None:
        return alone
    try:
        recipe: ContourRecipe | None = getattr(contours, "recipe", None)
    except (
        ModelError
    ):  # a network of this process alone has an identity no more than a function has
        recipe = None
    identity = getattr(contours, "identity", "") if recipe is None else _identity(recipe)
    if not identity:
        raise InputError(
            f"a job keeps in mind what its contours depend on: give {contours!r} an attribute identity, a text"
        )
    opener: _ContourOpener = _Travelling(contours)
    if recipe is not None:
        opener = _ContourWeights(recipe=json.dumps(asdict(recipe)))
    return replace(
        alone,
        opener=None if alone.opener is None else _Both(network=alone.opener, contours=opener),
        weights=replace(alone.weights, contours=str(identity)),
        recipe=None
        if alone.recipe is None or recipe is None
        else {**alone.recipe, "contours": asdict(recipe)},
        contours=contours,
    )


def reopened(recipe: Mapping[str, Any], weights: Weights) -> Asked:
    """Open the model of a job's recipe."""
    opener = _Weights(recipe=json.dumps(recipe["network"]))
    model = _Reopened(
        image_size=weights.image_size, identity=weights.identity, predict=opener.open()
    )
    alone = Asked(model=model, opener=opener, weights=weights, recipe=dict(recipe))
    if not weights.contours:
        return alone
    other = _ContourWeights(recipe=json.dumps(recipe["contours"]))
    return replace(alone, opener=_Both(network=opener, contours=other), contours=other.open())


def _opened(model: ModelLike) -> Asked:
    if isinstance(model, str) and _NAME.fullmatch(model):
        return _plain(_Named(name=model).model(), _Named(name=model))
    if isinstance(model, str | Path):
        model = RemoteSAM.from_pretrained(model)
    inner = model.model if isinstance(model, RemoteSAM) else model
    if not all(hasattr(inner, name) for name in ("image_size", "identity", "predict")):
        raise InputError(
            f"{model!r} is no model: give the name or path of weights, a RemoteSAM, 'module:name', or an object with "
            "image_size, identity and predict"
        )
    predictor = getattr(inner, "predictor", None)
    if predictor is None:
        return _plain(inner, _Given(inner))
    weights = Weights(
        identity=inner.identity,
        image_size=inner.image_size,
        precision=predictor.precision,
        device=predictor.device.type,
        batch=predictor.batch,
    )
    try:
        recipe = asdict(predictor.recipe)
    except ModelError:  # weights of this process alone: they are asked here, and nowhere else
        return Asked(model=inner, opener=None, weights=weights, recipe=None)
    return Asked(
        model=inner,
        opener=_Weights(recipe=json.dumps(recipe)),
        weights=weights,
        recipe={"network": recipe},
    )


def _plain(model: Model, opener: Opener) -> Asked:
    return Asked(
        model=model,
        opener=opener,
        weights=Weights(identity=str(model.identity), image_size=int(model.image_size)),
        recipe=None,
    )


def _identity(recipe: "ContourRecipe") -> str:
    """What a contour network's answers depend on."""
    return f"{recipe.weights} at {recipe.resolution} px in {recipe.precision}"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Reopened:
    """A predictor as a model."""

    image_size: int
    identity: str
    predict: Predict


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """The network with its weights, by its predictor's recipe."""

    recipe: str

    def open(self) -> Predict:
        from remotesam_geo.model import Predictor, PredictorRecipe  # noqa: PLC0415 - torch

        predict: Predict = Predictor.open(PredictorRecipe(**json.loads(self.recipe))).predict
        return predict


@dataclass(frozen=True, kw_only=True)
class _Named:
    """A model that an importable function or class makes: "module:name"."""

    name: str

    def model(self) -> Model:
        module, name = self.name.split(":")
        try:
            found: Model = getattr(importlib.import_module(module), name)()
        except (ImportError, AttributeError, TypeError) as error:
            raise InputError(
                f"{self.name!r} makes no model: {error}. Give 'module:name' of a function or class without arguments."
            ) from error
        return found

    def open(self) -> Predict:
        return self.model().predict


@dataclass(frozen=True)
class _Given:
    """A model that travels by itself."""

    given: Model

    def open(self) -> Predict:
        return self.given.predict


class _ContourOpener(Protocol):
    """How a process opens what parts touching objects."""

    def __hash__(self) -> int: ...

    def open(self) -> Contours: ...


@dataclass(frozen=True, kw_only=True)
class _ContourWeights:
    """A contour network with its weights, by its recipe."""

    recipe: str

    def open(self) -> Contours:
        from remotesam_geo.model.contours import ContourModel, ContourRecipe  # noqa: PLC0415 - torch

        contours: Contours = ContourModel.open(ContourRecipe(**json.loads(self.recipe)))
        return contours


@dataclass(frozen=True)
class _Travelling:
    """Contours that travel by themselves."""

    given: Contours

    def open(self) -> Contours:
        return self.given


@dataclass(frozen=True, kw_only=True)
class _Both:
    """A model and what parts touching objects."""

    network: Opener
    contours: _ContourOpener

    def open(self) -> Predict:
        return WithContours(predict=self.network.open(), contours=self.contours.open())
