"""The class `Job`: a plan frozen in a folder, and the methods to run and answer it."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import geopandas as gpd
import pandas as pd
import xarray as xr
from rasterio.errors import NotGeoreferencedWarning

from remotesam_geo.errors import InputError, JobError, RemoteSAMWarning, number_in, one_of
from remotesam_geo.mapping.collect import warn_of_no_data
from remotesam_geo.mapping.executor import OnError
from remotesam_geo.mapping.feature_options import FeatureOptions
from remotesam_geo.mapping.feature_table import wanted_crs
from remotesam_geo.mapping.lazy import as_probabilities, note_failures
from remotesam_geo.mapping.polygons import Outline, Parts
from remotesam_geo.mapping.run_notes import note_of_prompts, note_of_run
from remotesam_geo.mapping.stitch import Seam
from remotesam_geo.notebook import tqdm
from remotesam_geo.predictors.contours import Refine, check_refine
from remotesam_geo.remotesam.question import OVERLAP
from remotesam_geo.scenes import ReadPolicy
from remotesam_geo.tasks import MIN_SCORE, Suppress
from remotesam_geo.words import Prompt, PromptLike, ResolutionLike, check_resolutions, parse_prompts

from .display import job_card
from .distributed import predict_on_cluster
from .inputs import (
    as_geojson,
    check_client,
    check_options,
    check_place,
    parsed,
    scene_of,
    with_new,
    without,
)
from .job_folder import drive, look_into
from .kept_maps import kept_failures, kept_maps
from .models import JobModel, ModelLike, built_in_processor, opened_model, reopened
from .outline_stage import outline
from .plan import Plan, PlanGroup, check_prompts, groups
from .predict_stage import Todo, again, predict_here, todo
from .remove_prompts import discard, only
from .reports import Estimate, estimate, failed_windows, joined, state_of, warn_of_failures
from .source_headers import File, changes, describe
from .source_recipe import SourceRecipe
from .storage.ledger import MOST_ATTEMPTS, lock
from .storage.map_store import writing
from .storage.plan_file import PLAN, PlanFile, check_free, read_plan_file, write_plan_file
from .storage.stored_layers import Records, layers
from .stored_check import check_stored

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Job"]

LONG = 8
"""Windows from which progress is shown."""
SHOWN = 3
"""Changed files that a message names."""

Verb = Literal["segment", "refer", "detect"]


class Job:
    """Predictions over a large area: made block by block, kept in a folder, resumed after anything.

    A job is made by `Job.create` and found again by `Job.open`.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> from odc.geo.geobox import GeoBox
        >>> from odc.geo.xr import xr_zeros
        >>> from remotesam_geo import Job
        >>> class Bright:  # any model will do
        ...     image_size, identity = 64, "bright"
        ...     def predict(self, images, expressions):
        ...         return np.stack([images[..., 0] // 2] * len(expressions), axis=1)
        >>> place = GeoBox.from_bbox((500000, 0, 500100, 100), crs="EPSG:32633", resolution=1)
        >>> scene = xr_zeros(place, "uint8").to_dataset(name="grey")
        >>> scene.grey[20:30, 40:90] = 250
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = scene.to_zarr(f"{folder}/scene.zarr", zarr_format=2)
        ...     job = Job.create(f"{folder}/job", f"{folder}/scene.zarr", {"roof": "a bright roof"}, Bright())
        ...     status = job.run()
        ...     job.answer("detect").area_m2.round().tolist()
        [500.0]
    """

    def __init__(
        self,
        folder: Path,
        *,
        plan: Plan,
        prompts: tuple[Prompt, ...],
        recipe: Mapping[str, Any] | None,
        model: JobModel | None,
        policy: ReadPolicy | None,
    ) -> None:
        self.folder = folder
        self.prompts = prompts
        self.frozen = plan
        self._recipe, self._given_model, self._policy = recipe, model, policy
        self._files: Sequence[File] = ()

    @classmethod
    def create(
        cls,
        folder: str | PathLike[str],
        source: Any,
        prompts: PromptLike,
        model: ModelLike = "1e12Leon/RemoteSAM",
        *,
        load: Mapping[str, Any] | None = None,
        threshold: float | Mapping[str, float] | None = None,
        resolution: ResolutionLike | Mapping[str, ResolutionLike] | None = None,
        bands: str | Sequence[str | int] | None = None,
        stretch: Any = None,
        refine: Refine = None,
        overlap: float = OVERLAP,
        seam: Seam = "blend",
        geometry: Any = None,
        block: int = 4,
        keep_probabilities: bool = True,
        policy: ReadPolicy | None = None,
        dry_run: bool = False,
    ) -> Self:
        """Plan a job and write the plan to a folder. Nothing is predicted yet.

        If the folder already holds a job of the same plan, that job is opened and new prompts are added to it. So a
        script can be run again to resume.

        Args:
            folder: Folder of the job.
            source: A scene made by `load` or `open_raster`; a `Recipe`; the path or URL of a raster; the path of
                a Zarr store that holds a scene; or items, to be loaded with `load`.
            prompts: Class names; or a mapping from label to free expressions.
            model: Name or path of weights, "tiny", a `RemoteSAM`, or "module:name" of a function or class that makes a
                model.
            load: Arguments of `load`, if the source is items.
            threshold: A pixel belongs where its probability is larger: a number from 0 to 1, or one for each label.
            resolution: Metres on the ground a pixel, "native", or "auto"; or one for each label.
            bands: Which bands are red, green and blue, as in `render`.
            stretch: How values become 8-bit colours, as in `render`. Limits that must be measured are read once, now.
            refine: "contours", or a contour model with an `identity`, to separate touching objects. Its map is stored
                too.
            overlap: Share of a window that neighbouring windows have in common, up to a half.
            seam: "blend" weighs all windows that see a pixel; "paste" takes each pixel from one.
            geometry: Area of interest: any geometry or GeoDataFrame (in degrees if it has no CRS). Windows elsewhere
                are left out.
            block: Windows along the side of a block, the unit of work and storage.
            keep_probabilities: Whether to store probabilities, so that other thresholds need no model run.
            policy: Time-outs, retries and trusted hosts. It is not stored, because it may hold secrets.
            dry_run: Whether to write nothing: the job is in memory only, for `estimate`.

        Raises:
            InputError: An argument cannot be used, for example a scene without a recipe.
            JobError: The folder holds a job of another plan, or is in use.
        """
        check_place(folder, policy)
        check_options(
            load, overlap=overlap, seam=seam, block=block, keep_probabilities=keep_probabilities, refine=refine
        )  # fmt: skip
        one_of("dry_run", dry_run, (True, False))
        check_resolutions(resolution)
        place = Path(folder)
        check_free(place)
        there = cls.open(place) if (place / PLAN).exists() else None
        who = opened_model(model, refine, None if there is None else (there._recipe, there.frozen.weights))
        scene, store, policy = scene_of(source, load, policy)
        origin = SourceRecipe.of(scene, bands=bands, stretch=stretch, store=store, policy=policy)
        plan = Plan(
            origin=origin,
            weights=who.weights,
            overlap=2 * round(overlap * who.weights.image_size / 2),
            seam=seam,
            block=block,
            keep_probabilities=keep_probabilities,
            area=None if geometry is None else as_geojson(geometry, origin.geobox.crs),
        )
        wanted = parsed(prompts, threshold, resolution, who.model)
        check_prompts(plan, wanted, policy)  # whatever is wrong is said before anything is written
        job = cls(place, plan=plan, prompts=wanted, recipe=who.recipe, model=who, policy=policy)
        if dry_run:
            if there is not None:
                there.frozen.check_same(plan, place / PLAN)
                job.prompts = with_new(there.prompts, wanted)
            return job
        if there is None:
            job._files = describe(plan.origin, policy)
        with writing(place):
            place.mkdir(parents=True, exist_ok=True)
        with lock(place):
            if (place / PLAN).exists():
                known = cls.open(place, policy=policy)
                known.frozen.check_same(plan, place / PLAN)
                job.prompts, job._files = with_new(known.prompts, wanted), known._files
                job._check_source(remote=False)
            job._freeze()
        return job

    @classmethod
    def open(
        cls,
        folder: str | PathLike[str],
        *,
        model: ModelLike | None = None,
        refine: Refine = None,
        policy: ReadPolicy | None = None,
    ) -> Self:
        """Open a job.

        Args:
            folder: Folder of the job.
            model: The model, if it was an object of the script that made the job. Other models are opened when they are
                needed.
            refine: The contour model, if `model` is given and the job was made with one.
            policy: Time-outs, retries and trusted hosts.

        Raises:
            JobError: There is no job, or the model is another.
        """
        check_refine(refine)
        check_place(folder, policy)
        place = Path(folder)
        noted = read_plan_file(place)
        plan, recipe = noted.plan, noted.recipe
        who = None if model is None else opened_model(model, refine, (recipe, plan.weights))
        if who is not None:
            plan.check_same(replace(plan, weights=who.weights), place)
        job = cls(place, plan=plan, prompts=noted.prompts, recipe=recipe, model=who, policy=policy)
        job._files = noted.files
        return job

    def __repr__(self) -> str:
        table = self.status()
        asked_for, of = table[["done", "empty"]].to_numpy().sum(), table["total"].sum()
        bad = table[["failed", "given_up"]].to_numpy().sum()
        named = ", ".join(prompt.label for prompt in self.prompts[:4])
        more = len(self.prompts) - 4
        return (
            f"Job({str(self.folder)!r}: {named}{f' and {more} more' if more > 0 else ''}; "
            f"{asked_for:,} of {of:,} answered{f', {bad:,} failed' if bad else ''})"
        )

    def _repr_html_(self) -> str:
        with self._records() as records:
            status = state_of(records, self._groups)
            return job_card(self.folder, self.prompts, status, records, self._groups)

    def estimate(self, *, measure: bool = True) -> Estimate:
        """Estimate what a run would take: the dry run. Nothing on disk changes.

        Args:
            measure: Whether to read and predict one batch, so that the time is known.

        Returns:
            Windows, pixels, bytes and time, and the windows' footprints as a GeoDataFrame.
        """
        one_of("measure", measure, (True, False))
        predict = self._model.predict if measure else None
        return estimate(self.frozen, self._groups, predict)

    def run(
        self,
        client: "Client | None" = None,
        *,
        on_error: OnError = "raise",
        progress: bool | None = None,
    ) -> pd.DataFrame:
        """Process all pending windows. If it is interrupted, call `run` again to resume.

        Args:
            client: A client of any dask.distributed cluster; None runs in this process.
            on_error: "raise" stops at the first window that fails; "skip" records it and goes on.
            progress: Whether to show progress; by default for long work.

        Returns:
            `status()`.

        Raises:
            ReadError: Pixels could not be read.
            JobError: The folder is in use, or cannot be written.
        """
        one_of("on_error", on_error, get_args(OnError))
        one_of("progress", progress, (True, False, None))
        return self._ask(todo, client, on_error, progress, "run")

    def retry_failures(
        self,
        client: "Client | None" = None,
        *,
        given_up: bool = False,
        on_error: OnError = "skip",
        progress: bool | None = None,
    ) -> pd.DataFrame:
        """Predict again what failed.

        Args:
            client: As in `run`.
            given_up: Whether to try those again that failed three times.
            on_error: As in `run`.
            progress: As in `run`.

        Returns:
            `status()`.
        """
        one_of("given_up", given_up, (True, False))
        one_of("on_error", on_error, get_args(OnError))
        one_of("progress", progress, (True, False, None))
        most = 1 << 30 if given_up else MOST_ATTEMPTS
        return self._ask(
            lambda records, group: again(records, group, most),
            client,
            on_error,
            progress,
            "retry_failures",
        )

    def add(
        self,
        prompts: PromptLike,
        *,
        threshold: float | Mapping[str, float] | None = None,
        resolution: ResolutionLike | Mapping[str, ResolutionLike] | None = None,
        dry_run: bool = False,
    ) -> None:
        """Add prompts; the next run predicts them, and nothing else again.

        Args:
            prompts: As in `create`.
            threshold: As in `create`.
            resolution: As in `create`.
            dry_run: Whether the folder stays as it is: the prompts are added to this object alone, for `estimate`.
        """
        one_of("dry_run", dry_run, (True, False))
        check_resolutions(resolution)
        wanted = parsed(
            prompts,
            threshold,
            resolution,
            built_in_processor(self._recipe) if self._given_model is None else self._given_model.model,
        )
        check_prompts(self.frozen, wanted, self._policy)
        if dry_run:
            self._choose(with_new(self.prompts, wanted))
            return
        with lock(self.folder):
            known = type(self).open(self.folder, policy=self._policy)
            self._choose(with_new(known.prompts, wanted))
            self._freeze()

    def remove(self, prompts: str | Iterable[str], *, dry_run: bool = False) -> None:
        """Remove prompts, and what is stored of them unless another prompt needs it.

        Args:
            prompts: A label, or several.
            dry_run: Whether the folder stays as it is: they are removed from this object alone, for `estimate`.

        Raises:
            InputError: The job has no such prompt, or no other one.
        """
        one_of("dry_run", dry_run, (True, False))
        if dry_run:
            self._choose(without(self.prompts, prompts))
            return
        with self._driving() as records:
            before = self._groups
            known = type(self).open(self.folder, policy=self._policy)
            self._choose(without(known.prompts, prompts))
            self._freeze()  # first: whatever ends this, the rest is only left over
            discard(records, before, self._groups)

    def status(self) -> pd.DataFrame:
        """How far the job is: a row per label, counting predictions (windows x dates x expressions).

        Columns: total, done, empty (no data), failed, given_up (failed three times), waiting.
        """
        with self._records() as records:
            return state_of(records, self._groups)

    def failures(self) -> gpd.GeoDataFrame:
        """Windows that failed: where, when, for which labels, why, and how often they were tried."""
        with self._records() as records:
            return failed_windows(records, self._groups)

    def answer(
        self,
        verb: Verb = "segment",
        *,
        threshold: float | Mapping[str, float] | None = None,
        oriented: bool = False,
        suppress: Suppress = "none",
        min_score: float = MIN_SCORE,
        min_area: float = 0,
        simplify: float = 0,
        smooth: int = 0,
        parts: Parts = "whole",
        crs: Any = None,
        details: bool = False,
        partial: bool = False,
        progress: bool | None = None,
    ) -> gpd.GeoDataFrame:
        """Make results from the stored probabilities; the model does not run.

        Args:
            verb: "segment" or "refer" outline, "detect" draws boxes.
            threshold: In place of the prompts' own: one, or by label.
            oriented: Whether boxes may be turned.
            suppress: As in `RemoteSAM.segment`.
            min_score: As in `RemoteSAM.segment`.
            min_area: As in `RemoteSAM.segment`.
            simplify: As in `RemoteSAM.segment`.
            smooth: As in `RemoteSAM.segment`.
            parts: As in `RemoteSAM.segment`.
            crs: CRS of the result; by default the scene's.
            details: Whether to add the columns `score_max`, `resolution`, `view` and `run_id`.
            partial: Whether to answer also for prompts that are not complete, as far as they are done. Without it they
                are left out. Either way a warning names them.
            progress: Whether to show progress; by default for long work.

        Returns:
            As from the verb of `RemoteSAM`.

        Raises:
            JobError: No prompt is complete; other thresholds are wanted, but maps were not kept.
        """
        one_of("verb", verb, get_args(Verb))
        one_of("oriented", oriented, (True, False))
        one_of("suppress", suppress, get_args(Suppress))
        one_of("parts", parts, get_args(Parts))
        one_of("details", details, (True, False))
        one_of("partial", partial, (True, False))
        one_of("progress", progress, (True, False, None))
        number_in("min_score", min_score, 0, 1)
        number_in("min_area", min_area, 0)
        number_in("simplify", simplify, 0)
        number_in("smooth", smooth, 0, whole=True)
        options = FeatureOptions(
            outline=_outline_of_job_verb(verb, oriented=oriented),
            suppress=suppress,
            min_score=min_score,
            parts=parts,
            simplify=simplify,
            smooth=smooth,
        )
        prompts = parse_prompts(self.prompts, threshold=threshold, suggest=False)
        if not self.frozen.keep_probabilities and prompts != self.prompts:
            raise JobError(
                "this job keeps no probabilities (keep_probabilities=False), so it answers at the thresholds it was "
                "made with: leave threshold out"
            )
        target = wanted_crs(crs, str(self.frozen.origin.geobox.crs), self.frozen.origin.geobox)
        with self._driving(read_only=True) as records:
            complete = self._to_answer(records, partial=partial)
            wanted = [
                group for each in self._groups if (group := only(_with_thresholds(each, prompts), complete)).prompts
            ]
            with (
                _progress_bar(None, "outlining", "block", progress) as bar,
                _without_georeference_warnings(),
            ):
                for group in wanted:
                    outline(records, group, group.prompts, options.drawn, bar.update, partial=partial)
                labels = [prompt.label for prompt in prompts]
                found = joined(
                    records, wanted, options,
                    labels=labels, min_area=min_area, crs=target, details=details, partial=partial,
                )  # fmt: skip
            missing = failed_windows(records, wanted)
        warn_of_failures(missing)
        return found

    def probabilities(self) -> xr.DataArray:
        """The maps that were kept, lazily, as `RemoteSAM.probabilities` gives them.

        Every verb of `RemoteSAM` takes them in place of a scene.

        Raises:
            JobError: Not all is predicted yet, or maps were not kept.
            InputError: The prompts have several resolutions, and an array has one.
        """
        if not self.frozen.keep_probabilities:
            raise JobError("this job keeps no probabilities (keep_probabilities=False)")
        if len(self._groups) > 1:
            asked_at = ", ".join(str(group.resolution) for group in self._groups)
            raise InputError(f"one array has one resolution, but this job has {asked_at}: make a job of each")
        (group,) = self._groups
        with self._records() as records:
            self._check_predicted(records)
            warn_of_failures(failed_windows(records, self._groups))
            asked = note_of_prompts(group.prompts, group.grid, group.source.geobox, seam=group.seam)
            asked |= note_failures(group.source, kept_failures(records, group))
            codes = kept_maps(records, group)
        made = note_of_run(self.frozen.weights.identity, [asked], self.frozen.digest)
        return as_probabilities(codes, group.source, group.prompts, made)

    # --- inside ---------------------------------------------------------------------------------

    @property
    def _model(self) -> JobModel:
        if self._given_model is None and self._recipe is not None:
            self._given_model = reopened(self._recipe, self.frozen.weights)
        if self._given_model is None:
            raise JobError(
                f"this job was made with the model {self.frozen.weights.identity!r}, which only you can open: "
                "Job.open(folder, model=..., refine=...)"
            )
        return self._given_model

    @cached_property
    def _groups(self) -> tuple[PlanGroup, ...]:
        return groups(self.frozen, self.prompts, self._policy)

    def _ask(
        self,
        lacking: Callable[[Records, PlanGroup], Todo],
        client: "Client | None",
        on_error: OnError,
        progress: bool | None,
        verb: str,
    ) -> pd.DataFrame:
        check_client(client)
        try:
            table = self._run_groups(lacking, client, on_error, progress)
        except KeyboardInterrupt:
            self._tell_how_to_resume(verb)
            raise
        bad = table[["failed", "given_up"]].to_numpy().sum()
        if bad:
            warnings.warn(
                f"{bad:,} of {table['total'].sum():,} failed: failures() lists them with their causes, "
                "retry_failures() predicts them again",
                RemoteSAMWarning,
                stacklevel=3,
            )
        return table

    def _run_groups(
        self,
        lacking: Callable[[Records, PlanGroup], Todo],
        client: "Client | None",
        on_error: OnError,
        progress: bool | None,
    ) -> pd.DataFrame:
        with self._driving() as records, _without_georeference_warnings():
            for group in self._groups:
                check_stored(records, group)
            every = [(group, lacking(records, group)) for group in self._groups]
            total = sum(_windows_left(group, blocks) for group, blocks in every)
            self._check_source(remote=total > 0)
            for group in self._groups:
                self._make_room(records, group)
            if total:
                # Before any work, so that a model that cannot travel costs none.
                opener = None if client is None else self._model.for_workers()
                done = sum(group.size for group, _ in every) - total
                with _progress_bar(total, "predicting", "window", progress, done=done) as bar:
                    for group, blocks in every:
                        if client is None or opener is None:
                            predict_here(
                                records, group, blocks, self._model.predict,
                                on_error=on_error, progress=bar.update, batch=self._model.batch,
                            )  # fmt: skip
                        else:
                            predict_on_cluster(
                                records, group, blocks, opener, client,
                                on_error=on_error, progress=bar.update, batch=self._model.batch,
                            )  # fmt: skip
            return state_of(records, self._groups)

    def _tell_how_to_resume(self, verb: str) -> None:
        table = self.status()
        waiting, every = int(table["waiting"].sum()), int(table["total"].sum())
        place, given = str(self.folder), ""
        if self._recipe is None:
            given = ", model=..., refine=..." if self.frozen.weights.contours else ", model=..."
        option = " --retry-failures" if verb == "retry_failures" else ""
        command = "" if given else f", or: remotesam-geo map {place}{option}"
        warnings.warn(
            f"stopped: {every - waiting:,} of {every:,} windows x prompts are stored. To go on: "
            f"Job.open({place!r}{given}).{verb}(){command}",
            RemoteSAMWarning,
            stacklevel=4,
        )

    def _to_answer(self, records: Records, *, partial: bool) -> set[str]:
        """The labels of the prompts to answer for; a warning names those that are not complete.

        Raises:
            JobError: None is complete, and only complete ones are wanted.
        """
        table = state_of(records, self._groups)
        lacking = table[table["waiting"] > 0]
        told = ", ".join(
            f"{label!r} ({row.waiting:,} of {row.total:,} windows not predicted)"
            for label, row in zip(lacking.index, lacking.itertuples(), strict=True)
        )
        if len(lacking) == len(table) and not partial:
            raise JobError(
                f"no prompt is complete: {told}. run() first; or answer(partial=True) for what is done so far"
            )
        if len(lacking):
            kept = "answered as far as they are done" if partial else "left out"
            warnings.warn(
                f"prompts that are not complete are {kept}: {told}. run() completes them, remove() drops one",
                RemoteSAMWarning,
                stacklevel=3,
            )
        wanted = table if partial else table[table["waiting"] == 0]
        warn_of_no_data(wanted["empty"] < wanted["total"])
        return set(wanted.index)

    def _choose(self, prompts: tuple[Prompt, ...]) -> None:
        self.prompts = prompts
        self.__dict__.pop("_groups", None)

    def _check_source(self, *, remote: bool) -> None:
        """Make sure that the source is the one that the job was created for.

        Args:
            remote: Whether to look at remote files, too.

        Raises:
            JobError: It changed, and in what.
        """
        found = changes(self._files, self.frozen.origin, self._policy, remote=remote)
        if found:
            more = len(found) - SHOWN
            raise JobError(
                f"the source of {self.folder} changed since the job was created. {'. '.join(found[:SHOWN])}"
                f"{f'. And {more:,} more files' if more > 0 else ''}. Put back what was there, or create a new job in "
                "another folder"
            )

    def _check_predicted(self, records: Records) -> None:
        table = state_of(records, self._groups)
        waiting = int(table["waiting"].sum())
        if waiting:
            raise JobError(
                f"{waiting:,} of {table['total'].sum():,} windows are not predicted yet: run() first, or remove() the "
                "prompts that are not complete"
            )

    def _make_room(self, records: Records, group: PlanGroup) -> None:
        geobox = group.source.geobox
        for layer in layers(self.frozen, group):
            if layer.prompt is None:
                about = {
                    "expression": group.expressions[layer.needs[0]],
                    "resolution": group.resolution,
                    "grid": group.grid.to_json(),
                    "crs": str(geobox.crs),
                    "transform": list(geobox.affine[:6]),
                }
                dates = len(group.source.dates)
                records.store.create(layer.key, group.grid, dates, about)

    @contextmanager
    def _driving(self, *, read_only: bool = False) -> Iterator[Records]:
        """The records, for the one driver that may write; with `read_only` a folder that is read-only will do."""
        with drive(self.folder, self.frozen, self._groups, read_only=read_only) as records:
            yield records

    @contextmanager
    def _records(self) -> Iterator[Records]:
        """The records, for whoever only looks. Nothing is written."""
        with look_into(self.folder, self.frozen) as records:
            yield records

    def _freeze(self) -> None:
        noted = PlanFile(plan=self.frozen, prompts=self.prompts, recipe=self._recipe, files=tuple(self._files))
        write_plan_file(self.folder, noted)


def _with_thresholds(group: PlanGroup, prompts: Sequence[Prompt]) -> PlanGroup:
    by_label = {prompt.label: prompt for prompt in prompts}
    return replace(group, prompts=tuple(by_label[prompt.label] for prompt in group.prompts))


def _outline_of_job_verb(verb: str, *, oriented: bool) -> Outline:
    if oriented and verb != "detect":
        raise InputError(f"oriented=True turns boxes, and {verb!r} draws none: leave it out")
    if verb != "detect":
        return "polygon"
    return "oriented" if oriented else "box"


def _windows_left(group: PlanGroup, lacking: Todo) -> int:
    return sum(len(group.own(group.grid.block_at(block))) for blocks in lacking.values() for _, block in blocks)


def _progress_bar(left: int | None, what: str, unit: str, progress: bool | None, *, done: int = 0) -> Any:
    """A progress bar over what is left; it starts where the job stands."""
    show = (left or 0) >= LONG if progress is None else progress
    total = None if left is None else done + left
    return tqdm(total=total, initial=done, desc=what, unit=unit, disable=not show)


@contextmanager
def _without_georeference_warnings() -> Iterator[None]:
    """Without rasterio's word about arrays, which have no place of their own, in any thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
