"""Pictures of what was found: the scene, and the features over it."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from remotesam_geo.errors import InputError, MissingExtraError
from remotesam_geo.mapping.grid import Box
from remotesam_geo.mapping.ground import pixel_size
from remotesam_geo.mapping.source import scene_source

if TYPE_CHECKING:
    import geopandas as gpd
    from matplotlib.axes import Axes

__all__ = ["plot"]

# Told apart by people with any colour vision, and from vegetation, soil and water.
COLOURS = ("#ffd92f", "#e7298a", "#1fd2ff", "#ff7f0e", "#b15dff", "#ffffff", "#e31a1c", "#7fff5c")
MOST_PIXELS = 1200


def plot(
    scene: xr.Dataset | xr.DataArray,
    features: "gpd.GeoDataFrame",
    *,
    title: str = "",
    scores: bool = False,
    bands: str | Sequence[str | int] | None = None,
    stretch: Any = None,
    time: int = 0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw features over their scene, with legend, scale bar and north arrow.

    Args:
        scene: As `render` takes it; large ones are averaged to what a picture can show.
        features: With geometry and label, in any CRS.
        title: Over the picture.
        scores: Whether to write each feature's score beside it.
        bands: As in `render`.
        stretch: As in `render`.
        time: Which time of the scene.
        ax: Where to draw; a figure of its own by default.

    Returns:
        The axes that were drawn on.

    Example:
        >>> planes = model.detect(scene, "airplane")                                # doctest: +SKIP
        >>> plot(scene, planes, scores=True).figure.savefig("planes.png")           # doctest: +SKIP
    """
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415 - an extra
        from matplotlib.patches import Patch  # noqa: PLC0415
    except ImportError:
        raise MissingExtraError(
            "pictures need matplotlib: pip install 'remotesam-geo[plot]'"
        ) from None
    geobox, rgb = _picture(scene, bands, stretch, time)
    if ax is None:
        height, width = geobox.shape.yx
        size = 8 / max(height, width)
        _, ax = plt.subplots(figsize=(max(3, width * size), max(3, height * size)), layout="tight")
    shown = features.to_crs(str(geobox.crs))
    shown = shown.set_geometry(shown.geometry.affine_transform(_to_pixels(geobox)))
    ax.imshow(rgb, extent=(0, rgb.shape[1], rgb.shape[0], 0), interpolation="nearest")
    labels = list(dict.fromkeys(shown["label"]))
    line = 2.0 if len(shown) < 100 else 1.2 if len(shown) < 1000 else 0.6
    for index, label in enumerate(labels):
        colour = COLOURS[index % len(COLOURS)]
        some = shown[shown["label"] == label]
        some.plot(ax=ax, facecolor=(*_rgb(colour), 0.15), edgecolor=colour, linewidth=line)
        if scores:
            for geometry, score in zip(some.geometry, some["score"], strict=True):
                left, top = geometry.bounds[:2]
                ax.text(left, top, f"{score:.2f}", color=colour, size=7, va="bottom")
    if labels:
        counts = shown["label"].value_counts()
        ax.legend(
            handles=[
                Patch(
                    facecolor="none",
                    edgecolor=COLOURS[index % len(COLOURS)],
                    linewidth=2,
                    label=f"{label} ({counts[label]})",
                )
                for index, label in enumerate(labels)
            ],
            loc="upper left",
            facecolor="#333333",
            labelcolor="white",
            framealpha=0.8,
        )
    _scale_bar(ax, geobox)
    _north_arrow(ax, geobox)
    ax.set(
        title=title, xlabel="", ylabel="", xlim=(0, rgb.shape[1]), ylim=(rgb.shape[0], 0), xticks=[], yticks=[],
        aspect="equal",
    )  # fmt: skip
    return ax


def _picture(
    scene: xr.Dataset | xr.DataArray,
    bands: str | Sequence[str | int] | None,
    stretch: Any,
    time: int,
) -> tuple[GeoBox, np.ndarray[Any, Any]]:
    source = scene_source(scene, bands=bands, stretch=stretch)
    if not -len(source.moments) <= time < len(source.moments):
        raise InputError(f"time is {time}: the scene has {len(source.moments)} time(s)")
    factor = max(source.geobox.shape.yx) / MOST_PIXELS
    if factor > 1:
        coarser = pixel_size(source.geobox).metres * factor
        source = scene_source(scene, bands=bands, stretch=stretch, resolution=coarser)
    geobox = source.geobox
    rgb, valid = source.read(_whole(geobox), time % len(source.moments))
    return geobox, np.where(valid[..., None], rgb, np.uint8(128))


def _whole(geobox: GeoBox) -> Box:
    height, width = geobox.shape.yx
    return Box(top=0, left=0, bottom=height, right=width)


def _to_pixels(geobox: GeoBox) -> list[float]:
    """From the grid's coordinates to its pixels, as shapely takes an affine map."""
    a, b, c, d, e, f = (~geobox.affine)[:6]
    return [a, b, d, e, c, f]


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))


def _scale_bar(ax: "Axes", geobox: GeoBox) -> None:
    """A round length of about a fifth of the picture's width."""
    height, width = geobox.shape.yx
    metres = pixel_size(geobox).metres
    power = 10.0 ** math.floor(math.log10(width * metres / 5))
    length = max(step * power for step in (1, 2, 5) if step * power <= width * metres / 5)
    pixels, left, low = length / metres, width * 0.04, height * 0.95
    for colour, line in (("black", 5), ("white", 3)):
        ax.plot([left, left + pixels], [low, low], color=colour, lw=line, solid_capstyle="butt")
    ax.text(
        left + pixels / 2, low - height * 0.012, f"{length:,.0f} m" if length < 5000 else f"{length / 1000:,.0f} km",
        color="white", ha="center", va="bottom", size=9,
        path_effects=_halo(),
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
        arrowprops={"arrowstyle": "-|>", "color": "white", "lw": 2}, path_effects=_halo(),
    )  # fmt: skip


def _halo() -> list[Any]:
    from matplotlib.patheffects import withStroke  # noqa: PLC0415 - an extra

    return [withStroke(linewidth=2.5, foreground="black")]
