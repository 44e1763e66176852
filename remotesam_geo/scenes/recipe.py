"""A scene's recipe: what is read from where onto which grid, as plain JSON, so that another process makes the same.

A recipe is decided once, by `load` or `open_raster`: which items, which bands of which files, in which
order, on which grid, in which units. Opening it decides nothing again, so that any part of a scene, read
anywhere, has the pixels of the whole.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox

from remotesam_geo.errors import InputError
from remotesam_geo.geo.grids import anchored, boxed, footprints, overlaps
from remotesam_geo.net.credentials import check_no_secrets
from remotesam_geo.raster.gcps import Points

from .build import build
from .layers import FileBands, Layer, Variable, grid_from_json, grid_to_json
from .odc_recipe import plan_load

if TYPE_CHECKING:
    import xarray as xr

    from remotesam_geo.net.policy import ReadPolicy

__all__ = [
    "FileBands", "Layer", "Recipe", "Variable", "as_fill", "grid_from_json", "grid_to_json", "policy_of",
]  # fmt: skip

VERSION = 1
_KEY = "remotesam_recipe"  # in a scene's encoding, which nobody writes to files
_MOVED = "rechunk"  # layers of dask that only cut the same values differently


def policy_of(scene: "xr.Dataset") -> "ReadPolicy | None":
    """The policy that a scene was loaded with, None for the default.

    It is noted on the scene beside its recipe, and is no part of it, as it may hold secrets.
    """
    noted = scene.encoding.get(_KEY)
    return None if noted is None else noted[2]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that a scene is made from.

    Args:
        geobox: Its grid.
        layers: Items, in the order given.
        times: UTC as ISO text; empty where the scene has no time axis.
        groups: For each time (or for the one mosaic) the layers it is made of, first choice first.
        variables: What it holds.
        mosaic: None, "first", "latest" or "median".
        physical: Whether values are physical (float32, NaN where not valid).
        chunk: Rows and columns of a chunk.
        attrs: Attributes of the scene.
        odc: How odc-stac loads the bands, in the recipe of an `odc.stac.load` call; see `from_odc`.

    Examples:
        >>> from remotesam_geo import load
        >>> item = {"id": "a", "properties": {
        ...     "datetime": "2024-05-01T10:00:00Z", "proj:epsg": 32631, "proj:shape": [100, 200],
        ...     "proj:transform": [10, 0, 500000, 0, -10, 5000000]}, "assets": {
        ...     "dem": {"href": "https://example.com/a.tif", "data_type": "float32"}}}
        >>> recipe = Recipe.of(load([item], bands="dem", mosaic="first"))
        >>> same = Recipe.from_json(recipe.to_json()).open()
        >>> dict(recipe.open(geobox=recipe.geobox[:50, :60]).sizes)
        {'y': 50, 'x': 60}
    """

    geobox: GeoBox
    layers: tuple[Layer, ...]
    times: tuple[str, ...] = ()
    groups: tuple[tuple[int, ...], ...]
    variables: tuple[Variable, ...]
    mosaic: str | None = None
    physical: bool = False
    chunk: tuple[int, int] = (2048, 2048)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    odc: Mapping[str, Any] | None = None

    @classmethod
    def from_odc(cls, items: Iterable[Any], **load_kwargs: Any) -> "Recipe":
        """The recipe of an `odc.stac.load` call: `open` gives the pixels that the call gives with `SceneDriver`.

        Args:
            items: pystac Items.
            load_kwargs: Arguments of `odc.stac.load`. Functions, `driver`, `patch_url`, `with_properties`, `pool` and
                `progress` cannot be kept; sign by the policy of `open` or of the job instead.

        Raises:
            InputError: An argument cannot be kept: which, and what to give instead.

        Examples:
            >>> import pystac
            >>> from remotesam_geo.scenes import Recipe
            >>> item = pystac.Item.from_dict({"type": "Feature", "stac_version": "1.0.0", "id": "a", "links": [],
            ...     "geometry": {"type": "Point", "coordinates": [3.01, 45.15]}, "bbox": [3, 45.1, 3.02, 45.2],
            ...     "stac_extensions": ["https://stac-extensions.github.io/projection/v1.1.0/schema.json"],
            ...     "properties": {"datetime": "2024-05-01T10:00:00Z", "proj:epsg": 32631, "proj:shape": [100, 200],
            ...                    "proj:transform": [10, 0, 500000, 0, -10, 5000000]},
            ...     "assets": {"dem": {"href": "https://example.com/a.tif", "type": "image/tiff", "roles": ["data"]}}})
            >>> dict(Recipe.from_odc([item], bands="dem").open().sizes)
            {'time': 1, 'y': 100, 'x': 200}
        """
        return cls(**plan_load(items, load_kwargs))

    @classmethod
    def of(cls, scene: "xr.Dataset") -> "Recipe":
        """The recipe of a scene, after checking that it still is that scene.

        Args:
            scene: As `load` or `open_raster` returned it; variables may be left out, chunks changed.

        Returns:
            Its recipe.

        Raises:
            InputError: The scene has none, or was changed since: what changed, and what to do.
        """
        noted = scene.encoding.get(_KEY) if hasattr(scene, "data_vars") else None
        if noted is None:
            raise InputError(
                "this scene has no recipe: it was not made by load or open_raster, or was changed "
                "since. Give the area and bands to load(...) itself, or keep the changed scene with "
                "scene.to_zarr(path) and use that."
            )
        recipe, marks, _ = noted
        changed = _changes_since_load(scene, marks)
        if changed:
            raise InputError(
                f"this scene was changed after it was loaded ({changed}), so its recipe would give "
                "other pixels. Give the area and bands to load(...) itself, or keep the changed scene "
                "with scene.to_zarr(path) and use that."
            )
        if not isinstance(recipe, cls):
            raise InputError(f"not a recipe: {recipe!r}")
        return recipe

    def attach(self, scene: "xr.Dataset", policy: "ReadPolicy | None") -> "xr.Dataset":
        """Note the recipe on the scene that was made from it, and how it is read."""
        scene.encoding[_KEY] = (self, _marks_of_scene(scene), policy)
        return scene

    def open(self, geobox: GeoBox | None = None, *, policy: "ReadPolicy | None" = None) -> "xr.Dataset":
        """Make the scene, or any part of it, lazily.

        Args:
            geobox: Part of the recipe's grid: pixels equal those of the whole. Any other grid is
                read onto directly, averaging where it is coarser.
            policy: How to read; it is no part of a recipe, as it may hold secrets.

        Returns:
            As from `load`.
        """
        return build(self if geobox is None else self.on(geobox), policy)

    def on(self, geobox: GeoBox) -> "Recipe":
        """The same recipe on another grid, without the layers that do not touch it."""
        grid = anchored(self.geobox, geobox)
        keep = self.touching(grid)
        position = {old: new for new, old in enumerate(keep)}
        layers = [self.layers[index] for index in keep]
        if grid.crs != self.geobox.crs:
            boxes = footprints([boxed(layer.bounds, self.geobox.crs) for layer in layers], grid.crs)
            layers = [
                replace(layer, bounds=(float(a), float(b), float(c), float(d)))
                for layer, (a, b, c, d) in zip(layers, boxes, strict=True)
            ]
        return replace(
            self,
            geobox=grid,
            layers=tuple(layers),
            groups=tuple(tuple(position[index] for index in group if index in position) for group in self.groups),
        )

    def touching(self, geobox: GeoBox) -> list[int]:
        """Positions of the layers that lie under a grid."""
        ((west, south, east, north),) = footprints([geobox.pad(2)], self.geobox.crs)
        if not math.isfinite(west + south + east + north):  # beyond its CRS: the reader will tell
            return list(range(len(self.layers)))
        box = (float(west), float(south), float(east), float(north))
        found = overlaps(self._bounds, box, self.geobox.crs)
        return [int(index) for index in np.flatnonzero(found)]

    @cached_property
    def _bounds(self) -> npt.NDArray[np.float64]:
        return np.array([layer.bounds for layer in self.layers], dtype=float).reshape(-1, 4)

    @cached_property
    def digest(self) -> str:
        """A hash over everything in it."""
        text = json.dumps(self._to_plain(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def __dask_tokenize__(self) -> tuple[str, str]:
        return "remotesam_geo.Recipe", self.digest

    def __repr__(self) -> str:
        height, width = self.geobox.shape
        names = ", ".join(variable.name for variable in self.variables)
        return (
            f"Recipe({len(self.layers)} items, {max(1, len(self.times))} x {height} x {width}, "
            f"{names}, {self.geobox.crs}, {self.digest[:8]})"
        )

    def to_json(self) -> str:
        """As JSON text, the same for equal recipes.

        Raises:
            InputError: An address in it holds a signature or password.
        """
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values.

        Raises:
            InputError: An address in it holds a signature or password.
        """
        doc = self._to_plain()
        check_no_secrets(doc)
        return doc

    def _to_plain(self) -> dict[str, Any]:
        return {"version": VERSION, **_plain_json(self)}

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_dict(cls, doc: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            InputError: Where it is no recipe, or one of a later version.
        """
        if doc.get("version") != VERSION:
            raise InputError(
                f"cannot read a recipe of version {doc.get('version')!r}, only {VERSION}: "
                "make the scene again with load"
            )
        try:
            return cls(
                geobox=grid_from_json(doc["geobox"]),
                layers=tuple(_layer_from_json(layer) for layer in doc["layers"]),
                times=tuple(doc["times"]),
                groups=tuple(tuple(group) for group in doc["groups"]),
                variables=tuple(Variable(**variable) for variable in doc["variables"]),
                mosaic=doc["mosaic"],
                physical=doc["physical"],
                chunk=(doc["chunk"][0], doc["chunk"][1]),
                attrs=doc["attrs"],
                odc=doc.get("odc"),
            )
        except InputError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise InputError(f"not a recipe: {type(error).__name__}: {error}") from None


def as_fill(nodata: float | None, dtype: npt.DTypeLike) -> float | None:
    """A nodata value as a variable of a type can hold it, else None: NaN needs no value."""
    kind = np.dtype(dtype)
    if nodata is None or not math.isfinite(nodata):
        return None
    if kind.kind in "ui":
        limits = np.iinfo(kind)
        if nodata != int(nodata) or not limits.min <= nodata <= limits.max:
            return None
    return float(nodata)


def _plain_json(value: Any) -> Any:
    """A recipe's values as JSON has them; what is left at its default stays out of sources."""
    if isinstance(value, GeoBox):
        return grid_to_json(value)
    if isinstance(value, Points):
        return asdict(value)
    if isinstance(value, FileBands | Layer):
        return {
            spec.name: _plain_json(found)
            for spec in fields(value)
            if (found := getattr(value, spec.name)) != spec.default
        }
    if isinstance(value, Recipe | Variable):
        return {spec.name: _plain_json(getattr(value, spec.name)) for spec in fields(value)}
    if isinstance(value, tuple | list):
        return [_plain_json(part) for part in value]
    if isinstance(value, Mapping):
        return {str(key): _plain_json(part) for key, part in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    return value


def _layer_from_json(doc: Mapping[str, Any]) -> Layer:
    known = dict(doc)
    known["bounds"] = tuple(doc["bounds"])
    known["tiles"] = tuple((row, column) for row, column in doc.get("tiles", ()))
    known["sources"] = tuple(_file_bands_from_json(source) for source in doc["sources"])
    return Layer(**known)


def _file_bands_from_json(doc: Mapping[str, Any]) -> FileBands:
    known: dict[str, Any] = _recipe_lists_to_tuples(doc)
    if "grid" in doc:
        known["grid"] = grid_from_json(doc["grid"])
    if "points" in doc:
        known["points"] = Points(**_recipe_lists_to_tuples(doc["points"]))
    return FileBands(**known)


def _recipe_lists_to_tuples(doc: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(part) if isinstance(part, list) else part for key, part in doc.items()}


def _marks_of_scene(scene: "xr.Dataset") -> dict[str, Any]:
    """What pins a scene to its recipe: names of graphs, attributes, coordinates."""
    return {
        "variables": {
            str(name): (variable.data.name, _recipe_attrs_text(variable.attrs))
            for name, variable in scene.data_vars.items()
        },
        "layers": frozenset(layer for variable in scene.data_vars.values() for layer in variable.data.dask.layers),
        "coords": {str(dim): _recipe_coordinate_digest(scene.coords[dim]) for dim in scene.dims},
    }


def _recipe_attrs_text(attrs: Mapping[Any, Any]) -> str:
    return repr(sorted((str(key), repr(value)) for key, value in attrs.items()))


def _recipe_coordinate_digest(coordinate: "xr.DataArray") -> str:
    return hashlib.sha256(np.ascontiguousarray(coordinate.values).tobytes()).hexdigest()


def _changes_since_load(scene: "xr.Dataset", marks: Mapping[str, Any]) -> str:
    """What differs between a scene and the one that its recipe was noted on, "" for nothing."""
    if not scene.data_vars:
        return "it has no variables left"
    for name, variable in scene.data_vars.items():
        if name not in marks["variables"]:
            return f"variable {name!r} is new"
        graph, attrs = marks["variables"][name]
        if not hasattr(variable.data, "dask"):
            return f"{name!r} is in memory"
        if variable.data.name != graph:
            added = set(variable.data.dask.layers) - marks["layers"]
            if graph not in variable.data.dask.layers or not all(layer.startswith(_MOVED) for layer in added):
                return f"{name!r} was computed with or cut"
        if _recipe_attrs_text(variable.attrs) != attrs:
            return f"the attributes of {name!r} differ"
    for dim in scene.dims:
        if marks["coords"].get(str(dim)) != _recipe_coordinate_digest(scene.coords[dim]):
            return f"the coordinates {dim!r} differ"
    return ""
