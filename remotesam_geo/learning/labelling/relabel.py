"""Later rounds: a trained model draws the masks again, and what it cannot confirm is dropped."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import number_in, one_of
from remotesam_geo.learning.datasets import Mask, Triplet, TripletStore
from remotesam_geo.learning.datasets.picture_files import write_whole
from remotesam_geo.learning.evaluation import answerer
from remotesam_geo.learning.evaluation.answerers import resized

from .filters import difference_hash
from .journal import Journal
from .mask_sources import agreement
from .run_report import EngineReport

__all__ = ["Relabelling", "relabel"]


@dataclass(frozen=True, kw_only=True)
class Relabelling:
    """How a model's answer and a label become a new label.

    Attributes:
        trust: The model's share: a pixel is meant where (1 - trust) * label + trust * probability is above a half. At a
            half or less the label alone decides, at 1 the model.
        least: The IoU of the label and the model's mask that is needed; what is below is dropped.
        empty: Whether a label that means nothing stays as it is whatever the model says; otherwise it is dropped where
            the model sees something.
    """

    trust: float = 0.8
    least: float = 0.3
    empty: bool = True

    def __post_init__(self) -> None:
        number_in("trust", self.trust, 0, 1)
        number_in("least", self.least, 0, 1)
        one_of("empty", self.empty, (True, False))

    def decide(self, triplet: Triplet, chance: NDArray[np.float32]) -> Triplet | None:
        """The triplet with its new mask, or None.

        Args:
            triplet: As it was labelled.
            chance: What the model answers, H x W, 0 to 1.
        """
        old = triplet.mask.pixels()
        if triplet.kind == "one-to-zero":
            return triplet if self.empty or not (chance > 0.5).any() else None
        new = (1 - self.trust) * old + self.trust * chance > 0.5
        if not new.any() or agreement([old, chance > 0.5]) < self.least:
            return None
        return replace(triplet, mask=Mask.of(new))


def relabel(
    triplets: Iterable[Triplet],
    model: Any,
    folder: Path | str,
    *,
    rule: Relabelling | None = None,
) -> tuple[TripletStore, EngineReport]:
    """Ask a model all expressions of a store, and write another store with what it and the labels agree on.

    Args:
        triplets: A `TripletStore`, or triplets of one picture after the other.
        model: A `RemoteSAM`, or whatever `remotesam_geo.learning.evaluation` takes for one.
        folder: Where the new store comes to lie; one that was begun is gone on with.
        rule: How the two are joined.
    """
    rule = Relabelling() if rule is None else rule
    asked = answerer(model)
    about = json.dumps({"relabelled by": asked.identity, "rule": repr(rule)})
    journal = Journal(folder, about)
    done = {entry.picture for entry in journal.entries}
    for name, some in _by_picture(triplets):
        if name in done:
            continue
        rgb = some[0].picture.read()
        dropped: Counter[str] = Counter()
        kept = []
        answers = asked.answers(rgb, [triplet.expression for triplet in some])
        for triplet, chance in zip(some, answers, strict=True):
            new = rule.decide(triplet, resized(chance, triplet.mask.shape))
            if new is None:
                dropped[f"{triplet.kind}: model disagrees"] += 1
            else:
                kept.append(new)
        journal.add(some[0].picture, kept, dropped, difference_hash(rgb))
    store = journal.finish()
    report = EngineReport.of(about, journal.entries)
    write_whole(store.folder / "report.json", json.dumps(report.to_json(), indent=1).encode())
    return store, report


def _by_picture(triplets: Iterable[Triplet]) -> Iterator[tuple[str, list[Triplet]]]:
    for name, some in groupby(triplets, key=lambda triplet: triplet.picture.name):
        yield name, list(some)
