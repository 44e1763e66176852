"""Results and models as STAC items, against the published schemas, offline."""

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import geopandas as gpd
import numpy as np
import pandas as pd
import pystac
import pytest
import shapely
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.mlm import MLMExtension
from pystac.validation import JsonSchemaSTACValidator

from remotesam_geo import model_item, result_item, save
from remotesam_geo.errors import InputError
from remotesam_geo.model import RemoteSAMConfig
from tests.remotesam.test_remotesam import BAR, DISC, GREEN, MODEL, RED, scene_of

SCHEMAS = Path(__file__).parents[1] / "data" / "schemas"
VERSIONS = {
    "label": "v1.0.1", "classification": "v1.1.0", "mlm": "v1.4.0", "raster": "v1.1.0", "processing": "v1.1.0",
    "projection": "v2.0.0",
}  # fmt: skip
SCENE = scene_of([(BAR, RED), (DISC, GREEN)]).assign_coords(time=np.datetime64("2024-05-01T10:00", "ns"))
WHEN = datetime(2024, 5, 1, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def validator():
    """Pystac's own, with the schemas it would fetch; the network is shut."""
    own = JsonSchemaSTACValidator()
    for name, version in VERSIONS.items():
        uri = f"https://stac-extensions.github.io/{name}/{version}/schema.json"
        own.schema_cache[uri] = json.loads((SCHEMAS / f"{name}.json").read_text("utf-8"))
    return own


@pytest.fixture(scope="module")
def source():
    item = pystac.Item("naip-7", {"type": "Point", "coordinates": [15, 45]}, [15, 45, 15, 45], WHEN, {})
    item.set_self_href("https://example.com/naip-7.json")
    return item


@pytest.fixture(scope="module")
def model():
    config = RemoteSAMConfig(image_size=256)
    network = SimpleNamespace(identity="ab" * 32, predictor=SimpleNamespace(config=config))
    return model_item(SimpleNamespace(model=network), href="https://example.com/weights.safetensors")


def test_the_models_item_is_valid_and_says_what_it_takes(model, validator):
    assert model.stac_extensions == ["https://stac-extensions.github.io/mlm/v1.4.0/schema.json"]
    assert len(model.validate(validator)) == 2  # the core and the extension
    mlm = MLMExtension.ext(model)
    assert mlm.input[0].input.shape == [-1, 3, 256, 256]
    assert mlm.hyperparameters.to_dict()["weights_sha256"] == "ab" * 32


def test_the_validator_finds_what_is_wrong(model, validator):
    broken = model.clone()
    del broken.properties["mlm:architecture"]
    with pytest.raises(pystac.errors.STACValidationError):
        broken.validate(validator)


@pytest.mark.parametrize("name", ["ships.geojson", "ships.parquet", "ships.gpkg", "ships.fgb"])
def test_a_table_as_a_label_item(name, source, model, validator, tmp_path):
    table = MODEL.segment(SCENE, ["red", "green", "any"], progress=False)
    table = table[table["label"] != "any"]
    item = result_item(save(table, tmp_path / name), sources=[source], model=model)
    item.validate(validator)
    label = item.properties
    assert label["label:type"] == "vector"
    assert label["label:classes"][0]["classes"] == [
        "red",
        "green",
        "any",
    ]  # what was asked, found or not
    assert {c["name"]: c["count"] for c in label["label:overviews"][0]["counts"]} == {
        "red": 1,
        "green": 1,
        "any": 0,
    }
    assert item.datetime == WHEN
    assert item.id == "ships"
    true = gpd.GeoSeries([SCENE.odc.geobox.extent.geom], crs="EPSG:32633").to_crs("EPSG:4326")[0]
    assert shapely.geometry.shape(item.geometry).hausdorff_distance(true) < 1e-6
    links = {link.href: link for link in item.get_links("derived_from")}
    assert set(links) == {"https://example.com/naip-7.json", "RemoteSAM"}
    assert links["RemoteSAM"].extra_fields == {"mlm:name": "RemoteSAM"}
    assert item.properties["remotesam"]["model"] == "colours"
    (asset,) = item.assets.values()
    assert Path(asset.href) == tmp_path / name
    assert set(asset.roles) == {"data", "labels", "labels-vector"}


def test_nothing_found_is_an_item_too(validator, tmp_path):
    table = MODEL.segment(SCENE, "red", progress=False).iloc[:0]
    item = result_item(save(table, tmp_path / "none.geojson"), when=WHEN)
    item.validate(validator)
    assert item.properties["label:overviews"][0]["counts"] == [{"name": "red", "count": 0}]


@pytest.mark.parametrize("name", ["map.tif", "map.zarr"])
def test_maps_as_items(name, validator, tmp_path):
    classes = save(MODEL.classmap(SCENE, ["red", "green"]), tmp_path / name)
    item = result_item(classes, when=WHEN)
    item.validate(validator)
    (asset,) = item.assets.values()
    stated = ClassificationExtension.ext(asset).classes
    assert [(each.value, each.name) for each in stated] == [
        (0, "background"),
        (1, "red"),
        (2, "green"),
    ]
    assert item.properties["label:type"] == "raster"
    held = save(MODEL.probabilities(SCENE, ["red", "green"]), tmp_path / f"p{name}")
    both = result_item([held, classes], when=WHEN, name="both")
    both.validate(validator)
    assert set(both.assets) == {f"p{name}", name}
    if name.endswith("tif"):
        bands = both.assets[f"p{name}"].extra_fields["raster:bands"]
        assert [(b["scale"], b["offset"], b["nodata"]) for b in bands] == [(0.005, -0.0025, 255)] * 2
        assert both.assets[name].extra_fields["proj:code"] == "EPSG:32633"
        assert result_item(held).datetime == WHEN  # the file knows


def test_times_span_what_is_shown(source, validator, tmp_path):
    table = MODEL.segment(SCENE, ["red", "green"], progress=False)
    table["time"] = pd.to_datetime(["2024-05-01", "2025-05-01"])
    item = result_item(save(table, tmp_path / "a.gpkg"))
    item.validate(validator)
    assert item.datetime is None
    assert item.common_metadata.end_datetime == datetime(2025, 5, 1, tzinfo=UTC)
    undated = save(table.assign(time=pd.NaT), tmp_path / "b.gpkg")
    assert result_item(undated, sources=[source]).datetime == WHEN
    with pytest.raises(InputError, match="give when="):
        result_item(undated)


def test_a_scene_across_the_antimeridian_has_two_parts(validator, tmp_path):
    scene = scene_of([], crs="EPSG:4326", resolution=1e-3, size=0.2, at=(179.9, 10))
    table = MODEL.segment(scene, "red", progress=False)
    item = result_item(save(table, tmp_path / "a.geojson"), when=WHEN)
    item.validate(validator)
    assert item.geometry["type"] == "MultiPolygon"
    assert item.bbox == pytest.approx([179.9, 9.8, -179.9, 10])


def test_mistakes_are_told(tmp_path):
    picture = gpd.GeoDataFrame({"label": ["red"]}, geometry=[DISC])
    picture.attrs.update(remotesam=json.dumps({"asked": [{"crs": None, "prompts": []}]}), space="pixel")
    with pytest.raises(InputError, match="nowhere on Earth"):
        result_item(save(picture, tmp_path / "a.gpkg"), when=WHEN)
    with pytest.raises(InputError, match="no network"):
        model_item(MODEL, href="x")
    with pytest.raises(InputError, match="paths is empty"):
        result_item([])
    with pytest.raises(InputError, match="there is no"):
        result_item(tmp_path / "none.gpkg")
