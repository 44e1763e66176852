"""Files of every kind are read as rasterio reads them, or refused by an error that names the file and the remedy."""

import warnings

import dask
import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - gives arrays their .rio
import xarray as xr
from affine import Affine
from PIL import Image
from rasterio.enums import ColorInterp

from remotesam_geo import open_raster, render
from remotesam_geo.errors import RemoteSAMError, RemoteSAMWarning
from tests.campaign import CASES
from tests.scenes.places import grid, noise, write

UTM = "EPSG:32631"
PLACE = grid(500_000, 5_000_000, 10)
COLOURS = {number: (number * 20, number * 10, 255 - number, 255) for number in range(9)}


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def palette(path, **options):
    pixels = noise(1, (1, 12, 16), low=0, high=9)
    write(path, pixels, PLACE, UTM, **options)
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, COLOURS)
    return pixels[0]


@pytest.mark.parametrize("nodata", [None, 3])
def test_a_palette_of_a_tiff_is_expanded_and_its_nodata_kept(tmp_path, nodata):
    places = palette(tmp_path / "a.tif", nodata=nodata)
    scene = open_raster(tmp_path / "a.tif", chunks=7).compute()
    expected = np.array([COLOURS[number][:3] for number in range(9)])[places]
    known = np.ones_like(places, bool) if nodata is None else places != nodata
    np.testing.assert_array_equal(scene.valid, known)
    found = np.stack([scene.red, scene.green, scene.blue], -1)
    np.testing.assert_array_equal(found[known], expected[known])
    np.testing.assert_array_equal(open_raster(tmp_path / "a.tif", nodata=5).valid, places != 5)
    assert open_raster(tmp_path / "a.tif", nodata=None).valid.all()


def test_transparent_entries_of_a_palette_are_not_valid(tmp_path):
    places = noise(2, (9, 11), low=0, high=6)
    picture = Image.frombytes("P", (11, 9), places.tobytes())
    picture.putpalette([value for number in range(6) for value in COLOURS[number][:3]])
    picture.save(tmp_path / "a.png", transparency=2)
    scene = open_raster(tmp_path / "a.png")
    np.testing.assert_array_equal(scene.valid, places != 2)


REFUSED = {
    "empty.tif": (b"", "the file is empty"),
    "text.tif": (b"hello world, this is a text", "begins with b'hello.*convert it to GeoTIFF"),
    "short.tif": (b"II*\x00\x08\x00\x00\x00", "could not read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_raster_is_refused_by_name(tmp_path, name):
    data, told = REFUSED[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RemoteSAMError, match=rf"(?s){name}.*{told}|{told}.*{name}"):
        open_raster(tmp_path / name)


def test_folders_and_files_without_bands_say_what_to_open(tmp_path):
    (tmp_path / "folder.tif").mkdir()
    with pytest.raises(RemoteSAMError, match=r"folder\.tif.*it is a folder.*name a file in it"):
        open_raster(tmp_path / "folder.tif")
    pixels = noise(1, (20, 30)).astype("int16")
    place = {"x": 500_005 + 10 * np.arange(30.0), "y": 4_999_995 - 10 * np.arange(20.0)}
    both = xr.Dataset(dict.fromkeys(("a", "b"), (("y", "x"), pixels)), coords=place)
    both[["a"]].to_netcdf(tmp_path / "nowhere.nc", engine="scipy")
    with pytest.raises(RemoteSAMError, match=r"no georeference in .*nowhere\.nc.*write_crs"):
        open_raster(tmp_path / "nowhere.nc")
    both = both.rio.write_crs(UTM).rio.write_coordinate_system()
    both.to_netcdf(tmp_path / "m.nc", engine="scipy")
    with pytest.raises(RemoteSAMError, match=r"m\.nc.*holds 2 rasters.*open_raster\(.*:a'\)"):
        open_raster(tmp_path / "m.nc")
    scene = open_raster(f"netcdf:{tmp_path / 'm.nc'}:b")
    np.testing.assert_array_equal(scene.band_1, pixels)
    assert scene.odc.geobox == both.odc.geobox
    with pytest.raises(RemoteSAMError, match="zzz"):
        open_raster(f"netcdf:{tmp_path / 'm.nc'}:zzz")


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "complex_int16"])
def test_complex_numbers_say_how_to_open_their_amplitude(tmp_path, dtype):
    numbers = noise(1, (1, 8, 9)).astype("complex64") * (3 + 4j)
    path = write(tmp_path / "a.tif", numbers, PLACE, UTM, dtype=dtype)
    with pytest.raises(RemoteSAMError, match=r"a\.tif.*complex.*DERIVED_SUBDATASET:AMPLITUDE:"):
        open_raster(path)
    scene = open_raster(f"DERIVED_SUBDATASET:AMPLITUDE:{path}")
    np.testing.assert_allclose(scene.band_1, np.abs(numbers[0]), rtol=1e-6)


def test_transforms_and_crss_that_place_nothing_are_refused(tmp_path):
    flat = write(tmp_path / "a.tif", noise(1, (1, 5, 5)), Affine(0, 0, 5e5, 0, 0, 5e6), UTM)
    with pytest.raises(RemoteSAMError, match=r"a\.tif.*pixels without area.*gdal_edit"):
        open_raster(flat)
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    path = write(tmp_path / "b.tif", noise(1, (1, 5, 5)), PLACE, local)
    with pytest.raises(RemoteSAMError, match=r"b\.tif has the CRS 'site'.*gdal_edit"):
        open_raster(path)


def test_pages_and_numbers_of_few_bits_are_said(tmp_path):
    pages = [Image.fromarray(noise(n, (8, 9, 3))) for n in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.warns(RemoteSAMWarning, match=r"holds 3 rasters; the first is opened.*GTIFF_DIR:2"):
        scene = open_raster(tmp_path / "a.tif")
    np.testing.assert_array_equal(scene.red, np.asarray(pages[0])[..., 0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RemoteSAMWarning)
        second = open_raster(f"GTIFF_DIR:2:{tmp_path / 'a.tif'}")
    np.testing.assert_array_equal(second.red, np.asarray(pages[1])[..., 0])
    four = noise(1, (1, 8, 9), low=0, high=15)
    path = write(tmp_path / "b.tif", four, PLACE, UTM, nbits=4)
    with pytest.warns(RemoteSAMWarning, match=r"numbers of 4 bits.*stretch=\(0, 15\)"):
        scene = open_raster(path)
    np.testing.assert_array_equal(scene.band_1, four[0])


TYPES = (
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float32",
    "float64",
)
TURNS = (
    Affine(10, 0, 5e5, 0, -10, 5e6),
    Affine(10, 0, 5e5, 0, 10, 5e6),
    Affine(-10, 0, 5e5, 0, -10, 5e6),
)
CRSS = (
    UTM,
    "EPSG:4326",
    "EPSG:2263",
    "EPSG:32631+5773",
    "+proj=laea +lat_0=45 +lon_0=3 +datum=WGS84",
    None,
)


def test_campaign_of_raster_files(campaign, tmp_path):
    """Pixels, validity and place of odd and damaged files, against rasterio's own reading."""
    counted = campaign(
        "raster files",
        "types, nodata, masks, alpha, layouts, CRSs, turned grids; cut, flipped bytes",
    )
    rng = np.random.default_rng(23)
    for number in range(CASES):
        path = str(tmp_path / f"{number}.tif")
        _odd_file(path, rng)
        damage = rng.random()
        if damage < 0.4:
            _damage(path, rng)
        counted.case(lambda path=path, intact=damage >= 0.4: _as_rasterio(path, intact=intact))


def _odd_file(path, rng):
    bands = int(rng.choice([1, 1, 2, 3, 4, 5, 7]))
    shape = tuple(int(side) for side in rng.integers(1, 40, 2))
    dtype = str(rng.choice(TYPES))
    pixels = rng.integers(0, 100, (bands, *shape)).astype(dtype)
    if np.dtype(dtype).kind == "f":
        pixels[rng.random(pixels.shape) < 0.1] = rng.choice([np.nan, np.inf, -np.inf])
    crs = CRSS[int(rng.integers(len(CRSS)))]
    turn = TURNS[int(rng.integers(len(TURNS)))]
    if crs == "EPSG:4326":
        turn = Affine(turn.a / 1e5, 0, 3, 0, turn.e / 1e5, 45)
    options = {
        "compress": str(rng.choice(["none", "deflate", "lzw", "zstd"])),
        "photometric": "minisblack",
    }
    options["interleave"] = str(rng.choice(["pixel", "band"]))
    if rng.random() < 0.5:
        options |= {
            "tiled": False,
            "blockysize": int(rng.integers(1, shape[0] + 1)),
            "blockxsize": shape[1],
        }
    mask = rng.random(shape) < 0.7 if rng.random() < 0.2 else None
    nodata = [None, 7, 0][int(rng.integers(3))] if "64" not in dtype else None
    write(path, pixels, turn, crs, nodata=nodata, mask=mask, **options)


def _damage(path, rng):
    with open(path, "rb") as file:  # noqa: PTH123 - a file of the test
        data = bytearray(file.read())
    if rng.random() < 0.5:
        data = data[: int(rng.integers(0, len(data)))]
    else:
        for place in rng.integers(0, min(len(data), 600), 4):
            data[place] ^= 1 << int(rng.integers(8))
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(data)


def _as_rasterio(path, *, intact):
    """Pixels and validity equal rasterio's, with north up; a damaged file may also be refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scene = open_raster(path, bands=None, nodata="file")
        names = [name for name in scene.data_vars if name != "valid"]
        found = scene.compute()
        if len(names) in (1, 3):
            shown = render(scene).compute()
            assert (shown.valid.values <= found.valid.values).all()
        with rasterio.open(path) as file:
            pixels, transform, count = file.read(), file.transform, file.count
            masks = file.read_masks()
            positions = file.colorinterp[0] is ColorInterp.palette
    if len(names) < count:  # a picture: red, green and blue of four
        pixels, masks = pixels[: len(names)], masks[: len(names)]
    if transform.e > 0 and not transform.is_identity:
        pixels, masks = pixels[:, ::-1], masks[:, ::-1]
    if transform.a < 0:
        pixels, masks = pixels[:, :, ::-1], masks[:, :, ::-1]
    known = (masks > 0).any(axis=0)
    if pixels.dtype.kind == "f":
        known &= np.isfinite(pixels).all(axis=0)
    if not intact and (positions or found.valid.shape != known.shape):
        return  # flipped bits of the header: another file, which both read in their way
    assert np.array_equal(found.valid.values, known), "validity differs"
    for name, plane in zip(names, pixels, strict=True):
        assert np.array_equal(found[name].values[known], plane[known]), f"{name} differs"
