"""Metres on the ground are true whatever the CRS."""

import math

import numpy as np
import pytest
import shapely
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer

from remotesam_geo.errors import InputError
from remotesam_geo.geo.ground import ground_area, pixel_size, plan_geobox


def box_at(lon, lat, crs, resolution, pixels=400):
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    half = pixels * resolution / 2
    return GeoBox.from_bbox((x - half, y - half, x + half, y + half), crs=crs, resolution=resolution)


@pytest.mark.parametrize("lat", [-60, 0.5, 45, 60])
def test_web_mercator_pixels_shrink_with_the_cosine_of_the_latitude(lat):
    size = pixel_size(box_at(10, lat, "EPSG:3857", 1))
    assert size.square
    assert size.metres == pytest.approx(math.cos(math.radians(lat)), rel=0.005)


def test_a_degree_is_measured_on_the_ellipsoid():
    size = pixel_size(box_at(10, 45, "EPSG:4326", 1e-5))
    assert size.y == pytest.approx(1.11132, rel=1e-4)  # published length of a degree of latitude at 45
    assert size.x == pytest.approx(0.78847, rel=1e-4)  # and of longitude


def test_a_rotated_grid_has_the_size_of_its_pixels():
    size = pixel_size(box_at(15, 45, "EPSG:32633", 2).rotate(30))
    assert size.metres == pytest.approx(2, rel=0.001)


def test_the_native_grid_is_kept_where_it_is_square_on_the_ground():
    box = box_at(10, 45, "EPSG:3857", 0.6)
    assert plan_geobox(box) == box
    assert plan_geobox(box, pixel_size(box).metres * 1.005) == box
    assert plan_geobox(box.flipy()) == box
    assert plan_geobox(box.flipx()) == box


def test_another_resolution_keeps_the_corner_and_covers_all():
    box = box_at(10, 60, "EPSG:3857", 1)
    plan = plan_geobox(box, 5)
    assert pixel_size(plan).metres == pytest.approx(5, rel=0.001)
    assert (plan.affine.c, plan.affine.f) == (box.affine.c, box.affine.f)
    assert plan.extent.geom.buffer(1e-6).covers(box.extent.geom)


@pytest.mark.parametrize(("lon", "lat", "zone"), [(10, 60, 32632), (10, -60, 32732), (180, 60, 32660)])
def test_degrees_far_from_the_equator_are_asked_in_local_utm(lon, lat, zone):
    box = GeoBox.from_bbox((lon - 0.01, lat - 0.01, lon + 0.01, lat + 0.01), crs="EPSG:4326", resolution=1e-4)
    plan = plan_geobox(box)
    assert plan.crs.epsg in (zone, 32601)  # 180 belongs to two zones
    assert pixel_size(plan).square
    assert pixel_size(plan).metres == pytest.approx(pixel_size(box).metres, rel=0.001)
    corners = np.array(box.extent.to_crs(plan.crs).geom.exterior.coords)
    assert plan.extent.geom.buffer(1).covers(shapely.MultiPoint(corners))


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32633", "EPSG:3035"])
def test_areas_are_those_on_the_ellipsoid(crs):
    """A ring of 100 m minus a hole of 50 m, drawn in an equal-area projection at the place."""
    here = CRS.from_proj4("+proj=laea +lat_0=60 +lon_0=14 +datum=WGS84")
    ring = shapely.Point(0, 0).buffer(100, 256) - shapely.Point(0, 0).buffer(50, 256)
    to_crs = Transformer.from_crs(here, crs, always_xy=True)
    moved = shapely.transform(ring, lambda xy: np.stack(to_crs.transform(*xy.T), axis=1))
    both = np.array([moved, shapely.MultiPolygon([moved])], dtype=object)
    assert ground_area(both, CRS(crs)) == pytest.approx(ring.area, rel=1e-5)


def test_what_has_no_metres_is_refused():
    with pytest.raises(InputError, match="no CRS"):
        pixel_size(GeoBox((10, 10), box_at(10, 45, "EPSG:3857", 1).affine, None))
    box = box_at(10, 45, "EPSG:32632", 1)
    for wrong in (0, -1, math.nan, math.inf):
        with pytest.raises(InputError, match="metres on the ground"):
            plan_geobox(box, wrong)
    with pytest.raises(InputError, match="lies nowhere on Earth"):
        pixel_size(GeoBox((10, 10), box.affine, "EPSG:4326"))
