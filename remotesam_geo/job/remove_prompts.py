"""Remove what is stored of prompts that a job no longer has, and leave prompts out of an answer."""

import shutil
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from remotesam_geo.errors import JobError

from .plan import PlanGroup
from .storage.block_files import about
from .storage.map_store import writing
from .storage.stored_layers import Records, layers

__all__ = ["discard", "only"]


def only(group: PlanGroup, labels: Collection[str]) -> PlanGroup:
    """A group with the prompts of some labels alone."""
    kept = [(prompt, own) for prompt, own in zip(group.prompts, group.members, strict=True) if prompt.label in labels]
    return replace(group, prompts=tuple(prompt for prompt, _ in kept), members=tuple(own for _, own in kept))


def discard(records: Records, before: Sequence[PlanGroup], after: Sequence[PlanGroup]) -> None:
    """Remove maps, parts and rows of the ledger that no prompt needs any more.

    A row goes before its file. Whatever ends this, what is left over is never taken for another prompt's.

    Args:
        records: What is on disk.
        before: The groups that there were.
        after: Those that are left.
    """
    needed, had = (
        {layer.key for group in groups for layer in layers(records.plan, group)} for groups in (after, before)
    )
    for key in sorted(had - needed):
        records.ledger.forget(key, list(records.ledger.known(key)))
        _remove_folder(records.store.folder / key)
        _remove_folder(records.parts / key)
    if not records.plan.keep_probabilities or not records.parts.is_dir():
        return
    expressions = {prompt.expressions for group in after for prompt in group.prompts}
    for folder in sorted(records.parts.iterdir()):
        if _outlined_expressions(folder) not in expressions:
            records.ledger.forget(folder.name, list(records.ledger.known(folder.name)))
            _remove_folder(folder)


def _outlined_expressions(folder: Path) -> tuple[str, ...] | None:
    """What the parts in a folder were outlined for; None where they cannot be read: they are made again if needed."""
    try:
        first = next(folder.glob("*.parquet"), None)
        return None if first is None else tuple(about(first.read_bytes())["expressions"])
    except (OSError, JobError, KeyError, TypeError):
        return None


def _remove_folder(folder: Path) -> None:
    if not folder.exists():
        return
    # Out of the way in one step: a folder that is removed by half is never opened.
    gone = folder.with_name(f".{folder.name}.removed")
    with writing(folder):
        shutil.rmtree(gone, ignore_errors=True)
        folder.rename(gone)
        shutil.rmtree(gone)
