"""From a question to its answer: parse, predict, survey, and lay out as a table with how it was made."""

import json
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import xarray as xr
from pyproj import CRS

from remotesam_geo.errors import InputError, RemoteSAMWarning
from remotesam_geo.geo.areas import shape_in_degrees
from remotesam_geo.geo.coordinates import grid_of
from remotesam_geo.geo.crs import body_of, crs_of, name_of
from remotesam_geo.geo.ground import pixel_size
from remotesam_geo.geo.pixel_shapes import out_of_grid
from remotesam_geo.mapping.collect import Survey, survey, warn_of_giants, warn_of_no_data, warn_of_nothing
from remotesam_geo.mapping.executor import WindowFailure, Work
from remotesam_geo.mapping.feature_options import FeatureOptions
from remotesam_geo.mapping.feature_table import Found, to_frame, wanted_crs, without_details
from remotesam_geo.mapping.instances import survey_instances
from remotesam_geo.mapping.maps import PredictedMaps
from remotesam_geo.mapping.polygons import Features
from remotesam_geo.mapping.run_notes import note_of_run
from remotesam_geo.mapping.zonal.zone_sums import Sums
from remotesam_geo.mapping.zonal.zone_tables import wide_columns
from remotesam_geo.mapping.zonal.zones import Zones, check_zones, core_zones, place_zones
from remotesam_geo.notebook import tqdm
from remotesam_geo.predictors.contours import Contours, contour_model
from remotesam_geo.predictors.protocol import Predict, PredictInstances, Predictor
from remotesam_geo.tasks import CONTOUR_THRESHOLD, Suppress, merge
from remotesam_geo.words import Prompt, PromptLike, parse_prompts, view_words

from .question import PromptMaps, Question, ceil_pixels, held_prompts, map_groups, native_crs
from .scene_kinds import PlainImage, Scene, is_probabilities, subject

__all__ = ["RefinedModel", "ZoneAnswers", "features", "one_map", "over_zones"]

LONG = 8
"""Windows from which progress is shown."""


@dataclass(eq=False)
class RefinedModel:
    """A model, and the contour model once it is wanted."""

    model: Predictor

    @cached_property
    def published_contours(self) -> Contours | None:
        """The published contour network, opened once."""
        return contour_model("contours")

    def contours(self, question: Question) -> Contours | None:
        """The contour model, if any."""
        if question.refine == "contours":
            return self.published_contours
        return contour_model(question.refine)

    def opened(self, question: Question) -> tuple[Scene | PlainImage, Question, tuple[Prompt, ...]]:
        """The opened scene, the question as it applies to it, and its prompts.

        Raises:
            InputError: The question has options that mean nothing for that scene.
        """
        prompts = self._parsed(question)
        scene = subject(question.scene, question.bands, question.stretch)
        if isinstance(scene, PlainImage):
            warn_of_no_data([bool(scene.valid.any())])
            question.refuse("a picture has no place on Earth; cut the picture instead", "geometry")
            question.refuse("a picture has no metres. Leave it out", "resolution")
            if not question.tiles:
                question.refuse(
                    "a picture is one window. Leave it out, or look at the picture window by window, with tiles=True",
                    "overlap", "seam", "on_error",
                )  # fmt: skip
                question = replace(question, view="scene")
        elif question.tiles:
            question.refuse("it is for pictures: a scene is predicted window by window anyway", "tiles")
        if question.view == "map" and not is_probabilities(scene):
            _warn_of_view_words(prompts)
        return scene, question, prompts

    def _parsed(self, question: Question) -> tuple[Prompt, ...]:
        scene = question.scene
        if isinstance(scene, xr.DataArray) and is_probabilities(scene):
            held = _held_labels(scene, question.prompts)
            return parse_prompts(held, threshold=question.threshold, suggest=False)
        if question.prompts is None:
            raise InputError("prompts= is missing: say in words what to look for")
        return parse_prompts(
            question.prompts,
            template=question.template,
            threshold=question.threshold,
            resolution=question.resolution,
            cut_words=getattr(self.model, "cut_words", None),
            unknown_words=getattr(self.model, "unknown_words", None),
        )

    def note(self, groups: Sequence[PromptMaps], run_id: str | None = None) -> dict[str, Any]:
        """How prompts were predicted, as plain JSON."""
        return note_of_run(self.model.identity, [group.note() for group in groups], run_id)


@dataclass(frozen=True, kw_only=True, eq=False)
class ZoneAnswers:
    """What was found over zones.

    Attributes:
        sums: What the maps hold in each zone, for each resolution.
        features: The objects, for each resolution.
        labels: In the order asked.
        details: `view` and `run_id` of the call, where columns of details are wanted.
    """

    sums: tuple[Sums, ...]
    features: tuple[tuple[Found, ...], ...]
    labels: tuple[str, ...]
    details: Mapping[str, str] | None


def features(
    refined: RefinedModel,
    question: Question,
    options: FeatureOptions,
    *,
    crs: Any,
    one_each: bool = False,
) -> gpd.GeoDataFrame:
    """A row per feature.

    Args:
        refined: The model.
        question: The arguments of the method.
        options: Which features are wanted, and how they are drawn.
        crs: CRS of the result; None for the scene's.
        one_each: Whether all features of a prompt and time make one.
    """
    target = None if crs is None else wanted_crs(crs, None)
    if question.instances:
        _check_instances(refined.model, options)
    scene, question, prompts = refined.opened(question)
    if isinstance(scene, PlainImage):
        if target is not None:
            raise InputError(
                f"crs={crs!r} cannot be used here: a picture has no place on Earth, so its results are in pixels. "
                "Leave it out"
            )
    else:
        target = wanted_crs(crs, native_crs(scene), grid_of(scene))
    groups = map_groups(refined.model, scene, prompts, question, contours=refined.contours(question))
    run_id = uuid.uuid4().hex
    tables, results = [], []
    wanted: FeatureOptions | None = None
    with _progress_of_groups(groups, question) as advance:
        for group in groups:
            wanted = _options_for_scene(options, question, group, scene)
            result = _survey_of_group(refined.model, question, group, wanted, advance)
            if options.outline != "polygon" and group.view == "map" and isinstance(group.maps, PredictedMaps):
                warn_of_giants(result.found, group.maps.grid, group.maps.geobox)
            found = tuple(map(_in_one, result.found)) if one_each else result.found
            tables.append(
                to_frame(
                    found,
                    group.maps.geobox,
                    crs=target,
                    options=options,
                    view=group.view,
                    run_id=run_id,
                    details=question.details,
                )
            )
            results.append(result)
    joined = pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0]
    order = [prompt.label for prompt in prompts]
    joined = joined.sort_values("label", key=lambda labels: labels.map(order.index), kind="stable", ignore_index=True)
    warn_of_no_data([result.valid or bool(result.failures) for result in results])
    if wanted is not None:
        warn_of_nothing(prompts, results, wanted)
    return _with_provenance(joined, refined.note(groups, run_id), groups, results)


def _survey_of_group(
    model: Predictor,
    question: Question,
    group: PromptMaps,
    options: FeatureOptions,
    progress: Callable[[int], object],
) -> Survey:
    if not question.instances:
        return survey(group.maps, group.prompts, group.members, options=options, progress=progress)
    if not isinstance(group.maps, PredictedMaps):
        raise InputError("instances=True goes through a picture window by window: say tiles=True, too")
    predict: PredictInstances = model.instances  # type: ignore[attr-defined]  # checked before
    return survey_instances(group.maps.work, predict, group.prompts, group.members, options=options, progress=progress)


def _check_instances(model: Predictor, options: FeatureOptions) -> None:
    """Refuse `instances=True` where the model has none, and options that mean nothing then."""
    if not callable(getattr(model, "instances", None)):
        raise InputError(
            f"instances=True needs a model that tells objects apart, and {model.identity!r:.60} gives probabilities "
            "only: take one with instances (remotesam-geo models lists them), or leave instances out"
        )
    for name, usual in (("exclusive", False), ("parts", "whole")):
        if getattr(options, name) != usual:
            raise InputError(
                f"{name}={getattr(options, name)!r} cannot be used here: instances=True joins whole objects. Leave it "
                "out"
            )


def over_zones(
    refined: RefinedModel,
    question: Question,
    zones: gpd.GeoDataFrame | None,
    rows: Callable[[ZoneAnswers], gpd.GeoDataFrame],
    *,
    columns: Mapping[str, str] | None,
    options: FeatureOptions | None = None,
    contour_threshold: float = CONTOUR_THRESHOLD,
) -> gpd.GeoDataFrame:
    """The zones with rows of answers.

    Args:
        refined: The model.
        question: The arguments of the method.
        zones: The user's zones, if any.
        rows: Lays answers out.
        columns: What the answer adds; None for a column a label.
        options: Which objects are wanted; None for none.
        contour_threshold: Above it a pixel of the map of contours parts touching objects.
    """
    if columns is not None and not question.details:
        columns = without_details(columns)
    if zones is not None:
        check_zones(zones, columns or ())
    elif question.view == "zone":
        raise InputError("view='zone' takes one view of each zone: give zones=")
    scene, question, prompts = refined.opened(question)
    if isinstance(scene, PlainImage) and zones is not None:
        raise InputError("a picture has no place on Earth, and zones do: give a scene with a CRS, or no zones")
    labels = tuple(prompt.label for prompt in prompts)
    if columns is None:
        columns = wide_columns(labels) if question.details else without_details(wide_columns(labels))
    contours = refined.contours(question)
    looks: list[tuple[tuple[PromptMaps, ...], gpd.GeoDataFrame | None]]
    if question.view == "zone" and zones is not None:
        looks = list(_answer_groups_by_zone(refined, scene, prompts, question, zones, columns=columns))
    else:
        looks = [(map_groups(refined.model, scene, prompts, question, contours=contours), zones)]
    run_id = uuid.uuid4().hex
    frames, results = [], []
    wanted: FeatureOptions | None = None
    every = [group for groups, _ in looks for group in groups]
    with _progress_of_groups(every, question) as advance:
        for groups, frame in looks:
            answers = []
            for group, placed in zip(groups, _zones_on_grids(groups, frame, native_crs(scene), columns), strict=True):
                if options is not None:
                    wanted = _options_for_scene(options, question, group, scene, contour_threshold)
                answers.append(
                    survey(
                        group.maps,
                        group.prompts,
                        group.members,
                        options=wanted,
                        zones=placed,
                        progress=advance,
                    )
                )
            frames.append(
                rows(
                    ZoneAnswers(
                        sums=tuple(one.sums for one in answers if one.sums is not None),
                        features=tuple(one.found for one in answers),
                        labels=labels,
                        details={"view": groups[0].view, "run_id": run_id} if question.details else None,
                    )
                )
            )
            results.extend(answers)
    joined = pd.concat(frames) if len(frames) > 1 else frames[0]
    warn_of_no_data([result.valid or bool(result.failures) for result in results])
    if wanted is not None:
        warn_of_nothing(prompts, results, wanted)
    return _with_provenance(joined, refined.note(every, run_id), every, results)


def one_map(
    refined: RefinedModel, question: Question
) -> tuple[Work, Predict, tuple[Prompt, ...], tuple[tuple[int, ...], ...], dict[str, Any]]:
    """What a lazy map is made of: the work, the model, the prompts with their maps, and a note of it."""
    scene, question, prompts = refined.opened(question)
    if isinstance(scene, PlainImage):
        raise InputError("a lazy map is for scenes: give a raster with a CRS, or ask segment(picture)")
    groups = map_groups(refined.model, scene, prompts, question)
    if len(groups) > 1:
        asked = ", ".join(f"{prompt.label!r} at {prompt.resolution}" for prompt in prompts)
        raise InputError(
            f"one map has one resolution, but these have several ({asked}): give them in calls of their own"
        )
    (group,) = groups
    if not isinstance(group.maps, PredictedMaps):
        raise InputError("these are probabilities already: give the scene they were computed from")
    return group.maps.work, group.maps.predict, group.prompts, group.members, refined.note(groups)


def _held_labels(probabilities: xr.DataArray, prompts: PromptLike | None) -> list[Prompt]:
    """The labels of computed probabilities that are wanted."""
    held = {prompt.label: prompt for prompt in held_prompts(probabilities)}
    if prompts is None:
        return list(held.values())
    labels = [prompt.label for prompt in parse_prompts(prompts, suggest=False)]
    unknown = [label for label in labels if label not in held]
    if unknown:
        raise InputError(f"these probabilities do not hold {unknown}, only {list(held)}: ask the scene for them")
    return [held[label] for label in labels]


def _warn_of_view_words(prompts: Sequence[Prompt]) -> None:
    for prompt in prompts:
        for expression in prompt.expressions:
            if words := view_words(expression):
                warnings.warn(
                    f"{', '.join(map(repr, words))} in {expression!r} makes sense in one view only, but a scene is "
                    "predicted window by window: each window answers for itself. Use view='scene', or ground",
                    RemoteSAMWarning,
                    stacklevel=6,
                )


def _options_for_scene(
    options: FeatureOptions,
    question: Question,
    group: PromptMaps,
    scene: Scene | PlainImage,
    contour_threshold: float = CONTOUR_THRESHOLD,
) -> FeatureOptions:
    """Options with what follows from the scene and its grid."""
    usual: Suppress = "published" if isinstance(scene, PlainImage) else "none"
    return replace(
        options,
        suppress=usual if question.suppress is None else question.suppress,
        min_area=ceil_pixels(question.min_area, group.maps.geobox),
        contour_threshold=None if question.refine is None else contour_threshold,
    )


def _in_one(found: Found) -> Found:
    """All features as one: their common box, with the score of all their pixels."""
    table = found.features.table
    if not len(table):
        return found
    whole = merge([table], np.zeros(len(table), np.int64), 1)
    return replace(found, features=Features(table=whole, polygons=None, hulls=None))


def _answer_groups_by_zone(
    refined: RefinedModel,
    scene: Scene | PlainImage,
    prompts: Sequence[Prompt],
    question: Question,
    zones: gpd.GeoDataFrame,
    *,
    columns: Mapping[str, str],
) -> Iterator[tuple[tuple[PromptMaps, ...], gpd.GeoDataFrame]]:
    (whole,) = map_groups(refined.model, scene, prompts, replace(question, view="scene"))
    place_zones(zones, whole.maps.geobox, adds=columns)  # says what is wrong with them
    contours = refined.contours(question)
    degrees = body_of(crs_of(whole.maps.geobox)).degrees
    for row in range(len(zones)):
        one = zones.iloc[[row]]
        around = shape_in_degrees(one.geometry, "zones", degrees=degrees)
        yield (
            map_groups(refined.model, scene, prompts, question, contours=contours, around=around),
            one,
        )


def _zones_on_grids(
    groups: Sequence[PromptMaps],
    zones: gpd.GeoDataFrame | None,
    crs: CRS | None,
    columns: Mapping[str, str],
) -> list[Zones]:
    """The zones on each group's grid: those given, else the windows' cores, else all of a view."""
    first = groups[0].maps
    if zones is not None:
        return [place_zones(zones, group.maps.geobox, adds=columns) for group in groups]
    if crs is None:
        return [_all_of(first.geobox.shape.yx, group) for group in groups]
    if groups[0].view == "map":
        windows = first.work.window_numbers if isinstance(first, PredictedMaps) else None
        own = core_zones(first.grid, first.geobox, crs=crs, windows=windows)
        return [own, *(place_zones(own.frame, group.maps.geobox) for group in groups[1:])]
    height, width = first.geobox.shape.yx
    square = np.array([shapely.box(0, 0, width, height)], object)
    carried = out_of_grid(square, first.geobox, crs)
    if not carried.some.all():
        raise InputError(f"no part of the scene lies where {name_of(crs)!r} is defined: assign its CRS")
    view = gpd.GeoDataFrame(geometry=carried.placed, crs=crs)
    return [place_zones(view, group.maps.geobox) for group in groups]


def _all_of(shape: tuple[int, int], group: PromptMaps) -> Zones:
    """All of a picture as one zone."""
    height, width = shape
    shapes = np.array([shapely.box(0, 0, width, height)], object)
    return Zones(
        frame=gpd.GeoDataFrame(geometry=shapes),
        shapes=shapes,
        size=shapely.area(shapes),
        geobox=group.maps.geobox,
    )


@contextmanager
def _progress_of_groups(groups: Sequence[PromptMaps], question: Question) -> Iterator[Callable[[int], object]]:
    size = sum(group.maps.size for group in groups)
    show = size >= LONG if question.progress is None else question.progress
    with tqdm(total=size, desc="predicting", unit="window", disable=not show) as bar:
        yield bar.update


def _with_provenance(
    table: gpd.GeoDataFrame,
    made: dict[str, Any],
    groups: Sequence[PromptMaps],
    results: Sequence[Survey],
) -> gpd.GeoDataFrame:
    """With how it was made in attrs, as plain JSON; failures are warned of."""
    for note, group, result in zip(made["asked"], groups, results, strict=True):
        _warn_of_failures(result.failures, group)
        note["failures"] = [asdict(failure) for failure in result.failures]
        note["dropped"] = {label: asdict(count) for label, count in result.dropped.items()}
    table.attrs["remotesam"] = json.dumps(made)
    if table.crs is None:
        table.attrs["space"] = "pixel"
    return table


def _warn_of_failures(failures: Sequence[WindowFailure], group: PromptMaps) -> None:
    if failures:
        pixels = sum(np.prod(failure.core.shape) for failure in failures)
        geobox = group.maps.geobox
        missing = (
            f"{pixels:,.0f} pixels"
            if geobox.crs is None
            else f"{pixels * pixel_size(geobox).metres ** 2:,.0f} m2 of ground"
        )
        warnings.warn(
            f"{len(failures)} of {group.maps.size} windows failed, {missing} without an answer; the first: "
            f"{failures[0].cause}",
            RemoteSAMWarning,
            stacklevel=5,
        )
