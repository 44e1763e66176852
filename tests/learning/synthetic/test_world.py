"""Pictures of the procedural world: their truth is exact, and they hold what they promise."""

import collections
import dataclasses
import math

import cv2
import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from remotesam_geo.errors import InputError
from remotesam_geo.learning.synthetic import CLASSES, COLOURS, LANDCOVER, SENSORS, Sensor, scene
from remotesam_geo.learning.synthetic.camera import Light
from remotesam_geo.learning.synthetic.districts import DISTRICTS
from remotesam_geo.learning.synthetic.draw import draw, outlines
from remotesam_geo.learning.synthetic.layout import Layout, lay_out
from remotesam_geo.learning.synthetic.rasterize import fill
from remotesam_geo.learning.synthetic.site import Ground, SiteThing

MANY = [scene(seed) for seed in range(90)]


def by_gdal(polygons, values, shape):
    return rasterio.features.rasterize(zip(polygons, values, strict=True), shape, fill=0, dtype="int32")


# --- polygons to pixels ---------------------------------------------------------------------------

numbers = st.floats(-8, 30, allow_nan=False).map(lambda v: round(v, 6) + 1e-7 * math.pi)
rings = st.lists(st.tuples(numbers, numbers), min_size=3, max_size=9)


@given(st.lists(rings, min_size=1, max_size=5))
@settings(max_examples=120)
def test_any_polygon_fills_as_gdal_fills_it(polygons):
    out = np.zeros((20, 24), np.int32)
    fill(
        out,
        np.concatenate([np.array(p) for p in polygons]),
        np.array([len(p) for p in polygons]),
        np.arange(len(polygons)),
        np.arange(1, len(polygons) + 1, dtype=np.int32),
    )
    expected = by_gdal(
        [{"type": "Polygon", "coordinates": [[*p, p[0]]]} for p in polygons],
        range(1, len(polygons) + 1),
        out.shape,
    )
    assert (out == expected).all()


@given(st.floats(0.11, 4.9), st.floats(5.1, 9.9))
def test_a_ring_in_a_ring_is_a_hole(inner, outer):
    assume(inner % 0.5 and outer % 0.5)  # level edges through centres
    polygon = shapely.box(10 - outer, 10 - outer, 10 + outer, 10 + outer).difference(
        shapely.box(10 - inner, 10 - inner, 10 + inner, 10 + inner)
    )
    parts = [np.array(r.coords)[:-1] for r in (polygon.exterior, *polygon.interiors)]
    out = np.zeros((20, 20), np.int32)
    sizes = np.array([len(p) for p in parts])
    fill(out, np.concatenate(parts), sizes, np.array([0, 0]), np.array([1], np.int32))
    assert (out == by_gdal([polygon], [1], out.shape)).all()


def test_nothing_to_fill_changes_nothing():
    out = np.full((3, 3), 7)
    fill(out, np.zeros((0, 2)), np.zeros(0, int), np.zeros(0, int), np.zeros(0, int))
    line = np.array([(0.0, 1.2), (3.0, 1.3), (1.0, 1.4)])  # between two rows of centres
    fill(out, line, np.array([3]), np.array([0]), np.array([1]))
    assert (out == 7).all()


# --- truth ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [96, 256, 301])
def test_polygons_rasterise_to_the_masks_exactly(size):
    for seed in range(15):
        picture = scene(seed, size)
        for one in picture.instances:
            mask = by_gdal([one.polygon], [1], picture.labels.shape)
            assert (mask == picture.mask((one,))).all()
            assert one.polygon.is_valid


def test_instances_say_what_their_masks_show():
    for picture in MANY:
        size = picture.rgb.shape[0]
        assert [i.id for i in picture.instances] == list(range(1, len(picture.instances) + 1))
        assert picture.labels.max(initial=0) == len(picture.instances)
        for one in picture.instances:
            rows, columns = np.nonzero(picture.labels == one.id)
            assert one.pixels == len(rows)
            assert one.box == (
                columns.min(),
                rows.min(),
                columns.max() + 1,
                rows.max() + 1,
            )
            assert one.cut == (not shapely.box(0, 0, size, size).covers(one.polygon))
            assert one.colour in CLASSES[one.name].colour_names
            sides = sorted(_sides(one.polygon), reverse=True)
            if one.name == "storage tank":
                assert sides == pytest.approx([one.across] * 2, rel=0.02)
            if one.name in ("tennis court", "building", "vehicle"):
                expected = [one.across, one.width / picture.resolution]
                assert sides == pytest.approx(expected, rel=0.02)


def _sides(polygon):
    corners = np.array(shapely.oriented_envelope(polygon).exterior.coords)
    return np.linalg.norm(np.diff(corners[:3], axis=0), axis=1)


def test_objects_touch_but_never_overlap_and_never_leave_their_district():
    touching = 0
    for seed in range(90):
        for leaf in Layout(seed=seed).block(0, 0):
            things = [t for t in lay_out(leaf)[0] if t.kind in CLASSES]
            if not things:
                continue
            vertices, sizes = outlines(things)
            some = [shapely.Polygon(r) for r in np.split(vertices, np.cumsum(sizes)[:-1])]
            ground = shapely.box(leaf.x0, leaf.y0, leaf.x1, leaf.y1).buffer(1e-9)
            assert all(ground.covers(p) for p in some)
            for a, b in shapely.STRtree(some).query(some, "dwithin", 0.05).T:
                if a < b:
                    assert some[a].intersection(some[b]).area < 1e-6, (leaf, things[a], things[b])
                    touching += 1
    assert touching > 20


def test_land_cover_fits_what_stands_on_it():
    under = collections.defaultdict(collections.Counter)
    for picture in MANY:
        assert set(np.unique(picture.landcover)) <= set(LANDCOVER.values())
        for name in CLASSES:
            under[name].update(picture.landcover[picture.mask(name)].tolist())
    share = {
        name: {cover: count[code] / count.total() for cover, code in LANDCOVER.items()} for name, count in under.items()
    }
    assert share["airplane"]["built-up"] == 1
    assert share["ship"]["water"] + share["ship"]["sand"] > 0.999
    assert share["harbor"]["water"] > 0.95
    assert share["vehicle"]["water"] < 0.001
    assert share["tree"]["water"] + share["tree"]["road"] < 0.01
    assert all(sum(s[cover] for s in share.values()) > 0 for cover in LANDCOVER)


# --- what there is to see -------------------------------------------------------------------------


def test_every_colour_of_a_class_is_shared_with_another():
    for kind in CLASSES.values():
        others = {c for k in CLASSES.values() if k is not kind for c in k.colour_names}
        assert set(kind.colour_names) <= others & set(COLOURS)


def test_classes_sizes_and_borders_are_mixed():
    instances = [one for picture in MANY for one in picture.instances]
    across = np.array([one.across for one in instances])
    assert 0.5 <= (across < 24).mean() <= 0.75
    assert across.max() > 200
    for name in CLASSES:
        assert sum(bool(picture.of(name)) for picture in MANY) > 5
    assert 0.05 < np.mean([one.cut for one in instances]) < 0.4
    assert np.mean([len(picture.instances) > 25 for picture in MANY]) > 0.15  # crowds


def test_look_alikes_are_on_no_list():
    clutter = collections.Counter(
        t.kind
        for seed in range(40)
        for leaf in Layout(seed=seed).block(0, 0)
        for t in lay_out(leaf)[0]
        if t.kind not in CLASSES
    )
    assert set(clutter) == {"slab", "container", "panel", "disc", "mark", "blob"}
    assert min(clutter.values()) > 2
    assert clutter.total() > 300


def test_objects_lie_in_any_direction():
    edges = [one.outline[1] - one.outline[0] for picture in MANY for one in picture.of("building")]
    angles = np.array([math.atan2(y, x) for x, y in edges]) % (math.pi / 2)
    counts = np.histogram(angles, 6, (0, math.pi / 2))[0]
    assert counts.min() > 0.04 * len(angles)


def test_resolution_and_size_are_what_is_asked():
    near, far = scene(3, 128, 0.2), scene(3, 128, 0.4)
    assert near.rgb.shape == (128, 128, 3)
    assert (near.resolution, far.resolution) == (0.2, 0.4)
    drawn = [picture.resolution for picture in MANY]
    low, high = SENSORS["standard"].resolution
    assert low <= min(drawn) < low + 0.03
    assert high - 0.03 < max(drawn) <= high


def test_the_heldout_sensor_shares_no_blur_noise_or_resolution_with_training():
    usual, held = SENSORS["standard"], SENSORS["heldout"]
    assert usual.training
    assert not held.training
    for name in ("resolution", "blur", "noise"):
        assert getattr(usual, name)[1] < getattr(held, name)[0]
    picture = scene(5, sensor="heldout")
    assert picture.sensor == "heldout"
    assert 0.32 <= picture.resolution <= 0.40


def test_the_same_seed_gives_the_same_picture_whatever_was_made_before():
    first = scene(77)
    lay_out.cache_clear()
    scene(78)
    again = scene(77)
    for name in ("rgb", "labels", "landcover"):
        assert (getattr(first, name) == getattr(again, name)).all()
    assert (scene(78).rgb != first.rgb).mean() > 0.5


@pytest.mark.parametrize("theme", sorted(DISTRICTS))
def test_a_theme_is_found(theme):
    expected = {
        "airport": "airplane", "beach": "tree", "farmland": "tree", "harbour": "harbor", "lake": "ship",
        "industrial": "building", "parking": "vehicle", "residential": "building", "sports": "sports field",
        "tanks": "storage tank", "woodland": "tree", "works": "vehicle",
    }[theme]  # fmt: skip
    assert sum(bool(scene(s, theme=theme).of(expected)) for s in range(8)) >= 3


def test_mistakes_are_named():
    with pytest.raises(InputError, match=r"'best' is not known.*standard"):
        scene(1, sensor="best")
    with pytest.raises(InputError, match=r"'moon' is not known.*airport"):
        scene(1, theme="moon")
    with pytest.raises(InputError, match=r"1 to 1024 pixels, not 2000; World"):
        scene(1, 2000)
    with pytest.raises(InputError, match=r"'plane' is no class.*airplane"):
        scene(1).mask("plane")


# --- light ----------------------------------------------------------------------------------------

CLEAR = Light(sun=0.0, slant=1.0, shade=0.5, blur=0.01, noise=0, haze=0, gains=(1, 1, 1), gamma=1)
CORNERS = np.array([(-50.0, -50), (50, -50), (50, 50), (-50, 50)])
FLOOR = Ground(LANDCOVER["built-up"], (150, 150, 150), CORNERS, np.array([4]), True)


def block(x, y, side, height, ident=1):
    return SiteThing(ident, "building", "grey", (150, 150, 150), x, y, 0, side, side, height, 2)


def seen(things, light=CLEAR):
    """40 x 40 m at half a metre, x right and y down as on the plane."""
    to_plane = np.array([(0.5, 0, -20), (0, 0.5, -20)])
    return draw(
        things, [FLOOR], to_pixels=lambda p: (p + 20) * 2, to_plane=to_plane, shape=(80, 80),
        light=light, noise=1,
    )  # fmt: skip


def brightness(rgb, x0, x1, y0, y1):
    return rgb[2 * (20 + y0) : 2 * (20 + y1), 2 * (20 + x0) : 2 * (20 + x1)].mean()


def test_shadow_lies_away_from_the_sun_as_long_as_things_are_tall():
    rgb = seen([block(0, 0, 4, 10)]).rgb  # light from the right, at 45 degrees
    lit, dark = brightness(rgb, 4, 12, -2, 2), brightness(rgb, -11, -3, -1, 1)
    assert dark < 0.6 * lit
    assert brightness(rgb, -20, -13, -2, 2) > 0.9 * lit
    assert brightness(rgb, -11, -3, 4, 10) > 0.9 * lit


def test_shadow_falls_on_lower_things_and_not_on_taller_ones():
    low = seen([block(0, 0, 4, 10), block(-6, 0, 4, 3, 2)]).rgb
    tall = seen([block(0, 0, 4, 10), block(-6, 0, 4, 14, 2)]).rgb
    alone = seen([block(-6, 0, 4, 14, 2)]).rgb
    assert brightness(low, -7, -5, -1, 1) < 0.7 * brightness(alone, -7, -5, -1, 1)
    assert brightness(tall, -7, -5, -1, 1) == pytest.approx(brightness(alone, -7, -5, -1, 1))


def test_haze_brightens_the_dark_blur_smooths_and_noise_shakes():
    def change(**values):
        return seen([block(0, 0, 4, 10)], dataclasses.replace(CLEAR, **values)).rgb.astype(float)

    plain = change()
    assert change(haze=0.3)[plain < 90].mean() > plain[plain < 90].mean() + 20
    assert np.abs(np.diff(change(blur=1.2), axis=1)).mean() < 0.8 * np.abs(np.diff(plain, axis=1)).mean()
    assert (change(noise=8) - plain).std() == pytest.approx(8, rel=0.1)
    assert change(gains=(0.5, 0.5, 0.5)).mean() == pytest.approx(plain.mean() / 2, rel=0.02)


@pytest.mark.parametrize("turn", [0.3, 1.1, 2.5])
def test_painted_objects_lie_where_their_masks_are(turn):
    thing = block(3.13, -2.41, 8.2, 0.1)._replace(angle=turn, rgb=(240, 240, 240))
    drawn = seen([thing], dataclasses.replace(CLEAR, blur=0.5))
    bright, mask = drawn.rgb[..., 1] > 190, drawn.owner > 0
    overlap = {}
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            moved = np.roll(bright, (dy, dx), (0, 1))
            overlap[dx, dy] = (moved & mask).sum() / (moved | mask).sum()
    assert max(overlap, key=overlap.__getitem__) == (0, 0)
    assert overlap[0, 0] > 0.85


# --- difficulty -----------------------------------------------------------------------------------


def test_pixels_alone_do_not_tell_the_class():
    """A logistic regression on colours and 7 x 7 statistics stays far under 0.40 mean IoU."""
    names = list(CLASSES)

    def features(rgb):
        x = rgb.astype(np.float32) / 255
        mean = cv2.blur(x, (7, 7))
        spread = np.sqrt(np.maximum(cv2.blur(x * x, (7, 7)) - mean * mean, 0))
        flat = np.concatenate([x, mean, spread], -1).reshape(-1, 9)
        return np.column_stack([flat, np.ones(len(flat), np.float32)])

    def target(picture):
        codes = np.array([0] + [1 + names.index(i.name) for i in picture.instances])
        return codes[picture.labels].ravel()

    dice = np.random.default_rng(0)
    train = [(features(p.rgb), target(p)) for p in MANY[:50]]
    picks = [dice.choice(len(t), 400, replace=False) for _, t in train]
    x = np.concatenate([f[k] for (f, _), k in zip(train, picks, strict=True)]).astype(np.float64)
    y = np.concatenate([t[k] for (_, t), k in zip(train, picks, strict=True)])
    centre, scale = x[:, :9].mean(0), x[:, :9].std(0)
    x[:, :9] = (x[:, :9] - centre) / scale
    weight = np.bincount(y, minlength=11) ** -0.5
    hot = np.eye(11)[y]

    def loss(flat):
        logits = x @ flat.reshape(10, 11)
        logits -= logits.max(1, keepdims=True)
        p = np.exp(logits)
        p /= p.sum(1, keepdims=True)
        w = weight[y] / weight[y].sum()
        value = -(w * np.log(p[np.arange(len(y)), y] + 1e-12)).sum()
        return value, (x.T @ ((p - hot) * w[:, None])).ravel()

    found = minimize(loss, np.zeros(110), jac=True, method="L-BFGS-B", options={"maxiter": 30})
    ious = []
    for picture in MANY[60:]:
        f = features(picture.rgb)
        f[:, :9] = (f[:, :9] - centre) / scale
        answer, truth = (f @ found.x.reshape(10, 11)).argmax(1), target(picture)
        for k in set(truth.tolist()) - {0}:
            a, t = answer == k, truth == k
            ious.append((a & t).sum() / (a | t).sum())
    assert 0.02 < np.mean(ious) < 0.30


def test_a_sensor_of_ones_own_is_taken():
    sharp = Sensor(name="sharp", resolution=(0.3, 0.3), noise=(0, 0), haze=(0, 0))
    picture = scene(2, sensor=sharp)
    assert (picture.sensor, picture.resolution) == ("sharp", pytest.approx(0.3))
