"""The methods of `RemoteSAM` in xarray's own way: `scene.remotesam(model).detect("ship")`."""

import inspect
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import xarray as xr

from remotesam_geo.predictors import Predictor
from remotesam_geo.remotesam import RemoteSAM

__all__ = ["SceneVerbs"]

VERBS = (
    "segment", "refer", "detect", "ground", "label", "classify", "count", "caption", "probabilities", "classmap",
)  # fmt: skip


class SceneVerbs:
    """The methods of a `RemoteSAM`, applied to one scene. They take the same arguments, but for the scene.

    Args:
        scene: What to look at.
        model: The model.
    """

    def __init__(self, scene: xr.Dataset | xr.DataArray, model: RemoteSAM) -> None:
        self._scene, self._model = scene, model

    def __repr__(self) -> str:
        return f"{self._model!r} looking at {dict(self._scene.sizes)}"


def _method_of_scene(verb: Callable[..., Any]) -> Callable[..., Any]:
    """A method of `RemoteSAM` as one of `SceneVerbs`: its signature and docstring without the scene."""

    @wraps(verb)
    def method(self: SceneVerbs, *args: Any, **options: Any) -> Any:
        return verb(self._model, self._scene, *args, **options)

    own, _, *others = (signature := inspect.signature(verb)).parameters.values()
    method.__signature__ = signature.replace(parameters=[own, *others])  # type: ignore[attr-defined]
    text = inspect.getdoc(verb) or ""
    method.__doc__ = re.sub(r"^    scene: .*?(?=^    (prompts|classes): )", "", text, flags=re.DOTALL | re.MULTILINE)
    method.__qualname__ = f"SceneVerbs.{verb.__name__}"
    return method


for _name in VERBS:
    setattr(SceneVerbs, _name, _method_of_scene(getattr(RemoteSAM, _name)))


@xr.register_dataset_accessor("remotesam")  # type: ignore[no-untyped-call]
@xr.register_dataarray_accessor("remotesam")  # type: ignore[no-untyped-call]
class _Accessor:
    """Call it with a `RemoteSAM`, a model, or what `RemoteSAM.from_pretrained` takes."""

    def __init__(self, scene: xr.Dataset | xr.DataArray) -> None:
        self._scene = scene

    def __call__(self, model: RemoteSAM | Predictor | str | Path) -> SceneVerbs:
        if isinstance(model, str | Path):
            model = RemoteSAM.from_pretrained(model)
        return SceneVerbs(self._scene, model if isinstance(model, RemoteSAM) else RemoteSAM(model))
