"""Time and memory that `load` takes to plan 10,000 items: one checkout of the package, or two in turn.

    python benchmarks/bench_planning.py [--against CHECKOUT] [--rounds 5] [--items 10000]

Each round starts a process for each checkout and kind of item, in alternating order. The items are recorded ones, moved
so that no two are alike (`moved` of bench_scenes_planning.py); no file is opened. Memory is what the resident memory of
the process grows by at its peak.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bench_scenes_planning import moved

HERE = Path(__file__).parents[1]
KINDS = {
    "NAIP, 1 asset": ("naip_page1", {}),
    "Sentinel-2, 3 assets": ("s2_collection1", {}),
    "Sentinel-2, 3 assets, part of the area": ("s2_collection1", {"bbox": (-105.6, 38.0, -104.0, 40.0)}),
    "Landsat, 3 assets": ("landsat_two_zones", {}),
}
PLAN = """
import json, resource, sys, time, warnings
from remotesam_geo import load
warnings.simplefilter("ignore")
docs, few, options = json.load(open(sys.argv[1]))
load(few, mosaic="latest", max_pixels=10**15, **options)  # what is imported and cached once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begin = time.perf_counter()
scene = load(docs, mosaic="latest", max_pixels=10**15, **options)
print(time.perf_counter() - begin, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def plan(checkout: Path, given: Path) -> list[float]:
    """Seconds and bytes of one planning."""
    done = subprocess.run(
        [sys.executable, "-c", PLAN, str(given)],
        env={**os.environ, "PYTHONPATH": str(checkout)},
        cwd=checkout,
        check=True,
        capture_output=True,
        text=True,
    )
    return [float(value) for value in done.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--against", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, default=10_000)
    options = parser.parse_args()
    checkouts = {"now": HERE} | ({"before": options.against} if options.against else {})
    print("| items | checkout | ms an item | KB an item |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for kind, (name, arguments) in KINDS.items():
            given = Path(folder) / "given.json"
            given.write_text(json.dumps([moved(name, options.items), moved(name, 3), arguments]))
            taken: dict[str, list[list[float]]] = {checkout: [] for checkout in checkouts}
            for number in range(options.rounds):
                for checkout in list(checkouts)[:: 1 if number % 2 else -1]:
                    taken[checkout].append(plan(checkouts[checkout], given))
            middle = {}
            for checkout, runs in taken.items():
                middle[checkout] = [statistics.median(run) for run in zip(*runs, strict=True)]
                seconds, size = middle[checkout]
                print(
                    f"| {kind} | {checkout} | {1e3 * seconds / options.items:.3f} | {size / options.items / 1024:.2f} |"
                )
            if len(taken) == 2:
                pairs = zip(taken["now"], taken["before"], strict=True)
                ratios = zip(*([a / b for a, b in zip(now, before, strict=True)] for now, before in pairs), strict=True)
                time, memory = map(statistics.median, ratios)
                print(f"| {kind} | now / before, median of rounds | {time:.2f} | {memory:.2f} |", flush=True)


if __name__ == "__main__":
    main()
