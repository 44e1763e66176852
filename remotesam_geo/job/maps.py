"""The maps that a job has kept, as one lazy array."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from remotesam_geo.mapping.executor import Failure
from remotesam_geo.mapping.grid import Grid
from remotesam_geo.mapping.plan import Group
from remotesam_geo.mapping.stages import Records, layers
from remotesam_geo.mapping.stitch import Codes, joined
from remotesam_geo.mapping.store import Store

__all__ = ["kept_failures", "kept_maps"]


def kept_maps(records: Records, group: Group) -> "da.Array":
    """Codes of each prompt of a group (time, prompt, y, x), one chunk a block."""
    keys = [layer.key for layer in layers(records.plan, group)][: group.contours]
    kept = _Kept(records.store.folder, group.grid, keys, group.members)
    rows, cols = group.grid.blocks
    moments = len(group.source.moments)
    name = f"remotesam-kept-{tokenize(str(records.store.folder), keys, group.members)}"
    graph: dict[Any, Any] = {
        (name, moment, 0, *divmod(index, cols)): (kept.read, moment, index)
        for moment in range(moments)
        for index in range(rows * cols)
    }
    high = [group.grid.block_at(row * cols).core.shape[0] for row in range(rows)]
    wide = [group.grid.block_at(col).core.shape[1] for col in range(cols)]
    return da.Array(  # type: ignore[no-untyped-call]
        HighLevelGraph.from_collections(name, graph),
        name,
        chunks=((1,) * moments, (len(group.members),), tuple(high), tuple(wide)),
        dtype=np.uint8,
    )


def kept_failures(records: Records, group: Group) -> list[Failure]:
    """The windows of a group that failed, each once a time."""
    found = {
        (moment, miss.tile): Failure(
            moment=moment,
            tile=miss.tile,
            core=group.grid.tile(miss.tile).core,
            cause=miss.cause,
        )
        for layer in layers(records.plan, group)
        for moment, _, miss in records.ledger.misses(layer.key)
    }
    return [found[place] for place in sorted(found)]


@dataclass(frozen=True)
class _Kept:
    """Where maps are kept: small, so that it travels with each task."""

    folder: Path
    grid: Grid
    keys: Sequence[str]
    members: Sequence[Sequence[int]]

    def read(self, moment: int, index: int) -> Codes:
        store, block = Store(self.folder), self.grid.block_at(index)
        codes = np.stack([store.read(key, moment, block) for key in self.keys])
        return np.stack([joined(codes, own) for own in self.members])[None]
