"""odc-stac's own driver and SceneDriver over HTTP: requests, bytes, and what they make of scripted faults.

Run from the folder of the repository: `python benchmarks/bench_odc_stac.py`. GDAL keeps the interpreter's lock while it
opens a file, so odc-stac's own driver runs in processes of its own.
"""

import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import odc.stac

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from remotesam_geo.scenes import SceneDriver  # noqa: E402
from tests.net.fault_server import FaultServer  # noqa: E402
from tests.raster import rasters  # noqa: E402
from tests.raster import test_odc_stac as cases  # noqa: E402

THEIRS = """
import json, sys, warnings
import numpy as np, odc.stac, pystac
warnings.simplefilter("ignore")
docs, arguments = json.load(sys.stdin)
try:
    scene = odc.stac.load([pystac.Item.from_dict(doc) for doc in docs], **arguments)
    np.save(sys.argv[1], scene.B04.compute(scheduler="synchronous").values)
except Exception as error:
    print(type(error).__name__)
"""


def theirs(items, arguments, path):
    """Pixels by odc-stac's own driver, or the name of its error."""
    given = json.dumps([[item.to_dict() for item in items], arguments]).encode()
    run = [sys.executable, "-c", THEIRS, str(path)]
    try:
        told = subprocess.run(run, input=given, capture_output=True, timeout=60, check=True).stdout
    except subprocess.TimeoutExpired:
        return "no end within 60 s"
    return told.decode().strip() or np.load(path)


def count_requests(server, path):
    """A row for each kind of load: requests and bytes of both."""
    pixels = cases.holed("uint16", 0, side=1500)
    data = rasters.tiff(
        pixels, nodata=0, overviews=(2, 4), tiled=True, blockxsize=256, blockysize=256, compress="deflate"
    )  # fmt: skip
    for name, arguments in cases.HEALTHY.items():
        row = [name]
        for own in (True, False):
            place = f"/{name}-{own}.tif"
            server.files[place] = data
            item = cases.item("a", server.url + place, rasters.grid_of(data), cases.described("uint16", 0))
            server.forget()
            if own:
                theirs([item], arguments, path)
            else:
                scene = odc.stac.load([item], driver=cases.OURS, **arguments)
                scene.compute(scheduler="synchronous")
            row += [f"{server.requests:,}", f"{server.bytes_sent:,}"]
        print("| " + " | ".join(row) + " |", flush=True)


def try_faults(server, path):
    """A row for each fault: what each makes of two files, the first of which is served badly."""
    items = []
    for number in (0, 1):
        data = cases.cog(cases.holed("uint16", 0, seed=number), nodata=0)
        server.files[f"/{number}.tif"] = data
        grid, band = rasters.grid_of(data), cases.described("uint16", 0)
        items.append(cases.item(f"i{number}", f"{server.url}/{number}.tif", grid, band))
    wanted = odc.stac.load(items, driver=cases.OURS).B04.values
    for number, (fault, script) in enumerate(cases.FAULTS.items()):
        row = [fault]
        for how in ("raise", "skip", "ours"):
            place = f"/{number}-{how}.tif"
            server.files[place] = server.files["/0.tif"]
            server.script(place, *([script] if callable(script) else script))
            given = [cases.replace_href(items[0], server.url + place), items[1]]
            began = time.monotonic()
            if how == "ours":
                policy = rasters.HASTY_POLICY if fault == "silence" else rasters.POLICY
                try:
                    found = odc.stac.load(given, driver=SceneDriver(policy=policy)).B04.values
                except cases.SourceError as error:
                    found = type(error).__name__
            else:
                found = theirs(given, {"fail_on_error": how == "raise"}, path)
            if not isinstance(found, str):
                wrong = np.mean(found != wanted)
                found = f"{wrong:.0%} of pixels wrong" if wrong else "right pixels"
            row.append(found if how != "ours" else f"{found}, {time.monotonic() - began:.2f} s")
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder, FaultServer() as running:
        count_requests(running, Path(folder) / "theirs.npy")
        try_faults(running, Path(folder) / "theirs.npy")
