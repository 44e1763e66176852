"""Pictures show the features where they are."""

import matplotlib as mpl

mpl.use("agg")

import geopandas as gpd
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr

from remotesam_geo.errors import InputError, RemoteSAMWarning
from remotesam_geo.plotting import contact_sheet, plot
from tests.remotesam.test_remotesam import BAR, DISC, GREEN, MODEL, RED, scene_of


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def drawn(ax):
    ax.figure.canvas.draw()
    return np.asarray(ax.figure.canvas.buffer_rgba())[..., :3]


def test_features_are_drawn_over_the_scene_with_a_legend():
    scene = scene_of([(BAR, RED), (DISC, GREEN)])
    found = MODEL.segment(scene, ["red", "green"])
    ax = plot(found, scene, title="two things", scores=True)
    assert ax.get_title() == "two things"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["red (1)", "green (1)"]
    texts = {text.get_text() for text in ax.texts}
    assert {"N", "50 m", "1.00"} <= texts
    path = next(iter(ax.collections)).get_paths()[0]
    box = path.get_extents()
    assert (box.x0, box.y0, box.x1, box.y1) == pytest.approx((20, 30, 280, 50))
    picture = drawn(ax).reshape(-1, 3).astype(int)
    assert (np.abs(picture - RED).sum(axis=1) < 60).sum() > 1000  # the bar itself, seen through its outline


def test_nothing_found_is_still_a_picture():
    scene = scene_of([(DISC, GREEN)])
    ax = plot(MODEL.segment(scene, "red"), scene)
    assert ax.get_legend() is None
    assert (np.abs(drawn(ax).astype(int) - GREEN).sum(axis=-1) < 60).any()


def test_a_large_scene_is_averaged_to_what_a_picture_can_show():
    scene = scene_of([(BAR, RED)], size=2000)
    ax = plot(MODEL.segment(scene, "red", progress=False), scene)
    assert max(ax.images[0].get_array().shape) <= 1210


def test_a_time_that_is_not_there_is_refused():
    scene = scene_of([(DISC, GREEN)])
    with pytest.raises(InputError, match="time=3"):
        plot(MODEL.segment(scene, "red"), scene, time=3)


def many(count, size=6.0):
    x, y = np.random.default_rng(2).uniform(0, 290, (2, count))
    return gpd.GeoDataFrame(
        {"label": np.where(x > 150, "right", "left"), "score": x / 300},
        geometry=shapely.box(500000 + x, 5000000 - y - size, 500000 + x + size, 5000000 - y),
        crs="EPSG:32633",
    )


@pytest.mark.parametrize("size", [0.5, 6.0])
def test_ten_thousand_features_are_drawn_and_some_scores_written(size):
    scene = scene_of([])
    with pytest.warns(RemoteSAMWarning, match="of 10,000 scores those of the 300 largest"):
        ax = plot(many(10_000, size), scene, scores=True)
    assert len([text for text in ax.texts if text.get_text().startswith("0.")]) == 300
    picture = drawn(ax).reshape(-1, 3).astype(int)
    for colour in ((255, 217, 47), (231, 41, 138)):  # what is tiny is still seen
        assert (np.abs(picture - colour).sum(axis=1) < 60).sum() > 3000


def test_twenty_labels_have_twenty_colours():
    table = many(40).assign(label=[f"label {n % 20}" for n in range(40)])
    ax = plot(table, scene_of([]))
    patches = ax.get_legend().get_patches()
    assert len({patch.get_edgecolor() for patch in patches}) == 20


def test_hostile_labels_are_words():
    labels = ["$x", "$\\alpha_$ $", "_hidden", "two\nlines", "long " * 40]
    table = many(10).assign(label=labels * 2)
    ax = plot(table, scene_of([]), title="$\\frac{ bad $")
    drawn(ax)
    told = [text.get_text() for text in ax.get_legend().get_texts()]
    assert told[:4] == ["$x (2)", "$\\alpha_$ $ (2)", " _hidden (2)", "two lines (2)"]
    assert told[4].startswith("long long")
    assert told[4].endswith("long (2)")
    assert len(told[4]) < 70
    contact_sheet(table, scene_of([]), each=5).canvas.draw()


def test_results_of_a_picture_are_drawn_over_it():
    picture = np.full((100, 3000, 3), 10, np.uint8)
    picture[20:80, 300:900] = RED
    table = gpd.GeoDataFrame({"label": ["red"]}, geometry=[shapely.box(300, 20, 900, 80)])
    ax = plot(table, picture)
    assert max(ax.images[0].get_array().shape) == 1200
    box = ax.collections[0].get_paths()[0].get_extents()
    assert (box.x0, box.y0, box.x1, box.y1) == pytest.approx((120, 8, 360, 32), abs=0.5)
    assert "N" not in {text.get_text() for text in ax.texts}  # it has none
    placed = table.set_crs("EPSG:32633")
    with pytest.raises(InputError, match="the scene have no CRS and the features have one"):
        plot(placed, picture)
    with pytest.raises(InputError, match="the features have no CRS and the scene"):
        plot(table, scene_of([]))


def test_a_contact_sheet_shows_the_best_and_the_worst():
    scene = scene_of([(BAR, RED), (DISC, GREEN)])
    table = many(50)
    figure = contact_sheet(table, scene, each=4, columns=3)
    figure.canvas.draw()
    best, worst = figure.subfigs
    ranked = table["score"].sort_values(ascending=False).to_numpy()
    for part, scores in ((best, ranked[:4]), (worst, ranked[-4:])):
        titles = [ax.get_title() for ax in part.axes if ax.get_title()]
        assert [float(title.split()[-1]) for title in titles] == pytest.approx(scores, abs=0.006)
    assert best.get_suptitle() == "most certain"
    ax = best.axes[0]
    assert ax.images[0].get_array().shape == (24, 24, 3)
    x0, y0, x1, y1 = ax.collections[0].get_paths()[0].get_extents().extents
    assert (x1 - x0, y1 - y0) == pytest.approx((6, 6))
    assert (x0 + x1) / 2 == pytest.approx(11.5, abs=1)


def test_a_contact_sheet_looks_at_each_features_own_time():
    dark, light = scene_of([]), scene_of([(shapely.box(0, 0, 300, 300), GREEN)])
    times = np.array(["2024-01-01", "2025-01-01"], "datetime64[ns]")
    scene = xr.concat([dark, light], pd.Index(times, name="time"))
    table = many(2).assign(time=times[::-1])
    figure = contact_sheet(table, scene, each=2)
    shown = {ax.get_title(): ax.images[0].get_array()[12, 12].tolist() for ax in figure.subfigs[0].axes if ax.images}
    by_time = {f"{row.label} {row.score:.2f}": row.time for row in table.itertuples()}
    assert {by_time[title].year: tuple(colour) for title, colour in shown.items()} == {
        2024: (10, 10, 10),
        2025: GREEN,
    }


def test_a_contact_sheet_of_few_of_nothing_and_of_something_else():
    scene = scene_of([])
    assert len(contact_sheet(many(3), scene).subfigs) == 1
    assert contact_sheet(many(0), scene).get_suptitle() == "nothing was found"
    with pytest.raises(InputError, match="no score"):
        contact_sheet(many(3).drop(columns="score"), scene)
    with pytest.raises(InputError, match="each=0"):
        contact_sheet(many(3), scene, each=0)
