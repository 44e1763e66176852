"""The frozen plan of a job: all that its maps depend on, as plain JSON with a hash, and what differs from another."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, get_args

from remotesam_geo.errors import InputError, JobError, number_in, one_of
from remotesam_geo.geo.ground import Resolution
from remotesam_geo.mapping.area_windows import windows_in
from remotesam_geo.mapping.executor import Work
from remotesam_geo.mapping.grid import Grid
from remotesam_geo.mapping.resolutions import by_resolution, warn_of_resolutions
from remotesam_geo.mapping.stitch import Seam
from remotesam_geo.predictors.contours import CONTOURS
from remotesam_geo.scenes import ReadPolicy
from remotesam_geo.words import Prompt, distinct_expressions

from .source_recipe import SourceRecipe

__all__ = [
    "ModelIdentity",
    "Plan",
    "PlanGroup",
    "check_prompts",
    "groups",
    "prompt_from_json",
    "prompt_to_json",
]

LARGEST_SIDE = 1 << 16
"""Pixels along the side of a window."""
LARGEST_BLOCK = 1 << 10
"""Windows along the side of a block."""
_SHOWN = 5
"""Differences between two plans that a message names."""


@dataclass(frozen=True, kw_only=True)
class ModelIdentity:
    """The model of a job, as far as its probabilities depend on it.

    Nothing here depends on the machine: not the device, and not how many pairs fit into its memory at once.

    Attributes:
        identity: The hash of the weights, or a name.
        image_size: Side of the images it takes.
        precision: Of its products ("float32" or "bfloat16"), where it has one.
        contours: The identity of the model that separates touching objects; "" for none.

    Raises:
        InputError: One of them cannot be used.
    """

    identity: str
    image_size: int
    precision: str = ""
    contours: str = ""

    def __post_init__(self) -> None:
        for name in ("identity", "precision", "contours"):
            value = getattr(self, name)
            if not isinstance(value, str):
                raise InputError(f"the model's {name} is {value!r}: it must be a text")
        if not self.identity:
            raise InputError("the model's identity is empty: it must name the weights")
        number_in("the model's image_size", self.image_size, 2, LARGEST_SIDE, whole=True)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the maps of a job depend on, but for the prompts.

    Attributes:
        origin: Where the pixels come from.
        weights: What answers.
        overlap: Pixels that neighbouring windows share.
        seam: How windows are joined.
        block: Windows along the side of a block.
        keep_probabilities: Whether the maps are kept, or only what was outlined at the prompts' thresholds.
        area: Where to look, as GeoJSON in degrees; None for everywhere.

    Raises:
        InputError: One of them cannot be used.
    """

    origin: SourceRecipe
    weights: ModelIdentity
    overlap: int
    seam: Seam
    block: int
    keep_probabilities: bool
    area: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        one_of("seam", self.seam, get_args(Seam))
        one_of("keep_probabilities", self.keep_probabilities, (True, False))
        number_in("block", self.block, 1, LARGEST_BLOCK, whole=True)
        number_in("overlap in pixels", self.overlap, 0, self.weights.image_size // 2, whole=True)
        if not isinstance(self.area, Mapping | None):
            raise InputError(f"area is {self.area!r}: a plan holds it as a GeoJSON object")

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "source": self.origin.to_json(),
            "weights": vars(self.weights),
            "overlap": self.overlap,
            "seam": self.seam,
            "block": self.block,
            "keep_probabilities": self.keep_probabilities,
            "area": self.area,
        }

    @classmethod
    def from_json(cls, doc: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        return cls(
            origin=SourceRecipe.from_json(doc["source"]),
            weights=ModelIdentity(**doc["weights"]),
            overlap=doc["overlap"],
            seam=doc["seam"],
            block=doc["block"],
            keep_probabilities=doc["keep_probabilities"],
            area=doc["area"],
        )

    @cached_property
    def digest(self) -> str:
        """A hash over everything in it."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def key(self, *parts: Any) -> str:
        """A name for something of this plan, which no other plan has."""
        text = json.dumps([self.digest, *parts], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def check_same(self, other: "Plan", place: object) -> None:
        """Make sure that a folder's plan is the one wanted.

        Raises:
            JobError: It is another, and in what.
        """
        if self.digest == other.digest:
            return
        ours, theirs = dict(_json_leaves(self.to_json())), dict(_json_leaves(other.to_json()))
        different = [
            f"{name} is {_short_plan_value(ours.get(name))} there, {_short_plan_value(theirs.get(name))} here"
            for name in sorted({*ours, *theirs})
            if ours.get(name) != theirs.get(name)
        ]
        more = len(different) - _SHOWN
        raise JobError(
            f"{place} holds a job of another plan: {'; '.join(different[:_SHOWN])}"
            f"{f'; and {more} more differences' if more > 0 else ''}. Give this one a folder of its own."
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class PlanGroup(Work):
    """Prompts that are predicted at one resolution together.

    Its expressions are each there once; contours come last, where they are wanted.

    Attributes:
        resolution: Metres on the ground a pixel, or "native".
        prompts: The prompts.
        members: Which of the expressions belong to each prompt.
    """

    resolution: Resolution
    prompts: tuple[Prompt, ...]
    members: tuple[tuple[int, ...], ...]

    @property
    def contours(self) -> int | None:
        """Which of the expressions stands for contours, if any."""
        last = len(self.expressions) - 1
        return last if self.expressions[last] == CONTOURS else None


def groups(plan: Plan, prompts: Sequence[Prompt], policy: ReadPolicy | None) -> tuple[PlanGroup, ...]:
    """Prompts by resolution, in the order asked, with the pixels and windows of each."""
    if not prompts:
        raise JobError("plan.json names no prompt: restore it from a copy, or create the job anew in another folder")
    size = plan.weights.image_size
    found = []
    for resolution, own in by_resolution(prompts, plan.origin.geobox, size):
        source = plan.origin.source(resolution, policy)
        expressions, members = distinct_expressions(own)
        if plan.weights.contours:
            expressions = (*expressions, CONTOURS)
        grid = Grid(shape=source.geobox.shape.yx, window=size, overlap=plan.overlap, block=plan.block)
        found.append(
            PlanGroup(
                resolution=resolution,
                prompts=tuple(own),
                expressions=expressions,
                members=members,
                source=source,
                grid=grid,
                window_numbers=None if plan.area is None else windows_in(plan.area, grid, source.geobox),
                seam=plan.seam,
            )
        )
    return tuple(found)


def check_prompts(plan: Plan, prompts: Sequence[Prompt], policy: ReadPolicy | None) -> None:
    """Check that prompts can be predicted, and warn of those that can hardly be answered. Nothing is read.

    Raises:
        InputError: They cannot.
    """
    made = groups(plan, prompts, policy)
    place = plan.origin.geobox
    warn_of_resolutions([(group.resolution, group.prompts) for group in made], place, plan.weights.image_size)


def prompt_to_json(prompt: Prompt) -> dict[str, Any]:
    """A prompt as plain JSON values."""
    return {
        "label": prompt.label,
        "expressions": list(prompt.expressions),
        "threshold": prompt.threshold,
        "resolution": prompt.resolution,
    }


def prompt_from_json(doc: Mapping[str, Any]) -> Prompt:
    """Read what `prompt_to_json` gave."""
    return Prompt(
        label=doc["label"],
        expressions=tuple(doc["expressions"]),
        threshold=doc["threshold"],
        resolution=doc["resolution"],
    )


def _json_leaves(doc: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a JSON document by its path."""
    if isinstance(doc, Mapping):
        for key, value in doc.items():
            yield from _json_leaves(value, f"{name}.{key}" if name else str(key))
    elif isinstance(doc, list) and any(isinstance(value, Mapping) for value in doc):
        for index, value in enumerate(doc):
            yield from _json_leaves(value, f"{name}[{index}]")
    else:
        yield name, doc


def _short_plan_value(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
