"""Check stored blocks against the ledger, and rebuild a ledger that was lost from the stored blocks."""

import warnings
from pathlib import Path

from remotesam_geo.errors import JobError, RemoteSAMWarning
from remotesam_geo.mapping.executor import Pool
from remotesam_geo.mapping.grid import Block
from remotesam_geo.tasks import FAILED, NO_DATA

from .plan import PlanGroup
from .storage.block_files import about, seal_of
from .storage.ledger import BlockRecord, FailedWindow
from .storage.map_store import DamagedBlockError
from .storage.stored_layers import (
    Place,
    Records,
    StoredLayer,
    checked_part,
    date_numbers,
    file_names_words,
    layers,
    part_bytes,
)

__all__ = ["check_stored", "rebuild"]

CHECKERS = 4
"""Threads that check stored files; they mostly wait for the disk."""


def check_stored(records: Records, group: PlanGroup) -> None:
    """Check all stored files of a group's blocks, and count those that are damaged or missing as not done.

    Warns once, with the number of files and the first of them.
    """
    damaged: list[Path] = []
    for layer in layers(records.plan, group):
        known = records.ledger.known(layer.key)

        def look(item: tuple[Place, str], layer: StoredLayer = layer) -> tuple[Place, Path] | None:
            place, mark = item
            try:
                if layer.prompt is None:
                    block = group.grid.block_at(place[1])
                    records.store.check(layer.key, place[0], block, mark)
                else:
                    checked_part(records, layer.key, place, mark)
            except DamagedBlockError as error:
                return place, error.path
            return None

        with Pool(CHECKERS) as pool:
            bad = [found for found in pool.map(look, sorted(known.items())) if found is not None]
        if bad:
            records.ledger.forget(layer.key, [place for place, _ in bad])
            damaged += [path for _, path in bad]
    if damaged:
        warnings.warn(
            f"{len(damaged):,} stored files are damaged or missing, and their blocks are computed again: "
            f"{file_names_words(damaged)}",
            RemoteSAMWarning,
            stacklevel=2,
        )


def rebuild(records: Records, group: PlanGroup) -> None:
    """Enter the stored files that agree with their own seals, for a ledger that was lost."""
    for layer in layers(records.plan, group):
        for date in date_numbers(group):
            for index in group.blocks:
                block = group.grid.block_at(index)
                try:
                    entry = (
                        _found_map(records, layer, group, date, block)
                        if layer.prompt is None
                        else _found_part(records, layer, group, date, block)
                    )
                except JobError:  # it is computed again
                    continue
                if entry is not None:
                    records.ledger.enter([entry])


def _found_map(records: Records, layer: StoredLayer, group: PlanGroup, date: int, block: Block) -> BlockRecord | None:
    found = records.store.found(layer.key, date, block, group.grid)
    if found is None:
        return None
    codes, mark = found
    own = group.own(block)
    cores = {window.index: codes[window.core.within(block.core)] for window in own}
    return BlockRecord(
        layer=layer.key,
        date=date,
        block=block.index,
        windows=len(own),
        empty=sum(bool((core == NO_DATA).all()) for core in cores.values()),
        digest=mark,
        misses=tuple(
            FailedWindow(window=index, cause="not known: the ledger was rebuilt from the stored blocks")
            for index, core in cores.items()
            if (core == FAILED).any()
        ),
    )


def _found_part(records: Records, layer: StoredLayer, group: PlanGroup, date: int, block: Block) -> BlockRecord | None:
    path = records.part(layer.key, date, block.index)
    if not path.exists():
        return None
    place = date, block.index
    seal = seal_of(part_bytes(path))
    told = about(checked_part(records, layer.key, place, seal))
    return BlockRecord(
        layer=layer.key,
        date=date,
        block=block.index,
        windows=len(group.own(block)),
        empty=int(told["empty"]),
        digest=seal,
        misses=tuple(FailedWindow(window=int(window), cause=str(cause)) for window, cause in told["misses"]),
    )
