"""The folder in which the pages' code runs: the files that they name, and stand-ins for what is far away."""

from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pystac
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image

from remotesam_geo.learning.datasets import (
    cut_examples,
    cut_triplets,
    write_coco,
    write_dota,
    write_store,
)
from remotesam_geo.learning.synthetic import Acquisition, World
from remotesam_geo.model import convert
from remotesam_geo.stac.bands import RGB
from remotesam_geo.stac.catalogs import CATALOGS, Catalog
from tests.predictors.networks import write_clipseg, write_dino, write_sam2

CHICAGO = (-87.9, 41.975)  # within the box that the pages ask for
WORLD = World(
    29,  # ships and storage tanks near the anchor
    anchor=CHICAGO,
    acquisitions=(Acquisition(time="2019-07-01"), Acquisition(time="2021-07-01")),
)
RELEASED = (None, "1e12Leon/RemoteSAM", "RemoteSAMv1.pth")


def write_files(folder: Path) -> None:
    """Everything that the pages take for there."""
    grid = WORLD.geobox("EPSG:32616", resolution=0.3, shape=(256, 256))
    WORLD.write(folder / "harbour.tif", grid)
    write_clipseg(folder / "folders" / "clipseg")
    write_dino(folder / "folders" / "dino", 128)
    write_sam2(folder / "folders" / "sam2")
    west, south, east, north = grid.boundingbox.bbox
    middle = (west + east) / 2
    halves = [shapely.box(west, south, middle, north), shapely.box(middle, south, east, north)]
    parcels = gpd.GeoDataFrame({"owner": ["Ada", "Bo"]}, geometry=halves, crs=grid.crs)
    parcels.to_file(folder / "parcels.gpkg")
    scene, truth = WORLD.scene(grid).isel(time=0, drop=True), WORLD.truth(grid)
    truth.to_file(folder / "truth.gpkg")
    write_coco(cut_examples(scene, truth, size=128), folder / "data" / "coco")
    write_dota(cut_examples(scene, truth, size=128), folder / "data" / "dota")
    triplets = list(cut_triplets(scene, truth, size=128))
    held_out = triplets[0].picture.name
    write_store(
        (replace(one, split="val" if one.picture.name == held_out else "train") for one in triplets),
        folder / "triplets",
    )
    convert("tiny", folder / "my-model")
    _write_rasters(folder)
    _write_catalogue(folder / "catalogue")


def _write_rasters(folder: Path) -> None:
    """Rasters of other kinds: a picture with a world file, four bands of 16 bits."""
    random = np.random.default_rng(0)
    for name, bands, side, kind in (("orthophoto", 3, 40, "uint8"), ("bgrn", 4, 600, "uint16")):
        with rasterio.open(
            folder / f"{name}.tif", "w", driver="GTiff", dtype=kind, count=bands, width=side, height=side,
            crs="EPSG:32633", transform=Affine(1, 0, 500_000, 0, -1, 5_000_000),
        ) as file:  # fmt: skip
            file.write(random.integers(1, 250, (bands, side, side)).astype(kind))
    Image.fromarray(random.integers(1, 250, (20, 20, 3)).astype("uint8")).save(folder / "scan.jpg")
    (folder / "scan.jgw").write_text("1\n0\n0\n-1\n500000.5\n4999999.5\n")


def _write_catalogue(folder: Path) -> None:
    """A static catalogue with a collection `naip` of one place in two years."""
    grid = WORLD.geobox("EPSG:32616", resolution=0.6, shape=(256, 256))
    items = [
        _item(name, grid, WORLD.write(folder / f"{name}.tif", grid, time=time))
        for time, name in enumerate(("2019", "2021"))
    ]
    naip = pystac.Collection(
        "naip", description="A place", extent=pystac.Extent.from_items(items), license="Apache-2.0"
    )
    naip.add_items(items)
    catalogue = pystac.Catalog("far", description="What stands in for a catalogue far away")
    catalogue.add_child(naip)
    catalogue.normalize_and_save(str(folder), pystac.CatalogType.SELF_CONTAINED)


def _item(year: str, grid: GeoBox, file: Path) -> pystac.Item:
    footprint = grid.extent.to_crs("EPSG:4326").geom
    item = pystac.Item(
        id=year,
        geometry=shapely.geometry.mapping(footprint),
        bbox=list(footprint.bounds),
        datetime=pystac.utils.str_to_datetime(f"{year}-07-01T10:00:00Z"),
        properties={
            "gsd": 0.6,
            "proj:code": str(grid.crs),
            "proj:shape": list(grid.shape.yx),
            "proj:transform": list(grid.affine[:6]),
        },
        stac_extensions=[
            f"https://stac-extensions.github.io/{name}/schema.json"
            for name in ("eo/v1.1.0", "projection/v2.0.0", "raster/v1.1.0")
        ],
    )
    item.add_asset(
        "image",
        pystac.Asset(
            str(file),
            media_type=pystac.MediaType.COG,
            roles=["data"],
            extra_fields={
                "eo:bands": [{"name": name, "common_name": name} for name in RGB],
                "raster:bands": [{"data_type": "uint8"}] * 3,
            },
        ),
    )
    return item


def stand_in(monkeypatch, catalogue: Path) -> None:
    """Stand-ins for a catalogue, for the released weights, for a cluster and for hours of training."""
    from remotesam_geo.cli import training_commands as training
    from remotesam_geo.model import ContourModel, RemoteSAMModel, RemoteSAMProcessor, conversion
    from remotesam_geo.predictors.grounded_sam import GroundedSam

    folders = catalogue.parent / "folders"
    monkeypatch.setattr(GroundedSam, "SOURCES", (str(folders / "dino"), str(folders / "sam2")))

    here = Catalog(name="planetary-computer", url=str(catalogue / "catalog.json"), holds="a place")
    monkeypatch.setitem(CATALOGS, here.name, here)

    def tiny_for_released(owner):
        """Weights that are not here are those of tiny."""
        open_any = owner.from_pretrained.__func__

        def open_here(cls, source=None, **options):
            return open_any(cls, "tiny" if source in RELEASED else source, **options)

        monkeypatch.setattr(owner, "from_pretrained", classmethod(open_here))

    tiny_for_released(RemoteSAMModel)
    tiny_for_released(RemoteSAMProcessor)
    locate, fine_tune = conversion.locate, training._fine_tune
    monkeypatch.setattr(
        conversion,
        "locate",
        lambda source, **more: locate("tiny" if source in RELEASED else source, **more),
    )
    monkeypatch.setattr(ContourModel, "from_pretrained", classmethod(lambda cls: cls(_contours(), resolution=64)))
    monkeypatch.setattr("distributed.Client", lambda *_, **__: None)  # this process does it
    monkeypatch.setattr(
        training,
        "_fine_tune",
        lambda *given, config, **more: fine_tune(*given, config=replace(config, steps=1), **{**more, "pictures": 1}),
    )


def _contours():
    """A contour network of no use and no size."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    return SegformerForSemanticSegmentation(
        SegformerConfig(
            hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 1, 1], decoder_hidden_size=8,
            num_labels=1,
        )
    )  # fmt: skip
