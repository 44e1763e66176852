"""Triplets from features over lazy scenes, against GDAL on the whole raster; splits share no ground."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from remotesam_geo import open_raster
from remotesam_geo.errors import InputError
from remotesam_geo.geo.box import Box
from remotesam_geo.learning.datasets import (
    GroundPlace,
    Mask,
    Picture,
    Triplet,
    cut_triplets,
    footprint,
    place_split,
    split_by_place,
    write_store,
)
from remotesam_geo.mapping.source import scene_source

DATA = Path(__file__).parents[2] / "data"
RASTERS = {
    "naip": DATA / "triplets" / "naip_06m.tif",  # UTM, 0.6 m
    "noaa": DATA / "triplets" / "noaa_nashville.tif",  # degrees; the plan's grid is UTM
    "naip, 5 m": DATA / "rasters" / "naip_2014.tif",
}
SYSTEMS = ("EPSG:4326", "EPSG:3857", "EPSG:5070", None)  # None: the raster's own


def features_over(geobox, crs, seed=0, count=25):
    """Stars and rings at random over a grid, some beyond its edge, drawn in a CRS."""
    generator = np.random.default_rng(seed)
    height, width = geobox.shape.yx
    shapes = []
    for k in range(count):
        x, y = generator.uniform(-5, width + 5), generator.uniform(-5, height + 5)
        turn = np.sort(generator.uniform(0, 2 * np.pi, 9))
        reach = generator.uniform(2, 14, 9)
        star = shapely.Polygon(np.stack([x + reach * np.cos(turn), y + reach * np.sin(turn)], 1))
        if k % 5 == 0:
            star = shapely.Point(x, y).buffer(9).difference(shapely.Point(x, y).buffer(4))
        shapes.append(shapely.make_valid(star))
    a, b, c, d, e, f = geobox.affine[:6]
    placed = [shapely.affinity.affine_transform(s, [a, b, d, e, c, f]) for s in shapes]
    frame = gpd.GeoDataFrame(
        {"label": [("tank", "ship", "tree")[k % 3] for k in range(count)]},
        geometry=placed,
        crs=str(geobox.crs),
    )
    frame = frame[frame.geometry.geom_type.isin(["Polygon", "MultiPolygon"])]
    return frame.to_crs(crs) if crs else frame


def corner_of(triplet, geobox):
    """Row and column of a chip in the grid."""
    column, row = ~geobox.affine * (triplet.picture.place.affine * (0, 0))
    assert abs(row - round(row)) + abs(column - round(column)) < 1e-6
    return round(row), round(column)


@pytest.mark.parametrize("crs", SYSTEMS)
@pytest.mark.parametrize("raster", RASTERS)
def test_masks_are_those_that_gdal_draws_over_the_whole_raster(raster, crs):
    scene = open_raster(RASTERS[raster])
    source = scene_source(scene)
    geobox = source.geobox
    frame = features_over(geobox, crs)
    whole = {
        label: rasterize(
            own.to_crs(str(geobox.crs)).geometry,
            out_shape=geobox.shape.yx,
            transform=geobox.affine,
            dtype="uint8",
        ).astype(bool)
        for label, own in frame.groupby("label")
    }
    height, width = geobox.shape.yx
    rgb, valid = source.read(Box(top=0, left=0, bottom=height, right=width), 0)
    size, seen, drawn = 48, 0, 0
    for triplet in cut_triplets(scene, frame, size=size, absent=9):
        row, column = corner_of(triplet, geobox)
        part = (slice(row, row + size), slice(column, column + size))
        expected = whole[triplet.label][part] & valid[part]
        assert (triplet.mask.pixels() == expected).all()
        assert (triplet.kind == "one-to-zero") == (not expected.any())
        assert triplet.expression == f"{triplet.label} in the image"
        assert (triplet.picture.read() == rgb[part]).all()
        seen, drawn = seen + 1, drawn + expected.sum()
    assert seen > 5
    assert drawn > 500


def test_the_grid_of_degrees_is_asked_in_square_metres():
    scene = open_raster(RASTERS["noaa"])
    frame = features_over(scene_source(scene).geobox, "EPSG:4326")
    first = next(iter(cut_triplets(scene, frame, size=64)))
    assert first.picture.place.crs == "EPSG:32616"


def test_own_words_attributes_and_coarser_pixels():
    scene = open_raster(RASTERS["naip"])
    frame = features_over(scene_source(scene).geobox, None)
    said = [f"the {label} number {k}" for k, label in enumerate(frame["label"])]
    frame["said"] = [text if k % 2 else None for k, text in enumerate(said)]
    frame["colour"] = "red"
    every = list(cut_triplets(scene, frame, expression="said", attributes=["colour"], size=64, resolution=1.2))
    own = [t for t in every if t.kind == "one-to-one"]
    assert own
    assert all(t.attributes == {"colour": "red"} and "number" in t.expression for t in own)
    assert all(t.picture.place.transform[0] == pytest.approx(1.2, rel=0.01) for t in own)


def test_a_scene_smaller_than_a_chip_is_padded_without_truth():
    scene = open_raster(RASTERS["naip, 5 m"])
    frame = features_over(scene_source(scene).geobox, None)
    triplets = list(cut_triplets(scene, frame, size=96))
    assert {t.picture.name for t in triplets} == {triplets[0].picture.name}
    row, column = corner_of(triplets[0], scene_source(scene).geobox)
    inside = np.zeros((96, 96), bool)
    inside[-row : 64 - row, -column : 64 - column] = True
    assert not (triplets[0].mask.pixels() & ~inside).any()
    assert not triplets[0].picture.read()[~inside].any()


def test_chips_without_any_feature_are_cut_when_asked_for():
    scene = open_raster(RASTERS["naip"])
    frame = features_over(scene_source(scene).geobox, None, count=1)
    few = list(cut_triplets(scene, frame, size=48, classes=["tank", "ship"]))
    many = list(cut_triplets(scene, frame, size=48, classes=["tank", "ship"], empty=True))
    assert len({t.picture.name for t in many}) > len({t.picture.name for t in few})


def test_what_is_asked_for_wrongly_says_so():
    scene = open_raster(RASTERS["naip"])
    frame = features_over(scene_source(scene).geobox, None)
    for change, words in (
        (lambda f: f.set_crs(None, allow_override=True), "no CRS"),
        (lambda f: f.rename(columns={"label": "class"}), "no column 'label'"),
        (lambda f: f.iloc[:0], "no feature"),
        (lambda f: f.set_geometry(f.centroid), "polygons"),
    ):
        with pytest.raises(InputError, match=words):
            next(cut_triplets(scene, change(frame)))
    with pytest.raises(InputError, match="none of"):
        next(cut_triplets(scene, frame, classes=["dam"]))


def test_chips_come_back_from_the_store_in_their_place(tmp_path):
    scene = open_raster(RASTERS["noaa"])
    frame = features_over(scene_source(scene).geobox, "EPSG:3857")
    wrote = list(cut_triplets(scene, frame, size=64))
    store = write_store(wrote, tmp_path)
    for one, other in zip(wrote, store, strict=True):
        assert other.mask == one.mask
        assert other.picture.place == one.picture.place
        assert (other.picture.read() == one.picture.read()).all()


# --- splits -------------------------------------------------------------------------------------


def chips_over(geobox, size, step):
    """Footprints of chips over a grid, as triplets."""
    for row in range(0, geobox.shape.y - size + 1, step):
        for column in range(0, geobox.shape.x - size + 1, step):
            part = geobox[row : row + size, column : column + size]
            place = GroundPlace(crs=str(geobox.crs), transform=tuple(part.affine[:6]))
            chip = Picture(name=f"{row}_{column}", content=b"", shape=(size, size), place=place)
            yield Triplet(picture=chip, expression="x", mask=Mask.empty((size, size)), kind="one-to-zero")  # fmt: skip


def on_the_map(triplet):
    return shapely.box(*footprint(triplet.picture.place, triplet.picture.shape))


def test_no_ground_is_shared_between_splits_across_crss_and_scenes():
    first = GeoBox.from_bbox((499000, 4e6, 507000, 4.008e6), crs="EPSG:32616", resolution=10)
    lonlat = first.geographic_extent.boundingbox
    second = GeoBox.from_bbox(lonlat.bbox, crs="EPSG:4326", resolution=0.0001)  # another scene
    every = [*chips_over(first, 32, 24), *chips_over(second, 40, 31)]
    kept = list(split_by_place(every, shares={"train": 0.6, "test": 0.4}, square=1500))
    by = {split: [on_the_map(t) for t in kept if t.split == split] for split in ("train", "test")}
    assert len(by["train"]) > 100
    assert len(by["test"]) > 100
    assert len(kept) > 0.4 * len(every)
    tree = shapely.STRtree(by["test"])
    near, other = tree.query(by["train"], predicate="intersects")
    common = shapely.area(shapely.intersection(np.array(by["train"])[near], np.array(by["test"])[other]))
    assert common.sum() == 0


def test_the_same_ground_stays_on_its_side_when_data_are_added():
    box = GeoBox.from_bbox((0, 0, 9000, 9000), crs="EPSG:3857", resolution=10)
    every = list(chips_over(box, 20, 20))
    before = {t.picture.name: t.split for t in split_by_place(every[:300])}
    after = {t.picture.name: t.split for t in split_by_place(reversed(every))}
    assert before
    assert all(after[name] == split for name, split in before.items())


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_shares_are_what_was_asked_for(seed):
    shares = {"train": 0.7, "test": 0.3}
    splits = [
        place_split(
            GroundPlace(crs="EPSG:6933", transform=(1, 0, 1000 * k + 5, 0, -1, 995)),
            (9, 9),
            shares=shares,
            square=1000,
            seed=seed,
        )
        for k in range(400)
    ]
    assert None not in splits
    assert 0.55 < splits.count("train") / 400 < 0.85


def test_pictures_without_a_place_go_to_one_split_with_all_their_triplets():
    picture = Picture.of("a", np.zeros((4, 4, 3), np.uint8))
    triplets = [
        Triplet(picture=picture, expression=text, mask=Mask.empty((4, 4)), kind="one-to-zero") for text in "abc"
    ]
    assert len({t.split for t in split_by_place(triplets)}) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shares": {"train": 0.7}}, "add up to 1"),
        ({"square": 0}, "above 0"),
        ({"square": 0.001}, "larger squares"),
    ],
)
def test_splits_that_make_no_sense_are_refused(options, words):
    place = GroundPlace(crs="EPSG:32616", transform=(1, 0, 5e5, 0, -1, 4e6))
    with pytest.raises(InputError, match=words):
        place_split(place, (64, 64), **options)
