"""Make the pictures of docs/maps.md: python benchmarks/picture_maps.py

A procedural landscape with its truth, whose scores are invented: the pictures show the drawing, not a model.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import numpy as np
from PIL import Image

from remotesam_geo import contact_sheet, explore, load, plot, search
from remotesam_geo.demo import CLASSES, write_catalogue

IMAGES = Path(__file__).parent.parent / "docs" / "images"


def main():
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        catalogue, world, grid = write_catalogue(here / "catalogue")
        scene = load(search(catalogue, "procedural"), mosaic="first")
        truth = world.truth(grid)
        found = truth[truth["label"].isin(CLASSES)].reset_index(drop=True)
        found["score"] = np.random.default_rng(0).uniform(0.3, 1, len(found))
        drawn = plot(found, scene, title="A procedural landscape").figure
        drawn.savefig(here / "plot.png", dpi=110)
        contact_sheet(found, scene, each=6).savefig(here / "sheet.png", dpi=80)
        page = explore(found, scene, title="A procedural landscape").save(here / "map.html")
        screenshot(page, here / "explore.png")
        for name in ("plot", "sheet", "explore"):
            with Image.open(here / f"{name}.png") as image:
                image.convert("RGB").save(IMAGES / f"{name}.jpg", quality=80, optimize=True)


def screenshot(page, path):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        tab = chromium.new_page(viewport={"width": 960, "height": 560})
        tab.goto(page.as_uri())
        tab.wait_for_function("document.getElementById('shown').textContent !== ''")
        tab.mouse.click(640, 140)
        tab.wait_for_timeout(1000)
        tab.screenshot(path=path)
        chromium.close()


if __name__ == "__main__":
    sys.exit(main())
