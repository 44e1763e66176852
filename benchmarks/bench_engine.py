"""The data engine on the procedural world: counts by kind, share filtered, and words that fit two things.

`python benchmarks/bench_engine.py` prints the tables of docs/benchmarks.md; `--quick` is for trying it out. Every
expression is read by the tests' own reader, which knows the true masks and colours and shares no code with the rules.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from remotesam_geo.learning.engine import (
    AbsentClasses,
    Engine,
    EngineReport,
    Entry,
    KindClasses,
    SingleThings,
    world_example,
)
from remotesam_geo.learning.world import CLASSES, scene
from tests.learning.reading import read

FIRST = 5_000_000  # seeds that neither training nor the exam use


def judged(colours: str, scenes: int) -> tuple[EngineReport, Counter[str], float]:
    engine = Engine(
        expressions=(
            KindClasses(),
            AbsentClasses(classes=tuple(CLASSES)),
            SingleThings(colours=colours, most=999),
        )
    )
    wrong: Counter[str] = Counter()
    entries, seconds = [], 0.0
    for seed in range(FIRST, FIRST + scenes):
        picture = scene(seed)
        example = world_example(picture)
        start = time.perf_counter()
        made = engine.made(example)
        seconds += time.perf_counter() - start
        for triplet in made.triplets:
            if triplet.attributes.get("absent") == "foreign":
                continue  # the world has no such thing
            try:
                meant, _ = read(triplet.expression, picture)
            except ValueError:  # the reader found no landmark, or two
                wrong[f"{triplet.attributes['rule']}: landmark that is not alone"] += 1
                continue
            if triplet.kind == "one-to-one" and len(meant) != 1:
                wrong[f"{triplet.attributes['rule']}: one-to-one that fits {len(meant)}"] += 1
            elif (picture.mask(tuple(meant)) != triplet.mask.pixels()).any():
                wrong[f"{triplet.attributes['rule']}: another mask"] += 1
        kept = Counter(f"{t.kind} {t.attributes['rule']}" for t in made.triplets)
        entries.append(
            Entry(
                picture=str(seed),
                triplets=len(made.triplets),
                kept=kept,
                dropped=made.dropped,
                hash=0,
            )
        )
    return EngineReport.of(engine.about, entries), wrong, seconds / scenes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--colours", nargs="+", default=["given", "measured"])
    options = parser.parse_args()
    scenes = 20 if options.quick else options.scenes
    for colours in options.colours:
        report, wrong, seconds = judged(colours, scenes)
        print(
            f"\nColours {colours}: {1000 * seconds:.0f} ms a scene of 256 x 256\n\n{report.table()}\n"
        )
        total = sum(report.kept.values())
        print(f"Wrong: {sum(wrong.values())} of {total:,}", dict(wrong) or "")


if __name__ == "__main__":
    main()
