"""Maps in files: a byte a pixel as it was made, read by other programs, taken back by the verbs."""

import json

import numpy as np
import odc.geo.xr  # noqa: F401 - gives arrays their .odc
import pytest
import rasterio
import rioxarray
import xarray as xr
from geopandas.testing import assert_geodataframe_equal
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr
from rio_cogeo import cog_validate

from remotesam_geo import open_probabilities, read_provenance, save
from remotesam_geo.errors import InputError, ReadError, WriteError
from remotesam_geo.tasks import decode
from tests.outputs.test_outputs import full_disk
from tests.remotesam.test_remotesam import BAR, DISC, GREEN, MODEL, RED, scene_of

SCENE = scene_of([(BAR, RED), (DISC, GREEN)])
MAPS = ["map.tif", "map.zarr"]


@pytest.fixture(scope="module")
def probabilities():
    return MODEL.probabilities(SCENE, ["red", "green"])


def every_code(times=0):
    """Probabilities that hold every byte there is."""
    codes = np.resize(np.r_[0:201, 255].astype(np.uint8), (2, 700, 600))
    box = GeoBox.from_bbox((0, 0, 600, 700), crs="EPSG:32633", resolution=1)
    array = wrap_xr(decode(codes), box, axis=1).rename("probability")
    array = array.rename({array.dims[0]: "prompt"}).assign_coords(prompt=["ship", "storage tank"])
    if times:
        dates = np.array(["2024-05-01", "2025-05-01"], "datetime64[ns]")
        array = xr.concat([array, array[:, ::-1].assign_coords(y=array.y)], "time")
        array = array.assign_coords(time=dates)
    array.attrs["remotesam"] = '{"model": "x"}'
    return array


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("times", [0, 2])
@pytest.mark.parametrize("lazy", [False, True])
def test_every_probability_comes_back_as_it_was(name, times, lazy, tmp_path):
    array = every_code(times)
    path = save(array.chunk({"y": 233, "x": 177}) if lazy else array, tmp_path / name)
    back = open_probabilities(path)
    assert back.dims == array.dims
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back.values, array.values)
    assert back["prompt"].values.tolist() == ["ship", "storage tank"]
    assert back.odc.geobox == array.odc.geobox
    if times:
        assert back["time"].values.tolist() == array["time"].values.tolist()
    assert read_provenance(path) == {"model": "x"}
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.filterwarnings("ignore:.*fill a window")
@pytest.mark.parametrize("name", MAPS)
def test_verbs_answer_from_a_saved_map_as_from_the_scene(name, probabilities, tmp_path):
    back = open_probabilities(save(probabilities, tmp_path / name))
    for verb in ("segment", "detect"):
        one = getattr(MODEL, verb)(SCENE, ["red", "green"])
        other = getattr(MODEL, verb)(back)
        keep = [c for c in one if c not in {"run_id", "items", "time"}]
        assert_geodataframe_equal(one[keep], other[keep])


def test_probabilities_are_a_valid_cog_of_bytes(tmp_path):
    path = save(every_code(times=2), tmp_path / "map.tif")
    valid, errors, warnings = cog_validate(path, strict=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(path) as file:
        assert file.dtypes == ("uint8",) * 4
        assert file.nodata == 255
        assert file.scales == (0.005,) * 4
        assert file.offsets == (-0.0025,) * 4
        assert file.descriptions[:2] == (
            "ship 2024-05-01T00:00:00Z",
            "storage tank 2024-05-01T00:00:00Z",
        )
        assert file.tags(3) == {"prompt": "ship", "time": "2025-05-01T00:00:00Z"}
        assert file.overviews(1)
        codes = file.read(1)
    assert codes[0, :202].tolist() == [*range(201), 255]


@pytest.mark.parametrize("name", MAPS)
def test_each_window_is_asked_once_while_a_map_is_saved(name, tmp_path):
    asked = []

    class Counting(type(MODEL.model)):
        def predict(self, images, expressions):
            asked.append(len(images))
            return super().predict(images, expressions)

    lazy = type(MODEL)(Counting()).probabilities(SCENE, "red")
    save(lazy, tmp_path / name)
    windows = json.loads(lazy.attrs["remotesam"])["asked"][0]["grid"]
    step = windows["window"] - windows["overlap"]
    rows = -(-(windows["shape"][0] - windows["overlap"]) // step)
    assert sum(asked) == rows**2


@pytest.mark.parametrize("many", [False, True])
def test_classes_are_a_valid_cog_with_names_and_colours(many, tmp_path):
    names = ["red", "green things", *[f"any {n}" for n in range(260 if many else 0)]]
    classes = MODEL.classmap(SCENE, {"red": "red", "green things": "green"})
    if many:
        classes.attrs["flag_meanings"] = " ".join(["background", *(n.replace(" ", "_") for n in names)])
        classes.attrs["remotesam"] = json.dumps({"asked": [{"prompts": [{"label": n} for n in names]}]})
    path = save(classes, tmp_path / "map.tif")
    assert cog_validate(path, strict=True) == (True, [], [])
    with rasterio.open(path) as file:
        assert file.dtypes == ("uint16" if many else "uint8",)
        assert file.nodata == (65535 if many else 255)
        np.testing.assert_array_equal(file.read(1), classes.values)
        colours = file.colormap(1)
        assert len({colours[value] for value in range(3)}) == 3
        stated = json.loads(file.tags()["class_names"])
    assert stated[:3] == ["background", "red", "green things"]


def test_classes_and_no_answer_in_zarr(tmp_path):
    valid = SCENE.odc.geobox
    rgb = np.stack([SCENE[band].values for band in ("red", "green", "blue")])
    rgb[:, :60] = 0
    scene = xr.Dataset({band: wrap_xr(rgb[i], valid, nodata=0) for i, band in enumerate(("red", "green", "blue"))})
    classes = MODEL.classmap(scene, ["red", "green"])
    assert (classes.values == -1).any()
    path = save(classes, tmp_path / "map.zarr")
    back = xr.open_zarr(path, consolidated=False, mask_and_scale=False)["class"]
    np.testing.assert_array_equal(back.values, classes.values)
    assert back.attrs["flag_meanings"] == "background red green"
    tif = save(classes, tmp_path / "map.tif")
    with rasterio.open(tif) as file:
        assert ((file.read(1) == 255) == (classes.values == -1)).all()


def test_another_reader_of_rasters_decodes_it(probabilities, tmp_path):
    path = save(probabilities, tmp_path / "map.tif")
    back = rioxarray.open_rasterio(path, mask_and_scale=True)
    assert float(np.abs(np.maximum(back.values, 0) - probabilities.values).max()) < 1e-6
    assert back.attrs["long_name"] == ("red", "green")


@pytest.mark.parametrize(("name", "size"), [("map.tif", 200_000), ("map.tif", 2_400_000), ("map.zarr", 100_000)])
def test_a_full_disk_leaves_what_was_there(name, size, probabilities, tmp_path):
    path = save(probabilities, tmp_path / name)
    before = open_probabilities(path).values
    box = GeoBox.from_bbox((0, 0, 1500, 1500), crs="EPSG:32633", resolution=1)
    noise = np.random.default_rng(0).random((1, 1500, 1500), np.float32)
    array = wrap_xr(noise, box, axis=1)
    array = array.rename({array.dims[0]: "prompt"}).assign_coords(prompt=["a"])
    with full_disk(size), pytest.raises(WriteError, match="What was there before is kept"):
        save(array, path)
    np.testing.assert_array_equal(open_probabilities(path).values, before)
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("kind", [ReadError, RuntimeError, ValueError])
def test_what_fails_while_computing_stays_itself(name, kind, probabilities, tmp_path):
    path = save(probabilities, tmp_path / name)

    def fail(block):
        raise kind("the server is gone")

    broken = probabilities.copy(
        data=probabilities.data.map_blocks(fail, dtype=np.float32, meta=np.zeros((0, 0, 0), np.float32))
    )  # fmt: skip
    with pytest.raises(kind, match=r"^the server is gone$") as caught:
        save(broken, path)
    assert type(caught.value) is kind
    np.testing.assert_array_equal(open_probabilities(path).values, probabilities.values)


def test_a_map_of_no_known_time(tmp_path):
    array = every_code().assign_coords(time=np.datetime64("NaT", "ns"))
    path = save(array, tmp_path / "map.tif")
    with rasterio.open(path) as file:
        assert file.tags(1) == {"prompt": "ship"}
    assert "time" not in open_probabilities(path).coords


def test_a_map_gives_way_to_a_map(probabilities, tmp_path):
    path = tmp_path / "map.zarr"
    path.mkdir()
    save(probabilities, path)
    save(probabilities, path)
    assert [each.name for each in tmp_path.iterdir()] == ["map.zarr"]


def test_mistakes_are_told(probabilities, tmp_path):
    with pytest.raises(InputError, match=r"\.tif, \.tiff, \.zarr"):
        save(probabilities, tmp_path / "map.png")
    with pytest.raises(InputError, match="no result"):
        save(SCENE["red"], tmp_path / "map.tif")
    with pytest.raises(InputError, match="no probabilities"):
        open_probabilities(save(MODEL.classmap(SCENE, "red"), tmp_path / "classes.tif"))
    with pytest.raises(InputError, match="no probabilities"):
        open_probabilities(save(MODEL.classmap(SCENE, "red"), tmp_path / "classes.zarr"))
    with pytest.raises(InputError, match="there is no"):
        open_probabilities(tmp_path / "nothing.tif")
    (tmp_path / "x.csv").touch()
    with pytest.raises(InputError, match="must end in"):
        open_probabilities(tmp_path / "x.csv")
    with pytest.raises(InputError, match="select one"):
        save(probabilities.expand_dims("run"), tmp_path / "map.tif")
