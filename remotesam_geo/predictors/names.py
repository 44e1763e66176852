"""Predictors by name: those of installed packages, and how another process opens the same predictor."""

import importlib
import json
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from remotesam_geo.errors import InputError, ModelError

from .ensemble import Ensemble
from .protocol import Predictor, check_predictor

if TYPE_CHECKING:
    from .adapter import Adapter

__all__ = ["ADAPTERS", "GROUP", "adapter_named", "open_recipe", "registered", "registered_predictor"]

ADAPTERS = {
    "clipseg": ("clipseg", "ClipSeg"),
    "grounding-dino": ("grounded_sam", "GroundedSam"),
    "owlv2": ("grounded_sam", "OwlSam"),
}
"""Other networks that this package knows by name: the module and the class of each."""

GROUP = "remotesam_geo.predictors"
"""The entry-point group in which installed packages register their predictors."""


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


def registered_predictor(name: str, **options: Any) -> Predictor:
    """Make the predictor that an installed package registers under a name.

    Args:
        name: The name of the entry point.
        options: Passed on to the function or class that it names.

    Raises:
        ModelError: No package does, or it cannot make the model.
    """
    point = registered(name)
    if point is None:
        raise ModelError(f"no installed package registers a model {name!r}: install the one that does")
    try:
        predictor: Predictor = point.load()(**options)
    except Exception as error:
        raise ModelError(
            f"the registered model {name!r} ({point.value}) cannot be made: {type(error).__name__}: {error}"
        ) from error
    try:
        check_predictor(predictor)
    except InputError as error:
        raise ModelError(f"the registered model {name!r} ({point.value}): {error}") from error
    return predictor


def adapter_named(name: object) -> "type[Adapter] | None":
    """The adapter that has a name, or whose repository is named; None where there is no such adapter."""
    if not isinstance(name, str):
        return None
    for own, (module, kind) in ADAPTERS.items():
        if name == own or "/" in name:
            found: type[Adapter] = getattr(importlib.import_module(f"remotesam_geo.predictors.{module}"), kind)
            if name in (own, found.SOURCES[0]):
                return found
    return None


def open_recipe(recipe: Mapping[str, Any]) -> Predictor:
    """Open the predictor of a recipe. Recipes come from files, too, so none of them imports code by itself.

    A recipe is plain JSON. These are known:

    - `{"registered": name, "options": {...}}`: the predictor that an installed package registers under a name, made
      with options, which may be left out. This is the recipe to give to a predictor of your own.
    - `{"network": {...}}`: RemoteSAM's network, by what `RemoteSAMPredictor.recipe` says.
    - `{"adapter": ...}`: another network that this package knows, by what its `recipe` says.
    - `{"ensemble": [recipe, ...], "combine": ..., "weights": ...}`: an `Ensemble`.

    Args:
        recipe: The recipe.

    Raises:
        ModelError: It cannot be understood, or the predictor cannot be opened.
    """
    try:
        text = json.dumps(recipe, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise ModelError(f"the recipe {recipe!r:.80} is no plain JSON: {error}") from error
    recipe = json.loads(text)
    try:
        if "registered" in recipe:
            return registered_predictor(str(recipe["registered"]), **recipe.get("options", {}))
        if "adapter" in recipe:
            adapter = adapter_named(recipe["adapter"])
            if adapter is None:
                raise ModelError(f"there is no adapter {recipe['adapter']!r}: there are {', '.join(ADAPTERS)}")
            opened = adapter.open(
                recipe["sources"], revisions=recipe["revisions"], precision=recipe["precision"], **recipe["options"]
            )
            if opened.identity != recipe["identity"]:
                raise ModelError(
                    f"the weights of {recipe['sources']} are {opened.identity!r}, not {recipe['identity']!r}"
                )
            return opened
        if "ensemble" in recipe:
            parts = [open_recipe(part) for part in recipe["ensemble"]]
            return Ensemble(parts, combine=recipe["combine"], weights=recipe["weights"])
        if "network" in recipe:
            from .remotesam_network import Network  # noqa: PLC0415 - torch takes its time

            return Network.of_recipe(recipe["network"])
    except (KeyError, TypeError, AttributeError, InputError) as error:
        raise ModelError(f"the recipe {recipe!r:.80} cannot be understood: {error}") from error
    raise ModelError(
        f"the recipe {recipe!r:.80} names no predictor: it needs 'registered', 'adapter', 'network' or 'ensemble'"
    )
