"""Pictures of what was found: the scene, and the features over it."""

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from remotesam_geo.errors import MissingExtraError, RemoteSAMWarning, instance_of, one_of
from remotesam_geo.remotesam.scene_kinds import SceneLike

from .backdrop import backdrop, check_features, colours, labels_of, on_pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["add_outlines", "as_words", "plot", "pyplot"]

MOST_PIXELS = 1200
MOST_SCORES = 300
"""More numbers cover the picture."""
LONGEST = 60
"""Letters of a label in the legend."""
TINY = 3.0
"""Pixels: what is smaller has no shape to see, and is marked by a dot."""


def plot(
    features: gpd.GeoDataFrame,
    scene: SceneLike,
    *,
    title: str = "",
    scores: bool = False,
    bands: str | Sequence[str | int] | None = None,
    stretch: Any = None,
    time: int = 0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw features over their scene or picture, with legend, scale bar and north arrow.

    Args:
        features: With geometry and label: in any CRS, or in the pixels of the picture they were found in.
        scene: As the verbs take it; large ones are averaged to what a picture can show.
        title: Over the picture.
        scores: Whether to write each feature's score beside it; of many, those of the largest features.
        bands: As in `render`.
        stretch: As in `render`.
        time: Which time of the scene.
        ax: Where to draw; a figure of its own by default.

    Returns:
        The axes that were drawn on.

    Raises:
        InputError: The features do not lie where the scene does, or there is no such time.

    Examples:
        >>> planes = model.detect(scene, "airplane")                                # doctest: +SKIP
        >>> plot(planes, scene, scores=True).figure.savefig("planes.png")           # doctest: +SKIP
    """
    check_features(features)
    instance_of("title", title, str, "text")
    one_of("scores", scores, (True, False))
    plt = pyplot()
    if ax is not None:
        instance_of("ax", ax, plt.Axes, "the axes of a figure of matplotlib")
    ground = backdrop(scene, bands, stretch, time, MOST_PIXELS)
    shapes = on_pixels(features, ground.geobox)
    height, width = ground.rgb.shape[:2]
    if ax is None:
        size = 8 / max(height, width)
        _, ax = plt.subplots(figsize=(max(3, width * size), max(3, height * size)), layout="tight")
    ax.imshow(ground.rgb, extent=(0, width, height, 0), interpolation="nearest")
    codes, labels = labels_of(features)
    features = features.assign(label=[labels[code] for code in codes])
    line = float(np.interp(math.log10(max(len(features), 1)), [1.5, 3, 4], [2.0, 1.2, 0.6]))
    colour = dict(zip(labels, colours(len(labels)), strict=True))
    for label in labels:
        add_outlines(ax, shapes[(features["label"] == label).to_numpy()], colour[label], line)
    if scores:
        _write_scores(ax, features, shapes, colour)
    if labels:
        counts = features["label"].value_counts()
        _add_legend(ax, {f"{label} ({counts[label]:,})": colour[label] for label in labels})
    if ground.metres is not None:
        _scale_bar(ax, ground.geobox, ground.metres)
        _north_arrow(ax, ground.geobox)
    ax.set(
        xlabel="", ylabel="", xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal"
    )  # fmt: skip
    ax.set_title(title, parse_math=False)
    return ax


def pyplot() -> Any:
    """Matplotlib, which is an extra.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtraError("pictures need matplotlib: pip install 'remotesam-geo[plot]'") from None
    return plt


def add_outlines(ax: "Axes", shapes: NDArray[np.object_], colour: str, line: float) -> None:
    """Draw shapes in pixels: outlines with a breath of colour inside, dots for what is too small to have a shape."""
    bounds = shapely.bounds(shapes)
    tiny = (bounds[:, 2:] - bounds[:, :2]).max(axis=1, initial=0) < TINY
    if tiny.any():
        middle = (bounds[tiny, :2] + bounds[tiny, 2:]) / 2
        ax.scatter(middle[:, 0], middle[:, 1], s=6, color=colour, linewidths=0)
    if not tiny.all():
        # Not GeoSeries.plot, which draws the whole figure anew at each call.
        from matplotlib.collections import PathCollection  # noqa: PLC0415 - an extra

        paths = [_path_of_shape(shape) for shape in shapes[~tiny]]
        for face, edge, width in (
            ("none", (0, 0, 0, 0.5), line + 1),
            ((*_drawn_rgb_of_hex(colour), 0.15), colour, line),
        ):
            drawn = PathCollection(paths, facecolors=face, edgecolors=edge, linewidths=width)
            ax.add_collection(drawn, autolim=False)


def _path_of_shape(shape: shapely.Geometry) -> Any:
    """The outlines of all parts of a shape as one path."""
    from matplotlib.path import Path  # noqa: PLC0415 - an extra

    parts = shapely.get_parts([shape])
    rings = np.concatenate([shapely.get_rings([part]) if part.geom_type == "Polygon" else [part] for part in parts])
    outlines = [Path(shapely.get_coordinates(ring), closed=ring.geom_type == "LinearRing") for ring in rings]
    return Path.make_compound_path(*outlines)


def _write_scores(ax: "Axes", features: gpd.GeoDataFrame, shapes: NDArray[np.object_], colour: dict[Any, str]) -> None:
    bounds = shapely.bounds(shapes)
    size = (bounds[:, 2:] - bounds[:, :2]).max(axis=1, initial=0)
    written = np.sort(np.argsort(-size, kind="stable")[:MOST_SCORES])
    if len(written) < len(shapes):
        warnings.warn(
            f"of {len(shapes):,} scores those of the {MOST_SCORES} largest features are written: draw fewer features, "
            "or look at all of them with explore",
            RemoteSAMWarning,
            stacklevel=3,
        )
    for index in written:
        left, top = bounds[index, :2]
        row = features.iloc[index]
        ax.text(
            left, top, f"{row['score']:.2f}", color=colour[row["label"]], size=7, va="bottom", clip_on=True,
            path_effects=_drawn_text_halo(1.5),
        )  # fmt: skip


def _add_legend(ax: "Axes", entries: dict[str, str]) -> None:
    from matplotlib.patches import Patch  # noqa: PLC0415 - an extra

    legend = ax.legend(
        handles=[
            Patch(facecolor="none", edgecolor=colour, linewidth=2, label=as_words(text))
            for text, colour in entries.items()
        ],
        loc="upper left",
        ncols=1 + len(entries) // 20,
        facecolor="#333333",
        labelcolor="white",
        framealpha=0.8,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def as_words(text: str) -> str:
    """A label as one line of a legend: matplotlib leaves out what begins with an underscore."""
    line = " ".join(text.split())
    if len(line) > LONGEST:
        line = f"{line[: LONGEST * 2 // 3]} ... {line[-LONGEST // 4 :]}"  # the count at its end
    return f" {line}" if line.startswith("_") else line


def _drawn_rgb_of_hex(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))


def _scale_bar(ax: "Axes", geobox: GeoBox, metres: float) -> None:
    """A round length of about a fifth of the picture's width."""
    height, width = geobox.shape.yx
    power = 10.0 ** math.floor(math.log10(width * metres / 5))
    length = max(step * power for step in (1, 2, 5) if step * power <= width * metres / 5)
    pixels, left, low = length / metres, width * 0.04, height * 0.95
    for colour, line in (("black", 5), ("white", 3)):
        ax.plot([left, left + pixels], [low, low], color=colour, lw=line, solid_capstyle="butt")
    ax.text(
        left + pixels / 2, low - height * 0.012, f"{length:,.0f} m" if length < 5000 else f"{length / 1000:,.0f} km",
        color="white", ha="center", va="bottom", size=9,
        path_effects=_drawn_text_halo(),
    )  # fmt: skip


def _north_arrow(ax: "Axes", geobox: GeoBox) -> None:
    """Towards the grid's own north, which a rotated raster has elsewhere than above."""
    inverse = ~geobox.affine
    dx, dy = inverse.b, inverse.e
    length = 0.07 * max(geobox.shape.yx) / math.hypot(dx, dy)
    height, width = geobox.shape.yx
    x, y = width * 0.95, height * 0.08
    dx, dy = dx * length, dy * length
    ax.annotate(
        "N", xy=(x + dx / 2, y + dy / 2), xytext=(x - dx / 2, y - dy / 2), color="white", ha="center", va="center",
        arrowprops={"arrowstyle": "-|>", "color": "white", "lw": 2}, path_effects=_drawn_text_halo(),
    )  # fmt: skip


def _drawn_text_halo(line: float = 2.5) -> list[Any]:
    from matplotlib.patheffects import withStroke  # noqa: PLC0415 - an extra

    return [withStroke(linewidth=line, foreground="black")]
