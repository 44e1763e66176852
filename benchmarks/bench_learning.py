"""Masks, metrics and storage of data sets, beside pycocotools where it does the same.

`python benchmarks/bench_learning.py` prints the table of docs/benchmarks.md; `--quick` is for trying it out.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pycocotools import mask as coco
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from remotesam_geo.learning.datasets import (
    Mask,
    Picture,
    Triplet,
    TripletStore,
    read_published,
    write_published,
    write_store,
)
from remotesam_geo.learning.evaluation.metrics import DetectionScore

SIDE = 896
Row = tuple[str, float, float | None]


def seconds(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def stars(count: int) -> list[list[float]]:
    """Outlines of things, as annotators draw them."""
    generator = np.random.default_rng(0)
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    found = []
    for _ in range(count):
        reach = generator.uniform(15, 60, 24)
        x, y = generator.uniform(60, SIDE - 60, 2)
        found.append(np.stack([x + reach * np.cos(turn), y + reach * np.sin(turn)], 1).ravel())
    return [polygon.tolist() for polygon in found]


def masks(rounds: int) -> list[Row]:
    shape = (SIDE, SIDE)
    polygons = stars(50)
    ours = [Mask.of_polygons([polygon], shape) for polygon in polygons]
    arrays = [mask.pixels() for mask in ours]
    fortran = [np.asfortranarray(array.astype(np.uint8)) for array in arrays]
    theirs = [coco.encode(array) for array in fortran]
    return [
        ("polygon to run lengths, ms", *(1000 / 50 * s for s in (
            seconds(lambda: [Mask.of_polygons([p], shape) for p in polygons], rounds),
            seconds(lambda: [coco.merge(coco.frPyObjects([p], *shape)) for p in polygons], rounds),
        ))),
        ("array to run lengths, ms", *(1000 / 50 * s for s in (
            seconds(lambda: [Mask.of(array) for array in arrays], rounds),
            seconds(lambda: [coco.encode(array) for array in fortran], rounds),
        ))),
        ("run lengths to array, ms", *(1000 / 50 * s for s in (
            seconds(lambda: [Mask.of_coco(m.to_coco(), shape).pixels() for m in ours], rounds),
            seconds(lambda: coco.decode(theirs), rounds),
        ))),
    ]  # fmt: skip


def boxes(generator: np.random.Generator, n: int) -> np.ndarray:
    low = generator.uniform(0, 800, (n, 2))
    return np.concatenate([low, low + generator.uniform(5, 90, (n, 2))], axis=1)


def precision(pictures: int) -> list[Row]:
    """AP of 20 classes; in each picture 3 of them, 20 boxes found and 8 true."""
    generator = np.random.default_rng(1)
    data = [
        (f"{k:06}", int(label), boxes(generator, 20), generator.random(20), boxes(generator, 8))
        for k in range(pictures)
        for label in generator.choice(20, 3, replace=False)
    ]

    def ours() -> None:
        score = DetectionScore()
        for name, label, found, chance, true in data:
            score.add(name, str(label), found, chance, true)
        score.scores()

    def wide(box: np.ndarray) -> list[float]:
        x0, y0, x1, y1 = box.tolist()
        return [x0, y0, x1 - x0, y1 - y0]

    def theirs() -> None:
        truth, results = COCO(), []
        annotations = []
        for name, label, found, chance, true in data:
            for box in true:
                annotations.append({"id": len(annotations) + 1, "image_id": int(name), "category_id": label,
                                    "bbox": wide(box), "area": 1.0, "iscrowd": 0})  # fmt: skip
            for box, value in zip(found, chance, strict=True):
                results.append({"image_id": int(name), "category_id": label, "bbox": wide(box),
                                "score": float(value)})  # fmt: skip
        truth.dataset = {
            "images": [{"id": k} for k in range(pictures)], "annotations": annotations, "info": {},
            "categories": [{"id": k} for k in range(20)],
        }  # fmt: skip
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()

    with contextlib.redirect_stdout(io.StringIO()):
        return [(f"average precision, {pictures} pictures, s", seconds(ours, 1), seconds(theirs, 1))]


def storage(count: int) -> list[Row]:
    generator = np.random.default_rng(2)
    outlines = stars(100)
    made = [Mask.of_polygons([polygon], (SIDE, SIDE)) for polygon in outlines]
    picture = Picture.of("a", generator.integers(0, 256, (SIDE, SIDE, 3), np.uint8))
    triplets = [
        Triplet(picture=picture, expression=f"the thing number {k}", mask=made[k % 100], kind="one-to-one",
                label="thing", split="train", id=str(k))
        for k in range(count)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        store, layout = Path(folder) / "store", Path(folder) / "published"
        wrote = seconds(lambda: write_store(triplets, store), 1)
        read = seconds(lambda: sum(1 for _ in TripletStore(store)), 1)
        picked = TripletStore(store)
        places = generator.integers(0, count, 200).tolist()
        alone = seconds(lambda: [picked[k] for k in places], 1)
        write_published(triplets[: count // 10], layout)
        published = seconds(lambda: sum(1 for _ in read_published(layout)), 1)
    return [
        ("store: written, triplets a second", count / wrote, None),
        ("store: read in order, triplets a second", count / read, None),
        ("store: read at random, triplets a second", 200 / alone, None),
        ("published layout: read, triplets a second", count // 10 / published, None),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools on the newest NumPy
    rows = [
        *masks(3 if quick else 9),
        *precision(100 if quick else 400),
        *storage(2_000 if quick else 10_000),
    ]
    print("| | here | pycocotools |\n| --- | --- | --- |")
    for name, here, there in rows:
        print(f"| {name} | {here:,.2f} | {'' if there is None else f'{there:,.2f}'} |")


if __name__ == "__main__":
    main()
