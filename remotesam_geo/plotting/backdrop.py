"""What features are drawn over: a scene or a picture as pixels, and the way from coordinates to them."""

import base64
import colorsys
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image

from remotesam_geo.errors import InputError, number_in
from remotesam_geo.geo.box import Box
from remotesam_geo.geo.ground import pixel_size
from remotesam_geo.mapping.source import PixelSource, picture_source, scene_source
from remotesam_geo.remotesam.scene_kinds import PlainImage, Scene, SceneLike, subject

__all__ = [
    "Backdrop",
    "as_url",
    "backdrop",
    "check_features",
    "colours",
    "labels_of",
    "on_pixels",
    "source_of",
]

# Told apart by people with any colour vision, and from vegetation, soil and water.
COLOURS = ("#ffd92f", "#e7298a", "#1fd2ff", "#ff7f0e", "#b15dff", "#ffffff", "#e31a1c", "#7fff5c")
GREY = 128


@dataclass(frozen=True, kw_only=True, eq=False)
class Backdrop:
    """Pixels to draw over.

    Attributes:
        rgb: Their colours (h x w x 3), grey where there are no data.
        geobox: Where they lie; without a CRS for a picture, whose coordinates are its own pixels.
    """

    rgb: NDArray[np.uint8]
    geobox: GeoBox

    @property
    def metres(self) -> float | None:
        """Side of a pixel on the ground; None for a picture."""
        return None if self.geobox.crs is None else pixel_size(self.geobox).metres


def check_features(features: object, *, holes: bool = False) -> None:
    """Check that the first argument of a drawing function is a table of features.

    Args:
        features: What was given.
        holes: Whether rows without a geometry are allowed.

    Raises:
        InputError: It is none (the scene, for example), or its columns cannot be drawn.
    """
    if not isinstance(features, gpd.GeoDataFrame):
        raise InputError(
            f"features is a {type(features).__name__}: give the GeoDataFrame of a verb first and the scene second, "
            "for example plot(features, scene)"
        )
    if features.active_geometry_name is None or not features.columns.is_unique:
        raise InputError(f"features has the columns {list(features.columns)}: give each name once, and a geometry")
    if "score" in features and not pd.api.types.is_numeric_dtype(features["score"].convert_dtypes()):
        raise InputError("the column score of features must hold numbers: convert it with pandas.to_numeric")
    nothing = int((features.geometry.isna() | features.geometry.is_empty).sum())
    if nothing and not holes:
        raise InputError(f"{nothing} features have no geometry: drop them with features[~features.geometry.is_empty]")


def source_of(
    scene: SceneLike,
    bands: str | Sequence[str | int] | None,
    stretch: Any,
    time: int,
) -> tuple[PixelSource, int]:
    """A scene or picture in its own pixels, and which of its times is meant.

    Raises:
        InputError: There is no such time.
    """
    return _source_of_subject(subject(scene, bands, stretch), bands, stretch, time)


def _source_of_subject(
    opened: Scene | PlainImage,
    bands: str | Sequence[str | int] | None,
    stretch: Any,
    time: int,
) -> tuple[PixelSource, int]:
    source = (
        picture_source(opened.rgb, opened.valid)
        if isinstance(opened, PlainImage)
        else scene_source(opened, bands=bands, stretch=stretch)
    )
    last = len(source.dates) - 1
    number_in("time", time, -1 - last, last, whole=True)
    return source, time % len(source.dates)


def backdrop(
    scene: SceneLike,
    bands: str | Sequence[str | int] | None,
    stretch: Any,
    time: int,
    most: int,
) -> Backdrop:
    """Render a scene or picture, averaged so that no side has many more pixels than wanted.

    Args:
        scene: As the verbs take it.
        bands: As in `render`.
        stretch: As in `render`.
        time: Which time of the scene.
        most: Pixels of its longer side.
    """
    opened = subject(scene, bands, stretch)
    source, date = _source_of_subject(opened, bands, stretch, time)
    factor = max(source.geobox.shape.yx) / most
    if factor > 1 and not isinstance(opened, PlainImage):
        coarser = pixel_size(source.geobox).metres * factor
        source = scene_source(opened, bands=bands, stretch=stretch, resolution=coarser)
    height, width = source.geobox.shape.yx
    rgb, valid = source.read(Box(top=0, left=0, bottom=height, right=width), date)
    shown = np.where(valid[..., None], rgb, np.uint8(GREY))
    if factor > 1 and source.geobox.crs is None:
        small = (max(1, round(width / factor)), max(1, round(height / factor)))
        shown = np.asarray(Image.fromarray(shown).resize(small, Image.Resampling.BOX))
        affine = Affine.scale(width / small[0], height / small[1])
        return Backdrop(rgb=shown, geobox=GeoBox(shown.shape[:2], affine, None))
    return Backdrop(rgb=shown, geobox=source.geobox)


def on_pixels(features: gpd.GeoDataFrame, geobox: GeoBox) -> NDArray[np.object_]:
    """Geometries in the pixels of a grid.

    Raises:
        InputError: One lies on Earth and the other is a picture.
    """
    if (features.crs is None) != (geobox.crs is None):
        one, other = ("features", "scene") if features.crs is None else ("scene", "features")
        raise InputError(
            f"the {one} have no CRS and the {other} have one: features of a picture are drawn over that picture, those "
            "of a scene over the scene"
        )
    placed = features.geometry if geobox.crs is None else features.geometry.to_crs(str(geobox.crs))
    a, b, c, d, e, f = (~geobox.affine)[:6]

    def place(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = points.T
        return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)

    shapes = np.asarray(shapely.transform(placed.to_numpy(), place), object)
    if not np.isfinite(shapely.get_coordinates(shapes)).all():
        raise InputError(
            "some features lie where the CRS of the scene is not defined: drop them, or draw them without it"
        )
    return shapes


def labels_of(features: gpd.GeoDataFrame) -> tuple[list[int], list[str]]:
    """Which label each feature has, and the labels in the order met."""
    label = features["label"] if "label" in features else pd.Series("features", features.index)
    names = label.astype(object).where(label.notna(), "no label").astype(str)
    codes, labels = pd.factorize(names)
    return codes.tolist(), labels.tolist()


def colours(count: int) -> list[str]:
    """As many colours that can be told apart; past eight, hues round the circle."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    wheel = (colorsys.hls_to_rgb(i / count, 0.5 + 0.2 * (i % 2), 1.0) for i in range(count))
    return ["#" + "".join(f"{round(255 * part):02x}" for part in rgb) for rgb in wheel]


def as_url(rgb: NDArray[np.uint8]) -> str:
    """Colours (h x w x 3) as an address that holds them."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
