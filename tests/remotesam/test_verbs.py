"""All verbs, over scenes, pictures, views and held probabilities, with a predictor whose answer is known."""

import json

import dask.array as da
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
from geopandas.testing import assert_geodataframe_equal
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr
from PIL import Image
from rasterio.features import rasterize

from remotesam_geo.errors import InputError, RemoteSAMWarning
from remotesam_geo.mapping import polygons as vectors
from remotesam_geo.remotesam import RemoteSAM
from remotesam_geo.tasks import components, encode, refine, semantic
from tests.remotesam.test_remotesam import BAR, GREEN, RED, Colours, scene_of

MODEL = RemoteSAM(Colours())
SQUARES = [shapely.box(x, y, x + 10, y + 10) for x in (20, 120, 220) for y in (20, 200)]
SCENE = scene_of([(square, RED) for square in SQUARES] + [(shapely.box(150, 100, 190, 140), GREEN)])
LEFT, RIGHT = (
    shapely.box(500000, 4999700, 500150, 5000000),
    shapely.box(500150, 4999700, 500300, 5000000),
)
HALVES = gpd.GeoDataFrame({"name": ["left", "right"]}, geometry=[LEFT, RIGHT], crs="EPSG:32633", index=[7, 3])


class Counting(Colours):
    """Remembers how many windows it saw."""

    def __init__(self):
        self.windows = 0

    def predict(self, images, expressions):
        self.windows += len(images)
        return super().predict(images, expressions)


def same(one, other):
    assert_geodataframe_equal(one, other)


# --- what segment, refer and detect offer beyond the plain map ---------------------------------------


def test_exclusive_classes_share_no_pixel():
    scene = scene_of([(BAR, (180, 200, 20))])  # red and green at once, green more
    both = MODEL.segment(scene, ["red", "green"])
    assert both.label.tolist() == ["red", "green"]
    with pytest.warns(RemoteSAMWarning, match="another class is more probable"):
        one = MODEL.segment(scene, ["red", "green"], exclusive=True)
    assert one.label.tolist() == ["green"]
    assert one.geometry[0].equals(both.geometry[1])


def test_contours_part_touching_objects_wherever_windows_meet():
    def contours(images):
        return np.where(images[..., 2] > 100, 200, 0).astype(np.uint8)

    scene = scene_of([(BAR, RED)])
    scene["blue"][:, 149:151] = 255  # a line through the bar
    whole = MODEL.detect(scene, "red")
    parted = MODEL.detect(scene, "red", refine=contours)
    assert len(whole) == 1
    assert [box.bounds for box in parted.geometry] == [
        (500020, 4999950, 500149, 4999970),
        (500151, 4999950, 500280, 4999970),
    ]
    with pytest.raises(InputError, match="refine='edges' is not allowed"):
        MODEL.detect(scene, "red", refine="edges")


def test_small_features_are_left_out_and_counted():
    found = MODEL.segment(SCENE, "any", min_area=150)
    assert len(found) == 1
    assert json.loads(found.attrs["remotesam"])["asked"][0]["dropped"]["any"]["small"] == 6


def test_outlines_become_simple_and_smooth():
    scene = scene_of([(shapely.affinity.rotate(BAR, 20), RED)])
    steps = MODEL.segment(scene, "red").geometry[0]
    simple = MODEL.segment(scene, "red", simplify=2).geometry[0]
    smooth = MODEL.segment(scene, "red", smooth=2).geometry[0]
    points = shapely.get_num_coordinates
    assert points(simple) < points(steps) / 5
    assert smooth.length < 0.95 * steps.length
    for changed in (simple, smooth):
        assert changed.is_valid
        assert changed.symmetric_difference(steps).area < 0.08 * steps.area
    with pytest.raises(InputError, match="smooth=9 is not allowed"):
        MODEL.segment(scene, "red", smooth=9)


def test_parts_stay_cut_at_block_borders_and_carry_the_whole(monkeypatch):
    scene = scene_of([(BAR, RED), (shapely.Point(200, 200).buffer(50), RED)])
    whole = MODEL.segment(scene, "red")
    cut = MODEL.segment(scene, "red", parts="blocks")
    assert len(whole) == 2
    assert len(cut) > 2
    together = cut.dissolve("id", as_index=False)
    together = together.set_index("id").loc[whole.id]
    assert [a.equals(b) for a, b in zip(together.geometry, whole.geometry, strict=True)] == [
        True,
        True,
    ]
    for name in ("score", "area_m2"):
        assert together[name].to_numpy() == pytest.approx(whole[name].to_numpy(), rel=1e-6)
    monkeypatch.setattr(vectors, "MOST_VERTICES", 30)
    with pytest.warns(RemoteSAMWarning, match="more than 30 vertices"):
        limited = MODEL.segment(scene, "red")
    assert limited.id.value_counts().loc[whole.id].tolist()[0] == 1  # the bar has few corners
    assert limited.id.value_counts().loc[whole.id].tolist()[1] > 1
    with pytest.raises(InputError, match="parts='blocks'"):
        MODEL.segment(scene, "red", parts="blocks", suppress="enclosed")


def test_an_unknown_crs_is_refused_before_anything_is_asked():
    counting = Counting()
    with pytest.raises(InputError, match="'EPSG:1' is no CRS that PROJ knows"):
        RemoteSAM(counting).segment(SCENE, "red", crs="EPSG:1")
    assert counting.windows == 0


def test_only_windows_in_the_area_are_asked():
    corner = gpd.GeoSeries([shapely.box(500000, 4999960, 500040, 5000000)], crs="EPSG:32633")
    counting = Counting()
    found = RemoteSAM(counting).segment(SCENE, "red", geometry=corner)
    assert counting.windows == 1
    assert len(found) == 1
    with pytest.raises(InputError, match="does not touch the scene"):
        MODEL.segment(SCENE, "red", geometry=shapely.box(0, 0, 1, 1))


def test_objects_that_fill_a_window_ask_for_a_coarser_resolution():
    scene = scene_of([(shapely.box(20, 20, 220, 240), RED)])
    with pytest.warns(RemoteSAMWarning, match=r"1 of 'red' fill a window of 64 m.* coarser resolution, 6.3 m"):
        MODEL.detect(scene, "red")
    assert len(MODEL.detect(scene, "red", resolution=6.3)) == 1
    assert len(MODEL.segment(scene, "red")) == 1


# --- views ------------------------------------------------------------------------------------------


def test_grounding_gives_one_box_round_all_that_belongs():
    found = MODEL.ground(SCENE, ["red squares", "green"], details=True)
    assert found.label.tolist() == ["red squares", "green"]
    assert found.view.unique().tolist() == ["scene"]
    pixel = 300 / 64
    assert np.abs(np.array(found.geometry[0].bounds) - (500020, 4999790, 500230, 4999980)).max() <= pixel
    assert found.resolution[0] == pytest.approx(pixel, rel=0.01)
    nothing = MODEL.ground(scene_of([]), "red")
    assert nothing.empty
    assert list(nothing.columns) == ["geometry", "label", "score", "area_m2", "time", "items", "touches_edge", "id"]


def test_view_words_are_welcome_in_one_view():
    with pytest.warns(RemoteSAMWarning, match="'left'"):
        MODEL.refer(SCENE, "red square on the left")
    found = MODEL.refer(SCENE, "red square on the left", view="scene")
    assert len(found) == 6
    with pytest.raises(InputError, match="view='zone' is not allowed: use 'map' or 'scene'"):
        MODEL.refer(SCENE, "red", view="zone")


def test_a_view_shows_all_of_a_scene_that_is_not_square():
    long = scene_of([(shapely.box(20, 20, 60, 60), RED)]).isel(y=slice(0, 100))
    found = MODEL.refer(long, "red", view="scene")
    assert found.geometry.iloc[0].centroid.distance(shapely.Point(500040, 4999960)) < 3


# --- pictures ---------------------------------------------------------------------------------------

PIXELS = np.full((50, 90, 3), 10, np.uint8)
PIXELS[10:20, 30:60] = RED


def test_a_picture_is_one_view_resized_as_published():
    found = MODEL.segment(PIXELS, "red")
    square = np.asarray(Image.fromarray(PIXELS).resize((64, 64), Image.Resampling.BILINEAR))[None]
    answer = (MODEL.model.predict(square, ["red in the image"])[0, 0].astype(np.float32) - 0.5).clip(0) / 200
    back = np.asarray(Image.fromarray(answer).resize((90, 50), Image.Resampling.BILINEAR))
    assert found.area_px.sum() == (back > 0.5).sum()
    assert found.crs is None
    assert found.attrs["space"] == "pixel"
    assert found.score[0] == pytest.approx(back[back > 0.5].mean(), abs=1e-6)
    assert "area_m2" not in found


@pytest.mark.parametrize("kind", ["array", "pillow", "file"])
def test_all_kinds_of_pictures_are_the_same(kind, tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "picture.png")
    given = {"array": PIXELS, "pillow": Image.fromarray(PIXELS), "file": tmp_path / "picture.png"}[kind]
    same(MODEL.detect(given, "red"), MODEL.detect(PIXELS, "red"))


def test_a_picture_can_be_asked_at_its_own_scale():
    with pytest.warns(RemoteSAMWarning, match="shrunk to 64 x 64"):
        MODEL.detect(np.zeros((10, 200, 3), np.uint8), "red")
    found = MODEL.detect(PIXELS, "red", tiles=True, details=True)
    assert found.geometry[0].bounds == (30, 10, 60, 20)
    assert found.view.tolist() == ["map"]


def test_every_verb_takes_a_picture():
    assert MODEL.count(PIXELS, ["red", "green"])["count"].tolist() == [1, 0]
    assert MODEL.label(PIXELS, ["red", "green"]).label.tolist() == ["red"]
    assert MODEL.classify(PIXELS, ["red", "green"]).label.tolist() == ["red"]
    assert MODEL.ground(PIXELS, "red").geometry.iloc[0].centroid.distance(shapely.Point(45, 15)) < 2
    (sentence,) = MODEL.caption(PIXELS, "red").caption
    assert sentence == "The picture shows a red. It is in the upper centre." or "picture" in sentence


def test_what_needs_ground_is_refused_for_pictures():
    with pytest.raises(InputError, match="no place on Earth"):
        MODEL.count(PIXELS, "red", zones=HALVES)
    with pytest.raises(InputError, match="no metres"):
        MODEL.detect(PIXELS, "red", resolution=2)
    with pytest.raises(InputError, match="no place on Earth"):
        MODEL.detect(PIXELS, "red", geometry=LEFT)
    with pytest.raises(InputError, match="tiles=True cannot be used here"):
        MODEL.detect(SCENE, "red", tiles=True)
    with pytest.raises(InputError, match="not a list"):
        MODEL.detect([1, 2], "red")


# --- zones ------------------------------------------------------------------------------------------


def test_counts_by_zone_keep_the_zones_and_add_up():
    counts = MODEL.count(SCENE, ["red", "green"], zones=HALVES)
    assert counts.index.tolist() == [7, 7, 3, 3]
    assert counts.name.tolist() == ["left", "left", "right", "right"]
    assert counts["count"].tolist() == [4, 0, 2, 1]
    wide = MODEL.count(SCENE, ["red", "green"], zones=HALVES, wide=True)
    assert wide[["red", "green"]].to_numpy().tolist() == [[4, 0], [2, 1]]
    cores = MODEL.count(SCENE, "red")
    assert cores["count"].sum() == 6
    assert cores.union_all().area == pytest.approx(300 * 300)


def test_labels_by_zone():
    tight = HALVES.set_geometry([shapely.box(500020, 4999970, 500030, 4999980), RIGHT])
    labels = MODEL.label(SCENE, ["red", "green"], zones=tight, balance=0.5)
    assert labels.label.tolist()[0] == "red"
    assert labels.loc[7, "score"] > 0.95
    best = MODEL.classify(SCENE, ["red", "green"], zones=HALVES)
    assert best.label.tolist() == ["red", "red"]


@pytest.mark.parametrize("view", ["scene", "zone"])
def test_zones_can_be_answered_from_a_look_at_the_whole_or_at_each(view):
    counting = Counting()
    found = RemoteSAM(counting).classify(SCENE, "green", zones=HALVES, view=view, details=True)
    assert counting.windows == (1 if view == "scene" else 2)
    assert found.view.unique().tolist() == [view]
    assert found.index.tolist() == [7, 3]
    assert found.label.isna().tolist() == [True, False]
    with pytest.raises(InputError, match="give zones="):
        MODEL.classify(SCENE, "green", view="zone")


def test_captions_say_what_there_is():
    first, second = MODEL.caption(SCENE, {"tank": "red", "pool": "green"}, zones=HALVES).caption
    assert "four tanks" in first
    assert "a pool" in second


def test_zones_at_several_resolutions_make_one_table():
    found = MODEL.count(SCENE, ["red", "green"], zones=HALVES, resolution={"red": 2, "green": 1}, details=True)
    assert found.resolution.round().tolist() == [2, 1, 2, 1]
    assert found["count"].tolist() == [4, 0, 2, 1]
    cores = MODEL.count(SCENE, ["red", "green"], resolution={"red": 2, "green": 1})
    assert cores.groupby("label")["count"].sum().to_dict() == {"red": 6, "green": 1}


# --- the map itself ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seam", ["paste", "blend"])
def test_each_window_is_asked_once_whatever_the_chunks(seam):
    counting = Counting()
    model = RemoteSAM(counting)
    probs = model.probabilities(SCENE, ["red", "green"], seam=seam)
    assert counting.windows == 0
    assert probs.dims == ("prompt", "y", "x")
    values = probs.chunk({"x": 37, "y": 41}).compute()
    asked = counting.windows
    model.segment(SCENE, ["red", "green"], seam=seam)
    assert asked == counting.windows - asked
    assert set(np.unique(encode(values.values))) <= set(range(201))


@pytest.mark.parametrize("verb", ["segment", "detect", "count", "label", "classify", "caption"])
def test_held_probabilities_give_the_answers_of_the_scene(verb, tmp_path):
    probs = MODEL.probabilities(SCENE, ["red", "green"])
    zones = {"zones": HALVES} if verb not in ("segment", "detect") else {}
    direct = getattr(MODEL, verb)(SCENE, ["red", "green"], threshold=0.4, **zones)
    probs.to_dataset().to_zarr(tmp_path / "probs.zarr", consolidated=False)
    saved = xr.open_zarr(tmp_path / "probs.zarr", consolidated=False).probability
    silent = RemoteSAM(Counting())
    for held in (probs.compute(), saved):
        again = getattr(silent, verb)(held, threshold=0.4, **zones)
        same(direct, again)
    assert silent.model.windows == 0


def test_the_byte_is_what_zarr_stores(tmp_path):
    probs = MODEL.probabilities(SCENE, "red")
    probs.to_dataset().to_zarr(tmp_path / "probs.zarr", consolidated=False)
    raw = xr.open_zarr(tmp_path / "probs.zarr", consolidated=False, mask_and_scale=False).probability
    assert raw.dtype == np.uint8
    np.testing.assert_array_equal(raw.values, encode(probs.values))


def test_held_probabilities_are_asked_for_what_they_hold():
    probs = MODEL.probabilities(SCENE, ["red", "green"]).compute()
    assert MODEL.detect(probs, "green").label.tolist() == ["green"]
    with pytest.raises(InputError, match="do not hold"):
        MODEL.detect(probs, "blue")
    with pytest.raises(InputError, match="resolution=3 cannot be used here: the scene is prob"):
        MODEL.detect(probs, resolution=3)
    with pytest.raises(InputError, match="refine= cannot be used here"):
        MODEL.detect(probs, refine=lambda images: images)
    with pytest.raises(InputError, match="view='scene' cannot be used here"):
        MODEL.classify(probs, view="scene")
    with pytest.raises(InputError, match="give the scene"):
        MODEL.ground(probs, "red")


def test_a_class_map_names_the_most_probable_class():
    classes = MODEL.classmap(SCENE, ["red", "green"])
    assert isinstance(classes.data, da.Array)
    values = classes.values
    assert np.unique(values).tolist() == [0, 1, 2]
    assert (values == 1).sum() == 600
    assert classes.attrs["flag_meanings"] == "background red green"


def test_times_stay_apart_in_maps():
    times = pd.to_datetime(["2020-01-01", "2021-01-01"])
    scene = xr.concat([SCENE, scene_of([])], pd.Index(times, name="time"))
    probs = MODEL.probabilities(scene, "red")
    assert probs.dims == ("time", "prompt", "y", "x")
    assert (probs > 0.5).sum(("prompt", "y", "x")).values.tolist() == [600, 0]
    counts = MODEL.count(probs, zones=HALVES)
    assert counts["count"].tolist() == [4, 0, 2, 0]
    assert counts.time.tolist() == [*times, *times]


# --- all of it at once, against the raster in one piece -----------------------------------------------


@settings(max_examples=12)
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(40, 170), st.integers(40, 170)),
    chunks=st.integers(17, 90),
    overlap=st.sampled_from([0, 0.25, 0.5]),
    seam=st.sampled_from(["paste", "blend"]),
    contours=st.booleans(),
    exclusive=st.booleans(),
)
def test_any_way_to_ask_equals_the_raster_in_one_piece(*, seed, shape, chunks, overlap, seam, contours, exclusive):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (-(-shape[0] // 5), -(-shape[1] // 5), 3), np.uint8)
    rgb = coarse.repeat(5, axis=0).repeat(5, axis=1)[: shape[0], : shape[1]]
    box = GeoBox.from_bbox((500000, 0, 500000 + shape[1], shape[0]), crs="EPSG:32633", resolution=1)
    bands = {name: wrap_xr(rgb[..., i], box) for i, name in enumerate(("red", "green", "blue"))}
    found = MODEL.segment(
        xr.Dataset(bands).chunk(chunks), ["red", "green"], overlap=overlap, seam=seam, exclusive=exclusive,
        refine=edges if contours else None,
    )  # fmt: skip
    maps = MODEL.model.predict(rgb[None], ["red", "green"])[0]
    if exclusive:
        winner = semantic(list(maps))
        maps = np.stack([np.where(winner == k + 1, one, 0).astype(np.uint8) for k, one in enumerate(maps)])
    for label, one in zip(("red", "green"), maps, strict=True):
        whole = refine(one, edges(rgb[None])[0]) if contours else components(one)
        own = found[found.label == label]
        assert len(own) == whole.n
        np.testing.assert_allclose(own.score, whole.table.score, rtol=0, atol=1e-12)
        np.testing.assert_allclose(own.geometry.area, whole.table.count)
        painted = rasterize(
            [(g, i + 1) for i, g in enumerate(own.geometry)] or [(shapely.Point(-1, -1), 1)],
            shape, transform=box.affine, dtype="int32",
        )  # fmt: skip
        np.testing.assert_array_equal(painted > 0, whole.paint() > 0)


def edges(images):
    return np.where(images[..., 2] > 200, 200, 0).astype(np.uint8)
