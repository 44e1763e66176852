"""The verbs in xarray's own way: `scene.remotesam(model).detect("ship")`."""

from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr

from remotesam_geo.remotesam import Model, RemoteSAM

__all__ = ["SceneVerbs"]

VERBS = (
    "segment", "refer", "detect", "ground", "label", "classify", "count", "caption", "probabilities", "classmap",
)  # fmt: skip


class SceneVerbs:
    """The verbs of a model, asked of one scene.

    Args:
        scene: What to look at.
        model: Who is asked.
    """

    def __init__(self, scene: xr.Dataset | xr.DataArray, model: RemoteSAM) -> None:
        self._scene, self._model = scene, model

    def __getattr__(self, verb: str) -> Any:
        if verb not in VERBS:
            raise AttributeError(f"no verb {verb!r}: there are {', '.join(VERBS)}")
        return partial(getattr(self._model, verb), self._scene)

    def __dir__(self) -> list[str]:
        return list(VERBS)

    def __repr__(self) -> str:
        return f"{self._model!r} looking at {dict(self._scene.sizes)}"


@xr.register_dataset_accessor("remotesam")  # type: ignore[no-untyped-call]
@xr.register_dataarray_accessor("remotesam")  # type: ignore[no-untyped-call]
class _Accessor:
    """Call it with a `RemoteSAM`, a model, or what `RemoteSAM.from_pretrained` takes."""

    def __init__(self, scene: xr.Dataset | xr.DataArray) -> None:
        self._scene = scene

    def __call__(self, model: RemoteSAM | Model | str | Path) -> SceneVerbs:
        if isinstance(model, str | Path):
            model = RemoteSAM.from_pretrained(model)
        return SceneVerbs(self._scene, model if isinstance(model, RemoteSAM) else RemoteSAM(model))
