"""Time reads of a local deflated raster on two threads: one checkout of the package, or two in turn.

    python benchmarks/bench_local_reads.py [--against CHECKOUT] [--rounds 7] [--side 4352]

Each round starts a process for each checkout, in alternating order. It computes the whole scene of `open_raster`
twice, so that the second read finds what the first one has verified. Wall times, without the start of the process.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bench_scenes import write

HERE = Path(__file__).parents[1]
READ = """
import sys, time, warnings
import dask
from remotesam_geo import open_raster
warnings.simplefilter("ignore")
with dask.config.set(scheduler="threads", num_workers=2):
    open_raster(sys.argv[2]).compute()  # imports, and threads that start
    for _ in range(2):
        begin = time.perf_counter()
        open_raster(sys.argv[1]).compute()
        print(time.perf_counter() - begin)
"""


def times(checkout: Path, raster: Path, other: Path) -> list[float]:
    """Seconds of the first and of the repeated read."""
    done = subprocess.run(
        [sys.executable, "-c", READ, str(raster), str(other)],
        env={**os.environ, "PYTHONPATH": str(checkout)},
        cwd=checkout,
        check=True,
        capture_output=True,
        text=True,
    )
    return [float(line) for line in done.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--against", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--side", type=int, default=4352)
    options = parser.parse_args()
    checkouts = {"now": HERE} | ({"before": options.against} if options.against else {})
    taken: dict[str, list[list[float]]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as folder:
        raster, other = Path(folder) / "raster.tif", Path(folder) / "other.tif"
        write(raster, options.side, 3)
        write(other, 512, 3)
        for number in range(options.rounds):
            for name in list(checkouts)[:: 1 if number % 2 else -1]:
                taken[name].append(times(checkouts[name], raster, other))
    print("| | first read, s | repeated read, s |\n| --- | --- | --- |")
    for name, runs in taken.items():
        middle = [statistics.median(run) for run in zip(*runs, strict=True)]
        print(f"| {name} | {middle[0]:.2f} | {middle[1]:.2f} |")
    if len(taken) == 2:
        ratios = [
            statistics.median(now / before for now, before in zip(nows, befores, strict=True))
            for nows, befores in zip(zip(*taken["now"], strict=True), zip(*taken["before"], strict=True), strict=True)
        ]
        print(f"| now / before, median of rounds | {ratios[0]:.2f} | {ratios[1]:.2f} |")


if __name__ == "__main__":
    main()
