"""Planning a scene: time and memory an item, for 10, 1,000 and 10,000 items; memory while it is read.

    python benchmarks/bench_scenes_planning.py

Each row runs in a process of its own. `load` is measured on recorded items (NAIP: one asset; Sentinel-2:
three), copied and moved so that no two are alike; nothing is opened. Reading computes the mosaic of many
overlapping items chunk by chunk on two threads.
"""

import copy
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
STEP = 1500.0  # metres between neighbours


def moved(name: str, count: int) -> list[dict]:
    """Recorded items, copied to other places and times."""
    found = json.loads((ROOT / "tests/data/stac" / f"{name}.json").read_text())["features"]
    zone = [doc for doc in found if doc["properties"].get("proj:epsg") == found[0]["properties"].get("proj:epsg")]
    docs = []
    for number in range(count):
        doc = copy.deepcopy(zone[number % len(zone)])
        row, column = divmod(number // len(zone), 40)
        doc["id"] += f"-{number}"
        doc["bbox"] = None
        doc["geometry"] = None
        for place in (doc["properties"], *doc["assets"].values()):
            if "proj:transform" in place:
                place["proj:transform"][2] += column * STEP
                place["proj:transform"][5] -= row * STEP
        docs.append(doc)
    return docs


def plan(name: str, count: int) -> None:
    from remotesam_geo import load
    from remotesam_geo.scenes import Recipe

    load(moved(name, 3), mosaic="latest", max_pixels=10**15)  # what is imported and cached once
    docs = moved(name, count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    scene = load(docs, mosaic="latest", max_pixels=10**15)
    planned = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    recipe = Recipe.of(scene)
    start = time.perf_counter()
    part = recipe.open(geobox=recipe.geobox[:896, :896])
    opened = time.perf_counter() - start
    print(json.dumps({
        "items": count,
        "planned": planned,
        "memory": (after - before) * 1024,
        "recipe": len(recipe.to_json()),
        "part": opened,
        "layers": len(Recipe.of(part).layers),
        "graph": len(scene.red.data.dask.layers),
    }))  # fmt: skip


def read(count: int, side: int) -> None:
    import dask
    import numpy as np
    import rasterio
    from affine import Affine

    from remotesam_geo import load

    with tempfile.TemporaryDirectory() as folder:
        docs = []
        for number in range(count):
            transform = Affine(1, 0, 500_000 + number * side // 2, 0, -1, 5_000_000)
            path = str(Path(folder) / f"{number}.tif")
            pixels = np.random.default_rng(number).integers(1, 255, (3, side, side), "uint8")
            with rasterio.open(
                path, "w", driver="GTiff", count=3, height=side, width=side, dtype="uint8",
                crs="EPSG:32631", transform=transform, tiled=True, blockxsize=512, blockysize=512,
                interleave="pixel",
            ) as file:  # fmt: skip
                file.write(pixels)
            docs.append({
                "id": str(number),
                "properties": {
                    "datetime": "2024-05-01T10:00:00Z",
                    "proj:epsg": 32631,
                    "proj:shape": [side, side],
                    "proj:transform": list(transform)[:6],
                },
                "assets": {"image": {
                    "href": path,
                    "type": "image/tiff",
                    "eo:bands": [{"common_name": n} for n in ("red", "green", "blue")],
                    "raster:bands": [{"data_type": "uint8"}] * 3,
                }},
            })  # fmt: skip
        scene = load(docs, mosaic="first", chunks=1024)
        start = time.perf_counter()
        with dask.config.set(scheduler="threads", num_workers=2):
            sums = scene[["red", "green", "blue", "valid"]].sum().compute()
        spent = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        pixels = scene.sizes["x"] * scene.sizes["y"]
        print(json.dumps({"items": count, "pixels": pixels, "peak": peak, "seconds": spent,
                          "valid": int(sums.valid)}))  # fmt: skip


def run(*arguments: object) -> dict:
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    print("| items | ms an item | KB of memory an item | bytes of recipe an item | part of it opened, ms |")
    print("| --- | --- | --- | --- | --- |")
    for name in ("naip_page1", "s2_collection1"):
        for count in (10, 1_000, 10_000):
            row = run("plan", name, count)
            print(
                f"| {count:,} x {name.partition('_')[0].upper()} "
                f"| {1e3 * row['planned'] / count:.2f} | {row['memory'] / count / 1024:.1f} "
                f"| {row['recipe'] / count:.0f} | {1e3 * row['part']:.0f} ({row['layers']} items touch it) |"
            )
    print()
    print("| items of 4096 x 4096 | pixels | peak resident memory | Mpixel a second |")
    print("| --- | --- | --- | --- |")
    for count in (1, 4, 16):
        row = run("read", count, 4096)
        print(
            f"| {count} | {row['pixels'] / 1e6:.0f} M | {row['peak'] / 2**20:.0f} MB "
            f"| {row['pixels'] / 1e6 / row['seconds']:.1f} |"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["plan"]:
        plan(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1:2] == ["read"]:
        read(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
