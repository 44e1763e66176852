"""From labelled features over a lazy scene to triplets: chips in the scene's own pixels, masks from the features."""

import random
from collections.abc import Container, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio.features
import shapely
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS

from remotesam_geo.errors import InputError, number_in
from remotesam_geo.geo.box import Box
from remotesam_geo.geo.coordinates import check_horizontal
from remotesam_geo.geo.ground import Resolution, check_resolution
from remotesam_geo.mapping.grid import Grid
from remotesam_geo.mapping.source import scene_source
from remotesam_geo.scenes.colors import check_bands
from remotesam_geo.scenes.stretch import check_stretch
from remotesam_geo.words import CLASS_TEMPLATE

from .records import Example, GroundPlace, Kind, Picture, Thing, Triplet
from .run_length_mask import Mask

__all__ = ["cut_examples", "cut_triplets"]


def cut_triplets(
    scene: xr.Dataset | xr.DataArray,
    features: gpd.GeoDataFrame,
    *,
    label: str = "label",
    expression: str | None = None,
    attributes: Sequence[str] = (),
    size: int = 896,
    overlap: int = 0,
    resolution: Resolution = "native",
    classes: Sequence[str] | None = None,
    absent: int = 1,
    empty: bool = False,
    least: int = 1,
    template: str = CLASS_TEMPLATE,
    bands: str | Sequence[str | int] | None = None,
    stretch: Any = None,
    name: str = "scene",
    seed: int = 0,
) -> Iterator[Triplet]:
    """Cut a scene into chips and ask each for the features in it; a chip is read when its turn comes.

    A pixel belongs to a feature when its centre lies inside. In each chip every class that is there is asked for once
    (one-to-many), some classes that are not there (one-to-zero), and with `expression` each feature by its own words
    (one-to-one). Features are taken to be complete: what is not labelled is not there.

    Args:
        scene: As `render` takes it.
        features: Polygons in any CRS.
        label: The column of their classes.
        expression: A column of free text that means this feature alone; empty where there is none.
        attributes: Columns to keep with one-to-one triplets.
        size: Side of a chip in pixels: the model's.
        overlap: Pixels that neighbouring chips share, an even number.
        resolution: Metres on the ground a pixel, or "native".
        classes: All classes; by default those of the features.
        absent: How many absent classes to ask a chip for.
        empty: Whether to cut chips without any feature too, for their absent classes.
        least: A class or feature with fewer pixels in a chip is not asked for there, nor counted as absent.
        template: How a class is asked for.
        bands: As in `render`.
        stretch: As in `render`.
        name: Of the scene, in the names of chips and in `source`.
        seed: Of the drawing of absent classes.

    Yields:
        Triplets, those of one chip after the other; pixels without data are black, and in no mask.

    Raises:
        InputError: The features have no CRS, no such column, or no polygon.
        ReadError: Pixels could not be read.
    """
    _check_cut(size, overlap, resolution, bands, stretch)
    number_in("absent", absent, 0, whole=True)
    number_in("least", least, 0)
    return _cut_triplets(
        scene, features, label=label, expression=expression, attributes=attributes, size=size, overlap=overlap,
        resolution=resolution, classes=classes, absent=absent, empty=empty, least=least, template=template, bands=bands,
        stretch=stretch, name=name, seed=seed,
    )  # fmt: skip


def _cut_triplets(
    scene: xr.Dataset | xr.DataArray,
    features: gpd.GeoDataFrame,
    *,
    label: str,
    expression: str | None,
    attributes: Sequence[str],
    size: int,
    overlap: int,
    resolution: Resolution,
    classes: Sequence[str] | None,
    absent: int,
    empty: bool,
    least: int,
    template: str,
    bands: str | Sequence[str | int] | None,
    stretch: Any,
    name: str,
    seed: int,
) -> Iterator[Triplet]:
    columns = [label, *([] if expression is None else [expression]), *attributes]
    labels = [str(value) for value in features[label]] if label in features.columns else []
    known = tuple(dict.fromkeys(labels)) if classes is None else tuple(classes)
    if unknown := sorted(set(labels) - set(known)):
        raise InputError(f"the features have the labels {unknown}, which are none of {list(known)}")
    for picture, masks, _ in _cut_chips(
        scene, features, columns, size=size, overlap=overlap, resolution=resolution, empty=empty, bands=bands,
        stretch=stretch, name=name,
    ):  # fmt: skip
        yield from _triplets_of_chip(
            picture,
            masks,
            labels,
            features,
            known,
            expression=expression,
            attributes=attributes,
            absent=absent,
            least=least,
            template=template,
            source=name,
            seed=seed,
        )


def cut_examples(
    scene: xr.Dataset | xr.DataArray,
    features: gpd.GeoDataFrame,
    *,
    label: str = "label",
    attributes: Sequence[str] = (),
    size: int = 896,
    overlap: int = 0,
    resolution: Resolution = "native",
    empty: bool = False,
    bands: str | Sequence[str | int] | None = None,
    stretch: Any = None,
    name: str = "scene",
    skip: Container[str] = (),
) -> Iterator[Example]:
    """Cut a scene into chips with each feature in them by itself: what the data engine speaks of.

    Args:
        scene: As in `cut_triplets`, like all that is not said here.
        features: Polygons in any CRS.
        label: The column of their classes.
        attributes: Columns to keep with the things ("colour" is one the engine reads).
        size: Side of a chip in pixels.
        overlap: Pixels that neighbouring chips share, an even number.
        resolution: Metres on the ground a pixel, or "native".
        empty: Whether to cut chips without any feature too.
        bands: As in `render`.
        stretch: As in `render`.
        name: Of the scene, in the names of chips and in `source`.
        skip: Names of chips to pass over; their pixels are not read.

    Yields:
        Chips with things, each with its mask in the chip. Of one whose pixels are missing in part `attributes` hold
        "cut".

    Raises:
        InputError: The features have no CRS, no such column, or no polygon.
        ReadError: Pixels could not be read.
    """
    _check_cut(size, overlap, resolution, bands, stretch)
    return _cut_examples(
        scene, features, label=label, attributes=attributes, size=size, overlap=overlap, resolution=resolution,
        empty=empty, bands=bands, stretch=stretch, name=name, skip=skip,
    )  # fmt: skip


def _check_cut(size: int, overlap: int, resolution: Resolution, bands: Any, stretch: Any) -> None:
    """Check how chips are cut, before anything is read."""
    number_in("size", size, 2, whole=True)
    number_in("overlap", overlap, 0, size // 2, whole=True)
    check_resolution(resolution)
    check_bands(bands)
    check_stretch(stretch)


def _cut_examples(
    scene: xr.Dataset | xr.DataArray,
    features: gpd.GeoDataFrame,
    *,
    label: str,
    attributes: Sequence[str],
    size: int,
    overlap: int,
    resolution: Resolution,
    empty: bool,
    bands: str | Sequence[str | int] | None,
    stretch: Any,
    name: str,
    skip: Container[str],
) -> Iterator[Example]:
    for picture, masks, cut in _cut_chips(
        scene, features, [label, *attributes], size=size, overlap=overlap, resolution=resolution, empty=empty,
        bands=bands, stretch=stretch, name=name, skip=skip,
    ):  # fmt: skip
        things = []
        for k, pixels in masks.items():
            mask = Mask.of(pixels)
            if (box := mask.box) is None:
                continue
            row = features.iloc[k]
            notes = {str(a): str(row[a]) for a in attributes if row[a] is not None}
            notes |= {"cut": "no data"} if k in cut else {}
            x0, y0, x1, y1 = map(float, box)
            things.append(
                Thing(
                    label=str(row[label]), box=(x0, y0, x1, y1), mask=mask, id=str(features.index[k]), attributes=notes
                )
            )  # fmt: skip
        yield Example(picture=picture, things=tuple(things), source=name)


def _cut_chips(
    scene: xr.Dataset | xr.DataArray,
    features: gpd.GeoDataFrame,
    columns: Sequence[str],
    *,
    size: int,
    overlap: int,
    resolution: Resolution,
    empty: bool,
    bands: str | Sequence[str | int] | None,
    stretch: Any,
    name: str,
    skip: Container[str] = (),
) -> Iterator[tuple[Picture, dict[int, NDArray[np.bool_]], set[int]]]:
    """Chips, the pixels of the features near each by their number, and which of these lack pixels for want of data."""
    source = scene_source(scene, bands=bands, stretch=stretch, resolution=resolution)
    polygons = _in_pixels(features, columns, source.geobox.crs, ~source.geobox.affine)
    tree = shapely.STRtree(polygons)
    grid = Grid(shape=source.geobox.shape.yx, window=size, overlap=overlap)
    crs = _short_crs_of_chip(CRS.from_user_input(str(source.geobox.crs)))
    for date in range(len(source.dates)):
        for window in (each.box for each in grid):
            chip = f"{name}/{date}_{window.top}_{window.left}"
            near = np.sort(tree.query(shapely.box(window.left, window.top, window.right, window.bottom)))
            if chip in skip or (not near.size and not empty):
                continue
            inner = window.common(_box_of_feature(grid.shape))
            if inner is None:
                continue
            rgb, valid = source.read(inner, date)
            if not valid.any():
                continue
            rgb, valid = (_padded_chip(array, inner, window) for array in (rgb, valid))
            place = GroundPlace(
                crs=crs,
                transform=tuple((source.geobox.affine * Affine.translation(window.left, window.top))[:6]),
            )
            burnt = {int(k): _rasterized_feature(polygons[k], window) for k in near}
            yield (
                Picture(name=chip, content=rgb, shape=(size, size), place=place),
                {k: pixels & valid for k, pixels in burnt.items()},
                {k for k, pixels in burnt.items() if (pixels & ~valid).any()},
            )


def _in_pixels(features: gpd.GeoDataFrame, columns: Sequence[str], crs: Any, to_pixels: Affine) -> NDArray[np.object_]:
    """The features in pixels of the whole grid, so that every chip sees the very same corners."""
    if features.crs is None:
        raise InputError("the features have no CRS: say which with features.set_crs(...)")
    check_horizontal(features.crs, "the features")
    if missing := [column for column in columns if column not in features.columns]:
        raise InputError(f"the features have no column {missing[0]!r}; there are {[str(c) for c in features.columns]}")
    if not len(features):
        raise InputError("there is no feature: give one at least")
    kinds = set(features.geometry.geom_type.dropna())
    if not kinds <= {"Polygon", "MultiPolygon"} or features.geometry.isna().any():
        raise InputError(
            f"the features are {sorted(kinds)}, some perhaps missing: give polygons "
            "(points and lines: features.buffer(...) in a CRS in metres)"
        )
    here = features.geometry.to_crs(CRS.from_user_input(str(crs))).to_numpy()

    def moved(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = points.T
        a, b, c, d, e, f = to_pixels[:6]
        return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)

    return np.asarray(shapely.transform(here, moved), object)


def _short_crs_of_chip(crs: CRS) -> str:
    """A CRS as short as can be: it is written with every chip."""
    known = crs.to_authority(min_confidence=100)
    return crs.to_wkt() if known is None else ":".join(known)


def _box_of_feature(shape: tuple[int, int]) -> Box:
    return Box(top=0, left=0, bottom=shape[0], right=shape[1])


def _padded_chip(array: NDArray[Any], inner: Box, window: Box) -> NDArray[Any]:
    """A chip of full size, where the scene is smaller than one."""
    if inner == window:
        return array
    whole = np.zeros((*window.shape, *array.shape[2:]), array.dtype)
    whole[inner.within(window)] = array
    return whole


def _rasterized_feature(polygon: Any, window: Box) -> NDArray[np.bool_]:
    return np.asarray(
        rasterio.features.rasterize(
            [polygon],
            out_shape=window.shape,
            transform=Affine.translation(window.left, window.top),
            dtype="uint8",
        ),
        np.bool_,
    )


def _triplets_of_chip(
    picture: Picture,
    masks: Mapping[int, NDArray[np.bool_]],
    labels: Sequence[str],
    features: gpd.GeoDataFrame,
    classes: Sequence[str],
    *,
    expression: str | None,
    attributes: Sequence[str],
    absent: int,
    least: int,
    template: str,
    source: str,
    seed: int,
) -> Iterator[Triplet]:
    def made(text: str, mask: Mask, kind: Kind, of: str, number: Hashable) -> Triplet:
        return Triplet(
            picture=picture, expression=text, mask=mask, kind=kind, label=of, source=source,
            id=f"{picture.name}/{number}",
        )  # fmt: skip

    seen: dict[str, list[NDArray[np.bool_]]] = {}
    for k, pixels in masks.items():
        if not pixels.any():
            continue
        seen.setdefault(labels[k], []).append(pixels)
        said = features[expression].iloc[k] if expression is not None else None
        if isinstance(said, str) and said.strip() and pixels.sum() >= least:
            notes = {str(column): str(features[column].iloc[k]) for column in attributes}
            one = made(said.strip(), Mask.of(pixels), "one-to-one", labels[k], features.index[k])
            yield replace(one, attributes=notes)
    for of, parts in seen.items():
        whole = np.logical_or.reduce(parts)
        if whole.sum() >= least:
            text = template.replace("{name}", of)
            yield made(text, Mask.of(whole), "one-to-many", of, of)
    missing = [of for of in classes if of not in seen]
    drawn = random.Random(f"{seed} {picture.name}")  # noqa: S311
    for of in drawn.sample(missing, min(absent, len(missing))):
        text = template.replace("{name}", of)
        yield made(text, Mask.empty(picture.shape), "one-to-zero", of, of)
