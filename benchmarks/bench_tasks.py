"""From maps to objects: 896 x 896 with 50 to 3,000 objects, 10,000 x 10,000 with 50,000, and other libraries beside.

    python benchmarks/bench_tasks.py

The comparison takes what is installed of opencv-python-headless and connected-components-3d (``pip install`` them).
"""

import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

from remotesam_geo.tasks import components, count_objects, decode, detect

PARITY = Path(__file__).parents[1] / "tests" / "data" / "parity" / "tasks.npz"
EIGHT = np.ones((3, 3))


def picture(side: int, objects: int, seed: int = 0) -> np.ndarray:
    """A byte map of turned bars, discs and rings, each in a cell of its own, over faint noise."""
    rng = np.random.default_rng(seed)
    prob = rng.integers(0, 60, (side, side), np.uint8)
    across = math.ceil(objects**0.5)
    cell = side / across
    for index in range(objects):
        row, column = divmod(index, across)
        y0, x0 = int(row * cell), int(column * cell)
        y1, x1 = int((row + 1) * cell) - 1, int((column + 1) * cell) - 1
        y, x = np.mgrid[y0:y1, x0:x1]
        y, x = y + 0.5 - (y0 + y1) / 2, x + 0.5 - (x0 + x1) / 2
        radius = max(1.0, rng.uniform(0.25, 0.48) * cell)
        if index % 3 == 0:
            angle = rng.uniform(0, np.pi)
            c, s = np.cos(angle), np.sin(angle)
            inside = (abs(x * c + y * s) < radius * 0.9) & (abs(y * c - x * s) < radius * 0.4)
        else:
            distance = np.hypot(x, y)
            inside = distance < radius
            if index % 3 == 2:
                inside &= distance > radius * 0.5
        shape = inside.shape
        prob[y0:y1, x0:x1][inside] = rng.integers(110, 201, shape, np.uint8)[inside]
    return prob


def milliseconds(work: Callable[[], object], repeat: int = 15) -> float:
    """The median over several runs."""
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return float(np.median(times)) * 1e3


def table(header: list[str], rows: list[list[str]]) -> None:
    print("| " + " | ".join(header) + " |")
    print("| " + " | ".join("---" for _ in header) + " |")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def small_maps() -> None:
    print("### Detection, 896 x 896, milliseconds (median of 15)\n")
    rows = []
    for objects in (50, 300, 1000, 3000):
        codes = picture(896, objects)
        floats = decode(codes)
        contour = np.zeros_like(codes)
        contour[::16] = contour[:, ::16] = 180
        works = [
            lambda codes=codes: detect(codes),
            lambda floats=floats: detect(floats),
            lambda codes=codes: detect(codes, suppress="none"),
            lambda codes=codes: detect(codes, suppress="enclosed"),
            lambda codes=codes: detect(codes, oriented=True),
            lambda codes=codes, contour=contour: count_objects(codes, contour=contour),
        ]
        found = components(codes).n
        rows.append([f"{found:,}", *(f"{milliseconds(work):.1f}" for work in works)])
    table(
        [
            "objects",
            "boxes",
            "boxes, float32",
            "suppress none",
            "enclosed",
            "oriented",
            "count with contours",
        ],
        rows,
    )


def sums_and_maxima(labels: np.ndarray, mask: np.ndarray, codes: np.ndarray) -> None:
    """What none of the libraries gives, of the objects' pixels alone."""
    of, values = labels[mask], codes[mask]
    np.bincount(of, values)
    np.maximum.at(np.zeros(int(of.max()) + 1, np.uint8), of, values)


def scipy_all(mask: np.ndarray, codes: np.ndarray) -> None:
    labels, _ = ndimage.label(mask, EIGHT)
    ndimage.find_objects(labels)
    np.bincount(labels[mask])
    sums_and_maxima(labels, mask, codes)


def opencv_all(mask: np.ndarray, codes: np.ndarray) -> None:
    import cv2

    _, labels, _, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8))
    sums_and_maxima(labels, mask, codes)


def cc3d_all(mask: np.ndarray, codes: np.ndarray) -> None:
    import cc3d

    labels = cc3d.connected_components(mask, connectivity=8)
    cc3d.statistics(labels)
    sums_and_maxima(labels, mask, codes)


def opencv_labels(mask: np.ndarray) -> None:
    import cv2

    cv2.connectedComponents(mask.view(np.uint8))


def cc3d_labels(mask: np.ndarray) -> None:
    import cc3d

    cc3d.connected_components(mask, connectivity=8)


def libraries() -> None:
    with np.load(PARITY) as arrays:
        smooth = np.block([[arrays["1/prob"], arrays["2/prob"]], [arrays["3/prob"], arrays["4/prob"]]])
    maps = {
        "smooth maps, 600 x 800": np.minimum(smooth, 200),
        "896 x 896, 300 objects": picture(896, 300),
        "896 x 896, 3,000 objects": picture(896, 3000),
        "4,000 x 4,000, 10,000 objects": picture(4000, 10_000),
        "896 x 896, noise": np.random.default_rng(0).integers(0, 201, (896, 896), np.uint8),
    }
    others: dict[str, tuple[Callable[..., None], Callable[..., None]]] = {
        "scipy.ndimage": (lambda mask: ndimage.label(mask, EIGHT), scipy_all)
    }
    if importlib.util.find_spec("cv2"):
        others["OpenCV"] = opencv_labels, opencv_all
    if importlib.util.find_spec("cc3d"):
        others["cc3d"] = cc3d_labels, cc3d_all
    alone, whole = [], []
    for name, codes in maps.items():
        alone.append([name, f"{milliseconds(lambda c=codes: components(c).paint()):.1f}"])
        whole.append([name, f"{milliseconds(lambda c=codes: components(c)):.1f}"])
        for label, every in others.values():
            alone[-1].append(f"{milliseconds(lambda c=codes, f=label: f(c > 100)):.1f}")
            whole[-1].append(f"{milliseconds(lambda c=codes, f=every: f(c > 100, c)):.1f}")
    print("### Components with count, sum, maximum and box, milliseconds (median of 15)\n")
    table(["", "runs (here)", *others], whole)
    print("### The label image, milliseconds (median of 15; here with all of the above)\n")
    table(["", "runs (here)", *others], alone)


def resident(name: str) -> int:
    """Bytes of memory held now ("VmRSS") or at most since `forget` ("VmHWM")."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1]) * 1024


def forget() -> None:
    """Start the largest memory anew."""
    Path("/proc/self/clear_refs").write_text("5")


def large_map(job: str) -> None:
    """In a process of its own: time and memory of one job on a large map, as JSON."""
    codes = picture(10_000, 50_000)
    jobs: dict[str, Callable[[], object]] = {
        "components": lambda: components(codes),
        "boxes, suppress none": lambda: detect(codes, suppress="none"),
        "boxes, published": lambda: detect(codes),
        "boxes, enclosed": lambda: detect(codes, suppress="enclosed"),
        "oriented, suppress none": lambda: detect(codes, suppress="none", oriented=True),
        "components and label image": lambda: components(codes).paint(),
    }
    forget()
    before = resident("VmRSS")
    begin = time.perf_counter()
    jobs[job]()
    seconds = time.perf_counter() - begin
    extra = (resident("VmHWM") - before) / codes.size
    print(json.dumps({"jobs": list(jobs), "seconds": seconds, "extra": extra}))


def large_maps() -> None:
    print("### 10,000 x 10,000, 50,000 objects, each in a process of its own\n")
    todo, rows = ["components"], []
    while todo:
        job = todo.pop(0)
        done = subprocess.run([sys.executable, __file__, job], capture_output=True, text=True, check=True)
        result = json.loads(done.stdout)
        if job == "components":
            todo = [other for other in result["jobs"] if other != job]
        rows.append([job, f"{result['seconds']:.2f}", f"{result['extra']:.2f}"])
    table(["", "seconds", "extra memory at most, bytes a pixel"], rows)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        large_map(sys.argv[1])
    else:
        print(f"## Tasks ({platform.processor() or platform.machine()}, {os.cpu_count()} cores)\n")
        small_maps()
        libraries()
        large_maps()
