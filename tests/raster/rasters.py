"""Small rasters and short patience for the tests of reading."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from odc.geo.geobox import GeoBox
from odc.loader.types import RasterBandMetadata, RasterLoadParams, RasterSource
from rasterio.enums import Resampling
from rasterio.io import MemoryFile

from remotesam_geo.net.client import Patience
from remotesam_geo.net.policy import ReadPolicy
from remotesam_geo.net.trust import Trust
from remotesam_geo.raster.odc_driver import AssetBands, AssetRef, LoadState, SceneDriver

UTM = "EPSG:32631"
ORIGIN = "https://catalogue.example/item.json"
# A busy machine answers late: only tests of silence and slowness may give up soon.
BRISK = Patience(connect=60, stall=60, slowest=1, total=200, retries=4, first_wait=0.01, longest_wait=0.05)
HASTY = replace(BRISK, stall=0.25, slowest=2000, retries=8)
HERE = Trust(hosts=("127.0.0.1",))
POLICY = ReadPolicy(patience=BRISK, trust=HERE)
HASTY_POLICY = ReadPolicy(patience=HASTY, trust=HERE)


def picture(bands: int, height: int, width: int, dtype: str = "uint8", seed: int = 0) -> Any:
    """Smooth shapes with a little noise: compresses like a photograph, and no two pixels alike."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (9 + b)) + np.cos(y / (7 + b)) for b in range(bands)]
    scaled = (np.stack(waves) + 2) / 4
    if np.dtype(dtype).kind == "f":
        return (scaled + rng.normal(0, 0.01, scaled.shape)).astype(dtype)
    top = min(np.iinfo(dtype).max, 4000)
    return (scaled * (top - 16) + rng.integers(0, 16, scaled.shape)).astype(dtype)


def tiff(
    pixels: npt.NDArray[Any],
    *,
    resolution: float = 10.0,
    crs: str | None = UTM,
    transform: rasterio.Affine | None = None,
    nodata: float | None = None,
    mask: npt.NDArray[np.bool_] | None = None,
    overviews: tuple[int, ...] = (),
    **options: Any,
) -> bytes:
    """A GeoTIFF as bytes."""
    bands, height, width = pixels.shape
    with MemoryFile() as memory, rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with memory.open(
            driver="GTiff",
            width=width,
            height=height,
            count=bands,
            dtype=pixels.dtype,
            crs=crs,
            transform=transform or rasterio.transform.from_origin(5e5, 5e6, resolution, resolution),
            nodata=nodata,
            **options,
        ) as file:
            file.write(pixels)
            if mask is not None:
                file.write_mask(mask)
            if overviews:
                file.build_overviews(overviews, Resampling.average)
        return bytes(memory.getbuffer())


def grid_of(data: bytes) -> GeoBox:
    with MemoryFile(data) as memory, memory.open() as file:
        return GeoBox(file.shape, file.transform, str(file.crs))


def pixels_of(data: bytes) -> npt.NDArray[Any]:
    """What GDAL reads of it, on its own."""
    with MemoryFile(data) as memory, memory.open() as file:
        return file.read()


def read(
    href: str,
    target: GeoBox,
    bands: tuple[int, ...] = (1, 2, 3),
    *,
    policy: ReadPolicy = POLICY,
    resampling: str = "auto",
    origin: str | None = ORIGIN,
    scene: GeoBox | None = None,
    told: GeoBox | None = None,
    **more: Any,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Pixels and validity on the whole target, as a scene would have them."""
    driver = SceneDriver(policy=policy)
    source = RasterSource(uri=href, geobox=told, driver_data=AssetRef(item="item-1", asset="image", origin=origin))
    wanted = RasterBandMetadata(dims=("band", "y", "x"), driver_data=AssetBands(indexes=bands, **more))
    parameters = RasterLoadParams(dtype=None, resampling=resampling, dims=("band", "y", "x"), meta=wanted)
    roi, found = driver.open(source, LoadState(geobox=scene)).read(parameters, target)
    planes = np.zeros((len(bands) + 1, *target.shape), found.dtype)
    planes[(..., *roi)] = found
    return planes[:-1], planes[-1] != 0
