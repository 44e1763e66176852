"""Bytes, requests, time and memory of reading a COG over HTTP, against rasterio and odc-stac alone.

    python benchmarks/bench_scenes.py [--side 4352]

A server on this machine counts what is asked of it and what it sends. The file is pixel-interleaved,
deflated, with overviews, about 100 MB of four bands (as NAIP) or 75 MB of three (as `visual`). Each row
reads red, green and blue in a process of its own, on two threads; windows are 896 pixels wide and 768
apart. "blocks" asks for one block of 4 x 4 windows after the other, as jobs do.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
import rasterio.warp
from rasterio.enums import Resampling

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.net.fault_server import FaultServer

SETUP = """
import itertools, json, sys, time
item, side = json.loads(sys.argv[1]), int(sys.argv[2])
href = item["assets"]["image"]["href"]
def windows(size, step):
    starts = [min(at, side - size) for at in range(0, side - size + step, step)]
    return [(slice(y, y + size), slice(x, x + size)) for y, x in itertools.product(starts, starts)]
"""
OURS = """
import dask
from remotesam_geo import load
from remotesam_geo.scenes.read_block import read_block
from remotesam_geo.raster.session import ReadPolicy
from remotesam_geo.scenes.recipe import Recipe
from remotesam_geo.net.trust import Trust
dask.config.set(num_workers=2)
policy = ReadPolicy(trust=Trust(hosts=("127.0.0.1",)), cache_bytes={cache} << 20)
scene = load([item], mosaic="first", policy=policy)[["red", "green", "blue"]]
recipe = Recipe.of(scene)
"""
ODC = """
import dask, odc.stac, pystac
dask.config.set(num_workers=2)
odc.stac.configure_rio(cloud_defaults=True)
bands = [b["common_name"] for b in item["assets"]["image"]["eo:bands"]][:3]
scene = odc.stac.load(
    [pystac.Item.from_dict(item)], bands=["red", "green", "blue"], chunks={"x": 2048, "y": 2048}
).isel(time=0)
"""
RASTERIO = """
import rasterio
import rasterio.shutil
import rasterio.warp
start = time.perf_counter()
with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"), rasterio.open(href) as file:
    file.read([1, 2, 3])
"""
WHOLE = """
start = time.perf_counter()
scene.compute()
"""
CHUNKS = """
start = time.perf_counter()
for part in windows(2048, 2048):
    scene.isel(y=part[0], x=part[1]).compute()
"""
WINDOWS = """
start = time.perf_counter()
for part in windows(896, 768):
    scene.isel(y=part[0], x=part[1]).compute()
"""
BLOCKS = """
start = time.perf_counter()
parts = windows({size}, {step})
for part in parts[: len(parts) // {share}]:
    read_block(recipe, recipe.geobox[part], policy=policy)
"""
END = """
spent = time.perf_counter() - start
peak = int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) / 1024
print(json.dumps([spent, peak]))
"""
LARGE, SMALL = 128, 24  # MB of the cache
ROWS = {
    "rasterio, one read": RASTERIO,
    "`load`, whole": OURS.format(cache=LARGE) + WHOLE,
    "`load`, chunk by chunk": OURS.format(cache=LARGE) + CHUNKS,
    "`load`, blocks of 4 x 4 windows": OURS.format(cache=LARGE) + BLOCKS.format(size=3200, step=3072, share=1),
    "`load`, window by window": OURS.format(cache=LARGE) + BLOCKS.format(size=896, step=768, share=1),
    f"`load`, window by window, cache of {SMALL} MB": (
        OURS.format(cache=SMALL) + BLOCKS.format(size=896, step=768, share=1)
    ),
    "the same, the first third of the windows": (OURS.format(cache=SMALL) + BLOCKS.format(size=896, step=768, share=3)),
    "odc-stac alone, whole": ODC + WHOLE,
    "odc-stac alone, window by window": ODC + WINDOWS,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=4352)
    side = parser.parse_args().side
    for name, bands in (("NAIP: 4 bands", 4), ("`visual`: 3 bands", 3)):
        with tempfile.TemporaryDirectory() as folder, FaultServer() as server:
            path = Path(folder) / "picture.tif"
            write(path, side, bands)
            server.files["/picture.tif"] = path.read_bytes()
            item = item_of(path, f"{server.url}/picture.tif", bands)
            size = path.stat().st_size
            path.unlink()
            print(f"\n{name}, {size / 1e6:.0f} MB, {side} x {side} pixels\n")
            print("| | requests | MB | requests, times | bytes, times | s | peak of the process, MB |")
            print("| --- | --- | --- | --- | --- | --- | --- |")
            first = None
            for row, work in ROWS.items():
                server.forget()
                spent, peak = run(SETUP + work + END, item, side)
                requests, sent = server.requests, server.bytes_sent
                first = first or (requests, sent)
                print(
                    f"| {row} | {requests} | {sent / 1e6:.1f} | {requests / first[0]:.1f} "
                    f"| {sent / first[1]:.2f} | {spent:.1f} | {peak:.0f} |",
                    flush=True,
                )


def run(code: str, item: dict, side: int) -> tuple[float, float]:
    command = [sys.executable, "-c", textwrap.dedent(code), json.dumps(item), str(side)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    spent, peak = json.loads(done.stdout.splitlines()[-1])
    return spent, peak


def write(path: Path, side: int, bands: int) -> None:
    """Fields, roofs and noise: compresses like an aerial photograph."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (bands, -(-side // 16), -(-side // 16)))
    pixels = np.kron(coarse, np.ones((16, 16), "int64"))[:, :side, :side]
    pixels = (pixels + rng.integers(-40, 40, pixels.shape)).clip(0, 255).astype("uint8")
    plain = path.with_name("plain.tif")
    with rasterio.open(
        plain, "w", driver="GTiff", width=side, height=side, count=bands, dtype="uint8",
        crs="EPSG:26911", transform=rasterio.Affine(0.6, 0, 5e5, 0, -0.6, 4e6),
        photometric="minisblack", interleave="pixel",
    ) as file:  # fmt: skip
        file.write(pixels)
    rasterio.shutil.copy(
        plain, path, driver="COG", compress="deflate", blocksize=512,
        overview_resampling=Resampling.average.name,
    )  # fmt: skip
    plain.unlink()


def item_of(path: Path, href: str, bands: int) -> dict:
    with rasterio.open(path) as file:
        shape, transform, epsg = file.shape, file.transform, file.crs.to_epsg()
        west, south, east, north = rasterio.warp.transform_bounds(file.crs, 4326, *file.bounds)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    names = ["red", "green", "blue", "nir"][:bands]
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": "picture", "links": [],
        "stac_extensions": [
            "https://stac-extensions.github.io/projection/v1.1.0/schema.json",
            "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
            "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
        ],
        "bbox": [west, south, east, north],
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            "datetime": "2021-06-01T12:00:00Z", "proj:epsg": epsg, "proj:shape": list(shape),
            "proj:transform": list(transform)[:6],
        },
        "assets": {
            "image": {
                "href": href, "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "roles": ["data"],
                "eo:bands": [{"name": name, "common_name": name} for name in names],
                "raster:bands": [{"data_type": "uint8"}] * bands,
            }
        },
    }  # fmt: skip


if __name__ == "__main__":
    main()
