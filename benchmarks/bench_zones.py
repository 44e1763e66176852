"""100,000 parcels over a map of 20,000 x 20,000 that is made block by block as it is read: time and memory of one pass.

    python benchmarks/bench_zones.py [--quick]

Beside it, the usual ways: rasterizing each block with GDAL and adding up by `np.bincount`, and cutting a window out of
the map for every parcel, as zonal statistics do (measured on some parcels, told for all).
"""

import argparse
import resource
import time
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from rasterio.features import geometry_mask, rasterize

from remotesam_geo.geo.box import Box
from remotesam_geo.mapping.executor import BlockMap
from remotesam_geo.mapping.grid import Grid
from remotesam_geo.mapping.source import SceneDate
from remotesam_geo.mapping.zonal.zone_sums import ZoneSums, tally_zones
from remotesam_geo.mapping.zonal.zone_tables import label_frame
from remotesam_geo.mapping.zonal.zones import Zones, place_zones
from remotesam_geo.words import Prompt

PROMPTS = tuple(Prompt(label=name, expressions=(name,)) for name in ("ship", "tank"))
MEMBERS = ((0,), (1,))
WINDOWS = 200  # parcels that are cut out one by one


@dataclass(frozen=True)
class Made:
    """A map without end: the same bytes for any box."""

    grid: Grid

    def read(self, box: Box) -> np.ndarray:
        rows = np.arange(box.top, box.bottom, dtype=np.uint32)[:, None]
        cols = np.arange(box.left, box.right, dtype=np.uint32)[None]
        mixed = (rows * np.uint32(2654435761)) ^ (cols * np.uint32(2246822519))
        codes = ((mixed >> np.uint32(11)) % np.uint32(201)).astype(np.uint8)
        return np.stack([codes, 200 - codes])


def parcels(side: int, count: int) -> gpd.GeoDataFrame:
    """Crooked parcels that partition the raster: a lattice whose corners are moved."""
    n = round(count**0.5)
    rng = np.random.default_rng(0)
    step = side / n
    lattice = np.stack(np.meshgrid(np.arange(n + 1), np.arange(n + 1)), axis=-1) * step
    lattice[1:-1, 1:-1] += rng.uniform(-0.3, 0.3, (n - 1, n - 1, 2)) * step
    corners = [lattice[:-1, :-1], lattice[:-1, 1:], lattice[1:, 1:], lattice[1:, :-1]]
    x, y = np.stack(corners, axis=2).reshape(-1, 4, 2).transpose(2, 0, 1)
    shapes = shapely.polygons(np.stack([500000 + x, 5500000 - y], axis=-1))
    return gpd.GeoDataFrame({"parcel": np.arange(len(shapes))}, geometry=shapes, crs="EPSG:32633")


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ours(made: Made, zones: Zones) -> tuple[object, float]:
    sums = ZoneSums(zones=zones, grid=made.grid, prompts=PROMPTS, dates=(SceneDate(time=None, items=""),))
    took = 0.0
    for index in range(made.grid.blocks[0] * made.grid.blocks[1]):
        block = made.grid.block_at(index)
        answer = BlockMap(date=0, block=block, codes=made.read(block.core), failures=())
        begin = time.process_time()
        sums.add(tally_zones(answer, zones, PROMPTS, MEMBERS))
        took += time.process_time() - begin
    begin = time.process_time()
    done = sums.finish()
    return done, took + time.process_time() - begin


def by_gdal(made: Made, zones: Zones) -> tuple[np.ndarray, np.ndarray, float]:
    """Count and sum of the first prompt alone."""
    count, total, took = np.zeros(len(zones) + 1), np.zeros(len(zones) + 1), 0.0
    for index in range(made.grid.blocks[0] * made.grid.blocks[1]):
        box = made.grid.block_at(index).core
        codes = made.read(box)[0]
        begin = time.process_time()
        near = zones.tree.query(shapely.box(box.left, box.top, box.right, box.bottom))
        moved = shapely.transform(zones.shapes[near], lambda xy, b=box: xy - [b.left, b.top])
        painted = rasterize(zip(moved, near + 1, strict=True), codes.shape, dtype=np.int32).ravel()
        count += np.bincount(painted, minlength=len(count))
        total += np.bincount(painted, np.maximum(2.0 * codes.ravel() - 1, 0), minlength=len(total))
        took += time.process_time() - begin
    return count[1:], total[1:], took


def by_window(made: Made, zones: Zones) -> float:
    """Seconds a parcel."""
    begin = time.process_time()
    for shape in zones.shapes[:: max(1, len(zones) // WINDOWS)][:WINDOWS]:
        left, top, right, bottom = shapely.bounds(shape)
        box = Box(top=int(top), left=int(left), bottom=int(bottom) + 1, right=int(right) + 1)
        codes = made.read(box)[0]
        moved = shapely.transform(shape, lambda xy, b=box: xy - [b.left, b.top])
        inside = ~geometry_mask([moved], codes.shape, (1, 0, 0, 0, 1, 0))
        codes[inside].mean()
    return (time.process_time() - begin) / min(WINDOWS, len(zones))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="10,000 parcels, 8,000 x 8,000")
    side, count = (8_000, 10_000) if parser.parse_args().quick else (20_000, 100_000)
    made = Made(Grid(shape=(side, side), window=896, overlap=224))
    frame = parcels(side, count)
    geobox = GeoBox.from_bbox((500000, 5500000 - side, 500000 + side, 5500000), "EPSG:32633", resolution=1)
    before = peak()

    begin = time.process_time()
    zones = place_zones(frame, geobox)
    placed = time.process_time() - begin
    begin = time.process_time()
    place_zones(frame.to_crs("EPSG:4326"), geobox)
    projected = time.process_time() - begin
    done, took = ours(made, zones)
    begin = time.process_time()
    rows = len(label_frame([done], ["ship", "tank"], details={"view": "map", "run_id": "bench"}))
    framed = time.process_time() - begin
    most = peak()
    counts, totals, gdal = by_gdal(made, zones)
    tally = done.tallies[0][0]
    off = int(((tally.count != counts) | (tally.total != totals)).sum())
    assert tally.count.sum() == side * side

    print(f"{len(zones):,} parcels over {side:,} x {side:,} pixels, {len(PROMPTS)} prompts")
    print(f"check and place             {placed:8.1f} s   from EPSG:4326, to_crs included {projected:.1f} s")
    print(
        f"one pass, all sums          {took:8.1f} s   {took / side**2 / len(PROMPTS) * 1e9:.1f} ns a pixel and prompt"
    )
    print(f"table of {rows:,} rows      {framed:8.1f} s")
    print(f"memory over the start       {most - before:8.0f} MB")
    print(f"GDAL and bincount, 1 prompt, count and sum alone {gdal:8.1f} s; parcels with other sums: {off:,}")
    print(f"a window a parcel, 1 prompt, mean alone          {by_window(made, zones) * len(zones):8.1f} s")


if __name__ == "__main__":
    main()
