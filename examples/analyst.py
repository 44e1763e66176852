"""For the analyst: a question about a place, a table, a picture.

    python examples/analyst.py [--real] [--out FOLDER]

Offline it asks the built-in tiny model about a procedural place; with --real, the released weights about NAIP.
"""

import argparse
from pathlib import Path

from remotesam_geo import RemoteSAM, explore, load, plot, search
from remotesam_geo.demo import write_catalogue

parser = argparse.ArgumentParser()
parser.add_argument("--real", action="store_true", help="a real catalogue and the released weights")
parser.add_argument("--out", type=Path, default=Path("analyst-output"))
options = parser.parse_args()
options.out.mkdir(parents=True, exist_ok=True)

if options.real:
    items = search("planetary-computer", "naip", bbox=(-87.92, 41.96, -87.88, 41.99), datetime="2021")
    scene = load(items, resolution=0.6, mosaic="latest")
    model, prompts = RemoteSAM.from_pretrained(), ["airplane", "storage tank"]
else:
    catalogue, _, _ = write_catalogue(options.out / "catalogue")
    scene = load(search(catalogue, "procedural"), mosaic="first")
    model, prompts = RemoteSAM.from_pretrained("tiny"), ["building", "swimming pool"]

found = model.detect(scene, prompts, min_area=10)
print(found.groupby("label").agg({"score": "mean", "area_m2": ["count", "sum"]}).round(2))

found.to_parquet(options.out / "found.parquet")
plot(found, scene).get_figure().savefig(options.out / "found.png", dpi=120)
explore(found, scene).save(options.out / "found.html")
print("written to", options.out, ": found.parquet, found.png and the map found.html")
