"""Objects over whole scenes equal those that were drawn, however windows, chunks and orders cut them."""

import numpy as np
import pytest
import shapely
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from rasterio.features import shapes
from rasterio.transform import Affine
from scipy import ndimage

from remotesam_geo import RemoteSAM
from remotesam_geo.errors import InputError, ModelError, RemoteSAMWarning
from remotesam_geo.mapping import instances as joining
from remotesam_geo.mapping.feature_options import FeatureOptions
from remotesam_geo.mapping.grid import Grid
from remotesam_geo.predictors import PredictorError
from remotesam_geo.words import parse_prompts
from tests.campaign import CASES

SIDE = 24
DATA = 200
"""The blue value of pixels of objects and ground: objects carry their number in red and green."""


class Numbered:
    """Knows each object: its number is the colour of its pixels. An expression is a rest of the number by 2."""

    image_size, identity = SIDE, "numbered"
    scores = staticmethod(lambda number: 0.6 + 0.3 * (number % 7) / 7)

    def predict(self, images, expressions):
        return np.zeros((len(images), len(expressions), SIDE, SIDE), np.float32)

    def instances(self, images, expressions):
        return [[self._of(image, each) for each in expressions] for image in images]

    def _of(self, image, expression):
        numbers = image[..., 0].astype(int) * 256 + image[..., 1]
        rest = {"even": 0, "odd": 1}.get(expression)
        wanted = [n for n in np.unique(numbers) if n and (rest is None or n % 2 == rest)]
        masks = [numbers == n for n in wanted]
        return (
            np.stack(masks) if masks else np.zeros((0, SIDE, SIDE), bool),
            np.array([self.scores(n) for n in wanted], np.float32),
        )


def scene_of(numbers, chunks=None):
    place = GeoBox(numbers.shape, Affine(2.0, 0, 500000, 0, -2.0, 5000000), "EPSG:32633")
    bands = np.stack([numbers // 256, numbers % 256, np.full(numbers.shape, DATA)]).astype(np.uint8)
    made = xr.Dataset(
        {name: (("y", "x"), band) for name, band in zip(("red", "green", "blue"), bands, strict=True)},
        coords=xr_coords(place),
    )
    return made if chunks is None else made.chunk(chunks)


def truth(numbers):
    """Each object as a polygon in metres, and its area in pixels."""
    transform = Affine(2.0, 0, 500000, 0, -2.0, 5000000)
    parts = {}
    for geometry, number in shapes(numbers.astype(np.int32), numbers > 0, connectivity=4, transform=transform):
        parts.setdefault(int(number), []).append(shapely.geometry.shape(geometry))
    return {number: shapely.union_all(own) for number, own in parts.items()}


def equal(found, numbers):
    expected = truth(numbers)
    assert len(found) == len(expected)
    rest = dict(expected)
    for geometry, score in zip(found.geometry, found["score"], strict=True):
        number = next(n for n, own in rest.items() if own.equals(geometry))
        assert score == pytest.approx(Numbered.scores(number), abs=0.006)  # a code is half a percent
        del rest[number]


@st.composite
def worlds(draw):
    """Touching discs, long bars through many windows, and crowded lots, each object connected."""
    height, width = draw(st.integers(5, 90)), draw(st.integers(5, 90))
    numbers = np.zeros((height, width), np.int64)
    y, x = np.mgrid[:height, :width]
    count = 0
    for _ in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(["disc", "bar", "post", "lot"]))
        row, col = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        if kind == "lot":
            size = draw(st.integers(3, 7))
            for k in range(draw(st.integers(2, 12))):
                count += 1
                top, left = row + size * (k // 4), col + size * (k % 4)
                numbers[top : top + size, left : left + size] = count
            continue
        count += 1
        radius = draw(st.integers(2, 40))
        thick = draw(st.integers(1, 6))
        inside = {
            "disc": (y - row) ** 2 + (x - col) ** 2 <= radius**2,
            "bar": (abs(y - row) < thick) & (abs(x - col) < 3 * radius),
            "post": (abs(x - col) < thick) & (abs(y - row) < 3 * radius),
        }[kind]
        numbers[inside] = count
    out = np.zeros_like(numbers)  # of what was painted over, the largest part that is left
    for number in np.unique(numbers[numbers > 0]):
        parts, n = ndimage.label(numbers == number)
        sizes = np.bincount(parts.ravel())[1:]
        out[parts == 1 + int(sizes.argmax())] = number
        assert n >= 1
    return out


@given(
    worlds(), st.sampled_from([0.15, 0.25, 0.4, 0.5]), st.sampled_from([None, {"x": 13, "y": 17}, {"x": 90, "y": 1}])
)
@settings(deadline=None, max_examples=min(CASES, 500))
@example(np.ones((80, 70), np.int64), 0.25, None)
@example(np.pad(np.ones((1, 80), np.int64), ((11, 12), (0, 0))), 0.25, None)
def test_objects_equal_those_that_were_drawn(numbers, overlap, chunks):
    model = RemoteSAM(Numbered())
    found = model.segment(scene_of(numbers, chunks), {"all": "all"}, instances=True, overlap=overlap, progress=False)
    equal(found, numbers)


@given(worlds(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=min(CASES, 500))
def test_the_order_of_windows_makes_no_difference(numbers, dice):
    grid = Grid(shape=numbers.shape, window=SIDE, overlap=6)
    prompts, predictor = parse_prompts({"all": "all"}), Numbered()
    padded = np.pad(numbers, ((0, 2 * SIDE), (0, 2 * SIDE)))

    def run(order):
        joiner = joining._Joiner()
        for window in order:
            box = window.box
            part = padded[max(box.top, 0) : box.bottom, max(box.left, 0) : box.right]
            part = np.pad(part, ((SIDE - part.shape[0], 0), (SIDE - part.shape[1], 0)))
            image = np.stack([part // 256, part % 256, np.full_like(part, DATA)], -1).astype(np.uint8)
            seen = predictor.instances(image[None], ["all"])[0], np.ones((SIDE, SIDE), bool)
            joiner.add(window, joining._seen_objects(seen, prompts, [[0]], window, grid.raster))
        features = [one for _, one in joiner.finished(None, FeatureOptions())]
        return sorted(
            (
                one.table.count.tolist(),
                one.table.total.tolist(),
                one.table.box.tolist(),
                one.polygons[0].normalize().wkb,
            )
            for one in features
        )

    windows = list(grid)
    mixed = list(windows)
    dice.shuffle(mixed)
    assert run(mixed) == run(windows)


def test_touching_objects_are_apart_and_expressions_of_a_prompt_are_joined():
    numbers = np.zeros((60, 70), np.int64)
    numbers[10:20, 5:65:2] = np.arange(1, 31)
    numbers[10:20, 6:66:2] = np.arange(31, 61)
    found = RemoteSAM(Numbered()).detect(
        scene_of(numbers), {"even": "even", "both": ["even", "odd"], "twice": ["all", "even"]}, instances=True
    )
    assert found["label"].value_counts().to_dict() == {"both": 60, "twice": 60, "even": 30}
    assert set(found.columns) >= {"label", "score", "area_m2", "geometry"}


class Careless(Numbered):
    """Masks lose pixels at random, most of all along the window's border."""

    def _of(self, image, expression):
        masks, scores = super()._of(image, expression)
        dice = np.random.default_rng(int(image.astype(np.int64).sum()) % 2**32)
        masks = masks & (dice.random(masks.shape) > 0.04)
        masks[:, :1] = masks[:, -1:] = False
        masks[:, :, :1] = masks[:, :, -1:] = False
        return masks, scores


def test_parts_that_differ_a_little_are_one_object():
    numbers = np.zeros((90, 90), np.int64)
    numbers[5:85, 40:60] = 1
    numbers[20:30, 5:80] = 2
    found = RemoteSAM(Careless()).detect(scene_of(numbers), {"all": "all"}, instances=True, overlap=0.4)
    assert len(found) == 2


def test_thresholds_and_filters_choose_objects():
    numbers = np.zeros((60, 70), np.int64)
    for number in range(1, 8):
        numbers[5:15, 9 * number - 5 : 9 * number + 1] = number
    model, scene = RemoteSAM(Numbered()), scene_of(numbers)
    for threshold in (0.5, 0.62, 0.7, 0.8):
        expected = sum(Numbered.scores(number) > threshold for number in range(1, 8))
        assert len(model.detect(scene, {"all": "all"}, instances=True, threshold=threshold)) == expected
    with pytest.warns(RemoteSAMWarning, match="min_area"):
        assert not len(model.detect(scene, {"all": "all"}, instances=True, min_area=10_000))
    oriented = model.detect(scene, {"all": "all"}, instances=True, oriented=True)
    assert np.allclose(oriented.area, 6 * 10 * 4)


def test_places_without_data_belong_to_no_object():
    numbers = np.zeros((60, 70), np.int64)
    numbers[5:55, 5:65] = 3
    scene = scene_of(numbers).astype("float32")
    hole = scene.isel(y=slice(20, 30), x=slice(20, 30))
    scene = scene.where(~((scene.x.isin(hole.x)) & (scene.y.isin(hole.y))))
    (found,) = RemoteSAM(Numbered()).segment(
        scene, {"all": "all"}, instances=True, stretch=[(0, 255)] * 3
    ).geometry  # fmt: skip
    assert found.area == (50 * 60 - 100) * 4


@pytest.mark.filterwarnings("ignore:.*fill a window")
def test_dates_are_apart():
    numbers = np.zeros((40, 50), np.int64)
    numbers[5:35, 5:45] = 1
    dates = xr.concat([scene_of(numbers), scene_of(numbers * 2)], "time").assign_coords(
        time=np.array(["2020-01-01", "2021-01-01"], "datetime64[ns]")
    )
    found = RemoteSAM(Numbered()).detect(dates, {"all": "all"}, instances=True)
    assert found["time"].dt.year.tolist() == [2020, 2021]
    assert found["score"].tolist() == pytest.approx([Numbered.scores(1), Numbered.scores(2)], abs=0.006)


def test_failed_windows_are_noted_or_end_the_run():
    class Failing(Numbered):
        def instances(self, images, expressions):
            if images[0, 0, 0, 1] == 1:
                raise ModelError("no answer")
            return super().instances(images, expressions)

    numbers = np.zeros((60, 70), np.int64)
    numbers[:10, :10] = 1
    numbers[40:50, 40:60] = 2
    model, scene = RemoteSAM(Failing()), scene_of(numbers)
    with pytest.raises(ModelError, match="no answer"):
        model.detect(scene, {"all": "all"}, instances=True)
    with pytest.warns(RemoteSAMWarning, match="fail"):
        found = model.detect(scene, {"all": "all"}, instances=True, on_error="skip")
    assert len(found) == 1


@pytest.mark.parametrize(("result", "told"), [
    ([], "a list with an entry for each of the 1 images"),
    ([[]], "each of the 1 expressions"),
    ([[None]], "it must be a pair of arrays"),
    ([[(np.zeros((2, SIDE, SIDE), bool),)]], "it must be a pair of arrays"),
    ([[(np.zeros((2, SIDE, SIDE), np.uint8), np.zeros(2))]], "masks of instances are uint8"),
    ([[(np.zeros((2, SIDE, 3), bool), np.zeros(2))]], "masks of instances are bool"),
    ([[(np.zeros((2, SIDE, SIDE), bool), np.zeros(3))]], "give 2 from 0 to 1"),
    ([[(np.zeros((1, SIDE, SIDE), bool), np.array([1.5]))]], "give 1 from 0 to 1"),
    ([[(np.zeros((1, SIDE, SIDE), bool), np.array([np.nan]))]], "give 1 from 0 to 1"),
    ("ab", "a list with an entry"),
    (7, "a list with an entry"),
])  # fmt: skip
def test_a_wrong_answer_names_the_predictor(result, told):
    class Wrong(Numbered):
        def instances(self, *_):
            return result

    for on_error in ("raise", "skip"):
        with pytest.raises(PredictorError, match=f"the predictor Wrong.*{told}"):
            RemoteSAM(Wrong()).detect(
                scene_of(np.ones((20, 20), np.int64)), {"all": "all"}, instances=True, on_error=on_error
            )


@pytest.mark.parametrize(("options", "told"), [
    ({"overlap": 0}, "overlap=0"),
    ({"seam": "paste"}, "seam='paste'"),
    ({"refine": "contours"}, "refine='contours'"),
    ({"instances": "yes"}, "instances='yes'"),
    ({"instances": 1}, "instances=1"),
])  # fmt: skip
def test_options_that_mean_nothing_are_refused(options, told):
    scene = scene_of(np.ones((20, 20), np.int64))
    for verb in ("detect", "segment"):
        with pytest.raises(InputError, match=told):
            getattr(RemoteSAM(Numbered()), verb)(scene, "all", **{"instances": True, **options})


def test_what_has_no_instances_is_refused():
    scene = scene_of(np.ones((20, 20), np.int64))
    with pytest.raises(InputError, match="needs a model that tells objects apart"):
        RemoteSAM.from_pretrained("tiny").detect(scene, "tree", instances=True)
    with pytest.raises(InputError, match="needs the model, not probabilities"):
        RemoteSAM(Numbered()).detect(RemoteSAM(Numbered()).probabilities(scene, "all"), instances=True)
    for options in ({"exclusive": True}, {"parts": "blocks"}):
        with pytest.raises(InputError, match="instances=True joins whole objects"):
            RemoteSAM(Numbered()).segment(scene, "all", instances=True, **options)
    picture = np.full((20, 20, 3), DATA, np.uint8)
    with pytest.raises(InputError, match="say tiles=True"):
        RemoteSAM(Numbered()).detect(picture, "all", instances=True)
    found = RemoteSAM(Numbered()).detect(picture, {"all": "all"}, instances=True, tiles=True)
    assert len(found) == 1


def test_memory_holds_no_objects_that_are_complete():
    """After each row of blocks only objects of windows that a later one can reach are kept."""
    numbers = np.zeros((400, 30), np.int64)
    for number in range(1, 90):
        numbers[4 * number : 4 * number + 3, 3:9] = number
    kept = []
    whole = joining._Joiner.finished

    def watched(self, top, options):
        yield from whole(self, top, options)
        kept.append(sum(each is not None for each in self._objects))

    joining._Joiner.finished = watched
    try:
        found = RemoteSAM(Numbered()).detect(scene_of(numbers), {"all": "all"}, instances=True)
    finally:
        joining._Joiner.finished = whole
    assert len(found) == 89
    assert max(kept) < 89
    assert kept[-1] == 0
