"""The two stages of a job: predict blocks and store their probabilities, then outline components from what is stored.

Every block is an idempotent task: its map or part is written whole, then entered in the ledger. What is not entered
counts as not done. Every stored file carries a digest, which is checked whenever the file is read.
"""

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import shapely

from remotesam_geo.errors import JobError, RemoteSAMWarning
from remotesam_geo.mapping.executor import BlockMap, OnError, Pool, Predict, Work, run
from remotesam_geo.mapping.grid import Block
from remotesam_geo.mapping.polygons import Outline, Pieces, extract
from remotesam_geo.mapping.stitch import Codes, joined
from remotesam_geo.tasks import FAILED, NO_DATA, Hulls, merge_hulls
from remotesam_geo.words import Prompt

from .block_files import about, check, pack, seal_of, unpack
from .ledger import BlockRecord, FailedWindow, Ledger
from .map_store import DamagedBlockError, Store, replace_file, writing
from .plan import Plan, PlanGroup

__all__ = [
    "BlockResult",
    "Records",
    "StoredLayer",
    "Todo",
    "again",
    "ask_here",
    "check_stored",
    "file",
    "layers",
    "made",
    "outline",
    "part_key",
    "pieces",
    "rebuild",
    "todo",
    "work_of",
]  # fmt: skip

Todo = Mapping[tuple["StoredLayer", ...], frozenset[tuple[int, int]]]
"""Blocks still to answer, as moment and number, by the layers they lack."""

READERS = 2
CHECKERS = 4
"""Threads that check stored files; they mostly wait for the disk."""
SHOWN = 3
"""Damaged files that a message names."""

Place = tuple[int, int]
"""Moment and number of a block."""


@dataclass(frozen=True, kw_only=True)
class Records:
    """What is on disk of a job.

    Attributes:
        plan: Its plan.
        store: Its maps.
        parts: The folder of what was outlined.
        ledger: What was done.
        writable: Whether this process drives the job; else nothing is written.
    """

    plan: Plan
    store: Store
    parts: Path
    ledger: Ledger
    writable: bool = True

    def part(self, key: str, moment: int, block: int) -> Path:
        """Where the outlines of a block are."""
        return self.parts / key / f"{moment:04d}-{block:08d}.parquet"


@dataclass(frozen=True, kw_only=True)
class StoredLayer:
    """What is kept of a block: the map of one expression, or the outlines of one prompt.

    Attributes:
        key: Its name on disk.
        needs: The expressions it is made of.
        contours: The expression that parts touching objects in it, if any.
        prompt: What is outlined; None for a map.
    """

    key: str
    needs: tuple[int, ...]
    contours: int | None = None
    prompt: Prompt | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockResult:
    """What a block gave, ready to be filed.

    Attributes:
        moment: Which time.
        block: Which block.
        windows: How many windows it answers for.
        empty: Those in whose cores there is no data.
        misses: Those that failed.
        kept: For each layer its codes (h x w), or the bytes of its part.
    """

    moment: int
    block: int
    windows: int
    empty: int
    misses: tuple[FailedWindow, ...]
    kept: tuple[Codes | bytes, ...]


def layers(plan: Plan, group: PlanGroup) -> tuple[StoredLayer, ...]:
    """What is kept of each block of a group of prompts."""
    if plan.keep_probabilities:
        return tuple(
            StoredLayer(key=plan.key("map", group.resolution, expression), needs=(index,))
            for index, expression in enumerate(group.expressions)
        )
    return tuple(
        StoredLayer(
            key=part_key(plan, group, prompt, "polygon"),
            needs=needs,
            contours=group.contours,
            prompt=prompt,
        )
        for prompt, needs in zip(group.prompts, group.members, strict=True)
    )


def part_key(plan: Plan, group: PlanGroup, prompt: Prompt, outline: Outline) -> str:
    """The name of what a prompt's outlines are kept under: the same question finds them again."""
    return plan.key("part", group.resolution, prompt.expressions, prompt.threshold, outline)


def todo(records: Records, group: PlanGroup) -> Todo:
    """What was not asked yet."""
    every = {(moment, block) for moment in _moment_numbers(group) for block in group.blocks}
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
        for moment, block, miss in records.ledger.misses(layer.key):
            if miss.attempts < most:
                for near in _blocks_of_window(records.plan, group, block, miss.tile):
                    places[moment, near] = layer
        for place in places:
            lacking.setdefault(place, []).append(layer)
    return _blocks_by_missing_layers(lacking)


def work_of(
    plan: Plan,
    group: PlanGroup,
    wanted: Sequence[StoredLayer],
    blocks: frozenset[tuple[int, int]],
    on_error: OnError,
    *,
    batch: int = 1,
) -> Work:
    """What is to be asked for some layers of some blocks; `batch` pairs of window and expression at once."""
    needs = needed_by(wanted)
    return replace(
        group.work(needs),
        todo=blocks,
        seam=plan.seam,
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
    misses = tuple(FailedWindow(tile=each.tile, cause=each.cause) for each in answer.failures)
    failed = {miss.tile for miss in misses}
    blank = answer.codes[0] == NO_DATA  # the same in every map
    empty = sum(
        bool(blank[tile.core.within(answer.block.core)].all())
        for tile in own
        if tile.index not in failed
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
                    _note_of_part(layer.prompt, answer.moment, answer.block)
                    | {"empty": empty, "misses": [[miss.tile, miss.cause] for miss in misses]},
                    layer.key,
                    answer.moment,
                    answer.block.index,
                )
            )
    return BlockResult(
        moment=answer.moment,
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
            _write_part(records, layer.key, (outcome.moment, outcome.block), kept)
            mark = seal_of(kept)
        else:
            mark = records.store.write(layer.key, outcome.moment, block, kept, group.grid)
        entries.append(
            BlockRecord(
                layer=layer.key,
                moment=outcome.moment,
                block=outcome.block,
                windows=outcome.windows,
                empty=outcome.empty,
                digest=mark,
                misses=outcome.misses,
            )
        )
    return tuple(entries)


def ask_here(
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
        work = work_of(records.plan, group, wanted, blocks, on_error, batch=batch)
        with records.ledger.together() as note:

            def finish(
                answer: BlockMap, wanted: Sequence[StoredLayer] = wanted, work: Work = work
            ) -> None:
                note(file(records, group, wanted, made(answer, work, wanted)))

            deque(run(work, predict, finish, readers=READERS, progress=progress), maxlen=0)


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
                    _checked_part(records, layer.key, place, mark)
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
            f"{_file_names_words(damaged)}",
            RemoteSAMWarning,
            stacklevel=2,
        )


def outline(
    records: Records,
    group: PlanGroup,
    prompts: Sequence[Prompt],
    kind: Outline,
    progress: Callable[[int], object],
    *,
    partial: bool = False,
) -> None:
    """Outline the stored blocks that were not outlined yet; a job without stored probabilities has none.

    Args:
        records: What is on disk. Nothing happens where it is not writable.
        group: The group of prompts.
        prompts: The group's prompts, with the thresholds that are wanted now.
        kind: Which geometry.
        progress: Called with how many blocks were outlined.
        partial: Whether to leave out blocks that are damaged, with a warning.

    Raises:
        JobError: Stored blocks are damaged. They count as not done from now on.
    """
    if not records.plan.keep_probabilities or not records.writable:
        return
    damaged: dict[Path, tuple[StoredLayer, Place]] = {}
    with Pool(READERS) as pool:
        for prompt, needs in zip(prompts, group.members, strict=True):
            sketch = _sketch_of_prompt(records, group, prompt, kind, needs)
            marks, known = (
                _stored_block_marks(records, sketch.all),
                records.ledger.known(sketch.key),
            )
            stale = sorted(
                item
                for item in marks.items()
                if known.get(item[0]) != item[1] or not _is_whole(records, sketch.key, item)
            )
            progress(len(marks) - len(stale))
            with records.ledger.together() as note:
                for made_of in pool.map(sketch.outline, stale):
                    if isinstance(made_of, BlockRecord):
                        note([made_of])
                    else:
                        damaged |= made_of
                    progress(1)
    for layer, place in damaged.values():
        records.ledger.forget(layer.key, [place])
    if damaged:
        _tell_damaged(list(damaged), partial=partial)


def pieces(
    records: Records,
    group: PlanGroup,
    prompt: Prompt,
    kind: Outline,
    *,
    partial: bool = False,
) -> Iterator[tuple[int, Block, Sequence[Pieces]]]:
    """The components of each stored block, in plan order.

    Args:
        records: What is on disk.
        group: The group of prompts.
        prompt: One of them, with the threshold that is wanted now.
        kind: Which geometry.
        partial: Whether to leave out blocks that are damaged, with a warning.

    Raises:
        JobError: A stored block is damaged.
    """
    if records.plan.keep_probabilities:
        labels = [each.label for each in group.prompts]
        sketch = _sketch_of_prompt(
            records, group, prompt, kind, group.members[labels.index(prompt.label)]
        )
        places, read = _stored_block_marks(records, sketch.all), sketch.pieces
    else:
        key = part_key(records.plan, group, prompt, "polygon")
        places = records.ledger.known(key)

        def read(item: tuple[Place, str]) -> Pieces:
            piece = _unpacked_pieces(records, group, key, *item)
            return _with_hulls(piece) if kind == "oriented" else piece

    damaged: list[Path] = []
    for item in sorted(places.items()):
        try:
            piece = read(item)
        except DamagedBlockError as error:
            if records.writable and not records.plan.keep_probabilities:
                records.ledger.forget(key, [item[0]])
            damaged.append(error.path)
            continue
        if not damaged or partial:
            yield item[0][0], group.grid.block_at(item[0][1]), [piece]
    if damaged:
        _tell_damaged(damaged, partial=partial)


def rebuild(records: Records, group: PlanGroup) -> None:
    """Enter the stored files that agree with their own seals, for a ledger that was lost."""
    for layer in layers(records.plan, group):
        for moment in _moment_numbers(group):
            for index in group.blocks:
                block = group.grid.block_at(index)
                try:
                    entry = (
                        _found_map(records, layer, group, moment, block)
                        if layer.prompt is None
                        else _found_part(records, layer, group, moment, block)
                    )
                except JobError:  # it is computed again
                    continue
                if entry is not None:
                    records.ledger.enter([entry])


def _found_map(
    records: Records, layer: StoredLayer, group: PlanGroup, moment: int, block: Block
) -> BlockRecord | None:
    found = records.store.found(layer.key, moment, block, group.grid)
    if found is None:
        return None
    codes, mark = found
    own = group.own(block)
    cores = {tile.index: codes[tile.core.within(block.core)] for tile in own}
    return BlockRecord(
        layer=layer.key,
        moment=moment,
        block=block.index,
        windows=len(own),
        empty=sum(bool((core == NO_DATA).all()) for core in cores.values()),
        digest=mark,
        misses=tuple(
            FailedWindow(
                tile=index, cause="not known: the ledger was rebuilt from the stored blocks"
            )
            for index, core in cores.items()
            if (core == FAILED).any()
        ),
    )


def _found_part(
    records: Records, layer: StoredLayer, group: PlanGroup, moment: int, block: Block
) -> BlockRecord | None:
    path = records.part(layer.key, moment, block.index)
    if not path.exists():
        return None
    place = moment, block.index
    seal = seal_of(_part_bytes(path))
    told = about(_checked_part(records, layer.key, place, seal))
    return BlockRecord(
        layer=layer.key,
        moment=moment,
        block=block.index,
        windows=len(group.own(block)),
        empty=int(told["empty"]),
        digest=seal,
        misses=tuple(
            FailedWindow(tile=int(tile), cause=str(cause)) for tile, cause in told["misses"]
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Sketch:
    """How the blocks of one prompt are outlined from stored probabilities."""

    records: Records
    group: PlanGroup
    prompt: Prompt
    kind: Outline
    maps: tuple[StoredLayer, ...]
    contours: tuple[StoredLayer, ...]

    @property
    def all(self) -> tuple[StoredLayer, ...]:
        return self.maps + self.contours

    @property
    def key(self) -> str:
        return part_key(self.records.plan, self.group, self.prompt, self.kind)

    def outline(
        self, item: tuple[Place, str]
    ) -> "BlockRecord | dict[Path, tuple[StoredLayer, Place]]":
        """Write the part of a block; or which of its files are damaged."""
        place, mark = item
        try:
            found = self._extracted(place, mark)
        except DamagedBlockError as error:
            return self._damaged(place, mark) or {error.path: (self.maps[0], place)}
        told = _note_of_part(self.prompt, place[0], self.group.grid.block_at(place[1]))
        data = pack(found, self.group.source.geobox, told, self.key, *place, mark)
        _write_part(self.records, self.key, place, data)
        return BlockRecord(
            layer=self.key, moment=place[0], block=place[1], windows=0, empty=0, digest=mark
        )

    def pieces(self, item: tuple[Place, str]) -> Pieces:
        """The components of a block: from its part, or without one from the stored probabilities.

        Raises:
            DamagedBlockError: Stored probabilities are damaged.
        """
        place, mark = item
        if self.records.ledger.known_as(self.key, place) == mark:
            try:
                return _unpacked_pieces(self.records, self.group, self.key, place, mark)
            except DamagedBlockError:
                pass
        return self._extracted(place, mark)

    def _extracted(self, place: Place, mark: str) -> Pieces:
        block, store = self.group.grid.block_at(place[1]), self.records.store
        codes = np.stack(
            [
                store.read(layer.key, place[0], block, self.group.grid, own)
                for layer, own in zip(self.all, mark.split("+"), strict=True)
            ]
        )
        return extract(
            joined(codes, range(len(self.maps))),
            block.core,
            threshold=self.prompt.threshold,
            contour=codes[-1] if self.contours else None,
            outline=self.kind,
        )

    def _damaged(self, place: Place, mark: str) -> dict[Path, tuple[StoredLayer, Place]]:
        block, damaged = self.group.grid.block_at(place[1]), {}
        for layer, own in zip(self.all, mark.split("+"), strict=True):
            try:
                self.records.store.check(layer.key, place[0], block, own)
            except DamagedBlockError as error:
                damaged[error.path] = layer, place
        return damaged


def _sketch_of_prompt(
    records: Records, group: PlanGroup, prompt: Prompt, kind: Outline, needs: Sequence[int]
) -> _Sketch:
    every = layers(records.plan, group)
    return _Sketch(
        records=records,
        group=group,
        prompt=prompt,
        kind=kind,
        maps=tuple(every[index] for index in needs),
        contours=() if group.contours is None else (every[group.contours],),
    )


def _is_whole(records: Records, key: str, item: tuple[Place, str]) -> bool:
    """Whether a part that was made from stored probabilities is as it was written."""
    place, mark = item
    try:
        check(_part_bytes(records.part(key, *place)), key, *place, mark)
    except JobError:
        return False
    return True


def _unpacked_pieces(
    records: Records, group: PlanGroup, key: str, place: Place, mark: str
) -> Pieces:
    """The components in a part."""
    data = _checked_part(records, key, place, mark)
    try:
        return unpack(data, group.source.geobox)
    except JobError as error:
        raise DamagedBlockError(records.part(key, *place), str(error)) from error


def _checked_part(records: Records, key: str, place: Place, mark: str) -> bytes:
    """The bytes of a part, if it is what was written for this place."""
    path = records.part(key, *place)
    data = _part_bytes(path)
    try:
        if records.plan.keep_probabilities:
            check(data, key, *place, mark)
        else:
            check(data, key, *place)
            if seal_of(data) != mark:
                raise JobError("it is not the file that was noted")
    except JobError as error:
        raise DamagedBlockError(path, str(error)) from error
    return data


def _part_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DamagedBlockError(path, f"it cannot be read ({error})") from error


def _tell_damaged(paths: Sequence[Path], *, partial: bool) -> None:
    """Refuse to answer from damaged blocks; or warn that they are left out."""
    told = f"{len(paths):,} stored files are damaged or missing: {_file_names_words(paths)}."
    if not partial:
        raise JobError(f"{told} run() computes their blocks again, and nothing else.")
    warnings.warn(
        f"{told} Their blocks are left out; run() computes them again.",
        RemoteSAMWarning,
        stacklevel=3,
    )


def _file_names_words(paths: Sequence[Path]) -> str:
    more = len(paths) - SHOWN
    named = ", ".join(map(str, sorted(paths)[:SHOWN]))
    return f"{named}{f' and {more:,} more' if more > 0 else ''}"


def _with_hulls(found: Pieces) -> Pieces:
    """Pieces with the hulls of their polygons, for those that were outlined before it was known what for."""
    polygons = found.features.polygons
    if polygons is None or not len(polygons):
        empty = Hulls(points=np.zeros((0, 2), np.int64), begin=np.zeros(1, np.int64))
        return replace(found, features=replace(found.features, polygons=None, hulls=empty))
    points, owner = shapely.get_coordinates(polygons, return_index=True)
    corners = Hulls(
        points=points.astype(np.int64),
        begin=np.searchsorted(owner, np.arange(len(polygons) + 1)),
    )
    hulls = merge_hulls([corners], np.arange(len(polygons)), len(polygons))
    return replace(found, features=replace(found.features, polygons=None, hulls=hulls))


def _write_part(records: Records, key: str, place: tuple[int, int], data: bytes) -> None:
    path = records.part(key, *place)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, data)


def _stored_block_marks(
    records: Records, maps: Sequence[StoredLayer]
) -> dict[tuple[int, int], str]:
    """The blocks that all of some maps have, each with a digest of what they hold."""
    known = [records.ledger.known(layer.key) for layer in maps]
    places = set.intersection(*(set(each) for each in known))
    return {place: "+".join(each[place] for each in known) for place in places}


def _note_of_part(prompt: Prompt, moment: int, block: Block) -> dict[str, object]:
    return {
        "label": prompt.label,
        "expressions": list(prompt.expressions),
        "threshold": prompt.threshold,
        "time": moment,
        "block": block.index,
    }


def _moment_numbers(group: PlanGroup) -> range:
    return range(len(group.source.moments))


def _blocks_by_missing_layers(lacking: Mapping[tuple[int, int], Sequence[StoredLayer]]) -> Todo:
    """Blocks that lack the same layers are asked together."""
    found: dict[tuple[StoredLayer, ...], set[tuple[int, int]]] = {}
    for place, wanted in lacking.items():
        found.setdefault(tuple(wanted), set()).add(place)
    return {wanted: frozenset(places) for wanted, places in found.items()}


def _blocks_of_window(plan: Plan, group: PlanGroup, block: int, tile: int) -> Iterable[int]:
    """The blocks whose maps a window has a share in."""
    if plan.seam == "paste":
        return [block]
    seen = group.grid.tile(tile).window.common(group.grid.raster) or group.grid.raster
    owners = [owner.index for owner in group.grid.owners(seen)]
    return [int(index) for index in group.grid.blocks_of(owners)]
