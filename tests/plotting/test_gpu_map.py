"""The map of very many features: lonboard's layers, as they are handed to the browser.

What a browser makes of them is not tested here: lonboard's script fetches two libraries from a CDN.
"""

import base64
import io
import sys

import geopandas as gpd
import ipywidgets
import numpy as np
import pytest
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr
from PIL import Image

from remotesam_geo import explore
from remotesam_geo.errors import InputError, MissingExtraError
from remotesam_geo.plotting import exploring

NORTH_UP = Affine(10, 0, 500_000, 0, -10, 5_000_000)
SOUTH_UP = Affine(10, 0, 500_000, 0, 10, 4_999_000)
HOSTILE = '</script><img src=x onerror="window.pwned=1">'


@pytest.fixture(autouse=True)
def no_page(monkeypatch):
    """No feature fits on a page."""
    monkeypatch.setattr(exploring, "MOST_FEATURES", 0)


def features(labels=("ship", "tree", "ship"), scores=(0.2, None, 0.9), crs="EPSG:32633"):
    squares = [shapely.box(x, 0, x + 8, 8) for x in range(0, 10 * len(labels), 10)]
    return gpd.GeoDataFrame({"label": labels, "score": scores}, geometry=squares, crs=crs)


def scene(affine):
    pixels = np.zeros((60, 100, 3), np.uint8)
    pixels[:30] = 200  # the first rows are bright
    grid = GeoBox((60, 100), affine, "EPSG:32633")
    return xr.Dataset({name: wrap_xr(pixels[..., band], grid) for band, name in enumerate(("red", "green", "blue"))})


def test_each_label_is_a_layer_with_its_scores():
    chart = explore(features()).children[0]
    ships, trees = chart.layers
    assert chart.basemap is None
    assert (len(ships.table), len(trees.table)) == (2, 1)
    assert ships.get_fill_color != trees.get_fill_color
    np.testing.assert_allclose(ships.get_filter_value.to_numpy(), [0.2, 0.9], rtol=1e-6)
    np.testing.assert_array_equal(trees.get_filter_value.to_numpy(), [1])  # no score: always shown


def test_the_range_moves_every_layer_and_each_switch_its_own(monkeypatch):
    linked = []
    monkeypatch.setattr(ipywidgets, "jslink", lambda one, other: linked.append((one, other)))
    chart, scores, switches = explore(features()).children
    boxes = [row.children[1] for row in switches.children]
    assert [box.description for box in boxes] == ["ship (2)", "tree (1)"]
    for layer, box in zip(chart.layers, boxes, strict=True):
        assert ((scores, "value"), (layer, "filter_range")) in linked
        assert ((box, "value"), (layer, "visible")) in linked
    assert len(linked) == 4


def test_labels_are_text():
    _, _, switches = explore(features(labels=(HOSTILE, None, "tree"))).children
    rows = [row.children for row in switches.children]
    assert [box.description for _, box in rows] == [f"{HOSTILE} (1)", "no label (1)", "tree (1)"]
    assert not any(box.description_allow_html for _, box in rows)
    assert not any("img" in swatch.value for swatch, _ in rows)  # HTML, of our own alone


@pytest.mark.parametrize(("affine", "bright"), [(NORTH_UP, "north"), (SOUTH_UP, "south")])
def test_the_picture_lies_as_its_grid_does(affine, bright):
    near = features().translate(500_300, 4_999_500)
    where = gpd.GeoDataFrame(features().drop(columns="geometry"), geometry=near, crs="EPSG:32633")
    picture = explore(where, scene(affine)).children[0].layers[0]
    (west, last_row), (_, first_row), (east, _), _ = picture.bounds
    data = base64.b64decode(picture.image.removeprefix("data:image/webp;base64,"))
    rows = np.asarray(Image.open(io.BytesIO(data)).convert("L")).mean(axis=1)
    brighter_first = rows[:20].mean() > rows[-20:].mean()
    assert (brighter_first == (first_row > last_row)) == (bright == "north")
    assert 14.9 < west < east < 15.1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (features(crs=None), "features of a picture are more than a page can hold"),
        (features(labels=[f"kind {n}" for n in range(70)], scores=[0.5] * 70), "70 labels"),
        (features().set_geometry(features().centroid), "3 features|2 features are no polygons"),
    ],
)
def test_what_cannot_be_shown_is_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        explore(wrong)


def test_a_picture_without_a_crs_is_no_ground_for_them():
    with pytest.raises(InputError, match="picture without"):
        explore(features(), np.zeros((20, 20, 3), np.uint8))


def test_without_lonboard_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lonboard", None)
    with pytest.raises(MissingExtraError, match=r"remotesam-geo\[large\]"):
        explore(features())


def test_a_title_is_shown_as_text():
    heading, *_ = explore(features(), title="<b>Harbour</b>").children
    assert isinstance(heading, ipywidgets.Label)  # no HTML
    assert heading.value == "<b>Harbour</b>"


def test_fewer_features_are_a_page(monkeypatch):
    monkeypatch.setattr(exploring, "MOST_FEATURES", 3)
    assert isinstance(explore(features()), exploring.Map)
