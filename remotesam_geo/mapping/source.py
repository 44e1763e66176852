"""Where the network's pixels come from: any box of the plan's grid at any time, as 8-bit RGB with validity."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol

import numpy as np
import pandas as pd
import xarray as xr
from affine import Affine
from dask.base import compute
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.xr import spatial_dims

from remotesam_geo.errors import InputError
from remotesam_geo.geo.box import Box
from remotesam_geo.geo.coordinates import grid_of
from remotesam_geo.geo.crs import only_defined
from remotesam_geo.geo.ground import Resolution, plan_geobox
from remotesam_geo.scenes import Recipe, render

from .rescale import Resampling

__all__ = [
    "PixelSource", "SceneDate", "check_apart", "dates_of", "picture_source", "scene_source", "utc",
]  # fmt: skip

Pixels = tuple[NDArray[np.uint8], NDArray[np.bool_]]


@dataclass(frozen=True, kw_only=True)
class SceneDate:
    """One time of a scene.

    Attributes:
        time: UTC without zone; None where the scene has no time.
        items: Ids of what it was made from, in one string.
    """

    time: np.datetime64 | None
    items: str


class PixelSource(Protocol):
    """Pixels to predict from."""

    @property
    def geobox(self) -> GeoBox:
        """The plan's grid."""

    @property
    def dates(self) -> Sequence[SceneDate]:
        """The times there are; one where the scene has no time axis."""

    def read(self, box: Box, date: int) -> Pixels:
        """Colours (h x w x 3) and validity (h x w) of a box.

        Raises:
            ReadError: They could not be read.
        """


@dataclass(frozen=True, kw_only=True)
class _SceneSource:
    """A rendered scene, brought to the plan's grid where that differs."""

    geobox: GeoBox
    dates: tuple[SceneDate, ...]
    rgb: xr.DataArray  # date, y, x, band
    valid: xr.DataArray  # date, y, x
    resampling: Resampling | None

    def read(self, box: Box, date: int) -> Pixels:
        region = box if self.resampling is None else self.resampling.needs(box)
        if region is None:
            return np.zeros((*box.shape, 3), np.uint8), np.zeros(box.shape, np.bool_)
        rgb, valid = self._pixels(region, date)
        if self.resampling is not None:
            rgb, valid = self.resampling.apply(rgb, valid, region, box)
        return only_defined(rgb, valid, self.geobox, box)

    def _pixels(self, box: Box, date: int) -> Pixels:
        here = (date, slice(box.top, box.bottom), slice(box.left, box.right))
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
) -> PixelSource:
    """The pixels of a scene at a resolution, or on a grid.

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
    native = grid_of(scene)
    plan = plan_geobox(native, resolution) if geobox is None else geobox
    if plan != native and (recipe := _recipe_of_scene(scene)) is not None:
        rendered = render(recipe.open(geobox=plan), bands, rendered.attrs["stretch"] or None)
        native = plan
    rgb, valid = rendered["rgb"], rendered["valid"]
    space = _spatial_dims_of(valid)
    dim = _date_dim(valid, space)
    rgb, valid = (_with_dates(array, dim) for array in (rgb, valid))
    return _SceneSource(
        geobox=plan,
        dates=_dates_of_scene(rendered, valid, dim),
        rgb=rgb.transpose(..., *space, "band"),
        valid=valid.transpose(..., *space),
        resampling=None if plan == native else Resampling(source=native, target=plan),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _PictureSource:
    """A picture at its own scale; its grid has no CRS."""

    geobox: GeoBox
    dates: tuple[SceneDate, ...]
    rgb: NDArray[np.uint8]
    valid: NDArray[np.bool_]

    def read(self, box: Box, date: int) -> Pixels:  # noqa: ARG002 - a picture has one time
        rows, cols = slice(box.top, box.bottom), slice(box.left, box.right)
        return self.rgb[rows, cols], self.valid[rows, cols]


def picture_source(rgb: NDArray[np.uint8], valid: NDArray[np.bool_]) -> PixelSource:
    """The pixels of a picture, to be predicted window by window.

    Args:
        rgb: Its pixels (H x W x 3).
        valid: Which of them are data (H x W).
    """
    return _PictureSource(
        geobox=GeoBox(valid.shape, Affine.identity(), None),
        dates=(SceneDate(time=None, items=""),),
        rgb=rgb,
        valid=valid,
    )


def _recipe_of_scene(scene: xr.Dataset | xr.DataArray) -> Recipe | None:
    try:
        return Recipe.of(scene) if isinstance(scene, xr.Dataset) else None
    except InputError:  # it has none: its pixels are resampled here
        return None


def _spatial_dims_of(valid: xr.DataArray) -> tuple[str, str]:
    found = spatial_dims(valid)
    y, x = found if found is not None else valid.dims[-2:]
    return str(y), str(x)


def _date_dim(valid: xr.DataArray, space: tuple[str, str]) -> str | None:
    """The one dimension beside space."""
    others = [str(dim) for dim in valid.dims if dim not in space]
    if len(others) > 1:
        raise InputError(
            f"this scene has the dimensions {others} beside space: select all but one, "
            f"for example scene.isel({others[0]}=0)"
        )
    return others[0] if others else None


def _with_dates(array: xr.DataArray, dim: str | None) -> xr.DataArray:
    if dim is None:
        return array.expand_dims("date")
    return array.rename({dim: "date"}).transpose("date", ...)


def _dates_of_scene(rendered: xr.Dataset, valid: xr.DataArray, dim: str | None) -> tuple[SceneDate, ...]:
    times = dates_of(rendered, dim)
    items = _coordinate_along(rendered, "items", valid.sizes["date"])
    found = tuple(
        SceneDate(time=time, items="" if item is None else str(item)) for time, item in zip(times, items, strict=True)
    )
    check_apart(found)
    return found


def dates_of(array: xr.Dataset | xr.DataArray, dim: str | None) -> list[np.datetime64 | None]:
    """The date of each position along a dimension, in UTC without zone.

    Args:
        array: What has the dates as a coordinate.
        dim: The dimension; None where there is none, and a scalar coordinate "time" may tell the one date.

    Raises:
        InputError: There are several positions without a date each, or none at all.
    """
    count = 1 if dim is None else array.sizes[dim]
    if count == 0:
        raise InputError(f"this scene has no date: its dimension {dim!r} is empty")
    names = ("time",) if dim is None else (dim, "time")
    own = () if dim is None else (dim,)
    coordinate = next(
        (array.coords[n] for n in names if n in array.coords and array.coords[n].dims in (own, ())),
        None,
    )
    if coordinate is None or (dim is not None and coordinate.dims == () and count > 1):
        values: list[Any] = [None] * count
    else:
        values = list(np.atleast_1d(coordinate.values))
    if count == 1:
        return [None if values[0] is None or pd.isna(values[0]) else utc(values[0])]
    if any(value is None for value in values):
        raise InputError(
            f"the dimension {dim!r} of this scene has {count} positions and no dates: give each its date, "
            f"scene.assign_coords({dim}=[...]), or select one with scene.isel({dim}=0)"
        )
    return [utc(value) for value in values]


def check_apart(dates: Sequence[SceneDate]) -> None:
    """Refuse dates that cannot be told apart.

    Raises:
        InputError: Two of them have the same time and items.
    """
    seen = set()
    for date in dates:
        if date in seen:
            raise InputError(
                f"the date {date.time} is there twice: its rows could not be told apart. Keep one, "
                "scene.drop_duplicates('time'), or load the items of a day together with groupby='solar_day'"
            )
        seen.add(date)


def utc(time: Any) -> np.datetime64:
    """A date or time as UTC without zone.

    Raises:
        InputError: It is missing, or no date: a bare number could be anything.
    """
    try:
        if isinstance(time, Real):
            raise TypeError(time)
        stamp = pd.Timestamp(time)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{time!r} is no date: give a date and time such as '2021-06-01' or numpy.datetime64, in UTC or with a zone"
        ) from error
    if pd.isna(stamp):
        raise InputError("a date is missing (NaT): drop what has no date, or give each a date")
    if stamp.tz is not None:
        stamp = stamp.tz_convert("UTC").tz_localize(None)
    try:
        return stamp.as_unit("ns").to_datetime64()
    except (ValueError, OverflowError) as error:
        raise InputError(f"{time!r} is outside of the years 1678 to 2261") from error


def _coordinate_along(rendered: xr.Dataset, name: str, count: int) -> list[Any]:
    if name not in rendered.coords:
        return [None] * count
    values = np.atleast_1d(rendered.coords[name].values)
    return list(values) if len(values) == count else [None] * count
