"""What the metadata of well-known archives leaves unsaid, or says wrongly: types, nodata, reflectance, clouds.

Sources: ESA's product notes for Sentinel-2 (from processing baseline 04.00, 25 January 2022, reflectance is
`(DN - 1000) / 10000`; before it `DN / 10000`), the USGS guide of Landsat Collection 2 Level 2 (surface
reflectance `0.0000275 DN - 0.2`), Earth Search (`earthsearch:boa_offset_applied` says that the offset
has been added to the pixels already, whatever `raster:bands` says).
"""

import re
from dataclasses import dataclass, replace

from .items import Band, Item

# Keys of Sentinel-2 assets that hold one spectral band, in every archive's spelling.
_S2_BAND = re.compile(r"^(B(0[1-9]|1[0-2]|8A))(_\d+m)?(-jp2)?$", re.IGNORECASE)
_S2_COLORS = {"B04": "red", "B03": "green", "B02": "blue", "B08": "nir"}
_S2_PICTURE = re.compile(r"^(visual|TCI)", re.IGNORECASE)
_S2_SINGLE = re.compile(r"^(SCL|AOT|WVP|CLD|SNW)(_\d+m)?(-jp2)?$", re.IGNORECASE)
_S2_BASELINE = re.compile(r"_N(\d{2})\.?(\d{2})(_|$)")
_LANDSAT_QUALITY = {"qa_pixel", "pixel_qa"}
_LANDSAT_ID = re.compile(r"^L[CETM]0[4-9]_L2S[PR]_")
_LANDSAT_COLORS = {
    "coastal", "blue", "green", "red", "nir", "nir08", "swir16", "swir22",
}  # fmt: skip
_OPTICAL = _LANDSAT_COLORS | {"nir09", "rededge", "yellow", "pan", "cirrus"}


@dataclass(frozen=True, kw_only=True)
class CloudMask:
    """Which values of a quality band are clouds or their shadows.

    Args:
        asset: Key of the asset.
        values: Class values, or
        bits: a mask of bits, any of which says cloud.
    """

    asset: str
    values: tuple[int, ...] = ()
    bits: int = 0


def complete(band: Band, item: Item) -> Band:
    """Fill in, and where archives are known to be wrong correct, what an item says of a band.

    Args:
        band: As the item describes it.
        item: The item.

    Returns:
        The band; what nobody knows stays unknown.
    """
    if is_sentinel2(item):
        return _sentinel2_band(band, item)
    if is_landsat2(item):
        return _landsat_band(band, item)
    if item.collection.lower() == "naip" and band.asset == "image":
        return replace(band, dtype=band.dtype or "uint8")
    return band


def known_band(asset: str, item: Item) -> Band | None:
    """The one band of an asset that the item describes by nothing but its key, where that suffices."""
    if is_sentinel2(item):
        match = _S2_BAND.match(asset)
        if match:
            return Band(asset=asset, index=1, common_name=_S2_COLORS.get(match[1].upper(), ""))
        if _S2_SINGLE.match(asset):
            return Band(asset=asset, index=1)
    if is_landsat2(item):
        if asset in _LANDSAT_COLORS:
            return Band(asset=asset, index=1, common_name=asset)
        if asset.lower() in _LANDSAT_QUALITY:
            return Band(asset=asset, index=1)
    return None


def is_reflectance(band: Band, common: str) -> bool:
    """Whether a band's physical values are reflectances, of which a default stretch is known."""
    named = common.startswith("rededge") or common in _OPTICAL
    return named and band.scale is not None and 0 < band.scale <= 1e-3


def cloud_mask(item: Item) -> CloudMask | None:
    """The quality band that knows an item's clouds, or None.

    Sentinel-2's scene classification (shadow, medium and high probability, cirrus) and Landsat's
    QA_PIXEL (dilated cloud, cirrus, cloud, shadow).
    """
    for key in item.assets:
        name = key.lower()
        if name in {"scl", "scl_20m"}:
            return CloudMask(asset=key, values=(3, 8, 9, 10))
        if name in _LANDSAT_QUALITY:
            return CloudMask(asset=key, bits=0b11110)
    return None


def is_sentinel2(item: Item) -> bool:
    """Whether an item is a Sentinel-2 product."""
    told = str(item.properties.get("constellation") or item.properties.get("platform") or "")
    return told.lower().replace(" ", "-").startswith("sentinel-2") or item.collection.startswith(
        ("sentinel-2", "sentinel-s2")
    )


def is_landsat2(item: Item) -> bool:
    """Whether an item is a Landsat Collection 2 Level 2 product."""
    return _LANDSAT_ID.match(item.id) is not None or item.collection.startswith("landsat-c2")


def processing_baseline(item: Item) -> float | None:
    """Sentinel-2's processing baseline, from wherever the archive keeps it."""
    properties = item.properties
    for key in ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version"):
        try:
            return float(properties[key])
        except (KeyError, TypeError, ValueError):
            continue
    for text in (
        properties.get("s2:product_uri"),
        properties.get("sentinel:product_id"),
        properties.get("s2:granule_id"),
        properties.get("s2:datastrip_id"),
        item.id,
    ):
        match = _S2_BASELINE.search(str(text or ""))
        if match:
            return float(f"{match[1]}.{match[2]}")
    return None


def _sentinel2_band(band: Band, item: Item) -> Band:
    if _S2_PICTURE.match(band.asset) or band.asset.lower() in {"scl", "scl_20m"}:
        return replace(band, dtype=band.dtype or "uint8", nodata=_known_sensor_or(band.nodata, 0.0))
    spectral = _S2_BAND.match(band.asset) or _S2_BAND.match(band.name) or band.common_name
    preview = item.is_preview(band.asset) or len(item.bands(band.asset)) > 1
    if not spectral or preview or "mosaic" in item.collection:
        return band
    return replace(
        band,
        dtype=band.dtype or "uint16",
        nodata=_known_sensor_or(band.nodata, 0.0),
        scale=_known_sensor_or(band.scale, 1e-4),
        offset=_sentinel2_offset(band, item),
    )


def _sentinel2_offset(band: Band, item: Item) -> float:
    for key in ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied"):
        if item.properties.get(key) is True:
            return 0.0
    baseline = processing_baseline(item)
    if baseline is not None:
        # Collections give one offset for all their items; the older ones never had any.
        return _known_sensor_or(band.offset, -0.1) if baseline >= 4 else 0.0
    if band.offset is not None:
        return band.offset
    started = item.time is not None and str(item.time) >= "2022-01-25"
    return -0.1 if started else 0.0


def _landsat_band(band: Band, item: Item) -> Band:
    key = band.asset.lower()
    if key in _LANDSAT_QUALITY:
        return replace(band, dtype=band.dtype or "uint16", nodata=_known_sensor_or(band.nodata, 1.0))
    href = str(item.assets[band.asset].get("href") or "")
    if not re.search(r"_SR_B\d+\.TIF", href, re.IGNORECASE):
        return band
    return replace(
        band,
        dtype=band.dtype or "uint16",
        nodata=_known_sensor_or(band.nodata, 0.0),
        scale=_known_sensor_or(band.scale, 2.75e-5),
        offset=_known_sensor_or(band.offset, -0.2),
    )


def _known_sensor_or(value: float | None, default: float) -> float:
    return default if value is None else value
