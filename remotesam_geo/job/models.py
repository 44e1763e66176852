"""The model of a job, and how another process opens the same."""

import hashlib
import importlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from remotesam_geo.errors import InputError, ModelError
from remotesam_geo.predictors.contours import Contours, Refine, WithContours, contour_model
from remotesam_geo.predictors.names import open_recipe, registered
from remotesam_geo.predictors.protocol import Predict, Predictor, check_predictor
from remotesam_geo.predictors.remotesam_network import OF_THIS_MACHINE, check_network_recipe
from remotesam_geo.remotesam import RemoteSAM
from remotesam_geo.remotesam.named import is_import, named_model

from .distributed import Opener
from .plan import ModelIdentity

if TYPE_CHECKING:
    from remotesam_geo.model.contour_model import ContourRecipe

__all__ = ["JobModel", "Known", "ModelLike", "built_in_processor", "opened_model", "reopened"]

ModelLike = str | Path | RemoteSAM | Predictor
"""A model by name or path, an opened one, or "module:attribute" of a function that makes one."""

Known = tuple[Mapping[str, Any] | None, ModelIdentity]
"""The recipe and weights that a job folder holds already."""


@dataclass(frozen=True, kw_only=True, eq=False)
class JobModel:
    """The model of a job.

    Attributes:
        model: The model, opened here.
        opener: How a worker opens it; None where its weights are those of this process alone.
        weights: What probabilities depend on.
        recipe: How a later process opens it, as plain JSON; None where only the user can.
        batch: Pairs of image and expression that this process predicts together.
        contours: The model that separates touching objects, opened here.
    """

    model: Predictor
    opener: Opener | None
    weights: ModelIdentity
    recipe: dict[str, Any] | None
    batch: int = 1
    contours: Contours | None = None

    @property
    def predict(self) -> Predict:
        """Predicts every expression, contours among them."""
        if self.contours is None:
            return self.model.predict
        return WithContours(predict=self.model.predict, contours=self.contours)

    def for_workers(self) -> Opener:
        """How a worker opens it; objects of this process are pickled here, so that it fails before any work.

        Raises:
            ModelError: It cannot; what to do.
        """
        if self.opener is None:
            recipe = self.model.recipe  # type: ignore[attr-defined]
            raise ModelError(f"another process cannot open this model: {recipe!r}")
        if isinstance(self.opener, _Both):
            network, contours = self.opener.network, self.opener.contours
            return _Both(
                network=_pickled_model(network) if isinstance(network, _Given) else network,
                contours=_pickled_model(contours) if isinstance(contours, _Travelling) else contours,
            )
        return _pickled_model(self.opener) if isinstance(self.opener, _Given) else self.opener


def opened_model(model: ModelLike, refine: Refine = None, known: Known | None = None) -> JobModel:
    """Open a model, and the one that separates touching objects.

    Args:
        model: The model.
        refine: What separates touching objects.
        known: What the job's folder holds already. A model by name is opened in the precision of that, not in the one
            that suits this machine.

    Raises:
        InputError: It is none.
        ModelError: Its weights are missing or damaged.
    """
    recipe_there, weights_there = known or (None, None)
    kept = (recipe_there or {}).get("contours")
    contours = _open_contour_model(kept) if refine == "contours" and kept else contour_model(refine)
    alone = _model_of_weights(model, "" if weights_there is None else weights_there.precision)
    if contours is None:
        return alone
    try:
        recipe: ContourRecipe | None = getattr(contours, "recipe", None)
    except ModelError:  # a network of this process alone has an identity no more than a function has
        recipe = None
    identity = getattr(contours, "identity", "") if recipe is None else _contour_identity(recipe)
    if not identity:
        raise InputError(f"a job records what its contours depend on: give {contours!r} an attribute identity, a text")
    opener: _ContourOpener = _Travelling(contours)
    if recipe is not None:
        opener = _ContourWeights(recipe=json.dumps(asdict(recipe)))
    return replace(
        alone,
        opener=None if alone.opener is None else _Both(network=alone.opener, contours=opener),
        weights=replace(alone.weights, contours=str(identity)),
        recipe=None
        if alone.recipe is None or recipe is None
        else {**alone.recipe, "contours": _portable_recipe(asdict(recipe))},
        contours=contours,
    )


def reopened(recipe: Mapping[str, Any], weights: ModelIdentity) -> JobModel:
    """Open the model that a job's plan names. It comes from a file, so it never imports code by name.

    Raises:
        ModelError: It cannot be opened, or is another than the plan's.
    """
    own = {name: value for name, value in recipe.items() if name != "contours"}
    predictor = open_recipe(own)
    if (predictor.identity, predictor.image_size) != (weights.identity, weights.image_size):
        raise ModelError(
            f"the model {own!s:.80} is now {predictor.identity!r} at {predictor.image_size} px, the job was "
            f"made with {weights.identity!r} at {weights.image_size} px: install the version that made it, or create a "
            "new job"
        )
    alone = JobModel(
        model=predictor, opener=_recipe_here(predictor, own), weights=weights, recipe=dict(recipe),
        batch=_batch_of_model(predictor),
    )  # fmt: skip
    if not weights.contours:
        return alone
    try:
        other = _open_contour_model(recipe["contours"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"the plan's contour model cannot be understood: {error}") from error
    if alone.opener is None:
        raise ModelError("the plan's model cannot be opened by another process")
    return replace(
        alone,
        opener=_Both(
            network=alone.opener,
            contours=_ContourWeights(recipe=json.dumps(asdict(other.recipe))),
        ),
        weights=weights,
        recipe=dict(recipe),
        contours=other,
    )


def built_in_processor(recipe: Mapping[str, Any] | None) -> Any:
    """The processor of the built-in network, where a recipe names it: it knows which words are read."""
    network = (recipe or {}).get("network")
    if not isinstance(network, Mapping) or network.get("source") != "tiny":
        return None
    from remotesam_geo.model import RemoteSAMProcessor  # noqa: PLC0415 - torch

    return RemoteSAMProcessor.from_pretrained("tiny")


def _model_of_weights(model: ModelLike, precision: str) -> JobModel:
    if is_import(model):
        return _model_of_object(_Named(name=str(model)).model(), _Named(name=str(model)))
    name = model if isinstance(model, str) and model != "tiny" and registered(model) is not None else None
    if isinstance(model, str | Path):
        model = named_model(
            model, precision="float32" if precision == "float32" else "bfloat16" if precision else "auto"
        )  # fmt: skip
    inner = model.model if isinstance(model, RemoteSAM) else model
    check_predictor(inner)
    made = _model_of_object(inner, _Given(inner))
    try:
        recipe = {"registered": name} if name is not None else getattr(inner, "recipe", None)
    except ModelError:  # weights of this process alone: no other process can open them
        return replace(made, opener=None if hasattr(inner, "predictor") else made.opener)
    if recipe is None:
        return made
    return replace(made, opener=_recipe_here(inner, recipe), recipe=dict(recipe))


def _recipe_here(predictor: Predictor, recipe: Mapping[str, Any]) -> "_Recipe":
    """How a worker opens a predictor: RemoteSAM's network on the device that this process uses."""
    if "network" in recipe:
        recipe = {"network": asdict(predictor.predictor.recipe)}  # type: ignore[attr-defined]
    return _Recipe(recipe=json.dumps(recipe))


def _model_of_object(model: Predictor, opener: Opener) -> JobModel:
    check_predictor(model)
    network = getattr(model, "predictor", None)
    return JobModel(
        model=model,
        opener=opener,
        weights=ModelIdentity(
            identity=model.identity,
            image_size=int(model.image_size),
            precision=str(getattr(network or model, "precision", "")),
        ),
        recipe=None,
        batch=_batch_of_model(model),
    )


def _batch_of_model(model: Predictor) -> int:
    return int(getattr(getattr(model, "predictor", None), "batch", 1))


def _portable_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without what belongs to this machine."""
    return {name: value for name, value in recipe.items() if name not in OF_THIS_MACHINE}


def _open_contour_model(doc: Mapping[str, Any]) -> Any:
    from remotesam_geo.model.contour_model import ContourModel, ContourRecipe  # noqa: PLC0415 - torch

    check_network_recipe(doc)
    return ContourModel.open(ContourRecipe(**{**doc, "device": "auto", "batch": "auto"}))


def _contour_identity(recipe: "ContourRecipe") -> str:
    """What a contour network's answers depend on."""
    return f"{recipe.weights} at {recipe.resolution} px in {recipe.precision}"


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    """A predictor by its recipe."""

    recipe: str

    def open(self) -> Predict:
        return open_recipe(json.loads(self.recipe)).predict


@dataclass(frozen=True, kw_only=True)
class _Named:
    """A model that an importable function or class makes: "module:attribute", as given in Python."""

    name: str

    def model(self) -> Predictor:
        module, name = self.name.split(":")
        try:
            found: Predictor = getattr(importlib.import_module(module), name)()
        except (ImportError, AttributeError, TypeError) as error:
            raise InputError(
                f"{self.name!r} makes no model: {error}. Give 'module:attribute' of a function or class without "
                "arguments."
            ) from error
        return found

    def open(self) -> Predict:
        return self.model().predict


@dataclass(frozen=True)
class _Given:
    """A model object of this process."""

    given: Predictor

    def open(self) -> Predict:
        return self.given.predict


@dataclass(frozen=True, kw_only=True)
class _Sent:
    """An object on its way to a worker, pickled by the driver. It is opened once a process: equal bytes are one."""

    digest: str
    data: bytes

    def __hash__(self) -> int:
        return hash(self.digest)

    def open(self) -> Any:
        from distributed.protocol.pickle import loads  # noqa: PLC0415 - behind an extra

        made = loads(self.data)  # type: ignore[no-untyped-call]
        return made.predict if hasattr(made, "predict") else made


def _pickled_model(opener: "_Given | _Travelling") -> _Sent:
    from distributed.protocol.pickle import dumps  # noqa: PLC0415 - behind an extra

    given = opener.given
    try:
        data = dumps(given)  # type: ignore[no-untyped-call]
    except Exception as error:
        raise ModelError(
            f"{given!r} cannot be pickled, so the workers of a cluster cannot get it: {type(error).__name__}: {error}. "
            "Give the name or path of weights, 'module:attribute' of a function that makes the model, or run() without "
            "a client"
        ) from error
    return _Sent(digest=hashlib.sha256(data).hexdigest(), data=data)


class _ContourOpener(Protocol):
    """How a process opens what separates touching objects."""

    def __hash__(self) -> int: ...

    def open(self) -> Contours: ...


@dataclass(frozen=True, kw_only=True)
class _ContourWeights:
    """A contour network with its weights, by its recipe."""

    recipe: str

    def open(self) -> Contours:
        from remotesam_geo.model.contour_model import ContourModel, ContourRecipe  # noqa: PLC0415 - torch

        contours: Contours = ContourModel.open(ContourRecipe(**json.loads(self.recipe)))
        return contours


@dataclass(frozen=True)
class _Travelling:
    """A contour model of this process."""

    given: Contours

    def open(self) -> Contours:
        return self.given


@dataclass(frozen=True, kw_only=True)
class _Both:
    """A model and what separates touching objects."""

    network: Opener
    contours: _ContourOpener

    def open(self) -> Predict:
        return WithContours(predict=self.network.open(), contours=self.contours.open())
