"""One file as a scene: every layout of files in the wild is placed right, or refused with the reason."""

import dask
import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.warp import Resampling, reproject

from remotesam_geo import open_raster
from remotesam_geo.errors import InputError, ReadError, RemoteSAMWarning
from remotesam_geo.scenes import Recipe
from tests.scenes.places import grid, noise, raster, write

UTM = "EPSG:32631"
WEST, NORTH = 500_000, 5_000_000


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def test_a_plain_file_is_as_rasterio_reads_it(tmp_path):
    pixels = noise(1, (3, 100, 130))
    path = write(tmp_path / "a.tif", pixels, grid(WEST, NORTH, 0.5), UTM, colors=("red", "green", "blue"))
    scene = open_raster(path, chunks=37)
    assert list(scene.data_vars) == ["red", "green", "blue", "valid"]
    np.testing.assert_array_equal(np.stack([scene[n] for n in ("red", "green", "blue")]), pixels)
    assert scene.valid.all()
    assert (scene.odc.geobox.transform, scene.rio.crs.to_epsg()) == (grid(WEST, NORTH, 0.5), 32631)
    assert scene["items"].item() == "a"
    xr.testing.assert_identical(scene.compute(), open_raster(tmp_path / "a.tif", chunks=-1).compute())
    recipe = Recipe.of(scene)
    part = Recipe.from_json(recipe.to_json()).open(geobox=recipe.geobox[5:20, 7:9])
    np.testing.assert_array_equal(part.green, pixels[1, 5:20, 7:9])


class TestBands:
    def test_blue_green_red_files_come_out_red_green_blue(self, tmp_path):
        pixels = noise(1, (4, 10, 10), dtype="uint16")
        path = write(
            tmp_path / "a.tif",
            pixels,
            grid(WEST, NORTH, 1),
            UTM,
            colors=("blue", "green", "red", "undefined"),
        )
        scene = open_raster(path)
        np.testing.assert_array_equal(scene.red, pixels[2])
        np.testing.assert_array_equal(scene.blue, pixels[0])

    def test_bands_by_name_number_and_mapping(self, tmp_path):
        pixels = noise(1, (5, 10, 10), dtype="uint16")
        path = write(tmp_path / "a.tif", pixels, grid(WEST, NORTH, 1), UTM)
        assert list(open_raster(path).data_vars)[:-1] == [f"band_{i}" for i in range(1, 6)]
        assert list(open_raster(path, bands=[5, "band_2"]).data_vars)[:-1] == ["band_5", "band_2"]
        scene = open_raster(path, bands={"red": 4, "green": "band_3", "blue": 1})
        np.testing.assert_array_equal(np.stack([scene.red, scene.green, scene.blue]), pixels[[3, 2, 0]])

    @pytest.mark.parametrize("bands", [["swir"], [6], {"red": 9}])
    def test_an_unknown_band_says_what_there_is(self, tmp_path, bands):
        path = write(tmp_path / "a.tif", noise(1, (2, 10, 10)), grid(WEST, NORTH, 1), UTM)
        with pytest.raises(InputError, match=r"There is: 1: band_1, 2: band_2"):
            open_raster(path, bands=bands)

    def test_no_bands_at_all_is_an_error(self, tmp_path):
        path = write(tmp_path / "a.tif", noise(1, (1, 10, 10)), grid(WEST, NORTH, 1), UTM)
        with pytest.raises(InputError, match=r"bands=\[\] is not allowed"):
            open_raster(path, bands=[])

    def test_scale_and_offset_are_told_or_applied(self):
        path = raster("scale_offset.tif")
        plain, physical = open_raster(path), open_raster(path, rescale=True)
        told = plain.band_1.attrs
        np.testing.assert_allclose(
            physical.band_1.where(physical.valid),
            (plain.band_1 * told["scale_factor"] + told["add_offset"]).where(plain.valid),
            rtol=1e-6,
        )
        assert physical.band_1.dtype == "float32"

    def test_a_palette_is_read_as_its_colours(self, tmp_path):
        picture = Image.fromarray(noise(1, (8, 8, 3))).convert("P")
        picture.save(tmp_path / "a.png")
        scene = open_raster(tmp_path / "a.png")
        expected = np.asarray(picture.convert("RGB"))
        np.testing.assert_array_equal(np.stack([scene.red, scene.green, scene.blue], -1), expected)
        assert scene.valid.all()
        again = Recipe.from_json(Recipe.of(scene).to_json()).open()
        xr.testing.assert_identical(again.compute(), scene.compute())
        places = open_raster(tmp_path / "a.png", bands=[1])
        np.testing.assert_array_equal(places.band_1, np.asarray(picture))


class TestValidity:
    def test_internal_masks(self):
        with rasterio.open(raster("aerial_internal_mask.tif")) as file:
            expected = file.dataset_mask() > 0
        assert not expected.all()
        np.testing.assert_array_equal(open_raster(raster("aerial_internal_mask.tif")).valid, expected)

    def test_alpha_is_a_mask_and_no_band(self):
        scene = open_raster(raster("rgba.tif"))
        assert list(scene.data_vars) == ["red", "green", "blue", "valid"]
        with rasterio.open(raster("rgba.tif")) as file:
            np.testing.assert_array_equal(scene.valid, file.read(4) > 0)
        assert not scene.valid.all()

    def test_nodata_of_8_bit_colours_counts_where_all_have_it(self, tmp_path):
        pixels = noise(1, (3, 10, 10))
        pixels[:, 2] = 0
        pixels[0, 3] = 0
        path = write(tmp_path / "a.tif", pixels, grid(WEST, NORTH, 1), UTM, nodata=0)
        valid = open_raster(path).valid.values
        assert not valid[2].any()
        assert valid[3].all()
        assert open_raster(path, nodata=None).valid.all()
        np.testing.assert_array_equal(open_raster(path, bands=[1], nodata=7).valid, pixels[0] != 7)

    def test_nan_is_never_valid(self, tmp_path):
        pixels = noise(1, (1, 10, 10)).astype("float32")
        pixels[0, 4] = np.nan
        scene = open_raster(write(tmp_path / "a.tif", pixels, grid(WEST, NORTH, 1), UTM))
        np.testing.assert_array_equal(scene.valid.values.all(axis=1), np.arange(10) != 4)


class TestPlacement:
    def test_south_up_is_turned_without_touching_a_pixel(self, tmp_path):
        pixels = noise(1, (3, 40, 30))
        path = write(tmp_path / "a.tif", pixels, grid(WEST, NORTH - 40, 1, south_up=True), UTM)
        scene = open_raster(path, chunks=16)
        assert scene.odc.geobox.transform == grid(WEST, NORTH, 1)
        np.testing.assert_array_equal(scene.red, pixels[0][::-1])

    def test_a_mirrored_file_too(self, tmp_path):
        pixels = noise(1, (3, 40, 30))
        path = write(tmp_path / "a.tif", pixels, Affine(-1, 0, WEST + 30, 0, -1, NORTH), UTM)
        np.testing.assert_array_equal(open_raster(path).red, pixels[0][:, ::-1])

    def test_rotated_files_are_warped_and_that_is_said(self):
        with pytest.warns(RemoteSAMWarning, match="is rotated; it is warped"):
            scene = open_raster(raster("au_rotated.tif"))
        with rasterio.open(raster("au_rotated.tif")) as file:
            expected = np.full(scene.band_1.shape, np.nan, "float32")
            reproject(
                file.read(1), expected, src_transform=file.transform, src_crs=file.crs,
                dst_transform=scene.odc.geobox.transform, dst_crs=file.crs,
                resampling=Resampling.bilinear, dst_nodata=np.nan,
            )  # fmt: skip
            area = abs(file.transform.determinant)
        here = scene.valid.values & np.isfinite(expected)
        assert here.sum() > 0.9 * np.isfinite(expected).sum()
        inner = here & (np.abs(scene.band_1.values - expected) < 1e-3)
        assert inner.sum() > 0.9 * here.sum(), "but for pixels at the edge, GDAL's own warp"
        assert scene.odc.geobox.resolution.x**2 == pytest.approx(area)

    def test_ground_control_points_are_followed_and_that_is_said(self, tmp_path):
        # a plane raster whose pixels know where they are, then placed by points alone
        rows, columns = np.mgrid[0:80, 0:100]
        pixels = np.stack([rows * 3, columns * 2, rows * 0 + 7]).astype("uint8")
        points = [
            GroundControlPoint(r, c, WEST + 10 * c, NORTH - 10 * r, 0.0) for r in (0, 40, 80) for c in (0, 50, 100)
        ]
        path = tmp_path / "a.tif"
        with rasterio.open(
            path, "w", driver="GTiff", count=3, height=80, width=100, dtype="uint8",
            crs=UTM, gcps=points,
        ) as file:  # fmt: skip
            file.write(pixels)
        with pytest.warns(RemoteSAMWarning, match="9 ground control points"):
            scene = open_raster(path, chunks=33)
        assert scene.odc.geobox.boundingbox.bbox == pytest.approx((WEST, NORTH - 800, WEST + 1000, NORTH), abs=11)
        found = scene.compute()
        here = found.valid.values
        assert here.mean() > 0.95
        ys, xs = np.meshgrid(found.y.values, found.x.values, indexing="ij")
        np.testing.assert_allclose(found.red.values[here], ((NORTH - ys[here]) / 10 - 0.5) * 3, atol=3.1)
        np.testing.assert_allclose(found.green.values[here], ((xs[here] - WEST) / 10 - 0.5) * 2, atol=2.1)
        with pytest.warns(RemoteSAMWarning):
            whole = open_raster(path, chunks=-1).compute()
        xr.testing.assert_identical(whole, found)
        again = Recipe.from_json(Recipe.of(scene).to_json()).open()
        xr.testing.assert_identical(again.compute(), found)

    def test_real_control_points_agree_with_the_same_map_in_its_own_crs(self):
        with pytest.warns(RemoteSAMWarning, match="24 ground control points"):
            scene = open_raster(raster("au_gcp.tif")).compute()
        with rasterio.open(raster("au.tif")) as file:
            expected = np.zeros(scene.band_1.shape, "uint8")
            reproject(
                rasterio.band(file, 1), expected, dst_transform=scene.odc.geobox.transform,
                dst_crs="EPSG:4326", resampling=Resampling.nearest,
            )  # fmt: skip
        assert ((scene.band_1.values > 0) == (expected > 0)).mean() > 0.97

    def test_rational_polynomials_are_refused_with_the_remedy(self):
        with pytest.raises(InputError, match=r"rational polynomials.*RPC_DEM"):
            open_raster(raster("rpcs.tif"))

    def test_a_georeference_without_a_crs_needs_one(self):
        path = raster("float_nan_no_crs.tif")
        with pytest.raises(InputError, match=r"no CRS.*crs='EPSG:32633'"):
            open_raster(path)
        scene = open_raster(path, crs=UTM)
        with rasterio.open(path) as file:
            assert file.transform.e > 0, "south-up too"
            np.testing.assert_array_equal(scene.band_1, file.read(1)[::-1])
            assert scene.odc.geobox.boundingbox.bbox == pytest.approx(
                (file.bounds.left, file.bounds.top, file.bounds.right, file.bounds.bottom)
            )
        assert scene.rio.crs.to_epsg() == 32631

    def test_a_picture_with_a_world_file(self, tmp_path):
        pixels = noise(1, (20, 30, 3))
        Image.fromarray(pixels).save(tmp_path / "scan.png")
        (tmp_path / "scan.pgw").write_text(f"2\n0\n0\n-2\n{WEST + 1}\n{NORTH - 1}\n")
        scene = open_raster(tmp_path / "scan.png", crs=UTM)
        assert scene.odc.geobox.transform == grid(WEST, NORTH, 2)
        np.testing.assert_array_equal(scene.red, pixels[..., 0])
        Image.fromarray(pixels).save(tmp_path / "scan.jpg")
        (tmp_path / "scan.jgw").write_text(f"2\n0\n0\n-2\n{WEST + 1}\n{NORTH - 1}\n")
        assert open_raster(tmp_path / "scan.jpg", crs=UTM).odc.geobox.transform == grid(WEST, NORTH, 2)

    def test_a_file_without_georeference_is_a_picture(self, tmp_path):
        pixels = noise(1, (20, 30, 3))
        Image.fromarray(pixels).save(tmp_path / "a.png")
        scene = open_raster(tmp_path / "a.png", chunks=16)
        assert scene.attrs["space"] == "pixel"
        assert "spatial_ref" not in scene.coords
        assert scene.odc.crs is None
        np.testing.assert_array_equal(np.stack([scene.red, scene.green, scene.blue], -1), pixels)
        np.testing.assert_array_equal(scene.x, np.arange(30) + 0.5)
        np.testing.assert_array_equal(scene.y, np.arange(20) + 0.5)
        again = Recipe.from_json(Recipe.of(scene).to_json()).open()
        xr.testing.assert_identical(again.compute(), scene.compute())
        with pytest.raises(InputError, match="no georeference that crs='EPSG:32631'"):
            open_raster(tmp_path / "a.png", crs=UTM)

    def test_a_crs_that_contradicts_the_files_own_is_refused(self, tmp_path):
        path = write(tmp_path / "a.tif", noise(1, (1, 5, 5)), grid(WEST, NORTH, 1), UTM)
        assert open_raster(path, crs=UTM).rio.crs.to_epsg() == 32631
        with pytest.raises(InputError, match="has a CRS of its own"):
            open_raster(path, crs=3857)
        with pytest.raises(InputError, match="no CRS that PROJ knows"):
            open_raster(path, crs="moon")

    def test_a_vrt_that_the_user_names_is_opened(self, tmp_path):
        pixels = noise(1, (1, 10, 10))
        path = write(tmp_path / "a.tif", pixels, grid(WEST, NORTH, 1), UTM)
        from rasterio.shutil import copy

        copy(path, tmp_path / "a.vrt", driver="VRT")
        np.testing.assert_array_equal(open_raster(tmp_path / "a.vrt").band_1, pixels[0])

    def test_degrees_stay_degrees(self, tmp_path):
        pixels = noise(1, (1, 10, 10))
        path = write(tmp_path / "a.tif", pixels, grid(179.99, 5, 0.01), "EPSG:4326")
        scene = open_raster(path)
        assert scene.band_1.dims == ("latitude", "longitude")
        np.testing.assert_array_equal(scene.band_1, pixels[0])


def test_a_missing_file_and_an_absurd_size_are_errors(tmp_path):
    with pytest.raises(ReadError, match=r"there is no file .*nowhere\.tif"):
        open_raster(tmp_path / "nowhere.tif")
    path = write(tmp_path / "a.tif", noise(1, (1, 50, 50)), grid(WEST, NORTH, 1), UTM)
    with pytest.raises(InputError, match=r"1 x 50 x 50 = 2,500 pixels a band.*max_pixels=2500"):
        open_raster(path, max_pixels=100)
