"""The procedural world: how fast pictures are made, and how hard they are.

    python benchmarks/bench_world.py

Time is that of one thread on the processor, OpenCV held to one, nothing kept from scene to scene: the median of
the scenes' least times, so that a busy machine shows what an idle one would.
"""

import collections
import functools
import platform
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.optimize import minimize

from remotesam_geo.learning.synthetic import CLASSES, World, WorldScene, expressions, scene
from remotesam_geo.learning.synthetic.layout import lay_out, leaves_of
from remotesam_geo.learning.synthetic.view import tile

ROUNDS = 5
FIRST = 5_000_000


def forget() -> None:
    lay_out.cache_clear()
    leaves_of.cache_clear()
    tile.cache_clear()


def least(run: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        forget()
        begin = time.thread_time()
        run()
        times.append(time.thread_time() - begin)
    return min(times)


def speed() -> None:
    scene(0)
    made = {}
    for size in (256, 512):
        runs = [functools.partial(scene, FIRST + k, size) for k in range(40)]
        made[size] = statistics.median(map(least, runs))
    pictures = [scene(FIRST + k) for k in range(40)]
    asked = statistics.median(least(functools.partial(expressions, p)) for p in pictures)
    world = World(1)
    print("\n| what | milliseconds | a second |\n| --- | --- | --- |")
    for size, taken in made.items():
        print(f"| a scene of {size} px with its truth | {taken * 1e3:.1f} | {1 / taken:.0f} |")
    print(f"| all expressions over a scene | {asked * 1e3:.1f} | {1 / asked:.0f} |")
    for crs in ("EPSG:32632", "EPSG:4326"):
        window = world.geobox(crs, resolution=0.4, shape=(1024, 1024))
        for name, run in (
            ("pixels", world.render),
            ("labels", world.labels),
            ("truth", world.truth),
        ):
            taken = least(functools.partial(run, window))
            print(f"| {name} of 1,024 x 1,024 px in {crs} | {taken * 1e3:.0f} | {1 / taken:.1f} |")


def features(picture: WorldScene) -> NDArray[np.float64]:
    x = picture.rgb.astype(np.float32) / 255
    mean = cv2.blur(x, (7, 7))
    spread = np.sqrt(np.maximum(cv2.blur(x * x, (7, 7)) - mean * mean, 0))
    return np.concatenate([x, mean, spread], -1).reshape(-1, 9).astype(np.float64)


def classes(picture: WorldScene) -> NDArray[np.int64]:
    names = list(CLASSES)
    codes = np.array([0] + [1 + names.index(one.name) for one in picture.instances])
    return codes[picture.labels].ravel()


def pixel_classifier(balance: float) -> float:
    """Mean IoU of class prompts of a logistic regression; classes weighted by frequency ** -balance."""
    dice = np.random.default_rng(0)
    drawn = []
    for k in range(200):
        picture = scene(FIRST + 1000 + k)
        chosen = dice.choice(picture.labels.size, 1000, replace=False)
        drawn.append((features(picture)[chosen], classes(picture)[chosen]))
    x, y = np.concatenate([f for f, _ in drawn]), np.concatenate([t for _, t in drawn])
    centre, scale = x.mean(0), x.std(0)

    def rows(f: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack([(f - centre) / scale, np.ones(len(f))])

    x, hot = rows(x), np.eye(11)[y]
    weight = (np.bincount(y, minlength=11) / len(y)) ** -balance
    weight = weight[y] / weight[y].sum()

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = x @ flat.reshape(10, 11)
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        value = -(weight * np.log(p[np.arange(len(y)), y] + 1e-12)).sum()
        return float(value), (x.T @ ((p - hot) * weight[:, None])).ravel()

    fitted = minimize(loss, np.zeros(110), jac=True, method="L-BFGS-B", options={"maxiter": 100}).x
    found = []
    for k in range(100):
        picture = scene(FIRST + k)
        answer = (rows(features(picture)) @ fitted.reshape(10, 11)).argmax(1)
        truth = classes(picture)
        for c in set(truth.tolist()) - {0}:
            a, t = answer == c, truth == c
            found.append((a & t).sum() / (a | t).sum())
    return float(np.mean(found))


def exam() -> None:
    pictures = [scene(FIRST + k) for k in range(300)]
    objects = [one for picture in pictures for one in picture.instances]
    asked = [[e.kind for e in expressions(p, k)] for k, p in enumerate(pictures)]
    kinds = collections.Counter(kind for some in asked for kind in some)
    offered = collections.Counter(kind for some in asked for kind in set(some))
    share = np.mean([p.mask(n).mean() for p in pictures for n in CLASSES if p.of(n)])
    print("\n| of 300 scenes | |\n| --- | --- |")
    print(f"| objects a scene | {len(objects) / 300:.1f} |")
    print(f"| objects under 24 px across | {np.mean([o.across < 24 for o in objects]):.2f} |")
    print(f"| objects cut by the border | {np.mean([o.cut for o in objects]):.2f} |")
    for kind in sorted(kinds):
        each, where = kinds[kind] / 300, offered[kind] / 300
        print(f"| {kind}: expressions a scene; scenes that offer one | {each:.1f}; {where:.2f} |")
    print(f"| class prompts answered by the whole picture, mIoU | {share:.3f} |")
    for power in (0.0, 0.5, 1.0):
        name = f"logistic regression a pixel, classes weighted by frequency^-{power:g}"
        print(f"| {name}, mIoU | {pixel_classifier(power):.3f} |")
    print("\n| class | scenes with it | with two | objects | pixels | objects a component |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in CLASSES:
        some = [p.of(name) for p in pictures]
        pixels = [o.pixels for one in some for o in one]
        parts = sum(_components(p.mask(name)) for p in pictures)
        there, more = np.mean([len(s) > 0 for s in some]), np.mean([len(s) > 1 for s in some])
        print(f"| {name} | {there:.2f} | {more:.2f} | {len(pixels)} ", end="")
        print(f"| {np.median(pixels):.0f} | {len(pixels) / parts:.2f} |")


def _components(mask: NDArray[np.bool_]) -> int:
    return int(cv2.connectedComponents(mask.astype(np.uint8))[0]) - 1


def main() -> None:
    cv2.setNumThreads(1)
    print(f"{platform.machine()}, NumPy {np.__version__}, SciPy {scipy.__version__}, OpenCV {cv2.__version__}")
    speed()
    exam()


if __name__ == "__main__":
    main()
