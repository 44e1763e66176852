"""Memory of a map as it grows, and the speed of vector work.

    python benchmarks/bench_mapping.py [memory] [--sides 10000 30000 100000]
    python benchmarks/bench_mapping.py vectors

Memory: a lazy raster that is generated as it is read, asked of a predictor whose answer is known (a threshold on the
colour), so that all that is measured is the mapping itself. 10k and 30k pixels square with 50 squares a window, one on
every seam among them; 100k with a net of roads that makes one object of the whole raster, its parts cut at block
borders (`parts="blocks"`). Each size is a process of its own; resident memory is sampled while it runs.

Vectors: windows of 896 pixels with 50 objects each, from codes to finished features, in one thread.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import dask.array as da
import geopandas as gpd
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from pyproj import CRS

from remotesam_geo import RemoteSAM
from remotesam_geo.mapping.collect import survey
from remotesam_geo.mapping.feature_options import FeatureOptions
from remotesam_geo.mapping.feature_table import to_frame
from remotesam_geo.mapping.grid import Grid
from remotesam_geo.mapping.maps import StoredMaps
from remotesam_geo.mapping.source import SceneDate
from remotesam_geo.words import parse_prompts

WINDOW, CORE, BLOCK = 896, 672, 2048
PITCH = 96  # pixels from square to square: 49 in a core, the last of each seven on its border
ROAD = 500  # pixels from road to road


class Red:
    """Answers with the red of each pixel."""

    image_size = WINDOW
    identity = "red"

    def predict(self, images, expressions):
        codes = np.minimum(images[..., 0], 200)
        return np.repeat(codes[:, None], len(expressions), axis=1)


def squares(row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """Squares of 24 pixels, so placed that one lies on every border of cores."""
    at = (CORE + (WINDOW - CORE) // 2) % PITCH - 12
    return (((row - at) % PITCH < 24)[:, None]) & (((col - at) % PITCH < 24)[None])


def roads(row: np.ndarray, col: np.ndarray) -> np.ndarray:
    return (row % ROAD < 8)[:, None] | (col % ROAD < 8)[None]


def scene_of(side: int, pattern) -> xr.Dataset:
    geobox = GeoBox.from_bbox((400000, 0, 400000 + side / 2, side / 2), crs="EPSG:32633", resolution=0.5)

    def block(block_info=None):
        (top, bottom), (left, right) = block_info[None]["array-location"]
        there = pattern(np.arange(top, bottom), np.arange(left, right))
        return np.where(there, np.uint8(200), np.uint8(10))

    red = da.map_blocks(
        block, chunks=da.core.normalize_chunks(BLOCK, (side, side)), dtype=np.uint8, meta=np.empty((0, 0), np.uint8)
    )  # fmt: skip
    bands = dict.fromkeys(("red", "green", "blue"), (geobox.dimensions, red))
    return xr.Dataset(bands, coords=dict(xr_coords(geobox)))


def mapped(side: int) -> None:
    """Map one raster, and print what it took."""
    connected = side >= 100_000
    scene = scene_of(side, roads if connected else squares)
    curve, done = [], threading.Event()
    watch = threading.Thread(target=sampled, args=(curve, done))
    watch.start()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = RemoteSAM(Red()).segment(
            scene, "road" if connected else "square", parts="blocks" if connected else "whole", progress=True
        )  # fmt: skip
        found.to_parquet(Path(folder) / "found.parquet")
        objects = len(gpd.read_parquet(Path(folder) / "found.parquet", columns=["id", "geometry"]).id.unique())
    seconds = time.perf_counter() - start
    done.set()
    watch.join()
    steps = [f"{curve[round(share * (len(curve) - 1))]:.0f}" for share in (0, 0.1, 0.25, 0.5, 0.75, 1)]
    print(
        f"| {side:,} | {len(found):,} | {objects:,} | {seconds:.0f} | {peak():.0f} | {', '.join(steps)} |",
        flush=True,
    )


def sampled(curve: list[float], done: threading.Event) -> None:
    while not done.wait(0.5):
        curve.append(int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1e3)


def peak() -> float:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1e3


def memory(sides: list[int]) -> None:
    print(
        "| side, px | rows | objects | s | peak MB | resident MB at 0, 10, 25, 50, 75, 100 % |",
        flush=True,
    )
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for side in sides:
        subprocess.run([sys.executable, __file__, "one", "--sides", str(side)], check=True)


def vectors(windows: int = 8) -> None:
    """Window-prompts a second, from codes to a GeoDataFrame."""
    side = windows * CORE
    codes = np.where(squares(np.arange(side), np.arange(side)), np.uint8(150), np.uint8(0))[None]
    geobox = GeoBox.from_bbox((400000, 0, 400000 + side / 2, side / 2), crs="EPSG:32633", resolution=0.5)
    maps = StoredMaps(
        read=lambda _, place: codes[:, *place],
        grid=Grid(shape=(side, side), window=4 * CORE, overlap=0, block=1),
        geobox=geobox,
        dates=(SceneDate(time=None, items=""),),
    )
    print("| outline | objects | ms a window-prompt | window-prompts a second |")
    print("| --- | --- | --- | --- |")
    for outline in ("polygon", "box", "oriented"):
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            result = survey(
                maps,
                parse_prompts("square", suggest=False),
                ((0,),),
                options=FeatureOptions(outline=outline),
            )
            table = to_frame(
                result.found, geobox, crs=CRS("EPSG:32633"), options=FeatureOptions(outline=outline), view="map",
                run_id="",
            )  # fmt: skip
            best = min(best, (time.perf_counter() - start) / windows**2)
        print(f"| {outline} | {len(table):,} | {best * 1e3:.1f} | {1 / best:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", default="all", choices=("all", "memory", "vectors", "one"))
    parser.add_argument("--sides", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    options = parser.parse_args()
    if options.what == "one":
        mapped(options.sides[0])
    if options.what in ("all", "vectors"):
        vectors()
    if options.what in ("all", "memory"):
        memory(options.sides)


if __name__ == "__main__":
    main()
