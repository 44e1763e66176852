"""An interactive map in one page that asks nothing of the network: in Jupyter, or as a file."""

import base64
import hashlib
import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from remotesam_geo.errors import InputError, instance_of, number_in
from remotesam_geo.geo.ground import pixel_size
from remotesam_geo.outputs.atomic import replacing
from remotesam_geo.remotesam.scene_kinds import SceneLike

from .backdrop import Backdrop, as_url, backdrop, check_features, colours, labels_of, on_pixels
from .gpu_map import gpu_map

if TYPE_CHECKING:
    from ipywidgets import Widget

__all__ = ["Map", "explore"]

MOST_FEATURES = 50_000
"""More make a page that browsers open slowly: they are drawn by the graphics card."""
MOST_PIXELS = 1600
SIDE = 1000.0
"""Of the plane on which features are laid where there is no picture."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Map:
    """A page with a map; Jupyter shows it.

    Attributes:
        page: The whole page as HTML.
        height: Of the frame in Jupyter, in pixels.
    """

    page: str
    height: int = 560

    def save(self, path: str | Path) -> Path:
        """Write the page to a file, which any browser opens, without a network.

        Args:
            path: Ends in .html.
        """
        target = Path(path)
        if target.suffix.lower() not in {".html", ".htm"}:
            raise InputError(f"{target.name!r} must end in .html")
        with replacing(target) as new:
            new.write_text(self.page, "utf-8")
        return target

    def _repr_html_(self) -> str:
        # A frame of its own: neither styles nor scripts reach the notebook.
        return (
            f'<iframe sandbox="allow-scripts" srcdoc="{html.escape(self.page)}" width="100%" '
            f'height="{self.height}" style="border: 0"></iframe>'
        )

    def __repr__(self) -> str:
        return f"Map({len(self.page) / 1e6:.1f} MB of HTML; show it in Jupyter, or .save('map.html'))"


def explore(
    features: gpd.GeoDataFrame,
    scene: SceneLike | None = None,
    *,
    title: str = "",
    bands: str | Sequence[str | int] | None = None,
    stretch: Any = None,
    time: int = 0,
    height: int = 560,
) -> "Map | Widget":
    """Look at features on an interactive map: move, zoom, filter by score and label, click for what is known.

    The map is one page that holds everything, imagery included. It asks nothing of the network; its own rules forbid
    it to. For more than 50,000 features it is a widget for Jupyter, drawn by the graphics card: that needs the extra
    `large`, polygons with a CRS, and the network, as lonboard's script fetches two libraries from a CDN.

    Args:
        features: With geometry, and label and score if there are; of a picture, in its pixels.
        scene: What they were found in, as the verbs take it; without one they are drawn on a plain ground.
        title: Over the list of labels.
        bands: As in `render`.
        stretch: As in `render`.
        time: Which time of the scene.
        height: Of the frame in Jupyter, in pixels.

    Returns:
        The map: shown by Jupyter, written to a file by `save`; for more than 50,000 features a widget.

    Raises:
        InputError: The features cannot be drawn, or do not lie where the scene does.
        MissingExtraError: There are more than 50,000 features, and lonboard is not installed.

    Examples:
        >>> import geopandas as gpd
        >>> from shapely import box
        >>> from remotesam_geo import explore
        >>> ships = gpd.GeoDataFrame({"label": ["ship"]}, geometry=[box(0, 0, 9, 9)], crs="EPSG:32633")
        >>> explore(ships, title="Harbour")
        Map(0.0 MB of HTML; show it in Jupyter, or .save('map.html'))
    """
    check_features(features, holes=True)
    instance_of("title", title, str, "text")
    number_in("height", height, 1, whole=True)
    ground = None if scene is None else backdrop(scene, bands, stretch, time, MOST_PIXELS)
    if len(features) > MOST_FEATURES:
        return gpu_map(features, ground, title=title, height=height)
    geobox = _plain_ground(features) if ground is None else ground.geobox
    data = {"title": title, **_map_extent(ground, geobox), **_drawn_features(features, geobox)}
    return Map(page=_html_page(title, data), height=height)


def _plain_ground(features: gpd.GeoDataFrame) -> GeoBox:
    """A grid over the features, of pixels that are square on the ground."""
    bounds = features.total_bounds
    left, low, right, high = bounds if np.isfinite(bounds).all() else (0.0, 0.0, 1.0, 1.0)
    squeeze = 1.0
    if features.crs is not None and features.crs.is_geographic:
        squeeze = max(0.05, math.cos(math.radians((low + high) / 2)))
    step = max((right - left) * squeeze, high - low, 1e-9) / SIDE
    down = 1 if features.crs is None else -1  # pixels of a picture count downwards
    affine = Affine(step / squeeze, 0, left, 0, down * step, low if down == 1 else high)
    shape = (
        max(1, math.ceil((high - low) / step)),
        max(1, math.ceil((right - left) * squeeze / step)),
    )
    crs = None if features.crs is None else features.crs.to_wkt()
    return GeoBox(shape, affine, crs)


def _map_extent(ground: Backdrop | None, geobox: GeoBox) -> dict[str, Any]:
    high, wide = geobox.shape.yx
    crs = geobox.crs
    step = math.hypot(geobox.affine.a, geobox.affine.d)
    return {
        "extent": [0, 0, wide, high],
        "size": [wide, high],
        "image": None if ground is None else as_url(ground.rgb),
        "affine": list(geobox.affine[:6]),
        "metres": None if crs is None else pixel_size(geobox).metres,
        "decimals": int(np.clip(math.ceil(-math.log10(step)) + 1, 0, 9)),
        "crs": "px" if crs is None else f"EPSG:{crs.epsg}" if crs.epsg else "",
    }


def _drawn_features(features: gpd.GeoDataFrame, geobox: GeoBox) -> dict[str, Any]:
    shapes = on_pixels(features, geobox)
    columns = [name for name in features.columns if name != features.geometry.name]
    codes, labels = labels_of(features)
    texts = [[_map_page_text(value) for value in features[name].tolist()] for name in columns]
    score = None
    if "score" in features:
        score = [None if pd.isna(one) else float(one) for one in features["score"]]
    kinds = set(shapely.get_dimensions(shapes).tolist())
    return {
        "rings": [_flat_rings(shape) for shape in shapes],
        "open": bool(kinds) and max(kinds) == 1,
        "label": codes,
        "labels": labels,
        "colours": colours(len(labels)),
        "score": score,
        "columns": [str(name) for name in columns],
        "rows": [list(row) for row in zip(*texts, strict=True)] if columns else [[]] * len(features),
    }


def _flat_rings(shape: shapely.Geometry | None) -> list[list[float]]:
    """Flat x, y of each ring of all parts, to a hundredth of a pixel."""
    if shape is None:
        return []
    parts = shapely.get_parts([shape])
    rings = [
        ring for part in parts for ring in ([part.exterior, *part.interiors] if part.geom_type == "Polygon" else [part])
    ]
    return [np.round(shapely.get_coordinates(ring).ravel(), 2).tolist() for ring in rings]


def _map_page_text(value: Any) -> str:
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return ""
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return str(value)


def _html_page(title: str, data: dict[str, Any]) -> str:
    """The page, with its data as text that no parser takes for markup, and no script allowed but its own."""
    folder = resources.files(__package__)
    script = folder.joinpath("viewer.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = json.dumps(data, allow_nan=False)  # ASCII: line separators are escaped too
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    page = folder.joinpath("viewer.html").read_text("utf-8")
    parts = {
        "hash": f"sha256-{digest}",
        "script": script,
        "title": html.escape(title),
        "data": text,
    }
    for name, part in parts.items():
        page = page.replace(f"<!--{name}-->", part)
    return page
