"""Where a job's pixels come from, as plain JSON: any process makes the same source of it again."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from remotesam_geo.errors import InputError, ReadError
from remotesam_geo.geo.box import Box
from remotesam_geo.geo.coordinates import grid_of
from remotesam_geo.geo.crs import only_defined
from remotesam_geo.geo.ground import Resolution, plan_geobox
from remotesam_geo.mapping.source import Pixels, PixelSource, SceneDate, scene_source
from remotesam_geo.scenes import ReadPolicy, Recipe, render, render_block
from remotesam_geo.scenes.colors import rgb_of
from remotesam_geo.scenes.recipe import grid_from_json, grid_to_json
from remotesam_geo.scenes.unsigned import without_secrets

__all__ = ["SourceRecipe", "open_store", "text_in"]

_AROUND = 8
"""Pixels beyond a region within which items are still sent with it: warping looks over its border."""


@dataclass(frozen=True, kw_only=True)
class SourceRecipe:
    """What a source is made of: a recipe, or a Zarr store.

    Attributes:
        recipe: Of a scene made by `load` or `open_raster`.
        store: Path of a Zarr store that holds a scene.
        digest: Of the store's metadata: another store at the same path is told apart.
        grid: The scene's own grid where it lies in a store, so that it is known without the store.
        dates: Its times there; a recipe holds its own.
        bands: Names of the bands that are red, green and blue, or of the one that is grey.
        stretch: `attrs["stretch"]` of the scene rendered: limits are measured once, when a job is created.
    """

    recipe: Recipe | None = None
    store: str | None = None
    digest: str = ""
    grid: GeoBox | None = None
    dates: tuple[SceneDate, ...] = ()
    bands: tuple[str, ...]
    stretch: str

    @classmethod
    def of(
        cls,
        scene: xr.Dataset,
        *,
        bands: str | Sequence[str | int] | None = None,
        stretch: Any = None,
        store: Path | None = None,
        policy: ReadPolicy | None = None,
    ) -> Self:
        """Fix how a scene becomes pictures; limits that are not known are measured now.

        Args:
            scene: As `load` or `open_raster` returned it, or as it was opened from a store.
            bands: As in `render`.
            stretch: As in `render`.
            store: Where it was opened from, if from a store.
            policy: How it is read. Signatures are taken off addresses that one of its signers signs again.

        Raises:
            InputError: It has neither a recipe nor a store, cannot be rendered, or its addresses hold secrets.
        """
        recipe = None if store is not None else without_secrets(Recipe.of(scene), policy)
        rendered = render(scene, bands, stretch)
        source = None if store is None else scene_source(scene, bands=bands, stretch=stretch)
        return cls(
            recipe=None if recipe is None else _with_absolute_paths(recipe),
            store=None if store is None else str(store.resolve()),
            digest="" if store is None else _source_metadata_digest(store),
            grid=None if store is None else grid_of(scene),
            dates=() if source is None else tuple(source.dates),
            bands=_rendered_band_names(scene, bands),
            stretch=rendered.attrs["stretch"],
        )

    @property
    def geobox(self) -> GeoBox:
        """The scene's own grid.

        Raises:
            InputError: It has no CRS.
        """
        geobox = self.grid if self.recipe is None else self.recipe.geobox
        if not isinstance(geobox, GeoBox) or geobox.crs is None:
            raise InputError(
                "this scene has no CRS, so its answers would lie nowhere on Earth: assign one "
                "(scene.rio.write_crs, or crs= in open_raster)"
            )
        return geobox

    def source(self, resolution: Resolution = "native", policy: ReadPolicy | None = None) -> PixelSource:
        """The pixels at a resolution.

        Args:
            resolution: Metres on the ground a pixel, or "native".
            policy: How recipes are read; it is no part of an origin, as it may hold secrets.
        """
        if self.recipe is not None:
            plan = plan_geobox(self.recipe.geobox, resolution)
            recipe = self.recipe if plan == self.recipe.geobox else self.recipe.on(plan)
            return RecipeSource(origin=replace(self, recipe=recipe), geobox=plan, policy=policy)
        return StoreSource(origin=self, resolution=resolution)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "recipe": None if self.recipe is None else self.recipe.to_dict(),
            "store": self.store,
            "digest": self.digest,
            "grid": None if self.grid is None else grid_to_json(self.grid),
            "moments": [_date_to_json(date) for date in self.dates],
            "bands": list(self.bands),
            "stretch": self.stretch,
        }

    @classmethod
    def from_json(cls, doc: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        recipe, store, grid = doc["recipe"], doc["store"], doc["grid"]
        if (recipe is None) == (store is None):
            raise InputError("the plan must name either a recipe or a Zarr store as its source")
        return cls(
            recipe=None if recipe is None else Recipe.from_dict(recipe),
            store=None if store is None else text_in("source.store", store),
            digest=text_in("source.digest", doc["digest"]),
            grid=None if grid is None else grid_from_json(grid),
            dates=tuple(_date_from_json(date) for date in doc["moments"]),
            bands=tuple(text_in("source.bands", band) for band in doc["bands"]),
            stretch=text_in("source.stretch", doc["stretch"]),
        )


@dataclass(frozen=True, kw_only=True)
class RecipeSource:
    """The pixels of a recipe, read without any graph.

    Attributes:
        origin: The recipe on the plan's grid, and how it is rendered.
        geobox: The plan's grid.
        policy: How to read.
    """

    origin: SourceRecipe
    geobox: GeoBox
    policy: ReadPolicy | None = None

    @property
    def dates(self) -> tuple[SceneDate, ...]:
        """The times there are."""
        recipe = self._recipe
        ids = [" ".join(recipe.layers[index].item for index in group) for group in recipe.groups]
        times = recipe.times or (None,)
        return tuple(
            SceneDate(time=None if time is None else np.datetime64(time, "ns"), items=items)
            for time, items in zip(times, ids, strict=True)
        )

    def read(self, box: Box, date: int) -> Pixels:
        """Colours (h x w x 3) and validity (h x w) of a box."""
        rgb, valid = render_block(
            self._recipe,
            self._part(box),
            date,
            bands=self.origin.bands,
            stretch=self.origin.stretch,
            policy=self.policy,
        )
        return only_defined(rgb, valid, self.geobox, box)

    def near(self, box: Box) -> "RecipeSource":
        """The same pixels, of the items that touch a box only: small enough to be sent about."""
        recipe = self._recipe.on(self._part(box).pad(_AROUND))
        return replace(self, origin=replace(self.origin, recipe=recipe))

    @property
    def _recipe(self) -> Recipe:
        if self.origin.recipe is None:
            raise InputError("this source has no recipe: open its store instead")
        return self.origin.recipe

    def _part(self, box: Box) -> GeoBox:
        return self.geobox[box.top : box.bottom, box.left : box.right]


@dataclass(frozen=True, kw_only=True)
class StoreSource:
    """The pixels of a Zarr store, which each process opens for itself.

    Attributes:
        origin: Where it is, and how it is rendered.
        resolution: Metres on the ground a pixel, or "native".
    """

    origin: SourceRecipe
    resolution: Resolution

    @property
    def geobox(self) -> GeoBox:
        """The plan's grid."""
        return plan_geobox(self.origin.geobox, self.resolution)

    @property
    def dates(self) -> Sequence[SceneDate]:
        """The times there are."""
        return self.origin.dates

    def read(self, box: Box, date: int) -> Pixels:
        """Colours (h x w x 3) and validity (h x w) of a box."""
        return self._opened.read(box, date)

    @property
    def _opened(self) -> PixelSource:
        return _opened_source_store(self.origin, self.resolution)


@lru_cache(maxsize=8)
def _opened_source_store(origin: SourceRecipe, resolution: Resolution) -> PixelSource:
    scene = open_store(Path(origin.store or ""), origin.digest)
    # "" says that pixels pass untouched, which is also what scenes of bytes do by default.
    return scene_source(scene, bands=origin.bands, stretch=origin.stretch or None, resolution=resolution)


def open_store(path: Path, digest: str = "") -> xr.Dataset:
    """Open the scene in a Zarr store.

    Args:
        path: Of the store.
        digest: What its metadata must have; "" for any.

    Raises:
        InputError: There is no store.
        ReadError: It cannot be read, or is another than it was.
    """
    if not path.is_dir():
        raise InputError(f"{path} is no Zarr store: give the folder that scene.to_zarr wrote")
    if digest and _source_metadata_digest(path) != digest:
        raise ReadError(f"the Zarr store {path} was written anew since the job was created: create a new job")
    try:
        # Chunks are read as they are wanted; a graph over all of them would hold the whole scene's plan.
        scene: xr.Dataset = xr.open_zarr(path, chunks={}, mask_and_scale=False, consolidated=False, decode_coords="all")
    except (OSError, ValueError, KeyError) as error:
        raise ReadError(f"cannot open the Zarr store {path}: {error}") from error
    return scene


def _source_metadata_digest(path: Path) -> str:
    names = ("zarr.json", ".zgroup", "*/zarr.json", "*/.zarray", "*/.zattrs")
    texts = [found.read_bytes() for name in names for found in sorted(path.glob(name))]
    return hashlib.sha256(b"\n".join(texts)).hexdigest()[:32]


def text_in(name: str, value: Any) -> str:
    """A value of a plan that must be a text.

    Raises:
        InputError: It is something else.
    """
    if not isinstance(value, str):
        raise InputError(f"{name} is {value!r}: it must be a text")
    return value


def _date_to_json(date: SceneDate) -> dict[str, str | None]:
    return {"time": None if date.time is None else str(date.time), "items": date.items}


def _date_from_json(doc: Mapping[str, Any]) -> SceneDate:
    time = doc["time"]
    return SceneDate(
        time=None if time is None else np.datetime64(text_in("time", time), "ns"),
        items=text_in("items", doc["items"]),
    )


def _rendered_band_names(scene: xr.Dataset, bands: str | Sequence[str | int] | None) -> tuple[str, ...]:
    """The bands that `render` takes, by name."""
    if isinstance(bands, str):
        return (bands,)
    if bands is not None:
        return tuple(map(str, bands))
    names = [str(name) for name in scene.data_vars if name not in ("valid", "source", "alpha")]
    return rgb_of(names) or tuple(names)


def _with_absolute_paths(recipe: Recipe) -> Recipe:
    """Files named from where they are, so that a job can be opened from another folder."""

    def place(href: str) -> str:
        return str(Path(href).resolve()) if "://" not in href and Path(href).exists() else href

    layers = [
        replace(
            layer,
            sources=tuple(replace(source, href=place(source.href)) for source in layer.sources),
        )
        for layer in recipe.layers
    ]
    return replace(recipe, layers=tuple(layers))
