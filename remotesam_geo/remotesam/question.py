"""From a scene and prompts to maps: on which grid, in which view, which expressions together."""

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from remotesam_geo.errors import InputError, RemoteSAMWarning, number_in, one_of
from remotesam_geo.geo.coordinates import grid_of
from remotesam_geo.geo.crs import body_of, crs_of
from remotesam_geo.geo.ground import pixel_size, plan_geobox
from remotesam_geo.geo.pixel_shapes import onto_grid
from remotesam_geo.geo.squares import square_round
from remotesam_geo.mapping.area_windows import windows_in
from remotesam_geo.mapping.executor import OnError, Work
from remotesam_geo.mapping.grid import Grid
from remotesam_geo.mapping.lazy import DAMAGED_NOTE, held_maps, noted_questions
from remotesam_geo.mapping.maps import Maps, PredictedMaps, StoredMaps
from remotesam_geo.mapping.resolutions import by_resolution, warn_of_resolutions
from remotesam_geo.mapping.run_notes import note_of_prompts
from remotesam_geo.mapping.source import PixelSource, SceneDate, picture_source, scene_source
from remotesam_geo.mapping.stitch import Seam
from remotesam_geo.predictors.contours import CONTOURS, Contours, Refine, WithContours, check_refine, contour_codes
from remotesam_geo.predictors.protocol import Predict, Predictor, predicted_probabilities
from remotesam_geo.scenes.colors import check_bands
from remotesam_geo.scenes.stretch import check_stretch
from remotesam_geo.tasks import Suppress, decode
from remotesam_geo.words import (
    CLASS_TEMPLATE,
    Prompt,
    PromptLike,
    ResolutionLike,
    check_resolutions,
    distinct_expressions,
    warn_of_sizes,
)

from .scene_kinds import PlainImage, Scene, SceneLike, is_probabilities

__all__ = [
    "OVERLAP", "Bands", "PromptMaps", "Question", "Refine", "Resolutions", "Thresholds", "View", "ceil_pixels",
    "held_prompts", "map_groups", "native_crs",
]  # fmt: skip

View = Literal["map", "scene", "zone"]
Bands = str | Sequence[str | int] | None
Resolutions = ResolutionLike | Mapping[str, ResolutionLike] | None
Thresholds = float | Mapping[str, float] | None

OVERLAP = 1 / 4
"""Share of a window that neighbouring windows have in common."""
MANY = 2000
"""Windows from which a call suggests a job."""

log = logging.getLogger("remotesam_geo")


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """What a verb was called with; see there.

    Attributes:
        scene: What to look at.
        prompts: What to look for.
        template: The sentence that a bare name is put into; None for none.
        threshold: Where a pixel belongs.
        resolution: Metres on the ground a pixel.
        bands: Which bands are red, green and blue.
        stretch: How their values become 8-bit.
        view: Window by window ("map"), or the whole scene or zone as one image.
        overlap: Share of a window that neighbours have in common.
        seam: How windows are joined.
        geometry: Area of interest: only windows that touch it are predicted.
        tiles: Whether a picture is predicted window by window.
        on_error: What happens where a window fails.
        refine: What parts touching objects.
        suppress: Which components give way; None for what is usual.
        min_area: Least area of a component.
        progress: Whether to show progress.
        details: Whether to add the columns `DETAILS`.
        instances: Whether the predictor tells objects apart.
    """

    scene: SceneLike
    prompts: PromptLike | None
    template: str | None = CLASS_TEMPLATE
    threshold: Thresholds = None
    resolution: Resolutions = None
    bands: Bands = None
    stretch: Any = None
    view: View = "map"
    overlap: float = OVERLAP
    seam: Seam = "blend"
    geometry: Any = None
    tiles: bool = False
    on_error: OnError = "raise"
    refine: Refine = None
    suppress: Suppress | None = None
    min_area: float = 0
    progress: bool | None = None
    details: bool = False
    instances: bool = False

    def __post_init__(self) -> None:
        one_of("view", self.view, get_args(View))
        one_of("seam", self.seam, get_args(Seam))
        one_of("on_error", self.on_error, get_args(OnError))
        one_of("tiles", self.tiles, (True, False))
        number_in("overlap", self.overlap, 0, 0.5)
        check_bands(self.bands)
        check_stretch(self.stretch)
        check_refine(self.refine)
        one_of("suppress", self.suppress, (*get_args(Suppress), None))
        check_resolutions(self.resolution)
        number_in("min_area", self.min_area, 0)
        one_of("progress", self.progress, (True, False, None))
        one_of("details", self.details, (True, False))
        one_of("instances", self.instances, (True, False))
        self._check_together()

    def refuse(self, reason: str, *names: str) -> None:
        """Refuse options that would have no effect.

        Args:
            reason: Why they have none, and what to do instead.
            names: The options, attributes of this question.

        Raises:
            InputError: One of them differs from its default.
        """
        defaults = {field.name: field.default for field in fields(self)}
        for name in names:
            value = getattr(self, name)
            if value is None or (isinstance(value, str | Real) and value == defaults[name]):
                continue
            shown = f"{value!r}" if isinstance(value, str | Real) else ""
            raise InputError(f"{name}={shown} cannot be used here: {reason}")

    def _check_together(self) -> None:
        """Refuse options that exclude each other, as far as that is known before the scene is opened."""
        if is_probabilities(self.scene):
            self.refuse(
                "the scene is probabilities that were computed before. Leave it out, or give the scene itself",
                "resolution", "refine", "bands", "stretch", "view", "overlap", "seam", "geometry", "tiles", "on_error",
            )  # fmt: skip
        elif isinstance(self.scene, np.ndarray | Image.Image):
            self.refuse(
                "a picture given as pixels has its three colours. Leave it out, or give other pixels",
                "bands", "stretch",
            )  # fmt: skip
        if self.view != "map":
            self.refuse(
                f"view={self.view!r} sees a whole scene or zone as one image, whose resolution follows from its "
                "size. Leave it out, or use view='map'; for a part of the scene, cut the scene",
                "resolution", "overlap", "seam", "geometry", "tiles",
            )  # fmt: skip
        if self.instances:
            self._check_instances()

    def _check_instances(self) -> None:
        if is_probabilities(self.scene):
            raise InputError("instances=True needs the model, not probabilities: give the scene")
        self.refuse("instances=True joins whole objects, not maps. Leave it out", "refine", "seam")
        if not self.overlap:
            raise InputError(
                "instances=True joins the parts of an object where neighbouring windows overlap: overlap=0 leaves no "
                "such place. Leave overlap out"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptMaps:
    """Prompts that are predicted together, and the maps that answer them.

    Attributes:
        prompts: The prompts.
        members: Which of the maps belong to each prompt.
        maps: The maps.
        view: How the network looked.
    """

    prompts: tuple[Prompt, ...]
    members: tuple[tuple[int, ...], ...]
    maps: Maps
    view: View

    def note(self) -> dict[str, Any]:
        """How they were predicted, as plain JSON."""
        seam = self.maps.work.seam if isinstance(self.maps, PredictedMaps) else None
        return note_of_prompts(self.prompts, self.maps.grid, self.maps.geobox, seam=seam, view=self.view)


def native_crs(scene: Scene | PlainImage) -> CRS | None:
    """The CRS in which results return; None for pictures."""
    return None if isinstance(scene, PlainImage) else CRS.from_user_input(str(grid_of(scene).crs))


def held_prompts(probabilities: xr.DataArray) -> list[Prompt]:
    """The prompts of computed probabilities, in their order; without a note of them, their labels."""
    try:
        known = {
            prompt["label"]: Prompt(**{**prompt, "expressions": tuple(prompt["expressions"])})
            for group in noted_questions(probabilities)
            for prompt in group["prompts"]
        }
    except (KeyError, TypeError) as error:
        raise InputError(DAMAGED_NOTE) from error
    labels = [str(label) for label in np.atleast_1d(probabilities.coords["prompt"].values)]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise InputError(
            f"these probabilities hold {twice[0]!r} twice: keep one, or rename it with assign_coords(prompt=[...])"
        )
    return [known.get(label) or Prompt(label=label, expressions=(label,)) for label in labels]


def map_groups(
    model: Predictor,
    scene: Scene | PlainImage,
    prompts: Sequence[Prompt],
    question: Question,
    *,
    contours: Contours | None = None,
    around: BaseGeometry | None = None,
) -> tuple[PromptMaps, ...]:
    """The maps that answer prompts, those of one resolution together.

    Args:
        model: The model.
        scene: What is looked at.
        prompts: The prompts.
        question: How the scene is processed.
        contours: The contour model, if any.
        around: With ``view="zone"``, the zone in degrees.

    Raises:
        InputError: It cannot be predicted as given.
    """
    if isinstance(scene, PlainImage):
        return (_picture_question_maps(model, scene, prompts, question, contours),)
    if isinstance(scene, xr.DataArray) and is_probabilities(scene):
        return (_stored_question_maps(scene, prompts),)
    place = grid_of(scene)
    if question.view != "map":
        _refuse_resolutions(prompts, f"view={question.view!r} has the resolution that follows from its size")
        geobox = _view_grid(place, model.image_size, around)
        if around is None:
            warn_of_sizes(prompts, metres=pixel_size(geobox).metres, window=model.image_size)
        source = scene_source(scene, bands=question.bands, stretch=question.stretch, geobox=geobox)
        return (_question_maps_of_prompts(model, source, prompts, replace(question, geometry=None), contours),)
    by_metres = list(by_resolution(prompts, place, model.image_size))
    warn_of_resolutions(by_metres, place, model.image_size)  # before the first pixel is read
    groups = tuple(
        _question_maps_of_prompts(
            model,
            scene_source(scene, bands=question.bands, stretch=question.stretch, resolution=metres),
            group,
            question,
            contours,
        )
        for metres, group in by_metres
    )
    _announce_question_work(groups)
    return groups


def _question_maps_of_prompts(
    model: Predictor,
    source: PixelSource,
    prompts: Sequence[Prompt],
    question: Question,
    contours: Contours | None,
) -> PromptMaps:
    size = model.image_size
    grid = Grid(shape=source.geobox.shape.yx, window=size, overlap=2 * round(question.overlap * size / 2))
    expressions, members = distinct_expressions(prompts)
    work = Work(
        source=source,
        grid=grid,
        expressions=expressions if contours is None else (*expressions, CONTOURS),
        window_numbers=None if question.geometry is None else windows_in(question.geometry, grid, source.geobox),
        seam=question.seam,
        on_error=question.on_error,
    )
    predict: Predict = model.predict
    if contours is not None:
        predict = WithContours(predict=predict, contours=contours)
    return PromptMaps(
        prompts=tuple(prompts),
        members=members,
        maps=PredictedMaps(work=work, predict=predict),
        view=question.view,
    )


def _view_grid(place: GeoBox, size: int, around: BaseGeometry | None) -> GeoBox:
    plan = plan_geobox(place)
    if around is None:
        return square_round(plan, size)
    (zone,), _ = onto_grid(np.array([around], object), body_of(crs_of(plan)).degrees, plan)
    return square_round(plan, size, zone)


def _refuse_resolutions(prompts: Sequence[Prompt], reason: str) -> None:
    """Refuse prompts that ask for a resolution of their own."""
    for prompt in prompts:
        if prompt.resolution is not None:
            raise InputError(
                f"resolution={prompt.resolution!r} of {prompt.label!r} cannot be used here: {reason}. Leave it out"
            )


def _announce_question_work(groups: Sequence[PromptMaps]) -> None:
    times = len(groups[0].maps.dates)
    if times > 1:
        log.info("%d times over one place: each is answered apart", times)
    windows = sum(group.maps.size for group in groups)
    if windows > MANY:
        warnings.warn(
            f"{windows:,} windows are to be predicted: a Job keeps what is done, and goes on after an interruption",
            RemoteSAMWarning,
            stacklevel=5,
        )


def _stored_question_maps(probabilities: xr.DataArray, prompts: Sequence[Prompt]) -> PromptMaps:
    labels = [str(label) for label in np.atleast_1d(probabilities.coords["prompt"].values)]
    return PromptMaps(
        prompts=tuple(prompts),
        members=tuple((labels.index(prompt.label),) for prompt in prompts),
        maps=held_maps(probabilities, grid_of(probabilities, "the map of probabilities")),
        view="map",
    )


def _picture_question_maps(
    model: Predictor,
    picture: PlainImage,
    prompts: Sequence[Prompt],
    question: Question,
    contours: Contours | None,
) -> PromptMaps:
    _refuse_resolutions(prompts, "a picture has no metres")
    if question.tiles:
        source = picture_source(picture.rgb, picture.valid)
        return _question_maps_of_prompts(model, source, prompts, replace(question, view="map"), contours)
    height, width = picture.valid.shape
    size = model.image_size
    if max(height, width) > 2 * size:
        warnings.warn(
            f"a picture of {width} x {height} pixels is shrunk to {size} x {size}: what is small in it may be lost. "
            "Ask with tiles=True to look at it window by window",
            RemoteSAMWarning,
            stacklevel=5,
        )
    expressions, members = distinct_expressions(prompts)
    square = _resized_image(picture.rgb, (size, size))[None]
    answers = predicted_probabilities(model, square, expressions)[0]
    if contours is not None:
        answers = np.concatenate([answers, decode(contour_codes(contours, square))])
    maps = np.stack([_resized_image(answer, (height, width)) for answer in answers])
    maps[:, ~picture.valid] = 0

    def read(_: int, place: tuple[slice, slice]) -> NDArray[np.float32]:
        return maps[:, *place]

    return PromptMaps(
        prompts=tuple(prompts),
        members=members,
        maps=StoredMaps(
            read=read,
            grid=Grid(shape=(height, width), window=max(2, height, width), overlap=0),
            geobox=GeoBox((height, width), Affine.identity(), None),
            dates=(SceneDate(time=None, items=""),),
        ),
        view="scene",
    )


def _resized_image(array: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """To another height and width, bilinear and anti-aliased, as the network was trained."""
    if array.shape[:2] == shape:
        return array
    picture = Image.fromarray(array)
    return np.asarray(picture.resize(shape[::-1], Image.Resampling.BILINEAR))


def ceil_pixels(area: float, geobox: GeoBox) -> int:
    """How many pixels an area takes: square metres on the ground, or pixels of a picture."""
    number_in("min_area", area, 0)
    metres = 1.0 if geobox.crs is None else pixel_size(geobox).metres
    return max(1, math.ceil(area / metres**2))
