"""Thresholds by evidence: from a few polygons, the one for each prompt that fits them best."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio.features
import shapely
import xarray as xr
from numpy.typing import NDArray
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from remotesam_geo.errors import InputError, number_in
from remotesam_geo.geo.box import Box
from remotesam_geo.geo.ground import Resolution, check_resolution
from remotesam_geo.mapping.executor import BlockMap, Work, run
from remotesam_geo.mapping.grid import Grid
from remotesam_geo.mapping.source import scene_source
from remotesam_geo.words import CLASS_TEMPLATE, PromptLike, distinct_expressions, parse_prompts

from .metrics import ChanceCounts, chance_counts
from .metrics.curves import Point

__all__ = ["Calibration", "calibrate"]

MARGIN = 0.25  # of the sides of the box round the truth, within which all else is taken to be something else


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration(Mapping[str, float]):
    """A threshold for each label, as verbs take them: ``model.detect(scene, ..., threshold=calibration)``.

    Attributes:
        points: For each label the chosen threshold with its precision, recall, F1 and IoU, over pixels.
        chances: For each label the pixels by probability and truth, from which any other choice follows.
    """

    points: Mapping[str, Point]
    chances: Mapping[str, ChanceCounts]

    def __getitem__(self, label: str) -> float:
        return self.points[label].threshold

    def __iter__(self) -> Iterator[str]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    def table(self) -> str:
        """The thresholds in Markdown, beside what the default would give."""
        lines = [
            "| label | threshold | precision | recall | IoU | IoU at 0.5 | calibration error |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for label, point in self.points.items():
            counts = self.chances[label]
            lines.append(
                f"| {label} | {point.threshold:.3f} | {point.precision:.3f} | {point.recall:.3f} | {point.iou:.3f} "
                f"| {counts.point(100).iou:.3f} | {counts.calibration_error():.3f} |"
            )
        return "\n".join(lines) + "\n"


def calibrate(
    model: Any,
    scene: xr.Dataset | xr.DataArray,
    truth: gpd.GeoDataFrame,
    *,
    label: str = "label",
    prompts: PromptLike | None = None,
    geometry: BaseGeometry | gpd.GeoDataFrame | None = None,
    resolution: Resolution = "native",
    overlap: float = 0.25,
    bands: str | Sequence[str | int] | None = None,
    stretch: Any = None,
) -> Calibration:
    """Choose thresholds by a few polygons.

    Only the windows that see the area are asked. Within the area everything of the classes must be drawn: what is
    not in a polygon counts as something else. For each label the threshold of the largest IoU of pixels is taken.

    Args:
        model: A `RemoteSAM`, or its model.
        scene: As `render` takes it, of one time.
        truth: Polygons in any CRS.
        label: Their column of labels.
        prompts: What is asked, with these labels; by default the labels as class names.
        geometry: Where the truth is complete, in the CRS of the truth (a geometry) or its own (a frame); by default the
            box round all polygons and a quarter of its sides more.
        resolution: Metres on the ground a pixel, or "native"; ask later at the same.
        overlap: Share of a window that neighbours have in common, as in verbs.
        bands: As in `render`.
        stretch: As in `render`.

    Raises:
        InputError: Nothing to calibrate by: no CRS, no polygon of a label on valid pixels, no such label.
        ReadError: Pixels could not be read.
    """
    check_resolution(resolution)
    number_in("overlap", overlap, 0, 0.5)
    asked = getattr(model, "model", model)
    if truth.crs is None or label not in truth.columns or not len(truth):
        raise InputError(
            f"the truth has {len(truth)} polygons, the CRS {truth.crs} and the columns "
            f"{[str(c) for c in truth.columns]}: give polygons with a CRS and a column {label!r}"
        )
    labels = [str(value) for value in truth[label]]
    parsed = parse_prompts(list(dict.fromkeys(labels)) if prompts is None else prompts, template=CLASS_TEMPLATE)
    if missing := [prompt.label for prompt in parsed if prompt.label not in labels]:
        raise InputError(f"no polygon is labelled {missing[0]!r}: there are {sorted(set(labels))}")
    source = scene_source(scene, bands=bands, stretch=stretch, resolution=resolution)
    if len(source.dates) > 1:
        raise InputError(f"the scene has {len(source.dates)} times: select one, scene.isel(time=0)")
    crs = CRS.from_user_input(str(source.geobox.crs))
    polygons = truth.geometry.to_crs(crs)
    judged = _judged_area(geometry, truth, crs)
    size = asked.image_size
    grid = Grid(shape=source.geobox.shape.yx, window=size, overlap=2 * round(overlap * size / 2))
    expressions, members = distinct_expressions(parsed)
    pixels = _pixel_box(judged, source.geobox, grid.shape)
    tiles = np.array([tile.index for tile in grid if tile.core.common(pixels) is not None], np.int64)
    work = Work(source=source, grid=grid, expressions=expressions, window_numbers=tiles)
    counts = {prompt.label: ChanceCounts.none() for prompt in parsed}

    def count(answer: BlockMap) -> dict[str, ChanceCounts]:
        box = answer.block.core
        inside = _calibration_truth([judged], source.geobox, box)
        found = {}
        for prompt, own in zip(parsed, members, strict=True):
            # Codes 254 and 255 mark what was not answered: the largest of several keeps the mark.
            codes = answer.codes[list(own)].max(axis=0)
            shapes = [p for p, name in zip(polygons, labels, strict=True) if name == prompt.label]
            found[prompt.label] = chance_counts(codes, _calibration_truth(shapes, source.geobox, box), inside)
        return found

    for part in run(work, asked.predict, count, readers=1):
        counts = {name: own + part[name] for name, own in counts.items()}
    for name, own in counts.items():
        if not own.true.any():
            raise InputError(f"the polygons of {name!r} cover no valid pixel of the scene: check their CRS and place")
    return Calibration(points={n: own.best() for n, own in counts.items()}, chances=counts)


def _judged_area(area: BaseGeometry | gpd.GeoDataFrame | None, truth: gpd.GeoDataFrame, crs: CRS) -> BaseGeometry:
    """Where the truth is complete, in the CRS of the pixels."""
    if isinstance(area, gpd.GeoDataFrame):
        if area.crs is None:
            raise InputError("the area has no CRS: say which with area.set_crs(...)")
        return area.geometry.to_crs(crs).union_all()
    if area is not None:
        return gpd.GeoSeries([area], crs=truth.crs).to_crs(crs).iloc[0]
    west, south, east, north = truth.geometry.to_crs(crs).total_bounds
    wide, tall = MARGIN * (east - west), MARGIN * (north - south)
    return shapely.box(west - wide, south - tall, east + wide, north + tall)


def _pixel_box(area: BaseGeometry, geobox: Any, shape: tuple[int, int]) -> Box:
    """The pixels round an area.

    Raises:
        InputError: It lies beside the scene.
    """
    west, south, east, north = area.bounds
    back = ~geobox.affine
    ends = [(west, south), (east, north), (west, north), (east, south)]
    corners = np.array([back * end for end in ends])
    left, top = np.floor(corners.min(axis=0)).astype(int)
    right, bottom = np.ceil(corners.max(axis=0)).astype(int)
    found = Box(top=int(top), left=int(left), bottom=int(bottom), right=int(right)).common(
        Box(top=0, left=0, bottom=shape[0], right=shape[1])
    )
    if found is None:
        raise InputError("the truth lies beside the scene: check its CRS and place")
    return found


def _calibration_truth(shapes: Sequence[BaseGeometry], geobox: Any, box: Box) -> NDArray[np.bool_]:
    part = geobox[box.top : box.bottom, box.left : box.right]
    if not shapes:
        return np.zeros(box.shape, np.bool_)
    return np.asarray(
        rasterio.features.rasterize(shapes, out_shape=box.shape, transform=part.affine, dtype="uint8"),
        np.bool_,
    )
