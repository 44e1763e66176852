"""What seams cost: objects on core borders, against the same objects with the grid shifted by half a core.

    python benchmarks/bench_seams.py [--model tiny] [--places 3] [--side 1100] [--rasters FILE ...]

Procedural landscapes whose truth is known are mapped twice: once as they are, once cut by half a core at the top and
the left, so that what lay on a border of cores lies in the middle of one. Both are judged on the same ground: true
objects that lie on the first grid's borders, and features found that touch them or the borders. F1 at an overlap of
0.5; IoU of the masks of all features there. The cost is windows asked over those asked without overlap.

Rasters of real places have no truth here: what is found on the first grid's borders is compared with what the second
grid finds there, and, since a window's content changes answers too, what both find away from all borders.
"""

import argparse
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from tqdm import tqdm

from remotesam_geo import RemoteSAM, open_raster
from remotesam_geo.demo import match
from remotesam_geo.learning.synthetic import World
from remotesam_geo.mapping.grid import Grid

CLASSES = ("building", "sports field", "storage tank", "swimming pool", "tennis court")
OVERLAPS = (0, 1 / 8, 1 / 4, 1 / 2)
RESOLUTION = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--places", type=int, default=3)
    parser.add_argument("--side", type=int, default=1100)
    parser.add_argument("--rasters", nargs="+", help="real places, in place of procedural ones")
    options = parser.parse_args()
    model = RemoteSAM.from_pretrained(options.model)
    if options.rasters:
        agreement(model, options.rasters)
        return
    rows = []
    runs = [(o, s, p) for o in OVERLAPS for s in ("paste", "blend") for p in range(options.places)]
    for overlap, seam, place in tqdm(runs, disable=None):
        if overlap or seam == "paste":  # without overlap there is nothing to blend
            rows.append(measured(model, overlap, seam, place, options.side))
    table = pd.DataFrame(rows).groupby(["overlap", "seam"]).sum(numeric_only=True)
    windows = table["windows"] / table.loc[(0, "paste"), "windows"]
    print("| overlap | seam | objects | F1 on borders | F1 inside | difference | IoU on borders | IoU inside | cost |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for (overlap, seam), row in table.iterrows():
        on, inside = f1(row, "on"), f1(row, "inside")
        print(
            f"| {overlap:.3g} | {seam} | {row['true']:.0f} | {on:.3f} | {inside:.3f} | {on - inside:+.3f} "
            f"| {row['common on'] / row['all on']:.3f} | {row['common inside'] / row['all inside']:.3f} "
            f"| {windows[overlap, seam]:.2f} |"
        )


def measured(model: RemoteSAM, overlap: float, seam: str, place: int, side: int) -> dict[str, object]:
    """One place, seen with its objects on borders and away from them."""
    world = World(40 + place)
    geobox = world.geobox("EPSG:32632", resolution=RESOLUTION, shape=(side, side))
    size = model.model.image_size
    grid = Grid(shape=(side, side), window=size, overlap=2 * round(overlap * size / 2))
    half = (size - grid.overlap) // 2
    edges = borders(grid)
    found = {
        "on": asked(model, world, geobox, overlap, seam),
        "inside": asked(model, world, geobox[half:, half:], overlap, seam),
    }
    seen = shapely.box(half, half, side, side)  # by both
    lines = to_ground(shapely.intersection(edges, seen.buffer(-2)), geobox)
    shared = to_ground(seen, geobox)
    truth = world.truth(geobox)
    truth = truth[truth.label.isin(CLASSES) & truth.intersects(lines) & truth.within(shared)]
    row = {"overlap": overlap, "seam": seam, "windows": len(grid), "true": len(truth)}
    for name, features in found.items():
        matched, count, common, every = judged(features, truth, lines)
        row |= {f"matched {name}": matched, f"found {name}": count}
        row |= {f"common {name}": common, f"all {name}": every}
    return row


def agreement(model: RemoteSAM, rasters: list[str]) -> None:
    """How far two grids agree on real places, on borders and away from them."""
    print("| overlap | seam | found on borders | F1 on borders | F1 away | IoU on borders | IoU away |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for overlap in OVERLAPS:
        for seam in ("paste", "blend") if overlap else ("paste",):
            sums = sum(
                (agreed(model, open_raster(raster), overlap, seam) for raster in rasters),
                np.zeros(8),
            )
            matched, count, common, every = sums.reshape(4, 2)
            f1, iou = 2 * matched / count, common / every
            print(
                f"| {overlap:.3g} | {seam} | {count[0]:.0f} | {f1[0]:.3f} | {f1[1]:.3f} | {iou[0]:.3f} | {iou[1]:.3f} |"
            )


def agreed(model: RemoteSAM, scene, overlap: float, seam: str) -> np.ndarray:
    """Matches, features of both grids, areas of intersection and union; each on borders and away from them."""
    height, width = scene.odc.geobox.shape
    size = model.model.image_size
    plan = Grid(shape=(height, width), window=size, overlap=2 * round(overlap * size / 2))
    half = (size - plan.overlap) // 2
    other = scene.isel({dim: slice(half, None) for dim in scene.odc.spatial_dims})
    shifted = replace(plan, shape=(height - half, width - half))
    lines = to_ground(borders(plan), scene.odc.geobox)
    both = lines.union(to_ground(borders(shifted), other.odc.geobox))
    seen = other.odc.geobox.extent.geom.buffer(-2 * abs(scene.odc.geobox.affine.a))
    one, two = (segmented(model, each, overlap, seam) for each in (scene, other))
    out = np.zeros((4, 2))
    for label in CLASSES:
        here, there = (each[each.label == label].geometry for each in (one, two))
        here, there = (each[each.within(seen)] for each in (here, there))
        for place, chosen in enumerate((lambda part: part.intersects(lines), lambda part: ~part.intersects(both))):
            ours, theirs = here[chosen(here)], there[chosen(there)]
            if place == 0:  # the second grid's are those that the first's on borders are to be
                ours = here[here.intersects(lines) | here.intersects(theirs.union_all())]
                theirs = there[there.intersects(lines) | there.intersects(ours.union_all())]
            pairs = len(match(ours, theirs)) if len(ours) and len(theirs) else 0
            a, b = ours.union_all(), theirs.union_all()
            out[:, place] += (
                pairs, len(ours) + len(theirs), a.intersection(b).area, a.union(b).area,
            )  # fmt: skip
    return out.ravel()


def asked(model: RemoteSAM, world: World, geobox, overlap: float, seam: str) -> gpd.GeoDataFrame:
    return segmented(model, world.scene(geobox), overlap, seam)


def segmented(model: RemoteSAM, scene, overlap: float, seam: str) -> gpd.GeoDataFrame:
    return model.segment(
        scene, list(CLASSES), overlap=overlap, seam=seam, min_score=0.6,
        min_area=20 * RESOLUTION**2, progress=False,
    )  # fmt: skip


def borders(grid: Grid) -> shapely.Geometry:
    """Where cores meet, in pixels."""
    height, width = grid.shape
    cores = [grid.window_at(index).core for index in range(len(grid))]
    rows, cols = {core.top for core in cores} - {0}, {core.left for core in cores} - {0}
    lines = [[(0, row), (width, row)] for row in rows] + [[(col, 0), (col, height)] for col in cols]
    return shapely.multilinestrings([shapely.linestrings(line) for line in lines])


def to_ground(shape: shapely.Geometry, geobox) -> shapely.Geometry:
    a, b, c, d, e, f = geobox.affine[:6]
    return shapely.transform(
        shape, lambda p: np.stack([a * p[:, 0] + b * p[:, 1] + c, d * p[:, 0] + e * p[:, 1] + f], 1)
    )


def judged(found: gpd.GeoDataFrame, truth: gpd.GeoDataFrame, lines) -> tuple[int, int, float, float]:
    """Matches, features to be judged, and areas of intersection and union with the truth."""
    matched, count, common, every = 0, 0, 0.0, 0.0
    for label in CLASSES:
        true = truth[truth.label == label].geometry
        near = found[found.label == label].geometry
        near = near[near.intersects(lines) | near.intersects(true.union_all())]
        matched += len(match(near, true)) if len(near) and len(true) else 0
        count += len(near)
        one, other = near.union_all(), true.union_all()
        common += one.intersection(other).area
        every += one.union(other).area
    return matched, count, common, every


def f1(row: pd.Series, name: str) -> float:
    return 2 * row[f"matched {name}"] / max(1, row["true"] + row[f"found {name}"])


if __name__ == "__main__":
    main()
