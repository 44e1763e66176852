"""Kinds of items made from a recorded one: other CRSs, missing and malformed fields, several resolutions and years."""

import copy
from collections.abc import Callable
from typing import Any

import shapely
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from tests.scenes.places import recorded

RGB = ["red", "green", "blue"]
Kind = tuple[list[dict[str, Any]], dict[str, Any]]
KINDS: dict[str, Callable[[], Kind]] = {}
WEST, NORTH = 500_000.0, 5_000_000.0


def lying(  # noqa: PLR0917 - as a table row
    crs: Any = "EPSG:32631",
    west: float = WEST,
    north: float = NORTH,
    size: float = 10,
    rows: int = 600,
    columns: int = 400,
    name: str = "a",
    **fields: Any,
) -> dict[str, Any]:
    """A Sentinel-2 item with red, green and blue, moved to a grid of this CRS."""
    doc = copy.deepcopy(recorded("s2_collection1")[0])
    crs = CRS(crs)
    grid = GeoBox((rows, columns), Affine(size, 0, west, 0, -size, north), crs)
    shape = grid.footprint("EPSG:4326")
    doc |= {"id": name, "bbox": list(shape.boundingbox.bbox), "geometry": shapely.geometry.mapping(shape.geom)}
    kept = {key: value for key, value in doc["properties"].items() if not key.startswith("proj:")}
    doc["properties"] = (
        kept
        | {
            "proj:code": f"EPSG:{crs.epsg}",
            "proj:shape": [rows, columns],
            "proj:transform": list(grid.transform[:6]),
        }
        | fields
    )
    doc["assets"] = {key: doc["assets"][key] for key in RGB}
    for asset in doc["assets"].values():
        for key in [key for key in asset if key.startswith("proj:")]:
            del asset[key]
    return doc


def without(doc: dict[str, Any], *fields: str) -> dict[str, Any]:
    """The item without some of its properties."""
    for field in fields:
        doc["properties"].pop(field, None)
    return doc


def assets(doc: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The item with these fields in all of its assets."""
    for asset in doc["assets"].values():
        asset |= {key.replace("__", ":"): value for key, value in fields.items()}
    return doc


def kind(name: str, items: Callable[[], Any], **options: Any) -> None:
    """Note a kind of items, and how they are loaded."""

    def made() -> Kind:
        found = items()
        return (found if isinstance(found, list) else [found]), options

    KINDS[name] = made


def pair(**more: Any) -> list[dict[str, Any]]:
    """Two neighbours; arguments are those of the second."""
    return [lying(), lying(**({"name": "b", "west": WEST + 4000} | more))]


UTM = CRS("EPSG:32631")
ALBERS = CRS("+proj=aea +lat_1=29.5 +lat_2=45.5 +lat_0=23 +lon_0=3 +x_0=0 +y_0=0 +datum=WGS84 +units=m").to_wkt()
for code, west, north, size in (
    ("EPSG:32631", WEST, NORTH, 10),
    ("EPSG:32733", WEST, 8e6, 10),
    ("EPSG:3857", 3e5, 5.6e6, 10),
    ("EPSG:4326", 3.0, 45.0, 1 / 8192),
    ("EPSG:3577", -1e6, -2e6, 30),
    ("EPSG:3413", 1e5, -1e6, 40),
    ("EPSG:2193", 1.5e6, 5.2e6, 10),
    ("EPSG:3035", 4e6, 3e6, 10),
    ("EPSG:2263", 9.8e5, 2e5, 2),
    ("EPSG:5070", 1e5, 2e6, 30),
):
    kind(f"crs {code}", lambda code=code, west=west, north=north, size=size: lying(code, west, north, size))
kind("proj:epsg", lambda: without(lying(**{"proj:epsg": 32631}), "proj:code"))
kind("proj:wkt2", lambda: without(lying(**{"proj:wkt2": UTM.to_wkt()}), "proj:code"))
kind("proj:projjson", lambda: without(lying(**{"proj:projjson": UTM.proj.to_json_dict()}), "proj:code"))
kind("a CRS without a code", lambda: without(lying(ALBERS, 0, 2e6, **{"proj:wkt2": ALBERS}), "proj:code"))
kind("null code, with wkt2", lambda: lying(**{"proj:code": None, "proj:wkt2": UTM.to_wkt()}))
kind(
    "projection in the assets",
    lambda: assets(
        without(lying(), "proj:code", "proj:shape", "proj:transform"),
        proj__epsg=32631,
        proj__shape=[600, 400],
        proj__transform=[10, 0, WEST, 0, -10, NORTH],
    ),
)
kind("the asset has another code", lambda: assets(lying(**{"proj:code": "EPSG:4326"}), proj__epsg=32631))
kind("the asset says that it has no CRS", lambda: assets(lying(), proj__code=None))
kind("transform of 9 numbers", lambda: lying(**{"proj:transform": [10, 0, WEST, 0, -10, NORTH, 0, 0, 1]}))
kind(
    "proj:bbox in place of a transform",
    lambda: assets(without(lying(), "proj:transform"), proj__bbox=[WEST, NORTH - 6000, WEST + 4000, NORTH]),
)
kind("no projection", lambda: without(lying(), "proj:code", "proj:shape", "proj:transform"))
kind("no shape", lambda: without(lying(), "proj:shape"))
kind("no list of extensions", lambda: lying() | {"stac_extensions": []})
kind("code as a float", lambda: without(lying(**{"proj:epsg": 32631.0}), "proj:code"))
kind("code as text", lambda: without(lying(**{"proj:epsg": "32631"}), "proj:code"))
kind("unknown code", lambda: lying(**{"proj:code": "EPSG:999999"}))
kind("transform as text", lambda: lying(**{"proj:transform": ["10", "0", "500000", "0", "-10", "5000000"]}))
kind("wrong zone", lambda: lying(**{"proj:code": "EPSG:32633"}))
kind("rows run north", lambda: lying(**{"proj:transform": [10, 0, WEST, 0, 10, NORTH - 6000]}))
kind("rotated", lambda: lying(**{"proj:transform": [8, 6, WEST, 6, -8, NORTH]}))
kind("neighbours", pair)
kind(
    "an offset of a third of a pixel",
    lambda: [lying(west=WEST + 3, north=NORTH + 3), lying(west=WEST + 4003, north=NORTH + 3, name="b")],
)
kind(
    "an offset of half a pixel",
    lambda: [lying(west=WEST + 5, north=NORTH + 5), lying(west=WEST + 4005, north=NORTH + 5, name="b")],
)
kind("a transform with rounding errors", lambda: pair(west=WEST + 4000.000001))
kind("two resolutions", lambda: [*pair(), lying(name="c", size=20, north=NORTH + 6000)])
kind("two resolutions, as often", lambda: pair(size=20))
kind("two resolutions, as often, coarse first", lambda: pair(size=20)[::-1])


def mixed(second: float = 20) -> dict[str, Any]:
    doc = lying()
    doc["assets"]["blue"] |= {"proj:shape": [300, 200], "proj:transform": [second, 0, WEST, 0, -second, NORTH]}
    return doc


kind("two resolutions in one item", mixed)
kind("grids of assets that differ from item to item", lambda: [lying(), mixed() | {"id": "b"}])
kind("two zones", lambda: [*pair(), lying("EPSG:32632", name="c", west=WEST - 470_000)])
kind("two zones, and a CRS", lambda: [lying(), lying("EPSG:32632", name="c", west=WEST - 470_000)], crs="EPSG:32632")
kind("another CRS", lying, crs="EPSG:3857", odc={"crs": "EPSG:3857"})
kind("degrees", lying, crs="EPSG:4326", odc={"crs": "EPSG:4326"})
kind("coarser", pair, resolution=20)
kind("coarser by half", pair, resolution=15)
kind("coarser, and an area", pair, resolution=60, bbox=(3.01, 45.11, 3.06, 45.14))
kind("an area", pair, bbox=(3.01, 45.11, 3.06, 45.14))
kind("a large area", lambda: pair(size=100), resolution=100, bbox=(1.0, 44.0, 7.0, 46.0))
kind(
    "a polygon",
    pair,
    geometry=shapely.Polygon([(3.01, 45.11), (3.06, 45.12), (3.03, 45.14)]),
    odc={"geopolygon": shapely.Polygon([(3.01, 45.11), (3.06, 45.12), (3.03, 45.14)])},
)
kind("a grid", pair, geobox=GeoBox((50, 60), Affine(30, 0, WEST, 0, -30, NORTH), "EPSG:32631"))
kind(
    "an area on the edge of a pixel",
    pair,
    geometry=shapely.box(3.0, 45.1, 3.0127, 45.15),
    odc={"geopolygon": shapely.box(3.0, 45.1, 3.0127, 45.15)},
)
kind(
    "degrees across the antimeridian",
    lambda: [
        lying("EPSG:4326", 179.9, 45.0, 1 / 8192) | {"bbox": [179.9, 44.9, -179.99, 45.0]},
        lying("EPSG:4326", -180, 45.0, 1 / 8192, name="b"),
    ],
)
kind(
    "an area across the antimeridian",
    lambda: lying("EPSG:32601", 230_000, NORTH, 100),
    bbox=(179.9, 44.9, -179.9, 45.1),
    odc={"bbox": (179.9, 44.9, 180.1, 45.1)},
)
kind(
    "several years of Sentinel-2",
    lambda: [
        lying(**{"s2:processing_baseline": "02.09", "datetime": "2019-05-01T10:00:00Z"}),
        lying(name="b", **{"s2:processing_baseline": "05.10", "datetime": "2024-05-01T10:00:00Z"}),
    ],
)
kind(
    "several years, in plain numbers",
    lambda: [lying(datetime="2022-05-01T10:00:00Z"), lying(name="b", datetime="2024-05-01T10:00:00Z")],
    rescale=False,
    odc={},
)
kind(
    "only a start and an end",
    lambda: lying(datetime=None, start_datetime="2024-01-01T00:00:00Z", end_datetime="2024-12-31T00:00:00Z"),
)
kind("no geometry, no bbox", lambda: lying() | {"geometry": None, "bbox": None})
kind("no collection", lambda: {key: value for key, value in lying().items() if key != "collection"})
kind("a bbox of 6 numbers", lambda: lying() | {"bbox": [3.0, 45.09, 0, 3.06, 45.16, 1000]})
kind(
    "no types",
    lambda: without(assets(lying(), raster__bands=None) | {"collection": "x", "id": "a"}, "constellation", "platform"),
)


def only(**fields: Any) -> dict[str, Any]:
    """An item of an unknown mission with one asset of three bands."""
    doc = without(lying(), "constellation", "platform") | {"collection": "unknown"}
    doc["assets"] = {"image": {"href": "https://example.com/image.tif", "type": "image/tiff", "roles": ["data"]}}
    return assets(doc, **fields)


EO = [{"name": name, "common_name": name} for name in RGB]
RASTER = [{"data_type": "uint8", "nodata": 0}] * 3
kind("three bands in an asset", lambda: only(eo__bands=EO, raster__bands=RASTER))
kind("one description of three bands", lambda: only(eo__bands=EO, raster__bands=RASTER[:1]))
kind(
    "bands of STAC 1.1",
    lambda: only(bands=[{"name": f"B{i}", "eo:common_name": name, "data_type": "uint8"} for i, name in enumerate(RGB)]),
)
kind(
    "bands of STAC 1.1, type in the asset",
    lambda: only(
        data_type="uint8", nodata=0, bands=[{"name": f"B{i}", "eo:common_name": name} for i, name in enumerate(RGB)]
    ),
)
kind(
    "bands as numbers",
    lambda: only(eo__bands=[0, 1, 2], raster__bands=RASTER) | {"properties": only()["properties"] | {"eo:bands": EO}},
)
kind("complex numbers", lambda: only(eo__bands=EO, raster__bands=[{"data_type": "cint16"}] * 3))
kind("nodata as text", lambda: only(eo__bands=EO, raster__bands=[{"data_type": "float32", "nodata": "nan"}] * 3))
kind("nodata of a float", lambda: only(eo__bands=EO, raster__bands=[{"data_type": "float32", "nodata": -9999}] * 3))
kind("an asset without a media type", lambda: only(type=None, eo__bands=EO, raster__bands=RASTER))


def beside(**asset: Any) -> dict[str, Any]:
    """A right item with one more asset."""
    doc = lying()
    doc["assets"]["more"] = {"href": "https://example.com/more.tif", "type": "image/tiff"} | asset
    return doc


kind("a malformed asset beside", lambda: beside(**{"proj:shape": "large", "raster:bands": [{"data_type": "uint8"}]}))
kind("an asset without projection beside", lambda: beside(**{"raster:bands": [{"data_type": "uint8"}]}))


def lacking() -> list[dict[str, Any]]:
    docs = pair()
    del docs[1]["assets"]["blue"]
    return docs


kind("a second item lacks a band", lacking)
kind(
    "types that differ between items",
    lambda: [lying(), assets(pair()[1], raster__bands=[{"data_type": "int16", "scale": 1e-4, "offset": -0.1}])],
)
