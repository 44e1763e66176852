"""Masks as run lengths, against pycocotools; hostile ones are refused before memory is taken for them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from remotesam_geo.learning.datasets import DamageError, Mask, SizeLimits

pytestmark = pytest.mark.filterwarnings(  # pycocotools' own code, on the newest NumPy
    "ignore:__array__ implementation:DeprecationWarning"
)

shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(shapes, st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.5, 0.95, 1.0]))
def test_packed_runs_are_those_of_pycocotools(shape, seed, share):
    pixels = np.random.default_rng(seed).random(shape) < share
    mask = Mask.of(pixels)
    theirs = coco.encode(np.asfortranarray(pixels.astype(np.uint8)))
    assert mask.counts.encode() == theirs["counts"]
    assert (mask.pixels() == pixels).all()
    assert mask.area == coco.area(theirs)
    assert Mask.of_coco(mask.to_coco(), shape) == mask
    assert Mask.of_coco({"size": list(shape), "counts": mask.runs.tolist()}, shape) == mask
    if pixels.any():
        x, y, w, h = coco.toBbox(theirs)
        assert mask.box == (x, y, x + w, y + h)
    else:
        assert mask.box is None
        assert mask == Mask.empty(shape)


def test_long_runs_survive():
    for pixels in (4_000_000, 16_777_216):
        mask = Mask.empty((pixels // 2, 2))
        assert mask.runs.tolist() == [pixels]
        assert mask.counts.encode() == coco.encode(np.zeros((pixels // 2, 2), np.uint8, "F"))["counts"]  # fmt: skip


polygons = st.lists(
    st.lists(st.floats(-20, 60, allow_nan=False), min_size=6, max_size=16).map(
        lambda values: values[: len(values) // 2 * 2]
    ),
    min_size=1,
    max_size=3,
)


@given(polygons, st.tuples(st.integers(21, 40), st.integers(21, 40)))
def test_polygons_are_filled_as_pycocotools_fills_them(polygons, shape):
    polygons = [np.clip(polygon, -min(shape), 2 * min(shape)).tolist() for polygon in polygons]
    theirs = coco.decode(coco.merge(coco.frPyObjects(polygons, *shape)))
    assert (Mask.of_polygons(polygons, shape).pixels() == theirs.astype(bool)).all()


@given(st.lists(st.integers(-5, 45), min_size=6, max_size=12).filter(lambda v: len(v) % 2 == 0))
def test_whole_numbers_too(polygon):
    theirs = coco.decode(coco.merge(coco.frPyObjects([[float(v) for v in polygon]], 40, 41)))
    assert (Mask.of_polygons([polygon], (40, 41)).pixels() == theirs.astype(bool)).all()


def test_overlapping_parts_stay():
    one, other = np.zeros((2, 6, 6), bool)
    one[:4], other[2:] = True, True
    parts = [Mask.of(one).to_coco(), Mask.of(other).to_coco()]
    assert Mask.of_coco(parts, (6, 6)).area == 36
    assert Mask.of_coco([[0, 0, 4, 0, 4, 4, 0, 4], [2, 0, 6, 0, 6, 4, 2, 4]], (6, 6)).area == 24


@given(st.tuples(*[st.floats(-5, 15)] * 4).filter(lambda b: b[0] < b[2] and b[1] < b[3]))
def test_a_box_holds_the_pixels_whose_centres_it_holds(box):
    y, x = np.mgrid[0:8, 0:9] + 0.5
    inside = (x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])
    assert (Mask.of_box(box, (8, 9)).pixels() == inside).all()


ABSURD = {
    "text of other letters": {"size": [4, 4], "counts": "\x01\x02"},
    "letters beyond": {"size": [4, 4], "counts": "~~~"},
    "text that breaks off": {"size": [4, 4], "counts": "PPPo"},
    "a number of many letters": {"size": [4, 4], "counts": "oooooooooo0"},
    "no text": {"size": [4, 4], "counts": ""},
    "too few pixels": {"size": [4, 4], "counts": "3"},
    "too many": {"size": [4, 4], "counts": [0, 17]},
    "negative": {"size": [4, 4], "counts": [20, -4]},
    "not whole": {"size": [4, 4], "counts": [8.0, 8.0]},
    "a huge size": {"size": [10**9, 10**9], "counts": [10**18]},
    "a huge number": {"size": [4, 4], "counts": [10**30]},
    "another size": {"size": [2, 8], "counts": [16]},
    "no size": {"counts": [16]},
    "a size of texts": {"size": ["4", "4"], "counts": [16]},
    "no counts": {"size": [4, 4]},
    "a text": "mask.png",
    "nothing": [],
    "mixed": [[0, 0, 1, 0, 1, 1], {"size": [4, 4], "counts": [16]}],
    "two corners": [[0, 0, 1, 1]],
    "an odd number": [[0, 0, 1, 0, 1, 1, 2]],
    "a corner at infinity": [[0, 0, float("inf"), 0, 1, 1]],
    "a corner nowhere": [[0, 0, float("nan"), 0, 1, 1]],
    "a corner far off": [[0, 0, 1e12, 0, 1, 1]],
    "corners of texts": [["a", 0, 1, 0, 1, 1]],
}


@pytest.mark.parametrize("what", ABSURD)
def test_absurd_masks_are_refused(what):
    with pytest.raises(DamageError):
        Mask.of_coco(ABSURD[what], (4, 4))


@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=30))
def test_any_text_is_a_mask_of_its_shape_or_refused(text):
    try:
        mask = Mask.of_coco({"size": [5, 6], "counts": text}, (5, 6))
    except DamageError:
        return
    assert mask.pixels().shape == (5, 6)
    assert mask == Mask.of(mask.pixels())


def test_the_cap_on_size_is_the_users():
    with pytest.raises(DamageError, match="SizeLimits"):
        Mask.of_polygons([[0, 0, 3, 0, 3, 3]], (40, 40), limits=SizeLimits(pixels=1000))
    assert Mask.of_polygons([[0, 0, 3, 0, 3, 3]], (40, 40), limits=SizeLimits(pixels=1600)).area
