"""Writers replace what this package wrote, and plain files; whatever else stands at the target is kept."""

import os
import socket

import geopandas as gpd
import numpy as np
import pytest
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_zeros

from remotesam_geo import open_probabilities, save, save_items
from remotesam_geo.errors import InputError, WriteError
from remotesam_geo.learning.datasets import Mask, Picture, Triplet, TripletStore, write_store
from remotesam_geo.learning.datasets.store import BEGUN
from remotesam_geo.learning.training.finetune import _is_model
from remotesam_geo.model import convert
from remotesam_geo.outputs.atomic import replacing
from remotesam_geo.plotting.exploring import Map

TABLE = gpd.GeoDataFrame({"label": ["a"] * 5}, geometry=[shapely.box(i, 0, i + 1, 1) for i in range(5)], crs=32633)
ITEM = {
    "type": "Feature", "id": "a", "geometry": None, "links": [], "assets": {}, "properties": {"datetime": None},
}  # fmt: skip


def probabilities():
    place = GeoBox.from_bbox((500000, 0, 500064, 64), crs="EPSG:32633", resolution=1)
    flat = xr_zeros(place, "float32").expand_dims(prompt=["ship"])
    return xr.DataArray(flat + np.float32(0.25))


WRITERS = {
    "a.gpkg": lambda path: save(TABLE, path),
    "a.fgb": lambda path: save(TABLE, path),
    "a.geojson": lambda path: save(TABLE, path),
    "a.parquet": lambda path: save(TABLE, path),
    "parts.parquet": lambda path: save(TABLE, path, rows_a_part=2),
    "a.tif": lambda path: save(probabilities(), path),
    "a.zarr": lambda path: save(probabilities(), path),
    "a.html": lambda path: Map(page="<p>").save(path),
    "items.json": lambda path: save_items([ITEM], path),
    "items.parquet": lambda path: save_items([ITEM], path),
}


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_of_others_is_kept(tmp_path, name):
    target = tmp_path / name
    target.mkdir()
    (target / "thesis.txt").write_text("mine")
    before = files(tmp_path)
    with pytest.raises(InputError, match=r"holds other things .*\(thesis.txt\).*choose another name"):
        WRITERS[name](target)
    assert files(tmp_path) == before
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / name).symlink_to(target)
    with pytest.raises(InputError, match="holds other things"):
        WRITERS[name](tmp_path / "linked" / name)
    assert (target / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("name", WRITERS)
def test_a_link_is_followed(tmp_path, name):
    (tmp_path / "real").mkdir()
    link, real = tmp_path / name, tmp_path / "real" / f"it{(tmp_path / name).suffix}"
    link.symlink_to(real)
    for _ in range(2):  # where there is nothing yet, and over what was written
        WRITERS[name](link)
        assert link.is_symlink()
        assert real.exists()
    assert sorted(path.name for path in (tmp_path / "real").iterdir()) == [real.name]
    circle = tmp_path / f"circle{link.suffix}"
    circle.symlink_to(circle)
    with pytest.raises((InputError, WriteError), match="circle"):
        WRITERS[name](circle)


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_an_empty_folder_and_own_results_are_replaced(tmp_path, name):
    target = tmp_path / name
    target.write_text("old")
    WRITERS[name](target)
    WRITERS[name](target)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
@pytest.mark.parametrize("name", ["a.gpkg", "a.zarr", "items.json"])
def test_a_pipe_or_a_socket_is_kept(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="a device, a pipe or a socket"):
        WRITERS[name](tmp_path / name)
    assert (tmp_path / name).is_fifo()
    (tmp_path / name).unlink()
    with socket.socket(socket.AF_UNIX) as place:
        here = os.open(".", os.O_RDONLY)
        try:  # names of sockets must be short
            os.chdir(tmp_path)
            place.bind(name)
        finally:
            os.fchdir(here)
            os.close(here)
    with pytest.raises(InputError, match="a device, a pipe or a socket"):
        WRITERS[name](tmp_path / name)


@pytest.mark.parametrize("name", ["parts.parquet", "a.zarr"])
def test_an_own_folder_with_a_strangers_file_is_kept(tmp_path, name):
    target = tmp_path / name
    WRITERS[name](target)
    (target / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other things"):
        WRITERS[name](target)
    assert (target / "notes.txt").read_text() == "mine"


def test_folders_that_only_look_like_ours_are_kept(tmp_path):
    store = tmp_path / "cube.zarr"
    probabilities().to_dataset(name="map").to_zarr(store, consolidated=False)
    (tmp_path / "t.parquet").mkdir()
    TABLE.to_parquet(tmp_path / "t.parquet" / "part-00000.parquet")
    before = files(tmp_path)
    for write in (
        lambda: save(probabilities(), store),
        lambda: save(TABLE, tmp_path / "t.parquet", rows_a_part=2),
        lambda: save(TABLE, tmp_path / "t.parquet"),
    ):
        with pytest.raises(InputError, match="holds other things"):
            write()
    assert files(tmp_path) == before


def test_a_folder_that_appears_while_a_file_is_written_is_kept(tmp_path):
    target = tmp_path / "a.gpkg"

    def write():
        with replacing(target) as new:
            new.write_text("ours")
            target.mkdir()
            (target / "thesis.txt").write_text("mine")

    with pytest.raises(InputError, match="holds other things"):
        write()
    assert files(tmp_path) == {"a.gpkg": None, "a.gpkg/thesis.txt": b"mine"}


def test_parts_of_others_are_not_taken_for_an_unfinished_store(tmp_path):
    picture = Picture.of("a", np.zeros((4, 4, 3), np.uint8))
    triplet = Triplet(picture=picture, expression="the ship", mask=Mask.empty((4, 4)), kind="one-to-zero")
    save(TABLE, tmp_path / "ships.parquet", rows_a_part=2)
    before = files(tmp_path)
    with pytest.raises(InputError, match=r"part-00000.parquet.*choose a new folder"):
        write_store([triplet], tmp_path / "ships.parquet")
    assert files(tmp_path) == before

    def broken():
        yield triplet
        raise OSError("broken off")

    with pytest.raises(OSError, match="broken off"):
        write_store(broken(), tmp_path / "store")
    assert (tmp_path / "store" / BEGUN).exists()
    assert len(write_store([triplet, triplet], tmp_path / "store")) == 2
    assert not (tmp_path / "store" / BEGUN).exists()
    assert len(TripletStore(tmp_path / "store")) == 2


def test_models_are_written_to_new_folders_or_over_models(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="name a new folder"):
        convert("tiny", tmp_path / "mine")
    assert not _is_model(tmp_path / "mine")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    convert("tiny", tmp_path / "link")
    assert _is_model(tmp_path / "real")
    (tmp_path / "real" / "notes.txt").touch()
    assert not _is_model(tmp_path / "real")


def test_a_store_that_is_replaced_reads_back(tmp_path):
    for _ in range(2):
        save(probabilities(), tmp_path / "a.zarr")
    assert (open_probabilities(tmp_path / "a.zarr") > 0.2).all()
