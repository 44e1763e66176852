"""What is wrong in the wild, on the real item or raster where there is one: a row of docs/scenes.md each."""

import copy
import json
import warnings
from pathlib import Path

import dask
import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox

from remotesam_geo import load, open_raster, render, search
from remotesam_geo.errors import InputError, ReadError, RemoteSAMWarning
from remotesam_geo.net.trust import Trust
from remotesam_geo.scenes import ReadPolicy, Recipe
from tests.scenes.places import grid, item, noise, raster, recorded, write

UTM = "EPSG:32631"
WEST, NORTH = 500_000, 5_000_000
LOCAL = ReadPolicy(trust=Trust(local_files=True))


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def test_the_documented_table_has_a_row_for_each_of_these_tests():
    page = (Path(__file__).parents[2] / "docs" / "scenes.md").read_text()
    table = page.partition("## What is wrong in the wild")[2].partition("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][2:]
    tests = [
        test.__doc__.strip().rstrip(".")
        for name, test in globals().items()
        if name.startswith("test_") and test.__doc__
    ]
    assert sorted(rows) == sorted(tests)


def naip(folder, pages=("naip_page1", "naip_page2"), factor=200):
    """The recorded NAIP answers over local rasters of the same places, 200 times coarser."""
    docs = []
    for number, doc in enumerate(copy.deepcopy([d for page in pages for d in recorded(page)])):
        properties = doc["properties"]
        size, _, west, _, _, north, *_ = properties["proj:transform"]
        shape = [-(-length // factor) for length in properties["proj:shape"]]
        properties |= {
            "proj:shape": shape,
            "proj:transform": [size * factor, 0, west, 0, -size * factor, north],
        }
        pixels = np.stack([np.full(shape, value) for value in (number + 1, 100, 200, 50)])
        doc["assets"]["image"]["href"] = write(
            folder / f"{number}.tif",
            pixels.astype("uint8"),
            grid(west, north, size * factor),
            f"EPSG:{properties['proj:epsg']}",
            colors=("red", "green", "blue", "alpha"),
        )
        docs.append(doc)
    return docs


def test_naip(tmp_path):
    """Four bands in one asset, and no `raster:bands`."""
    (doc, *_) = naip(tmp_path, pages=["naip_page1"])
    assert "raster:bands" not in doc["assets"]["image"]
    scene = load(doc, policy=LOCAL).compute()
    assert list(scene.data_vars) == ["red", "green", "blue", "valid"]
    assert [int(scene[n].values[0, 5, 5]) for n in ("red", "green", "blue")] == [1, 100, 200]
    assert scene.red.dtype == "uint8"
    assert scene.valid.all(), "the fourth band is called alpha here, and is not"


def test_the_ten_lines_on_a_page_of_overlapping_naip_items(tmp_path):
    """Items of several years and resolutions over one place."""
    docs = naip(tmp_path)
    newest = sorted(range(len(docs)), key=lambda i: docs[i]["properties"]["datetime"], reverse=True)
    page = tmp_path / "page.json"
    page.write_text(json.dumps({"type": "FeatureCollection", "features": docs}))
    items = search(page, "naip", bbox=(-73.21, 43.99, -73.12, 44.05))  # what was asked for then
    assert len(items) == len(docs)
    scene = load(items, resolution=60, mosaic="latest", policy=LOCAL).compute()
    assert scene.red.dims == ("y", "x"), "each place once"
    ys, xs = np.meshgrid(scene.y.values, scene.x.values, indexing="ij")
    expected = np.full(scene.red.shape, -1)
    edge = np.zeros(scene.red.shape, bool)
    for index in reversed(newest):
        size, _, west, _, _, north = docs[index]["properties"]["proj:transform"]
        height, width = docs[index]["properties"]["proj:shape"]
        right, bottom = west + width * size, north - height * size
        expected[(xs > west) & (xs < right) & (ys < north) & (ys > bottom)] = index
        for line, at in ((xs, west), (xs, right), (ys, north), (ys, bottom)):
            edge |= np.abs(line - at) < 60
    inner = ~edge
    np.testing.assert_array_equal(scene.source.values[inner], expected[inner])
    np.testing.assert_array_equal(scene.red.values[inner], expected[inner] + 1)
    np.testing.assert_array_equal(scene.valid, scene.source >= 0)
    assert len(set(np.unique(scene.source))) > 5
    rgb = render(scene).rgb.values
    np.testing.assert_array_equal(rgb[..., 0], np.where(scene.valid, scene.red, 0))


def test_visual_assets(tmp_path):
    """Three bands in a `visual` asset."""
    doc = recorded("s2_planetary_computer")[0]
    doc["links"] = []
    pixels = noise(1, (3, 50, 50))
    transform = grid(399_960, 9_100_020, 10)
    doc["assets"]["visual"] |= {
        "href": write(tmp_path / "tci.tif", pixels, transform, "EPSG:32647"),
        "proj:shape": [50, 50],
    }
    scene = load(doc, bands="visual", mosaic="first")
    np.testing.assert_array_equal(np.stack([scene[n] for n in ("red", "green", "blue")]), pixels)


@pytest.mark.parametrize("name", ["naip_nir_called_alpha.tif", "naip_nir_called_alpha_bright.tif"])
def test_near_infrared_called_alpha(name):
    """Near infrared that its file calls alpha."""
    with rasterio.open(raster(name)) as file:
        assert file.colorinterp[3].name == "alpha"
        pixels = file.read([1, 2, 3])
    scene = open_raster(raster(name))
    assert scene.valid.all()
    np.testing.assert_array_equal(np.stack([scene.red, scene.green, scene.blue]), pixels)


def test_white_called_no_data():
    """255 as nodata of 8-bit colours."""
    path = raster("neon_white_nodata.tif")
    with rasterio.open(path) as file:
        white = (file.read() == 255).all(axis=0)
    assert white.any()
    with pytest.warns(RemoteSAMWarning, match="255 is white"):
        scene = open_raster(path)
    assert scene.valid.all()
    assert (scene.red.values[white] == 255).all()
    np.testing.assert_array_equal(open_raster(path, nodata=255).valid, ~white)
    doc = item("a", path, names=("red", "green", "blue"))
    assert load(doc).valid.values.all()
    np.testing.assert_array_equal(load(doc, nodata=255, mosaic="first").valid, ~white)


@pytest.mark.parametrize(("name", "chosen"), [("s2_planetary_computer", 32646), ("landsat_two_zones", 32655)])
def test_several_zones(name, chosen):
    """Several UTM zones in one answer."""
    with pytest.warns(RemoteSAMWarning, match=rf"several CRSs: EPSG:{chosen} \(\d\).*crs="):
        scene = load(recorded(name))
    assert scene.rio.crs.to_epsg() == chosen
    assert len(Recipe.of(scene).layers) == 4


def test_several_collections():
    """Several collections in one answer, radar among them."""
    with pytest.warns(RemoteSAMWarning) as told:
        scene = load(recorded("mixed_collections"))
    assert any("1 of 3 items lack red, green and blue" in str(w.message) for w in told)
    assert scene.red.dtype == "float32", "one archive has applied the offset, the other has not"
    assert scene.red.attrs["quantity"] == "reflectance"


@pytest.mark.parametrize(
    ("name", "bands", "epsg"),
    [
        ("s2_copernicus", None, 32636),
        ("s2_raster_v2", None, 32633),
        ("s2_mosaic_copernicus", None, 32631),
        ("world_wrapping", None, 3832),
    ],
)
def test_the_crs_wherever_it_stands(name, bands, epsg):
    """The CRS as proj:epsg, proj:code, WKT or PROJJSON, of the item or of the asset."""
    docs = recorded(name)
    for doc in docs:
        for asset in doc["assets"].values():
            asset.setdefault("data_type", "uint16")
    assert load(docs, bands).rio.crs.to_epsg() == epsg


def test_null_epsg():
    """proj:epsg null, the CRS only as WKT."""
    docs = recorded("modis_epsg_null")
    for doc in docs:
        for asset in doc["assets"].values():
            asset["raster:bands"] = [{"data_type": "int16"}]
    scene = load(docs, ["250m_16_days_NDVI"])
    assert "Sinusoidal" in scene.rio.crs.to_wkt()
    assert scene.sizes["x"] == 4800


def test_wrong_zone(tmp_path):
    """A valid code of the wrong CRS: EPSG:3271 where 32701 was meant, or another zone."""
    pixels = noise(1, (3, 30, 30))
    path = write(tmp_path / "a.tif", pixels, grid(WEST, 8_000_000, 30), "EPSG:32701")
    for wrong in (3271, 32731, 32601):
        doc = item("a", path, names=("red", "green", "blue"))
        doc["properties"]["proj:epsg"] = wrong
        with pytest.warns(RemoteSAMWarning, match="lies elsewhere than their bbox.*: a"):
            scene = load(doc, mosaic="first")
        assert scene.rio.crs.to_epsg() == 32701
        np.testing.assert_array_equal(scene.red, pixels[0])


def test_no_projection(tmp_path):
    """No projection at all: CRS and grid are read from the file."""
    doc = recorded("noaa")[0]
    box = doc["bbox"]
    pixels = noise(1, (3, 40, 40))
    size = (box[2] - box[0]) / 40
    doc["assets"]["cog"]["href"] = write(tmp_path / "a.tif", pixels, grid(box[0], box[3], size), "EPSG:4326")
    assert not any(key.startswith("proj:") for key in doc["properties"])
    scene = load(doc, mosaic="first")
    assert scene.rio.crs.to_epsg() == 4326
    np.testing.assert_array_equal(np.stack([scene.red, scene.green, scene.blue]), pixels)
    given = load(doc, mosaic="first", crs="EPSG:32616", resolution=10)
    assert given.rio.crs.to_epsg() == 32616
    assert given.valid.values.mean() > 0.9


@pytest.mark.parametrize("code", [None, 4326, 999_999])
def test_half_a_projection(tmp_path, code):
    """A CRS without a grid, or one that PROJ does not know."""
    doc = recorded("only_crs")[0]
    path = write(tmp_path / "a.tif", noise(1, (1, 20, 20)), grid(-1_300_000, -2_500_000, 30), "EPSG:3577")
    doc = item("a", path, names=("red",), proj=False) | {"collection": doc["collection"]}
    doc["properties"] |= {"proj:epsg": code}
    scene = load(doc, ["red"])
    assert scene.rio.crs.to_epsg() == 3577
    assert scene.odc.geobox.resolution.x == 30


def test_thinned_files():
    """Sizes that disagree with the file: 1830 pixels in the item, 183 in the file."""
    (doc,) = recorded("s2_thinned_files")
    doc["links"] = []
    doc["assets"]["B01"]["href"] = raster("S2A_34SGA_B01.tif")
    with pytest.warns(RemoteSAMWarning, match=r"183 x 183 pixels, not 1830 x 1830.*are believed"):
        scene = load(doc, ["B01"], mosaic="first")
    assert scene.odc.geobox.resolution.x == 600
    with rasterio.open(raster("S2A_34SGA_B01.tif")) as file:
        np.testing.assert_array_equal(scene.B01, file.read(1))


def test_relative_hrefs(tmp_path):
    """Relative hrefs, with a self link and without."""
    (doc,) = recorded("s2_stac11_proj_code")
    assert doc["assets"]["red"]["href"].startswith("./")
    with pytest.raises(InputError, match=r"is relative.*set_self_href"):
        load(doc)
    doc["links"] = [{"rel": "self", "href": "https://example.com/s2/item.json"}]
    source = Recipe.of(load(doc)).layers[0].sources[0]
    assert source.href.startswith("https://example.com/s2/GRANULE/")
    near = item("a", write(tmp_path / "a.tif", noise(1, (4, 9, 9)), grid(WEST, NORTH, 1), UTM))
    near["assets"]["image"]["href"] = "./a.tif"
    near["links"] = [{"rel": "self", "href": str(tmp_path / "item.json")}]
    assert load(near).compute().valid.all()


def test_stale_self_link(tmp_path):
    """Local files named by an item whose self link still says where it came from."""
    path = write(tmp_path / "a.tif", noise(1, (4, 9, 9)), grid(WEST, NORTH, 1), UTM)
    for href in (path, f"file://{path}"):
        doc = item("a", path)
        doc["assets"]["image"]["href"] = href
        assert load(doc).compute().valid.all(), "nobody else wrote this item"
        doc["links"] = [{"rel": "self", "href": "s3://sentinel-cogs/tmp/a.json"}]
        with pytest.raises(ReadError, match=r"local_files=True"):
            load(doc)
        assert load(doc, policy=LOCAL).compute().valid.all()


def test_integer_bands(tmp_path):
    """`eo:bands` as positions in a list of the item (1.0.0-beta.2)."""
    path = write(tmp_path / "a.tif", noise(1, (1, 9, 9)), grid(WEST, NORTH, 1), UTM)
    doc = item("a", path, names=("red",))
    doc["properties"]["eo:bands"] = [{"name": "B1"}, {"name": "B4", "common_name": "red"}]
    for number, name in enumerate(("red", "green", "blue")):
        doc["properties"]["eo:bands"][1:] = [{"common_name": n} for n in ("red", "green", "blue")]
        doc["assets"][f"asset{name}"] = doc["assets"]["image"] | {"eo:bands": [number + 1]}
    del doc["assets"]["image"]
    assert [s.asset for s in Recipe.of(load(doc)).layers[0].sources] == [
        "assetred", "assetgreen", "assetblue",
    ]  # fmt: skip


def test_no_assets():
    """Items without assets, from a search with `fields`."""
    docs = recorded("fields_only")
    with pytest.raises(InputError, match="have no assets: search again without `fields`"):
        load(docs)


def test_no_geometry(tmp_path):
    """Items without geometry and bbox."""
    path = write(tmp_path / "a.tif", noise(1, (4, 9, 9)), grid(WEST, NORTH, 1), UTM)
    for proj in (True, False):
        doc = item("a", path, proj=proj) | {"geometry": None, "bbox": None}
        assert load(doc, bbox=(2.9999, 45.15, 3.0005, 45.1535), resolution=1, crs=UTM).compute().valid.any()
        assert load(doc).compute().valid.all()


def test_times_without_zone():
    """Datetimes without zone, or null with a start and an end."""
    (doc,) = recorded("blacksky_no_zone")
    assert doc["properties"]["datetime"] == "2023-06-14T11:08:44.039000"
    from remotesam_geo.stac.items import read_items

    assert str(read_items(doc)[0].time) == "2023-06-14T11:08:44.039000"
    (doc,) = recorded("lidar_null_datetime")
    doc["assets"]["dem"]["raster:bands"] = [{"data_type": "float32"}]
    assert str(load(doc, ["dem"]).time.values[0])[:10] == "2012-01-01"
    doc["properties"] |= {"start_datetime": None, "end_datetime": None}
    with pytest.raises(InputError, match=r"have no time \(lidar_id\): set their datetime"):
        load(doc, ["dem"])
    assert "time" not in load(doc, ["dem"], mosaic="first").dims


def test_empty_id(tmp_path):
    """An empty id."""
    (doc,) = recorded("empty_id")
    path = write(tmp_path / "a.tif", noise(1, (3, 9, 9)), grid(700_000, 150_000, 1), "EPSG:32659")
    doc["assets"]["visual"]["href"] = path
    doc["bbox"] = item("", path)["bbox"]
    scene = load(doc)
    assert scene["items"].item() == "item-1"


def test_bbox_in_metres():
    """A bbox in metres, and a projection without its extension."""
    docs = recorded("s1_bbox_in_metres")
    scene = load(docs, ["hh-rtc"])
    assert scene.rio.crs.to_epsg() == 32707
    assert scene.sizes["x"] == 25126
    assert scene["hh-rtc"].dtype == "float32"


def test_the_antimeridian(tmp_path):
    """Footprints across the antimeridian."""
    for name, epsg in (("s2_antimeridian", 32701), ("landsat_antimeridian", 32601)):
        docs = recorded(name)
        docs[0].setdefault("links", []).append({"rel": "self", "href": "https://a.org/item.json"})
        west, south, east, north = docs[0]["bbox"]
        assert west > east
        scene = load(docs, bbox=(179.95, (south + north) / 2, -179.95, (south + north) / 2 + 0.1))
        assert scene.rio.crs.to_epsg() == epsg
        assert scene.sizes["x"] * scene.odc.geobox.resolution.x < 20_000
    pixels = np.tile(np.arange(1, 41, dtype="uint8"), (3, 30, 1))
    path = write(tmp_path / "a.tif", pixels, grid(165_000, 8_000_000, 1000), "EPSG:32701")
    doc = item("a", path, names=("red", "green", "blue"))
    across = load(doc, bbox=(179.9, -18.2, -179.9, -18.1), crs="EPSG:4326", mosaic="first").compute()
    assert across.longitude.values[0] < 180 < across.longitude.values[-1]
    assert across.valid.values.all()
    assert (np.diff(across.red.values.astype(int), axis=1) >= 0).all(), "in order from west to east"
    beyond = GeoBox((20, 40), grid(180.0, -18.0, 0.005), "EPSG:4326")
    degrees = write(tmp_path / "d.tif", pixels, grid(-180.0, -18, 0.005), "EPSG:4326")
    found = load(item("d", degrees, names=("red", "green", "blue")), geobox=beyond, mosaic="first")
    np.testing.assert_array_equal(found.red, pixels[0, :20], "181 is -179")
    before = write(tmp_path / "b.tif", pixels, grid(179.8, -18, 0.005), "EPSG:4326")
    with pytest.raises(InputError, match="none of the 1 items overlaps"):
        load(item("b", before, names=("red", "green", "blue")), geobox=beyond)


def test_absurd_sizes():
    """Items so far apart that their common grid would be absurd."""
    docs = recorded("mixed_collections") + recorded("s2_planetary_computer")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RemoteSAMWarning)
        with pytest.raises(InputError, match=r"[\d,]+ pixels a band in [\d,]+ chunks. Give a bbox="):
            load(docs)


def number_for(reflectance, name):
    """What the archive stores for a reflectance: ESA adds 1000 from baseline 04.00 on, some take it off."""
    added = name in {"s2_planetary_computer", "s2_collection1", "s2_copernicus"}
    return round(reflectance * 10_000) + (1000 if added else 0)


@pytest.mark.parametrize(
    "name",
    [
        "s2_planetary_computer",
        "s2_earth_search_applied",
        "s2_earth_search_old",
        "s2_earth_search_v0",
        "s2_collection1",
        "s2_copernicus",
    ],
)
def test_sentinel_2_offsets(tmp_path, name):
    """Sentinel-2's offset: unsaid, said but applied already, or of an older baseline."""
    doc = recorded(name)[0] | {"links": [], "bbox": None, "geometry": None}
    (first,) = {s.asset for s in Recipe.of(load(doc, ["red"])).layers[0].sources}
    pixels = np.full((1, 20, 20), number_for(0.25, name), "uint16")
    pixels[0, :2] = 0
    code = doc["properties"].get("proj:epsg") or doc["assets"][first]["proj:code"]
    _, _, west, _, _, north, *_ = doc["assets"][first]["proj:transform"]
    path = write(tmp_path / "a.tif", pixels, grid(west, north, 10), code, nodata=0)
    for asset in doc["assets"].values():
        asset |= {"href": path, "proj:shape": [20, 20]}
    scene = load(doc, mosaic="first", rescale=True).compute()
    np.testing.assert_allclose(scene.red.values[2:], 0.25, atol=1e-6)
    assert not scene.valid.values[:2].any()


def test_landsat_scale(tmp_path):
    """Landsat's scale and offset, unsaid."""
    doc = recorded("landsat_usgs")[0] | {"links": [], "bbox": None, "geometry": None}
    assert "raster:bands" not in doc["assets"]["red"]
    stored = round((0.25 + 0.2) / 2.75e-5)
    path = write(
        tmp_path / "a_SR_B4.TIF", np.full((1, 20, 20), stored, "uint16"),
        grid(173_085, 4_904_715, 30), "EPSG:32615", nodata=0,
    )  # fmt: skip
    for key in ("red", "green", "blue"):
        doc["assets"][key] |= {"href": path, "proj:shape": [20, 20], "proj:epsg": 32615}
    scene = load(doc, mosaic="first", rescale=True, bands=["red", "green", "blue"])
    np.testing.assert_allclose(scene.red.values, 0.25, atol=2e-5)


def test_years_of_one_tile():
    """Years of one tile whose origins differ by less than half a pixel."""
    docs = [item(str(y), raster(f"naip_{y}.tif"), time=f"{y}-07-20T12:00Z") for y in (2014, 2016)]
    origins = [doc["properties"]["proj:transform"][2::3] for doc in docs]
    assert origins[0] != origins[1]
    scene = load(docs).compute()
    assert scene.sizes["time"] == 2
    with rasterio.open(raster("naip_2014.tif")) as file:
        first = file.read(1)
    top = round((scene.y.values[0] + 2.5 - origins[0][1]) / 5)
    left = round((origins[0][0] - scene.x.values[0] + 2.5) / 5)
    np.testing.assert_array_equal(scene.red.values[0][top : top + 64, left : left + 64], first)
    # the other year is shifted onto it by less than a pixel, not by none or by a whole one
    assert scene.valid.values[1].mean() > 0.9


def test_file_without_crs(tmp_path):
    """A file without a CRS, which only its item knows."""
    pixels = noise(1, (3, 30, 30))
    path = write(tmp_path / "a.tif", pixels, grid(WEST, NORTH, 10), UTM)
    doc = item("a", path, names=("red", "green", "blue"))
    write(path, pixels, grid(WEST, NORTH, 10), None)
    scene = load(doc, mosaic="first")
    assert scene.rio.crs.to_epsg() == 32631
    np.testing.assert_array_equal(scene.red, pixels[0])
    del doc["properties"]["proj:epsg"]
    with pytest.raises(InputError, match=r"has no CRS, and neither has the item.*proj:code"):
        load(doc)


@pytest.mark.parametrize("name", ["custom_crs", "core_item"])
def test_grids_of_elsewhere(name):
    """A CRS that is not of this Earth, or no grid and a file out of reach."""
    docs = recorded(name)
    for doc in docs:
        visual = doc["assets"]["visual"] | {"href": "/nowhere/a.tif", "data_type": "uint8"}
        visual["eo:bands"] = [{"common_name": n} for n in ("red", "green", "blue")]
        doc |= {"assets": {"visual": visual}, "links": []}
    with pytest.raises(ReadError, match="nowhere"):
        load(docs)


def test_rasters_of_every_layout(tmp_path):
    """South-up, mirrored, rotated, with ground control points, rational polynomials, or nothing."""
    pixels = noise(1, (3, 20, 20))
    flipped = write(tmp_path / "f.tif", pixels, grid(WEST, NORTH - 20, 1, south_up=True), UTM)
    np.testing.assert_array_equal(open_raster(flipped).red, pixels[0][::-1])
    for name, told in (("au_rotated.tif", "rotated"), ("au_gcp.tif", "control points")):
        with pytest.warns(RemoteSAMWarning, match=told):
            assert open_raster(raster(name)).compute().valid.any()
    with pytest.raises(InputError, match="orthorectify it first"):
        open_raster(raster("rpcs.tif"))
    doc = item("a", flipped, names=("red", "green", "blue"))
    np.testing.assert_array_equal(load(doc, mosaic="first").red, pixels[0][::-1])


def test_items_over_files_that_only_points_place(tmp_path):
    path = raster("au_gcp.tif")
    doc = {
        "id": "a",
        "properties": {"datetime": "2024-05-01T10:00Z"},
        "assets": {"b": {"href": path}},
    }
    with pytest.raises(InputError, match="only by ground control points"):
        load(doc, "b")
    with pytest.raises(ReadError, match="only by ground control points"):
        load(doc | {"bbox": [120, -30, 140, -20]}, "b", crs="EPSG:3577", resolution=30_000).compute()


def test_scale_and_offset_of_the_file_where_the_item_says_nothing():
    path = raster("scale_offset.tif")
    doc = {
        "id": "a",
        "properties": {"datetime": "2024-05-01T10:00Z"},
        "assets": {"b": {"href": path}},
    }
    scene = load(doc, "b.1", mosaic="first")
    assert scene["b.1"].attrs["scale_factor"] == pytest.approx(1e-4)
    np.testing.assert_array_equal(scene["b.1"], open_raster(path).band_1)


def test_bands_in_blue_green_red_order():
    """Bands in blue, green, red order."""
    path = raster("blue_green_red_nodata.tif")
    recipe = Recipe.of(open_raster(path))
    assert recipe.layers[0].sources[0].indexes == (3, 2, 1)
