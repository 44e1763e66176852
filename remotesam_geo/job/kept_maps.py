"""The stored probabilities of a job as one lazy array."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from remotesam_geo.mapping.executor import WindowFailure
from remotesam_geo.mapping.grid import Grid
from remotesam_geo.mapping.stitch import joined
from remotesam_geo.predictors.protocol import Codes
from remotesam_geo.tasks import NO_DATA

from .plan import PlanGroup
from .storage.ledger import Ledger
from .storage.map_store import DamagedBlockError, Store
from .storage.stored_layers import Records, layers

__all__ = ["kept_failures", "kept_maps"]


def kept_maps(records: Records, group: PlanGroup) -> "da.Array":
    """Codes of each prompt of a group (time, prompt, y, x), one chunk a block. Each block is checked as it is read."""
    keys = [layer.key for layer in layers(records.plan, group)][: group.contours]
    kept = _StoredMaps(
        folder=records.store.folder,
        ledger=records.ledger.path,
        plan=records.plan.digest,
        grid=group.grid,
        keys=keys,
        members=group.members,
    )
    rows, cols = group.grid.blocks
    dates = len(group.source.dates)
    marks = {
        (date, index): tuple(records.ledger.known_as(key, (date, index)) for key in keys)
        for date in range(dates)
        for index in range(rows * cols)
    }
    name = f"remotesam-kept-{tokenize(str(records.store.folder), keys, group.members, repr(marks))}"
    graph: dict[Any, Any] = {
        (name, date, 0, *divmod(index, cols)): (kept.read, date, index, own) for (date, index), own in marks.items()
    }
    high = [group.grid.block_at(row * cols).core.shape[0] for row in range(rows)]
    wide = [group.grid.block_at(col).core.shape[1] for col in range(cols)]
    return da.Array(  # type: ignore[no-untyped-call]
        HighLevelGraph.from_collections(name, graph),
        name,
        chunks=((1,) * dates, (len(group.members),), tuple(high), tuple(wide)),
        dtype=np.uint8,
    )


def kept_failures(records: Records, group: PlanGroup) -> list[WindowFailure]:
    """The windows of a group that failed, each once a time."""
    found = {
        (date, miss.window): WindowFailure(
            date=date,
            window=miss.window,
            core=group.grid.window_at(miss.window).core,
            cause=miss.cause,
        )
        for layer in layers(records.plan, group)
        for date, _, miss in records.ledger.misses(layer.key)
    }
    return [found[place] for place in sorted(found)]


@dataclass(frozen=True, kw_only=True)
class _StoredMaps:
    """Where stored probabilities are: small, so that it travels with each task."""

    folder: Path
    ledger: Path | str
    plan: str
    grid: Grid
    keys: Sequence[str]
    members: Sequence[Sequence[int]]

    def read(self, date: int, index: int, marks: Sequence[str | None]) -> Codes:
        """A block with the digests that its files had when the array was made; None where nothing is stored.

        Raises:
            JobError: A file is damaged.
        """
        codes = np.stack([self._read(key, date, index, mark) for key, mark in zip(self.keys, marks, strict=True)])
        return np.stack([joined(codes, own) for own in self.members])[None]

    def _read(self, key: str, date: int, index: int, mark: str | None) -> Codes:
        store, block = Store(self.folder), self.grid.block_at(index)
        if mark is None:
            return np.full(block.core.shape, NO_DATA, np.uint8)
        try:
            return store.read(key, date, block, self.grid, mark)
        except DamagedBlockError:
            # Unless it was computed again since, after a failure for example.
            with Ledger(self.ledger, self.plan, read_only=True) as ledger:
                now = ledger.known_as(key, (date, index))
            if now is None or now == mark:
                raise
            return store.read(key, date, block, self.grid, now)
