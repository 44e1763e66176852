"""Maps and parts on disk: whole or not at all, and the same when they are read again."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from remotesam_geo.errors import JobError
from remotesam_geo.job.storage.block_files import about, check, pack, seal_of, unpack
from remotesam_geo.job.storage.map_store import DamagedBlockError, Store, replace_file, tidy
from remotesam_geo.mapping.grid import Grid
from remotesam_geo.mapping.polygons import SIDES, Joiner, extract
from remotesam_geo.tasks import FAILED, NO_DATA
from tests.mapping.test_polygons import noise

GRID = Grid(shape=(70, 110), window=24, overlap=8, block=2)


def test_every_block_comes_back_and_those_without_data_take_no_room(tmp_path):
    store = Store(tmp_path)
    store.create("a", GRID, 2, {"expression": "ship"})
    store.create("a", GRID, 2, {"expression": "ship"})  # there already
    random = np.random.default_rng(0)
    maps = random.integers(0, 201, (2, *GRID.shape)).astype(np.uint8)
    blocks = [GRID.block_at(index) for index in range(np.prod(GRID.blocks))]
    maps[(1, *blocks[2].core.within(GRID.raster))] = NO_DATA
    marks = {
        (date, block): store.write("a", date, block, maps[(date, *block.core.within(GRID.raster))], GRID)
        for date in (0, 1)
        for block in blocks
    }
    again = Store(tmp_path)
    for (date, block), mark in marks.items():
        codes = again.read("a", date, block, GRID, mark)
        np.testing.assert_array_equal(codes, maps[(date, *block.core.within(GRID.raster))])
        assert again.path("a", date, block).exists() == bool(mark) == (codes != NO_DATA).any()
    array = zarr.open_array(str(tmp_path / "a"), mode="r")
    assert array.attrs["expression"] == "ship"
    assert array.metadata.dimension_names[:3] == ("time", "block_row", "block_column")
    # Zarr itself passes over the seals.
    for (date, block), mark in marks.items():
        height, width = block.core.shape
        np.testing.assert_array_equal(
            array[date, block.row, block.col][:height, :width],
            again.read("a", date, block, GRID, mark),
        )


def test_damaged_metadata_is_written_anew(tmp_path):
    store, path = Store(tmp_path), tmp_path / "a" / "zarr.json"
    store.create("a", GRID, 1, {"expression": "ship"})
    whole = path.read_bytes()
    changed = whole.replace(b"zstd", b"gzip"), whole.replace(b"255", b"25"), whole[:99], b"", b"[]"
    for data in changed:
        path.write_bytes(data)
        store.create("a", GRID, 1, {"expression": "ship"})
        assert path.read_bytes() == whole


def test_any_change_of_a_block_is_noticed(tmp_path):
    store, random = Store(tmp_path), np.random.default_rng(0)
    store.create("a", GRID, 2, {})
    block, other = GRID.block_at(1), GRID.block_at(2)
    codes = random.integers(0, 5, block.core.shape).astype(np.uint8)
    mark = store.write("a", 0, block, codes, GRID)
    path = store.path("a", 0, block)
    whole = path.read_bytes()

    def refused(data, mark=mark):
        if data is None:
            path.unlink()
        else:
            path.write_bytes(data)
        with pytest.raises(DamagedBlockError, match=str(path)):
            store.read("a", 0, block, GRID, mark)
        with pytest.raises(DamagedBlockError, match="damaged"):
            store.check("a", 0, block, mark)

    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(random.integers(8))
        refused(bytes(flipped))
        if place < len(whole) - 24:  # a seal that was flipped itself is noticed by the ledger's digest
            with pytest.raises(DamagedBlockError):
                store.found("a", 0, block, GRID)
    for data in (None, b"", whole[:-1], whole[:20], whole + b"x", bytes(len(whole))):
        refused(data)
    refused(whole, "")  # a block without data has no file
    store.write("a", 0, other, codes[: other.core.shape[0], : other.core.shape[1]], GRID)
    store.write("a", 1, block, codes, GRID)
    store.create("b", GRID, 1, {})
    store.write("b", 0, block, codes, GRID)
    for layer, date, where in (("a", 0, other), ("a", 1, block), ("b", 0, block)):
        data = store.path(layer, date, where).read_bytes()
        refused(data)
        with pytest.raises(DamagedBlockError):
            store.found("a", 0, block, GRID)
    path.write_bytes(whole)
    found, seal = store.found("a", 0, block, GRID)
    np.testing.assert_array_equal(found, codes)
    assert seal == mark
    empty = np.full(block.core.shape, NO_DATA, np.uint8)
    assert store.write("a", 0, block, empty, GRID) == ""
    assert not path.exists()


def test_a_write_that_fails_keeps_what_was_there(tmp_path, monkeypatch):
    store, block = Store(tmp_path), GRID.block_at(1)
    store.create("a", GRID, 1, {})
    one = np.full(block.core.shape, 7, np.uint8)
    mark = store.write("a", 0, block, one, GRID)

    def full(path, *given, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(JobError, match="No space left"):
        store.write("a", 0, block, one + 1, GRID)
    monkeypatch.undo()
    np.testing.assert_array_equal(Store(tmp_path).read("a", 0, block, GRID, mark), one)

    path = tmp_path / "file"
    replace_file(path, b"one")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(JobError, match="No space left"):
        replace_file(path, b"two")
    assert path.read_bytes() == b"one"
    assert [found.name for found in tmp_path.iterdir() if "partial" in found.name] == []
    (tmp_path / "a" / ".0.12.34.partial").write_bytes(b"x")
    (tmp_path / ".plan.json.12.34.partial").write_bytes(b"x")
    (tmp_path / "thesis.partial").write_bytes(b"mine")
    tidy(tmp_path, deep=False)
    assert len(list(tmp_path.rglob("*.partial"))) == 2
    tidy(tmp_path, deep=True)
    assert [path.name for path in tmp_path.rglob("*.partial")] == ["thesis.partial"]


@settings(max_examples=15)
@given(st.data(), st.sampled_from(["polygon", "box", "oriented"]), st.integers(0, 99))
def test_features_joined_from_parts_are_those_joined_from_maps(data, outline, seed):
    codes = noise(GRID.shape, seed, data.draw(st.sampled_from([0.05, 0.4, 0.6])))
    geobox = data.draw(
        st.sampled_from(
            [
                GeoBox.from_bbox((500000, 0, 500055, 35), crs="EPSG:32633", resolution=0.5),
                GeoBox.from_bbox((14.1, 60.1, 14.1011, 60.1007), crs="EPSG:4326", resolution=1e-5),
            ]
        )
    ).rotate(data.draw(st.sampled_from([0, 30])))
    straight, stored = Joiner(GRID), Joiner(GRID)
    one, other = [], []
    for index in range(int(np.prod(GRID.blocks))):
        block = GRID.block_at(index)
        found = extract(codes[block.core.within(GRID.raster)], block.core, outline=outline)
        back = unpack(pack(found, geobox, {"label": "ship", "block": index}), geobox)
        np.testing.assert_array_equal(back.parent, found.parent)
        for side in SIDES:
            np.testing.assert_array_equal(back.whole_edges[side], found.whole_edges[side])
        one += straight.add(block, found)
        other += stored.add(block, back)
    one += straight.finish()
    other += stored.finish()
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        for name in ("count", "total", "peak", "box", "first"):
            np.testing.assert_array_equal(getattr(a.table, name), getattr(b.table, name))
        if a.polygons is not None:
            assert [p.wkb for p in a.polygons] == [p.wkb for p in b.polygons]
        if a.hulls is not None:
            np.testing.assert_array_equal(a.hulls.points, b.hulls.points)
            np.testing.assert_array_equal(a.hulls.begin, b.hulls.begin)


def test_a_part_is_geoparquet_that_says_what_it_is(tmp_path):
    geobox = GeoBox.from_bbox((500000, 0, 500110, 70), crs="EPSG:32633", resolution=1)
    codes = np.zeros(GRID.shape, np.uint8)
    codes[10:20, 30:50] = 150
    codes[0] = FAILED
    data = pack(extract(codes, GRID.raster), geobox, {"label": "ship"})
    (tmp_path / "part.parquet").write_bytes(data)
    table = gpd.read_parquet(tmp_path / "part.parquet")
    assert table.crs == "EPSG:32633"
    assert table.geometry[0].equals(shapely.box(500030, 50, 500050, 60))
    assert table.score[0] == pytest.approx((150 - 0.5) / 200)
    assert about(data) == {"label": "ship"}
    check(data)
    assert len(seal_of(data)) == 32
    elsewhere = pack(extract(codes, GRID.raster), geobox, {"label": "ship"}, "layer", 0, 7)
    check(elsewhere, "layer", 0, 7)
    for bad in (data, elsewhere[:-9], elsewhere.replace(b"PAR1", b"PAR2"), b"", b'"seal": "'):
        with pytest.raises(JobError, match="damaged"):
            check(bad, "layer", 0, 7)
    empty = pack(extract(codes[:5, :5], GRID.raster), geobox, {})
    assert len(unpack(empty, geobox).features) == 0
    for bad in (data[:50], data[:-50], b"", b"PAR1junkPAR1"):
        with pytest.raises(JobError, match="damaged"):
            unpack(bad, geobox)
