"""What the network sees: one rule for the whole scene, whatever its shape, type, units and chunks."""

import dask
import dask.array as da
import numpy as np
import pytest
import rioxarray
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from remotesam_geo import load, open_raster, render
from remotesam_geo.errors import InputError, ReadError, RemoteSAMWarning
from remotesam_geo.scenes import ReadPolicy, Recipe, Stretch, Trust, render_block
from remotesam_geo.scenes.recipe import policy_of
from tests.scenes.places import grid, item, noise, raster, write

UTM = "EPSG:32631"
WEST, NORTH = 500_000, 5_000_000


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def dataset(pixels, dims=("y", "x"), names=("red", "green", "blue"), **attrs):
    return xr.Dataset({name: (dims, plane, attrs) for name, plane in zip(names, pixels, strict=True)})


def sentinel(folder, name, number, offset, shape=(30, 40), **kwargs):
    """A reflectance scene: constant digital numbers, with a hole."""
    pixels = np.full((3, *shape), number, "uint16")
    pixels[:, :3] = 0
    path = write(folder / f"{name}.tif", pixels, grid(WEST, NORTH, 10), UTM, nodata=0)
    doc = item(name, path, names=("red", "green", "blue"))
    for band in doc["assets"]["image"]["raster:bands"]:
        band |= {"scale": 1e-4, "offset": offset}
    return load(doc, mosaic="first", **kwargs)


class TestEightBit:
    def test_pixels_pass_untouched_and_lazily(self):
        pixels = noise(1, (3, 20, 30), low=0, high=256)
        lazy = dataset([da.from_array(plane, chunks=7) for plane in pixels])
        out = render(lazy)
        assert dask.is_dask_collection(out.rgb)
        assert (out.rgb.dims, out.rgb.dtype) == (("y", "x", "band"), "uint8")
        np.testing.assert_array_equal(out.rgb, pixels.transpose(1, 2, 0))
        assert out.valid.all()
        assert out.attrs["stretch"] == ""
        eager = render(dataset(pixels))
        assert not dask.is_dask_collection(eager.rgb)
        xr.testing.assert_identical(eager, out.compute())

    def test_what_is_not_valid_is_black(self, tmp_path):
        pixels = noise(1, (3, 20, 20))
        pixels[:, 4:9] = 0
        pixels[1, 12] = 0
        scene = open_raster(write(tmp_path / "a.tif", pixels, grid(WEST, NORTH, 1), UTM, nodata=0))
        out = render(scene)
        np.testing.assert_array_equal(out.valid.values.all(axis=1), ~np.isin(np.arange(20), range(4, 9)))
        assert not out.rgb.values[4:9].any()
        assert out.rio.crs.to_epsg() == 32631
        assert out.odc.geobox == scene.odc.geobox

    def test_nodata_said_by_attributes(self):
        pixels = noise(1, (3, 6, 6))
        pixels[:, 0] = 9
        pixels[0, 1] = 9
        for attr in ("nodata", "_FillValue"):
            valid = render(dataset(pixels, **{attr: 9})).valid.values
            assert not valid[0].any()
            assert valid[1:].all(), "8-bit: one band alone may well have that value"
        wide = pixels.astype("uint16")
        valid = render(dataset(wide, nodata=9), stretch=(0, 300)).valid.values
        assert not valid[:2].any()


class TestShapes:
    @pytest.mark.parametrize("chunked", [False, True])
    @pytest.mark.parametrize(
        ("dims", "order"),
        [
            (("band", "y", "x"), (0, 1, 2)),
            (("y", "x", "band"), (1, 2, 0)),
            (("channel", "latitude", "longitude"), (0, 1, 2)),
            (("lat", "lon", "c"), (1, 2, 0)),
            (("bands", "y", "x"), (0, 1, 2)),
        ],
    )
    def test_arrays_in_every_order(self, dims, order, chunked):
        pixels = noise(1, (3, 8, 9))
        array = xr.DataArray(pixels.transpose(order), dims=dims)
        out = render(array.chunk(5) if chunked else array)
        np.testing.assert_array_equal(out.rgb, pixels.transpose(1, 2, 0))
        assert set(out.rgb.dims[:2]) == set(dims) - {"band", "bands", "channel", "c"}

    def test_time_is_kept(self):
        pixels = noise(1, (2, 3, 8, 9))
        times = np.array(["2024-05-01", "2024-06-01"], "datetime64[ns]")
        array = xr.DataArray(pixels, dims=("time", "band", "y", "x"), coords={"time": times})
        out = render(array)
        assert out.rgb.dims == ("time", "y", "x", "band")
        np.testing.assert_array_equal(out.rgb, pixels.transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(out.time, times)
        other = array.rename(time="date").transpose("date", "y", "x", "band")
        np.testing.assert_array_equal(render(other).rgb, out.rgb)

    @pytest.mark.parametrize("shape", [(8, 9), (1, 8, 9)])
    def test_grey_is_shown_three_times(self, shape):
        pixels = noise(1, shape)
        out = render(xr.DataArray(pixels, dims=("band", "y", "x")[-len(shape) :]))
        np.testing.assert_array_equal(out.rgb, np.repeat(pixels.reshape(8, 9, 1), 3, axis=2))
        named = render(xr.Dataset({"pan": (("y", "x"), pixels.reshape(8, 9))}))
        np.testing.assert_array_equal(named.rgb, out.rgb)

    def test_four_bands_by_their_names(self):
        pixels = noise(1, (4, 8, 9))
        plain = xr.DataArray(pixels, dims=("band", "y", "x"))
        np.testing.assert_array_equal(render(plain).rgb, pixels[:3].transpose(1, 2, 0))
        assert render(plain).valid.all()
        names = ["blue", "green", "red", "alpha"]
        pixels[3] = (np.arange(9) > 2) * 255
        out = render(plain.assign_coords(band=names))
        expected = np.where(pixels[3][..., None] > 0, pixels[2::-1].transpose(1, 2, 0), 0)
        np.testing.assert_array_equal(out.rgb, expected)
        np.testing.assert_array_equal(out.valid, pixels[3] > 0)
        described = plain.assign_attrs(long_name=("nir", "red", "green", "blue"))
        np.testing.assert_array_equal(render(described).rgb, pixels[1:].transpose(1, 2, 0))

    def test_bands_are_chosen_by_name_or_number(self):
        pixels = noise(1, (6, 8, 9))
        array = xr.DataArray(pixels, dims=("band", "y", "x"))
        np.testing.assert_array_equal(render(array, bands=[6, 1, 3]).rgb, pixels[[5, 0, 2]].transpose(1, 2, 0))
        scene = dataset(pixels[:4], names=("nir", "red", "green", "swir"))
        out = render(scene, bands=["nir", "red", "green"])
        np.testing.assert_array_equal(out.rgb, pixels[:3].transpose(1, 2, 0))
        np.testing.assert_array_equal(render(scene, bands="swir").rgb[..., 1], pixels[3])

    def test_a_file_opened_by_rioxarray(self):
        with rioxarray.open_rasterio(raster("naip_2014.tif")) as array:
            out = render(array)
            np.testing.assert_array_equal(out.rgb, array.values[:3].transpose(1, 2, 0))
            assert out.odc.geobox == array.odc.geobox
        masked = rioxarray.open_rasterio(raster("rgb_nodata.tif"), masked=True)
        out = render(masked, stretch=(0, 255))
        np.testing.assert_array_equal(out.valid, np.isfinite(masked.values).all(axis=0))
        plain = rioxarray.open_rasterio(raster("rgb_nodata.tif"))
        np.testing.assert_array_equal(render(plain).valid, out.valid)

    @pytest.mark.parametrize(
        ("scene", "told"),
        [
            (
                dataset(noise(1, (2, 5, 5)), names=("red", "green")),
                "has 2 bands.*there is: red, green",
            ),
            (xr.DataArray(noise(1, (2, 5, 5)), dims=("band", "y", "x")), "has 2 bands"),
            (xr.DataArray(noise(1, (7, 5, 5)), dims=("band", "y", "x")), "there is: 1, 2"),
            (xr.DataArray(noise(1, (3, 2, 5, 5)), dims=("band", "level", "y", "x")), "none can be"),
            (xr.DataArray(noise(1, (5,)), dims=("x",)), "no two of them are space"),
            (xr.DataArray(np.zeros((5, 5), bool), dims=("y", "x")), "which is no picture"),
            (np.zeros((5, 5, 3), "uint8"), "open_raster"),
            ("a.tif", "open_raster"),
        ],
    )
    def test_what_cannot_be_understood_is_refused(self, scene, told):
        with pytest.raises(InputError, match=told):
            render(scene)

    def test_bands_of_different_shape_are_refused(self):
        scene = xr.Dataset({n: ((f"y{n}", f"x{n}"), noise(1, (4, 4))) for n in ("red", "green", "blue")})
        with pytest.raises(InputError, match="differ in shape"):
            render(scene)


class TestStretch:
    def test_reflectance_has_a_known_default_whatever_its_offset(self, tmp_path):
        """0.15 is the middle of 0 to 0.3, written in three ways."""
        scenes = [
            sentinel(tmp_path, "new", 2500, -0.1),
            sentinel(tmp_path, "old", 1500, 0.0),
            sentinel(tmp_path, "physical", 2500, -0.1, rescale=True),
        ]
        for scene in scenes:
            out = render(scene)
            assert set(np.unique(out.rgb.values[3:])) <= {127, 128}
            assert not out.valid.values[:3].any()
            assert Stretch.from_json(out.attrs["stretch"]) == Stretch(limits=((0.0, 0.3),) * 3, of="reflectance")

    def test_limits_can_be_handed_to_another_scene(self, tmp_path):
        first = render(
            sentinel(tmp_path, "a", 2500, -0.1),
            stretch=Stretch(limits=((0, 0.6),) * 3, of="reflectance"),
        )
        second = render(sentinel(tmp_path, "b", 1500, 0.0), stretch=first.attrs["stretch"])
        np.testing.assert_array_equal(first.rgb, second.rgb)
        assert second.rgb.max() == 64

    def test_limits_of_ones_own_in_every_form(self):
        pixels = np.stack([np.full((2, 2), v, "uint16") for v in (100, 200, 300)])
        scene = dataset(pixels)
        forms = [
            (0, 400),
            [(0, 400)] * 3,
            np.array([0, 400]),
            dict.fromkeys(("red", "green", "blue"), (0, 400)),
        ]
        forms += [Stretch(limits=((0, 400),) * 3), Stretch(limits=((0, 400),) * 3).to_json()]
        for form in forms:
            assert render(scene, stretch=form).rgb.values[0, 0].tolist() == [64, 128, 191]
        each = render(scene, stretch=[(100, 200), (100, 200), (300, 500)])
        assert each.rgb.values[0, 0].tolist() == [0, 255, 0]

    @pytest.mark.parametrize(
        ("stretch", "told"),
        [
            ((5, 5), "a lower and a higher"),
            ((5, 1), "a lower and a higher"),
            ((0, float("nan")), "a lower and a higher"),
            ((0, 1, 2), "three such pairs"),
            ("linear", "not a stretch"),
            ({"red": (0, 1)}, "each of red, green, blue"),
            ((0, 0.3), "of='reflectance'"),
            (
                Stretch(limits=((0, 0.3),) * 3, of="reflectance"),
                "not known that the scene's numbers",
            ),
            ("", "these are not 8-bit"),
            (object(), "give \\(low, high\\)"),
        ],
    )
    def test_limits_that_cannot_be_meant_are_refused(self, stretch, told):
        with pytest.raises(InputError, match=told):
            render(dataset(noise(1, (3, 5, 5), dtype="uint16")), stretch=stretch)

    @settings(max_examples=12)
    @given(
        hnp.arrays("uint16", (3, 13, 17)),
        st.integers(4, 17),
        st.integers(4, 13),
        st.tuples(st.floats(-1e4, 1e5), st.floats(1, 1e5)),
    )
    def test_any_chunks_give_the_same_bytes(self, pixels, across, down, limits):
        low, span = limits
        scene = dataset(pixels, nodata=0)
        whole = render(scene, stretch=(low, low + span))
        cut = render(scene.chunk(x=across, y=down), stretch=(low, low + span))
        xr.testing.assert_identical(cut.compute(), whole)
        exact = (pixels.astype(float) - low) * 255 / span
        expected = np.where((pixels == 0).any(axis=0), 0, np.clip(exact, 0, 255))
        assert np.abs(whole.rgb.values.astype(float) - expected.transpose(1, 2, 0)).max() <= 0.51


class TestPercentiles:
    @pytest.fixture
    def unknown(self, tmp_path):
        """16-bit numbers of unknown meaning, at two times, with a hole of nodata."""
        docs = []
        for day in (1, 2):
            rng = np.random.default_rng(day)
            pixels = rng.normal(3000 * day, 400, (3, 300, 260)).clip(1, 65_000).astype("uint16")
            pixels[:, :60] = 0
            path = write(
                tmp_path / f"{day}.tif",
                pixels,
                grid(WEST, NORTH, 1),
                UTM,
                nodata=0,
                overviews=(2, 4),
            )
            docs.append(item(f"d{day}", path, names=("red", "green", "blue"), time=f"2024-05-0{day}T10:00Z"))
        return docs

    def test_one_rule_for_all_times_announced_and_recorded(self, unknown):
        scene = load(unknown)
        with pytest.warns(RemoteSAMWarning, match="percentiles .* of the whole scene"):
            out = render(scene)
        stretch = Stretch.from_json(out.attrs["stretch"])
        low, high = stretch.limits[0]
        assert stretch.of == "values"
        assert 1900 < low < 2700, "the low end of the first day, not 0 of its hole"
        assert 6300 < high < 7200, "the high end of the second"
        np.testing.assert_array_equal(render(scene, stretch=out.attrs["stretch"]).rgb, out.rgb)
        dark, bright = out.rgb.values.astype(float)[:, 60:].mean(axis=(1, 2, 3))
        assert bright - dark > 80, "one rule: the days keep their difference"

    def test_chunks_of_the_scene_or_of_its_source_change_nothing(self, unknown):
        scenes = (
            load(unknown, chunks=64),
            load(unknown, chunks=-1),
            load(unknown, chunks=100).chunk(x=33, y=300, time=2),
        )
        outs = [render(scene, stretch="percentiles").compute() for scene in scenes]
        xr.testing.assert_identical(outs[0], outs[1])
        xr.testing.assert_identical(outs[0], outs[2])

    def test_they_are_read_from_overviews_once(self, unknown, monkeypatch):
        from remotesam_geo.scenes import stretch as stretches

        asked = []
        read = stretches.read_block

        def counted(recipe, geobox, *args, **kwargs):
            asked.append(geobox)
            return read(recipe, geobox, *args, **kwargs)

        monkeypatch.setattr(stretches, "read_block", counted)
        monkeypatch.setattr(stretches, "_SAMPLE_SIDE", 80)
        scene = load(unknown)
        render(scene, stretch="percentiles")
        assert len(asked) == 2, "one read a time"
        assert all(box.shape == (75, 65) for box in asked), "a quarter: an overview of the file"

    def test_they_are_read_as_the_scene_is(self, unknown):
        for doc in unknown:
            doc["links"] = [{"rel": "self", "href": "https://a.org/item.json"}]
        trusting = ReadPolicy(trust=Trust(local_files=True))
        scene = load(unknown, policy=trusting)
        assert policy_of(scene) == trusting
        render(scene, stretch="percentiles")
        with pytest.raises(ReadError, match="local_files"):
            render(scene, stretch="percentiles", policy=ReadPolicy())

    def test_without_a_recipe_windows_are_taken_wherever_chunks_lie(self):
        pixels = np.random.default_rng(1).normal(3000, 400, (3, 700, 900)).astype("uint16")
        outs = [
            render(scene, stretch="percentiles").compute()
            for scene in (
                dataset(pixels),
                dataset(pixels).chunk(x=100, y=130),
                dataset(pixels).chunk(),
            )
        ]
        for out in outs[1:]:
            xr.testing.assert_identical(out, outs[0])
        low, high = Stretch.from_json(outs[0].attrs["stretch"]).limits[0]
        expected = np.percentile(pixels[0], (2, 98))
        assert (low, high) == pytest.approx(expected, rel=0.02)

    def test_floats_with_holes_of_nan(self):
        pixels = np.random.default_rng(1).normal(-3e5, 4e4, (3, 300, 300)).astype("float32")
        pixels[:, :200] = np.nan
        out = render(dataset(pixels), stretch="percentiles")
        low, high = Stretch.from_json(out.attrs["stretch"]).limits[0]
        assert (low, high) == pytest.approx(np.nanpercentile(pixels[0], (2, 98)), rel=0.03)
        assert not out.valid.values[:200].any()
        assert out.valid.values[200:].all()

    def test_a_changed_scene_still_gets_one_rule(self, unknown):
        scene = load(unknown)
        brighter = scene.assign({n: scene[n] + 500 for n in ("red", "green", "blue")})
        plain, shifted = (render(s, stretch="percentiles") for s in (scene, brighter))
        low = [Stretch.from_json(out.attrs["stretch"]).limits[0][0] for out in (plain, shifted)]
        assert low[1] - low[0] == pytest.approx(500, abs=250)

    def test_reflectance_percentiles_are_recorded_as_reflectance(self, tmp_path):
        out = render(sentinel(tmp_path, "a", 2500, -0.1), stretch="percentiles")
        stretch = Stretch.from_json(out.attrs["stretch"])
        assert stretch.of == "reflectance"
        assert stretch.limits[0][0] == pytest.approx(0.15)

    @pytest.mark.parametrize("stretch", [None, "percentiles"])
    def test_without_a_valid_pixel_nothing_is_valid(self, stretch):
        out = render(dataset(np.zeros((3, 9, 9), "uint16"), nodata=0), stretch=stretch)
        assert not out.valid.any()
        assert not out.rgb.any()
        again = dataset(np.full((3, 9, 9), 7, "uint16"), nodata=0)
        with pytest.raises(InputError, match=r"no valid pixel, but there are some.*stretch=\(low, high\)"):
            render(again, stretch=out.attrs["stretch"])


@pytest.mark.parametrize("kind", ["reflectance", "physical", "percentiles", "8-bit", "grey"])
def test_a_block_rendered_from_its_recipe_equals_the_scene_rendered(tmp_path, kind):
    bands = None
    if kind in {"8-bit", "grey"}:
        path = write(tmp_path / "a.tif", noise(1, (3, 30, 40)), grid(WEST, NORTH, 1), UTM)
        scene = open_raster(path)
        bands = "green" if kind == "grey" else None
    else:
        scene = sentinel(tmp_path, "a", 2500, -0.1, rescale=kind == "physical")
    whole = render(scene, bands, stretch="percentiles" if kind == "percentiles" else None)
    recipe = Recipe.of(scene)
    box = recipe.geobox[2:9, 5:30]
    rgb, valid = render_block(recipe, box, bands=bands, stretch=whole.attrs["stretch"])
    np.testing.assert_array_equal(rgb, whole.rgb.values[2:9, 5:30])
    np.testing.assert_array_equal(valid, whole.valid.values[2:9, 5:30])
    if bands is None:
        part = render(recipe.open(geobox=box), stretch=whole.attrs["stretch"])
        np.testing.assert_array_equal(part.rgb, rgb)


def test_a_block_without_its_stretch_or_bands_is_refused(tmp_path):
    recipe = Recipe.of(sentinel(tmp_path, "a", 2500, -0.1))
    with pytest.raises(InputError, match="not 8-bit"):
        render_block(recipe, recipe.geobox)
    with pytest.raises(InputError, match="there is: red, green, blue"):
        render_block(recipe, recipe.geobox, bands=["nir"])
