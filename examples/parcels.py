"""For the geopandas workflow: what is in each parcel, as columns beside the parcel's own.

    python examples/parcels.py [--real PARCELS] [--out FOLDER]

Offline the parcels are squares over a procedural place; with --real, polygons of your own over NAIP.
"""

import argparse
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

from remotesam_geo import RemoteSAM, load, search
from remotesam_geo.demo import write_catalogue

parser = argparse.ArgumentParser()
parser.add_argument("--real", type=Path, help="a file of polygons, asked of NAIP with the released weights")
parser.add_argument("--out", type=Path, default=Path("parcels-output"))
options = parser.parse_args()
options.out.mkdir(parents=True, exist_ok=True)

if options.real:
    parcels = gpd.read_file(options.real)
    items = search("planetary-computer", "naip", intersects=parcels, datetime="2021")
    scene = load(items, geometry=parcels, resolution=0.6, mosaic="latest")
    model = RemoteSAM.from_pretrained()
else:
    catalogue, _, grid = write_catalogue(options.out / "catalogue")
    scene = load(search(catalogue, "procedural"), mosaic="first")
    model = RemoteSAM.from_pretrained("tiny")
    left, bottom, right, top = grid.boundingbox.bbox
    x, y = (part.ravel() for part in np.meshgrid(np.arange(left, right, 120), np.arange(bottom, top, 120)))
    squares = shapely.box(x, y, np.minimum(x + 120, right), np.minimum(y + 120, top))
    parcels = gpd.GeoDataFrame({"owner": [f"parcel {k}" for k in range(len(x))]}, geometry=squares, crs=grid.crs)

# One map answers both questions: it is asked once, and read twice.
probabilities = model.probabilities(scene, ["building", "swimming pool"]).persist()
counts = model.count(probabilities, zones=parcels, wide=True)
labels = model.classify(probabilities, zones=parcels)

table = counts.assign(mostly=labels["label"])
print(table.drop(columns=["geometry", "time", "items"]).head(8).to_string())
table.to_file(options.out / "parcels.gpkg")
print("written:", options.out / "parcels.gpkg")
