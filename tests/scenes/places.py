"""Small rasters and items for the tests: where every pixel is known, and the item says what a test wants."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.warp import transform_bounds

DATA = Path(__file__).parents[1] / "data"


def recorded(name: str) -> list[dict[str, Any]]:
    """Items of a recorded answer, as plain dictionaries."""
    return json.loads((DATA / "stac" / f"{name}.json").read_text())["features"]


def raster(name: str) -> str:
    """Path of a raster of the test data."""
    return str(DATA / "rasters" / name)


def grid(west, north, size, south_up=False):
    """A transform: north-up, or with rows that run north."""
    return Affine(size, 0, west, 0, size if south_up else -size, north)


def write(path, pixels, transform, crs, *, colors=None, mask=None, overviews=(), **options):
    """Write B x h x w as a tiled GeoTIFF."""
    pixels = np.asarray(pixels)
    profile = {
        "driver": "GTiff",
        "count": len(pixels),
        "height": pixels.shape[1],
        "width": pixels.shape[2],
        "dtype": pixels.dtype,
        "crs": crs,
        "transform": transform,
        "tiled": True,
        "blockxsize": 64,
        "blockysize": 64,
    } | options
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as file:
        file.write(pixels)
        if colors is not None:
            file.colorinterp = [ColorInterp[name] for name in colors]
        if mask is not None:
            file.write_mask(np.asarray(mask, "uint8") * 255)
        if overviews:
            file.build_overviews(list(overviews), rasterio.enums.Resampling.average)
    return str(path)


def noise(seed, shape, low=1, high=250, dtype="uint8"):
    """Pixels that are different everywhere, without the value 0."""
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def item(
    name,
    path,
    *,
    time="2024-05-01T10:00:00Z",
    names=("red", "green", "blue", "nir"),
    collection="places",
    properties=None,
    asset=None,
    proj=True,
):
    """An item with one asset `image` for a file, described as well as can be."""
    with rasterio.open(path) as file:
        bounds = transform_bounds(file.crs, "EPSG:4326", *file.bounds) if file.crs else None
        described = {
            "proj:epsg": file.crs.to_epsg(),
            "proj:shape": list(file.shape),
            "proj:transform": list(file.transform)[:6],
        }
        bands = [{"data_type": kind, "nodata": file.nodata} for kind in file.dtypes]
    image = {
        "href": str(path),
        "type": "image/tiff; application=geotiff",
        "roles": ["data"],
        "eo:bands": [{"name": f"B{i}", "common_name": n} for i, n in enumerate(names, 1)],
        "raster:bands": bands[: len(names)],
    }
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": collection,
        "bbox": bounds,
        "geometry": None,
        "links": [],
        "properties": {"datetime": time} | (described if proj else {}) | (properties or {}),
        "assets": {"image": image | (asset or {})},
    }
