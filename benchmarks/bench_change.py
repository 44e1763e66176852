"""Objects over time: 100,000 of them matched, and known changes of the procedural world told by several options.

python benchmarks/bench_change.py [--quick]
"""

import argparse
import resource
import sys
import time
from collections import Counter
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from remotesam_geo import match_over_time
from remotesam_geo.learning.synthetic import Acquisition

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.tracking.seen import Seen, events, look

ACQUISITIONS = (
    Acquisition(time="2024-06-01"),
    Acquisition(time="2025-06-01", shift=(2.0, 0.0), clouds=0.15),
    Acquisition(time="2026-06-01", shift=(-1.0, 1.0)),
)


def many(n: int) -> gpd.GeoDataFrame:
    """Objects at two times: a tenth of them go, all are shifted by 2 m and outlined a little differently."""
    rng = np.random.default_rng(0)
    side = 60 * n**0.5
    corner, size = rng.uniform(0, side, (n, 2)), rng.uniform(4, 15, (n, 2))
    stays = rng.random(n) < 0.9
    later = corner + 2 + rng.normal(0, 0.2, (n, 2))
    before = shapely.box(*corner.T, *(corner + size).T)
    after = shapely.box(*later.T, *(later + size).T)[stays]
    label = np.where(rng.random(n) < 0.5, "building", "tree")
    times = np.array(["2020-06-01", "2021-06-01"], "datetime64[ns]")
    return gpd.GeoDataFrame(
        {
            "label": np.concatenate([label, label[stays]]),
            "time": np.repeat(times, [n, int(stays.sum())]),
        },
        geometry=np.concatenate([before, after]),
        crs="EPSG:32633",
    )


def told(places: list[Seen], **options: float) -> str:
    """Precision, recall and F1 of changes over some places."""
    sums: Counter[str] = Counter()
    for seen in places:
        said = events(match_over_time(seen.found, observed=seen.scene, **options))
        false = said - seen.possible
        sums += Counter(
            said=len(said),
            true=len(said & seen.possible),
            required=len(seen.required),
            met=len(said & seen.required),
            hidden=sum(seen.share.get((number, step), 1.0) < 0.9 for number, step, _ in false),
        )
    precision, recall = sums["true"] / sums["said"], sums["met"] / sums["required"]
    f1 = 2 * precision * recall / (precision + recall)
    return (
        f"precision {precision:.3f}  recall {recall:.3f}  F1 {f1:.3f}  of {sums['required']} changes; "
        f"false where the place was hidden: {sums['hidden']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="10,000 objects, 3 places")
    n, seeds = (10_000, range(3, 6)) if parser.parse_args().quick else (100_000, range(3, 13))
    places = [look(seed, ACQUISITIONS) for seed in seeds]
    print(f"{len(places)} places, {sum(len(seen.found) for seen in places)} objects")
    for options in ({}, {"max_shift": 0}, {"max_shift": 0, "tolerance": 4.0}):
        print(f"{options or 'default'!s:20} {told(places, **options)}")

    frame = many(n)
    begin = time.process_time()
    result = match_over_time(frame, tolerance=2, max_shift=5)
    took = time.process_time() - begin
    states = pd.Series(result["state"]).value_counts().to_dict()
    print(f"{len(frame):,} objects at two times: {took:.1f} s of one core, {states}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
