"""Campaigns against the arguments of the public functions other than the verbs (see tests/remotesam/test_options.py).

Each case calls a function with right arguments, of which one or two are replaced by odd values. It must end in a result
or in an error of this package.
"""

import inspect
from types import FunctionType

import geopandas as gpd
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr

import remotesam_geo
from remotesam_geo import tasks
from remotesam_geo.scenes import load
from tests.campaign import CASES
from tests.remotesam.test_options import HELD, MODEL, ODD, SCENE
from tests.scenes.places import grid, item, noise, write

FOUND = MODEL.detect(SCENE, "red", progress=False)
PLAIN = FOUND[["label", "score", "geometry"]]
TABLES = [
    FOUND.drop(columns="label"),
    FOUND.assign(label=7),
    FOUND.assign(label=None),
    FOUND.assign(label=[["red"]]),
    FOUND.assign(score="high"),
    FOUND.assign(score=np.nan),
    FOUND.assign(score=[{"a": 1}]),
    FOUND.assign(time=["now"]),
    FOUND.assign(time=[2021]),
    FOUND.assign(time=[pd.NaT]),
    FOUND.assign(geometry=[None]).set_crs(FOUND.crs),
    FOUND.assign(geometry=[shapely.Point()]).set_crs(FOUND.crs),
    FOUND.assign(geometry=[shapely.box(np.nan, 0, 1, 1)]).set_crs(FOUND.crs),
    FOUND.assign(geometry=[shapely.box(1e300, 0, 1e301, 1)]).set_crs(FOUND.crs),
    FOUND.assign(geometry=FOUND.centroid),
    FOUND.assign(geometry=FOUND.boundary),
    FOUND.to_crs(4326),
    FOUND.set_crs(None, allow_override=True),
    FOUND.iloc[:0],
    gpd.GeoDataFrame(pd.concat([FOUND, FOUND])),
    FOUND.iloc[:, [FOUND.columns.get_loc(name) for name in ("geometry", "label", "label", "score")]],
    pd.DataFrame(FOUND.drop(columns="geometry")),
    gpd.GeoDataFrame({"label": ["a"], "score": [0.5]}),
    FOUND.geometry,
    FOUND.rename(columns={"label": 5}),
]  # fmt: skip
ARRAYS = [
    np.zeros((0, 0), np.float32),
    np.zeros((2, 3, 4), np.float32),
    np.zeros((5, 6)),
    np.full((5, 6), 2, np.float32),
    np.full((5, 6), np.nan, np.float32),
    np.full((5, 6), 230, np.uint8),
    np.full((5, 6), 255, np.uint8),
    np.zeros((5, 6), np.int64),
    np.full((5, 6), -1),
    np.zeros((1, 1), np.uint8),
    np.zeros(0, np.int64),
    np.array([-5, 3]),
    np.array([0.5, np.nan]),
    np.array(["a", "b"]),
    np.array([None, 5], object),
    np.array(5),
    np.zeros((2, 4, 2)),
    np.full((2, 4, 2), np.nan),
    np.full((2, 4, 2), 2**62),
    np.ma.masked_array(np.zeros((5, 6), np.float32), True),
    xr.DataArray(np.zeros((5, 6), np.float32), dims=("y", "x")),
    np.ones((5, 6), np.bool_),
    np.zeros((5, 6), np.complex64),
]
OTHERS = [
    (0, 9), (-1, -1), (2, 2), (3, 4, 5), [[0, 1]] * 3, [(np.nan, 1)] * 3, (14.9, 45.0, 15.1, 45.2), (5, 5, 5, 5),
    (0, 91, 1, 92), {"y": 8}, {"y": 0}, {"z": 3}, {"SCL": [3]}, {"red": 1}, {"red": 99}, {"red": None}, "percentiles",
    "clouds", "latest", "median", "solar_day", "EPSG:9999999", "utm", "2021", "2021-13", "../..", "2021/2020", "a.tif",
    "a.parquet", "a.gpkg", "a.geojson", "a.fgb", "a.zarr", "a.csv", ".parquet", "no/such/folder/a.gpkg", "a\0b.tif",
    "n" * 300 + ".tif", {"type": "Polygon", "coordinates": []}, {"type": "Feature", "geometry": None},
    {"a": np.zeros((2, 2))}, {"a": "b"}, {"2021": shapely.box(0, 0, 1, 1)}, {"2021": 5}, pd.Timestamp("2021"), [None],
    ["eo:cloud_cover<20"], {"eo:cloud_cover": {"lt": "many"}}, {"op": "=", "args": []}, ["-datetime"],
    np.array([5.0]), Exception("odd"), type("Odd", (), {"__len__": lambda _: 3})(), iter([1, 2]), frozenset({"red"}),
]  # fmt: skip


def run(campaign, doors, odd, dice, prepare=None):
    """Run the cases of one campaign over several functions.

    Args:
        campaign: Counts the cases.
        doors: The functions, each with right values of its arguments.
        odd: The values that replace one or two of them.
        dice: Draws.
        prepare: Called before each case.
    """
    for _ in range(CASES):
        door, right = doors[dice.integers(len(doors))]
        names = list(inspect.signature(door).parameters)
        given = dict(right)
        for name in dice.choice(names, min(len(names), 1 + (dice.random() < 0.2)), replace=False):
            given[str(name)] = odd[dice.integers(len(odd))]
        if prepare is not None:
            prepare()
        try:
            campaign.case(lambda door=door, given=given: door(**given))
        except AssertionError as error:
            shown = {
                name: f"{type(v).__name__} {v!r:.60}"
                for name, v in given.items()
                if name not in right or right[name] is not v
            }
            raise AssertionError(f"{door.__name__}({shown}): {error}") from error


@pytest.mark.filterwarnings("ignore")
def test_drawing_with_odd_arguments(campaign):
    right = {"features": FOUND, "scene": SCENE}
    doors = [(door, right) for door in (remotesam_geo.plot, remotesam_geo.contact_sheet, remotesam_geo.explore)]
    odd = ODD + TABLES + OTHERS
    tried = campaign("Arguments", "odd values for arguments of plot, contact_sheet and explore")
    run(tried, doors, odd, np.random.default_rng(1), lambda: plt.close("all"))
    plt.close("all")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory, with files and catalogues to read, and nothing outside it that a case could write to."""
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    return inside


@pytest.mark.filterwarnings("ignore")
def test_reading_with_odd_arguments(campaign, folder):
    path = write(folder / "a.tif", noise(1, (4, 64, 64)), grid(5e5, 5e6, 10), "EPSG:32631")
    items = [item("a", path)]
    catalogue = remotesam_geo.save_items(items, folder / "items.json")
    (folder / "damaged.json").write_text("[1, 2")
    doors = [
        (remotesam_geo.open_raster, {"path": path}),
        (load, {"items": items}),
        (remotesam_geo.render, {"scene": SCENE}),
        (remotesam_geo.search, {"catalog": str(catalogue), "collections": "places"}),
        (remotesam_geo.save_items, {"items": items, "path": "b.json"}),
    ]
    odd = ODD + OTHERS + TABLES[:3] + ["damaged.json", "items.json", folder, items, [items], {"id": "a"}, [{"id": "a"}]]
    tried = campaign("Arguments", "odd values for arguments of open_raster, load, render, search and save_items")
    run(tried, doors, odd, np.random.default_rng(2))


@pytest.mark.filterwarnings("ignore")
def test_writing_with_odd_arguments(campaign, folder):
    table, raster = remotesam_geo.save(FOUND, "found.parquet"), remotesam_geo.save(HELD, "held.tif")
    doors = [
        (remotesam_geo.save, {"result": FOUND, "path": "new.gpkg"}),
        (remotesam_geo.save, {"result": HELD, "path": "new.tif"}),
        (remotesam_geo.save, {"result": PLAIN, "path": "new.parquet"}),
        (remotesam_geo.open_probabilities, {"path": raster}),
        (remotesam_geo.read_provenance, {"path": table}),
        (remotesam_geo.result_item, {"paths": [table, raster]}),
        (remotesam_geo.model_item, {"model": MODEL, "href": "https://example.com/weights"}),
    ]
    odd = ODD + OTHERS + TABLES + [table, raster, [table], folder, HELD.isel(x=slice(0, 0)), HELD.astype(str), HELD.T]
    tried = campaign(
        "Arguments",
        "odd values for arguments of save, open_probabilities and the makers of STAC items",
    )
    run(tried, doors, odd, np.random.default_rng(3))


@pytest.mark.filterwarnings("ignore")
def test_matching_with_odd_arguments(campaign):
    dates = pd.concat([FOUND.assign(time=np.datetime64(f"202{year}-06-01")) for year in range(2)])
    several = gpd.GeoDataFrame(dates, crs=FOUND.crs)
    doors = [(remotesam_geo.match_over_time, {"gdf": several})]
    odd = ODD + OTHERS + TABLES + [several, [several], several.assign(time="soon"), several.drop(columns="id")]
    tried = campaign("Arguments", "odd values for arguments of match_over_time")
    run(tried, doors, odd, np.random.default_rng(4))


def right_arguments():
    """Right values of the arguments of each public function of remotesam_geo.tasks."""
    prob = np.zeros((5, 6), np.float32)
    prob[1:3, 1:4], prob[4:, 4:] = 0.75, 1.0
    contour = np.zeros_like(prob)
    contour[:, 2] = 1
    found, hulls = tasks.components(prob), tasks.hulls(tasks.components(prob))
    group, score = np.zeros(2, np.int64), np.array([0.5, 0.9])
    corners, drawn = tasks.smallest_rectangles(hulls), tasks.drawn_rectangles(hulls)
    tallies, scores = [tasks.tally(prob)] * 2, np.array([[0.5, 0.2], [0.9, np.nan]])
    return {
        "add_tallies": {"tallies": tallies},
        "background": {"found": found},
        "best_label": {"scores": scores},
        "caption": {"objects": {"ship": tasks.detect(prob).centres}, "shape": prob.shape},
        "components": {"prob": prob, "contour": contour},
        "count_objects": {"prob": prob, "contour": contour},
        "decode": {"codes": tasks.encode(prob)},
        "detect": {"prob": prob, "contour": contour},
        "drawn_rectangles": {"around": hulls},
        "enclosing": {
            "n": 2, "regions": 1, "beside": np.array([[0, 0]]), "rim": group[:1], "background_rim": group[:1]
        },
        "enclosing_components": {"found": found},
        "encode": {"prob": prob, "failed": prob > 1},
        "ground": {"prob": prob},
        "hulls": {"found": found},
        "inner_boxes": {"corners": corners, "score": score},
        "inner_drawings": {"corners": drawn, "score": score, "shape": prob.shape},
        "label_scores": {"tallies": tallies},
        "large_pieces": {"count": np.array([5, 9]), "parent": group},
        "merge": {"tables": [found.table], "group": group, "n": 1},
        "merge_hulls": {"parts": [hulls], "group": group, "n": 1},
        "overlapping_boxes": {"corners": corners, "score": score},
        "positive_labels": {"scores": scores},
        "refer": {"prob": prob},
        "refine": {"prob": prob, "contour": contour},
        "select": {
            "table": found.table, "corners": corners, "around": hulls, "shape": prob.shape, "enclosed_by": group - 1
        },
        "semantic": {"maps": [prob, contour]},
        "smallest_rectangles": {"around": hulls},
        "split": {"prob": prob, "contour": contour},
        "tally": {"prob": prob, "zones": np.ones(prob.shape, np.int64)},
        "touching": {"one": group, "other": group},
        "unite": {"n": 2, "pairs": np.array([[0, 1]])},
        "upright": {"box": found.table.box},
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_tasks_with_odd_arguments(campaign):
    right = right_arguments()
    public = {name for name in tasks.__all__ if isinstance(getattr(tasks, name), FunctionType)}
    assert public == set(right)
    doors = [(getattr(tasks, name), given) for name, given in right.items()]
    odd = ODD + OTHERS + ARRAYS + [tasks.components(ARRAYS[0]), [tasks.tally(ARRAYS[9])], [None, 1], [ARRAYS[0]] * 2]
    tried = campaign("Arguments", "odd values for arguments of the functions in remotesam_geo.tasks")
    run(tried, doors, odd, np.random.default_rng(5))
