"""What a faultless model would find in the procedural world, and what truly changed there."""

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.features import shapes

from remotesam_geo.learning.synthetic import World

EVENTS = ("appeared", "disappeared", "changed")
CLEAR = 0.9


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Objects as found at each time, and the truth, by object, number of the time and state.

    Attributes:
        found: A row per connected piece of an object that is seen, with the number of the object in `truth`.
        scene: The scene that it was found in.
        required: Changes that can be told: since the last time at which the place could be seen, in full.
        possible: Changes since any earlier time.
        share: How much of an object's place could be seen of what lies in the scene, by object and time.
    """

    found: gpd.GeoDataFrame
    scene: xr.Dataset
    required: set[tuple[int, int, str]]
    possible: set[tuple[int, int, str]]
    share: dict[tuple[int, int], float]


def look(seed, acquisitions, *, shape=(300, 400), resolution=0.5, change=0.3, crs="EPSG:32632"):
    """Find all that a faultless model would, at each time of the procedural world."""
    world = World(seed, acquisitions=acquisitions, change=change)
    box = world.geobox(crs, resolution=resolution, shape=shape)
    scene = world.scene(box, mask_clouds=True)
    valid = scene["valid"].to_numpy()
    places = pd.concat([world.truth(box, time=time).geometry for time in range(len(acquisitions))])
    places = places[~places.index.duplicated()]
    seen = [
        {number: visibility(place, box, valid[time], acquisition.shift) for number, place in places.items()}
        for time, acquisition in enumerate(acquisitions)
    ]
    required, possible = set(), set()
    for now in range(1, len(acquisitions)):
        told = set()
        for then in reversed(range(now)):
            changes = world.changes(box, before=then, after=now)
            state = changes["state"].where(changes["what"] != "colour", "persisted")
            events = {(number, now, name) for number, name in state.items() if name in EVENTS}
            possible |= events
            clear = {number for number in places.index if min(seen[then][number][1], seen[now][number][1]) >= CLEAR}
            required |= {event for event in events if event[0] in clear - told}
            told |= clear
    every = pd.concat([found(world, box, valid, time) for time in range(len(acquisitions))], ignore_index=True)
    known = set(every["truth"])  # others lie under larger ones
    required = {event for event in required if event[0] in known}
    return Seen(
        found=every,
        scene=scene,
        required=required,
        possible=possible,
        share={(number, time): share[0] for time, shares in enumerate(seen) for number, share in shares.items()},
    )


def found(world, box, valid, time):
    """Connected pieces of objects in one picture, where it is valid."""
    acquisition = world.acquisitions[time]
    east, north = acquisition.shift
    there = GeoBox(box.shape, Affine.translation(-east, -north) * box.affine, box.crs)
    numbers, place = np.unique(world.labels(there, time=time), return_inverse=True)
    place = np.where(valid[time], place.reshape(box.shape.yx), 0).astype(np.int32)
    pieces = list(shapes(place, mask=place > 0, connectivity=4, transform=box.affine))
    truth = [int(numbers[int(value)]) for _, value in pieces]
    return gpd.GeoDataFrame(
        {
            "label": world.truth(there, time=time)["label"].loc[truth].to_numpy(),
            "time": np.datetime64(acquisition.time, "ns"),
            "resolution": abs(box.resolution.x),
            "truth": truth,
        },
        geometry=[shapely.geometry.shape(outline) for outline, _ in pieces],
        crs=str(box.crs),
    )


def visibility(place, box, valid, shift):
    """How much of a place is valid in a picture: of what lies in it, and of all."""
    a, _, c, _, e, f = (~box.affine)[:6]
    pixels = shapely.transform(place, lambda xy: (xy + shift) * [a, e] + [c, f])
    left, top, right, bottom = np.round(pixels.bounds).astype(int)
    rows, cols = np.mgrid[top : bottom + 1, left : right + 1]
    inside = shapely.contains_xy(pixels, cols + 0.5, rows + 0.5)
    rows, cols = rows[inside], cols[inside]
    height, width = valid.shape
    on = (rows >= 0) & (cols >= 0) & (rows < height) & (cols < width)
    seen = int(valid[rows[on], cols[on]].sum())
    return seen / max(1, int(on.sum())), seen / max(1, len(rows))


def events(result):
    """What was said to have changed: object, number of the time and state."""
    step = result["time"].rank(method="dense").astype(int) - 1
    rows = zip(result["truth"], step, result["state"], strict=True)
    return {row for row in rows if row[2] in (*EVENTS, "split", "merged")}
