"""Where the network's pixels come from: any box of the plan's grid at any time, as 8-bit RGB with validity."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xarray as xr
from affine import Affine
from dask.base import compute
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.xr import spatial_dims

from remotesam_geo.errors import InputError
from remotesam_geo.scenes import Recipe, render
from remotesam_geo.scenes.coordinates import grid_of

from .grid import Box
from .ground import Resolution, plan_geobox
from .resample import Resampling

__all__ = ["Moment", "Source", "picture_source", "scene_source"]

Pixels = tuple[NDArray[np.uint8], NDArray[np.bool_]]


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One time of a scene.

    Attributes:
        time: UTC without zone; None where the scene has no time.
        items: Ids of what it was made from, in one string.
    """

    time: np.datetime64 | None
    items: str


class Source(Protocol):
    """Pixels to ask questions of."""

    @property
    def geobox(self) -> GeoBox:
        """The plan's grid."""

    @property
    def moments(self) -> Sequence[Moment]:
        """The times there are; one where the scene has no time axis."""

    def read(self, box: Box, moment: int) -> Pixels:
        """Colours (h x w x 3) and validity (h x w) of a box.

        Raises:
            ReadError: They could not be read.
        """


@dataclass(frozen=True, kw_only=True)
class _SceneSource:
    """A rendered scene, brought to the plan's grid where that differs."""

    geobox: GeoBox
    moments: tuple[Moment, ...]
    rgb: xr.DataArray  # moment, y, x, band
    valid: xr.DataArray  # moment, y, x
    resampling: Resampling | None

    def read(self, box: Box, moment: int) -> Pixels:
        if self.resampling is None:
            return self._pixels(box, moment)
        region = self.resampling.needs(box)
        if region is None:
            return np.zeros((*box.shape, 3), np.uint8), np.zeros(box.shape, np.bool_)
        return self.resampling.apply(*self._pixels(region, moment), region, box)

    def _pixels(self, box: Box, moment: int) -> Pixels:
        here = (moment, slice(box.top, box.bottom), slice(box.left, box.right))
        # In the reader's own thread: how many chunks are read at once is the executor's to say.
        rgb, valid = compute(self.rgb[here].data, self.valid[here].data, scheduler="synchronous")  # type: ignore[no-untyped-call]
        return rgb, valid


def scene_source(
    scene: xr.Dataset | xr.DataArray,
    *,
    bands: str | Sequence[str | int] | None = None,
    stretch: Any = None,
    resolution: Resolution = "native",
    geobox: GeoBox | None = None,
) -> Source:
    """Make a scene askable at a resolution, or on a grid.

    A scene with a recipe is loaded anew on a coarser grid, so that overviews are read; any other is averaged here.
    Colours are stretched alike at every resolution.

    Args:
        scene: As `render` takes it.
        bands: As in `render`.
        stretch: As in `render`.
        resolution: Metres on the ground a pixel, or "native".
        geobox: The plan's grid; by default that of the resolution.

    Raises:
        InputError: The scene has no CRS, or cannot be rendered.
    """
    rendered = render(scene, bands, stretch)
    native = grid_of(rendered)
    plan = plan_geobox(native, resolution) if geobox is None else geobox
    if plan != native and (recipe := _recipe(scene)) is not None:
        rendered = render(recipe.open(geobox=plan), bands, rendered.attrs["stretch"] or None)
        native = plan
    rgb, valid = rendered["rgb"], rendered["valid"]
    space = _space(valid)
    rgb, valid = (_with_moments(array, space) for array in (rgb, valid))
    return _SceneSource(
        geobox=plan,
        moments=_moments(rendered, valid),
        rgb=rgb.transpose(..., *space, "band"),
        valid=valid.transpose(..., *space),
        resampling=None if plan == native else Resampling(source=native, target=plan),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _PictureSource:
    """A picture at its own scale; its grid has no CRS."""

    geobox: GeoBox
    moments: tuple[Moment, ...]
    rgb: NDArray[np.uint8]
    valid: NDArray[np.bool_]

    def read(self, box: Box, moment: int) -> Pixels:  # noqa: ARG002 - a picture has one time
        rows, cols = slice(box.top, box.bottom), slice(box.left, box.right)
        return self.rgb[rows, cols], self.valid[rows, cols]


def picture_source(rgb: NDArray[np.uint8], valid: NDArray[np.bool_]) -> Source:
    """Make a picture askable window by window.

    Args:
        rgb: Its pixels (H x W x 3).
        valid: Which of them are data (H x W).
    """
    return _PictureSource(
        geobox=GeoBox(valid.shape, Affine.identity(), None),
        moments=(Moment(time=None, items=""),),
        rgb=rgb,
        valid=valid,
    )


def _recipe(scene: xr.Dataset | xr.DataArray) -> Recipe | None:
    try:
        return Recipe.of(scene) if isinstance(scene, xr.Dataset) else None
    except InputError:  # it has none: its pixels are resampled here
        return None


def _space(valid: xr.DataArray) -> tuple[str, str]:
    found = spatial_dims(valid)
    y, x = found if found is not None else valid.dims[-2:]
    return str(y), str(x)


def _with_moments(array: xr.DataArray, space: tuple[str, str]) -> xr.DataArray:
    others = [dim for dim in array.dims if dim not in (*space, "band")]
    if len(others) > 1:
        raise InputError(
            f"this scene has the dimensions {others} beside space: select all but one, "
            f"for example scene.isel({others[0]}=0)"
        )
    if not others:
        return array.expand_dims("moment")
    return array.rename({others[0]: "moment"}).transpose("moment", ...)


def _moments(rendered: xr.Dataset, valid: xr.DataArray) -> tuple[Moment, ...]:
    count = valid.sizes["moment"]
    times = _along(rendered, "time", count)
    items = _along(rendered, "items", count)
    return tuple(
        Moment(
            time=None if time is None else np.datetime64(time, "ns"),
            items="" if item is None else str(item),
        )
        for time, item in zip(times, items, strict=True)
    )


def _along(rendered: xr.Dataset, name: str, count: int) -> list[Any]:
    if name not in rendered.coords:
        return [None] * count
    values = np.atleast_1d(rendered.coords[name].values)
    return list(values) if len(values) == count else [None] * count
