"""The two stages of a job over its records: blocks are asked once and filed, and outlined from what was filed.

Every block is a task of its own that can be done again: its map or part is written whole, then entered in the ledger.
What is not entered was not done.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import shapely

from remotesam_geo.errors import JobError
from remotesam_geo.tasks import FAILED, NO_DATA, Hulls, merge_hulls
from remotesam_geo.words import Prompt

from .executor import Answer, OnError, Pool, Predict, Work, run
from .grid import Block
from .ledger import Entry, Ledger, Miss
from .parts import about, pack, unpack
from .plan import Group, Plan
from .stitch import Codes, joined
from .store import Store, digest, replace_file, writing
from .vectors import Outline, Pieces, extract

__all__ = [
    "Layer", "Outcome", "Records", "Todo", "again", "ask_here", "file", "layers", "made", "outline", "pieces",
    "rebuild", "todo", "work_of",
]  # fmt: skip

Todo = Mapping[tuple["Layer", ...], frozenset[tuple[int, int]]]
"""Blocks still to answer, as moment and number, by the layers they lack."""

READERS = 2


@dataclass(frozen=True, kw_only=True)
class Records:
    """What is on disk of a job.

    Attributes:
        plan: Its plan.
        store: Its maps.
        parts: The folder of what was outlined.
        ledger: What was done.
    """

    plan: Plan
    store: Store
    parts: Path
    ledger: Ledger

    def part(self, key: str, moment: int, block: int) -> Path:
        """Where the outlines of a block are."""
        return self.parts / key / f"{moment:04d}-{block:08d}.parquet"


@dataclass(frozen=True, kw_only=True)
class Layer:
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
class Outcome:
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
    misses: tuple[Miss, ...]
    kept: tuple[Codes | bytes, ...]


def layers(plan: Plan, group: Group) -> tuple[Layer, ...]:
    """What is kept of each block of a group of prompts."""
    if plan.keep_probabilities:
        return tuple(
            Layer(key=plan.key("map", group.resolution, expression), needs=(index,))
            for index, expression in enumerate(group.expressions)
        )
    return tuple(
        Layer(
            key=part_key(plan, group, prompt, "polygon"),
            needs=needs,
            contours=group.contours,
            prompt=prompt,
        )
        for prompt, needs in zip(group.prompts, group.members, strict=True)
    )


def part_key(plan: Plan, group: Group, prompt: Prompt, outline: Outline) -> str:
    """The name of what a prompt's outlines are kept under: the same question finds them again."""
    return plan.key("part", group.resolution, prompt.expressions, prompt.threshold, outline)


def todo(records: Records, group: Group) -> Todo:
    """What was not asked yet."""
    every = {(moment, block) for moment in _moments(group) for block in group.blocks}
    lacking: dict[tuple[int, int], list[Layer]] = {}
    for layer in layers(records.plan, group):
        for place in every.difference(records.ledger.known(layer.key)):
            lacking.setdefault(place, []).append(layer)
    return _together(lacking)


def again(records: Records, group: Group, most: int) -> Todo:
    """What failed, and was tried less often than `most` times."""
    lacking: dict[tuple[int, int], list[Layer]] = {}
    for layer in layers(records.plan, group):
        places = {}
        for moment, block, miss in records.ledger.misses(layer.key):
            if miss.attempts < most:
                for near in _affected(records.plan, group, block, miss.tile):
                    places[moment, near] = layer
        for place in places:
            lacking.setdefault(place, []).append(layer)
    return _together(lacking)


def work_of(
    plan: Plan,
    group: Group,
    wanted: Sequence[Layer],
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


def needed_by(wanted: Sequence[Layer]) -> tuple[int, ...]:
    """The expressions that some layers are made of, each once."""
    both = {index for layer in wanted for index in (*layer.needs, layer.contours)}
    return tuple(sorted(index for index in both if index is not None))


def made(answer: Answer, work: Work, wanted: Sequence[Layer]) -> Outcome:
    """What a block's answer is kept as."""
    place = {index: row for row, index in enumerate(needed_by(wanted))}
    own = work.own(answer.block)
    misses = tuple(Miss(tile=each.tile, cause=each.cause) for each in answer.failures)
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
                    _told(layer.prompt, answer.moment, answer.block)
                    | {"empty": empty, "misses": [[miss.tile, miss.cause] for miss in misses]},
                )
            )
    return Outcome(
        moment=answer.moment,
        block=answer.block.index,
        windows=len(own),
        empty=empty,
        misses=misses,
        kept=tuple(kept),
    )


def file(
    records: Records, group: Group, wanted: Sequence[Layer], outcome: Outcome
) -> tuple[Entry, ...]:
    """Write what a block gave, and say what to enter of it."""
    block = group.grid.block_at(outcome.block)
    entries = []
    for layer, kept in zip(wanted, outcome.kept, strict=True):
        if isinstance(kept, bytes):
            _write_part(records, layer.key, (outcome.moment, outcome.block), kept)
            mark = _digest_of(kept)
        else:
            mark = records.store.write(layer.key, outcome.moment, block, kept)
        entries.append(
            Entry(
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
    group: Group,
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

            def finish(answer: Answer, wanted: Sequence[Layer] = wanted, work: Work = work) -> None:
                note(file(records, group, wanted, made(answer, work, wanted)))

            deque(run(work, predict, finish, readers=READERS, progress=progress), maxlen=0)


def outline(
    records: Records,
    group: Group,
    prompts: Sequence[Prompt],
    kind: Outline,
    progress: Callable[[int], object],
) -> None:
    """Outline what is in the maps and was not outlined yet; without maps there is nothing to do.

    Args:
        records: What is on disk.
        group: What was asked.
        prompts: The group's prompts, with the thresholds that are wanted now.
        kind: Which geometry.
        progress: Told how many outlines there are.
    """
    if not records.plan.keep_probabilities:
        return
    every = layers(records.plan, group)
    with Pool(READERS) as pool:
        for prompt, needs in zip(prompts, group.members, strict=True):
            sketch = _Sketch(
                records=records,
                group=group,
                prompt=prompt,
                kind=kind,
                maps=tuple(every[index] for index in needs),
                contours=() if group.contours is None else (every[group.contours],),
            )
            marks, known = _marks(records, sketch.all), records.ledger.known(sketch.key)
            stale = sorted(item for item in marks.items() if known.get(item[0]) != item[1])
            progress(len(marks) - len(stale))
            try:
                with records.ledger.together() as note:
                    for entry in pool.map(sketch.outline, stale):
                        note([entry])
                        progress(1)
            except _DamagedError as damaged:
                damaged.forget(records.ledger)
                raise


def pieces(
    records: Records, group: Group, prompt: Prompt, kind: Outline
) -> Iterator[tuple[int, Block, Sequence[Pieces]]]:
    """The pieces of each block that was outlined, in plan order.

    Raises:
        JobError: A part is damaged or gone; it is made anew the next time.
    """
    stored: Outline = kind if records.plan.keep_probabilities else "polygon"
    key = part_key(records.plan, group, prompt, stored)
    for place in sorted(records.ledger.known(key)):
        piece = _piece(records, group, key, place)
        if kind == "oriented" and stored == "polygon":
            piece = _with_hulls(piece)
        yield place[0], group.grid.block_at(place[1]), [piece]


def rebuild(records: Records, group: Group) -> None:
    """Enter what the maps and parts hold, for a ledger that was lost."""
    for layer in layers(records.plan, group):
        for moment in _moments(group):
            for index in group.blocks:
                block = group.grid.block_at(index)
                if layer.prompt is not None:
                    path = records.part(layer.key, moment, index)
                    if path.exists():
                        records.ledger.enter([_found_part(layer, path, group, moment, block)])
                elif records.store.has(layer.key, moment, block):
                    codes = records.store.read(layer.key, moment, block)
                    records.ledger.enter([_found_map(layer, codes, group, moment, block)])


def _found_map(layer: Layer, codes: Codes, group: Group, moment: int, block: Block) -> Entry:
    own = group.own(block)
    cores = {tile.index: codes[tile.core.within(block.core)] for tile in own}
    return Entry(
        layer=layer.key,
        moment=moment,
        block=block.index,
        windows=len(own),
        empty=sum(bool((core == NO_DATA).all()) for core in cores.values()),
        digest=digest(codes),
        misses=tuple(
            Miss(tile=index, cause="not known: the ledger was made again from the maps")
            for index, core in cores.items()
            if (core == FAILED).any()
        ),
    )


def _found_part(layer: Layer, path: Path, group: Group, moment: int, block: Block) -> Entry:
    data = path.read_bytes()
    told = about(data)
    return Entry(
        layer=layer.key,
        moment=moment,
        block=block.index,
        windows=len(group.own(block)),
        empty=int(told["empty"]),
        digest=_digest_of(data),
        misses=tuple(Miss(tile=int(tile), cause=str(cause)) for tile, cause in told["misses"]),
    )


@dataclass(frozen=True, kw_only=True)
class _Sketch:
    """How one prompt's blocks are outlined."""

    records: Records
    group: Group
    prompt: Prompt
    kind: Outline
    maps: tuple[Layer, ...]
    contours: tuple[Layer, ...]

    @property
    def all(self) -> tuple[Layer, ...]:
        return self.maps + self.contours

    @property
    def key(self) -> str:
        return part_key(self.records.plan, self.group, self.prompt, self.kind)

    def outline(self, task: tuple[tuple[int, int], str]) -> Entry:
        """Write the part of a block whose maps have a digest."""
        place, mark = task
        block = self.group.grid.block_at(place[1])
        codes = _stored(self.records, self.all, place, block, mark)
        found = extract(
            joined(codes, range(len(self.maps))),
            block.core,
            threshold=self.prompt.threshold,
            contour=codes[-1] if self.contours else None,
            outline=self.kind,
        )
        told = _told(self.prompt, place[0], block)
        data = pack(found, self.group.source.geobox, told)
        _write_part(self.records, self.key, place, data)
        return Entry(
            layer=self.key, moment=place[0], block=place[1], windows=0, empty=0, digest=mark
        )


class _DamagedError(JobError):
    """A block of a map that is not as it was written."""

    def __init__(self, place: tuple[int, int], maps: Sequence[Layer]) -> None:
        moment, block = place
        super().__init__(
            f"block {block} of time {moment} is not as it was written: the disk has changed it. run() asks it again."
        )
        self._place, self._maps = place, maps

    def forget(self, ledger: Ledger) -> None:
        for layer in self._maps:
            ledger.forget(layer.key, *self._place)


def _piece(records: Records, group: Group, key: str, place: tuple[int, int]) -> Pieces:
    path = records.part(key, *place)
    try:
        return unpack(path.read_bytes(), group.source.geobox)
    except (OSError, JobError) as error:
        records.ledger.forget(key, *place)
        remedy = "answer" if records.plan.keep_probabilities else "run() and answer"
        raise JobError(
            f"cannot use {path}: {error}. {remedy} again, and it is made anew."
        ) from error


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


def _marks(records: Records, maps: Sequence[Layer]) -> dict[tuple[int, int], str]:
    """The blocks that all of some maps have, each with a digest of what they hold."""
    known = [records.ledger.known(layer.key) for layer in maps]
    places = set.intersection(*(set(each) for each in known))
    return {place: "+".join(each[place] for each in known) for place in places}


def _stored(
    records: Records, maps: Sequence[Layer], place: tuple[int, int], block: Block, mark: str
) -> Codes:
    """A block of some maps (P x h x w), if it still is what was written."""
    try:
        codes = [records.store.read(layer.key, place[0], block) for layer in maps]
    except JobError as error:
        raise _DamagedError(place, maps) from error
    if "+".join(map(digest, codes)) != mark:
        raise _DamagedError(place, maps)
    return np.stack(codes)


def _digest_of(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def _told(prompt: Prompt, moment: int, block: Block) -> dict[str, object]:
    return {
        "label": prompt.label,
        "expressions": list(prompt.expressions),
        "threshold": prompt.threshold,
        "time": moment,
        "block": block.index,
    }


def _moments(group: Group) -> range:
    return range(len(group.source.moments))


def _together(lacking: Mapping[tuple[int, int], Sequence[Layer]]) -> Todo:
    """Blocks that lack the same layers are asked together."""
    found: dict[tuple[Layer, ...], set[tuple[int, int]]] = {}
    for place, wanted in lacking.items():
        found.setdefault(tuple(wanted), set()).add(place)
    return {wanted: frozenset(places) for wanted, places in found.items()}


def _affected(plan: Plan, group: Group, block: int, tile: int) -> Iterable[int]:
    """The blocks whose maps a window has a share in."""
    if plan.seam == "paste":
        return [block]
    seen = group.grid.tile(tile).window.common(group.grid.raster) or group.grid.raster
    owners = [owner.index for owner in group.grid.owners(seen)]
    return [int(index) for index in group.grid.blocks_of(owners)]
