"""The class as its users meet it, over a predictor whose answer is known."""

import json
import warnings

import geopandas as gpd
import numpy as np
import pytest
import rioxarray  # noqa: F401 - gives arrays their .rio
import shapely
import xarray as xr
from geopandas.testing import assert_geodataframe_equal
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr
from rasterio.features import rasterize

from remotesam_geo.errors import InputError, ReadError, RemoteSAMWarning
from remotesam_geo.mapping.feature_table import DETAILS
from remotesam_geo.remotesam import RemoteSAM

GREEN, RED = (20, 200, 20), (200, 20, 20)


class Colours:
    """Answers from the colour of each pixel: "red ..." where red is strong, "green ..." where green is."""

    image_size = 64
    identity = "colours"

    def predict(self, images, expressions):
        channel = {"red": 0, "gre": 1, "any": slice(0, 2)}
        codes = [
            np.clip(images[..., channel[text[:3]]].reshape(*images.shape[:3], -1).max(-1), 0, 200)
            for text in expressions
        ]
        return np.stack(codes, axis=1).astype(np.uint8)


def scene_of(shapes, crs="EPSG:32633", resolution=1.0, size=300, at=(500000, 5000000)):
    """A scene with coloured shapes, given in metres from its upper left corner."""
    x, y = at
    box = GeoBox.from_bbox((x, y - size, x + size, y), crs=crs, resolution=resolution)
    rgb = np.full((*box.shape.yx, 3), 10, np.uint8)
    for shape, colour in shapes:
        placed = shapely.affinity.translate(shapely.affinity.scale(shape, 1, -1, origin=(0, 0)), x, y)
        rgb[rasterize([placed], box.shape.yx, transform=box.affine) == 1] = colour
    bands = {name: wrap_xr(rgb[..., index], box) for index, name in enumerate(("red", "green", "blue"))}
    return xr.Dataset(bands)


BAR = shapely.box(20, 30, 280, 50)  # crosses many windows
DISC = shapely.Point(150, 150).buffer(40)
MODEL = RemoteSAM(Colours())


def test_another_model_takes_effect_at_the_next_call():
    class Blind(Colours):
        identity = "blind"

        def predict(self, images, expressions):
            return np.zeros((len(images), len(expressions), *images.shape[1:3]), np.uint8)

    model = RemoteSAM(Colours())
    scene = scene_of([(BAR, RED)])
    assert len(model.segment(scene, "red")) == 1
    model.model = Blind()
    assert len(model.segment(scene, "red")) == 0
    assert "blind" in repr(model)
    with pytest.raises(InputError, match="has no image_size"):
        model.model = object()
    assert model.model.identity == "blind"


@pytest.mark.parametrize("verb", ["segment", "refer", "detect", "ground", "label", "classify", "count", "caption"])
def test_details_are_columns_where_they_are_wanted(verb):
    scene = scene_of([(BAR, RED)])
    method = getattr(MODEL, verb)
    short, long = method(scene, {"red": "red things"}), method(scene, {"red": "red things"}, details=True)
    assert not set(DETAILS) & set(short.columns)
    more = set(long.columns) - set(short.columns)
    assert {"resolution", "view", "run_id"} <= more <= set(DETAILS)
    assert json.loads(long.attrs["remotesam"])["run_id"] == long["run_id"].iloc[0]
    assert long[short.columns].equals(short)
    with pytest.raises(InputError, match="details=1"):
        method(scene, "red", details=1)


def test_segments_are_whole_wherever_windows_meet():
    found = MODEL.segment(scene_of([(BAR, RED), (DISC, RED), (DISC.buffer(-20), GREEN)]), ["red", "green"])
    assert list(found.label) == ["red", "red", "green"]
    assert list(found.columns) == ["geometry", "label", "score", "area_m2", "time", "items", "touches_edge", "id"]
    bar, ring, disc = found.geometry
    assert bar.equals(shapely.box(500020, 4999950, 500280, 4999970))
    assert len(ring.interiors) == 1
    assert disc.area == pytest.approx(np.pi * 400, rel=0.05)
    assert found.score.to_numpy() == pytest.approx([(200 - 0.5) / 200] * 3)
    assert found.area_m2[0] == pytest.approx(bar.area, rel=0.002)  # the scale of UTM at its middle is 0.9996
    assert found.id.is_unique


@pytest.mark.filterwarnings("ignore:.*fill a window")
def test_detections_are_boxes_and_enclosed_ones_can_be_dropped():
    scene = scene_of([(DISC, RED), (DISC.buffer(-20), GREEN), (DISC.buffer(-30), RED)])
    boxes = MODEL.detect(scene, "red")
    assert [tuple(box.bounds) for box in boxes.geometry] == [
        (500110, 4999810, 500190, 4999890), (500140, 4999840, 500160, 4999860)
    ]  # fmt: skip
    kept = MODEL.detect(scene, "red", suppress="enclosed")
    assert len(kept) == 1
    assert json.loads(kept.attrs["remotesam"])["asked"][0]["dropped"]["red"]["enclosed"] == 1
    assert len(MODEL.detect(scene, "red", suppress="published")) == 1


@pytest.mark.filterwarnings("ignore:.*fill a window")
def test_oriented_boxes_enclose_the_object():
    turned = shapely.affinity.rotate(shapely.box(50, 100, 250, 130), 30)
    found = MODEL.detect(scene_of([(turned, RED)]), "red", oriented=True)
    expected = shapely.affinity.translate(shapely.affinity.scale(turned, 1, -1, origin=(0, 0)), 500000, 5000000)
    assert found.geometry[0].intersection(expected).area / found.geometry[0].union(expected).area > 0.95


@pytest.mark.parametrize("seam", ["paste", "blend"])
def test_the_answer_is_the_same_for_any_chunks_and_seam(seam):
    scene = scene_of([(BAR, RED), (DISC, GREEN)])
    plain = MODEL.segment(scene, ["red", "green"])
    chunked = MODEL.segment(scene.chunk(37), ["red", "green"], seam=seam, overlap=0.5)
    assert_geodataframe_equal(plain, chunked, check_like=False)


@pytest.mark.parametrize(
    ("crs", "resolution", "size", "at"),
    [
        ("EPSG:32633", 1.0, 300, (500000, 5000000)),
        ("EPSG:32733", 1.0, 300, (500000, 5000000)),
        ("EPSG:3857", 1.0, 300, (1_600_000, 8_400_000)),
        ("EPSG:4326", 1e-5, 0.003, (14.0, 60.0)),
        ("EPSG:4326", 1e-5, 0.003, (179.999, 60.0)),
    ],
)
def test_objects_lie_where_they_are_and_have_their_true_area(crs, resolution, size, at):
    unit = size / 300
    disc = shapely.affinity.scale(DISC, unit, unit, origin=(0, 0))
    found = MODEL.segment(scene_of([(disc, RED)], crs, resolution, size, at), "red")
    truth = gpd.GeoSeries(
        [shapely.affinity.translate(shapely.affinity.scale(disc, 1, -1, origin=(0, 0)), *at)],
        crs=crs,
    )
    assert found.crs == truth.crs
    centre, middle = found.geometry[0].centroid, truth[0].centroid
    across = (centre.x - middle.x + 180) % 360 - 180 if crs == "EPSG:4326" else centre.x - middle.x
    assert abs(across) < resolution / 2
    assert abs(centre.y - middle.y) < resolution / 2
    local = truth.to_crs(
        f"+proj=laea +lon_0={at[0]} +lat_0={at[1]}" if crs == "EPSG:4326" else truth.estimate_utm_crs()
    )
    equal = local.to_crs(f"+proj=cea +lat_ts={truth.to_crs(4326)[0].centroid.y}")
    assert found.area_m2[0] == pytest.approx(equal.area[0], rel=0.01)


def test_time_and_items_are_carried():
    one, two = scene_of([(DISC, RED)]), scene_of([(BAR, RED)])
    both = xr.concat(
        [one, two],
        dim=xr.DataArray(np.array(["2020-01-01", "2021-06-01"], "datetime64[ns]"), dims="time"),
    )
    both = both.assign_coords(items=("time", ["a", "b"])).rio.write_crs("EPSG:32633")
    found = MODEL.segment(both, "red")
    assert list(found["items"]) == ["a", "b"]
    assert list(found.time.dt.year) == [2020, 2021]


def test_resolutions_are_asked_apart_and_return_on_the_scenes_place():
    scene = scene_of([(DISC, RED), (BAR, GREEN)])
    found = MODEL.segment(scene, ["green", "red"], resolution={"red": 4}, details=True)
    assert list(found.label) == ["green", "red"]
    assert found.resolution.to_numpy() == pytest.approx([1, 4], rel=0.01)
    centre = found.geometry[1].centroid
    assert (centre.x, centre.y) == pytest.approx((500150, 4999850), abs=0.5)
    assert found.area_m2[1] == pytest.approx(np.pi * 1600, rel=0.05)


def test_nothing_found_has_the_same_columns_and_types():
    full = MODEL.segment(scene_of([(DISC, RED)]), "red")
    empty = MODEL.segment(scene_of([]), "red", threshold=0.9)
    assert len(empty) == 0
    assert empty.crs == full.crs
    assert (empty.dtypes == full.dtypes).all()


def test_a_mapping_asks_free_expressions_and_joins_them_by_maximum():
    scene = scene_of([(BAR, RED), (DISC, GREEN)])
    found = MODEL.segment(scene, {"bright": ["red things", "green things"]})
    assert list(found.label) == ["bright", "bright"]


def test_view_words_warn():
    with pytest.warns(RemoteSAMWarning, match="'left'"):
        MODEL.refer(scene_of([(DISC, RED)]), "red disc on the left")


def test_results_survive_the_writers(tmp_path):
    found = MODEL.segment(scene_of([(DISC, RED)]), "red")
    for name, read in (("out.parquet", gpd.read_parquet), ("out.gpkg", gpd.read_file)):
        path = tmp_path / name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found.to_parquet(path) if name.endswith("parquet") else found.to_file(path)
        back = read(path)
        assert back.geometry[0].equals(found.geometry[0])
        assert back.label[0] == "red"


def test_a_failed_place_is_raised_or_stated():
    scene = scene_of([(DISC, RED), (BAR, RED)]).chunk(64)

    def broken(block, block_info=None):
        if block_info[None]["chunk-location"] == (2, 2):
            raise ReadError("cannot read tile 2, 2")
        return block

    scene["red"] = scene["red"].copy(data=scene["red"].data.map_blocks(broken, dtype=np.uint8))
    with pytest.raises(ReadError, match="tile 2, 2"):
        MODEL.segment(scene, "red")
    with pytest.warns(RemoteSAMWarning, match=r"windows failed, [\d,]+ m2 of ground"):
        found = MODEL.segment(scene, "red", on_error="skip")
    assert len(found) >= 1
    failures = json.loads(found.attrs["remotesam"])["asked"][0]["failures"]
    assert failures
    assert "cannot read tile 2, 2" in failures[0]["cause"]


def test_what_cannot_be_asked_is_refused_before_reading():
    plain = xr.Dataset({"red": (("y", "x"), np.zeros((9, 9), np.uint8))})
    with pytest.raises(InputError, match="no CRS"):
        MODEL.segment(plain, "red")
    with pytest.raises(InputError, match="not a list"):
        MODEL.segment([1, 2], "red")
    with pytest.raises(InputError, match="no prompt"):
        MODEL.segment(scene_of([]), [])
    with pytest.raises(InputError, match="overlap"):
        MODEL.segment(scene_of([]), "red", overlap=0.9)
