"""What the tests of jobs share: a raster on disk, and jobs over it."""

import numpy as np
import rasterio
from affine import Affine

from remotesam_geo import open_raster
from remotesam_geo.job import Job


def write_raster(path, shape=(110, 150), seed=0, *, bright=None):
    """A GeoTIFF of blobs that cross windows and blocks, with a corner of no data."""
    random = np.random.default_rng(seed)
    rgb = np.full((3, *shape), 20, np.uint8)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for _ in range(20):
        row, col = random.integers(0, shape[0]), random.integers(0, shape[1])
        high, wide = random.integers(3, 40, 2)
        inside = ((y - row) / high) ** 2 + ((x - col) / wide) ** 2 < 1
        rgb[random.integers(0, 3)][inside] = random.integers(90, 220)
    rgb[:, :40, :40] = 0
    if bright:
        rgb[(..., *bright)] = 255
    profile = {
        "driver": "GTiff", "count": 3, "dtype": "uint8", "height": shape[0], "width": shape[1],
        "crs": "EPSG:32633", "transform": Affine(1, 0, 500000, 0, -1, 5000000), "nodata": 0,
        "tiled": True, "blockxsize": 64, "blockysize": 64, "photometric": "RGB",
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(rgb)
    return path


def make_job(folder, raster, prompts=("red", "green"), model="tests.colours:Colours", **options):
    """A job of small blocks."""
    defaults = {"block": 2, "threshold": 0.5}
    return Job.create(
        folder, open_raster(raster), {name: f"{name} things" for name in prompts}, model,
        **(defaults | options),
    )  # fmt: skip
