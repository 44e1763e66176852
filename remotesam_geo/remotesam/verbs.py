"""The eight verbs, each a question in words."""

from pathlib import Path
from typing import Any, Literal, Self, get_args

import geopandas as gpd
import xarray as xr

from remotesam_geo.errors import InputError, number_in, one_of
from remotesam_geo.mapping.executor import OnError
from remotesam_geo.mapping.feature_options import FeatureOptions
from remotesam_geo.mapping.lazy import class_array, probability_array
from remotesam_geo.mapping.polygons import Parts
from remotesam_geo.mapping.stitch import Seam
from remotesam_geo.mapping.zonal.zone_objects import Predicate
from remotesam_geo.mapping.zonal.zone_tables import (
    CAPTION_COLUMNS,
    COUNT_COLUMNS,
    LABEL_COLUMNS,
    caption_frame,
    classify_frame,
    count_frame,
    label_frame,
)
from remotesam_geo.notebook import card, facts
from remotesam_geo.predictors.names import adapter_named
from remotesam_geo.predictors.protocol import Predictor, check_predictor
from remotesam_geo.predictors.remotesam_network import Network, Precision, described
from remotesam_geo.tasks import COUNT_CONTOUR_THRESHOLD, MIN_SCORE, MULTI_LABEL_BALANCE, Suppress
from remotesam_geo.words import PromptLike, ResolutionLike

from .answer import RefinedModel, ZoneAnswers, features, one_map, over_zones
from .question import OVERLAP, Bands, Question, Refine, Resolutions, Thresholds, View
from .scene_kinds import SceneLike, is_probabilities

__all__ = ["RemoteSAM"]


class RemoteSAM:
    """Questions in words, over scenes on the ground, pictures, and probabilities that were computed before.

    Args:
        model: The network: what `from_pretrained` opens, or an object with `image_size`, `identity` and `predict`.

    Examples:
        >>> from remotesam_geo import RemoteSAM, open_raster                      # doctest: +SKIP
        >>> model = RemoteSAM.from_pretrained("tiny")                              # doctest: +SKIP
        >>> model.detect(open_raster("harbour.tif"), ["ship", "storage tank"])     # doctest: +SKIP
    """

    def __init__(self, model: Predictor) -> None:
        self.model = model

    @property
    def model(self) -> Predictor:
        """The network. Another one takes effect at the next call."""
        return self._refined.model

    @model.setter
    def model(self, model: Predictor) -> None:
        check_predictor(model)
        self._refined = RefinedModel(model)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path | None = None,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        revision: str | None = None,
        sha256: str | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Open a network with its weights.

        Args:
            source: Nothing for the released weights (downloaded once), "tiny" for the small model of this package, a
                model folder, or a published `.pth`; "clipseg", "grounding-dino" or "owlv2" for these networks
                (see "Which model?" in the docs).
            device: "auto" for CUDA, then MPS, then the CPU; or a torch device.
            precision: "auto" for bfloat16 where the hardware is fast at it.
            revision: Commit, where the source is a repository.
            sha256: The identity the weights must have.
            local_files_only: Never ask the network.

        Raises:
            ModelError: The weights are missing, damaged, unsafe, or others than they should be.
        """
        one_of("precision", precision, get_args(Precision))
        adapter = adapter_named(source)
        if adapter is not None:
            if sha256 is not None:
                raise InputError(f"sha256 has no effect on {source!r}: its recipe holds the hashes")
            others = [None] * (len(adapter.SOURCES) - 1)
            return cls(
                adapter.open(
                    revisions=[revision, *others], device=device, precision=precision,
                    local_files_only=local_files_only,
                )
            )  # fmt: skip
        return cls(
            Network.open(
                source, device=device, precision=precision, revision=revision, sha256=sha256,
                local_files_only=local_files_only,
            )
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"RemoteSAM({', '.join(described(self.model).values())})"

    def _repr_html_(self) -> str:
        return card("RemoteSAM", "", facts(described(self.model)))

    # --- features -------------------------------------------------------------------------------

    def segment(
        self,
        scene: SceneLike,
        prompts: PromptLike | None = None,
        *,
        instances: bool = False,
        exclusive: bool = False,
        threshold: Thresholds = None,
        resolution: Resolutions = None,
        bands: Bands = None,
        stretch: Any = None,
        refine: Refine = None,
        suppress: Suppress | None = None,
        min_score: float = MIN_SCORE,
        min_area: float = 0,
        simplify: float = 0,
        smooth: int = 0,
        parts: Parts = "whole",
        overlap: float = OVERLAP,
        seam: Seam = "blend",
        geometry: Any = None,
        tiles: bool = False,
        crs: Any = None,
        details: bool = False,
        on_error: OnError = "raise",
        progress: bool | None = None,
    ) -> gpd.GeoDataFrame:
        """Outline everything of each class.

        Args:
            scene: A Dataset or DataArray; the path or URL of a raster; a picture (uint8 array, Pillow image, file
                without georeference); or what `probabilities` returned: then no model is run, and `prompts` may
                choose among its labels.
            prompts: Class names, each asked as "{name} in the image"; or a mapping from label to free expressions.
            instances: Whether the model tells objects apart, so that objects that touch are separate. Only some models
                can: see "Which model?" in the docs.
            exclusive: Whether a pixel belongs to its most probable class only; else classes may overlap.
            threshold: A pixel belongs where its probability is larger: a number from 0 to 1, or one for each label.
            resolution: Metres on the ground a pixel, "native", or "auto" for what suits the class; or one for each
                label.
            bands: Which bands are red, green and blue, as in `render`.
            stretch: How values become 8-bit colours, as in `render`.
            refine: "contours", or a contour model, to separate touching objects.
            suppress: Which components give way: "none" (the default for scenes), "enclosed" (those in holes of
                others), "published" (inner boxes and overlaps; the default for pictures).
            min_score: Least mean probability of a component.
            min_area: Least area of a component in square metres; of a picture in pixels.
            simplify: Metres (pixels of a picture) by which an outline may be left for fewer points.
            smooth: How often corners are cut, which rounds the steps of pixels.
            parts: "whole" gives one feature an object; "blocks" leaves large ones cut at block borders, their
                pieces sharing `id`, score and area.
            overlap: Share of a window that neighbouring windows have in common, up to a half.
            seam: "blend" weighs all windows that see a pixel; "paste" takes each pixel from one.
            geometry: Area of interest: shapely (degrees), GeoJSON, a GeoDataFrame or GeoSeries. Only windows whose
                cores touch it are predicted.
            tiles: Whether a picture is predicted window by window at its own scale, not as one shrunken square.
            crs: CRS of the result; by default the scene's.
            details: Whether to add the columns `score_max`, `resolution`, `view` and `run_id`.
            on_error: "raise" stops at the first window that fails; "skip" goes on, warns, and states the failed
                area.
            progress: Whether to show progress; by default for long work.

        Returns:
            A row for each component: outline, label, score, area, time, items and id.

        Raises:
            InputError: Something cannot be predicted as given.
            ReadError: Pixels could not be read.
        """
        question = Question(
            scene=scene, prompts=prompts, threshold=threshold, resolution=resolution, refine=refine,
            suppress=suppress, min_area=min_area, progress=progress,
            bands=bands, stretch=stretch, overlap=overlap, seam=seam, geometry=geometry, tiles=tiles, on_error=on_error,
            details=details, instances=instances,
        )  # fmt: skip
        options = FeatureOptions(
            min_score=min_score, exclusive=exclusive, parts=parts, simplify=simplify, smooth=smooth
        )
        return features(self._refined, question, options, crs=crs)

    def refer(
        self,
        scene: SceneLike,
        prompts: PromptLike | None = None,
        *,
        view: Literal["map", "scene"] = "map",
        threshold: Thresholds = None,
        resolution: Resolutions = None,
        bands: Bands = None,
        stretch: Any = None,
        refine: Refine = None,
        suppress: Suppress | None = None,
        min_score: float = MIN_SCORE,
        min_area: float = 0,
        simplify: float = 0,
        smooth: int = 0,
        parts: Parts = "whole",
        overlap: float = OVERLAP,
        seam: Seam = "blend",
        geometry: Any = None,
        tiles: bool = False,
        crs: Any = None,
        details: bool = False,
        on_error: OnError = "raise",
        progress: bool | None = None,
    ) -> gpd.GeoDataFrame:
        """Outline what free expressions refer to.

        Args:
            scene: A Dataset or DataArray; the path or URL of a raster; a picture (uint8 array, Pillow image, file
                without georeference); or what `probabilities` returned: then no model is run, and `prompts` may
                choose among its labels.
            prompts: Free expressions, asked exactly as they are written; or a mapping from label to expressions.
            view: "map" predicts a scene window by window; "scene" predicts all of it as one image. Words that make
                sense in one view only (left, largest) warn with "map".
            threshold: A pixel belongs where its probability is larger: a number from 0 to 1, or one for each label.
            resolution: Metres on the ground a pixel, "native", or "auto" for what suits the class; or one for each
                label.
            bands: Which bands are red, green and blue, as in `render`.
            stretch: How values become 8-bit colours, as in `render`.
            refine: "contours", or a contour model, to separate touching objects.
            suppress: Which components give way: "none" (the default for scenes), "enclosed" (those in holes of
                others), "published" (inner boxes and overlaps; the default for pictures).
            min_score: Least mean probability of a component.
            min_area: Least area of a component in square metres; of a picture in pixels.
            simplify: Metres (pixels of a picture) by which an outline may be left for fewer points.
            smooth: How often corners are cut, which rounds the steps of pixels.
            parts: "whole" gives one feature an object; "blocks" leaves large ones cut at block borders, their
                pieces sharing `id`, score and area.
            overlap: Share of a window that neighbouring windows have in common, up to a half.
            seam: "blend" weighs all windows that see a pixel; "paste" takes each pixel from one.
            geometry: Area of interest: shapely (degrees), GeoJSON, a GeoDataFrame or GeoSeries. Only windows whose
                cores touch it are predicted.
            tiles: Whether a picture is predicted window by window at its own scale, not as one shrunken square.
            crs: CRS of the result; by default the scene's.
            details: Whether to add the columns `score_max`, `resolution`, `view` and `run_id`.
            on_error: "raise" stops at the first window that fails; "skip" goes on, warns, and states the failed
                area.
            progress: Whether to show progress; by default for long work.

        Returns:
            A row for each component, as from `segment`.

        Raises:
            InputError: Something cannot be predicted as given.
            ReadError: Pixels could not be read.
        """
        one_of("view", view, ("map", "scene"))
        question = Question(
            scene=scene, prompts=prompts, template=None, threshold=threshold, resolution=resolution, refine=refine,
            suppress=suppress, min_area=min_area, progress=progress,
            bands=bands, stretch=stretch, view=view, overlap=overlap, seam=seam, geometry=geometry, tiles=tiles,
            on_error=on_error, details=details,
        )  # fmt: skip
        options = FeatureOptions(min_score=min_score, parts=parts, simplify=simplify, smooth=smooth)
        return features(self._refined, question, options, crs=crs)

    def detect(
        self,
        scene: SceneLike,
        prompts: PromptLike | None = None,
        *,
        instances: bool = False,
        oriented: bool = False,
        threshold: Thresholds = None,
        resolution: Resolutions = None,
        bands: Bands = None,
        stretch: Any = None,
        refine: Refine = None,
        suppress: Suppress | None = None,
        min_score: float = MIN_SCORE,
        min_area: float = 0,
        overlap: float = OVERLAP,
        seam: Seam = "blend",
        geometry: Any = None,
        tiles: bool = False,
        crs: Any = None,
        details: bool = False,
        on_error: OnError = "raise",
        progress: bool | None = None,
    ) -> gpd.GeoDataFrame:
        """Find the objects of each class: a row for each object, with its box.

        Args:
            scene: A Dataset or DataArray; the path or URL of a raster; a picture (uint8 array, Pillow image, file
                without georeference); or what `probabilities` returned: then no model is run, and `prompts` may
                choose among its labels.
            prompts: Class names, each asked as "{name} in the image"; or a mapping from label to free expressions.
            instances: Whether the model tells objects apart, so that objects that touch are separate. Only some models
                can: see "Which model?" in the docs.
            oriented: Whether to draw the smallest rectangle at any angle, in place of the box along the grid.
            threshold: A pixel belongs where its probability is larger: a number from 0 to 1, or one for each label.
            resolution: Metres on the ground a pixel, "native", or "auto" for what suits the class; or one for each
                label.
            bands: Which bands are red, green and blue, as in `render`.
            stretch: How values become 8-bit colours, as in `render`.
            refine: "contours", or a contour model, to separate touching objects.
            suppress: Which components give way: "none" (the default for scenes), "enclosed" (those in holes of
                others), "published" (inner boxes and overlaps; the default for pictures).
            min_score: Least mean probability of a component.
            min_area: Least area of a component in square metres; of a picture in pixels.
            overlap: Share of a window that neighbouring windows have in common, up to a half.
            seam: "blend" weighs all windows that see a pixel; "paste" takes each pixel from one.
            geometry: Area of interest: shapely (degrees), GeoJSON, a GeoDataFrame or GeoSeries. Only windows whose
                cores touch it are predicted.
            tiles: Whether a picture is predicted window by window at its own scale, not as one shrunken square.
            crs: CRS of the result; by default the scene's.
            details: Whether to add the columns `score_max`, `resolution`, `view` and `run_id`.
            on_error: "raise" stops at the first window that fails; "skip" goes on, warns, and states the failed
                area.
            progress: Whether to show progress; by default for long work.

        Returns:
            A row for each object, as from `segment`; `area_m2` is the area of the box.

        Raises:
            InputError: Something cannot be predicted as given.
            ReadError: Pixels could not be read.
        """
        one_of("oriented", oriented, (True, False))
        question = Question(
            scene=scene, prompts=prompts, threshold=threshold, resolution=resolution, refine=refine,
            suppress=suppress, min_area=min_area, progress=progress,
            bands=bands, stretch=stretch, overlap=overlap, seam=seam, geometry=geometry, tiles=tiles, on_error=on_error,
            details=details, instances=instances,
        )  # fmt: skip
        outline: Literal["oriented", "box"] = "oriented" if oriented else "box"
        options = FeatureOptions(outline=outline, min_score=min_score)
        return features(self._refined, question, options, crs=crs)

    def ground(
        self,
        scene: SceneLike,
        prompts: PromptLike,
        *,
        threshold: Thresholds = None,
        bands: Bands = None,
        stretch: Any = None,
        min_score: float = MIN_SCORE,
        crs: Any = None,
        details: bool = False,
        on_error: OnError = "raise",
        progress: bool | None = None,
    ) -> gpd.GeoDataFrame:
        """Find the one box of each free expression, predicting all of the scene as one image.

        Args:
            scene: A Dataset or DataArray; the path or URL of a raster; or a picture (uint8 array, Pillow image,
                file without georeference).
            prompts: Free expressions, asked exactly as they are written; or a mapping from label to expressions.
            threshold: A pixel belongs where its probability is larger: a number from 0 to 1, or one for each label.
            bands: Which bands are red, green and blue, as in `render`.
            stretch: How values become 8-bit colours, as in `render`.
            min_score: Least mean probability of a component.
            crs: CRS of the result; by default the scene's.
            details: Whether to add the columns `score_max`, `resolution`, `view` and `run_id`.
            on_error: "raise" stops at the first window that fails; "skip" goes on, warns, and states the failed
                area.
            progress: Whether to show progress; by default for long work.

        Returns:
            A row for each expression that was found: the box around all that belongs to it.

        Raises:
            InputError: Something cannot be predicted as given.
            ReadError: Pixels could not be read.
        """
        if is_probabilities(scene):
            raise InputError(
                "ground looks at a whole scene in one view, which probabilities no longer hold: give the scene"
            )
        question = Question(
            scene=scene, prompts=prompts, template=None, threshold=threshold, suppress="none", progress=progress,
            bands=bands, stretch=stretch, view="scene", on_error=on_error, details=details,
        )  # fmt: skip
        options = FeatureOptions(outline="box", min_score=min_score)
        return features(self._refined, question, options, crs=crs, one_each=True)

    # --- zones ----------------------------------------------------------------------------------

    def label(
        self,
        scene: SceneLike,
        prompts: PromptLike | None = None,
        *,
        zones: gpd.GeoDataFrame | None = None,
        view: View = "map",
        balance: float = MULTI_LABEL_BALANCE,
        threshold: Thresholds = None,
        resolution: Resolutions = None,
        bands: Bands = None,
        stretch: Any = None,
        overlap: float = OVERLAP,
        seam: Seam = "blend",
        geometry: Any = None,
        tiles: bool = False,
        details: bool = False,
        on_error: OnError = "raise",
        progress: bool | None = None,
    ) -> gpd.GeoDataFrame:
        """Say which of several classes each zone shows.

        Args:
            scene: A Dataset or DataArray; the path or URL of a raster; a picture (uint8 array, Pillow image, file
                without georeference); or what `probabilities` returned: then no model is run, and `prompts` may
                choose among its labels.
            prompts: Class names, each asked as "{name} in the image"; or a mapping from label to free expressions.
            zones: Polygons; their index, columns and order are kept. By default the windows' cores; all of a
                picture, and of a scene with `view="scene"`.
            view: "map" reduces one map over the zones; "scene" predicts the whole scene as one image; "zone"
                predicts one image for each zone, a square around it.
            balance: Weight of the largest probability against the mean in a zone's score.
            threshold: A label holds where its score is larger: a number from 0 to 1, or one for each label.
            resolution: Metres on the ground a pixel, "native", or "auto" for what suits the class; or one for each
                label.
            bands: Which bands are red, green and blue, as in `render`.
            stretch: How values become 8-bit colours, as in `render`.
            overlap: Share of a window that neighbouring windows have in common, up to a half.
            seam: "blend" weighs all windows that see a pixel; "paste" takes each pixel from one.
            geometry: Area of interest: shapely (degrees), GeoJSON, a GeoDataFrame or GeoSeries. Only windows whose
                cores touch it are predicted.
            tiles: Whether a picture is predicted window by window at its own scale, not as one shrunken square.
            details: Whether to add the columns `score_max`, `resolution`, `view` and `run_id`.
            on_error: "raise" stops at the first window that fails; "skip" goes on, warns, and states the failed
                area.
            progress: Whether to show progress; by default for long work.

        Returns:
            The zones, a row for each time and label that holds; one without a label (NA) where none does.

        Raises:
            InputError: Something cannot be predicted as given.
            ReadError: Pixels could not be read.
        """
        number_in("balance", balance, 0, 1)
        question = Question(
            scene=scene, prompts=prompts, threshold=threshold, resolution=resolution, progress=progress,
            bands=bands, stretch=stretch, view=view, overlap=overlap, seam=seam, geometry=geometry, tiles=tiles,
            on_error=on_error, details=details,
        )  # fmt: skip

        def rows(found: ZoneAnswers) -> gpd.GeoDataFrame:
            return label_frame(found.sums, found.labels, details=found.details, balance=balance)

        return over_zones(self._refined, question, zones, rows, columns=LABEL_COLUMNS)

    def classify(
        self,
        scene: SceneLike,
        prompts: PromptLike | None = None,
        *,
        zones: gpd.GeoDataFrame | None = None,
        view: View = "map",
        threshold: Thresholds = None,
        resolution: Resolutions = None,
        bands: Bands = None,
        stretch: Any = None,
        overlap: float = OVERLAP,
        seam: Seam = "blend",
        geometry: Any = None,
        tiles: bool = False,
        details: bool = False,
        on_error: OnError = "raise",
        progress: bool | None = None,
    ) -> gpd.GeoDataFrame:
        """Give each zone its one label: the best of those that reach their thresholds, or none (NA).

        Args:
            scene: A Dataset or DataArray; the path or URL of a raster; a picture (uint8 array, Pillow image, file
                without georeference); or what `probabilities` returned: then no model is run, and `prompts` may
                choose among its labels.
            prompts: Class names, each asked as "{name} in the image"; or a mapping from label to free expressions.
            zones: Polygons; their index, columns and order are kept. By default the windows' cores; all of a
                picture, and of a scene with `view="scene"`.
            view: "map" reduces one map over the zones; "scene" predicts the whole scene as one image; "zone"
                predicts one image for each zone, a square around it.
            threshold: A label holds where its score is larger: a number from 0 to 1, or one for each label.
            resolution: Metres on the ground a pixel, "native", or "auto" for what suits the class; or one for each
                label.
            bands: Which bands are red, green and blue, as in `render`.
            stretch: How values become 8-bit colours, as in `render`.
            overlap: Share of a window that neighbouring windows have in common, up to a half.
            seam: "blend" weighs all windows that see a pixel; "paste" takes each pixel from one.
            geometry: Area of interest: shapely (degrees), GeoJSON, a GeoDataFrame or GeoSeries. Only windows whose
                cores touch it are predicted.
            tiles: Whether a picture is predicted window by window at its own scale, not as one shrunken square.
            details: Whether to add the columns `score_max`, `resolution`, `view` and `run_id`.
            on_error: "raise" stops at the first window that fails; "skip" goes on, warns, and states the failed
                area.
            progress: Whether to show progress; by default for long work.

        Returns:
            The zones, a row for each time.

        Raises:
            InputError: Something cannot be predicted as given.
            ReadError: Pixels could not be read.
        """
        question = Question(
            scene=scene, prompts=prompts, threshold=threshold, resolution=resolution, progress=progress,
            bands=bands, stretch=stretch, view=view, overlap=overlap, seam=seam, geometry=geometry, tiles=tiles,
            on_error=on_error, details=details,
        )  # fmt: skip

        def rows(found: ZoneAnswers) -> gpd.GeoDataFrame:
            return classify_frame(found.sums, found.labels, details=found.details)

        return over_zones(self._refined, question, zones, rows, columns=LABEL_COLUMNS)

    def count(
        self,
        scene: SceneLike,
        prompts: PromptLike | None = None,
        *,
        zones: gpd.GeoDataFrame | None = None,
        wide: bool = False,
        predicate: Predicate = "point",
        threshold: Thresholds = None,
        resolution: Resolutions = None,
        bands: Bands = None,
        stretch: Any = None,
        refine: Refine = None,
        suppress: Suppress | None = None,
        min_score: float = MIN_SCORE,
        min_area: float = 0,
        overlap: float = OVERLAP,
        seam: Seam = "blend",
        geometry: Any = None,
        tiles: bool = False,
        details: bool = False,
        on_error: OnError = "raise",
        progress: bool | None = None,
    ) -> gpd.GeoDataFrame:
        """Count the objects of each class in each zone.

        Args:
            scene: A Dataset or DataArray; the path or URL of a raster; a picture (uint8 array, Pillow image, file
                without georeference); or what `probabilities` returned: then no model is run, and `prompts` may
                choose among its labels.
            prompts: Class names, each asked as "{name} in the image"; or a mapping from label to free expressions.
            zones: Polygons; their index, columns and order are kept. By default the windows' cores; all of a
                picture.
            wide: Whether labels become columns.
            predicate: An object belongs to the zone of a point in it ("point"), to each that it touches
                ("intersects"), or by shares of its area ("area").
            threshold: A pixel belongs where its probability is larger: a number from 0 to 1, or one for each label.
            resolution: Metres on the ground a pixel, "native", or "auto" for what suits the class; or one for each
                label.
            bands: Which bands are red, green and blue, as in `render`.
            stretch: How values become 8-bit colours, as in `render`.
            refine: "contours", or a contour model, to separate touching objects.
            suppress: Which components give way: "none" (the default for scenes), "enclosed" (those in holes of
                others), "published" (inner boxes and overlaps; the default for pictures).
            min_score: Least mean probability of a component.
            min_area: Least area of a component in square metres; of a picture in pixels.
            overlap: Share of a window that neighbouring windows have in common, up to a half.
            seam: "blend" weighs all windows that see a pixel; "paste" takes each pixel from one.
            geometry: Area of interest: shapely (degrees), GeoJSON, a GeoDataFrame or GeoSeries. Only windows whose
                cores touch it are predicted.
            tiles: Whether a picture is predicted window by window at its own scale, not as one shrunken square.
            details: Whether to add the columns `score_max`, `resolution`, `view` and `run_id`.
            on_error: "raise" stops at the first window that fails; "skip" goes on, warns, and states the failed
                area.
            progress: Whether to show progress; by default for long work.

        Returns:
            The zones, a row for each time and label; 0 where nothing is found, NA where nothing is valid.

        Raises:
            InputError: Something cannot be predicted as given.
            ReadError: Pixels could not be read.
        """
        one_of("predicate", predicate, get_args(Predicate))
        one_of("wide", wide, (True, False))
        question = Question(
            scene=scene, prompts=prompts, threshold=threshold, resolution=resolution, refine=refine,
            suppress=suppress, min_area=min_area, progress=progress,
            bands=bands, stretch=stretch, overlap=overlap, seam=seam, geometry=geometry, tiles=tiles, on_error=on_error,
            details=details,
        )  # fmt: skip

        def rows(found: ZoneAnswers) -> gpd.GeoDataFrame:
            return count_frame(
                found.sums, found.features, found.labels, details=found.details,
                predicate=predicate, wide=wide,
            )  # fmt: skip

        return over_zones(
            self._refined, question, zones, rows, columns=None if wide else COUNT_COLUMNS,
            options=FeatureOptions(min_score=min_score), contour_threshold=COUNT_CONTOUR_THRESHOLD,
        )  # fmt: skip

    def caption(
        self,
        scene: SceneLike,
        prompts: PromptLike | None = None,
        *,
        zones: gpd.GeoDataFrame | None = None,
        view: View = "map",
        threshold: Thresholds = None,
        resolution: Resolutions = None,
        bands: Bands = None,
        stretch: Any = None,
        refine: Refine = None,
        suppress: Suppress | None = None,
        min_score: float = MIN_SCORE,
        min_area: float = 0,
        overlap: float = OVERLAP,
        seam: Seam = "blend",
        geometry: Any = None,
        tiles: bool = False,
        details: bool = False,
        on_error: OnError = "raise",
        progress: bool | None = None,
    ) -> gpd.GeoDataFrame:
        """Describe each zone in a sentence: what there is of the classes asked for, how many, and where.

        Args:
            scene: A Dataset or DataArray; the path or URL of a raster; a picture (uint8 array, Pillow image, file
                without georeference); or what `probabilities` returned: then no model is run, and `prompts` may
                choose among its labels.
            prompts: Class names, each asked as "{name} in the image"; or a mapping from label to free expressions.
            zones: Polygons; their index, columns and order are kept. By default the windows' cores; all of a
                picture, and of a scene with `view="scene"`.
            view: "map" reduces one map over the zones; "scene" predicts the whole scene as one image; "zone"
                predicts one image for each zone, a square around it.
            threshold: A pixel belongs where its probability is larger: a number from 0 to 1, or one for each label.
            resolution: Metres on the ground a pixel, "native", or "auto" for what suits the class; or one for each
                label.
            bands: Which bands are red, green and blue, as in `render`.
            stretch: How values become 8-bit colours, as in `render`.
            refine: "contours", or a contour model, to separate touching objects.
            suppress: Which components give way: "none" (the default for scenes), "enclosed" (those in holes of
                others), "published" (inner boxes and overlaps; the default for pictures).
            min_score: Least mean probability of a component.
            min_area: Least area of a component in square metres; of a picture in pixels.
            overlap: Share of a window that neighbouring windows have in common, up to a half.
            seam: "blend" weighs all windows that see a pixel; "paste" takes each pixel from one.
            geometry: Area of interest: shapely (degrees), GeoJSON, a GeoDataFrame or GeoSeries. Only windows whose
                cores touch it are predicted.
            tiles: Whether a picture is predicted window by window at its own scale, not as one shrunken square.
            details: Whether to add the columns `score_max`, `resolution`, `view` and `run_id`.
            on_error: "raise" stops at the first window that fails; "skip" goes on, warns, and states the failed
                area.
            progress: Whether to show progress; by default for long work.

        Returns:
            The zones, a row for each time; no sentence (NA) where nothing is valid.

        Raises:
            InputError: Something cannot be predicted as given.
            ReadError: Pixels could not be read.
        """
        question = Question(
            scene=scene, prompts=prompts, threshold=threshold, resolution=resolution, progress=progress, refine=refine,
            suppress=suppress, min_area=min_area,
            bands=bands, stretch=stretch, view=view, overlap=overlap, seam=seam, geometry=geometry, tiles=tiles,
            on_error=on_error, details=details,
        )  # fmt: skip

        def rows(found: ZoneAnswers) -> gpd.GeoDataFrame:
            return caption_frame(found.sums, found.features, found.labels, details=found.details)

        return over_zones(
            self._refined, question, zones, rows, columns=CAPTION_COLUMNS, options=FeatureOptions(min_score=min_score)
        )  # fmt: skip

    # --- the map itself -------------------------------------------------------------------------

    def probabilities(
        self,
        scene: SceneLike,
        prompts: PromptLike,
        *,
        resolution: ResolutionLike | None = None,
        bands: Bands = None,
        stretch: Any = None,
        overlap: float = OVERLAP,
        seam: Seam = "blend",
        geometry: Any = None,
    ) -> xr.DataArray:
        """The map of each prompt, lazily: windows are predicted when values are wanted, each once.

        Every other verb but `ground` takes it in place of a scene, and then runs no model.

        Args:
            scene: A Dataset or DataArray, or the path or URL of a raster.
            prompts: Class names, each asked as "{name} in the image"; or a mapping from label to free expressions.
            resolution: Metres on the ground a pixel, "native", or "auto": one for all prompts.
            bands: Which bands are red, green and blue, as in `render`.
            stretch: How values become 8-bit colours, as in `render`.
            overlap: Share of a window that neighbouring windows have in common, up to a half.
            seam: "blend" weighs all windows that see a pixel; "paste" takes each pixel from one.
            geometry: Area of interest: shapely (degrees), GeoJSON, a GeoDataFrame or GeoSeries. Only windows whose
                cores touch it are predicted.

        Returns:
            Probabilities from 0 to 1 (time if there are several, prompt, y, x) on the scene's grid, or on that of
            the resolution; NaN where there is no answer. Zarr and COG store a byte for each.

        Raises:
            InputError: Something cannot be predicted as given.
        """
        question = Question(
            scene=scene, prompts=prompts, resolution=resolution,
            bands=bands, stretch=stretch, overlap=overlap, seam=seam, geometry=geometry,
        )  # fmt: skip
        return probability_array(*one_map(self._refined, question))

    def classmap(
        self,
        scene: SceneLike,
        classes: PromptLike,
        *,
        threshold: Thresholds = None,
        resolution: ResolutionLike | None = None,
        bands: Bands = None,
        stretch: Any = None,
        overlap: float = OVERLAP,
        seam: Seam = "blend",
        geometry: Any = None,
    ) -> xr.DataArray:
        """The most probable class of each pixel, lazily.

        Args:
            scene: A Dataset or DataArray, or the path or URL of a raster.
            classes: Class names; or a mapping from label to free expressions.
            threshold: A pixel belongs where its probability is larger: a number from 0 to 1, or one for each label.
            resolution: Metres on the ground a pixel, "native", or "auto": one for all classes.
            bands: Which bands are red, green and blue, as in `render`.
            stretch: How values become 8-bit colours, as in `render`.
            overlap: Share of a window that neighbouring windows have in common, up to a half.
            seam: "blend" weighs all windows that see a pixel; "paste" takes each pixel from one.
            geometry: Area of interest: shapely (degrees), GeoJSON, a GeoDataFrame or GeoSeries. Only windows whose
                cores touch it are predicted.

        Returns:
            Numbers of classes from 1 in the order asked, 0 for background, -1 where there is no answer; names in
            `attrs["flag_meanings"]`.

        Raises:
            InputError: Something cannot be predicted as given.
        """
        question = Question(
            scene=scene, prompts=classes, threshold=threshold, resolution=resolution,
            bands=bands, stretch=stretch, overlap=overlap, seam=seam, geometry=geometry,
        )  # fmt: skip
        return class_array(*one_map(self._refined, question))
