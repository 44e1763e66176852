"""The class `RemoteSAM`: questions in words over lazy scenes, answered with GeoDataFrames."""

import json
import uuid
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import geopandas as gpd
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS
from tqdm.auto import tqdm

from remotesam_geo import __version__
from remotesam_geo.errors import InputError, RemoteSAMWarning
from remotesam_geo.mapping.executor import Failure, OnError, Work
from remotesam_geo.mapping.frames import to_frame
from remotesam_geo.mapping.grid import Grid
from remotesam_geo.mapping.ground import Resolution, pixel_size
from remotesam_geo.mapping.source import scene_source
from remotesam_geo.mapping.stitch import Codes, Seam
from remotesam_geo.mapping.survey import Choice, Survey, survey
from remotesam_geo.scenes import open_raster
from remotesam_geo.tasks import MIN_SCORE, Suppress
from remotesam_geo.words import (
    CLASS_TEMPLATE,
    Prompt,
    PromptLike,
    ResolutionLike,
    auto_resolution,
    distinct_expressions,
    parse_prompts,
    view_words,
)

if TYPE_CHECKING:
    from remotesam_geo.model import Predictor, RemoteSAMProcessor

__all__ = ["Model", "RemoteSAM"]

SceneLike = xr.Dataset | xr.DataArray | str | Path
"""A lazy or eager scene, or the path or URL of a raster."""

OVERLAP = 1 / 4
"""Share of a window that neighbouring windows have in common."""
LONG = 8
"""Tiles from which progress is shown."""


class Model(Protocol):
    """What `RemoteSAM` asks: a network with its weights, or any function of pictures and words."""

    @property
    def image_size(self) -> int:
        """Side of the square pictures it takes, in pixels."""

    @property
    def identity(self) -> str:
        """What its answers depend on: the hash of its weights, or a name."""

    def predict(self, images: NDArray[np.uint8], expressions: Sequence[str]) -> Codes:
        """Pictures (B x S x S x 3) and P expressions to codes (B x P x S x S)."""


@dataclass(frozen=True, kw_only=True)
class _Network:
    """The network with its weights, as a model to ask."""

    predictor: "Predictor"
    processor: "RemoteSAMProcessor"
    identity: str

    @property
    def image_size(self) -> int:
        return int(self.predictor.config.image_size)

    def predict(self, images: NDArray[np.uint8], expressions: Sequence[str]) -> Codes:
        codes: Codes = self.predictor.predict(images, expressions)
        return codes

    def cut_words(self, expression: str) -> str:
        cut: str = self.processor.cut_words(expression)
        return cut


class RemoteSAM:
    """Questions in words, over scenes and rasters.

    Args:
        model: What answers.

    Example:
        >>> from remotesam_geo import RemoteSAM, open_raster                      # doctest: +SKIP
        >>> model = RemoteSAM.from_pretrained("tiny")                              # doctest: +SKIP
        >>> model.detect(open_raster("harbour.tif"), ["ship", "storage tank"])     # doctest: +SKIP
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path | None = None,
        *,
        device: str = "auto",
        precision: Literal["auto", "float32", "bfloat16"] = "auto",
        revision: str | None = None,
        sha256: str | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Open a network with its weights.

        Args:
            source: Nothing for the released weights (downloaded once), "tiny" for the small model of this package, a
                model folder, or a published `.pth`.
            device: "auto" for CUDA, then MPS, then the CPU; or a torch device.
            precision: "auto" for bfloat16 where the hardware is fast at it.
            revision: Commit, where the source is a repository.
            sha256: The identity the weights must have.
            local_files_only: Never ask the network.

        Raises:
            ModelError: The weights are missing, damaged, unsafe, or others than they should be.
        """
        from remotesam_geo.model import (  # noqa: PLC0415 - torch takes its time
            Predictor,
            RemoteSAMModel,
            RemoteSAMProcessor,
            weights_sha256,
        )

        network = RemoteSAMModel.from_pretrained(
            source, revision=revision, sha256=sha256, local_files_only=local_files_only
        )
        processor = RemoteSAMProcessor.from_pretrained(
            source, config=network.config, revision=revision, local_files_only=local_files_only
        )
        predictor = Predictor(network, processor, device=device, precision=precision)
        return cls(
            _Network(predictor=predictor, processor=processor, identity=weights_sha256(network))
        )

    def __repr__(self) -> str:
        return f"RemoteSAM({self.model.identity}, {self.model.image_size} px)"

    def segment(
        self,
        scene: SceneLike,
        prompts: PromptLike,
        *,
        threshold: float | Mapping[str, float] | None = None,
        resolution: ResolutionLike | Mapping[str, ResolutionLike] | None = None,
        bands: str | Sequence[str | int] | None = None,
        stretch: Any = None,
        suppress: Suppress = "none",
        min_score: float = MIN_SCORE,
        overlap: float = OVERLAP,
        seam: Seam = "paste",
        crs: Any = None,
        on_error: OnError = "raise",
        progress: bool | None = None,
    ) -> gpd.GeoDataFrame:
        """Outline everything of each class; classes may overlap.

        Args:
            scene: What to look at.
            prompts: Class names; or a mapping from label to free expressions.
            threshold: A pixel belongs where its probability is larger: one, or by label.
            resolution: Metres on the ground a pixel, "native", or "auto": one, or by label.
            bands: As in `render`.
            stretch: As in `render`.
            suppress: Which components give way: "none", "enclosed" (those in holes of others), "published".
            min_score: Least mean probability of a component.
            overlap: Share of a window that neighbours have in common, up to a half.
            seam: "paste" takes each pixel from one window, "blend" weighs all that see it.
            crs: CRS of the result; by default the scene's.
            on_error: "raise" stops at the first tile that fails, "skip" goes on, warns, and states the failed area.
            progress: Whether to show progress; by default for long work.

        Returns:
            A row per component: its outline, label, score and more (see "Results").

        Raises:
            InputError: Something cannot be asked as given.
            ReadError: Pixels could not be read.
        """
        parsed = self._parsed(prompts, CLASS_TEMPLATE, threshold, resolution)
        return self._surveyed(
            scene, parsed, Choice(suppress=suppress, min_score=min_score), bands=bands,
            stretch=stretch, overlap=overlap, seam=seam, crs=crs, on_error=on_error,
            progress=progress,
        )  # fmt: skip

    def refer(
        self,
        scene: SceneLike,
        prompts: PromptLike,
        *,
        threshold: float | Mapping[str, float] | None = None,
        resolution: ResolutionLike | Mapping[str, ResolutionLike] | None = None,
        bands: str | Sequence[str | int] | None = None,
        stretch: Any = None,
        suppress: Suppress = "none",
        min_score: float = MIN_SCORE,
        overlap: float = OVERLAP,
        seam: Seam = "paste",
        crs: Any = None,
        on_error: OnError = "raise",
        progress: bool | None = None,
    ) -> gpd.GeoDataFrame:
        """Outline what free expressions refer to, asked exactly as they are written.

        Words that only make sense in one view (left, largest) warn: the scene is asked window by window.

        Args and results are those of `segment`.
        """
        parsed = self._parsed(prompts, None, threshold, resolution)
        return self._surveyed(
            scene, parsed, Choice(suppress=suppress, min_score=min_score), bands=bands,
            stretch=stretch, overlap=overlap, seam=seam, crs=crs, on_error=on_error,
            progress=progress,
        )  # fmt: skip

    def detect(
        self,
        scene: SceneLike,
        prompts: PromptLike,
        *,
        oriented: bool = False,
        threshold: float | Mapping[str, float] | None = None,
        resolution: ResolutionLike | Mapping[str, ResolutionLike] | None = None,
        bands: str | Sequence[str | int] | None = None,
        stretch: Any = None,
        suppress: Suppress = "none",
        min_score: float = MIN_SCORE,
        overlap: float = OVERLAP,
        seam: Seam = "paste",
        crs: Any = None,
        on_error: OnError = "raise",
        progress: bool | None = None,
    ) -> gpd.GeoDataFrame:
        """Find the objects of each class: a row per object, with its box.

        Args and results are those of `segment`; `oriented` draws the smallest rectangle at any angle in place of the
        box along the grid. `area_m2` is the area of what is drawn.
        """
        parsed = self._parsed(prompts, CLASS_TEMPLATE, threshold, resolution)
        choice = Choice(
            outline="oriented" if oriented else "box", suppress=suppress, min_score=min_score
        )
        return self._surveyed(
            scene, parsed, choice, bands=bands, stretch=stretch, overlap=overlap, seam=seam,
            crs=crs, on_error=on_error, progress=progress,
        )  # fmt: skip

    def _parsed(
        self,
        prompts: PromptLike,
        template: str | None,
        threshold: float | Mapping[str, float] | None,
        resolution: ResolutionLike | Mapping[str, ResolutionLike] | None,
    ) -> tuple[Prompt, ...]:
        parsed = parse_prompts(
            prompts,
            template=template,
            threshold=threshold,
            resolution=resolution,
            cut_words=getattr(self.model, "cut_words", None),
        )
        for prompt in parsed:
            for expression in prompt.expressions:
                if words := view_words(expression):
                    warnings.warn(
                        f"{', '.join(map(repr, words))} in {expression!r} makes sense in one view only, but a scene is "
                        "asked window by window: it will be answered for each window apart",
                        RemoteSAMWarning,
                        stacklevel=4,
                    )
        return parsed

    def _surveyed(
        self,
        scene: SceneLike,
        prompts: tuple[Prompt, ...],
        choice: Choice,
        *,
        bands: str | Sequence[str | int] | None,
        stretch: Any,
        overlap: float,
        seam: Seam,
        crs: Any,
        on_error: OnError,
        progress: bool | None,
    ) -> gpd.GeoDataFrame:
        opened = _opened(scene)
        run_id = uuid.uuid4().hex
        tables, notes = [], []
        for metres, group in _by_resolution(prompts, opened, self.model.image_size):
            source = scene_source(opened, bands=bands, stretch=stretch, resolution=metres)
            expressions, members = distinct_expressions(group)
            size = self.model.image_size
            work = Work(
                source=source,
                grid=Grid(
                    shape=source.geobox.shape.yx, window=size, overlap=2 * round(overlap * size / 2)
                ),
                expressions=expressions,
                seam=seam,
                on_error=on_error,
            )
            show = work.size >= LONG if progress is None else progress
            with tqdm(total=work.size, desc="asking", unit="tile", disable=not show) as bar:
                result = survey(
                    work, self.model.predict, group, members, choice, progress=bar.update
                )
            _warn_of_failures(result.failures, work)
            tables.append(
                to_frame(
                    result.found,
                    source.geobox,
                    crs=CRS.from_user_input(str(_geobox(opened).crs) if crs is None else crs),
                    outline=choice.outline,
                    view="map",
                    run_id=run_id,
                )
            )
            notes.append(_note(group, work, result))
        joined = pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0]
        order = [prompt.label for prompt in prompts]
        joined = joined.sort_values(
            "label", key=lambda labels: labels.map(order.index), kind="stable", ignore_index=True
        )
        joined.attrs["remotesam"] = json.dumps(
            {
                "remotesam_geo": __version__,
                "model": self.model.identity,
                "run_id": run_id,
                "asked": notes,
            }
        )
        return joined


def _opened(scene: SceneLike) -> xr.Dataset | xr.DataArray:
    if isinstance(scene, str | Path):
        opened: xr.Dataset = open_raster(scene)
        return opened
    if isinstance(scene, xr.Dataset | xr.DataArray):
        return scene
    raise InputError(
        f"a scene is an xarray Dataset or DataArray, or the path or URL of a raster, not a {type(scene).__name__}"
    )


def _geobox(scene: xr.Dataset | xr.DataArray) -> GeoBox:
    geobox = scene.odc.geobox
    if not isinstance(geobox, GeoBox) or geobox.crs is None:
        raise InputError(
            "this scene has no CRS, so its answers would lie nowhere on Earth: assign one with "
            "scene.rio.write_crs('EPSG:...')"
        )
    return geobox


def _by_resolution(
    prompts: Sequence[Prompt], scene: xr.Dataset | xr.DataArray, window: int
) -> list[tuple[Resolution, list[Prompt]]]:
    """Prompts that are asked at one resolution together, in the order asked."""
    native = pixel_size(_geobox(scene)).metres
    groups: dict[Resolution, list[Prompt]] = {}
    for prompt in prompts:
        wanted = prompt.resolution
        if wanted == "auto":
            wanted = auto_resolution(prompt.expressions[0], window)
        # Nothing is gained by asking finer than the scene was seen.
        key: Resolution = "native" if wanted is None or wanted <= native else float(wanted)
        groups.setdefault(key, []).append(prompt)
    return list(groups.items())


def _warn_of_failures(failures: Sequence[Failure], work: Work) -> None:
    if failures:
        metres = pixel_size(work.source.geobox).metres
        area = sum(np.prod(failure.core.shape) for failure in failures) * metres**2
        warnings.warn(
            f"{len(failures)} of {work.size} tiles failed, {area:,.0f} m2 of ground without an answer; the first: "
            f"{failures[0].cause}",
            RemoteSAMWarning,
            stacklevel=4,
        )


def _note(prompts: Sequence[Prompt], work: Work, result: Survey) -> dict[str, Any]:
    """How a group of prompts was asked, as plain JSON."""
    geobox = work.source.geobox
    return {
        "prompts": [asdict(prompt) for prompt in prompts],
        "grid": work.grid.to_json(),
        "crs": str(geobox.crs),
        "transform": list(geobox.affine[:6]),
        "seam": work.seam,
        "failures": [asdict(failure) for failure in result.failures],
        "dropped": {label: asdict(count) for label, count in result.dropped.items()},
    }
