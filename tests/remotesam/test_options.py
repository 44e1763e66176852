"""Options of the verbs: wrong values and combinations without a meaning are refused; nothing is ignored."""

import inspect
import itertools
from types import SimpleNamespace

import geopandas as gpd
import numpy as np
import pytest
import shapely
from PIL import Image

import remotesam_geo.accessor  # noqa: F401 - gives scenes their .remotesam
from remotesam_geo.errors import InputError, ModelError
from remotesam_geo.remotesam import RemoteSAM
from remotesam_geo.words import Prompt
from tests.campaign import CASES
from tests.remotesam.test_remotesam import BAR, RED, Colours, scene_of

MODEL = RemoteSAM(Colours())
SCENE = scene_of([(BAR, RED)], size=100)
PICTURE = np.zeros((40, 60, 3), np.uint8)
ZONES = gpd.GeoDataFrame(geometry=[shapely.box(500000, 4999900, 500100, 5000000)], crs=32633)
HELD = MODEL.probabilities(SCENE, "red").compute()
VERBS = (
    "segment",
    "refer",
    "detect",
    "ground",
    "label",
    "classify",
    "count",
    "caption",
    "probabilities",
    "classmap",
)
AREA = ZONES


def takes(verb, **options):
    return set(options) <= set(inspect.signature(getattr(MODEL, verb)).parameters)


# --- options that would have no effect -------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "options",
    [
        {"resolution": 3}, {"refine": lambda images: images}, {"bands": ["red", "green", "blue"]}, {"stretch": (0, 9)},
        {"view": "scene"}, {"overlap": 0.5}, {"seam": "paste"}, {"geometry": AREA}, {"tiles": True},
        {"on_error": "skip"},
    ],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_probabilities_take_no_option_of_their_making(verb, options):
    if verb in {"ground", "probabilities", "classmap"} or not takes(verb, **options):
        return
    with pytest.raises(InputError, match=rf"{next(iter(options))}=.* cannot be used here: .*probabilities"):
        getattr(MODEL, verb)(HELD, **options)


@pytest.mark.parametrize("verb", ["refer", "label", "classify", "caption"])
@pytest.mark.parametrize("view", ["scene", "zone"])
@pytest.mark.parametrize(
    "options",
    [{"resolution": 2}, {"overlap": 0.1}, {"seam": "paste"}, {"geometry": AREA}, {"tiles": True}],
)
def test_a_view_takes_no_option_of_windows(verb, view, options):
    if verb == "refer" and view == "zone":
        return
    zones = {"zones": ZONES} if view == "zone" else {}
    with pytest.raises(InputError, match=rf"{next(iter(options))}=.* cannot be used here: view="):
        getattr(MODEL, verb)(SCENE, "red", view=view, **zones, **options)


@pytest.mark.parametrize("verb", VERBS[:8])
@pytest.mark.parametrize(
    "options",
    [{"overlap": 0.1}, {"seam": "paste"}, {"on_error": "skip"}, {"geometry": AREA}, {"resolution": 2},
     {"crs": "EPSG:4326"}, {"bands": [3, 2, 1]}, {"stretch": (0, 9)}],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_pictures_take_no_option_of_scenes(verb, options):
    if takes(verb, **options):
        for picture in (PICTURE, Image.fromarray(PICTURE)):
            with pytest.raises(InputError, match=rf"{next(iter(options))}=.* cannot be used here"):
                getattr(MODEL, verb)(picture, "red", **options)


def test_prompts_with_a_resolution_need_a_map():
    prompt = Prompt(label="red", expressions=("red",), resolution=2)
    with pytest.raises(InputError, match=r"resolution=2\.0 of 'red' cannot be used here"):
        MODEL.ground(SCENE, prompt)
    with pytest.raises(InputError, match="a picture has no metres"):
        MODEL.detect(PICTURE, prompt)


def test_a_view_of_each_zone_needs_zones():
    with pytest.raises(InputError, match="give zones="):
        MODEL.label(SCENE, "red", view="zone")


# --- numbers ---------------------------------------------------------------------------------------

NUMBERS = {
    "threshold": (0, 1), "min_score": (0, 1), "min_area": (0, None), "overlap": (0, 0.5), "resolution": (0, None),
    "simplify": (0, None), "smooth": (0, 5), "balance": (0, 1),
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_finite_and_in_range(verb, name):
    if not takes(verb, **{name: 0}):
        return
    low, high = NUMBERS[name]
    wrong = [np.nan, np.inf, -np.inf, low - 1, True, np.bool_(True), "0.3", [0.3], 1j]
    wrong += [] if high is None else [high + 0.1]
    for value in wrong:
        with pytest.raises(InputError, match=name):
            getattr(MODEL, verb)(SCENE, "red", **{name: value})


# --- models ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (None, "no image_size and no identity and no predict"),
        ("tiny", r"RemoteSAM.from_pretrained\('tiny'\)"),
        (MODEL, "no image_size"),
        (Colours, "a class: give an object of it"),
        (SimpleNamespace(image_size=64, identity="a"), "no predict"),
        (SimpleNamespace(image_size=0, identity="a", predict=print), "image_size=0"),
        (SimpleNamespace(image_size=64.0, identity="a", predict=print), "image_size=64.0"),
        (SimpleNamespace(image_size=True, identity="a", predict=print), "image_size=True"),
        (SimpleNamespace(image_size=64, identity="", predict=print), "identity is ''"),
        (SimpleNamespace(image_size=64, identity=5, predict=print), "identity is 5"),
        (SimpleNamespace(image_size=64, identity="a", predict=5), "predict is no function"),
    ],
)
def test_what_is_no_model_is_named(model, message):
    with pytest.raises(InputError, match=message):
        RemoteSAM(model)


def test_the_accessor_takes_models_and_refuses_what_is_none():
    assert len(SCENE.remotesam(Colours()).detect("red")) == len(SCENE.remotesam(MODEL).detect("red")) == 1
    with pytest.raises(InputError, match="no image_size"):
        SCENE.remotesam(5)


@pytest.mark.parametrize("returned", [None, 5, np.zeros((1, 3, 3), np.uint8), np.zeros((1, 64, 64), np.float32)])
def test_a_contour_model_that_returns_no_codes_is_named(returned):
    for scene in (SCENE, PICTURE):
        with pytest.raises(ModelError, match="contour model"):
            MODEL.detect(scene, "red", refine=lambda _: returned, progress=False)


# --- campaign --------------------------------------------------------------------------------------

ODD = [
    None, True, False, 0, 1, -1, 2, 7, 0.3, 1.5, -0.5, 1e300, np.nan, np.inf, "", " ", "blend", "Blend", "scene",
    "zone", "map", "raise", "red", "native", "auto", "EPSG:4326", "EPSG:5703", "whole", "none", "contours", b"x", [],
    [1], ["red"], ("a", "b", "c"), {}, {"red": 0.5}, {"blue": 1}, {1, 2}, object(), np.zeros(3), np.float32(0.5),
    np.int64(2), np.datetime64("2021"), shapely.Point(15, 45), shapely.Polygon(), ZONES, ZONES.iloc[:0], SCENE, HELD,
    PICTURE, print, Prompt(label="red", expressions=("red",)), int, 10**400, complex(1, 1), range(3),
    Image.new("RGB", (9, 9)),
]  # fmt: skip


class AnyWord(Colours):
    """Knows every expression: that of an unknown colour as "any"."""

    def predict(self, images, expressions):
        known = ("red", "gre", "any")
        return super().predict(images, [e if e[:3] in known else "any" for e in expressions])


ANY = RemoteSAM(AnyWord())
SMALL = SCENE.isel(x=slice(0, 70), y=slice(0, 70))
SCENES = [SMALL, PICTURE, MODEL.probabilities(SMALL, "red").compute()]


def draw(dice):
    """A verb with a scene, a prompt, and one or two odd values for arguments of its own."""
    verb = VERBS[dice.integers(len(VERBS))]
    names = [name for name in inspect.signature(getattr(MODEL, verb)).parameters if name != "progress"]
    given = {"scene": SCENES[dice.integers(len(SCENES))], names[1]: "red", "progress": False}
    for name in dice.choice(names, 1 + (dice.random() < 0.2), replace=False):
        given[str(name)] = ODD[dice.integers(len(ODD))]
    if verb in {"probabilities", "classmap"}:
        given.pop("progress")
    return verb, given


@pytest.mark.filterwarnings("ignore")
def test_odd_arguments_end_in_a_result_or_an_error_of_ours(campaign):
    tried = campaign("Arguments", "odd values for one or two arguments of every verb")
    dice = np.random.default_rng(17)
    for _ in range(CASES):
        verb, given = draw(dice)

        def run(verb=verb, given=given):
            found = getattr(ANY, verb)(**given)
            assert found is not None

        try:
            tried.case(run)
        except AssertionError as error:
            shown = {name: f"{type(v).__name__} {v!r:.60}" for name, v in given.items()}
            raise AssertionError(f"{verb}({shown}): {error}") from error


def test_every_option_of_a_verb_is_tried():
    """The odd values are drawn for whatever arguments a verb has."""
    names = set(itertools.chain(*(inspect.signature(getattr(MODEL, verb)).parameters for verb in VERBS)))
    assert {"view", "seam", "suppress", "predicate", "zones", "crs", "refine", "simplify"} <= names
