"""The engine: pictures in, triplets out, one picture after the other."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import InputError, each_of, number_in, one_of
from remotesam_geo.learning.datasets import DamageError, Example, OnError, Triplet, TripletStore
from remotesam_geo.learning.datasets.picture_files import write_whole

from .filters import AreaFilter, consistent, difference_hash
from .journal import Journal
from .mask_sources import GivenMasks
from .rule_expressions import AbsentClasses, KindClasses, SingleThings
from .run_report import EngineReport
from .steps import ExpressionStep, FilterStep, MaskStep, Material, Refused, describe

__all__ = ["Engine", "Made", "Source", "rules", "run_engine"]

Source = Iterable[Example] | Callable[[frozenset[str]], Iterable[Example]]
"""Pictures; or a function that makes them and may pass over those whose names it is given."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Steps in a row; each can be replaced by any function of its shape.

    Attributes:
        expressions: What is said; all of them are asked.
        masks: Who gives things their masks, one after the other.
        filters: What drops triplets; the first reason counts.
        near: A picture whose `difference_hash` differs from an earlier one's in so few bits or fewer is passed over;
            without it none is.
        seed: Of all drawing; with the picture's name it decides.
    """

    expressions: tuple[ExpressionStep, ...]
    masks: tuple[MaskStep, ...] = (GivenMasks(),)
    filters: tuple[FilterStep, ...] = (AreaFilter(),)
    near: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("expressions", "masks", "filters"):
            for step in each_of(name, getattr(self, name), object, "steps"):
                if not callable(step):
                    raise InputError(f"{name} holds a {type(step).__name__}: give steps, such as AreaFilter()")
        if self.near is not None:
            number_in("near", self.near, 0, 64, whole=True)
        number_in("seed", self.seed, 0, whole=True)

    @property
    def about(self) -> str:
        """Every choice, as text."""
        said = {name: [describe(step) for step in getattr(self, name)] for name in ("masks", "expressions", "filters")}
        return json.dumps(said | {"near": self.near, "seed": self.seed})

    def made(self, example: Example, rgb: NDArray[np.uint8] | None = None) -> "Made":
        """The triplets of one picture.

        Args:
            example: A picture with what is known of it.
            rgb: Its pixels, where they were read already.
        """
        material = Material(example=example, rgb=example.picture.read() if rgb is None else rgb)
        for give in self.masks:
            material = give(material)
        rng = random.Random(f"{self.seed} {example.picture.name}")  # noqa: S311 - no secrets
        said = list(chain.from_iterable(say(material, rng) for say in self.expressions))
        kept, lost = consistent(one for one in said if isinstance(one, Triplet))
        dropped = Counter(f"thing: {reason}" for reason in material.dropped)
        dropped.update(f"{one.what}: {one.reason}" for one in said if isinstance(one, Refused))
        dropped.update(f"{triplet.kind}: {reason}" for triplet, reason in lost)
        good = []
        for triplet in kept:
            reason = next(filter(None, (test(triplet, material.rgb) for test in self.filters)), None)
            if reason is None:
                good.append(triplet)
            else:
                dropped[f"{triplet.kind}: {reason}"] += 1
        return Made(triplets=good, dropped=dropped)


@dataclass(frozen=True, kw_only=True)
class Made:
    """What came of one picture.

    Attributes:
        triplets: What is kept.
        dropped: How many were dropped, by reason.
    """

    triplets: list[Triplet]
    dropped: Counter[str]


def rules(classes: Sequence[str], *, seed: int = 0) -> Engine:
    """The engine that needs no model: class names, absent classes, and what tells things apart.

    Args:
        classes: All classes that the labels are complete for.
        seed: Of the drawing.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.learning.labelling import rules
        >>> from remotesam_geo.learning.datasets import Example, Mask, Picture, Thing
        >>> picture = Picture.of("a", np.full((90, 90, 3), 200, np.uint8))
        >>> boxes = ((5, 5, 15, 15), (50, 50, 80, 80))
        >>> things = tuple(Thing(label="ship", box=b, mask=Mask.of_box(b, (90, 90))) for b in boxes)
        >>> made = rules(["ship", "dam"]).made(Example(picture=picture, things=things))
        >>> [t.expression for t in made.triplets if t.attributes["rule"] in ("class", "absent")][:2]
        ['ship in the image', 'dam in the image']
        >>> any("largest" in t.expression or "biggest" in t.expression for t in made.triplets)
        True
    """
    return Engine(
        expressions=(KindClasses(), AbsentClasses(classes=tuple(classes)), SingleThings()),
        seed=seed,
    )


def run_engine(
    source: Source,
    folder: Path | str,
    *,
    engine: Engine,
    about: str = "",
    on_error: OnError = "raise",
) -> tuple[TripletStore, EngineReport]:
    """Make triplets of pictures and store them; a run that was killed goes on after its last whole picture.

    Args:
        source: Pictures with different names, in the same order each time; or a function that makes them and may pass
            over the names it is given, which spares reading them again.
        folder: Where the store comes to lie, with `report.json`; one that was begun is gone on with.
        engine: The steps.
        about: What the pictures are of, where the folder shall only be gone on with for the same.
        on_error: "skip" counts pictures that cannot be read, in place of stopping.

    Raises:
        InputError: The folder was begun with other steps or another `about`, or two pictures have one name.
        DamageError: A picture cannot be read.
    """
    one_of("on_error", on_error, get_args(OnError))
    told = json.dumps(json.loads(engine.about) | {"of": about}) if about else engine.about
    journal = Journal(folder, told)
    done = frozenset(entry.picture for entry in journal.entries)
    hashes = [entry.hash for entry in journal.entries if entry.triplets]
    names: set[str] = set()
    for example in source(done) if callable(source) else source:
        name = example.picture.name
        if name in names:
            raise InputError(f"two pictures are called {name!r}: names tell them apart")
        names.add(name)
        if name in done:
            continue
        try:
            rgb = example.picture.read()
            hashed = difference_hash(rgb)
            if engine.near is not None and any((hashed ^ other).bit_count() <= engine.near for other in hashes):
                made = Made(triplets=[], dropped=Counter({"picture: near-duplicate": 1}))
            else:
                made = engine.made(example, rgb)
        except DamageError as error:
            if on_error == "raise":
                raise
            hashed, made = 0, Made(triplets=[], dropped=Counter({f"picture: {error.kind}": 1}))
        if made.triplets:
            hashes.append(hashed)
        journal.add(example.picture, made.triplets, made.dropped, hashed)
    store = journal.finish()
    report = EngineReport.of(told, journal.entries)
    write_whole(store.folder / "report.json", json.dumps(report.to_json(), indent=1).encode())
    return store, report
