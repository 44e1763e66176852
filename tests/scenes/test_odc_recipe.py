"""Recipe.from_odc: exactly the pixels of an odc.stac.load call, for any part, in memory, as JSON and in a job."""

import json
import subprocess
import sys
import warnings

import numpy as np
import odc.stac
import pystac
import pytest

from remotesam_geo import Job, RemoteSAM
from remotesam_geo.errors import InputError, RemoteSAMWarning
from remotesam_geo.scenes import Recipe, SceneDriver, render
from remotesam_geo.scenes.rendering import render_block
from remotesam_geo.scenes.unsigned import without_secrets
from tests.colours import Counting
from tests.raster import rasters
from tests.raster.test_odc_stac import Affine, cog, described, item

CALLS = [
    {},
    {"groupby": "solar_day", "chunks": {"x": 64, "y": 100}},
    {"groupby": "solar_day", "preserve_original_order": True, "fuse_func": "larger"},
    {"groupby": "solar_day", "crs": "EPSG:3857", "resolution": 17, "resampling": "bilinear",
     "chunks": {"x": 90, "y": 70}},
    {"crs": "EPSG:4326", "resolution": 1.1e-4, "chunks": {"x": 77, "y": 65}},
    {"resolution": 35, "resampling": "average", "dtype": "float32", "nodata": float("nan"), "groupby": "time"},
]  # fmt: skip


def larger(target, source):
    np.copyto(target, source, where=source > target)


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    """Red, green and blue of four overlapping items of two days."""
    folder, found = tmp_path_factory.mktemp("odc-recipe"), []
    for number, (east, when) in enumerate([(0, "02T10"), (800, "02T10"), (0, "01T10"), (1200, "01T11")]):
        place = Affine(10, 0, 5e5 + east, 0, -10, 5e6)
        whole = None
        for position, name in enumerate(("red", "green", "blue")):
            pixels = rasters.picture(1, 250, 200, "uint16", seed=4 * position + number)
            pixels[:, 100:150, 90:180] = 0
            data = cog(pixels, nodata=0, transform=place)
            path = folder / f"{number}-{name}.tif"
            path.write_bytes(data)
            one = item(
                f"i{number}", str(path), rasters.grid_of(data), described("uint16", 0), asset=name,
                time=f"2024-05-{when}:00:00Z",
            )  # fmt: skip
            if whole is None:
                whole = one
            else:
                whole.assets[name] = one.assets[name]
        found.append(whole)
    return found


@pytest.mark.parametrize("arguments", CALLS)
def test_any_part_has_the_pixels_of_the_call(items, arguments):
    if "fuse_func" in arguments:
        arguments = arguments | {"fuse_func": f"{__name__}.larger"}
    wanted = odc.stac.load(items, driver=SceneDriver(), **arguments).compute()
    recipe = Recipe.from_json(Recipe.from_odc(items, **arguments).to_json())
    scene = recipe.open()
    assert list(scene) == list(wanted)
    assert scene.odc.geobox == wanted.odc.geobox
    np.testing.assert_array_equal(scene.time, wanted.time)
    scene = scene.compute()
    for name in wanted:
        np.testing.assert_array_equal(scene[name], wanted[name])
        assert str(scene[name].attrs) == str(wanted[name].attrs)
    random = np.random.default_rng(0)
    height, width = recipe.geobox.shape
    for _ in range(5):
        top, left = random.integers(0, height - 5), random.integers(0, width - 5)
        part = np.s_[
            top : top + random.integers(1, height - top),
            left : left + random.integers(1, width - left),
        ]
        found = recipe.open(geobox=recipe.geobox[part]).red.values
        np.testing.assert_array_equal(found, wanted.red.values[:, *part])


def test_rendered_as_the_dataset_is(items):
    scene = odc.stac.load(items, driver=SceneDriver(), groupby="solar_day", chunks={})
    wanted = render(scene, stretch=(0, 4000))
    recipe = Recipe.from_odc(items, groupby="solar_day")
    np.testing.assert_array_equal(render(recipe.open(), stretch=(0, 4000)).rgb, wanted.rgb)
    part = np.s_[50:180, 20:230]
    rgb, valid = render_block(recipe, recipe.geobox[part], 1, stretch=wanted.attrs["stretch"])
    np.testing.assert_array_equal(rgb, wanted.rgb[1].values[part])
    np.testing.assert_array_equal(valid, wanted.valid[1].values[part])
    assert 0 < valid.mean() < 1
    with pytest.warns(RemoteSAMWarning, match="percentiles"):  # of valid pixels
        limits = json.loads(render(recipe.open()).attrs["stretch"])["limits"]
    assert min(low for low, _ in limits) > 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("patch_url", str), ("groupby", lambda *_: 0), ("driver", "rio"), ("with_properties", ["gsd"]), ("pool", 2),
        ("progress", iter),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_by_name(items, name, value):
    with pytest.raises(InputError, match=f"{name}= "):
        Recipe.from_odc(items, **{name: value})


def test_no_secret_is_kept(items):
    one = pystac.Item.from_dict(items[0].to_dict())
    for asset in one.assets.values():
        asset.href = "https://x.blob.core.windows.net/c/a.tif?sv=2020&se=2030&sig=HUSH"
    one.set_self_href("https://me:HUSH@example.com/item.json")
    recipe = Recipe.from_odc([one])
    with pytest.raises(InputError, match="signature or password"):
        recipe.to_json()
    assert "HUSH" not in without_secrets(recipe, None).to_json()  # which a job keeps: signed at each read


@pytest.fixture(scope="module")
def wanted(items):
    scene = odc.stac.load(items, driver=SceneDriver(), groupby="solar_day", chunks={})
    model = RemoteSAM.from_pretrained("tiny")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RemoteSAMWarning)
        return model.segment(scene, ["water", "building"], threshold=0.005, stretch=(0, 4000))


RUN = "import sys; from remotesam_geo import Job; Job.open(sys.argv[1]).run()"


@pytest.mark.filterwarnings("ignore::remotesam_geo.RemoteSAMWarning")
@pytest.mark.parametrize("where", ["another process", pytest.param("cluster", marks=pytest.mark.cluster)])
def test_a_job_gives_what_the_dataset_gives(items, wanted, tmp_path, where):
    recipe = Recipe.from_odc(items, groupby="solar_day", resampling="nearest")
    job = Job.create(tmp_path / "job", recipe, ["water", "building"], "tiny", stretch=(0, 4000), block=1)
    assert '"fuser_fqn":' in (tmp_path / "job" / "plan.json").read_text("utf-8")
    if where == "cluster":
        from distributed import Client, LocalCluster

        with (
            LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
            Client(cluster) as client,
        ):
            job.run(client)
    else:
        subprocess.run([sys.executable, "-c", RUN, str(tmp_path / "job")], check=True)
    found = Job.open(tmp_path / "job").answer("segment", threshold=0.005)
    assert len(found) == len(wanted) > 0
    np.testing.assert_allclose(np.sort(found.area_m2), np.sort(wanted.area_m2))


@pytest.mark.filterwarnings("ignore::remotesam_geo.RemoteSAMWarning")
def test_a_job_that_was_interrupted_goes_on(items, tmp_path):
    def stop(count, images):
        if count == 100:
            raise KeyboardInterrupt

    def made(folder, model):
        recipe = Recipe.from_odc(items, groupby="solar_day", resampling="nearest")
        return Job.create(tmp_path / folder, recipe, {"red": "red things"}, model, stretch=(0, 4000), block=1)

    clean = made("clean", Counting())
    clean.run()
    with pytest.raises(KeyboardInterrupt):
        made("job", Counting(stop)).run()
    left = Job.open(tmp_path / "job", model=Counting())
    assert 0 < left.status()["waiting"].item() < left.status()["total"].item()
    left.run()
    assert len(clean.answer()) > 0
    assert left.answer().equals(clean.answer())
