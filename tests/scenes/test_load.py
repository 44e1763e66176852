"""Scenes of items: the right pixels, whole, on the right grid, in any cut, in any process."""

import json
import pickle
import subprocess
import sys
import warnings

import dask
import numpy as np
import odc.stac
import pandas as pd
import pystac
import pytest
import rasterio
import rioxarray  # noqa: F401
import shapely
import xarray as xr
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Geod

from remotesam_geo import load
from remotesam_geo.errors import InputError, ReadError, RemoteSAMWarning
from remotesam_geo.raster.odc_driver import SceneDriver
from remotesam_geo.scenes import Recipe
from remotesam_geo.scenes.read_block import read_block
from tests.scenes.places import grid, item, noise, recorded, write

UTM = "EPSG:32631"
WEST, NORTH = 500_000, 5_000_000


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def place(folder, name, *, at=(0, 0), shape=(40, 50), size=1.0, crs=UTM, seed=None, holes=(), **kw):
    """An item over noise, `at` rows and columns from a common corner."""
    pixels = noise(name if seed is None else seed, (4, *shape)) if "pixels" not in kw else kw.pop("pixels")
    for rows, columns in holes:
        pixels[:, rows, columns] = 0
    transform = grid(WEST + at[1] * size, NORTH - at[0] * size, size)
    path = write(folder / f"{name}.tif", pixels, transform, crs, nodata=kw.pop("nodata", None))
    return item(f"item-{name}", path, **kw), pixels


def composed(parts, shape, order):
    """The oracle: every pixel whole from the first of the parts that has it."""
    out = np.zeros((4, *shape), "uint8")
    source = np.full(shape, -1)
    for index in order:
        (top, left), pixels = parts[index]
        height, width = pixels.shape[1:]
        here = np.zeros(shape, bool)
        here[top : top + height, left : left + width] = (pixels != 0).any(axis=0)
        layer = np.zeros((4, *shape), "uint8")
        layer[:, top : top + height, left : left + width] = pixels
        take = here & (source < 0)
        out[:, take] = layer[:, take]
        source[take] = index
    return out, source


def one_time(scene):
    """A scene of one time without that dimension; a single row stays one."""
    return scene.squeeze("time") if "time" in scene.dims else scene


class TestPixels:
    @settings(max_examples=12, phases=[Phase.explicit, Phase.reuse, Phase.generate])
    @given(data=st.data())
    def test_mosaics_and_days_equal_a_composition_by_hand_in_any_cut(self, data, tmp_path_factory):
        folder = tmp_path_factory.mktemp("mosaic")
        count = data.draw(st.integers(1, 4))
        offsets = st.tuples(st.integers(0, 30), st.integers(0, 30))
        ages = data.draw(st.permutations(range(count)))
        hole = st.tuples(st.integers(0, 30), st.integers(0, 40), st.integers(1, 15))
        items, parts = [], []
        for i in range(count):
            at = data.draw(offsets) if i else (0, 0)
            holes = [(slice(a, a + n), slice(b, b + n)) for a, b, n in data.draw(st.lists(hole, max_size=2))]
            doc, pixels = place(folder, i, at=at, holes=holes, nodata=0, time=f"2024-05-01T10:0{ages[i]}:00Z")
            pixels[0, 5, 5] = 0  # one band alone may be 0
            items.append(doc)
            parts.append((at, pixels))
        shape = (40 + max(at[0] for at, _ in parts), 50 + max(at[1] for at, _ in parts))
        orders = {
            "first": list(range(count)),
            "latest": sorted(range(count), key=lambda i: -ages[i]),
            None: sorted(range(count), key=lambda i: ages[i]),  # one day: earliest first
        }
        for mosaic, order in orders.items():
            chunk = data.draw(st.integers(19, 90))
            scene = load(items, mosaic=mosaic, chunks=chunk, bands=["red", "green", "blue", "nir"])
            found = one_time(scene.compute())
            out, source = composed([(at, reread(d)) for (at, _), d in zip(parts, items, strict=True)], shape, order)
            assert found.red.shape == shape
            for name, band in zip(("red", "green", "blue", "nir"), out, strict=True):
                np.testing.assert_array_equal(found[name].values, band)
            np.testing.assert_array_equal(found.valid.values, source >= 0)
            if mosaic:
                np.testing.assert_array_equal(found.source.values, source)
            recipe = Recipe.of(scene)
            rows, columns = (
                sorted(data.draw(st.tuples(st.integers(0, 20), st.integers(21, 39)))),
                slice(3, 33),
            )
            part = one_time(recipe.open(geobox=recipe.geobox[slice(*rows), columns]).compute())
            xr.testing.assert_equal(part.drop_vars("items"), found.isel(y=slice(*rows), x=columns).drop_vars("items"))

    def test_separate_bands_are_whole_too(self, tmp_path):
        """A pixel that lacks one band in one item comes from the other in all of them."""
        docs = []
        for i, gap in enumerate([5, 15]):
            assets = {}
            for band, name in enumerate(("red", "green", "blue")):
                pixels = np.full((1, 30, 30), 1000 * (i + 1) + band, "uint16")
                if name == "green":
                    pixels[0, gap] = 0
                path = write(tmp_path / f"{i}{name}.tif", pixels, grid(WEST, NORTH, 10), UTM, nodata=0)
                assets[name] = item("x", path, names=(name,))["assets"]["image"]
            docs.append(item(f"i{i}", path, names=("blue",)) | {"assets": assets})
        scene = load(docs, mosaic="first").compute()
        np.testing.assert_array_equal(scene.source.values[:, 0], [1 if y == 5 else 0 for y in range(30)])
        np.testing.assert_array_equal(scene.red.values // 1000, scene.source.values + 1)
        np.testing.assert_array_equal(scene.green.values, scene.red.values + 1)
        assert scene.valid.all()

    def test_pixels_on_the_files_own_grid_are_untouched(self, tmp_path):
        doc, pixels = place(tmp_path, 1, size=0.6)
        scene = load(doc, resolution=0.6)
        np.testing.assert_array_equal(scene.red.values[0], pixels[0])
        assert scene.odc.geobox.transform == rasterio.open(doc["assets"]["image"]["href"]).transform

    def test_a_coarser_grid_holds_means_never_picks(self, tmp_path):
        doc, pixels = place(tmp_path, 1, shape=(64, 96))
        scene = load(doc, resolution=4).compute()
        blocks = pixels[0].astype(float).reshape(16, 4, 24, 4).mean(axis=(1, 3))
        np.testing.assert_allclose(scene.red.values[0], blocks, atol=0.5)

    def test_the_median_is_that_of_the_valid_items(self, tmp_path):
        stack = [np.full((4, 20, 20), value, "uint8") for value in (10, 20, 90)]
        stack[2][:, :5] = 0
        docs = [place(tmp_path, i, pixels=p, nodata=0)[0] for i, p in enumerate(stack)]
        scene = load(docs, mosaic="median").compute()
        assert set(np.unique(scene.red.values[:5])) == {15}
        assert set(np.unique(scene.red.values[5:])) == {20}
        assert "source" not in scene
        assert scene.valid.all()

    def test_no_item_is_read_where_earlier_ones_have_every_pixel(self, tmp_path):
        top, pixels = place(tmp_path, 1)
        hidden, _ = place(tmp_path, 2)
        scene = load([top, hidden], mosaic="first")
        (tmp_path / "2.tif").unlink()
        np.testing.assert_array_equal(scene.red.values, pixels[0])

    def test_what_cannot_be_read_is_an_error_never_no_data(self, tmp_path):
        doc, _ = place(tmp_path, 1)
        scene = load(doc)
        (tmp_path / "1.tif").unlink()
        changed = pytest.warns(RemoteSAMWarning, match="was changed or replaced")
        with changed, pytest.raises(ReadError, match="item-1"):
            scene.compute()

    def test_numbers_that_are_not_as_announced_are_an_error(self, tmp_path):
        pixels = np.full((4, 20, 20), 60_000, "uint16")
        path = write(tmp_path / "a.tif", pixels, grid(WEST, NORTH, 1), UTM)
        doc = item("a", path)
        for band in doc["assets"]["image"]["raster:bands"]:
            band["data_type"] = "uint8"
        with pytest.raises(ReadError, match="holds uint16, but the scene was planned as uint8"):
            load(doc).compute()

    def test_outside_the_footprint_nothing_is_valid(self, tmp_path):
        doc, _ = place(tmp_path, 1)
        scene = load(doc, geobox=GeoBox((60, 70), grid(WEST - 10, NORTH + 10, 1), UTM)).compute()
        inside = np.zeros((60, 70), bool)
        inside[10:50, 10:60] = True
        np.testing.assert_array_equal(scene.valid.values[0], inside)
        assert not scene.red.values[0][~inside].any()


def reread(doc):
    with rasterio.open(doc["assets"]["image"]["href"]) as file:
        return file.read()


class TestOtherGrids:
    @pytest.fixture(scope="class")
    @classmethod
    def two_zones(cls, tmp_path_factory):
        """Smooth ground seen from two UTM zones: a value is a fixed function of place."""
        folder = tmp_path_factory.mktemp("zones")
        docs = []
        for i, (crs, west) in enumerate([(UTM, 738_000), ("EPSG:32632", 263_000)]):
            transform = grid(west, NORTH, 10)
            columns, rows = np.meshgrid(np.arange(72) + 0.5, np.arange(60) + 0.5)
            xs, ys = west + 10 * columns, NORTH - 10 * rows
            lon, lat = rasterio.warp.transform(crs, "EPSG:4326", xs.ravel(), ys.ravel())
            ramp = ground(np.array(lon), np.array(lat)).reshape(rows.shape)
            path = write(folder / f"{i}.tif", np.stack([ramp] * 3), transform, crs, overviews=(2, 4))
            docs.append(item(f"zone-{i}", path, names=("red", "green", "blue")))
        return docs

    def test_zones_are_mixed_knowingly_and_lie_right(self, two_zones):
        with pytest.warns(RemoteSAMWarning, match=r"EPSG:32631 \(1\), EPSG:32632 \(1\)"):
            scene = load(two_zones, mosaic="first").compute()
        assert scene.rio.crs.to_epsg() == scene.odc.geobox.crs.epsg == 32631
        assert set(np.unique(scene.source.values)) == {-1, 0, 1}
        ys, xs = np.nonzero(scene.valid.values)
        lon, lat = rasterio.warp.transform(UTM, "EPSG:4326", scene.x.values[xs], scene.y.values[ys])
        expected = ground(np.array(lon), np.array(lat))
        off = np.abs(scene.red.values[ys, xs].astype(float) - expected)
        assert np.quantile(off, 0.99) <= 30  # a tenth of a pixel, in numbers of `ground`
        with warnings.catch_warnings():
            warnings.simplefilter("error", RemoteSAMWarning)
            load(two_zones, crs="EPSG:32632")

    @pytest.mark.parametrize("resolution", [10, 7, 25, 40])
    def test_any_cut_gives_the_same_bytes(self, two_zones, resolution):
        args = {"mosaic": "first", "resolution": resolution, "crs": "EPSG:32632"}
        whole = load(two_zones, chunks=-1, **args)
        full = whole.compute()
        xr.testing.assert_identical(full, load(two_zones, chunks=17, **args).compute())
        recipe = Recipe.of(whole)
        part = recipe.open(geobox=recipe.geobox[9:17, 5:19]).compute()
        xr.testing.assert_equal(
            part.drop_vars("items"),
            full.isel(y=slice(9, 17), x=slice(5, 19)).drop_vars("items"),
        )

    @pytest.mark.parametrize("crs", ["EPSG:32631", "EPSG:3857", "EPSG:4326"])
    def test_resolution_is_metres_on_the_ground(self, two_zones, crs):
        scene = load(two_zones, crs=crs, resolution=20, mosaic="first")
        box = scene.odc.geobox
        left, top = box.transform.c, box.transform.f
        right, bottom = left + 50 * box.transform.a, top + 50 * box.transform.e
        lon, lat = rasterio.warp.transform(crs, "EPSG:4326", [left, right, left], [top, top, bottom])
        geod = Geod(ellps="WGS84")
        assert geod.inv(lon[0], lat[0], lon[1], lat[1])[2] == pytest.approx(1000, rel=0.006)
        assert geod.inv(lon[0], lat[0], lon[2], lat[2])[2] == pytest.approx(1000, rel=0.006)

    def test_a_recipe_can_be_read_onto_any_grid(self, two_zones):
        scene = load(two_zones, crs=UTM, mosaic="first")
        other = GeoBox.from_bbox((263_200, NORTH - 500, 263_600, NORTH - 100), "EPSG:32632", resolution=20)
        found = Recipe.of(scene).open(geobox=other).compute()
        expected = load(two_zones, geobox=other, mosaic="first").compute()
        np.testing.assert_array_equal(found.red, expected.red)
        assert found.valid.all()


def ground(lon, lat):
    """30,000 and 300 numbers a pixel of 10 m to the east, for rasters that know where they are."""
    return (30_000 + 300 * 7_880 * (lon - 6.0) + 50 * 11_112 * (lat - 45.1)).clip(1, 65_535).astype("uint16")


class TestScene:
    def test_it_has_crs_time_and_items_for_both_accessors(self, tmp_path):
        docs = [
            place(tmp_path, 1, time="2024-05-01T10:00:00Z")[0],
            place(tmp_path, 2, time="2024-05-01T10:00:30Z")[0],
            place(tmp_path, 3, time="2024-05-03T10:00:00")[0],
        ]
        scene = load(docs)
        assert dict(scene.sizes) == {"time": 2, "y": 40, "x": 50}
        assert list(scene["items"].values) == ["item-1 item-2", "item-3"]
        assert list(scene.time.values) == list(pd.to_datetime(["2024-05-01T10:00:00", "2024-05-03T10:00:00"]))
        assert scene.rio.crs.to_epsg() == 32631
        assert scene.red.rio.crs.to_epsg() == 32631
        assert scene.odc.geobox == GeoBox((40, 50), grid(WEST, NORTH, 1), UTM)
        assert all(dask.is_dask_collection(scene[name]) for name in scene.data_vars)

    def test_solar_days_time_and_items_make_times(self, tmp_path):
        # 23:30 and 00:30 UTC are one solar day at 180 degrees east
        transform = grid(WEST, 8_000_000, 1)
        path = write(tmp_path / "a.tif", noise(1, (4, 20, 20)), transform, "EPSG:32760")
        docs = [item(str(i), path, time=t) for i, t in enumerate(("2024-05-01T23:30:00Z", "2024-05-02T00:30:00Z"))]
        assert load(docs).sizes["time"] == 1
        assert load(docs, groupby="time").sizes["time"] == 2
        assert load([docs[0], docs[0]], groupby="time").sizes["time"] == 1
        assert load([docs[0], docs[0]], groupby="item").sizes["time"] == 2

    def test_nothing_is_read_before_it_is_asked_for(self):
        """The network is blocked in tests: recorded items of remote files still make scenes."""
        scene = load(recorded("naip_page2"), resolution=0.6, mosaic="latest")
        assert scene.sizes["x"] == 26638
        assert len(Recipe.of(scene).layers) == 10

    def test_the_graph_holds_the_recipe_once(self):
        scene = load(recorded("naip_page2"), mosaic="latest", chunks=512)
        graph = scene.red.data.dask
        keys = [key for key in graph.layers if key.startswith("recipe-")]
        assert len(keys) == 1
        assert len(pickle.dumps(scene.red.data.dask)) < 60_000

    def test_each_chunk_is_read_once_whatever_is_asked_of_it(self, tmp_path, monkeypatch):
        from remotesam_geo import render
        from remotesam_geo.scenes import build as dataset

        asked = []
        read = dataset.read_block
        monkeypatch.setattr(dataset, "read_block", lambda *args, **kwargs: asked.append(1) or read(*args, **kwargs))
        scene = load(place(tmp_path, 1)[0], chunks=25)
        for lazy in (scene, scene.red, scene.mean(), render(scene), render(scene).rgb):
            asked.clear()
            lazy.compute()
            assert len(asked) == 4
        asked.clear()
        render(scene).rgb[0, :5, :5].compute()
        assert len(asked) == 1

    def test_well_described_items_are_as_odc_stac_loads_them(self, tmp_path):
        """The same reader through its public interface, and odc-stac's own grid and graph."""
        docs = []
        for i, at in enumerate([(0, 0), (7, 11)]):
            doc, _ = place(tmp_path, i, at=at, names=("red",), nodata=0, time=f"2024-05-0{i + 1}T10:00:00Z")
            assets = {}
            for name in ("red", "green"):
                path = write(
                    tmp_path / f"{i}{name}.tif",
                    noise(i, (1, 40, 50), dtype="uint16"),
                    grid(WEST + at[1], NORTH - at[0], 1),
                    UTM,
                    nodata=0,
                )
                assets[name] = item("x", path, names=(name,))["assets"]["image"]
            doc |= {
                "assets": assets,
                "geometry": shapely.box(*doc["bbox"]).__geo_interface__,
                "stac_extensions": [
                    f"https://stac-extensions.github.io/{name}/schema.json"
                    for name in ("eo/v1.1.0", "projection/v1.1.0", "raster/v1.1.0")
                ],
            }
            docs.append(doc)
        items = [pystac.Item.from_dict(doc) for doc in docs]
        theirs = odc.stac.load(
            items,
            ["red", "green"],
            groupby="solar_day",
            driver=SceneDriver(),
            resampling="auto",
            chunks={},
        )
        ours = load(items, ["red", "green"])
        assert ours.odc.geobox == theirs.odc.geobox
        for name in ("red", "green"):
            np.testing.assert_array_equal(ours[name], theirs[name])
        np.testing.assert_array_equal(ours.time, theirs.time)

    def test_physical_values_where_items_differ_or_on_demand(self, tmp_path):
        docs = []
        for i, (scale, offset, number) in enumerate([(1e-4, -0.1, 3500), (1e-4, 0.0, 2500)]):
            pixels = np.full((3, 10, 10), number, "uint16")
            pixels[:, 0] = 0
            path = write(tmp_path / f"{i}.tif", pixels, grid(WEST, NORTH, 10), UTM, nodata=0)
            doc = item(str(i), path, names=("red", "green", "blue"), time=f"2024-05-0{i + 1}T10:00:00Z")
            for band in doc["assets"]["image"]["raster:bands"]:
                band |= {"scale": scale, "offset": offset}
            docs.append(doc)
        both = load(docs).compute()
        assert both.red.dtype == "float32"
        np.testing.assert_allclose(both.red.values[:, 1:], 0.25, atol=1e-6)
        assert np.isnan(both.red.values[:, 0]).all()
        assert both.red.attrs["quantity"] == "reflectance"
        one = load(docs[0]).compute()
        assert one.red.dtype == "uint16"
        assert (one.red.attrs["scale_factor"], one.red.attrs["add_offset"]) == (1e-4, -0.1)
        assert one.red.attrs["nodata"] == 0
        np.testing.assert_allclose(load(docs[0], rescale=True).red.values[0, 1:], 0.25, atol=1e-6)
        with pytest.raises(InputError, match="differ in scale or offset"):
            load(docs, rescale=False)

    def test_pictures_and_reflectance_do_not_mix(self, tmp_path):
        eight, _ = place(tmp_path, 1, names=("red", "green", "blue"))
        path = write(tmp_path / "b.tif", noise(2, (3, 40, 50), dtype="uint16"), grid(WEST, NORTH, 1), UTM)
        sixteen = item("b", path, names=("red", "green", "blue"), collection="other")
        with pytest.raises(InputError, match="cannot be compared"):
            load([eight, sixteen])


class TestMasks:
    @pytest.fixture
    def scene_with(self, tmp_path):
        def build(key, values, dtype, **kwargs):
            pixels = noise(1, (3, 20, 20), dtype="uint16")
            path = write(tmp_path / "a.tif", pixels, grid(WEST, NORTH, 10), UTM, nodata=0)
            classes = write(tmp_path / "q.tif", np.array(values, dtype)[None], grid(WEST, NORTH, 20), UTM)
            doc = item("a", path, names=("red", "green", "blue"))
            doc["assets"][key] = {"href": classes, "type": "image/tiff", "roles": ["data"]}
            return load(doc, **kwargs).compute()

        return build

    def test_scl_takes_clouds_and_shadows_out(self, scene_with):
        classes = np.full((10, 10), 4)
        classes[0, :4] = [3, 8, 9, 10]
        classes[1, :3] = [0, 7, 11]
        scene = scene_with("SCL", classes, "uint8", mask="clouds")
        cloudy = np.zeros((20, 20), bool)
        cloudy[:2, :8] = True
        np.testing.assert_array_equal(scene.valid.values[0], ~cloudy)
        assert not scene.red.values[0][cloudy].any()

    def test_qa_pixel_takes_clouds_and_shadows_out_by_their_bits(self, scene_with):
        classes = np.full((10, 10), 1 << 6)
        for column, bit in enumerate((1, 2, 3, 4)):
            classes[0, column] |= 1 << bit
        classes[1, :2] = [1 << 5, 1 << 7]
        scene = scene_with("qa_pixel", classes, "uint16", mask="clouds")
        assert (~scene.valid.values[0]).sum() == 16
        assert not scene.valid.values[0][:2, :8].any()

    def test_values_of_ones_own(self, scene_with):
        classes = np.arange(100).reshape(10, 10)
        scene = scene_with("land", classes, "uint8", mask={"land": [0, 99]})
        assert (~scene.valid.values[0]).sum() == 8

    def test_a_cloud_lets_the_next_item_through(self, tmp_path):
        docs = []
        for i, cloud in enumerate((9, 4)):
            pixels = np.full((3, 10, 10), i + 1, "uint16")
            path = write(tmp_path / f"{i}.tif", pixels, grid(WEST, NORTH, 10), UTM)
            classes = write(
                tmp_path / f"q{i}.tif",
                np.full((1, 10, 10), cloud, "uint8"),
                grid(WEST, NORTH, 10),
                UTM,
            )
            doc = item(str(i), path, names=("red", "green", "blue"))
            doc["assets"]["scl"] = {"href": classes, "type": "image/tiff"}
            docs.append(doc)
        assert (load(docs, mosaic="first", mask="clouds").source.values == 1).all()

    def test_no_quality_band_is_an_error(self, tmp_path):
        doc, _ = place(tmp_path, 1)
        with pytest.raises(InputError, match="neither SCL nor QA_PIXEL"):
            load(doc, mask="clouds")
        with pytest.raises(InputError, match="There is: image"):
            load(doc, mask={"SCL": [3]})
        with pytest.raises(InputError, match="mask='snow'"):
            load(doc, mask="snow")


class TestArguments:
    def test_areas_of_every_kind_cut_the_same_scene(self, tmp_path):
        import geopandas as gpd

        doc, pixels = place(tmp_path, 1, size=10)
        box = shapely.box(WEST + 100, NORTH - 300, WEST + 350, NORTH - 100)
        frame = gpd.GeoDataFrame(geometry=[box], crs=UTM)
        lonlat = frame.to_crs(4326).geometry.iloc[0]
        kinds = [frame, frame.geometry, frame.to_crs(3857), lonlat, lonlat.__geo_interface__]
        scenes = [load(doc, geometry=kind) for kind in kinds]
        scenes += [load(doc, bbox=lonlat.bounds)]
        for scene in scenes:
            assert scene.odc.geobox.boundingbox.bbox == pytest.approx(
                (WEST + 100, NORTH - 300, WEST + 350, NORTH - 100), abs=10.1
            )
        np.testing.assert_array_equal(
            scenes[0].isel(x=slice(1, 20), y=slice(1, 10)).red.values[0],
            pixels[0][
                int((NORTH - scenes[0].y.values[1]) // 10) :,
                int((scenes[0].x.values[1] - WEST) // 10) :,
            ][:9, :19],
        )

    @pytest.mark.parametrize(
        ("bbox", "told"),
        [
            ((500_000, 4_990_000, 500_500, 5_000_000), "metres"),
            ((45.0, 100.0, 45.1, 100.1), "swapped"),
            ((3, 46, 4, 45), "south above its north"),
            ((3, 45, 3, 46), "no area"),
            ((200, 45, 210, 46), "antimeridian"),
            ((3, 45, 4), "in degrees"),
            ("3,45,4,46", "in degrees"),
            ((3, 45, float("nan"), 46), "no numbers"),
        ],
    )
    def test_a_bbox_that_cannot_be_meant_says_why(self, tmp_path, bbox, told):
        doc, _ = place(tmp_path, 1)
        with pytest.raises(InputError, match=told):
            load(doc, bbox=bbox)

    def test_utm_is_the_zone_of_the_middle(self, tmp_path):
        doc, _ = place(tmp_path, 1)
        assert load(doc, crs="utm").rio.crs.to_epsg() == 32631
        assert load(doc, crs="utm", bbox=(2.999, 45.153, 3.01, 45.154)).rio.crs.to_epsg() == 32631
        bare = item("b", doc["assets"]["image"]["href"], proj=False)
        assert load(bare, crs="utm", resolution=1).rio.crs.to_epsg() == 32631

    def test_no_overlap_says_where_the_items_are(self, tmp_path):
        doc, _ = place(tmp_path, 1)
        with pytest.raises(InputError, match=r"none of the 1 items overlaps.*they lie within"):
            load(doc, bbox=(10, 50, 11, 51))
        with pytest.raises(InputError, match="none of the 1 items overlaps"):
            load(doc, geobox=GeoBox((5, 5), grid(WEST + 9000, NORTH, 1), UTM))

    def test_an_unknown_band_says_what_there_is(self, tmp_path):
        doc, _ = place(tmp_path, 1)
        with pytest.raises(InputError, match=r"'rde' \(did you mean 'red'\?\)\. There is: image, red"):
            load(doc, bands=["rde"])

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            ({"groupby": "day"}, "groupby='day'"),
            ({"mosaic": "last"}, "mosaic='last'"),
            ({"resolution": 0}, "above 0"),
            ({"resolution": -1}, "above 0"),
            ({"crs": "EPSG:99999"}, "no CRS that PROJ knows"),
            ({"chunks": 0}, "chunks=0"),
            ({"chunks": {"lat": 5}}, "rows and columns"),
            ({"geobox": GeoBox((5, 5), grid(WEST, NORTH, 1), UTM), "resolution": 5}, "says it all"),
            ({"geobox": GeoBox((5, 5), grid(WEST, NORTH, 1), None)}, "has no CRS"),
            ({"bbox": (3, 45, 4, 46), "geometry": shapely.box(3, 45, 4, 46)}, "not both"),
            ({"geometry": shapely.Polygon()}, "is empty"),
            ({"geometry": 5}, "geometry= must be"),
        ],
    )
    def test_wrong_arguments_are_refused_with_their_value(self, tmp_path, arguments, told):
        doc, _ = place(tmp_path, 1)
        with pytest.raises(InputError, match=told):
            load(doc, **arguments)

    def test_a_mistyped_argument_is_an_error(self, tmp_path):
        with pytest.raises(TypeError, match="resoluton"):
            load(place(tmp_path, 1)[0], resoluton=5)

    def test_an_absurd_size_is_refused_with_its_numbers(self):
        docs = recorded("s2_collection1") + recorded("s2_earth_search_applied")
        told = r"3 x [\d,]+ x [\d,]+ = [\d,]+ pixels a band.*bbox="
        with pytest.raises(InputError, match=told):
            load(docs, rescale=True, crs="EPSG:32613", resolution=10)
        with pytest.raises(InputError, match="max_pixels=120560400"):
            load(recorded("s2_earth_search_applied"), max_pixels=1000)


class TestRecipes:
    def test_another_process_makes_the_same_scene(self, tmp_path):
        first, _ = place(tmp_path, 1, nodata=0, holes=[(slice(5, 9), slice(3, 20))])
        second, _ = place(tmp_path, 2, at=(4, 7))
        scene = load([first, second], mosaic="latest", chunks=16)
        (tmp_path / "recipe.json").write_text(Recipe.of(scene).to_json())
        code = (
            "import sys, pathlib; from remotesam_geo.scenes import Recipe;"
            "scene = Recipe.from_json(pathlib.Path(sys.argv[1]).read_text()).open();"
            "scene.compute().to_netcdf(sys.argv[2], engine='scipy', format='NETCDF3_64BIT') if 0 else"
            " __import__('numpy').savez(sys.argv[2], **{n: scene[n].values for n in scene.data_vars})"
        )
        out = tmp_path / "there.npz"
        subprocess.run([sys.executable, "-c", code, tmp_path / "recipe.json", out], check=True)
        there = np.load(out)
        for name in scene.data_vars:
            np.testing.assert_array_equal(there[name], scene[name].values)

    def test_it_is_plain_json_and_round_trips(self, tmp_path):
        docs = [place(tmp_path, i, time=f"2024-05-0{i}T10:00:00Z")[0] for i in (1, 2)]
        recipe = Recipe.of(load(docs))
        text = recipe.to_json()
        assert json.loads(text, parse_constant=None) == recipe.to_dict()
        again = Recipe.from_json(text)
        assert again == recipe
        assert again.digest == recipe.digest
        assert "item-1" in text

    def test_its_hrefs_carry_no_planetary_computer_token(self):
        docs = recorded("naip_page1")
        for doc in docs:
            doc["assets"]["image"]["href"] += "?st=2026&se=2027&sp=rl&sig=SECRET%3D"
        scene = load(docs, mosaic="latest")
        assert "SECRET" not in Recipe.of(scene).to_json()
        assert b"SECRET" not in pickle.dumps(scene.red.data.dask)

    def test_a_signature_that_must_stay_is_told(self):
        doc = recorded("naip_page1")[0]
        doc["links"] = []
        doc["assets"]["image"]["href"] = "https://a.org/x.tif?X-Amz-Signature=1"
        with pytest.warns(RemoteSAMWarning, match="carry a signature"):
            load(doc)

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda s: s.isel(x=slice(3)), "'red' was computed with or cut"),
            (lambda s: s * 2, "'red' was computed with or cut"),
            (lambda s: s.assign(red=s.red + 1), "'red' was computed with or cut"),
            (lambda s: s.assign(red=s.green), "'red' was computed with or cut"),
            (lambda s: s.assign(ndvi=s.red), "'ndvi' is new"),
            (lambda s: s.rename(red="green", green="red"), "'(red|green)' was computed"),
            (lambda s: s.compute(), "'red' is in memory"),
            (lambda s: s.assign_coords(x=s.x + 1), "coordinates 'x'"),
            (lambda s: s.assign(red=s.red.assign_attrs(scale_factor=2)), "attributes of 'red'"),
            (lambda s: s.isel(y=slice(None, None, -1)), "'red' was computed with or cut"),
            (lambda s: s.where(s.valid), "'red' was computed with or cut|no recipe"),
            (lambda s: s[[]], "no variables left"),
            (lambda s: s.red, "no recipe"),
        ],
    )
    def test_a_changed_scene_has_none_and_says_so(self, tmp_path, change, told):
        scene = load(place(tmp_path, 1)[0], mosaic="first")
        with pytest.raises(InputError, match=told) as caught:
            Recipe.of(change(scene))
        assert "to_zarr" in str(caught.value)

    def test_a_scene_cut_in_other_chunks_or_with_fewer_bands_keeps_it(self, tmp_path):
        scene = load(place(tmp_path, 1)[0], mosaic="first")
        recipe = Recipe.of(scene)
        for same in (scene.chunk(x=7), scene[["red", "valid"]], scene.persist(), scene.copy()):
            assert Recipe.of(same) is recipe
        assert Recipe.of(pickle.loads(pickle.dumps(scene))) == recipe

    def test_a_block_is_read_without_a_graph(self, tmp_path):
        docs = [place(tmp_path, i, at=(0, 60 * i))[0] for i in range(3)]
        scene = load(docs, mosaic="first")
        recipe = Recipe.of(scene)
        part = recipe.geobox[5:30, 65:90]
        block = read_block(recipe, part)
        np.testing.assert_array_equal(block.bands["red"], scene.red.values[5:30, 65:90])
        assert set(np.unique(block.source)) == {1}
        assert [layer.item for layer in recipe.on(part).layers] == ["item-1"]

    def test_a_recipe_of_another_version_or_kind_is_refused(self):
        with pytest.raises(InputError, match="version 99"):
            Recipe.from_dict({"version": 99})
        with pytest.raises(InputError, match="not a recipe"):
            Recipe.from_dict({"version": 1})

    def test_an_open_scene_can_be_kept_in_zarr(self, tmp_path):
        scene = load([place(tmp_path, i)[0] for i in (1, 2)], mosaic="first")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of zarr, about its string type
            scene.to_zarr(tmp_path / "scene.zarr")
            again = xr.open_zarr(tmp_path / "scene.zarr")
        np.testing.assert_array_equal(again.red, scene.red)
