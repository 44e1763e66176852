"""The data engine on the procedural world: counts by kind, share filtered, and words that fit two things.

`python benchmarks/bench_engine.py` prints the tables of docs/benchmarks.md; `--quick` is for trying it out. Every
expression is read by the tests' own reader, which knows the true masks and colours and shares no code with the rules.
`--ground` does it for a GeoDataFrame in degrees over lazy scenes in metres: the masks are then drawn by GDAL from
the features in the CRS of the scenes.
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import rasterio.features
import shapely
from affine import Affine

sys.path.insert(0, str(Path(__file__).parents[1]))

from remotesam_geo.learning.datasets import cut_examples
from remotesam_geo.learning.labelling import (
    AbsentClasses,
    Engine,
    EngineReport,
    JournalLine,
    KindClasses,
    SingleThings,
    run_engine,
    world_example,
)
from remotesam_geo.learning.synthetic import CLASSES, World, scene
from tests.learning.reading import read

FIRST = 5_000_000  # seeds that neither training nor the exam use


SIDE = 256


def engine_of(colours: str) -> Engine:
    return Engine(
        expressions=(
            KindClasses(),
            AbsentClasses(classes=tuple(CLASSES)),
            SingleThings(colours=colours, most=999),
        )
    )


def judged(colours: str, scenes: int) -> tuple[EngineReport, Counter[str], float]:
    engine = engine_of(colours)
    wrong: Counter[str] = Counter()
    entries, seconds = [], 0.0
    for seed in range(FIRST, FIRST + scenes):
        picture = scene(seed)
        example = world_example(picture)
        start = time.perf_counter()
        made = engine.made(example)
        seconds += time.perf_counter() - start
        for triplet in made.triplets:
            wrong.update(fault(triplet, picture))
        kept = Counter(f"{t.kind} {t.attributes['rule']}" for t in made.triplets)
        entries.append(
            JournalLine(
                picture=str(seed),
                triplets=len(made.triplets),
                kept=kept,
                dropped=made.dropped,
                hash=0,
            )
        )
    return EngineReport.of(engine.about, entries), wrong, seconds / scenes


def fault(triplet, picture) -> list[str]:
    rule = triplet.attributes["rule"]
    if triplet.attributes.get("absent") == "foreign":
        return []  # the world has no such thing
    try:
        meant, _ = read(triplet.expression, picture)
    except ValueError:  # the reader found no landmark, or two
        return [f"{rule}: landmark that is not alone"]
    if triplet.kind == "one-to-one" and len(meant) != 1:
        return [f"{rule}: one-to-one that fits {len(meant)}"]
    if (picture.mask(tuple(meant)) != triplet.mask.pixels()).any():
        return [f"{rule}: another mask"]
    return []


class Drawn:
    """Features by themselves: where they overlap, each keeps its pixels. `drawn == 5` is the mask of number 5."""

    def __init__(self, masks):
        self.masks = masks

    def __eq__(self, number):
        return self.masks[number]

    __hash__ = None


def seen_from(truth, crs_to_pixel: Affine, rgb):
    """A chip as the reader takes pictures."""
    masks, instances = {}, []
    places = shapely.transform(truth.geometry.to_numpy(), lambda xy: np.column_stack(crs_to_pixel @ xy.T))
    for number, (polygon, row) in enumerate(zip(places, truth.itertuples(), strict=True)):
        mask = rasterio.features.rasterize([(polygon, 1)], (SIDE, SIDE)).astype(bool)
        if mask.any():
            masks[number] = mask
            instances.append(SimpleNamespace(id=number, name=row.label, colour=row.colour, cut=False, polygon=polygon))

    def mask(ids):
        return np.any([np.zeros((SIDE, SIDE), bool), *(masks[k] for k in ids)], axis=0)

    return HashablePicture(labels=Drawn(masks), instances=instances, rgb=rgb, mask=mask)


class HashablePicture(SimpleNamespace):
    """The reader remembers what it has looked at."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def judged_on_the_ground(colours: str, chips: int) -> tuple[EngineReport, Counter[str], float]:
    """As `judged`, of a GeoDataFrame in another CRS over lazy scenes."""
    engine = engine_of(colours)
    wrong: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    pictures, seconds = 0, 0.0
    for seed in itertools.count(FIRST):
        if pictures >= chips:
            break
        world = World(seed, anchor=(11.5, 48.1))
        grid = world.geobox("EPSG:32632", resolution=0.4, shape=(5 * SIDE, 5 * SIDE))
        truth = world.truth(grid)
        lazy, features = world.scene(grid).isel(time=0, drop=True), truth.to_crs("EPSG:4326")
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            store, report = run_engine(
                lambda done, lazy=lazy, features=features: cut_examples(
                    lazy, features, attributes=("colour",), size=SIDE, empty=True, skip=done
                ),
                folder,
                engine=engine,
            )
            seconds += time.perf_counter() - start
            pictures += report.pictures
            kept.update(report.kept)
            dropped.update(report.dropped)
            for _, some in itertools.groupby(store, key=lambda triplet: triplet.picture.name):
                chip = list(some)
                place = chip[0].picture.place.affine
                picture = seen_from(truth, ~place, np.zeros((SIDE, SIDE, 3), np.uint8))
                for triplet in chip:
                    wrong.update(fault(triplet, picture))
    entry = JournalLine(picture="all", triplets=sum(kept.values()), kept=kept, dropped=dropped, hash=0)
    report = EngineReport.of(engine.about, [entry])
    return (
        EngineReport(about=report.about, pictures=pictures, kept=report.kept, dropped=report.dropped),
        wrong,
        seconds / pictures,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--ground", action="store_true")
    parser.add_argument("--colours", nargs="+", default=["given", "measured"])
    options = parser.parse_args()
    scenes = 20 if options.quick else options.scenes
    for colours in options.colours:
        judge = judged_on_the_ground if options.ground else judged
        report, wrong, seconds = judge(colours, scenes)
        print(f"\nColours {colours}: {1000 * seconds:.0f} ms a scene of 256 x 256\n\n{report.table()}\n")
        total = sum(report.kept.values())
        print(f"Wrong: {sum(wrong.values())} of {total:,}", dict(wrong) or "")


if __name__ == "__main__":
    main()
