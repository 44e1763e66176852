"""The first stage of a job: predict blocks, and store their probabilities or outlines.

Every block is an idempotent task: its map or part is written whole, then entered in the ledger. What is not entered
counts as not done.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from remotesam_geo.mapping.executor import BlockMap, OnError, Work, run
from remotesam_geo.mapping.grid import Block
from remotesam_geo.mapping.polygons import extract
from remotesam_geo.mapping.stitch import joined
from remotesam_geo.predictors.protocol import Codes, Predict
from remotesam_geo.tasks import NO_DATA
from remotesam_geo.words import Prompt

from .plan import Plan, PlanGroup
from .storage.block_files import pack, seal_of
from .storage.ledger import BlockRecord, FailedWindow
from .storage.stored_layers import Records, StoredLayer, date_numbers, layers, write_part

__all__ = [
    "BlockResult",
    "Todo",
    "again",
    "file",
    "made",
    "note_of_part",
    "predict_here",
    "todo",
    "work_of",
]

READERS = 2
Todo = Mapping[tuple[StoredLayer, ...], frozenset[tuple[int, int]]]
"""Blocks still to predict, as date and number, by the layers they lack."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockResult:
    """What a block gave, ready to be filed.

    Attributes:
        date: Index of the date.
        block: Which block.
        windows: How many windows it answers for.
        empty: Those in whose cores there is no data.
        misses: Those that failed.
        kept: For each layer its codes (h x w), or the bytes of its part.
    """

    date: int
    block: int
    windows: int
    empty: int
    misses: tuple[FailedWindow, ...]
    kept: tuple[Codes | bytes, ...]


def todo(records: Records, group: PlanGroup) -> Todo:
    """What is not predicted yet."""
    every = {(date, block) for date in date_numbers(group) for block in group.blocks}
    lacking: dict[tuple[int, int], list[StoredLayer]] = {}
    for layer in layers(records.plan, group):
        for place in every.difference(records.ledger.known(layer.key)):
            lacking.setdefault(place, []).append(layer)
    return _blocks_by_missing_layers(lacking)


def again(records: Records, group: PlanGroup, most: int) -> Todo:
    """What failed, and was tried less often than `most` times."""
    lacking: dict[tuple[int, int], list[StoredLayer]] = {}
    for layer in layers(records.plan, group):
        places = {}
        for date, block, miss in records.ledger.misses(layer.key):
            if miss.attempts < most:
                for near in _blocks_of_window(records.plan, group, block, miss.window):
                    places[date, near] = layer
        for place in places:
            lacking.setdefault(place, []).append(layer)
    return _blocks_by_missing_layers(lacking)


def work_of(
    group: PlanGroup,
    wanted: Sequence[StoredLayer],
    blocks: frozenset[tuple[int, int]],
    on_error: OnError,
    *,
    batch: int = 1,
) -> Work:
    """What is to be predicted for some layers of some blocks; `batch` pairs of window and expression at once."""
    needs = needed_by(wanted)
    return Work(
        source=group.source,
        grid=group.grid,
        expressions=tuple(group.expressions[index] for index in needs),
        window_numbers=group.window_numbers,
        todo=blocks,
        seam=group.seam,
        batch=max(1, -(-batch // len(needs))),
        on_error=on_error,
    )


def needed_by(wanted: Sequence[StoredLayer]) -> tuple[int, ...]:
    """The expressions that some layers are made of, each once."""
    both = {index for layer in wanted for index in (*layer.needs, layer.contours)}
    return tuple(sorted(index for index in both if index is not None))


def made(answer: BlockMap, work: Work, wanted: Sequence[StoredLayer]) -> BlockResult:
    """What a block's answer is kept as."""
    place = {index: row for row, index in enumerate(needed_by(wanted))}
    own = work.own(answer.block)
    misses = tuple(FailedWindow(window=each.window, cause=each.cause) for each in answer.failures)
    failed = {miss.window for miss in misses}
    blank = answer.codes[0] == NO_DATA  # the same in every map
    empty = sum(
        bool(blank[window.core.within(answer.block.core)].all()) for window in own if window.index not in failed
    )
    kept: list[Codes | bytes] = []
    for layer in wanted:
        codes = joined(answer.codes, [place[index] for index in layer.needs])
        if layer.prompt is None:
            kept.append(codes)
        else:
            found = extract(
                codes,
                answer.block.core,
                threshold=layer.prompt.threshold,
                contour=None if layer.contours is None else answer.codes[place[layer.contours]],
            )
            kept.append(
                pack(
                    found,
                    work.source.geobox,
                    note_of_part(layer.prompt, answer.date, answer.block)
                    | {"empty": empty, "misses": [[miss.window, miss.cause] for miss in misses]},
                    layer.key,
                    answer.date,
                    answer.block.index,
                )
            )
    return BlockResult(
        date=answer.date,
        block=answer.block.index,
        windows=len(own),
        empty=empty,
        misses=misses,
        kept=tuple(kept),
    )


def file(
    records: Records, group: PlanGroup, wanted: Sequence[StoredLayer], outcome: BlockResult
) -> tuple[BlockRecord, ...]:
    """Write what a block gave, and say what to enter of it."""
    block = group.grid.block_at(outcome.block)
    entries = []
    for layer, kept in zip(wanted, outcome.kept, strict=True):
        if isinstance(kept, bytes):
            write_part(records, layer.key, (outcome.date, outcome.block), kept)
            mark = seal_of(kept)
        else:
            mark = records.store.write(layer.key, outcome.date, block, kept, group.grid)
        entries.append(
            BlockRecord(
                layer=layer.key,
                date=outcome.date,
                block=outcome.block,
                windows=outcome.windows,
                empty=outcome.empty,
                digest=mark,
                misses=outcome.misses,
            )
        )
    return tuple(entries)


def predict_here(
    records: Records,
    group: PlanGroup,
    lacking: Todo,
    predict: Predict,
    *,
    on_error: OnError,
    progress: Callable[[int], object],
    batch: int = 1,
) -> None:
    """Ask what is lacking in this process, and file it."""
    for wanted, blocks in lacking.items():
        work = work_of(group, wanted, blocks, on_error, batch=batch)
        with records.ledger.together() as note:

            def finish(answer: BlockMap, wanted: Sequence[StoredLayer] = wanted, work: Work = work) -> None:
                note(file(records, group, wanted, made(answer, work, wanted)))

            deque(run(work, predict, finish, readers=READERS, progress=progress), maxlen=0)


def _blocks_by_missing_layers(lacking: Mapping[tuple[int, int], Sequence[StoredLayer]]) -> Todo:
    """Blocks that lack the same layers are predicted together."""
    found: dict[tuple[StoredLayer, ...], set[tuple[int, int]]] = {}
    for place, wanted in lacking.items():
        found.setdefault(tuple(wanted), set()).add(place)
    return {wanted: frozenset(places) for wanted, places in found.items()}


def _blocks_of_window(plan: Plan, group: PlanGroup, block: int, window: int) -> Iterable[int]:
    """The blocks whose maps a window has a share in."""
    if plan.seam == "paste":
        return [block]
    seen = group.grid.window_at(window).box.common(group.grid.raster) or group.grid.raster
    owners = [owner.index for owner in group.grid.owners(seen)]
    return [int(index) for index in group.grid.blocks_of(owners)]


def note_of_part(prompt: Prompt, date: int, block: Block) -> dict[str, object]:
    """What an outlined block notes of itself, as plain JSON."""
    return {
        "label": prompt.label,
        "expressions": list(prompt.expressions),
        "threshold": prompt.threshold,
        "time": date,
        "block": block.index,
    }
