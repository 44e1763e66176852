"""What a user gives a job: a source, an area of interest, prompts."""

import json
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any, get_args

import shapely
import xarray as xr
from pyproj import CRS

from remotesam_geo.errors import InputError, JobError, number_in, one_of
from remotesam_geo.geo.areas import shape_in_degrees
from remotesam_geo.geo.crs import body_of
from remotesam_geo.mapping.stitch import Seam
from remotesam_geo.predictors.contours import check_refine
from remotesam_geo.scenes import ReadPolicy, Recipe, load, open_raster
from remotesam_geo.scenes.recipe import policy_of
from remotesam_geo.words import CLASS_TEMPLATE, Prompt, PromptLike, ResolutionLike, parse_prompts

from .plan import LARGEST_BLOCK, prompt_to_json
from .source_recipe import open_store

__all__ = [
    "as_geojson",
    "check_client",
    "check_options",
    "check_place",
    "parsed",
    "scene_of",
    "with_new",
    "without",
]


def scene_of(
    source: Any, arguments: Mapping[str, Any] | None, policy: ReadPolicy | None
) -> tuple[xr.Dataset, Path | None, ReadPolicy | None]:
    """The scene that a source is, the Zarr store it lies in, and how it is read."""
    if arguments is not None:
        source = load(source, **{"policy": policy, **arguments})
    if isinstance(source, str | PathLike):
        path = Path(source)
        if "://" not in str(source) and (path.is_dir() or path.suffix == ".zarr"):
            return open_store(path), path, policy
        source = open_raster(str(source), policy=policy)
    if isinstance(source, Recipe):
        source = source.open(policy=policy)
    if isinstance(source, xr.Dataset):
        return source, None, policy_of(source) if policy is None else policy
    if isinstance(source, xr.DataArray):
        raise InputError(
            "a DataArray has no recipe, so no other process could make it again: keep it with "
            "array.to_dataset('band').to_zarr(path), and give the path"
        )
    raise InputError(
        "the source of a job is a scene made by load or open_raster, a Recipe, the path of a raster or Zarr store, "
        f"or items together with load={{...}}, not a {type(source).__name__}"
    )


def check_place(folder: Any, policy: Any) -> None:
    """Check what every job is opened with.

    Raises:
        InputError: The folder is no path, or the policy is none.
    """
    if not isinstance(folder, str | PathLike) or not str(folder).strip():
        raise InputError(f"folder is {folder!r}: give the path of the folder that the job lives in")
    if not isinstance(policy, ReadPolicy | None):
        raise InputError(f"policy is {policy!r}: give a ReadPolicy, or None")


def check_client(client: Any) -> None:
    """Check what a run is given to work on.

    Raises:
        InputError: It is no client.
    """
    if client is not None and not hasattr(client, "asynchronous"):
        raise InputError(
            f"client is {client!r}: give a distributed.Client, such as Client('tcp://scheduler:8786'), or None"
        )


def check_options(
    load: Any,
    *,
    overlap: Any,
    seam: Any,
    block: Any,
    keep_probabilities: Any,
    refine: Any,
) -> None:
    """Check the options of a new job, before anything is read or written.

    Raises:
        InputError: One of them cannot be used.
    """
    if not isinstance(load, Mapping | None):
        raise InputError(f"load is {load!r}: give the arguments of load as a mapping")
    number_in("overlap", overlap, 0, 0.5)
    one_of("seam", seam, get_args(Seam))
    number_in("block", block, 1, LARGEST_BLOCK, whole=True)
    one_of("keep_probabilities", keep_probabilities, (True, False))
    check_refine(refine)


def as_geojson(geometry: Any, crs: Any) -> dict[str, Any]:
    """An area of any kind as GeoJSON in degrees, on the planet or moon of the scene's CRS."""
    degrees = body_of(CRS.from_user_input(str(crs))).degrees
    found: dict[str, Any] = json.loads(shapely.to_geojson(shape_in_degrees(geometry, "geometry", degrees=degrees)))
    return found


def parsed(
    prompts: PromptLike,
    threshold: float | Mapping[str, float] | None,
    resolution: ResolutionLike | Mapping[str, ResolutionLike] | None,
    words: object,
) -> tuple[Prompt, ...]:
    """Prompts as users write them; `words` is the model or its processor, which knows what words it reads."""
    return parse_prompts(
        prompts,
        template=CLASS_TEMPLATE,
        threshold=threshold,
        resolution=resolution,
        cut_words=getattr(words, "cut_words", None),
        unknown_words=getattr(words, "unknown_words", None),
    )


def with_new(known: Sequence[Prompt], more: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """Prompts with those that are new to them."""
    by_label = {prompt.label: prompt for prompt in known}
    for prompt in more:
        before = by_label.setdefault(prompt.label, prompt)
        if before != prompt:
            raise JobError(
                f"the job has another prompt {prompt.label!r}: {prompt_to_json(before)} there, "
                f"{prompt_to_json(prompt)} here. Give one of them another label."
            )
    return tuple(by_label.values())


def without(known: Sequence[Prompt], labels: str | Iterable[str]) -> tuple[Prompt, ...]:
    """Prompts without those of some labels.

    Raises:
        InputError: There is no such label, or no prompt is left.
    """
    gone = [labels] if isinstance(labels, str) else list(labels)
    names = [prompt.label for prompt in known]
    if not gone:
        raise InputError(f"no prompt to remove: name one of {', '.join(map(repr, names))}")
    for label in gone:
        if label not in names:
            near = get_close_matches(str(label), names, n=1)
            raise InputError(
                f"the job has no prompt {label!r}{f', did you mean {near[0]!r}?' if near else '.'} It has "
                f"{', '.join(map(repr, names))}."
            )
    left = tuple(prompt for prompt in known if prompt.label not in gone)
    if not left:
        raise InputError(
            f"{', '.join(map(repr, gone))} would leave the job without a prompt: delete its folder in place of that"
        )
    return left
