"""Grids and outlines in any CRS, at any place: a planted object is found where it was, as large as it was."""

import warnings

import geopandas as gpd
import numpy as np
import pytest
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from pyproj import CRS, Geod, Transformer

from remotesam_geo import RemoteSAM
from remotesam_geo.errors import InputError, RemoteSAMWarning
from remotesam_geo.geo.crs import body_of
from remotesam_geo.geo.ground import ground_area, pixel_size, plan_geobox
from remotesam_geo.geo.reproject import carry
from remotesam_geo.outputs.vectors import in_degrees
from remotesam_geo.raster.warp import warp
from tests.campaign import CASES

# Pixels of a kilometre are right here: what is planted is no building.
pytestmark = pytest.mark.filterwarnings("ignore:.*is typically:remotesam_geo.errors.RemoteSAMWarning")

WGS84 = Geod(ellps="WGS84")


class Bright:
    """Answers 1 where a picture is bright."""

    image_size = 64
    identity = "bright"

    def predict(self, images, expressions):
        codes = np.where(images[..., 0] > 127, 200, 0).astype(np.uint8)
        return np.repeat(codes[:, None], len(expressions), axis=1)


MODEL = RemoteSAM(Bright())


def scene_on(geobox, bright):
    """A grey scene with bright pixels."""
    level = np.where(bright, 255, 60).astype(np.uint8)
    coords = xr_coords(geobox)
    bands = {name: xr.DataArray(level, dims=geobox.dimensions, coords=coords) for name in ("red", "green", "blue")}
    return xr.Dataset(bands)


# For each CRS x, y of the middle of a scene, and its largest side, from a random generator.
PLACES = {
    "EPSG:4326": lambda r: (r.uniform(-180, 180), r.uniform(-89, 89), 10 ** r.uniform(-3, 1.3)),
    "EPSG:4267": lambda r: (r.uniform(-130, -60), r.uniform(25, 60), 10 ** r.uniform(-3, 0.5)),
    "EPSG:4807": lambda r: (r.uniform(-5, 5), r.uniform(47, 55), 10 ** r.uniform(-3, 0.3)),
    "EPSG:3857": lambda r: (r.uniform(-2e7, 2e7), r.uniform(-3e7, 3e7), 10 ** r.uniform(2, 5)),
    "EPSG:32633": lambda r: (r.uniform(2e5, 8e5), r.uniform(0, 9e6), 10 ** r.uniform(2, 5)),
    "EPSG:3413": lambda r: (r.uniform(-2e6, 2e6), r.uniform(-2e6, 2e6), 10 ** r.uniform(2, 6)),
    "EPSG:3031": lambda r: (r.uniform(-1e5, 1e5), r.uniform(-1e5, 1e5), 10 ** r.uniform(4, 6)),
    "EPSG:3035": lambda r: (r.uniform(3e6, 6e6), r.uniform(2e6, 5e6), 10 ** r.uniform(2, 6)),
    "EPSG:2193": lambda r: (r.uniform(1.1e6, 2e6), r.uniform(4.8e6, 6e6), 10 ** r.uniform(2, 5)),
    "EPSG:2263": lambda r: (r.uniform(9e5, 1e6), r.uniform(1e5, 2e5), 10 ** r.uniform(3, 5)),
    "EPSG:6933": lambda r: (r.uniform(-1.7e7, 1.7e7), r.uniform(-7e6, 7e6), 10 ** r.uniform(3, 5.5)),
    "ESRI:54009": lambda r: (r.uniform(-1.7e7, 1.7e7), r.uniform(-9e6, 9e6), 10 ** r.uniform(3, 6)),
    "+proj=sinu +R=6371007.181": lambda r: (
        r.uniform(-2e7, 2e7), r.uniform(-1e7, 1e7), 10 ** r.uniform(3, 6),
    ),
    "+proj=geos +h=35785831 +lon_0=140": lambda r: (
        r.uniform(-5.5e6, 5.5e6), r.uniform(-5.5e6, 5.5e6), 10 ** r.uniform(4, 7),
    ),
    "+proj=ortho +lat_0=50 +lon_0=10": lambda r: (
        r.uniform(-6.4e6, 6.4e6), r.uniform(-6.4e6, 6.4e6), 10 ** r.uniform(4, 7),
    ),
    "+proj=igh": lambda r: (r.uniform(-2e7, 2e7), r.uniform(-8e6, 8e6), 10 ** r.uniform(4, 6.5)),
    "+proj=eqc": lambda r: (r.uniform(-2e7, 2e7), r.uniform(-9e6, 9e6), 10 ** r.uniform(3, 6)),
    "IAU_2015:30100": lambda r: (r.uniform(-180, 180), r.uniform(-88, 88), 10 ** r.uniform(-2, 1)),
    "IAU_2015:30135": lambda r: (r.uniform(-1e5, 1e5), r.uniform(-1e5, 1e5), 10 ** r.uniform(3, 5)),
    "IAU_2015:49910": lambda r: (r.uniform(-9e6, 9e6), r.uniform(-4e6, 4e6), 10 ** r.uniform(3, 5)),
}  # fmt: skip


def drawn(rng):
    """A grid somewhere in one of the CRSs."""
    name = list(PLACES)[rng.integers(len(PLACES))]
    x, y, side = PLACES[name](rng)
    pixels = int(rng.integers(36, 64))
    step = side / pixels
    turn = Affine.rotation(rng.uniform(0, 90)) if rng.random() < 0.1 else Affine.identity()
    flip = 1 if rng.random() < 0.1 else -1
    affine = Affine(step, 0, x - side / 2, 0, flip * step, y - flip * side / 2) * turn
    return GeoBox((pixels, int(pixels * rng.uniform(0.6, 1.4))), affine, name)


def true_area(shape, crs):
    """Area on the ellipsoid by pyproj alone, along edges split in 40."""
    body = body_of(crs)
    to = Transformer.from_crs(crs, body.degrees, always_xy=True)
    step = max(shape.bounds[2] - shape.bounds[0], shape.bounds[3] - shape.bounds[1]) / 40
    fine = shapely.segmentize(shape, step)
    degrees = shapely.transform(fine, lambda xy: np.stack(to.transform(*xy.T), axis=1))
    return sum(
        abs(body.geod.geometry_area_perimeter(shapely.Polygon(part.exterior))[0])
        - sum(abs(body.geod.geometry_area_perimeter(shapely.Polygon(hole))[0]) for hole in part.interiors)
        for part in shapely.get_parts([degrees])
    )


def check_whole(table):
    """No geometry is missing, empty or infinite, and no area is NaN."""
    assert not table.geometry.isna().any()
    assert not table.geometry.is_empty.any()
    assert np.isfinite(table.total_bounds).all() or table.empty
    assert np.isfinite(table["area_m2"]).all()
    assert (table["area_m2"] > 0).all()
    assert table.geometry.is_valid.all()


def quiet(work, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RemoteSAMWarning)
        return work(*args, **kwargs)


def one_object(rng):
    """Detect a planted object on some grid: it lies where it was planted, and its area is true."""
    geobox = drawn(rng)
    height, width = geobox.shape.yx
    h, w = (int(rng.integers(8, 20)) for _ in range(2))
    top, left = int(rng.integers(1, height - h - 1)), int(rng.integers(1, width - w - 1))
    bright = np.zeros((height, width), bool)
    bright[top : top + h, left : left + w] = True
    scene = scene_on(geobox, bright)
    native = pixel_size(geobox).metres
    resolution = "native" if rng.random() < 0.6 else native * rng.uniform(1.0, 1.5)
    crs = CRS.from_user_input(str(geobox.crs))
    planted = shapely.transform(
        shapely.box(left, top, left + w, top + h),
        lambda xy: np.stack(geobox.affine * tuple(xy.T), axis=1),
    )
    table = quiet(MODEL.segment, scene, "building", resolution=resolution, details=True)
    check_whole(table)
    assert table.crs == crs
    whole = quiet(carry, np.array([planted], object), crs, crs, pixel=geobox.resolution.x)
    if whole.cut[0]:
        return  # it reaches beyond where its CRS is defined: what is left was checked
    assert len(table) >= 1
    for shape, area in zip(table.geometry, table["area_m2"], strict=True):
        assert area == pytest.approx(true_area(shape, crs), rel=0.01)
    body = body_of(crs)
    to = Transformer.from_crs(crs, body.degrees, always_xy=True)
    biggest = table.geometry[table["area_m2"].idxmax()]
    at, there = (to.transform(*shape.centroid.coords[0]) for shape in (biggest, planted))
    steps = table["resolution"].iloc[0]
    local = np.sqrt(true_area(planted, crs) / (h * w))
    assert body.geod.inv(*at, *there)[2] <= 1.5 * max(steps, local)
    # Along its outline a pixel may go either way.
    share = 2.2 * (h + w) * max(1.0, steps / local) / (h * w)
    assert table["area_m2"].sum() == pytest.approx(true_area(planted, crs), rel=max(0.01, share))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_objects_are_found_where_they_are_in_any_crs(campaign):
    tried = campaign("Grids and CRSs", "an object planted on a random grid of 20 CRSs, then found")
    for case in range(CASES // 4):  # each is a whole detection
        tried.case(lambda case=case: one_object(np.random.default_rng((17, case))))


TARGETS = [
    "EPSG:4326", "EPSG:3857", "EPSG:3413", "EPSG:3031", "EPSG:32601", "EPSG:6933", "ESRI:54009", "EPSG:3035",
    "+proj=sinu", "+proj=igh", "+proj=geos +h=35785831 +lon_0=0", "+proj=ortho +lat_0=-20 +lon_0=170",
    "+proj=lcc +lat_1=30 +lat_2=60 +lon_0=100", "+proj=gnom +lat_0=90",
]  # fmt: skip


def one_outline(rng):
    """Carry polygons to another CRS: finite, valid, and as large as what is kept of them."""
    geobox = drawn(rng)
    while "IAU" in str(geobox.crs):
        geobox = drawn(rng)
    target = CRS.from_user_input(TARGETS[rng.integers(len(TARGETS))])
    source = CRS.from_user_input(str(geobox.crs))
    place = rng.uniform(0, np.array(geobox.shape.xy), (4, 2))
    size = 10 ** rng.uniform(0, 1.5, (4, 1))
    shapes = [shapely.Point(*xy).buffer(*s, quad_segs=2) for xy, s in zip(place, size, strict=True)]
    shapes[0] = shapely.box(*shapes[0].bounds) - shapely.Point(*place[0]).buffer(size[0, 0] / 3)
    shapes[1] = shapely.MultiPolygon([shapes[1], shapely.box(*(place[1] + 40), *(place[1] + 45))])
    shapes = shapely.transform(np.array(shapes, object), lambda xy: np.stack(geobox.affine * tuple(xy.T), axis=1))
    side = np.sqrt(abs(geobox.affine.determinant))
    middle = float(rng.uniform(-180, 180)) if target.is_geographic else None
    done = carry(shapes, source, target, pixel=side, middle=middle)
    some = done.some
    placed, kept = done.placed[some], done.kept[some]
    assert not shapely.is_empty(placed).any()
    assert np.isfinite(shapely.get_coordinates(placed)).all()
    assert shapely.is_valid(placed).all()
    areas, truth = ground_area(placed, target), ground_area(kept, source)
    assert np.isfinite(areas).all()
    # Up to what a pixel's outline holds, which is what edges may miss.
    # Beside the rim of a disk little of a pixel is much ground.
    share = 0.15 if any(rim in str(geobox.crs) for rim in ("geos", "ortho")) else 0.01
    slack = share * truth + 1.0 * truth / np.maximum(shapely.area(kept) / side**2, 1e-9) ** 0.5
    near = np.abs(shapely.bounds(placed)).max(axis=1) < 5e7  # not beside a pole that lies at infinity
    assert (np.abs(areas - truth) <= slack)[near].all()
    lost = (shapely.area(shapes[some]) - shapely.area(kept)) / shapely.area(shapes[some])
    assert (done.cut[some] | (lost <= 0.0101)).all()


def test_outlines_in_any_crs_are_finite_and_as_large_as_they_were(campaign):
    tried = campaign("Outlines in any CRS", "polygons of 17 CRSs carried to 14 others, over poles and seams")
    for case in range(CASES // 2):
        tried.case(lambda case=case: one_outline(np.random.default_rng((23, case))))


def one_plan(rng):
    """Plan a raster in degrees of any extent: pixels measure what was asked within 1 %, or it is refused."""
    width = 360.0 if rng.random() < 0.1 else 10 ** rng.uniform(-1, np.log10(360))
    height = min(10 ** rng.uniform(-1, 2.25), 180.0)
    step = max(width, height) / int(rng.integers(20, 400))
    shape = max(1, round(height / step)), max(1, round(width / step))
    height, width = shape[0] * step, shape[1] * step
    if height > 180 or width > 360:
        shape, step = (18, 36), 10.0
        height, width = 180.0, 360.0
    west, north = rng.uniform(-180, 180), rng.uniform(-90 + height, 90)
    box = GeoBox(shape, Affine(step, 0, west, 0, -step, north), "EPSG:4326")
    wanted = min(step * 111_000 * 10 ** rng.uniform(-0.3, 0.7), 5e4)
    plan = plan_geobox(box, wanted)
    to_degrees = Transformer.from_crs(str(plan.crs), "EPSG:4326", always_xy=True)
    share = np.linspace(1e-6, 1 - 1e-6, 15)
    lon, lat = (v.ravel() for v in np.meshgrid(west + share * width, north - share * height))
    x, y = (np.array(v) for v in to_degrees.transform(lon, lat, direction="INVERSE"))
    if plan.crs == box.crs:
        x = lon
    col, row = ~plan.affine * (x, y)
    assert (col > -1).all()
    assert (row > -1).all()
    assert (col < plan.shape.x + 1).all()
    assert (row < plan.shape.y + 1).all()
    inner = (abs(share - 0.5) < 0.45)[None, :] & (abs(share - 0.5) < 0.45)[:, None]
    a, e = plan.affine.a, plan.affine.e
    sides = []
    for dx, dy in ((a / 20, 0), (0, e / 20)):
        one, other = to_degrees.transform(x - dx, y - dy), to_degrees.transform(x + dx, y + dy)
        sides.append(WGS84.inv(*one, *other)[2][inner.ravel()] * 10)
    across, down = np.array(sides) / wanted
    if plan.crs == box.crs:  # its own grid: square within a tenth, of the wanted size
        np.testing.assert_allclose(np.sqrt(across * down), 1, rtol=0.01)
        assert (abs(across / down - 1) < 0.11).all()
    else:
        np.testing.assert_allclose([across, down], 1, rtol=0.01)


def test_pixels_of_plans_are_true_within_a_hundredth(campaign):
    tried = campaign("Rasters of any extent", "plans for boxes in degrees, 0.1 to 360 degrees wide")
    for case in range(CASES // 2):
        tried.case(lambda case=case: one_plan(np.random.default_rng((29, case))))


GEOS = "+proj=geos +h=35785831 +lon_0=0"


def test_a_full_disk_gives_no_empty_outlines():
    """Bright places on the disk, at its rim and beside it: those beside it are no data, at the rim they are cut."""
    geobox = GeoBox.from_bbox((-5.6e6, -5.6e6, 5.6e6, 5.6e6), crs=GEOS, resolution=56_000)
    bright = np.zeros(geobox.shape, bool)
    for row, col in (
        (100, 100),
        (20, 60),
        (60, 30),
        (5, 100),
        (100, 5),
        (150, 180),
        (2, 2),
        (190, 190),
        (100, 196),
    ):
        bright[row : row + 4, col : col + 4] = True
    with pytest.warns(RemoteSAMWarning) as told:
        table = MODEL.detect(scene_on(geobox, bright), "building")
    texts = [str(warning.message) for warning in told]
    assert any("its own grid is taken" in text for text in texts)
    assert any("features reach beyond where" in text for text in texts)
    check_whole(table)
    assert 5 <= len(table) <= 8
    for crs in ("EPSG:4326", "EPSG:3857", "EPSG:3413"):
        carried = quiet(MODEL.segment, scene_on(geobox, bright), "building", crs=crs)
        check_whole(carried)
        assert len(carried) >= 5
    zones = quiet(MODEL.count, scene_on(geobox, bright), "building")
    assert not zones.geometry.is_empty.any()
    assert np.isfinite(zones.total_bounds).all()


def test_features_without_a_place_in_the_wanted_crs_are_named():
    """Half of the raster lies behind the Earth of the wanted view."""
    geobox = GeoBox.from_bbox((60, -5, 120, 5), crs="EPSG:4326", resolution=0.25)
    bright = np.zeros(geobox.shape, bool)
    bright[10:14, 20:24] = bright[10:14, 200:204] = bright[20:24, 118:126] = True
    view = "+proj=ortho +lat_0=0 +lon_0=0"
    with pytest.warns(RemoteSAMWarning) as told:
        table = MODEL.segment(scene_on(geobox, bright), "building", crs=view)
    check_whole(table)
    assert len(table) == 2
    texts = [str(warning.message) for warning in told]
    assert any("1 features lie where" in text and "left out" in text for text in texts)
    assert any("1 features reach beyond where" in text and "were cut" in text for text in texts)
    with pytest.raises(InputError, match="no part of the scene lies where crs="):
        MODEL.segment(scene_on(geobox, bright), "building", crs="+proj=ortho +lat_0=0 +lon_0=-90")


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:6933", "+proj=igh"])
def test_a_feature_over_the_pole_keeps_its_area(crs):
    geobox = GeoBox.from_bbox((-2e5, -2e5, 2e5, 2e5), crs="EPSG:3413", resolution=4000)
    bright = np.zeros(geobox.shape, bool)
    bright[40:60, 40:60] = bright[80:90, 10:20] = True
    own = MODEL.segment(scene_on(geobox, bright), "building")
    table = quiet(MODEL.segment, scene_on(geobox, bright), "building", crs=crs)
    check_whole(table)
    np.testing.assert_allclose(sorted(table["area_m2"]), sorted(own["area_m2"]), rtol=0.01)
    if crs == "EPSG:4326":
        over = table.geometry[table["area_m2"].idxmax()]
        assert over.bounds[2] - over.bounds[0] == pytest.approx(360, abs=0.5)
        assert over.bounds[3] > 89.9


def test_a_feature_across_the_antimeridian_is_cut_where_a_map_ends():
    geobox = GeoBox.from_bbox((6.9e5, 5e6, 7.9e5, 5.05e6), crs="EPSG:32660", resolution=500)
    bright = np.zeros(geobox.shape, bool)
    bright[20:60, 50:120] = True
    scene = scene_on(geobox, bright)
    (area,) = MODEL.segment(scene, "building")["area_m2"]
    for crs, parts in (("EPSG:4326", 1), ("EPSG:3857", 2), ("EPSG:32601", 1), ("+proj=sinu", 2)):
        table = MODEL.segment(scene, "building", crs=crs)
        check_whole(table)
        assert table["area_m2"].iloc[0] == pytest.approx(area, rel=0.01)
        assert len(shapely.get_parts(table.geometry.iloc[0])) == parts


def test_a_raster_with_no_plane_is_refused_with_what_to_do():
    box = GeoBox.from_bbox((-180, -80, 180, 80), crs="EPSG:4326", resolution=1)
    for resolution in ("native", 20_000):
        with pytest.raises(InputError, match=r"longitudes -180 to 180.*ask smaller parts, load\(..., bbox=...\)"):
            plan_geobox(box, resolution)


def test_a_pixel_larger_than_the_raster_is_refused():
    box = GeoBox.from_bbox((5e5, 0, 5.01e5, 500), crs="EPSG:32633", resolution=10)
    assert plan_geobox(box, 900).shape == (1, 2)
    for resolution in (1001, 1e7, 1e300):
        with pytest.raises(InputError, match=r"is coarser than the whole raster, about 1,00"):
            plan_geobox(box, resolution)


def test_wide_rasters_keep_their_pixels():
    """350 degrees around the globe: Mercator at the equator, a cone farther north, a plane at the pole."""
    for south, north, kind in ((25, 30, "lcc"), (-30, 11, None), (75, 90, "stere")):
        box = GeoBox.from_bbox((-175, south, 175, north), crs="EPSG:4326", resolution=0.5)
        if kind is None:
            with pytest.raises(InputError, match="no projection"):
                plan_geobox(box, 50_000)
            continue
        plan = plan_geobox(box)
        assert f"+proj={kind}" in str(plan.crs)
        ground = 350 / 360 * 2 * np.pi * 6371**2 * (np.sin(np.radians(north)) - np.sin(np.radians(south)))
        inside = plan.shape.x * plan.shape.y * pixel_size(plan).metres ** 2 / 1e6
        assert inside > ground


def test_other_planets_are_measured_on_their_own_ellipsoid():
    step = 0.001
    geobox = GeoBox((60, 80), Affine(step, 0, 20, 0, -step, 0.03), "IAU_2015:30100")
    bright = np.zeros(geobox.shape, bool)
    bright[20:30, 40:60] = True
    scene = scene_on(geobox, bright)
    table = MODEL.segment(scene, "building", details=True)
    moon = 1_737_400
    assert table["area_m2"].iloc[0] == pytest.approx(200 * (np.radians(step) * moon) ** 2, rel=1e-3)
    assert table["resolution"].iloc[0] == pytest.approx(np.radians(step) * moon, rel=1e-3)
    area = gpd.GeoSeries([shapely.box(20, 0, 20.07, 0.02)], crs="IAU_2015:30100")
    assert len(MODEL.segment(scene, "building", geometry=area)) == 1
    with pytest.raises(InputError, match="another planet or moon"):
        MODEL.segment(scene, "building", crs="EPSG:4326")
    with pytest.raises(InputError, match="another planet or moon"):
        in_degrees(table.geometry)
    elsewhere = gpd.GeoDataFrame(geometry=list(area), crs="EPSG:4326")
    with pytest.raises(InputError, match="the same planet or moon"):
        MODEL.count(scene, "building", zones=elsewhere)
    with pytest.raises(InputError, match="the same planet or moon"):
        MODEL.segment(scene, "building", geometry=elsewhere)


@pytest.mark.parametrize(
    ("crs", "words"),
    [
        ("EPSG:4978", "is geocentric"),
        (
            'ENGCRS["site",EDATUM["x"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]',
            "is a local CRS",
        ),
        ("IAU_2015:49901", "counts longitudes westwards"),
    ],
)
def test_a_crs_without_places_on_the_ground_is_refused(crs, words):
    with pytest.raises(InputError, match=words):
        body_of(CRS.from_user_input(crs))


def test_geojson_of_a_feature_over_the_pole_is_in_degrees():
    cap = gpd.GeoSeries([shapely.box(-5e4, -5e4, 5e4, 5e4)], crs="EPSG:3413")
    (shape,) = in_degrees(cap)
    assert shape.is_valid
    assert shape.bounds[0] >= -180
    assert shape.bounds[2] <= 180
    degrees = ground_area(np.array([shape], object), CRS("EPSG:4326"))
    np.testing.assert_allclose(degrees, ground_area(cap.to_numpy(), CRS("EPSG:3413")), rtol=0.01)


@pytest.mark.parametrize(
    ("crs", "x", "y", "resolution"),
    [
        ("EPSG:3413", 0, 0, 3000),  # around the pole
        ("EPSG:3413", 0, 0, 40_000),
        ("+proj=lcc +lat_1=62 +lat_2=78 +lon_0=0", 0, 7.5e6, 5000),  # over the gap of a cone
        ("+proj=laea +lat_0=70 +lon_0=180", 0, 0, 800),  # across the edge of the source
    ],
)
def test_pixels_are_taken_from_their_places_at_poles_and_seams(crs, x, y, resolution):
    """Each pixel of the source is known by its colour: warped, it is the one that holds the place."""
    source = GeoBox.from_bbox((-180, 60, 180, 90), crs="EPSG:4326", resolution=0.5)
    height, width = source.shape.yx
    numbers = np.arange(height * width, dtype=np.float32).reshape(1, height, width)
    half = 100 * resolution
    target = GeoBox.from_bbox((x - half, y - half, x + half, y + half), crs=crs, resolution=resolution)
    warped, valid = warp(numbers, np.ones((height, width), bool), source, target, nearest=True)
    col, row = np.meshgrid(np.arange(200) + 0.5, np.arange(200) + 0.5)
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    there = to_degrees.transform(*(target.affine * (col, row)))
    across, down = (np.array(value) for value in ~source.affine * there)
    inside = (down >= 0) & (across >= 0) & (across < width) & (down < height)
    near = np.minimum(abs(across - np.rint(across)), abs(down - np.rint(down))) < 0.11
    expected = np.floor(np.where(inside, down, 0)) * width + np.floor(np.where(inside, across, 0))
    assert (valid == inside)[~near].all()
    assert (warped[0] == expected)[valid & ~near].all()
