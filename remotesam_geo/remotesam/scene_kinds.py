"""What is looked at: a scene on the ground, a picture, or probabilities that were computed before."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from PIL import Image

from remotesam_geo.errors import InputError
from remotesam_geo.scenes import open_raster, render

__all__ = ["PlainImage", "Scene", "SceneLike", "is_probabilities", "subject"]

Scene = xr.Dataset | xr.DataArray
SceneLike = Scene | str | Path | NDArray[np.uint8] | Image.Image
"""A lazy or eager scene, the path or URL of a raster, a picture, or probabilities."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainImage:
    """A picture without a place on Earth.

    Attributes:
        rgb: Its pixels (H x W x 3).
        valid: Which of them are data (H x W).
    """

    rgb: NDArray[np.uint8]
    valid: NDArray[np.bool_]


def subject(
    scene: SceneLike, bands: str | Sequence[str | int] | None = None, stretch: Any = None
) -> Scene | PlainImage:
    """Open what a user gave.

    Args:
        scene: What to look at.
        bands: As in `render`.
        stretch: As in `render`.

    Raises:
        InputError: It is nothing that can be looked at.
        ReadError: Its header, or the pixels of a picture, cannot be read.
    """
    if isinstance(scene, str | Path):
        scene = open_raster(scene)
    if isinstance(scene, xr.Dataset) and scene.attrs.get("space") == "pixel":
        rendered = render(scene, bands, stretch).compute()
        return PlainImage(rgb=rendered["rgb"].values, valid=rendered["valid"].values)
    if isinstance(scene, xr.Dataset | xr.DataArray):
        return scene
    if isinstance(scene, np.ndarray | Image.Image):
        from remotesam_geo.model.processor import rgb  # noqa: PLC0415 - torch takes its time

        pixels = rgb(scene)
        return PlainImage(rgb=pixels, valid=np.ones(pixels.shape[:2], np.bool_))
    raise InputError(
        "give an xarray Dataset or DataArray, the path or URL of a raster, or a picture (uint8 NumPy array, Pillow), "
        f"not a {type(scene).__name__}"
    )


def is_probabilities(scene: object) -> bool:
    """Whether this is what `probabilities` returned, or the like."""
    return isinstance(scene, xr.DataArray) and "prompt" in scene.dims
