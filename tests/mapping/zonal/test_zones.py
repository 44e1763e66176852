"""Zones on the grid: each pixel in the one zone that holds its centre, whatever the cut, the CRS and the place."""

from fractions import Fraction
from itertools import pairwise

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from rasterio.features import rasterize

from remotesam_geo.errors import InputError
from remotesam_geo.geo.box import Box
from remotesam_geo.mapping.grid import Grid
from remotesam_geo.mapping.zonal.zones import Zones, core_zones, place_zones

UTM = "EPSG:32633"


def geobox(height=40, width=50, *, crs=UTM, left=500000.0, top=5000000.0, size=1.0):
    return GeoBox.from_bbox((left, top - height * size, left + width * size, top), crs=crs, shape=(height, width))


def in_pixels(shapes, box, frame=None):
    """Zones given in pixels of a grid."""
    a, b, c, d, e, f = box.affine[:6]

    def place(points):
        return points @ np.array([[a, d], [b, e]]) + [c, f]

    placed = shapely.transform(np.asarray(shapes, object), place)
    return gpd.GeoDataFrame(frame, geometry=placed, crs=str(box.crs))


def whole(box):
    height, width = box.shape.yx
    return Box(top=0, left=0, bottom=height, right=width)


def labels(zones, box):
    """Zone numbers from 1 over a box."""
    which, painted = zones.paint(box)
    return np.concatenate([[0], which + 1])[painted]


def holds(polygon, x, y):
    """Whether a polygon holds a point, in exact arithmetic: borders belong to what is right of them or below."""
    inside = False
    for ring in [ring for part in shapely.get_parts(polygon) for ring in (part.exterior, *part.interiors)]:
        points = [(Fraction(px), Fraction(py)) for px, py in ring.coords]
        for (x0, y0), (x1, y1) in pairwise(points):
            if (y0 <= y) != (y1 <= y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x:
                inside = not inside
    return inside


eighths = st.integers(-24, 120).map(lambda value: value / 8)


@st.composite
def triangulations(draw):
    """Triangles that partition the hull of some points: borders everywhere, many through pixels' middles."""
    points = draw(st.lists(st.tuples(eighths, eighths), min_size=3, max_size=12, unique=True))
    parts = shapely.get_parts(shapely.delaunay_triangles(shapely.MultiPoint(points)))
    return parts[shapely.area(parts) > 0]


@settings(max_examples=30, deadline=None)
@given(triangulations())
def test_a_pixel_belongs_to_the_zone_that_holds_its_centre(parts):
    zones = Zones(frame=gpd.GeoDataFrame(), shapes=parts, size=shapely.area(parts), geobox=geobox(12, 13))
    box = whole(zones.geobox)
    painted = labels(zones, box)
    for y in range(box.bottom):
        for x in range(box.right):
            centre = Fraction(2 * x + 1, 2), Fraction(2 * y + 1, 2)
            owners = [index + 1 for index, part in enumerate(parts) if holds(part, *centre)]
            assert owners == ([painted[y, x]] if painted[y, x] else [])


def parcels(seed, n=30, size=60.0):
    """Random polygons that do not overlap: cells of a Voronoi diagram, some with holes, some left out."""
    rng = np.random.default_rng(seed)
    cells = shapely.get_parts(
        shapely.voronoi_polygons(
            shapely.MultiPoint(rng.uniform(-5, size, (n, 2))),
            extend_to=shapely.box(-9, -9, size, size),
        )
    )
    holes = shapely.buffer(shapely.centroid(cells), rng.uniform(0.5, 3, n))
    cells = np.where(rng.random(n) < 0.3, shapely.difference(cells, holes), cells)
    return cells[rng.random(n) < 0.9]


@pytest.mark.parametrize("seed", range(8))
def test_zones_cover_what_gdal_paints(seed):
    shapes, box = parcels(seed), geobox(50, 44)
    zones = place_zones(in_pixels(shapes, box), box)
    expected = rasterize(
        [(shape, index + 1) for index, shape in enumerate(zones.shapes)],
        box.shape.yx,
        dtype=np.int32,
    )
    np.testing.assert_array_equal(labels(zones, whole(box)), expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.tuples(*[st.integers(0, 44)] * 2), st.tuples(*[st.integers(1, 30)] * 2))
def test_any_part_of_the_raster_is_painted_as_the_whole(seed, corner, size):
    """Also where zones overlap by slivers."""
    shapes = shapely.buffer(parcels(seed), 0.04)
    box = geobox(50, 50)
    zones = Zones(frame=gpd.GeoDataFrame(), shapes=shapes, size=shapely.area(shapes), geobox=box)
    part = Box(
        top=corner[0],
        left=corner[1],
        bottom=min(50, corner[0] + size[0]),
        right=min(50, corner[1] + size[1]),
    )
    np.testing.assert_array_equal(labels(zones, part), labels(zones, whole(box))[part.within(whole(box))])


def centres(box, crs):
    """The middles of all pixels in a CRS (H x W each)."""
    height, width = box.shape.yx
    rows, cols = np.indices((height, width)) + 0.5
    a, b, c, d, e, f = box.affine[:6]
    to_crs = Transformer.from_crs(CRS.from_user_input(str(box.crs)), crs, always_xy=True)
    return to_crs.transform(a * cols + b * rows + c, d * cols + e * rows + f)


@pytest.mark.parametrize(
    ("crs", "to", "size"),
    [
        ("EPSG:32633", "EPSG:4326", 2000.0),  # straight in degrees, bent in metres by many pixels
        ("EPSG:32733", "EPSG:4326", 500.0),
        ("EPSG:4326", "EPSG:32633", 0.02),
        ("EPSG:3857", "EPSG:3035", 3000.0),
        ("EPSG:3031", "EPSG:4326", 4000.0),
    ],
)
def test_edges_run_straight_in_the_zones_own_crs(crs, to, size):
    """Long edges with corners alone: a pixel is in where its middle is, in the zones' CRS."""
    place = {
        "EPSG:4326": (14.0, 51.0),
        "EPSG:3857": (1500000.0, 6500000.0),
        "EPSG:3031": (4e5, 9e5),
    }
    left, top = place.get(crs, (400000.0, 5600000.0 if crs == UTM else 7000000.0))
    box = geobox(90, 100, crs=crs, left=left, top=top, size=size)
    x, y = centres(box, to)
    west, east = np.quantile(x, [0.1, 0.9])
    south, north = np.quantile(y, [0.1, 0.9])
    middle = (west + east) / 2
    shapes = [
        shapely.box(west, south, middle, north),
        shapely.Polygon([(middle, south), (east, south), (middle, north)]),
        shapely.Polygon([(east, south), (east, north), (middle, north)]),
    ]
    zones = place_zones(gpd.GeoDataFrame(geometry=shapes, crs=to), box)
    painted = labels(zones, whole(box))
    inside = [shapely.contains_xy(shape, x, y) for shape in shapes]
    expected = sum(np.where(held, index + 1, 0) for index, held in enumerate(inside))
    near = shapely.dwithin(
        shapely.MultiLineString([shape.exterior for shape in zones.shapes]),
        shapely.points(*np.indices(box.shape.yx)[::-1] + 0.5),
        0.02,
    )
    np.testing.assert_array_equal(painted[~near], expected[~near])
    assert near.mean() < 0.01
    # no gap between neighbours, whatever their edges' course
    hull = shapely.contains_xy(shapely.box(west, south, east, north), x, y)
    assert ((painted > 0) == hull)[~near].all()


AROUND = [  # the same two neighbours, as people write them across the antimeridian
    [shapely.box(179.9, -17.05, 180.02, -16.95), shapely.box(180.02, -17.05, 180.1, -16.95)],
    [shapely.box(-180.1, -17.05, -179.98, -16.95), shapely.box(-179.98, -17.05, -179.9, -16.95)],
    [
        shapely.MultiPolygon([shapely.box(179.9, -17.05, 180, -16.95), shapely.box(-180, -17.05, -179.98, -16.95)]),
        shapely.box(-179.98, -17.05, -179.9, -16.95),
    ],
]


@pytest.mark.parametrize("shapes", AROUND)
@pytest.mark.parametrize(
    ("crs", "left", "top", "size"),
    [
        ("EPSG:4326", 179.85, -16.9, 0.005),
        ("EPSG:4326", -180.15, -16.9, 0.005),
        ("EPSG:3857", 20020000.0, -1900000.0, 500.0),
        ("EPSG:32760", 800000.0, 8130000.0, 500.0),
        ("EPSG:32701", 160000.0, 8130000.0, 500.0),
    ],
)
def test_zones_are_whole_across_the_antimeridian(shapes, crs, left, top, size):
    box = geobox(60, 70, crs=crs, left=left, top=top, size=size)
    zones = place_zones(gpd.GeoDataFrame(geometry=shapes, crs="EPSG:4326"), box)
    painted = labels(zones, whole(box))
    x, y = centres(box, "EPSG:4326")
    x = np.where(x < 0, x + 360, x)
    rows = (y > -17.05) & (y < -16.95)
    expected = np.select([rows & (x > 179.9) & (x < 180.02), rows & (x > 180.02) & (x < 180.1)], [1, 2])
    assert (expected == 1).sum() > 100
    assert (painted != expected).mean() < 0.003  # middles on the borders themselves
    np.testing.assert_array_equal(
        painted,
        labels(place_zones(gpd.GeoDataFrame(geometry=AROUND[0], crs="EPSG:4326"), box), whole(box)),
    )


def test_zones_larger_than_the_crs_can_hold_are_cut_but_keep_their_size():
    box = geobox(50, 50, size=10.0)
    half = shapely.box(-180, -90, 15, 90)
    zones = place_zones(gpd.GeoDataFrame(geometry=[half, shapely.box(15, -90, 180, 90)], crs="EPSG:4326"), box)
    painted = labels(zones, whole(box))
    assert (painted[:, :-1] <= painted[:, 1:]).all()
    assert (painted > 0).all()
    far = gpd.GeoDataFrame(geometry=[half, shapely.box(170, -50, 175, -45)], crs="EPSG:4326")
    zones = place_zones(far, box)
    assert shapely.is_empty(zones.shapes).tolist() == [False, True] or len(zones.touching(whole(box))) == 1
    assert zones.outside[0] > 1e9  # half the Earth in pixels of 100 m2


def test_cores_are_zones():
    box = geobox(50, 70)
    grid = Grid(shape=(50, 70), window=32, overlap=8)
    zones = core_zones(grid, box, crs=CRS(4326))
    assert zones.frame.index.name == "window"
    assert str(zones.frame.crs) == "EPSG:4326"
    painted = labels(zones, whole(box))
    for tile in grid:
        assert (painted[tile.core.within(grid.raster)] == tile.index + 1).all()
    again = place_zones(zones.frame, box)
    np.testing.assert_allclose(again.bounds, zones.bounds, atol=0.02)
    some = core_zones(grid, box, windows=[3, 1])
    assert some.frame.index.tolist() == [3, 1]


SQUARE = shapely.box(5, 5, 15, 15)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([SQUARE, None], r"row 1 of the zones has no geometry.*dropna"),
        (
            [shapely.Polygon(), SQUARE, shapely.Polygon()],
            r"rows 0, 2 of the zones have an empty geometry",
        ),
        ([SQUARE, shapely.Point(1, 1)], r"row 1 of the zones has no polygon.*buffer"),
        (
            [shapely.Polygon([(0, 0), (9, 9), (9, 0), (0, 9)])],
            r"invalid polygon \(Self-intersection.*make_valid",
        ),
        ([SQUARE, shapely.box(10, 10, 20, 20)], r"0 and 1 overlap\. .*dissolve"),
        ([SQUARE, SQUARE, SQUARE], r"0 and 1 overlap, and 2 more pairs"),
        ([shapely.box(0, 0, 20, 20), shapely.box(5, 5, 6, 6)], "overlap"),
        ([shapely.box(0, 0, 0.1, 0.1), shapely.box(0, 0, 0.1, 0.1)], "overlap"),
        ([shapely.box(500, 500, 510, 510)], "none of the 1 zones touches the scene.*CRS and place"),
        ([shapely.box(50, 0, 60, 10)], "none of the 1 zones"),  # only its border touches
    ],
)
def test_bad_zones_are_named_with_the_remedy(shapes, message):
    box = geobox()
    frame = in_pixels([SQUARE] * len(shapes), box)
    frame = frame.set_geometry(in_pixels(np.array(shapes, object), box).geometry)
    with pytest.raises(InputError, match=f"(?s){message}"):
        place_zones(frame, box)


def test_bad_frames_are_named_with_the_remedy():
    box = geobox()
    good = in_pixels([SQUARE], box)
    with pytest.raises(InputError, match="not a GeoSeries"):
        place_zones(good.geometry, box)
    with pytest.raises(InputError, match="set_crs"):
        place_zones(gpd.GeoDataFrame(geometry=[SQUARE]), box)
    with pytest.raises(InputError, match="no rows"):
        place_zones(good.iloc[:0], box)
    with pytest.raises(InputError, match="set_geometry"):
        place_zones(gpd.GeoDataFrame({"a": [1]}), box)
    with pytest.raises(InputError, match=r"\['label'\].*'zone_label'"):
        place_zones(good.assign(label="x"), box, adds=["label", "score"])
    with pytest.raises(InputError, match="row 'plot 7' of"):
        place_zones(in_pixels([None, SQUARE], box).set_axis(["plot 7", "b"]), box)


def test_neighbours_that_do_not_meet_corner_by_corner_are_no_overlap():
    """And slivers that digitising leaves are none either; no pixel belongs to two."""
    box = geobox()
    shapes = [
        shapely.box(0, 0, 10, 20),
        shapely.box(10, 0, 20, 7),
        shapely.box(9.99, 7, 20, 20),
        shapely.box(20 - 1e-9, 0, 30, 20),
    ]
    zones = place_zones(in_pixels(shapes, box), box)
    painted = labels(zones, whole(box))
    assert [int((painted == zone).sum()) for zone in (1, 2, 3, 4)] == [200, 70, 130, 200]


def test_rows_that_lie_elsewhere_stay():
    box = geobox()
    frame = in_pixels([shapely.box(500, 500, 510, 510), SQUARE], box)
    zones = place_zones(frame, box)
    assert len(zones) == 2
    assert zones.frame is frame
    assert zones.touching(whole(box)).tolist() == [1]
    assert zones.outside.tolist() == pytest.approx([100.0, 0.0])
