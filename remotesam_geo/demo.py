"""The demo: from a STAC catalogue to GeoDataFrames, offline, with the built-in tiny model.

It writes a small local catalogue of two procedural scenes whose truth is known and two real ones, and then does what
anyone would do with a larger one: search, load, ask, compare, save, draw.
"""

import shutil
import time
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pandas as pd
import pystac
import shapely
from odc.geo.geobox import GeoBox
from scipy.optimize import linear_sum_assignment

from remotesam_geo.geo.ground import pixel_size
from remotesam_geo.learning.synthetic import World
from remotesam_geo.outputs import save
from remotesam_geo.plotting import explore, plot
from remotesam_geo.remotesam import RemoteSAM
from remotesam_geo.scenes import load, open_raster, search

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["compare", "main", "match", "write_catalogue"]

CLASSES = ("airplane", "building", "storage tank", "swimming pool", "tennis court")
TAKEN = datetime(2026, 6, 1, 10, tzinfo=UTC)
SEED = 77  # a place with many of these
PLACE = (9.0, 50.0)
RESOLUTION = 0.25  # as tiny was trained
SIDE = 768
REAL = {
    "naip_2016": datetime(2016, 8, 16, tzinfo=UTC),
    "noaa_2020": datetime(2020, 3, 7, tzinfo=UTC),
}
NEXT = """
Next, the real thing: two lines change.
    items = search("planetary-computer", "naip", bbox=(-87.92, 41.96, -87.88, 41.99), datetime="2021")
    model = RemoteSAM.from_pretrained()    # the released weights, 966 MB, downloaded once
"""


def main(out: Path) -> None:
    """Run the demo.

    Args:
        out: Folder for what is written.
    """
    begun = time.perf_counter()

    catalogue, world, grid = write_catalogue(out / "catalogue")
    items = search(catalogue, "procedural")
    scene = load(items, mosaic="first")
    height, width = scene["red"].shape
    _print_demo_line(f"{len(items)} scenes in {catalogue}, loaded lazily as one of {height} x {width} pixels")

    model = RemoteSAM.from_pretrained("tiny")
    _print_demo_line(f"asking {model} for {', '.join(CLASSES)}")
    # What is smaller than a few pixels, or doubtful, is as good as never an object.
    found = model.segment(scene, list(CLASSES), min_score=0.8, min_area=40 * RESOLUTION**2, progress=False)

    truth = world.truth(grid)
    _print_demo_line(compare(found, truth).to_string())
    save(found, out / "found.parquet")
    save(found, out / "found.gpkg")
    drawn = plot(found, scene, title="Found by the built-in tiny model in two procedural scenes")
    _draw_demo_map(drawn, out / "found.png")
    page = explore(found, scene, title="Found by tiny").save(out / "found.html")
    _print_demo_line(f"{len(found)} features in {out / 'found.parquet'} and {out / 'found.gpkg'}")
    for name in REAL:
        real = load(search(catalogue, "aerial", ids=name), mosaic="first")
        _draw_demo_map(
            plot(found.iloc[:0], real, title=f"{name}: tiny was not trained for real pictures"),
            out / f"{name}.png",
        )
    _print_demo_line(f"real scenes, shown but not asked (tiny was not trained for them): {', '.join(REAL)}")
    _print_demo_line(
        f"picture: {out / 'found.png'}, map for any browser: {page}   ({time.perf_counter() - begun:.0f} s)"
    )
    _print_demo_line(
        "tiny knows this procedural world only, misses some of it and mistakes some, and does not "
        "understand sizes, positions or relations."
    )
    _print_demo_line("It stands in for the released weights offline; docs/tiny.md says what it can do.")
    _print_demo_line(NEXT)


def _draw_demo_map(axes: "Axes", path: Path) -> None:
    figure = axes.get_figure(root=True)
    if figure is not None:
        figure.savefig(path, dpi=150)


def write_catalogue(folder: Path) -> tuple[Path, World, GeoBox]:
    """Write a local STAC catalogue: two neighbouring procedural scenes with objects across their seam, two real ones.

    Args:
        folder: Where to.

    Returns:
        Its root file, the procedural world, and the grid of both its scenes together.
    """
    world = World(SEED, anchor=PLACE)
    grid = world.geobox("EPSG:32632", resolution=RESOLUTION, shape=(SIDE, 2 * SIDE))
    halves = {"west": grid[:, :SIDE], "east": grid[:, SIDE:]}
    drawn = [
        _stac_item(f"procedural-{name}", half, world.write(folder / f"{name}.tif", half), TAKEN)
        for name, half in halves.items()
    ]
    real = [_real_picture_item(name, folder, taken) for name, taken in REAL.items()]
    catalogue = pystac.Catalog(id="demo", description="Scenes of the remotesam_geo demo")
    for name, items, about in (
        ("procedural", drawn, "Two neighbouring aerial scenes of a procedural world"),
        ("aerial", real, "Two real aerial pictures, of NAIP and NOAA, in the public domain"),
    ):
        collection = pystac.Collection(
            id=name,
            description=about,
            extent=pystac.Extent.from_items(items),
            license="Apache-2.0" if name == "procedural" else "other",
        )
        collection.add_items(items)
        catalogue.add_child(collection)
    catalogue.normalize_and_save(str(folder), pystac.CatalogType.SELF_CONTAINED)
    return folder / "catalog.json", world, grid


def _real_picture_item(name: str, folder: Path, taken: datetime) -> pystac.Item:
    file = folder / f"{name}.tif"
    with as_file(files("remotesam_geo") / "data" / "demo" / file.name) as kept:
        shutil.copyfile(kept, file)
    return _stac_item(name, open_raster(file).odc.geobox, file, taken)


def _stac_item(name: str, grid: GeoBox, file: Path, taken: datetime) -> pystac.Item:
    footprint = grid.extent.to_crs("EPSG:4326").geom
    item = pystac.Item(
        id=name,
        geometry=shapely.geometry.mapping(footprint),
        bbox=list(footprint.bounds),
        datetime=taken,
        properties={
            "gsd": round(pixel_size(grid).metres, 2),
            "proj:code": str(grid.crs),
            "proj:shape": list(grid.shape.yx),
            "proj:transform": list(grid.affine[:6]),
        },
        stac_extensions=["https://stac-extensions.github.io/projection/v2.0.0/schema.json"],
    )
    item.add_asset(
        "visual",
        pystac.Asset(href=str(file.resolve()), media_type=pystac.MediaType.COG, roles=["data", "visual"]),
    )
    return item


def compare(found: gpd.GeoDataFrame, truth: gpd.GeoDataFrame) -> pd.DataFrame:
    """Count what was found against the truth, label by label.

    Args:
        found: Features with a label.
        truth: Objects with a label, in the same CRS.

    Returns:
        A row a label: how many are there, found and matched (overlap of at least a half), and the F1 score.
    """
    rows = {}
    for label in CLASSES:
        there, seen = truth[truth["label"] == label], found[found["label"] == label]
        matched = len(match(seen.geometry, there.geometry))
        score = 2 * matched / (len(there) + len(seen)) if len(there) + len(seen) else np.nan
        rows[label] = {
            "there": len(there),
            "found": len(seen),
            "matched": matched,
            "F1": f"{score:.2f}",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def match(one: gpd.GeoSeries, other: gpd.GeoSeries, *, overlap: float = 0.5) -> list[tuple[int, int]]:
    """Match shapes one to one, so that the overlap (intersection over union) of all is largest.

    Args:
        one: Some shapes.
        other: Others, in the same CRS.
        overlap: Least overlap of a match.

    Returns:
        Positions in both.

    Examples:
        >>> boxes = gpd.GeoSeries([shapely.box(0, 0, 2, 2), shapely.box(5, 0, 7, 2)])
        >>> match(boxes, boxes.translate(0.2))
        [(0, 0), (1, 1)]
    """
    near_other, near_one = one.sindex.query(other, predicate="intersects")
    shapes, others = one.to_numpy()[near_one], other.to_numpy()[near_other]
    shared = shapely.area(shapely.intersection(shapes, others))
    share = np.zeros((len(one), len(other)))
    share[near_one, near_other] = shared / (shapely.area(shapes) + shapely.area(others) - shared)
    rows, columns = linear_sum_assignment(np.where(share >= overlap, share, 0), maximize=True)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if share[row, column] >= overlap]


def _print_demo_line(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is a program
