"""What a job tells of itself: what it would take, how far it is, what failed, and its answers."""

import json
import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pyproj import CRS

from remotesam_geo.errors import InputError, RemoteSAMWarning
from remotesam_geo.geo.ground import ground_area
from remotesam_geo.geo.pixel_shapes import out_of_grid
from remotesam_geo.mapping.collect import (
    gather,
    warn_of_cuts,
    warn_of_giants,
    warn_of_nothing,
)
from remotesam_geo.mapping.feature_options import FeatureOptions
from remotesam_geo.mapping.feature_table import Found, to_frame
from remotesam_geo.mapping.grid import Grid
from remotesam_geo.mapping.run_notes import note_of_prompts, note_of_run
from remotesam_geo.mapping.stitch import cut_window
from remotesam_geo.predictors.protocol import Predict
from remotesam_geo.remotesam.question import ceil_pixels
from remotesam_geo.tasks import Dropped

from .display import plan_card
from .outline_stage import pieces
from .plan import Plan, PlanGroup
from .storage.ledger import MOST_ATTEMPTS
from .storage.stored_layers import Records, layers

__all__ = ["Estimate", "estimate", "failed_windows", "joined", "state_of", "warn_of_failures"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimate:
    """What a run would take.

    Attributes:
        windows: Windows to predict, over all times.
        predictions: Pairs of window and expression.
        pixels: Pixels to read, overlaps once.
        kept_bytes: Most bytes that the maps may take; less by far where little is found.
        seconds: For reading and predicting all of it in this process, one after the other where they do not overlap.
            None where it was not measured.
        footprints: The cores of the windows, in the scene's CRS.
    """

    windows: int
    predictions: int
    pixels: int
    kept_bytes: int
    seconds: float | None
    footprints: gpd.GeoDataFrame

    def __repr__(self) -> str:
        about = "" if self.seconds is None else f", about {_reported_duration(self.seconds)}"
        return (
            f"{self.windows:,} windows, {self.predictions:,} predictions, {self.pixels / 1e6:,.1f} million pixels to "
            f"read, at most {self.kept_bytes / 1e6:,.1f} MB to keep{about}"
        )

    def _repr_html_(self) -> str:
        told = [
            ("windows", f"{self.windows:,}"),
            ("predictions", f"{self.predictions:,} of a window for one expression"),
            ("to read", f"{self.pixels / 1e6:,.1f} million pixels"),
            ("to keep", f"at most {self.kept_bytes / 1e6:,.1f} MB"),
            (
                "time",
                "not measured" if self.seconds is None else f"about {_reported_duration(self.seconds)}",
            ),
        ]
        return plan_card(told, self.footprints)


def estimate(plan: Plan, every: Sequence[PlanGroup], predict: Predict | None) -> Estimate:
    """Add up what a plan takes; with a predictor, time one batch of each group."""
    windows = predictions = pixels = kept = 0
    seconds = 0.0
    tables = []
    for group in every:
        times = len(group.source.dates)
        windows += group.size
        predictions += group.size * len(group.expressions)
        own = times * sum(math.prod(group.grid.block_at(block).core.shape) for block in group.blocks)
        pixels += own
        if plan.keep_probabilities:
            kept += own * len(group.expressions)
        if predict is not None:
            seconds += _seconds_a_window(group, predict) * group.size
        tables.append(_window_footprints(group, plan.origin.geobox.crs))
    return Estimate(
        windows=windows,
        predictions=predictions,
        pixels=pixels,
        kept_bytes=kept,
        seconds=None if predict is None else seconds,
        footprints=gpd.GeoDataFrame(pd.concat(tables, ignore_index=True)),
    )


def state_of(records: Records, every: Sequence[PlanGroup]) -> pd.DataFrame:
    """A row per label: how many of its predictions are done, empty, failed, given up or waiting."""
    rows: dict[str, dict[str, int]] = {}
    for group in every:
        total = group.size
        counts = [records.ledger.counts(layer.key) for layer in layers(records.plan, group)]
        for index, (prompt, members) in enumerate(zip(group.prompts, group.members, strict=True)):
            own = [counts[each] for each in _layers_of_prompt(records.plan, group, index, members)]
            row = {name: sum(each[name] for each in own) for name in own[0]}
            rows[prompt.label] = {
                "total": total * len(own),
                **row,
                "waiting": total * len(own) - sum(row.values()),
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("label")


def _layers_of_prompt(plan: Plan, group: PlanGroup, index: int, members: Sequence[int]) -> Sequence[int]:
    """Which layers answer for the prompt of that index."""
    if not plan.keep_probabilities:
        return [index]
    return members if group.contours is None else [*members, group.contours]


def failed_windows(records: Records, every: Sequence[PlanGroup]) -> gpd.GeoDataFrame:
    """A row per window and time that failed."""
    rows: dict[tuple[int, int, int], dict[str, Any]] = {}
    crs = records.plan.origin.geobox.crs
    for number, group in enumerate(every):
        kept = layers(records.plan, group)
        for index, (prompt, members) in enumerate(zip(group.prompts, group.members, strict=True)):
            for layer in (kept[each] for each in _layers_of_prompt(records.plan, group, index, members)):
                for date, block, miss in records.ledger.misses(layer.key):
                    row = rows.setdefault((number, date, miss.window), {"label": {}})
                    row["label"][prompt.label] = None
                    row |= {
                        "time": group.source.dates[date].time,
                        "items": group.source.dates[date].items,
                        "resolution": str(group.resolution),
                        "window": miss.window,
                        "block": block,
                        "state": "given_up" if miss.attempts >= MOST_ATTEMPTS else "failed",
                        "attempts": miss.attempts,
                        "cause": miss.cause,
                        "geometry": _core_boxes_of_report(group.grid, [miss.window])[0],
                        "group": number,
                    }
    columns = {
        "label": "str",
        "time": "datetime64[ns]",
        "items": "str",
        "resolution": "str",
        "window": "int64",
        "block": "int64",
        "state": "str",
        "attempts": "int64",
        "cause": "str",
    }
    table = pd.DataFrame(
        [row | {"label": ", ".join(row["label"])} for row in rows.values()],
        columns=[*columns, "geometry", "group"],
    ).astype(columns)
    parts = [_pixels_to_crs(table[table["group"] == number], group, crs) for number, group in enumerate(every)]
    return gpd.GeoDataFrame(pd.concat(parts, ignore_index=True)).drop(columns="group")


def warn_of_failures(missing: gpd.GeoDataFrame) -> None:
    """Say what ground has no answer."""
    if len(missing):
        warnings.warn(
            f"{len(missing):,} windows failed, {_windows_area(missing):,.0f} m2 of ground without an answer: "
            f"failures() lists them; the first: {missing['cause'].iloc[0]}",
            RemoteSAMWarning,
            stacklevel=3,
        )


def _windows_area(windows: gpd.GeoDataFrame) -> float:
    crs = windows.crs
    if crs is None:
        raise InputError("windows without a CRS have no area")
    return float(ground_area(windows.geometry.to_numpy(), CRS(crs)).sum())


def joined(
    records: Records,
    every: Sequence[PlanGroup],
    options: FeatureOptions,
    *,
    labels: Sequence[str],
    min_area: float,
    crs: CRS,
    details: bool = False,
    partial: bool = False,
) -> gpd.GeoDataFrame:
    """The features of all that was outlined, in the order of the labels."""
    plan, tables, notes = records.plan, [], []
    left_cut: list[int] = []
    for group in every:
        wanted = replace(options, min_area=ceil_pixels(min_area, group.source.geobox))
        found: list[Found] = []
        dropped: dict[str, Dropped] = {}
        for prompt in group.prompts:
            blocks = pieces(records, group, prompt, options.drawn, partial=partial)
            own = gather(blocks, group.grid, group.source.dates, [prompt], wanted)
            found += own.found
            dropped |= own.dropped
            left_cut += own.left_cut
            warn_of_nothing([prompt], [own], wanted)
        if options.outline != "polygon":
            warn_of_giants(found, group.grid, group.source.geobox)
        tables.append(
            to_frame(
                found,
                group.source.geobox,
                crs=crs,
                options=options,
                view="map",
                run_id=plan.digest,
                details=details,
            )
        )
        note = note_of_prompts(group.prompts, group.grid, group.source.geobox, seam=group.seam)
        notes.append(note | {"dropped": {label: asdict(count) for label, count in dropped.items()}})
    warn_of_cuts(left_cut)
    order = {label: index for index, label in enumerate(labels)}
    table = pd.concat(tables, ignore_index=True).sort_values(
        "label", key=lambda column: column.map(order), kind="stable", ignore_index=True
    )
    table.attrs["remotesam"] = json.dumps(note_of_run(plan.weights.identity, notes, plan.digest))
    return gpd.GeoDataFrame(table)


def _seconds_a_window(group: PlanGroup, predict: Predict) -> float:
    """Seconds for the window in the middle: reading or predicting, whichever takes longer."""
    windows = range(len(group.grid)) if group.window_numbers is None else group.window_numbers
    window = group.grid.window_at(int(windows[len(windows) // 2]))
    box = window.box.common(group.grid.raster) or group.grid.raster
    begin = time.perf_counter()
    rgb, valid = group.source.read(box, 0)
    read = time.perf_counter()
    predict(cut_window(rgb, valid, box, window.box)[0][None], group.expressions)
    return max(read - begin, time.perf_counter() - read)


def _window_footprints(group: PlanGroup, crs: Any) -> gpd.GeoDataFrame:
    windows = np.arange(len(group.grid)) if group.window_numbers is None else group.window_numbers
    row, col = np.divmod(windows, group.grid.windows[1])
    across, side = group.grid.blocks[1], group.grid.block
    table = pd.DataFrame(
        {
            "window": windows,
            "block": row // side * across + col // side,
            "resolution": str(group.resolution),
            "geometry": _core_boxes_of_report(group.grid, windows),
        }
    )
    return _pixels_to_crs(table, group, crs)


def _core_boxes_of_report(grid: Grid, windows: Sequence[int] | np.ndarray[Any, Any]) -> Any:
    cores = [grid.window_at(int(index)).core for index in windows]
    sides = np.array([[core.left, core.top, core.right, core.bottom] for core in cores], float)
    return shapely.box(*sides.T) if cores else np.zeros(0, object)


def _pixels_to_crs(table: pd.DataFrame, group: PlanGroup, crs: Any) -> gpd.GeoDataFrame:
    """Pixels of a group's grid as places in the scene's CRS."""
    target = CRS.from_user_input(str(crs))
    shapes = np.empty(len(table), object)
    shapes[:] = list(table["geometry"])
    carried = out_of_grid(shapes, group.source.geobox, target)
    if not carried.some.all():
        warnings.warn(
            f"{(~carried.some).sum()} windows lie where the scene's CRS is not defined, and are not listed",
            RemoteSAMWarning,
            stacklevel=2,
        )
    return gpd.GeoDataFrame(table.drop(columns="geometry"), geometry=carried.placed, crs=target)[carried.some]


def _reported_duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
