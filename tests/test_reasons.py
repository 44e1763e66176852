"""An empty result says why, where that is known; a full one says nothing."""

import re
import warnings

import numpy as np
import pytest
import shapely
import xarray as xr

from remotesam_geo.errors import RemoteSAMWarning
from remotesam_geo.mapping.collect import Survey, warn_of_nothing
from remotesam_geo.mapping.feature_options import FeatureOptions
from remotesam_geo.remotesam import RemoteSAM
from remotesam_geo.tasks import Dropped
from remotesam_geo.words import CLASS_TEMPLATE, parse_prompts, warn_of_sizes
from tests.remotesam.test_remotesam import BAR, GREEN, RED, Colours, scene_of

MODEL = RemoteSAM(Colours())
SCENE = scene_of([(BAR, RED), (shapely.box(150, 100, 190, 140), GREEN)])
TINY_WORDS = {
    "in",
    "the",
    "image",
    "vehicle",
    "ship",
    "red",
    "storage",
    "tank",
    "sports",
    "field",
    "building",
}


def unknown(expression):
    return tuple(word for word in re.findall(r"\w+|[^\w\s]", expression) if word not in TINY_WORDS)


def told(call, *arguments, **options):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call(*arguments, **options)
    return [str(one.message) for one in found if issubclass(one.category, RemoteSAMWarning)]


@pytest.mark.parametrize(
    ("prompt", "near"),
    [
        ("car", "vehicle"),
        ("truck", "vehicle"),
        ("oil tank", "storage tank"),
        ("football field", "sports field"),
        ("vehical", "vehicle"),
    ],
)
def test_a_word_that_the_model_lacks_names_the_nearest_that_it_knows(prompt, near):
    said = told(parse_prompts, prompt, template=CLASS_TEMPLATE, unknown_words=unknown)
    assert any(f"Did you mean {near!r}?" in text for text in said), said
    assert any("vehicle" in text and "storage tank" in text for text in said), said


def test_free_expressions_and_mappings_are_checked_as_well():
    for prompts in ("the red car", {"a": "the red car"}, {"a": ["the ship", "the red car"]}):
        (said,) = told(parse_prompts, prompts, unknown_words=unknown)
        assert "does not know 'car'" in said
        assert "'vehicle'" in said


def test_known_words_say_nothing():
    for prompts in ("vehicle", ["ship", "storage tank"], {"a": "the red ship in the image"}):
        assert not told(parse_prompts, prompts, template=CLASS_TEMPLATE, unknown_words=unknown)


@pytest.mark.parametrize("verb", ["segment", "detect", "count", "label", "classify", "caption"])
def test_tiny_says_what_it_knows(verb):
    tiny = RemoteSAM.from_pretrained("tiny")
    picture = np.zeros((64, 64, 3), np.uint8)
    with pytest.warns(RemoteSAMWarning, match="does not know 'car'.*'vehicle'"):
        getattr(tiny, verb)(picture, "car")
    assert not told(getattr(tiny, verb), picture, ["vehicle", "sports field"])


@pytest.mark.parametrize("text", ["building, vehicle", "building,vehicle", "building; vehicle"])
def test_several_classes_in_one_prompt_are_told_apart(text):
    (said,) = told(parse_prompts, text, template=CLASS_TEMPLATE, unknown_words=unknown)
    assert "['building', 'vehicle']" in said
    (said,) = told(parse_prompts, text)  # as a free expression, where both are known names
    assert "give a list" in said


def test_a_comma_in_a_sentence_is_no_list():
    assert not told(parse_prompts, "the ship, left of the pier")
    assert not told(parse_prompts, {"a": "a white ship, moored"}, template=CLASS_TEMPLATE)


@pytest.mark.parametrize(
    ("name", "metres", "window", "part"),
    [
        ("vehicle", 10, 896, "less than 2 pixels"),
        ("car", 3, 896, "less than 2 pixels"),
        ("swimming pool", 30, 896, "less than 2 pixels"),
        ("road", 60, 896, "less than 1 pixel"),
        ("airport", 0.25, 256, "resolution='auto'"),
        ("vehicle", 0.3, 896, None),
        ("building", 10, 896, None),
        ("road", 10, 896, None),
        ("river", 10, 896, None),
        ("forest", 0.25, 256, None),
        ("airport", 10, 896, None),
        ("thingamajig", 500, 896, None),
    ],
)
def test_sizes_that_do_not_fit_warn(name, metres, window, part):
    prompts = parse_prompts(name, template=CLASS_TEMPLATE)
    said = told(warn_of_sizes, prompts, metres=metres, window=window)
    assert len(said) == (part is not None), said
    assert part is None or part in said[0]


def test_sizes_are_checked_before_anything_is_read():
    def unread(block):
        raise AssertionError("a pixel was read")

    coarse = scene_of([], resolution=10).chunk(10)
    coarse = coarse.map(lambda band: band.copy(data=band.data.map_blocks(unread, dtype=np.uint8)))
    for verb in ("probabilities", "classmap"):
        with pytest.warns(RemoteSAMWarning, match="'vehicle' is typically 3 to 18 m long, less than 2"):
            getattr(MODEL, verb)(coarse, {"v": "red vehicle"})


def test_a_resolution_finer_than_the_scene_names_both():
    scene = scene_of([], resolution=10)
    with pytest.warns(
        RemoteSAMWarning, match=r"resolution=2.5 of 'field' is finer .* measure 10 m: it is predicted at"
    ):
        MODEL.segment(scene, {"field": "green field"}, resolution=2.5)
    for resolution in (10.0, 20, "native", "auto"):
        assert not told(MODEL.segment, scene, {"lit": "green field"}, resolution=resolution)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"min_score": 0.999}, r"found for 'red': min_score=0.999 removed 1"),
        ({"min_area": 1e6}, r"found for 'red': min_area \([\d,]+ pixels\) removed 1"),
        ({"threshold": 1.0}, "no probability is larger than threshold=1 of 'red'"),
        (
            {"refine": lambda images: np.full(images.shape[:3], 200, np.uint8)},
            "refine= left nothing",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["segment", "detect", "count", "caption"])
def test_what_removes_everything_is_named(verb, options, reason):
    with pytest.warns(RemoteSAMWarning, match=reason):
        getattr(MODEL, verb)(SCENE, "red", progress=False, **options)
    assert not told(getattr(MODEL, verb), SCENE, "red", progress=False)


def test_an_exclusive_choice_says_which_class_lost():
    scene = scene_of([(BAR, (180, 200, 20))])  # red and green at once, green more
    with pytest.warns(RemoteSAMWarning, match=r"pixels are above the threshold of 'red'.*exclusive"):
        MODEL.segment(scene, ["red", "green"], exclusive=True)


def test_suppression_that_empties_a_label_is_named():
    found = Survey(found=(), dropped={"red": Dropped(low_score=1, inner=1)})
    options = FeatureOptions(suppress="published")
    with pytest.warns(RemoteSAMWarning, match="2 components were found for 'red'.* and suppress"):
        warn_of_nothing(parse_prompts("red"), [found], options)


def test_scenes_without_a_valid_pixel_say_so():
    empty = SCENE.assign(valid=xr.zeros_like(SCENE.red))
    for verb in ("segment", "detect", "count", "label", "classify", "caption", "refer", "ground"):
        with pytest.warns(RemoteSAMWarning, match="no pixel that was looked at is valid"):
            getattr(MODEL, verb)(empty, "red", progress=False)


def test_nothing_there_is_no_reason_to_warn():
    bare = scene_of([])
    for verb in ("segment", "detect", "count", "label", "classify", "caption", "refer", "ground"):
        assert not told(getattr(MODEL, verb), bare, ["red", "green"], progress=False)
