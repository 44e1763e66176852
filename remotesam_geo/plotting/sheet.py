"""A contact sheet: the most and the least certain of what was found, each in a small picture of its own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from remotesam_geo.errors import InputError, number_in
from remotesam_geo.geo.box import Box
from remotesam_geo.mapping.source import PixelSource
from remotesam_geo.remotesam.scene_kinds import SceneLike

from .backdrop import GREY, check_features, colours, labels_of, on_pixels, source_of
from .drawing import add_outlines, as_words, pyplot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["contact_sheet"]

LEAST = 24
"""Pixels across the smallest picture: less shows nothing of the surroundings."""
MOST = 2000


def contact_sheet(
    features: gpd.GeoDataFrame,
    scene: SceneLike,
    *,
    each: int = 12,
    columns: int = 6,
    bands: str | Sequence[str | int] | None = None,
    stretch: Any = None,
) -> "Figure":
    """Show the most certain features and the least certain ones, each with what surrounds it.

    It answers two questions at a glance: is the best good, and where does it begin to fail?

    Args:
        features: With geometry, label and score; those of several times are looked up at their own.
        scene: What they were found in, as the verbs take it.
        each: How many of the most certain, and of the least certain; fewer features are shown once.
        columns: Pictures in a row.
        bands: As in `render`.
        stretch: As in `render`.

    Returns:
        The figure.

    Examples:
        >>> from remotesam_geo import contact_sheet                                 # doctest: +SKIP
        >>> contact_sheet(planes, scene).savefig("sheet.png")                       # doctest: +SKIP
    """
    check_features(features)
    number_in("each", each, 1, 1000, whole=True)
    number_in("columns", columns, 1, 100, whole=True)
    missing = {"label", "score"} - set(features.columns)
    if missing:
        raise InputError(f"features have no {' and no '.join(sorted(missing))}, by which they are sorted")
    plt = pyplot()
    codes, names = labels_of(features)
    named = features.assign(label=[names[code] for code in codes])
    ranked = named.sort_values("score", ascending=False, kind="stable", ignore_index=True)
    best = ranked.index[:each]
    worst = ranked.index[max(each, len(ranked) - each) :]
    blocks = [("most certain", best), ("least certain", worst)]
    rows = [max(1, -(-len(block) // columns)) for _, block in blocks if len(block)]
    figure: Figure = plt.figure(figsize=(1.7 * columns, 2.0 * max(1, sum(rows)) + 0.5), layout="constrained")
    if not len(ranked):
        figure.suptitle("nothing was found")
        return figure
    source, _ = source_of(scene, bands, stretch, 0)
    shapes = on_pixels(ranked, source.geobox)
    colour = dict(zip(names, colours(len(names)), strict=True))
    parts: Any = figure.subfigures(len(rows), 1, height_ratios=rows, squeeze=False).ravel()
    for part, (name, block), lines in zip(parts, blocks, rows, strict=False):
        part.suptitle(name, fontsize=10)
        axes = part.subplots(lines, columns, squeeze=False).ravel()
        for ax in axes:
            ax.set_axis_off()
        for ax, index in zip(axes, block, strict=False):
            row = ranked.loc[index]
            box = _square_around(shapes[index])
            ax.imshow(_pixels_of_chip(source, box, _date_of_row(source, row)))
            moved = shapely.transform(shapes[index], lambda xy, box=box: xy - [box.left + 0.5, box.top + 0.5])
            add_outlines(ax, np.array([moved], object), colour[row["label"]], 1.5)
            ax.set(xlim=(-0.5, box.shape[1] - 0.5), ylim=(box.shape[0] - 0.5, -0.5))
            said = as_words(f"{row['label']} {row['score']:.2f}")
            ax.set_title(said, fontsize=8, parse_math=False)
    return figure


def _square_around(shape: shapely.Geometry) -> Box:
    """A square round a shape, half as wide again."""
    left, top, right, bottom = shape.bounds
    side = int(np.clip(round(1.5 * max(right - left, bottom - top)), LEAST, MOST))
    x, y = round((left + right - side) / 2), round((top + bottom - side) / 2)
    return Box(top=y, left=x, bottom=y + side, right=x + side)


def _pixels_of_chip(source: PixelSource, box: Box, date: int) -> NDArray[np.uint8]:
    """The pixels of a box (h x w x 3), grey beyond the raster and where there are no data."""
    height, width = source.geobox.shape.yx
    inside = box.common(Box(top=0, left=0, bottom=height, right=width))
    chip = np.full((*box.shape, 3), GREY, np.uint8)
    if inside is None:
        return chip
    rgb, valid = source.read(inside, date)
    rows = slice(inside.top - box.top, inside.bottom - box.top)
    cols = slice(inside.left - box.left, inside.right - box.left)
    chip[rows, cols] = np.where(valid[..., None], rgb, np.uint8(GREY))
    return chip


def _date_of_row(source: PixelSource, row: "pd.Series[Any]") -> int:
    times = [date.time for date in source.dates]
    own = row.get("time")
    if own is None or pd.isna(own) or len(times) == 1:
        return 0
    return next((index for index, time in enumerate(times) if time == np.datetime64(own)), 0)
