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

from remotesam_geo import RemoteSAMError
from remotesam_geo.errors import InputError
from remotesam_geo.mapping.grid import Box, Grid
from remotesam_geo.mapping.zones import Zones, core_zones, place_zones

UTM = "EPSG:32633"


def geobox(height=40, width=50, *, crs=UTM, left=500000.0, top=5000000.0, size=1.0):
    return GeoBox.from_bbox(
        (left, top - height * size, left + width * size, top), crs=crs, shape=(height, width)
    )


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
    for ring in [
        ring for part in shapely.get_parts(polygon) for ring in (part.exterior, *part.interiors)
    ]:
        points = [(Fraction(px), Fraction(py)) for px, py in ring.coords]
        for (x0, y0), (x1, y1) in pairwise(points):
            if (y0 <= y) != (y1 <= y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x:
                inside = not inside
    return inside


eighths = st.integers(-32, 150).map(lambda value: value / 8)


@st.composite
def triangulations(draw):
    """Triangles that partition the hull of some points: borders everywhere, many through pixels' middles."""
    points = draw(st.lists(st.tuples(eighths, eighths), min_size=3, max_size=12, unique=True))
    parts = shapely.get_parts(shapely.delaunay_triangles(shapely.MultiPoint(points)))
    return parts[shapely.area(parts) > 0]


@settings(max_examples=40, deadline=None)
@given(triangulations())
def test_a_pixel_belongs_to_the_zone_that_holds_its_centre(parts):
    zones = Zones(
        frame=gpd.GeoDataFrame(), shapes=parts, size=shapely.area(parts), geobox=geobox(16, 18)
    )
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
@given(
    st.integers(0, 999), st.tuples(*[st.integers(0, 44)] * 2), st.tuples(*[st.integers(1, 30)] * 2)
)
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
    np.testing.assert_array_equal(
        labels(zones, part), labels(zones, whole(box))[part.within(whole(box))]
    )
