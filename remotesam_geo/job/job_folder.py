"""The folder of a job: its lock, its ledger, and who may write to it."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from remotesam_geo.errors import JobError, RemoteSAMWarning

from .plan import Plan, PlanGroup
from .storage.ledger import DamagedLedgerError, Ledger, ReadOnlyError, lock, set_aside
from .storage.map_store import Store, tidy, writing
from .storage.plan_file import LEDGER, MAPS, PARTS, PLAN
from .storage.stored_layers import Records, layers
from .stored_check import rebuild

__all__ = ["drive", "look_into"]


@contextmanager
def drive(folder: Path, plan: Plan, groups: Sequence[PlanGroup], *, read_only: bool = False) -> Iterator[Records]:
    """The records of a job, for the one driver that may write.

    Args:
        folder: The job's folder.
        plan: Its plan.
        groups: Its groups of prompts.
        read_only: Whether records that cannot be written to will do, where the folder is read-only.
    """
    with ExitStack() as held:
        try:
            taken_over = held.enter_context(lock(folder))
        except ReadOnlyError:
            if not read_only:
                raise
            yield held.enter_context(look_into(folder, plan))
            return
        records = _records_with(folder, plan, held.enter_context(_own_ledger(folder, plan, groups)))
        with writing(folder):
            tidy(folder, deep=taken_over)
        if not records.ledger.complete:  # new, or lost and made anew
            for group in groups:
                rebuild(records, group)
            records.ledger.complete = True
        yield records


def _check_belongs(folder: Path, plan: Plan, groups: Sequence[PlanGroup]) -> None:
    """Make sure that the plan is that of the stored blocks, where no ledger says so.

    Raises:
        JobError: All blocks are of other plans.
    """
    place = folder / (MAPS if plan.keep_probabilities else PARTS)
    stored = {path.name for path in place.iterdir()} if place.is_dir() else set()
    own = {layer.key for group in groups for layer in layers(plan, group)}
    if stored and not stored & own:
        raise JobError(
            f"{folder / PLAN} is not the plan of the blocks that are stored in {place}. Restore it from a "
            f"copy; or delete {place}, and everything is computed by this plan."
        )


@contextmanager
def _own_ledger(folder: Path, plan: Plan, groups: Sequence[PlanGroup]) -> Iterator[Ledger]:
    """The ledger, to be written to. A damaged one is set aside, with a warning, and begun anew."""
    path = folder / LEDGER
    if not path.exists() or not path.stat().st_size:
        _check_belongs(folder, plan, groups)
    try:
        ledger = Ledger(path, plan.digest)
    except DamagedLedgerError as error:
        _check_belongs(folder, plan, groups)
        with writing(path):
            aside = set_aside(path)
        warnings.warn(
            f"the damaged ledger is set aside as {aside} and rebuilt from the stored blocks: "
            f"{error.__cause__ or error}",
            RemoteSAMWarning,
            stacklevel=2,
        )
        ledger = Ledger(path, plan.digest)
    with ledger:
        yield ledger


@contextmanager
def look_into(folder: Path, plan: Plan) -> Iterator[Records]:
    """The records, for whoever only looks. Nothing is written."""
    with Ledger(folder / LEDGER, plan.digest, read_only=True) as ledger:
        yield _records_with(folder, plan, ledger, writable=False)


def _records_with(folder: Path, plan: Plan, ledger: Ledger, *, writable: bool = True) -> Records:
    return Records(
        plan=plan,
        store=Store(folder / MAPS),
        parts=folder / PARTS,
        ledger=ledger,
        writable=writable,
    )
