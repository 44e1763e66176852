"""An interactive map of very many features, drawn by the graphics card: lonboard, in Jupyter."""

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
from odc.geo.geobox import GeoBox
from shapely import MultiPoint

from remotesam_geo.errors import InputError, MissingExtraError

from .backdrop import Backdrop, as_url, colours, labels_of

if TYPE_CHECKING:
    from ipywidgets import Widget

__all__ = ["gpu_map"]

MOST_LABELS = 64
"""Each is a layer of its own."""
FILLED = 90  # of 255: how much a feature hides of what lies below


def gpu_map(features: gpd.GeoDataFrame, ground: Backdrop | None, *, title: str, height: int) -> "Widget":
    """A map of hundreds of thousands of polygons, with a range of scores and a switch for each label.

    Args:
        features: Polygons with a CRS, with label and score if there are.
        ground: The picture below them, if any.
        title: Over the map.
        height: Of the map, in pixels.

    Raises:
        InputError: They have no CRS, too many labels, or are no polygons.
        MissingExtraError: lonboard is not installed.
    """
    lonboard, widgets = _lonboard_and_widgets(len(features))
    if features.crs is None:
        raise InputError(
            f"{len(features):,} features of a picture are more than a page can hold: explore some, such as "
            "features.nlargest(10_000, 'score')"
        )
    shown = features[features.geometry.notna() & ~features.geometry.is_empty]
    codes, labels = labels_of(shown)
    if len(labels) > MOST_LABELS:
        raise InputError(
            f"{len(labels)} labels are more than the {MOST_LABELS} that a map has layers for: show some of them, "
            "features[features['label'].isin([...])]"
        )
    layers = [
        _polygon_layer(lonboard, shown[np.asarray(codes) == code], colour)
        for code, colour in enumerate(colours(len(labels)))
    ]
    picture = [] if ground is None else [_imagery_layer(lonboard, ground)]
    chart = lonboard.Map([*picture, *layers], basemap=None, height=height)
    heading = [widgets.Label(title)] if title else []
    return widgets.VBox([*heading, chart, *_score_and_label_switches(widgets, dict(zip(labels, layers, strict=True)))])


def _lonboard_and_widgets(count: int) -> tuple[ModuleType, ModuleType]:
    try:
        import ipywidgets  # noqa: PLC0415 - an extra
        import lonboard  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(
            f"a map of {count:,} features needs lonboard: pip install 'remotesam-geo[large]'. Or explore some of them, "
            "such as features.nlargest(10_000, 'score') or features.cx[west:east, south:north]"
        ) from error
    return lonboard, ipywidgets


def _imagery_layer(lonboard: ModuleType, ground: Backdrop) -> Any:
    if ground.geobox.crs is None:
        raise InputError(
            "the features have a CRS and the scene is a picture without: give the scene that they were found in"
        )
    return lonboard.BitmapLayer(image=as_url(ground.rgb), bounds=_lonlat_corners(ground.geobox), pickable=False)


def _polygon_layer(lonboard: ModuleType, features: gpd.GeoDataFrame, colour: str) -> Any:
    from lonboard.layer_extension import DataFilterExtension  # noqa: PLC0415 - an extra

    kinds = features.geom_type.isin(["Polygon", "MultiPolygon"])
    if not kinds.all():
        raise InputError(
            f"{int((~kinds).sum())} features are no polygons, but for example {features.geom_type[~kinds].iloc[0]}: "
            "show those with lonboard itself"
        )
    rgb = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return lonboard.PolygonLayer.from_geopandas(
        features.to_crs("EPSG:4326"),
        auto_downcast=False,  # it would ask pandas in a way that newer ones warn of
        get_fill_color=[*rgb, FILLED],
        get_line_color=rgb,
        line_width_min_pixels=1,
        auto_highlight=True,
        extensions=[DataFilterExtension(filter_size=1)],
        get_filter_value=_map_scores_or_one(features),
        filter_range=[0.0, 1.0],
    )


def _map_scores_or_one(features: gpd.GeoDataFrame) -> Any:
    """From 0 to 1; what has no score is shown at any threshold."""
    if "score" not in features:
        return np.ones(len(features), np.float32)
    return pd.to_numeric(features["score"]).fillna(1.0).to_numpy(np.float32)


def _score_and_label_switches(widgets: ModuleType, layers: Mapping[str, Any]) -> list["Widget"]:
    """A range of scores, and a switch for each label beside its colour; they need no kernel."""
    scores = widgets.FloatRangeSlider(
        value=(0.0, 1.0), min=0.0, max=1.0, step=0.01, description="score", readout_format=".2f"
    )
    rows = []
    for (label, layer), colour in zip(layers.items(), colours(len(layers)), strict=True):
        widgets.jslink((scores, "value"), (layer, "filter_range"))
        switch = widgets.Checkbox(value=True, description=f"{label} ({len(layer.table):,})", indent=False)
        widgets.jslink((switch, "value"), (layer, "visible"))
        style = f"display: inline-block; width: 1em; height: 1em; background: {colour}"
        swatch = widgets.HTML(f'<span style="{style}"></span>')
        rows.append(widgets.HBox([swatch, switch], layout=widgets.Layout(flex="0 0 auto")))
    return [scores, widgets.VBox(rows, layout=widgets.Layout(max_height="220px", overflow="auto"))]


def _lonlat_corners(geobox: GeoBox) -> list[list[float]]:
    """Longitude and latitude of the corners of a grid, in lonboard's order: as its picture is turned."""
    high, wide = geobox.shape.yx
    corners = gpd.GeoSeries(
        [MultiPoint([geobox.affine * xy for xy in ((0, high), (0, 0), (wide, 0), (wide, high))])],
        crs=str(geobox.crs),
    )
    (points,) = corners.to_crs("EPSG:4326")
    return [[point.x, point.y] for point in points.geoms]
