"""The maps themselves, lazily: each window is predicted once, whatever the chunks, when their values are wanted."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from affine import Affine
from dask.base import compute, tokenize
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from remotesam_geo.errors import InputError
from remotesam_geo.geo.box import Box
from remotesam_geo.predictors.protocol import Codes, Predict
from remotesam_geo.tasks import NOT_ANSWERED, decode, encode, semantic
from remotesam_geo.words import Prompt

from .executor import WindowFailure, Work, windows
from .grid import Grid
from .maps import StoredMaps
from .source import PixelSource, SceneDate, check_apart, dates_of
from .stitch import joined, needed, stitch

__all__ = [
    "DAMAGED_NOTE",
    "as_probabilities",
    "class_array",
    "held_maps",
    "note_failures",
    "noted_questions",
    "probability_array",
]

BLOCK = 1024
"""Side of the blocks in which a finished map is worked on, in pixels."""
DAMAGED_NOTE = (
    "attrs['remotesam'] of these probabilities is damaged: remove it (del probabilities.attrs['remotesam']), or "
    "compute them again"
)
STEP = 0.005
ENCODING = {"dtype": "uint8", "scale_factor": STEP, "add_offset": -STEP / 2, "_FillValue": 255}
"""By which Zarr and COG store a probability as the byte that it was."""


def probability_array(
    work: Work,
    predict: Predict,
    prompts: Sequence[Prompt],
    members: Sequence[Sequence[int]],
    about: Mapping[str, Any],
) -> xr.DataArray:
    """Probabilities in 0..1 (time, prompt, y, x), NaN where there is no answer.

    Args:
        work: The scene, and the expressions to predict.
        predict: The model.
        prompts: The prompts; each map is the maximum over its expressions' maps.
        members: Which of the expressions belong to each prompt.
        about: How it was predicted, as plain JSON.
    """
    return as_probabilities(_prompt_maps(work, predict, members), work.source, prompts, about)


def as_probabilities(
    codes: "da.Array", source: PixelSource, prompts: Sequence[Prompt], about: Mapping[str, Any]
) -> xr.DataArray:
    """Codes as probabilities, with their place, times and labels.

    Args:
        codes: The map of each prompt (time, prompt, y, x).
        source: The grid and the times.
        prompts: The prompts.
        about: How it was predicted, as plain JSON.
    """
    labels = np.array([prompt.label for prompt in prompts], object)  # strings as Zarr knows them
    data = da.map_blocks(decode, codes, dtype=np.float32)  # type: ignore[no-untyped-call]
    array = _map_array(data, source, ("prompt",), {"prompt": labels})
    array.name = "probability"
    array.attrs["remotesam"] = json.dumps(about)
    array.encoding = dict(ENCODING)
    return array


def class_array(
    work: Work,
    predict: Predict,
    prompts: Sequence[Prompt],
    members: Sequence[Sequence[int]],
    about: Mapping[str, Any],
) -> xr.DataArray:
    """One class a pixel (time, y, x): its number from 1, 0 for background, -1 where there is no answer."""
    thresholds = [prompt.threshold for prompt in prompts]

    def classes(maps: Codes) -> NDArray[np.int16]:
        best = [semantic(list(each), threshold=thresholds) for each in maps]
        return np.where(np.stack(best) == NOT_ANSWERED, np.int16(-1), best)

    maps = _prompt_maps(work, predict, members)
    data = da.map_blocks(classes, maps, dtype=np.int16, drop_axis=1)  # type: ignore[no-untyped-call]
    array = _map_array(data, work.source, (), {})
    array.name = "class"
    labels = ["background", *(prompt.label for prompt in prompts)]
    array.attrs["flag_values"] = list(range(len(labels)))
    array.attrs["flag_meanings"] = " ".join(label.replace(" ", "_") for label in labels)
    array.attrs["remotesam"] = json.dumps(about)
    array.encoding = {"_FillValue": -1}
    return array


def held_maps(probabilities: xr.DataArray, geobox: GeoBox) -> StoredMaps:
    """Maps of probabilities that were computed, saved, or come from elsewhere.

    Args:
        probabilities: Dimensions prompt, two of space, and time if there are several; NaN where not answered.
        geobox: Their grid.
    """
    space = [str(dim) for dim in probabilities.odc.spatial_dims]
    others = [str(dim) for dim in probabilities.dims if dim not in (*space, "prompt", "time")]
    if others:
        raise InputError(
            f"probabilities have the dimensions {others} beside prompt, time and space: select one of each"
        )
    times = dates_of(probabilities, "time" if "time" in probabilities.dims else None)
    ordered = probabilities if "time" in probabilities.dims else probabilities.expand_dims("time")
    data = ordered.transpose("time", "prompt", *space).data

    def read(date: int, place: tuple[slice, slice]) -> Codes:
        (part,) = compute(data[date, :, *place], scheduler="synchronous")  # type: ignore[no-untyped-call]
        # Storage by whole steps brings the byte 0 back as half a step below zero.
        codes: Codes = encode(np.where((part < 0) & (part > -STEP), np.float32(0), part))
        return codes

    dates = tuple(SceneDate(time=time, items="") for time in times)
    check_apart(dates)
    try:
        failures = tuple(_noted_failures(probabilities, geobox, times))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(DAMAGED_NOTE) from error
    return StoredMaps(
        read=read,
        grid=Grid(shape=geobox.shape.yx, window=BLOCK, overlap=0, block=1),
        geobox=geobox,
        dates=dates,
        failures=failures,
    )


def noted_questions(probabilities: xr.DataArray) -> list[dict[str, Any]]:
    """How probabilities were computed, as their attributes note it; nothing where they do not.

    Raises:
        InputError: The note is damaged.
    """
    try:
        noted = json.loads(probabilities.attrs.get("remotesam", "{}")).get("asked", [])
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(DAMAGED_NOTE) from error
    if not isinstance(noted, list) or not all(isinstance(note, dict) for note in noted):
        raise InputError(DAMAGED_NOTE)
    return noted


def note_failures(source: PixelSource, failures: Iterable[WindowFailure]) -> dict[str, Any]:
    """What `held_maps` finds again of what failed, whatever part of the maps it is then given: plain JSON."""
    times = [None if m.time is None else str(m.time.astype("M8[ns]")) for m in source.dates]
    return {
        "transform": list(source.geobox.affine[:6]),
        "failures": [{**asdict(one), "time": times[one.date]} for one in failures],
    }


def _noted_failures(
    probabilities: xr.DataArray, geobox: GeoBox, times: Sequence[np.datetime64 | None]
) -> Iterator[WindowFailure]:
    """What is noted to have failed, in the times and pixels of these maps."""
    here = [None if t is None else str(t) for t in times]
    for note in noted_questions(probabilities):
        noted = note.get("failures", [])
        shift = ~Affine(*note["transform"]) * geobox.affine if noted else Affine.identity()
        if not shift.almost_equals(Affine.translation(shift.c, shift.f), 1e-6):
            continue  # they were brought to another grid since
        down, right = round(shift.f), round(shift.c)
        for one in noted:
            core = Box(**one["core"])
            moved = Box(
                top=core.top - down,
                left=core.left - right,
                bottom=core.bottom - down,
                right=core.right - right,
            ).common(Box(top=0, left=0, bottom=geobox.shape.y, right=geobox.shape.x))
            if moved is not None and one["time"] in here:
                date = here.index(one["time"])
                yield WindowFailure(date=date, window=one["window"], core=moved, cause=one["cause"])


def _prompt_maps(work: Work, predict: Predict, members: Sequence[Sequence[int]]) -> "da.Array":
    """Codes of each prompt (time, prompt, y, x), one chunk a block of the plan."""
    grid, dates = work.grid, range(len(work.source.dates))
    rows, cols = grid.blocks
    token = tokenize(work.expressions, grid, work.source.geobox, id(work), members)
    asked, name = f"remotesam-windows-{token}", f"remotesam-map-{token}"

    def ask(date: int, index: int) -> dict[int, Codes]:
        return windows(work, predict, date, grid.block_at(index))

    def join(index: int, *parts: dict[int, Codes]) -> Codes:
        known = {window: codes for part in parts for window, codes in part.items()}
        codes = stitch(grid, grid.block_at(index).core, known, prompts=len(work.expressions), seam=work.seam)
        return np.stack([joined(codes, own) for own in members])[None]

    graph: dict[Any, Any] = {}
    for date in dates:
        for index in range(rows * cols):
            near = grid.blocks_of([t.index for t in needed(grid, grid.block_at(index).core, work.seam)])
            graph[asked, date, index] = (ask, date, index)
            graph[name, date, 0, *divmod(index, cols)] = (
                join, index, *((asked, date, int(other)) for other in near),
            )  # fmt: skip
    high = [grid.block_at(row * cols).core.shape[0] for row in range(rows)]
    wide = [grid.block_at(col).core.shape[1] for col in range(cols)]
    return da.Array(  # type: ignore[no-untyped-call]
        HighLevelGraph.from_collections(name, graph),
        name,
        chunks=((1,) * len(dates), (len(members),), tuple(high), tuple(wide)),
        dtype=np.uint8,
    )


def _map_array(data: "da.Array", source: PixelSource, dims: tuple[str, ...], coords: Mapping[str, Any]) -> xr.DataArray:
    """Data (time, ..., y, x) on the plan's grid; without the dimension time where the scene has none."""
    place = xr_coords(source.geobox)
    y, x = (str(name) for name in list(place)[:2])
    times = [date.time for date in source.dates]
    along: dict[Any, Any] = {**coords, **place}
    if len(times) == 1:
        data = data[0]
        if times[0] is not None:
            along["time"] = times[0]
        return xr.DataArray(data, dims=(*dims, y, x), coords=along)
    along["time"] = times
    return xr.DataArray(data, dims=("time", *dims, y, x), coords=along)
