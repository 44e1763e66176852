"""The second stage of a job: outline components from the stored probabilities."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import shapely

from remotesam_geo.errors import JobError, RemoteSAMWarning
from remotesam_geo.mapping.executor import Pool
from remotesam_geo.mapping.grid import Block
from remotesam_geo.mapping.polygons import Outline, Pieces, extract
from remotesam_geo.mapping.stitch import joined
from remotesam_geo.tasks import Hulls, merge_hulls
from remotesam_geo.words import Prompt

from .plan import PlanGroup
from .predict_stage import note_of_part
from .storage.block_files import check, pack
from .storage.ledger import BlockRecord
from .storage.map_store import DamagedBlockError
from .storage.stored_layers import (
    Place,
    Records,
    StoredLayer,
    file_names_words,
    layers,
    part_bytes,
    part_key,
    unpacked_pieces,
    write_part,
)

__all__ = ["outline", "pieces"]

READERS = 2


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
        sketch = _sketch_of_prompt(records, group, prompt, kind, group.members[labels.index(prompt.label)])
        places, read = _stored_block_marks(records, sketch.all), sketch.pieces
    else:
        key = part_key(records.plan, group, prompt, "polygon")
        places = records.ledger.known(key)

        def read(item: tuple[Place, str]) -> Pieces:
            piece = unpacked_pieces(records, group, key, *item)
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

    def outline(self, item: tuple[Place, str]) -> "BlockRecord | dict[Path, tuple[StoredLayer, Place]]":
        """Write the part of a block; or which of its files are damaged."""
        place, mark = item
        try:
            found = self._extracted(place, mark)
        except DamagedBlockError as error:
            return self._damaged(place, mark) or {error.path: (self.maps[0], place)}
        told = note_of_part(self.prompt, place[0], self.group.grid.block_at(place[1]))
        data = pack(found, self.group.source.geobox, told, self.key, *place, mark)
        write_part(self.records, self.key, place, data)
        return BlockRecord(layer=self.key, date=place[0], block=place[1], windows=0, empty=0, digest=mark)

    def pieces(self, item: tuple[Place, str]) -> Pieces:
        """The components of a block: from its part, or without one from the stored probabilities.

        Raises:
            DamagedBlockError: Stored probabilities are damaged.
        """
        place, mark = item
        if self.records.ledger.known_as(self.key, place) == mark:
            try:
                return unpacked_pieces(self.records, self.group, self.key, place, mark)
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
        check(part_bytes(records.part(key, *place)), key, *place, mark)
    except JobError:
        return False
    return True


def _tell_damaged(paths: Sequence[Path], *, partial: bool) -> None:
    """Refuse to answer from damaged blocks; or warn that they are left out."""
    told = f"{len(paths):,} stored files are damaged or missing: {file_names_words(paths)}."
    if not partial:
        raise JobError(f"{told} run() computes their blocks again, and nothing else.")
    warnings.warn(
        f"{told} Their blocks are left out; run() computes them again.",
        RemoteSAMWarning,
        stacklevel=3,
    )


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


def _stored_block_marks(records: Records, maps: Sequence[StoredLayer]) -> dict[tuple[int, int], str]:
    """The blocks that all of some maps have, each with a digest of what they hold."""
    known = [records.ledger.known(layer.key) for layer in maps]
    places = set.intersection(*(set(each) for each in known))
    return {place: "+".join(each[place] for each in known) for place in places}
